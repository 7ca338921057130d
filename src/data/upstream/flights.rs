//! The reads of one link that others may join (R5), by the names of their questions. Where the
//! ticket and the text of each are is told in numbers that only grow, so that nothing is moved when
//! the rings of the [`super::Pipeline`] are.
//!
//! A name selects, the bytes decide. It is made from a seeded hash, so the table takes it as it is.

use crate::cache::{Extra, Question};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A read on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    name: u64,
    /// Number of its ticket.
    pub(super) ticket: u64,
    /// Where its text begins, of all text that the link ever had.
    pub(super) text_at: u64,
}

/// One for each name.
#[derive(Debug, Default)]
pub(super) struct Flights(HashTable<Flight>);

impl Flights {
    /// A read was asked; it takes the place of an earlier one of this name.
    #[inline]
    pub(super) fn begin(&mut self, name: u64, ticket: u64, text_at: u64) {
        let flight = Flight { name, ticket, text_at };
        match self.0.entry(name, |held| held.name == name, |held| held.name) {
            Entry::Occupied(mut held) => *held.get_mut() = flight,
            Entry::Vacant(place) => {
                place.insert(flight);
            }
        }
    }

    /// The one of this name.
    #[inline]
    pub(super) fn get(&self, name: u64) -> Option<Flight> {
        self.0.find(name, |held| held.name == name).copied()
    }

    /// That ticket's read is answered or lost, unless a later one has taken its name.
    #[inline]
    pub(super) fn end(&mut self, name: u64, ticket: u64) {
        if let Ok(held) = self.0.find_entry(name, |held| held.name == name && held.ticket == ticket)
        {
            held.remove();
        }
    }

    /// Nobody joins what was asked before.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name of a question's flight.
#[inline]
pub fn flight_name(question: &Question<'_>) -> u64 {
    let mut name = question.hash
        ^ (u64::from(question.command) << 40)
        ^ (u64::from(question.space.bits()) << 8)
        ^ u64::from(question.proto);
    if let Extra::Asked(request, from) = question.extra {
        for argument in request.from(from) {
            for &byte in argument {
                name = (name ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    name
}
