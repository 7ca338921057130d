//! Fills that race with invalidations.

use crate::stage::{Client, Link, Stage, invalidation};
use nearside::cache::{Banned, Source};
use nearside::stats::Counter;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";

/// The reply of a read that began before a change would be stored after it, and stay for ever.
#[test]
fn a01_a_push_before_the_reply_refuses_the_fill() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    stage.push(&[b"v1:k"]);
    data.reply_kept(OLD);
    client.reads(OLD);
    client.fetches(&mut data, "GET k", NEW);
    assert_eq!(stage.count(Counter::StoreRaced), 1);
    stage.counted(Counter::StoreStored, 1);
    stage.hit(&mut client, "GET k", NEW);
}

/// A stored value would outlive the push that came after it.
#[test]
fn a02_a_push_after_the_reply_removes_the_entry() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
    stage.push(&[b"v1:k"]);
    client.fetches(&mut data, "GET k", NEW);
}

/// Between the value and its PTTL the entry exists; a push there must leave nothing behind.
#[test]
fn a03_a_push_between_value_and_ttl_leaves_no_entry() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    data.reply(OLD);
    client.reads(OLD);
    stage.push(&[b"v1:k"]);
    data.reply(":-1\r\n");
    stage.counted(Counter::StoreRaced, 1);
    client.fetches(&mut data, "GET k", NEW);
}

/// Until its PTTL has come, a value must not be served: its key may be about to end.
#[test]
fn a03_an_entry_without_its_ttl_is_no_hit() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    data.reply(OLD);
    client.reads(OLD);
    client.send("GET k");
    data.expect("GET v1:k");
    data.reply(":-1\r\n");
    data.expect("PTTL v1:k");
    data.reply_kept(OLD);
    client.reads(OLD);
}

/// A fill whose token is older than the push would replace what was read after the push.
#[test]
fn a04_a_fill_with_an_old_token_is_refused_beside_a_newer_entry() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    one.send("GET k");
    data_one.expect_read("k");
    stage.push(&[b"v1:k"]);
    stage.fill(&mut two, &mut data_two, "GET k", NEW);
    data_one.reply_kept(OLD);
    one.reads(OLD);
    // The refused fill has dropped the newer entry too: its client saw another value.
    two.fetches(&mut data_two, "GET k", NEW);
    assert_eq!(stage.count(Counter::StoreRaced), 1);
    stage.counted(Counter::StoreStored, 2);
    stage.hit(&mut one, "GET k", NEW);
}

/// A placeholder that is only checked for existence is filled by the reply of an older read.
#[test]
fn a05_an_older_reply_does_not_fill_a_newer_read() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let (mut two, mut three) = (stage.client(), stage.client());
    one.send("GET k");
    data.expect_read("k");
    stage.push(&[b"v1:k"]);
    two.send("GET k");
    data.expect_read("k");
    data.reply_kept(OLD);
    one.reads(OLD);
    // The refused fill moved the key on, so this one does not join the second read either.
    three.send("GET k");
    data.expect_read("k");
    for client in [&mut two, &mut three] {
        data.reply_kept(NEW);
        client.reads(NEW);
    }
}

/// Two reads with equal rights and different replies: nobody can say which is old.
#[test]
fn a06_a_second_reply_with_other_bytes_is_not_stored() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    // One packet: both are asked before either is answered, and neither joins the other.
    client.send_all(&["GET k", "GET k"]);
    for reply in [NEW, OLD] {
        data.expect_read("k");
        data.reply_kept(reply);
    }
    client.reads(NEW);
    client.reads(OLD);
    client.fetches(&mut data, "GET k", NEW);
    assert_eq!(stage.count(Counter::StoreRaced), 1);
}

/// MGET says what GET has stored: after its nil an older value of GET must not be told to it, nor
/// may its nil stand beside a newer one.
#[test]
fn a06_a_nil_of_mget_and_a_value_of_get_are_not_both_stored() {
    let nil = "*1\r\n$-1\r\n";
    for is_nil_first in [false, true] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        let mut reads = [("GET", OLD), ("MGET", nil)];
        if is_nil_first {
            reads.reverse();
        }
        // One packet: both are asked before either is answered.
        let asked = reads.map(|(command, _)| format!("{command} k"));
        client.send_all(&[&asked[0], &asked[1]]);
        for (command, reply) in reads {
            data.expect(&format!("{command} v1:k"));
            data.expect("PTTL v1:k");
            data.reply_kept(reply);
        }
        for (_, reply) in reads {
            client.reads(reply);
        }
        assert_eq!(stage.count(Counter::StoreRaced), 1);
        client.fetches(&mut data, "MGET k", "*1\r\n$3\r\nnew\r\n");
        stage.hit(&mut client, "GET k", NEW);
    }
}

/// A read that joins one from before a change is told what was true then.
#[test]
fn a08_a_read_after_a_push_does_not_join_one_from_before() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET k");
    data.expect_read("k");
    stage.push(&[b"v1:k"]);
    two.send("GET k");
    data.expect_read("k");
    data.reply_kept(OLD);
    one.reads(OLD);
    data.reply_kept(NEW);
    two.reads(NEW);
    assert_eq!(stage.count(Counter::LookupCoalesced), 0);
}

/// A link that was lost and came back did not tell of the changes in between.
#[test]
fn a21_a_flight_across_a_lost_link_does_not_fill() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    drop(stage.tracking.take());
    stage.counted(Counter::InvalidationsReconnect, 1);
    stage.track();
    data.reply_kept(OLD);
    client.reads(OLD);
    client.fetches(&mut data, "GET k", NEW);
}

/// A value whose key ends between GET and PTTL must be delivered and not kept.
#[test]
fn a34_a_key_that_ends_before_its_ttl_is_asked_is_not_stored() {
    for pttl in [":-2\r\n", ":0\r\n", "-LOADING Redis is loading the dataset in memory\r\n"] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        client.send("GET k");
        data.expect_read("k");
        data.reply(OLD);
        data.reply(pttl);
        client.reads(OLD);
        stage.counted(Counter::StoreShortTtl, 1);
        client.fetches(&mut data, "GET k", NEW);
    }
}

/// An error is an answer to one request, not a value of the key.
#[test]
fn an_error_is_delivered_and_not_stored() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    for error in ["-WRONGTYPE Operation against a key\r\n", "-LOADING Redis is loading\r\n"] {
        client.send("GET k");
        data.expect_read("k");
        data.reply_kept(error);
        client.reads(error);
    }
    client.fetches(&mut data, "GET k", NEW);
    assert_eq!(stage.count(Counter::StoreErrorReply), 2);
}

/// The same races for the keys of an MGET, each on its own.
#[test]
fn an_mget_fills_only_the_keys_that_were_not_pushed() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("MGET a b");
    data.expect("MGET v1:a v1:b");
    data.expect("PTTL v1:a");
    data.expect("PTTL v1:b");
    stage.push(&[b"v1:a"]);
    data.reply("*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    data.reply(":-1\r\n:-1\r\n");
    client.reads("*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    stage.counted(Counter::StoreStored, 1);
    stage.hit(&mut client, "GET b", "$1\r\n2\r\n");
    client.send("MGET a b");
    data.expect("MGET v1:a");
    data.expect("PTTL v1:a");
    data.reply_kept("*1\r\n$1\r\n9\r\n");
    client.reads("*2\r\n$1\r\n9\r\n$1\r\n2\r\n");
}

/// A GET and an MGET of the same key are out together, and the key is deleted between them. Who has
/// heard of that by MGET's nil reads no older value by GET (found by the simulation).
#[test]
fn a_nil_by_mget_denies_a_value_by_get() {
    let mut stage = Stage::new();
    let (mut first, mut data) = stage.pair();
    let mut second = stage.client();
    first.send("GET k");
    data.expect_read("k");
    second.send("MGET k");
    data.expect("MGET v1:k");
    data.expect("PTTL v1:k");
    data.reply(&format!("{OLD}:-1\r\n*1\r\n$-1\r\n:-2\r\n"));
    first.reads(OLD);
    second.reads("*1\r\n$-1\r\n");
    second.fetches(&mut data, "GET k", NEW);
}

/// The other way round: a value by GET denies what MGET had said.
#[test]
fn a_value_by_get_denies_a_nil_by_mget() {
    let mut stage = Stage::with("cache.negative_ttl=1h");
    let (mut first, mut data) = stage.pair();
    let mut second = stage.client();
    first.send("MGET k");
    data.expect("MGET v1:k");
    data.expect("PTTL v1:k");
    second.send("GET k");
    data.expect_read("k");
    // Its life ends at once: it is no hit, and the nil would be one.
    data.reply(&format!("*1\r\n$-1\r\n:-2\r\n{NEW}:1\r\n"));
    first.reads("*1\r\n$-1\r\n");
    second.reads(NEW);
    stage.hands.advance(Duration::from_millis(2));
    second.send("MGET k");
    data.expect("MGET v1:k");
}

/// A push that shares its packet with the next is applied like one of its own.
#[test]
fn pushes_in_one_packet_are_all_applied() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET a", OLD);
    stage.fill(&mut client, &mut data, "GET b", OLD);
    stage.push_frame(&[invalidation(&[b"v1:a"]), invalidation(&[b"v1:b"])].concat());
    for key in ["a", "b"] {
        client.send(&format!("GET {key}"));
        data.expect(&format!("GET v1:{key}"));
        data.expect(&format!("PTTL v1:{key}"));
        data.reply_kept(NEW);
        client.reads(NEW);
    }
}

/// "No such key" is remembered like nil, whatever its words; a value whose key went away meanwhile
/// is not.
#[test]
fn absence_is_remembered_for_its_own_time() {
    let mut stage = Stage::with("cache.negative_ttl=5s upstream.request_timeout=10h");
    let (mut client, mut data) = stage.pair();
    for (read, reply) in [("EXISTS a", ":0\r\n"), ("HGETALL b", "*0\r\n"), ("TYPE c", "+none\r\n")]
    {
        client.send(read);
        let (command, key) = read.split_once(' ').unwrap();
        data.answer(&format!("{command} v1:{key}"), reply);
        data.answer(&format!("PTTL v1:{key}"), ":-2\r\n");
        client.reads(reply);
        stage.hit(&mut client, read, reply);
    }
    stage.hands.advance(Duration::from_secs(6));
    client.send("EXISTS a");
    data.answer("EXISTS v1:a", ":1\r\n");
    data.answer("PTTL v1:a", ":-2\r\n");
    client.reads(":1\r\n");
    client.send("EXISTS a");
    data.expect("EXISTS v1:a");
}

/// RESP2 has two nils, and a client gets the one that the server would send.
#[test]
fn an_array_that_is_nil_is_a_hit_as_such_or_none() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "ZRANK k m WITHSCORE", "*-1\r\n");
    stage.hit(&mut client, "ZRANK k m WITHSCORE", "*-1\r\n");
    client.send("ZRANK k n");
    data.answer("ZRANK v1:k n", "$-1\r\n");
    data.answer("PTTL v1:k", ":-1\r\n");
    client.reads("$-1\r\n");
    stage.hit(&mut client, "ZRANK k n", "$-1\r\n");
    // Both protocols share a stream's entries, but not this.
    not_kept(&mut client, &mut data, "XRANGE s - + COUNT 0", "*-1\r\n");
}

/// A module may answer an error for one of several items: that is no value.
#[test]
fn a_reply_with_an_error_inside_is_not_kept() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    not_kept(&mut client, &mut data, "BF.MEXISTS k a b", "*2\r\n:1\r\n-ERR no\r\n");
    stage.fill(&mut client, &mut data, "BF.MEXISTS k a b", "*2\r\n:1\r\n:0\r\n");
    stage.hit(&mut client, "BF.MEXISTS k a b", "*2\r\n:1\r\n:0\r\n");
}

/// What both protocols would share may not be of a type that only one of them has.
#[test]
fn a_reply_of_another_protocol_is_not_shared() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.send("HELLO 3");
    assert_eq!(client.next().first(), Some(&b'%'));
    client.send("INCR first");
    let mut data = stage.data();
    data.answer("INCR v1:first", ":1\r\n");
    client.reads(":1\r\n");
    not_kept(&mut client, &mut data, "BF.CARD k", "~1\r\n$1\r\nv\r\n");
}

/// Asked upstream each time.
fn not_kept(client: &mut Client, link: &mut Link, command: &str, reply: &str) {
    for _ in 0..2 {
        client.fetches(link, command, reply);
    }
}

/// A read that looks beyond its key is not kept; without such arguments it is.
#[test]
fn a_read_beyond_its_key_is_not_kept() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    for _ in 0..2 {
        client.send("SORT_RO k BY w_*");
        data.answer("SORT_RO v1:k BY v1:w_*", "*1\r\n$1\r\n1\r\n");
        client.reads("*1\r\n$1\r\n1\r\n");
    }
    stage.fill(&mut client, &mut data, "SORT_RO k LIMIT 0 1", "*1\r\n$1\r\n1\r\n");
    stage.hit(&mut client, "SORT_RO k LIMIT 0 1", "*1\r\n$1\r\n1\r\n");
}

/// A read is out when its pattern is banned: what it brings is older than the ban.
#[test]
fn a47_a_ban_refuses_the_fills_in_flight_that_it_means() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    for (key, is_banned) in [("orders:1", true), ("users:1", false)] {
        let (read, ttl) = (format!("GET v1:{key}"), format!("PTTL v1:{key}"));
        client.send(&format!("GET {key}"));
        data.expect(&read);
        data.expect(&ttl);
        stage.cache().ban(Banned::Pattern(b"orders:*".as_slice().into()), Source::Admin);
        data.reply_kept(OLD);
        client.reads(OLD);
        if is_banned {
            client.fetches(&mut data, &format!("GET {key}"), NEW);
        } else {
            stage.counted(Counter::StoreStored, 2);
            stage.hit(&mut client, "GET users:1", OLD);
        }
    }
}

/// Nor may a read that comes after the ban be answered by one that was asked before it.
#[test]
fn a47_a_read_after_the_ban_does_not_join_one_from_before() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET orders:1");
    data.expect("GET v1:orders:1");
    data.expect("PTTL v1:orders:1");
    stage.cache().ban(Banned::Namespace(b"orders".as_slice().into()), Source::Pubsub);
    two.send("GET orders:1");
    data.expect("GET v1:orders:1");
    data.expect("PTTL v1:orders:1");
    for value in [OLD, NEW] {
        data.reply_kept(value);
    }
    one.reads(OLD);
    two.reads(NEW);
}

/// A key that is written faster than it can be stored is only passed on for a while: nothing is
/// asked beside it, and nobody joins.
#[test]
fn a_key_that_is_written_too_often_is_left_alone_for_a_second() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    // A second long; the ninth ends it.
    for time in 1..=9 {
        if time == 9 {
            stage.hands.advance(Duration::from_secs(1));
        }
        client.send("GET k");
        data.expect_read("k");
        stage.push(&[b"v1:k"]);
        data.reply("$1\r\nx\r\n:-1\r\n");
        client.reads("$1\r\nx\r\n");
        stage.counted(Counter::StoreRaced, time);
    }
    let mut other = stage.client();
    client.send("GET k");
    data.expect("GET v1:k");
    other.send("GET k");
    data.expect("GET v1:k");
    data.reply("$1\r\nx\r\n$1\r\ny\r\n");
    client.reads("$1\r\nx\r\n");
    other.reads("$1\r\ny\r\n");
    stage.counted(Counter::BypassWriteHot, 2);
    stage.fill(&mut client, &mut data, "GET l", "$1\r\nl\r\n");
    stage.hands.advance(Duration::from_secs(1));
    stage.fill(&mut client, &mut data, "GET k", "$1\r\nx\r\n");
    stage.hit(&mut other, "GET k", "$1\r\nx\r\n");
}

/// What is put together of several replies is of several moments, and may be so.
#[test]
fn a45_an_mget_of_one_moment_is_asked_of_upstream() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET a", "$3\r\nold\r\n");
    client.send("MGET a b");
    data.expect("MGET v1:b");
    data.expect("PTTL v1:b");
    data.reply("*1\r\n$3\r\nnew\r\n:-1\r\n");
    client.reads("*2\r\n$3\r\nold\r\n$3\r\nnew\r\n");
    // A rule can have it otherwise, and one key of it is enough.
    let rules = "[[rules]]\nmatch = \"one:*\"\nmulti_key = \"bypass\"\n";
    let mut stage = Stage::silent("", rules);
    stage.track();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET a", "$3\r\nold\r\n");
    client.send("MGET a one:b");
    data.answer("MGET v1:a v1:one:b", "*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n");
    client.reads("*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n");
    stage.counted(Counter::BypassRule, 1);
    // What that has shown is not followed by what was stored before.
    stage.fill(&mut client, &mut data, "GET a", "$3\r\nnew\r\n");
    // One key is of one moment anyway.
    client.send("MGET one:b");
    data.expect("MGET v1:one:b");
    data.expect("PTTL v1:one:b");
    data.reply("*1\r\n$3\r\nnew\r\n:-1\r\n");
    client.reads("*1\r\n$3\r\nnew\r\n");
    stage.hit(&mut client, "GET one:b", "$3\r\nnew\r\n");
    let mut stage = Stage::with("cache.multi_key=bypass");
    let (mut client, mut data) = stage.pair();
    client.send("MGET a b");
    data.answer("MGET v1:a v1:b", "*2\r\n$-1\r\n$-1\r\n");
    client.reads("*2\r\n$-1\r\n$-1\r\n");
}

/// What happens to one key of a stripe may refuse another's fill, and takes nothing from it.
#[test]
fn a53_keys_of_one_stripe_only_delay_each_other() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let stripe = |stage: &Stage, key: &str| stage.cache().hash(key.as_bytes()) >> 24 & 0xffff;
    let wanted = stripe(&stage, "k");
    let twin = (0..10_000_000)
        .map(|n| format!("twin{n}"))
        .find(|key| stripe(&stage, key) == wanted)
        .unwrap();
    let twin = format!("v1:{twin}");
    client.send("GET k");
    data.expect_read("k");
    stage.push(&[twin.as_bytes()]);
    data.reply_kept(OLD);
    client.reads(OLD);
    stage.counted(Counter::StoreRaced, 1);
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.push(&[twin.as_bytes()]);
    stage.hit(&mut client, "GET k", OLD);
    stage.push(&[b"v1:k"]);
    client.fetches(&mut data, "GET k", NEW);
}
