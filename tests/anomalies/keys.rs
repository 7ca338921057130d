//! Which entries an invalidation reaches, and how long an entry lives on its own.

use crate::stage::{Client, FLUSHED, Link, Stage};
use nearside::live::Server;
use nearside::stats::Counter;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const NIL: &str = "$-1\r\n";

/// FLUSHALL tells no keys: everything must go, and no reply from before may come back.
#[test]
fn a28_a_null_push_takes_everything_and_refuses_flights() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    stage.fill(&mut client, &mut data, "GET a", OLD);
    stage.fill(&mut client, &mut data, "GET b", OLD);
    other.send("GET c");
    data.expect_read("c");
    stage.push_frame(FLUSHED);
    data.reply_kept(OLD);
    other.reads(OLD);
    for key in ["a", "b", "c"] {
        stage.fill(&mut client, &mut data, &format!("GET {key}"), NEW);
    }
    // The link lives: it needed no new one.
    assert_eq!(stage.count(Counter::InvalidationsReconnect), 0);
}

/// A push with many keys, strange keys and keys of others must reach exactly what it names.
#[test]
fn a29_a_large_push_with_strange_keys_removes_what_it_names() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let binary: &[u8] = b"\r\n\0\xff $5";
    let strange = [binary, b"", b"v1:"];
    for key in strange {
        client.send_bytes(&[b"GET", key]);
        assert_eq!(data.next(), [b"GET v1:", key].concat());
        assert_eq!(data.next(), [b"PTTL v1:", key].concat());
        data.reply_kept(OLD);
        client.reads(OLD);
    }
    stage.counted(Counter::StoreStored, 3);
    stage.fill(&mut client, &mut data, "GET stays", OLD);
    let mut named: Vec<Vec<u8>> = (0..1000).map(|n| format!("v1:{n}").into_bytes()).collect();
    named.extend([b"v2:stays".to_vec(), b"stays".to_vec(), b"v1".to_vec(), Vec::new()]);
    named.extend(strange.map(|key| [b"v1:", key].concat()));
    stage.push(&named.iter().map(Vec::as_slice).collect::<Vec<_>>());
    stage.counted(Counter::InvalidatedKeysTracking, 3);
    stage.hit(&mut client, "GET stays", OLD);
    for key in strange {
        client.send_bytes(&[b"GET", key]);
        assert_eq!(data.next(), [b"GET v1:", key].concat());
        assert_eq!(data.next(), [b"PTTL v1:", key].concat());
        data.reply_kept(NEW);
        client.reads(NEW);
    }
}

/// A push tells no database: a key goes in all of them, and none answers for another.
#[test]
fn a30_databases_share_invalidations_and_no_values() {
    let mut stage = Stage::new();
    let (mut zero, mut data_zero) = stage.pair();
    let mut one = stage.client();
    one.asks("SELECT 1", "+OK\r\n");
    stage.fill(&mut zero, &mut data_zero, "GET k", OLD);
    one.send("GET k");
    let mut data_one = stage.silent_data();
    data_one.expect("SELECT 1");
    data_one.reply("+OK\r\n");
    data_one.shake_hands();
    data_one.expect_read("k");
    data_one.reply_kept(NEW);
    one.reads(NEW);
    // One key has one place in the store, whatever the database: the second fill keeps both.
    stage.counted(Counter::StoreStored, 2);
    stage.hit(&mut zero, "GET k", OLD);
    stage.hit(&mut one, "GET k", NEW);
    one.send("SET k 2");
    data_one.answer("SET v1:k 2", "+OK\r\n");
    one.reads("+OK\r\n");
    stage.fill(&mut zero, &mut data_zero, "GET k", OLD);
    stage.fill(&mut one, &mut data_one, "GET k", "$1\r\n2\r\n");
}

/// Every cached answer about a hash is part of it: one change ends them all.
#[test]
fn a31_one_push_ends_every_variant_of_a_key() {
    let reads = [
        ("HGET h f", "$1\r\n1\r\n"),
        ("HMGET h f g", "*2\r\n$1\r\n1\r\n$-1\r\n"),
        ("HGETALL h", "*2\r\n$1\r\nf\r\n$1\r\n1\r\n"),
        ("HLEN h", ":1\r\n"),
        ("TYPE h", "+hash\r\n"),
    ];
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    for (read, reply) in reads {
        stage.fill(&mut client, &mut data, read, reply);
    }
    for (read, reply) in reads {
        stage.hit(&mut client, read, reply);
    }
    stage.push(&[b"v1:h"]);
    for (read, reply) in reads {
        stage.fill(&mut client, &mut data, read, reply);
    }
}

/// A server tells of an expired key when it finds it, which may be minutes late.
#[test]
fn a32_an_entry_ends_with_its_key_untold() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    // The time on the way counts: the life begins when the question was asked.
    stage.hands.advance(Duration::from_millis(50));
    data.reply(OLD);
    data.reply(":200\r\n");
    client.reads(OLD);
    stage.counted(Counter::StoreStored, 1);
    stage.hands.advance(Duration::from_millis(149));
    stage.hit(&mut client, "GET k", OLD);
    stage.hands.advance(Duration::from_millis(1));
    client.send("GET k");
    data.expect_read("k");
    data.reply(NIL);
    data.reply(":-2\r\n");
    client.reads(NIL);
}

/// An entry lives no longer than its rule says, whatever upstream allows.
#[test]
fn a32_an_entry_ends_with_its_rule() {
    let mut stage = Stage::with("cache.ttl=10s");
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hands.advance(Duration::from_secs(10) - Duration::from_nanos(1));
    stage.hit(&mut client, "GET k", OLD);
    stage.hands.advance(Duration::from_nanos(1));
    stage.fill(&mut client, &mut data, "GET k", NEW);
}

/// A key whose life is cut short must not keep its old deadline here.
#[test]
fn a33_a_shorter_life_is_taken_over() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.push(&[b"v1:k"]);
    client.send("GET k");
    data.expect_read("k");
    data.reply(OLD);
    data.reply(":1000\r\n");
    client.reads(OLD);
    stage.counted(Counter::StoreStored, 2);
    stage.hands.advance(Duration::from_secs(1));
    stage.fill(&mut client, &mut data, "GET k", NEW);
}

/// That a key is missing is remembered too, and ends like everything else.
#[test]
fn a36_a_missing_key_that_is_created_is_seen() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let miss = |client: &mut Client, data: &mut Link| {
        client.send("GET k");
        data.expect_read("k");
        data.reply(NIL);
        data.reply(":-2\r\n");
        client.reads(NIL);
    };
    miss(&mut client, &mut data);
    stage.hit(&mut client, "GET k", NIL);
    stage.hands.advance(Duration::from_secs(5));
    miss(&mut client, &mut data);
    stage.hit(&mut client, "GET k", NIL);
    stage.push(&[b"v1:k"]);
    stage.fill(&mut client, &mut data, "GET k", NEW);
    stage.hit(&mut client, "GET k", NEW);
}

/// A nil is stored as a mark: each protocol gets its own.
#[test]
fn a36_a_cached_nil_is_written_as_the_client_speaks() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    data.reply(NIL);
    data.reply(":-2\r\n");
    client.reads(NIL);
    let mut modern = stage.client();
    modern.send("HELLO 3");
    assert_eq!(modern.next().first(), Some(&b'%'));
    stage.hit(&mut modern, "GET k", "_\r\n");
    stage.hit(&mut client, "GET k", NIL);
}

/// A read of fields that is to be stored, where fields end on their own.
#[track_caller]
fn fetch_fields(client: &mut Client, data: &mut Link, fields: &[&str], lives: &str, value: &str) {
    let (name, words) = if fields.len() == 1 { ("HGET", 1) } else { ("HMGET", fields.len()) };
    let fields = fields.join(" ");
    client.send(&format!("{name} h {fields}"));
    data.expect(&format!("{name} v1:h {fields}"));
    data.expect(&format!("HPTTL v1:h FIELDS {words} {fields}"));
    data.expect("PTTL v1:h");
    data.reply(&[value, lives, ":-1\r\n"].concat());
    client.reads(value);
}

/// A field that ends on its own ends unannounced, and PTTL says nothing of it: HPTTL does, of the
/// fields that a read names. What shows others too is kept for `hash_max_ttl` only.
#[test]
fn a35_a_field_ends_when_it_does() {
    let mut stage = Stage::with("cache.hash_max_ttl=1s");
    let (mut client, mut data) = stage.pair();
    stage.app.shared().live.set_server(Server {
        name: "valkey".to_owned(),
        version: "9.1.2".to_owned(),
        role: "master".to_owned(),
    });
    let (value, values) = ("$1\r\nv\r\n", "*2\r\n$1\r\nv\r\n$-1\r\n");
    // This one ended between the two questions.
    fetch_fields(&mut client, &mut data, &["d"], "*1\r\n:-2\r\n", value);
    stage.counted(Counter::StoreShortTtl, 1);
    fetch_fields(&mut client, &mut data, &["a"], "*1\r\n:5000\r\n", value);
    // One of these is not there: its life counts for nothing.
    fetch_fields(&mut client, &mut data, &["b", "c"], "*2\r\n:-1\r\n:-2\r\n", values);
    stage.counted(Counter::StoreStored, 2);
    stage.hands.advance(Duration::from_millis(4999));
    stage.hit(&mut client, "HGET h a", value);
    stage.hit(&mut client, "HMGET h b c", values);
    stage.hands.advance(Duration::from_millis(1));
    // Where HPTTL is refused, nothing is known of them.
    fetch_fields(&mut client, &mut data, &["a"], "-NOPERM no\r\n", value);
    stage.counted(Counter::StoreStored, 3);
    stage.hands.advance(Duration::from_millis(999));
    stage.hit(&mut client, "HGET h a", value);
    stage.hands.advance(Duration::from_millis(1));
    fetch_fields(&mut client, &mut data, &["a"], "*1\r\n:-1\r\n", value);
    // All of them are shown by this, and none is named.
    client.fetches(&mut data, "HGETALL h", "*2\r\n$1\r\na\r\n$1\r\nv\r\n");
    stage.counted(Counter::StoreStored, 5);
    stage.hands.advance(Duration::from_secs(1));
    stage.hit(&mut client, "HGET h a", value);
    client.fetches(&mut data, "HGETALL h", "*2\r\n$1\r\na\r\n$1\r\nv\r\n");
}
