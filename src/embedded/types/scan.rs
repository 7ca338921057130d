//! What the SCAN family and the random picks share.
//!
//! A cursor is the number of positions still to visit, walked downwards: removing an element moves
//! the last one into its place, so an element that is there all the time is met at least once.

use crate::embedded::args::Args;
use crate::embedded::reply::{Fault, NOT_INTEGER, Out, SYNTAX};
use crate::embedded::store::Store;
use crate::keys::glob;
use crate::wire::number::parse_i64;
use std::ops::Range;

/// Collections up to this size are answered at once, as Redis answers its compact encodings.
const AT_ONCE: usize = 128;

/// Reads a cursor as `strtoul` does.
pub(in crate::embedded) fn cursor(text: &[u8]) -> Result<usize, Fault> {
    const INVALID: Fault = Fault::text("ERR invalid cursor");
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let value = digits.iter().try_fold(0_usize, |value, digit| {
        value.checked_mul(10)?.checked_add(usize::from(digit - b'0'))
    });
    let value = value.ok_or(INVALID)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// MATCH, COUNT, and for SCAN itself TYPE.
#[derive(Debug)]
pub(in crate::embedded) struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    pub(in crate::embedded) type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    pub(in crate::embedded) fn parse(args: Args<'a>, start: usize) -> Result<Self, Fault> {
        let mut options = Self { pattern: None, count: 10, type_name: None };
        let mut at = start;
        while at < args.len() {
            let has_next = at + 1 < args.len();
            if has_next && args.is(at, "count") {
                let count = parse_i64(args.at(at + 1)).ok_or(NOT_INTEGER)?;
                options.count = usize::try_from(count).ok().filter(|n| *n > 0).ok_or(SYNTAX)?;
            } else if has_next && args.is(at, "match") {
                options.pattern = Some(args.at(at + 1)).filter(|pattern| *pattern != b"*");
            } else if has_next && args.is(at, "type") && start == 2 {
                options.type_name = Some(args.at(at + 1));
            } else {
                return Err(SYNTAX);
            }
            at += 2;
        }
        Ok(options)
    }

    pub(in crate::embedded) fn matches(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, text))
    }

    /// The next cursor, and the positions to visit now, of `length` in all.
    pub(in crate::embedded) fn walk(&self, cursor: usize, length: usize) -> (usize, Range<usize>) {
        let end = if cursor == 0 { length } else { cursor.min(length) };
        let start = end.saturating_sub(self.count);
        (start, start..end)
    }

    /// As [`Options::walk`], for the elements of one key.
    pub(super) fn window(&self, cursor: usize, length: usize) -> (usize, Range<usize>) {
        if length <= AT_ONCE { (0, 0..length) } else { self.walk(cursor, length) }
    }
}

/// The beginning of a reply with `count` elements.
pub(in crate::embedded) fn head(out: &mut Out, next: usize, count: usize) {
    let mut digits = itoa::Buffer::new();
    out.array(2);
    out.bulk(digits.format(next).as_bytes());
    out.array(count);
}

/// The reply for a missing key.
pub(super) fn empty(out: &mut Out) {
    head(out, 0, 0);
}

/// Most elements that one command picks with repetitions. Redis has no such limit and would run
/// until its memory ends; here that memory is the proxy's.
const REPETITIONS_MAX: usize = 1 << 24;

/// Positions by chance: distinct ones for a positive count, with repetitions for a negative one.
pub(super) fn choose(store: &mut Store, length: usize, count: i64) -> Result<Vec<usize>, Fault> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(Vec::new());
    }
    if count < 0 {
        if wanted > REPETITIONS_MAX {
            return Err(Fault::text("ERR value is out of range"));
        }
        return Ok((0..wanted).filter_map(|_| store.random_below(length)).collect());
    }
    let mut positions: Vec<usize> = (0..length).collect();
    // The front of a shuffle, as far as it is needed.
    for at in 0..wanted.min(length) {
        if let Some(offset) = store.random_below(length - at) {
            positions.swap(at, at + offset);
        }
    }
    positions.truncate(wanted);
    Ok(positions)
}
