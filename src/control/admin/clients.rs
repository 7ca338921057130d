//! The clients of all workers: to look at, and to send away.

use super::Admin;
use super::ask::{At, Operator, Params, Part, Viewer, limited};
use super::door::Json;
use super::problem::{Kind, Missing, Problem, Refused, Unasked};
use crate::control::wing::Client;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(clients)).routes(routes!(end_client))
}

/// A part of the list, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct ClientList {
    clients: Vec<Client>,
    /// Where the next part begins; null: this is the last.
    cursor: Option<u64>,
    /// All that are connected.
    total: usize,
}

/// The clients of all workers, the oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/clients",
    tag = "clients",
    security(("token" = ["viewer"])),
    params(Part),
    responses((status = 200, body = ClientList), Refused, Unasked)
)]
async fn clients(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(part): Params<Part>,
) -> Result<Json<ClientList>, Problem> {
    let limit = limited(part.limit)?;
    let all = admin.api.wing.clients();
    let total = all.len();
    let mut rest = all.into_iter().filter(|client| client.id > part.cursor).peekable();
    let clients: Vec<_> = rest.by_ref().take(limit).collect();
    let is_last = rest.peek().is_none();
    let cursor = clients.last().filter(|_| !is_last).map(|client| client.id);
    Ok(Json(ClientList { clients, cursor, total }))
}

/// A client that was sent away.
#[derive(Debug, Serialize, ToSchema)]
struct Ended {
    /// Its number.
    id: u64,
}

/// Close a client's connection, as CLIENT KILL ID does.
#[utoipa::path(
    delete,
    path = "/api/v1/clients/{id}",
    tag = "clients",
    security(("token" = ["operator"])),
    params(("id" = u64, Path, description = "As in CLIENT LIST.")),
    responses((status = 200, body = Ended), Refused, Missing)
)]
async fn end_client(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    At(id): At,
) -> Result<Json<Ended>, Problem> {
    let ended = id.parse().ok().filter(|id| admin.api.wing.end_client(*id));
    let missing = || Problem::new(Kind::NotFound, format!("there is no client {id}"));
    let id = ended.ok_or_else(missing)?;
    who.audit("client_kill", &format!("client {id}"), Some(1));
    Ok(Json(Ended { id }))
}
