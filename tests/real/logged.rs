//! What the log says for those who wait for it: who did what, and whether nearside is ready.

use crate::harness::{Kind, Proxy, Server, eventually};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The events of this name so far.
fn events(proxy: &Proxy, name: &str) -> Vec<Value> {
    let log = proxy.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == name).collect()
}

#[test]
fn readiness_is_logged_when_it_comes_and_goes() {
    let mut server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &[]);
    let until = |name: &str, count: usize| {
        eventually(name, || {
            let events = events(&proxy, name);
            (events.len() == count).then(|| events.last().cloned())
        })
    };
    until("ready", 1);
    proxy.admin("POST", "/api/v1/drain", "");
    let why = until("not_ready", 1).unwrap();
    assert_eq!(why["failing"], "draining: yes: no new work, please", "{why}");
    proxy.admin("DELETE", "/api/v1/drain", "");
    until("ready", 2);
    server.kill();
    let why = until("not_ready", 2).unwrap();
    assert!(why["failing"].as_str().unwrap().contains("upstream: not reached"), "{why}");
    assert_eq!(why["level"], "WARN");
}

/// A change with a token.
fn put_mode(proxy: &Proxy, token: &str) -> String {
    let mut stream = TcpStream::connect(proxy.admin_address()).unwrap();
    let ask = format!(
        "PUT /api/v1/mode HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 17\r\nConnection: close\r\n\r\n\
         {{\"mode\":\"bypass\"}}"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn who_changed_something_is_logged() {
    let server = Server::start(Kind::Redis);
    let actors = |proxy: &Proxy| {
        let actor = |event: &Value| event["actor"].as_str().unwrap().to_owned();
        events(proxy, "admin_action").iter().map(actor).collect::<Vec<_>>()
    };
    let proxy = Proxy::start(&server.url(), &[]);
    proxy.admin("PUT", "/api/v1/mode", "{\"mode\":\"bypass\"}");
    assert_eq!(actors(&proxy), ["127.0.0.1"], "nobody needs a token");
    let mut client = proxy.dial();
    client.words("PROXY CLEAR");
    let actor = actors(&proxy).pop().unwrap();
    assert!(actor.starts_with("127.0.0.1:") && actor.len() > 10, "{actor}");

    let token = server.folder.path().join("token");
    fs::write(&token, "t".repeat(40)).unwrap();
    let file = format!("admin.token_file = \"{}\"", token.display());
    let proxy = Proxy::start(&server.url(), &[&file]);
    assert_eq!(put_mode(&proxy, &"t".repeat(40)), "200");
    assert_eq!(put_mode(&proxy, &"u".repeat(40)), "401");
    assert_eq!(actors(&proxy), ["operator"]);
}
