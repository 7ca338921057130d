//! Sorted sets: members, their scores, their order. Ranges are in `zset_range`.

use super::{ELEMENT_OVERHEAD, scan};
use crate::embedded::args::Args;
use crate::embedded::float;
use crate::embedded::reply::{Done, Fault, Out, SYNTAX};
use crate::embedded::store::Store;
use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// A score, never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score(pub(super) f64);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // Only NaN has no order; and -0 equals 0, unlike in `total_cmp`.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Members by name, and by (score, name). Both hold the same members.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct Zset {
    scores: IndexMap<Bytes, f64, RandomState>,
    order: BTreeSet<(Score, Bytes)>,
    bytes: usize,
}

impl Zset {
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    pub(super) const fn order(&self) -> &BTreeSet<(Score, Bytes)> {
        &self.order
    }

    fn at(&self, position: usize) -> Option<(&[u8], f64)> {
        self.scores.get_index(position).map(|(member, score)| (member.as_ref(), *score))
    }

    fn insert(&mut self, member: &[u8], score: f64) {
        // Redis' compact form keeps whole scores as integers, which know no -0.
        let score = if score == 0.0 { 0.0 } else { score };
        if let Some((_, member, old)) = self.scores.get_full_mut(member) {
            self.order.remove(&(Score(*old), member.clone()));
            self.order.insert((Score(score), member.clone()));
            *old = score;
            return;
        }
        let member = Bytes::copy_from_slice(member);
        self.bytes += member.len() + 2 * ELEMENT_OVERHEAD;
        self.order.insert((Score(score), member.clone()));
        self.scores.insert(member, score);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some((_, member, score)) = self.scores.swap_remove_full(member) else {
            return false;
        };
        self.bytes -= member.len() + 2 * ELEMENT_OVERHEAD;
        self.order.remove(&(Score(score), member));
        true
    }

    fn pop(&mut self, rank: Rank) -> Option<(Bytes, f64)> {
        let (Score(score), member) = match rank {
            Rank::Lowest => self.order.pop_first(),
            Rank::Highest => self.order.pop_last(),
        }?;
        self.remove(&member);
        Some((member, score))
    }

    fn rank(&self, member: &[u8]) -> Option<usize> {
        let (_, member, score) = self.scores.get_full(member)?;
        Some(self.order.range(..(Score(*score), member.clone())).count())
    }
}

#[derive(Clone, Copy, Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl AddOptions {
    /// The options, and where the scores begin.
    fn parse(args: Args<'_>) -> Result<(Self, usize), Fault> {
        let (mut options, mut at) = (Self::default(), 2);
        while at < args.len() {
            match args.at(at).to_ascii_lowercase().as_slice() {
                b"nx" => options.nx = true,
                b"xx" => options.xx = true,
                b"gt" => options.gt = true,
                b"lt" => options.lt = true,
                b"ch" => options.ch = true,
                b"incr" => options.incr = true,
                _ => break,
            }
            at += 1;
        }
        let left = args.len() - at;
        if left == 0 || !left.is_multiple_of(2) {
            return Err(SYNTAX);
        }
        if options.nx && options.xx {
            return Err(Fault::text("ERR XX and NX options at the same time are not compatible"));
        }
        if u8::from(options.gt) + u8::from(options.lt) + u8::from(options.nx) > 1 {
            return Err(Fault::text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if options.incr && left > 2 {
            return Err(Fault::text("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, at))
    }
}

pub(in crate::embedded) fn zadd(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (options, start) = AddOptions::parse(args)?;
    add(store, args, start, options, out)
}

pub(in crate::embedded) fn zincrby(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    add(store, args, 2, AddOptions { incr: true, ..AddOptions::default() }, out)
}

/// What [`place`] did with one member.
enum Placed {
    Added(f64),
    Moved(f64),
    Same(f64),
    Refused,
}

fn add(
    store: &mut Store,
    args: Args<'_>,
    start: usize,
    options: AddOptions,
    out: &mut Out,
) -> Done {
    let key = args.at(1);
    let scores: Vec<f64> =
        (start..args.len()).step_by(2).map(|at| args.float(at)).collect::<Result<_, _>>()?;
    let found = store.read::<Zset>(key)?.is_some();
    let (mut added, mut moved, mut last) = (0, 0, None);
    if found || !options.xx {
        let mut zset = store.edit_or_new::<Zset>(key)?;
        for ((_, member), score) in args.pairs(start).zip(scores) {
            last = match place(&mut zset, member, score, options)? {
                Placed::Added(score) => {
                    added += 1;
                    Some(score)
                }
                Placed::Moved(score) => {
                    moved += 1;
                    Some(score)
                }
                Placed::Same(score) => Some(score),
                Placed::Refused => None,
            };
        }
    }
    if added + moved > 0 {
        store.signal(key);
    }
    match (options.incr, last) {
        (false, _) => out.integer(added + if options.ch { moved } else { 0 }),
        (true, Some(score)) => out.double(score),
        (true, None) => out.null(),
    }
    Ok(())
}

fn place(zset: &mut Zset, member: &[u8], score: f64, options: AddOptions) -> Result<Placed, Fault> {
    let Some(old) = zset.score(member) else {
        if options.xx {
            return Ok(Placed::Refused);
        }
        zset.insert(member, score);
        return Ok(Placed::Added(score));
    };
    if options.nx {
        return Ok(Placed::Refused);
    }
    let score = if options.incr { old + score } else { score };
    if score.is_nan() {
        return Err(Fault::text("ERR resulting score is not a number (NaN)"));
    }
    if (options.gt && score <= old) || (options.lt && score >= old) {
        return Ok(Placed::Refused);
    }
    if Score(score) == Score(old) {
        return Ok(Placed::Same(score));
    }
    zset.insert(member, score);
    Ok(Placed::Moved(score))
}

pub(in crate::embedded) fn zrem(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let removed = match store.edit::<Zset>(key)? {
        Some(mut zset) => args.from(2).filter(|member| zset.remove(member)).count(),
        None => 0,
    };
    if removed > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    out.count(removed);
    Ok(())
}

pub(in crate::embedded) fn zscore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let zset = store.read::<Zset>(args.at(1))?;
    answer_score(zset, args.at(2), out);
    Ok(())
}

pub(in crate::embedded) fn zmscore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let zset = store.read::<Zset>(args.at(1))?;
    out.array(args.len() - 2);
    for member in args.from(2) {
        answer_score(zset, member, out);
    }
    Ok(())
}

fn answer_score(zset: Option<&Zset>, member: &[u8], out: &mut Out) {
    match zset.and_then(|zset| zset.score(member)) {
        Some(score) => out.double(score),
        None => out.null(),
    }
}

pub(in crate::embedded) fn zcard(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(store.read::<Zset>(args.at(1))?.map_or(0, Zset::len));
    Ok(())
}

pub(in crate::embedded) fn zrank(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let zset = store.read::<Zset>(args.at(1))?;
    match zset.and_then(|zset| zset.rank(args.at(2))) {
        Some(rank) => out.count(rank),
        None => out.null(),
    }
    Ok(())
}

pub(in crate::embedded) fn zrevrank(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let zset = store.read::<Zset>(args.at(1))?;
    match zset.and_then(|zset| Some(zset.len() - 1 - zset.rank(args.at(2))?)) {
        Some(rank) => out.count(rank),
        None => out.null(),
    }
    Ok(())
}

/// An end of the order.
#[derive(Clone, Copy, Debug)]
pub(in crate::embedded) enum Rank {
    Lowest,
    Highest,
}

pub(in crate::embedded) fn zpopmin(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    pop(store, args, out, Rank::Lowest)
}

pub(in crate::embedded) fn zpopmax(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    pop(store, args, out, Rank::Highest)
}

fn pop(store: &mut Store, args: Args<'_>, out: &mut Out, rank: Rank) -> Done {
    let key = args.at(1);
    if args.len() > 3 {
        return Err(SYNTAX);
    }
    let count = if args.len() == 3 { Some(args.positive(2)?) } else { None };
    let mut popped = Vec::new();
    if let Some(mut zset) = store.edit::<Zset>(key)? {
        for _ in 0..count.unwrap_or(1).min(zset.len()) {
            popped.extend(zset.pop(rank));
        }
    }
    if !popped.is_empty() {
        store.remove_if_empty(key);
        store.signal(key);
    }
    // Without a count the one pair is flat in both protocols.
    if count.is_some() {
        out.pairs(popped.len());
    } else {
        out.array(popped.len() * 2);
    }
    for (member, score) in popped {
        if count.is_some() {
            out.pair();
        }
        out.bulk(&member);
        out.double(score);
    }
    Ok(())
}

/// Takes the member at one end of the order.
pub(in crate::embedded) fn pop_one(
    store: &mut Store,
    key: &[u8],
    rank: Rank,
) -> Result<Option<(Bytes, f64)>, Fault> {
    let popped = store.edit::<Zset>(key)?.and_then(|mut zset| zset.pop(rank));
    if popped.is_some() {
        store.remove_if_empty(key);
        store.signal(key);
    }
    Ok(popped)
}

pub(in crate::embedded) fn zscan(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let cursor = scan::cursor(args.at(2))?;
    let Some(zset) = store.read::<Zset>(args.at(1))? else {
        scan::empty(out);
        return Ok(());
    };
    let options = scan::Options::parse(args, 3)?;
    let (next, range) = options.window(cursor, zset.len());
    let pairs = range.filter_map(|at| zset.at(at));
    let found: Vec<_> = pairs.filter(|(member, _)| options.matches(member)).collect();
    scan::head(out, next, found.len() * 2);
    for (member, score) in found {
        out.bulk(member);
        out.bulk(float::format(score).as_bytes());
    }
    Ok(())
}
