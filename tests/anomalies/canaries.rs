//! The written canary: a server that answers all it is asked and sends no invalidations.

use crate::stage::{Client, Link, MASTER, Stage, invalidation};
use nearside::stats::Counter;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";
const KEY: &[u8] = b"v1:nearside:canary";

/// One every 40 ms, a round every 10 ms.
const ON: &str = "invalidation.written_canary=true cache.max_staleness=40ms";

/// The tracking link behind its first barrier, and the link of the canary.
fn links(stage: &mut Stage) -> (Link, Link) {
    let mut link = stage.tracking_link();
    link.shake_hands();
    let canary = stage.data();
    link.sync();
    (link, canary)
}

/// The canary's SET.
fn set(canary: &mut Link) {
    let asked = canary.next().escape_ascii().to_string();
    let is_set =
        asked.starts_with("SET v1:nearside:canary nearside:") && asked.ends_with(" PX 160");
    assert!(is_set, "{asked}");
}

fn is_up(stage: &Stage) -> bool {
    stage.app.shared().cache.tracking().is_up()
}

/// A read that must go upstream and must not be stored.
fn passes(client: &mut Client, data: &mut Link, reply: &str) {
    client.send("GET k");
    data.answer("GET v1:k", reply);
    client.reads(reply);
    Stage::quiet(client, data);
}

/// Answers every round, until the proxy gives the link up.
fn confirms_to_the_end(link: &mut Link) {
    while let Some(asked) = link.next_or_end() {
        match asked.as_slice() {
            b"PING" => link.reply("+PONG\r\n"),
            b"ROLE" => link.reply(MASTER),
            other => panic!("asked for {}", other.escape_ascii()),
        }
    }
}

fn trouble(stage: &Stage) -> String {
    stage.app.shared().live.canary_trouble().unwrap_or_default()
}

/// F32: rounds are answered, and a change would go untold.
#[test]
fn a_link_that_hears_no_canary_guards_nothing_until_it_does() {
    let mut stage = Stage::silent(ON, "");
    let (mut link, mut canary) = links(&mut stage);
    set(&mut canary);
    canary.reply("+OK\r\n");
    let (mut client, mut data) = stage.pair();
    // A barrier is not enough, and neither is the push of another key.
    link.write(&invalidation(&[b"v1:nearside:canary2", b"v1:x"]));
    stage.counted(Counter::InvalidationsTracking, 1);
    assert!(!is_up(&stage));
    passes(&mut client, &mut data, OLD);
    passes(&mut client, &mut data, OLD);
    assert_eq!(stage.count(Counter::BypassTrackingDown), 2);

    link.write(&invalidation(&[KEY]));
    stage.eventually("the canary is heard", is_up);
    assert_eq!(stage.count(Counter::CanaryHeard), 1);
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);

    // From here on it is deaf, and answers all the same.
    confirms_to_the_end(&mut link);
    stage.counted(Counter::InvalidationsReconnect, 1);
    assert!(stage.count(Counter::CanaryMissed) >= 2);
    passes(&mut client, &mut data, NEW);
    let told = trouble(&stage);
    assert!(told.contains("read `~v1:*`"), "{told}");

    // The next link guards nothing before it has heard one either.
    let (mut link, mut canary) = links(&mut stage);
    set(&mut canary);
    assert!(!is_up(&stage));
    passes(&mut client, &mut data, NEW);
    link.write(&invalidation(&[KEY]));
    stage.eventually("the canary is heard", is_up);
    stage.eventually("nothing is wrong", |stage| trouble(stage).is_empty());
    stage.fill(&mut client, &mut data, "GET k", NEW);
    stage.hit(&mut client, "GET k", NEW);
}

/// A server that is busy or stopped answers no rounds: hits end with their lease, and the cache is
/// not lost over canaries that cannot be heard either.
#[test]
fn canaries_that_no_barrier_follows_are_not_missed() {
    let mut stage = Stage::silent(ON, "");
    let (mut link, mut canary) = links(&mut stage);
    set(&mut canary);
    canary.reply("+OK\r\n");
    link.write(&invalidation(&[KEY]));
    stage.eventually("the canary is heard", is_up);
    link.round();
    for _ in 0..5 {
        set(&mut canary);
        canary.reply("+OK\r\n");
    }
    // The one behind which the last barrier passed, if this test was slower than its push.
    assert!(stage.count(Counter::CanaryMissed) <= 1);
    assert!(is_up(&stage));
    assert_eq!(stage.count(Counter::InvalidationsReconnect), 0);
}

/// The operator wants the proof: where it cannot be had nothing is served, and it is said why.
#[test]
fn a_canary_that_may_not_be_written_is_not_heard() {
    let mut stage = Stage::silent(ON, "");
    let (mut link, mut canary) = links(&mut stage);
    set(&mut canary);
    canary.reply("-NOPERM this user has no permissions to run the 'set' command\r\n");
    stage.eventually("it is told", |stage| trouble(stage).contains("SET with \"NOPERM this user"));
    confirms_to_the_end(&mut link);
    assert!(!is_up(&stage));
    // The next one may be.
    let (mut link, mut canary) = links(&mut stage);
    set(&mut canary);
    canary.reply("+OK\r\n");
    link.write(&invalidation(&[KEY]));
    stage.eventually("the canary is heard", is_up);
    stage.eventually("nothing is wrong", |stage| trouble(stage).is_empty());
}
