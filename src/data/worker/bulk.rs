//! Clients whose requests or answers are big ride on the bulk link of their worker, so that nobody
//! waits behind those. A client changes its link only while it has nothing out (R7).

use crate::data::settle::Desk;
use crate::data::upstream::{ClientId, Pipeline};
use crate::data::worker::{State, Worker};
use crate::units::clock::Tick;
use std::rc::Rc;

/// Bytes from which on a request or an answer is big. It takes a tenth of a millisecond of a fast
/// network, and so long everything behind it waits.
pub const BIG: usize = 256 * 1024;

/// Who has had nothing big out for so long rides with all others again.
pub(super) const KEPT_NS: u64 = 10_000_000_000;

/// The answer that has come is big: whose it is rides elsewhere from now on.
#[cold]
pub fn note(link: &mut Pipeline, desk: &mut Desk<'_>) {
    if link.pin.is_none() && !link.is_detour {
        desk.big.extend(link.front().and_then(|front| front.client()).map(|waiter| waiter.client));
    }
}

impl Worker {
    /// These clients' answers are big: they ride on the bulk link from now on, as soon as it is up
    /// and they have nothing out.
    #[cold]
    pub(super) fn set_apart(self: &Rc<Self>, clients_of_big: &[ClientId]) {
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        let State { clients, links, .. } = &mut *state;
        for &client in clients_of_big {
            if let Some(session) = clients.session(client) {
                session.big_at = Some(now);
                session.leave_shared_link();
                links.want_bulk(session.space, session.proto, now);
            }
        }
        drop(state);
        self.start_links();
    }

    /// Who has had nothing big out for long rides with all others again.
    pub(super) fn bring_together(State { clients, links, .. }: &mut State, long_ago: Tick) {
        let mut is_used = false;
        for (_, member) in &mut clients.slab {
            let session = &mut member.session;
            if session.big_at.is_some_and(|at| at < long_ago) {
                session.big_at = None;
            }
            let is_big = session.big_at.is_some();
            let rides_there =
                session.link.and_then(|index| links.get(index)).is_some_and(|link| link.is_bulk);
            if is_big != rides_there {
                session.leave_shared_link();
            }
            is_used |= is_big || rides_there && session.link.is_some();
        }
        if !is_used {
            links.close_bulk();
        }
    }
}
