//! What charts are drawn from: the rows that there are, and each new one as it comes.

use super::Admin;
use super::ask::{Params, Viewer};
use super::door::{Json, rfc3339};
use super::problem::{Kind, Problem, Refused, Unasked};
use crate::control::observe::chart::{Columns, Step};
use crate::control::observe::feed::Reader;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(history)).routes(routes!(stream))
}

/// Which rows.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Drawn {
    /// Since when: `15m`, `1h 30m`; at most 15 minutes by the second, and a day by the minute.
    #[serde(default = "quarter")]
    #[param(default = "15m")]
    window: String,
    /// How far apart rows are; without it, by the second for windows that this is kept of.
    #[param(inline)]
    step: Option<Apart>,
}

fn quarter() -> String {
    "15m".to_owned()
}

/// How far apart rows are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
enum Apart {
    #[serde(rename = "1s")]
    Second,
    #[serde(rename = "1m")]
    Minute,
}

impl From<Apart> for Step {
    fn from(apart: Apart) -> Self {
        match apart {
            Apart::Second => Self::Second,
            Apart::Minute => Self::Minute,
        }
    }
}

/// Rows of figures, column by column.
#[derive(Debug, Serialize, ToSchema)]
struct ChartColumns {
    /// How far apart they are; the first may be longer.
    step_seconds: u64,
    /// When each row ends.
    time: Vec<String>,
    /// By name, a number for each row. `..._per_second`: the mean of the row; `..._us`: within how
    /// many microseconds that part of the row's answers came, by outcome, null where there were
    /// none; the others: how it was when the row ended.
    #[schema(value_type = std::collections::BTreeMap<String, Vec<Option<f64>>>)]
    columns: IndexMap<String, Vec<Value>>,
}

/// What was counted, second by second or minute by minute.
///
/// For charts: the last 15 minutes by the second, the last day by the minute, kept in memory.
#[utoipa::path(
    get,
    path = "/api/v1/stats/history",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(Drawn),
    responses((status = 200, body = ChartColumns), Refused, Unasked)
)]
async fn history(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(Drawn { window, step }): Params<Drawn>,
) -> Result<Json<ChartColumns>, Problem> {
    let wrong = |detail: String| Problem::new(Kind::InvalidRequest, detail);
    let window = humantime::parse_duration(&window)
        .map_err(|error| wrong(format!("window: {error}; such as 15m")))?;
    let step = match step {
        Some(step) => step.into(),
        None if window <= Step::Second.longest() => Step::Second,
        None => Step::Minute,
    };
    let longest = step.longest();
    if window > longest || window < Duration::from_secs(1) {
        let longest = humantime::format_duration(longest);
        return Err(wrong(format!("window: with this step 1s to {longest}")));
    }
    let Columns { times, columns } = admin.api.chart.columns(step, window);
    let numbers = |column: Vec<f64>| column.into_iter().map(Value::from).collect();
    Ok(Json(ChartColumns {
        step_seconds: step.length().as_secs(),
        time: times.into_iter().map(rfc3339).collect(),
        columns: columns.into_iter().map(|(name, column)| (name, numbers(column))).collect(),
    }))
}

/// What a reader is told, as the body of a response.
struct Told(Reader);

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_next(cx).map(|next| next.map(|frame| Ok(Frame::data(frame))))
    }
}

/// What is counted, and what happens, as it comes.
///
/// Server-sent events. `stats`: each second, the row of `/stats/history` as an object by the names
/// of its columns, with `time_ms`, the last one at once; `event`: what the log names (its member
/// `event`), with the log's members. Sixteen readers at most; one that does not read is let go.
/// Ends when the process does.
#[utoipa::path(
    get,
    path = "/api/v1/stats/stream",
    tag = "statistics",
    security(("token" = ["viewer"])),
    responses((status = 200, body = String, content_type = "text/event-stream"), Refused)
)]
async fn stream(State(admin): State<Arc<Admin>>, _: Viewer) -> Result<Response, Problem> {
    let full = || Problem::new(Kind::TooManyRequests, "there are as many readers as may be");
    let reader = admin.api.chart.join().ok_or_else(full)?;
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::new(Told(reader))).into_response())
}
