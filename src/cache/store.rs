//! Where entries lie: a hash table in shards, how many bytes they take, and who leaves when room
//! is needed.
//!
//! In come entries under their key's hash, out go borrowed entries, under the shard's lock: a hit
//! copies its bytes there and touches no reference count. The invariants:
//!
//! 1. *Whatever leaves bumps its stripe first* (invalidated, expired or evicted). [`Store::fill`]
//!    decides and stores under the shard's lock, so it either sees the bump or is found by the
//!    removal that follows it.
//! 2. *Accounted bytes stay within the limit*: whoever stored makes room before it returns.
//!
//! Who leaves: one hand goes round the whole table (CLOCK with a count of two bits, as the main
//! queue of S3-FIFO). A hit adds one to its entry's count up to three; the hand takes one away and
//! evicts what has none left. On Zipf traffic behind the doorkeeper this is within 0.01 of
//! S3-FIFO's hit ratio, and it costs no queue: nothing per entry, nothing to keep in step.

use crate::cache::Entry;
use crate::cache::prefetch::prefetch;
use crate::cache::token::Generations;
use hashbrown::HashTable;
use hashbrown::hash_table;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shards: a growing shard of a table of a million entries moves a thousand of them under its
/// lock.
const SHARDS: usize = 1 << 10;

/// Slots that a shard may keep although nothing lies in them.
const SLOTS_KEPT: usize = 64;

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
    max: u64,
    evicted: AtomicU64,
    hand: Mutex<Place>,
}

/// On a cache line of its own: workers meet only where their keys do.
#[derive(Default)]
#[repr(align(64))]
struct Shard(Mutex<HashTable<Entry>>);

/// A place in the store: where the hand or a sweep stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    shard: usize,
    bucket: usize,
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
            max,
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
        let table = self.shard(hash)?.0.lock();
        let is_wanted = |entry: &Entry| {
            // All its lines at once, not one after the other.
            prefetch(entry.address());
            entry.hash() == hash
        };
        table.find(hash, is_wanted).map(see)
    }

    /// Has the processor fetch what lies under `hash`, if anything does: a hint to be given some
    /// tens of nanoseconds before [`Store::look`].
    #[inline]
    pub(super) fn fetch(&self, hash: u64) {
        let Some(shard) = self.shard(hash) else {
            return;
        };
        // The first entry with the hash's tag is the right one 127 times in 128; to compare the
        // whole hash would be to wait for the very line that is to be fetched.
        if let Some(entry) = shard.0.lock().find(hash, |_| true) {
            prefetch(entry.address());
        }
    }

    /// Asks `decide` what to do with the place of `hash`, does it, and makes room. All under the
    /// shard's lock but the last.
    pub(super) fn fill<R>(
        &self,
        hash: u64,
        decide: impl FnOnce(Option<&Entry>) -> (Change, R),
    ) -> Option<R> {
        let mut table = self.shard(hash)?.0.lock();
        let place = table.entry(hash, |entry| entry.hash() == hash, Entry::hash);
        let held = match &place {
            hash_table::Entry::Occupied(held) => Some(held.get()),
            hash_table::Entry::Vacant(_) => None,
        };
        let (change, result) = decide(held);
        if let Change::Put(entry) = change {
            let before = held.map_or(0, Entry::weight);
            self.used.fetch_add(entry.weight(), Ordering::Relaxed);
            self.used.fetch_sub(before, Ordering::Relaxed);
            place.insert(entry);
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
        let mut table = shard.0.lock();
        let Ok(found) = table.find_entry(hash, |entry| entry.hash() == hash) else {
            return false;
        };
        let (entry, _) = found.remove();
        // Counted before the lock is released, else the hand evicts for room that is there already.
        self.used.fetch_sub(entry.weight(), Ordering::Relaxed);
        drop(table);
        true
    }

    /// Looks at the entries of up to `count` buckets from `place` on and removes those that `dead`
    /// says. False when it has come to the end.
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
            self.sweep_one(&mut shard.0.lock(), place, &mut dead);
        }
        true
    }

    fn sweep_one(
        &self,
        table: &mut HashTable<Entry>,
        place: &mut Place,
        dead: impl FnMut(&Entry) -> bool,
    ) {
        if place.bucket >= table.num_buckets() {
            // Slots of what has left long ago.
            if table.capacity() > SLOTS_KEPT && table.len() < table.capacity() / 4 {
                table.shrink_to_fit(Entry::hash);
            }
            *place = Place { shard: place.shard + 1, bucket: 0 };
            return;
        }
        if table.get_bucket(place.bucket).is_some_and(dead) {
            self.drop_bucket(table, place.bucket);
        }
        place.bucket += 1;
    }

    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Accounted bytes held.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Accounted bytes allowed.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Keys evicted since start.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn make_room(&self) {
        if self.used() <= self.max {
            return;
        }
        // Lock order: the hand, then one shard.
        let mut hand = self.hand.lock();
        while self.used() > self.max {
            match self.shards.get(hand.shard) {
                Some(shard) => self.evict(&mut shard.0.lock(), &mut hand),
                None => hand.shard = 0,
            }
        }
    }

    /// Moves the hand on in one shard until there is room or the shard ends.
    fn evict(&self, table: &mut HashTable<Entry>, hand: &mut Place) {
        while self.used() > self.max {
            if hand.bucket >= table.num_buckets() {
                *hand = Place { shard: hand.shard + 1, bucket: 0 };
                return;
            }
            if table.get_bucket(hand.bucket).is_some_and(|entry| !entry.spend_use()) {
                self.drop_bucket(table, hand.bucket);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            hand.bucket += 1;
        }
    }

    fn drop_bucket(&self, table: &mut HashTable<Entry>, bucket: usize) {
        if let Ok(found) = table.get_bucket_entry(bucket) {
            self.generations.bump(found.get().hash());
            let (entry, _) = found.remove();
            self.used.fetch_sub(entry.weight(), Ordering::Relaxed);
        }
    }

    /// Bits that neither the stripes nor a shard's table use.
    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard> {
        self.shards.get(usize::try_from(hash >> 40).unwrap_or(0) % SHARDS)
    }
}
