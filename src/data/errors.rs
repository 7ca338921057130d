//! What upstream's errors say of upstream itself.
//!
//! In: errors, as they are handed on. Out: counters, and the doubt that the server is still the one
//! that was meant.

use crate::data::settle::Desk;
use crate::stats::Counter;

/// Counts an error that upstream has answered with, on a link of nearside's own credentials
/// (`is_own`) or of a user's.
pub fn count(bytes: &[u8], is_own: bool, desk: &Desk<'_>) {
    let text = bytes.get(1..).unwrap_or_default();
    let word = text.split(|&byte| byte == b' ' || byte == b'\r').next().unwrap_or_default();
    desk.block.add(Counter::upstream_error(word), 1);
    match word {
        b"READONLY" => doubt_primary(desk),
        b"NOAUTH" if is_own => doubt_login(desk),
        _ => {}
    }
}

/// A link that has logged in is not let in any more: each new one logs in anew, or is told why not.
#[cold]
fn doubt_login(desk: &Desk<'_>) {
    let dialer = &desk.shared.dialer;
    if dialer.switch.doubt(desk.now) {
        tracing::warn!(
            event = "upstream_reconnecting",
            upstream = %dialer.target,
            "the server does not know nearside any more: all links are opened anew"
        );
    }
}

/// The server takes no writes. If it was a primary when it was met, its address may lead elsewhere
/// by now; one that was a replica from the start is what its operator wants.
#[cold]
fn doubt_primary(desk: &Desk<'_>) {
    let (live, dialer) = (&desk.shared.live, &desk.shared.dialer);
    let was_primary = live.server().is_some_and(|server| server.role == "master");
    if was_primary && dialer.switch.doubt(desk.now) {
        tracing::warn!(
            event = "upstream_reconnecting",
            upstream = %dialer.target,
            "the server takes no writes any more: all links are opened anew"
        );
    }
}
