//! The channel on which applications and peers say what is to be forgotten
//! (`invalidation.channel`): heard on one connection, spoken on another.
//!
//! It is beside tracking, which tells of every change of a key: it is for what no key's change
//! tells, and for rules of level `ttl`. While it is lost nothing that tracking guards is stale; its
//! state is in the metrics and in the log.
//!
//! The subscription is to a pattern without a star: PUBSUB CHANNELS and NUMSUB are then as if
//! nearside were not there, and NUMPAT's answer is corrected by one (`data/local`).

use crate::cache::Source;
use crate::control::invalidate::message::{LENGTH_MAX, Message};
use crate::control::invalidate::orders::{Order, Orders};
use crate::live::Live;
use crate::net::dialer::Dialer;
use crate::net::stream::Stream;
use crate::stats::Counter;
use crate::units::clock;
use crate::wire::handshake::Options;
use crate::wire::reply::{self, Scan};
use crate::wire::write::{self, Proto};
use anyhow::Context;
use bytes::{Buf, BytesMut};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How often the server is asked whether it is there, and the silence after which it is not.
const PING_EVERY: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Pause before a subscription is asked for again that the server refuses.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A message that goes on beyond this is not waited for: the connection is opened anew.
const INPUT_MAX: usize = 1 << 20;

/// Bytes of keys in one message, as JSON.
const KEYS_ROOM: usize = LENGTH_MAX - 1024;

/// Messages that wait to be published.
const OUTBOX_MAX: usize = 1024;

/// The channel's settings and state.
pub struct Channel {
    /// `invalidation.channel`.
    pub name: String,
    /// What this process calls itself there: its own messages come back, and are ignored.
    pub origin: String,
    /// Opens both connections.
    pub dialer: Arc<Dialer>,
    /// Carries out what is heard.
    pub orders: Arc<Orders>,
    /// Is told whether messages are heard.
    pub live: Arc<Live>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).finish_non_exhaustive()
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

/// Where orders are left that peers are to be told of.
#[derive(Clone, Debug)]
pub struct Outbox {
    origin: String,
    letters: Sender<String>,
}

impl Outbox {
    /// An outbox, and what comes out of it.
    pub fn new(origin: &str) -> (Self, Receiver<String>) {
        let (letters, outbox) = channel(OUTBOX_MAX);
        (Self { origin: origin.to_owned(), letters }, outbox)
    }

    /// Leaves an order for the peers, in as many messages as it needs; false if there is no room
    /// for all of them, or JSON cannot say it.
    pub fn tell(&self, order: &Order) -> bool {
        let now = clock::unix_millis();
        let tell = |order: Order| {
            let text = Message { order, origin: self.origin.clone() }.write(now);
            text.is_some_and(|text| self.letters.try_send(text).is_ok())
        };
        match order {
            Order::Keys(keys) => {
                parts(keys).map(|keys| tell(Order::Keys(keys.to_vec()))).fold(true, |a, b| a & b)
            }
            order => tell(order.clone()),
        }
    }
}

/// Keys in runs, each of which fits into a message: JSON makes six bytes of one at most.
fn parts(keys: &[Vec<u8>]) -> impl Iterator<Item = &[Vec<u8>]> {
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut room = KEYS_ROOM;
        let fits = |key: &&Vec<u8>| {
            let (left, is_enough) = room.overflowing_sub(key.len() * 6 + 3);
            room = left;
            !is_enough
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (part, left) = rest.split_at_checked(count)?;
        rest = left;
        (!part.is_empty()).then_some(part)
    })
}

impl Channel {
    /// Listens for as long as the process lives.
    pub async fn listen(&self) {
        let (mut attempt, mut is_told) = (0, false);
        loop {
            let begun = self.orders.clock.now();
            let Err(error) = self.hear().await;
            // One that ends as soon as it is there is no success: else it would be tried without
            // a pause.
            if self.live.set_channel_heard(false)
                && self.orders.clock.now().since(begun) > PING_EVERY
            {
                (attempt, is_told) = (0, false);
            }
            if !is_told {
                tracing::warn!(
                    event = "invalidation_channel_down",
                    channel = self.name,
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
    async fn hear(&self) -> anyhow::Result<Infallible> {
        let mut stream = self.open().await?;
        let mut out = BytesMut::new();
        command(&mut out, &[b"PSUBSCRIBE", &pattern(&self.name)]);
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut input, mut scan) = (BytesMut::with_capacity(64 * 1024), Scan::default());
        let clock = &self.orders.clock;
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
                    self.take(&mut input, &mut scan)?;
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

    /// RESP2, which every server speaks: messages are arrays.
    async fn open(&self) -> anyhow::Result<Stream> {
        let options = Options {
            proto: Proto::Resp2,
            username: self.dialer.username(),
            password: self.dialer.password(),
            database: 0,
            name: Some(&self.dialer.name),
            tracking: None,
            asks_id: false,
        };
        Ok(self.dialer.open(&options).await?.stream)
    }

    /// Obeys what has been read. Of orders that say the same in one read, one is enough: each is
    /// about what was true before it was read.
    fn take(&self, input: &mut BytesMut, scan: &mut Scan) -> anyhow::Result<()> {
        let mut given: Vec<Order> = Vec::new();
        let mut at = 0;
        while let Some(length) = scan.next(input.get(at..).unwrap_or_default())? {
            let frame = input.get(at..at + length).unwrap_or_default();
            at += length;
            let Some(order) = self.order(frame)? else {
                continue;
            };
            if given.contains(&order) {
                continue;
            }
            self.orders.carry_out(&order, Source::Pubsub);
            if !matches!(order, Order::Keys(_)) {
                given.push(order);
            }
        }
        input.advance(at);
        // It is not kept: whoever may PUBLISH could fill our memory with it.
        if input.len() > INPUT_MAX {
            self.orders.block.add(Counter::MessagesMalformed, 1);
            anyhow::bail!("a message of more than {INPUT_MAX} bytes");
        }
        Ok(())
    }

    /// The order in a frame, if it is one and not our own.
    fn order(&self, frame: &[u8]) -> anyhow::Result<Option<Order>> {
        let mut parts = reply::elements(frame).filter_map(reply::bulk);
        match parts.next() {
            Some(b"pmessage") => {}
            Some(b"psubscribe") => {
                self.live.set_channel_heard(true);
                tracing::info!(event = "invalidation_channel_up", channel = self.name, "listening");
                return Ok(None);
            }
            // A PING that is refused is an answer, too.
            _ if frame.starts_with(b"-") && !self.live.is_channel_heard() => {
                let text = String::from_utf8_lossy(frame.get(1..).unwrap_or_default());
                return Err(Refused(text.trim_end().to_owned()).into());
            }
            _ => return Ok(None),
        }
        let payload = parts.nth(2).context("a message without its text")?;
        let block = &self.orders.block;
        match Message::read(payload) {
            Ok(message) if message.origin == self.origin => Ok(None),
            Ok(message) => {
                block.add(counter(&message.order), 1);
                Ok(Some(message.order))
            }
            Err(malformed) => {
                block.add(Counter::MessagesMalformed, 1);
                tracing::debug!(error = %malformed, "a message that is no order");
                Ok(None)
            }
        }
    }

    /// Publishes what is left in `outbox`, for as long as the process lives.
    pub async fn speak(&self, mut outbox: Receiver<String>) {
        let mut stream = None;
        while let Some(text) = outbox.recv().await {
            // A connection that has been idle may be over: then once more on a new one. A peer
            // that hears an order twice has lost nothing.
            let mut said = self.publish(&mut stream, &text).await;
            if said.is_err() {
                said = self.publish(&mut stream, &text).await;
            }
            let counter = if said.is_ok() { Counter::PublishedOk } else { Counter::PublishedError };
            self.orders.block.add(counter, 1);
            if let Err(error) = said {
                tracing::warn!(
                    event = "invalidation_not_published",
                    channel = self.name,
                    error = %error,
                    "peers are not told what is to be forgotten"
                );
            }
        }
    }

    async fn publish(&self, stream: &mut Option<Stream>, text: &str) -> anyhow::Result<()> {
        let mut open = match stream.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let mut bytes = BytesMut::new();
        command(&mut bytes, &[b"PUBLISH", self.name.as_bytes(), text.as_bytes()]);
        let speaking = async {
            open.write_all_buf(&mut bytes).await?;
            open.flush().await?;
            let mut scan = Scan::default();
            while scan.next(&bytes)?.is_none() {
                anyhow::ensure!(open.read_buf(&mut bytes).await? > 0, "the server hung up");
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(self.dialer.timeout, speaking).await.context("no answer")??;
        let refused = String::from_utf8_lossy(&bytes);
        // A refusal is for good, the connection is not.
        *stream = Some(open);
        anyhow::ensure!(!bytes.starts_with(b"-"), "{}", refused.trim_end());
        Ok(())
    }
}

fn counter(order: &Order) -> Counter {
    match order {
        Order::Keys(_) => Counter::MessagesKey,
        Order::Namespace(_) => Counter::MessagesNamespace,
        Order::Pattern(_) => Counter::MessagesPattern,
        Order::All => Counter::MessagesAll,
    }
}

fn command(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, parts, pattern};
    use crate::control::invalidate::message::Message;
    use crate::control::invalidate::orders::Order;

    #[test]
    fn many_keys_are_told_in_messages_that_peers_read() {
        let (outbox, mut letters) = Outbox::new("me");
        let key = |n: usize| format!("\u{1}{n}:").into_bytes().repeat(1 + n % 7);
        let keys: Vec<Vec<u8>> = (0..10_000).map(key).collect();
        assert!(outbox.tell(&Order::Keys(keys.clone())));
        let mut told = Vec::new();
        while let Ok(text) = letters.try_recv() {
            let message = Message::read(text.as_bytes()).unwrap();
            let Order::Keys(keys) = message.order else { panic!("{message:?}") };
            told.extend(keys);
        }
        assert_eq!(told, keys);
        assert_eq!(parts(&[]).count(), 0);
        // One that is too long by itself is told all the same: peers say what they think of it.
        assert_eq!(parts(&[vec![b'a'; 1 << 20], vec![b'b']]).count(), 2);
    }

    #[test]
    fn an_outbox_that_is_full_says_so() {
        let (outbox, _letters) = Outbox::new("me");
        let is_told = |_| outbox.tell(&Order::All);
        assert_eq!((0..2000).map(is_told).filter(|is_told| *is_told).count(), 1024);
    }

    #[test]
    fn the_pattern_is_the_name_wherever_it_can_be() {
        assert_eq!(pattern("system:cache-invalidation"), b"system:cache-invalidation");
        assert_eq!(pattern("a*b[c"), b"a\\*b\\[c");
    }
}
