//! From a request's bytes to its row and its keys, in nanoseconds: what every command costs before
//! anything is decided about it.
//!
//! `cargo bench --bench lookup -- [--smoke]`. One thread. The requests are cut already: parsing is
//! no part of it.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: whatever fails ends it, and it reads the clock"
)]

mod support;

use nearside::command::{self, keys};
use nearside::wire::request::{Arg, Limits, Request, Scan};
use std::hint::black_box;
use std::time::Instant;
use support::{Asked, SERVER_CORE, Table, median, pin_self};

/// What a lookup and the key of a GET may take.
const BAR_NS: f64 = 15.0;

/// A request as it came, and its arguments.
struct Cut {
    bytes: Vec<u8>,
    args: Vec<Arg>,
}

impl Cut {
    fn of(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        let mut args = Vec::new();
        let limits = Limits { args_max: 100, bulk_max: 1000, unauthenticated: false };
        Scan::default().next(&bytes, &mut args, &limits).expect("a request");
        Self { bytes, args }
    }

    /// The row's number and the length of all its keys.
    #[inline]
    fn look_up(&self) -> (u16, usize) {
        let request = Request::new(black_box(&self.bytes), &self.args);
        let arg = |at: usize| request.arg(at);
        let spec = command::resolve(request.len(), arg).expect("a command");
        let mut length = 0;
        keys::for_each(spec, request.len(), arg, |at| length += request.arg(at).len());
        (spec.index, length)
    }
}

/// Nanoseconds for each of `requests`, asked in turn.
fn each(requests: &[Cut], rounds: u64) -> f64 {
    let begun = Instant::now();
    for _ in 0..rounds {
        for request in requests {
            black_box(request.look_up());
        }
    }
    begun.elapsed().as_nanos() as f64 / (rounds * requests.len() as u64) as f64
}

fn main() {
    let asked = Asked::read(&[]);
    pin_self(SERVER_CORE);
    let mut table = Table::default();
    let (rounds, times) = (asked.scale(2_000_000, 2_000), asked.scale(9, 1));
    for (name, bar, lines) in [
        ("GET", Some(BAR_NS), &["GET user:1000", "get user:1001", "Get user:1002"][..]),
        (
            "one of eight usual ones",
            None,
            &[
                "GET user:1000",
                "SET user:1000 value",
                "HGET user:1000 name",
                "EXPIRE user:1000 60",
                "MGET user:1 user:2 user:3",
                "ZRANGEBYSCORE board 0 100",
                "LPUSH queue job",
                "INCR counter",
            ],
        ),
        ("ZUNIONSTORE of three", None, &["ZUNIONSTORE dst 3 a b c WEIGHTS 1 2 3"]),
        ("XREADGROUP", None, &["XREADGROUP GROUP g c COUNT 10 STREAMS s1 s2 > >"]),
    ] {
        let requests: Vec<Cut> = lines.iter().map(|line| Cut::of(line)).collect();
        let found: Vec<f64> =
            (0..times).map(|_| each(&requests, rounds / requests.len() as u64)).collect();
        let text = format!("median of {times} times {rounds}");
        let name = format!("row and keys of {name}, ns");
        match bar {
            Some(bar) => table.bar(&name, &text, median(&found), bar),
            None => table.published(&name, &text, median(&found)),
        }
    }
    table.print(&asked);
}
