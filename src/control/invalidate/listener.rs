//! The tracking link as a state machine: bytes and time in, invalidations and barriers out.
//!
//! ```text
//!   round n      PING ROLE          one write, at most one round out
//!   counts       +PONG and the role it should have; -BUSY, -LOADING and a replica do not
//!   then         synced_at = when round n-1 was sent      (R8)
//! ```
//!
//! A round whose PING or ROLE is refused proves nothing, though the link lives: a primary that
//! became a replica keeps its connections and answers every PING, and only ROLE tells.
//!
//! Why the round before: a BCAST push is built at the end of the server's event-loop cycle, so the
//! answer to a PING may overtake the push of a write that was executed before it. The answer to
//! the next PING, sent after the first was answered, cannot (coherence F2, F6, F8).

use super::canary::Canary;
use super::fleet::{FleetVersion, Said};
use crate::cache::Cache;
use crate::control::fill_lease::waited::Waited;
use crate::keys::Names;
use crate::stats::{Block, Counter};
use crate::units::clock::Tick;
use crate::units::mutant::{self, Mutant};
use crate::wire::{reply, write};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Why the link is not to be trusted any more (R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// What it sends is not RESP.
    #[error("it does not speak RESP: {0}")]
    Malformed(#[from] reply::Malformed),
    /// An answer that nobody asked for.
    #[error("it sent an answer that nobody asked for")]
    Stray,
    /// The server is not the primary any more.
    #[error("the server is a replica now")]
    Role,
    /// Tracking is off on the server's side.
    #[error("CLIENT TRACKINGINFO says that tracking is off")]
    TrackingOff,
    /// The link of a REDIRECT is broken; nearside sets none up.
    #[error("the server says that the tracking redirection is broken")]
    RedirectBroken,
    /// Rounds counted once and cannot any more.
    #[error("the server does not let this user PING or ask for its ROLE any more")]
    Refused,
    /// It answers, and tells of no change.
    #[error("the written canary was not heard")]
    Deaf,
}

/// An answer the listener waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Ping,
    Role,
    TrackingInfo,
    /// Of the version that a fleet shares.
    FleetSet,
    FleetGet,
}

/// A barrier round that is out.
#[derive(Clone, Copy, Debug)]
struct Round {
    number: u64,
    sent_at: Tick,
    /// False once an answer of it does not count.
    counts: bool,
}

/// The listener's state on one connection.
#[derive(Debug, Default)]
pub struct Listener {
    scan: reply::Scan,
    input: BytesMut,
    asked: VecDeque<Asked>,
    round: Option<Round>,
    /// The last round that counts.
    before: Option<Round>,
    /// True once a barrier was confirmed on this connection.
    is_synced: bool,
    /// How long the last round took, in nanoseconds.
    took_ns: u64,
    /// The error that stands where PONG or a role should.
    refusal: Option<String>,
    /// The key version, if a fleet shares one.
    fleet: Option<FleetVersion>,
    /// What was said of it, until it is taken.
    said: Option<Said>,
    /// The canary that is written, if one is.
    canary: Option<Canary>,
    /// Names that somebody waits for.
    waited: Arc<Waited>,
}

impl Listener {
    /// On a new connection, which is also to hear of the version that a fleet shares, and of the
    /// canary.
    pub fn new(fleet: Option<FleetVersion>, canary: Option<Canary>) -> Self {
        Self { fleet, canary, ..Self::default() }
    }

    /// Whoever waits for a name is rung for when a push brings it.
    #[must_use]
    pub fn ringing(self, waited: &Arc<Waited>) -> Self {
        Self { waited: Arc::clone(waited), ..self }
    }

    /// Takes what was read. Everything in it is applied in the order of the stream.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        now: Tick,
        cache: &Cache,
        names: &Names,
        block: &Block,
    ) -> Result<(), Doubt> {
        self.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(length) = self.scan.next(input.get(at..).unwrap_or_default())? {
            let frame = input.get(at..at + length).unwrap_or_default();
            if frame.first() == Some(&b'>') {
                self.push(frame, cache, names, block)?;
            } else {
                self.answer(frame, now, cache)?;
            }
            at += length;
        }
        input.advance(at);
        self.input = input;
        Ok(())
    }

    /// True if a round may be sent: none is out.
    pub fn may_ask(&self) -> bool {
        self.round.is_none()
    }

    /// True if the next round should not wait for its time: no barrier was confirmed yet, or
    /// somebody waits for one. Behind a round that did not count it waits.
    pub fn is_eager(&self, cache: &Cache) -> bool {
        let is_awaited = cache.tracking().is_barrier_wanted();
        (!self.is_synced || is_awaited) && self.before.is_some() && self.may_ask()
    }

    /// How long the last round took, in nanoseconds; 0 before the first.
    pub fn round_trip_ns(&self) -> u64 {
        self.took_ns
    }

    /// True once a barrier was confirmed on this connection.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Why no round can count, in the server's words, if it refuses PING or ROLE.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Writes a barrier round.
    pub fn ask_round(&mut self, out: &mut BytesMut, now: Tick, cache: &Cache) {
        let number = cache.tracking().begin_round();
        command(out, &[b"PING"]);
        command(out, &[b"ROLE"]);
        self.asked.extend([Asked::Ping, Asked::Role]);
        self.round = Some(Round { number, sent_at: now, counts: true });
    }

    /// Asks whether the server still thinks that it tracks for this link.
    pub fn ask_tracking_info(&mut self, out: &mut BytesMut) {
        command(out, &[b"CLIENT", b"TRACKINGINFO"]);
        self.asked.push_back(Asked::TrackingInfo);
    }

    /// Asks for the fleet's version, if that is due.
    pub fn ask_fleet(&mut self, out: &mut BytesMut) {
        if let Some(asks) = self.fleet.as_mut().and_then(FleetVersion::ask) {
            for words in asks {
                command(out, &words);
            }
            self.asked.extend([Asked::FleetSet, Asked::FleetGet]);
        }
    }

    /// The fleet's version is to be asked for again.
    pub fn doubt_fleet(&mut self) {
        if let Some(fleet) = &mut self.fleet {
            fleet.changed(None);
        }
    }

    /// Time has passed for the fleet's version.
    pub fn tick_fleet(&mut self) {
        if let Some(fleet) = &mut self.fleet {
            fleet.tick();
        }
    }

    /// The canary is about to be written.
    pub fn write_canary(&mut self, block: &Block) -> Result<(), Doubt> {
        let Some(canary) = &mut self.canary else { return Ok(()) };
        if canary.write() {
            block.add(Counter::CanaryMissed, 1);
        }
        if canary.is_deaf() { Err(Doubt::Deaf) } else { Ok(()) }
    }

    /// True if writes are heard of, so far as a canary is to prove it.
    pub fn is_hearing(&self) -> bool {
        self.canary.as_ref().is_none_or(Canary::is_heard)
    }

    /// What was said of the fleet's version since this was asked last.
    pub fn take_said(&mut self) -> Option<Said> {
        self.said.take()
    }

    /// True if the key version in force is the one that it should be.
    pub fn is_of_fleet(&self) -> bool {
        self.fleet.as_ref().is_none_or(FleetVersion::is_in_force)
    }

    /// Applies one push: `invalidate` with keys, or with nil for everything.
    fn push(
        &mut self,
        frame: &[u8],
        cache: &Cache,
        names: &Names,
        block: &Block,
    ) -> Result<(), Doubt> {
        let mut elements = reply::elements(frame);
        match elements.next().and_then(reply::bulk) {
            Some(b"invalidate") => {}
            Some(b"tracking-redir-broken") => return Err(Doubt::RedirectBroken),
            _ => return Ok(()),
        }
        let Some(keys) = elements.next() else {
            return Ok(());
        };
        if reply::is_null(keys) {
            block.add(Counter::InvalidationsTracking, 1);
            block.add(Counter::FlushesFlushall, 1);
            cache.clear();
            tracing::info!(event = "cache_flushed", reason = "flushall", "upstream was flushed");
            if let Some(fleet) = &mut self.fleet {
                fleet.changed(None);
            }
            return Ok(());
        }
        let (mut named, mut removed) = (0, 0);
        for name in reply::elements(keys).filter_map(reply::bulk) {
            // The server may tell of keys of other versions: nothing here is stored under them.
            if let Some(key) = names.strip(name) {
                named += 1;
                removed += u64::from(cache.invalidate(cache.hash(key)));
            }
            self.waited.hear(name);
            if let Some(fleet) = &mut self.fleet {
                fleet.changed(Some(name));
            }
            if self.canary.as_mut().is_some_and(|canary| canary.hear(name)) {
                block.add(Counter::CanaryHeard, 1);
            }
        }
        block.add(Counter::InvalidationsTracking, named);
        block.add(Counter::InvalidatedKeysTracking, removed);
        Ok(())
    }

    fn answer(&mut self, frame: &[u8], now: Tick, cache: &Cache) -> Result<(), Doubt> {
        match self.asked.pop_front().ok_or(Doubt::Stray)? {
            Asked::Ping => {
                self.hear_refusal(frame)?;
                self.judge(frame == b"+PONG\r\n");
            }
            Asked::Role => {
                self.hear_refusal(frame)?;
                let role = reply::elements(frame).next().and_then(reply::bulk);
                if role == Some(b"slave") {
                    return Err(Doubt::Role);
                }
                self.judge(role == Some(b"master"));
                self.end_round(now, cache);
            }
            Asked::TrackingInfo => check_tracking(frame)?,
            Asked::FleetSet => {
                if let Some(fleet) = &mut self.fleet {
                    fleet.hear_set(frame);
                }
            }
            Asked::FleetGet => {
                let said = self.fleet.as_mut().and_then(|fleet| fleet.hear_get(frame));
                self.said = said.or_else(|| self.said.take());
            }
        }
        Ok(())
    }

    /// Unlike -BUSY and -LOADING these do not pass by themselves.
    fn hear_refusal(&mut self, frame: &[u8]) -> Result<(), Doubt> {
        if frame.starts_with(b"-NOPERM") || frame.starts_with(b"-ERR unknown command") {
            if self.is_synced {
                return Err(Doubt::Refused);
            }
            let text = String::from_utf8_lossy(frame.get(1..).unwrap_or_default());
            self.refusal = Some(text.trim_end().to_owned());
        }
        Ok(())
    }

    fn judge(&mut self, counts: bool) {
        if let Some(round) = &mut self.round {
            round.counts &= counts;
        }
    }

    fn end_round(&mut self, now: Tick, cache: &Cache) {
        let Some(round) = self.round.take() else {
            return;
        };
        if !round.counts {
            self.before = None;
            return;
        }
        self.took_ns = now.0.saturating_sub(round.sent_at.0);
        let begun = if mutant::active(Mutant::Pong1) { Some(round) } else { self.before };
        if let Some(before) = begun {
            self.is_synced = true;
            self.refusal = None;
            cache.tracking().synced(before.sent_at);
            cache.tracking().passed(before.number);
            if let Some(canary) = &mut self.canary {
                canary.pass();
            }
        }
        self.before = Some(round);
    }
}

fn command(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

/// `flags` must hold `on` and `bcast`. A server that does not know the command proves nothing.
fn check_tracking(frame: &[u8]) -> Result<(), Doubt> {
    if frame.first() == Some(&b'-') {
        return Ok(());
    }
    let mut elements = reply::elements(frame);
    while let Some(name) = elements.next() {
        let value = elements.next().unwrap_or_default();
        if reply::bulk(name) == Some(b"flags") {
            let has = |flag: &[u8]| {
                reply::elements(value).any(|element| {
                    // `+on` or `$2 on`: servers differ.
                    reply::bulk(element) == Some(flag)
                        || element.strip_prefix(b"+").and_then(|e| e.strip_suffix(b"\r\n"))
                            == Some(flag)
                })
            };
            return if has(b"on") && has(b"bcast") { Ok(()) } else { Err(Doubt::TrackingOff) };
        }
    }
    Ok(())
}
