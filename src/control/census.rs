//! What the cache holds now, counted by namespace and by rule: a walk over everything, a part at a
//! time, when somebody asks.
//!
//! In: a question. Out: entries and bytes, and when they were counted. One walk answers all who ask
//! within [`FRESH`] of it, so asking costs no more than that, however often it is done.

use crate::control::office::Sweeper;
use crate::keys::namespace;
use crate::snapshot::{Snapshot, Snapshots};
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

/// Keys times patterns that one count compares: some tens of milliseconds. Of more, every second,
/// third or later key is held against the rules, and stands for those between.
const COMPARED_MAX: u64 = 1 << 20;

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
    /// By the index of the rule.
    pub rules: Vec<Held>,
    /// One in so many keys was held against the rules; 1: their figures are exact.
    pub one_in: u64,
    /// Which rules they are.
    pub snapshot: Arc<Snapshot>,
}

/// Counts.
#[derive(Debug)]
pub struct Census {
    sweeper: Sweeper,
    snapshots: Arc<Snapshots>,
    clock: Clock,
    last: Mutex<Option<(Tick, Arc<Counted>)>>,
}

impl Census {
    /// Of the sweeper's cache, by the rules in force.
    pub fn new(sweeper: Sweeper, snapshots: Arc<Snapshots>, clock: Clock) -> Self {
        Self { sweeper, snapshots, clock, last: Mutex::new(None) }
    }

    /// What is held. Who asks while it is being counted waits for the same count.
    pub async fn take(&self) -> Arc<Counted> {
        let mut last = self.last.lock().await;
        let snapshot = self.snapshots.newest();
        if let Some((at, counted)) = last.as_ref()
            && self.clock.now().since(*at) < FRESH
            && counted.snapshot.number == snapshot.number
        {
            return Arc::clone(counted);
        }
        let mut sums = Sums::new(snapshot, self.sweeper.entries());
        self.sweeper.visit_sized(&self.clock, |key, bytes| sums.add(key, bytes)).await;
        let counted = Arc::new(sums.counted());
        *last = Some((self.clock.now(), Arc::clone(&counted)));
        drop(last);
        counted
    }
}

#[derive(Debug)]
struct Sums {
    named: HashMap<Vec<u8>, Held>,
    other: Held,
    rules: Vec<Held>,
    one_in: u64,
    /// Keys until the next one is held against the rules.
    skipped: u64,
    snapshot: Arc<Snapshot>,
}

impl Sums {
    fn new(snapshot: Arc<Snapshot>, entries: u64) -> Self {
        let rules = snapshot.rules.all();
        let (rules, patterns) =
            rules.fold((0, 0), |(rules, patterns), (_, globs)| (rules + 1, patterns + globs.len()));
        let one_in = entries.saturating_mul(patterns as u64) / COMPARED_MAX + 1;
        Self {
            named: HashMap::default(),
            other: Held::default(),
            rules: vec![Held::default(); rules],
            one_in,
            skipped: 0,
            snapshot,
        }
    }

    fn add(&mut self, key: &[u8], bytes: u64) {
        self.add_to_rule(key, bytes);
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

    fn add_to_rule(&mut self, key: &[u8], bytes: u64) {
        if self.skipped > 0 {
            self.skipped -= 1;
            return;
        }
        self.skipped = self.one_in - 1;
        let rule = self.snapshot.rules.find(key).index;
        if let Some(sum) = self.rules.get_mut(usize::from(rule)) {
            sum.entries += self.one_in;
            sum.bytes += bytes * self.one_in;
        }
    }

    fn counted(mut self) -> Counted {
        let name = |(name, held): (Vec<u8>, Held)| (String::from_utf8_lossy(&name).into(), held);
        let mut namespaces: Vec<(String, Held)> =
            std::mem::take(&mut self.named).into_iter().map(name).collect();
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
        let Self { rules, one_in, snapshot, .. } = self;
        Counted { at: unix_millis(), total, namespaces, rules, one_in, snapshot }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPARED_MAX, Held, NAMES_MAX, Sums};
    use crate::config::{Overrides, load};
    use crate::snapshot::Snapshot;
    use std::sync::Arc;

    const RULES: &str =
        "[{ match = [\"a:1\", \"b*\"], ttl = \"1s\" }, { match = \"a:*\", ttl = \"2s\" }]";

    fn sums(entries: u64) -> Sums {
        let rules = ("test".to_owned(), "rules".to_owned(), RULES.to_owned());
        let overrides = Overrides { flags: vec![rules], ..Overrides::default() };
        Sums::new(Arc::new(Snapshot::of(&load(&overrides).unwrap().settings)), entries)
    }

    fn held(entries: u64, bytes: u64) -> Held {
        Held { entries, bytes }
    }

    #[test]
    fn the_largest_come_first_and_names_are_bounded() {
        let mut sums_of_four = sums(4);
        for (key, bytes) in [("a:1", 10), ("b:1", 50), ("a:2", 20), ("plain", 1)] {
            sums_of_four.add(key.as_bytes(), bytes);
        }
        let counted = sums_of_four.counted();
        let named: Vec<_> =
            counted.namespaces.iter().map(|(name, held)| (&**name, *held)).collect();
        assert_eq!(named, [("b", held(1, 50)), ("a", held(2, 30)), ("_root", held(1, 1))]);
        assert_eq!(counted.total, held(4, 81));
        assert_eq!(counted.rules, [held(2, 60), held(1, 20), held(1, 1)]);
        assert_eq!(counted.one_in, 1);
        let mut many = sums(0);
        (0..NAMES_MAX + 3).for_each(|name| many.add(format!("{name}:x").as_bytes(), 1));
        let counted = many.counted();
        assert_eq!(counted.namespaces.first().unwrap(), &("_other".to_owned(), held(3, 3)));
        assert_eq!(counted.namespaces.len(), NAMES_MAX + 1);
    }

    #[test]
    fn of_many_keys_a_part_stands_for_all() {
        // Three patterns.
        let mut sums = sums(COMPARED_MAX);
        for number in 0..80 {
            sums.add(if number % 8 < 4 { b"a:2" } else { b"c:2" }, 10);
        }
        let counted = sums.counted();
        assert_eq!(counted.one_in, 4);
        assert_eq!(counted.rules, [held(0, 0), held(40, 400), held(40, 400)]);
    }
}
