//! Errors of the admin API, as RFC 9457 writes them: `application/problem+json`.
//!
//! In: what went wrong, in words. Out: a response.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::answer;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

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
    TooManyRequests,
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
            Self::TooManyRequests => {
                ("too-many-requests", "Too many requests", StatusCode::TOO_MANY_REQUESTS)
            }
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    /// The member of the body that is wrong, as a JSON pointer.
    pointer: Option<String>,
}

impl Problem {
    /// A problem, and what is special about this one.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: None }
    }

    /// A problem of one member of the body.
    pub(super) fn at(kind: Kind, pointer: &str, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: Some(pointer.to_owned()) }
    }

    /// The response to a request for `path`.
    pub(super) fn answer(&self, path: &str) -> Response {
        let (slug, title, status) = self.kind.row();
        let mut body = json!({
            "type": format!("urn:nearside:problem:{slug}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "instance": path,
        });
        if let (Some(pointer), Some(members)) = (&self.pointer, body.as_object_mut()) {
            let error = json!({ "pointer": pointer, "detail": self.detail });
            members.insert("errors".to_owned(), json!([error]));
        }
        answer(status, PROBLEM, format!("{body}\n"))
    }
}
