//! Deterministic simulation of the data wing: everything between a client's socket and upstream's
//! runs as in production (workers, sessions, links, flights, the cache, the tracking link), on one
//! thread, in a time that is the simulation's, on wires in memory; one seed decides all else.
//!
//! ```text
//!   cargo test --test simulation                      the first 10,000 seeds
//!   SEEDS=1000000 SEED=5000 cargo test ...            so many, from this one on
//!   SEED=4711 cargo test ... -- --nocapture           this one alone, and what happens in it
//! ```
//!
//! A run is 300 requests and more of 4 to 7 clients of both protocols (GET, MGET, HGET, SET, DEL,
//! INCR, PEXPIRE, transactions, pipelines, cut anywhere; in some runs scripts that set a key which
//! they do not name, and keys of level `linear`) on two links or more and the tracking link, beside
//! others who write past nearside, with faults of a few kinds ([`faults::Fault`]). Judged after
//! every step:
//!
//! * each client hears its own replies, once each, in order; every value says whose it is (I1-I3);
//! * no value is older than any that a client of this instance has seen, nor was it overwritten
//!   longer ago than `cache.max_staleness` when it was asked for (I4), nor at all under `linear`;
//! * no shared link is open beside a tracking link of before or behind an operator's order;
//! * no write is executed twice, nor one of which its client was told that it was not (I5, I6);
//! * what the cache would serve is what the server said, and new enough; where it is promised, all
//!   of a key is of one moment, and so are the values of an MGET;
//! * no panic, though nearside survives them.
//!
//! And at the end, when the faults are over: everything is answered or its connection ended; no
//! ticket, flight, client is left (I9); new clients are served, from the cache too (I10).
//!
//! An upstream that lies (replies lost, added, twice, of another type) is found out by
//! the canary: then a client may have been given a wrong reply, and none was cached. With
//! `VERIFY=strict` nobody is given one, with `VERIFY=off` no lie is told.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::significant_drop_tightening,
    reason = "a test"
)]

mod cached;
mod client;
mod conn;
mod faults;
mod oracle;
mod panics;
mod plan;
mod proxy;
mod rng;
mod run;
mod server;
mod wire;
mod words;

use faults::{Fault, HONEST};
use nearside::config::Verify;
use parking_lot::Mutex;
use run::{PLACES, Report, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Mutants and the hook for panics are the process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Seeds of a run without orders.
const SEEDS: u64 = 10_000;

/// What is promised of an upstream that lies.
const VERIFY: Verify = Verify::Fills;

#[test]
fn no_seed_breaks_a_promise() {
    let _turn = TURN.lock();
    let verify = verify();
    let (first, count) = match (number("SEED"), number("SEEDS")) {
        (Some(seed), None) => return replay(seed, verify),
        (seed, count) => (seed.unwrap_or(0), count.unwrap_or(SEEDS)),
    };
    panics::note();
    let found = play(first, count, verify);
    drop(std::panic::take_hook());
    let Totals { runs, requests, faults, wrong, counts, struck, failed } = &found;
    println!("{runs} runs: {requests} requests, {faults} faults, {wrong} wrong replies");
    if let Some(seed) = *failed {
        replay(seed, verify);
        panic!("seed {seed} failed once, and does not again");
    }
    // Seeds that never go to a place prove nothing of it.
    let places = PLACES.iter().zip(counts);
    println!("{:?}", places.clone().collect::<Vec<_>>());
    if *runs >= 1000 {
        let unseen: Vec<_> = places.filter(|(_, count)| **count == 0).collect();
        let absent: Vec<_> = HONEST.iter().filter(|fault| !struck.contains(fault)).collect();
        assert!(unseen.is_empty() && absent.is_empty(), "never: {unseen:?} {absent:?}");
    }
}

/// A seed plays the same twice, or it could not be looked into.
#[test]
fn a_seed_says_all() {
    let _turn = TURN.lock();
    for seed in 0..20 {
        assert_eq!(run(seed, VERIFY, true), run(seed, VERIFY, true), "seed {seed}");
    }
}

/// A simulation that finds nothing proves nothing: each rule, once broken, is missed.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_found() {
    use nearside::units::mutant::{Mutant, set};

    let _turn = TURN.lock();
    panics::note();
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let (within, verify) = match mutant {
            Mutant::ForgetSlot | Mutant::NoCanary => (100, VERIFY),
            // No bans and no other key version are played here, and a server that answers one PING
            // too early is rare: `tests/model` finds those.
            Mutant::NoBanCheck | Mutant::NoGate | Mutant::Pong1 => continue,
            _ => (2000, VERIFY),
        };
        set(Some(mutant));
        let found = play(0, within, verify).failed;
        set(None);
        match found {
            Some(seed) => println!("{}: seed {seed}", mutant.name()),
            None => missed.push(mutant.name()),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "no seed notices {missed:?}");
}

/// What was found so far.
#[derive(Debug, Default)]
struct Totals {
    runs: u64,
    requests: usize,
    faults: usize,
    wrong: usize,
    counts: [u64; PLACES.len()],
    struck: Vec<Fault>,
    /// The first seed that failed.
    failed: Option<u64>,
}

/// Plays seeds on all processors until one fails.
fn play(first: u64, count: u64, verify: Verify) -> Totals {
    let (next, is_over) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let mut totals = Totals::default();
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= count {
                break;
            }
            let report = guarded(seed, verify, false);
            totals.add(&report);
            if report.violation.is_some() {
                is_over.store(true, Ordering::Relaxed);
                totals.failed = Some(seed);
            }
        }
        totals
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        #[expect(clippy::needless_collect, reason = "all begin before the first is awaited")]
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().fold(Totals::default(), |sum, thread| sum.and(&thread.join().unwrap()))
    })
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.requests += report.requests;
        self.faults += report.faults;
        self.wrong += report.wrong;
        self.counts.iter_mut().zip(report.counts).for_each(|(sum, count)| *sum += count);
        self.note(&report.struck);
    }

    fn note(&mut self, struck: &[Fault]) {
        for fault in struck {
            if !self.struck.contains(fault) {
                self.struck.push(*fault);
            }
        }
    }

    fn and(mut self, other: &Self) -> Self {
        self.runs += other.runs;
        self.requests += other.requests;
        self.faults += other.faults;
        self.wrong += other.wrong;
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.note(&other.struck);
        self.failed = self.failed.into_iter().chain(other.failed).min();
        self
    }
}

/// A run, of which a panic of the simulation itself is a violation too.
fn guarded(seed: u64, verify: Verify, is_told: bool) -> Report {
    let played = catch_unwind(AssertUnwindSafe(|| run(seed, verify, is_told)));
    played.unwrap_or_else(|_| Report {
        violation: Some(format!("the simulation panicked: {:?}", panics::take())),
        ..Report::default()
    })
}

/// Plays one seed, and tells what happened before it failed.
#[expect(clippy::print_stdout, reason = "what is looked into")]
fn replay(seed: u64, verify: Verify) {
    panics::note();
    let report = guarded(seed, verify, true);
    drop(std::panic::take_hook());
    let last = report.events.len().saturating_sub(60);
    for event in &report.events[last..] {
        println!("{event}");
    }
    println!("seed {seed}: {} requests, {} faults", report.requests, report.faults);
    if let Some(violation) = report.violation {
        panic!("seed {seed}: {violation}\n  once more: SEED={seed} cargo test --test simulation");
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn verify() -> Verify {
    match std::env::var("VERIFY").as_deref() {
        Err(_) => VERIFY,
        Ok("off") => Verify::Off,
        Ok("fills") => Verify::Fills,
        Ok("strict") => Verify::Strict,
        Ok(other) => panic!("VERIFY={other}: off, fills or strict"),
    }
}
