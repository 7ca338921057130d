//! Words without a home of their own: time, sizes, durations, processor time.

pub mod clock;
pub mod duration;
pub mod mutant;
pub mod size;
pub mod usage;
