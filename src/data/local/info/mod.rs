//! INFO: upstream's text, with nearside's own figures where a client of nearside means those, and
//! behind it nearside's own sections.
//!
//! Lines that tell of clients, connections and commands are replaced; a figure of which both have
//! a part (keyspace hits, blocked clients) is the sum; CPU, Commandstats and Errorstats are
//! nearside's altogether. Everything else passes as it came, so that a section that a later server
//! adds is there as well. Latencystats stay upstream's: nearside times outcomes, not commands.
//! Where clients are kept to a key prefix (`keys.tenant_mode`), of upstream's text only what tells
//! which server it is passes: its figures are everybody's. [`proxy`] writes nearside's own
//! sections.

pub mod proxy;

use self::proxy::append_own;
use crate::command;
use crate::data::Shared;
use crate::data::local::ledger::Totals;
use crate::data::registry::Mark;
use crate::stats::{CommandTotals, Counter};
use crate::units::usage::Usage;
use crate::wire::request::Request;

/// Sections that only nearside has.
const OWN: &[&str] = &["proxy", "proxycache", "proxyupstreams"];

/// Sections of an INFO without arguments; a server that adds one tells it on its own.
const DEFAULT: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
];

/// What a client that is kept to a key prefix may read of upstream's.
const PUBLIC: &[&str] = &[
    "arch_bits",
    "async_loading",
    "loading",
    "maxmemory_policy",
    "redis_version",
    "role",
    "server_name",
    "valkey_release_stage",
    "valkey_version",
];

/// What a client wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The sections it named, in lower case.
    sections: Vec<String>,
}

impl Wanted {
    /// The sections that a request names.
    pub fn of(request: &Request<'_>) -> Self {
        let name = |argument: &[u8]| String::from_utf8_lossy(argument).to_ascii_lowercase();
        Self { sections: request.from(1).map(name).collect() }
    }

    /// True if upstream need not be asked.
    pub fn is_own(&self) -> bool {
        let is_own = |name: &String| OWN.contains(&name.as_str());
        !self.sections.is_empty() && self.sections.iter().all(is_own)
    }

    fn has(&self, section: &str) -> bool {
        let names = |name: &String| match name.as_str() {
            "all" | "everything" => true,
            "default" => DEFAULT.contains(&section) || OWN.contains(&section),
            name => name == section,
        };
        match self.sections.as_slice() {
            [] => DEFAULT.contains(&section) || OWN.contains(&section),
            sections => sections.iter().any(names),
        }
    }
}

/// What nearside has to say in upstream's sections.
#[derive(Debug, Default)]
struct Own {
    /// Lines of its own, by name, wherever they stand.
    lines: Vec<(&'static str, String)>,
    /// What is added to upstream's number.
    sums: Vec<(&'static str, u64)>,
    /// What is taken from upstream's number.
    less: Vec<(&'static str, u64)>,
    /// Lines at the end of a section.
    added: Vec<(&'static str, String)>,
    /// Whole sections, by title.
    bodies: Vec<(&'static str, String)>,
    /// True if of upstream's lines only those pass that are [`PUBLIC`].
    is_of_tenant: bool,
}

/// INFO as upstream answered it, with nearside's part.
pub fn merged(theirs: &str, wanted: &Wanted, shared: &Shared) -> String {
    shared.ledger.hear(sections(theirs));
    let mut text = merge(theirs, &own(shared));
    append_own(&mut text, wanted, shared);
    text
}

/// INFO while upstream cannot be asked: what it said last. `None` if it never said anything, or
/// upstream is needed and was never heard of these sections.
pub fn remembered(wanted: &Wanted, shared: &Shared) -> Option<String> {
    let theirs = shared.ledger.recall(|title| wanted.has(&title.to_ascii_lowercase()));
    if theirs.is_empty() && !wanted.is_own() {
        return None;
    }
    let mut own = own(shared);
    own.lines.extend([("role", "master".to_owned()), ("loading", "0".to_owned())]);
    let mut text = merge(&theirs.join("\r\n"), &own);
    append_own(&mut text, wanted, shared);
    Some(text)
}

/// The sections of a text: title, and the lines with it.
fn sections(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            all.push((title.to_owned(), String::new()));
        }
        if let Some((_, section)) = all.last_mut() {
            section.push_str(line);
            section.push_str("\r\n");
        }
    }
    all.into_iter()
}

/// Puts nearside's part into upstream's text.
fn merge(theirs: &str, own: &Own) -> String {
    let mut text = String::with_capacity(theirs.len() + 512);
    let (mut title, mut is_replaced) = ("", false);
    for line in theirs.lines() {
        if let Some(next) = line.strip_prefix("# ") {
            end_section(&mut text, title, own);
            title = next;
            push(&mut text, line);
            let body = own.bodies.iter().find(|(section, _)| *section == title);
            is_replaced = body.is_some();
            text.push_str(body.map_or("", |(_, body)| body));
        } else if line.is_empty() {
            end_section(&mut text, title, own);
            (title, is_replaced) = ("", false);
            push(&mut text, line);
        } else if !is_replaced {
            push_line(&mut text, line, own);
        }
    }
    end_section(&mut text, title, own);
    text
}

fn end_section(text: &mut String, title: &str, own: &Own) {
    for (section, line) in &own.added {
        if *section == title {
            push(text, line);
        }
    }
}

fn push_line(text: &mut String, line: &str, own: &Own) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    if let Some((_, value)) = own.lines.iter().find(|(known, _)| *known == name) {
        push(text, &format!("{name}:{value}"));
    } else if own.is_of_tenant && !PUBLIC.contains(&name) {
        // It tells of others.
    } else if let Some((_, count)) = own.sums.iter().find(|(known, _)| *known == name)
        && let Ok(theirs) = value.parse::<u64>()
    {
        push(text, &format!("{name}:{}", theirs + count));
    } else if let Some((_, count)) = own.less.iter().find(|(known, _)| *known == name)
        && let Ok(theirs) = value.parse::<u64>()
    {
        push(text, &format!("{name}:{}", theirs.saturating_sub(*count)));
    } else {
        push(text, line);
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

fn own(shared: &Shared) -> Own {
    let totals = shared.ledger.totals();
    let mut own = Own {
        bodies: vec![
            ("Commandstats", command_stats(&totals.commands)),
            ("Errorstats", error_stats(&totals)),
        ],
        sums: vec![
            ("blocked_clients", shared.registry.count(Mark::Held) as u64),
            ("keyspace_hits", totals.get(Counter::LookupHit) + totals.get(Counter::LookupStale)),
        ],
        is_of_tenant: shared.snapshots.newest().settings.tenant_mode,
        ..Own::default()
    };
    if let Some(usage) = Usage::read() {
        own.bodies.push(("CPU", cpu(usage)));
    }
    let profile = &shared.ledger.profile;
    own.added = vec![
        ("Server", concat!("proxy_version:", env!("CARGO_PKG_VERSION")).to_owned()),
        ("Server", format!("proxy_instance:{}", profile.instance)),
    ];
    if !profile.region.is_empty() {
        own.added.push(("Server", format!("proxy_region:{}", profile.region)));
    }
    if shared.live.is_tracking_on() {
        // One link that asks for all keys has a prefix, too: the empty one.
        let snapshot = shared.snapshots.newest();
        let tracked = snapshot.tracked.as_ref();
        own.less.push((
            "tracking_total_prefixes",
            tracked.map_or(0, |tracked| tracked.len().max(1) as u64),
        ));
    }
    own.lines = figures(shared, &totals);
    own
}

/// The lines that a client of nearside means of nearside.
fn figures(shared: &Shared, totals: &Totals) -> Vec<(&'static str, String)> {
    let ledger = &shared.ledger;
    let (rates, clients) = (ledger.rates(), &shared.registry);
    let uptime = shared.clock.now().since(ledger.started_at).as_secs();
    let done = |row: &CommandTotals| row.ok + row.error - row.rejected.min(row.error);
    let errors: u64 = totals.commands.iter().map(|row| row.error).sum();
    let number = |count: u64| count.to_string();
    vec![
        ("redis_mode", "standalone".to_owned()),
        ("server_mode", "standalone".to_owned()),
        ("cluster_enabled", "0".to_owned()),
        ("tcp_port", ledger.profile.port.to_string()),
        ("uptime_in_seconds", number(uptime)),
        ("uptime_in_days", number(uptime / 86_400)),
        ("connected_clients", clients.len().to_string()),
        ("maxclients", shared.snapshots.newest().limits.clients_max.to_string()),
        ("tracking_clients", clients.count(Mark::Tracking).to_string()),
        ("pubsub_clients", clients.count(Mark::Subscriber).to_string()),
        (
            "total_connections_received",
            number(totals.sum(&[
                Counter::ConnectionsTcp,
                Counter::ConnectionsTls,
                Counter::ConnectionsUnix,
            ])),
        ),
        ("total_commands_processed", number(totals.commands.iter().map(done).sum())),
        ("instantaneous_ops_per_sec", number(rates.commands)),
        ("total_net_input_bytes", number(totals.get(Counter::NetInputBytes))),
        ("total_net_output_bytes", number(totals.get(Counter::NetOutputBytes))),
        ("instantaneous_input_kbps", kilobytes(rates.input)),
        ("instantaneous_output_kbps", kilobytes(rates.output)),
        ("rejected_connections", number(totals.get(Counter::RejectedMaxClients))),
        ("total_error_replies", number(errors)),
    ]
}

fn kilobytes(bytes: u64) -> String {
    format!("{}.{:02}", bytes / 1024, bytes % 1024 * 100 / 1024)
}

fn cpu(usage: Usage) -> String {
    format!(
        "used_cpu_sys:{}\r\nused_cpu_user:{}\r\nused_cpu_sys_children:0.000000\r\n\
         used_cpu_user_children:0.000000\r\n",
        usage.system(),
        usage.user()
    )
}

/// Hits and local answers take no time that a clock would show: `usec` is that of the others.
fn command_stats(rows: &[CommandTotals]) -> String {
    let mut body = String::new();
    for (spec, row) in command::all().iter().chain(command::own::all()).zip(rows) {
        if row.ok + row.error == 0 {
            continue;
        }
        let failed = row.error.saturating_sub(row.rejected);
        let (calls, usec) = (row.ok + failed, row.nanos / 1000);
        let hundredths = (row.nanos / 10).checked_div(calls).unwrap_or(0);
        let line = format!(
            "cmdstat_{}:calls={calls},usec={usec},usec_per_call={}.{:02},rejected_calls={},\
             failed_calls={failed}",
            spec.name,
            hundredths / 100,
            hundredths % 100,
            row.rejected
        );
        push(&mut body, &line);
    }
    body
}

/// Error replies by their first word: upstream's, and nearside's own, which are `ERR` but for
/// those of passwords and permission.
fn error_stats(totals: &Totals) -> String {
    let theirs = Counter::ALL.get(Counter::ErrErr as usize..).unwrap_or_default();
    let all: u64 = totals.commands.iter().map(|row| row.error).sum();
    let worded = [
        (Counter::ErrNoauth, totals.get(Counter::RejectedNoAuth)),
        (Counter::ErrWrongpass, totals.get(Counter::AuthFailures)),
        (Counter::ErrNoperm, totals.get(Counter::RejectedNoPerm)),
    ];
    let others = totals.sum(theirs) + worded.iter().map(|(_, count)| count).sum::<u64>();
    let ours = all.saturating_sub(others);
    let mut body = String::new();
    for counter in theirs {
        let own = match worded.iter().find(|(word, _)| word == counter) {
            Some((_, count)) => *count,
            None if *counter == Counter::ErrErr => ours,
            None => 0,
        };
        let count = totals.get(*counter) + own;
        let label = counter.row().labels.first().map_or("", |(_, word)| word);
        if count > 0 {
            push(&mut body, &format!("errorstat_{label}:count={count}"));
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::{Own, Wanted, command_stats, kilobytes, merge, sections};
    use crate::command;
    use crate::stats::CommandTotals;

    const THEIRS: &str = "# Server\r\nredis_version:7.0.15\r\ntcp_port:6379\r\n\r\n\
        # Clients\r\nconnected_clients:3\r\nblocked_clients:2\r\nkeys_of_ours:4\r\n\r\n\
        # CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2\r\n\r\n\
        # Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n";

    #[test]
    fn what_is_ours_is_put_in_its_place() {
        let own = Own {
            lines: vec![("tcp_port", "6380".to_owned()), ("connected_clients", "1".to_owned())],
            sums: vec![("blocked_clients", 5)],
            less: vec![("keys_of_ours", 3)],
            added: vec![("Server", "proxy_instance:a".to_owned())],
            bodies: vec![("CPU", "used_cpu_sys:9\r\n".to_owned())],
            is_of_tenant: false,
        };
        assert_eq!(
            merge(THEIRS, &own),
            "# Server\r\nredis_version:7.0.15\r\ntcp_port:6380\r\nproxy_instance:a\r\n\r\n\
             # Clients\r\nconnected_clients:1\r\nblocked_clients:7\r\nkeys_of_ours:1\r\n\r\n\
             # CPU\r\nused_cpu_sys:9\r\n\r\n\
             # Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
        );
        let tenant = Own { is_of_tenant: true, ..own };
        assert_eq!(
            merge(THEIRS, &tenant),
            "# Server\r\nredis_version:7.0.15\r\ntcp_port:6380\r\nproxy_instance:a\r\n\r\n\
             # Clients\r\nconnected_clients:1\r\n\r\n# CPU\r\nused_cpu_sys:9\r\n\r\n\
             # Keyspace\r\n"
        );
        let own = Own { is_of_tenant: false, ..tenant };
        assert_eq!(merge(THEIRS, &Own::default()), THEIRS);
        assert_eq!(merge("", &own), "");
    }

    #[test]
    fn sections_put_together_again_are_the_text() {
        let all: Vec<String> = sections(THEIRS).map(|(_, text)| text).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(all.join("\r\n"), THEIRS);
    }

    #[test]
    fn which_sections_are_wanted() {
        let wanted = |names: &[&str]| Wanted {
            sections: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert!(wanted(&[]).has("server") && wanted(&[]).has("proxy"));
        assert!(!wanted(&[]).has("commandstats") && wanted(&["all"]).has("commandstats"));
        assert!(!wanted(&["server"]).has("proxy"));
        assert!(wanted(&["server", "proxycache"]).has("proxycache"));
        assert!(wanted(&["default"]).has("proxyupstreams"));
        assert!(wanted(&["proxy", "proxycache"]).is_own());
        assert!(!wanted(&["proxy", "server"]).is_own() && !wanted(&[]).is_own());
    }

    #[test]
    fn a_row_of_commandstats_is_as_redis_writes_it() {
        let mut rows = vec![CommandTotals::default(); command::COUNT + 1];
        let get = usize::from(command::by_name("config|get").unwrap().index);
        rows[get] = CommandTotals { ok: 2, error: 3, rejected: 2, nanos: 37_500 };
        assert_eq!(
            command_stats(&rows),
            "cmdstat_config|get:calls=3,usec=37,usec_per_call=12.50,rejected_calls=2,\
             failed_calls=1\r\n"
        );
        rows[get] = CommandTotals { ok: 0, error: 1, rejected: 1, nanos: 0 };
        assert!(command_stats(&rows).contains(":calls=0,usec=0,usec_per_call=0.00,"));
    }

    #[test]
    fn kilobytes_as_redis_writes_them() {
        assert_eq!((kilobytes(0).as_str(), kilobytes(1536).as_str()), ("0.00", "1.50"));
    }
}
