//! Commands whose answers took long.

use super::Admin;
use super::ask::{Few, Operator, Params, Viewer, limited};
use super::door::{Json, rfc3339};
use super::problem::{Problem, Refused, Unasked};
use super::shown::KeyName;
use crate::control::wing::SlowCommand;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, forget))
}

/// The latest of them, the latest first.
#[derive(Debug, Serialize, ToSchema)]
struct SlowLog {
    commands: Vec<Slow>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
struct Slow {
    /// Counts them, from 1.
    id: u64,
    /// When it was answered.
    time: String,
    /// From the request to upstream's answer, in microseconds.
    duration_us: u64,
    /// Its name.
    command: &'static str,
    /// `miss`, or `bypass` for whatever the cache was not asked for.
    outcome: &'static str,
    /// The number that CLIENT ID answers; null: it had gone.
    client_id: Option<u64>,
    /// Where it came from.
    client_addr: Option<String>,
    /// What it calls itself.
    client_name: Option<String>,
    /// Its first key, if it is a read that may be cached, and of others its hash, as `log.keys`
    /// says.
    #[serde(flatten)]
    key: KeyName,
}

/// Commands whose answers took as long as `log.slow_command`, or longer.
#[utoipa::path(
    get,
    path = "/api/v1/slowlog",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(Few),
    responses((status = 200, body = SlowLog), Refused, Unasked)
)]
async fn list(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(few): Params<Few>,
) -> Result<Json<SlowLog>, Problem> {
    let limit = limited(few.limit)?;
    let slow = |slow: SlowCommand| {
        let (client_id, rest) =
            slow.client.map(|(id, address, name)| (id, (address, name))).unzip();
        let (client_addr, client_name) = rest.unzip();
        let hashed = || slow.key_hash.map(KeyName::hashed).unwrap_or_default();
        Slow {
            id: slow.id,
            time: rfc3339(slow.at),
            duration_us: u64::try_from(slow.took.as_micros()).unwrap_or(u64::MAX),
            command: slow.command,
            outcome: slow.outcome,
            client_id,
            client_addr,
            client_name,
            key: slow.key.map_or_else(hashed, |key| KeyName::plain(&key)),
        }
    };
    let commands = admin.api.wing.slow_commands();
    Ok(Json(SlowLog { commands: commands.into_iter().take(limit).map(slow).collect() }))
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
struct SlowForgotten {
    /// How many there were.
    removed: usize,
}

/// Forget them.
#[utoipa::path(
    delete,
    path = "/api/v1/slowlog",
    tag = "statistics",
    security(("token" = ["operator"])),
    responses((status = 200, body = SlowForgotten), Refused)
)]
async fn forget(State(admin): State<Arc<Admin>>, who: Operator) -> Json<SlowForgotten> {
    let removed = admin.api.wing.forget_slow_commands();
    who.audit("reset_slowlog", "", Some(removed as u64));
    Json(SlowForgotten { removed })
}
