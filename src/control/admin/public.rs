//! What everybody may ask: probes, metrics, and what there is to ask. No secrets here.

use super::Admin;
use super::ask::Scraper;
use super::door::Json;
use super::problem::Told;
use crate::control::wing;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode, Uri};
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
    watched(metrics_path).routes(routes!(index)).routes(routes!(document))
}

/// Those that machines ask again and again.
pub(super) fn watched(metrics_path: &str) -> OpenApiRouter<Arc<Admin>> {
    let (schemas, mut paths, router) = routes!(metrics);
    if let Some(item) = paths.paths.remove("/metrics") {
        paths.paths.insert(metrics_path.to_owned(), item);
    }
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes((schemas, paths, router))
}

/// One thing that must be well before clients are sent here.
#[derive(Clone, Debug)]
pub struct Check {
    /// `upstream` (`fallback` while something stands in for it), `tracking`, `draining`.
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

/// Whether the process answers, and all its workers live.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "public",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (
            status = 503,
            body = String,
            content_type = "text/plain",
            description = "a worker has been silent for 10 s"
        )
    )
)]
async fn livez(State(admin): State<Arc<Admin>>) -> Response {
    match wing::silent_worker(&*admin.api.wing) {
        None => text(TEXT, "ok\n".to_owned()),
        Some(worker) => {
            let said = format!("worker {worker} has been silent for over 10 s\n");
            (StatusCode::SERVICE_UNAVAILABLE, text(TEXT, said)).into_response()
        }
    }
}

/// Whether clients should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "public",
    params(("verbose" = Option<String>, Query, description = "With it, a line for each check.")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 503, body = Unready, description = "which check failed")
    )
)]
async fn readyz(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    let checks = (admin.ready)();
    if checks.iter().all(|check| check.ok) {
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let is_verbose = pairs.any(|pair| pair.split('=').next() == Some("verbose"));
        let line = |check: &Check| format!("[+]{} ok\n", check.name);
        let lines: String = checks.iter().filter(|_| is_verbose).map(line).collect();
        return text(TEXT, lines + "ok\n");
    }
    let unready = Unready { status: "unready", checks: by_name(checks) };
    (StatusCode::SERVICE_UNAVAILABLE, Json(unready)).into_response()
}

/// How the process fares.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    status: Fares,
    /// By name.
    #[schema(value_type = std::collections::BTreeMap<String, Checked>)]
    checks: IndexMap<&'static str, Checked>,
}

/// How a process fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Fares {
    /// All is well.
    Ok,
    /// Clients are served, but not as they should be.
    Degraded,
    /// Upstream cannot be used.
    Down,
}

/// How the process fares, each check by its name.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "public",
    responses(
        (status = 200, body = Health),
        (status = 503, body = Health, description = "upstream cannot be used")
    )
)]
async fn healthz(State(admin): State<Arc<Admin>>) -> Response {
    let checks = (admin.ready)();
    let is_failed = |name: Option<&str>| {
        checks.iter().any(|check| !check.ok && name.is_none_or(|name| name == check.name))
    };
    let (code, status) = match (is_failed(Some("upstream")), is_failed(None)) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, Fares::Down),
        (false, true) => (StatusCode::OK, Fares::Degraded),
        (false, false) => (StatusCode::OK, Fares::Ok),
    };
    (code, Json(Health { status, checks: by_name(checks) })).into_response()
}

fn by_name(checks: Vec<Check>) -> IndexMap<&'static str, Checked> {
    checks.into_iter().map(|Check { name, ok, detail }| (name, Checked { ok, detail })).collect()
}

/// Metrics in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "public",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = Told, description = "`metrics.auth`: it takes a token"),
        (status = 404, body = Told, description = "`metrics.enabled` is false"),
        (status = 429, body = Told, description = "too many wrong tokens")
    )
)]
async fn metrics(State(admin): State<Arc<Admin>>, _: Scraper) -> Response {
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
