//! Which arguments of a request are keys.
//!
//! A request goes in, argument positions come out, in ascending order and without allocation, so
//! that a request can be rewritten in one pass. What the server would refuse (a count that is no
//! number, or larger than the request) has no keys: it is forwarded as it is, and the server words
//! the error.

use crate::command::Spec;
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
    /// SORT and SORT_RO: at 1, behind STORE, and the patterns of BY and GET that name other keys.
    Sort,
    /// Not read by nearside: such a command is always refused.
    Unread,
}

impl KeySpec {
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
        KeySpec::None | KeySpec::Unread => {}
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

/// True if a request of XREAD or XREADGROUP may block its connection. One that cannot be read
/// blocks if BLOCK is anywhere in it.
pub fn streams_block<'a>(argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> bool {
    match Streams::read(argc, &arg) {
        Some(streams) => streams.blocks,
        None => (1..argc).any(|at| arg(at).eq_ignore_ascii_case(b"BLOCK")),
    }
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

#[cfg(test)]
mod tests;
