//! When runs begin by themselves: at the start, each so often, or by cron. One after another: a run
//! whose time has come while another is at work waits for its end.

use super::{Refused, SNAPSHOT, Warm};
use crate::config::{Mode, WarmingJob, WarmingKeys, When};
use crate::control::admin::Check;
use crate::units::clock::{Tick, unix_seconds};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the clocks are looked at, and upstream before it is there.
const LOOK: Duration = Duration::from_secs(1);
const MEETING: Duration = Duration::from_millis(50);

/// When a job is begun next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Never,
    /// At this tick; in seconds since 1970, for people.
    At(Tick, u64),
    /// At this second since 1970.
    On(u64),
}

impl Plan {
    fn after(when: &When, now: Tick) -> Self {
        let unix = unix_seconds();
        match when {
            When::Asked => Self::Never,
            When::Every(every) => {
                let nanos = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                let shown = unix.saturating_add(every.as_secs());
                Self::At(Tick(now.0.saturating_add(nanos)), shown)
            }
            When::Cron(cron) => cron.after(unix).map_or(Self::Never, Self::On),
        }
    }

    fn is_due(self, now: Tick) -> bool {
        match self {
            Self::Never => false,
            Self::At(at, _) => at <= now,
            Self::On(second) => second <= unix_seconds(),
        }
    }

    /// In seconds since 1970.
    pub(super) const fn unix(&self) -> Option<u64> {
        match *self {
            Self::Never => None,
            Self::At(_, second) | Self::On(second) => Some(second),
        }
    }
}

impl Warm {
    /// Begins what is to be begun, for as long as the process lives.
    pub async fn keep_time(self: Arc<Self>) {
        self.plan_all();
        if self.settings.on_start {
            self.at_start().await;
        }
        self.is_started.store(true, Ordering::SeqCst);
        while !self.live.is_draining() {
            tokio::time::sleep(LOOK).await;
            let now = self.filler.clock.now();
            let due = self.plans.lock().iter().position(|plan| plan.is_due(now));
            let job = due.and_then(|place| Some((place, self.settings.jobs.get(place)?)));
            if let Some((place, job)) = job {
                if let Some(plan) = self.plans.lock().get_mut(place) {
                    *plan = Plan::after(&job.when, now);
                }
                self.through(&job.name, &job.keys).await;
            }
        }
    }

    fn plan_all(&self) {
        let now = self.filler.clock.now();
        let plan = |job: &WarmingJob| Plan::after(&job.when, now);
        *self.plans.lock() = self.settings.jobs.iter().map(plan).collect();
    }

    /// The keys of last time, then every job: as soon as upstream is there and anything may be
    /// stored.
    async fn at_start(self: &Arc<Self>) {
        self.live.until_caching().await;
        while !self.live.is_upstream_up() {
            tokio::time::sleep(MEETING).await;
        }
        if let Some(path) = self.settings.snapshot_file.clone() {
            if path.exists() {
                self.through(SNAPSHOT, &WarmingKeys::File(path)).await;
            } else {
                let file = path.display().to_string();
                tracing::info!(event = "snapshot_missing", file, "no keys of last time");
            }
        }
        for job in &self.settings.jobs {
            self.through(&job.name, &job.keys).await;
        }
    }

    /// Runs it to its end, behind the one that is at work.
    async fn through(self: &Arc<Self>, name: &str, keys: &WarmingKeys) {
        while !self.live.is_draining() {
            match self.begin(name.to_owned(), keys.clone(), None) {
                Ok(job) => return job.ended().await,
                Err(Refused::Busy(busy)) => {
                    if let Some(other) = self.jobs.get(busy.id) {
                        other.ended().await;
                    }
                }
                Err(refused) => {
                    tracing::info!(event = "warm_left_out", name, reason = %refused, "warm-up");
                    return;
                }
            }
        }
    }

    /// What /readyz asks, if it is to wait for the start's runs.
    pub fn check(&self) -> Option<Check> {
        let settings = &self.settings;
        if !settings.on_start || !settings.ready_when_warm {
            return None;
        }
        let is_over = self.filler.clock.now().since(self.began_at) > settings.ready_timeout;
        let is_warm = self.is_started.load(Ordering::SeqCst);
        let detail = match (is_warm, is_over) {
            (true, _) => "loaded",
            (false, true) => "not loaded within warming.ready_timeout",
            (false, false) => "loading",
        };
        let ok = is_warm || is_over || self.live.mode() == Mode::Bypass;
        Some(Check { name: "warming", ok, detail: detail.to_owned() })
    }
}
