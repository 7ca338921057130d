//! HELLO and AUTH: who the client is, and which protocol it speaks. Where upstream judges who it
//! is, its verdict comes from [`login`].

use crate::command::Spec;
use crate::config::{Auth, AuthMode};
use crate::data::acl;
use crate::data::batch::Batch;
use crate::data::fallback;
use crate::data::identity::Seat;
use crate::data::local::client::{BAD_NAME, is_plain};
use crate::data::local::{ok, reply, use_link};
use crate::data::login::{self, Verdict};
use crate::data::session::{Flow, Session};
use crate::net::target::Password;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write::{self, Proto};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

const WRONGPASS: &[u8] = b"WRONGPASS invalid username-password pair or user is disabled.";

const NO_PASSWORD: &[u8] = b"ERR AUTH <password> called without any password configured for the \
default user. Are you sure your configuration is correct?";

const HELLO_NOAUTH: &[u8] = b"NOAUTH HELLO must be called with the client already authenticated, \
otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
select the RESP protocol version at the same time";

/// What a request of AUTH or HELLO logs in with: the user, if it is named, and the password.
type Login<'r> = (Option<&'r [u8]>, &'r [u8]);

/// What came of a login.
enum Outcome {
    Done,
    /// The error has been written.
    Failed,
    /// Upstream is asked.
    Waits,
}

/// AUTH.
pub fn auth(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let auth = &batch.snapshot.limits.auth;
    let lacks_password = auth.mode == AuthMode::None;
    let login: Login<'_> = match request.len() {
        2 if lacks_password => {
            session.error(NO_PASSWORD);
            return Flow::Next;
        }
        2 => (None, request.arg(1)),
        3 => (Some(request.arg(1)), request.arg(2)),
        _ => {
            session.error(b"ERR syntax error");
            return Flow::Next;
        }
    };
    match log_in(session, spec, login, batch) {
        Outcome::Done => ok(session),
        Outcome::Failed => {}
        Outcome::Waits => return Flow::Behind,
    }
    Flow::Next
}

fn log_in(
    session: &mut Session,
    spec: &'static Spec,
    (user, password): Login<'_>,
    batch: &mut Batch<'_>,
) -> Outcome {
    // (A link that holds keys of its client is under an older one: who may come in is not.)
    let newest = batch.shared.snapshots.newest();
    let auth = &newest.limits.auth;
    if auth.mode == AuthMode::Passthrough {
        return match login::judge(session, user, password, batch) {
            None => Outcome::Waits,
            Some(Verdict::Seat(seat)) => {
                ride(session, spec, seat, batch);
                Outcome::Done
            }
            Some(verdict) => {
                login::refuse(session, &verdict, batch);
                Outcome::Failed
            }
        };
    }
    let verdict = if login::is_barred(session, batch) {
        Verdict::Refused(login::BARRED.into())
    } else if is_right(auth, user.unwrap_or(DEFAULT), password) {
        let name = String::from_utf8_lossy(user.unwrap_or(DEFAULT)).into_owned();
        session.client.names.lock().user = name;
        session.standing.set_authenticated(true);
        acl::follow(session, auth);
        return Outcome::Done;
    } else {
        Verdict::Refused(WRONGPASS.into())
    };
    login::refuse(session, &verdict, batch);
    Outcome::Failed
}

/// The user of who names none, and of `auth.password`.
const DEFAULT: &[u8] = b"default";

/// True if the configuration has such a user, with this password.
fn is_right(auth: &Auth, user: &[u8], password: &[u8]) -> bool {
    let Some(listed) = auth.users.iter().find(|listed| listed.name.as_bytes() == user) else {
        // Where no password is asked, any is right.
        let is_any = auth.mode == AuthMode::None;
        let expected = auth.password.as_ref().map(Password::reveal);
        let is_it = expected
            .map_or(is_any, |expected| is_equal_in_constant_time(expected.as_bytes(), password));
        return user == DEFAULT && is_it;
    };
    let hash = digest(&SHA256, password);
    let is_it = |known: &[u8; 32]| verify_slices_are_equal(known, hash.as_ref()).is_ok();
    listed.passwords.iter().any(is_it)
}

/// From here on the session rides on what it has logged in with.
fn ride(session: &mut Session, spec: &'static Spec, seat: Seat, batch: &mut Batch<'_>) {
    let user = String::from_utf8_lossy(seat.identity().user()).into_owned();
    session.client.names.lock().user = user;
    use_link(session, spec, seat.space(session.space.db()), session.proto, batch);
    session.seat = Some(seat);
    session.standing.set_authenticated(true);
    session.standing.set_rights(None);
}

/// Compares without telling by its duration where two passwords differ.
fn is_equal_in_constant_time(expected: &[u8], given: &[u8]) -> bool {
    let padded = given.iter().copied().chain(std::iter::repeat(0));
    let differs = expected.iter().zip(padded).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differs) == 0 && expected.len() == given.len()
}

/// What a request of HELLO wants.
struct Wanted<'r> {
    proto: Proto,
    login: Option<Login<'r>>,
    name: Option<&'r [u8]>,
}

impl<'r> Wanted<'r> {
    /// The request's options, or what is wrong with them.
    fn parse(request: &Request<'r>, proto: Proto) -> Result<Self, Vec<u8>> {
        let proto = match (request.len(), parse_i64(request.arg(1))) {
            (1, _) => proto,
            (_, Some(2)) => Proto::Resp2,
            (_, Some(3)) => Proto::Resp3,
            (_, Some(_)) => return Err(b"NOPROTO unsupported protocol version".to_vec()),
            (_, None) => {
                return Err(b"ERR Protocol version is not an integer or out of range".to_vec());
            }
        };
        let mut wanted = Self { proto, login: None, name: None };
        let mut at = 2;
        while at < request.len() {
            let (option, left) = (request.arg(at), request.len() - at - 1);
            if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
                wanted.login = Some((Some(request.arg(at + 1)), request.arg(at + 2)));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
                wanted.name = Some(request.arg(at + 1));
                at += 2;
            } else {
                let shown = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{shown}'").into_bytes());
            }
        }
        if wanted.name.is_some_and(|name| !is_plain(name)) {
            return Err(BAD_NAME.to_vec());
        }
        Ok(wanted)
    }
}

/// HELLO.
pub fn hello(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    let Wanted { proto, login, name } = match Wanted::parse(request, session.proto) {
        Ok(wanted) => wanted,
        Err(text) => {
            session.error(&text);
            return Flow::Next;
        }
    };
    let outcome = match login {
        Some(login) => log_in(session, spec, login, batch),
        None if session.standing.is_authenticated() => Outcome::Done,
        None => come_in(session, batch),
    };
    match outcome {
        Outcome::Done => greet(session, spec, proto, name, batch),
        Outcome::Failed => {}
        Outcome::Waits => return Flow::Behind,
    }
    Flow::Next
}

/// HELLO of who has not logged in.
fn come_in(session: &mut Session, batch: &mut Batch<'_>) -> Outcome {
    if batch.snapshot.limits.auth.mode != AuthMode::Passthrough {
        session.error(HELLO_NOAUTH);
        return Outcome::Failed;
    }
    match login::admit_nobody(session, HELLO_NOAUTH, batch) {
        None => Outcome::Waits,
        Some(true) => Outcome::Done,
        Some(false) => Outcome::Failed,
    }
}

/// The answer to HELLO, and what it changes.
fn greet(
    session: &mut Session,
    spec: &'static Spec,
    proto: Proto,
    name: Option<&[u8]>,
    batch: &mut Batch<'_>,
) {
    if batch.shared.live.lacks_hello() {
        // In the words of such a server, at which clients fall back to RESP2.
        return session.error(b"ERR unknown command 'HELLO'");
    }
    // Before the upstream was ever reached nothing true can be said of it. Clients know this
    // answer and come again.
    let Some(server) = fallback::server(&batch.shared.live) else {
        return session.error(b"LOADING nearside has not reached its upstream yet");
    };
    if let Some(name) = name {
        session.client.names.lock().name = String::from_utf8_lossy(name).into_owned();
    }
    use_link(session, spec, session.space, proto, batch);
    let id = i64::try_from(session.client.id).unwrap_or(i64::MAX);
    reply(session, |out, proto| {
        write::map(out, proto, 7);
        for (name, value) in [("server", &server.name), ("version", &server.version)] {
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
