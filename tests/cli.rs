//! The command line as a user meets it: the real binary, its words and its exit codes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::fs;
use std::net::TcpListener;

use support::{Client, Proxy, Redis, eventually, free_port, nearside};
use tempfile::TempDir;

/// Exit codes: wrong usage (clap's), something is not reachable, a wrong token, the configuration is
/// wrong.
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 69;
const NO_PERMISSION: i32 = 77;
const BAD_CONFIG: i32 = 78;

/// Exit code, stdout, stderr.
fn run(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let output = nearside(folder, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The binary ends with `code`, and each of `words` stands in what it says.
#[track_caller]
fn refused(folder: &TempDir, args: &[&str], code: i32, words: &[&str]) {
    let (ended, out, err) = run(folder, args);
    let said = out + &err;
    assert_eq!(ended, code, "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no {word:?} in:\n{said}");
    }
}

fn written(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("proxy.toml"), text).unwrap();
    folder
}

#[test]
fn help_and_version() {
    let folder = TempDir::new().unwrap();
    let (code, out, err) = run(&folder, &["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for flag in [
        "run",
        "validate",
        "commands",
        "explain",
        "--config",
        "--listen",
        "--upstream",
        "--admin-listen",
        "--set",
    ] {
        assert!(out.contains(flag), "no {flag} in:\n{out}");
    }
    let version = concat!("nearside ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
    assert_eq!(run(&folder, &["--version"]), (0, version.clone(), String::new()));
    assert_eq!(run(&folder, &["-V"]), (0, version.clone(), String::new()));
    let (code, out, _) = run(&folder, &["--version", "--verbose"]);
    let names: Vec<&str> = out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((code, out.starts_with(&version)), (0, true), "{out}");
    let told = ["nearside", "commit", "rustc", "profile", "target", "allocator", "features"];
    assert_eq!(names, told, "{out}");
}

#[test]
fn wrong_usage() {
    let folder = TempDir::new().unwrap();
    refused(&folder, &["--lisen", "127.0.0.1:1"], USAGE, &["'--lisen'", "'--listen'"]);
    refused(&folder, &["valdate"], USAGE, &["'valdate'", "'validate'"]);
    let set = ["validate", "--set", "cache.ttl"];
    refused(&folder, &set, USAGE, &["'cache.ttl' for '--set <KEY=VALUE>'", "write KEY=VALUE"]);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = ["validate", "--config", "none.toml"];
    refused(&folder, &missing, BAD_CONFIG, &["none.toml: cannot be read: No such file"]);
    // Not "permission denied", which root would not meet.
    fs::write(folder.path().join("latin.toml"), b"# caf\xe9\n").unwrap();
    let unreadable = ["validate", "--config", "latin.toml"];
    refused(&folder, &unreadable, BAD_CONFIG, &["latin.toml: cannot be read", "UTF-8"]);
    let folder = written("[cache\n");
    refused(&folder, &[], BAD_CONFIG, &["proxy.toml:1:7: "]);
}

#[test]
fn a_fault_of_the_file_is_shown_with_its_line() {
    let folder = written("mode = \"cache\"\n\n[cache]\nmax_memroy = \"1mb\"\n");
    let words = ["proxy.toml:4:1: ", "`max_memroy`", "did you mean `max_memory`?"];
    refused(&folder, &[], BAD_CONFIG, &words);
    refused(&folder, &["validate"], BAD_CONFIG, &words);
    let folder = written("[cahce]\n");
    refused(&folder, &[], BAD_CONFIG, &["proxy.toml:1:2: ", "`cahce`", "did you mean `cache`?"]);
    let folder = written("[cache]\nttl = 5\n");
    refused(&folder, &[], BAD_CONFIG, &["proxy.toml:2:7: ", "ttl = 5", "write \"5s\""]);
    let folder = written("[server]\nworkers = \"two\"\n");
    refused(
        &folder,
        &[],
        BAD_CONFIG,
        &["proxy.toml:2:11: ", "workers", "string \"two\"", "a whole number"],
    );
}

#[test]
fn a_fault_of_a_flag_is_shown_with_its_name() {
    let folder = TempDir::new().unwrap();
    let refused = |flag: &[&str], words: &[&str]| refused(&folder, flag, BAD_CONFIG, words);
    refused(&["--set", "cache.tll=5s"], &["--set cache.tll: ", "did you mean `ttl`?"]);
    refused(&["--set", "cache.ttl=5"], &["--set cache.ttl: ", "write \"5s\""]);
    refused(&["--mode", "off"], &["--mode: ", "`cache`, `observe`, `bypass`"]);
    refused(&["--max-memory", "64m"], &["--max-memory: ", "64m"]);
    refused(&["--log-level", "loud"], &["--log-level: log.level: `loud`", "error, warn, info"]);
    refused(
        &["--set", "metrics.path=metrics"],
        &["--set metrics.path: metrics.path: `metrics` is not"],
    );
    refused(
        &["--listen", "127.0.0.1:x"],
        &["--listen: server.listen: `127.0.0.1:x`: `x` is not a port"],
    );
    refused(&["--upstream", "http://db"], &["--upstream: upstream.url: ", "begins with redis://"]);
    refused(&["--upstream", "redis://:6379"], &["upstream.url: no host in the URL"]);
}

#[test]
fn several_faults_are_told_at_once() {
    let folder = written("[server]\nworkers = 0\nmax_clients = 0\n\n[[rules]]\nttl = \"1s\"\n");
    let words = [
        "proxy.toml:2:1: server.workers: 0",
        "proxy.toml:3:1: server.max_clients: 0",
        "rules[0]: match is missing",
    ];
    refused(&folder, &["validate"], BAD_CONFIG, &words);
}

#[test]
fn validate_knows_good_from_bad() {
    let mut redis = Redis::start(&[]);
    let folder = written("[upstream]\non_down = \"error\"\n");
    let (listen, admin) =
        (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let url = redis.url();
    let good = ["validate", "--listen", &listen, "--admin-listen", &admin, "--upstream", &url];
    assert_eq!(run(&folder, &good), (0, "proxy.toml: ok\n".to_owned(), String::new()));

    let embedded = [&good[..6], &["embedded:"]].concat();
    refused(&folder, &embedded, 0, &["proxy.toml: ok"]);
    redis.kill();
    let words = ["error: upstream: cannot connect to", &url, "connection refused"];
    refused(&folder, &good, UNREACHABLE, &words);
    let alone = ["validate", "--no-environment", "--upstream", &url];
    refused(&folder, &alone, 0, &["proxy.toml: ok"]);

    let shadowed = ["--set", "rules=[{match=\"*\"},{match=\"a\"}]"];
    let warned = [&alone[..], &shadowed].concat();
    refused(&folder, &warned, 0, &["warning: rules[0] matches every key"]);
    let json = |args: &[&str]| -> (i32, serde_json::Value) {
        let (code, out, _) = run(&folder, &[args, &["--format", "json"]].concat());
        (code, serde_json::from_str(&out).unwrap())
    };
    let (code, found) = json(&warned);
    assert_eq!((code, &found["valid"], &found["file"]), (0, &true.into(), &"proxy.toml".into()));
    assert!(found["warnings"][0].as_str().unwrap().contains("rules[0] matches every key"));
    let (code, found) = json(&good);
    assert_eq!((code, &found["valid"]), (UNREACHABLE, &false.into()));
    assert!(found["errors"][0]["message"].as_str().unwrap().contains("cannot connect to"));
    let (code, found) = json(&["validate", "--set", "cache.ttl=5"]);
    assert_eq!((code, &found["errors"][0]["source"]), (BAD_CONFIG, &"--set cache.ttl".into()));
    let denied = [&warned[..], &["--deny-warnings"]].concat();
    refused(&folder, &denied, BAD_CONFIG, &["warning: rules[0] matches every key"]);
}

#[test]
fn ports_in_use_are_named() {
    let redis = Redis::start(&[]);
    let folder = TempDir::new().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let (free, url) = (format!("127.0.0.1:{}", free_port()), redis.url());
    let (clients, admin) = (format!("cannot listen on {taken} (server.listen)"), "admin.listen: ");
    for (command, code) in [("validate", UNREACHABLE), ("run", 1)] {
        let args = [command, "--upstream", &url, "--listen", &taken, "--admin-listen", &free];
        refused(&folder, &args, code, &[&clients, "in use"]);
        let args = [command, "--upstream", &url, "--listen", &free, "--admin-listen", &taken];
        refused(&folder, &args, code, &[&format!("{admin}{taken} is in use")]);
    }
}

#[test]
fn existing_keys_that_nobody_would_see_are_told() {
    let redis = Redis::start(&[]);
    let folder = written("[keys]\nversion = \"v1\"\n");
    let (listen, admin) = (format!("127.0.0.1:{}", free_port()), "off");
    let url = redis.url();
    let args = ["validate", "--listen", &listen, "--admin-listen", admin, "--upstream", &url];
    let told = "warning: upstream has 2 keys, none under `v1:`";
    assert!(!run(&folder, &args).1.contains("warning"), "an empty server hides nothing");
    let mut direct = Client::dial(redis.port);
    assert_eq!(direct.ask("MSET a 1 b 2"), "+OK");
    refused(&folder, &args, 0, &[told, "keys.version = \"\" shows existing data"]);
    refused(&folder, &[&args[..], &["--deny-warnings"]].concat(), BAD_CONFIG, &[told]);
    let unversioned = [&args[..], &["--set", "keys.version="]].concat();
    assert!(!run(&folder, &unversioned).1.contains("warning"), "nothing is hidden");
    assert_eq!(direct.ask("SET v1:a 1"), "+OK");
    assert!(!run(&folder, &args).1.contains("warning"), "the version is in use");
}

#[test]
fn a_fault_in_a_secret_does_not_show_it() {
    for line in [
        "password = hunter2",
        "password = 123456",
        "password = [\"hunter2\"]",
        "url = \"redis://:hunter2@db",
    ] {
        let folder = written(&format!("[upstream]\n{line}\n"));
        let (code, out, err) = run(&folder, &["validate"]);
        assert_eq!(code, BAD_CONFIG);
        let shown =
            ["hunter2", "123456"].iter().any(|secret| (out.clone() + &err).contains(secret));
        assert!(!shown, "{err}");
        assert!(err.contains("proxy.toml:2:"), "{err}");
    }
}

#[test]
fn a_password_is_never_said() {
    let redis = Redis::start(&["--requirepass", "hunter2hunter2"]);
    let url = format!("redis://:hunter2hunter2@127.0.0.1:{}", redis.port);
    let proxy = Proxy::start(&url, &["log.level=trace", "instance=me"]);
    let mut client = Client::dial(proxy.port);
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("GET a"), "1");
    let (log, metrics) = (proxy.log(), proxy.metrics());
    assert!(log.contains(":***@127.0.0.1"), "the URL is shown, masked:\n{log}");
    for said in [log, metrics] {
        assert!(!said.contains("hunter2"), "{said}");
    }

    let folder = TempDir::new().unwrap();
    let nobody = format!("redis://:hunter2hunter2@127.0.0.1:{}", free_port());
    for args in [
        ["validate", "--upstream", &nobody],
        ["validate", "--upstream", "redis://:hunter2hunter2@h:99999"],
        ["validate", "--upstream", "redis://u:hunter2hunter2"],
        ["validate", "--set", "upstream.passwrod=hunter2hunter2"],
        ["validate", "--set", "upstream.passwrod=[\"hunter2hunter2\"]"],
    ] {
        let (code, out, err) = run(&folder, &args);
        assert_ne!(code, 0, "{args:?}");
        assert!(!(out + &err).contains("hunter2"), "{args:?}");
    }
}

/// The lines of `nearside commands`, without the sums.
fn table(folder: &TempDir, flags: &[&str]) -> Vec<String> {
    let (code, out, err) = run(folder, &[&["commands"], flags].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{flags:?}");
    let (rows, sums) = out.trim_end().rsplit_once("\n\n").unwrap();
    let rows: Vec<String> = rows.lines().map(str::to_owned).collect();
    assert!(sums.starts_with(&format!("{} commands: ", rows.len())), "{sums}");
    rows
}

/// The row of a command: its cells, without their padding.
fn row_of(rows: &[String], command: &str) -> Option<String> {
    let row = rows.iter().find(|row| row.split("  ").next() == Some(command))?;
    Some(
        row.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join(" | "),
    )
}

#[test]
fn the_table_of_commands_follows_the_configuration() {
    let folder = TempDir::new().unwrap();
    let rows = table(&folder, &[]);
    assert!(rows.len() > 550, "{}", rows.len());
    for (command, expected) in [
        ("GET", "GET | read | cached | 1"),
        ("SET", "SET | write | forwarded | 1"),
        ("MSET", "MSET | write of keys | forwarded | 1 to last, every 2"),
        (
            "MULTI",
            "MULTI | transaction | own link | none | a transaction belongs to its connection",
        ),
        ("BLPOP", "BLPOP | blocking | own link | 1 to last-1 | it may block its connection"),
        ("CLIENT ID", "CLIENT ID | connection | local | none"),
        ("PING", "PING | connection | forwarded | none"),
        ("EXISTS", "EXISTS | read | cached | 1 to last | of one key at a time"),
        (
            "CONFIG SET",
            "CONFIG SET | dangerous | forwarded | none | the answer tells of nearside as well",
        ),
        ("EVAL", "EVAL | script | own link | as many as 2 says"),
        ("FLUSHALL", "FLUSHALL | dangerous | forwarded | none"),
        (
            "SHUTDOWN",
            "SHUTDOWN | dangerous | refused | none | NOPERM nearside refuses 'shutdown': it would \
             put the server out of service for all clients (commands.allow = [\"SHUTDOWN\"] permits \
             it)",
        ),
        (
            "CLUSTER RESET",
            "CLUSTER RESET | internal | refused | none | ERR This instance has cluster support \
             disabled",
        ),
    ] {
        assert_eq!(row_of(&rows, command).as_deref(), Some(expected));
    }
    let refused = table(&folder, &["--unsupported"]);
    assert!(refused.iter().all(|row| row.contains("  refused  ")), "{refused:#?}");
    assert!(row_of(&refused, "SHUTDOWN").is_some() && row_of(&refused, "GET").is_none());
    let cached = table(&folder, &["--cacheable", "--set", "cache.commands=[\"GET\", \"HGET\"]"]);
    let names: Vec<&str> = cached.iter().map(|row| row.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["GET", "HGET"]);

    let strict = [
        "--set",
        "keys.version=v1",
        "--set",
        "commands.profile=hardened",
        "--set",
        "commands.allow=[\"debug\", \"swapdb\"]",
        "--set",
        "commands.deny=[\"get\"]",
    ];
    let rows = table(&folder, &strict);
    for (command, expected) in [
        ("FLUSHDB", "FLUSHDB | dangerous | in steps | none | this version's keys, page by page"),
        ("GET", "GET | read | refused | 1 | NOPERM nearside refuses 'get': commands.deny names it"),
        ("SWAPDB", "SWAPDB | dangerous | forwarded | none"),
        (
            "DEBUG",
            "DEBUG | dangerous | refused | none | ERR nearside refuses 'debug': it would reach keys \
             outside the key prefix (without keys.version it is forwarded)",
        ),
        (
            "FLUSHALL",
            "FLUSHALL | dangerous | refused | none | NOPERM nearside refuses 'flushall': \
             commands.profile is \"hardened\" (commands.allow = [\"FLUSHALL\"] permits it)",
        ),
    ] {
        assert_eq!(row_of(&rows, command).as_deref(), Some(expected));
    }
    refused_here(&folder);
}

/// Faults are those of every other subcommand, and machines read JSON.
fn refused_here(folder: &TempDir) {
    let unknown = ["commands", "--set", "commands.deny=[\"FLUSHAL\"]"];
    refused(folder, &unknown, BAD_CONFIG, &["`FLUSHAL`", "did you mean `FLUSHALL`?"]);
    refused(folder, &["commands", "--cacheable", "--unsupported"], USAGE, &["--unsupported"]);
    let (code, out, _) = run(folder, &["commands", "--json", "--unsupported"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = rows.as_array().unwrap();
    let debug = rows.iter().find(|row| row["command"] == "DEBUG").unwrap();
    assert_eq!((code, &debug["fate"]), (0, &"refused".into()));
    assert!(debug["note"].as_str().unwrap().starts_with("NOPERM nearside refuses 'debug'"));
    assert!(rows.iter().all(|row| row["fate"] == "refused"));
}

#[test]
fn errors_are_colored_where_that_is_wanted() {
    let folder = written("[cache\n");
    let errors = |when: &[&str]| {
        let own = run(&folder, &[when, &["validate"]].concat()).2;
        let claps = run(&folder, &[when, &["validate", "--no-such"]].concat()).2;
        [own, claps].map(|text| text.contains('\u{1b}'))
    };
    assert_eq!(errors(&["--color", "always"]), [true, true]);
    assert_eq!(errors(&["--color=never"]), [false, false]);
    assert_eq!(errors(&[]), [false, false], "this is no terminal");
    refused(&folder, &["--color", "blue", "validate"], USAGE, &["auto, always, never"]);
}

/// What `nearside explain` says, line by line.
#[track_caller]
fn explains(folder: &TempDir, request: &str, lines: &[&str]) {
    let args: Vec<&str> = ["explain"].into_iter().chain(request.split(' ')).collect();
    let (code, out, err) = run(folder, &args);
    let is_refused = lines.iter().any(|line| line.starts_with("happens  refused"));
    assert_eq!((code, err.as_str()), (i32::from(is_refused), ""), "{request}");
    assert_eq!(out.lines().collect::<Vec<_>>(), lines, "{request}");
}

#[test]
fn a_request_is_explained_as_it_would_be_served() {
    let folder = written(
        "[keys]\nversion = \"v1\"\n[commands]\ndeny = [\"KEYS\"]\n\
         [[rules]]\nmatch = \"session:*\"\nttl = \"5m\"\n\
         [[rules]]\nmatch = \"lock:*\"\nlevel = \"bypass\"\n\
         [[rules]]\nmatch = \"feed:*\"\nlevel = \"ttl\"\nadmission = \"always\"\n\
         stale_if_error = \"30s\"\ngrace = \"10s\"\nrefresh_ahead = 0.25\n",
    );
    let forwarded = "happens  forwarded to upstream, on a connection that clients share";
    explains(
        &folder,
        "GET session:42",
        &[
            "command  GET (read)",
            "happens  answered from the cache; a miss goes upstream, on a connection that clients \
             share",
            "key      session:42 -> v1:session:42",
            "cached   yes: rules[0] session:*, level \"coherent\": never more than 1s stale, kept for \
             at most 5m, once it was asked for twice",
            "sent     GET v1:session:42",
        ],
    );
    explains(
        &folder,
        "GET feed:1",
        &[
            "command  GET (read)",
            "happens  answered from the cache; a miss goes upstream, on a connection that clients \
             share",
            "key      feed:1 -> v1:feed:1",
            "cached   yes: rules[2] feed:*, level \"ttl\": kept for at most 1m, read anew by a hit \
             when about 25 % of its life are left, served up to 10s longer while it is read anew, \
             served up to 30s longer while upstream cannot be reached",
            "sent     GET v1:feed:1",
        ],
    );
    explains(
        &folder,
        "get lock:1",
        &[
            "command  GET (read)",
            forwarded,
            "key      lock:1 -> v1:lock:1",
            "cached   no: rules[1] lock:*, level \"bypass\"",
            "sent     get v1:lock:1",
        ],
    );
    let copied = "drops    what is cached of these keys, before the client has its answer";
    explains(
        &folder,
        "COPY a b DB 1",
        &[
            "command  COPY (write of keys)",
            forwarded,
            "key      a -> v1:a",
            "cached   no: it may change data",
            "key      b -> v1:b",
            "cached   no: it may change data",
            "sent     COPY v1:a v1:b DB 1",
            copied,
        ],
    );
    explains(
        &folder,
        "SCAN 0 COUNT 5",
        &["command  SCAN (read)", forwarded, "sent     SCAN 0 MATCH v1:* COUNT 5"],
    );
    explains(
        &folder,
        "KEYS *",
        &[
            "command  KEYS (read)",
            "happens  refused",
            "error    NOPERM nearside refuses 'keys': commands.deny names it",
        ],
    );
    explains(
        &folder,
        "XREAD BLOCK 0 STREAMS s 0",
        &[
            "command  XREAD (blocking)",
            "happens  forwarded to upstream, on a connection of this client's own: it may block its \
             connection",
            "key      s -> v1:s",
            "cached   no: not every change of what it shows is announced",
            "sent     XREAD BLOCK 0 STREAMS v1:s 0",
            copied,
        ],
    );
    explains(
        &folder,
        "GET",
        &[
            "command  GET (read)",
            "happens  refused",
            "error    ERR wrong number of arguments for 'get' command",
        ],
    );
    explains(
        &folder,
        "CONFIG FOO -1",
        &[
            "command  CONFIG",
            "happens  refused: nearside does not know it",
            "error    ERR unknown subcommand 'FOO'. Try CONFIG HELP.",
            "remedy   if upstream has it: commands.unknown = \"learn\"",
        ],
    );
    // Keyspace notifications are about keys; other channels are the application's.
    explains(
        &folder,
        "PUBSUB NUMSUB __keyspace@0__:a news",
        &[
            "command  PUBSUB NUMSUB (pub/sub)",
            forwarded,
            "sent     PUBSUB NUMSUB __keyspace@0__:v1:a news",
        ],
    );
    refused(&folder, &["explain"], USAGE, &["<REQUEST>"]);
    let json = |args: &[&str]| -> serde_json::Value {
        let (_, out, _) = run(&folder, &[&["explain", "--json"], args].concat());
        serde_json::from_str(&out).unwrap()
    };
    assert_eq!(json(&["FOO.BAR", "a"])["fate"], "refused");
    let learned = json(&["--set", "commands.unknown=learn", "FOO.BAR", "a"]);
    assert_eq!(learned["fate"], "unknown", "that is upstream's to say");
    let json = json(&["MGET", "session:1", "lock:1"]);
    assert_eq!(json["fate"], "cached");
    let keys = json["keys"].as_array().unwrap();
    assert_eq!((&keys[0]["upstream"], &keys[0]["cached"]), (&"v1:session:1".into(), &true.into()));
    assert_eq!((&keys[1]["rule"], &keys[1]["cached"]), (&"rules[1] lock:*".into(), &false.into()));
}

/// What redis-py's pipelines, queues and subscriptions ask for, with no server but this process.
#[test]
fn the_embedded_upstream_has_transactions_queues_and_messages() {
    let proxy = Proxy::start("embedded:", &[]);
    let dial = || Client::dial(proxy.port);
    let (mut writer, mut other) = (dial(), dial());
    let rest = |client: &mut Client, count: usize| -> Vec<String> {
        (0..count).map(|_| client.line()).collect()
    };

    assert_eq!(writer.ask("WATCH n"), "+OK");
    for (line, reply) in [("MULTI", "+OK"), ("INCR n", "+QUEUED"), ("GET n", "+QUEUED")] {
        assert_eq!(writer.ask(line), reply);
    }
    assert_eq!(other.ask("SET unwatched 1"), "+OK");
    assert_eq!(writer.ask("EXEC"), "*2");
    assert_eq!(rest(&mut writer, 3), [":1", "$1", "1"]);
    writer.ask("WATCH n");
    writer.ask("MULTI");
    assert_eq!(other.ask("INCR n"), ":2");
    assert_eq!(writer.ask("GET n"), "+QUEUED");
    assert_eq!(writer.ask("EXEC"), "*-1");
    assert_eq!(other.ask("GET n"), "2");

    let mut worker = dial();
    let waits = std::thread::spawn(move || {
        let mut reply = vec![worker.ask("BLPOP jobs 0")];
        reply.extend((0..4).map(|_| worker.line()));
        (worker.ask("PING"), reply)
    });
    eventually("a client waits", || proxy.metrics().contains("blocked_clients 1\n").then_some(()));
    assert_eq!(writer.ask("RPUSH jobs first second"), ":2");
    let (pong, reply) = waits.join().unwrap();
    assert_eq!(reply, ["*2", "$4", "jobs", "$5", "first"]);
    assert_eq!(pong, "+PONG");
    assert_eq!(writer.ask("LLEN jobs"), ":1");

    let mut subscriber = dial();
    assert_eq!(subscriber.ask("SUBSCRIBE news"), "*3");
    assert_eq!(rest(&mut subscriber, 5), ["$9", "subscribe", "$4", "news", ":1"]);
    assert_eq!(writer.ask("PUBLISH news hello"), ":1");
    let message = ["*3", "$7", "message", "$4", "news", "$5", "hello"];
    assert_eq!(rest(&mut subscriber, 7), message);
    assert_eq!(subscriber.ask("UNSUBSCRIBE news"), "*3");
    assert_eq!(rest(&mut subscriber, 5), ["$11", "unsubscribe", "$4", "news", ":0"]);
    assert_eq!(subscriber.ask("GET n"), "2");
}

/// Commands for a proxy that runs: what it is told, and the exit codes of a refusal.
#[test]
fn a_running_proxy_is_told_what_to_do() {
    let (folder, token) = (TempDir::new().unwrap(), "t".repeat(32));
    for (name, text) in [("token", token.as_str()), ("readonly", &"r".repeat(32)), ("short", "x")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let sets = [
        format!("admin.token_file={}", path("token")),
        format!("admin.readonly_token_file={}", path("readonly")),
    ];
    let proxy = Proxy::start("embedded:", &[&sets[0], &sets[1], "cache.admission=always"]);
    let url = proxy.admin_url();
    let say = |command: &str, token: &str| {
        let words = command.split(' ').map(str::to_owned);
        let reach = ["--admin", &url, "--token-file", &path(token)].map(str::to_owned);
        let args: Vec<String> = words.chain(reach).collect();
        run(&folder, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ok = |out: &str| (0, format!("{out}\n"), String::new());
    let mut client = Client::dial(proxy.port);
    for key in ["orders:1", "orders:2", "users:1"] {
        assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
    }
    // What tells of them comes in its own time, and would be behind what is read now.
    eventually("all writes were heard of", || {
        let told = "nearside_cache_invalidations_total{source=\"tracking\"} 3\n";
        proxy.metrics().contains(told).then_some(())
    });
    let mut warm = || {
        eventually("all is stored", || {
            for key in ["orders:1", "orders:2", "users:1"] {
                client.ask(&format!("GET {key}"));
            }
            proxy.metrics().contains("nearside_cache_entries 3\n").then_some(())
        });
    };
    warm();
    assert_eq!(
        say("invalidate --key orders:1 --key none", "token"),
        ok("removed 1 keys; the other proxies are told")
    );
    assert_eq!(say("invalidate --namespace orders --dry-run", "token"), ok("would remove 1 keys"));
    assert_eq!(say("invalidate --pattern o*:? --local-only", "token"), ok("removed 1 keys"));
    assert_eq!(say("clear --yes", "token"), ok("removed 1 keys"));
    warm();
    assert_eq!(say("invalidate --all --yes --local-only", "token"), ok("removed 3 keys"));
    let (code, out, _) = say("invalidate --namespace orders --json", "token");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["removed"]), (0, &0.into()));
    assert_eq!(say("mode", "readonly"), ok("cache"));
    assert_eq!(say("mode bypass", "token"), ok("bypass"));
    assert_eq!(say("mode", "token"), ok("bypass"));

    // Nobody is there to be asked.
    let (code, _, err) = say("clear", "token");
    assert_eq!((code, err.contains("--yes")), (1, true), "{err}");
    assert_eq!(say("invalidate", "token").0, USAGE);
    assert_eq!(say("invalidate --namespace a --pattern b", "token").0, USAGE);
    let (code, _, err) = say("invalidate --namespace a:b", "token");
    assert_eq!((code, err.contains("holds a `:`")), (1, true), "{err}");
    for (token, words) in [("readonly", "may only look"), ("short", "Bearer")] {
        let (code, _, err) = say("mode cache", token);
        assert_eq!((code, err.contains(words)), (NO_PERMISSION, true), "{err}");
    }
    // Neither a fault of the configuration nor a proxy of the environment is in the way.
    fs::write(folder.path().join("proxy.toml"), "[cache\n").unwrap();
    let mut command = nearside(&folder, &["mode", "--admin", &url, "--token-file", &path("token")]);
    let switched = command.env("http_proxy", "http://127.0.0.1:1").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&switched.stdout), "bypass\n");
    refused(&folder, &["mode"], BAD_CONFIG, &["proxy.toml:1:7: "]);
    let gone = format!("http://127.0.0.1:{}", free_port());
    refused(&folder, &["mode", "--admin", &gone], UNREACHABLE, &["no proxy at"]);
}

#[test]
fn an_open_admin_port_needs_a_token() {
    let folder = written("[admin]\nlisten = \"0.0.0.0:8380\"\n");
    refused(&folder, &["validate", "--no-environment"], BAD_CONFIG, &["2:", "admin.token_file"]);
    fs::write(folder.path().join("token"), "short\n").unwrap();
    let set = ["validate", "--no-environment", "--set", "admin.token_file=token"];
    refused(&folder, &set, BAD_CONFIG, &["at least 32 characters"]);
    fs::write(folder.path().join("token"), "t".repeat(32)).unwrap();
    let (code, out, _) = run(&folder, &set);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("everybody can read"), "{out}");
}

#[test]
fn a_running_proxy_is_looked_at() {
    let folder = TempDir::new().unwrap();
    let proxy = Proxy::start("embedded:", &["keys.version=v1", "cache.admission=always"]);
    let url = proxy.admin_url();
    let say = |command: &str| {
        let args: Vec<&str> = command.split(' ').chain(["--admin", &url]).collect();
        let (code, out, err) = run(&folder, &args);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        out
    };
    let has = |command: &str, words: &[&str]| {
        let out = say(command);
        for word in words {
            assert!(out.contains(word), "{command}: no {word:?} in:\n{out}");
        }
    };
    has("get a", &["v1:a is not cached; its rule is [cache]\n"]);
    let mut client = Client::dial(proxy.port);
    assert_eq!(client.ask("CLIENT SETNAME me"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");
    eventually("it is stored", || {
        client.ask("GET a");
        say("get a").contains("is cached").then_some(())
    });
    has("get a", &["v1:a is cached by [cache]\n", "command  db  bytes", "\nget      0   "]);
    has("clients", &["id  addr ", " me ", " get "]);
    has("upstreams", &["embedded:  up ", "tracking\n", " up\n"]);
    let lines = [
        concat!("nearside ", env!("CARGO_PKG_VERSION"), " as "),
        "\nmode      cache\n",
        "\nkeys      v1\n",
        "\nclients   1, ",
        " bytes of 256mb, 1 keys\n",
    ];
    has("status", &lines);
    has("status --json", &["{\"instance\":", "\"warnings\":[]}"]);
    has("drain", &["/readyz fails: new clients are sent elsewhere; 1 are still here\n"]);
    has("status", &["\nwarning   draining: yes"]);
    drop(client);
    has("drain --wait", &["/readyz fails: new clients are sent elsewhere; 0 are still here\n"]);
    has("resume", &["/readyz answers again; 0 clients are here\n"]);
    let gone = format!("http://127.0.0.1:{}", free_port());
    refused(&folder, &["status", "--admin", &gone], UNREACHABLE, &["no proxy at"]);
    refused(&folder, &["clients", "-n", "0", "--admin", &gone], USAGE, &["1..=1000"]);
}
