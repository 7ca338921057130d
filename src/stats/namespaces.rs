//! Hits, misses and what passes by, per namespace. Which reads are counted is for the
//! [sampler](super::sampler) to say: to find a namespace and its place costs more than every hit
//! could spare.
//!
//! Bounded by [`Named`]: the first namespaces that this worker sees have a row, or those that were
//! chosen; all others share one. A name longer than 48 bytes is among the others. Nothing is
//! allocated after creation and nothing is forgotten. One writer; readers see a row as soon as its
//! name is set.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use super::bump;
use super::sampler::{Seen, Tally};

/// The longest name that has a row.
pub const NAME_MAX: usize = 48;

/// The place of those without a row.
const OTHERS: u16 = u16::MAX;

/// Which namespaces are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// So many of them.
    pub max: usize,
    /// These, and no other; empty = the first that come.
    pub chosen: Vec<String>,
}

impl Default for Named {
    fn default() -> Self {
        Self { max: 100, chosen: Vec::new() }
    }
}

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
    /// Rows that may still be given away.
    left: AtomicUsize,
    /// A power of two, never full.
    slots: Box<[Slot]>,
    others: Counts,
}

impl Namespaces {
    pub(super) fn new(named: &Named) -> Self {
        let slots = (named.max + named.max / 4 + 1).next_power_of_two();
        let table = Self {
            hasher: RandomState::default(),
            left: AtomicUsize::new(named.max),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            others: Counts::default(),
        };
        for name in &named.chosen {
            table.find(name.as_bytes());
        }
        if !named.chosen.is_empty() {
            table.left.store(0, Ordering::Relaxed);
        }
        table
    }

    /// The place of a namespace, for [`Self::at`].
    pub(super) fn place(&self, name: &[u8]) -> u16 {
        self.find(name).and_then(|place| u16::try_from(place).ok()).unwrap_or(OTHERS)
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
        for step in 0..self.slots.len() {
            let place = start.wrapping_add(step) & (self.slots.len() - 1);
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
        let left = self.left.load(Ordering::Relaxed);
        let is_taken = left > 0 && Name::new(name).is_some_and(|name| slot.name.set(name).is_ok());
        if is_taken {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Every named namespace with its tally, then what the others share.
    pub(super) fn each(&self, mut visit: impl FnMut(Option<&[u8]>, Tally)) {
        for slot in &*self.slots {
            if let Some(name) = slot.name.get() {
                visit(Some(name.as_bytes()), slot.counts.read());
            }
        }
        visit(None, self.others.read());
    }
}

#[cfg(test)]
mod tests {
    use super::{Named, Namespaces, Seen, Tally};

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
        let table = Namespaces::new(&Named::default());
        for round in 0..2 {
            for index in 0..150 {
                let place = table.place(format!("space{index:03}").as_bytes());
                table.at(place).add(if round == 0 { Seen::Hit } else { Seen::Passed }, 1);
            }
        }
        table.at(table.place(&[b'x'; 49])).add(Seen::Miss, 1);
        let rows = read(&table);
        assert_eq!(rows.len(), 101);
        assert_eq!(rows[0], (None, [50, 1, 50, 0]));
        assert_eq!(rows[1], (Some(b"space000".to_vec()), [1, 0, 1, 0]));
        assert_eq!(rows[100], (Some(b"space099".to_vec()), [1, 0, 1, 0]));
    }

    #[test]
    fn others_than_the_chosen_share_a_row_at_once() {
        let chosen = vec!["a".to_owned(), "b".to_owned()];
        let table = Namespaces::new(&Named { max: 2, chosen });
        for name in ["c", "b", "d"] {
            table.at(table.place(name.as_bytes())).add(Seen::Hit, 1);
        }
        let [a, b] = [b"a", b"b"].map(|name| Some(name.to_vec()));
        assert_eq!(read(&table), [(None, [2, 0, 0, 0]), (a, [0; 4]), (b, [1, 0, 0, 0])]);
        // Of a writer that looks nothing up.
        let none = Namespaces::new(&Named { max: 0, chosen: Vec::new() });
        none.at(none.place(b"a")).add(Seen::Hit, 1);
        assert_eq!(read(&none), [(None, [1, 0, 0, 0])]);
    }
}
