//! What an application publishes anyway, as an order: `[[invalidation.events]]` say which patterns
//! an event of a channel means, and the message has the names in them.
//!
//! ```text
//!   events:saved  {"project":{"id":42},"by":"ann"}     project:{project.id}:*  ->  project:42:*
//! ```
//!
//! Invariant: a value stands for itself alone. Nothing that a message says widens a pattern.

use crate::config::InvalidationEvent;
use crate::control::invalidate::orders::{Invalid, Of, Order, Several};
use serde_json::{Map, Value};

/// Why an event is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not have a member that a pattern names.
    #[error("`{0}` is missing")]
    Missing(String),
    /// A member that cannot be part of a key.
    #[error("`{0}` is neither text nor a whole number")]
    Kind(String),
    /// A member that would leave a hole: `{id}*` would mean everything.
    #[error("`{0}` is empty")]
    Empty(String),
    /// With its values a pattern is none.
    #[error("a pattern with its values {0}")]
    Pattern(#[from] Invalid),
}

/// What a message of this event orders.
pub fn order(event: &InvalidationEvent, members: &Map<String, Value>) -> Result<Order, Malformed> {
    let mut patterns = Vec::with_capacity(event.patterns.len());
    for template in &event.patterns {
        let pattern = template.fill(|name| text(members, name))?;
        Order::pattern(&pattern)?;
        patterns.push(pattern);
    }
    Ok(Order::Several(Several { of: Of::Event, name: event.channel.clone(), patterns }))
}

/// The member of this name: `a.b` is `b` of the object `a`.
fn text(members: &Map<String, Value>, name: &str) -> Result<String, Malformed> {
    let mut steps = name.split('.');
    let first = steps.next().and_then(|step| members.get(step));
    let value = steps.fold(first, |value, step| value.and_then(|value| value.get(step)));
    match value {
        None | Some(Value::Null) => Err(Malformed::Missing(name.to_owned())),
        Some(Value::String(text)) if text.is_empty() => Err(Malformed::Empty(name.to_owned())),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        Some(_) => Err(Malformed::Kind(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Malformed, order};
    use crate::config::InvalidationEvent;
    use crate::control::invalidate::message;
    use crate::control::invalidate::orders::{Invalid, Order};
    use crate::keys::template::Template;

    fn patterns(templates: &[&str], payload: &str) -> Result<Vec<String>, Malformed> {
        let patterns = templates.iter().map(|text| Template::parse(text).unwrap()).collect();
        let event = InvalidationEvent { channel: "c".to_owned(), patterns, signed: false };
        let members = message::object(payload.as_bytes()).unwrap();
        let Order::Several(several) = order(&event, &members)? else {
            panic!("an event is several patterns")
        };
        let text = |pattern: Vec<u8>| String::from_utf8(pattern).unwrap();
        Ok(several.patterns.into_iter().map(text).collect())
    }

    #[test]
    fn an_event_is_its_patterns() {
        let templates = ["project:{project_id}:*", "user:{by.id}", "all"];
        let payload = r#" {"project_id":"a*","by":{"id":-7},"more":[1.5]} "#;
        assert_eq!(patterns(&templates, payload).unwrap(), ["project:a\\*:*", "user:\\-7", "all"]);
        let big = format!("{{\"id\":{}}}", u64::MAX);
        assert_eq!(patterns(&["{id}"], &big).unwrap(), ["18446744073709551615"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let name = || "a.b".to_owned();
        for (payload, wanted) in [
            ("{}", Malformed::Missing(name())),
            (r#"{"a.b":"c"}"#, Malformed::Missing(name())),
            (r#"{"a":"c"}"#, Malformed::Missing(name())),
            (r#"{"a":{"b":null}}"#, Malformed::Missing(name())),
            (r#"{"a":{"b":""}}"#, Malformed::Empty(name())),
            (r#"{"a":{"b":1.5}}"#, Malformed::Kind(name())),
            (r#"{"a":{"b":true}}"#, Malformed::Kind(name())),
            (r#"{"a":{"b":["c"]}}"#, Malformed::Kind(name())),
        ] {
            assert_eq!(patterns(&["k:{a.b}:*"], payload), Err(wanted), "{payload}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1024));
        assert_eq!(patterns(&["k{a}"], &long), Err(Malformed::Pattern(Invalid::TooLong)));
    }
}
