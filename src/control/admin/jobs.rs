//! Long jobs: what runs and ran, and the beginning of those that change upstream.

use super::Admin;
use super::ask::{Asked, Operator, Params, Viewer, limited};
use super::door::Json;
use super::problem::{Conflicts, Kind, Missing, Problem, Refused, Unasked, Unread};
use crate::control::invalidate::orders::Order;
use crate::control::jobs::purge::{self, Target};
use crate::control::jobs::{self, Busy, Job, RATE_DEFAULT, Tools, moving};
use crate::keys::{Names, Prefix};
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(all))
        .routes(routes!(one, cancel))
        .routes(routes!(purge_version))
        .routes(routes!(adopt))
        .routes(routes!(strip))
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct Shown {
    id: u64,
    /// `purge`, `adopt`, `strip` or `warm`.
    kind: &'static str,
    /// With what, in words.
    what: String,
    /// `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// True if it only counts.
    dry_run: bool,
    /// Keys it will look at, if that is known.
    total: Option<u64>,
    /// Keys it is done with.
    done: u64,
    /// Keys that upstream answered with an error.
    errors: u64,
    /// `matched`, `deleted`; `matched`, `moved`, `exists`, `gone`; `loaded`, `missing`, `skipped`.
    counts: BTreeMap<&'static str, u64>,
    /// How long it will still run, if anybody can tell.
    eta_seconds: Option<u64>,
    /// When it began, in seconds since 1970.
    began: u64,
    /// How long it has run.
    took_seconds: f64,
    /// Why it failed.
    error: Option<String>,
}

impl Shown {
    fn of(job: &Job, jobs: &jobs::Jobs) -> Self {
        let now = jobs.now();
        let count = |count: &jobs::Count| (count.as_str(), job.count(*count));
        Self {
            id: job.id,
            kind: job.kind.as_str(),
            what: job.what.clone(),
            // Before the counts: those of a job that has ended are its last.
            state: job.state().as_str(),
            dry_run: job.dry_run,
            total: job.total(),
            done: job.done(),
            errors: job.errors(),
            counts: job.kind.counts().iter().map(count).collect(),
            eta_seconds: job.eta(now).map(|eta| eta.as_secs()),
            began: job.began_unix,
            took_seconds: job.took(now).as_secs_f64(),
            error: job.error(),
        }
    }
}

/// Which part of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Part {
    /// How many at most.
    #[serde(default = "limit")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// Where the last part ended: its `cursor`.
    cursor: Option<u64>,
}

const fn limit() -> usize {
    100
}

/// The jobs that are remembered, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct JobList {
    jobs: Vec<Shown>,
    /// Where the next part begins; null: this is the last.
    cursor: Option<u64>,
    /// All that are remembered.
    total: usize,
}

/// A job that has begun: 202, and where it is.
pub(super) struct Begun(Shown);

impl Begun {
    pub(super) fn of(job: &Job, admin: &Admin) -> Self {
        Self(Shown::of(job, &admin.api.workshop.jobs))
    }
}

impl IntoResponse for Begun {
    fn into_response(self) -> Response {
        let place = HeaderValue::from_str(&format!("/api/v1/jobs/{}", self.0.id));
        let mut response = Json(self.0).into_response();
        *response.status_mut() = StatusCode::ACCEPTED;
        if let Ok(place) = place {
            response.headers_mut().insert(LOCATION, place);
        }
        response
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        Self::new(Kind::Busy, busy.to_string())
    }
}

/// Jobs at work, and the last that were.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    security(("token" = ["viewer"])),
    params(Part),
    responses((status = 200, body = JobList), Refused, Unasked)
)]
async fn all(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(part): Params<Part>,
) -> Result<Json<JobList>, Problem> {
    let (limit, before) = (limited(part.limit)?, part.cursor.unwrap_or(u64::MAX));
    let known = &admin.api.workshop.jobs;
    let all = known.all();
    let mut rest = all.iter().filter(|job| job.id < before).peekable();
    let jobs: Vec<Shown> = rest.by_ref().take(limit).map(|job| Shown::of(job, known)).collect();
    let is_last = rest.peek().is_none();
    let cursor = jobs.last().filter(|_| !is_last).map(|job| job.id);
    Ok(Json(JobList { jobs, cursor, total: all.len() }))
}

fn find(id: &str, admin: &Admin) -> Result<Arc<Job>, Problem> {
    let job = id.parse().ok().and_then(|id| admin.api.workshop.jobs.get(id));
    job.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no job {id}")))
}

/// One job.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    security(("token" = ["viewer"])),
    params(("id" = u64, Path, description = "Its number.")),
    responses((status = 200, body = Shown), Refused, Missing)
)]
async fn one(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    Ok(Json(Shown::of(&*find(&id, &admin)?, &admin.api.workshop.jobs)))
}

/// Cancel a job.
///
/// It stops between two requests: its state says when it has.
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    security(("token" = ["operator"])),
    params(("id" = u64, Path, description = "Its number.")),
    responses((status = 200, body = Shown), Refused, Missing)
)]
async fn cancel(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let job = find(&id, &admin)?;
    job.cancel();
    who.audit("cancel", &format!("job {}", job.id), None);
    Ok(Json(Shown::of(&job, &admin.api.workshop.jobs)))
}

/// How a version is purged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Purge {
    /// 0: as fast as it goes; built in: 1000.
    rate_per_second: Option<u64>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
    /// No more than so many.
    max_keys: Option<u64>,
}

/// How keys are moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    /// Which: a glob on the name without prefix; built in: all.
    #[schema(example = "orders:*")]
    pattern: Option<String>,
    /// 0: as fast as it goes; built in: 1000.
    rate_per_second: Option<u64>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// Delete every key of another key version upstream.
///
/// SCAN and UNLINK, page by page, in every database. Never of the version in force.
#[utoipa::path(
    post,
    path = "/api/v1/key-versions/{version}/purge",
    tag = "key versions",
    security(("token" = ["operator"])),
    params(("version" = String, Path, description = "Not the one in force.")),
    request_body = Purge,
    responses((status = 202, body = Shown), Refused, Unread, Conflicts)
)]
async fn purge_version(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Path(version): Path<String>,
    Asked(asked): Asked<Purge>,
) -> Result<Begun, Problem> {
    let tools = &admin.api.workshop.tools;
    let prefix = prefix_of(&version, tools)?;
    refuse_current(&version, &prefix, &(tools.names)())?;
    let plan = purge::Plan {
        target: Target::Version(prefix),
        dry_run: asked.dry_run,
        rate: asked.rate_per_second.unwrap_or(RATE_DEFAULT),
        max_keys: asked.max_keys,
    };
    let job = begin_purge(&admin, plan, &who)?;
    Ok(Begun::of(&job, &admin))
}

/// Move keys without a version into one: `a` becomes `v1:a`.
///
/// No key is overwritten. What has moved is not looked at again: after a failure, ask anew.
#[utoipa::path(
    post,
    path = "/api/v1/key-versions/{version}/adopt",
    tag = "key versions",
    security(("token" = ["operator"])),
    params(("version" = String, Path, description = "Into which.")),
    request_body = Move,
    responses((status = 202, body = Shown), Refused, Unread, Conflicts)
)]
async fn adopt(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Path(version): Path<String>,
    Asked(asked): Asked<Move>,
) -> Result<Begun, Problem> {
    begin_move(&admin, jobs::Kind::Adopt, &version, asked, &who)
}

/// Move the keys of a version out of it: `v1:a` becomes `a`.
///
/// No key is overwritten. What has moved is not looked at again: after a failure, ask anew.
#[utoipa::path(
    post,
    path = "/api/v1/key-versions/{version}/strip",
    tag = "key versions",
    security(("token" = ["operator"])),
    params(("version" = String, Path, description = "Out of which.")),
    request_body = Move,
    responses((status = 202, body = Shown), Refused, Unread, Conflicts)
)]
async fn strip(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Path(version): Path<String>,
    Asked(asked): Asked<Move>,
) -> Result<Begun, Problem> {
    begin_move(&admin, jobs::Kind::Strip, &version, asked, &who)
}

fn begin_move(
    admin: &Admin,
    kind: jobs::Kind,
    version: &str,
    asked: Move,
    who: &Operator,
) -> Result<Begun, Problem> {
    let tools = Arc::clone(&admin.api.workshop.tools);
    let pattern = asked.pattern.unwrap_or_else(|| "*".to_owned());
    // Bounded as every pattern is.
    if let Err(invalid) = Order::pattern(pattern.as_bytes()) {
        let detail = format!("pattern {invalid}");
        return Err(Problem::at(Kind::InvalidPattern, "/pattern", detail));
    }
    let plan = moving::Plan {
        prefix: prefix_of(version, &tools)?,
        pattern: pattern.into_bytes(),
        dry_run: asked.dry_run,
        rate: asked.rate_per_second.unwrap_or(RATE_DEFAULT),
    };
    let what = format!("version {version}: {}", plan.pattern.escape_ascii());
    let running = admin.api.workshop.jobs.begin(kind, what.clone(), plan.dry_run)?;
    let job = Arc::clone(running.job());
    who.audit(kind.as_str(), &what, None);
    admin.api.workshop.jobs.hand_over(async move { moving::run(&tools, plan, running).await });
    Ok(Begun::of(&job, admin))
}

/// Begins to delete keys upstream.
pub(super) fn begin_purge(
    admin: &Admin,
    plan: purge::Plan,
    who: &Operator,
) -> Result<Arc<Job>, Problem> {
    let what = plan.target.to_string();
    let running = admin.api.workshop.jobs.begin(jobs::Kind::Purge, what.clone(), plan.dry_run)?;
    let job = Arc::clone(running.job());
    who.audit("purge", &what, None);
    let tools = Arc::clone(&admin.api.workshop.tools);
    admin.api.workshop.jobs.hand_over(async move { purge::run(&tools, plan, running).await });
    Ok(job)
}

/// What stands before the keys of a version. None would stand for all keys of all versions.
fn prefix_of(version: &str, tools: &Tools) -> Result<Prefix, Problem> {
    let wrong = |why: String| Problem::new(Kind::InvalidRequest, why);
    if version.is_empty() {
        return Err(wrong("version is empty: it would mean the keys of all versions".to_owned()));
    }
    tools.of_version(version).map_err(|invalid| wrong(format!("`{version}`: {invalid}")))
}

/// Keys that clients see are never deleted as those of another version.
fn refuse_current(version: &str, purged: &Prefix, names: &Names) -> Result<(), Problem> {
    let detail = if names.usual().is_empty() {
        format!(
            "no version is in force, so {}* are keys of clients: invalidate that pattern with \
             upstream = true",
            purged.as_bytes().escape_ascii()
        )
    } else if purge::is_in_force(purged, names) {
        format!("{version} is in force: its keys are what clients see")
    } else {
        return Ok(());
    };
    Err(Problem::new(Kind::Conflict, detail))
}

#[cfg(test)]
mod tests {
    use super::refuse_current;
    use crate::keys::{Names, Prefix};

    #[test]
    fn what_clients_see_is_no_other_version() {
        let prefix = |version| Prefix::new("", version, ":").unwrap();
        for (purged, current, is_refused) in [
            (prefix("v1"), prefix("v1"), true),
            (prefix("v1"), prefix("v2"), false),
            (prefix("v1"), Prefix::default(), true),
        ] {
            let refused = refuse_current("v", &purged, &Names::new(current.clone(), [], []));
            assert_eq!(refused.is_err(), is_refused, "{purged:?} {current:?}");
        }
    }
}
