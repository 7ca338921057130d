//! Where it is said what is to be forgotten: several channels, other servers, groups of patterns,
//! events of applications, signatures, floods.

use crate::harness::{Conn, Kind, Proxy, Server, eventually};
use serde_json::{Value, json};

const UP: &str = "nearside_invalidation_channel_up{channel=\"pubsub\"";

const HEARD: &str = "nearside_invalidation_messages_total{channel=\"pubsub\"";

/// One that keeps everything, and listens at so many servers.
fn proxy(server: &Server, settings: &[&str], servers: u64) -> Proxy {
    let all = [&["cache.admission = \"always\"", "cache.ttl = \"1h\""], settings].concat();
    let proxy = Proxy::start(&server.url(), &all);
    listening(&proxy, servers);
    proxy
}

fn listening(proxy: &Proxy, servers: u64) {
    eventually("it listens everywhere", || (proxy.count(UP) == servers).then_some(()));
}

/// A server that has these keys before nearside comes, and no push of a write is on its way.
fn server(keys: &[&str]) -> Server {
    let server = Server::start(Kind::Redis);
    for key in keys {
        server.dial().ask(&["SET", key, "1"]);
    }
    server
}

fn warm(proxy: &Proxy, keys: &[&str]) -> Conn {
    let mut client = proxy.dial();
    for key in keys {
        client.until_hit(&format!("GET {key}"));
    }
    client
}

/// Which of the keys are answered by nearside itself.
fn held<'k>(client: &mut Conn, keys: &[&'k str]) -> Vec<&'k str> {
    let is_hit = |key: &&str| {
        let before = client.hits();
        client.words(&format!("GET {key}"));
        client.hits() > before
    };
    keys.iter().copied().filter(is_hit).collect()
}

/// Says something, and returns when it has been counted.
fn say(proxy: &Proxy, to: &Server, channel: &str, text: &str) {
    let before = proxy.count(HEARD);
    assert_eq!(to.dial().ask(&["PUBLISH", channel, text]), b":1\r\n", "nobody hears {channel}");
    eventually("it is heard", || (proxy.count(HEARD) > before).then_some(()));
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// On each of the channels it is heard, on the first it is said; `NUMPAT` does not show them.
#[test]
fn several_channels_are_listened_to() {
    let server = server(&["a", "b"]);
    let proxy = proxy(&server, &["invalidation.channel = [\"one\", \"two*\", \"one\"]"], 1);
    let mut client = warm(&proxy, &["a", "b"]);
    say(&proxy, &server, "one", "a");
    say(&proxy, &server, "two*", "b");
    assert!(held(&mut client, &["a", "b"]).is_empty());
    assert_eq!(server.dial().words("PUBSUB NUMPAT"), b":2\r\n");
    assert_eq!(client.words("PUBSUB NUMPAT"), b":0\r\n");

    let mut peer = server.dial();
    peer.words("SUBSCRIBE one");
    let (_, answer) = proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    assert!(String::from_utf8_lossy(&peer.reply()).contains("\"op\":\"key\""));
}

/// What another region's server is told is forgotten here; nothing is said there.
#[test]
fn other_servers_are_listened_to_and_their_loss_is_seen() {
    let (server, mut eu) = (server(&["a", "b", "c"]), Server::start(Kind::Valkey));
    let us = Server::with(Kind::Redis, &["--requirepass", "EuPassword"]);
    let sources = format!(
        "invalidation.sources = [{{ name = \"eu\", url = \"{}\" }}, \
         {{ name = \"us\", url = \"{us}\", username = \"default\", password_file = \"{}\" }}, \
         {{ name = \"us-2\", url = \"{us}\", password = \"EuPassword\" }}]",
        eu.url(),
        server.folder.path().join("password").display(),
        us = us.url(),
    );
    std::fs::write(server.folder.path().join("password"), "EuPassword\n").unwrap();
    let proxy = proxy(&server, &[&sources], 4);
    let mut client = warm(&proxy, &["a", "b", "c"]);
    say(&proxy, &eu, "system:cache_invalidation", "a");
    assert_eq!(held(&mut client, &["a", "b", "c"]), ["b", "c"]);
    let mut there = eu.dial();
    there.words("SUBSCRIBE system:cache_invalidation");
    let (_, answer) = proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"b\"]}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    let ok = "nearside_invalidation_published_total{result=\"ok\"}";
    eventually("it is said at upstream", || (proxy.count(ok) == 1).then_some(()));
    assert_eq!(there.words("PING"), b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "and not there");

    eu.kill();
    eventually("the loss is seen", || (proxy.count(UP) == 3).then_some(()));
    let address = format!("127.0.0.1:{}", eu.port);
    let series = format!("{UP},upstream=\"{address}\",source=\"eu\"}} 0");
    assert!(proxy.admin("GET", "/metrics", "").1.contains(&series), "no {series}");
    let (_, answer) = proxy.admin("GET", "/api/v1/upstreams", "");
    let down = json!({ "source": "eu", "address": address, "state": "down" });
    assert_eq!(json(&answer)["channels"][1], down, "{answer}");
    assert_eq!(json(&answer)["channels"][0]["source"], "upstream", "{answer}");
    let (_, answer) = proxy.admin("GET", "/api/v1/status", "");
    let warning = format!("invalidation: eu: messages are not heard at {address}");
    assert!(json(&answer)["warnings"].as_array().unwrap().contains(&warning.into()), "{answer}");
    let log = proxy.log();
    assert!(
        log.contains("invalidation_channel_down") && log.contains("\"source\":\"eu\""),
        "{log}"
    );
    assert!(!log.contains("EuPassword"), "{log}");
    eu.restart();
    listening(&proxy, 4);
    say(&proxy, &eu, "system:cache_invalidation", "c");
    assert!(!held(&mut client, &["c"]).contains(&"c"));
}
