//! Links as they come and go: who upstream is, whose turn it is to try it, what it refuses.

use crate::stage::{Client, MASTER, PATIENCE, Stage, invalidation};
use nearside::control::{office, survey};
use nearside::live::Live;
use nearside::net::dialer::Dialer;
use nearside::net::lookup::Lookup;
use nearside::net::switch::Switch;
use nearside::stats::Counter;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const OLD: &str = "$3\r\nold\r\n";
const DOWN: &str = "-ERR proxy: not executed: upstream is down\r\n";
const NO_SUCH_DB: &str = "-ERR DB index is out of range\r\n";
const NO_HELLO: &str = "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
const HELLO: &str = "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n6.0.0\r\n\
                     $5\r\nproto\r\n:3\r\n";

/// Runs what `App::start` leaves to the main thread: the first look at upstream.
fn survey(stage: &Stage) -> std::thread::JoinHandle<()> {
    let survey = stage.app.survey();
    std::thread::spawn(move || nearside::app::runtime().unwrap().block_on(survey))
}

/// Without tracking no link need ever say HELLO, and yet clients may.
#[test]
fn hello_is_answered_in_every_mode() {
    for settings in ["mode=bypass", "invalidation.tracking=off", "cache.level=bypass"] {
        let mut stage = Stage::silent(settings, "");
        let mut client = stage.client();
        let loading = "-LOADING nearside has not reached its upstream yet\r\n";
        client.asks("HELLO 3", loading);
        let survey = survey(&stage);
        let mut link = stage.data();
        link.answer("SELECT 16", NO_SUCH_DB);
        link.answer("SELECT 15", "+OK\r\n");
        link.answer("SELECT 0", "+OK\r\n");
        link.answer("DBSIZE", ":0\r\n");
        survey.join().unwrap();
        client.send("HELLO 3");
        let hello = client.next();
        assert_eq!(hello.first(), Some(&b'%'), "{settings}: {}", hello.escape_ascii());
        client.asks("SELECT 15", "+OK\r\n");
        client.asks("SELECT 16", NO_SUCH_DB);
    }
}

/// Upstream, met once by a connection of a script's own: what it answers to each command.
fn met(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> anyhow::Result<Live> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("upstream.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            answer_all(&stream, &answer);
        }
    });
    let dialer = Dialer {
        target: format!("unix:{}", socket.display()).parse().unwrap(),
        tls: None,
        embedded: None,
        timeout: PATIENCE,
        name: "nearside".to_owned(),
        switch: Switch::default(),
        lookup: Lookup::default(),
    };
    let live = Live::default();
    nearside::app::runtime().unwrap().block_on(survey::meet(&dialer, &live))?;
    Ok(live)
}

/// Answers commands until the connection ends.
fn answer_all(stream: &UnixStream, answer: impl Fn(&str) -> String) {
    let mut reader = BufReader::new(stream);
    loop {
        let Some(count) = number(&mut reader) else { return };
        let words: Vec<String> = (0..count)
            .map(|_| {
                let mut word = vec![0; number(&mut reader).unwrap() + 2];
                reader.read_exact(&mut word).unwrap();
                String::from_utf8(word).unwrap().trim_end().to_owned()
            })
            .collect();
        let words = words.join(" ");
        let reply = match words.as_str() {
            "PING" => "+PONG\r\n".to_owned(),
            label if label.starts_with("CLIENT ") => "+OK\r\n".to_owned(),
            _ => answer(&words),
        };
        // Whoever has gone need not hear it.
        if (&*stream).write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// The number in the next line, behind its sign; nothing at the end.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

/// A server with that many databases.
fn server_of(databases: u32) -> impl Fn(&str) -> String {
    move |words| match words.strip_prefix("SELECT ") {
        Some(index) if index.parse::<u32>().unwrap() < databases => "+OK\r\n".to_owned(),
        Some(_) => NO_SUCH_DB.to_owned(),
        None => HELLO.to_owned(),
    }
}

/// CONFIG may be forbidden; SELECT says it as well.
#[test]
fn databases_are_counted_by_select() {
    for databases in [1, 2, 3, 15, 16, 17, 18, 33, 100, 1000] {
        let live = met(server_of(databases)).unwrap();
        assert_eq!(live.databases(), databases);
    }
}

/// A cluster has one database, and so has, for all that can be seen, a user without SELECT.
#[test]
fn where_select_is_refused_there_is_one_database() {
    for refusal in [
        "-ERR SELECT is not allowed in cluster mode\r\n",
        "-NOPERM User app has no permissions to run the 'select' command\r\n",
    ] {
        let live = met(move |words| match words {
            "HELLO 3" => HELLO.to_owned(),
            "SELECT 0" if refusal.starts_with("-ERR") => "+OK\r\n".to_owned(),
            _ => refusal.to_owned(),
        });
        assert_eq!(live.unwrap().databases(), 1);
    }
}

/// A server that runs a script says nothing of its databases: it is asked again later.
#[test]
fn a_busy_server_is_not_taken_for_one_without_databases() {
    let error = met(|words| match words {
        "HELLO 3" => HELLO.to_owned(),
        _ => "-BUSY Redis is busy running a script.\r\n".to_owned(),
    });
    assert!(error.unwrap_err().to_string().contains("BUSY"));
}

/// Redis before 6.0, and a user who may not say HELLO: INFO says who it is, and clients are told
/// what such a server tells them.
#[test]
fn a_server_without_hello_is_known_by_info() {
    for refusal in [NO_HELLO, "-NOPERM User app has no permissions to run the 'hello' command\r\n"]
    {
        let info = "redis_version:5.0.14\r\nredis_mode:standalone\r\n";
        let live = met(move |words| match words {
            "HELLO 3" => refusal.to_owned(),
            "INFO server" => format!("${}\r\n{info}\r\n", info.len()),
            words => server_of(16)(words),
        })
        .unwrap();
        assert!(live.lacks_hello());
        assert_eq!(live.server().unwrap().version, "5.0.14");
        let stage = Stage::with("invalidation.tracking=off cache.level=ttl");
        let mut client = stage.client();
        stage.app.shared().live.set_server_without_hello(live.server().unwrap());
        client.asks("HELLO 3", "-ERR unknown command 'HELLO'\r\n");
    }
}

/// Two clients of two workers, each with a request for a link that is not open.
fn two_waiting(stage: &Stage) -> [Client; 2] {
    [stage.client(), stage.client()].map(|mut client| {
        client.send_all(&["ECHO 1", "INCR n"]);
        // Answered at once, so the write is waiting now.
        client.reads("$1\r\n1\r\n");
        client
    })
}

/// Upstream that is down is tried by one link of all workers; nobody waits longer for that, and
/// its success lets the others go.
#[test]
fn one_link_tries_an_upstream_that_is_down() {
    let mut stage = Stage::silent("server.workers=2 invalidation.tracking=off cache.level=ttl", "");
    let mut clients = two_waiting(&stage);
    let mut first = stage.silent_data();
    stage.hands.advance(Duration::from_millis(500));
    for client in &mut clients {
        client.reads(DOWN);
    }
    // Both links have looked at their clients' requests by now.
    stage.tries_nothing_more();
    first.shake_hands();
    let mut second = stage.data();
    for client in &mut clients {
        client.send("INCR n");
    }
    for link in [&mut first, &mut second] {
        link.answer("INCR v1:n", ":1\r\n");
    }
    for client in &mut clients {
        client.reads(":1\r\n");
    }
    stage.counted(Counter::ConnectOk, 2);
}

/// The same where clients are closed, as a dead Redis does.
#[test]
fn who_waits_for_its_turn_is_treated_by_on_down() {
    let settings =
        "server.workers=2 invalidation.tracking=off cache.level=ttl upstream.on_down=close";
    let mut stage = Stage::silent(settings, "");
    let mut clients = two_waiting(&stage);
    let _first = stage.silent_data();
    stage.hands.advance(Duration::from_millis(500));
    for client in &mut clients {
        client.is_closed();
    }
    stage.tries_nothing_more();
}

/// The one that tries fails: the turn goes on, and to the other link too.
#[test]
fn a_failed_try_is_followed_by_others() {
    let mut stage = Stage::silent("server.workers=2 invalidation.tracking=off cache.level=ttl", "");
    let mut clients = two_waiting(&stage);
    for _ in 0..4 {
        drop(stage.silent_data());
    }
    let (mut first, mut second) = (stage.data(), stage.data());
    for link in [&mut first, &mut second] {
        link.answer("INCR v1:n", ":1\r\n");
    }
    for client in &mut clients {
        client.reads(":1\r\n");
    }
}

/// A link that upstream refuses for what it wants to be keeps no other from coming up.
#[test]
fn a_refused_link_keeps_no_other_down() {
    let mut stage = Stage::silent("invalidation.tracking=off cache.level=ttl", "");
    let mut picky = stage.client();
    picky.send_all(&["SELECT 9", "INCR n"]);
    picky.reads("+OK\r\n");
    let mut refused = stage.silent_data();
    refused.expect("SELECT 9");
    let (mut plain, mut waiting) = (stage.client(), 0);
    plain.send_all(&["ECHO 1", "INCR n"]);
    plain.reads("$1\r\n1\r\n");
    refused.reply(NO_SUCH_DB);
    // Links are told apart by what they say first.
    loop {
        let mut link = stage.silent_data();
        let first = link.next();
        if first == b"SELECT 9" {
            waiting += 1;
            assert!(waiting < 100, "the other link does not get its turn");
            link.reply(NO_SUCH_DB);
            continue;
        }
        link.reply("+OK\r\n");
        link.shake_hands();
        link.answer("INCR v1:n", ":1\r\n");
        break;
    }
    plain.reads(":1\r\n");
}

/// Nothing would be guarded by it, and the server would tell it of every key.
#[test]
fn where_no_rule_needs_tracking_there_is_no_tracking_link() {
    let rules = "[[rules]]\nmatch = \"*\"\nlevel = \"ttl\"\nttl = \"1m\"\n";
    let mut stage = Stage::silent("", rules);
    let (mut client, mut data) = stage.pair();
    stage.fill(&mut client, &mut data, "GET k", OLD);
    stage.hit(&mut client, "GET k", OLD);
    stage.tries_nothing_more();
}

/// An ACL without +ping or +role: the link stands, and no round can count.
#[test]
fn refused_rounds_prove_nothing_and_are_named() {
    let (ping, role) = ("+PONG\r\n", "-NOPERM User app has no permissions to run 'role'\r\n");
    for answers in [[ping, role], ["-NOPERM User app may not run 'ping'\r\n", MASTER]] {
        let mut stage = Stage::silent("cache.max_staleness=40ms", "");
        let mut link = stage.tracking_link();
        link.shake_hands();
        let (mut client, mut data) = stage.pair();
        for _ in 0..4 {
            loop {
                match link.next().as_slice() {
                    b"PING" => link.reply(answers[0]),
                    b"ROLE" => break link.reply(answers[1]),
                    _ => link.reply("%1\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$5\r\nbcast\r\n"),
                }
            }
            client.send("GET k");
            data.answer("GET v1:k", OLD);
            client.reads(OLD);
            Stage::quiet(&mut client, &mut data);
        }
        let shared = stage.app.shared();
        assert!(!shared.cache.tracking().is_up() && shared.live.is_tracking_on());
        let checks =
            office::checks(&shared.live, &shared.cache, &shared.dialer.switch, true, false);
        let check = checks.iter().find(|check| check.name == "tracking").unwrap();
        assert!(!check.ok && check.detail.contains("+ping and +role"), "{}", check.detail);
        // The ACL was mended: the same link comes up.
        for _ in 0..3 {
            link.round();
            link.confirm();
        }
        stage.eventually("tracking is up", |stage| stage.app.shared().cache.tracking().is_up());
    }
}

/// A user who loses the right to ROLE: what was guarded cannot be proved any more.
#[test]
fn rounds_that_are_refused_later_end_the_link() {
    let mut stage = Stage::with("cache.max_staleness=40ms");
    let mut link = stage.tracking.take().unwrap();
    link.round();
    link.reply("+PONG\r\n-NOPERM User app has no permissions to run the 'role' command\r\n");
    link.is_closed();
    stage.counted(Counter::InvalidationsReconnect, 1);
}

/// Under a flood of pushes there is always something to read, and the rounds go out all the same.
#[test]
fn a_flood_of_pushes_does_not_hold_rounds_up() {
    let mut stage = Stage::with("cache.max_staleness=40ms");
    let mut link = stage.tracking.take().unwrap();
    let pushes = invalidation(&[b"v1:k"]).repeat(20_000);
    let is_over = Arc::new(AtomicBool::new(false));
    link.round();
    let (mut flood, end) = (link.split(), Arc::clone(&is_over));
    let flood = std::thread::spawn(move || {
        // This round is answered, so that another can be due.
        let answers = ["+PONG\r\n", MASTER].concat().into_bytes();
        flood.write_all(&[answers, pushes.clone()].concat()).unwrap();
        while !end.load(Ordering::Relaxed) {
            flood.write_all(&pushes).unwrap();
        }
        // Whole frames were written, so answers may follow.
        flood
    });
    link.round();
    is_over.store(true, Ordering::Relaxed);
    drop(flood.join().unwrap());
    link.confirm();
    link.round();
    assert!(stage.count(Counter::InvalidationsTracking) > 0);
    assert_eq!(stage.count(Counter::InvalidationsReconnect), 0);
}
