//! The keys of all workers that are asked for most, and the shape of what is asked for: what the
//! workers' [samplers](super::sampler) note, put together.
//!
//! The main thread calls [`Heat::tick`] several times a second: it takes the workers' lists for
//! the curve, has their sketches fade, and says from which hash on they are to tell.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use super::block::Block;
use super::curve::Curve;
use super::reuse::{Expected, Reuse};
use super::sampler::{By, Passed, Told};
use crate::units::clock::Tick;

/// Sketches fade at most so often: it takes their locks.
const FADE_EVERY: Duration = Duration::from_secs(1);

/// Half an age of the curve.
const CURVE_HALF_LIFE: Duration = Duration::from_mins(10);

/// The workers' lists are mixed in so many parts.
const PARTS: usize = 256;

/// How hot keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotKeys {
    /// Keys of each sketch of each worker; 0 = none are kept.
    pub capacity: usize,
    /// After this time what was asked for counts half.
    pub half_life: Duration,
    /// One lookup in this many is looked at; not 0.
    pub sample: u64,
}

impl Default for HotKeys {
    fn default() -> Self {
        Self { capacity: 1000, half_life: Duration::from_mins(1), sample: 16 }
    }
}

/// One hot key.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// Its hash, by which the cache knows it.
    pub hash: u64,
    /// The key; its first bytes, if it is longer than [`super::KEY_KEPT`].
    pub key: Vec<u8>,
    /// How long it is.
    pub length: u32,
    /// Lookups, bytes or misses per second, of late, at least.
    pub rate: f64,
    /// Of all lookups, bytes or misses.
    pub share: f64,
}

/// What is known beyond single workers.
#[derive(Debug)]
pub(super) struct Heat {
    settings: HotKeys,
    curve: Curve,
    /// Lookups that the curve knows of.
    looked: u64,
    reuse: Reuse,
    spare: Vec<Told>,
    begun: Option<Tick>,
    faded_at: Tick,
    curve_faded_at: Tick,
}

impl Heat {
    pub(super) fn new(settings: HotKeys, namespaces_max: usize) -> Self {
        Self {
            settings,
            curve: Curve::default(),
            reuse: Reuse::new(namespaces_max),
            looked: 0,
            spare: Vec::new(),
            begun: None,
            faded_at: Tick::default(),
            curve_faded_at: Tick::default(),
        }
    }

    /// How they are kept.
    pub(super) const fn settings(&self) -> HotKeys {
        self.settings
    }

    /// Kept otherwise from now on. What was noted before weighs by another half-life.
    pub(super) fn set(&mut self, settings: HotKeys, blocks: &[impl AsRef<Block>]) {
        if self.settings == settings {
            return;
        }
        (self.settings, self.begun) = (settings, None);
        for block in blocks {
            block.as_ref().sampler.begin_anew(settings);
        }
    }

    /// Time goes on. `looked` is how many lookups there were since the start.
    pub(super) fn tick(&mut self, now: Tick, blocks: &[impl AsRef<Block>], looked: u64) {
        if self.begun.is_none() {
            (self.faded_at, self.curve_faded_at) = (now, now);
            self.begun = Some(now);
        }
        self.feed(now, blocks, looked);
        if now.since(self.curve_faded_at) >= CURVE_HALF_LIFE {
            self.curve_faded_at = now;
            self.curve.fade();
            self.reuse.fade(now);
        }
        let passed = now.since(self.faded_at);
        if passed >= FADE_EVERY {
            self.faded_at = now;
            let half_lives = passed.as_secs_f64() / self.settings.half_life.as_secs_f64();
            let factor = 0.5_f64.powf(half_lives);
            for block in blocks {
                block.as_ref().sampler.fade(factor);
            }
        }
    }

    fn feed(&mut self, now: Tick, blocks: &[impl AsRef<Block>], looked: u64) {
        let thresholds = [self.curve.threshold(), self.reuse.threshold()];
        let told: Vec<Told> = blocks
            .iter()
            .map(|block| {
                let empty = self.spare.pop().unwrap_or_default();
                block.as_ref().sampler.take_told(thresholds, empty)
            })
            .collect();
        // Whose lookups came first is not known: the lists are mixed as evenly as they go.
        for part in 0..PARTS {
            for Told { hashes, .. } in &told {
                let (from, to) = (hashes.len() * part / PARTS, hashes.len() * (part + 1) / PARTS);
                for hash in hashes.get(from..to).unwrap_or_default() {
                    self.curve.look(*hash);
                }
            }
        }
        for (block, told) in blocks.iter().zip(&told) {
            self.pass(block.as_ref(), &told.passed, now);
        }
        let count = looked.saturating_sub(self.looked);
        self.looked = looked;
        let lost: u64 = told.iter().map(|told| told.lost).sum();
        let kept: u64 = told.iter().map(|told| told.hashes.len() as u64).sum();
        if lost == 0 {
            self.curve.expect(count);
        } else {
            // More than can be looked at: as if there had been only the lookups that were told of.
            let known = u128::from(count) * u128::from(kept) / u128::from(kept + lost);
            self.curve.expect(u64::try_from(known).unwrap_or(u64::MAX));
            self.curve.thin(0.5);
        }
        self.spare.extend(told);
    }

    /// What one worker tells of keys that are kept out of the cache.
    fn pass(&mut self, block: &Block, passed: &[(u64, Passed)], now: Tick) {
        let reuse = &mut self.reuse;
        for (hash, what) in passed {
            match what {
                Passed::Written => reuse.written(*hash),
                Passed::Read(place) => {
                    block.sampler.namespace_at(*place, |name| reuse.read(*hash, name, now));
                }
            }
        }
    }

    /// See [`Reuse::expected`].
    pub(super) fn expected(&self) -> Vec<Expected> {
        self.reuse.expected()
    }

    /// See [`Curve::hit_ratio`].
    pub(super) fn hit_ratio(&self, entries: f64) -> Option<f64> {
        self.curve.hit_ratio(entries)
    }

    /// The keys that are asked for most, the first the most; `limit` at most.
    pub(super) fn hottest(
        &self,
        by: By,
        limit: usize,
        blocks: &[impl AsRef<Block>],
    ) -> Vec<HotKey> {
        let (mut total, mut sums) = (0.0, HashMap::<u64, HotKey>::new());
        for block in blocks {
            block.as_ref().sampler.sketch(by, |sketch| {
                total += sketch.total();
                for key in sketch.keys() {
                    let sum = sums.entry(key.hash).or_insert_with(|| HotKey {
                        hash: key.hash,
                        key: key.key.to_vec(),
                        length: key.length,
                        rate: 0.0,
                        share: 0.0,
                    });
                    sum.rate += key.weight;
                }
            });
        }
        let mut hottest: Vec<HotKey> = sums.into_values().collect();
        hottest.sort_unstable_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.key.cmp(&b.key)));
        hottest.truncate(limit);
        for key in &mut hottest {
            key.share = key.rate / total;
            key.rate *= self.per_second(by);
        }
        hottest
    }

    /// Keys that are held in sketches of reads.
    pub(super) fn tracked(blocks: &[impl AsRef<Block>]) -> u64 {
        let held = |block: &_| {
            AsRef::<Block>::as_ref(block)
                .sampler
                .sketch(By::Reads, |sketch| sketch.keys().count() as u64)
        };
        blocks.iter().filter_map(held).sum()
    }

    /// What a weight of one is per second: something of a steady rate weighs as much as happens
    /// in a half-life over ln 2; in the beginning, less.
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    fn per_second(&self, by: By) -> f64 {
        let half_life = self.settings.half_life.as_secs_f64();
        let age = self.begun.map_or(0.0, |begun| self.faded_at.since(begun).as_secs_f64());
        let weighed = (half_life / std::f64::consts::LN_2) * (1.0 - 0.5_f64.powf(age / half_life));
        by.unit(self.settings.sample) as f64 / weighed.max(1.0)
    }
}
