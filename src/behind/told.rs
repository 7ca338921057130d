//! Who is to hear of writes: clients that wait for an acknowledgement.
//!
//! In: who waits, in the order of the writes; up to where the log has them, or what upstream said.
//! Out: their replies, once each.
//!
//! Invariant: nobody waits for longer than he was told to. Whoever has is told that nobody knows
//! what comes of his write, which stays where it is.

use crate::mail::Answer;
use crate::units::clock::Tick;
use bytes::Bytes;
use std::collections::VecDeque;

/// What is said when neither the log nor upstream has a write in time.
const LATE: &[u8] = b"-ERR proxy: outcome unknown: neither the log of write_behind nor upstream \
has this write yet\r\n";

/// A client waits for a write.
#[derive(Debug)]
pub struct Told {
    /// What it is told when the log has it.
    pub reply: Bytes,
    /// It waits no longer than this.
    pub until: Tick,
    /// The way to it.
    pub answer: Answer,
}

impl Told {
    /// Tells it.
    pub fn tell(self) {
        self.answer.give(self.reply);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Audience(VecDeque<(u64, Told)>);

impl Audience {
    /// Somebody waits for a write that is newer than all before it. True if nobody else waits.
    pub fn add(&mut self, number: u64, told: Told) -> bool {
        self.0.push_back((number, told));
        self.0.len() == 1
    }

    /// True if somebody waits for this write.
    pub fn has(&self, number: u64) -> bool {
        self.0.binary_search_by_key(&number, |(number, _)| *number).is_ok()
    }

    /// Upstream has all up to `last`, and said this of them. Nobody is told before the log can
    /// bring none of them back.
    pub fn hear(&mut self, last: u64, mut said: impl FnMut(u64) -> Option<Bytes>) {
        for (number, told) in self.0.iter_mut().take_while(|(number, _)| *number <= last) {
            if let Some(reply) = said(*number) {
                told.reply = reply;
            }
        }
    }

    /// Takes out who waits for the writes up to this one.
    pub fn take(&mut self, last: u64) -> Vec<Told> {
        let count = self.0.partition_point(|(number, _)| *number <= last);
        self.0.drain(..count).map(|(_, told)| told).collect()
    }

    /// Takes out who has waited for too long, and when the next will have.
    pub fn take_late(&mut self, now: Tick) -> (Vec<Told>, Option<Tick>) {
        let mut late = Vec::new();
        // (Who came first need not be the first whose time is over: settings change.)
        if self.0.iter().any(|(_, told)| told.until <= now) {
            let (gone, kept) =
                std::mem::take(&mut self.0).into_iter().partition(|(_, told)| told.until <= now);
            self.0 = kept;
            let gone: VecDeque<(u64, Told)> = gone;
            late.extend(gone.into_iter().map(|(_, told)| told));
        }
        for told in &mut late {
            told.reply = Bytes::from_static(LATE);
        }
        (late, self.0.iter().map(|(_, told)| told.until).min())
    }
}
