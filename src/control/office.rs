//! The office: what runs beside the data wing on the main thread. Signals, health, metrics, the
//! sweep of dead entries, and the orderly end.

use crate::cache::{Cache, Sweep};
use crate::control::admin::{self, Admin, Check};
use crate::control::observe::metrics::Metrics;
use crate::live::Live;
use crate::units::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A whole sweep takes about this many ticks of `cache.sweep_interval`.
const SWEEP_TICKS: u64 = 16;

/// Places looked at per tick at least, and between two moments in which others may run.
const SWEEP_STEP: usize = 1024;

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT: what was received is answered first.
    Drain,
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

    /// Waits for the next one.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Drain,
            _ = self.interrupt.recv() => Stop::Drain,
            _ = self.quit.recv() => Stop::Now,
        }
    }
}

/// Drops dead entries, a part of the store at a time. Nothing dead is ever served; this only gives
/// its memory back.
pub async fn sweep(cache: Arc<Cache>, clock: Clock, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut sweep = Sweep::default();
        let mut is_more = true;
        while is_more {
            ticks.tick().await;
            // A table has two places for each entry at most, but when many have left.
            let places = cache.figures().entries * 2;
            let part = usize::try_from(places / SWEEP_TICKS).unwrap_or(usize::MAX);
            let mut left = part.max(SWEEP_STEP);
            while is_more && left > 0 {
                is_more = cache.sweep(&mut sweep, left.min(SWEEP_STEP), clock.now());
                left = left.saturating_sub(SWEEP_STEP);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// What /readyz asks.
pub fn checks(live: &Live, cache: &Cache, is_tracking: bool, is_learning: bool) -> Vec<Check> {
    let check = |name, ok, good: &str, bad: &str| Check {
        name,
        ok,
        detail: if ok { good } else { bad }.to_owned(),
    };
    let mut checks = vec![
        // Links are opened on demand: an upstream that answered before is up until a link says
        // otherwise.
        check("upstream", live.is_upstream_up(), "reached", "not reached"),
        check("draining", !live.is_draining(), "no", "yes: no new work, please"),
    ];
    if is_learning {
        let is_learned = live.learned().is_some();
        checks.push(check("commands", is_learned, "learned", "upstream was not asked yet"));
    }
    if is_tracking {
        let up = cache.tracking().is_up();
        let bad = if live.is_tracking_on() {
            "up, but no barrier round was confirmed: nothing is served from the cache (the \
             upstream's user needs +ping and +role)"
        } else {
            "down: nothing is served from the cache"
        };
        checks.push(check("tracking", up, "up", bad));
    }
    checks
}

/// Serves /metrics, /livez and /readyz until the process ends.
pub async fn serve_admin(
    listener: tokio::net::TcpListener,
    metrics_path: &str,
    metrics: Arc<Metrics>,
    ready: impl Fn() -> Vec<Check> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let admin = Admin::new(metrics, metrics_path, ready)?;
    admin::serve(listener, admin, std::future::pending()).await?;
    Ok(())
}
