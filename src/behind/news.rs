//! How far writes have come, for those who wait for that.
//!
//! In: up to where the log has them, and up to where none is pending; who waits, and until when.
//! Out: word for those who wait, when there is news or it is too late; nothing for anybody else.

use crate::units::clock::{Clock, Tick};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// Nobody waits.
const NOBODY: u64 = u64::MAX;

/// How far writes have come.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Up to where the log has them.
    pub logged: u64,
    /// Up to where nothing is pending.
    pub settled: u64,
}

/// See the module.
#[derive(Debug)]
pub struct News {
    reached: watch::Sender<Reached>,
    /// Until when the first of those waits who wait; `u64::MAX`: nobody does.
    awaited: AtomicU64,
    /// It is earlier than it was.
    is_awaited: Notify,
    clock: Clock,
}

impl News {
    /// So far they have come at the start.
    pub fn new(reached: Reached, clock: Clock) -> Self {
        let (reached, awaited) = (watch::Sender::new(reached), AtomicU64::new(NOBODY));
        Self { reached, awaited, is_awaited: Notify::new(), clock }
    }

    /// True if no write up to this one is pending.
    #[inline]
    pub fn is_settled(&self, number: u64) -> bool {
        self.reached.borrow().settled >= number
    }

    /// True if the log has all writes up to this one, or none of them is pending.
    pub fn is_logged(&self, number: u64) -> bool {
        let reached = *self.reached.borrow();
        reached.logged.max(reached.settled) >= number
    }

    /// The log has all up to `logged`, and none up to `settled` is pending.
    pub(super) fn spread(&self, logged: u64, settled: u64) {
        self.reached.send_if_modified(|reached| {
            let is_news = reached.logged < logged || reached.settled < settled;
            reached.logged = reached.logged.max(logged);
            reached.settled = reached.settled.max(settled);
            is_news
        });
    }

    /// Somebody waits, until then at most: [`Self::until_news`] will be over.
    pub fn expect(&self, until: Tick) {
        if self.awaited.fetch_min(until.0, Ordering::SeqCst) > until.0 {
            self.is_awaited.notify_one();
        }
    }

    /// Waits until somebody who waits may wait no longer: writes have come further, or it is too
    /// late. Who waits on says so again.
    pub async fn until_news(&self, reached: &mut watch::Receiver<Reached>) {
        loop {
            let until = self.awaited.load(Ordering::SeqCst);
            let left = Tick(until).since(self.clock.now());
            tokio::select! {
                _ = reached.changed(), if until != NOBODY => break,
                () = tokio::time::sleep(left), if until != NOBODY => break,
                () = self.is_awaited.notified() => {}
            }
        }
        self.awaited.store(NOBODY, Ordering::SeqCst);
    }

    /// Told how far they come.
    pub fn watch(&self) -> watch::Receiver<Reached> {
        self.reached.subscribe()
    }

    /// Waits until no write up to this one is pending.
    pub async fn until_settled(&self, number: u64) {
        // Its sender is here.
        self.watch().wait_for(|reached| reached.settled >= number).await.ok();
    }
}
