//! nearside's own commands: the PROXY family, which no server has. Rows like the table's, counted
//! behind it; found by the word that `server.proxy_command` names, whatever that is.
//!
//! To add one is to add a row here, and its answer: at once in `data/local/proxy`, or, if it takes
//! its time or is about more than its connection, by the main thread in `control/proxy`.

use crate::command::{COUNT, Class, Flags, Refusal, Route, Spec, Unknown, find_sub};

/// A row, and what HELP says of it: its arguments, and one sentence.
macro_rules! family {
    ($($name:literal $arity:literal $usage:literal $help:literal)+) => {
        const NAMES: &[(&str, i8)] = &[$((concat!("proxy|", $name), $arity),)+];

        /// Of each subcommand: how it is written behind the family's word, and what it does.
        pub const HELP: &[(&str, &str)] = &[$(($usage, $help),)+];
    };
}

family! {
    "bypass" 3 "BYPASS (ON|OFF)"
        "Read upstream on this connection, past the cache, or as all others do."
    "clear" 2 "CLEAR"
        "Forget everything that is cached here; the number of keys."
    "clients" 2 "CLIENTS"
        "Show the clients of all workers."
    "commands" -2 "COMMANDS [UNSUPPORTED|CACHEABLE]"
        "Name the commands that nearside knows, refuses, or answers from the cache."
    "config" -3 "CONFIG (GET <pattern> [<pattern> ...]|SET <key> <value>|RELOAD)"
        "Show the settings in force, set one for now, or read the configuration again."
    "drain" 2 "DRAIN"
        "Have clients sent elsewhere: /readyz fails, and nobody is cut off."
    "explain" -3 "EXPLAIN <command> [<arg> ...]"
        "Show what would become of a request: its keys, its rule, who answers."
    "get" 3 "GET <key>"
        "Show what is cached of a key."
    "help" 2 "HELP"
        "Print this help."
    "hotkeys" -2 "HOTKEYS [BY (READS|BYTES|MISSES)] [COUNT <count>]"
        "Show the keys that are asked for most."
    "info" -2 "INFO [<section> ...]"
        "Show nearside's own sections of INFO."
    "invalidate" -4 "INVALIDATE [SOFT] [LOCAL] \
        (KEY <key> [<key> ...]|NAMESPACE <name>|PATTERN <glob>|GROUP <name>)"
        "Forget what is cached of these keys, here and at peers; the number of keys here."
    "last" 2 "LAST"
        "Show what became of this connection's last command."
    "lease" -5 "LEASE (GET <key> <wait-ms> [TTL <ms>]|\
        SET <key> <token> <value> [EX <s>|PX <ms>]|DROP <key> <token>)"
        "Compute a missing value as the only client of all; others wait for it."
    "log" -4 "LOG (ERROR|WARN|INFO|DEBUG) <text> [<text> ...]"
        "Write a line to nearside's log."
    "mode" -2 "MODE [CACHE|OBSERVE|BYPASS]"
        "Show or switch the mode."
    "namespaces" -2 "NAMESPACES [COUNT <count>]"
        "Show estimated hits and misses by namespace, the busiest first."
    "resume" 2 "RESUME"
        "Undo DRAIN."
    "shutdown" 2 "SHUTDOWN"
        "Finish what was received, and end the process, as SIGTERM does."
    "stats" -2 "STATS [RESET]"
        "Show what was counted, or begin to count anew."
    "upstreams" 2 "UPSTREAMS"
        "Show the servers behind."
    "version" -2 "VERSION [SET <version> [IF <version>]]"
        "Show or switch the key version."
    "warm" -3 "WARM (RUN <job>|STATUS|CANCEL <id>)"
        "Run a job of the configuration that loads keys, show such runs, or stop one."
}

/// Rows of the family, its container among them.
pub const ROWS: usize = NAMES.len() + 1;

/// What none of them does: wait in a transaction, run in a script, need the server.
const FLAGS: u32 = Flags::NO_MULTI
    .with(Flags::NOSCRIPT)
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::ALLOW_BUSY)
    .bits();

static FAMILY: [Spec; ROWS] = family();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the compiler runs this, over a table of fixed size: a fault is a build error"
)]
const fn family() -> [Spec; ROWS] {
    const EMPTY: Spec = row(0, "proxy", -2);
    let mut rows = [EMPTY; ROWS];
    rows[0].subcommands = NAMES.len() as u8;
    let mut at = 0;
    while at < NAMES.len() {
        let (name, arity) = NAMES[at];
        rows[at + 1] = row(at + 1, name, arity);
        at += 1;
    }
    rows
}

#[expect(clippy::cast_possible_truncation, reason = "as above")]
const fn row(at: usize, name: &'static str, arity: i8) -> Spec {
    let route = if ends(name) { Route::Refuse(Refusal::Dangerous) } else { Route::Local };
    Spec::new((COUNT + at) as u16, name, "", arity, FLAGS, Class::Local).route(route)
}

/// True for what would put nearside out of service: as Redis' own SHUTDOWN, it takes
/// `commands.allow`.
const fn ends(name: &str) -> bool {
    matches!(name.as_bytes(), b"proxy|shutdown")
}

/// All rows, the container first. Their indices follow those of the table.
pub fn all() -> &'static [Spec] {
    &FAMILY
}

/// The family itself.
pub fn container() -> &'static Spec {
    let [container, ..] = &FAMILY;
    container
}

/// True for a row of the family.
pub fn has(spec: &Spec) -> bool {
    FAMILY.get(usize::from(spec.index).wrapping_sub(COUNT)).is_some()
}

/// The row of a request that begins with the family's `word`; no word, no family.
#[cold]
pub fn resolve<'a>(
    word: &[u8],
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
) -> Option<&'static Spec> {
    match argc {
        _ if !is_family(word, argc, &arg) => None,
        1 => Some(container()),
        _ => find_sub(container(), arg(1)),
    }
}

/// What a request asks for in vain, if it begins with the family's `word`.
#[cold]
pub fn unknown<'a>(word: &[u8], argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<Unknown> {
    is_family(word, argc, &arg).then(|| Unknown::Subcommand(container()))
}

fn is_family<'a>(word: &[u8], argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> bool {
    !word.is_empty() && argc > 0 && arg(0).eq_ignore_ascii_case(word)
}

/// The row of `proxy|mode`, by the name that settings call it by.
pub fn by_name(name: &str) -> Option<&'static Spec> {
    FAMILY.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::{FAMILY, HELP, all, by_name, has, resolve, unknown};
    use crate::command::{self, COUNT, Unknown};

    fn find(word: &str, request: &str) -> Option<&'static str> {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        resolve(word.as_bytes(), words.len(), |at| words[at]).map(|row| row.name)
    }

    #[test]
    fn rows_follow_the_table_and_each_has_its_help() {
        assert_eq!(all().len(), HELP.len() + 1);
        for (at, row) in FAMILY.iter().enumerate() {
            assert_eq!(usize::from(row.index), COUNT + at);
            assert!(has(row) && command::row(row.index).unwrap().name == row.name);
            if at > 0 {
                let usage = HELP[at - 1].0.split(' ').next().unwrap();
                assert_eq!(usage.to_ascii_lowercase(), row.word());
            }
        }
        assert!(FAMILY[1..].is_sorted_by_key(|row| row.name));
        assert!(!has(command::by_name("get").unwrap()) && !has(&command::UNKNOWN));
        assert_eq!(by_name("proxy").unwrap().subs().len(), HELP.len());
    }

    #[test]
    fn the_word_leads_to_them_whatever_it_is() {
        assert_eq!(find("PROXY", "proxy Mode bypass"), Some("proxy|mode"));
        assert_eq!(find("PROXY", "PROXY"), Some("proxy"));
        assert_eq!(find("PROXY", "PROXY NOSUCH"), None);
        assert_eq!(find("NEAR", "near get k"), Some("proxy|get"));
        assert_eq!(find("NEAR", "PROXY get k"), None);
        assert_eq!(find("", ""), None);
        let words: [&[u8]; 2] = [b"near", b"x"];
        let asked = |word: &[u8]| unknown(word, 2, |at| words[at]);
        assert!(matches!(asked(b"NEAR"), Some(Unknown::Subcommand(row)) if row.name == "proxy"));
        assert!(asked(b"PROXY").is_none());
    }
}
