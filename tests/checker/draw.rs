//! Draws: one seed and the name of a stream give the same choices each time.

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    /// The stream `name` of a seed.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        let mut draw = Self(seed ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        draw.next();
        draw
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without it.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.next() % (last - first + 1)
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.next() % 100 < share
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The n-th of some things is drawn in proportion to 1/(n+2): the first is not half of all.
#[derive(Debug)]
pub(crate) struct Zipf(Vec<u64>);

impl Zipf {
    pub(crate) fn new(count: usize) -> Self {
        let mut sum = 0;
        let weights = (1..=count as u64).map(|rank| {
            sum += 1_000_000 / (rank + 2);
            sum
        });
        Self(weights.collect())
    }

    pub(crate) fn pick(&self, draw: &mut Draw) -> usize {
        let sum = self.0.last().copied().unwrap_or(1);
        let at = draw.next() % sum;
        self.0.partition_point(|end| *end <= at)
    }
}
