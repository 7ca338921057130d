//! Random users with random rights ride through nearside, and the server's own `ACL DRYRUN` says of
//! each command whether its user may: nearside must never answer what upstream would refuse, nor
//! refuse what it would answer, hits included.
//!
//! ```text
//!   cargo test --test real rights                         20,000 commands for each server
//!   ACL_COMMANDS=1000000 ACL_SEED=7 cargo test ...        so many, from this seed on
//! ```
//!
//! GET and MGET share entries, so rules here give or take both (README, "Users"). What nearside
//! answers itself (ECHO, CLIENT ID) is not asked.

#[path = "../simulation/rng.rs"]
#[expect(dead_code, reason = "a test needs a part of it")]
pub(crate) mod rng;

use crate::harness::{Conn, Kind, Proxy, Server, request, show};
use crate::passthrough::after_change;
use rng::Rng;

/// Commands for each server, unless more are wanted.
pub(crate) const COMMANDS: u64 = 20_000;

/// Commands sent together.
const BATCH: usize = 40;

const USERS: usize = 6;

/// Rules about commands, of which a user has a few, in this order or another.
const COMMAND_RULES: &[&str] = &[
    "+@all",
    "+@all",
    "+@read",
    "+@read",
    "+@write",
    "+@string",
    "+@hash",
    "+@fast",
    "+@keyspace",
    "-@write",
    "-@hash",
    "-@slow",
    "-@dangerous",
    "-@scripting",
    "+get +mget",
    "-get -mget",
    "+set",
    "-set",
    "+hget",
    "-strlen",
    "+eval",
    "-del",
    "+exists",
    "+rename",
    "-@sortedset",
];

/// Rules about keys.
const KEY_RULES: &[&str] = &[
    "~[a-z]*",
    "~a*",
    "~b*",
    "~[ac]*",
    "~?1",
    "%R~a*",
    "%R~c*",
    "%W~b*",
    "%W~c*",
    "%RW~b*",
    "%R~[a-z]*",
];

/// What most users may, before other rules take some of it away.
const MOST: &[&str] = &["+@all ~[a-z]*", "+@all ~[ab]*", "+@read ~[a-z]*", "+@all", ""];

/// Reads that are cached.
const READ: &[&str] = &["GET K", "MGET K K", "STRLEN K", "HGET h:K f", "TYPE K", "SMEMBERS s:K"];

/// Commands; `K` stands for a key.
const ASKED: &[&str] = &[
    "GET K",
    "GET K",
    "GET K",
    "GET K",
    "MGET K K",
    "MGET K",
    "STRLEN K",
    "GETRANGE K 0 1",
    "EXISTS K",
    "EXISTS K K",
    "TYPE K",
    "HGET h:K f",
    "HGETALL h:K",
    "HMGET h:K f g",
    "TTL K",
    "LRANGE l:K 0 -1",
    "ZSCORE z:K m",
    "SMEMBERS s:K",
    "SET K x",
    "SETEX K 100 y",
    "DEL K",
    "HSET h:K f 1",
    "APPEND K z",
    "RENAME K K",
    "COPY K K",
    "EVAL return{KEYS[1]} 1 K",
    "SORT_RO l:K",
    "EXPIRE K 100",
    "TOUCH K K",
    "PING",
];

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A key, or what is behind a prefix one.
fn key(rng: &mut Rng) -> String {
    format!("{}{}", rng.pick(&["a", "b", "c"]), rng.below(3))
}

fn command(rng: &mut Rng, from: &[&str]) -> Vec<String> {
    let words = rng.pick(from).split(' ');
    words
        .map(|word| if word.ends_with('K') { word.replace('K', &key(rng)) } else { word.into() })
        .collect()
}

/// A user's name is its password.
fn rules(rng: &mut Rng, user: usize) -> String {
    let mut line = format!("ACL SETUSER u{user} on >u{user} nocommands resetkeys");
    for rule in rng.pick(MOST).split_whitespace() {
        line = format!("{line} {rule}");
    }
    for _ in 0..rng.between(1, 4) {
        line = format!("{line} {}", rng.pick(COMMAND_RULES));
    }
    // What nearside asks on its own behalf to keep what was read; sometimes it may not.
    if rng.chance(80) {
        line.push_str(" +ping +pttl");
    }
    for _ in 0..rng.between(1, 3) {
        line = format!("{line} {}", rng.pick(KEY_RULES));
    }
    line
}

struct World {
    rng: Rng,
    proxy: Proxy,
    root: Conn,
    clients: Vec<(usize, Conn)>,
    hits: u64,
    denied: u64,
}

impl World {
    /// Gives one user other rights, and waits until nearside has heard of it.
    fn change(&mut self) {
        let user = self.rng.below(USERS);
        let line = rules(&mut self.rng, user);
        let Self { proxy, root, .. } = self;
        after_change(proxy, || assert_eq!(root.words(&line), b"+OK\r\n", "{line}"));
    }

    /// One client logs in as somebody else.
    fn log_in(&mut self) {
        let (at, user) = (self.rng.below(self.clients.len()), self.rng.below(USERS));
        let (is, client) = &mut self.clients[at];
        assert_eq!(client.words(&format!("AUTH u{user} u{user}")), b"+OK\r\n");
        *is = user;
    }

    /// One client's commands, each held against what the server says of it: in one packet, or reads
    /// one by one, of which some are hits.
    fn ask(&mut self) {
        let is_packet = self.rng.chance(50);
        let at = self.rng.below(self.clients.len());
        let asked: Vec<Vec<String>> = (0..BATCH)
            .map(|_| command(&mut self.rng, if is_packet { ASKED } else { READ }))
            .collect();
        let (user, client) = &mut self.clients[at];
        let name = format!("u{user}");
        let before = client.hits();
        let answers: Vec<Vec<u8>> = if is_packet {
            let sent: Vec<u8> = asked.iter().flat_map(|words| request(words)).collect();
            client.send(&sent);
            asked.iter().map(|_| client.reply()).collect()
        } else {
            asked.iter().map(|words| client.ask(words)).collect()
        };
        self.hits += client.hits() - before;
        let verdicts: Vec<u8> = asked
            .iter()
            .flat_map(|words| {
                let mut line = vec!["ACL".to_owned(), "DRYRUN".to_owned(), name.clone()];
                line.extend(words.iter().cloned());
                request(&line)
            })
            .collect();
        self.root.send(&verdicts);
        for (words, answer) in asked.iter().zip(answers) {
            let verdict = self.root.reply();
            let (may, is_served) = (verdict == b"+OK\r\n", !answer.starts_with(b"-NOPERM"));
            self.denied += u64::from(!may);
            assert!(
                may == is_served,
                "{name}: {words:?}: {} where the server says {}; {}",
                show(&answer),
                show(&verdict),
                show(&self.root.words("ACL LIST"))
            );
        }
    }
}

fn play(kind: Kind, seed: u64, commands: u64) {
    let server = Server::with(kind, &["--requirepass", "root"]);
    let mut root = server.dial();
    assert_eq!(root.words("AUTH root"), b"+OK\r\n");
    let mut rng = Rng::new(seed);
    for user in 0..USERS {
        let line = rules(&mut rng, user);
        assert_eq!(root.words(&line), b"+OK\r\n", "{line}");
    }
    let settings = [
        "auth.mode = \"passthrough\"",
        "auth.acl_poll = \"10ms\"",
        "cache.admission = \"always\"",
        "server.workers = 2",
    ];
    let proxy = Proxy::start(&format!("redis://:root@127.0.0.1:{}", server.port), &settings);
    let clients = (0..USERS * 2).map(|at| {
        let mut client = proxy.dial();
        let user = at % USERS;
        assert_eq!(client.words(&format!("AUTH u{user} u{user}")), b"+OK\r\n");
        (user, client)
    });
    let clients = clients.collect();
    let mut world = World { rng, proxy, root, clients, hits: 0, denied: 0 };
    for batch in 0..commands.div_ceil(BATCH as u64) {
        match batch % 20 {
            0 => world.change(),
            10 => world.log_in(),
            _ => {}
        }
        world.ask();
    }
    let (hits, denied) = (world.hits, world.denied);
    let proves = hits > commands / 100 && denied > commands / 20;
    assert!(proves, "{kind:?}: {hits} hits, {denied} denied of {commands}: it proves little");
}

#[test]
fn nobody_gets_what_the_server_would_refuse() {
    let seed = number("ACL_SEED").unwrap_or(1);
    let commands = number("ACL_COMMANDS").unwrap_or(COMMANDS);
    for kind in [Kind::Redis, Kind::Valkey, Kind::Redis8] {
        play(kind, seed, commands);
    }
}
