//! What users of `[[auth.users]]` may, held against a server that has the same users.
//!
//! ```text
//!   the table     categories and key flags of every command, as COMMAND tells them
//!   the rules     random rules, and every command that there is: as ACL DRYRUN says
//!   the proxy     random users of proxy.toml, changed while they are logged in: as ACL DRYRUN says
//!
//!   cargo test --test real user_rights                      20,000 commands for each server
//!   ACL_COMMANDS=1000000 ACL_SEED=7 cargo test ...          so many, from this seed on
//! ```

use crate::harness::{Conn, Kind, Proxy, Server, request, show};
use crate::rights::{COMMANDS, number, rng::Rng};
use nearside::command::acl::{self, Access, CATEGORIES, Denied, Keys, Rights};
use nearside::command::{self, Spec};
use nearside::wire::inline;
use nearside::wire::reply::{bulk, elements, text, value};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

const KINDS: [Kind; 3] = [Kind::Redis, Kind::Valkey, Kind::Redis8];

const VECTORS: &str = include_str!("../data/vectors.txt");

/// Where a server of the tests differs from the newest. Vector sets were registered without
/// categories at first.
fn is_outdated(kind: Kind, spec: &Spec) -> bool {
    let is_of_vectors = kind == Kind::Redis8
        && spec.name.starts_with('v')
        && !spec.keys.eq(&command::KeySpec::None);
    is_of_vectors || (kind == Kind::Redis && spec.name == "wait")
}

/// A command's row in the reply of COMMAND: its name, its categories, what it does with its keys;
/// and of those, if its arguments decide.
struct Told {
    name: String,
    categories: BTreeSet<String>,
    access: Vec<Access>,
    varies: bool,
}

fn told(row: &[u8], found: &mut Vec<Told>) {
    let fields: Vec<&[u8]> = elements(row).collect();
    let words = |list| -> BTreeSet<String> {
        let words = elements(list).filter_map(text);
        words.map(|word| String::from_utf8_lossy(word).to_lowercase()).collect()
    };
    let flags = elements(fields[8]).map(|spec| words(value(spec, b"flags").unwrap()));
    let flags: Vec<BTreeSet<String>> = flags.filter(|flags| !flags.contains("not_key")).collect();
    let access = flags.iter().map(|flags| Access {
        reads: flags.contains("access"),
        writes: ["insert", "update", "delete"].iter().any(|flag| flags.contains(*flag)),
    });
    let categories = words(fields[6]);
    found.push(Told {
        name: String::from_utf8_lossy(bulk(fields[0]).unwrap()).to_lowercase(),
        categories: categories.iter().map(|name| name.trim_start_matches('@').into()).collect(),
        access: access.collect(),
        varies: flags.iter().any(|flags| flags.contains("variable_flags")),
    });
    elements(fields[9]).for_each(|row| told(row, found));
}

#[test]
fn categories_and_keys_are_the_servers() {
    let mut faults = String::new();
    for kind in KINDS {
        let server = Server::start(kind);
        let mut server = server.dial();
        let answer = server.words("ACL CAT");
        let theirs: BTreeSet<&[u8]> = elements(&answer).filter_map(bulk).collect();
        let ours: BTreeSet<&[u8]> = CATEGORIES.iter().map(|(word, _)| word.as_bytes()).collect();
        assert_eq!(ours, theirs, "{kind:?}");
        let mut found = Vec::new();
        elements(&server.words("COMMAND")).for_each(|row| told(row, &mut found));
        assert!(found.len() > 350, "{kind:?} tells of {} commands", found.len());
        for Told { name, categories, access, varies } in found {
            let spec = command::by_name(&name).unwrap();
            let row = acl::of(spec);
            let is_it =
                |(word, category): &(&str, _)| row.is(*category).then(|| (*word).to_owned());
            let ours: BTreeSet<String> = CATEGORIES.iter().filter_map(is_it).collect();
            if ours != categories && !is_outdated(kind, spec) {
                writeln!(faults, "{kind:?}: {name}: {ours:?}, {categories:?}").unwrap();
            }
            let is_fine = match row.keys {
                Keys::None => access.is_empty(),
                Keys::ByArguments => varies && access == [Access::RW],
                // Its patterns, and its destination.
                Keys::Of(first, others) if name == "sort" => access == [first, first, others],
                Keys::Of(first, others) => {
                    let (head, rest) = access.split_first().unwrap();
                    *head == first && rest.iter().all(|access| *access == others)
                }
            };
            if !is_fine {
                writeln!(faults, "{kind:?}: {name}: {:?}, {access:?}", row.keys).unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// Rules about commands, beside those of all categories and all commands.
const COMMAND_RULES: &[&str] = &[
    "+@all",
    "+@read",
    "+@write",
    "+@fast",
    "-@dangerous",
    "-@slow",
    "-@write",
    "+get",
    "-get",
    "+config|get",
    "-config|set",
    "+set",
    "+object",
    "-object|encoding",
    "allcommands",
    "-@scripting",
];

/// Rules about keys.
const KEY_RULES: &[&str] = &[
    "~*", "~a*", "~[a-z]?", "~s*", "~*1", "~?1", "~??*", "%R~*", "%W~*", "%R~a*", "%W~b*", "%W~s*",
    "%RW~b*", "%R~[ac]*", "~l:*", "%R~h:*", "%W~h:*", "~[hz]*", "%rw~d*",
];

/// What most users may, before other rules take some of it away.
const MOST: &[&str] = &["+@all", "+@all", "+@all", "+@read", "+@write", "-@all"];

/// One user's rules, about commands and about keys.
fn draw(rng: &mut Rng) -> (Vec<String>, Vec<String>) {
    let mut commands = vec![(*rng.pick(MOST)).to_owned()];
    for _ in 0..rng.between(0, 5) {
        let sign = if rng.chance(50) { '+' } else { '-' };
        commands.push(match rng.below(4) {
            0 => format!("{sign}@{}", CATEGORIES[rng.below(CATEGORIES.len())].0),
            1 => format!("{sign}{}", known(rng)),
            _ => (*rng.pick(COMMAND_RULES)).to_owned(),
        });
    }
    let mut keys: Vec<String> = Vec::new();
    // (The server takes nothing behind what is every key.)
    for _ in 0..rng.between(1, 4) {
        if keys.last().is_none_or(|last| last != "~*") {
            keys.push((*rng.pick(KEY_RULES)).to_owned());
        }
    }
    (commands, keys)
}

/// A command that every server of the tests has.
fn known(rng: &mut Rng) -> &'static str {
    loop {
        let spec = &command::all()[rng.below(command::all().len())];
        let is_old = spec.since.starts_with(|digit: char| ('1'..='6').contains(&digit));
        if is_old && !spec.name.contains('.') {
            return spec.name;
        }
    }
}

fn setuser(user: usize, (commands, keys): &(Vec<String>, Vec<String>)) -> Vec<String> {
    let name = format!("u{user}");
    let head = ["ACL", "SETUSER", &name, "reset", "on", &format!(">{name}"), "allchannels"];
    let head: Vec<String> = head.map(str::to_owned).into();
    [&head, &commands[..], &keys[..]].concat()
}

fn dryrun(user: usize, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let name = format!("u{user}");
    let mut line: Vec<&[u8]> = vec![b"ACL", b"DRYRUN", name.as_bytes()];
    line.extend(words.iter().map(AsRef::as_ref));
    request(&line)
}

/// Every line of the vectors that is a request of a row, as words.
fn vectors() -> Vec<Vec<Vec<u8>>> {
    let lines = VECTORS.lines().map(|line| line.trim_start_matches(['+', '=', ' ', '3', '>']));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words = lines.filter_map(|line| {
        let multibulk = inline::to_multibulk(line.as_bytes()).ok()?;
        let words: Vec<Vec<u8>> = elements(&multibulk).filter_map(bulk).map(Into::into).collect();
        let spec = command::resolve(words.len(), |at| &words[at]).ok()?;
        // (nearside takes its destination for a key, which the server takes for a fault.)
        let is_odd = spec.name == "sort_ro" && words.iter().any(|word| word == b"STORE");
        (spec.accepts(words.len()) && !is_odd).then_some(words)
    });
    words.collect()
}

/// The keys of a request are changed for others.
fn with_other_keys(rng: &mut Rng, spec: &Spec, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut changed = words.to_vec();
    command::keys::for_each(
        spec,
        words.len(),
        |at| &words[at],
        |at| {
            changed[at] = match rng.below(8) {
                0 => Vec::new(),
                1 => words[at].clone(),
                _ => format!("{}{}", rng.pick(&["a", "b", "c", "h:", "l:"]), rng.below(3)).into(),
            };
        },
    );
    changed
}

#[test]
fn rules_mean_what_they_mean_to_the_server() {
    let commands = number("ACL_COMMANDS").unwrap_or(COMMANDS);
    let vectors = vectors();
    assert!(vectors.len() > 600, "{} vectors", vectors.len());
    for kind in KINDS {
        let mut rng = Rng::new(number("ACL_SEED").unwrap_or(1));
        let server = Server::start(kind);
        let mut root = server.dial();
        let (mut compared, mut denied) = (0, 0);
        while compared < commands {
            let drawn = draw(&mut rng);
            assert_eq!(root.ask(&setuser(0, &drawn)), b"+OK\r\n", "{kind:?} {drawn:?}");
            let rights = compiled(&drawn);
            for _ in 0..200 {
                let words = &vectors[rng.below(vectors.len())];
                let spec = command::resolve(words.len(), |at| &words[at]).unwrap();
                // (What the server has only later has another row there.)
                if is_outdated(kind, spec) || spec.keys == command::KeySpec::Dryrun {
                    continue;
                }
                let words = with_other_keys(&mut rng, spec, words);
                root.send(&dryrun(0, &words));
                let verdict = root.reply();
                if verdict.starts_with(b"-ERR") {
                    continue; // It does not have the command, or not with so many arguments.
                }
                let ours = rights.check(spec, words.len(), &|at| &words[at]);
                // A key that is denied is denied before an option is looked at.
                let may = matches!(ours, Ok(()) | Err(Denied::Option(_)));
                let shown: Vec<String> = words.iter().map(|word| show(word)).collect();
                assert_eq!(
                    (may, false),
                    (verdict == b"+OK\r\n", ours == Err(Denied::Key) && says_command(&verdict)),
                    "{kind:?} {drawn:?}: {shown:?}: {ours:?}, {}",
                    show(&verdict)
                );
                denied += u64::from(!may);
                compared += 1;
            }
        }
        assert!(denied > commands / 10 && denied < commands / 10 * 9, "{denied} of {compared}");
    }
}

fn says_command(verdict: &[u8]) -> bool {
    String::from_utf8_lossy(verdict).contains("has no permissions to run")
}

fn compiled((commands, keys): &(Vec<String>, Vec<String>)) -> Rights {
    let mut rights = Rights::none();
    for rule in commands {
        rights.add_rule(rule).unwrap();
    }
    for pattern in keys {
        rights.add_keys(pattern).unwrap();
    }
    rights
}

/// Clients' commands; `K` stands for a key. The first are cached.
const READ: usize = 7;
const ASKED: &[&str] = &[
    "GET K",
    "MGET K K",
    "STRLEN K",
    "HGET h:K f",
    "TYPE K",
    "SMEMBERS s:K",
    "EXISTS K",
    "EXISTS K K",
    "MGET K",
    "HGETALL h:K",
    "TTL K",
    "SORT_RO l:K",
    "SET K x",
    "SET K x GET",
    "SETEX K 100 y",
    "MSET K x K y",
    "DEL K K",
    "UNLINK K",
    "HSET h:K f 1",
    "APPEND K z",
    "BITFIELD K GET u8 0",
    "BITFIELD K INCRBY u8 0 1",
    "RENAME K K",
    "COPY K K",
    "SORT l:K STORE d:K",
    "LMOVE l:K l:K LEFT RIGHT",
    "ZUNIONSTORE z:K 2 z:K z:K",
    "ZDIFF 2 z:K z:K",
    "XREAD COUNT 1 STREAMS x:K x:K 0 0",
    "GEORADIUS g:K 1 2 3 m STORE d:K",
    "GEOADD g:K 13.361389 38.115556 P",
    "BLPOP l:K q:K 0.01",
    "EVAL return(1) 2 K K",
    "EVAL_RO return(1) 1 K",
    "OBJECT ENCODING K",
    "OBJECT HELP",
    "CONFIG GET maxmemory",
    "CLIENT GETNAME",
    "CLIENT SETNAME me",
    "SELECT 0",
    "DBSIZE",
    "SCAN 0",
    "RANDOMKEY",
    "PING",
    "ECHO hi",
    "TIME",
    "PUBLISH c m",
    "COMMAND COUNT",
    "ACL WHOAMI",
    "WATCH K",
    "UNWATCH",
];

const USERS: usize = 6;

/// Commands sent together.
const BATCH: usize = 40;

type Drawn = (Vec<String>, Vec<String>);

/// The line of proxy.toml with these users.
fn users(all: &[Drawn]) -> String {
    let all = all.iter().enumerate();
    let names: Vec<(String, &Drawn)> = all.map(|(at, one)| (format!("u{at}"), one)).collect();
    named(&names)
}

/// As [`users`]; a user's name is its password.
fn named(all: &[(String, &Drawn)]) -> String {
    let one = |(name, (commands, keys)): &(String, &Drawn)| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        let hash =
            digest.as_ref().iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
        format!(
            "{{ name = \"{name}\", password_sha256 = [\"{hash}\"], key_patterns = {keys:?}, \
             commands = {commands:?} }}"
        )
    };
    let all: Vec<String> = all.iter().map(one).collect();
    format!("auth.users = [{}]", all.join(", "))
}

struct World {
    rng: Rng,
    proxy: Proxy,
    /// Of the server, and of nearside an operator.
    root: Conn,
    operator: Conn,
    users: Vec<Drawn>,
    clients: Vec<(usize, Conn)>,
    hits: u64,
    denied: u64,
}

impl World {
    /// One user may something else from now on.
    fn change(&mut self) {
        let user = self.rng.below(USERS);
        let before = users(&self.users);
        self.users[user] = draw(&mut self.rng);
        assert_eq!(self.root.ask(&setuser(user, &self.users[user])), b"+OK\r\n");
        let path = self.proxy.folder.path().join("proxy.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace(&before, &users(&self.users))).unwrap();
        let answer = self.operator.words("PROXY CONFIG RELOAD");
        assert!(!answer.starts_with(b"-"), "{}", show(&answer));
    }

    /// One client logs in as somebody else.
    fn log_in(&mut self) {
        let (at, user) = (self.rng.below(self.clients.len()), self.rng.below(USERS));
        let (is, client) = &mut self.clients[at];
        assert_eq!(client.words(&format!("AUTH u{user} u{user}")), b"+OK\r\n");
        *is = user;
    }

    fn command(&mut self, from: &[&str]) -> Vec<String> {
        let rng = &mut self.rng;
        let words = rng.pick(from).split(' ');
        let key = |rng: &mut Rng| format!("{}{}", rng.pick(&["a", "b", "c"]), rng.below(3));
        words
            .map(|word| match word.strip_suffix('K') {
                Some(head) if head.is_empty() || head.ends_with(':') => {
                    format!("{head}{}", key(rng))
                }
                _ => word.to_owned(),
            })
            .collect()
    }

    /// One client's commands, each held against what the server says of it: in one packet, or reads
    /// one by one, of which some are hits, or a transaction.
    fn ask(&mut self) {
        let way = self.rng.below(3);
        let at = self.rng.below(self.clients.len());
        let from = if way == 0 { &ASKED[..READ] } else { ASKED };
        let mut asked: Vec<Vec<String>> = (0..BATCH).map(|_| self.command(from)).collect();
        let user = self.clients[at].0;
        if way == 2 {
            // (WATCH is not for transactions, and a script may say that it is not known.)
            asked.retain(|words| words[0] != "WATCH");
            asked.truncate(1 + self.rng.below(6));
            asked.insert(0, vec!["MULTI".to_owned()]);
            asked.push(vec!["EXEC".to_owned()]);
        }
        let verdicts: Vec<u8> = asked.iter().flat_map(|words| dryrun(user, words)).collect();
        self.root.send(&verdicts);
        let verdicts: Vec<Vec<u8>> = asked.iter().map(|_| self.root.reply()).collect();
        let may: Vec<bool> = verdicts.iter().map(|verdict| verdict == b"+OK\r\n").collect();
        if way == 2 && !(may[0] && may[may.len() - 1]) {
            return;
        }
        let client = &mut self.clients[at].1;
        let has_name = |client: &mut Conn| {
            (client.words("CLIENT INFO").first() == Some(&b'$')).then(|| client.hits())
        };
        let before = has_name(client);
        let answers: Vec<Vec<u8>> = if way == 0 {
            asked.iter().map(|words| client.ask(words)).collect()
        } else {
            client.send(&asked.iter().flat_map(|words| request(words)).collect::<Vec<u8>>());
            asked.iter().map(|_| client.reply()).collect()
        };
        self.hits += before.map_or(0, |before| client.hits() - before);
        let is_aborted = way == 2 && may.contains(&false);
        for (at, answer) in answers.iter().enumerate() {
            let is_last = way == 2 && at + 1 == answers.len();
            let is_served = !answer.starts_with(b"-NOPERM");
            self.denied += u64::from(!may[at]);
            let is_right = if is_last {
                answer.starts_with(b"-EXECABORT") == is_aborted
            } else {
                is_served == may[at] && (way < 2 || !is_served || is_queued(answer))
            };
            assert!(
                is_right,
                "u{user} {:?}: {:?}: {} where the server says {}",
                self.users[user],
                asked[at],
                show(answer),
                show(&verdicts[at]),
            );
        }
    }
}

fn is_queued(answer: &[u8]) -> bool {
    answer == b"+QUEUED\r\n" || answer == b"+OK\r\n"
}

fn play(kind: Kind, version: &str, commands: u64) {
    let server = Server::with(kind, &["--requirepass", "root"]);
    let mut root = server.dial();
    assert_eq!(root.words("AUTH root"), b"+OK\r\n");
    let mut rng = Rng::new(number("ACL_SEED").unwrap_or(1));
    let drawn: Vec<Drawn> = (0..USERS).map(|_| draw(&mut rng)).collect();
    for (user, drawn) in drawn.iter().enumerate() {
        assert_eq!(root.ask(&setuser(user, drawn)), b"+OK\r\n", "{drawn:?}");
    }
    let version = format!("keys.version = \"{version}\"");
    let settings = [
        "auth.mode = \"static\"",
        "auth.password = \"ops\"",
        &users(&drawn),
        &version,
        "cache.admission = \"always\"",
        "server.workers = 2",
    ];
    let proxy = Proxy::start(&format!("redis://:root@127.0.0.1:{}", server.port), &settings);
    let mut operator = proxy.dial();
    assert_eq!(operator.words("AUTH ops"), b"+OK\r\n");
    let clients = (0..USERS * 2).map(|at| {
        let (mut client, user) = (proxy.dial(), at % USERS);
        assert_eq!(client.words(&format!("AUTH u{user} u{user}")), b"+OK\r\n");
        (user, client)
    });
    let clients = clients.collect();
    let mut world = World { rng, proxy, root, operator, users: drawn, clients, hits: 0, denied: 0 };
    for batch in 0..commands.div_ceil(BATCH as u64) {
        match batch % 10 {
            0 => world.change(),
            5 => world.log_in(),
            _ => {}
        }
        world.ask();
    }
    let (hits, denied) = (world.hits, world.denied);
    let proves = hits > commands / 100 && denied > commands / 20;
    assert!(proves, "{kind:?}: {hits} hits, {denied} denied of {commands}: it proves little");
}

#[test]
fn nobody_gets_what_the_servers_user_would_not() {
    let commands = number("ACL_COMMANDS").unwrap_or(COMMANDS);
    for (kind, version) in [(Kind::Redis, "v1"), (Kind::Valkey, ""), (Kind::Redis8, "v1")] {
        play(kind, version, commands);
    }
}

/// Keys and commands of one user, as words.
fn drawn(commands: &str, keys: &str) -> Drawn {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    (words(commands), words(keys))
}

/// Each line of the one user, direct and through nearside.
fn alike(server: &Server, proxy: &Proxy, name: &str, lines: &str) {
    let (mut direct, mut ours) = (server.dial(), proxy.dial());
    let login = format!("AUTH {name} {name}");
    for line in [login.as_str()].into_iter().chain(lines.lines()) {
        let sent = inline::to_multibulk(line.trim().as_bytes()).unwrap();
        direct.send(&sent);
        ours.send(&sent);
        assert_eq!(show(&ours.reply()), show(&direct.reply()), "{name}: {line}");
    }
}

#[test]
fn errors_and_transactions_are_the_servers() {
    for kind in [Kind::Valkey, Kind::Redis8] {
        let users = [
            ("bob".to_owned(), &drawn("+@all -@dangerous +sort +config|get -incr", "~a* %R~r*")),
            ("carol".to_owned(), &drawn("+@all -exec", "~a*")),
            ("dave".to_owned(), &drawn("+get +multi +exec +@connection", "~*")),
            ("erin".to_owned(), &drawn("+@all", "~a* %R~*")),
        ];
        // What one of them writes the other shall not find.
        let (server, twin) = (Server::start(kind), Server::start(kind));
        let (mut root, mut other) = (server.dial(), twin.dial());
        for (name, (commands, key_patterns)) in &users {
            let rules = format!("{} {}", commands.join(" "), key_patterns.join(" "));
            let line = format!("ACL SETUSER {name} reset on >{name} allchannels {rules}");
            assert_eq!(root.words(&line), b"+OK\r\n", "{line}");
        }
        for line in ["SET a1 1", "SET r1 2", "SET secret 3", "RPUSH al 3 1 2"] {
            root.words(line);
            other.words(line);
        }
        let settings = ["auth.mode = \"static\"", &named(&users), "cache.admission = \"always\""];
        let proxy = Proxy::start(&twin.url(), &settings);
        let lines = "GET a1\nGET a1\nGET secret\nGET r1\nSET r1 x\nAPPEND r1 x\nMGET a1 secret
            MGET a1 r1\nINCR a1\nincr secret\nCONFIG GET maxmemory-samples\nCONFIG SET timeout 0
            CONFIG\nGET\nNOSUCH x\nKEYS *\nDBSIZE\nRENAME r1 a2\nCOPY r1 a2\nSET secret x GET
            SORT al\nSORT al BY w_*\nSORT al GET w_*\nSORT al BY nosort GET #\nSORT al STORE r9
            SORT al GET x_* STORE secret\nSORT_RO al BY w_*\nEVAL 'return 1' 1 secret
            EVAL 'return 1' 1 r1\nEVAL_RO 'return 1' 1 r1\nEVAL 'return 1' 1 a1
            ACL WHOAMI\nCLIENT GETNAME\nECHO x
            BITFIELD r1 GET u8 0\nBITFIELD r1 SET u8 0 1\nXREAD STREAMS r1 secret 0 0\nTYPE secret
            MULTI\nGET a1\nGET secret\nINCR a1\nEXEC\nMULTI\nGET a1\nSORT al BY w_*\nEXEC
            MULTI\nGET secret\nDISCARD\nWATCH secret\nWATCH a1\nGET secret\nMULTI\nGET a1\nEXEC
            SUBSCRIBE c\nGET secret\nGET a1\nUNSUBSCRIBE c\nGET a1\nRESET";
        alike(&server, &proxy, "bob", lines);
        alike(&server, &proxy, "carol", "MULTI\nGET a1\nEXEC\nGET a1\nEXEC\nMULTI\nDISCARD");
        let lines = "MULTI\nDISCARD\nEXEC\nSET a1 x\nGET secret\nCLIENT ID x\nSELECT 0\nSAVE";
        alike(&server, &proxy, "dave", lines);
        let lines = "SORT al BY w_*\nSORT al GET w_*\nSORT al STORE secret\nSET secret x";
        alike(&server, &proxy, "erin", lines);
        // An inline command is none the less held against the rights.
        let mut bob = proxy.dial();
        bob.words("AUTH bob bob");
        bob.send(b"get secret\r\n");
        assert_eq!(bob.reply(), b"-NOPERM No permissions to access a key\r\n");
        // What is asked of nearside itself.
        for (line, answer) in [
            ("PROXY CLEAR", "-NOPERM User bob has no permissions to run the 'proxy|clear' command"),
            ("PROXY LEASE GET secret 0", "-NOPERM No permissions to access a key"),
            ("PROXY LEASE SET r1 t v", "-NOPERM No permissions to access a key"),
        ] {
            assert_eq!(String::from_utf8(bob.words(line)).unwrap().trim_end(), answer, "{line}");
        }
        assert!(proxy.count("nearside_commands_rejected_total{reason=\"noperm\"}") > 10);
    }
}

/// A hit is no way around rights; a changed file holds for who is logged in, and who is not in it
/// any more is sent away.
#[test]
fn rights_change_for_clients_that_are_logged_in() {
    let server = Server::start(Kind::Valkey);
    let (all, some) = (drawn("+@all", "*"), drawn("+@all", "a*"));
    let line = |bob: Option<&Drawn>| {
        let bob = bob.map(|bob| ("bob".to_owned(), bob));
        named(&[("alice".to_owned(), &all)].into_iter().chain(bob).collect::<Vec<_>>())
    };
    let proxy = Proxy::start(
        &server.url(),
        &[
            "auth.mode = \"static\"",
            "auth.password = \"ops\"",
            &line(Some(&some)),
            "cache.admission = \"always\"",
        ],
    );
    let log_in = |login: &str| {
        let mut client = proxy.dial();
        assert_eq!(client.words(login), b"+OK\r\n");
        client
    };
    let (mut ops, mut alice, mut bob) =
        (log_in("AUTH ops"), log_in("AUTH alice alice"), log_in("AUTH bob bob"));
    let mut reload = |from: Option<&Drawn>, to: Option<&Drawn>| {
        let path = proxy.folder.path().join("proxy.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace(&line(from), &line(to))).unwrap();
        assert_eq!(ops.words("PROXY CONFIG RELOAD"), b"+OK\r\n");
    };
    const DENIED: &[u8] = b"-NOPERM No permissions to access a key\r\n";
    assert_eq!(alice.words("SET k 1"), b"+OK\r\n");
    assert_eq!(alice.until_hit("GET k"), b"$1\r\n1\r\n");
    assert_eq!(bob.words("GET k"), DENIED);
    assert_eq!(bob.words("MGET a k"), DENIED);
    // Also for one whose link holds keys under the settings of before, and who logs in anew.
    assert_eq!(bob.words("WATCH a"), b"+OK\r\n");
    reload(Some(&some), Some(&all));
    assert_eq!(bob.words("GET k"), b"$1\r\n1\r\n");
    assert_eq!(bob.words("AUTH bob bob"), b"+OK\r\n");
    assert_eq!(bob.words("GET k"), b"$1\r\n1\r\n");
    assert_eq!(bob.words("UNWATCH"), b"+OK\r\n");
    assert_eq!(bob.until_hit("GET k"), b"$1\r\n1\r\n");
    assert_eq!(bob.words("MULTI"), b"+OK\r\n");
    assert_eq!(bob.words("GET k"), b"+QUEUED\r\n");
    reload(Some(&all), Some(&some));
    let aborted = show(&bob.words("EXEC"));
    assert!(aborted.starts_with("-EXECABORT Transaction discarded"), "{aborted}");
    assert_eq!(bob.words("GET k"), DENIED);
    assert_eq!(bob.words("GET a"), b"$-1\r\n");
    reload(Some(&some), None);
    bob.send(&request(&["PING"]));
    assert!(bob.rest().is_empty(), "bob is no user any more");
    assert_eq!(alice.words("GET k"), b"$1\r\n1\r\n");
}

/// The server runs scripts with nearside's own rights: what they call is looked at before.
#[test]
fn scripts_may_do_what_their_user_may() {
    let server = Server::start(Kind::Redis8);
    let free = "return redis.call('GET', 'sec' .. 'ret')";
    let trusted = "return redis.call('GET', 'secret')";
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, trusted.as_bytes());
    let sha = digest.as_ref().iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    let bob = drawn("+@all -incr", "a*");
    let allow = format!("scripts.allow = [\"{sha}\"]");
    let settings = ["auth.mode = \"static\"", &named(&[("bob".to_owned(), &bob)]), &allow];
    let proxy = Proxy::start(&server.url(), &settings);
    server.dial().words("SET secret 3");
    let mut client = proxy.dial();
    client.words("AUTH bob bob");
    let get = "return redis.call('GET', KEYS[1])";
    let incr = "return redis.call('INCR', KEYS[1])";
    assert_eq!(client.words("SET a 1"), b"+OK\r\n");
    assert_eq!(client.ask(&["EVAL", get, "1", "a"]), b"$1\r\n1\r\n");
    assert_eq!(client.ask(&["EVAL", trusted, "0"]), b"$1\r\n3\r\n");
    for (words, why) in [
        (&["EVAL", get, "1", "secret"][..], "-NOPERM No permissions to access a key"),
        (&["EVAL", incr, "1", "a"], "-NOPERM this script calls 'incr'"),
        (&["EVAL", free, "0"], "cannot be seen (line 1: a key of 'get' is none of KEYS)"),
        (&["FCALL", "f", "0"], "-NOPERM which keys and commands this script uses"),
        (&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"], "-NOSCRIPT"),
    ] {
        let answer = String::from_utf8(client.ask(words)).unwrap();
        assert!(answer.contains(why), "{words:?}: {answer}");
    }
    assert_eq!(client.words("GET a"), b"$1\r\n1\r\n", "nothing was run");
    // In a transaction it aborts, but for a script whose text is not known: that one's place says so.
    for (words, exec) in [
        (&["EVAL", incr, "1", "a"][..], "-EXECABORT"),
        (&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"], "*1\r\n-NOSCRIPT"),
    ] {
        client.words("MULTI");
        client.ask(words);
        let answer = String::from_utf8(client.words("EXEC")).unwrap();
        assert!(answer.starts_with(exec), "{words:?}: {answer}");
    }
}
