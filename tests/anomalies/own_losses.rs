//! Links of a client's own that break, wait or end at a bad moment.

use crate::stage::Stage;
use nearside::stats::{Counter, Gauge};
use std::sync::atomic::Ordering;
use std::time::Duration;

const OK: &str = "+OK\r\n";
const DOWN: &str = "-ERR proxy: not executed: upstream is down\r\n";
const UNKNOWN: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";

/// Twice the `connect_timeout` of these tests.
fn waits_no_longer(stage: &Stage) {
    stage.hands.advance(Duration::from_mins(20));
}

/// Requests behind a MULTI that never reached the server are not executed one by one.
#[test]
fn nothing_of_a_lost_transaction_is_executed_outside_of_it() {
    let mut stage = Stage::with("server.max_pipeline=4");
    let (mut other, mut data) = stage.pair();
    let mut client = stage.client();
    let sets = ["SET a 1"; 8];
    client.send_all(&[&["MULTI"][..], &sets, &["EXEC"]].concat());
    let _silent = stage.silent_data();
    waits_no_longer(&stage);
    for _ in 0..4 {
        client.reads(DOWN);
    }
    client.is_closed();
    Stage::quiet(&mut other, &mut data);
}

/// A client that was held back because its own link had much to send goes on when it is lost.
#[test]
fn a_client_held_back_by_a_lost_link_goes_on() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let large = format!("PUBLISH c {}", "v".repeat(5 << 20));
    client.send_all(&["WATCH k", &large, &large]);
    let _silent = stage.silent_data();
    // A local answer, once the whole packet was read.
    stage.eventually("everything was sent", |stage| {
        let clients = stage.app.shared().registry.list();
        clients.iter().any(|client| client.commands.load(Ordering::Relaxed) == 4)
    });
    waits_no_longer(&stage);
    for _ in 0..3 {
        client.reads(DOWN);
    }
    client.send("INCR n");
    data.answer("INCR v1:n", ":1\r\n");
    client.reads(":1\r\n");
}

/// An upstream that takes connections and answers nothing: links whose clients have gone do not
/// pile up behind it, where they would count against the bound and all come up at once later.
#[test]
fn links_that_never_came_up_go_with_their_clients() {
    let mut stage = Stage::with("upstream.dedicated_max=2");
    let (_witness, _data) = stage.pair();
    for _ in 0..5 {
        let mut client = stage.client();
        // Both are served before the first answer leaves.
        client.send_all(&["ECHO 1", "MULTI"]);
        client.reads("$1\r\n1\r\n");
        let mut own = stage.silent_data();
        waits_no_longer(&stage);
        client.reads(DOWN);
        while !own.is_over() {}
    }
}

/// A push on a link of RESP2 is not passed on to a client that cannot read it: the link ends, and
/// with it what it held of the client (found by the simulation).
#[test]
fn a_push_on_a_link_of_resp2_ends_it() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.send("WATCH k");
    let mut own = stage.own_link(41);
    own.answer("WATCH v1:k", OK);
    client.reads(OK);
    own.reply(">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nv1:k\r\n");
    client.is_closed();
    own.is_closed();
    assert_eq!(stage.count(Counter::ProtocolErrorsUpstream), 1);
}

/// A command that blocks is failed as any other where `on_down` says so: nothing is left of it.
#[test]
fn a_blocked_client_whose_link_breaks_is_told_and_stays() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("BLPOP l 0");
    let mut own = stage.own_link(41);
    own.expect("BLPOP v1:l 0");
    drop(own);
    client.reads(UNKNOWN);
    stage.eventually("nobody is blocked", |stage| {
        stage.app.stats().gauge(Gauge::ClientsBlocked) == 0
    });
    Stage::quiet(&mut client, &mut data);
}

/// The same where clients are closed, as a dead Redis does.
#[test]
fn a_blocked_client_whose_link_breaks_is_closed() {
    let mut stage = Stage::with("upstream.on_down=close");
    let (mut client, _data) = stage.pair();
    client.send("BLPOP l 0");
    let mut own = stage.own_link(41);
    own.expect("BLPOP v1:l 0");
    drop(own);
    client.is_closed();
}

/// What a connection held of its client is gone with it: the client is told by its end.
#[test]
fn a_broken_transaction_ends_its_client() {
    let mut stage = Stage::new();
    let (mut client, _data) = stage.pair();
    client.send_all(&["MULTI", "SET a 1"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("SET v1:a 1", "+QUEUED\r\n");
    client.reads(OK);
    client.reads("+QUEUED\r\n");
    drop(own);
    client.is_closed();
}

/// EXEC whose answer is lost: executed or not, nobody reads what was before.
#[test]
fn what_a_lost_exec_names_is_forgotten() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    stage.fill(&mut other, &mut data, "GET k", "$3\r\nold\r\n");
    client.send_all(&["MULTI", "SET k new", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("SET v1:k new", "+QUEUED\r\n");
    own.expect("EXEC");
    drop(own);
    for reply in [OK, "+QUEUED\r\n", UNKNOWN] {
        client.reads(reply);
    }
    client.is_closed();
    other.send("GET k");
    data.answer("GET v1:k", "$3\r\nnew\r\n");
}

/// An idle link that the server closes (its `timeout`) is no outage, and nobody is told of one.
#[test]
fn an_idle_link_that_is_closed_is_no_outage() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["MULTI", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("EXEC", "*0\r\n");
    client.reads(OK);
    client.reads("*0\r\n");
    drop(own);
    // What is left is the spare one.
    stage.eventually("the link is gone", |stage| {
        stage.app.shared().dedicated.load(Ordering::Relaxed) == 1
    });
    assert!(stage.app.shared().live.is_news(false), "an outage was told of");
    // And the next one is a fresh one.
    client.send("MULTI");
    stage.own_link(42).answer("MULTI", OK);
    client.reads(OK);
    Stage::quiet(&mut stage.client(), &mut data);
}

/// Half a frame on a link where nobody awaits one ends it; a subscriber waits for the other half
/// of its message as long as with the server.
#[test]
fn half_a_message_ends_no_subscription() {
    let mut stage = Stage::new();
    let (_other, mut data) = stage.pair();
    let mut client = stage.client();
    client.send("SUBSCRIBE news");
    let subscribed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    let mut own = stage.own_link(41);
    own.answer("SUBSCRIBE news", subscribed);
    client.reads(subscribed);
    own.reply("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhe");
    data.reply(">2\r\n$10\r\ninval");
    let links = |stage: &Stage| stage.app.stats().gauge(Gauge::UpstreamConnections);
    let before = links(&stage);
    stage.eventually("the shared link is given up", |stage| {
        waits_no_longer(stage);
        links(stage) < before
    });
    assert!(data.is_over());
    own.reply("llo\r\n");
    client.reads("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
}

/// WAIT counts from a message that stands for all that its client wrote: where upstream refuses
/// that message, no number is told that would mean nothing.
#[test]
fn wait_without_its_message_tells_no_number() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["SET a 1", "WAIT 1 0"]);
    data.answer("SET v1:a 1", OK);
    client.reads(OK);
    let mut own = stage.own_link(41);
    own.expect("PUBLISH system:nearside_wait ");
    own.expect("WAIT 1 0");
    own.reply("-NOPERM this user has no permissions to run the 'publish' command\r\n:1\r\n");
    client.reads(UNKNOWN);
}

/// Who reads slowly what it has asked for is not taken for an upstream that does not answer.
#[test]
fn a_slow_reader_keeps_its_own_link() {
    let mut stage = Stage::new();
    let (mut client, _data) = stage.pair();
    let large = format!("${}\r\n{}\r\n", 32 << 20, "x".repeat(32 << 20));
    client.send_all(&["WATCH k", "GET k", "GET k"]);
    let mut own = stage.own_link(41);
    own.answer("WATCH v1:k", OK);
    own.expect("GET v1:k");
    own.expect("GET v1:k");
    own.reply(&large);
    stage.eventually("the client is behind", |stage| {
        let clients = stage.app.shared().registry.list();
        clients.iter().any(|client| client.unsent.load(Ordering::Relaxed) > 1 << 20)
    });
    own.reply("$1\r\ny\r\n");
    // All links of a worker are looked at equally often, on one thread: while others are found
    // late at two looks of theirs, one after the other, this one was looked at twice, too.
    for id in 42..44 {
        let mut prompt = stage.client();
        prompt.send_all(&["WATCH k", "GET k"]);
        let mut silent = stage.own_link(id);
        silent.answer("WATCH v1:k", OK);
        silent.expect("GET v1:k");
        prompt.reads(OK);
        stage.hands.advance(Duration::from_secs(10));
        prompt.reads(UNKNOWN);
    }
    client.reads(OK);
    assert!(client.next() == large.as_bytes());
    client.reads("$1\r\ny\r\n");
}
