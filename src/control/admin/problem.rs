//! Errors of the admin API, as RFC 9457 writes them: `application/problem+json`.
//!
//! In: what went wrong, in words. Out: a response. Written by hand: five members and one rule of
//! quoting need no JSON library.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use super::answer;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What went wrong.
#[derive(Debug)]
pub(super) struct Problem<'text> {
    /// The end of its type: `urn:nearside:problem:<slug>`.
    pub(super) slug: &'static str,
    /// The same for every problem of this type.
    pub(super) title: &'static str,
    /// What is special about this one.
    pub(super) detail: &'text str,
    /// The path asked for.
    pub(super) instance: &'text str,
}

impl Problem<'_> {
    pub(super) fn answer(&self, status: StatusCode) -> Response {
        let body = format!(
            "{{\"type\":\"urn:nearside:problem:{}\",\"title\":{},\"status\":{},\"detail\":{},\
             \"instance\":{}}}\n",
            self.slug,
            quoted(self.title),
            status.as_u16(),
            quoted(self.detail),
            quoted(self.instance),
        );
        answer(status, PROBLEM, body)
    }
}

/// A JSON string, quotes included.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\0'..'\x20' => out.extend(format!("\\u{:04x}", u32::from(character)).chars()),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_what_json_wants_quoted() {
        assert_eq!(quoted("plain, ü"), "\"plain, ü\"");
        assert_eq!(quoted("a\"b\\c\n\0"), "\"a\\\"b\\\\c\\u000a\\u0000\"");
    }
}
