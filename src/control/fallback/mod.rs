//! What stands in for an upstream that is down (`[fallback]`): when it begins, and how it ends.
//!
//! ```text
//!   upstream is down for `after`: a store in this process; data links lead there (net/switch),
//!                                 and nothing asks upstream but the probe
//!   the probe is answered:        the links let go of the store, one by one, as soon as nothing is
//!                                 out on them; what is asked meanwhile waits
//!   nobody is there any more:     what was written is dropped, or made upstream (replay)
//!                                 the near-cache is emptied
//!                                 links lead upstream again, and tracking begins anew
//! ```
//!
//! In: whether upstream is up (`live`), the clock, the settings. Out: the phase that all look at
//! (`live/fallback`), where links lead, and lines in the log.
//!
//! Invariant: no link leads upstream before what was acknowledged from memory is there, or is
//! dropped and told of; and nothing that a client was answered meanwhile is served afterwards.

mod replay;

use self::replay::{Replayed, Stopped};
use crate::cache::Cache;
use crate::config::{self, FallbackReads, FallbackWrites, OnRecovery};
use crate::embedded::{self, Embedded, Policy, Written};
use crate::live::{Live, Outcome, Phase};
use crate::net::address::Address;
use crate::net::backoff;
use crate::net::dialer::{Dialer, OpenError};
use crate::snapshot::Snapshots;
use crate::stats::{Block, Counter};
use crate::units::clock::{Clock, Tick, unix_millis};
use crate::wire::handshake::Options;
use crate::wire::write::Proto;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked whether upstream is down.
const LOOK: Duration = Duration::from_millis(50);

/// How long nothing is tried behind a replay that was stopped.
const AGAIN: Duration = Duration::from_secs(1);

/// How long links may take to let go of the store by themselves; then it lets go of them.
const PARTING: Duration = Duration::from_secs(2);

/// What the thread works with.
#[derive(Debug)]
pub struct Keeper {
    /// Emptied when upstream is back.
    pub cache: Arc<Cache>,
    /// Where data links lead, and how upstream is reached.
    pub dialer: Arc<Dialer>,
    /// The settings in force.
    pub snapshots: Arc<Snapshots>,
    /// Time.
    pub clock: Clock,
    /// Whether upstream is up, and how far this has come.
    pub live: Arc<Live>,
    /// This thread's counters.
    pub block: Arc<Block>,
}

/// Why the store is not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Upstream answers.
    Back,
    /// `fallback.enabled` is false now.
    SwitchedOff,
}

impl Keeper {
    /// Keeps watch as long as the process lives.
    pub async fn run(self) {
        loop {
            self.until_down().await;
            match self.begin() {
                Ok(store) => {
                    self.keep(&store).await;
                }
                Err(error) => {
                    tracing::error!(error = %error, "no fallback: its store cannot be started");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn settings(&self) -> config::Fallback {
        self.snapshots.newest().settings.fallback
    }

    /// Waits until upstream has been down for long enough.
    async fn until_down(&self) {
        let mut since: Option<Tick> = None;
        loop {
            let snapshot = self.snapshots.newest();
            let settings = snapshot.settings.fallback;
            let can_be_down = self.dialer.target.address != Address::Embedded;
            if !settings.enabled || !can_be_down {
                self.live.fallback.enter(Phase::Off);
                since = None;
                self.snapshots.newer(snapshot.number).await;
                continue;
            }
            match since {
                _ if self.live.is_upstream_up() => {
                    self.live.fallback.enter(Phase::Off);
                    since = None;
                }
                None => {
                    since = Some(self.clock.now());
                    self.live.fallback.enter(Phase::Waiting);
                }
                Some(since) if self.clock.now().since(since) < settings.after => {}
                Some(_) if self.live.links_up() == 0 => return,
                // A tracking link that cannot be opened is no outage where others can; links that
                // are up may be so to a server that does not answer.
                Some(_) => match self.probe().await {
                    Err(error) if !error.is_refusal() => return,
                    _ => {}
                },
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks upstream for a sign of life.
    async fn probe(&self) -> Result<(), OpenError> {
        let options = Options {
            proto: Proto::Resp2,
            username: self.dialer.username(),
            password: self.dialer.password(),
            database: self.dialer.target.database,
            name: Some(&self.dialer.name),
            tracking: None,
            asks_id: false,
        };
        self.dialer.open(&options).await.map(drop)
    }

    /// From now on a store stands in for upstream.
    fn begin(&self) -> io::Result<Arc<Embedded>> {
        let settings = self.settings();
        let store = Arc::new(embedded::stand_in(policy(&settings))?);
        self.live.fallback.begin(self.clock.now());
        self.dialer.switch.divert(Arc::new(store.door()));
        tracing::warn!(
            event = "fallback_on",
            upstream = %self.dialer.target,
            reads = settings.reads.as_str(),
            writes = settings.writes.as_str(),
            "upstream is down: clients are answered without it"
        );
        Ok(store)
    }

    /// Stands in for upstream until it is back.
    async fn keep(&self, store: &Arc<Embedded>) {
        let mut attempt = 0;
        loop {
            let over = self.until_over(store, &mut attempt).await;
            self.part(store).await;
            match self.recover(store, over).await {
                Ok(outcome) => return self.end(outcome),
                Err(stopped) => {
                    tracing::warn!(
                        event = "fallback_replay_stopped",
                        error = %stopped,
                        "upstream did not take what was written without it: it is tried again, and \
                         the fallback goes on until then"
                    );
                    self.live.fallback.enter(Phase::Active);
                    self.dialer.switch.divert(Arc::new(store.door()));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Waits until the store is not needed any more.
    async fn until_over(&self, store: &Embedded, attempt: &mut u32) -> Over {
        loop {
            let probing = async {
                tokio::time::sleep(backoff(*attempt)).await;
                self.probe().await
            };
            let watching = self.watch(store);
            let answer = tokio::select! { biased;
                answer = probing => answer,
                () = watching => return Over::SwitchedOff,
            };
            *attempt = attempt.saturating_add(1);
            if answer.is_ok() {
                return Over::Back;
            }
        }
    }

    /// Has the store do as the settings say, and tells how much it holds, until it is switched off.
    async fn watch(&self, store: &Embedded) {
        loop {
            let settings = self.settings();
            if !settings.enabled {
                return;
            }
            store.obey(policy(&settings)).await;
            self.tell_written(store).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn tell_written(&self, store: &Embedded) -> u64 {
        let Written { keys, bytes } = store.written().await.unwrap_or_default();
        let many = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.live.fallback.set_written(many(keys), many(bytes));
        many(keys)
    }

    /// Nothing is asked of the store any more.
    async fn part(&self, store: &Embedded) {
        self.live.fallback.enter(Phase::Recovering);
        let switch = &self.dialer.switch;
        switch.close_detour();
        if tokio::time::timeout(PARTING, switch.until_no_detour()).await.is_err() {
            // Who blocks, or does not read.
            store.close_connections().await;
            tokio::time::timeout(PARTING, switch.until_no_detour()).await.ok();
        }
        // Whoever is still there is not heard any more.
        store.close_connections().await;
    }

    /// Does with what was written what the settings say.
    async fn recover(&self, store: &Embedded, over: Over) -> Result<Outcome, Stopped> {
        let keys = self.tell_written(store).await;
        let lasted = self.clock.now().since(self.live.fallback.since());
        let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let mut outcome = Outcome { at: unix_millis(), lasted, ..Outcome::default() };
        let settings = self.snapshots.newest();
        let replays = settings.settings.fallback.on_recovery == OnRecovery::Replay;
        if over == Over::Back && replays && keys > 0 {
            let timeout = settings.limits.write_timeout;
            let replayed = replay::run(store, &self.dialer, timeout).await?;
            self.tell_lost(&replayed);
            (outcome.replayed, outcome.lost) = (replayed.made, replayed.lost);
        } else {
            outcome.dropped = keys;
        }
        Ok(outcome)
    }

    fn tell_lost(&self, replayed: &Replayed) {
        if replayed.lost > 0 {
            tracing::error!(
                event = "fallback_writes_lost",
                upstream = %self.dialer.target,
                keys = replayed.lost,
                error = replayed.first_error.as_deref().unwrap_or_default(),
                "upstream refused keys that were written without it: they are lost"
            );
        }
    }

    /// Links lead upstream again.
    fn end(&self, outcome: Outcome) {
        let Outcome { lasted, replayed, dropped, lost, .. } = outcome;
        self.block.add(Counter::FallbackReplayed, replayed);
        self.block.add(Counter::FallbackDropped, dropped);
        self.block.add(Counter::FallbackLost, lost);
        // Before anybody can fill it anew, or be answered from it.
        self.cache.clear();
        self.block.add(Counter::FlushesFallback, 1);
        let is_switched_off = !self.settings().enabled;
        if !is_switched_off {
            self.live.set_upstream_up(true);
        }
        self.live.fallback.end(outcome);
        self.dialer.switch.undivert();
        tracing::warn!(
            event = "fallback_off",
            upstream = %self.dialer.target,
            duration_ms = lasted,
            replayed,
            dropped,
            lost,
            "{}",
            if is_switched_off { "the fallback was switched off" } else { "upstream is back" }
        );
    }
}

/// What is asked of the store.
fn policy(settings: &config::Fallback) -> Policy {
    Policy {
        knows_all: settings.reads == FallbackReads::Nil,
        takes_writes: settings.writes == FallbackWrites::Memory,
        max_memory: settings.max_bytes,
    }
}
