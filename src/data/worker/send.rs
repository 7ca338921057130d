//! What clients are sent: all that one batch has brought them at once, as much as their sockets
//! take. What they leave is looked after by [`super::room`].

use crate::data::registry::Client;
use crate::data::session::UNSENT_MAX;
use crate::data::worker::clients::Member;
use crate::data::worker::{Clients, Worker};
use crate::snapshot::Snapshot;
use crate::stats::Counter;
use std::sync::atomic::Ordering;

impl Worker {
    /// Sends as much of a client's output as its socket takes.
    #[inline]
    pub(super) fn flush(&self, member: &mut Member, snapshot: &Snapshot) {
        let queued = member.session.output.len();
        if queued == 0 {
            return;
        }
        let writer = &member.writer;
        let result = member.session.output.write_to(|slices| writer.try_write_vectored(slices));
        let left = member.session.output.len();
        let sent = (queued - left) as u64;
        self.block.add(Counter::NetOutputBytes, sent);
        Client::add(&member.session.client.bytes_out, sent);
        self.count_output(member, snapshot);
        if left < UNSENT_MAX
            && let Some(waker) = member.choked.take()
        {
            waker.wake();
        }
        match result {
            Ok(()) => {
                if member.stuck_since.take().is_some() {
                    member.session.client.unsent.store(0, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                member.session.client.unsent.store(left as u64, Ordering::Relaxed);
                if left < queued || member.stuck_since.is_none() {
                    member.stuck_since = Some(self.shared.clock.now().0);
                }
                if left > snapshot.limits.output_max {
                    member.closing = Some(Counter::ClosedOutputLimit);
                }
                member.wake();
            }
            Err(_) => {
                member.closing = Some(Counter::ClosedError);
                member.wake();
            }
        }
    }

    /// Sends what the last answers brought to each client, once.
    pub(super) fn flush_touched(&self, clients: &mut Clients, snapshot: &Snapshot) {
        for index in 0..clients.touched.len() {
            let Some(member) =
                clients.touched.get(index).and_then(|place| clients.slab.get_mut(*place as usize))
            else {
                continue;
            };
            member.is_touched = false;
            self.count_out(member, snapshot);
            self.flush(member, snapshot);
            let session = &member.session;
            let goes_on = (member.is_paused
                && (!session.is_stalled(snapshot) || session.listens()))
                || member.session.ending.is_some()
                || member.has_ended
                || self.shared.live.is_parting();
            if goes_on {
                member.wake();
            }
        }
        clients.touched.clear();
    }
}
