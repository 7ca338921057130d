//! What one worker notes of single lookups, for a few of them.
//!
//! One in `hotkeys.sample`, by a die, is counted for its namespace and its rule as so many, and its
//! key goes into three sketches: by reads, by bytes, by misses. And of every lookup whose key's
//! hash lies below a threshold, the hash goes into a list, which the main thread takes away for
//! the [curve](super::curve).
//!
//! A lookup that is not chosen costs a count down and a comparison. The die is not a plain
//! turn-counter: a client that repeats a pipeline of sixteen commands would always be sampled at
//! the same one. One thread writes; a reader may hold a lock for as long as it copies, and what is
//! chosen meanwhile is left out of the sketches. The worker allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::HotKeys;
use super::ages::Ages;
use super::curve::FIRST;
use super::namespaces::{Counts, Named, Namespaces};
use super::sketch::Sketch;
use crate::keys::namespace;

/// Rules that are told apart; those behind share the last place.
pub(super) const RULES_MAX: usize = 256;

/// Hashes that wait for the main thread at most.
const TOLD_MAX: usize = 16 * 1024;

/// Of those that are kept out of the cache.
const PASSED_MAX: usize = 4 * 1024;

/// What a reply weighs: at least this, and smaller ones as often as it takes to be right.
const BYTES_UNIT: u64 = 1024;

/// A lookup, as far as it is told of one that is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Look<'k> {
    /// The client's key.
    pub key: &'k [u8],
    /// The index of its rule.
    pub rule: u16,
    /// Bytes of the reply, if it is here.
    pub bytes: usize,
    /// How old the reply is, if it is here and that is known.
    pub age: Option<Duration>,
}

/// What became of a read of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The cache answered it.
    Hit,
    /// The cache was asked and could not.
    Miss,
    /// Its rule keeps it out of the cache.
    Passed,
}

/// Reads by their [`Seen`], then bytes of replies.
pub type Tally = [u64; 4];

/// By what keys are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Lookups.
    Reads,
    /// Bytes of replies.
    Bytes,
    /// Lookups that the cache did not answer.
    Misses,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reads, Self::Bytes, Self::Misses];

    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Bytes => "bytes",
            Self::Misses => "misses",
        }
    }

    /// What a weight of one stands for, if one in `sample` is looked at: lookups, or bytes.
    pub(super) fn unit(self, sample: u64) -> u64 {
        sample * if self == Self::Bytes { BYTES_UNIT } else { 1 }
    }
}

/// The sketches.
#[derive(Debug, Default)]
struct Heat([Sketch; By::ALL.len()]);

impl Heat {
    fn new(capacity: usize) -> Self {
        Self(std::array::from_fn(|_| Sketch::new(capacity)))
    }

    #[inline]
    fn add(
        &mut self,
        by: By,
        (hash, key): (u64, &[u8]),
        weight: f64,
        memo: impl FnOnce() -> u16,
    ) -> Option<u16> {
        self.0.get_mut(by as usize)?.add(hash, key, weight, memo)
    }
}

/// Hashes for the curve.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// In the order of their lookups.
    pub(super) hashes: Vec<u64>,
    /// How many there was no room for.
    pub(super) lost: u64,
    /// What happened to keys that are kept out of the cache, as far as there was room.
    pub(super) passed: Vec<(u64, Passed)>,
}

/// What happened to a key that may be kept out of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It was read; where its namespace is.
    Read(u16),
    /// It was written.
    Written,
}

/// One worker's notes.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Lookups until the next one that is looked at.
    gap: AtomicU64,
    /// One lookup in this many is looked at. Read of the chosen ones only.
    sample: AtomicU64,
    /// What that was when the gap was drawn.
    drawn: AtomicU64,
    /// Hashes below are told.
    threshold: AtomicU64,
    /// The same, for keys that are kept out of the cache.
    passed_below: AtomicU64,
    die: AtomicU64,
    told: Mutex<Told>,
    heat: Mutex<Heat>,
    namespaces: Namespaces,
    rules: Box<[Counts]>,
    pub(super) ages: Ages,
}

impl Sampler {
    /// Of a writer that looks nothing up, or of one that does. `named` are the namespaces that it
    /// tells apart.
    pub(super) fn new(hot_keys: Option<HotKeys>, named: &Named) -> Self {
        let heat = hot_keys.map_or_else(Heat::default, |hot| Heat::new(hot.capacity));
        let room = if hot_keys.is_some() { TOLD_MAX } else { 0 };
        let sample = hot_keys.unwrap_or_default().sample;
        Self {
            gap: AtomicU64::new(sample / 2),
            sample: AtomicU64::new(sample),
            drawn: AtomicU64::new(sample),
            threshold: AtomicU64::new(if room > 0 { FIRST } else { 0 }),
            passed_below: AtomicU64::new(if room > 0 { FIRST } else { 0 }),
            die: AtomicU64::new(0),
            told: Mutex::new(Told {
                hashes: Vec::with_capacity(room),
                lost: 0,
                passed: Vec::with_capacity(room.min(PASSED_MAX)),
            }),
            heat: Mutex::new(heat),
            namespaces: Namespaces::new(named),
            rules: (0..RULES_MAX).map(|_| Counts::default()).collect(),
            ages: Ages::default(),
        }
    }

    /// Empty sketches. What is looked up meanwhile is left out of them.
    pub(super) fn begin_anew(&self, hot_keys: HotKeys) {
        let fresh = Heat::new(hot_keys.capacity);
        let mut heat = self.heat.lock();
        self.sample.store(hot_keys.sample, Ordering::Relaxed);
        *heat = fresh;
    }

    /// One lookup of the key with this hash; `look` is asked for more if it is chosen.
    #[inline]
    pub(super) fn lookup<'k>(&self, hash: u64, fate: Seen, look: impl Fn() -> Look<'k>) {
        if fate == Seen::Passed {
            if hash < self.passed_below.load(Ordering::Relaxed) {
                let place = self.namespaces.place(namespace(look().key));
                self.tell_passed(hash, Passed::Read(place));
            }
        } else if hash < self.threshold.load(Ordering::Relaxed) {
            self.tell(hash);
        }
        if self.is_chosen() {
            self.note(hash, fate, look());
        }
    }

    /// The key with this hash was written.
    #[inline]
    pub(super) fn written(&self, hash: u64) {
        if hash < self.passed_below.load(Ordering::Relaxed) {
            self.tell_passed(hash, Passed::Written);
        }
    }

    #[inline(never)]
    fn tell_passed(&self, hash: u64, what: Passed) {
        if let Some(mut told) = self.told.try_lock()
            && told.passed.len() < told.passed.capacity()
        {
            told.passed.push((hash, what));
        }
    }

    /// This many bytes came for a key that was not here.
    #[inline]
    pub(super) fn fetched<'k>(&self, hash: u64, bytes: usize, key: impl FnOnce() -> &'k [u8]) {
        if self.is_chosen() {
            self.note_bytes(hash, bytes, key());
        }
    }

    #[inline]
    fn is_chosen(&self) -> bool {
        let gap = self.gap.load(Ordering::Relaxed);
        self.gap.store(gap.wrapping_sub(1), Ordering::Relaxed);
        gap == 0
    }

    /// Knuth's linear congruential generator: its high bits are the good ones.
    fn throw(&self) -> u64 {
        let die = self.die.load(Ordering::Relaxed);
        let die =
            die.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.die.store(die, Ordering::Relaxed);
        die >> 32
    }

    /// Of one in sixteen, up to 30 others before the next: 15 in the middle. Answers what the
    /// chosen one stands for.
    fn choose_next(&self) -> u64 {
        let sample = self.sample.load(Ordering::Relaxed);
        self.gap.store(self.throw() % (2 * sample - 1), Ordering::Relaxed);
        let stands_for = self.drawn.load(Ordering::Relaxed);
        self.drawn.store(sample, Ordering::Relaxed);
        stands_for
    }

    #[inline(never)]
    fn tell(&self, hash: u64) {
        // Contended only while the main thread changes the list for an empty one.
        if let Some(mut told) = self.told.try_lock() {
            if told.hashes.len() < told.hashes.capacity() {
                told.hashes.push(hash);
            } else {
                told.lost += 1;
            }
        }
    }

    #[inline(never)]
    fn note(&self, hash: u64, fate: Seen, Look { key, rule, bytes, age }: Look<'_>) {
        let sample = self.choose_next();
        if let Some(age) = age {
            self.ages.add(age, sample);
        }
        let named = || self.namespaces.place(namespace(key));
        let known = self.heat.try_lock().and_then(|mut heat| {
            if fate == Seen::Miss {
                heat.add(By::Misses, (hash, key), 1.0, || 0);
            }
            if let Some(weight) = self.weight(bytes) {
                heat.add(By::Bytes, (hash, key), weight, || 0);
            }
            // A key that is known knows its namespace's place.
            heat.add(By::Reads, (hash, key), 1.0, named)
        });
        let space = self.namespaces.at(known.unwrap_or_else(named));
        space.add(fate, sample);
        space.add_bytes(sample * bytes as u64);
        let rule = usize::from(rule).min(RULES_MAX - 1);
        if let Some(counts) = self.rules.get(rule) {
            counts.add(fate, sample);
        }
    }

    #[inline(never)]
    fn note_bytes(&self, hash: u64, bytes: usize, key: &[u8]) {
        let sample = self.choose_next();
        let space = self.namespaces.at(self.namespaces.place(namespace(key)));
        space.add_bytes(sample * bytes as u64);
        if let Some(weight) = self.weight(bytes)
            && let Some(mut heat) = self.heat.try_lock()
        {
            heat.add(By::Bytes, (hash, key), weight, || 0);
        }
    }

    /// What `bytes` weigh, in [`BYTES_UNIT`]; a smaller reply as one, or as nothing.
    #[expect(clippy::cast_precision_loss, reason = "a weight")]
    fn weight(&self, bytes: usize) -> Option<f64> {
        let bytes = bytes as u64;
        if bytes >= BYTES_UNIT {
            return Some(bytes as f64 / BYTES_UNIT as f64);
        }
        (bytes > 0 && self.throw() % BYTES_UNIT < bytes).then_some(1.0)
    }

    /// Changes the lists for those of `empty`, and the thresholds for these: of lookups, and of
    /// what passes by.
    pub(super) fn take_told(&self, [looked, passed]: [u64; 2], mut empty: Told) -> Told {
        empty.hashes.clear();
        empty.passed.clear();
        empty.lost = 0;
        let mut told = self.told.lock();
        // Who has no room has no lookups.
        if told.hashes.capacity() == 0 {
            return empty;
        }
        empty.hashes.reserve_exact(told.hashes.capacity());
        empty.passed.reserve_exact(told.passed.capacity());
        self.threshold.store(looked, Ordering::Relaxed);
        self.passed_below.store(passed, Ordering::Relaxed);
        std::mem::replace(&mut *told, empty)
    }

    /// Shows `see` the name of the namespace at this place, if it has one.
    pub(super) fn namespace_at(&self, place: u16, see: impl FnOnce(&str)) {
        if let Some(name) = self.namespaces.name(place) {
            see(&String::from_utf8_lossy(name));
        }
    }

    /// What everything weighed is worth `factor` of what it was.
    pub(super) fn fade(&self, factor: f64) {
        self.heat.lock().0.iter_mut().for_each(|sketch| sketch.fade(factor));
    }

    /// Shows `see` one of the sketches. What is looked up meanwhile is left out.
    pub(super) fn sketch<R>(&self, by: By, see: impl FnOnce(&Sketch) -> R) -> Option<R> {
        self.heat.lock().0.get(by as usize).map(see)
    }

    /// Every named namespace with its tally, then what the others share.
    pub(super) fn each_namespace(&self, visit: impl FnMut(Option<&[u8]>, Tally)) {
        self.namespaces.each(visit);
    }

    /// Adds tallies by rule, without bytes, to `total`.
    pub(super) fn add_rules(&self, total: &mut [Tally]) {
        for (total, counts) in total.iter_mut().zip(&self.rules) {
            let counts = counts.read();
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{By, Look, Passed, Sampler, Seen, TOLD_MAX, Told};
    use crate::stats::curve::FIRST;
    use crate::stats::trial::mixed;
    use crate::stats::{HotKeys, Named};

    fn of(capacity: Option<usize>) -> Sampler {
        let hot_keys = capacity.map(|capacity| HotKeys { capacity, ..HotKeys::default() });
        Sampler::new(hot_keys, &Named::default())
    }

    fn look(key: &[u8]) -> Look<'_> {
        Look { key, rule: 0, bytes: 100, age: None }
    }

    #[test]
    fn one_in_sixteen_is_chosen_and_a_repeating_pipeline_is_fairly_so() {
        let sampler = of(Some(64));
        let names: Vec<Vec<u8>> = (0..16).map(|index| vec![b'a' + index, b':']).collect();
        for _ in 0..10_000 {
            for name in &names {
                sampler.lookup(mixed(u64::from(name[0])), Seen::Hit, || look(name));
            }
        }
        let mut rows = 0;
        sampler.each_namespace(|name, [hits, misses, ..]| {
            if name.is_some() {
                rows += 1;
                assert!((8_000..12_000).contains(&hits), "{name:?}: {hits}");
                assert_eq!(misses, 0);
            }
        });
        assert_eq!(rows, 16);
        let mut rules = [[0; 4]; 1];
        sampler.add_rules(&mut rules);
        assert!((150_000..170_000).contains(&rules[0][0]), "{rules:?}");
    }

    #[test]
    fn small_replies_weigh_what_they_weigh() {
        let sampler = of(Some(64));
        for _ in 0..160_000 {
            sampler.lookup(u64::MAX, Seen::Hit, || look(b"a"));
        }
        for _ in 0..1_600 {
            sampler.fetched(u64::MAX - 1, 10_000, || b"b");
        }
        let mut bytes = sampler.sketch(By::Bytes, |sketch| {
            let unit = f64::from(u32::try_from(By::Bytes.unit(16)).unwrap());
            sketch.keys().map(|key| (key.key.to_vec(), key.weight * unit)).collect::<Vec<_>>()
        });
        let bytes = bytes.as_mut().unwrap();
        bytes.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, told) in bytes {
            assert!((14e6..18e6).contains(told), "{key:?}: {told}");
        }
        let misses = sampler.sketch(By::Misses, |sketch| sketch.keys().count());
        assert_eq!(misses, Some(0));
    }

    #[test]
    fn every_lookup_below_the_threshold_is_told_while_there_is_room() {
        let sampler = of(Some(0));
        for hash in [FIRST - 1, FIRST, 5, FIRST + 1, 5] {
            sampler.lookup(hash, Seen::Miss, || look(b"a"));
        }
        let told = sampler.take_told([6, 0], Told::default());
        assert_eq!((told.hashes, told.lost), (vec![FIRST - 1, 5, 5], 0));
        for hash in 0..TOLD_MAX as u64 + 10 {
            sampler.lookup(hash % 7, Seen::Miss, || look(b"a"));
        }
        let told = sampler.take_told([0, 0], Told::default());
        assert!(told.hashes.len() < TOLD_MAX && told.hashes.iter().all(|hash| *hash < 6));
        sampler.take_told([FIRST, 0], Told::default());
        for _ in 0..TOLD_MAX + 10 {
            sampler.lookup(1, Seen::Miss, || look(b"a"));
        }
        let told = sampler.take_told([FIRST, 0], Told::default());
        assert_eq!((told.hashes.len(), told.lost), (TOLD_MAX, 10));
        assert!(!of(None).is_chosen());
        assert_eq!(of(None).take_told([9, 0], Told::default()).hashes.capacity(), 0);
    }

    #[test]
    fn what_is_kept_out_is_told_apart_and_its_writes_with_it() {
        let sampler = of(Some(8));
        sampler.lookup(1, Seen::Passed, || look(b"lock:1"));
        sampler.written(1);
        sampler.written(FIRST);
        let told = sampler.take_told([FIRST, FIRST], Told::default());
        let [(1, Passed::Read(place)), (1, Passed::Written)] = told.passed[..] else {
            panic!("{told:?}")
        };
        assert!(told.hashes.is_empty());
        let mut named = String::new();
        sampler.namespace_at(place, |name| name.clone_into(&mut named));
        assert_eq!(named, "lock");
    }
}
