//! What was measured, for people and for machines.

use super::Choice;
use crate::cli::figures::Table;
use crate::stats::Snapshot;
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::Duration;

/// The parts of all requests that took no longer, and what they are called.
const PARTS: [(f64, &str, &str); 4] = [
    (0.5, "p50 us", "p50_us"),
    (0.9, "p90 us", "p90_us"),
    (0.99, "p99 us", "p99_us"),
    (0.999, "p99.9 us", "p999_us"),
];

/// One server.
#[derive(Debug)]
pub(super) struct Measured {
    /// Without password.
    pub(super) url: String,
    pub(super) latency: Box<Snapshot>,
    /// All rounds together.
    pub(super) lasted: Duration,
    /// Error replies.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Measured {
    pub(super) fn new(url: String) -> Self {
        let latency = Box::default();
        Self { url, latency, lasted: Duration::ZERO, errors: 0, first_error: None }
    }

    /// Requests per second, then what [`PARTS`] took, in microseconds.
    fn figures(&self) -> [f64; 5] {
        let [p50, p90, p99, p999] = PARTS.map(|(part, ..)| {
            let nanos = self.latency.percentile(part).unwrap_or(0);
            Duration::from_nanos(nanos).as_secs_f64() * 1e6
        });
        [float(self.latency.count()) / self.lasted.as_secs_f64().max(1e-9), p50, p90, p99, p999]
    }
}

/// All servers.
#[derive(Debug)]
pub(super) struct Report {
    choice: Choice,
    measured: Vec<Measured>,
}

impl Report {
    pub(super) fn of(choice: &Choice, measured: Vec<Measured>) -> Self {
        Self { choice: choice.clone(), measured }
    }

    /// Error replies, if there were any.
    pub(super) fn fault(&self) -> Option<String> {
        let faulty = self.measured.iter().find(|side| side.errors > 0)?;
        let first = faulty.first_error.as_deref().unwrap_or_default();
        Some(format!("{}: {} error replies; the first: {first}", faulty.url, faulty.errors))
    }

    /// The first by the second.
    fn ratios(&self) -> Option<[f64; 5]> {
        let [one, other] = self.measured.as_slice() else {
            return None;
        };
        let (one, other) = (one.figures(), other.figures());
        let mut ratios = one;
        for (ratio, other) in ratios.iter_mut().zip(other) {
            *ratio /= other.max(1e-9);
        }
        Some(ratios)
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let names = || ["requests_per_second"].into_iter().chain(PARTS.map(|(.., name)| name));
        let named = |figures: [f64; 5]| -> Map<String, Value> {
            names().map(str::to_owned).zip(figures.map(Value::from)).collect()
        };
        let servers = self.measured.iter().map(|side| {
            let mut row = Map::from_iter([("url".to_owned(), side.url.clone().into())]);
            row.extend(named(side.figures()));
            row.insert("errors".to_owned(), side.errors.into());
            Value::Object(row)
        });
        let Choice { requests, clients, pipeline, key_space, get_ratio, value_size, .. } =
            self.choice;
        json!({
            "requests": requests,
            "clients": clients,
            "pipeline": pipeline,
            "key_space": key_space,
            "get_ratio": get_ratio,
            "value_size": value_size,
            "servers": servers.collect::<Vec<_>>(),
            "ratios": self.ratios().map(named),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut titles = vec!["", "requests/s"];
        titles.extend(PARTS.map(|(_, title, _)| title));
        let mut table = Table::new(&titles);
        let row = |name: &str, cells: [String; 5]| [vec![name.to_owned()], cells.to_vec()].concat();
        for side in &self.measured {
            table.row(row(&side.url, side.figures().map(|figure| format!("{figure:.0}"))));
        }
        if let Some(ratios) = self.ratios() {
            table.row(row("first / second", ratios.map(|ratio| format!("{ratio:.2}"))));
        }
        write!(f, "{table}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn float(count: u64) -> f64 {
    count as f64
}
