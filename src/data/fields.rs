//! Hash fields that end on their own (R10): PTTL says nothing of them, and a server may hide an
//! ended field without a word.
//!
//! ```text
//!   HGET, HMGET --> value --HPTTL--> the shortest life among the fields it shows --PTTL--> proof
//!   others      --> value ------------------------------- at most `hash_max_ttl` --PTTL--> proof
//! ```
//!
//! Where the server refuses HPTTL, the reply lives as long as it would without it.

use crate::cache::{Entry, Reply};
use crate::command::{CacheRule, Spec};
use crate::data::order::Frame;
use crate::data::settle::Fault;
use crate::data::upstream::{Kind, Pipeline, Ticket};
use crate::data::{Shared, forward};
use crate::keys::Names;
use crate::wire::request::Request;
use crate::wire::{reply, write};
use bytes::BytesMut;

/// What is known of the fields that a read names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Nothing is asked, or nothing was told.
    Unknown,
    /// The next answer says it.
    Asked,
    /// The shortest life, as PTTL says it.
    Known(i64),
}

/// What is to be asked of the fields of a read that is to be stored and is probed.
#[inline]
pub fn of(spec: &Spec, shared: &Shared) -> Fields {
    // (Other reads of hashes show fields that they do not name.)
    let names_fields = spec.cache == CacheRule::HashField && matches!(spec.name, "hget" | "hmget");
    if names_fields && shared.live.has_field_ttls() { Fields::Asked } else { Fields::Unknown }
}

/// Asks how long the fields of a read live.
#[cold]
pub fn write(out: &mut BytesMut, request: &Request<'_>, names: &Names) {
    let mut digits = itoa::Buffer::new();
    write::array(out, request.len() + 2);
    write::bulk(out, b"HPTTL");
    forward::write_key(out, request.arg(1), names);
    write::bulk(out, b"FIELDS");
    write::bulk(out, digits.format(request.len() - 2).as_bytes());
    request.from(2).for_each(|field| write::bulk(out, field));
}

/// HPTTL's answer.
#[cold]
pub fn hear(link: &mut Pipeline, frame: &Frame<'_>) -> Result<(), Fault> {
    let Some(Ticket { kind: Kind::Read(read), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    if !matches!(frame.bytes().first(), Some(b'*' | b'-' | b'_')) {
        return Err(Fault::Shape);
    }
    let life = read.unproved.as_ref().and_then(|value| shortest(value, frame.bytes()));
    read.fields = life.map_or(Fields::Unknown, Fields::Known);
    Ok(())
}

/// The shortest life of the fields that a value shows.
fn shortest(value: &Entry, lives: &[u8]) -> Option<i64> {
    let Reply::Bytes(value) = value.reply() else {
        return None;
    };
    let single = value.first() != Some(&b'*');
    // An error says nothing.
    if single && reply::elements(lives).count() != 1 {
        return None;
    }
    let mut shown = reply::elements(value).map(|value| !reply::is_null(value));
    let mut shortest = -1;
    for life in reply::elements(lives) {
        let life = reply::integer(life)?;
        if single || shown.next()? {
            shortest = sooner(shortest, life);
        }
    }
    (single || shown.next().is_none()).then_some(shortest)
}

/// The shorter of two lives as PTTL says them: -1 is none, -2 has ended.
pub fn sooner(one: i64, other: i64) -> i64 {
    match (one, other) {
        (-1, life) | (life, -1) => life,
        (one, other) => one.min(other),
    }
}

#[cfg(test)]
mod tests {
    use super::sooner;

    #[test]
    fn no_end_is_later_than_any() {
        for (one, other, soonest) in
            [(-1, -1, -1), (-1, 5, 5), (5, -1, 5), (5, 6, 5), (-2, 5, -2), (-1, -2, -2), (0, 7, 0)]
        {
            assert_eq!(sooner(one, other), soonest, "{one} {other}");
        }
    }
}
