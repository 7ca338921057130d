//! The admin API of the real binary: every endpoint is asked here, and one that nobody asks is a
//! fault.

use crate::harness::{KINDS, Kind, Proxy, Server, eventually, installed};
use serde_json::Value;
use std::io::BufRead;
use std::process::Command;

const SETTINGS: &[&str] = &["keys.version = \"v1\""];

/// Method, path, body, status of the answer, and words in it.
const ASKED: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "/", "", 200, "\n/api/v1/status\n"),
    ("GET", "/livez", "", 200, "ok"),
    ("GET", "/readyz", "", 200, "ok"),
    ("GET", "/healthz", "", 200, "{\"status\":\"ok\",\"checks\":{\"upstream\":{\"ok\":true,"),
    ("GET", "/metrics", "", 200, "# TYPE nearside_cache_lookups_total counter"),
    ("GET", "/openapi.json", "", 200, "\"openapi\":\"3.1."),
    ("GET", "/api/v1/status", "", 200, "\"key_version\":\"v1\",\"draining\":false,"),
    ("GET", "/api/v1/config", "", 200, "\"cache.ttl\":{\"value\":\"1m\",\"origin\":\"default\"}"),
    (
        "GET",
        "/api/v1/upstreams",
        "",
        200,
        "\"state\":\"up\",\"role\":\"master\",\"server\":\"redis\"",
    ),
    ("POST", "/api/v1/upstreams/db:1/disable", "", 404, "there is no upstream db:1"),
    ("POST", "/api/v1/upstreams/db:1/enable", "", 404, "there is no upstream db:1"),
    ("POST", "/api/v1/upstreams/db:1/reconnect", "", 404, "there is no upstream db:1"),
    ("GET", "/api/v1/clients", "", 200, "{\"clients\":[],\"cursor\":null,\"total\":0}"),
    ("GET", "/api/v1/clients?limit=0", "", 422, "limit: 0 is not 1 to 1000"),
    ("GET", "/api/v1/clients?limt=1", "", 422, "unknown field `limt`"),
    ("GET", "/api/v1/clients?sort=hits", "", 200, "{\"clients\":[],\"cursor\":null,\"total\":0}"),
    ("GET", "/api/v1/clients?sort=hits&cursor=3", "", 422, "cursor: only with sort=id"),
    ("DELETE", "/api/v1/clients/77", "", 404, "there is no client 77"),
    ("DELETE", "/api/v1/clients/no%20number", "", 404, "there is no client no number"),
    ("GET", "/api/v1/mode", "", 200, "{\"mode\":\"cache\"}"),
    ("PUT", "/api/v1/mode", "{\"mode\":\"cache\"}", 200, "{\"mode\":\"cache\",\"was\":\"cache\"}"),
    ("PUT", "/api/v1/mode", "{\"mode\":\"off\"}", 422, "\"pointer\":\"/mode\""),
    ("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}", 200, "\"removed\":0"),
    (
        "GET",
        "/api/v1/invalidations",
        "",
        200,
        "\"source\":\"admin\",\"kind\":\"keys\",\"value\":\"a\"",
    ),
    (
        "GET",
        "/api/v1/entries/lookup?key=a%3Ab",
        "",
        200,
        "\"upstream_key\":\"v1:a:b\",\"present\":false",
    ),
    ("GET", "/api/v1/entries?prefix=a", "", 200, "{\"entries\":[],\"cursor\":null}"),
    ("GET", "/api/v1/entries?cursor=0", "", 422, "cursor: none that was given out"),
    ("GET", "/api/v1/entries/lookup", "", 422, "give one of key, key_base64"),
    ("GET", "/api/v1/entries/lookup?key=a&value=true", "", 403, "admin.show_values is false"),
    ("GET", "/api/v1/entries/lookup?key_base64=no", "", 422, "key_base64: no base64"),
    (
        "POST",
        "/api/v1/explain",
        "{\"command\":[\"GET\",\"a\"]}",
        200,
        "\"upstream\":\"v1:a\",\"rule\":\"[cache]\",\"cached\":true",
    ),
    ("POST", "/api/v1/explain", "{\"command\":[]}", 422, "\"pointer\":\"/command\""),
    ("POST", "/api/v1/explain", "{}", 422, "one of command, command_base64"),
    ("POST", "/api/v1/cache/clear", "", 200, "\"removed\":0"),
    (
        "GET",
        "/api/v1/log/level",
        "",
        200,
        "{\"level\":\"info\",\"configured\":\"info\",\"until\":null}",
    ),
    ("PUT", "/api/v1/log/level", "{\"level\":\"debgu\"}", 422, "`debgu` is none"),
    ("PUT", "/api/v1/log/level", "{\"level\":\"debug\",\"for\":\"25h\"}", 422, "at most 24h"),
    ("POST", "/api/v1/drain", "", 200, "{\"draining\":true,\"clients\":0}"),
    ("GET", "/readyz", "", 503, "no new work, please"),
    ("GET", "/healthz", "", 200, "\"status\":\"degraded\""),
    ("GET", "/api/v1/status", "", 200, "\"warnings\":[\"draining: yes"),
    ("DELETE", "/api/v1/drain", "", 200, "{\"draining\":false,\"clients\":0}"),
    ("GET", "/readyz", "", 200, "ok"),
    ("GET", "/api/cache/stats", "", 200, "{\"type\":\"nearside\",\"version\":\"v1\",\"hits\":0,"),
    (
        "GET",
        "/api/cache/info",
        "",
        200,
        "\"backend\":\"redis\",\"redis_available\":true,\"enabled\":true",
    ),
    ("GET", "/api/health", "", 200, "{\"status\":\"healthy\""),
    ("POST", "/api/cache/clear", "", 200, "{\"success\":true,\"cleared_count\":0}"),
    ("POST", "/api/cache/reset-stats", "", 200, "{\"success\":true}"),
    ("POST", "/api/cache/invalidate/a:b", "", 422, "the namespace `a:b` holds a `:`"),
    ("POST", "/api/cache/invalidate/pattern", "{}", 422, "missing field `pattern`"),
    ("POST", "/api/cache/warm", "{}", 422, "give one of job, keys, pattern"),
    ("GET", "/api/v1/stats", "", 200, "\"windows\""),
    ("GET", "/api/v1/namespaces", "", 200, "\"namespaces\""),
    ("GET", "/api/v1/namespaces/cached", "", 200, "\"entries\":0,\"bytes\":0,\"namespaces\":[]"),
    ("GET", "/api/v1/namespaces/cached?limit=0", "", 422, "limit: 0 is not 1 to 1000"),
    ("GET", "/api/v1/rules", "", 200, "\"rules\""),
    ("GET", "/api/v1/hotkeys?by=reads&limit=3", "", 200, "{\"by\":\"reads\",\"keys\":["),
    ("GET", "/api/v1/hotkeys?by=colour", "", 422, "colour"),
    ("GET", "/api/v1/curve", "", 200, "\"hit_ratio\""),
    ("GET", "/api/v1/advice", "", 200, "{"),
    ("GET", "/api/v1/fallback", "", 200, "{\"enabled\":false,\"state\":\"off\","),
    ("GET", "/api/v1/slowlog", "", 200, "{\"commands\":["),
    ("DELETE", "/api/v1/slowlog", "", 200, "{\"removed\":"),
    ("GET", "/api/v1/stats/history?window=1h", "", 200, "{\"step_seconds\":60,\"time\":["),
    ("GET", "/api/v1/stats/history?window=25h", "", 422, "window: with this step 1s to 1day"),
    ("POST", "/api/v1/stats/reset", "", 204, ""),
    ("GET", "/api/v1/jobs", "", 200, "{\"jobs\":[]"),
    ("GET", "/api/v1/jobs?limit=1001", "", 422, "limit: 1001 is not 1 to 1000"),
    ("GET", "/api/v1/jobs/77", "", 404, "there is no job 77"),
    ("DELETE", "/api/v1/jobs/77", "", 404, "there is no job 77"),
    ("GET", "/api/v1/warm/jobs", "", 200, "[]"),
    ("POST", "/api/v1/warm/runs", "{}", 422, "invalid-request"),
    ("POST", "/api/v1/key-versions/v1/purge", "[]", 400, "bad-json"),
    ("POST", "/api/v1/key-versions/v1/adopt", "[]", 400, "bad-json"),
    ("POST", "/api/v1/key-versions/v1/strip", "[]", 400, "bad-json"),
    (
        "GET",
        "/api/v1/key-versions",
        "",
        200,
        "{\"current\":\"v1\",\"switching_to\":null,\"rules\":[],\"exclude\":[]}",
    ),
    (
        "PUT",
        "/api/v1/key-versions/current",
        "{\"version\":\"v1*\"}",
        422,
        "\"pointer\":\"/version\"",
    ),
    ("PATCH", "/api/v1/config", "{\"cache.ttl\":\"2m\"}", 200, "{\"changed\":[\"cache.ttl\"]"),
    ("PATCH", "/api/v1/config", "{\"server.workers\":3}", 422, "takes a restart"),
    ("PATCH", "/api/v1/config", "{\"cache.tll\":\"3s\"}", 422, "did you mean `cache.ttl`?"),
    ("GET", "/api/v1/config/schema", "", 200, "\"$schema\""),
    (
        "POST",
        "/api/v1/config/validate",
        "{\"text\":\"keys.version = 'v1'\\ncache.negative_ttl = '3s'\\ncache.max_variants = 3\"}",
        200,
        "\"changed\":[\"cache.negative_ttl\"],\"pending_restart\":[",
    ),
    (
        "POST",
        "/api/v1/config/validate",
        "{\"text\":\"[cache]\\ntll = '3s'\\n\"}",
        200,
        "{\"valid\":false,\"errors\":[{\"source\":",
    ),
    ("POST", "/api/v1/config/reload", "", 200, "\"changed\":[]"),
    (
        "POST",
        "/api/cache/version",
        "{\"version\":\"v2\"}",
        200,
        "\"old_version\":\"v1\",\"new_version\":\"v2\"",
    ),
    ("POST", "/api/cache/version", "{\"version\":\"a b\"}", 422, "\"pointer\":\"/version\""),
];

/// It never ends: [`what_happens_is_told_as_it_happens`] asks for it.
const ENDLESS: &str = "/api/v1/stats/stream";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a GET answers.
fn got(proxy: &Proxy, path: &str) -> Value {
    let (status, answer) = proxy.admin("GET", path, "");
    assert_eq!(status, 200, "{path}: {answer}");
    json(&answer)
}

/// True if a request for `path` is answered by the route of `template`.
fn is_of(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    let (wanted, given): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let fits = |(wanted, given): (&&str, &&str)| wanted.starts_with('{') || wanted == given;
    wanted.len() == given.len() && wanted.iter().zip(&given).all(fits)
}

#[test]
fn every_endpoint_answers() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    for (method, path, body, wanted, words) in ASKED {
        let (status, answer) = proxy.admin(method, path, body);
        assert_eq!(status, *wanted, "{method} {path}: {answer}");
        assert!(answer.contains(words), "{method} {path}: {answer}");
    }
    let document = got(&proxy, "/openapi.json");
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let mut asked = ASKED.iter().filter(|row| row.0.eq_ignore_ascii_case(method));
            let is_asked = template == ENDLESS || asked.any(|row| is_of(template, row.1));
            assert!(is_asked, "{method} {template} is asked by no test: add a row to ASKED");
        }
    }
}

#[test]
fn clients_are_listed_part_by_part_and_sent_away() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    // Each is answered before the next one comes: they are numbered as workers take them in.
    let mut conns: Vec<_> = (0..3)
        .map(|number| {
            let mut conn = proxy.dial();
            conn.words(&format!("CLIENT SETNAME n{number}"));
            conn
        })
        .collect();
    conns[0].words("SET k 1");
    conns[0].words("GET k");
    conns[0].until_hit("GET k");
    let first = got(&proxy, "/api/v1/clients?limit=2");
    assert_eq!((first["clients"].as_array().unwrap().len(), &first["total"]), (2, &3.into()));
    let one = &first["clients"][0];
    assert_eq!(
        (&one["name"], &one["command"], &one["resp"]),
        (&"n0".into(), &"client|info".into(), &2.into())
    );
    assert!(one["hits"].as_u64() > Some(0) && one["queued"].is_null(), "{one}");
    let last = got(&proxy, &format!("/api/v1/clients?limit=2&cursor={}", first["cursor"]));
    assert!(last["cursor"].is_null(), "{last}");
    assert_eq!(last["clients"][0]["name"], "n2");
    for _ in 0..20 {
        conns[1].words("GET k");
    }
    let sorted = got(&proxy, "/api/v1/clients?sort=hits&limit=2");
    let names: Vec<_> =
        sorted["clients"].as_array().unwrap().iter().map(|client| &client["name"]).collect();
    assert_eq!(names, ["n1", "n0"], "{sorted}");
    assert!(sorted["cursor"].is_null() && sorted["total"] == 3, "{sorted}");
    let id = last["clients"][0]["id"].as_u64().unwrap();
    let (status, answer) = proxy.admin("DELETE", &format!("/api/v1/clients/{id}"), "");
    assert_eq!((status, answer.as_str()), (200, &*format!("{{\"id\":{id}}}\n")));
    assert!(conns[2].rest().is_empty(), "it was closed");
    let (status, _) = proxy.admin("DELETE", &format!("/api/v1/clients/{id}"), "");
    assert_eq!(status, 404);
    assert!(conns[0].words("PING").starts_with(b"+PONG"));
}

#[test]
fn a_key_is_looked_up() {
    let server = Server::start(Kind::Redis);
    let settings = [
        "keys.version = \"v1\"",
        "cache.ttl_jitter = 0.0",
        "rules = [{ match = [\"h*\"], ttl = \"30s\" }]",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut conn = proxy.dial();
    conn.words("HSET h f 1");
    conn.until_hit("HGET h f");
    conn.until_hit("HLEN h");
    let (head, body) = proxy.admin_answer("GET", "/api/v1/entries/lookup?key=h", "");
    assert!(head.contains("x-cache: HIT") && head.contains("age: 0"), "{head}");
    assert!(head.contains("cache-control: max-age=30") || head.contains("max-age=29"), "{head}");
    let found = json(&body);
    let replies = found["replies"].as_array().unwrap();
    let commands: Vec<_> = replies.iter().map(|reply| reply["command"].as_str()).collect();
    assert_eq!(commands, [Some("hlen"), Some("hget")], "the newest first");
    assert_eq!((&found["rule"], &found["present"]), (&"rules[0]".into(), &true.into()));
    assert!(replies[0]["size_bytes"].as_u64() > Some(0), "{found}");
    conn.words("DEL h");
    let (head, body) = proxy.admin_answer("GET", "/api/v1/entries/lookup?key=h", "");
    assert!(head.contains("x-cache: MISS") && head.contains("no-store"), "{head}");
    assert_eq!(json(&body)["replies"], Value::Array(Vec::new()));
}

/// What tools make of the document: no answer that it does not tell of, and none of nearside's
/// own faults.
#[test]
fn the_document_tells_the_truth() {
    let server = Server::start(Kind::Redis);
    let mut proxy = Proxy::start(&server.url(), SETTINGS);
    let mut command = Command::new("timeout");
    command.arg("300").arg(installed("python/bin/schemathesis")).arg("run");
    command.arg(format!("{}/openapi.json", proxy.admin_url())).args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,\
         response_schema_conformance,response_headers_conformance",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "20",
        "--generation-deterministic",
        "--exclude-path",
        ENDLESS,
        "--no-color",
    ]);
    // What it writes beside its report.
    let output = command.current_dir(proxy.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    proxy.assert_alive();
}

#[test]
fn statistics_are_those_of_the_layer_that_it_replaces() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let mut conn = proxy.dial();
        conn.words("SET k 1");
        conn.until_hit("GET k");
        // Workers count for themselves, a moment after they have answered.
        let stats = eventually("the hit is counted", || {
            let stats = got(&proxy, "/api/cache/stats");
            (stats["hits"].as_u64() > Some(0)).then_some(stats)
        });
        let number = |name: &str| stats[name].as_f64().unwrap_or_else(|| panic!("{name}: {stats}"));
        assert!(number("misses") >= 1.0 && number("sets") >= 1.0, "{stats}");
        let sum = stats["hits"].as_u64().unwrap() + stats["misses"].as_u64().unwrap();
        assert_eq!(stats["total_requests"], sum);
        let percent = number("hits") / number("total_requests") * 100.0;
        assert!((number("hit_rate_percent") - percent).abs() < 0.01, "{stats}");
        assert!(number("avg_latency_ms") > 0.0 && stats["keys"] == 1, "{stats}");
        assert!(number("memory_used_mb") > 0.0 && number("max_size") > 0.0, "{stats}");
        assert_eq!((&stats["redis_available"], &stats["backend"]), (&true.into(), &"redis".into()));
        let ratio = got(&proxy, "/api/v1/status")["hit_ratio"].as_f64().unwrap();
        assert!((ratio * 100.0 - percent).abs() < 0.01, "{ratio} {percent}");
        let (status, _) = proxy.admin("POST", "/api/cache/reset-stats", "");
        assert_eq!(status, 200);
        assert_eq!(got(&proxy, "/api/cache/stats")["hits"], 0);
        assert!(got(&proxy, "/api/v1/status")["hit_ratio"].is_null());
        let (_, answer) = proxy.admin("POST", "/api/cache/clear", "{}");
        assert_eq!(json(&answer)["cleared_count"], 1);
    }
}

#[test]
fn health_tells_of_an_upstream_that_is_lost() {
    let mut server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    server.kill();
    eventually("it is seen", || {
        let (status, answer) = proxy.admin("GET", "/healthz", "");
        (status == 503).then(|| assert_eq!(json(&answer)["status"], "down"))
    });
    let (status, answer) = proxy.admin("GET", "/api/health", "");
    assert_eq!((status, &json(&answer)["redis_available"]), (503, &false.into()));
    assert_eq!(got(&proxy, "/api/v1/upstreams")["upstreams"][0]["state"], "down");
    let warnings = got(&proxy, "/api/v1/status")["warnings"].to_string();
    assert!(warnings.contains("upstream: not reached"), "{warnings}");
}

#[test]
fn a_drain_sends_nobody_away() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let mut early = proxy.dial();
    early.words("PING");
    let (_, answer) = proxy.admin("POST", "/api/v1/drain", "");
    assert_eq!(json(&answer)["clients"], 1);
    assert!(early.words("PING").starts_with(b"+PONG"));
    assert!(proxy.dial().words("PING").starts_with(b"+PONG"));
    assert_eq!(proxy.admin("DELETE", "/api/v1/drain", "").0, 200);
    assert!(proxy.log().contains("\"action\":\"resume\""), "{}", proxy.log());
}

#[test]
fn a_log_level_goes_back_by_itself() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let body = "{\"level\":\"info,nearside::data=debug\",\"for\":\"1h\"}";
    let (status, answer) = proxy.admin("PUT", "/api/v1/log/level", body);
    let level = json(&answer);
    assert_eq!((status, &level["level"]), (200, &"info,nearside::data=debug".into()));
    assert!(level["until"].as_str().unwrap().ends_with('Z'), "{level}");
    // Another one takes its place, and its own time.
    let (status, _) =
        proxy.admin("PUT", "/api/v1/log/level", "{\"level\":\"warn\",\"for\":\"1ms\"}");
    assert_eq!(status, 200);
    eventually("it has gone back", || {
        let level = got(&proxy, "/api/v1/log/level");
        (level["level"] == "info" && level["until"].is_null()).then_some(())
    });
}

#[test]
fn what_was_forgotten_is_remembered() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let mut conn = proxy.dial();
    let keys = ["orders:1", "orders:2", "users:1"];
    for key in keys {
        conn.words(&format!("SET {key} 1"));
    }
    // Else a push could take what was stored meanwhile.
    let pushed = "nearside_cache_invalidations_total{source=\"tracking\"}";
    eventually("all are announced", || (proxy.count(pushed) >= 3).then_some(()));
    for key in keys {
        conn.until_hit(&format!("GET {key}"));
    }
    for body in ["{\"namespace\":\"orders\"}", "{\"keys\":[\"a\",\"b\"]}"] {
        assert_eq!(proxy.admin("POST", "/api/v1/invalidations", body).0, 200);
    }
    server.dial().words("PUBLISH system:cache_invalidation users:*");
    let events = eventually("the message was heard", || {
        let events = got(&proxy, "/api/v1/invalidations");
        let is_heard = events["invalidations"][0]["removed"] == 1;
        is_heard.then(|| events["invalidations"].clone())
    });
    let told = |event: &Value| {
        let texts = ["source", "kind", "value"].map(|name| event[name].to_string());
        format!("{} {}", texts.join(" "), event["removed"])
    };
    let events: Vec<_> = events.as_array().unwrap().iter().map(told).collect();
    let wanted = [
        "\"pubsub\" \"pattern\" \"users:*\" 1",
        "\"admin\" \"keys\" null 0",
        "\"admin\" \"namespace\" \"orders\" 2",
    ];
    assert_eq!(events, wanted);
    let one = got(&proxy, "/api/v1/invalidations?limit=1&pretty=1");
    assert_eq!(one["invalidations"].as_array().unwrap().len(), 1);
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["drain.delay = \"1h\""]);
    let mut stream = proxy.admin_stream(ENDLESS);
    let mut told = String::new();
    let mut until = |words: &str| {
        while !told.contains(words) {
            let count = stream.read_line(&mut told).unwrap();
            assert!(count > 0, "it ended behind {told}");
        }
    };
    until("event: stats\ndata: {\"time_ms\":");
    proxy.admin("POST", "/api/v1/drain", "");
    until("event: event\ndata: {\"time\":");
    until("\"event\":\"admin_action\",\"actor\":\"127.0.0.1\",\"action\":\"drain\"");
    proxy.terminate();
    until("\"event\":\"draining\"");
    // The process goes on for an hour; its streams do not.
    until("\r\n0\r\n\r\n");
}
