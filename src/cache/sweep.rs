//! Looks at everything that is stored, part by part: a sweep drops what is dead and settles bans, a
//! walk only looks. Off the path of a request, and never for long under one lock.

use crate::cache::ban::{Pass, Verdict};
use crate::cache::entry::Terms;
use crate::cache::{Cache, Entry, store};
use crate::units::clock::Tick;
use std::sync::atomic::Ordering;

/// Where a look at all keys stands.
#[derive(Debug, Default)]
pub struct Walk(store::Place);

/// Where a sweep stands, and what bans it settles.
#[derive(Debug)]
pub struct Sweep {
    place: store::Place,
    pass: Pass,
}

impl Cache {
    /// Begins to look at everything, for what is dead.
    pub fn start_sweep(&self) -> Sweep {
        Sweep { place: store::Place::default(), pass: self.bans.pass() }
    }

    /// Looks at the next `count` places of `sweep` and drops the dead entries there. False when
    /// it has come to the end.
    pub fn sweep(&self, sweep: &mut Sweep, count: usize, now: Tick) -> bool {
        let view = self.view(now).without_bans();
        let Sweep { place, pass } = sweep;
        let mut unchecked = Vec::new();
        let is_more = self.store.sweep(place, count, |entry| match entry.judge(&view) {
            Terms::Expired if !self.keeps(entry, now) => {
                self.expired.fetch_add(1, Ordering::Relaxed);
                true
            }
            Terms::Dead | Terms::Out if !self.keeps(entry, now) => true,
            _ => {
                if entry.bans() < pass.newest() {
                    unchecked.push(entry.clone());
                }
                false
            }
        });
        // Outside of the lock: globs may take their time.
        for entry in unchecked {
            self.check(&entry, pass);
        }
        if !is_more {
            self.bans.settle(pass);
        }
        is_more
    }

    /// Shows `see` the keys of the next `count` places of `walk` that may be served, and the
    /// accounted bytes of their replies: each once, or twice if its shard grows meanwhile. False
    /// when it has come to the end.
    pub fn walk(
        &self,
        walk: &mut Walk,
        count: usize,
        now: Tick,
        mut see: impl FnMut(&[u8], u64),
    ) -> bool {
        let view = self.view(now);
        let mut held = Vec::new();
        let is_more = self.store.sweep(&mut walk.0, count, |entry| {
            held.push(entry.clone());
            false
        });
        for entry in held.iter().filter(|entry| self.is_held(entry, &view)) {
            see(entry.key(), entry.weight());
        }
        is_more
    }

    /// Holds what a sweep has found against its bans.
    pub(super) fn check(&self, entry: &Entry, pass: &Pass) {
        let seen = entry.bans();
        match pass.verdict(seen, entry.key()) {
            Verdict::Spared(newest) => entry.spare(seen, newest),
            // Unless a reader was here first: it has counted, and what is there now may be newer.
            verdict => {
                if self.store.look(entry.hash(), |held| held.is(entry)) == Some(true) {
                    self.enforce(entry.hash(), entry.key(), seen, &verdict);
                }
            }
        }
    }
}
