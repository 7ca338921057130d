//! The paths under which applications ask caching layers of their own: what nearside takes the
//! place of. Thin: each is another route's substance in the shape that such a layer has.
//! [`awaited`] has those that begin a job and answer when it has ended.

mod awaited;

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::Json;
use super::problem::{Conflicts, Problem, Refused, Unreached, Unread, WrongMedia};
use super::settings::refused;
use super::status::{hit_ratio, share};
use crate::control::invalidate::orders::Order;
use crate::control::reload::{Cause, Switched};
use crate::control::wing::Facts;
use crate::stats::Counter;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(stats))
        .routes(routes!(info))
        .routes(routes!(health))
        .routes(routes!(clear_all))
        .routes(routes!(reset_stats))
        .routes(routes!(version))
        .merge(awaited::routes())
}

/// What was counted since the last reset.
#[derive(Debug, Serialize, ToSchema)]
struct CacheStatistics {
    /// `nearside`
    #[serde(rename = "type")]
    kind: &'static str,
    /// The key version in force.
    version: String,
    /// Reads answered from the cache.
    hits: u64,
    /// Reads that upstream was asked for, those that waited for another client's among them.
    misses: u64,
    /// Hits of both, 0 to 100.
    hit_rate_percent: f64,
    /// Hits and misses.
    total_requests: u64,
    /// Replies stored.
    sets: u64,
    /// Entries removed because their data changed.
    deletes: u64,
    /// Times that something was to be forgotten.
    invalidations: u64,
    /// Requests that upstream did not answer.
    errors: u64,
    /// Mean time of answers that upstream was asked for, since the start. Hits are not timed.
    avg_latency_ms: f64,
    /// Keys held.
    keys: u64,
    /// Bytes that may be held.
    max_size: u64,
    /// Bytes held, in units of 1024 x 1024.
    memory_used_mb: f64,
    /// Since the start.
    uptime_seconds: u64,
    /// `redis`, or `embedded`.
    backend: &'static str,
    /// Whether upstream can be used.
    redis_available: bool,
}

/// What was counted since the last reset.
#[utoipa::path(
    get,
    path = "/api/cache/stats",
    tag = "aliases",
    security(("token" = ["viewer"])),
    responses((status = 200, body = CacheStatistics), Refused)
)]
async fn stats(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<CacheStatistics> {
    let (wing, figures) = (&admin.api.wing, admin.api.orders.cache.figures());
    let facts = wing.facts();
    let counted = |counters: &[Counter]| wing.counted(counters);
    let hits = counted(&[Counter::LookupHit, Counter::LookupStale]);
    let misses = counted(&[Counter::LookupMiss, Counter::LookupCoalesced]);
    let percent = hit_ratio(&admin).unwrap_or(0.0) * 100.0;
    Json(CacheStatistics {
        kind: "nearside",
        hits,
        misses,
        hit_rate_percent: (percent * 100.0).round() / 100.0,
        total_requests: hits + misses,
        sets: counted(&[Counter::StoreStored]),
        deletes: counted(&[Counter::InvalidatedKeysTracking, Counter::InvalidatedKeysWrite]),
        invalidations: counted(&[
            Counter::InvalidationsTracking,
            Counter::InvalidationsWrite,
            Counter::InvalidationsReconnect,
            Counter::InvalidationsAdmin,
            Counter::InvalidationsPubsub,
        ]),
        errors: counted(&[Counter::UpstreamTimeout, Counter::UpstreamDisconnected]),
        avg_latency_ms: facts.latency.unwrap_or_default().as_secs_f64() * 1e3,
        keys: figures.entries,
        max_size: figures.max_bytes,
        memory_used_mb: share(figures.used_bytes, 1 << 20),
        uptime_seconds: facts.uptime.as_secs(),
        backend: backend(&facts),
        redis_available: admin.api.live.is_upstream_up(),
        version: facts.key_version,
    })
}

const fn backend(facts: &Facts) -> &'static str {
    if facts.is_embedded { "embedded" } else { "redis" }
}

/// What this cache is.
#[derive(Debug, Serialize, ToSchema)]
struct CacheInfo {
    /// `nearside`
    #[serde(rename = "type")]
    kind: &'static str,
    /// The key version in force.
    version: String,
    /// `redis`, or `embedded`.
    backend: &'static str,
    /// Whether upstream can be used.
    redis_available: bool,
    /// False in the mode `bypass`.
    enabled: bool,
    /// Keys held.
    keys: u64,
    /// Bytes that may be held.
    max_size: u64,
    /// Since the start.
    uptime_seconds: u64,
}

/// What this cache is.
#[utoipa::path(
    get,
    path = "/api/cache/info",
    tag = "aliases",
    security(("token" = ["viewer"])),
    responses((status = 200, body = CacheInfo), Refused)
)]
async fn info(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<CacheInfo> {
    let (facts, figures) = (admin.api.wing.facts(), admin.api.orders.cache.figures());
    Json(CacheInfo {
        kind: "nearside",
        backend: backend(&facts),
        redis_available: admin.api.live.is_upstream_up(),
        enabled: admin.api.live.mode() == crate::config::Mode::Cache,
        keys: figures.entries,
        max_size: figures.max_bytes,
        uptime_seconds: facts.uptime.as_secs(),
        version: facts.key_version,
    })
}

/// Whether this cache is well.
#[derive(Debug, Serialize, ToSchema)]
struct CacheHealth {
    /// `healthy`, or `unhealthy` while upstream cannot be used.
    status: &'static str,
    /// Whether upstream can be used.
    redis_available: bool,
    /// The key version in force.
    version: String,
    /// Since the start.
    uptime_seconds: u64,
}

/// Whether this cache is well.
#[utoipa::path(
    get,
    path = "/api/health",
    tag = "aliases",
    security(("token" = ["viewer"])),
    responses(
        (status = 200, body = CacheHealth),
        (status = 503, body = CacheHealth, description = "upstream cannot be used"),
        Refused
    )
)]
async fn health(State(admin): State<Arc<Admin>>, _: Viewer) -> Response {
    let (facts, is_up) = (admin.api.wing.facts(), admin.api.live.is_upstream_up());
    let (code, status) = if is_up {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
    };
    let uptime_seconds = facts.uptime.as_secs();
    let version = facts.key_version;
    (code, Json(CacheHealth { status, redis_available: is_up, version, uptime_seconds }))
        .into_response()
}

/// What was dropped.
#[derive(Debug, Serialize, ToSchema)]
struct Dropped {
    /// True.
    success: bool,
    /// Keys dropped here.
    cleared_count: u64,
}

/// Drop everything that is cached, here and by the peers on the channel. Upstream keeps it all.
#[utoipa::path(
    post,
    path = "/api/cache/clear",
    tag = "aliases",
    security(("token" = ["operator"])),
    responses((status = 200, body = Dropped), Refused, WrongMedia)
)]
async fn clear_all(State(admin): State<Arc<Admin>>, who: Operator) -> Json<Dropped> {
    let api = &admin.api;
    let (done, _) = api.forget(&Order::All, false, false);
    let cleared_count = api.orders.count(done).await;
    who.audit("clear", "everything", Some(cleared_count));
    Json(Dropped { success: true, cleared_count })
}

/// Counting has begun anew.
#[derive(Debug, Serialize, ToSchema)]
struct Reset {
    /// True.
    success: bool,
}

/// Count anew: here and in INFO, as CONFIG RESETSTAT does. Metrics never go back.
#[utoipa::path(
    post,
    path = "/api/cache/reset-stats",
    tag = "aliases",
    security(("token" = ["operator"])),
    responses((status = 200, body = Reset), Refused, WrongMedia)
)]
async fn reset_stats(State(admin): State<Arc<Admin>>, who: Operator) -> Json<Reset> {
    admin.api.wing.reset_counts();
    who.audit("reset_stats", "", None);
    Json(Reset { success: true })
}

/// The key version that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NextVersion {
    /// Any word without separator, blanks or characters of globs.
    #[schema(example = "v2")]
    version: String,
}

/// A key version that was switched.
#[derive(Debug, Serialize, ToSchema)]
struct Versions {
    /// True.
    success: bool,
    /// The one before.
    old_version: String,
    /// The one in force.
    new_version: String,
}

/// Switch the key version, as PUT `/api/v1/key-versions/current` does.
#[utoipa::path(
    post,
    path = "/api/cache/version",
    tag = "aliases",
    security(("token" = ["operator"])),
    request_body = NextVersion,
    responses((status = 200, body = Versions), Conflicts, Refused, Unread, Unreached)
)]
async fn version(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(next): Asked<NextVersion>,
) -> Result<Json<Versions>, Problem> {
    let switched = admin.api.reloader.switch_version(&next.version, None, Cause::Admin).await;
    let Switched { version, was } = switched.map_err(refused)?;
    who.audit("key_version", &format!("{was} -> {version}"), None);
    Ok(Json(Versions { success: true, old_version: was, new_version: version }))
}
