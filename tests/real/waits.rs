//! Links of clients' own before real servers: WAIT counts what its client wrote wherever it wrote
//! it, a client that caches itself reads nothing older than what it was told, and a link that the
//! server has closed while it was idle is not used.

use crate::harness::{Kind, Proxy, Server, eventually};

/// The client's writes went over the link that all share, so the link that asks WAIT has written
/// nothing itself: asked as it comes, the server would answer 1 at once. What nearside writes
/// there first (a message to nobody) must have been taken by the replica, and with it all before.
#[test]
fn wait_counts_no_replica_that_has_not_taken_the_write() {
    let primary = Server::start(Kind::Redis);
    let port = primary.port.to_string();
    let replica = Server::with(Kind::Redis, &["--replicaof", "127.0.0.1", &port]);
    let mut direct = primary.dial();
    eventually("the replica follows", || {
        let info = direct.words("INFO replication");
        String::from_utf8_lossy(&info).contains("state=online").then_some(())
    });
    let proxy = Proxy::start(&primary.url(), &[]);
    let mut client = proxy.dial();
    assert_eq!(client.words("SET a 1"), b"+OK\r\n");
    assert_eq!(client.words("WAIT 1 0"), b":1\r\n");
    replica.freeze();
    let mut other = proxy.dial();
    assert_eq!(other.words("SET b 1"), b"+OK\r\n");
    assert_eq!(other.words("WAIT 1 100"), b":0\r\n", "written on the shared link");
    assert_eq!(client.words("SET a 2"), b"+OK\r\n");
    assert_eq!(client.words("WAIT 1 100"), b":0\r\n", "written on its own link");
    // It is asked nothing that blocks the others.
    assert_eq!(proxy.dial().words("GET a"), b"$1\r\n2\r\n");
    replica.thaw();
    assert_eq!(other.words("WAIT 1 0"), b":1\r\n");
    assert_eq!(client.words("WAIT 1 0"), b":1\r\n");
}

/// R2 for a client with a cache of its own: told of a change on one connection, it reads the new
/// value on another, whoever wrote and however warm nearside's cache was.
#[test]
fn what_a_client_was_told_of_it_reads_on_every_connection() {
    const ROUNDS: usize = 500;
    let server = Server::start(Kind::Redis);
    for settings in [&[][..], &["keys.version = \"v1\""]] {
        let proxy = Proxy::start(&server.url(), settings);
        let key = if settings.is_empty() { "k" } else { "v1:k" };
        let (mut told, mut plain, mut through) = (proxy.dial(), proxy.dial(), proxy.dial());
        let mut direct = server.dial();
        told.words("HELLO 3");
        assert_eq!(told.words("CLIENT TRACKING ON"), b"+OK\r\n");
        assert_eq!(direct.ask(&["SET", key, "start"]), b"+OK\r\n");
        for round in 0..ROUNDS {
            told.words("GET k");
            plain.words("GET k");
            plain.words("GET k");
            let value = round.to_string();
            let written = if round % 2 == 0 {
                direct.ask(&["SET", key, &value])
            } else {
                through.ask(&["SET", "k", &value])
            };
            assert_eq!(written, b"+OK\r\n");
            assert_eq!(told.reply(), b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
            let expected = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(plain.words("GET k"), expected.as_bytes(), "in round {round}");
        }
        assert!(plain.hits() > 0, "the cache was never warm");
    }
}

/// The server closes connections for its own reasons (`timeout`, CLIENT KILL, Sentinel). Those of
/// them that are idle are nobody's, so nobody is to notice.
#[test]
fn idle_links_that_the_server_closed_are_not_used() {
    const ROUNDS: usize = 50;
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &[]);
    let (mut client, mut direct) = (proxy.dial(), server.dial());
    for round in 0..ROUNDS {
        assert_eq!(client.words("MULTI"), b"+OK\r\n", "in round {round}");
        assert_eq!(client.words("EXEC"), b"*0\r\n");
        let list = String::from_utf8(direct.words("CLIENT LIST")).unwrap();
        let idle = list.lines().filter(|line| line.contains(" cmd=exec "));
        let ids: Vec<&str> = idle
            .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")))
            .collect();
        assert!(!ids.is_empty(), "no idle link in {list}");
        for id in ids {
            direct.ask(&["CLIENT", "KILL", "ID", id]);
        }
    }
}

/// A client that goes through many databases leaves no link ready in each of them.
#[test]
fn idle_links_are_bounded_over_all_databases() {
    let server = Server::with(Kind::Redis, &["--databases", "200"]);
    let proxy = Proxy::start(&server.url(), &["server.workers = 1"]);
    let mut client = proxy.dial();
    for db in 0..200 {
        assert_eq!(client.ask(&["SELECT", &db.to_string()]), b"+OK\r\n");
        assert_eq!(client.words("MULTI"), b"+OK\r\n");
        assert_eq!(client.words("EXEC"), b"*0\r\n");
    }
    let series = "nearside_upstream_dedicated_connections";
    eventually("at most 64 and the one just used", || (proxy.metric(series) <= 65.0).then_some(()));
    let list = String::from_utf8(server.dial().words("CLIENT LIST")).unwrap();
    assert!(list.lines().count() < 80, "{} connections", list.lines().count());
}
