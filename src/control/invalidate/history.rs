//! What was forgotten last because somebody said so: for people who look for the reason of a miss.
//!
//! In: each order as it is carried out. Out: the last [`KEPT`] of them. Bounded: of many keys only
//! the number is kept, and of a text no more than an order may have.

use crate::cache::Source;
use crate::config::invalidation::TEXT_MAX;
use crate::control::invalidate::orders::{Done, Order};
use crate::units::clock::unix_millis;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Orders remembered.
pub const KEPT: usize = 1000;

/// An order that was carried out.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who said so.
    pub source: Source,
    /// `keys`, `namespace`, `pattern`, `group`, `event` or `all`.
    pub kind: &'static str,
    /// The namespace, the pattern, the group, the event's channel, or the key if it was one.
    pub value: Option<Vec<u8>>,
    /// True if what rules keep past its time stayed for that.
    pub is_soft: bool,
    done: Done,
}

impl Event {
    /// Keys that it has removed so far: a namespace's and a pattern's are counted by the sweep.
    pub fn removed(&self) -> u64 {
        self.done.removed()
    }
}

/// The last orders.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Event>>);

impl History {
    /// This was just carried out.
    pub(super) fn note(&self, order: &Order, source: Source, is_soft: bool, done: &Done) {
        let named;
        let (kind, value) = match order {
            Order::Keys(keys) => ("keys", if let [key] = &**keys { Some(key) } else { None }),
            Order::Namespace(name) => ("namespace", Some(name)),
            Order::Pattern(pattern) => ("pattern", Some(pattern)),
            Order::Several(several) => {
                named = several.name.clone().into_bytes();
                (several.of.as_str(), Some(&named))
            }
            Order::All => ("all", None),
        };
        // A key may be half a gigabyte long.
        let value = value.map(|text| text.iter().copied().take(TEXT_MAX).collect());
        let event = Event { at: unix_millis(), source, kind, value, is_soft, done: done.clone() };
        let mut events = self.0.lock();
        events.truncate(KEPT - 1);
        events.push_front(event);
    }

    /// The last `count` of them, the newest first.
    pub fn last(&self, count: usize) -> Vec<Event> {
        self.0.lock().iter().take(count).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{History, KEPT};
    use crate::cache::Source;
    use crate::control::invalidate::orders::{Done, Order};

    #[test]
    fn the_newest_are_kept() {
        let history = History::default();
        for number in 0..=KEPT {
            let order = Order::Keys(vec![number.to_string().into_bytes()]);
            history.note(&order, Source::Admin, false, &Done { removed: 1, ..Done::default() });
        }
        history.note(&Order::Keys(vec![vec![b'k'; 5000]]), Source::Pubsub, false, &Done::default());
        let events = history.last(KEPT + 1);
        assert_eq!(events.len(), KEPT);
        assert_eq!(events[0].value.as_ref().map(Vec::len), Some(1024));
        assert_eq!((events[1].value.as_deref(), events[1].removed()), (Some(&b"1000"[..]), 1));
        assert_eq!(history.last(3).len(), 3);
    }
}
