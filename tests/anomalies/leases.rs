//! Fill leases: a value that was computed of what is no more is never stored, and what is told of a
//! key is never followed by anything older.

use crate::stage::{Client, Link, Stage};
use nearside::stats::Counter;

const RULES: &str = "[[rules]]\nmatch = 'k'\nfill_lease = '10s'\n";
const LOCK: &str = "v1:nearside:lease-of:{v1:k}";
const NIL: &str = "$-1\r\n";
const HELD: &str = "*3\r\n$-1\r\n$-1\r\n$4\r\nheld\r\n";
const FRESH: &str = "*3\r\n$3\r\nnew\r\n$-1\r\n$5\r\nfresh\r\n";

/// Asks for a key of which upstream has nothing.
fn ask(client: &mut Client, data: &mut Link, wait: u32) {
    client.send(&format!("PROXY LEASE GET k {wait}"));
    data.expect_read("k");
    data.reply(NIL);
    data.reply(":-2\r\n");
}

/// The key and its lock are looked at: both are missing, and the lock is taken.
fn grant(client: &mut Client, locks: &mut Link) -> String {
    locks.expect("GET v1:k");
    locks.answer(&format!("PTTL {LOCK}"), "$-1\r\n:-2\r\n");
    locks.expect("MULTI");
    locks.expect("GET v1:k");
    let set = String::from_utf8(locks.next()).unwrap();
    let token = set.strip_prefix(&format!("SET {LOCK} ")).unwrap();
    let token = token.strip_suffix(" NX PX 10000").unwrap().to_owned();
    locks.answer("EXEC", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n+OK\r\n");
    client.reads(&format!("*3\r\n$-1\r\n$32\r\n{token}\r\n$7\r\ngranted\r\n"));
    token
}

/// Its holder brings a value; upstream says who holds the lock, and that there is no key.
fn store(client: &mut Client, locks: &mut Link, token: &str, holder: &str) {
    client.send(&format!("PROXY LEASE SET k {token} old PX 500"));
    locks.expect(&format!("WATCH {LOCK} v1:k"));
    locks.expect(&format!("GET {LOCK}"));
    locks.answer("EXISTS v1:k", &format!("+OK\r\n{holder}:0\r\n"));
}

/// A client that holds the lease of `k`, its worker's link, that of locks, and the token.
fn holder(stage: &mut Stage) -> (Client, Link, Link, String) {
    let (mut client, mut data) = stage.pair();
    ask(&mut client, &mut data, 0);
    let mut locks = stage.data();
    let token = grant(&mut client, &mut locks);
    (client, data, locks, token)
}

/// One key may be lent, and its stage is tracked.
fn stage() -> Stage {
    let mut stage = Stage::silent("", RULES);
    stage.track();
    stage
}

/// The lock goes before the key does, on the same link: nothing comes between.
#[test]
fn a_write_voids_the_lease_before_it_is_made() {
    let mut stage = stage();
    let (mut one, mut data, mut locks, token) = holder(&mut stage);
    let mut two = stage.client();
    two.send("DEL k");
    data.expect(&format!("DEL {LOCK}"));
    data.expect("DEL v1:k");
    // Its answer is nobody's.
    data.reply(":1\r\n:0\r\n");
    two.reads(":0\r\n");
    store(&mut one, &mut locks, &token, NIL);
    locks.answer("UNWATCH", "+OK\r\n");
    one.reads(NIL);
    stage.counted(Counter::LeaseLost, 1);
}

/// In a transaction it is a part of it, of which its client is told nothing.
#[test]
fn a_transaction_voids_the_lease_as_it_is_executed() {
    let mut stage = stage();
    let (_one, _data, _locks, _) = holder(&mut stage);
    let mut two = stage.client();
    two.send("MULTI");
    let mut own = stage.own_link(9);
    own.answer("MULTI", "+OK\r\n");
    two.reads("+OK\r\n");
    two.send("DEL k");
    own.expect(&format!("DEL {LOCK}"));
    own.answer("DEL v1:k", "+QUEUED\r\n+QUEUED\r\n");
    two.reads("+QUEUED\r\n");
    two.send("EXEC");
    own.answer("EXEC", "*2\r\n:1\r\n:0\r\n");
    two.reads("*1\r\n:0\r\n");
}

/// The key, or the lock, is changed between the look at them and EXEC: upstream executes nothing.
#[test]
fn what_changes_while_a_value_is_stored_refuses_it() {
    let mut stage = stage();
    let (mut one, _data, mut locks, token) = holder(&mut stage);
    store(&mut one, &mut locks, &token, &format!("$32\r\n{token}\r\n"));
    locks.expect("MULTI");
    locks.expect("SET v1:k old PX 500");
    locks.expect(&format!("DEL {LOCK}"));
    locks.answer("EXEC", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n");
    one.reads(NIL);
    stage.counted(Counter::LeaseLost, 1);
    assert_eq!(stage.count(Counter::LeaseStored), 0);
}

/// The lease is over, and somebody else's: what comes late is refused, and takes nothing away.
#[test]
fn who_comes_late_takes_nothing_from_the_next() {
    let mut stage = stage();
    let (mut one, _data, mut locks, token) = holder(&mut stage);
    store(&mut one, &mut locks, &token, "$4\r\nnext\r\n");
    locks.answer("UNWATCH", "+OK\r\n");
    one.reads(NIL);
    one.send(&format!("PROXY LEASE DROP k {token}"));
    locks.expect(&format!("WATCH {LOCK}"));
    locks.answer(&format!("GET {LOCK}"), "+OK\r\n$4\r\nnext\r\n");
    locks.answer("UNWATCH", "+OK\r\n");
    one.reads(NIL);
    stage.counted(Counter::LeaseLost, 2);
}

/// The link breaks where a value is stored: nobody knows whether it was.
#[test]
fn what_breaks_while_a_value_is_stored_is_told_as_unknown() {
    let mut stage = stage();
    let (mut one, _data, mut locks, token) = holder(&mut stage);
    store(&mut one, &mut locks, &token, &format!("$32\r\n{token}\r\n"));
    locks.expect("MULTI");
    drop(locks);
    let told = String::from_utf8(one.next()).unwrap();
    assert!(told.starts_with("-ERR proxy: outcome unknown: the connection"), "{told}");
    // The next question needs another link, and tells it.
    one.send(&format!("PROXY LEASE DROP k {token}"));
    let mut locks = stage.data();
    locks.expect(&format!("WATCH {LOCK}"));
    locks.answer(&format!("GET {LOCK}"), "+OK\r\n$-1\r\n");
    locks.answer("UNWATCH", "+OK\r\n");
    one.reads(NIL);
    assert_eq!(stage.count(Counter::LeaseStored), 0);
}

/// R4: whoever waits is told of a value of which the tracking link has not told yet.
#[test]
fn what_is_told_to_who_waits_is_not_followed_by_older() {
    let mut stage = stage();
    let (mut one, mut data, mut locks, _) = holder(&mut stage);
    let mut two = stage.client();
    ask(&mut one, &mut data, 60_000);
    locks.expect("GET v1:k");
    // It is cached that there is no such key.
    stage.hit(&mut two, "GET k", NIL);
    locks.answer(&format!("PTTL {LOCK}"), "$3\r\nnew\r\n:-2\r\n");
    one.reads(FRESH);
    stage.counted(Counter::LeaseWaited, 1);
    two.fetches(&mut data, "GET k", "$3\r\nnew\r\n");
    one.asks("PROXY LEASE GET k 0", FRESH);
}

/// A wait ends by the clock, and its client goes on.
#[test]
fn a_wait_ends_with_its_time() {
    let mut stage = stage();
    let (mut one, mut data, mut locks, _) = holder(&mut stage);
    ask(&mut one, &mut data, 0);
    locks.expect("GET v1:k");
    locks.answer(&format!("PTTL {LOCK}"), "$-1\r\n:9000\r\n");
    one.reads(HELD);
    // That somebody has the lease changed nothing of what is known: there is no such key.
    one.send("PROXY LEASE GET k 1000");
    locks.expect("GET v1:k");
    stage.hands.advance(std::time::Duration::from_secs(1));
    locks.answer(&format!("PTTL {LOCK}"), "$-1\r\n:9000\r\n");
    one.reads(HELD);
    one.asks("ECHO on", "$2\r\non\r\n");
}

/// What a GET would be served past its time is told as such, and nobody has to compute.
#[test]
fn what_is_past_its_time_is_told_as_stale() {
    let rules = "[[rules]]\nmatch = 'k'\nfill_lease = '10s'\nttl = '60s'\ngrace = '10s'\n";
    let mut stage = Stage::silent("", rules);
    stage.track();
    let (mut one, mut data) = stage.pair();
    stage.fill(&mut one, &mut data, "GET k", "$3\r\nnew\r\n");
    one.asks("PROXY LEASE GET k 0", FRESH);
    stage.hands.advance(std::time::Duration::from_secs(61));
    one.asks("PROXY LEASE GET k 0", &FRESH.replace("fresh", "stale"));
    // It is read anew in the background.
    data.expect_read("k");
    data.reply_kept("$3\r\nnew\r\n");
    stage.counted(Counter::LeaseStale, 1);
}

/// What is idle is closed with all other links.
#[test]
fn an_operator_closes_the_links_of_locks_too() {
    let mut stage = stage();
    let (_one, _data, mut locks, _) = holder(&mut stage);
    stage.app.shared().dialer.switch.disable();
    locks.is_closed();
}
