//! Upstreams that lie: answers lost, doubled, swapped, or of a type that the command never gives.
//! What is cached waits for the canary behind it (`cache.verify = "fills"`); with `"strict"` so
//! does every answer.

use crate::stage::{Client, Link, Stage};
use nearside::stats::Counter;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const LOST: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";
const FOREVER: &str = ":-1\r\n";

/// A proxy that verifies, a client, and its link.
fn stage(settings: &str) -> (Stage, Client, Link) {
    let mut stage = Stage::with(settings);
    let (client, link) = if settings.contains("strict") {
        let mut client = stage.client();
        client.send("INCR first");
        let mut link = stage.data();
        link.answer("INCR v1:first", ":1\r\n");
        let canary = canary(&mut link);
        link.reply(&canary);
        client.reads(":1\r\n");
        (client, link)
    } else {
        stage.pair()
    };
    (stage, client, link)
}

/// The answer to the canary that comes next.
fn canary(link: &mut Link) -> String {
    let asked = String::from_utf8(link.next()).unwrap();
    let number = asked.strip_prefix("PING ").unwrap();
    format!("${}\r\n{number}\r\n", number.len())
}

/// Both requests of a read that is to be cached, and the canary's answer.
fn asked(link: &mut Link, key: &str) -> String {
    link.expect(&format!("GET v1:{key}"));
    link.expect(&format!("PTTL v1:{key}"));
    canary(link)
}

#[test]
fn a_value_is_delivered_at_once_and_served_after_its_canary() {
    let (stage, mut client, mut link) = stage("cache.verify=fills");
    client.send("GET k");
    let canary = asked(&mut link, "k");
    link.reply(OLD);
    client.reads(OLD);
    link.reply(FOREVER);
    // A second read of it finds no hit; its fill finds the entry, and wants a canary of its own.
    client.send("GET k");
    link.expect_read("k");
    link.reply(&canary);
    stage.counted(Counter::StoreStored, 1);
    link.reply(OLD);
    client.reads(OLD);
    stage.hit(&mut client, "GET k", OLD);
}

#[test]
fn nil_waits_for_its_canary_too() {
    let (stage, mut client, mut link) = stage("cache.verify=fills");
    client.send("GET k");
    let canary = asked(&mut link, "k");
    link.reply("$-1\r\n");
    client.reads("$-1\r\n");
    assert_eq!(stage.count(Counter::StoreStored), 0);
    link.reply(FOREVER);
    link.reply(&canary);
    stage.counted(Counter::StoreStored, 1);
    stage.hit(&mut client, "GET k", "$-1\r\n");
}

#[test]
fn what_changed_before_the_canary_came_is_not_served() {
    let (mut stage, mut client, mut link) = stage("cache.verify=fills");
    client.send("GET k");
    let canary = asked(&mut link, "k");
    link.reply(OLD);
    client.reads(OLD);
    link.reply(FOREVER);
    stage.push(&[b"v1:k"]);
    link.reply(&canary);
    stage.counted(Counter::StoreRaced, 1);
    assert_eq!(stage.count(Counter::StoreStored), 0);
}

/// The answer to the first GET never comes, and no PTTL tells: all behind it are one place early.
#[test]
fn after_a_lost_answer_nothing_is_cached() {
    let settings = "cache.verify=fills cache.ttl_probe=never";
    let (mut stage, mut client, mut link) = stage(settings);
    let mut other = stage.client();
    client.send_all(&["GET a", "GET b"]);
    link.expect("GET v1:a");
    link.expect("GET v1:b");
    let canary = canary(&mut link);
    // Of b, in the place of a.
    link.reply(NEW);
    client.reads(NEW);
    link.reply(&canary);
    assert!(link.is_over());
    client.reads(LOST);
    assert_eq!(stage.count(Counter::StoreStored), 0);
    let mut link = stage.data();
    other.send("GET a");
    link.expect("GET v1:a");
    let canary = self::canary(&mut link);
    // What lies there is not what upstream says: it goes, and the next read stores.
    link.reply(OLD);
    other.reads(OLD);
    link.reply(&canary);
    stage.counted(Counter::StoreRaced, 1);
}

#[test]
fn an_answer_too_many_ends_the_link() {
    let (stage, mut client, mut link) = stage("cache.verify=fills cache.ttl_probe=never");
    client.send("GET a");
    link.expect("GET v1:a");
    let _canary = canary(&mut link);
    link.reply(NEW);
    link.reply(NEW);
    client.reads(NEW);
    assert!(link.is_over());
    assert_eq!(stage.count(Counter::StoreStored), 0);
}

#[test]
fn strict_delivers_nothing_before_the_canary() {
    let (stage, mut client, mut link) = stage("cache.verify=strict");
    client.send_all(&["GET k", "SET x 1"]);
    link.expect_read("k");
    link.expect("SET v1:x 1");
    let canary = canary(&mut link);
    link.reply_kept(OLD);
    link.reply("+OK\r\n");
    assert_eq!(stage.count(Counter::UpstreamOk), 2, "only the first command and its canary");
    link.reply(&canary);
    client.reads(OLD);
    client.reads("+OK\r\n");
    stage.hit(&mut client, "GET k", OLD);
}

#[test]
fn strict_gives_nobody_anothers_answer() {
    // An error may be a canary's own answer, but not one that PING never has, nor where the canary
    // has come before it.
    let refused = "-READONLY You can't write against a read only replica.\r\n";
    for (answers, last) in [
        (vec![NEW], NEW),
        (vec![NEW], refused),
        (vec![OLD, NEW, NEW], NEW),
        (vec![OLD, NEW, refused], NEW),
    ] {
        let settings = "cache.verify=strict cache.ttl_probe=never";
        let (stage, mut client, mut link) = stage(settings);
        client.send_all(&["GET a", "GET b"]);
        link.expect("GET v1:a");
        link.expect("GET v1:b");
        let canary = canary(&mut link);
        for answer in answers {
            link.reply(answer);
        }
        link.reply(&canary);
        link.reply(last);
        assert!(link.is_over());
        client.reads(LOST);
        client.reads(LOST);
        assert_eq!(stage.count(Counter::StoreStored), 0);
    }
}

/// A server that runs a script refuses a canary: that says nothing of the order of answers.
#[test]
fn a_canary_that_is_refused_proves_nothing_and_breaks_nothing() {
    let (stage, mut client, mut link) = stage("cache.verify=fills");
    client.send("GET k");
    let _canary = asked(&mut link, "k");
    link.reply_kept(OLD);
    link.reply("-BUSY Redis is busy running a script.\r\n");
    client.reads(OLD);
    assert_eq!(stage.count(Counter::StoreStored), 0);
    client.send("GET k");
    let canary = asked(&mut link, "k");
    link.reply_kept(OLD);
    link.reply(&canary);
    client.reads(OLD);
    stage.counted(Counter::StoreStored, 1);
}

/// A type that the command never answers, or that RESP2 does not have, was not meant for it.
#[test]
fn an_answer_of_another_type_ends_the_link() {
    for (command, answer) in [
        ("GET k", ":1\r\n"),
        ("GET k", "*1\r\n$1\r\nx\r\n"),
        ("SET k v", ":1\r\n"),
        ("DEL k", "+OK\r\n"),
        ("HGETALL k", "$1\r\nx\r\n"),
        ("GET k", "_\r\n"),
        ("LPUSH k v", "#t\r\n"),
    ] {
        let (stage, mut client, mut link) = stage("cache.verify=off cache.level=bypass");
        client.send(command);
        link.expect(&command.replace(" k", " v1:k"));
        link.reply(answer);
        assert!(link.is_over(), "{command}: {answer:?}");
        client.reads(LOST);
        assert_eq!(stage.count(Counter::StoreStored), 0);
    }
}

/// No canary goes where a client may open a transaction, and a link of its own may have been opened
/// before the server behind the address became another: what is read there is shown to that client
/// and stored for nobody, whatever `cache.verify` says.
#[test]
fn what_is_read_on_a_clients_own_link_is_not_stored() {
    for settings in ["cache.verify=fills", "cache.verify=off"] {
        let mut stage = Stage::with(settings);
        let mut client = stage.client();
        client.send("HELLO 3");
        client.next();
        client.send("SUBSCRIBE news");
        let mut own = stage.own_link(41);
        let subscribed = ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
        own.answer("SUBSCRIBE news", subscribed);
        client.reads(subscribed);
        client.send("GET k");
        own.expect("GET v1:k");
        own.reply(OLD);
        client.reads(OLD);
        client.send("MGET k l");
        let values = "*2\r\n$3\r\nold\r\n_\r\n";
        own.answer("MGET v1:k v1:l", values);
        client.reads(values);
        stage.counted(Counter::BypassOwnLink, 3);
        assert_eq!(stage.count(Counter::StoreStored), 0, "{settings}");
    }
}
