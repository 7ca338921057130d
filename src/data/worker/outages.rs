//! What becomes of clients' requests when a link breaks or cannot be opened: some are asked again,
//! some wait, the others are told, each by what is known of its outcome.

use crate::command::Class;
use crate::data::again::{self, Again};
use crate::data::lost::{LINK_BROKE, Lost};
use crate::data::pinned::answer;
use crate::data::session::Ending;
use crate::data::settle::{self, Desk};
use crate::data::upstream::Pipeline;
use crate::data::upstream::link::LinkError;
use crate::data::worker::{State, Worker};
use crate::live::Phase;
use crate::snapshot::Limits;
use crate::stats::{Counter, Gauge};
use crate::units::clock::Tick;
use std::rc::Rc;
use std::sync::atomic::Ordering;

impl Worker {
    /// A link broke: what was sent has an unknown outcome, what was not waits for the next one, and
    /// so do reads, if it was closed.
    pub fn link_down(self: &Rc<Self>, index: usize, error: &LinkError) {
        if !self.is_detour(index) {
            self.upstream_link_down(index, error);
        }
        let fail = |link: &mut Pipeline, desk: &mut Desk<'_>| {
            desk.block.add(error.counter(), 1);
            settle::fail_front(link, Lost::OutcomeUnknown(LINK_BROKE), desk);
        };
        let again = self.with_desk(index, |link, desk| {
            if matches!(error, LinkError::Panic) {
                link.suspect();
            }
            let mut again = Vec::new();
            if matches!(error, LinkError::Io(_)) && link.pin.is_none() && !link.is_suspect() {
                again = again::take(link, desk, fail);
            }
            while link.front_is_sent() && !link.is_empty() {
                fail(link, desk);
            }
            lose_pin(link, desk);
            if !matches!(error, LinkError::Released) {
                link.given.doubt();
            }
            link.reset();
            again
        });
        self.ask_again(index, again.unwrap_or_default());
        self.release_waiters(index);
    }

    /// Counts and tells that a link to upstream broke.
    fn upstream_link_down(&self, index: usize, error: &LinkError) {
        self.block.shift(Gauge::UpstreamConnections, -1);
        self.block.add(Counter::UpstreamDisconnects, 1);
        if self.is_own(index) {
            self.block.shift(Gauge::UpstreamDedicated, -1);
        }
        if matches!(error, LinkError::Fault(_)) {
            self.block.add(Counter::ProtocolErrorsUpstream, 1);
        }
        let links_left = self.shared.live.count_link(false);
        if links_left == 0 {
            // Whatever cut them off may have kept news of a switch from being heard.
            self.shared.live.doubt_version();
        }
        let is_wanted = matches!(error, LinkError::Replaced | LinkError::Released);
        if !self.shared.dialer.switch.is_enabled() {
            self.shared.live.set_upstream_up(false);
        }
        // Once per outage: an upstream that lets links in only to close them says nothing new. A
        // client's own link may be closed by the server for that client's sake (`timeout`, output
        // limits, CLIENT KILL), or because it is idle: that is no outage. Nor is a user's end.
        let is_users = self.is_own(index) || self.link_kind(index).2.is_some();
        if !is_users && !is_wanted && self.shared.live.is_news(false) {
            tracing::warn!(
                event = "upstream_down",
                upstream = %self.shared.dialer.target,
                error = %error,
                links_left,
                "an upstream link broke"
            );
        }
    }

    /// Reads whose link was closed are asked on the next one.
    pub fn ask_again(self: &Rc<Self>, index: usize, reads: Vec<Again>) {
        for Again { read, waiters, known } in reads {
            for waiter in waiters {
                self.serve(waiter.client, |session, batch| {
                    session.ask_again(waiter.slot, &read, known.clone(), batch);
                });
                self.with_link(index, |link| again::mark(link, waiter));
            }
        }
        let State { snapshot, clients, .. } = &mut *self.state.borrow_mut();
        self.flush_touched(clients, snapshot);
    }

    /// True if a link that could not be opened is not tried again: upstream has refused its
    /// credentials, or it is a bulk link for which nobody waits. (The others' link serves as well,
    /// and finds out by itself what is wrong.)
    pub fn gives_up(&self, index: usize, error: &LinkError) -> bool {
        let is_spare = self.with_link(index, |link| link.is_bulk && link.is_empty()) == Some(true);
        if is_spare {
            self.block.add(error.connect_counter(), 1);
            return true;
        }
        let LinkError::Open(refusal) = error else {
            return false;
        };
        let gives_up = (refusal.is_login_refused() || refusal.is_denied())
            && self.identity_refused(index, refusal.is_login_refused());
        if gives_up {
            self.block.add(refusal.counter(), 1);
        }
        gives_up
    }

    /// A link could not be opened.
    pub fn link_failed(&self, index: usize, error: &LinkError) {
        if error.is_silence() {
            self.shared.live.set_upstream_silent();
        } else if !error.is_refusal() {
            self.shared.live.set_upstream_up(false);
        }
        self.block.add(error.connect_counter(), 1);
        if error.is_busy() {
            self.with_desk(index, |link, desk| {
                while !link.is_empty() {
                    settle::fail_front(link, Lost::Busy, desk);
                }
                link.drop_output();
                lose_pin(link, desk);
            });
            self.release_waiters(index);
            return;
        }
        // Once per outage, not 10 times a second.
        if self.shared.live.is_news(false) {
            tracing::warn!(
                event = "upstream_down",
                upstream = %self.shared.dialer.target,
                error = %error,
                "upstream cannot be used; trying again"
            );
        }
        self.fail_waiting(index);
    }

    /// Fails the requests that have waited long enough for a link.
    pub fn fail_waiting(&self, index: usize) {
        let (snapshot, live) = (self.snapshot(), &self.shared.live);
        let limits = &snapshot.limits;
        let wait = match live.fallback.phase() {
            // Upstream is there, and what was written meanwhile comes first.
            Phase::Recovering => Some(limits.read_timeout.max(limits.reconnect_wait)),
            // Who is connected waits for its answers, and so does who would be if it were direct.
            _ if live.is_upstream_silent() => None,
            _ => Some(limits.link_wait(live.is_upstream_up())),
        };
        let now = self.shared.clock.now();
        self.fail_queue(index, |link| {
            let Some(wait) = wait else {
                link.silent_at = now;
                return overdue(link, limits, now);
            };
            // Once it is not silent any more they have the time that the others have.
            let since = link.silent_at;
            link.front().is_some_and(|ticket| now.since(ticket.asked_at.max(since)) >= wait)
        });
    }

    /// True if the oldest request has waited longer than its timeout.
    pub fn is_overdue(&self, index: usize) -> bool {
        let now = self.shared.clock.now();
        let limits = &self.snapshot().limits;
        self.with_link(index, |link| overdue(link, limits, now)).unwrap_or(false)
    }

    /// Fails the requests that wait for a link, if they name keys by a version that a fleet has
    /// left since: this instance did not hear of it in time.
    pub fn fail_misnamed(&self, index: usize) {
        if self.shared.live.is_version_shared() {
            let newest = self.snapshot();
            self.fail_queue(index, |link| link.snapshot_of_front().names != newest.names);
        }
    }

    /// Fails what waits for a link that is down, if this is so of it. All goes at once: what is
    /// behind the oldest is part of the same outage.
    fn fail_queue(&self, index: usize, is_lost: impl Fn(&mut Pipeline) -> bool) {
        self.with_desk(index, |link, desk| {
            if !link.is_empty() && is_lost(link) {
                while !link.is_empty() {
                    settle::fail_front(link, Lost::NotExecuted("upstream is down"), desk);
                }
                link.drop_output();
                lose_pin(link, desk);
            }
        });
        self.release_waiters(index);
    }
}

/// The connection of a client's own link is gone, and with it all that it held of the client. If
/// that was anything (a transaction, subscriptions), the client's connection ends too, as it would
/// with a Redis that died.
pub(super) fn lose_pin(link: &mut Pipeline, desk: &mut Desk<'_>) {
    while link.pin.is_some() && !link.is_empty() {
        settle::fail_front(link, Lost::NotExecuted("the upstream link broke"), desk);
    }
    let Some(pin) = &mut link.pin else {
        return;
    };
    if let Some(transaction) = pin.transaction.take() {
        answer::forget(&transaction, desk);
        pin.is_watching = true;
    }
    let was_clean = pin.is_clean() || pin.is_over;
    pin.is_over = true;
    let Some(client) = pin.client.take() else {
        return;
    };
    let Some(session) = desk.clients.session(client) else {
        return;
    };
    // What follows MULTI must not be executed without it, and may be on its way here.
    let is_torn = session.drop_own().is_some_and(|own| own.in_multi);
    session.client.set_served();
    session.client.was_aimed_at();
    // Nobody else will say that the link has less to send.
    session.waits_for_link = false;
    if !was_clean || is_torn || session.client.is_target.load(Ordering::Relaxed) {
        session.ending = Some(Ending::Upstream);
    }
    desk.clients.touch(client);
}

/// True if the oldest request has waited longer than its answer may take.
fn overdue(link: &mut Pipeline, limits: &Limits, now: Tick) -> bool {
    // What may block takes the time that it was given.
    let is_patient = link.is_blocked();
    link.front().filter(|_| !is_patient).is_some_and(|ticket| {
        let is_change = ticket.spec.writes() || ticket.spec.class == Class::Scripting;
        let limit = if is_change { limits.write_timeout } else { limits.read_timeout };
        now.since(ticket.asked_at) > limit
    })
}
