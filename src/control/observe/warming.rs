//! The series of warm-up. Names of jobs come from the configuration, which bounds them; a reload
//! may bring others, so their series are written here: the recorder would keep those that are gone.

use super::metrics::{Registrar, float};
use super::text;
use crate::control::warm::WarmFigures;
use crate::stats::counters::Family;

const RUNS: Family = Family { name: "nearside_warm_runs_total", help: "Warm-up runs ended." };

const KEYS: Family = Family { name: "nearside_warm_keys_total", help: "Keys handled by warm-up." };

const SUCCESS: Family = Family {
    name: "nearside_warm_last_success_timestamp_seconds",
    help: "Unix time of the last successful run.",
};

/// Handles of those that are known at the start.
#[derive(Debug)]
pub(super) struct Warming {
    keys: [metrics::Counter; 4],
    in_progress: metrics::Gauge,
}

impl Warming {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let results = ["loaded", "missing", "skipped", "error"];
        let help = "Warm-up runs now active.";
        Self {
            keys: results.map(|result| registrar.counter(KEYS, &[("result", result)])),
            in_progress: registrar.figure("nearside_warm_runs_in_progress", help, &[]),
        }
    }

    pub(super) fn publish(&self, figures: &WarmFigures) {
        for (counter, count) in self.keys.iter().zip(figures.keys) {
            counter.absolute(count);
        }
        self.in_progress.set(float(figures.in_progress));
    }
}

/// Appends the runs by job.
pub(super) fn write(out: &mut String, figures: &WarmFigures) {
    text::family(out, RUNS, "counter");
    for runs in &figures.runs {
        let (name, results) =
            (&runs.name, [("ok", runs.ok), ("error", runs.error), ("cancelled", runs.cancelled)]);
        for (result, count) in results {
            let labels = format!("job=\"{name}\",result=\"{result}\"");
            text::line(out, &format!("{}{{{labels}}} {count}", RUNS.name));
        }
    }
    text::family(out, SUCCESS, "gauge");
    for runs in &figures.runs {
        // Never is no time.
        let at = runs.last_success.map_or(f64::NAN, float);
        text::line(out, &format!("{}{{job=\"{}\"}} {at}", SUCCESS.name, runs.name));
    }
}
