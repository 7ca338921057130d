//! No more than so many keys per second.

use super::{Running, Stopped};
use crate::units::clock::Tick;
use crate::units::rate::Rate;
use std::time::Duration;

const TENTH: Duration = Duration::from_millis(100);

/// Lets keys pass at a rate. What was not used is not saved up.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    next: Tick,
}

impl Pace {
    /// Keys at this rate; without a bound: as fast as it goes.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, next: Tick(0) }
    }

    /// How many keys of `most` go at a time: none waits for more than a tenth of a second for its
    /// neighbours.
    pub fn part(&self, most: usize) -> usize {
        let Some((count, time)) = self.rate.0 else { return most.max(1) };
        let tenth = u128::from(count) * TENTH.as_nanos() / time.as_nanos().max(1);
        most.clamp(1, usize::try_from(tenth).unwrap_or(usize::MAX).max(1))
    }

    /// Waits until `count` more keys may pass.
    pub async fn pass(&mut self, count: usize, job: &Running) -> Result<(), Stopped> {
        job.check()?;
        let Some((per, time)) = self.rate.0 else { return Ok(()) };
        let now = job.clock.now();
        let at = self.next.max(now);
        let nanos = (count as u128) * time.as_nanos() / u128::from(per.max(1));
        self.next = Tick(at.0.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)));
        job.wait(tokio::time::sleep(at.since(now))).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Rate};

    #[test]
    fn a_part_is_a_tenth_of_a_second_at_most() {
        for (rate, most, part) in [(0, 100, 100), (5000, 100, 100), (100, 100, 10), (3, 100, 1)] {
            let rate = Rate::of_second(rate);
            assert_eq!(Pace::new(rate).part(most), part, "{rate}");
        }
    }
}
