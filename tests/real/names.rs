//! Keys of several versions beside each other: those of a rule that has its own, the usual ones,
//! and those that are never rewritten. Clients see one keyspace.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, show};
use crate::jobs::{ended, nearside};
use serde_json::Value;
use std::fs;

const SETTINGS: &[&str] = &[
    "keys.version = \"v1\"",
    "keys.exclude = [\"lock:*\"]",
    "rules = [{ match = \"sub:*\", version = \"v3\" }, { match = \"job:*\", version = \"v4\" }]",
    "cache.admission = \"always\"",
];

/// A client's key, and its name upstream.
const NAMED: [(&str, &str); 4] =
    [("user:1", "v1:user:1"), ("sub:1", "v3:sub:1"), ("job:1", "v4:job:1"), ("lock:1", "lock:1")];

/// A list's elements, sorted.
fn listed(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8(reply.to_vec()).unwrap();
    let words = text.split("\r\n").skip(1).filter(|line| !line.starts_with(['$', '*']));
    let mut words: Vec<String> = words.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    words.sort();
    words
}

/// All that a SCAN finds.
fn scanned(client: &mut Conn, options: &str) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let reply = client.words(&format!("SCAN {cursor} {options}"));
        let text = String::from_utf8(reply).unwrap();
        let words: Vec<&str> = text.split("\r\n").collect();
        words[2].clone_into(&mut cursor);
        found.extend(words[4..].iter().skip(1).step_by(2).map(|key| (*key).to_owned()));
        if cursor == "0" {
            found.retain(|key| !key.is_empty());
            found.sort();
            found.dedup();
            return found;
        }
    }
}

fn rewrite(proxy: &Proxy, from: &str, to: &str) {
    let path = proxy.folder.path().join("proxy.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
    let (status, answer) = proxy.admin("POST", "/api/v1/config/reload", "{}");
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn each_key_of_a_command_goes_by_its_own_name() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut client = proxy.dial();
        assert_eq!(client.words("MSET user:1 a sub:1 b job:1 c lock:1 d"), b"+OK\r\n");
        assert_eq!(direct.words("DBSIZE"), b":4\r\n");
        for (at, (key, name)) in NAMED.into_iter().enumerate() {
            let value = format!("$1\r\n{}\r\n", ["a", "b", "c", "d"][at]);
            assert_eq!(show(&direct.words(&format!("GET {name}"))), show(value.as_bytes()));
            assert_eq!(show(&client.until_hit(&format!("GET {key}"))), show(value.as_bytes()));
        }
        let all = b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n";
        for _ in 0..2 {
            assert_eq!(client.words("MGET user:1 sub:1 job:1 lock:1"), all);
        }
        assert_eq!(client.words("RENAME user:1 sub:2"), b"+OK\r\n");
        assert_eq!(direct.words("EXISTS v1:user:1 v3:sub:2"), b":1\r\n");
        assert_eq!(client.words("GET sub:2"), b"$1\r\na\r\n");
        assert_eq!(client.words("GET user:1"), b"$-1\r\n");
        let script = "return redis.call('SET',KEYS[1],redis.call('GET',KEYS[2]))";
        client.ask(&["EVAL", script, "2", "lock:2", "sub:2"]);
        assert_eq!(direct.words("GET lock:2"), b"$1\r\na\r\n");
        // Keys in replies and in errors are the client's.
        client.words("RPUSH sub:list x");
        let popped = b"*2\r\n$8\r\nsub:list\r\n$1\r\nx\r\n";
        assert_eq!(client.words("BLPOP lock:list sub:list user:list 0"), popped);
        client.words("XADD lock:s 1-1 f v");
        let read = show(&client.words("XREADGROUP GROUP g c STREAMS sub:s >"));
        assert!(read.contains("sub:s") && !read.contains("v3"), "{read}");
        let read = show(&client.words("XREAD STREAMS user:s lock:s 0 0"));
        assert!(read.contains("lock:s") && !read.contains("v1"), "{read}");
        let transaction =
            ["MULTI", "SET sub:t 1", "SET lock:t 2", "KEYS *:t", "SCAN 0 MATCH l*:t COUNT 999"];
        for line in transaction {
            client.words(line);
        }
        let executed = show(&client.words("EXEC"));
        assert!(!executed.contains("v3") && executed.matches("lock:t").count() == 2, "{executed}");
        assert_eq!(direct.words("MGET v3:sub:t lock:t"), b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    }
}

#[test]
fn lists_show_the_keys_of_every_version_in_force_and_no_others() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        for foreign in ["v2:user:1", "v1:sub:1", "v3:user:1", "user:1", "v1:lock:1", "v3"] {
            direct.words(&format!("SET {foreign} x"));
        }
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut client = proxy.dial();
        assert_eq!(client.words("RANDOMKEY"), b"$-1\r\n");
        client.words("MSET user:1 a sub:1 b job:1 c lock:1 d user:lock:1 e v1:user:1 f");
        let (all, ones) = (
            ["job:1", "lock:1", "sub:1", "user:1", "user:lock:1", "v1:user:1"],
            ["lock:1", "user:lock:1"],
        );
        assert_eq!(listed(&client.words("KEYS *")), all);
        assert_eq!(scanned(&mut client, "COUNT 2"), all);
        assert_eq!(scanned(&mut client, "MATCH * COUNT 3"), all);
        for (pattern, found) in [
            ("*lock:1", &ones[..]),
            ("sub:*", &["sub:1"]),
            ("lock:?", &["lock:1"]),
            ("user:1", &["user:1"]),
            ("v1:*", &["v1:user:1"]),
        ] {
            assert_eq!(listed(&client.words(&format!("KEYS {pattern}"))), found, "{pattern}");
            assert_eq!(scanned(&mut client, &format!("MATCH {pattern} COUNT 3")), found);
        }
        let drawn = show(&client.words("RANDOMKEY"));
        assert!(all.iter().any(|key| drawn.contains(&format!("{key}\\r\\n"))), "{drawn}");

        // What is shared is nobody's to flush; other versions' is neither.
        assert_eq!(client.words("FLUSHDB"), b"+OK\r\n");
        assert_eq!(listed(&client.words("KEYS *")), ["lock:1"]);
        assert_eq!(direct.words("DBSIZE"), b":7\r\n");
        client.words("MSET user:1 a sub:1 b");
        assert_eq!(client.words("FLUSHALL"), b"+OK\r\n");
        assert_eq!(listed(&client.words("KEYS *")), ["lock:1"]);
        assert_eq!(direct.words("DBSIZE"), b":7\r\n");
    }
}

#[test]
fn every_name_is_tracked() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut client = proxy.dial();
        for (key, name) in NAMED {
            client.words(&format!("SET {key} old"));
            assert_eq!(client.until_hit(&format!("GET {key}")), b"$3\r\nold\r\n");
            direct.words(&format!("SET {name} new"));
            eventually(key, || {
                (client.words(&format!("GET {key}")) == b"$3\r\nnew\r\n").then_some(())
            });
        }
    }
}

#[test]
fn who_tracks_and_who_listens_hears_of_all_versions() {
    for kind in KINDS {
        let server = Server::with(kind, &["--notify-keyspace-events", "KEA"]);
        let mut direct = server.dial();
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let (mut tracker, mut broad) = (proxy.dial(), proxy.dial());
        for client in [&mut tracker, &mut broad] {
            client.words("HELLO 3");
        }
        tracker.words("CLIENT TRACKING ON");
        broad.words("CLIENT TRACKING ON BCAST");
        let info = show(&broad.words("CLIENT TRACKINGINFO"));
        assert!(info.ends_with("prefixes\\r\\n*1\\r\\n$0\\r\\n\\r\\n"), "{info}");
        let mut narrow = proxy.dial();
        narrow.words("HELLO 3");
        narrow.words("CLIENT TRACKING ON BCAST PREFIX s PREFIX lock:");
        let info = show(&narrow.words("CLIENT TRACKINGINFO"));
        let two = "prefixes\\r\\n*2\\r\\n$5\\r\\nlock:\\r\\n$1\\r\\ns\\r\\n";
        assert!(info.ends_with(two), "{info}");
        let mut monitor = proxy.dial();
        monitor.words("MONITOR");
        for (key, name) in NAMED {
            tracker.words(&format!("GET {key}"));
            direct.words(&format!("SET {name} 1"));
            let push =
                format!(">2\\r\\n$10\\r\\ninvalidate\\r\\n*1\\r\\n${}\\r\\n{key}\\r\\n", key.len());
            assert_eq!(show(&tracker.reply()), push);
            assert_eq!(show(&broad.reply()), push);
            if !["user:1", "job:1"].contains(&key) {
                assert_eq!(show(&narrow.reply()), push);
            }
            let mut lines = std::iter::repeat_with(|| show(&monitor.reply()));
            let line = lines.find(|line| line.contains(r#"\"SET\" "#)).unwrap();
            assert!(line.contains(&format!(r#"\"SET\" \"{key}\""#)), "{line}");
        }

        let mut listener = proxy.dial();
        listener.words("PSUBSCRIBE __keyspace@0__:*:1");
        let confirmed =
            "*3\\r\\n$10\\r\\npsubscribe\\r\\n$19\\r\\n__keyspace@0__:lock:1\\r\\n:2\\r\\n";
        let confirmed = confirmed.replace("$19", "$21");
        assert_eq!(show(&listener.words("PSUBSCRIBE __keyspace@0__:lock:1")), confirmed);
        let mut one = proxy.dial();
        one.words("SUBSCRIBE __keyspace@0__:sub:1");
        for name in ["v2:user:1", "v1:user:2", "v3:user:1"] {
            direct.words(&format!("SET {name} 1"));
        }
        for (key, name) in NAMED {
            direct.words(&format!("SET {name} 1"));
            let mut patterns = vec!["*:1"];
            patterns.extend((key == "lock:1").then_some("lock:1"));
            let mut heard: Vec<String> = patterns.iter().map(|_| show(&listener.reply())).collect();
            heard.sort_by_key(String::len);
            for (pattern, heard) in patterns.into_iter().zip(heard) {
                let words = ["__keyspace@0__:", pattern, "\\r\\n"].concat();
                assert!(heard.contains(&words), "{heard}");
                assert!(heard.contains(&format!("__keyspace@0__:{key}\\r\\n")), "{heard}");
            }
        }
        let heard = show(&one.reply());
        assert!(heard.contains("__keyspace@0__:sub:1\\r\\n") && heard.contains("set"), "{heard}");
        let ended = show(&listener.words("PUNSUBSCRIBE __keyspace@0__:*:1"));
        assert!(ended.contains("__keyspace@0__:*:1\\r\\n:1"), "{ended}");
    }
}

#[test]
fn a_switch_leaves_a_rules_version_and_a_reload_changes_it() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut client = proxy.dial();
        for (key, _) in NAMED {
            client.words(&format!("SET {key} old"));
            assert_eq!(client.until_hit(&format!("GET {key}")), b"$3\r\nold\r\n");
        }
        let body = "{\"version\":\"v2\"}";
        let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(client.words("GET user:1"), b"$-1\r\n");
        for key in ["sub:1", "job:1", "lock:1"] {
            assert_eq!(client.words(&format!("GET {key}")), b"$3\r\nold\r\n", "{key}");
            assert_eq!(client.until_hit(&format!("GET {key}")), b"$3\r\nold\r\n", "{key}");
        }
        // (The file still says v1, which was in force at the start: the switch stays.)
        rewrite(&proxy, "version = \"v3\"", "version = \"v5\"");
        assert!(proxy.log().contains("keys_named_anew"));
        assert_eq!(client.words("GET sub:1"), b"$-1\r\n");
        assert_eq!(client.words("GET job:1"), b"$3\r\nold\r\n");
        client.words("SET sub:1 new");
        assert_eq!(direct.words("MGET v3:sub:1 v5:sub:1"), b"*2\r\n$3\r\nold\r\n$3\r\nnew\r\n");
        // Its changes are heard of, too.
        client.until_hit("GET sub:1");
        direct.words("SET v5:sub:1 newer");
        eventually("heard", || (client.words("GET sub:1") == b"$5\r\nnewer\r\n").then_some(()));
        let told = nearside(&proxy, &["version", "show"]).stdout;
        assert_eq!(told, b"v2\nsub:*: v5\njob:*: v4\nexcluded: lock:*\n");
        let explained =
            proxy.admin("POST", "/api/v1/explain", "{\"command\":[\"DEL\",\"sub:1\"]}").1;
        assert!(explained.contains("\"upstream\":\"v5:sub:1\""), "{explained}");
        let (_, told) = proxy.admin("GET", "/api/v1/key-versions", "");
        let rules = "[{\"match\":[\"sub:*\"],\"version\":\"v5\"},{\"match\":[\"job:*\"],\"version\":\"v4\"}]";
        let expected = format!(
            "{{\"current\":\"v2\",\"switching_to\":null,\"rules\":{rules},\"exclude\":[\"lock:*\"]}}"
        );
        assert_eq!(told.trim(), expected);

        rewrite(&proxy, "[\"lock:*\"]", "[]");
        assert_eq!(client.words("GET lock:1"), b"$-1\r\n");
        rewrite(&proxy, "keys.exclude = []", "keys.exclude = [\"user:*\"]");
        client.words("SET user:1 shared");
        assert_eq!(direct.words("GET user:1"), b"$6\r\nshared\r\n");
    }
}

/// Without a version of all others, too: then only what has one moves.
#[test]
fn a_rule_may_be_all_that_has_a_version() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("SET queue:1 waiting");
    let rules =
        ["rules = [{ match = \"sub:*\", version = \"v3\" }]", "cache.admission = \"always\""];
    let proxy = Proxy::start(&server.url(), &rules);
    let mut client = proxy.dial();
    client.words("SET sub:1 a");
    assert_eq!(direct.words("GET v3:sub:1"), b"$1\r\na\r\n");
    assert_eq!(client.until_hit("GET queue:1"), b"$7\r\nwaiting\r\n");
    direct.words("SET queue:1 served");
    eventually("heard", || (client.words("GET queue:1") == b"$6\r\nserved\r\n").then_some(()));
    // What looks like the other's name is not that key.
    client.words("SET v3:sub:1 b");
    assert_eq!(client.words("GET sub:1"), b"$1\r\na\r\n");
    assert_eq!(listed(&client.words("KEYS *")), ["queue:1", "sub:1", "v3:sub:1"]);
    assert_eq!(client.words("FLUSHDB"), b"+OK\r\n");
    assert_eq!(direct.words("DBSIZE"), b":0\r\n");

    // Whether anything is rewritten at all waits for a restart.
    rewrite(&proxy, ", version = \"v3\"", "");
    client.words("SET sub:1 a");
    assert_eq!(direct.words("EXISTS v3:sub:1"), b":1\r\n");
}

#[test]
fn jobs_know_every_name() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let run = |path: &str, body: &str| {
        let (status, answer) = proxy.admin("POST", path, body);
        assert_eq!(status, 202, "{answer}");
        let begun: Value = serde_json::from_str(&answer).unwrap();
        let job = ended(&proxy, begun["id"].as_u64().unwrap());
        assert_eq!(job["state"], "done", "{job}");
    };
    direct.words("MSET user:1 a sub:1 b lock:1 c v9:x d");
    let rate = "{\"rate_per_second\":0}";
    // Each into its own version, and no other; what is shared stays.
    run("/api/v1/key-versions/v1/adopt", rate);
    assert_eq!(direct.words("EXISTS v1:user:1 sub:1 lock:1 v1:v9:x"), b":4\r\n");
    run("/api/v1/key-versions/v3/adopt", rate);
    assert_eq!(direct.words("EXISTS v3:sub:1 lock:1"), b":2\r\n");
    for version in ["v1", "v3", "v4"] {
        let path = format!("/api/v1/key-versions/{version}/purge");
        assert_eq!(proxy.admin("POST", &path, "{}").0, 409, "{version}");
    }
    direct.words("MSET v9:y 1 v2:y 1");
    run("/api/v1/key-versions/v9/purge", rate);
    assert_eq!(direct.words("EXISTS v9:y v2:y"), b":1\r\n");
    run("/api/v1/warm/runs", "{\"pattern\":\"*:1\"}");
    let mut client = proxy.dial();
    let before = client.hits();
    assert_eq!(
        client.words("MGET user:1 sub:1 lock:1"),
        b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    );
    assert_eq!(client.hits() - before, 3);
    let order = "{\"pattern\":\"*:1\",\"upstream\":true}";
    let (status, answer) = proxy.admin("POST", "/api/v1/invalidations", order);
    assert_eq!(status / 100, 2, "{answer}");
    eventually("they are gone", || {
        let left = direct.words("EXISTS v1:user:1 v3:sub:1 lock:1");
        (left == b":0\r\n").then_some(())
    });
    assert_eq!(direct.words("EXISTS v2:y"), b":1\r\n");
}
