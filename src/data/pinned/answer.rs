//! What answers on an own link change: what the link holds, and in the end whose it is.

use super::Step;
use super::subscribe;
use super::tracking;
use crate::command::{ReplyRule, replies};
use crate::data::order::Frame;
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{ClientId, Kind, Pipeline, Place, Queued, Ticket, Transaction};
use crate::stats::{Gauge, Outcome};
use crate::wire::{reply, write};
use bytes::{Bytes, BytesMut};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Takes the answer to the front ticket, which is of an own link's kind.
#[cold]
pub fn take(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let taken = step(link, frame, desk);
    if let Some(pin) = &link.pin
        && let Some(session) = pin.client.and_then(|client| desk.clients.session(client))
    {
        pin.show(&session.client);
    }
    taken
}

fn step(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let is_error = matches!(frame.bytes().first(), Some(b'-' | b'!'));
    let Some(Ticket { owner, kind: Kind::Own(step), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let client = owner.client;
    match &mut **step {
        Step::Queue(_) => queued(link, frame, desk),
        Step::End => return ended(link, frame, desk),
        Step::Poison(text) => {
            let text = std::mem::take(text);
            // What is asked cannot succeed: else this is another's answer.
            if !is_error {
                return Err(Fault::Shape);
            }
            if let Some(ticket) = link.pop(|_| {}) {
                desk.block.reject(ticket.spec.index);
                desk.clients.deliver(ticket.owner, &Frame::Borrowed(&text));
            }
        }
        Step::Abort(_) => aborted(link, desk),
        Step::Subscribe(_) if !is_error => confirmed(link, frame, desk)?,
        Step::Last => {
            if let Some(pin) = &mut link.pin {
                pin.is_over = true;
            }
            // Also of a server that does not know it (before 6.2): the link is closed.
            let is_quit = link.front().is_some_and(|ticket| ticket.spec.name == "quit");
            deliver(link, if is_quit { b"+OK\r\n" } else { b"+RESET\r\n" }, desk);
        }
        Step::Silent(must) => {
            if *must && is_error {
                return Err(Fault::Shape);
            }
            link.discard_front();
        }
        Step::Redirection if !is_error => {
            let redirect = redirect_of(client, desk);
            let mut text = BytesMut::new();
            let names = &link.snapshot_of_front().names;
            tracking::translate(frame.bytes(), names, redirect, &mut text);
            deliver(link, &text, desk);
        }
        step => {
            let change = Change::of(step);
            if let Some(pin) = &mut link.pin {
                match change {
                    Change::Unblocked => unblocked(client, desk),
                    _ if is_error => {}
                    Change::Begun => pin.transaction = Some(Transaction::default()),
                    Change::Watching(is) => pin.is_watching = is,
                    Change::Tracking(is) => {
                        pin.is_tracking = is;
                        // Of its number the server remembers which keys it has read.
                        pin.is_worn = true;
                    }
                    Change::Monitoring => pin.is_monitor = true,
                    Change::Fieldsets(is) => pin.has_fieldsets = is,
                    Change::None => {}
                }
            }
            settle::forwarded(link, frame, desk);
        }
    }
    Ok(())
}

/// The client, by nearside's number, to which this one has its invalidations sent.
pub fn redirect_of(client: ClientId, desk: &mut Desk<'_>) -> i64 {
    let session = desk.clients.session(client);
    session.map_or(0, |session| session.client.state.redirect.load(Ordering::Relaxed))
}

/// What the answer to a simple step changes.
#[derive(Clone, Copy)]
enum Change {
    None,
    Begun,
    Watching(bool),
    Tracking(bool),
    Fieldsets(bool),
    Monitoring,
    Unblocked,
}

impl Change {
    const fn of(step: &Step) -> Self {
        match step {
            Step::Begin => Self::Begun,
            Step::Watch(is) => Self::Watching(*is),
            Step::Track(is) => Self::Tracking(*is),
            Step::Fieldset(is) => Self::Fieldsets(*is),
            Step::Monitor => Self::Monitoring,
            Step::Block => Self::Unblocked,
            _ => Self::None,
        }
    }
}

/// A command that may block is out no more.
pub fn unblocked(client: ClientId, desk: &mut Desk<'_>) {
    desk.block.shift(Gauge::ClientsBlocked, -1);
    if let Some(session) = desk.clients.session(client) {
        session.client.set_served();
    }
}

fn deliver(link: &mut Pipeline, text: &[u8], desk: &mut Desk<'_>) {
    if let Some(ticket) = link.pop(|_| {}) {
        settle::deliver(&ticket, &Frame::Borrowed(text), Outcome::Bypass, desk);
    }
}

/// The server has queued a command, or MULTI was refused and this is its own answer.
fn queued(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) {
    let is_open = link.pin.as_ref().is_some_and(|pin| pin.transaction.is_some());
    if frame.bytes() != b"+QUEUED\r\n" || !is_open {
        settle::forwarded(link, frame, desk);
        return;
    }
    let mut keys = Vec::new();
    let Some(mut ticket) = link.pop(|key| keys.push(key)) else {
        return;
    };
    // What it changes, EXEC does.
    let is_opaque = std::mem::take(&mut ticket.is_opaque);
    let transaction = link.pin.as_mut().and_then(|pin| pin.transaction.as_mut());
    if let (Some(transaction), Kind::Own(step)) = (transaction, &ticket.kind)
        && let Step::Queue(place) = &**step
    {
        transaction.keys.append(&mut keys);
        transaction.clears |= ticket.spec.writes_everything();
        transaction.is_opaque |= is_opaque;
        transaction.queued.push(Queued { spec: ticket.spec, place: place.clone() });
    }
    // (Of nearside's own nobody waits, and nothing is counted.)
    if ticket.client().is_some() {
        settle::deliver(&ticket, frame, Outcome::Bypass, desk);
    }
}

/// EXEC or DISCARD. What EXEC may have changed is forgotten before its client hears of it (R4),
/// also if it says nil.
fn ended(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let is_error = frame.bytes().first() == Some(&b'-');
    let is_exec = link.front().is_some_and(|ticket| ticket.spec.name == "exec");
    let Some(pin) = &mut link.pin else {
        return Err(Fault::Stray);
    };
    // DISCARD that is refused leaves all as it was. EXEC ends it whatever it says.
    let ended = if is_exec || !is_error { pin.transaction.take() } else { None };
    let Some(transaction) = ended.filter(|_| is_exec) else {
        pin.is_watching &= is_error;
        settle::forwarded(link, frame, desk);
        return Ok(());
    };
    pin.is_watching = false;
    forget(&transaction, desk);
    let is_executed = frame.bytes().first() == Some(&b'*') && !reply::is_null(frame.bytes());
    if !is_executed {
        settle::forwarded(link, frame, desk);
        return Ok(());
    }
    let results = reply::elements(frame.bytes()).filter(|element| !is_push(element));
    if results.clone().count() != transaction.queued.len() {
        return Err(Fault::Shape);
    }
    select(link, &transaction, results, desk);
    let text = executed(link, &transaction, frame, desk);
    if let Some(ticket) = link.front() {
        ticket.is_opaque = transaction.is_opaque;
    }
    match text {
        Some(text) => deliver(link, &text, desk),
        None => settle::forwarded(link, frame, desk),
    }
    Ok(())
}

/// DISCARD in EXEC's place: nothing was executed.
fn aborted(link: &mut Pipeline, desk: &mut Desk<'_>) {
    if let Some(pin) = &mut link.pin {
        pin.transaction = None;
        pin.is_watching = false;
    }
    let Some(ticket) = link.pop(|_| {}) else {
        return;
    };
    if let Kind::Own(step) = &ticket.kind
        && let Step::Abort(text) = &**step
    {
        settle::deliver(&ticket, &Frame::Borrowed(text), Outcome::Bypass, desk);
    }
}

/// Everything that a transaction names is gone from the cache.
pub fn forget(transaction: &Transaction, desk: &Desk<'_>) {
    for &key in &transaction.keys {
        desk.shared.cache.invalidate(key);
    }
    if transaction.clears {
        desk.shared.cache.clear();
    }
}

/// Redis 7.0 puts pushes between the elements of EXEC's reply; they are none of them.
fn is_push(element: &[u8]) -> bool {
    element.first() == Some(&b'>')
}

/// A SELECT inside the transaction was executed with it.
fn select(
    link: &mut Pipeline,
    transaction: &Transaction,
    results: impl Iterator<Item: AsRef<[u8]>>,
    desk: &mut Desk<'_>,
) {
    let mut selected = None;
    for (queued, result) in transaction.queued.iter().zip(results) {
        if let (Place::Database(db), b"+OK\r\n") = (&queued.place, result.as_ref()) {
            selected = Some(*db);
        }
    }
    let client = link.pin.as_ref().and_then(|pin| pin.client);
    if let (Some(db), Some(client)) = (selected, client) {
        link.space = link.space.with_db(db);
        if let Some(session) = desk.clients.session(client) {
            session.space = link.space;
            session.client.db.store(db, Ordering::Relaxed);
        }
    }
}

/// EXEC's reply as its client may see it; `None` if that is what the server said.
fn executed(
    link: &Pipeline,
    transaction: &Transaction,
    frame: &Frame<'_>,
    desk: &Desk<'_>,
) -> Option<Bytes> {
    let names = &link.snapshot_of_front().names;
    let is_touched = |queued: &Queued| {
        matches!(queued.place, Place::Ours(_) | Place::Edited(_) | Place::Nobodys)
            || (!names.is_empty() && queued.spec.reply != ReplyRule::AsIs)
    };
    // Errors may quote keys, whatever the command.
    if names.is_empty() && !transaction.queued.iter().any(is_touched) {
        return None;
    }
    let mut out = BytesMut::with_capacity(frame.bytes().len());
    write::array(&mut out, transaction.told());
    let mut queue = transaction.queued.iter();
    for element in reply::elements(frame.bytes()) {
        if is_push(element) {
            out.extend_from_slice(element);
            continue;
        }
        let Some(Queued { spec, place }) = queue.next() else {
            break;
        };
        match place {
            Place::Nobodys => {}
            Place::Ours(reply) => out.extend_from_slice(reply),
            Place::Edited(edit) => edit.answer(element, link.proto, desk.shared, &mut out),
            _ if names.is_empty() || !spec.reply.concerns(element) => {
                out.extend_from_slice(element);
            }
            _ => {
                let pattern = match place {
                    Place::Listed(pattern) => Some(&**pattern),
                    _ => None,
                };
                if !replies::strip(spec.reply, names, pattern, element, &mut out) {
                    write::null(&mut out, link.proto);
                }
            }
        }
    }
    Some(out.freeze())
}

/// One channel's confirmation; the client has them when all of its request have come.
fn confirmed(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    let word = reply::elements(frame.bytes()).next().and_then(reply::bulk);
    let Some(sort) = word.and_then(subscribe::sort) else {
        return Err(Fault::Shape);
    };
    if let Some(pin) = &mut link.pin {
        subscribe::note(sort, frame.bytes(), pin);
    }
    let snapshot = Rc::clone(link.snapshot_of_front());
    let Some(Ticket { kind: Kind::Own(step), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let Step::Subscribe(confirmations) = &mut **step else {
        return Err(Fault::Stray);
    };
    subscribe::confirm(frame.bytes(), &snapshot.names, &mut confirmations.text);
    confirmations.left = confirmations.left.saturating_sub(1);
    if confirmations.left == 0 {
        let text = std::mem::take(&mut confirmations.text);
        deliver(link, &text, desk);
    }
    Ok(())
}
