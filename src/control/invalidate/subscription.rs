//! One server's messages: a connection that subscribes, hears, notices when it is lost, and comes
//! back. Bytes in, payloads for [`Channel::obey`] out.
//!
//! The subscriptions are to patterns without a star: PUBSUB CHANNELS and NUMSUB are then as if
//! nearside were not there, and NUMPAT's answer is corrected by their number (`data/local`).

use crate::control::invalidate::channel::{Batch, Channel, command, open};
use crate::live::Live;
use crate::net::dialer::{Dialer, Turn};
use crate::net::tls::TlsClient;
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

    /// If it is one by TLS, its next connection is made as by this.
    pub fn renew_tls(&self, newer: &TlsClient) {
        if let Some(tls) = &self.dialer.tls {
            tls.replace(newer);
        }
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
    #[expect(clippy::significant_drop_tightening, reason = "the turn is kept during the pause")]
    pub(super) async fn listen(&self, channel: &Channel) {
        let clock = &channel.orders.clock;
        let (mut attempt, mut is_told) = (0, false);
        loop {
            let begun = clock.now();
            let mut turn = None;
            let Err(error) = self.hear(channel, &mut turn).await;
            // One that ends as soon as it is there is no success: else it would be tried without
            // a pause.
            if self.set_heard(false, 0) && clock.now().since(begun) > PING_EVERY {
                (attempt, is_told) = (0, false);
            }
            if !is_told {
                tracing::warn!(
                    event = "invalidation_channel_down",
                    source = self.source,
                    channel = channel.wanted(&channel.batch().settings).join(", "),
                    upstream = %self.dialer.target,
                    error = %error,
                    "messages about what is to be forgotten are not heard"
                );
                is_told = true;
            }
            let pause = match &turn {
                _ if error.is::<Refused>() => REFUSED_PAUSE,
                Some(turn) => crate::net::backoff(turn.count_failure()),
                None => crate::net::backoff(attempt),
            };
            tokio::time::sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// One connection that listens, from its handshake to its end. While the main upstream is down
    /// it takes turns with all other links in trying it.
    async fn hear<'s>(
        &'s self,
        channel: &Channel,
        turn: &mut Option<Turn<'s>>,
    ) -> anyhow::Result<Infallible> {
        let entry = self.dialer.switch.entry().await;
        if let Some(live) = &self.live {
            *turn = live.turn().await;
        }
        let mut stream = open(&self.dialer, turn).await?;
        if let Some(live) = self.live.as_ref().filter(|_| turn.is_some()) {
            live.set_upstream_up(true);
        }
        drop(turn.take());
        let snapshots = &channel.orders.snapshots;
        let mut number = snapshots.newest().number;
        let (mut out, mut asked) = (BytesMut::new(), Asked::default());
        asked.change(channel.wanted(&snapshots.newest().settings), &mut out);
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
                    self.take(&mut input, &mut scan, &mut asked, channel)?;
                    // Who floods us must not keep this thread from everybody else.
                    tokio::task::yield_now().await;
                }
                snapshot = snapshots.newer(number) => {
                    number = snapshot.number;
                    if asked.change(channel.wanted(&snapshot.settings), &mut out) {
                        self.is_heard.store(false, Ordering::Relaxed);
                    }
                }
                () = entry.over() => anyhow::bail!("an operator has the links closed"),
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
    fn take(
        &self,
        input: &mut BytesMut,
        scan: &mut Scan,
        asked: &mut Asked,
        channel: &Channel,
    ) -> anyhow::Result<()> {
        let (mut batch, mut at) = (channel.batch(), 0);
        while let Some(length) = scan.next(input.get(at..).unwrap_or_default())? {
            let frame = input.get(at..at + length).unwrap_or_default();
            at += length;
            self.frame(frame, asked, channel, &mut batch)?;
        }
        input.advance(at);
        // It is not kept: whoever may PUBLISH could fill our memory with it.
        if input.len() > INPUT_MAX {
            channel.orders.block.add(Counter::MessagesMalformed, 1);
            anyhow::bail!("a message of more than {INPUT_MAX} bytes");
        }
        Ok(())
    }

    fn frame(
        &self,
        frame: &[u8],
        asked: &mut Asked,
        channel: &Channel,
        batch: &mut Batch,
    ) -> anyhow::Result<()> {
        let mut parts = reply::elements(frame);
        match parts.next().and_then(reply::bulk) {
            Some(b"pmessage") => {
                let mut rest = parts.skip(1).filter_map(reply::bulk);
                let said = rest.next().zip(rest.next()).context("a message without its text")?;
                channel.obey(said.0, said.1, batch);
            }
            Some(b"psubscribe" | b"punsubscribe") => {
                // The server says how many it has of ours.
                let count = parts.nth(1).and_then(reply::integer).unwrap_or(0);
                self.subscribed(usize::try_from(count).unwrap_or(0), asked);
            }
            // A PING that is refused is an answer, too.
            _ if frame.starts_with(b"-") && asked.unanswered > 0 => {
                let text = String::from_utf8_lossy(frame.get(1..).unwrap_or_default());
                return Err(Refused(text.trim_end().to_owned()).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// One of the subscriptions is acknowledged, and `patterns` are ours now.
    fn subscribed(&self, patterns: usize, asked: &mut Asked) {
        asked.unanswered = asked.unanswered.saturating_sub(1);
        let are_all = asked.unanswered == 0;
        if !self.set_heard(are_all, patterns) && are_all {
            tracing::info!(
                event = "invalidation_channel_up",
                source = self.source,
                channel = asked.names.join(", "),
                "listening"
            );
        }
    }
}

/// What the server was asked for.
#[derive(Debug, Default)]
struct Asked {
    names: Vec<String>,
    /// Names that it has not said anything of.
    unanswered: usize,
}

impl Asked {
    /// Asks for what is wanted and was not asked for, and out of what is not wanted any more; true
    /// if there is anything to ask.
    fn change(&mut self, wanted: Vec<String>, out: &mut BytesMut) -> bool {
        let new = wanted.iter().filter(|name| !self.names.contains(name));
        let gone = self.names.iter().filter(|name| !wanted.contains(name));
        for (word, names) in [("PSUBSCRIBE", new.collect()), ("PUNSUBSCRIBE", gone.collect())] {
            let names: Vec<&String> = names;
            let patterns: Vec<_> = names.iter().map(|name| pattern(name)).collect();
            let words = [word.as_bytes()].into_iter().chain(patterns.iter().map(Vec::as_slice));
            if !patterns.is_empty() {
                command(out, &words.collect::<Vec<_>>());
            }
            self.unanswered += patterns.len();
        }
        self.names = wanted;
        !out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, pattern};
    use bytes::BytesMut;

    #[test]
    fn the_pattern_is_the_name_wherever_it_can_be() {
        assert_eq!(pattern("system:cache-invalidation"), b"system:cache-invalidation");
        assert_eq!(pattern("a*b[c"), b"a\\*b\\[c");
    }

    #[test]
    fn what_is_wanted_anew_is_asked_for_and_the_rest_is_left() {
        let mut asked = Asked::default();
        let mut change = |names: &[&str]| {
            let mut out = BytesMut::new();
            asked.change(names.iter().map(|name| (*name).to_owned()).collect(), &mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            let words = text.split("\r\n").filter(|word| !word.starts_with(['*', '$']));
            (words.collect::<Vec<_>>().join(" ").trim().to_owned(), asked.unanswered)
        };
        assert_eq!(change(&["a", "b"]), ("PSUBSCRIBE a b".to_owned(), 2));
        assert_eq!(change(&["b", "c"]), ("PSUBSCRIBE c PUNSUBSCRIBE a".to_owned(), 4));
        assert_eq!(change(&["b", "c"]), (String::new(), 4));
    }
}
