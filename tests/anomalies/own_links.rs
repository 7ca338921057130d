//! A client that goes over to a link of its own, and back: nothing it has out may be overtaken,
//! and what it has seen there is what everybody sees from then on.

use crate::stage::{Client, Link, Stage, invalidation};
use nearside::stats::{Counter, Gauge};

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const QUEUED: &str = "+QUEUED\r\n";
const OK: &str = "+OK\r\n";

/// Another client's request is the next one upstream: what the first has sent since waits.
fn is_next(stage: &Stage, link: &mut Link) {
    let mut other = stage.client();
    other.send("INCR other");
    link.expect("INCR v1:other");
}

/// The number by which nearside knows a client.
fn id_of(client: &mut Client) -> String {
    client.send("CLIENT ID");
    let id = String::from_utf8(client.next()).unwrap();
    id.trim_start_matches(':').trim_end().to_owned()
}

/// A transaction reveals a new value, and nobody has been told of the change: it is never
/// followed by the old one, for its own client or another.
#[test]
fn a13_a_value_that_exec_has_shown_is_not_followed_by_the_cached_one() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    stage.fill(&mut one, &mut data, "GET k", OLD);
    one.send_all(&["MULTI", "GET k", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("GET v1:k", QUEUED);
    own.expect("EXEC");
    // Until somebody has seen the new value, the old one may be served.
    stage.hit(&mut two, "GET k", OLD);
    own.reply("*1\r\n$3\r\nnew\r\n");
    for reply in [OK, QUEUED, "*1\r\n$3\r\nnew\r\n"] {
        one.reads(reply);
    }
    two.fetches(&mut data, "GET k", NEW);
    stage.hit(&mut one, "GET k", NEW);
}

/// The same where a read under WATCH, which asks upstream whatever is cached (A17), has shown it, and
/// where EXEC says nil (A16).
#[test]
fn a13_nor_one_that_a_watching_client_has_read() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    stage.fill(&mut one, &mut data, "GET k", OLD);
    one.send_all(&["WATCH k", "GET k"]);
    let mut own = stage.own_link(41);
    own.answer("WATCH v1:k", OK);
    own.answer("GET v1:k", NEW);
    one.reads(OK);
    one.reads(NEW);
    two.fetches(&mut data, "GET k", OLD);
    stage.hit(&mut two, "GET k", OLD);
    one.send_all(&["MULTI", "SET k x", "EXEC"]);
    own.answer("MULTI", OK);
    own.answer("SET v1:k x", QUEUED);
    own.answer("EXEC", "*-1\r\n");
    for reply in [OK, QUEUED, "*-1\r\n"] {
        one.reads(reply);
    }
    two.fetches(&mut data, "GET k", NEW);
}

/// R7: a transaction begins on another link, so it waits for the write before it.
#[test]
fn a_transaction_waits_for_what_is_out() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["SET a 1", "MULTI", "GET a", "EXEC"]);
    data.expect("SET v1:a 1");
    is_next(&stage, &mut data);
    stage.tries_nothing_more();
    data.reply(OK);
    data.reply(":1\r\n");
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("GET v1:a", QUEUED);
    own.answer("EXEC", "*1\r\n$1\r\n1\r\n");
    for reply in [OK, OK, QUEUED, "*1\r\n$1\r\n1\r\n"] {
        client.reads(reply);
    }
    // And what follows waits for EXEC, then goes where everybody's requests go.
    client.send_all(&["MULTI", "SET a 2", "EXEC", "GET a"]);
    own.answer("MULTI", OK);
    own.answer("SET v1:a 2", QUEUED);
    own.expect("EXEC");
    is_next(&stage, &mut data);
    own.reply("*1\r\n+OK\r\n");
    data.reply(":2\r\n");
    for reply in [OK, QUEUED, "*1\r\n+OK\r\n"] {
        client.reads(reply);
    }
    data.expect("GET v1:a");
}

/// A key copied to another database is read there only when it is there.
#[test]
fn a_change_of_database_waits_for_a_copy_into_it() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["COPY a b DB 1", "SELECT 1", "GET b"]);
    data.expect("COPY v1:a v1:b DB 1");
    is_next(&stage, &mut data);
    stage.tries_nothing_more();
    data.reply(":1\r\n");
    client.reads(":1\r\n");
    client.reads(OK);
    let mut data_one = stage.silent_data();
    data_one.answer("SELECT 1", OK);
    data_one.shake_hands();
    data_one.answer("GET v1:b", "$1\r\nx\r\n");
    client.reads("$1\r\nx\r\n");
}

/// Another protocol is another link, too.
#[test]
fn a_change_of_protocol_waits_for_what_is_out() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["SET a 1", "HELLO 3", "SET a 2", "HGETALL h"]);
    data.expect("SET v1:a 1");
    is_next(&stage, &mut data);
    stage.tries_nothing_more();
    data.reply(OK);
    client.reads(OK);
    assert!(client.next().starts_with(b"%7\r\n"));
    let mut other = stage.data();
    other.answer("SET v1:a 2", OK);
    other.answer("HGETALL v1:h", "%0\r\n");
    client.reads(OK);
    client.reads("%0\r\n");
}

/// A hit in another database does not overtake a slow read of the first.
#[test]
fn a_change_of_database_waits_for_a_slow_read() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    other.asks("SELECT 1", OK);
    other.send("INCR n");
    let mut data_one = stage.silent_data();
    data_one.answer("SELECT 1", OK);
    data_one.shake_hands();
    data_one.answer("INCR v1:n", ":1\r\n");
    other.reads(":1\r\n");
    let [slow, fast] = &stage.apart();
    stage.fill(&mut other, &mut data_one, &format!("GET {fast}"), NEW);
    let hits = stage.count(Counter::LookupHit);
    client.send_all(&[&format!("GET {slow}"), "SELECT 1", &format!("GET {fast}")]);
    data.expect(&format!("GET v1:{slow}"));
    data.expect(&format!("PTTL v1:{slow}"));
    is_next(&stage, &mut data);
    assert_eq!(stage.count(Counter::LookupHit), hits, "served before its turn");
    data.reply(OLD);
    for reply in [OLD, OK, NEW] {
        client.reads(reply);
    }
    stage.counted(Counter::LookupHit, hits + 1);
}

/// R2 for clients that cache themselves: nearside has forgotten what a client is told of, so that
/// the client's other connections read nothing older. nearside's own link has not heard of it.
#[test]
fn what_a_tracking_client_is_told_of_is_forgotten_before() {
    let mut stage = Stage::new();
    let (mut plain, mut data) = stage.pair();
    let mut tracking = stage.client();
    tracking.send("HELLO 3");
    assert!(tracking.next().starts_with(b"%7\r\n"));
    tracking.send("CLIENT TRACKING ON");
    let mut own = stage.own_link(41);
    own.answer("CLIENT TRACKING ON", OK);
    tracking.reads(OK);
    tracking.send("GET k");
    own.answer("GET v1:k", OLD);
    tracking.reads(OLD);
    stage.fill(&mut plain, &mut data, "GET k", OLD);
    stage.hit(&mut plain, "GET k", OLD);
    own.write(&invalidation(&[b"v1:k", b"v2:k"]));
    assert_eq!(tracking.next(), invalidation(&[b"k"]));
    plain.fetches(&mut data, "GET k", NEW);
    // A read that was asked before, and comes behind, is not stored.
    own.write(&invalidation(&[b"v1:k"]));
    assert_eq!(tracking.next(), invalidation(&[b"k"]));
    plain.send("GET k");
    data.expect_read("k");
    own.write(&invalidation(&[b"v1:k"]));
    assert_eq!(tracking.next(), invalidation(&[b"k"]));
    data.reply_kept(OLD);
    plain.reads(OLD);
    plain.fetches(&mut data, "GET k", NEW);
}

/// CLIENT UNBLOCK that comes late finds the connection it was meant for, or none: a link that it
/// was aimed at is nobody else's afterwards.
#[test]
fn a_late_unblock_hits_nobody_else() {
    let mut stage = Stage::new();
    let (mut two, mut data) = stage.pair();
    let (mut one, mut three) = (stage.client(), stage.client());
    let id = id_of(&mut one);
    one.send("BLPOP l 0");
    let mut own = stage.own_link(41);
    own.expect("BLPOP v1:l 0");
    two.send(&format!("CLIENT UNBLOCK {id}"));
    data.expect("CLIENT UNBLOCK 41");
    own.reply("*2\r\n$4\r\nv1:l\r\n$1\r\nx\r\n");
    one.reads("*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
    three.send("BLPOP l 0");
    let mut other = stage.own_link(42);
    other.expect("BLPOP v1:l 0");
    own.is_closed();
    data.reply(":0\r\n");
    two.reads(":0\r\n");
    // Without an UNBLOCK links are used again.
    other.reply("*-1\r\n");
    three.reads("*-1\r\n");
    one.send("BLPOP l 0");
    other.expect("BLPOP v1:l 0");
}

/// CLIENT UNBLOCK in a transaction is the server's to execute.
#[test]
fn unblock_is_queued_in_a_transaction() {
    let mut stage = Stage::new();
    let (mut one, mut two) = (stage.client(), stage.client());
    let id = id_of(&mut one);
    one.send("BLPOP l 0");
    let mut own = stage.own_link(41);
    own.expect("BLPOP v1:l 0");
    let unblock = format!("CLIENT UNBLOCK {id} ERROR");
    two.send_all(&["MULTI", &unblock, "CLIENT UNBLOCK 0", "EXEC", "PING"]);
    let mut other = stage.own_link(42);
    other.answer("MULTI", OK);
    other.answer("CLIENT UNBLOCK 41 ERROR", QUEUED);
    other.answer("PING", QUEUED);
    other.answer("EXEC", "*2\r\n:1\r\n+PONG\r\n");
    for reply in [OK, QUEUED, QUEUED, "*2\r\n:1\r\n:0\r\n"] {
        two.reads(reply);
    }
}

/// A link that tracked is known to the server as one that reads certain keys: the next client
/// would be told of keys that it has never read.
#[test]
fn a_link_that_tracked_is_not_used_again() {
    let mut stage = Stage::new();
    let mut clients = [stage.client(), stage.client()];
    for (client, id) in clients.iter_mut().zip(41..) {
        client.send("CLIENT TRACKING ON BCAST");
        let mut own = stage.own_link(id);
        own.answer("CLIENT TRACKING ON BCAST PREFIX v1:", OK);
        client.reads(OK);
        client.send("CLIENT TRACKING OFF");
        own.answer("CLIENT TRACKING OFF", OK);
        client.reads(OK);
        own.is_closed();
    }
}

/// Who leaves while it waits is counted off once.
#[test]
fn a_blocked_client_that_leaves_is_counted_off_once() {
    let mut stage = Stage::new();
    for id in 41..43 {
        let mut client = stage.client();
        client.send("BLPOP l 0");
        let mut own = stage.own_link(id);
        own.expect("BLPOP v1:l 0");
        stage.eventually("one is blocked", |stage| {
            stage.app.stats().gauge(Gauge::ClientsBlocked) == 1
        });
        drop(client);
        own.is_closed();
        stage.eventually("its link is gone", |stage| {
            stage.app.stats().gauge(Gauge::UpstreamDedicated) == 0
        });
    }
}

/// The bound is of links in use: an idle one of another database is changed into what is needed.
#[test]
fn an_idle_link_of_another_kind_stands_in_nobodys_way() {
    let mut stage = Stage::with("upstream.dedicated_max=1");
    let (mut one, mut two) = (stage.client(), stage.client());
    one.send_all(&["MULTI", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("EXEC", "*0\r\n");
    one.reads(OK);
    one.reads("*0\r\n");
    two.asks("SELECT 1", OK);
    two.send("MULTI");
    own.answer("SELECT 1", OK);
    own.answer("MULTI", OK);
    two.reads(OK);
    one.send("MULTI");
    assert!(one.next().starts_with(b"-ERR proxy: all 1 dedicated"));
    two.send("DISCARD");
    own.answer("DISCARD", OK);
    two.reads(OK);
    one.send("MULTI");
    own.answer("SELECT 0", OK);
    own.answer("MULTI", OK);
    one.reads(OK);
}

/// A redirection that was refused leaves nothing: neither who asked nor who was named keeps a
/// link because of it.
#[test]
fn a_refused_redirection_keeps_no_link() {
    let mut stage = Stage::with("upstream.dedicated_max=1");
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    let id = id_of(&mut one);
    two.send(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    assert!(two.next().starts_with(b"-ERR nearside redirects tracking only to"));
    one.send_all(&["MULTI", "EXEC", "INCR n"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("EXEC", "*0\r\n");
    data.answer("INCR v1:n", ":1\r\n");
    for reply in [OK, "*0\r\n", ":1\r\n"] {
        one.reads(reply);
    }
}

/// Whoever subscribes to one channel after another and asks elsewhere meanwhile (Celery does) must
/// not miss what is said on the last: no subscription waits for the answer to the one before it.
/// What comes behind them does.
#[test]
fn subscriptions_do_not_wait_for_each_other() {
    let mut stage = Stage::new();
    let (mut client, _data) = stage.pair();
    client.send("SUBSCRIBE a");
    let mut own = stage.own_link(41);
    own.expect("SUBSCRIBE a");
    client.send_all(&["SUBSCRIBE b c", "PSUBSCRIBE d*", "UNSUBSCRIBE", "PING"]);
    own.expect("SUBSCRIBE b c");
    own.expect("PSUBSCRIBE d*");
    let confirm = |word: &str, channel: &str, count: u32| {
        let (long, size) = (word.len(), channel.len());
        format!("*3\r\n${long}\r\n{word}\r\n${size}\r\n{channel}\r\n:{count}\r\n")
    };
    let added = [("subscribe", "a"), ("subscribe", "b"), ("subscribe", "c"), ("psubscribe", "d*")];
    for (count, (word, channel)) in (1..).zip(added) {
        own.reply(&confirm(word, channel, count));
    }
    own.expect("UNSUBSCRIBE");
    let taken = [("unsubscribe", "a"), ("unsubscribe", "b"), ("unsubscribe", "c")];
    for (left, (word, channel)) in (1..=3).rev().zip(taken) {
        own.reply(&confirm(word, channel, left));
    }
    for (count, (word, channel)) in (1..).zip(added).chain((1..=3).rev().zip(taken)) {
        client.reads(&confirm(word, channel, count));
    }
    own.answer("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    client.reads("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}
