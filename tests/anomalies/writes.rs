//! A client that has seen a write, its own or another's, must never read what was before it.

use crate::stage::Stage;
use nearside::stats::Counter;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const UNKNOWN: &str = "-ERR proxy: outcome unknown: the upstream link broke\r\n";

/// A read that joins another client's flight would be told what was before its own write.
#[test]
fn a07_a_read_behind_an_own_write_does_not_join() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    one.send("GET k");
    data.expect_read("k");
    two.send_all(&["SET k new", "GET k"]);
    data.expect("SET v1:k new");
    data.expect("GET v1:k");
    data.reply_kept(OLD);
    one.reads(OLD);
    data.expect("PTTL v1:k");
    data.reply("+OK\r\n");
    data.reply_kept(NEW);
    two.reads("+OK\r\n");
    two.reads(NEW);
}

/// The same where the write was acknowledged by another link.
#[test]
fn a07_a_read_after_an_acknowledged_write_does_not_join() {
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    let mut three = stage.client();
    one.send("GET k");
    data_one.expect_read("k");
    two.send("SET k new");
    data_two.answer("SET v1:k new", "+OK\r\n");
    two.reads("+OK\r\n");
    // The third client is dealt to the first worker, where the older read is still out.
    three.send("GET k");
    data_one.expect_read("k");
    data_one.reply_kept(OLD);
    one.reads(OLD);
    data_one.reply_kept(NEW);
    three.reads(NEW);
}

/// An own write is visible to every client from its acknowledgement on, whether or not a push
/// ever comes.
#[test]
fn a09_a_write_is_seen_on_another_connection() {
    let mut stage = Stage::new();
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    stage.fill(&mut two, &mut data, "GET k", OLD);
    stage.hit(&mut two, "GET k", OLD);
    one.send("SET k new");
    data.expect("SET v1:k new");
    // Nobody has seen the new value yet, so the old one may still be served.
    stage.hit(&mut two, "GET k", OLD);
    data.reply("+OK\r\n");
    one.reads("+OK\r\n");
    two.fetches(&mut data, "GET k", NEW);
}

/// The same between worker threads, many times: no thread keeps a copy of its own.
#[test]
fn a10_a_write_is_seen_on_another_thread() {
    const ROUNDS: u64 = 2_000;
    let mut stage = Stage::with("server.workers=2");
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    for round in 0..ROUNDS {
        let value = format!("${}\r\n{round}\r\n", round.to_string().len());
        one.send(&format!("SET k {round}"));
        data_one.answer(&format!("SET v1:k {round}"), "+OK\r\n");
        one.reads("+OK\r\n");
        stage.fill(&mut two, &mut data_two, "GET k", &value);
        one.asks("GET k", &value);
        two.asks("GET k", &value);
    }
    stage.counted(Counter::LookupHit, 2 * ROUNDS);
}

/// A read behind an own write in one packet must see it, although the old value is cached.
#[test]
fn a11_a_pipelined_read_behind_a_write_goes_upstream() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send_all(&["SET k new", "GET k"]);
    data.expect("SET v1:k new");
    data.expect_read("k");
    data.reply("+OK\r\n");
    data.reply_kept(NEW);
    client.reads("+OK\r\n");
    client.reads(NEW);
    assert_eq!(stage.count(Counter::BypassPipeline), 1);
}

/// The same for MGET and for a write to several keys.
#[test]
fn a11_a_pipelined_mget_behind_writes_fetches_what_was_written() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET a", OLD);
    stage.fill(&mut client, &mut data, "GET b", OLD);
    client.send_all(&["MSET a 1 b 2", "MGET a b"]);
    data.expect("MSET v1:a 1 v1:b 2");
    data.expect("MGET v1:a v1:b");
    data.expect("PTTL v1:a");
    data.expect("PTTL v1:b");
    data.reply("+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n:-1\r\n:-1\r\n");
    client.reads("+OK\r\n");
    client.reads("*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
}

/// A read that is out may show something newer than the cache: nothing behind it may be older.
#[test]
fn a12_a_pipelined_hit_does_not_follow_an_open_read() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send_all(&["STRLEN k", "GET k"]);
    data.expect("STRLEN v1:k");
    data.expect("PTTL v1:k");
    data.expect_read("k");
    data.reply(":7\r\n:-1\r\n$7\r\nnewness\r\n:-1\r\n");
    client.reads(":7\r\n");
    client.reads("$7\r\nnewness\r\n");
}

/// A read that is not cached may reveal a newer value: what is cached ends with it.
#[test]
fn a13_a_read_that_bypasses_the_cache_ends_the_entry() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send("DUMP k");
    data.answer("DUMP v1:k", NEW);
    client.reads(NEW);
    client.fetches(&mut data, "GET k", NEW);
}

/// A write that failed may have failed because the key is not what the cache thinks it is.
#[test]
fn a14_a_write_error_ends_the_entry_and_is_passed_on() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    for error in [
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-NOREPLICAS Not enough good replicas to write.\r\n",
    ] {
        stage.fill(&mut client, &mut data, "GET k", OLD);
        client.send("LPUSH k 1");
        data.answer("LPUSH v1:k 1", error);
        client.reads(error);
    }
    client.fetches(&mut data, "GET k", NEW);
}

/// A write without an answer may have been executed: it is told, not repeated, and its keys go.
#[test]
fn a15_a_write_of_unknown_outcome_is_told_once_and_never_repeated() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    client.send("SET k new");
    data.expect("SET v1:k new");
    drop(data);
    client.reads(UNKNOWN);
    client.send("GET k");
    let mut data = stage.data();
    // The first request on the new link is the read, not the write again.
    data.expect_read("k");
    data.reply_kept(NEW);
    client.reads(NEW);
    Stage::quiet(&mut client, &mut data);
}
