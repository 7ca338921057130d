//! Long jobs against real servers: keys deleted upstream, moved into a version and out again.

use crate::harness::{KINDS, Kind, Proxy, Server, eventually};
use serde_json::Value;
use std::process::{Command, Output};

const V1: &[&str] = &["keys.version = \"v1\"", "cache.admission = \"always\""];

/// Begins a job and waits for its end; what it is then.
fn job(proxy: &Proxy, path: &str, body: &str) -> Value {
    let (status, answer) = proxy.admin("POST", path, body);
    let begun: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, 202, "{answer}");
    ended(proxy, begun["id"].as_u64().unwrap())
}

pub(crate) fn ended(proxy: &Proxy, id: u64) -> Value {
    eventually("the job has ended", || {
        let (status, answer) = proxy.admin("GET", &format!("/api/v1/jobs/{id}"), "");
        assert_eq!(status, 200, "{answer}");
        let job: Value = serde_json::from_str(&answer).unwrap();
        (job["state"] != "running").then_some(job)
    })
}

fn keys(server: &Server, database: u32) -> Vec<String> {
    let mut direct = server.dial();
    direct.words(&format!("SELECT {database}"));
    let all = String::from_utf8(direct.words("KEYS *")).unwrap();
    let is_key = |line: &&str| !line.starts_with(['*', '$']) && !line.is_empty();
    let mut keys: Vec<String> = all.split("\r\n").filter(is_key).map(str::to_owned).collect();
    keys.sort();
    keys
}

fn fill(server: &Server, prefix: &str, count: usize) {
    let mut direct = server.dial();
    let script = "for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, i) end";
    direct.ask(&["EVAL", script, "0", prefix, &count.to_string()]);
}

#[test]
fn another_version_is_purged_and_nothing_else() {
    for kind in KINDS {
        let server = Server::start(kind);
        fill(&server, "v0:orders:", 3000);
        let mut direct = server.dial();
        for line in ["SET v1:a 1", "SET v0 1", "SET v00:a 1", "SELECT 3", "SET v0:b 1", "SET b 1"] {
            direct.words(line);
        }
        let proxy = Proxy::start(&server.url(), V1);
        let path = "/api/v1/key-versions/v0/purge";
        let counted = job(&proxy, path, "{\"dry_run\":true,\"rate_per_second\":0}");
        assert_eq!(
            (&counted["counts"]["matched"], &counted["counts"]["deleted"]),
            (&3001.into(), &0.into())
        );
        assert_eq!(keys(&server, 3), ["b", "v0:b"], "a dry run changes nothing");

        let some = job(&proxy, path, "{\"max_keys\":250,\"rate_per_second\":0}");
        assert_eq!(some["counts"]["deleted"], 250, "{some}");
        let purged = job(&proxy, path, "{\"rate_per_second\":0}");
        assert_eq!((&purged["state"], &purged["errors"]), (&"done".into(), &0.into()));
        assert_eq!(purged["counts"]["deleted"], 3001 - 250, "{purged}");
        assert_eq!(keys(&server, 0), ["v0", "v00:a", "v1:a"]);
        assert_eq!(keys(&server, 3), ["b"]);

        for (version, status, word) in [
            ("v1", 409, "is in force"),
            ("", 422, "version is empty"),
            ("v*", 422, "must not contain"),
        ] {
            let path = format!("/api/v1/key-versions/{version}/purge");
            let (got, answer) = proxy.admin("POST", &path, "{}");
            assert!(got == status && answer.contains(word), "{version}: {got} {answer}");
        }
        assert_eq!(keys(&server, 0).len(), 3);
    }
}

/// What is deleted upstream is forgotten here, and what only looks alike stays.
#[test]
fn an_invalidation_reaches_upstream_if_it_is_to() {
    for kind in KINDS {
        let server = Server::start(kind);
        let proxy = Proxy::start(&server.url(), V1);
        let mut client = proxy.dial();
        for (body, gone) in [
            ("{\"namespace\":\"o*\"", vec!["o*:1"]),
            ("{\"namespace\":\"_root\"", vec!["plain", "o"]),
            ("{\"pattern\":\"o*\"", vec!["orders:1", "o*:1", "o"]),
            ("{\"pattern\":\"o\\\\*:?\"", vec!["o*:1"]),
            ("{\"keys\":[\"orders:1\",\"none\"]", vec!["orders:1"]),
        ] {
            let all = ["orders:1", "o*:1", "plain", "o", "users:1"];
            for key in all {
                client.words(&format!("SET {key} 1"));
                client.until_hit(&format!("GET {key}"));
            }
            server.dial().words("SET o:unversioned 1");
            let body = format!("{body},\"upstream\":true,\"rate_per_second\":0}}");
            let (status, answer) = proxy.admin("POST", "/api/v1/invalidations", &body);
            assert_eq!(status, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let purged = ended(&proxy, answer["job"].as_u64().unwrap());
            assert_eq!(purged["counts"]["deleted"], gone.len(), "{body}: {purged}");
            for key in all {
                let wanted: &[u8] = if gone.contains(&key) { b"$-1\r\n" } else { b"$1\r\n1\r\n" };
                assert_eq!(client.words(&format!("GET {key}")), wanted, "{body}: {key}");
            }
            assert!(keys(&server, 0).contains(&"o:unversioned".to_owned()));
        }
    }
}

/// The paths of the layers that nearside takes the place of answer when all is done.
#[test]
fn applications_wait_for_the_end_of_what_they_have_deleted() {
    let server = Server::start(Kind::Redis);
    let v1 = &[V1, &["invalidation.channel = \"orders\""]].concat();
    let (proxy, peer) = (Proxy::start(&server.url(), v1), Proxy::start(&server.url(), v1));
    let mut client = proxy.dial();
    fill(&server, "v1:orders:", 300);
    fill(&server, "v0:orders:", 3);
    client.words("SET pattern:1 1");
    client.until_hit("GET orders:7");
    let post = |path: &str, body: &str| {
        let (status, answer) = proxy.admin("POST", path, body);
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let (status, answer) = post("/api/cache/warm", "{\"keys\":[\"orders:1\",\"none\"]}");
    assert_eq!(
        (status, &answer["warmed_count"], &answer["missing_count"]),
        (200, &1.into(), &1.into())
    );
    let (status, answer) = post("/api/cache/invalidate/pattern", "{\"pattern\":\"orders:1?\"}");
    assert_eq!((status, &answer["invalidated_count"]), (200, &10.into()), "{answer}");
    let path = "/api/cache/invalidate/orders";
    let (status, answer) = post(path, "{\"rate_per_second\":0}");
    assert_eq!((status, &answer["invalidated_count"]), (200, &290.into()), "{answer}");
    assert_eq!(client.words("GET orders:7"), b"$-1\r\n");
    assert_eq!(keys(&server, 0), ["v0:orders:1", "v0:orders:2", "v0:orders:3", "v1:pattern:1"]);
    let told = "nearside_cache_invalidations_total{source=\"pubsub\"}";
    eventually("the peer has heard of both", || (peer.count(told) == 2).then_some(()));

    // What somebody else stops is no success, and what another job is in the way of is not begun.
    fill(&server, "v1:orders:", 300);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| post(path, "{\"rate_per_second\":1}"));
        eventually("it runs", || {
            proxy
                .admin("GET", "/api/v1/jobs/4", "")
                .1
                .contains("\"state\":\"running\"")
                .then_some(())
        });
        let (status, answer) = post(path, "{}");
        assert!(status == 409 && answer["type"] == "urn:nearside:problem:busy", "{answer}");
        assert_eq!(proxy.admin("DELETE", "/api/v1/jobs/4", "").0, 200);
        let (status, answer) = waits.join().unwrap();
        assert!(status == 409 && answer["detail"] == "job 4 was cancelled", "{answer}");
    });
    // At a key a second nobody waits for the end of it.
    let (status, answer) = post(path, "{\"rate_per_second\":1}");
    assert_eq!((status, &answer["state"], &answer["id"]), (202, &"running".into(), &5.into()));
    proxy.admin("DELETE", "/api/v1/jobs/5", "");
    ended(&proxy, 5);
    drop(server);
    let (status, answer) = post(path, "{}");
    assert!(status == 502 && answer["type"] == "urn:nearside:problem:job-failed", "{answer}");
}

#[test]
fn a_job_is_cancelled_and_others_wait_for_its_end() {
    let server = Server::start(Kind::Redis);
    fill(&server, "v0:", 1000);
    let proxy = Proxy::start(&server.url(), V1);
    let path = "/api/v1/key-versions/v0/purge";
    // At one key a second it would take a quarter of an hour.
    let (_, answer) = proxy.admin("POST", path, "{\"rate_per_second\":1}");
    let begun: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&begun["id"], &begun["state"]), (&1.into(), &"running".into()));
    for path in [path, "/api/v1/key-versions/v1/strip"] {
        let (status, answer) = proxy.admin("POST", path, "{}");
        assert!(status == 409 && answer.contains("job 1 (purge) is still running"), "{answer}");
    }
    let busy = nearside(&proxy, &["version", "purge", "v0", "--yes"]);
    assert_eq!(busy.status.code(), Some(75), "{busy:?}");
    let (status, answer) = proxy.admin("DELETE", "/api/v1/jobs/1", "");
    assert_eq!(status, 200, "{answer}");
    let cancelled = ended(&proxy, 1);
    assert_eq!(cancelled["state"], "cancelled");
    let deleted = cancelled["counts"]["deleted"].as_u64().unwrap();
    assert_eq!(keys(&server, 0).len() as u64, 1000 - deleted, "the count is exact");
    let (status, answer) = proxy.admin("GET", "/api/v1/jobs/2", "");
    assert!(status == 404 && answer.contains("there is no job 2"), "{answer}");
    let (_, answer) = proxy.admin("GET", "/api/v1/jobs", "");
    assert!(answer.contains("\"kind\":\"purge\""), "{answer}");
}

#[test]
fn jobs_are_listed_part_by_part() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), V1);
    for version in ["v7", "v8", "v9"] {
        job(&proxy, &format!("/api/v1/key-versions/{version}/purge"), "{\"dry_run\":true}");
    }
    let part = |query: &str| {
        let (status, answer) = proxy.admin("GET", &format!("/api/v1/jobs{query}"), "");
        assert_eq!(status, 200, "{answer}");
        let part: Value = serde_json::from_str(&answer).unwrap();
        let ids = part["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap());
        assert_eq!(part["total"], 3);
        (ids.collect::<Vec<_>>(), part["cursor"].as_u64())
    };
    assert_eq!(part(""), (vec![3, 2, 1], None));
    assert_eq!(part("?limit=2"), (vec![3, 2], Some(2)));
    assert_eq!(part("?limit=2&cursor=2"), (vec![1], None));
}

#[test]
fn keys_move_into_a_version_and_out_again() {
    for kind in KINDS {
        let server = Server::start(kind);
        let mut direct = server.dial();
        fill(&server, "orders:", 1500);
        for line in ["SET taken 1", "SET v1:taken 2", "SET life 1 EX 1000", "SELECT 2", "SET x 1"] {
            direct.words(line);
        }
        let proxy = Proxy::start(&server.url(), V1);
        let mut client = proxy.dial();
        assert_eq!(client.words("GET orders:7"), b"$-1\r\n");
        let path = "/api/v1/key-versions/v1/adopt";
        let counted = job(&proxy, path, "{\"dry_run\":true,\"rate_per_second\":0}");
        let wanted = serde_json::json!({ "matched": 1503, "moved": 0, "exists": 1, "gone": 0 });
        assert_eq!(counted["counts"], wanted);
        for (body, moved) in [
            ("{\"pattern\":\"orders:1*\",\"rate_per_second\":0}", 1 + 10 + 100 + 501),
            ("{\"rate_per_second\":0}", 1502 - 612),
            ("{\"rate_per_second\":0}", 0),
        ] {
            let adopted = job(&proxy, path, body);
            assert_eq!(adopted["counts"]["moved"], moved, "{body}: {adopted}");
        }
        assert_eq!(client.words("GET orders:7"), b"$1\r\n7\r\n");
        assert_eq!(client.words("TTL life").first(), Some(&b':'));
        assert_ne!(client.words("TTL life"), b":-1\r\n", "its lifetime has moved, too");
        assert_eq!(client.words("GET taken"), b"$1\r\n2\r\n");
        assert_eq!(keys(&server, 2), ["v1:x"]);
        assert!(keys(&server, 0).contains(&"taken".to_owned()));

        client.until_hit("GET orders:7");
        let stripped = job(&proxy, "/api/v1/key-versions/v1/strip", "{\"rate_per_second\":0}");
        assert_eq!(
            (&stripped["counts"]["moved"], &stripped["counts"]["exists"]),
            (&1502.into(), &1.into())
        );
        assert_eq!(client.words("GET orders:7"), b"$-1\r\n");
        assert_eq!(keys(&server, 2), ["x"]);
        assert_eq!(server.dial().words("GET v1:taken"), b"$1\r\n2\r\n");
    }
}

/// What is purged as another version is not, once clients see it.
#[test]
fn a_version_that_is_put_in_force_is_purged_no_further() {
    let server = Server::start(Kind::Redis);
    fill(&server, "v0:", 1000);
    let proxy = Proxy::start(&server.url(), V1);
    let path = "/api/v1/key-versions/v0/purge";
    let (_, answer) = proxy.admin("POST", path, "{\"rate_per_second\":1}");
    assert!(answer.contains("\"id\":1,"), "{answer}");
    let switch = "{\"version\":\"v0\"}";
    let (status, answer) = proxy.admin("PUT", "/api/v1/key-versions/current", switch);
    assert_eq!(status, 200, "{answer}");
    let failed = ended(&proxy, 1);
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("this version is in force now"), "{failed}");
    let deleted = failed["counts"]["deleted"].as_u64().unwrap();
    assert_eq!(keys(&server, 0).len() as u64, 1000 - deleted);
    let (status, answer) = proxy.admin("POST", path, "{}");
    assert!(status == 409 && answer.contains("v0 is in force"), "{answer}");
}

/// A user that may not is told so, and what the server said.
#[test]
fn a_server_that_refuses_ends_the_job() {
    let server = Server::start(Kind::Redis);
    let mut direct = server.dial();
    direct.words("SET v0:a 1");
    direct.words("ACL SETUSER guard on >secret ~* &* +@all -unlink");
    let url = server.url().replace("redis://", "redis://guard:secret@");
    let proxy = Proxy::start(&url, V1);
    let failed = job(&proxy, "/api/v1/key-versions/v0/purge", "{}");
    assert_eq!(failed["state"], "failed", "{failed}");
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("upstream answers UNLINK with \"NOPERM"), "{error}");
    assert_eq!(keys(&server, 0), ["v0:a"]);
}

/// Redis before 4.0 has no UNLINK.
#[test]
fn a_server_without_unlink_is_asked_to_del() {
    let server = Server::with(Kind::Redis, &["--rename-command", "UNLINK", ""]);
    fill(&server, "v0:", 300);
    let proxy = Proxy::start(&server.url(), V1);
    let purged = job(&proxy, "/api/v1/key-versions/v0/purge", "{\"rate_per_second\":0}");
    assert_eq!((&purged["state"], &purged["counts"]["deleted"]), (&"done".into(), &300.into()));
    assert!(keys(&server, 0).is_empty());
}

/// The embedded upstream has the same commands.
#[test]
fn the_embedded_upstream_is_purged() {
    let proxy = Proxy::start("embedded:", V1);
    let mut client = proxy.dial();
    for line in ["SET orders:1 1", "SET users:1 1", "SELECT 1", "SET orders:2 1"] {
        client.words(line);
    }
    let out =
        nearside(&proxy, &["invalidate", "--namespace", "orders", "--delete-upstream", "--yes"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains("upstream: job 1"), "{out:?}");
    assert_eq!(ended(&proxy, 1)["counts"]["deleted"], 2);
    assert_eq!(client.words("KEYS *"), b"*0\r\n");
}

/// The program as an operator runs it.
pub(crate) fn nearside(proxy: &Proxy, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearside"))
        .args(args)
        .args(["--admin", &proxy.admin_url()])
        .current_dir(proxy.folder.path())
        .output()
        .unwrap()
}
