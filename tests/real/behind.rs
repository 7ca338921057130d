//! Write-behind, by real servers, the real binary and a real disk: what is acknowledged, in which
//! order it comes upstream, and what is left of it when the process is killed, at each of the calls
//! by which the log is written, or when these fail.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, show};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const RULE: &str =
    "rules = [{ match = [\"s:*\", \"h:*\"], level = \"relaxed\", write_behind = true }]";
const VERSION: &str = "keys.version = \"v1\"";

/// Settings of a log in this folder.
pub(crate) fn settings(folder: &Path, more: &[&str]) -> Vec<String> {
    let directory = format!("write_behind.directory = \"{}\"", folder.display());
    [VERSION, RULE, &directory].iter().chain(more).map(|line| (*line).to_owned()).collect()
}

fn start(server: &Server, folder: &Path, more: &[&str]) -> Proxy {
    let proxy = unready(server, folder, more);
    proxy.until_ready();
    proxy
}

fn unready(server: &Server, folder: &Path, more: &[&str]) -> Proxy {
    let settings = settings(folder, more);
    Proxy::unready(&server.url(), &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn waiting(proxy: &Proxy) -> u64 {
    proxy.count("nearside_write_behind_queue_entries")
}

pub(crate) fn until_flushed(proxy: &Proxy) {
    eventually("upstream has everything", || (waiting(proxy) == 0).then_some(()));
}

/// With `commands.unknown = "learn"`.
fn until_commands_are_known(proxy: &Proxy) {
    let is_known = || proxy.log().contains("commands_learned").then_some(());
    eventually("upstream's commands are known", is_known);
}

#[test]
fn a_write_is_acknowledged_without_upstream_and_comes_there_in_its_turn() {
    for kind in KINDS {
        let (server, directory) = (Server::start(kind), TempDir::new().unwrap());
        let proxy = start(&server, directory.path(), &[]);
        let mut client = proxy.dial();
        // In the near-cache, as it was.
        assert_eq!(client.words("SET s:1 old"), b"+OK\r\n");
        until_flushed(&proxy);
        (0..3).for_each(|_| assert_eq!(client.words("GET s:1"), b"$3\r\nold\r\n"));
        server.freeze();
        assert_eq!(client.words("SET s:1 new"), b"+OK\r\n");
        assert_eq!(client.words("PROXY LAST")[..1], *b"*");
        assert_eq!(client.words("GET s:1"), b"$3\r\nnew\r\n", "what it wrote itself");
        assert_eq!(proxy.dial().words("GET s:1"), b"$3\r\nnew\r\n", "and anybody");
        for line in ["SET s:2 1 EX 100", "SETEX s:3 100 v", "PSETEX s:4 100000 v", "HMSET h:1 f v"]
        {
            assert_eq!(client.words(line), b"+OK\r\n", "{line}");
        }
        assert_eq!(client.words("SET s:1 newer"), b"+OK\r\n");
        assert_eq!(client.words("GET s:3"), b"$1\r\nv\r\n");
        // What depends on what is there waits until it is, and all that is sent behind it.
        let mut other = proxy.dial();
        other.send(&words("INCR s:2"));
        other.send(&words("GET s:2"));
        let mut all = proxy.dial();
        all.send(&words("HGETALL h:1"));
        assert_eq!(waiting(&proxy), 6);
        server.thaw();
        assert_eq!(other.reply(), b":2\r\n");
        assert_eq!(other.reply(), b"$1\r\n2\r\n");
        assert_eq!(show(&all.reply()), show(b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"));
        until_flushed(&proxy);
        let mut direct = server.dial();
        assert_eq!(direct.words("GET v1:s:1"), b"$5\r\nnewer\r\n");
        for key in ["v1:s:2", "v1:s:3", "v1:s:4"] {
            let life = direct.words(&format!("TTL {key}"));
            assert!(
                matches!(
                    &life[..],
                    b":100\r\n" | b":99\r\n" | b":98\r\n" | b":97\r\n" | b":96\r\n" | b":95\r\n"
                ),
                "{key}: {}",
                show(&life)
            );
        }
        // And the near-cache serves what is there.
        (0..3).for_each(|_| assert_eq!(client.words("GET s:1"), b"$5\r\nnewer\r\n"));
        assert_eq!(proxy.count("nearside_write_behind_writes_total{result=\"refused\"}"), 0);
    }
}

#[test]
fn transactions_scripts_and_whole_keyspaces_wait_for_everything() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &[]);
    let mut client = proxy.dial();
    let script = "return redis.call('GET', KEYS[1])";
    let asks: [(&[&[&str]], &[u8]); 5] = [
        (&[&["MULTI"], &["GET", "s:1"], &["EXEC"]], b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n"),
        (&[&["EVAL", script, "1", "s:1"]], b"$1\r\n1\r\n"),
        (&[&["KEYS", "s:*"]], b"*1\r\n$3\r\ns:1\r\n"),
        (&[&["MGET", "s:1", "a"]], b"*2\r\n$1\r\n1\r\n$-1\r\n"),
        (&[&["WATCH", "s:1"], &["STRLEN", "s:1"], &["UNWATCH"]], b"+OK\r\n:1\r\n+OK\r\n"),
    ];
    for (requests, expected) in asks {
        client.words("DEL s:1");
        server.freeze();
        assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
        for words in requests {
            client.send(&crate::harness::request(words));
        }
        server.thaw();
        let mut told = Vec::new();
        for _ in requests {
            told.extend(client.reply());
        }
        assert_eq!(show(&told), show(expected), "{requests:?}");
    }
    server.freeze();
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
    client.send(&words("FLUSHALL"));
    server.thaw();
    assert_eq!(client.reply(), b"+OK\r\n");
    until_flushed(&proxy);
    assert_eq!(server.dial().words("DBSIZE"), b":0\r\n", "not written behind its back");
}

/// A client's own order holds, whichever way each of its requests goes.
#[test]
fn a_pipeline_is_in_order() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &[]);
    let mut client = proxy.dial();
    for round in 0..200 {
        let lines = [
            format!("SET s:n {round}"),
            "INCR s:n".to_owned(),
            "GET s:n".to_owned(),
            "SET s:n 7".to_owned(),
            "GET s:n".to_owned(),
            "APPEND s:n 7".to_owned(),
            "SET s:m 1".to_owned(),
            "GET s:n".to_owned(),
        ];
        let sent: Vec<u8> = lines.iter().flat_map(|line| words(line)).collect();
        client.send(&sent);
        let one = (round + 1).to_string();
        let expected = [
            "+OK\r\n".to_owned(),
            format!(":{one}\r\n"),
            format!("${}\r\n{one}\r\n", one.len()),
            "+OK\r\n".to_owned(),
            "$1\r\n7\r\n".to_owned(),
            ":2\r\n".to_owned(),
            "+OK\r\n".to_owned(),
            "$2\r\n77\r\n".to_owned(),
        ];
        for (line, expected) in lines.iter().zip(expected) {
            assert_eq!(show(&client.reply()), show(expected.as_bytes()), "{round}: {line}");
        }
    }
}

pub(crate) fn words(line: &str) -> Vec<u8> {
    crate::harness::request(&line.split(' ').collect::<Vec<_>>())
}

#[test]
fn of_writes_that_are_gathered_the_last_is_made() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &["write_behind.flush_interval = \"1h\""]);
    let mut client = proxy.dial();
    for value in 1..=5 {
        assert_eq!(client.words(&format!("SET s:1 {value}")), b"+OK\r\n");
    }
    assert_eq!(waiting(&proxy), 5);
    assert_eq!(server.dial().words("GET v1:s:1"), b"$-1\r\n");
    let explained = show(&client.words("PROXY EXPLAIN SET s:1 6"));
    assert!(explained.contains("acknowledged by nearside"), "{explained}");
    let explained = show(&client.words("PROXY EXPLAIN SET s:1 6 NX"));
    assert!(explained.contains("forwarded to upstream"), "{explained}");
    assert_eq!(client.words("STRLEN s:1"), b":1\r\n", "who needs it does not wait for an hour");
    assert_eq!(server.dial().words("GET v1:s:1"), b"$1\r\n5\r\n");
    assert_eq!(proxy.count("nearside_write_behind_writes_total{result=\"made\"}"), 1);
    assert_eq!(proxy.count("nearside_write_behind_writes_total{result=\"replaced\"}"), 4);
}

#[test]
fn what_has_no_room_is_made_upstream_at_once() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    let more = ["write_behind.max_bytes = \"1kb\"", "write_behind.flush_interval = \"1h\""];
    let proxy = start(&server, folder.path(), &more);
    let mut client = proxy.dial();
    for key in 0..20 {
        assert_eq!(client.words(&format!("SET s:{key} 1")), b"+OK\r\n");
    }
    let (all, waiting) = (20, waiting(&proxy));
    assert!((2..10).contains(&waiting), "{waiting}");
    assert_eq!(server.dial().words("DBSIZE"), format!(":{}\r\n", all - waiting).into_bytes());
    // And behind what waits of the same key.
    let value = "x".repeat(2000);
    assert_eq!(client.words(&format!("SET s:0 {value}")), b"+OK\r\n");
    assert_eq!(client.words("STRLEN s:0"), b":2000\r\n");
}

#[test]
fn replies_that_only_upstream_knows_are_assumed_by_choice() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let more = ["write_behind.assume_replies = true", "commands.unknown = \"learn\""];
    let proxy = start(&server, folder.path(), &more);
    // UNLINK is, too.
    until_commands_are_known(&proxy);
    let mut client = proxy.dial();
    client.words("SET s:1 1");
    client.words("SET s:2 1");
    until_flushed(&proxy);
    server.freeze();
    for (line, reply) in [
        ("HSET h:1 f 1 g 2", ":2"),
        ("DEL s:1", ":1"),
        ("UNLINK s:none", ":1"),
        ("PEXPIREAT s:2 99999999999999", ":1"),
        ("EXPIREAT h:1 9999999999", ":1"),
    ] {
        assert_eq!(show(&client.words(line)), format!("{reply}\\r\\n"), "{line}");
    }
    assert_eq!(client.words("GET s:1"), b"$-1\r\n");
    server.thaw();
    until_flushed(&proxy);
    let mut direct = server.dial();
    assert_eq!(direct.words("EXISTS v1:s:1"), b":0\r\n");
    assert_eq!(direct.words("HLEN v1:h:1"), b":2\r\n");
    assert_eq!(direct.words("PEXPIRETIME v1:s:2"), b":99999999999999\r\n");
    assert_eq!(direct.words("EXPIRETIME v1:h:1"), b":9999999999\r\n");
}

#[test]
fn without_a_log_what_waits_is_lost_and_told_of() {
    let server = Server::start(Kind::Redis);
    let memory = [
        RULE,
        "write_behind.ack = \"memory\"",
        "write_behind.accept_data_loss = true",
        "drain.timeout = \"100ms\"",
    ];
    let mut proxy = Proxy::start(&server.url(), &memory);
    server.freeze();
    assert_eq!(proxy.dial().words("SET s:1 1"), b"+OK\r\n");
    proxy.terminate();
    proxy.wait();
    assert!(proxy.log().contains("write_behind_lost"), "{}", proxy.log());
    server.thaw();
    assert_eq!(server.dial().words("GET s:1"), b"$-1\r\n");
}

#[test]
fn a_drain_leaves_nothing_behind() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    let mut proxy = start(&server, folder.path(), &["write_behind.flush_interval = \"1h\""]);
    let mut client = proxy.dial();
    for key in 0..50 {
        assert_eq!(client.words(&format!("SET s:{key} 1")), b"+OK\r\n");
    }
    proxy.terminate();
    assert!(proxy.wait().success());
    assert_eq!(server.dial().words("DBSIZE"), b":50\r\n");
    assert!(!proxy.log().contains("write_behind_kept"), "{}", proxy.log());
}

/// What is refused for what it is is dropped and told of; what a server does not take now waits.
#[test]
fn what_upstream_refuses() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &[]);
    let (mut client, mut direct) = (proxy.dial(), server.dial());
    direct.words("SET v1:h:1 text");
    assert_eq!(client.words("HMSET h:1 f v"), b"+OK\r\n");
    eventually("it is counted", || {
        (proxy.count("nearside_write_behind_writes_total{result=\"refused\"}") == 1).then_some(())
    });
    assert!(proxy.log().contains("write_behind_refused"), "{}", proxy.log());
    direct.words("REPLICAOF 127.0.0.1 1");
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
    eventually("it is tried again", || {
        (proxy.count("nearside_write_behind_flushes_total{result=\"error\"}") >= 2).then_some(())
    });
    assert_eq!(waiting(&proxy), 1);
    direct.words("REPLICAOF NO ONE");
    until_flushed(&proxy);
    assert_eq!(direct.words("GET v1:s:1"), b"$1\r\n1\r\n");
    // Rights are given back as well.
    let failed = "nearside_write_behind_flushes_total{result=\"error\"}";
    let before = proxy.count(failed);
    direct.words("ACL SETUSER default -set");
    assert_eq!(client.words("SET s:1 2"), b"+OK\r\n");
    eventually("it is tried again", || (proxy.count(failed) >= before + 2).then_some(()));
    direct.words("ACL SETUSER default +set");
    until_flushed(&proxy);
    assert_eq!(direct.words("GET v1:s:1"), b"$1\r\n2\r\n");
}

/// Options of SET that came late are upstream's to judge, unless it is known to have them.
#[test]
fn options_are_taken_where_upstream_has_them() {
    for (args, fate) in [(&[][..], "behind"), (&["--rename-command", "GETEX", ""], "forwarded")] {
        let (server, folder) = (Server::with(Kind::Redis, args), TempDir::new().unwrap());
        let proxy = start(&server, folder.path(), &["commands.unknown = \"learn\""]);
        let mut client = proxy.dial();
        until_commands_are_known(&proxy);
        client.words("PROXY LAST");
        assert_eq!(client.words("SET s:1 1 EXAT 9999999999"), b"+OK\r\n");
        let told = client.words("PROXY LAST");
        assert!(show(&told).contains(fate), "{fate}: {}", show(&told));
        until_flushed(&proxy);
        assert_eq!(server.dial().words("EXPIRETIME v1:s:1"), b":9999999999\r\n");
    }
}

#[test]
fn a_log_is_one_process_at_a_time_and_damage_is_told() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    let mut proxy = start(&server, folder.path(), &[]);
    let place = proxy.folder.path().to_owned();
    let config = place.join("proxy.toml");
    let second = |name: &str| {
        let log = fs::File::create(place.join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.arg("--config").arg(&config).arg("--set").arg("admin.listen=\"off\"");
        command.args(["--listen", "127.0.0.1:0"]).stdout(log.try_clone().unwrap()).stderr(log);
        let status = command.status().unwrap();
        let text = fs::read_to_string(place.join(name)).unwrap();
        assert!(!status.success(), "{text}");
        text
    };
    let text = second("second");
    assert!(text.contains("another process has its log there"), "{text}");
    let mut client = proxy.dial();
    server.freeze();
    (0..3).for_each(|key| drop(client.words(&format!("SET s:{key} 1"))));
    proxy.signal(Signal::KILL);
    proxy.wait();
    let file = folder.path().join("write-behind-00000000000000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let text = second("third");
    assert!(text.contains("damaged: file 1, at byte"), "{text}");
    bytes[40] ^= 1;
    bytes.extend_from_slice(b"half a record");
    fs::write(&file, &bytes).unwrap();
    let proxy = unready(&server, folder.path(), &[]);
    assert!(proxy.log().contains("write_behind_torn"), "{}", proxy.log());
    assert_eq!(waiting(&proxy), 3);
    server.thaw();
    until_flushed(&proxy);
    assert_eq!(server.dial().words("DBSIZE"), b":3\r\n");
}

/// strace (which tests/run installs), which has the process killed at a call, or a call fail.
struct Tracer(Child);

impl Tracer {
    /// `inject` is done to calls about the log's first file.
    fn attach(proxy: &Proxy, folder: &Path, inject: &str) -> Self {
        let file = folder.join("write-behind-00000000000000000001.log");
        let pid = proxy.pid().as_raw_nonzero().to_string();
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-P"]).arg(file).args(["-e", inject, "-p", &pid]);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(process)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Three clients write until their connection is gone; what was acknowledged to each.
fn write_until_the_end(proxy: &Proxy) -> Vec<u64> {
    std::thread::scope(|scope| {
        let writer = |client: u64| {
            let port = proxy.port;
            scope.spawn(move || {
                let mut conn = Conn::tcp(port);
                let mut acknowledged = 0;
                for number in 1..100_000_u64 {
                    // A key of its own, and one that is written again and again.
                    let both = [
                        format!("SET s:{client}:{number} {number}"),
                        format!("SET s:{client} {number}"),
                    ];
                    let is_sent = conn.try_send(&both.map(|line| words(&line)).concat()).is_ok();
                    let is_acknowledged = is_sent
                        && (0..2)
                            .all(|_| conn.try_reply().is_some_and(|reply| reply == b"+OK\r\n"));
                    if !is_acknowledged {
                        break;
                    }
                    acknowledged = number;
                }
                acknowledged
            })
        };
        // All three have begun before one is waited for.
        let writers = [0, 1, 2].map(writer);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

fn assert_kept(server: &Server, acknowledged: &[u64], case: &str) {
    let mut direct = server.dial();
    for (client, last) in acknowledged.iter().enumerate() {
        for number in 1..=*last {
            let value = direct.words(&format!("GET v1:s:{client}:{number}"));
            assert_eq!(show(&value), show(&bulk(number)), "{case}: {number} of {client}");
        }
        let value = direct.words(&format!("GET v1:s:{client}"));
        // The one behind it may have been written, too.
        let may_be = [bulk(*last), bulk(last + 1)];
        assert!(*last == 0 || may_be.contains(&value), "{case}: {client} has {}", show(&value));
    }
}

fn bulk(number: u64) -> Vec<u8> {
    let digits = number.to_string();
    format!("${}\r\n{digits}\r\n", digits.len()).into_bytes()
}

/// The process is killed as it enters each of the calls that write the log and bring it to the
/// disk: nothing that was acknowledged is lost, with upstream there and without.
#[test]
fn killed_at_every_call_of_the_log_nothing_acknowledged_is_lost() {
    let server = Server::start(Kind::Valkey);
    for call in ["fdatasync", "write"] {
        for nth in 1..=12 {
            for is_upstream_there in [true, false] {
                let folder = TempDir::new().unwrap();
                server.dial().words("FLUSHALL");
                let mut proxy = start(&server, folder.path(), &[]);
                let case = format!("killed at {call} {nth}, upstream there: {is_upstream_there}");
                if !is_upstream_there {
                    server.freeze();
                }
                let inject = format!("inject={call}:signal=KILL:when={nth}");
                let tracer = Tracer::attach(&proxy, folder.path(), &inject);
                let acknowledged = write_until_the_end(&proxy);
                proxy.wait();
                drop(tracer);
                server.thaw();
                let proxy = start(&server, folder.path(), &[]);
                until_flushed(&proxy);
                assert_kept(&server, &acknowledged, &case);
            }
        }
    }
}

/// A write that went upstream by itself is not undone by what the log has had before it.
#[test]
fn what_came_later_is_not_overwritten_by_a_start() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    for round in 1..=5 {
        let mut proxy = start(&server, folder.path(), &[]);
        let mut client = proxy.dial();
        client.words("SET s:1 10");
        assert_eq!(client.words("INCR s:1"), b":11\r\n");
        proxy.signal(Signal::KILL);
        proxy.wait();
        let proxy = start(&server, folder.path(), &[]);
        until_flushed(&proxy);
        assert_eq!(proxy.dial().words("GET s:1"), b"$2\r\n11\r\n", "{round}");
        assert!(!proxy.log().contains("write_behind_recovered"), "{}", proxy.log());
    }
}

#[test]
fn a_disk_without_room_costs_nothing_but_the_wait() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &[]);
    let mut client = proxy.dial();
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
    until_flushed(&proxy);
    let _tracer = Tracer::attach(&proxy, folder.path(), "inject=write:error=ENOSPC");
    server.freeze();
    let mut other = proxy.dial();
    client.send(&words("SET s:1 2"));
    eventually("the log has failed", || proxy.log().contains("write_behind_failed").then_some(()));
    // Both wait for upstream, the second because nothing is taken any more.
    other.send(&words("SET s:2 2"));
    assert_eq!(proxy.count("nearside_write_behind_log_up"), 0);
    let (_, checks) = proxy.admin("GET", "/readyz?verbose", "");
    assert!(checks.contains("[+]write_behind"), "{checks}");
    server.thaw();
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(other.reply(), b"+OK\r\n");
    let mut direct = server.dial();
    assert_eq!(direct.words("MGET v1:s:1 v1:s:2"), b"*2\r\n$1\r\n2\r\n$1\r\n2\r\n");
    // Another file is begun, which has room.
    eventually("the log is written again", || {
        (proxy.count("nearside_write_behind_log_up") == 1).then_some(())
    });
    server.freeze();
    assert_eq!(client.words("SET s:1 3"), b"+OK\r\n");
    server.thaw();
}

#[test]
fn a_disk_that_fails_to_sync_is_not_believed_again() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let mut proxy = start(&server, folder.path(), &[]);
    let mut client = proxy.dial();
    let tracer = Tracer::attach(&proxy, folder.path(), "inject=fdatasync:error=EIO:when=1");
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n", "by upstream");
    assert_eq!(server.dial().words("GET v1:s:1"), b"$1\r\n1\r\n");
    assert_eq!(client.words("SET s:1 2"), b"+OK\r\n");
    assert_eq!(server.dial().words("GET v1:s:1"), b"$1\r\n2\r\n");
    assert_eq!(proxy.count("nearside_write_behind_log_up"), 0);
    drop(tracer);
    proxy.signal(Signal::KILL);
    proxy.wait();
    let proxy = start(&server, folder.path(), &[]);
    until_flushed(&proxy);
    assert_eq!(server.dial().words("GET v1:s:1"), b"$1\r\n2\r\n");
}

/// What operators refuse is not taken either.
#[test]
fn what_is_refused_is_not_taken() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    let proxy = start(&server, folder.path(), &["commands.deny = [\"SETEX\", \"GET\"]"]);
    let mut client = proxy.dial();
    assert!(client.words("SETEX s:1 100 v").starts_with(b"-"));
    server.freeze();
    assert_eq!(client.words("SET s:1 v"), b"+OK\r\n");
    assert!(client.words("GET s:1").starts_with(b"-"));
    assert!(client.words("SET s:1").starts_with(b"-ERR wrong number"));
    server.thaw();
}
