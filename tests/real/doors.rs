//! The doors on both sides: passwords, TLS to upstream, Unix sockets.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The upstream asks for another password: the log and the client's error say so, and nobody
/// sees the password.
#[test]
fn a_wrong_upstream_password_is_named() {
    for kind in KINDS {
        let server = Server::with(kind, &["--requirepass", "right"]);
        let url = format!("redis://:hidden-word@127.0.0.1:{}", server.port);
        let settings = &["upstream.on_down = \"error\"", "upstream.reconnect_wait = \"10ms\""];
        let proxy = Proxy::unready(&url, settings);
        eventually("the log says what is wrong", || {
            proxy.log().contains("WRONGPASS").then_some(())
        });
        let answer = String::from_utf8(proxy.dial().words("GET a")).unwrap();
        assert!(answer.starts_with('-') && answer.contains("upstream"), "{answer}");
        assert!(!proxy.log().contains("hidden-word"), "{}", proxy.log());

        let url = format!("redis://:right@127.0.0.1:{}", server.port);
        let proxy = Proxy::start(&url, &[]);
        assert_eq!(proxy.dial().words("SET a 1"), b"+OK\r\n");
    }
}

/// `auth.password` is Redis' requirepass, word for word.
#[test]
fn clients_give_a_password_as_to_redis() {
    for proto in ["2", "3"] {
        // Newer than Redis 7.0 in the words of its NOAUTH to HELLO.
        let locked = Server::with(Kind::Valkey, &["--requirepass", "secret"]);
        let server = Server::start(Kind::Redis);
        let settings = &["auth.mode = \"static\"", "auth.password = \"secret\""];
        let proxy = Proxy::start(&server.url(), settings);
        let (mut direct, mut ours) = (locked.dial(), proxy.dial());
        for line in [
            "GET a",
            "PING",
            "CLIENT ID",
            "HELLO 3",
            "AUTH wrong",
            "AUTH nobody secret",
            "AUTH default wrong",
            "HELLO 3 AUTH default wrong",
            "HELLO 4 AUTH default secret",
            "GET a",
            "AUTH secret",
            "GET a",
            "AUTH wrong",
            "GET a",
            "AUTH default secret",
            "SET a 1",
            "RESET",
            "GET a",
        ] {
            assert_eq!(
                String::from_utf8_lossy(&ours.words(line)),
                String::from_utf8_lossy(&direct.words(line)),
                "{line}"
            );
        }
        let hello = ours.words(&format!("HELLO {proto} AUTH default secret SETNAME me"));
        assert!(hello.starts_with(if proto == "2" { b"*14\r\n" } else { b"%7\r\n" }));
        assert_eq!(ours.words("CLIENT GETNAME"), b"$2\r\nme\r\n");
        assert_eq!(ours.words("GET a"), b"$1\r\n1\r\n");
        let quit = [ours.words("QUIT"), direct.words("QUIT")];
        assert_eq!(quit[0], quit[1]);
        assert!(ours.rest().is_empty());
    }
}

/// `auth.users` of mode `static`: each with passwords of its own, of which only hashes are written.
#[test]
fn users_of_the_configuration() {
    let hash = |password: &str| -> String {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, password.as_bytes());
        hash.as_ref().iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
    };
    let (first, second, other) = (hash("first"), hash("second"), hash("other"));
    let users = format!(
        "auth.users = [{{ name = \"app\", password_sha256 = [\"{first}\", \"{second}\"] }}, \
         {{ name = \"ops\", role = \"operator\", password_sha256 = [\"{other}\"] }}]"
    );
    let server = Server::start(Kind::Redis);
    let settings = ["auth.mode = \"static\"", &users, "auth.max_failures_per_minute = 6"];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut app = proxy.dial();
    assert!(app.words("GET a").starts_with(b"-NOAUTH"));
    for wrong in ["AUTH first", "AUTH app other", "AUTH ops first", "AUTH app", "AUTH nobody x"] {
        let answer = app.words(wrong);
        assert!(answer.starts_with(b"-WRONGPASS"), "{wrong}: {answer:?}");
    }
    for right in ["AUTH app first", "AUTH app second"] {
        assert_eq!(app.words(right), b"+OK\r\n");
    }
    assert_eq!(app.words("ACL WHOAMI"), b"$3\r\napp\r\n");
    assert_eq!(app.words("SET a 1"), b"+OK\r\n");
    let denied = b"-NOPERM User app has no permissions to run the 'proxy|clear' command\r\n";
    assert_eq!(app.words("PROXY CLEAR"), denied);
    assert!(app.words("AUTH ops wrong").starts_with(b"-WRONGPASS"));
    assert_eq!(app.words("ACL WHOAMI"), b"$3\r\napp\r\n", "a login that fails changes nothing");
    let barred = String::from_utf8(app.words("AUTH ops other")).unwrap();
    assert!(barred.contains("auth.max_failures_per_minute"), "{barred}");
    let proxy = Proxy::start(&server.url(), &settings);
    let mut ops = proxy.dial();
    assert!(ops.words("HELLO 3 AUTH ops other").starts_with(b"%7"));
    assert!(ops.words("PROXY CLEAR").starts_with(b":"));
    assert!(String::from_utf8(ops.words("CLIENT LIST")).unwrap().contains(" user=ops "));
    assert_eq!(ops.words("RESET"), b"+RESET\r\n");
    assert!(ops.words("PROXY CLEAR").starts_with(b"-NOAUTH"));
}

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("openssl: {error}; run tests/run"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of the server at 127.0.0.1.
pub(crate) fn certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    std::fs::write(path.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        path,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out \
         ca.crt -addext basicConstraints=critical,CA:TRUE"
            .replace("         ", "")
            .as_str(),
    );
    openssl(
        path,
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
    );
    openssl(
        path,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext \
         -out server.crt"
            .replace("         ", "")
            .as_str(),
    );
    folder
}

#[test]
fn upstream_by_tls() {
    let arguments = [
        "--tls-port",
        "{port}",
        "--port",
        "0",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        "{folder}/server.crt",
        "--tls-key-file",
        "{folder}/server.key",
    ];
    let server = Server::within(Kind::Redis, &arguments, certificates());
    let url = format!("rediss://127.0.0.1:{}", server.port);
    let authority = server.folder.path().join("ca.crt");
    let trusted = format!("upstream.tls.ca_file = \"{}\"", authority.display());
    let proxy = Proxy::start(&url, &[&trusted, "cache.admission = \"always\""]);
    let mut ours = proxy.dial();
    let big = vec![b'x'; 1 << 19];
    assert_eq!(ours.ask(&[&b"SET"[..], b"big", &big]), b"+OK\r\n");
    eventually("a hit", || {
        let answer = ours.words("GET big");
        assert_eq!(answer.len(), big.len() + 11);
        (ours.hits() > 0).then_some(())
    });

    // Without the authority: refused, and the log says why.
    let settings = &["upstream.on_down = \"error\"", "upstream.reconnect_wait = \"10ms\""];
    let proxy = Proxy::unready(&url, settings);
    assert!(proxy.dial().words("GET big").starts_with(b"-"));
    eventually("the log says why", || proxy.log().contains("certificate").then_some(()));
}

#[test]
fn unix_sockets_on_both_sides() {
    for kind in KINDS {
        let server = Server::with(kind, &["--unixsocket", "{folder}/server.sock"]);
        let url = format!("unix:{}/server.sock", server.folder.path().display());
        let proxy = Proxy::start(
            &url,
            &["server.listen = [\"unix:{folder}/door.sock\"]", "keys.version = \"v1\""],
        );
        let door = proxy.folder.path().join("door.sock");
        let mut ours = Conn::unix(&door);
        assert_eq!(ours.words("SET a 1"), b"+OK\r\n");
        eventually("a hit", || {
            assert_eq!(ours.words("GET a"), b"$1\r\n1\r\n");
            (ours.hits() > 0).then_some(())
        });
        assert_eq!(server.dial().words("GET v1:a"), b"$1\r\n1\r\n");
    }
}
