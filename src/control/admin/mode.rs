//! The mode in force, and the kill switch.

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::Json;
use super::problem::{Refused, Unread};
use crate::config;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(mode, set_mode))
}

/// What is done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// Hits are served from the cache.
    Cache,
    /// Everything is asked of upstream, and what would have been a hit is counted.
    Observe,
    /// A pure proxy: nothing is stored.
    Bypass,
}

impl From<config::Mode> for Mode {
    fn from(mode: config::Mode) -> Self {
        match mode {
            config::Mode::Cache => Self::Cache,
            config::Mode::Observe => Self::Observe,
            config::Mode::Bypass => Self::Bypass,
        }
    }
}

impl From<Mode> for config::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Cache => Self::Cache,
            Mode::Observe => Self::Observe,
            Mode::Bypass => Self::Bypass,
        }
    }
}

/// The mode in force.
#[derive(Debug, Serialize, ToSchema)]
struct CurrentMode {
    mode: Mode,
}

/// The mode that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedMode {
    mode: Mode,
}

/// A mode that was switched.
#[derive(Debug, Serialize, ToSchema)]
struct SwitchedMode {
    /// The mode in force.
    mode: Mode,
    /// The one before.
    was: Mode,
}

/// The mode in force.
#[utoipa::path(
    get,
    path = "/api/v1/mode",
    tag = "mode",
    security(("token" = ["viewer"])),
    responses((status = 200, body = CurrentMode), Refused)
)]
async fn mode(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<CurrentMode> {
    Json(CurrentMode { mode: admin.api.live.mode().into() })
}

/// Switch the mode.
///
/// From the next request on, and with an empty cache. It lasts until the process ends.
#[utoipa::path(
    put,
    path = "/api/v1/mode",
    tag = "mode",
    security(("token" = ["operator"])),
    request_body = WantedMode,
    responses((status = 200, body = SwitchedMode), Refused, Unread)
)]
async fn set_mode(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(wanted): Asked<WantedMode>,
) -> Json<SwitchedMode> {
    let mode = config::Mode::from(wanted.mode);
    let was = admin.api.set_mode(mode);
    if mode != was {
        who.audit("mode", mode.as_str(), None);
    }
    Json(SwitchedMode { mode: wanted.mode, was: was.into() })
}
