//! Write-behind where the connection to upstream breaks, and others write meanwhile: nothing that
//! was acknowledged is undone by what is sent twice, or arrives late.

use crate::behind::{settings, until_flushed, waiting, words};
use crate::harness::{Kind, Proxy, Server, eventually, free_port, show};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tempfile::TempDir;

/// A network between nearside and its server, which keeps what is sent with this word in it, once,
/// and tells the sender that the connection broke.
struct Network {
    port: u16,
    kept: Receiver<Kept>,
}

/// What was sent, where to, and what comes from there; nothing at the end.
struct Kept {
    bytes: Vec<u8>,
    server: TcpStream,
    said: Receiver<Vec<u8>>,
}

impl Network {
    fn start(server: u16, word: &'static str) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (keep, kept) = channel();
        let has_kept = Arc::new(AtomicBool::new(false));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
                let (keep, has_kept) = (keep.clone(), Arc::clone(&has_kept));
                join(client, server, (word, has_kept), keep);
            }
        });
        Self { port, kept }
    }
}

fn join(
    client: TcpStream,
    server: TcpStream,
    (word, has_kept): (&'static str, Arc<AtomicBool>),
    keep: Sender<Kept>,
) {
    let (say, said) = channel();
    let (mut to_client, mut from_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let length = from_server.read(&mut buffer).unwrap_or(0);
            let bytes = &buffer[..length];
            if to_client.write_all(bytes).is_err() || length == 0 {
                say.send(bytes.to_vec()).ok();
            }
            if length == 0 {
                to_client.shutdown(Shutdown::Both).ok();
                return;
            }
        }
    });
    thread::spawn(move || {
        let (mut client, mut server, mut buffer) = (client, server, [0; 8192]);
        loop {
            let length = client.read(&mut buffer).unwrap_or(0);
            let bytes = &buffer[..length];
            let has_word = bytes.windows(word.len()).any(|part| part == word.as_bytes());
            if has_word && !has_kept.swap(true, Ordering::SeqCst) {
                client.shutdown(Shutdown::Both).unwrap();
                keep.send(Kept { bytes: bytes.to_vec(), server, said }).unwrap();
                return;
            }
            if length == 0 || server.write_all(bytes).is_err() {
                server.shutdown(Shutdown::Both).ok();
                return;
            }
        }
    });
}

impl Kept {
    /// It arrives after all; what the server says.
    fn arrive(mut self) -> Vec<u8> {
        // (It may have closed the connection.)
        self.server.write_all(&self.bytes).ok();
        self.said.recv().unwrap()
    }
}

fn start(upstream: &str, folder: &TempDir, more: &[&str]) -> Proxy {
    let settings = settings(folder.path(), more);
    Proxy::start(upstream, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn what_a_broken_connection_still_holds_arrives_nowhere() {
    for kind in [Kind::Redis, Kind::Valkey, Kind::Redis8] {
        let (server, folder) = (Server::start(kind), TempDir::new().unwrap());
        let network = Network::start(server.port, "held-up");
        let proxy = start(&format!("redis://127.0.0.1:{}", network.port), &folder, &[]);
        let mut client = proxy.dial();
        assert_eq!(client.words("SET s:1 held-up"), b"+OK\r\n");
        let kept = network.kept.recv().unwrap();
        until_flushed(&proxy);
        assert_eq!(client.words("APPEND s:1 -again"), b":13\r\n");
        assert_eq!(kept.arrive(), b"", "the server has closed that connection");
        assert_eq!(server.dial().words("GET v1:s:1"), b"$13\r\nheld-up-again\r\n", "{kind:?}");
        assert!(!proxy.log().contains("write_behind_unfenced"), "{}", proxy.log());
    }
}

#[test]
fn who_may_not_end_connections_is_told_so() {
    let (server, folder) = (Server::start(Kind::Redis), TempDir::new().unwrap());
    server.dial().words("ACL SETUSER default -client|kill");
    let proxy = start(&server.url(), &folder, &[]);
    assert_eq!(proxy.dial().words("SET s:1 1"), b"+OK\r\n");
    until_flushed(&proxy);
    assert!(proxy.log().contains("write_behind_unfenced"), "{}", proxy.log());
}

/// A write that goes upstream by itself waits for those before it; others of its key that come
/// meanwhile wait, too, or go there: one that was sent twice would undo it.
#[test]
fn no_write_is_taken_while_another_waits_for_its_key() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server.url(), &folder, &["server.workers = 1"]);
    let (mut one, mut two, mut other) = (proxy.dial(), proxy.dial(), proxy.dial());
    for is_transaction in [false, true] {
        until_flushed(&proxy);
        if is_transaction {
            assert_eq!(one.words("MULTI"), b"+OK\r\n");
            assert_eq!(one.words("INCR s:1"), b"+QUEUED\r\n");
        }
        server.freeze();
        assert_eq!(other.words("SET s:1 10"), b"+OK\r\n");
        one.send(&words(if is_transaction { "EXEC" } else { "INCR s:1" }));
        // The one worker has looked at that when it has answered this.
        assert_eq!(two.words("CLIENT GETNAME"), b"$-1\r\n");
        two.send(&words("SET s:1 20"));
        assert_eq!(other.words("CLIENT GETNAME"), b"$-1\r\n");
        assert_eq!(waiting(&proxy), 1, "in a transaction: {is_transaction}");
        server.thaw();
        assert_eq!(two.reply(), b"+OK\r\n");
        let sum = one.reply();
        let is_first = sum.ends_with(b":11\r\n");
        assert!(is_first || sum.ends_with(b":21\r\n"), "{}", show(&sum));
        let value = if is_first { "20" } else { "21" };
        assert_eq!(other.words("GET s:1"), format!("$2\r\n{value}\r\n").into_bytes());
    }
}

/// Scripts that only read and name no key may read any.
#[test]
fn a_script_without_keys_reads_what_was_written() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let rule = "rules = [{ match = \"s:*\", level = \"relaxed\", write_behind = true }]";
    let directory = format!("write_behind.directory = \"{}\"", folder.path().display());
    let gather = "write_behind.flush_interval = \"1h\"";
    let proxy = Proxy::start(&server.url(), &[rule, &directory, gather]);
    let mut client = proxy.dial();
    let text = "return redis.call('GET', 's:1')";
    let library = "#!lua name=l\nredis.register_function{function_name='f', \
                   callback=function() return redis.call('GET', 's:1') end, flags={'no-writes'}}";
    assert_eq!(client.ask(&["FUNCTION", "LOAD", library]), b"$1\r\nl\r\n");
    let sha = client.ask(&["SCRIPT", "LOAD", text]);
    let sha = String::from_utf8(sha).unwrap();
    let sha = sha.lines().nth(1).unwrap();
    for (round, words) in [["EVAL_RO", text, "0"], ["EVALSHA_RO", sha, "0"], ["FCALL_RO", "f", "0"]]
        .iter()
        .enumerate()
    {
        assert_eq!(client.words(&format!("SET s:1 {round}")), b"+OK\r\n");
        let told = client.ask(words);
        assert_eq!(show(&told), show(format!("$1\r\n{round}\r\n").as_bytes()), "{words:?}");
    }
}

/// What the log has is known without upstream.
#[test]
fn a_read_right_behind_a_write_waits_for_the_log_alone() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let proxy = start(&server.url(), &folder, &[]);
    let mut client = proxy.dial();
    server.freeze();
    for round in 0..50 {
        let value = format!("{round:02}");
        client.send(&[words(&format!("SET s:1 {value}")), words("GET s:1")].concat());
        assert_eq!(client.reply(), b"+OK\r\n");
        assert_eq!(client.reply(), format!("$2\r\n{value}\r\n").into_bytes());
    }
    server.thaw();
}

/// What one request has waited for is nothing to the next: here one that is refused when it has
/// waited, as its client may do less by then.
#[test]
fn a_wait_ends_with_its_request() {
    let (server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let hash = "0bfe935e70c321c7ca3afc75ce0d0ca2f98b5422e008bb31c00c6d7f1f1c0ad6";
    let users = format!(
        "auth.users = [{{ name = \"u\", password_sha256 = [\"{hash}\"], \
         key_patterns = [\"~*\"], commands = [\"+@all\"] }}]"
    );
    let (patience, told) = ("upstream.request_timeout = \"300ms\"", "upstream.on_down = \"error\"");
    let more = ["auth.mode = \"static\"", &users, patience, told];
    let proxy = start(&server.url(), &folder, &more);
    let mut client = proxy.dial();
    assert_eq!(client.words("AUTH u u"), b"+OK\r\n");
    server.freeze();
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
    client.send(&words("STRLEN s:1"));
    let path = proxy.folder.path().join("proxy.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"+@all\"]", "\"+@all\", \"-strlen\"]")).unwrap();
    assert_eq!(proxy.admin("POST", "/api/v1/config/reload", "").0, 200);
    assert!(client.reply().starts_with(b"-NOPERM"));
    assert_eq!(client.words("SET s:2 1"), b"+OK\r\n", "it has not waited for anything");
    server.thaw();
}

/// Upstream is known to be down: who needs it waits as for a link.
#[test]
fn where_upstream_is_down_nobody_waits_for_long() {
    let (mut server, folder) = (Server::start(Kind::Valkey), TempDir::new().unwrap());
    let more = ["upstream.on_down = \"error\"", "upstream.request_timeout = \"1h\""];
    let proxy = start(&server.url(), &folder, &more);
    let mut client = proxy.dial();
    server.kill();
    eventually("upstream is down", || (proxy.count("nearside_upstream_up") == 0).then_some(()));
    assert_eq!(client.words("SET s:1 1"), b"+OK\r\n");
    assert_eq!(client.words("GET s:1"), b"$1\r\n1\r\n");
    let told = client.words("STRLEN s:1");
    assert!(told.starts_with(b"-ERR proxy: not executed: "), "{}", show(&told));
}
