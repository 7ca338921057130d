//! HELLO and AUTH: who the client is, and which protocol it speaks.

use crate::command::Spec;
use crate::data::batch::Batch;
use crate::data::fallback;
use crate::data::local::client::{BAD_NAME, is_plain};
use crate::data::local::{ok, reply, use_link};
use crate::data::session::Session;
use crate::stats::Counter;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};

const WRONGPASS: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

const NO_PASSWORD: &[u8] = b"ERR AUTH <password> called without any password configured for the \
default user. Are you sure your configuration is correct?";

const HELLO_NOAUTH: &[u8] = b"NOAUTH HELLO must be called with the client already authenticated, \
otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
select the RESP protocol version at the same time";

/// AUTH.
pub fn auth(session: &mut Session, request: &Request<'_>, batch: &Batch<'_>) {
    let user = if request.len() == 3 { request.arg(1) } else { b"default" };
    match request.len() {
        2 if batch.snapshot.limits.password.is_none() => session.error(NO_PASSWORD),
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
    let expected = batch.snapshot.limits.password.as_deref();
    let is_right = user == b"default"
        && expected.is_none_or(|expected| is_equal_in_constant_time(expected, password));
    if is_right {
        session.standing.set_authenticated(true);
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

/// HELLO.
pub fn hello(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
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
        None if !session.standing.is_authenticated() => return session.error(HELLO_NOAUTH),
        _ => {}
    }
    if batch.shared.live.lacks_hello() {
        // In the words of such a server, at which clients fall back to RESP2.
        return session.error(b"ERR unknown command 'HELLO'");
    }
    // Before the upstream was ever reached nothing true can be said of it. Clients know this
    // answer and come again.
    let Some(identity) = fallback::identity(&batch.shared.live) else {
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
