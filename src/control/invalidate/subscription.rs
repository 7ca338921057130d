//! One server's messages: a connection that subscribes, hears, notices when it is lost, and comes
//! back. Bytes in, payloads for [`Channel::obey`] out.
//!
//! The subscriptions are to patterns without a star: PUBSUB CHANNELS and NUMSUB are then as if
//! nearside were not there, and NUMPAT's answer is corrected by their number (`data/local`).

use crate::control::invalidate::channel::{Batch, Channel, command, open};
use crate::live::Live;
use crate::net::dialer::Dialer;
use crate::stats::Counter;
use crate::wire::reply::{self, Scan};
use anyhow::Context;
use bytes::{Buf, BytesMut};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How often the server is asked whether it is there, and the silence after which it is not.
const PING_EVERY: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Pause before a subscription is asked for again that the server refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A message that goes on beyond this is not waited for: the connection is opened anew.
const INPUT_MAX: usize = 1 << 20;

/// The channels at one server.
pub struct Subscription {
    /// The source's name; that of the main upstream is `upstream`.
    pub source: String,
    dialer: Arc<Dialer>,
    /// Told of the main upstream's.
    live: Option<Arc<Live>>,
    is_heard: AtomicBool,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The server does not let this user subscribe; it says why.
#[derive(Debug, thiserror::Error)]
#[error("the server refuses PSUBSCRIBE: {0}")]
struct Refused(String);

/// The name as a pattern that matches it alone. What needs no backslash gets none: an ACL compares
/// a pattern with its own as text.
fn pattern(name: &str) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(name.len());
    for byte in name.bytes() {
        if b"*?[\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern
}

impl Subscription {
    pub(super) fn new(source: &str, dialer: Arc<Dialer>, live: Option<Arc<Live>>) -> Self {
        Self { source: source.to_owned(), dialer, live, is_heard: AtomicBool::new(false) }
    }

    /// True while messages are heard.
    pub fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// The server, without user and password.
    pub fn address(&self) -> String {
        self.dialer.target.address.to_string()
    }

    /// The server has so many patterns of ours; whether that is all of them, and what was so
    /// before.
    fn set_heard(&self, is_heard: bool, patterns: usize) -> bool {
        if let Some(live) = &self.live {
            live.set_channel_heard(is_heard);
            live.set_own_patterns(patterns);
        }
        self.is_heard.swap(is_heard, Ordering::Relaxed)
    }

    /// Listens for as long as the process lives.
    pub(super) async fn listen(&self, channel: &Channel) {
        let clock = &channel.orders.clock;
        let (mut attempt, mut is_told) = (0, false);
        loop {
            let begun = clock.now();
            let Err(error) = self.hear(channel).await;
            // One that ends as soon as it is there is no success: else it would be tried without
            // a pause.
            if self.set_heard(false, 0) && clock.now().since(begun) > PING_EVERY {
                (attempt, is_told) = (0, false);
            }
            if !is_told {
                tracing::warn!(
                    event = "invalidation_channel_down",
                    source = self.source,
                    channel = channel.names().join(", "),
                    upstream = %self.dialer.target,
                    error = %error,
                    "messages about what is to be forgotten are not heard"
                );
                is_told = true;
            }
            let pause =
                if error.is::<Refused>() { REFUSED_PAUSE } else { crate::net::backoff(attempt) };
            tokio::time::sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// One connection that listens, from its handshake to its end.
    async fn hear(&self, channel: &Channel) -> anyhow::Result<Infallible> {
        let mut stream = open(&self.dialer).await?;
        let mut out = BytesMut::new();
        let patterns: Vec<_> = channel.names().iter().map(|name| pattern(name)).collect();
        let words = [b"PSUBSCRIBE".as_slice()].into_iter();
        command(&mut out, &words.chain(patterns.iter().map(Vec::as_slice)).collect::<Vec<_>>());
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut input, mut scan) = (BytesMut::with_capacity(64 * 1024), Scan::default());
        let clock = &channel.orders.clock;
        let (mut heard_at, mut was_silent) = (clock.now(), false);
        loop {
            if !out.is_empty() {
                stream.write_all_buf(&mut out).await?;
                stream.flush().await?;
            }
            tokio::select! { biased;
                read = stream.read_buf(&mut input) => {
                    anyhow::ensure!(read? > 0, "the server closed the connection");
                    (heard_at, was_silent) = (clock.now(), false);
                    self.take(&mut input, &mut scan, channel)?;
                }
                _ = pings.tick() => {
                    // Seen twice: the first look, after a pause of this process, may come before
                    // the system has said what there is to read.
                    let is_silent = clock.now().since(heard_at) > SILENCE_MAX;
                    anyhow::ensure!(!(is_silent && was_silent), "no answer for {SILENCE_MAX:?}");
                    was_silent = is_silent;
                    command(&mut out, &[b"PING"]);
                }
            }
        }
    }

    /// Obeys what has been read.
    fn take(&self, input: &mut BytesMut, scan: &mut Scan, channel: &Channel) -> anyhow::Result<()> {
        let (mut batch, mut at) = (channel.batch(), 0);
        while let Some(length) = scan.next(input.get(at..).unwrap_or_default())? {
            let frame = input.get(at..at + length).unwrap_or_default();
            at += length;
            self.frame(frame, channel, &mut batch)?;
        }
        input.advance(at);
        // It is not kept: whoever may PUBLISH could fill our memory with it.
        if input.len() > INPUT_MAX {
            channel.orders.block.add(Counter::MessagesMalformed, 1);
            anyhow::bail!("a message of more than {INPUT_MAX} bytes");
        }
        Ok(())
    }

    fn frame(&self, frame: &[u8], channel: &Channel, batch: &mut Batch) -> anyhow::Result<()> {
        let mut parts = reply::elements(frame);
        match parts.next().and_then(reply::bulk) {
            Some(b"pmessage") => {
                let payload = parts.nth(2).and_then(reply::bulk);
                channel.obey(payload.context("a message without its text")?, batch);
            }
            Some(b"psubscribe") => {
                // The server says how many it has of ours.
                let count = parts.nth(1).and_then(reply::integer).unwrap_or(0);
                self.subscribed(usize::try_from(count).unwrap_or(0), channel);
            }
            // A PING that is refused is an answer, too.
            _ if frame.starts_with(b"-") && !self.is_heard() => {
                let text = String::from_utf8_lossy(frame.get(1..).unwrap_or_default());
                return Err(Refused(text.trim_end().to_owned()).into());
            }
            _ => {}
        }
        Ok(())
    }

    fn subscribed(&self, patterns: usize, channel: &Channel) {
        let are_all = patterns >= channel.names().len();
        if !self.set_heard(are_all, patterns) && are_all {
            tracing::info!(
                event = "invalidation_channel_up",
                source = self.source,
                channel = channel.names().join(", "),
                "listening"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn the_pattern_is_the_name_wherever_it_can_be() {
        assert_eq!(pattern("system:cache-invalidation"), b"system:cache-invalidation");
        assert_eq!(pattern("a*b[c"), b"a\\*b\\[c");
    }
}
