//! Hits with which more is done than to answer them: a few are held against what upstream has
//! ([`shadow`]), and a few have their key touched there ([`touch`]).
//!
//! In: the hits that are looked at anyway, one in `hotkeys.sample`, so that no other hit pays for
//! it. Out: what the two have chosen of them, asked for when the batch of requests is done.

use crate::cache::Question;
use crate::data::batch::Batch;
use crate::data::shadow::{self, Shadows};
use crate::data::touch::{self, Touches};
use crate::wire::write::Proto;
use std::cell::Cell;

/// What one worker has chosen.
#[derive(Debug, Default)]
pub struct Samples {
    /// To be held against what upstream has.
    pub shadows: Shadows,
    /// To be touched.
    pub touches: Touches,
    /// True if anything of this batch was chosen.
    is_any: Cell<bool>,
}

/// Chooses one hit in so many.
#[derive(Debug, Default)]
pub struct OneIn(Cell<u64>);

impl OneIn {
    /// True if it is this hit, which stands for `stands_for` of them; of `every` = 0 none is.
    pub fn is_it(&self, every: u64, stands_for: u64) -> bool {
        if every == 0 {
            return false;
        }
        let seen = self.0.get() + stands_for;
        let is_it = seen >= every;
        // What is over counts for the next, but not for more than one.
        self.0.set(if is_it { (seen - every).min(every) } else { seen });
        is_it
    }
}

/// A hit is looked at: it may be one of them.
#[cold]
pub fn look(proto: Proto, question: &Question<'_>, batch: &Batch<'_>) {
    let is_checked = shadow::choose(proto, question, batch);
    if touch::choose(proto, question, batch) || is_checked {
        batch.links.samples.is_any.set(true);
    }
}

/// Asks upstream about what was chosen in this batch.
#[inline]
pub fn ask(batch: &mut Batch<'_>) {
    if batch.links.samples.is_any.get() {
        ask_all(batch);
    }
}

#[cold]
fn ask_all(batch: &mut Batch<'_>) {
    batch.links.samples.is_any.set(false);
    shadow::ask(batch);
    touch::ask(batch);
}

#[cfg(test)]
mod tests {
    use super::OneIn;

    #[test]
    fn one_in_so_many_is_chosen_whatever_each_stands_for() {
        for (every, stands_for, chosen) in [
            (0, 16, 0),
            (1, 16, 1600),
            (16, 16, 1600),
            (100, 16, 256),
            (100, 1, 16),
            (40, 64, 1600),
        ] {
            let one_in = OneIn::default();
            let count = (0..1600).filter(|_| one_in.is_it(every, stands_for)).count();
            assert_eq!(count, chosen, "{every} {stands_for}");
        }
    }
}
