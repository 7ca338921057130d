//! Clients whose requests or answers are big ride on a bulk link, so that others need not wait
//! behind those; and never while anything of theirs is out on the other link (R7).

use crate::stage::{Client, Link, OLD, Stage};
use nearside::data::worker::bulk::BIG;
use std::time::Duration;

/// How long who was given a big answer rides apart, and a moment.
const APART: Duration = Duration::from_nanos(10_000_000_001);

fn big() -> String {
    format!("${BIG}\r\n{}\r\n", "b".repeat(BIG))
}

/// A client is given a big answer.
fn give_big(client: &mut Client, link: &mut Link) {
    client.fetches(link, "GET big", &big());
}

/// The bulk link, which can be used.
fn bulk(stage: &mut Stage) -> Link {
    let link = stage.data();
    stage.eventually("the link is up", |stage| stage.app.shared().live.links_up() == 2);
    link
}

/// Nothing here is stored, so that each read goes upstream.
const SETTINGS: &str = "cache.max_value_size=1b";

#[test]
fn nobody_waits_behind_a_big_answer() {
    let mut stage = Stage::with(SETTINGS);
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    give_big(&mut one, &mut data);
    let mut bulk = bulk(&mut stage);
    one.send("GET big");
    bulk.expect_read("big");
    two.fetches(&mut data, "GET k", OLD);
    bulk.reply_kept(&big());
    one.reads(&big());
    // Small ones ride there, too: the next may be big.
    one.fetches(&mut bulk, "GET other", OLD);
    // Long afterwards it rides with all others again, and the link is closed.
    stage.hands.advance(APART);
    bulk.is_closed();
    one.fetches(&mut data, "GET another", OLD);
}

/// What is out keeps its order.
#[test]
fn who_has_something_out_stays() {
    let mut stage = Stage::with(SETTINGS);
    let (mut one, mut data) = stage.pair();
    one.send_all(&["GET big", "INCR n"]);
    data.expect_read("big");
    data.expect("INCR v1:n");
    data.reply_kept(&big());
    one.reads(&big());
    let mut bulk = bulk(&mut stage);
    one.send("GET n");
    data.expect_read("n");
    data.reply(":1\r\n");
    data.reply_kept("$1\r\n1\r\n");
    one.reads(":1\r\n");
    one.reads("$1\r\n1\r\n");
    // With nothing out it goes.
    give_big(&mut one, &mut data);
    one.fetches(&mut bulk, "GET n", OLD);
}

/// A big request shows when it is asked: the next one goes elsewhere.
#[test]
fn nobody_waits_behind_a_big_request() {
    let mut stage = Stage::with(SETTINGS);
    let (mut one, mut data) = stage.pair();
    let mut two = stage.client();
    let big = "b".repeat(BIG);
    let set = |number: u32, client: &mut Client| client.send(&format!("SET k{number} {big}"));
    set(1, &mut one);
    data.expect(&format!("SET v1:k1 {big}"));
    let mut bulk = bulk(&mut stage);
    // What is out keeps its order.
    set(2, &mut one);
    data.expect(&format!("SET v1:k2 {big}"));
    data.reply("+OK\r\n+OK\r\n");
    one.reads("+OK\r\n");
    one.reads("+OK\r\n");
    set(3, &mut one);
    bulk.expect(&format!("SET v1:k3 {big}"));
    two.fetches(&mut data, "GET k", OLD);
    bulk.reply("+OK\r\n");
    one.reads("+OK\r\n");
}

/// An upstream that has no room for the link is not down: all ride on one, as before.
#[test]
fn a_link_that_cannot_be_had_is_not_missed() {
    let mut stage = Stage::with(SETTINGS);
    let (mut one, mut data) = stage.pair();
    give_big(&mut one, &mut data);
    stage.silent_data().reply("-ERR max number of clients reached\r\n");
    one.fetches(&mut data, "GET k", OLD);
    give_big(&mut one, &mut data);
    stage.tries_nothing_more();
    assert!(stage.app.shared().live.is_upstream_up());
    // It is tried again, but not at once.
    stage.hands.advance(Duration::from_secs(1));
    give_big(&mut one, &mut data);
    let mut bulk = bulk(&mut stage);
    one.fetches(&mut bulk, "GET k", OLD);
}

/// One that was there is waited for like any other.
#[test]
fn a_link_that_breaks_is_opened_again() {
    let mut stage = Stage::with(SETTINGS);
    let (mut one, mut data) = stage.pair();
    give_big(&mut one, &mut data);
    let mut link = bulk(&mut stage);
    one.fetches(&mut link, "GET k", OLD);
    drop(link);
    let mut link = bulk(&mut stage);
    one.fetches(&mut link, "GET k", OLD);
    let mut two = stage.client();
    two.fetches(&mut data, "GET k", OLD);
}
