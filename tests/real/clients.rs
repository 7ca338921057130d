//! Real clients with their defaults: they connect, do their everyday work, and pipeline a
//! thousand commands. And the first bytes of clients that cannot run here, as transcripts.

use crate::harness::{KINDS, Kind, Proxy, Server, eventually, installed, request, show};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// As the shipped proxy.toml: a version, and what is asked for twice is stored.
const SETTINGS: &[&str] = &["keys.version = \"v1\""];

/// A program that is ended if it hangs: what it waited for then fails its test.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(path);
    command
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a client to its end; it says "ok".
pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/run"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim() == "ok", "{command:?}\n{said}\n{complained}");
}

/// Runs a client against both servers, by nearside; a client that read anything twice had hits.
fn against_all(client: impl Fn(u16)) {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        client(proxy.port);
        let hits = proxy.metric("nearside_cache_lookups_total{result=\"hit\"}");
        assert!(hits > 500.0, "{kind:?}: only {hits} hits");
    }
}

fn redis_py(protocol: &str) {
    let python = installed("python/bin/python");
    against_all(|port| {
        let script = script("redis_py.py");
        run(program(&python).arg(script).arg(port.to_string()).arg(protocol));
    });
}

#[test]
fn redis_py_resp2() {
    redis_py("2");
}

#[test]
fn redis_py_resp3() {
    redis_py("3");
}

/// Node finds modules beside `NODE_PATH`, wherever the script is.
pub(crate) fn node(name: &str, port: u16, arguments: &[&str]) {
    let modules = installed("node/node_modules");
    let mut command = program("node");
    run(command.env("NODE_PATH", modules).arg(script(name)).arg(port.to_string()).args(arguments));
}

#[test]
fn ioredis() {
    against_all(|port| node("ioredis.js", port, &[]));
}

#[test]
fn node_redis_resp2() {
    against_all(|port| node("node_redis.js", port, &["2"]));
}

#[test]
fn node_redis_resp3() {
    against_all(|port| node("node_redis.js", port, &["3"]));
}

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let mut command = program("redis-cli");
    command.args(["-p", &port.to_string()]).args(arguments).stdin(Stdio::null());
    let output =
        command.output().unwrap_or_else(|error| panic!("redis-cli: {error}; run tests/run"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn redis_cli_works() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let cli = |arguments: &[&str]| redis_cli(proxy.port, arguments);
        assert_eq!(cli(&["SET", "a", "1"]), "OK\n");
        for _ in 0..4 {
            assert_eq!(cli(&["GET", "a"]), "1\n");
            assert_eq!(cli(&["-3", "--json", "GET", "a"]), "\"1\"\n");
        }
        assert_eq!(cli(&["-n", "2", "GET", "a"]), "\n");
        assert_eq!(cli(&["-r", "3", "INCR", "n"]), "1\n2\n3\n");
        assert_eq!(cli(&["--scan", "--pattern", "a*"]), "a\n");
        assert!(cli(&["-3", "HELLO"]).contains("standalone"));
        assert!(cli(&["INFO", "server"]).contains("redis_version:"));
        assert!(cli(&["NOSUCH"]).starts_with("ERR unknown command 'NOSUCH'"));
        assert!(cli(&["--bigkeys"]).contains("Sampled 2 keys"));
    }
}

/// redis-benchmark's own suite of what is supported, with pipelines, and thousands of clients'
/// worth of connecting.
#[test]
fn redis_benchmark_works() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let port = proxy.port.to_string();
    let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset";
    for more in [&["-P", "100", "-n", "10000"][..], &["-k", "0", "-n", "300"]] {
        let mut command = program("redis-benchmark");
        command.args(["-p", &port, "-q", "-c", "20", "-r", "1000", "-t", tests]).args(more);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("Error"), "{said}");
    }
}

/// `(client, [(what it sends at once, how each answer begins)])`.
/// Redis 7.0 does not know CLIENT SETINFO, and clients go on; nearside does.
type Transcript = (&'static str, &'static [(&'static [&'static str], &'static [&'static str])]);

const TRANSCRIPTS: &[Transcript] = &[
    (
        "go-redis 9",
        &[
            (&["hello 3"], &["%7\r\n$6\r\nserver\r\n"]),
            (
                &["client maint_notifications ON moving-endpoint-type internal-ip"],
                &["-ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP."],
            ),
            (
                &[
                    "client setinfo LIB-NAME go-redis(,go1.25.1)",
                    "client setinfo LIB-VER 9.16.0",
                    "client setname worker",
                    "select 1",
                ],
                &["+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n"],
            ),
            (&["set a 1", "get a", "get none"], &["+OK\r\n", "$1\r\n1\r\n", "_\r\n"]),
            (&["ping"], &["+PONG\r\n"]),
        ],
    ),
    (
        "go-redis 9, Protocol: 2",
        &[
            (&["hello 2"], &["*14\r\n$6\r\nserver\r\n"]),
            (
                &["client setinfo LIB-NAME go-redis(,go1.25.1)", "client setinfo LIB-VER 9.16.0"],
                &["+OK\r\n", "+OK\r\n"],
            ),
            (&["get none"], &["$-1\r\n"]),
        ],
    ),
    (
        "Lettuce 6",
        &[
            (&["HELLO 3 SETNAME app"], &["%7\r\n$6\r\nserver\r\n"]),
            (
                &[
                    "CLIENT SETINFO lib-name Lettuce",
                    "CLIENT SETINFO lib-ver 6.8.0.RELEASE/a1b2c3",
                    "SELECT 1",
                ],
                &["+OK\r\n", "+OK\r\n", "+OK\r\n"],
            ),
            (&["CLIENT GETNAME", "SET a 1", "GET a"], &["$3\r\napp\r\n", "+OK\r\n", "$1\r\n1\r\n"]),
            (&["PING"], &["+PONG\r\n"]),
        ],
    ),
    (
        "Lettuce 5",
        &[
            (&["PING"], &["+PONG\r\n"]),
            (&["CLIENT SETNAME app", "SELECT 0"], &["+OK\r\n", "+OK\r\n"]),
            (&["INFO replication"], &["$"]),
        ],
    ),
    (
        "Jedis 6",
        &[
            (
                &[
                    "CLIENT SETNAME app",
                    "CLIENT SETINFO LIB-NAME jedis",
                    "CLIENT SETINFO LIB-VER 6.2.0",
                ],
                &["+OK\r\n", "+OK\r\n", "+OK\r\n"],
            ),
            (&["SELECT 2"], &["+OK\r\n"]),
            (&["SET a 1", "GET a", "PING"], &["+OK\r\n", "$1\r\n1\r\n", "+PONG\r\n"]),
            (&["QUIT"], &["+OK\r\n"]),
        ],
    ),
    (
        "Jedis 6, RESP3",
        &[
            (&["HELLO 3"], &["%7\r\n$6\r\nserver\r\n"]),
            (
                &["CLIENT SETINFO LIB-NAME jedis", "CLIENT SETINFO LIB-VER 6.2.0"],
                &["+OK\r\n", "+OK\r\n"],
            ),
            (&["HGETALL none", "GET none"], &["%0\r\n", "_\r\n"]),
        ],
    ),
];

#[test]
fn handshakes() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        for (client, turns) in TRANSCRIPTS {
            let mut conn = proxy.dial();
            for (sent, expected) in *turns {
                let words = sent.iter().map(|line| line.split(' ').collect::<Vec<_>>());
                let bytes: Vec<u8> = words.flat_map(|words| request(&words)).collect();
                conn.send(&bytes);
                for (line, begin) in sent.iter().zip(*expected) {
                    let answer = conn.reply();
                    let is_right = answer.starts_with(begin.as_bytes());
                    assert!(is_right, "{client}: {line}: {}", show(&answer));
                }
            }
        }
    }
}

/// A client that works, sees its upstream die, and works again by itself with the empty server
/// that comes back, without a word of what was cached.
fn survives_an_outage(mut command: Command) {
    let mut server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let mut own = proxy.dial();
    assert_eq!(own.words("SET old yes"), b"+OK\r\n");
    command.arg(proxy.port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Ended(command.spawn().unwrap());
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines();
    let mut says = move || lines.next().and_then(Result::ok).unwrap_or_default();
    assert_eq!(says(), "working yes");
    let hit = "nearside_cache_lookups_total{result=\"hit\"}";
    eventually("hits", || (proxy.metric(hit) > 10.0).then_some(()));
    server.kill();
    assert_eq!(says(), "failed");
    server.restart();
    assert_eq!(says(), "working None");
    drop(client.0.stdin.take());
    assert_eq!(says(), "ok");
    assert!(client.0.wait().unwrap().success());
}

/// A process that ends with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn redis_py_survives_an_outage() {
    let mut command = program(installed("python/bin/python"));
    command.arg(script("outage.py"));
    survives_an_outage(command);
}

#[test]
fn ioredis_survives_an_outage() {
    let mut command = program("node");
    command.env("NODE_PATH", installed("node/node_modules")).arg(script("outage.js"));
    survives_an_outage(command);
}
