//! The servers behind.

use super::Admin;
use super::ask::Viewer;
use super::door::Json;
use super::problem::Refused;
use crate::config::Mode;
use crate::control::invalidate::subscription::Subscription;
use crate::control::wing::Facts;
use crate::stats::Counter;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(upstreams))
}

/// One server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upstream {
    /// `host:port`, `unix:/path` or `embedded:`.
    address: String,
    state: Reach,
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
    let identity = live.identity();
    let errors = [Counter::UpstreamTimeout, Counter::UpstreamDisconnected];
    Upstream {
        address: facts.upstream.clone(),
        state: if live.is_upstream_up() { Reach::Up } else { Reach::Down },
        role: identity.as_ref().map(|identity| identity.role.clone()),
        server: identity.as_ref().map(|identity| identity.server.clone()),
        version: identity.map(|identity| identity.version),
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
