//! What is secret is told to nobody: passwords of upstream and of clients, tokens, what a command
//! carries that sets one, and values; not in logs at their most talkative, nor in metrics, over
//! HTTP, in INFO and its kin, on the command line or in errors. Nor are keys in logs and metrics.

use crate::harness::{Conn, Kind, Proxy, Server, eventually};
use std::process::Command;

/// Each is only ever handed in; all have this in them.
const MARK: &str = "s3cr3t";
const UPSTREAM: &str = "s3cr3t-of-upstream";
const CLIENTS: &str = "s3cr3t-of-clients";
const OPERATOR: &str = "s3cr3t-of-the-operator-0123456789abcdef";
const VIEWER: &str = "s3cr3t-of-the-viewer-0123456789abcdef";
const CHANNEL: &str = "s3cr3t-of-the-channel-0123456789abcdef";

/// A key that stands nowhere but in replies.
const KEY: &str = "pr1vate:key";

/// What clients send that carries a secret, or fails to.
const COMMANDS: &[&str] = &[
    "AUTH s3cr3t-wrong",
    "AUTH nobody s3cr3t-wrong",
    "HELLO 3 AUTH default s3cr3t-wrong",
    "CONFIG SET masterauth s3cr3t-of-a-replica",
    "CONFIG SET masterauth",
    "PROXY CONFIG SET auth.password s3cr3t-new",
    "PROXY CONFIG SET upstream.password s3cr3t-new",
    "ACL SETUSER someone on >s3cr3t-of-someone ~* +@all",
    "ACL SETUSER someone s3cr3t-is-no-rule",
    "MIGRATE 127.0.0.1 1 pr1vate:key 0 10 AUTH s3cr3t-elsewhere",
    "MIGRATE 127.0.0.1 1 pr1vate:key 0 10 AUTH2 user s3cr3t-elsewhere KEYS",
    "SET pr1vate:key s3cr3t-value",
    "GET pr1vate:key",
    "GET pr1vate:key",
    "INCR pr1vate:key",
    "LPUSH pr1vate:key s3cr3t-element",
    "EVAL \"return redis.error_reply('s3cr3t')\" 0",
    "EVAL \"error('s3cr3t')\" 1 pr1vate:key",
    "S3CR3TCOMMAND s3cr3t-argument",
    "SUBSCRIBE s3cr3t-channel",
];

fn settings(folder: &std::path::Path) -> Vec<String> {
    let file = |name: &str, secret: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        format!("'{}'", path.display())
    };
    vec![
        format!("upstream.password_file = {}", file("upstream", UPSTREAM)),
        "auth.mode = 'static'".to_owned(),
        format!("auth.password_file = {}", file("clients", CLIENTS)),
        format!("admin.token_file = {}", file("operator", OPERATOR)),
        format!("admin.readonly_token_file = {}", file("viewer", VIEWER)),
        format!("invalidation.secret_file = {}", file("channel", CHANNEL)),
        "log.level = 'trace'".to_owned(),
        "log.rate_limit = 'off'".to_owned(),
        "log.slow_command = '1us'".to_owned(),
    ]
}

/// Where something stands that should not: the words around it.
fn found<'t>(text: &'t str, what: &'t str) -> Vec<&'t str> {
    let text_of = |at: usize| {
        let (from, to) = (at.saturating_sub(100), (at + 100).min(text.len()));
        text.get(from..to).unwrap_or(what)
    };
    text.match_indices(what).map(|(at, _)| text_of(at)).collect()
}

#[test]
fn no_secret_is_told() {
    let server = Server::with(Kind::Redis, &["--requirepass", UPSTREAM]);
    let folder = tempfile::TempDir::new().unwrap();
    let settings = settings(folder.path());
    let proxy =
        Proxy::start(&server.url(), &settings.iter().map(String::as_str).collect::<Vec<_>>());
    for line in COMMANDS {
        let mut client = proxy.dial();
        assert_eq!(client.words(&format!("AUTH {CLIENTS}")), b"+OK\r\n");
        client.words(line);
    }
    let mut client = proxy.dial();
    client.words(&format!("AUTH {CLIENTS}"));
    let asked = ["INFO all", "CLIENT LIST", "PROXY CONFIG GET *", "PROXY STATS", "PROXY LAST"];
    let asked = asked.into_iter().chain(["PROXY SLOWLOG GET 100", "SLOWLOG GET 100"]);
    for line in asked {
        let said = String::from_utf8_lossy(&client.words(line)).into_owned();
        // The server's own slow log is its own; a client that may read it may read the server.
        if !line.starts_with("SLOWLOG") {
            assert_eq!(found(&said, MARK), [""; 0], "{line}");
        }
    }
    for (path, said) in pages(&proxy) {
        assert_eq!(found(&said, MARK), [""; 0], "{path}");
        if path == "/metrics" {
            assert_eq!(found(&said, KEY), [""; 0], "{path}");
        }
    }
    let config = proxy.folder.path().join("proxy.toml");
    for words in [&["config", "show"][..], &["config", "validate"], &["validate"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_nearside"))
            .args(words)
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(found(&String::from_utf8_lossy(&said), MARK), [""; 0], "{words:?}");
    }
    proxy.hangup();
    eventually("it is read again", || {
        (proxy.log().matches("config_loaded").count() > 1).then_some(())
    });
    let log = proxy.log();
    assert!(log.contains("auth_failed") && log.contains("\"TRACE\""), "it says a lot");
    for what in [MARK, KEY] {
        assert_eq!(found(&log, what), [""; 0], "the log");
    }
}

/// Every page of the admin port that needs nothing but a look, as an operator.
fn pages(proxy: &Proxy) -> Vec<(String, String)> {
    let ask = |path: &str| {
        let mut client = Conn::tcp(proxy.admin_port());
        client.send(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Authorization: Bearer {OPERATOR}\r\n\r\n"
            )
            .as_bytes(),
        );
        String::from_utf8_lossy(&client.rest()).into_owned()
    };
    let index = ask("/");
    let endless = |path: &&str| path.contains('{') || path.ends_with("/stream");
    let paths = index.lines().filter(|line| line.starts_with('/') && !endless(line));
    let pages: Vec<_> = paths.map(|path| (path.to_owned(), ask(path))).collect();
    assert!(pages.len() > 20, "{index}");
    pages
}
