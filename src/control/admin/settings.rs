//! What is switched while nearside runs: the configuration, read again, and the key version.

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::Json;
use super::problem::{
    Conflicts, Kind, Misconfigured, Problem, Refused, Unreached, Unread, WrongMedia,
};
use crate::config::Rule;
use crate::control::reload::{self, Cause};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(reload)).routes(routes!(version)).routes(routes!(switch))
}

/// What a reload has done.
#[derive(Debug, Serialize, ToSchema)]
struct Reloaded {
    /// The keys that have changed.
    changed: Vec<&'static str>,
    /// The keys that wait for a restart.
    pending_restart: Vec<&'static str>,
}

/// Read the configuration again.
///
/// All of it that can change takes effect, or, if anything is wrong with it, nothing.
#[utoipa::path(
    post,
    path = "/api/v1/config/reload",
    tag = "configuration",
    security(("token" = ["operator"])),
    responses((status = 200, body = Reloaded), Misconfigured, Refused, WrongMedia)
)]
async fn reload(State(admin): State<Arc<Admin>>, who: Operator) -> Result<Json<Reloaded>, Problem> {
    let done = admin.api.reloader.reload().await;
    who.audit("reload", if done.is_ok() { "done" } else { "refused" }, None);
    match done {
        Ok(report) => {
            Ok(Json(Reloaded { changed: report.changed, pending_restart: report.pending }))
        }
        Err(error) => Err(Problem::new(Kind::InvalidConfig, error.to_string())),
    }
}

/// The key versions in force.
#[derive(Debug, Serialize, ToSchema)]
struct InForce {
    /// What stands before keys upstream, as `v1` in `v1:orders:42`; empty for nothing.
    current: String,
    /// The rules whose keys have another one.
    rules: Vec<RuleVersion>,
    /// Globs of keys that are never rewritten.
    exclude: Vec<String>,
}

/// A rule with a key version of its own.
#[derive(Debug, Serialize, ToSchema)]
struct RuleVersion {
    /// Its globs.
    #[serde(rename = "match")]
    patterns: Vec<String>,
    /// Stands before its keys upstream; empty for nothing.
    version: String,
}

/// The key version that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The next one: any word without separator, blanks or characters of globs.
    version: String,
    /// Only if this one is in force.
    expect: Option<String>,
    /// Only tell whom it would strand.
    #[serde(default)]
    dry_run: bool,
}

/// A key version that was switched, or would be.
#[derive(Debug, Serialize, ToSchema)]
struct Switched {
    /// The one in force.
    version: String,
    /// The one before.
    was: String,
    /// Clients that wait in a command (BLPOP, XREAD BLOCK): for keys of the version before they go
    /// on waiting there until they are served or their time is over.
    blocked_clients: u64,
}

/// The key versions in force.
#[utoipa::path(
    get,
    path = "/api/v1/key-versions",
    tag = "configuration",
    security(("token" = ["viewer"])),
    responses((status = 200, body = InForce), Refused)
)]
async fn version(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<InForce> {
    let settings = admin.api.reloader.settings();
    let own = |rule: &Rule| {
        let version = rule.version.clone()?;
        Some(RuleVersion { patterns: rule.patterns.clone(), version })
    };
    Json(InForce {
        current: settings.version.clone(),
        rules: settings.rules.iter().filter_map(own).collect(),
        exclude: settings.exclude.clone(),
    })
}

/// Switch the key version.
///
/// It starts from nothing; what is stored under the one before stays there, and is found again by
/// switching back. It lasts until the process ends or keys.version says something else.
#[utoipa::path(
    put,
    path = "/api/v1/key-versions/current",
    tag = "configuration",
    security(("token" = ["operator"])),
    request_body = Wanted,
    responses((status = 200, body = Switched), Conflicts, Refused, Unread, Unreached)
)]
async fn switch(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Switched>, Problem> {
    let (api, expected) = (&admin.api, wanted.expect.as_deref());
    let blocked_clients = api.wing.blocked_clients() as u64;
    let switched = if wanted.dry_run {
        api.reloader.try_switch(&wanted.version, expected).await
    } else {
        api.reloader.switch_version(&wanted.version, expected, Cause::Admin).await
    };
    let reload::Switched { version, was } = switched.map_err(refused)?;
    if !wanted.dry_run {
        who.audit("key_version", &format!("{was} -> {version}"), None);
    }
    Ok(Json(Switched { version, was, blocked_clients }))
}

/// Why a version was not switched.
pub(super) fn refused(why: reload::Refused) -> Problem {
    match why {
        reload::Refused::Invalid(invalid) => {
            Problem::at(Kind::InvalidRequest, "/version", invalid.to_string())
        }
        reload::Refused::Unwritten(_) => Problem::new(Kind::Upstream, why.to_string()),
        other => Problem::new(Kind::Conflict, other.to_string()),
    }
}
