//! MULTI, EXEC, DISCARD, WATCH.

use super::args::Args;
use super::core::Core;
use super::reply::{Done, Fault, Out};
use super::session::Client;
use super::stand_in;
use super::table::Claim;
use crate::wire::request::Arg;
use bytes::Bytes;

/// What was queued since MULTI.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) commands: Vec<Queued>,
    /// A command was refused: EXEC fails.
    pub(super) aborted: bool,
    /// One of the commands needs memory.
    pub(super) deny_oom: bool,
    /// Keys that they set or delete whatever those were before.
    pub(super) replaced: Vec<Bytes>,
}

/// One command, its arguments copied.
#[derive(Debug)]
pub(super) struct Queued {
    claim: Claim,
    bytes: Vec<u8>,
    ranges: Vec<Arg>,
}

/// Takes a command for later.
pub(super) fn queue(core: &Core, client: &mut Client, claim: Claim, args: Args<'_>) {
    let Some(queue) = &mut client.queue else {
        return;
    };
    if core.stand_in.is_some() {
        queue.replaced.extend(stand_in::replaced(claim.spec, args));
    }
    let mut queued = Queued { claim, bytes: Vec::new(), ranges: Vec::with_capacity(args.len()) };
    // A request is shorter than 4 GiB: the wire's ranges are 32 bits, too.
    let place = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    for arg in args.from(0) {
        let start = place(&queued.bytes);
        queued.bytes.extend_from_slice(arg);
        queued.ranges.push(Arg { start, end: place(&queued.bytes) });
    }
    queue.deny_oom |= claim.deny_oom();
    queue.commands.push(queued);
}

pub(super) fn multi(_: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    if client.queue.is_some() {
        return Err(Fault::text("ERR MULTI calls can not be nested"));
    }
    client.queue = Some(Queue::default());
    out.ok();
    Ok(())
}

pub(super) fn discard(core: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    if client.queue.take().is_none() {
        return Err(Fault::text("ERR DISCARD without MULTI"));
    }
    core.store.changes.unwatch(client.id);
    out.ok();
    Ok(())
}

pub(super) fn exec(core: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    let Some(queue) = client.queue.take() else {
        return Err(Fault::text("ERR EXEC without MULTI"));
    };
    // A watched key whose time is over has changed, if nobody noticed yet.
    for (db, key) in core.store.changes.watched_by(client.id) {
        core.store.within(db, |store| store.live(&key));
    }
    let dirty = core.store.changes.is_dirty(client.id);
    core.store.changes.unwatch(client.id);
    if queue.aborted {
        return Err(Fault::text("EXECABORT Transaction discarded because of previous errors."));
    }
    if dirty {
        out.null_array();
        return Ok(());
    }
    out.array(queue.commands.len());
    client.executing = true;
    for Queued { claim, bytes, ranges } in &queue.commands {
        let start = out.bytes.len();
        if let Err(fault) = core.run(client, *claim, Args::new(bytes, ranges), out) {
            out.bytes.truncate(start);
            out.fault(&fault);
        }
    }
    client.executing = false;
    Ok(())
}

/// EXEC itself was refused.
pub(super) fn abort(core: &mut Core, client: &mut Client, why: &Fault) -> Done {
    client.queue = None;
    core.store.changes.unwatch(client.id);
    let prefix = b"EXECABORT Transaction discarded because of: ".as_slice();
    let why = why.bytes().strip_prefix(b"ERR ").unwrap_or_else(|| why.bytes());
    Err(Fault::owned([prefix, why].concat()))
}

pub(super) fn watch(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    if client.queue.is_some() {
        return Err(Fault::text("ERR WATCH inside MULTI is not allowed"));
    }
    for key in args.from(1) {
        core.store.live(key);
        core.store.changes.watch(client.id, client.db, key);
    }
    out.ok();
    Ok(())
}

pub(super) fn unwatch(core: &mut Core, client: &mut Client, _: Args<'_>, out: &mut Out) -> Done {
    core.store.changes.unwatch(client.id);
    out.ok();
    Ok(())
}
