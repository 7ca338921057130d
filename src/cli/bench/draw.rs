//! Which key is next, and whether it is read. In: how keys are skewed, a seed; out: numbers, the
//! same ones in every run and for every server.

use std::rc::Rc;
use std::str::FromStr;

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Skew {
    /// All alike.
    Uniform,
    /// The n-th most popular in proportion to n to the minus this.
    Zipf(f64),
}

impl FromStr for Skew {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, &'static str> {
        let exponent = |text: &str| text.parse().ok().filter(|s| (0.0..=10.0).contains(s));
        match written.split_once(':') {
            None if written == "uniform" => Ok(Self::Uniform),
            Some(("zipf", text)) => exponent(text).map(Self::Zipf).ok_or("zipf takes 0 to 10"),
            _ => Err("write uniform, or zipf:1.0"),
        }
    }
}

/// One connection's numbers.
#[derive(Debug)]
pub(super) struct Draw {
    state: u64,
    space: u32,
    get_ratio: f64,
    /// Of each key the sum of the weights up to it, the last 1; none if all are alike.
    sums: Rc<[f64]>,
}

impl Draw {
    /// One for each of the connections of a server.
    pub(super) fn all(skew: Skew, space: u32, get_ratio: f64, clients: u16) -> Vec<Self> {
        let sums: Rc<[f64]> = match skew {
            Skew::Uniform => Rc::default(),
            Skew::Zipf(exponent) => sums(space, exponent).into(),
        };
        let one = |seed| Self { state: seed, space, get_ratio, sums: Rc::clone(&sums) };
        (0..u64::from(clients)).map(one).collect()
    }

    /// The number of a key.
    pub(super) fn key(&mut self) -> usize {
        let point = self.unit();
        if self.sums.is_empty() {
            let at = (u64::from(self.space) * u64::from(self.bits())) >> 32;
            return usize::try_from(at).unwrap_or(0);
        }
        self.sums.partition_point(|sum| *sum <= point).min(self.sums.len() - 1)
    }

    /// True for a GET.
    pub(super) fn is_get(&mut self) -> bool {
        self.unit() < self.get_ratio
    }

    /// From 0 up to, not including, 1.
    fn unit(&mut self) -> f64 {
        f64::from(self.bits()) / (f64::from(u32::MAX) + 1.0)
    }

    /// Thirty-two bits of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number
    /// generators, 2014).
    fn bits(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)
    }
}

fn sums(space: u32, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = (1..=space)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    for part in &mut sums {
        *part /= sum;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{Draw, Skew};

    fn counts(skew: Skew) -> Vec<u32> {
        let mut counts = vec![0; 10];
        for mut draw in Draw::all(skew, 10, 0.5, 2) {
            for _ in 0..50_000 {
                counts[draw.key()] += 1;
            }
        }
        counts
    }

    #[test]
    fn keys_are_as_often_as_they_should_be() {
        for count in counts(Skew::Uniform) {
            assert!((9_500..10_500).contains(&count), "{count}");
        }
        // The harmonic number of ten is 2.929.
        for (count, rank) in counts(Skew::Zipf(1.0)).into_iter().zip(1..) {
            let due = 100_000.0 / 2.929 / f64::from(rank);
            assert!((f64::from(count) / due - 1.0).abs() < 0.05, "{rank}: {count} of {due}");
        }
    }

    #[test]
    fn reads_are_as_many_as_they_should_be_and_all_runs_alike() {
        let take = || {
            let mut draw = Draw::all(Skew::Zipf(0.8), 100, 0.9, 1).remove(0);
            (0..10_000).map(|_| (draw.key(), draw.is_get())).collect::<Vec<_>>()
        };
        let reads = take().iter().filter(|(_, is_get)| *is_get).count();
        assert!((8_900..9_100).contains(&reads), "{reads}");
        assert_eq!(take(), take());
    }

    #[test]
    fn a_skew_is_written_in_one_of_two_ways() {
        assert_eq!("uniform".parse(), Ok(Skew::Uniform));
        assert_eq!("zipf:0.9".parse(), Ok(Skew::Zipf(0.9)));
        for wrong in ["zipf", "zipf:x", "zipf:-1", "uniform:1", ""] {
            assert!(wrong.parse::<Skew>().is_err(), "{wrong}");
        }
    }
}
