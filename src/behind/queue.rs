//! Writes that were taken and upstream does not have yet, in the order in which they came.
//!
//! ```text
//!   push       a write: from now on its key is pending            (a worker)
//!   log        the next batch for the log, and what came of it    (the log's thread)
//!   batch      what is to be made upstream next                   (who flushes)
//!   flushed    upstream has it: when the log has that too, its key is pending no more
//!   close      a write that goes upstream by itself waits for those of its keys: no more are taken
//! ```
//!
//! In: writes of one key each. Out: their acknowledgement, as late as `ack` says; and for whoever
//! asks for a key, what it is going to be, or that it has to wait.
//!
//! Invariants: writes reach upstream in their order, so each key has the order of its own; one is
//! never sent before it is in the log (while that takes any), nor settled before upstream has it
//! and the log says so, or is gone: what stands in a log is made again at the next start, and would
//! undo what came after it. For the same reason nobody hears from upstream that his write is made
//! before that.

use crate::behind::log::Failed;
use crate::behind::news::{News, Reached};
use crate::behind::pending::{Condition, Pending, costs};
use crate::behind::record::Write;
use crate::behind::told::Told;
use crate::units::clock::{Clock, Tick};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

pub use crate::behind::pending::{Batch, Durability, Seen};

/// See the module.
#[derive(Debug)]
pub struct Queue {
    durability: Durability,
    pending: Mutex<Pending>,
    /// There is something for the log.
    to_log: Condvar,
    /// There is something to be flushed, or somebody is in a hurry.
    to_flush: Notify,
    /// Somebody waits to be told, and nobody did.
    to_tell: Notify,
    len: AtomicUsize,
    /// How far writes have come.
    pub news: News,
    clock: Clock,
}

/// What the log is to do.
#[derive(Debug)]
pub enum Job {
    /// Append these, and up to where upstream has all.
    Append(Vec<(u64, Write)>, u64),
    /// Begin anew.
    Reset,
    /// Nothing more will come.
    End,
}

#[expect(clippy::significant_drop_tightening, reason = "what a call sees is of one moment")]
impl Queue {
    /// A queue that begins with these writes, which a log has had, numbered without a gap; `last`:
    /// the number of the last write there was.
    pub fn new(
        durability: Durability,
        (writes, last): (Vec<(u64, Write)>, u64),
        clock: Clock,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Self {
        let first = writes.first().map_or(last + 1, |(number, _)| *number);
        let mut pending = Pending::new(durability, first, writes.len() as u64);
        let reached = Reached { logged: pending.logged, settled: first - 1 };
        for (_, write) in writes {
            let hash = hash(&write.name());
            pending.add(write, hash, clock.now());
        }
        Self {
            durability,
            len: AtomicUsize::new(pending.len()),
            pending: Mutex::new(pending),
            to_log: Condvar::new(),
            to_flush: Notify::new(),
            to_tell: Notify::new(),
            news: News::new(reached, clock.clone()),
            clock,
        }
    }

    /// True if nothing is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    /// Writes that are pending, bytes of them, and how old the oldest is.
    pub fn figures(&self) -> (usize, usize, Duration) {
        let pending = self.pending.lock();
        let oldest = pending.oldest().map(|at| self.clock.now().since(at));
        (pending.len(), pending.bytes, oldest.unwrap_or_default())
    }

    /// True if a write is acknowledged when it is here.
    pub const fn acknowledges_at_once(&self) -> bool {
        matches!(self.durability, Durability::Memory)
    }

    /// True while the log takes nothing.
    pub fn has_failed(&self) -> bool {
        self.pending.lock().condition != Condition::Open
    }

    /// Takes a write, unless there is no room for it, the log has failed, or its key is closed.
    /// `told`: who is to hear that it is in the log.
    pub fn push(
        &self,
        (write, hash): (Write, u64),
        bytes_max: usize,
        told: impl FnOnce() -> Option<Told>,
    ) -> bool {
        let now = self.clock.now();
        let mut pending = self.pending.lock();
        let is_full = pending.bytes + costs(&write) > bytes_max;
        let is_shut = pending.condition != Condition::Open || pending.is_ending;
        if is_full || is_shut || now < pending.closed_until(hash) {
            return false;
        }
        let number = pending.add(write, hash, now);
        self.len.store(pending.len(), Ordering::SeqCst);
        let is_first = told().is_some_and(|told| pending.audience.add(number, told));
        drop(pending);
        if is_first {
            self.to_tell.notify_one();
        }
        match self.durability {
            Durability::Memory => self.to_flush.notify_one(),
            Durability::Logged => {
                self.to_log.notify_one();
            }
        }
        true
    }

    /// Takes no more writes of these keys (`None`: of any) before none of them is pending, or it is
    /// too late: who waits for that would wait for ever where others go on writing.
    pub fn close(&self, hashes: Option<&[u64]>, until: Tick) {
        self.pending.lock().close(hashes, until);
    }

    /// True if a key of this hash may be another one soon.
    pub fn is_pending(&self, hash: u64) -> bool {
        !self.is_empty() && self.pending.lock().has(hash)
    }

    /// What a key, named by its database, its prefix and by clients, is going to be. `waited`: the
    /// write that this was told to wait for before; if that is in the log by now, nobody waits for
    /// what others have written since.
    pub fn see(
        &self,
        hash: u64,
        key: (u32, &[u8], &[u8]),
        waited: Option<u64>,
        now_unix: u64,
    ) -> Seen {
        self.pending.lock().see(hash, key, waited, now_unix)
    }

    /// The last write of these keys that is pending.
    pub fn last_of(&self, hashes: &[u64]) -> Option<u64> {
        let pending = self.pending.lock();
        hashes.iter().filter_map(|hash| pending.last_of(*hash)).max()
    }

    /// The last write that is pending.
    pub fn last(&self) -> Option<u64> {
        let pending = self.pending.lock();
        (!pending.is_empty()).then(|| pending.newest())
    }

    /// Somebody waits until less is pending, and no longer than this: nothing is gathered.
    pub fn hurry(&self, until: Tick) {
        self.news.expect(until);
        self.pending.lock().is_hurried = true;
        self.to_flush.notify_one();
    }

    /// Waits until nothing is pending that is so now.
    pub async fn until_settled(&self) {
        if let Some(last) = self.last() {
            self.hurry(Tick(u64::MAX));
            self.news.until_settled(last).await;
        }
    }

    /// Answers who has waited for too long, as long as the process lives.
    pub async fn tell_late(&self) {
        loop {
            match self.tell_late_now() {
                Some(next) => tokio::time::sleep(next.since(self.clock.now())).await,
                None => self.to_tell.notified().await,
            }
        }
    }

    /// Answers who has waited for too long; when the next will have.
    pub fn tell_late_now(&self) -> Option<Tick> {
        let (late, next) = self.pending.lock().audience.take_late(self.clock.now());
        tell(late);
        next
    }

    /// Waits until there is something for the log, which this thread writes.
    pub fn next_job(&self) -> Job {
        let mut pending = self.pending.lock();
        loop {
            let newest = pending.newest();
            let is_open = pending.condition == Condition::Open;
            if is_open && (pending.logging < newest || pending.marked < pending.flushed) {
                return Job::Append(pending.take_for_log(), pending.flushed);
            }
            if pending.flushed >= newest && !is_open && !pending.is_cleared {
                return Job::Reset;
            }
            if pending.is_empty() && pending.is_ending {
                return Job::End;
            }
            self.to_log.wait(&mut pending);
        }
    }

    /// The log has what it was given, up to `last`, and that upstream has all up to `done`.
    pub fn log_has(&self, last: u64, done: u64) {
        let mut pending = self.pending.lock();
        pending.logged = pending.logged.max(last);
        pending.marked = done;
        let logged = pending.logged;
        let told = pending.audience.take(logged);
        pending.settle(done);
        self.spread(pending);
        tell(told);
        self.to_flush.notify_one();
    }

    /// The log has failed: what is not in it is acknowledged when upstream has it and the log is
    /// gone, and nothing more is taken.
    pub fn log_failed(&self, failed: &Failed) {
        let mut pending = self.pending.lock();
        pending.condition = match failed {
            Failed::Write(_) => Condition::Full,
            Failed::Sync(_) => Condition::Broken,
        };
        pending.is_hurried = true;
        pending.is_cleared = false;
        drop(pending);
        self.to_flush.notify_one();
    }

    /// Upstream has everything, and nothing is left of what was in the log. True if writes are
    /// taken again.
    pub fn log_is_new(&self) -> bool {
        let mut pending = self.pending.lock();
        let told = pending.settle_flushed();
        let last = pending.first - 1;
        (pending.logging, pending.logged, pending.marked) = (last, last, last);
        pending.is_cleared = true;
        if pending.condition == Condition::Full {
            pending.condition = Condition::Open;
        }
        let is_open = pending.condition == Condition::Open;
        self.spread(pending);
        tell(told);
        is_open
    }

    /// Upstream has everything, and what was in the log cannot be removed.
    pub fn log_is_lost(&self, failed: &Failed) {
        let mut pending = self.pending.lock();
        if matches!(failed, Failed::Sync(_)) {
            pending.condition = Condition::Broken;
        }
        let told = pending.settle_flushed();
        self.spread(pending);
        tell(told);
    }

    /// Waits for something that is to be made upstream; what comes within `gather` of the first of
    /// it is made with it.
    pub async fn batch(&self, gather: Duration) -> Batch {
        loop {
            let wanted = self.to_flush.notified();
            let wait = {
                let mut pending = self.pending.lock();
                match self.left_to_gather(&pending, gather) {
                    Some(left) if left.is_zero() => {
                        pending.is_hurried = false;
                        return pending.batch();
                    }
                    left => left,
                }
            };
            match wait {
                None => wanted.await,
                Some(left) => drop(tokio::time::timeout(left, wanted).await),
            }
        }
    }

    /// How long what may be flushed is to be gathered yet; `None`: there is nothing.
    fn left_to_gather(&self, pending: &Pending, gather: Duration) -> Option<Duration> {
        let (since, is_due) = pending.to_flush()?;
        let left = gather.saturating_sub(self.clock.now().since(since));
        Some(if is_due { Duration::ZERO } else { left })
    }

    /// Upstream has all up to `last`, and said this of those that somebody waits for, who hears it
    /// when they are settled.
    pub fn flushed(&self, last: u64, said: impl FnMut(u64) -> Option<Bytes>) {
        let mut pending = self.pending.lock();
        pending.flushed = pending.flushed.max(last);
        pending.audience.hear(last, said);
        let told = match self.durability {
            Durability::Memory => pending.settle_flushed(),
            Durability::Logged => Vec::new(),
        };
        self.spread(pending);
        tell(told);
        self.to_log.notify_one();
    }

    /// Lets everybody know how far writes have come.
    fn spread(&self, pending: MutexGuard<'_, Pending>) {
        self.len.store(pending.len(), Ordering::SeqCst);
        self.news.spread(pending.logged, pending.first - 1);
        drop(pending);
    }

    /// Nothing more is taken, and nothing gathered.
    pub fn end(&self) {
        self.pending.lock().is_ending = true;
        self.to_log.notify_one();
        self.to_flush.notify_one();
    }
}

fn tell(told: Vec<Told>) {
    told.into_iter().for_each(Told::tell);
}
