//! Long jobs: what takes seconds to hours, runs on the main thread beside everything else, and is
//! watched and stopped by its number.
//!
//! ```text
//!   begin      a number, or Busy: one job at a time that changes upstream, one warm-up
//!   Running    what the job itself holds: it counts, and asks between two steps whether to stop
//!   Job        what everybody else sees
//! ```
//!
//! Invariants: a job stops between two requests, never in one, so its counts are exact; however it
//! ends, a panic included, its end is noted. The last [`KEPT`] are remembered.

pub mod line;
pub mod moving;
pub mod pace;
pub mod purge;

use crate::behind::queue::Queue;
use crate::cache::Cache;
use crate::keys::{Invalid, Names, Prefix};
use crate::net::dialer::Dialer;
use crate::units::clock::{Clock, Tick, unix_seconds};
use line::{Line, LineError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Jobs remembered, those that run included.
const KEPT: usize = 100;

/// A total that nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// A share of the work: this is all of it.
const WHOLE: u64 = 1 << 32;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Deletes keys upstream.
    Purge,
    /// Renames keys without a version to keys of one.
    Adopt,
    /// Renames keys of a version to keys without one.
    Strip,
    /// Fills the cache.
    Warm,
}

impl Kind {
    /// The word of logs and of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Adopt => "adopt",
            Self::Strip => "strip",
            Self::Warm => "warm",
        }
    }

    /// What the log calls its end.
    const fn finished(self) -> &'static str {
        if matches!(self, Self::Warm) { "warm_finished" } else { "job_finished" }
    }

    /// What it counts.
    pub const fn counts(self) -> &'static [Count] {
        match self {
            Self::Purge => &[Count::Matched, Count::Deleted],
            Self::Adopt | Self::Strip => {
                &[Count::Matched, Count::Moved, Count::Exists, Count::Gone]
            }
            Self::Warm => &[Count::Loaded, Count::Missing, Count::Skipped],
        }
    }

    /// True if the two would come into each other's way.
    const fn excludes(self, other: Self) -> bool {
        matches!(self, Self::Warm) == matches!(other, Self::Warm)
    }
}

/// What is counted beside `done` and `errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Count {
    /// Keys found that are meant.
    Matched,
    /// Keys deleted.
    Deleted,
    /// Keys that have their new name.
    Moved,
    /// Keys left alone: their new name is another key's already.
    Exists,
    /// Keys that were gone when their turn came.
    Gone,
    /// Values stored.
    Loaded,
    /// Keys that upstream does not have.
    Missing,
    /// Keys not stored: cached already, of another type, too large, not to be cached, changed
    /// meanwhile.
    Skipped,
}

impl Count {
    const COUNT: usize = 8;

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Exists => "exists",
            Self::Gone => "gone",
            Self::Loaded => "loaded",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is at work.
    Running,
    /// It has done what it was to do.
    Done,
    /// It could not go on.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl State {
    /// The word of logs and of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a job ends before its work is done.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Somebody said so.
    #[error("cancelled")]
    Cancelled,
    /// The connection to upstream.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Anything else that went wrong, in words.
    #[error("{0}")]
    Failed(String),
}

/// Another job is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {id} ({}) is still running", .kind.as_str())]
pub struct Busy {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub kind: Kind,
}

/// How a job ended.
#[derive(Clone, Debug)]
struct End {
    state: State,
    at: Tick,
    error: Option<String>,
}

/// A job, as everybody sees it.
#[derive(Debug)]
pub struct Job {
    /// Its number: the first one's is 1.
    pub id: u64,
    /// What it does.
    pub kind: Kind,
    /// With what, in a few words.
    pub what: String,
    /// True if it only counts.
    pub dry_run: bool,
    /// When it began, in seconds since 1970.
    pub began_unix: u64,
    began_at: Tick,
    total: AtomicU64,
    share: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    counts: [AtomicU64; Count::COUNT],
    is_cancelled: AtomicBool,
    changed: Notify,
    end: Mutex<Option<End>>,
}

impl Job {
    /// How it stands.
    pub fn state(&self) -> State {
        self.end.lock().as_ref().map_or(State::Running, |end| end.state)
    }

    /// Why it failed.
    pub fn error(&self) -> Option<String> {
        self.end.lock().as_ref().and_then(|end| end.error.clone())
    }

    /// Keys it will look at, if that is known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }

    /// Keys it is done with.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Keys that upstream answered with an error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// One of the counts of its kind.
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// How long it has run.
    pub fn took(&self, now: Tick) -> Duration {
        self.end.lock().as_ref().map_or(now, |end| end.at).since(self.began_at)
    }

    /// How long it will still run, at the pace it had so far; `None` if nobody can tell.
    pub fn eta(&self, now: Tick) -> Option<Duration> {
        if self.state() != State::Running {
            return None;
        }
        let (part, whole) = match self.total() {
            Some(total) => (self.done(), total),
            None => (self.share.load(Ordering::Relaxed), WHOLE),
        };
        let left = u128::from(whole.saturating_sub(part));
        let nanos = (self.took(now).as_nanos() * left).checked_div(u128::from(part))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Has it stop; it does so between two requests.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state() != State::Running {
                return;
            }
            changed.await;
        }
    }

    fn finish(&self, at: Tick, state: State, error: Option<String>) {
        let mut end = self.end.lock();
        if end.is_none() {
            *end = Some(End { state, at, error });
        }
        drop(end);
        self.changed.notify_waiters();
    }
}

/// The work of a job.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work that waits for the main thread at most: there are two lanes.
const WAITING_MAX: usize = 8;

/// All jobs.
#[derive(Debug)]
pub struct Jobs {
    clock: Clock,
    book: Mutex<Book>,
    works: Sender<Work>,
}

/// What jobs have to do, for the main thread.
#[derive(Debug)]
pub struct Works(Receiver<Work>);

impl Works {
    /// Does it, for as long as the process lives; in a `LocalSet`.
    pub async fn run(mut self) {
        while let Some(work) = self.0.recv().await {
            tokio::task::spawn_local(work);
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    last: u64,
    /// The newest last.
    jobs: VecDeque<Arc<Job>>,
}

impl Jobs {
    /// None yet.
    pub fn new(clock: Clock) -> (Self, Works) {
        let (works, waiting) = channel(WAITING_MAX);
        (Self { clock, book: Mutex::default(), works }, Works(waiting))
    }

    /// Has the main thread do the work of a job. (Requests are answered in tasks that cannot begin
    /// another one there.) Work that nobody takes ends its job as failed.
    pub fn hand_over(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.works.try_send(Box::pin(work)).is_err() {
            tracing::error!(event = "job_lost", "nobody works on jobs");
        }
    }

    /// Notes a job that begins now, unless another is in its way.
    pub fn begin(&self, kind: Kind, what: String, dry_run: bool) -> Result<Running, Busy> {
        let mut book = self.book.lock();
        let is_in_the_way =
            |job: &&Arc<Job>| job.kind.excludes(kind) && job.state() == State::Running;
        if let Some(other) = book.jobs.iter().find(is_in_the_way) {
            return Err(Busy { id: other.id, kind: other.kind });
        }
        book.last += 1;
        let job = Arc::new(Job {
            id: book.last,
            kind,
            what,
            dry_run,
            began_unix: unix_seconds(),
            began_at: self.clock.now(),
            total: AtomicU64::new(UNKNOWN),
            share: AtomicU64::new(0),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            is_cancelled: AtomicBool::new(false),
            changed: Notify::new(),
            end: Mutex::new(None),
        });
        book.jobs.push_back(Arc::clone(&job));
        // At most one of each lane runs, so what goes has long ended, or soon will be forgotten.
        if book.jobs.len() > KEPT
            && let Some(oldest) = book.jobs.iter().position(|job| job.state() != State::Running)
        {
            book.jobs.remove(oldest);
        }
        drop(book);
        Ok(Running { job, clock: self.clock.clone() })
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<Arc<Job>> {
        self.book.lock().jobs.iter().find(|job| job.id == id).cloned()
    }

    /// All that are remembered, the newest first.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.book.lock().jobs.iter().rev().cloned().collect()
    }

    /// Jobs of this kind that are at work.
    pub fn running(&self, kind: Kind) -> usize {
        let book = self.book.lock();
        let is_meant = |job: &&Arc<Job>| job.kind == kind && job.state() == State::Running;
        book.jobs.iter().filter(is_meant).count()
    }

    /// Has all of them stop: the process is going to end.
    pub fn cancel_all(&self) {
        for job in &self.book.lock().jobs {
            job.cancel();
        }
    }

    /// The time that jobs are measured by.
    pub fn now(&self) -> Tick {
        self.clock.now()
    }
}

/// A job at work, for itself.
#[derive(Debug)]
pub struct Running {
    job: Arc<Job>,
    clock: Clock,
}

impl Running {
    /// As everybody sees it.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// It is known how many keys there are.
    pub fn set_total(&self, total: u64) {
        self.job.total.store(total, Ordering::Relaxed);
    }

    /// It is known how many parts of so many are done, each a fraction of 2^64.
    fn set_share(&self, done: usize, of: usize, within: u64) {
        let whole = (done as u64).saturating_mul(WHOLE) + (within >> 32);
        self.job.share.fetch_max(whole / (of as u64).max(1), Ordering::Relaxed);
    }

    /// Done with so many keys.
    pub fn add_done(&self, count: u64) {
        self.job.done.fetch_add(count, Ordering::Relaxed);
    }

    /// Upstream answered so many keys with an error.
    pub fn add_errors(&self, count: u64) {
        self.job.errors.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts.
    pub fn add(&self, count: Count, by: u64) {
        if let Some(cell) = self.job.counts.get(count as usize) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// An error if it is to stop.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.job.is_cancelled.load(Ordering::SeqCst) { Err(Stopped::Cancelled) } else { Ok(()) }
    }

    /// Waits, but not if it is to stop.
    pub async fn wait(&self, until: impl Future<Output = ()>) -> Result<(), Stopped> {
        let cancelled = async {
            loop {
                let changed = self.job.changed.notified();
                if self.check().is_err() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Err(Stopped::Cancelled),
            () = until => Ok(()),
        }
    }

    /// Notes and logs how it ended.
    pub fn end(self, result: Result<(), Stopped>) {
        let (state, error) = match result {
            Ok(()) => (State::Done, None),
            Err(Stopped::Cancelled) => (State::Cancelled, None),
            Err(stopped) => (State::Failed, Some(stopped.to_string())),
        };
        let (job, now) = (&self.job, self.clock.now());
        job.finish(now, state, error.clone());
        let counts: Vec<String> = job
            .kind
            .counts()
            .iter()
            .map(|count| format!("{}={}", count.as_str(), job.count(*count)))
            .collect();
        let (id, kind, counts) = (job.id, job.kind.as_str(), counts.join(" "));
        let (event, state) = (job.kind.finished(), state.as_str());
        let (errors, took_ms) = (job.errors(), job.took(now).as_millis());
        if let Some(error) = error {
            tracing::warn!(event, id, kind, state, counts, errors, took_ms, error, "job");
        } else {
            tracing::info!(event, id, kind, state, counts, errors, took_ms, "job");
        }
    }
}

impl Drop for Running {
    /// Whoever unwinds ends his job.
    fn drop(&mut self) {
        let error = Some("it ended unexpectedly".to_owned());
        self.job.finish(self.clock.now(), State::Failed, error);
    }
}

/// What jobs that change upstream work with.
pub struct Tools {
    /// Opens their connection.
    pub dialer: Arc<Dialer>,
    /// Writes that upstream does not have yet, if any may be.
    pub behind: Option<Arc<Queue>>,
    /// Forgets what they change.
    pub cache: Arc<Cache>,
    /// `keys.prefix` and `keys.separator`: what the prefix of any version is made of.
    pub key_prefix: String,
    /// See there.
    pub separator: String,
    /// `keys.version_key`, if a fleet's version stands there: it is nobody's data.
    pub version_key: Option<String>,
    /// How keys are named upstream now.
    pub names: Box<dyn Fn() -> Names + Send + Sync>,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").finish_non_exhaustive()
    }
}

impl Tools {
    /// What stands before the keys of a version.
    pub fn of_version(&self, version: &str) -> Result<Prefix, Invalid> {
        Prefix::new(&self.key_prefix, version, &self.separator)
    }

    /// A connection of a job's own.
    pub async fn open(&self) -> Result<Line, LineError> {
        // What was acknowledged before the job began is there for it.
        if let Some(queue) = &self.behind {
            let settled = tokio::time::timeout(self.timeout, queue.until_settled()).await;
            settled.map_err(|_| LineError::Silent(self.timeout))?;
        }
        Line::open(&self.dialer, self.timeout).await
    }

    /// The key that upstream has under this name has changed.
    fn forget(&self, upstream: &[u8]) {
        if let Some(key) = (self.names)().strip(upstream) {
            self.cache.invalidate(self.cache.hash(key));
        }
    }
}

/// Keys per second where nobody says otherwise.
pub const RATE_DEFAULT: u64 = 1000;

#[cfg(test)]
mod tests;
