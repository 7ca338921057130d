//! Requests between MULTI and EXEC. The server queues, checks and executes them; what it cannot
//! know is added here: a command that nearside answers stands in the queue as a PING, whose place
//! in EXEC's reply its answer takes, and what nearside refuses makes the server refuse EXEC.

use super::{Step, exec, plain, settle};
use crate::command::acl::Rights;
use crate::command::{self, Disposition, Flags, Need, Refusal, Route, Spec, errors, own};
use crate::data::acl;
use crate::data::barrier;
use crate::data::batch::Batch;
use crate::data::bounds;
use crate::data::forward;
use crate::data::local::rights;
use crate::data::local::{self, Edit, Plan, proxy};
use crate::data::session::{Flow, Session};
use crate::data::upstream::{Kind, Place};
use crate::scripts::{NO_SCRIPT, Verdict};
use crate::stats::Counter;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was queued may be denied by now.
const CHANGED: &[u8] = b"EXECABORT Transaction discarded because of: NOPERM ACLs rules changed \
between the moment the transaction was accumulated and the EXEC call";

/// What the user of a session may, in the words of the settings in force.
fn rights(session: &Session) -> Option<Arc<Rights>> {
    session.standing.rights().cloned()
}

/// MULTI, WATCH and what ends them, outside of a transaction.
pub fn outside(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let step = match spec.name {
        "multi" => Step::Begin,
        "watch" => Step::Watch(true),
        "unwatch" => Step::Watch(false),
        // EXEC and DISCARD without MULTI: an error that changes nothing.
        _ => {
            plain(session, spec, request, batch);
            return;
        }
    };
    forward::command_as(session, spec, request, Kind::Own(Box::new(step)), batch);
    let rights = rights(session);
    match (&mut session.own, spec.name) {
        (Some(own), "multi") => {
            own.in_multi = true;
            own.rights = rights;
        }
        (Some(own), "watch") => {
            own.reads_upstream = true;
            let keys = u32::try_from(request.len() - 1).unwrap_or(u32::MAX);
            session.client.state.watched.fetch_add(keys, Ordering::Relaxed);
        }
        _ => settle(session),
    }
}

/// Any request inside of a transaction.
pub fn inside(
    session: &mut Session,
    spec: Option<&'static Spec>,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let Some(spec) = spec else {
        let unknown = proxy::unknown(request, batch.snapshot);
        batch.block.add(Counter::RejectedUnsupported, 1);
        let arg = |index| request.arg(index);
        poison(session, &command::UNKNOWN, batch, |out| {
            errors::unknown(out, unknown, request.len(), arg);
        });
        return Flow::Next;
    };
    // (EXEC that is refused ends the transaction.)
    if !spec.accepts(request.len()) && spec.name != "exec" {
        poison(session, spec, batch, |out| errors::arity(out, spec));
        return Flow::Next;
    }
    if is_denied(session, spec, request, batch) || is_unfit(session, spec, request, batch) {
        return Flow::Next;
    }
    // A transaction that was begun may always be ended.
    if let Route::Refuse(why) = batch.snapshot.limits.policy.route(spec)
        && !matches!(spec.name, "exec" | "discard")
    {
        refuse(session, spec, why, batch);
        return Flow::Next;
    }
    match spec.name {
        "exec" | "discard" => end(session, spec, request, batch),
        "quit" | "reset" => return local::answer(session, spec, request, batch),
        "select" => {
            let place = match parse_i64(request.arg(1)).and_then(|db| u32::try_from(db).ok()) {
                Some(db) => Place::Database(db),
                None => Place::Theirs,
            };
            queue(session, spec, request, place, batch);
        }
        // Of who waits now it is the server's to execute.
        "client|unblock" => {
            let kind = Kind::Own(Box::new(Step::Queue(Place::Theirs)));
            if !local::client::unblock(session, spec, request, kind, batch) {
                place_own(session, spec, request, batch);
            }
        }
        "client|pause" | "client|unpause" => {
            let place = match local::client::pauses(spec, request, batch.shared) {
                Ok(change) => Place::Edited(Arc::new(Edit::Pause(change))),
                Err(text) => error_at_exec(&text),
            };
            stand_in(session, spec, place, batch);
        }
        "echo" => queue(session, spec, request, Place::Theirs, batch),
        // What nearside does itself it would do now, not at EXEC.
        "auth" | "hello" | "client|reply" | "client|kill" => {
            refuse(session, spec, Refusal::InTransaction, batch);
        }
        _ => by_route(session, spec, request, batch),
    }
    Flow::Next
}

/// True if its client may not make this request: as the server does, EXEC fails, or this place in
/// its reply.
fn is_denied(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> bool {
    // (What the server never queues it refuses for that.)
    if !spec.flags.has(Flags::NO_MULTI)
        && let Err(refusal) = acl::judge(session, spec, request, batch)
    {
        match spec.name {
            "exec" => abort(session, spec, &refusal.text, batch),
            _ if refusal.is_late => stand_in(session, spec, error_at_exec(&refusal.text), batch),
            _ => poison(session, spec, batch, |out| write::error(out, &refusal.text)),
        }
        return true;
    }
    let is_for_others = rights::denies(session, spec, request, batch);
    if is_for_others {
        let text = rights::text(session, spec, batch);
        poison(session, spec, batch, |out| write::error(out, text.as_bytes()));
    }
    is_for_others
}

/// True if it names a key that may not be named: EXEC fails.
fn is_unfit(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> bool {
    let fault = bounds::fault(spec, request, batch);
    if let Some(text) = &fault {
        poison(session, spec, batch, |out| write::error(out, text.as_bytes()));
    }
    fault.is_some()
}

/// EXEC that is refused: the transaction is discarded.
fn abort(session: &mut Session, spec: &'static Spec, why: &[u8], batch: &mut Batch<'_>) {
    if let Some(own) = session.own.as_mut() {
        own.in_multi = false;
        own.calls.clear();
    }
    let mut text = BytesMut::new();
    write::error(&mut text, why);
    let kind = Kind::Own(Box::new(Step::Abort(text.freeze())));
    forward::words(session, spec, &[b"DISCARD"], kind, batch);
    settle(session);
}

/// EXEC or DISCARD.
fn end(session: &mut Session, spec: &'static Spec, request: &Request<'_>, batch: &mut Batch<'_>) {
    let has_changed = session.own.as_ref().is_some_and(|own| own.rights != rights(session));
    if spec.name == "exec" && has_changed {
        abort(session, spec, CHANGED, batch);
        return;
    }
    let calls = session.own.as_mut().map(|own| {
        own.in_multi = false;
        std::mem::take(&mut own.calls)
    });
    // (EXEC with arguments is refused.)
    match calls.filter(|calls| !calls.is_empty()) {
        Some(calls) if spec.name == "exec" && spec.accepts(request.len()) => {
            exec::ask(session, spec, calls, batch);
        }
        _ => {
            let kind = Kind::Own(Box::new(Step::End));
            forward::command_as(session, spec, request, kind, batch);
        }
    }
    settle(session);
}

fn by_route(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let policy = &batch.snapshot.limits.policy;
    match spec.disposition(policy, request.len(), |index| request.arg(index)) {
        // What is asked of nearside itself it would do now, not at EXEC.
        Disposition::Local if own::has(spec) => {
            refuse(session, spec, Refusal::InTransaction, batch);
        }
        Disposition::Local => place_own(session, spec, request, batch),
        Disposition::Edited => edited(session, spec, request, batch),
        Disposition::Own(
            Need::Transaction
            | Need::Block
            | Need::Aside
            | Need::Wait
            | Need::Fieldset
            | Need::Unknown,
        )
        | Disposition::Cacheable
        | Disposition::Forward => queue(session, spec, request, Place::Theirs, batch),
        Disposition::Own(Need::Subscribe | Need::Tracking | Need::Monitor) => {
            refuse(session, spec, Refusal::InTransaction, batch);
        }
        Disposition::Script => script(session, spec, request, batch),
        Disposition::Refuse(why) => refuse(session, spec, why, batch),
    }
}

/// A script that may not run makes EXEC fail, and one that nobody knows fails as it is executed.
fn script(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    match batch.shared.scripts.judge(spec, |index| request.arg(index)) {
        Verdict::Pass(sha) => {
            queue(session, spec, request, Place::Theirs, batch);
            if barrier::is_wanted(spec, sha, batch) {
                batch.links.of(session).mark_opaque();
            }
        }
        Verdict::NoScript => stand_in(session, spec, error_at_exec(NO_SCRIPT), batch),
        Verdict::Unread => {
            if let Some(own) = &mut session.own {
                own.calls.push(request.arg(1).into());
            }
            queue(session, spec, request, Place::Theirs, batch);
        }
        Verdict::Refused(text) => {
            batch.block.add(Counter::RejectedUnsupported, 1);
            poison(session, spec, batch, |out| write::error(out, text.as_bytes()));
        }
    }
}

/// The server queues it. (Inside MULTI nothing blocks.)
fn queue(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    place: Place,
    batch: &mut Batch<'_>,
) {
    let place = match forward::listed(spec, request, &batch.snapshot.names) {
        Some(pattern) => Place::Listed(pattern.into()),
        None => place,
    };
    let kind = Kind::Own(Box::new(Step::Queue(place)));
    forward::command_as(session, spec, request, kind, batch);
}

/// A command of which a part is nearside's.
fn edited(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    match local::plan(session.proto, spec, request, batch.shared) {
        Plan::Edit(edit) => queue(session, spec, request, Place::Edited(Arc::new(edit)), batch),
        Plan::Pass => queue(session, spec, request, Place::Theirs, batch),
        Plan::Part(..) => refuse(session, spec, Refusal::InTransaction, batch),
        Plan::Own(reply) => stand_in(session, spec, Place::Ours(reply.freeze()), batch),
    }
}

/// nearside answers it now; the answer is given where EXEC's reply has its place. (It is counted
/// where the server says that it has queued what stands in for it.)
fn place_own(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let order = std::mem::take(&mut session.order);
    let output = std::mem::take(&mut session.output);
    local::say(session, spec, request, batch);
    session.order = order;
    let mut answered = std::mem::replace(&mut session.output, output);
    let reply = answered.tail().split().freeze();
    stand_in(session, spec, Place::Ours(reply), batch);
}

/// A PING that the server queues in place of a command that it cannot execute.
fn stand_in(session: &mut Session, spec: &'static Spec, place: Place, batch: &mut Batch<'_>) {
    let kind = Kind::Own(Box::new(Step::Queue(place)));
    forward::words(session, spec, &[b"PING"], kind, batch);
}

/// Its place in EXEC's reply has this error.
fn error_at_exec(text: &[u8]) -> Place {
    let mut reply = BytesMut::new();
    write::error(&mut reply, text);
    Place::Ours(reply.freeze())
}

fn refuse(session: &mut Session, spec: &'static Spec, why: Refusal, batch: &mut Batch<'_>) {
    let is_permission = why.is_permission();
    batch.block.add(Counter::RejectedNoPerm, u64::from(is_permission));
    batch.block.add(Counter::RejectedUnsupported, u64::from(!is_permission));
    let why = if spec.flags.has(Flags::NO_MULTI) { Refusal::InTransaction } else { why };
    poison(session, spec, batch, |out| errors::refused(out, spec, why));
}

/// An error that makes EXEC fail, as every error at queueing does: the server is asked what it
/// must refuse, and the client is told `write`'s text.
fn poison(
    session: &mut Session,
    spec: &'static Spec,
    batch: &mut Batch<'_>,
    write: impl FnOnce(&mut BytesMut),
) {
    let mut text = BytesMut::new();
    write(&mut text);
    let kind = Kind::Own(Box::new(Step::Poison(Bytes::from(text))));
    // GET without a key.
    forward::words(session, spec, &[b"GET"], kind, batch);
}
