//! Addresses, sockets, TLS.
//!
//! ```text
//! clients    address -> listen -> client      (accepted on one thread, used on another)
//! upstream   target  -> stream, with tls      (one task reads and writes)
//! ```
//!
//! Text and options in, sockets out. What travels on them is for `wire` and the wings above.
//! Every error says what was tried, on which address, and what an operator can do.

pub mod address;
pub mod client;
mod insecure;
pub mod limits;
pub mod listen;
pub mod stream;
pub mod target;
pub mod tls;

use std::io;

/// The text of an I/O error without Rust's ` (os error 98)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text.chars().take(end).collect(),
        _ => text,
    }
}
