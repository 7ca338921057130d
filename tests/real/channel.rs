//! Where it is said what is to be forgotten: several channels, other servers, groups of patterns,
//! events of applications, signatures, floods.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, installed, request};
use crate::jobs::nearside;
use nearside::control::invalidate::signature::sign;
use nearside::net::target::Password;
use nearside::units::clock::unix_millis;
use nearside::wire::reply;
use serde_json::{Value, json};
use std::process::Command;

const UP: &str = "nearside_invalidation_channel_up{channel=\"pubsub\"";

const REFUSED: &str = "nearside_invalidation_messages_refused_total{channel=\"pubsub\"";

const HEARD: &str = "nearside_invalidation_messages_total{channel=\"pubsub\"";

/// One that keeps everything, and listens at so many servers.
fn proxy(server: &Server, settings: &[&str], servers: u64) -> Proxy {
    let all = [&["cache.admission = \"always\"", "cache.ttl = \"1h\""], settings].concat();
    let proxy = Proxy::start(&server.url(), &all);
    listening(&proxy, servers);
    proxy
}

fn listening(proxy: &Proxy, servers: u64) {
    eventually("it listens everywhere", || (proxy.count(UP) == servers).then_some(()));
}

/// A server that has these keys before nearside comes, and no push of a write is on its way.
fn server(keys: &[&str]) -> Server {
    let server = Server::start(Kind::Redis);
    for key in keys {
        server.dial().ask(&["SET", key, "1"]);
    }
    server
}

fn warm(proxy: &Proxy, keys: &[&str]) -> Conn {
    let mut client = proxy.dial();
    for key in keys {
        client.until_hit(&format!("GET {key}"));
    }
    client
}

/// Which of the keys are answered by nearside itself.
fn held<'k>(client: &mut Conn, keys: &[&'k str]) -> Vec<&'k str> {
    let is_hit = |key: &&str| {
        let before = client.hits();
        client.words(&format!("GET {key}"));
        client.hits() > before
    };
    keys.iter().copied().filter(is_hit).collect()
}

/// Says something, and returns when it has been counted.
fn say(proxy: &Proxy, to: &Server, channel: &str, text: &str) {
    let before = proxy.count(HEARD);
    assert_eq!(to.dial().ask(&["PUBLISH", channel, text]), b":1\r\n", "nobody hears {channel}");
    eventually("it is heard", || (proxy.count(HEARD) > before).then_some(()));
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// On each of the channels it is heard, on the first it is said; `NUMPAT` does not show them.
#[test]
fn several_channels_are_listened_to() {
    let server = server(&["a", "b"]);
    let proxy = proxy(&server, &["invalidation.channel = [\"one\", \"two*\", \"one\"]"], 1);
    let mut client = warm(&proxy, &["a", "b"]);
    say(&proxy, &server, "one", "a");
    say(&proxy, &server, "two*", "b");
    assert!(held(&mut client, &["a", "b"]).is_empty());
    assert_eq!(server.dial().words("PUBSUB NUMPAT"), b":2\r\n");
    assert_eq!(client.words("PUBSUB NUMPAT"), b":0\r\n");

    let mut peer = server.dial();
    peer.words("SUBSCRIBE one");
    let (_, answer) = proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"a\"]}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    assert!(String::from_utf8_lossy(&peer.reply()).contains("\"op\":\"key\""));
}

/// What another region's server is told is forgotten here; nothing is said there.
#[test]
fn other_servers_are_listened_to_and_their_loss_is_seen() {
    let (server, mut eu) = (server(&["a", "b", "c"]), Server::start(Kind::Valkey));
    let us = Server::with(Kind::Redis, &["--requirepass", "EuPassword"]);
    let sources = format!(
        "invalidation.sources = [{{ name = \"eu\", url = \"{}\" }}, \
         {{ name = \"us\", url = \"{us}\", username = \"default\", password_file = \"{}\" }}, \
         {{ name = \"us-2\", url = \"{us}\", password = \"EuPassword\" }}]",
        eu.url(),
        server.folder.path().join("password").display(),
        us = us.url(),
    );
    std::fs::write(server.folder.path().join("password"), "EuPassword\n").unwrap();
    let proxy = proxy(&server, &[&sources], 4);
    let mut client = warm(&proxy, &["a", "b", "c"]);
    say(&proxy, &eu, "system:cache_invalidation", "a");
    assert_eq!(held(&mut client, &["a", "b", "c"]), ["b", "c"]);
    let mut there = eu.dial();
    there.words("SUBSCRIBE system:cache_invalidation");
    let (_, answer) = proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"b\"]}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    let ok = "nearside_invalidation_published_total{result=\"ok\"}";
    eventually("it is said at upstream", || (proxy.count(ok) == 1).then_some(()));
    assert_eq!(there.words("PING"), b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "and not there");

    eu.kill();
    eventually("the loss is seen", || (proxy.count(UP) == 3).then_some(()));
    let address = format!("127.0.0.1:{}", eu.port);
    let series = format!("{UP},upstream=\"{address}\",source=\"eu\"}} 0");
    assert!(proxy.admin("GET", "/metrics", "").1.contains(&series), "no {series}");
    let (_, answer) = proxy.admin("GET", "/api/v1/upstreams", "");
    let down = json!({ "source": "eu", "address": address, "state": "down" });
    assert_eq!(json(&answer)["channels"][1], down, "{answer}");
    assert_eq!(json(&answer)["channels"][0]["source"], "upstream", "{answer}");
    let (_, answer) = proxy.admin("GET", "/api/v1/status", "");
    let warning = format!("invalidation: eu: messages are not heard at {address}");
    assert!(json(&answer)["warnings"].as_array().unwrap().contains(&warning.into()), "{answer}");
    let log = proxy.log();
    assert!(
        log.contains("invalidation_channel_down") && log.contains("\"source\":\"eu\""),
        "{log}"
    );
    assert!(!log.contains("EuPassword"), "{log}");
    eu.restart();
    listening(&proxy, 4);
    say(&proxy, &eu, "system:cache_invalidation", "c");
    assert!(!held(&mut client, &["c"]).contains(&"c"));
}

/// What is told of a key: `held`, `stale` or `gone`.
fn state(proxy: &Proxy, key: &str) -> &'static str {
    let (_, answer) = proxy.admin("GET", &format!("/api/v1/entries/lookup?key={key}"), "");
    let found = json(&answer);
    match (&found["present"], &found["replies"][0]["stale"]) {
        (Value::Bool(true), Value::Bool(false)) => "held",
        (Value::Bool(false), Value::Bool(true)) => "stale",
        (Value::Bool(false), Value::Null) => "gone",
        _ => panic!("{answer}"),
    }
}

/// Through every door: soft leaves what the rule keeps, and hard nothing. Peers are told which.
#[test]
fn soft_orders_leave_what_rules_keep() {
    const KEY: &str = "orders:1";
    const PATH: &str = "/api/v1/invalidations";
    let server = server(&[KEY]);
    let kept = "cache.stale_if_error = \"9h\"";
    let one = proxy(&server, &[kept, "instance = \"one\""], 1);
    let two = proxy(&server, &[kept, "instance = \"two\""], 1);
    let post = |body: &str| assert_eq!(one.admin("POST", PATH, body).0, 200, "{body}");
    let cli = |arguments: &[&str]| {
        let output = nearside(&one, &[&["invalidate"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
    };
    let client = |words: &str| assert!(one.dial().words(words).starts_with(b":"), "{words}");
    let say = |text: &str| {
        server.dial().ask(&["PUBLISH", "system:cache_invalidation", text]);
    };
    let doors: [(&dyn Fn(), &str); 12] = [
        (&|| post("{\"keys\":[\"orders:1\"],\"soft\":true}"), "stale"),
        (&|| post("{\"keys\":[\"orders:1\"]}"), "gone"),
        (&|| post("{\"namespace\":\"orders\",\"soft\":true}"), "stale"),
        (&|| post("{\"namespace\":\"orders\",\"soft\":false}"), "gone"),
        (&|| cli(&["--soft", "--key", KEY]), "stale"),
        (&|| cli(&["--soft", "--all"]), "stale"),
        (&|| cli(&["--key", KEY]), "gone"),
        (&|| client("PROXY INVALIDATE SOFT PATTERN o*"), "stale"),
        (&|| client("PROXY INVALIDATE PATTERN o*"), "gone"),
        (&|| say("{\"op\":\"key\",\"value\":\"orders:1\",\"soft\":true}"), "stale"),
        (&|| say("{\"op\":\"all\",\"soft\":true}"), "stale"),
        (&|| say("orders:1"), "gone"),
    ];
    for (place, (door, left)) in doors.iter().enumerate() {
        for proxy in [&one, &two] {
            warm(proxy, &[KEY]);
            assert_eq!(state(proxy, KEY), "held");
        }
        door();
        for proxy in [&one, &two] {
            eventually(&format!("it is {left}: door {place}"), || {
                (state(proxy, KEY) == *left).then_some(())
            });
        }
    }
    let (_, answer) = one.admin("GET", PATH, "");
    let events = json(&answer)["invalidations"].as_array().unwrap().clone();
    let softly: Vec<bool> = events.iter().map(|event| event["soft"] == true).collect();
    let meant: Vec<bool> = doors.iter().rev().map(|(_, left)| *left == "stale").collect();
    assert_eq!(softly, meant, "{answer}");
    let (status, answer) =
        one.admin("POST", PATH, "{\"keys\":[\"a\"],\"soft\":true,\"upstream\":true}");
    assert!(status == 422 && json(&answer)["errors"][0]["pointer"] == "/soft", "{answer}");
}

/// One order for all its patterns, wherever it is given; a name that nobody has is an error that
/// tells those there are.
#[test]
fn groups_are_forgotten_by_their_name() {
    const KEYS: [&str; 4] = ["library:1", "library_search:x", "book", "books"];
    const LEFT: [&str; 1] = ["books"];
    let server = server(&KEYS);
    let groups = "invalidation.groups = { library = [\"library:*\", \"library_*:*\", \"book\"] }";
    let proxy = proxy(&server, &[groups], 1);
    let none = "there is no group `librry`: invalidation.groups has library";

    let mut client = warm(&proxy, &KEYS);
    let path = "/api/v1/invalidations";
    let (_, answer) = proxy.admin("POST", path, "{\"group\":\"library\",\"dry_run\":true}");
    assert_eq!(json(&answer)["matched"], 3, "{answer}");
    let (_, answer) = proxy.admin("POST", path, "{\"group\":\"library\"}");
    assert_eq!(json(&answer)["removed"], 3, "{answer}");
    assert_eq!(held(&mut client, &KEYS), LEFT);
    let (_, answer) = proxy.admin("GET", path, "");
    let last = &json(&answer)["invalidations"][0];
    assert_eq!((&last["kind"], &last["value"]), (&json!("group"), &json!("library")), "{answer}");
    let (status, answer) = proxy.admin("POST", path, "{\"group\":\"librry\"}");
    assert!(status == 422 && answer.contains(none), "{answer}");
    assert_eq!(json(&answer)["errors"][0]["pointer"], "/group", "{answer}");

    let mut client = warm(&proxy, &KEYS);
    assert_eq!(client.words("PROXY INVALIDATE GROUP library"), b":3\r\n");
    assert_eq!(held(&mut client, &KEYS), LEFT);
    let refused = client.words("PROXY INVALIDATE GROUP librry");
    assert_eq!(String::from_utf8_lossy(&refused), format!("-ERR {none}\r\n"));

    let mut client = warm(&proxy, &KEYS);
    let output = nearside(&proxy, &["invalidate", "--group", "library"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("removed 3 keys"), "{output:?}");
    assert_eq!(held(&mut client, &KEYS), LEFT);
    let output = nearside(&proxy, &["invalidate", "--group", "librry"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(none), "{output:?}");

    let mut client = warm(&proxy, &KEYS);
    let channel = "system:cache_invalidation";
    say(&proxy, &server, channel, "{\"op\":\"group\",\"value\":\"librry\"}");
    assert_eq!(held(&mut client, &KEYS), KEYS);
    assert!(proxy.log().contains(none));
    say(&proxy, &server, channel, "{\"op\":\"group\",\"value\":\"library\"}");
    assert_eq!(held(&mut client, &KEYS), LEFT);
    let counted = "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"group\"}";
    assert_eq!(proxy.count(counted), 1);

    // A reload changes what the name means.
    let file = proxy.folder.path().join("proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"book\"", "\"books\"")).unwrap();
    let (_, answer) = proxy.admin("POST", "/api/v1/config/reload", "{}");
    assert_eq!(json(&answer)["changed"], json!(["invalidation.groups"]), "{answer}");
    let mut client = warm(&proxy, &KEYS);
    client.words("PROXY INVALIDATE GROUP library");
    assert_eq!(held(&mut client, &KEYS), ["book"]);

    let deleted = "{\"group\":\"library\",\"upstream\":true}";
    let (status, answer) = proxy.admin("POST", path, deleted);
    assert!(status == 200 && json(&answer)["job"].is_u64(), "{answer}");
    let mut direct = server.dial();
    eventually("they are deleted upstream, too", || {
        (direct.words("DBSIZE") == b":1\r\n").then_some(())
    });
    assert_eq!(direct.words("EXISTS book"), b":1\r\n");
}

/// The proxies of a fleet are not all configured anew at the same moment.
#[test]
fn a_peer_forgets_what_a_group_means_where_the_order_was_given() {
    let server = server(&["library:1", "other"]);
    let groups = "invalidation.groups = { library = [\"library:*\"] }";
    let (one, two) = (proxy(&server, &[groups], 1), proxy(&server, &[], 1));
    let mut there = warm(&two, &["library:1", "other"]);
    let (_, answer) = one.admin("POST", "/api/v1/invalidations", "{\"group\":\"library\"}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    eventually("the peer has heard", || (two.count(HEARD) == 1).then_some(()));
    assert_eq!(held(&mut there, &["library:1", "other"]), ["other"]);
}

/// A50: an application that tells before it writes has the older value read in between. The
/// tracking link mends that; where there is none, it lasts as long as the rule lets it.
#[test]
fn a50_what_is_told_before_it_is_written_is_mended_by_the_tracking_link() {
    for level in [&[][..], &["cache.level = \"ttl\"", "rules = [{ match = \"*\", ttl = \"2s\" }]"]]
    {
        let server = server(&["k"]);
        let proxy = proxy(&server, level, 1);
        let mut client = warm(&proxy, &["k"]);
        say(&proxy, &server, "system:cache_invalidation", "k");
        assert_eq!(client.until_hit("GET k"), b"$1\r\n1\r\n");
        server.dial().ask(&["SET", "k", "2"]);
        eventually("the new value", || (client.words("GET k") == b"$1\r\n2\r\n").then_some(()));
    }
}

/// What an application publishes anyway means patterns; what it does not say is named in the log.
#[test]
fn events_of_applications_are_understood() {
    const KEYS: [&str; 5] =
        ["project:42:a", "project:43:a", "project:4*:a", "list:{42}", "list:{43}"];
    let server = server(&KEYS);
    let events = "invalidation.events = [{ channel = \"events:version_promoted\", \
                  patterns = [\"project:{project_id}:*\", \"list:{{{project_id}}}\"] }, \
                  { channel = \"events:saved\", patterns = \"project:{project.id}:*\" }]";
    let proxy = proxy(&server, &[events], 1);
    let mut client = warm(&proxy, &KEYS);
    say(&proxy, &server, "events:version_promoted", "{\"project_id\":42,\"by\":\"ann\"}");
    assert_eq!(held(&mut client, &KEYS), ["project:43:a", "project:4*:a", "list:{43}"]);
    let mut client = warm(&proxy, &KEYS);
    say(&proxy, &server, "events:saved", "{\"project\":{\"id\":\"4*\"}}");
    let left = ["project:42:a", "project:43:a", "list:{42}", "list:{43}"];
    assert_eq!(held(&mut client, &KEYS), left);

    let mut client = warm(&proxy, &KEYS);
    let malformed = "nearside_invalidation_messages_total{channel=\"pubsub\",kind=\"malformed\"}";
    for (count, text, words) in [
        (1, "{\"id\":42}", "`project_id` is missing"),
        (2, "{\"project_id\":[42]}", "`project_id` is neither text nor a whole number"),
        (3, "project:42", "no JSON object"),
    ] {
        say(&proxy, &server, "events:version_promoted", text);
        assert_eq!(proxy.count(malformed), count);
        assert!(proxy.log().contains(words), "{}", proxy.log());
    }
    assert_eq!(held(&mut client, &KEYS), KEYS);
    let (_, answer) = proxy.admin("GET", "/api/v1/invalidations", "");
    let last = &json(&answer)["invalidations"][0];
    assert_eq!(last["kind"], "event", "{answer}");
    assert_eq!(last["value"], "events:saved", "{answer}");

    // A reload changes where it listens, and what it hears.
    let file = proxy.folder.path().join("proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("events:saved", "events:stored").replace("list:{{{", "none:{{{");
    std::fs::write(&file, text).unwrap();
    let (_, answer) = proxy.admin("POST", "/api/v1/config/reload", "{}");
    assert_eq!(json(&answer)["changed"], json!(["invalidation.events"]), "{answer}");
    let mut direct = server.dial();
    eventually("it listens to the new one, and not to the old one", || {
        let said = ["events:stored", "events:saved"]
            .map(|channel| direct.ask(&["PUBLISH", channel, "{\"project\":{\"id\":44}}"]));
        (said == [b":1\r\n", b":0\r\n"]).then_some(())
    });
    listening(&proxy, 1);
    assert_eq!(proxy.dial().words("PUBSUB NUMPAT"), b":0\r\n");
    let mut client = warm(&proxy, &KEYS);
    say(&proxy, &server, "events:version_promoted", "{\"project_id\":42}");
    assert_eq!(held(&mut client, &KEYS).len(), 4, "of this one only");
}

const SECRET: &str = "a secret of thirty-two characters";

/// Of this time, in milliseconds since 1970.
fn signed(message: &Value, ts: u64) -> String {
    let mut members = message.as_object().unwrap().clone();
    members.insert("ts".to_owned(), ts.into());
    sign(&Password::new(SECRET.to_owned()), &mut members).unwrap();
    Value::Object(members).to_string()
}

/// What the documentation says of how to sign, as it stands there.
fn snippet() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/invalidation.md");
    let page = std::fs::read_to_string(page).unwrap();
    let code = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(code.lines().count() <= 5, "{code}");
    code.to_owned()
}

/// The rest is counted by its reason and changes nothing: neither what is plain, changed, old or
/// repeated, nor an event that must be signed.
#[test]
fn signed_messages_alone_are_obeyed() {
    const KEYS: [&str; 3] = ["orders:42", "orders:43", "é\"\\\n"];
    let server = server(&["orders:42", "orders:43"]);
    let file = server.folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let secret = format!("invalidation.secret_file = \"{}\"", file.display());
    let events = "invalidation.events = [{ channel = \"open\", patterns = \"orders:{id}\" }, \
                  { channel = \"closed\", patterns = \"orders:{id}\", signed = true }]";
    let settings = [&secret, events, "invalidation.max_skew = \"1h\""];
    let (proxy, peer) = (proxy(&server, &settings, 1), proxy(&server, &settings, 1));
    let channel = "system:cache_invalidation";
    let publish = |channel: &str, text: &str| {
        assert_ne!(server.dial().ask(&["PUBLISH", channel, text]), b":0\r\n");
    };
    let now = unix_millis();
    let mut client = warm(&proxy, &KEYS[..2]);
    let all = json!({ "op": "all" });
    let minutes = |minutes: u64| signed(&all, now - minutes * 60_000);
    let forged = signed(&all, now).replace("\"all\"", "\"all \"");
    for (reason, channel, text) in [
        ("unsigned", channel, "orders:42".to_owned()),
        ("unsigned", channel, all.to_string()),
        ("unsigned", "closed", "{\"id\":42}".to_owned()),
        ("signature", channel, forged),
        ("stale", channel, minutes(120)),
    ] {
        let series = format!("{REFUSED},reason=\"{reason}\"}}");
        let before = proxy.count(&series);
        publish(channel, &text);
        eventually(reason, || (proxy.count(&series) > before).then_some(()));
    }
    assert_eq!(held(&mut client, &KEYS[..2]), KEYS[..2]);
    assert!(proxy.log().contains("it is not signed: `hmac` is missing"), "{}", proxy.log());

    // As the documentation says, from Python; and the same once more.
    let mut listener = server.dial();
    listener.words(&format!("SUBSCRIBE {channel}"));
    let code = format!(
        "import redis as client\nredis = client.Redis(port={})\n\
         secret = open({:?}).read().strip()\n{}",
        server.port,
        file.to_str().unwrap(),
        snippet(),
    );
    let python = installed("python/bin/python");
    let output = Command::new(python).args(["-c", &code]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("it is heard", || (proxy.count(HEARD) == 1).then_some(()));
    assert_eq!(held(&mut client, &KEYS[..2]), ["orders:43"]);
    let message = listener.reply();
    let said = reply::elements(&message).nth(2).and_then(reply::bulk).unwrap();
    publish(channel, std::str::from_utf8(said).unwrap());
    let replayed = format!("{REFUSED},reason=\"replayed\"}}");
    eventually("it is refused", || (proxy.count(&replayed) == 1).then_some(()));

    // Whatever is signed, in every language; a while ago, as max_skew says; events, too.
    let odd =
        json!({ "op": "key", "value": KEYS, "x": { "b": [1, -2, null], "a": "\u{1}\u{7f}" } });
    publish(channel, &signed(&odd, now - 30 * 60_000));
    eventually("it is heard", || (proxy.count(HEARD) == 2).then_some(()));
    assert!(held(&mut client, &KEYS[..2]).is_empty());
    let mut client = warm(&proxy, &KEYS[..2]);
    publish("open", "{\"id\":42}");
    publish("closed", &signed(&json!({ "id": 43 }), now));
    eventually("they are heard", || (proxy.count(HEARD) == 4).then_some(()));
    assert!(held(&mut client, &KEYS[..2]).is_empty());

    // What nearside says itself is believed by its peers.
    let mut there = warm(&peer, &KEYS[..2]);
    let before = peer.count(HEARD);
    let (_, answer) = proxy.admin("POST", "/api/v1/invalidations", "{\"keys\":[\"orders:42\"]}");
    assert!(answer.contains("\"published\":true"), "{answer}");
    eventually("the peer has heard", || (peer.count(HEARD) > before).then_some(()));
    assert_eq!(held(&mut there, &KEYS[..2]), ["orders:43"]);

    // Another secret holds from the next reload on.
    std::fs::write(&file, "another secret, of as many letters").unwrap();
    let (_, answer) = peer.admin("POST", "/api/v1/config/reload", "{}");
    assert_eq!(json(&answer)["changed"], json!(["invalidation.secret_file"]), "{answer}");
    publish(channel, &signed(&all, now));
    let refused = format!("{REFUSED},reason=\"signature\"}}");
    eventually("the peer does not believe it", || (peer.count(&refused) == 2).then_some(()));
}

/// Every nearside that hears it switches; nobody who has no secret can say it, and what cannot be
/// a version is none.
#[test]
fn a_signed_message_switches_the_key_version() {
    let server = server(&["v1:a", "v2:a"]);
    server.dial().words("SET v2:a two");
    let file = server.folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let secret = format!("invalidation.secret_file = \"{}\"", file.display());
    let (one, two) = (
        proxy(&server, &["keys.version = \"v1\"", &secret], 1),
        proxy(&server, &["keys.version = \"v1\"", &secret], 1),
    );
    let open = proxy(&server, &["keys.version = \"v1\""], 1);
    let publish = |version: &str| {
        let message = signed(&json!({ "op": "version", "value": version }), unix_millis());
        server.dial().ask(&["PUBLISH", "system:cache_invalidation", &message]);
    };
    let mut client = warm(&one, &["a"]);
    publish("v2");
    for proxy in [&one, &two] {
        let switched = "nearside_key_version_switches_total{source=\"pubsub\"}";
        eventually("it has switched", || (proxy.count(switched) == 1).then_some(()));
        assert_eq!(proxy.count("nearside_key_version_info{version=\"v2\"}"), 1);
    }
    assert_eq!(client.words("GET a"), b"$3\r\ntwo\r\n");
    let refused = format!("{REFUSED},reason=\"version\"}}");
    eventually("it is refused", || (open.count(&refused) == 1).then_some(()));
    assert_eq!(open.count("nearside_key_version_info{version=\"v1\"}"), 1);
    assert!(open.log().contains("only a signed message switches the key version"));

    for (count, version) in [(1, "v:3"), (2, "")] {
        publish(version);
        eventually("it is refused", || (one.count(&refused) == count).then_some(()));
    }
    assert!(one.log().contains("version must not contain the separator"), "{}", one.log());
    assert_eq!(client.words("GET a"), b"$3\r\ntwo\r\n");
}

/// A flood costs neither memory nor more bans than there may be, and what comes behind it is
/// obeyed.
#[test]
fn a_flood_is_bounded() {
    const FLOOD: usize = 100_000;
    let server = Server::with(Kind::Redis, &["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let mut direct = server.dial();
    direct.words("SET a 1");
    let proxy = proxy(&server, &[], 1);
    let mut client = warm(&proxy, &["a"]);
    let before = proxy.resident();
    let mut heard = 0;
    for part in 0..10 {
        let messages = (0..FLOOD / 10).flat_map(|number| {
            let text = match number % 4 {
                0 => "{\"op\":\"namespace\",\"value\":\"same\"}".to_owned(),
                1 => format!("flood:{part}:{number}:{}*", "x".repeat(900)),
                _ => format!("flood:{part}:{number}:*"),
            };
            request(&["PUBLISH", "system:cache_invalidation", &text])
        });
        let messages: Vec<u8> = messages.collect();
        direct.send(&messages);
        (0..FLOOD / 10).for_each(|_| assert_eq!(direct.reply(), b":1\r\n"));
        heard += FLOOD as u64 / 10;
        eventually("all are heard", || {
            assert!(proxy.count("nearside_cache_bans") <= 1024);
            (proxy.count(HEARD) == heard).then_some(())
        });
    }
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for {FLOOD} messages");
    client.until_hit("GET a");
    say(&proxy, &server, "system:cache_invalidation", "a*");
    assert!(held(&mut client, &["a"]).is_empty());
}
