//! Hits, misses and what passes by, per namespace. Which reads are counted is for the
//! [sampler](super::sampler) to say: to find a namespace and its place costs more than every hit
//! could spare.
//!
//! Bounded: the first 100 namespaces that this worker sees have a row, all others share one.
//! A name longer than 48 bytes is among the others. Nothing is allocated and nothing is
//! forgotten. One writer; readers see a row as soon as its name is set.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use super::bump;
use super::sampler::{Seen, Tally};

/// How many namespaces are told apart.
pub const NAMESPACES_MAX: usize = 100;

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

/// What a [`Tally`] is read from.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; 4]);

impl Counts {
    /// Counts so many.
    #[inline]
    pub(super) fn add(&self, fate: Seen, count: u64) {
        if let Some(cell) = self.0.get(fate as usize) {
            bump(cell, count);
        }
    }

    /// Counts bytes of replies.
    #[inline]
    pub(super) fn add_bytes(&self, count: u64) {
        let [.., bytes] = &self.0;
        bump(bytes, count);
    }

    /// What was counted.
    pub(super) fn read(&self) -> Tally {
        self.0.each_ref().map(|cell| cell.load(Ordering::Relaxed))
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
    named: AtomicUsize,
    slots: [Slot; SLOTS],
    others: Counts,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            named: AtomicUsize::new(0),
            slots: std::array::from_fn(|_| Slot::default()),
            others: Counts::default(),
        }
    }
}

impl Namespaces {
    /// The place of a namespace, for [`Self::at`].
    pub(super) fn place(&self, name: &[u8]) -> u16 {
        u16::try_from(self.find(name).unwrap_or(SLOTS)).unwrap_or(u16::MAX)
    }

    /// Whose place it is.
    pub(super) fn name(&self, place: u16) -> Option<&[u8]> {
        self.slots.get(usize::from(place))?.name.get().map(Name::as_bytes)
    }

    /// The counts at a place.
    #[inline]
    pub(super) fn at(&self, place: u16) -> &Counts {
        self.slots.get(usize::from(place)).map_or(&self.others, |slot| &slot.counts)
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let start = self.hasher.hash_one(name) as usize;
        for step in 0..SLOTS {
            let place = start.wrapping_add(step) % SLOTS;
            let slot = self.slots.get(place)?;
            match slot.name.get() {
                Some(known) if known.as_bytes() == name => return Some(place),
                Some(_) => {}
                None => return self.take(slot, name).then_some(place),
            }
        }
        None
    }

    /// Gives the slot to this name; false if it gets none.
    fn take(&self, slot: &Slot, name: &[u8]) -> bool {
        let named = self.named.load(Ordering::Relaxed);
        let is_taken = named < NAMESPACES_MAX
            && Name::new(name).is_some_and(|name| slot.name.set(name).is_ok());
        if is_taken {
            self.named.store(named + 1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Every named namespace with its tally, then what the others share.
    pub(super) fn each(&self, mut visit: impl FnMut(Option<&[u8]>, Tally)) {
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
    use super::{NAMESPACES_MAX, Namespaces, Seen, Tally};

    type Row = (Option<Vec<u8>>, Tally);

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
                let place = table.place(format!("space{index:03}").as_bytes());
                table.at(place).add(if round == 0 { Seen::Hit } else { Seen::Passed }, 1);
            }
        }
        table.at(table.place(&[b'x'; 49])).add(Seen::Miss, 1);
        let rows = read(&table);
        assert_eq!(rows.len(), 1 + NAMESPACES_MAX);
        assert_eq!(rows[0], (None, [50, 1, 50, 0]));
        assert_eq!(rows[1], (Some(b"space000".to_vec()), [1, 0, 1, 0]));
        assert_eq!(rows[100], (Some(b"space099".to_vec()), [1, 0, 1, 0]));
    }
}
