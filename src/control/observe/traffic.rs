//! Requests to the admin port, counted.
//!
//! In: a route's template, method, code and time of each. Out: text of /metrics. The labels are
//! bounded: a path that no route has is [`OTHER`], and so is a method that the route does not take.

use crate::control::observe::text;
use crate::stats::OTHER;
use crate::stats::counters::Family;
use crate::stats::histogram::{Bounds, Histogram, Snapshot};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

const REQUESTS: Family =
    Family { name: "nearside_admin_requests_total", help: "Admin HTTP requests." };

const DURATION: Family =
    Family { name: "nearside_admin_request_duration_seconds", help: "Admin HTTP request time." };

const METHOD_NOT_ALLOWED: u16 = 405;

/// What was asked of the admin port.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// By route, method and code.
    requests: BTreeMap<(String, String, u16), u64>,
    times: Histogram,
}

impl Traffic {
    /// A request to a route, by its template, was answered with `code`. No route: none had it.
    pub fn note(&self, route: Option<&str>, method: &str, code: u16, took: Duration) {
        let is_known = route.is_some() && code != METHOD_NOT_ALLOWED;
        let method = if is_known { method } else { OTHER };
        let series = (route.unwrap_or(OTHER).to_owned(), method.to_owned(), code);
        let mut counted = self.0.lock();
        *counted.requests.entry(series).or_default() += 1;
        counted.times.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    pub(super) fn write(&self, bounds: &Bounds, out: &mut String) {
        let counted = self.0.lock();
        text::family(out, REQUESTS, "counter");
        for ((route, method, code), count) in &counted.requests {
            let labels = format!("route=\"{route}\",method=\"{method}\",code=\"{code}\"");
            text::line(out, &format!("{}{{{labels}}} {count}", REQUESTS.name));
        }
        let mut times = Snapshot::default();
        counted.times.add_to(&mut times);
        drop(counted);
        text::family(out, DURATION, "histogram");
        let buckets = times.cumulative(bounds);
        let seconds = Duration::from_nanos(times.sum()).as_secs_f64();
        text::histogram(out, DURATION.name, "", &buckets, (seconds, times.count()));
    }
}

#[cfg(test)]
mod tests {
    use super::Traffic;
    use crate::stats::histogram::Bounds;
    use std::time::Duration;

    #[test]
    fn what_is_unknown_has_one_name() {
        let traffic = Traffic::default();
        let took = Duration::from_micros(70);
        traffic.note(Some("/api/v1/clients/{id}"), "DELETE", 404, took);
        traffic.note(Some("/livez"), "BREW", 405, took);
        traffic.note(None, "GET", 404, took);
        traffic.note(None, "BREW", 404, took);
        let mut text = String::new();
        traffic.write(&Bounds::new(&[0.0001]).unwrap(), &mut text);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("code=")).collect();
        let name = "nearside_admin_requests_total";
        let wanted = [
            "{route=\"/api/v1/clients/{id}\",method=\"DELETE\",code=\"404\"} 1",
            "{route=\"/livez\",method=\"_other\",code=\"405\"} 1",
            "{route=\"_other\",method=\"_other\",code=\"404\"} 2",
        ];
        assert_eq!(lines, wanted.map(|line| format!("{name}{line}")));
        assert!(text.contains("nearside_admin_request_duration_seconds_count 4\n"), "{text}");
    }
}
