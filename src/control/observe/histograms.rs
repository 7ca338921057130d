//! Histograms of `/metrics`: of answers by their outcome, of upstream, of hits by their age, of
//! pipelines.
//!
//! In: [`Stats`]. Out: Prometheus text, written here because the recorder knows no histograms that
//! others have counted.

use super::metrics::float;
use super::text;
use crate::stats::block::PIPELINE_BOUNDS;
use crate::stats::counters::{DURATION, Family, HIT_AGE, Outcome, PIPELINE, UPSTREAM_DURATION};
use crate::stats::histogram::Bounds;
use crate::stats::{AGE_BOUNDS, Snapshot, Stats};
use std::time::Duration;

/// Appends them, those of durations by these bounds. `upstream` is the node's address.
pub(super) fn write(stats: &Stats, bounds: &Bounds, upstream: &str, out: &mut String) {
    text::family(out, DURATION, "histogram");
    for outcome in Outcome::ALL {
        let labels = format!("outcome=\"{}\",", outcome.as_str());
        durations(out, DURATION, &labels, &stats.latency(*outcome), bounds);
    }
    text::family(out, UPSTREAM_DURATION, "histogram");
    let answered = stats.latency_of(&[Outcome::Miss, Outcome::Bypass]);
    durations(out, UPSTREAM_DURATION, &format!("upstream=\"{upstream}\","), &answered, bounds);
    pipelines(stats, out);
    hit_ages(stats, out);
}

fn durations(out: &mut String, family: Family, labels: &str, snapshot: &Snapshot, bounds: &Bounds) {
    let buckets = snapshot.cumulative(bounds);
    let seconds = Duration::from_nanos(snapshot.sum()).as_secs_f64();
    text::histogram(out, family.name, labels, &buckets, (seconds, snapshot.count()));
}

fn pipelines(stats: &Stats, out: &mut String) {
    text::family(out, PIPELINE, "histogram");
    let counts = stats.pipeline();
    let bounds = PIPELINE_BOUNDS.map(|bound| bound.to_string());
    let les = bounds.iter().map(String::as_str);
    let buckets: Vec<_> = les.zip(cumulative(&counts.reads)).collect();
    let totals = (float(counts.commands), counts.reads.iter().sum());
    text::histogram(out, PIPELINE.name, "", &buckets, totals);
}

fn hit_ages(stats: &Stats, out: &mut String) {
    text::family(out, HIT_AGE, "histogram");
    let ages = stats.hit_ages();
    let les = AGE_BOUNDS.iter().map(|(_, le)| *le);
    let buckets: Vec<_> = les.zip(cumulative(&ages.hits)).collect();
    let seconds = Duration::from_millis(ages.millis).as_secs_f64();
    text::histogram(out, HIT_AGE.name, "", &buckets, (seconds, ages.hits.iter().sum()));
}

/// How many lie at or below each bound.
fn cumulative(counts: &[u64]) -> impl Iterator<Item = u64> {
    counts.iter().scan(0, |below, count| {
        *below += count;
        Some(*below)
    })
}
