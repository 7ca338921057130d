//! Scripts and functions through nearside: run, refused under a version, given again to a server
//! that has lost them, and held back by the server's own rules.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};
use nearside::scripts::Sha;

const GET: &str = "return redis.call('GET', KEYS[1])";
const BUILDS: &str = "return redis.call('SET', KEYS[1] .. ':x', ARGV[1])";
const INCR: &str = "return redis.call('INCR', KEYS[1])";
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) return \
                       redis.call('SET', keys[1], args[1]) end)\n\
                       redis.register_function{function_name='look', callback=function(keys) \
                       return redis.call('GET', keys[1]) end, flags={'no-writes'}}";

fn sha(text: &str) -> String {
    Sha::of(text.as_bytes()).to_string()
}

#[track_caller]
fn expect(conn: &mut Conn, args: &[&str], reply: &str) {
    let found = conn.ask(args);
    assert_eq!(show(&found), show(reply.as_bytes()), "{args:?}");
}

/// The key as the server has it.
fn key(version: &str, key: &str) -> String {
    if version.is_empty() { key.to_owned() } else { format!("{version}:{key}") }
}

#[test]
fn scripts_run_with_their_keys() {
    for kind in KINDS {
        for version in ["", "v1"] {
            let server = Server::start(kind);
            let proxy = Proxy::start(&server.url(), &[&format!("keys.version = \"{version}\"")]);
            let mut direct = server.dial();
            for hello in ["2", "3"] {
                direct.words("FLUSHALL");
                direct.words("SCRIPT FLUSH");
                let mut ours = proxy.dial();
                ours.words(&format!("HELLO {hello}"));
                ours.words("SCRIPT FLUSH");
                let nil = if hello == "2" { "$-1\r\n" } else { "_\r\n" };
                expect(&mut ours, &["EVAL", GET, "1", "a"], nil);
                expect(&mut ours, &["EVALSHA", &sha(GET), "1", "a"], nil);
                ours.words("SET a 1");
                expect(&mut ours, &["EVALSHA", &sha(GET).to_uppercase(), "1", "a"], "$1\r\n1\r\n");
                expect(&mut ours, &["EVAL_RO", GET, "1", "a"], "$1\r\n1\r\n");
                expect(&mut ours, &["EVALSHA_RO", &sha(GET), "1", "a"], "$1\r\n1\r\n");
                expect(&mut direct, &["GET", &key(version, "a")], "$1\r\n1\r\n");
                let loaded = format!("$40\r\n{}\r\n", sha(INCR));
                expect(&mut ours, &["SCRIPT", "LOAD", INCR], &loaded);
                expect(&mut ours, &["EVALSHA", &sha(INCR), "1", "a"], ":2\r\n");
                expect(
                    &mut ours,
                    &["SCRIPT", "EXISTS", &sha(INCR), &sha("x")],
                    "*2\r\n:1\r\n:0\r\n",
                );
                expect(&mut ours, &["EVAL", "return 7", "0"], ":7\r\n");
                expect(
                    &mut ours,
                    &["EVAL", "return #KEYS .. ARGV[1]", "2", "a", "b", "c"],
                    "$2\r\n2c\r\n",
                );
                let bad = ours.ask(&["EVAL", GET, "x", "a"]);
                assert_eq!(show(&bad), show(&direct.ask(&["EVAL", GET, "x", "a"])));
                let unknown = ours.ask(&["EVALSHA", &sha("return 'never sent'"), "0"]);
                assert!(unknown.starts_with(b"-NOSCRIPT"), "{}", show(&unknown));
                assert!(ours.ask(&["SCRIPT", "HELP"]).starts_with(b"*"));
                assert!(
                    ours.ask(&["SCRIPT", "DEBUG", "YES"]).starts_with(b"-ERR nearside refuses")
                );
                ours.words("SCRIPT FLUSH");
                let flushed = ours.ask(&["EVALSHA", &sha(INCR), "1", "a"]);
                assert!(flushed.starts_with(b"-NOSCRIPT"), "{}", show(&flushed));
            }
        }
    }
}

/// What a script has written is read by whoever reads behind it, hit or not.
#[test]
fn declared_keys_are_fresh_behind_a_script() {
    for kind in KINDS {
        for version in ["", "v1"] {
            let server = Server::start(kind);
            let version = format!("keys.version = \"{version}\"");
            let proxy = Proxy::start(&server.url(), &[&version, "cache.admission = \"always\""]);
            let (mut one, mut two) = (proxy.dial(), proxy.dial());
            for number in 1..50 {
                eventually("a hit", || {
                    let before = two.hits();
                    two.words("GET a");
                    (two.hits() > before).then_some(())
                });
                expect(&mut one, &["EVAL", INCR, "1", "a"], &format!(":{number}\r\n"));
                let value = number.to_string();
                let value = format!("${}\r\n{value}\r\n", value.len());
                expect(&mut two, &["GET", "a"], &value);
                // In one packet: the read comes behind the script.
                one.send(&request(&["EVALSHA", &sha(GET), "1", "a"]));
                one.send(&request(&["EVAL", GET, "1", "a"]));
                one.send(&request(&["GET", "a"]));
                one.reply();
                assert_eq!(show(&one.reply()), show(value.as_bytes()));
                assert_eq!(show(&one.reply()), show(value.as_bytes()));
            }
        }
    }
}

#[test]
fn a_server_that_has_lost_its_scripts_is_given_them_again() {
    for kind in KINDS {
        for version in ["", "v1"] {
            let mut server = Server::start(kind);
            let proxy = Proxy::start(&server.url(), &[&format!("keys.version = \"{version}\"")]);
            let mut ours = proxy.dial();
            expect(&mut ours, &["EVAL", INCR, "1", "a"], ":1\r\n");
            server.dial().words("SCRIPT FLUSH");
            expect(&mut ours, &["EVALSHA", &sha(INCR), "1", "a"], ":2\r\n");
            let exists = server.dial().ask(&["SCRIPT", "EXISTS", &sha(INCR)]);
            assert_eq!(exists, b"*1\r\n:1\r\n", "it is there again");
            expect(&mut ours, &["EVALSHA", &sha(INCR), "1", "a"], ":3\r\n");
            // Another client, another database, another protocol: another link.
            server.dial().words("SCRIPT FLUSH");
            let mut other = proxy.dial();
            other.words("HELLO 3");
            other.words("SELECT 1");
            expect(&mut other, &["EVALSHA", &sha(INCR), "1", "a"], ":1\r\n");
            // With more of the same client behind it nothing is mended: that has run already.
            server.dial().words("SCRIPT FLUSH");
            let both = [request(&["EVALSHA", &sha(INCR), "1", "a"]), request(&["SET", "a", "10"])];
            ours.send(&both.concat());
            let first = ours.reply();
            assert!(first.starts_with(b"-NOSCRIPT"), "{}", show(&first));
            assert_eq!(ours.reply(), b"+OK\r\n");
            expect(&mut ours, &["GET", "a"], "$2\r\n10\r\n");
            // But the next one takes the text along, in any company.
            let both = [
                request(&["EVALSHA", &sha(INCR), "1", "a"]),
                request(&["GET", "a"]),
                request(&["EVALSHA", &sha(INCR), "1", "a"]),
            ];
            ours.send(&both.concat());
            for reply in [":11\r\n", "$2\r\n11\r\n", ":12\r\n"] {
                assert_eq!(show(&ours.reply()), show(reply.as_bytes()));
            }
            // A server without data: mended in any company.
            server.kill();
            server.restart();
            proxy.until_ready();
            let mut ours = eventually("nearside is connected again", || {
                let mut conn = proxy.dial();
                conn.try_send(&request(&["SET", "b", "1"])).ok()?;
                conn.try_reply().map(|_| conn)
            });
            for _ in 0..3 {
                ours.send(&request(&["EVALSHA", &sha(INCR), "1", "a"]));
            }
            for number in 1..4 {
                assert_eq!(show(&ours.reply()), show(format!(":{number}\r\n").as_bytes()));
            }
        }
    }
}

#[test]
fn under_a_version_a_script_that_builds_names_is_refused() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let mut ours = proxy.dial();
        // By its text, by its name, and loaded first.
        ours.ask(&["SCRIPT", "LOAD", BUILDS]);
        for args in [["EVAL", BUILDS, "1", "a", "1"], ["EVALSHA", &sha(BUILDS), "1", "a", "1"]] {
            let answer = String::from_utf8(ours.ask(&args)).unwrap();
            assert!(answer.starts_with("-ERR nearside refuses script "), "{answer}");
            for words in [&*sha(BUILDS), "line 1", "builds a name", "scripts.allow", "keys.version"]
            {
                assert!(answer.contains(words), "{words}: {answer}");
            }
        }
        assert_eq!(server.dial().words("DBSIZE"), b":0\r\n", "nothing was executed");
        // A transaction with it fails as a whole, one with another script does not.
        for (script, end) in [(BUILDS, "-EXECABORT"), (INCR, "*1\r\n:1\r\n")] {
            ours.words("MULTI");
            ours.ask(&["EVAL", script, "1", "a", "1"]);
            let end_found = ours.words("EXEC");
            assert!(end_found.starts_with(end.as_bytes()), "{}", show(&end_found));
        }
        expect(&mut ours, &["GET", "a"], "$1\r\n1\r\n");
        // Without a version it runs, and so it does where it is allowed.
        for settings in [
            vec!["keys.version = \"\"".to_owned()],
            vec![
                "keys.version = \"v1\"".to_owned(),
                format!("scripts.allow = [\"{}\"]", sha(BUILDS)),
            ],
            vec!["keys.version = \"v1\"".to_owned(), "scripts.policy = \"allow\"".to_owned()],
        ] {
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let proxy = Proxy::start(&server.url(), &settings);
            let mut ours = proxy.dial();
            expect(&mut ours, &["EVAL", BUILDS, "1", "c", "1"], "+OK\r\n");
            expect(&mut ours, &["EVALSHA", &sha(BUILDS), "1", "c", "1"], "+OK\r\n");
            expect(&mut ours, &["GET", "c:x"], "$1\r\n1\r\n");
        }
    }
}

/// What Lua or the server takes otherwise than it looks: straight at the server each reaches a key
/// that it is not given.
const TRICKS: &[&str] = &[
    "-- a\rredis.call('set', 'other', 1)",
    "local a = 0xe-redis.call('append', 'other', ''):len()",
    "redis.call('incr', tostring(KEYS[9]))",
    "local function f() end redis.call('incr', 'other', f())",
    "local function f(...) redis.call('incr', arg[1]) end f('other')",
    "local arg = KEYS local function f(...) redis.call('incr', arg[1]) end f('other')",
    "redis.call('incr', __redis__err__handler({err = 'other'}).err)",
    "redis.call('incr', [[\n\rother]])",
    "redis.call(ARGV[1], 'other')",
    "local c = redis.call c('incr', 'other')",
    "for _ = 1, 2 do local k = KEYS[1] k = 'other' redis.call('incr', k) end",
    "local k = KEYS k[1] = 'other' redis.call('incr', KEYS[1])",
    "('x'):gsub('.', function() redis.call('incr', 'other') end)",
    "pcall(redis.call, 'incr', 'other')",
    "local ok = pcall(function() return undeclared end) redis.call('incr', 'other')",
];

#[test]
fn a_trick_is_refused_before_it_runs() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let (mut direct, mut ours) = (server.dial(), proxy.dial());
        for trick in TRICKS {
            // Valkey has another name for its helper.
            let trick = match kind {
                Kind::Redis | Kind::Redis8 => (*trick).to_owned(),
                Kind::Valkey => trick.replace("__redis__", "__server__"),
            };
            direct.words("FLUSHALL");
            direct.ask(&["EVAL", &trick, "1", "a", "incr"]);
            direct.words("UNLINK a");
            assert_eq!(direct.words("DBSIZE"), b":1\r\n", "{kind:?}: no trick: {trick}");
            direct.words("FLUSHALL");
            for words in [["EVAL", &trick, "1", "a", "incr"], ["EVAL", &trick, "0", "a", "incr"]] {
                let answer = String::from_utf8(ours.ask(&words)).unwrap();
                assert!(answer.starts_with("-ERR nearside refuses script"), "{trick}: {answer}");
            }
            assert_eq!(direct.words("DBSIZE"), b":0\r\n", "{trick}");
        }
    }
}

/// What a server itself refuses, nearside leaves to it: its words are what clients know.
#[test]
fn what_no_server_executes_is_the_servers_to_refuse() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        let (mut direct, mut ours) = (server.dial(), proxy.dial());
        for script in [
            "return redis.call()",
            "return redis.call('incr')",
            "return redis.call('set', 'other')",
            "return redis.call('subscribe', 'other')",
            "return undeclared",
            "return print('a')",
            "return loadfile('a')",
            "undeclared = 1",
        ] {
            let ask = ["EVAL", script, "1", "a"];
            let theirs = direct.ask(&ask);
            assert_eq!(theirs.first(), Some(&b'-'), "{script}");
            assert_eq!(show(&ours.ask(&ask)), show(&theirs), "{script}");
        }
        assert_eq!(direct.words("DBSIZE"), b":0\r\n");
    }
}

#[test]
fn functions_are_called_where_they_may_be() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        for settings in [
            &["keys.version = \"\""][..],
            &["keys.version = \"v1\"", "scripts.allow = [\"function:put\"]"],
            &["keys.version = \"v1\""],
        ] {
            let proxy = Proxy::start(&server.url(), settings);
            for hello in ["2", "3"] {
                direct.words("FLUSHALL");
                let mut ours = proxy.dial();
                ours.words(&format!("HELLO {hello}"));
                // In one packet: the call comes behind the library.
                let both = [
                    request(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]),
                    request(&["FCALL_RO", "look", "1", "a"]),
                ];
                ours.send(&both.concat());
                assert_eq!(ours.reply(), b"$3\r\nlib\r\n");
                let nil = if hello == "2" { "$-1\r\n" } else { "_\r\n" };
                assert_eq!(show(&ours.reply()), show(nil.as_bytes()));
                expect(&mut ours, &["FCALL", "put", "1", "a", "1"], "+OK\r\n");
                expect(&mut ours, &["GET", "a"], "$1\r\n1\r\n");
                expect(&mut ours, &["FCALL_RO", "look", "1", "a"], "$1\r\n1\r\n");
                for question in ["FUNCTION LIST", "FUNCTION STATS", "FUNCTION HELP"] {
                    let theirs = {
                        direct.words(&format!("HELLO {hello}"));
                        direct.words(question)
                    };
                    assert_eq!(show(&ours.words(question)), show(&theirs), "{question}");
                }
                expect(&mut ours, &["FUNCTION", "DELETE", "lib"], "+OK\r\n");
                expect(&mut ours, &["FUNCTION", "FLUSH"], "+OK\r\n");
                assert!(ours.words("FUNCTION DUMP").starts_with(b"$"));
            }
        }
    }
}

/// As [`LIBRARY`], but for what `put` does: it joins a name.
const LIBRARY_BUILDS: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args)\n \
                              return redis.call('SET', keys[1] .. args[1], 1) end)";

#[track_caller]
fn expect_refused(conn: &mut Conn, words: &str) {
    let answer = String::from_utf8(conn.ask(&["FCALL", "put", "1", "a", "b"])).unwrap();
    assert!(answer.starts_with("-ERR nearside refuses function 'put'"), "{answer}");
    assert!(answer.contains(words) && answer.contains("\"function:put\""), "{answer}");
}

/// Whoever changes a library, by whatever way: what it is at the server counts.
#[test]
fn under_a_version_a_function_is_what_the_server_has() {
    const BUILDS: &str = "library 'lib', line 3: it builds a name from a key";
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let proxy = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
        for hello in ["2", "3"] {
            direct.words("FUNCTION FLUSH");
            let mut ours = proxy.dial();
            ours.words(&format!("HELLO {hello}"));
            let unknown = direct.words("FCALL put 1 a b");
            assert!(unknown.starts_with(b"-ERR Function not found"), "{}", show(&unknown));
            assert_eq!(show(&ours.words("FCALL put 1 a b")), show(&unknown));
            // Loaded past nearside, before and after it was called.
            direct.ask(&["FUNCTION", "LOAD", LIBRARY]);
            let fresh = Proxy::start(&server.url(), &["keys.version = \"v1\""]);
            expect(&mut fresh.dial(), &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
            expect(&mut ours, &["FCALL", "PUT", "1", "a", "b"], "+OK\r\n");
            expect(&mut ours, &["FCALL_RO", "look", "1", "a"], "$1\r\nb\r\n");
            expect(&mut direct, &["GET", "v1:a"], "$1\r\nb\r\n");
            // Replaced past nearside, by a text that it has not seen, and by one that it has.
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY_BUILDS]);
            expect_refused(&mut ours, BUILDS);
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
            expect(&mut ours, &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
            // By a dump, past it and through it.
            let dump = direct.words("FUNCTION DUMP");
            let dump = nearside::wire::reply::bulk(&dump).unwrap().to_vec();
            let restore = [&b"FUNCTION"[..], b"RESTORE", &dump, b"FLUSH"];
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY_BUILDS]);
            expect_refused(&mut ours, BUILDS);
            direct.send(&request(&restore));
            assert_eq!(direct.reply(), b"+OK\r\n");
            expect(&mut ours, &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
            expect(&mut ours, &["FUNCTION", "DELETE", "lib"], "+OK\r\n");
            assert_eq!(show(&ours.words("FCALL put 1 a b")), show(&unknown));
            ours.send(&request(&restore));
            assert_eq!(ours.reply(), b"+OK\r\n");
            expect(&mut ours, &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
            // In a library of another name, beside one that stays.
            direct.words("FUNCTION FLUSH");
            let moved = LIBRARY.replace("name=lib", "name=other");
            let beside = LIBRARY_BUILDS.replace("'put'", "'joined'");
            direct.ask(&["FUNCTION", "LOAD", &beside]);
            direct.ask(&["FUNCTION", "LOAD", &moved]);
            expect(&mut ours, &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
            // Through nearside, in one packet.
            let all = [
                request(&["FUNCTION", "FLUSH"]),
                request(&["FUNCTION", "LOAD", LIBRARY_BUILDS]),
                request(&["FCALL", "put", "1", "a", "b"]),
                request(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]),
                request(&["FCALL", "put", "1", "a", "c"]),
                request(&["GET", "a"]),
            ];
            ours.send(&all.concat());
            let replies: Vec<_> = all.iter().map(|_| ours.reply()).collect();
            assert!(replies[2].starts_with(b"-ERR nearside refuses"), "{}", show(&replies[2]));
            assert_eq!(show(&replies[4..].concat()), show(b"+OK\r\n$1\r\nc\r\n"));
            assert_eq!(direct.words("DBSIZE"), b":1\r\n", "nothing else was executed");
        }
    }
}

/// On a link that others share, too, each has the answer to its own call.
#[test]
fn a_function_is_read_on_any_link() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        direct.ask(&["FUNCTION", "LOAD", LIBRARY]);
        let limits = ["keys.version = \"v1\"", "upstream.dedicated_max = 1", "server.workers = 1"];
        let proxy = Proxy::start(&server.url(), &limits);
        let (mut holder, mut one, mut two) = (proxy.dial(), proxy.dial(), proxy.dial());
        holder.words("SUBSCRIBE news");
        for number in 0..50 {
            for (conn, key) in [(&mut one, "one"), (&mut two, "two")] {
                let value = format!("{key}{number}");
                conn.send(&request(&["FCALL", "put", "1", key, &value]));
                conn.send(&request(&["FCALL_RO", "look", "1", key]));
                conn.send(&request(&["FCALL", "gone", "1", key]));
                conn.send(&request(&["GET", key]));
            }
            for (conn, key) in [(&mut one, "one"), (&mut two, "two")] {
                let value = format!("{key}{number}");
                let value = format!("${}\r\n{value}\r\n", value.len());
                assert_eq!(conn.reply(), b"+OK\r\n");
                assert_eq!(show(&conn.reply()), show(value.as_bytes()));
                assert!(conn.reply().starts_with(b"-ERR Function not found"));
                assert_eq!(show(&conn.reply()), show(value.as_bytes()));
            }
        }
    }
}

/// Within MULTI the server answers nothing before EXEC, so EXEC waits until they were read.
#[test]
fn functions_in_a_transaction_are_read_before_exec() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let always = ["keys.version = \"v1\"", "cache.admission = \"always\""];
        let proxy = Proxy::start(&server.url(), &always);
        for hello in ["2", "3"] {
            direct.words("FLUSHALL");
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
            let (mut ours, mut other) = (proxy.dial(), proxy.dial());
            ours.words(&format!("HELLO {hello}"));
            let all = ["MULTI", "SET a 0", "FCALL put 1 a b", "FCALL gone 0", "EXEC", "GET a"];
            let all = all.map(|line| request(&line.split(' ').collect::<Vec<_>>()));
            other.words("GET a");
            ours.send(&all.concat());
            assert_eq!(ours.reply(), b"+OK\r\n");
            for _ in 0..3 {
                assert_eq!(ours.reply(), b"+QUEUED\r\n");
            }
            let executed = ours.reply();
            let begins = executed.starts_with(b"*3\r\n+OK\r\n+OK\r\n-ERR Function not found");
            assert!(begins, "{}", show(&executed));
            assert_eq!(ours.reply(), b"$1\r\nb\r\n");
            expect(&mut other, &["GET", "a"], "$1\r\nb\r\n");
            // Whatever it was when it was queued.
            ours.words("WATCH a");
            ours.words("MULTI");
            ours.words("SET a 1");
            assert_eq!(ours.words("FCALL put 1 a c"), b"+QUEUED\r\n");
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY_BUILDS]);
            let answer = String::from_utf8(ours.words("EXEC")).unwrap();
            assert!(answer.starts_with("-EXECABORT Transaction discarded"), "{answer}");
            assert!(answer.contains("'put', library 'lib', line 3: it builds a name"), "{answer}");
            expect(&mut ours, &["GET", "a"], "$1\r\nb\r\n");
            // It has ended, also at the server.
            assert_eq!(ours.words("EXEC"), b"-ERR EXEC without MULTI\r\n");
            ours.words("MULTI");
            ours.words("FCALL put 1 a c");
            assert_eq!(ours.words("DISCARD"), b"+OK\r\n");
            direct.ask(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
            ours.words("MULTI");
            ours.words("FCALL put 1 a c");
            assert!(ours.words("EXEC now").starts_with(b"-"));
            ours.words("MULTI");
            ours.words("FCALL put 1 a d");
            assert_eq!(show(&ours.words("EXEC")), show(b"*1\r\n+OK\r\n"));
            // A watched key that was changed is the server's to see.
            ours.words("WATCH a");
            ours.words("MULTI");
            ours.words("FCALL put 1 a e");
            other.words("SET a f");
            let nil = if hello == "2" { "*-1\r\n" } else { "_\r\n" };
            assert_eq!(show(&ours.words("EXEC")), show(nil.as_bytes()));
            expect(&mut ours, &["GET", "a"], "$1\r\nf\r\n");
            assert_eq!(direct.words("DBSIZE"), b":1\r\n", "nothing else was executed");
        }
    }
}

#[test]
fn a_function_that_cannot_be_read_is_not_called() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        direct.ask(&["FUNCTION", "LOAD", LIBRARY]);
        // A user who may call it, but not ask for it.
        let user = "ACL SETUSER blind on >secret ~* &* +@all -function|list";
        assert_eq!(direct.words(user), b"+OK\r\n");
        let url = format!("redis://blind:secret@127.0.0.1:{}", server.port);
        let proxy = Proxy::start(&url, &["keys.version = \"v1\""]);
        let mut ours = proxy.dial();
        let answer = ours.words("FCALL put 1 a b");
        assert!(answer.starts_with(b"-NOPERM"), "{}", show(&answer));
        ours.words("MULTI");
        ours.words("SET c 1");
        ours.words("FCALL put 1 a b");
        let answer = String::from_utf8(ours.words("EXEC")).unwrap();
        assert!(answer.starts_with("-EXECABORT") && answer.contains(": NOPERM"), "{answer}");
        assert_eq!(direct.words("DBSIZE"), b":0\r\n", "nothing was executed");
        let allow = ["keys.version = \"v1\"", "scripts.allow = [\"function:put\"]"];
        let proxy = Proxy::start(&url, &allow);
        let mut ours = proxy.dial();
        expect(&mut ours, &["FCALL", "put", "1", "a", "b"], "+OK\r\n");
        ours.words("MULTI");
        assert_eq!(ours.words("FCALL put 1 a b"), b"+QUEUED\r\n");
        assert_eq!(show(&ours.words("EXEC")), show(b"*1\r\n+OK\r\n"));
    }
}

/// The second line: a user of the server who may touch this version's keys only.
#[test]
fn a_guarded_server_refuses_what_an_allowed_script_reaches_for() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        let guard = "ACL SETUSER guard on >secret ~v1:* &* +@all -@dangerous +info +keys +role \
                     +client|tracking +client|trackinginfo";
        assert_eq!(direct.words(guard), b"+OK\r\n");
        direct.words("SET v2:b theirs");
        let script = "return redis.call('GET', 'v2:b')";
        let url = format!("redis://guard:secret@127.0.0.1:{}", server.port);
        let allow = format!("scripts.allow = [\"{}\"]", sha(script));
        let proxy = Proxy::start(&url, &["keys.version = \"v1\"", &allow]);
        let mut ours = proxy.dial();
        let answer = String::from_utf8(ours.ask(&["EVAL", script, "0"])).unwrap();
        // 7.0 has words of its own.
        let is_theirs = answer.contains("ermission") || answer.contains("can't access at least");
        assert!(answer.starts_with('-') && is_theirs, "{answer}");
        expect(&mut ours, &["EVAL", INCR, "1", "a"], ":1\r\n");
        expect(&mut ours, &["GET", "a"], "$1\r\n1\r\n");
        assert_eq!(direct.words("GET v1:a"), b"$1\r\n1\r\n");
        // It may ask for libraries.
        direct.ask(&["FUNCTION", "LOAD", LIBRARY]);
        expect(&mut ours, &["FCALL", "put", "1", "a", "2"], "+OK\r\n");
        assert_eq!(direct.words("GET v1:a"), b"$1\r\n2\r\n");
    }
}

/// SCRIPT KILL reaches a server that a script keeps busy, past the connection this script is on.
#[test]
fn a_script_that_does_not_end_is_killed() {
    for kind in KINDS {
        let server = Server::with(kind, &["--busy-reply-threshold", "20"]);
        let proxy = Proxy::start(&server.url(), &["server.workers = 1"]);
        let (mut one, mut two) = (proxy.dial(), proxy.dial());
        one.send(&request(&["EVAL", "while true do end", "0"]));
        eventually("it is killed", || (two.words("SCRIPT KILL") == b"+OK\r\n").then_some(()));
        let answer = String::from_utf8(one.reply()).unwrap();
        assert!(answer.starts_with('-') && answer.contains("killed"), "{answer}");
        assert_eq!(one.words("SET a 1"), b"+OK\r\n");
    }
}
