//! How much is logged: each event is counted by its level, and of one place in the code no more
//! are let through than `log.rate_limit` says.
//!
//! In: events that the level lets through. Out: most of them; where a place says more, one event
//! `log_suppressed` in their stead, and a count. Invariant: what operators did (`admin_action`) is
//! never left out.

use crate::units::clock::{Clock, Tick};
use crate::units::rate::Rate;
use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The levels, as metrics name them.
pub(super) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The process has one log.
static LOGGED: [AtomicU64; LEVELS.len()] = [const { AtomicU64::new(0) }; LEVELS.len()];
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Events logged, by level in the order of [`LEVELS`].
pub(super) fn logged() -> [u64; LEVELS.len()] {
    LOGGED.each_ref().map(|count| count.load(Ordering::Relaxed))
}

/// Events left out.
pub(super) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Quiet {
    limit: Rate,
    clock: Clock,
    sites: Mutex<HashMap<Identifier, Site>>,
}

/// A place in the code that says something.
#[derive(Clone, Copy, Debug, Default)]
struct Site {
    /// When the present window began.
    since: Tick,
    /// What was let through in it.
    passed: u32,
    /// What was left out since that was last told.
    dropped: u64,
    is_told: bool,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// The first that does not, in this window; so many did not in an earlier one.
    First(u64),
    Dropped,
}

impl Site {
    fn judge(&mut self, limit: Rate, now: Tick) -> Verdict {
        let Some((most, window)) = limit.0 else { return Verdict::Passes };
        if now.since(self.since) >= window {
            (self.since, self.passed, self.is_told) = (now, 0, false);
        }
        if self.passed < most {
            self.passed += 1;
            return Verdict::Passes;
        }
        if self.is_told {
            self.dropped += 1;
            return Verdict::Dropped;
        }
        self.is_told = true;
        Verdict::First(std::mem::replace(&mut self.dropped, 1))
    }
}

impl Quiet {
    pub(super) fn new(limit: Rate, clock: Clock) -> Self {
        Self { limit, clock, sites: Mutex::new(HashMap::new()) }
    }

    /// A place that says it for the first time begins a window.
    fn judge(&self, site: Identifier) -> Verdict {
        let now = self.clock.now();
        let fresh = Site { since: now, ..Site::default() };
        self.sites.lock().entry(site).or_insert(fresh).judge(self.limit, now)
    }
}

impl<S: Subscriber> Layer<S> for Quiet {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let said = event.metadata();
        // What this room says itself is bounded by what it speaks of.
        if said.target() == module_path!() || is_audit(event) {
            return true;
        }
        let verdict = self.judge(said.callsite());
        if verdict == Verdict::Passes {
            return true;
        }
        SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        if let Verdict::First(suppressed) = verdict {
            let (file, line) = (said.file().unwrap_or_default(), said.line().unwrap_or_default());
            tracing::warn!(
                event = "log_suppressed",
                site = %format_args!("{file}:{line}"),
                suppressed,
                "more than {} of these: the others are not logged (log.rate_limit)",
                self.limit
            );
        }
        false
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level();
        let order = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        let at = order.iter().position(|known| known == level);
        if let Some(count) = at.and_then(|at| LOGGED.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// True if it tells what an operator did.
fn is_audit(event: &Event<'_>) -> bool {
    struct Name(bool);
    impl Visit for Name {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.0 |= field.name() == "event" && value == "admin_action";
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }
    let mut name = Name(false);
    event.record(&mut name);
    name.0
}

#[cfg(test)]
mod tests {
    use super::{Quiet, Verdict, logged, suppressed};
    use crate::units::clock::Clock;
    use crate::units::rate::Rate;
    use std::time::Duration;
    use tracing::callsite::Identifier;
    use tracing_subscriber::layer::SubscriberExt;

    /// Two places.
    fn sites() -> [Identifier; 2] {
        let one = tracing::callsite!(name: "one", kind: tracing::metadata::Kind::EVENT, fields: a);
        let two = tracing::callsite!(name: "two", kind: tracing::metadata::Kind::EVENT, fields: a);
        [one, two].map(|site| Identifier(site))
    }

    #[test]
    fn each_place_has_its_own_bound_and_window() {
        let (clock, hands) = Clock::manual();
        let quiet = Quiet::new(Rate::per_second(2), clock);
        let [one, two] = sites();
        let judge = |site: &Identifier| quiet.judge(site.clone());
        assert_eq!([judge(&one), judge(&one)], [Verdict::Passes, Verdict::Passes]);
        assert_eq!(judge(&one), Verdict::First(0));
        assert_eq!([judge(&one), judge(&one)], [Verdict::Dropped, Verdict::Dropped]);
        assert_eq!(judge(&two), Verdict::Passes);
        hands.advance(Duration::from_secs(1));
        assert_eq!([judge(&one), judge(&one)], [Verdict::Passes, Verdict::Passes]);
        // Those of the last window are told with the next.
        assert_eq!([judge(&one), judge(&one)], [Verdict::First(3), Verdict::Dropped]);
    }

    #[test]
    fn without_a_bound_all_pass() {
        let quiet = Quiet::new(Rate(None), Clock::system());
        let [one, _] = sites();
        assert!((0..1000).all(|_| quiet.judge(one.clone()) == Verdict::Passes));
    }

    #[test]
    fn what_is_logged_is_counted_and_what_operators_do_is_logged() {
        let (clock, _) = Clock::manual();
        let log = tracing_subscriber::registry().with(Quiet::new(Rate::per_second(1), clock));
        // Other tests of this process may log, too.
        let (before, lost) = (logged(), suppressed());
        tracing::subscriber::with_default(log, || {
            for _ in 0..3 {
                tracing::info!(target: "test", event = "admin_action", "audit");
                tracing::error!(target: "test", "trouble");
            }
        });
        let after = logged();
        assert!(after[2] >= before[2] + 3 && after[0] > before[0], "{before:?} {after:?}");
        assert!(suppressed() >= lost + 2);
    }
}
