//! Requests that are not carried out: nobody knows them, they do not fit their row, or they may not
//! be. In: the request; out: the error, in Redis' words where it has some, and its place in the
//! counts. Off the path of what is served.

use crate::command::{Refusal, Spec, errors};
use crate::data::batch::Batch;
use crate::data::local::proxy;
use crate::data::session::{Ending, Session};
use crate::data::standing::Fate;
use crate::stats::Counter;
use crate::wire::request::Request;

/// Too few arguments for its row, or too many.
#[cold]
pub fn misfit(session: &mut Session, spec: &Spec, batch: &Batch<'_>) {
    session.order.reply(&mut session.output, |out| errors::arity(out, spec));
    batch.block.reject(spec.index);
    session.note(spec.index, Fate::Refused, batch.commands);
}

/// The table or the settings forbid it.
#[cold]
pub fn by_policy(session: &mut Session, spec: &Spec, why: Refusal, batch: &Batch<'_>) {
    batch.block.reject(spec.index);
    let is_permission = why.is_permission();
    batch.block.add(Counter::RejectedNoPerm, u64::from(is_permission));
    batch.block.add(Counter::RejectedUnsupported, u64::from(!is_permission));
    session.order.reply(&mut session.output, |out| errors::refused(out, spec, why));
    session.note(spec.index, Fate::Refused, batch.commands);
}

/// Whoever found what is against it has counted that, and says it.
#[cold]
pub fn with(session: &mut Session, spec: &Spec, text: &[u8], batch: &Batch<'_>) {
    batch.block.reject(spec.index);
    session.error(text);
    session.note(spec.index, Fate::Refused, batch.commands);
}

/// A command that nobody knows.
#[cold]
pub fn unknown(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let unknown = proxy::unknown(request, batch.snapshot);
    session.note(u16::MAX, Fate::Refused, batch.commands);
    let name = request.arg(0);
    // A browser or a cross-protocol attack (Redis' `securityWarningCommand`): no answer.
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        batch.block.add(Counter::ProtocolErrorsClient, 1);
        tracing::warn!(
            client_addr = %session.client.address,
            "an HTTP request on the RESP port: connection closed without an answer"
        );
        session.ending = Some(Ending::Protocol);
        return;
    }
    batch.block.add(Counter::RejectedUnsupported, 1);
    batch.block.reject(u16::MAX);
    let arg = |index| request.arg(index);
    session.order.reply(&mut session.output, |out| {
        errors::unknown(out, unknown, request.len(), arg);
    });
}
