//! A client that is kept to its key prefix (`keys.tenant_mode`), and what is another's on the same
//! server: keys of every type, channels, clients, scripts, functions, users, settings. It never
//! sends the secret that all of those have in them; so no reply may have it, and nothing of
//! theirs may change, whatever it asks.
//!
//! ```text
//!   cargo test --test real tenant                             every row; 10,000 random requests
//!   TENANT_COMMANDS=1000000 TENANT_SEED=7 cargo test ...      so many, from this seed on
//! ```

use crate::every_row::{VECTORS, sample, words};
use crate::harness::{Conn, KINDS, Kind, Proxy, Server, request, show};
use crate::rights::{number, rng::Rng};
use nearside::command::{self, Flags, Spec, own};
use nearside::scripts::Sha;
use nearside::wire::reply::{bulk, elements};
use std::collections::BTreeMap;

/// What the other tenant alone knows, and a number that it has.
const SECRET: &str = "zqSECRETqz";
const NUMBER: &str = "730001777";

/// What its keys begin with: nothing, or what could be taken for the client's own prefix.
const PREFIXES: &[&str] = &["", "other:", "tenant:", "tenant:v2:", "tenant:v1", "TENANT:v1:"];

/// What all keys of the client begin with: by `keys.version`, and by a rule's own.
const OWN: &[&str] = &["tenant:v1:", "tenant:v3:"];

const SETTINGS: &[&str] = &[
    "keys.prefix = \"tenant\"",
    "keys.version = \"v1\"",
    "keys.tenant_mode = true",
    "cache.admission = \"always\"",
];

/// Commands of the fuzz for each server, unless more are wanted.
const COMMANDS: u64 = 10_000;

/// Commands sent together, and after so many of those the other's things are looked at.
const BATCH: usize = 40;
const BATCHES: usize = 60;

/// Never sent by chance, and why.
const NOT_DRAWN: &[(&str, &str)] = &[
    ("client|pause", "nobody would be answered"),
    ("client|reply", "it says that no answer is wanted"),
];

/// What a client has tried before.
const ATTACKS: &[&str] = &[
    "KEYS *",
    "KEYS other:*",
    "SCAN 0 MATCH * COUNT 10000",
    "SCAN 0 COUNT 10000 MATCH other:* MATCH *",
    "RANDOMKEY",
    "DBSIZE",
    "SORT mine BY nosort GET other:* GET *",
    "SORT mine BY other:* GET # GET ../other:*",
    "SORT_RO mine BY nosort GET other:hash->f",
    "SORT mine STORE other:list",
    "COPY other:str mine2 DB 0",
    "COPY mine other:str DB 1 REPLACE",
    "MOVE other:str 1",
    "RENAME other:str mine2",
    "DUMP other:str",
    "BLPOP other:list tenant:v2:list 0.01",
    "XREAD BLOCK 10 STREAMS other:stream 0",
    "OBJECT ENCODING other:str",
    "MEMORY USAGE other:str",
    "MEMORY STATS",
    "MIGRATE 127.0.0.1 1 other:str 0 100",
    "DEBUG OBJECT other:str",
    "SWAPDB 0 1",
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET appendonly no",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "SLOWLOG GET 1000",
    "SLOWLOG RESET",
    "COMMANDLOG GET 1000 slow",
    "LATENCY LATEST",
    "LATENCY DOCTOR",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal SKIPME yes",
    "CLIENT KILL TYPE pubsub",
    "ACL LIST",
    "ACL USERS",
    "ACL LOG",
    "ACL LOG RESET",
    "ACL DELUSER user-of-another",
    "ACL GETUSER user-of-another",
    "ACL DRYRUN user-of-another GET other:str",
    "INFO",
    "INFO everything",
    "INFO keyspace",
    "INFO upstream errorstats keyspace clients",
    "MODULE LIST",
    "ROLE",
    "MONITOR",
    "PSYNC ? -1",
    "SYNC",
    "REPLCONF listening-port 1",
    "PUBSUB CHANNELS *",
    "PUBSUB SHARDCHANNELS *",
    "PUBSUB NUMPAT",
    "SUBSCRIBE news",
    "SUBSCRIBE __redis__:invalidate",
    "PSUBSCRIBE *",
    "SSUBSCRIBE news",
    "PUBLISH news mine",
    "SPUBLISH news mine",
    "CLUSTER GETKEYSINSLOT 0 1000",
    "FUNCTION LIST WITHCODE",
    "FUNCTION DUMP",
    "FUNCTION FLUSH",
    "FUNCTION DELETE otherlib",
    "FCALL otherfn 0",
    "FCALL_RO otherfn 0",
    "FCALL otherfn 1 other:str",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "EVAL \"return redis.call('GET', 'other:str')\" 0",
    "EVAL \"return redis.call('GET', KEYS[1])\" 1 other:str",
    "EVAL \"return redis.call('GET', ARGV[1])\" 0 other:str",
    "EVAL \"return redis.call('KEYS', '*')\" 0",
    "EVAL \"return redis.call('SCAN', 0)\" 0",
    "EVAL \"return redis.call('RANDOMKEY')\" 0",
    "EVAL \"return redis.call('DBSIZE')\" 0",
    "EVAL \"return redis.call('INFO', 'everything')\" 0",
    "EVAL \"return redis.call('SLOWLOG', 'GET', '100')\" 0",
    "EVAL \"return redis.call('PUBSUB', 'CHANNELS')\" 0",
    "EVAL \"return redis.call('PUBLISH', 'news', 'x')\" 0",
    "EVAL \"return redis.call('FLUSHALL')\" 0",
    "EVAL \"return redis.call('SWAPDB', 0, 1)\" 0",
    "EVAL \"return redis.call('SELECT', 1)\" 0",
    "EVAL \"return redis.call('SORT', KEYS[1], 'BY', 'nosort', 'GET', 'other:*')\" 1 mine",
    "EVAL \"return redis.pcall('COPY', 'other:str', KEYS[1])\" 1 mine2",
    "EVAL \"return redis.call(ARGV[1], ARGV[2])\" 0 GET other:str",
    "EVALSHA {sha} 0",
    "EVALSHA_RO {sha} 0",
    "SCRIPT SHOW {sha}",
    "SELECT 1",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON BCAST PREFIX other:",
    "PROXY CONFIG SET keys.exclude '[\"*\"]'",
    "PROXY CONFIG SET commands.allow '[\"KEYS\"]'",
    "PROXY CONFIG RELOAD",
    "PROXY VERSION SET v2",
    "PROXY GET other:str",
    "PROXY EXPLAIN GET other:str",
    "PROXY UPSTREAMS",
    "PROXY INVALIDATE PATTERN *",
];

/// Words that mean something in some place.
const WORDS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "-1",
    "1000",
    "*",
    "other:*",
    "tenant:*",
    "f",
    "a",
    "grp",
    "me",
    "news",
    "#",
    "BY",
    "GET",
    "STORE",
    "STOREDIST",
    "MATCH",
    "COUNT",
    "TYPE",
    "STREAMS",
    "GROUP",
    "KEYS",
    "DB",
    "REPLACE",
    "COPY",
    "LIMIT",
    "WITHSCORES",
    "NX",
    "XX",
    "EX",
    "NOACK",
    "BLOCK",
    "LEFT",
    "RIGHT",
    "MIN",
    "MAX",
    "ON",
    "OFF",
    "BCAST",
    "PREFIX",
    "REDIRECT",
    "ID",
    "WITHCODE",
    "everything",
    "set",
    "list",
    "channels",
    "(",
    "[a",
    "+",
    "nosort",
    "other:*->f",
    "../*",
    "default",
    "user-of-another",
    "otherlib",
    "otherfn",
    "$",
    ">",
    "1-1",
    "",
];

/// The server with what is another's, and nearside for the client.
struct Stage {
    server: Server,
    proxy: Proxy,
    /// The name of the other's script.
    sha: String,
    /// Its connections: one with a name, one that is subscribed.
    named: Conn,
    _subscriber: Conn,
    before: BTreeMap<String, Vec<u8>>,
}

/// One of every type, as the vectors name them; `P` is a prefix.
const FIXTURE: &[&str] = &[
    "SET Pstr S EX 86400",
    "SET Pnum N",
    "SET Pbits S",
    "RPUSH Plist S S b",
    "HSET Phash f S S v n N",
    "SADD Pset S 1",
    "ZADD Pzset 1 S N a",
    "XADD Pstream 1-1 f S",
    "XGROUP CREATE Pstream grp 0",
    "GEOADD Pgeo 13.361389 38.115556 S",
    "PFADD Phll S",
    "SET PS S",
];

impl Stage {
    fn start(kind: Kind, settings: &[&str]) -> Self {
        let arguments = [
            "--syslog-ident",
            SECRET,
            "--notify-keyspace-events",
            "KEA",
            "--slowlog-log-slower-than",
            "0",
            "--latency-monitor-threshold",
            "1",
        ];
        let server = Server::with(kind, &arguments);
        let mut named = server.dial();
        for database in ["1", "0"] {
            named.ask(&["SELECT", database]);
            for line in PREFIXES.iter().flat_map(|prefix| fixture(prefix, SECRET, NUMBER)) {
                let reply = named.ask(&line);
                assert!(!reply.starts_with(b"-"), "{line:?}: {}", show(&reply));
            }
        }
        let script = format!("return '{SECRET}'");
        let sha = Sha::of(script.as_bytes()).to_string();
        let library = format!(
            "#!lua name=otherlib\nredis.register_function{{function_name='otherfn', \
             callback=function() return '{SECRET}' end, flags={{'no-writes'}}}}"
        );
        let error = format!("return redis.error_reply('{SECRET} of another')");
        named.ask(&["CLIENT", "SETNAME", SECRET]);
        named.ask(&["SCRIPT", "LOAD", &script]);
        assert_eq!(named.ask(&["FUNCTION", "LOAD", &library]), b"$8\r\notherlib\r\n");
        named.ask(&["EVAL", &error, "0"]);
        named.ask(&["ACL", "SETUSER", "user-of-another", "on", &format!(">{SECRET}"), "~other:*"]);
        named.ask(&["ACL", "SETUSER", SECRET, "on", "nopass", "+get"]);
        named.ask(&["AUTH", SECRET, SECRET]);
        named.ask(&["AUTH", "default", ""]);
        named.ask(&["AUTH", &format!("no-{SECRET}"), "x"]);
        let mut subscriber = server.dial();
        subscriber.ask(&["SUBSCRIBE", &format!("news:{SECRET}")]);
        subscriber.ask(&["PSUBSCRIBE", &format!("{SECRET}*")]);
        subscriber.ask(&["SSUBSCRIBE", SECRET]);
        let proxy = Proxy::start(&server.url(), settings);
        let mut own = proxy.dial();
        for line in fixture("", "mine", "10") {
            own.ask(&line);
        }
        own.words("RPUSH mine str other:str *");
        let before = state(&mut server.dial());
        Self { server, proxy, sha, named, _subscriber: subscriber, before }
    }

    /// The other goes on: it publishes, and writes what it has.
    fn go_on(&mut self) {
        for line in
            [&["PUBLISH", "news", SECRET][..], &["SPUBLISH", "news", SECRET], &["GET", SECRET]]
        {
            self.named.ask(line);
        }
        self.named.ask(&["SET", &format!("other:{SECRET}"), SECRET]);
    }

    /// All that is the other's is as it was.
    fn assert_untouched(&mut self, after: &str) {
        let now = state(&mut self.server.dial());
        let changed: Vec<&String> = self
            .before
            .keys()
            .chain(now.keys())
            .filter(|name| self.before.get(*name) != now.get(*name))
            .collect();
        assert!(changed.is_empty(), "after {after}: {changed:?}");
        assert_eq!(self.named.ask(&["PING"]), b"+PONG\r\n", "the other's connection is there");
    }
}

fn fixture(prefix: &str, secret: &str, number: &str) -> Vec<Vec<String>> {
    let word = |word: &str| match word.strip_prefix('P') {
        Some("FADD") => word.to_owned(),
        Some("S") => format!("{prefix}{secret}"),
        Some(name) => format!("{prefix}{name}"),
        None if word == "S" => secret.to_owned(),
        None if word == "N" => number.to_owned(),
        None => word.to_owned(),
    };
    FIXTURE.iter().map(|line| line.split(' ').map(word).collect()).collect()
}

/// All that is not the client's, by name.
fn state(direct: &mut Conn) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for database in ["0", "1", "2"] {
        direct.ask(&["SELECT", database]);
        let keys = direct.words("KEYS *");
        let is_own = |key: &[u8]| OWN.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
        for key in elements(&keys).filter_map(bulk).filter(|key| !is_own(key)) {
            let told = [direct.ask(&[b"DUMP", key]), direct.ask(&[b"PEXPIRETIME", key])].concat();
            found.insert(format!("{database}/{}", key.escape_ascii()), told);
        }
    }
    let sha = Sha::of(format!("return '{SECRET}'").as_bytes()).to_string();
    for line in ["CONFIG GET *", "ACL LIST", "FUNCTION LIST WITHCODE", "PUBSUB NUMSUB news:S"] {
        found.insert(line.to_owned(), direct.words(&line.replace(":S", &format!(":{SECRET}"))));
    }
    found.insert("its script".to_owned(), direct.ask(&["SCRIPT", "EXISTS", &sha]));
    found
}

/// What one reply, and all that was pushed before it, says; empty if the connection has ended.
fn answer(conn: &mut Conn) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(reply) = conn.try_reply() {
        all.extend_from_slice(&reply);
        if reply.first() != Some(&b'>') {
            break;
        }
    }
    all
}

fn has_secret(reply: &[u8]) -> bool {
    [SECRET, NUMBER].iter().any(|secret| {
        reply.windows(secret.len()).any(|part| part.eq_ignore_ascii_case(secret.as_bytes()))
    })
}

fn assert_is_silent(asked: &[Vec<u8>], reply: &[u8]) {
    let words: Vec<String> = asked.iter().map(|word| word.escape_ascii().to_string()).collect();
    assert!(!has_secret(reply), "{words:?} is answered: {}", show(reply));
}

/// The vectors of every command, each without its marks.
fn vectors() -> Vec<Vec<Vec<u8>>> {
    let lines = VECTORS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let bare = |line: &'static str| {
        let line = line.strip_prefix("+ ").unwrap_or(line);
        let line = line.strip_prefix("= ").unwrap_or(line);
        match line.split_once("> ") {
            Some((count, rest)) if count.parse::<u32>().is_ok() => rest,
            _ => line,
        }
    };
    lines.map(bare).map(words).filter(|words| may_be_sent(words)).collect()
}

fn row(words: &[Vec<u8>]) -> Option<&'static Spec> {
    command::resolve(words.len(), |at| &words[at]).ok()
}

fn may_be_sent(words: &[Vec<u8>]) -> bool {
    row(words).is_none_or(|spec| !NOT_DRAWN.iter().any(|(name, _)| *name == spec.name))
}

/// A request with its keys, all of them and one by one, named as the other's are; and with other
/// words in each place.
fn turned(words: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut all = vec![words.to_vec()];
    let mut keys = Vec::new();
    if let Some(spec) = row(words) {
        command::keys::for_each(spec, words.len(), |at| &words[at], |at| keys.push(at));
    }
    for prefix in PREFIXES.iter().filter(|prefix| !prefix.is_empty()) {
        let mut other = words.to_vec();
        for &at in &keys {
            other[at] = [prefix.as_bytes(), &words[at]].concat();
        }
        all.push(other);
    }
    for at in 1..words.len() {
        let name = [b"other:", words[at].as_slice()].concat();
        for word in [name, b"other:str".to_vec(), b"*".to_vec()] {
            let mut other = words.to_vec();
            other[at] = word;
            all.push(other);
        }
    }
    all
}

/// What may block stands between MULTI and EXEC, where nothing does.
fn unblocked(words: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    if row(&words).is_some_and(|spec| spec.flags.has(Flags::BLOCKING)) {
        vec![vec![b"MULTI".to_vec()], words, vec![b"EXEC".to_vec()]]
    } else {
        vec![words]
    }
}

/// Each row as it is asked for at least, with the other's keys.
fn rows() -> impl Iterator<Item = Vec<Vec<u8>>> {
    let of_proxy = own::all().iter().map(|spec| {
        let words = spec.name.split('|').map(|word| word.as_bytes().to_vec());
        words.chain([b"other:str".to_vec(), b"other:list".to_vec()]).collect()
    });
    let all = command::all().iter().filter(|spec| spec.subcommands == 0).map(sample);
    all.chain(of_proxy).filter(|words: &Vec<Vec<u8>>| may_be_sent(words))
}

#[test]
fn no_command_reaches_what_is_anothers() {
    for (kind, hello) in [(Kind::Redis, "HELLO 2"), (Kind::Valkey, "HELLO 3")] {
        let mut stage = Stage::start(kind, SETTINGS);
        let mut asked = 0;
        for words in vectors().into_iter().chain(rows()) {
            let mut conn = stage.proxy.dial();
            conn.words(hello);
            for other in turned(&words).into_iter().flat_map(unblocked) {
                conn.send(&request(&other));
                let reply = answer(&mut conn);
                assert_is_silent(&other, &reply);
                asked += 1;
                if reply.is_empty() {
                    conn = stage.proxy.dial();
                }
            }
        }
        assert!(asked > 15_000, "{asked}");
        stage.assert_untouched("every row");
        assert_eq!(stage.proxy.dial().words("PING"), b"+PONG\r\n");
    }
}

/// Rows whose replies are of chance, of clocks, or of the name itself.
const BY_CHANCE: &[&str] = &[
    "cluster|keyslot",
    "dump",
    "georadius",
    "hrandfield",
    "memory|usage",
    "object|idletime",
    "spop",
    "srandmember",
    "xadd",
    "xautoclaim",
    "xclaim",
    "xinfo|consumers",
    "xinfo|stream",
    "xpending",
    "zrandmember",
];

/// What is another's is answered as what is nobody's, by every command that names keys.
#[test]
fn what_is_anothers_is_not_there() {
    for kind in KINDS {
        let mut stage = Stage::start(kind, SETTINGS);
        let (mut compared, mut differences) = (0, Vec::new());
        for words in vectors() {
            let Some(spec) = row(&words).filter(|spec| !BY_CHANCE.contains(&spec.name)) else {
                continue;
            };
            let mut keys = Vec::new();
            command::keys::for_each(spec, words.len(), |at| &words[at], |at| keys.push(at));
            if keys.is_empty() || spec.flags.has(Flags::BLOCKING) {
                continue;
            }
            let told = |prefix: &str, conn: &mut Conn| {
                let mut named = words.clone();
                for &at in &keys {
                    named[at] = [prefix.as_bytes(), &words[at]].concat();
                }
                String::from_utf8_lossy(&conn.ask(&named)).replace(prefix, "")
            };
            let mut conn = stage.proxy.dial();
            let (theirs, nobodys) = (told("other:", &mut conn), told("noone:", &mut conn));
            if theirs != nobodys {
                let words = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
                differences.push(format!("{words}: {theirs:?}, {nobodys:?}"));
            }
            compared += 1;
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        assert!(compared > 400, "{compared}");
        stage.assert_untouched("all that names keys");
    }
}

#[test]
fn what_was_tried_before_is_told_nothing() {
    for kind in KINDS {
        let mut stage = Stage::start(kind, SETTINGS);
        for line in ATTACKS {
            let line = words(&line.replace("{sha}", &stage.sha));
            // Alone, and between MULTI and EXEC; twice, for what is cached.
            for (hello, queued) in [("HELLO 2", false), ("HELLO 3", false), ("HELLO 3", true)] {
                let mut conn = stage.proxy.dial();
                conn.words(hello);
                let multi = [b"MULTI".to_vec()];
                let exec = [b"EXEC".to_vec()];
                let all: Vec<&[Vec<u8>]> =
                    if queued { vec![&multi, &line, &exec] } else { vec![&line, &line] };
                for request_words in all {
                    conn.send(&request(request_words));
                    assert_is_silent(&line, &answer(&mut conn));
                }
                stage.go_on();
                // Whatever it is told unasked comes before this.
                conn.send(&request(&["PING"]));
                assert_is_silent(&line, &answer(&mut conn));
            }
            stage.assert_untouched(&format!("{:?}", String::from_utf8_lossy(&line.concat())));
        }
    }
}

/// What is a tenant's own goes on as ever.
#[test]
fn what_is_its_own_is_served() {
    for kind in KINDS {
        let stage = Stage::start(kind, SETTINGS);
        let mut conn = stage.proxy.dial();
        let setting = conn.words("PROXY CONFIG GET keys.tenant_mode");
        assert!(setting.ends_with(b"$4\r\ntrue\r\n"), "{}", show(&setting));
        for (line, reply) in [
            ("FLUSHALL", "+OK\r\n"),
            ("SET k v", "+OK\r\n"),
            ("GET k", "$1\r\nv\r\n"),
            ("KEYS *", "*1\r\n$1\r\nk\r\n"),
            ("SCAN 0 COUNT 10000", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n"),
            ("RANDOMKEY", "$1\r\nk\r\n"),
            ("COPY k l DB 1", ":1\r\n"),
            ("SELECT 1", "+OK\r\n"),
            ("GET l", "$1\r\nv\r\n"),
            ("FLUSHDB", "+OK\r\n"),
            ("SELECT 0", "+OK\r\n"),
            ("EVAL return(redis.call('GET',KEYS[1])) 1 k", "$1\r\nv\r\n"),
            ("MULTI", "+OK\r\n"),
            ("INCR n", "+QUEUED\r\n"),
            ("EXEC", "*1\r\n:1\r\n"),
            ("MULTI", "+OK\r\n"),
            ("CONFIG GET *", REFUSED),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
            ("CONFIG GET *", REFUSED),
        ] {
            assert_eq!(String::from_utf8_lossy(&conn.words(line)), reply, "{line}");
        }
        let info = String::from_utf8_lossy(&conn.words("INFO")).into_owned();
        assert!(info.contains("redis_version:7.") && info.contains("role:master"), "{info}");
        assert!(!info.contains("db0:") && info.contains("proxy_key_prefix:tenant:v1:"), "{info}");
        let told = String::from_utf8_lossy(&conn.words("FCALL otherfn 0")).into_owned();
        assert!(told.contains("scripts.allow = [\"function:otherfn\"] permits it"), "{told}");
        let told = String::from_utf8_lossy(&conn.words("PROXY VERSION SET v2")).into_owned();
        assert!(told.starts_with("-NOPERM nearside refuses 'proxy version'"), "{told}");
        assert_eq!(stage.proxy.count("nearside_commands_rejected_total{reason=\"noperm\"}"), 3);
    }
}

const REFUSED: &str = "-NOPERM nearside refuses 'config get': keys.tenant_mode keeps clients to the \
                       key prefix (commands.allow = [\"CONFIG|GET\"] permits it)\r\n";

/// The other's things are where they are looked for: without the mode, many replies tell of them;
/// and what an operator permits is permitted.
#[test]
fn a_prefix_alone_keeps_nobody_apart() {
    const TELLING: [&str; 6] = [
        "CONFIG GET syslog*",
        "SLOWLOG GET 1000",
        "ACL LIST",
        "ACL LOG",
        "PUBSUB CHANNELS *",
        "FUNCTION LIST WITHCODE",
    ];
    for kind in KINDS {
        let stage = Stage::start(kind, &SETTINGS[..2]);
        for line in TELLING {
            assert!(has_secret(&stage.proxy.dial().words(line)), "{line}");
        }
        let allow = "commands.allow = [\"FUNCTION|LIST\"]\nscripts.allow = [\"function:otherfn\"]";
        let proxy = Proxy::start(&stage.server.url(), &[SETTINGS, &[allow]].concat());
        assert!(has_secret(&proxy.dial().words("FUNCTION LIST WITHCODE")));
        assert!(has_secret(&proxy.dial().words("FCALL otherfn 0")));
        assert!(!has_secret(&proxy.dial().words("ACL LIST")));
    }
}

/// A random request: a vector with other words in some places, or a row and any words.
fn draw(rng: &mut Rng, vectors: &[Vec<Vec<u8>>], sha: &str) -> Vec<Vec<u8>> {
    let all = command::all();
    let mut words = match rng.below(10) {
        0..6 => rng.pick(vectors).clone(),
        6..9 => {
            let mut words = sample(rng.pick(all));
            words.resize(words.len() + rng.below(4), b"1".to_vec());
            words
        }
        _ => {
            let name = rng.pick(own::all()).name.split('|').map(|word| word.as_bytes().to_vec());
            let mut words: Vec<_> = name.collect();
            words.resize(words.len() + rng.below(4), b"1".to_vec());
            words
        }
    };
    for word in words.iter_mut().skip(1) {
        if rng.chance(35) {
            *word = drawn(rng, sha);
        }
    }
    words
}

fn drawn(rng: &mut Rng, sha: &str) -> Vec<u8> {
    const TYPES: [&str; 10] =
        ["str", "num", "bits", "list", "hash", "set", "zset", "stream", "geo", "mine"];
    match rng.below(10) {
        0..4 => format!("{}{}", rng.pick(PREFIXES), rng.pick(&TYPES)).into_bytes(),
        4..9 => rng.pick(WORDS).as_bytes().to_vec(),
        _ => sha.as_bytes().to_vec(),
    }
}

#[test]
fn no_random_request_reaches_what_is_anothers() {
    let wanted = number("TENANT_COMMANDS").unwrap_or(COMMANDS);
    let seed = number("TENANT_SEED").unwrap_or(1);
    // With one prefix, and with two: both are the client's.
    let rule = "rules = [{ match = \"[hls]*\", version = \"v3\" }]";
    let several = [SETTINGS, &[rule]].concat();
    for (kind, settings) in [(Kind::Redis, SETTINGS), (Kind::Valkey, several.as_slice())] {
        let mut stage = Stage::start(kind, settings);
        let (mut rng, vectors) = (Rng::new(seed), vectors());
        let (mut asked, mut batches) = (0, 0);
        let mut conn = stage.proxy.dial();
        while asked < wanted {
            let batch = draw_batch(&mut rng, &vectors, &stage.sha);
            let bytes: Vec<u8> = batch.iter().flat_map(|words| request(words)).collect();
            let is_open = conn.try_send(&bytes).is_ok();
            for words in &batch {
                let reply = if is_open { answer(&mut conn) } else { Vec::new() };
                assert_is_silent(words, &reply);
                if reply.is_empty() {
                    // QUIT, or CLIENT KILL.
                    conn = stage.proxy.dial();
                    break;
                }
                asked += 1;
            }
            batches += 1;
            if batches % BATCHES == 0 || asked >= wanted {
                stage.go_on();
                stage.assert_untouched(&format!("{asked} requests of seed {seed}"));
            }
        }
        println!("{kind:?}: {asked} requests from seed {seed} on");
    }
}

fn draw_batch(rng: &mut Rng, vectors: &[Vec<Vec<u8>>], sha: &str) -> Vec<Vec<Vec<u8>>> {
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        let words = draw(rng, vectors, sha);
        if !may_be_sent(&words) {
            continue;
        }
        batch.extend(unblocked(words));
    }
    batch
}
