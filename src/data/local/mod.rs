//! What nearside answers itself, in Redis' words: the commands about the connection, and of INFO
//! and CONFIG what is nearside's.
//!
//! ```text
//!   mod      ECHO, SELECT, RESET, QUIT, and who answers the rest
//!   hello    HELLO, AUTH
//!   client   the CLIENT family; filter: which clients CLIENT LIST and CLIENT KILL mean
//!   info     upstream's INFO with nearside's figures; ledger: where those are from
//!   config   CONFIG GET and SET
//!   proxy/   the PROXY family: what is asked of nearside itself
//!   rights   who may ask for that, where clients log in as users
//! ```
//!
//! A command that changes the link a session uses (SELECT, HELLO, AUTH, RESET) or ends it waits
//! until every reply out has come: `Flow::Barrier`.

pub mod client;
pub mod config;
pub mod filter;
pub mod hello;
pub mod info;
pub mod ledger;
pub mod proxy;
pub mod rights;

pub use self::ledger::{Ledger, Profile};

use self::info::Wanted;
use crate::cache::Space;
use crate::command::Spec;
use crate::config::AuthMode;
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::fill_lease;
use crate::data::forward;
use crate::data::order::Replies;
use crate::data::pause;
use crate::data::pinned;
use crate::data::registry::{self, Mark};
use crate::data::session::{Ending, Flow, Session};
use crate::data::upstream::Kind;
use crate::stats::Outcome;
use crate::wire::number::parse_i64;
use crate::wire::reply as parse;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use std::sync::atomic::Ordering;

/// Answers a command of class `local`.
pub fn answer(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let is_barrier = matches!(spec.name, "select" | "hello" | "auth" | "reset" | "quit");
    if is_barrier && !session.order.is_clear() {
        return Flow::Barrier;
    }
    if rights::denies(session, spec, request, batch) {
        deny(session, spec, batch);
        return Flow::Next;
    }
    if spec.name == "proxy|lease" {
        return fill_lease::answer(session, spec, request, batch);
    }
    if spec.name == "client|unblock"
        && client::unblock(session, spec, request, Kind::Forward, batch)
    {
        return Flow::Next;
    }
    session.take_error();
    let flow = match spec.name {
        "hello" => hello::hello(session, spec, request, batch),
        "auth" => hello::auth(session, spec, request, batch),
        _ => {
            say(session, spec, request, batch);
            Flow::Next
        }
    };
    if flow != Flow::Next {
        return flow;
    }
    let is_error = session.take_error();
    batch.block.command(spec.index, is_error, 1);
    batch.block.observe(Outcome::Local, 0, 1);
    Flow::Next
}

/// Writes the answer, but for AUTH and HELLO, which may have to wait; counts nothing.
pub fn say(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    match spec.name {
        "echo" => reply(session, |out, _| write::bulk(out, request.arg(1))),
        "select" => select(session, spec, request, batch),
        "reset" => reset(session, spec, batch),
        "quit" => {
            if !pinned::end(session, spec, batch) {
                ok(session);
            }
            session.ending = Some(Ending::Quit);
        }
        "readonly" | "readwrite" if batch.shared.live.takes_readonly() => ok(session),
        "asking" | "readonly" | "readwrite" => {
            session.error(b"ERR This instance has cluster support disabled");
        }
        "acl|whoami" => {
            let user = session.client.names.lock().user.clone();
            reply(session, |out, _| write::bulk(out, user.as_bytes()));
        }
        name if name.starts_with("proxy") => proxy::answer(session, spec, request, batch),
        "config|rewrite" => session.error(b"ERR The proxy does not write its config file"),
        _ => client::answer(session, spec, request, batch),
    }
}

/// What is to be done with the answer to a forwarded command.
#[derive(Debug)]
pub enum Edit {
    /// INFO.
    Info(Wanted),
    /// CONFIG GET: nearside's own settings that it asked for as well.
    ConfigGet(Vec<(String, String)>),
    /// CONFIG RESETSTAT: nearside's statistics begin again, too.
    ResetStat,
    /// PUBSUB NUMPAT: nearside's own subscriptions are none of its clients'.
    NumPat,
    /// CLIENT PAUSE or UNPAUSE in a transaction, where the server executes a PING: it was its turn.
    Pause(pause::Change),
}

/// What becomes of a command of which a part is nearside's.
#[derive(Debug)]
pub enum Plan {
    /// It is forwarded, and its answer edited.
    Edit(Edit),
    /// It is forwarded as any other.
    Pass,
    /// Of it, only so many arguments of its beginning and these others are forwarded.
    Part(usize, Vec<usize>),
    /// This is the answer.
    Own(BytesMut),
}

/// Divides a command of which a part is nearside's.
pub fn plan(proto: Proto, spec: &Spec, request: &Request<'_>, shared: &Shared) -> Plan {
    let mut out = BytesMut::new();
    match spec.name {
        "info"
            if request.arg(1).eq_ignore_ascii_case(b"upstream")
                && !shared.snapshots.newest().settings.tenant_mode =>
        {
            return Plan::Part(1, (2..request.len()).collect());
        }
        "info" => {
            let wanted = Wanted::of(request);
            if !wanted.is_own() {
                return Plan::Edit(Edit::Info(wanted));
            }
            let text = info::remembered(&wanted, shared).unwrap_or_default();
            write::verbatim(&mut out, proto, text.as_bytes());
        }
        "config|get" => {
            let asked = config::asked(request, shared);
            if !asked.is_own {
                return Plan::Edit(Edit::ConfigGet(asked.own));
            }
            config::write_own(&asked.own, proto, &mut out);
        }
        "config|set" => match config::setting(request, shared) {
            config::Setting::Theirs => return Plan::Pass,
            config::Setting::Rest(rest) if !rest.is_empty() => return Plan::Part(2, rest),
            config::Setting::Rest(_) => write::simple(&mut out, "OK"),
            config::Setting::Refused(error) => write::error(&mut out, &error),
        },
        "pubsub|numpat" => return Plan::Edit(Edit::NumPat),
        _ => return Plan::Edit(Edit::ResetStat),
    }
    Plan::Own(out)
}

fn deny(session: &mut Session, spec: &'static Spec, batch: &Batch<'_>) {
    batch.block.reject(spec.index);
    let text = rights::text(session, spec, batch);
    session.error(text.as_bytes());
}

/// Forwards a command of which a part is nearside's, or answers it.
pub fn edited(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    if rights::denies(session, spec, request, batch) {
        return deny(session, spec, batch);
    }
    match plan(session.proto, spec, request, batch.shared) {
        Plan::Edit(edit) => {
            let kind = Kind::Edited(Box::new(edit));
            forward::command_as(session, spec, request, kind, batch);
        }
        Plan::Pass => forward::command(session, spec, request, batch),
        Plan::Part(head, others) => {
            let all = (0..head).chain(others);
            let words: Vec<&[u8]> = all.map(|index| request.arg(index)).collect();
            forward::words(session, spec, &words, Kind::Forward, batch);
        }
        Plan::Own(answer) => {
            batch.block.command(spec.index, answer.first() == Some(&b'-'), 1);
            batch.block.observe(Outcome::Local, 0, 1);
            reply(session, |out, _| out.extend_from_slice(&answer));
        }
    }
}

impl Edit {
    /// Upstream's answer, edited.
    pub fn answer(&self, frame: &[u8], proto: Proto, shared: &Shared, out: &mut BytesMut) {
        match (self, parse::bulk(frame)) {
            (Self::Info(wanted), Some(theirs)) => {
                let text = info::merged(&String::from_utf8_lossy(theirs), wanted, shared);
                write::verbatim(out, proto, text.as_bytes());
            }
            (Self::ConfigGet(own), _) if matches!(frame.first(), Some(b'*' | b'%')) => {
                config::merge(frame, own, proto, shared, out);
            }
            (Self::Pause(change), _) => {
                change.carry_out(shared, shared.clock.now());
                write::simple(out, "OK");
            }
            (Self::NumPat, _) if frame.starts_with(b":") => {
                let own = i64::try_from(shared.live.own_patterns()).unwrap_or(0);
                write::integer(out, (parse::integer(frame).unwrap_or(0) - own).max(0));
            }
            (edit, _) => {
                if matches!(edit, Self::ResetStat) && frame == b"+OK\r\n" {
                    shared.ledger.reset(shared.clock.now());
                }
                out.extend_from_slice(frame);
            }
        }
    }

    /// What can be said without upstream; false if that is nothing.
    pub fn answer_alone(&self, proto: Proto, shared: &Shared, out: &mut BytesMut) -> bool {
        let Self::Info(wanted) = self else {
            return false;
        };
        let text = info::remembered(wanted, shared);
        if let Some(text) = &text {
            write::verbatim(out, proto, text.as_bytes());
        }
        text.is_some()
    }
}

/// Writes a reply of nearside's own.
pub fn reply(session: &mut Session, write: impl FnOnce(&mut BytesMut, Proto)) {
    let proto = session.proto;
    session.order.reply(&mut session.output, |out| write(out, proto));
}

fn ok(session: &mut Session) {
    reply(session, |out, _| write::simple(out, "OK"));
}

fn select(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let Some(index) = parse_i64(request.arg(1)).and_then(|index| i32::try_from(index).ok()) else {
        session.error(b"ERR value is not an integer or out of range");
        return;
    };
    match u32::try_from(index) {
        Ok(db) if db < batch.shared.live.databases() => {
            use_link(session, spec, session.space.with_db(db), session.proto, batch);
            ok(session);
        }
        _ => session.error(b"ERR DB index is out of range"),
    }
}

/// From here on the session uses another link, or its own in another way (nothing is out: R7
/// holds).
fn use_link(
    session: &mut Session,
    spec: &'static Spec,
    space: Space,
    proto: Proto,
    batch: &mut Batch<'_>,
) {
    pinned::switch(session, spec, space, proto, batch);
    session.space = space;
    session.proto = proto;
    session.client.db.store(space.db(), Ordering::Relaxed);
    session.client.resp.store(if proto == Proto::Resp2 { 2 } else { 3 }, Ordering::Relaxed);
}

fn reset(session: &mut Session, spec: &'static Spec, batch: &mut Batch<'_>) {
    let is_theirs = pinned::end(session, spec, batch);
    let limits = &batch.snapshot.limits;
    let space = session.space.with_db(limits.database);
    use_link(session, spec, space, Proto::Resp2, batch);
    // Whoever logged in has not any more; its own link, if it had one, ends.
    session.seat = None;
    session.space = Space::own(limits.database);
    session.standing.reset(limits.auth.mode == AuthMode::None);
    let mut names = session.client.names.lock();
    names.name.clear();
    names.user = registry::Names::default().user;
    drop(names);
    session.client.mark(Mark::NoTouch, false);
    session.set_replies(match session.replies() {
        Replies::Skip => Replies::Skip,
        _ => Replies::On,
    });
    if !is_theirs {
        reply(session, |out, _| write::simple(out, "RESET"));
    }
}
