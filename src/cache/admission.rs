//! Who has been asked for lately: the doorkeeper of `admission = "second_hit"`.
//!
//! A key that is read once in a long while costs a PTTL and a place and gives nothing back. So its
//! first miss is a plain read; a second one, before the place in this table was taken by another
//! key, is filled.

use super::places::Places;
use std::sync::atomic::Ordering;

/// Places: 1 MiB. A place holds 32 bits each of the last two keys that missed there: with one, two
/// keys that are read in turn would put each other out for ever.
const PLACES: usize = 1 << 17;

/// A table of fingerprints, two to a place, the younger in the low half.
#[derive(Debug, Default)]
pub(super) struct Admission(Places<PLACES>);

impl Admission {
    #[inline]
    pub(super) fn seen_before(&self, hash: u64) -> bool {
        let Some(place) = self.0.at(hash) else {
            return false;
        };
        let fingerprint = hash >> 32 | 1;
        let known = place.load(Ordering::Relaxed);
        if known >> 32 == fingerprint || known & u64::from(u32::MAX) == fingerprint {
            return true;
        }
        place.store(known << 32 | fingerprint, Ordering::Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, PLACES};

    #[test]
    fn keys_read_in_turn_are_let_in() {
        let admission = Admission::default();
        let keys = [5, 5 + (1 << 40), 6 + PLACES as u64];
        assert!(keys.iter().all(|key| !admission.seen_before(*key)));
        assert!(keys.iter().all(|key| admission.seen_before(*key)));
    }
}
