//! Words without a home of their own: time, sizes and what the allocator makes of them, durations,
//! rates, schedules, levels of the log, processor time.

pub mod clock;
pub mod cron;
pub mod duration;
pub mod log_level;
pub mod mutant;
pub mod rate;
pub mod size;
pub mod size_class;
pub mod usage;
