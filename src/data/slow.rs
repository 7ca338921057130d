//! Commands whose answers took long, the latest of them: for who looks for the cause of a delay.
//! The server's own SLOWLOG knows only what it did itself, and not for whom.
//!
//! In: answers of upstream that took as long as `log.slow_command`, or longer. Out: a list, and a
//! line in the log. Bounded by `log.slowlog_max`. What may wait for something to happen is not in
//! it. Of keys it has the first, as `log.keys` says: links keep only hashes of most.

use crate::config::LogKeys;
use crate::data::registry::Client;
use crate::stats::{KEY_KEPT, Outcome};
use crate::units::clock::unix_millis;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first key of a command, as far as its link knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// By which the cache knows it.
    pub hash: u64,
    /// Its first bytes.
    pub name: Option<Box<[u8]>>,
}

impl Key {
    /// Of a link's words.
    pub fn new(hash: u64, name: Option<&[u8]>) -> Self {
        let name = name.map(|name| name.get(..KEY_KEPT).unwrap_or(name).into());
        Self { hash, name }
    }

    /// As it may be told: by its name, if there is one.
    fn told(self, by: LogKeys) -> Option<Self> {
        match by {
            LogKeys::Plain => Some(self),
            LogKeys::Hash => Some(Self { name: None, ..self }),
            LogKeys::None => None,
        }
    }
}

/// A command that took long.
#[derive(Clone, Debug)]
pub struct Slow {
    /// Counts them, from 1.
    pub id: u64,
    /// When it was answered, in milliseconds since 1970.
    pub at: u64,
    /// Its name.
    pub command: &'static str,
    /// How it was answered.
    pub outcome: Outcome,
    /// From the request to upstream's answer.
    pub took: Duration,
    /// Who asked, if it was still there.
    pub client: Option<Arc<Client>>,
    /// Its key, if it has one that may be told.
    pub key: Option<Key>,
}

/// The latest of them.
#[derive(Debug)]
pub struct SlowLog {
    /// In nanoseconds; `u64::MAX` = nothing is slow.
    limit: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    kept: usize,
    keys: LogKeys,
    last: u64,
    /// The oldest first.
    entries: VecDeque<Slow>,
}

impl SlowLog {
    /// Of answers that take `limit` or longer (zero: of none), this many, with keys by `keys`.
    pub fn new(limit: Duration, kept: usize, keys: LogKeys) -> Self {
        let book = Book { kept, keys, last: 0, entries: VecDeque::new() };
        let log = Self { limit: AtomicU64::new(u64::MAX), book: Mutex::new(book) };
        log.configure(limit, kept, keys);
        log
    }

    /// From now on like this: what is kept already tells no more of its key either.
    pub fn configure(&self, limit: Duration, kept: usize, keys: LogKeys) {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.limit.store(if nanos == 0 { u64::MAX } else { nanos }, Ordering::Relaxed);
        let mut book = self.book.lock();
        (book.kept, book.keys) = (kept, keys);
        let surplus = book.entries.len().saturating_sub(kept);
        book.entries.drain(..surplus);
        for slow in &mut book.entries {
            slow.key = slow.key.take().and_then(|key| key.told(keys));
        }
    }

    /// True if an answer took long.
    #[inline]
    pub fn is_slow(&self, nanos: u64) -> bool {
        nanos >= self.limit.load(Ordering::Relaxed)
    }

    /// One of them.
    #[cold]
    pub fn note(
        &self,
        command: &'static str,
        outcome: Outcome,
        took: Duration,
        client: Option<Arc<Client>>,
        key: Option<Key>,
    ) {
        let by = self.book.lock().keys;
        let key = key.and_then(|key| key.told(by));
        let name = key.as_ref().and_then(|key| key.name.as_deref()).map(String::from_utf8_lossy);
        let hash = key.as_ref().filter(|key| key.name.is_none()).map(|key| Hexadecimal(key.hash));
        let from = client.as_ref().map(|client| &client.address);
        tracing::warn!(
            event = "slow_command",
            command,
            outcome = outcome.as_str(),
            duration_ms = took.as_secs_f64() * 1e3,
            client_id = client.as_ref().map(|client| client.id),
            client_addr = from.map(tracing::field::display),
            key = name.as_deref(),
            key_hash = hash.map(tracing::field::display),
            "upstream's answer took long"
        );
        let mut book = self.book.lock();
        book.last += 1;
        let id = book.last;
        let at = unix_millis();
        book.entries.push_back(Slow { id, at, command, outcome, took, client, key });
        if book.entries.len() > book.kept {
            book.entries.pop_front();
        }
    }

    /// The latest first.
    pub fn list(&self) -> Vec<Slow> {
        self.book.lock().entries.iter().rev().cloned().collect()
    }

    /// Forgets them; answers how many there were.
    pub fn clear(&self) -> usize {
        let mut book = self.book.lock();
        let count = book.entries.len();
        book.entries.clear();
        count
    }
}

/// A hash as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Hexadecimal(pub u64);

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, SlowLog};
    use crate::config::LogKeys;
    use crate::stats::Outcome;
    use std::time::Duration;

    #[test]
    fn the_latest_are_kept() {
        let log = SlowLog::new(Duration::from_millis(10), 2, LogKeys::Hash);
        assert!(!log.is_slow(9_999_999) && log.is_slow(10_000_000));
        for command in ["get", "set", "del"] {
            log.note(command, Outcome::Bypass, Duration::from_millis(11), None, None);
        }
        let shown = || log.list().iter().map(|slow| (slow.id, slow.command)).collect::<Vec<_>>();
        assert_eq!(shown(), [(3, "del"), (2, "set")]);
        log.configure(Duration::ZERO, 1, LogKeys::Hash);
        assert!(!log.is_slow(u64::MAX - 1));
        assert_eq!(shown(), [(3, "del")]);
        assert_eq!((log.clear(), log.list().len()), (1, 0));
    }

    #[test]
    fn keys_are_told_as_they_may_be() {
        let key = Key::new(7, Some(b"orders:1"));
        let log = SlowLog::new(Duration::from_millis(1), 9, LogKeys::None);
        for keys in [LogKeys::None, LogKeys::Hash, LogKeys::Plain] {
            log.configure(Duration::from_millis(1), 9, keys);
            log.note("get", Outcome::Miss, Duration::from_secs(1), None, Some(key.clone()));
        }
        let told = || log.list().into_iter().map(|slow| slow.key).collect::<Vec<_>>();
        let hash = Some(Key::new(7, None));
        assert_eq!(told(), [Some(key), hash.clone(), None]);
        log.configure(Duration::from_millis(1), 9, LogKeys::Hash);
        assert_eq!(told(), [hash.clone(), hash, None]);
    }
}
