//! Whether something stands in for an upstream that is down (`[fallback]`), how much it was told,
//! and what became of that. Written by the thread that decides on it, read by everybody.
//!
//! ```text
//!   off --upstream is down--> waiting --`after`--> active --it answers--> recovering --> off
//!                                                    ^---------it is gone again---'
//! ```

use crate::units::clock::{Tick, unix_millis};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing stands in for upstream.
    Off,
    /// Upstream is down, and `fallback.after` is not over.
    Waiting,
    /// It is, and clients are answered without it.
    Active,
    /// It answers again; what is asked waits until what was written meanwhile is dropped or made
    /// there.
    Recovering,
}

impl Phase {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Recovering => "recovering",
        }
    }
}

/// What became of the writes of one outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When it was over, in milliseconds since 1970.
    pub at: u64,
    /// How long it was active, in milliseconds.
    pub lasted: u64,
    /// Keys that were made upstream what they were in memory.
    pub replayed: u64,
    /// Keys that were forgotten, as the configuration says.
    pub dropped: u64,
    /// Keys that upstream has refused.
    pub lost: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Fallback {
    phase: AtomicU8,
    /// When it became active last.
    since: AtomicU64,
    /// The same, in milliseconds since 1970.
    since_unix: AtomicU64,
    keys: AtomicU64,
    bytes: AtomicU64,
    last: Mutex<Option<Outcome>>,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Off as u8),
            since: AtomicU64::new(0),
            since_unix: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }
}

impl Fallback {
    /// How far it has come.
    pub fn phase(&self) -> Phase {
        const PHASES: [Phase; 4] = [Phase::Off, Phase::Waiting, Phase::Active, Phase::Recovering];
        let number = usize::from(self.phase.load(Ordering::SeqCst));
        PHASES.get(number).copied().unwrap_or(Phase::Off)
    }

    /// True while clients are answered without upstream.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Active as u8
    }

    /// It has come so far.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// It is active from now on, with nothing written.
    pub fn begin(&self, now: Tick) {
        self.since.store(now.0, Ordering::SeqCst);
        self.since_unix.store(unix_millis(), Ordering::SeqCst);
        self.set_written(0, 0);
        self.enter(Phase::Active);
    }

    /// When it became active last.
    pub fn since(&self) -> Tick {
        Tick(self.since.load(Ordering::Relaxed))
    }

    /// The same, in milliseconds since 1970.
    pub fn since_unix(&self) -> u64 {
        self.since_unix.load(Ordering::Relaxed)
    }

    /// Keys and bytes that it was told.
    pub fn written(&self) -> (u64, u64) {
        (self.keys.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// It was told so many keys, of so many bytes with their values.
    pub fn set_written(&self, keys: u64, bytes: u64) {
        self.keys.store(keys, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// What became of the writes of the last outage, if there was one.
    pub fn last(&self) -> Option<Outcome> {
        *self.last.lock()
    }

    /// It is over, and this became of what was written.
    pub fn end(&self, outcome: Outcome) {
        *self.last.lock() = Some(outcome);
        self.set_written(0, 0);
        self.enter(Phase::Off);
    }
}
