//! What a worker has to do with identities: upstream is asked about credentials, once however many
//! clients of its log in with the same; and who rides on what upstream has taken back is sent away.

use crate::config::Auth;
use crate::data::acl;
use crate::data::login::{self, Asked, Question, Verdict};
use crate::data::lost::Lost;
use crate::data::settle;
use crate::data::upstream::ClientId;
use crate::data::upstream::check::{self, Answer};
use crate::data::worker::{State, Worker};
use crate::stats::Counter;
use foldhash::HashMap;
use std::rc::Rc;

/// Clients that wait for an answer about their credentials.
pub(super) type Waiting = HashMap<Asked, Vec<ClientId>>;

impl Worker {
    /// A client has come: may it do anything before it logs in, and is anything to be held against
    /// each of its requests?
    pub(super) fn welcome(self: &Rc<Self>, me: ClientId) {
        let now = self.shared.clock.now();
        let mut state = self.state.borrow_mut();
        let State { snapshot, clients, links, .. } = &mut *state;
        let question = clients.session(me).and_then(|session| {
            if self.shared.behind.is_some() {
                session.standing.mind_writes();
            }
            login::welcome(session, &self.shared.identities, &snapshot.limits.auth, now)
        });
        if let Some(question) = question {
            links.ask(me, question);
            drop(state);
            self.start_links();
        }
    }

    /// Asks upstream what clients want it asked.
    #[cold]
    pub(super) fn ask_questions(self: &Rc<Self>, questions: Vec<(ClientId, Question)>) {
        let mut begun = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            for (client, question) in questions {
                let waiting = state.checks.entry(question.asked.clone()).or_default();
                waiting.push(client);
                if waiting.len() == 1 {
                    begun.push(question);
                }
            }
        }
        for question in begun {
            tokio::task::spawn_local(check::run(Rc::clone(self), question));
        }
    }

    /// Upstream has answered, asked after so many doubts: all who wait for that are served on.
    pub fn checked(&self, question: &Question, answer: &Answer, doubts: u64) {
        let (shared, now) = (&self.shared, self.shared.clock.now());
        let most = self.snapshot().limits.auth.identities_max;
        let verdict = || match (answer, &question.asked, &question.login) {
            (Answer::Accepted, Asked::Login(print), Some(login)) => {
                let seat =
                    shared.identities.admit(*print, login, (most, doubts), now, &shared.cache);
                seat.map_or(Verdict::Full, Verdict::Seat)
            }
            (Answer::Accepted, ..) => Verdict::Seat(shared.identities.nobody()),
            (Answer::Refused(text), ..) => Verdict::Refused(text.clone()),
            (Answer::Down, ..) => Verdict::Down,
        };
        if question.asked == Asked::Nobody && *answer != Answer::Down {
            shared.identities.nobody_judged(*answer == Answer::Accepted, doubts, now);
        }
        let mut state = self.state.borrow_mut();
        let State { clients, checks, .. } = &mut *state;
        for client in checks.remove(&question.asked).unwrap_or_default() {
            let Some(member) = clients.get(client) else {
                continue;
            };
            let check = member.session.check.as_mut();
            if check.is_some_and(|check| check.answer(&question.asked, verdict)) {
                login::settle(&mut member.session);
                member.session.release();
                member.wake();
            }
        }
    }

    /// Upstream refuses what a link rides on. `is_login`: the credentials themselves, which it has
    /// taken back; else the database. True if that is so of a client's credentials.
    pub fn identity_refused(&self, index: usize, is_login: bool) -> bool {
        let Some(identity) = self.with_link(index, |link| link.identity.clone()).flatten() else {
            return false;
        };
        if is_login && self.shared.identities.take_back(&identity) {
            tracing::info!(
                event = "identity_lost",
                "upstream does not accept a user's credentials any more: its clients are closed"
            );
            self.shared.bells.ring();
        }
        let lost = match identity.login() {
            _ if !is_login => Lost::NoSelect,
            None => Lost::NoAuth,
            Some(_) => Lost::NotExecuted("upstream does not accept these credentials any more"),
        };
        self.with_desk(index, |link, desk| {
            while !link.is_empty() {
                settle::fail_front(link, lost, desk);
            }
            link.drop_output();
            link.retire();
        });
        self.release_waiters(index);
        true
    }

    /// Who rides on what upstream has taken back is sent away, as a server that deletes a user
    /// closes its connections; links that nobody rides on any more are closed.
    pub(super) fn close_identities(state: &mut State) {
        for (_, member) in &mut state.clients.slab {
            if member.session.seat.as_ref().is_some_and(|seat| seat.identity().is_gone()) {
                member.closing = Some(Counter::ClosedKilled);
                member.wake();
            }
        }
        state.links.close_forgotten();
    }

    /// The users of the configuration may be others, or may something else: their clients are held
    /// to that, and who is of none any more is closed, as by a server that deletes a user.
    pub(super) fn follow_users(state: &mut State, before: &Auth) {
        let auth = &state.snapshot.limits.auth;
        if auth.mode == before.mode && auth.users == before.users {
            return;
        }
        for (_, member) in &mut state.clients.slab {
            if !acl::follow(&mut member.session, auth) {
                member.closing = Some(Counter::ClosedKilled);
                member.wake();
            }
        }
    }

    /// The owner task of a shared link ends for good: who used it finds another.
    pub fn retire_shared(&self, index: usize) {
        self.with_desk(index, |link, desk| {
            while !link.is_empty() {
                settle::fail_front(link, Lost::NotExecuted("nobody rides on this link"), desk);
            }
        });
        let mut state = self.state.borrow_mut();
        let State { clients, links, .. } = &mut *state;
        links.remove(index);
        for (_, member) in &mut clients.slab {
            if member.session.link == Some(index) {
                member.session.link = None;
                member.session.waits_for_link = false;
                member.wake();
            }
        }
    }
}
