//! Reads whose link is closed before their answer are asked once more; nothing else is.

use crate::stage::Stage;
use nearside::stats::Counter;

const VALUE: &str = "$5\r\nvalue\r\n";
const BROKEN: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";

/// Its client notices nothing; a second loss it is told.
#[test]
fn a_read_is_asked_once_more() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect("GET v1:k");
    drop(data);
    let mut data = stage.data();
    data.expect_read("k");
    data.reply_kept(VALUE);
    client.reads(VALUE);
    assert_eq!(stage.count(Counter::UpstreamRetries), 1);
    client.send("GET l");
    data.expect("GET v1:l");
    // Half an answer is none.
    data.reply("$5\r\nval");
    drop(data);
    let mut data = stage.data();
    data.expect("GET v1:l");
    drop(data);
    client.reads(BROKEN);
    assert_eq!(stage.count(Counter::UpstreamRetries), 2);
}

/// So is an MGET, but for what was here when it was asked: what stands behind it has been told that,
/// and must not be older than what comes before it.
#[test]
fn an_mget_is_asked_once_more() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET a");
    data.expect_read("a");
    data.reply_kept("$1\r\na\r\n");
    client.reads("$1\r\na\r\n");
    client.send_all(&["MGET a b", "MGET a", "GET a"]);
    data.expect("MGET v1:b");
    drop(data);
    let mut data = stage.data();
    data.expect("MGET v1:b");
    data.reply("*1\r\n$1\r\nb\r\n");
    client.reads("*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    client.reads("*1\r\n$1\r\na\r\n");
    client.reads("$1\r\na\r\n");
    assert_eq!(stage.count(Counter::UpstreamRetries), 1);
}

/// An MGET that was asked under another key version is not: what was here is of that one.
#[test]
fn an_mget_is_not_asked_under_another_version() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET a");
    data.expect_read("a");
    data.reply_kept("$1\r\na\r\n");
    client.reads("$1\r\na\r\n");
    client.send("MGET a b");
    data.expect("MGET v1:b");
    data.expect("PTTL v1:b");
    let shared = stage.app.shared();
    let next = shared.snapshots.newest().settings.with_version("v2").unwrap();
    shared.snapshots.publish(nearside::snapshot::Snapshot::of(&next));
    shared.bells.ring();
    let mut other = stage.client();
    stage.eventually("the version is in force", |_| {
        other.send("PROXY EXPLAIN GET c");
        other.next().windows(4).any(|word| word == b"v2:c")
    });
    drop(data);
    client.reads(BROKEN);
    assert_eq!(stage.count(Counter::UpstreamRetries), 0);
}

/// Pipelined reads keep their order, and each its own answer.
#[test]
fn reads_of_a_pipeline_are_asked_in_their_order() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["GET a", "GET b", "GET c"]);
    for key in ["a", "b", "c"] {
        data.expect_read(key);
    }
    data.reply_kept("$1\r\na\r\n");
    client.reads("$1\r\na\r\n");
    drop(data);
    let mut data = stage.data();
    for key in ["b", "c"] {
        data.expect_read(key);
    }
    data.reply_kept("$1\r\nb\r\n");
    data.reply_kept("$1\r\nc\r\n");
    client.reads("$1\r\nb\r\n");
    client.reads("$1\r\nc\r\n");
    assert_eq!(stage.count(Counter::UpstreamRetries), 2);
}

/// Asked again, it could show what its client has written behind it.
#[test]
fn a_read_before_a_write_is_not_asked_again() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    client.send_all(&["GET k", "SET k 1"]);
    data.expect_read("k");
    data.expect("SET v1:k 1");
    other.send("GET l");
    data.expect_read("l");
    drop(data);
    client.reads(BROKEN);
    client.reads(BROKEN);
    let mut data = stage.data();
    data.expect_read("l");
    data.reply_kept(VALUE);
    other.reads(VALUE);
    assert_eq!(stage.count(Counter::UpstreamRetries), 1);
}

/// What the server cannot read, or answers wrongly, it is not asked again.
#[test]
fn a_read_whose_link_is_discarded_is_not_asked_again() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect("GET v1:k");
    data.reply("?what\r\n");
    client.reads(BROKEN);
    assert_eq!(stage.count(Counter::UpstreamRetries), 0);
}
