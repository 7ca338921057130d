//! What everybody may ask: probes, metrics, and what there is to ask. No secrets here.

use super::Admin;
use super::door::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use indexmap::IndexMap;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The routes, with the metrics where `metrics.path` wants them.
pub(super) fn routes(metrics_path: &str) -> OpenApiRouter<Arc<Admin>> {
    let (schemas, mut paths, router) = routes!(metrics);
    if let Some(item) = paths.paths.remove("/metrics") {
        paths.paths.insert(metrics_path.to_owned(), item);
    }
    OpenApiRouter::new()
        .routes(routes!(index))
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(document))
        .routes((schemas, paths, router))
}

/// One thing that must be well before clients are sent here.
#[derive(Clone, Debug)]
pub struct Check {
    /// `upstream`, `tracking`, `draining`.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What is seen, in a few words, for the operator. No secrets: the answer is public.
    pub detail: String,
}

/// Why clients should not be sent here.
#[derive(Debug, Serialize, ToSchema)]
struct Unready {
    /// `unready`
    status: &'static str,
    /// By name.
    #[schema(value_type = std::collections::BTreeMap<String, Checked>)]
    checks: IndexMap<&'static str, Checked>,
}

/// What was looked at.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    /// Whether it is well.
    ok: bool,
    /// What is seen.
    detail: String,
}

/// A short list of the routes.
#[utoipa::path(
    get,
    path = "/",
    tag = "public",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn index(State(admin): State<Arc<Admin>>) -> Response {
    text(TEXT, admin.index.clone())
}

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "public",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn livez() -> Response {
    text(TEXT, "ok\n".to_owned())
}

/// Whether clients should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "public",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 503, body = Unready, description = "which check failed")
    )
)]
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let checks = (admin.ready)();
    if checks.iter().all(|check| check.ok) {
        return text(TEXT, "ok\n".to_owned());
    }
    let checked = |Check { name, ok, detail }| (name, Checked { ok, detail });
    let checks = checks.into_iter().map(checked).collect();
    let unready = Unready { status: "unready", checks };
    (StatusCode::SERVICE_UNAVAILABLE, Json(unready)).into_response()
}

/// Metrics in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "public",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    text(METRICS, admin.metrics.render())
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "public",
    responses((status = 200, body = serde_json::Value))
)]
async fn document(State(admin): State<Arc<Admin>>) -> Response {
    Json(&admin.document).into_response()
}

fn text(kind: HeaderValue, body: String) -> Response {
    ([(CONTENT_TYPE, kind)], body).into_response()
}
