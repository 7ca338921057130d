//! When runs begin by themselves: at the start, each so often, or by cron. One after another: a run
//! whose time has come while another is at work waits for its end.

use super::{Refused, SNAPSHOT, Warm, has};
use crate::config::{Mode, WarmingKeys};
use crate::control::admin::Check;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the clocks are looked at, and upstream before it is there.
const LOOK: Duration = Duration::from_secs(1);
const MEETING: Duration = Duration::from_millis(50);

impl Warm {
    /// Begins what is to be begun, for as long as the process lives.
    pub async fn keep_time(self: Arc<Self>) {
        self.timetable.lock().begin(self.filler.clock.now());
        if self.settings().on_start {
            self.at_start().await;
        }
        self.is_started.store(true, Ordering::SeqCst);
        while !self.live.is_draining() {
            tokio::time::sleep(LOOK).await;
            let now = self.filler.clock.now();
            let due = self.timetable.lock().take_due(now);
            if let Some(job) = due {
                self.through(&job.name, &job.keys).await;
            }
        }
    }

    /// The keys of last time, then every job: as soon as upstream is there and anything may be
    /// stored.
    async fn at_start(self: &Arc<Self>) {
        self.live.until_caching().await;
        while !self.live.is_upstream_up() {
            tokio::time::sleep(MEETING).await;
        }
        let settings = self.settings();
        if let Some(path) = settings.snapshot_file.clone() {
            if path.exists() {
                self.through(SNAPSHOT, &WarmingKeys::File(path)).await;
            } else {
                let file = path.display().to_string();
                tracing::info!(event = "snapshot_missing", file, "no keys of last time");
            }
        }
        for job in &settings.jobs {
            self.through(&job.name, &job.keys).await;
        }
    }

    /// Runs it to its end, behind the one that is at work.
    async fn through(self: &Arc<Self>, name: &str, keys: &WarmingKeys) {
        // What is gone while it waits is not begun.
        let is_wanted = || name == SNAPSHOT || has(&self.settings(), name);
        while !self.live.is_draining() && is_wanted() {
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
        let settings = self.settings();
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
