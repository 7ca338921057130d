//! `nearside init`: a proxy.toml to begin with.
//!
//! The text is the shipped file, with its comments, or the smallest useful one. Values of flags are
//! written into it, and nothing is written that would not load.

use crate::cli::{BAD_CONFIG, ended, fail};
use crate::config;
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toml_edit::{DocumentMut, Item, Table, Value};

/// With every key that is for everybody, commented.
const SHIPPED: &str = include_str!("../../proxy.toml");

/// The smallest useful one.
const MINIMAL: &str = "\
[upstream]
url = \"redis://127.0.0.1:6379\"

[[rules]]
match = \"session:*\"
ttl = \"5m\"
";

/// Which, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// The smallest useful file, without comments
    #[arg(long)]
    minimal: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// The file; `-`: standard output
    #[arg(short, long, value_name = "FILE", default_value = "proxy.toml")]
    output: PathBuf,
}

/// Writes it. `flags` are those of the command line: how it was written, the key's path, the value.
pub(super) fn run(choice: &Choice, flags: &[(String, String, String)]) -> ExitCode {
    let text = match text(choice.minimal, flags) {
        Ok(text) => text,
        Err(error) => return fail(1, &error),
    };
    if let Err(error) = config::load_text(&choice.output, text.clone()) {
        return fail(BAD_CONFIG, &error.into());
    }
    if choice.output == Path::new("-") {
        return ended(stdout().lock().write_all(text.as_bytes()).map_err(Into::into));
    }
    match write(&choice.output, choice.force, &text) {
        Ok(()) => {
            let path = choice.output.display();
            let next = format!("{path}: written; `nearside validate --config {path}` checks it");
            ended(writeln!(stdout().lock(), "{next}").map_err(Into::into))
        }
        Err(error) => fail(1, &error),
    }
}

fn text(minimal: bool, flags: &[(String, String, String)]) -> anyhow::Result<String> {
    let mut document: DocumentMut = if minimal { MINIMAL } else { SHIPPED }.parse()?;
    for (flag, path, value) in flags {
        set(document.as_table_mut(), path, value).with_context(|| flag.clone())?;
    }
    Ok(document.to_string())
}

/// Puts a value where its key stands, or behind the others of its table.
fn set(table: &mut Table, path: &str, text: &str) -> anyhow::Result<()> {
    if let Some((first, rest)) = path.split_once('.') {
        let inner = table.entry(first).or_insert_with(|| Item::Table(Table::new()));
        let inner = inner.as_table_mut().with_context(|| format!("`{first}` is no table"))?;
        return set(inner, rest, text);
    }
    // A bare word is a string, as with --set.
    let mut value = text.parse::<Value>().unwrap_or_else(|_| Value::from(text));
    match table.get_mut(path).and_then(Item::as_value_mut) {
        Some(old) => {
            // What stands beside it was said of the old value.
            *value.decor_mut() = toml_edit::Decor::new(" ", "");
            *old = value;
        }
        None => {
            table.insert(path, Item::Value(value));
        }
    }
    Ok(())
}

fn write(path: &Path, force: bool, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(!force).create(true).truncate(force);
    let mut file = options.open(path).map_err(|error| {
        let is_there = error.kind() == ErrorKind::AlreadyExists;
        let hint = if is_there { ": --force writes over it" } else { "" };
        anyhow::anyhow!("{}: {error}{hint}", path.display())
    })?;
    Ok(file.write_all(text.as_bytes())?)
}
