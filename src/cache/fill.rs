//! What an answer leaves here: stored if nothing has happened to its key since it was asked (R3),
//! and servable once it is known how long it lives (R10).
//!
//! In: questions with their tokens and replies, then what upstream says of their lives. Out:
//! entries that are servable, or gone. Whatever is refused invalidates its key (R4).

use crate::cache::ban::Verdict;
use crate::cache::entry::{self, Life};
use crate::cache::store::Change;
use crate::cache::{Cache, Entry, Question, Reply, Token};
use crate::units::mutant::{self, Mutant};
use std::sync::atomic::Ordering;

/// A key with its variants may take this part of the store.
const WEIGHT_SHARE: u64 = 4;

/// How a reply may be stored: what the rule of its key says.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Longest local life of a value, in nanoseconds.
    pub ttl: u64,
    /// Local life of a nil, in nanoseconds; 0 = nil is not stored.
    pub negative_ttl: u64,
    /// How old the last confirmed barrier may be at a hit, in nanoseconds; `u64::MAX` = no lease;
    /// 0 = each hit waits for one of its own ([`View::proved`](super::View::proved)).
    pub max_staleness: u64,
    /// True if the entry dies with the tracking link (every level but `ttl`).
    pub tracked: bool,
    /// Longest reply stored, in bytes.
    pub value_max: usize,
    /// How long a value may be served past its deadline while it is read anew, in nanoseconds.
    pub grace: u64,
    /// How long it is kept past its time, in nanoseconds: for that, or until upstream is back.
    pub keep: u64,
    /// The part of its life, in millionths, before whose end a hit has it read anew; 0 = none does.
    pub refresh_ahead: u32,
    /// True if a reply that joins others of its key is served, as they are, behind the next barrier
    /// only.
    pub whole_key: bool,
    /// The part of its longest life, in millionths, that it may miss.
    pub ttl_jitter: u32,
}

/// What became of a fill.
#[derive(Debug)]
pub enum Filled {
    /// Stored; it waits for its proof ([`Cache::prove`]).
    Stored(Entry),
    /// An invalidation, a ban, a lost link or another fill came between question and answer.
    Raced,
    /// The reply is longer than the policy or the store allows.
    TooLarge,
    /// It is a nil and the policy stores none.
    Nil,
    /// The key has as many variants as it may have.
    Full,
}

impl Cache {
    /// Stores `reply`, which is a plain value or nil (R3). Whatever is not stored invalidates the
    /// key, because the client is about to see a reply that the cache does not hold (R4).
    pub fn fill(
        &self,
        question: &Question<'_>,
        token: &Token,
        policy: &Policy,
        reply: Reply<'_>,
    ) -> Filled {
        let filled = self.try_fill(question, token, policy, reply);
        // A full chain holds no answer to this question that could be older.
        if matches!(filled, Filled::Stored(_) | Filled::Full) {
            self.store.generations().fill(question.hash);
        } else {
            self.invalidate(question.hash);
        }
        if matches!(filled, Filled::Raced) {
            self.write_hot.refused(question.hash, token.asked_at);
        }
        filled
    }

    fn try_fill(
        &self,
        question: &Question<'_>,
        token: &Token,
        policy: &Policy,
        reply: Reply<'_>,
    ) -> Filled {
        if reply.bytes().len() > policy.value_max {
            return Filled::TooLarge;
        }
        if matches!(reply, Reply::Nil) && policy.negative_ttl == 0 {
            return Filled::Nil;
        }
        // A ban that comes after this is found at the entry's first hit.
        let bans = match self.bans.verdict(token.bans, question.key) {
            Verdict::Spared(newest) => newest,
            _ if mutant::active(Mutant::NoBanCheck) => self.bans.newest(),
            verdict => {
                self.enforce(question.hash, question.key, token.bans, &verdict);
                return Filled::Raced;
            }
        };
        let right = Right { token, bans, policy };
        let fill = || {
            let decide = |held: Option<&Entry>| {
                if let Some(seen) = unchecked(held, token) {
                    return (Change::Keep, Err(seen));
                }
                let (change, filled) = self.decide(held, question, &right, reply);
                (change, Ok(filled))
            };
            self.store.fill(question.hash, decide)
        };
        // What is there already may be banned: that is looked at outside of the lock, once.
        match fill() {
            Some(Err(seen)) if !self.is_banned(question, seen) => fill(),
            filled => filled,
        }
        .and_then(Result::ok)
        .unwrap_or(Filled::Raced)
    }

    /// What becomes of a fill at the place where `held` lies. Runs under the place's lock: a bump
    /// before the check is seen by it; a bump after it is followed by a removal, which waits for
    /// the lock and finds what was put there.
    fn decide(
        &self,
        held: Option<&Entry>,
        question: &Question<'_>,
        right: &Right<'_>,
        reply: Reply<'_>,
    ) -> (Change, Filled) {
        let Right { token, bans, policy } = *right;
        if !self.is_current(question.hash, token) {
            return (Change::Keep, Filled::Raced);
        }
        // An entry of an epoch that is over is dead, and so is all behind it. Of what is out, its
        // stripe was bumped: this was asked later.
        let held = held.filter(|held| held.epoch() == token.epoch && !held.is_out());
        let next = match held.and_then(|held| held.find(question)) {
            Some(same) if same.holds(&reply) => {
                return (Change::Keep, Filled::Stored(same.clone()));
            }
            Some(same) if is_head(held, same) && token.renews == Some(same.asked_at()) => {
                same.next()
            }
            None if !held.is_some_and(|held| held.denies(question, &reply)) => held,
            // Another reply to the same question: one of the two is old, and nobody can say which
            // (R3, "other bytes").
            _ => return (Change::Keep, Filled::Raced),
        };
        if next.is_some_and(|held| !held.takes_variant(question, self.variants_max)) {
            return (Change::Keep, Filled::Full);
        }
        let is_suspended = policy.whole_key && next.is_some();
        if let Some(chain) = next.filter(|_| is_suspended) {
            self.suspend(question.hash, chain);
        }
        let next = next.cloned();
        let (epoch, asked_at) = (token.epoch, token.asked_at);
        let fresh = entry::Fresh { epoch, bans, policy, asked_at, next, is_suspended };
        let entry = Entry::new(question, fresh, &reply);
        if entry.weight() > self.store.max() / WEIGHT_SHARE {
            return (Change::Keep, Filled::TooLarge);
        }
        if policy.keep > self.keep.load(Ordering::Relaxed) {
            self.keep.fetch_max(policy.keep, Ordering::Relaxed);
        }
        (Change::Put(entry.clone()), Filled::Stored(entry))
    }

    /// The proof for an entry stored as `unproved`: `pttl` is upstream's answer, in milliseconds
    /// (R10). True if the entry is servable from now on.
    pub fn prove(
        &self,
        hash: u64,
        entry: &Entry,
        token: &Token,
        policy: &Policy,
        pttl: i64,
    ) -> bool {
        self.let_live(hash, entry, token, self.life(hash, token, policy, pttl))
    }

    /// How long something lives that upstream ends in `pttl` milliseconds; `None`: it has ended.
    #[inline]
    pub fn life(&self, hash: u64, token: &Token, policy: &Policy, pttl: i64) -> Option<Life> {
        let ends_in = match u64::try_from(pttl) {
            _ if mutant::active(Mutant::NoTtl) => u64::MAX,
            Ok(0) => return None,
            Ok(milliseconds) => milliseconds.saturating_mul(1_000_000),
            Err(_) if pttl == -1 => u64::MAX,
            Err(_) => return None,
        };
        let lasts = Self::longest(hash, token.asked_at, policy).min(ends_in);
        let deadline = token.asked_at.0.saturating_add(lasts);
        Some(Life {
            deadline,
            refresh_at: match policy.max_staleness {
                0 => entry::LINEAR,
                _ => deadline - self.lead(hash, token.asked_at, policy, lasts),
            },
            has_grace: policy.ttl.saturating_add(policy.grace) <= ends_in,
        })
    }

    /// What was stored as `unproved` is servable from now on, for that life; false if something has
    /// happened to its key meanwhile, or it has none.
    pub fn let_live(&self, hash: u64, entry: &Entry, token: &Token, life: Option<Life>) -> bool {
        // Under the lock: who puts the entry out has bumped before, or comes behind.
        let lives = life.and_then(|life| {
            self.store.look(hash, |_| {
                let is_current = self.is_current(hash, token);
                if is_current {
                    settle(entry, token, life);
                }
                is_current
            })
        });
        if lives == Some(true) {
            self.write_hot.held(hash);
        } else {
            self.invalidate(hash);
            if life.is_some() {
                self.write_hot.refused(hash, token.asked_at);
            }
        }
        lives == Some(true)
    }
}

/// What a fill has to show.
#[derive(Clone, Copy, Debug)]
struct Right<'t> {
    token: &'t Token,
    /// The last ban that the key was held against.
    bans: u64,
    policy: &'t Policy,
}

/// What an entry's proof says, or the other reply to the same question that was the same.
fn settle(entry: &Entry, token: &Token, life: Life) {
    if token.renews == Some(entry.asked_at()) {
        entry.renew(token.asked_at, life);
    } else {
        entry.limit(life);
    }
}

fn is_head(held: Option<&Entry>, entry: &Entry) -> bool {
    held.is_some_and(|held| held.is(entry))
}

/// The ban that an entry was last held against, if others came before this token.
fn unchecked(held: Option<&Entry>, token: &Token) -> Option<u64> {
    let held = held.filter(|held| held.epoch() == token.epoch && !held.is_out())?;
    (held.bans() < token.bans).then(|| held.bans())
}
