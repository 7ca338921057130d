//! Commands whose answers took long, the latest of them: for who looks for the cause of a delay.
//! The server's own SLOWLOG knows only what it did itself, and not for whom.
//!
//! In: answers of upstream that took as long as `log.slow_command`, or longer. Out: a list, and a
//! line in the log. Bounded by `log.slowlog_max`. What may wait for something to happen is not in
//! it, and neither is any key: links keep only hashes of most.

use crate::data::registry::Client;
use crate::stats::Outcome;
use crate::units::clock::unix_millis;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    last: u64,
    /// The oldest first.
    entries: VecDeque<Slow>,
}

impl SlowLog {
    /// Of answers that take `limit` or longer (zero: of none), this many.
    pub fn new(limit: Duration, kept: usize) -> Self {
        let book = Book { kept, last: 0, entries: VecDeque::new() };
        let log = Self { limit: AtomicU64::new(u64::MAX), book: Mutex::new(book) };
        log.configure(limit, kept);
        log
    }

    /// From now on like this.
    pub fn configure(&self, limit: Duration, kept: usize) {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.limit.store(if nanos == 0 { u64::MAX } else { nanos }, Ordering::Relaxed);
        let mut book = self.book.lock();
        book.kept = kept;
        let surplus = book.entries.len().saturating_sub(kept);
        book.entries.drain(..surplus);
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
    ) {
        let from = client.as_ref().map(|client| &client.address);
        tracing::warn!(
            event = "slow_command",
            command,
            outcome = outcome.as_str(),
            duration_ms = took.as_secs_f64() * 1e3,
            client_id = client.as_ref().map(|client| client.id),
            client_addr = from.map(tracing::field::display),
            "upstream's answer took long"
        );
        let mut book = self.book.lock();
        book.last += 1;
        let id = book.last;
        book.entries.push_back(Slow { id, at: unix_millis(), command, outcome, took, client });
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

#[cfg(test)]
mod tests {
    use super::SlowLog;
    use crate::stats::Outcome;
    use std::time::Duration;

    #[test]
    fn the_latest_are_kept() {
        let log = SlowLog::new(Duration::from_millis(10), 2);
        assert!(!log.is_slow(9_999_999) && log.is_slow(10_000_000));
        for command in ["get", "set", "del"] {
            log.note(command, Outcome::Bypass, Duration::from_millis(11), None);
        }
        let shown = || log.list().iter().map(|slow| (slow.id, slow.command)).collect::<Vec<_>>();
        assert_eq!(shown(), [(3, "del"), (2, "set")]);
        log.configure(Duration::ZERO, 1);
        assert!(!log.is_slow(u64::MAX - 1));
        assert_eq!(shown(), [(3, "del")]);
        assert_eq!((log.clear(), log.list().len()), (1, 0));
    }
}
