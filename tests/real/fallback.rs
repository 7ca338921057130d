//! Life without Redis, as `[fallback]` has it: real clients, while the server is killed and comes
//! back, or was never there.

use crate::clients::{program, run, script};
use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, installed, show};
use crate::outages::Player;
use serde_json::Value;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const AFTER: &str = "fallback.after = \"100ms\"";

/// What is not known is nil, and what is written meanwhile is written upstream afterwards.
const REPLAYED: [&str; 7] = [
    "keys.version = \"v1\"",
    AFTER,
    "fallback.enabled = true",
    "fallback.reads = \"nil\"",
    "fallback.writes = \"memory\"",
    "fallback.accept_data_loss = true",
    "fallback.on_recovery = \"replay\"",
];

fn state(proxy: &Proxy) -> Value {
    let (status, answer) = proxy.admin("GET", "/api/v1/fallback", "");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn until(proxy: &Proxy, wanted: &str) -> Value {
    eventually(&format!("the fallback is {wanted}"), || {
        let state = state(proxy);
        (state["state"] == wanted).then_some(state)
    })
}

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let mut command: Command = program("redis-cli");
    command.args(["-p", &port.to_string()]).args(arguments).stdin(Stdio::null());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The server is not there at the start. Clients work, it comes, and has what they wrote.
#[test]
fn a_start_without_a_server_and_what_it_is_given_when_it_comes() {
    for kind in KINDS {
        let mut server = Server::start(kind);
        server.kill();
        let mut proxy = Proxy::unready(&server.url(), &REPLAYED);
        until(&proxy, "active");
        proxy.until_ready();
        let (_, checks) = proxy.admin("GET", "/readyz?verbose", "");
        assert!(checks.contains("[+]fallback ok"), "{checks}");
        for protocol in ["2", "3"] {
            let python = program(installed("python/bin/python"));
            let mut command = python;
            let script = script("redis_py_fallback.py");
            run(command.arg(script).arg(proxy.port.to_string()).arg(protocol));
            redis_cli(proxy.port, &["DEL", "queue"]);
        }
        redis_cli(proxy.port, &["RPUSH", "queue", "a", "b"]);
        assert_eq!(redis_cli(proxy.port, &["LRANGE", "queue", "0", "-1"]), "a\nb\n");
        let info = redis_cli(proxy.port, &["INFO"]);
        assert!(info.contains("proxy_fallback_active:1"), "{info}");
        eventually("it is told how much it holds", || {
            (state(&proxy)["keys"].as_u64() >= Some(8)).then_some(())
        });
        server.restart();
        let over = until(&proxy, "off");
        proxy.until_ready();
        assert_eq!(over["last"]["lost"], 0, "{over}");
        assert_eq!(over["last"]["replayed"], 8, "{over}");
        let mut direct = server.dial();
        assert_eq!(show(&direct.words("GET v1:session:1")), show(b"$5\r\nalice\r\n"));
        assert!(direct.words("TTL v1:session:1").starts_with(b":3"), "an hour, or a little less");
        assert_eq!(direct.words("HGET v1:user:1 age"), b"$2\r\n30\r\n");
        assert_eq!(direct.words("LRANGE v1:queue 0 -1"), b"*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(direct.words("ZSCORE v1:scores a"), b"$3\r\n1.5\r\n");
        assert_eq!(direct.words("SCARD v1:tags"), b":2\r\n");
        assert_eq!(direct.words("GET v1:counter"), b"$1\r\n6\r\n");
        direct.words("SELECT 3");
        assert_eq!(direct.words("GET v1:elsewhere"), b"$1\r\n1\r\n");
        assert_eq!(redis_cli(proxy.port, &["GET", "counter"]), "6\n");
        for event in ["\"event\":\"fallback_on\"", "\"event\":\"fallback_off\""] {
            assert!(proxy.log().contains(event), "{event}");
        }
        proxy.assert_alive();
    }
}

/// The server is killed and comes back empty: what was kept is served meanwhile, and nothing of
/// it afterwards.
#[test]
fn what_is_kept_bridges_an_outage_and_ends_with_it() {
    for kind in KINDS {
        let mut server = Server::start(kind);
        server.dial().words("MSET a old b old");
        let settings = ["fallback.enabled = true", AFTER, "cache.admission = \"always\""];
        let proxy = Proxy::start(&server.url(), &settings);
        let mut ours = proxy.dial();
        for key in ["a", "b"] {
            ours.until_hit(&format!("GET {key}"));
        }
        server.kill();
        until(&proxy, "active");
        let mut ours = proxy.dial();
        assert_eq!(ours.words("PING"), b"+PONG\r\n");
        assert_eq!(ours.words("GET a"), b"$3\r\nold\r\n");
        assert!(show(&ours.words("PROXY LAST")).contains("fallback"));
        let refused = ours.words("SET a new");
        assert!(refused.starts_with(b"-ERR proxy: not executed"), "{}", show(&refused));
        assert_eq!(ours.words("MGET a b"), b"*2\r\n$3\r\nold\r\n$3\r\nold\r\n");
        assert!(ours.words("GET other").starts_with(b"-ERR proxy: not executed"));
        server.restart();
        until(&proxy, "off");
        proxy.until_ready();
        for _ in 0..20 {
            let answer = ours.words("GET a");
            assert_eq!(show(&answer), show(b"$-1\r\n"), "the restarted server has no a");
        }
        assert_eq!(ours.words("SET a new"), b"+OK\r\n");
        assert_eq!(server.dial().words("GET a"), b"$3\r\nnew\r\n");
    }
}

/// ioredis keeps one connection through all of it: it reads what was kept and what it has written,
/// and finds that upstream when the server is back.
#[test]
fn ioredis_keeps_its_connection_and_what_it_wrote() {
    for kind in KINDS {
        let mut server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &REPLAYED);
        let folder = TempDir::new().unwrap();
        let mut player = Player::start("ioredis_fallback.js", proxy.port, &folder);
        assert_eq!(player.line(), "ready");
        proxy.dial().until_hit("GET page");
        server.kill();
        until(&proxy, "active");
        player.say("gone");
        assert_eq!(player.line(), "written");
        server.restart();
        let over = until(&proxy, "off");
        proxy.until_ready();
        assert_eq!((&over["last"]["lost"], &over["last"]["replayed"]), (&0.into(), &5.into()));
        player.say("back");
        assert_eq!(player.line(), "ok");
        let mut direct = server.dial();
        assert_eq!(show(&direct.words("GET v1:page")), show(b"$8\r\nas it is\r\n"));
        assert!(direct.words("TTL v1:cart:1").starts_with(b":3"), "an hour, or a little less");
        assert_eq!(direct.words("HGET v1:user:1 age"), b"$2\r\n30\r\n");
        assert_eq!(direct.words("LINDEX v1:jobs 199"), b"$3\r\n199\r\n");
    }
}

/// What may be held is bounded, and a write beyond it is refused as Redis refuses it; by default
/// what was written is forgotten, and that is said.
#[test]
fn memory_is_bounded_and_what_is_dropped_is_told() {
    let mut server = Server::start(Kind::Redis);
    let settings = [
        "fallback.enabled = true",
        AFTER,
        "fallback.writes = \"memory\"",
        "fallback.accept_data_loss = true",
        "fallback.max_bytes = \"1mb\"",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    server.kill();
    until(&proxy, "active");
    let mut ours: Conn = proxy.dial();
    let big = "x".repeat(300_000);
    for key in ["a", "b", "c"] {
        assert_eq!(ours.words(&format!("SET {key} {big}")), b"+OK\r\n");
    }
    assert!(ours.words(&format!("SET d {big}")).starts_with(b"-OOM"));
    assert_eq!(ours.words("DEL a"), b":1\r\n");
    assert_eq!(ours.words(&format!("SET d {big}")), b"+OK\r\n");
    server.restart();
    let over = until(&proxy, "off");
    assert_eq!((&over["last"]["dropped"], &over["last"]["replayed"]), (&4.into(), &0.into()));
    proxy.until_ready();
    eventually("upstream is asked", || (ours.words("GET b") == b"$-1\r\n").then_some(()));
}
