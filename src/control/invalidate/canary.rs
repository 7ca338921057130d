//! The written canary (`invalidation.written_canary`, T17): a key of nearside's own that is written
//! on another link, to hear of it on the tracking link. It finds out what no question can: a server
//! that answers, believes that it tracks, and sends nothing.
//!
//! ```text
//!   due     the one before was not heard, though a barrier has passed since: missed
//!           two missed in a row: the link is deaf; else the next is written
//!   push    names the key, whoever of a fleet has written it: this link hears
//! ```
//!
//! Where no barrier passes (a server that is busy or stopped) nothing is missed: hits end with
//! their lease, and the cache is not lost over it.

use crate::control::jobs::line::{Line, LineError};
use crate::live::Live;
use crate::net::dialer::Dialer;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::Notify;

/// So many missed in a row make a link deaf.
const MISSED_MAX: u32 = 2;

/// It outlives so many of its pauses, so that it goes when nobody writes it any more.
const LIVES: u32 = 4;

/// What a tracking link has heard of it.
#[derive(Debug)]
pub struct Canary {
    /// Its name.
    key: Vec<u8>,
    /// It was written, and is not heard yet.
    is_awaited: bool,
    /// A barrier has passed since it was written last.
    has_passed: bool,
    /// Missed in a row.
    missed: u32,
    /// It was heard on this connection.
    is_heard: bool,
}

impl Canary {
    /// On a new connection.
    pub fn new(key: &[u8]) -> Self {
        let key = key.to_vec();
        Self { key, is_awaited: false, has_passed: false, missed: 0, is_heard: false }
    }

    /// It is about to be written. True if the one before was missed.
    pub fn write(&mut self) -> bool {
        let is_missed = self.is_awaited && self.has_passed;
        self.missed += u32::from(is_missed);
        (self.is_awaited, self.has_passed) = (true, false);
        is_missed
    }

    /// A push names this key. True if it is the first of the last that was written.
    pub fn hear(&mut self, key: &[u8]) -> bool {
        if key != self.key {
            return false;
        }
        (self.missed, self.is_heard) = (0, true);
        std::mem::take(&mut self.is_awaited)
    }

    /// A barrier was confirmed: the link lives.
    pub fn pass(&mut self) {
        self.has_passed = true;
    }

    /// True if the link hears of no writes.
    pub fn is_deaf(&self) -> bool {
        self.missed >= MISSED_MAX
    }

    /// True once it was heard on this connection.
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }
}

/// Writes it whenever it is due, on a connection of its own.
#[derive(Debug)]
pub struct Writer<'t> {
    /// Its name.
    pub key: &'t [u8],
    /// How often it is written.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Opens the connection.
    pub dialer: &'t Dialer,
    /// Is told why it cannot be written.
    pub live: &'t Live,
    /// It is due.
    pub due: Notify,
}

impl Writer<'_> {
    /// For as long as the tracking link is there.
    pub async fn run(&self) -> Infallible {
        let (mut line, mut number, mut was_refused) = (None, 0, false);
        loop {
            self.due.notified().await;
            number += 1;
            let refused = self.write(&mut line, number).await.err();
            // What else is wrong with it is not known to be over.
            if refused.is_some() || was_refused {
                was_refused = refused.is_some();
                self.live.set_canary_trouble(refused.map(|error| error.to_string()));
            }
        }
    }

    async fn write(&self, kept: &mut Option<Line>, number: u64) -> Result<(), LineError> {
        let mut line = match kept.take() {
            Some(line) => line,
            None => Line::open(self.dialer, self.timeout).await?,
        };
        // Whose it is, for who looks at it upstream.
        let value = format!("{} {number}", self.dialer.name);
        let life = (self.every * LIVES).as_millis().to_string();
        let words = [b"SET", self.key, value.as_bytes(), b"PX", life.as_bytes()];
        let answer = line.ask(&words).await?;
        *kept = Some(line);
        let is_ok = answer == b"+OK\r\n";
        if is_ok { Ok(()) } else { Err(LineError::refused("SET", &answer)) }
    }
}

#[cfg(test)]
mod tests {
    use super::Canary;

    const KEY: &[u8] = b"v1:nearside:canary";

    /// One that is written, with a barrier behind it.
    fn written() -> Canary {
        let mut canary = Canary::new(KEY);
        assert!(!canary.write(), "there was none before");
        canary.pass();
        canary
    }

    #[test]
    fn two_that_are_missed_in_a_row_make_a_link_deaf() {
        let mut canary = written();
        assert!(canary.write() && !canary.is_deaf());
        assert!(canary.hear(KEY) && canary.is_heard());
        canary.pass();
        assert!(!canary.write());
        for _ in 0..2 {
            assert!(!canary.is_deaf());
            canary.pass();
            assert!(canary.write());
        }
        assert!(canary.is_deaf());
    }

    #[test]
    fn nothing_is_missed_where_no_barrier_passes() {
        let mut canary = Canary::new(KEY);
        for _ in 0..9 {
            assert!(!canary.write());
        }
        assert!(!canary.is_deaf() && !canary.is_heard());
    }

    #[test]
    fn a_push_counts_once_and_by_its_whole_name() {
        let mut canary = written();
        assert!(!canary.hear(b"v1:nearside:canary2") && !canary.is_heard());
        assert!(canary.hear(KEY) && !canary.hear(KEY), "a peer's, or its end, is none of ours");
    }
}
