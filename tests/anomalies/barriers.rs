//! What waits for a barrier of the tracking link: two rounds, the first of which was sent after the
//! wait had begun.

use crate::stage::{Client, Link, Stage};
use nearside::stats::Counter;
use std::io::{ErrorKind, Read as _};
use std::time::Duration;

const OK: &str = "+OK\r\n";

/// It changes a key that it does not name.
const OPAQUE: &str = "return redis.call('SET', ARGV[1], 'new')";

/// Scripts run unread, as they do without a key version.
const SETTINGS: &str = "cache.script_barrier=true scripts.policy=allow";

fn eval(client: &mut Client, text: &str) {
    client.send_bytes(&[b"EVAL", text.as_bytes(), b"0", b"v1:k"]);
}

fn evaluated(own: &mut Link, text: &str) {
    own.answer(&format!("EVAL {} 0 v1:k", text.escape_default()), OK);
}

fn has_nothing(client: &mut Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let read = client.stream.read(&mut [0; 64]);
    client.stream.set_nonblocking(false).unwrap();
    matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A script was answered, and its reply waits: the first round is out.
fn held() -> (Stage, Client, Link, Link) {
    let mut stage = Stage::with(SETTINGS);
    let (mut client, data) = stage.pair();
    eval(&mut client, OPAQUE);
    let mut own = stage.own_link(41);
    evaluated(&mut own, OPAQUE);
    stage.tracking.as_mut().unwrap().round();
    (stage, client, data, own)
}

#[test]
fn a44_what_a_script_did_beyond_its_keys_is_seen_behind_it() {
    let mut stage = Stage::with("cache.script_barrier=true scripts.policy=allow");
    let (mut reader, mut data) = stage.pair();
    let mut writer = stage.client();
    stage.fill(&mut reader, &mut data, "GET k", "$3\r\nold\r\n");
    eval(&mut writer, OPAQUE);
    let mut own = stage.own_link(41);
    evaluated(&mut own, OPAQUE);
    let tracking = stage.tracking.as_mut().unwrap();
    tracking.round();
    tracking.confirm();
    tracking.round();
    assert!(has_nothing(&mut writer), "one round is no barrier");
    stage.hit(&mut reader, "GET k", "$3\r\nold\r\n");
    stage.push(&[b"v1:k"]);
    assert!(has_nothing(&mut writer), "nobody knows that this was all");
    stage.tracking.as_mut().unwrap().confirm();
    writer.reads(OK);
    stage.counted(Counter::BarrierPassed, 1);
    writer.fetches(&mut data, "GET k", "$3\r\nnew\r\n");
}

/// There is nothing to wait for, and nothing stored: but a read that was asked before the script
/// ran says what was before it, and must not be its client's answer.
#[test]
fn a44_without_a_tracking_link_no_read_from_before_a_script_is_joined_behind_it() {
    let mut stage = Stage::with("cache.script_barrier=true scripts.policy=allow");
    let (mut reader, mut data) = stage.pair();
    let mut writer = stage.client();
    drop(stage.tracking.take());
    stage.counted(Counter::InvalidationsReconnect, 1);
    reader.send("GET k");
    data.expect("GET v1:k");
    eval(&mut writer, OPAQUE);
    let mut own = stage.own_link(41);
    evaluated(&mut own, OPAQUE);
    writer.reads(OK);
    writer.send("GET k");
    data.expect("GET v1:k");
    data.reply("$3\r\nold\r\n$3\r\nnew\r\n");
    reader.reads("$3\r\nold\r\n");
    writer.reads("$3\r\nnew\r\n");
}

/// A round that is out when they come proves nothing for them; those behind it prove it for all.
#[test]
fn who_waits_at_one_time_shares_the_rounds() {
    let (mut stage, mut one, _data, _own) = held();
    let mut two = stage.client();
    eval(&mut two, OPAQUE);
    let mut own = stage.own_link(42);
    evaluated(&mut own, OPAQUE);
    // Behind its own script, on the same connection.
    eval(&mut two, OPAQUE);
    evaluated(&mut own, OPAQUE);
    stage.eventually("both wait", |stage| stage.count(Counter::UpstreamOk) >= 4);
    let tracking = stage.tracking.as_mut().unwrap();
    tracking.confirm();
    tracking.round();
    tracking.confirm();
    one.reads(OK);
    tracking.round();
    tracking.confirm();
    two.reads(OK);
    two.reads(OK);
    stage.counted(Counter::BarrierPassed, 3);
}

#[test]
fn what_waits_is_in_order_and_its_link_is_free_again_afterwards() {
    let (mut stage, mut client, mut data, mut own) = held();
    client.send("INCR a");
    own.answer("INCR v1:a", ":1\r\n");
    assert!(has_nothing(&mut client));
    let tracking = stage.tracking.as_mut().unwrap();
    tracking.confirm();
    tracking.round();
    tracking.confirm();
    client.reads(OK);
    client.reads(":1\r\n");
    Stage::quiet(&mut client, &mut data);
}

#[test]
fn with_the_tracking_link_the_reason_to_wait_is_lost() {
    let (mut stage, mut client, mut data, mut own) = held();
    stage.tracking = None;
    client.reads(OK);
    stage.counted(Counter::BarrierLost, 1);
    // Nothing is stored, so nobody waits for what would be read of it.
    eval(&mut client, OPAQUE);
    evaluated(&mut own, OPAQUE);
    client.reads(OK);
    Stage::quiet(&mut client, &mut data);
}

#[test]
fn nobody_waits_longer_than_the_longest_lease() {
    let (mut stage, mut client, _data, _own) = held();
    // Rounds that are refused are not sent again at once.
    stage.tracking.as_mut().unwrap().reply("-BUSY\r\n-BUSY\r\n");
    assert!(has_nothing(&mut client));
    stage.hands.advance(Duration::from_hours(1));
    client.reads(OK);
    stage.counted(Counter::BarrierLate, 1);
}

/// One that was read and keeps to its keys, one that only reads, and one that was not run.
#[test]
fn a_script_that_can_be_followed_does_not_wait() {
    let mut stage = Stage::with(SETTINGS);
    let (mut client, mut data) = stage.pair();
    let keeps = "return redis.call('INCR', KEYS[1])";
    client.send_bytes(&[b"EVAL", keeps.as_bytes(), b"1", b"k"]);
    let mut own = stage.own_link(41);
    own.answer(&format!("EVAL {} 1 v1:k", keeps.escape_default()), ":1\r\n");
    client.reads(":1\r\n");
    client.send_bytes(&[b"EVAL_RO", OPAQUE.as_bytes(), b"0", b"v1:k"]);
    own.answer(&format!("EVAL_RO {} 0 v1:k", OPAQUE.escape_default()), OK);
    client.reads(OK);
    let sha = "0123456789012345678901234567890123456789";
    client.send(&format!("EVALSHA {sha} 0"));
    own.answer(&format!("EVALSHA {sha} 0"), "-NOSCRIPT No matching script.\r\n");
    assert!(client.next().starts_with(b"-NOSCRIPT"));
    Stage::quiet(&mut client, &mut data);
    // And where nobody has asked for it, none does.
    let mut stage = Stage::with("scripts.policy=allow");
    let (mut client, _data) = stage.pair();
    eval(&mut client, OPAQUE);
    evaluated(&mut stage.own_link(41), OPAQUE);
    client.reads(OK);
}

#[test]
fn a_transaction_waits_for_the_scripts_in_it() {
    let mut stage = Stage::with(SETTINGS);
    let (mut client, mut data) = stage.pair();
    client.send("MULTI");
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    client.reads(OK);
    eval(&mut client, OPAQUE);
    own.expect(&format!("EVAL {} 0 v1:k", OPAQUE.escape_default()));
    own.reply("+QUEUED\r\n");
    client.reads("+QUEUED\r\n");
    client.send("EXEC");
    own.answer("EXEC", "*1\r\n+OK\r\n");
    let tracking = stage.tracking.as_mut().unwrap();
    tracking.round();
    tracking.confirm();
    tracking.round();
    assert!(has_nothing(&mut client));
    tracking.confirm();
    client.reads("*1\r\n+OK\r\n");
    Stage::quiet(&mut client, &mut data);
}

/// As many rounds as it takes: wants that come close together are met by one.
fn pass_all(stage: &mut Stage) {
    let mut tracking = stage.tracking.take().unwrap();
    stage.eventually("the barrier has passed", |stage| {
        if tracking.is_asked() {
            tracking.round();
            tracking.confirm();
        }
        !stage.app.shared().cache.tracking().is_barrier_wanted()
    });
    stage.tracking = Some(tracking);
}

/// Rounds that were asked for.
fn pass(stage: &mut Stage, rounds: usize) {
    let tracking = stage.tracking.as_mut().unwrap();
    for _ in 0..rounds {
        tracking.round();
        tracking.confirm();
    }
}

#[test]
fn a46_replies_of_one_key_are_of_one_moment() {
    const OLD: &str = "$3\r\nold\r\n";
    const NEW: &str = "$3\r\nnew\r\n";
    // Somebody has changed both fields, and the push is on its way. Unless it is asked for, one
    // may be seen before the other within the bound of its rule.
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "HGET h a", OLD);
    stage.fill(&mut client, &mut data, "HGET h b", NEW);
    stage.hit(&mut client, "HGET h a", OLD);
    for (set, rules) in
        [("cache.whole_key=true", ""), ("", "[[rules]]\nmatch = \"h*\"\nwhole_key = true\n")]
    {
        let mut stage = Stage::silent(set, rules);
        stage.track();
        let (mut client, mut data) = stage.pair();
        stage.fill(&mut client, &mut data, "HGET h a", OLD);
        stage.hit(&mut client, "HGET h a", OLD);
        stage.fill(&mut client, &mut data, "HGET h b", NEW);
        client.fetches(&mut data, "HGET h a", NEW);
        stage.counted(Counter::StoreRaced, 1);
        stage.fill(&mut client, &mut data, "HGET h a", NEW);
        stage.fill(&mut client, &mut data, "HGET h b", NEW);
        // Nobody has changed anything since, and a barrier says so.
        stage.fill(&mut client, &mut data, "HGET h a", NEW);
        pass_all(&mut stage);
        stage.hit(&mut client, "HGET h a", NEW);
        stage.hit(&mut client, "HGET h b", NEW);
    }
}

/// A client that has read `k` at level `linear`, and time has passed.
fn linear() -> (Stage, Client, Link) {
    let mut stage = Stage::with("cache.level=linear");
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", "$3\r\nold\r\n");
    stage.hands.advance(Duration::from_millis(1));
    (stage, client, data)
}

/// Somebody else's write that was acknowledged before is never missed, however late its push.
#[test]
fn a_linear_hit_is_proved_first() {
    let (mut stage, mut client, mut data) = linear();
    let mut other = stage.client();
    let wanted = |stage: &Stage| stage.app.shared().cache.tracking().last_wanted();
    client.send("GET k");
    stage.tracking.as_mut().unwrap().round();
    let first = wanted(&stage);
    other.send("GET k");
    stage.eventually("the other waits too", |stage| wanted(stage) > first);
    stage.tracking.as_mut().unwrap().confirm();
    stage.tracking.as_mut().unwrap().round();
    assert!(has_nothing(&mut client), "one round is no barrier");
    stage.tracking.as_mut().unwrap().confirm();
    client.reads("$3\r\nold\r\n");
    // The round that was out when it came proves nothing for the other.
    pass(&mut stage, 1);
    other.reads("$3\r\nold\r\n");
    stage.counted(Counter::LookupHit, 2);
    // Now somebody writes, and has his answer; then it is read.
    stage.hands.advance(Duration::from_millis(1));
    client.send("GET k");
    let tracking = stage.tracking.as_mut().unwrap();
    tracking.round();
    tracking.confirm();
    tracking.round();
    stage.push(&[b"v1:k"]);
    stage.tracking.as_mut().unwrap().confirm();
    data.expect("GET v1:k");
    data.expect("PTTL v1:k");
    data.reply("$3\r\nnew\r\n:-1\r\n");
    client.reads("$3\r\nnew\r\n");
}

/// One barrier is good for all that had been sent when it was wanted, and for nothing more.
#[test]
fn what_was_sent_together_waits_together() {
    let (mut stage, mut client, _data) = linear();
    client.send_all(&["GET k", "ECHO x", "GET k"]);
    pass(&mut stage, 2);
    for reply in ["$3\r\nold\r\n", "$1\r\nx\r\n", "$3\r\nold\r\n"] {
        client.reads(reply);
    }
    stage.hands.advance(Duration::from_millis(1));
    client.send("GET k");
    pass(&mut stage, 2);
    client.reads("$3\r\nold\r\n");
    stage.counted(Counter::LookupHit, 3);
}

/// Where nothing can be proved, upstream is asked.
#[test]
fn a_linear_read_without_a_barrier_goes_upstream() {
    let (mut stage, mut client, mut data) = linear();
    client.send("GET k");
    stage.tracking.as_mut().unwrap().round();
    stage.tracking.as_mut().unwrap().reply("-BUSY\r\n-BUSY\r\n");
    // There is no other bound than the one of a rule without one.
    stage.hands.advance(Duration::from_secs(1));
    data.expect("GET v1:k");
    data.expect("PTTL v1:k");
    data.reply("$3\r\nold\r\n:-1\r\n");
    client.reads("$3\r\nold\r\n");
    stage.counted(Counter::BypassLease, 1);
    client.send("GET k");
    stage.tracking = None;
    data.answer("GET v1:k", "$3\r\nold\r\n");
    client.reads("$3\r\nold\r\n");
}

/// What is on its way was asked before: it is not joined.
#[test]
fn a_linear_read_joins_nothing_older() {
    let mut stage = Stage::with("cache.level=linear");
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    client.send("GET k");
    data.expect("GET v1:k");
    data.expect("PTTL v1:k");
    stage.hands.advance(Duration::from_millis(1));
    other.send("GET k");
    data.expect("GET v1:k");
    data.expect("PTTL v1:k");
    data.reply("$3\r\nold\r\n:-1\r\n$3\r\nnew\r\n:-1\r\n");
    client.reads("$3\r\nold\r\n");
    other.reads("$3\r\nnew\r\n");
}
