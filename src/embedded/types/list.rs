//! Lists.

use super::ELEMENT_OVERHEAD;
use crate::embedded::args::{Args, clip};
use crate::embedded::reply::{Done, Fault, INDEX_RANGE, NO_SUCH_KEY, Out, SYNTAX};
use crate::embedded::store::Store;
use std::collections::VecDeque;

/// The elements of a list, head first.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct List {
    items: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) enum End {
    Left,
    Right,
}

impl End {
    pub(in crate::embedded) fn parse(args: Args<'_>, at: usize) -> Result<Self, Fault> {
        if args.is(at, "left") {
            Ok(Self::Left)
        } else if args.is(at, "right") {
            Ok(Self::Right)
        } else {
            Err(SYNTAX)
        }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(Vec::as_slice)
    }

    fn push(&mut self, end: End, item: &[u8]) {
        self.bytes += item.len() + ELEMENT_OVERHEAD;
        match end {
            End::Left => self.items.push_front(item.to_vec()),
            End::Right => self.items.push_back(item.to_vec()),
        }
    }

    fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let item = match end {
            End::Left => self.items.pop_front(),
            End::Right => self.items.pop_back(),
        }?;
        self.bytes -= item.len() + ELEMENT_OVERHEAD;
        Some(item)
    }

    /// Keeps the elements from `start` to `end`.
    fn trim(&mut self, start: usize, end: usize) {
        self.items.truncate(end + 1);
        self.items.drain(..start);
        self.settle();
    }

    /// Removes elements equal to `item`, at most `limit`, counted from one end.
    fn remove(&mut self, item: &[u8], limit: usize, from: End) -> usize {
        let (mut left, before) = (limit, self.items.len());
        let mut keep = |other: &Vec<u8>| {
            let stays = left == 0 || other != item;
            left -= usize::from(!stays);
            stays
        };
        if from == End::Left {
            self.items.retain(keep);
        } else {
            self.items =
                std::mem::take(&mut self.items).into_iter().rev().filter(&mut keep).collect();
            self.items.make_contiguous().reverse();
        }
        self.settle();
        before - self.items.len()
    }

    fn position(&self, index: i64) -> Option<usize> {
        let length = i64::try_from(self.items.len()).ok()?;
        let absolute = if index < 0 { length + index } else { index };
        usize::try_from(absolute).ok().filter(|at| *at < self.items.len())
    }

    /// Counts the bytes anew, after a change that walked the list anyway.
    fn settle(&mut self) {
        self.bytes = self.items.iter().map(|item| item.len() + ELEMENT_OVERHEAD).sum();
    }
}

pub(in crate::embedded) fn lpush(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    push(store, args, out, End::Left)
}

pub(in crate::embedded) fn rpush(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    push(store, args, out, End::Right)
}

pub(in crate::embedded) fn lpushx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    push_if_there(store, args, out, End::Left)
}

pub(in crate::embedded) fn rpushx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    push_if_there(store, args, out, End::Right)
}

fn push_if_there(store: &mut Store, args: Args<'_>, out: &mut Out, end: End) -> Done {
    if store.live(args.at(1)) {
        return push(store, args, out, end);
    }
    out.integer(0);
    Ok(())
}

fn push(store: &mut Store, args: Args<'_>, out: &mut Out, end: End) -> Done {
    let mut list = store.edit_or_new::<List>(args.at(1))?;
    for item in args.from(2) {
        list.push(end, item);
    }
    out.count(list.len());
    drop(list);
    store.signal(args.at(1));
    Ok(())
}

pub(in crate::embedded) fn lpop(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    pop(store, args, out, End::Left, "lpop")
}

pub(in crate::embedded) fn rpop(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    pop(store, args, out, End::Right, "rpop")
}

fn pop(store: &mut Store, args: Args<'_>, out: &mut Out, end: End, name: &str) -> Done {
    let key = args.at(1);
    if args.len() > 3 {
        return Err(Fault::arity(name));
    }
    let count = if args.len() == 3 { Some(args.positive(2)?) } else { None };
    let Some(mut list) = store.edit::<List>(key)? else {
        if count.is_some() {
            out.null_array();
        } else {
            out.null();
        }
        return Ok(());
    };
    let taken = count.unwrap_or(1).min(list.len());
    if count.is_some() {
        out.array(taken);
    }
    for item in (0..taken).filter_map(|_| list.pop(end)) {
        out.bulk(&item);
    }
    drop(list);
    if taken > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    Ok(())
}

pub(in crate::embedded) fn llen(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(store.read::<List>(args.at(1))?.map_or(0, List::len));
    Ok(())
}

pub(in crate::embedded) fn lindex(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let Some(list) = store.read::<List>(args.at(1))? else {
        out.null();
        return Ok(());
    };
    let item = list.position(args.int(2)?).and_then(|at| list.items.get(at));
    out.bulk_or_null(item.map(Vec::as_slice));
    Ok(())
}

pub(in crate::embedded) fn lrange(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let list = store.read::<List>(args.at(1))?;
    let range = list.and_then(|list| Some((list, clip(start, end, list.len())?)));
    let Some((list, (start, end))) = range else {
        out.array(0);
        return Ok(());
    };
    out.array(end - start + 1);
    for item in list.items.range(start..=end) {
        out.bulk(item);
    }
    Ok(())
}

pub(in crate::embedded) fn lset(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let mut list = store.edit::<List>(args.at(1))?.ok_or(NO_SUCH_KEY)?;
    let at = list.position(args.int(2)?).ok_or(INDEX_RANGE)?;
    if let Some(item) = list.items.get_mut(at) {
        let old = std::mem::replace(item, args.at(3).to_vec());
        list.bytes = list.bytes - old.len() + args.at(3).len();
    }
    drop(list);
    store.signal(args.at(1));
    out.ok();
    Ok(())
}

pub(in crate::embedded) fn lrem(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, count) = (args.at(1), args.int(2)?);
    let limit = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let from = if count < 0 { End::Right } else { End::Left };
    let removed = match store.edit::<List>(key)? {
        Some(mut list) => {
            list.remove(args.at(3), usize::try_from(limit).unwrap_or(usize::MAX), from)
        }
        None => 0,
    };
    if removed > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    out.count(removed);
    Ok(())
}

pub(in crate::embedded) fn ltrim(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, start, end) = (args.at(1), args.int(2)?, args.int(3)?);
    let Some(mut list) = store.edit::<List>(key)? else {
        out.ok();
        return Ok(());
    };
    let range = clip(start, end, list.len());
    if let Some((start, end)) = range {
        list.trim(start, end);
    }
    drop(list);
    if range.is_none() {
        store.remove(key);
    }
    store.signal(key);
    out.ok();
    Ok(())
}

pub(in crate::embedded) fn linsert(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let after = args.is(2, "after");
    if !after && !args.is(2, "before") {
        return Err(SYNTAX);
    }
    let Some(mut list) = store.edit::<List>(key)? else {
        out.integer(0);
        return Ok(());
    };
    let Some(pivot) = list.items.iter().position(|item| item == args.at(3)) else {
        out.integer(-1);
        return Ok(());
    };
    list.items.insert(pivot + usize::from(after), args.at(4).to_vec());
    list.bytes += args.at(4).len() + ELEMENT_OVERHEAD;
    out.count(list.len());
    drop(list);
    store.signal(key);
    Ok(())
}

pub(in crate::embedded) fn lmove(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (from, to) = (End::parse(args, 3)?, End::parse(args, 4)?);
    transfer(store, args, out, (from, to))
}

pub(in crate::embedded) fn rpoplpush(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    transfer(store, args, out, (End::Right, End::Left))
}

fn transfer(store: &mut Store, args: Args<'_>, out: &mut Out, ends: (End, End)) -> Done {
    let item = move_one(store, (args.at(1), args.at(2)), ends)?;
    out.bulk_or_null(item.as_deref());
    Ok(())
}

/// Takes an element from one end of a list.
pub(in crate::embedded) fn pop_one(
    store: &mut Store,
    key: &[u8],
    end: End,
) -> Result<Option<Vec<u8>>, Fault> {
    let item = store.edit::<List>(key)?.and_then(|mut list| list.pop(end));
    if item.is_some() {
        store.remove_if_empty(key);
        store.signal(key);
    }
    Ok(item)
}

/// Takes an element from one end of a list and puts it to one end of another.
pub(in crate::embedded) fn move_one(
    store: &mut Store,
    (source, target): (&[u8], &[u8]),
    ends: (End, End),
) -> Result<Option<Vec<u8>>, Fault> {
    if store.read::<List>(source)?.is_none() {
        return Ok(None);
    }
    store.read::<List>(target)?;
    let item = store.edit::<List>(source)?.and_then(|mut list| list.pop(ends.0));
    if let Some(item) = &item {
        store.edit_or_new::<List>(target)?.push(ends.1, item);
        store.remove_if_empty(source);
        store.signal(source);
        store.signal(target);
    }
    Ok(item)
}

pub(in crate::embedded) fn lpos(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    const RANK_ZERO: Fault = Fault::text(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
         or use negative to start from the end of the list",
    );
    let (mut rank, mut count, mut longest, mut at) = (1, None, 0, 3);
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(SYNTAX);
        }
        if args.is(at, "rank") {
            rank = args.int(at + 1)?;
            if rank == 0 {
                return Err(RANK_ZERO);
            }
        } else if args.is(at, "count") {
            let negative = |_| Fault::text("ERR COUNT can't be negative");
            count = Some(args.positive(at + 1).map_err(negative)?);
        } else if args.is(at, "maxlen") {
            let negative = |_| Fault::text("ERR MAXLEN can't be negative");
            longest = args.positive(at + 1).map_err(negative)?;
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let list = store.read::<List>(args.at(1))?;
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let longest = if longest == 0 { usize::MAX } else { longest };
    let found = list.map(|list| find(list, args.at(2), rank, wanted, longest)).unwrap_or_default();
    if count.is_some() {
        out.array(found.len());
    } else if found.is_empty() {
        out.null();
    }
    for position in found {
        out.count(position);
    }
    Ok(())
}

/// Positions of `item`: from the `rank`-th match on, `wanted` of them, over `longest` elements.
fn find(list: &List, item: &[u8], rank: i64, wanted: usize, longest: usize) -> Vec<usize> {
    // Redis negates the rank: of the lowest number nothing comes, and no match is passed over.
    let skip = rank.checked_abs().map_or(0, |rank| usize::try_from(rank - 1).unwrap_or(usize::MAX));
    let is_it = |(at, other): (usize, &Vec<u8>)| (other == item).then_some(at);
    let all = list.items.iter().enumerate();
    if rank > 0 {
        all.take(longest).filter_map(is_it).skip(skip).take(wanted).collect()
    } else {
        all.rev().take(longest).filter_map(is_it).skip(skip).take(wanted).collect()
    }
}
