//! Bans: all keys of a namespace, or that a pattern matches, are dead from the moment it is said
//! (R15), however many they are.
//!
//! ```text
//!   ban n is issued      it is put in the list, and `newest` becomes n, however many keys
//!   an entry             remembers the last ban that it was held against
//!   a hit                where that is not the newest: the key is held against those between
//!   a fill               the same, for the bans since its question was asked
//!   a sweep              the same for every entry; then the bans that it began with are settled
//! ```
//!
//! A settled ban leaves the list, and what was never held against it is dead: no such entry lies
//! in the store but by a race that the sweep lost, and a question still on its way is asked again.
//! The list is bounded in the same manner: the oldest ban is forgotten, and with it whatever was
//! not asked for since.
//!
//! A soft ban leaves what it means where it is, no hit any more ([`Strength`]); where a hard one
//! means the same key, that decides.

use crate::cache::Cache;
use crate::keys::{glob, namespace};
use crate::units::clock::Tick;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bans that are not settled, at most, until somebody says otherwise. A sweep settles all that it
/// began with, so that only a flood comes here.
const BANS_MAX: usize = 1024;

/// Bytes of their texts, at most: a key is held against all of them.
const TEXT_MAX: usize = 16 * 1024;

/// A longer key is not matched to its end: what a glob costs grows with both lengths.
const KEY_MAX: usize = 4096;

/// Which keys are dead. Keys are the client's, in every database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banned {
    /// Those whose first segment is this ([`namespace`]).
    Namespace(Box<[u8]>),
    /// Those that this glob matches.
    Pattern(Box<[u8]>),
}

impl Banned {
    /// True if it means this key.
    pub fn covers(&self, key: &[u8]) -> bool {
        match self {
            Self::Namespace(name) => namespace(key) == &**name,
            // Too much forgotten is safe: of a very long key its beginning decides.
            Self::Pattern(pattern) if key.len() > KEY_MAX => {
                key.starts_with(&glob::literal_prefix(pattern).0)
            }
            Self::Pattern(pattern) => glob::matches(pattern, key),
        }
    }

    fn text(&self) -> &[u8] {
        match self {
            Self::Namespace(text) | Self::Pattern(text) => text,
        }
    }
}

/// What is left of what is invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Nothing.
    Hard,
    /// It is no hit any more from this moment on, and kept as what has expired is (`grace`,
    /// `stale_if_error`).
    Soft(Tick),
}

/// Who says that something is to be invalidated, other than the server and clients' own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// Over HTTP.
    Admin,
    /// A message on `invalidation.channel`.
    Pubsub,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Admin, Self::Pubsub];

    /// The word of metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Pubsub => "pubsub",
        }
    }
}

/// One ban, for who issued it.
#[derive(Debug)]
pub struct Ban {
    number: u64,
    source: Source,
    banned: Banned,
    pub(super) strength: Strength,
    removed: AtomicU64,
    is_settled: AtomicBool,
}

impl Ban {
    /// Keys that it has removed; more do not come once it [`Self::is_settled`].
    pub fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// True once it is swept; or a later one says the same and counts from there; or a flood made
    /// us forget it.
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }
}

/// What the bans say of a key.
#[derive(Debug)]
pub(super) enum Verdict {
    /// None of them means it, up to this one.
    Spared(u64),
    /// This one does; none of those up to the number is stronger.
    Banned(Arc<Ban>, u64),
    /// One may have that is forgotten.
    Forgotten,
}

impl Verdict {
    pub(super) fn is_spared(&self) -> bool {
        matches!(self, Self::Spared(_))
    }
}

impl Cache {
    /// From now on so many bans may be unsettled, at least one.
    pub fn set_bans_max(&self, bans_max: usize) {
        self.bans.change(|list| list.max = bans_max.max(1));
    }
}

/// All bans that are not settled.
#[derive(Debug, Default)]
pub(super) struct Bans {
    /// The number of the last one; moves after it is in the list.
    newest: AtomicU64,
    /// Exchanged as a whole: nobody holds the lock while keys are held against it.
    list: RwLock<Arc<List>>,
    /// Keys removed, by [`Source`].
    removed: [AtomicU64; Source::ALL.len()],
    /// Times that a flood made us forget a ban, and with it what was not asked for since.
    forgotten: AtomicU64,
}

#[derive(Clone, Debug)]
struct List {
    /// As many at most.
    max: usize,
    /// By number.
    bans: VecDeque<Arc<Ban>>,
    /// All up to here are settled or forgotten.
    floor: u64,
    text_len: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { max: BANS_MAX, bans: VecDeque::new(), floor: 0, text_len: 0 }
    }
}

impl List {
    fn newest(&self) -> u64 {
        self.bans.back().map_or(self.floor, |ban| ban.number)
    }

    fn verdict(&self, seen: u64, key: &[u8]) -> Verdict {
        if seen < self.floor {
            return Verdict::Forgotten;
        }
        let later = self.bans.iter().skip_while(|ban| ban.number <= seen);
        let mut soft = None;
        for ban in later.filter(|ban| ban.banned.covers(key)) {
            if ban.strength == Strength::Hard {
                return Verdict::Banned(Arc::clone(ban), self.newest());
            }
            soft = soft.or(Some(ban));
        }
        match soft {
            Some(ban) => Verdict::Banned(Arc::clone(ban), self.newest()),
            None => Verdict::Spared(self.newest()),
        }
    }

    /// Adds one, as the newest.
    fn push(&mut self, banned: Banned, source: Source, strength: Strength) -> Arc<Ban> {
        let number = self.newest() + 1;
        self.replace(&banned, strength);
        self.text_len += banned.text().len();
        let (removed, is_settled) = (AtomicU64::new(0), AtomicBool::new(false));
        let ban = Arc::new(Ban { number, source, banned, strength, removed, is_settled });
        self.bans.push_back(Arc::clone(&ban));
        ban
    }

    /// Takes one that says the same out: the newer one means all that it meant, unless it is
    /// softer.
    fn replace(&mut self, banned: &Banned, strength: Strength) {
        let is_hard = strength == Strength::Hard;
        let is_less =
            |ban: &Arc<Ban>| ban.banned == *banned && (is_hard || ban.strength != Strength::Hard);
        if let Some(place) = self.bans.iter().position(is_less)
            && let Some(old) = self.bans.remove(place)
        {
            self.text_len -= old.banned.text().len();
            old.is_settled.store(true, Ordering::Release);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(ban) = self.bans.pop_front() {
            self.floor = ban.number;
            self.text_len -= ban.banned.text().len();
            // Whoever waits for its count has what there is.
            ban.is_settled.store(true, Ordering::Release);
        }
    }

    fn is_overfull(&self) -> bool {
        self.bans.len() > self.max || (self.text_len > TEXT_MAX && self.bans.len() > 1)
    }
}

impl Bans {
    /// The number of the last ban; 0 before the first.
    #[inline]
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read())
    }

    /// Bans that are not settled.
    pub(super) fn len(&self) -> usize {
        self.list().bans.len()
    }

    /// True if a flood would soon make us forget some.
    pub(super) fn are_many(&self) -> bool {
        let list = self.list();
        list.bans.len() > list.max / 2 || list.text_len > TEXT_MAX / 2
    }

    /// Times that a ban was forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// A ban has removed a key.
    pub(super) fn count(&self, ban: &Ban) {
        ban.removed.fetch_add(1, Ordering::Relaxed);
        self.count_for(ban.source);
    }

    /// A key was removed because `source` said so.
    pub(super) fn count_for(&self, source: Source) {
        if let Some(removed) = self.removed.get(source as usize) {
            removed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keys removed because `source` said so.
    pub(super) fn removed_by(&self, source: Source) -> u64 {
        self.removed.get(source as usize).map_or(0, |removed| removed.load(Ordering::Relaxed))
    }

    /// In force when this returns.
    pub(super) fn issue(&self, banned: Banned, source: Source) -> Arc<Ban> {
        self.change(|list| list.push(banned, source, Strength::Hard))
    }

    /// All in force when this returns, and before that none.
    pub(super) fn issue_all(
        &self,
        banned: Vec<Banned>,
        source: Source,
        strength: Strength,
    ) -> Vec<Arc<Ban>> {
        self.change(|list| banned.into_iter().map(|one| list.push(one, source, strength)).collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut List) -> T) -> T {
        let mut shared = self.list.write();
        let list = Arc::make_mut(&mut shared);
        let changed = change(list);
        while list.is_overfull() {
            list.drop_oldest();
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        self.newest.store(list.newest(), Ordering::SeqCst);
        drop(shared);
        changed
    }

    /// Holds `key`, last held against ban `seen`, against those that came later.
    #[inline]
    pub(super) fn verdict(&self, seen: u64, key: &[u8]) -> Verdict {
        if seen == self.newest() { Verdict::Spared(seen) } else { self.list().verdict(seen, key) }
    }

    /// What a sweep that begins now will settle.
    pub(super) fn pass(&self) -> Pass {
        Pass(self.list())
    }

    /// A pass has seen every entry.
    pub(super) fn settle(&self, pass: &Pass) {
        let mut shared = self.list.write();
        if shared.bans.front().is_none_or(|ban| ban.number > pass.newest()) {
            return;
        }
        let list = Arc::make_mut(&mut shared);
        while list.bans.front().is_some_and(|ban| ban.number <= pass.newest()) {
            list.drop_oldest();
        }
        drop(shared);
    }
}

/// The bans that one sweep holds every entry against.
#[derive(Debug)]
pub(super) struct Pass(Arc<List>);

impl Pass {
    /// The last of them.
    #[inline]
    pub(super) fn newest(&self) -> u64 {
        self.0.newest()
    }

    pub(super) fn verdict(&self, seen: u64, key: &[u8]) -> Verdict {
        self.0.verdict(seen, key)
    }
}
