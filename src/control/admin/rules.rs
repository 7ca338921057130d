//! What becomes of keys by the rule that they fall under, and what is held of them.

use super::Admin;
use super::ask::{Params, Viewer};
use super::door::Json;
use super::figures::Tallied;
use super::problem::{Refused, Unasked};
use super::stats::{During, Since, View};
use crate::control::census::{Counted, Held};
use crate::stats::history::Window;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(rules))
}

/// Reads by rule.
#[derive(Debug, Serialize, ToSchema)]
struct ByRule {
    window: Since,
    /// Its length.
    seconds: f64,
    /// What is held was held against the rules for one in so many keys; 1: it is exact.
    counted_one_in: u64,
    rules: Vec<RuleReads>,
}

/// Reads of keys that fall under one rule.
#[derive(Debug, Serialize, ToSchema)]
struct RuleReads {
    #[serde(flatten)]
    reads: Tallied,
    /// Keys that may be served now.
    entries: u64,
    /// Accounted bytes of their replies.
    bytes: u64,
    /// Its place in proxy.toml, from 0; the last is `[cache]`.
    rule: u16,
    /// Its patterns.
    #[serde(rename = "match")]
    globs: Vec<String>,
    /// `bypass`, `coherent`, `relaxed` or `ttl`.
    level: &'static str,
}

/// Reads by rule.
///
/// Reads are estimated from one in `hotkeys.sample`, in the order of the rules; the last is that of
/// keys which no rule matches. What is held is counted when it is asked for, and told again for
/// five seconds.
#[utoipa::path(
    get,
    path = "/api/v1/rules",
    tag = "statistics",
    security(("token" = ["viewer"])),
    params(During),
    responses((status = 200, body = ByRule), Refused, Unasked)
)]
async fn rules(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(During { window }): Params<During>,
) -> Json<ByRule> {
    let held = admin.api.census.take().await;
    Json(admin.api.view.rules(window, &held))
}

impl View {
    /// What GET /rules answers: in their order, those that nothing matched included.
    fn rules(&self, since: Since, held: &Counted) -> ByRule {
        let Window { length, counted } = self.window(since);
        let rows = held.snapshot.rules.all().map(|(rule, globs)| {
            let counts = counted.rules.get(usize::from(rule.index)).copied().unwrap_or_default();
            let text = |glob: &[u8]| String::from_utf8_lossy(glob).into_owned();
            let Held { entries, bytes } =
                held.rules.get(usize::from(rule.index)).copied().unwrap_or_default();
            RuleReads {
                reads: Tallied::of(counts, length),
                entries,
                bytes,
                rule: rule.index,
                globs: globs.into_iter().map(text).collect(),
                level: rule.level.as_str(),
            }
        });
        let (seconds, counted_one_in) = (length.as_secs_f64(), held.one_in);
        ByRule { window: since, seconds, counted_one_in, rules: rows.collect() }
    }
}
