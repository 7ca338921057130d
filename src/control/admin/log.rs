//! What is logged, and for how long.

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::{Json, rfc3339};
use super::problem::{Kind, Problem, Refused, Unread};
use crate::control::observe::logs;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(level, set_level))
}

/// No level that somebody forgets lasts longer.
const LONGEST: Duration = Duration::from_hours(24);

/// What is logged.
#[derive(Debug, Serialize, ToSchema)]
struct LogLevel {
    /// In force: a level, or several by module, as in `log.level`.
    #[schema(example = "info,nearside::data=debug")]
    level: String,
    /// What it goes back to.
    configured: String,
    /// When it goes back; null if it is the configured one.
    until: Option<String>,
}

/// What is to be logged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedLevel {
    /// error, warn, info, debug, trace or off; or several by module.
    #[schema(example = "info,nearside::data=debug")]
    level: String,
    /// How long, at most a day.
    #[serde(rename = "for", default = "ten_minutes")]
    #[schema(default = "10m", example = "10m")]
    lasting: String,
}

fn ten_minutes() -> String {
    "10m".to_owned()
}

/// What is logged.
#[utoipa::path(
    get,
    path = "/api/v1/log/level",
    tag = "log",
    security(("token" = ["viewer"])),
    responses((status = 200, body = LogLevel), Refused)
)]
async fn level(_: Viewer) -> Json<LogLevel> {
    Json(in_force())
}

/// Log more, or less, for a while. It goes back by itself.
#[utoipa::path(
    put,
    path = "/api/v1/log/level",
    tag = "log",
    security(("token" = ["operator"])),
    request_body = WantedLevel,
    responses((status = 200, body = LogLevel), Refused, Unread)
)]
async fn set_level(
    who: Operator,
    Asked(wanted): Asked<WantedLevel>,
) -> Result<Json<LogLevel>, Problem> {
    let wrong = |pointer, detail| Problem::at(Kind::InvalidRequest, pointer, detail);
    let lasting = humantime::parse_duration(&wanted.lasting)
        .map_err(|error| wrong("/for", format!("for: {error}; such as 10m")))?;
    if lasting.is_zero() || lasting > LONGEST {
        return Err(wrong("/for", "for: more than nothing, and at most 24h".to_owned()));
    }
    logs::set_level(&wanted.level, lasting)
        .map_err(|error| wrong("/level", format!("level: {error}")))?;
    who.audit("log_level", &format!("{} for {}", wanted.level, wanted.lasting), None);
    Ok(Json(in_force()))
}

fn in_force() -> LogLevel {
    let logs::Level { in_force, configured, until } = logs::level();
    LogLevel { level: in_force, configured, until: until.map(rfc3339) }
}
