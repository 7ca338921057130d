//! A key version that several instances share: it stands upstream, and all go by it, whatever
//! happened while one of them could not hear.

use crate::harness::{KINDS, Kind, Proxy, Server, eventually};
use crate::jobs::nearside;

const KEY: &str = "system:cache_version";

/// With another first version in its own configuration.
fn member(server: &Server, version: &str, shared: &[&str]) -> Proxy {
    let version = format!("keys.version = \"{version}\"");
    Proxy::start(&server.url(), &[&[version.as_str()], shared].concat())
}

fn version(proxy: &Proxy) -> String {
    let (status, answer) = proxy.admin("GET", "/api/v1/key-versions", "");
    assert_eq!(status, 200, "{answer}");
    answer.split('"').nth(3).unwrap().to_owned()
}

/// Waits until every worker serves under it: that is when the log is told.
fn until(proxy: &Proxy, wanted: &str) {
    let is_last = format!("\"version\":\"{wanted}\",\"was\"");
    eventually(wanted, || {
        let log = proxy.log();
        let last = log.lines().rfind(|line| line.contains("key_version_switched"));
        last?.contains(&is_last).then_some(())
    });
    proxy.until_ready();
}

#[test]
fn a_fleet_begins_with_what_stands_upstream_and_switches_together() {
    let shared = [
        "keys.version_source = \"upstream\"",
        "keys.version_key = \"fleet:version\"",
        "cache.admission = \"always\"",
    ];
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let one = member(&server, "v1", &shared);
        let stands = direct.words("GET fleet:version");
        assert_eq!(stands, b"$2\r\nv1\r\n", "the first writes it");
        // Its own configuration says otherwise, and is only what a first one begins with.
        let two = member(&server, "v7", &shared);
        let (mut a, mut b) = (one.dial(), two.dial());
        a.words("SET k one");
        assert_eq!(b.until_hit("GET k"), b"$3\r\none\r\n");

        let body = "{\"version\":\"v2\",\"expect\":\"v1\"}";
        let (status, answer) = one.admin("PUT", "/api/v1/key-versions/current", body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(direct.words("GET fleet:version"), b"$2\r\nv2\r\n");
        until(&two, "v2");
        assert_eq!(b.words("GET k"), b"$-1\r\n");
        assert_eq!(two.count("nearside_key_version_switches_total{source=\"upstream\"}"), 2);
        let (status, answer) = two.admin("PUT", "/api/v1/key-versions/current", body);
        assert_eq!(status, 409, "{answer}");

        // Whoever may write the key switches them all.
        direct.words("SET fleet:version v1");
        for proxy in [&one, &two] {
            until(proxy, "v1");
        }
        assert_eq!([a.words("GET k"), b.words("GET k")], [b"$3\r\none\r\n"; 2]);

        // An emptied server does not take them back to where they began.
        direct.words("SET fleet:version v3");
        until(&two, "v3");
        direct.words("FLUSHALL");
        eventually("it is written again", || {
            (direct.words("GET fleet:version") == b"$2\r\nv3\r\n").then_some(())
        });
        b.words("SET k three");
        assert_eq!(direct.words("GET v3:k"), b"$5\r\nthree\r\n");

        // Nonsense changes nothing, and is told.
        direct.words("SET fleet:version a:b");
        eventually("it is told", || two.log().contains("key_version_invalid").then_some(()));
        assert_eq!(b.words("GET k"), b"$5\r\nthree\r\n");
        direct.words("SET fleet:version v3");
        until(&two, "v3");
        b.until_hit("GET k");
    }
}

/// Cut off, it hears nothing; let in again, its first request goes by the version of the others.
#[test]
fn no_request_goes_by_a_version_that_was_left_while_it_could_not_hear() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("ACL SETUSER far on >secret ~* &* +@all");
    let near = member(&server, "v1", &["keys.version_source = \"upstream\""]);
    let url = server.url().replace("redis://", "redis://far:secret@");
    let settings = [
        "keys.version = \"v1\"",
        "keys.version_source = \"upstream\"",
        "upstream.on_down = \"error\"",
        "upstream.reconnect_wait = \"50ms\"",
    ];
    let far = Proxy::start(&url, &settings);
    let mut client = far.dial();
    assert_eq!(client.words("SET probe 1"), b"+OK\r\n");
    for round in 2..6 {
        direct.words("ACL SETUSER far off");
        direct.words("CLIENT KILL USER far");
        eventually("it is cut off", || client.words("SET probe 1").starts_with(b"-").then_some(()));
        let body = format!("{{\"version\":\"v{round}\"}}");
        let (status, answer) = near.admin("PUT", "/api/v1/key-versions/current", &body);
        assert_eq!(status, 200, "{answer}");
        // Whatever still comes under the version before would be seen.
        let before = format!("v{}:probe", round - 1);
        direct.words(&format!("DEL {before}"));
        direct.words("ACL SETUSER far on");
        eventually("it is back", || (client.words("SET probe 1") == b"+OK\r\n").then_some(()));
        let exist = format!("EXISTS {before}");
        assert_eq!(direct.words(&exist), b":0\r\n", "{}", far.log());
        assert_eq!(direct.words(&format!("GET v{round}:probe")), b"$1\r\n1\r\n");
    }
}

/// Nothing is asked before the version is known, from the start on.
#[test]
fn the_first_request_waits_for_the_version() {
    let mut server = Server::start(Kind::Redis);
    server.dial().words(&format!("SET {KEY} v9"));
    server.dial().words("SAVE");
    server.kill();
    let settings = ["keys.version = \"v1\"", "keys.version_source = \"upstream\""];
    let proxy = Proxy::unready(&server.url(), &settings);
    let mut client = proxy.dial();
    server.restart();
    eventually("it answers", || {
        client = proxy.dial();
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n");
        (client.try_reply()? == b"+OK\r\n").then_some(())
    });
    assert_eq!(server.dial().words("EXISTS v9:k v1:k"), b":1\r\n");
    assert_eq!(server.dial().words("EXISTS v1:k"), b":0\r\n");
}

#[test]
fn a_user_that_may_not_read_it_is_told_and_caches_nothing() {
    let mut server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("ACL SETUSER small on >secret ~v1:* &* +@all");
    let url = server.url().replace("redis://", "redis://small:secret@");
    let settings = [
        "keys.version = \"v1\"",
        "keys.version_source = \"upstream\"",
        "cache.admission = \"always\"",
    ];
    let proxy = Proxy::unready(&url, &settings);
    eventually("it is told", || proxy.log().contains("key_version_unknown").then_some(()));
    let mut client = proxy.dial();
    assert_eq!(client.words("SET k 1"), b"+OK\r\n");
    for _ in 0..5 {
        assert_eq!(client.words("GET k"), b"$1\r\n1\r\n");
    }
    assert_eq!(proxy.count("nearside_cache_lookups_total{result=\"hit\"}"), 0);
    let body = "{\"version\":\"v2\"}";
    let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", body);
    assert_eq!(status, 502, "{answer}");
    assert!(answer.contains("NOPERM"), "{answer}");
    assert_eq!(version(&proxy), "v1", "nothing has changed");
    // Exit codes: it would not, and it is not there.
    let set = || nearside(&proxy, &["version", "set", "v2", "--yes"]).status.code();
    assert_eq!(set(), Some(1));
    server.kill();
    assert_eq!(set(), Some(69));
    let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", body);
    assert!(status == 503 && answer.contains("upstream-unavailable"), "{answer}");
}
