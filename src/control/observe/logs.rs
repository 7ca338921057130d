//! Logs: tracing, as text for people or one JSON object a line.

use crate::config::{Log, LogFormat};
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged. `RUST_LOG` wins over `log.level`.
pub fn filter(log: &Log) -> anyhow::Result<EnvFilter> {
    let (origin, text) = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => ("RUST_LOG", filter),
        _ => ("log.level", log.level.clone()),
    };
    // Any other word is a filter too: it would name a module that there is not.
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = levels.iter().any(|level| text.eq_ignore_ascii_case(level));
    anyhow::ensure!(
        is_level || !is_word,
        "{origin}: `{text}` is no level: write error, warn, info, debug or trace"
    );
    EnvFilter::try_new(&text).with_context(|| format!("{origin}: `{text}`"))
}

/// Starts logging to stdout. Only the first call counts.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = filter(log)?;
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
