//! AUTH and HELLO AUTH where upstream judges (`auth.mode = "passthrough"`), and what a client may
//! that has not logged in.
//!
//! ```text
//!   credentials --> verified not long ago ------------------------------> the answer, at once
//!               \-> upstream is asked (data/upstream/check), the request waits, nothing of its
//!                   client is out; then it is looked at again, and finds the verdict
//! ```
//!
//! In: what a client logs in with, or that it has not. Out: a seat (data/identity), or upstream's
//! own words. A failed login changes nothing of who the client is.

use crate::config::{Auth, AuthMode, OnDown};
use crate::data::batch::Batch;
use crate::data::identity::{Identities, Login, Print, Seat};
use crate::data::lost::{Lost, lost_text};
use crate::data::session::{Ending, Session};
use crate::stats::Counter;
use crate::units::clock::Tick;

/// What is said once there are as many identities as there may be.
const FULL: &[u8] = b"ERR proxy: too many identities are in use (auth.max_identities)";

/// What is said to who has failed too often.
pub const BARRED: &[u8] =
    b"ERR proxy: too many failed logins from this address (auth.max_failures_per_minute)";

/// What upstream is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Whether it accepts these credentials.
    Login(Print),
    /// Whether it lets in who has none.
    Nobody,
}

/// A question about a client's credentials, and what came of it.
#[derive(Debug)]
pub struct Check {
    asked: Asked,
    verdict: Option<Verdict>,
    /// True if no request waits for it.
    is_early: bool,
}

/// What upstream says of credentials.
#[derive(Debug)]
pub enum Verdict {
    /// They are good.
    Seat(Seat),
    /// They are not, in its own words.
    Refused(Box<[u8]>),
    /// It could not be asked.
    Down,
    /// There are too many identities.
    Full,
}

/// A question that a worker is to ask upstream.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub asked: Asked,
    /// The credentials, if there are any.
    pub login: Option<Login>,
}

impl Check {
    const fn of(asked: Asked, is_early: bool) -> Self {
        Self { asked, verdict: None, is_early }
    }

    /// The answer has come; false if it is not the one that is waited for.
    pub fn answer(&mut self, asked: &Asked, verdict: impl FnOnce() -> Verdict) -> bool {
        let is_it = self.asked == *asked && self.verdict.is_none();
        if is_it {
            self.verdict = Some(verdict());
        }
        is_it
    }
}

/// A client has come: what it may say before it logs in depends on whether it needs to. The
/// question that upstream is to be asked first, if there is one.
pub fn welcome(
    session: &mut Session,
    identities: &Identities,
    auth: &Auth,
    now: Tick,
) -> Option<Question> {
    if auth.mode != AuthMode::Passthrough {
        return None;
    }
    match identities.lets_nobody_in(auth.cache_ttl, now) {
        Some(true) => sit(session, identities.nobody()),
        Some(false) => {}
        None => {
            session.check = Some(Check::of(Asked::Nobody, true));
            session.hold();
            return Some(Question { asked: Asked::Nobody, login: None });
        }
    }
    None
}

/// A question that no request waits for is answered.
pub fn settle(session: &mut Session) {
    if let Some(check) = session.check.take_if(|check| check.is_early)
        && let Some(Verdict::Seat(seat)) = check.verdict
    {
        sit(session, seat);
    }
}

/// What upstream says of a login; `None`: the request is to wait.
#[cold]
pub fn judge(
    session: &mut Session,
    user: Option<&[u8]>,
    password: &[u8],
    batch: &mut Batch<'_>,
) -> Option<Verdict> {
    let (identities, auth) = (&batch.shared.identities, &batch.snapshot.limits.auth);
    let print = identities.print(user, password);
    let now = batch.view.now;
    if let Some(verdict) = answered(session, &Asked::Login(print)) {
        return Some(verdict);
    }
    if let Some(seat) = identities.verified(&print, auth.cache_ttl, now) {
        return Some(Verdict::Seat(seat));
    }
    if is_barred(session, batch) {
        return Some(Verdict::Refused(BARRED.into()));
    }
    let login = Login::new(user, password);
    ask(session, Question { asked: Asked::Login(print), login: Some(login) }, batch);
    None
}

/// Lets a client in that has not logged in, if upstream lets in who has no credentials; else this
/// is its answer. `None`: its request is to wait.
#[cold]
pub fn admit_nobody(session: &mut Session, refusal: &[u8], batch: &mut Batch<'_>) -> Option<bool> {
    let (identities, auth) = (&batch.shared.identities, &batch.snapshot.limits.auth);
    let known = identities.lets_nobody_in(auth.cache_ttl, batch.view.now);
    match (answered(session, &Asked::Nobody), known) {
        (Some(Verdict::Seat(seat)), _) => sit(session, seat),
        (None, Some(true)) => sit(session, identities.nobody()),
        (Some(Verdict::Down), _) => {
            fail(session, batch);
            return Some(false);
        }
        (None, None) => {
            ask(session, Question { asked: Asked::Nobody, login: None }, batch);
            return None;
        }
        (Some(Verdict::Refused(_) | Verdict::Full), _) | (None, Some(false)) => {
            session.error(refusal);
            return Some(false);
        }
    }
    Some(true)
}

/// The verdict that a request has waited for.
fn answered(session: &mut Session, asked: &Asked) -> Option<Verdict> {
    let check = session.check.take_if(|check| check.asked == *asked && check.verdict.is_some());
    check.and_then(|check| check.verdict)
}

fn ask(session: &mut Session, question: Question, batch: &mut Batch<'_>) {
    // It may have been looked at again before its answer has come (a bell was rung).
    if session.check.as_ref().is_some_and(|check| check.asked == question.asked) {
        return;
    }
    session.check = Some(Check::of(question.asked.clone(), false));
    batch.links.ask(batch.me, question);
}

/// True if so many logins from this client's address have failed that no more is tried.
#[cold]
pub fn is_barred(session: &Session, batch: &Batch<'_>) -> bool {
    let most = batch.snapshot.limits.auth.failures_max;
    batch.shared.identities.is_barred(&session.client.address, most, batch.view.now)
}

/// What is said of a login that has failed.
#[cold]
pub fn refuse(session: &mut Session, verdict: &Verdict, batch: &Batch<'_>) {
    match verdict {
        Verdict::Refused(text) => {
            if **text != *BARRED {
                batch.shared.identities.count_failure(&session.client.address, batch.view.now);
            }
            count_failure(session, batch);
            session.error(text);
        }
        Verdict::Full => session.error(FULL),
        Verdict::Down => fail(session, batch),
        Verdict::Seat(_) => {}
    }
}

/// A failed login is counted and told.
#[cold]
fn count_failure(session: &Session, batch: &Batch<'_>) {
    batch.block.add(Counter::AuthFailures, 1);
    tracing::warn!(event = "auth_failed", surface = "resp", remote_addr = %session.client.address);
}

/// Upstream could not be asked: as with any other request.
fn fail(session: &mut Session, batch: &Batch<'_>) {
    if batch.snapshot.limits.on_down == OnDown::Close {
        session.ending = Some(Ending::Upstream);
        return;
    }
    let lost = lost_text(Lost::NotExecuted("upstream is down"));
    session.order.reply(&mut session.output, |out| out.extend_from_slice(&lost));
}

/// From here on it rides on this identity; it has no link of its own.
fn sit(session: &mut Session, seat: Seat) {
    session.space = seat.space(session.space.db());
    session.link = None;
    session.seat = Some(seat);
    session.standing.set_authenticated(true);
}
