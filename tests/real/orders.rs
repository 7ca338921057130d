//! Orders: what is to be forgotten because an operator, an application or a peer says so. Each is
//! in force for the next request, and counts what it has removed.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually};

const SETTINGS: &[&str] = &["keys.version = \"v1\"", "cache.ttl = \"1h\""];

const KEYS: [&str; 4] = ["orders:1", "orders:2", "users:1", "plain"];

/// A server that has the keys before nearside comes: no push of a write is on its way when a test
/// looks at what is held.
fn server(kind: Kind) -> Server {
    let server = Server::start(kind);
    let mut direct = server.dial();
    for key in KEYS {
        direct.words(&format!("SET v1:{key} 1"));
    }
    server
}

fn proxy(server: &Server) -> Proxy {
    Proxy::start(&server.url(), SETTINGS)
}

/// All keys are answered by nearside.
fn warm(proxy: &Proxy) -> Conn {
    let mut client = proxy.dial();
    for key in KEYS {
        client.until_hit(&format!("GET {key}"));
    }
    client
}

/// Which of the keys nearside still answers by itself.
fn held(client: &mut Conn) -> Vec<&'static str> {
    let is_hit = |key: &&'static str| {
        let before = client.hits();
        client.words(&format!("GET {key}"));
        client.hits() > before
    };
    KEYS.into_iter().filter(is_hit).collect()
}

#[test]
fn an_operator_invalidates_over_http() {
    for kind in KINDS {
        let server = server(kind);
        let proxy = proxy(&server);
        for (body, left, removed) in [
            ("{\"keys\":[\"orders:1\",\"none\"]}", vec!["orders:2", "users:1", "plain"], 1),
            ("{\"namespace\":\"orders\"}", vec!["users:1", "plain"], 2),
            ("{\"namespace\":\"_root\"}", vec!["orders:1", "orders:2", "users:1"], 1),
            ("{\"pattern\":\"*:1\"}", vec!["orders:2", "plain"], 2),
            ("{\"pattern\":\"nothing:*\"}", KEYS.to_vec(), 0),
        ] {
            let mut client = warm(&proxy);
            let dry = body.replace('}', ",\"dry_run\":true}");
            let (status, answer) = proxy.admin("POST", "/api/v1/invalidations", &dry);
            assert_eq!(status, 200, "{answer}");
            assert!(answer.contains(&format!("\"matched\":{removed},")), "{body}: {answer}");
            assert_eq!(held(&mut client), KEYS, "a dry run changes nothing");
            let (status, answer) = proxy.admin("POST", "/api/v1/invalidations", body);
            assert_eq!(status, 200, "{answer}");
            assert!(answer.contains(&format!("\"removed\":{removed},")), "{body}: {answer}");
            assert_eq!(held(&mut client), left, "{body}");
        }
        let mut client = warm(&proxy);
        let (status, answer) = proxy.admin("POST", "/api/v1/cache/clear", "{}");
        assert_eq!((status, answer.contains("\"removed\":4")), (200, true), "{answer}");
        assert!(held(&mut client).is_empty());
        let counted = |metric: &str| proxy.count(&format!("{metric}{{source=\"admin\"}}"));
        assert_eq!(counted("nearside_cache_invalidations_total"), 6);
        assert_eq!(counted("nearside_cache_invalidated_keys_total"), 6);
        assert!(proxy.log().contains("admin_action"));
    }
}

#[test]
fn applications_say_on_the_channel_what_is_to_be_forgotten() {
    for kind in KINDS {
        let server = server(kind);
        let proxy = proxy(&server);
        eventually("the channel is heard", || {
            let up = "nearside_invalidation_channel_up{channel=\"pubsub\"";
            (proxy.count(up) == 1).then_some(())
        });
        let messages = [
            ("orders:1", vec!["orders:2", "users:1", "plain"]),
            ("orders:*", vec!["users:1", "plain"]),
            ("*", vec![]),
            ("{\"op\":\"key\",\"value\":[\"plain\",\"users:1\"]}", vec!["orders:1", "orders:2"]),
            ("{\"op\":\"namespace\",\"value\":\"users\"}", vec!["orders:1", "orders:2", "plain"]),
            ("{\"op\":\"nonsense\"}", KEYS.to_vec()),
            ("{", KEYS.to_vec()),
        ];
        for (count, (message, left)) in (1..).zip(messages) {
            let mut client = warm(&proxy);
            // Whoever publishes sees nearside among the subscribers, and knows that it is heard.
            let heard = server.dial().ask(&["PUBLISH", "system:cache_invalidation", message]);
            assert_eq!(heard, b":1\r\n");
            eventually("the message was heard", || {
                (proxy.count("nearside_invalidation_messages_total") == count).then_some(())
            });
            assert_eq!(held(&mut client), left, "{message}");
        }
        let malformed =
            "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"malformed\"}";
        assert_eq!(proxy.count(malformed), 2);
    }
}

/// It is not kept until its end has come, and those behind it are heard.
#[test]
fn a_message_without_end_is_not_waited_for() {
    let server = server(Kind::Redis);
    let mut proxy = proxy(&server);
    let malformed = "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"malformed\"}";
    let keys = "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"key\"}";
    let mut direct = server.dial();
    eventually("the message is not waited for", || {
        direct.ask(&["PUBLISH", "system:cache_invalidation", &"x".repeat(4 << 20)]);
        (proxy.count(malformed) > 0).then_some(())
    });
    eventually("another is heard", || {
        direct.ask(&["PUBLISH", "system:cache_invalidation", "a"]);
        (proxy.count(keys) > 0).then_some(())
    });
    proxy.assert_alive();
}

#[test]
fn an_order_given_to_one_proxy_is_in_force_at_the_other() {
    let server = server(Kind::Redis);
    let (one, two) = (proxy(&server), proxy(&server));
    let heard = |proxy: &Proxy| proxy.count("nearside_invalidation_messages_total");
    for proxy in [&one, &two] {
        eventually("the channel is heard", || {
            let up = "nearside_invalidation_channel_up{channel=\"pubsub\"";
            (proxy.count(up) == 1).then_some(())
        });
    }
    let (mut here, mut there) = (warm(&one), warm(&two));
    let order = "{\"namespace\":\"orders\"}";
    let (_, answer) = one.admin("POST", "/api/v1/invalidations", order);
    assert!(answer.contains("\"published\":true"), "{answer}");
    eventually("the peer has heard", || (heard(&two) == 1).then_some(()));
    assert_eq!(held(&mut there), ["users:1", "plain"]);
    assert_eq!(held(&mut here), ["users:1", "plain"]);
    // What is for one alone is not told.
    let (mut here, mut there) = (warm(&one), warm(&two));
    let (_, answer) = one.admin("POST", "/api/v1/cache/clear", "{}");
    assert!(answer.contains("\"published\":false"), "{answer}");
    assert!(held(&mut here).is_empty());
    assert_eq!(held(&mut there), KEYS);
    assert_eq!(heard(&one), 0, "it does not listen to itself");
}

#[test]
fn a_channel_that_is_lost_is_seen_and_found_again() {
    let mut server = Server::start(Kind::Redis);
    let proxy = proxy(&server);
    let is_up = || proxy.count("nearside_invalidation_channel_up{channel=\"pubsub\"");
    eventually("the channel is heard", || (is_up() == 1).then_some(()));
    server.kill();
    eventually("the loss is seen", || (is_up() == 0).then_some(()));
    assert!(proxy.log().contains("invalidation_channel_down"));
    server.restart();
    eventually("it is heard again", || (is_up() == 1).then_some(()));
}

/// The kill switch, and the safe way in.
#[test]
fn the_mode_is_switched_at_run_time() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\"", "mode = \"bypass\""]);
        let tracked = "nearside_invalidation_channel_up{channel=\"tracking\"";
        let mut client = proxy.dial();
        client.words("SET plain 1");
        for _ in 0..3 {
            assert_eq!(client.words("GET plain"), b"$1\r\n1\r\n");
        }
        assert_eq!((client.hits(), proxy.count(tracked)), (0, 0), "not even a link is open");
        let switch = |mode: &str| {
            let body = format!("{{\"mode\":\"{mode}\"}}");
            let (status, answer) = proxy.admin("PUT", "/api/v1/mode", &body);
            assert_eq!(status, 200, "{answer}");
            assert_eq!(proxy.count(&format!("nearside_mode_info{{mode=\"{mode}\"}}")), 1);
        };
        for round in 1..3 {
            switch("cache");
            assert_eq!(client.until_hit("GET plain"), b"$1\r\n1\r\n");
            switch("bypass");
            let before = client.hits();
            server.dial().words(&format!("SET v1:plain {round}"));
            let now = format!("$1\r\n{round}\r\n");
            assert_eq!(client.words("GET plain"), now.as_bytes());
            assert_eq!(client.hits(), before);
            client.words("SET plain 1");
        }
        let (status, answer) = proxy.admin("PUT", "/api/v1/mode", "{\"mode\":\"off\"}");
        assert!(status == 422 && answer.contains("\"pointer\":\"/mode\""), "{answer}");
        let (_, answer) = proxy.admin("GET", "/api/v1/mode", "");
        assert_eq!(answer.trim(), "{\"mode\":\"bypass\"}");
    }
}
