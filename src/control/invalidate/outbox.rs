//! What peers are told of what is invalidated here: orders in, messages on the main upstream's
//! channel out, one connection for all.
//!
//! Invariant: what waits is bounded. An order for which there is no room is said to be untold.

use crate::control::invalidate::channel::{command, open};
use crate::control::invalidate::message::{LENGTH_MAX, Message};
use crate::control::invalidate::orders::Order;
use crate::control::invalidate::signature;
use crate::net::dialer::Dialer;
use crate::net::stream::Stream;
use crate::net::switch::Entry;
use crate::snapshot::Snapshots;
use crate::stats::{Block, Counter};
use crate::units::clock;
use crate::wire::reply::Scan;
use anyhow::Context;
use bytes::BytesMut;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of keys in one message, as JSON.
const KEYS_ROOM: usize = LENGTH_MAX - 1024;

/// Messages that wait to be published.
const OUTBOX_MAX: usize = 1024;

/// Where orders are left that peers are to be told of.
#[derive(Clone, Debug)]
pub struct Outbox {
    origin: String,
    /// Where the secret is, if messages are signed.
    snapshots: Arc<Snapshots>,
    letters: Sender<String>,
}

impl Outbox {
    /// An outbox, and what comes out of it.
    pub fn new(origin: &str, snapshots: &Arc<Snapshots>) -> (Self, Receiver<String>) {
        let (letters, outbox) = channel(OUTBOX_MAX);
        let (origin, snapshots) = (origin.to_owned(), Arc::clone(snapshots));
        (Self { origin, snapshots, letters }, outbox)
    }

    /// Leaves an order for the peers, in as many messages as it needs; false if there is no room
    /// for all of them, or JSON cannot say it.
    pub fn tell(&self, order: &Order, is_soft: bool) -> bool {
        let tell = |order: Order| {
            let text = self.text(order, is_soft);
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

impl Outbox {
    fn text(&self, order: Order, is_soft: bool) -> Option<String> {
        let message = Message { order, is_soft, origin: self.origin.clone() };
        let mut members = message.members(clock::unix_millis())?;
        let snapshot = self.snapshots.newest();
        if !snapshot.settings.region.is_empty() {
            members.insert("region".to_owned(), snapshot.settings.region.clone().into());
        }
        if let Some(secret) = &snapshot.settings.invalidation.secret {
            signature::sign(secret, &mut members)?;
        }
        Some(Value::Object(members).to_string())
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

/// Publishes.
pub struct Speaker {
    /// The channel.
    pub channel: String,
    /// Opens the connection.
    pub dialer: Arc<Dialer>,
    /// Where messages are counted.
    pub block: Arc<Block>,
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Speaker {
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
            self.block.add(counter, 1);
            if let Err(error) = said {
                tracing::warn!(
                    event = "invalidation_not_published",
                    channel = self.channel,
                    error = %error,
                    "peers are not told what is to be forgotten"
                );
            }
        }
    }

    async fn publish(
        &self,
        stream: &mut Option<(Stream, Entry)>,
        text: &str,
    ) -> anyhow::Result<()> {
        let known = stream.take().filter(|(_, entry)| !entry.is_over());
        let (mut open, entry) = if let Some(known) = known {
            known
        } else {
            let entry = self.dialer.switch.follow();
            (open(&self.dialer, &mut None).await?, entry)
        };
        let mut bytes = BytesMut::new();
        command(&mut bytes, &[b"PUBLISH", self.channel.as_bytes(), text.as_bytes()]);
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
        *stream = Some((open, entry));
        anyhow::ensure!(!bytes.starts_with(b"-"), "{}", refused.trim_end());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, parts};
    use crate::config::Groups;
    use crate::config::{Overrides, load};
    use crate::control::invalidate::message::{Meaning, Said};
    use crate::control::invalidate::orders::Order;
    use crate::snapshot::{Snapshot, Snapshots};
    use std::sync::Arc;
    use tokio::sync::mpsc::Receiver;

    fn outbox() -> (Outbox, Receiver<String>) {
        let nothing = Overrides { file: Some("/dev/null".into()), ..Overrides::default() };
        let settings = load(&nothing).unwrap().settings;
        Outbox::new("me", &Arc::new(Snapshots::new(Snapshot::of(&settings), 0)))
    }

    #[test]
    fn many_keys_are_told_in_messages_that_peers_read() {
        let (outbox, mut letters) = outbox();
        let key = |n: usize| format!("\u{1}{n}:").into_bytes().repeat(1 + n % 7);
        let keys: Vec<Vec<u8>> = (0..10_000).map(key).collect();
        assert!(outbox.tell(&Order::Keys(keys.clone()), true));
        let mut told = Vec::new();
        while let Ok(text) = letters.try_recv() {
            let said = Said::read(text.as_bytes()).unwrap();
            let Ok(Meaning::Order(Order::Keys(keys), true)) = said.means(&Groups::new()) else {
                panic!("{text}")
            };
            told.extend(keys);
        }
        assert_eq!(told, keys);
        assert_eq!(parts(&[]).count(), 0);
        // One that is too long by itself is told all the same: peers say what they think of it.
        assert_eq!(parts(&[vec![b'a'; 1 << 20], vec![b'b']]).count(), 2);
    }

    #[test]
    fn an_outbox_that_is_full_says_so() {
        let (outbox, _letters) = outbox();
        let is_told = |_| outbox.tell(&Order::All, false);
        assert_eq!((0..2000).map(is_told).filter(|is_told| *is_told).count(), 1024);
    }
}
