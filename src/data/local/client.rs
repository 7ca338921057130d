//! The CLIENT family: nearside's clients, not upstream's.
//!
//! CLIENT KILL marks the clients and rings every worker's bell; who is marked is served no more,
//! whichever worker it is on. CLIENT PAUSE holds what clients send; upstream knows nothing of it.

use crate::command::{Refusal, Spec, errors};
use crate::config::AuthMode;
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::forward;
use crate::data::local::filter::{self, Dialect, Filter, SYNTAX, Users};
use crate::data::local::{ok, reply};
use crate::data::order::Replies;
use crate::data::pause;
use crate::data::registry::{Client, Mark, Names};
use crate::data::session::{Ending, Session};
use crate::data::upstream::Kind;
use crate::units::clock::{Tick, unix_millis};
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is said of a name with bytes that would break a line of CLIENT LIST.
pub const BAD_NAME: &[u8] =
    b"ERR Client names cannot contain spaces, newlines or special characters.";

/// What a client may call itself: printable, no spaces (`validateClientAttr`).
pub fn is_plain(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

/// Answers a subcommand of CLIENT.
pub fn answer(session: &mut Session, spec: &Spec, request: &Request<'_>, batch: &mut Batch<'_>) {
    // CLIENT LIST and INFO show themselves as what their client asks now.
    session.client.command.store(spec.index, Ordering::Relaxed);
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
        "client|info" => {
            let own = Arc::clone(&session.client);
            show(session, std::slice::from_ref(&own), batch.view.now);
        }
        "client|list" => list(session, request, batch),
        "client|kill" => kill(session, request, batch),
        "client|pause" | "client|unpause" => match pauses(spec, request, batch.shared) {
            Ok(change) => {
                change.carry_out(batch.shared, batch.view.now);
                batch.held = batch.shared.pause.held(batch.view.now);
                ok(session);
            }
            Err(error) => session.error(&error),
        },
        "client|unblock" => unblock_nobody(session, request),
        "client|reply" => reply_mode(session, request),
        "client|no-evict" => switch(session, request, Mark::NoEvict),
        "client|no-touch" => switch(session, request, Mark::NoTouch),
        // Nothing that it could claim (REDIRECT) concerns a client of a proxy.
        "client|capa" => ok(session),
        "client|help" => reply(session, |out, _| {
            let lines = HELP.lines();
            write::array(out, lines.clone().count());
            for line in lines {
                write::simple(out, line);
            }
        }),
        _ => session.order.reply(&mut session.output, |out| {
            errors::refused(out, spec, Refusal::SharedLink);
        }),
    }
}

/// As Redis and Valkey print it, with what nearside knows.
const HELP: &str = "\
CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CACHING (YES|NO)
    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.
GETREDIR
    Return the client ID we are redirecting to when tracking is enabled.
GETNAME
    Return the name of the current connection.
ID
    Return the ID of the current connection.
INFO
    Return information about the current client connection.
KILL <ip:port>
    Kill connection made from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Kill connections. Options are:
    * ADDR (<ip:port>|<unixsocket>:0)
      Kill connections made from the specified address
    * LADDR (<ip:port>|<unixsocket>:0)
      Kill connections made to specified local address
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Kill connections by type.
    * USER <username>
      Kill connections authenticated by <username>.
    * SKIPME (YES|NO)
      Skip killing current connection (default: yes).
    * ID <client-id>
      Kill connections by client id.
    * MAXAGE <maxage>
      Kill connections older than the specified age.
LIST [options ...]
    Return information about client connections. Options:
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Return clients of specified type.
    * ID <client-id> [<client-id>...]
      Return clients with the specified IDs.
UNPAUSE
    Stop the current client pause, resuming traffic.
PAUSE <timeout> [WRITE|ALL]
    Suspend all, or just write, clients for <timeout> milliseconds.
REPLY (ON|OFF|SKIP)
    Control the replies sent to the current connection.
SETNAME <name>
    Assign the name <name> to the current connection.
SETINFO <option> <value>
    Set client meta attr. Options are:
    * LIB-NAME: the client lib name.
    * LIB-VER: the client lib version.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    Unblock the specified blocked client.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
    Control server assisted client side caching.
TRACKINGINFO
    Report tracking status for the current connection.
NO-EVICT (ON|OFF)
    Protect current client connection from eviction.
NO-TOUCH (ON|OFF)
    Will not touch LRU/LFU stats when this mode is on.
HELP
    Print this help.";

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
        session.error(&[b"ERR Unrecognized option '".as_slice(), option, b"'"].concat());
    }
}

fn switch(session: &mut Session, request: &Request<'_>, mark: Mark) {
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => session.client.mark(mark, true),
        b"off" => session.client.mark(mark, false),
        _ => return session.error(SYNTAX),
    }
    ok(session);
}

/// Valkey took the filters of CLIENT KILL further in 8.1.
fn dialect(shared: &Shared) -> Dialect {
    match shared.live.server() {
        Some(server) if server.name == "valkey" => Dialect::Valkey,
        _ => Dialect::Redis,
    }
}

fn users(shared: &Shared) -> Users {
    match shared.snapshots.newest().limits.auth.mode {
        AuthMode::Passthrough => Users::Upstreams,
        AuthMode::None | AuthMode::Static => Users::Default,
    }
}

/// CLIENT UNBLOCK of a client that waits: the server ends that, which it knows by a number of its
/// own. False: nobody waits, and [`unblock_nobody`] is the answer.
pub fn unblock(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    kind: Kind,
    batch: &mut Batch<'_>,
) -> bool {
    let id = parse_i64(request.arg(2)).and_then(|id| u64::try_from(id).ok());
    let is_fit = request.len() == 3 || (request.len() == 4 && is_reason(request.arg(3)));
    let client = id.filter(|_| is_fit).and_then(|id| batch.shared.registry.find(id));
    let Some(upstream_id) = client.and_then(|client| client.aim()) else {
        return false;
    };
    let mut digits = itoa::Buffer::new();
    let mut words: Vec<&[u8]> = vec![b"CLIENT", b"UNBLOCK", digits.format(upstream_id).as_bytes()];
    words.extend((request.len() == 4).then_some(request.arg(3)));
    forward::words(session, spec, &words, kind, batch);
    true
}

fn is_reason(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"timeout") || word.eq_ignore_ascii_case(b"error")
}

fn unblock_nobody(session: &mut Session, request: &Request<'_>) {
    match request.len() {
        4 if !is_reason(request.arg(3)) => {
            session.error(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        }
        3 | 4 if parse_i64(request.arg(2)).is_none() => {
            session.error(b"ERR value is not an integer or out of range");
        }
        3 | 4 => reply(session, |out, _| write::integer(out, 0)),
        _ => session.error(
            b"ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
        ),
    }
}

fn list(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let (shared, now) = (batch.shared, batch.view.now);
    let filter = match dialect(shared) {
        _ if request.len() == 2 => return show(session, &shared.registry.list(), now),
        Dialect::Valkey => Filter::parse(request, 2, (Dialect::Valkey, users(shared))),
        Dialect::Redis => {
            let option = request.arg(2);
            if option.eq_ignore_ascii_case(b"type") && request.len() == 4 {
                let name = request.arg(3);
                filter::client_type(name).ok_or_else(|| filter::unknown_type(name))
            } else if option.eq_ignore_ascii_case(b"id") && request.len() > 3 {
                return list_ids(session, request, batch);
            } else {
                Err(SYNTAX.to_vec())
            }
        }
    };
    match filter {
        Ok(filter) => {
            let mut chosen = shared.registry.list();
            let skips = filter.skip_me == Some(true);
            chosen.retain(|client| {
                filter.takes(client, now) && !(skips && client.id == session.client.id)
            });
            show(session, &chosen, now);
        }
        Err(error) => session.error(&error),
    }
}

/// Redis' CLIENT LIST ID: in the order asked, as often as asked.
fn list_ids(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let ids: Option<Vec<i64>> = request.from(3).map(parse_i64).collect();
    let Some(ids) = ids else {
        return session.error(b"ERR Invalid client ID");
    };
    let find = |id: i64| batch.shared.registry.find(u64::try_from(id).ok()?);
    let chosen: Vec<Arc<Client>> = ids.into_iter().filter_map(find).collect();
    show(session, &chosen, batch.view.now);
}

fn show(session: &mut Session, clients: &[Arc<Client>], now: Tick) {
    let mut text = String::new();
    for client in clients {
        client.describe(&mut text, now);
        text.push('\n');
    }
    reply(session, |out, proto| write::verbatim(out, proto, text.as_bytes()));
}

fn kill(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let shared = batch.shared;
    let is_old_form = request.len() == 3;
    let filter = if is_old_form {
        Ok(Filter::address(request.arg(2)))
    } else {
        Filter::parse(request, 2, (dialect(shared), users(shared)))
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => return session.error(&error),
    };
    let own = session.client.id;
    let mut killed = 0;
    let mut is_own = false;
    for client in shared.registry.list() {
        let is_me = client.id == own;
        if !filter.takes(&client, batch.view.now) || (is_me && filter.skip_me != Some(false)) {
            continue;
        }
        killed += 1;
        if is_me {
            is_own = true;
        } else {
            client.mark(Mark::Killed, true);
        }
    }
    if killed > i64::from(is_own) {
        shared.bells.ring();
    }
    match (is_old_form, killed) {
        (false, killed) => reply(session, |out, _| write::integer(out, killed)),
        (true, 0) => session.error(b"ERR No such client"),
        (true, _) => ok(session),
    }
    if is_own {
        // Its answer comes first.
        session.ending = Some(Ending::Quit);
    }
}

/// What CLIENT PAUSE or UNPAUSE asks for, or why it is refused.
pub fn pauses(
    spec: &Spec,
    request: &Request<'_>,
    shared: &Shared,
) -> Result<pause::Change, Vec<u8>> {
    if spec.name == "client|unpause" {
        return Ok(pause::Change::End);
    }
    let is_all = match (request.len(), request.arg(3).to_ascii_lowercase().as_slice()) {
        (3, _) | (4, b"all") => true,
        (4, b"write") => false,
        (4, _) => return Err(b"ERR CLIENT PAUSE mode must be WRITE or ALL".to_vec()),
        (_, mode) if dialect(shared) == Dialect::Valkey => mode != b"write",
        _ => {
            let before = b"ERR unknown subcommand or wrong number of arguments for '".as_slice();
            return Err([before, request.arg(1), b"'. Try CLIENT HELP."].concat());
        }
    };
    let Some(millis) = parse_i64(request.arg(2)) else {
        return Err(b"ERR timeout is not an integer or out of range".to_vec());
    };
    let Ok(millis) = u64::try_from(millis) else {
        return Err(b"ERR timeout is negative".to_vec());
    };
    let latest = i64::MAX.unsigned_abs() - unix_millis();
    if dialect(shared) == Dialect::Valkey && millis > latest {
        return Err(b"ERR timeout is out of range".to_vec());
    }
    Ok(pause::Change::Begin { millis, is_all })
}

fn reply_mode(session: &mut Session, request: &Request<'_>) {
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            session.set_replies(Replies::On);
            ok(session);
        }
        b"off" => session.set_replies(Replies::Off),
        b"skip" if session.replies() != Replies::Off => session.set_replies(Replies::SkipNext),
        b"skip" => {}
        _ => session.error(SYNTAX),
    }
}
