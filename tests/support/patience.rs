//! How tests await what other processes do.

use nearside::units::clock::Clock;
use std::time::Duration;

/// Far more than any step needs, on a machine that does much else: a limit of the tests, not a
/// measure.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// Asks until `found` answers something; fails with `what` after [`LONG`].
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let begun = clock.now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(clock.now().since(begun) < LONG, "in {LONG:?} not seen: {what}");
        // Only spares the processor: what is awaited is asked for, not timed.
        std::thread::sleep(Duration::from_millis(2));
    }
}
