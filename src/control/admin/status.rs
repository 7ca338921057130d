//! One screen: who this is, and how it fares. And the settings in force.

use super::Admin;
use super::ask::Viewer;
use super::door::Json;
use super::figures::Memory;
use super::mode::Mode;
use super::problem::Refused;
use super::upstreams::{self, Upstream};
use crate::config;
use crate::control::observe::state::ConfigFigures;
use crate::stats::Counter;
use axum::extract::State;
use indexmap::IndexMap;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(settings))
}

/// Who this is, and how it fares.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// `instance`.
    instance: String,
    /// Of nearside.
    version: &'static str,
    /// Since the start.
    uptime_seconds: u64,
    mode: Mode,
    /// Empty: keys are not rewritten.
    key_version: String,
    /// True while clients should be sent elsewhere.
    draining: bool,
    clients: usize,
    memory: Memory,
    /// Hits of all lookups since the last reset; null if there were none.
    hit_ratio: Option<f64>,
    /// Commands in the last second.
    ops_per_second: u64,
    upstreams: Vec<Upstream>,
    /// What an operator should look at, in words.
    warnings: Vec<String>,
}

/// Who this is, and how it fares.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "state",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Status), Refused)
)]
async fn status(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Status> {
    let (facts, live) = (admin.api.wing.facts(), &admin.api.live);
    let figures = admin.api.orders.cache.figures();
    let upstreams = vec![upstreams::the_one(&admin, &facts)];
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: facts.uptime.as_secs(),
        mode: live.mode().into(),
        draining: live.is_draining() || live.is_withdrawn(),
        clients: facts.clients,
        memory: Memory {
            entries: figures.entries,
            used_bytes: figures.used_bytes,
            max_bytes: figures.max_bytes,
        },
        hit_ratio: hit_ratio(&admin),
        ops_per_second: facts.ops_per_second,
        upstreams,
        warnings: warnings(&admin),
        instance: facts.instance,
        key_version: facts.key_version,
    })
}

/// Hits of all lookups; coalesced reads are none, for upstream was asked.
pub(super) fn hit_ratio(admin: &Admin) -> Option<f64> {
    let counted = |counters: &[Counter]| admin.api.wing.counted(counters);
    let hits = counted(&[Counter::LookupHit, Counter::LookupStale]);
    let all = hits + counted(&[Counter::LookupMiss, Counter::LookupCoalesced]);
    (all > 0).then(|| share(hits, all))
}

/// A part of a whole. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// What fails of /readyz, and what an operator may have forgotten.
fn warnings(admin: &Admin) -> Vec<String> {
    let failed = (admin.ready)().into_iter().filter(|check| !check.ok);
    let mut warnings: Vec<_> =
        failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    let lost = upstreams::subscriptions(admin).iter().filter(|one| !one.is_heard());
    warnings.extend(lost.map(|one| {
        let (source, address) = (&one.source, one.address());
        format!("invalidation: {source}: messages are not heard at {address}")
    }));
    let mode = admin.api.live.mode();
    if mode != config::Mode::Cache {
        warnings.push(format!("mode: {}: nothing is served from the cache", mode.as_str()));
    }
    warnings
}

/// Settings by their names in proxy.toml.
#[derive(Debug, Serialize, ToSchema)]
struct Effective {
    /// Name and value, as text; but for secrets, files and `[[rules]]`.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    settings: IndexMap<&'static str, String>,
    /// Keys that a client has set since (PROXY CONFIG SET): their origin is `runtime`, and they are
    /// written nowhere.
    runtime: Vec<&'static str>,
    /// Keys whose written values wait for a restart.
    pending_restart: Vec<&'static str>,
}

/// The settings in force.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "state",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Effective), Refused)
)]
async fn settings(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Effective> {
    let ConfigFigures { set, pending, .. } = admin.api.reloader.figures();
    let settings = admin.api.wing.settings().into_iter().collect();
    Json(Effective { settings, runtime: set, pending_restart: pending })
}
