//! The series of warm-up. Names of jobs come from the configuration, which bounds them.

use super::metrics::{Registrar, float};
use crate::control::warm::WarmFigures;
use crate::stats::counters::Family;

const RUNS: Family = Family { name: "nearside_warm_runs_total", help: "Warm-up runs ended." };

const KEYS: Family = Family { name: "nearside_warm_keys_total", help: "Keys handled by warm-up." };

/// Their handles; those of runs are asked for by name.
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

    pub(super) fn publish(&self, registrar: &Registrar, figures: &WarmFigures) {
        for (counter, count) in self.keys.iter().zip(figures.keys) {
            counter.absolute(count);
        }
        self.in_progress.set(float(figures.in_progress));
        for runs in &figures.runs {
            let job = ("job", runs.name.as_str());
            let results = [("ok", runs.ok), ("error", runs.error), ("cancelled", runs.cancelled)];
            for (result, count) in results {
                registrar.counter(RUNS, &[job, ("result", result)]).absolute(count);
            }
            // Never is no time.
            let at = runs.last_success.map_or(f64::NAN, float);
            let help = "Unix time of the last successful run.";
            let name = "nearside_warm_last_success_timestamp_seconds";
            registrar.figure(name, help, &[job]).set(at);
        }
    }
}
