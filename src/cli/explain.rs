//! `nearside explain CMD ARGS...`: what would happen to one request, on a terminal. In: its words;
//! out: what the settings in force say, without a server, or with `--live` what a running proxy
//! says. What is refused is a failure, for scripts that ask whether something would work.

use super::remote::{Failure, Reach};
use super::{ended, fail, sound};
use crate::config::{ConfigError, Loaded, Settings};
use crate::data::explain::explain;
use crate::units::duration::Span;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Write, stdout};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

/// Which request, and who is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// Ask the running proxy: what it has learned, and what it holds of the keys now
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    reach: Reach,
    /// The request, as a client would send it: GET session:42
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    request: Vec<OsString>,
}

/// Explains it.
pub(super) fn run(choice: &Choice, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let Choice { live, reach, request } = choice;
    if !live {
        return sound(loaded, |loaded| offline(&loaded.settings, reach.json, request));
    }
    let settings = match reach.settings(loaded) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let done = ask(reach, settings.as_ref(), request);
    let is_refused = done.as_ref().is_ok_and(is_refused);
    let told = reach.tell(done, |answer| lines(answer).join("\n"));
    if is_refused { ExitCode::FAILURE } else { told }
}

/// No client would get more than an error.
fn is_refused(explained: &Value) -> bool {
    explained.get("fate").is_some_and(|fate| fate == "refused")
}

/// By the settings alone: what only upstream knows stays unknown.
fn offline(settings: &Settings, json: bool, request: &[OsString]) -> ExitCode {
    let words: Vec<&[u8]> = request.iter().map(|word| word.as_bytes()).collect();
    let explained = match explain(settings, &words, |_| None) {
        Ok(explained) => explained,
        Err(unfit) => return fail(1, &unfit.into()),
    };
    let explained = match serde_json::to_value(&explained) {
        Ok(explained) => explained,
        Err(error) => return fail(1, &error.into()),
    };
    let text = if json { format!("{explained:#}") } else { lines(&explained).join("\n") };
    let told = ended(writeln!(stdout().lock(), "{text}").map_err(Into::into));
    if is_refused(&explained) { ExitCode::FAILURE } else { told }
}

fn ask(reach: &Reach, settings: Option<&Settings>, request: &[OsString]) -> Result<Value, Failure> {
    let plain: Option<Vec<&str>> = request.iter().map(|word| word.to_str()).collect();
    let in_base64 = || -> Vec<String> {
        request.iter().map(|word| BASE64_STANDARD.encode(word.as_bytes())).collect()
    };
    let body = plain.map_or_else(
        || json!({ "command_base64": in_base64() }),
        |words| json!({ "command": words }),
    );
    reach.ask(settings, "POST", "/api/v1/explain", &body)
}

/// For people.
fn lines(explained: &Value) -> Vec<String> {
    let text = |name: &str| explained.get(name).and_then(Value::as_str);
    let line = |name: &str| text(name).map(|text| format!("{name:7}  {text}"));
    let class = text("class").map_or_else(String::new, |class| format!(" ({class})"));
    let mut lines = vec![format!("command  {}{class}", text("command").unwrap_or_default())];
    lines.extend(["happens", "error", "remedy"].into_iter().filter_map(line));
    let keys = explained.get("keys").and_then(Value::as_array).into_iter().flatten();
    lines.extend(keys.flat_map(key_lines));
    lines.extend(["sent", "drops"].into_iter().filter_map(line));
    lines
}

fn key_lines(key: &Value) -> Vec<String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let cached = if key.get("cached") == Some(&Value::Bool(true)) { "yes" } else { "no" };
    let rule = match text("rule") {
        "" => String::new(),
        rule => format!("{rule}, "),
    };
    let mut lines = vec![
        format!("key      {} -> {}", text("client"), text("upstream")),
        format!("cached   {cached}: {rule}{}", text("why")),
    ];
    // Only a running proxy says anything of it.
    let is_stale = key.get("stale") == Some(&Value::Bool(true));
    lines.extend(key.get("ttl_ms").map(|ttl| match ttl.as_u64() {
        Some(_) if is_stale => "held     past its time".to_owned(),
        Some(ttl) => format!("held     now, for {}", Span(Duration::from_millis(ttl))),
        None => "held     not now".to_owned(),
    }));
    lines
}
