//! What an operator asks about one key or one request while the proxy runs: over HTTP, and by the
//! command line. Keys and values need not be text.

use crate::harness::{Conn, Kind, Proxy, Server, eventually};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

const SETTINGS: &[&str] = &["keys.version = \"v1\"", "cache.ttl = \"1h\"", "cache.ttl_jitter = 0"];
const SHOWN: &[&str] = &["cache.ttl = \"1h\"", "admin.show_values = true"];

/// A key that is no UTF-8, and the same in base64.
const BINARY: &[u8] = b"bin:\xff";
const BINARY_BASE64: &str = "YmluOv8=";

/// Exit code, and what is said.
fn nearside(proxy: &Proxy, words: &[&[u8]]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nearside"))
        .env("NEARSIDE_ADMIN_URL", proxy.admin_url())
        .args(words.iter().map(|word| OsStr::from_bytes(word)))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn asked(proxy: &Proxy, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = proxy.admin(method, path, body);
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

fn ask(conn: &mut Conn, words: &[&[u8]]) {
    conn.ask(words);
}

/// Reads until it is answered from the cache.
fn until_hit(conn: &mut Conn, read: &[&[u8]]) {
    eventually("it is a hit", || {
        let before = conn.hits();
        conn.ask(read);
        (conn.hits() > before).then_some(())
    });
}

#[test]
fn a_running_proxy_explains_what_it_would_do_now() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let explain =
        |words: &[&[u8]]| nearside(&proxy, &[&[&b"explain"[..], b"--live"], words].concat());
    let (code, said) = explain(&[b"GET", b"orders:42"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("key      orders:42 -> v1:orders:42\n"), "{said}");
    assert!(said.contains("\ncached   yes: [cache], level"), "{said}");
    assert!(said.contains("\nheld     not now\n"), "{said}");

    proxy.dial().words("SET orders:42 1");
    until_hit(&mut proxy.dial(), &[b"GET", b"orders:42"]);
    let (_, said) = explain(&[b"GET", b"orders:42"]);
    assert!(said.contains("\nheld     now, for 59m "), "{said}");
    let body = json!({ "command": ["MGET", "orders:42", "orders:43"] }).to_string();
    let explained = asked(&proxy, "POST", "/api/v1/explain", &body);
    assert_eq!(explained["fate"], "cached");
    assert!(explained["keys"][0]["ttl_ms"].as_u64().unwrap() > 0, "{explained}");
    assert_eq!(explained["keys"][1]["ttl_ms"], Value::Null);

    // What is in force there, not what is configured here.
    proxy.admin("PUT", "/api/v1/mode", "{\"mode\":\"bypass\"}");
    let (_, said) = explain(&[b"GET", b"orders:42"]);
    assert!(said.contains("cached   no: [cache], mode is \"bypass\""), "{said}");
    let (code, said) = explain(&[b"--json", b"GET", BINARY]);
    let explained: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &explained["keys"][0]["client"]), (0, &json!("\"bin:\\xff\"")));
    let (_, said) = explain(&[b"DEBUG", b"SLEEP", b"1"]);
    assert!(said.contains("happens  refused\nerror    "), "{said}");
}

#[test]
fn values_are_told_where_they_may_be() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let (code, said) = nearside(&proxy, &[b"get", b"--value", b"a"]);
    assert!(code == 77 && said.contains("admin.show_values is false"), "{said}");

    // (Written through another one: no push of these writes comes to the one that is asked.)
    let writer = Proxy::start(&server.url(), SHOWN);
    let mut conn = writer.dial();
    ask(&mut conn, &[b"SET", b"text", b"n\xc3\xa9\x1b[2J"]);
    ask(&mut conn, &[b"SET", b"bytes", b"\xff\x00"]);
    ask(&mut conn, &[b"SET", b"long", &[b'x'; 5000]]);
    ask(&mut conn, &[b"RPUSH", b"list", b"one"]);
    let proxy = Proxy::start(&server.url(), SHOWN);
    let mut conn = proxy.dial();
    let reads: [&[&[u8]]; 5] = [
        &[b"GET", b"text"],
        &[b"GET", b"bytes"],
        &[b"GET", b"long"],
        &[b"LRANGE", b"list", b"0", b"-1"],
        &[b"GET", b"none"],
    ];
    for read in reads {
        until_hit(&mut conn, read);
    }
    let value = |key: &str| {
        let path = format!("/api/v1/entries/lookup?value=true&key={key}");
        asked(&proxy, "GET", &path, "")["replies"][0].clone()
    };
    assert_eq!(value("text")["value"], "n\u{e9}\u{1b}[2J");
    assert_eq!(value("bytes")["value_base64"], "/wA=");
    let long = value("long");
    assert_eq!(long["value"].as_str().unwrap().len(), 4096);
    assert_eq!(long["value_cut_from"], 5000);
    assert_eq!(value("list")["value"], "*1\r\n$3\r\none\r\n");
    assert_eq!(value("none").get("value"), Some(&Value::Null));
    let silent = asked(&proxy, "GET", "/api/v1/entries/lookup?key=text", "");
    assert_eq!(silent["replies"][0].get("value"), None, "nobody asked for it");

    let (code, said) = nearside(&proxy, &[b"get", b"--value", b"text"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("\nget:\nn\u{e9}\u{fffd}[2J\n"), "it draws nothing: {said:?}");
}

#[test]
fn keys_need_not_be_text() {
    let server = Server::start(Kind::Redis);
    ask(&mut Proxy::start(&server.url(), SETTINGS).dial(), &[b"SET", BINARY, b"1"]);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    until_hit(&mut proxy.dial(), &[b"GET", BINARY]);
    let path = format!("/api/v1/entries/lookup?key_base64={BINARY_BASE64}");
    let found = asked(&proxy, "GET", &path, "");
    assert_eq!((&found["present"], &found["key_base64"]), (&json!(true), &json!(BINARY_BASE64)));
    let (code, said) = nearside(&proxy, &[b"get", BINARY]);
    assert!(code == 0 && said.contains("is cached by [cache]"), "{said}");

    let body = json!({ "keys": ["a"], "keys_base64": [BINARY_BASE64], "dry_run": true });
    let counted = asked(&proxy, "POST", "/api/v1/invalidations", &body.to_string());
    assert_eq!(counted["matched"], 1);
    let (code, said) = nearside(&proxy, &[b"invalidate", b"--local-only", b"--key", BINARY]);
    assert_eq!((code, said.as_str()), (0, "removed 1 keys\n"));
    let recent = asked(&proxy, "GET", "/api/v1/invalidations?limit=1", "");
    assert_eq!(recent["invalidations"][0]["value_base64"], BINARY_BASE64);
    let (status, answer) =
        proxy.admin("POST", "/api/v1/invalidations", "{\"keys_base64\":[\"YQ==\",\"?\"]}");
    assert_eq!(
        (status, answer.contains("\"pointer\":\"/keys_base64/1\"")),
        (422, true),
        "{answer}"
    );
}
