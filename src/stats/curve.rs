//! The miss-ratio curve of what is asked for now: what share of lookups a cache of any size would
//! answer. SHARDS (Waldspurger et al., FAST 2015), with a sample of bounded size.
//!
//! In: the hashes of lookups that lie below a threshold, so that a key is seen always or never;
//! and how many lookups there were in all. Of each, how many other sampled keys were asked for
//! since its key last was, divided by the share of keys that are sampled, is how many entries an
//! LRU must hold to answer it. Out: [`Curve::hit_ratio`].
//!
//! It knows of evictions only: what ends by its TTL, is invalidated or is not admitted misses all
//! the same. Memory is bounded: too many keys, or more lookups than can be looked at, lower the
//! threshold; it rises again when the keys have become few. Counts fade, and so do keys.

use foldhash::{HashMap, HashMapExt};

/// Sampled keys at most.
const KEYS_MAX: usize = 8192;

/// Moments until they are numbered anew.
const MOMENTS: usize = 4 * KEYS_MAX;

/// Distances are told apart by 1.1 %: so many steps to each doubling, of which there are 40.
const STEPS: f64 = 64.0;
const BUCKETS: usize = 40 * 64;

/// One key in 16 is sampled at most.
pub(super) const FIRST: u64 = u64::MAX / 16;

/// How often each moment of a sampled key lies: a Fenwick tree.
#[derive(Debug)]
struct Tree(Vec<u32>);

impl Tree {
    fn add(&mut self, at: usize, by: i32) {
        let mut node = at + 1;
        while let Some(cell) = self.0.get_mut(node) {
            *cell = cell.wrapping_add_signed(by);
            node += node & node.wrapping_neg();
        }
    }

    /// How many lie at or before `at`.
    fn upto(&self, at: usize) -> u32 {
        let (mut node, mut sum) = (at + 1, 0_u32);
        while node > 0 {
            sum = sum.wrapping_add(self.0.get(node).copied().unwrap_or(0));
            node &= node - 1;
        }
        sum
    }
}

/// The curve.
#[derive(Debug)]
pub(super) struct Curve {
    threshold: u64,
    /// When each sampled key was last asked for, in moments.
    last: HashMap<u64, usize>,
    tree: Tree,
    now: usize,
    /// Keys of an earlier moment were not asked for since the last [`Curve::fade`].
    faded: usize,
    /// Lookups by how many entries would have answered them.
    reused: Vec<f64>,
    /// Sampled lookups, and how many there should have been.
    seen: f64,
    expected: f64,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            threshold: FIRST,
            last: HashMap::new(),
            tree: Tree(vec![0; MOMENTS + 1]),
            now: 0,
            faded: 0,
            reused: vec![0.0; BUCKETS],
            seen: 0.0,
            expected: 0.0,
        }
    }
}

impl Curve {
    /// Hashes below are to be told.
    pub(super) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// One sampled lookup.
    pub(super) fn look(&mut self, hash: u64) {
        // The threshold may have sunk since.
        if hash >= self.threshold {
            return;
        }
        if self.now == MOMENTS {
            self.renumber();
        }
        self.seen += 1.0;
        if let Some(last) = self.last.insert(hash, self.now) {
            let since = self.held().saturating_sub(self.tree.upto(last));
            self.tree.add(last, -1);
            let entries = (f64::from(since) / self.share()).round() + 1.0;
            if let Some(cell) = self.reused.get_mut(bucket(entries)) {
                *cell += 1.0;
            }
        }
        self.tree.add(self.now, 1);
        self.now += 1;
        if self.last.len() > KEYS_MAX {
            self.thin(0.875);
        }
    }

    /// There were `count` lookups, of which all that lie below the threshold have been told.
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    pub(super) fn expect(&mut self, count: u64) {
        self.expected += count as f64 * self.share();
    }

    /// Samples only `part` of what it does.
    pub(super) fn thin(&mut self, part: f64) {
        let threshold = whole(float(self.threshold) * part).max(1);
        let kept = float(threshold) / float(self.threshold);
        self.threshold = threshold;
        let tree = &mut self.tree;
        self.last.retain(|hash, last| {
            let is_kept = *hash < threshold;
            if !is_kept {
                tree.add(*last, -1);
            }
            is_kept
        });
        self.scale(kept);
    }

    /// Half an age is over: counts are worth half, keys that were not asked for since the last
    /// time are forgotten, and if few are left more are sampled.
    pub(super) fn fade(&mut self) {
        let (faded, tree) = (self.faded, &mut self.tree);
        self.last.retain(|_, last| {
            let is_kept = *last >= faded;
            if !is_kept {
                tree.add(*last, -1);
            }
            is_kept
        });
        self.scale(0.5);
        if self.last.len() < KEYS_MAX / 4 && self.threshold < FIRST {
            let threshold = self.threshold.saturating_mul(2).min(FIRST);
            let grown = float(threshold) / float(self.threshold);
            self.threshold = threshold;
            self.scale(grown);
        }
        self.renumber();
        self.faded = self.now;
    }

    /// The share of lookups that an LRU of this many entries would answer; `None` before there
    /// was any.
    pub(super) fn hit_ratio(&self, entries: f64) -> Option<f64> {
        if self.expected < 1.0 {
            return None;
        }
        let place = entries.max(1.0).log2() * STEPS;
        let whole: f64 = self.reused.iter().take(bucket(entries)).sum();
        let last = self.reused.get(bucket(entries)).copied().unwrap_or(0.0);
        let hits = whole + last * place.fract();
        // The hottest keys are told too often or not at all: they hit in any cache (SHARDS-adj).
        let hot = self.expected - self.seen;
        Some(((hits + hot) / self.expected).clamp(0.0, 1.0))
    }

    /// The share of keys that is sampled.
    fn share(&self) -> f64 {
        float(self.threshold) / float(u64::MAX)
    }

    fn held(&self) -> u32 {
        u32::try_from(self.last.len()).unwrap_or(u32::MAX)
    }

    fn scale(&mut self, by: f64) {
        self.reused.iter_mut().for_each(|count| *count *= by);
        self.seen *= by;
        self.expected *= by;
    }

    /// The keys keep their order, and have the first moments again.
    fn renumber(&mut self) {
        let mut order: Vec<(usize, u64)> =
            self.last.iter().map(|(hash, last)| (*last, *hash)).collect();
        order.sort_unstable();
        self.faded = order.partition_point(|(last, _)| *last < self.faded);
        self.tree.0.fill(0);
        self.now = order.len();
        for (moment, (_, hash)) in order.into_iter().enumerate() {
            self.tree.add(moment, 1);
            self.last.insert(hash, moment);
        }
    }
}

fn bucket(entries: f64) -> usize {
    usize::try_from(whole(entries.max(1.0).log2() * STEPS))
        .map_or(BUCKETS, |at| at.min(BUCKETS - 1))
}

#[expect(clippy::cast_precision_loss, reason = "shares and estimates")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::{Curve, KEYS_MAX, MOMENTS, Tree};
    use crate::stats::trial::{Dice, Zipf, mixed};
    use foldhash::{HashMap, HashMapExt};

    /// Hits of an LRU by its size: exactly, from the whole trace.
    fn exact(trace: &[u64]) -> impl Fn(usize) -> f64 {
        let mut tree = Tree(vec![0; trace.len() + 1]);
        let (mut last, mut distances) = (HashMap::new(), Vec::new());
        for (at, key) in trace.iter().enumerate() {
            let held = last.len();
            if let Some(before) = last.insert(*key, at) {
                distances.push(held - tree.upto(before) as usize + 1);
                tree.add(before, -1);
            }
            tree.add(at, 1);
        }
        distances.sort_unstable();
        let all = trace.len() as f64;
        move |size| distances.partition_point(|need| *need <= size) as f64 / all
    }

    fn estimate(trace: &[u64]) -> Curve {
        let mut curve = Curve::default();
        for part in trace.chunks(10_000) {
            let hashes = part.iter().map(|key| mixed(*key + 1));
            let (mut sampled, threshold) = (0, curve.threshold());
            for hash in hashes.filter(|hash| *hash < threshold) {
                curve.look(hash);
                sampled += 1;
            }
            assert!(sampled < 10_000);
            curve.expect(part.len() as u64);
        }
        curve
    }

    /// The mean difference over 400 sizes up to twice the keys there are.
    fn error(trace: &[u64], keys: usize) -> f64 {
        let (exact, curve) = (exact(trace), estimate(trace));
        let sizes = (1..=400).map(|step| keys * step / 200);
        let differ = |size: usize| {
            let told = curve.hit_ratio(size as f64).unwrap();
            (told - exact(size)).abs()
        };
        sizes.map(differ).sum::<f64>() / 400.0
    }

    #[test]
    fn agrees_with_the_whole_trace() {
        let mut dice = Dice::new(11);
        let zipf = Zipf::new(200_000, 1.0);
        let draws: Vec<u64> = (0..600_000).map(|_| zipf.draw(&mut dice)).collect();
        let around = |keys: u64| (0..600_000_u64).map(move |at| at % keys);
        let looped: Vec<u64> = around(50_000).collect();
        // One read in three is of a scan that never comes back.
        let scanned: Vec<u64> = (0..).map(|at| at + 1_000_000).take(600_000).collect();
        let mixed: Vec<u64> = draws
            .iter()
            .zip(&scanned)
            .enumerate()
            .map(|(at, (drawn, scanned))| if at % 3 == 0 { *scanned } else { *drawn })
            .collect();
        // Half of it around and around: a step in the curve.
        let stepped: Vec<u64> = draws
            .iter()
            .zip(around(30_000))
            .enumerate()
            .map(|(at, (drawn, around))| if at % 2 == 0 { *drawn } else { around + 1_000_000 })
            .collect();
        for (name, trace, keys) in [
            ("zipf", &draws, 200_000),
            ("loop", &looped, 50_000),
            ("scan", &scanned, 100_000),
            ("zipf and scan", &mixed, 200_000),
            ("zipf and loop", &stepped, 200_000),
        ] {
            let error = error(trace, keys);
            println!("{name} {error}");
            assert!(error <= 0.02, "{name}: {error}");
        }
    }

    #[test]
    fn is_bounded_and_recovers() {
        let mut curve = Curve::default();
        assert_eq!(curve.hit_ratio(1.0), None);
        let first = curve.threshold();
        for key in 0..2_000_000 {
            curve.look(mixed(key));
            assert!(curve.last.len() <= KEYS_MAX && curve.now <= MOMENTS);
        }
        let low = curve.threshold();
        assert!(low < first / 8, "{low}");
        // The scan is over: its keys fade, and few are left.
        for _ in 0..8 {
            for key in 0..1_000 {
                curve.look(mixed(key));
            }
            curve.fade();
        }
        assert_eq!(curve.threshold(), first);
        assert!(curve.last.len() < 200, "{}", curve.last.len());
    }

    /// What is looked for between two fadings is not forgotten, and the old order holds.
    #[test]
    fn numbering_anew_changes_no_distance() {
        let mut curve = Curve::default();
        for _ in 0..3 * MOMENTS / 100 {
            for key in 1..=100 {
                // All below the threshold.
                curve.look(key);
            }
        }
        curve.fade();
        assert_eq!(curve.last.len(), 100);
        curve.expected = curve.seen;
        // Each comes back after the 99 others, of one key in sixteen.
        assert!(curve.hit_ratio(1_400.0).unwrap() < 0.01);
        assert!(curve.hit_ratio(1_800.0).unwrap() > 0.99);
    }
}
