//! Background reads: what a hit finds due (`refresh_ahead`), or what is served past its deadline
//! (`grace`), is read anew by a read that no client waits for.
//!
//! Such a read is a read like any other: it has a token, so whatever happens to its key meanwhile
//! refuses its reply; others join it; its PTTL follows. One is on its way for a question, and
//! [`REFRESHES_MAX`] per worker. A hit never waits for one: where there is no room it is not begun,
//! and the next hit tries again.

use crate::cache::{Question, Token};
use crate::command::Spec;
use crate::data::batch::Batch;
use crate::data::consult;
use crate::data::fields::Fields;
use crate::data::flights::Asked;
use crate::data::forward;
use crate::data::upstream::{Read, Ticket, Waiter, flight_name};
use crate::rules::Rule;
use crate::stats::{Block, Counter};
use crate::wire::write::Proto;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

/// Background reads of one worker that are on their way at most.
const REFRESHES_MAX: usize = 64;

/// Why something is read in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It will end soon.
    Ahead,
    /// It has ended.
    Stale,
}

/// What became of a background read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its reply is stored.
    Ok,
    /// It failed, or upstream answered an error.
    Error,
    /// It was not begun, or its reply was refused.
    Dropped,
}

/// The background reads of one worker that are on their way, by the names of their flights.
#[derive(Clone, Debug, Default)]
pub struct Refreshes(Rc<RefCell<HashSet<u64>>>);

/// One of them, as long as its ticket lives.
#[derive(Debug)]
pub struct Refresh {
    cause: Cause,
    name: u64,
    all: Refreshes,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(&self.name);
    }
}

impl Refresh {
    /// Counts how it has ended.
    pub fn count(&self, end: End, block: &Block) {
        block.add(counter(self.cause, end), 1);
    }
}

const fn counter(cause: Cause, end: End) -> Counter {
    match (cause, end) {
        (Cause::Ahead, End::Ok) => Counter::RefreshAheadOk,
        (Cause::Ahead, End::Error) => Counter::RefreshAheadError,
        (Cause::Ahead, End::Dropped) => Counter::RefreshAheadDropped,
        (Cause::Stale, End::Ok) => Counter::RefreshStaleOk,
        (Cause::Stale, End::Error) => Counter::RefreshStaleError,
        (Cause::Stale, End::Dropped) => Counter::RefreshStaleDropped,
    }
}

/// What a hit was served from will end soon: it is read anew, if it is asked for often.
#[cold]
pub fn ahead(proto: Proto, spec: &'static Spec, question: &Question<'_>, batch: &mut Batch<'_>) {
    let rule = batch.snapshot.rules.find(question.key);
    let Some(refresh) = begin(Cause::Ahead, proto, question, batch) else {
        return;
    };
    let claimed = batch.shared.cache.claim_refresh(question, &batch.view);
    if let Some(asked_at) = claimed
        && let Ok(token) = consult::right_of_batch(batch, spec, rule, question.hash)
    {
        let token = Token { renews: Some(asked_at), ..token };
        send(refresh, token, (proto, spec, rule), question, batch);
    }
}

/// What was served is past its deadline: it is read anew.
#[cold]
pub fn of_stale(
    proto: Proto,
    spec: &'static Spec,
    rule: &Rule,
    question: &Question<'_>,
    batch: &mut Batch<'_>,
) {
    if let Some(refresh) = begin(Cause::Stale, proto, question, batch)
        && let Ok(token) = consult::right_of_batch(batch, spec, rule, question.hash)
    {
        send(refresh, token, (proto, spec, rule), question, batch);
    }
}

/// `None` if the question is being asked already, or there is no room for another.
fn begin(
    cause: Cause,
    proto: Proto,
    question: &Question<'_>,
    batch: &mut Batch<'_>,
) -> Option<Refresh> {
    let name = flight_name(question);
    let all = batch.links.refreshes.clone();
    if all.0.borrow().contains(&name) {
        return None;
    }
    let link = batch.links.at(question.space, proto);
    if !link.is_up() || link.is_full() || all.0.borrow().len() >= REFRESHES_MAX {
        batch.block.add(counter(cause, End::Dropped), 1);
        return None;
    }
    all.0.borrow_mut().insert(name);
    Some(Refresh { cause, name, all })
}

/// Sends a read that nobody waits for, unless another worker's client has asked the same.
fn send(
    refresh: Refresh,
    token: Token,
    (proto, spec, rule): (Proto, &'static Spec, &Rule),
    question: &Question<'_>,
    batch: &mut Batch<'_>,
) {
    let flights = &batch.shared.flights;
    let asked = Asked { worker: batch.worker, name: refresh.name, question, link: proto };
    let is_published = flights.publish(&asked, &token);
    if !is_published && flights.are_shared() {
        return;
    }
    let names = &batch.snapshot.names;
    let link = batch.links.at(question.space, proto);
    forward::write_question(&mut link.output, spec, question, names);
    if rule.ttl_probe {
        forward::write_pttl(&mut link.output, question.key, names);
    }
    let read = Read {
        hash: question.hash,
        token: Some(token),
        fills: true,
        rule: rule.index,
        key_len: u32::try_from(question.key.len()).unwrap_or(u32::MAX),
        space: question.space,
        proto: question.proto,
        flight: refresh.name,
        is_published,
        refresh: Some(refresh),
        unproved: None,
        fields: Fields::Unknown,
        is_answered: false,
    };
    let answers = 1 + u32::from(rule.ttl_probe);
    let ticket = Ticket::of_read(Waiter::NOBODY, spec, batch.view.now, read, answers);
    link.push_read(ticket, question);
    link.wake();
}
