//! What is cached now, by namespace.

use super::Admin;
use super::ask::{Params, Viewer, limited};
use super::door::{Json, rfc3339};
use super::problem::{Problem, Refused, Unasked};
use crate::control::census::Held;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(cached))
}

/// How many.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Most {
    /// How many namespaces at most.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
}

const fn hundred() -> usize {
    100
}

/// What is cached.
#[derive(Debug, Serialize, ToSchema)]
struct Cached {
    /// When it was counted.
    time: String,
    /// Keys that may be served, in all namespaces.
    entries: u64,
    /// Accounted bytes of their replies.
    bytes: u64,
    /// The largest first.
    namespaces: Vec<CachedNamespace>,
}

/// A namespace.
#[derive(Debug, Serialize, ToSchema)]
struct CachedNamespace {
    /// `_root`: keys without any `:`; `_other`: those without a row.
    namespace: String,
    /// Keys that may be served.
    entries: u64,
    /// Accounted bytes of their replies.
    bytes: u64,
}

/// What is cached now, by namespace.
///
/// Counted when it is asked for, and told again for five seconds.
#[utoipa::path(
    get,
    path = "/api/v1/namespaces/cached",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(Most),
    responses((status = 200, body = Cached), Refused, Unasked)
)]
async fn cached(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(most): Params<Most>,
) -> Result<Json<Cached>, Problem> {
    let limit = limited(most.limit)?;
    let counted = admin.api.census.take().await;
    let row = |(namespace, held): &(String, Held)| {
        let (namespace, Held { entries, bytes }) = (namespace.clone(), *held);
        CachedNamespace { namespace, entries, bytes }
    };
    let namespaces = counted.namespaces.iter().take(limit).map(row).collect();
    let Held { entries, bytes } = counted.total;
    Ok(Json(Cached { time: rfc3339(counted.at), entries, bytes, namespaces }))
}
