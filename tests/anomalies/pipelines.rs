//! Replies leave in the order of requests, and one client's appetite is its own affair.

use crate::stage::{Stage, request};
use nearside::stats::Counter;
use std::io::Write as _;

const VALUE: &str = "$5\r\nvalue\r\n";

/// A hit or a local answer that overtakes an open read would be taken for its reply.
#[test]
fn replies_leave_in_the_order_of_requests() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let [hit, miss, other, gone] = &stage.apart();
    stage.fill(&mut client, &mut data, &format!("GET {hit}"), VALUE);
    client.send_all(&[
        &format!("GET {hit}"),
        &format!("GET {miss}"),
        "ECHO 1",
        &format!("GET {hit}"),
        &format!("SET {other} 1"),
        "NOSUCH",
        "GET",
        &format!("GET {hit}"),
        &format!("MGET {hit} {gone}"),
        "ECHO 2",
    ]);
    client.reads(VALUE);
    data.expect(&format!("GET v1:{miss}"));
    data.expect(&format!("PTTL v1:{miss}"));
    data.expect(&format!("SET v1:{other} 1"));
    data.expect(&format!("MGET v1:{gone}"));
    data.expect(&format!("PTTL v1:{gone}"));
    data.reply("$4\r\nmiss\r\n");
    client.reads("$4\r\nmiss\r\n");
    client.reads("$1\r\n1\r\n");
    client.reads(VALUE);
    data.reply(":-1\r\n+OK\r\n*1\r\n$-1\r\n:-2\r\n");
    client.reads("+OK\r\n");
    client.reads("-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    client.reads("-ERR wrong number of arguments for 'get' command\r\n");
    client.reads(VALUE);
    client.reads("*2\r\n$5\r\nvalue\r\n$-1\r\n");
    client.reads("$1\r\n2\r\n");
}

/// A reply that is ready early, because its read was joined, waits for its turn.
#[test]
fn a_joined_reply_that_comes_early_waits() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    let [read, written] = &stage.apart();
    one.send(&format!("GET {read}"));
    data.expect(&format!("GET v1:{read}"));
    data.expect(&format!("PTTL v1:{read}"));
    two.send_all(&[&format!("SET {written} 1"), &format!("GET {read}"), "ECHO 2"]);
    data.expect(&format!("SET v1:{written} 1"));
    stage.counted(Counter::LookupCoalesced, 1);
    data.reply_kept(VALUE);
    one.reads(VALUE);
    data.reply("+OK\r\n");
    two.reads("+OK\r\n");
    two.reads(VALUE);
    two.reads("$1\r\n2\r\n");
}

/// A change of database is a change of link: it waits for what is out, and what follows uses it.
#[test]
fn select_is_a_barrier() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["SET k 0", "SELECT 1", "SET k 1"]);
    data.expect("SET v1:k 0");
    // Another client's request is the next one upstream: the second SET waits.
    let mut other = stage.client();
    other.send("INCR n");
    data.expect("INCR v1:n");
    data.reply("+OK\r\n:1\r\n");
    other.reads(":1\r\n");
    client.reads("+OK\r\n");
    client.reads("+OK\r\n");
    let mut data_one = stage.silent_data();
    data_one.answer("SELECT 1", "+OK\r\n");
    data_one.shake_hands();
    data_one.answer("SET v1:k 1", "+OK\r\n");
    client.reads("+OK\r\n");
}

/// Without a bound, one client's pipeline takes all memory and everybody's turn.
#[test]
fn requests_in_flight_per_client_are_bounded() {
    const MAX: usize = 8;
    const ALL: usize = 100;
    let mut stage = Stage::with("server.max_pipeline=8");
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    let requests: Vec<String> = (0..ALL).map(|n| format!("APPEND k {n}")).collect();
    client.send_all(&requests.iter().map(String::as_str).collect::<Vec<_>>());
    for request in &requests[..MAX] {
        data.expect(&request.replace(" k ", " v1:k "));
    }
    other.send("INCR n");
    data.expect("INCR v1:n");
    for n in 0..MAX {
        data.reply(&format!(":{n}\r\n"));
    }
    data.reply(":1\r\n");
    other.reads(":1\r\n");
    for (n, request) in requests.iter().enumerate().skip(MAX) {
        data.expect(&request.replace(" k ", " v1:k "));
        data.reply(&format!(":{n}\r\n"));
    }
    for n in 0..ALL {
        client.reads(&format!(":{n}\r\n"));
    }
}

/// A client that asks and does not read: its replies stop being made, and nobody else waits.
#[test]
fn a_client_that_does_not_read_is_bounded_and_stops_nobody() {
    const ALL: u64 = 1_000;
    let mut stage = Stage::new();
    let (mut other, mut data) = stage.pair();
    let mut slow = stage.client();
    let large = format!("${}\r\n{}\r\n", 256 * 1024, "x".repeat(256 * 1024));
    stage.fill(&mut other, &mut data, "GET large", &large);
    let requests = vec!["GET large"; usize::try_from(ALL).unwrap()];
    slow.send_all(&requests);
    for _ in 0..50 {
        Stage::quiet(&mut other, &mut data);
    }
    // 250 MB are asked for; what sockets hold and 1 MiB more have been made.
    let made = stage.count(Counter::LookupHit);
    assert!(made < 200, "{made} replies were made for a client that reads none");
    for _ in 0..ALL {
        assert!(slow.next() == large.as_bytes(), "a reply was damaged");
    }
    stage.counted(Counter::LookupHit, ALL);
}

/// The same where the replies come from upstream: it is not asked for what cannot be delivered.
#[test]
fn upstream_is_not_asked_for_replies_that_cannot_be_delivered() {
    let mut stage = Stage::with("cache.level=bypass");
    let (mut other, mut data) = stage.pair();
    let mut slow = stage.client();
    slow.send_all(&["GET k"; 100]);
    // Until a reply has shown its size, few are asked for: 1 MiB of 128 KiB each.
    for _ in 0..8 {
        data.expect("GET v1:k");
    }
    other.send("INCR n");
    data.expect("INCR v1:n");
    for n in 0..8 {
        data.reply(&format!("$1\r\n{n}\r\n"));
    }
    data.reply(":1\r\n");
    other.reads(":1\r\n");
    for n in 8..100 {
        data.expect("GET v1:k");
        data.reply(&format!("$2\r\n{n:02}\r\n"));
    }
    for n in 0..100 {
        let length = if n < 8 { 1 } else { 2 };
        slow.reads(&format!("${length}\r\n{n:0length$}\r\n"));
    }
}

/// What was asked before the nonsense is answered before the error, as by Redis.
#[test]
fn a_protocol_error_waits_for_the_replies_before_it() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*1\r\n:1\r\n";
    client.stream.write_all(bytes).unwrap();
    data.answer("SET v1:k v", "+OK\r\n");
    client.reads("+OK\r\n");
    client.reads("-ERR Protocol error: expected '$', got ':'\r\n");
    client.is_closed();
}

/// An upstream that reads slowly holds its clients back, and lets them all go on.
#[test]
fn a_slow_upstream_holds_back_who_sends_much() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let value = "v".repeat(1 << 20);
    let set = format!("SET k {value}");
    let mut writer = client.stream.try_clone().unwrap();
    let requests = request(&set).repeat(64);
    let sender = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    let expected = format!("SET v1:k {value}");
    for _ in 0..64 {
        data.answer(&expected, "+OK\r\n");
        client.reads("+OK\r\n");
    }
    sender.join().unwrap();
}
