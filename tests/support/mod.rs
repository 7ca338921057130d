//! The real binary and a real redis-server, on free ports of the loopback; both end when dropped.

mod patience;
mod ports;

pub(crate) use patience::eventually;
pub(crate) use ports::free_port;

use patience::LONG;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A folder without a proxy.toml, and the binary about to be started in it.
pub(crate) fn nearside(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.args(args).current_dir(folder.path());
    command.env_clear().stdin(Stdio::null());
    command
}

/// A redis-server of its own.
pub(crate) struct Redis {
    process: Child,
    pub(crate) port: u16,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start(args: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        for _ in 0..5 {
            let port = free_port();
            let mut process = Command::new("redis-server")
                .args(["--save", "", "--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(args)
                .current_dir(folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .expect("redis-server does not start: run tests/run, which installs it");
            let lines = BufReader::new(process.stdout.take().unwrap()).lines();
            if lines.map_while(Result::ok).any(|line| line.contains("eady to accept")) {
                return Self { process, port, _folder: folder };
            }
            process.wait().unwrap();
        }
        panic!("redis-server does not start with {args:?}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The real binary, running.
pub(crate) struct Proxy {
    process: Child,
    pub(crate) port: u16,
    admin: u16,
    folder: TempDir,
}

impl Proxy {
    /// One that is ready: upstream and tracking are up. `sets` are values of `--set`.
    pub(crate) fn start(upstream: &str, sets: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let (port, admin) = (free_port(), free_port());
        let log = File::create(folder.path().join("log")).unwrap();
        let listen = [format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}")];
        let args = ["--listen", &listen[0], "--admin-listen", &listen[1], "--upstream", upstream];
        let mut command = nearside(&folder, &args);
        for set in sets {
            command.args(["--set", set]);
        }
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut proxy = Self { process, port, admin, folder };
        let is_up = eventually("nearside is ready or ends", || {
            let ended = proxy.process.try_wait().unwrap().map(|_| false);
            let ready = || proxy.page("/readyz").filter(|page| page.contains(" 200 OK"));
            ended.or_else(|| ready().map(|_| true))
        });
        assert!(is_up, "nearside does not start with {sets:?}");
        proxy
    }

    /// Where its admin API is.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// What it has said, on stdout and stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let page = self.page("/metrics").unwrap();
        page.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Head and body; `None` if nobody answers.
    fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A client that sends lines, and reads replies of one line or one bulk string.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let reply = self.line();
        match reply.strip_prefix('$') {
            Some(length) if length != "-1" => self.line(),
            _ => reply,
        }
    }

    /// Empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
