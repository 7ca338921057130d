//! The office: what runs beside the data wing on the main thread. Signals, health, metrics, the
//! sweep of dead entries, and the orderly end.

use crate::behind::queue::Queue;
use crate::cache::{Ban, Cache, Walk};
use crate::config::Mode;
use crate::control::admin::Check;
use crate::control::manager;
use crate::control::observe::chart::Chart;
use crate::control::observe::heard::Heard;
use crate::live::{Live, Phase};
use crate::net::switch::Switch;
use crate::stats::{Counter, Gauge, Stats};
use crate::units::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Interval;

/// A whole sweep takes about this many ticks of `cache.sweep_interval`.
const SWEEP_TICKS: u64 = 16;

/// Places looked at per tick at least, and between two rests: some 0.3 ms where all are dropped.
const SWEEP_STEP: usize = 1024;

/// How long a sweep rests behind each step, also where somebody waits for it. It may share a
/// core with a worker, whose hits would wait for as long as the system lets a busy thread run.
const SWEEP_REST: Duration = Duration::from_millis(1);

/// What workers note of lookups is taken away so often: their lists are bounded.
const PULSE: Duration = Duration::from_millis(200);

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT: what was received is answered first.
    Drain,
    /// Another process accepts in this one's place: what was received is answered, without the
    /// delay in which clients are to learn of it.
    HandedOver,
    /// SIGQUIT, or a second signal: at once.
    Now,
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// SIGHUP, which ends nothing.
    pub fn hangup(&self) -> std::io::Result<Signal> {
        signal(SignalKind::hangup())
    }

    /// SIGUSR1, which ends nothing either.
    pub fn user1(&self) -> std::io::Result<Signal> {
        signal(SignalKind::user_defined1())
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Drain,
            _ = self.interrupt.recv() => Stop::Drain,
            _ = self.quit.recv() => Stop::Now,
        }
    }
}

/// Writes the figures that matter most to the log whenever it is asked to, as long as the process
/// lives: for who has a shell there, and no way to the admin port.
pub async fn tell_stats(mut asked: Signal, stats: Arc<Stats>, live: Arc<Live>, cache: Arc<Cache>) {
    while asked.recv().await.is_some() {
        let figures = cache.figures();
        tracing::info!(
            event = "stats",
            mode = live.mode().as_str(),
            upstream_up = live.is_upstream_up(),
            tracking_up = cache.tracking().is_up(),
            clients = stats.clients(),
            commands_in_flight = stats.gauge(Gauge::CommandsInFlight),
            hits = stats.counter(Counter::LookupHit),
            misses = stats.counter(Counter::LookupMiss),
            coalesced = stats.counter(Counter::LookupCoalesced),
            bypassed = stats.counter(Counter::LookupBypass),
            entries = figures.entries,
            memory_used_bytes = figures.used_bytes,
            memory_max_bytes = figures.max_bytes,
            evicted = figures.evicted,
            "figures since the start"
        );
    }
}

/// Drops dead entries, a part of the store at a time. Nothing dead is ever served; this only gives
/// its memory back, and counts what bans have removed.
#[derive(Clone, Debug)]
pub struct Sweeper {
    cache: Arc<Cache>,
    /// Somebody waits for a count: nothing but short rests until the sweep is through.
    wanted: Arc<Notify>,
    /// A sweep is through.
    done: Arc<Notify>,
}

impl Sweeper {
    /// For this cache.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self { cache, wanted: Arc::default(), done: Arc::default() }
    }

    /// Sweeps as long as the process lives, over and over, with pauses of `every` between parts.
    pub async fn run(self, clock: Clock, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.sweep(&clock, &mut ticks).await;
            self.done.notify_waiters();
        }
    }

    async fn sweep(&self, clock: &Clock, ticks: &mut Interval) {
        let mut sweep = self.cache.start_sweep();
        let (mut is_more, mut is_wanted) = (true, false);
        while is_more {
            if !is_wanted {
                is_wanted = tokio::select! {
                    () = self.wanted.notified() => true,
                    _ = ticks.tick() => false,
                };
            }
            // A table has two places for each entry at most, but when many have left.
            let places = self.cache.figures().entries * 2;
            let part = usize::try_from(places / SWEEP_TICKS).unwrap_or(usize::MAX);
            let mut left = part.max(SWEEP_STEP);
            while is_more && left > 0 {
                is_more = self.cache.sweep(&mut sweep, left.min(SWEEP_STEP), clock.now());
                left = left.saturating_sub(SWEEP_STEP);
                tokio::time::sleep(SWEEP_REST).await;
            }
        }
    }

    /// The sweep that runs, or the next one, waits for no tick.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Keys that are held, dead ones included.
    pub fn entries(&self) -> u64 {
        self.cache.figures().entries
    }

    /// Shows `see` every key that is held.
    pub async fn visit(&self, clock: &Clock, mut see: impl FnMut(&[u8])) {
        self.visit_sized(clock, |key, _| see(key)).await;
    }

    /// Shows `see` every key that is held, and the accounted bytes of its replies.
    pub async fn visit_sized(&self, clock: &Clock, mut see: impl FnMut(&[u8], u64)) {
        let mut walk = Walk::default();
        while self.cache.walk(&mut walk, SWEEP_STEP, clock.now(), &mut see) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until nothing is left that `ban` could remove.
    pub async fn settled(&self, ban: &Ban) {
        loop {
            // Before the question: a sweep that ends in between is not missed.
            let done = self.done.notified();
            if ban.is_settled() {
                return;
            }
            // The sweep that runs may have begun before the ban; then the next one has it.
            self.hurry();
            done.await;
        }
    }
}

/// Says when nearside first is ready, and whenever it is no more or again, as long as the process
/// lives.
pub async fn tell_ready(ready: impl Fn() -> Vec<Check>) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was = false;
    loop {
        ticks.tick().await;
        let fails = |check: &Check| format!("{}: {}", check.name, check.detail);
        let checks = ready();
        let failing: Vec<_> = checks.iter().filter(|check| !check.ok).map(fails).collect();
        let is = failing.is_empty();
        if is && !was {
            tracing::info!(event = "ready", "ready");
            manager::status("ready");
        } else if was && !is {
            let failing = failing.join("; ");
            manager::status(&format!("not ready: {failing}"));
            tracing::warn!(event = "not_ready", failing, "not ready");
        }
        was = is;
    }
}

/// Has the counters and the charts know the time, as long as the process lives.
pub async fn pulse(stats: Arc<Stats>, heard: Arc<Heard>, chart: Arc<Chart>, clock: Clock) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stats.tick(clock.now());
        heard.look(&stats);
        chart.tick();
    }
}

/// What /readyz asks.
pub fn checks(
    live: &Live,
    cache: &Cache,
    switch: &Switch,
    is_tracking: bool,
    is_learning: bool,
) -> Vec<Check> {
    let check = |name, ok, good: &str, bad: &str| Check {
        name,
        ok,
        detail: if ok { good } else { bad }.to_owned(),
    };
    // What clients ask is answered: what cannot be said of upstream is no reason to go elsewhere.
    let stands_in = matches!(live.fallback.phase(), Phase::Active | Phase::Recovering);
    let mut checks = vec![
        upstream(live, switch, stands_in),
        check(
            "draining",
            !live.is_draining() && !live.is_withdrawn(),
            "no",
            "yes: no new work, please",
        ),
    ];
    if is_learning && !stands_in {
        let is_learned = live.learned().is_some();
        checks.push(check("commands", is_learned, "learned", "upstream was not asked yet"));
    }
    if is_tracking && live.mode() != Mode::Bypass && !stands_in {
        let up = cache.tracking().is_up();
        let deaf = live.canary_trouble().map(|trouble| {
            format!("the written canary is not heard: nothing is served from the cache ({trouble})")
        });
        let bad = match &deaf {
            Some(deaf) => deaf,
            None if live.is_tracking_on() => {
                "up, but no barrier round was confirmed: nothing is served from the cache (the \
                 upstream's user needs +ping and +role)"
            }
            None => "down: nothing is served from the cache",
        };
        checks.push(check("tracking", up, "up", bad));
    }
    checks
}

/// Whether writes are taken before upstream has them. Where they are not they are made upstream at
/// once, so that is no reason to go elsewhere.
pub fn behind(queue: &Queue) -> Check {
    let (waiting, ..) = queue.figures();
    let detail = match (queue.has_failed(), waiting) {
        (true, _) => "its log has failed: writes are made upstream before they are acknowledged",
        (false, 0) => "nothing waits",
        (false, _) => "writes wait for upstream",
    };
    Check { name: "write_behind", ok: true, detail: detail.to_owned() }
}

/// At the end: what was acknowledged and upstream does not have.
pub fn tell_left(queue: &Queue) {
    match queue.figures().0 {
        0 => {}
        writes if queue.acknowledges_at_once() => tracing::error!(
            event = "write_behind_lost",
            writes,
            "writes that were acknowledged end with this process (write_behind.ack = \"memory\")"
        ),
        writes => tracing::warn!(
            event = "write_behind_kept",
            writes,
            "writes that upstream does not have yet are in the log: the next start makes them"
        ),
    }
}

/// Whether what clients ask is answered, and by whom. Links are opened on demand: an upstream that
/// answered before is up until a link says otherwise.
fn upstream(live: &Live, switch: &Switch, stands_in: bool) -> Check {
    let is_enabled = switch.is_enabled();
    let is_up = is_enabled && live.is_upstream_up();
    let detail = match live.fallback.phase() {
        Phase::Active => "not reached: clients are answered without it ([fallback])",
        Phase::Recovering => "reached again: it is given what was written without it ([fallback])",
        _ if is_up => "reached",
        _ if is_enabled => "not reached",
        _ => "disabled by an operator",
    };
    let name = if stands_in { "fallback" } else { "upstream" };
    Check { name, ok: is_up || stands_in, detail: detail.to_owned() }
}
