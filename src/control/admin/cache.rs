//! The whole cache at once.

use super::Admin;
use super::ask::{Asked, Operator};
use super::door::Json;
use super::problem::{Refused, Unread};
use crate::control::invalidate::orders::Order;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(clear))
}

/// How far the cache is cleared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Extent {
    /// Only here, or by the peers on the channel, too.
    #[serde(default = "yes")]
    #[schema(default = true)]
    local_only: bool,
}

const fn yes() -> bool {
    true
}

/// What was cleared.
#[derive(Debug, Serialize, ToSchema)]
struct Cleared {
    /// Keys dropped here.
    removed: u64,
    /// True if the peers are told.
    published: bool,
}

/// Drop everything that is cached. Upstream keeps it all.
#[utoipa::path(
    post,
    path = "/api/v1/cache/clear",
    tag = "cache",
    security(("token" = ["operator"])),
    request_body = Option<Extent>,
    responses((status = 200, body = Cleared), Refused, Unread)
)]
async fn clear(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(extent): Asked<Extent>,
) -> Json<Cleared> {
    let api = &admin.api;
    let (done, published) = api.forget(&Order::All, extent.local_only, false);
    let removed = api.orders.count(done).await;
    who.audit("clear", "everything", Some(removed));
    Json(Cleared { removed, published })
}
