//! CLIENT PAUSE, and the bells that tell workers to look around.
//!
//! A pause is one atomic that each batch reads once. Who is held keeps the request it sent; when
//! the pause ends, or is ended, each worker's bell rings (its loop also sleeps no longer than the
//! pause lasts) and the held requests are looked at again. The bells also tell of clients that
//! were killed: what is to be done stands in the registry, so a bell carries no message and no
//! queue can grow.

use crate::command::Spec;
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::session::{Flow, Session};
use crate::units::clock::{Clock, Tick};
use crate::wire::request::Request;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// The latest moment that a pause can end at.
const FOREVER: u64 = u64::MAX >> 1;

/// Which commands are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// None.
    #[default]
    Nothing,
    /// Those that may change something.
    Writes,
    /// All.
    All,
}

/// A pause of all clients; nearly always there is none.
#[derive(Debug, Default)]
pub struct Pause(
    /// When it ends, twice, plus one if everything is held; 0 = none.
    AtomicU64,
);

impl Pause {
    /// Holds commands until `end`. On top of a pause, the later end and the stricter mode hold.
    pub fn begin(&self, now: Tick, end: Tick, is_all: bool) {
        let word = |end: u64, is_all: bool| (end.min(FOREVER) << 1) | u64::from(is_all);
        let merge = |old: u64| {
            let (old_end, was_all) = (old >> 1, old & 1 == 1);
            Some(if old_end <= now.0 {
                word(end.0, is_all)
            } else {
                word(end.0.max(old_end), is_all || was_all)
            })
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, merge).ok();
    }

    /// Lets all go.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What is held now.
    #[inline]
    pub fn held(&self, now: Tick) -> Held {
        match self.0.load(Ordering::Relaxed) {
            word if word >> 1 <= now.0 => Held::Nothing,
            word if word & 1 == 1 => Held::All,
            _ => Held::Writes,
        }
    }

    /// How long it will last, if there is one.
    pub fn left(&self, clock: &Clock) -> Option<Duration> {
        let end = self.0.load(Ordering::Relaxed) >> 1;
        if end == 0 {
            return None;
        }
        let left = Tick(end).since(clock.now());
        (!left.is_zero()).then_some(left)
    }
}

/// What CLIENT PAUSE or UNPAUSE asks for.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A pause, from now.
    Begin {
        /// How long.
        millis: u64,
        /// Reads wait, too.
        is_all: bool,
    },
    /// None any more.
    End,
}

impl Change {
    /// Carries it out; every worker looks at what it holds.
    pub fn carry_out(self, shared: &Shared, now: Tick) {
        match self {
            Self::Begin { millis, is_all } => {
                let end = Tick(now.0.saturating_add(millis.saturating_mul(1_000_000)));
                shared.pause.begin(now, end, is_all);
            }
            Self::End => shared.pause.end(),
        }
        shared.bells.ring();
    }
}

impl Held {
    /// True if this command must wait. What may be replicated counts as a write, as in Redis.
    #[inline]
    pub fn holds(self, spec: &Spec) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Writes => may_replicate(spec),
        }
    }
}

/// The commands that Redis marks `write` or `may_replicate`.
fn may_replicate(spec: &Spec) -> bool {
    spec.writes() || matches!(spec.name, "publish" | "spublish" | "pfcount")
}

/// While clients are paused (CLIENT PAUSE): what must wait, after it was found to be well
/// formed, as in Redis.
#[cold]
pub fn hold(
    session: &Session,
    request: &Request<'_>,
    spec: Option<&'static Spec>,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let spec =
        spec.filter(|spec| session.standing.is_authenticated() && spec.accepts(request.len()))?;
    if batch.held.holds(spec) {
        return Some(Flow::Held);
    }
    let own = session.own.as_ref().filter(|own| own.in_multi && spec.name == "exec")?;
    // Which commands it will execute, the answers say.
    if !session.order.is_clear() {
        return Some(Flow::Barrier);
    }
    let transaction = batch.links.pin(own.link)?.transaction.as_ref()?;
    let writes = transaction.queued.iter().any(|queued| batch.held.holds(queued.spec));
    writes.then_some(Flow::Held)
}

/// One bell for each worker.
#[derive(Debug)]
pub struct Bells(Box<[Notify]>);

impl Bells {
    /// The bells of this many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Notify::new()).collect())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Every worker is to look around.
    pub fn ring(&self) {
        for bell in &self.0 {
            bell.notify_one();
        }
    }

    /// A worker's bell.
    pub fn of(&self, worker: usize) -> Option<&Notify> {
        self.0.get(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::{FOREVER, Held, Pause};
    use crate::command::by_name;
    use crate::units::clock::{Clock, Tick};
    use std::time::Duration;

    #[test]
    fn a_pause_ends_by_itself_or_is_ended() {
        let pause = Pause::default();
        assert_eq!(pause.held(Tick(0)), Held::Nothing);
        pause.begin(Tick(10), Tick(20), false);
        assert_eq!(pause.held(Tick(19)), Held::Writes);
        assert_eq!(pause.held(Tick(20)), Held::Nothing);
        pause.begin(Tick(30), Tick(u64::MAX), true);
        assert_eq!(pause.held(Tick(FOREVER - 1)), Held::All);
        pause.end();
        assert_eq!(pause.held(Tick(31)), Held::Nothing);
    }

    #[test]
    fn the_later_end_and_the_stricter_mode_hold() {
        let pause = Pause::default();
        pause.begin(Tick(10), Tick(50), true);
        pause.begin(Tick(11), Tick(20), false);
        assert_eq!(pause.held(Tick(49)), Held::All);
        // What is over does not count any more.
        pause.begin(Tick(50), Tick(60), false);
        assert_eq!(pause.held(Tick(51)), Held::Writes);
    }

    #[test]
    fn what_is_left_of_it() {
        let (clock, hands) = Clock::manual();
        let pause = Pause::default();
        assert_eq!(pause.left(&clock), None);
        let now = clock.now();
        pause.begin(now, Tick(now.0 + 2_000_000), false);
        hands.advance(Duration::from_millis(1));
        assert_eq!(pause.left(&clock), Some(Duration::from_millis(1)));
        hands.advance(Duration::from_millis(1));
        assert_eq!(pause.left(&clock), None);
    }

    #[test]
    fn writes_are_what_may_be_replicated() {
        for name in ["set", "del", "flushall", "publish", "pfcount", "eval", "fcall", "spublish"] {
            assert!(Held::Writes.holds(by_name(name).unwrap()), "{name}");
        }
        for name in ["get", "ping", "eval_ro", "fcall_ro", "client|list", "keys", "pubsub|numsub"] {
            assert!(!Held::Writes.holds(by_name(name).unwrap()), "{name}");
            assert!(Held::All.holds(by_name(name).unwrap()), "{name}");
            assert!(!Held::Nothing.holds(by_name(name).unwrap()), "{name}");
        }
    }
}
