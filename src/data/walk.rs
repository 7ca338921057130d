//! Commands that take several requests upstream before there is an answer, because upstream holds
//! more than this version's keys.
//!
//! ```text
//!   RANDOMKEY        ask; a key of another version: ask again; after TRIES: SCAN for one
//!   FLUSHDB/FLUSHALL SCAN MATCH prefix* -> UNLINK page -> next page ... -> +OK
//! ```
//!
//! Each step is a request behind the others of the same link, so other clients are not held up.
//! Without a prefix nothing here is used: the commands are forwarded as they are.

use crate::command::Spec;
use crate::data::forward;
use crate::data::order::Frame;
use crate::data::session::{Batch, Session};
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket, Waiter, Walk};
use crate::keys::Prefix;
use crate::stats::{Counter, Outcome};
use crate::wire::request::Request;
use crate::wire::{reply, write};
use bytes::BytesMut;

/// Times RANDOMKEY is asked before the keyspace is scanned instead.
const TRIES: u32 = 16;

/// Keys looked at per page: a page of UNLINK stays below a millisecond on the server.
const PAGE: &[u8] = b"500";

/// Starts a walk if this command needs one. False: forward it.
pub fn begin(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> bool {
    let prefix = &batch.shared.prefix;
    if prefix.is_empty() {
        return false;
    }
    if matches!(spec.name, "flushdb" | "flushall") && !is_flush(request) {
        session.error(b"ERR syntax error");
        return true;
    }
    let link = batch.links.of(session);
    let walk = match spec.name {
        "randomkey" => {
            ask_random(&mut link.output);
            Walk::RandomKey { tries: TRIES }
        }
        "flushdb" | "flushall" => {
            ask_page(&mut link.output, b"0", prefix);
            Walk::FlushPage
        }
        _ => return false,
    };
    session.out_mask = u64::MAX;
    let slot = session.order.leave_hole();
    link.push(Ticket {
        owner: Waiter { client: batch.me, slot },
        joined: Vec::new(),
        spec,
        asked_at: batch.view.now,
        keys: 0,
        text_len: 0,
        kind: Kind::Walk(Box::new(walk)),
    });
    link.wake();
    true
}

/// FLUSHALL [ASYNC | SYNC]: anything else deletes nothing.
fn is_flush(request: &Request<'_>) -> bool {
    match request.len() {
        1 => true,
        2 => {
            let option = request.arg(1);
            option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync")
        }
        _ => false,
    }
}

/// The answer to one step: either the next step is asked, or the client has its answer.
pub fn step(link: &mut Pipeline, answer: &[u8], desk: &mut Desk<'_>) -> Result<(), Fault> {
    let Some(mut ticket) = link.pop(|_| {}) else {
        return Err(Fault::Stray);
    };
    let Kind::Walk(walk) = &mut ticket.kind else {
        return Err(Fault::Stray);
    };
    if answer.first() == Some(&b'-') {
        settle::deliver(&ticket, &Frame::Borrowed(answer), Outcome::Bypass, desk);
        return Ok(());
    }
    let prefix = &desk.shared.prefix;
    let done = match walk.as_mut() {
        Walk::RandomKey { tries } => random(link, answer, tries, prefix),
        Walk::ScanForOne => scan_for_one(link, answer, prefix)?,
        Walk::FlushPage => flush_page(link, answer, prefix)?,
        Walk::FlushUnlink(cursor) => unlinked(link, cursor, prefix),
    };
    match done {
        Step::Done(text) => {
            if ticket.spec.name != "randomkey" {
                desk.shared.cache.clear();
                desk.block.add(Counter::FlushesFlushall, 1);
            }
            settle::deliver(&ticket, &Frame::Borrowed(&text), Outcome::Bypass, desk);
        }
        Step::Ask(next) => {
            if let Some(next) = next {
                **walk = next;
            }
            link.push(ticket);
            link.wake();
        }
    }
    Ok(())
}

enum Step {
    /// The client's answer.
    Done(BytesMut),
    /// The next request was written; the walk goes on, perhaps in another state.
    Ask(Option<Walk>),
}

fn random(link: &mut Pipeline, answer: &[u8], tries: &mut u32, prefix: &Prefix) -> Step {
    let own = reply::bulk(answer).map(|key| prefix.strip(key));
    match own {
        // The database is empty.
        None => Step::Done(BytesMut::from(answer)),
        Some(Some(key)) => {
            let mut out = BytesMut::new();
            write::bulk(&mut out, key);
            Step::Done(out)
        }
        Some(None) if *tries > 0 => {
            *tries -= 1;
            ask_random(&mut link.output);
            Step::Ask(None)
        }
        Some(None) => {
            ask_page(&mut link.output, b"0", prefix);
            Step::Ask(Some(Walk::ScanForOne))
        }
    }
}

fn scan_for_one(link: &mut Pipeline, answer: &[u8], prefix: &Prefix) -> Result<Step, Fault> {
    let (cursor, keys) = page(answer)?;
    let found = reply::elements(keys).filter_map(reply::bulk).find_map(|key| prefix.strip(key));
    let mut out = BytesMut::new();
    match found {
        Some(key) => write::bulk(&mut out, key),
        None if cursor == b"0" => write::null(&mut out, link.proto),
        None => {
            ask_page(&mut link.output, cursor, prefix);
            return Ok(Step::Ask(None));
        }
    }
    Ok(Step::Done(out))
}

fn flush_page(link: &mut Pipeline, answer: &[u8], prefix: &Prefix) -> Result<Step, Fault> {
    let (cursor, keys) = page(answer)?;
    let count = reply::elements(keys).count();
    if count > 0 {
        write::array(&mut link.output, count + 1);
        write::bulk(&mut link.output, b"UNLINK");
        for key in reply::elements(keys).filter_map(reply::bulk) {
            write::bulk(&mut link.output, key);
        }
        return Ok(Step::Ask(Some(Walk::FlushUnlink(cursor.into()))));
    }
    Ok(next_page(link, cursor, prefix))
}

fn unlinked(link: &mut Pipeline, cursor: &[u8], prefix: &Prefix) -> Step {
    match next_page(link, cursor, prefix) {
        Step::Ask(None) => Step::Ask(Some(Walk::FlushPage)),
        done => done,
    }
}

fn next_page(link: &mut Pipeline, cursor: &[u8], prefix: &Prefix) -> Step {
    if cursor == b"0" {
        let mut out = BytesMut::new();
        write::simple(&mut out, "OK");
        return Step::Done(out);
    }
    ask_page(&mut link.output, cursor, prefix);
    Step::Ask(None)
}

/// Cursor and keys of a SCAN reply.
fn page(answer: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let mut elements = reply::elements(answer);
    let cursor = elements.next().and_then(reply::bulk).ok_or(Fault::Shape)?;
    Ok((cursor, elements.next().ok_or(Fault::Shape)?))
}

fn ask_random(out: &mut BytesMut) {
    write::array(out, 1);
    write::bulk(out, b"RANDOMKEY");
}

fn ask_page(out: &mut BytesMut, cursor: &[u8], prefix: &Prefix) {
    write::array(out, 6);
    write::bulk(out, b"SCAN");
    write::bulk(out, cursor);
    write::bulk(out, b"MATCH");
    forward::write_pattern(out, b"*", prefix);
    write::bulk(out, b"COUNT");
    write::bulk(out, PAGE);
}
