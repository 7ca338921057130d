//! The embedded upstream against a real redis-server 7.0: the same commands, the same bytes.
//!
//! Where Redis itself leaves the order open (sets, hashes, KEYS, SCAN) the elements are compared
//! sorted; where it picks by chance only the shape is; clocks and identities are left out. Needs
//! `redis-server` (Debian: `apt-get install redis-server`).

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

#[path = "support/ports.rs"]
mod ports;
#[path = "embedded_differential/scenes.rs"]
mod scenes;

use nearside::embedded::{self, Embedded, Options};
use nearside::wire::reply::{self, Scan};
use nearside::wire::request::{self, Arg, Found, Limits};
use nearside::wire::{inline, write};
use ports::free_port;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

const CORPUS: &str = include_str!("data/embedded_corpus.txt");

/// A redis-server of its own, killed when dropped.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let port = free_port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir", std::env::temp_dir().to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "redis-server 7.0 must be installed for this test (apt-get install redis-server)",
            );
        let mut redis = Self { process, port };
        let mut lines = BufReader::new(redis.process.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept")));
        assert!(ready, "redis-server did not start on port {port}");
        // Goes on reading, or the server would block on a full pipe.
        std::thread::spawn(move || lines.count());
        let info = redis.connect().ask(&["INFO", "server"]);
        let info = String::from_utf8_lossy(&info).into_owned();
        assert!(info.contains("redis_version:7.0."), "redis-server 7.0 is needed, found:\n{info}");
        redis
    }

    fn connect(&self) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { name: "redis", stream: Box::new(stream), input: Vec::new(), pushes: Vec::new() }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One connection to either server.
struct Peer {
    name: &'static str,
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// Pushes that came before the replies read so far.
    pushes: Vec<Vec<u8>>,
}

impl Peer {
    fn embedded(server: &Embedded) -> Self {
        let stream = Box::new(server.connect().unwrap());
        Self { name: "embedded", stream, input: Vec::new(), pushes: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply, whole.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some(length) = Scan::default().next(&self.input).unwrap() {
                let reply: Vec<u8> = self.input.drain(..length).collect();
                if reply.starts_with(b">") {
                    self.pushes.push(reply);
                    continue;
                }
                return reply;
            }
            let mut chunk = [0; 16384];
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "{} closed the connection", self.name);
            self.input.extend_from_slice(&chunk[..count]);
        }
    }

    /// Everything until the peer closes.
    fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.input);
        self.stream.read_to_end(&mut all).unwrap();
        all
    }

    fn ask(&mut self, args: &[&str]) -> Vec<u8> {
        self.ask_raw(&encode(args.iter().map(|arg| arg.as_bytes())))
    }

    fn ask_raw(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        self.receive()
    }
}

#[expect(single_use_lifetimes, reason = "an anonymous one is not stable in this place")]
fn encode<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    write::array(&mut out, args.len());
    args.for_each(|arg| write::bulk(&mut out, arg));
    out.to_vec()
}

fn start_embedded() -> Embedded {
    embedded::start(Options { max_memory: 0 }).unwrap()
}

/// The arguments of a request as sent.
fn arguments(request: &[u8]) -> Vec<Vec<u8>> {
    let limits = Limits { args_max: 1 << 20, bulk_max: 1 << 29, unauthenticated: false };
    let mut args: Vec<Arg> = Vec::new();
    let found = request::Scan::default().next(request, &mut args, &limits).unwrap();
    assert_eq!(found, Found::Request(request.len()));
    args.iter().map(|arg| arg.of(request).to_vec()).collect()
}

/// The requests of the corpus, as multibulk.
fn corpus() -> Vec<Vec<u8>> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| inline::to_multibulk(line.as_bytes()).unwrap().to_vec()).collect()
}

/// A command's name as the table has it: `get`, `client|id`.
fn name(args: &[Vec<u8>]) -> String {
    let word = |at: usize| {
        args.get(at).map(|arg| String::from_utf8_lossy(arg).to_lowercase()).unwrap_or_default()
    };
    match word(0).as_str() {
        container @ ("client" | "config" | "pubsub") => format!("{container}|{}", word(1)),
        plain => plain.to_owned(),
    }
}

/// What of a reply must be the same on both servers.
fn essence(args: &[Vec<u8>], reply: &[u8]) -> Vec<u8> {
    if reply.starts_with(b"-") || reply == b"+QUEUED\r\n" {
        return reply.to_vec();
    }
    let name = name(args);
    let width = match name.as_str() {
        "smembers" | "sinter" | "sunion" | "sdiff" | "hkeys" | "hvals" | "keys" => 1,
        "hgetall" | "config|get" => 2,
        "spop" if args.len() > 2 => 1,
        "scan" | "sscan" => return scanned(reply, 1),
        "hscan" | "zscan" => return scanned(reply, 2),
        "hrandfield" | "srandmember" | "randomkey" => return head(reply).to_vec(),
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => return roughly(reply),
        "hello" => return without_id(reply),
        "info" | "time" | "lastsave" | "client|id" | "client|info" | "client|list" => {
            return reply[..1].to_vec();
        }
        _ => return reply.to_vec(),
    };
    [head(reply).to_vec(), sorted(reply, width)].concat()
}

/// The first line of an aggregate; of a bulk only that it is one.
fn head(reply: &[u8]) -> &[u8] {
    match reply {
        [b'$', digit, ..] if *digit != b'-' => b"$",
        _ => &reply[..memchr::memchr(b'\n', reply).unwrap()],
    }
}

fn sorted(reply: &[u8], width: usize) -> Vec<u8> {
    let elements: Vec<&[u8]> = reply::elements(reply).collect();
    let mut groups: Vec<Vec<u8>> = elements.chunks(width).map(<[&[u8]]>::concat).collect();
    groups.sort();
    groups.concat()
}

fn scanned(reply: &[u8], width: usize) -> Vec<u8> {
    let parts: Vec<&[u8]> = reply::elements(reply).collect();
    [parts[0], head(parts[1]), &sorted(parts[1], width)].concat()
}

/// A time to the nearest 100 seconds: both servers read their own clocks.
fn roughly(reply: &[u8]) -> Vec<u8> {
    let value = reply::integer(reply).unwrap();
    let unit = if value > 10_000_000 { 1_000_000 } else { 1000 };
    let shown = if value < 0 { value } else { (value + unit / 2) / unit };
    format!(":{shown}").into_bytes()
}

fn without_id(reply: &[u8]) -> Vec<u8> {
    let elements: Vec<&[u8]> = reply::elements(reply).collect();
    let id = elements.iter().position(|element| *element == b"$2\r\nid\r\n").unwrap();
    let others = elements.iter().enumerate().filter(|(at, _)| *at != id + 1);
    [head(reply).to_vec(), others.map(|(_, element)| *element).collect::<Vec<_>>().concat()]
        .concat()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Asks both and compares; `None` or a report of the difference.
fn difference(request: &[u8], ours: &mut Peer, theirs: &mut Peer) -> Option<String> {
    let args = arguments(request);
    let (expected, found) = (theirs.ask_raw(request), ours.ask_raw(request));
    if essence(&args, &expected) == essence(&args, &found) {
        return None;
    }
    let words: Vec<String> = args.iter().map(|arg| shown(arg)).collect();
    Some(format!(
        "{}\n    redis    {}\n    embedded {}\n",
        words.join(" "),
        shown(&expected),
        shown(&found)
    ))
}

#[test]
fn the_corpus_is_answered_alike() {
    let (redis, server) = (Redis::start(), start_embedded());
    let mut differences = String::new();
    for proto in ["2", "3"] {
        let (mut theirs, mut ours) = (redis.connect(), Peer::embedded(&server));
        for peer in [&mut theirs, &mut ours] {
            peer.ask(&["HELLO", proto]);
            peer.ask(&["FLUSHALL"]);
        }
        for request in corpus() {
            let args = arguments(&request);
            // The corpus changes the protocol on its way: back to the one under test.
            if let Some(text) = difference(&request, &mut ours, &mut theirs) {
                differences.extend(["RESP", proto, ": ", &text]);
            }
            if matches!(name(&args).as_str(), "hello" | "reset") {
                theirs.ask(&["HELLO", proto]);
                ours.ask(&["HELLO", proto]);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Commands that wait if there is nothing to take.
const SCENES_ONLY: &[&str] = &["blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax"];

#[test]
fn every_arity_is_answered_alike() {
    let (redis, server) = (Redis::start(), start_embedded());
    let mut differences = String::new();
    let (mut theirs, mut ours) = (redis.connect(), Peer::embedded(&server));
    for name in embedded::commands() {
        // Those that change what a connection may say, or wait.
        let is_scene = |name: &str| name.ends_with("subscribe") || SCENES_ONLY.contains(&name);
        if is_scene(name) || matches!(name, "quit" | "reset" | "client|reply" | "hello" | "multi") {
            continue;
        }
        for count in 0..8 {
            let words = name.split('|').chain(std::iter::repeat_n("1", count));
            let words: Vec<&str> = words.collect();
            let request = encode(words.iter().map(|word| word.as_bytes()));
            if let Some(text) = difference(&request, &mut ours, &mut theirs) {
                differences += &text;
            }
        }
        for peer in [&mut theirs, &mut ours] {
            peer.ask(&["SELECT", "0"]);
            peer.ask(&["FLUSHALL"]);
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn every_claimed_command_is_in_the_corpus() {
    let more =
        ["quit", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"].map(str::to_owned);
    let asked: BTreeSet<String> =
        corpus().iter().map(|request| name(&arguments(request))).chain(more).collect();
    let containers = ["client", "config", "pubsub"];
    let missing: Vec<&str> = embedded::commands()
        .filter(|name| !asked.contains(*name) && !containers.contains(name))
        .collect();
    assert!(missing.is_empty(), "not in tests/data/embedded_corpus.txt: {missing:?}");
}

/// Templates of random commands: `K` a key, `V` a value, `M` a member or field, `N` a number,
/// `S` a score, `C` a count, `B` a score bound, `L` a bound by name, `X` and `Y` a time to live.
const TEMPLATES: &[&str] = &[
    "SET K V",
    "SET K V EX X",
    "SET K V KEEPTTL GET",
    "SET K V NX",
    "SET K V XX GET",
    "SETNX K V",
    "SETEX K X V",
    "PSETEX K X V",
    "GET K",
    "GETSET K V",
    "GETDEL K",
    "GETEX K",
    "GETEX K PERSIST",
    "GETEX K EX X",
    "MGET K K K",
    "MSET K V K V",
    "MSETNX K V K V",
    "APPEND K V",
    "STRLEN K",
    "GETRANGE K N N",
    "SETRANGE K C V",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K S",
    "DEL K",
    "UNLINK K K",
    "EXISTS K K",
    "TOUCH K",
    "TYPE K",
    "EXPIRE K X",
    "EXPIRE K X NX",
    "EXPIRE K Y GT",
    "PEXPIRE K Y LT",
    "PERSIST K",
    "TTL K",
    "PTTL K",
    "EXPIREAT K N",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K REPLACE",
    "MOVE K 1",
    "KEYS *",
    "KEYS [a-c]*",
    "SCAN 0 COUNT 10000",
    "SCAN 0 COUNT 10000 MATCH *a*",
    "DBSIZE",
    "RANDOMKEY",
    "HSET K M V",
    "HSET K M V M V",
    "HMSET K M V",
    "HSETNX K M V",
    "HGET K M",
    "HMGET K M M",
    "HGETALL K",
    "HKEYS K",
    "HVALS K",
    "HLEN K",
    "HEXISTS K M",
    "HSTRLEN K M",
    "HINCRBY K M N",
    "HINCRBYFLOAT K M S",
    "HDEL K M M",
    "HRANDFIELD K",
    "HRANDFIELD K C",
    "HRANDFIELD K -5 WITHVALUES",
    "HSCAN K 0 COUNT 10000",
    "SADD K M M",
    "SREM K M",
    "SCARD K",
    "SISMEMBER K M",
    "SMISMEMBER K M M",
    "SMEMBERS K",
    "SMOVE K K M",
    "SPOP K 100000",
    "SRANDMEMBER K",
    "SRANDMEMBER K C",
    "SINTER K K",
    "SUNION K K",
    "SDIFF K K",
    "SINTERSTORE K K K",
    "SUNIONSTORE K K K",
    "SDIFFSTORE K K K",
    "SINTERCARD 2 K K LIMIT C",
    "LPUSH K V V",
    "RPUSH K V V",
    "LPUSHX K V",
    "RPUSHX K V",
    "LPOP K",
    "RPOP K C",
    "LPOP K C",
    "LLEN K",
    "LINDEX K N",
    "LRANGE K N N",
    "LSET K N V",
    "LREM K N V",
    "LTRIM K N N",
    "LINSERT K BEFORE V V",
    "LINSERT K AFTER V V",
    "LMOVE K K LEFT RIGHT",
    "LMOVE K K RIGHT RIGHT",
    "RPOPLPUSH K K",
    "LPOS K V COUNT C",
    "LPOS K V RANK N",
    "LPOS K V RANK N COUNT C MAXLEN C",
    "ZADD K S M",
    "ZADD K S M S M",
    "ZADD K CH S M",
    "ZADD K NX S M",
    "ZADD K XX CH S M",
    "ZADD K GT CH S M",
    "ZADD K LT S M",
    "ZADD K INCR S M",
    "ZREM K M",
    "ZSCORE K M",
    "ZMSCORE K M M",
    "ZCARD K",
    "ZCOUNT K B B",
    "ZINCRBY K S M",
    "ZRANK K M",
    "ZREVRANK K M",
    "ZRANGE K N N",
    "ZRANGE K N N REV WITHSCORES",
    "ZRANGE K B B BYSCORE WITHSCORES LIMIT C C",
    "ZRANGE K B B BYSCORE REV",
    "ZREVRANGE K N N",
    "ZRANGEBYSCORE K B B WITHSCORES",
    "ZREVRANGEBYSCORE K B B LIMIT C C",
    "ZREMRANGEBYRANK K N N",
    "ZREMRANGEBYSCORE K B B",
    "ZPOPMIN K",
    "ZPOPMAX K",
    "ZPOPMIN K C",
    "ZPOPMAX K C",
    "ZSCAN K 0 COUNT 10000",
    "ZRANGEBYLEX lex L L",
    "ZLEXCOUNT lex L L",
    "ZADD lex 0 M",
    "ZREVRANGEBYLEX lex L L",
    "ZREMRANGEBYLEX lex L L",
    "SELECT 0",
    "SELECT 1",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH K",
];

/// xorshift64*: the seed tells the whole run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit
    }

    fn pick(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    fn word(&mut self, kind: &str) -> String {
        let list: &[&str] = match kind {
            "K" => &["a", "b", "c", "d", "e", "f", "g", "h"],
            "V" => &["", "1", "x", "-5", "3.25", "9223372036854775807", "hello world", "a\r\nb"],
            "M" => &["a", "b", "c", "d", "aa", "1", "2", "17", ""],
            "N" => &["0", "1", "-1", "2", "-3", "5", "100", "-100", "9223372036854775807", "x"],
            "S" => &["0", "1", "-1.5", "0.1", "1e20", "3", "1e-7", "inf", "-inf", "x", "17.25"],
            "C" => &["0", "1", "2", "3", "10", "-1", "x"],
            "B" => &["-inf", "inf", "0", "1", "(1", "(-1.5", "3", "(17.25", "x", "0.1"],
            "L" => &["-", "+", "[a", "(a", "[b", "(c", "[aa", "x", "["],
            "X" => &["100000", "200000", "0", "-1", "x", "500000"],
            // Never the same twice: the servers' clocks may differ by a millisecond.
            "Y" => return (100_000 + self.below(1_000_000_000)).to_string(),
            plain => return plain.to_owned(),
        };
        self.pick(list).to_owned()
    }
}

#[test]
fn random_commands_are_answered_alike() {
    let seed = match std::env::var("NEARSIDE_SEED") {
        Ok(seed) => seed.parse().expect("NEARSIDE_SEED is a number"),
        // Always the same by default: a red run is the change's doing.
        Err(_) => 7,
    };
    let (redis, server) = (Redis::start(), start_embedded());
    for proto in ["2", "3"] {
        let mut chance = Chance(seed | 1);
        let (mut theirs, mut ours) = (redis.connect(), Peer::embedded(&server));
        for peer in [&mut theirs, &mut ours] {
            peer.ask(&["HELLO", proto]);
            peer.ask(&["FLUSHALL"]);
        }
        for step in 0..20_000 {
            let template = chance.pick(TEMPLATES);
            let mut words: Vec<String> =
                template.split(' ').map(|kind| chance.word(kind)).collect();
            // Now and then a word too many or too few.
            match chance.below(60) {
                0 => words.push(chance.word("V")),
                1 if words.len() > 1 => {
                    words.pop();
                }
                _ => {}
            }
            // What EXEC answers is not sorted, and what it picks is not the same.
            if template == "MULTI" && chance.below(10) > 0 {
                continue;
            }
            let request = encode(words.iter().map(String::as_bytes));
            let found = if template == "EXEC" {
                same_kind(&request, &mut ours, &mut theirs)
            } else {
                difference(&request, &mut ours, &mut theirs)
            };
            if let Some(text) = found {
                panic!("NEARSIDE_SEED={seed} RESP{proto} step {step}: {text}");
            }
        }
    }
}

/// Compares EXEC: as many replies, each of the same kind.
fn same_kind(request: &[u8], ours: &mut Peer, theirs: &mut Peer) -> Option<String> {
    let (expected, found) = (theirs.ask_raw(request), ours.ask_raw(request));
    let kinds = |reply: &[u8]| -> Vec<u8> {
        let inner = reply::elements(reply).map(|element| element[0]);
        std::iter::once(reply[0]).chain(inner).collect()
    };
    (kinds(&expected) != kinds(&found))
        .then(|| format!("EXEC\n    redis {}\n    embedded {}", shown(&expected), shown(&found)))
}

#[test]
fn every_command_in_one_packet_or_in_single_bytes() {
    let script: Vec<u8> = ["SET k v", "GET k", "LPUSH l a b", "LRANGE l 0 -1", "FOO x", "PING"]
        .iter()
        .flat_map(|line| inline::to_multibulk(line.as_bytes()).unwrap().to_vec())
        .chain(b"\r\nGET k\r\nSET \"a b\" 'c d'\n*0\r\nGET \"a b\"\r\nQUIT\r\n".to_owned())
        .collect();
    // What follows QUIT is not heard. Only in the same packet: it would meet a closed socket.
    let whole = [&script[..], b"GET k\r\n"].concat();
    let (redis, server) = (Redis::start(), start_embedded());
    let mut answers = BTreeSet::new();
    for (bytes, chunk) in [(&whole, whole.len()), (&script, 7), (&script, 1)] {
        for mut peer in [redis.connect(), Peer::embedded(&server)] {
            peer.ask(&["FLUSHALL"]);
            bytes.chunks(chunk).for_each(|bytes| peer.send(bytes));
            answers.insert(shown(&peer.rest()));
        }
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

#[test]
fn malformed_requests_end_the_connection_in_the_same_words() {
    let (redis, server) = (Redis::start(), start_embedded());
    for bytes in [
        &b"*1x\r\n"[..],
        b"*2000000000000\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$999999999999\r\n",
        b"GET \"a\r\n",
        b"POST / HTTP/1.1\r\n",
        b"Host: x\r\n",
    ] {
        let mut answers = BTreeSet::new();
        for mut peer in [redis.connect(), Peer::embedded(&server)] {
            peer.ask(&["PING"]);
            peer.send(bytes);
            answers.insert(shown(&peer.rest()));
        }
        assert_eq!(answers.len(), 1, "{}: {answers:#?}", shown(bytes));
    }
}

#[test]
fn muted_replies_stay_muted() {
    let (redis, server) = (Redis::start(), start_embedded());
    let script = b"CLIENT REPLY SKIP\r\nPING 1\r\nPING 2\r\nCLIENT REPLY OFF\r\nPING 3\r\nFOO\r\n\
        CLIENT REPLY SKIP\r\nPING 4\r\nPING 5\r\nCLIENT REPLY ON\r\nPING 6\r\nQUIT\r\n";
    let mut answers = BTreeSet::new();
    for mut peer in [redis.connect(), Peer::embedded(&server)] {
        peer.send(script);
        answers.insert(shown(&peer.rest()));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

#[test]
fn a_scan_meets_every_key_that_stays() {
    let server = start_embedded();
    let mut peer = Peer::embedded(&server);
    for number in 0..1000 {
        let (key, member) = (format!("k{number}"), format!("m{number}"));
        peer.ask(&["SET", &key, "v"]);
        peer.ask(&["HSET", "hash", &member, "v"]);
        peer.ask(&["SADD", "set", &member]);
        peer.ask(&["ZADD", "zset", "1", &member]);
    }
    for (command, removal) in [
        (vec!["SCAN"], "DEL"),
        (vec!["HSCAN", "hash"], "HDEL"),
        (vec!["SSCAN", "set"], "SREM"),
        (vec!["ZSCAN", "zset"], "ZREM"),
    ] {
        let (mut cursor, mut met, mut round) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let request = [&command[..], &[&cursor, "COUNT", "20"]].concat();
            let reply = peer.ask(&request);
            let parts: Vec<&[u8]> = reply::elements(&reply).collect();
            met.extend(reply::elements(parts[1]).map(<[u8]>::to_vec));
            cursor = String::from_utf8(reply::bulk(parts[0]).unwrap().to_vec()).unwrap();
            if cursor == "0" {
                break;
            }
            // Odd ones go while the scan is under way; even ones stay.
            let (key, member) = (format!("k{}", round * 2 + 1), format!("m{}", round * 2 + 1));
            match command.get(1) {
                None => peer.ask(&[removal, &key]),
                Some(collection) => peer.ask(&[removal, collection, &member]),
            };
            round += 1;
        }
        let letter = if command.len() == 1 { "k" } else { "m" };
        for number in (0..1000).step_by(2) {
            let element = encode([format!("{letter}{number}").as_bytes()].into_iter());
            assert!(met.contains(&element[4..]), "{command:?} missed {number}");
        }
    }
}

/// Operations for tracking: what is set up, then what is watched.
const TRACKED: &[(&str, &str)] = &[
    ("SET k v", "SET k v"),
    ("", "SET k v"),
    ("SET k v", "SET k v NX"),
    ("SET k v", "SETNX k v"),
    ("SET k v", "MSETNX k v j v"),
    ("", "MSET k v j v other v"),
    ("SET k v", "DEL k nokey"),
    ("", "DEL nokey"),
    ("SET k v", "UNLINK k"),
    ("SET k v", "GETDEL k"),
    ("", "GETDEL k"),
    ("SET k v", "GETSET k v"),
    ("SET k v", "GETEX k"),
    ("SET k v", "GETEX k EX 100"),
    ("SET k v", "GETEX k PERSIST"),
    ("SET k v EX 100", "GETEX k PERSIST"),
    ("SET k v", "GETEX k PXAT 1"),
    ("SET k v", "EXPIRE k 100"),
    ("SET k v", "EXPIRE k -1"),
    ("SET k v", "EXPIRE k 100 XX"),
    ("", "EXPIRE k 100"),
    ("SET k v", "PERSIST k"),
    ("SET k v EX 100", "PERSIST k"),
    ("SET k 1", "INCRBY k 0"),
    ("SET k v", "INCR k"),
    ("SET k 1", "INCRBYFLOAT k 0"),
    ("SET k v", "APPEND k \"\""),
    ("", "APPEND k \"\""),
    ("SET k v", "SETRANGE k 0 \"\""),
    ("SET k v", "SETRANGE k 0 v"),
    ("SET k v", "TOUCH k"),
    ("SET k v", "GET k"),
    ("SET k v", "RENAME k j"),
    ("SET k v", "RENAME k k"),
    ("MSET k v j v", "RENAMENX k j"),
    ("SET k v", "COPY k j"),
    ("MSET k v j v", "COPY k j"),
    ("SET k v", "COPY k k DB 1"),
    ("SET k v", "MOVE k 2"),
    ("HSET k f v", "HSET k f v"),
    ("HSET k f v", "HSETNX k f v"),
    ("HSET k f v", "HDEL k g"),
    ("HSET k f v", "HDEL k f"),
    ("HSET k f 1", "HINCRBY k f 0"),
    ("SADD k m", "SADD k m"),
    ("SADD k m", "SREM k n"),
    ("SADD k m", "SPOP k 0"),
    ("SADD k m", "SPOP k"),
    ("SADD k m", "SPOP k 5"),
    ("SADD k m", "SMOVE k j m"),
    ("SADD k m", "SMOVE k k m"),
    ("SADD k m", "SMOVE k j n"),
    ("SADD k m", "SINTERSTORE j k nokey"),
    ("MSET j v", "SINTERSTORE j nokey nokey"),
    ("SADD k m", "SUNIONSTORE k k"),
    ("MSET j v", "SDIFFSTORE j nokey"),
    ("RPUSH k a", "LPUSHX nokey a"),
    ("RPUSH k a", "LPUSH k a"),
    ("RPUSH k a", "LPOP k 0"),
    ("RPUSH k a", "LPOP k"),
    ("RPUSH k a", "LREM k 0 z"),
    ("RPUSH k a", "LREM k 0 a"),
    ("RPUSH k a", "LTRIM k 0 -1"),
    ("RPUSH k a", "LTRIM k 5 9"),
    ("RPUSH k a", "LSET k 0 a"),
    ("RPUSH k a", "LINSERT k BEFORE z y"),
    ("RPUSH k a", "LMOVE k j LEFT LEFT"),
    ("RPUSH k a", "LMOVE k k LEFT LEFT"),
    ("ZADD k 1 m", "ZADD k 1 m"),
    ("ZADD k 1 m", "ZADD k 2 m"),
    ("ZADD k 1 m", "ZADD k NX 2 m"),
    ("ZADD k 1 m", "ZINCRBY k 0 m"),
    ("ZADD k 1 m", "ZREM k n"),
    ("ZADD k 1 m", "ZPOPMIN k"),
    ("ZADD k 1 m", "ZPOPMIN k 0"),
    ("ZADD k 1 m", "ZREMRANGEBYRANK k 5 9"),
    ("ZADD k 1 m", "ZREMRANGEBYSCORE k 0 9"),
    ("SET k v", "FLUSHDB"),
    ("", "FLUSHALL"),
    ("SET k v", "MULTI; SET k w; SET j w; EXEC"),
    ("SET k v", "MULTI; SET k w; DISCARD"),
    ("SET k v", "SELECT 5; SET k v; SELECT 0"),
];

/// The keys that a tracking connection was told of; `_` stands for everything. Two PINGs: the
/// second is answered behind every push for what was acknowledged before the first was sent.
fn told(tracker: &mut Peer) -> BTreeSet<Vec<u8>> {
    tracker.ask(&["PING"]);
    tracker.ask(&["PING"]);
    let pushes = std::mem::take(&mut tracker.pushes);
    let mut keys = BTreeSet::new();
    for push in pushes {
        let parts: Vec<&[u8]> = reply::elements(&push).collect();
        assert_eq!(parts[0], b"$10\r\ninvalidate\r\n");
        if reply::is_null(parts[1]) {
            keys.insert(b"_".to_vec());
        }
        keys.extend(reply::elements(parts[1]).map(|key| reply::bulk(key).unwrap().to_vec()));
    }
    keys
}

#[test]
fn the_same_changes_are_told() {
    let (redis, server) = (Redis::start(), start_embedded());
    for prefixes in [&[][..], &["PREFIX", "k", "PREFIX", "other"]] {
        let track = [&["CLIENT", "TRACKING", "ON", "BCAST"], prefixes].concat();
        let mut pairs = [
            (redis.connect(), redis.connect()),
            (Peer::embedded(&server), Peer::embedded(&server)),
        ];
        for (writer, tracker) in &mut pairs {
            writer.ask(&["HELLO", "3"]);
            tracker.ask(&["HELLO", "3"]);
            assert_eq!(tracker.ask(&track), b"+OK\r\n");
        }
        for (setup, operation) in TRACKED {
            let heard = pairs.each_mut().map(|(writer, tracker)| {
                writer.ask(&["FLUSHALL"]);
                let run = |writer: &mut Peer, script: &str| {
                    for line in script.split(';').filter(|line| !line.is_empty()) {
                        writer.ask_raw(&inline::to_multibulk(line.as_bytes()).unwrap());
                    }
                };
                run(writer, setup);
                told(tracker);
                run(writer, operation);
                told(tracker)
            });
            let names = heard
                .each_ref()
                .map(|keys| keys.iter().map(|key| shown(key)).collect::<Vec<_>>().join(" "));
            assert_eq!(names[0], names[1], "[redis, embedded] {setup:?} then {operation:?}");
        }
    }
}

#[test]
fn a_tracker_that_writes_hears_of_itself_behind_its_replies() {
    let (redis, server) = (Redis::start(), start_embedded());
    let mut answers = BTreeSet::new();
    for mut peer in [redis.connect(), Peer::embedded(&server)] {
        peer.ask(&["FLUSHALL"]);
        peer.send(b"HELLO 3\r\nCLIENT TRACKING ON BCAST\r\n");
        peer.receive();
        peer.receive();
        peer.send(b"SET b 1\r\nSET a 1\r\nGET a\r\nSET b 2\r\nFLUSHALL\r\nPING\r\n");
        peer.receive();
        peer.ask(&["PING"]);
        peer.send(b"QUIT\r\n");
        answers.insert((peer.pushes.len(), shown(&peer.rest()), format!("{:?}", peer.pushes)));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

#[test]
fn the_end_of_a_key_is_told_when_it_is_noticed() {
    let (redis, server) = (Redis::start(), start_embedded());
    for (mut writer, mut tracker) in
        [(redis.connect(), redis.connect()), (Peer::embedded(&server), Peer::embedded(&server))]
    {
        tracker.ask(&["HELLO", "3"]);
        tracker.ask(&["CLIENT", "TRACKING", "ON", "BCAST"]);
        writer.ask(&["SET", "k", "v", "PX", "20"]);
        while writer.ask(&["EXISTS", "k"]) == b":1\r\n" {}
        // Two PINGs, as in `told`. Each push stays apart, however late it is read.
        tracker.ask(&["PING"]);
        tracker.ask(&["PING"]);
        assert_eq!(tracker.pushes.len(), 2, "{}: SET and the end", writer.name);
        // Nobody asks for this one: the active cycle finds it.
        writer.ask(&["SET", "k", "v", "PX", "20"]);
        while writer.ask(&["DBSIZE"]) != b":0\r\n" {}
        tracker.ask(&["PING"]);
        tracker.ask(&["PING"]);
        assert_eq!(tracker.pushes.len(), 4, "{}: SET and the end", writer.name);
        tracker.pushes.dedup();
        let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(tracker.pushes, [push], "{}", writer.name);
    }
}

#[test]
fn a_stopped_server_closes_its_connections() {
    let server = start_embedded();
    let mut peer = Peer::embedded(&server);
    assert_eq!(peer.ask(&["PING"]), b"+PONG\r\n");
    drop(server);
    assert!(peer.rest().is_empty());
}

#[test]
fn a_slow_reader_gets_everything() {
    let server = start_embedded();
    let mut peer = Peer::embedded(&server);
    let value = "x".repeat(1 << 20);
    peer.ask(&["SET", "big", &value]);
    let requests = encode([&b"GET"[..], b"big"].into_iter()).repeat(64);
    peer.send(&requests);
    // Another client is served meanwhile.
    assert_eq!(Peer::embedded(&server).ask(&["PING"]), b"+PONG\r\n");
    for _ in 0..64 {
        assert_eq!(reply::bulk(&peer.receive()).unwrap().len(), value.len());
    }
}
