//! Keys, namespaces and patterns that are to be forgotten.

use super::Admin;
use super::ask::{Asked, Few, Operator, Params, Viewer, bytes, limited};
use super::door::{Json, rfc3339};
use super::jobs::begin_purge;
use super::problem::{Conflicts, Kind, Problem, Refused, Unasked, Unread};
use super::shown::Bytes;
use crate::control::invalidate::history;
use crate::control::invalidate::orders::{Invalid, Order, Orders, Several};
use crate::control::jobs::RATE_DEFAULT;
use crate::control::jobs::purge::{Plan, Target};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Keys of one request at most.
const KEYS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(invalidate, recent))
}

/// What is to be forgotten: keys, or exactly one of `namespace`, `pattern` and `group`; and how.
/// Keys are the client's, without version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Invalidation {
    /// These keys.
    #[schema(min_items = 1, max_items = 10_000)]
    keys: Option<Vec<String>>,
    /// Keys that are no UTF-8, each in base64; with `keys` or without.
    #[schema(min_items = 1, max_items = 10_000)]
    keys_base64: Option<Vec<String>>,
    /// All keys that begin with this and `:`; `_root`: those without any `:`.
    #[schema(example = "orders")]
    namespace: Option<String>,
    /// All keys that this glob matches, as in KEYS.
    #[schema(example = "orders:*")]
    pattern: Option<String>,
    /// All keys that the patterns of this group of `invalidation.groups` match.
    #[schema(example = "library")]
    group: Option<String>,
    /// Only count what would be forgotten.
    #[serde(default)]
    dry_run: bool,
    /// Tell no peer.
    #[serde(default)]
    local_only: bool,
    /// They are no hits any more, but what rules keep past its time (`stale_if_error`, `grace`) may
    /// still be served for that.
    #[serde(default)]
    soft: bool,
    /// Delete the keys upstream, too: a job does it. Not with `soft`.
    #[serde(default)]
    upstream: bool,
    /// With `upstream`: keys deleted per second; 0: as fast as it goes; built in: 1000.
    rate_per_second: Option<u64>,
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
struct Forgotten {
    /// Keys that were meant and held.
    matched: u64,
    /// Keys dropped here.
    removed: u64,
    /// True if the peers are told.
    published: bool,
    /// Until all were counted; they are forgotten at once.
    took_ms: f64,
    /// The job that deletes them upstream, or in a dry run counts them there.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
}

/// Make nearside forget keys, a namespace, or all keys that a glob matches.
///
/// In force at once; the answer comes when all are counted.
#[utoipa::path(
    post,
    path = "/api/v1/invalidations",
    tag = "cache",
    security(("token" = ["operator"])),
    request_body = Invalidation,
    responses((status = 200, body = Forgotten), Refused, Unread, Conflicts)
)]
async fn invalidate(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(asked): Asked<Invalidation>,
) -> Result<Json<Forgotten>, Problem> {
    let (dry_run, local_only, soft) = (asked.dry_run, asked.local_only, asked.soft);
    if soft && asked.upstream {
        let detail = "soft: what is deleted upstream, too, is not kept";
        return Err(Problem::at(Kind::InvalidRequest, "/soft", detail));
    }
    let (upstream, rate) = (asked.upstream, asked.rate_per_second.unwrap_or(RATE_DEFAULT));
    let orders = &admin.api.orders;
    let order = asked.order(orders)?;
    let begun = orders.clock.now();
    // Before anything is forgotten: it may be refused.
    let job = match purged(&order).filter(|_| upstream) {
        Some(target) => {
            let plan = Plan { target, dry_run, rate, max_keys: None };
            Some(begin_purge(&admin, plan, &who)?.id)
        }
        None => None,
    };
    let (matched, removed, published) = if dry_run {
        (orders.matched(&order).await, 0, false)
    } else {
        // In force, told and noted before anything is waited for: who asks may leave.
        let (done, published) = admin.api.forget(&order, local_only, soft);
        who.audit("invalidate", &order.to_string(), None);
        let removed = orders.count(done).await;
        (removed, removed, published)
    };
    let took_ms = orders.clock.now().since(begun).as_secs_f64() * 1e3;
    Ok(Json(Forgotten { matched, removed, published, took_ms, job }))
}

/// What an order means upstream.
pub(super) fn purged(order: &Order) -> Option<Target> {
    match order {
        Order::Keys(keys) => Some(Target::Keys(keys.clone())),
        Order::Several(Several { name, .. }) => {
            Some(Target::Group { name: name.clone(), bans: order.banned() })
        }
        _ => order.banned().pop().map(Target::Banned),
    }
}

/// The newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Recent {
    invalidations: Vec<Event>,
}

/// Something was to be forgotten.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    /// When.
    time: String,
    /// `admin`: over HTTP; `pubsub`: by a message.
    source: &'static str,
    /// `keys`, `namespace`, `pattern`, `group`, `event` or `all`.
    kind: &'static str,
    /// The namespace, the pattern, the group, the event's channel, or the key if there was
    /// only one.
    value: Option<String>,
    /// The same in base64, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// Keys that it has dropped so far: those of namespaces and patterns are counted by a sweep.
    removed: u64,
    /// True if what rules keep past its time stayed for that.
    soft: bool,
}

/// What was forgotten last, because an operator or a message said so.
///
/// Not what the server announces, or what clients write: there is no end of that.
#[utoipa::path(
    get,
    path = "/api/v1/invalidations",
    tag = "cache",
    security(("token" = ["viewer"])),
    params(Few),
    responses((status = 200, body = Recent), Refused, Unasked)
)]
async fn recent(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(few): Params<Few>,
) -> Result<Json<Recent>, Problem> {
    let events = admin.api.orders.history.last(limited(few.limit)?);
    let shown = |event: history::Event| {
        let value = event.value.as_deref().map(Bytes::of).unwrap_or_default();
        Event {
            time: rfc3339(event.at),
            source: event.source.as_str(),
            kind: event.kind,
            removed: event.removed(),
            soft: event.is_soft,
            value: value.text,
            value_base64: value.base64,
        }
    };
    Ok(Json(Recent { invalidations: events.into_iter().map(shown).collect() }))
}

impl Invalidation {
    fn order(self, orders: &Orders) -> Result<Order, Problem> {
        let in_base64 = self.keys_base64.map(|keys| decoded(&keys)).transpose()?;
        let keys = match (self.keys, in_base64) {
            (None, None) => None,
            (keys, more) => {
                let keys = keys.into_iter().flatten().map(String::into_bytes);
                Some(keys.chain(more.into_iter().flatten()).collect())
            }
        };
        match (keys, self.namespace, self.pattern, self.group) {
            (Some(keys), None, None, None) => keyed(keys),
            (None, Some(name), None, None) => {
                Order::namespace(name.as_bytes()).map_err(|invalid| wrong("namespace", invalid))
            }
            (None, None, Some(pattern), None) => {
                Order::pattern(pattern.as_bytes()).map_err(|invalid| wrong("pattern", invalid))
            }
            (None, None, None, Some(group)) => orders.group(&group).map_err(|unknown| {
                Problem::at(Kind::InvalidRequest, "/group", format!("group: {unknown}"))
            }),
            (None, None, None, None) => {
                let detail = "the body says nothing: give one of keys, namespace, pattern, group";
                Err(Problem::at(Kind::InvalidRequest, "", detail))
            }
            _ => {
                let detail = "only one of keys, namespace, pattern and group is possible";
                Err(Problem::at(Kind::InvalidRequest, "", detail))
            }
        }
    }
}

fn decoded(keys: &[String]) -> Result<Vec<Vec<u8>>, Problem> {
    let keys = keys.iter().enumerate();
    keys.map(|(at, key)| bytes(&format!("/keys_base64/{at}"), key)).collect()
}

fn keyed(keys: Vec<Vec<u8>>) -> Result<Order, Problem> {
    if keys.is_empty() || keys.len() > KEYS_MAX {
        let detail = format!("keys has {} keys, not 1 to {KEYS_MAX}", keys.len());
        return Err(Problem::at(Kind::InvalidRequest, "/keys", detail));
    }
    Ok(Order::Keys(keys))
}

pub(super) fn wrong(name: &str, invalid: Invalid) -> Problem {
    let kind = if name == "pattern" { Kind::InvalidPattern } else { Kind::InvalidRequest };
    Problem::at(kind, &format!("/{name}"), format!("{name} {invalid}"))
}
