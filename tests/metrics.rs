//! Every series of `/metrics` is moved by something real: the real binary in front of a real
//! redis-server, through hits, writes, refusals, bad clients and outages. What cannot be brought
//! about that way stands in [`UNMOVED`], with its reason. And what is served is valid Prometheus
//! text.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/authority.rs"]
mod authority;
#[expect(dead_code, reason = "these tests need a part of it")]
#[path = "real/harness.rs"]
mod harness;

use authority::{Authority, VERSIONS};
use harness::{Conn, Kind, LONG, Proxy, Server, eventually, free_port, request};
use nearside::control::invalidate::signature::sign;
use nearside::net::target::Password;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Series that no act below surely moves: a prefix of the series, and why.
const UNMOVED: &[(&str, &str)] = &[
    ("nearside_cache_stores_total{result=\"raced\"}", "needs an order of events: tests/anomalies"),
    ("nearside_cache_stores_total{result=\"short_ttl\"}", "likewise"),
    ("nearside_barrier_waits_total", "likewise"),
    ("nearside_written_canaries_total", "likewise, and tests/real/canary.rs"),
    ("nearside_shadow_checks_total", "likewise"),
    ("nearside_shadow_mismatch_total", "likewise"),
    ("nearside_cache_bypass_total{reason=\"write_hot\"}", "likewise"),
    ("nearside_cache_refreshes_total{kind=\"ahead\",result=\"error\"}", "likewise"),
    ("nearside_cache_refreshes_total{kind=\"ahead\",result=\"dropped\"}", "likewise"),
    ("nearside_cache_refreshes_total{kind=\"stale\",result=\"error\"}", "likewise"),
    ("nearside_cache_refreshes_total{kind=\"stale\",result=\"dropped\"}", "likewise"),
    (
        "nearside_invalidation_messages_refused_total{channel=\"pubsub\",reason=\"full\"}",
        "needs 65,536 signed messages: control/invalidate/signature.rs",
    ),
    ("nearside_log_messages_total{level=\"error\"}", "what must not happen: observe/quiet.rs"),
    ("nearside_log_messages_total{level=\"debug\"}", "all is well: observe/quiet.rs"),
    ("nearside_log_messages_total{level=\"trace\"}", "likewise"),
    (
        "nearside_protocol_errors_total{side=\"upstream\"}",
        "no real server does it: tests/anomalies",
    ),
];

/// The error words that a plain redis-server is made to say here; the others are of clusters,
/// replicas, scripts and full servers, and go through the same line of code.
const SAID: &[&str] = &["ERR", "WRONGTYPE"];

const NAMESPACES: &str = "nearside_namespace_lookups_total{";

type Values = BTreeMap<String, f64>;

/// The text of `/metrics`.
fn text(proxy: &Proxy) -> String {
    let mut stream = TcpStream::connect(proxy.admin_address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Every series with its value; fails if the text is not sound.
fn parse(text: &str) -> Values {
    let (mut values, mut kinds) = (Values::new(), BTreeMap::new());
    let (mut helped, mut current) = (BTreeSet::new(), "");
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name) && !help.is_empty(), "HELP twice, or empty: {line}");
            current = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "TYPE follows HELP: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "TYPE twice: {line}");
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = match kinds.get(current) {
                Some(&"histogram") => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(name),
                _ => name,
            };
            assert_eq!(family, current, "a series stands with its family: {line}");
            check_labels(series);
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(values.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert_eq!(helped, kinds.keys().copied().collect(), "each family has HELP and TYPE");
    check_buckets(&values);
    values
}

fn check_labels(series: &str) {
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let Some((name, labels)) = series.split_once('{') else {
        assert!(word(series), "{series}");
        return;
    };
    assert!(word(name), "{series}");
    let mut seen = BTreeSet::new();
    // No value here has a quote or a comma in it.
    for pair in labels.strip_suffix('}').unwrap().split(',') {
        let (label, value) = pair.split_once('=').unwrap();
        assert!(word(label) && seen.insert(label), "{series}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(!value.contains('"'), "{series}");
    }
}

/// Buckets grow with their bound, and the last counts all.
fn check_buckets(values: &Values) {
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, value) in values {
        if name.contains("_bucket{")
            && let Some((head, rest)) = name.split_once("le=\"")
        {
            let bound: f64 = rest.split('"').next().unwrap().parse().unwrap();
            series.entry(head.to_owned()).or_default().push((bound, *value));
        }
    }
    for (head, mut buckets) in series {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{head}: {buckets:?}");
        let (name, labels) = head.split_once("_bucket{").unwrap();
        let labels = labels.trim_end_matches(',');
        let count = if labels.is_empty() {
            format!("{name}_count")
        } else {
            format!("{name}_count{{{labels}}}")
        };
        assert_eq!(values.get(&count), buckets.last().map(|(_, value)| value), "{count}");
    }
}

/// What all acts have seen: each series, and whether it ever had a value of its own.
#[derive(Default)]
struct Seen(BTreeMap<String, bool>);

impl Seen {
    /// Takes a look. A histogram is judged by its count; the upstream's address says nothing, and
    /// the rows of commands and namespaces go through one line of code each.
    fn look(&mut self, proxy: &Proxy) {
        for (series, value) in parse(&text(proxy)) {
            let name = series.split('{').next().unwrap();
            if name.ends_with("_bucket") || name.ends_with("_sum") {
                continue;
            }
            let free = ["upstream=\"", "cmd=\"", "namespace=\""];
            let (before, rest) = match free.iter().find_map(|label| series.split_once(label)) {
                Some((before, rest)) => (before, rest.split_once('"').unwrap().1),
                None => (series.as_str(), ""),
            };
            let has_moved = value.is_finite() && value != 0.0;
            *self.0.entry(format!("{before}{rest}")).or_default() |= has_moved;
        }
    }

    /// Waits until a series has moved, then takes a look.
    fn until(&mut self, proxy: &Proxy, series: &str) {
        eventually(series, || (proxy.metric(series) > 0.0).then_some(()));
        self.look(proxy);
    }

    /// The same for a series that has the upstream's address in its middle.
    fn until_upstream(&mut self, proxy: &Proxy, what: &str, result: &str) {
        let head = format!("nearside_upstream_{what}_total{{");
        let word = format!("result=\"{result}\"");
        eventually(&word, || {
            let values = parse(&text(proxy));
            let mut wanted =
                values.iter().filter(|(s, _)| s.starts_with(&head) && s.contains(&word));
            wanted.any(|(_, value)| *value > 0.0).then_some(())
        });
        self.look(proxy);
    }
}

#[test]
fn every_series_is_moved_by_something() {
    let mut seen = Seen::default();
    everyday(&mut seen);
    rules(&mut seen);
    shared_reads(&mut seen);
    own_links(&mut seen);
    memory(&mut seen);
    doors(&mut seen);
    rights(&mut seen);
    handshakes(&mut seen);
    endings(&mut seen);
    logs(&mut seen);
    reloads(&mut seen);
    modes(&mut seen);
    reloads(&mut seen);
    orders(&mut seen);
    signatures(&mut seen);
    outage(&mut seen);
    past_its_time(&mut seen);
    without_upstream(&mut seen);
    behind(&mut seen);
    leases(&mut seen);
    connects(&mut seen);
    drain(&mut seen);
    warm_ups(&mut seen);

    let said = |series: &str| SAID.iter().any(|word| series.contains(&format!("\"{word}\"")));
    let is_other_error =
        |series: &str| series.starts_with("nearside_upstream_errors_total") && !said(series);
    let excuse = |series: &str| UNMOVED.iter().find(|(prefix, _)| series.starts_with(prefix));
    let still: Vec<&str> = seen.0.iter().filter(|(_, moved)| !**moved).map(|(s, _)| &**s).collect();
    let unexcused: Vec<_> =
        still.iter().filter(|s| excuse(s).is_none() && !is_other_error(s)).collect();
    assert!(unexcused.is_empty(), "nothing moves {unexcused:#?}");
}

/// Hits on every worker, misses, writes, foreign writes, flushes, errors, refusals.
fn everyday(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let proxy =
        Proxy::start(&server.url(), &["cache.admission = \"always\"", "server.workers = 2"]);
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    one.words("SET a 1");
    for client in [&mut one, &mut two] {
        eventually("a hit", || {
            client.words("GET a");
            (client.hits() > 0).then_some(())
        });
    }
    // Of lookups per namespace one in sixteen is counted.
    eventually("a hit that is counted", || {
        one.words("GET a");
        let values = parse(&text(&proxy));
        let is_hit = |series: &str| series.starts_with(NAMESPACES) && series.contains("\"hit\"");
        values.iter().any(|(series, value)| is_hit(series) && *value > 0.0).then_some(())
    });
    // The push on the tracking link may be there first, and then the write finds nothing to drop.
    eventually("a write drops an entry", || {
        one.words("SET a 2");
        one.words("GET a");
        let series = "nearside_cache_invalidated_keys_total{source=\"write\"}";
        (proxy.metric(series) > 0.0).then_some(())
    });
    one.words("SET a 2");
    // In one packet: the second may not overtake the first.
    one.send(&[request(&["SET", "a", "3"]), request(&["GET", "a"])].concat());
    assert_eq!((one.reply(), one.reply()), (b"+OK\r\n".to_vec(), b"$1\r\n3\r\n".to_vec()));
    let mut direct = server.dial();
    eventually("a foreign write drops an entry", || {
        one.words("GET a");
        direct.words("SET a 4");
        let series = "nearside_cache_invalidated_keys_total{source=\"tracking\"}";
        (proxy.metric(series) > 0.0).then_some(())
    });
    direct.words("FLUSHALL");
    seen.until(&proxy, "nearside_cache_flushes_total{reason=\"flushall\"}");
    eventually("the log says so", || proxy.log().contains("\"cache_flushed\"").then_some(()));
    one.words("SET text no-number");
    assert!(one.words("INCR text").starts_with(b"-ERR"));
    one.words("HSET hash f v");
    assert!(one.words("GET hash").starts_with(b"-WRONGTYPE"));
    assert!(one.words("DEBUG SLEEP 0").starts_with(b"-NOPERM"));
    assert!(one.words("NOSUCHCOMMAND").starts_with(b"-ERR"));
    one.words("PING");
    seen.until(
        &proxy,
        "nearside_invalidation_last_message_timestamp_seconds{channel=\"tracking\"}",
    );
    // Half a request; and replies that nobody reads.
    two.send(b"*2\r\n$3\r\nGE");
    seen.until(&proxy, "nearside_client_input_buffer_bytes");
    direct.ask(&["SET", "big", &"x".repeat(8 << 20)]);
    let mut deaf = proxy.dial();
    deaf.send(&request(&["GET", "big"]));
    seen.until(&proxy, "nearside_client_output_buffer_bytes");
    seen.until(&proxy, "nearside_clients_memory_bytes");
}

/// What is forgotten because an operator or a message says so, and what peers are told.
fn orders(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    // Of bans something is to be seen before they are swept.
    let settings = [
        "cache.admission = \"always\"",
        "cache.sweep_interval = \"1h\"",
        "invalidation.groups = { g = [\"g:*\"] }",
        "invalidation.events = [{ channel = \"saved\", patterns = \"e:{id}:*\" }]",
        "invalidation.max_bans = 64",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let (mut client, mut direct) = (proxy.dial(), server.dial());
    client.words("SET a 1");
    client.until_hit("GET a");
    proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
    seen.until(&proxy, "nearside_invalidation_published_total{result=\"ok\"}");
    proxy.admin("POST", "/api/v1/cache/clear", "{}");
    client.until_hit("GET a");
    let say = |direct: &mut Conn, text: &str| {
        direct.ask(&["PUBLISH", "system:cache_invalidation", text]);
    };
    eventually("the channel is heard", || {
        say(&mut direct, "a");
        let heard = "nearside_cache_invalidated_keys_total{source=\"pubsub\"}";
        (proxy.metric(heard) > 0.0).then_some(())
    });
    let group = "{\"op\":\"group\",\"value\":\"g\"}";
    let version = "{\"op\":\"version\",\"value\":\"v2\"}";
    say(&mut direct, version);
    for text in ["{\"op\":\"namespace\",\"value\":\"a\"}", "a*", group, "*", "{"] {
        say(&mut direct, text);
    }
    direct.ask(&["PUBLISH", "saved", "{\"id\":7}"]);
    seen.until(&proxy, "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"event\"}");
    let malformed = "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"malformed\"}";
    seen.until(&proxy, malformed);
    let last = "nearside_invalidation_last_message_timestamp_seconds{channel=\"pubsub\"}";
    seen.until(&proxy, last);
    // In one packet, so that no sweep comes between: more than are kept.
    let flood: Vec<u8> = (0..300)
        .flat_map(|n| request(&["PUBLISH", "system:cache_invalidation", &format!("{n}:*")]))
        .collect();
    direct.send(&flood);
    seen.until(&proxy, "nearside_cache_flushes_total{reason=\"overflow\"}");

    let mute = Server::with(Kind::Redis, &["--rename-command", "PUBLISH", ""]);
    let proxy = Proxy::start(&mute.url(), &[]);
    proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
    seen.until(&proxy, "nearside_invalidation_published_total{result=\"error\"}");
}

/// Messages that nobody may say.
fn signatures(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let file = server.folder.path().join("secret");
    let secret = "a secret of thirty-two characters";
    fs::write(&file, secret).unwrap();
    let setting = format!("invalidation.secret_file = \"{}\"", file.display());
    let proxy = Proxy::start(&server.url(), &[&setting, "keys.version = \"v1\""]);
    let mut direct = server.dial();
    let refused = |reason: &str| {
        let labels = format!("channel=\"pubsub\",reason=\"{reason}\"");
        format!("nearside_invalidation_messages_refused_total{{{labels}}}")
    };
    let signed = |secret: &str, op: &str, ts: u64| {
        let members = json!({ "op": op, "value": "v2", "ts": ts });
        let mut members = members.as_object().unwrap().clone();
        sign(&Password::new(secret.to_owned()), &mut members).unwrap();
        Value::Object(members).to_string()
    };
    let now = nearside::units::clock::unix_millis();
    let fresh = signed(secret, "all", now);
    let other = signed("another secret, of as many letters", "all", now);
    for (reason, text) in [
        ("unsigned", "plain".to_owned()),
        ("signature", other),
        ("stale", signed(secret, "all", 1)),
        ("replayed", fresh),
    ] {
        eventually(reason, || {
            direct.ask(&["PUBLISH", "system:cache_invalidation", &text]);
            (proxy.count(&refused(reason)) > 0).then_some(())
        });
    }
    direct.ask(&["PUBLISH", "system:cache_invalidation", &signed(secret, "version", now)]);
    seen.until(&proxy, "nearside_key_version_switches_total{source=\"pubsub\"}");
}

/// Why a reply is not stored, or not asked of the cache.
fn rules(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = [
        "cache.admission = \"always\"",
        "cache.commands = [\"GET\"]",
        "keys.max_key_length = 20",
        "rules = [{ match = \"nonil:*\", negative_ttl = \"0s\" }, \
                  { match = \"small:*\", max_value_size = \"1kb\" }, \
                  { match = \"twice:*\", admission = \"second_hit\" }, \
                  { match = \"never:*\", level = \"bypass\" }, \
                  { match = \"short:*\", ttl = \"1ms\" }]",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.ask(&["SET", "small:a", &"x".repeat(2000)]);
    for key in ["twice:a", "never:a", "short:a"] {
        client.ask(&["SET", key, "1"]);
    }
    for key in ["nonil:a", "twice:a", "never:a"] {
        client.ask(&["GET", key]);
    }
    // Nor here may the push of its SET come between.
    eventually("a reply is too large", || {
        client.ask(&["GET", "small:a"]);
        (proxy.metric("nearside_cache_stores_total{result=\"too_large\"}") > 0.0).then_some(())
    });
    client.words("STRLEN twice:a");
    client.words("GET a:key:that:is:too:long");
    eventually("an entry expires", || {
        client.words("GET short:a");
        (proxy.metric("nearside_expired_keys_total") > 0.0).then_some(())
    });
    seen.look(&proxy);
}

/// Two clients wait for one read; and a lease that ends while upstream is silent.
fn shared_reads(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = ["cache.admission = \"always\"", "cache.max_staleness = \"100ms\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut hot = proxy.dial();
    hot.words("SET a 1");
    eventually("a hit", || {
        hot.words("GET a");
        (hot.hits() > 0).then_some(())
    });
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    server.freeze();
    one.send(&request(&["GET", "b"]));
    seen.until(&proxy, "nearside_cache_lookups_total{result=\"miss\"}");
    two.send(&request(&["GET", "b"]));
    // Whichever came first, the other has joined it.
    seen.until(&proxy, "nearside_cache_lookups_total{result=\"coalesced\"}");
    assert_eq!(proxy.count("nearside_commands_in_flight"), 2);
    let mut asking = Vec::new();
    eventually("a lease ends", || {
        let mut client = proxy.dial();
        client.send(&request(&["GET", "a"]));
        asking.push(client);
        (proxy.metric("nearside_cache_bypass_total{reason=\"lease\"}") > 0.0).then_some(())
    });
    server.thaw();
    assert_eq!((one.reply(), two.reply()), (b"$-1\r\n".to_vec(), b"$-1\r\n".to_vec()));
    eventually("all is answered", || {
        (proxy.count("nearside_commands_in_flight") == 0).then_some(())
    });
    seen.look(&proxy);
}

/// Clients that need a link of their own, and one too many.
fn own_links(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["upstream.dedicated_max = 1"]);
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    one.words("WATCH a");
    one.words("GET a");
    assert!(two.words("BLPOP list 0").starts_with(b"-ERR proxy: all 1 dedicated"));
    one.words("UNWATCH");
    one.send(&request(&["BLPOP", "list", "0"]));
    seen.until(&proxy, "nearside_blocked_clients");
    let proxy = Proxy::start(&server.url(), &[]);
    let mut subscriber = proxy.dial();
    for line in ["HELLO 3", "SUBSCRIBE news", "GET a"] {
        subscriber.words(line);
    }
    seen.look(&proxy);
}

fn memory(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = ["cache.admission = \"always\"", "cache.max_memory = \"1mb\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let (mut client, value) = (proxy.dial(), "x".repeat(20_000));
    let keys: Vec<String> = (0..100).map(|index| format!("k{index}")).collect();
    for key in &keys {
        client.ask(&["SET", key, &value]);
    }
    // The push of a SET may come behind the GET that would be stored.
    eventually("an eviction", || {
        for key in &keys {
            client.ask(&["GET", key]);
        }
        (proxy.metric("nearside_evicted_keys_total") > 0.0).then_some(())
    });
    seen.look(&proxy);
}

/// A Unix socket, a password, a client too many.
fn doors(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = ["server.listen = [\"unix:{folder}/door\"]", "server.max_clients = 1"];
    let proxy = Proxy::start(&server.url(), &settings);
    let door = proxy.folder.path().join("door");
    let mut first = Conn::unix(&door);
    first.words("PING");
    assert_eq!(Conn::unix(&door).rest(), b"-ERR max number of clients reached\r\n");
    assert!(proxy.log().contains("\"client_rejected\""), "{}", proxy.log());
    seen.look(&proxy);

    let settings = ["auth.mode = \"static\"", "auth.password = \"right\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    assert!(client.words("GET a").starts_with(b"-NOAUTH"));
    assert!(client.words("AUTH wrong").starts_with(b"-WRONGPASS"));
    seen.look(&proxy);
}

/// What upstream says of its users' rights, or that it says nothing.
fn rights(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = ["auth.mode = \"passthrough\"", "auth.acl_poll = \"20ms\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let polls = |result| format!("nearside_acl_polls_total{{result=\"{result}\"}}");
    seen.until(&proxy, &polls("changed"));
    seen.until(&proxy, &polls("same"));
    server.dial().words("ACL SETUSER default -acl");
    seen.until(&proxy, &polls("denied"));
    server.freeze();
    seen.until(&proxy, &polls("failed"));
    server.thaw();
}

/// What stands before a client's first command, and certificates that are exchanged.
fn handshakes(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let folder = tempfile::TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    authority.sign("127.0.0.1");
    let port = free_port();
    let path = |end| authority.path(&format!("127.0.0.1.{end}")).display().to_string();
    let [cert, key] = ["pem", "key"].map(path);
    let settings = [
        format!("server.tls.listen = [\"127.0.0.1:{port}\"]"),
        format!("server.tls.cert_file = {cert:?}"),
        format!("server.tls.key_file = {key:?}"),
        format!("admin.listen = \"127.0.0.1:{}\"", free_port()),
        format!("admin.tls.cert_file = {cert:?}"),
        format!("admin.tls.key_file = {key:?}"),
        "server.handshake_timeout = \"300ms\"".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = Conn::tls(port, &authority.client(VERSIONS, None)).unwrap();
    assert_eq!(client.words("PING"), b"+PONG\r\n");
    seen.look(&proxy);
    let rejected = |reason| format!("nearside_rejected_connections_total{{reason=\"{reason}\"}}");
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    Conn::tcp(port).send(b"PING\r\n");
    seen.until(&proxy, &rejected("tls"));
    seen.until(&proxy, &rejected("handshake_timeout"));
    drop(silent);
    let read =
        |result| format!("nearside_tls_reloads_total{{listener=\"admin\",result=\"{result}\"}}");
    authority.sign("127.0.0.1");
    proxy.hangup();
    seen.until(&proxy, &read("ok"));
    fs::remove_file(key).unwrap();
    proxy.hangup();
    seen.until(&proxy, &read("error"));

    let proxy = Proxy::start(&server.url(), &["server.proxy_protocol = true"]);
    proxy.dial().send(b"PING\r\n");
    seen.until(&proxy, &rejected("proxy_protocol"));
}

/// How connections end.
fn endings(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = ["server.idle_timeout = \"10ms\"", "server.client_output_limit = \"64kb\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let closed = |reason| format!("nearside_client_disconnections_total{{reason=\"{reason}\"}}");
    drop(proxy.dial());
    seen.until(&proxy, &closed("client"));
    let mut bad = proxy.dial();
    bad.send(b"*1\r\n$x\r\n");
    assert!(bad.rest().starts_with(b"-ERR Protocol error"));
    seen.until(&proxy, &closed("protocol"));
    let mut idle = proxy.dial();
    assert_eq!(idle.rest(), b"");
    seen.until(&proxy, &closed("idle"));
    server.dial().ask(&["SET", "big", &"x".repeat(8 << 20)]);
    let mut deaf = proxy.dial();
    deaf.send(&request(&["GET", "big"]).repeat(4));
    seen.until(&proxy, &closed("output_limit"));
    let settings = ["server.max_clients_memory = \"1mb\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut deaf = proxy.dial();
    deaf.send(&request(&["GET", "big"]).repeat(4));
    seen.until(&proxy, &closed("clients_memory"));
    // Closed with an answer unread, or a linger of nothing: the peer sees a reset.
    let config = fs::read_to_string(proxy.folder.path().join("proxy.toml")).unwrap();
    let address = config.split("server.listen = [\"").nth(1).unwrap().split('"').next().unwrap();
    let rude = TcpStream::connect(address).unwrap();
    socket2::SockRef::from(&rude).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(rude);
    seen.until(&proxy, &closed("error"));
}

/// Wrong tokens, each of which is logged, but not so often; and everything that can be.
fn logs(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let folder = tempfile::TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "t".repeat(32)).unwrap();
    let token = format!("admin.token_file = \"{}\"", token.display());
    let settings = ["log.rate_limit = \"2/h\"", "log.level = \"trace\"", &token];
    let proxy = Proxy::start(&server.url(), &settings);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(proxy.admin_address()).unwrap();
        let ask = "GET /api/v1/mode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Authorization: Bearer wrong\r\n\r\n";
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    seen.until(&proxy, "nearside_log_suppressed_total");
    let log = proxy.log();
    let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!(lines("auth_failed"), 2, "{log}");
    assert!(lines("log_suppressed") >= 1, "{log}");
    let mut subscriber = proxy.dial();
    subscriber.words("SUBSCRIBE news");
    seen.until(&proxy, "nearside_pubsub_clients");
}

/// Another version, other rules, a configuration that is none; and a version by an operator.
fn reloads(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
    let config = proxy.folder.path().join("proxy.toml");
    let text = fs::read_to_string(&config).unwrap().replace("\"v1\"", "\"v2\"");
    for (text, series) in [
        (text.clone(), "nearside_key_version_switches_total{source=\"config\"}"),
        (
            format!("{text}\ncache.level = \"ttl\"\n"),
            "nearside_cache_flushes_total{reason=\"config\"}",
        ),
        (format!("{text}\n[cache"), "nearside_config_reloads_total{result=\"error\"}"),
    ] {
        fs::write(&config, text).unwrap();
        proxy.hangup();
        seen.until(&proxy, series);
    }
    assert_eq!(proxy.count("nearside_config_last_reload_successful"), 0);
    let switch = "{\"version\":\"v3\"}";
    let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", switch);
    assert_eq!(status, 200, "{answer}");
    seen.until(&proxy, "nearside_key_version_switches_total{source=\"admin\"}");
    let shared = ["keys.version = \"v4\"", "keys.version_source = \"upstream\""];
    let member = Proxy::start(&server.url(), &shared);
    server.dial().words("SET system:cache_version v5");
    seen.until(&member, "nearside_key_version_switches_total{source=\"upstream\"}");
    let mut client = proxy.dial();
    assert_eq!(client.words("PROXY VERSION SET v4"), b"+OK\r\n");
    seen.until(&proxy, "nearside_key_version_switches_total{source=\"resp\"}");
    client.words("PROXY BYPASS ON");
    client.words("GET a");
    seen.until(&proxy, "nearside_cache_bypass_total{reason=\"client\"}");
    let fleet = ["keys.version = \"v1\"", "keys.version_source = \"upstream\""];
    let proxy = Proxy::start(&server.url(), &fleet);
    server.dial().words("SET system:cache_version v2");
    seen.until(&proxy, "nearside_key_version_switches_total{source=\"upstream\"}");
}

/// What is only observed; a pure proxy; and no tracking. A client ends another.
fn modes(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["mode = \"observe\""]);
    let mut client = proxy.dial();
    eventually("a would-be hit", || {
        client.words("GET a");
        let would_hit = "nearside_cache_lookups_total{result=\"would_hit\"}";
        (proxy.metric(would_hit) > 0.0).then_some(())
    });
    seen.until(&proxy, "nearside_cache_lookups_total{result=\"would_hit\"}");
    seen.until(&proxy, "nearside_mode_info{mode=\"observe\"}");
    for (setting, reason) in
        [("mode = \"bypass\"", "mode"), ("invalidation.tracking = \"off\"", "tracking_down")]
    {
        let proxy = Proxy::start(&server.url(), &[setting]);
        proxy.dial().words("GET a");
        seen.until(&proxy, &format!("nearside_cache_bypass_total{{reason=\"{reason}\"}}"));
        let (mut killer, mut victim) = (proxy.dial(), proxy.dial());
        let id = String::from_utf8(victim.words("CLIENT ID")).unwrap();
        let id = id.trim_matches([':', '\r', '\n']);
        assert_eq!(killer.words(&format!("CLIENT KILL ID {id}")), b":1\r\n");
        seen.until(&proxy, "nearside_client_disconnections_total{reason=\"killed\"}");
    }
}

/// Upstream is silent, breaks, and is gone.
fn outage(seen: &mut Seen) {
    let mut server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["upstream.request_timeout = \"50ms\""]);
    let mut client = proxy.dial();
    client.words("GET a");
    server.freeze();
    client.send(&request(&["GET", "a"]));
    seen.until_upstream(&proxy, "requests", "timeout");
    server.thaw();

    let proxy = Proxy::start(&server.url(), &["upstream.reconnect_wait = \"10ms\""]);
    let (mut client, mut reader) = (proxy.dial(), proxy.dial());
    client.words("GET a");
    reader.words("GET b");
    server.freeze();
    let sent = proxy.metric("nearside_upstream_sent_bytes_total");
    client.send(&request(&["SET", "a", "1"]));
    eventually("it is sent", || {
        (proxy.metric("nearside_upstream_sent_bytes_total") > sent).then_some(())
    });
    seen.until(&proxy, "nearside_upstream_requests_in_flight");
    let sent = proxy.metric("nearside_upstream_sent_bytes_total");
    reader.send(&request(&["GET", "c"]));
    eventually("it is sent, too", || {
        (proxy.metric("nearside_upstream_sent_bytes_total") > sent).then_some(())
    });
    server.kill();
    seen.until_upstream(&proxy, "requests", "disconnected");
    seen.until(&proxy, "nearside_upstream_retries_total");
    assert_eq!(proxy.count("nearside_upstream_requests_in_flight"), 0);
    assert_eq!(client.rest(), b"", "closed as by a dead Redis");
    eventually("nobody waits any more", || {
        (proxy.count("nearside_commands_in_flight") == 0).then_some(())
    });
    seen.until(&proxy, "nearside_client_disconnections_total{reason=\"upstream\"}");
    seen.until(&proxy, "nearside_cache_flushes_total{reason=\"reconnect\"}");
}

/// What ends is served all the same, and read anew before and after.
fn past_its_time(seen: &mut Seen) {
    let mut server = Server::start(Kind::Redis);
    let settings = [
        "cache.admission = \"always\"",
        "cache.ttl = \"20ms\"",
        "cache.stale_if_error = \"9h\"",
        "cache.grace = \"9h\"",
        "cache.refresh_ahead = 0.5",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.words("SET a 1");
    let mut moves = |series: &str| {
        eventually(series, || {
            client.words("GET a");
            (proxy.metric(series) > 0.0).then_some(())
        });
        seen.look(&proxy);
    };
    moves("nearside_cache_stale_served_total{reason=\"refreshing\"}");
    moves("nearside_cache_refreshes_total{kind=\"stale\",result=\"ok\"}");
    moves("nearside_cache_refreshes_total{kind=\"ahead\",result=\"ok\"}");
    server.kill();
    moves("nearside_cache_stale_served_total{reason=\"upstream_down\"}");
}

/// Something stands in for upstream.
fn without_upstream(seen: &mut Seen) {
    let mut server = Server::start(Kind::Redis);
    let settings = [
        "cache.admission = \"always\"",
        "fallback.enabled = true",
        "fallback.after = \"10ms\"",
        "fallback.writes = \"memory\"",
        "fallback.accept_data_loss = true",
        "fallback.on_recovery = \"replay\"",
    ];
    server.dial().words("SET kept 1");
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.until_hit("GET kept");
    let outage = |client: &mut Conn, seen: &mut Seen, server: &mut Server| {
        server.kill();
        eventually("it stands in", || {
            (proxy.metric("nearside_fallback_active") > 0.0).then_some(())
        });
        *client = proxy.dial();
        assert_eq!(client.words("SET a 1"), b"+OK\r\n");
        seen.look(&proxy);
    };
    outage(&mut client, seen, &mut server);
    client.words("GET kept");
    client.words("GET a");
    assert!(client.words("GET never").starts_with(b"-"));
    assert!(client.words("INCR never").starts_with(b"-"));
    seen.look(&proxy);
    server.restart();
    seen.until(&proxy, "nearside_fallback_recovered_keys_total{result=\"replayed\"}");
    seen.until(&proxy, "nearside_cache_flushes_total{reason=\"fallback\"}");
    proxy.until_ready();
    outage(&mut client, seen, &mut server);
    // A server that takes nothing.
    server.restart_with(&["--maxmemory", "1"]);
    seen.until(&proxy, "nearside_fallback_recovered_keys_total{result=\"lost\"}");
    let proxy = Proxy::unready("redis://127.0.0.1:1", settings.split_last().unwrap().1);
    eventually("it stands in", || (proxy.metric("nearside_fallback_active") > 0.0).then_some(()));
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    let (status, _) = proxy.admin("PATCH", "/api/v1/config", "{\"fallback.enabled\":false}");
    assert_eq!(status, 200);
    seen.until(&proxy, "nearside_fallback_recovered_keys_total{result=\"dropped\"}");
}

/// Writes that are acknowledged before upstream has them.
fn behind(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings = [
        "write_behind.directory = \"{folder}/behind\"",
        "rules = [{ match = \"b:*\", level = \"relaxed\", write_behind = true }]",
    ];
    let proxy = Proxy::start(&server.url(), &settings);
    let (mut client, mut direct) = (proxy.dial(), server.dial());
    direct.words("SET b:text 1");
    direct.words("REPLICAOF 127.0.0.1 1");
    for line in ["SET b:1 1", "SET b:1 2", "HMSET b:text f v"] {
        assert_eq!(client.words(line), b"+OK\r\n");
    }
    assert_eq!(client.words("GET b:1"), b"$1\r\n2\r\n");
    seen.until(&proxy, "nearside_write_behind_flushes_total{result=\"error\"}");
    direct.words("REPLICAOF NO ONE");
    for result in ["made", "replaced", "refused"] {
        let series = format!("nearside_write_behind_writes_total{{result=\"{result}\"}}");
        seen.until(&proxy, &series);
    }
}

/// Leases to fill: given, waited for, refused, used, given back, lost.
fn leases(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let settings =
        ["cache.fill_lease = \"9m\"", "cache.admission = \"always\"", "cache.ttl = \"20ms\""];
    let proxy = Proxy::start(&server.url(), &[&settings[..], &["cache.grace = \"9h\""]].concat());
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    let take = |conn: &mut Conn, key: &str| {
        let reply = conn.words(&format!("PROXY LEASE GET {key} 0"));
        String::from_utf8(reply).unwrap().lines().nth(3).unwrap().to_owned()
    };
    let (used, unused) = (take(&mut one, "used"), take(&mut one, "unused"));
    two.words("PROXY LEASE GET used 0");
    for line in [
        format!("PROXY LEASE SET used {used} 1"),
        format!("PROXY LEASE SET used {used} 2"),
        format!("PROXY LEASE DROP unused {unused}"),
    ] {
        one.words(&line);
    }
    let of = |result: &str| format!("nearside_fill_leases_total{{result=\"{result}\"}}");
    for result in ["granted", "held", "stored", "dropped", "lost"] {
        seen.until(&proxy, &of(result));
    }
    // Its read may find the value before it has to wait for it.
    let mut keys = (0..).map(|number| format!("key:{number}"));
    eventually("a value that was waited for", || {
        let key = keys.next()?;
        let token = take(&mut one, &key);
        two.send(format!("PROXY LEASE GET {key} 60000\r\n").as_bytes());
        one.words(&format!("PROXY LEASE SET {key} {token} 1"));
        two.reply();
        (proxy.metric(&of("waited")) > 0.0).then_some(())
    });
    let stale = "nearside_fill_leases_total{result=\"stale\"}";
    eventually(stale, || {
        one.words("PROXY LEASE GET used 0");
        (proxy.metric(stale) > 0.0).then_some(())
    });
    seen.look(&proxy);
}

/// How connecting fails.
fn connects(seen: &mut Seen) {
    let guarded = Server::with(Kind::Redis, &["--requirepass", "right"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let hasty = TcpListener::bind("127.0.0.1:0").unwrap();
    let hasty_address = hasty.local_addr().unwrap();
    // Ends with the process of the tests.
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = hasty.accept() {
            stream.write_all(b"-ERR go away\r\n").ok();
        }
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, result) in [
        (guarded.url().replace("//", "//:wrong@"), "auth"),
        (format!("rediss://{hasty_address}"), "tls"),
        (format!("redis://{}", silent.0), "timeout"),
        (format!("redis://{hasty_address}"), "error"),
        (format!("redis://{nobody}"), "refused"),
    ] {
        let proxy = Proxy::unready(&url, &["upstream.connect_timeout = \"100ms\""]);
        let mut client = proxy.dial();
        client.send(&request(&["GET", "a"]));
        seen.until_upstream(&proxy, "connects", result);
    }
}

/// An idle client is let go, while one that waits for an answer is not.
fn drain(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let mut proxy = Proxy::start(&server.url(), &[]);
    let (mut busy, mut idle) = (proxy.dial(), proxy.dial());
    busy.words("GET a");
    idle.words("GET a");
    server.freeze();
    busy.send(&request(&["GET", "b"]));
    eventually("it waits", || (proxy.commands_taken() > 0).then_some(()));
    proxy.terminate();
    assert_eq!(idle.rest(), b"");
    seen.until(&proxy, "nearside_client_disconnections_total{reason=\"drain\"}");
    server.thaw();
    assert_eq!(busy.rest(), b"$-1\r\n");
    assert!(proxy.wait().success());
}

/// Runs that are done, that fail and that are stopped, of those that nearside names itself.
fn warm_ups(seen: &mut Seen) {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    for line in ["SET a 1", "RPUSH list a", "ACL SETUSER guard on >secret ~* &* +@all -get"] {
        direct.words(line);
    }
    let settings = ["warming.on_start = true", "warming.snapshot_file = \"hot\""];
    let run = |proxy: &Proxy, body: &str| {
        let (status, answer) = proxy.admin("POST", "/api/v1/warm/runs", body);
        assert_eq!(status, 202, "{answer}");
    };
    let of = |job: &str, result: &str| {
        format!("nearside_warm_runs_total{{job=\"{job}\",result=\"{result}\"}}")
    };
    let mut proxy = Proxy::start(&server.url(), &settings);
    run(&proxy, "{\"keys\":[\"a\",\"list\",\"none\"]}");
    seen.until(&proxy, &of("request", "ok"));
    proxy.terminate();
    assert!(proxy.wait().success());
    let hot = fs::read_to_string(proxy.folder.path().join("hot")).unwrap();
    assert_eq!(hot, "a\n");

    let list = server.folder.path().join("hot");
    fs::write(&list, "a\nb\nc\n").unwrap();
    let snapshot = format!("warming.snapshot_file = \"{}\"", list.display());
    let settings = ["warming.on_start = true", &snapshot];
    let proxy = Proxy::start(&server.url(), &settings);
    seen.until(&proxy, &of("snapshot", "ok"));
    // Nobody may GET: each key is an error, and so is the run.
    let guarded = server.url().replace("//", "//guard:secret@");
    let proxy = Proxy::start(&guarded, &settings);
    seen.until(&proxy, &of("snapshot", "error"));
    run(&proxy, "{\"keys\":[\"a\"]}");
    seen.until(&proxy, &of("request", "error"));
    // At a key a second it is at work until it is stopped.
    fs::write(&list, "key\n".repeat(1000)).unwrap();
    let slow = [settings[0], settings[1], "warming.rate = \"1/s\""];
    let proxy = Proxy::start(&server.url(), &slow);
    seen.until(&proxy, "nearside_warm_runs_in_progress");
    proxy.admin("DELETE", "/api/v1/jobs/1", "");
    seen.until(&proxy, &of("snapshot", "cancelled"));
    let keys: Vec<String> = (0..1000).map(|number| format!("\"key:{number}\"")).collect();
    run(&proxy, &format!("{{\"keys\":[{}]}}", keys.join(",")));
    proxy.admin("DELETE", "/api/v1/jobs/2", "");
    seen.until(&proxy, &of("request", "cancelled"));
}

/// A password of the URL, one of the clients, keys and values: in no log and in no metric.
#[test]
fn secrets_and_data_stay_out_of_logs_and_metrics() {
    let server = Server::with(Kind::Redis, &["--requirepass", "UpstreamPW"]);
    let url = server.url().replace("//", "//:UpstreamPW@");
    let settings =
        ["log.level = \"trace\"", "auth.mode = \"static\"", "auth.password = \"ClientPW\""];
    let mut proxy = Proxy::start(&url, &settings);
    let mut client = proxy.dial();
    client.words("AUTH WrongPW");
    client.words("AUTH ClientPW");
    client.words("SET SomeSpace:SomeKey SomeValue");
    for _ in 0..64 {
        client.words("GET SomeSpace:SomeKey");
    }
    client.words("INCR SomeSpace:SomeKey");
    client.words("SUBSCRIBE SomeChannel");
    client.words("NOSUCH SomeKey");
    let mut bad = proxy.dial();
    bad.send(b"GET SomeKey\r\n*1\r\n$SomeValue\r\n");
    bad.rest();
    let page = text(&proxy);
    proxy.terminate();
    assert!(proxy.wait().success());
    let log = proxy.log();
    assert!(log.contains(":***@"), "the upstream is named, masked: {log}");
    let data = ["UpstreamPW", "ClientPW", "WrongPW", "SomeKey", "SomeValue", "SomeChannel"];
    for secret in data {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        assert!(!page.contains(secret), "{secret} is in the metrics:\n{page}");
    }
}
