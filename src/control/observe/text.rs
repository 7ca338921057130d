//! The Prometheus text format, version 0.0.4, where the exporter crate has no word for it.
//!
//! In: numbers, or what the crate rendered. Out: text. Only histograms that are counted by
//! ourselves and counters that are not whole are written here; and the crate's families, which
//! come in the order of a hash map, are put in order, so that two scrapes can be compared by eye.

use crate::stats::counters::Family;

/// Writes the two lines that begin a family.
pub(super) fn family(out: &mut String, family: Family, kind: &str) {
    line(out, &format!("# HELP {} {}", family.name, family.help));
    line(out, &format!("# TYPE {} {kind}", family.name));
}

/// Writes one line.
pub(super) fn line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// Writes one series of a histogram. `labels` is empty or ends in a comma; `buckets` are the
/// bounds as `le` says them with their cumulative counts.
pub(super) fn histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    buckets: &[(&str, u64)],
    (sum, count): (f64, u64),
) {
    for (le, below) in buckets.iter().chain(&[("+Inf", count)]) {
        line(out, &format!("{name}_bucket{{{labels}le=\"{le}\"}} {below}"));
    }
    let labels = match labels.trim_end_matches(',') {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    };
    line(out, &format!("{name}_sum{labels} {sum}"));
    line(out, &format!("{name}_count{labels} {count}"));
}

/// Puts families, and the series of each, in alphabetical order. A family's `# HELP` and `# TYPE`
/// sort before its series by themselves.
pub(super) fn sorted(rendered: &str) -> String {
    let mut families: Vec<Vec<&str>> =
        rendered.split("\n\n").map(|family| family.lines().collect()).collect();
    for family in &mut families {
        family.sort_unstable();
    }
    families.sort_unstable();
    let mut out = String::with_capacity(rendered.len());
    for line in families.into_iter().flatten() {
        self::line(&mut out, line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{histogram, sorted};

    #[test]
    fn a_histogram_with_and_without_labels() {
        let mut out = String::new();
        histogram(&mut out, "x", "", &[("1", 2), ("5", 3)], (9.5, 4));
        histogram(&mut out, "x", "a=\"b\",", &[], (0.0, 0));
        let wanted = "x_bucket{le=\"1\"} 2\nx_bucket{le=\"5\"} 3\nx_bucket{le=\"+Inf\"} 4\n\
                      x_sum 9.5\nx_count 4\n\
                      x_bucket{a=\"b\",le=\"+Inf\"} 0\nx_sum{a=\"b\"} 0\nx_count{a=\"b\"} 0\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn families_in_order() {
        let rendered = "# HELP b B\n# TYPE b gauge\nb{l=\"2\"} 1\nb{l=\"1\"} 1\n\n\
                        # HELP a A\n# TYPE a counter\na 0\n\n";
        let wanted = "# HELP a A\n# TYPE a counter\na 0\n\
                      # HELP b B\n# TYPE b gauge\nb{l=\"1\"} 1\nb{l=\"2\"} 1\n";
        assert_eq!(sorted(rendered), wanted);
    }
}
