//! From text to settings: file, environment, `--set` and flags, each fault with its origin.

use crate::config::written::Written;
use crate::config::{Settings, check};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where the file is looked for if none is named.
const PLACES: &[&str] = &["proxy.toml", "/etc/nearside/proxy.toml"];

/// What the name of every environment variable begins with.
const ENVIRONMENT: &str = "NEARSIDE_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag, or `--set`.
    Flag(String),
    /// Several of them, or nowhere.
    Settings,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Settings => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub source: Source,
    /// What, and what to write instead.
    pub text: String,
}

/// Everything that is wrong, found in one pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", fault.source, fault.text.trim_end())?;
        }
        Ok(())
    }
}

/// What stands over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags and `--set`: how it was written, the key's path, the value.
    pub flags: Vec<(String, String, String)>,
}

/// Settings, and what an operator should know of them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What is legal and probably not meant.
    pub warnings: Vec<String>,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

/// Reads and checks the configuration.
pub fn load(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let file = find(overrides)?;
    let mut table = match &file {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    let mut faults = Vec::new();
    for (name, value) in &overrides.environment {
        let Some(path) = environment_path(name, &table) else {
            continue;
        };
        let source = Source::Environment(name.clone());
        apply(&mut table, &path, value, source, &mut faults);
    }
    for (flag, path, value) in &overrides.flags {
        apply(&mut table, path, value, Source::Flag(flag.clone()), &mut faults);
    }
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let origin = file.clone().map_or(Source::Settings, Source::File);
    let written = Written::deserialize(table)
        .map_err(|error| single(origin.clone(), with_hint(error.message())))?;
    let mut notes = check::Notes::default();
    let settings = check::settings(&written, &mut notes);
    match settings {
        Some(settings) if notes.faults.is_empty() => {
            Ok(Loaded { settings, warnings: notes.warnings, file })
        }
        _ => {
            let fault = |text| Fault { source: origin.clone(), text };
            Err(ConfigError(notes.faults.into_iter().map(fault).collect()))
        }
    }
}

fn single(source: Source, text: String) -> ConfigError {
    ConfigError(vec![Fault { source, text }])
}

fn find(overrides: &Overrides) -> Result<Option<PathBuf>, ConfigError> {
    match &overrides.file {
        Some(path) if path.is_file() => Ok(Some(path.clone())),
        Some(path) => {
            let source = Source::Flag("--config".to_owned());
            Err(single(source, format!("there is no file {}", path.display())))
        }
        None => Ok(PLACES.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
}

/// The file as a table. It is read into its type once for the sake of its errors, which show the
/// line and a caret.
fn read(path: &Path) -> Result<Table, ConfigError> {
    let source = || Source::File(path.to_path_buf());
    let text = std::fs::read_to_string(path)
        .map_err(|error| single(source(), format!("cannot be read: {error}")))?;
    toml::from_str::<Written>(&text)
        .map_err(|error| single(source(), with_hint(&shown(&error, &text))))?;
    text.parse().map_err(|error| single(source(), shown(&error, &text)))
}

/// The error with the line it is about; of a line that may hold a secret, only its number.
fn shown(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let number = text.get(..start).map_or(0, |before| before.matches('\n').count());
    let line = text.lines().nth(number).unwrap_or_default();
    if line.contains("password") || line.contains("://") {
        // Serde quotes what it found.
        let message = error.message();
        let wanted = message.find("expected ").and_then(|at| message.get(at..));
        format!("line {}: {}", number + 1, wanted.unwrap_or(message))
    } else {
        error.to_string()
    }
}

/// The key that an environment variable names; `None` if it is not ours.
fn environment_path(name: &str, table: &Table) -> Option<String> {
    if name == "REDIS_URL" {
        // What many platforms set: used where nothing else says where upstream is.
        let is_set = table.get("upstream").and_then(|upstream| upstream.get("url")).is_some();
        return (!is_set).then(|| "upstream.url".to_owned());
    }
    let path = name.strip_prefix(ENVIRONMENT)?;
    Some(path.to_ascii_lowercase().replace("__", "."))
}

/// Puts one value over what is there, if it fits.
fn apply(table: &mut Table, path: &str, text: &str, source: Source, faults: &mut Vec<Fault>) {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    let typed = parsed.and_then(|mut table| table.remove("value"));
    // A bare word is a string: `mode=bypass` needs no quotes.
    let candidates = typed.into_iter().chain([Value::String(text.to_owned())]);
    let mut problem = None;
    for value in candidates {
        let mut alone = Table::new();
        insert(&mut alone, path, value.clone());
        match Written::deserialize(alone) {
            Ok(_) => {
                insert(table, path, value);
                return;
            }
            // The first reading is the likelier one.
            Err(error) => {
                problem.get_or_insert_with(|| error.message().to_owned());
            }
        }
    }
    let text = format!("{path}: {}", with_hint(&problem.unwrap_or_default()));
    faults.push(Fault { source, text });
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Adds the nearest known name to an error about an unknown one. Serde quotes both with backticks.
fn with_hint(message: &str) -> String {
    let Some(at) = message.find("unknown field `").or_else(|| message.find("unknown variant `"))
    else {
        return message.to_owned();
    };
    let mut quoted = message.get(at..).unwrap_or_default().split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default().to_owned();
    let nearest = quoted
        .map(|known| (strsim::damerau_levenshtein(&unknown, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2);
    match nearest {
        Some((_, known)) => format!("{}\ndid you mean `{known}`?", message.trim_end()),
        None => message.to_owned(),
    }
}
