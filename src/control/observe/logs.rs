//! Logs: tracing, as text for people or one JSON object a line.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let started = if as_json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_ansi(is_terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
    };
    // Already started: in a test that runs several proxies in one process.
    started.ok();
    Ok(())
}
