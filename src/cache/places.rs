//! What is remembered of keys in a table of fixed size: a word for all keys that share its place.
//!
//! In: bits of a key's hash, which say the place. Out: its word. What two keys of one place do to
//! each other is for each table to say.

use std::fmt;
use std::sync::atomic::AtomicU64;

/// `N` words; `N` is a power of two.
pub(super) struct Places<const N: usize>(Box<[AtomicU64]>);

impl<const N: usize> Default for Places<N> {
    fn default() -> Self {
        const { assert!(N.is_power_of_two()) };
        Self((0..N).map(|_| AtomicU64::new(0)).collect())
    }
}

impl<const N: usize> fmt::Debug for Places<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

impl<const N: usize> Places<N> {
    /// The word at the place that the lowest of these bits say; there always is one.
    #[inline]
    pub(super) fn at(&self, bits: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(bits & (N as u64 - 1)).ok()?)
    }
}
