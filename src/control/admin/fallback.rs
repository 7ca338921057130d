//! What stands in for an upstream that is down.

use super::Admin;
use super::ask::Viewer;
use super::door::{Json, rfc3339};
use super::problem::Refused;
use crate::live::{self, Phase};
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(fallback))
}

/// What stands in for upstream, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
struct Fallback {
    /// `fallback.enabled`.
    enabled: bool,
    /// `off`, `waiting` (upstream is down, and `fallback.after` is not over), `active`, or
    /// `recovering` (upstream is back, and is given what was written meanwhile).
    state: &'static str,
    /// Since when it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// `fallback.reads`.
    reads: &'static str,
    /// `fallback.writes`.
    writes: &'static str,
    /// `fallback.on_recovery`.
    on_recovery: &'static str,
    /// Keys that were written or deleted since, and are not upstream.
    keys: u64,
    /// Accounted bytes of them and their values.
    bytes: u64,
    /// `fallback.max_bytes`.
    max_bytes: u64,
    /// What became of the last outage.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Outcome>,
}

/// What became of an outage.
#[derive(Debug, Serialize, ToSchema)]
struct Outcome {
    /// When it was over.
    time: String,
    /// How long clients were answered without upstream.
    lasted_ms: u64,
    /// Keys that were made upstream what they were in memory.
    replayed: u64,
    /// Keys that were forgotten, as `on_recovery` says.
    dropped: u64,
    /// Keys that upstream has refused: they are lost.
    lost: u64,
}

impl From<live::Outcome> for Outcome {
    fn from(outcome: live::Outcome) -> Self {
        let live::Outcome { at, lasted, replayed, dropped, lost } = outcome;
        Self { time: rfc3339(at), lasted_ms: lasted, replayed, dropped, lost }
    }
}

/// What stands in for an upstream that is down.
#[utoipa::path(
    get,
    path = "/api/v1/fallback",
    tag = "state",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Fallback), Refused)
)]
async fn fallback(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<Fallback> {
    let live = &admin.api.live.fallback;
    let settings = admin.api.view.snapshots.newest().settings.fallback;
    let (phase, (keys, bytes)) = (live.phase(), live.written());
    let is_on = matches!(phase, Phase::Active | Phase::Recovering);
    Json(Fallback {
        enabled: settings.enabled,
        state: phase.as_str(),
        since: is_on.then(|| rfc3339(live.since_unix())),
        reads: settings.reads.as_str(),
        writes: settings.writes.as_str(),
        on_recovery: settings.on_recovery.as_str(),
        keys,
        bytes,
        max_bytes: u64::try_from(settings.max_bytes).unwrap_or(u64::MAX),
        last: live.last().map(Outcome::from),
    })
}
