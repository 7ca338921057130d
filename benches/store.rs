//! The store alone: a hit, a fill with its proof, an invalidation in nanoseconds; accounted bytes
//! against resident memory, and what an entry costs beside key and value; and the longest hit while
//! a ban of all entries is swept.
//!
//! `cargo bench --bench store -- [--smoke]`. One thread, one million entries of 16 + 71 bytes,
//! asked for in random order: what is measured is the memory, as in a real store.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a benchmark: whatever fails ends it, and it reads the clock"
)]

mod support;

use nearside::cache::{
    Ban, Banned, Cache, Extra, Filled, Lookup, Policy, Question, Reply, Source, Space,
};
use nearside::control::office::Sweeper;
use nearside::units::clock::{Clock, Tick};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{Asked, LOAD_CORE, SERVER_CORE, Table, median, pin_self, rss};

/// As in the binary: its size classes are what the accounting knows.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const POLICY: Policy = Policy {
    ttl: u64::MAX / 2,
    negative_ttl: 5_000_000_000,
    max_staleness: 1_000_000_000,
    tracked: true,
    value_max: 1024 * 1024,
    grace: 0,
    keep: 0,
    refresh_ahead: 0,
    whole_key: false,
    ttl_jitter: 0,
};
const NOW: Tick = Tick(1_000_000_000);
struct Store {
    cache: Arc<Cache>,
    command: u16,
    keys: Vec<[u8; 16]>,
    /// The keys in random order.
    order: Vec<u32>,
    reply: Vec<u8>,
}

fn main() {
    let asked = Asked::read(&[]);
    pin_self(SERVER_CORE);
    let mut table = Table::default();
    let (count, rounds) = (asked.scale(1_000_000, 50_000) as usize, asked.scale(5, 1));
    let store = Store::new(count);
    let before = rss(std::process::id());
    let mut fills = vec![store.each(Store::fill)];
    memory(&store, before, &mut table);
    let (mut hits, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        hits.push(store.each(Store::hit));
        removals.push(store.each(Store::invalidate));
        fills.push(store.each(Store::fill));
    }
    let text = format!("{count} entries, random order, median of {rounds}");
    table.published("hit, ns", &text, median(&hits));
    table.published("fill and proof, ns", &text, median(&fills));
    table.published("invalidate, ns", &text, median(&removals));
    store.bans(rounds, &mut table);
    table.print(&asked);
}

/// Sweeps until nothing is left that `ban` could remove.
fn sweep(cache: &Arc<Cache>, ban: &Ban) {
    let sweeper = Sweeper::new(Arc::clone(cache));
    // It stands at `NOW`.
    let (clock, _hands) = Clock::manual();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        tokio::select! {
            () = sweeper.clone().run(clock, Duration::from_secs(1)) => {}
            () = sweeper.settled(ban) => {}
        }
    });
}

fn memory(store: &Store, before: u64, table: &mut Table) {
    let figures = store.cache.figures();
    let count = store.keys.len() as f64;
    assert_eq!(figures.entries, store.keys.len() as u64, "every fill is held");
    let grown = rss(std::process::id()).saturating_sub(before) as f64;
    let accounted = figures.used_bytes as f64;
    let text = format!("accounted {:.1} MB, RSS +{:.1} MB", accounted / 1e6, grown / 1e6);
    table.bar("accounted bytes off RSS, as a share", &text, (accounted / grown - 1.0).abs(), 0.10);
    let payload = (store.keys.first().map_or(0, |key| key.len()) + store.reply.len()) as f64;
    let text = "RSS per entry less key and reply";
    table.published("overhead per entry, bytes", text, (grown / count - payload).max(0.0));
    let text = "accounted per entry less key and reply";
    table.published("accounted overhead, bytes", text, accounted / count - payload);
}

impl Store {
    fn new(count: usize) -> Self {
        let cache = Arc::new(Cache::new(2 * 1024 * 1024 * 1024, 8));
        cache.tracking_up();
        cache.tracking().synced(NOW);
        let key = |index: usize| {
            let mut key = *b"key:000000000000";
            let digits = format!("{index:012}");
            key[4..].copy_from_slice(digits.as_bytes());
            key
        };
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for index in (1..count).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(index, (seed >> 33) as usize % (index + 1));
        }
        let command = nearside::command::by_name("get").expect("GET").index;
        let reply = [b"$64\r\n".as_slice(), &[b'v'; 64], b"\r\n"].concat();
        Self { cache, command, keys: (0..count).map(key).collect(), order, reply }
    }

    /// Nanoseconds of `run` per key, over all of them.
    fn each(&self, run: impl Fn(&Self, &[u8])) -> f64 {
        let begun = Instant::now();
        for &index in &self.order {
            run(self, &self.keys[index as usize]);
        }
        begun.elapsed().as_nanos() as f64 / self.order.len() as f64
    }

    fn question<'k>(&self, key: &'k [u8]) -> Question<'k> {
        let hash = self.cache.hash(key);
        Question {
            key,
            hash,
            command: self.command,
            space: Space::default(),
            proto: 0,
            extra: Extra::Written(b""),
        }
    }

    fn fill(&self, key: &[u8]) {
        let question = self.question(key);
        let token = self.cache.token(question.hash, &POLICY, NOW).expect("the link is up");
        let reply = Reply::Bytes(&self.reply);
        let Filled::Stored(entry) = self.cache.fill(&question, &token, &POLICY, reply) else {
            panic!("a fill was refused");
        };
        assert!(self.cache.prove(question.hash, &entry, &token, &POLICY, -1));
    }

    fn hit(&self, key: &[u8]) {
        let view = self.cache.view(NOW);
        let found = self.cache.get(&self.question(key), &view, |entry| {
            black_box(entry.reply());
        });
        assert_eq!(found, Lookup::Hit);
    }

    /// A namespace of all these entries is banned and swept by the program's own sweeper, while
    /// another thread hits a few keys of another namespace: how long does its longest hit take?
    /// The median of some rounds: the system's own pauses are in any single one.
    fn bans(&self, rounds: u64, table: &mut Table) {
        let hot: Vec<Vec<u8>> =
            (0..1000).map(|index| format!("hot:{index:012}").into_bytes()).collect();
        for key in &hot {
            self.fill(key);
        }
        pin_self(&format!("{SERVER_CORE},{LOAD_CORE}"));
        let (mut swept, mut quiet) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            if round > 0 {
                self.each(Self::fill);
            }
            let (with, without) = self.ban(&hot);
            swept.push(with);
            quiet.push(without);
        }
        let text = format!("median of {rounds}; without a sweep {:.3} ms", median(&quiet));
        table.bar("longest hit while a ban is swept, ms", &text, median(&swept), 1.0);
    }

    /// One round: milliseconds that the longest hit took, and in as long without a sweep.
    fn ban(&self, hot: &[Vec<u8>]) -> (f64, f64) {
        let is_over = AtomicBool::new(false);
        let longest = |until: &dyn Fn() -> bool| {
            let mut longest = 0;
            while !until() {
                for key in hot {
                    let begun = Instant::now();
                    self.hit(key);
                    longest = longest.max(begun.elapsed().as_nanos());
                }
            }
            longest as f64 / 1e6
        };
        let begun = Instant::now();
        let quiet = longest(&|| begun.elapsed() > Duration::from_millis(400));
        let swept = thread::scope(|scope| {
            let hitting = scope.spawn(|| longest(&|| is_over.load(Ordering::Relaxed)));
            let ban = self.cache.ban(Banned::Namespace(b"key".as_slice().into()), Source::Admin);
            let view = self.cache.view(NOW);
            let first = self.question(&self.keys[0]);
            assert_ne!(
                self.cache.get(&first, &view, |_| {}),
                Lookup::Hit,
                "it is in force at once"
            );
            sweep(&self.cache, &ban);
            is_over.store(true, Ordering::Relaxed);
            hitting.join().expect("the hits")
        });
        assert_eq!(self.cache.figures().entries, hot.len() as u64, "the sweep took all of it");
        (swept, quiet)
    }

    fn invalidate(&self, key: &[u8]) {
        assert!(self.cache.invalidate(self.cache.hash(key)));
    }
}
