//! The table against the COMMAND of both servers: nothing is without a row, and what belongs to a
//! connection never travels on one that clients share.
//!
//! And what becomes of commands that have no row, or that only the settings decide about.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, show};
use nearside::command::{self, Choices, Disposition, KeySpec, Policy, Refusal, Route, Spec};
use nearside::wire::reply::{bulk, elements};
use std::fmt::Write as _;
use std::process::Command;
use tempfile::TempDir;

/// The data that the table is generated from: its column `conn_state` says what a command changes
/// or needs of its connection.
const DATA: &str = include_str!("../data/commands.tsv");

/// How that column begins where it speaks of the server, or of the database that a link selects.
const NOT_THE_CONNECTION: &[&str] =
    &["db", "cursor", "WITHCURSOR", "needs ", "server", "pauses the whole server"];

/// Threat T5, by name: of a connection, or about it.
const OF_A_CONNECTION: &str = "select multi exec discard watch unwatch subscribe psubscribe \
    ssubscribe unsubscribe punsubscribe sunsubscribe monitor client|reply client|tracking \
    client|caching client|setname client|setinfo client|no-evict client|no-touch client|kill hello \
    auth reset quit asking readonly readwrite sync psync replconf wait waitaof script|debug \
    himport|prepare himport|set";

/// Name and flags of every command and subcommand that the server has.
fn commands(server: &mut Conn) -> Vec<(String, Vec<String>)> {
    fn read(row: &[u8], found: &mut Vec<(String, Vec<String>)>) {
        let fields: Vec<&[u8]> = elements(row).collect();
        let word = |text: &[u8]| String::from_utf8_lossy(text).to_lowercase();
        let flag = |flag: &[u8]| word(flag).trim_start_matches('+').trim_end().to_owned();
        found.push((word(bulk(fields[0]).unwrap()), elements(fields[2]).map(flag).collect()));
        elements(fields[9]).for_each(|row| read(row, found));
    }
    let mut found = Vec::new();
    elements(&server.words("COMMAND")).for_each(|row| read(row, &mut found));
    found
}

/// What is said of the connection in the data, of commands that have something to say.
fn stateful() -> Vec<&'static str> {
    let rows = DATA.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let says = |cells: &Vec<&str>| {
        let state = cells[8];
        !state.is_empty() && !NOT_THE_CONNECTION.iter().any(|start| state.starts_with(start))
    };
    rows.filter(says).map(|cells| cells[0]).collect()
}

/// True if no request for this row goes upstream on a shared connection, unless its own arguments
/// make it harmless (XREAD without BLOCK).
fn stays_apart(spec: &Spec, policy: &Policy) -> bool {
    let blocking = ["xread", "block", "0", "streams", "a", "0"];
    match policy.route(spec) {
        Route::OwnIfBlocking => {
            assert_eq!(spec.keys, KeySpec::Streams);
            let arg = |at: usize| blocking[at].as_bytes();
            matches!(spec.disposition(policy, blocking.len(), arg), Disposition::Own(_))
        }
        Route::Local | Route::Own(_) | Route::Refuse(_) => true,
        _ => false,
    }
}

#[test]
fn pinned_and_shared_never_mix() {
    let drastic: Vec<&Spec> = command::all()
        .iter()
        .filter(|row| row.route == Route::Refuse(Refusal::Dangerous))
        .collect();
    let everything = Choices { allow: drastic, ..Choices::default() };
    let named = |name: &str| {
        let name = name.to_lowercase().replacen(' ', "|", 1);
        command::by_name(&name).unwrap_or_else(|| panic!("{name} has no row"))
    };
    let mut faults = String::new();
    for kind in KINDS {
        let server = Server::start(kind);
        let told = commands(&mut server.dial());
        assert!(told.len() > 350, "{kind:?} tells of {} commands", told.len());
        for choices in [&Choices::default(), &everything] {
            for prefixed in [false, true] {
                let policy = Policy::new(prefixed, choices);
                for (name, flags) in &told {
                    let Some(spec) = command::by_name(name) else {
                        writeln!(faults, "{kind:?}: {name} has no row in commands.tsv").unwrap();
                        continue;
                    };
                    if flags.iter().any(|flag| flag == "blocking") && !stays_apart(spec, &policy) {
                        writeln!(faults, "{kind:?}: {name} may block a shared link").unwrap();
                    }
                }
                let state = OF_A_CONNECTION.split_whitespace().chain(stateful()).map(named);
                for spec in state.filter(|spec| !stays_apart(spec, &policy)) {
                    writeln!(faults, "{} is of a connection, and shares one", spec.name).unwrap();
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// The same error, byte for byte, for what a standalone server says of clusters; and for what a
/// server does not have, whether or not the table has it.
#[test]
fn clusters_are_disabled_as_the_server_says_it() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &[LEARN]);
        let (mut direct, mut ours) = (server.dial(), proxy.dial());
        for line in [
            "CLUSTER",
            "CLUSTER HELP",
            "CLUSTER INFO",
            "CLUSTER SLOTS",
            "CLUSTER SHARDS",
            "CLUSTER MYID",
            "CLUSTER MYSHARDID",
            "CLUSTER KEYSLOT",
            "CLUSTER KEYSLOT a",
            "CLUSTER RESET HARD",
            "CLUSTER NOSUCH",
            "CLUSTER SLOT-STATS SLOTSRANGE 0 1",
            "CLUSTER MIGRATESLOTS a b",
            "CLUSTERSCAN 0",
            "READONLY",
            "READWRITE",
            "READONLY x",
            "ASKING",
            "SENTINEL MASTERS",
            "GETX a",
        ] {
            let (theirs, mine) = (direct.words(line), ours.words(line));
            assert_eq!(show(&mine), show(&theirs), "{kind:?}: {line}");
        }
    }
}

/// A server with commands that the table does not have: a module's, made here.
fn with_strangers(kind: Kind) -> Server {
    let folder = TempDir::new().unwrap();
    let library = compile(&folder);
    Server::within(kind, &["--loadmodule", &library], folder)
}

/// The C compiler is there: Rust links with it.
fn compile(folder: &TempDir) -> String {
    let library = folder.path().join("strangers.so").to_str().unwrap().to_owned();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/strangers.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &library, source])
        .output()
        .unwrap_or_else(|error| panic!("the C compiler `cc` does not start: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

const LEARN: &str = "commands.unknown = \"learn\"";
const SET_SPEC: &str = "commands.specs.\"new.set\" = \"i1\"";

#[test]
fn unknown_commands_are_rejected_in_the_servers_words() {
    for kind in KINDS {
        let (server, without) = (with_strangers(kind), Server::start(kind));
        let proxy = Proxy::start(&server.url(), &[]);
        let (mut direct, mut ours) = (without.dial(), proxy.dial());
        for line in ["NEW.SET a 1", "new.size", "NEW.UNITE d 2 a b"] {
            assert_eq!(show(&ours.words(line)), show(&direct.words(line)), "{kind:?}: {line}");
        }
    }
}

#[test]
fn learned_commands_have_their_keys_rewritten() {
    for kind in KINDS {
        let server = with_strangers(kind);
        let settings = &[
            LEARN,
            SET_SPEC,
            "commands.specs.\"NEW.TELL\" = \"none\"",
            "keys.version = \"v1\"",
            "cache.admission = \"always\"",
        ];
        let proxy = Proxy::start(&server.url(), settings);
        let (mut direct, mut ours, mut other) = (server.dial(), proxy.dial(), proxy.dial());
        assert_eq!(ours.words("NEW.SET k 1"), b"+OK\r\n");
        assert_eq!(direct.words("GET v1:k"), b"$1\r\n1\r\n");
        // What it writes is not served from before.
        for round in 2..10 {
            other.words("GET k");
            assert_eq!(other.words("GET k"), format!("$1\r\n{}\r\n", round - 1).into_bytes());
            assert_eq!(ours.words(&format!("new.set k {round}")), b"+OK\r\n");
        }
        // Not listed; and nobody knows what it sends unasked.
        for (line, reason) in [
            ("NEW.UNITE d 1 a", "[commands.specs] \"NEW.UNITE\" = \"i1\""),
            ("NEW.SIZE", "modules are not to be trusted"),
            ("NEW.TELL a b", "what it does to connections that clients share is not known"),
        ] {
            let answer = String::from_utf8(ours.words(line)).unwrap();
            assert!(answer.starts_with("-ERR ") && answer.contains(reason), "{line}: {answer}");
        }
        assert_eq!(direct.words("EXISTS d v1:d"), b":0\r\n");
        assert!(proxy.log().contains("new.set"), "the log tells what was learned");
        // In a transaction too.
        for (line, answer) in
            [("MULTI", "+OK\r\n"), ("NEW.SET t 1", "+QUEUED\r\n"), ("EXEC", "*1\r\n+OK\r\n")]
        {
            assert_eq!(show(&ours.words(line)), show(answer.as_bytes()), "{line}");
        }
        assert_eq!(direct.words("GET v1:t"), b"$1\r\n1\r\n");
    }
}

#[test]
fn passed_commands_go_as_they_are() {
    for kind in KINDS {
        let server = with_strangers(kind);
        let settings = &["commands.unknown = \"pass\"", "cache.admission = \"always\""];
        let proxy = Proxy::start(&server.url(), settings);
        let (mut direct, mut ours, mut reader) = (server.dial(), proxy.dial(), proxy.dial());
        assert_eq!(ours.words("NEW.SET k 1"), b"+OK\r\n");
        assert_eq!(direct.words("GET k"), b"$1\r\n1\r\n");
        // Nothing is known of what it writes: nothing is served from before.
        for round in 2..10 {
            reader.words("GET k");
            assert_eq!(reader.words("GET k"), format!("$1\r\n{}\r\n", round - 1).into_bytes());
            assert_eq!(ours.words(&format!("NEW.SET k {round}")), b"+OK\r\n");
        }
        assert_eq!(ours.words("ZADD a 1 x"), b":1\r\n");
        assert_eq!(ours.words("NEW.UNITE d 1 a"), b":1\r\n");
        assert_eq!(ours.words("NEW.SIZE"), b":3\r\n");
        assert_eq!(ours.words("GET k"), b"$1\r\n9\r\n");
        assert_eq!(show(&ours.words("NOSUCH a")), show(&direct.words("NOSUCH a")));
    }
}

/// A server that comes back with other commands is asked again.
#[test]
fn commands_are_learned_again_after_an_outage() {
    let mut server = Server::start(Kind::Redis);
    let settings = &[LEARN, SET_SPEC, "upstream.on_down = \"error\""];
    let proxy = Proxy::start(&server.url(), settings);
    let answer = proxy.dial().words("NEW.SET a 1");
    assert!(answer.starts_with(b"-ERR unknown command 'NEW.SET'"), "{}", show(&answer));
    server.kill();
    let library = compile(&server.folder);
    server.restart_with(&["--loadmodule", &library]);
    eventually("the new command is learned", || {
        (proxy.dial().words("NEW.SET a 2") == b"+OK\r\n").then_some(())
    });
}

#[test]
fn the_profile_and_the_lists_decide() {
    let server = Server::start(Kind::Redis);
    let hardened = [
        "commands.profile = \"hardened\"",
        "commands.allow = [\"CONFIG|SET\"]",
        "commands.deny = [\"KEYS\", \"client setname\", \"SELECT\", \"GET\"]",
    ];
    let proxy = Proxy::start(&server.url(), &hardened);
    let mut client = proxy.dial();
    for (line, answer) in [
        (
            "FLUSHALL",
            "-NOPERM nearside refuses 'flushall': commands.profile is \"hardened\" (commands.allow \
             = [\"FLUSHALL\"] permits it)\r\n",
        ),
        ("KEYS *", "-NOPERM nearside refuses 'keys': commands.deny names it\r\n"),
        (
            "CLIENT SETNAME a",
            "-NOPERM nearside refuses 'client setname': commands.deny names it\r\n",
        ),
        ("CONFIG SET maxmemory-samples 6", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        (
            "SWAPDB 0 1",
            "-NOPERM nearside refuses 'swapdb': commands.profile is \"hardened\" (commands.allow = \
             [\"SWAPDB\"] permits it)\r\n",
        ),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
        ("MULTI", "+OK\r\n"),
        (
            "CLIENT PAUSE 100000",
            "-NOPERM nearside refuses 'client pause': commands.profile is \"hardened\" \
             (commands.allow = [\"CLIENT|PAUSE\"] permits it)\r\n",
        ),
        ("DISCARD", "+OK\r\n"),
        // What is denied is denied everywhere.
        ("MULTI", "+OK\r\n"),
        ("SELECT 1", "-NOPERM nearside refuses 'select': commands.deny names it\r\n"),
        ("DISCARD", "+OK\r\n"),
        ("WATCH a", "+OK\r\n"),
        ("GET a", "-NOPERM nearside refuses 'get': commands.deny names it\r\n"),
        ("UNWATCH", "+OK\r\n"),
        ("SET a 1", "+OK\r\n"),
    ] {
        assert_eq!(show(&client.words(line)), show(answer.as_bytes()), "{line}");
    }
    // Under a version, where FLUSHALL is nearside's own work, the profile holds as well.
    let versioned = ["commands.profile = \"hardened\"", "keys.version = \"v1\""];
    let proxy = Proxy::start(&server.url(), &versioned);
    assert!(proxy.dial().words("FLUSHALL").starts_with(b"-NOPERM"));
    assert_eq!(proxy.dial().words("FLUSHDB"), b"+OK\r\n");
    assert_eq!(server.dial().words("EXISTS a"), b":1\r\n");

    let allowed = ["commands.allow = [\"DEBUG\", \"MIGRATE\"]", "cache.admission = \"always\""];
    let proxy = Proxy::start(&server.url(), &allowed);
    let target = Server::start(Kind::Redis);
    let mut client = proxy.dial();
    assert_eq!(client.words("DEBUG JMAP").first(), Some(&b'-'));
    assert_eq!(client.words("SET b 1"), b"+OK\r\n");
    for _ in 0..3 {
        assert_eq!(client.words("GET b"), b"$1\r\n1\r\n");
    }
    let migrate = ["MIGRATE", "127.0.0.1", &target.port.to_string(), "", "0", "5000", "KEYS", "b"];
    assert_eq!(show(&client.ask(&migrate)), "+OK\\r\\n");
    assert_eq!(client.words("GET b"), b"$-1\r\n");
    assert_eq!(target.dial().words("GET b"), b"$1\r\n1\r\n");
}

/// What moves keys between databases, or away, leaves nothing of them behind in the cache: of
/// another client, in any database.
#[test]
fn what_moves_whole_databases_leaves_nothing_behind() {
    for kind in KINDS {
        for version in ["", "v1"] {
            let server = Server::start(kind);
            let settings =
                [&format!("keys.version = \"{version}\""), "cache.admission = \"always\""];
            let proxy = Proxy::start(&server.url(), &settings);
            let (mut zero, mut one, mut actor) = (proxy.dial(), proxy.dial(), proxy.dial());
            assert_eq!(one.words("SELECT 1"), b"+OK\r\n");
            let mut expect = |line: &str, in_zero: &str, in_one: &str| {
                assert!(!actor.words(line).starts_with(b"-"), "{kind:?} {version}: {line}");
                for (client, value) in [(&mut zero, in_zero), (&mut one, in_one)] {
                    let expected = match value {
                        "" => "$-1\r\n".to_owned(),
                        value => format!("${}\r\n{value}\r\n", value.len()),
                    };
                    // Asked more than once: the later ones from the cache.
                    for _ in 0..3 {
                        let answer = client.words("GET k");
                        let told = format!("{kind:?} {version}: after {line}");
                        assert_eq!(show(&answer), show(expected.as_bytes()), "{told}");
                    }
                }
            };
            expect("SET k zero", "zero", "");
            expect("COPY k k DB 1", "zero", "zero");
            expect("SET k other", "other", "zero");
            expect("COPY k k DB 1 REPLACE", "other", "other");
            expect("DEL k", "", "other");
            expect("SWAPDB 0 1", "other", "");
            expect("MOVE k 1", "", "other");
            expect("SET k again", "again", "other");
            expect("FLUSHDB", "", "other");
            expect("SET k third", "third", "other");
            expect("FLUSHALL", "", "");
        }
    }
}
