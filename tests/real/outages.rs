//! What becomes of queues of jobs, and of plain clients, when their server is away for 4 s: killed
//! with SIGKILL and started again with what it had, or stopped and let go on. Each play is played
//! direct, too, and by nearside everything ends as it does there: what was acknowledged is done,
//! workers live and serve, nobody hangs, and who was told anything was told that the connection
//! broke, never an error reply, of which these libraries do not try again.
//!
//! The plays are scripts in tests/clients (`outages.py` and `outages.js` say how they go).

use crate::clients::{program, script};
use crate::harness::{Kind, Proxy, Server, installed};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

/// What an acknowledgement says is on the disk.
const LASTING: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and a start on the same port.
    Kill,
    /// SIGSTOP and SIGCONT.
    Stop,
}

/// A script and what its producer may be told: errors of the connection.
struct User {
    script: &'static str,
    version: &'static str,
    may_be_told: &'static [&'static str],
}

/// All four plays at a time: mostly they wait.
fn lives_through(user: &User) {
    thread::scope(|scope| {
        for fault in [Fault::Kill, Fault::Stop] {
            for is_direct in [true, false] {
                scope.spawn(move || {
                    let figures = play(user, fault, is_direct);
                    judge(user, fault, is_direct, &figures);
                });
            }
        }
    });
}

fn judge(user: &User, fault: Fault, is_direct: bool, figures: &Value) {
    let case = format!("{} {fault:?}, direct: {is_direct}: {figures}", user.script);
    // Ten and one and five before, one afterwards.
    assert!(figures["acknowledged"].as_u64().unwrap() >= 17, "{case}");
    assert_eq!(figures["lost"], 0, "{case}");
    // A server that only stands still may be given up by its client, which asks again.
    assert!(fault == Fault::Stop || figures["twice"] == 0, "{case}");
    let mut told = figures["told"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    assert!(told.all(|name| user.may_be_told.contains(&name)), "{case}");
}

/// The figures that the script says in the end.
fn play(user: &User, fault: Fault, is_direct: bool) -> Value {
    let mut server = Server::with(Kind::Redis, LASTING);
    let version = format!("keys.version = \"{}\"", user.version);
    let proxy = (!is_direct).then(|| Proxy::start(&server.url(), &[&version]));
    let port = proxy.as_ref().map_or(server.port, |proxy| proxy.port);
    let folder = TempDir::new().unwrap();
    let mut player = Player::start(user.script, port, &folder);
    assert_eq!(player.line(), "ready", "{}", user.script);
    match fault {
        Fault::Kill => server.kill(),
        Fault::Stop => server.freeze(),
    }
    player.say("struck");
    assert_eq!(player.line(), "enough", "{}", user.script);
    match fault {
        Fault::Kill => server.restart(),
        Fault::Stop => server.thaw(),
    }
    player.say("back");
    let figures = player.line();
    assert!(player.process.wait().unwrap().success(), "{}", user.script);
    serde_json::from_str(&figures).unwrap_or_else(|error| panic!("{error}: {figures:?}"))
}

/// A script that plays; ends when dropped.
pub(crate) struct Player {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Player {
    pub(crate) fn start(name: &str, port: u16, folder: &TempDir) -> Self {
        let mut command = interpreter(name);
        command.arg(script(name)).arg(port.to_string()).arg(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Empty when it has ended; why stands on stderr.
    pub(crate) fn line(&mut self) -> String {
        self.lines.next().and_then(Result::ok).unwrap_or_default()
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn interpreter(script: &str) -> Command {
    if Path::new(script).extension().is_some_and(|it| it == "js") {
        let mut command = program("node");
        command.env("NODE_PATH", installed("node/node_modules"));
        return command;
    }
    let mut command = program(installed("python/bin/python"));
    // Scripts import each other, which would leave files among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn celery() {
    lives_through(&User {
        script: "celery_outages.py",
        version: "v1",
        may_be_told: &["OperationalError"],
    });
}

#[test]
fn rq() {
    lives_through(&User {
        script: "rq_outages.py",
        version: "v1",
        may_be_told: &["ConnectionError", "TimeoutError"],
    });
}

/// Its scripts build the names of keys.
#[test]
fn bullmq() {
    lives_through(&User {
        script: "bullmq_outages.js",
        version: "",
        may_be_told: &["MaxRetriesPerRequestError"],
    });
}

#[test]
fn redis_py() {
    lives_through(&User {
        script: "redis_py_outages.py",
        version: "v1",
        may_be_told: &["ConnectionError", "TimeoutError"],
    });
}

#[test]
fn ioredis() {
    lives_through(&User {
        script: "ioredis_outages.js",
        version: "v1",
        may_be_told: &["MaxRetriesPerRequestError"],
    });
}
