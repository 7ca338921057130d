//! The fault harness: the built binary between clients and an upstream that errs, as black boxes
//! that speak over TCP. Any other proxy can stand in its place.
//!
//! ```text
//!   culprit ──> proxy ──> scripted upstream, or a real server
//!   crew    ──>
//!
//!   main, order   what is to be played, and the command line      report   a row's figures, the table
//!   target        who is under test                               judge    what was told, what is so
//!   upstream      a server that errs as a verb says (verbs)       crew     bystanders, who know what
//!   strikes, play rows of the scripted upstream                            each answer may be
//!   servers       rows of real servers: killed, stopped, full, moved, demoted
//!   refusals      rows of servers that are there and refuse: they load, have lost their primary,
//!                 or do not know nearside
//!   strangers     rows of clients: gone, silent, greedy, malformed
//!   limits        rows of what the process is given: descriptors, memory, names (names: the files
//!                 by which it finds them), a configuration
//!   inputs, hostile   what is no good request, sent to a real server and to the proxy
//! ```
//!
//! `cargo test --release --test faults -- --times 20 --rows F05,F16`; without arguments each row
//! once or a few times. `--peer envoy` has another proxy under test: it is not judged. The rows
//! have the numbers of the project's list of faults; those that are not here are proven elsewhere:
//! F30 to F37 and F67 in tests/checker and tests/anomalies, F38 to F40 and F28's redirects need
//! what nearside does not speak to yet, F42 is in `tests/real/tls`
//! (`upstreams_certificates_are_read_again`) and tests/net (`redis_over_tls`: expired, of another
//! host), F71 in `tests/real/outage` (`a_drain_answers_what_was_received`), F73 and F74 in
//! `tests/real/reload`, F75 in tests/anomalies/flights, F76, F77, F81 in `tests/real/admin_api`.
//! F79 has no test: tests/simulation takes any panic for a fault, and brings none about.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "../checker/client.rs"]
#[expect(dead_code, reason = "the client of tests/checker")]
mod client;
mod crew;
#[path = "../checker/draw.rs"]
#[expect(dead_code, reason = "the draws of tests/checker")]
mod draw;
#[path = "../real/harness.rs"]
#[expect(dead_code, reason = "the servers and proxies of tests/real")]
mod harness;
mod hostile;
mod inputs;
mod judge;
mod limits;
mod names;
mod order;
mod play;
mod refusals;
mod relay;
mod report;
mod servers;
mod strangers;
mod strikes;
mod target;
mod upstream;
mod verbs;

use nearside::units::clock::Clock;
use order::{Order, USAGE};
use report::Tally;
use servers::Row;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As any test target: a filter that is not ours leaves nothing to do.
    if args.iter().any(|arg| !arg.starts_with('-') && !"faults".contains(arg.as_str()))
        && !args.iter().any(|arg| arg.starts_with("--") && arg != "--nocapture")
    {
        return ExitCode::SUCCESS;
    }
    let orders: Vec<String> = args.into_iter().filter(|arg| arg != "faults").collect();
    let is_right = match Order::read(&orders) {
        Ok(order) => run(&order),
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            false
        }
    };
    let (word, passed) = if is_right { ("ok", "1 passed; 0") } else { ("FAILED", "0 passed; 1") };
    println!("test result: {word}. {passed} failed; 0 ignored");
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One row, if it is wanted.
fn one((row, what, play): &(&'static str, &str, Row), order: &Order) -> Option<Tally> {
    order.wants(row).then(|| {
        let mut tally = Tally::new(row, what);
        // The bystanders' patience may end, and a server may not start: the other rows go on.
        let played = catch_unwind(AssertUnwindSafe(|| play(order, &mut tally)));
        tally.rule(played.is_ok(), || "not played to its end".to_owned());
        tally.show();
        tally
    })
}

fn run(order: &Order) -> bool {
    let clock = Clock::system();
    let begun = clock.now();
    let mut tallies = Vec::new();
    loop {
        play::play(order, &mut tallies);
        hostile::play(order, &mut tallies);
        let of_servers = servers::ROWS.iter().filter(|row| !order.is_peer() || row.0 < "F24");
        let own: &[_] = if order.is_nearside() { limits::ROWS } else { &[] };
        if order.has_servers() {
            let refusals: &[_] = if order.is_nearside() { refusals::ROWS } else { &[] };
            of_servers.chain(refusals).chain(strangers::ROWS).chain(own).for_each(|row| {
                tallies.extend(one(row, order));
            });
        }
        if clock.now().since(begun) >= Duration::from_secs(order.seconds) {
            break;
        }
    }
    let is_right = report::print(&tallies, order.is_nearside());
    println!("{} s", clock.now().since(begun).as_secs());
    is_right
}
