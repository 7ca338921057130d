//! Commands about the server itself. Where a figure has no meaning here it is 0, as on a server
//! that was just started.

use super::args::Args;
use super::core::Core;
use super::reply::{Done, Out};
use super::session::{Client, VERSION};
use super::store::DATABASES;
use crate::keys::glob;
use std::fmt::Write as _;

pub(super) fn role(_: &mut Core, _: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    out.array(3);
    out.bulk(b"master");
    out.integer(0);
    out.array(0);
    Ok(())
}

pub(super) fn time(core: &mut Core, _: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    let now = core.store.now;
    let mut digits = itoa::Buffer::new();
    out.array(2);
    out.bulk(digits.format(now / 1000).as_bytes());
    out.bulk(digits.format(now % 1000 * 1000).as_bytes());
    Ok(())
}

/// Nothing is ever saved: the time of the start, as Redis counts it.
pub(super) fn lastsave(core: &mut Core, _: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    out.integer(core.started / 1000);
    Ok(())
}

/// Parameters that clients and tools ask for, with the values of this server.
const PARAMETERS: &[(&str, &str)] = &[
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("bind", "127.0.0.1"),
    ("cluster-enabled", "no"),
    ("hz", "10"),
    ("io-threads", "1"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("maxclients", "10000"),
    ("maxmemory-clients", "0"),
    ("maxmemory-eviction-tenacity", "10"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("notify-keyspace-events", ""),
    ("port", "0"),
    ("proto-max-bulk-len", "536870912"),
    ("requirepass", ""),
    ("save", ""),
    ("timeout", "0"),
    ("tracking-table-max-keys", "1000000"),
];

pub(super) fn config_get(core: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    let (databases, max_memory) = (DATABASES.to_string(), core.max_memory.to_string());
    let varying = [("databases", databases.as_str()), ("maxmemory", max_memory.as_str())];
    let mut found = Vec::new();
    for (name, value) in PARAMETERS.iter().chain(&varying) {
        let matches =
            |pattern: &[u8]| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        let asked = args.from(2).find(|pattern| matches(pattern));
        // A name that is no pattern is answered as it was written.
        let is_pattern = |asked: &[u8]| asked.iter().any(|byte| b"[*?".contains(byte));
        let shown = asked.map(|asked| if is_pattern(asked) { name.as_bytes() } else { asked });
        found.extend(shown.map(|shown| (shown, value)));
    }
    out.map(found.len());
    for (name, value) in found {
        out.bulk(name);
        out.bulk(value.as_bytes());
    }
    Ok(())
}

/// A section of INFO: its title, and what writes its lines.
type Section = (&'static str, fn(&Core, &mut String) -> std::fmt::Result);

const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", nothing),
    ("Modules", nothing),
    ("Errorstats", nothing),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

pub(super) fn info(core: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    let all = args.len() == 1
        || (1..args.len())
            .any(|at| args.is(at, "all") || args.is(at, "default") || args.is(at, "everything"));
    let mut text = String::new();
    for (title, lines) in SECTIONS {
        if !all && !(1..args.len()).any(|at| args.is(at, title)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let written = write!(text, "# {title}\r\n").and_then(|()| lines(core, &mut text));
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    out.verbatim(text.as_bytes());
    Ok(())
}

fn server(core: &Core, text: &mut String) -> std::fmt::Result {
    let up = (core.store.now - core.started).max(0) / 1000;
    write!(
        text,
        "redis_version:{VERSION}\r\nredis_mode:standalone\r\nnearside_embedded:1\r\n\
         nearside_version:{}\r\nos:{}\r\narch_bits:{}\r\nprocess_id:{}\r\nrun_id:{:040x}\r\n\
         tcp_port:0\r\nserver_time_usec:{}\r\nuptime_in_seconds:{up}\r\nuptime_in_days:{}\r\n\
         hz:10\r\nconfigured_hz:10\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        usize::BITS,
        std::process::id(),
        core.started,
        core.store.now * 1000,
        up / 86_400,
    )
}

fn clients(core: &Core, text: &mut String) -> std::fmt::Result {
    // The asking client is not in the map while its request runs.
    let connected = core.clients.len() + 1;
    let tracking = core.tracking.clients().len();
    write!(
        text,
        "connected_clients:{connected}\r\nmaxclients:10000\r\nblocked_clients:{}\r\n\
         tracking_clients:{tracking}\r\n",
        core.blocked_count(),
    )
}

fn memory(core: &Core, text: &mut String) -> std::fmt::Result {
    write!(
        text,
        "used_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
        core.store.used(),
        core.max_memory
    )
}

fn persistence(core: &Core, text: &mut String) -> std::fmt::Result {
    write!(
        text,
        "loading:0\r\nasync_loading:0\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:{}\r\n\
         rdb_last_bgsave_status:ok\r\naof_enabled:0\r\n",
        core.started / 1000
    )
}

fn stats(core: &Core, text: &mut String) -> std::fmt::Result {
    write!(
        text,
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\n\
         evicted_keys:0\r\npubsub_channels:{}\r\npubsub_patterns:{}\r\n\
         tracking_total_prefixes:{}\r\n",
        core.clients_seen(),
        core.commands_run,
        core.store.expired_keys,
        core.pubsub.channel_count(),
        core.pubsub.pattern_count(),
        core.tracking.prefix_count(),
    )
}

fn replication(core: &Core, text: &mut String) -> std::fmt::Result {
    write!(
        text,
        "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n\
         master_replid:{:040x}\r\nmaster_repl_offset:0\r\n",
        core.started
    )
}

fn cluster(_: &Core, text: &mut String) -> std::fmt::Result {
    text.write_str("cluster_enabled:0\r\n")
}

fn nothing(_: &Core, _: &mut String) -> std::fmt::Result {
    Ok(())
}

fn keyspace(core: &Core, text: &mut String) -> std::fmt::Result {
    for (db, (keys, expires)) in core.store.sizes().enumerate() {
        if keys > 0 {
            write!(text, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n")?;
        }
    }
    Ok(())
}
