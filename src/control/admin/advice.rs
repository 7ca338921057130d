//! `GET /api/v1/advice`: for each namespace, what the cache does for it or would do, in commands
//! and bytes per second that upstream is spared, and the rule to write, or none.
//!
//! In: reads by namespace since the reset; of those that a rule keeps out, what is expected of
//! them. Out: one [`Advice`] each. A hit spares upstream a command and the reply's bytes; a miss
//! that is stored costs a PTTL. What is expected of keys that are not cached is an upper bound:
//! writes that do not pass through here are not known.

use super::figures::{per_second, ratio, rounded};
use crate::stats::{Expected, OTHER, Seen, TTLS, Tally};
use crate::units::duration::Span;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use utoipa::ToSchema;

/// Fewer reads say nothing.
const READS_MIN: u64 = 1_000;

/// A shorter time to live is as good if it has this share of the hits of the longest.
const AS_GOOD: f64 = 0.9;

/// Less of a saving, as a share of the reads, is not worth a rule.
const WORTH: f64 = 0.05;

/// What is known of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Known<'s> {
    /// Its name.
    pub(super) name: &'s str,
    /// Its reads, and bytes of replies.
    pub(super) counts: Tally,
    /// In what time.
    pub(super) length: Duration,
    /// What is expected of it, if a rule keeps it out.
    pub(super) expected: Option<&'s Expected>,
    /// How many of its misses are stored, each for a PTTL.
    pub(super) stored: f64,
}

/// What to do about one namespace, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Advice {
    /// Its name.
    namespace: String,
    reads_per_second: Option<f64>,
    /// True if most of its reads ask the cache.
    cached: bool,
    /// Hits of all lookups, as they are or would be; null: nothing is known.
    hit_ratio: Option<f64>,
    /// Hits without what their PTTLs cost.
    upstream_commands_saved_per_second: Option<f64>,
    upstream_bytes_saved_per_second: Option<f64>,
    /// `keep`, `cache`, `not_worth_it` or `unsure`.
    verdict: &'static str,
    why: String,
    /// To write into proxy.toml, if one would change anything.
    rule: Option<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unsure,
    Keep,
    Cache(Duration),
    NotWorthIt,
}

/// What to do about it, and why.
pub(super) fn advice(known: &Known<'_>) -> Advice {
    let of = |fate: Seen| known.counts.get(fate as usize).copied().unwrap_or(0);
    let (hits, misses, passed) = (of(Seen::Hit), of(Seen::Miss), of(Seen::Passed));
    let reads = hits + misses + passed;
    let is_cached = hits + misses >= passed;
    let (hit_ratio, stored, ttl) = if is_cached {
        (ratio(hits, hits + misses), known.stored, None)
    } else {
        // Every miss is stored: what a rule of its own would do at worst.
        let best = known.expected.map(best);
        (best.map(|(ratio, _)| ratio), 1.0, best.map(|(_, ttl)| ttl))
    };
    let saved = hit_ratio.map(|hits| hits - (1.0 - hits) * stored);
    let verdict = match (saved, ttl) {
        _ if reads < READS_MIN || known.name == OTHER => Verdict::Unsure,
        (None, _) => Verdict::Unsure,
        (Some(saved), _) if saved < WORTH => Verdict::NotWorthIt,
        (Some(_), None) => Verdict::Keep,
        (Some(_), Some(ttl)) => Verdict::Cache(ttl),
    };
    let rate = ratio(reads, 1).unwrap_or(0.0) / known.length.as_secs_f64().max(1e-9);
    let [.., bytes] = known.counts;
    let each = ratio(bytes, reads).unwrap_or(0.0);
    let (word, why) = words(verdict, is_cached, hit_ratio, known);
    Advice {
        namespace: known.name.to_owned(),
        reads_per_second: per_second(reads, known.length),
        cached: is_cached,
        hit_ratio: hit_ratio.map(rounded),
        upstream_commands_saved_per_second: saved.map(|saved| rounded(saved * rate)),
        upstream_bytes_saved_per_second: hit_ratio.map(|hits| rounded(hits * rate * each)),
        verdict: word,
        why,
        rule: rule(verdict, is_cached, known.name),
    }
}

/// The best that is expected, with the shortest time to live that is about as good.
fn best(expected: &Expected) -> (f64, Duration) {
    let longest = expected.hit_ratios.iter().copied().fold(0.0, f64::max);
    let mut each = expected.hit_ratios.into_iter().zip(TTLS);
    each.find(|(ratio, _)| *ratio >= AS_GOOD * longest).unwrap_or((0.0, Duration::ZERO))
}

fn words(
    verdict: Verdict,
    is_cached: bool,
    hit_ratio: Option<f64>,
    known: &Known<'_>,
) -> (&'static str, String) {
    let percent = hit_ratio.unwrap_or(0.0) * 100.0;
    match verdict {
        Verdict::Unsure if known.name == OTHER => (
            "unsure",
            "many namespaces in one: metrics.max_namespaces of them are told apart".to_owned(),
        ),
        Verdict::Unsure => ("unsure", format!("fewer than {READS_MIN} reads are known")),
        Verdict::Keep => ("keep", format!("{percent:.0} % of its lookups are hits")),
        Verdict::Cache(ttl) => {
            let ttl = Span(ttl);
            let what = "of its reads would be hits if they were kept for";
            let bound = "at most: writes past nearside are not known";
            ("cache", format!("{percent:.0} % {what} {ttl}, {bound}"))
        }
        Verdict::NotWorthIt => {
            let word = if is_cached { "are" } else { "would be" };
            let cost = "and the PTTL of what is stored costs about as much as they spare";
            ("not_worth_it", format!("{percent:.0} % of its reads {word} hits, {cost}"))
        }
    }
}

/// The rule to write, if one would change anything. Keys without a namespace have no pattern.
fn rule(verdict: Verdict, is_cached: bool, name: &str) -> Option<String> {
    if name.as_bytes() == crate::keys::ROOT {
        return None;
    }
    let mut glob = String::new();
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            glob.push('\\');
        }
        glob.push(character);
    }
    // A string of JSON is one of TOML.
    let glob = Value::from(format!("{glob}:*"));
    match verdict {
        Verdict::Cache(ttl) => {
            let ttl = Span(ttl);
            Some(format!("[[rules]]\nmatch = {glob}\nlevel = \"coherent\"\nttl = \"{ttl}\"\n"))
        }
        Verdict::NotWorthIt if is_cached => {
            Some(format!("[[rules]]\nmatch = {glob}\nlevel = \"bypass\"\n"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, advice};
    use crate::stats::{Expected, OTHER};
    use serde_json::Value;
    use std::time::Duration;

    fn told(
        name: &str,
        [hits, misses, passed]: [u64; 3],
        hit_ratios: Option<[f64; 4]>,
        stored: f64,
    ) -> Value {
        let namespace = name.to_owned();
        let expected =
            hit_ratios.map(|hit_ratios| Expected { namespace, reads: 100.0, hit_ratios });
        let counts = [hits, misses, passed, 100 * (hits + misses + passed)];
        let length = Duration::from_secs(100);
        let known = Known { name, counts, length, expected: expected.as_ref(), stored };
        serde_json::to_value(advice(&known)).unwrap()
    }

    #[test]
    fn what_serves_well_is_kept() {
        let told = told("orders", [9_000, 1_000, 0], None, 0.5);
        assert_eq!((&told["verdict"], &told["rule"]), (&"keep".into(), &Value::Null));
        assert_eq!(told["hit_ratio"], 0.9);
        assert_eq!(told["upstream_commands_saved_per_second"], 85.0, "90 hits, 5 PTTLs");
        assert_eq!(told["upstream_bytes_saved_per_second"], 9_000.0);
    }

    #[test]
    fn what_costs_more_than_it_spares_is_told() {
        let seldom = told("a\"*b", [1_000, 9_000, 0], None, 0.9);
        assert_eq!(seldom["verdict"], "not_worth_it");
        assert_eq!(seldom["upstream_commands_saved_per_second"], -71.0);
        let rule = "[[rules]]\nmatch = \"a\\\"\\\\*b:*\"\nlevel = \"bypass\"\n";
        assert_eq!(seldom["rule"], rule);
        toml::from_str::<toml::Table>(rule).unwrap();
        // Kept out already: nothing is to be changed.
        let out = told("queue", [0, 0, 10_000], Some([0.0, 0.1, 0.2, 0.3]), 0.0);
        assert_eq!((&out["verdict"], &out["rule"]), (&"not_worth_it".into(), &Value::Null));
    }

    #[test]
    fn what_would_be_worth_it_has_its_rule_with_the_shortest_time_that_does() {
        let told = told("users", [0, 0, 10_000], Some([0.3, 0.8, 0.85, 0.86]), 0.0);
        assert_eq!((&told["verdict"], &told["hit_ratio"]), (&"cache".into(), &0.8.into()));
        let rule = "[[rules]]\nmatch = \"users:*\"\nlevel = \"coherent\"\nttl = \"10s\"\n";
        assert_eq!(told["rule"], rule);
        assert_eq!(told["upstream_commands_saved_per_second"], 60.0);
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        for (name, counts) in [("new", [10, 0, 0]), (OTHER, [9_000, 0, 0]), ("out", [0, 0, 9_000])]
        {
            assert_eq!(told(name, counts, None, 1.0)["verdict"], "unsure", "{name}");
        }
        let root = told("_root", [0, 9_000, 0], None, 1.0);
        assert_eq!((&root["verdict"], &root["rule"]), (&"not_worth_it".into(), &Value::Null));
    }
}
