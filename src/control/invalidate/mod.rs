//! How nearside hears of changes that did not come through it.

pub mod listener;
pub mod tracking;
