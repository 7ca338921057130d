//! `nearside config`: what holds and who said so; every key, for people and for editors.

use crate::cli::remote::{Failure, Reach};
use crate::cli::{BAD_CONFIG, ended, fail};
use crate::config::{ConfigError, Loaded, MASK, Shown, reference, written};
use serde_json::{Map, json};
use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::process::ExitCode;
use toml::Value;

/// Where comments begin, if the line before them is not longer.
const MARGIN: usize = 44;

/// What is shown.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the configuration in force, and who wrote each value; no secrets
    Show {
        /// Only what is not built in
        #[arg(long)]
        diff: bool,
        /// Ask the running proxy: with what was set since its start, and what waits for a restart
        #[arg(long)]
        live: bool,
        /// As a file that can be used again, or for machines
        #[arg(long, value_enum, default_value_t = Format::Toml)]
        format: Format,
        #[command(flatten)]
        reach: Reach,
    },
    /// Print the JSON Schema of proxy.toml, for editors
    Schema,
    /// Print every key: its default, what it takes, when a change is felt (Markdown)
    Reference,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// As proxy.toml
    Toml,
    /// For machines
    Json,
}

/// A key with its value, as it is printed.
struct Row {
    path: String,
    value: Value,
    origin: String,
    is_built_in: bool,
}

impl From<&Shown> for Row {
    fn from(shown: &Shown) -> Self {
        let (path, value) = (shown.path.clone(), shown.value.clone());
        Self { path, value, origin: shown.origin(), is_built_in: shown.is_built_in() }
    }
}

/// Prints it.
pub(super) fn run(command: &Command, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    match command {
        Command::Schema => say(&format!("{:#}\n", reference::schema())),
        Command::Reference => say(&reference::markdown()),
        Command::Show { diff, live, format, reach } => {
            let shown = if *live { ask(reach, loaded) } else { offline(loaded) };
            let (mut rows, pending) = match shown {
                Ok(shown) => shown,
                Err(code) => return code,
            };
            rows.retain(|row| !diff || !row.is_built_in);
            let is_json = reach.json || *format == Format::Json;
            say(&if is_json { as_json(&rows) } else { as_toml(&rows, &pending) })
        }
    }
}

fn say(text: &str) -> ExitCode {
    ended(stdout().lock().write_all(text.as_bytes()).map_err(Into::into))
}

/// Rows, and keys that wait for a restart.
type Found = (Vec<Row>, Vec<String>);

/// What a start would have.
fn offline(loaded: Result<Loaded, ConfigError>) -> Result<Found, ExitCode> {
    let loaded = loaded.map_err(|error| fail(BAD_CONFIG, &error.into()))?;
    Ok((loaded.settings.values.iter().map(Row::from).collect(), Vec::new()))
}

/// What a running proxy has.
fn ask(reach: &Reach, loaded: Result<Loaded, ConfigError>) -> Result<Found, ExitCode> {
    let settings = reach.settings(loaded)?;
    let failed = |failure: Failure| reach.tell(Err(failure), |_| String::new());
    let answer = reach.ask(settings.as_ref(), "GET", "/api/v1/config", &serde_json::Value::Null);
    let answer = answer.map_err(failed)?;
    let members = answer.get("settings").and_then(serde_json::Value::as_object);
    let row = |(path, setting): (&String, &serde_json::Value)| {
        let value = Value::try_from(setting.get("value")?).ok()?;
        let origin = setting.get("origin")?.as_str()?.to_owned();
        let is_built_in = origin == "default" || is_built_in(path, &value);
        Some(Row { path: path.clone(), value, origin, is_built_in })
    };
    let rows = members.into_iter().flatten().filter_map(row).collect();
    let pending = answer.get("pending_restart").and_then(serde_json::Value::as_array);
    let name = |name: &serde_json::Value| name.as_str().map(str::to_owned);
    Ok((rows, pending.into_iter().flatten().filter_map(name).collect()))
}

/// True if this is what would hold if nobody had written it.
fn is_built_in(path: &str, value: &Value) -> bool {
    let key = written::keys().find(|key| key.path == path);
    key.is_some_and(|key| key.default().as_ref() == Some(value))
}

fn as_json(rows: &[Row]) -> String {
    let member = |row: &Row| {
        let value = json!({ "value": row.value, "origin": row.origin });
        (row.path.clone(), value)
    };
    let members: Map<_, _> = rows.iter().map(member).collect();
    format!("{:#}\n", serde_json::Value::Object(members))
}

/// The same settings again, but for secrets: those are comments, so that what is missing is missed.
fn as_toml(rows: &[Row], pending: &[String]) -> String {
    let mut text = String::new();
    if !pending.is_empty() {
        writeln!(text, "# waits for a restart: {}", pending.join(", ")).ok();
    }
    let mut table = "";
    for row in rows {
        let (of, name) = row.path.rsplit_once('.').unwrap_or(("", &row.path));
        if of != table {
            table = of;
            match of.split_once('[') {
                Some((list, _)) => writeln!(text, "\n[[{list}]]").ok(),
                None => writeln!(text, "\n[{of}]").ok(),
            };
        }
        let hidden = if row.value.as_str() == Some(MASK) { "# " } else { "" };
        let line = format!("{hidden}{name} = {}", row.value);
        writeln!(text, "{line:MARGIN$} # {}", row.origin).ok();
    }
    text
}
