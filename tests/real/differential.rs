//! The same commands, sent to a server directly and through nearside to its twin: the replies are
//! equal byte for byte, and so are the later ones that nearside serves from its cache.

use crate::every_row::{Like, begins, is_like, words};
use crate::harness::{Conn, KINDS, Kind, Proxy, SEVERAL, Server, request, show};
use nearside::command::{self, Spec};
use nearside::wire::reply;

const CORPUS: &str = include_str!("corpus.txt");

/// Times a read is asked before it must have been a hit: the lease may be lost for a moment on a
/// busy machine, and then it is asked of upstream.
const ASKED_MAX: usize = 500;

/// All that may differ, and why. An entry is for lines that begin with its words.
const EXCEPTIONS: &[(&str, Like, &str)] = &[
    ("SMEMBERS", Like::AnyOrder, "sets have no order"),
    ("SINTER", Like::AnyOrder, "sets have no order"),
    ("SUNION", Like::AnyOrder, "sets have no order"),
    ("SDIFF", Like::AnyOrder, "sets have no order"),
    ("KEYS", Like::AnyOrder, "the keyspace has no order"),
    ("SORT set", Like::AnyOrder, "sets have no order"),
    ("RANDOMKEY", Like::Type, "chance"),
    ("CLIENT LIST ID x", Like::Type, "nearside has Redis' words, Valkey its own"),
];

fn exception(line: &str) -> Like {
    EXCEPTIONS.iter().find(|entry| begins(line, entry.0)).map_or(Like::Same, |entry| entry.1)
}

/// A line of the corpus: its bytes, and its row if it names one.
struct Step {
    line: &'static str,
    bytes: Vec<u8>,
    spec: Option<&'static Spec>,
    args: Vec<Vec<u8>>,
}

fn steps() -> Vec<Step> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let step = |line: &'static str| {
        let args = words(line);
        let spec = command::resolve(args.len(), |at| &args[at]).ok();
        Step { line, spec, bytes: request(&args), args }
    };
    lines.map(step).collect()
}

impl Step {
    /// True if nearside keeps the reply: of one key that exists (or the reply is nil), no error.
    fn is_kept(&self, reply: &[u8], direct: &mut Conn) -> bool {
        let Some(spec) = self.spec.filter(|spec| spec.accepts(self.args.len())) else {
            return false;
        };
        let is_single = spec.name != "exists" || self.args.len() == 2;
        let is_cached = spec.route == command::Route::Cacheable && is_single;
        is_cached && !reply.starts_with(b"-") && (reply::is_null(reply) || self.exists(direct))
    }

    fn written(&self, how: &str) -> Vec<u8> {
        if how == "inline" { format!("{}\r\n", self.line).into_bytes() } else { self.bytes.clone() }
    }

    /// Without its key a reply has no proof of its life, and is not kept.
    fn exists(&self, direct: &mut Conn) -> bool {
        let keys = &self.args[1..if self.args[0] == b"MGET" { self.args.len() } else { 2 }];
        keys.iter().all(|key| direct.ask(&[b"TYPE", key.as_slice()]) != b"+none\r\n")
    }
}

/// A server beside another one with nearside before it.
struct Pair {
    direct: Server,
    _behind: Server,
    proxy: Proxy,
}

impl Pair {
    fn start(kind: Kind, settings: &[&str]) -> Self {
        let (direct, behind) = (Server::start(kind), Server::start(kind));
        let proxy = Proxy::start(&behind.url(), settings);
        Self { direct, _behind: behind, proxy }
    }

    fn dial(&self, proto: &str) -> (Conn, Conn) {
        let (mut direct, mut ours) = (self.direct.dial(), self.proxy.dial());
        if proto == "3" {
            direct.words("HELLO 3");
            ours.words("HELLO 3");
        }
        (direct, ours)
    }
}

/// Runs the corpus; answers every difference.
fn compare(pair: &Pair, proto: &str, differences: &mut Vec<String>) -> u64 {
    let (mut direct, mut ours) = pair.dial(proto);
    let mut kept = 0;
    for step in steps() {
        direct.send(&step.bytes);
        let expected = direct.reply();
        let hits = ours.hits();
        ours.send(&step.bytes);
        let first = ours.reply();
        let like = exception(step.line);
        let mut note = |what: &str, got: &[u8]| {
            let (line, expected, got) = (step.line, show(&expected), show(got));
            differences.push(format!("RESP{proto} {line} ({what})\n  {expected}\n  {got}"));
        };
        if !is_like(like, &expected, &first) {
            note("first", &first);
            continue;
        }
        if !step.is_kept(&expected, &mut direct) {
            continue;
        }
        kept += 1;
        let mut is_hit = false;
        for _ in 0..ASKED_MAX {
            ours.send(&step.bytes);
            let again = ours.reply();
            is_hit = ours.hits() > hits;
            if again != first {
                note("again", &again);
                break;
            }
            if is_hit {
                break;
            }
        }
        if !is_hit {
            note("never a hit", &first);
        }
    }
    kept
}

/// The corpus in one long write, then in one of inline commands.
fn compare_pipelines(pair: &Pair, proto: &str, differences: &mut Vec<String>) {
    let steps = steps();
    for how in ["pipelined", "inline"] {
        let (mut direct, mut ours) = pair.dial(proto);
        let bytes: Vec<u8> = steps.iter().flat_map(|step| step.written(how)).collect();
        direct.send(&bytes);
        ours.send(&bytes);
        for step in &steps {
            let (expected, got) = (direct.reply(), ours.reply());
            if !is_like(exception(step.line), &expected, &got) {
                let (line, expected, got) = (step.line, show(&expected), show(&got));
                differences.push(format!("RESP{proto} {line} ({how})\n  {expected}\n  {got}"));
            }
        }
    }
}

/// RESP2 and RESP3 with the same servers: the corpus leaves nothing behind.
fn corpus(kind: Kind, settings: &[&str]) {
    // The corpus asks more of some keys than a key may have variants.
    let keeps = ["cache.admission = \"always\"", "cache.max_variants = 64"];
    let pair = Pair::start(kind, &[settings, &keeps].concat());
    let mut differences = Vec::new();
    for proto in ["2", "3"] {
        let kept = compare(&pair, proto, &mut differences);
        assert!(kept > 80, "the corpus has lost its reads: {kept}");
        compare_pipelines(&pair, proto, &mut differences);
    }
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn redis_answers_the_same() {
    corpus(Kind::Redis, &[]);
}

#[test]
fn redis_answers_the_same_under_a_version() {
    corpus(Kind::Redis, &["keys.version = \"v1\""]);
}

#[test]
fn redis_answers_the_same_under_several_versions() {
    corpus(Kind::Redis, SEVERAL);
}

#[test]
fn valkey_answers_the_same() {
    corpus(Kind::Valkey, &[]);
}

#[test]
fn valkey_answers_the_same_under_a_version() {
    corpus(Kind::Valkey, &["keys.version = \"v1\""]);
}

/// Values on both sides of every buffer's size, asked together, as misses and as hits.
#[test]
fn big_values_pass_whole() {
    let pair = Pair::start(Kind::Redis, &["cache.admission = \"always\""]);
    for proto in ["2", "3"] {
        let (mut direct, mut ours) = pair.dial(proto);
        let sizes = [16_383, 16_384, 65_536, 1 << 20, 4 << 20];
        let mut reads = Vec::new();
        for size in sizes {
            let value: Vec<u8> =
                (0..size).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
            let key = size.to_string();
            let set = request(&[b"SET", key.as_bytes(), &value]);
            let push = request(&[&b"HSET"[..], b"h", key.as_bytes(), &value]);
            for write in [set, push] {
                direct.send(&write);
                ours.send(&write);
                assert_eq!(direct.reply(), ours.reply());
            }
            reads.extend(request(&[b"GET", key.as_bytes()]));
            reads.extend(request(&["HGET", "h", key.as_str()]));
            reads.extend(request(&[b"MGET", key.as_bytes(), b"none", key.as_bytes()]));
        }
        let fields = sizes.map(|size: u32| size.to_string()).join(" ");
        reads.extend(format!("HMGET h {fields}\r\n").into_bytes());
        for _ in 0..3 {
            direct.send(&reads);
            ours.send(&reads);
            for _ in 0..=3 * sizes.len() {
                let (expected, got) = (direct.reply(), ours.reply());
                assert!(expected == got, "{} for {}", show(&got), show(&expected));
            }
        }
        assert!(ours.hits() > 0);
    }
}

/// SCAN shows this version's keys, all of them, and no other's.
#[test]
fn scan_shows_this_version() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let (mut direct, mut ours) = (server.dial(), proxy.dial());
        for number in 0..500 {
            direct.words(&format!("SET v2:other{number} x"));
            ours.words(&format!("SET mine{number} x"));
        }
        assert_eq!(direct.words("EXISTS v1:mine0"), b":1\r\n");
        let (mut cursor, mut found) = (b"0".to_vec(), Vec::new());
        loop {
            let page = ours.ask(&[b"SCAN", cursor.as_slice(), b"MATCH", b"*", b"COUNT", b"50"]);
            let parts: Vec<&[u8]> = reply::elements(&page).collect();
            found.extend(reply::elements(parts[1]).map(|key| reply::bulk(key).unwrap().to_vec()));
            cursor = reply::bulk(parts[0]).unwrap().to_vec();
            if cursor == b"0" {
                break;
            }
        }
        assert!(found.iter().all(|key| key.starts_with(b"mine")));
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 500);
    }
}

/// FLUSHDB empties the selected database and FLUSHALL all of them, but of this version only: what
/// another proxy has written under its own stays.
#[test]
fn flushes_take_this_version_only() {
    for (kind, hello) in KINDS.iter().flat_map(|kind| [(*kind, "HELLO 2"), (*kind, "HELLO 3")]) {
        let server = Server::start(kind);
        let [ours, other] = ["v1", "v2"].map(|version| {
            Proxy::start(&server.url(), &[&format!("keys.version = \"{version}\"")])
        });
        let (mut ours, mut other) = (ours.dial(), other.dial());
        ours.words(hello);
        write_each_database(&mut other);
        flush_each_way(&mut ours);
        assert_eq!(keys_by_database(&mut other), [KEYS; 3]);
    }
    let embedded = Proxy::start("embedded:", &["keys.version = \"v1\""]);
    flush_each_way(&mut embedded.dial());
}

/// More than a flush unlinks at once.
const KEYS: usize = 1_200;

const DATABASES: [u32; 3] = [0, 3, 15];

fn flush_each_way(ours: &mut Conn) {
    for (flush, selected, left) in [
        ("FLUSHDB", 3, [KEYS, 0, KEYS]),
        ("FLUSHALL", 3, [0; 3]),
        ("FLUSHALL ASYNC", 0, [0; 3]),
        ("FLUSHALL SYNC", 1, [0; 3]),
    ] {
        write_each_database(ours);
        ours.words(&format!("SELECT {selected}"));
        assert_eq!(ours.words(flush), b"+OK\r\n");
        assert_eq!(keys_by_database(ours), left, "{flush} in {selected}");
    }
}

fn write_each_database(conn: &mut Conn) {
    let pairs: Vec<String> = (0..KEYS).map(|number| format!("key{number} x")).collect();
    let write = format!("MSET {}", pairs.join(" "));
    for database in DATABASES {
        conn.words(&format!("SELECT {database}"));
        assert_eq!(conn.words(&write), b"+OK\r\n");
    }
}

fn keys_by_database(conn: &mut Conn) -> [usize; 3] {
    DATABASES.map(|database| {
        conn.words(&format!("SELECT {database}"));
        reply::elements(&conn.words("KEYS *")).count()
    })
}

/// What nearside refuses, it refuses by name and with the reason; the connection goes on.
#[test]
fn refusals_name_the_command() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
    let mut ours = proxy.dial();
    for line in [
        "SCRIPT DEBUG YES",
        "MIGRATE host 1 k 0 1",
        "MODULE LOAD path",
        "SHUTDOWN",
        "DEBUG SLEEP 1",
        "REPLICAOF NO ONE",
        "SYNC",
    ] {
        let answer = String::from_utf8(ours.words(line)).unwrap();
        let name = line.split(' ').next().unwrap().to_lowercase();
        let says_who = ["-ERR nearside ", "-NOPERM nearside "].map(|who| answer.starts_with(who));
        let is_refused = says_who.contains(&true) && answer.contains(&name);
        assert!(is_refused, "{line}: {answer}");
    }
    // What Redis queues and nearside does not (README) ends the transaction without effect.
    for line in [
        "AUTH a b",
        "HELLO 3",
        "CLIENT KILL ID 1",
        "CLIENT REPLY OFF",
        "CLIENT TRACKING ON",
        "SUBSCRIBE a",
        "MONITOR",
        "FLUSHALL",
        "FLUSHDB",
    ] {
        ours.words("MULTI");
        assert_eq!(ours.words("SET a 1"), b"+QUEUED\r\n");
        assert!(ours.words(line).starts_with(b"-ERR "), "{line}");
        assert!(ours.words("EXEC").starts_with(b"-EXECABORT "), "{line}");
    }
    assert_eq!(ours.words("EXISTS a"), b":0\r\n");
    assert_eq!(ours.words("CLUSTER INFO"), b"-ERR This instance has cluster support disabled\r\n");
    assert_eq!(ours.words("PING"), b"+PONG\r\n");
}
