//! What belongs to the tickets of one link, in two rings, so that a request costs no allocation of
//! its own.
//!
//! ```text
//!   hashes     the keys that the tickets name, in their order
//!   texts      key and arguments of the reads that may fill or be joined, in their order
//! ```
//!
//! In: what a ticket names, before it is pushed. Out: the same, when it is the front one, or by its
//! place. Invariant: the sums of the tickets' `keys` and `text_len` are the lengths of `hashes` and
//! `texts`.

use super::Ticket;
use crate::cache::Question;
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Rings {
    pub(super) hashes: VecDeque<u64>,
    texts: BytesMut,
    /// Bytes ever taken from the front of `texts`.
    taken: u64,
}

impl Rings {
    /// Keeps a text. Its length.
    #[inline]
    pub(super) fn keep(&mut self, text: &[u8]) -> u32 {
        self.texts.extend_from_slice(text);
        u32::try_from(text.len()).unwrap_or(u32::MAX)
    }

    /// Keeps a question's text. Its length, and where it begins of all text that there ever was.
    #[inline]
    pub(super) fn keep_question(&mut self, question: &Question<'_>) -> (u32, u64) {
        let before = self.texts.len();
        self.texts.extend_from_slice(question.key);
        question.extra.write(&mut self.texts);
        let length = u32::try_from(self.texts.len() - before).unwrap_or(u32::MAX);
        (length, self.taken + before as u64)
    }

    /// The text of a ticket that begins there.
    #[inline]
    pub(super) fn text_at(&self, begin: u64, ticket: &Ticket) -> Option<&[u8]> {
        let begin = usize::try_from(begin.checked_sub(self.taken)?).ok()?;
        self.texts.get(begin..begin + ticket.text_len as usize)
    }

    /// The text of the front ticket.
    #[inline]
    pub(super) fn front_text(&self, ticket: &Ticket) -> Option<&[u8]> {
        self.texts.get(..ticket.text_len as usize)
    }

    /// Takes off what belongs to the front ticket; `keys` is called with each key.
    #[inline]
    pub(super) fn leave(&mut self, ticket: &Ticket, mut keys: impl FnMut(u64)) {
        for _ in 0..ticket.keys {
            self.hashes.pop_front().map(&mut keys);
        }
        let length = self.texts.len().min(ticket.text_len as usize);
        if length > 0 {
            self.texts.advance(length);
            self.taken += length as u64;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.texts.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.hashes.clear();
        self.taken += self.texts.len() as u64;
        self.texts.clear();
    }
}
