//! What is kept past its time, and when it may be served all the same: where a rule says so, and
//! never what is known to be wrong.
//!
//! ```text
//!   UpstreamDown   for so long after its deadline, its lease, or the last barrier of a tracking
//!                  link that is lost, until the next one is confirmed (`stale_if_error`)
//!   Refreshing     for so long after its deadline, as long as its tracking link says nothing
//!                  (`grace`); not where upstream has ended it meanwhile
//! ```
//!
//! An invalidation removes what it names, and so does whatever a client was shown since; a clear
//! leaves nothing. Only what expires, and what is invalidated softly, is put out: the stripe is
//! bumped, so no older reply comes behind it, and it lies there for the two excuses above, until
//! the sweep, an eviction or the next fill takes it. It counts for nothing else.

use crate::cache::ban::{Strength, Verdict};
use crate::cache::{Cache, Entry, Question, View};
use crate::units::clock::Tick;
use std::sync::atomic::Ordering;

/// Why something is served past its time, and for how long, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Upstream cannot be reached.
    UpstreamDown(u64),
    /// It is being read anew.
    Refreshing(u64),
}

impl Cache {
    /// Looks up what is past its time and shows it to `serve` if `excuse` holds, as
    /// [`Cache::get`] does with a hit. True if it has been served.
    #[cold]
    pub fn get_stale(
        &self,
        question: &Question<'_>,
        view: &View,
        excuse: Excuse,
        mut serve: impl FnMut(&Entry),
    ) -> bool {
        let mut look = || {
            self.store.look(question.hash, |entry| {
                let found = entry.find(question)?;
                let is_checked = found.bans() >= view.bans;
                let is_served = is_checked && self.is_excused(found, view, excuse);
                if is_served {
                    entry.gain_use();
                    serve(found);
                }
                Some((is_checked, is_served))
            })
        };
        match look().flatten() {
            Some((false, _)) => {
                // Held against the bans, it is gone, put out, or spared.
                self.is_spared(question);
                look().flatten().is_some_and(|(_, is_served)| is_served)
            }
            Some((true, is_served)) => is_served,
            None => false,
        }
    }

    fn is_excused(&self, entry: &Entry, view: &View, excuse: Excuse) -> bool {
        match excuse {
            Excuse::UpstreamDown(span) => self.is_within(entry, view.now, span),
            Excuse::Refreshing(grace) => entry.is_in_grace(view, grace),
        }
    }

    /// True if it was as good as its rule promises not longer than `span` ago.
    fn is_within(&self, entry: &Entry, now: Tick, span: u64) -> bool {
        let good_until = if entry.is_tracked() {
            let synced_at = self.tracking.guarded_until(entry.epoch(), &self.epochs);
            synced_at.and_then(|synced_at| entry.good_until(synced_at))
        } else if entry.epoch() == self.epochs.read(false) {
            entry.good_until(now)
        } else {
            None
        };
        good_until.is_some_and(|good_until| now.0 < good_until.saturating_add(span))
    }

    /// True if what is no hit any more may still be served by an excuse.
    pub(super) fn keeps(&self, entry: &Entry, now: Tick) -> bool {
        entry.is_kept() && self.is_within(entry, now, self.keep.load(Ordering::Relaxed))
    }

    /// From `at` on nothing under `hash` is a hit, and every fill that was asked before is refused:
    /// as [`Cache::invalidate`], but what its rule keeps stays. True if there was something.
    pub(super) fn put_out(&self, hash: u64, at: Tick) -> bool {
        self.put_out_if(hash, at, |_| true)
    }

    /// The same, of an entry of which `is_it` says that it is the one that is meant; what else lies
    /// there is removed.
    fn put_out_if(&self, hash: u64, at: Tick, is_it: impl FnOnce(&Entry) -> bool) -> bool {
        self.store.generations().bump(hash);
        let put_out = |entry: &Entry| (entry.is_kept() && is_it(entry)).then(|| entry.put_out(at));
        match self.store.look(hash, put_out) {
            Some(Some(was_in)) => was_in,
            Some(None) => self.store.take(hash),
            None => false,
        }
    }

    /// Does what a verdict says to a key that was held last against ban `seen`, and counts it.
    pub(super) fn enforce(&self, hash: u64, key: &[u8], seen: u64, verdict: &Verdict) {
        let Verdict::Banned(ban, newest) = verdict else {
            self.invalidate(hash);
            return;
        };
        let is_removed = match ban.strength {
            Strength::Hard => self.invalidate(hash),
            Strength::Soft(at) => self.put_out_if(hash, at, |entry| {
                let is_it = entry.key() == key;
                if is_it {
                    entry.spare(seen, *newest);
                }
                is_it
            }),
        };
        if is_removed {
            self.bans.count(ban);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Excuse;
    use crate::cache::tests::{NOW, POLICY, SECOND, cache, get_at, question, sweep_all};
    use crate::cache::{Banned, Cache, Filled, Lookup, Policy, Question, Reply, Source, Strength};
    use crate::units::clock::Tick;

    /// Longer than any other time here but the life itself.
    const SPAN: u64 = 30 * SECOND;
    const GRACE: u64 = 10 * SECOND;
    const KEPT: Policy = Policy { keep: SPAN, grace: GRACE, ..POLICY };
    const UNTRACKED: Policy = Policy { tracked: false, max_staleness: u64::MAX, ..KEPT };

    fn at(nanos: u64) -> Tick {
        Tick(NOW.0 + nanos)
    }

    /// Stores a value whose end upstream is `pttl` milliseconds away.
    fn store(cache: &Cache, asked: &Question<'_>, policy: &Policy, value: &[u8], pttl: i64) {
        let token = cache.token(asked.hash, policy, NOW).unwrap();
        let Filled::Stored(entry) = cache.fill(asked, &token, policy, Reply::Bytes(value)) else {
            panic!("not stored");
        };
        assert!(cache.prove(asked.hash, &entry, &token, policy, pttl));
    }

    fn stale_at(cache: &Cache, asked: &Question<'_>, excuse: Excuse, now: Tick) -> Option<Vec<u8>> {
        let mut value = None;
        let view = cache.view(now);
        let show = |entry: &super::Entry| value = Some(entry.as_ref().to_vec());
        let is_served = cache.get_stale(asked, &view, excuse, show);
        assert_eq!(is_served, value.is_some());
        value
    }

    /// What is served while upstream is down.
    fn down_at(cache: &Cache, asked: &Question<'_>, now: Tick) -> Option<Vec<u8>> {
        stale_at(cache, asked, Excuse::UpstreamDown(SPAN), now)
    }

    /// What is served while it is read anew.
    fn grace_at(cache: &Cache, asked: &Question<'_>, now: Tick) -> Option<Vec<u8>> {
        stale_at(cache, asked, Excuse::Refreshing(GRACE), now)
    }

    #[test]
    fn what_has_expired_is_kept_for_so_long_and_no_hit() {
        let cache = cache(1 << 20);
        let (kept, other) = (question(&cache, b"kept"), question(&cache, b"other"));
        store(&cache, &kept, &UNTRACKED, b"value", -1);
        store(&cache, &other, &Policy { keep: 0, ..UNTRACKED }, b"value", -1);
        let end = at(POLICY.ttl);
        assert_eq!(get_at(&cache, &kept, end), Err(Lookup::Miss));
        assert_eq!(get_at(&cache, &other, end), Err(Lookup::Miss));
        assert_eq!(cache.figures().expired, 2);
        let last = Tick(end.0 + SPAN - 1);
        for now in [end, last] {
            sweep_all(&cache, now);
            assert_eq!(get_at(&cache, &kept, now), Err(Lookup::Miss));
            assert_eq!(down_at(&cache, &kept, now).unwrap(), b"value");
            assert_eq!(down_at(&cache, &other, now), None, "its rule keeps nothing");
        }
        assert_eq!(cache.figures().entries, 1);
        assert_eq!(down_at(&cache, &kept, Tick(last.0 + 1)), None);
        sweep_all(&cache, Tick(last.0 + 1));
        assert_eq!((cache.figures().entries, cache.figures().used_bytes), (0, 0));
    }

    /// The lease counts, where it ends before the life.
    #[test]
    fn the_span_begins_with_the_last_barrier() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        store(&cache, &asked, &KEPT, b"value", -1);
        let end = at(KEPT.max_staleness + SPAN);
        assert_eq!(get_at(&cache, &asked, end), Err(Lookup::Lease));
        assert_eq!(down_at(&cache, &asked, Tick(end.0 - 1)).unwrap(), b"value");
        assert_eq!(down_at(&cache, &asked, end), None);
        // The same once the link is lost, however often it is.
        cache.tracking_lost();
        cache.tracking_lost();
        assert_eq!(get_at(&cache, &asked, NOW), Err(Lookup::Miss));
        assert_eq!(down_at(&cache, &asked, Tick(end.0 - 1)).unwrap(), b"value");
        assert_eq!(down_at(&cache, &asked, end), None);
        // Barriers of the next link are none of its, and end it once they are confirmed.
        cache.tracking().synced(at(5 * SECOND));
        assert_eq!(down_at(&cache, &asked, end), None);
        sweep_all(&cache, NOW);
        assert_eq!(down_at(&cache, &asked, NOW).unwrap(), b"value");
        cache.tracking_up();
        assert_eq!(down_at(&cache, &asked, NOW), None);
        cache.tracking_lost();
        assert_eq!(down_at(&cache, &asked, NOW), None, "nor in the next outage");
        sweep_all(&cache, NOW);
        assert_eq!(cache.figures().entries, 0);
    }

    #[test]
    fn what_is_known_to_be_wrong_is_never_served() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"orders:1");
        let namespace = || Banned::Namespace(b"orders".as_slice().into());
        let wrongs: [&dyn Fn(); 6] = [
            &|| assert!(cache.invalidate(asked.hash)),
            &|| assert!(cache.invalidate_by(Source::Admin, asked.hash, Strength::Hard)),
            &|| drop(cache.ban(namespace(), Source::Admin)),
            &|| cache.clear(),
            // However soft what is said besides.
            &|| {
                cache.ban(namespace(), Source::Admin);
                cache.ban_all(vec![namespace()], Source::Admin, Strength::Soft(NOW));
            },
            &|| {
                cache.ban_all(vec![namespace()], Source::Admin, Strength::Soft(NOW));
                cache.invalidate_by(Source::Pubsub, asked.hash, Strength::Soft(NOW));
                cache.invalidate(asked.hash);
            },
        ];
        for (place, wrong) in wrongs.iter().enumerate() {
            for is_lost in [false, true] {
                store(&cache, &asked, &KEPT, b"value", -1);
                if is_lost {
                    cache.tracking_lost();
                }
                assert_eq!(down_at(&cache, &asked, NOW).unwrap(), b"value", "{place}");
                wrong();
                assert_eq!(down_at(&cache, &asked, NOW), None, "{place}, lost: {is_lost}");
                assert_eq!(grace_at(&cache, &asked, NOW), None, "{place}, lost: {is_lost}");
                cache.tracking_up();
                cache.invalidate(asked.hash);
            }
        }
    }

    #[test]
    fn a_soft_invalidation_ends_hits_and_refuses_fills() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"orders:1");
        let soon = at(SECOND / 2);
        let soft = Strength::Soft(soon);
        let by_key = || cache.invalidate_by(Source::Admin, asked.hash, soft);
        let by_ban = || {
            let pattern = Banned::Pattern(b"orders:*".as_slice().into());
            let ban = cache.ban_all(vec![pattern], Source::Admin, soft).remove(0);
            sweep_all(&cache, soon);
            ban.removed() == 1 && ban.is_settled()
        };
        let doors: [&dyn Fn() -> bool; 2] = [&by_key, &by_ban];
        for door in doors {
            let in_flight = cache.token(asked.hash, &KEPT, NOW).unwrap();
            store(&cache, &asked, &KEPT, b"old", -1);
            assert!(door());
            for now in [NOW, soon] {
                assert_eq!(get_at(&cache, &asked, now), Err(Lookup::Miss));
                assert_eq!(down_at(&cache, &asked, now).unwrap(), b"old");
                assert_eq!(grace_at(&cache, &asked, now).unwrap(), b"old");
            }
            assert_eq!(grace_at(&cache, &asked, Tick(soon.0 + GRACE)), None);
            assert_eq!(down_at(&cache, &asked, Tick(soon.0 + SPAN)), None);
            let filled = cache.fill(&asked, &in_flight, &KEPT, Reply::Bytes(b"older"));
            assert!(matches!(filled, Filled::Raced));
            assert_eq!(down_at(&cache, &asked, soon), None, "a client has seen another reply");
            // What is asked later is as good as any, though the bytes are others.
            store(&cache, &asked, &KEPT, b"old", -1);
            door();
            store(&cache, &asked, &KEPT, b"new", -1);
            assert_eq!(get_at(&cache, &asked, NOW).unwrap(), b"new");
            cache.invalidate(asked.hash);
        }
        // Where the rule keeps nothing, soft is hard.
        store(&cache, &asked, &POLICY, b"value", -1);
        assert!(by_key());
        assert_eq!(cache.figures().entries, 0);
    }

    /// Its reply may be of another request: only the proof says that it is not.
    #[test]
    fn what_waits_for_its_proof_is_never_served() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        let token = cache.token(asked.hash, &KEPT, NOW).unwrap();
        let filled = cache.fill(&asked, &token, &KEPT, Reply::Bytes(b"value"));
        let Filled::Stored(entry) = filled else { panic!("not stored") };
        assert_eq!(down_at(&cache, &asked, NOW), None);
        cache.invalidate_by(Source::Admin, asked.hash, Strength::Soft(NOW));
        assert_eq!(down_at(&cache, &asked, NOW), None);
        assert!(!cache.prove(asked.hash, &entry, &token, &KEPT, -1));
        assert_eq!(down_at(&cache, &asked, NOW), None);
        assert_eq!(cache.figures().entries, 0);
    }

    /// One that was asked before something expired would take its client back in time.
    #[test]
    fn an_older_reply_is_refused_when_what_it_lacks_has_expired() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        let old = cache.token(asked.hash, &UNTRACKED, NOW).unwrap();
        store(&cache, &asked, &UNTRACKED, b"new", -1);
        assert_eq!(get_at(&cache, &asked, at(POLICY.ttl)), Err(Lookup::Miss));
        let filled = cache.fill(&asked, &old, &UNTRACKED, Reply::Bytes(b"old"));
        assert!(matches!(filled, Filled::Raced));
    }

    #[test]
    fn a_grace_needs_all_that_a_hit_needs_but_time() {
        let cache = cache(1 << 20);
        let asked = question(&cache, b"key");
        let end = at(POLICY.ttl);
        let refused = |why: &str| assert_eq!(grace_at(&cache, &asked, end), None, "{why}");
        let millis = |nanos: u64| i64::try_from(nanos / 1_000_000).unwrap();
        for (pttl, has_grace) in [
            (-1, true),
            (millis(POLICY.ttl + GRACE), true),
            (millis(POLICY.ttl + GRACE) - 1, false),
            (millis(POLICY.ttl), false),
        ] {
            store(&cache, &asked, &KEPT, b"value", pttl);
            cache.tracking().synced(end);
            assert_eq!(get_at(&cache, &asked, end), Err(Lookup::Miss));
            assert_eq!(grace_at(&cache, &asked, end).is_some(), has_grace, "{pttl}");
            assert_eq!(grace_at(&cache, &asked, Tick(end.0 + GRACE)), None);
            cache.invalidate(asked.hash);
        }
        store(&cache, &asked, &KEPT, b"value", -1);
        let late = Tick(end.0 + KEPT.max_staleness + 1);
        assert_eq!(grace_at(&cache, &asked, late), None, "its lease is over");
        cache.tracking_lost();
        refused("its link is lost");
        cache.tracking_up();
        refused("and back");
    }

    #[test]
    fn all_variants_of_a_key_go_together() {
        let cache = cache(1 << 20);
        let key = question(&cache, b"hash");
        let other = Question { command: 2, ..key };
        store(&cache, &key, &KEPT, b"one", -1);
        store(&cache, &other, &KEPT, b"two", -1);
        cache.invalidate_by(Source::Admin, key.hash, Strength::Soft(NOW));
        assert_eq!(down_at(&cache, &key, NOW).unwrap(), b"one");
        assert_eq!(down_at(&cache, &other, NOW).unwrap(), b"two");
        store(&cache, &other, &KEPT, b"new", -1);
        assert_eq!(get_at(&cache, &key, NOW), Err(Lookup::Miss));
        assert_eq!(down_at(&cache, &key, NOW), None);
    }
}
