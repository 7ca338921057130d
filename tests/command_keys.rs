//! The command table against a real `redis-server`: arity and flags of every row it knows, the
//! positions of keys as COMMAND GETKEYS sees them, and the texts of errors.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

#[path = "support/ports.rs"]
mod ports;

use bytes::BytesMut;
use nearside::command::{self, Flags, KeySpec, Spec, errors, keys};
use nearside::wire::reply::{Scan, bulk, elements, integer, is_null};
use nearside::wire::write;
use ports::free_port;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server of this test's own; it ends with the test.
struct Server {
    child: Child,
    /// Kept open: the server writes its log there.
    _log: BufReader<ChildStdout>,
    link: TcpStream,
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        assert!(killed.is_ok(), "redis-server {} is still running", self.child.id());
    }
}

impl Server {
    fn start() -> Self {
        let port = free_port();
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server cannot be started: install the Debian package redis-server");
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("Ready to accept connections") {
            let read = log.read_line(&mut seen).unwrap();
            assert!(read > 0, "redis-server ended early:\n{seen}");
        }
        let link = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        Self { child, _log: log, link }
    }

    /// One request, and its complete reply.
    fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Vec<u8> {
        let mut request = BytesMut::new();
        write::array(&mut request, words.len());
        for word in words {
            write::bulk(&mut request, word.as_ref());
        }
        self.link.write_all(&request).unwrap();
        let (mut scan, mut reply, mut chunk) = (Scan::default(), Vec::new(), vec![0; 1 << 16]);
        loop {
            let read = self.link.read(&mut chunk).unwrap();
            assert!(read > 0, "the server closed the connection");
            reply.extend_from_slice(&chunk[..read]);
            if scan.next(&reply).unwrap().is_some() {
                return reply;
            }
        }
    }

    /// The rows that this server knows, with its answer of COMMAND INFO.
    fn known(&mut self) -> Vec<(&'static Spec, Vec<u8>)> {
        let names = command::all().iter().map(|spec| spec.name);
        let words: Vec<&str> = ["COMMAND", "INFO"].into_iter().chain(names).collect();
        let reply = self.ask(&words);
        let infos: Vec<&[u8]> = elements(&reply).collect();
        assert_eq!(infos.len(), command::all().len());
        let rows = command::all().iter().zip(infos).filter(|(_, info)| !is_null(info));
        rows.map(|(spec, info)| (spec, info.to_vec())).collect()
    }

    /// What COMMAND GETKEYS says; nothing if it says that there are none.
    fn keys(&mut self, request: &[String]) -> Vec<String> {
        let mut words = vec!["COMMAND".to_owned(), "GETKEYS".to_owned()];
        words.extend_from_slice(request);
        let reply = self.ask(&words);
        let text = |element| String::from_utf8(bulk(element).unwrap().to_vec()).unwrap();
        elements(&reply).map(text).collect()
    }
}

/// Rows that servers after 7.0 changed: there the table accepts what any server accepts.
const GROWN: [&str; 7] = [
    "cluster|replicate",
    "command|getkeys",
    "command|getkeysandflags",
    "script|debug",
    "wait",
    "zrank",
    "zrevrank",
];

fn our_keys(request: &[String]) -> Vec<String> {
    let arg = |at: usize| request[at].as_bytes();
    let spec = command::resolve(request.len(), arg).unwrap();
    let mut found = Vec::new();
    keys::for_each(spec, request.len(), arg, |at| found.push(request[at].clone()));
    found
}

/// As many arguments as the server wants, and three more if it takes more; where a number of keys
/// belongs stands 2.
fn sample(spec: &Spec, arity: i64) -> Vec<String> {
    let least = usize::try_from(arity.abs()).unwrap();
    let words = spec.name.split('|').map(str::to_owned);
    let mut request: Vec<String> = words.collect();
    let argc = if arity < 0 { least.max(request.len()) + 3 } else { least };
    while request.len() < argc {
        request.push(format!("k{}", request.len()));
    }
    let count = match spec.keys {
        KeySpec::Counted { count, .. } => usize::from(count),
        KeySpec::DestinationCounted => 2,
        _ => return request,
    };
    "2".clone_into(&mut request[count]);
    request
}

#[test]
fn arity_and_flags_are_the_servers() {
    let mut server = Server::start();
    let known = server.known();
    assert!(known.len() > 350, "only {} rows known", known.len());
    let mut differences = String::new();
    for (spec, info) in known {
        let fields: Vec<&[u8]> = elements(&info).collect();
        let arity = integer(fields[1]).unwrap();
        if GROWN.contains(&spec.name) {
            assert!(spec.accepts(usize::try_from(arity.abs()).unwrap()), "{}", spec.name);
            continue;
        }
        if arity != i64::from(spec.arity) {
            writeln!(differences, "{}: arity {arity} is {} here", spec.name, spec.arity).unwrap();
        }
        let flags: Vec<&[u8]> = elements(fields[2]).collect();
        for (flag, name) in [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::BLOCKING, "blocking"),
            (Flags::MOVABLEKEYS, "movablekeys"),
            (Flags::PUBSUB, "pubsub"),
        ] {
            if spec.flags.has(flag) != flags.contains(&format!("+{name}\r\n").as_bytes()) {
                writeln!(differences, "{}: flag {name} differs", spec.name).unwrap();
            }
        }
    }
    assert_eq!(differences, "");
}

#[test]
fn every_known_row_has_its_keys_where_the_server_sees_them() {
    let mut server = Server::start();
    let (mut compared, mut differences) = (0, String::new());
    for (spec, info) in server.known() {
        // CLUSTER KEYSLOT takes a key and says so nowhere; channels route but are no keys.
        let told_otherwise = ["cluster|keyslot", "spublish", "ssubscribe", "sunsubscribe"];
        let hand_made = spec.keys == KeySpec::Streams;
        if spec.subcommands == 0 && !hand_made && !told_otherwise.contains(&spec.name) {
            let arity = integer(elements(&info).nth(1).unwrap()).unwrap();
            let request = sample(spec, arity);
            let (ours, theirs) = (our_keys(&request), server.keys(&request));
            if ours != theirs {
                writeln!(differences, "{request:?}: {ours:?}, {theirs:?}").unwrap();
            }
            compared += 1;
        }
    }
    assert_eq!(differences, "");
    assert!(compared > 300, "only {compared} rows compared");
}

#[test]
fn irregular_requests_have_their_keys_where_the_server_sees_them() {
    let mut server = Server::start();
    for request in [
        "EVAL s 2 a b c",
        "EVAL s 0 a",
        "EVAL s -1 a",
        "EVAL s 3 a b",
        "EVAL s x a b",
        "EVALSHA_RO s 1 a",
        "FCALL f 1 a b",
        "SORT a",
        "SORT a BY nosort GET # LIMIT 0 5 ASC ALPHA STORE b",
        "SORT a LIMIT STORE STORE STORE b",
        "sort_ro a LIMIT 0 1",
        "GEORADIUS a 1 2 3 m",
        "GEORADIUS a 1 2 3 m WITHDIST COUNT 3 ANY STORE b",
        "GEORADIUS a 1 2 3 m STOREDIST STORE",
        "GEORADIUSBYMEMBER a STORE 3 m STOREDIST b",
        "XREAD STREAMS a b 0 0",
        "XREAD COUNT 2 BLOCK 0 STREAMS a 0",
        "XREAD STREAMS STREAMS BLOCK 0 0",
        "XREADGROUP GROUP g c STREAMS a >",
        "XREADGROUP GROUP g c COUNT 1 BLOCK 1 NOACK STREAMS a b > >",
        "XREADGROUP GROUP g STREAMS STREAMS a b",
        "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
        "ZUNIONSTORE d 0 a",
        "ZUNIONSTORE d 9 a",
        "ZDIFF 2 a b WITHSCORES",
        "ZMPOP 2 a b MIN COUNT 3",
        "BZMPOP 0 1 a MAX",
        "LMPOP 1 a LEFT",
        "BLMPOP 0 2 a b LEFT",
        "SINTERCARD 2 a b LIMIT 1",
        "BLPOP a b 0",
        "BZPOPMIN a 0",
        "MSET a 1 b 2",
        "MSETNX a 1",
        "BITOP AND d a b",
        "BITOP NOT d a",
        "SET a b GET",
        "SMOVE a b m",
        "COPY a b DB 1 REPLACE",
        "OBJECT ENCODING a",
        "MEMORY USAGE a SAMPLES 0",
        "XGROUP CREATE a g $ MKSTREAM",
        "XINFO STREAM a FULL",
        "PFMERGE d a",
        "PFCOUNT a b",
        "WATCH a b",
        "RESTORE a 0 payload",
        "PUBLISH a b",
        "FLUSHALL",
        "SCAN 0 MATCH a",
        "KEYS a",
        "MIGRATE h 1 a 0 5 COPY",
        "MIGRATE h 1 a 0 5 KEYS b",
    ] {
        let request: Vec<String> = request.split(' ').map(str::to_owned).collect();
        let (mut ours, mut theirs) = (our_keys(&request), server.keys(&request));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{request:?}");
    }
}

#[test]
fn errors_are_worded_as_by_the_server() {
    let mut server = Server::start();
    let long = "x".repeat(200);
    let requests: [&[&[u8]]; 17] = [
        &[b"getx"],
        &[b"GETX", b"a", b"b"],
        &[b"getx", b"", b"a"],
        &[b"ge\r\ntx", b"a\nb", b"a\0b", b"c"],
        &[b"ge\0tx", b"a"],
        &[long.as_bytes(), b"a"],
        &[b"getx", &long.as_bytes()[..120], b"abc", b"d"],
        &[b"getx", &long.as_bytes()[..125], b"abc", b"d"],
        &[b"getx", long.as_bytes(), b"abc"],
        &[b"client", b"foo"],
        &[b"CoNfIg", b"fo\r\no", b"a"],
        &[b"object", long.as_bytes()],
        &[b"xgroup", b""],
        &[b"get"],
        &[b"client"],
        &[b"client", b"setname"],
        &[b"Memory", b"Usage"],
    ];
    for request in requests {
        let arg = |at: usize| request[at];
        let mut ours = BytesMut::new();
        match command::resolve(request.len(), arg) {
            Ok(spec) if !spec.accepts(request.len()) => errors::arity(&mut ours, spec),
            Ok(spec) => panic!("{} is a legal request", spec.name),
            Err(unknown) => errors::unknown(&mut ours, unknown, request.len(), arg),
        }
        let theirs = server.ask(request);
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
    }
}
