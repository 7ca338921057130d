//! What becomes of a command, in words: the same row, the same policy and the same functions that
//! a request meets, asked without a request.

use crate::command::{
    CacheRule, Class, Disposition, KeySpec, Policy, Refusal, Route, Spec, errors,
};
use crate::config::{Mode, Settings};
use crate::data::walk;
use serde::{Serialize, Serializer};

/// What is to be said of scripts.
pub const SCRIPT: &str = "under a key version only if it uses no key beside its KEYS";

/// What is to be said of answers that are edited.
pub const EDITED: &str = "the answer tells of nearside as well";

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The cache or, on a miss, upstream.
    Cached,
    /// Upstream, on a connection that clients share.
    Forwarded,
    /// Nearside, before upstream has it.
    Behind,
    /// Upstream, on a connection that only this client uses.
    Own,
    /// Nearside, by several requests to upstream.
    Steps,
    /// Nearside.
    Local,
    /// Nobody.
    Refused,
    /// Upstream or nobody: that depends on what upstream says that it has.
    Unknown,
}

impl Fate {
    /// The fate of a request whose disposition is known.
    pub fn of(disposition: Disposition, spec: &Spec, settings: &Settings) -> Self {
        let is_walk = !settings.names.is_empty() && walk::walks(spec);
        match disposition {
            Disposition::Cacheable if caches(spec, settings) => Self::Cached,
            Disposition::Local => Self::Local,
            Disposition::Refuse(Refusal::OtherVersions) | Disposition::Forward if is_walk => {
                Self::Steps
            }
            Disposition::Cacheable | Disposition::Forward | Disposition::Edited => Self::Forwarded,
            Disposition::Own(_) | Disposition::Script => Self::Own,
            Disposition::Refuse(_) => Self::Refused,
        }
    }

    /// One word for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Forwarded => "forwarded",
            Self::Behind => "behind",
            Self::Own => "own",
            Self::Steps => "steps",
            Self::Local => "local",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// One word for a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Forwarded => "forwarded",
            Self::Behind => "behind",
            Self::Own => "own link",
            Self::Steps => "in steps",
            Self::Local => "local",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// A sentence for one command.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Cached => {
                "answered from the cache; a miss goes upstream, on a connection that clients share"
            }
            Self::Forwarded => "forwarded to upstream, on a connection that clients share",
            Self::Behind => {
                "acknowledged by nearside when it is kept here (write_behind.ack), and made \
                 upstream behind that"
            }
            Self::Own => "forwarded to upstream, on a connection of this client's own",
            Self::Steps => "carried out by nearside, by several requests to upstream",
            Self::Local => "answered by nearside",
            Self::Refused => "refused",
            Self::Unknown => "known to upstream, or refused",
        }
    }
}

impl Serialize for Fate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// True if replies of this row are kept under these settings.
pub fn caches(spec: &Spec, settings: &Settings) -> bool {
    settings.mode != Mode::Bypass && settings.caches(spec)
}

/// What becomes of a row's requests under these settings, whose policy is given, and what there is
/// to say about it.
pub fn of_row(spec: &Spec, settings: &Settings, policy: &Policy) -> (Fate, String) {
    // As few arguments as are legal, none of them an option.
    let argc = usize::from(spec.arity.unsigned_abs());
    let disposition = spec.disposition(policy, argc, |_| &[]);
    let fate = Fate::of(disposition, spec, settings);
    let note = match (disposition, fate) {
        (Disposition::Refuse(refusal), Fate::Refused) => errors::refusal_text(spec, refusal),
        (_, Fate::Steps) => "this version's keys, page by page".to_owned(),
        (_, Fate::Cached) if spec.name == "mget" => "key by key".to_owned(),
        (_, Fate::Cached) if spec.cache == CacheRule::Multi => "of one key at a time".to_owned(),
        (Disposition::Cacheable, Fate::Forwarded) => why_not_cached(spec, settings).to_owned(),
        (Disposition::Own(need), _) => need.reason().to_owned(),
        (Disposition::Script, _) if policy.prefixed => SCRIPT.to_owned(),
        (Disposition::Edited, _) => EDITED.to_owned(),
        _ if policy.route(spec) == Route::OwnIfBlocking => {
            "on a connection of its own with BLOCK".to_owned()
        }
        _ => String::new(),
    };
    (fate, note)
}

/// Why no reply of this row is kept.
pub fn why_not_cached(spec: &Spec, settings: &Settings) -> &'static str {
    match spec.class {
        _ if spec.cacheable() && settings.mode == Mode::Bypass => "mode is \"bypass\"",
        _ if spec.cacheable() && !settings.caches(spec) => "cache.commands does not name it",
        _ if spec.writes() => "it may change data",
        _ if spec.keys == KeySpec::None => "it names no key whose changes would be announced",
        Class::CacheableRead => "nearside keeps no replies of this command",
        _ => "not every change of what it shows is announced",
    }
}

/// The class, as people say it.
pub fn class(class: Class) -> &'static str {
    match class {
        Class::Local => "connection",
        Class::CacheableRead | Class::Read => "read",
        Class::Write => "write",
        Class::MultiKeyWrite => "write of keys",
        Class::Blocking => "blocking",
        Class::Pinned => "transaction",
        Class::PubSub => "pub/sub",
        Class::Scripting => "script",
        Class::Admin => "admin",
        Class::Dangerous => "dangerous",
        Class::Unsupported => "internal",
    }
}

/// Where keys stand; argument 0 is the command.
pub fn keys(keys: KeySpec) -> String {
    match keys {
        KeySpec::None => "none".to_owned(),
        KeySpec::One(at) => format!("{at}"),
        KeySpec::Range { first, last, step } => {
            let end = match last {
                -1 => "last".to_owned(),
                last if last < 0 => format!("last{}", last + 1),
                last => last.to_string(),
            };
            let every = if step == 1 { String::new() } else { format!(", every {step}") };
            format!("{first} to {end}{every}")
        }
        KeySpec::Counted { count, .. } => format!("as many as {count} says"),
        KeySpec::DestinationCounted => "1, and as many as 2 says".to_owned(),
        KeySpec::Streams => "behind STREAMS".to_owned(),
        KeySpec::Georadius { .. } => "1, and behind STORE".to_owned(),
        KeySpec::Sort => "1, and in STORE, BY, GET".to_owned(),
        KeySpec::Migrate => "3, or behind KEYS".to_owned(),
        KeySpec::Dryrun => "those of the command from 3 on".to_owned(),
    }
}
