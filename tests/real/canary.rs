//! The key that nearside writes to hear of it: it proves the tracking link, and no client sees it.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, show};

const NAME: &str = "v1:nearside:canary";

const ON: &str = "invalidation.written_canary = true";

const SETTINGS: &[&str] =
    &["keys.version = \"v1\"", "cache.max_staleness = \"100ms\"", "cache.admission = \"always\""];

/// All settings of a proxy that writes one.
fn with(canary: &'static str) -> Vec<&'static str> {
    [SETTINGS, &[canary]].concat()
}

fn heard(proxy: &Proxy) -> u64 {
    proxy.count("nearside_written_canaries_total{result=\"heard\"}")
}

/// Waits until so many more were written and heard.
fn until_heard(proxy: &Proxy, more: u64) {
    let before = heard(proxy);
    eventually("canaries are heard", || (heard(proxy) >= before + more).then_some(()));
}

fn says(conn: &mut Conn, line: &str, reply: &str) {
    assert_eq!(show(&conn.words(line)), show(reply.as_bytes()), "{line}");
}

#[test]
fn a_written_canary_proves_the_link_and_is_hidden() {
    let settings = with("invalidation.written_canary = true");
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        // Two of a fleet write the same key.
        let proxies = [(); 2].map(|()| Proxy::start(&server.url(), &settings));
        let proxy = &proxies[0];
        until_heard(proxy, 2);
        let value = show(&direct.words(&format!("GET {NAME}")));
        assert!(value.contains("nearside:"), "{value}");
        says(&mut direct, "DBSIZE", ":1\r\n");
        let life = show(&direct.words(&format!("PTTL {NAME}")));
        assert!(!life.contains('-'), "it ends by itself: {life}");

        let mut client = proxy.dial();
        let none = "*2\r\n$1\r\n0\r\n*0\r\n";
        for (line, reply) in [
            ("KEYS *", "*0\r\n"),
            ("KEYS nearside:canary", "*0\r\n"),
            ("SCAN 0 COUNT 100", none),
            ("SCAN 0 MATCH near* COUNT 100", none),
            ("RANDOMKEY", "$-1\r\n"),
            ("GET nearside:canary", "$-1\r\n"),
            // A client's key of that name is another one.
            ("SET nearside:canary mine", "+OK\r\n"),
            ("GET nearside:canary", "$4\r\nmine\r\n"),
            ("KEYS *", "*1\r\n$15\r\nnearside:canary\r\n"),
            ("RANDOMKEY", "$15\r\nnearside:canary\r\n"),
            ("FLUSHDB", "+OK\r\n"),
            ("EXISTS nearside:canary", ":0\r\n"),
            ("SET k 1", "+OK\r\n"),
        ] {
            says(&mut client, line, reply);
        }
        assert_eq!(client.until_hit("GET k"), b"$1\r\n1\r\n");
        assert_eq!(proxy.count("nearside_written_canaries_total{result=\"missed\"}"), 0);
        assert!(!proxy.log().contains("keys_hidden"), "{}", proxy.log());
    }
}

#[test]
fn no_notification_tells_of_a_canary() {
    let server = Server::start(Kind::Redis);
    server.dial().words("CONFIG SET notify-keyspace-events KEA");
    let proxy = Proxy::start(&server.url(), &with(ON));
    let (mut listener, mut client) = (proxy.dial(), proxy.dial());
    listener.words("PSUBSCRIBE __key*__:*");
    until_heard(&proxy, 3);
    client.words("SET k 1");
    let first = show(&listener.reply());
    assert!(first.contains("__keyspace@0__:k"), "{first}");
}

/// The operator wants the proof, and upstream's user cannot give it.
#[test]
fn where_a_canary_cannot_be_written_nothing_is_served_and_it_is_told() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("ACL SETUSER small on >secret ~v1:* &* +@all -set");
    let url = server.url().replace("redis://", "redis://small:secret@");
    let proxy = Proxy::unready(&url, &with(ON));
    eventually("it is told", || proxy.log().contains("canary_missed").then_some(()));
    let (head, body) = proxy.admin_answer("GET", "/readyz", "");
    assert!(head.contains("503"), "{head}");
    assert!(body.contains("canary is not heard") && body.contains("NOPERM"), "{body}");
    direct.words("SET v1:k 1");
    let mut client = proxy.dial();
    for _ in 0..5 {
        assert_eq!(client.words("GET k"), b"$1\r\n1\r\n");
    }
    assert_eq!(proxy.count("nearside_cache_lookups_total{result=\"hit\"}"), 0);
    // It recovers by itself.
    direct.words("ACL SETUSER small +set");
    proxy.until_ready();
    assert_eq!(client.until_hit("GET k"), b"$1\r\n1\r\n");
    let log = proxy.log();
    assert_eq!(log.matches("canary_missed").count(), 1, "{log}");
}
