//! `nearside warm` and `nearside version`: long jobs of a running proxy, begun, watched and stopped
//! over its admin API.

use super::fail;
use super::remote::{Failure, Reach, is_sure};
use crate::config::Settings;
use crate::units::rate::Rate;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// `EX_TEMPFAIL`: another job is at work.
const TRY_AGAIN: u8 = 75;

/// How often a job is asked how it stands.
const LOOK: Duration = Duration::from_millis(250);

/// Keys of one run, and bytes of them, at most: what a request takes.
const KEYS_MAX: usize = 10_000;
const BYTES_MAX: usize = 512 * 1024;

/// Warm-up.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Warm {
    /// Load keys: those of a job in [[warming.jobs]], or others
    Run {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        pace: Pace,
    },
    /// Show the jobs of [[warming.jobs]]
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show how a job stands; without a number, all that are remembered
    Status {
        #[command(flatten)]
        reach: Reach,
        /// Its number
        id: Option<u64>,
    },
    /// Stop a job
    Cancel {
        #[command(flatten)]
        reach: Reach,
        /// Its number
        id: u64,
    },
}

/// What is to be loaded.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Keys {
    /// This job
    job: Option<String>,
    /// This key (repeatable)
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// All keys that this glob matches, as in KEYS
    #[arg(long, value_name = "GLOB")]
    pattern: Option<String>,
    /// The keys of this file, one a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// How fast, and whether to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Pace {
    /// Keys per second, such as 5000/s, or off for as fast as it goes
    #[arg(long, value_parser = a_second)]
    rate: Option<u64>,
    /// Wait until it has ended, and show how far it is
    #[arg(long)]
    wait: bool,
}

/// A rate as the API has it: a whole number a second.
fn a_second(text: &str) -> Result<u64, String> {
    let rate = Rate::parse(text)?;
    rate.a_second().ok_or_else(|| format!("`{text}` is no whole number of keys per second"))
}

/// Key versions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Version {
    /// Show the version in force
    Show {
        #[command(flatten)]
        reach: Reach,
    },
    /// Put another version in force: it starts from nothing, the one before is kept upstream
    Set {
        #[command(flatten)]
        reach: Reach,
        /// The version
        version: String,
        /// Only if this one is in force
        #[arg(long, value_name = "VERSION")]
        expect: Option<String>,
        /// Only tell how many clients wait for keys of the version in force
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Delete every key of another key version upstream
    Purge {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        how: How,
        /// Delete no more than so many
        #[arg(long, value_name = "N")]
        max_keys: Option<u64>,
    },
    /// Move keys without a version into one: `a` becomes `v1:a`
    Adopt {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        how: How,
        /// Only keys that this glob matches
        #[arg(long, value_name = "GLOB")]
        pattern: Option<String>,
    },
    /// Move the keys of a version out of it: `v1:a` becomes `a`
    Strip {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        how: How,
        /// Only keys whose name without version this glob matches
        #[arg(long, value_name = "GLOB")]
        pattern: Option<String>,
    },
}

/// Which version, and how.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// The version
    version: String,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pace: Pace,
}

impl Warm {
    pub(super) const fn reach(&self) -> &Reach {
        let (Self::Run { reach, .. }
        | Self::List { reach }
        | Self::Status { reach, .. }
        | Self::Cancel { reach, .. }) = self;
        reach
    }

    /// `nearside warm`.
    pub(super) fn run(&self, settings: Option<&Settings>) -> ExitCode {
        match self {
            Self::Run { reach, keys, pace } => match runs(keys) {
                Ok(runs) => warm(&Asker { reach, settings }, runs, *pace),
                Err(error) => fail(1, &error),
            },
            Self::List { reach } => {
                let done = reach.ask(settings, "GET", "/api/v1/warm/jobs", &Value::Null);
                reach.tell(done, |answer| lines(answer, configured))
            }
            Self::Status { reach, id: None } => {
                let done = reach.ask(settings, "GET", "/api/v1/jobs", &Value::Null);
                reach.tell(done, |answer| lines(answer, words))
            }
            Self::Status { reach, id: Some(id) } => {
                let done = reach.ask(settings, "GET", &path(*id), &Value::Null);
                reach.tell(done, words)
            }
            Self::Cancel { reach, id } => {
                let done = reach.ask(settings, "DELETE", &path(*id), &Value::Null);
                reach.tell(done, words)
            }
        }
    }
}

impl Version {
    pub(super) const fn reach(&self) -> &Reach {
        let (Self::Show { reach }
        | Self::Set { reach, .. }
        | Self::Purge { reach, .. }
        | Self::Adopt { reach, .. }
        | Self::Strip { reach, .. }) = self;
        reach
    }

    /// `nearside version`.
    pub(super) fn run(&self, settings: Option<&Settings>) -> ExitCode {
        let (reach, how, verb, mut body, question) = match self {
            Self::Show { reach } => {
                let done = reach.ask(settings, "GET", "/api/v1/key-versions", &Value::Null);
                return reach.tell(done, versions);
            }
            Self::Set { reach, version, expect, dry_run, yes } => {
                if !dry_run && !yes && !is_sure(&format!("put version {version} in force?")) {
                    return fail(1, &anyhow::anyhow!("nothing done: --yes does not ask"));
                }
                let body = json!({ "version": version, "expect": expect, "dry_run": dry_run });
                let done = reach.ask(settings, "PUT", "/api/v1/key-versions/current", &body);
                return reach.tell(done, switched);
            }
            Self::Purge { reach, how, max_keys } => {
                let body = json!({ "max_keys": max_keys });
                (reach, how, "purge", body, "delete every key upstream of version")
            }
            Self::Adopt { reach, how, pattern } => {
                let body = json!({ "pattern": pattern });
                (reach, how, "adopt", body, "rename keys upstream without a version to those of")
            }
            Self::Strip { reach, how, pattern } => {
                let body = json!({ "pattern": pattern });
                (reach, how, "strip", body, "rename keys upstream to those without version, from")
            }
        };
        if !how.dry_run && !how.yes && !is_sure(&format!("{question} {}?", how.version)) {
            return fail(1, &anyhow::anyhow!("nothing done: --yes does not ask"));
        }
        if let Some(members) = body.as_object_mut() {
            members.insert("dry_run".to_owned(), how.dry_run.into());
            members.insert("rate_per_second".to_owned(), how.pace.rate.into());
        }
        let path = format!("/api/v1/key-versions/{}/{verb}", segment(&how.version));
        let asker = Asker { reach, settings };
        match asker.job(&path, &body, how.pace.wait) {
            Ok(job) => asker.show(&job),
            Err(failure) => reach.tell(Err(failure), words),
        }
    }
}

/// The version in force, and the next one while it is being switched; below it those of rules, and
/// what has none.
fn versions(answer: &Value) -> String {
    let list = |value: &Value| {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(" ")
    };
    let mut told = text(answer, "current").to_owned();
    let next = text(answer, "switching_to");
    if !next.is_empty() {
        told = format!("{told}, switching to {next}");
    }
    for rule in answer.get("rules").and_then(Value::as_array).into_iter().flatten() {
        let globs = rule.get("match").map(list).unwrap_or_default();
        told = format!("{told}\n{globs}: {}", text(rule, "version"));
    }
    let excluded = answer.get("exclude").map(list).unwrap_or_default();
    if !excluded.is_empty() {
        told = format!("{told}\nexcluded: {excluded}");
    }
    told
}

/// What became of a version, or would.
fn switched(answer: &Value) -> String {
    let blocked = answer.get("blocked_clients").and_then(Value::as_u64).unwrap_or_default();
    let (version, was) = (text(answer, "version"), text(answer, "was"));
    format!("{was} -> {version}; clients that wait for keys of {was}: {blocked}")
}

/// Who asks which proxy.
struct Asker<'a> {
    reach: &'a Reach,
    settings: Option<&'a Settings>,
}

impl Asker<'_> {
    /// Begins a job and, if asked to, waits for its end.
    fn job(&self, path: &str, body: &Value, waits: bool) -> Result<Value, Failure> {
        let mut job = self.reach.ask(self.settings, "POST", path, body)?;
        let id = job.get("id").and_then(Value::as_u64).unwrap_or_default();
        while waits && is_running(&job) {
            progress(&job);
            std::thread::sleep(LOOK);
            job = self.reach.ask(self.settings, "GET", &self::path(id), &Value::Null)?;
        }
        Ok(job)
    }

    /// Prints a job; what failed is a failure.
    fn show(&self, job: &Value) -> ExitCode {
        let shown = self.reach.tell(Ok(job.clone()), words);
        let is_well = matches!(text(job, "state"), "running" | "done");
        if is_well { shown } else { ExitCode::FAILURE }
    }
}

fn warm(asker: &Asker<'_>, runs: Vec<Map<String, Value>>, pace: Pace) -> ExitCode {
    let count = runs.len();
    let mut code = ExitCode::SUCCESS;
    for (place, mut run) in runs.into_iter().enumerate() {
        run.insert("rate_per_second".to_owned(), pace.rate.into());
        // The next one begins when this one has ended.
        let waits = pace.wait || place + 1 < count;
        match asker.job("/api/v1/warm/runs", &Value::Object(run), waits) {
            Ok(job) => code = asker.show(&job),
            Err(failure) => return asker.reach.tell(Err(failure), words),
        }
        if code != ExitCode::SUCCESS {
            break;
        }
    }
    code
}

/// One run, or as many as it takes for the keys of a file.
fn runs(keys: &Keys) -> anyhow::Result<Vec<Map<String, Value>>> {
    let one = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
    if let Some(job) = &keys.job {
        return Ok(vec![one("job", job.clone().into())]);
    }
    if let Some(pattern) = &keys.pattern {
        return Ok(vec![one("pattern", pattern.clone().into())]);
    }
    let mut list = keys.key.clone();
    if let Some(path) = &keys.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("`{}` cannot be read: {error}", path.display()))?;
        list.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        anyhow::ensure!(!list.is_empty(), "`{}` has no keys", path.display());
    }
    let (mut runs, mut part, mut room) = (Vec::new(), Vec::new(), BYTES_MAX);
    for key in list {
        if part.len() == KEYS_MAX || (key.len() > room && !part.is_empty()) {
            runs.push(one("keys", std::mem::take(&mut part).into()));
            room = BYTES_MAX;
        }
        room = room.saturating_sub(key.len());
        part.push(key);
    }
    runs.push(one("keys", part.into()));
    Ok(runs)
}

impl Failure {
    /// How a job in the way is told.
    pub(super) fn try_again(text: String) -> ExitCode {
        fail(TRY_AGAIN, &anyhow::anyhow!(text))
    }
}

fn path(id: u64) -> String {
    format!("/api/v1/jobs/{id}")
}

/// A part of a path, as URLs write it.
fn segment(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let one = |byte| match byte {
        byte if is_plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn is_running(job: &Value) -> bool {
    text(job, "state") == "running"
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A list of the API, a line each.
fn lines(answer: &Value, line: impl Fn(&Value) -> String) -> String {
    let list = answer.get("jobs").and_then(Value::as_array);
    let lines: Vec<String> = list.into_iter().flatten().map(line).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join("\n") }
}

/// A job in a line.
fn words(job: &Value) -> String {
    let mut line = format!(
        "job {} {} ({}): {}",
        job.get("id").and_then(Value::as_u64).unwrap_or_default(),
        text(job, "kind"),
        text(job, "what"),
        text(job, "state"),
    );
    if job.get("dry_run") == Some(&Value::Bool(true)) {
        line.push_str(", dry run");
    }
    for (name, count) in job.get("counts").and_then(Value::as_object).into_iter().flatten() {
        line = format!("{line}, {count} {name}");
    }
    for (name, unit) in [("errors", " errors"), ("eta_seconds", " s left")] {
        if let Some(number) = job.get(name).and_then(Value::as_u64).filter(|number| *number > 0) {
            line = format!("{line}, {number}{unit}");
        }
    }
    match text(job, "error") {
        "" => line,
        error => format!("{line}: {error}"),
    }
}

/// A job of the configuration in a line.
fn configured(job: &Value) -> String {
    let mut line = format!("{}: {}", text(job, "name"), text(job, "keys"));
    for name in ["every", "cron", "timezone"] {
        if !text(job, name).is_empty() {
            line = format!("{line}, {name} {}", text(job, name));
        }
    }
    line
}

/// Shows how far a job is, over the line that is there.
fn progress(job: &Value) {
    let mut out = stderr();
    if out.is_terminal() && stdout().is_terminal() {
        let total = job.get("total").and_then(Value::as_u64);
        let total = total.map_or_else(String::new, |total| format!(" of {total}"));
        let done = job.get("done").and_then(Value::as_u64).unwrap_or_default();
        let left = job.get("eta_seconds").and_then(Value::as_u64);
        let left = left.map_or_else(String::new, |left| format!(", {left} s left"));
        // A line that cannot be shown is not missed.
        write!(out, "\r\x1b[K{done}{total} keys{left}\r").and_then(|()| out.flush()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, KEYS_MAX, Keys, runs, segment, words};
    use serde_json::json;

    #[test]
    fn a_long_list_takes_several_runs() {
        let lengths = |keys: Vec<String>| {
            let keys = Keys { job: None, key: keys, pattern: None, file: None };
            let runs = runs(&keys).unwrap();
            runs.iter().map(|run| run["keys"].as_array().unwrap().len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(vec!["a".to_owned(); 3]), [3]);
        assert_eq!(lengths(vec!["a".to_owned(); KEYS_MAX + 1]), [KEYS_MAX, 1]);
        assert_eq!(lengths(vec!["a".repeat(BYTES_MAX / 2 + 1); 3]), [1, 1, 1]);
    }

    #[test]
    fn a_version_is_one_part_of_the_path() {
        assert_eq!(segment("v1"), "v1");
        assert_eq!(segment("a/b%"), "a%2Fb%25");
    }

    #[test]
    fn a_job_is_one_line() {
        let job = json!({
            "id": 7, "kind": "purge", "what": "version v1:*", "state": "failed", "dry_run": true,
            "counts": { "deleted": 3 }, "errors": 0, "eta_seconds": null, "error": "no",
        });
        let line = "job 7 purge (version v1:*): failed, dry run, 3 deleted: no";
        assert_eq!(words(&job), line);
    }
}
