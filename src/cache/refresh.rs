//! Refresh-ahead: which hits have what they were served from read anew, before it ends.
//!
//! The share of its life before whose end that begins is drawn for each entry, as `XFetch` draws
//! it: `share * -ln(u)`, so that the proxies of a fleet, which filled it at the same time, do not
//! ask again at the same time.

use crate::cache::entry::Terms;
use crate::cache::{Cache, Policy, Question, View};
use crate::units::clock::Tick;
use std::hash::BuildHasher;
use std::time::Duration;

impl Cache {
    /// How long before its end something is read anew that lives for `lasts`, in nanoseconds.
    pub(super) fn lead(&self, hash: u64, asked_at: Tick, policy: &Policy, lasts: u64) -> u64 {
        if policy.refresh_ahead == 0 {
            return 0;
        }
        let drawn = u32::try_from(self.hasher.hash_one((hash, asked_at.0)) >> 32).unwrap_or(0);
        // From above 0 to 1.
        let unit = (f64::from(drawn) + 1.0) / (f64::from(u32::MAX) + 1.0);
        let share = f64::from(policy.refresh_ahead) / 1e6 * -unit.ln();
        let lead = Duration::from_nanos(lasts).mul_f64(share.min(1.0));
        u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX).min(lasts)
    }

    /// The right to read anew what a hit was served from ([`super::Lookup::Due`]): one has it, and
    /// of what was hit only once nobody. Answers when it was asked for ([`super::Token::renews`]).
    #[cold]
    pub fn claim_refresh(&self, question: &Question<'_>, view: &View) -> Option<Tick> {
        let claimed = self.store.look(question.hash, |entry| {
            let due = entry.find(question).filter(|due| due.judge(view) == Terms::Due)?;
            (entry.is_wanted() && due.claim_refresh()).then(|| due.asked_at())
        });
        claimed.flatten()
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::tests::{NOW, POLICY, SECOND, cache, get_at, question};
    use crate::cache::{Cache, Entry, Filled, Lookup, Policy, Question, Reply, Token};
    use crate::units::clock::Tick;

    const AHEAD: Policy = Policy { refresh_ahead: 500_000, max_staleness: u64::MAX, ..POLICY };

    /// The last moment of a life. Something is due there, but for one draw in four billion.
    const LAST: Tick = Tick(NOW.0 + POLICY.ttl - 1);

    fn fill(cache: &Cache, asked: &Question<'_>, token: &Token, value: &[u8]) -> Option<Entry> {
        match cache.fill(asked, token, &AHEAD, Reply::Bytes(value)) {
            Filled::Stored(entry) => Some(entry),
            _ => None,
        }
    }

    fn store(cache: &Cache, asked: &Question<'_>, value: &[u8]) {
        let token = cache.token(asked.hash, &AHEAD, NOW).unwrap();
        let entry = fill(cache, asked, &token, value).unwrap();
        assert!(cache.prove(asked.hash, &entry, &token, &AHEAD, -1));
    }

    fn look(cache: &Cache, asked: &Question<'_>, now: Tick) -> Lookup {
        cache.get(asked, &cache.view(now), |_| {})
    }

    /// Hits it until it is due, and claims the right to read it anew.
    fn claim(cache: &Cache, asked: &Question<'_>) -> Token {
        assert_eq!(look(cache, asked, LAST), Lookup::Due);
        assert_eq!(cache.claim_refresh(asked, &cache.view(LAST)), None, "hit once");
        assert_eq!(look(cache, asked, LAST), Lookup::Due);
        let renews = cache.claim_refresh(asked, &cache.view(LAST));
        assert!(renews.is_some());
        assert_eq!(cache.claim_refresh(asked, &cache.view(LAST)), None, "one has it");
        assert_eq!(look(cache, asked, LAST), Lookup::Hit);
        Token { renews, ..cache.token(asked.hash, &AHEAD, LAST).unwrap() }
    }

    #[test]
    fn the_same_reply_lives_on() {
        let cache = cache(1 << 20);
        let (asked, other) = (question(&cache, b"key"), question(&cache, b"key"));
        let other = Question { command: 2, ..other };
        store(&cache, &asked, b"value");
        store(&cache, &other, b"other");
        let token = claim(&cache, &asked);
        let entry = fill(&cache, &asked, &token, b"value").unwrap();
        assert_eq!(look(&cache, &asked, LAST), Lookup::Hit, "while its proof is awaited");
        assert!(cache.prove(asked.hash, &entry, &token, &AHEAD, -1));
        let later = Tick(LAST.0 + POLICY.ttl - 1);
        assert_eq!(get_at(&cache, &asked, later), Err(Lookup::Due));
        assert_eq!(look(&cache, &other, LAST), Lookup::Due, "each has its own life");
        assert_eq!(look(&cache, &asked, Tick(later.0 + 1)), Lookup::Miss);
    }

    #[test]
    fn another_reply_takes_its_place() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        store(&cache, &asked, b"old");
        let token = claim(&cache, &asked);
        let entry = fill(&cache, &asked, &token, b"new").unwrap();
        assert_eq!(look(&cache, &asked, LAST), Lookup::Miss);
        assert!(cache.prove(asked.hash, &entry, &token, &AHEAD, 5_000));
        let mut value: Vec<u8> = Vec::new();
        cache.get(&asked, &cache.view(LAST), |entry| value.extend(entry.as_ref()));
        assert_eq!(value, b"new");
        assert_eq!(look(&cache, &asked, Tick(LAST.0 + 5 * SECOND)), Lookup::Miss);
    }

    /// A refresh is a read like any other (R3).
    #[test]
    fn what_happens_meanwhile_refuses_it() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        store(&cache, &asked, b"old");
        let token = claim(&cache, &asked);
        cache.invalidate(asked.hash);
        assert!(fill(&cache, &asked, &token, b"old").is_none());
        assert_eq!(look(&cache, &asked, LAST), Lookup::Miss);
        // Between its value and its proof, too.
        store(&cache, &asked, b"old");
        let token = claim(&cache, &asked);
        let entry = fill(&cache, &asked, &token, b"old").unwrap();
        cache.invalidate(asked.hash);
        assert!(!cache.prove(asked.hash, &entry, &token, &AHEAD, -1));
        assert_eq!(look(&cache, &asked, LAST), Lookup::Miss);
        // Another than what it is to replace, it may not replace.
        store(&cache, &asked, b"old");
        let token = Token { renews: Some(LAST), ..claim(&cache, &asked) };
        assert!(fill(&cache, &asked, &token, b"new").is_none());
        assert_eq!(look(&cache, &asked, LAST), Lookup::Miss);
    }

    /// On average the share that is configured; and not all at once.
    #[test]
    fn leads_are_drawn() {
        let cache = cache(1 << 20);
        let policy = Policy { refresh_ahead: 200_000, ..POLICY };
        let leads: Vec<u64> =
            (0..10_000).map(|hash| cache.lead(hash, NOW, &policy, 1_000_000)).collect();
        let mean = leads.iter().sum::<u64>() / 10_000;
        assert!((190_000..210_000).contains(&mean), "{mean}");
        assert!(leads.iter().all(|lead| *lead <= 1_000_000));
        let early = leads.iter().filter(|lead| **lead > 200_000).count();
        assert!((3_300..4_100).contains(&early), "{early}");
        assert_eq!(cache.lead(1, NOW, &POLICY, 1_000_000), 0);
    }
}
