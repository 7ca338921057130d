//! What a worker's links need of it: their state, what they send and receive, and what becomes of
//! their clients' requests when one breaks.

use crate::cache::Space;
use crate::command::{self, Class};
use crate::data::again;
use crate::data::barrier;
use crate::data::identity::Identity;
use crate::data::order::Frame;
use crate::data::pinned::{answer, exec};
use crate::data::session::{Ending, Session, UNSENT_MAX};
use crate::data::settle::{self, Desk, Fault, LINK_BROKE, Lost};
use crate::data::upstream::link::LinkError;
use crate::data::upstream::{Kind, Pin, Pipeline, Pipelines, State as LinkState, Ticket};
use crate::data::walk;
use crate::data::worker::{State, Worker};
use crate::live::Phase;
use crate::snapshot::Limits;
use crate::stats::{Counter, Gauge};
use crate::units::clock::Tick;
use crate::wire::write::Proto;
use bytes::BytesMut;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// What keeps a link from being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Fit,
    /// It may hold half a request.
    Suspect,
    /// It is not to be used any more.
    Over,
    /// An operator wants it closed, and it can be.
    Left,
    /// The client whose own link this is must first read what it has been sent.
    Choked,
}

impl Worker {
    /// Space and protocol of a link, and on whose credentials it rides, if not nearside's own.
    pub fn link_kind(&self, index: usize) -> (Space, Proto, Option<Arc<Identity>>) {
        self.with_link(index, |link| (link.space, link.proto, link.identity.clone()))
            .unwrap_or_default()
    }

    /// A link can be used from now on; the server, or the one that stands in for it (`is_detour`),
    /// knows its connection by this number.
    pub fn link_up(&self, index: usize, id: i64, is_detour: bool) {
        let owner = self.with_link(index, |link| {
            link.state = LinkState::Up;
            link.is_detour = is_detour;
            let pin = link.pin.as_mut()?;
            pin.upstream_id = id;
            pin.client
        });
        if let Some(Some(client)) = owner
            && let Some(session) = self.state.borrow_mut().clients.session(client)
        {
            session.client.upstream_id.store(id, Ordering::Relaxed);
        }
        if is_detour {
            return;
        }
        if self.is_own(index) {
            self.block.shift(Gauge::UpstreamDedicated, 1);
        }
        self.shared.live.set_upstream_up(true);
        self.shared.live.count_link(true);
        self.block.add(Counter::ConnectOk, 1);
        self.block.shift(Gauge::UpstreamConnections, 1);
    }

    /// A link has shown that it is more than a handshake.
    pub fn link_proved(&self, index: usize) {
        if !self.is_detour(index) && self.shared.live.is_news(true) {
            let upstream = &self.shared.dialer.target;
            tracing::info!(event = "upstream_up", upstream = %upstream, "upstream is up");
        }
    }

    /// Answers that a link has taken, over all its connections.
    pub fn answered(&self, index: usize) -> u64 {
        self.with_link(index, |link| link.answered()).unwrap_or_default()
    }

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

    /// True if a link leads to what stands in for upstream.
    fn is_detour(&self, index: usize) -> bool {
        self.with_link(index, |link| link.is_detour).unwrap_or(false)
    }

    /// True if nothing is awaited, queued, half sent or half read on any link.
    pub fn is_quiet(&self) -> bool {
        let mut is_quiet = true;
        self.state.borrow_mut().links.each(|link| is_quiet &= link.is_quiet());
        is_quiet
    }

    /// True if one client has this link for itself, or it is idle.
    pub fn is_own(&self, index: usize) -> bool {
        self.with_link(index, |link| link.pin.is_some()).unwrap_or(false)
    }

    /// True if this link is not to be used any more.
    pub fn is_over(&self, index: usize) -> bool {
        self.with_link(index, |link| link.is_over()).unwrap_or(true)
    }

    /// What is to be done with a link before anything else. If it is choked, the task is woken when
    /// it is no more.
    pub fn condition(&self, index: usize, waker: &Waker) -> Condition {
        let is_own = match self.state.borrow_mut().links.get(index) {
            None => return Condition::Over,
            Some(link) if link.is_suspect() => return Condition::Suspect,
            Some(link) if link.is_over() => return Condition::Over,
            Some(link) if link.is_leaving() && self.may_leave(link) => return Condition::Left,
            Some(link) => link.pin.is_some(),
        };
        if is_own && self.is_choked(index, waker) { Condition::Choked } else { Condition::Fit }
    }

    /// True if a link that leaves can be closed. What blocks may do so without end: while there is
    /// to be no link at all, or where upstream is back, that is cut short.
    #[cold]
    fn may_leave(&self, link: &Pipeline) -> bool {
        let is_cut_short = link.is_detour || !self.shared.dialer.switch.is_enabled();
        link.may_leave() || link.is_blocked() && is_cut_short
    }

    /// An operator wants the connection of a link closed.
    pub fn leave(&self, index: usize) {
        self.with_link(index, Pipeline::leave);
    }

    /// True if the client whose own link this is must first read what it has been sent; the task
    /// is then woken when it has.
    pub fn is_choked(&self, index: usize, waker: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        let client = state.links.pin(index).and_then(|pin| pin.client);
        let Some(member) = client.and_then(|client| state.clients.get(client)) else {
            return false;
        };
        let is_choked = member.session.output.len() >= UNSENT_MAX;
        if is_choked {
            member.choked = Some(waker.clone());
        }
        is_choked
    }

    /// The owner task of a client's own link ends: nothing of it is left.
    pub fn retire(&self, index: usize) {
        self.with_desk(index, lose_pin);
        let parted = {
            let mut state = self.state.borrow_mut();
            let parted = state.links.pin(index).and_then(|pin| pin.parted.take());
            state.links.remove(index);
            parted
        };
        self.shared.dedicated.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = parted {
            self.shared.registry.leave(&client);
        }
    }

    /// A client has gone: its own link may be another's, if it holds nothing. True if that is all;
    /// else the client is listed until the link is closed ([`Self::retire`]).
    pub fn part(&self, links: &mut Pipelines, index: usize, session: &Session) -> bool {
        if let Some(pin) = links.pin(index) {
            pin.is_worn |= session.client.was_aimed_at();
            pin.is_over |= session.client.is_target.load(Ordering::Relaxed);
        }
        if links.give_back(index, self.shared.clock.now()) {
            return true;
        }
        let Some(pin) = links.pin(index) else {
            return true;
        };
        pin.parted = Some(Arc::clone(&session.client));
        false
    }

    /// Gives a client's own link back if it holds nothing of the client any more.
    fn release(&self, index: usize) {
        let mut state = self.state.borrow_mut();
        let State { clients, links, .. } = &mut *state;
        let is_free = links.get(index).is_some_and(|link| {
            link.is_quiet() && link.pin.as_ref().is_some_and(|pin| pin.is_clean())
        });
        let client = links.pin(index).and_then(|pin| pin.client);
        let Some(session) = client.filter(|_| is_free).and_then(|client| clients.session(client))
        else {
            return;
        };
        if session.order.is_clear() && session.client.leave_link() {
            session.drop_own();
            if let Some(pin) = links.pin(index) {
                pin.is_worn |= session.client.was_aimed_at();
            }
            links.give_back(index, self.shared.clock.now());
        }
    }

    /// A barrier has passed, or will not in time: who waited for it waits no longer. A link of its
    /// client's own may be another's then.
    pub fn pass_barriers(&self) {
        self.release_seekers();
        let mut freed = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let State { snapshot, clients, scratch, .. } = &mut *state;
            if clients.behind_barrier.is_empty() {
                return;
            }
            let (shared, block, now) = (&*self.shared, &*self.block, self.shared.clock.now());
            let mut desk = Desk::new(clients, shared, block, scratch, now);
            while let Some(held) = barrier::next(&mut desk) {
                let counted = (held.spec, held.asked_at, held.outcome);
                settle::hand_over(held.owner, counted, &Frame::of(&held.reply), &mut desk);
                let session = desk.clients.session(held.owner.client);
                freed.extend(session.and_then(|session| session.own.as_ref()).map(|own| own.link));
            }
            self.flush_touched(clients, snapshot);
        }
        for link in freed {
            self.release(link);
        }
    }

    /// Requests that waited for a barrier are looked at again.
    fn release_seekers(&self) {
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        let State { clients, seekers, .. } = &mut *state;
        seekers.retain(|seeker| {
            let Some(member) = clients.get(*seeker) else {
                return false;
            };
            let sought = member.session.sought;
            let waits = sought.is_some_and(|sought| sought.is_awaited(&self.shared, now));
            if !waits && member.session.release() {
                member.wake();
            }
            waits
        });
    }

    /// While draining: asks the server to end what clients wait for, so that each has its element
    /// or nil before it is disconnected, and none is lost on the way.
    pub fn unblock_all(self: &Rc<Self>) {
        let Some(spec) = command::by_name("client|unblock") else {
            return;
        };
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        let mut blocked = Vec::new();
        state.links.each(|link| {
            let pin = link.pin.as_ref().filter(|pin| pin.upstream_id != 0 && link.is_blocked());
            blocked.extend(pin.map(|pin| (link.space, link.proto, pin.upstream_id)));
        });
        for (space, proto, id) in blocked {
            let mut digits = itoa::Buffer::new();
            let words: [&[u8]; 4] =
                [b"CLIENT", b"UNBLOCK", digits.format(id).as_bytes(), b"TIMEOUT"];
            state.links.at(space, proto).push_silent(spec, &words, false, now);
        }
        drop(state);
        self.start_links();
    }

    /// A panic while a client was served: any link may hold half of what it asked.
    pub fn suspect_links(&self) {
        self.state.borrow_mut().links.each(Pipeline::suspect);
        self.shared.flights.crash_all(self.number);
    }

    /// Lets the clients go on that wait until a link has less to send, if it has.
    pub(super) fn release_waiters(&self, index: usize) {
        if self.with_link(index, Pipeline::has_drained) == Some(true) {
            self.link_drained(index);
        }
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

    /// Bytes that a link holds of a frame which nobody awaits; 0 where the server may speak
    /// unasked: a subscriber waits for the rest of a message as long as one of the server would.
    pub fn unasked(&self, index: usize) -> usize {
        let unasked = |link: &mut Pipeline| {
            let is_told = link.pin.as_deref().is_some_and(Pin::is_told);
            if link.is_empty() && !is_told { link.input.len() } else { 0 }
        };
        self.with_link(index, unasked).unwrap_or(0)
    }

    /// True if the oldest request has waited longer than its timeout.
    pub fn is_overdue(&self, index: usize) -> bool {
        let now = self.shared.clock.now();
        let limits = &self.snapshot().limits;
        self.with_link(index, |link| overdue(link, limits, now)).unwrap_or(false)
    }

    /// The owner task of a link wants to be woken for the next request.
    pub fn set_link_waker(&self, index: usize, waker: &Waker) {
        self.with_link(index, |link| {
            if !link.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                link.waker = Some(waker.clone());
            }
        });
    }

    /// True if requests wait to be written.
    pub fn has_output(&self, index: usize) -> bool {
        self.with_link(index, |link| !link.output.is_empty() && !link.holds_back()).unwrap_or(false)
    }

    /// Takes what is to be written; requests in it count as sent.
    pub fn seal(&self, index: usize) -> BytesMut {
        self.with_link(index, |link| {
            if !link.holds_back() {
                link.seal();
            }
            self.block.shift(Gauge::UpstreamInFlight, link.news_of_out());
            std::mem::take(&mut link.writing)
        })
        .unwrap_or_default()
    }

    /// Gives back what the socket did not take.
    pub fn put_back_writing(&self, index: usize, writing: BytesMut) {
        self.with_link(index, |link| link.put_back_writing(writing));
        self.release_waiters(index);
    }

    /// Takes the buffer of bytes read.
    pub fn take_input(&self, index: usize) -> BytesMut {
        self.with_link(index, |link| std::mem::take(&mut link.input)).unwrap_or_default()
    }

    /// Gives the buffer of bytes read back.
    pub fn put_back_input(&self, index: usize, input: BytesMut) {
        self.with_link(index, |link| link.put_back_input(input));
    }

    /// Settles every complete answer.
    pub fn settle(self: &Rc<Self>, index: usize) -> Result<(), Fault> {
        let settled = self.with_desk(index, |link, desk| {
            let result = settle::settle(link, desk);
            (result, link.proto, link.pin.is_some(), std::mem::take(&mut desk.moved))
        });
        let Some((result, proto, is_own, moved)) = settled else {
            return Ok(());
        };
        if !moved.is_empty() {
            self.move_walks(moved, proto);
        }
        if is_own {
            self.release(index);
        }
        result
    }

    /// Hands walks to the links of the databases where they go on, and EXEC to its client's own.
    #[cold]
    fn move_walks(self: &Rc<Self>, moved: Vec<(Space, Ticket)>, proto: Proto) {
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        let State { clients, links, .. } = &mut *state;
        for (space, ticket) in moved {
            if !matches!(ticket.kind, Kind::Exec(_)) {
                walk::enter(links.at(space, proto), ticket, now);
                continue;
            }
            let own = clients.session(ticket.owner.client).and_then(|client| client.own.as_ref());
            // Where its link is gone, its client goes too.
            if let Some(link) = own.map(|own| own.link).and_then(|own| links.get(own)) {
                exec::enter(link, ticket, now);
            }
        }
        drop(state);
        self.start_links();
    }

    pub(super) fn with_link<T>(
        &self,
        index: usize,
        run: impl FnOnce(&mut Pipeline) -> T,
    ) -> Option<T> {
        self.state.borrow_mut().links.get(index).map(run)
    }

    /// Runs `run` on a link and the clients; what it queued for them is then sent.
    pub(super) fn with_desk<T>(
        &self,
        index: usize,
        run: impl FnOnce(&mut Pipeline, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let State { snapshot, clients, links, scratch, .. } = &mut *state;
        let link = links.get(index)?;
        let now = self.shared.clock.now();
        let (shared, block) = (&*self.shared, &*self.block);
        let mut desk = Desk::new(clients, shared, block, scratch, now);
        let result = run(link, &mut desk);
        self.block.shift(Gauge::UpstreamInFlight, link.news_of_out());
        self.flush_touched(clients, snapshot);
        Some(result)
    }
}

/// The connection of a client's own link is gone, and with it all that it held of the client. If
/// that was anything (a transaction, subscriptions), the client's connection ends too, as it would
/// with a Redis that died.
fn lose_pin(link: &mut Pipeline, desk: &mut Desk<'_>) {
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
