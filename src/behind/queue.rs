//! Writes that were taken and upstream does not have yet, in the order in which they came.
//!
//! ```text
//!   push       a write: from now on its key is pending            (a worker)
//!   log        the next batch for the log, and what came of it    (the log's thread)
//!   batch      what is to be made upstream next                   (who flushes)
//!   flushed    upstream has it: when the log has that too, its key is pending no more
//! ```
//!
//! In: writes of one key each. Out: their acknowledgement, as late as `ack` says; and for whoever
//! asks for a key, what it is going to be, or that it has to wait.
//!
//! Invariants: writes reach upstream in their order, so each key has the order of its own; one is
//! never sent before it is in the log (while that takes any), nor settled before upstream has it
//! and the log says so, or is gone: what stands in a log is made again at the next start, and would
//! undo what came after it.

use crate::behind::log::Failed;
use crate::behind::record::{Effect, Write};
use crate::mail::Answer;
use crate::units::clock::{Clock, Tick};
use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Writes, and bytes of them, of one batch.
const BATCH_WRITES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// Nobody waits.
const NOBODY: u64 = u64::MAX;

/// What a write costs beside its bytes.
const WRITE_COSTS: usize = 160;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is here.
    Memory,
    /// When the log has it.
    Logged,
}

/// What a key is going to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What it is upstream.
    Settled,
    /// This, or nothing.
    Becomes(Option<Bytes>),
    /// What only upstream will know, when it has the write of this number.
    Pending(u64),
}

/// A client waits for a write.
#[derive(Debug)]
pub struct Told {
    /// What it is told when the log has it.
    pub reply: Bytes,
    /// The way to it.
    pub answer: Answer,
}

/// What becomes of what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Writes are taken.
    Open,
    /// None is: the log has failed, and this may pass.
    Full,
    /// None is, as long as the process lives.
    Broken,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    hash: u64,
    effect: Effect,
    at: Tick,
    told: Option<Told>,
}

#[derive(Debug)]
struct State {
    condition: Condition,
    /// The first is number `first`.
    writes: VecDeque<Waiting>,
    first: u64,
    /// By the cache's hash of the client's key: how many, and the last of them.
    keys: HashMap<u64, (usize, u64)>,
    /// Up to where it has been given to the log, is in it, and is upstream.
    logging: u64,
    logged: u64,
    flushed: u64,
    /// Up to where the log was told that upstream has all.
    marked: u64,
    /// Somebody waits: no more is gathered.
    is_hurried: bool,
    /// After a failure: nothing is left of what was in the log.
    is_cleared: bool,
    is_ending: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    durability: Durability,
    state: Mutex<State>,
    /// There is something for the log.
    to_log: Condvar,
    /// There is something to be flushed, or somebody is in a hurry.
    to_flush: Notify,
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// Up to where nothing is pending.
    settled: watch::Sender<u64>,
    /// Until when the first of those waits who wait for that; `u64::MAX`: nobody does.
    awaited: AtomicU64,
    /// It is earlier than it was.
    is_awaited: Notify,
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

/// What is to be made upstream.
#[derive(Debug, Default)]
pub struct Batch {
    /// The writes, and of each the cache's hash of its key.
    pub writes: Vec<(u64, u64, Write)>,
    /// From where to where it reaches: what is missing others of it make needless.
    pub first: u64,
    /// See there.
    pub last: u64,
}

#[expect(clippy::significant_drop_tightening, reason = "what a call sees is of one moment")]
impl Queue {
    /// A queue that begins with these writes, which a log has had.
    pub fn new(
        durability: Durability,
        (writes, last): (Vec<(u64, Write)>, u64),
        clock: Clock,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Self {
        let first = writes.first().map_or(last + 1, |(number, _)| *number);
        let state = State {
            condition: Condition::Open,
            writes: VecDeque::new(),
            first,
            keys: HashMap::default(),
            logging: last,
            logged: last,
            flushed: first - 1,
            marked: first - 1,
            is_hurried: false,
            is_cleared: false,
            is_ending: false,
        };
        let queue = Self {
            durability,
            state: Mutex::new(state),
            to_log: Condvar::new(),
            to_flush: Notify::new(),
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            settled: watch::Sender::new(first - 1),
            awaited: AtomicU64::new(NOBODY),
            is_awaited: Notify::new(),
            clock,
        };
        for (_, write) in writes {
            let hash = hash(&write.name());
            queue.add(&mut queue.state.lock(), write, hash, None);
        }
        queue
    }

    fn add(&self, state: &mut State, write: Write, hash: u64, told: Option<Told>) {
        let number = state.first + state.writes.len() as u64;
        let (effect, at) = (write.effect(), self.clock.now());
        self.bytes.fetch_add(costs(&write), Ordering::Relaxed);
        let place = state.keys.entry(hash).or_default();
        *place = (place.0 + 1, number);
        state.writes.push_back(Waiting { write, hash, effect, at, told });
        self.len.store(state.writes.len(), Ordering::SeqCst);
    }

    /// True if nothing is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    /// Writes that are pending, bytes of them, and how old the oldest is.
    pub fn figures(&self) -> (usize, usize, Duration) {
        let state = self.state.lock();
        let oldest = state.writes.front().map(|write| self.clock.now().since(write.at));
        (state.writes.len(), self.bytes.load(Ordering::Relaxed), oldest.unwrap_or_default())
    }

    /// True if a write is acknowledged when it is here.
    pub const fn acknowledges_at_once(&self) -> bool {
        matches!(self.durability, Durability::Memory)
    }

    /// True while the log takes nothing.
    pub fn has_failed(&self) -> bool {
        self.state.lock().condition != Condition::Open
    }

    /// Takes a write, unless there is no room for it, or the log has failed. `told`: who is to hear
    /// that it is in the log.
    pub fn push(
        &self,
        (write, hash): (Write, u64),
        bytes_max: usize,
        told: impl FnOnce() -> Option<Told>,
    ) -> bool {
        let mut state = self.state.lock();
        let is_full = self.bytes.load(Ordering::Relaxed) + costs(&write) > bytes_max;
        if is_full || state.condition != Condition::Open || state.is_ending {
            return false;
        }
        let told = told();
        self.add(&mut state, write, hash, told);
        drop(state);
        match self.durability {
            Durability::Memory => self.to_flush.notify_one(),
            Durability::Logged => {
                self.to_log.notify_one();
            }
        }
        true
    }

    /// True if a key of this hash may be another one soon.
    pub fn is_pending(&self, hash: u64) -> bool {
        !self.is_empty() && self.state.lock().keys.contains_key(&hash)
    }

    /// What a key is going to be.
    pub fn see(&self, hash: u64, database: u32, key: (&[u8], &[u8]), now_unix: u64) -> Seen {
        let state = self.state.lock();
        let Some(&(_, last)) = state.keys.get(&hash) else {
            return Seen::Settled;
        };
        let place = usize::try_from(last.saturating_sub(state.first)).unwrap_or(usize::MAX);
        let Some(Waiting { write, effect, .. }) = state.writes.get(place) else {
            return Seen::Settled;
        };
        let is_safe = self.durability == Durability::Memory || last <= state.logged;
        let is_it = write.database == database && {
            let stored = write.key();
            stored.strip_prefix(key.0) == Some(key.1)
        };
        let has_end = write.ends_at != 0 && write.ends_at <= now_unix;
        match effect {
            // Until the log has it, it may yet not have been.
            _ if !is_safe || !is_it => Seen::Pending(last),
            Effect::Value if has_end => Seen::Becomes(None),
            Effect::Value if write.says_its_end() => Seen::Pending(last),
            Effect::Value => Seen::Becomes(Some(write.value())),
            Effect::Gone => Seen::Becomes(None),
            Effect::Part => Seen::Pending(last),
        }
    }

    /// The last write of these keys that is pending.
    pub fn last_of(&self, hashes: &[u64]) -> Option<u64> {
        let state = self.state.lock();
        hashes.iter().filter_map(|hash| state.keys.get(hash)).map(|(_, last)| *last).max()
    }

    /// The last write that is pending.
    pub fn last(&self) -> Option<u64> {
        let state = self.state.lock();
        let len = state.writes.len() as u64;
        (len > 0).then(|| state.first + len - 1)
    }

    /// True if no write up to this one is pending.
    #[inline]
    pub fn is_settled(&self, number: u64) -> bool {
        *self.settled.borrow() >= number
    }

    /// Somebody waits, until then at most: nothing is gathered, and [`Self::until_news`] will be
    /// over.
    pub fn hurry(&self, until: Tick) {
        if self.awaited.fetch_min(until.0, Ordering::SeqCst) > until.0 {
            self.is_awaited.notify_one();
        }
        self.state.lock().is_hurried = true;
        self.to_flush.notify_one();
    }

    /// Waits until somebody who waits may wait no longer: less is pending, or it is too late. Who
    /// waits on says so again.
    pub async fn until_news(&self, settled: &mut watch::Receiver<u64>) {
        loop {
            let until = self.awaited.load(Ordering::SeqCst);
            let left = Tick(until).since(self.clock.now());
            tokio::select! {
                _ = settled.changed(), if until != NOBODY => break,
                () = tokio::time::sleep(left), if until != NOBODY => break,
                () = self.is_awaited.notified() => {}
            }
        }
        self.awaited.store(NOBODY, Ordering::SeqCst);
    }

    /// Told up to where nothing is pending.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// Waits until nothing is pending that is so now.
    pub async fn until_settled(&self) {
        let (Some(last), mut settled) = (self.last(), self.watch()) else {
            return;
        };
        self.hurry(Tick(NOBODY));
        // Its sender is here.
        settled.wait_for(|settled| *settled >= last).await.ok();
    }

    /// Waits until there is something for the log, which this thread writes.
    pub fn next_job(&self) -> Job {
        let mut state = self.state.lock();
        loop {
            let newest = state.first + state.writes.len() as u64 - 1;
            let is_open = state.condition == Condition::Open;
            if is_open && (state.logging < newest || state.marked < state.flushed) {
                return Job::Append(take_for_log(&mut state, newest), state.flushed);
            }
            if state.flushed >= newest && !is_open && !state.is_cleared {
                return Job::Reset;
            }
            if state.writes.is_empty() && state.is_ending {
                return Job::End;
            }
            self.to_log.wait(&mut state);
        }
    }

    /// The log has what it was given, up to `last`, and that upstream has all up to `done`.
    pub fn log_has(&self, last: u64, done: u64) {
        let mut state = self.state.lock();
        let told = tell(&mut state, last);
        state.logged = state.logged.max(last);
        state.marked = done;
        self.settle(&mut state, done);
        drop(state);
        give(told);
        self.to_flush.notify_one();
    }

    /// The log has failed: what is not in it is acknowledged when upstream has it, and nothing more
    /// is taken.
    pub fn log_failed(&self, failed: &Failed) {
        let mut state = self.state.lock();
        state.condition = match failed {
            Failed::Write(_) => Condition::Full,
            Failed::Sync(_) => Condition::Broken,
        };
        state.is_hurried = true;
        state.is_cleared = false;
        drop(state);
        self.to_flush.notify_one();
    }

    /// Upstream has everything, and nothing is left of what was in the log. True if writes are
    /// taken again.
    pub fn log_is_new(&self) -> bool {
        let mut state = self.state.lock();
        let flushed = state.flushed;
        self.settle(&mut state, flushed);
        let last = state.first + state.writes.len() as u64 - 1;
        (state.logging, state.logged, state.marked) = (last, last, last);
        state.is_cleared = true;
        if state.condition == Condition::Full {
            state.condition = Condition::Open;
        }
        state.condition == Condition::Open
    }

    /// Upstream has everything, and what was in the log cannot be removed.
    pub fn log_is_lost(&self) {
        let mut state = self.state.lock();
        let flushed = state.flushed;
        self.settle(&mut state, flushed);
    }

    /// Waits for something that is to be made upstream; what comes within `gather` of the first of
    /// it goes with it.
    pub async fn batch(&self, gather: Duration) -> Batch {
        loop {
            let wanted = self.to_flush.notified();
            let wait = {
                let mut state = self.state.lock();
                match self.left_to_gather(&state, gather) {
                    None => None,
                    Some(left) if left.is_zero() => {
                        state.is_hurried = false;
                        return take_batch(&state, self.durability);
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
    fn left_to_gather(&self, state: &State, gather: Duration) -> Option<Duration> {
        let place = usize::try_from(state.flushed + 1 - state.first).ok()?;
        let first = state.writes.get(place)?;
        if state.flushed >= may_be_flushed(state, self.durability) {
            return None;
        }
        let is_much = state.writes.len() - place >= BATCH_WRITES;
        if state.is_hurried || state.is_ending || is_much || state.condition != Condition::Open {
            return Some(Duration::ZERO);
        }
        Some(gather.saturating_sub(self.clock.now().since(first.at)))
    }

    /// Upstream has all up to `last`; `answers` are what it said, of those that nobody was told of
    /// yet.
    pub fn flushed(&self, last: u64, mut answer: impl FnMut(u64) -> Option<Bytes>) {
        let mut state = self.state.lock();
        state.flushed = state.flushed.max(last);
        let (mut told, first) = (Vec::new(), state.first);
        for (number, waiting) in (first..=last).zip(&mut state.writes) {
            if let Some(mut waits) = waiting.told.take() {
                waits.reply = answer(number).unwrap_or(waits.reply);
                told.push(waits);
            }
        }
        if self.durability == Durability::Memory {
            let flushed = state.flushed;
            self.settle(&mut state, flushed);
        }
        drop(state);
        give(told);
        self.to_log.notify_one();
    }

    /// Nothing up to `done` is pending any more.
    fn settle(&self, state: &mut State, done: u64) {
        while state.first <= done
            && let Some(Waiting { write, hash, .. }) = state.writes.pop_front()
        {
            state.first += 1;
            self.bytes.fetch_sub(costs(&write), Ordering::Relaxed);
            if let Some(place) = state.keys.get_mut(&hash) {
                place.0 -= 1;
                if place.0 == 0 {
                    state.keys.remove(&hash);
                }
            }
        }
        self.len.store(state.writes.len(), Ordering::SeqCst);
        self.settled.send_if_modified(|settled| {
            let is_news = *settled < done;
            *settled = done.max(*settled);
            is_news
        });
    }

    /// Nothing more is taken, and nothing gathered.
    pub fn end(&self) {
        self.state.lock().is_ending = true;
        self.to_log.notify_one();
        self.to_flush.notify_one();
    }
}

fn costs(write: &Write) -> usize {
    write.request.len() + WRITE_COSTS
}

/// What the log has not been given.
fn take_for_log(state: &mut State, newest: u64) -> Vec<(u64, Write)> {
    let from = usize::try_from(state.logging + 1 - state.first).unwrap_or(usize::MAX);
    let mut writes = Vec::new();
    let mut bytes = 0;
    for (number, waiting) in (state.logging + 1..=newest).zip(state.writes.iter().skip(from)) {
        bytes += costs(&waiting.write);
        writes.push((number, waiting.write.clone()));
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    state.logging = writes.last().map_or(state.logging, |(number, _)| *number);
    writes
}

/// Up to where what is here may be made upstream.
fn may_be_flushed(state: &State, durability: Durability) -> u64 {
    match (durability, state.condition) {
        (Durability::Logged, Condition::Open) => state.logged,
        _ => state.first + state.writes.len() as u64 - 1,
    }
}

/// The next writes. Of those that one of them makes needless, as it leaves nothing of their key,
/// there is none among them.
fn take_batch(state: &State, durability: Durability) -> Batch {
    let last = may_be_flushed(state, durability);
    let from = usize::try_from(state.flushed + 1 - state.first).unwrap_or(usize::MAX);
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for (number, waiting) in (state.flushed + 1..=last).zip(state.writes.iter().skip(from)) {
        bytes += costs(&waiting.write);
        taken.push((number, waiting));
        if taken.len() >= BATCH_WRITES || bytes >= BATCH_BYTES {
            break;
        }
    }
    let last = taken.last().map_or(state.flushed, |(number, _)| *number);
    let mut replaced: HashSet<(u32, Bytes)> = HashSet::default();
    let mut writes: Vec<_> = taken
        .iter()
        .rev()
        .filter_map(|(number, waiting)| {
            let name = (waiting.write.database, waiting.write.key());
            let is_needless = waiting.told.is_none() && replaced.contains(&name);
            if waiting.effect != Effect::Part {
                replaced.insert(name);
            }
            (!is_needless).then(|| (*number, waiting.hash, waiting.write.clone()))
        })
        .collect();
    writes.reverse();
    Batch { writes, first: state.flushed + 1, last }
}

/// Takes out who is to hear that the log has what they wrote, now that it has all up to `last`.
fn tell(state: &mut State, last: u64) -> Vec<Told> {
    let from = usize::try_from(state.logged + 1 - state.first.min(state.logged + 1));
    let to = usize::try_from((last + 1).saturating_sub(state.first)).unwrap_or(usize::MAX);
    let (from, to) = (from.unwrap_or(usize::MAX), to.min(state.writes.len()));
    let fresh = state.writes.range_mut(from.min(to)..to);
    fresh.filter_map(|waiting| waiting.told.take()).collect()
}

fn give(told: Vec<Told>) {
    for Told { reply, answer } in told {
        answer.give(reply);
    }
}
