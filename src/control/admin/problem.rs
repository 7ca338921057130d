//! Errors of the admin API, as RFC 9457 writes them: `application/problem+json`.
//!
//! In: what went wrong, in words. Out: a response whose body [`super::door`] writes, where the path
//! and the number of the request are known; and what the document says of such responses.

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::openapi::response::{Response as Documented, ResponseBuilder};
use utoipa::openapi::{Content, Ref, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::door::Draft;

/// The kinds of problems: the end of their type, title, status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadJson,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    BodyTooLarge,
    UnsupportedMediaType,
    HostNotAllowed,
    InvalidRequest,
    InvalidPattern,
    InvalidConfig,
    Conflict,
    TooManyRequests,
    Busy,
    Upstream,
    UpstreamUnavailable,
    JobFailed,
    Internal,
}

impl Kind {
    const fn row(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::BadJson => ("bad-json", "Bad JSON", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "Forbidden", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::TooSlow => ("too-slow", "Too slow", StatusCode::REQUEST_TIMEOUT),
            Self::BodyTooLarge => {
                ("body-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "Unsupported media type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::HostNotAllowed => {
                ("host-not-allowed", "Host not allowed", StatusCode::MISDIRECTED_REQUEST)
            }
            Self::InvalidRequest => {
                ("invalid-request", "Invalid request", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::InvalidPattern => {
                ("invalid-pattern", "Invalid pattern", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::InvalidConfig => {
                ("invalid-config", "Invalid configuration", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::Conflict => ("conflict", "Conflict", StatusCode::CONFLICT),
            Self::TooManyRequests => {
                ("too-many-requests", "Too many requests", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Busy => ("busy", "Another job is at work", StatusCode::CONFLICT),
            Self::Upstream => ("upstream", "Upstream would not", StatusCode::BAD_GATEWAY),
            Self::UpstreamUnavailable => (
                "upstream-unavailable",
                "Upstream cannot be reached",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::JobFailed => ("job-failed", "The job failed", StatusCode::BAD_GATEWAY),
            Self::Internal => ("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// What the document says of some of them.
    fn documented(kinds: &[Self]) -> BTreeMap<String, RefOr<Documented>> {
        let one = |kind: &Self| {
            let (_, title, status) = kind.row();
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let told = ResponseBuilder::new().description(title).content(MEDIA_TYPE, content);
            (status.as_str().to_owned(), told.build().into())
        };
        kinds.iter().map(one).collect()
    }
}

/// What a problem is sent as.
const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    /// The member of the body that is wrong, as a JSON pointer.
    pointer: Option<String>,
}

impl Problem {
    /// The type of its body.
    pub(super) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static(MEDIA_TYPE);

    /// A problem, and what is special about this one.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: None }
    }

    /// A problem of one member of the body.
    pub(super) fn at(kind: Kind, pointer: &str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: Some(pointer.to_owned()) }
    }

    /// As it is sent in answer to this request for `path`.
    pub(super) fn told(self, path: &str, request_id: &str) -> Told {
        let (slug, title, status) = self.kind.row();
        let fault = |pointer| Fault { pointer, detail: self.detail.clone() };
        Told {
            kind: format!("urn:nearside:problem:{slug}"),
            title,
            status: status.as_u16(),
            errors: self.pointer.map(fault).into_iter().collect(),
            detail: self.detail,
            instance: path.to_owned(),
            request_id: request_id.to_owned(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (_, _, status) = self.kind.row();
        let mut response = status.into_response();
        if self.kind == Kind::Unauthorized {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(Draft::Problem(self));
        response
    }
}

/// A problem, as RFC 9457 writes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Told {
    /// `urn:nearside:problem:` and its name.
    #[serde(rename = "type")]
    kind: String,
    /// Its name in words.
    title: &'static str,
    /// The response's status.
    status: u16,
    /// What is special about this one.
    detail: String,
    /// The path that was asked.
    instance: String,
    /// The members of the body that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Fault>,
    /// As in `X-Request-Id`.
    request_id: String,
}

/// What is wrong with one member of a body.
#[derive(Debug, Serialize, ToSchema)]
struct Fault {
    /// Which one: a JSON pointer.
    pointer: String,
    /// What.
    detail: String,
}

/// The answers of the guard: every route behind it may give them.
pub(super) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[
            Kind::Unauthorized,
            Kind::Forbidden,
            Kind::HostNotAllowed,
            Kind::TooManyRequests,
        ])
    }
}

/// The answer to a form: what changes something is JSON, even if its body is empty.
pub(super) struct WrongMedia;

impl IntoResponses for WrongMedia {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::UnsupportedMediaType])
    }
}

/// The answer to a question that is none.
pub(super) struct Unasked;

impl IntoResponses for Unasked {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::InvalidRequest])
    }
}

/// The answers to a body that is not what the route takes.
pub(super) struct Unread;

impl IntoResponses for Unread {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[
            Kind::BadJson,
            Kind::TooSlow,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidRequest,
        ])
    }
}

/// The answer to what the state of things does not allow.
pub(super) struct Conflicts;

impl IntoResponses for Conflicts {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::Conflict])
    }
}

/// The answer where upstream did not do its part.
pub(super) struct Unreached;

impl IntoResponses for Unreached {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::Upstream, Kind::UpstreamUnavailable])
    }
}

/// The answer where a job that was waited for could not go on.
pub(super) struct Failed;

impl IntoResponses for Failed {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::JobFailed])
    }
}

/// The answer where nothing has this name.
pub(super) struct Missing;

impl IntoResponses for Missing {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::NotFound])
    }
}

/// The answer where the configuration is wrong.
pub(super) struct Misconfigured;

impl IntoResponses for Misconfigured {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        Kind::documented(&[Kind::InvalidConfig])
    }
}
