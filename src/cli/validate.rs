//! `nearside validate`: says what would happen at a start, and changes nothing.

use super::{BAD_CONFIG, UNREACHABLE, fail};
use crate::app;
use crate::config::{ConfigError, Fault, Loaded, Settings};
use crate::control::admin;
use crate::control::survey::{self, Hidden};
use crate::net::inherited::Inherited;
use crate::net::listen;
use crate::wire::handshake::Options;
use crate::wire::write::Proto;
use serde_json::{Value, json};
use std::process::ExitCode;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Prints every finding; the exit code tells the worst of them.
pub(super) fn run(
    loaded: Result<Loaded, ConfigError>,
    environment: bool,
    deny_warnings: bool,
    format: Format,
) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) if format == Format::Text => return fail(BAD_CONFIG, &error.into()),
        Err(error) => {
            let faults: Vec<Value> = error.0.iter().map(fault).collect();
            return told(&json!({ "valid": false, "errors": faults, "warnings": [] }), BAD_CONFIG);
        }
    };
    let (problems, hidden) =
        if environment { surroundings(&loaded.settings) } else { Default::default() };
    let hidden = hidden.map(|hidden| hidden.to_string());
    let warnings: Vec<String> = loaded.warnings.iter().cloned().chain(hidden).collect();
    let code = if !problems.is_empty() {
        UNREACHABLE
    } else if deny_warnings && !warnings.is_empty() {
        BAD_CONFIG
    } else {
        0
    };
    if format == Format::Json {
        let message = |problem: &String| json!({ "message": problem });
        let errors: Vec<Value> = problems.iter().map(message).collect();
        let file = loaded.file.as_ref().map(|file| file.display().to_string());
        let valid = code == 0;
        let findings =
            json!({ "valid": valid, "file": file, "errors": errors, "warnings": warnings });
        return told(&findings, code);
    }
    in_words(&loaded, &warnings, &problems);
    ExitCode::from(code)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn in_words(loaded: &Loaded, warnings: &[String], problems: &[String]) {
    match &loaded.file {
        Some(file) => println!("{}: ok", file.display()),
        None => println!("no configuration file: defaults"),
    }
    for warning in warnings {
        println!("warning: {warning}");
    }
    for problem in problems {
        println!("error: {problem}");
    }
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn told(findings: &Value, code: u8) -> ExitCode {
    println!("{findings:#}");
    ExitCode::from(code)
}

fn fault(fault: &Fault) -> Value {
    let (line, column) = fault.place.unzip();
    let source = fault.source.to_string();
    json!({ "source": source, "line": line, "column": column, "message": fault.text.trim_end() })
}

/// What the settings name and the machine does not have, and what the upstream has that nobody
/// would see.
fn surroundings(settings: &Settings) -> (Vec<String>, Option<Hidden>) {
    let mut problems = Vec::new();
    let server = &settings.server;
    for (key, addresses) in
        [("server.listen", &server.listen), ("server.tls.listen", &server.tls_listen)]
    {
        let options = app::listen_options(key, settings);
        let mut none = Inherited::default();
        let bound = addresses.iter().map(|address| listen::bind(address, &options, &mut none));
        problems.extend(bound.filter_map(|bound| Some(bound.err()?.to_string())));
    }
    let http =
        [("admin.listen", &settings.admin.listen), ("metrics.listen", &settings.metrics.listen)];
    for (key, address) in http {
        if let Some(address) = address
            && let Err(error) = try_http(key, address)
        {
            problems.push(error.to_string());
        }
    }
    match reach(settings) {
        Ok(hidden) => (problems, hidden),
        Err(error) => {
            problems.push(format!("upstream: {error:#}"));
            (problems, None)
        }
    }
}

/// Binds a port for HTTP, as the proxy would, and lets it go.
fn try_http(key: &'static str, address: &str) -> anyhow::Result<()> {
    app::runtime()?.block_on(admin::bind(key, address, &mut Inherited::default()))?;
    Ok(())
}

/// Opens one link, as the proxy would, and looks at what is there.
fn reach(settings: &Settings) -> anyhow::Result<Option<Hidden>> {
    let embedded = app::embedded(settings)?;
    let dialer = app::dialer(settings, embedded.as_ref());
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
        let hidden = survey::hidden(&mut stream, settings).await;
        Ok(hidden.unwrap_or_default())
    })
}
