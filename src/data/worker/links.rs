//! What a worker's links need of it: their state, and what they send and receive.

use crate::cache::Space;
use crate::command;
use crate::data::barrier;
use crate::data::identity::Identity;
use crate::data::order::Frame;
use crate::data::pinned::exec;
use crate::data::session::{Session, UNSENT_MAX};
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{Kind, Pin, Pipeline, Pipelines, State as LinkState, Ticket};
use crate::data::walk;
use crate::data::worker::outages::lose_pin;
use crate::data::worker::{State, Worker};
use crate::stats::{Counter, Gauge};
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

    /// True if a link leads to what stands in for upstream.
    pub(super) fn is_detour(&self, index: usize) -> bool {
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
            let (sought, flush) = (member.session.sought, member.session.flush);
            let waits = sought.is_some_and(|sought| sought.is_awaited(&self.shared, now))
                || self
                    .shared
                    .behind
                    .as_deref()
                    .zip(flush)
                    .is_some_and(|(queue, awaited)| awaited.is_pending(queue, now));
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

    /// Bytes that a link holds of a frame which nobody awaits; 0 where the server may speak
    /// unasked: a subscriber waits for the rest of a message as long as one of the server would.
    pub fn unasked(&self, index: usize) -> usize {
        let unasked = |link: &mut Pipeline| {
            let is_told = link.pin.as_deref().is_some_and(Pin::is_told);
            if link.is_empty() && !is_told { link.input.len() } else { 0 }
        };
        self.with_link(index, unasked).unwrap_or(0)
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
        self.with_link(index, Pipeline::take_input).unwrap_or_default()
    }

    /// Gives the buffer of bytes read back.
    pub fn put_back_input(&self, index: usize, input: BytesMut) {
        self.with_link(index, |link| link.put_back_input(input));
    }

    /// Settles every complete answer.
    pub fn settle(self: &Rc<Self>, index: usize) -> Result<(), Fault> {
        let settled = self.with_desk(index, |link, desk| {
            let result = settle::settle(link, desk);
            let (moved, big) = (std::mem::take(&mut desk.moved), std::mem::take(&mut desk.big));
            (result, link.proto, link.pin.is_some(), moved, big)
        });
        let Some((result, proto, is_own, moved, big)) = settled else {
            return Ok(());
        };
        if !big.is_empty() {
            self.set_apart(&big);
        }
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
