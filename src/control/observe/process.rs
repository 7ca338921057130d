//! The `process_*` metrics that every Prometheus client library exports, read from `/proc`.
//!
//! A figure that cannot be read (no `/proc`, no right) is left out: a wrong 0 would be worse.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text;
use crate::stats::counters::Family;

/// The unit of times in `/proc`: `USER_HZ`, 100 in the ABI of every Linux we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the process metrics.
pub(super) fn write(out: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key| field(&status, key).map(|kib| kib * 1024.0);
    let rows = [
        ("process_cpu_seconds_total", "User and system CPU time spent.", Some(cpu_seconds())),
        ("process_max_fds", "Limit of open file descriptors.", max_fds()),
        ("process_open_fds", "Open file descriptors.", open_fds()),
        ("process_resident_memory_bytes", "Resident memory.", bytes("VmRSS:")),
        ("process_start_time_seconds", "Unix time of the start.", start_time()),
        ("process_threads", "Operating system threads.", field(&status, "Threads:")),
        ("process_virtual_memory_bytes", "Virtual memory.", bytes("VmSize:")),
    ];
    for (name, help, value) in rows {
        let Some(value) = value else { continue };
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        text::family(out, Family { name, help }, kind);
        text::line(out, &format!("{name} {value}"));
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds and nanoseconds, far below 2^53")]
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Without a limit there is no figure.
#[expect(clippy::cast_precision_loss, reason = "a number of files")]
fn max_fds() -> Option<f64> {
    getrlimit(Resource::Nofile).current.map(|limit| limit as f64)
}

/// The descriptor that reads the directory is not counted.
#[expect(clippy::cast_precision_loss, reason = "a number of files")]
fn open_fds() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(open.saturating_sub(1) as f64)
}

/// The boot's time plus ours after it: the 22nd field, counted from behind the command's name,
/// which may hold spaces and parentheses.
fn start_time() -> Option<f64> {
    let boot = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: f64 = after_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

/// The number behind the first line that begins with the word `key`.
fn field(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == key).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::{field, start_time, write};

    #[test]
    fn every_figure_is_found_on_linux() {
        let mut out = String::new();
        write(&mut out);
        let values: Vec<(&str, f64)> = out
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        assert!(values.len() >= 6, "{out}");
        for (name, value) in values {
            assert!(value > 0.0, "{name} is {value}");
        }
    }

    #[test]
    fn the_start_is_after_the_boot() {
        let boot = field(&fs::read_to_string("/proc/stat").unwrap(), "btime").unwrap();
        assert!(start_time().unwrap() >= boot);
    }

    #[test]
    fn fields_are_whole_words() {
        assert_eq!(field("VmRSSx: 1 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        assert_eq!(field("VmRSS:\n", "VmRSS:"), None);
        assert_eq!(field("", "VmRSS:"), None);
    }
}
