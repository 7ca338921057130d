//! One writer's counters, gauges and histograms.
//!
//! In: a worker counts what it does. Out: anyone reads, at any time, without disturbing it.
//! Invariant: one thread writes, so a relaxed load and a relaxed store are enough: no lock, no
//! read-modify-write, no allocation after creation. Every counter is only ever seen to grow; two
//! counters read together may be of two moments.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::bump;
use super::counters::{Counter, Gauge, Outcome};
use super::histogram::{Histogram, Snapshot};
use super::sampler::{Look, Sampler, Seen};
use crate::units::clock::Tick;

/// The bounds of the pipeline histogram: powers of two, 1 to 64.
pub const PIPELINE_BOUNDS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Commands found per read, summed: reads by the bound they lie under (the last: above all).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineCounts {
    /// Reads per bound, not cumulative.
    pub reads: [u64; PIPELINE_BOUNDS.len() + 1],
    /// Commands.
    pub commands: u64,
}

/// One row of the command table: answers that were no error, errors, those of the errors that
/// nearside gave before the command was carried out, and the time that answers took.
#[derive(Debug, Default)]
struct CommandCounts {
    ok: AtomicU64,
    error: AtomicU64,
    rejected: AtomicU64,
    nanos: AtomicU64,
}

/// One row of the command table, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// Answers that were no error.
    pub ok: u64,
    /// Errors.
    pub error: u64,
    /// Of the errors, those that nearside gave before the command was carried out.
    pub rejected: u64,
    /// What its answers took together; hits and what nearside answers itself take no time.
    pub nanos: u64,
}

/// What one thread counts. Aligned so that no two writers share a cache line (or the line that
/// the prefetcher brings along).
#[derive(Debug)]
#[repr(align(128))]
pub struct Block {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicI64; Gauge::COUNT],
    pipeline: [AtomicU64; PIPELINE_BOUNDS.len() + 1],
    pipelined: AtomicU64,
    latency: [Histogram; Outcome::COUNT],
    pub(super) sampler: Sampler,
    commands: Box<[CommandCounts]>,
    /// When its writer last said that it lives; 0 = not yet.
    beat: AtomicU64,
}

impl Block {
    /// A block for a command table of `commands` rows. One row more counts unknown commands.
    pub(super) fn new(commands: usize, sampler: Sampler) -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; Counter::COUNT],
            gauges: [const { AtomicI64::new(0) }; Gauge::COUNT],
            pipeline: Default::default(),
            pipelined: AtomicU64::new(0),
            latency: std::array::from_fn(|_| Histogram::default()),
            sampler,
            commands: (0..=commands).map(|_| CommandCounts::default()).collect(),
            beat: AtomicU64::new(0),
        }
    }

    /// The block's writer lives.
    pub fn beat(&self, now: Tick) {
        self.beat.store(now.0, Ordering::Relaxed);
    }

    /// When it last said so; 0 = not yet.
    pub(super) fn beaten_at(&self) -> Tick {
        Tick(self.beat.load(Ordering::Relaxed))
    }

    /// Adds to a counter. Only the block's writer may.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        if let Some(cell) = self.counters.get(counter as usize) {
            bump(cell, count);
        }
    }

    /// Moves a gauge up or down. A block's own part may be negative, the sum never is.
    #[inline]
    pub fn shift(&self, gauge: Gauge, by: i64) {
        if let Some(cell) = self.gauges.get(gauge as usize) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        }
    }

    /// Counts answers to the command at `index` of the command table; an index beyond the table
    /// is an unknown command.
    #[inline]
    pub fn command(&self, index: u16, error: bool, count: u64) {
        let counts = self.commands.get(usize::from(index)).or_else(|| self.commands.last());
        if let Some(counts) = counts {
            bump(if error { &counts.error } else { &counts.ok }, count);
        }
    }

    /// Counts a command that is refused before it is carried out.
    pub fn reject(&self, index: u16) {
        self.command(index, true, 1);
        if let Some(counts) = self.commands.get(usize::from(index)).or_else(|| self.commands.last())
        {
            bump(&counts.rejected, 1);
        }
    }

    /// The answer to the command at `index` took this long.
    #[inline]
    pub fn took(&self, index: u16, nanos: u64) {
        if let Some(counts) = self.commands.get(usize::from(index)) {
            bump(&counts.nanos, nanos);
        }
    }

    /// Counts `count` answers that took `nanos` each.
    #[inline]
    pub fn observe(&self, outcome: Outcome, nanos: u64, count: u64) {
        if let Some(histogram) = self.latency.get(outcome as usize) {
            histogram.record(nanos, count);
        }
    }

    /// Counts one read of a client's socket that held `commands` whole commands. A read that
    /// completed none says nothing about pipelining and is not counted.
    #[inline]
    pub fn pipeline(&self, commands: u64) {
        let Some(above) = commands.checked_sub(1) else { return };
        let bound = (u64::BITS - above.leading_zeros()) as usize;
        let last = self.pipeline.len() - 1;
        if let Some(cell) = self.pipeline.get(bound.min(last)) {
            bump(cell, 1);
            bump(&self.pipelined, commands);
        }
    }

    /// Notes a cacheable read of the key with this hash, for its namespace, its rule, the hot keys
    /// and the curve. One in some is looked at, and only for that one is `look` called.
    #[inline]
    pub fn lookup<'k>(&self, hash: u64, fate: Seen, look: impl Fn() -> Look<'k>) {
        self.sampler.lookup(hash, fate, look);
    }

    /// Notes that the key with this hash was written.
    #[inline]
    pub fn written(&self, hash: u64) {
        self.sampler.written(hash);
    }

    /// Notes that a reply of this many bytes came for a key that was looked up; `key` is called
    /// for one in some.
    #[inline]
    pub fn fetched<'k>(&self, hash: u64, bytes: usize, key: impl FnOnce() -> &'k [u8]) {
        self.sampler.fetched(hash, bytes, key);
    }

    /// A counter of this block.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// This block's part of a gauge.
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.get(gauge as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Adds the counts per row to `total`; the last row is the unknown ones.
    pub(super) fn add_commands(&self, total: &mut [CommandTotals]) {
        for (total, counts) in total.iter_mut().zip(&self.commands) {
            total.ok += counts.ok.load(Ordering::Relaxed);
            total.error += counts.error.load(Ordering::Relaxed);
            total.rejected += counts.rejected.load(Ordering::Relaxed);
            total.nanos += counts.nanos.load(Ordering::Relaxed);
        }
    }

    pub(super) fn add_latency(&self, outcome: Outcome, total: &mut Snapshot) {
        if let Some(histogram) = self.latency.get(outcome as usize) {
            histogram.add_to(total);
        }
    }

    pub(super) fn add_pipeline(&self, total: &mut PipelineCounts) {
        for (total, cell) in total.reads.iter_mut().zip(&self.pipeline) {
            *total += cell.load(Ordering::Relaxed);
        }
        total.commands += self.pipelined.load(Ordering::Relaxed);
    }
}
