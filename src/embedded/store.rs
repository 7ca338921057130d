//! The data: sixteen databases of keys with values and deadlines, and what changed since asked.
//!
//! Every key is looked up through [`Store::live`], which first deletes it if its time is over, so
//! no command ever sees an expired key; [`Store::expire_due`] does the same for keys that nobody
//! asks for. Every change of a value goes through [`Edit`], which keeps `used` true, and is
//! announced by [`Store::signal`].
//!
//! Invariant: `used` is the sum of the weights of all entries; `volatile` of a database holds
//! exactly the (deadline, key) of its entries that have one.

use super::blocking::Waiters;
use super::changes::Changes;
use super::reply::{Fault, WRONG_TYPE};
use super::types::{Kind, Value};
use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

/// Databases, as in Redis' default configuration.
pub(super) const DATABASES: usize = 16;

/// What an entry costs beside its key and value: two map slots, the value's head, the deadline.
const ENTRY_OVERHEAD: usize = 136;

/// A key's value, and when it ends (milliseconds since 1970).
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) expires: Option<i64>,
}

#[derive(Debug, Default)]
struct Db {
    keys: IndexMap<Bytes, Entry, RandomState>,
    volatile: BTreeSet<(i64, Bytes)>,
}

/// All data of the server.
#[derive(Debug)]
pub(super) struct Store {
    dbs: [Db; DATABASES],
    /// The database that the running command sees.
    selected: usize,
    /// The time of the running command, in milliseconds.
    pub(super) now: i64,
    used: usize,
    pub(super) changes: Changes,
    pub(super) waiters: Waiters,
    /// Keys deleted because their time was over.
    pub(super) expired_keys: u64,
    random: u64,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dbs: std::array::from_fn(|_| Db::default()),
            selected: 0,
            now: 0,
            used: 0,
            changes: Changes::default(),
            waiters: Waiters::default(),
            expired_keys: 0,
            random: seed | 1,
        }
    }

    /// Selects the database for the commands that follow. True if there is such a database.
    pub(super) fn select(&mut self, db: usize) -> bool {
        let exists = db < DATABASES;
        if exists {
            self.selected = db;
        }
        exists
    }

    pub(super) const fn selected(&self) -> usize {
        self.selected
    }

    /// Accounted bytes of all entries.
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    #[expect(clippy::indexing_slicing, reason = "`select` refuses other numbers")]
    fn db(&self) -> &Db {
        &self.dbs[self.selected]
    }

    #[expect(clippy::indexing_slicing, reason = "`select` refuses other numbers")]
    fn db_mut(&mut self) -> &mut Db {
        &mut self.dbs[self.selected]
    }

    /// Runs `work` with another database selected.
    pub(super) fn within<R>(&mut self, db: usize, work: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.selected;
        self.select(db);
        let result = work(self);
        self.selected = before;
        result
    }

    /// Is there such a key? Deletes it first if its time is over.
    pub(super) fn live(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.db().keys.get(key) else {
            return false;
        };
        if !self.is_over(entry) {
            return true;
        }
        self.remove(key);
        self.expired_keys += 1;
        self.signal(key);
        false
    }

    pub(super) fn entry(&mut self, key: &[u8]) -> Option<&Entry> {
        if self.live(key) { self.db().keys.get(key) } else { None }
    }

    /// The value of a key, if it has this type.
    pub(super) fn read<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&T>, Fault> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => T::of(&entry.value).map(Some).ok_or(WRONG_TYPE),
        }
    }

    /// The values of several keys, each looked up as by [`Store::read`].
    #[expect(single_use_lifetimes, reason = "an anonymous one is not stable in this place")]
    pub(super) fn read_all<'k, T: Kind>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
    ) -> Result<Vec<Option<&T>>, Fault> {
        for key in keys.clone() {
            self.read::<T>(key)?;
        }
        let db = self.db();
        Ok(keys.map(|key| db.keys.get(key).and_then(|entry| T::of(&entry.value))).collect())
    }

    /// The value of a key, to be changed.
    pub(super) fn edit<T: Kind>(&mut self, key: &[u8]) -> Result<Option<Edit<'_, T>>, Fault> {
        if !self.live(key) {
            return Ok(None);
        }
        #[expect(clippy::indexing_slicing, reason = "`select` refuses other numbers")]
        let db = &mut self.dbs[self.selected];
        let Some(entry) = db.keys.get_mut(key) else {
            return Ok(None);
        };
        let value = T::of_mut(&mut entry.value).ok_or(WRONG_TYPE)?;
        let before = value.weight();
        Ok(Some(Edit { value, used: &mut self.used, before }))
    }

    /// As [`Store::edit`]; a missing key becomes an empty value first.
    pub(super) fn edit_or_new<T: Kind>(&mut self, key: &[u8]) -> Result<Edit<'_, T>, Fault> {
        if !self.live(key) {
            self.put(key, T::default().into(), None);
        }
        self.edit(key)?.ok_or(WRONG_TYPE)
    }

    /// Sets a key, whatever it was.
    pub(super) fn put(&mut self, key: &[u8], value: Value, expires: Option<i64>) {
        self.used += value.weight();
        if matches!(value, Value::List(_) | Value::Zset(_)) {
            self.waiters.made(self.selected, key);
        }
        let db = self.db_mut();
        if let Some(entry) = db.keys.get_mut(key) {
            let weight = entry.value.weight();
            entry.value = value;
            self.used -= weight;
        } else {
            db.keys.insert(Bytes::copy_from_slice(key), Entry { value, expires: None });
            self.used += key.len() + ENTRY_OVERHEAD;
        }
        self.set_deadline(key, expires);
    }

    /// Sets or removes a key's deadline.
    pub(super) fn set_deadline(&mut self, key: &[u8], expires: Option<i64>) {
        let db = self.db_mut();
        let Some((_, key, entry)) = db.keys.get_full_mut(key) else {
            return;
        };
        if entry.expires == expires {
            return;
        }
        if let Some(old) = entry.expires {
            db.volatile.remove(&(old, key.clone()));
        }
        if let Some(new) = expires {
            db.volatile.insert((new, key.clone()));
        }
        entry.expires = expires;
    }

    /// Deletes a key, expired or not. The caller signals it.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let db = self.db_mut();
        let (_, key, entry) = db.keys.swap_remove_full(key)?;
        let weight = entry.value.weight() + key.len() + ENTRY_OVERHEAD;
        if let Some(deadline) = entry.expires {
            db.volatile.remove(&(deadline, key));
        }
        self.used -= weight;
        Some(entry)
    }

    /// Deletes a key whose last element was taken out.
    pub(super) fn remove_if_empty(&mut self, key: &[u8]) {
        if self.db().keys.get(key).is_some_and(|entry| entry.value.is_empty()) {
            self.remove(key);
        }
    }

    /// Sets a key to a collection, or deletes it if that is empty. True if anything changed.
    pub(super) fn put_or_remove(&mut self, key: &[u8], value: Value) -> bool {
        if value.is_empty() {
            return self.live(key) && self.remove(key).is_some();
        }
        self.put(key, value, None);
        true
    }

    /// Says that a key of the selected database changed.
    pub(super) fn signal(&mut self, key: &[u8]) {
        self.changes.signal(self.selected, key);
    }

    /// Deletes every key of one database.
    pub(super) fn flush(&mut self, db: usize) {
        let Some(found) = self.dbs.get_mut(db) else {
            return;
        };
        let old = std::mem::take(found);
        self.changes.flush(db, |key| old.keys.contains_key(key));
        let weigh =
            |(key, entry): (&Bytes, &Entry)| key.len() + ENTRY_OVERHEAD + entry.value.weight();
        self.used -= old.keys.iter().map(weigh).sum::<usize>();
    }

    /// Keys of the selected database, those whose time is over included, as DBSIZE counts.
    pub(super) fn len(&self) -> usize {
        self.db().keys.len()
    }

    /// Keys, and keys with a deadline, of each database.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.dbs.iter().map(|db| (db.keys.len(), db.volatile.len()))
    }

    /// The key and entry at a position below [`Store::len`], even if its time is over.
    ///
    /// Deleting moves the last key into the hole, so a walk downwards meets every key that stays.
    pub(super) fn key_at(&self, position: usize) -> Option<(&Bytes, &Entry)> {
        self.db().keys.get_index(position)
    }

    /// Is this entry's time over?
    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        entry.expires.is_some_and(|deadline| self.now > deadline)
    }

    /// A key by chance.
    pub(super) fn random_key(&mut self) -> Option<Bytes> {
        loop {
            let position = self.random_below(self.len())?;
            let key = self.db().keys.get_index(position)?.0.clone();
            if self.live(&key) {
                return Some(key);
            }
        }
    }

    /// A number below `limit` by chance (xorshift64*); `None` if the limit is 0.
    pub(super) fn random_below(&mut self, limit: usize) -> Option<usize> {
        if limit == 0 {
            return None;
        }
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let chance = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D);
        let scaled = (u128::from(chance) * limit as u128) >> 64;
        usize::try_from(scaled).ok()
    }

    /// Deletes keys whose time is over, at most `limit` of them.
    pub(super) fn expire_due(&mut self, limit: usize) {
        let mut left = limit;
        for db in 0..DATABASES {
            self.within(db, |store| {
                while left > 0
                    && let Some((deadline, key)) = store.db().volatile.first()
                    && *deadline < store.now
                {
                    let key = key.clone();
                    store.live(&key);
                    left -= 1;
                }
            });
        }
    }
}

/// A value being changed; the store's account is settled when it is dropped.
#[derive(Debug)]
pub(super) struct Edit<'a, T: Kind> {
    value: &'a mut T,
    used: &'a mut usize,
    before: usize,
}

impl<T: Kind> Deref for Edit<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: Kind> DerefMut for Edit<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T: Kind> Drop for Edit<'_, T> {
    fn drop(&mut self) {
        *self.used = *self.used - self.before + self.value.weight();
    }
}
