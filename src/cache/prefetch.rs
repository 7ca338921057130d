//! One instruction: have the processor fetch memory that will be read soon.
//!
//! Why it is worth the crate's only `unsafe`: entries lie all over the heap, so a hit waits for
//! the memory, and a pipeline of hits waits for one after the other. Fetched ahead, a pipeline's
//! waits overlap: a hit among 100,000 keys at random costs half, among a million a third
//! (`benches/store.rs`).

/// Asks for so many lines at `address`.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the prefetch instruction has no safe form")]
#[inline]
pub(super) fn prefetch(address: *const u8, lines: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in 0..lines {
        // SAFETY: a prefetch is a hint. It gives the program nothing to read and never faults,
        // whatever the address (Intel SDM, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(line * 64).cast()) };
    }
}

/// Elsewhere the processor's own guess has to do.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn prefetch(_: *const u8, _: usize) {}
