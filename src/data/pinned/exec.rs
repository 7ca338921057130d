//! EXEC of a transaction that calls functions, under a prefix: what they do is read right before.
//!
//! ```text
//!   EXEC --> FUNCTION LIST WITHCODE on the shared link --> EXEC on the own link
//!                                                     \--> DISCARD there, -EXECABORT to the client
//! ```
//!
//! On its own link no answer would come before EXEC. Between the two requests the client's
//! transaction stays open at the server, as it does while a client thinks.

use super::Step;
use crate::command::Spec;
use crate::data::batch::Batch;
use crate::data::forward;
use crate::data::order::Frame;
use crate::data::script::{self, Functions};
use crate::data::session::Session;
use crate::data::settle::{Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket, Waiter};
use crate::scripts::Heard;
use crate::stats::Counter;
use crate::units::clock::Tick;
use crate::wire::write;
use bytes::BytesMut;

/// An EXEC that waits until the functions of its transaction were read.
#[derive(Debug)]
pub struct Exec {
    functions: Functions,
    /// Why it must not be sent, once they were.
    refusal: Option<BytesMut>,
}

/// Asks for the libraries; EXEC follows.
pub fn ask(
    session: &mut Session,
    spec: &'static Spec,
    functions: Functions,
    batch: &mut Batch<'_>,
) {
    let slot = session.order.leave_hole();
    session.out_mask = u64::MAX;
    session.wait();
    let link = batch.links.at(session.space, session.proto);
    script::ask_for(&mut link.output, None);
    let owner = Waiter { client: batch.me, slot };
    let kind = Kind::Exec(Box::new(Exec { functions, refusal: None }));
    link.push(Ticket::new(owner, spec, batch.view.now, kind));
    link.wake();
}

/// The libraries, on the shared link: the ticket moves to its client's own.
pub fn heard(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let Some(Ticket { kind: Kind::Exec(exec), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let answer = frame.bytes();
    exec.refusal = match answer.strip_prefix(b"-") {
        Some(error) => Some(aborts(error.trim_ascii_end())),
        None => match desk.shared.scripts.hear(&exec.functions, answer).ok_or(Fault::Shape)? {
            Heard::Refused(text) => {
                desk.block.add(Counter::RejectedUnsupported, 1);
                Some(aborts(text.as_bytes()))
            }
            Heard::Nowhere | Heard::Fine => None,
        },
    };
    let space = link.space;
    desk.moved.extend(link.pop(|_| {}).map(|ticket| (space, ticket)));
    Ok(())
}

/// What the client is told instead.
fn aborts(why: &[u8]) -> BytesMut {
    let mut text = BytesMut::new();
    write::error(&mut text, &[b"EXECABORT Transaction discarded because of: ", why].concat());
    text
}

/// On the client's own link: EXEC, or what ends the transaction without it.
pub fn enter(link: &mut Pipeline, mut ticket: Ticket, now: Tick) {
    let Kind::Exec(exec) = &mut ticket.kind else {
        return;
    };
    let (word, step): (&[u8], Step) = match exec.refusal.take() {
        None => (b"EXEC", Step::End),
        Some(text) => (b"DISCARD", Step::Abort(text.freeze())),
    };
    forward::write_words(&mut link.output, &[word]);
    ticket.kind = Kind::Own(Box::new(step));
    ticket.asked_at = now;
    link.push(ticket);
    link.wake();
}
