//! How a client stands with nearside beyond its link: may it use commands, has it asked to be read
//! for past the cache (PROXY BYPASS), and what became of its last command (PROXY LAST).
//!
//! A hit pays for none of it: [`Standing::is_plain`] is one flag that each request looks at anyway.
//! What is no hit leaves a note with its number among the client's commands; where the last command
//! has none, it was a hit, or its row says the rest. Only a client that has asked once has its keys
//! remembered from then on, so that it is told the age and the rule of what it got.

use crate::cache::{Extra, Question, Space};
use crate::command::acl::Rights;
use crate::command::{CacheRule, Route, Spec};
use crate::data::batch::Batch;
use crate::data::bounds;
use crate::data::consult;
use crate::data::forward;
use crate::data::registry::Client;
use crate::data::session::{Flow, Session};
use crate::stats::Counter;
use crate::units::clock::Tick;
use crate::wire::request::Request;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A read with a longer key, or longer arguments, is not remembered.
const REMEMBERED_MAX: usize = 4096;

/// What one client is owed beside its replies.
#[derive(Debug, Default)]
pub struct Standing {
    /// True if a request's row is all that is to be looked at.
    is_plain: bool,
    is_authenticated: bool,
    reads_upstream: bool,
    /// True if there is write-behind: any request may be about a key that waits.
    minds_writes: bool,
    /// What its user may; `None`: everything.
    rights: Option<Arc<Rights>>,
    noted: Note,
    /// The last command, when PROXY LAST comes.
    previous: Option<Note>,
    memory: Option<Box<Memory>>,
}

/// What became of a request, and which it was.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Its number among its client's commands, from 1.
    number: u64,
    /// Its row; `u16::MAX` for a command that nobody knows.
    pub row: u16,
    /// What became of it; `None` = its row says it.
    pub fate: Option<Fate>,
}

impl Default for Note {
    fn default() -> Self {
        Self { number: 0, row: u16::MAX, fate: None }
    }
}

/// What becomes of a request that its row does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A read that went upstream.
    Miss,
    /// One that did so only because of the mode `observe`.
    WouldHit,
    /// A read that was served past its time, counted as this.
    Stale(Counter),
    /// A read that waited for another's.
    Coalesced,
    /// A read that went past the cache, for this reason.
    Bypass(Counter),
    /// What stands in for upstream was asked, which is down.
    Fallback,
    /// A command that only upstream knows.
    Forwarded,
    /// A write that is acknowledged before upstream has it.
    Behind,
    /// Nobody knows it, or it does not fit its row.
    Refused,
}

impl Fate {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::WouldHit => "would_hit",
            Self::Stale(_) => "stale",
            Self::Coalesced => "coalesced",
            Self::Bypass(_) => "bypass",
            Self::Fallback => "fallback",
            Self::Forwarded => "forwarded",
            Self::Behind => "behind",
            Self::Refused => "refused",
        }
    }

    /// Why it went past the cache, or was served past its time.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Bypass(reason) | Self::Stale(reason) => {
                reason.row().labels.first().map(|(_, word)| *word)
            }
            _ => None,
        }
    }
}

/// The last read of a client that wants to be told of it.
#[derive(Debug, Default)]
struct Memory {
    number: u64,
    at: Tick,
    command: u16,
    space: Space,
    proto: u8,
    key: Vec<u8>,
    extra: Vec<u8>,
}

impl Standing {
    /// A client that has just come; it may use commands, or must authenticate first.
    pub fn new(is_authenticated: bool) -> Self {
        Self { is_plain: is_authenticated, is_authenticated, ..Self::default() }
    }

    /// There is write-behind: each of its requests is held against what waits.
    pub fn mind_writes(&mut self) {
        self.minds_writes = true;
        self.settle();
    }

    /// True if a request's row is all that is to be looked at.
    #[inline]
    pub const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// True if it may use commands.
    #[inline]
    pub const fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// From here on it may, or may not.
    pub fn set_authenticated(&mut self, is_authenticated: bool) {
        self.is_authenticated = is_authenticated;
        self.settle();
    }

    /// What its user may; `None`: everything.
    pub const fn rights(&self) -> Option<&Arc<Rights>> {
        self.rights.as_ref()
    }

    /// From here on its user may do this.
    pub fn set_rights(&mut self, rights: Option<Arc<Rights>>) {
        self.rights = rights;
        self.settle();
    }

    /// True if its reads go past the cache.
    pub const fn reads_upstream(&self) -> bool {
        self.reads_upstream
    }

    /// PROXY BYPASS.
    pub fn set_reads_upstream(&mut self, reads_upstream: bool) {
        self.reads_upstream = reads_upstream;
        self.settle();
    }

    /// RESET: as a client that has just come.
    pub fn reset(&mut self, is_authenticated: bool) {
        let (minds_writes, noted) = (self.minds_writes, self.noted);
        *self = Self { minds_writes, noted, ..Self::new(is_authenticated) };
        self.settle();
    }

    fn settle(&mut self) {
        self.is_plain = self.is_authenticated
            && self.rights.is_none()
            && !self.reads_upstream
            && !self.minds_writes
            && self.memory.is_none();
    }

    /// Something became of a request that its row does not tell.
    pub fn note(&mut self, row: u16, fate: Fate, number: u64) {
        self.noted = Note { number, row, fate: Some(fate) };
    }

    /// The last read, which went upstream, has failed there and was served past its time.
    pub fn turn_stale(&mut self, reason: Counter) {
        if matches!(
            self.noted.fate,
            Some(Fate::Miss | Fate::Coalesced | Fate::Bypass(_) | Fate::Fallback)
        ) {
            self.noted.fate = Some(Fate::Stale(reason));
        }
    }

    /// True if the last read was served past its time.
    pub const fn was_stale(&self) -> bool {
        matches!(self.noted.fate, Some(Fate::Stale(_)))
    }

    /// PROXY LAST may have come, the `nth` of its batch: which was the command before it, as long
    /// as that can be told. `last` = the last row served in this batch; `u16::MAX` for none.
    pub fn look_back(&mut self, client: &Client, nth: u64, last: u16) {
        let number = number(client, nth).wrapping_sub(1);
        let row = match last {
            u16::MAX => client.command.load(Ordering::Relaxed),
            row => row,
        };
        self.previous = Some(if self.noted.number == number {
            self.noted
        } else {
            Note { number, row, fate: None }
        });
    }

    /// The command before PROXY LAST.
    pub fn take_previous(&mut self) -> Note {
        self.previous.take().unwrap_or_default()
    }

    /// The read that `note` is of, and when it was asked; `None` if it was none, or its client had
    /// not yet said that it wants to be told. From here on it has.
    pub fn recall(&mut self, note: &Note) -> Option<(Question<'_>, Tick)> {
        let is_new = self.memory.is_none();
        let memory = &**self.memory.get_or_insert_default();
        self.is_plain = false;
        let is_of_it = !is_new && memory.number == note.number && memory.command == note.row;
        let &Memory { at, command, space, proto, .. } = memory;
        let extra = Extra::Written(&memory.extra);
        is_of_it.then(|| (Question { key: &memory.key, hash: 0, command, space, proto, extra }, at))
    }

    fn remember(&mut self, question: &Question<'_>, number: u64, at: Tick) {
        let length = question.key.len() + question.extra.written_len();
        let Some(memory) = self.memory.as_mut().filter(|_| length <= REMEMBERED_MAX) else {
            return;
        };
        (memory.number, memory.at, memory.command) = (number, at, question.command);
        (memory.space, memory.proto) = (question.space, question.proto);
        memory.key.clear();
        memory.key.extend_from_slice(question.key);
        memory.extra.clear();
        question.extra.write(&mut memory.extra);
    }
}

/// The number of a client's request that is the `nth` of its batch.
pub fn number(client: &Client, nth: u64) -> u64 {
    client.commands.load(Ordering::Relaxed).wrapping_add(nth)
}

/// A request of a client whose reads are remembered, or go past the cache: `None` if it is to be
/// served as any other.
#[cold]
pub fn serve(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let is_read = spec.cacheable()
        && spec.accepts(request.len())
        && !matches!(batch.snapshot.limits.policy.route(spec), Route::Refuse(_));
    if !is_read {
        return None;
    }
    if session.standing.memory.is_some() && spec.cache != CacheRule::Multi {
        let (number, now) = (number(&session.client, batch.commands), batch.view.now);
        let question = consult::question(session, spec, request, 0);
        session.standing.remember(&question, number, now);
    }
    if !session.standing.reads_upstream {
        return None;
    }
    // What another worker asked keeps no order with what its own link would ask.
    if session.is_abroad {
        return Some(Flow::Barrier);
    }
    batch.last = spec.index;
    if bounds::permits(session, spec, request, batch) {
        forward::command(session, spec, request, batch);
    }
    Some(Flow::Next)
}

/// What became of a command of this route, where nothing was noted of it.
pub fn by_route(route: Route) -> &'static str {
    match route {
        Route::Cacheable | Route::CacheableByKey => "hit",
        Route::Local => "local",
        Route::Own(_) => "own",
        _ => "forwarded",
    }
}
