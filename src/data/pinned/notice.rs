//! What the server says unasked on an own link: messages, invalidations, MONITOR's lines. They go
//! to the link's client at once, between its replies.

use super::answer;
use super::subscribe;
use crate::data::settle::Desk;
use crate::data::upstream::{Kind, Pipeline};
use crate::keys::Names;
use crate::wire::write::Proto;
use crate::wire::{reply, write};
use bytes::BytesMut;
use std::rc::Rc;

/// A message of this channel lists invalidated keys (CLIENT TRACKING REDIRECT of RESP2).
const INVALIDATE: &[u8] = b"__redis__:invalidate";

/// Takes a frame that is nobody's answer. False: it answers the front ticket.
#[cold]
pub fn take(link: &mut Pipeline, frame: &[u8], desk: &mut Desk<'_>) -> bool {
    let Some(pin) = &link.pin else {
        // Data links ask for no pushes.
        return frame.first() == Some(&b'>');
    };
    let is_line = frame.first() == Some(&b'+') && frame.get(1).is_some_and(u8::is_ascii_digit);
    let may_be = match frame.first() {
        Some(b'>') => true,
        // RESP2 has no pushes. Who is subscribed reads no other arrays but these and PONG.
        Some(b'*') => link.proto == Proto::Resp2 && pin.is_subscribed(),
        Some(b'+') => pin.is_monitor && is_line,
        _ => false,
    };
    if !may_be {
        return false;
    }
    let client = pin.client;
    let mut out = std::mem::take(desk.scratch);
    let is_notice = if is_line {
        monitored(frame, &link.snapshot().names, &mut out);
        true
    } else {
        word(link, frame, desk, &mut out)
    };
    if let Some(client) = client.filter(|_| is_notice && !out.is_empty()) {
        desk.clients.push(client, &out);
    }
    out.clear();
    *desk.scratch = out;
    is_notice
}

/// By its first word.
fn word(link: &mut Pipeline, frame: &[u8], desk: &mut Desk<'_>, out: &mut BytesMut) -> bool {
    // What comes unasked is of the present.
    let snapshot = Rc::clone(link.snapshot());
    let names = &snapshot.names;
    let mut elements = reply::elements(frame);
    let word = elements.next().and_then(reply::bulk).unwrap_or_default();
    let channel = elements.next().and_then(reply::bulk);
    match word {
        b"invalidate" => invalidated(frame, 1, names, desk, out),
        b"message" if channel == Some(INVALIDATE) => invalidated(frame, 2, names, desk, out),
        b"message" | b"pmessage" | b"smessage" => {
            if names.is_empty() {
                out.extend_from_slice(frame);
            } else {
                // A message of another version's key is dropped.
                let _is_ours = subscribe::message(frame, names, out);
            }
        }
        // It names the client to which tracking was redirected, and which has gone.
        b"tracking-redir-broken" => {
            let client = link.pin.as_ref().and_then(|pin| pin.client);
            let redirect = client.map_or(0, |client| answer::redirect_of(client, desk));
            out.extend_from_slice(b">2\r\n$21\r\ntracking-redir-broken\r\n");
            write::integer(out, redirect);
        }
        b"pong" => return false,
        _ => {
            let Some(sort) = subscribe::sort(word) else {
                out.extend_from_slice(frame);
                return frame.first() == Some(&b'>');
            };
            let is_awaited = link.front().is_some_and(|ticket| match &ticket.kind {
                Kind::Own(step) => matches!(**step, super::Step::Subscribe(_)),
                _ => false,
            });
            if is_awaited {
                return false;
            }
            // The server ended a subscription by itself (a shard channel that has moved).
            if let Some(pin) = &mut link.pin {
                subscribe::note(sort, frame, pin);
            }
            subscribe::confirm(frame, names, out);
        }
    }
    true
}

/// The client hears of changed keys; nearside's own cache has forgotten them by then (R2), so that
/// what the client reads next is no older.
fn invalidated(frame: &[u8], place: usize, names: &Names, desk: &Desk<'_>, out: &mut BytesMut) {
    let cache = &desk.shared.cache;
    let Some(list) = reply::elements(frame).nth(place) else {
        return;
    };
    if reply::is_null(list) {
        cache.clear();
        out.extend_from_slice(frame);
        return;
    }
    let own = |element| reply::bulk(element).and_then(|name| names.strip(name));
    let keys: Vec<&[u8]> = reply::elements(list).filter_map(own).collect();
    for key in &keys {
        cache.invalidate(cache.hash(key));
    }
    if names.is_empty() {
        out.extend_from_slice(frame);
    } else if !keys.is_empty() {
        let head = memchr::memchr(b'\n', frame).unwrap_or(0);
        out.extend_from_slice(frame.get(..=head).unwrap_or_default());
        for element in reply::elements(frame).take(place) {
            out.extend_from_slice(element);
        }
        write::array(out, keys.len());
        for key in keys {
            write::bulk(out, key);
        }
    }
}

/// A line of MONITOR, without the prefixes before its quoted arguments.
fn monitored(line: &[u8], names: &Names, out: &mut BytesMut) {
    let mut rest = line;
    while let Some(at) = memchr::memmem::find(rest, b" \"").filter(|_| !names.is_empty()) {
        let Some((before, behind)) = rest.split_at_checked(at + 2) else { break };
        out.extend_from_slice(before);
        rest = names.cut(behind);
    }
    out.extend_from_slice(rest);
}
