//! An answer came: first the cache (fill or invalidate, R3 and R4), then the clients.
//!
//! The order is the point: once a client has seen a reply, no client may be served anything older
//! from here. Every answer that names a key and does not fill it invalidates it.

use crate::cache::{Cache, Extra, Filled, Question, Reply};
use crate::command::{Flags, ReplyShape, Spec, replies};
use crate::config::OnDown;
use crate::data::order::Frame;
use crate::data::output::SHARE_MIN;
use crate::data::pinned::{Step, answer, exec, notice};
use crate::data::upstream::{Kind, Parts, Pipeline, Ticket};
use crate::data::worker::Clients;
use crate::data::{Shared, consult, script, split, walk};
use crate::keys::Prefix;
use crate::rules::Rules;
use crate::stats::{Block, Counter, Outcome};
use crate::units::clock::Tick;
use crate::units::mutant::{self, Mutant};
use crate::wire::write::Proto;
use crate::wire::{reply, write};
use bytes::{Buf, BytesMut};
use std::rc::Rc;

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
    pub moved: Vec<(u32, Ticket)>,
    /// When the bytes were read.
    pub now: Tick,
}

/// Pairs every complete answer in the link's input with its ticket.
pub fn settle(link: &mut Pipeline, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let mut input = std::mem::take(&mut link.input);
    let mut at = 0;
    let result = loop {
        let unread = input.get(at..).unwrap_or_default();
        match link.next_reply(unread) {
            Ok(Some(length)) if length >= SHARE_MIN => {
                input.advance(at);
                at = 0;
                let frame = input.split_to(length).freeze();
                if let Err(fault) = pair(link, &Frame::Shared(&frame), desk) {
                    break Err(fault);
                }
            }
            Ok(Some(length)) => {
                let frame = Frame::Borrowed(unread.get(..length).unwrap_or_default());
                if let Err(fault) = pair(link, &frame, desk) {
                    break Err(fault);
                }
                at += length;
            }
            Ok(None) => break Ok(()),
            Err(malformed) => break Err(malformed.into()),
        }
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
    if kind == Some(b'-') {
        return error(link, frame, desk);
    }
    desk.block.add(Counter::UpstreamOk, 1);
    by_kind(link, frame, desk)
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
        link.pop(|_| {});
    }
}

#[cold]
fn error(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    desk.block.add(Counter::UpstreamError, 1);
    count_error(frame.bytes(), desk);
    let read = link.front().filter(|ticket| matches!(ticket.kind, Kind::Read(_) | Kind::Parts(_)));
    match read {
        Some(ticket) => {
            let spec = ticket.spec;
            let prefix = &link.snapshot_of_front().prefix;
            if prefix.is_empty() {
                return by_kind(link, frame, desk);
            }
            let clean = without_prefix(spec, frame.bytes(), prefix);
            by_kind(link, &Frame::Borrowed(&clean), desk)
        }
        _ => by_kind(link, frame, desk),
    }
}

/// An error to a cached read: a server older than the table quotes the arguments of a command that
/// it does not know.
fn without_prefix(spec: &Spec, error: &[u8], prefix: &Prefix) -> BytesMut {
    let mut clean = BytesMut::new();
    if !replies::strip(spec.reply, prefix.as_bytes(), error, &mut clean) {
        clean.extend_from_slice(error);
    }
    clean
}

/// An answer to the ticket at the front.
#[inline]
fn by_kind(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    match link.front().map(|ticket| &ticket.kind) {
        None => Err(Fault::Stray),
        Some(Kind::Forward | Kind::Edited(_)) => {
            forwarded(link, frame, desk);
            Ok(())
        }
        Some(Kind::Read(read)) if read.is_answered => proof(link, frame, desk),
        Some(Kind::Read(_)) => value(link, frame, desk),
        Some(Kind::Parts(parts)) if parts.is_answered => part_proof(link, frame, desk),
        Some(Kind::Parts(_)) => part_values(link, frame, desk),
        Some(Kind::Walk(_)) => walk::step(link, frame.bytes(), desk),
        Some(Kind::Own(_)) => answer::take(link, frame, desk),
        Some(Kind::Script(_)) => script::answer(link, frame, desk),
        Some(Kind::Call(_)) => script::called(link, frame, desk),
        Some(Kind::Exec(_)) => exec::heard(link, frame, desk),
    }
}

/// A command's own reply: its keys are invalidated, then it is delivered without its prefix.
#[inline]
pub fn forwarded(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) {
    let (mut named, mut removed) = (0, 0);
    let cache = &desk.shared.cache;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(ticket) = link.pop(|hash| {
        named += 1;
        desk.block.written(hash);
        removed += u64::from(forget(cache, hash));
    }) else {
        return;
    };
    if named > 0 {
        desk.block.add(Counter::InvalidationsWrite, named);
        desk.block.add(Counter::InvalidatedKeysWrite, removed);
    }
    if ticket.spec.writes_everything() {
        cache.clear();
        desk.block.add(Counter::FlushesFlushall, 1);
    }
    let prefix = &snapshot.prefix;
    let proto = link.proto;
    if let Kind::Edited(edit) = &ticket.kind {
        let mut text = std::mem::take(desk.scratch);
        edit.answer(frame.bytes(), proto, desk.shared, &mut text);
        deliver(&ticket, &Frame::Borrowed(&text), Outcome::Bypass, desk);
        text.clear();
        *desk.scratch = text;
    } else if prefix.is_empty() || !ticket.spec.reply.concerns(frame.bytes()) {
        deliver(&ticket, frame, Outcome::Bypass, desk);
    } else {
        let mut stripped = std::mem::take(desk.scratch);
        let rule = ticket.spec.reply;
        if !replies::strip(rule, prefix.as_bytes(), frame.bytes(), &mut stripped) {
            write::null(&mut stripped, proto);
        }
        deliver(&ticket, &Frame::Borrowed(&stripped), Outcome::Bypass, desk);
        stripped.clear();
        *desk.scratch = stripped;
    }
}

/// A reply that names this key and does not fill it is about to be seen (R4).
#[inline]
fn forget(cache: &Cache, hash: u64) -> bool {
    !mutant::active(Mutant::NoAckInvalidate) && cache.invalidate(hash)
}

/// The value of a cacheable read: stored or not, then delivered to all who wait.
fn value(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let shared = desk.shared;
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some((ticket, text)) = link.front_read() else {
        return Err(Fault::Stray);
    };
    let Kind::Read(read) = &mut ticket.kind else {
        return Err(Fault::Stray);
    };
    let rule = snapshot.rules.get(read.rule);
    let expects_probe = read.fills && rule.ttl_probe;
    if read.token.is_some() || !rule.may_cache() {
        let key = || text.get(..read.key_len as usize).unwrap_or_default();
        desk.block.fetched(read.hash, frame.bytes().len(), key);
    }
    match (&read.token, as_reply(ticket.spec, frame.bytes())) {
        (Some(token), Some(stored)) if read.fills => {
            let (key, extra) = text.split_at_checked(read.key_len as usize).unwrap_or_default();
            let question = Question {
                key,
                hash: read.hash,
                command: ticket.spec.index,
                db: read.db,
                proto: read.proto,
                extra: Extra::Written(extra),
            };
            let policy = consult::policy(shared, ticket.spec, rule);
            match shared.cache.fill(&question, token, &policy, stored) {
                Filled::Stored(entry) if stored == Reply::Nil => drop(entry),
                Filled::Stored(entry) if expects_probe => read.unproved = Some(entry),
                Filled::Stored(entry) => {
                    shared.cache.prove(read.hash, &entry, token, policy.ttl, -1);
                    desk.block.add(Counter::StoreStored, 1);
                }
                refused => desk.block.add(reason(&refused), 1),
            }
        }
        (token, stored) => {
            if token.is_some() && stored.is_none() {
                desk.block.add(Counter::StoreErrorReply, 1);
            }
            if token.is_some() || rule.may_cache() {
                forget(&shared.cache, read.hash);
            }
        }
    }
    read.is_answered = true;
    let (flight, is_published) = (read.flight, std::mem::take(&mut read.is_published));
    let (owner, joined) = (ticket.owner, std::mem::take(&mut ticket.joined));
    let (asked_at, index) = (ticket.asked_at, ticket.spec.index);
    link.land_front();
    if !expects_probe {
        link.pop(|_| {});
    }
    let abroad = if is_published { shared.flights.land(flight, || frame.own()) } else { 0 };
    let took = desk.now.0.saturating_sub(asked_at.0);
    desk.block.observe(Outcome::Miss, took, 1);
    let is_error = frame.bytes().first() == Some(&b'-');
    let coalesced = joined.len() as u64 + abroad;
    desk.block.command(index, is_error, 1 + coalesced);
    desk.block.took(index, took);
    desk.block.observe(Outcome::Coalesced, took, coalesced);
    desk.clients.deliver(owner, frame);
    for waiter in joined {
        desk.clients.deliver(waiter, frame);
    }
    Ok(())
}

/// The PTTL of a read whose value was stored (or was refused meanwhile).
fn proof(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { spec, kind: Kind::Read(read), .. }) = link.pop(|_| {}) else {
        return Err(Fault::Stray);
    };
    let (Some(entry), Some(token)) = (&read.unproved, &read.token) else {
        return check_pttl(frame);
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
    let proved = desk.shared.cache.prove(read.hash, entry, token, ttl, pttl);
    let outcome = match (proved, pttl) {
        (true, _) => Counter::StoreStored,
        (false, -2 | 0) => Counter::StoreShortTtl,
        (false, _) => Counter::StoreRaced,
    };
    desk.block.add(outcome, 1);
    check_pttl(frame)
}

/// PTTL answers an integer or an error; anything else belongs to another request.
fn check_pttl(frame: &Frame<'_>) -> Result<(), Fault> {
    match frame.bytes().first() {
        Some(b':' | b'-') => Ok(()),
        _ => Err(Fault::Shape),
    }
}

/// The values of an MGET's missing keys: each is stored or invalidated, then all are delivered.
fn part_values(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let (proto, db) = (link.proto, link.db);
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { owner, asked_at, spec, kind: Kind::Parts(parts), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let is_error = frame.bytes().first() == Some(&b'-');
    let fetched = reply::elements(frame.bytes());
    if !is_error && fetched.clone().count() != parts.asked.len() {
        return Err(Fault::Shape);
    }
    if is_error {
        for part in &parts.asked {
            desk.shared.cache.invalidate(part.hash);
        }
    } else {
        store_parts(parts, fetched.clone(), (spec, db), &snapshot.rules, desk);
    }
    parts.is_answered = true;
    let whole = if is_error {
        BytesMut::from(frame.bytes())
    } else {
        split::assemble(&parts.values, fetched, proto)
    };
    let (owner, took) = (*owner, desk.now.0.saturating_sub(asked_at.0));
    let (is_done, index) = (parts.probes.is_empty(), spec.index);
    if is_done {
        link.pop(|_| {});
    }
    desk.block.observe(Outcome::Miss, took, 1);
    desk.block.command(index, is_error, 1);
    desk.block.took(index, took);
    desk.clients.deliver(owner, &Frame::Borrowed(&whole));
    Ok(())
}

fn store_parts(
    parts: &mut Parts,
    fetched: reply::Elements<'_>,
    (mget, db): (&Spec, u32),
    rules: &Rules,
    desk: &Desk<'_>,
) {
    let shared = desk.shared;
    for (part, bytes) in parts.asked.iter_mut().zip(fetched) {
        desk.block.fetched(part.hash, bytes.len(), || &part.key);
        let (Some(token), Some(stored), true) = (&part.token, as_reply(mget, bytes), part.fills)
        else {
            shared.cache.invalidate(part.hash);
            continue;
        };
        let command = if stored == Reply::Nil { mget.index } else { desk.shared.get.index };
        let question = split::question(&part.key, part.hash, command, db);
        let rule = rules.get(part.rule);
        let policy = consult::policy(shared, desk.shared.get, rule);
        match shared.cache.fill(&question, token, &policy, stored) {
            Filled::Stored(entry) if stored == Reply::Nil => drop(entry),
            Filled::Stored(entry) if rule.ttl_probe => part.unproved = Some(entry),
            Filled::Stored(entry) => {
                shared.cache.prove(part.hash, &entry, token, policy.ttl, -1);
                desk.block.add(Counter::StoreStored, 1);
            }
            refused => desk.block.add(reason(&refused), 1),
        }
    }
}

/// The PTTL of one of an MGET's keys.
fn part_proof(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { kind: Kind::Parts(parts), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let index = parts.probes.pop_front();
    if let Some(part) = index.and_then(|index| parts.asked.get_mut(index))
        && let (Some(entry), Some(token)) = (part.unproved.take(), &part.token)
    {
        let shared = desk.shared;
        let rule = snapshot.rules.get(part.rule);
        let pttl = reply::integer(frame.bytes()).unwrap_or(-2);
        let proved = shared.cache.prove(part.hash, &entry, token, rule.ttl_ns, pttl);
        desk.block.add(if proved { Counter::StoreStored } else { Counter::StoreShortTtl }, 1);
    }
    if parts.probes.is_empty() {
        link.pop(|_| {});
    }
    check_pttl(frame)
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

/// Hands a reply to the one client that waits for it.
#[inline]
pub fn deliver(ticket: &Ticket, frame: &Frame<'_>, outcome: Outcome, desk: &mut Desk<'_>) {
    let is_error = frame.bytes().first() == Some(&b'-');
    desk.block.command(ticket.spec.index, is_error, 1);
    let took = desk.now.0.saturating_sub(ticket.asked_at.0);
    desk.block.took(ticket.spec.index, took);
    desk.block.observe(outcome, took, 1);
    desk.clients.deliver(ticket.owner, frame);
}

fn count_error(bytes: &[u8], desk: &Desk<'_>) {
    let text = bytes.get(1..).unwrap_or_default();
    let word = text.split(|&byte| byte == b' ' || byte == b'\r').next().unwrap_or_default();
    desk.block.add(Counter::upstream_error(word), 1);
}

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It never left: nothing was executed.
    NotExecuted(&'static str),
    /// It may have been executed.
    OutcomeUnknown(&'static str),
    /// It never left: the server runs a script and opens no connection meanwhile. Whatever
    /// `on_down` says, this is what the server would have answered.
    Busy,
}

impl Lost {
    /// As it must be said of a command before which something else was asked.
    const fn beforehand(self) -> Self {
        match self {
            Self::NotExecuted(why) | Self::OutcomeUnknown(why) => Self::NotExecuted(why),
            Self::Busy => Self::Busy,
        }
    }

    /// As it must be said of a command of which an earlier step was executed.
    const fn in_part(self) -> Self {
        match self {
            Self::NotExecuted(why) | Self::OutcomeUnknown(why) => Self::OutcomeUnknown(why),
            Self::Busy => Self::Busy,
        }
    }
}

/// Fails the front ticket: what it names is invalidated (its outcome is unknown, A15), and its
/// clients are told as `on_down` says.
pub fn fail_front(link: &mut Pipeline, mut lost: Lost, desk: &mut Desk<'_>) {
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
        Kind::Read(read) => {
            cache.invalidate(read.hash);
            if read.is_answered {
                return;
            }
            if read.is_published {
                desk.shared.flights.crash(read.flight);
            }
        }
        Kind::Parts(parts) => {
            for part in &parts.asked {
                cache.invalidate(part.hash);
            }
            if parts.is_answered {
                return;
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
        Kind::Forward | Kind::Edited(_) | Kind::Walk(_) | Kind::Script(_) => {}
    }
    desk.block.command(ticket.spec.index, true, 1 + ticket.joined.len() as u64);
    for waiter in std::iter::once(ticket.owner).chain(ticket.joined) {
        desk.clients.fail(waiter, lost, on_down);
    }
}

/// The error text of a lost request, where `on_down = "error"`.
#[cold]
pub fn lost_text(lost: Lost) -> BytesMut {
    let mut out = BytesMut::new();
    let text = match lost {
        Lost::NotExecuted(why) => format!("ERR proxy: not executed: {why}"),
        Lost::Busy => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                       SHUTDOWN NOSAVE."
            .to_owned(),
        Lost::OutcomeUnknown(why) => format!("ERR proxy: outcome unknown: {why}"),
    };
    write::error(&mut out, text.as_bytes());
    out
}
