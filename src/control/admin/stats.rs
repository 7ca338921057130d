//! `/api/v1`: what was counted. JSON out; nothing here changes anything but where "since the last
//! reset" begins, which the metrics do not know.

use super::Admin;
use super::advice::{Advice, Known, advice as advise};
use super::ask::{Operator, Params, Viewer, limited};
use super::door::Json;
use super::figures::{Figures, Memory, Statistics, Tallied, Windows};
use super::figures::{counters, float, per_second, ratio, rounded};
use super::problem::{Problem, Refused, Unasked, WrongMedia};
use super::shown::KeyName;
use crate::cache::Cache;
use crate::config::{Level, ShowKeys};
use crate::control::census::{Counted, Held};
use crate::control::observe::metrics::Source;
use crate::keys::namespace;
use crate::rules::{Rule, Rules};
use crate::snapshot::Snapshots;
use crate::stats::history::{Span, Window};
use crate::stats::{self, Counter, HotKey, KEY_KEPT, OTHER, Stats, Tally};
use crate::units::clock::Clock;
use axum::extract::State;
use axum::http::StatusCode;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Keys of one answer unless asked otherwise.
const LIMIT: usize = 20;

/// A key whose misses are this share of its reads is hardly served from here.
const OFTEN_MISSED: f64 = 0.5;

/// Shares of the memory of which the curve tells.
const TIMES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// What the answers are made from.
pub struct View {
    /// The counters.
    pub stats: Arc<Stats>,
    /// Time.
    pub clock: Clock,
    /// What is held.
    pub cache: Arc<Cache>,
    /// The rules in force.
    pub snapshots: Arc<Snapshots>,
    /// What was counted before is forgotten, but by the metrics.
    pub reset: Source<()>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(stats))
        .routes(routes!(reset))
        .routes(routes!(namespaces))
        .routes(routes!(hot_keys))
        .routes(routes!(curve))
        .routes(routes!(advice))
}

/// Since when.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub(super) enum Since {
    /// The start.
    #[serde(rename = "start")]
    Start,
    /// The last reset.
    #[default]
    #[serde(rename = "reset")]
    Reset,
    /// Ten seconds ago, right to ten seconds.
    #[serde(rename = "10s")]
    TenSeconds,
    /// A minute ago.
    #[serde(rename = "1m")]
    Minute,
    /// Five minutes ago.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// Ten minutes ago.
    #[serde(rename = "10m")]
    TenMinutes,
}

impl Since {
    const fn span(self) -> Span {
        match self {
            Self::Start => Span::Start,
            Self::Reset => Span::Reset,
            Self::TenSeconds => Span::Last(Duration::from_secs(10)),
            Self::Minute => Span::Last(Duration::from_mins(1)),
            Self::FiveMinutes => Span::Last(Duration::from_mins(5)),
            Self::TenMinutes => Span::Last(Duration::from_mins(10)),
        }
    }
}

/// What is counted together.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct During {
    /// Since when.
    #[serde(default)]
    #[param(inline, default = "reset")]
    pub(super) window: Since,
}

/// By what keys are ranked.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// Lookups.
    #[default]
    Reads,
    /// Bytes of replies.
    Bytes,
    /// Lookups that the cache did not answer.
    Misses,
}

impl From<By> for stats::By {
    fn from(by: By) -> Self {
        match by {
            By::Reads => Self::Reads,
            By::Bytes => Self::Bytes,
            By::Misses => Self::Misses,
        }
    }
}

/// Which keys.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Ranked {
    /// By what they are ranked.
    #[serde(default)]
    #[param(inline, default = "reads")]
    by: By,
    /// How many at most.
    #[serde(default = "keys_shown")]
    #[param(default = 20, minimum = 1, maximum = 1000)]
    limit: usize,
}

const fn keys_shown() -> usize {
    LIMIT
}

/// What was counted.
///
/// `windows`: since the start, since the reset, and of late; latencies in microseconds by outcome
/// (hits are not timed). `counters`: every counter of `/metrics` by its name there.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Statistics), Refused)
)]
async fn stats(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Statistics> {
    Json(admin.api.view.stats())
}

/// Begin to count anew.
///
/// In what is told since the reset, here and in INFO; the metrics never go back.
#[utoipa::path(
    post,
    path = "/api/v1/stats/reset",
    tag = "statistics",
    security(("token" = ["operator"])),
    responses((status = 204), Refused, WrongMedia)
)]
async fn reset(State(admin): State<Arc<Admin>>, who: Operator) -> StatusCode {
    (admin.api.view.reset)();
    who.audit("reset_stats", "", None);
    StatusCode::NO_CONTENT
}

/// Reads by namespace.
#[derive(Debug, Serialize, ToSchema)]
struct ByNamespace {
    window: Since,
    /// Its length.
    seconds: f64,
    namespaces: Vec<NamespaceReads>,
}

/// Reads of one namespace.
#[derive(Debug, Serialize, ToSchema)]
struct NamespaceReads {
    #[serde(flatten)]
    reads: Tallied,
    /// Of replies.
    bytes_per_second: Option<f64>,
    /// Keys that may be served now.
    entries: u64,
    /// Accounted bytes of their replies.
    bytes: u64,
    /// Its name.
    namespace: String,
}

impl NamespaceReads {
    fn of(namespace: String, counts: Tally, held: Held, length: Duration) -> Self {
        let [.., bytes] = counts;
        let bytes_per_second = per_second(bytes, length);
        let Held { entries, bytes } = held;
        Self { reads: Tallied::of(counts, length), bytes_per_second, entries, bytes, namespace }
    }
}

/// Reads by namespace.
///
/// Reads are estimated from one in `hotkeys.sample`, the most read first; `_root`: keys without
/// one, `_other`: all that `[metrics]` does not tell apart. What is held is counted when it is
/// asked for, and told again for five seconds.
#[utoipa::path(
    get,
    path = "/api/v1/namespaces",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(During),
    responses((status = 200, body = ByNamespace), Refused, Unasked)
)]
async fn namespaces(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(During { window }): Params<During>,
) -> Json<ByNamespace> {
    let held = admin.api.census.take().await;
    Json(admin.api.view.namespaces(window, &held))
}

/// The keys that are asked for most.
#[derive(Debug, Serialize, ToSchema)]
struct Hottest {
    by: By,
    keys: Vec<Hot>,
}

/// One of them. Of `key`, `key_base64` and `key_hash` it has one.
#[derive(Debug, Serialize, ToSchema)]
struct Hot {
    /// Its hash, unless `hotkeys.show_keys` is "plain".
    #[serde(flatten)]
    name: KeyName,
    /// Its length, where the key is longer than what is told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_cut_at: Option<usize>,
    namespace: String,
    /// By what it is ranked.
    rate_per_second: f64,
    /// Of all reads, bytes or misses.
    share: f64,
    /// Null: it is not among those most read.
    reads_per_second: Option<f64>,
    /// Null: it is not among those with the most bytes.
    bytes_per_second: Option<f64>,
    misses_per_second: f64,
    /// True if something of it is held.
    cached: bool,
    /// Its place in proxy.toml, from 0; behind the last: `[cache]`.
    rule: u16,
    /// What could be done for it.
    hint: Option<Hint>,
}

/// What could be done for a hot key.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Hint {
    /// No rule lets it be cached.
    NoRule,
    /// A rule keeps it out.
    CacheIt,
    /// Its replies are above `max_value_size`.
    TooLarge,
    /// It is missed about as often as its time is over.
    TtlTooShort,
    /// It is missed more often than that.
    WriteHeavy,
}

/// The keys that are asked for most, of late.
///
/// `key_hash` beside the namespace, unless `hotkeys.show_keys` is "plain": then `key`, or
/// `key_base64` where it is no text.
#[utoipa::path(
    get,
    path = "/api/v1/hotkeys",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(Ranked),
    responses((status = 200, body = Hottest), Refused, Unasked)
)]
async fn hot_keys(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(Ranked { by, limit }): Params<Ranked>,
) -> Result<Json<Hottest>, Problem> {
    Ok(Json(admin.api.view.hot_keys(by, limited(limit)?)))
}

/// The hit ratio by the size of the cache.
#[derive(Debug, Serialize, ToSchema)]
struct Curve {
    /// `cache.max_memory`.
    memory_bytes: u64,
    /// Accounted bytes of a key, on average; null: none is held.
    entry_bytes: Option<f64>,
    points: [Point; 5],
}

/// One size.
#[derive(Debug, Serialize, ToSchema)]
struct Point {
    /// Times `cache.max_memory`.
    times: f64,
    memory_bytes: f64,
    /// As many as fit.
    entries: Option<f64>,
    /// Null: too little is known.
    hit_ratio: Option<f64>,
}

/// The hit ratio that other sizes of the cache would have.
///
/// For 1/4, 1/2, 1, 2 and 4 times `cache.max_memory`: of an LRU whose entries only eviction ends,
/// so an upper bound.
#[utoipa::path(
    get,
    path = "/api/v1/curve",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Curve), Refused)
)]
async fn curve(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Curve> {
    Json(admin.api.view.curve())
}

/// What to do about each namespace.
#[derive(Debug, Serialize, ToSchema)]
struct Advised {
    /// Since the reset.
    seconds: f64,
    namespaces: Vec<Advice>,
}

/// What the cache spares upstream, or would, by namespace, and which rule to write.
///
/// Since the reset. What is expected of keys that a rule keeps out is an upper bound: writes past
/// nearside are not known.
#[utoipa::path(
    get,
    path = "/api/v1/advice",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Advised), Refused)
)]
async fn advice(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Advised> {
    Json(admin.api.view.advice())
}

impl View {
    /// What GET /stats answers.
    fn stats(&self) -> Statistics {
        let window = |since| self.window(since);
        let (start, reset) = (window(Since::Start), window(Since::Reset));
        let (minute, five) = (window(Since::Minute), window(Since::FiveMinutes));
        let figures = self.cache.figures();
        Statistics {
            memory: Memory {
                entries: figures.entries,
                used_bytes: figures.used_bytes,
                max_bytes: figures.max_bytes,
            },
            windows: Windows {
                start: Figures::of(&start),
                reset: Figures::of(&reset),
                ten_seconds: Figures::of(&window(Since::TenSeconds)),
                minute: Figures::of(&minute),
                five_minutes: Figures::of(&five),
                ten_minutes: Figures::of(&window(Since::TenMinutes)),
            },
            counters: counters(&start, &reset, &minute, &five),
        }
    }

    /// What GET /namespaces answers: the most read first, and behind them what is only held, with
    /// a row of its own while there is room.
    fn namespaces(&self, since: Since, held: &Counted) -> ByNamespace {
        let Window { length, counted } = self.window(since);
        let mut left: HashMap<&str, Held> =
            held.namespaces.iter().map(|(name, held)| (&**name, *held)).collect();
        let read = counted.namespaces.into_iter().map(|(name, counts)| {
            let held = left.remove(&*name).unwrap_or_default();
            NamespaceReads::of(name, counts, held, length)
        });
        let mut namespaces: Vec<_> = read.collect();
        for (name, held) in held.namespaces.iter().filter(|(name, _)| left.contains_key(&**name)) {
            if namespaces.len() <= self.stats.namespaces_max() {
                namespaces.push(NamespaceReads::of(name.clone(), [0; 4], *held, length));
            } else if let Some(other) = namespaces.iter_mut().find(|row| row.namespace == OTHER) {
                other.entries += held.entries;
                other.bytes += held.bytes;
            }
        }
        ByNamespace { window: since, seconds: length.as_secs_f64(), namespaces }
    }

    /// What GET /hotkeys answers.
    fn hot_keys(&self, by: By, limit: usize) -> Hottest {
        let ranks = stats::By::ALL.map(|by| self.stats.hottest(by, usize::MAX));
        let snapshot = self.snapshots.newest();
        let hottest = ranks.get(stats::By::from(by) as usize).map(Vec::as_slice);
        let hottest = hottest.unwrap_or_default().iter().take(limit);
        Hottest { by, keys: hottest.map(|hot| self.hot(hot, &ranks, &snapshot.rules)).collect() }
    }

    fn hot(&self, hot: &HotKey, ranks: &[Vec<HotKey>; 3], rules: &Rules) -> Hot {
        let rule = rules.find(&hot.key);
        let is_whole = hot.key.len() == usize::try_from(hot.length).unwrap_or(0);
        let rate = |by: stats::By| {
            let found = ranks.get(by as usize)?.iter().find(|other| other.hash == hot.hash)?;
            Some(found.rate)
        };
        let [reads, bytes, misses] = stats::By::ALL.map(rate);
        let misses = misses.unwrap_or(0.0);
        let is_other = usize::from(rule.index) + 1 == rules.all().count();
        Hot {
            name: self.name(hot),
            key_cut_at: (!is_whole).then_some(KEY_KEPT),
            namespace: String::from_utf8_lossy(namespace(&hot.key)).into_owned(),
            rate_per_second: rounded(hot.rate),
            share: rounded(hot.share),
            reads_per_second: reads.map(rounded),
            bytes_per_second: bytes.map(rounded),
            misses_per_second: rounded(misses),
            cached: is_whole && self.cache.holds(hot.hash, &hot.key, self.clock.now()),
            rule: rule.index,
            hint: reads.and_then(|reads| {
                hint(rule, is_other, reads, bytes.unwrap_or(0.0) / reads, misses)
            }),
        }
    }

    fn name(&self, hot: &HotKey) -> KeyName {
        match self.snapshots.newest().settings.hot_keys.show {
            ShowKeys::Hash => KeyName::hashed(format!("{:016x}", hot.hash)),
            ShowKeys::Plain => KeyName::plain(&hot.key),
        }
    }

    /// What GET /curve answers.
    fn curve(&self) -> Curve {
        let figures = self.cache.figures();
        let each = ratio(figures.used_bytes, figures.entries);
        let points = TIMES.map(|times| {
            let memory = float(figures.max_bytes) * times;
            let entries = each.map(|each| memory / each);
            let hit_ratio = entries.and_then(|entries| self.stats.hit_ratio_of(entries));
            Point {
                times,
                memory_bytes: memory.round(),
                entries: entries.map(f64::round),
                hit_ratio: hit_ratio.map(rounded),
            }
        });
        Curve { memory_bytes: figures.max_bytes, entry_bytes: each.map(rounded), points }
    }

    /// What GET /advice answers: the most read first.
    fn advice(&self) -> Advised {
        let Window { length, counted } = self.window(Since::Reset);
        let expected = self.stats.expected();
        let misses = counted.get(Counter::LookupMiss);
        let stored = ratio(counted.get(Counter::StoreStored), misses).unwrap_or(1.0).min(1.0);
        let known = counted.namespaces.iter().filter(|(_, counts)| *counts != [0; 4]);
        let rows = known.map(|(name, counts)| {
            let expected = expected.iter().find(|expected| expected.namespace == *name);
            advise(&Known { name, counts: *counts, length, expected, stored })
        });
        Advised { seconds: length.as_secs_f64(), namespaces: rows.collect() }
    }

    pub(super) fn window(&self, since: Since) -> Window {
        self.stats.window(since.span(), self.clock.now())
    }
}

/// What could be done for a hot key; the numbers are of late, per second.
fn hint(rule: &Rule, is_other: bool, reads: f64, bytes_each: f64, misses: f64) -> Option<Hint> {
    if rule.level == Level::Bypass {
        return Some(if is_other { Hint::NoRule } else { Hint::CacheIt });
    }
    if misses < OFTEN_MISSED * reads {
        return None;
    }
    if bytes_each > float(rule.max_value_size as u64) {
        return Some(Hint::TooLarge);
    }
    // Missed about as often as its time is over.
    let is_expiring = misses <= 2.0 / Duration::from_nanos(rule.ttl_ns).as_secs_f64();
    Some(if is_expiring { Hint::TtlTooShort } else { Hint::WriteHeavy })
}
