//! What a worker's links need of it: their state, what they send and receive, and what becomes of
//! their clients' requests when one breaks.

use crate::data::settle::{self, Desk, Fault, Lost};
use crate::data::upstream::link::LinkError;
use crate::data::upstream::{Pipeline, State as LinkState, Ticket};
use crate::data::walk;
use crate::data::worker::{State, Worker};
use crate::stats::{Counter, Gauge};
use crate::wire::write::Proto;
use bytes::BytesMut;
use std::rc::Rc;
use std::task::Waker;

impl Worker {
    /// Database and protocol of a link.
    pub fn link_kind(&self, index: usize) -> (u32, Proto) {
        self.with_link(index, |link| (link.db, link.proto)).unwrap_or_default()
    }

    /// A link can be used from now on.
    pub fn link_up(&self, index: usize) {
        self.with_link(index, |link| link.state = LinkState::Up);
        self.shared.live.set_upstream_up(true);
        self.shared.live.count_link(true);
        self.block.add(Counter::ConnectOk, 1);
        self.block.shift(Gauge::UpstreamConnections, 1);
    }

    /// A link has shown that it is more than a handshake.
    pub fn link_proved(&self) {
        if self.shared.live.is_news(true) {
            let upstream = &self.shared.dialer.target;
            tracing::info!(event = "upstream_up", upstream = %upstream, "upstream is up");
        }
    }

    /// Answers that a link has taken, over all its connections.
    pub fn answered(&self, index: usize) -> u64 {
        self.with_link(index, |link| link.answered()).unwrap_or_default()
    }

    /// A link broke: what was sent has an unknown outcome, what was not waits for the next one.
    pub fn link_down(&self, index: usize, error: &LinkError) {
        self.block.shift(Gauge::UpstreamConnections, -1);
        self.block.add(Counter::UpstreamDisconnects, 1);
        if matches!(error, LinkError::Fault(_)) {
            self.block.add(Counter::ProtocolErrorsUpstream, 1);
        }
        let links_left = self.shared.live.count_link(false);
        // Once per outage: an upstream that lets links in only to close them says nothing new.
        if self.shared.live.is_news(false) {
            tracing::warn!(
                event = "upstream_down",
                upstream = %self.shared.dialer.target,
                error = %error,
                links_left,
                "an upstream link broke"
            );
        }
        self.with_desk(index, |link, desk| {
            if matches!(error, LinkError::Panic) {
                link.suspect();
            }
            while link.front_is_sent() && !link.is_empty() {
                desk.block.add(error.counter(), 1);
                settle::fail_front(link, Lost::OutcomeUnknown("the upstream link broke"), desk);
            }
            link.reset();
        });
        self.release_waiters(index);
    }

    /// A panic while a client was served: any link may hold half of what it asked.
    pub fn suspect_links(&self) {
        self.state.borrow_mut().links.each(Pipeline::suspect);
        self.shared.flights.crash_all(self.number);
    }

    /// True if the link may hold half a request.
    pub fn is_suspect(&self, index: usize) -> bool {
        self.with_link(index, |link: &mut Pipeline| link.is_suspect()).unwrap_or(false)
    }

    /// Lets the clients go on that wait until a link has less to send, if it has.
    fn release_waiters(&self, index: usize) {
        if self.with_link(index, Pipeline::has_drained) == Some(true) {
            self.link_drained(index);
        }
    }

    /// A link could not be opened.
    pub fn link_failed(&self, index: usize, error: &LinkError) {
        if !error.is_refusal() {
            self.shared.live.set_upstream_up(false);
        }
        self.block.add(error.connect_counter(), 1);
        // Once per outage, not 12 times a second.
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
        let wait = self.shared.limits.reconnect_wait;
        let now = self.shared.clock.now();
        let limit = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.with_desk(index, |link, desk| {
            let is_due =
                link.front().is_some_and(|ticket| now.0.saturating_sub(ticket.asked_at.0) >= limit);
            // All go at once: what is behind the oldest is part of the same outage.
            if is_due {
                while !link.is_empty() {
                    settle::fail_front(link, Lost::NotExecuted("upstream is down"), desk);
                }
                link.drop_output();
            }
        });
        self.release_waiters(index);
    }

    /// True if the oldest request has waited longer than its timeout.
    pub fn is_overdue(&self, index: usize) -> bool {
        let now = self.shared.clock.now();
        let limits = &self.shared.limits;
        self.with_link(index, |link| {
            link.front().is_some_and(|ticket| {
                let limit =
                    if ticket.spec.writes() { limits.write_timeout } else { limits.read_timeout };
                let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
                now.0.saturating_sub(ticket.asked_at.0) > limit
            })
        })
        .unwrap_or(false)
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
        self.with_link(index, |link| !link.output.is_empty()).unwrap_or(false)
    }

    /// Takes what is to be written; requests in it count as sent.
    pub fn seal(&self, index: usize) -> BytesMut {
        self.with_link(index, |link| {
            link.seal();
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
            (result, link.proto, std::mem::take(&mut desk.moved))
        });
        let Some((result, proto, moved)) = settled else {
            return Ok(());
        };
        if !moved.is_empty() {
            self.move_walks(moved, proto);
        }
        result
    }

    /// Hands walks to the links of the databases where they go on.
    #[cold]
    fn move_walks(self: &Rc<Self>, moved: Vec<(u32, Ticket)>, proto: Proto) {
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        for (db, ticket) in moved {
            walk::enter(state.links.at(db, proto), ticket, &self.shared.prefix, now);
        }
        drop(state);
        self.start_links();
    }

    fn with_link<T>(&self, index: usize, run: impl FnOnce(&mut Pipeline) -> T) -> Option<T> {
        self.state.borrow_mut().links.get(index).map(run)
    }

    /// Runs `run` on a link and the clients; what it queued for them is then sent.
    fn with_desk<T>(
        &self,
        index: usize,
        run: impl FnOnce(&mut Pipeline, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let State { clients, links, scratch, .. } = &mut *state;
        let link = links.get(index)?;
        let now = self.shared.clock.now();
        let (shared, block) = (&*self.shared, &*self.block);
        let mut desk = Desk { clients, shared, block, scratch, moved: Vec::new(), now };
        let result = run(link, &mut desk);
        self.flush_touched(clients);
        Some(result)
    }
}
