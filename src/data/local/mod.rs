//! What nearside answers itself, in Redis' words: the commands about the connection, and of INFO
//! and CONFIG what is nearside's.
//!
//! ```text
//!   mod      PING, ECHO, SELECT, RESET, QUIT, and who answers the rest
//!   hello    HELLO, AUTH
//!   client   the CLIENT family; filter: which clients CLIENT LIST and CLIENT KILL mean
//!   info     upstream's INFO with nearside's figures; ledger: where those are from
//!   config   CONFIG GET and SET
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

pub use ledger::{Ledger, Profile};

use crate::command::Spec;
use crate::data::Shared;
use crate::data::forward;
use crate::data::registry::Mark;
use crate::data::session::{Batch, Ending, Flow, Replies, Session};
use crate::data::upstream::Effect;
use crate::stats::Outcome;
use crate::wire::number::parse_i64;
use crate::wire::reply as parse;
use crate::wire::request::{Request, Scan};
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use info::Wanted;
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
    session.take_error();
    match spec.name {
        "ping" if !batch.links.of(session).is_up() => {
            // Never +PONG while upstream is down: the link answers, or nobody does.
            forward::command(session, spec, request, batch);
            return Flow::Next;
        }
        "ping" => ping(session, request),
        "echo" => reply(session, |out, _| write::bulk(out, request.arg(1))),
        "select" => select(session, request, batch),
        "hello" => hello::hello(session, request, batch),
        "auth" => hello::auth(session, request, batch),
        "reset" => reset(session, batch),
        "quit" => {
            ok(session);
            session.ending = Some(Ending::Quit);
        }
        "asking" | "readonly" | "readwrite" => {
            session.error(b"ERR This instance has cluster support disabled");
        }
        "acl|whoami" => reply(session, |out, _| write::bulk(out, b"default")),
        "config|rewrite" => session.error(b"ERR The proxy does not write its config file"),
        _ => client::answer(session, spec, request, batch),
    }
    let is_error = session.take_error();
    batch.block.command(spec.index, is_error, 1);
    batch.block.observe(Outcome::Local, 0, 1);
    Flow::Next
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
}

/// Forwards a command of which a part is nearside's; answers it if that is all of it.
pub fn edited(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let shared = batch.shared;
    session.take_error();
    let edit = match spec.name {
        "info" if request.arg(1).eq_ignore_ascii_case(b"upstream") => {
            let sections: Vec<usize> = (2..request.len()).collect();
            return part(session, spec, request, 1, &sections, batch);
        }
        "info" => Edit::Info(Wanted::of(request)),
        "config|get" => {
            let asked = config::asked(request, shared);
            if asked.is_own {
                reply(session, |out, proto| config::write_own(&asked.own, proto, out));
                return answered(session, spec, batch);
            }
            Edit::ConfigGet(asked.own)
        }
        "config|set" => match config::setting(request, shared) {
            config::Setting::Theirs => return forward::command(session, spec, request, batch),
            config::Setting::Rest(rest) if rest.is_empty() => {
                ok(session);
                return answered(session, spec, batch);
            }
            config::Setting::Rest(rest) => {
                return part(session, spec, request, 2, &rest, batch);
            }
            config::Setting::Refused(error) => {
                session.error(&error);
                return answered(session, spec, batch);
            }
        },
        _ => Edit::ResetStat,
    };
    if let Edit::Info(wanted) = &edit
        && wanted.is_own()
    {
        let text = info::remembered(wanted, shared).unwrap_or_default();
        reply(session, |out, proto| write::verbatim(out, proto, text.as_bytes()));
        return answered(session, spec, batch);
    }
    forward::with_effect(session, spec, request, Effect::Edit(Box::new(edit)), batch);
}

fn answered(session: &mut Session, spec: &'static Spec, batch: &Batch<'_>) {
    batch.block.command(spec.index, session.take_error(), 1);
    batch.block.observe(Outcome::Local, 0, 1);
}

/// Forwards the first `head` arguments of a request, and of the others only these.
fn part(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    head: usize,
    others: &[usize],
    batch: &mut Batch<'_>,
) {
    let (mut bytes, mut args) = (BytesMut::new(), Vec::new());
    write::array(&mut bytes, head + others.len());
    for at in (0..head).chain(others.iter().copied()) {
        write::bulk(&mut bytes, request.arg(at));
    }
    // It is a part of what was parsed before.
    if Scan::default().next(&bytes, &mut args, &batch.shared.limits.request).is_ok() {
        let request = Request::new(&bytes, &args);
        forward::with_effect(session, spec, &request, Effect::None, batch);
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
            (edit, _) => {
                if matches!(edit, Self::ResetStat) && frame == b"+OK\r\n" {
                    shared.ledger.reset();
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

fn reply(session: &mut Session, write: impl FnOnce(&mut BytesMut, Proto)) {
    let proto = session.proto;
    session.order.reply(&mut session.output, |out| write(out, proto));
}

fn ok(session: &mut Session) {
    reply(session, |out, _| write::simple(out, "OK"));
}

fn ping(session: &mut Session, request: &Request<'_>) {
    match request.len() {
        1 => reply(session, |out, _| write::simple(out, "PONG")),
        2 => reply(session, |out, _| write::bulk(out, request.arg(1))),
        _ => session.error(b"ERR wrong number of arguments for 'ping' command"),
    }
}

fn select(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let Some(index) = parse_i64(request.arg(1)).and_then(|index| i32::try_from(index).ok()) else {
        session.error(b"ERR value is not an integer or out of range");
        return;
    };
    match u32::try_from(index) {
        Ok(db) if db < batch.shared.live.databases() => {
            use_link(session, db, session.proto);
            ok(session);
        }
        _ => session.error(b"ERR DB index is out of range"),
    }
}

/// From here on the session uses another link (nothing is out: R7 holds).
fn use_link(session: &mut Session, db: u32, proto: Proto) {
    session.db = db;
    session.proto = proto;
    session.link = None;
    session.client.db.store(db, Ordering::Relaxed);
    session.client.resp.store(if proto == Proto::Resp2 { 2 } else { 3 }, Ordering::Relaxed);
}

fn reset(session: &mut Session, batch: &Batch<'_>) {
    use_link(session, batch.shared.limits.database, Proto::Resp2);
    session.is_authenticated = batch.shared.limits.password.is_none();
    session.client.names.lock().name.clear();
    session.client.mark(Mark::NoTouch, false);
    session.set_replies(match session.replies() {
        Replies::Skip => Replies::Skip,
        _ => Replies::On,
    });
    reply(session, |out, _| write::simple(out, "RESET"));
}
