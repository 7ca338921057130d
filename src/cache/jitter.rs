//! Jitter: how much shorter something lives than its rule allows, so that what came together does
//! not go together.
//!
//! Invariant (R10): it only ever shortens a life, never beyond the share that the policy has.

use crate::cache::{Cache, Policy};
use crate::units::clock::Tick;
use std::hash::BuildHasher;

/// What the policy's share is told in.
const WHOLE: u128 = 1_000_000;

impl Cache {
    /// The longest local life of what was asked for now, in nanoseconds: up to `ttl_jitter` less
    /// than `ttl`, drawn for each fill.
    pub(super) fn longest(&self, hash: u64, asked_at: Tick, policy: &Policy) -> u64 {
        if policy.ttl_jitter == 0 {
            return policy.ttl;
        }
        // From 0 to below 2^32; the other half of the number is drawn for refresh-ahead.
        let drawn = self.hasher.hash_one((hash, asked_at.0)) & u64::from(u32::MAX);
        let share = u128::from(policy.ttl_jitter) * u128::from(drawn) / WHOLE;
        let less = (u128::from(policy.ttl) * share) >> 32;
        policy.ttl.saturating_sub(u64::try_from(less).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::Policy;
    use crate::cache::tests::{NOW, POLICY, cache};

    #[test]
    fn lives_are_shorter_by_up_to_the_share_and_never_longer() {
        let cache = cache(1 << 20);
        let lives = |ttl_jitter| {
            let policy = Policy { ttl_jitter, ..POLICY };
            let one = |key: u32| cache.longest(cache.hash(&key.to_be_bytes()), NOW, &policy);
            (0..1_000).map(one).collect::<Vec<_>>()
        };
        assert!(lives(0).iter().all(|life| *life == POLICY.ttl));
        let lives = lives(200_000);
        let (least, most) = (*lives.iter().min().unwrap(), *lives.iter().max().unwrap());
        assert!(least >= POLICY.ttl * 8 / 10 && most <= POLICY.ttl, "{least} {most}");
        // A thousand draws come close to both ends.
        assert!(least < POLICY.ttl * 81 / 100 && most > POLICY.ttl * 99 / 100, "{least} {most}");
        let all = Policy { ttl: u64::MAX, ttl_jitter: 900_000, ..POLICY };
        assert!(cache.longest(7, NOW, &all) >= u64::MAX / 10);
    }
}
