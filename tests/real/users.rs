//! What applications are really built on: clients with all that needs a connection of its own,
//! and libraries above them that run jobs, hold locks, keep sessions and carry messages. Each
//! once with no version of keys and once with one, where it works or is refused with the remedy.
//!
//! Each is a script in tests/clients that passes against a server without nearside, too.

use crate::clients::{node, program, run, script};
use crate::harness::{Kind, Proxy, Server, installed, show};

/// Which server, and the version of keys. The servers differ less than the versions do.
const STAGES: [(Kind, &str); 3] = [(Kind::Redis, ""), (Kind::Redis, "v1"), (Kind::Valkey, "v1")];

/// Runs a user on every stage; it is told the port and the version.
fn everywhere(user: impl Fn(u16, &str)) {
    for (kind, version) in STAGES {
        on(kind, version, &[], &user);
    }
}

fn on(kind: Kind, version: &str, settings: &[&str], user: impl Fn(u16, &str)) {
    let server = Server::start(kind);
    let version_line = format!("keys.version = \"{version}\"");
    let settings: Vec<&str> = [version_line.as_str()].iter().chain(settings).copied().collect();
    let proxy = Proxy::start(&server.url(), &settings);
    user(proxy.port, version);
    if !version.is_empty() {
        assert_all_named(&server, &format!("{version}:"));
    }
}

/// Nothing has come past the prefix, in any database that a script uses.
fn assert_all_named(server: &Server, prefix: &str) {
    let mut conn = server.dial();
    for db in 0..4 {
        assert_eq!(conn.words(&format!("SELECT {db}")), b"+OK\r\n");
        let keys = conn.words("KEYS *");
        let names = keys.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut names = names.filter(|line| !line.starts_with(b"*") && !line.starts_with(b"$"));
        let stray = names.find(|name| !name.starts_with(prefix.as_bytes()));
        assert!(stray.is_none(), "in database {db}: {}", show(stray.unwrap_or_default()));
    }
}

fn python(name: &str, port: u16, arguments: &[&str]) {
    let mut command = program(installed("python/bin/python"));
    // Scripts import each other, which would leave files among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run(command.arg(script(name)).arg(port.to_string()).args(arguments));
}

/// Under a version a function is trusted by its name.
const TRUST: &[&str] = &["scripts.allow = [\"function:add\"]"];

fn redis_py(protocol: &str) {
    for (kind, version) in STAGES {
        on(kind, version, TRUST, |port, _| python("redis_py_more.py", port, &[protocol]));
    }
}

#[test]
fn redis_py_resp2() {
    redis_py("2");
}

#[test]
fn redis_py_resp3() {
    redis_py("3");
}

#[test]
fn redis_py_asyncio() {
    everywhere(|port, version| {
        let protocol = if version.is_empty() { "2" } else { "3" };
        python("redis_py_asyncio.py", port, &[protocol]);
    });
}

#[test]
fn ioredis() {
    everywhere(|port, _| node("ioredis_more.js", port, &[]));
}

#[test]
fn node_redis_resp2() {
    everywhere(|port, _| node("node_redis_more.js", port, &["2"]));
}

#[test]
fn node_redis_resp3() {
    everywhere(|port, _| node("node_redis_more.js", port, &["3"]));
}

#[test]
fn celery() {
    let user = |port: u16, version: &str| python("celery_jobs.py", port, &[version]);
    on(Kind::Valkey, "", &[], user);
    on(Kind::Redis, "v1", &[], user);
}

#[test]
fn rq() {
    everywhere(|port, version| python("rq_jobs.py", port, &[version]));
}

/// With a version its first script is refused; the script of the test demands the error's words.
#[test]
fn bullmq() {
    everywhere(|port, version| node("bullmq.js", port, &[version]));
}

#[test]
fn redlock() {
    everywhere(|port, _| node("redlock.js", port, &[]));
}

#[test]
fn django() {
    everywhere(|port, _| python("django_cache.py", port, &[]));
}

#[test]
fn express_sessions() {
    everywhere(|port, _| node("sessions.js", port, &[]));
}

#[test]
fn socket_io() {
    everywhere(|port, _| node("socketio.js", port, &[]));
}
