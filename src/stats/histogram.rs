//! A log-linear histogram of nanoseconds: one writer, many readers, no lock.
//!
//! Sixteen buckets to each power of two, so a bucket's width is at most 1/16 of its value. A
//! bucket that a Prometheus bound falls into is cut in two at the bound, so the cumulative
//! counts that are exported are exact, not interpolated. A record is one table lookup and two
//! relaxed load-and-stores.
//!
//! In: nanoseconds and how often. Out: a [`Snapshot`] to sum, to rank and to export.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bump;

/// The exported bounds: nanoseconds, and seconds as the label `le` writes them.
pub const BOUNDS: [(u64, &str); 15] = [
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
];

/// Sixteen buckets to each power of two.
const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;

/// Values from 2^36 ns (68.7 s) on are counted in the last bucket.
const TOP_BITS: u32 = 36;
const LARGEST: u64 = (1 << TOP_BITS) - 1;

const BUCKETS: usize = bucket(LARGEST) + 1;

/// A bucket with a bound in it has two cells.
const CELLS: usize = BUCKETS + BOUNDS.len();

/// The bucket of a value not above [`LARGEST`]. Below 16 a bucket is one value.
#[expect(clippy::cast_possible_truncation, reason = "values are below 2^36, subs below 16")]
const fn bucket(value: u64) -> usize {
    if value < SUBS as u64 {
        return value as usize;
    }
    let exponent = value.ilog2();
    let shift = exponent - SUB_BITS;
    let sub = (value >> shift) as usize & (SUBS - 1);
    (shift as usize + 1) * SUBS + sub
}

/// The largest value of a bucket.
#[expect(clippy::cast_possible_truncation, reason = "a shift below 36")]
const fn largest(bucket: usize) -> u64 {
    if bucket < SUBS {
        return bucket as u64;
    }
    let shift = (bucket / SUBS - 1) as u32;
    (((SUBS + bucket % SUBS + 1) as u64) << shift) - 1
}

/// Where a bucket's count goes: to `cell`, or to the next if the value is above `split`.
#[derive(Clone, Copy)]
struct Place {
    split: u64,
    cell: u16,
}

static PLACES: [Place; BUCKETS] = places();

#[expect(clippy::indexing_slicing, reason = "const evaluation: a wrong index does not compile")]
#[expect(clippy::cast_possible_truncation, reason = "fewer than 600 cells")]
const fn places() -> [Place; BUCKETS] {
    let mut places = [Place { split: u64::MAX, cell: 0 }; BUCKETS];
    let mut at = 0;
    let mut bound = 0;
    while at < BUCKETS {
        places[at].cell = (at + bound) as u16;
        if bound < BOUNDS.len() && BOUNDS[bound].0 <= largest(at) {
            places[at].split = BOUNDS[bound].0;
            bound += 1;
        }
        at += 1;
    }
    places
}

/// Counts of durations, written by one thread.
#[derive(Debug)]
pub struct Histogram {
    cells: [AtomicU64; CELLS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; CELLS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `count` durations of `nanos` each.
    #[inline]
    pub fn record(&self, nanos: u64, count: u64) {
        let value = nanos.min(LARGEST);
        let Some(place) = PLACES.get(bucket(value)) else { return };
        let cell = usize::from(place.cell) + usize::from(value > place.split);
        if let Some(cell) = self.cells.get(cell) {
            bump(cell, count);
            bump(&self.sum, nanos.wrapping_mul(count));
        }
    }

    /// Adds what has been counted so far to `total`.
    pub fn add_to(&self, total: &mut Snapshot) {
        for (total, cell) in total.cells.iter_mut().zip(&self.cells) {
            *total += cell.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// The sum of some histograms at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    cells: [u64; CELLS],
    sum: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { cells: [0; CELLS], sum: 0 }
    }
}

impl Snapshot {
    /// How many durations.
    pub fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// Their sum in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many lie at or below each of [`BOUNDS`], exactly.
    pub fn cumulative(&self) -> [u64; BOUNDS.len()] {
        let mut cells = self.cells.iter();
        let mut taken = 0;
        let mut total = 0;
        BOUNDS.map(|(bound, _)| {
            let last = PLACES.get(bucket(bound)).map_or(0, |place| usize::from(place.cell));
            total += cells.by_ref().take(last + 1 - taken).sum::<u64>();
            taken = last + 1;
            total
        })
    }

    /// The duration in nanoseconds that a share of `quantile` (0 to 1) does not exceed: the
    /// upper edge of the bucket of that rank, so at most 1/16 too large. `None` if empty.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        self.ranked(quantile).map(|(_, edge, _)| edge)
    }

    /// As [`Self::quantile`], but within the bucket as far as the rank is: no edge, but a guess.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within a bucket"
    )]
    pub fn percentile(&self, quantile: f64) -> Option<u64> {
        let (below, edge, part) = self.ranked(quantile)?;
        Some(below + ((edge - below) as f64 * part).round() as u64)
    }

    /// What was counted since `earlier`, which is of the same histograms.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (cell, before) in since.cells.iter_mut().zip(&earlier.cells) {
            *cell = cell.saturating_sub(*before);
        }
        since.sum = since.sum.saturating_sub(earlier.sum);
        since
    }

    /// The cell of a rank: what lies below it, its upper edge, and how far into it the rank is.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank, to 53 bits"
    )]
    fn ranked(&self, quantile: f64) -> Option<(u64, u64, f64)> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let edges = PLACES.iter().enumerate().flat_map(|(at, place)| {
            let split = (place.split != u64::MAX).then_some(place.split);
            split.into_iter().chain([largest(at)])
        });
        let (mut before, mut below) = (0, 0);
        for (edge, cell) in edges.zip(self.cells) {
            if before + cell >= rank {
                return Some((below, edge, (rank - before) as f64 / cell as f64));
            }
            before += cell;
            below = edge;
        }
        Some((LARGEST, LARGEST, 0.0))
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
mod tests {
    use proptest::prelude::*;

    use super::{BOUNDS, BUCKETS, CELLS, Histogram, LARGEST, PLACES, Snapshot, bucket, largest};

    fn snapshot(histogram: &Histogram) -> Snapshot {
        let mut snapshot = Snapshot::default();
        histogram.add_to(&mut snapshot);
        snapshot
    }

    #[test]
    fn buckets_are_gapless_and_every_bound_has_its_cell() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(largest(at)), at);
            if at + 1 < BUCKETS {
                assert_eq!(bucket(largest(at) + 1), at + 1);
            }
        }
        assert_eq!(largest(BUCKETS - 1), LARGEST);
        let splits: Vec<u64> =
            PLACES.iter().map(|place| place.split).filter(|split| *split != u64::MAX).collect();
        assert_eq!(splits, BOUNDS.map(|(bound, _)| bound));
        assert_eq!(usize::from(PLACES[BUCKETS - 1].cell), CELLS - 1);
    }

    #[test]
    fn labels_say_the_bounds() {
        for (nanos, label) in BOUNDS {
            let seconds: f64 = label.parse().unwrap();
            assert!((seconds * 1e9 - nanos as f64).abs() < 1e-3, "{label}");
        }
    }

    #[test]
    fn a_bound_counts_itself() {
        for (index, (bound, _)) in BOUNDS.into_iter().enumerate() {
            let histogram = Histogram::default();
            histogram.record(bound - 1, 1);
            histogram.record(bound, 1);
            histogram.record(bound + 1, 1);
            let cumulative = snapshot(&histogram).cumulative();
            assert_eq!(cumulative[index], 2, "{bound}");
        }
    }

    #[test]
    fn empty_and_endless() {
        let histogram = Histogram::default();
        assert_eq!(snapshot(&histogram).quantile(0.5), None);
        histogram.record(u64::MAX, 1);
        assert_eq!(snapshot(&histogram).quantile(0.5), Some(LARGEST));
        assert_eq!(snapshot(&histogram).count(), 1);
        assert_eq!(snapshot(&histogram).cumulative(), [0; BOUNDS.len()]);
    }

    #[test]
    fn within_a_bucket_the_rank_decides() {
        let histogram = Histogram::default();
        // All in the bucket that ends at 1087.
        histogram.record(1_050, 4);
        let earlier = snapshot(&histogram);
        let guesses = [0.25, 0.5, 1.0].map(|part| earlier.percentile(part).unwrap());
        assert_eq!(guesses, [1_039, 1_055, 1_087]);
        histogram.record(70, 2);
        let since = snapshot(&histogram).since(&earlier);
        assert_eq!((since.count(), since.sum(), since.percentile(1.0)), (2, 140, Some(71)));
    }

    /// Any value, small and large ones alike, and often one at a bound.
    fn nanos() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0_u32..36, any::<u64>()).prop_map(|(bits, noise)| noise & ((2 << bits) - 1)),
            (0..BOUNDS.len(), 0_u64..3).prop_map(|(at, off)| BOUNDS[at].0 - 1 + off),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            parts in prop::collection::vec(prop::collection::vec((nanos(), 1_u64..4), 0..40), 1..4),
            quantile in 0.0_f64..=1.0,
        ) {
            let mut naive = Vec::new();
            let mut total = Snapshot::default();
            for part in &parts {
                let histogram = Histogram::default();
                for &(nanos, count) in part {
                    histogram.record(nanos, count);
                    naive.extend((0..count).map(|_| nanos));
                }
                histogram.add_to(&mut total);
            }
            naive.sort_unstable();
            prop_assert_eq!(total.count(), naive.len() as u64);
            prop_assert_eq!(total.sum(), naive.iter().sum::<u64>());
            let exact = BOUNDS.map(|(bound, _)| naive.partition_point(|v| *v <= bound) as u64);
            prop_assert_eq!(total.cumulative(), exact);
            if naive.is_empty() {
                prop_assert_eq!(total.quantile(quantile), None);
            } else {
                let rank = ((quantile * naive.len() as f64).ceil() as usize).max(1);
                let exact = naive[rank - 1];
                let told = total.quantile(quantile).unwrap();
                prop_assert!(told >= exact, "{told} < {exact}");
                prop_assert!(told <= exact + exact / 16, "{told} is too far above {exact}");
                let guess = total.percentile(quantile).unwrap();
                prop_assert!(guess <= told && guess + guess / 8 + 1 >= exact, "{guess}: {exact}");
            }
        }
    }
}
