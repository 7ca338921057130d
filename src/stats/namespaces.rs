//! Hits and misses per namespace, estimated: one lookup in sixteen is counted, sixteenfold.
//!
//! To find the namespace of a key and its row costs more than a hit can spare, so a die is
//! thrown first (about 1 ns). The die is not a plain turn-counter, because a client that repeats
//! a pipeline of sixteen commands would always be sampled at the same one.
//!
//! Bounded: the first 100 namespaces that this worker sees have a row, all others share one.
//! A name longer than 48 bytes is among the others. Nothing is allocated and nothing is
//! forgotten. One writer; readers see a row as soon as its name is set.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use super::bump;

/// How many namespaces are told apart.
pub const NAMESPACES_MAX: usize = 100;

/// One lookup in this many is counted.
const SAMPLED: u64 = 16;

/// Slots of the table: a power of two, never full.
const SLOTS: usize = 128;

const NAME_MAX: usize = 48;

/// A namespace's name, in place.
#[derive(Debug)]
struct Name {
    length: u8,
    bytes: [u8; NAME_MAX],
}

impl Name {
    fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { length: u8::try_from(name.len()).ok()?, bytes })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Counts {
    fn read(&self) -> [u64; 2] {
        [self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed)]
    }
}

#[derive(Debug, Default)]
struct Slot {
    name: OnceLock<Name>,
    counts: Counts,
}

/// One worker's table.
#[derive(Debug)]
pub(super) struct Namespaces {
    hasher: RandomState,
    die: AtomicU64,
    named: AtomicUsize,
    slots: [Slot; SLOTS],
    others: Counts,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            die: AtomicU64::new(0),
            named: AtomicUsize::new(0),
            slots: std::array::from_fn(|_| Slot::default()),
            others: Counts::default(),
        }
    }
}

impl Namespaces {
    /// Counts one lookup, if the die says so; only then is the name asked for.
    #[inline]
    pub(super) fn lookup<'key>(&self, hit: bool, name: impl FnOnce() -> &'key [u8]) {
        // Knuth's linear congruential generator: its high bits are the good ones.
        let die = self.die.load(Ordering::Relaxed);
        let die =
            die.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.die.store(die, Ordering::Relaxed);
        if die >> 60 == 0 {
            self.count(hit, name());
        }
    }

    fn count(&self, hit: bool, name: &[u8]) {
        let counts = self.find(name);
        bump(if hit { &counts.hits } else { &counts.misses }, SAMPLED);
    }

    fn find(&self, name: &[u8]) -> &Counts {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let start = self.hasher.hash_one(name) as usize;
        for step in 0..SLOTS {
            let Some(slot) = self.slots.get((start.wrapping_add(step)) % SLOTS) else { break };
            match slot.name.get() {
                Some(known) if known.as_bytes() == name => return &slot.counts,
                Some(_) => {}
                None => return self.take(slot, name).unwrap_or(&self.others),
            }
        }
        &self.others
    }

    fn take<'slot>(&self, slot: &'slot Slot, name: &[u8]) -> Option<&'slot Counts> {
        let named = self.named.load(Ordering::Relaxed);
        if named == NAMESPACES_MAX {
            return None;
        }
        slot.name.set(Name::new(name)?).ok()?;
        self.named.store(named + 1, Ordering::Relaxed);
        Some(&slot.counts)
    }

    /// Every named namespace with its hits and misses, then what the others share.
    pub(super) fn each(&self, mut visit: impl FnMut(Option<&[u8]>, [u64; 2])) {
        for slot in &self.slots {
            if let Some(name) = slot.name.get() {
                visit(Some(name.as_bytes()), slot.counts.read());
            }
        }
        visit(None, self.others.read());
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMESPACES_MAX, Namespaces};

    type Row = (Option<Vec<u8>>, [u64; 2]);

    /// The others first, then by name.
    fn read(table: &Namespaces) -> Vec<Row> {
        let mut rows = Vec::new();
        table.each(|name, counts| rows.push((name.map(<[u8]>::to_vec), counts)));
        rows.sort();
        rows
    }

    #[test]
    fn the_first_hundred_have_names_and_the_rest_share_a_row() {
        let table = Namespaces::default();
        for round in 0..2 {
            for index in 0..NAMESPACES_MAX + 50 {
                table.count(round == 0, format!("space{index:03}").as_bytes());
            }
        }
        table.count(true, &[b'x'; 49]);
        let rows = read(&table);
        assert_eq!(rows.len(), 1 + NAMESPACES_MAX);
        assert_eq!(rows[0], (None, [16 * 51, 16 * 50]));
        assert_eq!(rows[1], (Some(b"space000".to_vec()), [16, 16]));
        assert_eq!(rows[100], (Some(b"space099".to_vec()), [16, 16]));
    }

    #[test]
    fn the_estimate_is_close_and_fair_to_a_repeating_pipeline() {
        let table = Namespaces::default();
        let names: Vec<Vec<u8>> = (0..16).map(|index| vec![b'a' + index]).collect();
        for _ in 0..10_000 {
            for name in &names {
                table.lookup(true, || name);
            }
        }
        let rows = read(&table);
        assert_eq!(rows.len(), 1 + 16);
        for (_, [hits, misses]) in rows.into_iter().skip(1) {
            assert!((8_000..12_000).contains(&hits), "{hits}");
            assert_eq!(misses, 0);
        }
    }
}
