//! Words without a home of their own: time, sizes, durations, rates, processor time.

pub mod clock;
pub mod duration;
pub mod mutant;
pub mod rate;
pub mod size;
pub mod usage;
