//! Intersection, union and difference of sets, answered or stored.

use super::set::Set;
use crate::embedded::args::Args;
use crate::embedded::reply::{Done, Fault, Out, SYNTAX};
use crate::embedded::store::Store;
use crate::wire::number::parse_i64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

pub(in crate::embedded) fn sinter(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    answer(store, args, out, Operation::Intersection)
}

pub(in crate::embedded) fn sunion(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    answer(store, args, out, Operation::Union)
}

pub(in crate::embedded) fn sdiff(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    answer(store, args, out, Operation::Difference)
}

pub(in crate::embedded) fn sinterstore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    keep(store, args, out, Operation::Intersection)
}

pub(in crate::embedded) fn sunionstore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    keep(store, args, out, Operation::Union)
}

pub(in crate::embedded) fn sdiffstore(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    keep(store, args, out, Operation::Difference)
}

fn answer(store: &mut Store, args: Args<'_>, out: &mut Out, operation: Operation) -> Done {
    let sets = store.read_all::<Set>(args.from(1))?;
    let result = combine(&sets, operation);
    out.set(result.len());
    for member in result.iter() {
        out.bulk(member);
    }
    Ok(())
}

fn keep(store: &mut Store, args: Args<'_>, out: &mut Out, operation: Operation) -> Done {
    let sets = store.read_all::<Set>(args.from(2))?;
    let result = combine(&sets, operation);
    out.count(result.len());
    if store.put_or_remove(args.at(1), result.into()) {
        store.signal(args.at(1));
    }
    Ok(())
}

fn combine(sets: &[Option<&Set>], operation: Operation) -> Set {
    let mut result = Set::default();
    let Some((first, others)) = sets.split_first() else {
        return result;
    };
    let is_in = |set: Option<&Set>, member: &[u8]| set.is_some_and(|set| set.contains(member));
    let walked = if operation == Operation::Union { sets } else { std::slice::from_ref(first) };
    for member in walked.iter().flatten().flat_map(|set| set.iter()) {
        let belongs = match operation {
            Operation::Union => true,
            Operation::Intersection => others.iter().all(|set| is_in(*set, member)),
            Operation::Difference => !others.iter().any(|set| is_in(*set, member)),
        };
        if belongs {
            result.insert(member);
        }
    }
    result
}

pub(in crate::embedded) fn sintercard(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    const KEYS: Fault = Fault::text("ERR numkeys should be greater than 0");
    const LIMIT: Fault = Fault::text("ERR LIMIT can't be negative");
    let keys = parse_i64(args.at(1)).filter(|keys| *keys > 0).ok_or(KEYS)?;
    let Some(keys) = usize::try_from(keys).ok().filter(|keys| *keys <= args.len() - 2) else {
        return Err(Fault::text("ERR Number of keys can't be greater than number of args"));
    };
    let (mut limit, mut at) = (0, 2 + keys);
    while at < args.len() {
        if !args.is(at, "limit") || at + 1 == args.len() {
            return Err(SYNTAX);
        }
        limit = args.positive(at + 1).map_err(|_| LIMIT)?;
        at += 2;
    }
    let sets = store.read_all::<Set>(args.from(2).take(keys))?;
    let size = combine(&sets, Operation::Intersection).len();
    out.count(if limit == 0 { size } else { size.min(limit) });
    Ok(())
}
