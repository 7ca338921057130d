//! The PROXY family: what a client can ask of nearside itself, over both protocols, and what it
//! can have it do.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};
use nearside::command::own;
use nearside::wire::reply;
use std::collections::BTreeMap;
use std::process::Command;

const SETTINGS: &[&str] = &["keys.version = \"v1\"", "cache.ttl = \"1h\"", "server.workers = 2"];

/// A server that has the keys before nearside comes: no push of a write is on its way when a test
/// looks at what is held.
fn start(kind: Kind, keys: &[&str], settings: &[&str]) -> (Server, Proxy) {
    let server = Server::start(kind);
    let mut direct = server.dial();
    for key in keys {
        direct.words(&format!("SET v1:{key} 1"));
    }
    let proxy = Proxy::start(&server.url(), &[SETTINGS, settings].concat());
    (server, proxy)
}

/// The names and values of a map, as either protocol has it; what is no text stays as it is.
fn map(answer: &[u8]) -> BTreeMap<String, String> {
    let text = |element: &[u8]| {
        let plain = reply::bulk(element).map(<[u8]>::to_vec);
        let plain = plain.or_else(|| Some(reply::integer(element)?.to_string().into_bytes()));
        String::from_utf8(plain.unwrap_or_else(|| element.to_vec())).unwrap()
    };
    assert!(answer.starts_with(b"*") || answer.starts_with(b"%"), "{}", show(answer));
    let all: Vec<String> = reply::elements(answer).map(text).collect();
    all.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn ask(conn: &mut Conn, line: &str) -> BTreeMap<String, String> {
    map(&conn.words(line))
}

/// Names of an array of texts.
fn list(answer: &[u8]) -> Vec<String> {
    let text = |element| String::from_utf8(reply::bulk(element).unwrap().to_vec()).unwrap();
    reply::elements(answer).map(text).collect()
}

fn last(conn: &mut Conn) -> (String, String) {
    let last = ask(conn, "PROXY LAST");
    (last["command"].clone(), last["outcome"].clone())
}

/// Its last command is a hit.
fn hit(conn: &mut Conn, line: &str) {
    conn.until_hit(line);
    conn.words(line);
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn what_became_of_the_last_command() {
    for kind in KINDS {
        let (_server, proxy) = start(kind, &["a", "b", "c"], &[]);
        let mut conn = proxy.dial();
        assert_eq!(last(&mut conn), pair("", "none"));
        assert_eq!(last(&mut conn), pair("proxy|last", "local"));
        conn.words("GET a");
        assert_eq!(last(&mut conn), pair("get", "miss"));
        hit(&mut conn, "GET a");
        assert_eq!(last(&mut conn), pair("get", "hit"));
        for (line, command, outcome) in [
            ("SET x 1", "set", "forwarded"),
            ("ECHO x", "echo", "local"),
            ("GET", "get", "refused"),
            ("NOSUCH", "", "refused"),
            ("BLPOP none 0.01", "blpop", "own"),
            ("MGET a", "mget", "hit"),
            ("MGET a b", "mget", "miss"),
            ("PROXY VERSION", "proxy|version", "local"),
        ] {
            conn.words(line);
            assert_eq!(last(&mut conn), pair(command, outcome), "{kind:?} {line}");
        }
        // In one pipeline, behind a miss, a hit, and a write of the same key.
        let lines =
            ["GET c", "PROXY LAST", "GET a", "PROXY LAST", "SET a 2", "GET a", "PROXY LAST"];
        conn.send(&lines.map(|line| request(&line.split(' ').collect::<Vec<_>>())).concat());
        let answers: Vec<Vec<u8>> = lines.iter().map(|_| conn.reply()).collect();
        let outcomes = [1, 3, 6].map(|at| map(&answers[at]));
        assert_eq!(outcomes[0]["outcome"], "miss");
        assert_eq!(outcomes[1]["outcome"], "hit");
        assert_eq!((&*outcomes[2]["outcome"], &*outcomes[2]["reason"]), ("bypass", "pipeline"));
    }
}

/// From its first PROXY LAST on a connection is told the rule and the age of what it reads.
#[test]
fn the_age_and_the_rule_of_what_was_read() {
    let rules = ["rules = [{ match = \"s:*\", level = \"bypass\" }]"];
    let (_server, proxy) = start(Kind::Redis, &["a", "s:1"], &rules);
    let mut conn = proxy.dial();
    hit(&mut conn, "GET a");
    let first = ask(&mut conn, "PROXY LAST");
    assert!(!first.contains_key("rule") && !first.contains_key("age_ms"), "{first:?}");
    hit(&mut conn, "GET a");
    let second = ask(&mut conn, "PROXY LAST");
    assert_eq!((&*second["outcome"], &*second["rule"]), ("hit", "[cache]"));
    second["age_ms"].parse::<u64>().unwrap();
    conn.words("GET s:1");
    let third = ask(&mut conn, "PROXY LAST");
    let found = ["outcome", "reason", "rule"].map(|name| &*third[name]);
    assert_eq!(found, ["bypass", "rule", "rules[0] s:*"]);
    assert!(!third.contains_key("age_ms"), "it came from the server");
}

#[test]
fn what_is_cached_of_a_key() {
    for protocol in ["2", "3"] {
        let (_server, proxy) = start(Kind::Redis, &["a"], &[]);
        let mut conn = proxy.dial();
        conn.ask(&["HELLO", protocol]);
        let before = ask(&mut conn, "PROXY GET a");
        assert_eq!((&*before["present"], &*before["rule"]), ("0", "[cache]"));
        assert!(!before.contains_key("age_ms"));
        conn.until_hit("GET a");
        conn.until_hit("STRLEN a");
        let answer = conn.words("PROXY GET a");
        assert_eq!(answer[0], if protocol == "2" { b'*' } else { b'%' }, "{}", show(&answer));
        let held = map(&answer);
        assert_eq!(held["present"], "1");
        assert!(held["ttl_ms"].parse::<u64>().unwrap() <= 3_600_000);
        assert!(held["size"].parse::<u64>().unwrap() > 0);
        let (_, replies) = answer.split_at(answer.len() - held["replies"].len());
        let commands: Vec<String> =
            reply::elements(replies).map(|one| map(one)["command"].clone()).collect();
        assert_eq!(commands, ["strlen", "get"]);
        assert_eq!(conn.words("PROXY INVALIDATE KEY a none"), b":1\r\n");
        assert_eq!(ask(&mut conn, "PROXY GET a")["present"], "0");
    }
}

#[test]
fn keys_namespaces_patterns_and_everything_are_forgotten() {
    let keys = ["orders:1", "orders:2", "users:1", "plain"];
    for kind in KINDS {
        let (_server, proxy) = start(kind, &keys, &[]);
        let mut conn = proxy.dial();
        for (order, removed, left) in [
            ("INVALIDATE KEY orders:1 none", 1, vec!["orders:2", "users:1", "plain"]),
            ("INVALIDATE LOCAL NAMESPACE orders", 2, vec!["users:1", "plain"]),
            ("invalidate pattern *:1", 2, vec!["orders:2", "plain"]),
            ("CLEAR", 4, vec![]),
        ] {
            for key in keys {
                conn.until_hit(&format!("GET {key}"));
            }
            // What follows it in a pipeline is served after it.
            let line = format!("PROXY {order}");
            let mut bytes = request(&line.split(' ').collect::<Vec<_>>());
            bytes.extend(keys.iter().flat_map(|key| request(&["PROXY", "GET", key])));
            conn.send(&bytes);
            assert_eq!(conn.reply(), format!(":{removed}\r\n").as_bytes(), "{kind:?} {order}");
            let held = keys.map(|_| map(&conn.reply())["present"] == "1");
            let held: Vec<&str> =
                keys.into_iter().zip(held).filter_map(|(key, is)| is.then_some(key)).collect();
            assert_eq!(held, left, "{kind:?} {order}");
        }
        assert_eq!(proxy.count("nearside_cache_invalidations_total{source=\"admin\"}"), 4);
        assert!(proxy.log().contains("namespace orders"));
        for (order, error) in [
            ("INVALIDATE KEYS a", "-ERR syntax error"),
            ("INVALIDATE NAMESPACE a:b", "-ERR the namespace holds a `:`"),
            ("INVALIDATE KEY", "-ERR wrong number of arguments for 'proxy|invalidate' command"),
            ("CLEAR all", "-ERR wrong number of arguments for 'proxy|clear' command"),
        ] {
            let answer = conn.words(&format!("PROXY {order}"));
            assert!(answer.starts_with(error.as_bytes()), "{order}: {}", show(&answer));
        }
    }
}

/// What peers are told, they forget.
#[test]
fn peers_are_told() {
    let (server, one) = start(Kind::Redis, &["a", "b"], &["instance = \"one\""]);
    let two = Proxy::start(&server.url(), &[SETTINGS, &["instance = \"two\""]].concat());
    let up = "nearside_invalidation_channel_up{channel=\"pubsub\"";
    eventually("both hear", || (one.count(up) + two.count(up) == 2).then_some(()));
    let (mut here, mut there) = (one.dial(), two.dial());
    for conn in [&mut here, &mut there] {
        conn.until_hit("GET a");
        conn.until_hit("GET b");
    }
    assert_eq!(here.words("PROXY INVALIDATE LOCAL KEY a"), b":1\r\n");
    assert_eq!(here.words("PROXY INVALIDATE KEY b"), b":1\r\n");
    eventually("the peer has forgotten", || {
        (ask(&mut there, "PROXY GET b")["present"] == "0").then_some(())
    });
    assert_eq!(ask(&mut there, "PROXY GET a")["present"], "1");
}

#[test]
fn the_mode_is_switched_for_all() {
    let (_server, proxy) = start(Kind::Redis, &["a"], &[]);
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    one.until_hit("GET a");
    assert_eq!(one.words("PROXY MODE"), b"$5\r\ncache\r\n");
    assert_eq!(one.words("PROXY MODE Bypass"), b"+OK\r\n");
    two.words("GET a");
    let told = ask(&mut two, "PROXY LAST");
    assert_eq!((&*told["outcome"], &*told["reason"]), ("bypass", "mode"));
    assert_eq!(ask(&mut two, "PROXY EXPLAIN GET a")["fate"], "forwarded");
    assert!(one.words("PROXY MODE off").starts_with(b"-ERR Invalid mode"));
    assert_eq!(one.words("PROXY MODE observe"), b"+OK\r\n");
    eventually("it is seen that there would be hits", || {
        two.words("GET a");
        (last(&mut two) == pair("get", "would_hit")).then_some(())
    });
    // A pipeline: what follows is served in the new mode.
    one.send(&[request(&["PROXY", "MODE", "cache"]), request(&["PROXY", "MODE"])].concat());
    assert_eq!((one.reply(), one.reply()), (b"+OK\r\n".to_vec(), b"$5\r\ncache\r\n".to_vec()));
    one.until_hit("GET a");
}

/// PROXY BYPASS: reads of this connection go upstream, with a link of its own and without.
#[test]
fn one_connection_reads_upstream() {
    for kind in KINDS {
        let (_server, proxy) = start(kind, &["a"], &[]);
        let (mut past, mut other) = (proxy.dial(), proxy.dial());
        past.until_hit("GET a");
        assert_eq!(past.words("PROXY BYPASS on"), b"+OK\r\n");
        for (line, answer) in [("GET a", "$1\r\n1\r\n"), ("MGET a", "*1\r\n$1\r\n1\r\n")] {
            let before = past.hits();
            assert_eq!(past.words(line), answer.as_bytes());
            let told = ask(&mut past, "PROXY LAST");
            assert_eq!((&*told["outcome"], &*told["reason"]), ("bypass", "client"), "{line}");
            assert_eq!(past.hits(), before);
        }
        assert_eq!(ask(&mut past, "PROXY GET a")["present"], "0", "it fills nothing");
        other.until_hit("GET a");
        past.words("HELLO 3");
        past.words("SUBSCRIBE c");
        past.words("GET a");
        assert_eq!(last(&mut past), pair("get", "bypass"));
        assert_eq!(past.words("PROXY BYPASS OFF"), b"+OK\r\n");
        // What is read on its own link is stored for nobody.
        other.until_hit("GET a");
        past.until_hit("GET a");
        assert!(past.words("PROXY BYPASS maybe").starts_with(b"-ERR syntax error"));
        past.words("PROXY BYPASS ON");
        past.words("RESET");
        past.until_hit("GET a");
        let bypassed = "nearside_cache_bypass_total{reason=\"client\"}";
        assert_eq!(proxy.count(bypassed), 3);
    }
}

#[test]
fn a_request_is_explained_as_the_command_line_does() {
    let (_server, proxy) = start(Kind::Redis, &[], &["commands.deny = [\"KEYS\"]"]);
    let mut conn = proxy.dial();
    let explained = ask(&mut conn, "PROXY EXPLAIN GET session:42");
    let found = ["command", "class", "fate", "sent"].map(|name| &*explained[name]);
    assert_eq!(found, ["GET", "read", "cached", "GET v1:session:42"]);
    let denied = ask(&mut conn, "PROXY EXPLAIN KEYS *");
    assert_eq!(denied["error"], "NOPERM nearside refuses 'keys': commands.deny names it");
    assert_eq!(ask(&mut conn, "PROXY EXPLAIN PROXY GET a")["fate"], "local");
    assert_eq!(ask(&mut conn, "PROXY EXPLAIN GET")["fate"], "refused");
    let line = ["explain", "--json", "SET", "a", "1"];
    let told = Command::new(env!("CARGO_BIN_EXE_nearside"))
        .arg("--config")
        .arg(proxy.folder.path().join("proxy.toml"))
        .args(line)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let asked = ask(&mut conn, "PROXY EXPLAIN SET a 1");
    for name in ["command", "class", "happens", "sent", "drops"] {
        assert!(told.contains(&format!("\"{name}\": \"{}\"", asked[name])), "{name}: {told}");
    }
}

#[test]
fn what_there_is_to_see() {
    let (server, proxy) = start(Kind::Redis, &["orders:1"], &["instance = \"it\""]);
    let (mut conn, mut other) = (proxy.dial(), proxy.dial());
    conn.until_hit("GET orders:1");
    let stats = ask(&mut conn, "PROXY STATS");
    assert!(stats["hits"].parse::<u64>().unwrap() > 0 && stats["entries"] == "1", "{stats:?}");
    assert_eq!(
        (stats["clients"].as_str(), conn.words("PROXY STATS RESET")),
        ("2", b"+OK\r\n".to_vec())
    );
    assert_eq!(ask(&mut conn, "PROXY STATS")["hits"], "0");
    assert!(conn.words("PROXY STATS NOW").starts_with(b"-ERR syntax error"));

    let info = conn.words("PROXY INFO");
    let text = String::from_utf8_lossy(reply::bulk(&info).unwrap()).into_owned();
    let titles: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(titles, ["# Proxy", "# ProxyCache", "# ProxyUpstreams"]);
    let info = conn.words("PROXY INFO proxycache");
    assert!(reply::bulk(&info).unwrap().starts_with(b"# ProxyCache\r\ncache_entries:1\r\n"));
    other.words("HELLO 3");
    assert!(other.words("PROXY INFO nosuch").starts_with(b"=4\r\ntxt:"));

    let config = ask(&mut conn, "PROXY CONFIG GET cache.ttl inst*");
    let config: Vec<(&str, &str)> = config.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(config, [("cache.ttl", "1h"), ("instance", "it")]);
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv1\r\n");

    let answer = conn.words("PROXY CLIENTS");
    let clients: Vec<_> = reply::elements(&answer).map(map).collect();
    assert_eq!(clients.len(), 2);
    let own = clients.iter().find(|client| client["cmd"] == "proxy|clients").unwrap();
    assert!(own["hits"].parse::<u64>().unwrap() > 0 && own["flags"] == "N", "{own:?}");

    let answer = conn.words("PROXY UPSTREAMS");
    let up = map(reply::elements(&answer).next().unwrap());
    assert_eq!((&*up["address"], &*up["state"]), (&*format!("127.0.0.1:{}", server.port), "up"));
    assert_eq!((&*up["server"], &*up["tracking"], &*up["role"]), ("redis", "up", "master"));

    let answer = conn.words("PROXY NAMESPACES COUNT 1");
    let row = map(reply::elements(&answer).next().unwrap());
    assert!(row.contains_key("namespace") && row.contains_key("hit_ratio"), "{row:?}");
    assert!(conn.words("PROXY NAMESPACES COUNT x").starts_with(b"-ERR value is not an integer"));

    let all = list(&conn.words("PROXY COMMANDS"));
    let cached = list(&conn.words("PROXY COMMANDS cacheable"));
    let refused = list(&conn.words("PROXY COMMANDS UNSUPPORTED"));
    assert!(all.len() > 500 && cached.contains(&"get".to_owned()));
    assert!(refused.contains(&"shutdown".to_owned()) && !cached.contains(&"set".to_owned()));

    conn.ask(&["PROXY", "LOG", "warn", "here begins\nthe test"]);
    assert!(proxy.log().contains("here begins the test"));
    assert!(conn.words("PROXY LOG loud x").starts_with(b"-ERR Invalid level"));
}

/// Unknown words, wrong counts and HELP, as a container of the server's has them.
#[test]
fn errors_and_help_are_in_the_words_of_redis() {
    let (server, proxy) = start(Kind::Redis, &[], &[]);
    let (mut ours, mut direct) = (proxy.dial(), server.dial());
    for line in ["CLIENT NOSUCH x", "CLIENT", "CLIENT ID x"] {
        let theirs = show(&direct.words(line));
        let line = line.replace("CLIENT", "PROXY").replace("ID x", "LAST x");
        let theirs = theirs.replace("client|id", "proxy|last").replace("client", "proxy");
        assert_eq!(show(&ours.words(&line)), theirs.replace("CLIENT", "PROXY"), "{line}");
    }
    let help = ours.words("proxy help");
    let lines: Vec<String> = reply::elements(&help)
        .map(|line| String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned())
        .collect();
    assert_eq!(lines.len(), 1 + 2 * own::HELP.len());
    assert_eq!(lines[0], "PROXY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    // Each is there, and takes at least what its help says.
    for row in &own::all()[1..] {
        let usage = lines.iter().find(|line| line.to_lowercase().starts_with(row.word()));
        assert!(usage.is_some(), "{}", row.name);
    }
}

#[test]
fn the_word_is_configured_and_the_rights_too() {
    let deny = "commands.deny = [\"PROXY|MODE\", \"PROXY|CLEAR\"]";
    let (server, proxy) = start(Kind::Redis, &[], &["server.proxy_command = \"NEAR\"", deny]);
    let (mut ours, mut direct) = (proxy.dial(), server.dial());
    assert_eq!(ours.words("near version"), b"$2\r\nv1\r\n");
    assert_eq!(show(&ours.words("PROXY VERSION")), show(&direct.words("PROXY VERSION")));
    assert!(ours.words("NEAR x").ends_with(b"Try NEAR HELP.\r\n"));
    assert!(ours.words("NEAR HELP").starts_with(b"*47\r\n+NEAR <subcommand>"));
    for line in ["NEAR MODE bypass", "NEAR MODE", "NEAR CLEAR", "NEAR SHUTDOWN"] {
        assert!(ours.words(line).starts_with(b"-NOPERM nearside refuses 'proxy "), "{line}");
    }
    let (server, proxy) = start(Kind::Redis, &[], &["server.proxy_command = \"\""]);
    let (mut ours, mut direct) = (proxy.dial(), server.dial());
    for line in ["PROXY", "PROXY HELP"] {
        assert_eq!(show(&ours.words(line)), show(&direct.words(line)), "{line}");
    }
    let settings =
        ["auth.mode = \"static\"", "auth.password = \"pw\"", "commands.profile = \"hardened\""];
    let (_server, proxy) = start(Kind::Redis, &[], &settings);
    let mut conn = proxy.dial();
    assert!(conn.words("PROXY VERSION").starts_with(b"-NOAUTH"));
    conn.words("AUTH pw");
    assert_eq!(conn.words("PROXY VERSION"), b"$2\r\nv1\r\n");
    assert!(conn.words("PROXY CLEAR").starts_with(b"-NOPERM"), "it is everybody's");
}

/// What nearside would do now, not at EXEC, makes the transaction fail.
#[test]
fn a_transaction_queues_nothing_of_it() {
    for kind in KINDS {
        let (_server, proxy) = start(kind, &["a"], &[]);
        let mut conn = proxy.dial();
        conn.until_hit("GET a");
        conn.words("MULTI");
        for line in ["PROXY CLEAR", "PROXY GET a"] {
            let answer = show(&conn.words(line));
            assert!(
                answer.starts_with("-ERR Command not allowed inside a transaction"),
                "{answer}"
            );
        }
        assert!(conn.words("PROXY NOSUCH").starts_with(b"-ERR unknown subcommand 'NOSUCH'"));
        assert!(conn.words("EXEC").starts_with(b"-EXECABORT"));
        assert_eq!(ask(&mut conn, "PROXY GET a")["present"], "1");
        // Nobody waits for what it is not told.
        conn.send(&request(&["CLIENT", "REPLY", "SKIP"]));
        conn.send(&request(&["PROXY", "CLEAR"]));
        assert_eq!(conn.words("ECHO x"), b"$1\r\nx\r\n");
        assert_eq!(ask(&mut conn, "PROXY GET a")["present"], "0");
    }
}

#[test]
fn it_ends_as_at_a_signal_if_that_is_allowed() {
    let allow = "commands.allow = [\"PROXY|SHUTDOWN\"]";
    let (_server, mut proxy) = start(Kind::Redis, &[], &[allow]);
    let mut conn = proxy.dial();
    conn.send(&[request(&["PROXY", "SHUTDOWN"]), request(&["ECHO", "x"])].concat());
    assert_eq!(conn.reply(), b"+OK\r\n");
    assert_eq!(conn.reply(), b"$1\r\nx\r\n");
    assert!(conn.try_reply().is_none());
    assert!(proxy.wait().success());
    assert!(proxy.log().contains("draining"));
}

#[test]
fn redis_cli_shows_it() {
    let (_server, proxy) = start(Kind::Redis, &["x"], &[]);
    let mut client = proxy.dial();
    client.until_hit("GET x");
    let cli = |args: &[&str]| {
        let port = proxy.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(cli(&["PROXY", "GET", "x"]).lines().take(2).collect::<Vec<_>>(), ["present", "1"]);
    let explained = cli(&["-3", "--no-raw", "PROXY", "EXPLAIN", "GET", "x"]);
    assert!(explained.contains("1# \"command\" => \"GET\""), "{explained}");
    assert_eq!(cli(&["PROXY", "MODE"]), "cache\n");
    assert_eq!(cli(&["PROXY", "INVALIDATE", "KEY", "x"]), "1\n");
}
