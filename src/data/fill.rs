//! What an answer leaves in the cache, and from when on that may be served. In: values of cached
//! reads, the PTTLs behind them, and canaries of links. Out: entries that are servable, or gone.
//!
//! ```text
//!   value --> stored --PTTL--> how long it lives --canary--> its link has kept its order: servable
//! ```
//!
//! Before the PTTL of a read that names hash fields, where those end on their own, comes their
//! HPTTL ([`fields`]).
//! Without a PTTL (nil, `ttl_probe = "never"`) only the canary is waited for; with `verify = "off"`
//! there is none.

use crate::cache::{Cache, Entry, Filled, Policy, Reply, Space, Token};
use crate::command::{Flags, ReplyShape, Spec, replies};
use crate::data::fields::Fields;
use crate::data::order::Frame;
use crate::data::refresh::End;
use crate::data::settle::{Desk, Fault};
use crate::data::upstream::{Held, Kind, Parts, Pipeline, Read, Ticket};
use crate::data::{Shared, consult, fields, split, stale};
use crate::rules::{Rule, Rules};
use crate::snapshot::Snapshot;
use crate::stats::Counter;
use crate::units::mutant::{self, Mutant};
use crate::wire::reply;
use std::rc::Rc;

/// A reply that names this key and does not fill it is about to be seen (R4).
#[inline]
pub fn forget(cache: &Cache, hash: u64) -> bool {
    !mutant::active(Mutant::NoAckInvalidate) && cache.invalidate(hash)
}

/// The value of a read: stored or not. What is stored and needs no PTTL is answered.
pub fn value(
    read: &mut Read,
    spec: &'static Spec,
    text: &[u8],
    frame: &Frame<'_>,
    rule: &Rule,
    desk: &Desk<'_>,
) -> Option<Held> {
    let shared = desk.shared;
    if read.token.is_some() || !rule.may_cache() {
        let key = || text.get(..read.key_len as usize).unwrap_or_default();
        desk.block.fetched(read.hash, frame.bytes().len(), key);
    }
    let reply = as_reply(spec, frame.bytes());
    let (Some(token), Some(stored), true) = (read.token, reply, read.fills) else {
        not_stored(read, reply, rule, desk);
        return None;
    };
    let question = read.question(spec, text);
    let policy = consult::policy(shared, spec, rule);
    let filled = shared.cache.fill(&question, &token, &policy, stored);
    if policy.whole_key && shared.cache.tracking().is_barrier_wanted() {
        shared.live.want_barrier();
    }
    if let Some(refresh) = &read.refresh {
        let is_stored = matches!(filled, Filled::Stored(_));
        refresh.count(if is_stored { End::Ok } else { End::Dropped }, desk.block);
    }
    match filled {
        Filled::Stored(entry) if stored == Reply::Nil || !rule.ttl_probe => {
            return Some(unprobed(shared, read.hash, entry, token, policy));
        }
        Filled::Stored(entry) => read.unproved = Some(entry),
        refused => desk.block.add(reason(&refused), 1),
    }
    None
}

/// A reply that may not be stored, or need not.
fn not_stored(read: &Read, stored: Option<Reply<'_>>, rule: &Rule, desk: &Desk<'_>) {
    if read.fills && stored.is_none() {
        desk.block.add(Counter::StoreErrorReply, 1);
    }
    stale::count_failed(read, desk);
    if read.token.is_some() || rule.may_cache() {
        forget(&desk.shared.cache, read.hash);
    }
}

/// The values of several keys. What is stored and needs no PTTL is answered.
pub fn parts(
    parts: &mut Parts,
    fetched: reply::Elements<'_>,
    (mget, space): (&Spec, Space),
    rules: &Rules,
    desk: &Desk<'_>,
) -> Vec<Held> {
    let (shared, mut all_unprobed) = (desk.shared, Vec::new());
    for (part, bytes) in parts.asked.iter_mut().zip(fetched) {
        desk.block.fetched(part.hash, bytes.len(), || &part.key);
        let (Some(token), Some(stored), true) = (part.token, as_reply(mget, bytes), part.fills)
        else {
            shared.cache.invalidate(part.hash);
            continue;
        };
        let command = if stored == Reply::Nil { mget.index } else { shared.get.index };
        let question = split::question(&part.key, part.hash, command, space);
        let rule = rules.get(part.rule);
        let policy = consult::policy(shared, shared.get, rule);
        match shared.cache.fill(&question, &token, &policy, stored) {
            Filled::Stored(entry) if stored == Reply::Nil || !rule.ttl_probe => {
                all_unprobed.push(unprobed(shared, part.hash, entry, token, policy));
            }
            Filled::Stored(entry) => part.unproved = Some(entry),
            refused => desk.block.add(reason(&refused), 1),
        }
    }
    all_unprobed
}

/// A reply that is stored and needs no PTTL.
fn unprobed(shared: &Shared, hash: u64, entry: Entry, token: Token, policy: Policy) -> Held {
    let policy = if entry.reply() == Reply::Nil { of_absence(policy) } else { policy };
    let life = shared.cache.life(hash, &token, &policy, -1);
    Held { hash, entry, token, life }
}

/// How long it is believed that there is nothing.
fn of_absence(policy: Policy) -> Policy {
    Policy { ttl: policy.negative_ttl, refresh_ahead: 0, ..policy }
}

/// The PTTL of a read whose value was stored (or was refused meanwhile).
pub fn proof(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    check(frame)?;
    let held = match link.front_read() {
        Some((Ticket { kind: Kind::Read(read), spec, .. }, _, snapshot)) => {
            proved(read, spec, frame, snapshot, desk)
        }
        _ => None,
    };
    link.discard_front();
    if let Some(held) = held {
        settle(link, held, desk);
    }
    Ok(())
}

/// What is held of a read whose PTTL has come.
fn proved(
    read: &mut Read,
    spec: &'static Spec,
    frame: &Frame<'_>,
    snapshot: &Snapshot,
    desk: &Desk<'_>,
) -> Option<Held> {
    let (entry, token) = (read.unproved.take()?, read.token?);
    let rule = snapshot.rules.get(read.rule);
    let mut policy = consult::policy(desk.shared, spec, rule);
    let mut pttl = pttl(frame);
    if let Fields::Known(life) = read.fields {
        (policy.ttl, pttl) = (rule.ttl_ns, fields::sooner(pttl, life));
    }
    // "No such key", twice: of that a negative life is proved, as of nil.
    if frame.bytes() == NO_KEY
        && policy.negative_ttl > 0
        && replies::of_no_key(spec, entry.as_ref())
    {
        (policy, pttl) = (of_absence(policy), -1);
    }
    let life = desk.shared.cache.life(read.hash, &token, &policy, pttl);
    Some(Held { hash: read.hash, entry, token, life })
}

/// PTTL's answer where there is no such key.
const NO_KEY: &[u8] = b":-2\r\n";

/// And of a key that does not end, as most.
const NO_END: &[u8] = b":-1\r\n";

/// What PTTL says. An error (-LOADING, -BUSY, -NOPERM) proves nothing: as if no time were left.
#[inline]
fn pttl(frame: &Frame<'_>) -> i64 {
    let is_endless = frame.bytes() == NO_END;
    if is_endless { -1 } else { reply::integer(frame.bytes()).unwrap_or(-2) }
}

/// The PTTL of one of an MGET's keys.
pub fn part_proof(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    check(frame)?;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { kind: Kind::Parts(parts), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let index = parts.probes.pop_front();
    let is_last = parts.probes.is_empty();
    let proved = index.and_then(|index| parts.asked.get_mut(index)).and_then(|part| {
        let (entry, token) = (part.unproved.take()?, part.token?);
        let rule = snapshot.rules.get(part.rule);
        let policy = consult::policy(desk.shared, desk.shared.get, rule);
        let pttl = pttl(frame);
        let life = desk.shared.cache.life(part.hash, &token, &policy, pttl);
        Some(Held { hash: part.hash, entry, token, life })
    });
    if is_last {
        link.discard_front();
    }
    if let Some(held) = proved {
        settle(link, held, desk);
    }
    Ok(())
}

/// A canary has come back, or something else has.
pub fn canary(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    link.discard_front();
    for held in link.canary.heard(frame.bytes())? {
        conclude(&held, desk);
    }
    Ok(())
}

/// What was stored and whose life is known: servable now, or when the canary has come.
#[inline]
pub fn settle(link: &mut Pipeline, held: Held, desk: &Desk<'_>) {
    if link.verifies() && !mutant::active(Mutant::NoCanary) {
        link.canary.hold(held);
    } else {
        conclude(&held, desk);
    }
}

#[inline]
fn conclude(held: &Held, desk: &Desk<'_>) {
    let Held { hash, entry, token, life } = held;
    let outcome = match (desk.shared.cache.let_live(*hash, entry, token, *life), life) {
        (true, _) => Counter::StoreStored,
        (false, None) => Counter::StoreShortTtl,
        (false, Some(_)) => Counter::StoreRaced,
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

/// A reply as it may be stored; `None` if it may not.
///
/// Nil is stored as a mark, and served as `$-1` or `_`. RESP2's other nil, `*-1`, is stored as it
/// stands, where each protocol has its own replies. Where both share one, a type of RESP3 only is
/// not what the table says: it is not stored, nor is a nil among replies that have none.
#[inline]
fn as_reply<'b>(spec: &Spec, bytes: &'b [u8]) -> Option<Reply<'b>> {
    let is_shared = spec.shape != ReplyShape::Differs;
    match bytes.first()? {
        b'-' | b'!' => None,
        _ if reply::is_null(bytes) => match (spec.shape, bytes.first()) {
            (ReplyShape::Same, _) => None,
            (_, Some(b'$' | b'_')) => Some(Reply::Nil),
            (ReplyShape::SameButNull, _) => None,
            (ReplyShape::Differs, _) => Some(Reply::Bytes(bytes)),
        },
        b'+' | b':' | b'$' | b'*' => Some(Reply::Bytes(bytes)),
        _ if is_shared => None,
        _ => Some(Reply::Bytes(bytes)),
    }
    // Modules may answer an error for one of several; the server's own commands do not.
    .filter(|_| !spec.flags.has(Flags::MODULE) || !has_error(bytes))
}

#[cold]
fn has_error(bytes: &[u8]) -> bool {
    reply::elements(bytes).any(|element| matches!(element.first(), Some(b'-' | b'!')))
}

fn reason(filled: &Filled) -> Counter {
    match filled {
        Filled::Stored(_) => Counter::StoreStored,
        Filled::Raced => Counter::StoreRaced,
        Filled::TooLarge => Counter::StoreTooLarge,
        Filled::Nil => Counter::StoreNil,
        Filled::Full => Counter::StoreNotAdmitted,
    }
}
