//! Barriers that somebody waits for: two rounds of the tracking link, the first of which was sent
//! after he began to wait, so that whatever was acknowledged before has been applied here (R8).
//!
//! ```text
//!   who waits      wants the round after the last that was begun; the tracking thread hurries
//!   that thread    begin: number the round, THEN send it      pass: its pair has come
//! ```
//!
//! Rounds are numbered and not timed, and over all links: who waits for one number shares the two
//! rounds with all who came before the first of them was sent.

use super::Cache;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the tracking thread and those who wait for it share.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    begun: AtomicU64,
    /// The first round of the last barrier.
    passed: AtomicU64,
    /// The latest round that anybody waits for.
    wanted: AtomicU64,
}

impl Rounds {
    /// The number of a round that is sent behind this.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The round behind this one was answered, and both count.
    pub(super) fn pass(&self, round: u64) {
        self.passed.fetch_max(round, Ordering::SeqCst);
    }

    /// The first round that shows what has happened up to now; it is wanted.
    pub(super) fn want(&self) -> u64 {
        let round = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(round, Ordering::SeqCst);
        round
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::SeqCst)
    }
}

/// A barrier that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    round: u64,
    /// The tracked epoch when he began.
    epoch: u64,
}

/// How a barrier stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It has not come yet.
    Awaited,
    /// What happened before it was wanted is known here.
    Passed,
    /// It will not come, and what it would have shown means nothing here: all that was stored
    /// before is dead.
    Lost,
}

impl Cache {
    /// A barrier that shows all that was acknowledged before this call, to be waited for; `None`
    /// while there is no link that could confirm one. The tracking thread is to be told.
    pub fn want_barrier(&self) -> Option<Barrier> {
        let epoch = self.epochs.read(true);
        let is_up = self.tracking.is_up();
        is_up.then(|| Barrier { round: self.tracking.rounds.want(), epoch })
    }

    /// How a barrier stands that somebody waits for.
    pub fn passage(&self, barrier: &Barrier) -> Passage {
        if self.epochs.read(true) != barrier.epoch {
            Passage::Lost
        } else if self.tracking.rounds.passed() >= barrier.round {
            Passage::Passed
        } else {
            Passage::Awaited
        }
    }
}
