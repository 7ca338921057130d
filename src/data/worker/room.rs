//! What clients hold has so much room in all (`server.max_clients_memory`): replies that they have
//! not taken, requests that are not whole yet, and the buffers for the next of both. Beyond it,
//! buffers that are empty are given back; then who holds most for longest without taking any of it
//! is closed, and the next, until the others have room.
//!
//! Each worker looks after its own clients: when one of anybody's holds more than it did and all
//! hold too much, then all workers are rung for; and once a second. Its clients keep their part of
//! the room, whatever those of others hold.

use crate::data::worker::clients::Member;
use crate::data::worker::{Clients, Worker};
use crate::snapshot::Snapshot;
use crate::stats::Counter;
use crate::units::clock::Tick;
use std::cmp::Reverse;

impl Worker {
    /// What a client's output holds: mostly as much as before.
    #[inline]
    pub(super) fn count_output(&self, member: &mut Member, snapshot: &Snapshot) {
        let held = member.session.output.held();
        if held != member.told_output {
            let was = std::mem::replace(&mut member.told_output, held);
            self.count_held(was, held, snapshot);
        }
    }

    /// What it holds beside its output. (Replies that are staged behind those counted here, and the
    /// beginning of a request behind whole ones, are counted within a second.)
    #[inline]
    pub(super) fn count_beside(&self, member: &mut Member, snapshot: &Snapshot) {
        let held = member.session.held_beside();
        if held != member.told_beside {
            let was = std::mem::replace(&mut member.told_beside, held);
            self.count_held(was, held, snapshot);
        }
    }

    #[cold]
    fn count_held(&self, was: usize, held: usize, snapshot: &Snapshot) {
        let sum = self.shared.registry.count_held(was, held);
        if held > was && sum > snapshot.limits.clients_memory_max {
            self.shared.bells.ring();
        }
    }

    /// Gives back what is empty, and closes those who hold most for longest, as long as there is
    /// too much.
    #[cold]
    pub(super) fn make_room(&self, clients: &mut Clients, snapshot: &Snapshot) {
        let (max, registry) = (snapshot.limits.clients_memory_max, &self.shared.registry);
        if registry.held() <= max {
            return;
        }
        let (mut own, mut leaving) = (0, 0);
        for (_, member) in &mut clients.slab {
            member.session.shrink();
            self.count_output(member, snapshot);
            self.count_beside(member, snapshot);
            let sum = if member.closing.is_none() { &mut own } else { &mut leaving };
            *sum += held(member);
        }
        let mut all = registry.held().saturating_sub(leaving);
        let part = max / self.shared.bells.count();
        if all > max && own > part {
            for place in first_to_go(clients, self.shared.clock.now()) {
                let Some(member) = clients.slab.get_mut(place) else { continue };
                (all, own) = (all.saturating_sub(held(member)), own - held(member));
                member.closing = Some(Counter::ClosedClientsMemory);
                member.wake();
                if all <= max || own <= part {
                    break;
                }
            }
        }
    }
}

/// Those who hold something, and above all those who have held most for longest without taking any
/// of it. (By time alone, who reads slowly would go before who has just come and never reads; by
/// memory alone, who reads a large reply.)
fn first_to_go(clients: &Clients, now: Tick) -> Vec<usize> {
    let rank = |member: &Member| {
        let waits = member.stuck_since.map_or(0, |since| now.0.saturating_sub(since));
        Reverse(u128::from(held(member)) * u128::from(waits + 1))
    };
    let is_held = |member: &Member| held(member) > 0 && member.closing.is_none();
    let mut ranked: Vec<_> = clients.slab.iter().filter(|(_, member)| is_held(member)).collect();
    ranked.sort_unstable_by_key(|(_, member)| rank(member));
    ranked.into_iter().map(|(place, _)| place).collect()
}

fn held(member: &Member) -> u64 {
    (member.told_output + member.told_beside) as u64
}
