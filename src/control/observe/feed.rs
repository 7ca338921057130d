//! What is told to whoever listens, as it happens: the stream of server-sent events.
//!
//! In: frames, each made once. Out: a [`Reader`] for each listener, which has its own short queue
//! of them. Invariants: nobody who tells ever waits, readers are few, and one that does not read
//! is dropped when its queue is full, so what all of them hold is bounded.

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Readers at a time.
pub const READERS_MAX: usize = 16;

/// Frames that wait for one of them.
pub const QUEUE_MAX: usize = 256;

/// Tells, and knows to whom.
#[derive(Debug)]
pub struct Feed {
    readers: Mutex<Vec<Sender<Bytes>>>,
    /// One for each reader, until it is gone.
    places: Arc<Semaphore>,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Reader {
    frames: Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Default for Feed {
    fn default() -> Self {
        Self { readers: Mutex::default(), places: Arc::new(Semaphore::new(READERS_MAX)) }
    }
}

impl Feed {
    /// One more reader, who is told `first`; `None` if there are enough, or it is over.
    pub fn join(&self, first: Option<Bytes>) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (told, frames) = mpsc::channel(QUEUE_MAX);
        // The queue is empty.
        first.map(|frame| told.try_send(frame));
        self.readers.lock().push(told);
        Some(Reader { frames, _place: place })
    }

    /// True if anybody listens.
    pub fn has_readers(&self) -> bool {
        !self.readers.lock().is_empty()
    }

    /// Tells all readers; those that have gone, or do not read, are none any more.
    pub fn tell(&self, frame: &Bytes) {
        self.readers.lock().retain(|reader| reader.try_send(frame.clone()).is_ok());
    }

    /// Ends what each reader is told, behind what it has in its queue; there are no more.
    pub fn close(&self) {
        self.places.close();
        self.readers.lock().clear();
    }
}

impl Reader {
    /// The next frame; `None` behind the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.frames.poll_recv(cx)
    }
}

/// A frame of this event.
pub fn frame(event: &str, data: &impl Serialize) -> Bytes {
    // Names are text and numbers are numbers: this cannot fail. JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Feed, QUEUE_MAX, READERS_MAX, Reader, frame};
    use std::task::{Context, Poll, Waker};

    fn next(reader: &mut Reader) -> Poll<Option<Bytes>> {
        reader.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_does_not_read_is_dropped_and_nobody_else() {
        let feed = Feed::default();
        let (mut slow, mut quick) = (feed.join(None).unwrap(), feed.join(None).unwrap());
        let one = frame("stats", &1);
        assert_eq!(&one[..], b"event: stats\ndata: 1\n\n");
        for _ in 0..=QUEUE_MAX {
            feed.tell(&one);
            assert_eq!(next(&mut quick), Poll::Ready(Some(one.clone())));
        }
        for _ in 0..QUEUE_MAX {
            assert_eq!(next(&mut slow), Poll::Ready(Some(one.clone())));
        }
        assert_eq!((next(&mut slow), next(&mut quick)), (Poll::Ready(None), Poll::Pending));
    }

    #[test]
    fn readers_are_few_and_end_with_the_feed() {
        let (feed, hello) = (Feed::default(), frame("hello", &0));
        let mut readers: Vec<Reader> =
            (0..READERS_MAX).map(|_| feed.join(Some(hello.clone())).unwrap()).collect();
        assert!(feed.join(None).is_none());
        readers.pop();
        readers.push(feed.join(Some(hello.clone())).unwrap());
        feed.close();
        assert!(!feed.has_readers());
        for reader in &mut readers {
            assert_eq!(next(reader), Poll::Ready(Some(hello.clone())));
            assert_eq!(next(reader), Poll::Ready(None));
        }
        drop(readers);
        assert!(feed.join(None).is_none());
    }
}
