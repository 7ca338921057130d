//! The scripted upstream: a small RESP server on a real TCP port, which does to the replies of some
//! requests what a verb says.
//!
//! Requests that name a key with `poison:` in it are struck, each key once, by the verb that is in
//! force; all others are answered well. The store is one for all connections, and every write to
//! a list stays in it, so that what was executed, and how often, can be read afterwards.

use crate::verbs::{End, Verb};
use parking_lot::{Condvar, Mutex};
use socket2::SockRef;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Keys that are struck have this in their names.
pub(crate) const POISON: &str = "poison:";

#[derive(Debug)]
enum Value {
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
}

#[derive(Debug, Default)]
struct Model {
    values: BTreeMap<Vec<u8>, Value>,
    /// Connections that are told of every change.
    tracking: Vec<TcpStream>,
}

/// How a server refuses commands that it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) text: &'static str,
    /// True if it also refuses what names no key (PING).
    pub(crate) is_of_all: bool,
}

#[derive(Debug)]
struct Shared {
    model: Mutex<Model>,
    verb: Mutex<Option<Verb>>,
    /// Rings when nothing is struck any more.
    disarmed: Condvar,
    struck: Mutex<BTreeSet<Vec<u8>>>,
    strikes: AtomicU64,
    /// Connections that were taken in.
    accepted: AtomicU64,
    /// True while connections are closed as soon as they are there.
    closes: AtomicBool,
    /// Those that are, by their numbers.
    open: Mutex<Vec<(u64, TcpStream)>>,
    /// What all commands but those of a handshake are answered with.
    refusal: Mutex<Option<Refusal>>,
    /// Reads of poisoned keys that were refused.
    refused: AtomicU64,
    /// Grows when all who have logged in are forgotten.
    logins: AtomicU64,
    /// True while nothing moves on any connection.
    is_black: Mutex<bool>,
    lightened: Condvar,
    next_id: AtomicU64,
}

/// Listens for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Upstream {
    pub(crate) fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            model: Mutex::default(),
            verb: Mutex::new(None),
            disarmed: Condvar::new(),
            struck: Mutex::default(),
            strikes: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            closes: AtomicBool::new(false),
            open: Mutex::default(),
            refusal: Mutex::default(),
            refused: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            is_black: Mutex::new(false),
            lightened: Condvar::new(),
            next_id: AtomicU64::new(1),
        });
        let upstream = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let conn = Conn::new(Arc::clone(&shared), stream);
                if conn.enter() {
                    thread::spawn(move || conn.run());
                }
            }
        });
        Ok(upstream)
    }

    /// From now on requests for poisoned keys are struck so.
    pub(crate) fn arm(&self, verb: Verb) {
        *self.shared.verb.lock() = Some(verb);
    }

    /// From now on nothing is struck, and what is read no more is given up.
    pub(crate) fn disarm(&self) {
        *self.shared.verb.lock() = None;
        self.shared.disarmed.notify_all();
    }

    /// How many requests were struck.
    pub(crate) fn strikes(&self) -> u64 {
        self.shared.strikes.load(Ordering::SeqCst)
    }

    /// How many connections were made to it.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// From now on commands are refused so, or not any more.
    pub(crate) fn refuse(&self, refusal: Option<Refusal>) {
        *self.shared.refusal.lock() = refusal;
    }

    /// How many reads of poisoned keys were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Connections that are open have to log in anew.
    pub(crate) fn forget_logins(&self) {
        self.shared.logins.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether connections are closed as soon as they are there. Those that are open, are.
    pub(crate) fn close_all(&self, closes: bool) {
        let open = self.shared.open.lock();
        self.shared.closes.store(closes, Ordering::SeqCst);
        for (_, stream) in open.iter().filter(|_| closes) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Whether nothing moves on any connection.
    pub(crate) fn blacken(&self, is_black: bool) {
        *self.shared.is_black.lock() = is_black;
        self.shared.lightened.notify_all();
    }
}

/// One connection.
struct Conn {
    shared: Arc<Shared>,
    stream: TcpStream,
    id: u64,
    is_resp3: bool,
    /// As of when it has logged in.
    login: u64,
    /// Read, and not a whole request yet.
    input: Vec<u8>,
    out: Vec<u8>,
    /// A reply that waits for the next.
    held: Option<Vec<u8>>,
    /// Nothing is answered any more.
    hangs: bool,
}

impl Drop for Conn {
    /// With no twin left the end is told as it is meant: a reset is one.
    fn drop(&mut self) {
        self.shared.open.lock().retain(|(id, _)| *id != self.id);
    }
}

impl Conn {
    fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let id = shared.next_id.fetch_add(1, Ordering::SeqCst);
        let (input, out) = (Vec::new(), Vec::new());
        let login = shared.logins.load(Ordering::SeqCst);
        Self { shared, stream, id, is_resp3: false, login, input, out, held: None, hangs: false }
    }

    /// False while all connections are to be closed.
    fn enter(&self) -> bool {
        let mut open = self.shared.open.lock();
        let may_stay = !self.shared.closes.load(Ordering::SeqCst);
        if may_stay {
            open.extend(self.stream.try_clone().map(|twin| (self.id, twin)));
        }
        may_stay
    }

    /// However it ends, so does the connection.
    fn run(mut self) {
        self.stream.set_nodelay(true).ok();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => self.input.extend_from_slice(&chunk[..count]),
                _ => break,
            }
            let mut at = 0;
            while let Some((request, length)) = parse(&self.input[at..]) {
                at += length;
                if self.take(&request).is_err() {
                    return;
                }
            }
            self.input.drain(..at);
            if self.flush().is_err() {
                break;
            }
        }
        self.stream.shutdown(Shutdown::Both).ok();
    }

    fn flush(&mut self) -> Result<()> {
        let mut is_black = self.shared.is_black.lock();
        while *is_black {
            self.shared.lightened.wait(&mut is_black);
        }
        drop(is_black);
        let out = std::mem::take(&mut self.out);
        if self.hangs { Ok(()) } else { self.stream.write_all(&out) }
    }

    /// An error ends the connection.
    fn take(&mut self, request: &[Vec<u8>]) -> Result<()> {
        if let Some(text) = self.refusal(request) {
            self.out.extend_from_slice(format!("-{text}\r\n").as_bytes());
            return Ok(());
        }
        let verb = self.verb(request);
        if let Some(Verb::Error(text)) = verb {
            self.out.extend_from_slice(format!("-{text}\r\n").as_bytes());
            return Ok(());
        }
        let reply = self.answer(request);
        let held = self.held.take();
        match verb {
            Some(verb) => self.strike(verb, reply)?,
            None => self.out.extend_from_slice(&reply),
        }
        self.out.extend(held.unwrap_or_default());
        Ok(())
    }

    /// With what a request is refused that is not struck, if it is.
    fn refusal(&mut self, request: &[Vec<u8>]) -> Option<&'static str> {
        let name = request[0].to_ascii_uppercase();
        if matches!(name.as_slice(), b"HELLO" | b"AUTH") {
            self.login = self.shared.logins.load(Ordering::SeqCst);
            return None;
        }
        if self.login != self.shared.logins.load(Ordering::SeqCst) {
            return Some("NOAUTH Authentication required.");
        }
        let refusal = (*self.shared.refusal.lock())?;
        let has_key = matches!(name.as_slice(), b"GET" | b"SET" | b"INCR" | b"RPUSH" | b"PTTL");
        if name == b"GET" && contains(&request[1], POISON.as_bytes()) {
            self.shared.refused.fetch_add(1, Ordering::SeqCst);
        }
        (has_key || refusal.is_of_all && name == b"PING").then_some(refusal.text)
    }

    /// What is to be done to the answer to a request, if anything.
    fn verb(&self, request: &[Vec<u8>]) -> Option<Verb> {
        let is_poisoned = |word: &&Vec<u8>| contains(word, POISON.as_bytes());
        let key = request.get(1).filter(is_poisoned)?;
        // Also asked by a proxy for itself.
        if request[0].eq_ignore_ascii_case(b"PTTL") {
            return None;
        }
        let verb = self.shared.verb.lock().clone()?;
        // (A list is written to again and again: what is written tells the requests apart.)
        let name = [key.as_slice(), request.get(2).map_or(&[], Vec::as_slice)].concat();
        if !self.shared.struck.lock().insert(name) {
            return None;
        }
        self.shared.strikes.fetch_add(1, Ordering::SeqCst);
        Some(verb)
    }

    fn strike(&mut self, verb: Verb, reply: Vec<u8>) -> Result<()> {
        match verb {
            Verb::Delay(ms) => {
                self.flush()?;
                hold_back(ms);
                self.out.extend_from_slice(&reply);
            }
            Verb::Drip(bytes, ms) => {
                for piece in reply.chunks(bytes) {
                    self.out.extend_from_slice(piece);
                    self.flush()?;
                    hold_back(ms);
                }
            }
            Verb::Split(count) => {
                for piece in reply.chunks(reply.len().div_ceil(count)) {
                    self.out.extend_from_slice(piece);
                    self.flush()?;
                }
            }
            Verb::ExtraReply(extra) => {
                self.out.extend_from_slice(&reply);
                self.out.extend_from_slice(extra);
            }
            Verb::DupReply => {
                self.out.extend_from_slice(&reply);
                self.out.extend_from_slice(&reply);
            }
            Verb::SwapNext => self.held = Some(reply),
            Verb::Raw(bytes) => self.out.extend_from_slice(&bytes),
            Verb::Push(bytes) => {
                self.out.extend_from_slice(bytes);
                self.out.extend_from_slice(&reply);
            }
            Verb::Truncate(count, end) => {
                self.out.extend_from_slice(&reply[..count.min(reply.len())]);
                self.flush()?;
                return self.end(end);
            }
            Verb::Close(end) => {
                self.flush()?;
                return self.end(end);
            }
            Verb::Hang => {
                self.flush()?;
                self.hangs = true;
            }
            Verb::StopReading => {
                self.flush()?;
                let mut verb = self.shared.verb.lock();
                while verb.is_some() {
                    self.shared.disarmed.wait(&mut verb);
                }
                return Err(ErrorKind::ConnectionAborted.into());
            }
            Verb::DropReply | Verb::Error(_) => {}
        }
        Ok(())
    }

    fn end(&self, end: End) -> Result<()> {
        if end == End::Rst {
            SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        }
        Err(ErrorKind::ConnectionAborted.into())
    }

    fn null(&self) -> Vec<u8> {
        if self.is_resp3 { b"_\r\n".to_vec() } else { b"$-1\r\n".to_vec() }
    }

    /// The answer of a server that is well.
    fn answer(&mut self, request: &[Vec<u8>]) -> Vec<u8> {
        let name = request[0].to_ascii_uppercase();
        let word = |at: usize| request.get(at).map_or(&[][..], Vec::as_slice);
        match name.as_slice() {
            b"HELLO" => self.hello(word(1)),
            b"PING" if request.len() > 1 => bulk(word(1)),
            b"PING" => b"+PONG\r\n".to_vec(),
            b"ECHO" => bulk(word(1)),
            b"ROLE" => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
            b"SELECT" | b"AUTH" => b"+OK\r\n".to_vec(),
            b"CLIENT" => self.client(&word(1).to_ascii_uppercase()),
            b"PSUBSCRIBE" => {
                let kind = if self.is_resp3 { '>' } else { '*' };
                let name = bulk(word(1));
                [format!("{kind}3\r\n$10\r\npsubscribe\r\n").as_bytes(), &name, b":1\r\n"].concat()
            }
            b"PTTL" => {
                let there = self.shared.model.lock().values.contains_key(word(1));
                if there { b":-1\r\n".to_vec() } else { b":-2\r\n".to_vec() }
            }
            b"GET" => self.get(word(1)),
            b"MGET" => {
                let values: Vec<_> = request[1..].iter().map(|key| self.get(key)).collect();
                [format!("*{}\r\n", values.len()).into_bytes(), values.concat()].concat()
            }
            b"EXISTS" => format!(":{}\r\n", request.len() - 1).into_bytes(),
            b"LRANGE" => self.list(word(1)),
            b"SET" | b"INCR" | b"RPUSH" => {
                let mut model = self.shared.model.lock();
                let reply = model.write(&name, word(1), word(2));
                model.tell(word(1));
                reply
            }
            _ => format!("-ERR unknown command '{}'\r\n", name.escape_ascii()).into_bytes(),
        }
    }

    fn hello(&mut self, proto: &[u8]) -> Vec<u8> {
        self.is_resp3 = proto == b"3";
        let (head, version) = if self.is_resp3 { ("%7", 3) } else { ("*14", 2) };
        format!(
            "{head}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
             $5\r\nproto\r\n:{version}\r\n$2\r\nid\r\n:{}\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
             $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            self.id
        )
        .into_bytes()
    }

    fn client(&self, word: &[u8]) -> Vec<u8> {
        match word {
            b"ID" => format!(":{}\r\n", self.id).into_bytes(),
            b"TRACKING" => {
                if let Ok(stream) = self.stream.try_clone() {
                    self.shared.model.lock().tracking.push(stream);
                }
                b"+OK\r\n".to_vec()
            }
            b"TRACKINGINFO" => b"%1\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$5\r\nbcast\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        }
    }

    fn get(&self, key: &[u8]) -> Vec<u8> {
        match self.shared.model.lock().values.get(key) {
            Some(Value::Text(text)) => bulk(text),
            Some(Value::List(_)) => b"-WRONGTYPE not a string\r\n".to_vec(),
            None => poisoned(key).map_or_else(|| self.null(), bulk),
        }
    }

    fn list(&self, key: &[u8]) -> Vec<u8> {
        let items: Vec<Vec<u8>> = match self.shared.model.lock().values.get(key) {
            Some(Value::List(items)) => items.iter().map(|item| bulk(item)).collect(),
            _ => Vec::new(),
        };
        [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
    }
}

impl Model {
    fn write(&mut self, name: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
        match name {
            b"SET" => {
                self.values.insert(key.to_vec(), Value::Text(value.to_vec()));
                b"+OK\r\n".to_vec()
            }
            b"INCR" => {
                let number = match self.values.get(key) {
                    Some(Value::Text(text)) => String::from_utf8_lossy(text).parse().unwrap_or(0),
                    _ => 0_u64,
                } + 1;
                self.values.insert(key.to_vec(), Value::Text(number.to_string().into_bytes()));
                format!(":{number}\r\n").into_bytes()
            }
            _ => {
                let place = self.values.entry(key.to_vec());
                let Value::List(items) = place.or_insert_with(|| Value::List(Vec::new())) else {
                    return b"-WRONGTYPE not a list\r\n".to_vec();
                };
                items.push(value.to_vec());
                format!(":{}\r\n", items.len()).into_bytes()
            }
        }
    }

    /// Tells all who track of a change, before its writer has its answer.
    fn tell(&mut self, key: &[u8]) {
        let push = [&b">2\r\n$10\r\ninvalidate\r\n*1\r\n"[..], &bulk(key)].concat();
        self.tracking.retain_mut(|stream| stream.write_all(&push).is_ok());
    }
}

/// The value of a poisoned key that nobody has written: its own name.
pub(crate) fn poisoned(key: &[u8]) -> Option<&[u8]> {
    let mut places = 0..key.len();
    let at = places.find(|at| key[*at..].starts_with(POISON.as_bytes()))?;
    Some(&key[at..])
}

/// Lets so much of the script's time go by: that bytes come so late is what is played. What becomes
/// of it is awaited by those who look, never timed.
fn hold_back(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

fn contains(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|window| window == part)
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The next request and its length, if all of it is there. What is no request ends nothing here:
/// proxies under test send good ones.
fn parse(input: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (count, mut at) = number(input, 0, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, from) = number(input, at, b'$')?;
        words.push(input.get(from..from + length)?.to_vec());
        input.get(from + length + 1)?;
        at = from + length + 2;
    }
    Some((words, at))
}

/// The number of a line of this kind, and where the next begins.
fn number(input: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = input.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    assert_eq!(rest[0], kind, "no request: {}", input.escape_ascii());
    let text = String::from_utf8_lossy(&rest[1..end]);
    Some((text.trim().parse().unwrap_or(0), at + end + 1))
}
