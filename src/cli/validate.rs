//! `nearside validate`: says what would happen at a start, and changes nothing.

use crate::app;
use crate::config::{Loaded, Settings};
use crate::net::listen;
use crate::wire::handshake::Options;
use crate::wire::write::Proto;
use std::process::ExitCode;

/// Prints every finding; the exit code tells the worst of them.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub(super) fn run(loaded: &Loaded, environment: bool, deny_warnings: bool) -> ExitCode {
    match &loaded.file {
        Some(file) => println!("{}: ok", file.display()),
        None => println!("no configuration file: defaults"),
    }
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    let problems = if environment { surroundings(&loaded.settings) } else { Vec::new() };
    for problem in &problems {
        println!("error: {problem}");
    }
    if !problems.is_empty() {
        ExitCode::from(super::UNREACHABLE)
    } else if deny_warnings && !loaded.warnings.is_empty() {
        ExitCode::from(super::BAD_CONFIG)
    } else {
        ExitCode::SUCCESS
    }
}

/// What the settings name and the machine does not have.
fn surroundings(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let options = app::listen_options(settings);
    for address in &settings.server.listen {
        if let Err(error) = listen::bind(address, &options) {
            problems.push(error.to_string());
        }
    }
    if let Err(error) = reach(settings) {
        problems.push(format!("upstream: {error:#}"));
    }
    problems
}

/// Opens one link, as the proxy would.
fn reach(settings: &Settings) -> anyhow::Result<()> {
    let embedded = app::embedded(settings)?;
    let dialer = app::dialer(settings, embedded.as_ref())?;
    let options = Options {
        proto: Proto::Resp3,
        username: dialer.username(),
        password: dialer.password(),
        database: dialer.target.database,
        name: Some(&dialer.name),
        tracking: Some(&[]),
    };
    app::runtime()?.block_on(dialer.open(&options))?;
    Ok(())
}
