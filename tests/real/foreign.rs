//! A write made directly on the server, by someone who never heard of nearside, is seen through
//! nearside at once.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, show};

/// Each foreign write changes the answer of a read that was a hit: `(setup, read, write)`.
const CHANGES: &[(&str, &str, &str)] = &[
    ("SET {p}a 1", "GET a", "SET {p}a 2"),
    ("SET {p}b 1", "GET b", "DEL {p}b"),
    ("DEL {p}c", "GET c", "SET {p}c 1"),
    ("SET {p}d 1", "MGET d a", "INCR {p}d"),
    ("SET {p}e 1", "STRLEN e", "APPEND {p}e x"),
    ("SET {p}f 1", "GET f", "RENAME {p}f {p}f2"),
    ("SET {p}g 1", "EXISTS g", "UNLINK {p}g"),
    ("SET {p}h 1", "TYPE h", "EXPIRE {p}h 0"),
    ("HSET {p}i f 1", "HGET i f", "HINCRBY {p}i f 1"),
    ("HSET {p}j f 1", "HGETALL j", "HDEL {p}j f"),
    ("HSET {p}k f 1", "HLEN k", "HSET {p}k g 1"),
    ("SADD {p}l a", "SMEMBERS l", "SADD {p}l b"),
    ("SADD {p}m a", "SISMEMBER m b", "SADD {p}m b"),
    ("RPUSH {p}n a b", "LRANGE n 0 -1", "LPOP {p}n"),
    ("RPUSH {p}o a b", "LLEN o", "RPOPLPUSH {p}o {p}o2"),
    ("ZADD {p}q 1 a", "ZSCORE q a", "ZINCRBY {p}q 1 a"),
    ("ZADD {p}r 1 a", "ZRANGE r 0 -1", "ZADD {p}r 2 b"),
    ("ZADD {p}s 1 a", "ZCARD s", "ZADD {p}s 1 b"),
    ("SET {p}t 1", "GET t", "SETBIT {p}t 7 0"),
    ("SET {p}u abc", "GETRANGE u 1 -1", "SETRANGE {p}u 1 x"),
    ("SET {p}v 1", "GET v", "COPY {p}a {p}v REPLACE"),
];

#[test]
fn foreign_writes_are_seen() {
    for kind in KINDS.into_iter().chain([Kind::Redis8]) {
        for version in ["", "v1"] {
            let server = Server::start(kind);
            let setting = format!("keys.version = \"{version}\"");
            let proxy = Proxy::start(&server.url(), &[&setting]);
            let prefix = if version.is_empty() { String::new() } else { format!("{version}:") };
            let (mut foreign, mut ours) = (server.dial(), proxy.dial());
            for (setup, read, write) in CHANGES {
                assert!(!foreign.words(&setup.replace("{p}", &prefix)).starts_with(b"-"));
                let before = ours.until_hit(read);
                assert!(!foreign.words(&write.replace("{p}", &prefix)).starts_with(b"-"));
                let after = eventually(&format!("{write} through {read}"), || {
                    Some(ours.words(read)).filter(|answer| *answer != before)
                });
                // And it stays so: no older reply comes back as a hit.
                assert_eq!(show(&until_hit_or_gone(&mut ours, read)), show(&after), "{read}");
            }
        }
    }
}

/// As [`Conn::until_hit`]; the reply of a key that is gone is not kept, unless it is nil.
fn until_hit_or_gone(ours: &mut Conn, read: &str) -> Vec<u8> {
    let key = read.split(' ').nth(1).unwrap();
    if ours.words(&format!("EXISTS {key}")) == b":0\r\n" {
        ours.words(read)
    } else {
        ours.until_hit(read)
    }
}

/// FLUSHALL and FLUSHDB, said past nearside, empty its cache.
#[test]
fn a_foreign_flush_is_seen() {
    for kind in KINDS {
        for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"] {
            let server = Server::start(kind);
            let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
            let (mut foreign, mut ours) = (server.dial(), proxy.dial());
            ours.words("SET a 1");
            ours.until_hit("GET a");
            foreign.words(flush);
            eventually(flush, || (ours.words("GET a") == b"$-1\r\n").then_some(()));
        }
    }
}

/// Both ways by one connection each: who has its own write acknowledged reads nothing older, and
/// what another proxy's client wrote is seen.
#[test]
fn two_proxies_agree() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = &["keys.version = \"v1\"", "cache.admission = \"always\""];
        let (first, second) =
            (Proxy::start(&server.url(), settings), Proxy::start(&server.url(), settings));
        let (mut one, mut two) = (first.dial(), second.dial());
        for number in 0..200 {
            let value = format!("${}\r\n{number}\r\n", number.to_string().len()).into_bytes();
            two.until_hit("GET a");
            one.words(&format!("SET a {number}"));
            assert_eq!(one.words("GET a"), value, "its own write");
            eventually("the other proxy sees it", || (two.words("GET a") == value).then_some(()));
        }
        assert!(two.hits() > 100, "hits were served all the while: {}", two.hits());
    }
}

/// A42: a flush empties what is cached of other databases, too, however it is said.
#[test]
fn a42_a_flush_of_another_database_is_seen() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"\""]);
        let (mut ours, mut other) = (proxy.dial(), proxy.dial());
        other.words("SELECT 1");
        for flush in [&["FLUSHALL"][..], &["MULTI", "FLUSHALL", "EXEC"]] {
            ours.words("SET a 1");
            ours.until_hit("GET a");
            for line in flush {
                other.words(line);
            }
            assert_eq!(ours.words("GET a"), b"$-1\r\n", "{flush:?}");
        }
    }
}

/// A43: no server announces SWAPDB. Said through nearside it is known all the same.
#[test]
fn a43_swapdb_through_nearside_is_seen() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"\""]);
        let (mut ours, mut other) = (proxy.dial(), proxy.dial());
        other.words("SELECT 1");
        other.words("SET a other");
        ours.words("SET a ours");
        for answer in [&b"$5\r\nother\r\n"[..], b"$4\r\nours\r\n"] {
            ours.until_hit("GET a");
            assert_eq!(other.words("SWAPDB 0 1"), b"+OK\r\n");
            assert_eq!(ours.words("GET a"), answer);
        }
    }
}

/// A51: what the server evicts for want of room is announced as any change.
#[test]
fn a51_what_the_server_evicts_is_not_served() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["cache.admission = \"always\""]);
        let (mut foreign, mut ours) = (server.dial(), proxy.dial());
        let value = "v".repeat(10_000);
        let keys: Vec<String> = (0..50).map(|number| format!("k{number}")).collect();
        for key in &keys {
            ours.words(&format!("SET {key} {value}"));
            ours.until_hit(&format!("GET {key}"));
        }
        foreign.words("CONFIG SET maxmemory-policy allkeys-random");
        foreign.words("CONFIG SET maxmemory 1");
        eventually("all is evicted", || (foreign.words("DBSIZE") == b":0\r\n").then_some(()));
        foreign.words("CONFIG SET maxmemory 0");
        for key in &keys {
            let read = format!("GET {key}");
            eventually(&read, || (ours.words(&read) == b"$-1\r\n").then_some(()));
        }
    }
}

/// A54: a group's pending entries change without a push.
#[test]
fn a54_xpending_is_always_asked_of_upstream() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["cache.admission = \"always\""]);
        let mut ours = proxy.dial();
        ours.words("XADD s 1-1 f v");
        ours.words("XGROUP CREATE s g 0");
        for _ in 0..3 {
            assert!(ours.words("XPENDING s g").starts_with(b"*4\r\n:0\r\n"));
        }
        ours.words("XREADGROUP GROUP g c STREAMS s >");
        assert!(ours.words("XPENDING s g").starts_with(b"*4\r\n:1\r\n"));
    }
}
