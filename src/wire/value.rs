//! Answers with names in them: maps in RESP3, flat arrays in RESP2, as Redis has them.

use crate::wire::write::{self, Proto};
use bytes::BytesMut;

/// A reply, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A bulk.
    Text(String),
    /// A bulk that may be no text.
    Bytes(Vec<u8>),
    /// A whole number.
    Count(i64),
    /// An array.
    List(Vec<Self>),
    /// Names and values, in this order.
    Map(Vec<(&'static str, Self)>),
    /// A map whose names are not known beforehand.
    Fields(Vec<(String, String)>),
}

impl Value {
    /// A number that may be larger than RESP's.
    pub fn count(count: u64) -> Self {
        Self::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Part of a whole, as `0.9680`; nothing of nothing is `0.0000`.
    #[cold]
    pub fn ratio(part: u64, whole: u64) -> Self {
        let tenths = part.saturating_mul(10_000).checked_div(whole).unwrap_or(0);
        Self::Text(format!("{}.{:04}", tenths / 10_000, tenths % 10_000))
    }

    /// Appends it.
    pub fn write(&self, out: &mut BytesMut, proto: Proto) {
        match self {
            Self::Text(text) => write::bulk(out, text.as_bytes()),
            Self::Bytes(bytes) => write::bulk(out, bytes),
            Self::Count(count) => write::integer(out, *count),
            Self::List(items) => {
                write::array(out, items.len());
                for item in items {
                    item.write(out, proto);
                }
            }
            Self::Map(pairs) => {
                write::map(out, proto, pairs.len());
                for (name, value) in pairs {
                    write::bulk(out, name.as_bytes());
                    value.write(out, proto);
                }
            }
            Self::Fields(pairs) => {
                write::map(out, proto, pairs.len());
                for (name, value) in pairs {
                    write::bulk(out, name.as_bytes());
                    write::bulk(out, value.as_bytes());
                }
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Value;
    use crate::wire::write::Proto;
    use bytes::BytesMut;

    #[test]
    fn maps_are_flat_where_there_are_none() {
        let inner = Value::Map(vec![("a", Value::Count(1))]);
        let value = Value::List(vec![inner, "x".into()]);
        for (proto, expected) in [
            (Proto::Resp2, "*2\r\n*2\r\n$1\r\na\r\n:1\r\n$1\r\nx\r\n"),
            (Proto::Resp3, "*2\r\n%1\r\n$1\r\na\r\n:1\r\n$1\r\nx\r\n"),
        ] {
            let mut out = BytesMut::new();
            value.write(&mut out, proto);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_ratio_has_four_digits() {
        assert_eq!(Value::ratio(1, 3), "0.3333".into());
        assert_eq!((Value::ratio(2, 2), Value::ratio(0, 0)), ("1.0000".into(), "0.0000".into()));
        assert_eq!(Value::count(u64::MAX), Value::Count(i64::MAX));
    }

    #[test]
    fn texts_bytes_and_names_that_come_from_elsewhere() {
        let pairs = vec![("b".to_owned(), "c".to_owned())];
        let value = Value::List(vec![
            "a".to_owned().into(),
            Value::Bytes(vec![0xff]),
            Value::Fields(pairs),
        ]);
        let mut out = BytesMut::new();
        value.write(&mut out, Proto::Resp2);
        assert_eq!(out, &b"*3\r\n$1\r\na\r\n$1\r\n\xff\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n"[..]);
    }
}
