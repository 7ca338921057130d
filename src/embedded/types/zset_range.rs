//! Ranges of sorted sets: by position, by score, by name.

use super::zset::{Score, Zset};
use crate::embedded::args::{Args, clip};
use crate::embedded::float;
use crate::embedded::reply::{Done, Fault, Out, SYNTAX};
use crate::embedded::store::Store;
use bytes::Bytes;
use std::ops::Bound;

const NOT_SCORES: Fault = Fault::text("ERR min or max is not a float");
const NOT_NAMES: Fault = Fault::text("ERR min or max not valid string range item");

/// What the two ends of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// The members between two ends, in ascending order.
#[derive(Debug)]
enum Span<'a> {
    Rank(i64, i64),
    Score(Bound<f64>, Bound<f64>),
    Lex(Bound<&'a [u8]>, Bound<&'a [u8]>),
}

impl<'a> Span<'a> {
    fn parse(by: By, args: Args<'a>, min: usize, max: usize) -> Result<Self, Fault> {
        Ok(match by {
            By::Rank => Self::Rank(args.int(min)?, args.int(max)?),
            By::Score => Self::Score(score_bound(args.at(min))?, score_bound(args.at(max))?),
            By::Lex => {
                let (min, max) = (LexEnd::parse(args.at(min))?, LexEnd::parse(args.at(max))?);
                let (LexEnd::Below | LexEnd::At(_), LexEnd::Above | LexEnd::At(_)) = (min, max)
                else {
                    // From above everything, or to below everything: no member is there.
                    return Ok(Self::Lex(Bound::Excluded(b""), Bound::Excluded(b"")));
                };
                Self::Lex(min.bound(), max.bound())
            }
        })
    }

    /// The members of the span.
    fn members<'z>(&self, zset: &'z Zset) -> Box<dyn DoubleEndedIterator<Item = Member<'z>> + 'z> {
        let ordered = zset.order().iter().map(|(score, member)| (score.0, member));
        match *self {
            Self::Rank(start, end) => match clip(start, end, zset.len()) {
                None => Box::new(std::iter::empty()),
                Some((start, end)) => slice(zset, start, end),
            },
            Self::Score(min, max) => {
                if is_empty(min, max) {
                    return Box::new(std::iter::empty());
                }
                let after = |bound: Bound<f64>| match bound {
                    Bound::Included(score) => Bound::Included((Score(score), Bytes::new())),
                    // The first place behind every member of that score.
                    Bound::Excluded(score) => Bound::Included((Score(next(score)), Bytes::new())),
                    Bound::Unbounded => Bound::Unbounded,
                };
                let before = |bound: Bound<f64>| match bound {
                    Bound::Excluded(score) => Bound::Excluded((Score(score), Bytes::new())),
                    Bound::Included(score) if score < f64::INFINITY => {
                        Bound::Excluded((Score(next(score)), Bytes::new()))
                    }
                    Bound::Included(_) | Bound::Unbounded => Bound::Unbounded,
                };
                let range = zset.order().range((after(min), before(max)));
                Box::new(range.map(|(score, member)| (score.0, member)))
            }
            Self::Lex(min, max) => {
                let first =
                    ordered.clone().take_while(|(_, member)| is_before(min, member)).count();
                let end = ordered.take_while(|(_, member)| !is_after(max, member)).count();
                if first >= end {
                    Box::new(std::iter::empty())
                } else {
                    slice(zset, first, end - 1)
                }
            }
        }
    }
}

type Member<'z> = (f64, &'z Bytes);

/// The members from one position to another.
fn slice(
    zset: &Zset,
    start: usize,
    end: usize,
) -> Box<dyn DoubleEndedIterator<Item = Member<'_>> + '_> {
    // A set has no exact length to its iterator from both ends: walk from the nearer one.
    let members = zset.order().iter().map(|(score, member)| (score.0, member));
    let from_end = zset.len() - 1 - end;
    let mut members = members;
    if start > 0 {
        members.nth(start - 1);
    }
    if from_end > 0 {
        members.nth_back(from_end - 1);
    }
    Box::new(members)
}

/// The next larger double.
fn next(score: f64) -> f64 {
    if score == f64::INFINITY { score } else { score.next_up() }
}

fn is_empty(min: Bound<f64>, max: Bound<f64>) -> bool {
    match (min, max) {
        (Bound::Included(min), Bound::Included(max)) => min > max,
        // Nothing lies above infinity: `next` could not say so.
        (Bound::Excluded(f64::INFINITY), _) => true,
        (
            Bound::Included(min) | Bound::Excluded(min),
            Bound::Included(max) | Bound::Excluded(max),
        ) => min >= max,
        _ => false,
    }
}

fn is_before(min: Bound<&[u8]>, member: &[u8]) -> bool {
    match min {
        Bound::Included(min) => member < min,
        Bound::Excluded(min) => member <= min,
        Bound::Unbounded => false,
    }
}

fn is_after(max: Bound<&[u8]>, member: &[u8]) -> bool {
    match max {
        Bound::Included(max) => member > max,
        Bound::Excluded(max) => member >= max,
        Bound::Unbounded => false,
    }
}

/// One end of a range by score: `1.5`, `(1.5`, `-inf`.
fn score_bound(text: &[u8]) -> Result<Bound<f64>, Fault> {
    let (exclusive, number) = match text {
        [b'(', number @ ..] => (true, number),
        number => (false, number),
    };
    let score = float::parse_c(number).ok_or(NOT_SCORES)?;
    Ok(if exclusive { Bound::Excluded(score) } else { Bound::Included(score) })
}

/// One end of a range by name: `-`, `+`, `[name`, `(name`.
#[derive(Clone, Copy, Debug)]
enum LexEnd<'a> {
    Below,
    Above,
    At(Bound<&'a [u8]>),
}

impl<'a> LexEnd<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, Fault> {
        match text {
            b"-" => Ok(Self::Below),
            b"+" => Ok(Self::Above),
            [b'[', name @ ..] => Ok(Self::At(Bound::Included(name))),
            [b'(', name @ ..] => Ok(Self::At(Bound::Excluded(name))),
            _ => Err(NOT_NAMES),
        }
    }

    const fn bound(self) -> Bound<&'a [u8]> {
        match self {
            Self::Below | Self::Above => Bound::Unbounded,
            Self::At(bound) => bound,
        }
    }
}

/// What ZRANGE and its older relatives ask for.
#[derive(Debug)]
struct Query<'a> {
    span: Span<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    limit: i64,
}

impl<'a> Query<'a> {
    /// `by` and `reverse` are given by the command's name, or (ZRANGE) by its options.
    fn parse(args: Args<'a>, by: Option<By>, reverse: Option<bool>) -> Result<Self, Fault> {
        let (mut by, mut direction, mut with_scores) = (by, reverse, false);
        let (mut offset, mut limit, mut at) = (0, -1, 4);
        while at < args.len() {
            if args.is(at, "withscores") {
                with_scores = true;
            } else if args.is(at, "limit") && at + 2 < args.len() {
                (offset, limit) = (args.int(at + 1)?, args.int(at + 2)?);
                at += 2;
            } else if direction.is_none() && args.is(at, "rev") {
                direction = Some(true);
            } else if by.is_none() && args.is(at, "bylex") {
                by = Some(By::Lex);
            } else if by.is_none() && args.is(at, "byscore") {
                by = Some(By::Score);
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), direction.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(Fault::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Fault::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // A reversed range is given from its upper end.
        let (min, max) = if reverse && by != By::Rank { (3, 2) } else { (2, 3) };
        let span = Span::parse(by, args, min, max)?;
        Ok(Self { span, reverse, with_scores, offset, limit })
    }

    fn run<'z>(&self, zset: &'z Zset) -> Vec<Member<'z>> {
        let span = match (&self.span, self.reverse) {
            // Positions count from the end that the walk begins at.
            (Span::Rank(start, end), true) => match clip(*start, *end, zset.len()) {
                None => return Vec::new(),
                Some((start, end)) => {
                    return slice(zset, zset.len() - 1 - end, zset.len() - 1 - start)
                        .rev()
                        .collect();
                }
            },
            (span, _) => span,
        };
        // A negative offset skips everything, a negative limit is none.
        let Ok(offset) = usize::try_from(self.offset) else {
            return Vec::new();
        };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let members = span.members(zset);
        if self.reverse {
            members.rev().skip(offset).take(limit).collect()
        } else {
            members.skip(offset).take(limit).collect()
        }
    }
}

pub(in crate::embedded) fn zrange(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    range(store, args, out, None, None)
}

pub(in crate::embedded) fn zrevrange(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    range(store, args, out, Some(By::Rank), Some(true))
}

pub(in crate::embedded) fn zrangebyscore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    range(store, args, out, Some(By::Score), Some(false))
}

pub(in crate::embedded) fn zrevrangebyscore(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    range(store, args, out, Some(By::Score), Some(true))
}

pub(in crate::embedded) fn zrangebylex(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    range(store, args, out, Some(By::Lex), Some(false))
}

pub(in crate::embedded) fn zrevrangebylex(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    range(store, args, out, Some(By::Lex), Some(true))
}

fn range(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
    by: Option<By>,
    reverse: Option<bool>,
) -> Done {
    let query = Query::parse(args, by, reverse)?;
    let zset = store.read::<Zset>(args.at(1))?;
    let found = zset.map(|zset| query.run(zset)).unwrap_or_default();
    if !query.with_scores {
        out.array(found.len());
        for (_, member) in found {
            out.bulk(member);
        }
        return Ok(());
    }
    out.pairs(found.len());
    for (score, member) in found {
        out.pair();
        out.bulk(member);
        out.double(score);
    }
    Ok(())
}

pub(in crate::embedded) fn zcount(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    count(store, args, out, By::Score)
}

pub(in crate::embedded) fn zlexcount(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    count(store, args, out, By::Lex)
}

fn count(store: &mut Store, args: Args<'_>, out: &mut Out, by: By) -> Done {
    let span = Span::parse(by, args, 2, 3)?;
    let zset = store.read::<Zset>(args.at(1))?;
    out.count(zset.map_or(0, |zset| span.members(zset).count()));
    Ok(())
}

pub(in crate::embedded) fn zremrangebyrank(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    remove(store, args, out, By::Rank)
}

pub(in crate::embedded) fn zremrangebyscore(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    remove(store, args, out, By::Score)
}

pub(in crate::embedded) fn zremrangebylex(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
) -> Done {
    remove(store, args, out, By::Lex)
}

fn remove(store: &mut Store, args: Args<'_>, out: &mut Out, by: By) -> Done {
    let (key, span) = (args.at(1), Span::parse(by, args, 2, 3)?);
    let mut removed = 0;
    if let Some(mut zset) = store.edit::<Zset>(key)? {
        let members: Vec<Bytes> = span.members(&zset).map(|(_, member)| member.clone()).collect();
        removed = members.iter().filter(|member| zset.remove(member)).count();
    }
    if removed > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    out.count(removed);
    Ok(())
}
