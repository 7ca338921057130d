//! What is pending: the writes themselves, and how far they have come. Plain data, which the queue
//! keeps behind its lock.
//!
//! In: writes, and marks up to where the log has them and upstream. Out: what is next for either,
//! and what a key is going to be.

use crate::behind::record::{Effect, Write};
use crate::behind::told::{Audience, Told};
use crate::units::clock::Tick;
use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use std::collections::VecDeque;

/// Writes, and bytes of them, of one batch.
const BATCH_WRITES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

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
    /// The same, when the log has the write of this number: until then it may yet not have been.
    Unlogged(u64),
    /// What only upstream will know, when it has the write of this number.
    Pending(u64),
}

/// What becomes of what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Writes are taken.
    Open,
    /// None is: the log has failed, and this may pass.
    Full,
    /// None is, as long as the process lives.
    Broken,
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

#[derive(Debug)]
struct Waiting {
    write: Write,
    hash: u64,
    effect: Effect,
    at: Tick,
}

/// What is pending of a key.
#[derive(Debug, Default)]
struct OfKey {
    /// How many writes, and the last of them.
    count: usize,
    last: u64,
    /// Until then no more are taken.
    closed_until: Tick,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pending {
    durability: Durability,
    pub(super) condition: Condition,
    /// The first is number `first`.
    writes: VecDeque<Waiting>,
    pub(super) first: u64,
    pub(super) bytes: usize,
    /// By the cache's hash of the client's key.
    keys: HashMap<u64, OfKey>,
    /// Until then no more are taken of any key, while anything is pending.
    closed_until: Tick,
    /// Who waits for them.
    pub(super) audience: Audience,
    /// Up to where it has been given to the log, is in it, and is upstream.
    pub(super) logging: u64,
    pub(super) logged: u64,
    pub(super) flushed: u64,
    /// Up to where the log was told that upstream has all.
    pub(super) marked: u64,
    /// Somebody waits: no more is gathered.
    pub(super) is_hurried: bool,
    /// After a failure: nothing is left of what was in the log.
    pub(super) is_cleared: bool,
    pub(super) is_ending: bool,
}

impl Pending {
    /// Nothing, before the first write comes, of which so many are in the log.
    pub(super) fn new(durability: Durability, first: u64, in_log: u64) -> Self {
        let logged = first + in_log - 1;
        Self {
            durability,
            condition: Condition::Open,
            writes: VecDeque::new(),
            first,
            bytes: 0,
            keys: HashMap::default(),
            closed_until: Tick(0),
            audience: Audience::default(),
            logging: logged,
            logged,
            flushed: first - 1,
            marked: first - 1,
            is_hurried: false,
            is_cleared: false,
            is_ending: false,
        }
    }

    /// How many writes there are.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The number of the newest; if there is none, of the last there was.
    pub(super) fn newest(&self) -> u64 {
        self.first + self.writes.len() as u64 - 1
    }

    /// When the oldest came.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.writes.front().map(|write| write.at)
    }

    /// Another write, which has come now; its number.
    pub(super) fn add(&mut self, write: Write, hash: u64, at: Tick) -> u64 {
        let (number, effect) = (self.newest() + 1, write.effect());
        self.bytes += costs(&write);
        let of_key = self.keys.entry(hash).or_default();
        (of_key.count, of_key.last) = (of_key.count + 1, number);
        self.writes.push_back(Waiting { write, hash, effect, at });
        number
    }

    /// True if there is a write of such a key.
    pub(super) fn has(&self, hash: u64) -> bool {
        self.keys.contains_key(&hash)
    }

    /// The last write of a key.
    pub(super) fn last_of(&self, hash: u64) -> Option<u64> {
        self.keys.get(&hash).map(|of_key| of_key.last)
    }

    /// Until when no more are taken of a key.
    pub(super) fn closed_until(&self, hash: u64) -> Tick {
        let of_key = self.keys.get(&hash).map_or(Tick(0), |of_key| of_key.closed_until);
        of_key.max(self.closed_until)
    }

    /// No more are taken of these keys (`None`: of any) until then, or until none is pending.
    pub(super) fn close(&mut self, hashes: Option<&[u64]>, until: Tick) {
        let Some(hashes) = hashes else {
            if !self.is_empty() {
                self.closed_until = self.closed_until.max(until);
            }
            return;
        };
        for hash in hashes {
            if let Some(of_key) = self.keys.get_mut(hash) {
                of_key.closed_until = of_key.closed_until.max(until);
            }
        }
    }

    /// See [`crate::behind::queue::Queue::see`].
    pub(super) fn see(
        &self,
        hash: u64,
        (database, prefix, name): (u32, &[u8], &[u8]),
        waited: Option<u64>,
        now_unix: u64,
    ) -> Seen {
        let Some(last) = self.last_of(hash) else {
            return Seen::Settled;
        };
        let is_safe = |number: u64| self.durability == Durability::Memory || number <= self.logged;
        let waited = waited.filter(|waited| is_safe(*waited) && *waited >= self.first);
        let number = waited.filter(|_| !is_safe(last)).unwrap_or(last);
        let Some(Waiting { write, effect, .. }) = self.writes.get(self.place(number)) else {
            return Seen::Settled;
        };
        let is_it = write.database == database && write.key().strip_prefix(prefix) == Some(name);
        let has_end = write.ends_at != 0 && write.ends_at <= now_unix;
        let is_known = match effect {
            Effect::Part => false,
            Effect::Value => !write.says_its_end(),
            Effect::Gone => true,
        };
        match effect {
            _ if !is_it || !is_known => Seen::Pending(last),
            _ if !is_safe(number) && self.condition == Condition::Open => Seen::Unlogged(last),
            // Upstream has it first.
            _ if !is_safe(number) => Seen::Pending(last),
            Effect::Value if !has_end => Seen::Becomes(Some(write.value())),
            _ => Seen::Becomes(None),
        }
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// What the log has not been given.
    pub(super) fn take_for_log(&mut self) -> Vec<(u64, Write)> {
        let from = self.place(self.logging + 1);
        let mut writes = Vec::new();
        let mut bytes = 0;
        for (number, waiting) in (self.logging + 1..).zip(self.writes.iter().skip(from)) {
            bytes += costs(&waiting.write);
            writes.push((number, waiting.write.clone()));
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        self.logging = writes.last().map_or(self.logging, |(number, _)| *number);
        writes
    }

    /// Up to where what is here may be made upstream.
    fn may_be_flushed(&self) -> u64 {
        match (self.durability, self.condition) {
            (Durability::Logged, Condition::Open) => self.logged,
            _ => self.newest(),
        }
    }

    /// Since when the first waits that may be made upstream, and whether there are enough to be
    /// made at once.
    pub(super) fn to_flush(&self) -> Option<(Tick, bool)> {
        let place = self.place(self.flushed + 1);
        let first = self.writes.get(place).filter(|_| self.flushed < self.may_be_flushed())?;
        let is_much = self.writes.len() - place >= BATCH_WRITES;
        let is_due = self.is_hurried || self.is_ending || self.condition != Condition::Open;
        Some((first.at, is_much || is_due))
    }

    /// The next writes. Of those that one of them makes needless, as it leaves nothing of their key
    /// and no server refuses it, there is none among them.
    pub(super) fn batch(&self) -> Batch {
        let (last, from) = (self.may_be_flushed(), self.place(self.flushed + 1));
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (number, waiting) in (self.flushed + 1..=last).zip(self.writes.iter().skip(from)) {
            bytes += costs(&waiting.write);
            taken.push((number, waiting));
            if taken.len() >= BATCH_WRITES || bytes >= BATCH_BYTES {
                break;
            }
        }
        let last = taken.last().map_or(self.flushed, |(number, _)| *number);
        let mut replaced: HashSet<(u32, Bytes)> = HashSet::default();
        let mut writes: Vec<_> = taken
            .iter()
            .rev()
            .filter_map(|(number, waiting)| {
                let name = (waiting.write.database, waiting.write.key());
                let is_needless = !self.audience.has(*number) && replaced.contains(&name);
                if waiting.write.replaces() {
                    replaced.insert(name);
                }
                (!is_needless).then(|| (*number, waiting.hash, waiting.write.clone()))
            })
            .collect();
        writes.reverse();
        Batch { writes, first: self.flushed + 1, last }
    }

    /// Nothing up to `done` is pending any more.
    pub(super) fn settle(&mut self, done: u64) {
        while self.first <= done
            && let Some(Waiting { write, hash, .. }) = self.writes.pop_front()
        {
            self.first += 1;
            self.bytes -= costs(&write);
            if let Some(of_key) = self.keys.get_mut(&hash) {
                of_key.count -= 1;
                if of_key.count == 0 {
                    self.keys.remove(&hash);
                }
            }
        }
        if self.writes.is_empty() {
            self.closed_until = Tick(0);
        }
    }

    /// Nothing that upstream has is pending any more; answers who is to be told so.
    pub(super) fn settle_flushed(&mut self) -> Vec<Told> {
        self.settle(self.flushed);
        self.audience.take(self.flushed)
    }
}

/// What a write takes of `write_behind.max_bytes`.
pub(super) fn costs(write: &Write) -> usize {
    write.request.len() + WRITE_COSTS
}
