//! What was counted since the start, since a reset, and of late.
//!
//! In: totals, as the main thread takes them. Out: [`Window`]s, each the difference of two totals.
//! Counters themselves never go back: a reset is a total that is remembered.

use std::collections::VecDeque;
use std::time::Duration;

use super::counters::{Counter, Outcome};
use super::histogram::Snapshot;
use super::sampler::Tally;
use crate::units::clock::Tick;

/// Totals are kept this far apart, which is what a window's length is off by at most.
const STEP: Duration = Duration::from_secs(10);

/// As many as the longest window takes.
const KEPT: usize = 61;

/// Everything that was counted until one moment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// When.
    pub at: Tick,
    /// By counter.
    pub counters: Vec<u64>,
    /// Commands read from clients.
    pub commands: u64,
    /// How long answers took, by outcome.
    pub latency: Vec<Snapshot>,
    /// Reads by namespace, estimated.
    pub namespaces: Vec<(String, Tally)>,
    /// Reads by the index of the rule, estimated, without bytes.
    pub rules: Vec<Tally>,
}

/// What was counted from one moment to another.
#[derive(Clone, Debug)]
pub struct Window {
    /// How long it is.
    pub length: Duration,
    /// The differences.
    pub counted: Totals,
}

/// Which window is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Since the process started.
    Start,
    /// Since the last reset.
    Reset,
    /// As many of the last seconds; less, if there are fewer.
    Last(Duration),
}

impl Totals {
    /// What was counted since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let less = |now: u64, before: Option<u64>| now.saturating_sub(before.unwrap_or(0));
        let each = |now: &Tally, before: Option<&Tally>| {
            std::array::from_fn(|at| {
                let before = before.and_then(|before| before.get(at));
                less(now.get(at).copied().unwrap_or(0), before.copied())
            })
        };
        let latency =
            self.latency.iter().enumerate().map(|(at, now)| match earlier.latency.get(at) {
                Some(before) => now.since(before),
                None => now.clone(),
            });
        let counters = self.counters.iter().enumerate();
        let rules = self.rules.iter().enumerate();
        let namespaces = self.namespaces.iter().map(|(name, now)| {
            let before = earlier.namespaces.iter().find(|(known, _)| known == name);
            (name.clone(), each(now, before.map(|(_, counts)| counts)))
        });
        Self {
            at: self.at,
            counters: counters
                .map(|(at, now)| less(*now, earlier.counters.get(at).copied()))
                .collect(),
            commands: self.commands.saturating_sub(earlier.commands),
            latency: latency.collect(),
            namespaces: namespaces.collect(),
            rules: rules.map(|(at, now)| each(now, earlier.rules.get(at))).collect(),
        }
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }

    /// How long answers of one outcome took.
    pub fn took(&self, outcome: Outcome) -> Option<&Snapshot> {
        self.latency.get(outcome as usize)
    }
}

/// Totals of earlier moments.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Nothing was counted yet.
    start: Option<Tick>,
    reset: Option<Totals>,
    /// The oldest first.
    late: VecDeque<Totals>,
}

impl History {
    /// True if it is time for the next totals.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        self.late.back().is_none_or(|last| now.since(last.at) >= STEP)
    }

    /// These are the totals now.
    pub(super) fn note(&mut self, now: Totals) {
        self.start.get_or_insert(now.at);
        while self.late.len() >= KEPT {
            self.late.pop_front();
        }
        self.late.push_back(now);
    }

    /// [`Span::Reset`] begins here.
    pub(super) fn reset(&mut self, now: Totals) {
        self.reset = Some(now);
    }

    /// The window that ends `now`.
    pub(super) fn window(&self, span: Span, now: &Totals) -> Window {
        let start = Totals { at: self.start.unwrap_or(now.at), ..Totals::default() };
        let from = match span {
            Span::Start => &start,
            Span::Reset => self.reset.as_ref().unwrap_or(&start),
            // The youngest of those that are old enough.
            Span::Last(length) => {
                let is_old = |totals: &&Totals| now.at.since(totals.at) >= length;
                let from = self.late.iter().rev().find(is_old);
                from.or_else(|| self.late.front()).unwrap_or(&start)
            }
        };
        Window { length: now.at.since(from.at), counted: now.since(from) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, History, Span, Totals};
    use crate::units::clock::Tick;

    fn totals(second: u64, count: u64) -> Totals {
        Totals {
            at: Tick(second * 1_000_000_000),
            counters: vec![count],
            commands: 2 * count,
            namespaces: vec![("a".to_owned(), [count, 0, 0, 0])],
            rules: vec![[0, count, 0, 0]],
            ..Totals::default()
        }
    }

    fn read(history: &History, span: Span, now: &Totals) -> (u64, u64) {
        let window = history.window(span, now);
        let counted = window.counted;
        assert_eq!(counted.commands, 2 * counted.counters[0]);
        assert_eq!(counted.namespaces[0].1[0], counted.counters[0]);
        assert_eq!(counted.rules[0][1], counted.counters[0]);
        (window.length.as_secs(), counted.counters[0])
    }

    #[test]
    fn a_window_is_the_difference_of_two_totals() {
        let mut history = History::default();
        let minute = Span::Last(Duration::from_mins(1));
        assert_eq!(read(&history, minute, &totals(100, 7)), (0, 7), "before anything is noted");
        for second in 100..1_000 {
            let now = totals(second, second);
            assert_eq!(history.is_due(now.at), second % 10 == 0);
            if second % 10 == 0 {
                history.note(now);
            }
            if second == 130 {
                assert_eq!(read(&history, minute, &totals(130, 130)), (30, 30), "not longer yet");
            }
        }
        let now = totals(1_005, 1_005);
        assert_eq!(read(&history, minute, &now), (65, 65));
        let five = Span::Last(Duration::from_mins(5));
        assert_eq!(read(&history, five, &totals(1_000, 1_000)), (300, 300));
        assert_eq!(read(&history, Span::Start, &now), (905, 1_005));
        assert_eq!(read(&history, Span::Reset, &now), (905, 1_005));
        history.reset(totals(1_001, 1_001));
        assert_eq!(read(&history, Span::Reset, &now), (4, 4));
        assert_eq!(read(&history, Span::Start, &now), (905, 1_005));
        assert_eq!(history.late.len(), 61);
    }
}
