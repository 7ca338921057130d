//! Rates as people write them: `"10/s"`, `"600/m"`, `"5/h"`, or `"off"` for no bound.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// So many in so long; `None` = as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<(u32, Duration)>);

const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

impl Rate {
    /// `count` a second.
    pub const fn per_second(count: u32) -> Self {
        Self(Some((count, Duration::from_secs(1))))
    }

    /// `count` a second; 0: as many as there are.
    pub fn of_second(count: u64) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count == 0 { Self(None) } else { Self::per_second(count) }
    }

    /// How many a second, if that is a whole number; 0: as many as there are.
    pub fn a_second(self) -> Option<u64> {
        let Some((count, time)) = self.0 else { return Some(0) };
        let (count, seconds) = (u64::from(count), time.as_secs());
        (count % seconds == 0).then(|| count / seconds)
    }

    /// Reads a rate.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let count = count.trim().parse().ok().filter(|count| *count > 0)?;
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
            Some(Self(Some((count, Duration::from_secs(*seconds)))))
        });
        parsed
            .ok_or_else(|| format!("`{text}` is not a rate such as \"10/s\", \"600/m\" or \"off\""))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((count, time)) = self.0 else { return f.write_str("off") };
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == time.as_secs());
        write!(f, "{count}/{}", unit.map_or("s", |(name, _)| name))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Rate;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a rate such as \"10/s\"")
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Rate, E> {
                Err(E::custom(format!("a rate needs a unit: write \"{v}/s\" for {v} per second")))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Rate, E> {
                Rate::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(off|\\s*[0-9]+\\s*/\\s*[smh]\\s*)$",
            "examples": ["10/s", "600/m", "off"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use std::time::Duration;

    #[test]
    fn rates_have_units() {
        for (text, seconds) in [("10/s", 1), ("10/m", 60), ("10/h", 3600)] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(rate, Rate(Some((10, Duration::from_secs(seconds)))));
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!(Rate::parse("off"), Ok(Rate(None)));
        let seconds =
            ["off", "7/s", "120/m", "7/m"].map(|text| Rate::parse(text).unwrap().a_second());
        assert_eq!(seconds, [Some(0), Some(7), Some(2), None]);
        assert_eq!([Rate::of_second(0), Rate::of_second(7)], [Rate(None), Rate::per_second(7)]);
        for wrong in ["10", "0/s", "-1/s", "10/d", "/s", "ten/s"] {
            assert!(Rate::parse(wrong).unwrap_err().contains(wrong));
        }
    }
}
