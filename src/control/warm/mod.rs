//! Warm-up: what will be asked for is loaded before anybody asks: on demand, at the start, by a
//! schedule, and with the keys that the cache held when the process last ended.
//!
//! ```text
//!   schedule   when: the start, `every`, cron
//!   timetable  the jobs of the configuration, which a reload exchanges, and when each is begun
//!   mod        what: a job's keys, a request's, a pattern's; how fast; what became of it
//!   fill       how: as a read fills, with many keys at once
//!   keys       lists of keys in files
//! ```
//!
//! Loaded are the values that GET answers, in the database of the configuration; keys of other
//! types are skipped, and so are those that are cached already.

pub mod fill;
mod keys;
mod schedule;
mod timetable;

use crate::config::{Mode, Warming, WarmingJob, WarmingKeys};
use crate::control::jobs::line::{Line, LineError};
use crate::control::jobs::pace::Pace;
use crate::control::jobs::{Busy, Job, Jobs, Kind, Running, Stopped, Tools};
use crate::control::office::Sweeper;
use crate::keys::glob;
use crate::live::Live;
use crate::units::clock::{Tick, unix_seconds};
use crate::units::rate::Rate;
use fill::{Filler, Tally};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use timetable::Timetable;

/// What runs are called that no job of the configuration is.
pub const REQUEST: &str = "request";
/// What the run is called that loads the keys of last time.
pub const SNAPSHOT: &str = "snapshot";

/// What is to be loaded.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// What this job of the configuration names.
    Job(String),
    /// These keys of clients.
    Keys(Vec<Vec<u8>>),
    /// Keys of clients that match this glob.
    Pattern(Vec<u8>),
}

/// Why a run does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another one is at work.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The configuration has no such job.
    #[error("there is no job `{0}` in [[warming.jobs]]")]
    NoJob(String),
    /// It would store nothing.
    #[error("the mode is bypass: nothing is stored")]
    Bypass,
}

/// How the runs of one name ended.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// `request`, `snapshot`, or the job's.
    pub name: String,
    /// Runs that did what they were to do.
    pub ok: u64,
    /// Runs that could not go on.
    pub error: u64,
    /// Runs that somebody stopped.
    pub cancelled: u64,
    /// When the last one was done, in seconds since 1970.
    pub last_success: Option<u64>,
}

/// Figures for metrics.
#[derive(Clone, Debug, Default)]
pub struct WarmFigures {
    /// By name.
    pub runs: Vec<Runs>,
    /// Keys stored, not there, skipped, answered with an error.
    pub keys: [u64; 4],
    /// Runs at work.
    pub in_progress: u64,
}

/// Warms up.
#[derive(Debug)]
pub struct Warm {
    timetable: Mutex<Timetable>,
    jobs: Arc<Jobs>,
    tools: Arc<Tools>,
    filler: Filler,
    live: Arc<Live>,
    runs: Mutex<Vec<Runs>>,
    keys: [AtomicU64; 4],
    /// The run of a job of the configuration that was begun last.
    last: Mutex<Option<(String, Arc<Job>)>>,
    /// True once all that is loaded at the start is.
    is_started: AtomicBool,
    began_at: Tick,
}

impl Warm {
    /// By these settings.
    pub fn new(
        settings: Warming,
        jobs: Arc<Jobs>,
        tools: Arc<Tools>,
        filler: Filler,
        live: Arc<Live>,
    ) -> Self {
        let began_at = filler.clock.now();
        Self {
            runs: Mutex::new(runs(&settings, &[])),
            timetable: Mutex::new(Timetable::new(settings)),
            jobs,
            tools,
            filler,
            live,
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            last: Mutex::new(None),
            is_started: AtomicBool::new(false),
            began_at,
        }
    }

    /// Goes by these from now on. A run that is at work goes on as it began, but one of a job that
    /// is gone ends.
    pub fn configure(&self, settings: &Warming) {
        let mut counted = self.runs.lock();
        *counted = runs(settings, &counted);
        drop(counted);
        self.timetable.lock().exchange(settings.clone(), self.filler.clock.now());
        let last = self.last.lock();
        if let Some((_, job)) = last.as_ref().filter(|(name, _)| !has(settings, name)) {
            job.cancel();
        }
    }

    /// As they are now.
    fn settings(&self) -> Arc<Warming> {
        Arc::clone(&self.timetable.lock().settings)
    }

    /// Begins a run; at `rate` keys per second, if one is named (0: as fast as it goes).
    pub fn start(self: &Arc<Self>, wanted: Wanted, rate: Option<u64>) -> Result<Arc<Job>, Refused> {
        let (name, keys) = match wanted {
            Wanted::Job(name) => {
                let settings = self.settings();
                let job = settings.jobs.iter().find(|job| job.name == name);
                let Some(job) = job else {
                    return Err(Refused::NoJob(name));
                };
                (name, job.keys.clone())
            }
            Wanted::Keys(keys) => (REQUEST.to_owned(), WarmingKeys::List(keys)),
            Wanted::Pattern(pattern) => (REQUEST.to_owned(), WarmingKeys::Pattern(pattern)),
        };
        self.begin(name, keys, rate)
    }

    fn begin(
        self: &Arc<Self>,
        name: String,
        keys: WarmingKeys,
        rate: Option<u64>,
    ) -> Result<Arc<Job>, Refused> {
        if self.live.mode() == Mode::Bypass {
            return Err(Refused::Bypass);
        }
        let what = match &keys {
            WarmingKeys::List(keys) => format!("{name}: {} keys", keys.len()),
            WarmingKeys::File(path) => format!("{name}: file {}", path.display()),
            WarmingKeys::Pattern(pattern) => format!("{name}: {}", pattern.escape_ascii()),
        };
        let running = self.jobs.begin(Kind::Warm, what, false)?;
        let job = Arc::clone(running.job());
        tracing::info!(event = "warm_started", id = job.id, what = job.what, "warming up");
        let settings = self.settings();
        let (me, rate) = (Arc::clone(self), rate.map_or(settings.rate, Rate::of_second));
        if has(&settings, &name) {
            *self.last.lock() = Some((name.clone(), Arc::clone(&job)));
        }
        self.jobs.hand_over(async move { me.run(&name, keys, (rate, settings), running).await });
        Ok(job)
    }

    async fn run(&self, name: &str, keys: WarmingKeys, how: (Rate, Arc<Warming>), job: Running) {
        let result = self.load(keys, how.0, &how.1, &job).await;
        if let Some(runs) = self.runs.lock().iter_mut().find(|runs| runs.name == name) {
            match &result {
                Ok(()) => {
                    runs.ok += 1;
                    runs.last_success = Some(unix_seconds());
                }
                Err(Stopped::Cancelled) => runs.cancelled += 1,
                Err(_) => runs.error += 1,
            }
        }
        job.end(result);
    }

    async fn load(
        &self,
        keys: WarmingKeys,
        rate: Rate,
        settings: &Warming,
        job: &Running,
    ) -> Result<(), Stopped> {
        let mut feed = Feed::open(keys, job).await?;
        let mut line = self.tools.open().await?;
        let mut pace = Pace::new(rate);
        let (mut loaded, mut error) = (0, None);
        loop {
            job.check()?;
            let part = feed.next(pace.part(settings.concurrency), &mut line, self).await?;
            if part.is_empty() {
                break;
            }
            if self.is_full(settings.max_memory_ratio) {
                let skipped = (part.len() + feed.held()) as u64;
                self.note(&Tally { skipped, ..Tally::default() }, job);
                let ratio = settings.max_memory_ratio;
                tracing::warn!(event = "warm_full", ratio, "warming.max_memory_ratio is reached");
                break;
            }
            let (cached, part): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|key| self.filler.is_cached(key));
            self.note(&Tally { skipped: cached.len() as u64, ..Tally::default() }, job);
            if part.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            pace.pass(part.len(), job).await?;
            let tally = self.filler.fill(&mut line, part, job).await?;
            self.note(&tally, job);
            loaded += tally.loaded;
            error = error.or(tally.error);
        }
        // An error here and there is counted; where nothing but errors came, it is the result.
        match error {
            Some(error) if loaded == 0 => Err(Stopped::Failed(error)),
            _ => Ok(()),
        }
    }

    fn note(&self, tally: &Tally, job: &Running) {
        tally.note(job);
        let counts = [tally.loaded, tally.missing, tally.skipped, tally.errors];
        for (cell, count) in self.keys.iter().zip(counts) {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// True if what more is loaded would soon push out what is asked for.
    fn is_full(&self, ratio: f64) -> bool {
        let figures = self.filler.cache.figures();
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let (used, max) = (figures.used_bytes as f64, figures.max_bytes as f64);
        used >= max * ratio
    }

    /// Figures for metrics.
    pub fn figures(&self) -> WarmFigures {
        WarmFigures {
            runs: self.runs.lock().clone(),
            keys: self.keys.each_ref().map(|cell| cell.load(Ordering::Relaxed)),
            in_progress: self.jobs.running(Kind::Warm) as u64,
        }
    }

    /// The jobs of the configuration, and when each is begun next, in seconds since 1970.
    pub fn listed(&self) -> Vec<(WarmingJob, Option<u64>)> {
        self.timetable.lock().listed()
    }

    /// Writes the keys that are held to `warming.snapshot_file`. If none is, the older list is the
    /// better one.
    pub async fn save(&self, sweeper: &Sweeper) {
        let Some(path) = self.settings().snapshot_file.clone() else {
            return;
        };
        let (mut list, mut count) = (Vec::new(), 0_u64);
        let add = |key: &[u8]| {
            keys::add(&mut list, key);
            count += 1;
        };
        sweeper.visit(&self.filler.clock, add).await;
        if count == 0 {
            return;
        }
        let file = path.display().to_string();
        let writing = tokio::task::spawn_blocking(move || keys::write(&path, &list)).await;
        match writing.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => tracing::info!(event = "snapshot_written", file, keys = count, "hot keys"),
            Err(error) => tracing::warn!(event = "snapshot_failed", file, %error, "hot keys"),
        }
    }
}

/// True if this is a job of the configuration.
fn has(settings: &Warming, name: &str) -> bool {
    settings.jobs.iter().any(|job| job.name == name)
}

/// The runs of these settings, as far as they were counted already.
fn runs(settings: &Warming, counted: &[Runs]) -> Vec<Runs> {
    let names = settings.jobs.iter().map(|job| job.name.as_str()).chain([REQUEST, SNAPSHOT]);
    let known = |name: &str| counted.iter().find(|runs| runs.name == name).cloned();
    let fresh = |name: &str| Runs { name: name.to_owned(), ..Runs::default() };
    names.map(|name| known(name).unwrap_or_else(|| fresh(name))).collect()
}

/// Where keys come from.
enum Feed {
    List(VecDeque<Vec<u8>>),
    Scan { pattern: Vec<u8>, cursor: Option<Vec<u8>>, found: VecDeque<Vec<u8>> },
}

impl Feed {
    async fn open(keys: WarmingKeys, job: &Running) -> Result<Self, Stopped> {
        let list = match keys {
            WarmingKeys::Pattern(pattern) => {
                let (cursor, found) = (Some(Line::start()), VecDeque::new());
                return Ok(Self::Scan { pattern, cursor, found });
            }
            WarmingKeys::List(list) => list,
            WarmingKeys::File(path) => read(path).await?,
        };
        job.set_total(list.len() as u64);
        Ok(Self::List(list.into()))
    }

    /// The next keys, `count` at most; none at the end.
    async fn next(
        &mut self,
        count: usize,
        line: &mut Line,
        warm: &Warm,
    ) -> Result<Vec<Vec<u8>>, LineError> {
        let found = match self {
            Self::List(list) => list,
            Self::Scan { pattern, cursor, found } => {
                while found.is_empty()
                    && let Some(at) = cursor.take()
                {
                    let names = (warm.filler.names)();
                    let page = line.page(&at, &names.pattern(pattern)).await?;
                    let keys = page.keys.iter().filter_map(|name| names.strip(name));
                    let meant = keys.filter(|key| glob::matches(pattern, key));
                    found.extend(meant.map(<[u8]>::to_vec));
                    *cursor = page.next;
                }
                found
            }
        };
        let count = count.min(found.len());
        Ok(found.drain(..count).collect())
    }

    /// Keys known and not taken yet.
    fn held(&self) -> usize {
        match self {
            Self::List(list) | Self::Scan { found: list, .. } => list.len(),
        }
    }
}

async fn read(path: PathBuf) -> Result<Vec<Vec<u8>>, Stopped> {
    let shown = path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || keys::read(&path)).await;
    reading
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| Stopped::Failed(format!("`{shown}` cannot be read: {error}")))
}
