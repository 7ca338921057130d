//! What a cache would do for the keys that it does not hold: for reads that a rule keeps out, by
//! namespace, the share that would be answered if they were kept for a second, ten, a minute, ten.
//!
//! In: of one key in sixteen, or fewer, every read, and every write that passes through here. Out:
//! [`Reuse::expected`]. Writes that reach the server by another way are not known, so what is
//! expected is an upper bound. Memory is bounded, as the [curve](super::curve)'s is.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::curve::FIRST;
use crate::units::clock::Tick;

/// For how long replies would be kept.
pub const TTLS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(10),
];

/// Sampled keys at most.
const KEYS_MAX: usize = 8192;

/// What is expected of a namespace whose keys are not cached.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Its name.
    pub namespace: String,
    /// Reads that were looked at.
    pub reads: f64,
    /// Of these, the share that would be hits, for each of [`TTLS`].
    pub hit_ratios: [f64; TTLS.len()],
}

#[derive(Debug)]
struct Space {
    name: String,
    reads: f64,
    hits: [f64; TTLS.len()],
}

/// When a key would have been stored, for each of [`TTLS`]; `None`: it would not be here.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    read_at: Tick,
    stored_at: [Option<Tick>; TTLS.len()],
}

/// What is known of keys that are not cached.
#[derive(Debug)]
pub(super) struct Reuse {
    threshold: u64,
    keys: HashMap<u64, Kept>,
    spaces: Vec<Space>,
    /// Of these at most.
    spaces_max: usize,
}

impl Reuse {
    /// Of at most so many namespaces.
    pub(super) fn new(spaces_max: usize) -> Self {
        Self { threshold: FIRST, keys: HashMap::new(), spaces: Vec::new(), spaces_max }
    }

    /// Hashes below are to be told.
    pub(super) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// A key of this namespace was read.
    pub(super) fn read(&mut self, hash: u64, namespace: &str, now: Tick) {
        // The threshold may have sunk since.
        if hash >= self.threshold {
            return;
        }
        let known = self.spaces.iter().position(|space| space.name == namespace);
        if known.is_none() && self.spaces.len() < self.spaces_max {
            let name = namespace.to_owned();
            self.spaces.push(Space { name, reads: 0.0, hits: [0.0; TTLS.len()] });
        }
        let place = known.unwrap_or_else(|| self.spaces.len() - 1);
        let Some(space) = self.spaces.get_mut(place) else { return };
        space.reads += 1.0;
        let kept = self.keys.entry(hash).or_default();
        kept.read_at = now;
        let stored = kept.stored_at.iter_mut().zip(TTLS);
        for ((stored, ttl), hits) in stored.zip(&mut space.hits) {
            if stored.is_some_and(|at| now.since(at) < ttl) {
                *hits += 1.0;
            } else {
                *stored = Some(now);
            }
        }
        if self.keys.len() > KEYS_MAX {
            self.threshold -= self.threshold / 8;
            let threshold = self.threshold;
            self.keys.retain(|hash, _| *hash < threshold);
        }
    }

    /// It was written: what was stored would be gone.
    pub(super) fn written(&mut self, hash: u64) {
        if let Some(kept) = self.keys.get_mut(&hash) {
            kept.stored_at = Default::default();
        }
    }

    /// Half an age is over: counts are worth half, and keys that were not read for long are
    /// forgotten; if few are left more are sampled.
    pub(super) fn fade(&mut self, now: Tick) {
        for space in &mut self.spaces {
            space.reads /= 2.0;
            space.hits.iter_mut().for_each(|hits| *hits /= 2.0);
        }
        self.spaces.retain(|space| space.reads >= 1.0);
        let [.., longest] = TTLS;
        self.keys.retain(|_, kept| now.since(kept.read_at) < longest);
        if self.keys.len() < KEYS_MAX / 4 {
            self.threshold = self.threshold.saturating_mul(2).min(FIRST);
        }
    }

    /// What is expected, in no order.
    pub(super) fn expected(&self) -> Vec<Expected> {
        let expected = self.spaces.iter().map(|space| Expected {
            namespace: space.name.clone(),
            reads: space.reads,
            hit_ratios: space.hits.map(|hits| hits / space.reads),
        });
        expected.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS_MAX, Reuse};
    use crate::stats::curve::FIRST;
    use crate::stats::trial::mixed;
    use crate::units::clock::Tick;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn each_time_to_live_has_its_hits_and_a_write_ends_them_all() {
        let mut reuse = Reuse::new(100);
        // Every five seconds, for a hundred: 20 reads.
        for at in 0..20 {
            reuse.read(1, "steady", Tick(at * 5 * SECOND));
            reuse.read(2, "written", Tick(at * 5 * SECOND));
            reuse.written(2);
        }
        let mut expected = reuse.expected();
        expected.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        let [steady, written] = &expected[..] else { panic!("{expected:?}") };
        // One second: none. Ten: every other. A minute: all but two. Ten: all but one.
        let told = steady.hit_ratios.map(|ratio| format!("{ratio:.2}"));
        assert_eq!(told, ["0.00", "0.50", "0.90", "0.95"]);
        assert!(written.hit_ratios.iter().all(|ratio| *ratio < 0.01), "{written:?}");
    }

    #[test]
    fn is_bounded_and_recovers() {
        let mut reuse = Reuse::new(100);
        for key in 0..1_000_000 {
            reuse.read(mixed(key), &format!("space{key}"), Tick(0));
        }
        assert!(reuse.keys.len() <= KEYS_MAX && reuse.spaces.len() == 100);
        assert!(reuse.threshold() < FIRST / 4);
        for round in 1..8 {
            reuse.fade(Tick(round * 600 * SECOND));
        }
        assert_eq!((reuse.keys.len(), reuse.threshold()), (0, FIRST));
    }
}
