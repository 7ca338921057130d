//! The door: what every request to the admin port passes, on its way in and out.
//!
//! In: a request; then a response whose body is text, or a [`Draft`]. Out: the response as it is
//! sent, and counted: with `X-Request-Id`, with `Cache-Control: no-store` unless its route says
//! more, and with JSON indented for who asks with `?pretty=1`.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::Admin;
use super::problem::{Kind, Problem};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A client's own number of a request at most, in bytes; a longer one is replaced.
const REQUEST_ID_MAX: usize = 128;

/// A body that is written at the door.
#[derive(Clone, Debug)]
pub(super) enum Draft {
    Answer(Value),
    Problem(Problem),
}

/// An answer as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_value(self.0) {
            Ok(value) => {
                let mut response = Response::default();
                response.extensions_mut().insert(Draft::Answer(value));
                response
            }
            Err(error) => Problem::new(Kind::Internal, error.to_string()).into_response(),
        }
    }
}

/// The number of a request, in its extensions: for the log.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Numbers requests: no other process has these, nor this one's next life.
#[derive(Debug)]
pub(super) struct Numbers {
    life: u64,
    next: AtomicU64,
}

impl Default for Numbers {
    fn default() -> Self {
        let life = foldhash::quality::RandomState::default().hash_one(std::process::id());
        Self { life, next: AtomicU64::new(0) }
    }
}

impl Numbers {
    /// The one that the client or a gateway before it gave, or a new one.
    fn of(&self, headers: &HeaderMap) -> RequestId {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let given = given.filter(|text| !text.is_empty() && text.len() <= REQUEST_ID_MAX);
        RequestId(given.map_or_else(|| self.new_one(), Into::into))
    }

    fn new_one(&self) -> Arc<str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number}", self.life).into()
    }
}

/// Lets a request in, and its response out.
pub(super) async fn pass(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = admin.numbers.of(request.headers());
    let path = request.uri().path().to_owned();
    let (begun, method) = (admin.api.orders.clock.now(), request.method().clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_pretty = is_pretty(request.uri().query().unwrap_or_default());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Some(draft) = response.extensions_mut().remove::<Draft>() {
        let (kind, value) = match draft {
            Draft::Answer(value) => (JSON, Ok(value)),
            Draft::Problem(problem) => {
                (Problem::MEDIA_TYPE, serde_json::to_value(problem.told(&path, &id.0)))
            }
        };
        *response.body_mut() = Body::from(text(&value.unwrap_or_default(), is_pretty));
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(NO_STORE);
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let took = admin.api.orders.clock.now().since(begun);
    let route = route.as_ref().map(MatchedPath::as_str);
    admin.metrics.traffic.note(route, method.as_str(), response.status().as_u16(), took);
    response
}

/// A time in milliseconds since 1970, as JSON has times.
pub(super) fn rfc3339(unix_millis: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_millis);
    humantime::format_rfc3339_millis(time).to_string()
}

fn text(value: &Value, is_pretty: bool) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if is_pretty { write!(text, "{value:#}") } else { write!(text, "{value}") }.ok();
    text.push('\n');
    text
}

fn is_pretty(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "pretty" | "pretty=1" | "pretty=true"))
}
