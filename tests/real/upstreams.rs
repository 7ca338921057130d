//! What an operator says of the links to upstream: none, or all anew. Clients see an upstream that
//! is down, or nothing at all; what is cached is never older than its rule allows.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, request, show};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells nearside to do something with its links to this server; how it fares then.
fn tell(proxy: &Proxy, server: &Server, what: &str) -> Value {
    let path = format!("/api/v1/upstreams/127.0.0.1:{}/{what}", server.port);
    let (status, answer) = proxy.admin("POST", &path, "");
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The numbers of nearside's connections, as the server counts them.
fn links(server: &Server) -> BTreeSet<u64> {
    let list = String::from_utf8(server.dial().words("CLIENT LIST")).unwrap();
    let ours = list.lines().filter(|line| line.contains(" name=nearside:"));
    let id = |line: &str| line.split("id=").nth(1)?.split(' ').next()?.parse().ok();
    ours.filter_map(id).collect()
}

/// True if the answer is an error, or the connection has ended instead.
fn is_refused(conn: &mut Conn, line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    conn.send(&request(&words));
    conn.try_reply().is_none_or(|answer| answer.starts_with(b"-"))
}

#[test]
fn an_upstream_that_is_disabled_is_down() {
    let server = Server::start(Kind::Redis);
    let settings = [
        "upstream.on_down = \"error\"",
        "cache.admission = \"always\"",
        "rules = [{ match = \"t*\", level = \"ttl\" }]",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut ours = proxy.dial();
    ours.words("MSET a 1 t 1");
    ours.until_hit("GET a");
    ours.until_hit("GET t");
    let (mut listener, mut waiter) = (proxy.dial(), proxy.dial());
    listener.words("SUBSCRIBE news");
    waiter.send(&request(&["BLPOP", "list", "0"]));
    eventually("it waits", || {
        show(&server.dial().words("INFO clients")).contains("blocked_clients:1").then_some(())
    });

    assert_eq!(tell(&proxy, &server, "disable")["state"], "disabled");
    eventually("no link is left", || links(&server).is_empty().then_some(()));
    assert!(listener.rest().is_empty(), "as when the server dies");
    assert!(waiter.try_reply().is_none_or(|answer| answer.starts_with(b"-")));
    assert!(is_refused(&mut ours, "GET a"), "nobody would tell of changes");
    assert!(is_refused(&mut ours, "SET b 1"));
    assert_eq!(ours.words("GET t"), b"$1\r\n1\r\n", "its rule needs no tracking link");
    assert!((proxy.metric("nearside_upstream_enabled{") - 0.0).abs() < f64::EPSILON);
    assert!((proxy.metric("nearside_upstream_up{") - 0.0).abs() < f64::EPSILON);
    let (status, answer) = proxy.admin("GET", "/readyz", "");
    assert!(status == 503 && answer.contains("disabled by an operator"), "{answer}");
    let shown = Command::new(env!("CARGO_BIN_EXE_nearside"))
        .env("NEARSIDE_ADMIN_URL", proxy.admin_url())
        .arg("upstreams")
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("  disabled  "), "{shown}");
    assert!(show(&ours.words("PROXY UPSTREAMS")).contains("disabled"));
    // Once more is no news.
    tell(&proxy, &server, "disable");
    assert_eq!(proxy.log().matches("\"event\":\"upstream_disabled\"").count(), 1);
    assert!(proxy.log().contains("\"action\":\"upstream_disable\""));
    assert!(links(&server).is_empty());

    server.dial().words("SET a 2");
    tell(&proxy, &server, "enable");
    proxy.until_ready();
    assert_eq!(ours.words("GET a"), b"$1\r\n2\r\n");
    ours.until_hit("GET a");
    assert!(proxy.log().contains("\"event\":\"upstream_enabled\""));
    let (status, _) = proxy.admin("POST", "/api/v1/upstreams/db:1/disable", "");
    assert_eq!(status, 404);
}

#[test]
fn links_are_opened_anew_and_no_request_fails() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["cache.admission = \"always\""]);
    let mut listener = proxy.dial();
    listener.words("SUBSCRIBE news");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (mut conn, mut count) = (proxy.dial(), 0_u64);
            while !is_done.load(Ordering::Relaxed) {
                count += 1;
                let value = count.to_string();
                assert_eq!(conn.ask(&["SET", "n", &value]), b"+OK\r\n");
                let wanted = format!("${}\r\n{value}\r\n", value.len());
                assert_eq!(conn.words("GET n"), wanted.as_bytes());
            }
            count
        });
        for _ in 0..3 {
            let before = eventually("links", || Some(links(&server)).filter(|all| !all.is_empty()));
            tell(&proxy, &server, "reconnect");
            eventually("all links are others", || {
                let now = links(&server);
                (!now.is_empty() && now.is_disjoint(&before)).then_some(())
            });
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(traffic.join().unwrap() > 0);
    });
    assert!(listener.rest().is_empty(), "what a link of its own holds goes with it");
    let mut ours = proxy.dial();
    ours.words("SET a 1");
    ours.until_hit("GET a");
    server.dial().words("SET a 2");
    eventually("the new tracking link tells", || {
        (ours.words("GET a") == b"$1\r\n2\r\n").then_some(())
    });
    assert!(proxy.log().contains("\"action\":\"upstream_reconnect\""));
    assert!(!proxy.log().contains("\"event\":\"upstream_down\""), "nobody was away");
}
