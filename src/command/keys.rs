//! Which arguments of a request are keys.
//!
//! A request goes in, argument positions come out, in ascending order and without allocation, so
//! that a request can be rewritten in one pass. What the server would refuse (a count that is no
//! number, or larger than the request) has no keys: it is forwarded as it is, and the server words
//! the error.

use crate::command::{Spec, resolve};
use crate::wire::number::parse_i64;

/// Where the keys stand. Argument 0 is the command; a negative position counts from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySpec {
    /// Nowhere. Channels, and cursors that only look like keys, are no keys.
    None,
    /// One, at this argument.
    One(u8),
    /// From `first` to `last`, every `step`th.
    Range {
        /// The first key.
        first: u8,
        /// The last that can be one.
        last: i8,
        /// 2 if values stand between.
        step: u8,
    },
    /// As many as argument `count` says, right behind it.
    Counted {
        /// Where their number stands.
        count: u8,
        /// 2 if values stand between.
        step: u8,
    },
    /// A destination at 1, then as many as argument 2 says.
    DestinationCounted,
    /// XREAD and XREADGROUP: the first half of what follows STREAMS.
    Streams,
    /// GEORADIUS and GEORADIUSBYMEMBER: at 1, and behind STORE and STOREDIST.
    Georadius {
        /// Where the options begin.
        options: u8,
    },
    /// SORT, also read-only: at 1, behind STORE, and the patterns of BY and GET that name keys.
    Sort,
    /// MIGRATE: one at 3 or, if that is empty, those behind KEYS.
    Migrate,
    /// ACL DRYRUN: those of the command from argument 3 on.
    Dryrun,
}

impl KeySpec {
    /// Reads what `[commands.specs]` and this table's source write: `none`, `i1`, `i1..-2`,
    /// `i1..-1/2`, `i2#n+1`, `i2#n+1/2`, or several with `;` between. `None` for anything else,
    /// and for what names the command itself as a key.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "none" {
            return Some(Self::None);
        }
        Self::join(text.split(';').map(|one| Self::parse_one(one.trim())).collect::<Option<_>>()?)
    }

    fn parse_one(text: &str) -> Option<Self> {
        let (spec, step) = text.split_once('/').unwrap_or((text, "1"));
        let step = step.parse().ok().filter(|step| *step > 0)?;
        let spec = spec.strip_prefix('i')?;
        let position = |text: &str| text.parse().ok().filter(|at| *at > 0);
        if let Some(count) = spec.strip_suffix("#n+1") {
            return Some(Self::Counted { count: position(count)?, step });
        }
        match spec.split_once("..") {
            None if step == 1 => Some(Self::One(position(spec)?)),
            None => None,
            Some((first, last)) => {
                let (first, last) = (position(first)?, last.parse().ok()?);
                // From the end, or behind the first.
                let is_sound = last < 0 || i16::from(last) >= i16::from(first);
                is_sound.then_some(Self::Range { first, last, step })
            }
        }
    }

    /// Several specs as one. Only what stands side by side can be said, and what is open to the end
    /// must come last: keys are visited in ascending order.
    pub(super) fn join(mut keys: Vec<Self>) -> Option<Self> {
        let ends = |spec: &Self| match *spec {
            Self::One(at) => (at, i8::try_from(at).unwrap_or(-1)),
            Self::Range { first, last, .. } => (first, last),
            Self::Counted { count, .. } => (count, -1),
            _ => (0, 0),
        };
        keys.sort_by_key(|spec| ends(spec).0);
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else { return Some(Self::None) };
        keys.try_fold(first, |left, right| {
            let ((first, end), (begin, last)) = (ends(&left), ends(&right));
            let is_close = i16::from(end) + 1 == i16::from(begin);
            match (left, right) {
                (Self::One(1), Self::Counted { count: 2, step: 1 }) => {
                    Some(Self::DestinationCounted)
                }
                (
                    Self::One(_) | Self::Range { step: 1, .. },
                    Self::One(_) | Self::Range { step: 1, .. },
                ) if is_close => Some(Self::Range { first, last, step: 1 }),
                _ => None,
            }
        })
    }

    /// The position of the only key, for the commonest shape.
    #[inline]
    pub fn single(self) -> Option<usize> {
        match self {
            Self::One(at) => Some(usize::from(at)),
            _ => None,
        }
    }
}

/// Calls `visit` with the position of every argument that takes the version prefix: the keys, and
/// of SORT also the patterns that keys are built from.
#[inline]
pub fn for_each<'a>(
    spec: &Spec,
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
    mut visit: impl FnMut(usize),
) {
    match spec.keys {
        KeySpec::None => {}
        KeySpec::One(at) => {
            if usize::from(at) < argc {
                visit(usize::from(at));
            }
        }
        KeySpec::Range { first, last, step } => {
            let from_end = usize::from(last.unsigned_abs());
            let end = if last < 0 { (argc + 1).saturating_sub(from_end) } else { from_end + 1 };
            (usize::from(first)..end.min(argc)).step_by(usize::from(step)).for_each(visit);
        }
        KeySpec::Counted { count, step } => {
            let (count, step) = (usize::from(count), usize::from(step));
            counted(count, step, argc, arg).step_by(step).for_each(visit);
        }
        KeySpec::DestinationCounted => {
            let sources = counted(2, 1, argc, arg);
            if !sources.is_empty() {
                visit(1);
            }
            sources.for_each(visit);
        }
        KeySpec::Streams => {
            if let Some(streams) = Streams::read(argc, &arg) {
                (streams.first..streams.first + streams.count).for_each(visit);
            }
        }
        KeySpec::Georadius { options } => georadius(usize::from(options), argc, arg, visit),
        KeySpec::Sort => sort(argc, arg, visit),
        KeySpec::Migrate => migrate(argc, arg).for_each(visit),
        KeySpec::Dryrun => inner(DRYRUN, argc, &arg, &mut visit),
    }
}

/// Where the command begins that ACL DRYRUN is asked about.
const DRYRUN: usize = 3;

/// The keys of the command that begins at argument `from`; none if it is unknown.
#[cold]
fn inner<'a>(
    from: usize,
    argc: usize,
    arg: &dyn Fn(usize) -> &'a [u8],
    visit: &mut dyn FnMut(usize),
) {
    let argc = argc.saturating_sub(from);
    let arg = |at: usize| arg(from + at);
    let Ok(spec) = resolve(argc, arg) else { return };
    // One in the other names no further keys, however deep it goes.
    if spec.keys != KeySpec::Dryrun {
        let arg: &dyn Fn(usize) -> &'a [u8] = &arg;
        let visit: &mut dyn FnMut(usize) = &mut |at| visit(from + at);
        for_each(spec, argc, arg, visit);
    }
}

/// The arguments behind the number at `count`; none if that is not a number they can satisfy.
fn counted<'a>(
    count: usize,
    step: usize,
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
) -> std::ops::Range<usize> {
    let first = count + 1;
    let room = argc.saturating_sub(first) / step;
    let wanted = if count < argc { parse_i64(arg(count)) } else { None };
    let keys = wanted.and_then(|keys| usize::try_from(keys).ok()).filter(|keys| *keys <= room);
    first..first + keys.unwrap_or(0) * step
}

/// What XREAD and XREADGROUP ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streams {
    /// The first key.
    first: usize,
    /// How many keys; as many ids follow them.
    count: usize,
    /// BLOCK is given.
    blocks: bool,
}

impl Streams {
    /// Reads the options as the server does: a group, a consumer or a stream may be called STREAMS
    /// or BLOCK. `None` if the server would refuse the request.
    fn read<'a>(argc: usize, arg: &impl Fn(usize) -> &'a [u8]) -> Option<Self> {
        let (mut at, mut blocks) = (1, false);
        while at < argc {
            let option = arg(at);
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"STREAMS") {
                let rest = argc - at - 1;
                return (rest.is_multiple_of(2) && rest > 0).then_some(Self {
                    first: at + 1,
                    count: rest / 2,
                    blocks,
                });
            }
            blocks |= is(b"BLOCK");
            at += match () {
                () if is(b"NOACK") => 1,
                () if is(b"COUNT") || is(b"BLOCK") || is(b"CLAIM") => 2,
                () if is(b"GROUP") => 3,
                () => return None,
            };
        }
        None
    }
}

/// True if it can be seen which keys a request of XREAD or XREADGROUP names.
pub fn tells_streams<'a>(argc: usize, arg: &impl Fn(usize) -> &'a [u8]) -> bool {
    Streams::read(argc, arg).is_some()
}

/// True if a request of XREAD or XREADGROUP may block its connection. One that cannot be read
/// blocks if BLOCK is anywhere in it.
pub fn streams_block<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> bool {
    match Streams::read(argc, &arg) {
        Some(streams) => streams.blocks,
        None => (1..argc).any(|at| arg(at).eq_ignore_ascii_case(b"BLOCK")),
    }
}

/// True if the reply to this read of the key at argument 1 depends on nothing else: not on what the
/// patterns of `SORT_RO` name, and not on the samples that TS.GET and TS.RANGE take from a source
/// (LATEST).
pub fn asks_for_its_key_only<'a>(
    spec: &Spec,
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
) -> bool {
    let mut is_only = !(2..argc).any(|at| arg(at).eq_ignore_ascii_case(b"LATEST"));
    for_each(spec, argc, arg, |at| is_only &= at == 1);
    is_only
}

/// Servers differ in which of several STORE options they obey: all of them take the prefix.
fn georadius<'a>(
    options: usize,
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
    mut visit: impl FnMut(usize),
) {
    if argc > 1 {
        visit(1);
    }
    let mut at = options;
    while at + 1 < argc {
        let stores = [&b"STORE"[..], b"STOREDIST"];
        if stores.iter().any(|name| arg(at).eq_ignore_ascii_case(name)) {
            at += 1;
            visit(at);
        }
        at += 1;
    }
}

/// A pattern names other keys, except `BY nosort` (no star) and `GET #` (the element itself).
fn sort<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8], mut visit: impl FnMut(usize)) {
    if argc > 1 {
        visit(1);
    }
    let mut at = 2;
    while at + 1 < argc {
        let (option, value) = (arg(at), arg(at + 1));
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let (length, prefixed) = match () {
            () if is(b"STORE") => (2, true),
            () if is(b"GET") => (2, value != b"#"),
            () if is(b"BY") => (2, value.contains(&b'*')),
            () if is(b"LIMIT") => (3, false),
            () => (1, false),
        };
        if prefixed {
            visit(at + 1);
        }
        at += length;
    }
}

/// Read as the server does: a password may be called KEYS, and KEYS beside a key at 3 is an error.
fn migrate<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> std::ops::Range<usize> {
    let mut at = 6;
    while at < argc {
        let option = arg(at);
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        at += match () {
            () if is(b"KEYS") && arg(3).is_empty() => return at + 1..argc,
            () if is(b"KEYS") => return 0..0,
            () if is(b"AUTH") => 2,
            () if is(b"AUTH2") => 3,
            () => 1,
        };
    }
    3..argc.min(4)
}

#[cfg(test)]
mod tests {
    use super::{KeySpec, asks_for_its_key_only, for_each, streams_block};
    use crate::command::resolve;

    /// The arguments that take the prefix, of a request written with spaces; `''` is empty.
    fn keys(request: &str) -> Vec<&str> {
        let words: Vec<&str> =
            request.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let arg = |at: usize| words[at].as_bytes();
        let spec = resolve(words.len(), arg).unwrap();
        let mut found = Vec::new();
        for_each(spec, words.len(), arg, |at| found.push(at));
        assert!(found.is_sorted() && found.iter().all(|at| *at > 0), "{request}: {found:?}");
        found.into_iter().map(|at| words[at]).collect()
    }

    #[test]
    fn written_specs() {
        let range = |first, last, step| Some(KeySpec::Range { first, last, step });
        for (text, expected) in [
            ("none", Some(KeySpec::None)),
            ("i1", Some(KeySpec::One(1))),
            ("i1..-2", range(1, -2, 1)),
            ("i2..4", range(2, 4, 1)),
            ("i1..-1/2", range(1, -1, 2)),
            ("i2#n+1", Some(KeySpec::Counted { count: 2, step: 1 })),
            ("i1 ; i2", range(1, 2, 1)),
            ("i1;i2..-1", range(1, -1, 1)),
            ("i1 ; i2#n+1", Some(KeySpec::DestinationCounted)),
            ("i1 ; i3", None),
            ("i1 ;", None),
            ("i2#n+1/2", Some(KeySpec::Counted { count: 2, step: 2 })),
            ("", None),
            ("1", None),
            ("i0", None),
            ("i1/2", None),
            ("i0..-1", None),
            ("i3..2", None),
            ("i1..-1/0", None),
            ("i256", None),
            ("i2#n+2", None),
            ("unknown", None),
        ] {
            assert_eq!(KeySpec::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn every_shape() {
        for (request, expected) in [
            ("ping", ""),
            ("get a", "a"),
            ("get", ""),
            ("object encoding a", "a"),
            ("mget a b c", "a b c"),
            ("mset a 1 b 2", "a b"),
            ("mset a 1 b", "a b"),
            ("blpop a b 0", "a b"),
            ("blpop a", ""),
            ("bitop and d a b", "d a b"),
            ("rename a b", "a b"),
            ("smove a b m", "a b"),
            ("spublish a m", ""),
            ("json.mget a b $", "a b"),
            ("eval s 2 a b c", "a b"),
            ("eval s 0 a", ""),
            ("msetex 2 a 1 b 2 nx", "a b"),
            ("msetex 2 a 1 b", ""),
            ("lmpop 2 a b left", "a b"),
            ("blmpop 0 2 a b left", "a b"),
            ("zunionstore d 2 a b weights 1 2", "d a b"),
            ("migrate h 1 a 0 5", "a"),
            ("migrate h 1 a 0 5 copy replace auth keys", "a"),
            ("migrate h 1 '' 0 5 auth2 keys keys copy keys a b", "a b"),
            ("migrate h 1 '' 0 5 KEYS a keys", "a keys"),
            ("migrate h 1 a 0 5 keys b", ""),
            ("migrate h 1", ""),
            ("acl dryrun u get a", "a"),
            ("acl dryrun u zunionstore d 2 a b", "d a b"),
            ("acl dryrun u nosuch a", ""),
            ("acl dryrun u acl dryrun u get a", ""),
            ("acl dryrun u", ""),
        ] {
            assert_eq!(keys(request).join(" "), expected, "{request}");
        }
    }

    #[test]
    fn a_bad_count_has_no_keys() {
        for count in ["-1", "0", "3", "+2", "02", "x", "''", "9223372036854775807"] {
            assert_eq!(keys(&format!("zunion {count} a b")), [""; 0], "{count}");
            assert_eq!(keys(&format!("zunionstore d {count} a b")), [""; 0], "{count}");
        }
        assert_eq!(keys("zunion"), [""; 0]);
        assert_eq!(keys("zunionstore d"), [""; 0]);
    }

    #[test]
    fn streams() {
        for (request, expected, blocks) in [
            ("xread streams a b 0 0", "a b", false),
            ("xread count 2 block 0 streams a 0", "a", true),
            ("xread STREAMS streams block 0 0", "streams block", false),
            ("xreadgroup group streams block count 1 noack streams a >", "a", false),
            ("xreadgroup group g c claim 5 streams a >", "a", false),
            ("xread streams a b 0", "", false),
            ("xread block 0 streams a b 0", "", true),
            ("xread streams", "", false),
            ("xread count 1", "", false),
            ("xread later block streams a 0", "", true),
            ("xread later streams a 0", "", false),
        ] {
            assert_eq!(keys(request).join(" "), expected, "{request}");
            let words: Vec<&str> = request.split(' ').collect();
            assert_eq!(streams_block(words.len(), |at| words[at].as_bytes()), blocks, "{request}");
        }
    }

    #[test]
    fn reads_beyond_their_key() {
        for (request, expected) in [
            ("sort_ro a", true),
            ("sort_ro a by nosort get # limit 0 5 desc alpha", true),
            ("sort_ro a by w_* alpha", false),
            ("sort_ro a get #  get d_*", false),
            ("sort_ro a get d", false),
            ("ts.get a", true),
            ("ts.get a latest", false),
            ("ts.range a - + count 3", true),
            ("ts.revrange a - + Latest count 3", false),
        ] {
            let words: Vec<&str> = request.split(' ').collect();
            let arg = |at: usize| words[at].as_bytes();
            let spec = resolve(words.len(), arg).unwrap();
            assert_eq!(asks_for_its_key_only(spec, words.len(), arg), expected, "{request}");
        }
    }

    #[test]
    fn georadius_and_sort() {
        for (request, expected) in [
            ("georadius a 1 2 3 m", "a"),
            ("georadius a 1 2 3 m count 1 STORE b", "a b"),
            ("georadius a 1 2 3 m store b storedist c", "a b c"),
            ("georadius a 1 2 3 m store", "a"),
            ("georadiusbymember a store 3 m store b", "a b"),
            ("georadius a", "a"),
            ("sort a", "a"),
            ("sort a limit 0 store store b", "a b"),
            ("sort a by nosort get # store b", "a b"),
            ("sort a by w_* get # get h_*->f", "a w_* h_*->f"),
            ("sort a by store get store store b", "a store b"),
            ("sort_ro a by w_* alpha", "a w_*"),
            ("sort a store", "a"),
        ] {
            assert_eq!(keys(request).join(" "), expected, "{request}");
        }
    }
}
