//! Hashes.

use super::ELEMENT_OVERHEAD;
use super::scan;
use crate::embedded::args::Args;
use crate::embedded::float::Long;
use crate::embedded::reply::{Done, Fault, NOT_A_NUMBER, NOT_FLOAT, OVERFLOW, Out, SYNTAX};
use crate::embedded::store::Store;
use crate::wire::number::parse_i64;
use foldhash::fast::RandomState;
use indexmap::IndexMap;

/// Fields and values, with positions for HSCAN and HRANDFIELD.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct Hash {
    fields: IndexMap<Vec<u8>, Vec<u8>, RandomState>,
    bytes: usize,
}

impl Hash {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(Vec::as_slice)
    }

    pub(super) fn at(&self, position: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get_index(position).map(|(field, value)| (field.as_slice(), value.as_slice()))
    }

    /// True if the field is new.
    fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.bytes += value.len();
        if let Some(old) = self.fields.get_mut(field) {
            self.bytes -= old.len();
            old.clear();
            old.extend_from_slice(value);
            return false;
        }
        self.bytes += field.len() + ELEMENT_OVERHEAD;
        self.fields.insert(field.to_vec(), value.to_vec());
        true
    }

    fn remove(&mut self, field: &[u8]) -> bool {
        let Some(value) = self.fields.swap_remove(field) else {
            return false;
        };
        self.bytes -= field.len() + value.len() + ELEMENT_OVERHEAD;
        true
    }
}

pub(in crate::embedded) fn hset(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let created = put_fields(store, args, "hset")?;
    out.count(created);
    Ok(())
}

pub(in crate::embedded) fn hmset(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    put_fields(store, args, "hmset")?;
    out.ok();
    Ok(())
}

fn put_fields(store: &mut Store, args: Args<'_>, name: &str) -> Result<usize, Fault> {
    if !args.len().is_multiple_of(2) {
        return Err(Fault::arity(name));
    }
    let mut hash = store.edit_or_new::<Hash>(args.at(1))?;
    let created = args.pairs(2).filter(|(field, value)| hash.insert(field, value)).count();
    drop(hash);
    store.signal(args.at(1));
    Ok(created)
}

pub(in crate::embedded) fn hsetnx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let mut hash = store.edit_or_new::<Hash>(args.at(1))?;
    let free = hash.get(args.at(2)).is_none();
    if free {
        hash.insert(args.at(2), args.at(3));
    }
    drop(hash);
    if free {
        store.signal(args.at(1));
    }
    out.flag(free);
    Ok(())
}

pub(in crate::embedded) fn hget(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.bulk_or_null(hash.and_then(|hash| hash.get(args.at(2))));
    Ok(())
}

pub(in crate::embedded) fn hmget(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.array(args.len() - 2);
    for field in args.from(2) {
        out.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

pub(in crate::embedded) fn hgetall(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.iter().flat_map(|hash| &hash.fields) {
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}

pub(in crate::embedded) fn hkeys(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.array(hash.map_or(0, Hash::len));
    for field in hash.iter().flat_map(|hash| hash.fields.keys()) {
        out.bulk(field);
    }
    Ok(())
}

pub(in crate::embedded) fn hvals(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.array(hash.map_or(0, Hash::len));
    for value in hash.iter().flat_map(|hash| hash.fields.values()) {
        out.bulk(value);
    }
    Ok(())
}

pub(in crate::embedded) fn hlen(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(store.read::<Hash>(args.at(1))?.map_or(0, Hash::len));
    Ok(())
}

pub(in crate::embedded) fn hexists(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.flag(hash.is_some_and(|hash| hash.get(args.at(2)).is_some()));
    Ok(())
}

pub(in crate::embedded) fn hstrlen(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let hash = store.read::<Hash>(args.at(1))?;
    out.count(hash.and_then(|hash| hash.get(args.at(2))).map_or(0, <[u8]>::len));
    Ok(())
}

pub(in crate::embedded) fn hdel(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let removed = match store.edit::<Hash>(key)? {
        Some(mut hash) => args.from(2).filter(|field| hash.remove(field)).count(),
        None => 0,
    };
    if removed > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    out.count(removed);
    Ok(())
}

pub(in crate::embedded) fn hincrby(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, field, by) = (args.at(1), args.at(2), args.int(3)?);
    let value =
        store.read::<Hash>(key)?.and_then(|hash| hash.get(field)).map_or(Some(0), parse_i64);
    let sum = value
        .ok_or(Fault::text("ERR hash value is not an integer"))?
        .checked_add(by)
        .ok_or(OVERFLOW)?;
    let mut digits = itoa::Buffer::new();
    store.edit_or_new::<Hash>(key)?.insert(field, digits.format(sum).as_bytes());
    store.signal(key);
    out.integer(sum);
    Ok(())
}

pub(in crate::embedded) fn hincrbyfloat(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (key, field) = (args.at(1), args.at(2));
    let by = Long::parse(args.at(3)).ok_or(NOT_FLOAT)?;
    if by == Long::Infinite {
        return Err(Fault::text("ERR value is NaN or Infinity"));
    }
    let value = store.read::<Hash>(key)?.and_then(|hash| hash.get(field));
    let value = value.map_or(Some(Long::ZERO), Long::parse);
    let sum = value
        .ok_or(Fault::text("ERR hash value is not a float"))?
        .plus(by)
        .ok_or(NOT_A_NUMBER)?
        .format();
    store.edit_or_new::<Hash>(key)?.insert(field, sum.as_bytes());
    store.signal(key);
    out.bulk(sum.as_bytes());
    Ok(())
}

pub(in crate::embedded) fn hrandfield(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    if args.len() == 2 {
        let length = store.read::<Hash>(key)?.map_or(0, Hash::len);
        let chosen = store.random_below(length);
        let hash = store.read::<Hash>(key)?;
        out.bulk_or_null(hash.zip(chosen).and_then(|(hash, at)| hash.at(at)).map(|pair| pair.0));
        return Ok(());
    }
    let count = args.signed_count(2)?;
    let with_values = args.len() == 4 && args.is(3, "withvalues");
    if args.len() > 3 && !with_values {
        return Err(SYNTAX);
    }
    if with_values && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(Fault::text("ERR value is out of range"));
    }
    let length = store.read::<Hash>(key)?.map_or(0, Hash::len);
    let chosen = scan::choose(store, length, count)?;
    let hash = store.read::<Hash>(key)?;
    if with_values {
        out.pairs(chosen.len());
    } else {
        out.array(chosen.len());
    }
    for (field, value) in chosen.iter().filter_map(|at| hash.and_then(|hash| hash.at(*at))) {
        if with_values {
            out.pair();
        }
        out.bulk(field);
        if with_values {
            out.bulk(value);
        }
    }
    Ok(())
}

pub(in crate::embedded) fn hscan(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let cursor = scan::cursor(args.at(2))?;
    let Some(hash) = store.read::<Hash>(args.at(1))? else {
        scan::empty(out);
        return Ok(());
    };
    let options = scan::Options::parse(args, 3)?;
    let (next, range) = options.window(cursor, hash.len());
    let pairs = range.filter_map(|at| hash.at(at));
    let found: Vec<_> = pairs.filter(|(field, _)| options.matches(field)).collect();
    scan::head(out, next, found.len() * 2);
    for (field, value) in found {
        out.bulk(field);
        out.bulk(value);
    }
    Ok(())
}
