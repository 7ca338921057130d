//! MGET, key by key (R18): what is stored is taken from here, the rest is fetched in one MGET, and
//! the PTTLs of what may be stored follow it.
//!
//! A value found by MGET and one found by GET are the same reply, so they share a variant. A nil
//! is not: MGET says nil of a list, where GET says WRONGTYPE. So MGET's nils are kept as MGET's.

use crate::cache::{Extra, Question, Reply, stripe_bit};
use crate::command::Spec;
use crate::config::Mode;
use crate::data::batch::Batch;
use crate::data::session::{Flow, Session};
use crate::data::standing::Fate;
use crate::data::upstream::{Kind, Part, Parts, Ticket, Waiter};
use crate::data::{consult, forward};
use crate::stats::{Counter, Look, Seen};
use crate::wire::reply;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto, null_bytes};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

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
    let gate = batch.gate;
    if gate == Mode::Bypass {
        forward::command(session, spec, request, batch);
        return Flow::Next;
    }
    let cache = &batch.shared.cache;
    for key in request.from(1) {
        cache.prefetch_place(cache.hash(key));
    }
    for key in request.from(1) {
        cache.prefetch_entry(cache.hash(key));
    }
    let mut values = Vec::with_capacity(request.len() - 1);
    let mut missing: usize = 0;
    for key in request.from(1) {
        let value = find(session, spec, key, batch);
        match &value {
            Some(value) if gate == Mode::Cache => {
                let (rules, bytes) = (&batch.snapshot.rules, value.len());
                batch.block.lookup(batch.shared.cache.hash(key), Seen::Hit, || Look {
                    key,
                    rule: rules.find(key).index,
                    bytes,
                    age: questions(session, spec, key, batch)
                        .find_map(|question| consult::age(&question, batch)),
                });
            }
            Some(_) => {}
            None => missing += 1,
        }
        values.push(value);
    }
    if gate == Mode::Observe {
        // All of it is asked of upstream; what is here is only counted.
        let would_hit: Vec<bool> = values.iter_mut().map(|value| value.take().is_some()).collect();
        ask(session, spec, request, values, &would_hit, batch);
        return Flow::Next;
    }
    let found = (values.len() - missing) as u64;
    batch.hits += found;
    if missing == 0 {
        batch.block.command(spec.index, false, 1);
        session.order.reply(&mut session.output, |out| {
            write::array(out, values.len());
            for value in values.iter().flatten() {
                out.extend_from_slice(value);
            }
        });
        return Flow::Next;
    }
    ask(session, spec, request, values, &[], batch);
    Flow::Next
}

/// One key's value as it stands in MGET's reply, if it is stored.
fn find(session: &Session, spec: &Spec, key: &[u8], batch: &Batch<'_>) -> Option<Bytes> {
    if session.out_mask & stripe_bit(batch.shared.cache.hash(key)) != 0 {
        return None;
    }
    questions(session, spec, key, batch).find_map(|question| {
        let mut value = None;
        batch.shared.cache.get(&question, &batch.view, |entry| {
            value = Some(match entry.reply() {
                Reply::Bytes(_) => Bytes::from_owner(entry.clone()),
                Reply::Nil => Bytes::from_static(null_bytes(session.proto)),
            });
        });
        value
    })
}

/// The questions under which one key's value may be stored: GET's, and MGET's own.
fn questions<'k>(
    session: &Session,
    spec: &Spec,
    key: &'k [u8],
    batch: &Batch<'_>,
) -> impl Iterator<Item = Question<'k>> {
    let (hash, db) = (batch.shared.cache.hash(key), session.db);
    let commands = [batch.shared.get.index, spec.index].into_iter();
    commands.map(move |command| question(key, hash, command, db))
}

/// The question under which one key's value is stored.
pub fn question(key: &[u8], hash: u64, command: u16, db: u32) -> Question<'_> {
    Question { key, hash, command, db, proto: 0, extra: Extra::Written(&[]) }
}

/// Asks for the values that are not here, or (`would_hit`, by place) are not to be served.
fn ask(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    values: Vec<Option<Bytes>>,
    would_hit: &[bool],
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
        let right = consult::right_to_fill(batch, spec, rule, hash);
        let asks = question(key, hash, spec.index, session.db);
        let is_here = would_hit.get(asked.len()) == Some(&true);
        let refused = is_here.then_some(Counter::LookupWouldHit);
        let (token, fills) = consult::admit(right, refused, rule, &asks, shared, batch.block);
        if fills && rule.ttl_probe {
            probes.push_back(asked.len());
        }
        let rule = rule.index;
        asked.push(Part { key: (*key).into(), hash, token, fills, rule, unproved: None });
    }
    session.note(spec.index, Fate::Miss, batch.commands);
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
    let owner = Waiter { client: batch.me, slot: session.order.leave_hole() };
    let answers = 1 + u32::try_from(probes.len()).unwrap_or(u32::MAX);
    if asked.iter().any(|part| part.fills) {
        link.canary.want();
    }
    let kind = Kind::Parts(Box::new(Parts { values, asked, probes, is_answered: false }));
    link.push(Ticket { answers, ..Ticket::new(owner, spec, batch.view.now, kind) });
    session.waits_for_link = link.hand_over();
}

/// The whole reply: what was here and, in the gaps, what was fetched.
pub fn assemble(
    values: &[Option<Bytes>],
    mut fetched: reply::Elements<'_>,
    proto: Proto,
) -> BytesMut {
    let mut out = BytesMut::new();
    write::array(&mut out, values.len());
    for value in values {
        match value {
            Some(value) => out.extend_from_slice(value),
            None => out.extend_from_slice(fetched.next().unwrap_or_else(|| null_bytes(proto))),
        }
    }
    out
}
