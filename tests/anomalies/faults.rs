//! Faults of the upstream: no client ever gets another's reply, and each gets one answer.

use crate::stage::{Client, Link, Stage};
use nearside::stats::Counter;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const BROKEN: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";

/// Clients with one request each under way: `GET 0`, `GET 1` and so on, none of them cached.
fn many(stage: &Stage, data: &mut Link, count: usize) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let mut client = stage.client();
            client.send(&format!("GET {n}"));
            data.expect(&format!("GET v1:{n}"));
            client
        })
        .collect()
}

/// Each client asks again, on the next link, and gets its own answer.
fn all_is_well(stage: &mut Stage, clients: &mut [Client]) {
    clients[0].send("GET well");
    let mut data = stage.data();
    data.answer("GET v1:well", OLD);
    clients[0].reads(OLD);
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&format!("GET again:{n}"));
        let reply = format!("$1\r\n{n}\r\n");
        data.answer(&format!("GET v1:again:{n}"), &reply);
        client.reads(&reply);
    }
}

/// A plain proxy: without PTTLs the scripts are shorter. What is cached is elsewhere.
fn plain() -> Stage {
    Stage::with("cache.level=bypass")
}

/// Requests on a link that closes: reads are asked once more. If that link closes, too, each client
/// is told once, and nobody gets another's answer.
#[test]
fn a_closed_link_fails_each_request_once() {
    let mut stage = plain();
    let (_first, mut data) = stage.pair();
    let mut clients = many(&stage, &mut data, 10);
    data.reply("$1\r\n0\r\n$1\r\n1\r\n");
    clients[0].reads("$1\r\n0\r\n");
    clients[1].reads("$1\r\n1\r\n");
    drop(data);
    let mut data = stage.data();
    (2..10).for_each(|n| data.expect(&format!("GET v1:{n}")));
    drop(data);
    for client in &mut clients[2..] {
        client.reads(BROKEN);
    }
    assert_eq!(stage.count(Counter::UpstreamDisconnected), 8);
    all_is_well(&mut stage, &mut clients);
}

/// A reply that breaks off is nobody's.
#[test]
fn half_a_reply_is_not_delivered() {
    let mut stage = plain();
    let (_first, mut data) = stage.pair();
    let mut clients = many(&stage, &mut data, 3);
    data.reply("$1\r\n0\r\n$1000\r\nhalf of it");
    clients[0].reads("$1\r\n0\r\n");
    drop(data);
    let mut data = stage.data();
    (1..3).for_each(|n| data.expect(&format!("GET v1:{n}")));
    data.reply("$1000\r\nhalf of it");
    drop(data);
    for client in &mut clients[1..] {
        client.reads(BROKEN);
    }
    all_is_well(&mut stage, &mut clients);
}

/// Bytes that are no RESP: what follows cannot be trusted, so nothing of it is delivered.
#[test]
fn garbage_discards_the_link() {
    for garbage in [
        "?what\r\n",
        "$01\r\na\r\n",
        "$+1\r\na\r\n",
        "$-2\r\n",
        "*-5\r\n",
        "$1\r\naXY+2\r\n",
        // RESP3, which no client of this link could read.
        ">2\r\n+message\r\n+m\r\n",
        "_\r\n",
        "%0\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let mut stage = plain();
        let (_first, mut data) = stage.pair();
        let mut clients = many(&stage, &mut data, 3);
        data.reply(&format!("$1\r\n0\r\n{garbage}$1\r\n1\r\n$1\r\n2\r\n"));
        clients[0].reads("$1\r\n0\r\n");
        for client in &mut clients[1..] {
            client.reads(BROKEN);
        }
        data.is_closed();
        all_is_well(&mut stage, &mut clients);
        assert_eq!(stage.count(Counter::ProtocolErrorsUpstream), 1, "{garbage:?}");
    }
}

/// Depth costs no stack: what is deeper than any real reply ends the link, not the process.
#[test]
fn nested_replies_beyond_reason_discard_the_link() {
    let mut stage = plain();
    let (_first, mut data) = stage.pair();
    let mut clients = many(&stage, &mut data, 2);
    data.reply(&"*1\r\n".repeat(100_000));
    for client in &mut clients {
        client.reads(BROKEN);
    }
    all_is_well(&mut stage, &mut clients);
}

/// An answer that nobody asked for would be taken for the next one's.
#[test]
fn a_stray_reply_discards_the_link() {
    let mut stage = plain();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect("GET v1:k");
    data.reply("$2\r\n42\r\n+stray\r\n");
    client.reads("$2\r\n42\r\n");
    data.is_closed();
    all_is_well(&mut stage, std::slice::from_mut(&mut client));
    assert_eq!(stage.count(Counter::ProtocolErrorsUpstream), 1);
}

/// What comes in one packet with the end of the handshake is not lost, nor is its second half taken
/// for an answer (found by the simulation).
#[test]
fn what_follows_the_handshake_discards_the_link() {
    let mut stage = plain();
    let mut client = stage.client();
    client.send("GET k");
    let mut data = stage.silent_data();
    data.shake_hands_and(7, "*");
    data.is_closed();
    let mut data = stage.data();
    data.answer("GET v1:k", OLD);
    client.reads(OLD);
}

/// The same on a link where nothing is under way.
#[test]
fn a_stray_reply_on_an_idle_link_discards_it() {
    let mut stage = plain();
    let (mut client, mut data) = stage.pair();
    data.reply("+stray\r\n");
    data.is_closed();
    all_is_well(&mut stage, std::slice::from_mut(&mut client));
}

/// A PTTL that is answered by a value: the answers have slipped, and so will the next ones.
#[test]
fn an_answer_of_the_wrong_shape_discards_the_link_and_the_entry() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET a");
    data.expect_read("a");
    two.send("GET b");
    data.expect_read("b");
    // The PTTL's answer is lost: what follows belongs to the other client.
    data.reply(OLD);
    data.reply(NEW);
    one.reads(OLD);
    two.reads(BROKEN);
    data.is_closed();
    one.send("GET a");
    let mut data = stage.data();
    data.expect_read("a");
    data.reply_kept(NEW);
    one.reads(NEW);
}

/// An MGET's answer with another number of values is not an answer to it.
#[test]
fn an_mget_with_too_few_values_discards_the_link() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("MGET a b");
    data.expect("MGET v1:a v1:b");
    data.expect("PTTL v1:a");
    data.expect("PTTL v1:b");
    data.reply("*1\r\n$1\r\n1\r\n");
    client.reads(BROKEN);
    while !data.is_over() {}
    assert_eq!(stage.count(Counter::ProtocolErrorsUpstream), 1);
}

/// Pushes on a data link are nobody's answer.
#[test]
fn a_push_on_a_data_link_is_no_reply() {
    let mut stage = plain();
    let mut client = stage.client();
    client.send("HELLO 3");
    assert_eq!(client.next().first(), Some(&b'%'));
    client.send("GET k");
    let mut data = stage.data();
    data.expect("GET v1:k");
    data.reply(">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n$2\r\n42\r\n>1\r\n$1\r\ny\r\n");
    client.reads("$2\r\n42\r\n");
    Stage::quiet(&mut client, &mut data);
}

/// A reply that comes after its request was given up would be taken for a later one's.
#[test]
fn a_timeout_discards_the_link_so_that_late_replies_go_nowhere() {
    let mut stage = plain();
    let (_first, mut data) = stage.pair();
    let mut clients = many(&stage, &mut data, 3);
    stage.hands.advance(Duration::from_secs(5) + Duration::from_nanos(1));
    for client in &mut clients {
        client.reads(BROKEN);
    }
    // Closed before the late replies: they have nowhere to go.
    data.is_closed();
    all_is_well(&mut stage, &mut clients);
    assert_eq!(stage.count(Counter::UpstreamTimeout), 3);
}

/// As a dead Redis does: the connection ends, behind the replies that did come.
#[test]
fn on_down_close_ends_the_connection_behind_what_was_answered() {
    let mut stage = Stage::with("cache.level=bypass upstream.on_down=close");
    let (mut client, mut data) = stage.pair();
    let mut idle = stage.client();
    idle.asks("ECHO idle", "$4\r\nidle\r\n");
    client.send_all(&["GET a", "GET b", "ECHO never"]);
    data.expect("GET v1:a");
    data.expect("GET v1:b");
    data.reply("$1\r\na\r\n");
    drop(data);
    client.reads("$1\r\na\r\n");
    let mut data = stage.data();
    data.expect("GET v1:b");
    drop(data);
    client.is_closed();
    idle.asks("ECHO idle", "$4\r\nidle\r\n");
    assert_eq!(stage.count(Counter::ClosedUpstream), 1);
}

/// What was not sent is not lost: it goes out once, when there is a link again.
#[test]
fn unsent_writes_wait_for_the_next_link_and_go_out_once() {
    let mut stage = plain();
    let (mut client, data) = stage.pair();
    drop(data);
    stage.counted(Counter::UpstreamDisconnects, 1);
    client.send("INCR n");
    let data = stage.silent_data();
    drop(data);
    let mut data = stage.data();
    data.answer("INCR v1:n", ":1\r\n");
    client.reads(":1\r\n");
    Stage::quiet(&mut client, &mut data);
}

/// A request that waited long enough for a link is told that it was not executed, and is not.
#[test]
fn unsent_writes_that_waited_long_enough_are_not_executed() {
    let mut stage = plain();
    let (mut client, data) = stage.pair();
    drop(data);
    stage.counted(Counter::UpstreamDisconnects, 1);
    client.send_all(&["ECHO 1", "INCR n"]);
    // Answered at once, so the write is waiting now, and its time has begun.
    client.reads("$1\r\n1\r\n");
    let mut data = stage.silent_data();
    stage.hands.advance(Duration::from_mins(20));
    client.reads("-ERR proxy: not executed: upstream is down\r\n");
    data.shake_hands();
    Stage::quiet(&mut client, &mut data);
}

/// A data link that is lost takes no entry with it: the tracking link still tells of changes.
#[test]
fn hits_go_on_without_a_data_link() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    drop(data);
    stage.counted(Counter::UpstreamDisconnects, 1);
    stage.hit(&mut client, "GET k", OLD);
    stage.push(&[b"v1:k"]);
    client.send("GET k");
    let mut data = stage.data();
    data.expect_read("k");
    data.reply_kept(NEW);
    client.reads(NEW);
}

/// Upstream gone altogether: no hit, no fill, and all comes back by itself.
#[test]
fn an_outage_ends_hits_and_ends_by_itself() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.refuse();
    drop(data);
    drop(stage.tracking.take());
    stage.counted(Counter::InvalidationsReconnect, 1);
    stage.counted(Counter::UpstreamDisconnects, 1);
    client.send("GET k");
    stage.eventually("the read waits", |stage| stage.count(Counter::BypassTrackingDown) == 1);
    stage.hands.advance(Duration::from_millis(500));
    client.reads("-ERR proxy: not executed: upstream is down\r\n");
    stage.relent();
    stage.track();
    client.send("GET k");
    let mut data = stage.data();
    data.expect_read("k");
    data.reply_kept(NEW);
    client.reads(NEW);
    stage.counted(Counter::StoreStored, 2);
    stage.hit(&mut client, "GET k", NEW);
}
