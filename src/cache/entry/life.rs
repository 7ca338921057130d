//! An entry's times, and what they allow.
//!
//! ```text
//!   unproved | fresh ......... due ............. expired ............... gone
//!            fill's proof    a hit asks for    no hit; kept only where its rule says so,
//!                            it anew           for `grace` and `stale_if_error`
//! ```
//!
//! In: what proofs, barriers and invalidations say of it, each under the lock of its place. Out:
//! its [`Terms`]. A hit compares the time with `fresh` alone; what is past it is the rare branch.

use super::{Entry, GRACE};
use crate::cache::View;
use crate::units::clock::Tick;
use std::sync::atomic::Ordering;

/// `fresh` and `deadline` of an entry whose proof has not come.
const UNPROVED: u64 = 0;

/// `fresh` of an entry that is no hit any more, though its deadline has not come, and whose stripe
/// was bumped since: it counts for nothing but [`Entry::good_until`].
const OUT: u64 = 1;

/// `fresh` of an entry that is no hit before the next barrier ([`Entry::suspend`]).
const SUSPENDED: u64 = 2;

/// The same of one whose proof has not come.
const UNPROVED_SUSPENDED: u64 = 3;

/// `fresh` of an entry that is a hit only for who has waited for a barrier (level `linear`).
pub(in crate::cache) const LINEAR: u64 = 4;

/// Leases are counted in milliseconds.
const LEASE_UNIT: u64 = 1_000_000;

/// The lease of an entry that needs none.
const NO_LEASE: u32 = u32::MAX;

/// How long an entry lives: what its proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// In ticks.
    pub(in crate::cache) deadline: u64,
    /// When a hit has it read anew; not after the deadline. Or [`LINEAR`].
    pub(in crate::cache) refresh_at: u64,
    /// True if upstream has not ended it when `grace` is over.
    pub(in crate::cache) has_grace: bool,
}

/// What a hit may do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Terms {
    Servable,
    /// Servable; it should be read anew.
    Due,
    /// Its barrier is too old.
    Lease,
    /// Its time is over.
    Expired,
    /// It was put out ([`Entry::put_out`]).
    Out,
    /// Its epoch is over.
    Dead,
    /// Its PTTL has not come yet.
    Unproved,
    /// It waits for a barrier.
    Suspended,
    /// There are bans that its key was not held against.
    Unchecked,
}

impl Entry {
    #[inline]
    pub(in crate::cache) fn judge(&self, view: &View) -> Terms {
        let header = self.header();
        let fresh = header.fresh.load(Ordering::Acquire);
        if header.epoch != view.epoch(self.is_tracked()) {
            Terms::Dead
        } else if self.bans() < view.bans {
            Terms::Unchecked
        } else if view.now.0 >= fresh {
            self.judge_late(fresh, view)
        } else if self.lease_is_over(view) {
            Terms::Lease
        } else {
            Terms::Servable
        }
    }

    /// What is not simply fresh.
    #[cold]
    fn judge_late(&self, fresh: u64, view: &View) -> Terms {
        match fresh {
            UNPROVED | UNPROVED_SUSPENDED => Terms::Unproved,
            OUT => Terms::Out,
            _ if view.now.0 >= self.deadline() => Terms::Expired,
            SUSPENDED => Terms::Suspended,
            LINEAR if view.is_proved => Terms::Servable,
            LINEAR => Terms::Lease,
            _ if self.lease_is_over(view) => Terms::Lease,
            _ => Terms::Due,
        }
    }

    #[inline]
    fn lease_is_over(&self, view: &View) -> bool {
        let lease = self.header().lease;
        lease != NO_LEASE && view.now.0 > view.synced_at.0 + u64::from(lease) * LEASE_UNIT
    }

    /// True if it is no hit any more, for good.
    pub(in crate::cache) fn is_out(&self) -> bool {
        self.header().fresh.load(Ordering::Acquire) == OUT
    }

    /// End of life in ticks; next to nothing without a proof.
    pub(in crate::cache) fn deadline(&self) -> u64 {
        self.header().deadline.load(Ordering::Acquire)
    }

    /// Makes the entry servable, unless it is out; of two proofs the earlier deadline holds, for
    /// nobody can say which of them is the younger. Under the lock of its place.
    pub(in crate::cache) fn limit(&self, life: Life) {
        let header = self.header();
        let known = header.fresh.load(Ordering::Relaxed);
        let is_first = matches!(known, UNPROVED | UNPROVED_SUSPENDED);
        let fresh = match known {
            OUT => return,
            SUSPENDED | UNPROVED_SUSPENDED => SUSPENDED,
            UNPROVED => life.refresh_at.max(LINEAR),
            _ => life.refresh_at.max(LINEAR).min(known),
        };
        let deadline = life.deadline.max(LINEAR);
        let deadline = if is_first { deadline } else { deadline.min(self.deadline()) };
        header.deadline.store(deadline, Ordering::Release);
        header.fresh.store(fresh, Ordering::Release);
        let had_grace = is_first || self.flags() & GRACE != 0;
        self.set_grace(had_grace && life.has_grace);
    }

    /// Lets it live on: what was asked at `asked_at`, after it was proved, is the same. Under the
    /// lock of its place.
    pub(in crate::cache) fn renew(&self, asked_at: Tick, life: Life) {
        let header = self.header();
        header.asked_at.store(asked_at.0, Ordering::Relaxed);
        header.deadline.store(life.deadline.max(LINEAR), Ordering::Release);
        if header.fresh.load(Ordering::Relaxed) != SUSPENDED {
            header.fresh.store(life.refresh_at.max(LINEAR), Ordering::Release);
        }
        self.set_grace(life.has_grace);
    }

    /// It is no hit before the next barrier. Under the lock of its place.
    pub(in crate::cache) fn suspend(&self) {
        let fresh = &self.header().fresh;
        match fresh.load(Ordering::Relaxed) {
            OUT | SUSPENDED | UNPROVED_SUSPENDED => {}
            UNPROVED => fresh.store(UNPROVED_SUSPENDED, Ordering::Release),
            _ => fresh.store(SUSPENDED, Ordering::Release),
        }
    }

    /// That barrier has passed: it is a hit until its deadline. Under the lock of its place.
    pub(in crate::cache) fn resume(&self) {
        let header = self.header();
        if header.fresh.load(Ordering::Relaxed) == SUSPENDED {
            header.fresh.store(self.deadline(), Ordering::Release);
        }
    }

    /// It is being read anew: until its deadline no other hit asks for that. False if one has.
    /// Under the lock of its place.
    pub(in crate::cache) fn claim_refresh(&self) -> bool {
        let header = self.header();
        let deadline = self.deadline();
        header.fresh.swap(deadline, Ordering::AcqRel) != deadline
    }

    /// Nothing of this key is a hit any more, from `at` on; its stripe was bumped before. False if
    /// it was so already. Under the lock of its place.
    pub(in crate::cache) fn put_out(&self, at: Tick) -> bool {
        let was_out = self.is_out();
        for entry in self.chain() {
            let header = entry.header();
            let deadline = entry.deadline().min(at.0);
            header.deadline.store(deadline, Ordering::Release);
            header.fresh.store(OUT, Ordering::Release);
        }
        !was_out
    }

    /// Until when it was as good as its rule promises; `None` if it never was. `synced_at`: the
    /// last barrier of its tracking link.
    pub(in crate::cache) fn good_until(&self, synced_at: Tick) -> Option<u64> {
        let deadline = self.deadline();
        let lease = match self.header().lease {
            NO_LEASE => 0,
            lease => u64::from(lease) * LEASE_UNIT,
        };
        let guarded = if self.is_tracked() { synced_at.0.saturating_add(lease) } else { u64::MAX };
        (deadline != UNPROVED).then_some(deadline.min(guarded))
    }

    /// True if it may be served for `grace` beyond its deadline.
    pub(in crate::cache) fn is_in_grace(&self, view: &View, grace: u64) -> bool {
        self.header().epoch == view.epoch(self.is_tracked())
            && self.deadline() != UNPROVED
            && view.now.0 < self.deadline().saturating_add(grace)
            && self.flags() & GRACE != 0
            && !self.lease_is_over(view)
    }

    fn set_grace(&self, has_grace: bool) {
        let flags = self.flags() & !GRACE;
        let grace = if has_grace { GRACE } else { 0 };
        self.header().flags.store(flags | grace, Ordering::Relaxed);
    }
}

/// `fresh` of a new entry.
pub(super) const fn unproved(is_suspended: bool) -> u64 {
    if is_suspended { UNPROVED_SUSPENDED } else { UNPROVED }
}

/// A lease in [`LEASE_UNIT`]s; `u64::MAX` is none.
pub(super) fn lease(nanos: u64) -> u32 {
    if nanos == u64::MAX {
        return NO_LEASE;
    }
    // One of more than 49 days is one of 49 days.
    u32::try_from(nanos / LEASE_UNIT).unwrap_or(u32::MAX).min(NO_LEASE - 1)
}
