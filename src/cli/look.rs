//! Looking at a proxy that runs, and sending its clients elsewhere: `status`, `clients`,
//! `upstreams`, `slowlog`, `get`, `drain`, `resume`, over its admin API.

use crate::cli::remote::Reach;
use crate::cli::sort;
use crate::config::{ConfigError, Loaded};
use crate::units::duration::Span;
use crate::units::size::Size;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

/// How often it is asked whether clients are left.
const LOOK: Duration = Duration::from_millis(250);

/// What is asked of a running proxy.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show how a running proxy fares
    Status {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show the clients of a running proxy
    Clients {
        #[command(flatten)]
        reach: Reach,
        /// How many at most
        #[arg(short = 'n', long, default_value_t = 100, value_parser = limit())]
        limit: u16,
        /// In which order
        #[arg(long, value_name = "BY", default_value = "id")]
        sort: sort::Clients,
    },
    /// Show the servers behind a running proxy
    Upstreams {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show the commands whose answers took long (`log.slow_command`), the latest first
    Slowlog {
        #[command(flatten)]
        reach: Reach,
        /// How many at most
        #[arg(short = 'n', long, default_value_t = 20, value_parser = limit())]
        limit: u16,
        /// Forget them
        #[arg(long)]
        reset: bool,
    },
    /// Show what a running proxy holds of a key
    Get {
        #[command(flatten)]
        reach: Reach,
        /// Its values, too, if `admin.show_values` allows it
        #[arg(long)]
        value: bool,
        /// The client's key, without version
        key: OsString,
    },
    /// Have a running proxy's /readyz fail, so that clients are sent elsewhere
    Drain {
        #[command(flatten)]
        reach: Reach,
        /// Wait until no client is left
        #[arg(long)]
        wait: bool,
    },
    /// Undo drain
    Resume {
        #[command(flatten)]
        reach: Reach,
    },
}

fn limit() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=1000)
}

/// What an answer is in words.
type Words = fn(&Value) -> String;

/// Asks it.
pub(super) fn run(command: &Command, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let (reach, method, path, words): (_, _, _, Words) = match command {
        Command::Status { reach } => (reach, "GET", "/api/v1/status".to_owned(), status),
        Command::Clients { reach, limit, sort } => {
            let path = format!("/api/v1/clients?limit={limit}&sort={}", sort.as_str());
            (reach, "GET", path, clients)
        }
        Command::Upstreams { reach } => (reach, "GET", "/api/v1/upstreams".to_owned(), upstreams),
        Command::Slowlog { reach, reset: true, .. } => {
            (reach, "DELETE", "/api/v1/slowlog".to_owned(), forgotten)
        }
        Command::Slowlog { reach, limit, .. } => {
            (reach, "GET", format!("/api/v1/slowlog?limit={limit}"), slow)
        }
        Command::Get { reach, value, key } => (reach, "GET", lookup(key, *value), entry),
        Command::Drain { reach, .. } => (reach, "POST", "/api/v1/drain".to_owned(), draining),
        Command::Resume { reach } => (reach, "DELETE", "/api/v1/drain".to_owned(), draining),
    };
    let settings = match reach.settings(loaded) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let mut done = reach.ask(settings.as_ref(), method, &path, &Value::Null);
    if matches!(command, Command::Drain { wait: true, .. }) {
        // The route that drains tells how many are left; asked again it changes nothing.
        while done.as_ref().is_ok_and(|answer| number(answer, "/clients") > 0) {
            std::thread::sleep(LOOK);
            done = reach.ask(settings.as_ref(), method, &path, &Value::Null);
        }
    }
    reach.tell(done, words)
}

fn lookup(key: &OsStr, value: bool) -> String {
    let key = key.to_str().map_or_else(
        || ("key_base64", BASE64_STANDARD.encode(key.as_bytes())),
        |text| ("key", text.to_owned()),
    );
    let value = value.then(|| ("value", true.to_string()));
    let query: Vec<_> = [key].into_iter().chain(value).collect();
    // Text can always be written as a query.
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    format!("/api/v1/entries/lookup?{query}")
}

/// `web-1 in eu`
fn name(answer: &Value) -> String {
    let (instance, region) = (text(answer, "/instance"), text(answer, "/region"));
    if region.is_empty() { instance.to_owned() } else { format!("{instance} in {region}") }
}

fn status(answer: &Value) -> String {
    let (number, size) = (|at| number(answer, at), |at| Size(number(answer, at)).for_people());
    let version = text(answer, "/key_version");
    let mut lines = vec![
        format!("nearside {} as {}", text(answer, "/version"), name(answer)),
        format!("up        {}", span(number("/uptime_seconds"))),
        format!("mode      {}", text(answer, "/mode")),
        format!("keys      {}", if version.is_empty() { "as clients name them" } else { version }),
        format!("clients   {}, {} commands/s", number("/clients"), number("/ops_per_second")),
        hits(answer),
        format!(
            "memory    {} of {}, {} keys",
            size("/memory/used_bytes"),
            size("/memory/max_bytes"),
            number("/memory/entries")
        ),
    ];
    for server in list(answer, "/upstreams") {
        let (address, state) = (text(server, "/address"), text(server, "/state"));
        lines.push(format!("upstream  {address} {state}, tracking {}", text(server, "/tracking")));
    }
    for warning in list(answer, "/warnings").iter().filter_map(Value::as_str) {
        lines.push(format!("warning   {warning}"));
    }
    lines.join("\n")
}

/// Of late, and in all: what was well for days hides what is wrong now.
fn hits(answer: &Value) -> String {
    let of = |name: &str, when: &str| {
        let ratio = answer.get(name)?.as_f64()?;
        Some(format!("{:.1} % {when}", ratio * 100.0))
    };
    let all = [
        of("hit_ratio_1m", "in 1m"),
        of("hit_ratio_5m", "in 5m"),
        of("hit_ratio", "since the reset"),
    ];
    let told: Vec<String> = all.into_iter().flatten().collect();
    if told.is_empty() {
        return "hits      none asked for".to_owned();
    }
    format!("hits      {}", told.join(", "))
}

fn slow(answer: &Value) -> String {
    let row = |slow: &Value| {
        vec![
            number(slow, "/id").to_string(),
            text(slow, "/time").to_owned(),
            number(slow, "/duration_us").to_string(),
            text(slow, "/command").to_owned(),
            text(slow, "/outcome").to_owned(),
            text(slow, "/client_addr").to_owned(),
            text(slow, "/client_name").to_owned(),
            ["/key", "/key_base64", "/key_hash"].map(|at| text(slow, at)).concat(),
        ]
    };
    let head = ["id", "time", "us", "command", "outcome", "client", "name", "key"];
    table(&head, list(answer, "/commands").iter().map(row).collect())
}

fn clients(answer: &Value) -> String {
    let row = |client: &Value| {
        vec![
            number(client, "/id").to_string(),
            text(client, "/addr").to_owned(),
            text(client, "/name").to_owned(),
            span(number(client, "/age_seconds")),
            span(number(client, "/idle_seconds")),
            number(client, "/db").to_string(),
            text(client, "/command").to_owned(),
            number(client, "/commands").to_string(),
            number(client, "/hits").to_string(),
            number(client, "/unsent_bytes").to_string(),
        ]
    };
    let head =
        ["id", "addr", "name", "age", "idle", "db", "command", "commands", "hits", "unsent bytes"];
    let rows: Vec<_> = list(answer, "/clients").iter().map(row).collect();
    let (shown, total) = (rows.len() as u64, number(answer, "/total"));
    let text = table(&head, rows);
    if shown < total { format!("{text}\n{shown} of {total}") } else { text }
}

fn upstreams(answer: &Value) -> String {
    let row = |server: &Value| {
        let p99 = server.get("p99_ms").and_then(Value::as_f64);
        vec![
            text(server, "/address").to_owned(),
            text(server, "/state").to_owned(),
            text(server, "/role").to_owned(),
            format!("{} {}", text(server, "/server"), text(server, "/version")),
            number(server, "/connections").to_string(),
            number(server, "/errors").to_string(),
            p99.map_or_else(String::new, |p99| format!("{p99:.2}")),
            text(server, "/tracking").to_owned(),
        ]
    };
    let head =
        ["address", "state", "role", "server", "connections", "errors", "p99_ms", "tracking"];
    table(&head, list(answer, "/upstreams").iter().map(row).collect())
}

fn entry(answer: &Value) -> String {
    let row = |reply: &Value| {
        vec![
            text(reply, "/command").to_owned(),
            number(reply, "/db").to_string(),
            number(reply, "/size_bytes").to_string(),
            number(reply, "/age_ms").to_string(),
            if reply.get("stale") == Some(&Value::Bool(true)) {
                "stale".to_owned()
            } else {
                number(reply, "/ttl_ms").to_string()
            },
        ]
    };
    let (upstream, rule) = (text(answer, "/upstream_key"), text(answer, "/rule"));
    let replies = list(answer, "/replies");
    if replies.is_empty() {
        return format!("{upstream} is not cached; its rule is {rule}");
    }
    let head = ["command", "db", "bytes", "age_ms", "ttl_ms"];
    let rows = replies.iter().map(row).collect();
    let values = replies.iter().filter_map(value).collect::<Vec<_>>().concat();
    format!("{upstream} is cached by {rule}\n{}{values}", table(&head, rows))
}

/// What was stored, if that was asked for.
fn value(reply: &Value) -> Option<String> {
    let (name, value) =
        ["value", "value_base64"].into_iter().find_map(|name| Some((name, reply.get(name)?)))?;
    let cut = match reply.get("value_cut_from") {
        Some(whole) => format!(", the first of {whole} bytes"),
        None => String::new(),
    };
    let shown = value.as_str().map_or_else(|| "(nil)".to_owned(), harmless);
    let base64 = if name == "value" { "" } else { " in base64" };
    Some(format!("\n{}{base64}{cut}:\n{shown}", text(reply, "/command")))
}

/// Lines stay lines; other control characters do nothing to a terminal.
fn harmless(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

fn forgotten(answer: &Value) -> String {
    format!("forgot {} commands", number(answer, "/removed"))
}

fn draining(answer: &Value) -> String {
    let clients = number(answer, "/clients");
    if answer.get("draining") == Some(&Value::Bool(true)) {
        format!("/readyz fails: new clients are sent elsewhere; {clients} are still here")
    } else {
        format!("/readyz answers again; {clients} clients are here")
    }
}

/// Columns as wide as their widest cell; a cell that is empty is `-`.
fn table(head: &[&str], mut rows: Vec<Vec<String>>) -> String {
    rows.insert(0, head.iter().map(ToString::to_string).collect());
    for cell in rows.iter_mut().flatten().filter(|cell| cell.trim().is_empty()) {
        "-".clone_into(cell);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn span(seconds: u64) -> String {
    Span(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&["id", "name", "db"], vec![row(["1", "", "0"]), row(["123", "n", "15"])]);
        assert_eq!(text, "id   name  db\n1    -     0\n123  n     15");
    }
}
