//! Logs: tracing, as text for people or one JSON object a line.
//!
//! Events that somebody may wait for have a name (`event`): `started`, `listening`,
//! `config_loaded`, `draining`, `stopped`, `upstream_up`, `upstream_down`,
//! `invalidation_channel_up`, `invalidation_channel_down`, `auth_failed`, `admin_action`,
//! `log_suppressed`, and some that only nearside has. `tests/log_events.rs` has the list.

use crate::config::{Log, LogFormat};
use crate::control::observe::quiet::Quiet;
use crate::units::clock::Clock;
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging to stdout. `RUST_LOG` wins over `log.level`. Only the first call counts.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(&log.level)
            .map_err(|error| anyhow::anyhow!("log.level: `{}`: {error}", log.level))?,
    };
    let is_terminal = std::io::stdout().is_terminal();
    let as_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    };
    let quiet = Quiet::new(log.rate_limit, Clock::system());
    let log = tracing_subscriber::registry().with(filter).with(quiet);
    let started = if as_json {
        log.with(fmt::layer().json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        let is_colored = is_terminal && std::env::var_os("NO_COLOR").is_none();
        log.with(fmt::layer().with_ansi(is_colored)).try_init()
    };
    // Already started: in a test that runs several proxies in one process.
    started.ok();
    Ok(())
}
