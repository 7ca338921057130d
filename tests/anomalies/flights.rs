//! Identical reads share one request, where that cannot show anybody something old.

use crate::stage::{Client, Stage};
use nearside::stats::Counter;
use std::time::Duration;

const VALUE: &str = "$5\r\nvalue\r\n";
const CLIENTS: u64 = 20;

fn crowd(stage: &Stage) -> Vec<Client> {
    (0..CLIENTS).map(|_| stage.client()).collect()
}

/// A popular key that is not cached would be asked for once by every client.
#[test]
fn many_clients_one_request() {
    let mut stage = Stage::new();
    let (mut first, mut data) = stage.pair();
    first.send("GET k");
    data.expect_read("k");
    let mut clients = crowd(&stage);
    for client in &mut clients {
        client.send("GET k");
    }
    stage.counted(Counter::LookupCoalesced, CLIENTS);
    data.reply_kept(VALUE);
    first.reads(VALUE);
    for client in &mut clients {
        client.reads(VALUE);
    }
    Stage::quiet(&mut first, &mut data);
    stage.counted(Counter::StoreStored, 1);
    stage.hit(&mut first, "GET k", VALUE);
}

/// So it is while nothing may be stored: a read on its way serves all who ask within the lease, as
/// a cached reply would.
#[test]
fn many_clients_one_request_while_the_tracking_link_is_down() {
    let mut stage = Stage::new();
    let (mut first, mut data) = stage.pair();
    stage.tracking = None;
    stage.eventually("tracking is down", |stage| !stage.cache().tracking().is_up());
    first.send("GET k");
    data.expect("GET v1:k");
    let mut clients = crowd(&stage);
    for client in &mut clients {
        client.send("GET k");
    }
    stage.counted(Counter::LookupCoalesced, CLIENTS);
    // Who has written it reads what it wrote, and so does everybody from then on.
    let mut writer = stage.client();
    writer.send("SET k new");
    data.expect("SET v1:k new");
    data.reply(VALUE);
    first.reads(VALUE);
    for client in &mut clients {
        client.reads(VALUE);
    }
    data.reply("+OK\r\n");
    writer.reads("+OK\r\n");
    clients[0].send("GET k");
    data.answer("GET v1:k", "$3\r\nnew\r\n");
    clients[0].reads("$3\r\nnew\r\n");
    Stage::quiet(&mut first, &mut data);
    assert_eq!(stage.count(Counter::StoreStored), 0);
}

/// A flight from before a write is not joined after it, though nothing is stored.
#[test]
fn a_write_ends_joining_while_the_tracking_link_is_down() {
    let mut stage = Stage::new();
    let (mut first, mut data) = stage.pair();
    stage.tracking = None;
    stage.eventually("tracking is down", |stage| !stage.cache().tracking().is_up());
    let mut other = stage.client();
    first.send("GET k");
    data.expect("GET v1:k");
    // An own link would answer sooner; here the write's answer is forged to come first.
    stage.cache().invalidate(stage.cache().hash(b"k"));
    other.send("GET k");
    data.expect("GET v1:k");
    data.reply(VALUE);
    data.reply("$3\r\nnew\r\n");
    first.reads(VALUE);
    other.reads("$3\r\nnew\r\n");
}

/// A crowd is spread over all workers: it asks once all the same.
#[test]
fn many_clients_of_several_workers_one_request() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    one.send("GET k");
    data_one.expect_read("k");
    let mut clients = crowd(&stage);
    for client in &mut clients {
        client.send("GET k");
    }
    stage.counted(Counter::LookupCoalesced, CLIENTS);
    data_one.reply_kept(VALUE);
    one.reads(VALUE);
    for client in &mut clients {
        client.reads(VALUE);
    }
    Stage::quiet(&mut one, &mut data_one);
    Stage::quiet(&mut two, &mut data_two);
}

/// A change ends a flight for the other workers too.
#[test]
fn a08_a_read_of_another_worker_does_not_join_one_from_before_a_push() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    one.send("GET k");
    data_one.expect_read("k");
    stage.push(&[b"v1:k"]);
    stage.fill(&mut two, &mut data_two, "GET k", VALUE);
    data_one.reply_kept("$3\r\nold\r\n");
    one.reads("$3\r\nold\r\n");
}

/// Two reads of a key are out, on links of both protocols, and the one that was asked later is
/// answered first. Who asks once that answer was seen joins neither: what was asked before may be
/// older, and the value that was seen is no hit before its PTTL (found by the simulation).
#[test]
fn nobody_joins_what_was_asked_before_an_answer_that_was_seen() {
    const OLD: &str = "$3\r\nold\r\n";
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let [mut early, mut late] = [stage.client(), stage.client()];
    for modern in [&mut early, &mut late] {
        modern.send("HELLO 3");
        assert_eq!(modern.next().first(), Some(&b'%'));
    }
    early.send("GET k");
    let mut modern = stage.data();
    modern.expect_read("k");
    client.send("GET k");
    data.expect_read("k");
    data.reply(VALUE);
    client.reads(VALUE);
    late.send("GET k");
    modern.expect_read("k");
    modern.reply(&format!("{OLD}:-1\r\n{VALUE}:-1\r\n"));
    early.reads(OLD);
    late.reads(VALUE);
}

/// Reads with the same key and other arguments are other questions.
#[test]
fn only_the_same_question_is_shared() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let (mut two, mut three) = (stage.client(), stage.client());
    one.send("HGET h f");
    data.expect("HGET v1:h f");
    data.expect("PTTL v1:h");
    two.send("HGET h g");
    data.expect("HGET v1:h g");
    data.expect("PTTL v1:h");
    three.send("HGET h f");
    stage.counted(Counter::LookupCoalesced, 1);
    data.reply("$1\r\nf\r\n:-1\r\n$1\r\ng\r\n:-1\r\n");
    one.reads("$1\r\nf\r\n");
    two.reads("$1\r\ng\r\n");
    three.reads("$1\r\nf\r\n");
}

/// A flight ends with its answer: a read that comes between the value and its PTTL asks anew.
#[test]
fn nobody_joins_a_read_that_was_answered() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET k");
    data.expect_read("k");
    data.reply(VALUE);
    one.reads(VALUE);
    two.send("GET k");
    data.expect("GET v1:k");
    data.reply(":-1\r\n");
    data.expect("PTTL v1:k");
    data.reply_kept(VALUE);
    two.reads(VALUE);
    assert_eq!(stage.count(Counter::LookupCoalesced), 0);
}

/// What was answered, and waits for its PTTL, may be newer than what a read on its way will say.
#[test]
fn nobody_joins_an_older_read_when_a_newer_was_answered() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    one.send("GET k");
    data_one.expect_read("k");
    // MGET joins no read of a single key.
    two.send("MGET k");
    data_two.expect("MGET v1:k");
    data_two.expect("PTTL v1:k");
    data_two.reply("*1\r\n$3\r\nnew\r\n");
    two.reads("*1\r\n$3\r\nnew\r\n");
    // The same client: its link has only the PTTL to wait for.
    two.send("GET k");
    data_two.expect("GET v1:k");
    data_one.reply("$3\r\nold\r\n");
    one.reads("$3\r\nold\r\n");
}

/// Reads that have left without the right to fill may be from before a change: none is shared.
#[test]
fn a_sent_read_without_a_token_is_not_joined() {
    let mut stage = Stage::silent("cache.level=bypass", "");
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET k");
    data.expect("GET v1:k");
    two.send("GET k");
    data.expect("GET v1:k");
    data.reply("$3\r\nold\r\n");
    data.reply(VALUE);
    one.reads("$3\r\nold\r\n");
    two.reads(VALUE);
    assert_eq!(stage.count(Counter::LookupCoalesced), 0);
}

/// Reads that have not left yet are one read, whatever their rule says and whether or not the
/// tracking link is up: nothing can have come between them.
#[test]
fn unsent_reads_are_shared_at_every_level() {
    for level in ["coherent", "relaxed", "ttl", "bypass"] {
        for is_tracked in [true, false] {
            unsent(level, is_tracked);
        }
    }
}

fn unsent(level: &str, is_tracked: bool) {
    let mut stage = Stage::silent(&format!("cache.level={level}"), "");
    // Where no rule needs it, there is no tracking link.
    if is_tracked && matches!(level, "coherent" | "relaxed") {
        stage.track();
    }
    let mut clients = crowd(&stage);
    for client in &mut clients {
        client.send("GET k");
    }
    // The link is not open yet, so all of them wait.
    let mut data = stage.silent_data();
    stage.counted(Counter::LookupCoalesced, CLIENTS - 1);
    data.shake_hands();
    data.expect("GET v1:k");
    if level == "ttl" || (is_tracked && level != "bypass") {
        data.expect("PTTL v1:k");
        data.reply_kept(VALUE);
    } else {
        data.reply(VALUE);
    }
    for client in &mut clients {
        client.reads(VALUE);
    }
    Stage::quiet(&mut clients[0], &mut data);
}

/// A client's own unsent write stands between: its read is its own.
#[test]
fn an_unsent_read_is_not_joined_behind_an_own_write() {
    let mut stage = Stage::new();
    let (mut one, mut two) = (stage.client(), stage.client());
    one.send("GET k");
    let mut data = stage.silent_data();
    two.send_all(&["ECHO 1", "SET k new", "GET k"]);
    two.reads("$1\r\n1\r\n");
    data.shake_hands();
    data.expect_read("k");
    data.expect("SET v1:k new");
    data.expect_read("k");
    data.reply("$3\r\nold\r\n:-1\r\n+OK\r\n$3\r\nnew\r\n:-1\r\n");
    one.reads("$3\r\nold\r\n");
    two.reads("+OK\r\n");
    two.reads("$3\r\nnew\r\n");
}

/// A client that goes away takes its own place with it and nobody else's answer.
#[test]
fn a56_the_owner_of_a_flight_may_leave() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send_all(&["ECHO unread", "GET k"]);
    data.expect_read("k");
    two.send("GET k");
    stage.counted(Counter::LookupCoalesced, 1);
    // Closed with something unread, so that its end is a reset and not only a last byte.
    one.stream.peek(&mut [0]).unwrap();
    drop(one);
    stage.counted(Counter::ClosedError, 1);
    // Its place is taken by another client, who must not be given its answer.
    let mut three = stage.client();
    three.asks("ECHO 3", "$1\r\n3\r\n");
    data.reply_kept(VALUE);
    two.reads(VALUE);
    three.asks("ECHO three", "$5\r\nthree\r\n");
}

/// When a flight's connection dies, every one of its waiters is told, once.
#[test]
fn a57_every_waiter_of_a_dead_flight_is_told() {
    let mut stage = Stage::new();
    let (mut first, mut data) = stage.pair();
    let mut clients = crowd(&stage);
    first.send("GET k");
    data.expect("GET v1:k");
    for client in &mut clients {
        client.send("GET k");
    }
    stage.counted(Counter::LookupCoalesced, CLIENTS);
    drop(data);
    // All of them wait for the read that is asked once more.
    let mut data = stage.data();
    data.expect("GET v1:k");
    drop(data);
    for client in clients.iter_mut().chain([&mut first]) {
        client.reads("-ERR proxy: outcome unknown: the upstream link broke\r\n");
        client.asks("ECHO again", "$5\r\nagain\r\n");
    }
}

/// Waiters of other workers have links of their own: a read is asked again there.
#[test]
fn a57_waiters_of_another_worker_read_for_themselves() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    // (With a write behind it the read is not asked again by the first.)
    one.send_all(&["GET k", "INCR n"]);
    data_one.expect_read("k");
    data_one.expect("INCR v1:n");
    two.send("GET k");
    stage.counted(Counter::LookupCoalesced, 1);
    drop(data_one);
    for _ in 0..2 {
        one.reads("-ERR proxy: outcome unknown: the upstream link broke\r\n");
    }
    data_two.expect_read("k");
    data_two.reply_kept(VALUE);
    two.reads(VALUE);
    two.asks("ECHO again", "$5\r\nagain\r\n");
}

/// Two links keep no order: a client's write would overtake the read that stands before it, and
/// the read would see it.
#[test]
fn what_follows_a_read_of_another_worker_waits_for_it() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    let (_three, mut four) = (stage.client(), stage.client());
    stage.fill(&mut two, &mut data_two, "GET hit", VALUE);
    one.send("GET k");
    data_one.expect_read("k");
    two.send_all(&["GET k", "ECHO 1", "SET k new", "GET k"]);
    stage.counted(Counter::LookupCoalesced, 1);
    four.send("INCR n");
    data_two.expect("INCR v1:n");
    data_two.reply(":1\r\n");
    four.reads(":1\r\n");
    data_one.reply_kept(VALUE);
    two.reads(VALUE);
    two.reads("$1\r\n1\r\n");
    data_two.expect("SET v1:k new");
    data_two.expect_read("k");
    data_two.reply("+OK\r\n$3\r\nnew\r\n:-1\r\n");
    two.reads("+OK\r\n");
    two.reads("$3\r\nnew\r\n");
}

/// R5: a flight that hangs longer than a hit may be stale would hand its age on to whoever joins:
/// the lease of `coherent`, and where there is none the life of what is stored.
#[test]
fn a_flight_older_than_a_hit_may_be_is_not_joined() {
    for level in ["coherent cache.ttl=10h", "relaxed cache.ttl=1h", "ttl cache.ttl=1h"] {
        let mut stage = Stage::with(&format!("upstream.request_timeout=10h cache.level={level}"));
        let (mut one, mut data) = stage.pair();
        let mut two = stage.client();
        one.send("GET k");
        data.expect_read("k");
        stage.hands.advance(Duration::from_secs(3601));
        two.send("GET k");
        data.expect("GET v1:k");
    }
}
