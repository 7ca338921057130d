//! The PROXY family: what any client can ask of nearside itself, and tell it to do. Its rows stand
//! in `command/own`.
//!
//! ```text
//!   mod     who answers: at once here, or the main thread, by a letter
//!   shown   what there is to see: statistics, clients, upstreams, namespaces, commands
//!   traced  one key, one request, this connection's last command
//! ```
//!
//! Nothing here waits: an answer that takes its time is the main thread's (`mail`), and its client
//! waits for it in the order of its replies, while its worker goes on.

mod shown;
mod traced;

use crate::command::{self, Spec, Unknown, own};
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::local::filter::SYNTAX;
use crate::data::local::{config, info, ok, reply};
use crate::data::refused;
use crate::data::session::Session;
use crate::data::upstream::Waiter;
use crate::mail::{Answer, Letter};
use crate::snapshot::Snapshot;
use crate::wire::request::Request;
use crate::wire::value::Value;
use crate::wire::write;
use std::sync::atomic::Ordering;

/// Characters of a text that a client writes to the log, at most.
const TEXT_MAX: usize = 1024;

/// The row of a request for nearside itself.
#[cold]
pub fn resolve(request: &Request<'_>, snapshot: &Snapshot) -> Option<&'static Spec> {
    own::resolve(word(snapshot), request.len(), |index| request.arg(index))
}

/// `server.proxy_command`: the family's word; empty = there is no family.
fn word(snapshot: &Snapshot) -> &[u8] {
    snapshot.settings.server.proxy_command.as_bytes()
}

/// What a request asks for in vain.
#[cold]
pub fn unknown(request: &Request<'_>, snapshot: &Snapshot) -> Unknown {
    let arg = |index| request.arg(index);
    let own = own::unknown(word(snapshot), request.len(), arg);
    own.unwrap_or_else(|| command::unknown(request.len(), arg))
}

/// Answers a command of the family, or has the main thread do it.
pub fn answer(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let shared = batch.shared;
    // PROXY CLIENTS shows its client as what it asks now.
    session.client.command.store(spec.index, Ordering::Relaxed);
    match spec.word() {
        "bypass" => bypass(session, request),
        "commands" => tell(session, shown::commands(request, batch)),
        "config" if is_word(request.arg(2), "get") => config(session, request, shared),
        "clients" => tell(session, Ok(shown::clients(shared, batch.view.now))),
        "explain" => tell(session, traced::explain(request, batch)),
        "get" => tell(session, Ok(traced::key(request.arg(2), batch))),
        "help" => help(session, batch.snapshot),
        "info" => {
            let text = info::proxy::own_sections(request.from(2), shared);
            reply(session, |out, proto| write::verbatim(out, proto, text.as_bytes()));
        }
        "last" => {
            let last = traced::last(session, batch);
            tell(session, Ok(last));
        }
        "log" => log(session, request),
        "mode" if request.len() == 2 => tell(session, Ok(shared.live.mode().as_str().into())),
        "namespaces" => tell(session, shown::namespaces(request, shared)),
        "stats" => match request.len() {
            2 => tell(session, Ok(shown::stats(shared))),
            3 if is_word(request.arg(2), "reset") => {
                shared.ledger.reset(shared.clock.now());
                ok(session);
            }
            _ => session.error(SYNTAX),
        },
        "upstreams" => tell(session, Ok(shown::upstreams(shared))),
        "version" if request.len() == 2 => {
            tell(session, Ok(batch.snapshot.settings.version.as_str().into()));
        }
        "warm" if is_word(request.arg(2), "status") => post(session, spec, request, batch),
        "config" | "version" | "warm" => change(session, spec, request, batch),
        _ => post(session, spec, request, batch),
    }
}

fn is_word(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

fn tell(session: &mut Session, answer: Result<Value, Vec<u8>>) {
    match answer {
        Ok(value) => reply(session, |out, proto| value.write(out, proto)),
        Err(error) => session.error(&error),
    }
}

/// The main thread does it; nothing that this client sends behind it is served before.
fn post(session: &mut Session, row: &'static Spec, request: &Request<'_>, batch: &Batch<'_>) {
    if !Letter::may_hold(request.from(2)) {
        return session.error(b"ERR too much for one order: give it in parts");
    }
    let client = batch.me;
    let slot = session.order.leave_hole();
    session.wait();
    let way = batch.shared.flights.way_to(batch.worker);
    let letter = Letter {
        row,
        words: request.from(2).map(Into::into).collect(),
        proto: session.proto,
        from: session.client.address.clone(),
        answer: Answer::new(move |reply| way.bring(Waiter { client, slot }, reply)),
    };
    batch.shared.letterbox.post(letter);
}

/// A row that shows and changes is to change something.
fn change(session: &mut Session, spec: &'static Spec, request: &Request<'_>, batch: &Batch<'_>) {
    if let Some(why) = batch.snapshot.limits.policy.only_shows(spec) {
        return refused::by_policy(session, spec, why, batch);
    }
    post(session, spec, request, batch);
}

fn bypass(session: &mut Session, request: &Request<'_>) {
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => session.standing.set_reads_upstream(true),
        b"off" => session.standing.set_reads_upstream(false),
        _ => return session.error(SYNTAX),
    }
    ok(session);
}

fn config(session: &mut Session, request: &Request<'_>, shared: &Shared) {
    if request.len() < 4 {
        return session.error(SYNTAX);
    }
    let named = config::named(request.from(3), shared);
    reply(session, |out, proto| config::write_own(&named, proto, out));
}

fn help(session: &mut Session, snapshot: &Snapshot) {
    let word = snapshot.settings.server.proxy_command.to_ascii_uppercase();
    reply(session, |out, _| {
        write::array(out, 1 + 2 * own::HELP.len());
        let head = "<subcommand> [<arg> [value] [opt] ...]. Subcommands are:";
        write::simple(out, &format!("{word} {head}"));
        for (usage, help) in own::HELP {
            write::simple(out, usage);
            write::simple(out, &format!("    {help}"));
        }
    });
}

/// A line in the log that somebody will look for: marks of tests and of rollouts.
fn log(session: &mut Session, request: &Request<'_>) {
    let words: Vec<_> = request.from(3).map(String::from_utf8_lossy).collect();
    // Of a line of its own it could make another one.
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let text: String = words.join(" ").chars().take(TEXT_MAX).map(plain).collect();
    let client_addr = session.client.address.to_string();
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"error" => tracing::error!(event = "client_said", client_addr, "{text}"),
        b"warn" | b"warning" => tracing::warn!(event = "client_said", client_addr, "{text}"),
        b"info" | b"notice" => tracing::info!(event = "client_said", client_addr, "{text}"),
        b"debug" => tracing::debug!(event = "client_said", client_addr, "{text}"),
        _ => return session.error(b"ERR Invalid level: it is one of error, warn, info, debug"),
    }
    ok(session);
}
