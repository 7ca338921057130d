//! What is cached of a key. No bytes of replies: they are the clients'.

use super::Admin;
use super::ask::{Params, Viewer};
use super::door::Json;
use super::problem::{Problem, Refused, Unasked};
use crate::cache::Variant;
use crate::command;
use axum::extract::State;
use axum::http::header::{AGE, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(lookup))
}

/// Which key.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Sought {
    /// The client's key, without version.
    key: String,
}

/// What is cached of a key.
#[derive(Debug, Serialize, ToSchema)]
struct Found {
    /// The client's key.
    key: String,
    /// The same upstream.
    upstream_key: String,
    /// True if something of it may be served.
    present: bool,
    /// `rules[0]`, or `[cache]` where none matches.
    rule: String,
    /// The replies that may be served, the newest first; of some levels only while tracking is up.
    replies: Vec<Stored>,
}

/// One cached reply.
#[derive(Debug, Serialize, ToSchema)]
struct Stored {
    /// Of which command.
    command: &'static str,
    /// In which database.
    db: u32,
    /// Accounted bytes.
    size_bytes: u64,
    /// Since upstream was asked.
    age_ms: u64,
    /// Until it expires.
    ttl_ms: u64,
}

/// What is cached of a key.
///
/// `X-Cache` says HIT or MISS; `Age` and `Cache-Control: max-age` are those of the newest reply.
#[utoipa::path(
    get,
    path = "/api/v1/entries/lookup",
    tag = "cache",
    security(("token" = ["viewer"])),
    params(Sought),
    responses(
        (
            status = 200,
            body = Found,
            headers(
                ("X-Cache" = String, description = "HIT or MISS"),
                ("Age" = u64, description = "seconds, of the newest reply")
            )
        ),
        Refused,
        Unasked
    )
)]
async fn lookup(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(Sought { key }): Params<Sought>,
) -> Result<(HeaderMap, Json<Found>), Problem> {
    let orders = &admin.api.orders;
    let variants = orders.cache.variants(key.as_bytes(), orders.clock.now());
    let mut headers = HeaderMap::new();
    let is_hit = !variants.is_empty();
    headers.insert(X_CACHE, HeaderValue::from_static(if is_hit { "HIT" } else { "MISS" }));
    if let Some(newest) = variants.first() {
        headers.insert(AGE, newest.age.as_secs().into());
        // As caches count it: from when the reply was made.
        let life = format!("max-age={}", (newest.age + newest.left).as_secs());
        headers.extend(HeaderValue::try_from(life).ok().map(|life| (CACHE_CONTROL, life)));
    }
    let place = admin.api.wing.place(key.as_bytes());
    Ok((
        headers,
        Json(Found {
            key,
            upstream_key: place.upstream_key,
            rule: place.rule,
            present: is_hit,
            replies: variants.iter().map(stored).collect(),
        }),
    ))
}

fn stored(variant: &Variant) -> Stored {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Stored {
        command: command::all().get(usize::from(variant.command)).map_or("", |row| row.name),
        db: variant.db,
        size_bytes: variant.size,
        age_ms: millis(variant.age),
        ttl_ms: millis(variant.left),
    }
}
