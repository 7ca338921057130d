//! Hits of which upstream is told: shadow checks, which read them again, and TOUCH.

use crate::stage::{Client, Link, Stage};
use nearside::stats::Counter;
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";

/// Hits of a key until one is checked, which a die says; upstream has `reply`. Answers how many of
/// them differed, and the link.
fn check(
    stage: &Stage,
    client: &mut Client,
    mut data: Link,
    (key, reply): (&str, &'static str),
) -> (u64, Link) {
    let differed = stage.count(Counter::ShadowMismatch);
    let checks = stage.count(Counter::ShadowChecks);
    let upstream = std::thread::spawn(move || {
        while data.next().starts_with(b"GET") {
            data.reply(reply);
        }
        data.reply(":7\r\n");
        data
    });
    while stage.count(Counter::ShadowChecks) == checks {
        client.asks(&format!("GET {key}"), OLD);
    }
    // Behind it no answer of a check is out.
    client.asks("INCR last", ":7\r\n");
    let data = upstream.join().unwrap();
    (stage.count(Counter::ShadowMismatch) - differed, data)
}

#[test]
fn a_hit_that_upstream_has_otherwise_is_counted_for_as_long_as_it_is_served() {
    let mut stage = Stage::with("cache.shadow_checks=1");
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET late", OLD);
    stage.fill(&mut client, &mut data, "GET wrong", OLD);
    let (differed, data) = check(&stage, &mut client, data, ("late", OLD));
    assert_eq!(differed, 0);
    // Somebody has changed it, and it is told of a moment later, as every rule allows.
    let (differed, data) = check(&stage, &mut client, data, ("late", NEW));
    assert!(differed > 0);
    stage.push(&[b"v1:late"]);
    // And here nobody ever tells.
    let (differed, mut data) = check(&stage, &mut client, data, ("wrong", NEW));
    stage.fill(&mut client, &mut data, "GET late", NEW);
    stage.hands.advance(Duration::from_secs(1));
    stage.counted(Counter::ShadowMismatchSecond, differed);
    stage.hands.advance(Duration::from_secs(9));
    stage.counted(Counter::ShadowMismatchTenSeconds, differed);
    // It has measured what it has found, and changed nothing.
    client.asks("GET wrong", OLD);
}

#[test]
fn keys_of_hits_are_touched_upstream() {
    let mut stage = Stage::with("cache.touch=1");
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    let upstream = std::thread::spawn(move || {
        data.expect("TOUCH v1:k");
        data.reply(":1\r\n");
        data
    });
    // Which hit it is, a die says.
    while !upstream.is_finished() {
        client.asks("GET k", OLD);
    }
    let _data = upstream.join().unwrap();
}
