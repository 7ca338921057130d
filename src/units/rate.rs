//! Rates as people write them: `"5000/s"`, or `"off"` for no limit.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// So many per second; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

impl Rate {
    /// Reads a rate.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(0));
        }
        let number = text.strip_suffix("/s").and_then(|number| number.trim().parse::<u64>().ok());
        number.filter(|number| *number > 0).map(Self).ok_or_else(|| {
            format!("`{text}` is not a rate such as \"5000/s\", nor \"off\" for no limit")
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("off") } else { write!(f, "{}/s", self.0) }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Rate;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a rate such as \"5000/s\"")
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

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn rates_have_a_unit() {
        for (text, rate) in [("5000/s", 5000), ("1 /s", 1), ("off", 0)] {
            assert_eq!(Rate::parse(text), Ok(Rate(rate)), "{text}");
        }
        assert_eq!(
            (Rate(0).to_string(), Rate(7).to_string()),
            ("off".to_owned(), "7/s".to_owned())
        );
        for text in ["", "5000", "0/s", "-1/s", "5000/min", "many/s"] {
            let error = Rate::parse(text).unwrap_err();
            assert!(error.contains("\"5000/s\""), "{error}");
        }
    }
}
