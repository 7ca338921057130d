//! Latency over a slow link, and how much work is taken off the server.
//!
//! `cargo bench --bench latency -- [--smoke] [link mix relief neighbours]`. See benches/README.md.
//!
//! The load is a set of tasks of this process, pinned to core 1; nearside, the relay and the
//! server share core 0, so that nobody waits behind the load generator.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark: whatever fails ends it, and it reads the clock"
)]

mod support;

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{
    Asked, Client, LOAD_CORE, Nearside, Random, SERVER_CORE, Server, Table, command, median,
    percentile, pin_self, redis, relay, stalls::Stalls,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const CLIENTS: usize = 200;
/// What the server calls the keys; through the proxy they are asked for without it.
const VERSION: &str = "v1:";
/// Round trip of the mix's link.
const MIX_LINK: Duration = Duration::from_micros(500);
/// Commands a second of the paced mix: far from the limit of either side, so that what is seen is
/// latency and not a queue.
const PACE: u64 = 10_000;
/// Room for 100,000 of the mix's entries, whose mean is 3.0 kB.
const ROOM: &str = "cache.max_memory=310mb";

fn main() {
    relay::serve_if_asked();
    let asked = Asked::read(&["link", "mix", "relief", "neighbours"]);
    pin_self(LOAD_CORE);
    let mut table = Table::default();
    if asked.wants("link") {
        link(&asked, &mut table);
    }
    if asked.wants("mix") || asked.wants("relief") {
        let server = redis(SERVER_CORE);
        let keys = Rc::new(Keys::new(asked.scale(1_000_000, 2_000) as usize));
        keys.preload(&server);
        if asked.wants("mix") {
            mix(&asked, &mut table, &server, &keys);
        }
        if asked.wants("relief") {
            relief(&asked, &mut table, &server, &keys);
        }
    }
    if asked.wants("neighbours") {
        neighbours(&asked, &mut table);
    }
    table.print(&asked);
}

/// A 1 ms link: a hit does not cross it.
fn link(asked: &Asked, table: &mut Table) {
    let server = redis(SERVER_CORE);
    let slow = relay::start_relay(SERVER_CORE, server.port, Duration::from_micros(500));
    let proxy = Nearside::start(SERVER_CORE, slow.port, &[]);
    let count = asked.scale(1_000, 20);
    let p50 = |port: u16| {
        let mut client = Client::connect(port);
        client.ask(&[b"SET", b"a", &[b'v'; 64]]);
        let mut seen = Vec::new();
        // The first are misses, by the doorkeeper and by chance.
        for _ in 0..count + 5 {
            let begun = Instant::now();
            assert!(client.ask(&[b"GET", b"a"]).is_some());
            seen.push(begun.elapsed().as_nanos() as f64 / 1000.0);
        }
        median(&seen)
    };
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..asked.scale(3, 1) {
        seen[0].push(p50(proxy.port()));
        seen[1].push(p50(slow.port));
    }
    let (hit, direct) = (median(&seen[0]), median(&seen[1]));
    let text = format!("hit {hit:.0} us, direct {direct:.0} us");
    table.bar("1 ms link: p50 of a hit / direct", &text, hit / direct, 0.1);
}

/// The mix's keys: sizes log-uniform from 64 B to 16 KB, popularity Zipf 1.0, both fixed by key.
struct Keys {
    /// Cumulative weight of the ranks.
    weights: Vec<f64>,
    bytes: Vec<u8>,
}

impl Keys {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let weigh = |rank: usize| {
            sum += 1.0 / (rank + 1) as f64;
            sum
        };
        Self { weights: (0..count).map(weigh).collect(), bytes: vec![b'v'; 16 * 1024] }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let last = self.weights.last().copied().unwrap_or(1.0);
        let at = random.unit() * last;
        self.weights.partition_point(|weight| *weight < at).min(self.weights.len() - 1)
    }

    fn value(&self, key: usize) -> &[u8] {
        let unit = Random(key as u64 + 1).unit();
        &self.bytes[..(64.0 * 256_f64.powf(unit)) as usize]
    }

    fn preload(&self, server: &Server) {
        Client::connect(server.port).pipelined(self.weights.len() as u64, |index, out| {
            let name = format!("{VERSION}item:{index}");
            command(out, &[b"SET", name.as_bytes(), self.value(index as usize)]);
        });
    }
}

/// Where a run's commands go.
#[derive(Clone)]
struct Path {
    /// Proxies, or the server itself.
    ports: Vec<u16>,
    /// Stands before the keys there.
    prefix: &'static str,
    /// Half of the writes go here, with the version before the key.
    server: u16,
    writes: f64,
    /// Commands a second over all clients; `None` = as fast as they go.
    pace: Option<u64>,
}

/// When a command began, and the microseconds that it took.
type Took = (Instant, f64);

/// Each command, by what it was.
#[derive(Default)]
struct Seen {
    reads: Vec<Took>,
    writes: Vec<Took>,
}

impl Seen {
    fn len(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    /// What no stall of the machine touched; all of it where stalls cannot be seen.
    fn spared(&self, stalls: Option<&Stalls>) -> Self {
        let keep = |(begun, us): &Took| {
            stalls
                .is_none_or(|stalls| stalls.spared(*begun, Duration::from_nanos((us * 1e3) as u64)))
        };
        let of = |seen: &[Took]| seen.iter().copied().filter(keep).collect();
        Self { reads: of(&self.reads), writes: of(&self.writes) }
    }
}

/// Runs `count` commands of the mix over 200 connections.
fn run(path: &Path, keys: &Rc<Keys>, count: u64, seed: u64) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let local = tokio::task::LocalSet::new();
    let start = |number: usize| {
        let (path, keys, seen) = (path.clone(), Rc::clone(keys), Rc::clone(&seen));
        let random = Random(seed.wrapping_mul(1_000).wrapping_add(number as u64));
        local.spawn_local(client(path, keys, seen, number, count / CLIENTS as u64, random))
    };
    let clients: Vec<_> = (0..CLIENTS).map(start).collect();
    runtime.expect("a runtime").block_on(local.run_until(async {
        for client in clients {
            client.await.expect("no client fails");
        }
    }));
    seen.take()
}

async fn client(
    path: Path,
    keys: Rc<Keys>,
    seen: Rc<RefCell<Seen>>,
    number: usize,
    count: u64,
    mut random: Random,
) {
    let mut own = Link::open(path.ports[number % path.ports.len()]).await;
    let mut server = Link::open(path.server).await;
    let pause = path.pace.map(|pace| Duration::from_nanos(1_000_000_000 * CLIENTS as u64 / pace));
    for _ in 0..count {
        if let Some(pause) = pause {
            tokio::time::sleep(pause.mul_f64(2.0 * random.unit())).await;
        }
        let key = keys.draw(&mut random);
        let is_write = random.unit() < path.writes;
        if is_write && random.unit() < 0.5 {
            let name = format!("{VERSION}item:{key}");
            server.ask(&[b"SET", name.as_bytes(), keys.value(key)]).await;
            continue;
        }
        let name = format!("{}item:{key}", path.prefix);
        let begun = Instant::now();
        if is_write {
            own.ask(&[b"SET", name.as_bytes(), keys.value(key)]).await;
        } else {
            own.ask(&[b"GET", name.as_bytes()]).await;
        }
        let took = begun.elapsed().as_nanos() as f64 / 1000.0;
        let mut seen = seen.borrow_mut();
        if is_write { seen.writes.push((begun, took)) } else { seen.reads.push((begun, took)) }
    }
}

struct Link(BufReader<TcpStream>, Vec<u8>);

impl Link {
    async fn open(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("a server");
        socket.set_nodelay(true).expect("a socket");
        Self(BufReader::with_capacity(32 * 1024, socket), Vec::new())
    }

    async fn ask(&mut self, args: &[&[u8]]) {
        self.1.clear();
        command(&mut self.1, args);
        self.0.write_all(&self.1).await.expect("a server");
        self.1.clear();
        self.0.read_until(b'\n', &mut self.1).await.expect("a reply");
        let line = String::from_utf8_lossy(&self.1).trim_end().to_owned();
        assert!(line.starts_with(['$', '+']) && line != "$-1", "unexpected reply `{line}`");
        if let Some(length) = line.strip_prefix('$') {
            let length: usize = length.parse().expect("a length");
            self.1.resize(length + 2, 0);
            self.0.read_exact(&mut self.1).await.expect("a reply");
        }
    }
}

/// p50, p99, p99.9.
type Three = [f64; 3];

fn three(seen: &[Took]) -> Three {
    let mut values: Vec<f64> = seen.iter().map(|(_, us)| *us).collect();
    [0.5, 0.99, 0.999].map(|share| percentile(&mut values, share))
}

fn medians(rounds: &[Three]) -> Three {
    [0, 1, 2].map(|index| median(&rounds.iter().map(|three| three[index]).collect::<Vec<_>>()))
}

/// A read that was answered sooner than the link's round trip has not crossed it: a hit (or it
/// joined a read that was out already). A slow hit counts as a miss: the table shows nearside's
/// own count of hits beside this one.
fn is_fast((_, us): &Took) -> bool {
    *us < MIX_LINK.as_micros() as f64
}

/// Overall, hits, misses, writes; direct overall, direct writes: each a round's figures.
type Rounds = [Vec<Three>; 6];

fn add(rounds: &mut Rounds, ours: &Seen, direct: &Seen) {
    let (hits, misses): (Vec<Took>, Vec<Took>) = ours.reads.iter().partition(|took| is_fast(took));
    let all = |seen: &Seen| three(&[&seen.reads[..], &seen.writes].concat());
    let [hit, miss, write] = [&hits, &misses, &ours.writes].map(|seen| three(seen));
    let figures = [all(ours), hit, miss, write, all(direct), three(&direct.writes)];
    for (list, figure) in rounds.iter_mut().zip(figures) {
        list.push(figure);
    }
}

fn mix(asked: &Asked, table: &mut Table, server: &Server, keys: &Rc<Keys>) {
    let slow = relay::start_relay(SERVER_CORE, server.port, MIX_LINK / 2);
    let proxy = Nearside::start(SERVER_CORE, slow.port, &[ROOM]);
    let (writes, pace) = (0.05, Some(PACE));
    let ours = Path { ports: vec![proxy.port()], prefix: "", server: slow.port, writes, pace };
    let direct = Path { ports: vec![slow.port], prefix: VERSION, ..ours };
    run(&Path { pace: None, ..ours.clone() }, keys, asked.scale(2_000_000, 10_000), 1);
    let count = asked.scale(100_000, 2_000);
    let stalls = Stalls::watch(&[SERVER_CORE, LOAD_CORE]);
    let (mut all, mut spared): (Rounds, Rounds) = Default::default();
    let (mut counted, mut reads, mut fast) = (0, 0, 0);
    let (mut run_count, mut spared_count) = (0, 0);
    for round in 0..asked.scale(3, 1) {
        let before = proxy.lookups().0;
        let near = run(&ours, keys, count, 100 + round);
        counted += proxy.lookups().0 - before;
        let far = run(&direct, keys, count, 200 + round);
        reads += near.reads.len();
        fast += near.reads.iter().filter(|took| is_fast(took)).count();
        let (near_spared, far_spared) = (near.spared(stalls.as_ref()), far.spared(stalls.as_ref()));
        run_count += near.len() + far.len();
        spared_count += near_spared.len() + far_spared.len();
        add(&mut all, &near, &far);
        add(&mut spared, &near_spared, &far_spared);
    }
    let [overall, hit, miss, write, plain, plain_write] = spared.map(|rounds| medians(&rounds));
    let text = format!("p50 {:.0} us, direct {:.0} us", overall[0], plain[0]);
    table.bar("mix: overall p50 / direct", &text, overall[0] / plain[0], 0.4);
    for (what, ours, theirs) in [("miss", miss, plain), ("write", write, plain_write)] {
        let text = format!("p99 {:.0} us, direct {:.0} us", ours[1], theirs[1]);
        let over = ((ours[1] - theirs[1]) / 1000.0).max(0.0);
        table.bar(&format!("mix: p99 of a {what} over direct, ms"), &text, over, 0.15);
    }
    for (what, [p50, p99, p999]) in
        [("hit", hit), ("miss", miss), ("write", write), ("direct", plain)]
    {
        let text = format!("p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us");
        table.published(&format!("mix: p50 of a {what}, us"), &text, p50);
    }
    let text = format!("of {reads} reads {fast} were faster than the link, {counted} were hits");
    table.published("mix: hits / reads", &text, counted as f64 / reads as f64);
    let [_, _, miss, write, plain, plain_write] = all.map(|rounds| medians(&rounds)[1]);
    let text = format!(
        "else p99 of a miss {miss:.0} us, a write {write:.0}, direct {plain:.0}, write {plain_write:.0}"
    );
    let share = 1.0 - spared_count as f64 / run_count as f64;
    table.published("mix: left out, the machine stood still", &text, share);
}

/// What the server did: commands, CPU microseconds, bytes in and out.
fn work(server: &Server) -> [f64; 3] {
    let mut client = Client::connect(server.port);
    let mut figure = |section: &str, name: &str| {
        let text = client.ask(&[b"INFO", section.as_bytes()]).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        line.and_then(|number| number.trim().parse::<f64>().ok()).expect("INFO")
    };
    let cpu = figure("cpu", "used_cpu_user:") + figure("cpu", "used_cpu_sys:");
    let input = figure("stats", "total_net_input_bytes:");
    let output = figure("stats", "total_net_output_bytes:");
    [figure("stats", "total_commands_processed:"), cpu * 1e6, input + output]
}

/// Work of the server per client command, over a run as fast as it goes.
fn measured(server: &Server, path: &Path, keys: &Rc<Keys>, count: u64, seed: u64) -> [f64; 3] {
    let before = work(server);
    run(path, keys, count, seed);
    let after = work(server);
    [0, 1, 2].map(|index| (after[index] - before[index]) / count as f64)
}

fn relief(asked: &Asked, table: &mut Table, server: &Server, keys: &Rc<Keys>) {
    let (count, warm) = (asked.scale(1_000_000, 4_000), asked.scale(1_000_000, 4_000));
    let rounds = asked.scale(3, 1);
    // The one with a bar first: all of them take a while.
    for writes in [0.05, 0.0, 0.01, 0.20] {
        for proxies in [1, 10] {
            let start = |_| Nearside::start(SERVER_CORE, server.port, &[ROOM]);
            let proxies: Vec<Nearside> = (0..proxies).map(start).collect();
            let ports = proxies.iter().map(Nearside::port).collect();
            let ours = Path { ports, prefix: "", server: server.port, writes, pace: None };
            let direct = Path { ports: vec![server.port], prefix: VERSION, ..ours };
            run(&ours, keys, warm * proxies.len().min(4) as u64, 1);
            let mut all: [Vec<Three>; 2] = Default::default();
            for round in 0..rounds {
                all[0].push(measured(server, &ours, keys, count, 10 + round));
                all[1].push(measured(server, &direct, keys, count, 20 + round));
            }
            let [ours, direct] = all.map(|rounds| medians(&rounds));
            let cell = format!("relief: {} proxies, {:.0} % writes", proxies.len(), writes * 100.0);
            let what = format!("{cell}: server commands per client command");
            let text = format!("direct {:.3}", direct[0]);
            if proxies.len() == 1 && (writes - 0.05_f64).abs() < 1e-9 {
                table.bar(&what, &text, ours[0], 0.40);
            } else {
                table.published(&what, &text, ours[0]);
            }
            let text = format!("{:.2} us, direct {:.2} us", ours[1], direct[1]);
            table.bar(&format!("{cell}: server CPU / direct"), &text, ours[1] / direct[1], 1.05);
            let text = format!("{:.0} bytes, direct {:.0} bytes", ours[2], direct[2]);
            table.published(&format!("{cell}: server bytes / direct"), &text, ours[2] / direct[2]);
        }
    }
}

/// Fields of the neighbours' hash, each of 1000 bytes.
const FIELDS: u64 = 10_000;
/// Bytes of HGETALL's answer: the array's header, and of each field name and value.
const WHOLE: usize = 8 + FIELDS as usize * (12 + 1009);

/// One client reads 10 MB again and again; what do others see who read what nobody has cached?
fn neighbours(asked: &Asked, table: &mut Table) {
    let server = redis(SERVER_CORE);
    let mut client = Client::connect(server.port);
    let (big, value) = (format!("{VERSION}big"), [b'v'; 1000]);
    client.pipelined(FIELDS, |index, out| {
        command(out, &[b"HSET", big.as_bytes(), format!("f{index:05}").as_bytes(), &value]);
    });
    let proxy = Nearside::start(SERVER_CORE, server.port, &[]);
    let span = Duration::from_millis(asked.scale(5_000, 200));
    let (mut ours, mut direct) = (Vec::new(), Vec::new());
    let mut whole = [0, 0];
    for round in 0..asked.scale(5, 1) {
        for (path, seen) in [(&proxy.port(), &mut ours), (&server.port, &mut direct)] {
            let is_direct = *path == server.port;
            let prefix = if is_direct { VERSION } else { "" };
            let (mut took, answers) = beside_a_big_one(*path, prefix, round, span);
            whole[usize::from(is_direct)] += answers;
            seen.push([percentile(&mut took, 0.5), percentile(&mut took, 0.99)]);
        }
    }
    let of = |seen: &[[f64; 2]], at: usize| {
        median(&seen.iter().map(|figures| figures[at]).collect::<Vec<_>>())
    };
    for (at, name) in ["p50", "p99"].into_iter().enumerate() {
        let (ours, direct) = (of(&ours, at), of(&direct, at));
        let text = format!("{ours:.0} us, direct {direct:.0} us");
        let what = format!("beside HGETALL of 10 MB: {name} of others' misses / direct");
        if at == 0 {
            table.published(&what, &text, ours / direct);
        } else {
            table.bar(&what, &text, ours / direct, 1.5);
        }
    }
    let text = format!("{} and {} answers", whole[0], whole[1]);
    table.published("answers of 10 MB / direct", &text, whole[0] as f64 / whole[1] as f64);
}

/// Microseconds of the others' reads, and how many big answers came meanwhile. Each key is read
/// once: nothing of it is a hit.
fn beside_a_big_one(port: u16, prefix: &str, round: u64, span: Duration) -> (Vec<f64>, u64) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let big = scope.spawn(|| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a server");
            let (mut request, mut answers) = (Vec::new(), 0);
            command(&mut request, &[b"HGETALL", format!("{prefix}big").as_bytes()]);
            let mut buffer = vec![0; 256 * 1024];
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(&request).expect("a server");
                let mut left = WHOLE;
                while left > 0 {
                    let read = stream.read(&mut buffer).expect("an answer");
                    assert!(read > 0 && read <= left, "an answer of {WHOLE} bytes");
                    left -= read;
                }
                answers += 1;
            }
            answers
        });
        let others: Vec<_> = (0..8)
            .map(|nth| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let (mut client, mut took) = (Client::connect(port), Vec::new());
                    let mut next = 0_u64;
                    while !is_over.load(Ordering::Relaxed) {
                        let key = format!("{prefix}other:{round}:{nth}:{next}");
                        let begun = Instant::now();
                        client.ask(&[b"GET", key.as_bytes()]);
                        took.push(begun.elapsed().as_nanos() as f64 / 1000.0);
                        next += 1;
                    }
                    took
                })
            })
            .collect();
        std::thread::sleep(span);
        is_over.store(true, Ordering::Relaxed);
        let took = others.into_iter().flat_map(|other| other.join().expect("a client")).collect();
        (took, big.join().expect("a client"))
    })
}
