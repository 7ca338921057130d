//! The bystanders: clients that read and write their own keys all the time, in pipelines, and know
//! what each answer may be.
//!
//! Every value names its key and has a number that is used once, so a reply that went to another
//! request is seen as that, whatever it says. What was executed is read afterwards from the lists
//! to which each client has appended every number that it has tried to.

use crate::client::{Client, write};
use crate::draw::Draw;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// Clients of a crew.
const COUNT: usize = 4;

/// Requests of one pipeline.
const BATCH: usize = 8;

/// Keys of one client.
const KEYS: usize = 6;

/// How many requests of bystanders there may be on a link when it ends, so many times.
pub(crate) const fn in_flight(times: u64) -> u64 {
    times * (COUNT * BATCH) as u64
}

/// What is seen while a crew works.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) wrong: Mutex<Vec<String>>,
    pub(crate) hung: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) requests: AtomicU64,
    /// What errors there were, and how many.
    pub(crate) texts: Mutex<BTreeMap<String, u64>>,
}

impl Seen {
    pub(crate) fn error(&self, text: &str) {
        self.errors.fetch_add(1, Ordering::SeqCst);
        *self.texts.lock().entry(text.to_owned()).or_default() += 1;
    }

    pub(crate) fn wrong(&self, text: String) {
        self.wrong.lock().push(text);
    }
}

/// Pipelines that a client has begun, and those that it had answered well.
#[derive(Debug, Default)]
struct Rounds {
    begun: AtomicU64,
    /// The number of the last one without an error.
    good: AtomicU64,
    /// Those with an error.
    bad: AtomicU64,
}

#[derive(Debug)]
struct Orders {
    stops: AtomicBool,
    rests: Mutex<bool>,
    /// The rest is over.
    go_on: Condvar,
    rounds: [Rounds; COUNT],
}

/// Four clients at work.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) seen: Arc<Seen>,
    orders: Arc<Orders>,
    threads: Vec<JoinHandle<Book>>,
}

impl Crew {
    /// Clients that have begun to work; over RESP3 if so asked.
    pub(crate) fn start(port: u16, proto: u8, seed: u64) -> Self {
        let seen = Arc::new(Seen::default());
        let orders = Arc::new(Orders {
            stops: AtomicBool::new(false),
            rests: Mutex::new(false),
            go_on: Condvar::new(),
            rounds: Default::default(),
        });
        let member = |number| {
            let (seen, orders) = (Arc::clone(&seen), Arc::clone(&orders));
            let draw = Draw::new(seed, number as u64);
            thread::spawn(move || Member::new(port, proto, number, seen, draw).work(&orders))
        };
        let crew = Self { threads: (0..COUNT).map(member).collect(), seen, orders };
        crew.until_well();
        crew
    }

    /// Waits until each has had a pipeline answered without an error that began after now.
    pub(crate) fn until_well(&self) {
        let begun = |rounds: &Rounds| rounds.begun.load(Ordering::SeqCst) & !RESTING;
        let begun: Vec<u64> = self.orders.rounds.iter().map(begun).collect();
        crate::harness::eventually("all bystanders are served again", || {
            let is_well =
                |(rounds, begun): (&Rounds, &u64)| rounds.good.load(Ordering::SeqCst) > *begun;
            self.orders.rounds.iter().zip(&begun).all(is_well).then_some(())
        });
    }

    /// They ask nothing more before [`Self::go_on`]; nothing of theirs is out.
    pub(crate) fn rest(&self) {
        *self.orders.rests.lock() = true;
        crate::harness::eventually("the bystanders rest", || {
            let is_done = |rounds: &Rounds| rounds.begun.load(Ordering::SeqCst) & RESTING != 0;
            self.orders.rounds.iter().all(is_done).then_some(())
        });
    }

    pub(crate) fn go_on(&self) {
        *self.orders.rests.lock() = false;
        self.orders.go_on.notify_all();
    }

    /// Waits until each has had an error: the fault has come to all of them.
    pub(crate) fn until_struck(&self) {
        let struck = || self.orders.rounds.iter().map(|rounds| rounds.bad.load(Ordering::SeqCst));
        let before: Vec<u64> = struck().collect();
        crate::harness::eventually("all bystanders have had an error", || {
            struck().zip(&before).all(|(now, before)| now > *before).then_some(())
        });
    }

    /// What each has done.
    pub(crate) fn stop(mut self) -> (Arc<Seen>, Vec<Book>) {
        self.end();
        let threads = std::mem::take(&mut self.threads);
        let books = threads.into_iter().map(|thread| thread.join().expect("a bystander"));
        (Arc::clone(&self.seen), books.collect())
    }

    fn end(&self) {
        self.orders.stops.store(true, Ordering::SeqCst);
        self.go_on();
    }
}

impl Drop for Crew {
    /// Also where a row was given up.
    fn drop(&mut self) {
        self.end();
    }
}

/// Set in the count of pipelines begun while its client rests.
const RESTING: u64 = 1 << 63;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// The proxy has said that it was not executed.
    Refused,
    Unknown,
}

/// What a client knows of one of its keys.
#[derive(Clone, Debug, Default)]
struct Key {
    /// The last value that it was told was written; 0: none.
    done: u64,
    /// Values that may have been written, and may be yet.
    maybe: BTreeSet<u64>,
}

/// What one client has done.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) number: usize,
    keys: Vec<Key>,
    /// What was appended to its list.
    pub(crate) appended: BTreeMap<String, Fate>,
    /// Of its counter: as it was last told, and how often it may have been raised beyond that.
    count: (u64, u64),
}

impl Book {
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> + use<> {
        let number = self.number;
        (0..KEYS).map(move |key| name(number, key))
    }

    pub(crate) fn list(&self) -> String {
        format!("list:{}", self.number)
    }
}

fn name(member: usize, key: usize) -> String {
    format!("value:{member}:{key}")
}

/// One request of a pipeline.
#[derive(Clone, Debug)]
enum Request {
    Set(usize, u64),
    Get(usize, u64),
    Count,
    Append(String),
}

struct Member {
    port: u16,
    proto: u8,
    seen: Arc<Seen>,
    draw: Draw,
    book: Book,
    next: u64,
    conn: Option<Client>,
}

impl Member {
    fn new(port: u16, proto: u8, number: usize, seen: Arc<Seen>, draw: Draw) -> Self {
        let keys = vec![Key::default(); KEYS];
        let book = Book { number, keys, appended: BTreeMap::new(), count: (0, 0) };
        Self { port, proto, seen, draw, book, next: 0, conn: None }
    }

    fn work(mut self, orders: &Orders) -> Book {
        let rounds = &orders.rounds[self.book.number];
        while !orders.stops.load(Ordering::SeqCst) {
            let mut rests = orders.rests.lock();
            if *rests {
                rounds.begun.fetch_or(RESTING, Ordering::SeqCst);
                orders.go_on.wait_while(&mut rests, |rests| *rests);
                rounds.begun.fetch_and(!RESTING, Ordering::SeqCst);
                continue;
            }
            drop(rests);
            let round = rounds.begun.fetch_add(1, Ordering::SeqCst) + 1;
            if self.connect() && self.batch() {
                rounds.good.store(round, Ordering::SeqCst);
            } else {
                rounds.bad.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.book
    }

    /// False if nobody takes the connection in.
    fn connect(&mut self) -> bool {
        if self.conn.is_some() {
            return true;
        }
        let Ok(mut conn) = Client::dial(self.port) else {
            return false;
        };
        if self.proto == 3 && !conn.words("HELLO 3").is_ok_and(|reply| reply.starts_with(b"%")) {
            return false;
        }
        self.conn = Some(conn);
        true
    }

    /// One pipeline; true if all of it was answered, and without an error.
    fn batch(&mut self) -> bool {
        let mut requests: Vec<Request> = (1..BATCH).map(|_| self.draw()).collect();
        // Whoever is served again can write, too.
        self.next += 1;
        requests.push(Request::Append(format!("{}.{}", self.book.number, self.next)));
        let mut bytes = Vec::new();
        for request in &requests {
            self.put(request, &mut bytes);
        }
        self.seen.requests.fetch_add(BATCH as u64, Ordering::SeqCst);
        let Some(conn) = &mut self.conn else { return false };
        let sent = conn.send(&bytes).map_err(|error| error.kind());
        let mut is_good = true;
        for (at, request) in requests.iter().enumerate() {
            let reply = match (&sent, &mut self.conn) {
                (Ok(()), Some(conn)) => conn.reply().map_err(|error| error.kind()),
                (Err(kind), _) => Err(*kind),
                (Ok(()), None) => Err(ErrorKind::NotConnected),
            };
            match reply {
                Ok(reply) if reply.starts_with(b"-") => {
                    is_good = false;
                    self.refused(request, &reply);
                }
                Ok(reply) => self.answered(request, &reply),
                Err(kind) => {
                    self.lost(&requests[at..], kind);
                    return false;
                }
            }
        }
        is_good
    }

    fn draw(&mut self) -> Request {
        self.next += 1;
        let key = self.draw.below(KEYS);
        match self.draw.below(8) {
            0 | 1 => Request::Set(key, self.next),
            2 => Request::Count,
            3 => Request::Append(format!("{}.{}", self.book.number, self.next)),
            _ => Request::Get(key, self.next),
        }
    }

    fn put(&mut self, request: &Request, out: &mut Vec<u8>) {
        let number = self.book.number;
        match request {
            Request::Set(key, value) => {
                let name = name(number, *key);
                write(out, &["SET", &name, &format!("{name}={value}")]);
                self.book.keys[*key].maybe.insert(*value);
            }
            Request::Get(key, _) => write(out, &["GET", &name(number, *key)]),
            Request::Count => {
                write(out, &["INCR", &format!("count:{number}")]);
                self.book.count.1 += 1;
            }
            Request::Append(value) => {
                write(out, &["RPUSH", &self.book.list(), value]);
                self.book.appended.insert(value.clone(), Fate::Unknown);
            }
        }
    }

    fn answered(&mut self, request: &Request, reply: &[u8]) {
        let is_right = match request {
            Request::Set(key, value) => {
                let known = &mut self.book.keys[*key];
                known.maybe.remove(value);
                known.done = *value;
                reply == b"+OK\r\n"
            }
            Request::Get(key, now) => self.is_possible(*key, *now, reply),
            Request::Count => {
                let (told, more) = self.book.count;
                let count = number(reply).unwrap_or(0);
                self.book.count = (count, (told + more).saturating_sub(count));
                count > told && count <= told + more
            }
            Request::Append(value) => {
                self.book.appended.insert(value.clone(), Fate::Done);
                let length = number(reply).unwrap_or(0);
                length > 0 && length <= self.book.appended.len() as u64
            }
        };
        if !is_right {
            let who = self.book.number;
            self.seen.wrong(format!("{who}: {request:?} was told {}", reply.escape_ascii()));
        }
    }

    /// True if a read of a key, asked at `now`, may say this. (A write whose outcome is unknown may
    /// be executed at any time after it was asked for.)
    fn is_possible(&self, key: usize, now: u64, reply: &[u8]) -> bool {
        let known = &self.book.keys[key];
        if reply == b"$-1\r\n" || reply == b"_\r\n" {
            return known.done == 0;
        }
        let text = String::from_utf8_lossy(reply);
        let value = text.split("\r\n").nth(1).and_then(|value| value.split_once('='));
        value.is_some_and(|(told, value)| {
            let value = value.parse().unwrap_or(0);
            told == name(self.book.number, key)
                && value < now
                && (value == known.done || known.maybe.contains(&value))
        })
    }

    fn refused(&mut self, request: &Request, reply: &[u8]) {
        let text = String::from_utf8_lossy(reply);
        let is_undone = text.contains("not executed");
        self.seen.error(text.trim_end());
        match request {
            Request::Append(value) if is_undone => {
                self.book.appended.insert(value.clone(), Fate::Refused);
            }
            Request::Set(key, value) if is_undone => {
                self.book.keys[*key].maybe.remove(value);
            }
            Request::Count if is_undone => self.book.count.1 -= 1,
            _ => {}
        }
    }

    fn lost(&mut self, requests: &[Request], kind: ErrorKind) {
        self.conn = None;
        if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            self.seen.hung.fetch_add(requests.len() as u64, Ordering::SeqCst);
            return;
        }
        for _ in requests {
            self.seen.error("the connection was closed");
        }
    }
}

fn number(reply: &[u8]) -> Option<u64> {
    String::from_utf8_lossy(reply).strip_prefix(':')?.trim_end().parse().ok()
}
