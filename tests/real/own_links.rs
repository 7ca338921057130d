//! Clients that need a link of their own: the same play direct and through nearside, line by line
//! with the same replies and pushes; and that such links are given back, closed and never mixed up
//! with what clients share.

use crate::harness::{Conn, KINDS, Kind, Proxy, SEVERAL, Server, eventually, request, show};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;

/// Plays of up to three clients. A line is a client and a request, whose reply is read; `A! ...` is
/// sent only, `A?` reads one frame, and the reply to `A: ...` is not compared. `{A}` stands for the
/// number of a client.
const PLAYS: &[&[&str]] = &[
    // Transactions.
    &["A MULTI", "A SET a 1", "A INCR a", "A GET a", "A EXEC", "A GET a", "B GET a"],
    &["A SET a 1", "A MULTI", "A GET a", "A EXEC", "A MULTI", "A EXEC", "A EXEC", "A DISCARD"],
    &["A MULTI", "A SET a 2", "B GET a", "A DISCARD", "A GET a", "A UNWATCH", "A WATCH"],
    &["A MULTI", "A NOSUCH a b", "A SET a 1", "A EXEC", "A GET a", "A PING"],
    &["A MULTI", "A GET", "A CLIENT NOSUCH", "A EXEC", "A MULTI", "A SHUTDOWN", "A EXEC"],
    &["A MULTI", "A RPUSH a x", "A INCR a", "A LRANGE a 0 -1", "A EXEC", "A LPOP a"],
    &["A MULTI", "A PING", "A ECHO hi", "A PING there", "A CLIENT GETNAME", "A EXEC"],
    &[
        "A MULTI",
        "A SELECT 3",
        "A SET a 3",
        "A EXEC",
        "A GET a",
        "B GET a",
        "B SELECT 3",
        "B GET a",
    ],
    &["A MULTI", "A SELECT 99", "A SET a 3", "A EXEC", "A GET a", "A SELECT 0"],
    &[
        "A MULTI",
        "A MULTI",
        "A EXEC",
        "A MULTI",
        "A WATCH a",
        "A EXEC",
        "A MULTI",
        "A UNWATCH",
        "A EXEC",
    ],
    &["A MULTI", "A BLPOP none 0", "A XREAD BLOCK 0 STREAMS s $", "A EXEC"],
    &["A SET a 1", "A MULTI", "A RANDOMKEY", "A DEL a b", "A DBSIZE", "A EXEC"],
    &["A RPUSH l a b", "A MULTI", "A LMPOP 1 l LEFT", "A KEYS *", "A SCAN 0", "A EXEC"],
    &["A MULTI", "A XREADGROUP GROUP g c STREAMS s >", "A OBJECT ENCODING a", "A EXEC"],
    &["A MULTI", "A RESET", "A EXEC", "A PING"],
    &["A MULTI", "A CLIENT PAUSE 0 x", "A CLIENT UNPAUSE", "A CLIENT PAUSE", "A EXEC"],
    &["A MULTI", "A CLIENT PAUSE 0 x", "A CLIENT PAUSE x", "A CLIENT UNPAUSE", "A EXEC"],
    &["A MULTI", "A EXEC now", "A SET a 1", "A EXEC", "A MULTI", "A DISCARD now", "A EXEC"],
    &[
        "A! BLPOP l 0",
        "B? until blocked",
        "B MULTI",
        "B CLIENT UNBLOCK {A}",
        "B CLIENT UNBLOCK {B}",
        "B EXEC",
        "A?",
    ],
    // Watched keys.
    &[
        "A SET a 1",
        "A WATCH a",
        "A GET a",
        "B SET a 2",
        "A GET a",
        "A MULTI",
        "A SET a 3",
        "A EXEC",
        "A GET a",
    ],
    &["A SET a 1", "A WATCH a b", "A MULTI", "A SET a 3", "A EXEC", "A GET a", "B GET a"],
    &["A WATCH a", "B SET a 2", "A UNWATCH", "A MULTI", "A SET a 3", "A EXEC"],
    &[
        "A WATCH a",
        "A SELECT 1",
        "B SET a 2",
        "A MULTI",
        "A SET a 3",
        "A EXEC",
        "A SELECT 0",
        "A GET a",
    ],
    &[
        "A WATCH a",
        "B SET a 2",
        "A MULTI",
        "A SET a 3",
        "A DISCARD",
        "A MULTI",
        "A SET a 4",
        "A EXEC",
    ],
    &["A WATCH a", "A WATCH b", "B DEL b", "A MULTI", "A SET a 3", "A EXEC", "B GET a"],
    // What blocks.
    &["A! BLPOP l m 0", "B RPUSH l x", "A?", "A LLEN l"],
    &["A! BRPOP l 0", "A! LLEN l", "A! GET a", "B RPUSH l x y", "A?", "A?", "A?"],
    &["A BLPOP none 0.01", "A BRPOPLPUSH none b 0.01", "A BLMOVE none b LEFT LEFT 0.01"],
    &["A BZPOPMIN none 0.01", "A BLMPOP 0.01 1 none LEFT", "A BZMPOP 0.01 1 none MIN"],
    &["A! BLMOVE l m LEFT RIGHT 0", "B RPUSH l x", "A?", "B LRANGE m 0 -1"],
    &["A! BZPOPMAX z 0", "B ZADD z 1 a 2 b", "A?"],
    &[
        "A! BLMPOP 0 2 k l LEFT COUNT 2",
        "B RPUSH l x y z",
        "A?",
        "A! BZMPOP 0 1 z MAX",
        "B ZADD z 1 a",
        "A?",
    ],
    &["A SET s text", "A BLPOP s 0", "A BLPOP l x", "A BLPOP l -1", "A BLPOP l"],
    &["A! XREAD BLOCK 0 STREAMS s $", "B? until blocked", "B XADD s 1-1 f v", "A?"],
    &[
        "A XGROUP CREATE s g $ MKSTREAM",
        "A! XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
        "B XADD s 1-1 f v",
        "A?",
        "A XREAD BLOCK 1 STREAMS s $",
    ],
    &["A XREADGROUP GROUP nope c BLOCK 1 STREAMS s >", "A XREAD BLOCK x STREAMS s $"],
    &["A! BLPOP l 0", "B? until unblocks A TIMEOUT", "A?", "A PING", "B CLIENT UNBLOCK {A}"],
    &[
        "A! BLPOP l 0",
        "B? until unblocks A ERROR",
        "A?",
        "B CLIENT UNBLOCK {A} NOW",
        "B CLIENT UNBLOCK x",
    ],
    &["A SET a 1", "A WAIT 0 0", "A SET a 2", "A GET a", "A WAIT 1 1", "A GET a"],
    // Subscriptions.
    &["A SUBSCRIBE a", "B PUBLISH a hi", "A?", "A UNSUBSCRIBE a", "B PUBLISH a hi", "A GET a"],
    &[
        "A! SUBSCRIBE a b a",
        "A?",
        "A?",
        "A?",
        "A PSUBSCRIBE n*",
        "B PUBLISH news x",
        "A?",
        "B PUBLISH b y",
        "A?",
        "B PUBSUB NUMSUB a b",
        "B PUBSUB NUMPAT",
        "A! UNSUBSCRIBE b a",
        "A?",
        "A?",
        "A PUNSUBSCRIBE",
        "A PING",
    ],
    &["A UNSUBSCRIBE", "A PUNSUBSCRIBE a", "A SUNSUBSCRIBE", "A UNSUBSCRIBE a", "A PING"],
    &["A SUBSCRIBE a", "A SUBSCRIBE", "A RESET", "B PUBLISH a hi", "A PING"],
    &[
        "A SUBSCRIBE __keyspace@0__:k",
        "B PUBSUB NUMSUB __keyspace@0__:k",
        "B PUBSUB CHANNELS",
        "B PUBSUB CHANNELS __keyspace@0__:*",
    ],
    &["A SUBSCRIBE a", "A PUBSUB NUMSUB a", "A GET", "A PING a b", "A NOSUCH", "A EXEC", "A PING"],
    &[
        "A SSUBSCRIBE s",
        "B SPUBLISH s hi",
        "A?",
        "B PUBSUB SHARDNUMSUB s",
        "B PUBSUB SHARDCHANNELS",
        "A SUNSUBSCRIBE s",
        "B SPUBLISH s hi",
    ],
    &[
        "A SUBSCRIBE a",
        "C SUBSCRIBE a",
        "B PUBLISH a hi",
        "A?",
        "C?",
        "C UNSUBSCRIBE",
        "B PUBLISH a hi",
        "A?",
    ],
    &[
        "B CONFIG SET notify-keyspace-events KEA",
        "A PSUBSCRIBE __key*__:*",
        "B SET k v",
        "A?",
        "A?",
        "B DEL k",
        "A?",
        "A?",
    ],
    &[
        "B CONFIG SET notify-keyspace-events KEA",
        "A! SUBSCRIBE __keyspace@0__:k __keyevent@0__:del",
        "A?",
        "A?",
        "B SET k v",
        "A?",
        "B DEL k",
        "A?",
        "A?",
        "A UNSUBSCRIBE __keyspace@0__:k",
        "A UNSUBSCRIBE",
    ],
    // The state of a connection.
    &["A WATCH a", "A RESET", "B SET a 1", "A MULTI", "A SET a 2", "A EXEC"],
    &[
        "A CLIENT TRACKINGINFO",
        "A CLIENT GETREDIR",
        "A CLIENT CACHING YES",
        "A CLIENT TRACKING OFF",
    ],
    &[
        "A CLIENT TRACKING ON PREFIX a",
        "A CLIENT TRACKING MAYBE",
        "A GET a",
        "A CLIENT TRACKING OFF",
    ],
];

/// Plays without a key version: with one, FLUSHALL takes several steps and is not queued.
const UNPREFIXED: &[&[&str]] =
    &[&["A MULTI", "A COPY a b DB 1", "A FLUSHALL", "A SET c 1", "A EXEC", "A GET c"]];

/// Plays of RESP3 clients: RESP2 has no pushes.
const PUSHES: &[&[&str]] = &[
    &[
        "A CLIENT TRACKING ON",
        "A GET a",
        "B SET a 1",
        "A?",
        "A GET a",
        "B SET b 1",
        "A CLIENT TRACKINGINFO",
        "A CLIENT TRACKING OFF",
        "B SET a 2",
        "A GET a",
    ],
    &[
        "A CLIENT TRACKING ON BCAST PREFIX x PREFIX y",
        "B SET xa 1",
        "A?",
        "B SET za 1",
        "B SET ya 1",
        "A?",
        "A CLIENT TRACKINGINFO",
        "A CLIENT GETREDIR",
    ],
    &[
        "A CLIENT TRACKING ON BCAST",
        "B MSET a 1",
        "A?",
        "A CLIENT TRACKING ON BCAST PREFIX x",
        "A CLIENT TRACKINGINFO",
    ],
    &[
        "A CLIENT TRACKING ON OPTIN",
        "A GET a",
        "B SET a 1",
        "A CLIENT CACHING YES",
        "A GET a",
        "B SET a 2",
        "A?",
        "A CLIENT CACHING NO",
    ],
    &["A CLIENT TRACKING ON BCAST PREFIX x PREFIX xy", "A CLIENT TRACKINGINFO"],
    &[
        "A CLIENT TRACKING ON BCAST PREFIX xy",
        "A CLIENT TRACKING ON BCAST PREFIX x",
        "A CLIENT TRACKING ON",
    ],
    &[
        "A CLIENT TRACKING ON",
        "A GET a",
        "A CLIENT TRACKING OFF",
        "C CLIENT TRACKING ON",
        "B SET a 1",
        "C PING",
    ],
    &["A CLIENT TRACKING ON OPTOUT NOLOOP", "A GET a", "A SET a 1", "A GET b", "B SET b 2", "A?"],
    &[
        "A CLIENT TRACKING ON",
        "A GET a",
        "A MULTI",
        "A GET b",
        "A EXEC",
        "B SET b 2",
        "A?",
        "B SET a 1",
        "A?",
    ],
    &[
        "A SUBSCRIBE a",
        "A GET k",
        "A SET k 1",
        "A GET k",
        "B PUBLISH a hi",
        "A?",
        "A MULTI",
        "A GET k",
        "A EXEC",
        "A UNSUBSCRIBE a",
        "A GET k",
    ],
    &[
        "C: HELLO 2",
        "C SUBSCRIBE __redis__:invalidate",
        "A CLIENT TRACKING ON REDIRECT {C}",
        "A GET a",
        "B SET a 1",
        "C?",
        "A CLIENT TRACKING OFF",
    ],
];

/// The clients of a play, on one side.
struct Side {
    conns: Vec<Conn>,
    ids: Vec<String>,
}

impl Side {
    fn new(mut dial: impl FnMut() -> Conn, protocol: &str) -> Self {
        let mut conns: Vec<Conn> = (0..3).map(|_| dial()).collect();
        let mut ids = Vec::new();
        for conn in &mut conns {
            conn.ask(&["HELLO", protocol]);
            let id = String::from_utf8(conn.words("CLIENT ID")).unwrap();
            ids.push(id.trim().trim_start_matches(':').to_owned());
        }
        Self { conns, ids }
    }

    /// One line; what was read, if anything.
    fn play(&mut self, line: &str) -> Option<Vec<u8>> {
        let at = usize::from(line.as_bytes()[0] - b'A');
        let words = |text: &str| -> Vec<String> {
            let named = ["{A}", "{B}", "{C}"].iter().zip(&self.ids);
            let text = named.fold(text.to_owned(), |text, (name, id)| text.replace(name, id));
            text.split(' ').map(ToOwned::to_owned).collect()
        };
        match line.split_at(1).1 {
            "?" => Some(self.conns[at].reply()),
            "? until blocked" => {
                eventually("a client is blocked", || {
                    let info = self.conns[at].words("INFO clients");
                    let text = String::from_utf8_lossy(&info).into_owned();
                    text.contains("\r\nblocked_clients:1").then_some(())
                });
                None
            }
            rest if rest.starts_with("? until unblocks ") => {
                let rest = rest.trim_start_matches("? until unblocks ");
                let (who, how) = rest.split_once(' ').unwrap();
                let id = self.ids[usize::from(who.as_bytes()[0] - b'A')].clone();
                eventually("a client is unblocked", || {
                    let answer = self.conns[at].ask(&["CLIENT", "UNBLOCK", &id, how]);
                    (answer == b":1\r\n").then_some(())
                });
                None
            }
            rest if rest.starts_with(':') => {
                self.conns[at].ask(&words(rest.trim_start_matches(": ")));
                None
            }
            rest => {
                let request = request(&words(rest.trim_start_matches('!').trim_start()));
                self.conns[at].send(&request);
                (!rest.starts_with('!')).then(|| self.conns[at].reply())
            }
        }
    }
}

fn same_as_direct(kind: Kind, protocol: &str, settings: &[&str], plays: &[&[&str]]) {
    let (server, twin) = (Server::start(kind), Server::start(kind));
    let proxy = Proxy::start(&server.url(), settings);
    for play in plays {
        // Through nearside, which otherwise may hear of it a moment later.
        for mut side in [proxy.dial(), twin.dial()] {
            for line in ["FLUSHALL", "CONFIG SET notify-keyspace-events "] {
                assert_eq!(side.words(line), b"+OK\r\n");
            }
        }
        let mut ours = Side::new(|| proxy.dial(), protocol);
        let mut theirs = Side::new(|| twin.dial(), protocol);
        for (number, line) in play.iter().enumerate() {
            let (said, expected) = (ours.play(line), theirs.play(line));
            // Valkey names the command.
            let is_worded = (kind, *line) == (Kind::Valkey, "A SHUTDOWN")
                && said
                    .as_ref()
                    .is_some_and(|reply| reply.starts_with(b"-ERR Command not allowed"));
            assert!(
                said == expected || is_worded,
                "{kind:?} RESP{protocol} {settings:?}\n{}\n  ours   {}\n  direct {}",
                play[..=number].join("\n"),
                show(&said.unwrap_or_default()),
                show(&expected.unwrap_or_default()),
            );
        }
    }
}

fn all_plays(settings: &[&str]) {
    for kind in KINDS {
        same_as_direct(kind, "2", settings, PLAYS);
        same_as_direct(kind, "3", settings, PLAYS);
        same_as_direct(kind, "3", settings, PUSHES);
    }
}

#[test]
fn every_play_is_the_same_as_direct() {
    all_plays(&[]);
    same_as_direct(Kind::Redis, "3", &[], UNPREFIXED);
}

#[test]
fn every_play_is_the_same_under_a_version() {
    all_plays(&["keys.version = \"v1\""]);
}

#[test]
fn every_play_is_the_same_under_several_versions() {
    all_plays(SEVERAL);
}

/// A command that waits is ended by the drain: with its element or with nil, never between.
#[test]
fn nothing_is_lost_when_a_drain_ends_what_blocks() {
    const DRAINS: usize = 50;
    const CONSUMERS: usize = 8;
    const ELEMENTS: usize = 10_000;
    let server = Server::start(Kind::Redis);
    let mut producer = server.dial();
    let mut pushed = 0;
    let mut push = |count: usize| {
        for _ in 0..count {
            producer.ask(&["RPUSH", "queue", &pushed.to_string()]);
            pushed += 1;
        }
    };
    let (sender, received) = mpsc::channel();
    for _ in 0..DRAINS {
        let mut proxy = Proxy::start(&server.url(), &[]);
        let port = proxy.port;
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                let (sender, mut conn) = (sender.clone(), Conn::tcp(port));
                thread::spawn(move || {
                    while conn.try_send(&request(&["BLPOP", "queue", "0"])).is_ok()
                        && let Some(reply) = conn.try_reply()
                    {
                        sender.send(reply).unwrap();
                    }
                })
            })
            .collect();
        push(ELEMENTS / DRAINS / 2);
        proxy.terminate();
        push(ELEMENTS / DRAINS / 2);
        assert!(proxy.wait().success(), "{}", proxy.log());
        for consumer in consumers {
            consumer.join().unwrap();
        }
    }
    drop(sender);
    let mut found = BTreeSet::new();
    let number = |reply: &[u8]| -> Option<usize> {
        let text = String::from_utf8(reply.to_vec()).unwrap();
        text.lines().nth(4).map(|number| number.parse().unwrap())
    };
    for reply in received {
        if let Some(number) = number(&reply) {
            assert!(found.insert(number), "{number} came twice");
        } else {
            assert_eq!(reply, b"*-1\r\n");
        }
    }
    let consumed = found.len();
    while let Some(number) = number(&producer.ask(&["BLPOP", "queue", "0.001"])) {
        assert!(found.insert(number), "{number} came twice");
    }
    assert_eq!(found.len(), ELEMENTS, "of {ELEMENTS} elements");
    assert!(consumed > ELEMENTS / 4, "only {consumed} came through nearside");
}

/// Who sees that a waiting client has gone knows that it takes no element any more: it is listed
/// until the server has closed its connection.
#[test]
fn a_client_that_left_is_listed_until_it_takes_nothing_more() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &[]);
    let mut witness = proxy.dial();
    let mut list = || String::from_utf8(witness.words("CLIENT LIST")).unwrap();
    let mut waits = proxy.dial();
    waits.send(&request(&["BLPOP", "left", "0"]));
    eventually("a waiting BLPOP", || list().contains("cmd=blpop").then_some(()));
    let mut direct = server.dial();
    eventually("BLPOP at the server", || {
        let info = String::from_utf8(direct.words("INFO clients")).unwrap();
        info.contains("blocked_clients:1").then_some(())
    });
    server.freeze();
    drop(waits);
    let clients = "nearside_connected_clients{listener=\"tcp\"}";
    eventually("it to have gone", || (proxy.count(clients) == 1).then_some(()));
    let listed = list();
    server.thaw();
    assert!(listed.contains("cmd=blpop"), "the server has not heard of it yet: {listed}");
    eventually("the server to close it", || (!list().contains("cmd=blpop")).then_some(()));
    direct.words("RPUSH left stays");
    assert_eq!(direct.words("LPOP left"), b"$5\r\nstays\r\n");
}

/// Sessions of all kinds, cut off wherever they are: no link is left over, and what others share
/// has taken no harm.
#[test]
fn no_link_is_left_of_sessions_that_end_anywhere() {
    const SESSIONS: usize = 10_000;
    const LINES: &[&str] = &[
        "MULTI",
        "SET a 1",
        "GET a",
        "EXEC",
        "DISCARD",
        "WATCH a",
        "UNWATCH",
        "BLPOP l 0",
        "BLPOP l 0.001",
        "SUBSCRIBE c",
        "UNSUBSCRIBE",
        "PSUBSCRIBE c*",
        "HELLO 3",
        "HELLO 2",
        "SELECT 1",
        "SELECT 0",
        "CLIENT TRACKING ON",
        "CLIENT TRACKING OFF",
        "WAIT 0 0",
        "RESET",
        "PUBLISH c hi",
        "XREAD BLOCK 1 STREAMS s $",
        "INCR n",
        "MONITOR",
        "NOSUCH",
        "GET",
        "QUIT",
    ];
    let server = Server::start(Kind::Redis);
    // Nearside's own subscription would be among what is looked for.
    let settings = ["keys.version = \"v1\"", "invalidation.channel = \"\""];
    let proxy = Proxy::start(&server.url(), &settings);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut witness = proxy.dial();
    for session in 0..SESSIONS {
        let mut conn = proxy.dial();
        let count = 1 + random.below(8);
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes.extend(request(&LINES[random.below(LINES.len())].split(' ').collect::<Vec<_>>()));
        }
        // Somewhere in the last request, or behind it.
        let cut = bytes.len() - random.below(bytes.len().min(20));
        // The other side may have gone already: QUIT.
        conn.try_send(&bytes[..cut]).ok();
        for _ in 0..random.below(3) {
            // A reply may never come: only what is there.
            if random.below(2) == 0 {
                break;
            }
            witness.words("PUBLISH c hi");
        }
        if session % 100 == 0 {
            let value = session.to_string();
            assert_eq!(witness.ask(&["SET", "w", &value]), b"+OK\r\n");
            let answer = witness.words("GET w");
            assert_eq!(answer, format!("${}\r\n{value}\r\n", value.len()).as_bytes());
        }
    }
    let series = "nearside_upstream_dedicated_connections";
    // A spare one of each kind is kept: by worker, database and protocol.
    eventually("no more than the spare links are open", || {
        (proxy.metric(series) < 17.0).then_some(())
    });
    let mut direct = server.dial();
    let is_clean = |line: &str| {
        let flags = line.split(" flags=").nth(1).unwrap().split(' ').next().unwrap();
        let holds = flags.contains(['b', 'x', 'P', 'O']);
        !holds && line.contains(" multi=-1 ") && line.contains(" sub=0 psub=0 ")
    };
    // (The server sees a moment later that the last link was closed.)
    let list = eventually("no link holds anything", || {
        let list = String::from_utf8(direct.words("CLIENT LIST")).unwrap();
        let mut ours = list.lines().filter(|line| line.contains("nearside"));
        ours.all(is_clean).then(|| list.clone())
    });
    // nearside's own tracking link.
    let tracking = list.lines().filter(|line| line.contains(" flags=t")).count();
    assert_eq!(tracking, 1, "{list}");
    let blocked = "nearside_blocked_clients";
    eventually("nobody is blocked", || (proxy.metric(blocked) < 1.0).then_some(()));
}

/// xorshift: the same sessions each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}
