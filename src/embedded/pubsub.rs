//! SUBSCRIBE and its family: who hears which channel or pattern, and PUBLISH.
//!
//! What a subscriber is told is no reply: it is sent even if CLIENT REPLY mutes replies, and it
//! stands where it was caused, before the reply of the PUBLISH that caused it.
//!
//! Invariant: a client is listed in `Core::pubsub` under exactly the names in its own
//! `subscriptions`, and no name is listed there without a client.

use super::args::Args;
use super::core::Core;
use super::reply::{Done, Fault, Out};
use super::session::Client;
use crate::keys::glob;
use crate::wire::write::{self, Proto};
use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet};

/// A client with so many unsent bytes is closed instead of being told more: the hard limit of
/// Redis' `client-output-buffer-limit pubsub`.
const UNSENT_MAX: usize = 32 << 20;

/// What can be subscribed to.
#[derive(Clone, Copy)]
enum Sort {
    Channels,
    Patterns,
}

/// The same for channels and for patterns.
#[derive(Debug, Default)]
pub(super) struct BySort<T> {
    channels: T,
    patterns: T,
}

/// The names that one client is subscribed to.
pub(super) type Subscriptions = BySort<IndexSet<Bytes, RandomState>>;

/// The clients that are subscribed, by name.
pub(super) type PubSub = BySort<IndexMap<Bytes, IndexSet<u64, RandomState>, RandomState>>;

impl<T> BySort<T> {
    const fn of(&mut self, sort: Sort) -> &mut T {
        match sort {
            Sort::Channels => &mut self.channels,
            Sort::Patterns => &mut self.patterns,
        }
    }
}

impl Subscriptions {
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Is the client subscribed to anything?
    pub(super) fn is_any(&self) -> bool {
        self.channels() + self.patterns() > 0
    }
}

impl PubSub {
    pub(super) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    fn add(&mut self, sort: Sort, client: &mut Client, name: &[u8]) {
        let name = Bytes::copy_from_slice(name);
        client.subscriptions.of(sort).insert(name.clone());
        self.of(sort).entry(name).or_default().insert(client.id);
    }

    fn remove(&mut self, sort: Sort, client: &mut Client, name: &[u8]) {
        client.subscriptions.of(sort).swap_remove(name);
        if let Some(clients) = self.of(sort).get_mut(name) {
            clients.swap_remove(&client.id);
            if clients.is_empty() {
                self.of(sort).swap_remove(name);
            }
        }
    }

    /// The client hears nothing any more, and is not told so.
    pub(super) fn forget(&mut self, client: &mut Client) {
        for sort in [Sort::Channels, Sort::Patterns] {
            while let Some(name) = client.subscriptions.of(sort).last().cloned() {
                self.remove(sort, client, &name);
            }
        }
    }

    /// Who hears a message: each channel's client, then each pattern that matches with its client.
    fn receivers(&self, channel: &[u8]) -> impl Iterator<Item = (Option<&Bytes>, u64)> {
        let direct = self.channels.get(channel).into_iter().flatten().map(|id| (None, *id));
        let matching = self.patterns.iter().filter(move |(name, _)| glob::matches(name, channel));
        let by_pattern =
            matching.flat_map(|(name, clients)| clients.iter().map(move |id| (Some(name), *id)));
        direct.chain(by_pattern)
    }
}

/// What SUBSCRIBE and its family are about, and the command as it is confirmed.
fn asked(args: Args<'_>) -> (Sort, Vec<u8>) {
    let word = args.at(0).to_ascii_lowercase();
    let sort = if word.starts_with(b"p") { Sort::Patterns } else { Sort::Channels };
    (sort, word)
}

/// SUBSCRIBE and PSUBSCRIBE.
pub(super) fn subscribe(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    let (sort, word) = asked(args);
    for name in args.from(1) {
        core.pubsub.add(sort, client, name);
        confirm(client, out, &word, Some(name));
    }
    Ok(())
}

/// UNSUBSCRIBE and PUNSUBSCRIBE: of what is named, or of all.
pub(super) fn unsubscribe(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    let (sort, word) = asked(args);
    let all = client.subscriptions.of(sort).clone();
    let names: Vec<&[u8]> = match args.len() {
        1 => all.iter().map(|name| &**name).collect(),
        _ => args.from(1).collect(),
    };
    if names.is_empty() {
        confirm(client, out, &word, None);
    }
    for name in names {
        core.pubsub.remove(sort, client, name);
        confirm(client, out, &word, Some(name));
    }
    Ok(())
}

/// Tells the client of its subscription, and how many it has now.
fn confirm(client: &Client, out: &mut Out, word: &[u8], name: Option<&[u8]>) {
    let start = out.bytes.len();
    write::push(&mut out.bytes, out.proto, 3);
    out.bulk(word);
    out.bulk_or_null(name);
    out.count(client.subscriptions.channels() + client.subscriptions.patterns());
    out.keep_from(start);
}

pub(super) fn publish(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    let (channel, message) = (args.at(1), args.at(2));
    let mut receivers = 0;
    for (pattern, id) in core.pubsub.receivers(channel) {
        receivers += 1;
        if id == client.id {
            let start = out.bytes.len();
            write_message(&mut out.bytes, out.proto, pattern, channel, message);
            out.keep_from(start);
        } else if let Some(other) = core.clients.get_mut(&id).filter(|other| !other.closing) {
            core.told.insert(id);
            write_message(&mut other.out.bytes, other.out.proto, pattern, channel, message);
            if other.out.bytes.len() > UNSENT_MAX {
                other.out.bytes = BytesMut::new();
                other.closing = true;
            }
        }
    }
    out.integer(receivers);
    Ok(())
}

fn write_message(
    out: &mut BytesMut,
    proto: Proto,
    pattern: Option<&Bytes>,
    channel: &[u8],
    message: &[u8],
) {
    if let Some(pattern) = pattern {
        write::push(out, proto, 4);
        write::bulk(out, b"pmessage");
        write::bulk(out, pattern);
    } else {
        write::push(out, proto, 3);
        write::bulk(out, b"message");
    }
    write::bulk(out, channel);
    write::bulk(out, message);
}

pub(super) fn channels(core: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    if args.len() > 3 {
        return Err(Fault::subcommand("PUBSUB", args.at(1)));
    }
    let names = core.pubsub.channels.keys();
    let wanted = |name: &&Bytes| args.len() == 2 || glob::matches(args.at(2), name);
    let found: Vec<&Bytes> = names.filter(wanted).collect();
    out.array(found.len());
    for name in found {
        out.bulk(name);
    }
    Ok(())
}

pub(super) fn numsub(core: &mut Core, _: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    out.array((args.len() - 2) * 2);
    for name in args.from(2) {
        out.bulk(name);
        out.count(core.pubsub.channels.get(name).map_or(0, IndexSet::len));
    }
    Ok(())
}

pub(super) fn numpat(core: &mut Core, _: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    out.count(core.pubsub.pattern_count());
    Ok(())
}
