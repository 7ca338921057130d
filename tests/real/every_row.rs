//! Every row of the command table, direct and through nearside, on twin servers: equal replies.
//!
//! `tests/data/vectors.txt` has argument vectors for every command that a server has; more are
//! made here of each (with its keys of every type and of none) and of each row (too few and too
//! many arguments; for commands that the server lacks, one that it does not know). Reads that are
//! cached are asked again until they are hits. Beside the keys that the commands name lie decoys
//! of the same names under other versions, which must stay as they are.

use crate::harness::{Conn, KINDS, Kind, Proxy, SEVERAL, Server, request, show};
use nearside::command::{self, Choices, Disposition, Flags, KeySpec, Policy, Refusal, Spec, keys};
use nearside::wire::inline;
use nearside::wire::reply;
use nearside::wire::request::{Limits, Request, Scan};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub(crate) const VECTORS: &str = include_str!("../data/vectors.txt");

/// Each run compares at least so many replies.
const COMPARED_MIN: usize = 3_000;

/// Times a cached read is asked again for a hit: the first reply may have been no miss of this
/// client only, and the lease may be lost for a moment on a busy machine.
const ASKED_MAX: usize = 200;

/// A key of every type that a command may meet.
const TYPES: [&str; 7] = ["none", "str", "list", "hash", "set", "zset", "stream"];

/// What every line begins with.
const FIXTURE: &[&str] = &[
    "SET str hello",
    "SET num 10",
    "SET bits 123",
    "RPUSH list a b c b",
    "HSET hash f v g w n 5",
    "SADD set 1 2 3",
    "ZADD zset 1 a 2 b 3.5 c",
    "XADD stream 1-1 f v",
    "XADD stream 1-2 f w",
    "XGROUP CREATE stream grp 0",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "PFADD hll a b c",
];

/// How two replies are compared that cannot be the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Like {
    /// The same bytes.
    Same,
    /// The same elements at every depth, in any order.
    AnyOrder,
    /// A reply of the same type.
    Type,
    /// The same first word: of an error, its code.
    Word,
    /// The same bytes, or nearside's refusal of a script with the remedy.
    OrRefused,
}

/// All that may differ, and why. An entry is for lines that begin with its words.
const EXCEPTIONS: &[(&str, Like, &str)] = &[
    ("KEYS", Like::AnyOrder, "the keyspace has no order"),
    ("SCAN 0 COUNT", Like::AnyOrder, "the keyspace has no order"),
    ("SCAN 0 MATCH", Like::AnyOrder, "the keyspace has no order"),
    ("SCAN 0", Like::Type, "which keys come first is chance"),
    ("RANDOMKEY", Like::Type, "chance"),
    ("HRANDFIELD hash", Like::Type, "chance"),
    ("SRANDMEMBER set", Like::Type, "chance"),
    ("ZRANDMEMBER zset", Like::Type, "chance"),
    ("ACL GENPASS", Like::Type, "chance"),
    ("COMMAND", Like::AnyOrder, "the server's own table has no order"),
    ("CONFIG GET", Like::AnyOrder, "the server's own table has no order"),
    ("CLIENT ID", Like::Type, "nearside's clients have nearside's ids"),
    ("CLIENT INFO", Like::Type, "nearside's clients are not the server's"),
    ("CLIENT LIST", Like::Type, "nearside's clients are not the server's"),
    ("CLIENT HELP", Like::Type, "nearside names what it has"),
    ("FUNCTION LIST", Like::AnyOrder, "a library's functions have no order"),
    ("CONFIG REWRITE", Like::Type, "an error, of nearside's own file"),
    ("INFO", Like::Type, "figures, and nearside's own sections"),
    ("TIME", Like::Type, "a clock"),
    ("LASTSAVE", Like::Type, "a clock"),
    ("OBJECT IDLETIME", Like::Type, "a clock"),
    ("ACL LOG", Like::Type, "nearside answers AUTH; the server never hears of it"),
    ("SLOWLOG GET", Like::Type, "clocks and addresses"),
    ("COMMANDLOG GET", Like::Type, "clocks and addresses"),
    ("SLOWLOG LEN", Like::Type, "what was slow is chance"),
    ("COMMANDLOG LEN", Like::Type, "what was slow is chance"),
    ("LOLWUT", Like::Type, "chance"),
    ("MEMORY USAGE", Like::Type, "what an allocator gives is chance"),
    ("MEMORY MALLOC-STATS", Like::Type, "figures of the server's memory"),
    ("MEMORY STATS", Like::Type, "figures of the server's memory"),
];

/// Never sent, and why.
const NOT_SENT: &[(&str, &str)] = &[("pfselftest", "keeps the server busy for ten seconds")];

/// As [`EXCEPTIONS`], where keys have a version.
const UNDER_A_VERSION: &[(&str, Like, &str)] = &[
    ("DBSIZE", Like::Type, "counts the keys of all versions"),
    ("CLUSTER KEYSLOT", Like::Type, "of the key that upstream knows"),
    ("EVAL \"syntax\" 0", Like::OrRefused, "what it does cannot be read"),
    (
        "EVALSHA 4a2267357833227dd98abdedb8cf24b15a986445",
        Like::OrRefused,
        "it answers the name of a key",
    ),
    (
        "EVALSHA_RO 4a2267357833227dd98abdedb8cf24b15a986445",
        Like::OrRefused,
        "it answers the name of a key",
    ),
    ("EVALSHA", Like::Word, "NOSCRIPT in the words of Redis"),
    ("EVALSHA_RO", Like::Word, "NOSCRIPT in the words of Redis"),
];

fn like(text: &str, is_versioned: bool) -> Like {
    let versioned = if is_versioned { UNDER_A_VERSION } else { &[] };
    let mut all = versioned.iter().chain(EXCEPTIONS);
    all.find(|entry| begins(text, entry.0)).map_or(Like::Same, |entry| entry.1)
}

/// True if the first words of a line are these.
pub(crate) fn begins(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

pub(crate) fn is_like(like: Like, direct: &[u8], ours: &[u8]) -> bool {
    match like {
        Like::Same => direct == ours,
        Like::AnyOrder => sorted(direct) == sorted(ours),
        Like::Type => direct.first() == ours.first(),
        Like::Word => {
            let word = |reply: &[u8]| reply.split(|&byte| byte == b' ').next().map(<[u8]>::to_vec);
            word(direct) == word(ours)
        }
        Like::OrRefused => {
            let text = String::from_utf8_lossy(ours);
            let is_refused = text.starts_with("-ERR nearside refuses ");
            direct == ours || (is_refused && text.contains("scripts.allow"))
        }
    }
}

/// A reply with the elements of every aggregate in order of their bytes.
fn sorted(frame: &[u8]) -> Vec<u8> {
    let mut elements: Vec<Vec<u8>> = reply::elements(frame).map(sorted).collect();
    if elements.is_empty() {
        return frame.to_vec();
    }
    elements.sort();
    let header = frame.iter().position(|&byte| byte == b'\n').unwrap();
    [&frame[..=header], &elements.concat()].concat()
}

/// One request, and how it is to be sent.
#[derive(Clone, Debug)]
struct Vector {
    text: String,
    args: Vec<Vec<u8>>,
    spec: Option<&'static Spec>,
    /// Goes on from the state that the one before has left.
    goes_on: bool,
    /// Nothing more is made of it.
    is_alone: bool,
    replies: usize,
}

impl Vector {
    fn of(args: Vec<Vec<u8>>, text: String) -> Self {
        let spec = command::resolve(args.len(), |at| &args[at]).ok();
        Self { text, args, spec, goes_on: false, is_alone: true, replies: 1 }
    }

    fn read(line: &'static str) -> Self {
        let (goes_on, rest) = line.strip_prefix("+ ").map_or((false, line), |rest| (true, rest));
        let (is_alone, rest) = rest.strip_prefix("= ").map_or((false, rest), |rest| (true, rest));
        let counted = rest
            .split_once("> ")
            .and_then(|(count, rest)| Some((count.parse::<usize>().ok()?, rest)));
        let (replies, text) = counted.unwrap_or((1, rest));
        let is_alone = is_alone || goes_on || replies > 1;
        Self { goes_on, is_alone, replies, ..Self::of(words(text), text.to_owned()) }
    }

    /// The same with all its keys replaced by each of [`TYPES`].
    fn with_other_keys(&self) -> Vec<Self> {
        let mut at = Vec::new();
        if let (Some(spec), false) = (self.spec, self.is_alone) {
            keys::for_each(spec, self.args.len(), |at| &self.args[at], |key| at.push(key));
            at.retain(|&at| !self.args[at].contains(&b'*'));
        }
        let other = |name: &&str| {
            let mut args = self.args.clone();
            for &at in &at {
                args[at] = name.as_bytes().to_vec();
            }
            (args != self.args).then(|| {
                let text = args.iter().map(|arg| arg.escape_ascii().to_string());
                Self::of(args.clone(), text.collect::<Vec<_>>().join(" "))
            })
        };
        TYPES.iter().filter_map(other).collect()
    }

    fn disposition(&self, policy: &Policy) -> Option<Disposition> {
        let spec = self.spec.filter(|spec| spec.accepts(self.args.len()))?;
        Some(spec.disposition(policy, self.args.len(), |at| &self.args[at]))
    }
}

/// A line's arguments, quoted as inline commands are.
pub(crate) fn words(text: &str) -> Vec<Vec<u8>> {
    let bytes = inline::to_multibulk(format!("{text}\r\n").as_bytes()).unwrap().to_vec();
    let mut args = Vec::new();
    let limits = Limits { args_max: 1000, bulk_max: 1 << 20, unauthenticated: false };
    Scan::default().next(&bytes, &mut args, &limits).unwrap();
    Request::new(&bytes, &args).from(0).map(<[u8]>::to_vec).collect()
}

fn corpus() -> Vec<Vector> {
    let is_vector = |line: &&str| !line.is_empty() && !line.starts_with('#');
    VECTORS.lines().filter(is_vector).map(Vector::read).collect()
}

/// The name of a row as it is sent: `CLIENT SETNAME`.
fn name(spec: &Spec) -> Vec<Vec<u8>> {
    spec.name.split('|').map(|word| word.to_ascii_uppercase().into_bytes()).collect()
}

/// A row with as many arguments as it wants at least: keys, and a number where one belongs.
pub(crate) fn sample(spec: &Spec) -> Vec<Vec<u8>> {
    let mut args = name(spec);
    let count = match spec.keys {
        KeySpec::Counted { count, .. } => Some(usize::from(count)),
        KeySpec::DestinationCounted => Some(2),
        _ => None,
    };
    let least = usize::from(spec.arity.unsigned_abs());
    let least = if spec.arity < 0 { least.max(args.len() + 1) } else { least };
    args.resize(least.max(count.map_or(0, |count| count + 2)), b"str".to_vec());
    if let Some(count) = count {
        args[count] = b"1".to_vec();
    }
    args
}

/// Requests that their rows do not accept: too few arguments, and too many.
fn misfits(rows: impl Iterator<Item = &'static Spec>) -> Vec<Vector> {
    let mut made = Vec::new();
    for spec in rows {
        let mut long = sample(spec);
        long.push(b"more".to_vec());
        for args in [name(spec), long] {
            if !spec.accepts(args.len()) {
                made.push(Vector::of(args, format!("{} (arity)", spec.name)));
            }
        }
    }
    made
}

/// A server, and its twin behind nearside; both have the fixture.
struct Stage {
    direct: Server,
    behind: Server,
    proxy: Proxy,
    policy: Policy,
    /// True if keys without a prefix may be a client's.
    has_bare_keys: bool,
    /// Every key that a vector names.
    names: Vec<Vec<u8>>,
    known: BTreeSet<String>,
}

/// What one protocol's run found.
#[derive(Default)]
struct Report {
    compared: usize,
    differences: Vec<String>,
    hits: BTreeMap<&'static str, u64>,
}

struct Ends {
    direct: Conn,
    ours: Conn,
}

impl Stage {
    fn start(kind: Kind, settings: &[&str]) -> Self {
        let (direct, behind) = (Server::start(kind), Server::start(kind));
        let keeps = ["cache.admission = \"always\"", "cache.max_variants = 64"];
        let proxy = Proxy::start(&behind.url(), &[settings, &keeps].concat());
        let mut names = BTreeSet::new();
        for vector in corpus() {
            if let Some(spec) = vector.spec {
                let arg = |at: usize| vector.args[at].as_slice();
                keys::for_each(spec, vector.args.len(), arg, |at| {
                    names.insert(vector.args[at].clone());
                });
            }
        }
        names.extend(TYPES.map(|name| name.as_bytes().to_vec()));
        let list = direct.dial().words("COMMAND LIST");
        let text = |name| String::from_utf8(reply::bulk(name).unwrap().to_vec()).unwrap();
        let known = reply::elements(&list).map(text).collect();
        let policy = Policy::new(!settings.is_empty(), &Choices::default());
        let names = names.into_iter().collect();
        let has_bare_keys = settings.is_empty() || settings == SEVERAL;
        let stage = Self { direct, behind, proxy, policy, has_bare_keys, names, known };
        stage.write_decoys();
        stage
    }

    fn decoys(&self) -> Vec<String> {
        let prefixes: &[&str] = match (self.policy.prefixed, self.has_bare_keys) {
            (true, false) => &["v2:", "v1x:", ""],
            (true, true) => &["v2:", "v1x:"],
            _ => &["v2:"],
        };
        let named = |prefix: &&str| TYPES.map(|name| format!("{prefix}{name}"));
        prefixes.iter().flat_map(named).collect()
    }

    /// Under a version, only nearside's server has other keys; else both have the same.
    fn write_decoys(&self) {
        let mut conns = vec![self.behind.dial()];
        if !self.policy.prefixed {
            conns.push(self.direct.dial());
        }
        for conn in &mut conns {
            for key in self.decoys() {
                assert_eq!(conn.ask(&["SET", &key, "decoy"]), b"+OK\r\n");
            }
        }
    }

    /// True if no decoy was touched. Without a version FLUSHALL takes them, too.
    fn has_its_decoys(&self) -> bool {
        let mut behind = self.behind.dial();
        self.decoys().iter().all(|key| behind.ask(&["GET", key]) == b"$5\r\ndecoy\r\n")
    }

    fn ends(&self, proto: &str) -> Ends {
        let mut ends = Ends { direct: self.direct.dial(), ours: self.proxy.dial() };
        if proto == "3" {
            ends.direct.words("HELLO 3");
            ends.ours.words("HELLO 3");
        }
        ends
    }

    /// Brings both sides to where every line begins.
    fn reset(&self, ends: &mut Ends) {
        let mut del = vec![b"DEL".to_vec()];
        del.extend(self.names.iter().cloned());
        let mut bytes = Vec::new();
        for database in ["1", "0"] {
            bytes.extend(request(&["SELECT", database]));
            bytes.extend(request(&del));
        }
        for line in FIXTURE {
            bytes.extend(request(&words(line)));
        }
        ends.direct.send(&bytes);
        ends.ours.send(&bytes);
        for _ in 0..4 + FIXTURE.len() {
            let (direct, ours) = (ends.direct.reply(), ends.ours.reply());
            assert!(!ours.starts_with(b"-"), "{}", show(&ours));
            // How many keys there were: the other side may have refused to make some.
            assert_eq!(direct[0], ours[0]);
        }
    }

    /// All lines of the corpus with what is made of them, then what is made of the rows: for those
    /// that the server has, requests that do not fit; for the others, one that it does not know.
    fn run(&self, proto: &str) -> Report {
        let mut report = Report::default();
        let mut ends = self.ends(proto);
        let corpus = corpus();
        for (at, vector) in corpus.iter().enumerate() {
            if vector.goes_on {
                self.compare(vector, proto, &mut ends, &mut report);
                continue;
            }
            for other in vector.with_other_keys() {
                self.compare(&other, proto, &mut ends, &mut report);
                if !other.spec.is_some_and(|spec| spec.flags.has(Flags::READONLY)) {
                    self.reset(&mut ends);
                }
            }
            // What came before may have changed the connection.
            if at == 0 || corpus[at - 1].is_alone {
                ends = self.ends(proto);
            }
            self.reset(&mut ends);
            self.compare(vector, proto, &mut ends, &mut report);
        }
        ends = self.ends(proto);
        let (known, unknown): (Vec<_>, Vec<_>) = command::all()
            .iter()
            .filter(|spec| spec.subcommands == 0)
            .partition(|spec| self.has(spec));
        let stranger = |spec| Vector::of(sample(spec), format!("{} (unknown)", spec.name));
        let strangers = unknown.into_iter().map(stranger);
        for vector in misfits(known.into_iter()).into_iter().chain(strangers) {
            self.compare(&vector, proto, &mut ends, &mut report);
        }
        report
    }

    fn has(&self, spec: &Spec) -> bool {
        self.known.contains(spec.name)
    }

    fn compare(&self, vector: &Vector, proto: &str, ends: &mut Ends, report: &mut Report) {
        let bytes = request(&vector.args);
        let disposition = vector.disposition(&self.policy);
        let spec = vector.spec.filter(|_| disposition.is_some());
        match (spec, disposition) {
            // What nearside answers by itself does not depend on the server's age.
            (Some(spec), Some(Disposition::Local | Disposition::Refuse(_))) if !self.has(spec) => {
                return;
            }
            (Some(spec), Some(Disposition::Refuse(why))) if why != Refusal::Cluster => {
                return self.expect_refusal(spec, &bytes, proto, ends, report);
            }
            _ => {}
        }
        ends.direct.send(&bytes);
        ends.ours.send(&bytes);
        let like = like(&vector.text, self.policy.prefixed);
        for _ in 0..vector.replies {
            let (expected, got) = (ends.direct.try_reply(), ends.ours.try_reply());
            report.compared += 1;
            let (Some(expected), Some(got)) = (&expected, &got) else {
                if expected.is_some() || got.is_some() {
                    report.differences.push(format!("RESP{proto} {}: closed", vector.text));
                }
                *ends = self.ends(proto);
                return;
            };
            if !is_like(like, expected, got) {
                report.differ(proto, &vector.text, "first", expected, got);
                return;
            }
            let is_value = !got.starts_with(b"-") && got != b"+QUEUED\r\n";
            if disposition == Some(Disposition::Cacheable) && is_value {
                again(vector, proto, &bytes, got, ends, report);
            }
        }
    }

    /// Never sent direct: it would stop the server.
    fn expect_refusal(
        &self,
        spec: &'static Spec,
        bytes: &[u8],
        proto: &str,
        ends: &mut Ends,
        report: &mut Report,
    ) {
        // FLUSHDB and FLUSHALL are taken apart instead.
        if self.policy.prefixed && matches!(spec.name, "flushdb" | "flushall") {
            ends.direct.send(bytes);
            ends.ours.send(bytes);
            let (expected, got) = (ends.direct.reply(), ends.ours.reply());
            if expected != got {
                report.differ(proto, spec.name, "first", &expected, &got);
            }
            return;
        }
        ends.ours.send(bytes);
        let got = ends.ours.reply();
        report.compared += 1;
        let text = String::from_utf8_lossy(&got).into_owned();
        let name = spec.name.replace('|', " ");
        let is_named =
            |code: &str| text.starts_with(&format!("{code} nearside refuses '{name}': "));
        if !is_named("-ERR") && !is_named("-NOPERM") {
            report.differ(proto, spec.name, "refused", b"-ERR nearside refuses", &got);
        }
    }
}

/// Asks a cached read again until nearside serves it; it must stay the same all the while. What is
/// not kept (a value of no key that may not be known as such) is asked once more only.
fn again(
    vector: &Vector,
    proto: &str,
    bytes: &[u8],
    first: &[u8],
    ends: &mut Ends,
    report: &mut Report,
) {
    let spec = vector.spec.unwrap();
    let is_kept = report.hits.get(spec.name).is_none_or(|&hits| hits == 0);
    let before = ends.ours.hits();
    for _ in 0..if is_kept { ASKED_MAX } else { 2 } {
        ends.ours.send(bytes);
        let got = ends.ours.reply();
        report.compared += 1;
        if got != first {
            return report.differ(proto, &vector.text, "again", first, &got);
        }
        let hits = ends.ours.hits() - before;
        if hits > 0 {
            *report.hits.entry(spec.name).or_default() += hits;
            return;
        }
    }
}

impl Report {
    fn differ(&mut self, proto: &str, text: &str, what: &str, expected: &[u8], got: &[u8]) {
        let (expected, got) = (show(expected), show(got));
        self.differences.push(format!("RESP{proto} {text} ({what})\n  {expected}\n  {got}"));
    }
}

#[expect(clippy::print_stdout, reason = "what a run was worth")]
fn every_row(kind: Kind, settings: &[&str]) {
    let stage = Stage::start(kind, settings);
    let mut differences = String::new();
    for proto in ["2", "3"] {
        let report = stage.run(proto);
        let compared = report.compared;
        println!("{kind:?} {settings:?} RESP{proto}: {compared} compared");
        assert!(compared >= COMPARED_MIN, "only {compared} replies were compared");
        for difference in &report.differences {
            writeln!(differences, "{difference}").unwrap();
        }
        for spec in command::all().iter().filter(|spec| spec.cacheable() && stage.has(spec)) {
            if report.hits.get(spec.name).is_none_or(|&hits| hits == 0) {
                writeln!(differences, "RESP{proto} {}: never a hit", spec.name).unwrap();
            }
        }
    }
    assert!(settings.is_empty() || stage.has_its_decoys(), "another version's keys were touched");
    let missing: Vec<&str> =
        command::all().iter().filter(|spec| !stage.has(spec)).map(|spec| spec.name).collect();
    println!("{kind:?} has not, so seen as unknown only: {}", missing.join(" "));
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn every_row_of_redis() {
    every_row(Kind::Redis, &[]);
}

#[test]
fn every_row_of_redis_under_a_version() {
    every_row(Kind::Redis, &["keys.version = \"v1\""]);
}

#[test]
fn every_row_of_redis_under_several_versions() {
    every_row(Kind::Redis, SEVERAL);
}

#[test]
fn every_row_of_valkey() {
    every_row(Kind::Valkey, &[]);
}

#[test]
fn every_row_of_valkey_under_a_version() {
    every_row(Kind::Valkey, &["keys.version = \"v1\""]);
}

#[test]
fn every_row_of_valkey_under_several_versions() {
    every_row(Kind::Valkey, SEVERAL);
}

/// A command that a server brings along has a row, and a row that a server has is in the corpus.
#[test]
fn every_command_has_a_row_and_vectors() {
    let tried: BTreeSet<&str> =
        corpus().iter().filter_map(|vector| Some(vector.spec?.name)).collect();
    let mut missing = String::new();
    for kind in KINDS {
        let server = Server::start(kind);
        let list = server.dial().words("COMMAND LIST");
        for element in reply::elements(&list) {
            let name = String::from_utf8(reply::bulk(element).unwrap().to_vec()).unwrap();
            match command::by_name(&name) {
                None => writeln!(missing, "{kind:?} has {name}, which has no row").unwrap(),
                Some(spec) if NOT_SENT.iter().any(|(name, _)| *name == spec.name) => {}
                Some(spec) if spec.subcommands == 0 && !tried.contains(spec.name) => {
                    writeln!(missing, "{name} has no vector").unwrap();
                }
                Some(_) => {}
            }
        }
    }
    for (begin, _, _) in EXCEPTIONS.iter().chain(UNDER_A_VERSION) {
        let all = corpus().into_iter().flat_map(|vector| [vector.with_other_keys(), vec![vector]]);
        if !all.flatten().any(|vector| begins(&vector.text, begin)) {
            writeln!(missing, "no vector is excepted by {begin:?}").unwrap();
        }
    }
    assert!(missing.is_empty(), "{missing}");
}
