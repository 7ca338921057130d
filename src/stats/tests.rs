//! Blocks, counted and summed.

use super::{Block, CommandTotals, Counter, Gauge, OTHER, Outcome, Stats};

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
    assert_eq!(stats.namespaces(), [(OTHER.to_owned(), [0, 0])]);
    for block in [stats.new_block(), stats.new_block()] {
        for _ in 0..4_000 {
            block.namespace(true, || b"orders");
            block.namespace(false, || b"orders");
        }
        for _ in 0..1_000 {
            block.namespace(true, || b"users\xff");
        }
    }
    let found = stats.namespaces();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["orders", "users\u{fffd}", OTHER]);
    let [hits, misses] = found[0].1;
    assert!((6_000..10_000).contains(&hits) && (6_000..10_000).contains(&misses), "{found:?}");
}

#[test]
fn two_blocks_share_no_line() {
    assert_eq!(align_of::<Block>(), 128);
    assert_eq!(size_of::<Block>() % 128, 0);
}
