//! `nearside commands`: the table of commands, as the settings in force leave it.

use crate::command::{self, Policy, Spec};
use crate::config::Settings;
use crate::data::explain::fate::{self, Fate};
use serde::Serialize;
use std::io::{self, Write};

/// Which rows are shown, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Choice {
    /// Only what is refused
    #[arg(long, conflicts_with = "cacheable")]
    unsupported: bool,
    /// Only what is answered from the cache
    #[arg(long)]
    cacheable: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// One command.
#[derive(Debug, Serialize)]
struct Row {
    command: String,
    since: &'static str,
    class: &'static str,
    fate: Fate,
    writes: bool,
    keys: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

impl Row {
    fn of(spec: &Spec, settings: &Settings, policy: &Policy) -> Self {
        let (fate, note) = fate::of_row(spec, settings, policy);
        Self {
            command: spec.name.replace('|', " ").to_ascii_uppercase(),
            since: spec.since,
            class: fate::class(spec.class),
            fate,
            writes: spec.writes(),
            keys: fate::keys(spec.keys),
            note,
        }
    }
}

/// Prints the table.
pub(super) fn print(settings: &Settings, choice: Choice, out: &mut impl Write) -> io::Result<()> {
    // A container does nothing by itself, but COMMAND.
    let is_shown = |spec: &&Spec| spec.subcommands == 0 || spec.name == "command";
    let policy = settings.policy();
    let rows: Vec<Row> = command::all()
        .iter()
        .filter(is_shown)
        .map(|spec| Row::of(spec, settings, &policy))
        .filter(|row| !choice.unsupported || row.fate == Fate::Refused)
        .filter(|row| !choice.cacheable || row.fate == Fate::Cached)
        .collect();
    if choice.json {
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        return writeln!(out);
    }
    let width = |cell: fn(&Row) -> &str| rows.iter().map(|row| cell(row).len()).max().unwrap_or(0);
    let (name, keys) = (width(|row| &row.command), width(|row| &row.keys));
    for row in &rows {
        let Row { command, class, fate, keys: cell, note, .. } = row;
        let fate = fate.word();
        let line = format!("{command:name$}  {class:13}  {fate:9}  {cell:keys$}  {note}");
        writeln!(out, "{}", line.trim_end())?;
    }
    let count = |fate| rows.iter().filter(|row| row.fate == fate).count();
    let fates = [Fate::Cached, Fate::Forwarded, Fate::Own, Fate::Steps, Fate::Local, Fate::Refused];
    let sums = fates.map(|fate| (count(fate), fate.word()));
    let sums = sums.iter().filter(|(count, _)| *count > 0);
    let sums: Vec<String> = sums.map(|(count, word)| format!("{count} {word}")).collect();
    writeln!(out, "\n{} commands: {}", rows.len(), sums.join(", "))
}
