//! What is stored of a key, for people: nothing that a lookup would change. Off the path of a
//! request.

use crate::cache::entry::Terms;
use crate::cache::{Cache, Entry, Question};
use crate::units::clock::Tick;
use std::time::Duration;

/// One stored reply of a key.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The command's row in the table.
    pub command: u16,
    /// The database.
    pub db: u32,
    /// Accounted bytes.
    pub size: u64,
    /// Since its question was asked.
    pub age: Duration,
    /// Until its deadline.
    pub left: Duration,
}

impl Cache {
    /// What may be served of a key, the newest first; of some only when their barrier has come.
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
        let held = head.chain().filter(|entry| self.is_held(entry, &view));
        held.map(|entry| (entry.variant(now), entry.clone())).collect()
    }

    /// The reply that a hit on this question was served from at that time, if it is still stored.
    pub fn served(&self, question: &Question<'_>, at: Tick) -> Option<Variant> {
        let view = self.view(at);
        let head = self.store.look(question.hash, Entry::clone)?;
        let entry = head.find(question)?;
        let is_the_one = !matches!(entry.judge(&view.without_bans()), Terms::Dead);
        (is_the_one && !entry.is_younger_than(at)).then(|| entry.variant(at))
    }
}
