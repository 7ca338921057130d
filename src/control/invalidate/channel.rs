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
use crate::control::invalidate::message::{self, Meaning, Said};
use crate::control::invalidate::orders::{Of, Order, Orders};
use crate::control::invalidate::signature::{Judge, Refused};
use crate::control::invalidate::subscription::Subscription;
use crate::control::reload::{Cause, Reloader};
use crate::live::Live;
use crate::net::dialer::{Dialer, Turn};
use crate::net::stream::Stream;
use crate::stats::Counter;
use crate::units::clock;
use crate::wire::handshake::Options;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use foldhash::HashSet;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
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
    /// Where messages must be signed.
    judge: Judge,
    /// The key version that was wanted last. Of a flood of them the last one counts.
    version: watch::Sender<String>,
}

/// Why a message is not obeyed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Message(#[from] message::Malformed),
    #[error(transparent)]
    Event(#[from] event::Malformed),
    #[error(transparent)]
    Refused(#[from] Refused),
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
    given: HashSet<(Order, bool)>,
    /// Those in force when it was read.
    pub(super) settings: Arc<Settings>,
}

impl Channel {
    /// On channels of these names, at least one.
    pub fn new(names: Vec<String>, origin: String, orders: Arc<Orders>) -> Self {
        Self {
            names,
            origin,
            orders,
            subscriptions: Vec::new(),
            judge: Judge::default(),
            version: watch::Sender::default(),
        }
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

    /// Switches to the key versions that messages want, for as long as the process lives: beside
    /// the listening, because a switch waits until all workers serve under it.
    pub fn switch_versions(&self, reloader: Arc<Reloader>) -> impl Future<Output = ()> + use<> {
        let (mut wanted, block) = (self.version.subscribe(), Arc::clone(&self.orders.block));
        async move {
            while wanted.changed().await.is_ok() {
                let version = wanted.borrow_and_update().clone();
                let switched = reloader.switch_version(&version, None, Cause::Pubsub).await;
                if let Err(refused) = switched {
                    block.add(Counter::RefusedVersion, 1);
                    tracing::warn!(
                        event = "invalidation_message_ignored",
                        error = %refused,
                        "a message wants a key version that cannot be"
                    );
                }
            }
        }
    }

    /// For what is read now.
    pub(super) fn batch(&self) -> Batch {
        let settings = Arc::clone(&self.orders.snapshots.newest().settings);
        Batch { given: HashSet::default(), settings }
    }

    /// Obeys what was said on `channel`, unless it is our own or this batch had the same.
    pub(super) fn obey(&self, channel: &[u8], payload: &[u8], batch: &mut Batch) {
        match self.order(channel, payload, &batch.settings) {
            Ok(Some((order, is_soft))) => self.carry_out(order, is_soft, batch),
            Ok(None) => {}
            Err(fault) => {
                self.orders.block.add(fault.counter(), 1);
                tracing::warn!(
                    event = "invalidation_message_ignored",
                    channel = %channel.escape_ascii(),
                    error = %fault,
                    "a message is not obeyed"
                );
            }
        }
    }

    /// What a message orders, and whether softly, if it is not our own.
    fn order(
        &self,
        channel: &[u8],
        payload: &[u8],
        settings: &Settings,
    ) -> Result<Option<(Order, bool)>, Fault> {
        let Invalidation { groups, events, .. } = &settings.invalidation;
        if self.names.iter().any(|name| name.as_bytes() == channel) {
            let said = Said::read(payload)?;
            let members = said.members();
            let origin = members.and_then(|members| members.get("origin")?.as_str());
            if origin == Some(&self.origin) {
                return Ok(None);
            }
            self.believe(members, settings)?;
            return match said.means(groups)? {
                Meaning::Order(order, is_soft) => Ok(Some((order, is_soft))),
                Meaning::Version(version) if settings.invalidation.secret.is_some() => {
                    self.orders.block.add(Counter::MessagesVersion, 1);
                    self.version.send_replace(version);
                    Ok(None)
                }
                Meaning::Version(_) => Err(Refused::Version.into()),
            };
        }
        // One that was unsubscribed from may still say something.
        let Some(event) = events.iter().find(|event| event.channel.as_bytes() == channel) else {
            return Ok(None);
        };
        let members = message::object(payload)?;
        if event.signed {
            self.believe(Some(&members), settings)?;
        }
        Ok(Some((event::order(event, &members)?, false)))
    }

    /// Whether who says it has the secret, if one is needed. Plain text has no members.
    fn believe(
        &self,
        members: Option<&Map<String, Value>>,
        settings: &Settings,
    ) -> Result<(), Refused> {
        let Invalidation { secret: Some(secret), max_skew, .. } = &settings.invalidation else {
            return Ok(());
        };
        let members = members.ok_or(Refused::Unsigned("hmac"))?;
        self.judge.judge(members, secret, *max_skew, clock::unix_millis())
    }

    fn carry_out(&self, order: Order, is_soft: bool, batch: &mut Batch) {
        self.orders.block.add(counter(&order), 1);
        let given = (order, is_soft);
        if batch.given.contains(&given) {
            return;
        }
        self.orders.carry_out(&given.0, Source::Pubsub, is_soft);
        // Keys cost no more to forget than to compare.
        if !matches!(given.0, Order::Keys(_)) {
            batch.given.insert(given);
        }
    }
}

/// A connection in RESP2, which every server speaks: messages are arrays.
pub(super) async fn open(dialer: &Dialer, turn: &mut Option<Turn<'_>>) -> anyhow::Result<Stream> {
    let options = Options {
        proto: Proto::Resp2,
        username: dialer.username(),
        password: dialer.password(),
        database: 0,
        name: Some(&dialer.name),
        tracking: None,
        asks_id: false,
    };
    Ok(dialer.open_in_turn(&options, turn).await?.stream)
}

pub(super) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

impl Fault {
    const fn counter(&self) -> Counter {
        match self {
            Self::Message(_) | Self::Event(_) => Counter::MessagesMalformed,
            Self::Refused(refused) => match refused {
                Refused::Unsigned(_) => Counter::RefusedUnsigned,
                Refused::Number | Refused::Signature => Counter::RefusedSignature,
                Refused::Stale => Counter::RefusedStale,
                Refused::Replayed => Counter::RefusedReplayed,
                Refused::Full => Counter::RefusedFull,
                Refused::Version => Counter::RefusedVersion,
            },
        }
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

#[cfg(test)]
mod tests {
    use super::Channel;
    use crate::cache::Cache;
    use crate::config::{Overrides, load};
    use crate::control::invalidate::history::History;
    use crate::control::invalidate::orders::Orders;
    use crate::control::office::Sweeper;
    use crate::snapshot::{Snapshot, Snapshots};
    use crate::stats::{Counter, Stats};
    use crate::units::clock::Clock;
    use std::sync::Arc;

    fn channel() -> Channel {
        let nothing = Overrides { file: Some("/dev/null".into()), ..Overrides::default() };
        let settings = load(&nothing).unwrap().settings;
        let cache = Arc::new(Cache::new(1 << 20, 4));
        let orders = Orders {
            sweeper: Sweeper::new(Arc::clone(&cache)),
            cache,
            clock: Clock::system(),
            block: Stats::new(0).new_block(),
            history: History::default(),
            snapshots: Arc::new(Snapshots::new(Snapshot::of(&settings), 0)),
        };
        Channel::new(vec!["c".to_owned()], "me".to_owned(), Arc::new(orders))
    }

    /// What is the same in one read is carried out once; what is not is bounded by the bans.
    #[test]
    fn a_flood_is_few_orders_and_fewer_bans() {
        let channel = channel();
        let counted = |counter| channel.orders.block.counter(counter);
        let mut batch = channel.batch();
        for _ in 0..100_000 {
            channel.obey(b"c", b"same:*", &mut batch);
            channel.obey(b"c", br#"{"op":"all"}"#, &mut batch);
        }
        assert_eq!(counted(Counter::MessagesPattern), 100_000);
        assert_eq!(counted(Counter::InvalidationsPubsub), 2);
        // In another read it may mean what has come since.
        channel.obey(b"c", b"same:*", &mut channel.batch());
        assert_eq!(counted(Counter::InvalidationsPubsub), 3);
        for number in 0..100_000 {
            channel.obey(b"c", format!("other:{number}:*").as_bytes(), &mut channel.batch());
            assert!(channel.orders.cache.figures().bans <= 1024);
        }
        assert_eq!(channel.orders.history.last(usize::MAX).len(), 1000);
    }

    #[test]
    fn our_own_messages_are_not_obeyed() {
        let channel = channel();
        let mut batch = channel.batch();
        channel.obey(b"c", br#"{"op":"all","origin":"me"}"#, &mut batch);
        channel.obey(b"other", b"*", &mut batch);
        assert_eq!(channel.orders.block.counter(Counter::InvalidationsPubsub), 0);
        channel.obey(b"c", br#"{"op":"all","origin":"you"}"#, &mut batch);
        assert_eq!(channel.orders.block.counter(Counter::InvalidationsPubsub), 1);
    }
}
