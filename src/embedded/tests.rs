//! The core under a clock of the test's own: what a differential test cannot see.

use super::core::{Core, EXPIRED_PER_TICK};
use super::stand_in::Policy;
use super::table::ROWS;
use crate::command::{self, Flags};
use crate::wire::inline;
use bytes::Bytes;
use std::cell::Cell;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000_000) };
}

fn clock() -> u64 {
    NOW.get()
}

fn pass(milliseconds: u64) {
    NOW.set(NOW.get() + milliseconds);
}

fn core(max_memory: usize) -> (Core, u64) {
    let mut core = Core::new(max_memory, clock);
    let client = core.connect();
    (core, client)
}

fn ask(core: &mut Core, client: u64, line: &str) -> String {
    let request = inline::to_multibulk(line.as_bytes()).unwrap();
    core.input(client).unwrap().extend_from_slice(&request);
    core.feed(client);
    heard(core, client)
}

fn heard(core: &mut Core, client: u64) -> String {
    core.output(client).unwrap().split().escape_ascii().to_string()
}

#[test]
fn a_key_ends_after_its_last_millisecond() {
    let (mut core, client) = core(0);
    ask(&mut core, client, "SET k v PX 100");
    pass(100);
    assert_eq!(ask(&mut core, client, "PTTL k"), ":0\\r\\n");
    assert_eq!(ask(&mut core, client, "GET k"), "$1\\r\\nv\\r\\n");
    pass(1);
    assert_eq!(ask(&mut core, client, "DBSIZE"), ":1\\r\\n");
    assert_eq!(ask(&mut core, client, "KEYS *"), "*0\\r\\n");
    assert_eq!(ask(&mut core, client, "GET k"), "$-1\\r\\n");
    assert_eq!(ask(&mut core, client, "DBSIZE"), ":0\\r\\n");
}

#[test]
fn every_lookup_sees_that_a_key_has_ended() {
    for (line, answer) in [
        ("SCAN 0", "*2\\r\\n$1\\r\\n0\\r\\n*0\\r\\n"),
        ("RANDOMKEY", "$-1\\r\\n"),
        ("EXISTS k", ":0\\r\\n"),
        ("DEL k", ":0\\r\\n"),
        ("TYPE k", "+none\\r\\n"),
        ("PERSIST k", ":0\\r\\n"),
        ("RENAME k j", "-ERR no such key\\r\\n"),
        ("COPY k j", ":0\\r\\n"),
        ("MOVE k 1", ":0\\r\\n"),
        ("LPUSH k a", ":1\\r\\n"),
        ("SADD k a", ":1\\r\\n"),
        ("SET k v XX", "$-1\\r\\n"),
        ("SETNX k v", ":1\\r\\n"),
        ("INCR k", ":1\\r\\n"),
        ("SINTERSTORE k nokey", ":0\\r\\n"),
    ] {
        let (mut core, client) = core(0);
        ask(&mut core, client, "SET k 5 PX 1");
        pass(2);
        assert_eq!(ask(&mut core, client, line), answer, "{line}");
        assert!(ask(&mut core, client, "TTL k").starts_with(":-"), "{line}");
    }
}

#[test]
fn ticks_delete_a_part_at_a_time_and_tell() {
    let (mut core, client) = core(0);
    let tracker = core.connect();
    ask(&mut core, tracker, "HELLO 3");
    ask(&mut core, tracker, "CLIENT TRACKING ON BCAST PREFIX tracked:");
    for number in 0..EXPIRED_PER_TICK {
        ask(&mut core, client, &format!("SET k{number} v PX 5"));
    }
    ask(&mut core, client, "SET tracked:k v PX 6");
    ask(&mut core, client, "SELECT 3");
    ask(&mut core, client, "SET other v PX 7");
    heard(&mut core, tracker);
    pass(8);
    core.tick();
    assert_eq!(heard(&mut core, tracker), "");
    core.tick();
    let push = ">2\\r\\n$10\\r\\ninvalidate\\r\\n*1\\r\\n$9\\r\\ntracked:k\\r\\n";
    assert_eq!(heard(&mut core, tracker), push);
    assert!(core.take_told().contains(&tracker));
    assert_eq!(ask(&mut core, client, "DBSIZE"), ":0\\r\\n");
    assert_eq!(core.store.used(), 0);
}

#[test]
fn a_tracker_hears_of_writes_flushes_and_keys_found_over() {
    const KEY: &str = ">2\\r\\n$10\\r\\ninvalidate\\r\\n*1\\r\\n$1\\r\\nk\\r\\n";
    const ALL: &str = ">2\\r\\n$10\\r\\ninvalidate\\r\\n_\\r\\n";
    let (mut core, client) = core(0);
    let tracker = core.connect();
    ask(&mut core, tracker, "HELLO 3");
    ask(&mut core, tracker, "CLIENT TRACKING ON BCAST PREFIX k");
    for (line, push) in [
        ("SET k v PX 5", KEY),
        ("GET k", ""),
        ("SET other v", ""),
        ("FLUSHALL", ALL),
        ("SET k v PX 5", KEY),
    ] {
        ask(&mut core, client, line);
        assert_eq!(heard(&mut core, tracker), push, "{line}");
        assert_eq!(core.take_told().contains(&tracker), !push.is_empty(), "{line}");
    }
    pass(6);
    assert_eq!(ask(&mut core, client, "GET k"), "$-1\\r\\n");
    assert_eq!(heard(&mut core, tracker), KEY);
}

#[test]
fn a_watched_key_that_ends_is_a_change() {
    let (mut core, client) = core(0);
    for (wait, answer) in [(2, "*-1\\r\\n"), (0, "*1\\r\\n+PONG\\r\\n")] {
        ask(&mut core, client, "SET k v PX 1");
        ask(&mut core, client, "WATCH k");
        ask(&mut core, client, "MULTI");
        ask(&mut core, client, "PING");
        pass(wait);
        assert_eq!(ask(&mut core, client, "EXEC"), answer);
    }
    // It had ended before it was watched: nothing changes.
    pass(2);
    ask(&mut core, client, "WATCH k");
    ask(&mut core, client, "MULTI");
    assert_eq!(ask(&mut core, client, "EXEC"), "*0\\r\\n");
}

#[test]
fn another_client_s_write_fails_exec() {
    let (mut core, client) = core(0);
    let writer = core.connect();
    ask(&mut core, client, "WATCH k");
    ask(&mut core, client, "MULTI");
    // The same name in another database is another key.
    ask(&mut core, writer, "SELECT 1");
    ask(&mut core, writer, "SET k v");
    assert_eq!(ask(&mut core, client, "EXEC"), "*0\\r\\n");
    ask(&mut core, client, "WATCH k");
    ask(&mut core, client, "MULTI");
    ask(&mut core, writer, "SELECT 0");
    ask(&mut core, writer, "SET k v");
    assert_eq!(ask(&mut core, client, "EXEC"), "*-1\\r\\n");
}

#[test]
fn beyond_the_memory_limit_only_what_needs_none_runs() {
    const REFUSED: &str = "-OOM command not allowed when used memory > \\'maxmemory\\'.\\r\\n";
    let (mut core, client) = core(1000);
    let value = "x".repeat(1000);
    assert_eq!(ask(&mut core, client, &format!("SET k {value}")), "+OK\\r\\n");
    assert_eq!(ask(&mut core, client, "SET j v"), REFUSED);
    assert_eq!(ask(&mut core, client, "LPUSH l v"), REFUSED);
    assert_eq!(ask(&mut core, client, "STRLEN k"), ":1000\\r\\n");
    ask(&mut core, client, "MULTI");
    assert_eq!(ask(&mut core, client, "SET j v"), REFUSED);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\\r\\n";
    assert_eq!(ask(&mut core, client, "EXEC"), aborted);
    // A queue takes memory itself.
    ask(&mut core, client, "MULTI");
    for line in ["STRLEN k", "PING", "MULTI", "WATCH k"] {
        assert_eq!(ask(&mut core, client, line), REFUSED, "{line}");
    }
    assert_eq!(ask(&mut core, client, "DISCARD"), "+OK\\r\\n");
    assert_eq!(ask(&mut core, client, "DEL k"), ":1\\r\\n");
    // Queued while there was room, run when there is none.
    ask(&mut core, client, "MULTI");
    assert_eq!(ask(&mut core, client, "SET j v"), "+QUEUED\\r\\n");
    let writer = core.connect();
    ask(&mut core, writer, &format!("SET k {value}"));
    let answer = ask(&mut core, client, "EXEC");
    assert_eq!(answer, REFUSED.replace("-OOM", "-EXECABORT Transaction discarded because of: OOM"));
    assert_eq!(ask(&mut core, client, "EXEC"), "-ERR EXEC without MULTI\\r\\n");
}

#[test]
fn every_command_that_needs_memory_is_refused_without() {
    let mut refused = 0;
    for row in ROWS {
        let spec = command::by_name(row.name).unwrap();
        if row.name.contains('|') || spec.subcommands > 0 {
            continue;
        }
        let (mut core, client) = core(100);
        ask(&mut core, client, "SET k v");
        assert!(core.store.used() > core.max_memory);
        let needed = usize::from(spec.arity.unsigned_abs()) - 1;
        let answer = ask(&mut core, client, &format!("{} {}", row.name, "k ".repeat(needed)));
        let denied = spec.flags.has(Flags::DENYOOM);
        assert_eq!(answer.starts_with("-OOM "), denied, "{}: {answer}", row.name);
        refused += usize::from(denied);
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn what_is_not_claimed_is_unknown() {
    let (mut core, client) = core(0);
    for (line, answer) in [
        ("geoadd g 1 1 x", "unknown command \\'geoadd\\', with args beginning with: \\'g\\'"),
        ("ACL WHOAMI", "unknown command \\'ACL\\', with args beginning with: \\'WHOAMI\\'"),
        ("ACL", "unknown command \\'ACL\\', with args beginning with: "),
        ("CLIENT KILL", "unknown subcommand \\'KILL\\'. Try CLIENT HELP."),
        ("CLIENT", "wrong number of arguments for \\'client\\' command"),
        ("client|id", "unknown command \\'client|id\\', with args beginning with: "),
    ] {
        let found = ask(&mut core, client, line);
        assert!(found.starts_with(&format!("-ERR {answer}")), "{line}: {found}");
        // As any refused command, it fails the transaction.
        ask(&mut core, client, "MULTI");
        assert_eq!(ask(&mut core, client, line), found);
        assert!(ask(&mut core, client, "EXEC").starts_with("-EXECABORT"), "{line}");
    }
}

#[test]
fn the_account_is_empty_when_the_last_key_is() {
    let (mut core, client) = core(0);
    let lines = include_str!("../../tests/data/embedded_corpus.txt").lines();
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in kept.filter(|line| !line.starts_with("FLUSH")) {
        ask(&mut core, client, line);
        if core.blocked_count() > 0 {
            pass(1000);
            core.tick();
        }
    }
    ask(&mut core, client, "RESET");
    assert!(core.store.used() > 0);
    for db in 0..16 {
        ask(&mut core, client, &format!("SELECT {db}"));
        while ask(&mut core, client, "DBSIZE") != ":0\\r\\n" {
            let key = core.store.random_key().unwrap();
            let request = [&b"*2\r\n$3\r\nDEL\r\n$"[..], key.len().to_string().as_bytes()].concat();
            let request = [&request, &b"\r\n"[..], &key, b"\r\n"].concat();
            core.input(client).unwrap().extend_from_slice(&request);
            core.feed(client);
            heard(&mut core, client);
        }
    }
    assert_eq!(core.store.used(), 0);
    assert!(core.store.sizes().all(|sizes| sizes == (0, 0)), "no deadline outlives its key");
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let (mut core, client) = core(0);
    let tracker = core.connect();
    ask(&mut core, tracker, "HELLO 3");
    ask(&mut core, tracker, "CLIENT TRACKING ON BCAST");
    ask(&mut core, tracker, "WATCH k");
    core.disconnect(tracker);
    ask(&mut core, client, "SET k v");
    assert!(core.take_told().is_empty());
    assert!(!core.tracking.is_active() && !core.store.changes.tracked);
    assert!(core.store.changes.watched_by(tracker).is_empty());
}

#[test]
fn flags_tell_what_a_client_is() {
    let (mut core, client) = core(0);
    let writer = core.connect();
    let mut flags = |requests: &[&str]| {
        for request in requests {
            ask(&mut core, client, request);
        }
        ask(&mut core, writer, "SET k v");
        let list = ask(&mut core, writer, &format!("CLIENT LIST ID {client}"));
        list.split_once("flags=").unwrap().1.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(flags(&[]), "N");
    assert_eq!(flags(&["WATCH k"]), "d");
    assert_eq!(flags(&["WATCH j", "MULTI"]), "xd");
    // As in Redis, RESET leaves NO-EVICT as it is.
    assert_eq!(flags(&["DISCARD", "CLIENT NO-EVICT ON", "SUBSCRIBE c"]), "Pe");
    assert_eq!(flags(&["RESET"]), "e");
    assert_eq!(flags(&["CLIENT NO-EVICT OFF", "BLPOP l 0"]), "b");
}

#[test]
fn waiting_ends_after_its_last_millisecond() {
    let (mut core, client) = core(0);
    ask(&mut core, client, "BLPOP k 0.1");
    ask(&mut core, client, "PING");
    pass(100);
    core.tick();
    assert_eq!(heard(&mut core, client), "");
    pass(1);
    core.tick();
    // What was asked meanwhile is answered behind it.
    assert_eq!(heard(&mut core, client), "*-1\\r\\n+PONG\\r\\n");
    assert!(core.take_told().contains(&client));
}

#[test]
fn a_waiting_client_that_leaves_takes_nothing() {
    let (mut core, client) = core(0);
    let [first, second] = [core.connect(), core.connect()];
    ask(&mut core, first, "BLPOP k j 0");
    ask(&mut core, second, "BLPOP k 0");
    core.disconnect(first);
    assert_eq!(ask(&mut core, client, "RPUSH k a b"), ":2\\r\\n");
    assert_eq!(heard(&mut core, second), "*2\\r\\n$1\\r\\nk\\r\\n$1\\r\\na\\r\\n");
    assert_eq!(ask(&mut core, client, "LLEN k"), ":1\\r\\n");
    assert_eq!(ask(&mut core, client, "RPUSH j a"), ":1\\r\\n");
}

#[test]
fn a_subscriber_that_does_not_read_is_closed() {
    let (mut core, client) = core(0);
    let slow = core.connect();
    ask(&mut core, slow, "SUBSCRIBE c");
    let message = format!("PUBLISH c {}", "x".repeat(1 << 20));
    for sent in 0..32 {
        assert!(!core.is_closing(slow), "after {sent} MiB");
        assert_eq!(ask(&mut core, client, &message), ":1\\r\\n");
    }
    assert!(core.is_closing(slow));
    assert!(core.take_told().contains(&slow));
    assert_eq!(heard(&mut core, slow), "");
    core.disconnect(slow);
    assert_eq!(ask(&mut core, client, &message), ":0\\r\\n");
}

fn stand_in(knows_all: bool, takes_writes: bool, max_memory: usize) -> (Core, u64) {
    let policy = Policy { knows_all, takes_writes, max_memory };
    let mut core = Core::new(0, clock).standing_in(policy);
    let client = core.connect();
    (core, client)
}

/// Each key as the requests that make it elsewhere what it is here.
fn left(core: &mut Core) -> Vec<(u32, Vec<String>)> {
    let mut all = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let page = core.page(from, 2, usize::MAX);
        next = page.next;
        all.extend(page.keys.into_iter().map(|(db, requests)| {
            let words = |request: &Vec<Bytes>| {
                request.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>()
            };
            (db, requests.iter().map(|request| words(request).join(" ")).collect())
        }));
    }
    all
}

#[test]
fn a_stand_in_makes_up_nothing_that_it_was_not_told() {
    let (mut core, client) = stand_in(false, true, 1 << 20);
    for line in [
        "GET k",
        "INCR k",
        "SET k v NX",
        "SET k v GET",
        "SET k v KEEPTTL",
        "HSET k f v",
        "EXISTS k",
        "EXPIRE k 5",
        "RENAME k j",
        "BLPOP k 1",
        "KEYS *",
        "SCAN 0",
        "DBSIZE",
        "RANDOMKEY",
        "SINTERSTORE j k",
        "MSETNX k v",
    ] {
        let answer = ask(&mut core, client, line);
        assert!(answer.contains("was not told of this key"), "{line}: {answer}");
    }
    assert!(left(&mut core).is_empty());
    assert_eq!(ask(&mut core, client, "DEL k"), ":0\\r\\n");
    assert_eq!(ask(&mut core, client, "GET k"), "$-1\\r\\n");
    assert_eq!(ask(&mut core, client, "HSET k f v"), ":1\\r\\n");
    assert!(ask(&mut core, client, "FLUSHALL").contains("flushes nothing"));
    // In another database it was told nothing of that key.
    ask(&mut core, client, "SELECT 1");
    assert!(ask(&mut core, client, "GET k").contains("was not told of this key"));
    let (mut core, client) = stand_in(true, false, 1 << 20);
    assert_eq!(ask(&mut core, client, "GET k"), "$-1\\r\\n");
    for line in ["SET k v", "DEL k", "PUBLISH c m", "SUBSCRIBE c"] {
        let answer = ask(&mut core, client, line);
        assert_eq!(answer, "-ERR proxy: not executed: upstream is down\\r\\n", "{line}");
    }
}

#[test]
fn what_a_stand_in_holds_can_be_made_elsewhere() {
    let (mut core, client) = stand_in(true, true, 1 << 20);
    for line in [
        "SET text v PX 5000",
        "RPUSH list a b",
        "SADD set m",
        "HSET hash f v g w",
        "ZADD zset 1.5 a",
        "SET brief v PX 1",
        "RPUSH emptied a",
        "LPOP emptied",
        "DEL never",
        "SELECT 2",
        "SET text w",
    ] {
        ask(&mut core, client, line);
    }
    pass(2);
    let ends = NOW.get() + 4998;
    let one = |request: &str| vec![request.to_owned()];
    let two = |kind: &str, key: &str| vec![format!("DEL {key}"), format!("{kind} {key}")];
    let with = |mut requests: Vec<String>, elements: &str| {
        requests[1].push_str(elements);
        requests
    };
    assert_eq!(
        left(&mut core),
        [
            (0, vec!["SET text v".to_owned(), format!("PEXPIREAT text {ends}")]),
            (0, with(two("RPUSH", "list"), " a b")),
            (0, with(two("SADD", "set"), " m")),
            (0, with(two("HSET", "hash"), " f v g w")),
            (0, with(two("ZADD", "zset"), " 1.5 a")),
            (0, one("DEL brief")),
            (0, one("DEL emptied")),
            (0, one("DEL never")),
            (2, one("SET text w")),
        ]
    );
    assert_eq!(core.written().keys, 9);
}

#[test]
fn a_stand_in_holds_no_more_than_it_may() {
    let (mut core, client) = stand_in(true, true, 1000);
    assert_eq!(ask(&mut core, client, &format!("SET a {}", "x".repeat(500))), "+OK\\r\\n");
    for line in [format!("SET b {}", "x".repeat(500)), format!("DEL {}", "y".repeat(500))] {
        assert!(ask(&mut core, client, &line).starts_with("-OOM"), "{line}");
    }
    assert_eq!(ask(&mut core, client, "DEL a"), ":1\\r\\n");
    assert_eq!(core.written().keys, 1);
    assert_eq!(ask(&mut core, client, &format!("SET b {}", "x".repeat(500))), "+OK\\r\\n");
}
