//! What there is to see of nearside as a whole.

use super::is_word;
use crate::command::{self, Spec};
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::explain::{Fate, fate, settings_now};
use crate::data::local::filter::SYNTAX;
use crate::data::local::info;
use crate::data::registry::Client;
use crate::stats::{Counter, Seen, Tally};
use crate::units::clock::Tick;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::value::Value;
use std::sync::Arc;

/// PROXY STATS: what was counted since the last RESET.
pub(super) fn stats(shared: &Shared) -> Value {
    let (totals, figures) = (shared.ledger.totals(), shared.cache.figures());
    let rates = shared.ledger.rates();
    let get = |counter| totals.get(counter);
    let (hits, misses) = (get(Counter::LookupHit), get(Counter::LookupMiss));
    let (stale, coalesced) = (get(Counter::LookupStale), get(Counter::LookupCoalesced));
    let commands = totals.commands.iter().map(|row| row.ok + row.error).sum();
    let errors = totals.commands.iter().map(|row| row.error).sum();
    let count = Value::count;
    Value::Map(vec![
        ("uptime_seconds", count(shared.clock.now().since(shared.ledger.started_at).as_secs())),
        ("clients", count(shared.registry.len() as u64)),
        ("commands", count(commands)),
        ("commands_per_second", count(rates.commands)),
        ("errors", count(errors)),
        ("hits", count(hits)),
        ("stale_hits", count(stale)),
        ("misses", count(misses)),
        ("coalesced", count(coalesced)),
        ("bypass", count(get(Counter::LookupBypass))),
        ("hit_ratio", Value::ratio(hits + stale, hits + stale + misses + coalesced)),
        ("entries", count(figures.entries)),
        ("memory_used_bytes", count(figures.used_bytes)),
        ("memory_max_bytes", count(figures.max_bytes)),
        // The cache counts these for as long as it lives.
        ("evicted_since_start", count(figures.evicted)),
        ("expired_since_start", count(figures.expired)),
        ("invalidations", count(totals.sum(info::proxy::INVALIDATIONS))),
        ("flushes", count(totals.sum(info::proxy::FLUSHES))),
        ("net_input_bytes", count(get(Counter::NetInputBytes))),
        ("net_output_bytes", count(get(Counter::NetOutputBytes))),
    ])
}

/// PROXY NAMESPACES [COUNT n]: estimated, since the start.
pub(super) fn namespaces(request: &Request<'_>, shared: &Shared) -> Result<Value, Vec<u8>> {
    let most = match request.len() {
        2 => usize::MAX,
        4 if is_word(request.arg(2), "count") => {
            let count = parse_i64(request.arg(3)).and_then(|count| usize::try_from(count).ok());
            count.ok_or(b"ERR value is not an integer or out of range".as_slice())?
        }
        _ => return Err(SYNTAX.to_vec()),
    };
    let rows = shared.ledger.stats().namespaces();
    let row = |(name, tally): (String, Tally)| {
        let of = |seen: Seen| tally.get(seen as usize).copied().unwrap_or(0);
        let (hits, misses) = (of(Seen::Hit), of(Seen::Miss));
        Value::Map(vec![
            ("namespace", name.into()),
            ("hits", Value::count(hits)),
            ("misses", Value::count(misses)),
            ("hit_ratio", Value::ratio(hits, hits + misses)),
        ])
    };
    Ok(Value::List(rows.into_iter().take(most).map(row).collect()))
}

/// PROXY UPSTREAMS.
pub(super) fn upstreams(shared: &Shared) -> Value {
    let up = info::proxy::Upstream::look(shared);
    Value::List(vec![Value::Map(vec![
        ("address", shared.dialer.target.address.to_string().into()),
        ("server", up.server.into()),
        ("version", up.version.into()),
        ("role", up.role.into()),
        ("state", up.state.into()),
        ("links", Value::count(shared.live.links_up())),
        ("errors", Value::count(up.errors)),
        ("p99_usec", Value::count(up.p99_usec)),
        ("tracking", up.tracking.into()),
        ("channel", if shared.live.is_channel_heard() { "up" } else { "down" }.into()),
    ])])
}

/// PROXY CLIENTS: the fields of CLIENT LIST.
pub(super) fn clients(shared: &Shared, now: Tick) -> Value {
    let all = shared.registry.list();
    let mut line = String::new();
    let client = |client: &Arc<Client>| {
        line.clear();
        client.describe(&mut line, now);
        Value::Fields(fields(&line))
    };
    Value::List(all.iter().map(client).collect())
}

/// The fields of a line of CLIENT LIST. (Of all values only the path of a socket has spaces.)
fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for part in line.split(' ') {
        match (part.split_once('='), fields.last_mut()) {
            (Some((name, value)), _) => fields.push((name.to_owned(), value.to_owned())),
            (None, Some((_, value))) => value.extend([" ", part]),
            (None, None) => {}
        }
    }
    fields
}

/// PROXY COMMANDS: the names of those that nearside knows, refuses, or answers from the cache.
pub(super) fn commands(request: &Request<'_>, batch: &Batch<'_>) -> Result<Value, Vec<u8>> {
    let wanted = match request.len() {
        2 => None,
        3 if is_word(request.arg(2), "unsupported") => Some(Fate::Refused),
        3 if is_word(request.arg(2), "cacheable") => Some(Fate::Cached),
        _ => return Err(SYNTAX.to_vec()),
    };
    let settings = settings_now(batch.shared, batch.snapshot);
    let policy = settings.policy();
    // A container does nothing by itself, but COMMAND.
    let is_shown = |spec: &&Spec| spec.subcommands == 0 || spec.name == "command";
    let fits =
        |spec: &&Spec| wanted.is_none_or(|fate| fate::of_row(spec, &settings, &policy).0 == fate);
    let named = command::all().iter().filter(is_shown).filter(fits);
    Ok(Value::List(named.map(|spec| spec.name.into()).collect()))
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_line_of_fields() {
        let found = fields("id=3 name= addr=/run/a b=c:0 flags=N");
        let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(
            found,
            [("id", "3"), ("name", ""), ("addr", "/run/a"), ("b", "c:0"), ("flags", "N")]
        );
        assert_eq!(fields("addr=/run/a d:0 flags=N")[0].1, "/run/a d:0");
    }
}
