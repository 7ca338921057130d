//! The channel on which applications and peers say what is to be forgotten
//! (`invalidation.channel`): what is heard there, at whichever server, is obeyed here.
//!
//! ```text
//!   upstream ══ subscription ──┐
//!   source   ══ subscription ──┼── obey ── orders          outbox ── speaker ══ upstream
//!   source   ══ subscription ──┘
//! ```
//!
//! It is beside tracking, which tells of every change of a key: it is for what no key's change
//! tells, and for rules of level `ttl`. While it is lost nothing that tracking guards is stale; its
//! state is in the metrics and in the log.

use crate::cache::Source;
use crate::config::invalidation::UPSTREAM;
use crate::config::{Invalidation, Settings};
use crate::control::invalidate::event;
use crate::control::invalidate::message::Message;
use crate::control::invalidate::orders::{Of, Order, Orders};
use crate::control::invalidate::subscription::Subscription;
use crate::live::Live;
use crate::net::dialer::Dialer;
use crate::net::stream::Stream;
use crate::stats::Counter;
use crate::wire::handshake::Options;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use foldhash::HashSet;
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What all connections have in common that listen.
pub struct Channel {
    /// `invalidation.channel`, at least one.
    names: Vec<String>,
    /// What this process calls itself there: its own messages come back, and are ignored.
    pub origin: String,
    /// Carries out what is heard.
    pub orders: Arc<Orders>,
    /// One at each server, the main upstream's first.
    subscriptions: Vec<Subscription>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What was said in one read: of orders that say the same, one is enough, because each is about
/// what was true before it was read. So a flood of the same order costs one.
#[derive(Debug)]
pub(super) struct Batch {
    given: HashSet<Order>,
    /// Those in force when it was read.
    pub(super) settings: Arc<Settings>,
}

impl Channel {
    /// On channels of these names, at least one.
    pub fn new(names: Vec<String>, origin: String, orders: Arc<Orders>) -> Self {
        Self { names, origin, orders, subscriptions: Vec::new() }
    }

    /// The main upstream is listened to. `live` is told of it: the server counts nearside's
    /// patterns among its clients'.
    #[must_use]
    pub fn at_upstream(mut self, dialer: &Arc<Dialer>, live: &Arc<Live>) -> Self {
        let live = Some(Arc::clone(live));
        self.subscriptions.push(Subscription::new(UPSTREAM, Arc::clone(dialer), live));
        self
    }

    /// And another server.
    #[must_use]
    pub fn at_source(mut self, name: &str, dialer: Dialer) -> Self {
        self.subscriptions.push(Subscription::new(name, Arc::new(dialer), None));
        self
    }

    /// The connections that listen.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// The channel that nearside itself speaks on.
    pub fn spoken(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// What is subscribed to under these settings.
    pub(super) fn wanted(&self, settings: &Settings) -> Vec<String> {
        let events = settings.invalidation.events.iter().map(|event| &event.channel);
        self.names.iter().chain(events).cloned().collect()
    }

    /// Listens, at all servers, for as long as the process lives.
    pub async fn listen(self: Arc<Self>) {
        let mut listening = JoinSet::new();
        for place in 0..self.subscriptions.len() {
            let me = Arc::clone(&self);
            listening.spawn_local(async move {
                if let Some(subscription) = me.subscriptions.get(place) {
                    subscription.listen(&me).await;
                }
            });
        }
        listening.join_all().await;
    }

    /// For what is read now.
    pub(super) fn batch(&self) -> Batch {
        let settings = Arc::clone(&self.orders.snapshots.newest().settings);
        Batch { given: HashSet::default(), settings }
    }

    /// Obeys what was said on `channel`, unless it is our own or this batch had the same.
    pub(super) fn obey(&self, channel: &[u8], payload: &[u8], batch: &mut Batch) {
        match self.order(channel, payload, &batch.settings) {
            Ok(Some(order)) => self.carry_out(order, batch),
            Ok(None) => {}
            Err(error) => {
                self.orders.block.add(Counter::MessagesMalformed, 1);
                tracing::warn!(
                    event = "invalidation_message_ignored",
                    channel = %channel.escape_ascii(),
                    error = %error,
                    "a message that means nothing"
                );
            }
        }
    }

    /// What a message orders, if it is not our own.
    fn order(
        &self,
        channel: &[u8],
        payload: &[u8],
        settings: &Settings,
    ) -> anyhow::Result<Option<Order>> {
        let Invalidation { groups, events, .. } = &settings.invalidation;
        if self.names.iter().any(|name| name.as_bytes() == channel) {
            let message = Message::read(payload, groups)?;
            return Ok((message.origin != self.origin).then_some(message.order));
        }
        // One that was unsubscribed from may still say something.
        let event = events.iter().find(|event| event.channel.as_bytes() == channel);
        Ok(event.map(|event| event::order(event, payload)).transpose()?)
    }

    fn carry_out(&self, order: Order, batch: &mut Batch) {
        self.orders.block.add(counter(&order), 1);
        if batch.given.contains(&order) {
            return;
        }
        self.orders.carry_out(&order, Source::Pubsub);
        // Keys cost no more to forget than to compare.
        if !matches!(order, Order::Keys(_)) {
            batch.given.insert(order);
        }
    }
}

/// A connection in RESP2, which every server speaks: messages are arrays.
pub(super) async fn open(dialer: &Dialer) -> anyhow::Result<Stream> {
    let options = Options {
        proto: Proto::Resp2,
        username: dialer.username(),
        password: dialer.password(),
        database: 0,
        name: Some(&dialer.name),
        tracking: None,
        asks_id: false,
    };
    Ok(dialer.open(&options).await?.stream)
}

pub(super) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

fn counter(order: &Order) -> Counter {
    match order {
        Order::Keys(_) => Counter::MessagesKey,
        Order::Namespace(_) => Counter::MessagesNamespace,
        Order::Pattern(_) => Counter::MessagesPattern,
        Order::Several(several) => match several.of {
            Of::Group => Counter::MessagesGroup,
            Of::Event => Counter::MessagesEvent,
        },
        Order::All => Counter::MessagesAll,
    }
}
