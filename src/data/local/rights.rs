//! Who may act on nearside itself and on other clients: operators, where clients log in as users.
//!
//! What upstream answers is upstream's to permit. What nearside answers itself would be permitted
//! by nobody: where there are users, it is done for operators (`auth.users`, and who knows
//! `auth.password`) and for what concerns the asking connection alone.

use crate::command::acl::Denied;
use crate::command::{Spec, errors};
use crate::config::{AuthMode, Role};
use crate::data::batch::Batch;
use crate::data::local::{config, info};
use crate::data::session::Session;
use crate::stats::Counter;
use crate::wire::request::Request;

/// Of the PROXY family, what tells a client of itself alone, or nothing that is not public.
const HARMLESS: [&str; 6] =
    ["proxy", "proxy|bypass", "proxy|commands", "proxy|help", "proxy|last", "proxy|lease"];

/// Of CLIENT, what is about others.
const OF_OTHERS: [&str; 4] = ["client|kill", "client|list", "client|pause", "client|unpause"];

/// True if this client may not ask that of nearside.
#[cold]
pub fn denies(session: &Session, spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) -> bool {
    is_for_operators(spec, request) && !is_operator(session, batch)
}

/// The error of what [`denies`].
#[cold]
pub fn text(session: &Session, spec: &Spec, batch: &Batch<'_>) -> String {
    batch.block.add(Counter::RejectedNoPerm, 1);
    let user = session.client.names.lock().user.clone();
    errors::denied(spec, Denied::Command, &user)
}

fn is_for_operators(spec: &Spec, request: &Request<'_>) -> bool {
    match spec.name {
        name if name.starts_with("proxy") => !HARMLESS.contains(&name),
        "config|get" | "config|set" => config::concerns_own(request),
        "info" => info::Wanted::of(request).is_own(),
        name => OF_OTHERS.contains(&name),
    }
}

fn is_operator(session: &Session, batch: &Batch<'_>) -> bool {
    // (A link that holds keys of its client is under an older one.)
    let newest = batch.shared.snapshots.newest();
    let auth = &newest.limits.auth;
    if auth.mode == AuthMode::None {
        return true;
    }
    let name = session.client.names.lock().user.clone();
    let listed = auth.users.iter().find(|user| user.name == name);
    match (auth.mode, listed) {
        (_, Some(user)) => user.role == Role::Operator,
        // (Who is no more in the list, or came in by another mode, is not the default user.)
        (AuthMode::Static, None) => session.seat.is_none() && name == "default",
        (AuthMode::None | AuthMode::Passthrough, None) => false,
    }
}
