//! Keys that are written faster than they can be stored (R3): their fills are refused again and
//! again, each at the price of a PTTL and of whoever waits to join. For a while they are only
//! passed through.
//!
//! In: fills that were refused because something had happened to the key, and fills that held.
//! Out: whether the next read should try at all; asked on a miss only. A table of fixed size: two
//! keys of one place keep each other from being found, which costs a try.

use super::Cache;
use crate::units::clock::Tick;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table: 32 KiB.
const PLACES: usize = 1 << 12;

/// So many fills more refused than held, within [`SPAN`], and it is written too often.
const REFUSED_MAX: u64 = 8;

/// In milliseconds: how far back refused fills count, and how long nothing is tried then.
const SPAN: u64 = 1000;

/// A count that says that nothing is tried.
const HOT: u64 = 0xff;

/// Fills of keys that were refused lately.
pub(super) struct WriteHot(Box<[AtomicU64]>);

impl Default for WriteHot {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl fmt::Debug for WriteHot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHot").finish_non_exhaustive()
    }
}

/// What a place holds: bits of a key's hash, how many fills were refused, since when. Its parts
/// are read and written together; of two threads that count at the same moment, one may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    tag: u64,
    refused: u64,
    /// In milliseconds.
    since: u64,
}

impl Count {
    fn of(word: u64) -> Self {
        Self { tag: word >> 48, refused: word >> 40 & 0xff, since: word & TIME }
    }

    fn word(self) -> u64 {
        self.tag << 48 | self.refused << 40 | self.since
    }

    fn is_over(self, now: u64) -> bool {
        // What was asked a little before is no new beginning.
        let past = now.wrapping_sub(self.since) & TIME;
        (SPAN..=TIME / 2).contains(&past)
    }
}

/// 34 years.
const TIME: u64 = (1 << 40) - 1;

impl WriteHot {
    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.0.get((hash >> 20 & (PLACES as u64 - 1)) as usize)
    }

    /// True if a read of this key is only to be passed on.
    #[inline]
    pub(super) fn is_hot(&self, hash: u64, now: Tick) -> bool {
        let count = self.place(hash).map_or(0, |place| place.load(Ordering::Relaxed));
        let count = Count::of(count);
        count.refused == HOT && count.tag == tag(hash) && !count.is_over(millis(now))
    }

    /// A fill that was asked for at `at` was refused.
    pub(super) fn refused(&self, hash: u64, at: Tick) {
        let (tag, at) = (tag(hash), millis(at));
        let Some(place) = self.place(hash) else {
            return;
        };
        let count = Count::of(place.load(Ordering::Relaxed));
        let next = match count {
            _ if count.is_over(at) => Count { tag, refused: 1, since: at },
            // What was asked before nothing more was.
            Count { refused: HOT, .. } => return,
            _ if count.tag != tag => Count { tag, refused: 1, since: at },
            Count { refused, .. } if refused + 1 >= REFUSED_MAX => {
                Count { tag, refused: HOT, since: at }
            }
            Count { refused, since, .. } => Count { tag, refused: refused + 1, since },
        };
        place.store(next.word(), Ordering::Relaxed);
    }

    /// A fill held: for one that was refused.
    pub(super) fn held(&self, hash: u64) {
        let Some(place) = self.place(hash) else {
            return;
        };
        let count = Count::of(place.load(Ordering::Relaxed));
        if count.tag == tag(hash) && (1..HOT).contains(&count.refused) {
            let next = Count { refused: count.refused - 1, ..count };
            place.store(next.word(), Ordering::Relaxed);
        }
    }
}

impl Cache {
    /// True if fills of this key are refused so often that none is worth its price now (R3).
    pub fn is_write_hot(&self, hash: u64, now: Tick) -> bool {
        self.write_hot.is_hot(hash, now)
    }
}

fn tag(hash: u64) -> u64 {
    hash >> 48
}

fn millis(at: Tick) -> u64 {
    (at.0 / 1_000_000) & TIME
}

#[cfg(test)]
mod tests {
    use super::{REFUSED_MAX, WriteHot};
    use crate::units::clock::Tick;

    const KEY: u64 = 0x1234_0000_0000_0000;
    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * SECOND)
    }

    #[test]
    fn what_is_refused_often_is_left_alone_for_a_while() {
        let hot = WriteHot::default();
        for _ in 0..REFUSED_MAX {
            assert!(!hot.is_hot(KEY, at(5)));
            hot.refused(KEY, at(5));
        }
        assert!(hot.is_hot(KEY, at(5)) && hot.is_hot(KEY, Tick(6 * SECOND - 1)));
        assert!(!hot.is_hot(KEY + (1 << 50), at(5)), "another key of the same place");
        // Neither what was asked before, nor another key, ends it or has it last longer.
        hot.refused(KEY, Tick(6 * SECOND - 1));
        hot.refused(KEY + (1 << 50), at(5));
        hot.held(KEY);
        assert!(hot.is_hot(KEY, Tick(6 * SECOND - 1)) && !hot.is_hot(KEY, at(6)));
    }

    #[test]
    fn refusals_count_for_a_second_and_against_what_held() {
        let hot = WriteHot::default();
        for second in 0..4 * REFUSED_MAX {
            hot.refused(KEY, at(second));
            assert!(!hot.is_hot(KEY, at(second)));
        }
        for _ in 0..4 * REFUSED_MAX {
            hot.refused(KEY, at(99));
            hot.held(KEY);
            assert!(!hot.is_hot(KEY, at(99)));
        }
    }
}
