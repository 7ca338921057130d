//! One screen: who this is, and how it fares. And the settings in force.

use super::Admin;
use super::ask::Viewer;
use super::door::Json;
use super::figures::{Figures, Memory};
use super::mode::Mode;
use super::problem::Refused;
use super::stats::View;
use super::upstreams::{self, Upstream};
use crate::config::{self, Shown};
use crate::control::observe::state::ConfigFigures;
use crate::stats::Counter;
use crate::stats::history::Span;
use axum::extract::State;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
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
    /// `region`; empty: none is configured.
    region: String,
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
    /// The same of the last minute.
    hit_ratio_1m: Option<f64>,
    /// The same of the last five.
    hit_ratio_5m: Option<f64>,
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
        hit_ratio_1m: of_late(&admin, 1),
        hit_ratio_5m: of_late(&admin, 5),
        ops_per_second: facts.ops_per_second,
        upstreams,
        warnings: warnings(&admin),
        instance: facts.instance,
        region: facts.region,
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

/// The same of late; what would have been a hit counts as one.
fn of_late(admin: &Admin, minutes: u64) -> Option<f64> {
    let View { stats, clock, .. } = &admin.api.view;
    let span = Span::Last(Duration::from_mins(minutes));
    Figures::of(&stats.window(span, clock.now())).hit_ratio
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
    /// What tells this configuration from others: as in `nearside_config_info`, and in the log.
    digest: String,
    /// By name: `cache.ttl`, `rules[0].match`.
    #[schema(value_type = std::collections::BTreeMap<String, Setting>)]
    settings: IndexMap<String, Setting>,
    /// Keys that were set since, here or by a client (PROXY CONFIG SET): their origin is
    /// `runtime`, and they are written nowhere.
    runtime: Vec<&'static str>,
    /// Keys whose written values wait for a restart.
    pending_restart: Vec<&'static str>,
}

/// A setting in force.
#[derive(Debug, Serialize, ToSchema)]
struct Setting {
    /// As it would be written; a secret is `***`.
    value: Value,
    /// Who wrote it: a file with its line, an environment variable, a flag; `runtime`: somebody
    /// who has set or switched it since the start; `default`: nobody.
    origin: String,
}

/// The settings in force, and who wrote each.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "state",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Effective), Refused)
)]
async fn settings(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Effective> {
    let ConfigFigures { set, pending, digest, .. } = admin.api.reloader.figures();
    let mode = admin.api.live.mode().as_str();
    let setting = |shown: &Shown| {
        let is_switched = shown.path == "mode" && shown.value.as_str() != Some(mode);
        let setting = if is_switched {
            Setting { value: mode.into(), origin: "runtime".to_owned() }
        } else {
            Setting { value: json!(shown.value), origin: shown.origin() }
        };
        (shown.path.clone(), setting)
    };
    let values = &admin.api.view.snapshots.newest().settings.values;
    let settings = values.iter().map(setting).collect();
    Json(Effective { digest, settings, runtime: set, pending_restart: pending })
}
