//! What the cache holds now, counted by namespace: a walk over everything, a part at a time, when
//! somebody asks.
//!
//! In: a question. Out: entries and bytes, and when they were counted. One walk answers all who ask
//! within [`FRESH`] of it, so asking costs no more than that, however often it is done.

use crate::control::office::Sweeper;
use crate::keys::namespace;
use crate::stats::OTHER;
use crate::units::clock::{Clock, Tick, unix_millis};
use foldhash::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// An answer is given again for so long.
const FRESH: Duration = Duration::from_secs(5);

/// Namespaces that are told apart: those found behind them are [`OTHER`].
const NAMES_MAX: usize = 10_000;

/// Part of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys that may be served.
    pub entries: u64,
    /// Accounted bytes of all their replies.
    pub bytes: u64,
}

/// What was counted.
#[derive(Debug)]
pub struct Counted {
    /// In milliseconds since 1970.
    pub at: u64,
    /// All of it.
    pub total: Held,
    /// By namespace, the largest first.
    pub namespaces: Vec<(String, Held)>,
}

/// Counts.
#[derive(Debug)]
pub struct Census {
    sweeper: Sweeper,
    clock: Clock,
    last: Mutex<Option<(Tick, Arc<Counted>)>>,
}

impl Census {
    /// Of the sweeper's cache.
    pub fn new(sweeper: Sweeper, clock: Clock) -> Self {
        Self { sweeper, clock, last: Mutex::new(None) }
    }

    /// What is held. Who asks while it is being counted waits for the same count.
    pub async fn take(&self) -> Arc<Counted> {
        let mut last = self.last.lock().await;
        if let Some((at, counted)) = last.as_ref()
            && self.clock.now().since(*at) < FRESH
        {
            return Arc::clone(counted);
        }
        let mut sums = Sums::default();
        self.sweeper.visit_sized(&self.clock, |key, bytes| sums.add(key, bytes)).await;
        let counted = Arc::new(sums.counted());
        *last = Some((self.clock.now(), Arc::clone(&counted)));
        drop(last);
        counted
    }
}

#[derive(Debug, Default)]
struct Sums {
    named: HashMap<Vec<u8>, Held>,
    other: Held,
}

impl Sums {
    fn add(&mut self, key: &[u8], bytes: u64) {
        let name = namespace(key);
        let has_room = self.named.len() < NAMES_MAX;
        let sum = match self.named.get_mut(name) {
            Some(sum) => sum,
            None if has_room => self.named.entry(name.to_vec()).or_default(),
            None => &mut self.other,
        };
        sum.entries += 1;
        sum.bytes += bytes;
    }

    fn counted(self) -> Counted {
        let name = |(name, held): (Vec<u8>, Held)| (String::from_utf8_lossy(&name).into(), held);
        let mut namespaces: Vec<(String, Held)> = self.named.into_iter().map(name).collect();
        if self.other != Held::default() {
            namespaces.push((OTHER.to_owned(), self.other));
        }
        namespaces.sort_unstable_by(|(name_a, a), (name_b, b)| {
            b.bytes.cmp(&a.bytes).then_with(|| name_a.cmp(name_b))
        });
        let sum = |sum: Held, (_, held): &(String, Held)| Held {
            entries: sum.entries + held.entries,
            bytes: sum.bytes + held.bytes,
        };
        let total = namespaces.iter().fold(Held::default(), sum);
        Counted { at: unix_millis(), total, namespaces }
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, NAMES_MAX, Sums};

    #[test]
    fn the_largest_come_first_and_names_are_bounded() {
        let mut sums = Sums::default();
        for (key, bytes) in [("a:1", 10), ("b:1", 50), ("a:2", 20), ("plain", 1)] {
            sums.add(key.as_bytes(), bytes);
        }
        let counted = sums.counted();
        let held = |entries, bytes| Held { entries, bytes };
        let named: Vec<_> =
            counted.namespaces.iter().map(|(name, held)| (&**name, *held)).collect();
        assert_eq!(named, [("b", held(1, 50)), ("a", held(2, 30)), ("_root", held(1, 1))]);
        assert_eq!(counted.total, held(4, 81));
        let mut sums = Sums::default();
        (0..NAMES_MAX + 3).for_each(|name| sums.add(format!("{name}:x").as_bytes(), 1));
        let counted = sums.counted();
        assert_eq!(counted.namespaces.first().unwrap(), &("_other".to_owned(), held(3, 3)));
        assert_eq!(counted.namespaces.len(), NAMES_MAX + 1);
    }
}
