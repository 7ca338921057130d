//! What keys of the configuration do that no other test is about, seen from outside: on the wire,
//! in upstream, in the log. `tests/config_keys.rs` has the list of all keys and their tests.

use crate::doors::certificates;
use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, free_port, request};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

/// Sockets as the system has them.
fn sockets(flags: &str, filter: &str) -> String {
    let output = Command::new("ss").arg(flags).arg(filter).output();
    let output = output.unwrap_or_else(|error| panic!("ss: {error}: run tests/run"));
    String::from_utf8(output.stdout).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn doors_are_as_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let settings = ["server.tcp_keepalive = \"1h\"", "server.tcp_backlog = 77"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.words("PING");
    let filter = format!("sport = :{}", proxy.port);
    // Of a socket that listens, this is the length of its queue.
    let listening = sockets("-ltnH", &filter);
    assert_eq!(listening.split_whitespace().nth(2), Some("77"), "{listening}");
    let open = sockets("-tnoH", &filter);
    let is_an_hour = open.contains("(keepalive,59min") || open.contains("(keepalive,60min");
    assert!(is_an_hour, "{open}");

    let settings =
        ["server.listen = [\"unix:{folder}/door\"]", "server.unix_permissions = \"0701\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let door = fs::metadata(proxy.folder.path().join("door")).unwrap();
    assert_eq!(door.permissions().mode() & 0o777, 0o701);
}

/// `rules.write_ttl`.
#[test]
fn what_is_set_for_ever_is_given_an_end() {
    for kind in KINDS {
        let server = Server::start(kind);
        let rules = "rules = [{ match = \"session:*\", write_ttl = \"1h\" }]";
        let proxy = Proxy::start(&server.url(), &[rules, "keys.version = \"v1\""]);
        let (mut client, mut direct) = (proxy.dial(), server.dial());
        let mut end = |key: &str| {
            let answer = text(direct.words(&format!("PTTL v1:{key}")));
            answer.trim_start_matches(':').trim_end().parse::<i64>().unwrap()
        };
        let hour = 3_590_000..=3_600_000;
        assert_eq!(client.words("SET session:1 x"), b"+OK\r\n");
        assert!(hour.contains(&end("session:1")));
        assert_eq!(client.words("SET session:1 y GET"), b"$1\r\nx\r\n");
        assert!(hour.contains(&end("session:1")));
        client.words("SET session:1 x EX 10");
        client.words("SET session:1 y KEEPTTL");
        assert!((1..=10_000).contains(&end("session:1")), "the client's own word holds");
        client.words("SET other x");
        assert_eq!(end("other"), -1);
        client.words("MULTI");
        client.words("SET session:2 x");
        assert_eq!(client.words("EXEC"), b"*1\r\n+OK\r\n");
        assert!(hour.contains(&end("session:2")));
        assert!(client.words("SET session:1 y EX").starts_with(b"-ERR syntax error"));
        let explained = text(client.words("PROXY EXPLAIN SET session:3 x"));
        assert!(explained.contains("SET v1:session:3 x PX 3600000"), "{explained}");
    }
}

#[test]
fn requests_have_limits() {
    let server = Server::start(Kind::Redis);
    let settings = ["server.max_request_size = \"1mb\"", "server.max_args = 5"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    let big = "x".repeat(1 << 20);
    assert_eq!(client.ask(&["SET", "a", &big]), b"+OK\r\n");
    client.send(b"*2\r\n$3\r\nGET\r\n$1048577\r\n");
    assert_eq!(text(client.rest()), "-ERR Protocol error: invalid bulk length\r\n");
    let mut client = proxy.dial();
    assert_eq!(client.words("MSET a 1 b 2"), b"+OK\r\n");
    client.send(b"*6\r\n");
    assert_eq!(text(client.rest()), "-ERR Protocol error: invalid multibulk length\r\n");
}

#[test]
fn a_password_stands_in_a_file() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str, word: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{word}\n")).unwrap();
        path
    };
    let server = Server::with(Kind::Redis, &["--requirepass", "theirs"]);
    let settings = [
        "auth.mode = \"static\"".to_owned(),
        format!("auth.password_file = {:?}", path("ours", "ours")),
        format!("upstream.password_file = {:?}", path("theirs", "theirs")),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    assert!(client.words("SET a 1").starts_with(b"-NOAUTH"));
    assert_eq!(client.words("AUTH ours"), b"+OK\r\n");
    assert_eq!(client.words("SET a 1"), b"+OK\r\n");
}

#[test]
fn upstream_is_entered_as_the_keys_say() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        assert_eq!(direct.words("ACL SETUSER me on >word ~* &* +@all"), b"+OK\r\n");
        let settings = [
            "instance = \"i7\"",
            "upstream.username = \"me\"",
            "upstream.password = \"word\"",
            "upstream.database = 3",
        ];
        let proxy = Proxy::start(&server.url(), &settings);
        assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
        let links = text(direct.words("CLIENT LIST"));
        let ours: Vec<&str> =
            links.lines().filter(|line| line.contains("name=nearside:i7")).collect();
        assert!(!ours.is_empty() && ours.iter().all(|line| line.contains("user=me ")), "{links}");
        direct.words("SELECT 3");
        assert_eq!(direct.words("GET a"), b"$1\r\n1\r\n");
    }
}

/// `instance` and `region`.
#[test]
fn whose_log_and_message_it_is_is_told() {
    let server = Server::start(Kind::Redis);
    for (format, wanted) in
        [("json", r#","instance":"i7","region":"eu"}"#), ("text", " instance=i7 region=eu")]
    {
        let format = format!("log.format = \"{format}\"");
        let settings = ["instance = \"i7\"", "region = \"eu\"", &format];
        let proxy = Proxy::start(&server.url(), &settings);
        let log = proxy.log();
        assert!(log.contains("started") && log.lines().all(|line| line.ends_with(wanted)), "{log}");
        assert!(text(proxy.dial().words("INFO server")).contains("\r\nproxy_region:eu\r\n"));
        let (_, status) = proxy.admin("GET", "/api/v1/status", "");
        assert!(status.contains(r#""instance":"i7","region":"eu""#), "{status}");
        let mut peer = server.dial();
        peer.words("SUBSCRIBE system:cache_invalidation");
        proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
        let said = text(peer.reply());
        assert!(said.contains(r#""origin":"i7:"#) && said.contains(r#""region":"eu""#), "{said}");
    }
}

/// Not the limit of reads, which has hours.
#[test]
fn a_write_has_its_limit() {
    let server = Server::start(Kind::Redis);
    let settings = [
        "upstream.request_timeout = \"9h\"",
        "upstream.write_timeout = \"50ms\"",
        "upstream.on_down = \"error\"",
        "invalidation.tracking = \"off\"",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.words("SET a 1");
    server.freeze();
    let answer = text(client.words("SET a 2"));
    assert!(answer.starts_with('-'), "{answer}");
    server.thaw();
}

#[test]
fn both_sides_show_certificates() {
    let arguments = [
        "--tls-port",
        "{port}",
        "--port",
        "0",
        "--tls-ca-cert-file",
        "{folder}/ca.crt",
        "--tls-cert-file",
        "{folder}/server.crt",
        "--tls-key-file",
        "{folder}/server.key",
    ];
    let server = Server::within(Kind::Redis, &arguments, certificates());
    // The certificate is one of 127.0.0.1.
    let url = format!("rediss://localhost:{}", server.port);
    let file = |key: &str, name: &str| {
        format!("upstream.tls.{key} = {:?}", server.folder.path().join(name))
    };
    let (cert, key) = (file("cert_file", "server.crt"), file("key_file", "server.key"));
    let ca = file("ca_file", "ca.crt");
    let named = "upstream.tls.server_name = \"127.0.0.1\"";
    let proxy = Proxy::start(&url, &[&cert, &key, &ca, named]);
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    // Of nobody's certificate the name is asked.
    let proxy = Proxy::start(&url, &[&cert, &key, "upstream.tls.insecure_skip_verify = true"]);
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    for lacking in [[&ca, named].as_slice(), &[&cert, &key, &ca]] {
        let settings = [lacking, &["upstream.on_down = \"error\""]].concat();
        let proxy = Proxy::unready(&url, &settings);
        assert!(proxy.dial().words("SET a 1").starts_with(b"-"), "{lacking:?}");
    }
}

#[test]
fn keys_have_prefix_version_separator() {
    let server = Server::start(Kind::Redis);
    let settings = ["keys.prefix = \"app\"", "keys.version = \"v7\"", "keys.separator = \"/\""];
    let proxy = Proxy::start(&server.url(), &settings);
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    assert_eq!(server.dial().words("GET app/v7/a"), b"$1\r\n1\r\n");
}

/// What a key of `[cache]` or of a rule does to a key `k`: how often each of these series moves.
struct Bound {
    name: &'static str,
    value: &'static str,
    /// What a client asks.
    line: &'static str,
    /// What then counts.
    series: &'static str,
}

const STORES: &str = "nearside_cache_stores_total";

/// Everything is kept at once and for hours, but for what `set` says.
fn bound(server: &Server, set: &str) -> Proxy {
    let name = set.split(" = ").next().unwrap();
    let base = [
        "cache.admission = \"always\"",
        "cache.ttl = \"9h\"",
        "cache.negative_ttl = \"9h\"",
        "cache.hash_max_ttl = \"9h\"",
    ];
    let base = base.iter().filter(|line| line.split(" = ").next() != Some(name));
    let settings: Vec<&str> = base.copied().chain([set]).collect();
    Proxy::start(&server.url(), &settings)
}

/// Each in `[cache]`, and in a rule that `match`es.
#[test]
fn cache_and_rules_bound() {
    const BOUNDS: [Bound; 6] = [
        Bound {
            name: "level",
            value: "\"bypass\"",
            line: "GET k",
            series: "nearside_cache_bypass_total{reason=\"rule\"}",
        },
        Bound {
            name: "max_value_size",
            value: "4",
            line: "GET k",
            series: "nearside_cache_stores_total{result=\"too_large\"}",
        },
        Bound {
            name: "negative_ttl",
            value: "\"0s\"",
            line: "GET k:none",
            series: "nearside_cache_stores_total{result=\"nil\"}",
        },
        Bound {
            name: "admission",
            value: "\"second_hit\"",
            line: "GET k",
            series: "nearside_cache_stores_total{result=\"not_admitted\"}",
        },
        Bound {
            name: "ttl",
            value: "\"1ms\"",
            line: "GET k",
            series: "nearside_expired_keys_total",
        },
        Bound {
            name: "hash_max_ttl",
            value: "\"1ms\"",
            line: "HGETALL k:hash",
            series: "nearside_expired_keys_total",
        },
    ];
    // Hash fields expire there.
    let server = Server::start(Kind::Valkey);
    let mut direct = server.dial();
    for Bound { name, value, line, series } in BOUNDS {
        for set in [
            format!("cache.{name} = {value}"),
            format!("rules = [{{ match = \"k*\", {name} = {value} }}]"),
        ] {
            direct.words("SET k 1");
            direct.words("SET other 1");
            direct.words("HSET k:hash f v");
            let proxy = bound(&server, &set);
            let mut client = proxy.dial();
            if set.starts_with("rules") {
                client.until_hit("GET other");
                assert_eq!(proxy.count(series), 0, "{set}: it is of no other key");
            }
            eventually(&set, || {
                client.words(line);
                (proxy.metric(series) > 0.0).then_some(())
            });
        }
    }
    // Not asked for its remaining life (ttl_probe), in spite of which it is stored.
    for set in
        ["cache.ttl_probe = \"never\"", "rules = [{ match = \"k*\", ttl_probe = \"never\" }]"]
    {
        let proxy = bound(&server, set);
        direct.words("CONFIG RESETSTAT");
        proxy.dial().until_hit("GET k");
        assert!(proxy.metric(STORES) > 0.0);
        assert!(!text(direct.words("INFO commandstats")).contains("cmdstat_pttl"), "{set}");
    }
    each_lease_is_its_rules(&server);
}

/// By `max_entries`, and by `ttl_jitter`.
#[test]
fn keys_are_bounded_and_do_not_end_together() {
    let server = Server::start(Kind::Redis);
    let settings = ["cache.admission = \"always\"", "cache.ttl = \"9h\"", "cache.max_entries = 3"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    (0..20).for_each(|key| drop(client.until_hit(&format!("GET k:{key}"))));
    assert!((1..=3).contains(&proxy.count("nearside_cache_entries")), "of 20");
    assert!(proxy.count("nearside_evicted_keys_total") >= 17);

    let nine_hours = 9 * 60 * 60 * 1_000;
    for (jitter, is_spread) in [("0", false), ("0.9", true)] {
        server.dial().words("MSET k:0 v k:1 v k:2 v k:3 v k:4 v k:5 v k:6 v k:7 v k:8 v k:9 v");
        let jitter = format!("cache.ttl_jitter = {jitter}");
        let settings = ["cache.admission = \"always\"", "cache.ttl = \"9h\"", &jitter];
        let proxy = Proxy::start(&server.url(), &settings);
        let mut client = proxy.dial();
        let left = (0..10).map(|key| {
            client.until_hit(&format!("GET k:{key}"));
            let (_, held) = proxy.admin("GET", &format!("/api/v1/entries/lookup?key=k:{key}"), "");
            let held: Value = serde_json::from_str(&held).unwrap();
            held["replies"][0]["ttl_ms"].as_u64().unwrap()
        });
        let least = left.min().unwrap();
        assert_eq!(least < nine_hours * 9 / 10, is_spread, "{jitter}: {least}");
        assert!((nine_hours / 11..=nine_hours).contains(&least), "{jitter}: {least}");
    }
}

/// The bound of one rule (`max_staleness`) is not that of another.
fn each_lease_is_its_rules(server: &Server) {
    let rules = "rules = [{ match = \"k\", max_staleness = \"100ms\" }]";
    let settings = ["cache.admission = \"always\"", "cache.max_staleness = \"9h\"", rules];
    let proxy = Proxy::start(&server.url(), &settings);
    let (mut long, mut short) = (proxy.dial(), proxy.dial());
    long.until_hit("GET other");
    short.until_hit("GET k");
    server.freeze();
    let mut asking = Vec::new();
    eventually("the lease of one ends", || {
        let mut client = proxy.dial();
        client.send(&request(&["GET", "k"]));
        asking.push(client);
        (proxy.metric("nearside_cache_bypass_total{reason=\"lease\"}") > 0.0).then_some(())
    });
    assert_eq!(long.words("GET other"), b"$1\r\n1\r\n", "upstream says nothing, and need not");
    server.thaw();
}

/// Each in `[cache]`, and in a rule that `match`es: `stale_if_error`, `grace`, `refresh_ahead`.
#[test]
fn what_ends_is_served_and_read_anew_as_the_keys_say() {
    let mut server = Server::start(Kind::Redis);
    for (name, value, series) in [
        ("stale_if_error", "\"9h\"", "nearside_cache_stale_served_total{reason=\"upstream_down\"}"),
        ("grace", "\"9h\"", "nearside_cache_stale_served_total{reason=\"refreshing\"}"),
        ("refresh_ahead", "0.9", "nearside_cache_refreshes_total{kind=\"ahead\",result=\"ok\"}"),
    ] {
        for set in [
            format!("cache.{name} = {value}"),
            format!("rules = [{{ match = \"k*\", {name} = {value} }}]"),
        ] {
            let settings = [
                "cache.admission = \"always\"",
                "cache.ttl = \"20ms\"",
                "upstream.on_down = \"error\"",
                &set,
            ];
            // Before nearside comes: no push of it may be on its way.
            server.dial().words("MSET k 1 other 1");
            let proxy = Proxy::start(&server.url(), &settings);
            let mut client = proxy.dial();
            let is_down = name == "stale_if_error";
            if is_down {
                client.until_hit("GET k");
                client.until_hit("GET other");
                server.kill();
            }
            eventually(&set, || {
                client.words("GET k");
                (proxy.metric(series) > 0.0).then_some(())
            });
            if is_down {
                assert_eq!(client.words("GET k"), b"$1\r\n1\r\n");
                let is_served = client.words("GET other") == b"$1\r\n1\r\n";
                assert_eq!(is_served, set.starts_with("cache"), "{set}: it is of no other key");
                server.restart();
            }
        }
    }
}

#[test]
fn replies_of_one_key_are_counted() {
    let server = Server::start(Kind::Redis);
    let settings = ["cache.admission = \"always\"", "cache.max_variants = 1"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.words("SET a 1");
    client.until_hit("GET a");
    client.words("STRLEN a");
    eventually("there is no room for another reply of it", || {
        client.words("STRLEN a");
        let full = "nearside_cache_stores_total{result=\"not_admitted\"}";
        (proxy.metric(full) > 0.0).then_some(())
    });
    assert_eq!(proxy.count("nearside_cache_entries"), 1);
}

#[test]
fn peers_are_told_as_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let order = |proxy: &Proxy| proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
    for setting in ["invalidation.publish = false", "invalidation.channel = \"\""] {
        let proxy = Proxy::start(&server.url(), &[setting]);
        let (status, answer) = order(&proxy);
        assert!(status == 200 && answer.contains("\"published\":false"), "{setting}: {answer}");
    }
    let proxy = Proxy::start(&server.url(), &["invalidation.channel = \"ours\""]);
    let mut peer = server.dial();
    peer.words("SUBSCRIBE ours");
    assert!(order(&proxy).1.contains("\"published\":true"));
    assert!(text(peer.reply()).contains("message"));
}

/// A text that was not kept cannot be given again to a server that has lost it.
#[test]
fn texts_of_scripts_are_kept() {
    let server = Server::start(Kind::Redis);
    let script = "return redis.call('GET', KEYS[1])";
    for (memory, answer) in [("8mb", "$-1\r\n"), ("1", "-NOSCRIPT")] {
        let setting = format!("scripts.memory = \"{memory}\"");
        let proxy = Proxy::start(&server.url(), &[&setting]);
        let mut client = proxy.dial();
        let loaded = text(client.ask(&["SCRIPT", "LOAD", script]));
        let sha = loaded.lines().nth(1).unwrap();
        server.dial().words("SCRIPT FLUSH");
        let said = text(client.ask(&["EVALSHA", sha, "1", "none"]));
        assert!(said.starts_with(answer), "{memory}: {said}");
    }
}

/// Status of a page that is asked for by this name.
fn page(proxy: &Proxy, path: &str, host: &str) -> String {
    page_at(&proxy.admin_address(), path, host)
}

fn page_at(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

/// `auth` wants a token of any role; `enabled` is asked at each request; `listen` has nothing else.
#[test]
fn the_page_of_metrics_is_as_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let port = free_port();
    let settings = [
        "metrics.auth = true",
        &format!("metrics.listen = \"127.0.0.1:{port}\""),
        "admin.readonly_token_file = \"{folder}/token\"",
    ];
    let folder = TempDir::new().unwrap();
    let token = "t".repeat(32);
    fs::write(folder.path().join("token"), &token).unwrap();
    let place = folder.path().to_str().unwrap();
    let settings = settings.map(|line| line.replace("{folder}", place));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let proxy = Proxy::start(&server.url(), &settings);
    let (bad, good) =
        ("x\r\nAuthorization: Bearer guess", format!("x\r\nAuthorization: Bearer {token}"));
    for place in [proxy.admin_address(), format!("127.0.0.1:{port}")] {
        let ask = |path: &str, host: &str| page_at(&place, path, host);
        assert_eq!(["x", bad, &good].map(|host| ask("/metrics", host)), ["401", "401", "200"]);
        assert_eq!([ask("/livez", "x"), ask("/readyz", "x")], ["200", "200"]);
    }
    let watched = format!("127.0.0.1:{port}");
    for path in ["/", "/openapi.json", "/api/v1/mode"] {
        assert_eq!(page_at(&watched, path, &good.replace("x\r", "localhost\r")), "404", "{path}");
    }

    let proxy = Proxy::start(&server.url(), &["metrics.enabled = false"]);
    assert_eq!([page(&proxy, "/metrics", "x"), page(&proxy, "/livez", "x")], ["404", "200"]);
    let (status, _) = proxy.admin("PATCH", "/api/v1/config", "{\"metrics.enabled\":true}");
    assert_eq!((status, page(&proxy, "/metrics", "x")), (200, "200".to_owned()));
}

/// The first so many (`max_namespaces`), or those that are chosen (`namespaces`); of times the
/// bounds (`buckets_seconds`).
#[test]
fn metrics_tell_apart_what_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let lookups = |proxy: &Proxy| {
        let mut client = proxy.dial();
        for name in ["one", "two", "three"] {
            client.until_hit(&format!("GET {name}:k"));
            client.send(&request(&["GET", &format!("{name}:k")]).repeat(500));
            (0..500).for_each(|_| drop(client.reply()));
        }
        ["one", "two", "three", "_other"].map(|name| {
            let series = format!("nearside_namespace_lookups_total{{namespace=\"{name}\"");
            proxy.count(&series) > 0
        })
    };
    let start = |set: &str| Proxy::start(&server.url(), &["server.workers = 1", set]);
    let proxy = start("metrics.max_namespaces = 2");
    assert_eq!(lookups(&proxy), [true, true, false, true]);
    let proxy = start("metrics.namespaces = [\"three\"]");
    assert_eq!(lookups(&proxy), [false, false, true, true]);

    let bounds = |proxy: &Proxy| {
        let (_, page) = proxy.admin("GET", "/metrics", "");
        let series = "nearside_upstream_request_duration_seconds_bucket{";
        let lines = page.lines().filter(|line| line.starts_with(series));
        let le = lines.filter_map(|line| line.split("le=\"").nth(1)?.split('"').next());
        le.map(str::to_owned).collect::<Vec<_>>()
    };
    let proxy = start("metrics.buckets_seconds = [0.00075, 1, 7]");
    assert_eq!(bounds(&proxy), ["0.00075", "1", "7", "+Inf"]);
}

#[test]
fn the_admin_port_is_as_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let settings = ["metrics.path = \"/m\"", "admin.allowed_hosts = [\"pod-7\"]"];
    let proxy = Proxy::start(&server.url(), &settings);
    assert_eq!([page(&proxy, "/m", "x"), page(&proxy, "/metrics", "x")], ["200", "404"]);
    assert_eq!(page(&proxy, "/api/v1/mode", "pod-7"), "200");
    assert_ne!(page(&proxy, "/api/v1/mode", "pod-8"), "200");
}

#[test]
fn logs_are_text_or_json() {
    let server = Server::start(Kind::Redis);
    for format in ["text", "json"] {
        let proxy = Proxy::start(&server.url(), &[&format!("log.format = \"{format}\"")]);
        let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
        let log = proxy.log();
        assert_eq!(log.lines().all(is_json), format == "json", "{log}");
    }
}

/// First clients still come in, and are told not to (`delay`); later those who will not go are cut
/// (`timeout`).
#[test]
fn hot_keys_are_noted_as_the_keys_say() {
    let server = Server::start(Kind::Redis);
    let noted = |proxy: &Proxy| proxy.count("nearside_hotkeys_tracked");
    let read = |client: &mut Conn, key: &str| {
        client.send(&request(&["GET", key]).repeat(1_000));
        (0..1_000).for_each(|_| drop(client.reply()));
    };
    let settings = ["server.workers = 1", "hotkeys.capacity = 8"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    (0..20).for_each(|key| read(&mut client, &format!("key{key}")));
    assert!((1..=8).contains(&noted(&proxy)), "{} of 20", noted(&proxy));

    // By the built-in value it would take minutes.
    let proxy = Proxy::start(&server.url(), &["hotkeys.half_life = \"1s\""]);
    let mut client = proxy.dial();
    eventually("it is noted", || {
        read(&mut client, "once");
        (noted(&proxy) == 1).then_some(())
    });
    eventually("it is forgotten", || (noted(&proxy) == 0).then_some(()));

    let proxy = Proxy::start(&server.url(), &["server.workers = 1", "hotkeys.sample = 1"]);
    let mut client = proxy.dial();
    let looked = || proxy.count("nearside_namespace_lookups_total");
    (0..7).for_each(|_| drop(client.words("GET orders:1")));
    assert_eq!(looked(), 7);
    // The next is still one of one; behind it there may be one of a thousand.
    let (status, _) = proxy.admin("PATCH", "/api/v1/config", "{\"hotkeys.sample\":1000}");
    assert_eq!(status, 200);
    (0..7).for_each(|_| drop(client.words("GET orders:1")));
    assert!([8, 1_008, 2_008].contains(&looked()), "{}", looked());
}

/// The second key would be loaded an hour after the first.
#[test]
fn a_start_waits_no_longer() {
    let server = Server::start(Kind::Redis);
    server.dial().words("MSET a:1 one a:2 two");
    let settings = [
        "warming.on_start = true",
        "warming.ready_when_warm = true",
        "warming.ready_timeout = \"1s\"",
        "warming.rate = \"1/h\"",
        "warming.popular = { a = [\"1\", \"2\"] }",
    ];
    // It is ready all the same.
    let proxy = Proxy::start(&server.url(), &settings);
    assert_eq!(proxy.count("nearside_warm_keys_total{result=\"loaded\"}"), 1);
    assert_eq!(proxy.count("nearside_warm_runs_in_progress"), 1);
}

/// After the first hundred keys half of the memory is used.
#[test]
fn warm_up_leaves_room() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    let keys: Vec<String> = (0..200).map(|key| format!("key{key}")).collect();
    for key in &keys {
        direct.ask(&["SET", key, &"x".repeat(6_000)]);
    }
    let settings = [
        "cache.max_memory = \"1mb\"",
        "warming.rate = \"off\"",
        "warming.concurrency = 100",
        "warming.max_memory_ratio = 0.5",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let body = json!({ "keys": keys }).to_string();
    let (status, answer) = proxy.admin("POST", "/api/v1/warm/runs", &body);
    assert_eq!(status, 202, "{answer}");
    let ended = "nearside_warm_runs_total{job=\"request\",result=\"ok\"}";
    eventually("the run has ended", || (proxy.count(ended) == 1).then_some(()));
    let count =
        |result: &str| proxy.count(&format!("nearside_warm_keys_total{{result=\"{result}\"}}"));
    assert_eq!(["loaded", "skipped"].map(count), [100, 100]);
}

#[test]
fn a_drain_waits_as_long_as_it_may() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["drain.delay = \"9h\""]);
    proxy.terminate();
    eventually("it is not ready", || (page(&proxy, "/readyz", "x") == "503").then_some(()));
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");

    let settings = ["drain.timeout = \"50ms\"", "upstream.request_timeout = \"9h\""];
    let mut proxy = Proxy::start(&server.url(), &settings);
    let mut busy: Conn = proxy.dial();
    busy.words("SET a 1");
    server.freeze();
    busy.send(&request(&["SET", "a", "2"]));
    eventually("it is taken", || (proxy.commands_taken() > 1).then_some(()));
    proxy.terminate();
    assert!(proxy.wait().success());
    assert_eq!(busy.rest(), b"");
    assert!(proxy.log().contains("clients were cut off"), "{}", proxy.log());
    server.thaw();
}

/// `server.max_clients_memory`: who has sent too much of a request counts as well, and what was held
/// counts no longer when it has gone.
#[test]
fn a_request_that_never_ends_makes_room() {
    let server = Server::start(Kind::Redis);
    let settings = ["server.max_clients_memory = \"40mb\"", "server.workers = 2"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut other = proxy.dial();
    other.words("SET key value");
    let mut client = proxy.dial();
    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$268435456\r\n");
    let held = || proxy.metric("nearside_clients_memory_bytes");
    // As far as it comes.
    let part = vec![b'x'; 8 << 20];
    while client.try_send(&part).is_ok() {}
    let closed = || proxy.count("nearside_client_disconnections_total{reason=\"clients_memory\"}");
    eventually("it is closed", || (closed() == 1).then_some(()));
    eventually("nothing is held", || (held() < 1e6).then_some(()));
    assert_eq!(other.words("GET key"), b"$5\r\nvalue\r\n");
}

/// `server.max_clients_memory`: the first of those who read nothing is closed, no other.
#[test]
fn who_takes_nothing_for_longest_makes_room() {
    let server = Server::start(Kind::Valkey);
    // (What allocators take for 16 MiB and a head is 20.)
    let big = vec![b'x'; 15 << 20];
    let settings = ["server.max_clients_memory = \"40mb\"", "server.workers = 1"];
    let proxy = Proxy::start(&server.url(), &settings);
    assert_eq!(proxy.dial().ask(&[b"SET".as_slice(), b"big", &big]), b"+OK\r\n");
    let unsent = || proxy.metric("nearside_client_output_buffer_bytes");
    let closed = || proxy.count("nearside_client_disconnections_total{reason=\"clients_memory\"}");
    let mut clients = Vec::new();
    // What the system keeps for each comes on top.
    while closed() == 0 {
        let (mut client, before) = (proxy.dial(), unsent());
        client.send(&request(&["GET", "big"]));
        eventually("its answer waits", || (unsent() > before || closed() > 0).then_some(()));
        clients.push(client);
    }
    assert!(clients.len() > 2);
    assert!(clients.remove(0).rest().len() < big.len());
    assert!(clients.iter_mut().all(|client| client.reply().len() > big.len()));
    assert_eq!(closed(), 1);
}
