//! One stored reply: one allocation, immutable but for its times.
//!
//! ```text
//!   count | length | Header: fresh deadline epoch lease next ... | key | extra arguments | reply
//! ```
//!
//! What its times allow is in [`life`].
//!
//! The variants of a key (`HGET k a`, `HGET k b`, `HGETALL k`) are a chain: the newest is the
//! head and holds the rest. One removal drops them all.

mod life;

pub use self::life::Life;
pub(in crate::cache) use self::life::{LINEAR, Terms};

use crate::cache::shown::Variant;
use crate::cache::{Policy, Question, Reply, Space};
use crate::command;
use crate::units::clock::Tick;
use crate::units::size_class::size_class;
use std::cell::RefCell;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use triomphe::ThinArc;

/// Accounted bytes are counted in these: every size class is a multiple.
const WEIGHT_UNIT: u64 = 16;

/// What one entry costs beside its own allocation: its slot in the table (nine bytes, at a load of
/// 7/16 to 7/8). Measured by `benches/store.rs` (resident memory at a million entries).
const STORE_OVERHEAD: u64 = 16;

thread_local! {
    /// Where an entry's bytes are put together, so that the entry is the only allocation.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a thread keeps of that.
const BODY_KEPT: usize = 16 * 1024;

/// The commands that ask for a key's one value.
static TWINS: LazyLock<[u16; 2]> = LazyLock::new(|| {
    ["get", "mget"].map(|name| command::by_name(name).map_or(u16::MAX, |row| row.index))
});

/// What a new entry is given.
#[derive(Debug)]
pub(super) struct Fresh<'p> {
    pub(super) epoch: u64,
    pub(super) bans: u64,
    pub(super) policy: &'p Policy,
    pub(super) asked_at: Tick,
    pub(super) next: Option<Entry>,
    /// True if it is to wait for a barrier.
    pub(super) is_suspended: bool,
}

/// A stored reply; cheap to clone.
#[derive(Clone)]
pub struct Entry(ThinArc<Header, u8>);

struct Header {
    /// Until when a hit need not look further: the deadline, or earlier; or what is not greater
    /// than [`LINEAR`], and says why it is none.
    fresh: AtomicU64,
    /// End of life in ticks; zero before its proof.
    deadline: AtomicU64,
    epoch: u64,
    /// The last ban that its key was held against.
    bans: AtomicU64,
    /// When its question was asked: no reply is younger than that.
    asked_at: AtomicU64,
    next: Option<Entry>,
    /// Of the key: what the store's table moves it by.
    hash: u64,
    /// As [`life::lease`] counts them.
    lease: u32,
    /// Accounted bytes of this entry and those behind it, in [`WEIGHT_UNIT`]s.
    weight: u32,
    key_length: u32,
    extra_length: u32,
    space: Space,
    command: u16,
    /// [`TRACKED`], [`NIL`], [`KEPT`], [`GRACE`], and the protocol in the upper half.
    flags: AtomicU8,
    /// Hits that the eviction's hand has not taken back yet; counted at the head of a chain.
    uses: AtomicU8,
}

/// As many uses as an entry can save up.
const USES_MAX: u8 = 3;

/// Uses that show that one hit was not the only one.
const USES_WANTED: u8 = 2;

const TRACKED: u8 = 1;
const NIL: u8 = 2;
/// Its rule keeps it past its time.
const KEPT: u8 = 4;
/// Upstream has not ended it when its grace is over.
const GRACE: u8 = 8;
const PROTO_SHIFT: u32 = 4;

/// The reply's bytes; nothing for nil. Lets a large reply be sent from where it is stored.
impl AsRef<[u8]> for Entry {
    fn as_ref(&self) -> &[u8] {
        self.reply().bytes()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No key and no value: this may end in a log.
        f.debug_struct("Entry").field("weight", &self.weight()).finish_non_exhaustive()
    }
}

impl Entry {
    pub(super) fn new(question: &Question<'_>, fresh: Fresh<'_>, reply: &Reply<'_>) -> Self {
        let extra = question.extra.written_len();
        let length = question.key.len() + extra + reply.bytes().len();
        let tracked = if fresh.policy.tracked { TRACKED } else { 0 };
        let kept = if fresh.policy.keep > 0 { KEPT } else { 0 };
        // Whether a value has a grace is for its proof to say.
        let nil = if matches!(reply, Reply::Nil) { NIL | GRACE } else { 0 };
        let flags = tracked | kept | nil | question.proto << PROTO_SHIFT;
        let own = STORE_OVERHEAD + size_class(size_of::<Header>() + 16 + length) as u64;
        let behind = fresh.next.as_ref().map_or(0, Self::weight);
        let header = Header {
            fresh: AtomicU64::new(life::unproved(fresh.is_suspended)),
            deadline: AtomicU64::new(0),
            epoch: fresh.epoch,
            bans: AtomicU64::new(fresh.bans),
            asked_at: AtomicU64::new(fresh.asked_at.0),
            next: fresh.next,
            hash: question.hash,
            lease: life::lease(fresh.policy.max_staleness),
            weight: u32::try_from((own + behind) / WEIGHT_UNIT).unwrap_or(u32::MAX),
            uses: AtomicU8::new(0),
            key_length: u32::try_from(question.key.len()).unwrap_or(u32::MAX),
            extra_length: u32::try_from(extra).unwrap_or(u32::MAX),
            space: question.space,
            command: question.command,
            flags: AtomicU8::new(flags),
        };
        BODY.with_borrow_mut(|body| {
            body.clear();
            body.shrink_to(BODY_KEPT);
            body.extend_from_slice(question.key);
            question.extra.write(body);
            body.extend_from_slice(reply.bytes());
            Self(ThinArc::from_header_and_slice(header, body))
        })
    }

    /// The reply.
    #[inline]
    pub fn reply(&self) -> Reply<'_> {
        if self.flags() & NIL == 0 {
            Reply::Bytes(self.part(self.reply_start(), usize::MAX))
        } else {
            Reply::Nil
        }
    }

    /// The reply to `question`, if this key has one, servable or not.
    #[inline]
    pub(super) fn find(&self, question: &Question<'_>) -> Option<&Self> {
        let mut entry = Some(self);
        while let Some(candidate) = entry {
            if candidate.answers(question) {
                return Some(candidate);
            }
            entry = candidate.header().next.as_ref();
        }
        None
    }

    /// True if a reply to `question` denies what is held of its key. GET and MGET ask for the same
    /// value, though their nils are told apart (MGET says nil of a list, too): a value of one and
    /// nil of the other are of different times.
    pub(super) fn denies(&self, question: &Question<'_>, reply: &Reply<'_>) -> bool {
        let is_nil = *reply == Reply::Nil;
        TWINS.contains(&question.command)
            && self.chain().any(|held| {
                let header = held.header();
                TWINS.contains(&header.command)
                    && header.space == question.space
                    && held.key() == question.key
                    && (held.reply() == Reply::Nil) != is_nil
            })
    }

    /// True if a new head that answers `question` may carry this chain on: it is of the same key
    /// and has room for one more. (One chain is of one key and one epoch, and holds one answer to
    /// each question.)
    pub(super) fn takes_variant(&self, question: &Question<'_>, variants_max: usize) -> bool {
        let mut count = 1;
        let mut entry = self;
        while let Some(next) = &entry.header().next {
            count += 1;
            entry = next;
        }
        self.key() == question.key && count < variants_max
    }

    /// A hit on this chain.
    #[inline]
    pub(super) fn gain_use(&self) {
        let uses = self.header().uses.load(Ordering::Relaxed);
        // The line stays shared between the workers once the count is full.
        if uses < USES_MAX {
            self.header().uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Takes one use away; false if there was none.
    #[inline]
    pub(super) fn spend_use(&self) -> bool {
        let uses = self.header().uses.load(Ordering::Relaxed);
        self.header().uses.store(uses.saturating_sub(1), Ordering::Relaxed);
        uses > 0
    }

    /// True if it was hit more than once since it came.
    pub(super) fn is_wanted(&self) -> bool {
        self.header().uses.load(Ordering::Relaxed) >= USES_WANTED
    }

    /// True if it is this very entry, not one like it.
    pub fn is(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// The hash of its key.
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.header().hash
    }

    /// Where its allocation begins: to be fetched ahead, or told from another; never read.
    #[inline]
    pub(super) fn address(&self) -> *const u8 {
        self.0.heap_ptr().cast()
    }

    /// The last ban that its key was held against.
    #[inline]
    pub(super) fn bans(&self) -> u64 {
        self.header().bans.load(Ordering::Relaxed)
    }

    /// Its key, last held against ban `seen`, was held against all up to `newest`: so were the
    /// variants behind it.
    pub(super) fn spare(&self, seen: u64, newest: u64) {
        let mut entry = Some(self);
        while let Some(spared) = entry {
            let bans = &spared.header().bans;
            if bans.load(Ordering::Relaxed) >= seen {
                bans.fetch_max(newest, Ordering::Relaxed);
            }
            entry = spared.header().next.as_ref();
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.header().epoch
    }

    pub(super) fn holds(&self, reply: &Reply<'_>) -> bool {
        self.reply() == *reply
    }

    pub(super) fn weight(&self) -> u64 {
        u64::from(self.header().weight) * WEIGHT_UNIT
    }

    /// What was carried on when it came.
    pub(super) fn next(&self) -> Option<&Self> {
        self.header().next.as_ref()
    }

    #[inline]
    pub(super) fn is_tracked(&self) -> bool {
        self.flags() & TRACKED != 0
    }

    /// True if its rule keeps it past its time.
    pub(super) fn is_kept(&self) -> bool {
        self.flags() & KEPT != 0
    }

    /// When its question was asked.
    #[inline]
    pub fn asked_at(&self) -> Tick {
        Tick(self.header().asked_at.load(Ordering::Relaxed))
    }

    /// This entry and the variants behind it.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |entry| entry.header().next.as_ref())
    }

    /// True if its question was asked after that time.
    pub(super) fn is_younger_than(&self, at: Tick) -> bool {
        self.asked_at() > at
    }

    /// The variant as it is shown.
    pub(super) fn variant(&self, now: Tick, is_stale: bool) -> Variant {
        let header = self.header();
        let behind = header.next.as_ref().map_or(0, Self::weight);
        Variant {
            command: header.command,
            space: header.space,
            size: self.weight() - behind,
            age: now.since(self.asked_at()),
            left: if is_stale { Duration::ZERO } else { Tick(self.deadline()).since(now) },
            is_stale,
        }
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.header().flags.load(Ordering::Relaxed)
    }

    #[inline]
    fn answers(&self, question: &Question<'_>) -> bool {
        let header = self.header();
        header.command == question.command
            && header.space == question.space
            && self.flags() >> PROTO_SHIFT == question.proto
            && self.key() == question.key
            && question.extra.is(self.part(header.key_length as usize, self.reply_start()))
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        self.part(0, self.header().key_length as usize)
    }

    #[inline]
    fn header(&self) -> &Header {
        &self.0.header.header
    }

    #[inline]
    fn reply_start(&self) -> usize {
        let header = self.header();
        header.key_length as usize + header.extra_length as usize
    }

    #[inline]
    fn part(&self, start: usize, end: usize) -> &[u8] {
        let body = &self.0.slice;
        body.get(start..end.min(body.len())).unwrap_or_default()
    }
}
