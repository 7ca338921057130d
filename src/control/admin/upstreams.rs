//! The servers behind: how they fare, and whether there are links to them.

use super::Admin;
use super::ask::{At, Operator, Viewer};
use super::door::Json;
use super::problem::{Kind, Missing, Problem, Refused, WrongMedia};
use crate::config::Mode;
use crate::control::invalidate::subscription::Subscription;
use crate::control::wing::Facts;
use crate::net::dialer::Dialer;
use crate::stats::Counter;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(upstreams))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(reconnect))
}

/// One server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upstream {
    /// `host:port`, `unix:/path` or `embedded:`.
    address: String,
    state: Use,
    /// `master` or `replica`; null until it was met.
    role: Option<String>,
    /// `redis` or `valkey`.
    server: Option<String>,
    /// Its version.
    version: Option<String>,
    /// Connections that clients share.
    connections: u64,
    /// Requests without an answer since the last reset: it took too long, or the connection broke.
    errors: u64,
    /// 99 of 100 answers took no longer, since the start.
    p99_ms: Option<f64>,
    tracking: Heard,
    /// Messages on `invalidation.channel` that are published here.
    channel: Heard,
}

/// Whether a server is used.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Use {
    Up,
    Down,
    /// An operator wants no links to it.
    Disabled,
}

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Up,
    Down,
}

/// Whether nearside hears of something.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Heard {
    /// All of it.
    Up,
    /// Not now. Without tracking nothing is served from the cache that needs it.
    Down,
    /// Nothing needs it.
    Off,
}

/// Whether messages about what is to be forgotten are heard at a server.
#[derive(Debug, Serialize, ToSchema)]
struct Channel {
    /// `upstream`, or the name of one of `[[invalidation.sources]]`.
    source: String,
    /// `host:port`, `unix:/path` or `embedded:`.
    address: String,
    state: Reach,
}

/// All servers.
#[derive(Debug, Serialize, ToSchema)]
struct Upstreams {
    upstreams: Vec<Upstream>,
    /// Where `invalidation.channel` is listened to; empty if nowhere.
    channels: Vec<Channel>,
}

/// The servers behind.
#[utoipa::path(
    get,
    path = "/api/v1/upstreams",
    tag = "state",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Upstreams), Refused)
)]
async fn upstreams(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Upstreams> {
    let facts = admin.api.wing.facts();
    let channel = |subscription: &Subscription| Channel {
        source: subscription.source.clone(),
        address: subscription.address(),
        state: if subscription.is_heard() { Reach::Up } else { Reach::Down },
    };
    Json(Upstreams {
        upstreams: vec![the_one(&admin, &facts)],
        channels: subscriptions(&admin).iter().map(channel).collect(),
    })
}

/// The connections on which messages are heard; the first is that to upstream.
pub(super) fn subscriptions(admin: &Admin) -> &[Subscription] {
    admin.api.channel.as_ref().map_or(&[], |channel| channel.subscriptions())
}

/// The only one that there is.
pub(super) fn the_one(admin: &Admin, facts: &Facts) -> Upstream {
    let live = &admin.api.live;
    let server = live.server();
    let errors = [Counter::UpstreamTimeout, Counter::UpstreamDisconnected];
    Upstream {
        address: facts.upstream.clone(),
        state: match live.is_upstream_up() {
            _ if !dialer(admin).switch.is_enabled() => Use::Disabled,
            true => Use::Up,
            false => Use::Down,
        },
        role: server.as_ref().map(|server| server.role.clone()),
        server: server.as_ref().map(|server| server.name.clone()),
        version: server.map(|server| server.version),
        connections: live.links_up(),
        errors: admin.api.wing.counted(&errors),
        p99_ms: facts.latency_p99.map(|latency| latency.as_secs_f64() * 1e3),
        tracking: match admin.api.orders.cache.tracking().is_up() {
            true => Heard::Up,
            false if facts.is_tracking && live.mode() != Mode::Bypass => Heard::Down,
            false => Heard::Off,
        },
        channel: match subscriptions(admin).first() {
            Some(own) if own.is_heard() => Heard::Up,
            Some(_) => Heard::Down,
            None => Heard::Off,
        },
    }
}

/// What opens the links to it.
fn dialer(admin: &Admin) -> &Dialer {
    &admin.api.workshop.tools.dialer
}

/// The upstream of this address, as it is now.
fn named(admin: &Admin, id: &str) -> Result<Upstream, Problem> {
    let known = the_one(admin, &admin.api.wing.facts());
    let missing = || Problem::new(Kind::NotFound, format!("there is no upstream {id}"));
    (id == dialer(admin).target.address.to_string()).then_some(known).ok_or_else(missing)
}

/// Have no links to a server.
///
/// As if it were down: reads that the cache cannot answer, writes and what clients have links of
/// their own for get the same errors, hits go on where a rule needs no tracking link, and stale
/// replies are served by `stale_if_error`. What was asked is answered first; what blocks is cut
/// short, and so are subscriptions and transactions. Jobs end. Lasts until it is enabled, or the
/// process ends.
#[utoipa::path(
    post,
    path = "/api/v1/upstreams/{id}/disable",
    tag = "state",
    security(("token" = ["operator"])),
    params(("id" = String, Path, description = "Its address.")),
    responses((status = 200, body = Upstream), Refused, Missing, WrongMedia)
)]
async fn disable(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    At(id): At,
) -> Result<Json<Upstream>, Problem> {
    named(&admin, &id)?;
    if dialer(&admin).switch.disable() {
        // Links that are up say so themselves when they close: this is for when there are none.
        admin.api.live.set_upstream_up(false);
        tracing::warn!(event = "upstream_disabled", upstream = id, "an operator wants no links");
        who.audit("upstream_disable", &id, None);
    }
    named(&admin, &id).map(Json)
}

/// Have links to a server again.
#[utoipa::path(
    post,
    path = "/api/v1/upstreams/{id}/enable",
    tag = "state",
    security(("token" = ["operator"])),
    params(("id" = String, Path, description = "Its address.")),
    responses((status = 200, body = Upstream), Refused, Missing, WrongMedia)
)]
async fn enable(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    At(id): At,
) -> Result<Json<Upstream>, Problem> {
    named(&admin, &id)?;
    if dialer(&admin).switch.enable() {
        tracing::info!(event = "upstream_enabled", upstream = id, "links are opened again");
        who.audit("upstream_enable", &id, None);
    }
    named(&admin, &id).map(Json)
}

/// Close all links to a server, and open them anew.
///
/// Its name is resolved again. Each link is closed when no answer is out on it, and what is asked
/// meanwhile goes out on the next one. A client's own link that holds something of it
/// (subscriptions, MULTI, WATCH) is closed with its client. Nothing that needs a tracking link is
/// served from the cache until the new one has proved itself, and that is opened when the last
/// shared link is closed. Jobs end.
#[utoipa::path(
    post,
    path = "/api/v1/upstreams/{id}/reconnect",
    tag = "state",
    security(("token" = ["operator"])),
    params(("id" = String, Path, description = "Its address.")),
    responses((status = 200, body = Upstream), Refused, Missing, WrongMedia)
)]
async fn reconnect(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    At(id): At,
) -> Result<Json<Upstream>, Problem> {
    named(&admin, &id)?;
    dialer(&admin).switch.reconnect();
    tracing::info!(event = "upstream_reconnecting", upstream = id, "all links are opened anew");
    who.audit("upstream_reconnect", &id, None);
    named(&admin, &id).map(Json)
}
