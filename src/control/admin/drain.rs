//! Sending clients elsewhere, and having them back.

use super::Admin;
use super::ask::Operator;
use super::door::Json;
use super::problem::{Refused, WrongMedia};
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(drain, resume))
}

/// Whether clients are sent elsewhere.
#[derive(Debug, Serialize, ToSchema)]
struct Draining {
    /// True while /readyz fails because of that.
    draining: bool,
    /// Clients that are still here.
    clients: usize,
}

/// Have clients sent elsewhere.
///
/// /readyz fails from now on, so whoever balances load sends no new clients. Those that are here,
/// or come all the same, are served on, until SIGTERM ends the process.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    tag = "mode",
    security(("token" = ["operator"])),
    responses((status = 200, body = Draining), Refused, WrongMedia)
)]
async fn drain(State(admin): State<Arc<Admin>>, who: Operator) -> Json<Draining> {
    withdraw(&admin, &who, true)
}

/// Have clients again. Once the process is ending nothing can undo that.
#[utoipa::path(
    delete,
    path = "/api/v1/drain",
    tag = "mode",
    security(("token" = ["operator"])),
    responses((status = 200, body = Draining), Refused)
)]
async fn resume(State(admin): State<Arc<Admin>>, who: Operator) -> Json<Draining> {
    withdraw(&admin, &who, false)
}

fn withdraw(admin: &Admin, who: &Operator, is_withdrawn: bool) -> Json<Draining> {
    let (live, clients) = (&admin.api.live, admin.api.wing.facts().clients);
    if live.set_withdrawn(is_withdrawn) {
        who.audit(if is_withdrawn { "drain" } else { "resume" }, "", None);
    }
    Json(Draining { draining: is_withdrawn || live.is_draining(), clients })
}
