//! What nearside knows of itself beside the cache and the clients: its counters since the last
//! CONFIG RESETSTAT, rates, its settings, and what upstream said of itself last.
//!
//! One worker ticks it once a second; INFO and CONFIG read it. Nothing here is on the path of any
//! other command.

use crate::stats::{CommandTotals, Counter, Stats};
use crate::units::clock::Tick;
use parking_lot::Mutex;
use std::sync::Arc;

/// What does not change while nearside runs.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// `instance`.
    pub instance: String,
    /// `region`.
    pub region: String,
    /// The first TCP port that clients come to; 0 = none.
    pub port: u16,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// Who we are.
    pub profile: Profile,
    /// When nearside started.
    pub started_at: Tick,
    stats: Arc<Stats>,
    /// What had been counted at the last CONFIG RESETSTAT.
    at_reset: Mutex<Totals>,
    pace: Mutex<Pace>,
    /// INFO's sections as upstream told them last, by title.
    told: Mutex<Vec<(String, String)>>,
}

/// Everything that is counted.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    counters: Vec<u64>,
    /// By row of the command table.
    pub commands: Vec<CommandTotals>,
}

/// What happens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Commands.
    pub commands: u64,
    /// Bytes from clients.
    pub input: u64,
    /// Bytes to clients.
    pub output: u64,
}

#[derive(Debug, Default)]
struct Pace {
    at: Tick,
    /// What had been counted then.
    counted: Rates,
    rates: Rates,
}

impl Ledger {
    /// A ledger over `stats`.
    pub fn new(stats: Arc<Stats>, profile: Profile, now: Tick) -> Self {
        let pace = Mutex::new(Pace { at: now, ..Pace::default() });
        let (at_reset, told) = (Mutex::default(), Mutex::default());
        Self { profile, started_at: now, stats, at_reset, pace, told }
    }

    /// Measures the rates since the last tick.
    pub fn tick(&self, now: Tick) {
        let counted = Rates {
            commands: self.stats.pipeline().commands,
            input: self.stats.counter(Counter::NetInputBytes),
            output: self.stats.counter(Counter::NetOutputBytes),
        };
        let mut pace = self.pace.lock();
        let millis = u64::try_from(now.since(pace.at).as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return;
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1000) / millis;
        pace.rates = Rates {
            commands: rate(counted.commands, pace.counted.commands),
            input: rate(counted.input, pace.counted.input),
            output: rate(counted.output, pace.counted.output),
        };
        (pace.at, pace.counted) = (now, counted);
    }

    /// What happened per second, at the last tick.
    pub fn rates(&self) -> Rates {
        self.pace.lock().rates
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was counted since CONFIG RESETSTAT.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.stats).since(&self.at_reset.lock())
    }

    /// CONFIG RESETSTAT: INFO and the API count from here on. Metrics never go back.
    pub fn reset(&self, now: Tick) {
        *self.at_reset.lock() = Totals::of(&self.stats);
        self.stats.reset(now);
    }

    /// Remembers INFO's sections for the time when upstream cannot be asked.
    pub fn hear(&self, sections: impl Iterator<Item = (String, String)>) {
        let mut told = self.told.lock();
        for (title, text) in sections {
            match told.iter_mut().find(|(known, _)| *known == title) {
                Some((_, known)) => *known = text,
                None => told.push((title, text)),
            }
        }
    }

    /// What upstream told last of each section that `choose` wants; empty if it never did.
    pub fn recall(&self, choose: impl Fn(&str) -> bool) -> Vec<String> {
        let told = self.told.lock();
        told.iter().filter(|(title, _)| choose(title)).map(|(_, text)| text.clone()).collect()
    }
}

impl Totals {
    fn of(stats: &Stats) -> Self {
        let counters = Counter::ALL.iter().map(|counter| stats.counter(*counter)).collect();
        Self { counters, commands: stats.commands() }
    }

    fn since(mut self, earlier: &Self) -> Self {
        for (now, before) in self.counters.iter_mut().zip(&earlier.counters) {
            *now = now.saturating_sub(*before);
        }
        for (now, before) in self.commands.iter_mut().zip(&earlier.commands) {
            now.ok = now.ok.saturating_sub(before.ok);
            now.error = now.error.saturating_sub(before.error);
            now.rejected = now.rejected.saturating_sub(before.rejected);
            now.nanos = now.nanos.saturating_sub(before.nanos);
        }
        self
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }

    /// The sum of these counters.
    pub fn sum(&self, counters: &[Counter]) -> u64 {
        counters.iter().map(|counter| self.get(*counter)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Profile, Rates};
    use crate::stats::{Counter, Stats};
    use crate::units::clock::Tick;
    use std::sync::Arc;

    #[test]
    fn a_reset_is_where_counting_begins_again() {
        let stats = Arc::new(Stats::new(1));
        let block = stats.new_block();
        let ledger = Ledger::new(Arc::clone(&stats), Profile::default(), Tick(0));
        block.add(Counter::LookupHit, 5);
        block.command(0, true, 3);
        assert_eq!(ledger.totals().get(Counter::LookupHit), 5);
        ledger.reset(Tick(1));
        block.add(Counter::LookupHit, 2);
        block.command(0, false, 1);
        let totals = ledger.totals();
        assert_eq!(totals.get(Counter::LookupHit), 2);
        assert_eq!((totals.commands[0].ok, totals.commands[0].error), (1, 0));
        assert_eq!(stats.counter(Counter::LookupHit), 7, "metrics never go back");
    }

    #[test]
    fn rates_are_of_the_time_between_two_ticks() {
        let stats = Arc::new(Stats::new(1));
        let block = stats.new_block();
        let ledger = Ledger::new(stats, Profile::default(), Tick(0));
        block.pipeline(100);
        block.add(Counter::NetInputBytes, 2_000);
        ledger.tick(Tick(2_000_000_000));
        assert_eq!(ledger.rates(), Rates { commands: 50, input: 1_000, output: 0 });
        ledger.tick(Tick(3_000_000_000));
        assert_eq!(ledger.rates(), Rates::default());
    }

    #[test]
    fn the_last_word_on_each_section_is_kept() {
        let ledger = Ledger::new(Arc::new(Stats::new(0)), Profile::default(), Tick(0));
        let section = |title: &str, text: &str| (title.to_owned(), text.to_owned());
        ledger.hear([section("a", "1"), section("b", "2")].into_iter());
        ledger.hear([section("a", "3")].into_iter());
        assert_eq!(ledger.recall(|_| true), ["3", "2"]);
        assert_eq!(ledger.recall(|title| title == "b"), ["2"]);
    }
}
