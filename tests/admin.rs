//! The admin API over real HTTP, and the list of metrics that it serves.
//!
//! `UPDATE=1 cargo test --test admin` writes `tests/data/metrics.txt` and `openapi.json` anew.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs};

use nearside::app::dialer;
use nearside::cache::{Cache, Extra, Filled, Policy, Question, Reply, Space};
use nearside::command::by_name;
use nearside::config::{Overrides, ShowKeys, load};
use nearside::control::admin::guard::{Access, Guard, Token};
use nearside::control::admin::stats::View;
use nearside::control::admin::{Admin, Api, Check, Error, Offer, bind, serve};
use nearside::control::census::Census;
use nearside::control::invalidate::history::History;
use nearside::control::invalidate::orders::Orders;
use nearside::control::jobs::{Jobs, Tools};
use nearside::control::observe::chart::Chart;
use nearside::control::observe::feed::{QUEUE_MAX, READERS_MAX, frame};
use nearside::control::observe::metrics::{
    CacheFigures, ChannelSource, Identity, Metrics, Sources, TrackingFigures,
};
use nearside::control::observe::state::{
    AllocatorFigures, BehindFigures, BufferFigures, CertificateFigures, ConfigFigures,
    RuntimeFigures, State, UpstreamFigures,
};
use nearside::control::office::Sweeper;
use nearside::control::reload::{Cause, Parts, Reloader};
use nearside::control::warm::fill::{Denied, Filler};
use nearside::control::warm::{Warm, WarmFigures};
use nearside::control::wing::{Client, DataWing, Explained, Facts, Place, SlowCommand};
use nearside::control::workshop::Workshop;
use nearside::keys::Names;
use nearside::live::Live;
use nearside::net::inherited::Inherited;
use nearside::snapshot::{Snapshot, Snapshots};
use nearside::stats::histogram::Bounds;
use nearside::stats::{Counter, Gauge, Look, Outcome, Seen, Stats};
use nearside::units::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

const COMMANDS: [&str; 3] = ["GET", "SET", "CONFIG GET"];

fn sources() -> Sources {
    Sources {
        cache: Box::new(|| CacheFigures {
            entries: 7,
            used_bytes: 4_096,
            max_bytes: 1 << 28,
            evicted: 3,
            expired: 5,
            bans: 1,
            forgotten: 1,
            removed: [2, 3],
        }),
        tracking: Some(Box::new(|| TrackingFigures {
            up: true,
            synced_age: Some(Duration::from_millis(250)),
            lag: None,
        })),
        channels: vec![ChannelSource {
            source: "upstream".to_owned(),
            upstream: "db:6379".to_owned(),
            is_up: Box::new(|| true),
        }],
        warm: Box::new(WarmFigures::default),
        upstream_up: Box::new(|| true),
        upstream_enabled: Box::new(|| true),
        fallback_active: Box::new(|| false),
        mode: Box::new(|| "cache"),
        key_version: Box::new(|| "v1".to_owned()),
        bounds: Box::new(|| Bounds::new(&Bounds::USUAL).unwrap()),
        state: state(),
    }
}

fn state() -> State {
    let runtime = |worker, tasks| RuntimeFigures { worker, busy: Duration::from_millis(5), tasks };
    let digest = "0badcafe".to_owned();
    let config = ConfigFigures {
        is_last_good: true,
        loaded_at: 1_700_000_000,
        digest,
        ..ConfigFigures::default()
    };
    State {
        config: Box::new(move || config.clone()),
        upstream: Box::new(|| {
            Some(UpstreamFigures { role: "primary".to_owned(), version: "7.0.15".to_owned() })
        }),
        certificates: Box::new(|| {
            vec![CertificateFigures { listener: "resp", expires_at: 1_800_000_000 }]
        }),
        subscribers: Box::new(|| 3),
        behind: Box::new(|| {
            Some(BehindFigures {
                entries: 2,
                bytes: 300,
                oldest: Duration::from_millis(1500),
                is_taking: true,
            })
        }),
        buffers: Box::new(|| BufferFigures { input: 17, output: 4_096, held: 70_000 }),
        heard: Arc::default(),
        runtimes: Box::new(move || {
            vec![runtime(None, 1), runtime(Some(0), 2), runtime(Some(1), 3)]
        }),
        allocator: Box::new(|| {
            Some(AllocatorFigures { allocated: 4_096, active: 8_192, resident: 16_384 })
        }),
    }
}

fn metrics(stats: &Arc<Stats>) -> Metrics {
    let me = Identity { upstream: "db:6379".to_owned(), workers: 2 };
    Metrics::new(Arc::clone(stats), &COMMANDS, &me, sources())
}

fn admin(stats: &Arc<Stats>, ready: impl Fn() -> Vec<Check> + Send + Sync + 'static) -> Admin {
    Admin::new(Arc::new(metrics(stats)), "/metrics", ready, guard(), api(stats)).unwrap()
}

/// Nobody needs a token.
fn guard() -> Guard {
    let hosts = vec!["127.0.0.1".to_owned()];
    Guard::new(Access { hosts, ..Access::default() }, Clock::system())
}

fn api(stats: &Arc<Stats>) -> Api {
    let cache = Arc::new(Cache::new(1 << 20, 4));
    let (sweeper, block) = (Sweeper::new(Arc::clone(&cache)), stats.new_block());
    let mut settings = load(&Overrides::default()).unwrap().settings;
    settings.hot_keys.show = ShowKeys::Plain;
    let (jobs, _works) = Jobs::new(Clock::system());
    let jobs = Arc::new(jobs);
    let tools = Arc::new(Tools {
        dialer: Arc::new(dialer(&settings, None)),
        behind: None,
        cache: Arc::clone(&cache),
        key_prefix: String::new(),
        separator: ":".to_owned(),
        version_key: None,
        names: Box::new(Names::default),
        timeout: Duration::from_secs(1),
    });
    let filler = Filler {
        cache: Arc::clone(&cache),
        clock: Clock::system(),
        judge: Box::new(|_, _, _| Err(Denied::Never)),
        names: Box::new(Names::default),
        get: by_name("get").unwrap(),
        database: 0,
    };
    let (live, warming) = (Arc::<Live>::default(), settings.warming.clone());
    let warm = Arc::new(Warm::new(
        warming,
        Arc::clone(&jobs),
        Arc::clone(&tools),
        filler,
        Arc::clone(&live),
    ));
    let orders = Arc::new(Orders {
        cache,
        sweeper,
        clock: Clock::system(),
        block,
        history: History::default(),
        snapshots: Arc::new(Snapshots::new(Snapshot::of(&settings), 0)),
    });
    let parts = Parts {
        overrides: Overrides::default(),
        cache: Arc::clone(&orders.cache),
        live: Arc::default(),
        snapshots: Arc::new(Snapshots::new(Snapshot::of(&settings), 0)),
        ring: Box::new(|| ()),
        block: stats.new_block(),
        fleet: None,
        follow: Box::new(|_| ()),
    };
    let counted = Arc::clone(stats);
    let view = View {
        stats: Arc::clone(stats),
        clock: Clock::system(),
        cache: Arc::clone(&orders.cache),
        snapshots: Arc::clone(&parts.snapshots),
        reset: Box::new(move || counted.reset(Clock::system().now())),
    };
    let reloader = Arc::new(Reloader::new(&settings, parts));
    let workshop = Workshop { jobs, tools, warm };
    let wing = Box::new(Nobody(Arc::default()));
    let snapshots = Arc::clone(&view.snapshots);
    let census = Census::new(orders.sweeper.clone(), snapshots, Clock::system());
    let (counted, cache) = (Arc::clone(stats), Arc::clone(&orders.cache));
    let chart = Arc::new(Chart::new(counted, cache, Arc::clone(&live), Clock::system()));
    Api { orders, peers: None, channel: None, live, reloader, wing, view, workshop, census, chart }
}

/// A data wing without clients, and the silence of its workers.
struct Nobody(Arc<Mutex<Vec<Duration>>>);

impl DataWing for Nobody {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn place(&self, _: &[u8]) -> Place {
        Place::default()
    }

    fn explain(&self, _: &[Vec<u8>]) -> Result<Explained, String> {
        Err("there is no data wing".to_owned())
    }

    fn counted(&self, _: &[Counter]) -> u64 {
        0
    }

    fn beats(&self) -> Vec<Duration> {
        self.0.lock().clone()
    }

    fn clients(&self) -> Vec<Client> {
        Vec::new()
    }

    fn end_client(&self, _: u64) -> bool {
        false
    }

    fn blocked_clients(&self) -> usize {
        0
    }

    fn slow_commands(&self) -> Vec<SlowCommand> {
        Vec::new()
    }

    fn forget_slow_commands(&self) -> usize {
        0
    }

    fn reset_counts(&self) {}
}

/// Runs `test` against a server, then stops it and waits until it has stopped.
async fn served(admin: Admin, test: impl AsyncFnOnce(SocketAddr)) {
    let listener = bind("admin.listen", "127.0.0.1:0", &mut Inherited::default()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        stopped.await.unwrap();
    };
    let client = async {
        test(address).await;
        stop.send(()).unwrap();
    };
    let (result, ()) = tokio::join!(serve(listener, admin, Offer::All, shutdown), client);
    result.unwrap();
}

/// Head and body of one answer.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn probes_answer_in_the_words_of_orchestrators() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let up = Arc::new(AtomicBool::new(false));
    let ready = {
        let up = Arc::clone(&up);
        move || {
            let ok = up.load(Ordering::Relaxed);
            let detail = if ok { "" } else { "\"db\" refused" }.to_owned();
            vec![
                Check { name: "upstream", ok, detail },
                Check { name: "tracking", ok: true, detail: String::new() },
            ]
        }
    };
    served(admin(&stats, ready), async |address| {
        let (head, body) = ask(address, "GET", "/livez").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        assert_eq!(body, "ok\n");

        let (head, body) = ask(address, "GET", "/readyz").await;
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let wanted = "{\"status\":\"unready\",\"checks\":{\
                      \"upstream\":{\"ok\":false,\"detail\":\"\\\"db\\\" refused\"},\
                      \"tracking\":{\"ok\":true,\"detail\":\"\"}}}\n";
        assert_eq!(body, wanted);

        up.store(true, Ordering::Relaxed);
        let (head, body) = ask(address, "GET", "/readyz").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(body, "ok\n");
        let (_, body) = ask(address, "GET", "/readyz?verbose").await;
        assert_eq!(body, "[+]upstream ok\n[+]tracking ok\nok\n");
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_silent_does_not_live() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let beats = Arc::new(Mutex::new(vec![Duration::from_secs(1), Duration::from_secs(10)]));
    let api = Api { wing: Box::new(Nobody(Arc::clone(&beats))), ..api(&stats) };
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard(), api).unwrap();
    served(admin, async |address| {
        let (head, _) = ask(address, "GET", "/livez").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        beats.lock()[1] += Duration::from_millis(1);
        let (head, body) = ask(address, "GET", "/livez").await;
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert_eq!(body, "worker 1 has been silent for over 10 s\n");
    })
    .await;
}

#[tokio::test]
async fn other_paths_and_methods_are_problems() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    served(admin(&stats, Vec::new), async |address| {
        let (head, body) = ask(address, "GET", "/").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(body.contains("\n/metrics\n"), "{body}");

        let (head, body) = ask(address, "GET", "/nothing/%22here?a=b").await;
        assert!(head.starts_with("http/1.1 404 "), "{head}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(body.contains("\"type\":\"urn:nearside:problem:not-found\""), "{body}");
        assert!(body.contains("\"instance\":\"/nothing/%22here\""), "{body}");

        let (head, body) = ask(address, "POST", "/livez").await;
        assert!(head.starts_with("http/1.1 405 "), "{head}");
        assert_eq!(head.matches("allow: get").count(), 1, "{head}");
        assert!(body.contains("\"status\":405"), "{body}");

        let (head, body) = ask(address, "HEAD", "/metrics").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(body, "");

        let (_, body) = ask(address, "GET", "/metrics").await;
        for labels in [
            "route=\"/\",method=\"GET\",code=\"200\"",
            "route=\"_other\",method=\"_other\",code=\"404\"",
            "route=\"/livez\",method=\"_other\",code=\"405\"",
            "route=\"/metrics\",method=\"HEAD\",code=\"200\"",
        ] {
            let line = format!("\nnearside_admin_requests_total{{{labels}}} 1\n");
            assert!(body.contains(&line), "no {labels} in {body}");
        }
    })
    .await;
}

#[tokio::test]
async fn metrics_say_what_was_counted() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let (one, two) = (stats.new_worker_block(), stats.new_worker_block());
    one.add(Counter::LookupHit, 2);
    two.add(Counter::LookupHit, 1);
    one.shift(Gauge::ClientsUnix, 4);
    one.command(2, false, 5);
    one.command(9, true, 6);
    one.observe(Outcome::Miss, 50_000, 2);
    one.observe(Outcome::Miss, 60_000, 1);
    one.pipeline(3);
    served(admin(&stats, Vec::new), async |address| {
        let (head, body) = ask(address, "GET", "/metrics").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        for line in [
            "nearside_cache_lookups_total{result=\"hit\"} 3",
            "nearside_cache_lookups_total{result=\"miss\"} 0",
            "nearside_worker_hits_total{worker=\"0\"} 2",
            "nearside_worker_hits_total{worker=\"1\"} 1",
            "nearside_evicted_keys_total 3",
            "nearside_expired_keys_total 5",
            "nearside_tls_certificate_expiry_timestamp_seconds{listener=\"resp\"} 1800000000",
            "nearside_connected_clients{listener=\"unix\"} 4",
            "nearside_connected_clients{listener=\"tcp\"} 0",
            "nearside_commands_total{cmd=\"config|get\",result=\"ok\"} 5",
            "nearside_commands_total{cmd=\"config|get\",result=\"error\"} 0",
            "nearside_commands_total{cmd=\"unknown\",result=\"error\"} 6",
            "nearside_upstream_requests_total{upstream=\"db:6379\",result=\"ok\"} 0",
            "nearside_command_duration_seconds_bucket{outcome=\"miss\",le=\"0.00005\"} 2",
            "nearside_command_duration_seconds_bucket{outcome=\"miss\",le=\"0.0001\"} 3",
            "nearside_command_duration_seconds_sum{outcome=\"miss\"} 0.00016",
            "nearside_command_duration_seconds_count{outcome=\"miss\"} 3",
            "nearside_command_duration_seconds_count{outcome=\"local\"} 0",
            "nearside_pipeline_commands_bucket{le=\"2\"} 0",
            "nearside_pipeline_commands_bucket{le=\"4\"} 1",
            "nearside_pipeline_commands_sum 3",
            "nearside_cache_memory_max_bytes 268435456",
            "nearside_link_synced_age_seconds{upstream=\"db:6379\"} 0.25",
            "nearside_invalidation_lag_seconds{upstream=\"db:6379\"} NaN",
            "nearside_mode_info{mode=\"bypass\"} 0",
            "nearside_mode_info{mode=\"cache\"} 1",
        ] {
            assert!(body.lines().any(|found| found == line), "no line {line} in\n{body}");
        }
        assert!(!body.contains("cmd=\"set\""), "a command never seen has no series");

        one.add(Counter::LookupHit, 1);
        let (_, body) = ask(address, "GET", "/metrics").await;
        assert!(body.contains("nearside_cache_lookups_total{result=\"hit\"} 4\n"), "{body}");
    })
    .await;
}

#[test]
fn labels_from_outside_are_bounded_and_never_go_back() {
    let names: Vec<String> = (0..300).map(|index| format!("C{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stats = Arc::new(Stats::new(names.len()));
    let me = Identity { upstream: String::new(), workers: 1 };
    let metrics = Metrics::new(Arc::clone(&stats), &names, &me, sources());
    let block = stats.new_block();
    for index in (0..300).rev() {
        block.command(index, false, 1);
        if index == 250 {
            metrics.render();
        }
    }
    let text = metrics.render();
    let series = text.lines().filter(|line| line.starts_with("nearside_commands_total{"));
    assert_eq!(series.count(), 512);
    assert!(text.contains("{cmd=\"c299\",result=\"ok\"} 1\n"), "{text}");
    assert!(text.contains("{cmd=\"_other\",result=\"ok\"} 45\n"), "{text}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_key() {
    let taken = bind("admin.listen", "127.0.0.1:0", &mut Inherited::default()).await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["admin.listen", "metrics.listen"] {
        let error = bind(key, &address, &mut Inherited::default()).await.unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error:?}");
        let words = error.to_string();
        assert!(words.starts_with(&format!("{key}: {address} is in use")), "{words}");
    }
    let mut none = Inherited::default();
    let words = bind("admin.listen", "127.0.0.1", &mut none).await.unwrap_err().to_string();
    assert!(words.starts_with("admin.listen: cannot listen on 127.0.0.1: "), "{words}");
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let stats = Arc::new(Stats::new(0));
    for (path, words) in [
        ("metrics", "does not begin with `/`"),
        ("", "does not begin with `/`"),
        ("/{path}", "has other characters"),
        ("/livez", "is already another route"),
    ] {
        let error = Admin::new(Arc::new(metrics(&stats)), path, Vec::new, guard(), api(&stats))
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_version_is_in_force_once_every_worker_has_it() {
    let flag = ("test".to_owned(), "keys.version".to_owned(), "v1".to_owned());
    let overrides = Overrides { flags: vec![flag], ..Overrides::default() };
    let settings = load(&overrides).unwrap().settings;
    let snapshots = Arc::new(Snapshots::new(Snapshot::of(&settings), 2));
    let parts = Parts {
        overrides,
        cache: Arc::new(Cache::new(1 << 20, 4)),
        live: Arc::default(),
        snapshots: Arc::clone(&snapshots),
        ring: Box::new(|| ()),
        block: Stats::new(0).new_block(),
        fleet: None,
        follow: Box::new(|_| ()),
    };
    let reloader = Arc::new(Reloader::new(&settings, parts));
    let both = |now: &str, next: Option<&str>| (now.to_owned(), next.map(str::to_owned));
    assert_eq!(reloader.versions(), both("v1", None));
    let adopting = async {
        snapshots.newer(0).await;
        snapshots.note(0, 1);
        snapshots.note_tracking(1);
        assert_eq!(reloader.versions(), both("v1", Some("v2")), "worker 1 serves under v1");
        snapshots.note(1, 1);
    };
    let (switched, ()) = tokio::join!(reloader.switch_version("v2", None, Cause::Admin), adopting);
    switched.unwrap();
    assert_eq!(reloader.versions(), both("v2", None));
}

#[test]
fn the_list_of_metrics_is_checked_in() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let block = stats.new_block();
    block.command(0, false, 1);
    for _ in 0..1_000 {
        block.lookup(1, Seen::Hit, || Look { key: b"orders:1", rule: 0, bytes: 0, age: None });
    }
    let metrics = metrics(&stats);
    metrics.traffic.note(Some("/livez"), "GET", 200, Duration::from_millis(1));
    let list = list(&metrics.render());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/metrics.txt");
    if env::var_os("UPDATE").is_some() {
        fs::write(path, &list).unwrap();
    }
    let checked_in = fs::read_to_string(path).unwrap_or_default();
    assert!(list == checked_in, "{path} differs; UPDATE=1 writes it anew. Now:\n{list}");
}

/// Label names with their values.
type Labels<'text> = Vec<(&'text str, Vec<&'text str>)>;

/// Each family with its type, its help, and its labels with the values they have here.
fn list(text: &str) -> String {
    let mut families: BTreeMap<&str, (&str, &str, Labels<'_>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.entry(name).or_default().1 = help;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name).or_default().0 = kind;
        } else if let Some((name, rest)) = line.split_once('{') {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            let family = family.strip_suffix("_sum").unwrap_or(family);
            let family = family.strip_suffix("_count").unwrap_or(family);
            let Some((_, _, labels)) = families.get_mut(family) else {
                panic!("{name} has no # TYPE");
            };
            let (pairs, _) = rest.split_once('}').unwrap();
            for pair in pairs.split(',') {
                let (label, value) = pair.split_once('=').unwrap();
                let varies = family == "nearside_build_info" || label == "upstream";
                let value = if varies { "..." } else { value.trim_matches('"') };
                if !labels.iter().any(|(known, _)| *known == label) {
                    labels.push((label, Vec::new()));
                }
                let (_, values) = labels.iter_mut().find(|(known, _)| *known == label).unwrap();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    let mut out = String::new();
    for (name, (kind, help, labels)) in families {
        writeln!(out, "{name} ({kind})\n    {help}").unwrap();
        for (label, values) in labels {
            writeln!(out, "    {label}: {}", values.join(" ")).unwrap();
        }
    }
    out
}

/// Status and body of one answer to a request with these header lines.
async fn send(address: SocketAddr, request: &str, headers: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

const CLEAR: &str = "POST /api/v1/cache/clear";
const HOST: &str = "Host: 127.0.0.1:8380";
const JSON: &str = "Content-Type: application/json; charset=utf-8";

#[tokio::test]
async fn a_browser_cannot_be_made_to_change_anything() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    served(admin(&stats, Vec::new), async |address| {
        for (headers, status, slug) in [
            (vec![HOST, JSON], 200, "removed"),
            (vec!["Host: 127.0.0.1", JSON, "Origin: http://127.0.0.1"], 200, "removed"),
            (vec![HOST, JSON, "Sec-Fetch-Site: same-origin"], 200, "removed"),
            // A name that was rebound to this address.
            (vec!["Host: evil.example:8380", JSON], 421, "host-not-allowed"),
            (vec!["Host: 127.0.0.1.evil.example", JSON], 421, "host-not-allowed"),
            (vec![JSON], 400, ""),
            (vec![HOST, JSON, "Origin: https://evil.example"], 403, "forbidden"),
            (vec![HOST, JSON, "Origin: null"], 403, "forbidden"),
            (vec![HOST, JSON, "Sec-Fetch-Site: cross-site"], 403, "forbidden"),
            // What a form can send.
            (vec![HOST, "Content-Type: text/plain"], 415, "unsupported-media-type"),
            (vec![HOST, "Content-Type: application/x-www-form-urlencoded"], 415, "unsupported"),
            (vec![HOST], 415, "unsupported-media-type"),
        ] {
            let (found, body) = send(address, CLEAR, &headers, "{}").await;
            assert!(found == status || slug.is_empty(), "{headers:?}: {found} {body}");
            assert!(body.contains(slug), "{headers:?}: {body}");
        }
        let (status, _) = send(address, "GET /api/v1/cache/clear", &[HOST, JSON], "").await;
        assert_eq!(status, 405);
    })
    .await;
}

#[tokio::test]
async fn tokens_tell_who_may_look_and_who_may_change() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let (operator, viewer) = ("o".repeat(32), "v".repeat(32));
    let access = Access {
        operator: Some(Token::new(&operator)),
        viewer: Some(Token::new(&viewer)),
        hosts: vec!["127.0.0.1".to_owned()],
    };
    assert!(!format!("{access:?}").contains("ooo"));
    let (clock, hands) = Clock::manual();
    let guard = Guard::new(access, clock);
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard, api(&stats)).unwrap();
    served(admin, async |address| {
        let ask = async |token: &str| {
            let token = format!("Authorization: {token}");
            send(address, CLEAR, &[HOST, JSON, &token], "{}").await.0
        };
        let (good, half) = (format!("Bearer {operator}"), format!("bearer {viewer}"));
        assert_eq!((ask(&good).await, ask(&half).await), (200, 403));
        assert_eq!(send(address, CLEAR, &[HOST, JSON], "{}").await.0, 401);
        assert_eq!(ask(&format!("Basic {operator}")).await, 401);
        // Whoever only forgets it is not locked out; whoever guesses is, and keeps nobody else out.
        for _ in 0..10 {
            assert_eq!(ask("Bearer guess").await, 401);
        }
        assert_eq!((ask("Bearer guess").await, ask(&good).await), (429, 200));
        assert_eq!(stats.counter(Counter::AuthFailuresAdmin), 10);
        hands.advance(Duration::from_mins(1));
        assert_eq!((ask(&good).await, ask("Bearer guess").await), (200, 401));
        // Probes and metrics are for everybody.
        assert_eq!(send(address, "GET /livez", &["Host: pod-7"], "").await.0, 200);
        assert_eq!(send(address, "GET /metrics", &["Host: pod-7"], "").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn what_a_request_has_wrong_is_named() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    served(admin(&stats, Vec::new), async |address| {
        let order = "POST /api/v1/invalidations";
        let long = format!("{{\"pattern\":\"{}\"}}", "*".repeat(1025));
        let many = format!("{{\"keys\":[{}\"a\"]}}", "\"a\",".repeat(10_000));
        for (body, status, words) in [
            ("{", 400, "bad-json"),
            ("[]", 400, "no JSON object"),
            ("{}", 422, "one of keys, namespace, pattern"),
            ("", 422, "one of keys, namespace, pattern"),
            ("{\"key\":\"a\"}", 422, "\"pointer\":\"/key\""),
            ("{\"keys\":\"a\"}", 422, "keys: invalid type: string \\\"a\\\", expected a sequence"),
            ("{\"keys\":[]}", 422, "keys has 0 keys"),
            ("{\"keys\":[\"a\",7]}", 422, "\"pointer\":\"/keys/1\""),
            ("{\"keys\":[\"a\"],\"pattern\":\"b\"}", 422, "only one of keys"),
            ("{\"namespace\":\"a:b\"}", 422, "holds a `:`"),
            ("{\"pattern\":\"\"}", 422, "invalid-pattern"),
            (
                "{\"pattern\":\"a\",\"dry_run\":1}",
                422,
                "dry_run: invalid type: integer `1`, expected a boolean",
            ),
            (&long, 422, "longer than 1024 bytes"),
            (&many, 422, "keys has 10001 keys"),
        ] {
            let (found, answer) = send(address, order, &[HOST, JSON], body).await;
            assert_eq!(found, status, "{body}: {answer}");
            assert!(answer.contains(words), "{body}: {answer}");
        }
        let huge = format!("{{\"keys\":[\"{}\"]}}", "a".repeat(1 << 20));
        assert_eq!(send(address, order, &[HOST, JSON], &huge).await.0, 413);
        let (status, body) = send(address, CLEAR, &[HOST, JSON], "{\"all\":true}").await;
        assert_eq!((status, body.contains("\"pointer\":\"/all\"")), (422, true), "{body}");
    })
    .await;
}

/// The document of a server, and the routes that it lists: method, path, whether it needs a token.
fn listed(document: &str) -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needs_token = operation.get("security").is_some();
            routes.push((method.to_uppercase(), path.replace("{id}", "1"), needs_token));
        }
    }
    routes
}

#[tokio::test]
async fn the_document_is_checked_in() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    served(admin(&stats, Vec::new), async |address| {
        let (head, document) = ask(address, "GET", "/openapi.json?pretty=1").await;
        assert!(head.contains("content-type: application/json"), "{head}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openapi.json");
        if env::var_os("UPDATE").is_some() {
            fs::write(path, &document).unwrap();
        }
        let checked_in = fs::read_to_string(path).unwrap_or_default();
        assert!(
            document == checked_in,
            "{path} differs; UPDATE=1 writes it anew. Now:\n{document}"
        );
        assert!(document.contains("\"openapi\": \"3.1."), "{document}");

        let (_, index) = ask(address, "GET", "/").await;
        for (_, path, _) in listed(&document) {
            let written = path.replace("/1", "/{id}");
            assert!(index.lines().any(|line| line == path || line == written), "{path}: {index}");
        }
    })
    .await;
}

/// No handler can forget to ask the guard: this asks all of them.
#[tokio::test]
async fn every_route_of_the_api_has_a_guard() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let (operator, viewer) = ("o".repeat(32), "v".repeat(32));
    let access = Access {
        operator: Some(Token::new(&operator)),
        viewer: Some(Token::new(&viewer)),
        hosts: vec!["127.0.0.1".to_owned()],
    };
    let guard = Guard::new(access, Clock::system());
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard, api(&stats)).unwrap();
    served(admin, async |address| {
        let (_, document) = ask(address, "GET", "/openapi.json").await;
        for (method, path, needs_token) in listed(&document) {
            assert_eq!(needs_token, path.starts_with("/api/"), "{method} {path}");
            let route = format!("{method} {path}");
            let (status, body) = send(address, &route, &[HOST, JSON], "not JSON").await;
            assert_eq!(status == 401, needs_token, "{route}: {status} {body}");
            if needs_token {
                let (status, body) = send(address, &route, &["Host: evil", JSON], "").await;
                assert_eq!(status, 421, "{route}: {body}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_has_a_number() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    served(admin(&stats, Vec::new), async |address| {
        let number = |head: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
            line.unwrap_or_else(|| panic!("none in {head}")).to_owned()
        };
        let (one, _) = ask(address, "GET", "/livez").await;
        let (two, body) = ask(address, "GET", "/nothing").await;
        assert_ne!(number(&one), number(&two));
        let told = format!("\"request_id\":\"{}\"", number(&two));
        assert!(body.contains(&told), "{body}");
        let given = "X-Request-Id: gateway-7";
        let (_, body) = send(address, "GET /nothing", &[HOST, given], "").await;
        assert!(body.contains("\"request_id\":\"gateway-7\""), "{body}");
        let long = format!("X-Request-Id: {}", "7".repeat(129));
        let (_, body) = send(address, "GET /nothing", &[HOST, &long], "").await;
        assert!(!body.contains("777"), "{body}");
    })
    .await;
}

/// Has the cache hold a key, for an hour and without a tracking link.
fn hold(cache: &Cache, key: &[u8]) {
    let hour = 3_600_000_000_000;
    let policy = Policy {
        ttl: hour,
        negative_ttl: 0,
        max_staleness: u64::MAX,
        tracked: false,
        value_max: 1 << 20,
        grace: 0,
        keep: 0,
        refresh_ahead: 0,
        whole_key: false,
        ttl_jitter: 0,
    };
    let command = by_name("get").unwrap().index;
    let hash = cache.hash(key);
    let question = Question {
        key,
        hash,
        command,
        space: Space::default(),
        proto: 0,
        extra: Extra::Written(&[]),
    };
    let token = cache.token(hash, &policy, Clock::system().now()).unwrap();
    let Filled::Stored(entry) =
        cache.fill(&question, &token, &policy, Reply::Bytes(b"$6\r\nsecret\r\n"))
    else {
        panic!("not stored");
    };
    assert!(cache.prove(hash, &entry, &token, &policy, -1));
}

#[tokio::test]
async fn what_is_cached_is_listed_part_by_part() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let api = api(&stats);
    let cache = Arc::clone(&api.orders.cache);
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard(), api).unwrap();
    served(admin, async |address| {
        let wanted: BTreeSet<String> = (0..250).map(|number| format!("a:{number}")).collect();
        for key in &wanted {
            hold(&cache, key.as_bytes());
        }
        hold(&cache, b"bin:\xff");
        let (mut listed, mut cursor, mut parts) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/api/v1/entries?prefix=a%3A&limit=100{cursor}");
            let (head, body) = ask(address, "GET", &path).await;
            assert!(head.starts_with("http/1.1 200 ") && !body.contains("secret"), "{head}{body}");
            let part: Value = serde_json::from_str(&body).unwrap();
            for entry in part["entries"].as_array().unwrap() {
                assert!(entry["size_bytes"].as_u64() > Some(0), "{entry}");
                assert!(entry["ttl_ms"].as_u64() > Some(3_000_000), "{entry}");
                assert_eq!((&entry["replies"], &entry["stale"]), (&1.into(), &false.into()));
                listed.push(entry["key"].as_str().unwrap().to_owned());
            }
            parts += 1;
            // Others come meanwhile, and one that was listed goes: where it was, the list goes on.
            (0..300).for_each(|number| hold(&cache, format!("b:{parts}:{number}").as_bytes()));
            cache.invalidate(cache.hash(listed.last().unwrap().as_bytes()));
            let Some(next) = part["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert!(parts >= 3, "{parts}");
        assert_eq!(listed.len(), wanted.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), wanted);
        let (_, body) = ask(address, "GET", "/api/v1/entries?prefix=bin&pretty=1").await;
        assert!(body.contains("\"key_base64\": \"YmluOv8=\""), "{body}");
        for (query, words) in [("cursor=7", "cursor: none"), ("limit=1001", "limit: 1001 is")] {
            let path = format!("/api/v1/entries?{query}");
            let (head, body) = ask(address, "GET", &path).await;
            assert!(head.starts_with("http/1.1 422 ") && body.contains(words), "{head}{body}");
        }
    })
    .await;
}

/// A server whose charts go by a clock of their own.
fn charted(stats: &Arc<Stats>, clock: Clock) -> (Admin, Arc<Chart>) {
    let api = api(stats);
    let (cache, live) = (Arc::clone(&api.orders.cache), Arc::clone(&api.live));
    let chart = Arc::new(Chart::new(Arc::clone(stats), cache, live, clock));
    let api = Api { chart: Arc::clone(&chart), ..api };
    let metrics = Arc::new(metrics(stats));
    (Admin::new(metrics, "/metrics", Vec::new, guard(), api).unwrap(), chart)
}

#[tokio::test]
async fn charts_are_drawn_from_columns() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let block = stats.new_block();
    let (clock, hands) = Clock::manual();
    let (admin, chart) = charted(&stats, clock);
    chart.tick();
    for _ in 0..90 {
        block.add(Counter::LookupHit, 7);
        hands.advance(Duration::from_secs(1));
        chart.tick();
    }
    served(admin, async |address| {
        let got = async |query: &str| {
            let (_, body) = ask(address, "GET", &format!("/api/v1/stats/history{query}")).await;
            serde_json::from_str::<Value>(&body).unwrap()
        };
        let all = got("").await;
        assert_eq!(all["step_seconds"], 1);
        for (name, column) in all["columns"].as_object().unwrap() {
            assert_eq!(column.as_array().unwrap().len(), 90, "{name}");
        }
        assert_eq!(all["time"].as_array().unwrap().len(), 90);
        assert_eq!(all["columns"]["hits_per_second"][89], 7.0);
        assert_eq!(all["columns"]["miss_p50_us"][0], Value::Null);
        assert_eq!(got("?window=30s").await["time"].as_array().unwrap().len(), 30);
        let minutes = got("?window=1h").await;
        assert_eq!(minutes["step_seconds"], 60);
        assert_eq!(minutes["columns"]["hits_per_second"], serde_json::json!([7.0]));
        for query in ["?window=16m&step=1s", "?window=25h", "?window=0s", "?window=1", "?step=2s"] {
            assert_eq!(got(query).await["status"], 422, "{query}");
        }
    })
    .await;
}

/// A stream, and what it has said until this text has come.
async fn listen(address: SocketAddr, end: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("Host: {address}\r\nConnection: close");
    let request = format!("GET /api/v1/stats/stream HTTP/1.1\r\n{head}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, end).await;
    (stream, told)
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "it ended behind {text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

#[tokio::test]
async fn each_second_is_told_to_whoever_listens() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let block = stats.new_block();
    let (clock, hands) = Clock::manual();
    let (admin, chart) = charted(&stats, clock);
    served(admin, async |address| {
        let second = || {
            hands.advance(Duration::from_secs(1));
            chart.tick();
        };
        chart.tick();
        let (mut stream, head) = listen(address, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
        block.add(Counter::LookupHit, 3);
        second();
        let told = read_until(&mut stream, "\n\n").await;
        assert!(told.contains("event: stats\ndata: {\"time_ms\":"), "{told}");
        assert!(told.contains("\"hits_per_second\":3.0,"), "{told}");
        // Who comes later begins with the last second.
        let mut others = Vec::new();
        for _ in 1..READERS_MAX {
            others.push(listen(address, "\"hits_per_second\":3.0,").await);
        }
        let (status, body) = send(address, "GET /api/v1/stats/stream", &[HOST], "").await;
        assert!(status == 429 && body.contains("as many readers as may be"), "{status} {body}");
        // A reader that does not read is told what its queue holds, and no more.
        second();
        let news = frame("event", &"news");
        (0..=QUEUE_MAX).for_each(|_| chart.feed.tell(&news));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.matches("event: event\ndata: \"news\"").count() <= QUEUE_MAX);
        assert!(rest.ends_with("\r\n0\r\n\r\n"), "it has an end");
        chart.feed.close();
    })
    .await;
}

#[tokio::test]
async fn a_drain_ends_the_streams() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let api = api(&stats);
    let (live, chart) = (Arc::clone(&api.live), Arc::clone(&api.chart));
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard(), api).unwrap();
    served(admin, async |address| {
        let (mut stream, _) = listen(address, "\r\n\r\n").await;
        live.set_draining();
        chart.tick();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "0\r\n\r\n");
        assert_eq!(send(address, "GET /api/v1/stats/stream", &[HOST], "").await.0, 429);
    })
    .await;
}

#[tokio::test]
async fn rules_know_what_is_held_of_their_keys() {
    let stats = Arc::new(Stats::new(COMMANDS.len()));
    let api = api(&stats);
    // By the rules of proxy.toml: `session:*` is the first.
    for key in ["session:1", "session:2", "a:1", "a:2", "a:3"] {
        hold(&api.orders.cache, key.as_bytes());
    }
    let used = api.orders.cache.figures().used_bytes;
    let metrics = Arc::new(metrics(&stats));
    let admin = Admin::new(metrics, "/metrics", Vec::new, guard(), api).unwrap();
    served(admin, async |address| {
        let (_, body) = ask(address, "GET", "/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let rules = answer["rules"].as_array().unwrap();
        let entries: Vec<_> = rules.iter().map(|rule| rule["entries"].as_u64().unwrap()).collect();
        assert_eq!(entries, [2, 0, 0, 3], "{answer}");
        let bytes: u64 = rules.iter().map(|rule| rule["bytes"].as_u64().unwrap()).sum();
        assert_eq!(bytes, used, "{answer}");
        assert_eq!(answer["counted_one_in"], 1);
    })
    .await;
}
