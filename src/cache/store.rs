//! Where entries lie: a hash table in shards, how many bytes they take, and who leaves when room
//! is needed.
//!
//! In come entries under their key's hash, out go borrowed entries, under the shard's lock: a hit
//! copies its bytes there and touches no reference count. The invariants:
//!
//! 1. *Whatever leaves bumps its stripe first* (invalidated, expired or evicted). [`Store::fill`]
//!    decides and stores under the shard's lock, so it either sees the bump or is found by the
//!    removal that follows it.
//! 2. *Accounted bytes and keys stay within their limits*: whoever stored makes room before it
//!    returns.
//!
//! Who leaves: one hand goes round the whole table (CLOCK with a count of two bits, as the main
//! queue of S3-FIFO). A hit adds one to its entry's count up to three; the hand takes one away and
//! evicts what has none left. On Zipf traffic behind the doorkeeper this is within 0.01 of
//! S3-FIFO's hit ratio, and it costs no queue: nothing per entry, nothing to keep in step.

use crate::cache::Entry;
use crate::cache::prefetch::prefetch;
use crate::cache::table::{self, Table};
use crate::cache::token::Generations;
use parking_lot::Mutex;
use spin::mutex::SpinMutex;
use spin::relax::Yield;
use std::fmt;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Shards: a growing shard of a table of a million entries moves a thousand of them under its
/// lock.
const SHARDS: usize = 1 << 10;

/// Slots that a shard may keep although nothing lies in them.
const SLOTS_KEPT: usize = 64;

/// What an entry's header, its key and a short reply take. A long reply is read in order, which
/// the processor sees by itself.
const ENTRY_LINES: usize = 3;

/// What [`Store::fill`] does with a place.
pub(super) enum Change {
    /// Leave it as it is.
    Keep,
    /// Put this entry there. It takes on what it carries on; anything else it replaces is dead.
    Put(Entry),
}

/// All entries, and the generations that they answer to.
pub(super) struct Store {
    shards: Box<[Shard]>,
    generations: Generations,
    /// Accounted bytes.
    used: AtomicU64,
    max: AtomicU64,
    /// Keys.
    held: AtomicUsize,
    held_max: AtomicUsize,
    evicted: AtomicU64,
    hand: Mutex<Place>,
}

/// On a cache line of its own: workers meet only where their keys do.
///
/// Its lock is held for the time of a copy, and by nobody who waits. Nobody parks for it, so it is
/// released by a plain store, where another lock takes a second locked instruction to see who is
/// to be woken. Who finds it taken gives the processor to whoever wants it: that may be the holder.
#[derive(Default)]
#[repr(align(64))]
struct Shard {
    table: SpinMutex<Table<Entry>, Yield>,
    /// Where the table's buckets are, and how many, for who has no lock: good for a prefetch, and
    /// for nothing else.
    ground: AtomicPtr<u8>,
    buckets: AtomicUsize,
}

impl Shard {
    /// The table's buckets have moved.
    fn note(&self, table: &Table<Entry>) {
        let (ground, buckets) = table.ground();
        self.ground.store(ground.cast_mut(), Ordering::Relaxed);
        self.buckets.store(buckets, Ordering::Relaxed);
    }
}

/// A place in the store: where the hand or a sweep stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    shard: usize,
    slot: usize,
    /// What the shard's table had when a sweep came to it.
    places: usize,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("used", &self.used)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn new(max: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            generations: Generations::default(),
            used: AtomicU64::new(0),
            max: AtomicU64::new(max),
            held: AtomicUsize::new(0),
            held_max: AtomicUsize::new(usize::MAX),
            evicted: AtomicU64::new(0),
            hand: Mutex::default(),
        }
    }

    /// The counters that every removal bumps.
    #[inline]
    pub(super) fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Shows `see` what lies under `hash`. It runs under the shard's lock: it must be short and
    /// must not come back here.
    #[inline]
    pub(super) fn look<R>(&self, hash: u64, see: impl FnOnce(&Entry) -> R) -> Option<R> {
        let table = self.shard(hash)?.table.lock();
        let is_wanted = |entry: &Entry| {
            // All its lines at once, not one after the other.
            prefetch(entry.address(), ENTRY_LINES);
            entry.hash() == hash
        };
        table.find(hash, is_wanted).map(see)
    }

    /// Has the processor fetch the bucket of `hash`: a hint to be given some tens of nanoseconds
    /// before [`Store::fetch_entry`].
    #[inline]
    pub(super) fn fetch_bucket(&self, hash: u64) {
        if let Some(shard) = self.shard(hash) {
            let bucket = table::home(hash, shard.buckets.load(Ordering::Relaxed));
            prefetch(shard.ground.load(Ordering::Relaxed).wrapping_add(bucket * 64), 1);
        }
    }

    /// Has the processor fetch what lies under `hash`, if anything does: a hint to be given some
    /// tens of nanoseconds before [`Store::look`].
    #[inline]
    pub(super) fn fetch_entry(&self, hash: u64) {
        let Some(shard) = self.shard(hash) else {
            return;
        };
        // The first entry with the hash's tag is the right one 127 times in 128; to compare the
        // whole hash would be to wait for the very line that is to be fetched.
        if let Some(entry) = shard.table.lock().find(hash, |_| true) {
            prefetch(entry.address(), ENTRY_LINES);
        }
    }

    /// Asks `decide` what to do with the place of `hash`, does it, and makes room. All under the
    /// shard's lock but the last.
    pub(super) fn fill<R>(
        &self,
        hash: u64,
        decide: impl FnOnce(Option<&Entry>) -> (Change, R),
    ) -> Option<R> {
        let shard = self.shard(hash)?;
        let mut table = shard.table.lock();
        let place = table.place(hash, |entry| entry.hash() == hash);
        let held = place.and_then(|place| table.get(place));
        let (change, result) = decide(held);
        if let Change::Put(entry) = change {
            let before = held.map_or(0, Entry::weight);
            self.held.fetch_add(usize::from(held.is_none()), Ordering::Relaxed);
            self.used.fetch_add(entry.weight(), Ordering::Relaxed);
            self.used.fetch_sub(before, Ordering::Relaxed);
            match place {
                Some(place) => drop(table.replace(place, entry)),
                None if table.insert(hash, entry, Entry::hash) => shard.note(&table),
                None => {}
            }
            drop(table);
            self.make_room();
        }
        Some(result)
    }

    /// Takes what lies under `hash` away, after its stripe is bumped (R2). True if something lay
    /// there.
    #[inline]
    pub(super) fn remove(&self, hash: u64) -> bool {
        self.generations.bump(hash);
        self.take(hash)
    }

    /// The second half of [`Self::remove`].
    #[inline]
    pub(super) fn take(&self, hash: u64) -> bool {
        let Some(shard) = self.shard(hash) else {
            return false;
        };
        let mut table = shard.table.lock();
        let place = table.place(hash, |entry| entry.hash() == hash);
        let Some(entry) = place.and_then(|place| table.take(place, Entry::hash)) else {
            return false;
        };
        // Counted before the lock is released, else the hand evicts for room that is there already.
        self.used.fetch_sub(entry.weight(), Ordering::Relaxed);
        self.held.fetch_sub(1, Ordering::Relaxed);
        drop(table);
        true
    }

    /// Looks at the entries of up to `count` slots from `place` on and removes those that `dead`
    /// says; none that was there from beginning to end is left out. False when it has come to the
    /// end.
    pub(super) fn sweep(
        &self,
        place: &mut Place,
        count: usize,
        mut dead: impl FnMut(&Entry) -> bool,
    ) -> bool {
        for _ in 0..count {
            let Some(shard) = self.shards.get(place.shard) else {
                return false;
            };
            self.sweep_one(shard, place, &mut dead);
        }
        true
    }

    /// Shows `see` the entries of one shard, under its lock for one at a time; none that was there
    /// from beginning to end is left out, and one may be seen twice. Answers how many slots there
    /// are; `None` if there is no such shard.
    pub(super) fn visit(&self, shard: usize, mut see: impl FnMut(&Entry)) -> Option<usize> {
        let visited = self.shards.get(shard)?;
        let mut place = Place { shard, ..Place::default() };
        let mut places = 0;
        while place.shard == shard {
            places = places.max(place.places);
            self.sweep_one(visited, &mut place, |entry| {
                see(entry);
                false
            });
        }
        Some(places)
    }

    fn sweep_one(&self, shard: &Shard, place: &mut Place, dead: impl FnMut(&Entry) -> bool) {
        let table = &mut *shard.table.lock();
        if place.places != table.places() {
            // It has been rebuilt: what is unseen may lie where the sweep has been.
            *place = Place { shard: place.shard, slot: 0, places: table.places() };
        }
        if place.slot >= table.places() {
            // Slots of what has left long ago.
            let is_empty = table.places() > SLOTS_KEPT && table.len() < table.places() / 4;
            if is_empty && table.shrink(Entry::hash) {
                shard.note(table);
            }
            *place = Place { shard: place.shard + 1, ..Place::default() };
            return;
        }
        if table.get(place.slot).is_some_and(dead) {
            self.clear_slot(table, place.slot);
        }
        place.slot += 1;
    }

    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Accounted bytes held.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Accounted bytes allowed.
    pub(super) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// From now on so many bytes and keys are allowed; what is over that leaves.
    pub(super) fn set_max(&self, max: u64, held_max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.held_max.store(held_max, Ordering::Relaxed);
        self.make_room();
    }

    /// Keys evicted since start.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.used() > self.max() || self.len() > self.held_max.load(Ordering::Relaxed)
    }

    #[inline]
    fn make_room(&self) {
        if self.is_over() {
            self.evict_some();
        }
    }

    #[cold]
    fn evict_some(&self) {
        // Lock order: the hand, then one shard.
        let mut hand = self.hand.lock();
        while self.is_over() {
            match self.shards.get(hand.shard) {
                Some(shard) => self.evict(&mut shard.table.lock(), &mut hand),
                None => hand.shard = 0,
            }
        }
    }

    /// Moves the hand on in one shard until there is room or the shard ends.
    fn evict(&self, table: &mut Table<Entry>, hand: &mut Place) {
        while self.is_over() {
            if hand.slot >= table.places() {
                *hand = Place { shard: hand.shard + 1, ..Place::default() };
                return;
            }
            if table.get(hand.slot).is_some_and(|entry| !entry.spend_use()) {
                self.clear_slot(table, hand.slot);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            hand.slot += 1;
        }
    }

    fn clear_slot(&self, table: &mut Table<Entry>, slot: usize) {
        if let Some(entry) = table.get(slot) {
            self.generations.bump(entry.hash());
        }
        if let Some(entry) = table.take(slot, Entry::hash) {
            self.used.fetch_sub(entry.weight(), Ordering::Relaxed);
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// By bits that neither the stripes nor a shard's table use.
    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard> {
        self.shards.get(usize::try_from(hash >> 40).unwrap_or(0) % SHARDS)
    }
}
