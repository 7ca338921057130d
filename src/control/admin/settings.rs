//! What is switched while nearside runs: the configuration, read again, and the key version.

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::Json;
use super::problem::{
    Conflicts, Kind, Misconfigured, Problem, Refused, Unreached, Unread, WrongMedia,
};
use crate::config::{self, Rule};
use crate::control::reload::{self, Cause};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(reload))
        .routes(routes!(set))
        .routes(routes!(rehearse))
        .routes(routes!(schema))
        .routes(routes!(version))
        .routes(routes!(switch))
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

/// Set keys of the configuration.
///
/// All of them or none, for the next request: those that take effect at once and are no secrets or
/// files. They are written nowhere, and last until the process ends or the configuration says
/// another value than it did.
#[utoipa::path(
    patch,
    path = "/api/v1/config",
    tag = "configuration",
    security(("token" = ["operator"])),
    request_body(
        content = BTreeMap<String, Value>,
        example = json!({ "cache.ttl": "30s", "server.max_clients": 500 })
    ),
    responses((status = 200, body = Reloaded), Refused, Unread)
)]
async fn set(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(keys): Asked<BTreeMap<String, Value>>,
) -> Result<Json<Reloaded>, Problem> {
    let mut wanted = Vec::new();
    for (key, value) in &keys {
        // As it would be written, so that a text stays one.
        let value = toml::Value::try_from(value).map_err(|error| {
            let detail = format!("{key}: {error}");
            Problem::at(Kind::InvalidRequest, &format!("/{key}"), detail)
        })?;
        wanted.push((key.as_str(), value.to_string()));
    }
    let done = admin.api.reloader.set(&wanted).await;
    let report = done.map_err(|error| Problem::new(Kind::InvalidRequest, error.to_string()))?;
    for (key, value) in wanted {
        who.audit("config_set", &format!("{key} = {value}"), None);
    }
    Ok(Json(Reloaded { changed: report.changed, pending_restart: report.pending }))
}

/// What could be written in proxy.toml.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfigDraft {
    /// All of it.
    #[schema(example = "[cache]\nttl = \"30s\"\n")]
    text: String,
}

/// What would become of it.
#[derive(Debug, Serialize, ToSchema)]
struct Rehearsed {
    /// Whether it would be taken over.
    valid: bool,
    /// Everything that is wrong with it.
    errors: Vec<ConfigFault>,
    /// What is legal and probably not meant.
    warnings: Vec<String>,
    /// The keys that would change.
    changed: Vec<&'static str>,
    /// The keys that would wait for a restart.
    pending_restart: Vec<&'static str>,
}

/// Something that is wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ConfigFault {
    /// Who said it: a file, an environment variable, a flag.
    source: String,
    /// In a file, from 1.
    line: Option<usize>,
    message: String,
}

/// Try a configuration: what would a reload do if this were written in proxy.toml?
///
/// Nothing is changed. The files that it names are read, so it takes an operator.
#[utoipa::path(
    post,
    path = "/api/v1/config/validate",
    tag = "configuration",
    security(("token" = ["operator"])),
    request_body = ConfigDraft,
    responses((status = 200, body = Rehearsed), Refused, Unread)
)]
async fn rehearse(
    State(admin): State<Arc<Admin>>,
    _: Operator,
    Asked(draft): Asked<ConfigDraft>,
) -> Json<Rehearsed> {
    Json(match admin.api.reloader.rehearse(draft.text).await {
        Ok((report, warnings)) => Rehearsed {
            valid: true,
            errors: Vec::new(),
            warnings,
            changed: report.changed,
            pending_restart: report.pending,
        },
        Err(error) => {
            let fault = |fault: &config::Fault| ConfigFault {
                source: fault.source.to_string(),
                line: fault.place.map(|(line, _)| line),
                message: fault.text.trim_end().to_owned(),
            };
            Rehearsed {
                valid: false,
                errors: error.0.iter().map(fault).collect(),
                warnings: Vec::new(),
                changed: Vec::new(),
                pending_restart: Vec::new(),
            }
        }
    })
}

/// The JSON Schema of proxy.toml.
#[utoipa::path(
    get,
    path = "/api/v1/config/schema",
    tag = "configuration",
    security(("token" = ["viewer"])),
    responses((status = 200, body = Value), Refused)
)]
async fn schema(_: Viewer) -> Json<Value> {
    Json(config::reference::schema())
}

/// The key versions in force.
#[derive(Debug, Serialize, ToSchema)]
struct InForce {
    /// What stands before keys upstream, as `v1` in `v1:orders:42`; empty for nothing.
    current: String,
    /// The next one, for the moment in which some workers have it and others not yet; else null.
    switching_to: Option<String>,
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
    let (current, switching_to) = admin.api.reloader.versions();
    let own = |rule: &Rule| {
        let version = rule.version.clone()?;
        Some(RuleVersion { patterns: rule.patterns.clone(), version })
    };
    Json(InForce {
        current,
        switching_to,
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
        reload::Refused::Unreached(_) => Problem::new(Kind::UpstreamUnavailable, why.to_string()),
        other => Problem::new(Kind::Conflict, other.to_string()),
    }
}
