//! `nearside config`: what holds and who said so; every key, for people and for editors.

use crate::cli::{BAD_CONFIG, ended, fail};
use crate::config::key::Values;
use crate::config::{ConfigError, Loaded, Shown, reference};
use serde_json::{Map, Value, json};
use std::io::{self, Write, stdout};
use std::process::ExitCode;

/// Where comments begin, if the line before them is not longer.
const MARGIN: usize = 44;

/// What is shown.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the configuration in force, and who wrote each value; no secrets
    Show {
        /// Only what is not built in
        #[arg(long)]
        diff: bool,
        /// As a file that can be used again, or for machines
        #[arg(long, value_enum, default_value_t = Format::Toml)]
        format: Format,
    },
    /// Print the JSON Schema of proxy.toml, for editors
    Schema,
    /// Print every key: its default, what it takes, when a change is felt (Markdown)
    Reference,
}

/// How.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// As proxy.toml
    Toml,
    /// For machines
    Json,
}

/// Prints it.
pub(super) fn run(command: Command, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let mut out = stdout().lock();
    let printed = match command {
        Command::Schema => writeln!(out, "{:#}", reference::schema()),
        Command::Reference => out.write_all(reference::markdown().as_bytes()),
        Command::Show { diff, format } => match loaded {
            Ok(loaded) => show(&loaded, diff, format, &mut out),
            Err(error) => return fail(BAD_CONFIG, &error.into()),
        },
    };
    ended(printed.map_err(Into::into))
}

fn show(loaded: &Loaded, diff: bool, format: Format, out: &mut impl Write) -> io::Result<()> {
    let is_other = |shown: &Shown| loaded.origins.contains_key(&shown.path) && !shown.is_built_in();
    let values = loaded.settings.values.iter().filter(|shown| !diff || is_other(shown));
    match format {
        Format::Toml => as_toml(loaded, &values.collect::<Vec<_>>(), out),
        Format::Json => {
            let member = |shown: &Shown| {
                let value = json!({ "value": shown.value, "origin": origin(loaded, shown) });
                (shown.path.clone(), value)
            };
            writeln!(out, "{:#}", Value::Object(values.map(member).collect::<Map<_, _>>()))
        }
    }
}

/// The same settings again, but for secrets: those are comments, so that what is missing is missed.
fn as_toml(loaded: &Loaded, values: &[&Shown], out: &mut impl Write) -> io::Result<()> {
    let mut table = "";
    for shown in values {
        let (of, _) = shown.path.rsplit_once('.').unwrap_or_default();
        if of != table {
            table = of;
            match of.split_once('[') {
                Some((list, _)) => writeln!(out, "\n[[{list}]]")?,
                None => writeln!(out, "\n[{of}]")?,
            }
        }
        let hidden = if shown.key.values == Values::Secret { "# " } else { "" };
        let line = format!("{hidden}{} = {}", shown.key.parts().1, shown.value);
        writeln!(out, "{line:MARGIN$} # {}", origin(loaded, shown))?;
    }
    Ok(())
}

fn origin(loaded: &Loaded, shown: &Shown) -> String {
    loaded.origins.get(&shown.path).map_or_else(|| "default".to_owned(), ToString::to_string)
}
