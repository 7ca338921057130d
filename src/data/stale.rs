//! Answers that are past their time, where a rule allows them: while upstream cannot be reached
//! (`stale_if_error`), and while what ends is read anew (`grace`); under every rule while something
//! stands in for upstream (`fallback.reads`).
//!
//! In: a read that is no hit, or one that has failed. Out: the reply that is kept, counted and
//! noted as what it is. What may be served the cache knows (`cache/stale.rs`); here is decided
//! whether upstream is down.

use crate::cache::{Entry, Excuse, Question, Reply, Space};
use crate::command::Spec;
use crate::config::Mode;
use crate::data::batch::Batch;
use crate::data::consult;
use crate::data::lost::Lost;
use crate::data::order::Frame;
use crate::data::refresh::{self, End};
use crate::data::settle::Desk;
use crate::data::split;
use crate::data::upstream::{Kind, Part, Parts, Pipeline, Read, Ticket};
use crate::rules::{Rule, Rules};
use crate::stats::Counter;
use crate::wire::write::{Proto, null_bytes};
use bytes::Bytes;
use std::rc::Rc;

/// Shows `show` what is kept of a question that is no hit, if it may be served; answers what it is
/// counted as.
#[cold]
pub fn find(
    proto: Proto,
    spec: &'static Spec,
    rule: &Rule,
    question: &Question<'_>,
    batch: &mut Batch<'_>,
    mut show: impl FnMut(&Entry),
) -> Option<Counter> {
    let cache = &batch.shared.cache;
    let is_fallback = batch.shared.live.fallback.is_active();
    let grace = consult::policy(batch.shared, spec, rule).grace;
    let span = span(rule, is_fallback);
    let excuse = Excuse::UpstreamDown(span);
    let reason = if is_fallback {
        if !cache.get_stale(question, &batch.view, excuse, &mut show) {
            return None;
        }
        batch.block.add(Counter::FallbackReadOk, 1);
        Counter::StaleFallback
    } else if span > 0
        && is_upstream_down(question.space, proto, batch)
        && cache.get_stale(question, &batch.view, excuse, &mut show)
    {
        Counter::StaleUpstreamDown
    } else if grace > 0
        && cache.get_stale(question, &batch.view, Excuse::Refreshing(grace), &mut show)
    {
        refresh::of_stale(proto, spec, rule, question, batch);
        Counter::StaleRefreshing
    } else {
        return None;
    };
    batch.block.add(Counter::LookupStale, 1);
    batch.block.add(reason, 1);
    Some(reason)
}

/// How long past its time something is served while upstream is down.
fn span(rule: &Rule, is_fallback: bool) -> u64 {
    let fallback = if is_fallback { rule.fallback_ns } else { 0 };
    rule.stale_if_error_ns.max(fallback)
}

/// True if upstream could not be used when it was last tried, nor can this link.
fn is_upstream_down(space: Space, proto: Proto, batch: &mut Batch<'_>) -> bool {
    !batch.shared.live.is_upstream_up() && !batch.links.at(space, proto).is_up()
}

/// A reply to the read at the front, whose own will not come; `None` if there is none.
#[cold]
pub fn instead(link: &mut Pipeline, lost: Lost, desk: &Desk<'_>) -> Option<Bytes> {
    // What was asked under other settings is not answered under these; and the server that is busy
    // is there.
    let is_of_now = link.snapshot_of_front().number == link.snapshot().number;
    let serves = desk.shared.live.gate() == Mode::Cache && is_of_now && !link.is_suspect();
    if lost.is_said() || !serves {
        return None;
    }
    let snapshot = Rc::clone(link.snapshot());
    let (proto, space) = (link.proto, link.space);
    let (ticket, text, _) = link.front_read()?;
    match &ticket.kind {
        Kind::Read(read) if !read.is_answered => {
            let question = read.question(ticket.spec, text);
            kept(&question, snapshot.rules.get(read.rule), proto, desk)
        }
        Kind::Parts(parts) if !parts.is_answered => {
            let found = parts_kept(parts, ticket.spec, (space, proto), &snapshot.rules, desk)?;
            Some(split::assemble(&parts.values, found.into_iter(), proto).freeze())
        }
        _ => None,
    }
}

/// The same, of an MGET as upstream would answer it: what is kept of each key that it was asked
/// for.
#[cold]
pub fn instead_of_answer(link: &mut Pipeline, desk: &Desk<'_>) -> Option<Bytes> {
    let (proto, space, snapshot) = (link.proto, link.space, Rc::clone(link.snapshot()));
    let whole = instead(link, Lost::NotExecuted("upstream is down"), desk)?;
    let Ticket { kind: Kind::Parts(parts), spec, .. } = link.front()? else {
        return Some(whole);
    };
    let found = parts_kept(parts, spec, (space, proto), &snapshot.rules, desk)?;
    let gaps = vec![None; found.len()];
    Some(split::assemble(&gaps, found.into_iter(), proto).freeze())
}

/// What is kept of all keys that an MGET asks upstream for.
fn parts_kept(
    parts: &Parts,
    mget: &Spec,
    (space, proto): (Space, Proto),
    rules: &Rules,
    desk: &Desk<'_>,
) -> Option<Vec<Bytes>> {
    let of_part = |part: &Part| {
        let asked = [desk.shared.get.index, mget.index];
        asked.into_iter().find_map(|command| {
            let question = split::question(&part.key, part.hash, command, space);
            kept(&question, rules.get(part.rule), proto, desk)
        })
    };
    parts.asked.iter().map(of_part).collect()
}

/// What is kept of one question.
fn kept(question: &Question<'_>, rule: &Rule, proto: Proto, desk: &Desk<'_>) -> Option<Bytes> {
    let span = span(rule, desk.shared.live.fallback.is_active());
    if span == 0 {
        return None;
    }
    let cache = &desk.shared.cache;
    let (view, excuse) = (cache.view(desk.now), Excuse::UpstreamDown(span));
    let mut reply = None;
    cache.get_stale(question, &view, excuse, |entry| reply = Some(whole(entry, proto)));
    reply
}

/// An entry's reply, as it stands where it is stored.
pub fn whole(entry: &Entry, proto: Proto) -> Bytes {
    match entry.reply() {
        Reply::Bytes(_) => Bytes::from_owner(entry.clone()),
        Reply::Nil => Bytes::from_static(null_bytes(proto)),
    }
}

/// Answers all who wait for a read that has failed.
#[cold]
pub fn deliver(ticket: Ticket, reply: &Bytes, desk: &mut Desk<'_>) {
    let is_fallback = desk.shared.live.fallback.is_active();
    let reason = if is_fallback { Counter::StaleFallback } else { Counter::StaleUpstreamDown };
    let abroad = match &ticket.kind {
        Kind::Read(Read { is_published: true, flight, .. }) => {
            desk.shared.flights.land_stale(*flight, reason, reply)
        }
        _ => 0,
    };
    let mut served = abroad;
    for waiter in ticket.client().into_iter().chain(ticket.joined) {
        served += 1;
        desk.clients.deliver_stale(waiter, reason, &Frame::of(reply));
    }
    desk.block.command(ticket.spec.index, false, served);
    desk.block.add(reason, served);
    if reason == Counter::StaleFallback {
        desk.block.add(Counter::FallbackReadOk, served);
    }
}

/// A background read has failed.
pub fn count_failed(read: &Read, desk: &Desk<'_>) {
    if let Some(refresh) = &read.refresh {
        refresh.count(End::Error, desk.block);
    }
}
