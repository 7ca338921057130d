//! The types of keys that no other room has a use for: secrets, URLs, words, lists or one of them.

use crate::config::key::{Kind, Values};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// A text that is in no error, log or answer.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Kind for Secret {
    const VALUES: Values = Values::Secret;
}

/// Where upstream is; it may hold a password.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Url(pub String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL")
    }
}

impl Kind for Url {
    const VALUES: Values = Values::Url;
}

/// What becomes of commands that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Refused in the server's words.
    Reject,
    /// Forwarded, if upstream's COMMAND tells where their keys are.
    Learn,
    /// Forwarded as they are.
    Pass,
}

impl Kind for Unknown {
    const VALUES: Values = Values::Words("`\"reject\"`, `\"learn\"`, `\"pass\"`");
}

/// Whether a fill asks upstream for the key's remaining life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TtlProbe {
    /// Every fill does.
    Always,
    /// None does: `ttl` alone bounds how late an expiry is seen.
    Never,
}

impl Kind for TtlProbe {
    const VALUES: Values = Values::Words("`\"always\"`, `\"never\"`");
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

impl Kind for TlsVersion {
    const VALUES: Values = Values::Words("`\"1.2\"`, `\"1.3\"`");
}

/// One text, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text such as \"session:*\", or a list of them")]
pub enum Patterns {
    /// `match = "a:*"`.
    One(String),
    /// `match = ["a:*", "b:*"]`.
    Many(Vec<String>),
}

impl Kind for Patterns {
    const VALUES: Values = Values::Texts;
}

/// Which commands' replies are stored.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected \"all\" or a list of commands such as [\"GET\", \"HGET\"]")]
pub enum Commands {
    /// `"all"`.
    All(All),
    /// A list.
    Some(Vec<String>),
}

impl Kind for Commands {
    const VALUES: Values = Values::Words("`\"all\"`, or a list of commands");
}

/// The word `all`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// Every cacheable command.
    All,
}
