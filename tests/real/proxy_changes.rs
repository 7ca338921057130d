//! What a client changes with PROXY: settings, the key version, warm-up; and the hot keys it is shown.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, request};
use nearside::wire::reply;
use std::fs;

const SETTINGS: &[&str] = &["keys.version = \"v1\"", "cache.ttl = \"1h\""];

fn start(settings: &[&str]) -> (Server, Proxy) {
    let server = Server::start(Kind::Redis);
    server.dial().words("MSET v1:k one v2:k two v1:orders:1 a v1:orders:2 b");
    let proxy = Proxy::start(&server.url(), &[SETTINGS, settings].concat());
    (server, proxy)
}

fn error(conn: &mut Conn, line: &str, expected: &str) {
    let answer = String::from_utf8(conn.words(line)).unwrap();
    assert!(answer.starts_with(&format!("-{expected}")), "{line}: {answer}");
}

/// What `PROXY CONFIG GET` has of a key.
fn setting(conn: &mut Conn, key: &str) -> String {
    let answer = conn.words(&format!("PROXY CONFIG GET {key}"));
    let value = reply::elements(&answer).nth(1).and_then(reply::bulk).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

/// Texts of the maps of a list: names and values one behind the other.
fn rows(answer: &[u8]) -> Vec<Vec<String>> {
    let text = |element: &[u8]| {
        let text = reply::bulk(element).map(|text| String::from_utf8(text.to_vec()).unwrap());
        text.unwrap_or_else(|| reply::integer(element).unwrap().to_string())
    };
    reply::elements(answer).map(|row| reply::elements(row).map(text).collect()).collect()
}

fn value(row: &[String], name: &str) -> String {
    let at = row.iter().position(|word| word == name).unwrap_or_else(|| panic!("{name}: {row:?}"));
    row[at + 1].clone()
}

#[test]
fn a_client_switches_the_key_version() {
    let (_server, proxy) = start(&[]);
    let (mut conn, mut other) = (proxy.dial(), proxy.dial());
    other.until_hit("GET k");
    error(&mut conn, "PROXY VERSION SET v2 IF v7", "ERR the version in force is `v1`");
    error(&mut conn, "PROXY VERSION SET v*", "ERR the version ");
    error(&mut conn, "PROXY VERSION SET", "ERR syntax error");
    error(&mut conn, "PROXY VERSION v2", "ERR syntax error");
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv1\r\n");
    assert_eq!(conn.words("proxy version set v2 if v1"), b"+OK\r\n");
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv2\r\n");
    assert_eq!(other.words("GET k"), b"$3\r\ntwo\r\n");
    assert_eq!(conn.words("PROXY VERSION SET v1"), b"+OK\r\n");
    assert_eq!(other.words("GET k"), b"$3\r\none\r\n");
    assert_eq!(proxy.count("nearside_key_version_switches_total{source=\"resp\"}"), 2);
    let audit = "\"action\":\"key_version\",\"target\":\"v1 -> v2\"";
    assert!(proxy.log().contains(audit), "{}", proxy.log());
}

#[test]
fn a_client_sets_keys_until_the_process_ends() {
    let (_server, proxy) = start(&[]);
    let mut conn = proxy.dial();
    let file = proxy.folder.path().join("proxy.toml");
    let written = fs::read_to_string(&file).unwrap();
    let runtime = || {
        let (_, config) = proxy.admin("GET", "/api/v1/config", "");
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["runtime"].to_string()
    };
    conn.words("PROXY LOG DEBUG before");
    assert_eq!(conn.words("PROXY CONFIG SET cache.ttl 9m"), b"+OK\r\n");
    assert_eq!(conn.words("PROXY CONFIG SET LOG.LEVEL info,nearside=debug"), b"+OK\r\n");
    conn.words("PROXY LOG DEBUG after");
    let log = proxy.log();
    assert!(log.contains("\"after\"") && !log.contains("\"before\""), "{log}");
    assert!(log.contains("\"action\":\"config_set\",\"target\":\"cache.ttl = 9m\""), "{log}");
    assert_eq!(setting(&mut conn, "cache.ttl"), "9m");
    assert_eq!(runtime(), "[\"cache.ttl\",\"log.level\"]");
    live_settings(&proxy, &mut conn);
    for (line, expected) in [
        ("server.workers 3", "ERR `server.workers` takes a restart"),
        ("cache.tll 3s", "ERR there is no key `cache.tll`; did you mean `cache.ttl`?"),
        ("cache.ttl soon", "ERR runtime: cache.ttl: "),
        ("hotkeys.half_life 1ms", "ERR runtime: hotkeys.half_life: at least 1s"),
        ("auth.password x", "ERR `auth.password` is for the configuration"),
        ("mode bypass", "ERR `mode` is switched by PROXY MODE"),
        ("cache.ttl", "ERR syntax error"),
    ] {
        error(&mut conn, &format!("PROXY CONFIG SET {line}"), expected);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), written, "it is written nowhere");
    // A file that is being edited does not disturb it.
    fs::write(&file, "[cache").unwrap();
    assert_eq!(conn.words("PROXY CONFIG SET cache.ttl 8m"), b"+OK\r\n");
    assert_eq!(setting(&mut conn, "cache.ttl"), "8m");
    error(&mut conn, "PROXY CONFIG RELOAD", &format!("ERR {}:1:", file.display()));
    // It stays until the file says something else than it did.
    fs::write(&file, format!("{written}\nserver.max_clients = 77\n")).unwrap();
    assert_eq!(conn.words("PROXY CONFIG RELOAD"), b"+OK\r\n");
    assert_eq!((setting(&mut conn, "cache.ttl"), runtime().len()), ("8m".to_owned(), 25));
    assert_eq!(setting(&mut conn, "server.max_clients"), "77");
    fs::write(&file, written.replace("\"1h\"", "\"2h\"")).unwrap();
    assert_eq!(conn.words("PROXY CONFIG RELOAD"), b"+OK\r\n");
    assert_eq!(setting(&mut conn, "cache.ttl"), "2h");
    assert_eq!(runtime(), "[\"log.level\"]");
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv1\r\n");
}

/// `nearside config show --live`: what was set and switched since, and by whom the rest was written.
fn live_settings(proxy: &Proxy, conn: &mut Conn) {
    let show = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.args(["config", "show", "--live", "--admin", &proxy.admin_url()]).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(conn.words("PROXY MODE observe"), b"+OK\r\n");
    assert_eq!(conn.words("PROXY VERSION SET v3"), b"+OK\r\n");
    let text = show(&["--diff"]);
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "mode = \"observe\" # runtime",
        "version = \"v3\" # runtime",
        "ttl = \"9m\" # runtime",
        "level = \"info,nearside=debug\" # runtime",
    ] {
        assert!(lines.contains(&line.to_owned()), "no {line} in\n{text}");
    }
    assert!(!text.contains("max_clients"), "it is as built in: {text}");
    let json: serde_json::Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!(json["server.max_clients"]["origin"], "default");
    let origin = json["upstream.url"]["origin"].as_str().unwrap();
    assert!(origin.contains("proxy.toml:"), "{origin}");
    assert_eq!(conn.words("PROXY MODE cache"), b"+OK\r\n");
    assert_eq!(conn.words("PROXY VERSION SET v1"), b"+OK\r\n");
}

#[test]
fn what_shows_is_for_everybody_and_what_changes_is_not_when_hardened() {
    let settings = [
        "commands.profile = \"hardened\"",
        "commands.allow = [\"PROXY|WARM\"]",
        "warming.jobs = [{ name = \"all\", keys = [\"k\"] }]",
    ];
    let (_server, proxy) = start(&settings);
    let mut conn = proxy.dial();
    for line in
        ["PROXY VERSION", "PROXY CONFIG GET cache.ttl", "PROXY WARM STATUS", "PROXY HOTKEYS"]
    {
        assert!(!conn.words(line).starts_with(b"-"), "{line}");
    }
    for line in ["VERSION SET v2", "CONFIG SET cache.ttl 5s", "CONFIG RELOAD"] {
        error(&mut conn, &format!("PROXY {line}"), "NOPERM nearside refuses 'proxy ");
    }
    assert_eq!(conn.words("PROXY WARM RUN all"), b":1\r\n", "it is allowed by name");
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv1\r\n");
}

#[test]
fn a_client_warms_up() {
    let jobs = "warming.jobs = [{ name = \"orders\", pattern = \"orders:*\" }]";
    let (_server, proxy) = start(&[jobs]);
    let mut conn = proxy.dial();
    assert_eq!(conn.words("PROXY WARM STATUS"), b"*0\r\n");
    assert_eq!(conn.words("PROXY WARM RUN orders"), b":1\r\n");
    let run = eventually("it is done", || {
        let runs = rows(&conn.words("PROXY WARM STATUS"));
        (value(&runs[0], "state") == "done").then(|| runs[0].clone())
    });
    assert_eq!([value(&run, "loaded"), value(&run, "what")], ["2", "orders: orders:*"]);
    let hits = conn.hits();
    conn.words("GET orders:1");
    assert_eq!(conn.hits(), hits + 1);
    assert_eq!(conn.words("PROXY WARM CANCEL 1"), b"+OK\r\n", "it has ended all the same");
    for (line, expected) in [
        ("RUN nosuch", "ERR there is no job `nosuch`"),
        ("CANCEL 7", "ERR there is no run 7"),
        ("CANCEL x", "ERR there is no run x"),
        ("RUN", "ERR syntax error"),
        ("NOW orders", "ERR syntax error"),
    ] {
        error(&mut conn, &format!("PROXY WARM {line}"), expected);
    }
    conn.words("PROXY MODE BYPASS");
    error(&mut conn, "PROXY WARM RUN orders", "ERR the mode is bypass");
}

#[test]
fn a_client_is_shown_the_hot_keys() {
    let (_server, proxy) = start(&[]);
    let mut conn = proxy.dial();
    conn.until_hit("GET k");
    let found = eventually("it is hot", || {
        conn.send(&request(&["GET", "k"]).repeat(1_000));
        (0..1_000).for_each(|_| drop(conn.reply()));
        let found = rows(&conn.words("PROXY HOTKEYS BY reads COUNT 1"));
        (!found.is_empty()).then_some(found)
    });
    assert_eq!((found.len(), value(&found[0], "key_hash").len()), (1, 16), "{found:?}");
    assert_eq!([value(&found[0], "cached"), value(&found[0], "rule")], ["1", "[cache]"]);
    assert_eq!(conn.words("PROXY CONFIG SET hotkeys.show_keys plain"), b"+OK\r\n");
    eventually("it is named", || {
        conn.send(&request(&["GET", "k"]).repeat(1_000));
        (0..1_000).for_each(|_| drop(conn.reply()));
        let found = rows(&conn.words("PROXY HOTKEYS"));
        found.first().map(|row| assert_eq!(value(row, "key"), "k"))
    });
    conn.words("HELLO 3");
    assert!(conn.words("PROXY HOTKEYS COUNT 1").starts_with(b"*1\r\n%5\r\n$3\r\nkey\r\n"));
    for line in ["BY colour", "COUNT 0", "COUNT", "1"] {
        error(&mut conn, &format!("PROXY HOTKEYS {line}"), "ERR syntax error");
    }
}

#[test]
fn clients_are_sent_elsewhere_and_back() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &[]);
    let mut conn = proxy.dial();
    assert_eq!(conn.words("PROXY DRAIN"), b"+OK\r\n");
    assert_eq!(proxy.admin("GET", "/readyz", "").0, 503);
    assert_eq!(conn.words("PROXY RESUME"), b"+OK\r\n");
    assert_eq!(proxy.admin("GET", "/readyz", "").0, 200);
    for action in ["drain", "resume"] {
        assert!(proxy.log().contains(&format!("\"action\":\"{action}\"")), "{}", proxy.log());
    }
    let hardened = Proxy::start(&server.url(), &["commands.profile = \"hardened\""]);
    assert!(hardened.dial().words("PROXY DRAIN").starts_with(b"-"));
}
