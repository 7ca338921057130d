//! Where in a file something stands, and what of the file may be shown.
//!
//! In: the file's text, and a byte or a key's path. Out: line and column for an error's head, and
//! the line itself for its foot. Invariant: a line that may hold a secret is never shown, because
//! errors end up in logs and tickets.

use toml::de::{DeTable, DeValue};

/// Line and column, both from 1.
pub(super) type Place = (usize, usize);

/// The place of byte `at`.
pub(super) fn of_byte(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// The place of the key `path`, such as `server.workers` or `rules[0].ttl`; if it is not written,
/// of the innermost table that is.
pub(super) fn of_key(text: &str, path: &str) -> Option<Place> {
    let (at, _) = walk(text, path)?;
    Some(of_byte(text, at))
}

/// The place of the key `path`, if it is written.
pub(super) fn of_written(text: &str, path: &str) -> Option<Place> {
    let (at, depth) = walk(text, path)?;
    (depth == path.split('.').count()).then(|| of_byte(text, at))
}

/// Where the last step of `path` begins that the text has, and how many it has.
fn walk(text: &str, path: &str) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let (mut found, mut depth) = (None, 0);
    for step in path.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
            break;
        };
        (found, depth) = (Some(key.span().start), depth + 1);
        let mut value = value;
        if let (DeValue::Array(list), Some(index)) = (value.get_ref(), index) {
            let Some(item) = list.get(index) else { break };
            found = Some(item.span().start);
            value = item;
        }
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    found.map(|at| (at, depth))
}

/// The line of byte `at` with a caret under it; nothing if it may hold a secret.
pub(super) fn shown(text: &str, at: usize, length: usize) -> String {
    let (number, column) = of_byte(text, at);
    let line = text.lines().nth(number - 1).unwrap_or_default();
    if line.trim().is_empty() || may_be_secret(text, at) {
        return String::new();
    }
    let margin = " ".repeat(number.to_string().len());
    let rest = line.chars().count().saturating_sub(column - 1).max(1);
    let carets = "^".repeat(length.clamp(1, rest));
    let indent = " ".repeat(column - 1);
    format!("\n{margin} |\n{number} | {line}\n{margin} | {indent}{carets}")
}

/// True if the line of byte `at` may hold a secret, or lies in a text of several lines, which may.
pub(super) fn may_be_secret(text: &str, at: usize) -> bool {
    let (number, _) = of_byte(text, at);
    let before = text.get(..at).unwrap_or(text);
    let is_inside = |quotes| before.matches(quotes).count() % 2 == 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    is_secret(line) || is_inside("\"\"\"") || is_inside("'''")
}

/// True if `text` names a password or holds a URL, which may have one.
pub(super) fn is_secret(text: &str) -> bool {
    text.to_ascii_lowercase().contains("password") || text.contains("://")
}
