//! Keys that may not be named: too long, or with bytes that are forbidden (`max_key_length`,
//! `forbidden_bytes`, of each key's rule).
//!
//! In: a request that the cache does not answer. Out: whether it goes on, or what it is told.
//! Invariant: a key that breaks its bounds is in no entry: it is asked for here before anything
//! goes upstream, so a hit is never of it, and pays nothing. (Other rules clear the cache.)

use crate::command::{KeySpec, Spec, keys};
use crate::data::batch::Batch;
use crate::data::refused;
use crate::data::session::Session;
use crate::keys::bounds::Unfit;
use crate::rules::Rules;
use crate::stats::Counter;
use crate::wire::request::Request;

/// True if all keys of a request may be named; else its client has its answer.
#[inline]
pub fn permits(
    session: &mut Session,
    spec: &Spec,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> bool {
    let fault = fault(spec, request, batch);
    if let Some(text) = &fault {
        refused::with(session, spec, text.as_bytes(), batch);
    }
    fault.is_none()
}

/// What a request is refused with, and counted as, for the keys that it names.
#[inline]
pub fn fault(spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) -> Option<String> {
    let rules = &batch.snapshot.rules;
    if !rules.bound_keys() {
        return None;
    }
    let text = judge(rules, spec, request).err()?;
    batch.block.add(Counter::RejectedKey, 1);
    Some(text)
}

/// What is told of the first key that may not be named.
#[cold]
pub fn judge(rules: &Rules, spec: &Spec, request: &Request<'_>) -> Result<(), String> {
    let mut verdict = Ok(());
    let mut check = |at: usize| {
        let key = request.arg(at);
        if verdict.is_ok() {
            verdict = rules.find(key).key_bounds.check(key).map_err(|unfit| (unfit, key.len()));
        }
    };
    if spec.name == "proxy|lease" {
        check(3);
    } else {
        keys::for_each(
            spec,
            request.len(),
            |at| request.arg(at),
            |at| {
                if !is_pattern(spec, request, at) {
                    check(at);
                }
            },
        );
    }
    verdict.map_err(|(unfit, length)| text(spec, unfit, length))
}

/// True for what SORT makes names of.
fn is_pattern(spec: &Spec, request: &Request<'_>, at: usize) -> bool {
    let is = |word: &[u8]| request.arg(at - 1).eq_ignore_ascii_case(word);
    spec.keys == KeySpec::Sort && at > 1 && (is(b"by") || is(b"get"))
}

#[cold]
fn text(spec: &Spec, unfit: Unfit, length: usize) -> String {
    let name = spec.name.replace('|', " ");
    match unfit {
        Unfit::Long(longest) => format!(
            "ERR nearside refuses '{name}': a key of {length} bytes is longer than max_key_length, \
             {longest}"
        ),
        Unfit::Byte(byte, at) => format!(
            "ERR nearside refuses '{name}': its key has the byte 0x{byte:02x} at {at} \
             (forbidden_bytes)"
        ),
    }
}
