//! SUBSCRIBE and its family: channels on their way in and out.
//!
//! A channel is no key and is passed as it is. Only keyspace notifications carry keys, in the
//! channel's name or in the message (commands.md, 10): under a prefix it is put into the channel
//! that a client names, cut out of what the server says, and what other versions' keys cause is
//! not passed on.

use super::{Step, settle};
use crate::command::Spec;
use crate::command::replies::channel_key;
use crate::data::batch::Batch;
use crate::data::forward;
use crate::data::session::Session;
use crate::data::upstream::{Kind, Pin};
use crate::keys::{Names, glob};
use crate::wire::request::Request;
use crate::wire::{reply, write};
use bytes::BytesMut;

/// The confirmations of one request: the server sends one for each channel.
#[derive(Debug)]
pub struct Confirmations {
    /// Those still to come.
    pub left: u32,
    /// Those that have come, as the client will see them.
    pub text: BytesMut,
}

/// Before an event in a channel's name; the message is the key.
const KEYEVENT: &[u8] = b"__keyevent@";

/// Subscribes, or the contrary.
pub fn ask(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let link = session.own.as_ref().map(|own| own.link);
    let subscribed = link.and_then(|link| batch.links.pin(link)).map_or(0, |pin| match spec.name {
        "unsubscribe" => pin.channels,
        "punsubscribe" => pin.patterns,
        _ => pin.shard_channels,
    });
    // UNSUBSCRIBE alone: from all, and one confirmation if that is none.
    let named = u32::try_from(request.len() - 1).unwrap_or(u32::MAX);
    let left = if named > 0 { named } else { subscribed.max(1) };
    let kind = Kind::Own(Box::new(Step::Subscribe(Confirmations { left, text: BytesMut::new() })));
    let names = &batch.snapshot.names;
    if names.is_empty() {
        forward::command_as(session, spec, request, kind, batch);
    } else {
        let is_pattern = matches!(spec.name, "psubscribe" | "punsubscribe");
        let with_prefix = if is_pattern { pattern_with_prefix } else { with_prefix };
        let channels: Vec<Vec<u8>> =
            request.from(1).map(|channel| with_prefix(channel, names)).collect();
        let mut words: Vec<&[u8]> = vec![request.arg(0)];
        words.extend(channels.iter().map(Vec::as_slice));
        forward::words(session, spec, &words, kind, batch);
    }
    if let Some(own) = &mut session.own {
        own.is_subscribing = adds(spec) && (own.is_subscribing || !own.is_settling);
    }
    settle(session);
}

/// True for a command that takes no subscription away.
pub fn adds(spec: &Spec) -> bool {
    matches!(spec.name, "subscribe" | "psubscribe" | "ssubscribe")
}

/// A channel as the server must know it.
#[cold]
pub fn with_prefix(channel: &[u8], names: &Names) -> Vec<u8> {
    match cut(channel) {
        Some((head, key)) => [head, &names.name(key)].concat(),
        None => channel.to_vec(),
    }
}

/// A pattern of channels as the server must know it.
#[cold]
pub fn pattern_with_prefix(pattern: &[u8], names: &Names) -> Vec<u8> {
    match cut(pattern) {
        Some((head, keys)) => [head, &names.pattern(keys)].concat(),
        None => pattern.to_vec(),
    }
}

/// A channel as the client knows it; `None` if it is of a key of another version.
#[cold]
fn without_prefix(channel: &[u8], names: &Names) -> Option<Vec<u8>> {
    match cut(channel) {
        Some((head, name)) => Some([head, names.strip(name)?].concat()),
        None => Some(channel.to_vec()),
    }
}

/// A pattern as its client gave it; `None` if it was under another version.
#[cold]
fn pattern_without_prefix(pattern: &[u8], names: &Names) -> Option<Vec<u8>> {
    match cut(pattern) {
        Some((head, keys)) => Some([head, names.client_pattern(keys)?].concat()),
        None => Some(pattern.to_vec()),
    }
}

/// The channel of keyspace notifications, up to its key, and the key.
fn cut(channel: &[u8]) -> Option<(&[u8], &[u8])> {
    channel.split_at_checked(channel_key(channel)?)
}

/// What a subscription's confirmation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// SUBSCRIBE, UNSUBSCRIBE.
    Channels,
    /// PSUBSCRIBE, PUNSUBSCRIBE.
    Patterns,
    /// SSUBSCRIBE, SUNSUBSCRIBE.
    Shards,
}

/// What a frame confirms, by its first word.
pub fn sort(word: &[u8]) -> Option<Sort> {
    Some(match word {
        b"subscribe" | b"unsubscribe" => Sort::Channels,
        b"psubscribe" | b"punsubscribe" => Sort::Patterns,
        b"ssubscribe" | b"sunsubscribe" => Sort::Shards,
        _ => return None,
    })
}

/// Notes what a confirmation says; answers the channel.
pub fn note(sort: Sort, frame: &[u8], pin: &mut Pin) {
    let Some(count) = reply::elements(frame).nth(2).and_then(reply::integer) else {
        return;
    };
    let count = u32::try_from(count).unwrap_or(0);
    match sort {
        // The server counts these two together.
        Sort::Channels => pin.channels = count.saturating_sub(pin.patterns),
        Sort::Patterns => pin.patterns = count.saturating_sub(pin.channels),
        Sort::Shards => pin.shard_channels = count,
    }
}

/// Appends a confirmation as its client knows the channel.
pub fn confirm(frame: &[u8], names: &Names, out: &mut BytesMut) {
    if names.is_empty() {
        out.extend_from_slice(frame);
        return;
    }
    let word = reply::elements(frame).next().and_then(reply::bulk);
    let is_pattern = word.and_then(sort) == Some(Sort::Patterns);
    let without_prefix = if is_pattern { pattern_without_prefix } else { without_prefix };
    out.extend_from_slice(replace_header(frame));
    for (at, element) in reply::elements(frame).enumerate() {
        let channel = reply::bulk(element).filter(|_| at == 1);
        match channel.and_then(|channel| without_prefix(channel, names)) {
            Some(channel) => write::bulk(out, &channel),
            None => out.extend_from_slice(element),
        }
    }
}

/// The line that a frame of several elements begins with.
fn replace_header(frame: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', frame).unwrap_or(0);
    frame.get(..=end).unwrap_or_default()
}

/// Appends a message as its client may see it. False: it is none of its business.
pub fn message(frame: &[u8], names: &Names, out: &mut BytesMut) -> bool {
    let mut elements: Vec<&[u8]> = reply::elements(frame).collect();
    let Some(payload) = elements.pop() else {
        return false;
    };
    let Some(channel) = elements.pop().and_then(reply::bulk) else {
        return false;
    };
    let Some(shown) = without_prefix(channel, names) else {
        return false;
    };
    let key = reply::bulk(payload).filter(|_| channel.starts_with(KEYEVENT));
    let key = match key.map(|name| names.strip(name)) {
        Some(None) => return false,
        Some(key) => key,
        None => None,
    };
    // The pattern of a pmessage, as its client gave it; the server may have been given a wider one.
    let given = elements.get(1).copied().and_then(reply::bulk);
    let pattern = match given.map(|given| pattern_without_prefix(given, names)) {
        // It was given when keys had other names.
        Some(None) => return false,
        Some(pattern) => pattern,
        None => None,
    };
    let is_meant = |pattern: &Vec<u8>| !names.has_several() || glob::matches(pattern, &shown);
    if !pattern.as_ref().is_none_or(is_meant) {
        return false;
    }
    out.extend_from_slice(replace_header(frame));
    for (at, element) in elements.into_iter().enumerate() {
        match pattern.as_ref().filter(|_| at == 1) {
            Some(pattern) => write::bulk(out, pattern),
            None => out.extend_from_slice(element),
        }
    }
    write::bulk(out, &shown);
    match key {
        Some(key) => write::bulk(out, key),
        None => out.extend_from_slice(payload),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{confirm, message, with_prefix};
    use crate::keys::{Names, Prefix};
    use bytes::BytesMut;

    fn frame(head: char, words: &[&str]) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{head}{}\r\n", words.len());
        for word in words {
            write!(text, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
        text
    }

    fn names() -> Names {
        Names::new(Prefix::new("", "v1", ":").unwrap(), [], [])
    }

    #[test]
    fn only_keyspace_channels_hold_keys() {
        for (channel, upstream) in [
            ("news", "news"),
            ("__keyspace@0__:a", "__keyspace@0__:v1:a"),
            ("__keyspace@*__:a*", "__keyspace@*__:v1:a*"),
            ("__keyevent@0__:del", "__keyevent@0__:del"),
            ("__key*__:*", "__key*__:*"),
            ("__keyspace@0__", "__keyspace@0__"),
        ] {
            let there = with_prefix(channel.as_bytes(), &names());
            assert_eq!(there, upstream.as_bytes());
            let mut out = BytesMut::new();
            let said = frame('>', &["subscribe", upstream, "1"]);
            confirm(said.as_bytes(), &names(), &mut out);
            assert_eq!(out, frame('>', &["subscribe", channel, "1"]));
        }
    }

    #[test]
    fn messages_lose_the_prefix_and_others_are_dropped() {
        for (said, shown) in [
            (&["message", "news", "v1:x"][..], Some(&["message", "news", "v1:x"][..])),
            (
                &["message", "__keyspace@0__:v1:a", "set"],
                Some(&["message", "__keyspace@0__:a", "set"]),
            ),
            (&["message", "__keyspace@0__:v2:a", "set"], None),
            (
                &["pmessage", "__keyspace@0__:v1:*", "__keyspace@0__:v1:a", "set"],
                Some(&["pmessage", "__keyspace@0__:*", "__keyspace@0__:a", "set"]),
            ),
            (
                &["pmessage", "__key*__:*", "__keyevent@0__:set", "v1:a"],
                Some(&["pmessage", "__key*__:*", "__keyevent@0__:set", "a"]),
            ),
            (&["pmessage", "__key*__:*", "__keyevent@0__:set", "v2:a"], None),
        ] {
            let mut out = BytesMut::new();
            let passes = message(frame('*', said).as_bytes(), &names(), &mut out);
            assert_eq!(
                passes.then(|| String::from_utf8(out.to_vec()).unwrap()),
                shown.map(|words| frame('*', words))
            );
        }
    }
}
