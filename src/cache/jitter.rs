//! Jitter: how much shorter something lives than its rule allows, so that what came together does
//! not go together.
//!
//! Invariant (R10): it only ever shortens a life, never beyond the share that the policy has.

use crate::cache::{Cache, Policy};
use crate::units::clock::Tick;

/// What the policy's share is told in.
const WHOLE: u64 = 1_000_000;

/// Odd, and without a pattern (2^64 by the golden ratio): a product's high bits depend on all of a
/// number's.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Cache {
    /// The longest local life of what was asked for now, in nanoseconds: up to `ttl_jitter` less
    /// than `ttl`, drawn for each fill from the seeded hash of its key and the time.
    #[inline]
    pub(super) fn longest(hash: u64, asked_at: Tick, policy: &Policy) -> u64 {
        // From 0 to below 2^32.
        let drawn = (hash ^ asked_at.0.wrapping_mul(MIX)).wrapping_mul(MIX) >> 32;
        let share = (u64::from(policy.ttl_jitter) * drawn) >> 32;
        policy.ttl - policy.ttl / WHOLE * share
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::tests::{NOW, POLICY, cache};
    use crate::cache::{Cache, Policy};

    #[test]
    fn lives_are_shorter_by_up_to_the_share_and_never_longer() {
        let cache = cache(1 << 20);
        let lives = |ttl_jitter| {
            let policy = Policy { ttl_jitter, ..POLICY };
            let one = |key: u32| Cache::longest(cache.hash(&key.to_be_bytes()), NOW, &policy);
            (0..1_000).map(one).collect::<Vec<_>>()
        };
        assert!(lives(0).iter().all(|life| *life == POLICY.ttl));
        let lives = lives(200_000);
        let (least, most) = (*lives.iter().min().unwrap(), *lives.iter().max().unwrap());
        assert!(least >= POLICY.ttl * 8 / 10 && most <= POLICY.ttl, "{least} {most}");
        // A thousand draws come close to both ends.
        assert!(least < POLICY.ttl * 81 / 100 && most > POLICY.ttl * 99 / 100, "{least} {most}");
        let all = Policy { ttl: u64::MAX, ttl_jitter: 900_000, ..POLICY };
        assert!(Cache::longest(7, NOW, &all) >= u64::MAX / 10);
    }
}
