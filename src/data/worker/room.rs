//! What clients have not taken has so much room in all (`server.max_clients_memory`). Beyond it,
//! who has taken nothing for the longest time is closed, and the next, until the others have room.
//!
//! Each worker looks after its own clients: when one of them leaves more than it had left, and once
//! a second.

use crate::data::worker::clients::Member;
use crate::data::worker::{Clients, Worker};
use crate::snapshot::Snapshot;
use crate::stats::Counter;
use std::sync::atomic::Ordering;

impl Worker {
    /// A client has left so many bytes: mostly none, as before.
    #[inline]
    pub(super) fn count_unsent(&self, member: &mut Member, left: usize, snapshot: &Snapshot) {
        if left != member.told_unsent {
            self.count_left(member, left, snapshot);
        }
    }

    #[cold]
    fn count_left(&self, member: &mut Member, left: usize, snapshot: &Snapshot) {
        member.session.client.unsent.store(left as u64, Ordering::Relaxed);
        let was = std::mem::replace(&mut member.told_unsent, left);
        let sum = self.shared.registry.count_unsent(was, left);
        if left > was && sum > snapshot.limits.clients_memory_max {
            self.is_crowded.set(true);
        }
    }

    /// Closes those who have taken nothing for longest, as long as there is too much.
    #[cold]
    pub(super) fn make_room(&self, clients: &mut Clients, snapshot: &Snapshot) {
        let max = snapshot.limits.clients_memory_max;
        let mut sum = self.shared.registry.unsent();
        if sum <= max {
            return;
        }
        let is_stuck = |member: &Member| member.told_unsent > 0 && member.closing.is_none();
        let stuck = clients.slab.iter().filter(|(_, member)| is_stuck(member));
        let mut stuck: Vec<(Option<u64>, usize)> =
            stuck.map(|(place, member)| (member.stuck_since, place)).collect();
        stuck.sort_unstable();
        for (_, place) in stuck {
            if sum <= max {
                break;
            }
            if let Some(member) = clients.slab.get_mut(place) {
                sum = sum.saturating_sub(member.told_unsent as u64);
                member.closing = Some(Counter::ClosedClientsMemory);
                member.wake();
            }
        }
    }
}
