//! What is said on the channel: bytes in, an order out, and back.
//!
//! ```text
//!   {"op":"key","value":"orders:42","origin":"pod-1:9f..","ts":1767225600000}
//!   {"op":"key","value":["orders:42","orders:43"]}       key, namespace, pattern, group, all
//!   {"op":"key","value":"orders:42","soft":true}         it may be served past its time
//!   {"op":"version","value":"v2"}                       another key version
//!   orders:42      orders:*      *                       plain: a key, a pattern, everything
//! ```
//!
//! A message changes nothing but what is cached: at worst it makes a cache slow, so anybody whom
//! the server lets PUBLISH there may say it. A key version is switched by signed messages only.

use crate::config::Groups;
use crate::config::invalidation::{PATTERNS_MAX, PATTERNS_ROOM};
use crate::control::invalidate::orders::{Invalid, Of, Order, Several, UnknownGroup};
use serde_json::{Map, Value};

/// A longer message is not read (T16).
pub const LENGTH_MAX: usize = 64 * 1024;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What is to be forgotten.
    pub order: Order,
    /// True if what rules keep past its time stays for that.
    pub is_soft: bool,
    /// Who says it; empty if it does not say.
    pub origin: String,
}

/// Why a message is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`LENGTH_MAX`].
    #[error("longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// It begins as JSON does, and is none.
    #[error("no JSON object")]
    NotJson,
    /// A member is missing or of a wrong kind.
    #[error("`{0}` is missing or of a wrong kind")]
    Member(&'static str),
    /// An `op` that nobody has.
    #[error("`op` is none of key, namespace, pattern, group, all, version")]
    Op,
    /// Its text means nothing.
    #[error("`value` {0}")]
    Value(#[from] Invalid),
    /// A group that is not known here, and whose patterns are not told.
    #[error(transparent)]
    Group(#[from] UnknownGroup),
    /// More patterns than one order may have.
    #[error("`patterns` are not 1 to {PATTERNS_MAX}, of {PATTERNS_ROOM} bytes together at most")]
    Patterns,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Something is to be forgotten; softly, if that is true.
    Order(Order, bool),
    /// This key version is to be in force.
    Version(String),
}

/// A message, before it is known whether it may say what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A key, a pattern, everything.
    Plain(Order),
    /// Members of a JSON object.
    Json(Map<String, Value>),
}

impl Said {
    /// Reads a message.
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let payload = payload.trim_ascii();
        if payload.len() > LENGTH_MAX {
            return Err(Malformed::TooLong);
        }
        if begins_json(payload) {
            return object(payload).map(Self::Json);
        }
        Ok(Self::Plain(match payload {
            [] => return Err(Malformed::Value(Invalid::Empty)),
            b"*" => Order::All,
            _ if payload.iter().any(|byte| b"*?[\\".contains(byte)) => Order::pattern(payload)?,
            _ => Order::Keys(vec![payload.to_vec()]),
        }))
    }
}

impl Said {
    /// What it means. `groups` are those that are configured here.
    pub fn means(self, groups: &Groups) -> Result<Meaning, Malformed> {
        match self {
            Self::Plain(order) => Ok(Meaning::Order(order, false)),
            Self::Json(members) => from_json(&members, groups),
        }
    }

    /// Its members; plain text has none.
    pub const fn members(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Plain(_) => None,
            Self::Json(members) => Some(members),
        }
    }
}

/// The members of a JSON object.
pub fn object(payload: &[u8]) -> Result<Map<String, Value>, Malformed> {
    if payload.len() > LENGTH_MAX {
        return Err(Malformed::TooLong);
    }
    match serde_json::from_slice(payload) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Malformed::NotJson),
    }
}

impl Message {
    /// Its members as JSON; `None` if a name in it is no UTF-8, which JSON cannot say.
    pub fn members(&self, unix_millis: u64) -> Option<Map<String, Value>> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Value::from);
        let (op, value) = match &self.order {
            Order::Keys(keys) => ("key", keys.iter().map(|key| text(key)).collect::<Option<_>>()?),
            Order::Namespace(name) => ("namespace", text(name)?),
            Order::Pattern(pattern) => ("pattern", text(pattern)?),
            Order::Several(several) => ("group", several.name.clone().into()),
            Order::All => ("all", Value::Null),
        };
        let members = [
            ("op", op.into()),
            ("value", value),
            ("origin", self.origin.as_str().into()),
            ("soft", self.is_soft.into()),
            ("ts", unix_millis.into()),
        ];
        let mut members: Map<String, Value> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // Who hears it may be configured otherwise: what is meant is what it says here.
        if let Order::Several(Several { patterns, .. }) = &self.order {
            let patterns = patterns.iter().map(|pattern| text(pattern)).collect::<Option<_>>()?;
            members.insert("patterns".to_owned(), patterns);
        }
        Some(members)
    }
}

/// `{"` or `{}`, with space between. A key may begin with `{`, too: `{user:1}:cart`.
fn begins_json(payload: &[u8]) -> bool {
    let inside = payload.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|inside| matches!(inside.first(), None | Some(b'"' | b'}')))
}

fn from_json(members: &Map<String, Value>, groups: &Groups) -> Result<Meaning, Malformed> {
    let value = members.get("value");
    let text = || value.and_then(Value::as_str).ok_or(Malformed::Member("value"));
    let order = match members.get("op").and_then(Value::as_str) {
        Some("key") => Order::Keys(keys(value)?),
        Some("namespace") => Order::namespace(text()?.as_bytes())?,
        Some("pattern") => Order::pattern(text()?.as_bytes())?,
        Some("group") => group(text()?, members.get("patterns"), groups)?,
        Some("all") => Order::All,
        Some("version") => return Ok(Meaning::Version(text()?.to_owned())),
        Some(_) => return Err(Malformed::Op),
        None => return Err(Malformed::Member("op")),
    };
    let is_soft = match members.get("soft") {
        None | Some(Value::Null) => false,
        Some(soft) => soft.as_bool().ok_or(Malformed::Member("soft"))?,
    };
    Ok(Meaning::Order(order, is_soft))
}

/// The patterns that the message tells, or those that are configured here.
fn group(name: &str, told: Option<&Value>, groups: &Groups) -> Result<Order, Malformed> {
    let Some(told) = told else {
        return Ok(Order::group(groups, name)?);
    };
    let told = told.as_array().ok_or(Malformed::Member("patterns"))?;
    let mut patterns = Vec::new();
    for one in told {
        let pattern = one.as_str().ok_or(Malformed::Member("patterns"))?.as_bytes();
        Order::pattern(pattern)?;
        patterns.push(pattern.to_vec());
    }
    let room: usize = patterns.iter().map(Vec::len).sum();
    if !(1..=PATTERNS_MAX).contains(&patterns.len()) || room > PATTERNS_ROOM {
        return Err(Malformed::Patterns);
    }
    let name = name.chars().take(64).collect();
    Ok(Order::Several(Several { of: Of::Group, name, patterns }))
}

fn keys(value: Option<&Value>) -> Result<Vec<Vec<u8>>, Malformed> {
    let bytes = |value: &Value| value.as_str().map(|key| key.as_bytes().to_vec());
    let keys = match value {
        Some(Value::Array(keys)) if !keys.is_empty() => keys.iter().map(bytes).collect(),
        Some(one) => bytes(one).map(|key| vec![key]),
        None => None,
    };
    keys.ok_or(Malformed::Member("value"))
}

#[cfg(test)]
mod tests {
    use super::{LENGTH_MAX, Malformed, Meaning, Message, Said};
    use crate::config::Groups;
    use crate::control::invalidate::orders::{Invalid, Of, Order, Several};
    use serde_json::Value;

    fn read(payload: &[u8]) -> Result<Message, Malformed> {
        let groups = Groups::from([("shop".to_owned(), vec!["a:*".to_owned(), "b".to_owned()])]);
        let said = Said::read(payload)?;
        let origin = said.members().and_then(|members| members.get("origin")?.as_str());
        let origin = origin.unwrap_or_default().to_owned();
        match said.means(&groups)? {
            Meaning::Order(order, is_soft) => Ok(Message { order, is_soft, origin }),
            Meaning::Version(version) => panic!("no order: {version}"),
        }
    }

    fn several(name: &str, patterns: &[&str]) -> Order {
        let patterns = patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        Order::Several(Several { of: Of::Group, name: name.to_owned(), patterns })
    }

    fn keys(names: &[&str]) -> Order {
        Order::Keys(names.iter().map(|name| name.as_bytes().to_vec()).collect())
    }

    #[test]
    fn both_forms_are_read() {
        for (payload, order, origin) in [
            ("orders:42", keys(&["orders:42"]), ""),
            (" orders:42\r\n", keys(&["orders:42"]), ""),
            ("orders:*", Order::Pattern(b"orders:*".to_vec()), ""),
            ("order?:[12]", Order::Pattern(b"order?:[12]".to_vec()), ""),
            ("*", Order::All, ""),
            ("[", Order::Pattern(b"[".to_vec()), ""),
            ("{user:1}:cart", keys(&["{user:1}:cart"]), ""),
            ("{user:1}:*", Order::Pattern(b"{user:1}:*".to_vec()), ""),
            (r#"{ "op" : "all" }"#, Order::All, ""),
            (r#"{"op":"key","value":"a"}"#, keys(&["a"]), ""),
            (r#"{"op":"key","value":["a","{b"],"ts":"now"}"#, keys(&["a", "{b"]), ""),
            (
                r#"{"op":"namespace","value":"orders","origin":"pod-1"}"#,
                Order::Namespace(b"orders".to_vec()),
                "pod-1",
            ),
            (r#"{"op":"pattern","value":"*:ü"}"#, Order::Pattern("*:ü".into()), ""),
            (r#"{"op":"all","origin":null,"soft":false}"#, Order::All, ""),
            (r#"{"op":"key","value":"a","soft":true}"#, keys(&["a"]), ""),
            (r#"{"op":"group","value":"shop"}"#, several("shop", &["a:*", "b"]), ""),
            (r#"{"op":"group","value":"x","patterns":["c?"]}"#, several("x", &["c?"]), ""),
        ] {
            let read = read(payload.as_bytes());
            let is_soft = payload.contains("true");
            let wanted = Message { order, is_soft, origin: origin.to_owned() };
            assert_eq!(read, Ok(wanted), "{payload}");
        }
    }

    #[test]
    fn a_version_is_no_order() {
        let said = Said::read(br#"{"op":"version","value":"v2"}"#).unwrap();
        assert_eq!(said.means(&Groups::new()), Ok(Meaning::Version("v2".to_owned())));
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for (payload, wanted) in [
            ("", Malformed::Value(Invalid::Empty)),
            ("{", Malformed::NotJson),
            ("{}", Malformed::Member("op")),
            (r#"{"op":"versions","value":"v2"}"#, Malformed::Op),
            (r#"{"op":"version","value":2}"#, Malformed::Member("value")),
            (r#"{"op":"key"}"#, Malformed::Member("value")),
            (r#"{"op":"key","value":[]}"#, Malformed::Member("value")),
            (r#"{"op":"key","value":"a","soft":"yes"}"#, Malformed::Member("soft")),
            (r#"{"op":"key","value":["a",1]}"#, Malformed::Member("value")),
            (r#"{"op":"namespace","value":"a:b"}"#, Malformed::Value(Invalid::Separator)),
            (r#"{"op":"group"}"#, Malformed::Member("value")),
            (r#"{"op":"group","value":"x","patterns":"a"}"#, Malformed::Member("patterns")),
            (r#"{"op":"group","value":"x","patterns":[]}"#, Malformed::Patterns),
            (r#"{"op":"group","value":"x","patterns":[""]}"#, Malformed::Value(Invalid::Empty)),
        ] {
            assert_eq!(read(payload.as_bytes()), Err(wanted), "{payload}");
        }
        let long = vec![b'a'; LENGTH_MAX + 1];
        assert_eq!(read(&long), Err(Malformed::TooLong));
        let long = vec![b'*'; 1025];
        assert_eq!(read(&long), Err(Malformed::Value(Invalid::TooLong)));
        let unknown = read(br#"{"op":"group","value":"shp"}"#).unwrap_err().to_string();
        assert_eq!(unknown, "there is no group `shp`: invalidation.groups has shop");
    }

    #[test]
    fn what_is_written_is_read() {
        for order in [
            keys(&["a", "b\"{"]),
            Order::Namespace(b"orders".to_vec()),
            Order::Pattern(b"*:1".to_vec()),
            several("elsewhere", &["a:*", "\"{"]),
            Order::All,
        ] {
            let is_soft = order != Order::All;
            let message = Message { order, is_soft, origin: "pod-1:77".to_owned() };
            let members = message.members(1_767_225_600_000).unwrap();
            let written = Value::Object(members).to_string();
            assert_eq!(read(written.as_bytes()), Ok(message), "{written}");
        }
        let binary =
            Message { order: Order::Keys(vec![vec![0xff]]), is_soft: false, origin: String::new() };
        assert_eq!(binary.members(1), None);
    }
}
