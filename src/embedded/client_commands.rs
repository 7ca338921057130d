//! CLIENT and its subcommands.

use super::args::Args;
use super::core::Core;
use super::reply::{Done, Fault, Out, SYNTAX};
use super::session::{Client, Replies};
use crate::wire::number::parse_i64;
use crate::wire::write::Proto;

pub(super) fn id(_: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    out.integer(i64::try_from(client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn getname(_: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    out.bulk_or_null(Some(client.name.as_ref()).filter(|name| !name.is_empty()));
    Ok(())
}

pub(super) fn setname(_: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    client.set_name(args.at(2))?;
    out.ok();
    Ok(())
}

/// Nothing is ever evicted here: remembered for CLIENT INFO only.
pub(super) fn no_evict(_: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    client.no_evict = if args.is(2, "on") {
        true
    } else if args.is(2, "off") {
        false
    } else {
        return Err(SYNTAX);
    };
    out.ok();
    Ok(())
}

pub(super) fn reply(_: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    if args.is(2, "on") {
        client.replies = Replies::On;
        out.ok();
    } else if args.is(2, "off") {
        client.replies = Replies::Off;
    } else if args.is(2, "skip") {
        if client.replies != Replies::Off {
            client.replies = Replies::SkipNext;
        }
    } else {
        return Err(SYNTAX);
    }
    Ok(())
}

pub(super) fn info(core: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    let line = describe(core, client, out.proto);
    out.verbatim(line.as_bytes());
    Ok(())
}

pub(super) fn list(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    let (mut wanted, mut wanted_type) = (None, None);
    if args.len() == 4 && args.is(2, "type") {
        let words = ["normal", "pubsub", "master", "replica", "slave"];
        if !words.iter().any(|word| args.is(3, word)) {
            let text = [b"ERR Unknown client type '", args.at(3), b"'"].concat();
            return Err(Fault::owned(text));
        }
        wanted_type = Some(args.at(3).to_ascii_lowercase());
    } else if args.len() > 3 && args.is(2, "id") {
        let parse = |text| parse_i64(text).ok_or(Fault::text("ERR Invalid client ID"));
        wanted = Some(args.from(3).map(parse).collect::<Result<Vec<_>, _>>()?);
    } else if args.len() > 2 {
        return Err(SYNTAX);
    }
    let mut lines: Vec<(u64, String)> = core
        .clients
        .values()
        .map(|other| (&**other, other.out.proto))
        .chain([(&*client, out.proto)])
        .filter(|(other, _)| {
            let kind: &[u8] = if other.subscriptions.is_any() { b"pubsub" } else { b"normal" };
            let is_it = |id: &i64| u64::try_from(*id) == Ok(other.id);
            wanted_type.as_ref().is_none_or(|wanted| wanted == kind)
                && wanted.as_ref().is_none_or(|ids: &Vec<i64>| ids.iter().any(is_it))
        })
        .map(|(other, proto)| (other.id, describe(core, other, proto)))
        .collect();
    lines.sort_unstable();
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    out.verbatim(text.as_bytes());
    Ok(())
}

/// One line as CLIENT LIST has it. What this server does not measure is 0.
fn describe(core: &Core, client: &Client, proto: Proto) -> String {
    let follows = core.tracking.followed_by(client.id).next().is_some();
    let mut flags = String::new();
    let is_subscribed = client.subscriptions.is_any();
    let kinds = [
        (is_subscribed, 'P'),
        (client.queue.is_some(), 'x'),
        (client.wait.is_some(), 'b'),
        (follows, 't'),
        (follows, 'B'),
        (core.store.changes.is_dirty(client.id), 'd'),
        (client.no_evict, 'e'),
    ];
    for (set, flag) in kinds {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let queued = client
        .queue
        .as_ref()
        .map_or(-1, |queue| i64::try_from(queue.commands.len()).unwrap_or(i64::MAX));
    let now = core.store.now;
    format!(
        "id={} addr=embedded:0 laddr=embedded:0 fd=0 name={} age={} idle={} flags={flags} db={} \
         sub={} psub={} ssub=0 multi={queued} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 \
         rbp=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir={} resp={}\n",
        client.id,
        String::from_utf8_lossy(&client.name),
        (now - client.created).max(0) / 1000,
        (now - client.seen).max(0) / 1000,
        client.db,
        client.subscriptions.channels(),
        client.subscriptions.patterns(),
        client.input.len(),
        client.out.bytes.len(),
        client.last_command,
        if follows { 0 } else { -1 },
        if proto == Proto::Resp3 { 3 } else { 2 },
    )
}

/// Options of CLIENT TRACKING.
#[derive(Default)]
struct TrackingOptions<'a> {
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    redirect: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> TrackingOptions<'a> {
    fn parse(core: &Core, client: &Client, args: Args<'a>) -> Result<Self, Fault> {
        let (mut options, mut at) = (Self::default(), 3);
        while at < args.len() {
            let has_next = at + 1 < args.len();
            if args.is(at, "redirect") && has_next {
                if options.redirect {
                    return Err(Fault::text(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                at += 1;
                let target = args.int(at)?;
                let exists = |id: u64| id == client.id || core.clients.contains_key(&id);
                if !u64::try_from(target).is_ok_and(exists) {
                    return Err(Fault::text(
                        "ERR The client ID you want redirect to does not exist",
                    ));
                }
                options.redirect = true;
            } else if args.is(at, "bcast") {
                options.broadcast = true;
            } else if args.is(at, "optin") {
                options.opt_in = true;
            } else if args.is(at, "optout") {
                options.opt_out = true;
            } else if args.is(at, "noloop") {
                options.no_loop = true;
            } else if args.is(at, "prefix") && has_next {
                at += 1;
                options.prefixes.push(args.at(at));
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    /// Redis' own checks, then what this server does not do.
    fn check(&self, follows: bool) -> Done {
        if !self.broadcast && !self.prefixes.is_empty() {
            return Err(Fault::text("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if follows && !self.broadcast {
            return Err(Fault::text(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            ));
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return Err(Fault::text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opt_in && self.opt_out {
            return Err(Fault::text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        if !self.broadcast || self.redirect || self.no_loop {
            return Err(Fault::text(
                "ERR the embedded server tracks with BCAST only, without REDIRECT and NOLOOP",
            ));
        }
        Ok(())
    }
}

pub(super) fn tracking(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    let options = TrackingOptions::parse(core, client, args)?;
    if args.is(2, "on") {
        options.check(core.tracking.followed_by(client.id).next().is_some())?;
        // Redis 7.0.15 goes on after its error if a prefix but the first overlaps with a later
        // one, and answers twice. Not so here.
        core.tracking.check(client.id, &options.prefixes)?;
        core.tracking.follow(client.id, &options.prefixes);
        core.store.changes.tracked = true;
    } else if args.is(2, "off") {
        core.stop_tracking(client.id);
    } else {
        return Err(SYNTAX);
    }
    out.ok();
    Ok(())
}

pub(super) fn trackinginfo(
    core: &mut Core,
    client: &mut Client,
    _: Args<'_>,
    out: &mut Out,
) -> Done {
    let prefixes: Vec<_> = core.tracking.followed_by(client.id).collect();
    let follows = !prefixes.is_empty();
    let flags: &[&[u8]] = if follows { &[b"on", b"bcast"] } else { &[b"off"] };
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    for flag in flags {
        out.bulk(flag);
    }
    out.bulk(b"redirect");
    out.integer(if follows { 0 } else { -1 });
    out.bulk(b"prefixes");
    out.array(prefixes.len());
    for prefix in prefixes {
        out.bulk(prefix);
    }
    Ok(())
}
