//! By what tables of namespaces and of clients are sorted, on the command line and in `top`.

use super::figures::shown;
use clap::ValueEnum;
use serde_json::Value;
use std::cmp::Ordering;

/// Of namespaces; who asks sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Namespaces {
    /// Most reads first
    Reads,
    /// Most bytes of replies first
    Bytes,
    /// Most misses first
    Misses,
    /// Lowest hit ratio first
    HitRatio,
    /// Most bytes in the cache first
    Held,
    /// By name
    Name,
}

impl Namespaces {
    /// The member of a row.
    const fn member(self) -> &'static str {
        match self {
            Self::Reads => "reads_per_second",
            Self::Bytes => "bytes_per_second",
            Self::Misses => "misses",
            Self::HitRatio => "hit_ratio",
            Self::Held => "bytes",
            Self::Name => "namespace",
        }
    }

    /// The same in words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Bytes => "bytes",
            Self::Misses => "misses",
            Self::HitRatio => "hit ratio, lowest first",
            Self::Held => "bytes held",
            Self::Name => "name",
        }
    }

    /// The one behind it; behind the last the first.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Reads => Self::Bytes,
            Self::Bytes => Self::Misses,
            Self::Misses => Self::HitRatio,
            Self::HitRatio => Self::Held,
            Self::Held => Self::Name,
            Self::Name => Self::Reads,
        }
    }

    /// The most first; of hit ratios and names the least. Who has none comes last.
    pub(super) fn order(self, a: &Value, b: &Value) -> Ordering {
        let float = |row: &Value| row.get(self.member()).and_then(Value::as_f64);
        match self {
            Self::Name => shown(a.get("namespace")).cmp(&shown(b.get("namespace"))),
            Self::HitRatio => {
                let ratio = |row| float(row).unwrap_or(f64::INFINITY);
                ratio(a).total_cmp(&ratio(b))
            }
            _ => float(b).unwrap_or(-1.0).total_cmp(&float(a).unwrap_or(-1.0)),
        }
    }
}

/// Of clients; the proxy sorts them, who knows all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Clients {
    /// The oldest first
    Id,
    /// Most commands first
    Commands,
    /// Most hits first
    Hits,
    /// The longest silent first
    Idle,
    /// Most bytes to be sent first
    Unsent,
}

impl Clients {
    /// The word that the API takes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Commands => "commands",
            Self::Hits => "hits",
            Self::Idle => "idle",
            Self::Unsent => "unsent",
        }
    }

    /// The one behind it; behind the last the first.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Id => Self::Commands,
            Self::Commands => Self::Hits,
            Self::Hits => Self::Idle,
            Self::Idle => Self::Unsent,
            Self::Unsent => Self::Id,
        }
    }
}
