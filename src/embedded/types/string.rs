//! Strings: SET and its family, ranges, counters.

use super::Text;
use crate::embedded::args::Args;
use crate::embedded::float::Long;
use crate::embedded::reply::{
    Done, Fault, NOT_A_NUMBER, NOT_FLOAT, NOT_INTEGER, OVERFLOW, Out, SYNTAX, TOO_LONG,
};
use crate::embedded::store::Store;
use crate::wire::number::parse_i64;

/// Longest string (`proto-max-bulk-len`).
const LENGTH_MAX: usize = 512 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// A deadline as an option gives it: the argument, its unit, whether it counts from now.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Life {
    arg: usize,
    unit: Unit,
    from_now: bool,
}

impl Life {
    /// The deadline in milliseconds since 1970.
    fn deadline(self, args: Args<'_>, now: i64, name: &str) -> Result<i64, Fault> {
        let amount = args.int(self.arg)?;
        let wrong = || Fault::expire_time(name);
        let scale = if self.unit == Unit::Seconds { 1000 } else { 1 };
        let base = if self.from_now { now } else { 0 };
        let deadline = amount.checked_mul(scale).and_then(|ms| ms.checked_add(base));
        deadline.filter(|deadline| amount > 0 && *deadline > 0).ok_or_else(wrong)
    }
}

/// Which options a command takes beside the deadlines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Set,
    GetEx,
}

#[derive(Clone, Copy, Default)]
struct Options {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    life: Option<Life>,
}

impl Options {
    fn parse(args: Args<'_>, start: usize, family: Family) -> Result<Self, Fault> {
        let (mut options, mut at) = (Self::default(), start);
        let is_set = family == Family::Set;
        while at < args.len() {
            let has_next = at + 1 < args.len();
            if is_set && args.is(at, "nx") && !options.xx {
                options.nx = true;
            } else if is_set && args.is(at, "xx") && !options.nx {
                options.xx = true;
            } else if is_set && args.is(at, "get") {
                options.get = true;
            } else if is_set && args.is(at, "keepttl") && options.life.is_none() {
                options.keep_ttl = true;
            } else if !is_set && args.is(at, "persist") && options.life.is_none() {
                options.persist = true;
            } else if has_next && !options.keep_ttl && !options.persist {
                options.life = Some(options.life(args, at).ok_or(SYNTAX)?);
                at += 1;
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }

    /// A deadline option; the same one twice is taken, as Redis does, another one is not.
    fn life(&self, args: Args<'_>, at: usize) -> Option<Life> {
        let (unit, from_now) = match args.at(at).to_ascii_lowercase().as_slice() {
            b"ex" => (Unit::Seconds, true),
            b"px" => (Unit::Milliseconds, true),
            b"exat" => (Unit::Seconds, false),
            b"pxat" => (Unit::Milliseconds, false),
            _ => return None,
        };
        let same = self.life.is_none_or(|life| life.unit == unit && life.from_now == from_now);
        same.then_some(Life { arg: at + 1, unit, from_now })
    }
}

pub(in crate::embedded) fn set(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, options) = (args.at(1), Options::parse(args, 3, Family::Set)?);
    let deadline = options.life.map(|life| life.deadline(args, store.now, "set")).transpose()?;
    if options.get {
        let old = store.read::<Text>(key)?;
        out.bulk_or_null(old.map(Vec::as_slice));
    }
    let found = store.live(key);
    if (options.nx && found) || (options.xx && !found) {
        if !options.get {
            out.null();
        }
        return Ok(());
    }
    let deadline =
        if options.keep_ttl { store.entry(key).and_then(|entry| entry.expires) } else { deadline };
    store.put(key, args.at(2).to_vec().into(), deadline);
    store.signal(key);
    if !options.get {
        out.ok();
    }
    Ok(())
}

pub(in crate::embedded) fn setnx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let free = !store.live(key);
    if free {
        store.put(key, args.at(2).to_vec().into(), None);
        store.signal(key);
    }
    out.flag(free);
    Ok(())
}

pub(in crate::embedded) fn setex(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    set_with_life(store, args, out, Unit::Seconds, "setex")
}

pub(in crate::embedded) fn psetex(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    set_with_life(store, args, out, Unit::Milliseconds, "psetex")
}

fn set_with_life(store: &mut Store, args: Args<'_>, out: &mut Out, unit: Unit, name: &str) -> Done {
    let deadline = Life { arg: 2, unit, from_now: true }.deadline(args, store.now, name)?;
    store.put(args.at(1), args.at(3).to_vec().into(), Some(deadline));
    store.signal(args.at(1));
    out.ok();
    Ok(())
}

pub(in crate::embedded) fn get(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let text = store.read::<Text>(args.at(1))?;
    out.bulk_or_null(text.map(Vec::as_slice));
    Ok(())
}

pub(in crate::embedded) fn getset(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    get(store, args, out)?;
    store.put(args.at(1), args.at(2).to_vec().into(), None);
    store.signal(args.at(1));
    Ok(())
}

pub(in crate::embedded) fn getdel(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    get(store, args, out)?;
    if store.remove(args.at(1)).is_some() {
        store.signal(args.at(1));
    }
    Ok(())
}

pub(in crate::embedded) fn getex(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, options) = (args.at(1), Options::parse(args, 2, Family::GetEx)?);
    let now = store.now;
    let Some(text) = store.read::<Text>(key)? else {
        out.null();
        return Ok(());
    };
    let deadline = options.life.map(|life| life.deadline(args, now, "getex")).transpose()?;
    out.bulk(text);
    let has_deadline = store.entry(key).is_some_and(|entry| entry.expires.is_some());
    match deadline {
        Some(past) if past <= now => {
            store.remove(key);
        }
        Some(_) => store.set_deadline(key, deadline),
        None if options.persist && has_deadline => store.set_deadline(key, None),
        None => return Ok(()),
    }
    store.signal(key);
    Ok(())
}

pub(in crate::embedded) fn mget(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.array(args.len() - 1);
    for key in args.from(1) {
        // A key of another type is answered like a missing one.
        let text = store.read::<Text>(key).ok().flatten();
        out.bulk_or_null(text.map(Vec::as_slice));
    }
    Ok(())
}

pub(in crate::embedded) fn mset(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(Fault::arity("mset"));
    }
    put_pairs(store, args);
    out.ok();
    Ok(())
}

pub(in crate::embedded) fn msetnx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(Fault::arity("msetnx"));
    }
    let free = !args.pairs(1).any(|(key, _)| store.live(key));
    if free {
        put_pairs(store, args);
    }
    out.flag(free);
    Ok(())
}

fn put_pairs(store: &mut Store, args: Args<'_>) {
    for (key, value) in args.pairs(1) {
        store.put(key, value.to_vec().into(), None);
        store.signal(key);
    }
}

pub(in crate::embedded) fn append(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, tail) = (args.at(1), args.at(2));
    if store.read::<Text>(key)?.map_or(0, Vec::len) + tail.len() > LENGTH_MAX {
        return Err(TOO_LONG);
    }
    let mut text = store.edit_or_new::<Text>(key)?;
    text.extend_from_slice(tail);
    out.count(text.len());
    drop(text);
    store.signal(key);
    Ok(())
}

pub(in crate::embedded) fn strlen(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(store.read::<Text>(args.at(1))?.map_or(0, Vec::len));
    Ok(())
}

pub(in crate::embedded) fn getrange(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let text = store.read::<Text>(args.at(1))?.map_or(&[][..], Vec::as_slice);
    out.bulk(range(text, start, end).unwrap_or_default());
    Ok(())
}

/// Unlike the ranges of lists, one that ends before the start still has the first byte.
fn range(text: &[u8], start: i64, end: i64) -> Option<&[u8]> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let length = i64::try_from(text.len()).ok()?;
    let absolute = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (absolute(start), absolute(end).min(length - 1));
    text.get(usize::try_from(start).ok()?..usize::try_from(end + 1).ok()?)
}

pub(in crate::embedded) fn setrange(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, patch) = (args.at(1), args.at(3));
    let offset = args.int(2)?;
    let offset = usize::try_from(offset).map_err(|_| Fault::text("ERR offset is out of range"))?;
    let length = store.read::<Text>(key)?.map_or(0, Vec::len);
    if patch.is_empty() {
        out.count(length);
        return Ok(());
    }
    let end = offset.checked_add(patch.len()).filter(|end| *end <= LENGTH_MAX).ok_or(TOO_LONG)?;
    let mut text = store.edit_or_new::<Text>(key)?;
    if text.len() < end {
        text.resize(end, 0);
    }
    if let Some(place) = text.get_mut(offset..end) {
        place.copy_from_slice(patch);
    }
    out.count(text.len());
    drop(text);
    store.signal(key);
    Ok(())
}

pub(in crate::embedded) fn incr(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    add(store, args.at(1), 1, out)
}

pub(in crate::embedded) fn decr(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    add(store, args.at(1), -1, out)
}

pub(in crate::embedded) fn incrby(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    add(store, args.at(1), args.int(2)?, out)
}

pub(in crate::embedded) fn decrby(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let by = args.int(2)?.checked_neg().ok_or(Fault::text("ERR decrement would overflow"))?;
    add(store, args.at(1), by, out)
}

fn add(store: &mut Store, key: &[u8], by: i64, out: &mut Out) -> Done {
    let text = store.read::<Text>(key)?;
    let value = text.map_or(Some(0), |text| parse_i64(text)).ok_or(NOT_INTEGER)?;
    let sum = value.checked_add(by).ok_or(OVERFLOW)?;
    let mut digits = itoa::Buffer::new();
    replace(store, key, digits.format(sum).as_bytes())?;
    out.integer(sum);
    Ok(())
}

pub(in crate::embedded) fn incrbyfloat(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let text = store.read::<Text>(key)?;
    let value = text.map_or(Some(Long::ZERO), |text| Long::parse(text)).ok_or(NOT_FLOAT)?;
    let by = Long::parse(args.at(2)).ok_or(NOT_FLOAT)?;
    let sum = value.plus(by).ok_or(NOT_A_NUMBER)?.format();
    replace(store, key, sum.as_bytes())?;
    out.bulk(sum.as_bytes());
    Ok(())
}

/// Sets a string but keeps its deadline.
fn replace(store: &mut Store, key: &[u8], value: &[u8]) -> Done {
    let mut text = store.edit_or_new::<Text>(key)?;
    text.clear();
    text.extend_from_slice(value);
    drop(text);
    store.signal(key);
    Ok(())
}
