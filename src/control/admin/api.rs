//! `/api/v1`: what operators look at and change over HTTP. JSON in and out; who may is decided by
//! [`super::guard`]; everything that changes something leaves a line in the log.
//!
//! ```text
//! POST /api/v1/invalidations   {"keys":["a"]} or {"namespace":"orders"} or {"pattern":"orders:*"},
//!                              and "dry_run":true, "local_only":true
//!                              -> {"matched":2,"removed":2,"published":true,"took_ms":0.4}
//! GET, PUT /api/v1/mode        {"mode":"bypass"}   -> {"mode":"bypass","was":"cache"}
//! POST /api/v1/cache/clear     {"local_only":true} -> {"removed":18231,"published":false}
//! ```

use super::problem::{Kind, Problem};
use crate::cache::Source;
use crate::config::Mode;
use crate::control::invalidate::channel::Outbox;
use crate::control::invalidate::orders::{Invalid, Order, Orders};
use crate::live::Live;
use crate::stats::Counter;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// Keys of one request at most.
const KEYS_MAX: usize = 10_000;

/// What the routes work with.
#[derive(Debug)]
pub struct Api {
    /// What is invalidated, and how.
    pub orders: Arc<Orders>,
    /// Where peers are told of it.
    pub peers: Option<Outbox>,
    /// The mode in force.
    pub live: Arc<Live>,
}

/// An order as it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    order: Order,
    dry_run: bool,
    local_only: bool,
}

impl Api {
    /// `POST /invalidations`.
    pub(super) async fn invalidate(&self, body: &[u8], from: IpAddr) -> Result<Value, Problem> {
        let Asked { order, dry_run, local_only } = Asked::read(body)?;
        let orders = &self.orders;
        let begun = orders.clock.now();
        let (matched, removed, published) = if dry_run {
            (orders.matched(&order).await, 0, false)
        } else {
            // In force, told and noted before anything is waited for: who asks may leave.
            let done = orders.carry_out(&order, Source::Admin);
            let published = !local_only && self.tell(&order);
            audit("invalidate", &order, from);
            let removed = orders.count(done).await;
            (removed, removed, published)
        };
        let took = orders.clock.now().since(begun).as_secs_f64() * 1e3;
        Ok(json!({
            "matched": matched, "removed": removed, "published": published, "took_ms": took,
        }))
    }

    /// `GET /mode`.
    pub(super) fn mode(&self) -> Value {
        json!({ "mode": self.live.mode().as_str() })
    }

    /// `PUT /mode`: from the next request on, and with an empty cache.
    pub(super) fn set_mode(&self, body: &[u8], from: IpAddr) -> Result<Value, Problem> {
        let mut wanted = None;
        for (name, value) in members(body)? {
            match name.as_str() {
                "mode" => wanted = Some(mode(&value)?),
                _ => return Err(unknown(&name)),
            }
        }
        let wanted = wanted.ok_or_else(|| wrong("/mode", "is missing"))?;
        let was = self.live.mode();
        if wanted != was {
            self.live.set_mode(wanted);
            self.orders.carry_out(&Order::All, Source::Admin);
            let (mode, was) = (wanted.as_str(), was.as_str());
            tracing::warn!(
                event = "admin_action",
                action = "mode",
                mode,
                was,
                remote_addr = %from,
                "admin"
            );
        }
        Ok(json!({ "mode": wanted.as_str(), "was": was.as_str() }))
    }

    /// Tells the peers, if there is a channel: true if it will be said.
    fn tell(&self, order: &Order) -> bool {
        let Some(peers) = &self.peers else {
            return false;
        };
        let is_told = peers.tell(order);
        if !is_told {
            self.orders.block.add(Counter::PublishedError, 1);
            tracing::warn!(event = "invalidation_not_published", "too many wait to be published");
        }
        is_told
    }

    /// `POST /cache/clear`.
    pub(super) async fn clear(&self, body: &[u8], from: IpAddr) -> Result<Value, Problem> {
        let mut local_only = true;
        for (name, value) in members(body)? {
            match name.as_str() {
                "local_only" => local_only = flag(&name, &value)?,
                _ => return Err(unknown(&name)),
            }
        }
        let done = self.orders.carry_out(&Order::All, Source::Admin);
        let published = !local_only && self.tell(&Order::All);
        audit("clear", &Order::All, from);
        let removed = self.orders.count(done).await;
        Ok(json!({ "removed": removed, "published": published }))
    }
}

/// Who did what. Keys are not named: this goes wherever logs go.
fn audit(action: &str, order: &Order, from: IpAddr) {
    let what = match order {
        Order::Keys(keys) => format!("{} keys", keys.len()),
        Order::Namespace(name) => format!("namespace {}", name.escape_ascii()),
        Order::Pattern(pattern) => format!("pattern {}", pattern.escape_ascii()),
        Order::All => "everything".to_owned(),
    };
    tracing::info!(event = "admin_action", action, what, remote_addr = %from, "admin");
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let (mut order, mut dry_run, mut local_only) = (None, false, false);
        for (name, value) in members(body)? {
            let read = match name.as_str() {
                "keys" => keys(&value)?,
                "namespace" => named(&name, &value, Order::namespace)?,
                "pattern" => named(&name, &value, Order::pattern)?,
                "dry_run" => {
                    dry_run = flag(&name, &value)?;
                    continue;
                }
                "local_only" => {
                    local_only = flag(&name, &value)?;
                    continue;
                }
                _ => return Err(unknown(&name)),
            };
            if order.replace(read).is_some() {
                return Err(wrong(
                    &format!("/{name}"),
                    "stands beside another: only one is possible",
                ));
            }
        }
        let none = || wrong("", "says nothing: give one of keys, namespace, pattern");
        Ok(Self { order: order.ok_or_else(none)?, dry_run, local_only })
    }
}

fn keys(value: &Value) -> Result<Order, Problem> {
    let list = value.as_array().ok_or_else(|| wrong("/keys", "is not a list of strings"))?;
    if list.is_empty() || list.len() > KEYS_MAX {
        return Err(wrong("/keys", format!("has {} keys, not 1 to {KEYS_MAX}", list.len())));
    }
    let key = |(at, key): (usize, &Value)| {
        let text = key.as_str().ok_or_else(|| wrong(&format!("/keys/{at}"), "is not a string"))?;
        Ok(text.as_bytes().to_vec())
    };
    list.iter().enumerate().map(key).collect::<Result<_, _>>().map(Order::Keys)
}

fn named(
    name: &str,
    value: &Value,
    order: impl FnOnce(&[u8]) -> Result<Order, Invalid>,
) -> Result<Order, Problem> {
    let pointer = format!("/{name}");
    let text = value.as_str().ok_or_else(|| wrong(&pointer, "is not a string"))?;
    let kind = if name == "pattern" { Kind::InvalidPattern } else { Kind::InvalidRequest };
    order(text.as_bytes())
        .map_err(|invalid| Problem::at(kind, &pointer, format!("{name} {invalid}")))
}

/// The members of an object; of none, if there is no body.
fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::new(Kind::BadJson, "the body is no JSON object")),
        Err(error) => Err(Problem::new(Kind::BadJson, format!("the body is no JSON: {error}"))),
    }
}

fn mode(value: &Value) -> Result<Mode, Problem> {
    let named = |mode: &Mode| value.as_str() == Some(mode.as_str());
    let known = [Mode::Cache, Mode::Observe, Mode::Bypass].into_iter().find(named);
    known.ok_or_else(|| wrong("/mode", "is none of \"cache\", \"observe\", \"bypass\""))
}

fn flag(name: &str, value: &Value) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| wrong(&format!("/{name}"), "is not true or false"))
}

fn wrong(pointer: &str, what: impl AsRef<str>) -> Problem {
    let name = pointer.strip_prefix('/').unwrap_or("the body");
    Problem::at(Kind::InvalidRequest, pointer, format!("{name} {}", what.as_ref()))
}

fn unknown(name: &str) -> Problem {
    wrong(&format!("/{name}"), "is not a member of this request")
}
