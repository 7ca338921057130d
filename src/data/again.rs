//! Reads whose link was closed before their answer: they are asked once more, on the next one.
//!
//! In: a link that was closed, oldest ticket first. Out: reads as their clients sent them, and who
//! waits for each. They are then asked as any read is, under a token of their own.
//!
//! Invariant: a client's requests are executed in the order of its asking, as far as it can see. So
//! a read is asked again only if its client has nothing else on that link but reads that are, too;
//! and no request is sent more than twice, nor many of them ([`Budget`]).

use crate::data::flights::as_sent;
use crate::data::lost::{LINK_BROKE, Lost};
use crate::data::settle::Desk;
use crate::data::stale;
use crate::data::upstream::{ClientId, Kind, Pipeline, Ticket, Waiter};
use crate::stats::Counter;
use crate::units::clock::Tick;
use bytes::Bytes;
use std::iter;

/// What is remembered of the past.
const WINDOW_NS: u64 = 10_000_000_000;
/// One read in so much time may be asked again, beside a part of all answers.
const NS_EACH: u64 = 100_000_000;
/// One for so many answers.
const ANSWERS_EACH: u64 = 5;

/// How many reads of one link may be asked again: ten a second, and a fifth of the answers that it
/// had. A server that closes links again and again is not asked ever more.
#[derive(Debug)]
pub struct Budget {
    /// In the time that [`NS_EACH`] counts.
    left_ns: u64,
    looked_at: Tick,
    answered: u64,
}

impl Default for Budget {
    /// That of a link that was never closed.
    fn default() -> Self {
        Self { left_ns: WINDOW_NS, looked_at: Tick(0), answered: 0 }
    }
}

impl Budget {
    /// Time has passed, and the link has taken so many answers in all.
    fn earn(&mut self, now: Tick, answered: u64) {
        let passed = now.0.saturating_sub(self.looked_at.0).max(1);
        let recent = passed.min(WINDOW_NS);
        let answers = u128::from(answered.saturating_sub(self.answered));
        let of_answers = answers * u128::from(NS_EACH / ANSWERS_EACH);
        let share = u64::try_from(of_answers * u128::from(recent) / u128::from(passed));
        let share = share.unwrap_or(WINDOW_NS);
        let most = WINDOW_NS.saturating_add(share);
        self.left_ns = self.left_ns.saturating_add(recent).saturating_add(share).min(most);
        (self.looked_at, self.answered) = (now, answered);
    }

    /// True if one more may be.
    fn take(&mut self) -> bool {
        let left = self.left_ns.checked_sub(NS_EACH);
        self.left_ns = left.unwrap_or(self.left_ns);
        left.is_some()
    }
}

/// A read, and who waits for it.
#[derive(Debug)]
pub struct Again {
    /// As a client sends it.
    pub read: Bytes,
    /// Those who asked.
    pub waiters: Vec<Waiter>,
    /// Of an MGET: what was found here, by key. It stays so, for what stands behind it in its
    /// client's order may have been told the same.
    pub known: Vec<Option<Bytes>>,
}

/// The link was closed: takes reads off its front that are to be asked again, and has `fail` take
/// off what is not.
#[cold]
pub fn take(
    link: &mut Pipeline,
    desk: &mut Desk<'_>,
    mut fail: impl FnMut(&mut Pipeline, &mut Desk<'_>),
) -> Vec<Again> {
    link.again.earn(desk.now, link.answered());
    let mut taken = Vec::new();
    let bound = clients_with_more(link);
    while link.front_is_sent() && !link.is_empty() {
        let is_free = |waiter: &Waiter| !bound.contains(&waiter.client);
        let read = read_of_front(link, desk, is_free);
        match read.filter(|_| link.again.take()) {
            Some(read) => taken.push(end_front(link, read, desk)),
            None => fail(link, desk),
        }
    }
    taken
}

/// Clients that have more out than reads that were sent and wait for their answers.
fn clients_with_more(link: &mut Pipeline) -> Vec<ClientId> {
    let is_more = |(ticket, is_sent): &(&mut Ticket, bool)| match &ticket.kind {
        Kind::Read(read) => !is_sent && !read.is_answered,
        Kind::Parts(parts) => !is_sent && !parts.is_answered,
        _ => true,
    };
    let found = link.out().filter(is_more).map(|(ticket, _)| &*ticket);
    found.flat_map(Ticket::waiters).map(|waiter| waiter.client).collect()
}

/// The read that this one waits for is not asked a third time.
pub fn mark(link: &mut Pipeline, waiter: Waiter) {
    let waits = |(ticket, _): &(&mut Ticket, bool)| ticket.waiters().any(|one| one == waiter);
    if let Some((ticket, _)) = link.out().rfind(waits) {
        ticket.is_again = true;
    }
}

/// The read at the front, if it may be asked again and nothing better is known.
fn read_of_front(
    link: &mut Pipeline,
    desk: &Desk<'_>,
    is_free: impl Fn(&Waiter) -> bool,
) -> Option<Bytes> {
    let has_same_names = link.snapshot_of_front().names == link.snapshot().names;
    let (ticket, text, _) = link.front_read()?;
    if ticket.is_again || !iter::once(&ticket.owner).chain(&ticket.joined).all(is_free) {
        return None;
    }
    let sent = match &ticket.kind {
        Kind::Read(read) if !read.is_answered && read.refresh.is_none() => {
            let question = read.question(ticket.spec, text);
            as_sent(question.command, question.key, question.extra)
        }
        // What was found here is of the key version it was asked under: no reply is of two.
        Kind::Parts(parts) if !parts.is_answered && has_same_names => parts.whole.clone(),
        _ => return None,
    };
    // What is kept for this case is told at once.
    stale::instead(link, Lost::OutcomeUnknown(LINK_BROKE), desk).is_none().then_some(sent)
}

fn end_front(link: &mut Pipeline, read: Bytes, desk: &Desk<'_>) -> Again {
    desk.block.add(Counter::UpstreamRetries, 1);
    let (mut waiters, mut known) = (Vec::new(), Vec::new());
    if let Some(ticket) = link.pop(|_| {}) {
        match ticket.kind {
            Kind::Read(read) if read.is_published => desk.shared.flights.crash(read.flight),
            Kind::Parts(parts) => known = parts.values,
            _ => {}
        }
        waiters.extend(iter::once(ticket.owner).chain(ticket.joined));
    }
    Again { read, waiters, known }
}

#[cfg(test)]
mod tests {
    use super::{ANSWERS_EACH, Budget, NS_EACH, WINDOW_NS};
    use crate::units::clock::Tick;

    fn spend(budget: &mut Budget) -> u64 {
        std::iter::from_fn(|| budget.take().then_some(1)).sum()
    }

    #[test]
    fn ten_a_second_and_a_fifth_of_what_was_answered() {
        let mut budget = Budget::default();
        let at = |ms: u64| Tick(WINDOW_NS * 5 + ms * 1_000_000);
        budget.earn(at(0), 0);
        assert_eq!(spend(&mut budget), WINDOW_NS / NS_EACH);
        // Also in steps that are too short for one.
        (1..=100).for_each(|ms| budget.earn(at(ms), 0));
        assert_eq!(spend(&mut budget), 1);
        budget.earn(at(1100), 1000);
        assert_eq!(spend(&mut budget), 10 + 1000 / ANSWERS_EACH);
        // Of a long time only the last part counts.
        budget.earn(at(101_100), 1000 + 10_000);
        assert_eq!(spend(&mut budget), WINDOW_NS / NS_EACH + 1000 / ANSWERS_EACH);
    }
}
