//! `nearside validate`: says what would happen at a start, and changes nothing.

use crate::app;
use crate::config::{Loaded, Settings};
use crate::control::admin;
use crate::control::survey::{self, Hidden};
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
    let (problems, hidden) =
        if environment { surroundings(&loaded.settings) } else { Default::default() };
    if let Some(hidden) = &hidden {
        println!("warning: {hidden}");
    }
    for problem in &problems {
        println!("error: {problem}");
    }
    if !problems.is_empty() {
        ExitCode::from(super::UNREACHABLE)
    } else if deny_warnings && (hidden.is_some() || !loaded.warnings.is_empty()) {
        ExitCode::from(super::BAD_CONFIG)
    } else {
        ExitCode::SUCCESS
    }
}

/// What the settings name and the machine does not have, and what the upstream has that nobody
/// would see.
fn surroundings(settings: &Settings) -> (Vec<String>, Option<Hidden>) {
    let mut problems = Vec::new();
    let options = app::listen_options(settings);
    for address in &settings.server.listen {
        if let Err(error) = listen::bind(address, &options) {
            problems.push(error.to_string());
        }
    }
    if let Some(address) = &settings.admin.listen
        && let Err(error) = try_admin(address)
    {
        problems.push(error.to_string());
    }
    match reach(settings) {
        Ok(hidden) => (problems, hidden),
        Err(error) => {
            problems.push(format!("upstream: {error:#}"));
            (problems, None)
        }
    }
}

/// Binds the admin port, as the proxy would, and lets it go.
fn try_admin(address: &str) -> anyhow::Result<()> {
    app::runtime()?.block_on(admin::bind(address))?;
    Ok(())
}

/// Opens one link, as the proxy would, and looks at what is there.
fn reach(settings: &Settings) -> anyhow::Result<Option<Hidden>> {
    let embedded = app::embedded(settings)?;
    let dialer = app::dialer(settings, embedded.as_ref())?;
    let options = Options {
        proto: Proto::Resp3,
        username: dialer.username(),
        password: dialer.password(),
        database: dialer.target.database,
        name: Some(&dialer.name),
        tracking: Some(&[]),
        asks_id: false,
    };
    app::runtime()?.block_on(async {
        let mut stream = dialer.open(&options).await?.stream;
        // A server that refuses the question is no reason not to start.
        let shares_version = settings.version_key.is_some();
        let hidden = survey::hidden(&mut stream, &settings.names, shares_version).await;
        Ok(hidden.unwrap_or_default())
    })
}
