//! Who has been asked for lately: the doorkeeper of `admission = "second_hit"`.
//!
//! A key that is read once in a long while costs a PTTL and a place and gives nothing back. So its
//! first miss is a plain read; a second one, before the place in this table was taken by another
//! key, is filled.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

/// Places: 1 MiB. A place holds 32 bits of the last key that missed there.
const PLACES: usize = 1 << 18;

/// A direct-mapped table of fingerprints.
pub(super) struct Admission(Box<[AtomicU32]>);

impl Default for Admission {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU32::new(0)).collect())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl Admission {
    #[inline]
    pub(super) fn seen_before(&self, hash: u64) -> bool {
        let index = usize::try_from(hash & (PLACES as u64 - 1)).unwrap_or(0);
        let Some(place) = self.0.get(index) else {
            return false;
        };
        let fingerprint = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        if place.load(Ordering::Relaxed) == fingerprint {
            return true;
        }
        place.store(fingerprint, Ordering::Relaxed);
        false
    }
}
