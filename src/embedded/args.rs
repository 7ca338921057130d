//! The arguments of one request, read as the commands need them: words, numbers, ranges.
//!
//! Borrowed from the connection's input buffer; nothing is copied.

use super::float;
use super::reply::{Fault, NOT_FLOAT, NOT_INTEGER, NOT_POSITIVE};
use crate::wire::number::parse_i64;
use crate::wire::request::Arg;

/// Arguments, the command's name at 0. Reading beyond the end gives an empty argument: the arity
/// was checked before a handler runs, and options are counted by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [Arg],
}

impl<'a> Args<'a> {
    pub(super) const fn new(buffer: &'a [u8], ranges: &'a [Arg]) -> Self {
        Self { buffer, ranges }
    }

    pub(super) const fn len(self) -> usize {
        self.ranges.len()
    }

    pub(super) fn at(self, index: usize) -> &'a [u8] {
        self.ranges.get(index).map_or(&[], |range| range.of(self.buffer))
    }

    /// The arguments from `start` on.
    pub(super) fn from(self, start: usize) -> impl Iterator<Item = &'a [u8]> + Clone {
        let buffer = self.buffer;
        self.ranges.get(start..).unwrap_or_default().iter().map(move |range| range.of(buffer))
    }

    /// The arguments from `start` on, two by two.
    pub(super) fn pairs(self, start: usize) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        (start..self.len()).step_by(2).map(move |at| (self.at(at), self.at(at + 1)))
    }

    /// Is the argument at `index` this word, in any case?
    pub(super) fn is(self, index: usize, word: &str) -> bool {
        self.at(index).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn int(self, index: usize) -> Result<i64, Fault> {
        parse_i64(self.at(index)).ok_or(NOT_INTEGER)
    }

    /// An integer that is not negative.
    pub(super) fn positive(self, index: usize) -> Result<usize, Fault> {
        let value = parse_i64(self.at(index)).ok_or(NOT_POSITIVE)?;
        usize::try_from(value).map_err(|_| NOT_POSITIVE)
    }

    /// An integer whose negation is one too; Redis asks this of counts that carry a direction.
    pub(super) fn signed_count(self, index: usize) -> Result<i64, Fault> {
        let count = self.int(index)?;
        if count == i64::MIN {
            return Err(Fault::owned(format!(
                "ERR value is out of range, value must between {} and {}",
                -i64::MAX,
                i64::MAX
            )));
        }
        Ok(count)
    }

    pub(super) fn float(self, index: usize) -> Result<f64, Fault> {
        float::parse(self.at(index)).ok_or(NOT_FLOAT)
    }
}

/// A range of positions as Redis clips it: negative counts from the end. `None` if it is empty.
pub(super) fn clip(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let absolute = |at: i64| if at < 0 { length + at } else { at };
    let (start, end) = (absolute(start).max(0), absolute(end).min(length - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}
