//! What a run has found, as it goes and at its end.

use crate::check::{millis, shown};
use crate::field::{Field, LEVELS, half_of, slot_of};
use crate::harness::Kind;
use crate::history::{Record, UNKNOWN};
use crate::phase::{Outcome, Script};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Violations that are told one by one.
const TOLD: usize = 6;

/// Errors that the file tells of.
const ERRORS_SAVED: usize = 200;

/// Of a hundred reads that asked a cache, in a phase without a fault.
const HITS_MIN: u64 = 30;

#[derive(Debug)]
pub(crate) struct Report {
    kind: Kind,
    seed: u64,
    total: Outcome,
    violations: u64,
    phases: u64,
}

impl Report {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, seed, total: Outcome::default(), violations: 0, phases: 0 }
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.violations > 0
    }

    /// Tells of one phase, and keeps its sums.
    pub(crate) fn add(&mut self, script: &Script, outcome: &Outcome, field: &Field) {
        self.phases += 1;
        let findings = &outcome.findings;
        let reads: u64 = findings.reads.iter().sum();
        let share = (outcome.hits * 100).checked_div(outcome.lookups);
        let hits = share.map_or_else(|| "? hits".to_owned(), |share| format!("{share} % hits"));
        let worst = findings.stale.iter().flatten().max().copied().unwrap_or(0);
        println!(
            "  phase {:2} {}: {reads} reads, {hits}, {} faults, {} errors, {} half MSETs \
             in MGET, worst staleness {:.1} ms, {} violations",
            script.number,
            script.name(),
            outcome.faults,
            outcome.errors,
            outcome.torn,
            f64::from(worst) / 1000.0,
            findings.violations.len(),
        );
        if script.nemeses.is_empty() && share < Some(HITS_MIN) {
            self.violations += 1;
            println!("    too few hits: this phase says nothing about the cache");
        }
        if !findings.violations.is_empty() {
            self.violations += findings.violations.len() as u64;
            for violation in findings.violations.iter().take(TOLD) {
                println!("    {}: {}", violation.rule, violation.text);
            }
            println!("    the history is in {}", self.save(script, outcome, field).display());
        }
        let total = &mut self.total;
        total.faults += outcome.faults;
        total.hits += outcome.hits;
        total.lookups += outcome.lookups;
        total.errors += outcome.errors;
        for level in 0..LEVELS.len() {
            total.findings.reads[level] += findings.reads[level];
            total.findings.stale[level].extend(&findings.stale[level]);
            let late = &mut total.findings.late[level];
            *late = findings.late[level].max(*late);
            total.divergent[level] += outcome.divergent[level];
        }
    }

    /// All that was done to the registers that something is wrong with.
    fn save(&self, script: &Script, outcome: &Outcome, field: &Field) -> PathBuf {
        let mut text = format!(
            "# {:?} seed {} phase {}: {}\n# key\twhat\tsession\troute\tversion\tinvoked\treturned\n",
            self.kind,
            self.seed,
            script.number,
            script.name()
        );
        for violation in &outcome.findings.violations {
            writeln!(text, "# {}: {}", violation.rule, violation.text).unwrap();
        }
        for wipe in &outcome.history.wipes {
            let (from, to) = (millis(wipe.invoked), millis(wipe.returned));
            if slot_of(wipe.register) == 0 && half_of(wipe.register) == 0 {
                writeln!(text, "# wiped {} {from:.3} {to:.3}", wipe.register >> 12).unwrap();
            }
        }
        for (sent, failed, error) in outcome.history.errors.iter().take(ERRORS_SAVED) {
            let (sent, failed) = (millis(*sent), millis(*failed));
            writeln!(text, "# error {sent:.3} {failed:.3} {error}").unwrap();
        }
        let violations = outcome.findings.violations.iter();
        let guilty: Vec<u32> = violations.map(|violation| violation.register).collect();
        let mut records: Vec<&Record> = outcome.history.records.iter().collect();
        records.retain(|record| guilty.contains(&record.register));
        records.sort_by_key(|record| (slot_of(record.register), record.register, record.invoked));
        for record in records {
            let route = outcome.history.routes[usize::from(record.session)];
            let returned = match record.returned {
                UNKNOWN => "unknown".to_owned(),
                returned => format!("{:.3}", millis(returned)),
            };
            writeln!(
                text,
                "{}\t{:?}\t{}\t{route:?}\t{}\t{:.3}\t{returned}",
                field.key(record.register),
                record.what,
                record.session,
                shown(record.version),
                millis(record.invoked),
            )
            .unwrap();
        }
        let name = format!("checker-{:?}-{}-{}.tsv", self.kind, self.seed, script.number);
        let path = std::env::temp_dir().join(name.to_lowercase());
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The lines at the end; true if all is well.
    pub(crate) fn print(mut self, took: Duration) -> bool {
        let kind = format!("{:?}", self.kind);
        let (mut worst, mut stale_all) = (0, 0);
        for (index, level) in LEVELS.iter().enumerate() {
            let reads = self.total.findings.reads[index];
            let stale = &mut self.total.findings.stale[index];
            stale.sort_unstable();
            let at = |thousandth: usize| {
                let place = (stale.len() * thousandth / 1000).min(stale.len().saturating_sub(1));
                f64::from(stale.get(place).copied().unwrap_or(0)) / 1000.0
            };
            println!(
                "{kind} {:8} {reads} reads, stale {} ppm: p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms \
                 (bound {:.0}), read after expiry at most {:.2} ms, {} divergent",
                level.name,
                stale.len() as u64 * 1_000_000 / reads.max(1),
                at(500),
                at(990),
                at(999),
                at(1000),
                millis(level.bound),
                self.total.findings.late[index] as f64 / 1000.0,
                self.total.divergent[index],
            );
            stale_all += stale.len() as u64;
            if index == 0 {
                worst = stale.last().copied().unwrap_or(0);
            }
        }
        let reads: u64 = self.total.findings.reads.iter().sum();
        println!(
            "{kind}: {:.2} million reads ({} % of lookups were hits), {} faults in {} phases, {} s: {} \
             violations; stale reads {} ppm, worst staleness {:.0} ms (coherent, bound {:.0} ms)",
            reads as f64 / 1e6,
            self.total.hits * 100 / self.total.lookups.max(1),
            self.total.faults,
            self.phases,
            took.as_secs(),
            self.violations,
            stale_all * 1_000_000 / reads.max(1),
            f64::from(worst) / 1000.0,
            millis(LEVELS[0].bound),
        );
        self.violations == 0
    }
}
