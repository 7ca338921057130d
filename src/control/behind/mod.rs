//! Who makes upstream what was written behind: on a connection of its own, a batch at a time.
//!
//! In: the queue (`behind`). Out: the writes, upstream; what the near-cache holds of their keys is
//! forgotten before the queue is told so, because until then nobody reads them.
//!
//! A batch whose connection breaks is sent again as a whole, when that connection brings nothing
//! more ([`link`]): each write says what its key is to be. What a server refuses because of its own
//! state, or of this user's rights, is tried until it takes it, with all behind it; what it refuses
//! for what it is (a string that is no hash) is dropped, counted, and logged.

mod link;

use self::link::{Link, Links};
use crate::behind::queue::{Batch, Queue};
use crate::behind::record::Write;
use crate::cache::Cache;
use crate::control::jobs::line::{Line, LineError};
use crate::net::backoff;
use crate::net::dialer::Dialer;
use crate::snapshot::Snapshots;
use crate::stats::{Block, Counter};
use crate::units::clock::unix_millis;
use bytes::Bytes;
use foldhash::HashMap;
use std::fmt;
use std::sync::Arc;

/// Errors of a server that will take writes later, or is not the one that takes them.
const NOT_NOW: [&[u8]; 11] = [
    b"-LOADING",
    b"-READONLY",
    b"-MASTERDOWN",
    b"-BUSY",
    b"-CLUSTERDOWN",
    b"-TRYAGAIN",
    b"-OOM",
    b"-MISCONF",
    b"-NOREPLICAS",
    b"-NOAUTH",
    b"-NOPERM",
];

/// Has clients that wait look again.
pub struct Ring(pub Box<dyn Fn() + Send>);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring")
    }
}

/// What the thread works with.
#[derive(Debug)]
pub struct Flusher {
    /// What is to be made upstream.
    pub queue: Arc<Queue>,
    /// How upstream is reached.
    pub dialer: Arc<Dialer>,
    /// The settings in force.
    pub snapshots: Arc<Snapshots>,
    /// Forgets what was written.
    pub cache: Arc<Cache>,
    /// This thread's counters.
    pub block: Arc<Block>,
    /// Rung when a key is pending no more.
    pub ring: Ring,
}

/// What came of a batch.
#[derive(Debug, Default)]
struct Sent {
    /// By number, what the server said to the write itself.
    answers: HashMap<u64, Bytes>,
    /// The first that it does not take now, and what it says.
    not_now: Option<(u64, Bytes)>,
}

impl Flusher {
    /// Makes upstream what is there, as long as the process lives.
    pub async fn run(self) {
        tokio::join!(self.flush(), self.ring_for_news(), self.queue.tell_late());
    }

    async fn ring_for_news(&self) {
        let mut reached = self.queue.news.watch();
        loop {
            self.queue.news.until_news(&mut reached).await;
            (self.ring.0)();
        }
    }

    async fn flush(&self) {
        let (mut links, mut attempt, mut is_told) = (Links::default(), 0, false);
        loop {
            let gather = self.snapshots.newest().settings.write_behind.flush_interval;
            let batch = self.queue.batch(gather).await;
            let trouble = match self.send(&mut links, &batch).await {
                Ok(sent) => self.settle(&batch, sent),
                Err(error) => Some(error.to_string()),
            };
            let Some(trouble) = trouble else {
                self.block.add(Counter::WriteBehindFlushed, 1);
                if is_told {
                    tracing::info!(event = "write_behind_resumed", "upstream takes writes again");
                }
                (attempt, is_told) = (0, false);
                continue;
            };
            links.give_up();
            self.block.add(Counter::WriteBehindFlushFailed, 1);
            if attempt > 0 && !is_told {
                is_told = true;
                tracing::warn!(
                    event = "write_behind_waits",
                    error = trouble,
                    "upstream does not take what was written behind: it is tried until it does"
                );
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn send(&self, links: &mut Links, batch: &Batch) -> Result<Sent, LineError> {
        let timeout = self.snapshots.newest().limits.write_timeout;
        let Link { line, database, .. } = links.open(&self.dialer, timeout).await?;
        let mut sent = Sent::default();
        for part in batch.writes.chunk_by(|one, other| one.2.database == other.2.database) {
            let wanted = part.first().map_or(*database, |(.., write)| write.database);
            if wanted != *database {
                line.select(wanted).await?;
                *database = wanted;
            }
            let now = unix_millis();
            let mut asked = Vec::new();
            for (number, _, write) in part {
                asked.push((*number, ask(line, write, now)));
            }
            let mut asked = asked.into_iter();
            line.exchange(|answer| {
                if let Some((number, is_itself)) = asked.next() {
                    sent.hear(number, is_itself, answer);
                }
            })
            .await?;
            if sent.not_now.is_some() {
                break;
            }
        }
        Ok(sent)
    }

    /// What was sent is upstream: nobody reads it here any more as it was. What is the matter, if
    /// there is more to be sent.
    fn settle(&self, batch: &Batch, mut sent: Sent) -> Option<String> {
        let last = sent.not_now.as_ref().map_or(batch.last, |(number, _)| number - 1);
        let (mut made, mut refused) = (0, 0);
        for (number, hash, write) in &batch.writes {
            // (What is sent again may have been made, too.)
            self.cache.invalidate(*hash);
            if *number > last {
                continue;
            }
            match sent.answers.get(number).filter(|answer| answer.starts_with(b"-")) {
                None => made += 1,
                Some(answer) => {
                    refused += 1;
                    tell_refused(write, answer);
                }
            }
        }
        let all = (last + 1).saturating_sub(batch.first);
        self.block.add(Counter::WriteBehindMade, made);
        self.block.add(Counter::WriteBehindRefused, refused);
        self.block.add(Counter::WriteBehindReplaced, all - made - refused);
        self.queue.flushed(last, |number| sent.answers.remove(&number));
        let (_, answer) = sent.not_now?;
        Some(answer.trim_ascii().escape_ascii().to_string())
    }
}

fn tell_refused(write: &Write, answer: &[u8]) {
    let command = write
        .with_words(|words| words.first().map(|word| String::from_utf8_lossy(word).into_owned()));
    tracing::error!(
        event = "write_behind_refused",
        command = command.unwrap_or_default(),
        error = %answer.trim_ascii().escape_ascii(),
        "upstream refuses a write that was acknowledged: it is lost"
    );
}

impl Sent {
    /// `is_itself`: the answer is to the write, not to what was sent in its place.
    fn hear(&mut self, number: u64, is_itself: bool, answer: &[u8]) {
        let answer = Bytes::copy_from_slice(answer);
        if self.not_now.is_none() && NOT_NOW.iter().any(|word| answer.starts_with(word)) {
            self.not_now = Some((number, answer.clone()));
        }
        if is_itself || answer.starts_with(b"-") {
            self.answers.insert(number, answer);
        }
    }
}

/// Writes a request down; true if it is the write itself. A value that ends is given what is left
/// of its life: the server's clock need not be ours.
fn ask(line: &mut Line, write: &Write, now: u64) -> bool {
    write.with_words(|words| {
        match (write.ends_at, words) {
            (end, [_, key, ..]) if end != 0 && end <= now => {
                line.write(&[b"DEL", key]);
                return false;
            }
            (0, _) => line.write(words),
            (end, _) => {
                let left = (end - now).to_string();
                let mut lived = words.to_vec();
                lived.extend([&b"PX"[..], left.as_bytes()]);
                line.write(&lived);
            }
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::Sent;

    /// A value whose life is over is deleted in its place: who wrote it is told nothing of that.
    #[test]
    fn who_set_a_value_is_not_told_of_a_del() {
        let mut sent = Sent::default();
        sent.hear(1, true, b"+OK\r\n");
        sent.hear(2, false, b":0\r\n");
        sent.hear(3, false, b"-ERR no\r\n");
        let told = |number| sent.answers.get(&number).map(|answer| &answer[..]);
        assert_eq!((told(1), told(2)), (Some(&b"+OK\r\n"[..]), None));
        assert_eq!(told(3), Some(&b"-ERR no\r\n"[..]));
    }
}
