//! What was true when: every value that the server ever held, from when to when, and what of it
//! the clients of this instance have seen. By this every reply is judged.

use std::ops::Range;

/// Nanoseconds of the simulation's clock.
pub(crate) type Time = u64;

pub(crate) const MS: Time = 1_000_000;

/// Still so.
const EVER: Time = Time::MAX;

/// What a cell held, for how long.
#[derive(Debug)]
struct Version {
    value: Option<Vec<u8>>,
    from: Time,
    until: Time,
    /// The changes, of all cells, by which it came and went: more exact than time.
    span: Range<u64>,
}

/// One value of the server: a string, a counter, a field of a hash.
#[derive(Debug)]
struct Cell {
    versions: Vec<Version>,
    /// The newest version that a client of this instance has seen.
    floor: usize,
}

/// A value that is written once: what became of the request that writes it.
#[derive(Clone, Copy, Debug, Default)]
struct Writing {
    executed: u32,
    /// Its client was told that it never left.
    is_denied: bool,
}

/// Who judges.
#[derive(Debug)]
pub(crate) struct Oracle {
    cells: Vec<Cell>,
    writings: Vec<Writing>,
    /// Changes so far.
    changes: u64,
}

/// How a reply is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) asked_at: Time,
    /// Not older than this version.
    pub(crate) floor: usize,
    /// How long ago it may have been overwritten when it was asked for.
    pub(crate) staleness: Time,
}

impl Oracle {
    pub(crate) fn new(cells: usize, now: Time) -> Self {
        let first = || Version { value: None, from: now, until: EVER, span: 0..u64::MAX };
        let cell = |_| Cell { versions: vec![first()], floor: 0 };
        Self { cells: (0..cells).map(cell).collect(), writings: Vec::new(), changes: 0 }
    }

    /// What a cell holds.
    pub(crate) fn value(&self, cell: usize) -> Option<&[u8]> {
        self.cells[cell].versions.last().unwrap().value.as_deref()
    }

    /// The server's value changes. True if it was another.
    pub(crate) fn change(&mut self, cell: usize, value: Option<&[u8]>, now: Time) -> bool {
        let versions = &mut self.cells[cell].versions;
        let last = versions.last_mut().unwrap();
        if last.value.as_deref() == value {
            return false;
        }
        self.changes += 1;
        (last.until, last.span.end) = (now, self.changes);
        let (value, span) = (value.map(<[u8]>::to_vec), self.changes..u64::MAX);
        versions.push(Version { value, from: now, until: EVER, span });
        true
    }

    pub(crate) fn floor(&self, cell: usize) -> usize {
        self.cells[cell].floor
    }

    /// Everybody here knows of this version from now on.
    pub(crate) fn raise(&mut self, cell: usize, version: usize) {
        let floor = &mut self.cells[cell].floor;
        *floor = version.max(*floor);
    }

    /// Which version a value is that somebody is given now, or why it cannot be any. If it may be
    /// several, the oldest.
    pub(crate) fn judge(
        &self,
        cell: usize,
        value: Option<&[u8]>,
        by: Judged,
    ) -> Result<usize, String> {
        let versions = &self.cells[cell].versions;
        let is_it = |version: &Version| version.value.as_deref() == value;
        let mut newest = None;
        for (number, version) in versions.iter().enumerate().filter(|(_, version)| is_it(version)) {
            newest = Some((number, version));
            let is_new = version.until == EVER || version.until + by.staleness >= by.asked_at;
            if number >= by.floor && is_new {
                return Ok(number);
            }
        }
        let last = versions.len() - 1;
        Err(match newest {
            None => format!("cell {cell} never held {}", shown(value)),
            Some((number, _)) if number < by.floor => format!(
                "cell {cell} went back: {} is version {number}, and {} was seen before; the last \
                 is {last}",
                shown(value),
                by.floor
            ),
            Some((number, version)) => format!(
                "cell {cell} is stale: {}, version {number} (from {} ms) of {last}, was overwritten \
                 at {} ms and asked for at {} ms",
                shown(value),
                version.from / MS,
                version.until / MS,
                by.asked_at / MS
            ),
        })
    }

    /// True if there was a moment at which all these cells held these values.
    pub(crate) fn share_a_moment(&self, values: &[(usize, Option<Vec<u8>>)]) -> bool {
        let held = |cell: usize, value: &Option<Vec<u8>>| {
            let versions = self.cells[cell].versions.iter();
            let value = value.clone();
            versions.filter(move |version| version.value == value)
        };
        let is_moment = |at: u64| {
            let mut all = values.iter();
            all.all(|(cell, value)| held(*cell, value).any(|version| version.span.contains(&at)))
        };
        // If there is one, it is one at which the last of them began to hold what it did.
        let mut begun = values.iter().flat_map(|(cell, value)| held(*cell, value));
        values.is_empty() || begun.any(|version| is_moment(version.span.start))
    }

    /// The number of a value that nobody has written before.
    pub(crate) fn announce(&mut self) -> usize {
        self.writings.push(Writing::default());
        self.writings.len() - 1
    }

    /// The server executes the write of this value.
    pub(crate) fn executed(&mut self, writing: usize) {
        self.writings[writing].executed += 1;
    }

    /// Its client was told that it was not executed.
    pub(crate) fn denied(&mut self, writing: usize) {
        self.writings[writing].is_denied = true;
    }

    /// What was executed twice, or though its client was told that it was not (I5, I6).
    pub(crate) fn misdone(&self) -> Option<String> {
        let place = self
            .writings
            .iter()
            .position(|writing| writing.executed > u32::from(!writing.is_denied))?;
        Some(format!("write {place}: {:?}", self.writings[place]))
    }
}

fn shown(value: Option<&[u8]>) -> String {
    value.map_or_else(
        || "nil".to_owned(),
        |value| value[..value.len().min(32)].escape_ascii().to_string(),
    )
}
