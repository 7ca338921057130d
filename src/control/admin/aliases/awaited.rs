//! Paths that begin a job and answer when it has ended: what applications wait for that had a
//! caching layer of their own.
//!
//! In: what is to be deleted or loaded. Out: exact counts; or, if the job takes longer than
//! [`PATIENCE`], 202 and where it is. Who goes away ends nothing: the job goes on.

use crate::control::admin::Admin;
use crate::control::admin::ask::{Asked, At, Operator};
use crate::control::admin::door::Json;
use crate::control::admin::invalidations::{purged, wrong};
use crate::control::admin::jobs::{Begun, Shown, begin_purge};
use crate::control::admin::problem::{Conflicts, Failed, Kind, Problem, Refused, Unread};
use crate::control::admin::warm::{self, Run};
use crate::control::invalidate::orders::Order;
use crate::control::jobs::purge::Plan;
use crate::control::jobs::{Count, Job, RATE_DEFAULT, State as Stand};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long an answer waits for the end of its job: below the patience of clients and gateways.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(namespace))
        .routes(routes!(pattern))
        .routes(routes!(warmed_up))
}

/// How fast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Speed {
    /// Keys deleted upstream per second; 0: as fast as it goes; built in: 1000.
    rate_per_second: Option<u64>,
}

/// Which keys.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Meant {
    /// All keys that this glob matches, as in KEYS.
    #[schema(example = "orders:*")]
    pattern: String,
    /// Keys deleted upstream per second; 0: as fast as it goes; built in: 1000.
    rate_per_second: Option<u64>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
struct Deleted {
    /// True.
    success: bool,
    /// Keys deleted upstream. What was cached of them is forgotten, here and by the peers.
    invalidated_count: u64,
    /// The job that did it.
    job: u64,
}

/// What was loaded.
#[derive(Debug, Serialize, ToSchema)]
struct Loaded {
    /// True.
    success: bool,
    /// Values stored.
    warmed_count: u64,
    /// Keys that were cached already, or cannot be.
    skipped_count: u64,
    /// Keys that upstream does not have.
    missing_count: u64,
    /// The job that did it.
    job: u64,
}

/// Delete a namespace's keys upstream, and forget what is cached of them, here and at the peers.
///
/// A namespace of the name `pattern` is deleted with the other route and `pattern:*`.
#[utoipa::path(
    post,
    path = "/api/cache/invalidate/{namespace}",
    tag = "aliases",
    security(("token" = ["operator"])),
    params(("namespace" = String, Path, description = "`_root`: the keys without any `:`.")),
    request_body = Speed,
    responses(
        (status = 200, body = Deleted),
        (status = 202, body = Shown, description = "the job goes on"),
        Refused, Unread, Conflicts, Failed
    )
)]
async fn namespace(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    At(name): At,
    Asked(speed): Asked<Speed>,
) -> Result<Response, Problem> {
    let order = Order::namespace(name.as_bytes());
    let order = order.map_err(|invalid| {
        Problem::new(Kind::InvalidRequest, format!("the namespace `{name}` {invalid}"))
    })?;
    delete(&admin, &who, &order, speed.rate_per_second).await
}

/// Delete upstream all keys that a glob matches, and forget what is cached of them, here and at
/// the peers.
#[utoipa::path(
    post,
    path = "/api/cache/invalidate/pattern",
    tag = "aliases",
    security(("token" = ["operator"])),
    request_body = Meant,
    responses(
        (status = 200, body = Deleted),
        (status = 202, body = Shown, description = "the job goes on"),
        Refused, Unread, Conflicts, Failed
    )
)]
async fn pattern(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(meant): Asked<Meant>,
) -> Result<Response, Problem> {
    let order = Order::pattern(meant.pattern.as_bytes());
    let order = order.map_err(|invalid| wrong("pattern", invalid))?;
    delete(&admin, &who, &order, meant.rate_per_second).await
}

async fn delete(
    admin: &Admin,
    who: &Operator,
    order: &Order,
    rate: Option<u64>,
) -> Result<Response, Problem> {
    let target = purged(order).ok_or_else(|| Problem::new(Kind::InvalidRequest, "no keys"))?;
    let rate = rate.unwrap_or(RATE_DEFAULT);
    // Before anything is forgotten: it may be refused.
    let job = begin_purge(admin, Plan { target, dry_run: false, rate, max_keys: None }, who)?;
    admin.api.forget(order, false, false);
    who.audit("invalidate", &order.to_string(), None);
    answer(admin, &job, || Deleted {
        success: true,
        invalidated_count: job.count(Count::Deleted),
        job: job.id,
    })
    .await
}

/// Load keys into the cache, as POST `/api/v1/warm/runs` does.
#[utoipa::path(
    post,
    path = "/api/cache/warm",
    tag = "aliases",
    security(("token" = ["operator"])),
    request_body = Run,
    responses(
        (status = 200, body = Loaded),
        (status = 202, body = Shown, description = "the job goes on"),
        Refused, Unread, Conflicts, Failed
    )
)]
async fn warmed_up(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(asked): Asked<Run>,
) -> Result<Response, Problem> {
    let job = warm::begin(&admin, asked, &who)?;
    answer(&admin, &job, || Loaded {
        success: true,
        warmed_count: job.count(Count::Loaded),
        skipped_count: job.count(Count::Skipped),
        missing_count: job.count(Count::Missing),
        job: job.id,
    })
    .await
}

/// What a job came to, or that it goes on.
async fn answer<T: Serialize>(
    admin: &Admin,
    job: &Job,
    counted: impl FnOnce() -> T,
) -> Result<Response, Problem> {
    // If it takes longer, its state says so.
    tokio::time::timeout(PATIENCE, job.ended()).await.ok();
    match job.state() {
        Stand::Running => Ok(Begun::of(job, admin).into_response()),
        Stand::Done => Ok(Json(counted()).into_response()),
        Stand::Cancelled => {
            Err(Problem::new(Kind::Conflict, format!("job {} was cancelled", job.id)))
        }
        Stand::Failed => {
            let why = job.error().unwrap_or_default();
            Err(Problem::new(Kind::JobFailed, format!("job {}: {why}", job.id)))
        }
    }
}
