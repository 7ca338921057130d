//! Replies of one key that are of one moment (`whole_key`).
//!
//! A change that two replies of a key show may be seen in the one, read after it, while the other,
//! stored before it, is still a hit: the push is on its way. So where a rule asks for it, a reply
//! that joins others of its key suspends them, and itself, until a barrier has passed that was
//! wanted when it came: what it shows has then been told of, and has removed what is older.
//!
//! Which barrier that is, is remembered by place, not by entry: two keys of one place only wait
//! for each other's.

use super::places::Places;
use super::{Cache, Question};
use crate::cache::entry::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of the table: 32 KiB.
const PLACES: usize = 1 << 12;

/// The rounds that suspended replies wait for.
#[derive(Debug, Default)]
pub(super) struct Suspended(Places<PLACES>);

impl Suspended {
    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.0.at(hash >> 20)
    }
}

impl Cache {
    /// A reply has come that joins `chain`: these are no hits before the next barrier. Under the
    /// lock of their place.
    pub(super) fn suspend(&self, hash: u64, chain: &Entry) {
        let round = self.tracking.rounds.want();
        if let Some(place) = self.suspended.place(hash) {
            place.fetch_max(round, Ordering::SeqCst);
        }
        chain.chain().for_each(Entry::suspend);
    }

    /// True if what is suspended need not be any more, and is not.
    #[cold]
    pub(super) fn resumes(&self, question: &Question<'_>) -> bool {
        let passed = self.tracking.last_passed();
        let is_over = |place: &AtomicU64| place.load(Ordering::SeqCst) <= passed;
        let resume = |entry: &Entry| {
            // Under the lock: else a reply that joins them now would be overlooked.
            let is_over = self.suspended.place(question.hash).is_some_and(is_over);
            if let Some(found) = entry.find(question).filter(|_| is_over) {
                found.resume();
            }
            is_over
        };
        self.store.look(question.hash, resume) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::tests::{NOW, POLICY, cache, question};
    use crate::cache::{Cache, Entry, Extra, Filled, Lookup, Policy, Question, Reply};

    const WHOLE: Policy = Policy { whole_key: true, ..POLICY };
    const FIELDS: [&[u8]; 2] = [b"\x01\0\0\0a", b"\x01\0\0\0b"];

    fn field<'q>(asked: &Question<'q>, name: &'q [u8]) -> Question<'q> {
        Question { extra: Extra::Written(name), ..*asked }
    }

    fn fill(cache: &Cache, asked: &Question<'_>) -> Entry {
        let token = cache.token(asked.hash, &WHOLE, NOW).unwrap();
        match cache.fill(asked, &token, &WHOLE, Reply::Bytes(b"v")) {
            Filled::Stored(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn prove(cache: &Cache, asked: &Question<'_>, entry: &Entry) {
        let token = cache.token(asked.hash, &WHOLE, NOW).unwrap();
        assert!(cache.prove(asked.hash, entry, &token, &WHOLE, -1));
    }

    fn look(cache: &Cache, asked: &Question<'_>) -> Lookup {
        cache.get(asked, &cache.view(NOW), |_| {})
    }

    /// A barrier that begins now.
    fn pass(cache: &Cache) {
        let round = cache.tracking().begin_round();
        cache.tracking().passed(round);
    }

    #[test]
    fn what_joins_others_is_served_with_them_behind_a_barrier() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"k");
        let [a, b] = FIELDS.map(|name| field(&asked, name));
        let first = fill(&cache, &a);
        prove(&cache, &a, &first);
        assert_eq!(look(&cache, &a), Lookup::Hit, "alone there is nothing to wait for");
        let second = fill(&cache, &b);
        assert_eq!(look(&cache, &a), Lookup::Miss, "before the other is proved");
        prove(&cache, &b, &second);
        assert_eq!([look(&cache, &a), look(&cache, &b)], [Lookup::Miss; 2]);
        // The same reply again proves nothing of the other.
        prove(&cache, &a, &fill(&cache, &a));
        assert_eq!(look(&cache, &a), Lookup::Miss);
        pass(&cache);
        assert_eq!([look(&cache, &a), look(&cache, &b)], [Lookup::Hit; 2]);
    }

    #[test]
    fn what_was_not_proved_yet_waits_too() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"k");
        let [a, b] = FIELDS.map(|name| field(&asked, name));
        let (first, second) = (fill(&cache, &a), fill(&cache, &b));
        prove(&cache, &a, &first);
        prove(&cache, &b, &second);
        assert_eq!([look(&cache, &a), look(&cache, &b)], [Lookup::Miss; 2]);
        pass(&cache);
        assert_eq!([look(&cache, &a), look(&cache, &b)], [Lookup::Hit; 2]);
    }
}
