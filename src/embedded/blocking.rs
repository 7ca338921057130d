//! Commands that wait for a key: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BZPOPMIN, BZPOPMAX.
//!
//! ```text
//! request ──nothing to take──▶ Wait, in the client and in Waiters ──key made──▶ served, answered
//!                              (its further requests stay unread)  ──time over, CLIENT UNBLOCK──▶
//! ```
//!
//! As in Redis' `blocked.c`: a list or a sorted set that comes into being makes its key ready, and
//! after the command (a whole transaction is one) ready keys are served in that order, each to
//! its waiters in the order in which they came. What waiters make ready is served next.
//!
//! Invariant: a client is listed in `Waiters` under exactly the keys of its own `wait`.

use super::args::Args;
use super::core::Core;
use super::float;
use super::reply::{Done, Fault, Out};
use super::session::Client;
use super::store::Store;
use super::types::list::{self, End};
use super::types::zset::{self, Rank};
use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::IndexMap;

/// A key of a database.
type Place = (usize, Bytes);

/// Who waits for which key, and which keys are ready for them.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    queues: IndexMap<Place, Vec<u64>, RandomState>,
    ready: Vec<Place>,
}

impl Waiters {
    /// A key got a value of a type that can be waited for.
    pub(super) fn made(&mut self, db: usize, key: &[u8]) {
        if self.queues.is_empty() {
            return;
        }
        let place = (db, Bytes::copy_from_slice(key));
        if self.queues.contains_key(&place) && !self.ready.contains(&place) {
            self.ready.push(place);
        }
    }

    fn remove(&mut self, place: &Place, id: u64) {
        if let Some(queue) = self.queues.get_mut(place) {
            queue.retain(|waiting| *waiting != id);
            if queue.is_empty() {
                self.queues.swap_remove(place);
            }
        }
    }
}

/// What is done when there is something to take.
#[derive(Clone, Debug)]
enum Take {
    Pop(End),
    Move(Bytes, (End, End)),
    Zpop(Rank),
}

impl Take {
    /// The name, as TYPE says it, of the type it takes from.
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Pop(_) | Self::Move(..) => "list",
            Self::Zpop(_) => "zset",
        }
    }

    /// Takes from a key that has this type. Of an empty one nothing is said.
    fn run(&self, store: &mut Store, key: &[u8], out: &mut Out) -> Done {
        match self {
            Self::Pop(end) => {
                if let Some(item) = list::pop_one(store, key, *end)? {
                    out.array(2);
                    out.bulk(key);
                    out.bulk(&item);
                }
            }
            Self::Move(target, ends) => {
                if let Some(item) = list::move_one(store, (key, target), *ends)? {
                    out.bulk(&item);
                }
            }
            Self::Zpop(rank) => {
                if let Some((member, score)) = zset::pop_one(store, key, *rank)? {
                    out.array(3);
                    out.bulk(key);
                    out.bulk(&member);
                    out.double(score);
                }
            }
        }
        Ok(())
    }
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Wait {
    places: Vec<Place>,
    take: Take,
    /// When it ends unserved, if ever.
    deadline: Option<i64>,
    /// Its reply is not sent (CLIENT REPLY).
    pub(super) muted: bool,
}

pub(super) fn blpop(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    first_of(core, client, args, out, Take::Pop(End::Left))
}

pub(super) fn brpop(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    first_of(core, client, args, out, Take::Pop(End::Right))
}

pub(super) fn bzpopmin(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    first_of(core, client, args, out, Take::Zpop(Rank::Lowest))
}

pub(super) fn bzpopmax(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    first_of(core, client, args, out, Take::Zpop(Rank::Highest))
}

pub(super) fn blmove(core: &mut Core, client: &mut Client, args: Args<'_>, out: &mut Out) -> Done {
    let ends = (End::parse(args, 3)?, End::parse(args, 4)?);
    transfer(core, client, args, out, (ends, 5))
}

pub(super) fn brpoplpush(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    transfer(core, client, args, out, ((End::Right, End::Left), 3))
}

/// Takes from the first key that has anything, or waits for all of them.
fn first_of(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
    take: Take,
) -> Done {
    let last = args.len() - 1;
    let deadline = deadline(args.at(last), core.store.now)?;
    let start = out.bytes.len();
    for key in args.from(1).take(last - 1) {
        take.run(&mut core.store, key, out)?;
        if out.bytes.len() > start {
            return Ok(());
        }
    }
    if client.executing {
        out.null_array();
        return Ok(());
    }
    wait(core, client, args.from(1).take(last - 1), (take, deadline));
    Ok(())
}

fn transfer(
    core: &mut Core,
    client: &mut Client,
    args: Args<'_>,
    out: &mut Out,
    (ends, timeout_at): ((End, End), usize),
) -> Done {
    let deadline = deadline(args.at(timeout_at), core.store.now)?;
    let take = Take::Move(Bytes::copy_from_slice(args.at(2)), ends);
    let start = out.bytes.len();
    take.run(&mut core.store, args.at(1), out)?;
    if out.bytes.len() > start {
        return Ok(());
    }
    if client.executing {
        out.null();
        return Ok(());
    }
    wait(core, client, args.from(1).take(1), (take, deadline));
    Ok(())
}

#[expect(single_use_lifetimes, reason = "an anonymous one is not stable in this place")]
fn wait<'k>(
    core: &mut Core,
    client: &mut Client,
    keys: impl Iterator<Item = &'k [u8]>,
    (take, deadline): (Take, Option<i64>),
) {
    let mut places: Vec<Place> = Vec::new();
    for key in keys {
        let place = (client.db, Bytes::copy_from_slice(key));
        let queue = core.store.waiters.queues.entry(place.clone()).or_default();
        // A key may be named twice.
        if !queue.contains(&client.id) {
            queue.push(client.id);
            places.push(place);
        }
    }
    client.wait = Some(Wait { places, take, deadline, muted: false });
}

/// When a timeout in seconds will be over; 0 is never.
fn deadline(text: &[u8], now: i64) -> Result<Option<i64>, Fault> {
    /// The first double that is no 64-bit integer any more; Redis' conversion makes it negative.
    const TOO_LONG: f64 = 9_223_372_036_854_775_808.0;
    let seconds =
        float::parse(text).ok_or(Fault::text("ERR timeout is not a float or out of range"))?;
    let milliseconds = (seconds * 1000.0).ceil();
    if !(0.0..TOO_LONG).contains(&milliseconds) {
        return Err(Fault::text("ERR timeout is negative"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below the bound")]
    let milliseconds = milliseconds as i64;
    Ok((milliseconds > 0).then(|| now.saturating_add(milliseconds)))
}

const UNBLOCKED: Fault = Fault::text("UNBLOCKED client unblocked via CLIENT UNBLOCK");

/// Why a client is not served: what [`Core::unblock`] tells it.
#[derive(Clone, Copy)]
enum Why {
    TimeIsOver,
    Error,
}

/// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
pub(super) fn client_unblock(
    core: &mut Core,
    _: &mut Client,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    let why = match args.len() {
        3 => Why::TimeIsOver,
        4 if args.is(3, "timeout") => Why::TimeIsOver,
        4 if args.is(3, "error") => Why::Error,
        4 => return Err(Fault::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(Fault::subcommand("CLIENT", args.at(1))),
    };
    let id = args.int(2)?;
    // The client that asks does not wait.
    out.flag(u64::try_from(id).is_ok_and(|id| core.unblock(id, why)));
    Ok(())
}

impl Core {
    /// Clients that wait.
    pub(super) fn blocked_count(&self) -> usize {
        self.clients.values().filter(|client| client.wait.is_some()).count()
    }

    /// A client waits no more; answers what it waited for.
    fn stop_waiting(&mut self, id: u64) -> Option<Wait> {
        let wait = self.clients.get_mut(&id)?.wait.take()?;
        for place in &wait.places {
            self.store.waiters.remove(place, id);
        }
        self.unblocked.push(id);
        self.told.insert(id);
        Some(wait)
    }

    /// A client that leaves waits no more.
    pub(super) fn forget_wait(&mut self, client: &Client) {
        for place in client.wait.iter().flat_map(|wait| &wait.places) {
            self.store.waiters.remove(place, client.id);
        }
    }

    /// Ends a client's waiting without anything. False if it does not wait.
    fn unblock(&mut self, id: u64, why: Why) -> bool {
        let Some(wait) = self.stop_waiting(id) else {
            return false;
        };
        if let Some(client) = self.clients.get_mut(&id).filter(|_| !wait.muted) {
            match why {
                Why::TimeIsOver => client.out.null_array(),
                Why::Error => client.out.fault(&UNBLOCKED),
            }
        }
        true
    }

    /// Ends the waiting of those whose time is over.
    pub(super) fn end_overdue(&mut self) {
        let now = self.store.now;
        let is_over = |wait: &Wait| wait.deadline.is_some_and(|deadline| deadline < now);
        let waiting =
            self.clients.values().filter(|client| client.wait.as_ref().is_some_and(is_over));
        let mut over: Vec<u64> = waiting.map(|client| client.id).collect();
        over.sort_unstable();
        for id in over {
            self.unblock(id, Why::TimeIsOver);
        }
    }

    /// Gives what has come into being to those who wait for it.
    pub(super) fn serve_waiting(&mut self) {
        while !self.store.waiters.ready.is_empty() {
            for place in std::mem::take(&mut self.store.waiters.ready) {
                self.serve(&place);
            }
        }
    }

    fn serve(&mut self, place: &Place) {
        let (db, key) = place;
        let queue = self.store.waiters.queues.get(place).cloned().unwrap_or_default();
        for id in queue {
            let found = self
                .store
                .within(*db, |store| store.entry(key).map(|entry| entry.value.type_name()));
            let Some(found) = found else {
                return;
            };
            let waits = |client: &Client| {
                client.wait.as_ref().is_some_and(|wait| wait.take.type_name() == found)
            };
            if !self.clients.get(&id).is_some_and(|client| waits(client)) {
                continue;
            }
            let Some(wait) = self.stop_waiting(id) else {
                continue;
            };
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let out = &mut client.out;
            let start = out.bytes.len();
            if let Err(fault) = self.store.within(*db, |store| wait.take.run(store, key, out)) {
                out.fault(&fault);
            }
            if wait.muted {
                out.bytes.truncate(start);
            }
        }
    }
}
