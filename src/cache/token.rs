//! Generations, epochs and the lease: what a fill and a hit are checked against.

use super::barrier::Rounds;
use super::places::Places;
use crate::units::clock::Tick;
use crate::units::mutant::{self, Mutant};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Stripes of the generation table: 512 KiB. Two keys of one stripe only delay each other's fills
/// (at 100,000 invalidations a second and 1 ms a fetch, one fill in 650 is refused in vain).
const STRIPES: usize = 1 << 16;

/// One counter per stripe of keys, bumped by everything that happens to one of them (R2). Its lower
/// half counts fills: they refuse no other fill, but who has seen what was filled may not join a
/// read that was asked before (R5).
#[derive(Debug, Default)]
pub(super) struct Generations(Places<STRIPES>);

/// What an invalidation adds.
const INVALIDATION: u64 = 1 << FILL_BITS;

/// Bits that count fills.
const FILL_BITS: u32 = 32;

impl Generations {
    #[inline]
    pub(super) fn read(&self, hash: u64) -> u64 {
        self.0.at(stripe(hash)).map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    #[inline]
    pub(super) fn bump(&self, hash: u64) {
        if let Some(counter) = self.0.at(stripe(hash)) {
            counter.fetch_add(INVALIDATION, Ordering::SeqCst);
        }
    }

    /// A reply is about to be seen that was stored, or need not be.
    #[inline]
    pub(super) fn fill(&self, hash: u64) {
        if let Some(counter) = self.0.at(stripe(hash)) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The stripe of a key: bits that neither the store's shard nor its table uses first.
#[inline]
fn stripe(hash: u64) -> u64 {
    hash >> 24
}

/// The bit of a key's stripe in a session's mask of what it has out (R6).
#[inline]
pub fn stripe_bit(hash: u64) -> u64 {
    1 << (stripe(hash) % 64)
}

/// Losses that an epoch counts before one of them counts as a clear.
const LOSS_BITS: u32 = 24;

/// Times that everything was cleared and, in the lower bits, times that the tracking link was lost.
/// An entry remembers what concerns it, and is dead once that has moved: all of it if it is
/// tracked, else the clears.
#[derive(Debug, Default)]
pub struct Epochs(AtomicU64);

impl Epochs {
    #[inline]
    pub(super) fn read(&self, tracked: bool) -> u64 {
        let epoch = self.0.load(Ordering::SeqCst);
        if tracked { epoch } else { clears(epoch) }
    }

    pub(super) fn bump_tracked(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn bump_all(&self) {
        self.0.fetch_add(1 << LOSS_BITS, Ordering::SeqCst);
    }
}

/// The times that everything had been cleared at a tracked epoch.
#[inline]
pub(super) const fn clears(epoch: u64) -> u64 {
    epoch >> LOSS_BITS
}

/// What the tracking link's thread publishes: it bumps, removes and stores here, and never waits
/// for anybody.
#[derive(Debug, Default)]
pub struct Tracking {
    up: AtomicBool,
    /// Every write acknowledged before this tick has been applied to the cache (R8).
    synced_at: AtomicU64,
    /// That of the link that was lost last.
    lost_synced_at: AtomicU64,
    /// The first epoch of the link that came last: upstream was back, so what is of an earlier one
    /// is of no use any more.
    returned: AtomicU64,
    /// Barrier rounds, and who waits for them.
    pub(super) rounds: Rounds,
}

impl Tracking {
    /// True from the link's first confirmed barrier to the first doubt.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// The tick before which every acknowledged write is known to the cache; 0 = never synced.
    #[inline]
    pub fn synced_at(&self) -> Tick {
        Tick(self.synced_at.load(Ordering::SeqCst))
    }

    /// A barrier round was confirmed that began at `at`.
    pub fn synced(&self, at: Tick) {
        self.synced_at.fetch_max(at.0, Ordering::SeqCst);
    }

    /// A barrier round is about to be sent: its number.
    pub fn begin_round(&self) -> u64 {
        self.rounds.begin()
    }

    /// A barrier was confirmed, of this round and the one behind it; all that came before its
    /// answer has been applied.
    pub fn passed(&self, round: u64) {
        self.rounds.pass(round);
    }

    /// The first round of the last barrier.
    pub fn last_passed(&self) -> u64 {
        self.rounds.passed()
    }

    /// True if somebody waits for a barrier, or did when it was put off.
    pub fn is_barrier_wanted(&self) -> bool {
        self.last_wanted() > self.last_passed()
    }

    /// The latest round that anybody has waited for.
    pub fn last_wanted(&self) -> u64 {
        self.rounds.wanted()
    }

    /// The epoch in force is the first of a new link.
    pub(super) fn set_up(&self, epoch: u64) {
        self.returned.store(epoch, Ordering::SeqCst);
        self.up.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_down(&self) {
        self.up.store(false, Ordering::SeqCst);
        self.lost_synced_at.store(self.synced_at().0, Ordering::SeqCst);
    }

    /// The last barrier of what was stored in `epoch`, if that is the one in force or has ended
    /// with the link that is lost now.
    pub(super) fn guarded_until(&self, epoch: u64, epochs: &Epochs) -> Option<Tick> {
        // First: who finds an epoch in force then has not the barriers of a later one.
        let synced_at = self.synced_at();
        let newest = epochs.read(true);
        if epoch == newest {
            return Some(synced_at);
        }
        let is_lost =
            clears(epoch) == clears(newest) && epoch >= self.returned.load(Ordering::SeqCst);
        is_lost.then(|| Tick(self.lost_synced_at.load(Ordering::SeqCst)))
    }
}

/// What the cache says to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Servable; it has been served.
    Hit,
    /// The same, and it should be read anew ([`crate::cache::Cache::claim_refresh`]).
    Due,
    /// Nothing stored, or what was stored had expired.
    Miss,
    /// Stored and current, but its lease cannot be proved: the read goes upstream.
    Lease,
}

/// The right to fill: what was true when the question was asked (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The generation of the key's stripe, and what was filled there.
    pub generation: u64,
    /// The epoch of its level.
    pub epoch: u64,
    /// Which of the two epochs.
    pub tracked: bool,
    /// The last ban that there was (R15).
    pub bans: u64,
    /// When the question was asked; lives are counted from here (R10).
    pub asked_at: Tick,
    /// The reply that it is to replace: when that was asked for. It was proved before this was.
    pub renews: Option<Tick>,
    /// How old a read may be that is joined, in nanoseconds: a reply that is long on its way may
    /// be older than its level promises, as an entry may.
    pub lease: u64,
}

impl Token {
    /// True if no invalidation has come since the stripe's counter stood as this token has it.
    #[inline]
    pub(super) const fn is_of(&self, generation: u64) -> bool {
        self.generation >> FILL_BITS == generation >> FILL_BITS
    }

    /// True if a read that would get `other` now may join the flight that holds this one (R5).
    #[inline]
    pub fn may_be_joined_by(&self, other: &Self) -> bool {
        // Without a lease (level `linear`) what was sent is too old, whenever that was.
        let is_young =
            other.lease > 0 && other.asked_at.0 <= self.asked_at.0.saturating_add(other.lease);
        let is_same = self.generation == other.generation
            && self.epoch == other.epoch
            && self.tracked == other.tracked
            && self.bans == other.bans;
        mutant::active(Mutant::NoJoinCheck) || (is_young && is_same)
    }
}

/// One reading of everything a hit is checked against; good for one batch of requests.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The time.
    pub now: Tick,
    pub(super) synced_at: Tick,
    tracked: u64,
    untracked: u64,
    /// The last ban.
    pub(super) bans: u64,
    /// True if a barrier has passed that was wanted when the question was here.
    pub(super) is_proved: bool,
}

impl View {
    #[inline]
    pub(super) fn read(epochs: &Epochs, tracking: &Tracking, bans: u64, now: Tick) -> Self {
        // Before the epochs: else entries of an old link could pass with the lease of a new.
        let synced_at = tracking.synced_at();
        let tracked = epochs.read(true);
        Self { now, synced_at, tracked, untracked: clears(tracked), bans, is_proved: false }
    }

    /// The same, for who has waited for a barrier since he was asked.
    #[must_use]
    pub fn proved(&self) -> Self {
        Self { is_proved: true, ..*self }
    }

    /// The same, for who asks about bans himself.
    pub(super) fn without_bans(&self) -> Self {
        Self { bans: 0, ..*self }
    }

    #[inline]
    pub(super) fn epoch(&self, tracked: bool) -> u64 {
        if tracked { self.tracked } else { self.untracked }
    }
}
