//! Blocks, counted and summed.

use super::history::Span;
use super::{
    Block, By, CommandTotals, Counter, Gauge, HotKeys, Look, Named, OTHER, Outcome, Seen, Stats,
};
use crate::stats::trial::mixed;
use crate::units::clock::Tick;
use std::time::Duration;

fn look(key: &[u8]) -> Look<'_> {
    Look { key, rule: 1, bytes: 0, age: None }
}

#[test]
fn blocks_are_summed() {
    let stats = Stats::new(3);
    let (one, two) = (stats.new_block(), stats.new_block());
    one.add(Counter::LookupHit, 2);
    two.add(Counter::LookupHit, 40);
    two.add(Counter::FlushesReconnect, 7);
    assert_eq!(stats.counter(Counter::LookupHit), 42);
    assert_eq!(stats.counter(Counter::FlushesReconnect), 7);
    assert_eq!(stats.counter(Counter::LookupMiss), 0);
    assert_eq!(one.counter(Counter::LookupHit), 2);

    one.shift(Gauge::ClientsTcp, 3);
    two.shift(Gauge::ClientsTcp, -1);
    assert_eq!(stats.gauge(Gauge::ClientsTcp), 2);
    two.shift(Gauge::ClientsTcp, -5);
    assert_eq!(stats.gauge(Gauge::ClientsTcp), 0);
}

#[test]
fn hits_are_told_by_worker() {
    let stats = Stats::new(0);
    let (one, other, two) = (stats.new_worker_block(), stats.new_block(), stats.new_worker_block());
    one.add(Counter::LookupHit, 1);
    other.add(Counter::LookupHit, 2);
    two.add(Counter::LookupHit, 4);
    assert_eq!(stats.worker_hits(), [1, 4]);
    assert_eq!(stats.counter(Counter::LookupHit), 7);
}

#[test]
fn a_block_outlives_its_writer() {
    let stats = Stats::new(0);
    drop({
        let block = stats.new_block();
        block.add(Counter::NetInputBytes, 5);
        block
    });
    assert_eq!(stats.counter(Counter::NetInputBytes), 5);
}

#[test]
fn commands_by_row_and_the_unknown_last() {
    let stats = Stats::new(2);
    let block = stats.new_block();
    block.command(0, false, 1);
    block.command(1, true, 2);
    block.command(2, true, 4);
    block.command(u16::MAX, false, 8);
    block.took(0, 32);
    block.took(u16::MAX, 64);
    block.reject(1);
    block.reject(u16::MAX);
    assert_eq!(
        stats.commands(),
        [
            CommandTotals { ok: 1, error: 0, rejected: 0, nanos: 32 },
            CommandTotals { ok: 0, error: 3, rejected: 1, nanos: 0 },
            CommandTotals { ok: 8, error: 5, rejected: 1, nanos: 0 },
        ]
    );
}

#[test]
fn latency_by_outcome() {
    let stats = Stats::new(0);
    stats.new_block().observe(Outcome::Local, 1_000, 3);
    stats.new_block().observe(Outcome::Local, 2_000, 1);
    let hits = stats.latency(Outcome::Local);
    assert_eq!((hits.count(), hits.sum()), (4, 5_000));
    assert_eq!(stats.latency(Outcome::Miss).count(), 0);
}

#[test]
fn pipelines_by_power_of_two() {
    let stats = Stats::new(0);
    let block = stats.new_block();
    for commands in [0, 1, 2, 3, 4, 5, 64, 65, 1_000_000] {
        block.pipeline(commands);
    }
    let counts = stats.pipeline();
    assert_eq!(counts.reads, [1, 1, 2, 1, 0, 0, 1, 2]);
    assert_eq!(counts.commands, 1_000_144);
}

#[test]
fn namespaces_of_several_workers_are_one() {
    let stats = Stats::new(0);
    assert_eq!(stats.namespaces(), [(OTHER.to_owned(), [0; 4])]);
    for block in [stats.new_worker_block(), stats.new_worker_block()] {
        for _ in 0..4_000 {
            block.lookup(1, Seen::Hit, || look(b"orders:1"));
            block.lookup(2, Seen::Miss, || look(b"orders:2"));
        }
        for _ in 0..1_000 {
            block.lookup(3, Seen::Passed, || look(b"users\xff:3"));
        }
    }
    let found = stats.namespaces();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["orders", "users\u{fffd}", OTHER]);
    let [hits, misses, rest @ ..] = found[0].1;
    assert_eq!(rest, [0, 0]);
    assert!((6_000..10_000).contains(&hits) && (6_000..10_000).contains(&misses), "{found:?}");
}

#[test]
fn two_blocks_share_no_line() {
    assert_eq!(align_of::<Block>(), 128);
    assert_eq!(size_of::<Block>() % 128, 0);
}

fn seconds(count: u64) -> Tick {
    Tick(count * 1_000_000_000)
}

#[test]
fn hot_keys_of_several_workers_are_one_and_have_a_rate() {
    let hot_keys =
        HotKeys { capacity: 100, half_life: Duration::from_secs(10), ..HotKeys::default() };
    let stats = Stats::with(0, hot_keys, Named::default());
    let workers = [stats.new_worker_block(), stats.new_worker_block()];
    stats.tick(seconds(0));
    for second in 1..=30 {
        for block in &workers {
            for _ in 0..1_000 {
                block.lookup(mixed(1), Seen::Hit, || look(b"a"));
                block.lookup(mixed(2), Seen::Miss, || look(b"b"));
                block.lookup(mixed(1), Seen::Hit, || look(b"a"));
            }
        }
        stats.tick(seconds(second));
    }
    let hottest = stats.hottest(By::Reads, 10);
    let keys: Vec<&[u8]> = hottest.iter().map(|hot| &*hot.key).collect();
    assert_eq!(keys, [b"a", b"b"]);
    assert!((3_500.0..4_500.0).contains(&hottest[0].rate), "{hottest:?}");
    assert!((1_700.0..2_300.0).contains(&hottest[1].rate), "{hottest:?}");
    assert!((0.6..0.7).contains(&hottest[0].share), "{hottest:?}");
    let missed = stats.hottest(By::Misses, 1);
    assert_eq!((&*missed[0].key, missed[0].hash), (&b"b"[..], mixed(2)));
    assert_eq!(stats.tracked_keys(), 4, "two of each worker");
    let rules = stats.rules();
    assert!((100_000..140_000).contains(&rules[1][0]), "{:?}", rules[1]);
    // Nobody asks any more.
    for second in 31..=300 {
        stats.tick(seconds(second));
    }
    assert_eq!(stats.hottest(By::Reads, 10), []);
}

#[test]
fn the_curve_is_of_all_workers_together() {
    let stats = Stats::new(0);
    let workers = [stats.new_worker_block(), stats.new_worker_block()];
    assert_eq!(stats.hit_ratio_of(1.0), None);
    // Around and around among 20,000 keys, half of them each worker's.
    for round in 0..20 {
        for key in 0..20_000 {
            let block = &workers[usize::from(key % 2 == 0)];
            block.lookup(mixed(key + 1), if round > 0 { Seen::Hit } else { Seen::Miss }, || {
                look(b"k")
            });
            block.add(if round > 0 { Counter::LookupHit } else { Counter::LookupMiss }, 1);
        }
        stats.tick(seconds(round));
    }
    let told = [10_000.0, 30_000.0].map(|entries| stats.hit_ratio_of(entries).unwrap());
    assert!(told[0] < 0.05 && told[1] > 0.9, "{told:?}");
}

#[test]
fn a_flood_thins_the_sample_and_hides_nothing() {
    let stats = Stats::new(0);
    let block = stats.new_worker_block();
    for round in 0..12 {
        // All of one key in sixteen would be more than there is room for.
        for at in 0..400_000 {
            block.lookup(mixed(at % 1_000 + 1), Seen::Hit, || look(b"k"));
        }
        block.add(Counter::LookupHit, 400_000);
        stats.tick(seconds(round));
    }
    assert!(stats.hit_ratio_of(2_000.0).unwrap() > 0.9);
    assert!(stats.hit_ratio_of(400.0).unwrap() < 0.1);
}

#[test]
fn a_reset_is_a_window_of_its_own() {
    let stats = Stats::new(0);
    let block = stats.new_worker_block();
    block.add(Counter::LookupHit, 1);
    stats.tick(seconds(5));
    block.add(Counter::LookupHit, 2);
    block.observe(Outcome::Miss, 1_000, 1);
    stats.reset(seconds(8));
    block.add(Counter::LookupHit, 4);
    block.observe(Outcome::Miss, 5_000, 1);
    let read = |span| {
        let window = stats.window(span, seconds(9));
        let took = window.counted.took(Outcome::Miss).unwrap().sum();
        (window.length.as_secs(), window.counted.get(Counter::LookupHit), took)
    };
    assert_eq!(read(Span::Start), (4, 7, 6_000));
    assert_eq!(read(Span::Reset), (1, 4, 5_000));
    assert_eq!(read(Span::Last(Duration::from_mins(1))), (4, 6, 6_000));
    assert_eq!(stats.counter(Counter::LookupHit), 7, "metrics never go back");
}
