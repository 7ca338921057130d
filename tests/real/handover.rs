//! Another process takes nearside's place: it is given the listening sockets, and nobody who
//! connects meanwhile is refused. And what a drain owes to who has just come.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, free_port};
use crate::tls::Door;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;

/// Two processes of the same settings have their own folders; what they share is elsewhere.
struct Place {
    folder: TempDir,
    port: u16,
    metrics: u16,
    tls: Door,
    /// That of a hand-over is none: clients need not learn of anything.
    delay: &'static str,
}

impl Place {
    fn new(delay: &'static str) -> Self {
        let (port, metrics) = (free_port(), free_port());
        Self { folder: TempDir::new().unwrap(), port, metrics, tls: Door::new(), delay }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("clients.sock")
    }

    fn settings(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut settings = vec![
            format!("server.listen = ['127.0.0.1:{}', 'unix:{folder}/clients.sock']", self.port),
            format!("server.handover = '{folder}/handover.sock'"),
            format!("metrics.listen = '127.0.0.1:{}'", self.metrics),
            format!("drain.delay = '{}'", self.delay),
        ];
        settings.extend(self.tls.settings(&[]));
        settings
    }

    fn proxy(&self, upstream: &str) -> Proxy {
        let settings = self.settings();
        Proxy::unready(upstream, &settings.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Ends the clients, also when a test fails.
struct Ends<'t>(&'t Tally);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// What has become of all requests.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    is_over: AtomicBool,
}

impl Tally {
    fn note(&self, error: &std::io::Error) {
        match error.kind() {
            // Told of in order; it connects again.
            ErrorKind::UnexpectedEof => {}
            ErrorKind::ConnectionRefused => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            _ => drop(self.reset.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Connects, and asks so often, over and over.
    fn ask(&self, port: u16, each: u32) {
        while !self.is_over.load(Ordering::Relaxed) {
            if let Err(error) = self.visit(port, each) {
                self.note(&error);
            }
        }
    }

    fn visit(&self, port: u16, each: u32) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        for _ in 0..each {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            stream.write_all(b"INCR counter\r\n")?;
            let mut reply = [0; 1];
            while reply != *b"\n" {
                stream.read_exact(&mut reply)?;
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn nobody_is_refused_while_another_process_takes_over() {
    let server = Server::start(Kind::Redis);
    let place = Place::new("1h");
    let mut old = place.proxy(&server.url());
    old.until_ready();
    let tally = Tally::default();
    thread::scope(|scope| {
        let _ends = Ends(&tally);
        // Some come for one request, some stay.
        for each in [1, 1, 1, 10, 100_000_000, 100_000_000] {
            let tally = &tally;
            scope.spawn(move || tally.ask(place.port, each));
        }
        let past = |count: u64| tally.answered.load(Ordering::Relaxed) >= count;
        eventually("clients are served", || past(1000).then_some(()));
        for _ in 0..3 {
            let new = place.proxy(&server.url());
            let status = old.wait();
            assert_eq!(status.code(), Some(0), "{}", old.log());
            old = new;
            let soon = tally.answered.load(Ordering::Relaxed) + 1000;
            eventually("clients are served", || past(soon).then_some(()));
        }
    });
    let told = [&tally.refused, &tally.reset].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(told, [0, 0], "refused, reset");
    // Nothing was executed twice, nor lost: each request that was answered counts.
    let counted = String::from_utf8(server.dial().words("GET counter")).unwrap();
    let counted: u64 = counted.split("\r\n").nth(1).unwrap().parse().unwrap();
    assert!(counted >= tally.answered.load(Ordering::Relaxed), "{counted}");
    // The Unix socket was handed on, too, and that for TLS.
    let mut client = Conn::unix(&place.socket());
    assert_eq!(client.words("PING"), b"+PONG\r\n");
    assert_eq!(place.tls.dial().words("PING"), b"+PONG\r\n");
    assert_eq!(old.count("nearside_connected_clients{listener=\"unix\"}"), 1);
}

#[test]
fn one_that_never_gets_ready_changes_nothing() {
    let server = Server::start(Kind::Redis);
    let place = Place::new("0s");
    let mut old = place.proxy(&server.url());
    old.until_ready();
    // Who may connect to this socket takes all others.
    let door = std::fs::metadata(place.folder.path().join("handover.sock")).unwrap();
    assert_eq!(door.permissions().mode() & 0o777, 0o600);
    // Nobody is there.
    let new = place.proxy(&format!("redis://127.0.0.1:{}", free_port()));
    eventually("it was given the sockets", || old.log().contains("takes over").then_some(()));
    drop(new);
    eventually("it is known to be gone", || old.log().contains("handover_failed").then_some(()));
    old.assert_alive();
    for mut client in [Conn::tcp(place.port), Conn::unix(&place.socket())] {
        assert_eq!(client.words("SET k v"), b"+OK\r\n");
    }
    // The next one can, and removes what the first has made.
    let mut new = place.proxy(&server.url());
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!(Conn::tcp(place.port).words("GET k"), b"$1\r\nv\r\n");
    assert!(place.socket().exists());
    new.terminate();
    assert_eq!(new.wait().code(), Some(0), "{}", new.log());
    assert!(!place.socket().exists());
}

/// What has connected is served once, though the end has come before its first request.
#[test]
fn who_has_just_come_is_answered_by_a_drain() {
    let server = Server::start(Kind::Redis);
    eventually("a client is answered that was silent when the drain began", || {
        let mut proxy = Proxy::start(&server.url(), &[]);
        let mut client = proxy.dial();
        let others = || proxy.count("nearside_connected_clients{listener=\"tcp\"}");
        eventually("it is with a worker", || (others() == 1).then_some(()));
        proxy.terminate();
        eventually("draining", || proxy.log().contains("draining").then_some(()));
        // A machine that does much else may let the time go by.
        let is_answered = client.try_send(b"PING\r\n").is_ok() && client.rest() == b"+PONG\r\n";
        assert_eq!(proxy.wait().code(), Some(0));
        is_answered.then_some(())
    });
}

/// Whoever else has a socket at that path has none to give, and is left alone.
#[test]
fn what_is_no_nearside_gives_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("handover.sock");
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let said = thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
    });
    let started = refused_start(folder.path(), &format!("server.handover = '{}'", path.display()));
    said.join().unwrap();
    let place = path.display();
    let text = format!("server.handover: the process that listens on {place} gives no sockets");
    assert!(started.contains(&text), "{started}");
}

fn refused_start(folder: &Path, setting: &str) -> String {
    let config = folder.join("proxy.toml");
    let ports = (free_port(), free_port());
    let listen = format!("server.listen = ['127.0.0.1:{}']\n", ports.0);
    let admin = format!("admin.listen = '127.0.0.1:{}'\n{setting}\n", ports.1);
    std::fs::write(&config, listen + &admin).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.args(["--upstream", "embedded:", "--config"]).arg(config);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}
