//! Commands on keys whatever their type: existence, deadlines, names, iteration.

use super::args::Args;
use super::reply::{DB_RANGE, Done, Fault, NO_SUCH_KEY, Out, SAME_OBJECT, SYNTAX};
use super::store::{DATABASES, Store};
use super::types::scan;
use crate::keys::glob;
use bytes::Bytes;

pub(super) fn del(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let mut deleted = 0;
    for key in args.from(1) {
        if store.live(key) && store.remove(key).is_some() {
            store.signal(key);
            deleted += 1;
        }
    }
    out.integer(deleted);
    Ok(())
}

/// EXISTS and TOUCH: a key named twice counts twice.
pub(super) fn exists(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.count(args.from(1).filter(|key| store.live(key)).count());
    Ok(())
}

pub(super) fn type_of(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    out.simple(store.entry(args.at(1)).map_or("none", |entry| entry.value.type_name()));
    Ok(())
}

/// Options of the EXPIRE family: when the new deadline may replace the old one.
#[derive(Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Self, Fault> {
        let mut conditions = Self::default();
        for option in args.from(3) {
            match option.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.nx = true,
                b"xx" => conditions.xx = true,
                b"gt" => conditions.gt = true,
                b"lt" => conditions.lt = true,
                _ => {
                    return Err(Fault::owned([b"ERR Unsupported option ", option].concat()));
                }
            }
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            return Err(Fault::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if conditions.gt && conditions.lt {
            return Err(Fault::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// A key without a deadline counts as one that ends never.
    fn allow(self, old: Option<i64>, new: i64) -> bool {
        !(self.nx && old.is_some()
            || self.xx && old.is_none()
            || self.gt && old.is_none_or(|old| new <= old)
            || self.lt && old.is_some_and(|old| new >= old))
    }
}

pub(super) fn expire(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let now = store.now;
    set_deadline(store, args, out, (1000, now), "expire")
}

pub(super) fn pexpire(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let now = store.now;
    set_deadline(store, args, out, (1, now), "pexpire")
}

pub(super) fn expireat(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    set_deadline(store, args, out, (1000, 0), "expireat")
}

pub(super) fn pexpireat(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    set_deadline(store, args, out, (1, 0), "pexpireat")
}

fn set_deadline(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
    (scale, base): (i64, i64),
    name: &str,
) -> Done {
    let (key, conditions) = (args.at(1), Conditions::parse(args)?);
    let deadline = args.int(2)?.checked_mul(scale).and_then(|ms| ms.checked_add(base));
    let deadline = deadline.ok_or_else(|| Fault::expire_time(name))?;
    let Some(entry) = store.entry(key) else {
        out.flag(false);
        return Ok(());
    };
    let allowed = conditions.allow(entry.expires, deadline);
    if allowed {
        if deadline <= store.now {
            store.remove(key);
        } else {
            store.set_deadline(key, Some(deadline));
        }
        store.signal(key);
    }
    out.flag(allowed);
    Ok(())
}

pub(super) fn persist(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let had = store.entry(key).is_some_and(|entry| entry.expires.is_some());
    if had {
        store.set_deadline(key, None);
        store.signal(key);
    }
    out.flag(had);
    Ok(())
}

pub(super) fn ttl(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let now = store.now;
    answer_deadline(store, args, out, |deadline| (left(deadline, now) + 500) / 1000)
}

pub(super) fn pttl(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let now = store.now;
    answer_deadline(store, args, out, |deadline| left(deadline, now))
}

pub(super) fn expiretime(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    answer_deadline(store, args, out, |deadline| (deadline + 500) / 1000)
}

pub(super) fn pexpiretime(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    answer_deadline(store, args, out, |deadline| deadline)
}

fn left(deadline: i64, now: i64) -> i64 {
    (deadline - now).max(0)
}

fn answer_deadline(
    store: &mut Store,
    args: Args<'_>,
    out: &mut Out,
    shown: impl Fn(i64) -> i64,
) -> Done {
    out.integer(match store.entry(args.at(1)) {
        None => -2,
        Some(entry) => entry.expires.map_or(-1, shown),
    });
    Ok(())
}

pub(super) fn rename(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    give_name(store, args, true)?;
    out.ok();
    Ok(())
}

pub(super) fn renamenx(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let given = give_name(store, args, false)?;
    out.flag(given);
    Ok(())
}

fn give_name(store: &mut Store, args: Args<'_>, replace: bool) -> Result<bool, Fault> {
    let (from, to) = (args.at(1), args.at(2));
    if !store.live(from) {
        return Err(NO_SUCH_KEY);
    }
    if from == to {
        return Ok(false);
    }
    if !replace && store.live(to) {
        return Ok(false);
    }
    if let Some(entry) = store.remove(from) {
        store.put(to, entry.value, entry.expires);
        store.signal(from);
        store.signal(to);
    }
    Ok(true)
}

pub(super) fn copy(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let (from, to, here) = (args.at(1), args.at(2), store.selected());
    let (mut replace, mut target, mut at) = (false, here, 3);
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            target = database(args, at + 1)?;
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if target == here && from == to {
        return Err(SAME_OBJECT);
    }
    let Some(entry) = store.entry(from) else {
        out.flag(false);
        return Ok(());
    };
    let (value, expires) = (entry.value.clone(), entry.expires);
    let copied = store.within(target, |store| {
        let allowed = replace || !store.live(to);
        if allowed {
            store.put(to, value, expires);
            store.signal(to);
        }
        allowed
    });
    out.flag(copied);
    Ok(())
}

pub(super) fn move_key(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let key = args.at(1);
    let target = database(args, 2)?;
    if target == store.selected() {
        return Err(SAME_OBJECT);
    }
    let free = store.live(key) && !store.within(target, |store| store.live(key));
    if free && let Some(entry) = store.remove(key) {
        store.signal(key);
        store.within(target, |store| {
            store.put(key, entry.value, entry.expires);
            store.signal(key);
        });
    }
    out.flag(free);
    Ok(())
}

/// The number of a database.
pub(super) fn database(args: Args<'_>, at: usize) -> Result<usize, Fault> {
    let number = args.int(at)?;
    if i32::try_from(number).is_err() {
        return Err(Fault::owned(format!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        )));
    }
    usize::try_from(number).ok().filter(|db| *db < DATABASES).ok_or(DB_RANGE)
}

pub(super) fn keys(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let pattern = args.at(1);
    let all = (0..store.len()).filter_map(|at| store.key_at(at));
    let found: Vec<_> = all
        .filter(|(key, entry)| glob::matches(pattern, key) && !store.is_over(entry))
        .map(|(key, _)| key)
        .collect();
    out.array(found.len());
    for key in found {
        out.bulk(key);
    }
    Ok(())
}

pub(super) fn scan(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    let cursor = scan::cursor(args.at(1))?;
    let options = scan::Options::parse(args, 2)?;
    let (next, range) = options.walk(cursor, store.len());
    let has_type = |name: &str| {
        options.type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut found: Vec<Bytes> = Vec::new();
    // Downwards: looking at a key deletes it if its time is over, and moves only keys behind it.
    for at in range.rev() {
        let Some((key, entry)) = store.key_at(at) else {
            continue;
        };
        if options.matches(key) && has_type(entry.value.type_name()) {
            let key = key.clone();
            if store.live(&key) {
                found.push(key);
            }
        }
    }
    scan::head(out, next, found.len());
    for key in found {
        out.bulk(&key);
    }
    Ok(())
}

pub(super) fn randomkey(store: &mut Store, _: Args<'_>, out: &mut Out) -> Done {
    let key = store.random_key();
    out.bulk_or_null(key.as_deref());
    Ok(())
}

pub(super) fn dbsize(store: &mut Store, _: Args<'_>, out: &mut Out) -> Done {
    out.count(store.len());
    Ok(())
}

pub(super) fn flushdb(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    flush_mode(args)?;
    store.flush(store.selected());
    out.ok();
    Ok(())
}

pub(super) fn flushall(store: &mut Store, args: Args<'_>, out: &mut Out) -> Done {
    flush_mode(args)?;
    for db in 0..DATABASES {
        store.flush(db);
    }
    out.ok();
    Ok(())
}

fn flush_mode(args: Args<'_>) -> Done {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "async") || args.is(1, "sync") => Ok(()),
        _ => Err(SYNTAX),
    }
}
