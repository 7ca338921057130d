//! Keys that are written faster than they can be stored (R3): their fills are refused again and
//! again, each at the price of a PTTL and of whoever waits to join. For a while they are only
//! passed through.
//!
//! In: fills that were refused because something had happened to the key, and fills that held.
//! Out: whether the next read should try at all; asked on a miss only. A table of fixed size: two
//! keys of one place keep each other from being found, which costs a try.

use super::Cache;
use super::places::Places;
use crate::units::clock::Tick;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table: 32 KiB.
const PLACES: usize = 1 << 12;

/// So many fills refused in a [`SPAN`], and it may be written too often.
const REFUSED_MAX: u64 = 8;

/// And so many refused for each that held: what is stored now and then is hit until it is written
/// again.
const REFUSED_PER_HELD: u64 = 4;

/// In milliseconds: how long fills are counted before that is asked, and how long nothing is tried
/// then. (One write refuses all that is on its way: a moment says nothing.)
const SPAN: u32 = 1000;

/// A count that says that nothing is tried.
const HOT: u64 = 0xff;

/// Fills of keys that were refused lately.
#[derive(Debug, Default)]
pub(super) struct WriteHot(Places<PLACES>);

/// What a place holds: bits of a key's hash, how many of its fills were refused and held, since
/// when. Its parts are read and written together; of two threads that count at the same moment, one
/// may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    tag: u64,
    refused: u64,
    held: u64,
    /// In milliseconds, of which it keeps 49 days.
    since: u32,
}

impl Count {
    fn of(word: u64) -> Self {
        let since = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        Self { tag: word >> 48, refused: word >> 40 & 0xff, held: word >> 32 & 0xff, since }
    }

    fn word(self) -> u64 {
        self.tag << 48 | self.refused << 40 | self.held << 32 | u64::from(self.since)
    }

    fn lasted(self, now: u32) -> u32 {
        now.wrapping_sub(self.since)
    }

    fn is_too_often(self) -> bool {
        self.refused >= REFUSED_MAX && self.refused > self.held * REFUSED_PER_HELD
    }
}

impl WriteHot {
    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.0.at(hash >> 20)
    }

    /// True if a read of this key is only to be passed on.
    #[inline]
    pub(super) fn is_hot(&self, hash: u64, now: Tick) -> bool {
        let count = self.place(hash).map_or(0, |place| place.load(Ordering::Relaxed));
        let count = Count::of(count);
        count.refused == HOT && count.tag == tag(hash) && count.lasted(millis(now)) < SPAN
    }

    /// A fill that was asked for at `at` was refused.
    pub(super) fn refused(&self, hash: u64, at: Tick) {
        let (tag, at) = (tag(hash), millis(at));
        let Some(place) = self.place(hash) else {
            return;
        };
        let count = Count::of(place.load(Ordering::Relaxed));
        let lasted = count.lasted(at);
        let next = match count {
            // What was asked before nothing more was.
            Count { refused: HOT, .. } if lasted < SPAN => return,
            Count { refused: HOT, .. } => Count { tag, refused: 1, held: 0, since: at },
            _ if count.tag != tag || lasted >= 2 * SPAN => {
                Count { tag, refused: 1, held: 0, since: at }
            }
            _ if lasted < SPAN => Count { refused: (count.refused + 1).min(HOT - 1), ..count },
            _ if count.is_too_often() => Count { tag, refused: HOT, held: 0, since: at },
            _ => Count { tag, refused: 1, held: 0, since: at },
        };
        place.store(next.word(), Ordering::Relaxed);
    }

    /// A fill held.
    #[inline]
    pub(super) fn held(&self, hash: u64) {
        if let Some(place) = self.place(hash)
            && place.load(Ordering::Relaxed) != 0
        {
            count_held(place, hash);
        }
    }
}

impl Cache {
    /// True if fills of this key are refused so often that none is worth its price now (R3).
    pub fn is_write_hot(&self, hash: u64, now: Tick) -> bool {
        self.write_hot.is_hot(hash, now)
    }
}

#[cold]
fn count_held(place: &AtomicU64, hash: u64) {
    let count = Count::of(place.load(Ordering::Relaxed));
    if count.tag == tag(hash) && count.refused < HOT {
        let next = Count { held: (count.held + 1).min(HOT - 1), ..count };
        place.store(next.word(), Ordering::Relaxed);
    }
}

fn tag(hash: u64) -> u64 {
    hash >> 48
}

fn millis(at: Tick) -> u32 {
    u32::try_from((at.0 / 1_000_000) & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{REFUSED_MAX, REFUSED_PER_HELD, WriteHot};
    use crate::units::clock::Tick;

    const KEY: u64 = 0x1234_0000_0000_0000;
    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * SECOND)
    }

    /// Refused so often within one second.
    fn refuse(hot: &WriteHot, count: u64, second: u64) {
        (0..count).for_each(|_| hot.refused(KEY, at(second)));
    }

    #[test]
    fn what_is_refused_often_is_left_alone_for_a_while() {
        let hot = WriteHot::default();
        refuse(&hot, REFUSED_MAX, 5);
        assert!(!hot.is_hot(KEY, at(5)), "one write refuses all that is on its way");
        refuse(&hot, 1, 6);
        assert!(hot.is_hot(KEY, at(6)) && hot.is_hot(KEY, Tick(7 * SECOND - 1)));
        assert!(!hot.is_hot(KEY + (1 << 50), at(6)), "another key of the same place");
        // Neither what was asked before, nor another key, ends it or has it last longer.
        hot.refused(KEY, Tick(7 * SECOND - 1));
        hot.refused(KEY + (1 << 50), at(6));
        hot.held(KEY);
        assert!(hot.is_hot(KEY, Tick(7 * SECOND - 1)) && !hot.is_hot(KEY, at(7)));
        refuse(&hot, 1, 7);
        assert!(!hot.is_hot(KEY, at(7)), "it is tried again");
    }

    #[test]
    fn refusals_count_for_a_second_and_against_what_held() {
        let hot = WriteHot::default();
        for second in 10..20 {
            refuse(&hot, REFUSED_MAX - 1, second);
            assert!(!hot.is_hot(KEY, at(second)));
        }
        for second in 20..30 {
            refuse(&hot, 4 * REFUSED_PER_HELD, second);
            (0..4).for_each(|_| hot.held(KEY));
            assert!(!hot.is_hot(KEY, at(second)));
        }
        refuse(&hot, 100, 90);
        refuse(&hot, 1, 92);
        assert!(!hot.is_hot(KEY, at(92)), "long ago");
    }
}
