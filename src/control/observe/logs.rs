//! Logs: tracing, as text for people or one JSON object a line. What is logged can be changed while
//! the process lives, for a while.
//!
//! Events that somebody may wait for have a name (`event`): `started`, `listening`,
//! `config_loaded`, `draining`, `stopped`, `upstream_up`, `upstream_down`,
//! `invalidation_channel_up`, `invalidation_channel_down`, `auth_failed`, `admin_action`,
//! `log_suppressed`, and some that only nearside has. `tests/log_events.rs` has the list.

use crate::config::{Log, LogFormat};
use crate::control::observe::quiet::Quiet;
use crate::units::clock::{Clock, unix_millis};
use parking_lot::Mutex;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::Notify;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// The words for levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What the one subscriber of the process filters by.
static SWITCH: Mutex<Switch> =
    Mutex::new(Switch { set: None, configured: String::new(), borrowed: None });

/// Another level was borrowed.
static BORROWED: Notify = Notify::const_new();

type Set = Box<dyn Fn(EnvFilter) -> bool + Send>;

struct Switch {
    /// Puts another filter into force; none before logging has started.
    set: Option<Set>,
    configured: String,
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
pub fn init(log: &Log, colored: Option<bool>) -> anyhow::Result<()> {
    let (text, filter) = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => (text.clone(), EnvFilter::try_new(text)?),
        _ => {
            let filter = EnvFilter::try_new(&log.level)
                .map_err(|error| anyhow::anyhow!("log.level: `{}`: {error}", log.level))?;
            (log.level.clone(), filter)
        }
    };
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
    let log = tracing_subscriber::registry().with(filter).with(quiet);
    let started = if as_json {
        log.with(layer().json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        let is_wanted = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let is_colored = colored.unwrap_or(is_wanted);
        log.with(layer().with_ansi(is_colored)).try_init()
    };
    // Already started: in a test that runs several proxies in one process.
    if started.is_ok() {
        let mut switch = SWITCH.lock();
        (switch.set, switch.configured) = (Some(set), text);
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
                go_back();
                left = None;
            }
        }
    }
}

fn go_back() {
    let mut switch = SWITCH.lock();
    // It was read at the start.
    if let (Some(set), Ok(filter)) = (&switch.set, EnvFilter::try_new(&switch.configured)) {
        set(filter);
    }
    switch.borrowed = None;
}

/// Stricter than `EnvFilter`, to which any word is a module that may log everything.
fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_module = |word: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
        !word.is_empty() && word.bytes().all(is_plain)
    };
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    for part in &parts {
        let is_sound = match part.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(part),
        };
        if !is_sound {
            return Err(LevelError::Unknown((*part).to_owned()));
        }
    }
    EnvFilter::try_new(parts.join(",")).map_err(|_| LevelError::Unknown(level.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{LevelError, filter};

    #[test]
    fn a_level_is_what_it_says() {
        for level in ["info", "OFF", "info,nearside::data=debug", "warn, hyper=error"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for (level, part) in [
            ("debgu", "debgu"),
            ("info,nearside", "nearside"),
            ("info,=debug", "=debug"),
            ("", ""),
            ("info,a=loud", "a=loud"),
            ("[span]=debug", "[span]=debug"),
        ] {
            let error = filter(level).map(|_| ()).unwrap_err();
            assert_eq!(error, LevelError::Unknown(part.to_owned()), "{level}");
        }
    }
}
