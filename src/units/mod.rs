//! Words without a home of their own: time, sizes, durations.

pub mod clock;
pub mod duration;
pub mod mutant;
pub mod size;
