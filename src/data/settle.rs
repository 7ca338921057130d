//! An answer came: first the cache (fill or invalidate, R3 and R4), then the clients.
//!
//! The order is the point: once a client has seen a reply, no client may be served anything older
//! from here. Every answer that names a key and does not fill it invalidates it.

use crate::cache::Space;
use crate::command::{Class, Spec, replies};
use crate::config::OnDown;
use crate::data::fields::Fields;
use crate::data::lost::Lost;
use crate::data::order::Frame;
use crate::data::output::SHARE_MIN;
use crate::data::pinned::{Step, answer, exec, notice};
use crate::data::slow::Key;
use crate::data::upstream::{ClientId, Kind, Pipeline, Read, Ticket, Waiter, take_shared};
use crate::data::worker::{Clients, bulk};
use crate::data::{
    Shared, barrier, errors, fallback, fields, fill, script, shadow, split, stale, walk,
};
use crate::keys::Names;
use crate::stats::{Block, Counter, Outcome};
use crate::units::clock::Tick;
use crate::units::mutant::{self, Mutant};
use crate::wire::write::Proto;
use crate::wire::{reply, write};
use bytes::{Buf, BytesMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Why a link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What it sends is not RESP.
    #[error("upstream does not speak RESP: {0}")]
    Malformed(#[from] reply::Malformed),
    /// An answer that nobody asked for: from here on no answer can be trusted.
    #[error("upstream sent an answer that nobody asked for")]
    Stray,
    /// An answer of a shape that the request cannot have.
    #[error("upstream's answer does not fit the request")]
    Shape,
    /// The number that should come back at this place has not: an answer was lost, or is one too
    /// many.
    #[error("upstream's answers are not in the order of the requests (cache.verify)")]
    Canary,
    /// A type of RESP3 on a link of RESP2, whose clients cannot read it.
    #[error("upstream speaks RESP3 on a link of RESP2")]
    Proto,
}

/// What settling may use.
#[derive(Debug)]
pub struct Desk<'w> {
    /// This worker's clients.
    pub clients: &'w mut Clients,
    /// What all workers share.
    pub shared: &'w Shared,
    /// This worker's counters.
    pub block: &'w Block,
    /// Scratch for rewritten replies.
    pub scratch: &'w mut BytesMut,
    /// Walks that go on in another database, whose link this is not, and EXECs to be sent.
    pub moved: Vec<(Space, Ticket)>,
    /// Clients that were given big answers by a shared link.
    pub big: Vec<ClientId>,
    /// When the bytes were read.
    pub now: Tick,
    /// The key of the answer that is looked at, if that took long.
    slow_key: Option<Key>,
}

impl<'w> Desk<'w> {
    /// For answers whose bytes were read at `now`.
    pub const fn new(
        clients: &'w mut Clients,
        shared: &'w Shared,
        block: &'w Block,
        scratch: &'w mut BytesMut,
        now: Tick,
    ) -> Self {
        Self {
            clients,
            shared,
            block,
            scratch,
            moved: Vec::new(),
            big: Vec::new(),
            now,
            slow_key: None,
        }
    }
}

/// Pairs every complete answer in the link's input with its ticket.
pub fn settle(link: &mut Pipeline, desk: &mut Desk<'_>) -> Result<(), Fault> {
    if link.is_strict() {
        return settle_verified(link, desk);
    }
    settle_all(link, desk)
}

/// As [`settle`], but nothing behind the last canary that has come.
#[cold]
fn settle_verified(link: &mut Pipeline, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let verified = link.canary.verified(&link.input)?;
    let unverified = link.input.split_off(verified);
    settle_all(link, desk)?;
    link.canary.settled(verified);
    link.input.unsplit(unverified);
    Ok(())
}

fn settle_all(link: &mut Pipeline, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let mut input = std::mem::take(&mut link.input);
    let mut at = 0;
    let result = loop {
        let unread = input.get(at..).unwrap_or_default();
        let length = match link.next_reply(unread) {
            Ok(Some(length)) => length,
            Ok(None) => break Ok(()),
            Err(malformed) => break Err(malformed.into()),
        };
        let (shared, step);
        let frame = if length >= SHARE_MIN {
            input.advance(at);
            (at, step) = (0, 0);
            shared = take_shared(&mut input, length);
            if length >= bulk::BIG {
                bulk::note(link, desk);
            }
            Frame::Shared(&shared)
        } else {
            step = length;
            Frame::Borrowed(unread.get(..length).unwrap_or_default())
        };
        if let Err(fault) = pair(link, &frame, desk) {
            break Err(fault);
        }
        at += step;
    };
    input.advance(at);
    link.input = input;
    result
}

#[inline]
fn pair(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let kind = frame.bytes().first().copied();
    if link.proto == Proto::Resp2 && is_of_resp3(kind) && !link.is_turning() {
        return Err(Fault::Proto);
    }
    let is_odd = kind == Some(b'>') || link.pin.is_some();
    if is_odd && notice::take(link, frame.bytes(), desk) {
        return Ok(());
    }
    if mutant::active(Mutant::ForgetSlot) {
        forget_the_gone(link, desk);
    }
    if !link.front_is_sent() {
        return Err(Fault::Stray);
    }
    // A canary before its place: answers were lost.
    let is_canary = link.canary.is_answer(frame.bytes());
    if is_canary && !matches!(link.front().map(|ticket| &ticket.kind), Some(Kind::Canary)) {
        return Err(Fault::Canary);
    }
    if link.is_detour {
        return fallback::settle(link, frame, desk);
    }
    if kind == Some(b'-') {
        desk.block.add(Counter::UpstreamError, 1);
        errors::count(frame.bytes(), link.identity.is_none(), desk);
        return error(link, frame, desk);
    }
    desk.block.add(Counter::UpstreamOk, 1);
    by_kind(link, frame, desk)
}

/// An answer that is not upstream's, to the ticket at the front.
#[cold]
pub fn answer(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    match frame.bytes().first() {
        Some(b'-') => error(link, frame, desk),
        _ => by_kind(link, frame, desk),
    }
}

/// True for what only RESP3 has.
#[inline]
const fn is_of_resp3(kind: Option<u8>) -> bool {
    matches!(kind, Some(b'>' | b'_' | b'%' | b'~' | b',' | b'#' | b'(' | b'=' | b'!' | b'|'))
}

/// A fault on purpose: who has gone has no place in the order of answers.
#[cold]
fn forget_the_gone(link: &mut Pipeline, desk: &mut Desk<'_>) {
    while link.front_is_sent()
        && link.front().is_some_and(|ticket| desk.clients.session(ticket.owner.client).is_none())
    {
        link.discard_front();
    }
}

#[cold]
fn error(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let read = link.front().filter(|ticket| matches!(ticket.kind, Kind::Read(_) | Kind::Parts(_)));
    match read {
        Some(ticket) => {
            let spec = ticket.spec;
            let names = &link.snapshot_of_front().names;
            if names.is_empty() {
                return by_kind(link, frame, desk);
            }
            let clean = without_prefix(spec, frame.bytes(), names);
            by_kind(link, &Frame::Borrowed(&clean), desk)
        }
        _ => by_kind(link, frame, desk),
    }
}

/// An error to a cached read: a server older than the table quotes the arguments of a command that
/// it does not know.
fn without_prefix(spec: &Spec, error: &[u8], names: &Names) -> BytesMut {
    let mut clean = BytesMut::new();
    if !replies::strip(spec.reply, names, None, error, &mut clean) {
        clean.extend_from_slice(error);
    }
    clean
}

/// An answer to the ticket at the front: of a read mostly.
#[inline]
fn by_kind(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let Some(Ticket { asked_at, .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    if desk.shared.slow.is_slow(desk.now.0.saturating_sub(asked_at.0)) {
        keep_key(link, desk);
    }
    let Some(Ticket { spec, kind, .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    match kind {
        Kind::Read(Read { is_answered: false, .. }) => {
            fits(spec, frame)?;
            value(link, frame, desk)
        }
        Kind::Read(Read { fields: Fields::Asked, .. }) => fields::hear(link, frame),
        Kind::Read(_) => fill::proof(link, frame, desk),
        _ => by_other_kind(link, frame, desk),
    }
}

fn by_other_kind(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let Some(Ticket { spec, kind, .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    match kind {
        Kind::Forward | Kind::Listed(_) | Kind::Edited(_) => {
            fits(spec, frame)?;
            forwarded(link, frame, desk);
            Ok(())
        }
        Kind::Read(_) => Err(Fault::Stray),
        Kind::Parts(parts) if parts.is_answered => fill::part_proof(link, frame, desk),
        Kind::Parts(_) => part_values(link, frame, desk),
        Kind::Canary => fill::canary(link, frame, desk),
        Kind::Shadow(_) => {
            fits(spec, frame)?;
            shadow::answer(link, frame, desk)
        }
        Kind::Walk(_) => walk::step(link, frame.bytes(), desk),
        Kind::Own(_) => answer::take(link, frame, desk),
        Kind::Script(_) => script::answer(link, frame, desk),
        Kind::Call(_) => script::called(link, frame, desk),
        Kind::Exec(_) => exec::heard(link, frame, desk),
    }
}

/// Keeps the key of the ticket at the front, whose answer took long: it is gone with its ticket.
#[cold]
fn keep_key(link: &Pipeline, desk: &mut Desk<'_>) {
    desk.slow_key = link.front_key().map(|(hash, name)| Key::new(hash, name));
}

/// An answer of a type that the command never gives belongs to another request.
#[inline]
fn fits(spec: &Spec, frame: &Frame<'_>) -> Result<(), Fault> {
    match frame.bytes().first() {
        Some(&first) if spec.answers.allow(first) => Ok(()),
        _ => Err(Fault::Shape),
    }
}

/// A command's own reply: its keys are invalidated, then it is delivered without its prefix.
#[inline]
pub fn forwarded(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) {
    let (mut named, mut removed) = (0, 0);
    let cache = &desk.shared.cache;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let is_spared = link.is_detour && fallback::changes_nothing(link, frame);
    let Some(ticket) = link.pop(|hash| {
        if is_spared {
            return;
        }
        named += 1;
        desk.block.written(hash);
        removed += u64::from(fill::forget(cache, hash));
    }) else {
        return;
    };
    if named > 0 {
        desk.block.add(Counter::InvalidationsWrite, named);
        desk.block.add(Counter::InvalidatedKeysWrite, removed);
    }
    if ticket.spec.writes_everything() && !is_spared {
        cache.clear();
        desk.block.add(Counter::FlushesFlushall, 1);
    }
    let names = &snapshot.names;
    let proto = link.proto;
    if let Kind::Edited(edit) = &ticket.kind {
        let mut text = std::mem::take(desk.scratch);
        edit.answer(frame.bytes(), proto, desk.shared, &mut text);
        deliver(&ticket, &Frame::Borrowed(&text), Outcome::Bypass, desk);
        text.clear();
        *desk.scratch = text;
    } else if names.is_empty() || !ticket.spec.reply.concerns(frame.bytes()) {
        deliver(&ticket, frame, Outcome::Bypass, desk);
    } else {
        let mut stripped = std::mem::take(desk.scratch);
        let pattern = match &ticket.kind {
            Kind::Listed(pattern) => Some(&**pattern),
            _ => None,
        };
        let rule = ticket.spec.reply;
        if !replies::strip(rule, names, pattern, frame.bytes(), &mut stripped) {
            write::null(&mut stripped, proto);
        }
        deliver(&ticket, &Frame::Borrowed(&stripped), Outcome::Bypass, desk);
        stripped.clear();
        *desk.scratch = stripped;
    }
}

/// The value of a cacheable read: stored or not, then delivered to all who wait.
fn value(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let (shared, is_detour) = (desk.shared, link.is_detour);
    let Some((ticket, text, snapshot)) = link.front_read() else {
        return Err(Fault::Stray);
    };
    let Kind::Read(read) = &mut ticket.kind else {
        return Err(Fault::Stray);
    };
    let rule = snapshot.rules.get(read.rule);
    let unprobed = if is_detour {
        stale::count_failed(read, desk);
        None
    } else {
        fill::value(read, ticket.spec, text, frame, rule, desk)
    };
    let expects_probe = read.fills && rule.ttl_probe;
    read.is_answered = true;
    let own = u64::from(read.refresh.is_none());
    let (flight, is_published) = (read.flight, std::mem::take(&mut read.is_published));
    let (owner, joined) = (ticket.owner, std::mem::take(&mut ticket.joined));
    let (asked_at, spec) = (ticket.asked_at, ticket.spec);
    link.land_front(flight);
    if let Some(held) = unprobed {
        fill::settle(link, held, desk);
    }
    if !expects_probe {
        link.discard_front();
    }
    let abroad = if is_published { shared.flights.land(flight, || frame.own()) } else { 0 };
    if is_detour {
        fallback::count_abroad(spec, frame, abroad, desk);
    }
    let took = desk.now.0.saturating_sub(asked_at.0);
    if own > 0 {
        time(desk, owner, spec, (took, Outcome::Miss));
    }
    let is_error = frame.bytes().first() == Some(&b'-');
    let coalesced = joined.len() as u64 + abroad;
    desk.block.command(spec.index, is_error, own + coalesced);
    if coalesced > 0 {
        desk.block.observe(Outcome::Coalesced, took, coalesced);
    }
    desk.clients.deliver(owner, frame);
    for waiter in joined {
        desk.clients.deliver(waiter, frame);
    }
    Ok(())
}

/// The values of an MGET's missing keys: each is stored or invalidated, then all are delivered.
fn part_values(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let (proto, space, is_detour) = (link.proto, link.space, link.is_detour);
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { owner, asked_at, spec, kind: Kind::Parts(parts), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let is_error = frame.bytes().first() == Some(&b'-');
    let fetched = reply::elements(frame.bytes());
    if !is_error && fetched.clone().count() != parts.asked.len() {
        return Err(Fault::Shape);
    }
    let mut unprobed = Vec::new();
    if is_detour {
        // Nothing of it is kept, and nothing that is kept is contradicted.
    } else if is_error {
        for part in &parts.asked {
            desk.shared.cache.invalidate(part.hash);
        }
    } else {
        unprobed = fill::parts(parts, fetched.clone(), (spec, space), &snapshot.rules, desk);
    }
    parts.is_answered = true;
    let whole = if is_error {
        BytesMut::from(frame.bytes())
    } else {
        split::assemble(&parts.values, fetched, proto)
    };
    let (owner, took) = (*owner, desk.now.0.saturating_sub(asked_at.0));
    let (is_done, spec) = (parts.probes.is_empty(), *spec);
    if is_done {
        link.discard_front();
    }
    for held in unprobed {
        fill::settle(link, held, desk);
    }
    desk.block.command(spec.index, is_error, 1);
    time(desk, owner, spec, (took, Outcome::Miss));
    desk.clients.deliver(owner, &Frame::Borrowed(&whole));
    Ok(())
}

/// Hands a reply to the one client that waits for it.
#[inline]
pub fn deliver(ticket: &Ticket, frame: &Frame<'_>, outcome: Outcome, desk: &mut Desk<'_>) {
    if ticket.is_opaque && barrier::hold(ticket, frame, outcome, desk) {
        return;
    }
    let (owner, asked_at) = (ticket.owner, ticket.asked_at);
    hand_over(owner, (ticket.spec, asked_at, outcome), frame, desk);
}

/// Counts a reply and hands it to its client.
#[inline]
pub fn hand_over(
    owner: Waiter,
    (spec, asked_at, outcome): (&'static Spec, Tick, Outcome),
    frame: &Frame<'_>,
    desk: &mut Desk<'_>,
) {
    let is_error = frame.bytes().first() == Some(&b'-');
    desk.block.command(spec.index, is_error, 1);
    let took = desk.now.0.saturating_sub(asked_at.0);
    time(desk, owner, spec, (took, outcome));
    desk.clients.deliver(owner, frame);
}

/// Counts how long, in nanoseconds, the answer to one client took.
#[inline]
fn time(desk: &mut Desk<'_>, owner: Waiter, spec: &'static Spec, (took, outcome): (u64, Outcome)) {
    desk.block.took(spec.index, took);
    desk.block.observe(outcome, took, 1);
    // What may wait is not slow when it does.
    if desk.shared.slow.is_slow(took) && spec.class != Class::Blocking {
        let client = desk.clients.session(owner.client).map(|session| Arc::clone(&session.client));
        let key = desk.slow_key.take();
        desk.shared.slow.note(spec.name, outcome, Duration::from_nanos(took), client, key);
    }
}

/// Fails the front ticket: what it names is invalidated (its outcome is unknown, A15), and its
/// clients are told as `on_down` says.
pub fn fail_front(link: &mut Pipeline, mut lost: Lost, desk: &mut Desk<'_>) {
    let kept = stale::instead(link, lost, desk);
    let (cache, proto) = (&desk.shared.cache, link.proto);
    let on_down = link.snapshot_of_front().limits.on_down;
    let Some(ticket) = link.pop(|hash| {
        cache.invalidate(hash);
    }) else {
        return;
    };
    if ticket.spec.writes_everything() {
        cache.clear();
    }
    match &ticket.kind {
        // What was answered is stored, and its proof will not come. Of what was not, nobody knows
        // more than before.
        Kind::Read(read) if read.is_answered => {
            cache.invalidate(read.hash);
            return;
        }
        Kind::Parts(parts) if parts.is_answered => {
            for part in &parts.asked {
                cache.invalidate(part.hash);
            }
            return;
        }
        Kind::Read(read) => {
            stale::count_failed(read, desk);
            if let Some(reply) = kept {
                return stale::deliver(ticket, &reply, desk);
            }
            if read.is_published {
                desk.shared.flights.crash(read.flight);
            }
        }
        Kind::Parts(_) => {
            if let Some(reply) = kept {
                return stale::deliver(ticket, &reply, desk);
            }
        }
        Kind::Walk(walk) if walk.has_changed() => lost = lost.in_part(),
        Kind::Own(step) => match **step {
            Step::Silent(_) => return,
            Step::Block => answer::unblocked(ticket.owner.client, desk),
            _ => {}
        },
        Kind::Edited(edit) if on_down == OnDown::Error => {
            let mut text = BytesMut::new();
            if edit.answer_alone(proto, desk.shared, &mut text) {
                return deliver(&ticket, &Frame::Borrowed(&text), Outcome::Local, desk);
            }
        }
        Kind::Call(_) => lost = lost.beforehand(),
        // The transaction is still open on another link: the connection ends with it.
        Kind::Exec(_) => {
            desk.block.command(ticket.spec.index, true, 1);
            let lost = Lost::NotExecuted("upstream is down");
            return desk.clients.fail(ticket.owner, lost, OnDown::Close);
        }
        Kind::Canary => return,
        Kind::Shadow(shadow) => return shadow::lost(shadow),
        Kind::Forward | Kind::Listed(_) | Kind::Edited(_) | Kind::Walk(_) | Kind::Script(_) => {}
    }
    let clients = u64::from(ticket.client().is_some()) + ticket.joined.len() as u64;
    desk.block.command(ticket.spec.index, true, clients);
    for waiter in std::iter::once(ticket.owner).chain(ticket.joined) {
        desk.clients.fail(waiter, lost, on_down);
    }
}
