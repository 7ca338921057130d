//! What a user of `[[auth.users]]` may (`auth.mode = "static"`): its commands and its keys, held
//! against each of its requests before anything is done about it, a hit included.
//!
//! ```text
//!   login, or other settings --follow--> the session has its user's rights, or none to look at
//!   request --judge--> permitted | what it is told, at once or at its place in EXEC's reply
//! ```
//!
//! Upstream knows nothing of these users: all ride on nearside's own credentials. So what runs
//! there by itself must be known, too: a script is read for the commands that it calls.
//! Invariant: who may do everything is not asked (its session is plain); whatever cannot be seen is
//! denied. Channels are not told apart: who may SUBSCRIBE hears any.

use crate::command::acl::{Access, Denied, Rights};
use crate::command::{Spec, by_name, errors};
use crate::config::{Auth, AuthMode};
use crate::data::Shared;
use crate::data::batch::Batch;
use crate::data::refused;
use crate::data::session::Session;
use crate::scripts::{Calls, NO_SCRIPT};
use crate::stats::Counter;
use crate::wire::request::Request;

/// A request that is not carried out.
#[derive(Debug)]
pub struct Refusal {
    /// What its client is told.
    pub text: Vec<u8>,
    /// True if the server would say so as it executes the command, not as it queues it.
    pub is_late: bool,
}

impl Refusal {
    fn of(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), is_late: false }
    }
}

/// From here on a session may what its user may by these settings; false if there is no such user
/// any more.
pub fn follow(session: &mut Session, auth: &Auth) -> bool {
    let is_of_settings = auth.mode == AuthMode::Static && session.seat.is_none();
    if !is_of_settings || !session.standing.is_authenticated() {
        session.standing.set_rights(None);
        return true;
    }
    let name = session.client.names.lock().user.clone();
    let listed = auth.users.iter().find(|user| user.name == name);
    session.standing.set_rights(listed.and_then(|user| user.rights.clone()));
    listed.is_some() || name == "default"
}

/// True if a client may make this request, or need not be asked; else it has its answer.
#[inline]
pub fn permits(
    session: &mut Session,
    spec: &Spec,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> bool {
    if session.standing.rights().is_none() {
        return true;
    }
    let Err(refusal) = judge(session, spec, request, batch) else {
        return true;
    };
    refused::with(session, spec, &refusal.text, batch);
    false
}

/// What a client is told whose user may not make this request.
#[cold]
pub fn judge(
    session: &Session,
    spec: &Spec,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> Result<(), Refusal> {
    // What does not fit its row is refused for that.
    let Some(rights) = session.standing.rights().filter(|_| spec.accepts(request.len())) else {
        return Ok(());
    };
    let verdict = if spec.name == "proxy|lease" {
        lease(rights, request)
    } else {
        rights.check(spec, request.len(), &|at| request.arg(at))
    };
    let refusal = match verdict {
        Ok(()) if runs(spec) => match script(rights, spec, request, batch.shared) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        },
        Ok(()) => return Ok(()),
        Err(denied) => {
            let user = session.client.names.lock().user.clone();
            let is_late = matches!(denied, Denied::Option(_));
            Refusal { text: errors::denied(spec, denied, &user).into_bytes(), is_late }
        }
    };
    batch.block.add(Counter::RejectedNoPerm, u64::from(refusal.text != NO_SCRIPT));
    Err(refusal)
}

/// PROXY LEASE is a read of its key, or a write.
fn lease(rights: &Rights, request: &Request<'_>) -> Result<(), Denied> {
    let is_read = request.arg(2).eq_ignore_ascii_case(b"get");
    let (name, access) = if is_read { ("get", Access::R) } else { ("set", Access::W) };
    if !by_name(name).is_some_and(|spec| rights.has_command(spec)) {
        return Err(Denied::Command);
    }
    if rights.has_key(request.arg(3), access) { Ok(()) } else { Err(Denied::Key) }
}

/// True if it runs what may call other commands.
fn runs(spec: &Spec) -> bool {
    matches!(spec.name, "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro")
}

/// A script calls what its user may call, with keys that it is given. (The server runs it with
/// nearside's own rights.)
#[cold]
fn script(
    rights: &Rights,
    spec: &Spec,
    request: &Request<'_>,
    shared: &Shared,
) -> Result<(), Refusal> {
    match shared.scripts.calls(spec, |at| request.arg(at)) {
        Calls::Vouched => Ok(()),
        Calls::NoScript => Err(Refusal { text: NO_SCRIPT.to_vec(), is_late: true }),
        Calls::Of(called) => match called.iter().find(|called| !rights.has_command(called)) {
            None => Ok(()),
            Some(called) => Err(Refusal::of(format!(
                "NOPERM this script calls '{}', which its user has no permissions to run",
                called.name
            ))),
        },
        Calls::Unseen(why) => Err(Refusal::of(format!(
            "NOPERM which keys and commands this script uses cannot be seen ({why}), and its user \
             may not use all of them: list it in scripts.allow"
        ))),
    }
}
