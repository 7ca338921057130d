//! A wire in memory: one end is nearside's, as a socket would be; the other is the simulation's,
//! which sees what came and says how much goes on.
//!
//! Bytes are cut at random places on both ways. Who waits for bytes or for room is woken; nothing
//! else happens by itself.

use crate::rng::Rng;
use nearside::net::pipe::Pipe;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// More than anything here sends at once.
pub(crate) const WIDE: usize = 1 << 24;

#[derive(Debug)]
struct State {
    /// On the way to nearside.
    down: VecDeque<u8>,
    /// Written by nearside.
    up: VecDeque<u8>,
    /// How much of `up` there may be.
    room: usize,
    /// Nothing more comes after `down`.
    is_finished: bool,
    is_reset: bool,
    /// Nobody reads what nearside writes.
    is_deaf: bool,
    /// nearside writes nothing more.
    is_shut: bool,
    /// nearside has let go.
    is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    rng: Rng,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Most of the time all, else a part.
    fn cut(&mut self, length: usize) -> usize {
        if length > 1 && self.rng.chance(25) { self.rng.between(1, length) } else { length }
    }
}

/// nearside's end.
#[derive(Debug)]
pub(crate) struct Near(Arc<Mutex<State>>);

/// The simulation's end.
#[derive(Debug)]
pub(crate) struct Far(Arc<Mutex<State>>);

/// A new wire.
pub(crate) fn wire(rng: Rng) -> (Near, Far) {
    let state = Arc::new(Mutex::new(State {
        down: VecDeque::new(),
        up: VecDeque::new(),
        room: WIDE,
        is_finished: false,
        is_reset: false,
        is_deaf: false,
        is_shut: false,
        is_gone: false,
        reader: None,
        writer: None,
        rng,
    }));
    (Near(Arc::clone(&state)), Far(state))
}

impl Pipe for Near {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.down.is_empty() {
            if state.is_finished {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = buf.remaining().min(state.down.len());
        let mut left = state.cut(most);
        while left > 0 {
            let part = state.down.as_slices().0;
            let count = part.len().min(left);
            buf.put_slice(&part[..count]);
            state.down.drain(..count);
            left -= count;
        }
        Poll::Ready(Ok(()))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.is_reset || state.is_deaf || state.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let most = bytes.len().min(state.room.saturating_sub(state.up.len()));
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = state.cut(most);
        state.up.extend(&bytes[..count]);
        Ok(count)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.is_reset || state.is_deaf || state.is_shut || state.up.len() < state.room {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn shutdown(&self) {
        self.0.lock().is_shut = true;
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.0.lock().is_gone = true;
    }
}

impl Far {
    /// Bytes for nearside.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.down.extend(bytes);
        state.wake();
    }

    /// Takes what nearside wrote. True if there was anything.
    pub(crate) fn receive(&self, into: &mut Vec<u8>) -> bool {
        let mut state = self.0.lock();
        let is_some = !state.up.is_empty();
        into.extend(state.up.drain(..));
        if is_some {
            state.wake();
        }
        is_some
    }

    /// From now on nearside may have written so much that was not taken.
    pub(crate) fn set_room(&self, room: usize) {
        let mut state = self.0.lock();
        state.room = room;
        state.wake();
    }

    /// The end, behind what was sent.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        state.is_finished = true;
        state.wake();
    }

    /// The end, behind what was sent; nor is anything read any more.
    pub(crate) fn close(&self) {
        self.0.lock().is_deaf = true;
        self.finish();
    }

    /// The end at once.
    pub(crate) fn reset(&self) {
        let mut state = self.0.lock();
        state.is_reset = true;
        state.wake();
    }

    /// True if nearside has let go of its end, or writes nothing more.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.0.lock();
        state.is_gone || state.is_shut
    }

    /// How much of what nearside wrote was not taken.
    pub(crate) fn unread(&self) -> usize {
        self.0.lock().up.len()
    }

    /// True if nothing is on the way in either direction.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.up.is_empty() && state.down.is_empty()
    }
}
