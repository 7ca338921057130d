//! What is served past its time, and what never is: `stale_if_error`, `grace`, `refresh_ahead`, and
//! soft invalidations.

use crate::stage::{Client, Link, OLD, Stage};
use nearside::cache::{Source, Strength};
use nearside::stats::Counter;
use std::time::Duration;

const NEW: &str = "$3\r\nnew\r\n";

/// Lives for a minute, and for half a minute more while upstream is down.
const DOWN: &str = "cache.ttl=60s cache.stale_if_error=30s";
const TTL: Duration = Duration::from_mins(1);
/// All of it but its last moment.
const NEARLY: Duration = Duration::from_nanos(59_999_999_999);
const SPAN: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_nanos(1);

/// How long a request waits for a link, and a little more: then it is lost.
const WAITED: Duration = Duration::from_secs(1);

/// A read that must be answered past its time, and that PROXY LAST tells of.
#[track_caller]
fn stale(stage: &Stage, client: &mut Client, command: &str, reply: &str, reason: Counter) {
    let (served, looked) = (stage.count(reason), stage.count(Counter::LookupStale));
    client.asks(command, reply);
    stage.counted(reason, served + 1);
    stage.counted(Counter::LookupStale, looked + 1);
    assert_eq!(client.last(), past_its_time(reason.row().labels[0].1));
}

/// What PROXY LAST tells of a read that was served past its time.
fn past_its_time(reason: &str) -> (String, Option<String>) {
    ("stale".to_owned(), Some(reason.to_owned()))
}

/// A read that fails, because upstream is down and nothing may be served.
#[track_caller]
fn fails(stage: &Stage, client: &mut Client, command: &str) {
    let served = stage.count(Counter::StaleUpstreamDown);
    let asked = stage.count(Counter::BypassTrackingDown);
    client.send(command);
    stage.counted(Counter::BypassTrackingDown, asked + 1);
    stage.hands.advance(WAITED);
    client.reads("-ERR proxy: not executed: upstream is down\r\n");
    assert_eq!(stage.count(Counter::StaleUpstreamDown), served);
}

/// The whole of an outage: served, for no longer than was said, and gone when upstream is back.
#[test]
fn a58_an_outage_is_bridged_for_so_long_and_no_longer() {
    let (mut stage, mut client, mut data) = Stage::holding(DOWN);
    stage.fill(&mut client, &mut data, "GET other", OLD);
    stage.hit(&mut client, "GET k", OLD);
    stage.lose_upstream(data);
    stale(&stage, &mut client, "GET k", OLD, Counter::StaleUpstreamDown);
    // Its life counts, which ends long before the lease does.
    stage.hands.advance(SPAN + NEARLY);
    stale(&stage, &mut client, "GET k", OLD, Counter::StaleUpstreamDown);
    stage.hands.advance(MOMENT);
    fails(&stage, &mut client, "GET k");
}

/// After recovery nothing that is older than it is served, whatever becomes of upstream then.
#[test]
fn a58_what_an_outage_has_bridged_ends_with_it() {
    let mut stage = Stage::with(DOWN);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET a", OLD);
    stage.fill(&mut client, &mut data, "GET b", OLD);
    stage.lose_upstream(data);
    stale(&stage, &mut client, "GET a", OLD, Counter::StaleUpstreamDown);
    stage.relent();
    stage.track();
    let mut data = stage.data();
    stage.eventually("the link is up", |stage| stage.app.shared().live.links_up() == 1);
    stage.fill(&mut client, &mut data, "GET a", NEW);
    stage.hit(&mut client, "GET a", NEW);
    stage.lose_upstream(data);
    stale(&stage, &mut client, "GET a", NEW, Counter::StaleUpstreamDown);
    fails(&stage, &mut client, "GET b");
}

/// The data link may be back before the tracking link: what a client has been shown then is newer.
#[test]
fn a58_what_was_seen_since_is_not_forgotten() {
    let (mut stage, mut client, data) = Stage::holding(DOWN);
    stage.lose_upstream(data);
    stale(&stage, &mut client, "GET k", OLD, Counter::StaleUpstreamDown);
    stage.relent();
    let mut data = stage.data();
    stage.eventually("the link is up", |stage| stage.app.shared().live.links_up() == 1);
    client.send("GET k");
    data.answer("GET v1:k", NEW);
    client.reads(NEW);
    stage.lose_upstream(data);
    fails(&stage, &mut client, "GET k");
}

/// What is known to be wrong is not served, however long the outage.
#[test]
fn an_outage_does_not_bring_back_what_was_invalidated() {
    let mut stage = Stage::with(DOWN);
    let (mut client, mut data) = stage.pair();
    for key in ["pushed", "written", "told", "softly"] {
        stage.fill(&mut client, &mut data, &format!("GET {key}"), OLD);
    }
    stage.push(&[b"v1:pushed"]);
    client.send("SET written x");
    data.answer("SET v1:written x", "+OK\r\n");
    client.reads("+OK\r\n");
    let invalidate = |key: &[u8], strength| {
        stage.cache().invalidate_by(Source::Admin, stage.cache().hash(key), strength)
    };
    assert!(invalidate(b"told", Strength::Hard));
    assert!(invalidate(b"softly", Strength::Soft(stage.now())));
    stage.lose_upstream(data);
    for key in ["pushed", "written", "told"] {
        fails(&stage, &mut client, &format!("GET {key}"));
    }
    stale(&stage, &mut client, "GET softly", OLD, Counter::StaleUpstreamDown);
}

/// A write that may have been executed is as good as one that was.
#[test]
fn a_write_of_unknown_outcome_is_no_excuse() {
    let (mut stage, mut client, mut data) = Stage::holding(DOWN);
    client.send_all(&["SET k x", "GET k"]);
    data.expect("SET v1:k x");
    stage.lose_upstream(data);
    let unknown = "-ERR proxy: outcome unknown: the upstream link broke\r\n";
    client.reads(unknown);
    client.reads(unknown);
    fails(&stage, &mut client, "GET k");
}

/// A miss that fails is answered with what is left, and so are all who wait for it.
#[test]
fn a_miss_that_fails_is_served_what_is_kept() {
    let mut stage = Stage::with(DOWN);
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    stage.fill(&mut one, &mut data, "GET k", OLD);
    stage.hands.advance(TTL);
    one.send("GET k");
    data.expect_read("k");
    two.send("GET k");
    stage.counted(Counter::LookupCoalesced, 1);
    drop(data);
    one.reads(OLD);
    two.reads(OLD);
    stage.counted(Counter::StaleUpstreamDown, 2);
    assert_eq!(stage.count(Counter::LookupStale), 0, "they were counted as what they were");
    for client in [&mut one, &mut two] {
        assert_eq!(client.last(), past_its_time("upstream_down"));
    }
    // Upstream is there: the next one asks it.
    let mut data = stage.data();
    stage.fill(&mut one, &mut data, "GET k", NEW);
    stage.hit(&mut two, "GET k", NEW);
}

/// The same for clients of another worker, who read nothing themselves.
#[test]
fn a_miss_that_fails_is_served_to_other_workers() {
    let mut stage = Stage::with(&format!("{DOWN} server.workers=2"));
    let (mut one, mut data) = stage.pair();
    let (mut two, _data) = stage.pair();
    stage.fill(&mut one, &mut data, "GET k", OLD);
    stage.hands.advance(TTL);
    one.send("GET k");
    data.expect_read("k");
    two.send("GET k");
    stage.counted(Counter::LookupCoalesced, 1);
    drop(data);
    one.reads(OLD);
    two.reads(OLD);
    stage.counted(Counter::StaleUpstreamDown, 2);
    for client in [&mut one, &mut two] {
        assert_eq!(client.last(), past_its_time("upstream_down"));
    }
}

/// A server that takes a request and never answers is not there either.
#[test]
fn a_miss_that_times_out_is_served_what_is_kept() {
    let mut stage = Stage::with(&format!("{DOWN} upstream.request_timeout=10s"));
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hands.advance(TTL);
    client.send("GET k");
    data.expect("GET v1:k");
    stage.hands.advance(Duration::from_secs(11));
    client.reads(OLD);
    stage.counted(Counter::StaleUpstreamDown, 1);
    stage.counted(Counter::UpstreamTimeout, 1);
}

/// Each key of an MGET by itself, before it is asked and when it has failed; but all or none.
#[test]
fn mget_is_served_key_by_key() {
    let mut stage = Stage::with(DOWN);
    let (mut client, mut data) = stage.pair();
    let [a, b, c] = stage.apart();
    stage.fill(&mut client, &mut data, &format!("GET {a}"), OLD);
    client.fetches(&mut data, &format!("GET {b}"), "$-1\r\n");
    stage.hands.advance(Duration::from_secs(5));
    let (both, reply) = (format!("MGET {a} {b}"), "*2\r\n$3\r\nold\r\n$-1\r\n");
    client.send(&both);
    data.expect(&format!("MGET v1:{b}"));
    data.expect(&format!("PTTL v1:{b}"));
    stage.lose_upstream(data);
    client.reads(reply);
    stage.counted(Counter::StaleUpstreamDown, 1);
    client.asks(&both, reply);
    stage.counted(Counter::StaleUpstreamDown, 3);
    assert_eq!(client.last(), past_its_time("upstream_down"));
    client.send(&format!("MGET {a} {c}"));
    stage.eventually("it is asked", |stage| stage.count(Counter::BypassTrackingDown) > 0);
    stage.hands.advance(WAITED);
    client.reads("-ERR proxy: not executed: upstream is down\r\n");
}

/// A rule that says nothing of it serves nothing, nor does the mode that serves nothing.
#[test]
fn nothing_is_served_where_nobody_has_asked_for_it() {
    let mut stage = Stage::with("cache.ttl=60s");
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.lose_upstream(data);
    fails(&stage, &mut client, "GET k");
}

/// A lease that is over while the data link lives is upstream's to answer.
#[test]
fn an_upstream_that_answers_is_asked() {
    let (mut stage, mut client, mut data) = Stage::holding(DOWN);
    drop(stage.tracking.take());
    stage.counted(Counter::InvalidationsReconnect, 1);
    client.send("GET k");
    data.answer("GET v1:k", NEW);
    client.reads(NEW);
    assert_eq!(stage.count(Counter::StaleUpstreamDown), 0);
}

const GRACE: &str = "cache.ttl=60s cache.grace=10s";

/// Past its life it is served at once, while one read fetches what is new.
#[test]
fn in_grace_one_read_refreshes_and_nobody_waits() {
    let mut stage = Stage::with(GRACE);
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    stage.fill(&mut one, &mut data, "GET k", OLD);
    stage.hands.advance(TTL);
    stale(&stage, &mut one, "GET k", OLD, Counter::StaleRefreshing);
    data.expect_read("k");
    stale(&stage, &mut two, "GET k", OLD, Counter::StaleRefreshing);
    data.reply_kept(NEW);
    stage.counted(Counter::StoreStored, 2);
    stage.counted(Counter::RefreshStaleOk, 1);
    stage.hit(&mut one, "GET k", NEW);
    assert_eq!(stage.count(Counter::LookupMiss), 1, "the first of all");
}

/// One read, though clients of two workers ask.
#[test]
fn in_grace_workers_do_not_refresh_what_another_does() {
    let mut stage = Stage::with(&format!("{GRACE} server.workers=2"));
    let (mut one, mut data_one) = stage.pair();
    let (mut two, mut data_two) = stage.pair();
    stage.fill(&mut one, &mut data_one, "GET k", OLD);
    stage.hands.advance(TTL);
    stale(&stage, &mut one, "GET k", OLD, Counter::StaleRefreshing);
    data_one.expect_read("k");
    stale(&stage, &mut two, "GET k", OLD, Counter::StaleRefreshing);
    Stage::quiet(&mut two, &mut data_two);
    data_one.reply_kept(NEW);
    stage.counted(Counter::StoreStored, 2);
    stage.hit(&mut two, "GET k", NEW);
}

/// Past its grace it is a miss as any other.
#[test]
fn a_grace_ends() {
    let (stage, mut client, mut data) = Stage::holding(GRACE);
    stage.hands.advance(TTL + Duration::from_secs(10));
    stage.fill(&mut client, &mut data, "GET k", NEW);
    assert_eq!(stage.count(Counter::StaleRefreshing), 0);
}

/// What upstream has ended itself is not served (G5).
#[test]
fn a_grace_ends_with_the_key() {
    let mut stage = Stage::with(GRACE);
    let (mut client, mut data) = stage.pair();
    client.send("GET k");
    data.expect_read("k");
    data.reply(OLD);
    data.reply(":60000\r\n");
    client.reads(OLD);
    stage.counted(Counter::StoreStored, 1);
    stage.hands.advance(TTL);
    client.fetches(&mut data, "GET k", "$-1\r\n");
}

/// Softly invalidated, it is no hit for anybody, and the next read has it fetched; an answer that
/// was on its way before is refused.
#[test]
fn what_is_invalidated_softly_is_refreshed_in_grace() {
    let (stage, mut client, mut data) = Stage::holding(GRACE);
    let hash = stage.cache().hash(b"k");
    assert!(stage.cache().invalidate_by(Source::Admin, hash, Strength::Soft(stage.now())));
    stale(&stage, &mut client, "GET k", OLD, Counter::StaleRefreshing);
    data.expect_read("k");
    stage.cache().invalidate_by(Source::Admin, hash, Strength::Soft(stage.now()));
    data.reply_kept(OLD);
    stage.counted(Counter::RefreshStaleDropped, 1);
    // It was shown to nobody, but it may be newer than what was kept.
    stage.fill(&mut client, &mut data, "GET k", NEW);
}

const AHEAD: &str = "cache.ttl=60s cache.refresh_ahead=0.5";

/// Reads a key until a hit has it read anew: the second one of its last moment does.
fn refreshed(stage: &Stage, client: &mut Client, data: &mut Link) {
    stage.hands.advance(NEARLY);
    stage.hit(client, "GET k", OLD);
    stage.hit(client, "GET k", OLD);
    data.expect_read("k");
}

/// A key that is asked for does not become a miss.
#[test]
fn what_ends_soon_is_read_anew() {
    let (stage, mut client, mut data) = Stage::holding(AHEAD);
    refreshed(&stage, &mut client, &mut data);
    stage.hit(&mut client, "GET k", OLD);
    data.reply_kept(OLD);
    stage.counted(Counter::RefreshAheadOk, 1);
    stage.counted(Counter::StoreStored, 2);
    // And again, by then as another value.
    refreshed(&stage, &mut client, &mut data);
    data.reply_kept(NEW);
    stage.counted(Counter::RefreshAheadOk, 2);
    stage.counted(Counter::StoreStored, 3);
    stage.hands.advance(MOMENT);
    stage.hit(&mut client, "GET k", NEW);
    assert_eq!(stage.count(Counter::LookupMiss), 1, "the first of all");
}

/// A refresh is held, the key is written over another link: what the refresh brings is refused.
#[test]
fn a49_a_refresh_does_not_undo_a_write() {
    let mut stage = Stage::with(AHEAD);
    let (mut client, mut data) = stage.pair();
    let mut writer = stage.client();
    writer.send("HELLO 3");
    writer.next();
    writer.send("INCR second");
    let mut other = stage.data();
    other.answer("INCR v1:second", ":1\r\n");
    writer.reads(":1\r\n");
    stage.fill(&mut client, &mut data, "GET k", OLD);
    refreshed(&stage, &mut client, &mut data);
    writer.send("SET k new");
    other.answer("SET v1:k new", "+OK\r\n");
    writer.reads("+OK\r\n");
    data.reply_kept(OLD);
    stage.counted(Counter::RefreshAheadDropped, 1);
    client.fetches(&mut data, "GET k", NEW);
}

/// A refresh that fails harms nobody: what is held lives as long as it would have.
#[test]
fn a_refresh_that_fails_changes_nothing() {
    let (mut stage, mut client, mut data) = Stage::holding(AHEAD);
    refreshed(&stage, &mut client, &mut data);
    drop(data);
    stage.counted(Counter::RefreshAheadError, 1);
    stage.hit(&mut client, "GET k", OLD);
    let mut data = stage.data();
    stage.hands.advance(MOMENT);
    stage.fill(&mut client, &mut data, "GET k", NEW);
}

/// While as many are on their way as may be, hits are hits and no more are begun.
#[test]
fn background_reads_are_bounded() {
    const MAX: usize = 64;
    let mut stage = Stage::with(AHEAD);
    let (mut client, mut data) = stage.pair();
    let keys: Vec<String> = (0..=MAX).map(|number| format!("GET k{number}")).collect();
    for key in &keys {
        stage.fill(&mut client, &mut data, key, OLD);
    }
    stage.hands.advance(NEARLY);
    for key in keys.iter().chain(&keys) {
        stage.hit(&mut client, key, OLD);
    }
    stage.counted(Counter::RefreshAheadDropped, 1);
    for _ in 0..2 * MAX {
        data.next();
    }
    data.reply(&format!("{OLD}:-1\r\n").repeat(MAX));
    stage.counted(Counter::RefreshAheadOk, MAX as u64);
    stage.hit(&mut client, &keys[MAX], OLD);
    data.expect(&format!("GET v1:k{MAX}"));
}
