//! Rows of real servers: killed, stopped, full of connections, weary of idle ones, behind an
//! address that moves, and no primary any more.
//!
//! The server writes everything to its disk before it answers, so what was acknowledged must be
//! there after a kill.

use crate::client::{Client, once};
use crate::crew::Crew;
use crate::harness::{Kind, Server, eventually};
use crate::judge::judge;
use crate::order::Order;
use crate::relay::Relay;
use crate::report::Tally;
use crate::target::{QUICK, Target};
use crate::upstream::Upstream;
use nearside::units::clock::Clock;
use std::time::Duration;

pub(crate) const SAFE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// One row's function.
pub(crate) type Row = fn(&Order, &mut Tally);

pub(crate) const ROWS: &[(&str, &str, Row)] = &[
    ("F01", "upstream killed, and started again", killed),
    ("F02", "upstream stopped until requests time out", stopped),
    ("F04", "nothing moves on any connection until requests time out", still),
    ("F24", "the primary behind an address is demoted and lives on", demoted),
    ("F43", "upstream closes who connects", closed),
    ("F43", "upstream refuses who connects", refused),
    ("F44", "upstream has no room for connections", full),
    ("F45", "upstream closes idle links", idle),
];

fn killed(order: &Order, tally: &mut Tally) {
    let mut server = Server::with(Kind::Redis, SAFE);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        server.kill();
        tally.injected += 1;
        server.restart();
        let begun = clock.now();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    judge(tally, crew, &target, server.port);
}

fn stopped(order: &Order, tally: &mut Tally) {
    let server = Server::with(Kind::Redis, SAFE);
    let target = Target::start(order.which, server.port, &QUICK);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        server.freeze();
        tally.injected += 1;
        crew.until_struck();
        server.thaw();
        let begun = clock.now();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    // What lay in the sockets of links that were given up is executed at last.
    eventually("the server is done with it", || {
        let list = String::from_utf8_lossy(&once(server.port, "CLIENT LIST").ok()?).into_owned();
        list.lines().all(|line| !line.contains("qbuf=1")).then_some(())
    });
    judge(tally, crew, &target, server.port);
}

fn still(order: &Order, tally: &mut Tally) {
    let upstream = Upstream::start(order.upstream_port()).unwrap();
    let target = Target::start(order.which, upstream.port, &QUICK);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        upstream.blacken(true);
        tally.injected += 1;
        crew.until_struck();
        upstream.blacken(false);
        let begun = clock.now();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    judge(tally, crew, &target, upstream.port);
}

/// A moving address: whoever connects comes to the primary of the moment, and whoever is connected
/// stays where it is.
fn demoted(order: &Order, tally: &mut Tally) {
    let servers = [Server::with(Kind::Redis, SAFE), Server::with(Kind::Redis, SAFE)];
    let relay = Relay::start(servers[0].port);
    let target = Target::start(order.which, relay.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for turn in 0..order.times(1) as usize {
        let [old, new] = [&servers[turn % 2], &servers[(turn + 1) % 2]];
        follow(new.port, old.port);
        // Nothing is lost with the old one: that is the failover's part, and not the proxy's.
        crew.rest();
        eventually("the replica has everything", || {
            let offset = |port| field(port, "INFO replication", "master_repl_offset");
            (offset(old.port)? == offset(new.port)?).then_some(())
        });
        once(new.port, "REPLICAOF NO ONE").unwrap();
        relay.lead_to(new.port);
        follow(old.port, new.port);
        tally.injected += 1;
        let begun = clock.now();
        crew.go_on();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    let limit = Duration::from_secs(1);
    let took = tally.recovery;
    tally.rule(!order.is_long() || took <= limit, || format!("{took:?} without writes"));
    let now = servers[order.times(1) as usize % 2].port;
    judge(tally, crew, &target, now);
}

/// Has one server become the replica of another, and waits until it has all that there is.
fn follow(replica: u16, primary: u16) {
    once(replica, &format!("REPLICAOF 127.0.0.1 {primary}")).unwrap();
    eventually("the replica is in step", || {
        let link = once(replica, "INFO replication").ok()?;
        String::from_utf8_lossy(&link).contains("master_link_status:up").then_some(())
    });
}

/// A number of INFO.
fn field(port: u16, command: &str, name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(&once(port, command).ok()?).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

/// How often it is tried to connect while upstream closes who does.
fn closed(order: &Order, tally: &mut Tally) {
    let upstream = Upstream::start(order.upstream_port()).unwrap();
    let target = Target::start(order.which, upstream.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    upstream.close_all(true);
    tally.injected = count(order, tally, || upstream.accepted());
    let begun = clock.now();
    upstream.close_all(false);
    crew.until_well();
    tally.recovered(clock.now().since(begun));
    judge(tally, crew, &target, upstream.port);
}

/// Waits for some attempts to connect; they must not come faster than they may. (The first few
/// follow each other at once.)
pub(crate) fn count(order: &Order, tally: &mut Tally, attempts: impl Fn() -> u64) -> u64 {
    let wanted = if order.is_long() { 100 } else { 20 };
    let (clock, before) = (Clock::system(), attempts());
    let begun = clock.now();
    let made = eventually("it is tried to connect", || {
        let made = attempts() - before;
        (made >= wanted).then_some(made)
    });
    let seconds = clock.now().since(begun).as_secs_f64();
    tally.notes.push(format!("{:.1} attempts/s", made as f64 / seconds));
    let most = (seconds * 10.0) as u64 + 6;
    tally.rule(made <= most, || format!("{made} attempts to connect in {seconds:.1} s"));
    made
}

fn refused(order: &Order, tally: &mut Tally) {
    let mut server = Server::with(Kind::Redis, SAFE);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    server.kill();
    tally.injected = 1;
    match &target.nearside {
        Some(proxy) => {
            count(order, tally, || proxy.count("nearside_upstream_connects_total"));
        }
        // Nobody counts what is refused.
        None => crew.until_struck(),
    }
    server.restart();
    let begun = clock.now();
    crew.until_well();
    tally.recovered(clock.now().since(begun));
    judge(tally, crew, &target, server.port);
}

/// Clients that want a link of their own get none; those that share one notice nothing.
fn full(order: &Order, tally: &mut Tally) {
    let server = Server::with(Kind::Redis, &[SAFE, &["--maxclients", "24"]].concat());
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    // (Room is left for whoever looks at the end.)
    let mut held = Vec::new();
    while let Ok(mut conn) = Client::dial(server.port) {
        if !conn.words("PING").is_ok_and(|reply| reply.starts_with(b"+")) {
            break;
        }
        held.push(conn);
    }
    for _ in 0..order.times(5) {
        let mut culprit = Client::dial(target.port).unwrap();
        tally.injected += 1;
        let is_served = culprit.words("BLPOP nothing 0.1").is_ok_and(|r| r.starts_with(b"*"));
        tally.culprit += u64::from(!is_served);
    }
    crew.until_well();
    drop(held);
    eventually("there is room again", || {
        let mut culprit = Client::dial(target.port).ok()?;
        culprit.words("BLPOP nothing 0.01").ok()?.starts_with(b"*").then_some(())
    });
    tally.allowed = Some(0);
    judge(tally, crew, &target, server.port);
}

fn idle(order: &Order, tally: &mut Tally) {
    let server = Server::with(Kind::Redis, SAFE);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    for _ in 0..order.times(1) {
        crew.rest();
        once(server.port, "CONFIG SET timeout 1").unwrap();
        // Those that were open before; the tracking link is never idle.
        eventually("idle links are closed", || {
            let list = once(server.port, "CLIENT LIST").ok()?;
            let list = String::from_utf8_lossy(&list).into_owned();
            let is_data = |line: &&str| line.contains("cmd=") && !is_kept(line);
            (list.lines().filter(is_data).count() == 0).then_some(())
        });
        tally.injected += 1;
        once(server.port, "CONFIG SET timeout 0").unwrap();
        crew.go_on();
        crew.until_well();
    }
    tally.allowed = Some(0);
    judge(tally, crew, &target, server.port);
}

/// True of a connection that tracks, or listens, or is the one that asks.
fn is_kept(line: &str) -> bool {
    let flags = line.split(' ').find_map(|word| word.strip_prefix("flags=")).unwrap_or_default();
    flags.contains(['t', 'P']) || line.contains("cmd=client|list")
}
