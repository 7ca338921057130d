//! Sizes as Redis means them: `64mb` is 64 x 1024 x 1024 bytes.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("b", 1),
];

impl Size {
    /// Reads `1024`, `64kb`, `256MB`, `2gb`, `64MiB`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: String = lower.chars().take_while(char::is_ascii_digit).collect();
        let unit = lower.strip_prefix(digits.as_str()).unwrap_or_default().trim();
        let Ok(number) = digits.parse::<u64>() else {
            return Err(format!(
                "`{text}` is not a size: write bytes or \"64kb\", \"256mb\", \"2gb\""
            ));
        };
        let scale = match unit {
            "" => 1,
            "k" | "m" | "g" => {
                let redis = match unit {
                    "k" => "1000",
                    "m" => "1000000",
                    _ => "1000000000",
                };
                return Err(format!(
                    "`{text}` is ambiguous: in redis.conf `{unit}` is {redis} and `{unit}b` a \
                     power of 1024; write \"{digits}{unit}b\""
                ));
            }
            _ => UNITS
                .iter()
                .find_map(|(name, scale)| (*name == unit).then_some(*scale))
                .ok_or_else(|| {
                    format!("`{text}` has the unknown unit `{unit}`: use kb, mb or gb")
                })?,
        };
        let bytes = number.checked_mul(scale);
        bytes.map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }

    /// With a unit always, and not exact: `"128 bytes"`, `"1.5kb"`, `"58.6mb"`, `"256mb"`.
    pub fn for_people(self) -> String {
        let scales = [("gb", 1_u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)];
        let Some((unit, scale)) = scales.into_iter().find(|(_, scale)| self.0 >= *scale) else {
            return format!("{} bytes", self.0);
        };
        // In whole numbers: tenths, rounded.
        let tenths = (u128::from(self.0) * 10 + u128::from(scale) / 2) / u128::from(scale);
        match tenths % 10 {
            0 => format!("{}{unit}", tenths / 10),
            tenth => format!("{}.{tenth}{unit}", tenths / 10),
        }
    }

    /// The size as a number of things in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = [("gb", 1_u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)]
            .into_iter()
            .find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale));
        match whole {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Size;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size: bytes, or \"64kb\", \"256mb\", \"2gb\"")
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Size, E> {
                let bytes = u64::try_from(v);
                bytes.map(Size).map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Size, E> {
                Size::parse(v).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^\\s*[0-9]+\\s*([kKmMgG][iI]?[bB]|[bB])?\\s*$",
            "examples": ["64kb", "256mb", "2gb", 65536]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64kb", 65_536),
            ("256MB", 256 << 20),
            ("2gb", 2 << 30),
            ("64MiB", 64 << 20),
            ("7b", 7),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(Size(256 << 20).to_string(), "256mb");
        assert_eq!(Size(1000).to_string(), "1000");
    }

    #[test]
    fn people_are_always_told_the_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (128, "128 bytes"),
            (1024, "1kb"),
            (1536, "1.5kb"),
            (61_442_102, "58.6mb"),
            (256 << 20, "256mb"),
            ((1 << 30) - 1, "1024mb"),
            (2 << 30, "2gb"),
        ] {
            assert_eq!(Size(bytes).for_people(), text);
        }
    }

    #[test]
    fn what_is_ambiguous_or_wrong_is_refused() {
        let error = Size::parse("64m").unwrap_err();
        assert!(error.contains("ambiguous") && error.contains("\"64mb\""), "{error}");
        assert!(Size::parse("64 tb").unwrap_err().contains("unknown unit `tb`"));
        assert!(Size::parse("lots").unwrap_err().contains("not a size"));
        assert!(Size::parse("99999999999999gb").unwrap_err().contains("too large"));
    }
}
