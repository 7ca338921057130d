//! `nearside bench`: the load is what was asked for, and both servers get it.

use crate::harness::{Kind, Proxy, Server, free_port};
use serde_json::Value;
use std::process::Command;

/// Exit code, stdout, stderr.
fn bench(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nearside")).arg("bench").args(words).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Calls of a command, as the server counts them.
fn calls(server: &Server, command: &str) -> u64 {
    let info = String::from_utf8(server.dial().words("INFO commandstats")).unwrap();
    let line = info.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[test]
fn a_server_gets_the_load_that_was_asked_for() {
    let server = Server::start(Kind::Redis);
    let load =
        "-n 2000 --clients 7 -P 3 --key-space 50 --keys uniform --get-ratio 0.5 --value-size 20";
    let url = server.url();
    let (code, out, err) = bench(&[&["--url", &url, "--json"][..], &words(load)].concat());
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["requests"], &report["ratios"]), (&2000.into(), &Value::Null));
    let row = &report["servers"][0];
    assert_eq!((&row["url"], &row["errors"]), (&url.into(), &0.into()));
    let figure = |name: &str| row[name].as_f64().unwrap();
    assert!(figure("requests_per_second") > 0.0, "{row}");
    assert!(figure("p50_us") <= figure("p99_us") && figure("p99_us") <= figure("p999_us"), "{row}");
    // What was asked for, a tenth of it before, and every key once.
    let (gets, sets) = (calls(&server, "get"), calls(&server, "set"));
    assert_eq!(gets + sets, 2000 + 200 + 50);
    assert!((990..1210).contains(&gets), "{gets} of them GET");
    let mut conn = server.dial();
    assert_eq!(conn.words("DBSIZE"), b":50\r\n");
    assert_eq!(conn.words("STRLEN nearside-bench:49"), b":20\r\n");
    assert_ne!(conn.words("TTL nearside-bench:0"), b":-1\r\n");
}

#[test]
fn nearside_and_its_upstream_are_compared() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["cache.ttl = \"1h\""]);
    let config = proxy.folder.path().join("proxy.toml");
    let config = config.to_str().unwrap();
    let few = "-n 3000 --clients 5 --key-space 20 --get-ratio 1";
    let (code, out, err) = bench(&[&["--config", config, "--compare"][..], &words(few)].concat());
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().map(|line| line.split("  ").next().unwrap()).collect();
    let nearside = format!("redis://127.0.0.1:{}", proxy.port);
    assert_eq!(lines, ["", &nearside, &server.url(), "first / second"], "{out}");
    // Half of the requests never reached the server, but for misses.
    assert!(proxy.count("nearside_cache_lookups_total{result=\"hit\"}") > 2500, "{out}");
    assert!(calls(&server, "get") >= 3300 && calls(&server, "get") < 4300);
}

#[test]
fn what_cannot_be_measured_is_told() {
    let server = Server::with(Kind::Redis, &["--requirepass", "secret-of-redis"]);
    let url = format!("redis://:wrong@127.0.0.1:{}", server.port);
    let (code, _, err) = bench(&["--url", &url]);
    assert!(code == 69 && err.contains("WRONGPASS") && !err.contains("wrong@"), "{err}");
    let gone = format!("redis://127.0.0.1:{}", free_port());
    let (code, _, err) = bench(&["--url", &gone]);
    assert!(code == 69 && err.contains(&gone), "{err}");
    for (words, what) in [
        ("--url nowhere", "--url: no URL of a server"),
        ("--url embedded:", "embedded upstream"),
        ("--keys zipf", "uniform, or zipf:1.0"),
        ("--get-ratio 2", "not 0 to 1"),
        ("--requests 0", "0 is not in 1.."),
    ] {
        let (code, _, err) = bench(&words.split(' ').collect::<Vec<_>>());
        assert!(code == 2 && err.contains(what), "{words}: {err}");
    }
    // Reads that fail are no work done.
    let server = Server::start(Kind::Redis);
    let mut conn = server.dial();
    conn.words("ACL SETUSER default -get");
    let (code, _, err) = bench(&["--url", &server.url(), "-n", "100", "--key-space", "5"]);
    assert!(code == 1 && err.contains("error replies; the first: -NOPERM"), "{err}");
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
