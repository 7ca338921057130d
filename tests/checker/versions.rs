//! What the writers did to one register: its versions, in order, each with the time that it may
//! have begun at, and the time that everybody may expect it at.
//!
//! Versions are doubled: between two of them stands the one that the server makes by itself when a
//! life has ended. Where a write's outcome is unknown its version counts as possible from when it
//! was sent, and never as acknowledged.

use crate::history::{NIL, Record, UNKNOWN, What, Wipe};

/// Lives are counted in whole milliseconds, by another clock than ours, and by the clock of the
/// server as it read it last.
pub(crate) const SLACK: u64 = 10_000_000;

/// The version of a register that was wiped away.
pub(crate) const WIPED: u32 = u32::MAX - 1;

/// One version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) invoked: u64,
    /// [`UNKNOWN`] if nobody was told.
    pub(crate) acked: u64,
    /// Nothing is there.
    pub(crate) is_nil: bool,
    /// The end of its value's life as its writer was told, or [`UNKNOWN`].
    pub(crate) ends: u64,
}

/// All versions of a register, by number.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    all: Vec<Version>,
    /// For each, when the first that is as new was acknowledged.
    newer: Vec<u64>,
    /// When writes were sent whose versions nobody knows.
    unknown: Vec<u64>,
    /// Versions that the server counted and no acknowledged write has.
    gaps: usize,
    pub(crate) wipe: Option<Wipe>,
}

impl Versions {
    /// From the writes among `records`. `evicts`: the server may drop at any time what has a life.
    pub(crate) fn of(records: &[Record], wipe: Option<Wipe>, evicts: bool) -> Result<Self, String> {
        let nothing = Version { number: 0, invoked: 0, acked: 0, is_nil: true, ends: UNKNOWN };
        let mut versions = Self { all: vec![nothing], wipe, ..Self::default() };
        for record in records {
            versions.add(record, evicts);
        }
        versions.all.sort_by_key(|version| version.number);
        versions.settle()?;
        if records.iter().any(|record| record.what == What::Step) {
            let highest = versions.all.last().map_or(0, |version| version.number / 2) as usize;
            versions.gaps = (highest + 1).saturating_sub(versions.all.len());
        }
        if let Some(wipe) = wipe {
            versions.all.push(Version {
                number: WIPED,
                invoked: wipe.invoked,
                acked: wipe.returned,
                is_nil: true,
                ends: UNKNOWN,
            });
        }
        let mut first = UNKNOWN;
        versions.newer = versions.all.iter().map(|version| version.acked).collect();
        for acked in versions.newer.iter_mut().rev() {
            first = first.min(*acked);
            *acked = first;
        }
        Ok(versions)
    }

    fn add(&mut self, record: &Record, evicts: bool) {
        let (invoked, acked) = (record.invoked, record.returned);
        let number = record.version.saturating_mul(2);
        let mut version = Version { number, invoked, acked, is_nil: false, ends: UNKNOWN };
        match record.what {
            What::Read(_) => return,
            What::Step if acked == UNKNOWN => return self.unknown.push(invoked),
            What::Step | What::Set(0) => {}
            What::Delete => version.is_nil = true,
            What::Set(life) => {
                let life = u64::from(life) * 1_000_000;
                version.ends = acked.saturating_add(life);
                let may_end = if evicts { invoked } else { invoked + life - SLACK.min(life) };
                self.all.push(Version {
                    number: number + 1,
                    invoked: may_end,
                    acked: version.ends.saturating_add(SLACK),
                    is_nil: true,
                    ends: UNKNOWN,
                });
            }
        }
        self.all.push(version);
    }

    /// Strikes ends of lives that a later write forestalled, and looks for versions twice.
    fn settle(&mut self) -> Result<(), String> {
        let mut pairs = self.all.iter().zip(self.all.iter().skip(1));
        if let Some((twice, _)) = pairs.find(|(one, other)| one.number == other.number) {
            return Err(format!("two writes were both acknowledged as {twice:?}"));
        }
        let before = self.all.clone();
        let mut later = before.iter().skip(1).chain(std::iter::once(&before[0]));
        self.all.retain_mut(|version| {
            let next = later.next().filter(|next| next.number > version.number);
            let is_end = version.number % 2 == 1;
            if let (true, Some(next)) = (is_end, next) {
                if next.invoked < version.acked {
                    version.acked = UNKNOWN;
                }
                return next.acked > version.invoked;
            }
            true
        });
        Ok(())
    }

    /// More versions were counted by the server than writes were sent.
    pub(crate) fn has_too_many(&self) -> bool {
        self.gaps > self.unknown.len()
    }

    /// True if a write may still be on its way.
    pub(crate) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
            || self.all.iter().any(|version| version.number % 2 == 0 && version.acked == UNKNOWN)
    }

    /// The version that a read returned, as favourable to it as can be: what is not there is the
    /// newest nothing that may have been by then. `None`: nobody wrote it, or not yet.
    pub(crate) fn read(&self, version: u32, returned: u64) -> Option<u32> {
        if version == NIL {
            let nil = |known: &&Version| known.is_nil && known.invoked <= returned;
            return self.all.iter().rfind(nil).map(|known| known.number);
        }
        let number = version.checked_mul(2)?;
        if let Some(known) = self.find(number) {
            return (known.invoked <= returned && !known.is_nil).then_some(number);
        }
        // One that the server counted for a writer who was not told. It was sent, at least.
        let sent = self.unknown.iter().filter(|sent| **sent <= returned).count();
        let below = self.all.partition_point(|known| known.number < number);
        (sent + below > version as usize).then_some(number)
    }

    /// The oldest version that a read may have shown which is not older than `known`; `None` if
    /// there is none.
    pub(crate) fn at_least(&self, version: u32, known: u32, returned: u64) -> Option<u32> {
        if version != NIL {
            return Some(version.saturating_mul(2)).filter(|number| *number >= known);
        }
        let from = self.all.partition_point(|version| version.number < known);
        let nil = |version: &&Version| version.is_nil && version.invoked <= returned;
        self.all.get(from..)?.iter().find(nil).map(|version| version.number)
    }

    /// When the first newer version was acknowledged; [`UNKNOWN`] if never. A wipe counts if
    /// `wiped`.
    pub(crate) fn overtaken(&self, number: u32, wiped: bool) -> u64 {
        let from = self.all.partition_point(|version| version.number <= number);
        let tail = self.all.get(from..).unwrap_or_default();
        if wiped || self.wipe.is_none() {
            return self.newer.get(from).copied().unwrap_or(UNKNOWN);
        }
        let acked = tail.iter().filter(|version| version.number != WIPED).map(|v| v.acked);
        acked.min().unwrap_or(UNKNOWN)
    }

    /// The version with that number.
    pub(crate) fn find(&self, number: u32) -> Option<&Version> {
        let at = self.all.binary_search_by_key(&number, |version| version.number).ok()?;
        self.all.get(at)
    }

    /// For the history that is saved.
    pub(crate) fn written(&self, version: u32) -> Option<&Version> {
        self.find(version.saturating_mul(2))
    }
}
