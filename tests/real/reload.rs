//! What changes while nearside runs: the key version, and the configuration. No request sees two
//! of either, none fails for it, and no connection is lost.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually, request, show};
use crate::jobs::nearside;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const VERSIONED: &[&str] = &["keys.version = \"v1\"", "cache.admission = \"always\""];

/// What is said of key versions before any switch.
const IN_FORCE: &str = "{\"current\":\"v1\",\"switching_to\":null,\"rules\":[],\"exclude\":[]}";

fn switch(proxy: &Proxy, body: &str) -> (u16, String) {
    proxy.admin("PUT", "/api/v1/key-versions/current", body)
}

fn to(proxy: &Proxy, version: &str) {
    let (status, answer) = switch(proxy, &format!("{{\"version\":\"{version}\"}}"));
    assert_eq!(status, 200, "{answer}");
}

/// Exit code and words of a command of nearside's own.
fn cli(proxy: &Proxy, args: &[&str]) -> (i32, String) {
    let output = nearside(proxy, args);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Changes a line of the file that nearside was started with.
fn rewrite(proxy: &Proxy, from: &str, to: &str) {
    let path = proxy.folder.path().join("proxy.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn an_operator_switches_the_version_and_back() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        for line in ["SET v1:k one", "SET v2:k two", "SET v1:only 1"] {
            direct.words(line);
        }
        let proxy = Proxy::start(&server.url(), VERSIONED);
        let mut client = proxy.dial();
        assert_eq!(client.until_hit("GET k"), b"$3\r\none\r\n");
        let (status, answer) = proxy.admin("GET", "/api/v1/key-versions", "");
        assert_eq!((status, answer.trim()), (200, IN_FORCE));

        let (status, answer) = switch(&proxy, "{\"version\":\"v2\",\"expect\":\"v1\"}");
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains("\"version\":\"v2\",\"was\":\"v1\""), "{answer}");
        assert_eq!(client.words("GET k"), b"$3\r\ntwo\r\n");
        assert_eq!(client.words("GET only"), b"$-1\r\n");
        assert_eq!(client.words("KEYS *"), b"*1\r\n$1\r\nk\r\n");
        client.words("SET new 1");
        assert_eq!(direct.words("EXISTS v2:new v1:new"), b":1\r\n");
        // Changes are heard of under the new name.
        assert_eq!(client.until_hit("GET k"), b"$3\r\ntwo\r\n");
        direct.words("SET v2:k three");
        eventually("the change is seen", || {
            (client.words("GET k") == b"$5\r\nthree\r\n").then_some(())
        });
        assert!(show(&client.words("INFO proxy")).contains("proxy_key_version:v2"));
        assert_eq!(proxy.count("nearside_key_version_info{version=\"v2\"}"), 1);
        assert_eq!(proxy.count("nearside_key_version_info{version=\"v1\"}"), 0);
        assert_eq!(proxy.count("nearside_key_version_switches_total{source=\"admin\"}"), 1);
        assert_eq!(proxy.count("nearside_cache_flushes_total{reason=\"version\"}"), 1);

        to(&proxy, "v1");
        assert_eq!(client.words("MGET k only"), b"*2\r\n$3\r\none\r\n$1\r\n1\r\n");
    }
}

#[test]
fn the_command_line_switches_and_reloads() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), VERSIONED);
    assert_eq!(cli(&proxy, &["version", "show"]), (0, "v1\n".to_owned()));
    let (code, said) = cli(&proxy, &["version", "set", "v2", "--expect", "v1", "--yes"]);
    assert_eq!((code, said.starts_with("v1 -> v2;")), (0, true), "{said}");
    assert_eq!(cli(&proxy, &["version", "set", "v3", "--expect", "v1", "--yes"]).0, 1);
    assert_eq!(cli(&proxy, &["version", "show"]), (0, "v2\n".to_owned()));
    rewrite(&proxy, "keys.version", "cache.ttl = \"9m\"\nkeys.version");
    let told = "changed: cache.ttl\nwaits for a restart: nothing\n".to_owned();
    assert_eq!(cli(&proxy, &["reload"]), (0, told));
    rewrite(&proxy, "cache.ttl = \"9m\"", "cache.ttl = \"soon\"");
    assert_eq!(cli(&proxy, &["reload"]).0, 78, "sysexits' EX_CONFIG");
}

#[test]
fn what_is_no_switch_changes_nothing() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), VERSIONED);
    for (body, expected) in [
        ("{\"version\":\"v2\",\"expect\":\"v7\"}", 409),
        ("{\"version\":\"\"}", 409),
        ("{\"version\":\"v:2\"}", 422),
        ("{\"version\":\"v*\"}", 422),
        ("{\"version\":7}", 422),
        ("{\"verison\":\"v2\"}", 422),
        ("{}", 422),
        ("[]", 400),
        ("{\"version\":\"v2\",\"dry_run\":true}", 200),
    ] {
        let (status, answer) = switch(&proxy, body);
        assert_eq!(status, expected, "{body}: {answer}");
    }
    let (_, answer) = proxy.admin("GET", "/api/v1/key-versions", "");
    assert_eq!(answer.trim(), IN_FORCE);
    let unversioned = Proxy::start(&server.url(), &[]);
    assert_eq!(switch(&unversioned, "{\"version\":\"v1\"}").0, 409);
}

/// Who waits goes on waiting under the version that it asked under; so does a transaction.
#[test]
fn what_holds_keys_ends_under_the_version_it_began_under() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("SET v1:k one");
    direct.words("SET v2:k two");
    let proxy = Proxy::start(&server.url(), VERSIONED);
    let (mut waits, mut transaction, mut watches) = (proxy.dial(), proxy.dial(), proxy.dial());
    waits.send(&request(&["BLPOP", "list", "0"]));
    eventually("BLPOP at the server", || {
        let info = String::from_utf8(direct.words("INFO clients")).unwrap();
        info.contains("blocked_clients:1").then_some(())
    });
    for line in ["MULTI", "GET k", "SET t 1"] {
        transaction.words(line);
    }
    watches.words("WATCH k");
    let dry = switch(&proxy, "{\"version\":\"v2\",\"dry_run\":true}").1;
    assert!(dry.contains("\"blocked_clients\":1"), "{dry}");
    to(&proxy, "v2");
    transaction.words("GET k");
    assert_eq!(transaction.words("EXEC"), b"*3\r\n$3\r\none\r\n+OK\r\n$3\r\none\r\n");
    assert_eq!(direct.words("EXISTS v1:t"), b":1\r\n");
    assert_eq!(transaction.words("GET k"), b"$3\r\ntwo\r\n", "and then the new one");
    assert_eq!(watches.words("GET k"), b"$3\r\none\r\n");
    direct.words("SET v1:k uno");
    watches.words("MULTI");
    watches.words("SET k mine");
    assert_eq!(watches.words("EXEC"), b"*-1\r\n");
    assert_eq!(watches.words("GET k"), b"$3\r\ntwo\r\n");
    direct.words("RPUSH v1:list x");
    assert_eq!(waits.reply(), b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    assert_eq!(waits.words("GET k"), b"$3\r\ntwo\r\n");
    // A client that tracks would not hear of the keys that it reads from now on: it begins anew.
    let mut tracks = proxy.dial();
    tracks.words("HELLO 3");
    tracks.words("CLIENT TRACKING ON");
    tracks.words("GET k");
    to(&proxy, "v3");
    assert!(tracks.try_reply().is_none(), "its connection is closed");
}

/// What clients do while versions are switched under them.
struct Play {
    is_over: AtomicBool,
    /// Odd while a switch is under way, else twice the switches so far.
    phase: AtomicU64,
}

impl Play {
    /// True if all that was asked from here to there was asked under version `v{0}`.
    fn version(&self) -> Option<u64> {
        let phase = self.phase.load(Ordering::SeqCst);
        phase.is_multiple_of(2).then_some(phase / 2 % 2 + 1)
    }

    fn of_reads(&self, mut conn: Conn) -> u64 {
        let one = [request(&["GET", "k"]), request(&["MGET", "k", "l"])].concat();
        let batch = one.repeat(16);
        let mut counted = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let before = self.phase.load(Ordering::SeqCst);
            let version = self.version();
            conn.send(&batch);
            let replies: Vec<Vec<u8>> = (0..32).map(|_| conn.reply()).collect();
            if self.phase.load(Ordering::SeqCst) == before
                && let Some(version) = version
            {
                counted += 1;
                let get = format!("$1\r\n{version}\r\n").into_bytes();
                let mget = [b"*2\r\n".as_slice(), &get, &get].concat();
                assert!(replies.chunks(2).all(|pair| pair == [get.clone(), mget.clone()]));
            }
            // Whatever is under way: one request, one version.
            let is_one = |mget: &[u8]| mget[4..].chunks(7).all(|value| value == &mget[4..11]);
            assert!(replies.iter().skip(1).step_by(2).all(|mget| is_one(mget)));
        }
        counted
    }

    fn of_transactions(&self, mut conn: Conn) -> u64 {
        let mut counted = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            for line in ["MULTI", "GET k", "GET l"] {
                conn.words(line);
            }
            let reply = conn.words("EXEC");
            assert_eq!(reply[4..11], reply[11..18], "{}", show(&reply));
            counted += 1;
        }
        counted
    }
}

#[test]
fn no_request_sees_two_versions_and_none_fails() {
    const SWITCHES: u64 = 60;
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    for line in ["MSET v1:k 1 v1:l 1", "MSET v2:k 2 v2:l 2"] {
        direct.words(line);
    }
    let proxy = Proxy::start(&server.url(), VERSIONED);
    let play = Play { is_over: AtomicBool::new(false), phase: AtomicU64::new(0) };
    thread::scope(|scope| {
        let reads: Vec<_> = (0..4).map(|_| scope.spawn(|| play.of_reads(proxy.dial()))).collect();
        let transactions = scope.spawn(|| play.of_transactions(proxy.dial()));
        for switch in 1..=SWITCHES {
            play.phase.fetch_add(1, Ordering::SeqCst);
            to(&proxy, &format!("v{}", switch % 2 + 1));
            play.phase.fetch_add(1, Ordering::SeqCst);
            // Until it is served from the cache again.
            proxy.dial().until_hit("GET k");
        }
        play.is_over.store(true, Ordering::SeqCst);
        for client in reads {
            assert!(client.join().unwrap() > SWITCHES / 2, "hardly anything was compared");
        }
        assert!(transactions.join().unwrap() > 0);
    });
    assert_eq!(proxy.count("nearside_client_disconnections_total{reason=\"upstream\"}"), 0);
    assert_eq!(proxy.count("nearside_upstream_errors_total"), 0);
}

#[test]
fn the_configuration_is_reloaded_whole_or_not_at_all() {
    let server = Server::start(Kind::Redis);
    let settings = [VERSIONED, &["cache.ttl = \"1h\"", "server.workers = 2"]].concat();
    let mut proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    let reload = |proxy: &Proxy| proxy.admin("POST", "/api/v1/config/reload", "");
    assert_eq!(reload(&proxy), (200, "{\"changed\":[],\"pending_restart\":[]}\n".to_owned()));

    rewrite(&proxy, "cache.ttl = \"1h\"", "cache.ttl = \"7m\"");
    rewrite(&proxy, "server.workers = 2", "server.workers = 3");
    let answer = "{\"changed\":[\"cache.ttl\"],\"pending_restart\":[\"server.workers\"]}\n";
    assert_eq!(reload(&proxy), (200, answer.to_owned()));
    let shown = show(&client.words("CONFIG GET proxy.cache.ttl"));
    assert!(shown.contains("7m"), "{shown}");
    let shown = show(&client.words("CONFIG GET proxy.server.workers"));
    assert!(shown.contains("$1\\r\\n2"), "still {shown}");

    rewrite(&proxy, "cache.ttl = \"7m\"", "cache.tll = \"8m\"\nserver.max_clients = 0");
    let (status, answer) = reload(&proxy);
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("did you mean `ttl`"), "{answer}");
    assert_eq!(proxy.count("nearside_config_reloads_total{result=\"error\"}"), 1);
    let shown = show(&client.words("CONFIG GET proxy.cache.ttl"));
    assert!(shown.contains("7m"), "the old one stays: {shown}");

    // By signal: rules, a client limit, the mode and the version, at once.
    rewrite(&proxy, "cache.tll = \"8m\"\nserver.max_clients = 0", "server.max_clients = 7");
    rewrite(&proxy, "keys.version = \"v1\"", "keys.version = \"v9\"\nmode = \"observe\"");
    client.words("SET k 1");
    proxy.hangup();
    eventually("another version", || {
        (proxy.count("nearside_key_version_info{version=\"v9\"}") == 1).then_some(())
    });
    assert_eq!(client.words("GET k"), b"$-1\r\n");
    let shown = show(&client.words("CONFIG GET maxclients"));
    assert!(shown.contains("$1\\r\\n7"), "{shown}");
    eventually("observing", || {
        client.words("GET k");
        (proxy.metric("nearside_cache_lookups_total{result=\"would_hit\"}") > 0.0).then_some(())
    });
    assert_eq!(proxy.count("nearside_key_version_switches_total{source=\"config\"}"), 1);
    proxy.assert_alive();
}

#[test]
fn a_limit_that_changes_costs_no_hit() {
    let server = Server::start(Kind::Redis);
    let settings = [VERSIONED, &["server.max_clients = 50"]].concat();
    let proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    client.words("SET k 1");
    client.until_hit("GET k");
    let reads = || proxy.count("nearside_cache_lookups_total{result=\"hit\"}");
    let before = reads();
    rewrite(&proxy, "server.max_clients = 50", "server.max_clients = 60");
    let (status, answer) = proxy.admin("POST", "/api/v1/config/reload", "");
    assert_eq!((status, answer.contains("server.max_clients")), (200, true), "{answer}");
    assert_eq!(client.words("GET k"), b"$1\r\n1\r\n");
    assert_eq!(reads(), before + 1, "the tracking link was left alone");
    // And it still hears.
    server.dial().words("SET v1:k 2");
    eventually("the change is seen", || (client.words("GET k") == b"$1\r\n2\r\n").then_some(()));
}

#[test]
fn rules_that_change_are_in_force_for_the_next_request() {
    let server = Server::start(Kind::Redis);
    let rules = "rules = [{ match = \"a:*\", level = \"bypass\" }]";
    let proxy = Proxy::start(&server.url(), &[&[rules], VERSIONED].concat());
    let mut client = proxy.dial();
    client.words("SET a:1 1");
    client.words("SET b:1 1");
    client.until_hit("GET b:1");
    rewrite(&proxy, "match = \"a:*\"", "match = \"b:*\"");
    let (status, answer) = proxy.admin("POST", "/api/v1/config/reload", "");
    assert_eq!((status, answer.contains("\"rules\"")), (200, true), "{answer}");
    let hits = client.hits();
    for _ in 0..3 {
        client.words("GET b:1");
    }
    assert_eq!(client.hits(), hits, "what was stored is not served any more");
    client.until_hit("GET a:1");
    assert_eq!(proxy.count("nearside_cache_flushes_total{reason=\"config\"}"), 1);
    // Less memory: what is over it leaves.
    let value = "x".repeat(1000);
    for key in 0..2000 {
        client.ask(&["SET", &format!("a:{key}"), &value]);
        client.ask(&["GET", &format!("a:{key}")]);
    }
    rewrite(&proxy, "keys.version", "cache.max_memory = \"1mb\"\nkeys.version");
    proxy.admin("POST", "/api/v1/config/reload", "");
    assert!(proxy.count("nearside_cache_memory_used_bytes") <= 1 << 20);
    assert_eq!(proxy.count("nearside_cache_memory_max_bytes"), 1 << 20);
}

#[test]
fn a_watched_file_is_reloaded_by_itself() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start_by(&[], &server.url(), VERSIONED, &["--watch-config"]);
    rewrite(&proxy, "keys.version = \"v1\"", "keys.version = \"v2\"");
    eventually("another version", || {
        (proxy.count("nearside_key_version_info{version=\"v2\"}") == 1).then_some(())
    });
}

/// What the admin port says to a request with this token, for this host: the status.
fn asked(proxy: &Proxy, host: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(proxy.admin_address()).unwrap();
    let ask = format!(
        "GET /api/v1/mode HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

/// Reloads by a signal, as who has no token does; returns when it has come to this.
fn hang_up(proxy: &Proxy, result: &str) {
    let series = format!("nearside_config_reloads_total{{result=\"{result}\"}}");
    let before = proxy.count(&series);
    proxy.hangup();
    eventually("it is reloaded", || (proxy.count(&series) > before).then_some(()));
}

#[test]
fn tokens_and_hosts_of_the_admin_port_are_exchanged_whole() {
    let server = Server::start(Kind::Redis);
    let token = |name: &str| server.folder.path().join(name);
    let [old, new, viewer] =
        [b'a', b'b', b'c'].map(|letter| String::from_utf8(vec![letter; 40]).unwrap());
    fs::write(token("operator"), &old).unwrap();
    fs::write(token("viewer"), &viewer).unwrap();
    let file = format!("admin.token_file = \"{}\"", token("operator").display());
    let proxy = Proxy::start(&server.url(), &[&file, "admin.allowed_hosts = [\"pod-7\"]"]);
    assert_eq!(
        [("pod-7", &old), ("pod-7", &new)].map(|(h, t)| asked(&proxy, h, t)),
        ["200", "401"]
    );
    // The file is the same, and what is in it another.
    fs::write(token("operator"), &new).unwrap();
    rewrite(&proxy, "pod-7", "pod-8");
    let more = format!("admin.readonly_token_file = \"{}\"", token("viewer").display());
    rewrite(&proxy, &file, &format!("{file}\n{more}"));
    hang_up(&proxy, "ok");
    for (host, token, status) in [
        ("pod-8", &new, "200"),
        ("pod-8", &viewer, "200"),
        ("pod-8", &old, "401"),
        ("pod-7", &new, "421"),
        ("localhost", &new, "200"),
    ] {
        assert_eq!(asked(&proxy, host, token), status, "{host} {token}");
    }
    // One that cannot be: the hosts stay, too.
    fs::write(token("operator"), "short").unwrap();
    rewrite(&proxy, "pod-8", "pod-9");
    hang_up(&proxy, "error");
    assert_eq!(asked(&proxy, "pod-8", &new), "200");
    assert_eq!(asked(&proxy, "pod-9", &new), "421");
    // Where the port is waits for a restart, and with it who needs a token.
    fs::write(token("operator"), &old).unwrap();
    rewrite(&proxy, &proxy.admin_address(), "localhost:1");
    hang_up(&proxy, "ok");
    assert_eq!([&old, &new].map(|token| asked(&proxy, "pod-9", token)), ["401", "200"]);
    let waits = "keys\":\"[\\\"admin.listen\\\", \\\"admin.token_file\\\"]";
    assert!(proxy.log().contains(waits), "{}", proxy.log());
}

#[test]
fn the_log_and_hot_keys_are_as_the_reload_says() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["log.level = \"info\"", "hotkeys.capacity = 8"]);
    let mut client = proxy.dial();
    let read = |client: &mut Conn| {
        client.send(&request(&["GET", "k"]).repeat(1_000));
        (0..1_000).for_each(|_| drop(client.reply()));
    };
    let hot = || proxy.admin("GET", "/api/v1/hotkeys", "").1;
    let reload = || proxy.admin("POST", "/api/v1/config/reload", "");
    client.words("PROXY LOG DEBUG one");
    eventually("hot keys", || {
        read(&mut client);
        hot().contains("\"key_hash\"").then_some(())
    });
    rewrite(&proxy, "log.level = \"info\"", "log.level = \"warn,nearside=debug\"");
    rewrite(&proxy, "hotkeys.capacity = 8", "hotkeys.show_keys = \"plain\"");
    let changed = "{\"changed\":[\"hotkeys\",\"log.level\"],\"pending_restart\":[]}\n";
    assert_eq!(reload(), (200, changed.to_owned()));
    client.words("PROXY LOG DEBUG two");
    assert!(proxy.log().contains("\"two\"") && !proxy.log().contains("\"one\""), "{}", proxy.log());
    // A borrowed level is not ended by a reload, and goes back to what that said.
    proxy.admin("PUT", "/api/v1/log/level", "{\"level\":\"error\",\"for\":\"1h\"}");
    rewrite(&proxy, "warn,nearside=debug", "info");
    assert_eq!(reload().0, 200);
    let (_, level) = proxy.admin("GET", "/api/v1/log/level", "");
    assert!(level.starts_with("{\"level\":\"error\",\"configured\":\"info\""), "{level}");
    eventually("they are named", || {
        read(&mut client);
        hot().contains("\"key\":\"k\"").then_some(())
    });
    rewrite(&proxy, "hotkeys.show_keys = \"plain\"", "hotkeys.enabled = false");
    reload();
    read(&mut client);
    assert_eq!(proxy.count("nearside_hotkeys_tracked"), 0);
    rewrite(&proxy, "log.level = \"info\"", "log.level = \"loud\"");
    let (status, answer) = reload();
    assert!(status == 422 && answer.contains("log.level: `loud` is none of"), "{answer}");
}

#[test]
fn warm_up_jobs_come_and_go() {
    const JOBS: &str = "warming.jobs = [{ name = \"slow\", pattern = \"*\" }]";
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    let script = "for i = 1, 300 do redis.call('SET', 'v1:k' .. i, i) end";
    direct.ask(&["EVAL", script, "0"]);
    let proxy = Proxy::start(&server.url(), &[VERSIONED, &[JOBS]].concat());
    let start = "{\"job\":\"slow\",\"rate_per_second\":1}";
    assert_eq!(proxy.admin("POST", "/api/v1/warm/runs", start).0, 202);
    let often = "warming.jobs = [{ name = \"often\", keys = [\"k1\"], every = \"1s\" }]";
    rewrite(&proxy, JOBS, &format!("{often}\nwarming.rate = \"off\"\nwarming.on_start = true"));
    let (_, answer) = proxy.admin("POST", "/api/v1/config/reload", "");
    let changed = "{\"changed\":[\"warming.rate\",\"warming.jobs, warming.popular\"],\
                   \"pending_restart\":[\"warming.on_start\"]}\n";
    assert_eq!(answer, changed);
    eventually("a run of a job that is gone ends", || {
        let (_, job) = proxy.admin("GET", "/api/v1/jobs/1", "");
        job.contains("\"state\":\"cancelled\"").then_some(())
    });
    assert_eq!(proxy.admin("POST", "/api/v1/warm/runs", start).0, 422);
    let runs = "nearside_warm_runs_total{job=\"often\",result=\"ok\"}";
    eventually("the new one is run again and again", || (proxy.count(runs) > 1).then_some(()));
    rewrite(&proxy, often, "");
    proxy.admin("POST", "/api/v1/config/reload", "");
    assert_eq!(proxy.admin("GET", "/api/v1/warm/jobs", "").1, "{\"jobs\":[]}\n");
    let series = "nearside_warm_runs_total{job=\"often\"";
    assert_eq!(proxy.count(series), 0, "it has no series any more");
}
