//! What coherence costs, and what clients see of a flood of invalidations and of an outage.
//!
//! `cargo bench --bench coherence -- [--smoke] [costs flood outage]`. See benches/README.md.

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

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{
    Asked, Client, Folder, LOAD_CORE, Load, Nearside, Random, SERVER_CORE, Server, Table, command,
    free_port, interleaved, key, median, percentile, pin_self, preload, redis, total, warm,
};

/// Keys that the flood writes.
const FLOODED: u64 = 100_000;
/// Keys a second that it writes, and how many at a time.
const FLOOD: u64 = 100_000;
const FLOOD_STEP: u64 = 250;
/// Keys that are read meanwhile.
const HOT: u64 = 1_000;

fn main() {
    let asked = Asked::read(&["costs", "flood", "outage"]);
    let mut table = Table::default();
    pin_self(LOAD_CORE);
    if asked.wants("costs") {
        costs(&asked, &mut table);
        heartbeat(&asked, &mut table);
    }
    if asked.wants("flood") {
        flood(&asked, &mut table);
    }
    if asked.wants("outage") {
        outage(&asked, &mut table);
    }
    table.print(&asked);
}

/// What is done beside a read that is stored: each round with a proxy of its own, whose cache is
/// empty, and ten keys for each request.
fn costs(asked: &Asked, table: &mut Table) {
    let server = redis(LOAD_CORE);
    let keys = asked.scale(1_000_000, 20_000);
    preload(server.port, "v1:key", keys);
    for pipeline in [1, 16] {
        let cost = |set: &str| {
            let sets = ["cache.admission=\"always\"", "cache.max_memory=2gb", set];
            let proxy = Nearside::start(SERVER_CORE, server.port, &sets);
            let whole = 50 * pipeline;
            let requests = (keys / 10 / whole).max(1) * whole;
            let load = Load {
                port: proxy.port(),
                socket: None,
                is_tls: false,
                cores: LOAD_CORE,
                threads: 1,
                clients: 50,
                pipeline,
                requests,
                keys,
                command: &["GET", "key:__rand_int__"],
            };
            let cost = load.cost(&proxy.server);
            let (hits, misses) = proxy.lookups();
            let stored = total(&proxy.metrics(), r#"nearside_cache_stores_total{result="stored"}"#);
            assert!(
                hits * 10 <= requests && stored * 1.1 >= misses as f64,
                "an invalid round: {hits} hits, {misses} misses, {stored} stored"
            );
            cost
        };
        let all = ["off", "fills", "strict"].map(|level| format!("cache.verify={level:?}"));
        let bare = "cache.ttl_probe=\"never\"";
        let figures = interleaved(
            asked.scale(5, 1),
            &mut [&mut || cost(&all[0]), &mut || cost(&all[1]), &mut || cost(&all[2]), &mut || {
                cost(bare)
            }],
        );
        let [off, fills, strict, never] = figures[..] else { panic!("four sides") };
        for (what, a, b) in [
            ("verify = fills / off", fills, off),
            ("verify = strict / off", strict, off),
            ("a PTTL with each fill / none", fills, never),
        ] {
            let text = format!("{a:.2} us, {b:.2} us");
            table.published(&format!("CPU of a stored read, P={pipeline}: {what}"), &text, a / b);
        }
    }
}

/// The rounds of the tracking link, when nothing else happens: share of one core.
fn heartbeat(asked: &Asked, table: &mut Table) {
    let span = Duration::from_millis(asked.scale(10_000, 500));
    let share = |max_staleness: &str| {
        let server = redis(LOAD_CORE);
        let proxy = Nearside::start(
            SERVER_CORE,
            server.port,
            &[&format!("cache.max_staleness={max_staleness:?}")],
        );
        let before = (proxy.server.cpu_ns(), server.cpu_ns());
        thread::sleep(span);
        let spent = (proxy.server.cpu_ns() - before.0, server.cpu_ns() - before.1);
        let of = |ns: u64| ns as f64 / span.as_nanos() as f64 * 100.0;
        (of(spent.0), of(spent.1))
    };
    let (second, minute) = (share("1s"), share("60s"));
    let text = format!(
        "nearside {:.3} %, server {:.3} %; 4 a minute {:.3} %, {:.3} %",
        second.0, second.1, minute.0, minute.1
    );
    let more = (second.0 + second.1 - minute.0 - minute.1).max(0.0);
    table.published(
        "idle, 4 rounds of the tracking link a second: per cent of a core more",
        &text,
        more,
    );
}

/// 100,000 keys a second are written under the prefix that is listened to; and, for what the
/// machine's two cores bear, outside of it.
fn flood(asked: &Asked, table: &mut Table) {
    let server = redis(SERVER_CORE);
    let proxy = Nearside::start(SERVER_CORE, server.port, &[]);
    preload(server.port, "v1:hot", HOT);
    preload(server.port, "hot", HOT);
    warm(&proxy, "hot", HOT);
    let span = Duration::from_millis(asked.scale(5_000, 300));
    let before = proxy.server.rss();
    let (mut seen, mut rates, mut misses) = ([Vec::new(), Vec::new()], Vec::new(), 0);
    for _ in 0..asked.scale(5, 1) {
        for (side, prefix) in seen.iter_mut().zip(["other", "v1:flood"]) {
            let missed = proxy.lookups().1;
            let (p99, rate) = read_beside(&proxy, server.port, prefix, span);
            side.push(p99);
            rates.push(rate);
            misses += proxy.lookups().1 - missed;
        }
    }
    let grown = proxy.server.rss().saturating_sub(before) as f64 / 1e6;
    let [outside, inside] = seen.map(|side| median(&side));
    let heard = total(&proxy.metrics(), "nearside_cache_invalidations_total");
    let text = format!(
        "p99 {inside:.0} us, outside {outside:.0} us; {:.0} keys/s written, {heard:.0} invalidations \
         heard, {misses} misses",
        median(&rates)
    );
    table.bar("flood: p99 of a hit, invalidations / none", &text, inside / outside, 2.0);
    table.bar("flood: memory grown, MB", &format!("{FLOODED} keys"), grown, 32.0);
}

/// p99 of hits in microseconds while somebody writes, and how many keys a second that were.
fn read_beside(proxy: &Nearside, server: u16, prefix: &str, span: Duration) -> (f64, f64) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&is_over, server, prefix));
        let mut client = Client::connect(proxy.port());
        let (begun, mut took) = (Instant::now(), Vec::new());
        while begun.elapsed() < span {
            let at = Instant::now();
            assert!(client.ask(&[b"GET", &key("hot", took.len() as u64 % HOT)]).is_some());
            took.push(at.elapsed().as_nanos() as f64 / 1000.0);
        }
        is_over.store(true, Ordering::Relaxed);
        (percentile(&mut took, 0.99), writer.join().expect("a writer"))
    })
}

/// Writes [`FLOOD`] keys a second; answers how many it has.
fn write_until(is_over: &AtomicBool, server: u16, prefix: &str) -> f64 {
    let mut client = Client::connect(server);
    let (begun, mut written) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let from = written;
        client.pipelined(FLOOD_STEP, |index, out| {
            command(out, &[b"SET", &key(prefix, (from + index) % FLOODED), b"v"]);
        });
        written += FLOOD_STEP;
        let due = Duration::from_secs_f64(written as f64 / FLOOD as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    written as f64 / begun.elapsed().as_secs_f64()
}

/// Clients of the outage, how many commands a second they send in all, and of how many keys.
const CLIENTS: u64 = 64;
const PACE: u64 = 4_000;
const KEYS: u64 = 10_000;

/// What clients have seen: when each command was sent, and its microseconds; none: it failed.
type Seen = Vec<(Instant, Option<f64>)>;

/// The server stands still for three seconds, is killed and started anew with its data.
fn outage(asked: &Asked, table: &mut Table) {
    let folder = Folder::new();
    let port = free_port();
    let server = kept(&folder, port);
    let proxy = Nearside::start(SERVER_CORE, port, &[]);
    preload(port, "v1:item", KEYS);
    let (steady, after) = (asked.scale(10_000, 700), asked.scale(10_000, 700));
    let (is_over, polls) = (AtomicBool::new(false), parking_lot::Mutex::new(Vec::new()));
    let (mut begun, mut back) = (Instant::now(), Instant::now());
    let mut seen: Seen = thread::scope(|scope| {
        let play = |number| {
            scope.spawn({
                let (is_over, port) = (&is_over, proxy.port());
                move || play(number, port, is_over)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(play).collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let count = processed(port);
                polls.lock().extend(count.map(|count| (Instant::now(), count)));
                thread::sleep(Duration::from_millis(50));
            }
        });
        // The first half of it warms the cache.
        thread::sleep(Duration::from_millis(steady));
        begun = Instant::now();
        thread::sleep(Duration::from_millis(steady));
        signal(&server, "STOP");
        thread::sleep(Duration::from_millis(asked.scale(3_000, 300)));
        drop(server);
        let again = kept(&folder, port);
        while processed(port).is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        back = Instant::now();
        thread::sleep(Duration::from_millis(after));
        is_over.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().flat_map(|client| client.join().expect("a client"));
        let seen = seen.collect();
        drop(again);
        seen
    });
    seen.sort_by_key(|(at, _)| *at);
    report(table, &seen, &polls.into_inner(), (begun, Duration::from_millis(steady)), back);
}

fn report(
    table: &mut Table,
    seen: &Seen,
    polls: &[(Instant, f64)],
    (begun, steady): (Instant, Duration),
    back: Instant,
) {
    let until = begun + steady;
    let of = |from: Instant, to: Instant| {
        let within = seen.iter().filter(|(at, _)| (from..to).contains(at));
        within.filter_map(|(_, took)| *took).collect::<Vec<f64>>()
    };
    let steady_p99 = percentile(&mut of(begun, until), 0.99);
    let (steady_rate, load) = (fastest(polls, begun, until), of(begun, until).len() as f64);
    let after = seen.last().expect("clients have asked").0;
    let rate = fastest(polls, back, after);
    let load = load / steady.as_secs_f64();
    let text = format!("{rate:.0}/s, before {steady_rate:.0}/s; clients sent {load:.0}/s");
    table.bar("outage: commands of upstream afterwards / clients' own", &text, rate / load, 1.5);
    table.published("outage: commands of upstream afterwards / before", &text, rate / steady_rate);

    let quarter = Duration::from_millis(250);
    // Of so many quarters of a second together, at each quarter.
    let p99s = |from: Instant, to: Instant, together: u32| -> Vec<f64> {
        let at = (0..(to - from).as_millis() as u32 / 250).map(|index| from + quarter * index);
        at.map(|at| of(at, at + quarter * together))
            .map(|mut took| if took.is_empty() { f64::MAX } else { percentile(&mut took, 0.99) })
            .collect()
    };
    let late = |p99: &f64| *p99 > 2.0 * steady_p99;
    let count =
        |p99s: &[f64]| format!("{} of {}", p99s.iter().filter(|p99| late(p99)).count(), p99s.len());
    let (before, since) = (p99s(begun, until, 1), p99s(back, after, 1));
    let failed = seen.iter().filter(|(_, took)| took.is_none()).count();
    let first: Vec<_> = since.iter().take(8).map(|p99| format!("{:.1}", p99 / 1000.0)).collect();
    let text = format!(
        "p99 before {steady_p99:.0} us; then, by quarters of a second, ms: {} ...; {failed} commands \
         failed in the outage",
        first.join(" ")
    );
    // A whole second of it: a single stall of the machine is in a quarter's p99 at any time.
    let seconds = p99s(back, after, 4).iter().position(|p99| !late(p99));
    let seconds = seconds.map_or(f64::MAX, |quarters| quarters as f64 * quarter.as_secs_f64());
    table.bar("outage: s until p99 is at most twice what it was", &text, seconds, 2.0);
    let rest = back + ((after - back) / 2).min(Duration::from_secs(2));
    let p99 = percentile(&mut of(rest, after), 0.99);
    let text = format!(
        "{p99:.0} us; quarters of a second with more than twice: {}, before {}",
        count(&since),
        count(&before)
    );
    table.bar("outage: p99 from 2 s on / before", &text, p99 / steady_p99, 2.0);
}

/// Commands a second of the server in its busiest second.
fn fastest(polls: &[(Instant, f64)], from: Instant, to: Instant) -> f64 {
    let within: Vec<_> = polls.iter().filter(|(at, _)| (from..to).contains(at)).collect();
    let mut most = 0_f64;
    for (index, (at, count)) in within.iter().enumerate() {
        let second = Duration::from_secs(1).min((to - from) / 2);
        if let Some((end, more)) = within[index..].iter().find(|(end, _)| *end >= *at + second) {
            most = most.max((more - count) / (*end - *at).as_secs_f64());
        }
    }
    most
}

/// A server that keeps its data.
fn kept(folder: &Folder, port: u16) -> Server {
    let args = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"];
    let mut args: Vec<String> = args.map(str::to_owned).into();
    args.push(folder.0.to_string_lossy().into_owned());
    args.extend(["--appendonly", "yes"].map(str::to_owned));
    Server::start(SERVER_CORE, Path::new("redis-server"), &args, port)
}

fn signal(server: &Server, signal: &str) {
    let pid = server.pid().to_string();
    let done = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
    assert!(done.is_ok_and(|status| status.success()), "kill -{signal} {pid}");
}

/// Commands that the server has executed, these not counted; none: it does not answer.
fn processed(port: u16) -> Option<f64> {
    let mut socket = BufReader::new(TcpStream::connect(("127.0.0.1", port)).ok()?);
    socket.get_mut().set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    socket.get_mut().write_all(b"INFO stats\r\n").ok()?;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if let Some(count) = line.trim_end().strip_prefix("total_commands_processed:") {
            return count.parse().ok();
        }
    }
}

/// One client: 5 % writes, keys by a power law, at its share of the pace; after a failure it
/// connects anew.
fn play(number: u64, port: u16, is_over: &AtomicBool) -> Seen {
    let (mut link, mut seen) = (None, Seen::new());
    let pause = Duration::from_nanos(1_000_000_000 * CLIENTS / PACE);
    let mut random = Random(number + 1);
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(pause.mul_f64(2.0 * random.unit()));
        let item = key("item", (KEYS as f64).powf(random.unit()) as u64 - 1);
        let mut out = Vec::new();
        if random.unit() < 0.05 {
            command(&mut out, &[b"SET", &item, &[b'v'; 64]]);
        } else {
            command(&mut out, &[b"GET", &item]);
        }
        let at = Instant::now();
        let answer = ask(&mut link, port, &out);
        seen.push((at, answer.map(|()| at.elapsed().as_nanos() as f64 / 1000.0)));
        if answer.is_none() {
            link = None;
        }
    }
    seen
}

/// None: the connection has ended, or there was an error.
fn ask(link: &mut Option<BufReader<TcpStream>>, port: u16, request: &[u8]) -> Option<()> {
    if link.is_none() {
        let socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
        socket.set_nodelay(true).ok()?;
        *link = Some(BufReader::new(socket));
    }
    let link = link.as_mut()?;
    link.get_mut().write_all(request).ok()?;
    let mut line = String::new();
    link.read_line(&mut line).ok().filter(|length| *length > 0)?;
    match line.trim_end().split_at_checked(1)? {
        ("$", length) => {
            let mut value = vec![0; length.parse::<usize>().ok()? + 2];
            link.read_exact(&mut value).ok()
        }
        ("+", _) => Some(()),
        _ => None,
    }
}
