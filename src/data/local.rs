//! What nearside answers itself: the commands about the connection, in Redis' words.
//!
//! A command that changes the link a session uses (SELECT, HELLO, AUTH, RESET) or ends it waits
//! until every reply out has come: `Flow::Barrier`.

use crate::command::{Refusal, Spec, errors};
use crate::data::Shared;
use crate::data::forward;
use crate::data::pinned;
use crate::data::registry::{Client, Names};
use crate::data::session::{Batch, Ending, Flow, Session};
use crate::data::upstream::{Effect, Kind};
use crate::stats::{Counter, Outcome};
use crate::wire::number::parse_i64;
use crate::wire::reply;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

const WRONGPASS: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

const NO_PASSWORD: &[u8] = b"ERR AUTH <password> called without any password configured for the \
default user. Are you sure your configuration is correct?";

const HELLO_NOAUTH: &[u8] = b"NOAUTH HELLO must be called with the client already authenticated, \
otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
select the RESP protocol version at the same time";

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
    match spec.name {
        "ping" => {
            // No +PONG while upstream is down, or busy with a script: it answers, or nobody does.
            forward::command(session, spec, request, batch);
            return Flow::Next;
        }
        "echo" => reply(session, |out, _| write::bulk(out, request.arg(1))),
        "select" => select(session, spec, request, batch),
        "hello" => hello(session, spec, request, batch),
        "auth" => auth(session, request, batch),
        "reset" => reset(session, spec, batch),
        "quit" => {
            ok(session);
            session.ending = Some(Ending::Quit);
        }
        "asking" | "readonly" | "readwrite" => {
            session.error(b"ERR This instance has cluster support disabled");
        }
        "client|unblock" => return unblock(session, spec, request, batch),
        _ => client(session, spec, request, batch),
    }
    batch.block.command(spec.index, false, 1);
    batch.block.observe(Outcome::Local, 0, 1);
    Flow::Next
}

fn reply(session: &mut Session, write: impl FnOnce(&mut BytesMut, Proto)) {
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
            use_link(session, spec, db, session.proto, batch);
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
    db: u32,
    proto: Proto,
    batch: &mut Batch<'_>,
) {
    pinned::switch(session, spec, db, proto, batch);
    session.db = db;
    session.proto = proto;
    session.client.db.store(db, Ordering::Relaxed);
    session.client.resp.store(if proto == Proto::Resp2 { 2 } else { 3 }, Ordering::Relaxed);
}

fn reset(session: &mut Session, spec: &'static Spec, batch: &mut Batch<'_>) {
    let is_theirs = pinned::reset(session, spec, batch);
    use_link(session, spec, batch.shared.limits.database, Proto::Resp2, batch);
    session.is_authenticated = batch.shared.limits.password.is_none();
    session.client.names.lock().name.clear();
    if !is_theirs {
        reply(session, |out, _| write::simple(out, "RESET"));
    }
}

fn auth(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let user = if request.len() == 3 { request.arg(1) } else { b"default" };
    match request.len() {
        2 if batch.shared.limits.password.is_none() => session.error(NO_PASSWORD),
        2 | 3 => {
            let password = request.arg(request.len() - 1);
            if log_in(session, user, password, batch) {
                ok(session);
            }
        }
        _ => session.error(b"ERR syntax error"),
    }
}

/// Checks a password; if it is wrong, the error has been written.
fn log_in(session: &mut Session, user: &[u8], password: &[u8], batch: &Batch<'_>) -> bool {
    let expected = batch.shared.limits.password.as_deref();
    let is_right = user == b"default"
        && expected.is_none_or(|expected| is_equal_in_constant_time(expected, password));
    if is_right {
        session.is_authenticated = true;
    } else {
        batch.block.add(Counter::AuthFailures, 1);
        session.error(WRONGPASS);
    }
    is_right
}

/// Compares without telling by its duration where two passwords differ.
fn is_equal_in_constant_time(expected: &[u8], given: &[u8]) -> bool {
    let padded = given.iter().copied().chain(std::iter::repeat(0));
    let differs = expected.iter().zip(padded).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differs) == 0 && expected.len() == given.len()
}

fn hello(session: &mut Session, spec: &'static Spec, request: &Request<'_>, batch: &mut Batch<'_>) {
    let proto = match (request.len(), parse_i64(request.arg(1))) {
        (1, _) => session.proto,
        (_, Some(2)) => Proto::Resp2,
        (_, Some(3)) => Proto::Resp3,
        (_, Some(_)) => return session.error(b"NOPROTO unsupported protocol version"),
        (_, None) => {
            return session.error(b"ERR Protocol version is not an integer or out of range");
        }
    };
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < request.len() {
        let (option, left) = (request.arg(at), request.len() - at - 1);
        if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
            login = Some((request.arg(at + 1), request.arg(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
            name = Some(request.arg(at + 1));
            at += 2;
        } else {
            let shown = String::from_utf8_lossy(option);
            return session.error(format!("ERR Syntax error in HELLO option '{shown}'").as_bytes());
        }
    }
    if name.is_some_and(|name| !is_plain(name)) {
        return session.error(BAD_NAME);
    }
    match login {
        Some((user, password)) if !log_in(session, user, password, batch) => return,
        None if !session.is_authenticated => return session.error(HELLO_NOAUTH),
        _ => {}
    }
    if batch.shared.live.lacks_hello() {
        // In the words of such a server, at which clients fall back to RESP2.
        return session.error(b"ERR unknown command 'HELLO'");
    }
    // Before the upstream was ever reached nothing true can be said of it. Clients know this
    // answer and come again.
    let Some(identity) = batch.shared.live.identity() else {
        return session.error(b"LOADING nearside has not reached its upstream yet");
    };
    if let Some(name) = name {
        session.client.names.lock().name = String::from_utf8_lossy(name).into_owned();
    }
    use_link(session, spec, session.db, proto, batch);
    let id = i64::try_from(session.client.id).unwrap_or(i64::MAX);
    reply(session, |out, proto| {
        write::map(out, proto, 7);
        for (name, value) in [("server", &identity.server), ("version", &identity.version)] {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"proto");
        write::integer(out, if proto == Proto::Resp2 { 2 } else { 3 });
        write::bulk(out, b"id");
        write::integer(out, id);
        for (name, value) in [("mode", "standalone"), ("role", "master")] {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"modules");
        write::array(out, 0);
    });
}

const BAD_NAME: &[u8] = b"ERR Client names cannot contain spaces, newlines or special characters.";

/// What a client may call itself: printable, no spaces (`validateClientAttr`).
fn is_plain(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

fn client(session: &mut Session, spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) {
    match spec.name {
        "client|id" => {
            let id = i64::try_from(session.client.id).unwrap_or(i64::MAX);
            reply(session, |out, _| write::integer(out, id));
        }
        "client|getname" => {
            let name = session.client.names.lock().name.clone();
            reply(session, |out, proto| {
                if name.is_empty() {
                    write::null(out, proto);
                } else {
                    write::bulk(out, name.as_bytes());
                }
            });
        }
        "client|setname" => set_name(session, request.arg(2), BAD_NAME, |names, name| {
            names.name = name;
        }),
        "client|setinfo" => set_info(session, request),
        "client|info" => list(session, batch, |client, own| client.id == own),
        "client|list" => client_list(session, request, batch),
        "client|no-evict" | "client|no-touch" => {
            match request.arg(2).to_ascii_lowercase().as_slice() {
                b"on" | b"off" => ok(session),
                _ => session.error(b"ERR syntax error"),
            }
        }
        "client|help" => reply(session, |out, _| {
            write::array(out, HELP.len());
            for line in HELP {
                write::simple(out, line);
            }
        }),
        _ => session.order.reply(&mut session.output, |out| {
            errors::refused(out, spec, Refusal::SharedLink);
        }),
    }
}

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> ...]",
    "    Return information about client connections of this proxy.",
    "NO-EVICT (ON|OFF)",
    "    Accepted; nearside evicts no clients.",
    "SETINFO <option> <value>",
    "    Set client meta attr (LIB-NAME, LIB-VER).",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "HELP",
    "    Print this help.",
];

fn set_name(
    session: &mut Session,
    value: &[u8],
    refusal: &[u8],
    set: impl FnOnce(&mut Names, String),
) {
    if is_plain(value) {
        set(&mut session.client.names.lock(), String::from_utf8_lossy(value).into_owned());
        ok(session);
    } else {
        session.error(refusal);
    }
}

fn set_info(session: &mut Session, request: &Request<'_>) {
    let (option, value) = (request.arg(2), request.arg(3));
    if option.eq_ignore_ascii_case(b"lib-name") {
        let refusal = b"ERR lib-name cannot contain spaces, newlines or special characters.";
        set_name(session, value, refusal, |names, value| names.lib_name = value);
    } else if option.eq_ignore_ascii_case(b"lib-ver") {
        let refusal = b"ERR lib-ver cannot contain spaces, newlines or special characters.";
        set_name(session, value, refusal, |names, value| names.lib_ver = value);
    } else {
        let shown = String::from_utf8_lossy(option);
        session.error(format!("ERR Unrecognized option '{shown}'").as_bytes());
    }
}

/// CLIENT UNBLOCK: the server ends what that client waits for on its own link.
fn unblock(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let reason = request.arg(3);
    let is_known = reason.eq_ignore_ascii_case(b"timeout") || reason.eq_ignore_ascii_case(b"error");
    let id = parse_i64(request.arg(2));
    let upstream_id = id.and_then(|id| u64::try_from(id).ok()).and_then(|id| {
        let client = batch.shared.registry.find(id)?;
        let is_blocked = client.is_blocked.load(Ordering::Relaxed);
        is_blocked.then(|| client.upstream_id.load(Ordering::Relaxed)).filter(|&id| id != 0)
    });
    match (request.len(), id, upstream_id) {
        (3 | 4, _, _) if request.len() == 4 && !is_known => {
            session.error(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        }
        (3 | 4, None, _) => session.error(b"ERR value is not an integer or out of range"),
        (3 | 4, Some(_), None) => reply(session, |out, _| write::integer(out, 0)),
        (3 | 4, Some(_), Some(upstream_id)) => {
            let mut digits = itoa::Buffer::new();
            let mut words: Vec<&[u8]> =
                vec![b"CLIENT", b"UNBLOCK", digits.format(upstream_id).as_bytes()];
            words.extend((request.len() == 4).then_some(reason));
            forward::words(session, spec, &words, Kind::Forward(Effect::None), batch);
            return Flow::Next;
        }
        _ => session.error(
            b"ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
        ),
    }
    batch.block.command(spec.index, false, 1);
    Flow::Next
}

fn client_list(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let option = request.arg(2);
    if request.len() == 2 {
        list(session, batch, |_, _| true);
    } else if option.eq_ignore_ascii_case(b"type") && request.len() == 4 {
        match request.arg(3).to_ascii_lowercase().as_slice() {
            b"normal" => list(session, batch, |_, _| true),
            b"master" | b"replica" | b"slave" | b"pubsub" => list(session, batch, |_, _| false),
            other => {
                let shown = String::from_utf8_lossy(other).into_owned();
                session.error(format!("ERR Unknown client type '{shown}'").as_bytes());
            }
        }
    } else if option.eq_ignore_ascii_case(b"id") && request.len() > 3 {
        let ids: Option<Vec<i64>> = request.from(3).map(parse_i64).collect();
        match ids {
            Some(ids) => list(session, batch, |client, _| {
                i64::try_from(client.id).is_ok_and(|id| ids.contains(&id))
            }),
            None => session.error(b"ERR Invalid client ID"),
        }
    } else {
        session.error(b"ERR syntax error");
    }
}

/// The lines of the chosen clients; `choose` also gets this client's own id.
fn list(session: &mut Session, batch: &Batch<'_>, choose: impl Fn(&Client, u64) -> bool) {
    let own = session.client.id;
    let mut text = String::new();
    for client in batch.shared.registry.list() {
        if choose(&client, own) {
            client.describe(&mut text, batch.view.now);
            text.push('\n');
        }
    }
    reply(session, |out, proto| write::verbatim(out, proto, text.as_bytes()));
}

/// INFO: upstream's sections, and behind them nearside's own.
pub fn append_info(frame: &[u8], proto: Proto, shared: &Shared, out: &mut BytesMut) {
    let Some(theirs) = reply::bulk(frame) else {
        out.extend_from_slice(frame);
        return;
    };
    let mut text = String::from_utf8_lossy(theirs).into_owned();
    let figures = shared.cache.figures();
    let mode = shared.limits.mode.as_str();
    let written = write!(
        text,
        "\r\n# Proxy\r\nproxy_version:{}\r\nproxy_mode:{mode}\r\nproxy_key_version:{}\r\n\
         proxy_connected_clients:{}\r\nproxy_draining:{}\r\n\
         # ProxyCache\r\ncache_entries:{}\r\ncache_memory_used_bytes:{}\r\n\
         cache_memory_max_bytes:{}\r\n\
         # ProxyUpstreams\r\nupstream_kind:standalone\r\nupstream_links:{}\r\n\
         invalidation_tracking:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        String::from_utf8_lossy(shared.prefix.as_bytes()),
        shared.registry.len(),
        u8::from(shared.live.is_draining()),
        figures.entries,
        figures.used_bytes,
        figures.max_bytes,
        shared.live.links_up(),
        if shared.cache.tracking().is_up() { "up" } else { "down" },
    );
    debug_assert!(written.is_ok(), "writing to a String");
    write::verbatim(out, proto, text.as_bytes());
}
