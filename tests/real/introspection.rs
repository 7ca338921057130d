//! What nearside answers itself: the CLIENT family, INFO, CONFIG. Errors are in the server's own
//! words; clients of all workers are seen, paused and killed.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};
use nearside::command::{self, Class};
use nearside::wire::reply;

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// The value of a line of INFO, or of a field of CLIENT LIST.
fn field(text: &str, name: &str) -> String {
    let at = |part: &str| part.strip_prefix(name)?.strip_prefix([':', '=']).map(str::to_owned);
    let found = text.split(['\r', '\n', ' ']).find_map(at);
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn number(text: &str, name: &str) -> u64 {
    field(text, name).parse().unwrap_or_else(|_| panic!("{name} is no number in {text}"))
}

fn id(conn: &mut Conn) -> i64 {
    reply::integer(&conn.words("CLIENT ID")).unwrap()
}

/// Lines that no server answers with anything but an error, or with what does not depend on it.
const WORDED: &str = "\
CLIENT
CLIENT FOO
CLIENT KILL
CLIENT KILL 1
CLIENT KILL ID 0
CLIENT KILL ID -1
CLIENT KILL ID x
CLIENT KILL ID 99999999999999999999
CLIENT KILL ID 4000000
CLIENT KILL ID 4000000 4000001
CLIENT KILL TYPE foo
CLIENT KILL TYPE master
CLIENT KILL USER foo
CLIENT KILL SKIPME foo
CLIENT KILL SKIPME
CLIENT KILL ADDR
CLIENT KILL ADDR 1:2
CLIENT KILL LADDR 1:2 ADDR 1:2
CLIENT KILL FOO BAR
CLIENT LIST TYPE
CLIENT LIST TYPE foo
CLIENT LIST TYPE replica
CLIENT LIST ID
CLIENT LIST ID x
CLIENT LIST ID 4000000
CLIENT LIST FOO
CLIENT PAUSE
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT PAUSE 0 foo
CLIENT PAUSE 0 write x
CLIENT PAUSE 0 ALL
CLIENT UNPAUSE x
CLIENT UNPAUSE
CLIENT REPLY
CLIENT REPLY foo
CLIENT REPLY on x
CLIENT REPLY on
CLIENT NO-EVICT
CLIENT NO-EVICT foo
CLIENT NO-EVICT on
CLIENT GETNAME x
CLIENT GETNAME
CLIENT SETNAME a\u{7f}b
CLIENT SETNAME a
CLIENT GETNAME
CLIENT ID x
CLIENT INFO x
CLIENT UNBLOCK x
CLIENT UNBLOCK 4000000
CLIENT UNBLOCK 4000000 foo
CLIENT CACHING yes
ACL WHOAMI
ACL WHOAMI x
CONFIG
CONFIG GET
CONFIG SET maxmemory
CONFIG SET foo bar
CONFIG SET databases 3
CONFIG SET maxmemory 0 maxmemory 0
CONFIG SET maxmemory 0
CONFIG GET maxmemory
CONFIG RESETSTAT x
CONFIG RESETSTAT
DEBUG
INFO nosuchsection
SLOWLOG RESET
LATENCY LATEST
LATENCY RESET
MEMORY USAGE nokey
OBJECT ENCODING nokey
COMMAND COUNT
COMMAND INFO get nosuch
COMMAND GETKEYS set a b";

#[test]
fn what_nearside_says_itself_is_worded_as_the_server_words_it() {
    for kind in KINDS {
        let (server, twin) = (Server::start(kind), Server::start(kind));
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let (mut ours, mut direct) = (proxy.dial(), twin.dial());
        for protocol in ["2", "3"] {
            ours.ask(&["HELLO", protocol]);
            direct.ask(&["HELLO", protocol]);
            for line in WORDED.lines() {
                let (ours, direct) = (ours.words(line), direct.words(line));
                assert_eq!(show(&ours), show(&direct), "{kind:?} RESP{protocol}: {line}");
            }
        }
    }
}

/// Valkey took the filters further; nearside reads them as the server behind it would.
#[test]
fn filters_of_valkey_are_read_where_valkey_is() {
    let (server, twin) = (Server::start(Kind::Valkey), Server::start(Kind::Valkey));
    let proxy = Proxy::start(&server.url(), &[]);
    let (mut ours, mut direct) = (proxy.dial(), twin.dial());
    for line in [
        "CLIENT KILL MAXAGE 0",
        "CLIENT KILL MAXAGE x",
        "CLIENT KILL IDLE 100000",
        "CLIENT KILL NAME nobody",
        "CLIENT KILL NOT-USER default SKIPME no",
        "CLIENT LIST NAME nobody",
        "CLIENT LIST ID 4000000 TYPE normal",
        "CLIENT LIST DB 3",
        "CLIENT PAUSE 9223372036854775807",
        "CLIENT SETINFO lib-name",
        "CLIENT SETINFO foo bar",
        "CLIENT NO-TOUCH foo",
        "CLIENT CAPA redirect",
    ] {
        assert_eq!(show(&ours.words(line)), show(&direct.words(line)), "{line}");
    }
    ours.words("CLIENT SETNAME me");
    let own = text(&ours.words("CLIENT LIST NAME me NOT-TYPE pubsub DB 0 FLAGS N IP 127.0.0.1"));
    assert_eq!(field(&own, "name"), "me");
}

/// A container without a subcommand, and each HELP, as the server has them.
#[test]
fn containers_and_their_help() {
    for kind in KINDS {
        let (server, twin) = (Server::start(kind), Server::start(kind));
        let proxy = Proxy::start(&server.url(), &[]);
        let (mut ours, mut direct) = (proxy.dial(), twin.dial());
        let mut compared = 0;
        for spec in command::all().iter().filter(|spec| spec.class == Class::Local) {
            let is_help = spec.name.ends_with("|help");
            // COMMAND alone lists all, in the order of a hash.
            if !is_help && (spec.subcommands == 0 || spec.name == "command") {
                continue;
            }
            let line = spec.name.replace('|', " ");
            let (ours, direct) = (ours.words(&line), direct.words(&line));
            let is_unknown = direct.starts_with(b"-ERR unknown");
            // nearside has no cluster, and tells which of CLIENT it has.
            if is_unknown || spec.name.starts_with("cluster") {
                continue;
            }
            if spec.name == "client|help" {
                assert!(ours.starts_with(b"*"), "{line}");
            } else if !ours.starts_with(b"-ERR nearside") {
                assert_eq!(show(&ours), show(&direct), "{kind:?}: {line}");
                compared += 1;
            }
        }
        assert!(compared > 15, "{kind:?}: only {compared}");
    }
}

/// Everything up to the answer to `ECHO end`.
fn until_end(conn: &mut Conn) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.ends_with(b"$3\r\nend\r\n") {
        all.extend(conn.reply());
    }
    all
}

/// CLIENT REPLY, in one pipeline, with hits, misses, errors and nearside's own answers in it.
#[test]
fn replies_are_left_out_as_the_server_leaves_them_out() {
    let scripts = [
        "PING;CLIENT REPLY SKIP;PING;GET a;CLIENT REPLY SKIP;GET a;GET b;PING",
        "CLIENT REPLY SKIP;CLIENT REPLY SKIP;GET a;GET b;PING",
        "CLIENT REPLY SKIP;NOSUCH;PING;CLIENT REPLY SKIP;GET;GET a",
        "CLIENT REPLY SKIP;CLIENT REPLY foo;PING;CLIENT REPLY SKIP;CLIENT REPLY ON;PING",
        "SET a 1;CLIENT REPLY OFF;SET a 2;GET a;PING;CLIENT REPLY SKIP;CLIENT REPLY foo;NOSUCH;\
         INCR a;CLIENT REPLY ON;GET a",
        "CLIENT REPLY OFF;LPUSH a x;CLIENT REPLY ON;GET a;CLIENT REPLY SKIP;MGET a b;MGET a b",
        "CLIENT REPLY OFF;INFO;CONFIG GET maxmemory;CLIENT LIST;CLIENT REPLY ON;ECHO x",
        "CLIENT REPLY OFF;RESET;PING",
        "CLIENT REPLY SKIP;RESET;PING",
        "CLIENT REPLY OFF;MULTI;SET a 3;EXEC;CLIENT REPLY ON;GET a",
    ];
    for kind in KINDS {
        let (server, twin) = (Server::start(kind), Server::start(kind));
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        for protocol in ["2", "3"] {
            for script in scripts {
                let answers = [proxy.dial(), twin.dial()].map(|mut conn| {
                    for line in ["FLUSHDB", "SET a 1", "GET a", "GET a"] {
                        conn.words(line);
                    }
                    conn.ask(&["HELLO", protocol]);
                    let lines = script.split(';').chain(["ECHO end"]);
                    let all: Vec<u8> = lines.flat_map(|line| request(&words(line))).collect();
                    conn.send(&all);
                    until_end(&mut conn)
                });
                assert_eq!(
                    show(&answers[0]),
                    show(&answers[1]),
                    "{kind:?} RESP{protocol} {script}"
                );
            }
        }
    }
}

/// Confirmations of subscriptions and messages are no replies: CLIENT REPLY OFF lets them pass.
#[test]
fn messages_come_to_a_client_that_wants_no_replies() {
    let (server, twin) = (Server::start(Kind::Redis), Server::start(Kind::Redis));
    let proxy = Proxy::start(&server.url(), &[]);
    let heard = [(proxy.dial(), proxy.dial()), (twin.dial(), twin.dial())].map(|(mut a, mut b)| {
        a.words("HELLO 3");
        a.send(&[request(&words("CLIENT REPLY OFF")), request(&words("SUBSCRIBE c"))].concat());
        let confirmed = a.reply();
        b.words("PUBLISH c hello");
        [confirmed, a.reply()].concat()
    });
    assert_eq!(show(&heard[0]), show(&heard[1]));
}

#[test]
fn clients_of_all_workers_are_listed_and_killed() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["server.workers = 2"]);
    let mut killer = proxy.dial();
    let mut others: Vec<Conn> = (0..4).map(|_| proxy.dial()).collect();
    let ids: Vec<i64> = others.iter_mut().map(id).collect();
    others[0].words("SUBSCRIBE c");
    let list = text(&killer.words("CLIENT LIST"));
    assert_eq!(list.lines().filter(|line| line.starts_with("id=")).count(), 5, "{list}");
    let line = list.lines().find(|line| line.starts_with(&format!("id={} ", ids[0]))).unwrap();
    assert_eq!((field(line, "flags"), field(line, "sub")), ("P".to_owned(), "1".to_owned()));
    // The line of Redis' own test of CLIENT LIST.
    let own = list.lines().find(|line| line.contains("cmd=client|list")).unwrap();
    assert!(own.contains(" flags=N ") && own.contains(" multi=-1 qbuf=26 qbuf-free="), "{own}");
    assert!(own.contains(" obl=0 oll=0 omem=0 ") && own.contains(" events=r "), "{own}");

    assert_eq!(killer.words("CLIENT KILL TYPE pubsub"), b":1\r\n");
    assert!(others[0].try_reply().is_none());
    assert_eq!(killer.words(&format!("CLIENT KILL ID {}", ids[1])), b":1\r\n");
    assert_eq!(killer.words(&format!("CLIENT KILL ID {}", ids[1])), b":0\r\n", "it is gone");
    // Killed is killed: what it sends after that is not carried out.
    others[1].try_send(&request(&words("SET a 1"))).ok();
    assert!(others[1].try_reply().is_none());
    assert_eq!(killer.words("GET a"), b"$-1\r\n");
    let info = text(&others[2].words("CLIENT INFO"));
    assert_eq!(killer.words(&format!("CLIENT KILL {}", field(&info, "addr"))), b"+OK\r\n");
    assert!(others[2].try_reply().is_none());
    let laddr = field(&text(&killer.words("CLIENT INFO")), "laddr");
    assert_eq!(killer.words(&format!("CLIENT KILL LADDR {laddr} USER default")), b":1\r\n");
    assert!(others[3].try_reply().is_none());
    // Oneself: first the answer, then the end.
    killer.send(&[request(&words("CLIENT KILL SKIPME no")), request(&["PING"])].concat());
    assert_eq!(show(&killer.rest()), show(b":1\r\n"));
    eventually("only this one is left", || {
        let mut conn = proxy.dial();
        (number(&text(&conn.words("INFO clients")), "connected_clients") == 1).then_some(())
    });
    assert!(proxy.metric("nearside_client_disconnections_total{reason=\"killed\"}") >= 4.0);
}

/// Waits until a client is held, as CLIENT LIST says.
fn until_held(watcher: &mut Conn, id: i64) {
    eventually("the client is held", || {
        let line = text(&watcher.words(&format!("CLIENT LIST ID {id}")));
        field(&line, "flags").contains('b').then_some(())
    });
}

#[test]
fn a_pause_of_writes_lets_reads_go() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["server.workers = 2"]);
    let (mut one, mut two, mut three) = (proxy.dial(), proxy.dial(), proxy.dial());
    one.words("SET a 1");
    let (two_id, three_id) = (id(&mut two), id(&mut three));
    for line in ["MULTI", "SET a 2", "GET a"] {
        three.words(line);
    }
    assert_eq!(one.words("CLIENT PAUSE 100000000 WRITE"), b"+OK\r\n");
    two.send(&[request(&words("GET a")), request(&words("SET a 3")), request(&["PING"])].concat());
    assert_eq!(two.reply(), b"$1\r\n1\r\n");
    until_held(&mut one, two_id);
    three.send(&request(&["EXEC"]));
    until_held(&mut one, three_id);
    assert_eq!(number(&text(&one.words("INFO clients")), "blocked_clients"), 2);
    assert_eq!(one.words("GET a"), b"$1\r\n1\r\n", "nothing has been written");
    assert!(one.words("SET a").starts_with(b"-ERR wrong number"), "refused at once");
    assert_eq!(one.words("CLIENT UNPAUSE"), b"+OK\r\n");
    assert_eq!((two.reply(), two.reply()), (b"+OK\r\n".to_vec(), b"+PONG\r\n".to_vec()));
    assert_eq!(reply::elements(&three.reply()).count(), 2);
    assert_eq!(number(&text(&one.words("INFO clients")), "blocked_clients"), 0);
}

/// In a transaction it has its place: what is wrong with it shows there, and it begins when the
/// transaction is executed, not before, and not if that is given up.
#[test]
fn a_pause_begins_when_its_transaction_is_executed() {
    let (server, twin) = (Server::start(Kind::Redis), Server::start(Kind::Redis));
    let proxy = Proxy::start(&server.url(), &["server.workers = 2"]);
    let (mut one, mut two, mut direct) = (proxy.dial(), proxy.dial(), twin.dial());
    let pause = "CLIENT PAUSE 100000000 WRITE";
    for lines in [
        &["MULTI", pause, "DISCARD"][..],
        &["MULTI", pause, "SET a", "EXEC"],
        &["MULTI", "CLIENT PAUSE x", "CLIENT PAUSE 1 foo", "CLIENT UNPAUSE", "EXEC"],
        &["MULTI", pause, "SET a 1", "CLIENT PAUSE -1", "GET a", "EXEC"],
    ] {
        for line in lines {
            if *line == "EXEC" {
                // Not yet.
                assert_eq!(two.words("SET b 1"), b"+OK\r\n");
            }
            assert_eq!(show(&one.words(line)), show(&direct.words(line)), "{lines:?}: {line}");
        }
    }
    let two_id = id(&mut two);
    two.send(&request(&words("SET b 2")));
    until_held(&mut one, two_id);
    assert_eq!(one.words("GET b"), b"$1\r\n1\r\n");
    for line in ["MULTI", "CLIENT UNPAUSE", "EXEC"] {
        assert_eq!(show(&one.words(line)), show(&direct.words(line)), "{line}");
    }
    assert_eq!(two.reply(), b"+OK\r\n");
    assert_eq!(one.words("GET b"), b"$1\r\n2\r\n");
    // Sent behind EXEC at once, it waits for it.
    let both: Vec<u8> =
        ["MULTI", pause, "EXEC", "SET b 3"].iter().flat_map(|line| request(&words(line))).collect();
    two.send(&both);
    until_held(&mut one, two_id);
    assert_eq!(one.words("GET b"), b"$1\r\n2\r\n");
    one.words("CLIENT UNPAUSE");
    let replies = [two.reply(), two.reply(), two.reply(), two.reply()].concat();
    assert_eq!(show(&replies), show(b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+OK\r\n"));
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["server.workers = 2"]);
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    one.words("SET a 1");
    two.words("GET a");
    assert_eq!(one.words("CLIENT PAUSE 50"), b"+OK\r\n");
    // Held or not by now, all are answered, in order.
    for conn in [&mut one, &mut two] {
        conn.send(&[request(&words("GET a")), request(&["PING"])].concat());
    }
    for conn in [&mut one, &mut two] {
        assert_eq!(conn.reply(), b"$1\r\n1\r\n");
        assert_eq!(conn.reply(), b"+PONG\r\n");
    }
    // A client that leaves while it is held is gone.
    let mut three = proxy.dial();
    let three_id = id(&mut three);
    one.words("CLIENT PAUSE 100000000 WRITE");
    three.send(&request(&words("SET b 1")));
    until_held(&mut one, three_id);
    assert_eq!(one.words(&format!("CLIENT KILL ID {three_id}")), b":1\r\n");
    assert!(three.try_reply().is_none());
    one.words("CLIENT UNPAUSE");
    assert_eq!(one.words("EXISTS b"), b":0\r\n");
}

/// What a client has on a link of its own is seen in CLIENT LIST.
#[test]
fn a_line_tells_of_transactions_and_tracking() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &[]);
    let (mut watcher, mut conn) = (proxy.dial(), proxy.dial());
    let id = id(&mut conn);
    let mut line = || text(&watcher.words(&format!("CLIENT LIST ID {id}")));
    conn.words("WATCH a b");
    assert_eq!(field(&line(), "watch"), "2");
    conn.words("MULTI");
    conn.words("SET a 1");
    let seen = line();
    assert_eq!((field(&seen, "flags"), field(&seen, "multi")), ("x".to_owned(), "1".to_owned()));
    conn.words("EXEC");
    let seen = line();
    assert_eq!((field(&seen, "flags"), field(&seen, "multi")), ("N".to_owned(), "-1".to_owned()));
    assert_eq!(field(&seen, "watch"), "0");
    conn.words("HELLO 3");
    conn.words("CLIENT TRACKING ON");
    let seen = line();
    assert_eq!((field(&seen, "flags"), field(&seen, "redir")), ("t".to_owned(), "0".to_owned()));
    conn.words("CLIENT NO-EVICT on");
    assert_eq!(field(&line(), "flags"), "te");
    conn.words("RESET");
    assert_eq!(field(&line(), "flags"), "e");
    conn.send(&request(&words("BLPOP nolist 0")));
    eventually("it is blocked", || (field(&line(), "flags") == "be").then_some(()));
}

#[test]
fn info_tells_of_both() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\"", "instance = \"n1\""]);
        let mut conn = proxy.dial();
        for line in ["SET a 1", "GET a", "GET a", "LPUSH a x", "GET", "NOSUCH"] {
            conn.words(line);
        }
        let all = text(&conn.words("INFO all"));
        let direct = text(&server.dial().words("INFO all"));
        for title in direct.lines().filter(|line| line.starts_with("# ")) {
            assert!(all.contains(&format!("{title}\r\n")), "{kind:?}: {title} is missing");
        }
        // Each line of the server's has its line here.
        let names = |info: &str| -> Vec<String> {
            let lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(name, _)| name.to_owned()).collect()
        };
        let is_per_command = |name: &String| {
            name.contains("_main_thread")
                || ["cmdstat_", "errorstat_", "latency_"].iter().any(|head| name.starts_with(head))
        };
        let ours = names(&all);
        let missing: Vec<String> =
            names(&direct).into_iter().filter(|name| !is_per_command(name)).collect();
        let missing: Vec<&String> = missing.iter().filter(|name| !ours.contains(name)).collect();
        assert!(missing.is_empty(), "{kind:?}: {missing:?}");
        assert_eq!(number(&all, "tcp_port"), u64::from(proxy.port));
        assert_eq!(number(&all, "connected_clients"), 1);
        assert_eq!(field(&all, "proxy_instance"), "n1");
        assert_eq!(field(&all, "proxy_key_version"), "v1");
        assert_eq!(field(&all, "role"), "master");
        assert_eq!(field(&all, "upstream_state"), "up");
        assert!(number(&all, "total_commands_processed") >= 4);
        assert_eq!(number(&all, "cache_hits"), conn.hits());
        let get = field(&all, "cmdstat_get");
        assert!(get.starts_with("calls=2,") && get.ends_with("rejected_calls=1,failed_calls=0"));
        assert!(field(&all, "cmdstat_lpush").ends_with("failed_calls=1"));
        assert_eq!(field(&all, "errorstat_WRONGTYPE"), "count=1");
        assert_eq!(field(&all, "errorstat_ERR"), "count=2");

        let default = text(&conn.words("INFO"));
        assert!(default.contains("# ProxyCache") && !default.contains("# Commandstats"));
        let two = text(&conn.words("INFO server proxycache"));
        assert!(two.contains("# Server") && two.contains("# ProxyCache"));
        assert!(!two.contains("# Clients") && !two.contains("# ProxyUpstreams"));
        let own = text(&conn.words("INFO proxyupstreams"));
        assert!(own.contains("upstream0:addr=127.0.0.1:") && !own.contains("# Server"), "{own}");
        let raw = text(&conn.words("INFO upstream server"));
        assert_eq!(number(&raw, "tcp_port"), u64::from(server.port));
        assert!(!raw.contains("proxy_") && !raw.contains("# Clients"));

        conn.words("MULTI");
        conn.words("INFO server");
        conn.words("CONFIG GET port");
        let executed = text(&conn.words("EXEC"));
        assert_eq!(field(&executed, "proxy_instance"), "n1");
        assert!(executed.ends_with(&format!("\r\n{}\r\n", proxy.port)), "{executed}");

        // What nearside answers in a transaction is one call; its refusals have their words.
        for line in [
            &["MULTI", "CLIENT GETNAME", "CLIENT UNBLOCK 4000000", "EXEC", "SHUTDOWN"][..],
            &["MULTI", "NOSUCH", "SUBSCRIBE a", "STRLEN", "DISCARD"],
        ]
        .concat()
        {
            conn.words(line);
        }
        let after = text(&conn.words("INFO everything"));
        for name in ["cmdstat_client|getname", "cmdstat_client|unblock"] {
            assert!(field(&after, name).starts_with("calls=1,"), "{after}");
        }
        assert_eq!(field(&after, "errorstat_NOPERM"), "count=1");
        assert_eq!(field(&after, "errorstat_ERR"), "count=5");
        assert_eq!(field(&after, "cmdstat_get"), get, "an unknown command is none");
        for name in ["cmdstat_subscribe", "cmdstat_strlen"] {
            assert!(field(&after, name).ends_with("rejected_calls=1,failed_calls=0"), "{after}");
        }

        assert_eq!(conn.words("CONFIG RESETSTAT"), b"+OK\r\n");
        let after = text(&conn.words("INFO all"));
        assert!(!after.contains("cmdstat_get:"), "{after}");
        assert_eq!(number(&after, "cache_hits"), 0);
        conn.words("HELLO 3");
        assert!(conn.words("INFO").starts_with(b"="));
    }
}

#[test]
fn info_is_remembered_while_upstream_is_down() {
    let mut server = Server::start(Kind::Redis);
    let settings = &["upstream.on_down = \"error\"", "upstream.reconnect_wait = \"10ms\""];
    let proxy = Proxy::start(&server.url(), settings);
    let mut conn = proxy.dial();
    let before = text(&conn.words("INFO"));
    server.kill();
    let info = eventually("it is told that upstream is down", || {
        let info = text(&conn.words("INFO"));
        info.contains("upstream_state:down").then_some(info)
    });
    assert_eq!(field(&info, "redis_version"), field(&before, "redis_version"));
    assert_eq!((field(&info, "role"), field(&info, "loading")), ("master".into(), "0".into()));
    assert!(text(&conn.words("INFO replication")).contains("role:master"));
    let never_told = text(&conn.words("INFO commandstats"));
    assert!(never_told.starts_with("-ERR proxy: "), "{never_told}");
    assert!(text(&conn.words("INFO proxycache")).contains("cache_hits:"));
}

#[test]
fn settings_of_nearside_are_shown_and_not_changed() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = &["server.max_clients = 77", "server.idle_timeout = \"5m\""];
        let proxy = Proxy::start(&server.url(), settings);
        let mut conn = proxy.dial();
        let pair = |name: &str, value: &str| {
            let elements = format!("${}\r\n{name}\r\n${}\r\n{value}\r\n", name.len(), value.len());
            format!("*2\r\n{elements}")
        };
        assert_eq!(text(&conn.words("CONFIG GET maxclients")), pair("maxclients", "77"));
        assert_eq!(text(&conn.words("CONFIG GET timeout")), pair("timeout", "300"));
        let port = proxy.port.to_string();
        assert_eq!(text(&conn.words("CONFIG GET port")), pair("port", &port));
        assert_eq!(text(&conn.words("CONFIG GET proxy.mode")), pair("proxy.mode", "cache"));
        assert_eq!(
            text(&conn.words("CONFIG GET PROXY.server.idle_timeout")),
            pair("proxy.server.idle_timeout", "5m")
        );
        let own = conn.words("CONFIG GET proxy.*");
        assert!(reply::elements(&own).count() > 60, "{}", show(&own));
        let both = text(&conn.words("CONFIG GET proxy.mode maxmemory"));
        assert!(both.starts_with("*4\r\n") && both.contains("maxmemory"), "{both}");
        let everything = text(&conn.words("CONFIG GET *"));
        assert!(!everything.contains("proxy."), "upstream's names only");

        let immutable = "-ERR CONFIG SET failed (possibly related to argument '";
        for line in ["proxy.mode bypass", "maxclients 78", "PORT 1", "maxmemory 0 timeout 1"] {
            let refused = text(&conn.words(&format!("CONFIG SET {line}")));
            assert!(refused.starts_with(immutable), "{line}: {refused}");
            assert!(refused.ends_with("') - can't set immutable config\r\n"), "{refused}");
        }
        let unknown = text(&conn.words("CONFIG SET proxy.nosuch 1"));
        assert!(unknown.starts_with("-ERR Unknown option or number of arguments"), "{unknown}");
        for line in ["maxclients 77", "proxy.mode cache timeout 300", "timeout 300 maxmemory 64mb"]
        {
            assert_eq!(conn.words(&format!("CONFIG SET {line}")), b"+OK\r\n", "{line}");
        }
        let mut direct = server.dial();
        assert_eq!(text(&direct.words("CONFIG GET maxmemory")), pair("maxmemory", "67108864"));
        assert_eq!(text(&direct.words("CONFIG GET timeout")), pair("timeout", "0"));
        let refused = text(&conn.words("CONFIG REWRITE"));
        assert_eq!(refused, "-ERR The proxy does not write its config file\r\n");
        conn.words("HELLO 3");
        assert!(conn.words("CONFIG GET maxclients proxy.mode").starts_with(b"%2\r\n"));
    }
}
