//! Words without a home of their own: time, sizes, durations, secrets.

pub mod clock;
pub mod mutant;
