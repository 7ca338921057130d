//! Threads on the cache: what one of them has been told, or has seen, none reads older.
//!
//! Each key has a number that only grows: that is the server. A writer counts it up and then
//! invalidates; a reader that misses takes a token, reads the number and fills.

use super::tests::{POLICY, question};
use super::{Cache, Filled, Reply};
use crate::units::clock::Tick;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const KEYS: u8 = 6;
const THREADS: u64 = 4;
const STEPS: u64 = 15_000;
const NOW: Tick = Tick(1_000_000_000);

struct Key {
    name: Vec<u8>,
    /// The server.
    written: AtomicU64,
    /// The newest number that an invalidation has told of, or that somebody has read.
    known: AtomicU64,
}

/// Six keys and room for four, so that there are evictions, too.
fn stage() -> (Cache, Vec<Key>) {
    let cache = Cache::new(4 * weight(), 4);
    cache.tracking_up();
    cache.tracking().synced(NOW);
    let keys = (0..KEYS).map(|number| Key {
        name: vec![b'k', number],
        written: AtomicU64::new(1),
        known: AtomicU64::new(1),
    });
    (cache, keys.collect())
}

fn weight() -> u64 {
    let cache = Cache::new(1 << 20, 4);
    cache.tracking_up();
    let question = question(&cache, b"k1");
    let token = cache.token(question.hash, &POLICY, NOW).unwrap();
    let filled = cache.fill(&question, &token, &POLICY, Reply::Bytes(&[0; 8]));
    assert!(matches!(filled, Filled::Stored(_)));
    cache.figures().used_bytes
}

fn read(cache: &Cache, key: &Key) -> bool {
    let known = key.known.load(Ordering::SeqCst);
    let question = question(cache, &key.name);
    let mut hit = None;
    cache.get(&question, &cache.view(NOW), |entry| {
        let digits: [u8; 8] = entry.as_ref().try_into().unwrap();
        hit = Some(u64::from_le_bytes(digits));
    });
    if let Some(hit) = hit {
        assert!(hit >= known, "read {hit}, and {known} was known");
        key.known.fetch_max(hit, Ordering::SeqCst);
        return true;
    }
    let token = cache.token(question.hash, &POLICY, NOW);
    // The way to the server and back: the others come in between.
    thread::yield_now();
    let number = key.written.load(Ordering::SeqCst);
    thread::yield_now();
    let Some(token) = token else {
        cache.invalidate(question.hash);
        key.known.fetch_max(number, Ordering::SeqCst);
        return false;
    };
    let bytes = number.to_le_bytes();
    let filled = cache.fill(&question, &token, &POLICY, Reply::Bytes(&bytes));
    // The client has its answer here.
    key.known.fetch_max(number, Ordering::SeqCst);
    if let Filled::Stored(entry) = filled {
        cache.prove(question.hash, &entry, &token, &POLICY, -1);
    }
    false
}

fn write(cache: &Cache, key: &Key) {
    let number = key.written.fetch_add(1, Ordering::SeqCst) + 1;
    cache.invalidate(cache.hash(&key.name));
    key.known.fetch_max(number, Ordering::SeqCst);
}

#[test]
fn nobody_reads_older_than_what_is_known() {
    let (cache, keys) = &stage();
    let hits = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 1..=THREADS {
            let hits = &hits;
            scope.spawn(move || hits.fetch_add(hammer(cache, keys, seed), Ordering::SeqCst));
        }
    });
    assert!(hits.into_inner() > 0, "a test of hits without a hit");
    assert!(cache.figures().used_bytes <= cache.figures().max_bytes);
    assert!(cache.figures().evicted > 0 && cache.figures().expired > 0);
    // Quiet: what is left is what is written.
    for key in keys {
        let written = key.written.load(Ordering::SeqCst);
        cache.get(&question(cache, &key.name), &cache.view(NOW), |entry| {
            assert_eq!(entry.as_ref(), written.to_le_bytes());
        });
        cache.invalidate(cache.hash(&key.name));
    }
    assert_eq!((cache.figures().entries, cache.figures().used_bytes), (0, 0));
}

fn hammer(cache: &Cache, keys: &[Key], seed: u64) -> u64 {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut hits = 0;
    for _ in 0..STEPS {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = &keys[usize::try_from(random >> 32).unwrap() % keys.len()];
        match random % 1000 {
            0..850 => hits += u64::from(read(cache, key)),
            850..990 => write(cache, key),
            990..997 => {
                cache.invalidate(cache.hash(&key.name));
            }
            997 => cache.clear(),
            998 => {
                cache.tracking_lost();
                cache.tracking_up();
            }
            _ => sweep(cache),
        }
    }
    hits
}

/// A sweep on which everything has expired.
fn sweep(cache: &Cache) {
    let mut sweep = cache.start_sweep();
    while cache.sweep(&mut sweep, 512, Tick(u64::MAX)) {}
}
