//! The pages of `nearside top` behind the first: what each lists.
//!
//! In: what is known, and how it is to be sorted and filtered. Out: rows, in the order in which
//! they stand on the screen, so that a chosen row is the one that is seen; their cells; and what
//! is forgotten if one of them is.

use super::screen::{List, at, hot_name, number, percent, rate};
use super::state::{Forget, Page, Sample, State};
use crate::cli::figures::{rows, shown};
use crate::units::duration::Span;
use crate::units::size::Size;
use serde_json::{Value, json};
use std::time::Duration;

/// The rows of the page that fit the filter, in their order.
pub(super) fn listed(state: &State) -> Vec<&Value> {
    let Some(sample) = &state.sample else {
        return Vec::new();
    };
    let (answer, name) = match state.page {
        Page::Overview => return Vec::new(),
        Page::Keys => (&sample.hot, "keys"),
        Page::Namespaces => (&sample.namespaces, "namespaces"),
        Page::Upstreams => (&sample.upstreams, "upstreams"),
        Page::Clients => (&sample.clients, "clients"),
    };
    let mut all: Vec<&Value> = rows(answer, name).iter().collect();
    if state.page == Page::Namespaces {
        all.sort_by(|a, b| state.sort.order(a, b));
    }
    all.retain(|row| title(state.page, row).contains(&state.filter));
    all
}

/// What a row is called.
fn title(page: Page, row: &Value) -> String {
    match page {
        Page::Keys => hot_name(row),
        Page::Overview | Page::Namespaces => at(row, "/namespace"),
        Page::Upstreams => at(row, "/address"),
        Page::Clients => format!("{} {}", at(row, "/addr"), at(row, "/name")).trim().to_owned(),
    }
}

/// What is to be forgotten with a row; or why nothing can be.
pub(super) fn forget(page: Page, row: &Value) -> Result<Forget, &'static str> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    match page {
        Page::Namespaces => match text("namespace").unwrap_or_default() {
            "_other" => Err("`_other` is many namespaces: say which with nearside invalidate"),
            name => Ok(Forget {
                words: format!("namespace {}", title(page, row)),
                order: json!({ "namespace": name }),
            }),
        },
        Page::Keys if row.get("key_cut_at").is_some() => {
            Err("the key is longer than what is known of it")
        }
        Page::Keys => match (text("key"), text("key_base64")) {
            (Some(key), _) => Ok(Forget {
                words: format!("key {}", title(page, row)),
                order: json!({ "keys": [key] }),
            }),
            (_, Some(key)) => Ok(Forget {
                words: format!("key {key} (base64)"),
                order: json!({ "keys_base64": [key] }),
            }),
            _ => Err("only its hash is known: hotkeys.show_keys = \"plain\" names keys"),
        },
        _ => Err("nothing here can be forgotten: 2 and 3 have keys and namespaces"),
    }
}

/// The page's list.
pub(super) fn list(state: &State, sample: &Sample) -> List {
    let (title, head) = match state.page {
        Page::Keys => (format!("hot keys by {}", at(&sample.hot, "/by")), KEYS),
        Page::Overview | Page::Namespaces => {
            (format!("namespaces by {}, 1m", state.sort.word()), NAMESPACES)
        }
        Page::Upstreams => ("upstreams".to_owned(), UPSTREAMS),
        Page::Clients => {
            let total = number(&sample.clients, "/total");
            (format!("clients by {}, of {total}", state.clients.as_str()), CLIENTS)
        }
    };
    let cells = |row: &Value| {
        let mut cells = vec![self::title(state.page, row)];
        cells.extend(match state.page {
            Page::Keys => key(row),
            Page::Overview | Page::Namespaces => namespace(row),
            Page::Upstreams => upstream(row),
            Page::Clients => client(row),
        });
        cells
    };
    let rows = listed(state).into_iter().map(cells).collect();
    List { title, head: head.to_vec(), rows }
}

/// Where messages are heard: below the servers.
pub(super) fn channels(sample: &Sample) -> List {
    let row = |row: &Value| vec![at(row, "/source"), at(row, "/address"), at(row, "/state")];
    let rows = rows(&sample.upstreams, "channels").iter().map(row).collect();
    let head = vec!["source", "address", "state"];
    List { title: "invalidation channel heard at".to_owned(), head, rows }
}

const KEYS: &[&str] =
    &["key", "per s", "share", "held", "reads/s", "misses/s", "bytes/s", "rule", "hint"];

fn key(row: &Value) -> Vec<String> {
    vec![
        rate(row.get("rate_per_second")),
        percent(row.get("share").and_then(Value::as_f64)),
        if row.get("cached") == Some(&Value::Bool(true)) { "yes" } else { "no" }.to_owned(),
        rate(row.get("reads_per_second")),
        rate(row.get("misses_per_second")),
        rate(row.get("bytes_per_second")),
        shown(row.get("rule")),
        at(row, "/hint"),
    ]
}

const NAMESPACES: &[&str] = &[
    "namespace",
    "reads/s",
    "hit ratio",
    "hits",
    "misses",
    "bypassed",
    "bytes/s",
    "keys held",
    "held",
];

fn namespace(row: &Value) -> Vec<String> {
    vec![
        rate(row.get("reads_per_second")),
        percent(row.get("hit_ratio").and_then(Value::as_f64)),
        number(row, "/hits").to_string(),
        number(row, "/misses").to_string(),
        number(row, "/bypassed").to_string(),
        rate(row.get("bytes_per_second")),
        number(row, "/entries").to_string(),
        Size(number(row, "/bytes")).for_people(),
    ]
}

const UPSTREAMS: &[&str] =
    &["address", "state", "role", "server", "links", "errors", "p99 ms", "tracking", "channel"];

fn upstream(row: &Value) -> Vec<String> {
    let p99 = row.get("p99_ms").and_then(Value::as_f64);
    vec![
        at(row, "/state"),
        at(row, "/role"),
        format!("{} {}", at(row, "/server"), at(row, "/version")),
        number(row, "/connections").to_string(),
        number(row, "/errors").to_string(),
        p99.map_or_else(|| "-".to_owned(), |p99| format!("{p99:.2}")),
        at(row, "/tracking"),
        at(row, "/channel"),
    ]
}

const CLIENTS: &[&str] =
    &["client", "id", "age", "idle", "db", "command", "commands", "hits", "unsent"];

fn client(row: &Value) -> Vec<String> {
    let span = |pointer| Span(Duration::from_secs(number(row, pointer))).to_string();
    vec![
        number(row, "/id").to_string(),
        span("/age_seconds"),
        span("/idle_seconds"),
        number(row, "/db").to_string(),
        at(row, "/command"),
        number(row, "/commands").to_string(),
        number(row, "/hits").to_string(),
        Size(number(row, "/unsent_bytes")).for_people(),
    ]
}
