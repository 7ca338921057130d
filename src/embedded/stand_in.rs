//! A server that stands in for another one, which cannot be reached: what it may say of keys that
//! it was never told, which writes it takes, and what is left of them for the other one.
//!
//! In: requests, before they are run. Out: why one is refused; and, page by page, the requests by
//! which the other server gets what was written here.
//!
//! Invariant: `named` holds every key that was written or deleted here, also those that have ended
//! since. Of any other key this server knows nothing; where it may not answer as an empty one, it
//! says so, and changes nothing that would have to be known before.

use super::args::Args;
use super::core::Core;
use super::reply::{Fault, OUT_OF_MEMORY};
use super::store::Store;
use super::types::Value;
use crate::command::{Flags, Spec, keys};
use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::IndexSet;

/// What a key that was named costs beside its bytes.
const NAMED_OVERHEAD: usize = 64;

/// Elements of one request by which a collection is written.
const ELEMENTS_MAX: usize = 256;

const REFUSED: Fault = Fault::text("ERR proxy: not executed: upstream is down");
const UNKNOWN: Fault = Fault::text(
    "ERR proxy: not executed: upstream is down, and the fallback was not told of this key",
);
const NOT_FLUSHED: Fault =
    Fault::text("ERR proxy: not executed: upstream is down, and the fallback flushes nothing");

/// What is asked of a server that stands in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// It answers as an empty server would of keys that it does not know; else it refuses.
    pub knows_all: bool,
    /// It takes writes.
    pub takes_writes: bool,
    /// Bytes that these may hold.
    pub max_memory: usize,
}

/// What such a server remembers beside its data.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) policy: Policy,
}

/// Keys by their database.
#[derive(Debug, Default)]
pub(super) struct Named {
    keys: IndexSet<(usize, Bytes), RandomState>,
    bytes: usize,
}

impl Named {
    pub(super) fn note(&mut self, db: usize, key: &[u8]) {
        if !self.has(db, key) {
            self.bytes += key.len() + NAMED_OVERHEAD;
            self.keys.insert((db, Bytes::copy_from_slice(key)));
        }
    }

    fn has(&self, db: usize, key: &[u8]) -> bool {
        self.keys.contains(&(db, Bytes::copy_from_slice(key)))
    }
}

/// A key that was written: its database, and the requests that make it elsewhere what it is here.
pub type Left = (u32, Vec<Vec<Bytes>>);

/// What was written, so far as the other server is to be given it.
#[derive(Debug, Default)]
pub struct Page {
    /// Each key.
    pub keys: Vec<Left>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<usize>,
}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Keys that were written or deleted.
    pub keys: usize,
    /// Accounted bytes of them and their values.
    pub bytes: usize,
}

impl StandIn {
    /// Why a request may not run, if it may not. `queued`: keys that are written before it in the
    /// same transaction.
    pub(super) fn refusal(
        &self,
        store: &Store,
        db: usize,
        spec: &Spec,
        args: Args<'_>,
        queued: &[Bytes],
    ) -> Option<Fault> {
        let is_message = spec.name == "publish" || spec.name.ends_with("subscribe");
        if (spec.writes() || is_message) && !self.policy.takes_writes {
            return Some(REFUSED);
        }
        if spec.writes_everything() {
            return Some(NOT_FLUSHED);
        }
        let Some(named) = &store.changes.named else { return None };
        let mut is_known = true;
        each_key(spec, args, |key| {
            is_known &= named.has(db, key) || queued.iter().any(|queued| queued == key);
        });
        if !self.policy.knows_all && (lists(spec) || !is_known && needs_known(spec, args)) {
            return Some(UNKNOWN);
        }
        let adds = spec.flags.has(Flags::DENYOOM) || deletes(spec) && !is_known;
        let asked: usize = args.from(1).map(<[u8]>::len).sum();
        let is_short = store.used() + named.bytes + asked > self.policy.max_memory;
        (adds && is_short).then_some(OUT_OF_MEMORY)
    }
}

/// Notes what a request deletes, whether it was here or not: it is to be deleted elsewhere.
pub(super) fn note_deleted(store: &mut Store, spec: &Spec, args: Args<'_>) {
    let db = store.selected();
    if let Some(named) = store.changes.named.as_mut().filter(|_| deletes(spec)) {
        args.from(1).for_each(|key| named.note(db, key));
    }
}

/// The keys that a request sets or deletes whatever they were before.
pub(super) fn replaced(spec: &Spec, args: Args<'_>) -> Vec<Bytes> {
    let mut replaced = Vec::new();
    if !needs_known(spec, args) {
        each_key(spec, args, |key| replaced.push(Bytes::copy_from_slice(key)));
    }
    replaced
}

fn each_key(spec: &Spec, args: Args<'_>, mut see: impl FnMut(&[u8])) {
    keys::for_each(spec, args.len(), |index| args.at(index), |index| see(args.at(index)));
}

fn deletes(spec: &Spec) -> bool {
    matches!(spec.name, "del" | "unlink")
}

/// True if its answer tells of keys that it does not name.
fn lists(spec: &Spec) -> bool {
    matches!(spec.name, "dbsize" | "keys" | "randomkey" | "scan")
}

/// True if what it does depends on what its keys were before.
fn needs_known(spec: &Spec, args: Args<'_>) -> bool {
    let has_condition =
        || args.from(3).any(|option| is_one_of(option, &[b"NX", b"XX", b"GET", b"KEEPTTL"]));
    match spec.name {
        "set" => has_condition(),
        "del" | "unlink" | "mset" | "setex" | "psetex" | "watch" => false,
        _ => true,
    }
}

fn is_one_of(option: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| option.eq_ignore_ascii_case(word))
}

impl Core {
    /// How much was written.
    pub(super) fn written(&self) -> Written {
        let named = self.store.changes.named.as_ref();
        let (keys, bytes) = named.map_or((0, 0), |named| (named.keys.len(), named.bytes));
        Written { keys, bytes: bytes + self.store.used() }
    }

    /// From now on this is asked of it.
    pub(super) fn obey(&mut self, policy: Policy) {
        if let Some(stand_in) = &mut self.stand_in {
            stand_in.policy = policy;
        }
    }

    /// What was written, from this place on: so many keys, or so many bytes and a little more.
    pub(super) fn page(&mut self, from: usize, keys_max: usize, bytes_max: usize) -> Page {
        self.refresh_clock();
        let mut page = Page::default();
        let (mut at, mut bytes) = (from, 0);
        while page.keys.len() < keys_max && bytes < bytes_max {
            let named = self.store.changes.named.as_ref();
            let Some((db, key)) = named.and_then(|named| named.keys.get_index(at)).cloned() else {
                return page;
            };
            at += 1;
            let requests = self.store.within(db, |store| requests(store, &key));
            bytes += requests.iter().flatten().map(Bytes::len).sum::<usize>();
            page.keys.push((u32::try_from(db).unwrap_or(u32::MAX), requests));
        }
        page.next = Some(at);
        page
    }
}

/// The requests that make a key elsewhere what it is here.
fn requests(store: &mut Store, key: &Bytes) -> Vec<Vec<Bytes>> {
    let word = |text: &'static str| Bytes::from_static(text.as_bytes());
    let mut all = Vec::new();
    let Some(entry) = store.entry(key) else {
        return vec![vec![word("DEL"), key.clone()]];
    };
    let (expires, copy) = (entry.expires, |text: &[u8]| Bytes::copy_from_slice(text));
    if let Value::Text(text) = &entry.value {
        all.push(vec![word("SET"), key.clone(), copy(text)]);
    } else {
        all.push(vec![word("DEL"), key.clone()]);
        let (name, width, elements) = entry.value.elements();
        for some in elements.chunks(ELEMENTS_MAX * width) {
            all.push([word(name), key.clone()].into_iter().chain(some.iter().cloned()).collect());
        }
    }
    if let Some(expires) = expires {
        all.push(vec![word("PEXPIREAT"), key.clone(), Bytes::from(expires.to_string())]);
    }
    all
}
