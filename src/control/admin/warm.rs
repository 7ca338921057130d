//! Warm-up: the jobs of the configuration, and runs on demand.

use super::Admin;
use super::ask::{Asked, Operator, Viewer};
use super::door::Json;
use super::jobs::{Begun, Shown};
use super::problem::{Conflicts, Kind, Problem, Refused, Unread};
use crate::config::{WarmingJob, WarmingKeys, When};
use crate::control::invalidate::orders::Order;
use crate::control::jobs::Job;
use crate::control::warm::{self, Wanted};
use crate::units::duration::Span;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Keys of one request at most.
const KEYS_MAX: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(configured)).routes(routes!(run))
}

/// The jobs of `[[warming.jobs]]`, and `popular`.
#[derive(Debug, Serialize, ToSchema)]
struct WarmJobs {
    jobs: Vec<Configured>,
}

/// A job of the configuration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WarmingJob)]
struct Configured {
    name: String,
    /// What it loads, in words.
    keys: String,
    /// `every` so long.
    every: Option<String>,
    /// By this schedule.
    cron: Option<String>,
    /// By whose clocks that goes.
    timezone: Option<&'static str>,
    /// When it is run next, in seconds since 1970.
    next_run: Option<u64>,
    /// When it was run last with success, in seconds since 1970.
    last_success: Option<u64>,
}

impl Configured {
    fn of(job: WarmingJob, next_run: Option<u64>, last_success: Option<u64>) -> Self {
        let keys = match &job.keys {
            WarmingKeys::List(keys) => format!("{} keys", keys.len()),
            WarmingKeys::File(path) => format!("file {}", path.display()),
            WarmingKeys::Pattern(pattern) => format!("pattern {}", pattern.escape_ascii()),
        };
        let (every, cron, timezone) = match &job.when {
            When::Asked => (None, None, None),
            When::Every(every) => (Some(Span(*every).to_string()), None, None),
            When::Cron(cron) => (None, Some(cron.to_string()), Some(cron.zone())),
        };
        Self { name: job.name, keys, every, cron, timezone, next_run, last_success }
    }
}

/// What is to be loaded: exactly one of `job`, `keys` and `pattern`. Keys are the client's,
/// without version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// This job of the configuration.
    #[schema(example = "catalog")]
    job: Option<String>,
    /// These keys.
    #[schema(min_items = 1, max_items = 10_000)]
    keys: Option<Vec<String>>,
    /// All keys that this glob matches, as in KEYS.
    #[schema(example = "catalog:*")]
    pattern: Option<String>,
    /// 0: as fast as it goes; built in: `warming.rate`.
    rate_per_second: Option<u64>,
}

/// The jobs of the configuration.
#[utoipa::path(
    get,
    path = "/api/v1/warm/jobs",
    tag = "warm-up",
    security(("token" = ["viewer"])),
    responses((status = 200, body = WarmJobs), Refused)
)]
async fn configured(State(admin): State<Arc<Admin>>, _: Viewer) -> Json<WarmJobs> {
    let warm = &admin.api.workshop.warm;
    let runs = warm.figures().runs;
    let one = |(job, next): (WarmingJob, Option<u64>)| {
        let last = runs.iter().find(|runs| runs.name == job.name);
        Configured::of(job, next, last.and_then(|runs| runs.last_success))
    };
    Json(WarmJobs { jobs: warm.listed().into_iter().map(one).collect() })
}

/// Load keys into the cache before anybody asks for them.
///
/// Values that GET answers; what is cached already, and keys of other types, are skipped.
#[utoipa::path(
    post,
    path = "/api/v1/warm/runs",
    tag = "warm-up",
    security(("token" = ["operator"])),
    request_body = Run,
    responses((status = 202, body = Shown), Refused, Unread, Conflicts)
)]
async fn run(
    State(admin): State<Arc<Admin>>,
    who: Operator,
    Asked(asked): Asked<Run>,
) -> Result<Begun, Problem> {
    Ok(Begun::of(&*begin(&admin, asked, &who)?, &admin))
}

/// Begins a run.
pub(super) fn begin(admin: &Admin, asked: Run, who: &Operator) -> Result<Arc<Job>, Problem> {
    let rate = asked.rate_per_second;
    let job = admin.api.workshop.warm.start(asked.wanted()?, rate)?;
    who.audit("warm", &job.what, None);
    Ok(job)
}

impl Run {
    fn wanted(self) -> Result<Wanted, Problem> {
        let wrong = |pointer, detail: String| Problem::at(Kind::InvalidRequest, pointer, detail);
        match (self.job, self.keys, self.pattern) {
            (Some(job), None, None) => Ok(Wanted::Job(job)),
            (None, Some(keys), None) if !keys.is_empty() && keys.len() <= KEYS_MAX => {
                Ok(Wanted::Keys(keys.into_iter().map(String::into_bytes).collect()))
            }
            (None, Some(keys), None) => {
                let detail = format!("keys has {} keys, not 1 to {KEYS_MAX}", keys.len());
                Err(wrong("/keys", detail))
            }
            (None, None, Some(pattern)) => {
                Order::pattern(pattern.as_bytes()).map_err(|invalid| {
                    Problem::at(Kind::InvalidPattern, "/pattern", format!("pattern {invalid}"))
                })?;
                Ok(Wanted::Pattern(pattern.into_bytes()))
            }
            _ => Err(wrong("", "give one of job, keys, pattern".to_owned())),
        }
    }
}

impl From<warm::Refused> for Problem {
    fn from(refused: warm::Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            warm::Refused::NoJob(_) => Self::at(Kind::InvalidRequest, "/job", detail),
            warm::Refused::Busy(busy) => busy.into(),
            warm::Refused::Bypass => Self::new(Kind::Conflict, detail),
        }
    }
}
