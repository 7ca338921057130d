//! Addresses, sockets, TLS.
//!
//! ```text
//! clients    address -> listen -> greet -> client   (accepted on one thread, used on another)
//!                                 proxy_protocol, tls: before a client's first byte
//! upstream   target  -> lookup -> stream, with tls   (one task reads and writes)
//! ```
//!
//! Text and options in, sockets out. What travels on them is for `wire` and the wings above.
//! Every error says what was tried, on which address, and what an operator can do.

pub mod address;
pub mod client;
pub mod dialer;
pub mod greet;
pub mod handover;
pub mod inherited;
pub mod limits;
pub mod listen;
pub mod lookup;
pub mod pipe;
pub mod proxy_protocol;
pub mod stream;
pub mod switch;
pub mod target;
pub mod tls;

use std::io;
use std::time::Duration;

/// Pause before the next attempt to connect: at once, 10, 20, 40, then every 100 ms for 30 s, then
/// every second. So an outage is over for the clients as soon as it is over.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(match attempt {
        0 => 0,
        1 => 10,
        2 => 20,
        3 => 40,
        4..300 => 100,
        _ => 1000,
    })
}

/// The text of an I/O error without Rust's ` (os error 98)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text.chars().take(end).collect(),
        _ => text,
    }
}
