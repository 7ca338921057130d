//! `[warming]`: what is loaded before anybody asks for it.

use crate::config::check::Notes;
use crate::config::written;
use crate::config::{Warming, WarmingJob, WarmingKeys, When};
use crate::units::cron::Cron;
use crate::units::rate::Rate;
use std::time::Duration;

/// Keys per second upstream is asked for.
const RATE: Rate = Rate::per_second(5000);

/// Requests on their way at a time.
const CONCURRENCY: usize = 16;
const CONCURRENCY_MAX: usize = 1024;

/// Each has series of its own; with the two that nearside names itself, 32.
const JOBS_MAX: usize = 30;

/// What nearside calls runs that are no job of `[[warming.jobs]]`.
const TAKEN: &[&str] = &["request", "snapshot", "popular"];

/// A namespace that stands for keys without one.
const ROOT: &str = "_root";

pub(super) fn warming(written: &written::Warming, notes: &mut Notes) -> Warming {
    let concurrency = written.concurrency.unwrap_or(CONCURRENCY);
    if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
        notes.fault(format!(
            "warming.concurrency: {concurrency} is not between 1 and {CONCURRENCY_MAX}"
        ));
    }
    let max_memory_ratio = written.max_memory_ratio.unwrap_or(0.8);
    if !(max_memory_ratio > 0.0 && max_memory_ratio <= 1.0) {
        notes.fault(format!(
            "warming.max_memory_ratio: {max_memory_ratio} is not above 0 and at most 1"
        ));
    }
    let mut jobs = Vec::new();
    for (place, job) in written.jobs.iter().enumerate() {
        let key = format!("warming.jobs[{place}]");
        if let Some(job) = one_job(&key, job, notes) {
            if jobs.iter().any(|other: &WarmingJob| other.name == job.name) {
                notes.fault(format!("{key}.name: `{}` is another job's already", job.name));
            }
            jobs.push(job);
        }
    }
    if jobs.len() > JOBS_MAX {
        notes.fault(format!("warming.jobs: {} are more than {JOBS_MAX}", jobs.len()));
    }
    jobs.extend(popular(written));
    let snapshot_file = written.snapshot_file.clone().filter(|path| !path.as_os_str().is_empty());
    let (on_start, ready_when_warm) =
        (written.on_start.unwrap_or(false), written.ready_when_warm.unwrap_or(false));
    if ready_when_warm && !on_start {
        notes.warn("warming.ready_when_warm has no effect without warming.on_start");
    }
    if on_start && jobs.is_empty() && snapshot_file.is_none() {
        notes.warn("warming.on_start: there is nothing to load (jobs, popular, snapshot_file)");
    }
    Warming {
        on_start,
        ready_when_warm,
        ready_timeout: written.ready_timeout.map_or(Duration::from_secs(30), |span| span.0),
        rate: written.rate.unwrap_or(RATE),
        concurrency,
        max_memory_ratio,
        snapshot_file,
        jobs,
    }
}

fn one_job(key: &str, job: &written::WarmingJob, notes: &mut Notes) -> Option<WarmingJob> {
    let name = job.name.clone().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        notes.fault(format!(
            "{key}.name: `{name}` is not a name of 1 to 64 letters, digits and `-_.:`"
        ));
    } else if TAKEN.contains(&name.as_str()) {
        notes.fault(format!("{key}.name: `{name}` is what nearside calls runs of its own"));
    }
    let keys = match (&job.keys, &job.file, &job.pattern) {
        (Some(keys), None, None) => {
            Some(WarmingKeys::List(keys.iter().map(|key| key.as_bytes().to_vec()).collect()))
        }
        (None, Some(file), None) => Some(WarmingKeys::File(file.clone())),
        (None, None, Some(pattern)) if !pattern.is_empty() => {
            Some(WarmingKeys::Pattern(pattern.as_bytes().to_vec()))
        }
        _ => {
            notes.fault(format!("{key}: write one of keys, file, pattern"));
            None
        }
    };
    if job.timezone.is_some() && job.cron.is_none() {
        notes.fault(format!("{key}.timezone: only with cron"));
    }
    let when = match (job.every, &job.cron) {
        (None, None) => Some(When::Asked),
        (Some(every), None) if every.0 >= Duration::from_secs(1) => Some(When::Every(every.0)),
        (Some(every), None) => {
            notes.fault(format!("{key}.every: {every} is less than a second"));
            None
        }
        (None, Some(cron)) => {
            let cron = notes.take(&format!("{key}.cron"), Cron::parse(cron));
            let zone = job.timezone.as_deref().unwrap_or("UTC");
            let within = |cron: Cron| notes.take(&format!("{key}.timezone"), cron.within(zone));
            cron.and_then(within).map(Box::new).map(When::Cron)
        }
        (Some(_), Some(_)) => {
            notes.fault(format!("{key}: write every or cron, not both"));
            None
        }
    };
    Some(WarmingJob { name, keys: keys?, when: when? })
}

impl Warming {
    /// Of `new`, all that is not about the start, which is over.
    pub(super) fn take_over(&mut self, new: &Self) {
        let Self { on_start, ready_when_warm, ready_timeout, .. } = *self;
        *self = Self { on_start, ready_when_warm, ready_timeout, ..new.clone() };
    }
}

/// `[warming.popular]`: by namespace, what follows it in each key.
fn popular(written: &written::Warming) -> Option<WarmingJob> {
    let key = |namespace: &str, rest: &String| match namespace {
        ROOT => rest.clone().into_bytes(),
        _ => format!("{namespace}:{rest}").into_bytes(),
    };
    let keys: Vec<Vec<u8>> = written
        .popular
        .iter()
        .flatten()
        .flat_map(|(namespace, list)| list.iter().map(|rest| key(namespace, rest)))
        .collect();
    let (name, when) = ("popular".to_owned(), When::Asked);
    (!keys.is_empty()).then_some(WarmingJob { name, keys: WarmingKeys::List(keys), when })
}
