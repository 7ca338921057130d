//! CPU per request against redis-server, a bare echo server, Envoy, twemproxy and `HAProxy`; two
//! workers against one; a Unix socket against TCP; TLS; memory of idle connections.
//!
//! `cargo bench --bench compare -- [--smoke] [hits tls echo passthrough haproxy misses unix million
//! workers idle older]`. See benches/README.md.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: whatever fails ends it"
)]

mod support;

use std::path::Path;
use support::peers::{envoy, haproxy, twemproxy};
use support::{
    Asked, Client, Folder, LOAD_CORE, Load, Nearside, SERVER_CORE, Server, Table, command,
    free_port, interleaved, key, median, preload, redis, redis_with, relay, warm,
};

const NAMES: [&str; 11] = [
    "hits",
    "tls",
    "echo",
    "passthrough",
    "haproxy",
    "misses",
    "unix",
    "million",
    "workers",
    "idle",
    "older",
];
const GET: [&str; 2] = ["GET", "key:__rand_int__"];
const GET_BYPASSED: [&str; 2] = ["GET", "lock:__rand_int__"];
const VALUE: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";
const SET_BYPASSED: [&str; 3] = ["SET", "lock:__rand_int__", VALUE];

struct Bench {
    asked: Asked,
    table: Table,
    rounds: u64,
    keys: u64,
}

/// A measurement: its rows are added to the table.
type Measure = fn(&mut Bench);

fn main() {
    relay::serve_if_asked();
    let asked = Asked::read(&NAMES);
    let (rounds, keys) = (asked.scale(9, 1), asked.scale(100_000, 1_000));
    let mut bench = Bench { asked, table: Table::default(), rounds, keys };
    let all: [(&str, Measure); 11] = [
        ("hits", hits),
        ("tls", tls),
        ("echo", echo),
        ("passthrough", passthrough),
        ("haproxy", tcp_mode),
        ("misses", misses),
        ("unix", unix),
        ("million", million),
        ("workers", workers),
        ("idle", idle),
        ("older", older),
    ];
    for (name, run) in all {
        if bench.asked.wants(name) {
            eprintln!("{name}");
            run(&mut bench);
        }
    }
    bench.table.print(&bench.asked);
}

impl Bench {
    /// 50 clients on core 1.
    fn load<'l>(&self, port: u16, pipeline: u64, keys: u64, command: &'l [&'l str]) -> Load<'l> {
        let full = if pipeline == 1 { 200_000 } else { 1_000_000 };
        // Whole pipelines of every client, so that the tool sends exactly as many.
        let whole = 50 * pipeline;
        let requests = self.asked.scale(full, 2_000).div_ceil(whole) * whole;
        let (socket, cores, threads, clients) = (None, LOAD_CORE, 1, 50);
        let is_tls = false;
        Load { port, socket, is_tls, cores, threads, clients, pipeline, requests, keys, command }
    }
}

/// The cost of a hit; a round in which anything but hits was counted is no round.
fn hit_cost(proxy: &Nearside, load: &Load<'_>) -> f64 {
    let before = proxy.lookups();
    let cost = load.cost(&proxy.server);
    let after = proxy.lookups();
    let (hits, misses) = (after.0 - before.0, after.1 - before.1);
    let is_valid = hits == load.requests && misses == 0;
    assert!(is_valid, "an invalid round: {hits} hits, {misses} misses, {} sent", load.requests);
    cost
}

/// Keys for the direct runs and, through the proxy, under its version; then only hits are left.
fn filled(upstream: &Server, keys: u64, sets: &[&str]) -> Nearside {
    let proxy = Nearside::start(SERVER_CORE, upstream.port, sets);
    preload(upstream.port, "key", keys);
    preload(proxy.port(), "key", keys);
    warm(&proxy, "key", keys);
    proxy
}

fn parts(a: &str, ours: f64, b: &str, theirs: f64) -> String {
    format!("{a} {ours:.3} us, {b} {theirs:.3} us")
}

fn hits(bench: &mut Bench) {
    let server = redis(SERVER_CORE);
    let proxy = filled(&server, bench.keys, &[]);
    for (pipeline, bar) in [(1, 1.0), (16, 0.75), (100, 0.45)] {
        let ours = bench.load(proxy.port(), pipeline, bench.keys, &GET);
        let theirs = bench.load(server.port, pipeline, bench.keys, &GET);
        let costs = interleaved(
            bench.rounds,
            &mut [&mut || hit_cost(&proxy, &ours), &mut || theirs.cost(&server)],
        );
        let what = format!("hit GET P={pipeline} / redis-server");
        let parts = parts("nearside", costs[0], "redis", costs[1]);
        bench.table.bar(&what, &parts, costs[0] / costs[1], bar);
    }
}

/// The same by TLS on both sides, with one certificate. (What the 50 handshakes of a run cost is in
/// the figures.)
fn tls(bench: &mut Bench) {
    let folder = Folder::new();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let cert = folder.file("tls.crt", &own.cert.pem());
    let key = folder.file("tls.key", &own.signing_key.serialize_pem());
    let (theirs, ours) = (free_port(), free_port());
    let port = theirs.to_string();
    let args = ["--tls-port", &port, "--tls-auth-clients", "no"];
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let server = redis_with(SERVER_CORE, &[&args[..], &files[..]].concat());
    let sets = [
        format!("server.tls.listen=[\"127.0.0.1:{ours}\"]"),
        format!("server.tls.cert_file=\"{cert}\""),
        format!("server.tls.key_file=\"{key}\""),
    ];
    let proxy = filled(&server, bench.keys, &sets.each_ref().map(String::as_str));
    for pipeline in [1, 16] {
        let load = |port| Load { is_tls: true, ..bench.load(port, pipeline, bench.keys, &GET) };
        let costs = interleaved(
            bench.rounds,
            &mut [&mut || hit_cost(&proxy, &load(ours)), &mut || load(theirs).cost(&server)],
        );
        let what = format!("hit GET by TLS P={pipeline} / redis-server by TLS");
        let parts = parts("nearside", costs[0], "redis", costs[1]);
        bench.table.bar(&what, &parts, costs[0] / costs[1], 1.0);
    }
}

/// This build against an older one, named by the variable OLDER: a change may cost 3 % and what
/// the old build differs from itself.
fn older(bench: &mut Bench) {
    let Some(program) = std::env::var_os("OLDER") else {
        eprintln!("  older: left out, OLDER=PATH names no binary");
        return;
    };
    let server = redis(SERVER_CORE);
    let path = Path::new(&program);
    let start = || Nearside::start_program(path, SERVER_CORE, server.port, &[], &[]);
    let (new, old, again) = (Nearside::start(SERVER_CORE, server.port, &[]), start(), start());
    // Written once: what another proxy writes is no hit any more.
    preload(new.port(), "key", bench.keys);
    for proxy in [&new, &old, &again] {
        warm(proxy, "key", bench.keys);
    }
    for pipeline in [1, 16, 100] {
        let cost = |proxy: &Nearside| {
            hit_cost(proxy, &bench.load(proxy.port(), pipeline, bench.keys, &GET))
        };
        let rounds: Vec<[f64; 3]> =
            (0..bench.rounds).map(|_| [&new, &old, &again].map(cost)).collect();
        let ratio = |side: usize| {
            median(&rounds.iter().map(|round| round[side] / round[1]).collect::<Vec<_>>())
        };
        let spread = (ratio(2) - 1.0).abs();
        let what = format!("hit GET P={pipeline}: this build / the older");
        let parts = format!("the older against itself: {spread:.3}");
        let bar = ((1.03 + spread) * 1_000.0).round() / 1_000.0;
        bench.table.bar(&what, &parts, ratio(0), bar);
    }
}

fn echo(bench: &mut Bench) {
    let server = redis(SERVER_CORE);
    let proxy = filled(&server, bench.keys, &[]);
    let echo = relay::start_echo(SERVER_CORE);
    let ours = bench.load(proxy.port(), 16, bench.keys, &GET);
    let theirs = bench.load(echo.port, 16, bench.keys, &GET);
    let costs = interleaved(
        bench.rounds,
        &mut [&mut || hit_cost(&proxy, &ours), &mut || theirs.cost(&echo)],
    );
    let parts = parts("nearside", costs[0], "echo", costs[1]);
    bench.table.bar("hit GET P=16 / bare echo", &parts, costs[0] / costs[1], 1.35);
}

/// `lock:*` is level bypass in the checked-in rules: rewritten, never cached. The upstream shares
/// the load's core, so that the proxy has core 0 to itself.
fn passthrough(bench: &mut Bench) {
    let (folder, server) = (Folder::new(), redis(LOAD_CORE));
    let proxy = Nearside::start(SERVER_CORE, server.port, &[]);
    let (envoy, twem) = (envoy(&folder, server.port), twemproxy(&folder, server.port));
    preload(proxy.port(), "lock", bench.keys);
    preload(server.port, "lock", bench.keys);
    assert_same_key(&proxy, &envoy);
    let commands: [(&str, &[&str]); 2] = [("GET", &GET_BYPASSED), ("SET", &SET_BYPASSED)];
    for (name, command) in commands {
        for pipeline in [16, 64] {
            let load = |port| bench.load(port, pipeline, bench.keys, command);
            let costs = interleaved(
                bench.rounds,
                &mut [
                    &mut || load(proxy.port()).cost(&proxy.server),
                    &mut || load(envoy.port).cost(&envoy),
                    &mut || load(twem.port).cost(&twem),
                ],
            );
            let what = format!("pass-through {name} P={pipeline} / Envoy");
            let text = parts("nearside", costs[0], "envoy", costs[1]);
            bench.table.bar(&what, &text, costs[0] / costs[1], 0.33);
            let what = format!("pass-through {name} P={pipeline} / twemproxy (no rewrite)");
            let text = parts("nearside", costs[0], "twemproxy", costs[2]);
            bench.table.published(&what, &text, costs[0] / costs[2]);
        }
    }
}

/// Both proxies rewrite alike: what one writes the other reads.
fn assert_same_key(proxy: &Nearside, envoy: &Server) {
    let name = key("lock", 1);
    Client::connect(proxy.port()).ask(&[b"SET", &name, VALUE.as_bytes()]);
    let read = Client::connect(envoy.port).ask(&[b"GET", &name]);
    assert_eq!(read.as_deref(), Some(VALUE.as_bytes()), "Envoy rewrites keys in another way");
}

fn tcp_mode(bench: &mut Bench) {
    let (folder, server) = (Folder::new(), redis(LOAD_CORE));
    let proxy = Nearside::start(SERVER_CORE, server.port, &[]);
    let peer = haproxy(&folder, server.port);
    preload(proxy.port(), "lock", bench.keys);
    preload(server.port, "lock", bench.keys);
    let load = |port| bench.load(port, 1, bench.keys, &GET_BYPASSED);
    let costs = interleaved(
        bench.rounds,
        &mut [&mut || load(proxy.port()).cost(&proxy.server), &mut || load(peer.port).cost(&peer)],
    );
    let parts = parts("nearside", costs[0], "haproxy", costs[1]);
    bench.table.bar("pass-through P=1 / HAProxy TCP", &parts, costs[0] / costs[1], 1.0);
}

/// Every round has a proxy of its own, whose cache is empty, and ten keys for each request.
fn misses(bench: &mut Bench) {
    let (folder, server) = (Folder::new(), redis(LOAD_CORE));
    let envoy = envoy(&folder, server.port);
    let keys = bench.asked.scale(2_000_000, 20_000);
    preload(server.port, "v1:key", keys);
    let load = |port| Load { requests: keys / 10, ..bench.load(port, 16, keys, &GET) };
    let ours = || {
        let sets = ["cache.admission=\"always\"", "cache.max_memory=2gb"];
        let proxy = Nearside::start(SERVER_CORE, server.port, &sets);
        let load = load(proxy.port());
        let cost = load.cost(&proxy.server);
        let (hits, missed) = proxy.lookups();
        assert!(hits * 10 <= load.requests, "an invalid round: {hits} hits, {missed} misses");
        cost
    };
    let costs =
        interleaved(bench.rounds, &mut [&mut { ours }, &mut || load(envoy.port).cost(&envoy)]);
    let parts = parts("nearside", costs[0], "envoy", costs[1]);
    bench.table.published(
        "GET, every one a miss and a fill, P=16 / Envoy's GET",
        &parts,
        costs[0] / costs[1],
    );
}

fn unix(bench: &mut Bench) {
    let (folder, server) = (Folder::new(), redis(SERVER_CORE));
    let path = folder.0.join("nearside.sock");
    let more = ["--listen".to_owned(), format!("unix:{}", path.display())];
    let proxy = Nearside::start_with(SERVER_CORE, server.port, &[], &more);
    preload(proxy.port(), "key", bench.keys);
    warm(&proxy, "key", bench.keys);
    for pipeline in [1, 16] {
        let tcp = bench.load(proxy.port(), pipeline, bench.keys, &GET);
        let socket: Option<&Path> = Some(&path);
        let unix = Load { socket, ..bench.load(proxy.port(), pipeline, bench.keys, &GET) };
        let costs = interleaved(
            bench.rounds,
            &mut [&mut || hit_cost(&proxy, &unix), &mut || hit_cost(&proxy, &tcp)],
        );
        let what = format!("hit GET P={pipeline}: Unix socket / TCP");
        let parts = parts("unix", costs[0], "tcp", costs[1]);
        bench.table.published(&what, &parts, costs[0] / costs[1]);
    }
}

fn million(bench: &mut Bench) {
    let keys = bench.asked.scale(1_000_000, 5_000);
    let server = redis(SERVER_CORE);
    let proxy = filled(&server, keys, &["cache.max_memory=2gb"]);
    let ours = bench.load(proxy.port(), 16, keys, &GET);
    let theirs = bench.load(server.port, 16, keys, &GET);
    let costs = interleaved(
        bench.rounds,
        &mut [&mut || hit_cost(&proxy, &ours), &mut || theirs.cost(&server)],
    );
    let parts = parts("nearside", costs[0], "redis", costs[1]);
    bench.table.bar(
        "hit GET, 1 M keys at random, P=16 / redis-server",
        &parts,
        costs[0] / costs[1],
        0.75,
    );
}

/// Each worker's share is taken from its thread's CPU time.
fn workers(bench: &mut Bench) {
    let server = redis("0,1");
    let one = Nearside::start("0,1", server.port, &["server.workers=1"]);
    let two = Nearside::start("0,1", server.port, &["server.workers=2"]);
    preload(one.port(), "key", bench.keys);
    warm(&one, "key", bench.keys);
    warm(&two, "key", bench.keys);
    let load = |port| Load { cores: "0,1", threads: 2, ..bench.load(port, 16, bench.keys, &GET) };
    let before = two.worker_hits();
    let costs = interleaved(
        bench.rounds,
        &mut [&mut || hit_cost(&two, &load(two.port())), &mut || hit_cost(&one, &load(one.port()))],
    );
    let served: Vec<u64> = two.worker_hits().iter().zip(&before).map(|(a, b)| a - b).collect();
    assert_eq!(served.len(), 2, "a counter for each worker");
    let least = served[0].min(served[1]) as f64 / (served[0] + served[1]) as f64;
    let text = parts("two", costs[0], "one", costs[1]);
    bench.table.bar("hit GET P=16: two workers / one", &text, costs[0] / costs[1], 1.15);
    let text = format!("the smaller worker serves {least:.3} of the hits; 0.4 is wanted");
    bench.table.bar("two workers: 0.4 / smaller share", &text, 0.4 / least, 1.0);
}

fn idle(bench: &mut Bench) {
    let count = bench.asked.scale(10_000, 500);
    let files = nearside::net::limits::fit_open_files(12_000);
    eprintln!("  open files: {files:?}");
    let server = redis(SERVER_CORE);
    let proxy = Nearside::start(SERVER_CORE, server.port, &["server.max_clients=12000"]);
    let name = key("key", 1);
    Client::connect(proxy.port()).ask(&[b"SET", &name, VALUE.as_bytes()]);
    let mut get = Vec::new();
    command(&mut get, &[b"GET", &name]);
    let before = proxy.server.rss();
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(proxy.port());
        client.send(&get);
        assert!(client.reply().is_some());
        clients.push(client);
    }
    // Idle buffers are given back after a second.
    std::thread::sleep(std::time::Duration::from_secs(if bench.asked.smoke { 1 } else { 5 }));
    let (rss, held) = (proxy.server.rss(), clients.len());
    let mb = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    let text = format!("{held} connections; {:.1} MB before them", mb(before));
    bench.table.bar("idle connections after one GET each: RSS in MB", &text, mb(rss), 60.0);
}
