//! Rows of servers that are there, and refuse: they load their data, have lost their primary, are
//! part of a cluster that is down, or do not know nearside any more.
//!
//! What is refused was not executed, and its client is told so in the server's words: whether it is
//! asked again is for that client, so upstream gets no more than it was asked. Nothing of it is kept.

use crate::client::{Client, once};
use crate::crew::Crew;
use crate::harness::{Kind, Proxy, Server, eventually};
use crate::judge::judge;
use crate::order::Order;
use crate::report::{self, Tally};
use crate::servers::{Row, SAFE, count};
use crate::target::{SETTINGS, Target};
use crate::upstream::{POISON, Refusal, Upstream, bulk};
use nearside::units::clock::Clock;
use std::thread;

pub(crate) const ROWS: &[(&str, &str, Row)] = &[
    ("F23", "everything is answered with `-LOADING`", loading),
    ("F23", "a server loads its data", reloading),
    ("F27", "everything is answered with `-MASTERDOWN`", master_down),
    ("F27", "keys are answered with `-CLUSTERDOWN`", cluster_down),
    ("F27", "keys are answered with `-TRYAGAIN`", try_again),
    ("F27", "a replica is cut off from its primary", cut_off),
    ("F29", "connections that have logged in are answered with `-NOAUTH`", forgotten),
    ("F29", "nearside's own user is deleted, or has another password", unknown),
];

fn loading(order: &Order, tally: &mut Tally) {
    refused(order, tally, "LOADING Redis is loading the dataset in memory", true);
}

fn master_down(order: &Order, tally: &mut Tally) {
    const TEXT: &str =
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    refused(order, tally, TEXT, true);
}

fn cluster_down(order: &Order, tally: &mut Tally) {
    refused(order, tally, "CLUSTERDOWN Hash slot not served", false);
}

fn try_again(order: &Order, tally: &mut Tally) {
    refused(order, tally, "TRYAGAIN Multiple keys request during rehashing of slot", false);
}

/// Reads and writes of one client while all is refused, and the same reads afterwards.
fn refused(order: &Order, tally: &mut Tally, text: &'static str, is_of_all: bool) {
    let upstream = Upstream::start(order.upstream_port()).unwrap();
    let target = Target::start(order.which, upstream.port, &["cache.admission = \"always\""]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    let (accepted, begun) = (upstream.accepted(), clock.now());
    upstream.refuse(Some(Refusal { text, is_of_all }));
    let mut culprit = Client::dial(target.port).unwrap();
    let keys: Vec<String> = (0..order.times(100)).map(|n| format!("{POISON}{n}")).collect();
    let list = format!("{POISON}list");
    let words = format!("-{text}\r\n");
    for key in &keys {
        for request in [&["GET", key][..], &["RPUSH", &list, key]] {
            let told = culprit.ask(request).unwrap();
            let is_told = told == words.as_bytes();
            tally.rule(is_told, || format!("{request:?}: {}", told.escape_ascii()));
            (tally.injected, tally.culprit) = (tally.injected + 1, tally.culprit + 1);
        }
    }
    let (asked, reads) = (upstream.refused(), keys.len() as u64);
    tally.notes.push(format!("{:.2} times the reads", asked as f64 / reads as f64));
    tally.rule(asked * 10 <= reads * 12, || format!("{asked} reads upstream for {reads}"));
    let most = (clock.now().since(begun).as_secs_f64() * 10.0) as u64 + 6;
    let made = upstream.accepted() - accepted;
    tally.rule(made <= most, || format!("{made} connections while all was refused"));
    upstream.refuse(None);
    let begun = clock.now();
    crew.until_well();
    tally.recovered(clock.now().since(begun));
    for key in keys.iter().flat_map(|key| [key, key]) {
        let told = culprit.ask(&["GET", key]).unwrap();
        if told != bulk(key.as_bytes()) {
            tally.kept.push(format!("{key}: {}", told.escape_ascii()));
        }
    }
    let list = format!("{}{list}", target.prefix());
    let executed = Client::dial(upstream.port).unwrap().ask(&["LRANGE", &list, "0", "-1"]);
    tally.lied += report::executed(&executed.unwrap()).len() as u64;
    judge(tally, crew, &target, upstream.port);
}

/// It takes its time for it, and goes on to listen meanwhile.
fn reloading(order: &Order, tally: &mut Tally) {
    let server = Server::with(Kind::Redis, &["--enable-debug-command", "yes"]);
    let target = Target::start(order.which, server.port, &[]);
    let mut direct = Client::dial(server.port).unwrap();
    for number in 0..2000 {
        direct.ask(&["SET", &format!("other:{number}"), &"x".repeat(1000)]).unwrap();
    }
    direct.words("CONFIG SET loading-process-events-interval-bytes 1024").unwrap();
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        direct.words("CONFIG SET key-load-delay 20000").unwrap();
        let port = server.port;
        let reloads = thread::spawn(move || once(port, "DEBUG RELOAD").unwrap());
        tally.injected += 1;
        crew.until_struck();
        let begun = clock.now();
        direct.words("CONFIG SET key-load-delay 0").unwrap();
        assert_eq!(reloads.join().unwrap(), b"+OK\r\n");
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    judge(tally, crew, &target, server.port);
}

/// It was a primary, follows one that is not there, and is a primary again.
fn cut_off(order: &Order, tally: &mut Tally) {
    let mut gone = Server::start(Kind::Redis);
    gone.kill();
    let arguments = [SAFE, &["--replica-serve-stale-data", "no"]].concat();
    let server = Server::with(Kind::Redis, &arguments);
    let target = Target::start(order.which, server.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        once(server.port, &format!("REPLICAOF 127.0.0.1 {}", gone.port)).unwrap();
        tally.injected += 1;
        crew.until_struck();
        once(server.port, "REPLICAOF NO ONE").unwrap();
        let begun = clock.now();
        crew.until_well();
        tally.recovered(clock.now().since(begun));
    }
    judge(tally, crew, &target, server.port);
}

/// Links that are not logged in any more are opened anew, once, and log in.
fn forgotten(order: &Order, tally: &mut Tally) {
    let upstream = Upstream::start(order.upstream_port()).unwrap();
    let target = Target::start(order.which, upstream.port, &[]);
    let crew = Crew::start(target.port, 2, order.seed);
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        let (accepted, begun) = (upstream.accepted(), clock.now());
        upstream.forget_logins();
        tally.injected += 1;
        crew.until_well();
        tally.recovered(clock.now().since(begun));
        let made = upstream.accepted() - accepted;
        tally.notes.push(format!("{made} connections"));
    }
    judge(tally, crew, &target, upstream.port);
}

/// Who cannot log in tries no faster than who finds nobody, and is let in as soon as it may.
fn unknown(order: &Order, tally: &mut Tally) {
    let server = Server::with(Kind::Redis, SAFE);
    let user = |password: &str| {
        once(server.port, &format!("ACL SETUSER near reset on >{password} ~* &* +@all")).unwrap();
    };
    user("secret");
    let url = format!("redis://near:secret@127.0.0.1:{}", server.port);
    let target = Target::of(Proxy::start(&url, SETTINGS));
    let crew = Crew::start(target.port, 2, order.seed);
    let proxy = target.nearside.as_ref().unwrap();
    let clock = Clock::system();
    for _ in 0..order.times(1) {
        for is_deleted in [true, false] {
            if is_deleted {
                // Its connections are closed with it.
                once(server.port, "ACL DELUSER near").unwrap();
            } else {
                user("another");
                once(server.port, "CLIENT KILL USER near").unwrap();
            }
            tally.injected += 1;
            crew.until_struck();
            eventually("it is said to be not ready", || {
                (proxy.admin("GET", "/readyz", "").0 == 503).then_some(())
            });
            count(order, tally, || proxy.count("nearside_upstream_connects_total"));
            user("secret");
            let begun = clock.now();
            crew.until_well();
            tally.recovered(clock.now().since(begun));
        }
    }
    judge(tally, crew, &target, server.port);
}
