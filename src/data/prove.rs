//! A reply was stored: when may it be served? In: the PTTLs behind cached reads, and canaries of
//! links. Out: entries that are servable from now on, or gone.
//!
//! ```text
//!   stored --PTTL--> how long it lives --canary--> its link has kept its order --> servable
//! ```
//!
//! Without a PTTL (nil, `ttl_probe = "never"`) only the canary is waited for; with `verify = "off"`
//! there is none.

use crate::cache::{Entry, Policy, Reply, Token};
use crate::command::replies;
use crate::data::consult;
use crate::data::order::Frame;
use crate::data::settle::{Desk, Fault};
use crate::data::upstream::{Held, Kind, Pipeline, Ticket};
use crate::stats::Counter;
use crate::wire::reply;
use std::rc::Rc;

/// A reply that is stored and needs no PTTL.
pub fn unprobed(
    link: &mut Pipeline,
    hash: u64,
    entry: Entry,
    (token, policy): (&Token, &Policy),
    desk: &Desk<'_>,
) {
    let ttl = if entry.reply() == Reply::Nil { policy.negative_ttl } else { policy.ttl };
    settle(link, Held { hash, entry, token: *token, ttl, pttl: -1 }, desk);
}

/// The PTTL of a read whose value was stored (or was refused meanwhile).
pub fn read(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    check(frame)?;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { spec, kind: Kind::Read(read), .. }) = link.pop(|_| {}) else {
        return Err(Fault::Stray);
    };
    let (Some(entry), Some(token)) = (read.unproved, read.token) else {
        return Ok(());
    };
    let policy = consult::policy(desk.shared, spec, snapshot.rules.get(read.rule));
    // An error (-LOADING, -BUSY, -NOPERM) proves nothing: as if the key had no time left.
    let pttl = reply::integer(frame.bytes()).unwrap_or(-2);
    // "No such key", twice: of that a negative life is proved, as of nil.
    let is_absence = frame.bytes() == b":-2\r\n" && replies::of_no_key(spec, entry.as_ref());
    let (ttl, pttl) = if is_absence && policy.negative_ttl > 0 {
        (policy.negative_ttl, -1)
    } else {
        (policy.ttl, pttl)
    };
    settle(link, Held { hash: read.hash, entry, token, ttl, pttl }, desk);
    Ok(())
}

/// The PTTL of one of an MGET's keys.
pub fn part(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    check(frame)?;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { kind: Kind::Parts(parts), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let index = parts.probes.pop_front();
    let is_last = parts.probes.is_empty();
    let proved = index.and_then(|index| parts.asked.get_mut(index)).and_then(|part| {
        let (entry, token) = (part.unproved.take()?, part.token?);
        let ttl = snapshot.rules.get(part.rule).ttl_ns;
        let pttl = reply::integer(frame.bytes()).unwrap_or(-2);
        Some(Held { hash: part.hash, entry, token, ttl, pttl })
    });
    if is_last {
        link.pop(|_| {});
    }
    if let Some(held) = proved {
        settle(link, held, desk);
    }
    Ok(())
}

/// A canary has come back, or something else has.
pub fn canary(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    link.pop(|_| {});
    for held in link.canary.heard(frame.bytes())? {
        conclude(&held, desk);
    }
    Ok(())
}

/// What was stored and whose life is known: servable now, or when the canary has come.
#[inline]
fn settle(link: &mut Pipeline, held: Held, desk: &Desk<'_>) {
    if link.verifies() {
        link.canary.hold(held);
    } else {
        conclude(&held, desk);
    }
}

#[inline]
fn conclude(held: &Held, desk: &Desk<'_>) {
    let Held { hash, entry, token, ttl, pttl } = held;
    let outcome = match (desk.shared.cache.prove(*hash, entry, token, *ttl, *pttl), pttl) {
        (true, _) => Counter::StoreStored,
        (false, -2 | 0) => Counter::StoreShortTtl,
        (false, _) => Counter::StoreRaced,
    };
    desk.block.add(outcome, 1);
}

/// PTTL answers an integer or an error; anything else belongs to another request.
fn check(frame: &Frame<'_>) -> Result<(), Fault> {
    match frame.bytes().first() {
        Some(b':' | b'-') => Ok(()),
        _ => Err(Fault::Shape),
    }
}
