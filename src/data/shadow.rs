//! Shadow checks: a few hits are read again upstream, to see whether the cache was right.
//!
//! ```text
//!   one hit in N --> the same read upstream, which no client waits for --> the same? else:
//!     0s    it differs; it may have been changed since, or its push is on its way
//!     1s    the very same entry is served still, a second later
//!     10s   or ten: nobody will tell of that change any more
//! ```
//!
//! Such a read takes no token, fills nothing and invalidates nothing: what it measures would not be
//! the cache without it. N is `cache.shadow_checks`. What is on its way, and what is to be looked
//! at again, is bounded; beyond that nothing is checked.

use crate::cache::{Cache, Entry, Extra, Lookup, Question, Reply, Space};
use crate::command::{self, Spec};
use crate::data::batch::Batch;
use crate::data::forward;
use crate::data::order::Frame;
use crate::data::sample::OneIn;
use crate::data::settle::{Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket, Waiter};
use crate::stats::{Block, Counter};
use crate::units::clock::Tick;
use crate::wire::reply;
use crate::wire::write::Proto;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Checks of one worker that are on their way, and differences that are looked at again, at most.
const CHECKS_MAX: usize = 64;

/// When a difference is looked at again, and what is counted then.
const AGAIN: [(Duration, Counter); 2] = [
    (Duration::from_secs(1), Counter::ShadowMismatchSecond),
    (Duration::from_secs(10), Counter::ShadowMismatchTenSeconds),
];

/// The checks of one worker.
#[derive(Clone, Debug, Default)]
pub struct Shadows(Rc<State>);

#[derive(Debug, Default)]
struct State {
    one_in: OneIn,
    /// Those that were chosen in this batch.
    chosen: RefCell<Vec<Shadow>>,
    /// Answers that are awaited.
    out: Cell<usize>,
    differences: RefCell<Vec<Difference>>,
}

/// A hit to be held against what upstream has.
#[derive(Debug)]
pub struct Shadow {
    spec: &'static Spec,
    /// Key, then arguments as [`Extra::write`] writes them.
    text: Vec<u8>,
    key_length: usize,
    hash: u64,
    space: Space,
    proto: u8,
    /// The protocol of the link.
    link: Proto,
    served: Entry,
    all: Shadows,
}

/// A hit that upstream had otherwise.
#[derive(Debug)]
struct Difference {
    shadow: Shadow,
    since: Tick,
    /// How many of [`AGAIN`] are over.
    seen: usize,
}

impl Shadow {
    fn question(&self) -> Question<'_> {
        let (key, extra) = self.text.split_at_checked(self.key_length).unwrap_or_default();
        Question {
            key,
            hash: self.hash,
            command: self.spec.index,
            space: self.space,
            proto: self.proto,
            extra: Extra::Written(extra),
        }
    }
}

/// True if a hit is one to be checked.
pub fn choose(proto: Proto, question: &Question<'_>, batch: &Batch<'_>) -> bool {
    let limits = &batch.snapshot.limits;
    let state = &*batch.links.samples.shadows.0;
    if !state.one_in.is_it(limits.shadow_checks, limits.sample)
        || state.out.get() + state.chosen.borrow().len() >= CHECKS_MAX
    {
        return false;
    }
    let spec = command::all().get(usize::from(question.command));
    let served = held(&batch.shared.cache, question, batch.view.now);
    let (Some(spec), Some(served)) = (spec, served) else {
        return false;
    };
    let mut text = question.key.to_owned();
    question.extra.write(&mut text);
    state.chosen.borrow_mut().push(Shadow {
        spec,
        text,
        key_length: question.key.len(),
        hash: question.hash,
        space: question.space,
        proto: question.proto,
        link: proto,
        served,
        all: batch.links.samples.shadows.clone(),
    });
    true
}

/// What a hit would be served from.
fn held(cache: &Cache, question: &Question<'_>, now: Tick) -> Option<Entry> {
    let mut found = None;
    let looked = cache.get(question, &cache.view(now), |entry| found = Some(entry.clone()));
    found.filter(|_| matches!(looked, Lookup::Hit | Lookup::Due))
}

/// Asks for what was chosen in this batch.
pub fn ask(batch: &mut Batch<'_>) {
    let state = Rc::clone(&batch.links.samples.shadows.0);
    for shadow in state.chosen.take() {
        let link = batch.links.at(shadow.space, shadow.link);
        if !link.is_up() || link.is_full() {
            continue;
        }
        let (spec, now, names) = (shadow.spec, batch.view.now, &batch.snapshot.names);
        forward::write_question(&mut link.output, spec, &shadow.question(), names);
        state.out.set(state.out.get() + 1);
        link.push(Ticket::new(Waiter::NOBODY, spec, now, Kind::Shadow(Box::new(shadow))));
        link.wake();
    }
}

/// What upstream has. An error says nothing.
#[cold]
pub fn answer(link: &mut Pipeline, frame: &Frame<'_>, desk: &Desk<'_>) -> Result<(), Fault> {
    let Some(Ticket { kind: Kind::Shadow(shadow), .. }) = link.pop(|_| {}) else {
        return Err(Fault::Stray);
    };
    lost(&shadow);
    let bytes = frame.bytes();
    if matches!(bytes.first(), Some(b'-' | b'!')) {
        return Ok(());
    }
    desk.block.add(Counter::ShadowChecks, 1);
    let is_same = match shadow.served.reply() {
        Reply::Nil => reply::is_null(bytes),
        Reply::Bytes(served) => served == bytes,
    };
    if !is_same {
        desk.block.add(Counter::ShadowMismatch, 1);
        let state = Rc::clone(&shadow.all.0);
        let mut differences = state.differences.borrow_mut();
        if differences.len() < CHECKS_MAX {
            differences.push(Difference { shadow: *shadow, since: desk.now, seen: 0 });
        }
    }
    Ok(())
}

/// There will be no answer any more.
pub fn lost(shadow: &Shadow) {
    let out = &shadow.all.0.out;
    out.set(out.get().saturating_sub(1));
}

/// Once a second: of what differed, what is served still?
pub fn look_again(shadows: &Shadows, cache: &Cache, block: &Block, now: Tick) {
    shadows.0.differences.borrow_mut().retain_mut(|difference| {
        let Some((after, counter)) = AGAIN.get(difference.seen).copied() else {
            return false;
        };
        if now.since(difference.since) < after {
            return true;
        }
        let shadow = &difference.shadow;
        let is_served =
            held(cache, &shadow.question(), now).is_some_and(|entry| entry.is(&shadow.served));
        block.add(counter, u64::from(is_served));
        difference.seen += 1;
        is_served && difference.seen < AGAIN.len()
    });
}
