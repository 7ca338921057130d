//! Which keys changed: for tracking clients, which hear of it after the batch, and for WATCH,
//! whose clients are marked at once.

use super::stand_in::Named;
use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet};
use std::collections::BTreeSet;

/// Changes since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// True while a client tracks: only then keys are remembered.
    pub(super) tracked: bool,
    /// Every key that was ever named, where the server stands in for another.
    pub(super) named: Option<Named>,
    keys: BTreeSet<Bytes>,
    flushed: bool,
    watched: IndexMap<(usize, Bytes), Vec<u64>, RandomState>,
    dirty: IndexSet<u64, RandomState>,
}

impl Changes {
    /// A key of `db` changed.
    pub(super) fn signal(&mut self, db: usize, key: &[u8]) {
        if let Some(named) = &mut self.named {
            named.note(db, key);
        }
        if !self.tracked && self.watched.is_empty() {
            return;
        }
        let key = Bytes::copy_from_slice(key);
        if self.tracked && !self.keys.contains(&key) {
            self.keys.insert(key.clone());
        }
        if let Some(clients) = self.watched.get(&(db, key)) {
            self.dirty.extend(clients);
        }
    }

    /// Every key of `db` was deleted; `had` says whether there was such a key.
    pub(super) fn flush(&mut self, db: usize, had: impl Fn(&[u8]) -> bool) {
        self.flushed = true;
        for ((watched_db, key), clients) in &self.watched {
            if *watched_db == db && had(key) {
                self.dirty.extend(clients);
            }
        }
    }

    /// The keys changed since the last call, in order.
    pub(super) fn take_keys(&mut self) -> BTreeSet<Bytes> {
        std::mem::take(&mut self.keys)
    }

    /// Was anything flushed since the last call?
    pub(super) fn take_flushed(&mut self) -> bool {
        std::mem::take(&mut self.flushed)
    }

    pub(super) fn watch(&mut self, client: u64, db: usize, key: &[u8]) {
        let clients = self.watched.entry((db, Bytes::copy_from_slice(key))).or_default();
        if !clients.contains(&client) {
            clients.push(client);
        }
    }

    /// The keys that a client watches.
    pub(super) fn watched_by(&self, client: u64) -> Vec<(usize, Bytes)> {
        let watches = |clients: &Vec<u64>| clients.contains(&client);
        self.watched
            .iter()
            .filter(|(_, clients)| watches(clients))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The client watches nothing any more, and nothing it watched has changed.
    pub(super) fn unwatch(&mut self, client: u64) {
        self.watched.retain(|_, clients| {
            clients.retain(|watcher| *watcher != client);
            !clients.is_empty()
        });
        self.dirty.swap_remove(&client);
    }

    /// Did a key change that this client watches?
    pub(super) fn is_dirty(&self, client: u64) -> bool {
        self.dirty.contains(&client)
    }
}
