//! From text to settings: file, environment, `--set` and flags, each fault with its origin.
//!
//! Invariant: no error shows a password, wherever it was written and whatever is wrong with it.

use crate::config::place::{self, Place};
use crate::config::written::Written;
use crate::config::{Settings, check, shown};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::{Table, Value};

/// Where the file is looked for if none is named.
const PLACES: &[&str] = &["proxy.toml", "/etc/nearside/proxy.toml"];

/// What the name of every environment variable begins with.
const ENVIRONMENT: &str = "NEARSIDE_";

/// What errors and `config show` call who sets a key while nearside runs.
pub(super) const RUNTIME: &str = "runtime";

/// What is for the commands that ask a running proxy, and no key.
const NOT_KEYS: &[&str] = &["NEARSIDE_ADMIN_URL", "NEARSIDE_ADMIN_TOKEN"];

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

/// Who wrote a value, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who.
    pub source: Source,
    /// The line in a file, from 1.
    pub line: Option<usize>,
}

impl Origin {
    /// Somebody who has set it while nearside runs.
    pub(super) fn runtime() -> Self {
        Self { source: Source::Flag(RUNTIME.to_owned()), line: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who said it.
    pub source: Source,
    /// Line and column in a file, from 1.
    pub place: Option<(usize, usize)>,
    /// What, and what to write instead.
    pub text: String,
}

/// Everything that is wrong, found in one pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

impl ConfigError {
    /// True if something is wrong with keys that begin so, or with their files.
    pub fn is_about(&self, keys: &str) -> bool {
        self.0.iter().any(|fault| fault.text.starts_with(keys))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.source.fmt(f)?;
            if let Some((line, column)) = fault.place {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", fault.text.trim_end())?;
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

/// A file, read.
#[derive(Debug, Default)]
struct File {
    path: Option<PathBuf>,
    text: String,
    table: Table,
}

/// Everything that was written anywhere, merged. It holds secrets, so it is not shown.
#[derive(Clone, Default)]
pub struct Merged(Arc<Table>);

impl Merged {
    pub(super) fn table(&self) -> Table {
        Table::clone(&self.0)
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads and checks the configuration.
pub fn load(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let file = find(overrides).map_or_else(|| Ok(File::default()), |path| read(&path))?;
    finish(file, overrides)
}

/// As [`load`], with this text for what stands in the file.
pub fn load_instead(text: String, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let path = find(overrides).unwrap_or_else(|| PathBuf::from("proxy.toml"));
    finish(parse(&path, text)?, overrides)
}

/// As [`load`], of a file that is not there yet: nothing stands over it.
pub fn load_text(path: &Path, text: String) -> Result<Loaded, ConfigError> {
    finish(parse(path, text)?, &Overrides::default())
}

/// What comes of `table` with these flags over it.
pub(super) fn checked(
    table: Table,
    flags: Vec<(String, String, String)>,
) -> Result<Settings, ConfigError> {
    let overrides = Overrides { flags, ..Overrides::default() };
    finish(File { table, ..File::default() }, &overrides).map(|loaded| loaded.settings)
}

fn finish(mut file: File, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let (mut faults, mut origins) = (Vec::new(), Vec::new());
    for (name, value) in &overrides.environment {
        let Some(path) = environment_path(name, &file.table) else {
            continue;
        };
        let source = Source::Environment(name.clone());
        apply(&mut file.table, &path, value, &source, &mut faults);
        origins.push((path, source));
    }
    for (flag, path, value) in &overrides.flags {
        let source = Source::Flag(flag.clone());
        apply(&mut file.table, path, value, &source, &mut faults);
        origins.push((path.clone(), source));
    }
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let written = Written::deserialize(file.table.clone())
        .map_err(|error| single(file.source(), None, with_hint(error.message())))?;
    let mut notes = check::Notes::default();
    let settings = check::settings(&written, &mut notes);
    match settings {
        Some(mut settings) if notes.faults.is_empty() => {
            settings.values = shown::values(&file.table, &settings);
            for shown in &mut settings.values {
                shown.origin = file.origin(&shown.path, &origins);
            }
            settings.merged = Merged(Arc::new(file.table));
            Ok(Loaded { settings, warnings: notes.warnings, file: file.path })
        }
        _ => {
            let fault = |text| file.blame(text, &origins);
            Err(ConfigError(notes.faults.into_iter().map(fault).collect()))
        }
    }
}

impl File {
    fn source(&self) -> Source {
        self.path.clone().map_or(Source::Settings, Source::File)
    }

    /// Who wrote a value last.
    fn origin(&self, path: &str, over: &[(String, Source)]) -> Option<Origin> {
        match over.iter().rev().find(|(written, _)| is_under(path, written)) {
            Some((_, source)) => Some(Origin { source: source.clone(), line: None }),
            None => place::of_written(&self.text, path)
                .map(|(line, _)| Origin { source: self.source(), line: Some(line) }),
        }
    }

    /// A fault of the key that `text` begins with, laid to whoever wrote that key last.
    fn blame(&self, text: String, origins: &[(String, Source)]) -> Fault {
        let is_key = |c: char| c.is_ascii_alphanumeric() || "_.[]".contains(c);
        let end = text.find(|c| !is_key(c)).unwrap_or(text.len());
        let key = text.get(..end).unwrap_or_default();
        let place = place::of_key(&self.text, key);
        let wrote = |(path, _): &&(String, Source)| {
            is_under(key, path) || (place.is_none() && is_under(path, key))
        };
        match origins.iter().rev().find(wrote) {
            Some((_, source)) => Fault { source: source.clone(), place: None, text },
            None => Fault { source: self.source(), place, text },
        }
    }
}

/// True if `key` is `table`, or stands in it.
pub(super) fn is_under(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn single(source: Source, place: Option<Place>, text: String) -> ConfigError {
    ConfigError(vec![Fault { source, place, text }])
}

fn find(overrides: &Overrides) -> Option<PathBuf> {
    overrides.file.clone().or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let source = || Source::File(path.to_path_buf());
    let text = std::fs::read_to_string(path)
        .map_err(|error| single(source(), None, format!("cannot be read: {error}")))?;
    parse(path, text)
}

/// The file as a table. It is read into its type once for the sake of its errors, which know their
/// place.
fn parse(path: &Path, text: String) -> Result<File, ConfigError> {
    let source = || Source::File(path.to_path_buf());
    let explain = |error: &toml::de::Error| {
        let span = error.span().unwrap_or_default();
        let said = plain(error.message(), place::may_be_secret(&text, span.start));
        let line = place::shown(&text, span.start, span.len());
        single(source(), Some(place::of_byte(&text, span.start)), with_hint(&said) + &line)
    };
    toml::from_str::<Written>(&text).map_err(|error| explain(&error))?;
    let table = text.parse().map_err(|error| explain(&error))?;
    Ok(File { path: Some(path.to_path_buf()), text, table })
}

/// Serde's words in those of an operator, without the value if it `is_secret`.
fn plain(message: &str, is_secret: bool) -> String {
    let quotes_value = message.starts_with("invalid ") || message.starts_with("unknown variant ");
    let message = match message.split_once(", expected ") {
        Some((_, expected)) if is_secret && quotes_value => format!("expected {expected}"),
        _ => message.to_owned(),
    };
    let Some((found, expected)) = message.rsplit_once("expected ") else {
        return message;
    };
    let expected = match expected {
        "usize" | "u32" => "a whole number",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    format!("{found}expected {expected}")
}

/// The key that an environment variable names; `None` if it is not ours.
fn environment_path(name: &str, table: &Table) -> Option<String> {
    if name == "REDIS_URL" {
        // What many platforms set: used where nothing else says where upstream is.
        let is_set = table.get("upstream").and_then(|upstream| upstream.get("url")).is_some();
        return (!is_set).then(|| "upstream.url".to_owned());
    }
    let is_mutant = cfg!(feature = "mutants") && name == "NEARSIDE_MUTANT";
    if is_mutant || NOT_KEYS.contains(&name) {
        return None;
    }
    let path = name.strip_prefix(ENVIRONMENT)?;
    Some(path.to_ascii_lowercase().replace("__", "."))
}

/// Puts one value over what is there, if it fits.
fn apply(table: &mut Table, path: &str, text: &str, source: &Source, faults: &mut Vec<Fault>) {
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
    let is_secret = place::is_secret(path) || place::is_secret(text);
    let mut said = plain(&problem.unwrap_or_default(), is_secret);
    if is_secret {
        said = said.replace(text, "***");
    }
    let said = with_hint(&said);
    // `--set` has named the key already.
    let text = match source {
        Source::Flag(flag) if flag.ends_with(path) => said,
        _ => format!("{path}: {said}"),
    };
    faults.push(Fault { source: source.clone(), place: None, text });
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
