//! What the benchmarks share: processes that are started on free ports and killed on drop, CPU
//! time from /proc, a blocking RESP client, and the table that is printed at the end.
//!
//! The rules of every measurement: the server under test on core 0, the load on core 1; rounds of
//! A and B take turns; medians; only ratios of one run are compared with a bar.

#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::exit,
    unreachable_pub,
    reason = "a benchmark: whatever fails ends it"
)]

pub mod peers;
pub mod relay;
pub mod stalls;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core of the server under test.
pub const SERVER_CORE: &str = "0";
/// The core of the load.
pub const LOAD_CORE: &str = "1";

/// What the command line asks for: `--smoke`, and names of the measurements wanted.
#[derive(Debug)]
pub struct Asked {
    pub smoke: bool,
    names: Vec<String>,
}

impl Asked {
    /// Reads the command line; cargo's own `--bench` is ignored. A name not in `known` ends it.
    pub fn read(known: &[&str]) -> Self {
        let mut asked = Self { smoke: false, names: Vec::new() };
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "--bench" => {}
                "--smoke" => asked.smoke = true,
                name if known.contains(&name) => asked.names.push(name.to_owned()),
                other => {
                    eprintln!("unknown argument `{other}`; known: --smoke {}", known.join(" "));
                    std::process::exit(2);
                }
            }
        }
        asked
    }

    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|asked| asked == name)
    }

    /// `full`, or `smoke` in a smoke run.
    pub fn scale(&self, full: u64, smoke: u64) -> u64 {
        if self.smoke { smoke } else { full }
    }
}

/// A process of the bench; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u16,
    name: String,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        fs::remove_file(&self.log).ok();
        // What went wrong is likely to stand at the end.
        if std::thread::panicking() {
            let lines: Vec<&str> = said.lines().collect();
            let end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
            eprintln!("{} said at the end:\n{}", self.name, end.join("\n"));
        }
    }
}

impl Server {
    /// Starts `program` on `cores` and waits until `port` answers.
    pub fn start(cores: &str, program: &Path, args: &[String], port: u16) -> Self {
        let log =
            std::env::temp_dir().join(format!("nearside-bench-{}-{port}.log", std::process::id()));
        let out = fs::File::create(&log).expect("a log file");
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = Command::new("taskset")
            .args(["-c", cores])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start taskset {name}: {error}"));
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Self { child, port, name, log };
            }
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().ok();
        let said = fs::read_to_string(&log).unwrap_or_default();
        panic!("{name} does not answer on port {port}; is it installed? It said:\n{said}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds on CPU of all its threads.
    pub fn cpu_ns(&self) -> u64 {
        threads_ns(self.pid()).iter().map(|(_, ns)| ns).sum()
    }

    /// Resident bytes.
    pub fn rss(&self) -> u64 {
        rss(self.pid())
    }
}

/// Name and nanoseconds on CPU of each thread of a process.
fn threads_ns(pid: u32) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("/proc").flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let ns = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse().ok());
        found.push((read("comm").trim().to_owned(), ns.unwrap_or(0)));
    }
    found
}

/// Resident bytes of a process.
pub fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kb: u64 = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("VmRSS");
    kb * 1024
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port()
}

/// Pins the calling thread, and those it starts, to a core.
pub fn pin_self(core: &str) {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-acp", core, &pid]).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "taskset (util-linux) is needed");
}

/// A real redis-server without persistence.
pub fn redis(cores: &str) -> Server {
    redis_with(cores, &[])
}

/// The same, with further arguments.
pub fn redis_with(cores: &str, more: &[&str]) -> Server {
    let port = free_port();
    let args = [
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxclients",
        "15000",
        "--daemonize",
        "no",
    ];
    let args: Vec<String> = args.iter().chain(more).map(|word| (*word).to_owned()).collect();
    Server::start(cores, Path::new("redis-server"), &args, port)
}

/// nearside with the checked-in proxy.toml.
#[derive(Debug)]
pub struct Nearside {
    pub server: Server,
    admin: u16,
}

impl Nearside {
    pub fn start(cores: &str, upstream: u16, sets: &[&str]) -> Self {
        Self::start_with(cores, upstream, sets, &[])
    }

    /// As [`Self::start`], with further arguments.
    pub fn start_with(cores: &str, upstream: u16, sets: &[&str], more: &[String]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_nearside")), cores, upstream, sets, more)
    }

    /// As [`Self::start_with`], but this binary, of another build.
    pub fn start_program(
        program: &Path,
        cores: &str,
        upstream: u16,
        sets: &[&str],
        more: &[String],
    ) -> Self {
        let (port, admin) = (free_port(), free_port());
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
        let mut args = vec![
            "--config".to_owned(),
            config.to_string_lossy().into_owned(),
            "--upstream".to_owned(),
            format!("redis://127.0.0.1:{upstream}"),
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--admin-listen".to_owned(),
            format!("127.0.0.1:{admin}"),
        ];
        let is_set = sets.iter().any(|set| set.starts_with("server.workers"));
        let workers = if is_set { None } else { Some(&"server.workers=1") };
        for set in sets.iter().chain(workers) {
            args.extend(["--set".to_owned(), (*set).to_owned()]);
        }
        args.extend_from_slice(more);
        let me = Self { server: Server::start(cores, program, &args, port), admin };
        me.until_tracking();
        me
    }

    /// Waits until the tracking link guards what is cached.
    fn until_tracking(&self) {
        for _ in 0..200 {
            let text = self.metrics();
            let mut tracking = text.lines().filter(|line| {
                line.starts_with("nearside_invalidation_channel_up{channel=\"tracking\"")
            });
            if tracking.all(|line| line.ends_with(" 1")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nearside's tracking link does not come up");
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The text of /metrics.
    pub fn metrics(&self) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.admin)).expect("the admin port");
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .expect("the admin port");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("the admin port");
        text
    }

    /// Hits and misses so far.
    pub fn lookups(&self) -> (u64, u64) {
        let text = self.metrics();
        let of = |result: &str| {
            let lines = text.lines().filter(|line| line.contains(result));
            lines.map(|line| total(line, "nearside_cache_lookups_total")).sum::<f64>() as u64
        };
        (of("result=\"hit\""), of("result=\"miss\""))
    }

    /// Hits of each worker so far.
    pub fn worker_hits(&self) -> Vec<u64> {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.starts_with("nearside_worker_hits_total{"));
        lines.map(|line| total(line, "nearside_worker_hits_total") as u64).collect()
    }
}

/// Sum of all samples of a metric, whatever their labels.
pub fn total(text: &str, name: &str) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A blocking RESP client.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        socket.set_nodelay(true).expect("a socket");
        Self(BufReader::with_capacity(16 * 1024, socket))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server closed the connection");
    }

    /// One reply: a line, or the bytes of a bulk string; `None` = nil. An error ends the bench.
    pub fn reply(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("a reply");
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        assert!(!text.is_empty(), "the server closed the connection");
        assert!(!text.starts_with('-'), "{text}");
        if text == "$-1" || text == "_" {
            return None;
        }
        let Some(length) = text.strip_prefix('$') else {
            return Some(text.into_bytes());
        };
        let mut body = vec![0; length.parse::<usize>().expect("a length") + 2];
        self.0.read_exact(&mut body).expect("a reply");
        body.truncate(body.len() - 2);
        Some(body)
    }

    pub fn ask(&mut self, args: &[&[u8]]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        command(&mut out, args);
        self.send(&out);
        self.reply()
    }

    /// Runs `count` commands that `write` appends, pipelined.
    pub fn pipelined(&mut self, count: u64, write: impl FnMut(u64, &mut Vec<u8>)) {
        self.pipelined_by(256, count, write);
    }

    /// As [`Self::pipelined`], `step` commands at a time.
    pub fn pipelined_by(
        &mut self,
        step: u64,
        count: u64,
        mut write: impl FnMut(u64, &mut Vec<u8>),
    ) {
        let mut out = Vec::new();
        let mut next = 0;
        while next < count {
            let end = count.min(next + step);
            out.clear();
            (next..end).for_each(|index| write(index, &mut out));
            self.send(&out);
            for _ in next..end {
                self.reply();
            }
            next = end;
        }
    }
}

/// Appends a command.
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    write!(out, "*{}\r\n", args.len()).expect("memory");
    for arg in args {
        write!(out, "${}\r\n", arg.len()).expect("memory");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// The key that redis-benchmark makes of `PREFIX:__rand_int__`.
pub fn key(prefix: &str, number: u64) -> Vec<u8> {
    format!("{prefix}:{number:012}").into_bytes()
}

/// Writes `count` keys of 64 bytes.
pub fn preload(port: u16, prefix: &str, count: u64) {
    let value = [b'v'; 64];
    Client::connect(port)
        .pipelined(count, |index, out| command(out, &[b"SET", &key(prefix, index), &value]));
}

/// Reads every key until nearside answers all of them itself.
///
/// In short pipelines, each twice in a row: a read behind a miss on a key of its stripe is not
/// answered here (R6), and the doorkeeper forgets a key when another takes its place.
pub fn warm(proxy: &Nearside, prefix: &str, count: u64) {
    const STEP: u64 = 8;
    let mut client = Client::connect(proxy.port());
    let mut get = |number: u64, out: &mut Vec<u8>| command(out, &[b"GET", &key(prefix, number)]);
    for _ in 0..20 {
        client.pipelined_by(STEP, count.next_multiple_of(STEP) * 2, |index, out| {
            get(((index / (2 * STEP)) * STEP + index % STEP).min(count - 1), out);
        });
        let before = proxy.lookups();
        client.pipelined(count, &mut get);
        if proxy.lookups().0 - before.0 == count {
            return;
        }
    }
    panic!("the cache does not take all {count} keys: {:?}", proxy.lookups());
}

/// A run of redis-benchmark, on the load's core unless `cores` says otherwise.
#[derive(Debug)]
pub struct Load<'l> {
    pub port: u16,
    pub socket: Option<&'l Path>,
    pub is_tls: bool,
    pub cores: &'l str,
    pub threads: u64,
    pub clients: u64,
    pub pipeline: u64,
    pub requests: u64,
    pub keys: u64,
    pub command: &'l [&'l str],
}

impl Load<'_> {
    pub fn run(&self) {
        let number = |number: u64| number.to_string();
        let mut command = Command::new("taskset");
        command.args(["-c", self.cores, "redis-benchmark", "-q", "--csv"]);
        match self.socket {
            Some(path) => command.arg("-s").arg(path),
            None => command.args(["-h", "127.0.0.1", "-p", &number(self.port.into())]),
        };
        if self.is_tls {
            command.args(["--tls", "--insecure"]);
        }
        if self.threads > 1 {
            command.args(["--threads", &number(self.threads)]);
        }
        command.args(["-c", &number(self.clients), "-P", &number(self.pipeline)]);
        command.args(["-n", &number(self.requests), "-r", &number(self.keys)]);
        let done = command.args(self.command).output().expect("taskset and redis-benchmark");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "redis-benchmark failed: {said}");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(!said.contains("Error"), "redis-benchmark: {said}");
    }

    /// CPU microseconds per request of `server` during this run.
    pub fn cost(&self, server: &Server) -> f64 {
        let before = server.cpu_ns();
        self.run();
        (server.cpu_ns() - before) as f64 / 1000.0 / self.requests as f64
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The value below which this share of them is; sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    assert!(!values.is_empty(), "nothing of this kind was seen");
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// `SplitMix64`, from its seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Runs each of `sides` once a round, in turn; the median of each.
pub fn interleaved(rounds: u64, sides: &mut [&mut dyn FnMut() -> f64]) -> Vec<f64> {
    let mut seen = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        for (side, values) in sides.iter_mut().zip(&mut seen) {
            values.push(side());
        }
    }
    seen.iter().map(|values| median(values)).collect()
}

/// The bench's one table.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 5]>,
    missed: bool,
}

impl Table {
    /// A figure held against a bar: at most `bar`.
    pub fn bar(&mut self, what: &str, parts: &str, figure: f64, bar: f64) {
        assert!(figure.is_finite() && figure >= 0.0, "{what}: {figure} is no figure");
        let verdict = if figure <= bar { "PASS" } else { "MISS" };
        self.missed |= figure > bar;
        self.add(what, parts, &format!("{figure:.3}"), &format!("<= {bar}"), verdict);
    }

    /// A figure that is published only.
    pub fn published(&mut self, what: &str, parts: &str, figure: f64) {
        assert!(figure.is_finite() && figure >= 0.0, "{what}: {figure} is no figure");
        self.add(what, parts, &format!("{figure:.3}"), "published", "");
    }

    fn add(&mut self, what: &str, parts: &str, figure: &str, bar: &str, verdict: &str) {
        eprintln!("  {what}: {figure} ({parts}) {verdict}");
        let row = [what, parts, figure, bar, verdict];
        self.rows.push(row.map(str::to_owned));
    }

    /// Prints it as Markdown.
    pub fn print(&self, asked: &Asked) {
        if asked.smoke {
            println!("smoke run: it works; the figures below mean nothing");
        }
        println!("| what | measured | figure | bar | |\n|---|---|---|---|---|");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        if self.missed && !asked.smoke {
            println!("\nat least one bar is MISSED");
        }
    }
}

/// A folder of this run, removed when dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("nearside-bench-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
