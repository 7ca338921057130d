//! Commands that show what a running proxy counts: `stats`, `namespaces`, `hotkeys`, `reset-stats`,
//! over its admin API.

use super::remote::{Failure, Reach};
use super::{ended, sort};
use crate::config::{ConfigError, Loaded, Settings};
use crate::keys::glob;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

/// How often a terminal is drawn anew.
const WATCH: Duration = Duration::from_secs(1);

/// What is to be shown.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a running proxy counts: on a terminal again and again, else once
    Stats {
        #[command(flatten)]
        reach: Reach,
        /// Once
        #[arg(short = '1', long, conflicts_with = "watch")]
        once: bool,
        /// Again and again, with this pause
        #[arg(long, value_name = "DURATION", value_parser = pause)]
        watch: Option<Duration>,
        /// Only counters whose name this glob matches
        #[arg(long, value_name = "GLOB")]
        filter: Option<String>,
    },
    /// Show how the cache serves each namespace
    Namespaces {
        #[command(flatten)]
        reach: Reach,
        /// Since when: start, reset, 10s, 1m, 5m or 10m
        #[arg(long, value_name = "WINDOW", default_value = "reset")]
        since: Since,
        /// In which order
        #[arg(long, value_name = "BY", default_value = "reads")]
        sort: sort::Namespaces,
        /// How many at most
        #[arg(short = 'n', long)]
        limit: Option<usize>,
    },
    /// Show which keys are asked for most
    Hotkeys {
        #[command(flatten)]
        reach: Reach,
        /// By what they are ranked
        #[arg(long, value_name = "BY", default_value = "reads")]
        by: By,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u16,
    },
    /// Say for each namespace what the cache spares upstream, or would, and which rule to write
    Advise {
        #[command(flatten)]
        reach: Reach,
    },
    /// Begin to count anew: in what the API, INFO and these commands tell, never in the metrics
    ResetStats {
        #[command(flatten)]
        reach: Reach,
    },
}

/// Since when.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Since {
    /// Since the proxy started
    Start,
    /// Since the last reset
    Reset,
    /// The last ten seconds
    #[value(name = "10s")]
    TenSeconds,
    /// The last minute
    #[value(name = "1m")]
    Minute,
    /// The last five
    #[value(name = "5m")]
    FiveMinutes,
    /// The last ten
    #[value(name = "10m")]
    TenMinutes,
}

impl Since {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reset => "reset",
            Self::TenSeconds => "10s",
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::TenMinutes => "10m",
        }
    }
}

/// By what keys are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// Lookups
    Reads,
    /// Bytes of replies
    Bytes,
    /// Lookups that the cache did not answer
    Misses,
}

impl By {
    /// The one behind it; behind the last the first.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Reads => Self::Bytes,
            Self::Bytes => Self::Misses,
            Self::Misses => Self::Reads,
        }
    }

    /// The word that the API takes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Bytes => "bytes",
            Self::Misses => "misses",
        }
    }
}

/// Asks, and shows the answer.
pub(super) fn run(command: &Command, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let (Command::Stats { reach, .. }
    | Command::Namespaces { reach, .. }
    | Command::Hotkeys { reach, .. }
    | Command::Advise { reach }
    | Command::ResetStats { reach }) = command;
    let settings = match reach.settings(loaded) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let settings = settings.as_ref();
    let get = |path: &str| reach.ask(settings, "GET", path, &Value::Null);
    match command {
        Command::Stats { once, watch, filter, .. } => {
            let is_watching = watch.is_some() || (!once && !reach.json && stdout().is_terminal());
            let pause = is_watching.then(|| watch.unwrap_or(WATCH));
            stats(settings, reach, pause, filter.as_deref())
        }
        Command::Namespaces { since, sort, limit, .. } => {
            let answer = get(&format!("/api/v1/namespaces?window={}", since.as_str()));
            let answer = answer.map(|answer| sorted(answer, *sort, *limit));
            reach.tell(answer, namespaces)
        }
        Command::Hotkeys { by, limit, .. } => {
            let answer = get(&format!("/api/v1/hotkeys?by={}&limit={limit}", by.as_str()));
            reach.tell(answer, hot_keys)
        }
        Command::Advise { .. } => reach.tell(get("/api/v1/advice"), advice),
        Command::ResetStats { .. } => {
            let done = reach.ask(settings, "POST", "/api/v1/stats/reset", &Value::Null);
            reach.tell(done, |_| "counting anew".to_owned())
        }
    }
}

/// `nearside stats`.
fn stats(
    settings: Option<&Settings>,
    reach: &Reach,
    pause: Option<Duration>,
    filter: Option<&str>,
) -> ExitCode {
    let ask = || -> Result<Value, Failure> {
        let answer = reach.ask(settings, "GET", "/api/v1/stats", &Value::Null);
        answer.map(|answer| filtered(answer, filter))
    };
    let Some(pause) = pause else {
        return reach.tell(ask(), overview);
    };
    loop {
        let drawn = match ask() {
            Ok(answer) if reach.json => writeln!(stdout().lock(), "{answer}"),
            // From the top, over what was there; then what is left of it goes.
            Ok(answer) => writeln!(stdout().lock(), "\x1b[H\x1b[2J{}", overview(&answer)),
            failed => return reach.tell(failed, |_| String::new()),
        };
        if let Err(error) = drawn.and_then(|()| stdout().flush()) {
            return ended(Err(error.into()));
        }
        std::thread::sleep(pause);
    }
}

/// Without the counters that nobody asked for.
fn filtered(mut answer: Value, filter: Option<&str>) -> Value {
    let counters = answer.get_mut("counters").and_then(Value::as_object_mut);
    if let (Some(filter), Some(counters)) = (filter, counters) {
        counters.retain(|name, _| glob::matches(filter.as_bytes(), name.as_bytes()));
    }
    answer
}

fn overview(answer: &Value) -> String {
    let mut text = String::new();
    let window = |name: &str| answer.pointer(&format!("/windows/{name}"));
    let lines = [
        ("hit ratio", "hit_ratio"),
        ("commands/s", "commands_per_second"),
        ("upstream/s", "upstream_requests_per_second"),
        ("miss p50 us", "latency/miss/p50_us"),
        ("miss p99 us", "latency/miss/p99_us"),
    ];
    let mut table = Table::new(&["", "1m", "5m", "reset", "start"]);
    for (title, path) in lines {
        let cells = ["1m", "5m", "reset", "start"].map(|name| {
            let value = window(name).and_then(|window| window.pointer(&format!("/{path}")));
            shown(value)
        });
        table.row([vec![title.to_owned()], cells.to_vec()].concat());
    }
    text.push_str(&table.to_string());
    let mut table = Table::new(&["counter", "start", "reset", "per second"]);
    for (name, counts) in answer.get("counters").and_then(Value::as_object).into_iter().flatten() {
        // What never happened is not worth a line.
        if counts.get("start") != Some(&Value::from(0)) {
            let cells = ["start", "reset", "per_second_1m"].map(|name| shown(counts.get(name)));
            table.row([vec![name.clone()], cells.to_vec()].concat());
        }
    }
    text.push('\n');
    text.push_str(table.to_string().trim_end());
    text
}

/// Namespaces in this order, and no more than so many.
fn sorted(mut answer: Value, sort: sort::Namespaces, limit: Option<usize>) -> Value {
    if let Some(rows) = answer.get_mut("namespaces").and_then(Value::as_array_mut) {
        rows.sort_by(|a, b| sort.order(a, b));
        rows.truncate(limit.unwrap_or(usize::MAX));
    }
    answer
}

fn namespaces(answer: &Value) -> String {
    let mut table = Table::new(&[
        "namespace",
        "reads/s",
        "bytes/s",
        "hit ratio",
        "hits",
        "misses",
        "bypassed",
        "entries held",
        "bytes held",
    ]);
    for row in rows(answer, "namespaces") {
        let names = [
            "namespace",
            "reads_per_second",
            "bytes_per_second",
            "hit_ratio",
            "hits",
            "misses",
            "bypassed",
            "entries",
            "bytes",
        ];
        table.row(names.map(|name| shown(row.get(name))).to_vec());
    }
    table.to_string().trim_end().to_owned()
}

fn hot_keys(answer: &Value) -> String {
    let per_second = format!("{}/s", answer.get("by").and_then(Value::as_str).unwrap_or_default());
    let mut table = Table::new(&["key", &per_second, "share", "cached", "rule", "hint"]);
    for row in rows(answer, "keys") {
        let hashed = row
            .get("key_hash")
            .map(|hash| format!("{}:#{}", shown(row.get("namespace")), shown(Some(hash))));
        let plain = row.get("key").or_else(|| row.get("key_base64"));
        let mut cells = vec![hashed.unwrap_or_else(|| shown(plain))];
        cells.extend(
            ["rate_per_second", "share", "cached", "rule"].map(|name| shown(row.get(name))),
        );
        cells.push(row.get("hint").and_then(Value::as_str).unwrap_or_default().to_owned());
        table.row(cells);
    }
    table.to_string().trim_end().to_owned()
}

/// `nearside advise`: a line each, and below them the rules.
fn advice(answer: &Value) -> String {
    let mut table = Table::new(&[
        "namespace",
        "reads/s",
        "hit ratio",
        "commands/s saved",
        "bytes/s saved",
        "verdict",
    ]);
    let (mut rules, mut reasons) = (String::new(), String::new());
    for row in rows(answer, "namespaces") {
        let names = [
            "namespace",
            "reads_per_second",
            "hit_ratio",
            "upstream_commands_saved_per_second",
            "upstream_bytes_saved_per_second",
            "verdict",
        ];
        table.row(names.map(|name| shown(row.get(name))).to_vec());
        let (name, why) = (shown(row.get("namespace")), shown(row.get("why")));
        reasons.extend([&*name, ": ", &*why, "\n"]);
        if let Some(rule) = row.get("rule").and_then(Value::as_str) {
            rules.extend(["\n# ", &*name, ": ", &*why, "\n", rule]);
        }
    }
    format!("{table}\n{reasons}{rules}").trim_end().to_owned()
}

/// The rows of a list.
pub(super) fn rows<'v>(answer: &'v Value, name: &str) -> &'v [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A cell; control characters, which a key may have, do nothing to a terminal.
pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        Some(value) => value.to_string(),
    }
}

/// The pause between two looks.
pub(super) fn pause(written: &str) -> Result<Duration, String> {
    match humantime::parse_duration(written) {
        Ok(pause) if pause < Duration::from_millis(100) => Err("at least 100ms".to_owned()),
        Ok(pause) => Ok(pause),
        Err(error) => Err(error.to_string()),
    }
}

/// Columns as wide as what stands in them: the first from the left, the others from the right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these titles.
    pub(super) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(ToString::to_string).collect()] }
    }

    /// One more row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows.first().map_or(0, Vec::len)).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(line, "{cell:width$}")?;
                } else {
                    write!(line, "  {cell:>width$}")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, filtered, hot_keys, overview, pause, rows, shown, sorted};
    use crate::cli::sort::Namespaces;
    use serde_json::json;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(&["name", "n"]);
        table.row(vec!["a".to_owned(), "1000".to_owned()]);
        assert_eq!(table.to_string(), "name     n\na     1000\n");
    }

    #[test]
    fn counters_are_filtered_and_those_at_zero_left_out() {
        let counts = |start: u64| json!({"start": start, "reset": 1, "per_second_1m": 0.5});
        let answer = json!({
            "windows": {"1m": {"hit_ratio": 0.5}},
            "counters": {"a_total": counts(0), "b_total": counts(3), "c_total": counts(4)},
        });
        let text = overview(&filtered(answer.clone(), Some("[ab]_*")));
        assert!(text.contains("hit ratio") && text.contains("0.5"), "{text}");
        assert!(!text.contains("a_total") && !text.contains("c_total"), "{text}");
        assert!(text.ends_with("b_total      3      1         0.5"), "{text}");
        assert!(overview(&filtered(answer, None)).contains("c_total"));
    }

    #[test]
    fn a_key_cannot_draw_on_the_terminal() {
        let key = json!({"key": "a\u{1b}[2J", "rate_per_second": 1.5, "hint": null});
        let text = hot_keys(&json!({"by": "reads", "keys": [key]}));
        assert!(text.contains("reads/s") && text.contains("a\u{fffd}[2J"), "{text}");
        let key = json!({"key_hash": "00ff", "namespace": "orders", "hint": "no_rule"});
        let text = hot_keys(&json!({"by": "bytes", "keys": [key]}));
        assert!(text.contains("orders:#00ff") && text.contains("no_rule"), "{text}");
    }

    #[test]
    fn namespaces_come_in_the_order_that_is_wanted() {
        let row = |name: &str, reads: f64, ratio: Option<f64>, bytes: u64| {
            json!({
                "namespace": name, "reads_per_second": reads, "hit_ratio": ratio, "bytes": bytes,
            })
        };
        let answer = json!({ "namespaces": [
            row("b", 1.0, Some(0.5), 10),
            row("a", 3.0, None, 20),
            row("c", 2.0, Some(0.1), 0),
        ]});
        let names = |sort, limit| -> Vec<String> {
            let answer = sorted(answer.clone(), sort, limit);
            rows(&answer, "namespaces").iter().map(|row| shown(row.get("namespace"))).collect()
        };
        assert_eq!(names(Namespaces::Reads, None), ["a", "c", "b"]);
        assert_eq!(names(Namespaces::HitRatio, None), ["c", "b", "a"]);
        assert_eq!(names(Namespaces::Held, Some(2)), ["a", "b"]);
        assert_eq!(names(Namespaces::Name, Some(1)), ["a"]);
    }

    #[test]
    fn a_pause_is_long_enough() {
        assert!(pause("1ms").is_err() && pause("x").is_err());
        assert_eq!(pause("2s").unwrap().as_secs(), 2);
    }
}
