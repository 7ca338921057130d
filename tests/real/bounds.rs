//! Keys that may not be named: by their length and their bytes, of every command, by rule.

use crate::every_row::{VECTORS, words};
use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually};
use nearside::command::{self, Choices, Disposition, KeySpec, Policy, keys};

const SETTINGS: &[&str] = &[
    "keys.version = \"v1\"",
    "keys.max_key_length = 20",
    "keys.forbidden_bytes = [\"control\", \"whitespace\", \"{\", \"0xf0-0xff\"]",
    "cache.admission = \"always\"",
    "cache.fill_lease = \"10s\"",
    "rules = [{ match = \"free:*\", forbidden_bytes = [] }, \
              { match = \"short:*\", max_key_length = 8 }]",
];

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

fn says(conn: &mut Conn, words: &[&str], told: &str) {
    let reply = text(&conn.ask(words));
    assert!(reply.starts_with(told), "{words:?}: {reply:?}, not {told:?}");
}

#[test]
fn a_key_is_as_its_rule_has_it() {
    const LONG: &str = "a:456789012345678901";
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut conn = proxy.dial();
        let refused = "nearside_commands_rejected_total{reason=\"key\"}";
        for (words, told) in [
            (&["SET", LONG, "v"][..], "+OK"),
            (&["GET", LONG], "$1\r\nv\r\n"),
            (&["SET", "free:a b{c}\n", "v"], "+OK"),
            (&["SET", "short:12", "v"], "+OK"),
            (&["SET", "", "v"], "+OK"),
            (&["SORT", "list", "BY", "w {*", "GET", "x y*"], "*0"),
            (&["EVAL", "return { KEYS[1] and 1 or 0 }", "0", "a b"], "*1\r\n:0\r\n"),
        ] {
            says(&mut conn, words, told);
        }
        let before = proxy.count(refused);
        assert_eq!(before, 0);
        let too_long = format!("{LONG}2");
        let all = [
            (
                &["SET", &too_long, "v"][..],
                "-ERR nearside refuses 'set': a key of 21 bytes is longer than max_key_length, 20\r\n",
            ),
            (&["GET", &too_long], "-ERR nearside refuses 'get': a key of 21 bytes is longer"),
            (
                &["GET", "a\r\nb"],
                "-ERR nearside refuses 'get': its key has the byte 0x0d at 1 (forbidden_bytes)\r\n",
            ),
            (
                &["MGET", LONG, "a{b"],
                "-ERR nearside refuses 'mget': its key has the byte 0x7b at 1",
            ),
            (&["EXISTS", LONG, "a b"], "-ERR nearside refuses 'exists': its key has the byte 0x20"),
            (&["MSET", LONG, "1", "a\u{7f}", "2"], "-ERR nearside refuses 'mset'"),
            (&["GET", "short:123"], "-ERR nearside refuses 'get': a key of 9 bytes is longer than"),
            (&["SET", "free:45678901234567890", "v"], "-ERR nearside refuses 'set': a key of 22"),
            (
                &["OBJECT", "ENCODING", "a b"],
                "-ERR nearside refuses 'object encoding': its key has",
            ),
            (&["EVAL", "return 1", "1", "a b"], "-ERR nearside refuses 'eval': its key has"),
            (&["BLPOP", "a b", "0"], "-ERR nearside refuses 'blpop': its key has"),
            (&["WATCH", "a b"], "-ERR nearside refuses 'watch': its key has"),
            (&["SORT", "list", "STORE", "a b"], "-ERR nearside refuses 'sort': its key has"),
            (
                &["PROXY", "LEASE", "GET", "a b", "0"],
                "-ERR nearside refuses 'proxy lease': its key",
            ),
        ];
        for (words, told) in all {
            says(&mut conn, words, told);
        }
        assert_eq!(proxy.count(refused), all.len() as u64);
        let explained = text(&conn.ask(&["PROXY", "EXPLAIN", "GET", "a b"]));
        assert!(explained.contains("its key has the byte 0x20 at 1"), "{explained}");
        let mut direct = server.dial();
        assert_eq!(direct.words("DBSIZE"), b":4\r\n", "nothing else came upstream");
    }
}

/// Each key of each vector that goes upstream, or is asked of the cache.
#[test]
fn every_command_that_names_keys_is_held_to_it() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let policy = Policy::new(true, &Choices::default());
        let mut asked = 0;
        let lines = VECTORS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let line = words(line.trim_start_matches("+ ").trim_start_matches("= "));
            let Ok(spec) = command::resolve(line.len(), |at| &line[at]) else { continue };
            let disposition = spec.disposition(&policy, line.len(), |at| &line[at]);
            if !spec.accepts(line.len()) || matches!(disposition, Disposition::Refuse(_)) {
                continue;
            }
            let mut places = Vec::new();
            keys::for_each(spec, line.len(), |at| &line[at], |at| places.push(at));
            if spec.keys == KeySpec::Sort {
                places.truncate(1);
            }
            let mut conn = proxy.dial();
            for at in places {
                let mut other = line.clone();
                other[at] = b"not\nso".to_vec();
                let told = text(&conn.ask(&other));
                assert!(told.ends_with("has the byte 0x0a at 3 (forbidden_bytes)\r\n"), "{line:?}");
                // The server fails EXEC of what it cannot queue.
                assert_eq!(conn.words("MULTI"), b"+OK\r\n");
                assert_eq!(text(&conn.ask(&other)), told);
                let exec = text(&conn.words("EXEC"));
                assert!(exec.starts_with("-EXECABORT"), "{exec}");
                asked += 1;
            }
        }
        assert!(asked > 600, "{asked}");
        assert_eq!(server.dial().words("DBSIZE"), b":0\r\n");
    }
}

/// By a reload, at once: what is cached was asked for under other rules.
#[test]
fn what_was_cached_before_is_held_to_it() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["cache.admission = \"always\""]);
    let mut conn = proxy.dial();
    says(&mut conn, &["SET", "too:long", "v"], "+OK");
    conn.until_hit("GET too:long");
    says(&mut conn, &["PROXY", "CONFIG", "SET", "keys.max_key_length", "7"], "+OK");
    says(&mut conn, &["GET", "too:long"], "-ERR nearside refuses 'get': a key of 8 bytes");
    says(&mut conn, &["PROXY", "BYPASS", "ON"], "+OK");
    says(&mut conn, &["GET", "too:long"], "-ERR nearside refuses 'get': a key of 8 bytes");
    says(&mut conn, &["PROXY", "BYPASS", "OFF"], "+OK");
    says(&mut conn, &["WATCH", "k"], "+OK");
    says(&mut conn, &["GET", "too:long"], "-ERR nearside refuses 'get': a key of 8 bytes");
    says(&mut conn, &["PROXY", "CONFIG", "SET", "keys.max_key_length", "0"], "+OK");
    says(&mut proxy.dial(), &["GET", "too:long"], "$1\r\nv\r\n");
}

/// What no client may name is not loaded for any.
#[test]
fn it_is_not_warmed_up() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("SET fine 1");
    direct.words("SET too:long 1");
    let job = "warming.jobs = [{ name = \"all\", keys = [\"fine\", \"too:long\"] }]";
    let proxy = Proxy::start(&server.url(), &["keys.max_key_length = 5", job]);
    let mut conn = proxy.dial();
    let run = text(&conn.words("PROXY WARM RUN all"));
    assert!(run.starts_with(':'), "{run}");
    let status = eventually("the job has ended", || {
        let status = text(&conn.words("PROXY WARM STATUS"));
        (!status.contains("running")).then_some(status)
    });
    assert!(
        status.contains("loaded\r\n:1\r\n") && status.contains("skipped\r\n:1\r\n"),
        "{status}"
    );
    says(&mut conn, &["GET", "too:long"], "-ERR nearside refuses 'get'");
}
