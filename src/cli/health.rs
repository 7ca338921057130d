//! `nearside healthcheck`: a probe for Docker and scripts, which know two answers: 0 and 1.

use crate::cli::https::Trust;
use crate::cli::{fail, remote};
use crate::config::{ConfigError, Loaded};
use std::process::ExitCode;
use std::time::Duration;

/// What is asked, and of whom.
#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    /// Does the process answer?
    #[arg(long, conflicts_with = "ready")]
    live: bool,
    /// Should clients be sent here? (what is asked without a flag)
    #[arg(long)]
    ready: bool,
    /// The proxy's admin port [default: `admin.listen`]
    #[arg(long, value_name = "URL", env = "NEARSIDE_ADMIN_URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: Trust,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = remote::duration)]
    timeout: Duration,
}

/// Asks.
pub(super) fn run(probe: &Probe, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    match ask(probe, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn ask(probe: &Probe, loaded: Result<Loaded, ConfigError>) -> anyhow::Result<()> {
    let settings = match loaded {
        Ok(loaded) => Some(loaded.settings),
        Err(_) if probe.admin.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    let base = remote::base(probe.admin.as_deref(), settings.as_ref())?;
    let path = if probe.live { "/livez" } else { "/readyz" };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let caller = probe.trust.caller(&url, settings.as_ref())?;
    let mut answer = remote::agent(probe.timeout, caller).get(&url).call()?;
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{url} answers {}: {}", status.as_u16(), text.trim());
    Ok(())
}
