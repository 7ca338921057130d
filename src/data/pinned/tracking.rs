//! CLIENT TRACKING for clients that cache themselves: the server tracks the client's own link, so
//! every mode of it (default, BCAST, OPTIN, OPTOUT, NOLOOP, REDIRECT) is the server's own. Prefixes
//! are given behind the key prefix, clients are named to the server by its own numbers, and both
//! are turned back in what it says.

use super::{Step, plain, settle};
use crate::command::Spec;
use crate::data::batch::Batch;
use crate::data::forward;
use crate::data::registry::Registry;
use crate::data::session::Session;
use crate::data::upstream::Kind;
use crate::keys::{Names, uncover};
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::{reply, write};
use bytes::BytesMut;
use std::sync::atomic::Ordering;

/// What a client is told that is not tracking.
const NOT_TRACKING: &[u8] =
    b"ERR CLIENT CACHING can be called only when the client is in tracking \
mode with OPTIN or OPTOUT mode enabled";

/// Answers what needs no link of a session that has none: it is not tracking.
pub fn answer_without_link(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> bool {
    let proto = session.proto;
    let mut is_error = false;
    match spec.name {
        "client|getredir" => {
            session.order.reply(&mut session.output, |out| write::integer(out, -1));
        }
        "client|trackinginfo" => session.order.reply(&mut session.output, |out| {
            write::map(out, proto, 3);
            write::bulk(out, b"flags");
            write::set(out, proto, 1);
            write::bulk(out, b"off");
            write::bulk(out, b"redirect");
            write::integer(out, -1);
            write::bulk(out, b"prefixes");
            write::array(out, 0);
        }),
        "client|caching" => {
            session.error(NOT_TRACKING);
            is_error = true;
        }
        "client|tracking" if request.len() == 3 && request.arg(2).eq_ignore_ascii_case(b"off") => {
            session.order.reply(&mut session.output, |out| write::simple(out, "OK"));
        }
        // Nothing is asked, so no link is needed.
        "client|tracking" => match bad_target(request, &batch.shared.registry) {
            Some(text) => {
                session.error(text);
                is_error = true;
            }
            None => return false,
        },
        _ => return false,
    }
    batch.block.command(spec.index, is_error, 1);
    true
}

/// CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR of a session that has a link of its own.
pub fn ask(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    match spec.name {
        "client|tracking" => track(session, spec, request, batch),
        "client|caching" => {
            plain(session, spec, request, batch);
        }
        _ => {
            let kind = Kind::Own(Box::new(Step::Redirection));
            forward::command_as(session, spec, request, kind, batch);
        }
    }
}

#[cold]
fn track(session: &mut Session, spec: &'static Spec, request: &Request<'_>, batch: &mut Batch<'_>) {
    let names = &batch.snapshot.names;
    let (mut words, mut is_broadcast, mut has_prefix) = (Vec::new(), false, false);
    session.client.state.redirect.store(0, Ordering::Relaxed);
    let mut at = 0;
    while at < request.len() {
        let (word, value) = (request.arg(at), request.arg(at + 1));
        let is_option = at > 2;
        let is = |name: &[u8]| is_option && word.eq_ignore_ascii_case(name);
        at += 1;
        if is(b"prefix") && at < request.len() {
            has_prefix = true;
            words.extend(prefixes(names, value));
            at += 1;
            continue;
        }
        words.push(word.to_owned());
        is_broadcast |= is(b"bcast");
        if is(b"redirect") && at < request.len() {
            match target(value, &batch.shared.registry) {
                Ok(id) => {
                    let redirect = parse_i64(value).unwrap_or(0);
                    session.client.state.redirect.store(redirect, Ordering::Relaxed);
                    words.push(id);
                }
                Err(text) => {
                    session.error(text);
                    batch.block.command(spec.index, true, 1);
                    return settle(session);
                }
            }
            at += 1;
        }
    }
    // All keys: all of this version.
    if is_broadcast && !has_prefix && !names.is_empty() {
        words.extend(prefixes(names, b""));
    }
    let is_on = request.arg(2).eq_ignore_ascii_case(b"on");
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    forward::words(session, spec, &words, Kind::Own(Box::new(Step::Track(is_on))), batch);
    if let Some(own) = &mut session.own {
        own.reads_upstream |= is_on;
    }
    settle(session);
}

/// PREFIX and what it must be, as often as keys that begin like this have another prefix before
/// them.
#[cold]
fn prefixes(names: &Names, begins: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<> {
    names.beginnings(begins).into_iter().flat_map(|begins| [b"PREFIX".to_vec(), begins])
}

/// Why a REDIRECT cannot be.
fn bad_target(request: &Request<'_>, registry: &Registry) -> Option<&'static [u8]> {
    let options = (3..request.len().saturating_sub(1)).filter(|&at| {
        let is_value = request.arg(at - 1).eq_ignore_ascii_case(b"prefix");
        !is_value && request.arg(at).eq_ignore_ascii_case(b"redirect")
    });
    options.into_iter().find_map(|at| target(request.arg(at + 1), registry).err())
}

/// The server's number for the client that is to receive invalidations.
#[cold]
fn target(id: &[u8], registry: &Registry) -> Result<Vec<u8>, &'static [u8]> {
    let Some(id) = parse_i64(id).and_then(|id| u64::try_from(id).ok()) else {
        // Not a number, or nobody's: for the server to say.
        return Ok(id.to_owned());
    };
    // Nobody has the number 0.
    let Some(client) = (id > 0).then(|| registry.find(id)).flatten() else {
        return Ok(b"9223372036854775807".to_vec());
    };
    match client.become_target() {
        Some(id) => Ok(id.to_string().into_bytes()),
        None => {
            Err(b"ERR nearside redirects tracking only to a client that is subscribed (SUBSCRIBE \
                   __redis__:invalidate) or tracking itself")
        }
    }
}

/// An answer that names a client by the server's number, or prefixes, as this client knows them:
/// it has redirected to `redirect`.
pub fn translate(frame: &[u8], names: &Names, redirect: i64, out: &mut BytesMut) {
    let number = |element: &[u8], out: &mut BytesMut| match reply::integer(element) {
        Some(id) if id > 0 => write::integer(out, redirect),
        _ => out.extend_from_slice(element),
    };
    if !matches!(frame.first(), Some(b'*' | b'%')) {
        return number(frame, out);
    }
    let header = memchr::memchr(b'\n', frame).unwrap_or(0);
    out.extend_from_slice(frame.get(..=header).unwrap_or_default());
    let mut name: Option<&[u8]> = None;
    for (at, element) in reply::elements(frame).enumerate() {
        match name {
            Some(b"redirect") => number(element, out),
            Some(b"prefixes") => cut(element, names, out),
            _ => out.extend_from_slice(element),
        }
        name = reply::bulk(element).filter(|_| at.is_multiple_of(2)).and_then(|name| match name {
            b"redirect" => Some(&b"redirect"[..]),
            b"prefixes" => Some(b"prefixes"),
            _ => None,
        });
    }
}

/// Prefixes as their client gave them: without the key prefix, one for all that were made of it.
/// The one that stands for all keys is empty, as on the server.
fn cut(list: &[u8], names: &Names, out: &mut BytesMut) {
    let mut shown: Vec<Vec<u8>> = reply::elements(list)
        .filter_map(reply::bulk)
        .map(|begins| names.cut(begins).to_owned())
        .collect();
    if names.has_several() {
        uncover(&mut shown);
    }
    write::array(out, shown.len());
    for prefix in shown {
        write::bulk(out, &prefix);
    }
}
