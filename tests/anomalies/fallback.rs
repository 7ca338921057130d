//! What stands in for an upstream that is down (`[fallback]`): when it begins, what it answers, and
//! that nothing of it is left when upstream is back.

use crate::stage::{Link, OLD, Stage};
use nearside::live::Phase;
use nearside::stats::Counter;
use std::time::Duration;

const NEW: &str = "$3\r\nnew\r\n";
const NIL: &str = "$-1\r\n";
const OK: &str = "+OK\r\n";

const AFTER: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_nanos(1);
/// A moment less.
const BEFORE: Duration = Duration::from_nanos(1_999_999_999);

const REFUSED: &str = "-ERR proxy: not executed: upstream is down\r\n";
const UNKNOWN: &str = "-ERR proxy: not executed: upstream is down, and the fallback was not told of \
                       this key\r\n";

const STALE: &str = "fallback.enabled=true";
const MEMORY: &str = "fallback.enabled=true fallback.writes=memory fallback.accept_data_loss=true";

fn phase(stage: &Stage, wanted: Phase) {
    stage.eventually(&format!("{wanted:?}"), |stage| {
        stage.app.shared().live.fallback.phase() == wanted
    });
}

/// Upstream is gone, and the time runs after which something stands in for it.
fn lose_upstream(stage: &mut Stage, data: Link) {
    stage.lose_upstream(data);
    phase(stage, Phase::Waiting);
}

/// And for so long that something stands in for it.
fn fall_back(stage: &mut Stage, data: Link) {
    lose_upstream(stage, data);
    stage.hands.advance(AFTER);
    phase(stage, Phase::Active);
}

/// Upstream answers the probe.
fn come_back(stage: &mut Stage) {
    stage.relent();
    drop(stage.data());
}

/// Not before `after`, and not at all if upstream was back meanwhile.
#[test]
fn it_begins_when_upstream_was_down_for_so_long() {
    let (mut stage, _client, data) = Stage::holding("fallback.enabled=true fallback.after=2s");
    stage.refuse();
    drop((data, stage.tracking.take()));
    phase(&stage, Phase::Waiting);
    stage.hands.advance(BEFORE);
    stage.relent();
    stage.track();
    phase(&stage, Phase::Off);
    stage.refuse();
    stage.tracking = None;
    phase(&stage, Phase::Waiting);
    stage.hands.advance(BEFORE);
    phase(&stage, Phase::Waiting);
    stage.hands.advance(MOMENT);
    phase(&stage, Phase::Active);
}

/// `reads = "stale"`: what is kept is told, however its rule stands; all else is refused, and a
/// refused write makes nobody forget what is kept.
#[test]
fn what_is_kept_is_served_and_nothing_else() {
    let (mut stage, mut client, data) = Stage::holding(&format!("{STALE} fallback.max_stale=1h"));
    fall_back(&mut stage, data);
    client.asks("PING", "+PONG\r\n");
    client.asks("GET k", OLD);
    assert_eq!(client.last(), ("stale".to_owned(), Some("fallback".to_owned())));
    client.asks("GET other", UNKNOWN);
    assert_eq!(client.last(), ("fallback".to_owned(), None));
    client.asks("SET k new", REFUSED);
    assert_eq!(client.last(), ("fallback".to_owned(), None));
    client.asks("PUBLISH channel x", REFUSED);
    client.asks("GET k", OLD);
    client.asks("MGET k k", &format!("*2\r\n{OLD}{OLD}"));
    client.asks("MGET k other", UNKNOWN);
    client.asks("DBSIZE", UNKNOWN);
    stage.counted(Counter::FallbackWriteRefused, 1);
    // Its life, and `max_stale`.
    stage.hands.advance(Duration::from_nanos(3_657_999_999_999));
    client.asks("GET k", OLD);
    stage.hands.advance(MOMENT);
    client.asks("GET k", UNKNOWN);
}

/// `reads = "nil"`: the same, else what an empty Redis answers.
#[test]
fn what_is_not_kept_is_nil_by_choice() {
    let (mut stage, mut client, data) = Stage::holding(&format!("{STALE} fallback.reads=nil"));
    fall_back(&mut stage, data);
    client.asks("GET k", OLD);
    client.asks("GET other", NIL);
    client.asks("MGET k other", &format!("*2\r\n{OLD}{NIL}"));
    client.asks("HGETALL h", "*0\r\n");
    client.asks("SET other x", REFUSED);
    assert_eq!(stage.count(Counter::FallbackWriteRefused), 1);
}

/// What was asked before it began, and waited for a link, is answered as what is asked now.
#[test]
fn who_waits_when_it_begins_is_answered() {
    let (mut stage, mut client, data) = Stage::holding(STALE);
    lose_upstream(&mut stage, data);
    // Asked at a moment that does not pass before it is over.
    stage.hands.advance(BEFORE);
    phase(&stage, Phase::Waiting);
    client.send_all(&["GET k", "GET other"]);
    stage.counted(Counter::BypassTrackingDown, 2);
    stage.hands.advance(MOMENT);
    client.reads(OLD);
    client.reads(UNKNOWN);
}

/// So are clients of another worker, who wait for the same read: told what is kept, and that it is
/// past its time; or what is answered where nothing is kept.
#[test]
fn who_waits_for_another_workers_read_is_answered() {
    let settings = "cache.level=ttl cache.ttl=1s server.workers=2";
    let (mut stage, mut one, data) = Stage::holding(&format!("{STALE} {settings}"));
    let (mut two, other) = stage.pair();
    drop(other);
    lose_upstream(&mut stage, data);
    stage.hands.advance(BEFORE);
    phase(&stage, Phase::Waiting);
    one.send_all(&["GET k", "GET other"]);
    stage.counted(Counter::LookupMiss, 3);
    two.send("GET k");
    stage.counted(Counter::LookupCoalesced, 1);
    // The next client is the first worker's, the one after it the second's.
    let (_three, mut four) = (stage.client(), stage.client());
    four.send("GET other");
    stage.counted(Counter::LookupCoalesced, 2);
    stage.hands.advance(MOMENT);
    one.reads(OLD);
    one.reads(UNKNOWN);
    two.reads(OLD);
    four.reads(UNKNOWN);
    stage.counted(Counter::StaleFallback, 2);
    stage.counted(Counter::FallbackReadOk, 2);
    stage.counted(Counter::FallbackReadRefused, 2);
    assert_eq!(two.last(), ("stale".to_owned(), Some("fallback".to_owned())));
}

/// `writes = "memory"`: what was written is read, of any other key nothing is made up.
#[test]
fn what_is_written_to_memory_is_read_from_there() {
    let settings = "fallback.enabled=true fallback.writes=memory fallback.accept_data_loss=true";
    let (mut stage, mut client, data) = Stage::holding(settings);
    fall_back(&mut stage, data);
    let mut other = stage.client();
    client.asks("GET k", OLD);
    client.asks("SET k new", OK);
    other.asks("GET k", NEW);
    assert_eq!(other.last(), ("fallback".to_owned(), None));
    client.asks("APPEND k er", ":5\r\n");
    client.asks("INCR counter", UNKNOWN);
    client.asks("SET counter 7 NX", UNKNOWN);
    client.asks("SET counter 7", OK);
    client.asks("INCR counter", ":8\r\n");
    client.asks("DEL counter never", ":1\r\n");
    client.asks("GET counter", NIL);
    client.asks("GET never", NIL);
    client.asks(
        "FLUSHALL",
        "-ERR proxy: not executed: upstream is down, and the fallback flushes \
                             nothing\r\n",
    );
    client.asks("MULTI", OK);
    client.asks("SET s v", "+QUEUED\r\n");
    client.asks("EXPIRE s 60", "+QUEUED\r\n");
    client.asks("EXEC", "*2\r\n+OK\r\n:1\r\n");
    client.asks("MULTI", OK);
    client.asks("SET s w", "+QUEUED\r\n");
    client.asks("INCR unheard", UNKNOWN);
    client.asks("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.asks("GET s", "$1\r\nv\r\n");
}

/// `on_recovery = "drop"`: nothing that was written is there, nor anything that was served.
#[test]
fn nothing_of_it_is_served_afterwards() {
    let (mut stage, mut client, data) = Stage::holding(&format!("{MEMORY} cache.level=ttl"));
    fall_back(&mut stage, data);
    client.asks("GET k", OLD);
    client.asks("SET w x", OK);
    client.asks("GET w", "$1\r\nx\r\n");
    come_back(&mut stage);
    phase(&stage, Phase::Off);
    assert_eq!(stage.count(Counter::FallbackDropped), 1);
    client.send_all(&["GET k", "GET w"]);
    let mut data = stage.data();
    data.expect_read("k");
    data.expect_read("w");
    for _ in 0..2 {
        data.reply_kept(NEW);
        client.reads(NEW);
    }
    stage.counted(Counter::StoreStored, 3);
    stage.hit(&mut client, "GET k", NEW);
}

/// `on_recovery = "replay"`: what was written is upstream before anything else is asked there.
#[test]
fn what_was_written_is_replayed_first() {
    let (mut stage, mut client, data) =
        Stage::holding(&format!("{MEMORY} fallback.on_recovery=replay"));
    fall_back(&mut stage, data);
    client.asks("SET a 1", OK);
    client.asks("DEL gone", ":0\r\n");
    client.asks("SET a 2", OK);
    come_back(&mut stage);
    phase(&stage, Phase::Recovering);
    // Nobody is asked any more but upstream, by the replay: what clients ask waits.
    let mut replay = stage.data();
    client.send_all(&["ECHO begin", "INCR n", "GET a", "ECHO end"]);
    client.reads("$5\r\nbegin\r\n");
    for request in ["MULTI", "SET v1:a 2", "EXEC", "MULTI", "DEL v1:gone", "EXEC"] {
        replay.expect(request);
    }
    stage.tries_nothing_more();
    replay.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    replay.reply("+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    phase(&stage, Phase::Off);
    assert_eq!(stage.count(Counter::FallbackReplayed), 2);
    let mut data = stage.data();
    data.answer("INCR v1:n", ":8\r\n");
    data.answer("GET v1:a", "$1\r\n2\r\n");
    for reply in [":8\r\n", "$1\r\n2\r\n", "$3\r\nend\r\n"] {
        client.reads(reply);
    }
}

/// What upstream refuses is lost, and counted; what cannot be sent is not: it is tried again.
#[test]
fn a_replay_that_breaks_is_begun_anew() {
    let (mut stage, mut client, data) =
        Stage::holding(&format!("{MEMORY} fallback.on_recovery=replay"));
    fall_back(&mut stage, data);
    client.asks("SET a 1", OK);
    client.asks("SET b 1", OK);
    come_back(&mut stage);
    let mut replay = stage.data();
    replay.expect("MULTI");
    drop(replay);
    phase(&stage, Phase::Active);
    client.asks("GET a", "$1\r\n1\r\n");
    client.asks("SET b 2", OK);
    drop(stage.data());
    let mut replay = stage.data();
    for request in ["MULTI", "SET v1:a 1", "EXEC", "MULTI", "SET v1:b 2", "EXEC"] {
        replay.expect(request);
    }
    replay.reply("+OK\r\n-OOM command not allowed\r\n-EXECABORT discarded\r\n");
    replay.reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    phase(&stage, Phase::Off);
    assert_eq!(stage.count(Counter::FallbackLost), 1);
    assert_eq!(stage.count(Counter::FallbackReplayed), 1);
}

/// Who waits in a command is cut short, and who has begun a transaction loses its connection, as
/// with a server that dies: what either waits for would come from upstream.
#[test]
fn who_holds_something_when_it_ends_is_let_go() {
    let (mut stage, _client, data) = Stage::holding(&format!("{MEMORY} fallback.reads=nil"));
    fall_back(&mut stage, data);
    let (mut waiting, mut begun) = (stage.client(), stage.client());
    waiting.send("BLPOP list 0");
    stage.eventually("it waits", |stage| stage.app.shared().registry.blocked() == 1);
    begun.asks("MULTI", OK);
    begun.asks("SET k x", "+QUEUED\r\n");
    come_back(&mut stage);
    phase(&stage, Phase::Off);
    waiting.reads("-ERR proxy: outcome unknown: the upstream link broke\r\n");
    begun.is_closed();
    assert_eq!(stage.count(Counter::FallbackDropped), 0, "nothing was executed");
}

/// Upstream was never there.
#[test]
fn a_start_without_upstream() {
    let mut stage = Stage::silent(&format!("{MEMORY} fallback.reads=nil"), "");
    stage.refuse();
    phase(&stage, Phase::Waiting);
    stage.hands.advance(AFTER);
    phase(&stage, Phase::Active);
    let mut client = stage.client();
    client.asks("SET a 1", OK);
    client.asks("INCR a", ":2\r\n");
    client.asks("GET b", NIL);
    come_back(&mut stage);
    phase(&stage, Phase::Off);
    stage.track();
    client.send("INCR a");
    stage.data().answer("INCR v1:a", ":1\r\n");
    client.reads(":1\r\n");
}

/// Switched off, it ends at once, and what was in memory is told as dropped.
#[test]
fn it_can_be_switched_off_meanwhile() {
    let (mut stage, mut client, data) = Stage::holding(MEMORY);
    fall_back(&mut stage, data);
    client.asks("SET a 1", OK);
    client.asks("SET big xxxxxxxx", OK);
    stage.eventually("it is told", |stage| stage.app.shared().live.fallback.written().0 == 2);
    let mut next =
        nearside::config::Settings::clone(&stage.app.shared().snapshots.newest().settings);
    next.fallback.enabled = false;
    let shared = stage.app.shared();
    shared.snapshots.publish(nearside::snapshot::Snapshot::of(&next));
    shared.bells.ring();
    phase(&stage, Phase::Off);
    assert_eq!(stage.count(Counter::FallbackDropped), 2);
    let asked = stage.count(Counter::BypassTrackingDown);
    client.send("GET a");
    stage.counted(Counter::BypassTrackingDown, asked + 1);
    stage.hands.advance(Duration::from_secs(1));
    client.reads(REFUSED);
}
