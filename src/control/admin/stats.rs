//! `/api/v1`: what was counted. JSON out; nothing here changes anything but where "since the last
//! reset" begins, which the metrics do not know.

use super::Admin;
use super::advice::{Known, advice as advise};
use super::ask::{Operator, Viewer};
use super::door::Json;
use super::problem::{Kind, Problem, Refused, Unasked, WrongMedia};
use crate::cache::Cache;
use crate::config::{Level, ShowKeys};
use crate::control::observe::metrics::Source;
use crate::keys::namespace;
use crate::rules::{Rule, Rules};
use crate::snapshot::Snapshots;
use crate::stats::history::{Span, Totals, Window};
use crate::stats::{By, Counter, HotKey, KEY_KEPT, Outcome, Seen, Snapshot, Stats, Tally};
use crate::units::clock::Clock;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Keys of one answer: at most, and unless asked otherwise.
const LIMIT_MAX: usize = 1000;
const LIMIT: usize = 20;

/// A key whose misses are this share of its reads is hardly served from here.
const OFTEN_MISSED: f64 = 0.5;

/// Shares of the memory of which the curve tells.
const TIMES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// The windows by their names.
const WINDOWS: [(&str, Span); 4] = [
    ("start", Span::Start),
    ("reset", Span::Reset),
    ("1m", Span::Last(Duration::from_mins(1))),
    ("5m", Span::Last(Duration::from_mins(5))),
];

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
        .routes(routes!(rules))
        .routes(routes!(hot_keys))
        .routes(routes!(curve))
        .routes(routes!(advice))
}

/// What was counted.
///
/// `windows`: since the start, since the reset, and of one and five minutes, right to ten seconds;
/// latencies in microseconds by outcome (hits are not timed). `counters`: every counter of
/// `/metrics` by its name there.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Object), Refused)
)]
async fn stats(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Value> {
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
///
/// Estimated from one read in sixteen, the most read first; `_root`: keys without one, `_other`:
/// all behind the first hundred.
#[utoipa::path(
    get,
    path = "/api/v1/namespaces",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(("window" = Option<String>, Query, description = "start, reset (as without), 1m or 5m")),
    responses((status = 200, body = Object), Refused, Unasked)
)]
async fn namespaces(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    admin.api.view.namespaces(query.as_deref()).map(Json)
}

/// Reads by rule.
///
/// Estimated from one read in sixteen, in the order of the rules; the last is that of keys which
/// no rule matches.
#[utoipa::path(
    get,
    path = "/api/v1/rules",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(("window" = Option<String>, Query, description = "start, reset (as without), 1m or 5m")),
    responses((status = 200, body = Object), Refused, Unasked)
)]
async fn rules(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    admin.api.view.rules(query.as_deref()).map(Json)
}

/// The keys that are asked for most, of late.
///
/// `key_hash` beside the namespace, unless `hotkeys.show_keys` is "plain": then `key`, or
/// `key_base64` where it is no text. `hint`: `no_rule`, `cache_it` (a rule keeps it out),
/// `too_large`, `ttl_too_short`, `write_heavy`.
#[utoipa::path(
    get,
    path = "/api/v1/hotkeys",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(
        ("by" = Option<String>, Query, description = "reads (as without), bytes or misses"),
        ("limit" = Option<u16>, Query, description = "1 to 1000; without, 20"),
    ),
    responses((status = 200, body = Object), Refused, Unasked)
)]
async fn hot_keys(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    admin.api.view.hot_keys(query.as_deref()).map(Json)
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
    responses((status = 200, body = Object), Refused)
)]
async fn curve(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Value> {
    Json(admin.api.view.curve())
}

/// What the cache spares upstream, or would, by namespace, and which rule to write.
///
/// Since the reset. `verdict`: `keep`, `cache`, `not_worth_it` or `unsure`, and `why`. What is
/// expected of keys that a rule keeps out is an upper bound: writes past nearside are not known.
#[utoipa::path(
    get,
    path = "/api/v1/advice",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Object), Refused)
)]
async fn advice(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Value> {
    Json(admin.api.view.advice())
}

impl View {
    /// What GET /stats answers.
    fn stats(&self) -> Value {
        let now = self.clock.now();
        let windows = WINDOWS.map(|(name, span)| (name, self.stats.window(span, now)));
        let counters = counters(&windows);
        let told = windows.iter().map(|(name, window)| ((*name).to_owned(), told(window)));
        let figures = self.cache.figures();
        json!({
            "memory": {
                "entries": figures.entries,
                "used_bytes": figures.used_bytes,
                "max_bytes": figures.max_bytes,
            },
            "windows": told.collect::<Map<_, _>>(),
            "counters": counters,
        })
    }

    /// What GET /namespaces answers: the most read first.
    fn namespaces(&self, query: Option<&str>) -> Result<Value, Problem> {
        let [window] = members(query, ["window"])?;
        let (name, window) = self.window(window)?;
        let rows = window.counted.namespaces.iter().map(|(name, counts)| {
            let [.., bytes] = *counts;
            let mut row = reads(*counts, window.length);
            row.insert("bytes_per_second".to_owned(), per_second(bytes, window.length));
            row.insert("namespace".to_owned(), name.clone().into());
            Value::Object(row)
        });
        let rows: Vec<Value> = rows.collect();
        Ok(json!({ "window": name, "seconds": window.length.as_secs_f64(), "namespaces": rows }))
    }

    /// What GET /rules answers: in their order, those that nothing matched included.
    fn rules(&self, query: Option<&str>) -> Result<Value, Problem> {
        let [window] = members(query, ["window"])?;
        let (name, window) = self.window(window)?;
        let snapshot = self.snapshots.newest();
        let rows = snapshot.rules.all().map(|(rule, globs)| {
            let place = usize::from(rule.index);
            let counts = window.counted.rules.get(place).copied().unwrap_or_default();
            let globs: Vec<_> = globs.into_iter().map(String::from_utf8_lossy).collect();
            let mut row = reads(counts, window.length);
            row.insert("rule".to_owned(), rule.index.into());
            row.insert("match".to_owned(), json!(globs));
            row.insert("level".to_owned(), rule.level.as_str().into());
            Value::Object(row)
        });
        let rows: Vec<Value> = rows.collect();
        Ok(json!({ "window": name, "seconds": window.length.as_secs_f64(), "rules": rows }))
    }

    /// What GET /hotkeys answers.
    fn hot_keys(&self, query: Option<&str>) -> Result<Value, Problem> {
        let [by, limit] = members(query, ["by", "limit"])?;
        let by = match by {
            None => By::Reads,
            Some(word) => By::ALL.into_iter().find(|by| by.as_str() == word).ok_or_else(|| {
                invalid("by", &format!("`{word}` is none of reads, bytes, misses"))
            })?,
        };
        let limit = match limit.map(str::parse) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => {
                return Err(invalid("limit", &format!("is no number from 1 to {LIMIT_MAX}")));
            }
        };
        let ranks = By::ALL.map(|by| self.stats.hottest(by, usize::MAX));
        let snapshot = self.snapshots.newest();
        let rules = &snapshot.rules;
        let hottest = ranks.get(by as usize).map(Vec::as_slice).unwrap_or_default();
        let keys = hottest.iter().take(limit).map(|hot| self.hot_key(hot, &ranks, rules));
        let keys: Vec<Value> = keys.collect();
        Ok(json!({ "by": by.as_str(), "keys": keys }))
    }

    fn hot_key(&self, hot: &HotKey, ranks: &[Vec<HotKey>; 3], rules: &Rules) -> Value {
        let rule = rules.find(&hot.key);
        let is_whole = hot.key.len() == usize::try_from(hot.length).unwrap_or(0);
        let cached = is_whole && self.cache.holds(hot.hash, &hot.key, self.clock.now());
        let rate = |by: By| {
            let found = ranks.get(by as usize)?.iter().find(|other| other.hash == hot.hash)?;
            Some(found.rate)
        };
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| row.insert(name.to_owned(), value);
        match (self.snapshots.newest().settings.hot_keys.show, std::str::from_utf8(&hot.key)) {
            (ShowKeys::Hash, _) => put("key_hash", format!("{:016x}", hot.hash).into()),
            (ShowKeys::Plain, Ok(text)) => put("key", text.into()),
            (ShowKeys::Plain, Err(_)) => put("key_base64", BASE64_STANDARD.encode(&hot.key).into()),
        };
        if !is_whole {
            put("key_cut_at", KEY_KEPT.into());
        }
        put("namespace", String::from_utf8_lossy(namespace(&hot.key)).into());
        put("rate_per_second", rounded(hot.rate));
        put("share", rounded(hot.share));
        put("reads_per_second", rate(By::Reads).map_or(Value::Null, rounded));
        put("bytes_per_second", rate(By::Bytes).map_or(Value::Null, rounded));
        put("misses_per_second", rate(By::Misses).map_or_else(|| json!(0), rounded));
        put("cached", cached.into());
        put("rule", rule.index.into());
        let is_other = usize::from(rule.index) + 1 == rules.all().count();
        let hint = rate(By::Reads).and_then(|reads| {
            let (bytes, misses) = (rate(By::Bytes).unwrap_or(0.0), rate(By::Misses));
            hint(rule, is_other, reads, bytes / reads, misses.unwrap_or(0.0))
        });
        put("hint", hint.into());
        Value::Object(row)
    }

    /// What GET /curve answers.
    fn curve(&self) -> Value {
        let figures = self.cache.figures();
        let each = ratio(figures.used_bytes, figures.entries);
        let points = TIMES.map(|times| {
            let memory = float(figures.max_bytes) * times;
            let entries = each.map(|each| memory / each);
            let hit_ratio = entries.and_then(|entries| self.stats.hit_ratio_of(entries));
            json!({
                "times": times,
                "memory_bytes": memory.round(),
                "entries": entries.map(f64::round),
                "hit_ratio": hit_ratio.map(rounded),
            })
        });
        let each = each.map(rounded);
        json!({ "memory_bytes": figures.max_bytes, "entry_bytes": each, "points": points })
    }

    /// What GET /advice answers: the most read first.
    fn advice(&self) -> Value {
        let Window { length, counted } = self.stats.window(Span::Reset, self.clock.now());
        let expected = self.stats.expected();
        let misses = counted.get(Counter::LookupMiss);
        let stored = ratio(counted.get(Counter::StoreStored), misses).unwrap_or(1.0).min(1.0);
        let known = counted.namespaces.iter().filter(|(_, counts)| *counts != [0; 4]);
        let rows = known.map(|(name, counts)| {
            let expected = expected.iter().find(|expected| expected.namespace == *name);
            advise(&Known { name, counts: *counts, length, expected, stored })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "seconds": length.as_secs_f64(), "namespaces": rows })
    }

    fn window(&self, wanted: Option<&str>) -> Result<(&'static str, Window), Problem> {
        let wanted = wanted.unwrap_or("reset");
        let found = WINDOWS.into_iter().find(|(name, _)| *name == wanted);
        let (name, span) = found.ok_or_else(|| {
            invalid("window", &format!("`{wanted}` is none of start, reset, 1m, 5m"))
        })?;
        Ok((name, self.stats.window(span, self.clock.now())))
    }
}

/// What could be done for a hot key, in a word; the numbers are of late, per second.
fn hint(
    rule: &Rule,
    is_other: bool,
    reads: f64,
    bytes_each: f64,
    misses: f64,
) -> Option<&'static str> {
    if rule.level == Level::Bypass {
        return Some(if is_other { "no_rule" } else { "cache_it" });
    }
    if misses < OFTEN_MISSED * reads {
        return None;
    }
    if bytes_each > float(rule.max_value_size as u64) {
        return Some("too_large");
    }
    // Missed about as often as its time is over.
    let is_expiring = misses <= 2.0 / Duration::from_nanos(rule.ttl_ns).as_secs_f64();
    Some(if is_expiring { "ttl_too_short" } else { "write_heavy" })
}

/// Reads by what became of them.
fn reads(counts: Tally, length: Duration) -> Map<String, Value> {
    let of = |fate: Seen| counts.get(fate as usize).copied().unwrap_or(0);
    let (hits, misses, passed) = (of(Seen::Hit), of(Seen::Miss), of(Seen::Passed));
    let row = [
        ("reads", (hits + misses + passed).into()),
        ("reads_per_second", per_second(hits + misses + passed, length)),
        ("lookups", (hits + misses).into()),
        ("hits", hits.into()),
        ("misses", misses.into()),
        ("bypassed", passed.into()),
        ("hit_ratio", ratio(hits, hits + misses).map(rounded).into()),
    ];
    row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A window in a few numbers.
fn told(window: &Window) -> Value {
    let Window { length, counted } = window;
    let (hits, joined) = (counted.get(Counter::LookupHit), counted.get(Counter::LookupCoalesced));
    let would = counted.get(Counter::LookupWouldHit);
    let lookups = hits + would + joined + counted.get(Counter::LookupMiss);
    let sent = [
        Counter::UpstreamOk,
        Counter::UpstreamError,
        Counter::UpstreamTimeout,
        Counter::UpstreamDisconnected,
    ];
    let sent: u64 = sent.into_iter().map(|counter| counted.get(counter)).sum();
    json!({
        "seconds": length.as_secs_f64(),
        "commands": counted.commands,
        "commands_per_second": per_second(counted.commands, *length),
        "lookups": lookups,
        "hits": hits,
        "misses": counted.get(Counter::LookupMiss),
        "coalesced": joined,
        "would_hits": would,
        "bypassed": counted.get(Counter::LookupBypass),
        "hit_ratio": ratio(hits + would, lookups).map(rounded),
        "stored": counted.get(Counter::StoreStored),
        "upstream_requests": sent,
        "upstream_requests_per_second": per_second(sent, *length),
        "input_bytes_per_second": per_second(counted.get(Counter::NetInputBytes), *length),
        "output_bytes_per_second": per_second(counted.get(Counter::NetOutputBytes), *length),
        "latency": latency(counted),
    })
}

/// How long answers took, by outcome, in microseconds; hits are not timed.
fn latency(counted: &Totals) -> Value {
    let rows = Outcome::ALL.iter().filter_map(|outcome| {
        let took = counted.took(*outcome)?;
        Some((outcome.as_str().to_owned(), percentiles(took)))
    });
    Value::Object(rows.collect())
}

fn percentiles(took: &Snapshot) -> Value {
    let micros = |part: f64| {
        let nanos = took.percentile(part);
        nanos.map(|nanos| rounded(Duration::from_nanos(nanos).as_secs_f64() * 1e6))
    };
    json!({
        "count": took.count(),
        "p50_us": micros(0.5),
        "p90_us": micros(0.9),
        "p99_us": micros(0.99),
        "p999_us": micros(0.999),
    })
}

/// Every counter by its name in `/metrics`, without the label of the only upstream.
fn counters(windows: &[(&'static str, Window); 4]) -> Value {
    let rows = Counter::ALL.iter().map(|counter| {
        let row = counter.row();
        let labels = row.labels.iter().filter(|(name, _)| *name != "upstream");
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let name = row.family.name.strip_prefix("nearside_").unwrap_or(row.family.name);
        let name = if labels.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", labels.join(","))
        };
        let [start, reset, minute, five] = windows.each_ref().map(|(_, window)| window);
        let counts = json!({
            "start": start.counted.get(*counter),
            "reset": reset.counted.get(*counter),
            "per_second_1m": per_second(minute.counted.get(*counter), minute.length),
            "per_second_5m": per_second(five.counted.get(*counter), five.length),
        });
        (name, counts)
    });
    Value::Object(rows.collect())
}

/// The values of a query's members, which are all that it may have. None of them has a character
/// that would be encoded.
fn members<'q, const N: usize>(
    query: Option<&'q str>,
    names: [&str; N],
) -> Result<[Option<&'q str>; N], Problem> {
    let mut values = [None; N];
    for member in query.unwrap_or_default().split('&').filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        // The door's own.
        if name == "pretty" {
            continue;
        }
        let place = names.iter().position(|known| *known == name);
        let Some(place) = place.and_then(|at| values.get_mut(at)) else {
            let known = names.join(", ");
            return Err(invalid(name, &format!("is no member of this query; there are: {known}")));
        };
        *place = Some(value);
    }
    Ok(values)
}

fn invalid(name: &str, what: &str) -> Problem {
    Problem::new(Kind::InvalidRequest, format!("{name}: {what}"))
}

pub(super) fn per_second(count: u64, length: Duration) -> Value {
    if length.is_zero() { Value::Null } else { rounded(float(count) / length.as_secs_f64()) }
}

pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

/// Four digits behind the point: the rest says nothing.
pub(super) fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn float(count: u64) -> f64 {
    count as f64
}
