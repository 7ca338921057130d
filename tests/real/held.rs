//! What is cached now, by namespace.

use crate::harness::{Kind, Proxy, Server, eventually};
use serde_json::Value;

#[test]
fn entries_and_bytes_of_namespaces_are_those_held() {
    let server = Server::start(Kind::Redis);
    server.dial().words("MSET orders:1 aaaa orders:2 b users:1 c plain d");
    let proxy = Proxy::start(&server.url(), &["cache.ttl = \"1h\""]);
    let mut client = proxy.dial();
    for key in ["orders:1", "orders:2", "users:1", "plain"] {
        client.until_hit(&format!("GET {key}"));
    }
    client.until_hit("STRLEN orders:1");
    let asked = |path: &str| {
        let (status, answer) = proxy.admin("GET", &format!("/api/v1/namespaces/cached{path}"), "");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let all = asked("");
    let rows = all["namespaces"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["namespace"] == name).unwrap();
    assert_eq!((all["entries"].as_u64(), rows.len()), (Some(4), 3), "{all}");
    let entries = ["orders", "users", "_root"].map(|name| row(name)["entries"].as_u64().unwrap());
    assert_eq!(entries, [2, 1, 1], "a key with two replies is one");
    assert_eq!(rows[0]["namespace"], "orders", "the largest first");
    let bytes: u64 = rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, all["bytes"].as_u64().unwrap());
    assert_eq!(bytes, proxy.count("nearside_cache_memory_used_bytes"), "as it is accounted");
    let first = asked("?limit=1");
    assert_eq!((first["namespaces"].as_array().unwrap().len(), &first["entries"]), (1, &4.into()));

    // It is counted anew when the count is some seconds old.
    proxy.admin("POST", "/api/v1/invalidations", "{\"namespace\":\"orders\"}");
    eventually("what is forgotten is not counted", || (asked("")["entries"] == 2).then_some(()));
}
