//! The heaviest keys of a stream, in bounded memory: space-saving (Metwally et al., 2005), within
//! sets of eight.
//!
//! In: a key, its hash, and how much it weighs. Out: the keys that weighed most lately, each with
//! what it weighed at least. A newcomer to a full set takes the place of the lightest there and
//! inherits its weight, which is remembered as what may be wrong with it; so a heavy key is never
//! missed, and what a key is said to weigh at least is never too much.
//!
//! Not `heavykeeper`: it hashes the key again, its counts do not fade with time, and a key that
//! comes in is allocated. Here the lookup's own hash is the key's identity, and its bytes are
//! copied into a place that is there already: nothing is allocated after creation. Keys that are
//! longer than the place are cut.

/// Places of a set: one line of hashes.
const WAYS: usize = 8;

/// Bytes of a key that are kept.
pub const KEY_KEPT: usize = 120;

/// What weighs less is forgotten as it fades: a single unit, two half-lives ago.
const LEAST: f64 = 0.25;

/// Eight places; one without weight is free.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Set {
    hashes: [u64; WAYS],
    weights: [f64; WAYS],
    /// What each weight may be too large by.
    excess: [f64; WAYS],
}

/// What is kept of a key.
#[derive(Clone, Debug)]
struct Name {
    length: u32,
    memo: u16,
    bytes: [u8; KEY_KEPT],
}

impl Name {
    const EMPTY: Self = Self { length: 0, memo: 0, bytes: [0; KEY_KEPT] };

    fn set(&mut self, key: &[u8]) {
        self.length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        for (kept, byte) in self.bytes.iter_mut().zip(key) {
            *kept = *byte;
        }
    }

    fn kept(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(KEY_KEPT).min(KEY_KEPT);
        self.bytes.get(..length).unwrap_or_default()
    }
}

/// A key of the sketch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heavy<'s> {
    /// Its hash.
    pub(super) hash: u64,
    /// Its first [`KEY_KEPT`] bytes.
    pub(super) key: &'s [u8],
    /// How long it is.
    pub(super) length: u32,
    /// What it weighed at least.
    pub(super) weight: f64,
}

/// The sketch.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    sets: Box<[Set]>,
    names: Box<[Name]>,
    total: f64,
}

impl Sketch {
    /// Of at least `capacity` keys: up to the next power of two. One of none keeps nothing.
    pub(super) fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self::default();
        }
        let sets = capacity.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: vec![Set::default(); sets].into(),
            names: vec![Name::EMPTY; sets * WAYS].into(),
            total: 0.0,
        }
    }

    /// The key weighs `weight` more. Answers the memo of a key that is known; `memo` is asked for
    /// that of a new one. `None` if nothing is kept.
    #[inline]
    pub(super) fn add(
        &mut self,
        hash: u64,
        key: &[u8],
        weight: f64,
        memo: impl FnOnce() -> u16,
    ) -> Option<u16> {
        self.total += weight;
        // Not the bits by which a lookup is chosen for the curve, nor those of the store's table.
        let at = usize::try_from(hash >> 20).unwrap_or(0) & self.sets.len().wrapping_sub(1);
        let set = self.sets.get_mut(at)?;
        let way = set.hashes.iter().position(|known| *known == hash);
        if let Some(way) = way
            && let Some(held) = set.weights.get_mut(way)
            && *held > 0.0
        {
            *held += weight;
            return self.names.get(at * WAYS + way).map(|name| name.memo);
        }
        let lightest = set.weights.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let (way, inherited) = lightest.map(|(way, weight)| (way, *weight))?;
        *set.hashes.get_mut(way)? = hash;
        *set.weights.get_mut(way)? = inherited + weight;
        *set.excess.get_mut(way)? = inherited;
        let name = self.names.get_mut(at * WAYS + way)?;
        name.set(key);
        name.memo = memo();
        Some(name.memo)
    }

    /// What everything weighed is worth `factor` of what it was.
    pub(super) fn fade(&mut self, factor: f64) {
        self.total *= factor;
        for set in &mut self.sets {
            for (weight, excess) in set.weights.iter_mut().zip(&mut set.excess) {
                *weight *= factor;
                *excess *= factor;
                if *weight < LEAST {
                    (*weight, *excess) = (0.0, 0.0);
                }
            }
        }
    }

    /// What all keys weighed together, those that are not kept included.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// The keys that are kept, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Heavy<'_>> {
        let places = self.sets.iter().flat_map(|set| {
            let weights = set.weights.iter().zip(&set.excess);
            set.hashes.iter().zip(weights)
        });
        let held = places.zip(&self.names).filter(|((_, (weight, _)), _)| **weight > 0.0);
        held.map(|((hash, (weight, excess)), name)| Heavy {
            hash: *hash,
            key: name.kept(),
            length: name.length,
            weight: weight - excess,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY_KEPT, Sketch};
    use crate::stats::trial::{Dice, Zipf, mixed};
    use foldhash::{HashMap, HashMapExt};

    fn heaviest(sketch: &Sketch, count: usize) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = sketch.keys().map(|key| (key.weight, key.key.to_vec())).collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0));
        keys.into_iter().take(count).map(|(_, key)| key).collect()
    }

    /// The true twenty most read of a million keys, sampled as a worker samples.
    #[test]
    fn the_top_twenty_of_a_million_are_found() {
        let (zipf, mut dice) = (Zipf::new(1_000_000, 1.0), Dice::new(7));
        let mut sketch = Sketch::new(1000);
        let mut found = 0;
        for _ in 0..5 {
            for _ in 0..100_000 {
                let rank = zipf.draw(&mut dice);
                let key = format!("product:{rank}");
                sketch.add(mixed(rank), key.as_bytes(), 1.0, || 0);
            }
            let top = heaviest(&sketch, 20);
            let is_true = |rank: &u64| top.contains(&format!("product:{rank}").into_bytes());
            found += (0..20).filter(is_true).count();
            sketch.fade(0.5);
        }
        let recall = f64::from(u32::try_from(found).unwrap()) / 100.0;
        assert!(recall >= 0.95, "{recall}");
        assert_eq!(sketch.keys().count(), 1024);
    }

    #[test]
    fn what_is_said_to_weigh_at_least_is_never_too_much() {
        let (zipf, mut dice) = (Zipf::new(10_000, 0.8), Dice::new(3));
        let mut sketch = Sketch::new(64);
        let mut truth = HashMap::<Vec<u8>, f64>::new();
        for _ in 0..50_000 {
            let rank = zipf.draw(&mut dice);
            let key = rank.to_be_bytes().to_vec();
            sketch.add(mixed(rank), &key, 2.0, || 0);
            *truth.entry(key).or_default() += 2.0;
        }
        for key in sketch.keys() {
            assert!(key.weight > 0.0 && key.weight <= truth[key.key], "{key:?}");
        }
        assert!((sketch.total() - 100_000.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_asked_for_any_more_makes_room() {
        let mut sketch = Sketch::new(8);
        sketch.add(1, b"old", 100.0, || 5);
        assert_eq!(sketch.add(1, b"old", 1.0, || 6), Some(5), "asked for once");
        for _ in 0..8 {
            sketch.fade(0.5);
        }
        assert_eq!(sketch.keys().count(), 1);
        sketch.fade(0.5);
        assert_eq!(sketch.keys().count(), 0);
        assert_eq!(sketch.add(1, b"old", 1.0, || 7), Some(7), "a stranger again");
    }

    #[test]
    fn a_long_key_is_cut_and_a_sketch_of_nothing_keeps_nothing() {
        let mut sketch = Sketch::new(1);
        sketch.add(9, &[b'x'; 500], 1.0, || 0);
        let key = sketch.keys().next().unwrap();
        assert_eq!((key.key.len(), key.length), (KEY_KEPT, 500));
        let mut none = Sketch::new(0);
        assert_eq!(none.add(9, b"x", 1.0, || 0), None);
        assert_eq!(none.keys().count(), 0);
    }
}
