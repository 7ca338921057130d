//! A worker's clients: their sessions and sockets, and which of them have something to be sent.

use crate::config::OnDown;
use crate::data::barrier::Waiting;
use crate::data::lost::{Lost, lost_text};
use crate::data::order::Frame;
use crate::data::session::Session;
use crate::data::upstream::{ClientId, Waiter};
use crate::net::client::WriteHalf;
use crate::stats::Counter;
use slab::Slab;
use std::rc::Rc;
use std::task::Waker;

/// A worker's clients, and which of them have something to be sent.
#[derive(Debug, Default)]
pub struct Clients {
    pub(super) slab: Slab<Member>,
    pub(super) touched: Vec<u32>,
    /// Replies that wait for a barrier.
    pub behind_barrier: Waiting,
}

/// One client, as its worker holds it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: u32,
    pub(super) session: Session,
    pub(super) writer: Rc<WriteHalf>,
    pub(super) waker: Option<Waker>,
    pub(super) is_touched: bool,
    /// The client has sent its last byte; replies under way are still sent.
    pub(super) has_ended: bool,
    /// True while it is not served until an answer comes.
    pub(super) is_paused: bool,
    /// Set when the connection is to be closed, with what is counted.
    pub(super) closing: Option<Counter>,
    /// Since when output has not moved, in ticks.
    pub(super) stuck_since: Option<u64>,
    /// Memory that its output holds, as it was counted.
    pub(super) told_output: usize,
    /// Memory that it holds beside that, as it was counted.
    pub(super) told_beside: usize,
    /// Of its commands, those that the gauge has as not answered.
    pub(super) told_out: u32,
    /// The owner task of its own link, which reads no more until this client has.
    pub(super) choked: Option<Waker>,
}

impl Member {
    /// Its task is to look.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// By how many more, or fewer, of its commands are not answered than when this was last asked.
    #[inline]
    pub(super) fn news_of_out(&mut self) -> i64 {
        let out = self.session.order.holes();
        let was = std::mem::replace(&mut self.told_out, out);
        i64::from(out) - i64::from(was)
    }
}

impl Clients {
    #[inline]
    pub(super) fn get(&mut self, id: ClientId) -> Option<&mut Member> {
        self.slab.get_mut(id.place as usize).filter(|member| member.number == id.number)
    }

    /// Puts a reply into its slot; the client is sent to when the batch is done.
    #[inline]
    pub fn deliver(&mut self, waiter: Waiter, frame: &Frame<'_>) {
        self.with(waiter.client, |session| session.deliver(waiter.slot, frame));
    }

    /// As [`Self::deliver`], of what is served past its time, for this `reason`.
    pub fn deliver_stale(&mut self, waiter: Waiter, reason: Counter, frame: &Frame<'_>) {
        // Only of its last command a client can ask what became of it.
        if self.is_last_out(waiter)
            && let Some(session) = self.session(waiter.client)
        {
            session.standing.turn_stale(reason);
        }
        self.deliver(waiter, frame);
    }

    /// Changes something about a client: its task is to look.
    #[inline]
    fn with(&mut self, id: ClientId, run: impl FnOnce(&mut Session)) {
        let Some(member) = self.get(id) else {
            return;
        };
        run(&mut member.session);
        if !member.is_touched {
            member.is_touched = true;
            self.touched.push(id.place);
        }
    }

    /// A client's session.
    pub fn session(&mut self, id: ClientId) -> Option<&mut Session> {
        self.get(id).map(|member| &mut member.session)
    }

    /// Something about this client has changed: its task is to look.
    pub fn touch(&mut self, id: ClientId) {
        self.with(id, |_| {});
    }

    /// Sends a client what it did not ask for, between its replies.
    pub fn push(&mut self, id: ClientId, bytes: &[u8]) {
        self.with(id, |session| session.output.tail().extend_from_slice(bytes));
    }

    /// True if a client has nothing out that it asked for behind this.
    pub fn is_last_out(&mut self, waiter: Waiter) -> bool {
        self.get(waiter.client).is_some_and(|member| member.session.order.is_last(waiter.slot))
    }

    /// No reply will come for a slot.
    pub fn fail(&mut self, waiter: Waiter, lost: Lost, on_down: OnDown) {
        if on_down == OnDown::Error || lost.is_said() {
            self.deliver(waiter, &Frame::Borrowed(&lost_text(lost)));
            return;
        }
        self.with(waiter.client, |session| session.abandon(waiter.slot));
    }
}
