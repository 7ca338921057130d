//! The configuration in force, key by key, as it would be written: what `config show` prints, what
//! `CONFIG GET proxy.*` tells, and what the configuration's digest is of.
//!
//! In: the merged file and the settings that came of it. Out: [`Shown`]. Invariant: no secret is
//! in it, and a URL has its password masked. Who wrote a value, [`load`](super::load()) fills in.

use crate::config::Settings;
use crate::config::key::{BuiltIn, Key, LISTS, Values};
use crate::config::{Origin, written};
use crate::net::target::Target;
use crate::units::duration::Span;
use crate::units::rate::Rate;
use crate::units::size::Size;
use aws_lc_rs::digest;
use std::fmt::Write as _;
use toml::{Table, Value};

/// What stands for a secret.
pub const MASK: &str = "***";

/// One key, and its value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// What is to be said of it.
    pub key: &'static Key,
    /// In full: `cache.ttl`, `rules[0].ttl`.
    pub path: String,
    /// As it would be written, in one spelling: `"60s"` is `"1m"`.
    pub value: Value,
    /// Who wrote it; `None`: nobody.
    pub origin: Option<Origin>,
}

impl Shown {
    /// True if this is what holds where nothing is written.
    pub fn is_built_in(&self) -> bool {
        self.origin.is_none() || self.key.default().as_ref() == Some(&self.value)
    }

    /// Who wrote it, in words.
    pub fn origin(&self) -> String {
        self.origin.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
    }

    /// The value as `CONFIG GET` tells it.
    fn text(&self) -> String {
        match &self.value {
            Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
            Value::Table(names) => {
                let pairs = names.iter().map(|(name, value)| format!("{name}={}", plain(value)));
                pairs.collect::<Vec<_>>().join(" ")
            }
            value => plain(value),
        }
    }
}

impl Settings {
    /// Every setting by its name in proxy.toml, but for secrets, files and what is in lists
    /// of tables.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let is_hidden =
            |key: &Key| key.list().is_some() || matches!(key.values, Values::Secret | Values::File);
        let values = self.values.iter().filter(|shown| !is_hidden(shown.key));
        values.map(|shown| (shown.key.path, shown.text())).collect()
    }

    /// What tells this configuration from others: 8 hexadecimal digits. Secrets are not in it.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for Shown { path, value, .. } in &self.values {
            writeln!(text, "{path} = {value}").ok();
        }
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        format!("{:08x}", u32::from_be_bytes(first))
    }
}

/// Each key that has a value. `written` is everything that was written anywhere, merged.
pub(super) fn values(written: &Table, settings: &Settings) -> Vec<Shown> {
    let mut all = Vec::new();
    for key in written::keys().filter(|key| key.list().is_none()) {
        let value = find(written, key.path).map(|value| normal(key.values, value));
        let value = value.or_else(|| key.default()).or_else(|| found(key.path, settings));
        let path = key.path.to_owned();
        all.extend(value.map(|value| Shown { key, path, value, origin: None }));
    }
    for list in LISTS {
        let tables = find(written, list).and_then(Value::as_array);
        for (index, table) in tables.into_iter().flatten().enumerate() {
            for key in written::keys().filter(|key| key.list() == Some(list)) {
                let (_, name) = key.parts();
                let value = table.get(name).map(|value| normal(key.values, value));
                let path = format!("{list}[{index}].{name}");
                all.extend(value.map(|value| Shown { key, path, value, origin: None }));
            }
        }
    }
    all
}

/// What is written under a path.
fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => table.get(path),
        Some((first, rest)) => find(table.get(first)?.as_table()?, rest),
    }
}

impl Key {
    /// What holds where nothing is written, if that is known without asking the machine.
    pub fn default(&self) -> Option<Value> {
        let BuiltIn::Toml(text) = self.built_in else { return None };
        let mut table = format!("value = {text}").parse::<Table>().ok()?;
        table.remove("value").map(|value| normal(self.values, &value))
    }
}

/// What depends on the machine, or on another key.
fn found(path: &str, settings: &Settings) -> Option<Value> {
    let number = |count: usize| i64::try_from(count).ok().map(Value::Integer);
    match path {
        "instance" => Some(Value::String(settings.instance.clone())),
        "server.workers" => number(settings.server.workers),
        "upstream.database" => Some(Value::Integer(settings.upstream.target.database.into())),
        "upstream.dedicated_max" => number(settings.upstream.dedicated_max),
        "cache.max_memory" => Some(size(Size(settings.cache.max_memory))),
        _ => None,
    }
}

/// A value in the one spelling in which it is shown. It has been checked.
fn normal(values: Values, value: &Value) -> Value {
    let text = value.as_str();
    let spelled = match values {
        Values::Duration => {
            text.and_then(|text| Span::parse(text).ok()).map(|span| span.to_string().into())
        }
        Values::Size => match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok().map(|bytes| size(Size(bytes))),
            _ => text.and_then(|text| Size::parse(text).ok()).map(size),
        },
        Values::Url => text
            .and_then(|text| text.parse::<Target>().ok())
            .map(|target| target.to_string().into()),
        Values::Rate => {
            text.and_then(|text| Rate::parse(text).ok()).map(|rate| rate.to_string().into())
        }
        Values::Ratio => number(value),
        Values::Numbers => value.as_array().map(|all| {
            let one = |one: &Value| number(one).unwrap_or_else(|| one.clone());
            Value::Array(all.iter().map(one).collect())
        }),
        Values::Secret => Some(Value::String(MASK.to_owned())),
        _ => None,
    };
    spelled.unwrap_or_else(|| value.clone())
}

/// `1` is 1.0.
fn number(value: &Value) -> Option<Value> {
    let whole = value.as_integer().and_then(|whole| i32::try_from(whole).ok())?;
    Some(f64::from(whole).into())
}

/// Without a unit it is a number.
fn size(size: Size) -> Value {
    let text = size.to_string();
    text.parse().map_or(Value::String(text), Value::Integer)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
