//! What a link knows of each answer that it awaits: whose it is, and what is to be done with it.

use crate::cache::{Entry, Extra, Question, Space, Token};
use crate::command::Spec;
use crate::data::fields::Fields;
use crate::data::local::Edit;
use crate::data::pinned::Step;
use crate::data::pinned::exec::Exec;
use crate::data::refresh::Refresh;
use crate::data::script::{Call, Script};
use crate::data::shadow::Shadow;
use crate::data::walk::Walk;
use crate::units::clock::Tick;
use bytes::Bytes;
use std::collections::VecDeque;

/// Names a client. The number tells a reused place from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// The place in the worker's slab.
    pub place: u32,
    /// Counts connections.
    pub number: u32,
}

/// Where one reply goes: a slot of a client's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who asked.
    pub client: ClientId,
    /// Which of its requests.
    pub slot: u32,
}

impl Waiter {
    /// Of what nearside asks for itself.
    pub const NOBODY: Self = Self { client: ClientId { place: u32::MAX, number: 0 }, slot: 0 };
}

/// The promise of one answer (of a read with its PTTL: two).
#[derive(Debug)]
pub struct Ticket {
    /// Who asked first.
    pub owner: Waiter,
    /// Who joined (R5). Empty, and then without memory, for nearly every ticket.
    pub joined: Vec<Waiter>,
    /// The command.
    pub spec: &'static Spec,
    /// When it was asked.
    pub asked_at: Tick,
    /// Keys it names: that many of the front of its link's.
    pub keys: u32,
    /// Bytes of `texts` that belong to it.
    pub text_len: u32,
    /// Answers that are awaited for it.
    pub answers: u32,
    /// True of what may have changed keys that it does not name: its reply waits for a barrier.
    pub is_opaque: bool,
    /// True of a read that was asked before, on a link that was closed.
    pub is_again: bool,
    /// What is done with the answer.
    pub kind: Kind,
}

impl Ticket {
    /// A ticket that names no keys and keeps no text.
    #[inline]
    pub const fn new(owner: Waiter, spec: &'static Spec, asked_at: Tick, kind: Kind) -> Self {
        Self {
            owner,
            joined: Vec::new(),
            spec,
            asked_at,
            keys: 0,
            text_len: 0,
            answers: 1,
            is_opaque: false,
            is_again: false,
            kind,
        }
    }

    /// That of a read, for which so many answers come.
    #[inline]
    pub fn of_read(
        owner: Waiter,
        spec: &'static Spec,
        asked_at: Tick,
        read: Read,
        answers: u32,
    ) -> Self {
        let (joined, keys, text_len, kind) = (Vec::new(), 0, 0, Kind::Read(read));
        let (is_opaque, is_again) = (false, false);
        Self { owner, joined, spec, asked_at, keys, text_len, answers, is_opaque, is_again, kind }
    }

    /// All who wait, nearside itself included.
    pub fn waiters(&self) -> impl Iterator<Item = Waiter> {
        std::iter::once(self.owner).chain(self.joined.iter().copied())
    }

    /// Who asked first; `None` if that was nearside itself.
    pub fn client(&self) -> Option<Waiter> {
        (self.owner.client != Waiter::NOBODY.client).then_some(self.owner)
    }
}

/// What is done with an answer.
#[derive(Debug)]
pub enum Kind {
    /// Delivered; what it may have changed is invalidated first.
    Forward,
    /// As [`Kind::Forward`], of a list of which its client wants only what this glob matches.
    Listed(Box<[u8]>),
    /// As [`Kind::Forward`], but its reply is to tell of nearside as well.
    Edited(Box<Edit>),
    /// Delivered, and perhaps stored.
    Read(Read),
    /// The values of several keys, and what is known of the others.
    Parts(Box<Parts>),
    /// Held against a hit.
    Shadow(Box<Shadow>),
    /// The link's canary: what came before it is proved, or the link is closed.
    Canary,
    /// A walk that needs several requests before it has an answer.
    Walk(Box<Walk>),
    /// On a client's own link: the answer changes what that link holds.
    Own(Box<Step>),
    /// Delivered as the answer to a forwarded command, unless the server has lost the script.
    Script(Script),
    /// FCALL, before which its library is read.
    Call(Box<Call>),
    /// EXEC, before which the libraries of its functions are read.
    Exec(Box<Exec>),
}

/// A read of one key.
#[derive(Debug)]
pub struct Read {
    /// Hash of the key; also the first of its `hashes`.
    pub hash: u64,
    /// The right to be joined and, with `fills`, to fill.
    pub token: Option<Token>,
    /// True if its reply is stored and a PTTL follows.
    pub fills: bool,
    /// The rule of its key.
    pub rule: u16,
    /// Bytes of its text that are the key; the rest are its arguments.
    pub key_len: u32,
    /// Whose database.
    pub space: Space,
    /// 2 or 3 where the reply differs between protocols, else 0.
    pub proto: u8,
    /// Name of its flight.
    pub flight: u64,
    /// True while clients of other workers may join it.
    pub is_published: bool,
    /// Set if no client has asked for it.
    pub refresh: Option<Refresh>,
    /// Set between the two answers, if the first was stored.
    pub unproved: Option<Entry>,
    /// What is known of the hash fields that it names.
    pub fields: Fields,
    /// True once the value was delivered: the next answer is the PTTL.
    pub is_answered: bool,
}

impl Read {
    /// What was asked: `text` is the ticket's.
    #[inline]
    pub fn question<'t>(&self, spec: &Spec, text: &'t [u8]) -> Question<'t> {
        let (key, extra) = text.split_at_checked(self.key_len as usize).unwrap_or_default();
        Question {
            key,
            hash: self.hash,
            command: spec.index,
            space: self.space,
            proto: self.proto,
            extra: Extra::Written(extra),
        }
    }
}

/// An MGET of which some values were found here.
#[derive(Debug)]
pub struct Parts {
    /// All of it as a client sends it, should the link be closed before the answer.
    pub whole: Bytes,
    /// The values, in the order of the client's keys; `None` = asked upstream, in order.
    pub values: Vec<Option<Bytes>>,
    /// What was asked upstream, in order.
    pub asked: Vec<Part>,
    /// Answers of PTTLs still to come, as indices into `asked`.
    pub probes: VecDeque<usize>,
    /// True once the values were delivered.
    pub is_answered: bool,
}

/// One key of an MGET that was asked upstream.
#[derive(Debug)]
pub struct Part {
    /// The client's key.
    pub key: Box<[u8]>,
    /// Its hash.
    pub hash: u64,
    /// The right to fill.
    pub token: Option<Token>,
    /// True if a PTTL follows.
    pub fills: bool,
    /// The rule of its key.
    pub rule: u16,
    /// Set between the two answers.
    pub unproved: Option<Entry>,
}
