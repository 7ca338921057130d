//! Scenes of several clients: who waits for a key, who is subscribed, and what each of them is
//! told, in which order.
//!
//! A line is a client's number and what it sends; `;` separates requests sent in one write. After
//! each line every client that does not wait sends a PING, and what it read up to its reply is
//! compared. After `0> ...` client 0 waits for a key; after `0<` it does not, and is read from
//! again. `{0}` stands for the number the server gave to client 0.

use super::{Peer, Redis, inline, reply, shown, start_embedded};
use std::collections::BTreeSet;

/// Ends what is compared of a client's output.
const MARK: &str = "~mark~";

const CLIENTS: usize = 4;

const SCENES: &[&[&str]] = &[
    // Channels and patterns.
    &[
        "0 SUBSCRIBE a b a",
        "1 PUBLISH a hello",
        "1 PUBLISH c hello",
        "1 PUBSUB CHANNELS c*",
        "1 PUBSUB CHANNELS a",
        "1 PUBSUB NUMSUB a b c a",
        "1 PUBSUB NUMPAT",
        "2 SUBSCRIBE a",
        "1 PUBLISH a \"\"",
        "1 PUBSUB NUMSUB a b",
        "0 UNSUBSCRIBE a c",
        "1 PUBLISH a x",
        "1 PUBLISH b y",
        "0 UNSUBSCRIBE",
        "0 UNSUBSCRIBE",
        "0 UNSUBSCRIBE a",
        "0 GET k",
        "1 PUBSUB CHANNELS",
    ],
    &[
        "0 PSUBSCRIBE n?ws.*",
        "0 SUBSCRIBE news.today",
        "1 PUBLISH news.today 1",
        "1 PUBLISH nows.x 2",
        "1 PUBLISH nws.x 3",
        "1 PUBSUB NUMPAT",
        "2 PSUBSCRIBE n?ws.* n?ws.*",
        "1 PUBSUB NUMPAT",
        "1 PUBLISH news.today 4",
        "0 PUNSUBSCRIBE x",
        "0 PUNSUBSCRIBE",
        "0 PUNSUBSCRIBE",
        "0 UNSUBSCRIBE news.today",
        "1 PUBLISH news.today 5",
    ],
    // What a subscriber may say.
    &[
        "0 SUBSCRIBE a",
        "0 GET k; SET k v; MULTI; EXEC; DISCARD; HELLO 9; CLIENT ID x; FOO; PUBLISH a b",
        "0 SUBSCRIBE; PING; PING a; PING a b; AUTH; CLIENT FOO; PUBSUB NUMPAT; SELECT 1",
        "0 PSUBSCRIBE b; UNSUBSCRIBE; GET k",
        "0 PUNSUBSCRIBE; GET k; PING; PING a",
        "0 SUBSCRIBE a; PSUBSCRIBE b; RESET; PING",
        "1 PUBLISH a x; PUBLISH b x; PUBSUB NUMPAT; PUBSUB CHANNELS",
        "0 GET k",
    ],
    // Transactions.
    &[
        "0 MULTI; SUBSCRIBE a b; PING; PUBLISH a x; UNSUBSCRIBE b; GET k; EXEC",
        "1 PUBLISH a y",
        "1 MULTI; PUBLISH a 1; PUBLISH a 2; PUBSUB NUMSUB a; EXEC",
        "1 MULTI; SUBSCRIBE; EXEC",
        "0 UNSUBSCRIBE",
        "1 WATCH k; MULTI; PING; PUBLISH a x; EXEC",
        "1 SUBSCRIBE a; PUBLISH a itself; MULTI; PUBLISH a queued; EXEC",
    ],
    // First come, first served.
    &[
        "0> BLPOP k 0",
        "1> BRPOP k j 0",
        "2> BLPOP j k 0",
        "3 RPUSH k a b c d",
        "0<",
        "1<",
        "2<",
        "3 LRANGE k 0 -1",
    ],
    &[
        "0> BLPOP k k j 0",
        "3 SET k v; DEL k; HSET k f v; DEL k; SADD k m; DEL k; ZADD k 1 m; DEL k; SELECT 1; RPUSH k a; SELECT 0",
        "3 RPUSH k 1; LPOP k; LLEN k",
        "0<",
        "0> BLPOP k j 0",
        "3 MULTI; RPUSH k 1; LPOP k; RPUSH j 2; RPUSH k 3; EXEC; EXISTS j k",
        "0<",
        "3 DEL k j",
        "0> BLPOP k j 0",
        "3 MULTI; RPUSH k 1; DEL k; EXEC; PING",
        "3 MULTI; RPUSH k 1; DEL k; SET k v; RPUSH j 2; EXEC; GET k",
        "0<",
    ],
    // Keys come into being in other ways, too.
    &[
        "3 RPUSH src 1 2 3; SET old v",
        "0> BLPOP k 0",
        "3 RENAME src k",
        "0<",
        "0> BLPOP dst 0",
        "3 COPY k dst",
        "0<",
        "3 LRANGE k 0 -1; LRANGE dst 0 -1; DEL dst",
        "0> BLPOP dst 0",
        "3 LMOVE k dst LEFT RIGHT",
        "0<",
        "0> BLPOP dst 0",
        "3 RPOPLPUSH k dst; EXISTS k dst",
        "0<",
        "3 SELECT 2; RPUSH dst 1; SELECT 0",
        "0> BLPOP dst 0",
        "3 SELECT 2; MOVE dst 0; SELECT 0; EXISTS dst",
        "0<",
        "0> BLPOP s 0",
        "3 SET s v; RPUSH src 1; RENAME src s; EXISTS s",
        "0<",
        "0> BLPOP s 0",
        "3 SET s v; RPUSH src 1; COPY src s REPLACE; EXISTS s src",
        "0<",
        "0> BLPOP s 0",
        "3 LPUSHX s 1; RPUSHX s 1; FLUSHALL; LINSERT s BEFORE a b; RPUSH s 1",
        "0<",
    ],
    // From one waiter to the next.
    &[
        "0> BLMOVE a b LEFT RIGHT 0",
        "1> BRPOPLPUSH b c 0",
        "2> BLPOP c 0",
        "3 RPUSH a x; EXISTS a b c",
        "0<",
        "1<",
        "2<",
        "0> BLMOVE a a LEFT RIGHT 0",
        "1> BLPOP a 0",
        "3 RPUSH a x y; EXISTS a",
        "0<",
        "1<",
        "3 LRANGE a 0 -1; DEL a; SET s v",
        "0> BLMOVE a s LEFT LEFT 0",
        "1> BLPOP a 0",
        "3 RPUSH a x y",
        "0<",
        "1<",
        "3 LRANGE a 0 -1; GET s",
    ],
    // Sorted sets, and clients that wait for different types.
    &[
        "0> BZPOPMIN z 0",
        "1> BZPOPMAX y z 0",
        "2> BLPOP z 0",
        "3 ZADD z 1 a 2.5 b 3 c",
        "0<",
        "1<",
        "3 ZRANGE z 0 -1 WITHSCORES; DEL z; RPUSH z x; EXISTS z",
        "2<",
        "0> BZPOPMIN z 0",
        "3 ZINCRBY z 1.5 m; EXISTS z",
        "0<",
        "0> BZPOPMIN z 0",
        "3 ZADD z XX 1 a; ZADD src inf a; RENAME src z; EXISTS z",
        "0<",
    ],
    // The end without anything.
    &[
        "0> BLPOP k 0",
        "3 CLIENT UNBLOCK {0}; CLIENT UNBLOCK {0}",
        "0<",
        "0> BLMOVE k j LEFT LEFT 0",
        "3 CLIENT UNBLOCK {0} error; CLIENT UNBLOCK {1}",
        "0<",
        "0> BZPOPMIN k 0",
        "1> BLPOP k 0",
        "3 CLIENT UNBLOCK {0} TIMEOUT; RPUSH k a",
        "0<",
        "1<",
        "0 BLPOP k 0.15; GET k",
        "1 BLMOVE k j LEFT LEFT 0.05; BRPOPLPUSH k j 0.05; BZPOPMIN k 0.05",
        "3 RPUSH k a; LLEN k; MULTI; CLIENT UNBLOCK {0}; EXEC",
    ],
    // What is sent while it waits is answered afterwards.
    &[
        "0> BLPOP k 0; GET a; SET a 1; RPUSH b x",
        "1> BLPOP b 0",
        "3 GET a; RPUSH k v; GET nokey",
        "0<",
        "1<",
        "3 GET a; EXISTS b k",
        "0> BLPOP k 0; BLPOP j 0; PING",
        "3 RPUSH j 1; RPUSH k 1",
        "0<",
        "0> BLPOP k 0; BLPOP j 0",
        "3 MULTI; RPUSH k 1; RPUSH j 1; EXEC",
        "0<",
    ],
    // Watched keys are touched by who was served.
    &[
        "1 RPUSH other x",
        "2 WATCH k dst",
        "0> BLMOVE k dst LEFT LEFT 0",
        "3 MULTI; RPUSH k a; EXEC",
        "0<",
        "2 MULTI; PING; EXEC",
        "2 WATCH k; MULTI; PING; EXEC",
    ],
];

impl Peer {
    /// What came up to the reply to the mark.
    fn until_mark(&mut self) -> Vec<u8> {
        let mark = format!("{MARK}\r\n");
        while !self.input.ends_with(mark.as_bytes()) {
            let mut chunk = [0; 16384];
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "{} closed the connection: {}", self.name, shown(&self.input));
            self.input.extend_from_slice(&chunk[..count]);
        }
        std::mem::take(&mut self.input)
    }

    /// A figure of INFO's clients.
    fn figure(&mut self, name: &str) -> usize {
        let info = String::from_utf8(self.ask(&["INFO", "clients"])).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().parse().unwrap()
    }
}

/// The clients of one scene, and one that watches the server.
struct Stage {
    clients: Vec<Peer>,
    ids: Vec<i64>,
    waiting: BTreeSet<usize>,
    watcher: Peer,
}

impl Stage {
    fn new(connect: &dyn Fn() -> Peer, proto: &str) -> Self {
        let mut watcher = connect();
        // Those of the scene before are gone, and what they held is.
        while watcher.figure("connected_clients") > 1 {}
        watcher.ask(&["FLUSHALL"]);
        let mut clients: Vec<Peer> = (0..CLIENTS).map(|_| connect()).collect();
        let ids = clients.iter_mut().map(|peer| {
            peer.ask(&["HELLO", proto]);
            reply::integer(&peer.ask(&["CLIENT", "ID"])).unwrap()
        });
        let ids = ids.collect();
        Self { clients, ids, waiting: BTreeSet::new(), watcher }
    }

    /// Plays one line; what each client was told.
    fn play(&mut self, line: &str) -> Vec<String> {
        let mut line = line.to_owned();
        for (number, id) in self.ids.iter().enumerate() {
            line = line.replace(&format!("{{{number}}}"), &id.to_string());
        }
        let (client, requests) = line.split_at(1);
        let client: usize = client.parse().unwrap();
        let requests = match requests.split_at(1) {
            (">", requests) => {
                self.waiting.insert(client);
                requests
            }
            ("<", _) => {
                self.waiting.remove(&client);
                ""
            }
            (_, requests) => requests,
        };
        let requests = requests.split(';').map(str::trim).filter(|request| !request.is_empty());
        let bytes: Vec<u8> = requests
            .flat_map(|request| inline::to_multibulk(request.as_bytes()).unwrap().to_vec())
            .collect();
        self.clients[client].send(&bytes);
        // Several may have been served by one line, each is read from by a line of its own.
        while line.contains('>') && self.watcher.figure("blocked_clients") < self.waiting.len() {}
        while line.contains('<') && self.watcher.figure("blocked_clients") > self.waiting.len() {}
        let mut told = Vec::new();
        let mark = inline::to_multibulk(format!("PING {MARK}").as_bytes()).unwrap();
        // The one that spoke first: when it has its replies, the others have been told.
        let others = (0..CLIENTS).filter(|other| *other != client);
        for number in std::iter::once(client).chain(others) {
            if !self.waiting.contains(&number) {
                self.clients[number].send(&mark);
                told.push(format!("{number}: {}", shown(&self.clients[number].until_mark())));
            }
        }
        told
    }
}

#[test]
fn every_scene_is_the_same() {
    let (redis, server) = (Redis::start(), start_embedded());
    for proto in ["2", "3"] {
        for (number, scene) in SCENES.iter().enumerate() {
            let mut theirs = Stage::new(&|| redis.connect(), proto);
            let mut ours = Stage::new(&|| Peer::embedded(&server), proto);
            for line in *scene {
                let [expected, found] = [theirs.play(line), ours.play(line)];
                assert_eq!(expected, found, "RESP{proto} scene {number}: {line}");
            }
        }
    }
}

#[test]
fn who_waits_and_who_is_subscribed_is_listed() {
    let (redis, server) = (Redis::start(), start_embedded());
    for connect in [&(|| redis.connect()) as &dyn Fn() -> Peer, &|| Peer::embedded(&server)] {
        let mut stage = Stage::new(connect, "2");
        for line in ["0 SUBSCRIBE a b", "0 PSUBSCRIBE c", "1> BLPOP k 0"] {
            stage.play(line);
        }
        let mut list = |args: &[&str]| {
            let request = [&["CLIENT", "LIST"], args].concat();
            String::from_utf8(stage.watcher.ask(&request)).unwrap()
        };
        let subscriber = list(&["TYPE", "pubsub"]);
        assert!(subscriber.contains(" sub=2 psub=1 "), "{subscriber}");
        assert!(subscriber.contains(" flags=P "), "{subscriber}");
        assert_eq!(subscriber.matches("id=").count(), 1, "{subscriber}");
        assert_eq!(list(&["TYPE", "normal"]).matches("laddr=").count(), CLIENTS, "{subscriber}");
        assert_eq!(list(&[]).matches(" flags=b ").count(), 1);
        let stats = String::from_utf8(stage.watcher.ask(&["INFO", "stats"])).unwrap();
        assert!(stats.contains("pubsub_channels:2\r\npubsub_patterns:1\r\n"), "{stats}");
    }
}

#[test]
fn muted_replies_of_those_who_wait_or_hear() {
    let (redis, server) = (Redis::start(), start_embedded());
    for script in [
        "CLIENT REPLY OFF; SUBSCRIBE a; UNSUBSCRIBE a; PING 1; CLIENT REPLY ON; PING 2; QUIT",
        "CLIENT REPLY SKIP; BLPOP nokey 0.01; PING 1; QUIT",
        "CLIENT REPLY OFF; BLPOP nokey 0.01; PING 1; CLIENT REPLY ON; BLPOP nokey 0.01; QUIT",
    ] {
        let bytes: Vec<u8> =
            script.split("; ").flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
        let mut answers = BTreeSet::new();
        for mut peer in [redis.connect(), Peer::embedded(&server)] {
            peer.send(&bytes);
            answers.insert(shown(&peer.rest()));
        }
        assert_eq!(answers.len(), 1, "{script}: {answers:#?}");
    }
}
