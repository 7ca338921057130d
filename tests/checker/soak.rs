//! A soak: what the proxies hold, phase after phase, while faults go on.
//!
//! In: a look at both processes after each phase, when no client is left. Out: how their memory
//! grows from the first half hour on (a quarter of a shorter run), and whether they keep open what
//! they opened.

use crate::world::World;
use std::path::Path;
use std::time::Duration;

/// How much a process may grow, in MB per hour.
const GROWTH_MAX: f64 = 1.0;

/// How many files more than before it may have open on average: it is looked at while links come and
/// go.
const FILES_MORE: f64 = 2.0;

/// From when on, and of how long a run, that is asked for.
const SETTLED: Duration = Duration::from_mins(30);
const LONG: Duration = Duration::from_hours(2);

/// One look at one process.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    rss_mb: f64,
    files: usize,
}

/// All looks at both processes.
#[derive(Debug, Default)]
pub(crate) struct Soak([Vec<Look>; 2]);

impl Soak {
    /// Looks at both.
    pub(crate) fn look(&mut self, world: &World, at: Duration) {
        for (which, looks) in self.0.iter_mut().enumerate() {
            let process = Path::new("/proc").join(world.pid(which).to_string());
            let status = std::fs::read_to_string(process.join("status")).expect("it runs");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
            let kb: f64 = line.trim_end_matches("kB").trim().parse().expect("a number");
            let files = std::fs::read_dir(process.join("fd")).expect("it is ours").count();
            looks.push(Look { at, rss_mb: kb / 1024.0, files });
        }
    }

    /// Tells what came of it; true if both stayed as they were.
    pub(crate) fn print(&self, took: Duration) -> bool {
        let from = SETTLED.min(took / 4);
        let mut is_right = true;
        for (which, looks) in self.0.iter().enumerate() {
            let settled: Vec<Look> = looks.iter().filter(|look| look.at >= from).copied().collect();
            let (Some(first), Some(last)) = (settled.first(), settled.last()) else { continue };
            let growth = growth(&settled);
            let (early, late) = settled.split_at(settled.len() / 2);
            let files = |looks: &[Look]| {
                looks.iter().map(|look| look.files as f64).sum::<f64>() / looks.len() as f64
            };
            println!(
                "proxy {}: RSS {:.1} MB at {} s, {:.1} MB at {} s: {growth:+.2} MB/h; {:.1} open files \
                 in the first half, {:.1} in the second",
                which + 1,
                first.rss_mb,
                first.at.as_secs(),
                last.rss_mb,
                last.at.as_secs(),
                files(early),
                files(late),
            );
            // Of a few minutes a growth per hour says nothing.
            is_right &=
                took < LONG || (growth <= GROWTH_MAX && files(late) <= files(early) + FILES_MORE);
        }
        is_right
    }
}

/// The slope of the line through all looks (least squares), in MB per hour.
fn growth(looks: &[Look]) -> f64 {
    let hours = |look: &Look| look.at.as_secs_f64() / 3600.0;
    let count = looks.len() as f64;
    let middle = looks.iter().map(hours).sum::<f64>() / count;
    let above = looks.iter().map(|look| (hours(look) - middle) * look.rss_mb).sum::<f64>();
    let below = looks.iter().map(|look| (hours(look) - middle).powi(2)).sum::<f64>();
    if below == 0.0 { 0.0 } else { above / below }
}
