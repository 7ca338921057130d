//! Warm-up against real servers: what it loads is a hit at once, and never older than a read.

use crate::harness::{Conn, KINDS, Kind, Proxy, Server, eventually};
use crate::jobs::nearside;
use serde_json::Value;
use std::fs;

const V1: &[&str] = &["keys.version = \"v1\"", "warming.rate = \"off\""];

/// Ten strings, a list, one with a lifetime, and keys of another version.
fn server(kind: Kind) -> Server {
    let server = Server::start(kind);
    let mut direct = server.dial();
    for key in 0..10 {
        direct.words(&format!("SET v1:orders:{key} {key}"));
    }
    for line in ["RPUSH v1:orders:list a", "SET v1:orders:short 1 EX 1000", "SET orders:1 no"] {
        direct.words(line);
    }
    server
}

fn warm(proxy: &Proxy, body: &str) -> Value {
    let (status, answer) = proxy.admin("POST", "/api/v1/warm/runs", body);
    assert_eq!(status, 202, "{answer}");
    let begun: Value = serde_json::from_str(&answer).unwrap();
    eventually("the run has ended", || {
        let (_, answer) = proxy.admin("GET", &format!("/api/v1/jobs/{}", begun["id"]), "");
        let job: Value = serde_json::from_str(&answer).unwrap();
        (job["state"] != "running").then_some(job)
    })
}

fn counts(job: &Value) -> [u64; 3] {
    ["loaded", "missing", "skipped"].map(|name| job["counts"][name].as_u64().unwrap())
}

/// True if nearside answers by itself.
fn is_hit(client: &mut Conn, key: &str) -> bool {
    let before = client.hits();
    client.words(&format!("GET {key}"));
    client.hits() > before
}

#[test]
fn what_is_loaded_is_a_hit_at_the_first_read() {
    for kind in KINDS {
        let server = server(kind);
        let proxy = Proxy::start(&server.url(), V1);
        let mut client = proxy.dial();
        let loaded = warm(&proxy, "{\"keys\":[\"orders:1\",\"orders:list\",\"none\"]}");
        assert_eq!(counts(&loaded), [1, 1, 1], "{loaded}");
        assert_eq!(loaded["total"], 3);
        assert!(is_hit(&mut client, "orders:1"), "admission second_hit is overruled");
        assert_eq!(client.words("GET orders:1"), b"$1\r\n1\r\n");
        assert!(!is_hit(&mut client, "none"));

        let loaded = warm(&proxy, "{\"pattern\":\"orders:[0-9]\"}");
        assert_eq!(counts(&loaded), [9, 0, 1], "what is cached is skipped: {loaded}");
        let loaded = warm(&proxy, "{\"pattern\":\"orders:s*\"}");
        assert_eq!(counts(&loaded), [1, 0, 0], "{loaded}");
        for key in ["orders:0", "orders:9", "orders:short"] {
            assert!(is_hit(&mut client, key), "{key}");
        }

        // Whoever changes a key changes what was loaded.
        server.dial().words("SET v1:orders:1 new");
        eventually("the change is seen", || {
            (client.words("GET orders:1") == b"$3\r\nnew\r\n").then_some(())
        });
        client.words("SET orders:2 own");
        assert_eq!(client.words("GET orders:2"), b"$3\r\nown\r\n");
        let counted =
            |result: &str| proxy.count(&format!("nearside_warm_keys_total{{result=\"{result}\"}}"));
        assert_eq!(["loaded", "missing", "skipped"].map(counted), [11, 1, 2]);
        let runs = "nearside_warm_runs_total{job=\"request\",result=\"ok\"}";
        assert_eq!(proxy.count(runs), 3);
        assert_eq!(proxy.count("nearside_warm_runs_in_progress"), 0);
    }
}

/// Under another version the same keys are others.
#[test]
fn what_is_loaded_is_of_the_version_in_force() {
    let server = server(Kind::Redis);
    server.dial().words("SET v2:orders:1 two");
    let proxy = Proxy::start(&server.url(), V1);
    let mut client = proxy.dial();
    let keys = "{\"keys\":[\"orders:1\",\"orders:2\"]}";
    assert_eq!(counts(&warm(&proxy, keys)), [2, 0, 0]);
    let switch = "{\"version\":\"v2\"}";
    let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", switch);
    assert_eq!(status, 200, "{answer}");
    // It waits for the tracking link, which is told of other keys now.
    assert_eq!(counts(&warm(&proxy, keys)), [1, 1, 0]);
    assert!(is_hit(&mut client, "orders:1"));
    assert_eq!(client.words("GET orders:1"), b"$3\r\ntwo\r\n");
    assert_eq!(client.words("GET orders:2"), b"$-1\r\n");
}

/// While a run loads keys over and over, others write them: no client ever reads an older value
/// than one that it has written.
#[test]
fn a_fill_that_is_overtaken_is_refused() {
    let server = server(Kind::Redis);
    let proxy = Proxy::start(&server.url(), V1);
    let mut client = proxy.dial();
    let keys: Vec<String> = (0..10).map(|key| format!("\"orders:{key}\"")).collect();
    let body = format!("{{\"keys\":[{}]}}", keys.join(","));
    for round in 0..30 {
        let (status, _) = proxy.admin("POST", "/api/v1/warm/runs", &body);
        assert!(status == 202 || status == 409);
        for key in 0..10 {
            client.words(&format!("SET orders:{key} {round}"));
            let answer = client.words(&format!("GET orders:{key}"));
            let text = round.to_string();
            let wanted = format!("${}\r\n{text}\r\n", text.len());
            assert_eq!(answer, wanted.as_bytes(), "orders:{key}");
        }
    }
}

#[test]
fn rules_and_modes_hold_for_warm_up() {
    let server = server(Kind::Redis);
    let rules = "rules = [{ match = \"orders:[0-4]\", level = \"bypass\" }, \
                 { match = \"t:*\", level = \"ttl\", ttl_probe = \"never\" }]";
    let sizes = ["cache.max_memory = \"1mb\"", "cache.max_value_size = \"100kb\""];
    let settings =
        [V1, &sizes, &["warming.concurrency = 4", "warming.max_memory_ratio = 0.5", rules]]
            .concat();
    let proxy = Proxy::start(&server.url(), &settings);
    let loaded = warm(&proxy, "{\"pattern\":\"orders:[0-9]\"}");
    assert_eq!(counts(&loaded), [5, 0, 5], "{loaded}");
    let mut direct = server.dial();
    direct.words("SET v1:t:1 1");
    // The push of that SET may come behind the fill.
    eventually("it is held", || {
        let loaded = warm(&proxy, "{\"keys\":[\"t:1\"]}");
        assert_eq!(counts(&loaded)[1], 0, "{loaded}");
        is_hit(&mut proxy.dial(), "t:1").then_some(())
    });

    direct.ask(&["SET", "v1:large", &"x".repeat(200_000)]);
    assert_eq!(counts(&warm(&proxy, "{\"keys\":[\"large\"]}")), [0, 0, 1]);
    for key in 0..20 {
        direct.ask(&["SET", &format!("v1:b:{key:02}"), &"x".repeat(50_000)]);
    }
    // Half of the memory is enough.
    let loaded = warm(&proxy, "{\"pattern\":\"b:*\"}");
    let [loaded, missing, skipped] = counts(&loaded);
    assert!((1..20).contains(&loaded) && missing == 0 && skipped > 0, "{loaded} {skipped}");

    let (_, answer) = proxy.admin("PUT", "/api/v1/mode", "{\"mode\":\"bypass\"}");
    assert!(answer.contains("bypass"), "{answer}");
    let (status, answer) = proxy.admin("POST", "/api/v1/warm/runs", "{\"keys\":[\"a\"]}");
    assert!(status == 409 && answer.contains("nothing is stored"), "{answer}");
    for (body, word) in [
        ("{}", "one of job, keys, pattern"),
        ("{\"job\":\"none\"}", "there is no job `none`"),
        ("{\"keys\":[]}", "has 0 keys"),
        ("{\"pattern\":\"\"}", "is empty"),
    ] {
        let (status, answer) = proxy.admin("POST", "/api/v1/warm/runs", body);
        assert!(status == 422 && answer.contains(word), "{body}: {answer}");
    }
}

#[test]
fn at_the_start_by_a_schedule_and_by_name() {
    for kind in KINDS {
        let server = server(kind);
        let list = server.folder.path().join("list");
        fs::write(&list, "orders:4\r\n\norders:5\n").unwrap();
        let jobs = format!(
            "warming.jobs = [{{ name = \"one\", keys = [\"orders:1\"], every = \"1s\" }}, \
             {{ name = \"two\", pattern = \"orders:[23]\", cron = \"0 0 1 1 *\", timezone = \"Asia/Tokyo\" }}, \
             {{ name = \"three\", file = \"{}\" }}]",
            list.display()
        );
        let settings = [
            V1,
            &[
                "warming.on_start = true",
                "warming.ready_when_warm = true",
                "warming.popular = { orders = [\"6\", \"7\"] }",
                &jobs,
            ],
        ];
        // It is ready when all is there.
        let proxy = Proxy::start(&server.url(), &settings.concat());
        let mut client = proxy.dial();
        for key in 1..8 {
            assert!(is_hit(&mut client, &format!("orders:{key}")), "orders:{key}");
        }
        assert!(!is_hit(&mut client, "orders:8"));
        let ok = |job: &str| {
            proxy.count(&format!("nearside_warm_runs_total{{job=\"{job}\",result=\"ok\"}}"))
        };
        assert_eq!(["two", "three", "popular"].map(ok), [1, 1, 1]);
        eventually("the schedule goes on", || (ok("one") > 2).then_some(()));

        let listed = nearside(&proxy, &["warm", "list"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(text.contains("one: 1 keys, every 1s"), "{text}");
        assert!(
            text.contains("two: pattern orders:[23], cron 0 0 1 1 *, timezone Asia/Tokyo"),
            "{text}"
        );
        let (_, jobs) = proxy.admin("GET", "/api/v1/warm/jobs", "");
        let jobs: Value = serde_json::from_str(&jobs).unwrap();
        let next = jobs["jobs"][1]["next_run"].as_u64().unwrap();
        assert_eq!(next % 86_400, 15 * 3600, "midnight in Tokyo");
        fs::write(&list, "orders:8\norders:9\n").unwrap();
        let run = eventually("no scheduled run is in the way", || {
            let run = nearside(&proxy, &["warm", "run", "three", "--wait"]);
            (run.status.code() != Some(75)).then_some(run)
        });
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && text.contains("done, 2 loaded"), "{run:?}");
        assert!(is_hit(&mut client, "orders:9"));
        fs::remove_file(&list).unwrap();
        let run = eventually("no scheduled run is in the way", || {
            let run = nearside(&proxy, &["warm", "run", "three", "--wait"]);
            (run.status.code() != Some(75)).then_some(run)
        });
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.code() == Some(1) && text.contains("cannot be read"), "{run:?}");
    }
}

#[test]
fn the_keys_of_last_time_are_loaded_again() {
    let server = server(Kind::Redis);
    let snapshot = server.folder.path().join("snapshot");
    let file = format!("warming.snapshot_file = \"{}\"", snapshot.display());
    let settings =
        [V1, &["warming.on_start = true", "warming.ready_when_warm = true", &file]].concat();
    let mut proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    for key in ["orders:1", "orders:2"] {
        client.until_hit(&format!("GET {key}"));
    }
    drop(client);
    proxy.terminate();
    assert!(proxy.wait().success());
    let mut keys: Vec<String> =
        fs::read_to_string(&snapshot).unwrap().lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys, ["orders:1", "orders:2"], "clients' names");

    let mut proxy = Proxy::start(&server.url(), &settings);
    let mut client = proxy.dial();
    assert!(is_hit(&mut client, "orders:1") && is_hit(&mut client, "orders:2"));
    let runs = "nearside_warm_runs_total{job=\"snapshot\",result=\"ok\"}";
    assert_eq!(proxy.count(runs), 1);
    // With nothing to write, the older list is kept.
    proxy.admin("POST", "/api/v1/cache/clear", "{}");
    drop(client);
    proxy.terminate();
    assert!(proxy.wait().success());
    assert_eq!(fs::read_to_string(&snapshot).unwrap().lines().count(), 2);
}

/// A file on the operator's machine, and a run that upstream ends.
#[test]
fn runs_by_the_command_line() {
    let mut server = server(Kind::Redis);
    let proxy = Proxy::start(&server.url(), V1);
    let list = proxy.folder.path().join("keys");
    fs::write(&list, "orders:1\norders:2\nnone\n").unwrap();
    let run = nearside(&proxy, &["warm", "run", "--file", "keys", "--wait", "--rate", "1000/s"]);
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && text.contains("2 loaded, 1 missing"), "{run:?}");
    let status = nearside(&proxy, &["warm", "status", "1"]);
    assert_eq!(String::from_utf8_lossy(&status.stdout), text);
    server.kill();
    let run = nearside(&proxy, &["warm", "run", "--key", "orders:3", "--wait"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let wrong = nearside(&proxy, &["warm", "run"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}
