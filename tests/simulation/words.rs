//! What is asked: the keys, the requests on them, and both as bytes.

use bytes::BytesMut;
use nearside::cache::{Cache, stripe_bit};
use nearside::wire::write;
use std::fmt;

/// Keys of each sort, in the order of their numbers.
const TEXTS: usize = 6;
const COUNTERS: usize = 2;
const HASHES: usize = 2;
pub(crate) const KEYS: usize = TEXTS + COUNTERS + HASHES;

/// Fields of a hash.
pub(crate) const FIELDS: usize = 3;

/// The keys whose rule is of level `linear`, where a run has one: a text and a hash.
pub(crate) const LINEAR: [usize; 2] = [1, TEXTS + COUNTERS + 1];

/// Values that are followed one by one.
pub(crate) const CELLS: usize = TEXTS + COUNTERS + HASHES * FIELDS;

/// What stands before a key upstream.
pub(crate) const PREFIX: &str = "v1:";

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Text,
    Counter,
    Hash,
}

pub(crate) const fn sort(key: usize) -> Sort {
    if key < TEXTS {
        Sort::Text
    } else if key < TEXTS + COUNTERS {
        Sort::Counter
    } else {
        Sort::Hash
    }
}

/// A key of this sort, its first number by far the most often.
pub(crate) fn key(of: Sort, nth: usize) -> usize {
    match of {
        Sort::Text => nth % TEXTS,
        Sort::Counter => TEXTS + nth % COUNTERS,
        Sort::Hash => TEXTS + COUNTERS + nth % HASHES,
    }
}

/// The cell of a key, or of its field.
pub(crate) const fn cell(key: usize, field: usize) -> usize {
    let hashes = TEXTS + COUNTERS;
    if key < hashes { key } else { hashes + (key - hashes) * FIELDS + field }
}

/// All cells of a key.
pub(crate) fn cells(key: usize) -> std::ops::Range<usize> {
    let first = cell(key, 0);
    first..first + if sort(key) == Sort::Hash { FIELDS } else { 1 }
}

/// The keys' names. The cache's hash is seeded anew in each process: names are chosen so that
/// their stripes differ in all the same ways, or a seed would not play the same twice.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// The first and the last text share a bit of a session's mask, no others do.
    pub(crate) fn of(cache: &Cache) -> Self {
        let mut names = Vec::new();
        let (mut taken, mut first) = (0, 0);
        for key in 0..KEYS {
            let is_shared = key == TEXTS - 1;
            let fits = |name: &String| {
                let bit = stripe_bit(cache.hash(name.as_bytes()));
                if is_shared { bit == first } else { bit & taken == 0 }
            };
            let name = (0..1_000_000).map(|salt| format!("k{key}:{salt:06}")).find(fits).unwrap();
            let bit = stripe_bit(cache.hash(name.as_bytes()));
            taken |= bit;
            if key == 0 {
                first = bit;
            }
            names.push(name);
        }
        Self(names)
    }

    pub(crate) fn of_key(&self, key: usize) -> &str {
        &self.0[key]
    }

    /// The key that upstream calls this.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let own = name.strip_prefix(PREFIX.as_bytes())?;
        self.0.iter().position(|name| name.as_bytes() == own)
    }
}

/// A value, shown short.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Value(pub(crate) Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.trim_ascii_end();
        write!(f, "{} ({} bytes)", shown[..shown.len().min(9)].escape_ascii(), self.0.len())
    }
}

/// How a script is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// With its text; it is not told that its argument is a key.
    Text,
    /// The same, by its SHA1.
    Name,
    /// With its text and its key.
    Declared,
}

/// A script that sets a key which is not declared.
const OPAQUE: &[u8] = b"return redis.call('SET', ARGV[1], ARGV[2])";
const OPAQUE_SHA: &[u8] = b"6855b1965e884228478be7afbfa01c0d534bf6eb";

/// One that keeps to its key.
const PLAIN: &[u8] = b"return redis.call('SET', KEYS[1], ARGV[1])";

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Hello,
    Ping,
    Get(usize),
    HGet(usize, usize),
    MGet(Vec<usize>),
    GetEx(usize),
    Set(usize, Value),
    GetSet(usize, Value),
    HSet(usize, usize, Value),
    Del(usize),
    Incr(usize),
    PExpire(usize, usize),
    /// A script that sets a key.
    Eval(usize, Value, Call),
    Watch(usize),
    Multi,
    /// Between MULTI and what ends it.
    Queued(Box<Self>),
    Exec(Vec<Self>),
    Discard(Vec<Self>),
}

/// A value that says whose it is: cell, number, and so many bytes of filling.
pub(crate) fn value(cell: usize, writing: usize, filling: usize) -> Value {
    let mut value = format!("c{cell}#{writing}#").into_bytes();
    value.resize(value.len() + filling, b'.');
    Value(value)
}

/// The number of a value.
pub(crate) fn writing_of(value: &[u8]) -> Option<usize> {
    let number = value.split(|&byte| byte == b'#').nth(1)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

impl Op {
    /// The keys it names.
    pub(crate) fn keys(&self) -> Vec<usize> {
        match self {
            Self::Hello | Self::Ping | Self::Multi => Vec::new(),
            Self::Get(key)
            | Self::HGet(key, _)
            | Self::GetEx(key)
            | Self::Set(key, _)
            | Self::GetSet(key, _)
            | Self::HSet(key, ..)
            | Self::Del(key)
            | Self::Incr(key)
            | Self::PExpire(key, _)
            | Self::Eval(key, ..)
            | Self::Watch(key) => vec![*key],
            Self::MGet(keys) => keys.clone(),
            Self::Queued(op) => op.keys(),
            Self::Exec(ops) | Self::Discard(ops) => ops.iter().flat_map(Self::keys).collect(),
        }
    }

    /// The values it writes, by their numbers.
    pub(crate) fn writings(&self) -> Vec<usize> {
        match self {
            Self::Set(_, value)
            | Self::GetSet(_, value)
            | Self::HSet(_, _, value)
            | Self::Eval(_, value, _) => writing_of(&value.0).into_iter().collect(),
            Self::Queued(op) => op.writings(),
            Self::Exec(ops) | Self::Discard(ops) => ops.iter().flat_map(Self::writings).collect(),
            _ => Vec::new(),
        }
    }

    /// True if the cache may answer it.
    pub(crate) const fn is_cached(&self) -> bool {
        matches!(self, Self::Get(_) | Self::HGet(..) | Self::MGet(_))
    }

    /// As a client sends it.
    pub(crate) fn write(&self, names: &Names, out: &mut BytesMut) {
        let mut digits = itoa::Buffer::new();
        let name = |key: &usize| names.of_key(*key).as_bytes();
        match self {
            Self::Hello => words(out, &[b"HELLO", b"3"]),
            Self::Ping => words(out, &[b"PING"]),
            Self::Get(key) => words(out, &[b"GET", name(key)]),
            Self::HGet(key, field) => words(out, &[b"HGET", name(key), FIELD[*field]]),
            Self::MGet(keys) => {
                let mut all: Vec<&[u8]> = vec![b"MGET"];
                all.extend(keys.iter().map(name));
                words(out, &all);
            }
            Self::GetEx(key) => words(out, &[b"GETEX", name(key)]),
            Self::Set(key, value) => words(out, &[b"SET", name(key), &value.0]),
            Self::GetSet(key, value) => words(out, &[b"GETSET", name(key), &value.0]),
            Self::HSet(key, field, value) => {
                words(out, &[b"HSET", name(key), FIELD[*field], &value.0]);
            }
            Self::Del(key) => words(out, &[b"DEL", name(key)]),
            Self::Incr(key) => words(out, &[b"INCR", name(key)]),
            Self::PExpire(key, ms) => {
                words(out, &[b"PEXPIRE", name(key), digits.format(*ms).as_bytes()]);
            }
            Self::Eval(key, value, Call::Declared) => {
                words(out, &[b"EVAL", PLAIN, b"1", name(key), &value.0]);
            }
            Self::Eval(key, value, call) => {
                let name = [PREFIX.as_bytes(), name(key)].concat();
                let script: [&[u8]; 2] = match call {
                    Call::Name => [b"EVALSHA", OPAQUE_SHA],
                    _ => [b"EVAL", OPAQUE],
                };
                words(out, &[script[0], script[1], b"0", &name, &value.0]);
            }
            Self::Watch(key) => words(out, &[b"WATCH", name(key)]),
            Self::Multi => words(out, &[b"MULTI"]),
            Self::Queued(op) => op.write(names, out),
            Self::Exec(_) => words(out, &[b"EXEC"]),
            Self::Discard(_) => words(out, &[b"DISCARD"]),
        }
    }
}

/// The fields' names.
pub(crate) const FIELD: [&[u8]; FIELDS] = [b"f0", b"f1", b"f2"];

fn words(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}
