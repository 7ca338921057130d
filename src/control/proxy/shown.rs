//! What the main thread shows to clients: hot keys, and runs of warm-up.

use crate::config::ShowKeys;
use crate::control::admin::Api;
use crate::control::jobs::{Count, Job, Kind};
use crate::stats::{By, HotKey};
use crate::wire::number::parse_i64;
use crate::wire::value::Value;

/// Hot keys of one answer, where nobody says how many, and at most.
const COUNT: usize = 20;
const COUNT_MAX: usize = 1000;

/// PROXY HOTKEYS `[BY reads|bytes|misses] [COUNT n]`; none: that is not how it is asked.
pub(super) fn hot_keys(words: &[Box<[u8]>], api: &Api) -> Option<Value> {
    let (by, count) = hot_keys_asked(words)?;
    let row = |hot: &HotKey| row(hot, api);
    Some(Value::List(api.view.stats.hottest(by, count).iter().map(row).collect()))
}

fn hot_keys_asked(words: &[Box<[u8]>]) -> Option<(By, usize)> {
    let (mut by, mut count) = (None, None);
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        if name.eq_ignore_ascii_case(b"by") && by.is_none() {
            let is = |by: &By| value.eq_ignore_ascii_case(by.as_str().as_bytes());
            by = Some(By::ALL.into_iter().find(is)?);
        } else if name.eq_ignore_ascii_case(b"count") && count.is_none() {
            let given = parse_i64(value).and_then(|count| usize::try_from(count).ok());
            count = Some(given.filter(|count| (1..=COUNT_MAX).contains(count))?);
        } else {
            return None;
        }
    }
    Some((by.unwrap_or(By::Reads), count.unwrap_or(COUNT)))
}

fn row(hot: &HotKey, api: &Api) -> Value {
    let view = &api.view;
    // Of a key that is longer only its beginning is known.
    let is_whole = usize::try_from(hot.length).is_ok_and(|length| length == hot.key.len());
    let cached = is_whole && view.cache.holds(hot.hash, &hot.key, view.clock.now());
    let name = match view.snapshots.newest().settings.hot_keys.show {
        ShowKeys::Plain => ("key", Value::Bytes(hot.key.clone())),
        ShowKeys::Hash => ("key_hash", format!("{:016x}", hot.hash).into()),
    };
    Value::Map(vec![
        name,
        ("rate_per_second", format!("{:.2}", hot.rate).into()),
        ("share", format!("{:.4}", hot.share).into()),
        ("cached", Value::Count(cached.into())),
        ("rule", api.wing.place(&hot.key).rule.into()),
    ])
}

/// PROXY WARM STATUS: the runs that are remembered, the newest first.
pub(super) fn runs(api: &Api) -> Value {
    let jobs = &api.workshop.jobs;
    let now = jobs.now();
    let run = |job: &Job| {
        let count = |count: Count| (count.as_str(), Value::count(job.count(count)));
        // Before the counts: those of a run that has ended are its last.
        let state = job.state().as_str();
        let mut pairs = vec![
            ("id", Value::count(job.id)),
            ("what", job.what.clone().into()),
            ("state", state.into()),
            ("done", Value::count(job.done())),
            count(Count::Loaded),
            count(Count::Missing),
            count(Count::Skipped),
            ("errors", Value::count(job.errors())),
            ("took_ms", Value::count(u64::try_from(job.took(now).as_millis()).unwrap_or(u64::MAX))),
        ];
        pairs.extend(job.error().map(|error| ("error", error.into())));
        Value::Map(pairs)
    };
    let all = jobs.all();
    Value::List(all.iter().filter(|job| job.kind == Kind::Warm).map(|job| run(job)).collect())
}

#[cfg(test)]
mod tests {
    use super::{COUNT, hot_keys_asked};
    use crate::stats::By;

    #[test]
    fn hot_keys_are_asked_for_in_any_order() {
        let asked = |text: &str| {
            let words: Vec<Box<[u8]>> =
                text.split_whitespace().map(|word| word.as_bytes().into()).collect();
            hot_keys_asked(&words)
        };
        assert_eq!(asked(""), Some((By::Reads, COUNT)));
        assert_eq!(asked("by BYTES"), Some((By::Bytes, COUNT)));
        assert_eq!(asked("COUNT 3 BY misses"), Some((By::Misses, 3)));
        for text in
            ["BY", "BY colour", "COUNT 0", "COUNT 1001", "COUNT x", "BY reads BY bytes", "3"]
        {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
