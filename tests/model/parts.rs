//! Who is on the stage: the clients, the workers, and what the model knows of their tickets.

use crate::fixture::Op;
use crate::server::ByName;
use nearside::cache::Token;
use nearside::data::ahead::Ahead;
use nearside::data::flights::Landing;
use nearside::data::session::Session;
use nearside::data::upstream::{Kind, Pipelines, Ticket, Waiter};
use nearside::snapshot::Snapshot;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// A request of a client whose answer has not come.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Asked {
    pub(crate) op: Op,
    pub(crate) at: u64,
    /// What the key is named, upstream, under the snapshot that it was asked under.
    pub(crate) name: usize,
    /// The newest version by that name that anybody had seen then.
    pub(crate) all: u32,
    /// The same, among the clients of this instance.
    pub(crate) here: u32,
    /// The version at the last ban.
    pub(crate) told: u32,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Answer {
    Hit,
    Joined,
    Own,
}

pub(crate) struct Person {
    pub(crate) session: Session,
    pub(crate) next: usize,
    pub(crate) seen: ByName<u32>,
    pub(crate) out: VecDeque<Asked>,
    /// Requests that were received and not served yet, each with the newest version that anybody
    /// had seen when it came.
    pub(crate) unserved: VecDeque<(Op, u32)>,
    /// The round that the barrier begins with that its requests wait for, or have waited for.
    pub(crate) wants: u64,
}

pub(crate) struct Thread {
    pub(crate) links: Pipelines,
    pub(crate) ahead: Ahead,
    pub(crate) up: VecDeque<Vec<Vec<u8>>>,
    pub(crate) down: VecDeque<Vec<u8>>,
    pub(crate) letters: VecDeque<Landing>,
    /// What the link's real tickets are, for the fingerprint.
    pub(crate) tickets: VecDeque<Mirror>,
}

/// A ticket as the model knows it.
pub(crate) struct Mirror {
    pub(crate) owner: usize,
    pub(crate) joined: Vec<usize>,
    pub(crate) op: Op,
    pub(crate) token: Option<Token>,
    pub(crate) asked_at: u64,
    pub(crate) answered: Option<Vec<u8>>,
    pub(crate) is_sealed: bool,
    pub(crate) is_published: bool,
}

impl Thread {
    pub(crate) fn new(snapshot: &Rc<Snapshot>) -> Self {
        Self {
            links: Pipelines::new(Rc::clone(snapshot), Arc::default()),
            ahead: Ahead::default(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            letters: VecDeque::new(),
            tickets: VecDeque::new(),
        }
    }

    /// What the key is named under the snapshot that it serves under.
    pub(crate) fn name(&self) -> usize {
        usize::try_from(self.links.snapshot().number).unwrap()
    }

    /// Hands what was queued to the socket, as the link's owner task does.
    pub(crate) fn seal(&mut self) {
        let link = self.links.get(0).unwrap();
        link.seal();
        let bytes = std::mem::take(&mut link.writing);
        let text = std::str::from_utf8(&bytes).unwrap();
        let mut lines = text.lines();
        while let Some(count) = lines.next() {
            let count = count.trim_start_matches('*').parse().unwrap();
            let words = lines.by_ref().skip(1).step_by(2).take(count);
            self.up.push_back(words.map(|word| word.as_bytes().to_vec()).collect());
        }
        self.tickets.iter_mut().for_each(|ticket| ticket.is_sealed = true);
    }
}

/// The flight that a read of this worker has just joined.
pub(crate) fn joined<'t>(
    threads: &'t mut [Thread],
    own: usize,
    fresh: Option<&Token>,
) -> &'t mut Mirror {
    let takes = |ticket: &Mirror| {
        let tokens = ticket.token.zip(fresh);
        tokens.is_some_and(|(flight, fresh)| flight.may_be_joined_by(fresh))
    };
    let last = threads[own].tickets.iter().rposition(|ticket| ticket.op == Op::Read);
    if let Some(last) = last
        && threads[own].tickets[last].answered.is_none()
        && (!threads[own].tickets[last].is_sealed || takes(&threads[own].tickets[last]))
    {
        return &mut threads[own].tickets[last];
    }
    let mut all = threads.iter_mut().flat_map(|thread| &mut thread.tickets);
    all.find(|ticket| ticket.is_published && ticket.answered.is_none()).unwrap()
}

/// Who has his answer with the next frame of this ticket.
pub(crate) fn waiters(ticket: &Ticket) -> Vec<Waiter> {
    match &ticket.kind {
        Kind::Read(read) if read.is_answered => Vec::new(),
        Kind::Parts(parts) if parts.is_answered => Vec::new(),
        _ => std::iter::once(ticket.owner).chain(ticket.joined.iter().copied()).collect(),
    }
}
