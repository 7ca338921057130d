//! What a route is given of a request: who asks, and what.
//!
//! [`Viewer`] and [`Operator`] ask the guard: every handler behind it has one as its first
//! argument, before anything else of the request is looked at. [`Asked`] reads the body; what is
//! wrong with it is a problem that names the member.

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Admin;
use super::door::RequestId;
use super::guard::{Denied, Role};
use super::problem::{Kind, Problem};
use crate::stats::Counter;

/// A request's body at most, and how long it may take to come.
const BODY_MAX: usize = 1 << 20;
const BODY_TIME: Duration = Duration::from_secs(10);

/// Somebody who may look.
pub(super) struct Viewer;

/// Somebody who may change things.
pub(super) struct Operator {
    /// Whose token it is; none is needed where there is none.
    token: Option<Role>,
    from: IpAddr,
    request_id: RequestId,
}

impl FromRequestParts<Arc<Admin>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Admin>) -> Result<Self, Problem> {
        judge(parts, state, Role::Viewer).map(|_| Self)
    }
}

impl FromRequestParts<Arc<Admin>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Admin>) -> Result<Self, Problem> {
        let (token, from) = judge(parts, state, Role::Operator)?;
        let request_id = parts.extensions.get::<RequestId>();
        let request_id = request_id.cloned().unwrap_or_else(|| RequestId("".into()));
        Ok(Self { token, from, request_id })
    }
}

/// Somebody who may read the metrics, which are there.
pub(super) struct Scraper;

impl FromRequestParts<Arc<Admin>> for Scraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Admin>) -> Result<Self, Problem> {
        let snapshot = state.api.view.snapshots.newest();
        let metrics = &snapshot.settings.metrics;
        if !metrics.enabled {
            return Err(Problem::new(Kind::NotFound, "metrics.enabled is false"));
        }
        if metrics.auth {
            let from = address(parts);
            let told = state.guard.holder(&parts.headers, from);
            told.map_err(|denied| refused(state, denied, from))?;
        }
        Ok(Self)
    }
}

fn address(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip())
}

fn judge(parts: &Parts, admin: &Admin, wanted: Role) -> Result<(Option<Role>, IpAddr), Problem> {
    let from = address(parts);
    let judged = admin.guard.judge(&parts.method, &parts.headers, from, wanted);
    judged.map(|token| (token, from)).map_err(|denied| refused(admin, denied, from))
}

/// Why not; a wrong token is counted, and logged.
fn refused(admin: &Admin, denied: Denied, from: IpAddr) -> Problem {
    if denied == Denied::WrongToken {
        admin.api.orders.block.add(Counter::AuthFailuresAdmin, 1);
        tracing::warn!(event = "auth_failed", surface = "admin", remote_addr = %from);
    }
    refusal(denied)
}

fn refusal(denied: Denied) -> Problem {
    let (kind, detail) = match denied {
        Denied::Host => (Kind::HostNotAllowed, "add this Host to admin.allowed_hosts"),
        Denied::NoToken => (Kind::Unauthorized, "send Authorization: Bearer and a token"),
        Denied::WrongToken => (Kind::Unauthorized, "this Bearer token is not one of ours"),
        Denied::TooMany => (Kind::TooManyRequests, "too many wrong tokens: wait a minute"),
        Denied::Forbidden => (Kind::Forbidden, "this token may only look"),
        Denied::CrossSite => (Kind::Forbidden, "another site's page may not ask this"),
        Denied::MediaType => (Kind::UnsupportedMediaType, "send Content-Type: application/json"),
    };
    Problem::new(kind, detail)
}

impl Operator {
    /// Leaves a line in the log: who did what to what. Keys are counted, not named: this goes
    /// wherever logs go.
    pub(super) fn audit(&self, action: &str, target: &str, count: Option<u64>) {
        let from = self.from.to_string();
        tracing::info!(
            event = "admin_action",
            actor = self.token.map_or(from.as_str(), |role| role.as_str()),
            action,
            target,
            count,
            remote_addr = from,
            request_id = &*self.request_id.0,
            "admin"
        );
    }
}

/// The part of the path that a route leaves open.
pub(super) struct At(pub(super) String);

impl FromRequestParts<Arc<Admin>> for At {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Admin>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text))
            .map_err(|error| Problem::new(Kind::NotFound, format!("the path: {error}")))
    }
}

/// The question of a request: what stands behind `?`, but for `pretty`, which is the door's.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Admin>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let ours = |pair: &&str| pair.split('=').next() != Some("pretty");
        let query: Vec<&str> = query.split('&').filter(ours).collect();
        let query = query.join("&");
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            // A member that is missing or unknown is named by the error itself.
            let text = error.inner().to_string();
            let at = match error.path().iter().next() {
                Some(Segment::Map { key }) if !text.contains(&format!("`{key}`")) => {
                    format!(" {key}:")
                }
                _ => String::new(),
            };
            let detail = format!("behind the `?`:{at} {text}");
            Problem::new(Kind::InvalidRequest, detail)
        })
    }
}

/// How many of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Few {
    /// How many at most.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    pub(super) limit: usize,
}

/// Rows of a list, unless somebody says otherwise.
pub(super) const fn hundred() -> usize {
    100
}

/// The bytes that a member of a request has in base64.
pub(super) fn bytes(pointer: &str, base64: &str) -> Result<Vec<u8>, Problem> {
    BASE64_STANDARD.decode(base64).map_err(|error| {
        let name = pointer.trim_start_matches('/');
        Problem::at(Kind::InvalidRequest, pointer, format!("{name}: no base64: {error}"))
    })
}

/// A `limit` that may be.
pub(super) fn limited(limit: usize) -> Result<usize, Problem> {
    const MAX: usize = 1000;
    if (1..=MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit: {limit} is not 1 to {MAX}");
    Err(Problem::new(Kind::InvalidRequest, detail))
}

/// The body of a request, read as JSON: an object, and an empty one if there is no body.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Admin>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(req: Request, _: &Arc<Admin>) -> Result<Self, Problem> {
        read(&body(req).await?).map(Self)
    }
}

async fn body(request: Request) -> Result<Vec<u8>, Problem> {
    let reading = to_bytes(request.into_body(), BODY_MAX);
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => {
            let detail = format!("the body is broken off, or longer than {BODY_MAX} bytes");
            Err(Problem::new(Kind::BodyTooLarge, detail))
        }
        Err(_) => Err(Problem::new(Kind::TooSlow, format!("the body took over {BODY_TIME:?}"))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let bad = |detail: String| Problem::new(Kind::BadJson, detail);
    let body = body.trim_ascii();
    let value = match serde_json::from_slice(if body.is_empty() { b"null" } else { body }) {
        Ok(Value::Null) => Value::Object(Map::new()),
        Ok(value @ Value::Object(_)) => value,
        Ok(_) => return Err(bad("the body is no JSON object".to_owned())),
        Err(error) => return Err(bad(format!("the body is no JSON: {error}"))),
    };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            // Writing to a string cannot fail.
            match segment {
                Segment::Seq { index } => write!(pointer, "/{index}").ok(),
                Segment::Map { key } => write!(pointer, "/{}", escaped(key)).ok(),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
        }
        let name = pointer.strip_prefix('/').unwrap_or("the body");
        let detail = format!("{name}: {}", error.inner());
        Problem::at(Kind::InvalidRequest, &pointer, detail)
    })
}

/// A member's name as RFC 6901 writes it in a pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
