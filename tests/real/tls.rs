//! TLS for clients, and the PROXY protocol: the real binary, real clients, certificates that are
//! exchanged while they ask.

use crate::authority::{Authority, VERSIONS};
use crate::clients::{node, program, run, script};
use crate::harness::{Conn, Kind, Proxy, Server, eventually, free_port, installed, request};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// The certificate of 127.0.0.1 in a folder of its own, and who has signed it.
pub(crate) struct Door {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) port: u16,
}

impl Door {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new(folder.path(), "ours");
        authority.sign("127.0.0.1");
        authority.sign("client");
        let door = Self { folder, authority, port: free_port() };
        door.show("127.0.0.1");
        door
    }

    /// These are what is shown from the next reload on.
    pub(crate) fn show(&self, name: &str) {
        for end in ["pem", "key"] {
            let to = self.folder.path().join(format!("shown.{end}"));
            fs::copy(self.authority.path(&format!("{name}.{end}")), to).unwrap();
        }
    }

    /// Lines of proxy.toml.
    pub(crate) fn settings(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name);
        let mut lines = vec![
            format!("server.tls.listen = [\"127.0.0.1:{}\"]", self.port),
            format!("server.tls.cert_file = {:?}", file("shown.pem")),
            format!("server.tls.key_file = {:?}", file("shown.key")),
        ];
        let ca = self.authority.path("ca.pem").display().to_string();
        lines.extend(more.iter().map(|line| line.replace("{ca}", &ca)));
        lines
    }

    pub(crate) fn proxy(&self, server: &Server, more: &[&str], arguments: &[&str]) -> Proxy {
        let settings = self.settings(more);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Proxy::start_by(&[], &server.url(), &settings, arguments)
    }

    /// A client that trusts the authority, and shows its certificate of `shown`.
    fn client(&self, shown: Option<&str>) -> Arc<ClientConfig> {
        self.authority.client(VERSIONS, shown.map(|name| (&self.authority, name)))
    }

    pub(crate) fn dial(&self) -> Conn {
        Conn::tls(self.port, &self.client(None)).unwrap()
    }
}

const REJECTED: &str = "nearside_rejected_connections_total";

/// The counter of clients that were not let in for this reason comes to `count`.
fn until_rejected(proxy: &Proxy, reason: &str, count: u64) {
    let series = format!("{REJECTED}{{reason=\"{reason}\"}}");
    eventually(&series, || (proxy.count(&series) >= count).then_some(()));
}

#[test]
fn clients_by_tls() {
    // Where `server.tls.listen` says.
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let asks = ["server.tls.client_ca_file = \"{ca}\"", "server.tls.client_auth = \"required\""];
    let proxy = door.proxy(&server, &[&asks[..], &["keys.version = \"v1\""]].concat(), &[]);
    let port = door.port.to_string();
    let path = |file: &str| door.authority.path(file).display().to_string();
    let files = [path("ca.pem"), path("client.pem"), path("client.key")];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();

    let cli = |arguments: &[&str]| {
        let mut command = program("redis-cli");
        command.args(["-p", &port, "--tls", "--cacert", files[0]]).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let shows = ["--cert", files[1], "--key", files[2]];
    assert_eq!(cli(&[&shows[..], &["SET", "a", "1"]].concat()), "OK\n");
    assert_eq!(cli(&[&shows[..], &["-3", "GET", "a"]].concat()), "1\n");
    let list = cli(&[&shows[..], &["CLIENT", "LIST"]].concat());
    assert!(list.contains(&format!(" laddr=127.0.0.1:{port} ")), "{list}");
    let python = installed("python/bin/python");
    run(program(python).arg(script("redis_py_tls.py")).arg(&port).args(&files));
    node("tls.js", door.port, &files);
    let hits = proxy.count("nearside_cache_lookups_total{result=\"hit\"}");
    assert!(hits > 500, "only {hits} hits");

    // Without a certificate nobody is let in; the log and the counter say so.
    assert_ne!(cli(&["GET", "a"]), "1\n");
    let until_told = |what| eventually(what, || proxy.log().contains(what).then_some(()));
    until_told("the client shows no certificate");
    // Who does not speak TLS neither, and plain clients have their port as before.
    let mut plain = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    plain.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    until_told("the client does not speak TLS");
    // (The Python client was shown a certificate that it does not believe.)
    until_rejected(&proxy, "tls", 3);
    assert_eq!(proxy.dial().words("PING"), b"+PONG\r\n");
    assert!(proxy.count("nearside_connections_received_total{listener=\"tls\"}") > 3);
}

/// `server.tls.client_auth = "optional"`, `min_version`, and a port for nothing but TLS.
#[test]
fn tls_as_the_keys_say() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let settings = [
        "server.listen = []",
        "server.tls.client_ca_file = \"{ca}\"",
        "server.tls.client_auth = \"optional\"",
        "server.tls.min_version = \"1.3\"",
    ];
    let proxy = door.proxy(&server, &settings, &[]);
    let mut bare = door.dial();
    assert_eq!(bare.words("PING"), b"+PONG\r\n");
    let mut shown = Conn::tls(door.port, &door.client(Some("client"))).unwrap();
    assert_eq!(shown.words("PING"), b"+PONG\r\n");
    assert!(Conn::tls(door.port, &door.authority.client(&[&TLS12], None)).is_err());
    until_rejected(&proxy, "tls", 1);
    assert_eq!(proxy.count("nearside_connected_clients{listener=\"tls\"}"), 2);
}

fn expiry(proxy: &Proxy) -> f64 {
    proxy.metric("nearside_tls_certificate_expiry_timestamp_seconds{listener=\"resp\"}")
}

fn reloads(proxy: &Proxy, result: &str) -> u64 {
    proxy.count(&format!("nearside_tls_reloads_total{{listener=\"resp\",result=\"{result}\"}}"))
}

/// Certificates are exchanged while clients ask: none is dropped, who comes then is shown the new
/// one, and files that are wrong change nothing.
#[test]
fn certificates_are_exchanged_while_clients_ask() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let proxy = door.proxy(&server, &[], &[]);
    let first = expiry(&proxy);
    assert!(first > 1_700_000_000.0, "{first}");
    let mut stays = door.dial();
    let before = stays.certificate();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (stop, door) = (&stop, &door);
            scope.spawn(move || {
                let mut client = door.dial();
                let mut asked = 0;
                while asked < 100 || !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.words(&format!("SET {number} {asked}")), b"+OK\r\n");
                    asked += 1;
                }
            });
        }
        for round in 1..=3 {
            door.authority.sign("127.0.0.1");
            door.show("127.0.0.1");
            proxy.hangup();
            eventually("they are read", || (reloads(&proxy, "ok") == round).then_some(()));
            let after = door.dial().certificate();
            let signed = CertificateDer::from_pem_file(door.authority.path("127.0.0.1.pem"));
            assert_eq!(after, signed.unwrap().to_vec());
            assert_ne!(after, before);
        }
        // What `cert_file` and `key_file` name does not go together, is no key, is not there.
        for (round, broken) in ["client.key", "ca.pem", "none"].iter().enumerate() {
            let key = door.folder.path().join("shown.key");
            if fs::copy(door.authority.path(broken), &key).is_err() {
                fs::remove_file(&key).unwrap();
            }
            let (status, body) = proxy.admin("POST", "/api/v1/config/reload", "");
            assert!(status >= 400 && body.contains("server.tls.key_file"), "{status} {body}");
            assert_eq!(reloads(&proxy, "error"), round as u64 + 1);
            assert_eq!(door.dial().words("PING"), b"+PONG\r\n", "the old one is in force");
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(stays.words("PING"), b"+PONG\r\n");
    let log = proxy.log();
    assert!(log.contains("the key is not the certificate's") && log.contains("shown.key"), "{log}");
}

/// As cert-manager does it: nobody sends a signal.
#[test]
fn certificates_are_watched() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let proxy = door.proxy(&server, &[], &["--watch-config"]);
    let before = door.dial().certificate();
    eventually("another certificate is shown", || {
        // The watcher may not have looked at the last one.
        door.authority.sign("127.0.0.1");
        door.show("127.0.0.1");
        (door.dial().certificate() != before).then_some(())
    });
    // It is in force before it is counted.
    eventually("it is counted", || (reloads(&proxy, "ok") >= 1).then_some(()));
}

/// `server.handshake_timeout` and `max_handshakes`: who does not go on holds up nobody for long,
/// and plain clients not at all.
#[test]
fn handshakes_that_never_end() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let limits = ["server.handshake_timeout = \"300ms\"", "server.max_handshakes = 2"];
    let proxy = door.proxy(&server, &limits, &[]);
    let mut idle: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", door.port)).unwrap()).collect();
    idle[0].write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert_eq!(proxy.dial().words("PING"), b"+PONG\r\n");
    assert_eq!(door.dial().words("PING"), b"+PONG\r\n");
    until_rejected(&proxy, "handshake_timeout", 5);
    for stream in &mut idle {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    }
    assert!(proxy.log().contains("not done within 300ms"), "{}", proxy.log());
    // A check of the port is no failure.
    for _ in 0..3 {
        let check = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
        check.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(door.dial().words("PING"), b"+PONG\r\n");
    assert_eq!(proxy.count(&format!("{REJECTED}{{reason=\"tls\"}}")), 0);
}

/// Many large replies to a client that reads none of them before it has asked for all, and what
/// a drain says to it.
#[test]
fn a_client_by_tls_that_reads_late_and_one_that_is_drained() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let mut proxy = door.proxy(&server, &["cache.admission = \"always\""], &[]);
    let (mut client, mut other) = (door.dial(), door.dial());
    let big: Vec<u8> = (0..500_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    assert_eq!(client.ask(&[&b"SET"[..], b"big", &big]), b"+OK\r\n");
    let reply = [b"$500000\r\n", &big[..], b"\r\n"].concat();
    other.until_hit("GET big");
    for number in 0..64 {
        client.send(&request(&["GET", "big"]));
        client.send(&request(&["ECHO", &number.to_string()]));
    }
    // Others are served meanwhile.
    assert_eq!(other.words("PING"), b"+PONG\r\n");
    for number in 0..64 {
        assert!(client.reply() == reply, "{number}");
        let number = number.to_string();
        assert_eq!(client.reply(), format!("${}\r\n{number}\r\n", number.len()).as_bytes());
    }
    proxy.terminate();
    assert!(client.rest().is_empty() && other.rest().is_empty(), "the end is said, not cut");
    assert!(proxy.wait().success());
}

/// A TLS client on the plain port.
#[test]
fn tls_where_none_is_spoken() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let proxy = door.proxy(&server, &[], &[]);
    assert!(Conn::tls(proxy.port, &door.client(None)).is_err());
    eventually("the log says why", || {
        proxy.log().contains("TLS on a port for plain connections").then_some(())
    });
    assert_eq!(proxy.dial().words("PING"), b"+PONG\r\n");
}

/// `server.proxy_protocol`, before plain clients and before TLS.
#[test]
fn a_load_balancer_says_who_the_client_is() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["server.proxy_protocol = true"]);
    let text: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 51234 6380\r\n";
    let binary: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\x00\x71\x01\xc8\x22\x18\xec";
    for header in [text, binary] {
        let mut client = proxy.dial();
        client.send(header);
        let info = String::from_utf8(client.words("CLIENT INFO")).unwrap();
        assert!(info.contains("addr=198.51.100.7:51234 laddr=203.0.113.1:6380 "), "{info}");
    }
    let mut check = proxy.dial();
    check.send(b"PROXY UNKNOWN\r\n");
    let info = String::from_utf8(check.words("CLIENT INFO")).unwrap();
    assert!(info.contains(" addr=127.0.0.1:"), "{info}");
    let mut bare = proxy.dial();
    bare.send(b"*1\r\n$4\r\nPING\r\n");
    assert!(bare.rest().is_empty(), "no byte of it is answered");
    until_rejected(&proxy, "proxy_protocol", 1);
    assert!(proxy.log().contains("does not begin with a PROXY header"), "{}", proxy.log());

    let proxy = door.proxy(&server, &["server.proxy_protocol = true"], &[]);
    let mut client = Conn::tls_behind(door.port, text, &door.client(None)).unwrap();
    let info = String::from_utf8(client.words("CLIENT INFO")).unwrap();
    assert!(info.contains("addr=198.51.100.7:51234 "), "{info}");
    assert!(Conn::tls(door.port, &door.client(None)).is_err(), "no header");
    until_rejected(&proxy, "proxy_protocol", 1);
}

/// More clients than there may be: who comes by TLS is sent away before the handshake, as by Redis.
#[test]
fn a_client_too_many_by_tls() {
    let door = Door::new();
    let server = Server::start(Kind::Redis);
    let proxy = door.proxy(&server, &["server.max_clients = 1"], &[]);
    let mut only = door.dial();
    assert_eq!(only.words("PING"), b"+PONG\r\n");
    assert!(Conn::tls(door.port, &door.client(None)).is_err());
    until_rejected(&proxy, "max_clients", 1);
    assert_eq!(only.words("PING"), b"+PONG\r\n");
}

/// `[upstream.tls]`: links that are opened after a reload show and believe what the files then hold.
#[test]
fn upstreams_certificates_are_read_again() {
    let door = Door::new();
    let stranger = Authority::new(door.folder.path(), "theirs");
    stranger.sign("127.0.0.1");
    let path = |authority: &Authority, file: &str| authority.path(file).display().to_string();
    let arguments = |authority: &Authority| {
        let (cert, key) = (path(authority, "127.0.0.1.pem"), path(authority, "127.0.0.1.key"));
        let ports = ["--tls-port", "{port}", "--port", "0", "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file".to_owned(), cert, "--tls-key-file".to_owned(), key];
        ports.map(str::to_owned).into_iter().chain(files).collect::<Vec<String>>()
    };
    let first = arguments(&door.authority);
    let mut server =
        Server::with(Kind::Redis, &first.iter().map(String::as_str).collect::<Vec<_>>());
    let trusted = door.folder.path().join("trusted.pem");
    fs::copy(door.authority.path("ca.pem"), &trusted).unwrap();
    let url = format!("rediss://127.0.0.1:{}", server.port);
    let proxy = Proxy::start(&url, &[&format!("upstream.tls.ca_file = {trusted:?}")]);
    assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    // The server comes back with another authority's certificate.
    server.kill();
    let port = server.port.to_string();
    let second: Vec<String> =
        arguments(&stranger).iter().map(|word| word.replace("{port}", &port)).collect();
    server.restart_with(&second.iter().map(String::as_str).collect::<Vec<_>>());
    let refused =
        format!("nearside_upstream_connects_total{{upstream=\"127.0.0.1:{port}\",result=\"tls\"}}");
    eventually("it is not trusted", || (proxy.count(&refused) > 0).then_some(()));
    fs::copy(stranger.path("ca.pem"), &trusted).unwrap();
    let (status, body) = proxy.admin("POST", "/api/v1/config/reload", "");
    assert!(status == 200 && body.contains("upstream.tls"), "{status} {body}");
    eventually("it is trusted", || {
        let mut client = proxy.dial();
        client.try_send(b"SET a 2\r\n").ok()?;
        client.try_reply().filter(|reply| reply == b"+OK\r\n")
    });
}
