//! What a command hands back: bytes written to [`Out`], or a [`Fault`] whose text is Redis' own.
//!
//! Invariant: a handler that returns a fault may have written nothing that matters; the caller
//! cuts the output back to where the command began.

use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use std::borrow::Cow;
use std::ops::Range;

/// The result of a command handler.
pub(super) type Done = Result<(), Fault>;

/// An error reply: the text after `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(Cow<'static, [u8]>);

impl Fault {
    pub(super) const fn text(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    pub(super) fn owned(text: impl Into<Vec<u8>>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// `wrong number of arguments`; a subcommand is named `client|id`.
    pub(super) fn arity(name: &str) -> Self {
        Self::owned(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A subcommand with arguments that it does not know.
    pub(super) fn subcommand(container: &str, asked: &[u8]) -> Self {
        let asked = String::from_utf8_lossy(asked);
        Self::owned(format!(
            "ERR unknown subcommand or wrong number of arguments for '{asked}'. Try {container} \
             HELP."
        ))
    }

    pub(super) fn expire_time(name: &str) -> Self {
        Self::owned(format!("ERR invalid expire time in '{name}' command"))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(super) const SYNTAX: Fault = Fault::text("ERR syntax error");
pub(super) const NOT_INTEGER: Fault = Fault::text("ERR value is not an integer or out of range");
pub(super) const NOT_FLOAT: Fault = Fault::text("ERR value is not a valid float");
pub(super) const NOT_POSITIVE: Fault = Fault::text("ERR value is out of range, must be positive");
pub(super) const OVERFLOW: Fault = Fault::text("ERR increment or decrement would overflow");
pub(super) const NOT_A_NUMBER: Fault = Fault::text("ERR increment would produce NaN or Infinity");
pub(super) const NO_SUCH_KEY: Fault = Fault::text("ERR no such key");
pub(super) const INDEX_RANGE: Fault = Fault::text("ERR index out of range");
pub(super) const DB_RANGE: Fault = Fault::text("ERR DB index is out of range");
pub(super) const SAME_OBJECT: Fault =
    Fault::text("ERR source and destination objects are the same");
pub(super) const WRONG_TYPE: Fault =
    Fault::text("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const TOO_LONG: Fault =
    Fault::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub(super) const OUT_OF_MEMORY: Fault =
    Fault::text("OOM command not allowed when used memory > 'maxmemory'.");

/// A client's output, and the protocol in which it is written.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: BytesMut,
    pub(super) proto: Proto,
    /// What of the running request's output is no reply: it is sent even if replies are muted.
    pub(super) kept: Vec<Range<usize>>,
}

impl Out {
    /// What was written from `start` on is no reply.
    pub(super) fn keep_from(&mut self, start: usize) {
        self.kept.push(start..self.bytes.len());
    }

    /// Takes back the replies written from `start` on.
    pub(super) fn mute(&mut self, start: usize) {
        let written = self.bytes.split_off(start);
        for range in std::mem::take(&mut self.kept) {
            let range = range.start.saturating_sub(start)..range.end.saturating_sub(start);
            self.bytes.extend_from_slice(written.get(range).unwrap_or_default());
        }
    }

    pub(super) fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    pub(super) fn simple(&mut self, text: &str) {
        write::simple(&mut self.bytes, text);
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        write::error(&mut self.bytes, fault.bytes());
    }

    pub(super) fn integer(&mut self, value: i64) {
        write::integer(&mut self.bytes, value);
    }

    pub(super) fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.bytes.extend_from_slice(if value { b":1\r\n" } else { b":0\r\n" });
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        write::bulk(&mut self.bytes, bytes);
    }

    pub(super) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    pub(super) fn null(&mut self) {
        write::null(&mut self.bytes, self.proto);
    }

    pub(super) fn null_array(&mut self) {
        write::null_array(&mut self.bytes, self.proto);
    }

    pub(super) fn array(&mut self, count: usize) {
        write::array(&mut self.bytes, count);
    }

    pub(super) fn map(&mut self, pairs: usize) {
        write::map(&mut self.bytes, self.proto, pairs);
    }

    pub(super) fn set(&mut self, count: usize) {
        write::set(&mut self.bytes, self.proto, count);
    }

    pub(super) fn verbatim(&mut self, text: &[u8]) {
        write::verbatim(&mut self.bytes, self.proto, text);
    }

    pub(super) fn double(&mut self, value: f64) {
        write::double(&mut self.bytes, self.proto, &super::float::format(value));
    }

    /// Pairs (hash fields with values, members with scores): nested in RESP3, flat in RESP2.
    pub(super) fn pairs(&mut self, count: usize) {
        self.array(if self.proto == Proto::Resp3 { count } else { count * 2 });
    }

    /// The head of one pair announced by [`Out::pairs`].
    pub(super) fn pair(&mut self) {
        if self.proto == Proto::Resp3 {
            self.array(2);
        }
    }
}
