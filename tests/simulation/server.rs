//! The upstream: a small server that is honest about its data, on wires that are not.
//!
//! It executes in cycles, as Redis' event loop does. A cycle takes some of what has come on each
//! connection, executes it, and then tells the tracking links, once, of all that has changed: so a
//! push may come behind the answers of the same cycle (coherence F2). What it has to say waits in
//! each connection's outbox until the run lets it go on. A cycle may take its time: what is asked meanwhile is
//! executed in it, too.

use crate::conn::{Conn, Words};
use crate::oracle::{MS, Oracle, Time};
use crate::rng::Rng;
use crate::wire::{Far, WIDE};
use crate::words::{FIELD, KEYS, Names, PREFIX, Sort, cell, cells, sort, writing_of};
use bytes::BytesMut;
use nearside::wire::write;

/// The keys, and who is to hear of them.
#[derive(Debug)]
struct Data {
    names: Names,
    expires_at: [Option<Time>; KEYS],
    /// How often each was changed.
    changes: [u64; KEYS],
    /// The last number of each counter: they go on behind a DEL, so that no number comes twice.
    numbers: [u64; KEYS],
    /// Changed in this cycle.
    touched: Vec<usize>,
    /// Expired, and to be told later.
    expired: Vec<(Time, usize)>,
    /// A request of nearside's that no server should get.
    oddity: Option<String>,
}

/// The upstream.
#[derive(Debug)]
pub(crate) struct Server {
    data: Data,
    pub(crate) conns: Vec<Conn>,
    /// Requests of others, and of connections that are gone: executed in the next cycle.
    pub(crate) late: Vec<Words>,
    /// The next requests that name a key are refused with this.
    pub(crate) refusal: Option<(&'static str, usize)>,
    /// ROLE says that it is a replica.
    pub(crate) is_replica: bool,
    /// Changes are not told, though the link lives.
    pub(crate) is_mute: bool,
    /// It is in the midst of a cycle: nothing leaves before that is over.
    pub(crate) is_amid: bool,
    /// Requests executed.
    pub(crate) executed: u64,
    rng: Rng,
}

impl Server {
    pub(crate) fn new(names: Names, rng: Rng) -> Self {
        Self {
            data: Data {
                names,
                expires_at: [None; KEYS],
                changes: [0; KEYS],
                numbers: std::array::from_fn(|key| key as u64 * 1_000_000),
                touched: Vec::new(),
                expired: Vec::new(),
                oddity: None,
            },
            conns: Vec::new(),
            late: Vec::new(),
            refusal: None,
            is_replica: false,
            is_mute: false,
            is_amid: false,
            executed: 0,
            rng,
        }
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.data.names
    }

    pub(crate) fn accept(&mut self, far: Far, round: u64) {
        self.conns.push(Conn::new(far, round));
    }

    /// What is read on links of one round while the tracking link is of another, if it is.
    pub(crate) fn mixture(&self) -> Option<String> {
        let mut open = self.conns.iter().filter(|conn| !conn.far.is_over());
        let tracked = open.clone().find(|conn| conn.is_tracking)?.round;
        let other = open.find(|conn| conn.is_shared() && conn.round != tracked)?.round;
        Some(format!("a shared link of round {other} beside the tracking link of round {tracked}"))
    }

    /// What nearside asked that nobody should, if it did.
    pub(crate) fn oddity(&self) -> Option<&str> {
        self.data.oddity.as_deref()
    }

    /// One cycle, or a part of it: `most` requests of each connection at most.
    pub(crate) fn cycle(&mut self, most: usize, is_whole: bool, now: Time, oracle: &mut Oracle) {
        self.is_amid = !is_whole;
        self.data.expire(now, &mut self.rng, oracle);
        for words in std::mem::take(&mut self.late) {
            self.data.execute(&words, false, now, oracle, &mut Vec::new());
        }
        let first = self.rng.below(self.conns.len().max(1));
        for place in 0..self.conns.len() {
            let place = (first + place) % self.conns.len();
            let mut conn = std::mem::replace(&mut self.conns[place], Conn::gone());
            if !conn.is_frozen && !conn.is_ending && conn.held_until <= now {
                conn.far.set_room(WIDE);
                conn.far.receive(&mut conn.input);
                for _ in 0..most {
                    let Some(words) = conn.next() else { break };
                    self.executed += 1;
                    let from = conn.outbox.len();
                    self.answer(&mut conn, words, now, oracle);
                    if conn.is_used {
                        conn.lie(from);
                    }
                }
            }
            self.conns[place] = conn;
        }
        if is_whole {
            self.tell(now);
        }
        self.conns.retain_mut(|conn| {
            let is_read = conn.is_frozen || conn.is_ending || conn.far.is_idle();
            let is_gone = conn.far.is_over() && (is_read || conn.held_until > now);
            if is_gone {
                conn.far.finish();
            }
            !is_gone
        });
    }

    /// Some of what one connection has to say goes on.
    pub(crate) fn deliver(&mut self, place: usize, most: usize, now: Time) {
        if !self.is_amid {
            self.conns[place].deliver(most, now);
        }
    }

    /// What has changed is told, once.
    fn tell(&mut self, now: Time) {
        let data = &mut self.data;
        data.expired.retain(|(at, key)| {
            if *at <= now {
                data.touched.push(*key);
            }
            *at > now
        });
        data.touched.sort_unstable();
        data.touched.dedup();
        if data.touched.is_empty() {
            return;
        }
        let keys: Vec<String> =
            data.touched.drain(..).map(|key| upstream_name(&data.names, key)).collect();
        if !self.is_mute {
            self.push(&invalidation(&keys));
        }
    }

    /// Says something to all who track.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        for conn in self.conns.iter_mut().filter(|conn| conn.is_tracking) {
            conn.outbox.extend_from_slice(frame);
        }
    }

    fn answer(&mut self, conn: &mut Conn, words: Words, now: Time, oracle: &mut Oracle) {
        let out = &mut conn.outbox;
        match (words[0].as_slice(), words.get(1).map_or(&b""[..], Vec::as_slice)) {
            (b"HELLO", proto) => {
                conn.is_resp3 = proto == b"3";
                hello(out, conn.is_resp3);
            }
            (b"CLIENT", b"TRACKING") => {
                conn.is_tracking = true;
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"CLIENT", b"TRACKINGINFO") => {
                let on: &[u8] = if self.is_mute { b"$3\r\noff" } else { b"$2\r\non" };
                out.extend_from_slice(b"%1\r\n$5\r\nflags\r\n~2\r\n");
                out.extend_from_slice(on);
                out.extend_from_slice(b"\r\n$5\r\nbcast\r\n");
            }
            (b"CLIENT", b"ID") => {
                conn.is_own = true;
                out.extend_from_slice(b":7\r\n");
            }
            (b"CLIENT", _) => out.extend_from_slice(b"+OK\r\n"),
            (b"ROLE", _) if self.is_replica => {
                out.extend_from_slice(b"*2\r\n$5\r\nslave\r\n$1\r\nh\r\n");
            }
            (b"ROLE", _) => out.extend_from_slice(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            (b"PING" | b"ECHO", _) if conn.multi.is_none() => {
                echo(words.get(1).map(Vec::as_slice), out);
            }
            (b"MULTI" | b"EXEC" | b"DISCARD" | b"WATCH" | b"UNWATCH", _) => {
                conn.is_used = true;
                self.transact(conn, &words, now, oracle);
            }
            _ => {
                conn.is_used = true;
                if let Some(refused) = self.refuse(&words) {
                    out.extend_from_slice(refused.as_bytes());
                    conn.is_dirty = true;
                } else if let Some(queue) = &mut conn.multi {
                    out.extend_from_slice(b"+QUEUED\r\n");
                    queue.push(words);
                } else {
                    self.data.execute(&words, conn.is_resp3, now, oracle, out);
                }
            }
        }
    }

    /// The error that stands for an answer now, if one does.
    fn refuse(&mut self, words: &[Vec<u8>]) -> Option<String> {
        let (text, left) = self.refusal.as_mut()?;
        let key = words.get(1).and_then(|name| self.data.names.find(name))?;
        let writes =
            !matches!(words[0].as_slice(), b"GET" | b"HGET" | b"MGET" | b"PTTL" | b"GETEX");
        if !writes && matches!(*text, "READONLY" | "OOM") {
            return None;
        }
        let refused = format!("-{text} sim {key}\r\n");
        *left -= 1;
        if *left == 0 {
            self.refusal = None;
        }
        Some(refused)
    }

    fn transact(&mut self, conn: &mut Conn, words: &Words, now: Time, oracle: &mut Oracle) {
        let out = &mut conn.outbox;
        match (words[0].as_slice(), &mut conn.multi) {
            (b"MULTI", multi @ None) => {
                *multi = Some(Vec::new());
                conn.is_dirty = false;
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"WATCH", None) => {
                for name in &words[1..] {
                    if let Some(key) = self.data.key(name) {
                        conn.watched.push((key, self.data.changes[key]));
                    }
                }
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"UNWATCH", None) => {
                conn.watched.clear();
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"DISCARD", Some(_)) => {
                conn.multi = None;
                conn.watched.clear();
                out.extend_from_slice(b"+OK\r\n");
            }
            (b"EXEC", Some(queue)) => {
                let queue = std::mem::take(queue);
                conn.multi = None;
                let watched = std::mem::take(&mut conn.watched);
                let has_changed = watched.iter().any(|(key, at)| self.data.changes[*key] != *at);
                if conn.is_dirty {
                    out.extend_from_slice(
                        b"-EXECABORT Transaction discarded because of previous errors.\r\n",
                    );
                } else if has_changed {
                    let nil: &[u8] = if conn.is_resp3 { b"_\r\n" } else { b"*-1\r\n" };
                    out.extend_from_slice(nil);
                } else {
                    out.extend_from_slice(format!("*{}\r\n", queue.len()).as_bytes());
                    for words in queue {
                        self.data.execute(&words, conn.is_resp3, now, oracle, out);
                    }
                }
            }
            (b"EXEC", None) => out.extend_from_slice(b"-ERR EXEC without MULTI\r\n"),
            (b"DISCARD", None) => out.extend_from_slice(b"-ERR DISCARD without MULTI\r\n"),
            _ => self.data.oddity = Some(format!("{} inside MULTI", words[0].escape_ascii())),
        }
    }
}

impl Data {
    fn key(&mut self, name: &[u8]) -> Option<usize> {
        let key = self.names.find(name);
        if key.is_none() {
            self.oddity = Some(format!("the key {}", name.escape_ascii()));
        }
        key
    }

    fn touch(&mut self, key: usize) {
        self.changes[key] += 1;
        self.touched.push(key);
    }

    fn exists(key: usize, oracle: &Oracle) -> bool {
        cells(key).any(|cell| oracle.value(cell).is_some())
    }

    /// What has reached its end is gone; the push comes now or later.
    fn expire(&mut self, now: Time, rng: &mut Rng, oracle: &mut Oracle) {
        for key in 0..KEYS {
            let Some(at) = self.expires_at[key].filter(|at| *at <= now) else { continue };
            self.expires_at[key] = None;
            for cell in cells(key) {
                oracle.change(cell, None, at);
            }
            self.changes[key] += 1;
            let delay = if rng.chance(50) { 0 } else { rng.between(1, 300) as u64 * MS };
            self.expired.push((now + delay, key));
        }
    }

    fn set(&mut self, key: usize, field: usize, value: &[u8], now: Time, oracle: &mut Oracle) {
        if let Some(writing) = writing_of(value) {
            oracle.executed(writing);
        }
        oracle.change(cell(key, field), Some(value), now);
        if sort(key) == Sort::Text {
            self.expires_at[key] = None;
        }
        self.touch(key);
    }

    /// A script, whichever it is: it sets a key, given to it as one or not.
    fn run(&mut self, words: &[Vec<u8>], now: Time, oracle: &mut Oracle, out: &mut Vec<u8>) {
        if let Some(key) = self.key(&words[3]) {
            self.set(key, 0, &words[4], now, oracle);
            out.extend_from_slice(b"+OK\r\n");
        }
    }

    fn execute(
        &mut self,
        words: &[Vec<u8>],
        is_resp3: bool,
        now: Time,
        oracle: &mut Oracle,
        out: &mut Vec<u8>,
    ) {
        let mut text = BytesMut::new();
        match words[0].as_slice() {
            b"PING" | b"ECHO" => return echo(words.get(1).map(Vec::as_slice), out),
            b"EVAL" | b"EVALSHA" => return self.run(words, now, oracle, out),
            _ => {}
        }
        let Some(key) = words.get(1).and_then(|name| self.key(name)) else {
            self.oddity.get_or_insert_with(|| format!("{words:?}"));
            return;
        };
        let first = cell(key, 0);
        let field = || FIELD.iter().position(|name| words.get(2).is_some_and(|word| word == name));
        match words[0].as_slice() {
            b"GET" | b"GETEX" => give(&mut text, oracle.value(first), is_resp3),
            b"HGET" => give(&mut text, oracle.value(cell(key, field().unwrap())), is_resp3),
            b"MGET" => {
                write::array(&mut text, words.len() - 1);
                for name in &words[1..] {
                    let value = self.key(name).and_then(|key| oracle.value(cell(key, 0)));
                    give(&mut text, value, is_resp3);
                }
            }
            b"SET" => {
                self.set(key, 0, &words[2], now, oracle);
                text.extend_from_slice(b"+OK\r\n");
            }
            b"GETSET" => {
                give(&mut text, oracle.value(first), is_resp3);
                self.set(key, 0, &words[2], now, oracle);
            }
            b"HSET" => {
                let field = field().unwrap();
                let is_new = oracle.value(cell(key, field)).is_none();
                self.set(key, field, &words[3], now, oracle);
                integer(&mut text, i64::from(is_new));
            }
            b"DEL" => {
                let was = Self::exists(key, oracle);
                for cell in cells(key) {
                    oracle.change(cell, None, now);
                }
                self.expires_at[key] = None;
                if was {
                    self.touch(key);
                }
                integer(&mut text, i64::from(was));
            }
            b"INCR" => {
                self.numbers[key] += 1;
                let number = self.numbers[key];
                oracle.change(first, Some(number.to_string().as_bytes()), now);
                self.touch(key);
                integer(&mut text, number.cast_signed());
            }
            b"PEXPIRE" => {
                let ms: u64 = std::str::from_utf8(&words[2]).unwrap().parse().unwrap();
                let is = Self::exists(key, oracle);
                if is {
                    self.expires_at[key] = Some(now + ms * MS);
                    self.touch(key);
                }
                integer(&mut text, i64::from(is));
            }
            b"PTTL" => {
                let left =
                    self.expires_at[key].map(|at| (at.saturating_sub(now) / MS).cast_signed());
                let is = Self::exists(key, oracle);
                integer(&mut text, if is { left.unwrap_or(-1) } else { -2 });
            }
            _ => self.oddity = Some(format!("{words:?}")),
        }
        out.extend_from_slice(&text);
    }
}

pub(crate) fn upstream_name(names: &Names, key: usize) -> String {
    format!("{PREFIX}{}", names.of_key(key))
}

fn give(out: &mut BytesMut, value: Option<&[u8]>, is_resp3: bool) {
    match value {
        Some(value) => write::bulk(out, value),
        None => out.extend_from_slice(if is_resp3 { b"_\r\n" } else { b"$-1\r\n" }),
    }
}

fn echo(word: Option<&[u8]>, out: &mut Vec<u8>) {
    match word {
        None => out.extend_from_slice(b"+PONG\r\n"),
        Some(word) => {
            let mut text = BytesMut::new();
            write::bulk(&mut text, word);
            out.extend_from_slice(&text);
        }
    }
}

fn integer(out: &mut BytesMut, number: i64) {
    out.extend_from_slice(format!(":{number}\r\n").as_bytes());
}

fn hello(out: &mut Vec<u8>, is_resp3: bool) {
    let (head, proto) = if is_resp3 { ("%6", 3) } else { ("*12", 2) };
    out.extend_from_slice(
        format!(
            "{head}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
             $5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
             $4\r\nrole\r\n$6\r\nmaster\r\n"
        )
        .as_bytes(),
    );
}

/// The push that names changed keys.
pub(crate) fn invalidation(keys: &[String]) -> Vec<u8> {
    let mut out = BytesMut::from(&b">2\r\n$10\r\ninvalidate\r\n"[..]);
    write::array(&mut out, keys.len());
    for key in keys {
        write::bulk(&mut out, key.as_bytes());
    }
    out.to_vec()
}
