//! What is counted and shown: hot keys, namespaces, rules, windows, the curve; over HTTP and by the
//! command line.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, request};
use serde_json::Value;
use std::process::Command;

const SETTINGS: &[&str] = &[
    "keys.version = \"v1\"",
    "cache.ttl = \"1h\"",
    "hotkeys.show_keys = \"plain\"",
    "rules = [{ match = \"lock:*\", level = \"bypass\" }, { match = \"never:*\" }]",
];

/// A thousand times the same, in one go.
fn often(client: &mut Conn, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&request(&words).repeat(1_000));
    (0..1_000).for_each(|_| drop(client.reply()));
}

fn busy(server: &Server, settings: &[&str]) -> (Proxy, Conn) {
    let mut direct = server.dial();
    for key in ["orders:1", "users:1", "lock:1"] {
        direct.words(&format!("SET v1:{key} value"));
    }
    let proxy = Proxy::start(&server.url(), settings);
    let mut client = proxy.dial();
    for key in ["orders:1", "users:1"] {
        client.until_hit(&format!("GET {key}"));
    }
    for key in ["orders:1", "orders:1", "orders:1", "lock:1", "lock:1", "users:1"] {
        often(&mut client, &format!("GET {key}"));
    }
    (proxy, client)
}

fn get(proxy: &Proxy, path: &str) -> Value {
    let (status, body) = proxy.admin("GET", &format!("/api/v1/{path}"), "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn hot_keys_say_how_they_are_served() {
    let server = Server::start(Kind::Redis);
    let (proxy, _client) = busy(&server, SETTINGS);
    let hot = get(&proxy, "hotkeys");
    let keys = hot["keys"].as_array().unwrap();
    let names: Vec<&str> = keys.iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!(names, ["orders:1", "lock:1", "users:1"], "hotkeys.show_keys: {hot}");
    let told = |name: &str| keys.iter().map(|key| key[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("cached"), [true, false, true]);
    assert_eq!(told("rule"), [2, 0, 2]);
    assert_eq!(told("hint"), [Value::Null, "cache_it".into(), Value::Null]);
    let share = keys[0]["share"].as_f64().unwrap();
    assert!((0.35..0.65).contains(&share), "half of it: {share}");
    assert_eq!(get(&proxy, "hotkeys?by=bytes&limit=1")["keys"][0]["namespace"], "orders");
    assert!(proxy.count("nearside_hotkeys_tracked") >= 3);
    for (query, what) in [
        ("by=size", "by: unknown variant `size`, expected one of `reads`, `bytes`, `misses`"),
        ("limit=0", "limit: 0 is not 1 to 1000"),
        ("top=3", "unknown field `top`, expected `by` or `limit`"),
    ] {
        let (status, body) = proxy.admin("GET", &format!("/api/v1/hotkeys?{query}"), "");
        assert_eq!((status, body.contains(what)), (422, true), "{body}");
    }
}

#[test]
fn keys_are_hashed_unless_asked_and_not_noted_if_not_wanted() {
    let server = Server::start(Kind::Redis);
    let (proxy, _client) = busy(&server, &["keys.version = \"v1\"", "cache.ttl = \"1h\""]);
    let (_, body) = proxy.admin("GET", "/api/v1/hotkeys", "");
    assert!(body.contains("\"key_hash\"") && !body.contains("orders:1"), "{body}");
    assert!(body.contains("\"namespace\":\"orders\""), "{body}");
    let off = [SETTINGS[0], SETTINGS[1], "hotkeys.enabled = false"];
    let (proxy, _client) = busy(&server, &off);
    assert_eq!(get(&proxy, "hotkeys")["keys"], Value::Array(Vec::new()));
    assert_eq!(proxy.count("nearside_hotkeys_tracked"), 0);
    let spaces = get(&proxy, "namespaces");
    assert_eq!(spaces["namespaces"][0]["namespace"], "orders", "{spaces}");
}

#[test]
fn namespaces_rules_and_the_curve_tell_how_well_the_cache_does() {
    let server = Server::start(Kind::Redis);
    let (proxy, mut client) = busy(&server, SETTINGS);
    let spaces = get(&proxy, "namespaces");
    let of = |name: &str| {
        let rows = spaces["namespaces"].as_array().unwrap();
        rows.iter().find(|row| row["namespace"] == name).unwrap().clone()
    };
    assert!(of("orders")["hit_ratio"].as_f64().unwrap() > 0.9, "{spaces}");
    assert!(of("lock")["bypassed"].as_u64().unwrap() > 1_000, "{spaces}");
    assert_eq!(of("lock")["hit_ratio"], Value::Null);
    assert_eq!((&of("orders")["entries"], &of("lock")["entries"]), (&1.into(), &0.into()));
    assert!(of("orders")["bytes"].as_u64().unwrap() > 0, "{spaces}");
    let rules = get(&proxy, "rules?window=start");
    let rows = rules["rules"].as_array().unwrap();
    let reads: Vec<bool> = rows.iter().map(|row| row["reads"].as_u64().unwrap() > 0).collect();
    assert_eq!(reads, [true, false, true], "{rules}");
    assert_eq!(rows[0]["match"][0], "lock:*");
    // More keys than a sample of one in sixteen could miss altogether.
    for _ in 0..3 {
        for number in 0..500 {
            client.words(&format!("GET many:{number}"));
        }
    }
    let curve = eventually("the curve is drawn", || {
        let curve = get(&proxy, "curve");
        let points = curve["points"].as_array().unwrap().clone();
        points.iter().all(|point| point["hit_ratio"].is_number()).then_some(points)
    });
    let ratios: Vec<f64> = curve.iter().map(|point| point["hit_ratio"].as_f64().unwrap()).collect();
    assert!(ratios.is_sorted() && ratios[4] > 0.5, "{ratios:?}");
    let (status, body) = proxy.admin("GET", "/api/v1/namespaces?window=1h", "");
    assert_eq!(
        (status, body.contains("window: unknown variant `1h`, expected one of `start`, `reset`,")),
        (422, true),
        "{body}"
    );
}

#[test]
fn a_namespace_that_is_held_and_never_read_has_a_row() {
    let server = Server::start(Kind::Redis);
    server.dial().words("SET v1:cold:1 value");
    let proxy = Proxy::start(&server.url(), SETTINGS);
    proxy.admin("POST", "/api/v1/warm/runs", "{\"keys\":[\"cold:1\"]}");
    eventually("it is loaded", || {
        (proxy.count("nearside_warm_keys_total{result=\"loaded\"}") > 0).then_some(())
    });
    let spaces = get(&proxy, "namespaces");
    let rows = spaces["namespaces"].as_array().unwrap();
    let cold = rows.iter().find(|row| row["namespace"] == "cold").unwrap();
    assert_eq!((&cold["reads"], &cold["entries"]), (&0.into(), &1.into()));
}

/// `log.slow_command`, `log.slowlog_max`: nothing upstream is faster than a microsecond.
#[test]
fn what_took_long_is_told_with_who_asked() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["log.slow_command = \"1us\"", "log.slowlog_max = 2"]);
    let mut client = proxy.dial();
    client.words("CLIENT SETNAME shop");
    client.words("SET a 1");
    client.words("GET a");
    client.words("MGET a b");
    client.words("BLPOP none 0.001");
    let slow = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        let output = command.arg("slowlog").args(words).args(["--admin", &proxy.admin_url()]);
        String::from_utf8(output.output().unwrap().stdout).unwrap()
    };
    let log: Value = serde_json::from_str(&slow(&["--json"])).unwrap();
    let of = |name: &str| -> Vec<&Value> {
        log["commands"].as_array().unwrap().iter().map(|row| &row[name]).collect()
    };
    assert_eq!(of("command"), ["mget", "get"], "the latest two, and none that blocks: {log}");
    assert_eq!(of("outcome"), ["miss", "miss"]);
    assert_eq!(of("client_name"), ["shop", "shop"]);
    assert!(log["commands"][0]["duration_us"].as_u64().unwrap() > 0, "{log}");
    assert!(slow(&["-n", "1"]).contains(" mget  "), "{}", slow(&["-n", "1"]));
    assert!(proxy.log().contains("\"event\":\"slow_command\",\"command\":\"set\""));
    let hash = log["commands"][1]["key_hash"].as_str().unwrap();
    let hashed = format!("\"key_hash\":\"{hash}\"");
    assert!(hash.len() == 16 && proxy.log().contains(&hashed), "{log}");
    assert!(log["commands"][1].get("key").is_none(), "{log}");
    proxy.admin("PATCH", "/api/v1/config", "{\"log.keys\":\"plain\"}");
    client.words("GET c");
    client.words("SET c 1");
    let rows = get(&proxy, "slowlog");
    assert_eq!(rows["commands"][1]["key"], "c");
    assert!(rows["commands"][0]["key_hash"].is_string(), "a write's link keeps no more: {rows}");
    proxy.admin("PATCH", "/api/v1/config", "{\"log.keys\":\"none\"}");
    client.words("GET d");
    let row = &get(&proxy, "slowlog")["commands"][0];
    assert!(row.get("key").is_none() && row.get("key_hash").is_none(), "{row}");
    assert_eq!(slow(&["--reset"]), "forgot 2 commands\n");
    let (status, _) = proxy.admin("PATCH", "/api/v1/config", "{\"log.slow_command\":\"0s\"}");
    client.words("SET a 2");
    assert_eq!((status, get(&proxy, "slowlog")["commands"].clone()), (200, Value::Array(vec![])));
}

#[test]
fn a_reset_is_seen_by_people_and_not_by_prometheus() {
    let server = Server::start(Kind::Redis);
    let (proxy, mut client) = busy(&server, SETTINGS);
    let hits = |window: &str| get(&proxy, "stats")["windows"][window]["hits"].as_u64().unwrap();
    assert!(hits("reset") >= 4_000 && hits("1m") >= 4_000);
    let metric = proxy.count("nearside_cache_lookups_total{result=\"hit\"}");
    let (status, body) = proxy.admin("POST", "/api/v1/stats/reset", "{}");
    assert_eq!((status, body.as_str()), (204, ""));
    assert_eq!(hits("reset"), 0);
    assert!(hits("start") >= 4_000);
    let info = String::from_utf8_lossy(&client.words("INFO proxycache")).into_owned();
    assert!(!info.contains("hits:4"), "INFO counts anew: {info}");
    assert!(proxy.count("nearside_cache_lookups_total{result=\"hit\"}") >= metric);
    often(&mut client, "GET users:1");
    assert_eq!(hits("reset"), 1_000);
    client.words("CONFIG RESETSTAT");
    assert_eq!(hits("reset"), 0, "the same reset");
    let stats = get(&proxy, "stats");
    let miss = &stats["windows"]["start"]["latency"]["miss"];
    let (p50, p99) = (miss["p50_us"].as_f64().unwrap(), miss["p99_us"].as_f64().unwrap());
    assert!(p50 > 0.0 && p99 >= p50, "{miss}");
    assert!(proxy.log().contains("reset_stats"));
}

#[test]
fn the_command_line_shows_it() {
    let server = Server::start(Kind::Redis);
    let (proxy, _client) = busy(&server, SETTINGS);
    let run = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command
            .args(words.split(' '))
            .args(["--admin", &format!("127.0.0.1:{}", proxy.admin_port())]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let stats = run("stats -1 --filter cache_lookups_total*");
    assert!(stats.contains("hit ratio") && stats.contains("cache_lookups_total{result=\"hit\"}"));
    assert!(!stats.contains("net_input"), "{stats}");
    let json: Value = serde_json::from_str(&run("stats --json")).unwrap();
    assert!(json["windows"]["5m"]["commands"].as_u64().unwrap() > 6_000);
    let hot = run("hotkeys -n 1");
    assert!(hot.lines().nth(1).unwrap().starts_with("orders:1"), "{hot}");
    assert_eq!(hot.lines().count(), 2, "{hot}");
    assert!(run("namespaces --since start").contains("\norders "));
    let first = run("namespaces --sort name -n 1");
    assert!(first.lines().next().unwrap().ends_with("entries held  bytes held"), "{first}");
    assert!(first.lines().nth(1).unwrap().starts_with("_other "), "{first}");
    assert_eq!(first.lines().count(), 2, "{first}");
    assert_eq!(run("reset-stats"), "counting anew\n");
    let json: Value = serde_json::from_str(&run("namespaces --json")).unwrap();
    assert_eq!(json["window"], "reset");
}

#[test]
fn advice_is_to_cache_what_is_read_again_and_not_what_is_written_each_time() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["cache.level = \"bypass\"", "cache.ttl = \"1h\""]);
    let mut client = proxy.dial();
    // Of so many keys some are among the one in sixteen that are looked at.
    for round in 0..6 {
        for number in 0..300 {
            client.words(&format!("SET queue:{number} {round}"));
            for space in ["queue", "users"] {
                client.words(&format!("GET {space}:{number}"));
            }
        }
    }
    let advice = eventually("all is told of", || {
        let advice = get(&proxy, "advice");
        let rows = advice["namespaces"].as_array().unwrap().clone();
        let of = |name: &str| rows.iter().find(|row| row["namespace"] == name).cloned();
        let (users, queue) = (of("users")?, of("queue")?);
        (users["verdict"] != "unsure" && queue["verdict"] != "unsure").then_some((users, queue))
    });
    let (users, queue) = advice;
    assert_eq!(users["verdict"], "cache", "{users}");
    assert!(users["rule"].as_str().unwrap().starts_with("[[rules]]\nmatch = \"users:*\"\n"));
    assert!(users["upstream_bytes_saved_per_second"].as_f64().unwrap() > 0.0, "{users}");
    assert_eq!((&queue["verdict"], &queue["rule"]), (&"not_worth_it".into(), &Value::Null));
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.args(["advise", "--admin", &format!("127.0.0.1:{}", proxy.admin_port())]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(text.contains("\n[[rules]]\nmatch = \"users:*\"\nlevel = \"coherent\"\n"), "{text}");
    assert!(text.contains("queue: 0 % of its reads would be hits"), "{text}");
}
