//! What would become of a request if a client sent it now.

use super::Admin;
use super::ask::{Asked, Viewer, bytes};
use super::door::Json;
use super::problem::{Kind, Problem, Refused, Unread};
use crate::control::wing::Explained;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(explain))
}

/// A request: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Sought {
    /// Its words.
    #[schema(example = json!(["GET", "orders:42"]))]
    command: Option<Vec<String>>,
    /// The same where some word is no UTF-8: each in base64.
    command_base64: Option<Vec<String>>,
}

/// What would become of a request if a client sent it now, and what is held of its keys.
#[utoipa::path(
    post,
    path = "/api/v1/explain",
    tag = "state",
    security(("token" = ["viewer"])),
    request_body = Sought,
    responses((status = 200, body = Explained), Refused, Unread)
)]
async fn explain(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Asked(sought): Asked<Sought>,
) -> Result<Json<Explained>, Problem> {
    let (member, words) = match (sought.command, sought.command_base64) {
        (Some(words), None) => ("/command", words.into_iter().map(String::into_bytes).collect()),
        (None, Some(words)) => {
            let each = words.iter().enumerate();
            let each = each.map(|(at, word)| bytes(&format!("/command_base64/{at}"), word));
            ("/command_base64", each.collect::<Result<Vec<_>, _>>()?)
        }
        _ => {
            let detail = "give the request's words as one of command, command_base64";
            return Err(Problem::at(Kind::InvalidRequest, "", detail));
        }
    };
    let explained = admin.api.wing.explain(&words);
    explained.map(Json).map_err(|unfit| Problem::at(Kind::InvalidRequest, member, unfit))
}
