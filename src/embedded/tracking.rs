//! `CLIENT TRACKING ON BCAST`: who follows which prefix, and what they are told.
//!
//! As in Redis' `tracking.c`: keys are collected while a batch runs, and each follower of a prefix
//! gets one push with all of them, in order, after the batch; a flush is told at once, by null.
//!
//! Invariant: a prefix is in `prefixes` exactly while somebody follows it.

use super::reply::{Fault, Out};
use crate::wire::write::{self, Proto};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

/// Followers by prefix, both in order.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    prefixes: BTreeMap<Bytes, BTreeSet<u64>>,
}

impl Tracking {
    /// Is anybody to be told?
    pub(super) fn is_active(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Refuses prefixes that overlap with each other or with those the client follows already.
    pub(super) fn check(&self, client: u64, wanted: &[&[u8]]) -> Result<(), Fault> {
        for (at, prefix) in wanted.iter().enumerate() {
            if let Some(old) = self.followed_by(client).find(|old| overlap(old, prefix)) {
                return Err(overlapping(prefix, old, "an existing"));
            }
            let others = wanted.get(at + 1..).unwrap_or_default();
            if let Some(other) = others.iter().find(|other| overlap(other, prefix)) {
                return Err(overlapping(prefix, other, "another provided"));
            }
        }
        Ok(())
    }

    /// The client follows these prefixes from now on; none means everything.
    pub(super) fn follow(&mut self, client: u64, prefixes: &[&[u8]]) {
        let everything = [&[][..]];
        let prefixes = if prefixes.is_empty() { &everything[..] } else { prefixes };
        for prefix in prefixes {
            self.prefixes.entry(Bytes::copy_from_slice(prefix)).or_default().insert(client);
        }
    }

    pub(super) fn stop(&mut self, client: u64) {
        self.prefixes.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
    }

    pub(super) fn followed_by(&self, client: u64) -> impl Iterator<Item = &Bytes> {
        self.prefixes.iter().filter(move |(_, clients)| clients.contains(&client)).map(|(p, _)| p)
    }

    pub(super) fn prefix_count(&self) -> usize {
        self.prefixes.len()
    }

    /// Everybody who follows anything.
    pub(super) fn clients(&self) -> BTreeSet<u64> {
        self.prefixes.values().flatten().copied().collect()
    }

    /// What is to be told of these changed keys: the push, and who gets it.
    pub(super) fn pushes(&self, keys: &BTreeSet<Bytes>) -> Vec<(BytesMut, &BTreeSet<u64>)> {
        let mut pushes = Vec::new();
        for (prefix, clients) in &self.prefixes {
            let from = keys.range(prefix.clone()..);
            let changed: Vec<&Bytes> = from.take_while(|key| key.starts_with(prefix)).collect();
            if changed.is_empty() {
                continue;
            }
            let mut push = BytesMut::new();
            invalidate(&mut push);
            write::array(&mut push, changed.len());
            for key in changed {
                write::bulk(&mut push, key);
            }
            pushes.push((push, clients));
        }
        pushes
    }
}

/// Tells a follower that everything is gone. RESP2 has no pushes: it hears nothing.
pub(super) fn push_flushed(out: &mut Out) {
    if out.proto == Proto::Resp3 {
        invalidate(&mut out.bytes);
        out.null();
    }
}

fn invalidate(out: &mut BytesMut) {
    write::push(out, Proto::Resp3, 2);
    write::bulk(out, b"invalidate");
}

fn overlap(a: &[u8], b: &[u8]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn overlapping(prefix: &[u8], other: &[u8], which: &str) -> Fault {
    // C prints a string up to its first NUL.
    let shown = |text: &[u8]| text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let (prefix, other) = (shown(prefix), shown(other));
    let mut text = b"ERR Prefix '".to_vec();
    text.extend_from_slice(&prefix);
    text.extend_from_slice(b"' overlaps with ");
    text.extend_from_slice(which.as_bytes());
    text.extend_from_slice(b" prefix '");
    text.extend_from_slice(&other);
    text.extend_from_slice(b"'. Prefixes for a single client must not overlap.");
    Fault::owned(text)
}
