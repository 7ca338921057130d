//! The tracking link: its loss, its doubts, its barrier and the lease that hangs on it.

use crate::stage::{Client, Link, MASTER, Stage, invalidation};
use nearside::stats::Counter;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";

/// Rounds every 10 ms, so that a test that wants one need not wait long.
const SHORT: &str = "cache.max_staleness=40ms";
const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:1\r\n";
const X: Duration = Duration::from_millis(40);

/// A read that must go upstream and must not be stored.
fn passes(client: &mut Client, link: &mut Link, reply: &str) {
    client.send("GET k");
    link.answer("GET v1:k", reply);
    client.reads(reply);
    Stage::quiet(client, link);
}

/// The tracking link of a stage whose rounds a test answers itself.
fn taken(stage: &mut Stage) -> Link {
    stage.tracking.take().unwrap()
}

/// While nothing tells of changes, a hit may be any age.
#[test]
fn a18_a_closed_link_ends_all_hits_and_no_read() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
    drop(taken(&mut stage));
    stage.counted(Counter::InvalidationsReconnect, 1);
    passes(&mut client, &mut data, NEW);
    // Nothing is stored while the link is down, so neither is the next one a hit.
    passes(&mut client, &mut data, NEW);
    assert_eq!(stage.count(Counter::BypassTrackingDown), 2);
    stage.track();
    stage.fill(&mut client, &mut data, "GET k", NEW);
    stage.hit(&mut client, "GET k", NEW);
}

/// What was stored before the loss would come back to life with the next link.
#[test]
fn a18_a_new_link_does_not_revive_what_the_old_one_guarded() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    drop(taken(&mut stage));
    stage.counted(Counter::InvalidationsReconnect, 1);
    stage.track();
    client.fetches(&mut data, "GET k", NEW);
}

/// A link whose other end is gone without a word looks like one on which nothing happens.
#[test]
fn a19_hits_end_with_the_lease_of_a_half_open_link() {
    let mut stage = Stage::with(SHORT);
    let mut link = taken(&mut stage);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    link.round();
    stage.hands.advance(X);
    stage.hit(&mut client, "GET k", OLD);
    stage.hands.advance(Duration::from_nanos(1));
    client.fetches(&mut data, "GET k", OLD);
    stage.hands.advance(X * 10);
    client.fetches(&mut data, "GET k", NEW);
    assert_eq!(stage.count(Counter::BypassLease), 2);
    assert_eq!(stage.count(Counter::LookupHit), 1);
}

/// What is there and may not be served can be newer than what a read on its way will say: whoever
/// finds it so must not join that read, for somebody may have seen what is there.
#[test]
fn a19_no_older_read_is_joined_when_the_lease_is_over() {
    let mut stage = Stage::with(&format!("server.workers=2 {SHORT}"));
    let mut link = taken(&mut stage);
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    link.round();
    stage.hands.advance(X / 2);
    one.send("GET k");
    data_one.expect_read("k");
    // MGET joins no read of a single key; its value is the one that GET would be told.
    two.send("MGET k");
    data_two.answer("MGET v1:k", &format!("*1\r\n{NEW}"));
    data_two.answer("PTTL v1:k", ":-1\r\n");
    two.reads(&format!("*1\r\n{NEW}"));
    stage.counted(Counter::StoreStored, 1);
    stage.hands.advance(X / 2 + Duration::from_nanos(1));
    two.send("GET k");
    data_two.answer("GET v1:k", NEW);
    data_two.answer("PTTL v1:k", ":-1\r\n");
    two.reads(NEW);
    assert_eq!(stage.count(Counter::BypassLease), 1);
    data_one.reply_kept(OLD);
    one.reads(OLD);
}

/// A process that was stopped must not trust answers to what it asked before.
#[test]
fn a20_after_a_pause_only_rounds_sent_after_it_extend_the_lease() {
    let mut stage = Stage::with(SHORT);
    let mut link = taken(&mut stage);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    let start = stage.now();
    link.round();
    stage.hands.advance(Duration::from_secs(3));
    client.fetches(&mut data, "GET k", OLD);
    // Two answers that prove nothing later than the pause's beginning, ...
    for _ in 0..2 {
        link.confirm();
        link.round();
        assert_eq!(stage.app.shared().cache.tracking().synced_at(), start);
        client.fetches(&mut data, "GET k", OLD);
    }
    // ... and one that does.
    stage.counted(Counter::StoreStored, 4);
    link.confirm();
    link.round();
    assert_eq!(stage.app.shared().cache.tracking().synced_at(), stage.now());
    stage.hit(&mut client, "GET k", OLD);
}

/// Pushes of a link that is dead come late: they must harm nothing and revive nothing.
#[test]
fn a22_late_pushes_of_a_dead_link_are_harmless() {
    let mut stage = Stage::with(SHORT);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    let mut old = taken(&mut stage);
    old.round();
    let replica = ["+PONG\r\n", REPLICA].concat();
    old.write(&[replica.as_bytes(), &invalidation(&[b"v1:k"])].concat());
    old.is_closed();
    data.is_closed();
    stage.track();
    let mut data = stage.data();
    stage.fill(&mut client, &mut data, "GET k", NEW);
    stage.hit(&mut client, "GET k", NEW);
    assert_eq!(stage.count(Counter::InvalidationsTracking), 0);
}

/// Before `CLIENT TRACKING ON` is acknowledged, a change may go untold.
#[test]
fn a23_nothing_is_stored_before_tracking_is_acknowledged() {
    let mut stage = Stage::silent("", "");
    let mut link = stage.tracking_link();
    link.expect("CLIENT TRACKING ON BCAST PREFIX v1:");
    let (mut client, mut data) = stage.pair();
    passes(&mut client, &mut data, OLD);
    // Asked before, answered after: no fill either.
    client.send("GET k");
    data.expect("GET v1:k");
    link.reply("+OK\r\n");
    link.shake_hands();
    link.sync();
    stage.eventually("tracking is up", |stage| stage.app.shared().cache.tracking().is_up());
    data.reply(OLD);
    client.reads(OLD);
    client.fetches(&mut data, "GET k", NEW);
}

/// A push may share its packet with the end of the handshake, and end in the next one.
#[test]
fn a_push_behind_the_handshake_is_read_as_one() {
    let mut stage = Stage::silent("", "");
    let mut link = stage.tracking_link();
    link.shake_hands_and(7, ">2\r\n$10\r\ninvali");
    link.reply("date\r\n_\r\n");
    link.sync();
    stage.eventually("tracking is up", |stage| stage.app.shared().cache.tracking().is_up());
    assert_eq!(stage.count(Counter::FlushesFlushall), 1);
}

/// Until the first barrier is confirmed there is no lease, and who can be told of changes is not
/// known: nothing is stored, so nothing is served.
#[test]
fn a23_nothing_is_stored_before_the_first_barrier() {
    let mut stage = Stage::silent("", "");
    let mut link = stage.tracking_link();
    link.shake_hands();
    stage.eventually("tracking is on", |stage| stage.app.shared().live.is_tracking_on());
    let (mut client, mut data) = stage.pair();
    passes(&mut client, &mut data, OLD);
    passes(&mut client, &mut data, OLD);
    assert_eq!(stage.count(Counter::BypassTrackingDown), 2);
    link.sync();
    stage.eventually("tracking is up", |stage| stage.app.shared().cache.tracking().is_up());
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
}

/// A server without tracking: nothing may be cached but what needs no tracking by its rule.
#[test]
fn a24_refused_tracking_leaves_only_ttl_rules() {
    for refusal in [
        "-ERR unknown subcommand 'TRACKING'. Try CLIENT HELP.\r\n",
        "-NOPERM this user has no permissions to run the 'client|tracking' command\r\n",
    ] {
        let mut stage =
            Stage::silent("", "[[rules]]\nmatch = \"t:*\"\nlevel = \"ttl\"\nttl = \"1m\"\n");
        let mut link = stage.tracking_link();
        link.expect("CLIENT TRACKING ON BCAST PREFIX v1:");
        link.reply(refusal);
        // Whatever else the handshake said is read, and then the link is at its end.
        while !link.is_over() {}
        let (mut client, mut data) = stage.pair();
        passes(&mut client, &mut data, OLD);
        passes(&mut client, &mut data, OLD);
        stage.fill(&mut client, &mut data, "GET t:k", OLD);
        stage.hit(&mut client, "GET t:k", OLD);
        assert!(!stage.app.shared().cache.tracking().is_up());
    }
}

/// The answer to a PING may overtake the push of a write that was acknowledged before it.
#[test]
fn a25_one_answer_is_no_barrier() {
    let mut stage = Stage::with(SHORT);
    let mut link = taken(&mut stage);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    let start = stage.now();
    let synced = |stage: &Stage| stage.app.shared().cache.tracking().synced_at();
    link.round();
    stage.hands.advance(X);
    let acknowledged = stage.now();
    // A direct SET is acknowledged here. This round was sent before it, the next one after it.
    link.confirm();
    link.round();
    stage.hands.advance(Duration::from_millis(1));
    link.confirm();
    link.round();
    // Its answer came before the push: the lease must not cover the acknowledgement yet.
    assert_eq!(synced(&stage), start);
    client.fetches(&mut data, "GET k", OLD);
    stage.counted(Counter::StoreStored, 2);
    link.write(&invalidation(&[b"v1:k"]));
    link.confirm();
    link.round();
    assert_eq!(synced(&stage), acknowledged);
    client.fetches(&mut data, "GET k", NEW);
}

/// A server that is busy with a script answers -BUSY: no proof, and no reason to lose the cache.
#[test]
fn a26_busy_rounds_do_not_count_and_do_not_end_the_link() {
    let mut stage = Stage::with(SHORT);
    let mut link = taken(&mut stage);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    for _ in 0..4 {
        link.round();
        link.reply("-BUSY Redis is busy running a script.\r\n");
        link.reply("-BUSY Redis is busy running a script.\r\n");
        stage.hands.advance(X / 2);
    }
    client.fetches(&mut data, "GET k", OLD);
    assert_eq!(stage.count(Counter::BypassLease), 1);
    stage.counted(Counter::StoreStored, 2);
    // One that counts, and whatever was sent before the clock moved; then all is well again.
    let now = stage.now();
    while stage.app.shared().cache.tracking().synced_at() < now {
        link.round();
        link.confirm();
    }
    stage.hit(&mut client, "GET k", OLD);
    assert_eq!(stage.count(Counter::InvalidationsReconnect), 0);
}

/// A primary that became a replica keeps its connections and answers every PING.
#[test]
fn a27_a_changed_role_ends_the_link() {
    let mut stage = Stage::with(SHORT);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
    let mut link = taken(&mut stage);
    link.round();
    link.reply("+PONG\r\n");
    link.reply(REPLICA);
    link.is_closed();
    stage.counted(Counter::InvalidationsReconnect, 1);
    // Its address may lead elsewhere by now.
    data.is_closed();
    let mut data = stage.data();
    passes(&mut client, &mut data, NEW);
}

/// Whoever asks the tracking link for its role is told that it is a replica's.
fn says_replica(link: &mut Link) {
    loop {
        match link.next().as_slice() {
            b"PING" => link.reply("+PONG\r\n"),
            b"ROLE" => break link.reply(REPLICA),
            _ => link.reply("%0\r\n"),
        }
    }
}

/// Between two primaries there may be none: data links have found the old one again, and are opened
/// anew when the tracking link has found the next.
#[test]
fn the_next_primary_has_all_links_opened_anew() {
    let mut stage = Stage::with(SHORT);
    let (mut client, mut data) = stage.pair();
    let mut link = taken(&mut stage);
    says_replica(&mut link);
    link.is_closed();
    data.is_closed();
    let mut data = stage.data();
    for _ in 0..2 {
        let mut link = stage.tracking_link();
        link.shake_hands();
        says_replica(&mut link);
        while !link.is_over() {}
    }
    let mut link = stage.tracking_link();
    link.shake_hands();
    link.sync();
    link.is_closed();
    data.is_closed();
    stage.track();
    let mut data = stage.data();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
}

/// A write that is refused tells it, too. What was a replica from the start is left alone.
#[test]
fn a_primary_that_takes_no_writes_is_left() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let refused = "-READONLY You can't write against a read only replica.\r\n";
    client.send("SET k 1");
    data.answer("SET v1:k 1", refused);
    client.reads(refused);
    data.is_closed();
    taken(&mut stage).is_closed();
    stage.track();
    let mut data = stage.data();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
}

/// Anything on the tracking link that cannot be explained ends what it guarded.
#[test]
fn a_doubtful_tracking_link_is_lost() {
    for doubt in [
        ":1\r\n",                                 // nobody asked
        "hello\r\n",                              // not RESP
        ">1\r\n$21\r\ntracking-redir-broken\r\n", // nobody redirects
    ] {
        let mut stage = Stage::new();
        let (mut client, mut data) = stage.pair();
        stage.fill(&mut client, &mut data, "GET k", OLD);
        let mut link = taken(&mut stage);
        link.reply(doubt);
        link.is_closed();
        stage.counted(Counter::InvalidationsReconnect, 1);
        passes(&mut client, &mut data, NEW);
    }
}

/// Tracking that ended on the server's side (a restored connection, an operator) is silent.
#[test]
fn a52_tracking_that_is_off_on_the_server_is_noticed() {
    let mut stage = Stage::silent("", "");
    let mut link = stage.tracking_link();
    link.shake_hands();
    loop {
        match link.next().as_slice() {
            b"CLIENT TRACKINGINFO" => break,
            b"PING" => link.reply("+PONG\r\n"),
            b"ROLE" => link.reply(MASTER),
            _ => link.reply("%0\r\n"),
        }
    }
    link.reply("%1\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n");
    while !link.is_over() {}
    assert!(!stage.app.shared().cache.tracking().is_up());
}

/// A failover may lose the newest writes: what the old primary had said is nobody's value now.
#[test]
fn a41_what_only_a_lost_primary_had_is_not_served() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", NEW);
    stage.hit(&mut client, "GET k", NEW);
    drop(taken(&mut stage));
    drop(data);
    stage.counted(Counter::InvalidationsReconnect, 1);
    stage.track();
    client.send("GET k");
    let mut successor = stage.data();
    successor.expect_read("k");
    successor.reply_kept(OLD);
    client.reads(OLD);
    stage.counted(Counter::StoreStored, 2);
    stage.hit(&mut client, "GET k", OLD);
}

/// A reader that falls behind must not serve what is named in what it has not read yet.
#[test]
fn a55_a_link_that_is_read_late_serves_nothing_meanwhile_and_recovers() {
    let mut stage = Stage::with(SHORT);
    let mut link = taken(&mut stage);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    link.round();
    stage.hands.advance(Duration::from_secs(5));
    let names: Vec<String> = (0..1000).map(|name| format!("v1:{name}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let queued = invalidation(&names).repeat(100);
    for _ in 0..10 {
        link.write(&queued);
        client.fetches(&mut data, "GET k", OLD);
    }
    assert_eq!(stage.count(Counter::BypassLease), 10);
    stage.counted(Counter::StoreStored, 11);
    link.write(&invalidation(&[b"v1:k"]));
    let now = stage.now();
    while stage.app.shared().cache.tracking().synced_at() < now {
        link.confirm();
        link.round();
    }
    client.fetches(&mut data, "GET k", NEW);
    stage.counted(Counter::StoreStored, 12);
    stage.hit(&mut client, "GET k", NEW);
}
