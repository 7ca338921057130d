//! Rows of clients: gone in the middle, silent, greedy, or with more than anybody asks for. Behind
//! the proxy is a real server; nobody else is to notice any of them.

use crate::client::{Client, PATIENCE, once, write};
use crate::crew::Crew;
use crate::harness::{Kind, Server, eventually};
use crate::hostile;
use crate::judge::judge;
use crate::order::Order;
use crate::report::Tally;
use crate::servers::Row;
use crate::target::{Target, processor_time};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

pub(crate) const ROWS: &[(&str, &str, Row)] = &[
    ("F46", "clients that leave in the middle of a pipeline", leaving),
    ("F47", "clients that break off in MULTI, WATCH, BLPOP", breaking_off),
    ("F48", "500 answers of 1 MB, not read", not_reading),
    ("F49", "500 answers of 1 MB, read by drops", dripping_out),
    ("F50", "half commands", half),
    ("F51", "headers of 512 MB, and nothing", declaring),
    ("F56", "a command of 200,000 keys", many),
    ("F57", "a command byte by byte", dripping_in),
    ("F58", "200,000 commands, and no answer read", flooding),
    ("F63", "idle clients", idle),
    ("F78", "requests that are none", poison),
];

/// A server, a proxy before it, four clients at work.
struct Scene {
    server: Server,
    target: Target,
    crew: Crew,
}

impl Scene {
    fn new(order: &Order) -> Self {
        Self::with(order, &[])
    }

    fn with(order: &Order, settings: &[&str]) -> Self {
        let server = Server::start(Kind::Valkey);
        let target = Target::start(order.which, server.port, settings);
        let crew = Crew::start(target.port, 2, order.seed);
        Self { server, target, crew }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        stream
    }

    /// All others are served, were never refused anything, and read what is so.
    fn end(self, tally: &mut Tally) {
        self.crew.until_well();
        tally.allowed = Some(0);
        judge(tally, self.crew, &self.target, self.server.port);
    }
}

fn requests(words: &[&str], count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, words);
    bytes.repeat(count)
}

fn leaving(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let asked = [requests(&["GET", "value:0:0"], 50), requests(&["SET", "left", "1"], 50)].concat();
    for number in 0..order.times(20) {
        let mut stream = scene.dial();
        stream.write_all(&asked[..asked.len() - 1]).unwrap();
        if number % 2 == 0 {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        tally.injected += 1;
    }
    scene.end(tally);
}

/// Nothing is left at the server of what such clients held.
fn breaking_off(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let all: [&[&str]; 3] =
        [&["MULTI", "SET left 1"], &["WATCH left", "PING"], &["PING", "BLPOP nothing 0"]];
    for number in 0..order.times(9) as usize {
        let mut client = Client::dial(scene.target.port).unwrap();
        for line in all[number % 3] {
            let words: Vec<&str> = line.split(' ').collect();
            client.send(&requests(&words, 1)).unwrap();
            if !line.starts_with("BLPOP") {
                client.reply().unwrap();
            }
        }
        tally.injected += 1;
    }
    eventually("nothing is held for who has gone", || {
        let list = once(scene.server.port, "CLIENT LIST").ok()?;
        let list = String::from_utf8_lossy(&list).into_owned();
        let flags = |line: &str| {
            let found = line.split(' ').find_map(|word| word.strip_prefix("flags="));
            found.unwrap_or_default().contains(['b', 'x'])
        };
        let watches = |line: &str| line.contains("watch=") && !line.contains("watch=0");
        (!list.lines().any(|line| flags(line) || watches(line))).then_some(())
    });
    scene.end(tally);
}

/// So many bytes more than before the fault, at the most.
fn grown(scene: &Scene, before: u64) -> u64 {
    scene.target.resident().saturating_sub(before)
}

fn greedy(order: &Order, tally: &mut Tally, reads: bool) {
    let scene = Scene::new(order);
    let mut owner = Client::dial(scene.target.port).unwrap();
    owner.ask(&["SET", "big", &"x".repeat(1 << 20)]).unwrap();
    let before = scene.target.resident();
    let mut most = 0;
    for _ in 0..order.times(1) {
        let mut stream = scene.dial();
        stream.write_all(&requests(&["GET", "big"], 500)).unwrap();
        tally.injected += 1;
        for _ in 0..5 {
            scene.crew.until_well();
            if reads {
                stream.read_exact(&mut [0; 64]).unwrap();
            }
            most = most.max(grown(&scene, before));
        }
    }
    memory(tally, most, 16 << 20);
    scene.end(tally);
}

fn not_reading(order: &Order, tally: &mut Tally) {
    greedy(order, tally, false);
}

fn dripping_out(order: &Order, tally: &mut Tally) {
    greedy(order, tally, true);
}

fn memory(tally: &mut Tally, more: u64, bar: u64) {
    tally.notes.push(format!("memory +{:.1} MB", more as f64 / f64::from(1 << 20)));
    tally.rule(more <= bar, || format!("{more} bytes more, of {bar}"));
}

fn half(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let count = if order.is_long() { 8000 } else { 500 };
    let before = scene.target.resident();
    let halves: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = scene.dial();
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf").unwrap();
            stream
        })
        .collect();
    tally.injected += count;
    scene.crew.until_well();
    memory(tally, grown(&scene, before), count * 16 * 1024 + (4 << 20));
    drop(halves);
    scene.end(tally);
}

fn declaring(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let before = scene.target.resident();
    let declared: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = scene.dial();
            stream.write_all(b"*2\r\n$3\r\nGET\r\n$536870912\r\n").unwrap();
            stream
        })
        .collect();
    tally.injected += 50;
    scene.crew.until_well();
    // What the crew itself has the proxy keep is in it, too.
    memory(tally, grown(&scene, before), 50 * 64 * 1024 + (4 << 20));
    drop(declared);
    scene.end(tally);
}

fn many(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let keys: Vec<String> = (0..200_000).map(|key| format!("many:{key}")).collect();
    let mut client = Client::dial(scene.target.port).unwrap();
    for name in ["DEL", "EXISTS"] {
        let words: Vec<&str> = [name].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let reply = client.ask(&words).unwrap();
        tally.injected += 1;
        let told = || format!("{name}: {}", reply.escape_ascii());
        tally.rule(reply == b":0\r\n" || reply.starts_with(b"-"), told);
    }
    scene.end(tally);
}

/// The second half of the bytes costs what the first does.
fn dripping_in(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    scene.crew.rest();
    let Some(pid) = scene.target.pid() else { return scene.end(tally) };
    let keys: Vec<String> = (0..order.times(1000)).map(|key| format!("drip:{key}")).collect();
    let words: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let request = requests(&words, 1);
    let mut stream = scene.dial();
    let mut costs = Vec::new();
    for part in request.chunks(request.len().div_ceil(2)) {
        let before = processor_time(pid);
        for byte in part {
            stream.write_all(&[*byte]).unwrap();
        }
        tally.injected += part.len() as u64;
        costs.push((processor_time(pid) - before) / part.len() as u64);
    }
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).unwrap();
    tally.rule(reply == *b":0\r\n", || reply.escape_ascii().to_string());
    tally.notes.push(format!("{} ns of CPU a byte, then {} ns", costs[0], costs[1]));
    let is_linear = !order.is_long() || costs[1] < costs[0] * 2;
    tally.rule(is_linear, || format!("{costs:?} ns a byte"));
    scene.crew.go_on();
    scene.end(tally);
}

fn flooding(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let before = scene.target.resident();
    let asked = requests(&["ECHO", "0123456789"], 1000);
    let count = order.times(200);
    let mut stream = scene.dial();
    let mut sent = 0;
    for _ in 0..count {
        // It is not read beyond some point: then there is nothing more to be sent.
        if stream.write_all(&asked).is_err() {
            break;
        }
        sent += 1;
    }
    tally.injected += sent * 1000;
    scene.crew.until_well();
    memory(tally, grown(&scene, before), 16 << 20);
    scene.end(tally);
}

fn idle(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    let before = scene.target.resident();
    let count = if order.is_long() { 9000 } else { 300 };
    let held: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = scene.dial();
            stream.write_all(&requests(&["GET", "value:0:0"], 1)).unwrap();
            stream
        })
        .collect();
    for mut stream in &held {
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    tally.injected += count;
    scene.crew.until_well();
    memory(tally, grown(&scene, before), count * 6 * 1024 + (4 << 20));
    drop(held);
    scene.end(tally);
}

/// Each of the hostile inputs, from a client of its own on the same worker.
fn poison(order: &Order, tally: &mut Tally) {
    let scene = Scene::new(order);
    for _ in 0..order.times(1) {
        tally.injected += hostile::send_all(scene.target.port);
        scene.crew.until_well();
    }
    scene.end(tally);
}
