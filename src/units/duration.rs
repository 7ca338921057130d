//! Durations as people write them: `"250ms"`, `"5s"`, `"1h 30m"`, `"0s"` or `"off"`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A length of time, as it stands in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// Reads a duration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::default());
        }
        humantime::parse_duration(text).map(Self).map_err(|_| {
            let hint = match text.parse::<u64>() {
                Ok(number) => format!("; write \"{number}s\" for seconds"),
                Err(_) => String::new(),
            };
            format!("`{text}` is not a duration such as \"250ms\", \"5s\" or \"1h 30m\"{hint}")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Span;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration such as \"250ms\", \"5s\" or \"1h 30m\"")
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Span, E> {
                Err(E::custom(format!("a duration needs a unit: write \"{v}s\" for {v} seconds")))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Span, E> {
                Span::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let unit = "(ns|us|ms|s|m|h|d|w|[nµum]?secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|\
                    weeks?|months?|M|years?|y)";
        json_schema!({
            "type": "string",
            "pattern": format!("^(off|0|\\s*([0-9]+\\s*{unit}\\s*)+)$"),
            "examples": ["250ms", "5s", "1h 30m", "off"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Span;
    use std::time::Duration;

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5000), ("1h 30m", 5_400_000), ("0s", 0), ("off", 0)]
        {
            assert_eq!(Span::parse(text), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        let error = Span::parse("5").unwrap_err();
        assert!(error.ends_with("write \"5s\" for seconds"), "{error}");
        assert!(Span::parse("soon").is_err());
    }
}
