//! Instructions per request of the sans-IO core, under callgrind: a hit, a pass-through, a miss
//! with its fill, the same with its canary (`cache.verify = "fills"`), each in pipelines of 16.
//! Later changes are held against benches/icount.toml.
//!
//! `cargo bench --bench icount -- [--smoke] [--update]`. The program runs itself under valgrind;
//! only what happens inside [`measured_feed`], [`measured_seal`] and [`measured_settle`] is counted. The worker is
//! the real one and its upstream is this file: what it queues is thrown away, and the answers are
//! put where a link would have read them. The client's socket is real (a pair), so one write call
//! for each pipeline is part of the figure, without the kernel's side of it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a benchmark: whatever fails ends it"
)]

use bytes::BytesMut;
use nearside::app::App;
use nearside::config::{self, Overrides};
use nearside::data::upstream::ClientId;
use nearside::data::worker::Worker;
use nearside::net::client::{ClientStream, Socket};
use nearside::stats::Counter;
use nearside::units::clock::Clock;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PIPELINE: usize = 16;
const BATCHES: usize = 200;
const CASES: [&str; 4] = ["hit", "pass", "miss", "verified"];
/// A figure this much above the one written down is a fault.
const SLACK: f64 = 1.03;
/// What a canary begins with; its word follows.
const CANARY: &[u8] = b"*2\r\n$4\r\nPING\r\n";
const ME: ClientId = ClientId { place: 0, number: 0 };
const VALUE: &str = "$64\r\nvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", case, batches] => drive(case, batches.parse().expect("a number")),
        [] => compare(false, false),
        ["--smoke"] => compare(true, false),
        ["--update"] => compare(false, true),
        _ => {
            eprintln!("unknown arguments {args:?}; known: --smoke --update");
            std::process::exit(2);
        }
    }
}

fn ratchet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/icount.toml")
}

fn compare(smoke: bool, update: bool) {
    let text = std::fs::read_to_string(ratchet()).expect("benches/icount.toml");
    let known: toml::Table = toml::from_str(&text).expect("benches/icount.toml");
    let mut written =
        String::from("# Instructions per request; see benches/icount.rs. `--update` writes it.\n");
    let mut is_over = false;
    println!("| case, P={PIPELINE} | instructions per request | bar | |\n|---|---|---|---|");
    for case in CASES {
        let batches = if smoke { 5 } else { BATCHES };
        // Less what setting the stage takes.
        let whole = count(case, batches) - count(case, 0);
        let figure = whole / (batches * PIPELINE) as f64;
        assert!(figure > 50.0, "{case}: {figure} instructions are too few to be true");
        // A case without a figure is over its bar: `--update` writes one.
        let bar = known.get(case).and_then(toml::Value::as_integer).unwrap_or(0) as f64 * SLACK;
        is_over |= figure > bar;
        let verdict = if figure <= bar { "PASS" } else { "MISS" };
        println!("| {case} | {figure:.0} | <= {bar:.0} | {verdict} |");
        writeln!(written, "{case} = {figure:.0}").expect("memory");
    }
    if update {
        std::fs::write(ratchet(), written).expect("benches/icount.toml");
    } else if is_over && !smoke {
        eprintln!("more than 3 % above benches/icount.toml");
        std::process::exit(1);
    }
}

/// Instructions inside the measured functions.
fn count(case: &str, batches: usize) -> f64 {
    let file = std::env::temp_dir().join(format!("nearside-icount-{}", std::process::id()));
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured_*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().expect("this program"))
        .args(["--case", case, &batches.to_string()])
        .output()
        .expect("valgrind is missing: apt-get install valgrind");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{case} failed under valgrind:\n{said}");
    let text = std::fs::read_to_string(&file).expect("callgrind's file");
    std::fs::remove_file(&file).ok();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    line.and_then(|sum| sum.trim().parse().ok()).expect("callgrind's sum")
}

/// A worker, a client of it, and this file as its upstream.
struct Stage {
    worker: Rc<Worker>,
    client: UnixStream,
    spare: BytesMut,
}

fn drive(case: &str, batches: usize) {
    let runtime = nearside::app::runtime().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let verify = if case == "verified" { "\"fills\"" } else { "\"off\"" };
        let mut stage = Stage::set(verify).await;
        match case {
            "hit" => {
                let keys = batch(0, "key");
                stage.miss(&keys);
                let before = stage.hits();
                (0..batches).for_each(|_| stage.feed(&keys));
                assert_eq!(stage.hits() - before, (batches * PIPELINE) as u64, "only hits");
            }
            "pass" => {
                let keys = batch(0, "lock");
                (0..batches).for_each(|_| stage.pass(&keys));
            }
            "miss" | "verified" => {
                (0..batches).for_each(|number| stage.miss(&batch(number, "key")));
                let entries = stage.worker.shared.cache.figures().entries;
                assert_eq!(entries, (batches * PIPELINE) as u64, "every miss fills");
            }
            _ => panic!("no such case: {case}"),
        }
        // Not through the drop of what runs: no link task may come up.
        std::process::exit(0);
    });
}

/// One pipeline of GETs.
fn batch(number: usize, prefix: &str) -> Vec<u8> {
    let get = |index: usize| {
        let key = format!("{prefix}:{:012}", number * PIPELINE + index);
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
    };
    (0..PIPELINE).map(get).collect::<String>().into_bytes()
}

fn requests_in(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'*', bytes).count()
}

impl Stage {
    async fn set(verify: &str) -> Self {
        let flag = |key: &str, value: &str| (key.to_owned(), key.to_owned(), value.to_owned());
        let overrides = Overrides {
            file: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml")),
            environment: Vec::new(),
            flags: vec![
                flag("upstream.url", "\"redis://127.0.0.1:1\""),
                flag("server.listen", "[\"127.0.0.1:0\"]"),
                flag("server.workers", "1"),
                flag("cache.admission", "\"always\""),
                flag("cache.verify", verify),
                // No thread may say that the link is lost: this file says that it is up.
                flag("invalidation.tracking", "\"off\""),
            ],
        };
        let settings = config::load(&overrides).expect("settings").settings;
        let (clock, hands) = Clock::manual();
        hands.advance(Duration::from_secs(1));
        let app = App::start(settings, overrides, clock.clone()).expect("a proxy");
        let shared = Arc::clone(app.shared());
        shared.cache.tracking_up();
        shared.cache.tracking().synced(clock.now());
        let block = app.stats().new_worker_block();
        let worker = Worker::new(shared, block, 0, Arc::new(AtomicUsize::new(1)));
        let (near, client) = UnixStream::pair().expect("a pair");
        for socket in [&near, &client] {
            socket.set_nonblocking(true).expect("a socket");
        }
        let socket = Socket::unix(near, Arc::from(Path::new("/bench")));
        worker.admit(ClientStream::from_std(socket).expect("a socket"));
        // Its task runs once and learns that the socket can be written.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::mem::forget(app);
        let mut stage = Self { worker, client, spare: BytesMut::new() };
        // Before a client's first reply few requests go out: nobody knows yet how long replies are.
        stage.pass(b"*2\r\n$3\r\nGET\r\n$6\r\nlock:a\r\n");
        stage
    }

    fn hits(&self) -> u64 {
        self.worker.block.counter(Counter::LookupHit)
    }

    fn feed(&mut self, requests: &[u8]) {
        measured_feed(&self.worker, requests);
        self.drain();
    }

    /// Forwarded, answered.
    fn pass(&mut self, requests: &[u8]) {
        self.feed(requests);
        self.answer(VALUE, requests);
    }

    /// Asked upstream with PTTL, stored and proved.
    fn miss(&mut self, requests: &[u8]) {
        self.feed(requests);
        self.answer(&format!("{VALUE}:-1\r\n"), requests);
    }

    fn answer(&mut self, each: &str, requests: &[u8]) {
        self.worker.link_up(0, 0, false);
        let mut sent = measured_seal(&self.worker);
        assert!(!sent.is_empty(), "nothing was asked upstream");
        let mut input = self.worker.take_input(0);
        input.extend_from_slice(each.repeat(requests_in(requests)).as_bytes());
        if let Some(at) = memchr::memmem::rfind(&sent, CANARY) {
            // A canary is answered with its own word.
            input.extend_from_slice(&sent[at + CANARY.len()..]);
        }
        sent.clear();
        self.worker.put_back_writing(0, sent);
        self.worker.put_back_input(0, input);
        measured_settle(&self.worker);
        self.drain();
    }

    /// Reads all that the client was sent.
    fn drain(&mut self) {
        self.spare.resize(64 * 1024, 0);
        while self.client.read(&mut self.spare).is_ok_and(|count| count > 0) {}
    }
}

#[inline(never)]
fn measured_feed(worker: &Rc<Worker>, requests: &[u8]) {
    worker.feed(ME, requests);
}

#[inline(never)]
fn measured_seal(worker: &Rc<Worker>) -> BytesMut {
    worker.seal(0)
}

#[inline(never)]
fn measured_settle(worker: &Rc<Worker>) {
    worker.settle(0).expect("answers that fit");
}
