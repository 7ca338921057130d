//! `auth.mode = "passthrough"`: upstream itself judges credentials, and each client rides on its
//! own. Held against the server: the same words, with two connections that differ in the port.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};

/// Rights change at once, as far as a test is concerned.
const SETTINGS: &[&str] =
    &["auth.mode = \"passthrough\"", "auth.acl_poll = \"20ms\"", "cache.admission = \"always\""];

/// A server whose default user needs a password, with users `alice` and `bob`: she may read and
/// write what begins with `a`, he what begins with `b`, and both what begins with `c`.
fn guarded(kind: Kind) -> Server {
    let server = Server::with(kind, &["--requirepass", "root"]);
    let mut root = server.dial();
    assert_eq!(root.words("AUTH root"), b"+OK\r\n");
    for user in ["alice on >a-word ~a* ~c* +@all", "bob on >b-word ~b* ~c* +@all"] {
        assert_eq!(root.words(&format!("ACL SETUSER {user}")), b"+OK\r\n");
    }
    server
}

fn root(server: &Server) -> Conn {
    let mut root = server.dial();
    assert_eq!(root.words("AUTH root"), b"+OK\r\n");
    root
}

/// nearside in front of it, with the default user's credentials; `more` stands over [`SETTINGS`].
fn proxy(server: &Server, more: &[&str]) -> Proxy {
    let key = |line: &str| line.split(' ').next().unwrap().to_owned();
    let is_said = |line: &&&str| !more.iter().any(|said| key(said) == key(line));
    let settings: Vec<&str> = SETTINGS.iter().filter(is_said).chain(more).copied().collect();
    Proxy::start(&format!("redis://:root@127.0.0.1:{}", server.port), &settings)
}

fn user(proxy: &Proxy, name: &str) -> Conn {
    let mut client = proxy.dial();
    let word = name.chars().next().unwrap();
    assert_eq!(client.words(&format!("AUTH {name} {word}-word")), b"+OK\r\n");
    client
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Changes something, and waits until nearside has asked for it: a question that began behind the
/// change is over.
pub(crate) fn after_change(proxy: &Proxy, change: impl FnOnce()) {
    let polls = || proxy.count("nearside_acl_polls_total");
    change();
    let before = polls();
    eventually("the change is heard of", || (polls() >= before + 2).then_some(()));
}

/// The same lines, direct and through nearside.
fn alike(server: &Server, proxy: &Proxy, lines: &[&str]) {
    let (mut direct, mut ours) = (server.dial(), proxy.dial());
    for line in lines {
        let (theirs, ours) = (direct.words(line), ours.words(line));
        assert_eq!(show(&ours), show(&theirs), "{line}");
    }
}

#[test]
fn words_are_the_servers() {
    for kind in [Kind::Redis, Kind::Valkey, Kind::Redis8] {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        root(&server).words("SET bob 1");
        let lines = [
            "GET a",
            "PING",
            "ECHO x",
            "CLIENT ID",
            "SELECT 1",
            "INFO",
            "AUTH wrong",
            "GET a",
            "AUTH nobody word",
            "AUTH alice b-word",
            "AUTH a b c",
            "AUTH alice a-word",
            "ACL WHOAMI",
            "SET a 1",
            "GET a",
            "GET bob",
            "MGET a bob",
            "SET bob 2",
            "AUTH bob x",
            "ACL WHOAMI",
            "GET a",
            "AUTH bob b-word",
            "ACL WHOAMI",
            "GET bob",
            "GET a",
            "SELECT 1",
            "SET b 5",
            "GET b",
            "AUTH alice a-word",
            "GET b",
            "RESET",
            "ACL WHOAMI",
            "GET a",
            "AUTH root",
            "ACL WHOAMI",
            "GET b",
            "GET a",
        ];
        alike(&server, &proxy, &lines);
        for proto in [2, 3] {
            let mut client = proxy.dial();
            let hello = text(client.words(&format!("HELLO {proto}")));
            assert!(hello.starts_with("-NOAUTH HELLO must be called"), "{hello}");
            let wrong = text(client.words(&format!("HELLO {proto} AUTH alice no")));
            assert!(wrong.starts_with("-WRONGPASS"), "{wrong}");
            let hello = client.words(&format!("HELLO {proto} AUTH alice a-word SETNAME me"));
            assert!(hello.starts_with(if proto == 2 { b"*14" } else { b"%7\r" }), "{hello:?}");
            assert_eq!(client.words("GET a"), b"$1\r\n1\r\n");
            let info = text(client.words("CLIENT INFO"));
            assert!(info.contains(" user=alice ") && info.contains(" name=me "), "{info}");
        }
    }
}

/// Where upstream needs no credentials, none are asked.
#[test]
fn who_needs_none_is_asked_for_none() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let lines = [
            "SET a 1",
            "GET a",
            "ACL WHOAMI",
            "AUTH x",
            "AUTH default x",
            "AUTH nobody x",
            "GET a",
            "MULTI",
            "SET a 2",
            "GET a",
            "EXEC",
            "RESET",
            "GET a",
            "SELECT 3",
            "SET a 3",
            "GET a",
        ];
        alike(&server, &proxy, &lines);
        let mut client = proxy.dial();
        client.words("HELLO 3");
        client.until_hit("GET a");
    }
}

/// Nothing travels on nearside's own credentials: they may do all, a client only what is its own.
#[test]
fn links_are_the_clients_own() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        let (mut alice, mut bob) = (user(&proxy, "alice"), user(&proxy, "bob"));
        for who in [&mut alice, &mut bob] {
            let name = text(who.words("ACL WHOAMI")).split("\r\n").nth(1).unwrap().to_owned();
            // On links that are shared, and on those that are not.
            who.words("SET c 1");
            let run = text(who.words("EVAL return{redis.call('GET',KEYS[1])} 1 c"));
            assert_eq!(run, "*1\r\n$1\r\n1\r\n");
            assert_eq!(who.words("MULTI"), b"+OK\r\n");
            who.words("GET c");
            assert_eq!(who.words("EXEC"), b"*1\r\n$1\r\n1\r\n");
            let log = text(root(&server).words("CLIENT LIST"));
            assert!(log.contains(&format!("user={name} ")), "{log}");
        }
        assert!(alice.words("GET b").starts_with(b"-NOPERM"));
        assert!(alice.words("EVAL return{redis.call('GET',KEYS[1])} 1 b").starts_with(b"-NOPERM"));
        assert!(bob.words("WATCH a").starts_with(b"-NOPERM"));
        assert!(bob.words("BLPOP a 1").starts_with(b"-NOPERM"));
        assert!(bob.words("CLIENT LIST").starts_with(b"-NOPERM User bob has no permissions"));
    }
}

/// A cached key of one user is not served to another, who may not read it, nor to one who may, as
/// long as he has not read it himself.
#[test]
fn each_has_entries_of_its_own() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &["keys.version = \"\""]);
        let (mut alice, mut bob) = (user(&proxy, "alice"), user(&proxy, "bob"));
        alice.words("SET a 1");
        alice.words("SET c 2");
        alice.until_hit("GET a");
        alice.until_hit("GET c");
        assert!(bob.words("GET a").starts_with(b"-NOPERM"));
        assert!(bob.words("MGET c a").starts_with(b"-NOPERM"));
        let hits = bob.hits();
        assert_eq!(bob.words("GET c"), b"$1\r\n2\r\n");
        assert_eq!(bob.hits(), hits);
        bob.until_hit("GET c");
        // A change is heard of by all.
        root(&server).words("SET c 3");
        for who in [&mut alice, &mut bob] {
            eventually("the change is seen", || {
                (who.words("GET c") == b"$1\r\n3\r\n").then_some(())
            });
        }
        // Whoever comes with the same credentials finds the entries again.
        alice.until_hit("GET c");
        let mut again = user(&proxy, "alice");
        again.until_hit("GET c");
        assert!(bob.words("GET a").starts_with(b"-NOPERM"));
    }
}

#[test]
fn a_right_that_is_taken_away_ends_hits() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        let mut alice = user(&proxy, "alice");
        alice.words("SET a 1");
        alice.until_hit("GET a");
        after_change(&proxy, || {
            root(&server).words("ACL SETUSER alice resetkeys ~c*");
        });
        assert!(alice.words("GET a").starts_with(b"-NOPERM"));
        after_change(&proxy, || {
            root(&server).words("ACL SETUSER alice ~a*");
        });
        assert_eq!(alice.words("GET a"), b"$1\r\n1\r\n");
        alice.until_hit("GET a");
        // Another password: who is there stays, as with the server; the old one is good for nobody
        // else.
        after_change(&proxy, || {
            root(&server).words("ACL SETUSER alice resetpass >new-word");
        });
        assert_eq!(alice.words("GET a"), b"$1\r\n1\r\n");
        let mut other = proxy.dial();
        assert!(other.words("AUTH alice a-word").starts_with(b"-WRONGPASS"));
        assert_eq!(other.words("AUTH alice new-word"), b"+OK\r\n");
        assert_eq!(other.words("GET a"), b"$1\r\n1\r\n");
    }
}

/// Redis closes the connections of a user that is deleted; nobody rides on another's.
#[test]
fn who_is_deleted_is_closed() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        let (mut alice, mut bob) = (user(&proxy, "alice"), user(&proxy, "bob"));
        alice.words("SET a 1");
        alice.until_hit("GET a");
        bob.words("SET b 1");
        let mut subscriber = user(&proxy, "alice");
        subscriber.words("SUBSCRIBE news");
        assert_eq!(root(&server).words("ACL DELUSER alice"), b":1\r\n");
        assert_eq!(alice.rest(), b"");
        assert_eq!(subscriber.rest(), b"");
        assert_eq!(bob.words("GET b"), b"$1\r\n1\r\n");
        let mut again = proxy.dial();
        eventually("the login is forgotten", || {
            again.words("AUTH alice a-word").starts_with(b"-WRONGPASS").then_some(())
        });
        assert!(proxy.log().contains("identity_lost"), "{}", proxy.log());
    }
}

/// Replies have the order of requests, whatever a login in the middle does (Redis 8.2 may lose the
/// answer of an AUTH that fails in a pipeline).
#[test]
fn a_login_in_the_middle_of_a_pipeline() {
    for kind in [Kind::Redis, Kind::Valkey, Kind::Redis8] {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        let mut client = user(&proxy, "alice");
        let lines = [
            "PING",
            "AUTH bob wrong",
            "ECHO x",
            "SET a 1",
            "AUTH bob b-word",
            "GET a",
            "SET b 2",
            "GET b",
            "AUTH alice a-word",
            "GET a",
            "GET b",
        ];
        let all: Vec<u8> =
            lines.iter().flat_map(|line| request(&line.split(' ').collect::<Vec<_>>())).collect();
        client.send(&all);
        let starts = [
            "+PONG",
            "-WRONGPASS",
            "$1\r\nx",
            "+OK",
            "+OK",
            "-NOPERM",
            "+OK",
            "$1\r\n2",
            "+OK",
            "$1\r\n1",
            "-NOPERM",
        ];
        for (line, start) in lines.iter().zip(starts) {
            let answer = client.reply();
            assert!(answer.starts_with(start.as_bytes()), "{line}: {}", show(&answer));
        }
    }
}

/// A link of its own changes hands with its client.
#[test]
fn a_login_of_who_holds_something() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &[]);
        let mut client = user(&proxy, "alice");
        // Within MULTI nothing changes hands.
        client.words("MULTI");
        assert!(client.words("AUTH bob b-word").starts_with(b"-ERR"));
        assert!(client.words("EXEC").starts_with(b"-EXECABORT"));
        assert_eq!(client.words("ACL WHOAMI"), b"$5\r\nalice\r\n");
        // What is watched stays so.
        assert_eq!(client.words("WATCH c"), b"+OK\r\n");
        assert_eq!(client.words("AUTH bob b-word"), b"+OK\r\n");
        root(&server).words("SET c 1");
        assert_eq!(client.words("MULTI"), b"+OK\r\n");
        assert_eq!(client.words("SET b 1"), b"+QUEUED\r\n");
        assert!(client.words("SET a 1").starts_with(b"-NOPERM"));
        assert!(client.words("EXEC").starts_with(b"-EXECABORT"));
        // While it waits, a login waits behind it.
        client.send(&request(&["BLPOP", "b-list", "0"]));
        client.send(&request(&["AUTH", "alice", "a-word"]));
        client.send(&request(&["GET", "b"]));
        eventually("it waits", || {
            text(root(&server).words("INFO clients")).contains("blocked_clients:1").then_some(())
        });
        user(&proxy, "bob").words("RPUSH b-list x");
        assert_eq!(client.reply(), b"*2\r\n$6\r\nb-list\r\n$1\r\nx\r\n");
        assert_eq!(client.reply(), b"+OK\r\n");
        assert!(client.reply().starts_with(b"-NOPERM"));
    }
}

/// Many users at once on one worker, each with its own rights.
#[test]
fn a_pool_of_users() {
    for kind in KINDS {
        let server = guarded(kind);
        let proxy = proxy(&server, &["server.workers = 1"]);
        let mut root = root(&server);
        let mut clients = Vec::new();
        for n in 0..20 {
            root.words(&format!("ACL SETUSER u{n} on >w{n} ~u{n}:* +@all"));
        }
        for n in 0..20 {
            let mut client = proxy.dial();
            assert_eq!(client.words(&format!("AUTH u{n} w{n}")), b"+OK\r\n");
            client.words(&format!("SET u{n}:k {n}"));
            clients.push(client);
        }
        for round in 0..20 {
            for (n, client) in clients.iter_mut().enumerate() {
                let other = (n + round) % 20;
                let answer = client.words(&format!("GET u{other}:k"));
                if other == n {
                    assert_eq!(text(answer), format!("${}\r\n{n}\r\n", n.to_string().len()));
                } else {
                    assert!(answer.starts_with(b"-NOPERM"), "{}", show(&answer));
                }
            }
        }
        // One takes over what another was.
        assert_eq!(clients[3].words("AUTH u4 w4"), b"+OK\r\n");
        assert_eq!(clients[3].words("GET u4:k"), b"$1\r\n4\r\n");
        assert!(clients[3].words("GET u3:k").starts_with(b"-NOPERM"));
        assert_eq!(clients[4].words("GET u4:k"), b"$1\r\n4\r\n");
    }
}

#[test]
fn a_verdict_holds_for_as_long_as_said() {
    let server = guarded(Kind::Redis);
    let long = proxy(&server, &["auth.cache_ttl = \"1h\"", "auth.acl_poll = \"1h\""]);
    let short = proxy(&server, &["auth.cache_ttl = \"0s\"", "auth.acl_poll = \"1h\""]);
    let (_one, _other) = (user(&long, "alice"), user(&short, "alice"));
    root(&server).words("ACL SETUSER alice resetpass >new-word");
    assert_eq!(long.dial().words("AUTH alice a-word"), b"+OK\r\n");
    assert!(short.dial().words("AUTH alice a-word").starts_with(b"-WRONGPASS"));
    // A link that is opened now tells.
    let mut late = long.dial();
    assert_eq!(late.words("AUTH alice a-word"), b"+OK\r\n");
    late.send(&request(&["BLPOP", "a-list", "0"]));
    assert_eq!(late.rest(), b"");
}

/// Where nearside may ask for the rights of users, as often as `auth.acl_poll` says; elsewhere
/// nothing is believed for longer than `auth.acl_proof_ttl`.
#[test]
fn how_long_an_entry_proves_a_right() {
    for kind in KINDS {
        let server = guarded(kind);
        let mut root = root(&server);
        root.words("ACL SETUSER near on >near ~* &* +@all -acl");
        let url = format!("redis://near:near@127.0.0.1:{}", server.port);
        let rare = ["auth.acl_poll = \"1h\"", SETTINGS[0], SETTINGS[2]];
        let late = proxy(&server, &["auth.acl_poll = \"1h\""]);
        let blind = Proxy::start(&url, &[rare[0], rare[1], rare[2], "auth.acl_proof_ttl = \"1h\""]);
        let brief = ["auth.acl_proof_ttl = \"20ms\"", "cache.stale_if_error = \"1h\""];
        let brief = Proxy::start(&url, &[rare[0], rare[1], rare[2], brief[0], brief[1]]);
        let mut all = [&late, &blind, &brief].map(|proxy| user(proxy, "alice"));
        all[0].words("SET a 1");
        for client in &mut all[..2] {
            client.until_hit("GET a");
        }
        eventually("it lives for a moment", || {
            all[2].words("GET a");
            let hits = all[2].hits();
            all[2].words("GET a");
            (all[2].hits() > hits).then_some(())
        });
        root.words("ACL SETUSER alice resetkeys");
        for client in &mut all[..2] {
            assert_eq!(client.words("GET a"), b"$1\r\n1\r\n", "nobody has asked since");
        }
        eventually("no entry is left", || {
            all[2].words("GET a").starts_with(b"-NOPERM").then_some(())
        });
        assert!(brief.count("nearside_acl_polls_total{result=\"denied\"}") > 0);
        assert!(brief.log().contains("acl_unheard"), "{}", brief.log());
    }
}

#[test]
fn logins_have_bounds() {
    let server = guarded(Kind::Redis);
    let bounds = ["auth.max_failures_per_minute = 3", "auth.max_identities = 1"];
    let proxy = proxy(&server, &[bounds[0], bounds[1], "auth.acl_poll = \"1h\""]);
    // The first question has each login asked anew.
    eventually("it was asked", || (proxy.count("nearside_acl_polls_total") > 0).then_some(()));
    let alice = user(&proxy, "alice");
    let mut other = proxy.dial();
    let full = text(other.words("AUTH bob b-word"));
    assert!(full.contains("auth.max_identities"), "{full}");
    assert!(other.words("GET b").starts_with(b"-NOAUTH"));
    // Nobody uses it any more: the other may come in its place.
    drop(alice);
    eventually("there is room", || (other.words("AUTH bob b-word") == b"+OK\r\n").then_some(()));
    for _ in 0..3 {
        assert!(other.words("AUTH bob wrong").starts_with(b"-WRONGPASS"));
    }
    let barred = text(other.words("AUTH bob worse"));
    assert!(barred.contains("auth.max_failures_per_minute"), "{barred}");
    assert_eq!(other.words("ACL WHOAMI"), b"$3\r\nbob\r\n");
    // Who was verified is known.
    assert_eq!(other.words("AUTH bob b-word"), b"+OK\r\n");
    assert_eq!(proxy.count("nearside_auth_failures_total{surface=\"resp\"}"), 4);
    assert!(proxy.log().contains("auth_failed"), "{}", proxy.log());
}

/// What nearside itself would do, upstream has not permitted: it is for operators.
#[test]
fn operators_are_named() {
    let server = guarded(Kind::Redis);
    let users = "auth.users = [{ name = \"alice\", role = \"operator\" }, { name = \"bob\" }]";
    let proxy = proxy(&server, &[users]);
    let (mut alice, mut bob) = (user(&proxy, "alice"), user(&proxy, "bob"));
    for line in [
        "PROXY CLEAR",
        "PROXY MODE",
        "PROXY INFO",
        "PROXY CLIENTS",
        "PROXY GET a",
        "PROXY CONFIG GET *",
        "PROXY HOTKEYS",
        "PROXY STATS",
        "CLIENT LIST",
        "CLIENT PAUSE 0",
        "CLIENT KILL TYPE master",
        "CONFIG GET proxy.*",
        "CONFIG SET proxy.cache.ttl 60s",
        "INFO proxy",
        "PROXY EXPLAIN GET a",
        "CLIENT KILL USER carol",
    ] {
        let (hers, his) = (text(alice.words(line)), text(bob.words(line)));
        let name = line.to_ascii_lowercase();
        assert!(!hers.starts_with("-NOPERM"), "{line}: {hers}");
        assert!(
            his.starts_with("-NOPERM User bob has no permissions to run the '"),
            "{name}: {his}"
        );
    }
    // Within MULTI, too.
    bob.words("MULTI");
    assert!(bob.words("CLIENT LIST").starts_with(b"-NOPERM"));
    assert!(bob.words("EXEC").starts_with(b"-EXECABORT"));
    for line in ["PROXY HELP", "PROXY LAST", "PROXY BYPASS OFF", "CLIENT INFO", "CLIENT ID"] {
        assert!(!bob.words(line).starts_with(b"-"), "{line}");
    }
    // What concerns upstream too is upstream's to permit.
    assert!(text(bob.words("CONFIG GET maxmemory")).contains("maxmemory"));
}
