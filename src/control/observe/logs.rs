//! Logs: tracing, as text for people or one JSON object a line. What is logged can be changed while
//! the process lives, for a while.
//!
//! Events that somebody may wait for have a name (`event`): `started`, `listening`,
//! `config_loaded`, `draining`, `stopped`, `upstream_up`, `upstream_down`,
//! `invalidation_channel_up`, `invalidation_channel_down`, `auth_failed`, `admin_action`,
//! `log_suppressed`, and some that only nearside has. `tests/log_events.rs` has the list.

use crate::config::{LogFormat, Settings};
use crate::control::observe::events::Told;
use crate::control::observe::quiet::Quiet;
use crate::control::observe::stamp::{Stamp, Stamped};
use crate::units::clock::{Clock, unix_millis};
use crate::units::log_level::{self, LEVELS};
use parking_lot::Mutex;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::Notify;
use tracing_subscriber::fmt::format::Format;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// What the one subscriber of the process filters by.
static SWITCH: Mutex<Switch> =
    Mutex::new(Switch { set: None, configured: String::new(), is_fixed: false, borrowed: None });

/// Another level was borrowed.
static BORROWED: Notify = Notify::const_new();

type Set = Box<dyn Fn(EnvFilter) -> bool + Send>;

struct Switch {
    /// Puts another filter into force; none before logging has started.
    set: Option<Set>,
    configured: String,
    /// `RUST_LOG` said it, which the configuration does not change.
    is_fixed: bool,
    borrowed: Option<Borrowed>,
}

/// What is in force instead, for a while.
#[derive(Clone, Debug)]
struct Borrowed {
    level: String,
    /// In milliseconds since 1970, for people.
    until: u64,
    lasting: Duration,
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct Level {
    /// Now.
    pub in_force: String,
    /// What it goes back to.
    pub configured: String,
    /// When, in milliseconds since 1970; `None` if it is the configured one.
    pub until: Option<u64>,
}

/// Why a level cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// A part of it is none.
    #[error("`{0}` is none: write a level ({levels}) or `module=level`", levels = Levels)]
    Unknown(String),
    /// Nothing is logged by this process.
    #[error("logging was not started")]
    Off,
}

struct Levels;

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&LEVELS.join(", "))
    }
}

/// Starts logging to stdout. `RUST_LOG` wins over `log.level`; `colored` over what a terminal
/// and `NO_COLOR` say. Only the first call counts.
pub fn init(settings: &Settings, colored: Option<bool>) -> anyhow::Result<()> {
    let log = &settings.log;
    let given = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let is_fixed = given.is_some();
    let text = given.unwrap_or_else(|| log.level.clone());
    let filter = EnvFilter::try_new(&text).map_err(|error| anyhow::anyhow!("`{text}`: {error}"))?;
    let is_terminal = std::io::stdout().is_terminal();
    let as_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    // First, so that it bounds what all layers see.
    let (filter, handle) = reload::Layer::new(filter);
    let set: Set = Box::new(move |filter| handle.reload(filter).is_ok());
    let quiet = Quiet::new(log.rate_limit, Clock::system());
    let log = tracing_subscriber::registry().with(filter).with(quiet).with(Told);
    let stamp = Stamp::new(settings, as_json);
    let started = if as_json {
        let lines = layer().json().flatten_event(true).with_current_span(false);
        log.with(lines.map_event_format(|format| Stamped { format, stamp })).try_init()
    } else {
        let is_wanted = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let is_colored = colored.unwrap_or(is_wanted);
        let lines = layer().with_ansi(is_colored);
        let stamped = |format: Format| Stamped { format: format.with_ansi(is_colored), stamp };
        log.with(lines.map_event_format(stamped)).try_init()
    };
    // Already started: in a test that runs several proxies in one process.
    if started.is_ok() {
        let mut switch = SWITCH.lock();
        (switch.set, switch.configured, switch.is_fixed) = (Some(set), text, is_fixed);
    }
    Ok(())
}

/// What is logged now.
pub fn level() -> Level {
    let (configured, borrowed) = {
        let switch = SWITCH.lock();
        (switch.configured.clone(), switch.borrowed.clone())
    };
    match borrowed {
        Some(Borrowed { level, until, .. }) => {
            Level { in_force: level, configured, until: Some(until) }
        }
        None => Level { in_force: configured.clone(), configured, until: None },
    }
}

/// Logs by this level for a while; [`watch`] ends it.
pub fn set_level(level: &str, lasting: Duration) -> Result<(), LevelError> {
    let filter = filter(level)?;
    let millis = u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX);
    let until = unix_millis().saturating_add(millis);
    let mut switch = SWITCH.lock();
    if !switch.set.as_ref().is_some_and(|set| set(filter)) {
        return Err(LevelError::Off);
    }
    switch.borrowed = Some(Borrowed { level: level.to_owned(), until, lasting });
    drop(switch);
    BORROWED.notify_one();
    Ok(())
}

/// Logs by this level from now on, or once what is borrowed has gone back. `RUST_LOG` wins.
pub fn configure(level: &str) {
    let mut switch = SWITCH.lock();
    if switch.is_fixed || switch.configured == level {
        return;
    }
    level.clone_into(&mut switch.configured);
    if switch.borrowed.is_none() {
        switch.go_back();
    }
}

/// Has the level go back when its time is over, as long as the process lives.
pub async fn watch() {
    let mut left = None;
    loop {
        let over = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        // A level that was borrowed at the last moment has its whole time.
        tokio::select! {
            biased;
            () = BORROWED.notified() => {
                left = SWITCH.lock().borrowed.as_ref().map(|borrowed| borrowed.lasting);
            }
            () = over => {
                SWITCH.lock().go_back();
                left = None;
            }
        }
    }
}

impl Switch {
    fn go_back(&mut self) {
        // It was read when it was configured.
        if let (Some(set), Ok(filter)) = (&self.set, EnvFilter::try_new(&self.configured)) {
            set(filter);
        }
        self.borrowed = None;
    }
}

fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let unknown = |part: &str| LevelError::Unknown(part.to_owned());
    log_level::check(level).map_err(unknown)?;
    EnvFilter::try_new(level.replace(' ', "")).map_err(|_| unknown(level))
}
