//! What a worker asks anew on behalf of its clients.

use crate::data::again::{self, Again};
use crate::data::worker::{State, Worker};
use std::rc::Rc;

impl Worker {
    /// Reads whose link was closed are asked on the next one.
    pub fn ask_again(self: &Rc<Self>, index: usize, reads: Vec<Again>) {
        for Again { read, waiters } in reads {
            for waiter in waiters {
                self.serve(waiter.client, |session, batch| {
                    session.ask_again(waiter.slot, &read, batch);
                });
                self.with_link(index, |link| again::mark(link, waiter));
            }
        }
        let State { snapshot, clients, .. } = &mut *self.state.borrow_mut();
        self.flush_touched(clients, snapshot);
    }
}
