//! A log-linear histogram of nanoseconds: one writer, many readers, no lock.
//!
//! Sixteen buckets to each power of two, so a bucket's width is at most 1/16 of its value. A
//! bucket that a [mark](MARKS) falls into is cut in two there, so the cumulative counts that are
//! exported are exact, not interpolated: bounds are chosen among the marks, when somebody asks, and
//! cost a record nothing. A record is one table lookup and two relaxed load-and-stores.
//!
//! In: nanoseconds and how often. Out: a [`Snapshot`] to sum, to rank and to export.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bump;

/// What bounds may be, in each power of ten: these, in tenths.
const DIGITS: [u64; 12] = [10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90];

/// Powers of ten from 1 us to 1 s, in tenths of which [`DIGITS`] are.
const DECADES: usize = 7;

/// What bounds may be, in nanoseconds: 1 us to 9 s. No two of them fall into one bucket.
const MARKS: [u64; DIGITS.len() * DECADES] = marks();

#[expect(clippy::indexing_slicing, reason = "const evaluation: a wrong index does not compile")]
const fn marks() -> [u64; DIGITS.len() * DECADES] {
    let mut marks = [0; DIGITS.len() * DECADES];
    let mut tenth = 100;
    let mut at = 0;
    while at < marks.len() {
        marks[at] = DIGITS[at % DIGITS.len()] * tenth;
        at += 1;
        if at % DIGITS.len() == 0 {
            tenth *= 10;
        }
    }
    marks
}

/// Why a list of seconds cannot be bounds.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoBounds {
    /// Each adds a series to every histogram.
    #[error("{0} bounds are not between 1 and {BOUNDS_MAX}")]
    Count(usize),
    /// Behind a larger one, or there twice.
    #[error("{0} stands behind {1}: they must increase")]
    Order(f64, f64),
    /// None of [`MARKS`].
    #[error("{0} is no bound: a digit, 1.5, 2.5 or 7.5, times a power of ten, from 0.000001 to 9")]
    Mark(f64),
}

const BOUNDS_MAX: usize = 40;

/// What histograms of durations are exported by.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds(Vec<(u64, String)>);

impl Bounds {
    /// Unless somebody says otherwise.
    pub const USUAL: [f64; 15] = [
        0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
        1.0, 2.5,
    ];

    /// These, in seconds.
    pub fn new(seconds: &[f64]) -> Result<Self, NoBounds> {
        if !(1..=BOUNDS_MAX).contains(&seconds.len()) {
            return Err(NoBounds::Count(seconds.len()));
        }
        for (one, next) in seconds.iter().zip(seconds.iter().skip(1)) {
            if next <= one {
                return Err(NoBounds::Order(*next, *one));
            }
        }
        let bound = |seconds: &f64| {
            Ok((mark(*seconds).ok_or(NoBounds::Mark(*seconds))?, seconds.to_string()))
        };
        seconds.iter().map(bound).collect::<Result<_, _>>().map(Self)
    }
}

/// The mark that this many seconds are.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn mark(seconds: f64) -> Option<u64> {
    MARKS.into_iter().find(|mark| (seconds * 1e9 - *mark as f64).abs() < 1e-3)
}

/// Sixteen buckets to each power of two.
const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;

/// Values from 2^36 ns (68.7 s) on are counted in the last bucket.
const TOP_BITS: u32 = 36;
const LARGEST: u64 = (1 << TOP_BITS) - 1;

const BUCKETS: usize = bucket(LARGEST) + 1;

/// A bucket with a mark in it has two cells.
const CELLS: usize = BUCKETS + MARKS.len();

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
#[expect(clippy::cast_possible_truncation, reason = "fewer than 700 cells")]
const fn places() -> [Place; BUCKETS] {
    let mut places = [Place { split: u64::MAX, cell: 0 }; BUCKETS];
    let mut at = 0;
    let mut mark = 0;
    while at < BUCKETS {
        places[at].cell = (at + mark) as u16;
        if mark < MARKS.len() && MARKS[mark] <= largest(at) {
            places[at].split = MARKS[mark];
            mark += 1;
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

    /// How many lie at or below each bound, exactly, and the bound as the label `le` writes it.
    pub fn cumulative<'b>(&self, bounds: &'b Bounds) -> Vec<(&'b str, u64)> {
        let below = |(bound, le): &'b (u64, String)| {
            let last = PLACES.get(bucket(*bound)).map_or(0, |place| usize::from(place.cell));
            (le.as_str(), self.cells.iter().take(last + 1).sum())
        };
        bounds.0.iter().map(below).collect()
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

    use super::{
        BUCKETS, Bounds, CELLS, Histogram, LARGEST, MARKS, NoBounds, PLACES, Snapshot, bucket,
        largest,
    };

    fn snapshot(histogram: &Histogram) -> Snapshot {
        let mut snapshot = Snapshot::default();
        histogram.add_to(&mut snapshot);
        snapshot
    }

    #[test]
    fn buckets_are_gapless_and_every_mark_has_its_cell() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(largest(at)), at);
            if at + 1 < BUCKETS {
                assert_eq!(bucket(largest(at) + 1), at + 1);
            }
        }
        assert_eq!(largest(BUCKETS - 1), LARGEST);
        let splits: Vec<u64> =
            PLACES.iter().map(|place| place.split).filter(|split| *split != u64::MAX).collect();
        assert_eq!(splits, MARKS);
        assert_eq!(usize::from(PLACES[BUCKETS - 1].cell), CELLS - 1);
    }

    #[test]
    fn labels_say_the_bounds() {
        let bounds = Bounds::new(&Bounds::USUAL).unwrap();
        assert_eq!(bounds.0[0], (50_000, "0.00005".to_owned()));
        for (nanos, label) in bounds.0 {
            let seconds: f64 = label.parse().unwrap();
            assert!((seconds * 1e9 - nanos as f64).abs() < 1e-3, "{label}");
        }
    }

    #[test]
    fn bounds_are_marks_in_order() {
        assert_eq!(Bounds::new(&[0.001, 7.0]).unwrap().0.len(), 2);
        assert_eq!(Bounds::new(&[]), Err(NoBounds::Count(0)));
        assert_eq!(Bounds::new(&[1.0, 0.5]), Err(NoBounds::Order(0.5, 1.0)));
        for wrong in [0.0011, 0.0, -1.0, 10.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Bounds::new(&[wrong]), Err(NoBounds::Mark(_))), "{wrong}");
        }
    }

    #[test]
    fn a_bound_counts_itself() {
        for bound in MARKS {
            let histogram = Histogram::default();
            histogram.record(bound - 1, 1);
            histogram.record(bound, 1);
            histogram.record(bound + 1, 1);
            let bounds = Bounds::new(&[bound as f64 / 1e9]).unwrap();
            let snapshot = snapshot(&histogram);
            let cumulative = snapshot.cumulative(&bounds);
            assert_eq!(cumulative[0].1, 2, "{bound}");
        }
    }

    #[test]
    fn empty_and_endless() {
        let histogram = Histogram::default();
        assert_eq!(snapshot(&histogram).quantile(0.5), None);
        histogram.record(u64::MAX, 1);
        assert_eq!(snapshot(&histogram).quantile(0.5), Some(LARGEST));
        assert_eq!(snapshot(&histogram).count(), 1);
        assert_eq!(snapshot(&histogram).cumulative(&Bounds::new(&[9.0]).unwrap()), [("9", 0)]);
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
            (0..MARKS.len(), 0_u64..3).prop_map(|(at, off)| MARKS[at] - 1 + off),
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
            let bounds = Bounds::new(&Bounds::USUAL).unwrap();
            for ((bound, _), (le, count)) in bounds.0.iter().zip(total.cumulative(&bounds)) {
                prop_assert_eq!(count, naive.partition_point(|v| v <= bound) as u64, "{}", le);
            }
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
