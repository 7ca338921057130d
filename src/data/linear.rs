//! Level `linear`: a hit is as if upstream had been asked.
//!
//! ```text
//!   stored --> its barrier was wanted after the request had come? --> hit
//!                \--> no: wait for one, and look again; where none comes, upstream is asked
//! ```
//!
//! In: a read that the cache could answer, but for its lease: at this level that is none at all, so
//! nothing is a hit before a barrier has passed that was wanted when the request was here. Whoever
//! waits at one time shares its two rounds. One barrier is good for everything that its client had
//! sent by then, because nothing more is read from a client that waits. What is not stored is read
//! upstream at once.

use crate::cache::{Barrier, Lookup, Passage, Question};
use crate::command::Spec;
use crate::config::Level;
use crate::data::batch::Batch;
use crate::data::session::{Flow, Session};
use crate::data::{Shared, barrier, consult};
use crate::units::clock::Tick;

/// A barrier that a session waits for, or has waited for.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    barrier: Barrier,
    /// It is waited for no longer than this.
    until: Tick,
}

impl Sought {
    /// True while there is something to wait for.
    pub fn is_awaited(&self, shared: &Shared, now: Tick) -> bool {
        shared.cache.passage(&self.barrier) == Passage::Awaited && now < self.until
    }
}

/// A read whose lease is over: served all the same, or later, if its rule is of this level. `None`
/// if upstream is to be asked.
#[cold]
pub fn read(
    session: &mut Session,
    spec: &'static Spec,
    question: &Question<'_>,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let (shared, rule) = (batch.shared, batch.snapshot.rules.find(question.key));
    if rule.level != Level::Linear {
        return None;
    }
    let Some(sought) = session.sought else {
        let barrier = shared.cache.want_barrier()?;
        shared.live.want_barrier();
        let until = barrier::until(batch.view.now, batch.snapshot);
        session.sought = Some(Sought { barrier, until });
        batch.seekers.push(batch.me);
        return Some(Flow::Behind);
    };
    if sought.is_awaited(shared, batch.view.now) {
        return Some(Flow::Behind);
    }
    if shared.cache.passage(&sought.barrier) != Passage::Passed {
        return None;
    }
    let (view, mut stored) = (batch.view.proved(), None);
    let looked = shared.cache.get(question, &view, |entry| stored = Some(entry.clone()));
    let (Lookup::Hit | Lookup::Due, Some(entry)) = (looked, stored) else {
        return None;
    };
    batch.hits += 1;
    consult::serve(session, spec, rule, question, &entry, batch);
    Some(Flow::Next)
}
