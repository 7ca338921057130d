//! MGET, key by key (R18): what is stored is taken from here, the rest is fetched in one MGET, and
//! the PTTLs of what may be stored follow it.
//!
//! A value found by MGET and one found by GET are the same reply, so they share a variant. A nil
//! is not: MGET says nil of a list, where GET says WRONGTYPE. So MGET's nils are kept as MGET's.
//!
//! What is put together so is of several moments. Where a rule has `multi_key = "bypass"`, an MGET
//! of several keys goes upstream as it is.

use crate::cache::{Entry, Extra, Lookup, Question, Space, stripe_bit};
use crate::command::Spec;
use crate::config::Mode;
use crate::data::batch::Batch;
use crate::data::session::{Flow, Session};
use crate::data::standing::Fate;
use crate::data::upstream::{Kind, Part, Parts, Ticket, Waiter};
use crate::data::{bounds, consult, forward, refresh, sample, stale};
use crate::stats::{Counter, Look, Seen};
use crate::units::clock::Tick;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto, null_bytes};
use bytes::{Bytes, BytesMut};
use std::collections::{HashSet, VecDeque};

/// Answers an MGET.
pub fn mget(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    if session.is_abroad {
        return Flow::Barrier;
    }
    if sent_whole(session, spec, request, batch) {
        return Flow::Next;
    }
    let gate = batch.gate;
    prefetch(request, batch);
    let mut values = Vec::with_capacity(request.len() - 1);
    let mut missing: usize = 0;
    let mut stale = Vec::new();
    // Of a key that is named twice the second value is not older than the first, though a fill may
    // come between the two looks: what is asked for once is asked for twice.
    let mut asked: HashSet<u64> = HashSet::new();
    for key in request.from(1) {
        let hash = batch.shared.cache.hash(key);
        let found = if asked.contains(&hash) {
            None
        } else {
            find(session, spec, key, batch).or_else(|| {
                let (found, reason) = find_stale(session, spec, key, batch)?;
                stale.push(reason);
                Some(found)
            })
        };
        match &found {
            Some(found) if gate == Mode::Cache => note_hit(session, (key, hash), found, batch),
            Some(_) => {}
            None => {
                missing += 1;
                asked.insert(hash);
            }
        }
        values.push(found.map(|found| found.value));
    }
    if missing > 0 && !bounds::permits(session, spec, request, batch) {
        return Flow::Next;
    }
    if gate == Mode::Observe {
        // All of it is asked of upstream; what is here is only counted.
        let would_hit: Vec<bool> = values.iter_mut().map(|value| value.take().is_some()).collect();
        miss(session, spec, request, (values, &would_hit), batch);
        return Flow::Next;
    }
    let found = values.len() - missing - stale.len();
    batch.hits += found as u64;
    if missing == 0 {
        if let Some(reason) = stale.first() {
            session.note(spec.index, Fate::Stale(*reason), batch.commands);
        }
        batch.block.command(spec.index, false, 1);
        tell(session, &values);
        return Flow::Next;
    }
    miss(session, spec, request, (values, &[]), batch);
    Flow::Next
}

/// All values are here.
fn tell(session: &mut Session, values: &[Option<Bytes>]) {
    session.order.reply(&mut session.output, |out| {
        write::array(out, values.len());
        for value in values.iter().flatten() {
            out.extend_from_slice(value);
        }
    });
}

/// Asks all of it of upstream as it is, where it is not to be taken apart. True if it is done with:
/// asked, or refused.
#[inline]
fn sent_whole(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> bool {
    let is_past = batch.gate == Mode::Bypass;
    let is_whole = batch.snapshot.rules.have_one_moment(request.from(1)) && request.len() > 2;
    if (is_past || is_whole) && bounds::permits(session, spec, request, batch) {
        if is_past {
            forward::command(session, spec, request, batch);
        } else {
            forward::by_rule(session, spec, request, batch);
        }
    }
    is_past || is_whole
}

/// Asks for an MGET whose reply is promised for `slot` already: for what of it is not `known`.
#[cold]
pub fn again(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    slot: u32,
    mut known: Vec<Option<Bytes>>,
    batch: &mut Batch<'_>,
) {
    known.resize(request.len() - 1, None);
    ask(session, spec, request, (known, &[]), slot, batch);
}

/// Not all is here, or nothing of it is to be served.
fn miss(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    known: (Vec<Option<Bytes>>, &[bool]),
    batch: &mut Batch<'_>,
) {
    let is_fallback = batch.shared.live.fallback.is_active();
    let fate = if is_fallback { Fate::Fallback } else { Fate::Miss };
    session.note(spec.index, fate, batch.commands);
    let slot = session.order.leave_hole();
    ask(session, spec, request, known, slot, batch);
}

/// Counts one key that is answered from here.
fn note_hit(session: &Session, (key, hash): (&[u8], u64), found: &Found, batch: &Batch<'_>) {
    let (rules, bytes) = (&batch.snapshot.rules, found.value.len());
    let age = Some(batch.view.now.since(found.asked_at));
    batch.block.lookup(hash, Seen::Hit, || {
        let asked = question(key, hash, found.command, session.space);
        sample::look(session.proto, &asked, batch);
        Look { key, rule: rules.find(key).index, bytes, age }
    });
}

/// Has the processor fetch what is stored of all keys.
fn prefetch(request: &Request<'_>, batch: &Batch<'_>) {
    let cache = &batch.shared.cache;
    for key in request.from(1) {
        cache.prefetch_place(cache.hash(key));
    }
    for key in request.from(1) {
        cache.prefetch_entry(cache.hash(key));
    }
}

/// One key's value as it stands in MGET's reply, and when it was asked for.
struct Found {
    value: Bytes,
    /// The command under which it is stored.
    command: u16,
    asked_at: Tick,
}

impl Found {
    fn of(entry: &Entry, command: u16, session: &Session) -> Self {
        let (value, asked_at) = (stale::whole(entry, session.proto), entry.asked_at());
        Self { value, command, asked_at }
    }
}

/// One key's value, if it is stored.
fn find(
    session: &Session,
    spec: &'static Spec,
    key: &[u8],
    batch: &mut Batch<'_>,
) -> Option<Found> {
    let shared = batch.shared;
    if session.out_mask & stripe_bit(shared.cache.hash(key)) != 0 {
        return None;
    }
    questions(session, spec, key, batch).find_map(|question| {
        let mut value = None;
        let show = |entry: &Entry| value = Some(Found::of(entry, question.command, session));
        if shared.cache.get(&question, &batch.view, show) == Lookup::Due
            && batch.gate == Mode::Cache
        {
            let row = row(question.command, spec, batch);
            refresh::ahead(session.proto, row, &question, batch);
        }
        value
    })
}

/// The questions under which one key's value may be stored: GET's, and MGET's own.
fn questions<'k>(
    session: &Session,
    spec: &Spec,
    key: &'k [u8],
    batch: &Batch<'_>,
) -> impl Iterator<Item = Question<'k>> + use<'k> {
    let (hash, space) = (batch.shared.cache.hash(key), session.space);
    let commands = [batch.shared.get.index, spec.index].into_iter();
    commands.map(move |command| question(key, hash, command, space))
}

/// What is kept of it past its time, and may be served: and why.
#[cold]
fn find_stale(
    session: &Session,
    spec: &'static Spec,
    key: &[u8],
    batch: &mut Batch<'_>,
) -> Option<(Found, Counter)> {
    let hash = batch.shared.cache.hash(key);
    let rule = *batch.snapshot.rules.find(key);
    let may_serve = batch.gate == Mode::Cache && session.out_mask & stripe_bit(hash) == 0;
    if !may_serve || !rule.serves_stale() {
        return None;
    }
    questions(session, spec, key, batch).find_map(|question| {
        let mut value = None;
        let show = |entry: &Entry| value = Some(Found::of(entry, question.command, session));
        let row = row(question.command, spec, batch);
        let reason = stale::find(session.proto, row, &rule, &question, batch, show)?;
        Some((value?, reason))
    })
}

/// Of a value GET's, of MGET's nil MGET's.
fn row(command: u16, mget: &'static Spec, batch: &Batch<'_>) -> &'static Spec {
    if command == mget.index { mget } else { batch.shared.get }
}

/// The question under which one key's value is stored.
pub fn question(key: &[u8], hash: u64, command: u16, space: Space) -> Question<'_> {
    Question { key, hash, command, space, proto: 0, extra: Extra::Written(&[]) }
}

/// Asks for the values that are not here, or (`would_hit`, by place) are not to be served; the
/// reply is promised for `slot`.
fn ask(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    (values, would_hit): (Vec<Option<Bytes>>, &[bool]),
    slot: u32,
    batch: &mut Batch<'_>,
) {
    let shared = batch.shared;
    let missing: Vec<&[u8]> = request
        .from(1)
        .zip(&values)
        .filter_map(|(key, value)| value.is_none().then_some(key))
        .collect();
    let mut asked = Vec::with_capacity(missing.len());
    let mut probes = VecDeque::new();
    for key in &missing {
        let hash = shared.cache.hash(key);
        session.out_mask |= stripe_bit(hash);
        let rule = batch.snapshot.rules.find(key);
        let right = consult::right_to_fill(session, batch, spec, rule, hash);
        let asks = question(key, hash, spec.index, session.space);
        let is_here = would_hit.get(asked.len()) == Some(&true);
        let refused = is_here.then_some(Counter::LookupWouldHit);
        let (token, denied) = (right.ok(), right.err());
        let fills = consult::admit((denied, refused), rule, &asks, shared, batch.block);
        if fills && rule.ttl_probe {
            probes.push_back(asked.len());
        }
        let rule = rule.index;
        asked.push(Part { key: (*key).into(), hash, token, fills, rule, unproved: None });
    }
    let link = batch.links.of(session);
    write::array(&mut link.output, missing.len() + 1);
    write::bulk(&mut link.output, b"MGET");
    for key in &missing {
        forward::write_key(&mut link.output, key, &batch.snapshot.names);
    }
    for &probe in &probes {
        if let Some(part) = asked.get(probe) {
            forward::write_pttl(&mut link.output, &part.key, &batch.snapshot.names);
        }
    }
    let owner = Waiter { client: batch.me, slot };
    let answers = 1 + u32::try_from(probes.len()).unwrap_or(u32::MAX);
    if asked.iter().any(|part| part.fills) {
        link.canary.want();
    }
    let whole = written(request);
    let kind = Kind::Parts(Box::new(Parts { whole, values, asked, probes, is_answered: false }));
    link.push(Ticket { answers, ..Ticket::new(owner, spec, batch.view.now, kind) });
    session.waits_for_link = link.hand_over();
}

/// A request, as a client sends it.
fn written(request: &Request<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    write::array(&mut bytes, request.len());
    for word in request.from(0) {
        write::bulk(&mut bytes, word);
    }
    bytes.freeze()
}

/// The whole reply: what was here and, in the gaps, what was fetched.
pub fn assemble(
    values: &[Option<Bytes>],
    mut fetched: impl Iterator<Item: AsRef<[u8]>>,
    proto: Proto,
) -> BytesMut {
    let mut out = BytesMut::new();
    write::array(&mut out, values.len());
    for value in values {
        match value {
            Some(value) => out.extend_from_slice(value),
            None => match fetched.next() {
                Some(value) => out.extend_from_slice(value.as_ref()),
                None => out.extend_from_slice(null_bytes(proto)),
            },
        }
    }
    out
}
