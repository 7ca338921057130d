//! What is stored of a key, for people: nothing that a lookup would change. Off the path of a
//! request.

use crate::cache::entry::Terms;
use crate::cache::{Cache, Entry, Question, Space, View};
use crate::units::clock::Tick;
use std::time::Duration;

/// One stored reply of a key.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The command's row in the table.
    pub command: u16,
    /// Whose database.
    pub space: Space,
    /// Accounted bytes.
    pub size: u64,
    /// Since its question was asked.
    pub age: Duration,
    /// Until its deadline; of what is past its time nothing.
    pub left: Duration,
    /// True if it is past its time, and may be served by an [`crate::cache::Excuse`] only.
    pub is_stale: bool,
}

impl Cache {
    /// True if something of this key may be served.
    pub fn holds(&self, hash: u64, key: &[u8], now: Tick) -> bool {
        let view = self.view(now);
        let entry = self.store.look(hash, Entry::clone);
        entry.is_some_and(|entry| entry.key() == key && self.is_held(&entry, &view))
    }

    /// What is held of a key, the newest first: of some it may be served only when their barrier
    /// has come, and of what is past its time only for a reason.
    pub fn variants(&self, key: &[u8], now: Tick) -> Vec<Variant> {
        self.replies(key, now).iter().map(|(variant, _)| *variant).collect()
    }

    /// The same, each with what is stored.
    pub fn replies(&self, key: &[u8], now: Tick) -> Vec<(Variant, Entry)> {
        let view = self.view(now);
        let head = self.store.look(self.hash(key), Entry::clone);
        let Some(head) = head.filter(|head| head.key() == key) else {
            return Vec::new();
        };
        self.shown(&head, &view, now).map(|(variant, entry)| (variant, entry.clone())).collect()
    }

    /// Of a key's replies those that are shown.
    pub(super) fn shown<'e>(
        &self,
        head: &'e Entry,
        view: &View,
        now: Tick,
    ) -> impl Iterator<Item = (Variant, &'e Entry)> {
        head.chain().filter_map(move |entry| {
            let is_held = self.is_held(entry, view);
            let is_stale = !is_held && self.keeps(entry, now) && self.is_unbanned(entry);
            (is_held || is_stale).then(|| (entry.variant(now, is_stale), entry))
        })
    }

    /// The reply that a hit on this question was served from at that time, if it is still stored.
    pub fn served(&self, question: &Question<'_>, at: Tick) -> Option<Variant> {
        let view = self.view(at);
        let head = self.store.look(question.hash, Entry::clone)?;
        let entry = head.find(question)?;
        let is_dead = entry.judge(&view.without_bans()) == Terms::Dead;
        let is_stale = is_dead && self.keeps(entry, at);
        let is_the_one = (!is_dead || is_stale) && !entry.is_younger_than(at);
        is_the_one.then(|| entry.variant(at, is_stale))
    }
}
