//! Sets, one at a time; what combines several is in `set_algebra`.

use super::{ELEMENT_OVERHEAD, scan};
use crate::embedded::args::Args;
use crate::embedded::reply::{Done, Out, SYNTAX};
use crate::embedded::store::Store;
use foldhash::fast::RandomState;
use indexmap::IndexSet;

/// Members, with positions for SSCAN, SPOP and SRANDMEMBER.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct Set {
    members: IndexSet<Vec<u8>, RandomState>,
    bytes: usize,
}

impl Set {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(Vec::as_slice)
    }

    fn at(&self, position: usize) -> Option<&[u8]> {
        self.members.get_index(position).map(Vec::as_slice)
    }

    /// True if the member is new.
    pub(super) fn insert(&mut self, member: &[u8]) -> bool {
        let free = !self.contains(member);
        if free {
            self.bytes += member.len() + ELEMENT_OVERHEAD;
            self.members.insert(member.to_vec());
        }
        free
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let found = self.members.swap_remove(member);
        if found {
            self.bytes -= member.len() + ELEMENT_OVERHEAD;
        }
        found
    }

    fn remove_at(&mut self, position: usize) -> Option<Vec<u8>> {
        let member = self.members.swap_remove_index(position)?;
        self.bytes -= member.len() + ELEMENT_OVERHEAD;
        Some(member)
    }
}

pub(in crate::embedded) fn sadd(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let mut set = store.edit_or_new::<Set>(args.at(1))?;
    let added = args.from(2).filter(|member| set.insert(member)).count();
    drop(set);
    if added > 0 {
        store.signal(args.at(1));
    }
    out.count(added);
    Ok(())
}

pub(in crate::embedded) fn srem(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let removed = match store.edit::<Set>(key)? {
        Some(mut set) => args.from(2).filter(|member| set.remove(member)).count(),
        None => 0,
    };
    if removed > 0 {
        store.remove_if_empty(key);
        store.signal(key);
    }
    out.count(removed);
    Ok(())
}

pub(in crate::embedded) fn scard(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(store.read::<Set>(args.at(1))?.map_or(0, Set::len));
    Ok(())
}

pub(in crate::embedded) fn sismember(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let set = store.read::<Set>(args.at(1))?;
    out.flag(set.is_some_and(|set| set.contains(args.at(2))));
    Ok(())
}

pub(in crate::embedded) fn smismember(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let set = store.read::<Set>(args.at(1))?;
    out.array(args.len() - 2);
    for member in args.from(2) {
        out.flag(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

pub(in crate::embedded) fn smembers(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let set = store.read::<Set>(args.at(1))?;
    out.set(set.map_or(0, Set::len));
    for member in set.iter().flat_map(|set| set.iter()) {
        out.bulk(member);
    }
    Ok(())
}

pub(in crate::embedded) fn smove(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (from, to, member) = (args.at(1), args.at(2), args.at(3));
    let Some(set) = store.read::<Set>(from)? else {
        out.flag(false);
        return Ok(());
    };
    let found = set.contains(member);
    store.read::<Set>(to)?;
    if !found || from == to {
        out.flag(found);
        return Ok(());
    }
    if let Some(mut set) = store.edit::<Set>(from)? {
        set.remove(member);
    }
    store.remove_if_empty(from);
    store.signal(from);
    if store.edit_or_new::<Set>(to)?.insert(member) {
        store.signal(to);
    }
    out.flag(true);
    Ok(())
}

pub(in crate::embedded) fn spop(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    if args.len() > 3 {
        return Err(SYNTAX);
    }
    let count = if args.len() == 3 { Some(args.positive(2)?) } else { None };
    let length = store.read::<Set>(key)?.map_or(0, Set::len);
    let wanted = count.unwrap_or(1).min(length);
    let mut popped = Vec::new();
    for left in (0..wanted).map(|taken| length - taken) {
        let chosen = store.random_below(left);
        let set = store.edit::<Set>(key)?;
        popped.extend(set.zip(chosen).and_then(|(mut set, at)| set.remove_at(at)));
    }
    if !popped.is_empty() {
        store.remove_if_empty(key);
        store.signal(key);
    }
    if count.is_none() {
        out.bulk_or_null(popped.first().map(Vec::as_slice));
        return Ok(());
    }
    out.set(popped.len());
    for member in &popped {
        out.bulk(member);
    }
    Ok(())
}

pub(in crate::embedded) fn srandmember(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    if args.len() > 3 {
        return Err(SYNTAX);
    }
    let count = if args.len() == 2 { None } else { Some(args.signed_count(2)?) };
    let length = store.read::<Set>(key)?.map_or(0, Set::len);
    let chosen = scan::choose(store, length, count.unwrap_or(1))?;
    let set = store.read::<Set>(key)?;
    let mut members = chosen.iter().filter_map(|at| set.and_then(|set| set.at(*at)));
    if count.is_none() {
        out.bulk_or_null(members.next());
        return Ok(());
    }
    out.array(chosen.len());
    for member in members {
        out.bulk(member);
    }
    Ok(())
}

pub(in crate::embedded) fn sscan(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let cursor = scan::cursor(args.at(2))?;
    let Some(set) = store.read::<Set>(args.at(1))? else {
        scan::empty(out);
        return Ok(());
    };
    let options = scan::Options::parse(args, 3)?;
    let (next, range) = options.window(cursor, set.len());
    let members = range.filter_map(|at| set.at(at));
    let found: Vec<_> = members.filter(|member| options.matches(member)).collect();
    scan::head(out, next, found.len());
    for member in found {
        out.bulk(member);
    }
    Ok(())
}
