//! Rows of what the process is given: descriptors, memory, a name that moves, a configuration that
//! is wrong. They start nearside in their own way, so they have no other proxy under test.

use crate::client::{Client, once};
use crate::crew::Crew;
use crate::harness::{Kind, Proxy, Server, eventually};
use crate::judge::judge;
use crate::names::{NAME, Names};
use crate::order::Order;
use crate::report::Tally;
use crate::servers::{Row, SAFE};
use crate::target::{SETTINGS, Target};
use nearside::units::clock::Clock;
use std::fs;

pub(crate) const ROWS: &[(&str, &str, Row)] = &[
    ("F41", "upstream's name leads elsewhere, or nobody knows where", renamed),
    ("F65", "no descriptors left", descriptors),
    ("F66", "four times the values that there is room for", full),
    ("F72", "a configuration that is wrong", misconfigured),
];

/// After a failover the name leads to another address; then nobody knows where it leads, and where
/// it led last is right; then it leads back. The server listens where it is meant to be, and at
/// 127.0.0.1 for who looks at it here.
fn renamed(order: &Order, tally: &mut Tally) {
    let names = match Names::new() {
        Ok(names) => names,
        Err(why) => {
            tally.skipped = Some(format!("no mount namespace of its own: {why}"));
            return;
        }
    };
    let at = |place| [SAFE, &["--bind", "127.0.0.1", place]].concat();
    let mut server = Server::with(Kind::Redis, &at("127.0.0.2"));
    names.lead_to(Some("127.0.0.2"));
    let program = names.program();
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let url = format!("redis://{NAME}:{}", server.port);
    let target = Target::of(Proxy::start_by(&program, &url, SETTINGS, &[]));
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        for (place, is_known) in [("127.0.0.3", true), ("127.0.0.3", false), ("127.0.0.2", true)] {
            names.lead_to(is_known.then_some(place));
            server.kill();
            tally.injected += 1;
            server.restart_with(&at(place));
            let begun = clock.now();
            crew.until_well();
            tally.recovered(clock.now().since(begun));
        }
    }
    judge(tally, crew, &target, server.port);
}

/// Each client of its own link takes two: the table is full while there is room for clients.
fn descriptors(order: &Order, tally: &mut Tally) {
    let server = Server::start(Kind::Redis);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    target.limit_files(96);
    let mut held = Vec::new();
    for _ in 0..120 {
        let Ok(mut client) = Client::dial(target.port) else { break };
        // One that waits for a link, or for its turn to be accepted, may never get an answer.
        client.send(b"*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$1\r\n0\r\n").ok();
        held.push(client);
        tally.injected += 1;
    }
    crew.until_well();
    drop(held);
    eventually("a new client is served", || {
        let answer = once(target.port, "BLPOP nothing 0.01").ok()?;
        answer.starts_with(b"*").then_some(())
    });
    tally.allowed = Some(0);
    judge(tally, crew, &target, server.port);
}

fn full(order: &Order, tally: &mut Tally) {
    const CAP: u64 = 32 << 20;
    let server = Server::start(Kind::Redis);
    let settings = ["cache.max_memory = \"32mb\"", "cache.admission = \"always\""];
    let target = Target::start(order.which, server.port, &settings);
    let crew = Crew::start(target.port, 2, order.seed);
    let mut client = Client::dial(target.port).unwrap();
    let value = "x".repeat(16 * 1024);
    let (count, mut most) = (order.times(4) * CAP / value.len() as u64, 0);
    for number in 0..count {
        let key = format!("fill:{number}");
        client.ask(&["SET", &key, &value]).unwrap();
        client.ask(&["GET", &key]).unwrap();
        if number % 512 == 0 {
            most = most.max(target.resident());
        }
    }
    tally.injected = count;
    let bar = CAP * 115 / 100 + (64 << 20);
    tally.notes.push(format!("{} MB of {} MB", most >> 20, bar >> 20));
    tally.rule(most <= bar, || format!("{most} bytes of memory"));
    tally.allowed = Some(0);
    judge(tally, crew, &target, server.port);
}

fn misconfigured(order: &Order, tally: &mut Tally) {
    let server = Server::start(Kind::Redis);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let Some(proxy) = &target.nearside else { return };
    let path = proxy.folder.path().join("proxy.toml");
    let good = fs::read_to_string(&path).unwrap();
    for wrong in [
        "upstream.url = \"redis://127.0.0.1:0\"x",
        "cache.level = \"never\"",
        "server.tls.listen = [\"127.0.0.1:1\"]\nserver.tls.cert_file = \"/nowhere\"",
        "no.such.key = 1",
    ] {
        let seen = rejections(proxy);
        fs::write(&path, format!("{good}\n{wrong}\n")).unwrap();
        proxy.hangup();
        eventually("it is refused", || (rejections(proxy) > seen).then_some(()));
        tally.injected += 1;
        crew.until_well();
    }
    tally.allowed = Some(0);
    judge(tally, crew, &target, server.port);
}

fn rejections(proxy: &Proxy) -> usize {
    proxy.log().matches("config_rejected").count()
}
