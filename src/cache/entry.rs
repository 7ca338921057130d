//! One stored reply: one allocation, immutable but for its deadline.
//!
//! ```text
//!   count | length | Header: deadline epoch lease next ... | key | extra arguments | reply
//! ```
//!
//! The variants of a key (`HGET k a`, `HGET k b`, `HGETALL k`) are a chain: the newest is the
//! head and holds the rest. One removal drops them all.

use crate::cache::shown::Variant;
use crate::cache::{Policy, View};
use crate::command::find;
use crate::units::clock::Tick;
use crate::wire::request::Request;
use bytes::BytesMut;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use triomphe::ThinArc;

/// What one entry costs beside its own allocation: its slot in the table (nine bytes, at a load of
/// 7/16 to 7/8). Measured by `benches/store.rs` (resident memory at a million entries).
const STORE_OVERHEAD: u64 = 16;

thread_local! {
    /// Where an entry's bytes are put together, so that the entry is the only allocation.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a thread keeps of that.
const BODY_KEPT: usize = 16 * 1024;

/// A question to the cache: the key and everything else that decides the reply's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Question<'b> {
    /// The client's key, without version prefix.
    pub key: &'b [u8],
    /// [`crate::cache::Cache::hash`] of `key`.
    pub hash: u64,
    /// The command's row in the table.
    pub command: u16,
    /// The database.
    pub db: u32,
    /// 2 or 3 where the reply differs between the protocols, else 0.
    pub proto: u8,
    /// Everything else: the arguments beside the key.
    pub extra: Extra<'b>,
}

/// The arguments of a question beside its key: as they stand in a request, or as
/// [`Extra::write`] wrote them down.
#[derive(Clone, Copy, Debug)]
pub enum Extra<'b> {
    /// The arguments of a request, from this one on.
    Asked(Request<'b>, usize),
    /// Each argument behind its length.
    Written(&'b [u8]),
}

impl Extra<'_> {
    /// Appends the arguments, each behind its length.
    #[inline]
    pub fn write(&self, out: &mut impl Extend<u8>) {
        match self {
            Self::Asked(request, from) => {
                for argument in request.from(*from) {
                    out.extend(length_bytes(argument));
                    out.extend(argument.iter().copied());
                }
            }
            Self::Written(written) => out.extend(written.iter().copied()),
        }
    }

    /// Bytes that [`Self::write`] appends.
    #[inline]
    pub fn written_len(&self) -> usize {
        match self {
            Self::Asked(request, from) => {
                request.from(*from).map(|argument| argument.len() + 4).sum()
            }
            Self::Written(written) => written.len(),
        }
    }

    /// True if `written` is what [`Self::write`] writes.
    #[inline]
    pub fn is(&self, mut written: &[u8]) -> bool {
        match self {
            Self::Asked(request, from) => {
                for argument in request.from(*from) {
                    let Some(rest) = written
                        .strip_prefix(&length_bytes(argument))
                        .and_then(|rest| rest.strip_prefix(argument))
                    else {
                        return false;
                    };
                    written = rest;
                }
                written.is_empty()
            }
            Self::Written(own) => *own == written,
        }
    }
}

fn length_bytes(argument: &[u8]) -> [u8; 4] {
    // Arguments are shorter than a request, which is shorter than 1 GiB.
    u32::try_from(argument.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A reply to store or compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// The bytes, ready to be sent.
    Bytes(&'b [u8]),
    /// Nil: written as the client's protocol wants it.
    Nil,
}

impl<'b> Reply<'b> {
    /// The bytes of a value; none for nil.
    pub fn bytes(self) -> &'b [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Nil => &[],
        }
    }
}

/// What a new entry is given.
#[derive(Debug)]
pub(super) struct Fresh<'p> {
    pub(super) epoch: u64,
    pub(super) bans: u64,
    pub(super) policy: &'p Policy,
    pub(super) deadline: u64,
    pub(super) asked_at: Tick,
    pub(super) next: Option<Entry>,
}

/// What a hit may do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    Servable,
    /// Its barrier is too old.
    Lease,
    /// Its time is over.
    Expired,
    /// Its epoch is over.
    Dead,
    /// Its PTTL has not come yet.
    Unproved,
    /// There are bans that its key was not held against.
    Unchecked,
}

/// A stored reply; cheap to clone.
#[derive(Clone)]
pub struct Entry(ThinArc<Header, u8>);

struct Header {
    /// End of life in ticks; 0 = not proved yet.
    deadline: AtomicU64,
    epoch: u64,
    /// The last ban that its key was held against.
    bans: AtomicU64,
    lease: u64,
    /// When its question was asked: no reply is younger than that.
    asked_at: Tick,
    next: Option<Entry>,
    /// Accounted bytes of this entry and those behind it.
    weight: u64,
    /// Of the key: what the store's table moves it by.
    hash: u64,
    key_length: u32,
    extra_length: u32,
    db: u32,
    command: u16,
    /// [`TRACKED`], [`NIL`], [`DOUBTED`], and the protocol in the upper half.
    flags: AtomicU8,
    /// Hits that the eviction's hand has not taken back yet; counted at the head of a chain.
    uses: AtomicU8,
}

/// As many uses as an entry can save up.
const USES_MAX: u8 = 3;

const TRACKED: u8 = 1;
const NIL: u8 = 2;
/// It was asked for when its lease was over, and what was asked before that may not fill.
const DOUBTED: u8 = 4;
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
        let nil = if matches!(reply, Reply::Nil) { NIL } else { 0 };
        let own = STORE_OVERHEAD + size_class(size_of::<Header>() + 16 + length);
        let behind = fresh.next.as_ref().map_or(0, Self::weight);
        let header = Header {
            deadline: AtomicU64::new(fresh.deadline),
            epoch: fresh.epoch,
            bans: AtomicU64::new(fresh.bans),
            lease: fresh.policy.max_staleness,
            asked_at: fresh.asked_at,
            next: fresh.next,
            weight: own + behind,
            hash: question.hash,
            uses: AtomicU8::new(0),
            key_length: u32::try_from(question.key.len()).unwrap_or(u32::MAX),
            extra_length: u32::try_from(extra).unwrap_or(u32::MAX),
            db: question.db,
            command: question.command,
            flags: AtomicU8::new(tracked | nil | question.proto << PROTO_SHIFT),
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

    /// Appends the reply; a nil as `null`.
    #[inline]
    pub fn write(&self, out: &mut BytesMut, null: &[u8]) {
        match self.reply() {
            Reply::Bytes(bytes) => out.extend_from_slice(bytes),
            Reply::Nil => out.extend_from_slice(null),
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

    /// True if `reply` and one of this chain cannot both be new, though their questions differ:
    /// MGET answers with the value that GET has stored or else with a nil of its own (that of a
    /// list, say), so a nil told to it and a value of GET are two replies to one question.
    pub(super) fn contradicts(&self, question: &Question<'_>, reply: &Reply<'_>) -> bool {
        let is_of = |command: u16, name| find::by_name(name).is_some_and(|s| s.index == command);
        let (own, other) = match reply {
            Reply::Nil => ("MGET", "GET"),
            Reply::Bytes(_) => ("GET", "MGET"),
        };
        is_of(question.command, own)
            && self.chain().any(|entry| {
                let is_nil = entry.reply() == Reply::Nil;
                is_nil != (*reply == Reply::Nil)
                    && entry.header().db == question.db
                    && is_of(entry.header().command, other)
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

    #[inline]
    pub(super) fn judge(&self, view: &View) -> Terms {
        let header = self.header();
        let deadline = header.deadline.load(Ordering::Acquire);
        if header.epoch != view.epoch(self.flags() & TRACKED != 0) {
            Terms::Dead
        } else if self.bans() < view.bans {
            Terms::Unchecked
        } else if deadline == 0 {
            Terms::Unproved
        } else if view.now.0 >= deadline {
            Terms::Expired
        } else if header.lease != u64::MAX
            && view.now.0 > view.synced_at.0.saturating_add(header.lease)
        {
            Terms::Lease
        } else {
            Terms::Servable
        }
    }

    /// Notes that its lease was over when it was asked for; true the first time.
    #[cold]
    pub(super) fn doubt(&self) -> bool {
        self.header().flags.fetch_or(DOUBTED, Ordering::Relaxed) & DOUBTED == 0
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.header().flags.load(Ordering::Relaxed)
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

    /// True if it is this very entry, not one like it.
    pub(super) fn is(&self, other: &Self) -> bool {
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
        self.header().weight
    }

    /// This entry and the variants behind it.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |entry| entry.header().next.as_ref())
    }

    /// True if its question was asked after that time.
    pub(super) fn is_younger_than(&self, at: Tick) -> bool {
        self.header().asked_at > at
    }

    /// The variant as it is shown.
    pub(super) fn variant(&self, now: Tick) -> Variant {
        let header = self.header();
        let behind = header.next.as_ref().map_or(0, Self::weight);
        Variant {
            command: header.command,
            db: header.db,
            size: header.weight - behind,
            age: now.since(header.asked_at),
            left: Tick(header.deadline.load(Ordering::Acquire)).since(now),
        }
    }

    /// Makes the entry servable until `deadline`, or until an earlier one that it has already:
    /// with two proofs nobody can say which of them is the younger.
    pub(super) fn limit(&self, deadline: u64) {
        let earliest = |known: u64| (known == 0 || deadline < known).then_some(deadline.max(1));
        // An error says that the known one is the earlier.
        let _kept =
            self.header().deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, earliest);
    }

    #[inline]
    fn answers(&self, question: &Question<'_>) -> bool {
        let header = self.header();
        header.command == question.command
            && header.db == question.db
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

/// What jemalloc takes for an allocation of `size` bytes: multiples of 16 to 128, then four
/// classes for each doubling.
fn size_class(size: usize) -> u64 {
    let size = size.max(16);
    let step = if size <= 128 { 16 } else { size.next_power_of_two() / 8 };
    size.next_multiple_of(step) as u64
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_are_jemallocs() {
        for (size, class) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (4097, 5120),
            (16384, 16384),
            (16385, 20480),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
    }
}
