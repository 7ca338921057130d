//! A randomized checker of coherence: real servers, two proxies, clients of all of them, faults.
//!
//! ```text
//!   clients ──> proxy 1 ──> shim 1 ──> server      main     what is to be played, and the report
//!           ──> proxy 2 ──> shim 2 ──>   ^         phase    clients and nemesis for some seconds
//!           ─────────────────────────────┘         clients  batches of requests; what came back
//!                                                  field    keys, and their names
//!   shim, nemesis   what goes wrong                requests operations as bytes
//!   world           the processes                  check    C1 to C8 over the history of a phase
//!   draw            choices of one seed            versions what was written to one register
//!   pace            the times of a phase           soak     what the proxies hold meanwhile
//! ```
//!
//! `cargo test --release --test checker -- --server valkey --seconds 600 --seed 7`; without
//! arguments a short run against each server. What is found is written to a file that the output
//! names; the same seed makes the same choices (not the same interleavings). With `--soak` both
//! proxies live from beginning to end, and must not grow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

mod check;
mod client;
mod clients;
mod draw;
mod field;
#[path = "../real/harness.rs"]
#[expect(dead_code, reason = "the servers and proxies of tests/real")]
mod harness;
mod history;
mod nemesis;
mod pace;
mod phase;
mod report;
mod requests;
mod shim;
mod soak;
mod versions;
mod world;

use draw::Draw;
use harness::Kind;
use nearside::units::clock::{self, Clock};
use nemesis::Nemesis;
use phase::Script;
use report::Report;
use soak::Soak;
use std::process::ExitCode;
use std::time::Duration;
use world::World;

/// The seed of the run that is the same each time.
#[cfg(not(feature = "mutants"))]
const FIXED: u64 = 1;

const USAGE: &str = "usage: checker [--server redis|valkey|redis8|all] [--seconds N] [--seed N] \
                     [--keys 32..256] [--nemesis NAME,NAME+NAME,...] [--first] [--soak]";

/// What is to be done.
#[derive(Debug)]
struct Order {
    servers: Vec<Kind>,
    seconds: u64,
    seed: u64,
    keys: usize,
    /// Only these, each list by itself; empty = all.
    nemeses: Vec<Vec<Nemesis>>,
    /// The first violation ends the run.
    is_first: bool,
    /// Both proxies live as long as the run, and are held against what they were.
    is_soak: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As any test target: a filter that is not ours leaves nothing to do.
    let is_other = |arg: &String| !arg.starts_with('-') && !"checker".contains(arg.as_str());
    let has_order = args.iter().any(|arg| arg == "--server" || arg == "--seconds");
    if !has_order && args.iter().any(is_other) {
        return ExitCode::SUCCESS;
    }
    let is_right = if has_order {
        match order(&args) {
            Ok(order) => run(&order),
            Err(error) => {
                eprintln!("{error}\n{USAGE}");
                false
            }
        }
    } else {
        short()
    };
    let (word, passed) = if is_right { ("ok", "1 passed; 0") } else { ("FAILED", "0 passed; 1") };
    println!("test result: {word}. {passed} failed; 0 ignored");
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn order(args: &[String]) -> Result<Order, String> {
    let (servers, nemeses) = (vec![Kind::Redis], Vec::new());
    let has = |switch: &str| args.iter().any(|arg| arg == switch);
    let (is_first, is_soak) = (has("--first"), has("--soak"));
    let (seed, keys) = (any_seed(), 96);
    let mut order = Order { servers, seconds: 60, seed, keys, nemeses, is_first, is_soak };
    let is_switch = |arg: &&String| matches!(arg.as_str(), "--nocapture" | "--first" | "--soak");
    let mut args = args.iter().filter(|arg| !is_switch(arg));
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: no number: {value}"));
        match name.as_str() {
            "--server" => order.servers = servers_named(value)?,
            "--seconds" => order.seconds = number()?,
            "--seed" => order.seed = number()?,
            "--keys" => order.keys = number()?.clamp(8, 256) as usize,
            "--nemesis" => order.nemeses = nemeses_named(value)?,
            _ => return Err(format!("what is {name}?")),
        }
    }
    Ok(order)
}

fn servers_named(name: &str) -> Result<Vec<Kind>, String> {
    match name {
        "redis" => Ok(vec![Kind::Redis]),
        "valkey" => Ok(vec![Kind::Valkey]),
        "redis8" => Ok(vec![Kind::Redis8]),
        "all" => Ok(vec![Kind::Redis, Kind::Valkey, Kind::Redis8]),
        _ => Err(format!("no server is named {name}")),
    }
}

/// `a,b+c`: a phase with a, and one with b and c at once.
fn nemeses_named(names: &str) -> Result<Vec<Vec<Nemesis>>, String> {
    let one = |word: &str| Nemesis::named(word).ok_or_else(|| format!("no nemesis: {word}"));
    names.split(',').map(|list| list.split('+').map(one).collect()).collect()
}

fn any_seed() -> u64 {
    clock::unix_millis() % 1_000_000
}

/// A checker that finds nothing proves nothing: each rule of coherence, once broken, must be found
/// by the check that was made for it, under a fault that lays it bare.
#[cfg(feature = "mutants")]
const MUTANTS: &[(&str, &str, &[&str])] = &[
    ("no_token", "data_delay", &["C3", "C4", "C6", "C9"]),
    ("no_join_check", "data_delay", &["C3", "C4"]),
    ("no_ack_invalidate", "link_late", &["C3", "C4"]),
    ("pong1", "link_late_stall", &["C6"]),
    ("no_ttl", "no_active_expire+link_late", &["C8"]),
];

#[cfg(feature = "mutants")]
fn short() -> bool {
    let mut is_right = true;
    for (mutant, nemesis, rules) in MUTANTS {
        let clock = Clock::system();
        let begun = clock.now();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--server", "redis", "--seconds", "30", "--seed", "1", "--keys", "64"])
            .args(["--nemesis", nemesis, "--first"])
            .env("NEARSIDE_MUTANT", mutant)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let is_told =
            |line: &&str| rules.iter().any(|rule| line.starts_with(&format!("    {rule}: ")));
        let told = text.lines().find(is_told);
        let seconds = clock.now().since(begun).as_secs();
        println!("{mutant} under {nemesis}, {seconds} s: {}", told.unwrap_or("NOT FOUND").trim());
        is_right &= told.is_some();
    }
    is_right
}

/// What runs in CI: a while against each server, with one seed that stays.
#[cfg(not(feature = "mutants"))]
fn short() -> bool {
    let keys = 96;
    let part = |kind, seconds, seed| Order {
        servers: vec![kind],
        seconds,
        seed,
        keys,
        nemeses: Vec::new(),
        is_first: false,
        is_soak: false,
    };
    let orders = [
        part(Kind::Redis, 20, FIXED),
        part(Kind::Redis, 20, any_seed()),
        part(Kind::Valkey, 12, any_seed()),
        part(Kind::Redis8, 12, any_seed()),
    ];
    // All of them, also after one has failed.
    orders.iter().filter(|order| !run(order)).count() == 0
}

fn run(order: &Order) -> bool {
    order.servers.iter().filter(|kind| !run_one(**kind, order)).count() == 0
}

fn run_one(kind: Kind, order: &Order) -> bool {
    let Order { seconds, seed, .. } = *order;
    println!("checker: {kind:?}, {seconds} s, --seed {seed}");
    let clock = Clock::system();
    let begun = clock.now();
    let world = World::start(kind, seed);
    let (mut report, mut soak) = (Report::new(kind, seed), Soak::default());
    let mut plan = plan(order);
    let is_time = || clock.now().since(begun) < Duration::from_secs(seconds);
    // However slow the machine is: up to the first phase with faults.
    let least = if order.nemeses.is_empty() { 4 } else { 1 };
    while let Some(script) = plan.next().filter(|script| is_time() || script.number <= least) {
        let (outcome, field) = phase::play(&world, &script, seed);
        report.add(&script, &outcome, &field);
        if order.is_soak {
            soak.look(&world, clock.now().since(begun));
        }
        if report.is_failed() {
            println!("{}", world.logs());
            if order.is_first {
                break;
            }
        }
    }
    let took = clock.now().since(begun);
    let has_stayed = soak.print(took);
    report.print(took) && has_stayed
}

/// The phases, in order, without end.
fn plan(order: &Order) -> impl Iterator<Item = Script> + use<> {
    let mut draw = Draw::new(order.seed, 0);
    let is_long = order.seconds >= 120;
    let length = Duration::from_millis(if is_long { 6000 } else { 2000 });
    let (keys, given) = (order.keys, order.nemeses.clone());
    let mut alone: Vec<Nemesis> = Nemesis::ALL.to_vec();
    alone.retain(|nemesis| !(order.is_soak && *nemesis == Nemesis::ReplaceProxy));
    draw.shuffle(&mut alone);
    (1..).map(move |number| {
        let index = number as usize - 1;
        let script = |is_calm, nemeses| {
            let is_linear = given.is_empty() && index == 0;
            Script { number, length, keys, is_linear, is_calm, nemeses }
        };
        if !given.is_empty() {
            let list = &given[index % given.len()];
            let is_calm = index / given.len() % 2 == 1;
            return script(is_calm, list.iter().map(|nemesis| vec![*nemesis]).collect());
        }
        if index < 3 {
            return script(index == 2, Vec::new());
        }
        if is_long {
            let is_calm = draw.percent(50);
            if let Some(nemesis) = alone.get(index - 3) {
                return script(is_calm, vec![vec![*nemesis]]);
            }
            let pair = [draw.below(alone.len()), draw.below(alone.len())];
            return script(is_calm, pair.map(|index| vec![alone[index]]).to_vec());
        }
        // All of them in turn, two at a time.
        draw.shuffle(&mut alone);
        let (one, two) = alone.split_at(alone.len() / 2);
        let nemeses = vec![one.to_vec(), two.to_vec()];
        Script { length: length * 4, ..script(index.is_multiple_of(2), nemeses) }
    })
}
