//! What charts are drawn from: a row of figures for each second of the last quarter of an hour,
//! and for each minute of the last day.
//!
//! In: the counters and gauges that there are, looked at by the main thread, several times a
//! second. Out: rows, the newest of which is also told to whoever listens. Invariant: a row is
//! what happened between two looks, divided by the time between them; memory is bounded by the
//! number of rows; nothing is noted where requests are served.

use crate::cache::{Cache, Figures};
use crate::control::observe::feed::{Feed, Reader, frame};
use crate::live::Live;
use crate::stats::counters::Outcome;
use crate::stats::{Counter, Gauge, Snapshot, Stats};
use crate::units::clock::{Clock, Tick, unix_millis};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Rows that are kept.
const SECONDS: usize = 15 * 60;
const MINUTES: usize = 24 * 60;

/// What is told by second of what counters count.
const RATES: [(&str, &[Counter]); 15] = [
    ("hits_per_second", &[Counter::LookupHit]),
    ("stale_per_second", &[Counter::LookupStale]),
    ("misses_per_second", &[Counter::LookupMiss]),
    ("coalesced_per_second", &[Counter::LookupCoalesced]),
    ("would_hits_per_second", &[Counter::LookupWouldHit]),
    ("bypassed_per_second", &[Counter::LookupBypass]),
    (
        "upstream_requests_per_second",
        &[
            Counter::UpstreamOk,
            Counter::UpstreamError,
            Counter::UpstreamTimeout,
            Counter::UpstreamDisconnected,
        ],
    ),
    ("upstream_failures_per_second", &[Counter::UpstreamTimeout, Counter::UpstreamDisconnected]),
    ("invalidations_tracking_per_second", &[Counter::InvalidationsTracking]),
    ("invalidations_write_per_second", &[Counter::InvalidationsWrite]),
    ("invalidations_reconnect_per_second", &[Counter::InvalidationsReconnect]),
    ("invalidations_admin_per_second", &[Counter::InvalidationsAdmin]),
    ("invalidations_pubsub_per_second", &[Counter::InvalidationsPubsub]),
    ("input_bytes_per_second", &[Counter::NetInputBytes]),
    ("output_bytes_per_second", &[Counter::NetOutputBytes]),
];

/// The same of what others count: commands of clients, and keys that left.
const OTHER_RATES: [&str; 3] =
    ["commands_per_second", "evicted_keys_per_second", "expired_keys_per_second"];

/// What is so when the row ends.
const STATES: [&str; 7] = [
    "entries",
    "memory_used_bytes",
    "clients",
    "commands_in_flight",
    "upstream_connections",
    "upstream_up",
    "tracking_up",
];

/// Parts of the answers of each outcome.
const PARTS: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// How far apart rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Kept for 15 minutes.
    Second,
    /// Kept for a day.
    Minute,
}

impl Step {
    /// Its length.
    pub const fn length(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
        }
    }

    /// The longest that rows tell of.
    pub const fn longest(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(SECONDS as u64),
            Self::Minute => Duration::from_mins(MINUTES as u64),
        }
    }
}

/// What was counted until one moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Tick,
    /// [`RATES`], then [`OTHER_RATES`].
    counts: Vec<u64>,
    latency: Vec<Snapshot>,
}

/// What happened until one moment.
#[derive(Debug)]
struct Row {
    at: Tick,
    /// In milliseconds since 1970.
    time: u64,
    /// In the order of [`Columns`]; NaN: there is none.
    cells: Box<[f64]>,
}

/// Rows that are as far apart.
#[derive(Debug)]
struct Ring {
    step: Step,
    most: usize,
    /// Where the next row begins.
    last: Option<Sample>,
    /// The oldest first.
    rows: VecDeque<Row>,
}

/// See the module.
#[derive(Debug)]
pub struct Chart {
    stats: Arc<Stats>,
    cache: Arc<Cache>,
    live: Arc<Live>,
    clock: Clock,
    rings: Mutex<[Ring; 2]>,
    /// Who is told of each second, and of the log's events.
    pub feed: Arc<Feed>,
}

/// Rows, column by column.
#[derive(Debug)]
pub struct Columns {
    /// When each row ends, in milliseconds since 1970.
    pub times: Vec<u64>,
    /// By name, a number for each row; NaN: there is none.
    pub columns: Vec<(String, Vec<f64>)>,
}

impl Chart {
    /// Of these counters; nobody listens yet.
    pub fn new(stats: Arc<Stats>, cache: Arc<Cache>, live: Arc<Live>, clock: Clock) -> Self {
        let rings =
            Mutex::new([Ring::new(Step::Second, SECONDS), Ring::new(Step::Minute, MINUTES)]);
        Self { stats, cache, live, clock, rings, feed: Arc::default() }
    }

    /// Time goes on: to be called several times a second, by one thread.
    pub fn tick(&self) {
        if self.live.is_draining() {
            self.feed.close();
        }
        let now = self.clock.now();
        let mut rings = self.rings.lock();
        if !rings.iter().any(|ring| ring.is_due(now)) {
            return;
        }
        let figures = self.cache.figures();
        let (sample, states) = (self.sample(now, &figures), self.states(&figures));
        let mut is_told = false;
        for ring in rings.iter_mut().filter(|ring| ring.is_due(now)) {
            is_told |= ring.note(&sample, &states) && ring.step == Step::Second;
        }
        is_told &= self.feed.has_readers();
        let last = rings.first().and_then(|ring| ring.rows.back());
        let frame = last.filter(|_| is_told).map(Row::frame);
        drop(rings);
        if let Some(frame) = frame {
            self.feed.tell(&frame);
        }
    }

    /// One more who is told of each second, the last one first; `None` if there are enough.
    pub fn join(&self) -> Option<Reader> {
        let last: Option<Bytes> =
            self.rings.lock().first().and_then(|ring| ring.rows.back()).map(Row::frame);
        self.feed.join(last)
    }

    /// The rows of the last `window`.
    pub fn columns(&self, step: Step, window: Duration) -> Columns {
        let now = self.clock.now();
        let rings = self.rings.lock();
        let rows = rings.iter().filter(|ring| ring.step == step).flat_map(|ring| &ring.rows);
        let rows: Vec<&Row> = rows.filter(|row| now.since(row.at) < window).collect();
        let column = |at: usize| {
            rows.iter().map(|row| row.cells.get(at).copied().unwrap_or(f64::NAN)).collect()
        };
        let columns = Columns {
            times: rows.iter().map(|row| row.time).collect(),
            columns: names().enumerate().map(|(at, name)| (name, column(at))).collect(),
        };
        drop(rings);
        columns
    }

    fn sample(&self, at: Tick, figures: &Figures) -> Sample {
        let sum = |counters: &[Counter]| counters.iter().map(|one| self.stats.counter(*one)).sum();
        let counted = RATES.iter().map(|(_, counters)| sum(counters));
        let others = [self.stats.pipeline().commands, figures.evicted, figures.expired];
        Sample {
            at,
            counts: counted.chain(others).collect(),
            latency: Outcome::ALL.iter().map(|outcome| self.stats.latency(*outcome)).collect(),
        }
    }

    fn states(&self, figures: &Figures) -> [f64; STATES.len()] {
        let gauge = |gauge| float(self.stats.gauge(gauge));
        [
            float(figures.entries),
            float(figures.used_bytes),
            float(self.stats.clients()),
            gauge(Gauge::CommandsInFlight),
            gauge(Gauge::UpstreamConnections),
            f64::from(u8::from(self.live.is_upstream_up())),
            f64::from(u8::from(self.cache.tracking().is_up())),
        ]
    }
}

impl Ring {
    const fn new(step: Step, most: usize) -> Self {
        Self { step, most, last: None, rows: VecDeque::new() }
    }

    /// True in each second or minute of the clock once, so that rows do not drift.
    fn is_due(&self, now: Tick) -> bool {
        let nanos = u64::try_from(self.step.length().as_nanos()).unwrap_or(u64::MAX);
        self.last.as_ref().is_none_or(|last| now.0 / nanos != last.at.0 / nanos)
    }

    /// The row that began at the last sample ends with this one; false if there was none.
    fn note(&mut self, sample: &Sample, states: &[f64]) -> bool {
        let Some(last) = self.last.replace(sample.clone()) else {
            return false;
        };
        let seconds = sample.at.since(last.at).as_secs_f64();
        let counted = sample.counts.iter().zip(&last.counts);
        let rates =
            counted.map(|(now, before)| rounded(float(now.saturating_sub(*before)) / seconds));
        let took = sample.latency.iter().zip(&last.latency).flat_map(|(now, before)| {
            let took = now.since(before);
            PARTS.map(|(_, part)| took.percentile(part).map_or(f64::NAN, micros))
        });
        let cells = rates.chain(states.iter().copied()).chain(took).collect();
        if self.rows.len() >= self.most {
            self.rows.pop_front();
        }
        self.rows.push_back(Row { at: sample.at, time: unix_millis(), cells });
        true
    }
}

impl Row {
    /// As it is told.
    fn frame(&self) -> Bytes {
        let mut told = Map::new();
        told.insert("time_ms".to_owned(), self.time.into());
        told.extend(names().zip(self.cells.iter().map(|cell| Value::from(*cell))));
        frame("stats", &told)
    }
}

/// The names of the columns, in order.
fn names() -> impl Iterator<Item = String> {
    let rates = RATES.iter().map(|(name, _)| *name).chain(OTHER_RATES);
    let took = Outcome::ALL
        .iter()
        .flat_map(|outcome| PARTS.map(|(part, _)| format!("{}_{part}_us", outcome.as_str())));
    rates.chain(STATES).map(str::to_owned).chain(took)
}

fn micros(nanos: u64) -> f64 {
    rounded(Duration::from_nanos(nanos).as_secs_f64() * 1e6)
}

/// Three digits behind the point.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Chart, Duration, MINUTES, SECONDS, Step};
    use crate::cache::Cache;
    use crate::stats::{Counter, Outcome, Stats};
    use crate::units::clock::Clock;
    use std::sync::Arc;

    #[test]
    fn rows_are_what_happened_between_two_looks_and_are_bounded() {
        let stats = Arc::new(Stats::new(0));
        let block = stats.new_block();
        let (clock, hands) = Clock::manual();
        let cache = Arc::new(Cache::new(1 << 20, 4));
        let chart = Chart::new(stats, cache, Arc::default(), clock);
        chart.tick();
        for _ in 0..5 {
            hands.advance(Duration::from_millis(200));
            block.add(Counter::LookupHit, 2);
            chart.tick();
        }
        block.observe(Outcome::Miss, 1_000_000, 1);
        hands.advance(Duration::from_secs(2));
        chart.tick();
        let column = |step, window, name: &str| {
            let drawn = chart.columns(step, window);
            let (_, column) = drawn.columns.into_iter().find(|(known, _)| known == name).unwrap();
            assert_eq!(column.len(), drawn.times.len());
            column
        };
        let all = Duration::from_hours(24);
        assert_eq!(column(Step::Second, all, "hits_per_second"), [10.0, 0.0]);
        assert_eq!(column(Step::Second, Duration::from_secs(1), "hits_per_second"), [0.0]);
        let took = column(Step::Second, all, "miss_p99_us");
        assert!(took[0].is_nan() && (900.0..1100.0).contains(&took[1]), "{took:?}");
        assert!(column(Step::Minute, all, "entries").is_empty());
        for _ in 0..3 * (MINUTES + 2) {
            hands.advance(Duration::from_secs(20));
            block.add(Counter::LookupHit, 60);
            chart.tick();
        }
        let minutes = column(Step::Minute, all * 2, "hits_per_second");
        assert_eq!(column(Step::Second, all, "hits_per_second"), [3.0; SECONDS]);
        assert_eq!((minutes.len(), minutes.last()), (MINUTES, Some(&3.0)));
    }
}
