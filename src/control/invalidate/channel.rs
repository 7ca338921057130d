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
use crate::control::invalidate::message::Message;
use crate::control::invalidate::orders::{Order, Orders};
use crate::keys::glob;
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

/// A message that goes on beyond this is not waited for: the connection is opened anew.
const INPUT_MAX: usize = 1 << 20;

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

    /// Leaves an order for the peers; false if there is no room, or JSON cannot say it.
    pub fn tell(&self, order: &Order) -> bool {
        let message = Message { order: order.clone(), origin: self.origin.clone() };
        let text = message.write(clock::unix_millis());
        text.is_some_and(|text| self.letters.try_send(text).is_ok())
    }
}

impl Channel {
    /// Listens for as long as the process lives.
    pub async fn listen(&self) {
        let (mut attempt, mut is_told) = (0, false);
        loop {
            let Err(error) = self.hear().await;
            if self.live.set_channel_heard(false) {
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
            tokio::time::sleep(crate::net::backoff(attempt)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// One connection that listens, from its handshake to its end.
    async fn hear(&self) -> anyhow::Result<Infallible> {
        let mut stream = self.open().await?;
        let mut out = BytesMut::new();
        let mut pattern = Vec::new();
        glob::escape(self.name.as_bytes(), &mut pattern);
        command(&mut out, &[b"PSUBSCRIBE", &pattern]);
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut input, mut scan) = (BytesMut::new(), Scan::default());
        let clock = &self.orders.clock;
        let mut heard_at = clock.now();
        loop {
            if !out.is_empty() {
                stream.write_all_buf(&mut out).await?;
                stream.flush().await?;
            }
            tokio::select! { biased;
                read = stream.read_buf(&mut input) => {
                    anyhow::ensure!(read? > 0, "the server closed the connection");
                    heard_at = clock.now();
                    self.take(&mut input, &mut scan)?;
                }
                _ = pings.tick() => {
                    let silence = clock.now().since(heard_at);
                    anyhow::ensure!(silence < SILENCE_MAX, "no answer for {silence:?}");
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
            _ if frame.starts_with(b"-") => {
                anyhow::bail!("{}", String::from_utf8_lossy(frame).trim_end());
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
