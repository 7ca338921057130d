//! CONFIG: upstream's, but for the settings that are nearside's own.
//!
//! `proxy.*` are those of proxy.toml; `maxclients`, `timeout` and `port` are nearside's under
//! Redis' names, for they are what a client of nearside means. None can be changed while nearside
//! runs: setting one to the value it has is accepted (tools write back what they have read), any
//! other value is refused in the words that Redis has for such a setting.

use crate::data::Shared;
use crate::keys::glob;
use crate::wire::reply;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;

/// What the names of nearside's own settings begin with.
const PREFIX: &str = "proxy.";

/// Pairs of a name and a value.
pub type Pairs = Vec<(String, String)>;

/// What a CONFIG GET asks of nearside.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Settings of proxy.toml.
    pub own: Pairs,
    /// True if upstream need not be asked.
    pub is_own: bool,
}

/// Divides the patterns of a CONFIG GET.
pub fn asked(request: &Request<'_>, shared: &Shared) -> Asked {
    let is_own = |pattern: &&[u8]| starts_with_prefix(pattern);
    let patterns: Vec<Vec<u8>> =
        request.from(2).filter(is_own).map(<[u8]>::to_ascii_lowercase).collect();
    let named = own_settings(shared)
        .filter(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())));
    Asked { own: named.collect(), is_own: patterns.len() + 2 == request.len() }
}

/// The settings of proxy.toml that these patterns name, by their names there.
pub fn named(patterns: impl Iterator<Item: AsRef<[u8]>>, shared: &Shared) -> Pairs {
    let patterns: Vec<Vec<u8>> = patterns.map(|glob| glob.as_ref().to_ascii_lowercase()).collect();
    let is_named = |name: &str| patterns.iter().any(|glob| glob::matches(glob, name.as_bytes()));
    let all = shared.snapshots.newest().settings.shown().into_iter();
    all.filter(|(name, _)| is_named(name)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// True if a CONFIG GET or SET names settings of nearside's.
pub fn concerns_own(request: &Request<'_>) -> bool {
    request.from(2).any(starts_with_prefix)
}

fn starts_with_prefix(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

fn own_settings(shared: &Shared) -> impl Iterator<Item = (String, String)> {
    let all = shared.snapshots.newest().settings.shown().into_iter();
    all.map(|(name, value)| (format!("{PREFIX}{name}"), value))
}

/// Redis' settings that are nearside's to tell.
fn adopted(shared: &Shared) -> [(&'static str, String); 3] {
    let limits = &shared.snapshots.newest().limits;
    [
        ("maxclients", limits.clients_max.to_string()),
        ("timeout", limits.idle_timeout.as_secs().to_string()),
        ("port", shared.ledger.profile.port.to_string()),
    ]
}

/// Writes a CONFIG GET's answer from nearside's settings alone.
pub fn write_own(own: &Pairs, proto: Proto, out: &mut BytesMut) {
    write::map(out, proto, own.len());
    for (name, value) in own {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
}

/// Writes upstream's answer to a CONFIG GET with nearside's values in it and its settings behind.
pub fn merge(theirs: &[u8], own: &Pairs, proto: Proto, shared: &Shared, out: &mut BytesMut) {
    let count = reply::elements(theirs).count();
    let adopted = adopted(shared);
    write::map(out, proto, count / 2 + own.len());
    let mut name: &[u8] = &[];
    for (at, element) in reply::elements(theirs).enumerate() {
        let value = adopted.iter().find(|(adopted, _)| adopted.as_bytes() == name);
        match value {
            Some((_, value)) if at % 2 == 1 => write::bulk(out, value.as_bytes()),
            _ => out.extend_from_slice(element),
        }
        name = if at % 2 == 0 { reply::bulk(element).unwrap_or_default() } else { &[] };
    }
    for (name, value) in own {
        write::bulk(out, name.as_bytes());
        write::bulk(out, value.as_bytes());
    }
}

/// What is to be done with a CONFIG SET.
#[derive(Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing of it is nearside's.
    Theirs,
    /// Of it, only these arguments are upstream's; none: it is done.
    Rest(Vec<usize>),
    /// It is refused.
    Refused(Vec<u8>),
}

/// Looks through a CONFIG SET for what is nearside's own.
pub fn setting(request: &Request<'_>, shared: &Shared) -> Setting {
    // An odd number of arguments is upstream's to refuse.
    if !request.len().is_multiple_of(2) {
        return Setting::Theirs;
    }
    let mut rest = Vec::new();
    for at in (2..request.len()).step_by(2) {
        let (name, value) = (request.arg(at).to_ascii_lowercase(), request.arg(at + 1));
        match in_force(&name, shared) {
            Some(known) if known.as_bytes() == value => {}
            Some(_) => return Setting::Refused(immutable(request.arg(at))),
            None if starts_with_prefix(&name) => {
                return Setting::Refused(quoted(
                    "ERR Unknown option or number of arguments for CONFIG SET - '",
                    request.arg(at),
                    "'",
                ));
            }
            None => rest.extend([at, at + 1]),
        }
    }
    if rest.len() + 2 == request.len() { Setting::Theirs } else { Setting::Rest(rest) }
}

/// The value of a setting that is nearside's.
fn in_force(name: &[u8], shared: &Shared) -> Option<String> {
    let adopted = adopted(shared).into_iter().find(|(known, _)| known.as_bytes() == name);
    adopted.map(|(_, value)| value).or_else(|| {
        own_settings(shared).find(|(known, _)| known.as_bytes() == name).map(|(_, value)| value)
    })
}

fn immutable(name: &[u8]) -> Vec<u8> {
    quoted(
        "ERR CONFIG SET failed (possibly related to argument '",
        name,
        "') - can't set immutable config",
    )
}

fn quoted(before: &str, name: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), name, after.as_bytes()].concat()
}
