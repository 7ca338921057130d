//! Clients that need a link of their own: transactions, watched keys, commands that block,
//! subscriptions, the server's tracking of their keys, MONITOR.
//!
//! ```text
//!   shared link --(nothing is out)--> own link: idle or new --(answers: nothing is left)--> shared
//!   here          what a request does before its answer     `Own`: what the session expects
//!   transaction   requests between MULTI and EXEC
//!   exec          EXEC, where functions are to be read before it
//!   subscribe     channels in and out, with the key prefix in keyspace notifications
//!   tracking      CLIENT TRACKING and its pushes
//!   answer        what answers change                       `Pin`: what the link holds
//!   notice        what comes unasked
//! ```
//!
//! A session takes its link when nothing of it is out, and the link is given back when every
//! answer has come and it holds nothing more (R7: whatever changes the link is a barrier). What
//! may end a state (EXEC, UNWATCH, UNSUBSCRIBE, any command that blocks) is waited for before the
//! next request. The server's own words are passed on: nearside keeps no state machine beside the
//! server's but for what it must know to route.

pub mod answer;
pub mod exec;
pub mod notice;
pub mod subscribe;
pub mod tracking;
pub mod transaction;

use self::subscribe::Confirmations;
use crate::cache::Space;
use crate::command::acl::Rights;
use crate::command::{Need, Route, Spec};
use crate::data::acl;
use crate::data::batch::Batch;
use crate::data::bounds;
use crate::data::forward;
use crate::data::refused;
use crate::data::script::Functions;
use crate::data::session::{Flow, Session};
use crate::data::upstream::{Kind, Pin, Place, Room};
use crate::stats::{Counter, Gauge};
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A session's own link, as its requests have left it: ahead of what the answers say.
#[derive(Debug)]
pub struct Own {
    /// The link's place.
    pub link: usize,
    /// Between MULTI and EXEC.
    pub in_multi: bool,
    /// What its user could do at MULTI.
    pub rights: Option<Arc<Rights>>,
    /// The functions called since MULTI that are to be read before EXEC.
    pub calls: Functions,
    /// Reads must not be answered from the cache: watched or tracked keys are read on the link.
    pub reads_upstream: bool,
    /// The next request waits until every answer has come, and then looks what the link holds.
    pub is_settling: bool,
    /// All that it waits for are more subscriptions: yet another need not wait for them.
    pub is_subscribing: bool,
}

impl Own {
    /// True if reads may not be answered from the cache.
    pub const fn guards_reads(&self) -> bool {
        self.in_multi || self.reads_upstream
    }
}

/// What an answer on an own link does.
#[derive(Debug)]
pub enum Step {
    /// MULTI.
    Begin,
    /// A command between MULTI and EXEC.
    Queue(Place),
    /// A request that the server is made to refuse, so that EXEC fails: this is what its client
    /// is told.
    Poison(Bytes),
    /// EXEC or DISCARD.
    End,
    /// DISCARD where the client has sent EXEC: this is what it is told.
    Abort(Bytes),
    /// WATCH (true) or UNWATCH.
    Watch(bool),
    /// A command that may block.
    Block,
    /// SUBSCRIBE and its family.
    Subscribe(Confirmations),
    /// CLIENT TRACKING ON (true) or OFF.
    Track(bool),
    /// CLIENT TRACKINGINFO, CLIENT GETREDIR: names clients by the server's numbers.
    Redirection,
    /// MONITOR.
    Monitor,
    /// HIMPORT PREPARE (true) or what drops its field sets.
    Fieldset(bool),
    /// RESET or QUIT: the link is closed behind it.
    Last,
    /// Of nearside's own: no client waits for the answer. True if it must not fail.
    Silent(bool),
}

impl Step {
    /// True for a command that may take as long as it wants.
    pub const fn blocks(&self) -> bool {
        matches!(self, Self::Block)
    }
}

/// A command that needs an own link, from a session that may have one already.
#[cold]
pub fn serve(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    need: Need,
    batch: &mut Batch<'_>,
) -> Flow {
    if session.own.is_none() {
        if answer_without_link(session, spec, request, batch) {
            return Flow::Next;
        }
        if !session.order.is_clear() {
            return Flow::Barrier;
        }
        if !take_link(session, batch) {
            batch.block.command(spec.index, true, 1);
            return Flow::Next;
        }
    }
    match need {
        Need::Transaction => transaction::outside(session, spec, request, batch),
        Need::Block => block(session, spec, request, batch),
        Need::Aside => return plain(session, spec, request, batch),
        Need::Wait => {
            // The server counts from the last write of the connection that asks. What this client
            // wrote, it wrote on the shared link: a message to nobody is the next thing the
            // replicas must have, so it stands for all that was written before.
            if !with_pin(session, batch, |pin| std::mem::replace(&mut pin.is_sticky, true)) {
                silently(session, spec, &[b"PUBLISH", WAIT_CHANNEL, b""], true, batch);
            }
            block(session, spec, request, batch);
        }
        Need::Unknown => {
            with_pin(session, batch, |pin| pin.is_sticky = true);
            block(session, spec, request, batch);
        }
        Need::Subscribe => {
            // What CLIENT REPLY silences are replies; this is told like a message.
            let is_muted = std::mem::replace(&mut session.order.is_muted, false);
            subscribe::ask(session, spec, request, batch);
            session.order.is_muted = is_muted;
        }
        Need::Tracking => tracking::ask(session, spec, request, batch),
        Need::Monitor => {
            let kind = Kind::Own(Box::new(Step::Monitor));
            forward::command_as(session, spec, request, kind, batch);
            settle(session);
        }
        Need::Fieldset => {
            let step = match spec.name {
                "himport|prepare" => Step::Fieldset(true),
                "himport|discardall" => Step::Fieldset(false),
                _ => return plain(session, spec, request, batch),
            };
            forward::command_as(session, spec, request, Kind::Own(Box::new(step)), batch);
            settle(session);
        }
    }
    Flow::Next
}

/// A script runs on a link of its client's own, so that one that takes long holds up nobody but
/// its client: the others hear `-BUSY` from the server, as they would without nearside. Where no
/// link may be had it runs on the shared one.
#[cold]
pub fn for_script(session: &mut Session, batch: &mut Batch<'_>) -> Flow {
    if session.own.is_none() {
        if !session.order.is_clear() {
            return Flow::Barrier;
        }
        try_link(session, batch);
    }
    Flow::Next
}

/// Where the message is sent that stands for a client's earlier writes.
const WAIT_CHANNEL: &[u8] = b"system:nearside_wait";

/// Any request of a session that has a link of its own.
#[cold]
pub fn dispatch(
    session: &mut Session,
    spec: Option<&'static Spec>,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let is_clear = session.order.is_clear();
    let Some(own) = &mut session.own else {
        return Flow::Barrier;
    };
    if own.is_settling {
        if !is_clear {
            // Each would reach the server a round trip later than the one before it, while what
            // the client asks elsewhere goes on: a message to the last could be missed.
            return match spec.filter(|spec| subscribe::adds(spec) && own.is_subscribing) {
                Some(spec) if !acl::permits(session, spec, request, batch) => Flow::Next,
                Some(spec) => session.route(request, spec, None, batch),
                None => Flow::Barrier,
            };
        }
        let Some(pin) = batch.links.pin(own.link) else {
            return Flow::Barrier;
        };
        own.is_settling = false;
        own.is_subscribing = false;
        own.in_multi = pin.transaction.is_some();
        own.reads_upstream = pin.is_watching || pin.is_tracking;
    }
    if own.in_multi {
        return transaction::inside(session, spec, request, batch);
    }
    let reads_upstream = own.reads_upstream;
    let Some(spec) = spec else {
        refused::unknown(session, request, batch);
        return Flow::Next;
    };
    if !acl::permits(session, spec, request, batch) {
        return Flow::Next;
    }
    if is_deaf(session, batch) {
        if !spec.name.ends_with("subscribe") && spec.accepts(request.len()) {
            match spec.name {
                "ping" | "quit" | "reset" => {}
                _ => return refuse_deaf(session, spec, batch),
            }
        }
    } else if reads_upstream
        && spec.cacheable()
        && !matches!(batch.snapshot.limits.policy.route(spec), Route::Refuse(_))
        && spec.accepts(request.len())
    {
        // A read after WATCH from the cache could be older than what WATCH guards (R6); the
        // server tracks only what it is asked on this connection.
        if bounds::permits(session, spec, request, batch) {
            return plain(session, spec, request, batch);
        }
        return Flow::Next;
    }
    session.route_odd(request, spec, None, batch)
}

/// True for a RESP2 client that is subscribed: it may say little, and reads no other replies.
fn is_deaf(session: &Session, batch: &mut Batch<'_>) -> bool {
    let Some(own) = &session.own else {
        return false;
    };
    session.proto == Proto::Resp2
        && batch.links.pin(own.link).is_some_and(|pin| pin.is_subscribed())
}

#[cold]
fn refuse_deaf(session: &mut Session, spec: &'static Spec, batch: &Batch<'_>) -> Flow {
    batch.block.command(spec.index, true, 1);
    // As Redis does with whatever it refuses of EXEC.
    let is_exec = spec.name == "exec";
    let code = if is_exec { "EXECABORT Transaction discarded because of:" } else { "ERR" };
    let text = format!(
        "{code} Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context",
        spec.name
    );
    session.error(text.as_bytes());
    Flow::Next
}

/// Forwards a request as any other.
fn plain(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    forward::command(session, spec, request, batch);
    Flow::Next
}

/// The answers that need no link, because the session holds nothing that they would end.
fn answer_without_link(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> bool {
    match spec.name {
        "exec" => session.error(b"ERR EXEC without MULTI"),
        "discard" => session.error(b"ERR DISCARD without MULTI"),
        "unwatch" => session.order.reply(&mut session.output, |out| write::simple(out, "OK")),
        _ => return tracking::answer_without_link(session, spec, request, batch),
    }
    let is_error = spec.name != "unwatch";
    batch.block.command(spec.index, is_error, 1);
    true
}

fn block(session: &mut Session, spec: &'static Spec, request: &Request<'_>, batch: &mut Batch<'_>) {
    let kind = Kind::Own(Box::new(Step::Block));
    forward::command_as(session, spec, request, kind, batch);
    session.client.is_blocked.store(true, Ordering::Relaxed);
    batch.block.shift(Gauge::ClientsBlocked, 1);
    settle(session);
}

/// The next request waits for every answer.
fn settle(session: &mut Session) {
    if let Some(own) = &mut session.own {
        own.is_settling = true;
    }
}

fn with_pin<T: Default>(
    session: &Session,
    batch: &mut Batch<'_>,
    run: impl FnOnce(&mut Pin) -> T,
) -> T {
    let link = session.own.as_ref().map(|own| own.link);
    link.and_then(|link| batch.links.pin(link)).map(run).unwrap_or_default()
}

/// As [`try_link`]; false, and the error is written, if there are as many links as there may be.
#[cold]
fn take_link(session: &mut Session, batch: &mut Batch<'_>) -> bool {
    let is_taken = try_link(session, batch);
    if !is_taken {
        let most = batch.snapshot.limits.dedicated_max;
        batch.block.add(Counter::RejectedDedicatedMax, 1);
        let text = format!(
            "ERR proxy: all {most} dedicated upstream connections are in use \
             (upstream.dedicated_max)"
        );
        session.error(text.as_bytes());
    }
    is_taken
}

/// Takes a link for this session, of which nothing is out, if one may be had.
fn try_link(session: &mut Session, batch: &mut Batch<'_>) -> bool {
    let shared = batch.shared;
    let most = batch.snapshot.limits.dedicated_max;
    let may_add = |room: Room| {
        // (In the place of one that ends, which is still counted.)
        let most = if room == Room::Left { usize::MAX } else { most };
        let add = |count: usize| (count < most).then_some(count + 1);
        shared.dedicated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    };
    let (space, proto) = (session.space, session.proto);
    let Some(link) = batch.links.take(space, proto, batch.me, batch.view.now, may_add) else {
        return false;
    };
    let id = batch.links.pin(link).map_or(0, |pin| pin.upstream_id);
    session.client.upstream_id.store(id, Ordering::Relaxed);
    session.link = Some(link);
    session.own = Some(Own {
        link,
        in_multi: false,
        rights: None,
        calls: Functions::new(),
        reads_upstream: false,
        is_settling: false,
        is_subscribing: false,
    });
    let found = batch.links.get(link).map_or((space, proto), |link| (link.space, link.proto));
    turn(session, shared.get, found, (space, proto), batch);
    true
}

/// Sends a request whose answer no client waits for.
fn silently(
    session: &mut Session,
    spec: &'static Spec,
    words: &[&[u8]],
    must: bool,
    batch: &mut Batch<'_>,
) {
    let now = batch.view.now;
    let link = batch.links.of(session);
    link.push_silent(spec, words, must, now);
}

/// The session selects a database or a protocol, or has logged in: its own link follows, a shared
/// one is changed for another. Nothing is out.
pub fn switch(
    session: &mut Session,
    spec: &'static Spec,
    space: Space,
    proto: Proto,
    batch: &mut Batch<'_>,
) {
    if session.own.is_none() {
        session.link = None;
        return;
    }
    turn(session, spec, (session.space, session.proto), (space, proto), batch);
}

/// Turns a session's own link to another identity, database or protocol.
fn turn(
    session: &mut Session,
    spec: &'static Spec,
    from: (Space, Proto),
    (space, proto): (Space, Proto),
    batch: &mut Batch<'_>,
) {
    let mut digits = itoa::Buffer::new();
    if from.0.slot() != space.slot() {
        let identity = batch.links.identities.of(space.slot());
        if let Some(login) = identity.as_ref().and_then(|identity| identity.login()) {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(login.user());
            words.push(login.reveal());
            silently(session, spec, &words, true, batch);
        }
        batch.links.of(session).identity = identity;
    }
    if from.0.db() != space.db() {
        silently(session, spec, &[b"SELECT", digits.format(space.db()).as_bytes()], true, batch);
    }
    if from.1 != proto {
        let version: &[u8] = if proto == Proto::Resp2 { b"2" } else { b"3" };
        silently(session, spec, &[b"HELLO", version], true, batch);
    }
    let link = batch.links.of(session);
    (link.space, link.proto) = (space, proto);
}

/// RESET or QUIT of a session with a link of its own: the server ends what that link holds, and
/// says so, before the link is closed. False: there is none, and the answer is nearside's.
pub fn end(session: &mut Session, spec: &'static Spec, batch: &mut Batch<'_>) -> bool {
    if session.own.is_none() {
        return false;
    }
    let kind = Kind::Own(Box::new(Step::Last));
    let word: &[u8] = if spec.name == "quit" { b"QUIT" } else { b"RESET" };
    forward::words(session, spec, &[word], kind, batch);
    with_pin(session, batch, |pin| pin.client = None);
    session.drop_own();
    session.wait();
    true
}
