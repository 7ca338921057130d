//! An exhaustive model checker of coherence, over the real code.
//!
//! ```text
//!   clients -> Session, consult, forward -> Pipeline ==> [up FIFO] ==> a server of one key
//!              settle -> Cache            <==========  [down FIFO] <==        |
//!              Listener -> Cache          <==========  [tracking link FIFO] <=+
//! ```
//!
//! Everything between a client's bytes and the bytes on the links is what runs in production; the
//! model plays the clients, the sockets, the clock and the server. Each interleaving of their
//! steps is one path; states already seen (by all that decides the future) are not entered again.
//! A path cannot be undone, so the search goes back by playing its beginning once more.
//!
//! Checked with every answer (coherence 2.4, 2.5):
//!
//! * RYW: not older than what the same session has seen; ORDER: nor is its own later write. PROXY (G2): not older than what any client
//!   of this instance had seen when it asked. LIN (G4), where every writer uses this instance.
//! * BOUNDED (G1): not overwritten by a write that was acknowledged more than X before it asked.
//! * EXPIRED (G5): no hit after the end of the value's life.
//! * NAMED (R16): never of another key version than the one that it asked under.
//! * BANNED (R15): what was asked after a ban is not older than the ban, though no push tells of it.
//!
//! And at the end of every path: QUIET: all messages processed, what is cached is what the server
//! holds; STUCK: no client waits for ever.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod explore;
mod fixture;
mod parts;
mod scenarios;
mod server;
mod world;

use explore::explore;
use fixture::Fixture;
use parking_lot::Mutex;
use scenarios::SCENARIOS;

/// The active mutant is the process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn the_rules_hold_on_every_path() {
    let _turn = TURN.lock();
    let fixture = Fixture::new();
    let (mut states, mut steps) = (0, 0);
    for scenario in SCENARIOS {
        let report = explore(&fixture, scenario);
        println!("{:60} {:8} states {:9} steps", scenario.name, report.states, report.steps);
        if let Some((fault, path)) = report.fault {
            panic!("{}: {fault}\n{path}", scenario.name);
        }
        states += report.states;
        steps += report.steps;
    }
    println!("all: {states} states, {steps} steps");
}

/// A model that finds nothing proves nothing: each rule, once broken, must be missed.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_caught() {
    use nearside::units::mutant::{Mutant, set};

    let _turn = TURN.lock();
    let fixture = Fixture::new();
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        // The scenario that was written for the rule, by its number.
        let number = match mutant {
            Mutant::NoToken | Mutant::NoAckInvalidate => "1 ",
            Mutant::NoJoinCheck => "9 ",
            Mutant::Pong1 => "12 ",
            Mutant::NoTtl => "15 ",
            Mutant::NoBanCheck => "21 ",
            Mutant::NoGate => "24 ",
            // No client goes in the model: `tests/simulation` is what finds it.
            Mutant::ForgetSlot | Mutant::NoCanary => continue,
        };
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name.starts_with(number)).unwrap();
        set(Some(mutant));
        let report = explore(&fixture, scenario);
        set(None);
        match report.fault {
            Some((fault, path)) => println!("{}: {fault}\n  {path}", mutant.name()),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "no scenario notices {missed:?}");
}
