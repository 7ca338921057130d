//! Who lends: a thread of its own that answers PROXY LEASE, for all workers.
//!
//! ```text
//!   waited  names that somebody waits for: the tracking link rings
//!   lock    the lock upstream, and what is done under it
//! ```
//!
//! In: letters of clients that found no value, have computed one, or have failed to. Out: their
//! answers. Of each key there is one queue here and one question upstream at a time, however many
//! wait: whoever came before it was asked has its answer. Who gets the lock is upstream's to
//! decide, so it is one of a whole fleet.
//!
//! Nobody waits longer than it said, nor than its connection lasts, nor than this process ends. The
//! next look is taken when a push names the key or its lock, when the lease in force ends, and, for
//! what no push tells of, again and again ([`PAUSE_MAX`] apart at most).
//!
//! Invariant (R4): what is told of a key is told after it was invalidated here, so no client is
//! served anything older from then on.

pub mod lock;
pub mod waited;

use self::lock::{Lines, Looked, Place, Refused};
use self::waited::Waited;
use crate::cache::Cache;
use crate::live::Live;
use crate::mail::{Answer, LeaseLetter, LeaseWish, Lent, Letters};
use crate::snapshot::Snapshots;
use crate::stats::{Block, Counter};
use crate::units::clock::{Clock, Tick};
use crate::wire::write::{self, Proto};
use aws_lc_rs::rand;
use bytes::BytesMut;
use foldhash::HashMap;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two looks at first, and at last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// How often, while nobody writes, connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Who lends.
#[derive(Debug)]
pub struct Lender {
    /// What has to be told that a key has changed.
    pub cache: Arc<Cache>,
    /// How keys are named.
    pub snapshots: Arc<Snapshots>,
    /// Time.
    pub clock: Clock,
    /// Whether this process ends.
    pub live: Arc<Live>,
    /// Connections upstream.
    pub lines: Lines,
    /// What the tracking link rings for.
    pub waited: Arc<Waited>,
    /// Counters.
    pub block: Arc<Block>,
}

/// A database and a key of clients.
type Key = (u32, Box<[u8]>);

/// Clients that have come since the last look.
#[derive(Debug, Default)]
struct Queue {
    fresh: RefCell<Vec<Waiter>>,
    bell: Arc<Notify>,
}

type Queues = RefCell<HashMap<Key, Rc<Queue>>>;

/// A client that wants a value, or the lease.
#[derive(Debug)]
struct Waiter {
    until: Tick,
    life: Duration,
    client: Weak<()>,
    proto: Proto,
    answer: Answer,
}

impl Waiter {
    fn is_gone(&self) -> bool {
        self.client.strong_count() == 0
    }

    fn tell(self, lent: Lent<'_>) {
        let mut out = BytesMut::new();
        lent.write(&mut out, self.proto);
        self.answer.give(out.freeze());
    }
}

impl Lender {
    /// Answers letters until nobody can write any more.
    pub async fn run(self, mut letters: Letters<LeaseLetter>) {
        let (me, queues) = (Rc::new(self), Rc::new(Queues::default()));
        loop {
            let letter = match tokio::time::timeout(TIDY_EVERY, letters.recv()).await {
                Ok(Some(letter)) => letter,
                Ok(None) => return,
                Err(_) => {
                    me.lines.tidy();
                    continue;
                }
            };
            let LeaseLetter { wish, key, db, proto, answer } = letter;
            match wish {
                LeaseWish::Get { wait, life, client } => {
                    let until = behind(me.clock.now(), wait);
                    let waiter = Waiter { until, life, client, proto, answer };
                    me.queue(&queues, (db, key), waiter);
                }
                LeaseWish::Set { token, value, expiry } => {
                    let me = Rc::clone(&me);
                    tokio::task::spawn_local(async move {
                        let stored = me.store((db, &key), &token, (&value, expiry)).await;
                        me.answer(stored, Counter::LeaseStored, (answer, proto));
                    });
                }
                LeaseWish::Drop { token } => {
                    let me = Rc::clone(&me);
                    tokio::task::spawn_local(async move {
                        let taken = me.take_back((db, &key), &token).await;
                        me.answer(taken, Counter::LeaseDropped, (answer, proto));
                    });
                }
            }
        }
    }

    fn queue(self: &Rc<Self>, queues: &Rc<Queues>, key: Key, waiter: Waiter) {
        let mut all = queues.borrow_mut();
        if let Some(queue) = all.get(&key) {
            queue.fresh.borrow_mut().push(waiter);
            queue.bell.notify_one();
            return;
        }
        let queue = Rc::new(Queue { fresh: RefCell::new(vec![waiter]), ..Queue::default() });
        all.insert(key.clone(), Rc::clone(&queue));
        let (me, queues) = (Rc::clone(self), Rc::clone(queues));
        tokio::task::spawn_local(async move {
            let attended = Attended { queues: &queues, key };
            me.attend(&attended.key, &queue).await;
        });
    }

    /// Attends to those who want one key, until nobody does.
    async fn attend(&self, key: &Key, queue: &Queue) {
        let (mut waiting, mut pause) = (Vec::new(), PAUSE_FIRST);
        loop {
            waiting.append(&mut queue.fresh.borrow_mut());
            waiting.retain(|waiter: &Waiter| !waiter.is_gone());
            let Some(first) = waiting.first() else {
                return;
            };
            let (token, life) = (token(), first.life);
            let (name, lock) = self.names(&key.1);
            let place = Place { db: key.0, key: &name, lock: &lock };
            // Before upstream is asked: what changes behind the answer is heard.
            let _rung = self.waited.ring([&name, &lock], &queue.bell);
            let looked = self.lines.look(&place, (token.as_bytes(), life), self.timeout()).await;
            if !matches!(looked, Ok(Looked::Held(_))) {
                // It may have changed, and no push need have told.
                self.cache.invalidate(self.cache.hash(&key.1));
            }
            let left = self.tell(looked, &token, &mut waiting, &place).await;
            self.tell_late(&mut waiting);
            if let Some(until) = waiting.iter().map(|waiter| waiter.until).min() {
                let rest = Duration::from_nanos(until.0.saturating_sub(self.clock.now().0));
                let next = left.map_or(pause, |left| pause.min(left)).min(rest);
                let is_rung = tokio::time::timeout(next, queue.bell.notified()).await.is_ok();
                pause = if is_rung { PAUSE_FIRST } else { PAUSE_MAX.min(pause * 2) };
            }
        }
    }

    /// Tells those who wait what a look has brought; how long the lease in force is still good.
    async fn tell(
        &self,
        looked: Result<Looked, Refused>,
        token: &str,
        waiting: &mut Vec<Waiter>,
        place: &Place<'_>,
    ) -> Option<Duration> {
        match looked {
            Ok(Looked::Value(value)) => {
                self.block.add(Counter::LeaseWaited, waiting.len() as u64);
                for waiter in waiting.drain(..) {
                    waiter.tell(Lent::Fresh(&value));
                }
                None
            }
            Ok(Looked::Granted) => {
                match waiting.iter().position(|waiter| !waiter.is_gone()) {
                    Some(place) => {
                        self.block.add(Counter::LeaseGranted, 1);
                        waiting.remove(place).tell(Lent::Granted(token.as_bytes()));
                    }
                    // Everybody has left meanwhile. (If it cannot be freed, it ends by itself.)
                    None => drop(self.lines.free(place, token.as_bytes(), self.timeout()).await),
                }
                None
            }
            Ok(Looked::Held(left)) => left,
            Err(Refused(text)) => {
                for waiter in waiting.drain(..) {
                    let mut out = BytesMut::new();
                    write::error(&mut out, text.as_bytes());
                    waiter.answer.give(out.freeze());
                }
                None
            }
        }
    }

    /// Tells those who may wait no longer; all, if this process ends.
    fn tell_late(&self, waiting: &mut Vec<Waiter>) {
        let (now, is_over) = (self.clock.now(), self.live.is_parting());
        let late = |waiter: &mut Waiter| is_over || waiter.until <= now;
        for waiter in waiting.extract_if(.., late) {
            self.block.add(Counter::LeaseHeld, 1);
            waiter.tell(Lent::Held);
        }
    }

    /// Stores a value under a lease: false if that is lost.
    async fn store(
        &self,
        (db, key): (u32, &[u8]),
        token: &[u8],
        value: (&[u8], Option<Duration>),
    ) -> Result<bool, Refused> {
        let (name, lock) = self.names(key);
        let place = Place { db, key: &name, lock: &lock };
        let stored = self.lines.store(&place, token, value, self.timeout()).await;
        // Whatever became of it.
        self.cache.invalidate(self.cache.hash(key));
        stored
    }

    /// Takes a lease back whose value could not be computed: false if it was lost already.
    async fn take_back(&self, (db, key): (u32, &[u8]), token: &[u8]) -> Result<bool, Refused> {
        let (name, lock) = self.names(key);
        self.lines.free(&Place { db, key: &name, lock: &lock }, token, self.timeout()).await
    }

    /// Answers with OK, counted as `done`, with nil if the lease is lost, or with why it failed.
    fn answer(
        &self,
        outcome: Result<bool, Refused>,
        done: Counter,
        (answer, proto): (Answer, Proto),
    ) {
        let mut out = BytesMut::new();
        match outcome {
            Ok(true) => {
                self.block.add(done, 1);
                write::simple(&mut out, "OK");
            }
            Ok(false) => {
                self.block.add(Counter::LeaseLost, 1);
                write::null(&mut out, proto);
            }
            Err(Refused(text)) => write::error(&mut out, text.as_bytes()),
        }
        answer.give(out.freeze());
    }

    /// What a key and its lock are called upstream, now.
    fn names(&self, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let snapshot = self.snapshots.newest();
        (snapshot.names.name(key), snapshot.names.fill_lock(key))
    }

    fn timeout(&self) -> Duration {
        self.snapshots.newest().limits.read_timeout
    }
}

/// A queue that is attended to: gone with its task, however that ends.
struct Attended<'q> {
    queues: &'q Queues,
    key: Key,
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.queues.borrow_mut().remove(&self.key);
    }
}

fn behind(now: Tick, wait: Duration) -> Tick {
    Tick(now.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

/// What names a lease: nobody guesses it.
fn token() -> String {
    let mut bytes = [0; 16];
    // (The system's source does not fail once it has begun.)
    rand::fill(&mut bytes).ok();
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}
