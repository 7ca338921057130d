//! Which commands keep to the key prefix: what a client may ask for where nothing beyond it may be
//! read, changed or named (`keys.tenant_mode`).
//!
//! In: a row. Out: whether its requests stay inside. Invariant: a row stays inside only if that is
//! known of it. Either all that it touches are its keys, which are told and rewritten; or nearside
//! answers it, or makes of it what stays inside; or it says nothing of data, and is listed here. So
//! a new row is refused until somebody has looked at it.
//!
//! Inside is what is named behind the prefix, in every database. A module's word on where its keys
//! are is not trusted, as with commands that are learned.

use crate::command::{Class, Flags, KeySpec, Route, Spec};

/// Of what takes no keys, what tells nothing of the server's data, clients or settings.
const HARMLESS: &[&str] = &[
    "acl|cat",
    "acl|genpass",
    "discard",
    "exec",
    "himport|discard",
    "himport|discardall",
    "himport|prepare",
    "lolwut",
    "multi",
    "ping",
    "time",
    "unwatch",
    "wait",
    "waitaof",
];

/// What stays inside by what nearside makes of it: it puts the prefix into what is asked, takes
/// what is beyond it out of what is answered, walks over its own keys, or reads a script first. (A
/// script is named by its text: who asks for one knows it.)
const REWRITTEN: &[&str] = &[
    "client|caching",
    "client|getredir",
    "client|tracking",
    "client|trackinginfo",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "fcall",
    "fcall_ro",
    "flushall",
    "flushdb",
    "info",
    "keys",
    "randomkey",
    "scan",
    "script|exists",
    "script|load",
];

/// True for a row that is refused where clients are kept to the prefix. (What is refused under any
/// prefix keeps its better reason.)
pub fn refuses(spec: &Spec) -> bool {
    !stays_inside(spec) && spec.route != Route::ForwardUnlessPrefixed
}

/// True if requests of this row, as nearside serves them, reach nothing beyond the prefix.
fn stays_inside(spec: &Spec) -> bool {
    spec.route == Route::Local || REWRITTEN.contains(&spec.name) || stays_inside_script(spec)
}

/// True if it reaches nothing beyond the keys that it is given, whoever asks for it: a script too,
/// whose calls nobody rewrites.
pub fn stays_inside_script(spec: &Spec) -> bool {
    describes(spec) || HARMLESS.contains(&spec.name) || keeps_to_its_keys(spec)
}

/// True for what tells of commands only: COMMAND, and HELP of all others.
fn describes(spec: &Spec) -> bool {
    let is_of_commands = spec.name == "command" || spec.name.starts_with("command|");
    spec.class == Class::Local && (is_of_commands || spec.name.ends_with("|help"))
}

/// True for what is done to keys that it names, and to nothing else.
fn keeps_to_its_keys(spec: &Spec) -> bool {
    let is_of_data = matches!(
        spec.class,
        Class::CacheableRead
            | Class::Read
            | Class::Write
            | Class::MultiKeyWrite
            | Class::Blocking
            | Class::Pinned
            | Class::Local
    );
    is_of_data && spec.keys != KeySpec::None && !spec.flags.has(Flags::MODULE)
}

#[cfg(test)]
mod tests {
    use super::stays_inside_script;
    use super::{HARMLESS, REWRITTEN, describes, keeps_to_its_keys, stays_inside};
    use crate::command::{Flags, KeySpec, Spec, all, by_name, own};

    #[test]
    fn what_is_listed_is_a_row_that_would_be_refused_otherwise() {
        for name in HARMLESS.iter().chain(REWRITTEN) {
            let spec = by_name(name).unwrap();
            assert!(stays_inside(spec) && !keeps_to_its_keys(spec), "{name}");
        }
        let is_answered = |spec: &Spec| stays_inside(spec) || spec.name == "proxy|shutdown";
        assert!(own::all().iter().all(is_answered), "nearside answers those itself");
    }

    #[test]
    fn what_is_not_known_to_stay_inside_does_not() {
        for name in [
            "acl|dryrun",
            "acl|log",
            "bf.add",
            "client",
            "cluster|getkeysinslot",
            "commandlog|get",
            "config|get",
            "dbsize",
            "debug",
            "function|list",
            "latency|latest",
            "memory|stats",
            "migrate",
            "monitor",
            "pfdebug",
            "psubscribe",
            "psync",
            "publish",
            "pubsub|channels",
            "script|flush",
            "script|show",
            "slowlog|get",
            "spublish",
            "subscribe",
            "swapdb",
            "ts.queryindex",
            "xidmprecord",
        ] {
            assert!(!stays_inside(by_name(name).unwrap()), "{name}");
        }
        for name in ["get", "copy", "move", "object|encoding", "sort", "xread", "watch", "restore"]
        {
            assert!(stays_inside_script(by_name(name).unwrap()), "{name}");
        }
        // In a script nobody rewrites them.
        for name in ["keys", "scan", "info", "randomkey", "flushall"] {
            assert!(!stays_inside_script(by_name(name).unwrap()), "{name}");
        }
    }

    /// Whatever takes no keys and is not listed, is refused; and so is what is an operator's.
    #[test]
    fn a_row_without_keys_is_refused_unless_it_is_listed() {
        for spec in all().iter().filter(|spec| stays_inside_script(spec)) {
            let is_listed = HARMLESS.contains(&spec.name) || describes(spec);
            assert!(is_listed || spec.keys != KeySpec::None, "{}", spec.name);
            let is_of_operators = spec.flags.has(Flags::ADMIN) || spec.flags.has(Flags::PUBSUB);
            assert!(!is_of_operators, "{}", spec.name);
        }
    }
}
