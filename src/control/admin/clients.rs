//! The clients of all workers: to look at, and to send away.

use super::Admin;
use super::ask::{At, Operator, Params, Viewer, hundred, limited};
use super::door::Json;
use super::problem::{Kind, Missing, Problem, Refused, Unasked};
use crate::control::wing::Client;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(clients)).routes(routes!(end_client))
}

/// By what clients are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// The oldest first.
    #[default]
    Id,
    /// Who has sent most commands first.
    Commands,
    /// Who was answered most from the cache first.
    Hits,
    /// Who has been silent longest first.
    Idle,
    /// Who is to be sent most bytes first.
    Unsent,
}

impl Sort {
    /// What is compared.
    const fn of(self, client: &Client) -> u64 {
        match self {
            Self::Id => client.id,
            Self::Commands => client.commands,
            Self::Hits => client.hits,
            Self::Idle => client.idle_seconds,
            Self::Unsent => client.unsent_bytes,
        }
    }
}

/// Which of them, and in which order.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// How many at most.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Where the last part ended: its `cursor`. Only with the order of `id`.
    #[serde(default)]
    cursor: u64,
    /// By what they are sorted.
    #[serde(default)]
    #[param(inline, default = "id")]
    sort: Sort,
}

/// A part of the list, in the order that was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct ClientList {
    clients: Vec<Client>,
    /// Where the next part begins; null: this is the last, or they are not in the order of `id`.
    cursor: Option<u64>,
    /// All that are connected.
    total: usize,
}

/// The clients of all workers.
#[utoipa::path(
    get,
    path = "/api/v1/clients",
    tag = "clients",
    security(("token" = ["viewer"])),
    params(Which),
    responses((status = 200, body = ClientList), Refused, Unasked)
)]
async fn clients(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(Which { limit, cursor, sort }): Params<Which>,
) -> Result<Json<ClientList>, Problem> {
    let limit = limited(limit)?;
    let mut all = admin.api.wing.clients();
    let total = all.len();
    if sort != Sort::Id {
        if cursor != 0 {
            let detail = "cursor: only with sort=id: what else clients have changes meanwhile";
            return Err(Problem::new(Kind::InvalidRequest, detail));
        }
        // Who is alike stays in the order of age.
        all.sort_by_key(|client| Reverse(sort.of(client)));
        all.truncate(limit);
        return Ok(Json(ClientList { clients: all, cursor: None, total }));
    }
    let mut rest = all.into_iter().filter(|client| client.id > cursor).peekable();
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
