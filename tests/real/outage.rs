//! Upstream dies, freezes, or was never there; nearside is told to go. Clients get what a dead
//! Redis gives them, or the documented error; afterwards everything works again, nothing is
//! crossed, and nothing old is served.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};
use rustix::process::Signal;

/// Connects and asks until an answer comes that is no error.
fn until_answered(proxy: &Proxy, line: &str) -> (Conn, Vec<u8>) {
    eventually(&format!("an answer to {line}"), || {
        let mut conn = proxy.dial();
        conn.try_send(&request(&line.split(' ').collect::<Vec<_>>())).ok()?;
        let answer = conn.try_reply()?;
        (!answer.starts_with(b"-")).then_some((conn, answer))
    })
}

/// The server is killed and comes back empty. What was cached belongs to the dead one.
#[test]
fn a_killed_upstream_comes_back() {
    for kind in KINDS {
        let mut server = Server::start(kind);
        let mut proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let mut ours = proxy.dial();
        ours.words("SET a old");
        ours.until_hit("GET a");
        server.kill();
        // `on_down = "close"`: what cannot be answered ends the connection, as a dead Redis does.
        eventually("the connection ends", || match ours.try_send(&request(&["SET", "b", "1"])) {
            Ok(()) => ours.try_reply().is_none().then_some(()),
            Err(_) => Some(()),
        });
        assert!(ours.rest().is_empty());
        server.restart();
        proxy.until_ready();
        let (mut again, answer) = until_answered(&proxy, "GET a");
        assert_eq!(show(&answer), show(b"$-1\r\n"), "the restarted server has no a");
        assert_eq!(again.words("SET a new"), b"+OK\r\n");
        again.until_hit("GET a");
        assert_eq!(again.words("GET a"), b"$3\r\nnew\r\n");
        proxy.assert_alive();
    }
}

/// With `stale_if_error` reads are answered while the server is dead, from what is kept, and are
/// told as that; once it is back nothing of it is left.
#[test]
fn a_killed_upstream_is_bridged() {
    for kind in KINDS {
        let mut server = Server::start(kind);
        let settings = [
            "upstream.on_down = \"error\"",
            "cache.admission = \"always\"",
            "cache.stale_if_error = \"9h\"",
        ];
        // Before nearside comes: no push of it may be on its way.
        server.dial().words("MSET a old b old");
        let proxy = Proxy::start(&server.url(), &settings);
        let mut ours = proxy.dial();
        ours.until_hit("GET a");
        ours.until_hit("GET b");
        server.kill();
        eventually("what is kept is served as such", || {
            assert_eq!(ours.words("GET a"), b"$3\r\nold\r\n");
            show(&ours.words("PROXY LAST")).contains("upstream_down").then_some(())
        });
        eventually("it is shown as such", || {
            let (_, found) = proxy.admin("GET", "/api/v1/entries/lookup?key=a", "");
            let is_stale = found.contains("\"present\":false") && found.contains("\"stale\":true");
            is_stale.then_some(())
        });
        let explained = ours.words("PROXY EXPLAIN GET a");
        assert!(
            String::from_utf8_lossy(&explained).contains("$5\r\nstale\r\n"),
            "{}",
            show(&explained)
        );
        assert!(ours.words("SET b new").starts_with(b"-"), "writes are not taken");
        assert!(ours.words("GET b").starts_with(b"-"), "it may have been written");
        server.restart();
        proxy.until_ready();
        for key in ["a", "b"] {
            let (_, answer) = until_answered(&proxy, &format!("GET {key}"));
            assert_eq!(show(&answer), show(b"$-1\r\n"), "the restarted server has no {key}");
        }
    }
}

/// `on_down = "error"`: the connection stays, and the error says what is known.
#[test]
fn a_killed_upstream_is_an_error_by_choice() {
    let mut server = Server::start(Kind::Redis);
    let settings = &["upstream.on_down = \"error\"", "upstream.reconnect_wait = \"10ms\""];
    let proxy = Proxy::start(&server.url(), settings);
    let mut ours = proxy.dial();
    assert_eq!(ours.words("SET a 1"), b"+OK\r\n");
    server.kill();
    let error = eventually("an error", || {
        Some(ours.words("SET a 2")).filter(|answer| answer.starts_with(b"-"))
    });
    let text = String::from_utf8(error).unwrap();
    assert!(text.contains("upstream"), "{text}");
    // PING is no lie: it fails with the rest.
    assert!(ours.words("PING").starts_with(b"-"));
    server.restart();
    eventually("it works again", || (ours.words("SET a 3") == b"+OK\r\n").then_some(()));
    assert_eq!(ours.words("GET a"), b"$1\r\n3\r\n");
}

/// Many clients write and read their own keys while upstream stands still. Nothing is lost or
/// crossed once it goes on.
#[test]
fn a_frozen_upstream_loses_nothing() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\"", "server.workers = 2"]);
        let mut clients: Vec<Conn> = (0..20).map(|_| proxy.dial()).collect();
        for (me, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.words(&format!("SET k{me} before")), b"+OK\r\n");
        }
        server.freeze();
        for (me, client) in clients.iter_mut().enumerate() {
            let mut sent = Vec::new();
            for number in 0..50 {
                sent.extend(request(&["SET", &format!("k{me}"), &format!("{me}.{number}")]));
                sent.extend(request(&["GET", &format!("k{me}")]));
                sent.extend(request(&["ECHO", &format!("{me}.{number}")]));
            }
            client.send(&sent);
        }
        eventually("requests are out", || (proxy.commands_taken() >= 3000).then_some(()));
        server.thaw();
        for (me, client) in clients.iter_mut().enumerate() {
            for number in 0..50 {
                let value = format!("{me}.{number}");
                let bulk = format!("${}\r\n{value}\r\n", value.len());
                assert_eq!(client.reply(), b"+OK\r\n");
                assert_eq!(show(&client.reply()), show(bulk.as_bytes()));
                assert_eq!(show(&client.reply()), show(bulk.as_bytes()));
            }
        }
    }
}

/// Who needs a link that is not there yet, while upstream stands still: its kernel accepts, and it
/// answers nothing. Direct they would be connected and wait, so they wait.
#[test]
fn a_frozen_upstream_keeps_newcomers_waiting() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = [
            "server.workers = 1",
            "upstream.connect_timeout = \"100ms\"",
            "upstream.reconnect_wait = \"10ms\"",
            "upstream.request_timeout = \"10m\"",
            "upstream.write_timeout = \"10m\"",
        ];
        let proxy = Proxy::start(&server.url(), &settings);
        server.dial().words("RPUSH list element");
        server.freeze();
        let asks = ["GET none", "BLPOP list 0", "MULTI", "SUBSCRIBE news", "INCR n"];
        let mut clients: Vec<Conn> = asks.iter().map(|_| proxy.dial()).collect();
        for (client, line) in clients.iter_mut().zip(asks) {
            // In a database that no link has been in.
            let select = request(&["SELECT", "7"]);
            client.send(&select);
            assert_eq!(client.reply(), b"+OK\r\n");
            client.send(&request(&line.split(' ').collect::<Vec<_>>()));
        }
        let place = format!("upstream=\"127.0.0.1:{}\",result=\"timeout\"", server.port);
        let silent = format!("nearside_upstream_connects_total{{{place}}}");
        eventually("links are tried", || (proxy.count(&silent) >= 30).then_some(()));
        server.thaw();
        let answers: Vec<Vec<u8>> = [0, 2, 3, 4].map(|me: usize| clients[me].reply()).into();
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
        assert_eq!(answers, [&b"$-1\r\n"[..], b"+OK\r\n", subscribed, b":1\r\n"]);
        clients[4].words("RPUSH list element");
        assert_eq!(clients[1].reply(), b"*2\r\n$4\r\nlist\r\n$7\r\nelement\r\n");
    }
}

/// While upstream stands still longer than `max_staleness`, hits stop: they cannot be proved.
#[test]
fn a_frozen_upstream_ends_the_lease() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(
        &server.url(),
        &[
            "cache.max_staleness = \"500ms\"",
            "upstream.on_down = \"error\"",
            "upstream.request_timeout = \"500ms\"",
        ],
    );
    let mut ours = proxy.dial();
    ours.words("SET a 1");
    ours.until_hit("GET a");
    server.freeze();
    // The read after the last hit is asked of upstream, which does not answer.
    eventually("a read that is no hit", || {
        let answer = ours.words("GET a");
        assert!(answer == b"$1\r\n1\r\n" || answer.starts_with(b"-"), "{}", show(&answer));
        answer.starts_with(b"-").then_some(())
    });
    server.thaw();
    eventually("upstream answers", || (ours.words("GET a") == b"$1\r\n1\r\n").then_some(()));
    ours.until_hit("GET a");
}

/// SIGTERM: what was received is answered, then connections end, then the process, with 0.
#[test]
fn a_drain_answers_what_was_received() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let mut clients: Vec<Conn> = (0..10).map(|_| proxy.dial()).collect();
        let mut idle = proxy.dial();
        assert_eq!(idle.words("PING"), b"+PONG\r\n");
        // One answer each: before it, nearside takes in little (it expects long replies).
        for client in &mut clients {
            assert!(client.words("INCR counter").starts_with(b":"));
        }
        server.freeze();
        for client in &mut clients {
            client.send(&request(&["INCR", "counter"]).repeat(100));
        }
        eventually("requests are out", || (proxy.commands_taken() >= 1010).then_some(()));
        proxy.terminate();
        eventually("draining", || proxy.log().contains("draining").then_some(()));
        server.thaw();
        for client in &mut clients {
            for _ in 0..100 {
                let answer = client.reply();
                assert!(answer.starts_with(b":"), "{}", show(&answer));
            }
            assert!(client.rest().is_empty());
        }
        assert!(idle.rest().is_empty());
        let status = proxy.wait();
        assert_eq!(status.code(), Some(0), "{}", proxy.log());
        assert_eq!(server.dial().words("GET v1:counter"), b"$4\r\n1010\r\n");
    }
}

/// What is still out is given up, and the exit code says that somebody had no patience.
#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::start(Kind::Redis);
    let mut proxy = Proxy::start(&server.url(), &[]);
    let mut client = proxy.dial();
    client.words("SET a 1");
    // For who has no way to the admin port: the figures, in the log.
    proxy.signal(Signal::USR1);
    let stats = "\"event\":\"stats\",\"mode\":\"cache\",\"upstream_up\":true";
    eventually("figures in the log", || proxy.log().contains(stats).then_some(()));
    server.freeze();
    client.send(&request(&["INCR", "a"]));
    eventually("it is out", || (proxy.count("nearside_commands_in_flight") == 1).then_some(()));
    proxy.signal(Signal::TERM);
    eventually("draining", || proxy.log().contains("draining").then_some(()));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(130), "{}", proxy.log());
}

/// Nobody listens there: the log says so, and clients learn it as the setting says.
#[test]
fn an_unreachable_upstream_is_named() {
    let mut server = Server::start(Kind::Redis);
    server.kill();
    let settings = &["upstream.on_down = \"error\"", "upstream.reconnect_wait = \"10ms\""];
    let mut proxy = Proxy::unready(&server.url(), settings);
    let answer = String::from_utf8(proxy.dial().words("GET a")).unwrap();
    assert!(answer.starts_with('-') && answer.contains("upstream"), "{answer}");
    let place = format!("127.0.0.1:{}", server.port);
    eventually("the log names it", || {
        let log = proxy.log();
        (log.contains(&place) && log.contains("refused")).then_some(())
    });
    server.restart();
    proxy.until_ready();
    assert_eq!(until_answered(&proxy, "SET a 1").1, b"+OK\r\n");
    proxy.assert_alive();
}
