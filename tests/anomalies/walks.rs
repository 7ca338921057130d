//! Commands that take several steps under a prefix: RANDOMKEY, SCAN, FLUSHDB, FLUSHALL. A fault in the
//! middle leaves nothing behind that is not so, and no step takes the link's patience from others.

use crate::stage::{Client, Link, Stage, request};
use bytes::BytesMut;
use nearside::data::ahead::Ahead;
use nearside::data::batch::Batch;
use nearside::data::pause::Held;
use nearside::data::session::Session;
use nearside::data::settle::{Desk, settle};
use nearside::data::upstream::{ClientId, Pipelines};
use nearside::data::worker::Clients;
use nearside::net::client::PeerAddress;
use nearside::snapshot::Snapshot;
use nearside::stats::{Counter, Outcome};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const NIL: &str = "$-1\r\n";
const OK: &str = "+OK\r\n";
const BROKEN: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";

/// A reply to SCAN.
fn page(cursor: &str, keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| bulk(key)).collect();
    let count = keys.matches('$').count();
    format!("*2\r\n{}*{count}\r\n{keys}", bulk(cursor))
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// The request for a page.
fn scan(cursor: &str) -> String {
    format!("SCAN {cursor} MATCH v1:* COUNT 500")
}

/// A reply to INFO keyspace, of a server with keys in these databases.
fn keyspace(databases: &[u32]) -> String {
    let line = |db: &u32| format!("db{db}:keys=1,expires=0,avg_ttl=0\r\n");
    bulk(&format!("# Keyspace\r\n{}", databases.iter().map(line).collect::<String>()))
}

/// The next data link, ready for use, and the database that it selected.
fn data_of_database(stage: &mut Stage) -> (Link, String) {
    let mut link = stage.silent_data();
    let mut database = "0".to_owned();
    loop {
        let asked = String::from_utf8(link.next()).unwrap();
        if asked == "PING" {
            link.reply("+PONG\r\n");
            return (link, database);
        }
        if let Some(number) = asked.strip_prefix("SELECT ") {
            number.clone_into(&mut database);
        }
        link.reply(OK);
    }
}

/// Asserts that a key is not in the cache any more.
fn is_gone(client: &mut Client, data: &mut Link) {
    client.send("GET k");
    data.expect_read("k");
    data.reply_kept(NEW);
    client.reads(NEW);
}

/// A key of another version is not shown; where there are too many of them, SCAN finds one of ours.
#[test]
fn randomkey_looks_until_it_finds_a_key_of_this_version() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("RANDOMKEY");
    data.answer("RANDOMKEY", &bulk("v2:a"));
    data.answer("RANDOMKEY", &bulk("v1:a"));
    client.reads(&bulk("a"));
    for (last, found) in [(page("0", &["v1:b", "v1:c"]), &*bulk("b")), (page("0", &[]), NIL)] {
        client.send("RANDOMKEY");
        for _ in 0..17 {
            data.answer("RANDOMKEY", &bulk("v2:a"));
        }
        data.answer(&scan("0"), &page("17", &[]));
        data.answer(&scan("17"), &last);
        client.reads(found);
    }
    client.send("RANDOMKEY");
    data.answer("RANDOMKEY", NIL);
    client.reads(NIL);
    Stage::quiet(&mut client, &mut data);
}

/// A page without a key of ours is not shown, unless it is the last or the search takes too long.
#[test]
fn a_scan_goes_on_until_it_has_a_key() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("SCAN 0 COUNT 10");
    data.answer("SCAN 0 MATCH v1:* COUNT 10", &page("8", &[]));
    data.answer("SCAN 8 MATCH v1:* COUNT 10", &page("4", &[]));
    data.answer("SCAN 4 MATCH v1:* COUNT 10", &page("2", &["v1:a", "v1:v1:b"]));
    client.reads(&page("2", &["a", "v1:b"]));
    client.send("SCAN 2 MATCH x* MATCH y* TYPE set");
    data.answer("SCAN 2 MATCH v1:x* MATCH v1:y* TYPE set", &page("1", &[]));
    data.answer("SCAN 1 MATCH v1:x* MATCH v1:y* TYPE set", &page("0", &[]));
    client.reads(&page("0", &[]));
    client.send("SCAN 0");
    data.answer("SCAN 0 MATCH v1:*", &page("8", &[]));
    data.expect("SCAN 8 MATCH v1:*");
    stage.hands.advance(Duration::from_millis(20));
    data.reply(&page("4", &[]));
    client.reads(&page("4", &[]));
    client.send("SCAN 0 MATCH");
    data.answer("SCAN 0 MATCH", "-ERR syntax error\r\n");
    client.reads("-ERR syntax error\r\n");
    Stage::quiet(&mut client, &mut data);
}

/// This version's keys go, page by page; then the cache is empty, and only then is it said.
#[test]
fn flushdb_unlinks_this_version_of_the_selected_database() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send("FLUSHDB");
    data.answer(&scan("0"), &page("9", &["v1:k", "v1:l"]));
    data.answer("UNLINK v1:k v1:l", ":2\r\n");
    data.answer(&scan("9"), &page("4", &[]));
    data.answer(&scan("4"), &page("0", &["v1:m"]));
    data.answer("UNLINK v1:m", ":1\r\n");
    client.reads(OK);
    is_gone(&mut client, &mut data);
}

/// A long walk is many short waits: each step may take as long as any request, and what is told of
/// its latency is the whole.
#[test]
fn each_step_has_its_own_time_and_the_walk_the_sum() {
    let stage = Stage::new();
    let shared = stage.app.shared();
    let block = stage.app.stats().new_block();
    let peer = || PeerAddress::Tcp(([127, 0, 0, 1], 1).into());
    let client = shared.registry.enter(peer(), peer(), stage.now());
    let snapshot = Rc::new(Snapshot::clone(&shared.snapshots.newest()));
    let mut session = Session::new(client, &snapshot.limits);
    let mut links = Pipelines::new(Rc::clone(&snapshot), Arc::default());
    let mut batch = Batch {
        gate: shared.live.gate(),
        snapshot: &snapshot,
        worker: 0,
        me: ClientId { place: 0, number: 0 },
        links: &mut links,
        shared,
        block: &block,
        view: shared.cache.view(stage.now()),
        held: Held::Nothing,
        ahead: &mut Ahead::default(),
        seekers: &mut Vec::new(),
        hits: 0,
        commands: 0,
        last: 0,
    };
    session.feed(&request("RANDOMKEY"), &mut batch);
    let link = links.of(&mut session);
    let answers = std::iter::repeat_n(bulk("v2:a"), 9).chain([NIL.to_owned()]);
    for answer in answers {
        assert_eq!(link.front().unwrap().asked_at, stage.now());
        stage.hands.advance(Duration::from_secs(4));
        link.seal();
        link.input.extend_from_slice(answer.as_bytes());
        let (mut clients, mut scratch) = (Clients::default(), BytesMut::new());
        let mut desk = Desk::new(&mut clients, shared, &block, &mut scratch, stage.now());
        settle(link, &mut desk).unwrap();
    }
    assert!(link.is_empty());
    let latency = stage.app.stats().latency(Outcome::Bypass);
    assert_eq!((latency.count(), latency.sum()), (1, 40_000_000_000));
}

/// What upstream refuses is said in its own words, in its place, and the link stays.
#[test]
fn an_error_ends_a_walk_and_is_passed_on() {
    let refusal = "-NOPERM User proxy has no permissions to run the 'scan' command\r\n";
    let before = |data: &mut Link, steps: &[(&str, String)]| {
        for (request, reply) in steps {
            data.answer(request, reply);
        }
    };
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let first = scan("0");
    for (command, steps, last) in [
        ("RANDOMKEY", vec![], "RANDOMKEY"),
        ("RANDOMKEY", vec![("RANDOMKEY", bulk("v2:a"))], "RANDOMKEY"),
        ("FLUSHDB", vec![], &*first),
        ("FLUSHDB", vec![(&*first, page("3", &["v1:a"]))], "UNLINK v1:a"),
        ("FLUSHALL", vec![], "INFO keyspace"),
        ("FLUSHALL", vec![("INFO keyspace", keyspace(&[0]))], &*first),
    ] {
        for error in [refusal, "-LOADING Redis is loading\r\n", "-BUSY a script runs\r\n"] {
            client.send(command);
            before(&mut data, &steps);
            data.answer(last, error);
            client.reads(error);
            Stage::quiet(&mut client, &mut data);
        }
    }
}

/// A part of the keys is gone: nothing may be a hit any more when the client hears of the failure.
#[test]
fn a_flush_that_fails_in_the_middle_clears_the_cache() {
    for error in [Some("-NOPERM no\r\n"), None] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        stage.fill(&mut client, &mut data, "GET k", OLD);
        client.send("FLUSHDB");
        data.answer(&scan("0"), &page("9", &["v1:k"]));
        data.answer("UNLINK v1:k", ":1\r\n");
        data.expect(&scan("9"));
        if let Some(error) = error {
            data.reply(error);
            client.reads(error);
            is_gone(&mut client, &mut data);
        } else {
            drop(data);
            client.reads(BROKEN);
            client.send("INCR first");
            let mut data = stage.data();
            data.answer("INCR v1:first", ":1\r\n");
            client.reads(":1\r\n");
            is_gone(&mut client, &mut data);
        }
    }
}

/// RANDOMKEY changes nothing, nor does a flush that has not begun: what is cached stays.
#[test]
fn a_walk_that_changed_nothing_leaves_the_cache_alone() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send("RANDOMKEY");
    data.answer("RANDOMKEY", &bulk("v2:a"));
    data.answer("RANDOMKEY", "-BUSY a script runs\r\n");
    client.reads("-BUSY a script runs\r\n");
    client.send("FLUSHALL");
    data.answer("INFO keyspace", "-NOPERM no\r\n");
    client.reads("-NOPERM no\r\n");
    stage.hit(&mut client, "GET k", OLD);
    client.send("RANDOMKEY");
    data.answer("RANDOMKEY", &bulk("v2:a"));
    data.expect("RANDOMKEY");
    drop(data);
    client.reads(BROKEN);
    stage.hit(&mut client, "GET k", OLD);
}

/// An answer that the step cannot have belongs to another request: nobody is given any more of
/// them, nothing is unlinked on its word, and everyone who waits is told.
#[test]
fn an_answer_of_the_wrong_shape_discards_the_link() {
    let first = scan("0");
    let to_unlink = vec![(&*first, page("3", &["v1:a"]))];
    let to_find: Vec<_> = (0..17).map(|_| ("RANDOMKEY", bulk("v2:a"))).collect();
    let info = bulk("# Server\r\nredis_version:7\r\n");
    let foreign = page("0", &["v1:a", "v2:a"]);
    for (command, steps, last, wrong) in [
        ("RANDOMKEY", &vec![], "RANDOMKEY", ":1\r\n"),
        ("RANDOMKEY", &vec![], "RANDOMKEY", "*0\r\n"),
        ("RANDOMKEY", &to_find, &*first, "$1\r\n0\r\n"),
        ("RANDOMKEY", &to_find, &*first, &foreign),
        ("FLUSHDB", &vec![], &*first, "+OK\r\n"),
        ("FLUSHDB", &vec![], &*first, "*1\r\n$1\r\n0\r\n"),
        ("FLUSHDB", &vec![], &*first, "*2\r\n$1\r\n0\r\n$4\r\nv1:a\r\n"),
        ("FLUSHDB", &vec![], &*first, "*2\r\n:0\r\n*0\r\n"),
        ("FLUSHDB", &vec![], &*first, "*3\r\n$1\r\n0\r\n*0\r\n*0\r\n"),
        ("FLUSHDB", &vec![], &*first, &foreign),
        ("FLUSHDB", &to_unlink, "UNLINK v1:a", "+OK\r\n"),
        ("FLUSHDB", &to_unlink, "UNLINK v1:a", "$-1\r\n"),
        ("FLUSHALL", &vec![], "INFO keyspace", ":1\r\n"),
        ("FLUSHALL", &vec![], "INFO keyspace", &info),
    ] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        let mut other = stage.client();
        client.send(command);
        for (request, reply) in steps {
            data.answer(request, reply);
        }
        data.expect(last);
        other.send("INCR n");
        data.expect("INCR v1:n");
        data.reply(&format!("{wrong}:1\r\n"));
        client.reads(BROKEN);
        other.reads(BROKEN);
        data.is_closed();
        assert_eq!(stage.count(Counter::ProtocolErrorsUpstream), 1, "{command}: {wrong}");
        client.send("INCR n");
        stage.data().answer("INCR v1:n", ":2\r\n");
        client.reads(":2\r\n");
    }
}

/// A step that had not left when the link broke goes out on the next one, but its cursor may be of
/// a server that is no more: the walk begins again.
#[test]
fn a_cursor_is_not_believed_beyond_its_connection() {
    for (found, behind) in [(vec![], None), (vec!["v1:a"], Some("UNLINK v1:a"))] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        client.send("FLUSHDB");
        data.expect(&scan("0"));
        // One packet: the next step is queued, and then nothing more can be believed.
        data.reply(&format!("{}?what\r\n", page("9", &found)));
        data.is_closed();
        let mut data = stage.data();
        match behind {
            Some(unlink) => data.answer(unlink, ":1\r\n"),
            None => data.answer(&scan("9"), &page("0", &[])),
        }
        data.answer(&scan("0"), &page("3", &["v1:b"]));
        data.answer("UNLINK v1:b", ":1\r\n");
        data.answer(&scan("3"), &page("0", &[]));
        client.reads(OK);
        Stage::quiet(&mut client, &mut data);
    }
}

/// As in Redis, FLUSHALL means every database. Each is walked on its own link, so that none is
/// ever left in a database that its clients did not select.
#[test]
fn flushall_goes_to_every_database_with_keys() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send_all(&["FLUSHALL ASYNC", "INCR n"]);
    data.answer("INFO keyspace", &keyspace(&[0, 3, 12]));
    data.answer(&scan("0"), &page("0", &["v1:k"]));
    data.answer("UNLINK v1:k", ":1\r\n");
    let (mut three, database) = data_of_database(&mut stage);
    assert_eq!(database, "3");
    three.answer(&scan("0"), &page("8", &["v1:a"]));
    three.answer("UNLINK v1:a", ":1\r\n");
    three.answer(&scan("8"), &page("0", &[]));
    let (mut twelve, database) = data_of_database(&mut stage);
    assert_eq!(database, "12");
    twelve.expect(&scan("0"));
    // What the client asked next has not left yet; others are not held up.
    Stage::quiet(&mut other, &mut data);
    twelve.reply(&page("0", &["v1:b"]));
    twelve.answer("UNLINK v1:b", ":1\r\n");
    client.reads(OK);
    data.answer("INCR v1:n", ":1\r\n");
    client.reads(":1\r\n");
    is_gone(&mut client, &mut data);
}

/// Where there are no keys there is nothing to walk; the client's own database is like any other.
#[test]
fn flushall_asks_only_databases_with_keys() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("FLUSHALL");
    data.answer("INFO keyspace", &keyspace(&[]));
    client.reads(OK);
    client.send("FLUSHALL SYNC");
    data.answer("INFO keyspace", &keyspace(&[5]));
    let (mut five, database) = data_of_database(&mut stage);
    assert_eq!(database, "5");
    five.answer(&scan("0"), &page("0", &[]));
    client.reads(OK);
    client.asks("FLUSHALL LATER", "-ERR syntax error\r\n");
    Stage::quiet(&mut client, &mut data);
}

/// RESP3 clients have links of their own, on which INFO is a verbatim string.
#[test]
fn flushall_goes_on_in_the_protocol_that_it_began_in() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.send("HELLO 3");
    assert_eq!(client.next().first(), Some(&b'%'));
    client.send("FLUSHALL");
    let mut data = stage.data();
    data.expect("INFO keyspace");
    data.reply("=26\r\ntxt:# Keyspace\r\ndb1:keys=1\r\n");
    let mut one = stage.data();
    one.answer(&scan("0"), &page("0", &["v1:a"]));
    one.answer("UNLINK v1:a", ":1\r\n");
    client.reads(OK);
}

/// A database that cannot be reached: the others' keys are gone, and so the outcome is not "not
/// executed", nor may anything be a hit.
#[test]
fn flushall_that_cannot_go_on_says_so() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send("FLUSHALL");
    data.answer("INFO keyspace", &keyspace(&[0, 1]));
    data.answer(&scan("0"), &page("0", &["v1:k"]));
    data.answer("UNLINK v1:k", ":1\r\n");
    let _silent = stage.silent_data();
    stage.hands.advance(Duration::from_mins(20));
    client.reads("-ERR proxy: outcome unknown: upstream is down\r\n");
    is_gone(&mut client, &mut data);
}
