//! The jobs of the configuration, and when each is begun next. A reload exchanges them; what it
//! does not change keeps its time.

use crate::config::{Warming, WarmingJob, When};
use crate::units::clock::{Tick, unix_seconds};
use std::sync::Arc;

/// When a job is begun next.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Never,
    /// At this tick; in seconds since 1970, for people.
    At(Tick, u64),
    /// At this second since 1970.
    On(u64),
}

impl Plan {
    fn after(when: &When, now: Tick) -> Self {
        let unix = unix_seconds();
        match when {
            When::Asked => Self::Never,
            When::Every(every) => {
                let nanos = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                let shown = unix.saturating_add(every.as_secs());
                Self::At(Tick(now.0.saturating_add(nanos)), shown)
            }
            When::Cron(cron) => cron.after(unix).map_or(Self::Never, Self::On),
        }
    }

    fn is_due(self, now: Tick) -> bool {
        match self {
            Self::Never => false,
            Self::At(at, _) => at <= now,
            Self::On(second) => second <= unix_seconds(),
        }
    }

    /// In seconds since 1970.
    const fn unix(&self) -> Option<u64> {
        match *self {
            Self::Never => None,
            Self::At(_, second) | Self::On(second) => Some(second),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timetable {
    pub(super) settings: Arc<Warming>,
    /// Of each job, in their order.
    plans: Vec<Plan>,
    /// False until nearside has begun: nothing is due before.
    has_begun: bool,
}

impl Timetable {
    pub(super) fn new(settings: Warming) -> Self {
        let plans = settings.jobs.iter().map(|_| Plan::Never).collect();
        Self { settings: Arc::new(settings), plans, has_begun: false }
    }

    /// From now on time goes by.
    pub(super) fn begin(&mut self, now: Tick) {
        self.has_begun = true;
        self.plans = self.settings.jobs.iter().map(|job| Plan::after(&job.when, now)).collect();
    }

    /// Other jobs. Those that are to run when they were keep the time at which they will.
    pub(super) fn exchange(&mut self, settings: Warming, now: Tick) {
        let plan = |job: &WarmingJob| {
            let is_same = |old: &WarmingJob| old.name == job.name && old.when == job.when;
            let place = self.settings.jobs.iter().position(is_same);
            let kept = place.and_then(|place| self.plans.get(place)).copied();
            let next = || if self.has_begun { Plan::after(&job.when, now) } else { Plan::Never };
            kept.unwrap_or_else(next)
        };
        self.plans = settings.jobs.iter().map(plan).collect();
        self.settings = Arc::new(settings);
    }

    /// A job whose time has come; its next one is planned.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<WarmingJob> {
        let place = self.plans.iter().position(|plan| plan.is_due(now))?;
        let job = self.settings.jobs.get(place)?.clone();
        *self.plans.get_mut(place)? = Plan::after(&job.when, now);
        Some(job)
    }

    /// The jobs, and when each is begun next, in seconds since 1970.
    pub(super) fn listed(&self) -> Vec<(WarmingJob, Option<u64>)> {
        self.settings.jobs.iter().cloned().zip(self.plans.iter().map(Plan::unix)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Timetable;
    use crate::config::{Warming, load_text};
    use crate::units::clock::Tick;
    use std::path::Path;
    use std::time::Duration;

    fn warming(jobs: &str) -> Warming {
        let text = format!("warming.jobs = [{jobs}]");
        load_text(Path::new("t"), text).unwrap().settings.warming
    }

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds).as_nanos().try_into().unwrap())
    }

    /// Names of the jobs whose time has come.
    fn due(table: &mut Timetable, now: Tick) -> Vec<String> {
        std::iter::from_fn(|| table.take_due(now)).map(|job| job.name).collect()
    }

    #[test]
    fn what_a_reload_leaves_alone_keeps_its_time() {
        const A: &str = "{ name = 'a', keys = ['1'], every = '60s' }";
        let mut table = Timetable::new(warming(A));
        assert!(due(&mut table, at(100)).is_empty(), "it has not begun");
        table.begin(at(0));
        let other_keys = "{ name = 'a', keys = ['2'], every = '60s' }";
        let b = "{ name = 'b', keys = ['1'], every = '20s' }";
        table.exchange(warming(&format!("{b}, {other_keys}")), at(30));
        assert!(due(&mut table, at(49)).is_empty());
        assert_eq!(due(&mut table, at(60)), ["b", "a"], "b since it is there, a as before");
        table.exchange(warming("{ name = 'a', keys = ['1'], every = '90s' }"), at(70));
        assert_eq!(table.listed().len(), 1);
        assert!(due(&mut table, at(159)).is_empty(), "its time is another one");
        assert_eq!(due(&mut table, at(160)), ["a"]);
    }
}
