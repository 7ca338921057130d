//! Answers of what stands in for upstream while that is down (`[fallback]`): they are counted, and
//! leave nothing in the cache.
//!
//! In: an answer on a link that leads there, and the ticket at its front. Out: it is told, or what
//! the near-cache still holds is told instead. What the near-cache holds of a key is forgotten when
//! a write of it was made there, as upstream's answer to a write would have it; a refused one
//! changes nothing, and a read brings nothing that would be kept.

use crate::command::Spec;
use crate::data::order::Frame;
use crate::data::pinned::Step;
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket};
use crate::data::{shadow, stale};
use crate::embedded;
use crate::live::{Live, Server};
use crate::stats::Counter;
use bytes::Bytes;

/// Why nothing is flushed.
pub const NOT_FLUSHED: &[u8] =
    b"ERR proxy: not executed: upstream is down, and the fallback flushes nothing";

/// Who answers a client that asks: upstream, or what stands in for it where it never was reached.
#[cold]
pub fn server(live: &Live) -> Option<Server> {
    let stand_in = || Server {
        name: "redis".to_owned(),
        version: embedded::VERSION.to_owned(),
        role: "master".to_owned(),
    };
    live.server().or_else(|| live.fallback.is_active().then(stand_in))
}

/// An answer to the ticket at the front.
#[cold]
pub fn settle(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let Some(ticket) = link.front() else {
        return Err(Fault::Stray);
    };
    if let Kind::Shadow(shadow) = &ticket.kind {
        shadow::lost(shadow);
        link.discard_front();
        return Ok(());
    }
    // What was asked before nobody has looked for among what is past its time.
    let is_early = is_read(ticket) && ticket.asked_at < desk.shared.live.fallback.since();
    let kept = if is_early { stale::instead_of_answer(link, desk) } else { None };
    if let Some(kept) = kept {
        return tell_kept(link, &kept, desk);
    }
    count(link, frame, desk);
    settle::answer(link, frame, desk)
}

/// Tells what is kept instead, as if it had been the answer.
fn tell_kept(link: &mut Pipeline, kept: &Bytes, desk: &mut Desk<'_>) -> Result<(), Fault> {
    if let Some(ticket) = link.front() {
        if let Kind::Read(read) = &mut ticket.kind
            && std::mem::take(&mut read.is_published)
        {
            let reason = Counter::StaleFallback;
            let abroad = desk.shared.flights.land_stale(read.flight, reason, kept);
            desk.block.command(ticket.spec.index, false, abroad);
            desk.block.add(reason, abroad);
            desk.block.add(Counter::FallbackReadOk, abroad);
        }
        for waiter in ticket.client().into_iter().chain(ticket.joined.iter().copied()) {
            desk.block.add(Counter::StaleFallback, 1);
            desk.block.add(Counter::FallbackReadOk, 1);
            if desk.clients.is_last_out(waiter)
                && let Some(session) = desk.clients.session(waiter.client)
            {
                session.standing.turn_stale(Counter::StaleFallback);
            }
        }
    }
    settle::answer(link, &Frame::Shared(kept), desk)
}

/// True if the answer to the ticket at the front tells of no change.
pub fn changes_nothing(link: &mut Pipeline, frame: &Frame<'_>) -> bool {
    frame.bytes().first() == Some(&b'-') || link.front().is_some_and(|front| !front.spec.writes())
}

fn is_read(ticket: &Ticket) -> bool {
    match &ticket.kind {
        Kind::Read(read) => !read.is_answered,
        Kind::Parts(parts) => !parts.is_answered,
        _ => false,
    }
}

/// Counts clients of other workers who have joined a read and are told its answer.
pub fn count_abroad(spec: &Spec, frame: &Frame<'_>, clients: u64, desk: &Desk<'_>) {
    desk.block.add(counter(spec, frame), clients);
}

/// Counts what clients asked, once.
fn count(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) {
    let Some(ticket) = link.front() else { return };
    let is_asked = match &ticket.kind {
        Kind::Read(_) | Kind::Parts(_) => is_read(ticket),
        Kind::Own(step) => !matches!(**step, Step::Silent(_)),
        Kind::Canary | Kind::Shadow(_) | Kind::Walk(_) => false,
        _ => true,
    };
    if is_asked {
        let clients = u64::from(ticket.client().is_some()) + ticket.joined.len() as u64;
        desk.block.add(counter(ticket.spec, frame), clients);
    }
}

fn counter(spec: &Spec, frame: &Frame<'_>) -> Counter {
    let is_refused = frame.bytes().first() == Some(&b'-');
    match (spec.writes(), is_refused) {
        (false, false) => Counter::FallbackReadOk,
        (false, true) => Counter::FallbackReadRefused,
        (true, false) => Counter::FallbackWriteOk,
        (true, true) => Counter::FallbackWriteRefused,
    }
}
