//! Answers that are past their time, where a rule allows them: while upstream cannot be reached
//! (`stale_if_error`), and while what ends is read anew (`grace`).
//!
//! In: a read that is no hit, or one that has failed. Out: the reply that is kept, counted and
//! noted as what it is. What may be served the cache knows (`cache/stale.rs`); here is decided
//! whether upstream is down.

use crate::cache::{Entry, Excuse, Question, Reply, Space};
use crate::command::Spec;
use crate::config::Mode;
use crate::data::batch::Batch;
use crate::data::consult;
use crate::data::order::Frame;
use crate::data::refresh::{self, End};
use crate::data::settle::{Desk, Lost};
use crate::data::split;
use crate::data::upstream::{Kind, Pipeline, Read, Ticket};
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
    let (span, grace) = (rule.stale_if_error_ns, consult::policy(batch.shared, spec, rule).grace);
    let excuse = Excuse::UpstreamDown(span);
    let reason = if span > 0
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
            let rules: &Rules = &snapshot.rules;
            let mut found = Vec::with_capacity(parts.asked.len());
            for part in &parts.asked {
                let asked = [desk.shared.get.index, ticket.spec.index];
                found.push(asked.into_iter().find_map(|command| {
                    let question = split::question(&part.key, part.hash, command, space);
                    kept(&question, rules.get(part.rule), proto, desk)
                })?);
            }
            Some(split::assemble(&parts.values, found.into_iter(), proto).freeze())
        }
        _ => None,
    }
}

/// What is kept of one question.
fn kept(question: &Question<'_>, rule: &Rule, proto: Proto, desk: &Desk<'_>) -> Option<Bytes> {
    if rule.stale_if_error_ns == 0 {
        return None;
    }
    let cache = &desk.shared.cache;
    let (view, excuse) = (cache.view(desk.now), Excuse::UpstreamDown(rule.stale_if_error_ns));
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
    let abroad = match &ticket.kind {
        Kind::Read(Read { is_published: true, flight, .. }) => {
            desk.shared.flights.land(*flight, || reply.clone())
        }
        _ => 0,
    };
    let mut served = abroad;
    for waiter in ticket.client().into_iter().chain(ticket.joined) {
        served += 1;
        // Only of its last command a client can ask what became of it.
        if desk.clients.is_last_out(waiter)
            && let Some(session) = desk.clients.session(waiter.client)
        {
            session.standing.turn_stale(Counter::StaleUpstreamDown);
        }
        desk.clients.deliver(waiter, &Frame::of(reply));
    }
    desk.block.command(ticket.spec.index, false, served);
    desk.block.add(Counter::StaleUpstreamDown, served);
}

/// A background read has failed.
pub fn count_failed(read: &Read, desk: &Desk<'_>) {
    if let Some(refresh) = &read.refresh {
        refresh.count(End::Error, desk.block);
    }
}
