//! What nearside knows of one key, of one request, and of this connection's last command.

use crate::cache::Variant;
use crate::command;
use crate::data::batch::Batch;
use crate::data::explain::{self, Explanation, Key};
use crate::data::session::Session;
use crate::data::standing;
use crate::snapshot::Snapshot;
use crate::wire::request::Request;
use crate::wire::value::Value;
use std::time::Duration;

fn millis(time: Duration) -> Value {
    Value::count(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn rule(key: &[u8], snapshot: &Snapshot) -> Value {
    let index = usize::from(snapshot.rules.find(key).index);
    explain::rule_name(&snapshot.settings, index).into()
}

/// PROXY GET: how old the oldest of its replies is, when the last of them ends, and each of them.
pub(super) fn key(key: &[u8], batch: &Batch<'_>) -> Value {
    let variants = batch.shared.cache.variants(key, batch.view.now);
    let is_present = variants.iter().any(|variant| !variant.is_stale);
    let mut pairs = vec![("present", Value::Count(i64::from(is_present)))];
    if let (Some(age), Some(left)) = (
        variants.iter().map(|variant| variant.age).max(),
        variants.iter().map(|variant| variant.left).max(),
    ) {
        pairs.extend([
            ("ttl_ms", millis(left)),
            ("age_ms", millis(age)),
            ("size", Value::count(variants.iter().map(|variant| variant.size).sum())),
        ]);
    }
    pairs.push(("rule", rule(key, batch.snapshot)));
    pairs.push(("replies", Value::List(variants.iter().map(reply).collect())));
    Value::Map(pairs)
}

fn reply(variant: &Variant) -> Value {
    let name = command::row(variant.command).map_or("", |row| row.name);
    Value::Map(vec![
        ("command", name.into()),
        ("db", Value::Count(i64::from(variant.space.db()))),
        ("ttl_ms", millis(variant.left)),
        ("age_ms", millis(variant.age)),
        ("size", Value::count(variant.size)),
        ("stale", Value::Count(i64::from(variant.is_stale))),
    ])
}

/// PROXY EXPLAIN: the substance of `nearside explain`, of the process that is asked.
pub(super) fn explain(request: &Request<'_>, batch: &Batch<'_>) -> Result<Value, Vec<u8>> {
    let words: Vec<&[u8]> = request.from(2).collect();
    let explained = explain::explain_now(batch.shared, batch.snapshot, &words);
    explained.map(map).map_err(|unfit| format!("ERR {unfit}").into_bytes())
}

fn map(explained: Explanation) -> Value {
    let Explanation { command, class, fate, happens, error, remedy, keys, sent, drops } = explained;
    let mut pairs = vec![("command", command.into())];
    pairs.extend(class.map(|class| ("class", class.into())));
    pairs.extend([("fate", fate.word().into()), ("happens", happens.into())]);
    let rest = [("error", error), ("remedy", remedy), ("sent", sent)];
    pairs.extend(rest.into_iter().filter_map(|(name, text)| Some((name, text?.into()))));
    pairs.extend(drops.map(|drops| ("drops", drops.into())));
    pairs.push(("keys", Value::List(keys.into_iter().map(one_key).collect())));
    Value::Map(pairs)
}

fn one_key(key: Key) -> Value {
    let Key { client, upstream, rule, cached, why, ttl_ms, stale, .. } = key;
    let mut pairs = vec![("client", client.into()), ("upstream", upstream.into())];
    pairs.extend(rule.map(|rule| ("rule", rule.into())));
    pairs.extend([("cached", Value::Count(i64::from(cached))), ("why", why.into())]);
    pairs.extend(ttl_ms.map(|ttl| ("ttl_ms", Value::count(ttl))));
    pairs.extend(stale.then_some(("stale", Value::Count(1))));
    Value::Map(pairs)
}

/// PROXY LAST: the header X-Cache that RESP lacks.
pub(super) fn last(session: &mut Session, batch: &Batch<'_>) -> Value {
    let shared = batch.shared;
    let note = session.standing.take_previous();
    let row = command::row(note.row);
    let outcome = match (note.fate, row) {
        (Some(fate), _) => fate.as_str(),
        (None, Some(row)) => standing::by_route(batch.snapshot.limits.policy.route(row)),
        // Nothing was asked yet, or what only upstream knows.
        (None, None) => "none",
    };
    let mut pairs =
        vec![("command", row.map_or("", |row| row.name).into()), ("outcome", Value::from(outcome))];
    let reason = note.fate.and_then(standing::Fate::reason);
    pairs.extend(reason.map(|reason| ("reason", reason.into())));
    if let Some((question, at)) = session.standing.recall(&note) {
        let hash = shared.cache.hash(question.key);
        let question = crate::cache::Question { hash, ..question };
        let served = matches!(outcome, "hit" | "stale")
            .then(|| shared.cache.served(&question, at))
            .flatten();
        pairs.extend(served.map(|variant| ("age_ms", millis(variant.age))));
        pairs.push(("rule", rule(question.key, batch.snapshot)));
    }
    Value::Map(pairs)
}
