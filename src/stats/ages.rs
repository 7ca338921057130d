//! How old replies were when they were hits, of those hits that the [sampler](super::sampler)
//! looks at.
//!
//! In: an age, and how many hits it stands for. Out: [`HitAges`], for a Prometheus histogram. One
//! thread writes, others read at any time; nothing is allocated.

use super::bump;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of the histogram: milliseconds, and seconds as the label `le` writes them.
pub const AGE_BOUNDS: [(u64, &str); 10] = [
    (1, "0.001"),
    (10, "0.01"),
    (100, "0.1"),
    (1_000, "1"),
    (5_000, "5"),
    (10_000, "10"),
    (30_000, "30"),
    (60_000, "60"),
    (300_000, "300"),
    (3_600_000, "3600"),
];

/// Ages of hits, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitAges {
    /// Hits by the bound that they lie under, not cumulative; the last: above all.
    pub hits: [u64; AGE_BOUNDS.len() + 1],
    /// Of all, in milliseconds.
    pub millis: u64,
}

/// What one thread counts.
#[derive(Debug, Default)]
pub(super) struct Ages {
    hits: [AtomicU64; AGE_BOUNDS.len() + 1],
    millis: AtomicU64,
}

impl Ages {
    /// So many hits on a reply of this age.
    pub(super) fn add(&self, age: Duration, hits: u64) {
        let above = AGE_BOUNDS.iter().take_while(|(bound, _)| age > Duration::from_millis(*bound));
        if let Some(cell) = self.hits.get(above.count()) {
            bump(cell, hits);
        }
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        bump(&self.millis, millis.wrapping_mul(hits));
    }

    pub(super) fn add_to(&self, total: &mut HitAges) {
        for (total, cell) in total.hits.iter_mut().zip(&self.hits) {
            *total += cell.load(Ordering::Relaxed);
        }
        total.millis = total.millis.wrapping_add(self.millis.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::{Ages, HitAges};
    use std::time::Duration;

    #[test]
    fn a_bound_belongs_to_what_lies_under_it() {
        let ages = Ages::default();
        for micros in [0, 1_000, 1_001, 60_000_000, 3_600_000_001] {
            ages.add(Duration::from_micros(micros), 2);
        }
        let mut total = HitAges::default();
        ages.add_to(&mut total);
        ages.add_to(&mut total);
        assert_eq!(total.hits, [8, 4, 0, 0, 0, 0, 0, 4, 0, 0, 4]);
        assert_eq!(total.millis, 4 * (1 + 1 + 60_000 + 3_600_000));
    }
}
