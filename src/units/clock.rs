//! Time. The only reader of the machine's clocks; everything else is handed a [`Clock`] or a
//! [`Tick`], so that a test can play any moment.
//!
//! `CLOCK_BOOTTIME`, because leases must go on while the machine sleeps: `CLOCK_MONOTONIC` stands
//! still then, and an entry would outlive its promise.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moment: nanoseconds since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Tells the time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

/// Moves the time of a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct Hands(Arc<AtomicU64>);

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until its hands are moved. It begins at one second.
    pub fn manual() -> (Self, Hands) {
        let now = Arc::new(AtomicU64::new(1_000_000_000));
        (Self(Source::Manual(Arc::clone(&now))), Hands(now))
    }

    /// Now. About 20 ns: once per batch, not per request.
    #[inline]
    pub fn now(&self) -> Tick {
        match &self.0 {
            Source::System => Tick(nanos(clock_gettime(ClockId::Boottime))),
            Source::Manual(now) => Tick(now.load(Ordering::SeqCst)),
        }
    }
}

impl Hands {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

/// Seconds since 1970, for people and for metrics; never for a decision.
pub fn unix_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Milliseconds since 1970: what expiry times of keys are counted in.
pub fn unix_millis() -> u64 {
    nanos(clock_gettime(ClockId::Realtime)) / 1_000_000
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::Duration;

    #[test]
    fn a_manual_clock_stands_still() {
        let (clock, hands) = Clock::manual();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        hands.advance(Duration::from_millis(5));
        assert_eq!(clock.now().since(before), Duration::from_millis(5));
        assert_eq!(before.since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn the_machine_goes_on() {
        let clock = Clock::system();
        let before = clock.now();
        assert!(before.0 > 0 && clock.now() >= before);
    }
}
