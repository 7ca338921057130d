//! `/metrics`: at a scrape, the blocks are summed and what others know is asked for.
//!
//! In: [`Stats`] and [`Sources`]. Out: the Prometheus text format. Counters and gauges go
//! through `metrics-exporter-prometheus`, whose recorder is not installed: nothing in the house
//! uses the `metrics` macros, so series are registered here, once, and set at each scrape.
//!
//! Invariant: every series whose labels are known in advance is there from the start, with 0.
//! Labels with values from outside (commands, namespaces) are bounded; what is beyond the bound
//! is one series, `_other`. No key, no client's address, no user's name is ever a label.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use super::state::State;
use super::traffic::Traffic;
use super::warming::Warming;
use super::{histograms, process, text, warming};
use crate::cache;
use crate::control::warm::WarmFigures;
use crate::stats::counters::{
    COMMAND_SECONDS, COMMANDS, Counter, Family, Gauge, HOT_KEYS, NAMESPACES, PER_UPSTREAM,
    WORKER_HITS,
};
use crate::stats::histogram::Bounds;
use crate::stats::{OTHER, Stats};

/// Commands with series of their own: 256 names, with two results each, at most 512 series.
const COMMANDS_MAX: usize = 255;

/// The values of `nearside_mode_info`.
const MODES: [&str; 3] = ["cache", "observe", "bypass"];

const KEY_VERSION: Family = Family {
    name: "nearside_key_version_info",
    help: "Always 1; the key version prefix in force.",
};

/// Counted by the store itself.
const EVICTED: Family = Family {
    name: "nearside_evicted_keys_total",
    help: "Entries evicted to stay within the limit.",
};

/// Counted by the cache itself, beside the table's rows of this name.
const FLUSHES: Family = Counter::FlushesAdmin.row().family;

/// Counted by the cache itself, beside the table's rows of this name.
const INVALIDATED: Family = Counter::InvalidatedKeysTracking.row().family;

/// Counted by the store itself.
const EXPIRED: Family = Family {
    name: "nearside_expired_keys_total",
    help: "Entries removed because their TTL ended.",
};

const METADATA: Metadata<'static> = Metadata::new("nearside", Level::INFO, None);

/// Something that is asked for at each scrape.
pub type Source<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The upstream node as `host:port` or `embedded`; without user and password.
    pub upstream: String,
    /// Worker threads.
    pub workers: usize,
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheFigures {
    /// Entries held.
    pub entries: u64,
    /// Accounted bytes of them.
    pub used_bytes: u64,
    /// The limit.
    pub max_bytes: u64,
    /// Keys evicted to stay within the limit, since start.
    pub evicted: u64,
    /// Keys dropped because their time had come, since start.
    pub expired: u64,
    /// Bans that are not settled.
    pub bans: u64,
    /// Bans forgotten in a flood.
    pub forgotten: u64,
    /// Keys removed by each [`cache::Source`], since start.
    pub removed: [u64; cache::Source::ALL.len()],
}

/// How the tracking link fares.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackingFigures {
    /// Connected, and its last round was answered.
    pub up: bool,
    /// How long ago the last confirmed round began; `None` if there was none.
    pub synced_age: Option<Duration>,
    /// How long the last confirmed round took; `None` if there was none.
    pub lag: Option<Duration>,
}

/// A server whose messages are heard.
pub struct ChannelSource {
    /// `upstream`, or the source's name.
    pub source: String,
    /// The server as `host:port`; without user and password.
    pub upstream: String,
    /// Whether it is heard now.
    pub is_up: Source<bool>,
}

impl fmt::Debug for ChannelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSource").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Values that live elsewhere. They are called on the thread that serves the scrape, and may
/// lock, but not wait.
pub struct Sources {
    /// What the cache holds.
    pub cache: Source<CacheFigures>,
    /// How the tracking link fares; `None` if tracking is off, then its series are absent.
    pub tracking: Option<Source<TrackingFigures>>,
    /// Where messages are heard; none, then their series are absent.
    pub channels: Vec<ChannelSource>,
    /// Whether the upstream node is usable.
    pub upstream_up: Source<bool>,
    /// Whether operators want links to it.
    pub upstream_enabled: Source<bool>,
    /// True while something stands in for it.
    pub fallback_active: Source<bool>,
    /// What was warmed up.
    pub warm: Source<WarmFigures>,
    /// The mode in force: one of [`MODES`].
    pub mode: Source<&'static str>,
    /// The key version in force, empty for none.
    pub key_version: Source<String>,
    /// By what durations are told.
    pub bounds: Source<Bounds>,
    /// What is so at the moment, and is written by itself.
    pub state: State,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// The exporter.
#[derive(Debug)]
pub struct Metrics {
    stats: Arc<Stats>,
    sources: Sources,
    /// The upstream node, as series name it.
    upstream: String,
    handle: PrometheusHandle,
    series: Mutex<Series>,
    /// What was asked of the admin port.
    pub traffic: Traffic,
}

impl Metrics {
    /// An exporter of `stats`. `commands` are the names of the command table in its order.
    pub fn new(stats: Arc<Stats>, commands: &[&str], me: &Identity, sources: Sources) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let max = stats.namespaces_max();
        let series = Series::new(Registrar(recorder), commands, max, me, &sources);
        let upstream = me.upstream.clone();
        let (series, traffic) = (Mutex::new(series), Traffic::default());
        Self { stats, sources, upstream, handle, series, traffic }
    }

    /// Everything, as of now.
    pub fn render(&self) -> String {
        self.series.lock().publish(&self.stats, &self.sources);
        let mut out = text::sorted(&self.handle.render());
        let bounds = (self.sources.bounds)();
        histograms::write(&self.stats, &bounds, &self.upstream, &mut out);
        self.command_seconds(&mut out);
        self.traffic.write(&bounds, &mut out);
        self.key_version(&mut out);
        warming::write(&mut out, &(self.sources.warm)());
        self.sources.state.write(&self.upstream, &mut out);
        process::write(&mut out);
        out
    }

    /// Of the commands that have series of their own, and of all others together. Written here
    /// because the recorder's counters are whole numbers.
    fn command_seconds(&self, out: &mut String) {
        text::family(out, COMMAND_SECONDS, "counter");
        let series = self.series.lock();
        let mut others = 0;
        let mut row = |cmd: &str, nanos: u64| {
            let seconds = Duration::from_nanos(nanos).as_secs_f64();
            text::line(out, &format!("{}{{cmd=\"{cmd}\"}} {seconds}", COMMAND_SECONDS.name));
        };
        for (name, totals) in rows(&series.names).zip(self.stats.commands()) {
            if series.commands.named.contains_key(name) {
                row(name, totals.nanos);
            } else {
                others += totals.nanos;
            }
        }
        drop(series);
        row(OTHER, others);
    }

    /// Written here because the recorder would keep a series for every version there ever was.
    fn key_version(&self, out: &mut String) {
        text::family(out, KEY_VERSION, "gauge");
        let version = (self.sources.key_version)();
        text::line(out, &format!("{}{{version=\"{version}\"}} 1", KEY_VERSION.name));
    }
}

/// Names series to the recorder.
#[derive(Debug)]
pub(super) struct Registrar(PrometheusRecorder);

impl Registrar {
    fn key(family: Family, labels: &[(&'static str, &str)]) -> Key {
        let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(family.name, labels.collect::<Vec<_>>())
    }

    pub(super) fn counter(
        &self,
        family: Family,
        labels: &[(&'static str, &str)],
    ) -> metrics::Counter {
        self.0.describe_counter(KeyName::from_const_str(family.name), None, family.help.into());
        self.0.register_counter(&Self::key(family, labels), &METADATA)
    }

    fn gauge(&self, family: Family, labels: &[(&'static str, &str)]) -> metrics::Gauge {
        self.0.describe_gauge(KeyName::from_const_str(family.name), None, family.help.into());
        self.0.register_gauge(&Self::key(family, labels), &METADATA)
    }

    /// A gauge that is asked for elsewhere, by its name and help.
    pub(super) fn figure(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> metrics::Gauge {
        self.gauge(Family { name, help }, labels)
    }
}

/// The handles of all series.
#[derive(Debug)]
struct Series {
    registrar: Registrar,
    counters: Vec<(Counter, metrics::Counter)>,
    gauges: Vec<(Gauge, metrics::Gauge)>,
    figures: Figures,
    worker_hits: Vec<metrics::Counter>,
    hot_keys: metrics::Gauge,
    names: Vec<String>,
    commands: Bounded,
    namespaces: Bounded,
}

impl Series {
    fn new(
        registrar: Registrar,
        commands: &[&str],
        namespaces: usize,
        me: &Identity,
        sources: &Sources,
    ) -> Self {
        let labels = |labels: &'static [(&'static str, &'static str)]| {
            let value = |value| if value == PER_UPSTREAM { me.upstream.as_str() } else { value };
            labels.iter().map(|(name, given)| (*name, value(*given))).collect::<Vec<_>>()
        };
        let counter = |counter: &Counter| {
            let row = counter.row();
            (*counter, registrar.counter(row.family, &labels(row.labels)))
        };
        let gauge = |gauge: &Gauge| {
            let row = gauge.row();
            (*gauge, registrar.gauge(row.family, &labels(row.labels)))
        };
        let worker =
            |number: usize| registrar.counter(WORKER_HITS, &[("worker", &number.to_string())]);
        // `redis_exporter`'s spelling: lower case, `config|get` for subcommands.
        let name = |name: &&str| name.to_ascii_lowercase().replace(' ', "|");
        Self {
            counters: Counter::ALL.iter().map(counter).collect(),
            gauges: Gauge::ALL.iter().map(gauge).collect(),
            figures: Figures::new(&registrar, me, sources),
            hot_keys: registrar.gauge(HOT_KEYS, &[]),
            worker_hits: (0..me.workers).map(worker).collect(),
            names: commands.iter().map(name).collect(),
            commands: Bounded::new(COMMANDS, "cmd", ["ok", "error"], COMMANDS_MAX),
            namespaces: Bounded::new(NAMESPACES, "namespace", ["hit", "miss"], namespaces),
            registrar,
        }
    }

    fn publish(&mut self, stats: &Stats, sources: &Sources) {
        for (counter, handle) in &self.counters {
            handle.absolute(stats.counter(*counter));
        }
        for (gauge, handle) in &self.gauges {
            handle.set(float(stats.gauge(*gauge)));
        }
        for (handle, hits) in self.worker_hits.iter().zip(stats.worker_hits()) {
            handle.absolute(hits);
        }
        self.hot_keys.set(float(stats.tracked_keys()));
        self.figures.publish(sources);
        self.figures.warming.publish(&(sources.warm)());
        let commands = stats.commands().into_iter().map(|totals| [totals.ok, totals.error]);
        let seen: Vec<_> =
            rows(&self.names).zip(commands).filter(|(_, counts)| *counts != [0, 0]).collect();
        self.commands.publish(&self.registrar, &seen);
        let namespaces = stats.namespaces();
        let asked =
            namespaces.iter().map(|(name, [hits, misses, ..])| (name.as_str(), [*hits, *misses]));
        let seen: Vec<_> = asked.collect();
        self.namespaces.publish(&self.registrar, &seen);
    }
}

/// The names of the rows that commands are counted in.
fn rows(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).chain(std::iter::once("unknown"))
}

/// A family whose label has values from outside: the first `limit` seen have series of their
/// own for good, so that no series ever goes back; all others are summed in `_other`.
#[derive(Debug)]
struct Bounded {
    family: Family,
    label: &'static str,
    results: [&'static str; 2],
    limit: usize,
    named: HashMap<String, [metrics::Counter; 2]>,
}

impl Bounded {
    fn new(family: Family, label: &'static str, results: [&'static str; 2], limit: usize) -> Self {
        Self { family, label, results, limit, named: HashMap::new() }
    }

    fn publish(&mut self, registrar: &Registrar, seen: &[(&str, [u64; 2])]) {
        let register = |name: &str| {
            self.results.map(|result| {
                registrar.counter(self.family, &[(self.label, name), ("result", result)])
            })
        };
        let mut others = [0, 0];
        for &(name, [first, second]) in seen {
            if name != OTHER && !self.named.contains_key(name) && self.named.len() < self.limit {
                self.named.insert(name.to_owned(), register(name));
            }
            if let Some([a, b]) = self.named.get(name) {
                a.absolute(first);
                b.absolute(second);
            } else {
                others = [others[0] + first, others[1] + second];
            }
        }
        let [a, b] = register(OTHER);
        a.absolute(others[0]);
        b.absolute(others[1]);
    }
}

/// The gauges of [`Sources`].
#[derive(Debug)]
struct Figures {
    entries: metrics::Gauge,
    used_bytes: metrics::Gauge,
    max_bytes: metrics::Gauge,
    evicted: metrics::Counter,
    expired: metrics::Counter,
    bans: metrics::Gauge,
    forgotten: metrics::Counter,
    removed: [metrics::Counter; cache::Source::ALL.len()],
    upstream_up: metrics::Gauge,
    upstream_enabled: metrics::Gauge,
    fallback_active: metrics::Gauge,
    modes: [(&'static str, metrics::Gauge); MODES.len()],
    tracking: Option<Tracking>,
    channels: Vec<metrics::Gauge>,
    warming: Warming,
}

#[derive(Debug)]
struct Tracking {
    up: metrics::Gauge,
    synced_age: metrics::Gauge,
    lag: metrics::Gauge,
}

impl Figures {
    fn new(registrar: &Registrar, me: &Identity, sources: &Sources) -> Self {
        constants(registrar, me);
        let mode = |mode| {
            let help = "1 for the mode in force, 0 for the others.";
            (mode, registrar.figure("nearside_mode_info", help, &[("mode", mode)]))
        };
        let upstream = &[("upstream", me.upstream.as_str())];
        Self {
            entries: registrar.figure("nearside_cache_entries", "Entries held.", &[]),
            used_bytes: registrar.figure(
                "nearside_cache_memory_used_bytes",
                "Accounted bytes of entries (keys, values, overhead).",
                &[],
            ),
            max_bytes: registrar.figure(
                "nearside_cache_memory_max_bytes",
                "Configured limit.",
                &[],
            ),
            evicted: registrar.counter(EVICTED, &[]),
            expired: registrar.counter(EXPIRED, &[]),
            bans: registrar.figure(
                "nearside_cache_bans",
                "Namespaces and patterns that entries are still held against.",
                &[],
            ),
            forgotten: registrar.counter(FLUSHES, &[("reason", "overflow")]),
            removed: cache::Source::ALL
                .map(|source| registrar.counter(INVALIDATED, &[("source", source.as_str())])),
            upstream_up: registrar.figure(
                "nearside_upstream_up",
                "1 if the upstream node is usable.",
                upstream,
            ),
            upstream_enabled: registrar.figure(
                "nearside_upstream_enabled",
                "0 while an operator has the upstream node disabled.",
                upstream,
            ),
            fallback_active: registrar.figure(
                "nearside_fallback_active",
                "1 while clients are answered without upstream, which is down.",
                &[],
            ),
            modes: MODES.map(mode),
            tracking: sources.tracking.is_some().then(|| Tracking::new(registrar, &me.upstream)),
            warming: Warming::new(registrar),
            channels: sources.channels.iter().map(|source| source.register(registrar)).collect(),
        }
    }

    fn publish(&self, sources: &Sources) {
        let cache = (sources.cache)();
        self.entries.set(float(cache.entries));
        self.used_bytes.set(float(cache.used_bytes));
        self.max_bytes.set(float(cache.max_bytes));
        self.evicted.absolute(cache.evicted);
        self.expired.absolute(cache.expired);
        self.bans.set(float(cache.bans));
        self.forgotten.absolute(cache.forgotten);
        for (counter, removed) in self.removed.iter().zip(cache.removed) {
            counter.absolute(removed);
        }
        self.upstream_up.set(f64::from((sources.upstream_up)()));
        self.upstream_enabled.set(f64::from((sources.upstream_enabled)()));
        self.fallback_active.set(f64::from((sources.fallback_active)()));
        let in_force = (sources.mode)();
        for (mode, gauge) in &self.modes {
            gauge.set(f64::from(*mode == in_force));
        }
        for (gauge, channel) in self.channels.iter().zip(&sources.channels) {
            gauge.set(f64::from((channel.is_up)()));
        }
        if let (Some(gauges), Some(source)) = (&self.tracking, &sources.tracking) {
            let tracking = source();
            // Nobody wants it in bypass: no alert should ring.
            let is_wanted = tracking.up || in_force != MODES[2];
            gauges.up.set(if is_wanted { f64::from(tracking.up) } else { f64::NAN });
            // Never synced is infinitely long ago; a round that never was has no length.
            gauges
                .synced_age
                .set(tracking.synced_age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
            gauges.lag.set(tracking.lag.map_or(f64::NAN, |lag| lag.as_secs_f64()));
        }
    }
}

impl Tracking {
    fn new(registrar: &Registrar, upstream: &str) -> Self {
        Self {
            up: channel_up(registrar, &[("channel", "tracking"), ("upstream", upstream)]),
            synced_age: registrar.figure(
                "nearside_link_synced_age_seconds",
                "Time since the last confirmed barrier began.",
                &[("upstream", upstream)],
            ),
            lag: registrar.figure(
                "nearside_invalidation_lag_seconds",
                "Round trip of the last barrier.",
                &[("upstream", upstream)],
            ),
        }
    }
}

impl ChannelSource {
    fn register(&self, registrar: &Registrar) -> metrics::Gauge {
        let (upstream, source) = (self.upstream.as_str(), self.source.as_str());
        channel_up(registrar, &[("channel", "pubsub"), ("upstream", upstream), ("source", source)])
    }
}

fn channel_up(registrar: &Registrar, labels: &[(&'static str, &str)]) -> metrics::Gauge {
    registrar.figure(
        "nearside_invalidation_channel_up",
        "1 if the invalidation channel is connected and answered its last ping.",
        labels,
    )
}

/// Registers what is set once.
fn constants(registrar: &Registrar, me: &Identity) {
    let build = &[
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("BUILD_COMMIT").unwrap_or("unknown")),
        ("rustc", option_env!("BUILD_RUSTC").unwrap_or("unknown")),
    ];
    let help = "Always 1; build identity in labels.";
    registrar.figure("nearside_build_info", help, build).set(1.0);
    let workers = registrar.figure("nearside_runtime_workers", "Runtime worker threads.", &[]);
    workers.set(float(me.workers as u64));
}

/// A count as Prometheus has it. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only f64")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
