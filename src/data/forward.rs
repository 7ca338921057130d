//! A request on its way upstream: its keys prefixed, written into the link's output, with a
//! ticket that knows what its answer does to the cache.
//!
//! What was parsed is re-encoded, never copied: a lenient byte that got past the parser would
//! close a connection that all clients share.

use crate::cache::{Question, stripe_bit};
use crate::command::{ReplyRule, Spec, keys};
use crate::data::batch::Batch;
use crate::data::fill_lease;
use crate::data::lifetime;
use crate::data::pinned::Own;
use crate::data::pinned::subscribe::{pattern_with_prefix, with_prefix};
use crate::data::session::Session;
use crate::data::standing::Fate;
use crate::data::upstream::{Kind, Ticket, Waiter};
use crate::data::worker::bulk::BIG;
use crate::keys::Names;
use crate::stats::Counter;
use crate::wire::request::Request;
use crate::wire::write;
use bytes::BytesMut;
use std::time::Duration;

/// Sends a request whose reply is delivered as it comes (but for its prefix).
#[inline]
pub fn command(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let listed = listed(spec, request, &batch.snapshot.names);
    let kind = listed.map_or(Kind::Forward, Kind::Listed);
    command_as(session, spec, request, kind, batch);
}

/// As [`command`], where the answer does more than to be delivered.
#[inline]
pub fn command_as(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    kind: Kind,
    batch: &mut Batch<'_>,
) {
    past_cache(session, spec, request, (kind, Counter::BypassCommand), batch);
}

/// As [`command`], of a read that its rule does not have answered here.
#[cold]
pub fn by_rule(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    past_cache(session, spec, request, (Kind::Forward, Counter::BypassRule), batch);
}

/// `why` a read is forwarded, if nothing of its client's is the reason. Not a part of the loop over
/// requests, or that has fewer registers for hits.
#[inline(never)]
fn past_cache(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    (kind, why): (Kind, Counter),
    batch: &mut Batch<'_>,
) {
    let shared = batch.shared;
    if batch.snapshot.rules.lend() && spec.writes() {
        fill_lease::void(session, spec, request, batch);
    }
    if session.big_at.is_some() {
        session.leave_shared_link();
    }
    let link = batch.links.of(session);
    let is_exempt = spec.carries_no_value();
    let (mut named, mut mask) = (0, 0);
    let (out, hashes) = link.request();
    let (snapshot, before) = (batch.snapshot, out.len());
    let life = lifetime::given(spec, request, &snapshot.rules);
    write_request(out, spec, request, &snapshot.names, life, |index| {
        let hash = shared.cache.hash(request.arg(index));
        mask |= stripe_bit(hash);
        if !is_exempt {
            hashes.push_back(hash);
            named += 1;
        }
    });
    let is_big = out.len().saturating_sub(before) >= BIG;
    // Keyless and opaque requests may touch anything (R6).
    session.out_mask |= if mask == 0 { u64::MAX } else { mask };
    if spec.cacheable() {
        let is_guarded = session.own.as_ref().is_some_and(Own::guards_reads);
        let reason = match is_guarded {
            true => Counter::BypassWatch,
            false if session.standing.reads_upstream() => Counter::BypassClient,
            false => why,
        };
        batch.block.add(Counter::LookupBypass, 1);
        batch.block.add(reason, 1);
        session.note(spec.index, Fate::Bypass(reason), batch.commands);
    }
    if shared.live.fallback.is_active() {
        session.note(spec.index, Fate::Fallback, batch.commands);
    }
    let owner = Waiter { client: batch.me, slot: session.order.leave_hole() };
    link.push(Ticket { keys: named, ..Ticket::new(owner, spec, batch.view.now, kind) });
    session.waits_for_link = link.hand_over();
    if is_big && session.own.is_none() {
        session.big_at = Some(batch.view.now);
        batch.links.want_bulk(session.space, session.proto, batch.view.now);
    }
}

/// Sends a request of nearside's own making on a session's link. Its answer goes to the session.
pub fn words(
    session: &mut Session,
    spec: &'static Spec,
    words: &[&[u8]],
    kind: Kind,
    batch: &mut Batch<'_>,
) {
    session.out_mask = u64::MAX;
    let link = batch.links.of(session);
    write_words(&mut link.output, words);
    let owner = Waiter { client: batch.me, slot: session.order.leave_hole() };
    link.push(Ticket::new(owner, spec, batch.view.now, kind));
    session.waits_for_link = link.hand_over();
}

/// Writes a request word by word.
pub fn write_words(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

/// Writes `request` as upstream gets it, and visits its keys. `life`: what [`lifetime::given`]
/// gives it.
#[inline]
pub fn write_request(
    out: &mut BytesMut,
    spec: &Spec,
    request: &Request<'_>,
    names: &Names,
    life: Option<Duration>,
    mut visit: impl FnMut(usize),
) {
    if let Some(life) = life {
        visit(1);
        return write_lived(out, request, names, life);
    }
    match spec.reply {
        ReplyRule::Keys => write_keys(out, request, names),
        ReplyRule::Scan if !names.is_empty() => {
            Scan::of(request, names).write(request.arg(1), out);
        }
        ReplyRule::Channels if !names.is_empty() => write_channels(out, spec, request, names),
        _ => write_command(out, spec, request, names, visit),
    }
}

/// Writes `request` with its prefix before each of its keys, and visits them.
#[inline]
fn write_command(
    out: &mut BytesMut,
    spec: &Spec,
    request: &Request<'_>,
    names: &Names,
    mut visit: impl FnMut(usize),
) {
    if let Some(key) = spec.keys.single() {
        visit(key);
        write_read(out, request, names, key);
        return;
    }
    write::array(out, request.len());
    let mut next = 0;
    // Keys come in ascending order. Where they cannot be told apart (a bad numkeys), none is
    // named, nothing is rewritten, and the server words the error.
    keys::for_each(
        spec,
        request.len(),
        |index| request.arg(index),
        |key| {
            if key < next {
                return;
            }
            visit(key);
            for index in next..key {
                write::bulk(out, request.arg(index));
            }
            write_key(out, request.arg(key), names);
            next = key + 1;
        },
    );
    for index in next..request.len() {
        write::bulk(out, request.arg(index));
    }
}

/// Writes `request` with its prefix before the argument at `key`.
#[inline]
pub fn write_read(out: &mut BytesMut, request: &Request<'_>, names: &Names, key: usize) {
    write::first_word(out, request.len(), request.arg(0));
    for (index, argument) in request.from(1).enumerate() {
        if index + 1 == key {
            let prefix = names.of(argument);
            write::next_word(out, prefix.len() + argument.len());
            out.extend_from_slice(prefix.as_bytes());
        } else {
            write::next_word(out, argument.len());
        }
        out.extend_from_slice(argument);
    }
    write::end_word(out);
}

/// Writes a read of one key that no request stands for.
#[cold]
pub fn write_question(out: &mut BytesMut, spec: &Spec, question: &Question<'_>, names: &Names) {
    let mut count = 2;
    question.extra.each(|_| count += 1);
    write::array(out, count);
    write::bulk(out, spec.name.to_ascii_uppercase().as_bytes());
    write_key(out, question.key, names);
    question.extra.each(|argument| write::bulk(out, argument));
}

/// Writes a SET with a lifetime behind it.
#[cold]
fn write_lived(out: &mut BytesMut, request: &Request<'_>, names: &Names, life: Duration) {
    write::array(out, request.len() + 2);
    write::bulk(out, request.arg(0));
    write_key(out, request.arg(1), names);
    request.from(2).for_each(|argument| write::bulk(out, argument));
    write::bulk(out, b"PX");
    write::bulk(out, life.as_millis().to_string().as_bytes());
}

/// Writes the PTTL that follows a read whose reply is to be stored (R10).
#[expect(clippy::inline_always, reason = "by one caller for each miss: a call costs as much")]
#[inline(always)]
pub fn write_pttl(out: &mut BytesMut, key: &[u8], names: &Names) {
    let prefix = names.of(key);
    out.extend_from_slice(b"*2\r\n$4\r\nPTTL");
    write::next_word(out, prefix.len() + key.len());
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key);
    write::end_word(out);
}

/// PUBSUB: channels as the server knows them.
#[cold]
fn write_channels(out: &mut BytesMut, spec: &Spec, request: &Request<'_>, names: &Names) {
    let with_prefix = if lists_channels(spec) { pattern_with_prefix } else { with_prefix };
    write::array(out, request.len());
    for (index, argument) in request.from(0).enumerate() {
        if index < 2 {
            write::bulk(out, argument);
        } else {
            write::bulk(out, &with_prefix(argument, names));
        }
    }
}

/// PUBSUB CHANNELS and SHARDCHANNELS.
fn lists_channels(spec: &Spec) -> bool {
    spec.name.ends_with("channels")
}

/// The glob of a request that lists keys or channels, where upstream is asked for more than it
/// means: what is not meant is left out of the reply.
#[inline]
pub fn listed(spec: &Spec, request: &Request<'_>, names: &Names) -> Option<Box<[u8]>> {
    if !names.has_several() {
        return None;
    }
    match spec.reply {
        ReplyRule::Keys => Some(request.arg(1).into()),
        ReplyRule::Scan => Scan::of(request, names).pattern,
        ReplyRule::Channels if lists_channels(spec) && request.len() > 2 => {
            Some(request.arg(2).into())
        }
        _ => None,
    }
}

/// KEYS: the pattern is the client's, as a pattern of upstream's names.
fn write_keys(out: &mut BytesMut, request: &Request<'_>, names: &Names) {
    write::array(out, request.len());
    for (index, argument) in request.from(0).enumerate() {
        if index == 1 {
            write::bulk(out, &names.pattern(argument));
        } else {
            write::bulk(out, argument);
        }
    }
}

/// A client's SCAN as it is asked under a prefix, at any cursor.
#[derive(Debug)]
pub struct Scan {
    arguments: usize,
    /// The arguments behind the cursor, as they are sent.
    options: BytesMut,
    /// The client's glob, if it gave one.
    pub pattern: Option<Box<[u8]>>,
}

impl Scan {
    /// Every MATCH is rewritten (the last one counts); without one, the prefix is matched.
    pub fn of(request: &Request<'_>, names: &Names) -> Self {
        let is_match = |index: usize| {
            index >= 2
                && index.is_multiple_of(2)
                && request.arg(index).eq_ignore_ascii_case(b"match")
        };
        let (mut options, mut pattern) = (BytesMut::new(), None);
        let adds = !(2..request.len()).any(is_match);
        // In front, so that a malformed rest stays the server's to refuse.
        if adds {
            write::bulk(&mut options, b"MATCH");
            write::bulk(&mut options, &names.pattern(b"*"));
        }
        for index in 2..request.len() {
            if is_match(index - 1) {
                write::bulk(&mut options, &names.pattern(request.arg(index)));
                pattern = Some(request.arg(index).into());
            } else {
                write::bulk(&mut options, request.arg(index));
            }
        }
        Self { arguments: request.len() + if adds { 2 } else { 0 }, options, pattern }
    }

    /// Asks for the page at a cursor.
    pub fn write(&self, cursor: &[u8], out: &mut BytesMut) {
        write::array(out, self.arguments);
        write::bulk(out, b"SCAN");
        write::bulk(out, cursor);
        out.extend_from_slice(&self.options);
    }
}

/// A key behind its prefix, as one bulk.
#[inline]
pub fn write_key(out: &mut BytesMut, key: &[u8], names: &Names) {
    let prefix = names.of(key);
    write::bulk_header(out, prefix.len() + key.len());
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}
