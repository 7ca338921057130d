//! The answers of [`super::stats`]: what was counted, as types that the document describes.
//!
//! In: windows of counters. Out: the numbers that people read of them. Ratios and rates have four
//! digits behind the point: more would say nothing.

use crate::stats::history::{Totals, Window};
use crate::stats::{Counter, Outcome, Seen, Snapshot, Tally};
use indexmap::IndexMap;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Everything that was counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Statistics {
    pub(super) memory: Memory,
    pub(super) windows: Windows,
    /// Every counter by its name in `/metrics`, without `nearside_` and the only upstream's label.
    #[schema(value_type = std::collections::BTreeMap<String, Count>)]
    pub(super) counters: IndexMap<String, Count>,
}

/// The store.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Memory {
    /// Keys held.
    pub(super) entries: u64,
    /// Accounted bytes of them.
    pub(super) used_bytes: u64,
    /// The limit.
    pub(super) max_bytes: u64,
}

/// Since when; those of a length are longer by up to ten seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Windows {
    /// Since the start.
    pub(super) start: Figures,
    /// Since the last reset.
    pub(super) reset: Figures,
    /// Ten seconds.
    #[serde(rename = "10s")]
    pub(super) ten_seconds: Figures,
    /// A minute.
    #[serde(rename = "1m")]
    pub(super) minute: Figures,
    /// Five minutes.
    #[serde(rename = "5m")]
    pub(super) five_minutes: Figures,
    /// Ten minutes.
    #[serde(rename = "10m")]
    pub(super) ten_minutes: Figures,
}

/// A window in a few numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Figures {
    /// Its length.
    seconds: f64,
    /// Commands read from clients.
    commands: u64,
    commands_per_second: Option<f64>,
    /// Reads that asked the cache.
    lookups: u64,
    /// Answered from it.
    hits: u64,
    /// Answered from it past their time.
    stale: u64,
    /// Asked of upstream.
    misses: u64,
    /// Waited for another client's miss.
    coalesced: u64,
    /// In the mode `observe`: would have been hits.
    would_hits: u64,
    /// Reads that went past the cache.
    bypassed: u64,
    /// Hits, stale ones and would-be hits of all lookups; null: there were none.
    pub(super) hit_ratio: Option<f64>,
    /// Replies stored.
    stored: u64,
    /// Requests sent upstream, however they ended.
    upstream_requests: u64,
    upstream_requests_per_second: Option<f64>,
    /// From clients.
    input_bytes_per_second: Option<f64>,
    /// To clients.
    output_bytes_per_second: Option<f64>,
    /// How long answers took, by outcome. Hits are not timed.
    #[schema(value_type = std::collections::BTreeMap<String, Latency>)]
    latency: IndexMap<&'static str, Latency>,
}

/// How long answers took, in microseconds; null: there were none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Latency {
    /// Answers.
    count: u64,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
}

/// One counter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Count {
    /// Since the start.
    start: u64,
    /// Since the last reset.
    reset: u64,
    /// Over a minute; null: less than a moment is known.
    per_second_1m: Option<f64>,
    /// Over five.
    per_second_5m: Option<f64>,
}

/// Reads by what became of them; estimated from one in `hotkeys.sample`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tallied {
    /// All.
    reads: u64,
    reads_per_second: Option<f64>,
    /// Those that asked the cache.
    lookups: u64,
    hits: u64,
    misses: u64,
    /// Those that went past it.
    bypassed: u64,
    /// Hits of all lookups; null: there were none.
    hit_ratio: Option<f64>,
}

impl Figures {
    pub(super) fn of(window: &Window) -> Self {
        let Window { length, counted } = window;
        let get = |counter| counted.get(counter);
        let (hits, joined) = (get(Counter::LookupHit), get(Counter::LookupCoalesced));
        let (would, misses) = (get(Counter::LookupWouldHit), get(Counter::LookupMiss));
        let stale = get(Counter::LookupStale);
        let lookups = hits + stale + would + joined + misses;
        let sent = [
            Counter::UpstreamOk,
            Counter::UpstreamError,
            Counter::UpstreamTimeout,
            Counter::UpstreamDisconnected,
        ];
        let sent: u64 = sent.into_iter().map(get).sum();
        Self {
            seconds: length.as_secs_f64(),
            commands: counted.commands,
            commands_per_second: per_second(counted.commands, *length),
            lookups,
            hits,
            stale,
            misses,
            coalesced: joined,
            would_hits: would,
            bypassed: get(Counter::LookupBypass),
            hit_ratio: ratio(hits + stale + would, lookups).map(rounded),
            stored: get(Counter::StoreStored),
            upstream_requests: sent,
            upstream_requests_per_second: per_second(sent, *length),
            input_bytes_per_second: per_second(get(Counter::NetInputBytes), *length),
            output_bytes_per_second: per_second(get(Counter::NetOutputBytes), *length),
            latency: latency(counted),
        }
    }
}

fn latency(counted: &Totals) -> IndexMap<&'static str, Latency> {
    let rows = Outcome::ALL.iter();
    rows.filter_map(|outcome| Some((outcome.as_str(), Latency::of(counted.took(*outcome)?))))
        .collect()
}

impl Latency {
    fn of(took: &Snapshot) -> Self {
        let micros = |part: f64| {
            let nanos = took.percentile(part);
            nanos.map(|nanos| rounded(Duration::from_nanos(nanos).as_secs_f64() * 1e6))
        };
        Self {
            count: took.count(),
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
        }
    }
}

impl Tallied {
    /// In a window of this length.
    pub(super) fn of(counts: Tally, length: Duration) -> Self {
        let of = |fate: Seen| counts.get(fate as usize).copied().unwrap_or(0);
        let (hits, misses, passed) = (of(Seen::Hit), of(Seen::Miss), of(Seen::Passed));
        Self {
            reads: hits + misses + passed,
            reads_per_second: per_second(hits + misses + passed, length),
            lookups: hits + misses,
            hits,
            misses,
            bypassed: passed,
            hit_ratio: ratio(hits, hits + misses).map(rounded),
        }
    }
}

/// Every counter, in the order of their table.
pub(super) fn counters(
    start: &Window,
    reset: &Window,
    minute: &Window,
    five: &Window,
) -> IndexMap<String, Count> {
    let rows = Counter::ALL.iter().map(|counter| {
        let count = Count {
            start: start.counted.get(*counter),
            reset: reset.counted.get(*counter),
            per_second_1m: per_second(minute.counted.get(*counter), minute.length),
            per_second_5m: per_second(five.counted.get(*counter), five.length),
        };
        (name(*counter), count)
    });
    rows.collect()
}

fn name(counter: Counter) -> String {
    let row = counter.row();
    let name = row.family.name.strip_prefix("nearside_").unwrap_or(row.family.name);
    let labels = row.labels.iter().filter(|(name, _)| *name != "upstream");
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

/// `None` of no time.
pub(super) fn per_second(count: u64, length: Duration) -> Option<f64> {
    (!length.is_zero()).then(|| rounded(float(count) / length.as_secs_f64()))
}

/// `None` of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

/// Four digits behind the point.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
