//! What a session may use while it is fed, and what is counted once for all that it was fed.

use crate::cache::View;
use crate::config::Mode;
use crate::data::Shared;
use crate::data::ahead::Ahead;
use crate::data::pause::Held;
use crate::data::upstream::{ClientId, Pipelines};
use crate::snapshot::Snapshot;
use crate::stats::Block;
use std::rc::Rc;

/// One read's worth of context: what a session may use while it is fed.
#[derive(Debug)]
pub struct Batch<'w> {
    /// This worker's number.
    pub worker: usize,
    /// The client being served.
    pub me: ClientId,
    /// This worker's links.
    pub links: &'w mut Pipelines,
    /// What all workers share.
    pub shared: &'w Shared,
    /// What requests are served under.
    pub snapshot: &'w Rc<Snapshot>,
    /// This worker's counters.
    pub block: &'w Block,
    /// What the cache is used for. Read once, and before the view: who finds the gate open after
    /// an exchange of snapshots sees that everything was cleared.
    pub gate: Mode,
    /// Everything a hit is checked against, read once.
    pub view: View,
    /// What CLIENT PAUSE holds.
    pub held: Held,
    /// Scratch for the requests of one run.
    pub ahead: &'w mut Ahead,
    /// Clients that wait for a barrier.
    pub seekers: &'w mut Vec<ClientId>,
    /// Hits so far, added to the counters once.
    pub hits: u64,
    /// Requests so far.
    pub commands: u64,
    /// Row of the last one; `u16::MAX` for none.
    pub last: u16,
}
