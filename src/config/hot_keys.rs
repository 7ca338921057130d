//! `[hotkeys]`: whether keys that are asked for most are noted, and how they are shown.

use crate::config::check::{Notes, span};
use crate::config::{HotKeys, ShowKeys, written};
use crate::stats;
use std::time::Duration;

/// A worker has three sketches, and a place in one takes 152 bytes.
const CAPACITY_MAX: usize = 65_536;

/// A sample of fewer tells nothing of an hour.
const SAMPLE_MAX: u32 = 65_536;

pub(super) fn hot_keys(written: &written::HotKeys, notes: &mut Notes) -> HotKeys {
    let capacity = written.capacity.unwrap_or(1000);
    if !(1..=CAPACITY_MAX).contains(&capacity) {
        notes.fault(format!("hotkeys.capacity: {capacity} is not between 1 and {CAPACITY_MAX}"));
    }
    let half_life = span(written.half_life, Duration::from_mins(1));
    if half_life < Duration::from_secs(1) {
        notes.fault("hotkeys.half_life: at least 1s; to note no keys use enabled = false");
    }
    let sample = written.sample.unwrap_or(16);
    if !(1..=SAMPLE_MAX).contains(&sample) {
        notes.fault(format!("hotkeys.sample: {sample} is not between 1 and {SAMPLE_MAX}"));
    }
    HotKeys {
        capacity: if written.enabled.unwrap_or(true) { capacity } else { 0 },
        half_life,
        sample: sample.clamp(1, SAMPLE_MAX),
        show: written.show_keys.unwrap_or(ShowKeys::Hash),
    }
}

impl From<HotKeys> for stats::HotKeys {
    fn from(HotKeys { capacity, half_life, sample, .. }: HotKeys) -> Self {
        Self { capacity, half_life, sample: sample.into() }
    }
}
