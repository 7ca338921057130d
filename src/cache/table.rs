//! A hash table of buckets, each one cache line: seven slots, their tags, and how many items were
//! put further on because it was full.
//!
//! Why not `hashbrown`: there a find reads two lines, of which the second is known only when the
//! first has come, and neither can be fetched from outside. Here a find reads one, nearly always,
//! and its address follows from the hash (as in F14, of Facebook's folly).
//!
//! Invariants: an item lies in its home bucket or behind it, with no bucket between that does not
//! count it as passed; a slot's tag is 0 if and only if it is empty.

use std::mem::size_of;

/// Slots of a bucket: with their tags they fill a line.
const SLOTS: usize = 7;

/// Items per bucket from which on the table doubles.
const LOAD_MAX: usize = 6;

/// A count that is not counted down any more: the next rebuild knows it anew.
const MANY: u8 = u8::MAX;

/// Items under their hashes. What is equal is for the caller to say.
pub(super) struct Table<T> {
    /// A power of two of them, or none.
    buckets: Box<[Bucket<T>]>,
    len: usize,
}

#[repr(align(64))]
struct Bucket<T> {
    /// A byte for each slot, its tag; the last byte counts the items that would be here, were it
    /// not full.
    marks: u64,
    slots: [Option<T>; SLOTS],
}

const _: () = assert!(size_of::<Bucket<Box<u8>>>() == 64, "a bucket is a line");

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { buckets: Box::default(), len: 0 }
    }
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Self { marks: 0, slots: [const { None }; SLOTS] }
    }
}

/// What tells most items of a bucket apart: bits that choose neither shard nor stripe nor bucket.
#[inline]
const fn tag_of(hash: u64) -> u8 {
    (hash >> 57) as u8 | 0x80
}

impl<T> Bucket<T> {
    /// Slots with this tag, as one bit for each in its byte. Behind the first, others may be among
    /// them.
    #[inline]
    fn tagged(&self, tag: u8) -> u64 {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        const SLOT_BITS: u64 = u64::from_le_bytes([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]);
        let differing = self.marks ^ (ONES * u64::from(tag));
        differing.wrapping_sub(ONES) & !differing & SLOT_BITS
    }

    /// The first item with this tag that `is_wanted`.
    #[inline]
    fn find(&self, tag: u8, mut is_wanted: impl FnMut(&T) -> bool) -> Option<(usize, &T)> {
        let mut tagged = self.tagged(tag);
        while tagged != 0 {
            let slot = tagged.trailing_zeros() as usize / 8;
            if let Some(Some(item)) = self.slots.get(slot)
                && is_wanted(item)
            {
                return Some((slot, item));
            }
            tagged &= tagged - 1;
        }
        None
    }

    /// Puts an item into an empty slot; gives it back if there is none, and counts it.
    fn put(&mut self, tag: u8, item: T) -> Option<T> {
        let number = self.tagged(0).trailing_zeros() / 8;
        let Some(slot) = self.slots.get_mut(number as usize) else {
            self.set_passed(self.passed().saturating_add(1));
            return Some(item);
        };
        self.marks |= u64::from(tag) << (8 * number);
        *slot = Some(item);
        None
    }

    fn take(&mut self, slot: usize) -> Option<T> {
        let item = self.slots.get_mut(slot)?.take()?;
        self.marks &= !(0xff << (8 * slot));
        Some(item)
    }

    /// Items that would be here, were it not full.
    #[inline]
    const fn passed(&self) -> u8 {
        (self.marks >> 56) as u8
    }

    const fn set_passed(&mut self, passed: u8) {
        self.marks = self.marks << 8 >> 8 | (passed as u64) << 56;
    }
}

impl<T> Table<T> {
    /// Items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots; a place is a number below it.
    #[inline]
    pub(super) fn places(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Where the buckets begin, and how many there are: for a prefetch, by [`home`].
    pub(super) fn ground(&self) -> (*const u8, usize) {
        (self.buckets.as_ptr().cast(), self.buckets.len())
    }

    /// The item under `hash` that `is_wanted`.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_wanted: impl FnMut(&T) -> bool) -> Option<&T> {
        self.search(hash, is_wanted).map(|(_, item)| item)
    }

    /// Its place.
    #[inline]
    pub(super) fn place(&self, hash: u64, is_wanted: impl FnMut(&T) -> bool) -> Option<usize> {
        self.search(hash, is_wanted).map(|(place, _)| place)
    }

    #[inline]
    fn search(&self, hash: u64, mut is_wanted: impl FnMut(&T) -> bool) -> Option<(usize, &T)> {
        let mut at = home(hash, self.buckets.len());
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            if let Some((slot, item)) = bucket.find(tag_of(hash), &mut is_wanted) {
                return Some((at * SLOTS + slot, item));
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.behind(at);
        }
        None
    }

    /// The item at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.buckets.get(place / SLOTS)?.slots.get(place % SLOTS)?.as_ref()
    }

    /// Puts another item of the same hash at a place that holds one.
    pub(super) fn replace(&mut self, place: usize, item: T) -> Option<T> {
        let slot = self.buckets.get_mut(place / SLOTS)?.slots.get_mut(place % SLOTS)?;
        slot.as_mut().map(|held| std::mem::replace(held, item))
    }

    /// Adds an item that is not there yet. True if the buckets have moved.
    pub(super) fn insert(&mut self, hash: u64, item: T, hash_of: impl Fn(&T) -> u64) -> bool {
        let grows = self.len >= self.buckets.len() * LOAD_MAX;
        if grows {
            self.rebuild((self.buckets.len() * 2).max(1), hash_of);
        }
        self.add(hash, item);
        grows
    }

    /// Takes the item at a place away.
    pub(super) fn take(&mut self, place: usize, hash_of: impl Fn(&T) -> u64) -> Option<T> {
        let end = place / SLOTS;
        let item = self.buckets.get_mut(end)?.take(place % SLOTS)?;
        self.len -= 1;
        let mut at = home(hash_of(&item), self.buckets.len());
        while at != end {
            let bucket = self.buckets.get_mut(at)?;
            if bucket.passed() != MANY {
                bucket.set_passed(bucket.passed() - 1);
            }
            at = self.behind(at);
        }
        Some(item)
    }

    /// Gives up slots beyond what the items need. True if the buckets have moved.
    pub(super) fn shrink(&mut self, hash_of: impl Fn(&T) -> u64) -> bool {
        let wanted = self.len.div_ceil(LOAD_MAX).next_power_of_two();
        let shrinks = wanted < self.buckets.len();
        if shrinks {
            self.rebuild(wanted, hash_of);
        }
        shrinks
    }

    fn rebuild(&mut self, count: usize, hash_of: impl Fn(&T) -> u64) {
        let buckets = std::iter::repeat_with(Bucket::default).take(count).collect();
        let old = std::mem::replace(&mut self.buckets, buckets);
        self.len = 0;
        for bucket in old {
            for item in bucket.slots.into_iter().flatten() {
                self.add(hash_of(&item), item);
            }
        }
    }

    /// There is room.
    fn add(&mut self, hash: u64, item: T) {
        let mut at = home(hash, self.buckets.len());
        let mut left = Some(item);
        while let (Some(item), Some(bucket)) = (left.take(), self.buckets.get_mut(at)) {
            left = bucket.put(tag_of(hash), item);
            at = self.behind(at);
        }
        self.len += 1;
    }

    #[inline]
    const fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len().wrapping_sub(1))
    }
}

/// The bucket, of a power of two of them, where an item belongs.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
pub(super) const fn home(hash: u64, buckets: usize) -> usize {
    hash as usize & buckets.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::Table;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// An item: its hash, of few values, so that buckets are full, and what tells it apart.
    type Item = (u64, Box<u8>);

    fn hash_of(item: &Item) -> u64 {
        item.0
    }

    fn find(table: &Table<Item>, hash: u64, name: u8) -> Option<usize> {
        table.place(hash, |item| item.0 == hash && *item.1 == name)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u8),
        Take(u64, u8),
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let hash = || (0..4_u64, 0..3_u64).prop_map(|(low, high)| low | high << 57);
        let step = prop_oneof![
            6 => (hash(), any::<u8>()).prop_map(|(hash, name)| Step::Put(hash, name)),
            5 => (hash(), any::<u8>()).prop_map(|(hash, name)| Step::Take(hash, name)),
            1 => Just(Step::Shrink),
        ];
        prop::collection::vec(step, 0..2000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_set_holds(steps in steps()) {
            let (mut table, mut set) = (Table::<Item>::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Put(hash, name) => {
                        let place = find(&table, hash, name);
                        prop_assert_eq!(place.is_some(), !set.insert((hash, name)));
                        match place {
                            Some(place) => drop(table.replace(place, (hash, Box::new(name)))),
                            None => drop(table.insert(hash, (hash, Box::new(name)), hash_of)),
                        }
                    }
                    Step::Take(hash, name) => {
                        let taken = find(&table, hash, name)
                            .and_then(|place| table.take(place, hash_of));
                        let known = set.remove(&(hash, name));
                        prop_assert_eq!(taken.map(|item| *item.1), known.then_some(name));
                    }
                    Step::Shrink => drop(table.shrink(hash_of)),
                }
                prop_assert_eq!(table.len(), set.len());
            }
            let mut held: Vec<(u64, u8)> = (0..table.places())
                .filter_map(|place| table.get(place))
                .map(|item| (item.0, *item.1))
                .collect();
            held.sort_unstable();
            prop_assert_eq!(held, set.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_bucket_that_nobody_passes_ends_a_search() {
        let mut table = Table::<Item>::default();
        for name in 0..100 {
            table.insert(7, (7, Box::new(name)), hash_of);
        }
        for name in 0..100 {
            let place = find(&table, 7, name).unwrap();
            table.take(place, hash_of);
        }
        assert_eq!(table.len(), 0);
        assert!(table.buckets.iter().all(|bucket| bucket.marks == 0));
    }
}
