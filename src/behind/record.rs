//! One write that waits for upstream, and how it stands in the log.
//!
//! ```text
//!   salt    u32 | CRC-32C u32                        at the head of a file
//!   frame   length u32 | CRC-32C u32 | body         both of the body; all numbers little-endian;
//!                                                   the sum begins with the salt of its file
//!   body    'w' | number u64 | database u32 | prefix u32 | ends at u64 | the request as RESP
//!           'd' | number u64                        upstream has every write up to this one
//! ```
//!
//! In: a request with its keys as upstream has them. Out: bytes, and from bytes the same write, or
//! word that they are none. Invariants: a write says what its key is to be, never by how much it is
//! to change, so that it may be made twice; no value that clients write looks like a record, since
//! they do not know the salt.

use crate::wire::request::{Arg, Found, Limits, Request, Scan};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// Bytes before a body.
const HEAD: usize = 8;

/// A body that is longer is none: no request is.
const BODY_MAX: usize = crate::wire::request::REQUEST_MAX + 64;

/// What nearside has written itself was within its limits then.
const LIMITS: Limits = Limits { args_max: 1 << 20, bulk_max: 1 << 30, unauthenticated: false };

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its database.
    pub database: u32,
    /// How much of the key is what nearside names it with: the rest is the client's.
    pub prefix: usize,
    /// When its value ends, in milliseconds since 1970; 0: it does not, or the request says so.
    pub ends_at: u64,
    /// The request: its key is the argument behind the command.
    pub request: Bytes,
}

/// What a write leaves of what its key was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: this is the value.
    Value,
    /// Nothing: there is no key any more.
    Gone,
    /// Some of it.
    Part,
}

impl Write {
    /// Shows the arguments of the request.
    pub fn with_words<T>(&self, show: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut args: Vec<Arg> = Vec::new();
        let found = Scan::default().next(&self.request, &mut args, &LIMITS);
        if found != Ok(Found::Request(self.request.len())) {
            args.clear();
        }
        let request = Request::new(&self.request, &args);
        show(&request.from(0).collect::<Vec<_>>())
    }

    /// Its key, as upstream has it.
    pub fn key(&self) -> Bytes {
        self.with_words(|words| words.get(1).map(|key| self.request.slice_ref(key)))
            .unwrap_or_default()
    }

    /// Its key, as clients have it.
    pub fn name(&self) -> Bytes {
        let key = self.key();
        key.slice(self.prefix.min(key.len())..)
    }

    /// What it leaves of what its key was.
    pub fn effect(&self) -> Effect {
        self.with_words(|words| match words.first().copied() {
            Some(b"SET") => Effect::Value,
            Some(b"DEL" | b"UNLINK") => Effect::Gone,
            _ => Effect::Part,
        })
    }

    /// True if it makes writes of its key before it needless: it leaves nothing of them, and no
    /// server refuses it for what it is (an option that it does not know, say).
    pub fn replaces(&self) -> bool {
        self.effect() != Effect::Part && !self.says_its_end()
    }

    /// True if the request itself says when its value ends.
    pub fn says_its_end(&self) -> bool {
        self.with_words(|words| words.len() > 3)
    }

    /// The value that it gives its key.
    pub fn value(&self) -> Bytes {
        self.with_words(|words| words.get(2).map(|value| self.request.slice_ref(value)))
            .unwrap_or_default()
    }
}

/// What the sums of a file's records begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// Its length in a file.
    pub const LENGTH: u64 = 8;

    /// One that nobody can guess.
    pub fn random() -> Self {
        // (The keys of the hash are random.)
        let [_, _, _, _, high @ ..] = RandomState::new().hash_one(()).to_be_bytes();
        Self(u32::from_be_bytes(high))
    }

    /// Writes it behind what is in `out`.
    pub fn write(self, out: &mut BytesMut) {
        out.put_u32_le(self.0);
        out.put_u32_le(crc32c::crc32c(&self.0.to_le_bytes()));
    }

    /// The salt at the front of `bytes`, which it takes; `None` if none stands there.
    pub fn read(bytes: &mut Bytes) -> Option<Self> {
        let mut head = bytes.get(..HEAD)?;
        let (salt, sum) = (head.get_u32_le(), head.get_u32_le());
        if crc32c::crc32c(&salt.to_le_bytes()) != sum {
            return None;
        }
        bytes.advance(HEAD);
        Some(Self(salt))
    }

    fn sum(self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, body)
    }
}

/// What stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A write, and its number.
    Write(u64, Write),
    /// Upstream has all writes up to this number.
    Done(u64),
}

impl Record {
    /// The length of [`Self::Done`] in a file.
    pub const DONE_LENGTH: u64 = 17;

    /// Its number.
    pub const fn number(&self) -> u64 {
        match self {
            Self::Write(number, _) | Self::Done(number) => *number,
        }
    }

    /// Writes it behind what is in `out`.
    pub fn write(&self, salt: Salt, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, HEAD);
        match self {
            Self::Write(number, write) => {
                out.put_u8(b'w');
                out.put_u64_le(*number);
                out.put_u32_le(write.database);
                out.put_u32_le(u32::try_from(write.prefix).unwrap_or(u32::MAX));
                out.put_u64_le(write.ends_at);
                out.extend_from_slice(&write.request);
            }
            Self::Done(number) => {
                out.put_u8(b'd');
                out.put_u64_le(*number);
            }
        }
        let body = out.get(start + HEAD..).unwrap_or_default();
        let (length, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), salt.sum(body));
        if let Some(mut head) = out.get_mut(start..start + HEAD) {
            head.put_u32_le(length);
            head.put_u32_le(sum);
        }
    }

    /// The record at the front of `bytes`, which it takes; `None` if none stands there.
    pub fn read(salt: Salt, bytes: &mut Bytes) -> Option<Self> {
        let mut head = bytes.get(..HEAD)?;
        let (length, sum) = (head.get_u32_le() as usize, head.get_u32_le());
        if length > BODY_MAX || bytes.len() < HEAD + length {
            return None;
        }
        let body = bytes.slice(HEAD..HEAD + length);
        if salt.sum(&body) != sum {
            return None;
        }
        let record = Self::of_body(body)?;
        bytes.advance(HEAD + length);
        Some(record)
    }

    fn of_body(mut body: Bytes) -> Option<Self> {
        let (kind, number) = (body.try_get_u8().ok()?, body.try_get_u64_le().ok()?);
        match kind {
            b'd' if body.is_empty() => Some(Self::Done(number)),
            b'w' => {
                let database = body.try_get_u32_le().ok()?;
                let prefix = body.try_get_u32_le().ok()? as usize;
                let ends_at = body.try_get_u64_le().ok()?;
                let write = Write { database, prefix, ends_at, request: body };
                let is_whole = write.with_words(|words| {
                    words.len() > 1 && words.get(1).is_some_and(|key| key.len() >= prefix)
                });
                is_whole.then_some(Self::Write(number, write))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Record, Salt, Write};
    use crate::behind::tests::write;
    use bytes::{Bytes, BytesMut};

    const SALT: Salt = Salt(7);

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut out = BytesMut::new();
        let records = [
            Record::Write(7, write("SET v1:a \x00\r\n")),
            Record::Done(7),
            Record::Write(8, Write { ends_at: 5, ..write("HSET v1:h f v") }),
        ];
        for record in &records {
            record.write(SALT, &mut out);
        }
        let mut bytes = out.freeze();
        for record in &records {
            assert_eq!(Record::read(SALT, &mut bytes).as_ref(), Some(record));
        }
        assert!(bytes.is_empty() && Record::read(SALT, &mut bytes).is_none());
    }

    #[test]
    fn a_record_that_was_cut_or_changed_is_none() {
        let mut out = BytesMut::new();
        Record::Write(7, write("SET v1:a 1")).write(SALT, &mut out);
        let whole = out.freeze();
        for length in 0..whole.len() {
            assert!(Record::read(SALT, &mut whole.slice(..length)).is_none(), "{length}");
        }
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut other = whole.to_vec();
                other[place] ^= 1 << bit;
                assert!(Record::read(SALT, &mut Bytes::from(other)).is_none(), "{place} {bit}");
            }
        }
    }

    #[test]
    fn a_body_that_is_no_write_is_none() {
        for body in ["", "d", "x00000000", "w0000000011112222333333334*1\r\n$3\r\nSET\r\n"] {
            let mut out = BytesMut::new();
            out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            out.extend_from_slice(&SALT.sum(body.as_bytes()).to_le_bytes());
            out.extend_from_slice(body.as_bytes());
            assert!(Record::read(SALT, &mut out.freeze()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_write_tells_what_it_leaves() {
        for (line, effect) in [
            ("SET v1:a 1", Effect::Value),
            ("DEL v1:a", Effect::Gone),
            ("UNLINK v1:a", Effect::Gone),
            ("HSET v1:a f v", Effect::Part),
        ] {
            let write = write(line);
            assert_eq!(write.effect(), effect, "{line}");
            assert_eq!((&write.key()[..], &write.name()[..]), (&b"v1:a"[..], &b"a"[..]));
        }
        assert_eq!(&write("SET v1:a 1").value()[..], b"1");
    }
}
