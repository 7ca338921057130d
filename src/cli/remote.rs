//! Commands for a proxy that runs, over its admin API: `invalidate`, `clear`, `mode`; of `warm` and
//! `version` `jobs` knows more.
//!
//! The address is `--admin`, or `admin.listen` of the configuration in force here, by HTTPS if that
//! has `[admin.tls]` (whom it believes then, [`super::https`] knows); the token is read from
//! `--token-file`, or from the environment, never from an argument, which others see.

use crate::config::{ConfigError, Loaded, Settings};
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use super::https::{Https, Trust};
use super::jobs::{Version, Warm};
use super::{BAD_CONFIG, UNREACHABLE, ended, fail};

/// `EX_NOPERM`: no token, or not this one.
const NO_PERMISSION: u8 = 77;

/// What the type of every problem begins with.
const PROBLEM: &str = "urn:nearside:problem:";

/// Keys of one request: fewer than the API takes, for they may be long.
const KEYS_MAX: usize = 1000;

/// What a running proxy is told.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a running proxy forget keys
    Invalidate {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
    },
    /// Make a running proxy forget everything
    Clear {
        #[command(flatten)]
        reach: Reach,
        /// The other proxies of the same upstream, too
        #[arg(long)]
        fleet: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Have a running proxy read its configuration again
    Reload {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show or switch the mode of a running proxy: `bypass` is the kill switch
    Mode {
        #[command(flatten)]
        reach: Reach,
        /// The mode to switch to
        #[arg(value_name = "MODE")]
        wanted: Option<Mode>,
    },
    /// Have a running proxy load keys before anybody asks for them
    #[command(subcommand)]
    Warm(Warm),
    /// Delete or move the keys of a key version upstream, by a running proxy
    #[command(subcommand)]
    Version(Version),
}

/// How the proxy is reached.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// The proxy's admin API [default: `admin.listen`]
    #[arg(long, value_name = "URL", env = "NEARSIDE_ADMIN_URL")]
    admin: Option<String>,
    /// File with the token for it [default: `admin.token_file`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// For machines
    #[arg(long)]
    pub(super) json: bool,
}

/// What is to be forgotten.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// This key (repeatable)
    #[arg(long, value_name = "KEY")]
    key: Vec<OsString>,
    /// Keys from standard input, one a line
    #[arg(long)]
    stdin: bool,
    /// All keys that begin with this and `:`; `_root`: those without any `:`
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// All keys that this glob matches, as in KEYS
    #[arg(long, value_name = "GLOB")]
    pattern: Option<String>,
    /// All keys that the patterns of this group match (`invalidation.groups`)
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

/// How.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct How {
    /// Only count what would be forgotten
    #[arg(long)]
    dry_run: bool,
    /// Tell no other proxy
    #[arg(long)]
    local_only: bool,
    /// They are no hits any more, but may be served past their time (`stale_if_error`, `grace`)
    #[arg(long)]
    soft: bool,
    /// Delete the keys upstream, too
    #[arg(long, conflicts_with_all = ["all", "soft"])]
    delete_upstream: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// The modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// A near-cache
    Cache,
    /// Everything is asked of upstream; what would have been a hit is counted
    Observe,
    /// A pure proxy: nothing is stored
    Bypass,
}

impl Mode {
    /// The word that the API takes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => crate::config::Mode::Cache.as_str(),
            Self::Observe => crate::config::Mode::Observe.as_str(),
            Self::Bypass => crate::config::Mode::Bypass.as_str(),
        }
    }
}

/// Why there is no result.
pub(super) enum Failure {
    /// Nobody answers.
    Unreachable(anyhow::Error),
    /// Not with this token.
    Denied(String),
    /// Not now: another job is at work, or too many wrong tokens came from here.
    Busy(String),
    /// The configuration that it was to read is wrong.
    Misconfigured(String),
    /// Anything else.
    Refused(anyhow::Error),
}

impl Failure {
    /// In words.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Unreachable(error) | Self::Refused(error) => format!("{error:#}"),
            Self::Denied(text) | Self::Busy(text) | Self::Misconfigured(text) => text,
        }
    }
}

/// Tells it.
pub(super) fn run(command: &Command, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let reach = match command {
        Command::Invalidate { reach, .. }
        | Command::Clear { reach, .. }
        | Command::Reload { reach }
        | Command::Mode { reach, .. } => reach,
        Command::Warm(warm) => warm.reach(),
        Command::Version(version) => version.reach(),
    };
    let settings = match reach.settings(loaded) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let settings = settings.as_ref();
    match command {
        Command::Invalidate { reach, what, how } => invalidate(settings, reach, what, *how),
        Command::Clear { reach, fleet, yes } => clear(settings, reach, *fleet, *yes),
        Command::Mode { reach, wanted } => mode(settings, reach, *wanted),
        Command::Reload { reach } => {
            let done = reach.ask(settings, "POST", "/api/v1/config/reload", &json!({}));
            reach.tell(done, reloaded)
        }
        Command::Warm(warm) => warm.run(settings),
        Command::Version(version) => version.run(settings),
    }
}

/// What a reload has changed, and what waits.
fn reloaded(answer: &Value) -> String {
    let names = |member: &str| -> String {
        let list = answer.get(member).and_then(Value::as_array).cloned().unwrap_or_default();
        let names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    format!("changed: {}\nwaits for a restart: {}", names("changed"), names("pending_restart"))
}

/// `nearside invalidate`.
fn invalidate(settings: Option<&Settings>, reach: &Reach, what: &What, how: How) -> ExitCode {
    if what.all && how.dry_run {
        let error = anyhow::anyhow!("--all --dry-run: /metrics has cache_entries");
        return fail(2, &error);
    }
    if what.all && !how.soft {
        return clear(settings, reach, !how.local_only, how.yes);
    }
    let is_harmless = how.dry_run || how.yes || !how.delete_upstream;
    if !is_harmless && !is_sure("delete these keys upstream?") {
        return fail(1, &anyhow::anyhow!("nothing done: --yes does not ask"));
    }
    let orders = match orders(what) {
        Ok(orders) => orders,
        Err(error) => return fail(1, &error),
    };
    if how.delete_upstream && orders.len() > 1 {
        let error = anyhow::anyhow!("--delete-upstream takes at most {KEYS_MAX} keys at a time");
        return fail(2, &error);
    }
    let mut sum = json!({ "matched": 0, "removed": 0, "published": true });
    for mut order in orders {
        order.insert("dry_run".to_owned(), how.dry_run.into());
        order.insert("local_only".to_owned(), how.local_only.into());
        order.insert("soft".to_owned(), how.soft.into());
        order.insert("upstream".to_owned(), how.delete_upstream.into());
        match reach.ask(settings, "POST", "/api/v1/invalidations", &Value::Object(order)) {
            Ok(answer) => sum = added(&sum, &answer),
            failed => return reach.tell(failed, |_| String::new()),
        }
    }
    reach.tell(Ok(sum), |answer| {
        let word = if how.dry_run { "would remove" } else { "removed" };
        let count = number(answer, if how.dry_run { "matched" } else { "removed" });
        let told = if is_told(answer) { "; the other proxies are told" } else { "" };
        let job = answer.get("job").and_then(Value::as_u64);
        let job = job.map_or_else(String::new, |id| format!("; upstream: job {id}"));
        format!("{word} {count} keys{told}{job}")
    })
}

/// One order, or as many as it takes for the keys of standard input.
fn orders(what: &What) -> anyhow::Result<Vec<Map<String, Value>>> {
    let one = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
    if what.all {
        return Ok(vec![one("pattern", "*".into())]);
    }
    if let Some(name) = &what.namespace {
        return Ok(vec![one("namespace", name.clone().into())]);
    }
    if let Some(pattern) = &what.pattern {
        return Ok(vec![one("pattern", pattern.clone().into())]);
    }
    if let Some(group) = &what.group {
        return Ok(vec![one("group", group.clone().into())]);
    }
    let mut keys: Vec<Vec<u8>> = what.key.iter().map(|key| key.as_bytes().to_vec()).collect();
    if what.stdin {
        keys = stdin().lock().split(b'\n').collect::<Result<_, _>>()?;
        for key in keys.iter_mut().filter(|key| key.ends_with(b"\r")) {
            key.pop();
        }
    }
    let order = |keys: &[Vec<u8>]| {
        let (mut plain, mut others) = (Vec::new(), Vec::new());
        for key in keys {
            match std::str::from_utf8(key) {
                Ok(text) => plain.push(Value::from(text)),
                Err(_) => others.push(Value::from(BASE64_STANDARD.encode(key))),
            }
        }
        let both = [("keys", plain), ("keys_base64", others)].into_iter();
        let both = both.filter(|(_, keys)| !keys.is_empty());
        both.map(|(name, keys)| (name.to_owned(), keys.into())).collect()
    };
    Ok(keys.chunks(KEYS_MAX).map(order).collect())
}

/// Two answers as one.
fn added(sum: &Value, answer: &Value) -> Value {
    let both = |name| number(sum, name) + number(answer, name);
    let is_told = is_told(sum) && is_told(answer);
    let job = answer.get("job");
    json!({
        "matched": both("matched"), "removed": both("removed"), "published": is_told, "job": job,
    })
}

/// `nearside clear`.
fn clear(settings: Option<&Settings>, reach: &Reach, fleet: bool, yes: bool) -> ExitCode {
    let whose = if fleet { "this proxy and its peers hold" } else { "this proxy holds" };
    if !yes && !is_sure(&format!("drop everything that {whose}?")) {
        return fail(1, &anyhow::anyhow!("nothing done: --yes does not ask"));
    }
    let body = json!({ "local_only": !fleet });
    let done = reach.ask(settings, "POST", "/api/v1/cache/clear", &body);
    if let Ok(answer) = &done
        && fleet
        && !is_told(answer)
    {
        let here = number(answer, "removed");
        let error = "the other proxies are not told (invalidation.channel, publish)";
        return fail(1, &anyhow::anyhow!("removed {here} keys here; {error}"));
    }
    reach.tell(done, |answer| format!("removed {} keys", number(answer, "removed")))
}

/// `nearside mode`.
fn mode(settings: Option<&Settings>, reach: &Reach, mode: Option<Mode>) -> ExitCode {
    let path = "/api/v1/mode";
    let done = match mode {
        None => reach.ask(settings, "GET", path, &Value::Null),
        Some(mode) => reach.ask(settings, "PUT", path, &json!({ "mode": mode.as_str() })),
    };
    reach.tell(done, |answer| {
        answer.get("mode").and_then(Value::as_str).unwrap_or_default().to_owned()
    })
}

/// A duration of the command line.
pub(super) fn duration(written: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(written)
}

fn is_told(answer: &Value) -> bool {
    answer.get("published") == Some(&Value::Bool(true))
}

fn number(answer: &Value, name: &str) -> u64 {
    answer.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// Asks on a terminal; elsewhere nobody could answer.
#[expect(clippy::print_stderr, reason = "the command line's own voice")]
pub(super) fn is_sure(question: &str) -> bool {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return false;
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

impl Reach {
    /// The configuration here. A kill switch must not need a sound one where it is used: with
    /// `--admin` it needs none.
    pub(super) fn settings(
        &self,
        loaded: Result<Loaded, ConfigError>,
    ) -> Result<Option<Settings>, ExitCode> {
        match loaded {
            Ok(loaded) => Ok(Some(loaded.settings)),
            Err(_) if self.admin.is_some() => Ok(None),
            Err(error) => Err(fail(BAD_CONFIG, &error.into())),
        }
    }

    /// Prints what came of it: the answer as JSON, or in words.
    pub(super) fn tell(
        &self,
        done: Result<Value, Failure>,
        words: impl Fn(&Value) -> String,
    ) -> ExitCode {
        match done {
            Ok(answer) => {
                let text = if self.json { answer.to_string() } else { words(&answer) };
                ended(writeln!(stdout().lock(), "{text}").map_err(Into::into))
            }
            Err(Failure::Unreachable(error)) => fail(UNREACHABLE, &error),
            Err(Failure::Denied(text)) => fail(NO_PERMISSION, &anyhow::anyhow!(text)),
            Err(Failure::Busy(text)) => Failure::try_again(text),
            Err(Failure::Misconfigured(text)) => fail(BAD_CONFIG, &anyhow::anyhow!(text)),
            Err(Failure::Refused(error)) => fail(1, &error),
        }
    }

    /// Asks the proxy; its answer, if it has done it or will.
    pub(super) fn ask(
        &self,
        settings: Option<&Settings>,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let base = base(self.admin.as_deref(), settings).map_err(Failure::Refused)?;
        let token = self.token(settings).map_err(Failure::Refused)?;
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("Content-Type", "application/json");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(text).map_err(|error| Failure::Refused(error.into()))?;
        let caller = self.trust.caller(&url, settings).map_err(Failure::Refused)?;
        let mut answer = agent(self.timeout, caller).run(request).map_err(|error| {
            Failure::Unreachable(anyhow::Error::from(error).context(format!("no proxy at {url}")))
        })?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let detail = || {
            let detail = value.get("detail").and_then(Value::as_str).map(str::to_owned);
            detail.unwrap_or_else(|| format!("{url} answers {status}: {}", text.trim()))
        };
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        Err(match (status, kind.strip_prefix(PROBLEM).unwrap_or_default()) {
            (200 | 202 | 204, _) => return Ok(value),
            (401 | 403, _) => Failure::Denied(detail()),
            (429, _) | (_, "busy") => Failure::Busy(detail()),
            (_, "upstream-unavailable") => Failure::Unreachable(anyhow::anyhow!(detail())),
            (_, "invalid-config") => Failure::Misconfigured(detail()),
            _ => Failure::Refused(anyhow::anyhow!(detail())),
        })
    }

    fn token(&self, settings: Option<&Settings>) -> anyhow::Result<Option<String>> {
        if let Some(path) = &self.token_file {
            let text = fs::read_to_string(path)
                .with_context(|| format!("--token-file: `{}` cannot be read", path.display()))?;
            return Ok(Some(text.trim().to_owned()));
        }
        if let Ok(token) = std::env::var("NEARSIDE_ADMIN_TOKEN") {
            return Ok(Some(token.trim().to_owned()));
        }
        let operator = settings.and_then(|settings| settings.admin.operator.as_ref());
        Ok(operator.map(|token| token.reveal().to_owned()))
    }
}

/// Where the admin API is: as said, or as configured.
pub(super) fn base(said: Option<&str>, settings: Option<&Settings>) -> anyhow::Result<String> {
    let tls = settings.and_then(|settings| settings.admin.tls.server.as_ref());
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(url) = said {
        return Ok(if url.contains("://") { url.to_owned() } else { format!("{scheme}://{url}") });
    }
    let listen = settings.and_then(|settings| settings.admin.listen.as_ref());
    let listen = listen.context("admin.listen is \"off\": say --admin URL")?;
    // Who listens on all addresses is reached on this one.
    let local = listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    Ok(format!("{scheme}://{local}"))
}

/// What asks.
pub(super) fn agent(timeout: Duration, caller: Https) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // The token is for the proxy alone: not for one that the environment names.
        .proxy(None)
        .max_redirects(0)
        .build();
    let connector = TcpConnector::default().chain(caller);
    ureq::Agent::with_parts(config, connector, DefaultResolver::default())
}
