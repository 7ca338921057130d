//! What a link that one client has for itself holds of that client: a transaction, watched keys,
//! subscriptions, tracking. Kept here, beside the socket that it is true of, and changed when the
//! server has answered (WAIT makes a link sticky as soon as it is asked): a link goes back to the
//! idle ones when nothing of it is left.

use crate::command::Spec;
use crate::data::local::Edit;
use crate::data::registry::{Client, Mark};
use crate::data::upstream::ClientId;
use crate::units::clock::Tick;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A link of one client, or an idle one.
#[derive(Debug)]
pub struct Pin {
    /// Who has it; nobody while it is idle.
    pub client: Option<ClientId>,
    /// Who had it, has gone, and is listed until the server has closed this connection: only
    /// then is nothing more given to it.
    pub parted: Option<Arc<Client>>,
    /// The server's number for this connection; 0 before it is up or if it does not say.
    pub upstream_id: i64,
    /// Since when nobody has it.
    pub idle_since: Tick,
    /// From MULTI's `+OK` to the answer to EXEC or DISCARD.
    pub transaction: Option<Transaction>,
    /// Keys are watched.
    pub is_watching: bool,
    /// Channels subscribed to.
    pub channels: u32,
    /// Patterns subscribed to.
    pub patterns: u32,
    /// Shard channels subscribed to.
    pub shard_channels: u32,
    /// The server tracks keys for it.
    pub is_tracking: bool,
    /// It is sent what every client of the server asks.
    pub is_monitor: bool,
    /// Its client has asked WAIT, and may again: its writes and that must share a connection.
    pub is_sticky: bool,
    /// It has prepared field sets (HIMPORT).
    pub has_fieldsets: bool,
    /// Only for its present client: the server connects its number with what that client did.
    pub is_worn: bool,
    /// To be closed: nobody may use it any more.
    pub is_over: bool,
}

/// What was queued since MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The commands that the server has queued, in order.
    pub queued: Vec<Queued>,
    /// The keys they name.
    pub keys: Vec<u64>,
    /// One of them may change any key.
    pub clears: bool,
    /// One of them may change keys that it does not name: EXEC's reply waits for a barrier.
    pub is_opaque: bool,
}

impl Transaction {
    /// The commands among them that its client has queued.
    pub fn told(&self) -> usize {
        let is_theirs = |queued: &&Queued| !matches!(queued.place, Place::Nobodys);
        self.queued.iter().filter(is_theirs).count()
    }
}

/// A command inside a transaction.
#[derive(Debug)]
pub struct Queued {
    /// Its row.
    pub spec: &'static Spec,
    /// What becomes of its place in EXEC's reply.
    pub place: Place,
}

/// Who answers a command inside a transaction.
#[derive(Clone, Debug)]
pub enum Place {
    /// The server.
    Theirs,
    /// The server: a list of which the client wants only what this glob matches.
    Listed(Arc<[u8]>),
    /// The server, and its answer is edited.
    Edited(Arc<Edit>),
    /// The server, of what nearside asks for itself: its client is told nothing of it.
    Nobodys,
    /// nearside: this reply takes the place of the server's.
    Ours(Bytes),
    /// The server, and if it agrees the link is in this database.
    Database(u32),
}

impl Pin {
    /// What CLIENT LIST tells of its client.
    pub fn show(&self, client: &Client) {
        for (mark, is_set) in [
            (Mark::Monitor, self.is_monitor),
            (Mark::Subscriber, self.is_subscribed()),
            (Mark::Multi, self.transaction.is_some()),
            (Mark::Tracking, self.is_tracking),
        ] {
            client.mark(mark, is_set);
        }
        let queued = self.transaction.as_ref().map(Transaction::told);
        let queued = queued.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        let state = &client.state;
        state.queued.store(queued, Ordering::Relaxed);
        if !self.is_watching {
            state.watched.store(0, Ordering::Relaxed);
        }
        state.channels.store(self.channels, Ordering::Relaxed);
        state.patterns.store(self.patterns, Ordering::Relaxed);
        state.shard_channels.store(self.shard_channels, Ordering::Relaxed);
    }

    /// A link for `client`, or a spare one.
    pub const fn new(client: Option<ClientId>, now: Tick) -> Self {
        Self {
            client,
            parted: None,
            upstream_id: 0,
            idle_since: now,
            transaction: None,
            is_watching: false,
            channels: 0,
            patterns: 0,
            shard_channels: 0,
            is_tracking: false,
            is_monitor: false,
            is_sticky: false,
            has_fieldsets: false,
            is_worn: false,
            is_over: false,
        }
    }

    /// True if a connection in this state is as good as a fresh one (commands.md's return test;
    /// database and protocol are the link's).
    pub const fn is_clean(&self) -> bool {
        !(self.is_over
            || self.transaction.is_some()
            || self.is_watching
            || self.is_told()
            || self.is_sticky
            || self.has_fieldsets)
    }

    /// True while the server remembers keys of its client by their name.
    pub const fn holds_keys(&self) -> bool {
        self.transaction.is_some() || self.is_watching
    }

    /// True while the server may send what was not asked for.
    pub const fn is_told(&self) -> bool {
        self.is_subscribed() || self.is_monitor || self.is_tracking
    }

    /// True while it is subscribed to anything.
    pub const fn is_subscribed(&self) -> bool {
        self.channels > 0 || self.patterns > 0 || self.shard_channels > 0
    }
}
