//! Replies that wait until this cache has heard of all that they may have brought about (R13).
//!
//! In: the reply to a script that may have changed keys which it does not name (`is_opaque`). Out:
//! the same reply, once a barrier has passed that was wanted after it came: then every change of
//! the script is known here, and its client reads what it wrote. It waits in its client's order,
//! so what the client has asked behind it waits too.
//!
//! Invariant: no reply waits for long. It leaves at once when there is no tracking link, or that is
//! lost, for then nothing older is served any more, nor joined; and when the longest lease
//! (`patience`) has passed without a barrier, for then no hit of a rule that has one is served
//! either.

use crate::cache::{Barrier, Passage};
use crate::command::Spec;
use crate::data::batch::Batch;
use crate::data::order::Frame;
use crate::data::settle::Desk;
use crate::data::upstream::{Ticket, Waiter};
use crate::scripts::Sha;
use crate::snapshot::Snapshot;
use crate::stats::{Counter, Outcome};
use crate::units::clock::Tick;
use bytes::Bytes;
use std::collections::VecDeque;

/// The replies of one worker that wait, in the order in which they came.
#[derive(Debug, Default)]
pub struct Waiting(VecDeque<Held>);

/// A reply that waits.
#[derive(Debug)]
pub struct Held {
    barrier: Barrier,
    /// It waits no longer than this.
    until: Tick,
    /// Whose it is.
    pub owner: Waiter,
    /// The command.
    pub spec: &'static Spec,
    /// When it was asked.
    pub asked_at: Tick,
    /// How it was answered.
    pub outcome: Outcome,
    /// The reply.
    pub reply: Bytes,
}

impl Waiting {
    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// True if a script may change keys that it does not name, and its client is to read that.
pub fn is_wanted(spec: &Spec, sha: Option<Sha>, batch: &Batch<'_>) -> bool {
    batch.snapshot.limits.script_barrier
        && spec.writes()
        && !spec.carries_no_value()
        && !sha.is_some_and(|sha| batch.shared.scripts.keeps_to_keys(sha))
}

/// Has a reply wait for a barrier; false if it need not.
#[cold]
pub fn hold(ticket: &Ticket, frame: &Frame<'_>, outcome: Outcome, desk: &mut Desk<'_>) -> bool {
    let shared = desk.shared;
    // Nothing was run.
    if frame.bytes().starts_with(b"-NOSCRIPT") {
        return false;
    }
    let Some(barrier) = shared.cache.want_barrier() else {
        // Nothing older is stored, but a read may be on its way that was asked before it ran.
        shared.cache.end_flights();
        return false;
    };
    shared.live.want_barrier();
    let held = Held {
        barrier,
        until: until(desk.now, &shared.snapshots.newest()),
        owner: ticket.owner,
        spec: ticket.spec,
        asked_at: ticket.asked_at,
        outcome,
        reply: frame.own(),
    };
    desk.clients.behind_barrier.0.push_back(held);
    true
}

/// How long a barrier is waited for that is wanted now.
pub fn until(now: Tick, snapshot: &Snapshot) -> Tick {
    let nanos = u64::try_from(snapshot.patience.as_nanos()).unwrap_or(u64::MAX);
    Tick(now.0.saturating_add(nanos))
}

/// The next reply that waits no longer. (Barriers are wanted in the order of their rounds.)
pub fn next(desk: &mut Desk<'_>) -> Option<Held> {
    let first = desk.clients.behind_barrier.0.front()?;
    let counter = match desk.shared.cache.passage(&first.barrier) {
        Passage::Passed => Counter::BarrierPassed,
        Passage::Lost => Counter::BarrierLost,
        Passage::Awaited if desk.now >= first.until => Counter::BarrierLate,
        Passage::Awaited => return None,
    };
    desk.block.add(counter, 1);
    desk.clients.behind_barrier.0.pop_front()
}
