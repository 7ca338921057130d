//! Exchanges the settings in force: a reload of the configuration, and the switch of the key
//! version (R16).
//!
//! In: the wish, from a signal, a watched file or an operator. Out: one new snapshot that every
//! worker serves under, or an error and nothing changed.
//!
//! ```text
//!   close the gate      nothing is served from the cache, nothing stored
//!   publish, ring       each worker adopts between two batches; the tracking link is put down
//!   all have adopted    whoever still fills was asked before ...
//!   clear               ... and is refused: its epoch is over
//!   open the gate       misses fill again once the new tracking link has proved itself
//! ```
//!
//! So nothing that was asked under one snapshot is ever served under another, and no request waits
//! or fails for the sake of it. Exchanges follow each other, and each runs to its end whatever
//! becomes of who asked for it.

use crate::cache::Cache;
use crate::config::{self, ConfigError, NotSet, Overrides, Reloaded, Settings};
use crate::control::fleet::{Fleet, Unwritten};
use crate::control::jobs::line::LineError;
use crate::control::observe::state::ConfigFigures;
use crate::keys::Invalid;
use crate::live::Live;
use crate::snapshot::{Snapshot, Snapshots};
use crate::stats::{Block, Counter};
use crate::units::clock;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// How often watched files are read: by content, because what a container's volume does to a file
/// is missed by those who wait to be told.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// Reloads, and switches.
pub struct Reloader {
    parts: Parts,
    state: Mutex<State>,
    /// What `/metrics` tells.
    figures: parking_lot::Mutex<ConfigFigures>,
}

#[derive(Clone)]
struct State {
    in_force: Arc<Settings>,
    /// As last read: what an operator has changed since is in force, and not here.
    read: Arc<Settings>,
    /// Keys that were set over it, and their values.
    set: Vec<(&'static str, String)>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("file", &self.parts.overrides.file).finish_non_exhaustive()
    }
}

/// Who asked for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The configuration was read again.
    Config,
    /// An operator, over HTTP.
    Admin,
    /// The fleet's version has changed.
    Fleet,
    /// A client, by PROXY.
    Client,
    /// A signed message.
    Pubsub,
}

/// What a reload has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The keys that have changed.
    pub changed: Vec<&'static str>,
    /// The keys that wait for a restart.
    pub pending: Vec<&'static str>,
}

/// A key version that was switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// In force now.
    pub version: String,
    /// In force before.
    pub was: String,
}

/// Why a key version is not switched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot stand before keys.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Another one is in force than was expected.
    #[error("the version in force is `{0}`")]
    NotExpected(String),
    /// Whether keys are named at all decides what scripts and commands may do.
    #[error("the first version, and to go without one, takes a restart with keys.version")]
    Restart,
    /// Upstream would not write it where the fleet's version stands.
    #[error("the fleet's version could not be written: {0}")]
    Unwritten(String),
    /// Upstream could not be asked to; if the answer was lost, it may have been written.
    #[error("the fleet's version could not be written: {0}")]
    Unreached(String),
}

impl Reloader {
    /// For these settings, which are in force.
    pub fn new(settings: &Settings, parts: Parts) -> Self {
        let settings = Arc::new(settings.clone());
        let figures = ConfigFigures {
            is_last_good: true,
            loaded_at: clock::unix_seconds(),
            digest: settings.digest(),
            version: settings.version.clone(),
            ..ConfigFigures::default()
        };
        let state = State { in_force: Arc::clone(&settings), read: settings, set: Vec::new() };
        Self { parts, state: Mutex::new(state), figures: parking_lot::Mutex::new(figures) }
    }

    /// What is so of the configuration.
    pub fn figures(&self) -> ConfigFigures {
        self.figures.lock().clone()
    }

    /// Reads the configuration again: all of it that can change takes effect, or, if anything is
    /// wrong with it, nothing.
    pub async fn reload(self: &Arc<Self>) -> Result<Report, ConfigError> {
        let read = self.read()?;
        let me = Arc::clone(self);
        let report = unbroken(Box::pin(async move { me.take_over(read).await })).await;
        self.parts.block.add(Counter::ReloadsOk, 1);
        let config_digest = self.loaded();
        tracing::info!(
            event = "config_loaded",
            changed = ?report.changed,
            config_digest,
            "reloaded"
        );
        if !report.pending.is_empty() {
            tracing::warn!(
                event = "config_restart_needed",
                keys = ?report.pending,
                "these wait for a restart"
            );
        }
        Ok(report)
    }

    /// The configuration as it stands now; what is wrong with it is said.
    fn read(&self) -> Result<Arc<Settings>, ConfigError> {
        match config::load(&self.parts.overrides) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                Ok(Arc::new(loaded.settings))
            }
            Err(error) => {
                self.parts.block.add(Counter::ReloadsError, 1);
                let count = |keys, counter| {
                    self.parts.block.add(counter, u64::from(error.is_about(keys)));
                };
                count("server.tls.", Counter::TlsReloadsError);
                count("admin.tls.", Counter::AdminTlsReloadsError);
                self.figures.lock().is_last_good = false;
                tracing::error!(
                    event = "config_rejected",
                    error = %error,
                    "the configuration is wrong: the old one stays in force"
                );
                Err(error)
            }
        }
    }

    /// A reload went well; the digest of what is in force.
    fn loaded(&self) -> String {
        let mut figures = self.figures.lock();
        (figures.is_last_good, figures.loaded_at) = (true, clock::unix_seconds());
        figures.digest.clone()
    }

    /// What a [`Self::reload`] would do if this were written in the file: its report, and warnings.
    pub async fn rehearse(&self, text: String) -> Result<(Report, Vec<String>), ConfigError> {
        let loaded = config::load_instead(text, &self.parts.overrides)?;
        let state = self.state.lock().await;
        let Reloaded { changed, pending, .. } =
            state.in_force.reload(&state.wanted(&loaded.settings, self.parts.fleet.is_some()).0);
        drop(state);
        Ok((Report { changed, pending }, loaded.warnings))
    }

    async fn take_over(&self, read: Arc<Settings>) -> Report {
        let mut state = self.state.lock().await;
        let (wanted, set) = state.wanted(&read, self.parts.fleet.is_some());
        state.set = set;
        let report = self.put(&mut state, &wanted).await;
        state.read = read;
        drop(state);
        report
    }

    /// Sets keys, all of them or none, until the process ends, or the configuration says another
    /// value than it did. They are written nowhere.
    pub async fn set(self: &Arc<Self>, keys: &[(&str, String)]) -> Result<Report, NotSet> {
        let settable = |(key, value): &(&str, String)| {
            config::settable(key).map(|key| (key.path, value.clone()))
        };
        let keys = keys.iter().map(settable).collect::<Result<Vec<_>, _>>()?;
        let me = Arc::clone(self);
        unbroken(Box::pin(async move { me.set_now(keys).await })).await
    }

    async fn set_now(&self, keys: Vec<(&'static str, String)>) -> Result<Report, NotSet> {
        let mut state = self.state.lock().await;
        let mut set = state.set.clone();
        set.retain(|(other, _)| keys.iter().all(|(key, _)| key != other));
        set.extend(keys);
        let mut wanted = state.read.with_set(&set)?.with_version(&state.in_force.version)?;
        wanted.mode = state.in_force.mode;
        state.set = set;
        let report = self.put(&mut state, &wanted).await;
        drop(state);
        Ok(report)
    }

    /// Puts in force what of `wanted` can be.
    async fn put(&self, state: &mut State, wanted: &Settings) -> Report {
        let Reloaded { settings, changed, pending } = state.in_force.reload(wanted);
        if !changed.is_empty() {
            let next = Arc::new(settings);
            self.exchange(&state.in_force, &next, Cause::Config).await;
            (self.parts.follow)(&next);
            let count = |keys, counter| {
                self.parts.block.add(counter, u64::from(changed.contains(keys)));
            };
            count(&config::CERTIFICATES, Counter::TlsReloadsOk);
            count(&config::ADMIN_CERTIFICATES, Counter::AdminTlsReloadsOk);
            state.in_force = next;
        }
        let mut figures = self.figures.lock();
        figures.set = state.set.iter().map(|(key, _)| *key).collect();
        figures.pending.clone_from(&pending);
        drop(figures);
        Report { changed, pending }
    }

    /// Switches the key version, if the one in force is the one that was `expected`.
    pub async fn switch_version(
        self: &Arc<Self>,
        version: &str,
        expected: Option<&str>,
        cause: Cause,
    ) -> Result<Switched, Refused> {
        let (me, version) = (Arc::clone(self), version.to_owned());
        let expected = expected.map(str::to_owned);
        let work = async move { me.switch(&version, expected.as_deref(), cause).await };
        unbroken(Box::pin(work)).await
    }

    /// Whether [`Self::switch_version`] would do it, and from what.
    pub async fn try_switch(
        &self,
        version: &str,
        expected: Option<&str>,
    ) -> Result<Switched, Refused> {
        let state = self.state.lock().await;
        state.next(version, expected)?;
        Ok(Switched { version: version.to_owned(), was: state.in_force.version.clone() })
    }

    async fn switch(
        &self,
        version: &str,
        expected: Option<&str>,
        cause: Cause,
    ) -> Result<Switched, Refused> {
        let mut state = self.state.lock().await;
        let was = state.in_force.version.clone();
        let next = Arc::new(state.next(version, expected)?);
        if cause != Cause::Fleet
            && let Some(fleet) = &self.parts.fleet
        {
            // Here too it is in force only once it is everywhere's.
            fleet.write(version, expected).await?;
        }
        if next.version != was {
            self.exchange(&state.in_force, &next, cause).await;
            state.in_force = next;
        }
        drop(state);
        Ok(Switched { version: version.to_owned(), was })
    }

    /// Switches to what the fleet's version is whenever that changes.
    pub async fn follow(self: Arc<Self>, mut versions: watch::Receiver<Option<String>>) {
        while versions.changed().await.is_ok() {
            let version = versions.borrow_and_update().clone();
            let Some(version) = version else {
                continue;
            };
            if let Err(error) = self.switch_version(&version, None, Cause::Fleet).await {
                tracing::error!(
                    event = "key_version_invalid",
                    version,
                    error = %error,
                    "what stands in keys.version_key cannot be a version: nothing is served \
                     from the cache until it is"
                );
            }
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.parts.snapshots.newest().settings)
    }

    /// The key version that every request is served under; and the next one, while some are
    /// already served under that.
    pub fn versions(&self) -> (String, Option<String>) {
        let next = self.parts.snapshots.newest().settings.version.clone();
        let version = self.figures.lock().version.clone();
        let is_switching = next != version;
        (version, is_switching.then_some(next))
    }

    /// Puts settings in force.
    async fn exchange(&self, old: &Settings, new: &Settings, cause: Cause) {
        let (before, next) = (self.parts.snapshots.newest(), Snapshot::of(new));
        let is_named_anew = before.names != next.names;
        let is_stale = is_named_anew || !next.caches_as(&before);
        if is_stale {
            self.parts.live.close_gate();
        }
        let number = self.parts.snapshots.publish(next);
        (self.parts.ring)();
        self.parts.snapshots.adopted(number).await;
        self.parts.cache.set_max(new.cache.max_memory, new.cache.max_entries);
        self.parts.cache.set_bans_max(new.invalidation.max_bans);
        let mut figures = self.figures.lock();
        (figures.digest, figures.version) = (new.digest(), new.version.clone());
        drop(figures);
        if is_stale {
            self.parts.cache.clear();
            self.parts.live.open_gate();
            let reason =
                if is_named_anew { Counter::FlushesVersion } else { Counter::FlushesConfig };
            self.parts.block.add(reason, 1);
        }
        if is_named_anew {
            self.parts.block.add(cause.counter(), 1);
            say_named_anew(old, new);
        }
        if old.mode != new.mode {
            self.parts.live.set_mode(new.mode);
            self.parts.cache.clear();
        }
    }

    /// Reloads whenever what is read has changed: the file, and the files that it names.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut known = None;
        loop {
            ticks.tick().await;
            let seen = match config::load(&self.parts.overrides) {
                Ok(loaded) => loaded.settings.fingerprint(),
                Err(error) => vec![error.to_string()],
            };
            let was = known.replace(seen);
            if was.is_some() && was != known {
                // What it has to say, it has said to the log.
                self.reload().await.ok();
            }
        }
    }
}

/// Says that keys have other names upstream than before.
fn say_named_anew(old: &Settings, new: &Settings) {
    if new.version == old.version {
        tracing::warn!(
            event = "keys_named_anew",
            "keys of a rule's version, or excluded keys, have other names upstream now"
        );
    } else {
        tracing::warn!(
            event = "key_version_switched",
            version = %new.version,
            was = %old.version,
            "another key version is in force"
        );
    }
}

impl From<Unwritten> for Refused {
    fn from(error: Unwritten) -> Self {
        match error {
            Unwritten::NotExpected(version) => Self::NotExpected(version),
            Unwritten::Line(LineError::Refused { .. }) => Self::Unwritten(error.to_string()),
            Unwritten::Line(error) => Self::Unreached(error.to_string()),
        }
    }
}

impl State {
    /// What a configuration that was read again comes to, and what stays set over it: what an
    /// operator has set or switched stays until the configuration says otherwise.
    fn wanted(&self, read: &Settings, is_fleet: bool) -> (Settings, Vec<(&'static str, String)>) {
        let was = &self.read;
        let mut set = self.set.clone();
        set.retain(|(key, _)| read.value(key) == was.value(key));
        let mut wanted = read.clone();
        if !set.is_empty() {
            match read.with_set(&set) {
                Ok(with) => wanted = with,
                Err(error) => {
                    tracing::warn!(error = %error, "what was set does not fit this file");
                    set.clear();
                }
            }
        }
        let is_kept = read.version == was.version || is_fleet;
        if is_kept && let Ok(kept) = wanted.with_version(&self.in_force.version) {
            wanted = kept;
        }
        if read.mode == was.mode {
            wanted.mode = self.in_force.mode;
        }
        (wanted, set)
    }

    /// What is in force, but for its key version.
    fn next(&self, version: &str, expected: Option<&str>) -> Result<Settings, Refused> {
        if expected.is_some_and(|expected| expected != self.in_force.version) {
            return Err(Refused::NotExpected(self.in_force.version.clone()));
        }
        let next = self.in_force.with_version(version)?;
        if next.names.is_empty() != self.in_force.names.is_empty() {
            return Err(Refused::Restart);
        }
        Ok(next)
    }
}

/// What a [`Reloader`] works with.
pub struct Parts {
    /// Where the configuration is read.
    pub overrides: Overrides,
    /// What is cleared.
    pub cache: Arc<Cache>,
    /// The mode, and the gate.
    pub live: Arc<Live>,
    /// Where the new settings go.
    pub snapshots: Arc<Snapshots>,
    /// Has every worker look.
    pub ring: Box<dyn Fn() + Send + Sync>,
    /// Counters.
    pub block: Arc<Block>,
    /// Where the fleet's version stands, if there is one.
    pub fleet: Option<Fleet>,
    /// Tells those of the main thread that have settings of their own. It may lock, not wait.
    pub follow: Box<dyn Fn(&Settings) + Send + Sync>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("file", &self.overrides.file).finish_non_exhaustive()
    }
}

impl Cause {
    const fn counter(self) -> Counter {
        match self {
            Self::Config => Counter::SwitchesConfig,
            Self::Admin => Counter::SwitchesAdmin,
            Self::Fleet => Counter::SwitchesFleet,
            Self::Client => Counter::SwitchesClient,
            Self::Pubsub => Counter::SwitchesPubsub,
        }
    }
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs `work` to its end, also if who waits for it goes away: a gate that was closed must open.
#[expect(clippy::disallowed_methods, reason = "it is awaited, by all but who goes away")]
async fn unbroken<T: Send + 'static>(work: Work<T>) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
