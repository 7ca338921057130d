//! No more than so many keys per second.

use super::{Running, Stopped};
use crate::units::clock::Tick;

/// Lets keys pass at a rate. What was not used is not saved up.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    next: Tick,
}

impl Pace {
    /// `rate` keys per second; 0: as fast as it goes.
    pub const fn new(rate: u64) -> Self {
        Self { rate, next: Tick(0) }
    }

    /// How many keys of `most` go at a time: none waits for more than a tenth of a second for its
    /// neighbours.
    pub fn part(&self, most: usize) -> usize {
        let tenth = usize::try_from(self.rate / 10).unwrap_or(usize::MAX);
        if self.rate == 0 { most.max(1) } else { most.clamp(1, tenth.max(1)) }
    }

    /// Waits until `count` more keys may pass.
    pub async fn pass(&mut self, count: usize, job: &Running) -> Result<(), Stopped> {
        job.check()?;
        if self.rate == 0 {
            return Ok(());
        }
        let now = job.clock.now();
        let at = self.next.max(now);
        self.next = Tick(at.0 + (count as u64).saturating_mul(1_000_000_000) / self.rate);
        job.wait(tokio::time::sleep(at.since(now))).await
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn a_part_is_a_tenth_of_a_second_at_most() {
        for (rate, most, part) in [(0, 100, 100), (5000, 100, 100), (100, 100, 10), (3, 100, 1)] {
            assert_eq!(Pace::new(rate).part(most), part, "{rate}");
        }
    }
}
