//! What clients ask: each operation as bytes, and what its replies say of the registers.

use crate::client::write;
use crate::field::{Field, Kind, half_of};
use crate::history::{NIL, Variant, What};
use nearside::wire::reply::{bulk, elements, integer, is_null};

/// How a write is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    Script,
    Transaction,
}

/// One operation.
#[derive(Debug)]
pub(crate) enum Op {
    /// One cached read; HGETALL tells of two registers.
    Read(u32, Variant),
    /// MGET.
    Many(Vec<u32>),
    /// Reads in a transaction.
    Server(Vec<u32>),
    /// A write whose version the server counts.
    Step(u32, How),
    /// SET, DEL or MSET by the writer of this key: version, how, life in milliseconds or 0.
    Own { register: u32, what: What, version: u32, how: How, padding: usize },
}

/// A register, and what a reply said of it.
pub(crate) type Seen = (u32, u32);

impl Op {
    /// How many replies there will be; the last one counts.
    pub(crate) fn replies(&self) -> usize {
        match self {
            Self::Server(registers) => registers.len() + 2,
            Self::Step(_, How::Transaction) | Self::Own { how: How::Transaction, .. } => 3,
            _ => 1,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        matches!(self, Self::Step(..) | Self::Own { .. })
    }

    /// The registers that it writes.
    pub(crate) fn written(&self, field: &Field) -> Vec<u32> {
        match self {
            Self::Own { register, .. } if field.slot(*register).kind == Kind::Pair => {
                vec![register & !1, register | 1]
            }
            Self::Step(register, _) | Self::Own { register, .. } => vec![*register],
            _ => Vec::new(),
        }
    }

    pub(crate) fn encode(&self, field: &Field, prefix: &str, out: &mut Vec<u8>) {
        let key = |register: &u32| format!("{prefix}{}", field.key(*register));
        match self {
            Self::Read(register, variant) => read(field, *register, *variant, prefix, out),
            Self::Many(registers) => {
                let keys: Vec<String> = registers.iter().map(key).collect();
                let mut words = vec!["MGET"];
                words.extend(keys.iter().map(String::as_str));
                write(out, &words);
            }
            Self::Server(registers) => {
                write(out, &["MULTI"]);
                for register in registers {
                    read(field, *register, Variant::Main, prefix, out);
                }
                write(out, &["EXEC"]);
            }
            Self::Step(register, how) => {
                let kind = field.slot(*register).kind;
                step(kind, &key(register), half_of(*register), *how, out);
            }
            Self::Own { register, what, version, how, padding } => {
                let words = own(field, *register, *what, *version, *padding, prefix);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                wrapped(&words, *how, out);
            }
        }
    }

    /// What the last reply says: registers and their versions; or the text of an error; `None` if
    /// it is absurd.
    pub(crate) fn decode(&self, field: &Field, reply: &[u8]) -> Option<Result<Vec<Seen>, String>> {
        let inner = match self {
            Self::Step(_, How::Transaction) | Self::Own { how: How::Transaction, .. }
                if !reply.starts_with(b"-") =>
            {
                elements(reply).next()?
            }
            _ => reply,
        };
        if inner.starts_with(b"-") {
            return Some(Err(String::from_utf8_lossy(inner).trim_end().to_owned()));
        }
        let value = |register: &u32, element: &[u8]| {
            value(field, *register, element).map(|version| (*register, version))
        };
        let seen = match self {
            Self::Read(register, Variant::Other) if field.slot(*register).kind == Kind::Hash => {
                fields(*register, inner)?
            }
            Self::Read(register, _) => vec![value(register, inner)?],
            Self::Many(registers) | Self::Server(registers) => {
                if elements(inner).count() != registers.len() {
                    return None;
                }
                let pairs = registers.iter().zip(elements(inner));
                pairs.map(|(register, element)| value(register, element)).collect::<Option<_>>()?
            }
            Self::Step(register, _) => {
                vec![(*register, u32::try_from(integer(inner)?).ok()?)]
            }
            Self::Own { what: What::Delete, version, .. } => {
                integer(inner)?;
                self.written(field).into_iter().map(|register| (register, *version)).collect()
            }
            Self::Own { version, .. } => {
                (inner == b"+OK\r\n").then_some(())?;
                self.written(field).into_iter().map(|register| (register, *version)).collect()
            }
        };
        Some(Ok(seen))
    }
}

fn read(field: &Field, register: u32, variant: Variant, prefix: &str, out: &mut Vec<u8>) {
    let key = format!("{prefix}{}", field.key(register));
    let half = if half_of(register) == 0 { "a" } else { "b" };
    match (field.slot(register).kind, variant) {
        (Kind::Hash, Variant::Other) => write(out, &["HGETALL", &key]),
        (Kind::Hash, _) => write(out, &["HGET", &key, half]),
        (Kind::List, _) => write(out, &["LLEN", &key]),
        (Kind::Text, Variant::Main) => write(out, &["STRLEN", &key]),
        (Kind::Text, _) => write(out, &["GET", &key]),
        (_, Variant::Other) => write(out, &["GETRANGE", &key, "0", "-1"]),
        _ => write(out, &["GET", &key]),
    }
}

fn step(kind: Kind, key: &str, half: u32, how: How, out: &mut Vec<u8>) {
    let field = if half == 0 { "a" } else { "b" };
    let (words, script): (&[&str], _) = match kind {
        Kind::Hash => {
            (&["HINCRBY", key, field, "1"], "return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)")
        }
        Kind::List => (&["RPUSH", key, "x"], "return redis.call('RPUSH', KEYS[1], 'x')"),
        Kind::Text => (&["APPEND", key, "x"], "return redis.call('APPEND', KEYS[1], 'x')"),
        _ => (&["INCR", key], "return redis.call('INCR', KEYS[1])"),
    };
    if how == How::Script {
        write(out, &["EVAL", script, "1", key, field]);
    } else {
        wrapped(words, how, out);
    }
}

fn wrapped(words: &[&str], how: How, out: &mut Vec<u8>) {
    if how == How::Transaction {
        write(out, &["MULTI"]);
        write(out, words);
        write(out, &["EXEC"]);
    } else {
        write(out, words);
    }
}

fn own(
    field: &Field,
    register: u32,
    what: What,
    version: u32,
    padding: usize,
    prefix: &str,
) -> Vec<String> {
    let key = |register: u32| format!("{prefix}{}", field.key(register));
    let text = |register| format!("{version}:{register}:{}", "x".repeat(padding));
    if field.slot(register).kind == Kind::Pair {
        let (a, b) = (register & !1, register | 1);
        return vec!["MSET".to_owned(), key(a), text(a), key(b), text(b)];
    }
    match what {
        What::Delete => vec!["DEL".to_owned(), key(register)],
        What::Set(life) if life > 0 => {
            let words = ["SET".to_owned(), key(register), text(register)];
            [&words[..], &["PX".to_owned(), life.to_string()]].concat()
        }
        _ => vec!["SET".to_owned(), key(register), text(register)],
    }
}

/// The version in the reply to a read; `None` if it is no value of this register.
fn value(field: &Field, register: u32, reply: &[u8]) -> Option<u32> {
    if is_null(reply) {
        return Some(NIL);
    }
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
    let kind = field.slot(register).kind;
    if let Some(length) = integer(reply) {
        // LLEN, STRLEN: 0 is what they say of nothing.
        let version = u32::try_from(length).ok()?;
        let is_length = matches!(kind, Kind::List | Kind::Text);
        return is_length.then_some(if version == 0 { NIL } else { version });
    }
    let text = bulk(reply)?;
    match kind {
        _ if text.is_empty() => Some(NIL),
        Kind::Counter | Kind::Hash => number(text),
        Kind::List => None,
        Kind::Text => {
            text.iter().all(|byte| *byte == b'x').then(|| u32::try_from(text.len()).ok())?
        }
        Kind::Owned | Kind::Pair => {
            let mut parts = text.split(|byte| *byte == b':');
            let (version, owner) = (number(parts.next()?)?, number(parts.next()?)?);
            (owner == register).then_some(version)
        }
    }
}

/// HGETALL tells of both fields.
fn fields(register: u32, reply: &[u8]) -> Option<Vec<Seen>> {
    let mut seen = [(register & !1, NIL), (register | 1, NIL)];
    let mut all = elements(reply);
    while let Some(name) = all.next() {
        let version = std::str::from_utf8(bulk(all.next()?)?).ok()?.parse().ok()?;
        match bulk(name)? {
            b"a" => seen[0].1 = version,
            b"b" => seen[1].1 = version,
            _ => return None,
        }
    }
    Some(seen.to_vec())
}
