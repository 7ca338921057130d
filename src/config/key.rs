//! What is to be said of a key of the configuration, beside its type: each row of
//! [`super::written`] says it, and the reference, `config show`, the schema and `CONFIG GET` have
//! it from there.

use crate::units::duration::Span;
use crate::units::rate::Rate;
use crate::units::size::Size;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Lists of tables, in the order in which they are shown: behind everything else.
pub const LISTS: [&str; 5] =
    ["rules", "auth.users", "invalidation.sources", "invalidation.events", "warming.jobs"];

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// In full: `cache.ttl`; of `[[rules]]`: `rules.ttl`.
    pub path: &'static str,
    /// What may be written.
    pub values: Values,
    /// What holds if nothing is.
    pub built_in: BuiltIn,
    /// When a change of it is felt.
    pub applies: Applies,
    /// What it means: a line for the operator.
    pub meaning: &'static str,
}

impl Key {
    /// Its table, or nothing, and its own name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// The list of tables that it belongs to: `rules`.
    pub fn list(&self) -> Option<&'static str> {
        LISTS.iter().find(|list| **list == self.parts().0).copied()
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// `"250ms"`, `"5s"`, `"1h 30m"`, `"off"`.
    Duration,
    /// `"10/s"`, `"600/m"`, `"off"`.
    Rate,
    /// Bytes, or `"64kb"`, `"256mb"`, `"2gb"`.
    Size,
    /// A whole number.
    Number,
    /// A number above 0 and at most 1.
    Ratio,
    /// `true` or `false`.
    Flag,
    /// Any text.
    Text,
    /// A text that nobody is shown.
    Secret,
    /// A URL, which may hold a password.
    Url,
    /// The path of a file.
    File,
    /// A list of texts.
    List,
    /// A list of numbers.
    Numbers,
    /// A text, or a list of them.
    Texts,
    /// Names with a text each.
    Names,
    /// Names with a list of texts each.
    Lists,
    /// One of these words.
    Words(&'static str),
}

impl Values {
    /// For the reference.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Rate => "rate",
            Self::Size => "size",
            Self::Number => "number",
            Self::Ratio => "number up to 1",
            Self::Flag => "`true`, `false`",
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Url => "URL",
            Self::File => "file",
            Self::List => "list of texts",
            Self::Numbers => "list of numbers",
            Self::Texts => "text, or list of texts",
            Self::Names => "table of texts",
            Self::Lists => "table of lists of texts",
            Self::Words(words) => words,
        }
    }
}

/// What holds where nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// This, as TOML.
    Toml(&'static str),
    /// What is found out at the start, in words.
    Found(&'static str),
    /// Nothing.
    Nothing,
}

impl BuiltIn {
    /// For the reference.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Toml(text) | Self::Found(text) => text,
            Self::Nothing => "",
        }
    }
}

/// When a change is felt, once the configuration is loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once, by everybody.
    Now,
    /// By connections that are opened from then on.
    New,
    /// By the next process.
    Restart,
}

impl Applies {
    /// For the reference.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::New => "new connections",
            Self::Restart => "restart",
        }
    }
}

/// A type that a key can have.
pub(super) trait Kind {
    /// What may be written for it.
    const VALUES: Values;
}

macro_rules! kinds {
    ($($kind:ty => $values:ident,)*) => {
        $(impl Kind for $kind {
            const VALUES: Values = Values::$values;
        })*
    };
}

kinds! {
    Span => Duration,
    Rate => Rate,
    Size => Size,
    usize => Number,
    u32 => Number,
    f64 => Ratio,
    bool => Flag,
    String => Text,
    PathBuf => File,
    Vec<String> => List,
    Vec<f64> => Numbers,
    BTreeMap<String, String> => Names,
    BTreeMap<String, Vec<String>> => Lists,
}
