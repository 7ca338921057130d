//! What operators use: the modes of the real redis-cli, and what browsers (`RedisInsight`)
//! and exporters (`redis_exporter`) ask when they connect. All of it answers as a server does.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, request, show};
use nearside::wire::reply;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const SETTINGS: &[&str] = &["keys.version = \"v1\""];

/// redis-cli with these arguments, ended if it hangs.
fn cli(port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", "redis-cli", "-p", &port.to_string()]).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn said(port: u16, arguments: &[&str]) -> String {
    let output = cli(port, arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}\n{complaint}");
    text
}

/// The first lines of a mode that never ends.
fn first_lines(port: u16, arguments: &[&str], count: usize) -> Vec<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(count).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

/// Keys of two versions: only one's are to be seen.
fn filled(kind: Kind) -> (Server, Proxy) {
    let server = Server::start(kind);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let mut conn = proxy.dial();
    conn.words("SET small 1");
    conn.ask(&["SET", "large", &"x".repeat(5000)]);
    conn.words("RPUSH list a b c");
    conn.words("HSET hash f 1 g 2");
    server.dial().ask(&["SET", "v2:huge", &"x".repeat(50_000)]);
    (server, proxy)
}

#[test]
fn redis_cli_scans_and_finds_big_keys() {
    for kind in KINDS {
        let (_server, proxy) = filled(kind);
        let scanned = said(proxy.port, &["--scan"]);
        let mut scanned: Vec<&str> = scanned.lines().collect();
        scanned.sort_unstable();
        assert_eq!(scanned, ["hash", "large", "list", "small"]);
        assert_eq!(said(proxy.port, &["--scan", "--pattern", "l*t"]).trim(), "list");
        for mode in ["--bigkeys", "--memkeys"] {
            let text = said(proxy.port, &[mode, "-i", "0.001"]);
            assert!(text.contains("Sampled 4 keys in the keyspace"), "{mode}: {text}");
            assert!(text.contains("\"large\"") && !text.contains("huge"), "{mode}: {text}");
        }
    }
}

#[test]
fn redis_cli_watches_a_server() {
    let (_server, proxy) = filled(Kind::Redis);
    // Two lines of head, then figures.
    let lines = first_lines(proxy.port, &["--stat", "-i", "0.01"], 5);
    let figures: Vec<&str> = lines[4].split_whitespace().collect();
    assert!(figures.len() >= 6, "{lines:?}");
    let keys: u64 = figures[0].parse().unwrap_or_else(|_| panic!("{lines:?}"));
    assert_eq!(keys, 5, "DBSIZE is upstream's: all versions");
    let latency = said(proxy.port, &["--latency", "--raw", "-i", "1"]);
    let samples = latency.split_whitespace().count();
    assert!(samples >= 4, "min max avg count: {latency}");
    let info = said(proxy.port, &["INFO", "clients"]);
    assert!(info.contains("connected_clients:1"), "{info}");
    assert!(said(proxy.port, &["-3", "INFO"]).contains("# ProxyCache"));
    assert!(said(proxy.port, &["CLIENT", "LIST"]).contains("cmd=client|list"));
}

/// No error, and of this type.
fn is(conn: &mut Conn, line: &str, kinds: &[u8]) -> Vec<u8> {
    let answer = conn.words(line);
    assert!(kinds.contains(&answer[0]), "{line}: {}", show(&answer));
    answer
}

#[test]
fn a_browser_finds_what_it_asks_for() {
    for kind in KINDS {
        let (server, proxy) = filled(kind);
        let (mut ours, mut direct) = (proxy.dial(), server.dial());
        for conn in [&mut ours, &mut direct] {
            is(conn, "HELLO 3", b"%");
            is(conn, "CLIENT SETNAME browser", b"+");
            is(conn, "INFO", b"=");
            is(conn, "INFO server", b"=");
            is(conn, "MODULE LIST", b"*");
            is(conn, "COMMAND", b"*~");
            is(conn, "COMMAND DOCS", b"%");
            is(conn, "COMMAND INFO GET", b"*");
            is(conn, "CONFIG GET databases", b"%");
            is(conn, "DBSIZE", b":");
            is(conn, "SLOWLOG GET 50", b"*");
            is(conn, "SLOWLOG LEN", b":");
            is(conn, "CONFIG GET slowlog*", b"%");
            is(conn, "CLIENT LIST", b"=");
            is(conn, "ACL WHOAMI", b"$");
            is(conn, "ACL CAT", b"*");
            is(conn, "MEMORY DOCTOR", b"=");
            is(conn, "MEMORY STATS", b"%");
            is(conn, "PUBSUB CHANNELS", b"*");
            is(conn, "SCAN 0 MATCH * COUNT 500 TYPE string", b"*");
            // What it has no modules for, it is told.
            is(conn, "FT._LIST", b"-");
        }
        for line in ["TYPE list", "PTTL list", "OBJECT ENCODING list", "MEMORY USAGE small"] {
            let asked = line.rsplit_once(' ').unwrap();
            let theirs = direct.words(&format!("{} v1:{}", asked.0, asked.1));
            // The name's own bytes count, too: it is the same name.
            assert_eq!(show(&ours.words(line)), show(&theirs), "{line}");
        }
        let databases = ours.words("CONFIG GET databases");
        assert_eq!(show(&databases), show(&direct.words("CONFIG GET databases")));
    }
}

#[test]
fn an_exporter_scrapes_it() {
    for kind in KINDS {
        let (_server, proxy) = filled(kind);
        let mut conn = proxy.dial();
        is(&mut conn, "CLIENT SETNAME redis_exporter", b"+");
        let info = is(&mut conn, "INFO ALL", b"$");
        let info = String::from_utf8_lossy(reply::bulk(&info).unwrap()).into_owned();
        let mut section = "";
        for line in info.lines().filter(|line| !line.is_empty()) {
            if let Some(title) = line.strip_prefix("# ") {
                section = title;
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
            assert!(!name.contains([' ', '=']) && !section.is_empty(), "{line}");
            let is_map = matches!(section, "Keyspace" | "Commandstats" | "Errorstats");
            for part in value.split(',').filter(|_| is_map) {
                let (_, number) = part.split_once('=').unwrap_or_else(|| panic!("{line}"));
                assert!(number.parse::<f64>().is_ok(), "{line}");
            }
        }
        for name in ["uptime_in_seconds", "connected_clients", "used_memory", "maxclients"] {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            assert!(line.unwrap().parse::<f64>().is_ok(), "{name}");
        }
        let config = is(&mut conn, "CONFIG GET *", b"*");
        let count = reply::elements(&config).count();
        assert!(count > 200 && count.is_multiple_of(2), "{count}");
        is(&mut conn, "SLOWLOG LEN", b":");
        is(&mut conn, "SLOWLOG GET 1", b"*");
        is(&mut conn, "LATENCY LATEST", b"*");
        is(&mut conn, "LATENCY HISTOGRAM", b"*");
        let list = is(&mut conn, "CLIENT LIST", b"$");
        for line in String::from_utf8_lossy(reply::bulk(&list).unwrap()).lines() {
            assert!(line.split(' ').all(|part| part.contains('=')), "{line}");
        }
    }
}

/// The server's log is shown with the names that its clients use.
#[test]
fn the_slow_log_has_the_clients_names() {
    for kind in KINDS {
        let (server, proxy) = filled(kind);
        let mut conn = proxy.dial();
        server.dial().words("CONFIG SET slowlog-log-slower-than 0");
        conn.words("SET seen 1");
        let log = conn.words("SLOWLOG GET 100");
        let has = |words: &[&str]| {
            let whole = request(words);
            let bytes = &whole[4..];
            log.windows(bytes.len()).any(|part| part == bytes)
        };
        assert!(has(&["SET", "seen", "1"]) && !has(&["v1:seen"]), "{kind:?}: {}", show(&log));
    }
}
