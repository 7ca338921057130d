//! Fill leases (PROXY LEASE) on real servers and on the embedded one: of many clients that miss a
//! key one computes it, through however many proxies.

use crate::clients::{program, run, script};
use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, installed, show};

const SETTINGS: &[&str] = &["keys.version = \"v1\"", "cache.fill_lease = \"10s\""];

const STORED: &str = "+OK\r\n";
const NIL: &str = "$-1\r\n";
const HELD: &str = "*3\r\n$-1\r\n$-1\r\n$4\r\nheld\r\n";

fn fresh(value: &str) -> String {
    format!("*3\r\n${}\r\n{value}\r\n$-1\r\n$5\r\nfresh\r\n", value.len())
}

fn says(conn: &mut Conn, line: &str, reply: &str) {
    assert_eq!(show(&conn.words(line)), show(reply.as_bytes()), "{line}");
}

/// The token of a reply that grants one.
fn granted(reply: &[u8]) -> String {
    let text = String::from_utf8(reply.to_vec()).unwrap();
    let token = text.strip_prefix("*3\r\n$-1\r\n$32\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let token = token.strip_suffix("\r\n$7\r\ngranted\r\n").unwrap_or_else(|| panic!("{text:?}"));
    token.to_owned()
}

/// Asks for a key that nobody computes.
fn take(conn: &mut Conn, key: &str) -> String {
    granted(&conn.words(&format!("PROXY LEASE GET {key} 0")))
}

/// With `cache.fill_lease`, on two proxies of one upstream; the embedded one is its proxy's alone.
fn on_all(play: impl Fn(&Proxy, &Proxy)) {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxies = [(); 2].map(|()| Proxy::start(&server.url(), SETTINGS));
        play(&proxies[0], &proxies[1]);
    }
    let embedded = Proxy::start("embedded:", SETTINGS);
    play(&embedded, &embedded);
}

#[test]
fn one_computes_and_all_others_get_its_value() {
    on_all(|here, there| {
        let setting = show(&here.dial().words("PROXY CONFIG GET cache.fill_lease"));
        assert!(setting.contains("10s"), "{setting}");
        let (mut one, mut two) = (here.dial(), there.dial());
        let token = take(&mut one, "k");
        says(&mut two, "PROXY LEASE GET k 0", HELD);
        says(&mut two, "GET k", NIL);
        two.send(b"PROXY LEASE GET k 60000\r\n");
        says(&mut one, &format!("PROXY LEASE SET k {token} value PX 60000"), STORED);
        assert_eq!(show(&two.reply()), show(fresh("value").as_bytes()));
        let life = show(&two.words("PTTL k"));
        assert!(!life.contains('-'), "{life}");
        for _ in 0..3 {
            says(&mut one, "PROXY LEASE GET k 0", &fresh("value"));
        }
        says(&mut one, "GET k", "$5\r\nvalue\r\n");
        says(&mut one, &format!("PROXY LEASE SET k {token} again"), NIL);
        says(&mut two, "PROXY LEASE GET k 0", &fresh("value"));
    });
}

/// A thousand clients of two proxies miss a key at once.
#[test]
fn of_a_thousand_clients_one_has_the_token() {
    const EACH: usize = 500;
    for kind in KINDS {
        let server = Server::start(kind);
        let proxies = [(); 2].map(|()| Proxy::start(&server.url(), SETTINGS));
        let mut clients: Vec<Conn> =
            proxies.iter().flat_map(|proxy| (0..EACH).map(|_| proxy.dial())).collect();
        for client in &mut clients {
            client.send(b"PROXY LEASE GET k 60000\r\n");
        }
        // Whoever has the lease computes; nobody else has an answer before that.
        let mut answered = Vec::new();
        for mut client in clients {
            answered.push(std::thread::spawn(move || {
                let reply = client.reply();
                if show(&reply) == show(fresh("value").as_bytes()) {
                    return 0;
                }
                let token = granted(&reply);
                says(&mut client, &format!("PROXY LEASE SET k {token} value"), STORED);
                1
            }));
        }
        let tokens: usize = answered.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(tokens, 1, "{kind:?}");
        let granted = "nearside_fill_leases_total{result=\"granted\"}";
        assert_eq!(proxies.iter().map(|proxy| proxy.count(granted)).sum::<u64>(), 1);
    }
}

/// What is changed while its holder computes is newer, or is no more: nothing is stored over it.
#[test]
fn a_change_in_between_voids_the_lease() {
    on_all(|here, there| {
        let (mut one, mut two) = (here.dial(), there.dial());
        for (key, changes, left) in [
            // The key was never there: no server tells of that.
            ("a", vec!["DEL a"], NIL),
            ("b", vec!["UNLINK x b"], NIL),
            ("c", vec!["SET c new"], "$3\r\nnew\r\n"),
            ("d", vec!["SET d new", "DEL d"], NIL),
            ("e", vec!["MULTI", "DEL e", "PING", "EXEC"], NIL),
            ("f", vec!["WATCH x", "DEL f", "UNWATCH"], NIL),
            ("g", vec!["APPEND g new"], "$3\r\nnew\r\n"),
            ("{t}h", vec!["RENAMENX nosuch {t}h", "DEL {t}h"], NIL),
        ] {
            let token = take(&mut one, key);
            for change in &changes {
                let said = show(&two.words(change));
                if *change == "EXEC" {
                    assert_eq!(said, show(b"*2\r\n:0\r\n+PONG\r\n"), "nothing of nearside's own");
                }
            }
            says(&mut one, &format!("PROXY LEASE SET {key} {token} old"), NIL);
            says(&mut one, &format!("GET {key}"), left);
        }
        let token = take(&mut one, "z");
        says(&mut two, "DEL y", ":0\r\n");
        says(&mut one, &format!("PROXY LEASE SET z {token} new"), STORED);
    });
}

/// A script that is known by its name, and a function's kin, void what their keys have.
#[test]
fn a_script_voids_the_leases_of_its_keys() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let (mut one, mut two) = (proxy.dial(), proxy.dial());
        let text = "return redis.call('DEL',KEYS[1])";
        let sha = two.ask(&["SCRIPT", "LOAD", text]);
        let sha = String::from_utf8(sha).unwrap().lines().nth(1).unwrap().to_owned();
        for call in [["EVAL", text, "1", "k"], ["EVALSHA", &sha, "1", "k"]] {
            let token = take(&mut one, "k");
            assert_eq!(show(&two.ask(&call)), show(b":0\r\n"));
            says(&mut one, &format!("PROXY LEASE SET k {token} old"), NIL);
        }
    }
}

#[test]
fn a_lease_that_is_given_back_is_the_next_ones() {
    on_all(|here, there| {
        let (mut one, mut two) = (here.dial(), there.dial());
        let token = take(&mut one, "k");
        two.send(b"PROXY LEASE GET k 60000\r\n");
        says(&mut one, &format!("PROXY LEASE DROP k {token}"), STORED);
        let next = granted(&two.reply());
        assert_ne!(next, token);
        says(&mut one, &format!("PROXY LEASE DROP k {token}"), NIL);
        says(&mut one, &format!("PROXY LEASE SET k {token} late"), NIL);
        says(&mut two, &format!("PROXY LEASE SET k {next} value EX 60"), STORED);
        says(&mut one, "PROXY LEASE GET k 0", &fresh("value"));
    });
}

/// Its holder takes longer than it said: somebody else has it, and what comes late is refused.
#[test]
fn a_lease_ends_with_its_time() {
    on_all(|here, there| {
        let (mut one, mut two) = (here.dial(), there.dial());
        let late = granted(&one.words("PROXY LEASE GET k 0 TTL 1"));
        let next = granted(&two.words("PROXY LEASE GET k 60000 TTL 60000"));
        says(&mut one, &format!("PROXY LEASE SET k {late} old"), NIL);
        says(&mut one, &format!("PROXY LEASE DROP k {late}"), NIL);
        says(&mut two, &format!("PROXY LEASE SET k {next} new"), STORED);
        says(&mut one, "PROXY LEASE GET k 0", &fresh("new"));
    });
}

/// A token is good on every connection and every proxy, and after nearside was started anew.
#[test]
fn a_lease_outlives_its_connection_and_its_proxy() {
    let server = Server::start(Kind::Redis);
    let (kept, gone) = {
        let mut proxy = Proxy::start(&server.url(), SETTINGS);
        let mut conn = proxy.dial();
        let tokens = (take(&mut conn, "a"), take(&mut conn, "b"));
        drop(conn);
        says(&mut proxy.dial(), "PROXY LEASE GET a 0", HELD);
        proxy.terminate();
        proxy.wait();
        tokens
    };
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let mut conn = proxy.dial();
    says(&mut conn, "PROXY LEASE GET a 0", HELD);
    says(&mut conn, &format!("PROXY LEASE SET a {kept} value"), STORED);
    says(&mut conn, "DEL b", ":0\r\n");
    says(&mut conn, &format!("PROXY LEASE SET b {gone} value"), NIL);
}

/// Who waits and leaves, or is made to leave, is not given a lease that nobody would use.
#[test]
fn who_leaves_waits_no_more() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let (mut one, mut two, mut killed) = (proxy.dial(), proxy.dial(), proxy.dial());
    let mut three = proxy.dial();
    let token = take(&mut one, "k");
    let id = show(&killed.words("CLIENT ID"));
    let id = id.trim_start_matches(':').trim_end_matches("\\r\\n").to_owned();
    two.send(b"PROXY LEASE GET k 60000\r\n");
    killed.send(b"PROXY LEASE GET k 60000\r\n");
    let others = || proxy.count("nearside_connected_clients{listener=\"tcp\"}");
    eventually("all have asked", || (proxy.commands_taken() >= 4 && others() == 4).then_some(()));
    drop(two);
    says(&mut one, &format!("CLIENT KILL ID {id}"), ":1\r\n");
    eventually("they have left", || (others() == 2).then_some(()));
    three.send(b"PROXY LEASE GET k 60000\r\n");
    says(&mut one, &format!("PROXY LEASE DROP k {token}"), STORED);
    let next = granted(&three.reply());
    says(&mut three, &format!("PROXY LEASE SET k {next} value"), STORED);
}

/// A drain waits for nobody who waits.
#[test]
fn a_drain_ends_waits() {
    let server = Server::start(Kind::Redis);
    let mut proxy = Proxy::start(&server.url(), SETTINGS);
    let (mut one, mut two) = (proxy.dial(), proxy.dial());
    take(&mut one, "k");
    two.send(b"PROXY LEASE GET k 60000\r\n");
    eventually("it has asked", || (proxy.commands_taken() >= 2).then_some(()));
    proxy.terminate();
    assert_eq!(show(&two.reply()), show(HELD.as_bytes()));
    assert!(proxy.wait().success());
}

#[test]
fn locks_are_hidden_and_not_lost_to_a_flush() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), SETTINGS);
        let (mut one, mut direct) = (proxy.dial(), server.dial());
        let token = take(&mut one, "k");
        let lock = "v1:nearside:lease-of:{v1:k}";
        says(&mut direct, &format!("GET {lock}"), &format!("$32\r\n{token}\r\n"));
        let none = "*2\r\n$1\r\n0\r\n*0\r\n";
        for (line, reply) in [
            ("KEYS *", "*0\r\n"),
            ("SCAN 0 COUNT 100", none),
            ("SCAN 0 MATCH near* COUNT 100", none),
            ("RANDOMKEY", NIL),
            ("GET nearside:lease-of:{v1:k}", NIL),
        ] {
            says(&mut one, line, reply);
        }
        // What is flushed is not computed of what was before.
        says(&mut one, "FLUSHDB", STORED);
        says(&mut one, &format!("PROXY LEASE SET k {token} old"), NIL);
        says(&mut one, "GET k", NIL);
    }
}

#[test]
fn what_cannot_be_is_told() {
    let server = Server::start(Kind::Redis);
    let rules = "rules = [{ match = \"lent:*\", fill_lease = \"5s\" }]";
    let rules = ["keys.version = \"v1\"", rules];
    let proxy = Proxy::start(&server.url(), &rules);
    let mut conn = proxy.dial();
    let off = "-ERR this key has no fill leases (cache.fill_lease, rules.fill_lease)\r\n";
    let number = "-ERR value is not an integer or out of range\r\n";
    let syntax = "-ERR syntax error\r\n";
    for (line, reply) in [
        ("PROXY LEASE GET other 0", off),
        ("PROXY LEASE SET other token value", off),
        ("PROXY LEASE DROP other token", off),
        ("PROXY LEASE GET lent:1 soon", number),
        ("PROXY LEASE GET lent:1 60001", number),
        ("PROXY LEASE GET lent:1 0 TTL 0", number),
        ("PROXY LEASE GET lent:1 0 TTL", syntax),
        ("PROXY LEASE TAKE lent:1 0", syntax),
        ("PROXY LEASE SET lent:1 token value NX 5", syntax),
        (
            "PROXY LEASE SET lent:1 token value PX 0",
            "-ERR invalid expire time in 'proxy|lease' command\r\n",
        ),
        ("PROXY LEASE SET lent:1 token value", NIL),
        ("LPUSH lent:list a", ":1\r\n"),
        (
            "PROXY LEASE GET lent:list 0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        ),
        ("MULTI", STORED),
    ] {
        says(&mut conn, line, reply);
    }
    let refused = show(&conn.words("PROXY LEASE GET lent:1 0"));
    assert!(refused.contains("not allowed inside a transaction"), "{refused}");
    assert!(show(&conn.words("EXEC")).starts_with("-EXECABORT"));
    take(&mut conn, "lent:1");
    // RESP3 has a nil of its own; databases have leases of their own.
    conn.words("HELLO 3");
    says(&mut conn, "PROXY LEASE GET lent:1 0", "*3\r\n_\r\n_\r\n$4\r\nheld\r\n");
    conn.words("SELECT 1");
    let reply = show(&conn.words("PROXY LEASE GET lent:1 0"));
    assert!(reply.contains("granted"), "{reply}");
    assert_eq!(proxy.count("nearside_fill_leases_total{result=\"held\"}"), 1);
}

/// Where the user may not write beside keys nobody gets a lease.
#[test]
fn what_upstream_refuses_is_told() {
    let server = Server::start(Kind::Redis);
    server.dial().words("ACL SETUSER small on >secret ~v1:k* ~v1:* &* +@all -pttl");
    let url = server.url().replace("redis://", "redis://small:secret@");
    let proxy = Proxy::unready(&url, &[SETTINGS, &["cache.ttl_probe = \"never\""]].concat());
    let reply = show(&proxy.dial().words("PROXY LEASE GET k 0"));
    assert!(reply.starts_with("-NOPERM"), "{reply}");
}

/// README's example.
#[test]
fn an_application_in_python_computes_once() {
    let server = Server::start(Kind::Redis);
    let proxies = [(); 2].map(|()| Proxy::start(&server.url(), SETTINGS));
    let text = std::fs::read_to_string(script("fill_lease.py")).unwrap();
    let (_, example) = text.split_once("# README: begin\n").unwrap();
    let (example, _) = example.split_once("# README: end\n").unwrap();
    assert!(std::fs::read_to_string("README.md").unwrap().contains(example), "README has another");
    let python = installed("python/bin/python");
    let ports = proxies.each_ref().map(|proxy| proxy.port.to_string());
    run(program(python).arg(script("fill_lease.py")).args(ports));
}
