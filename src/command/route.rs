//! What becomes of a command: answered here, asked of the cache, forwarded, or refused.
//!
//! The generator decides the [`Route`] of every row; a request and the [`Policy`] in force make it
//! a [`Disposition`]. A command whose keys cannot be rewritten is never forwarded under a prefix.

use crate::command::{Spec, keys};

/// What the table says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// Answered by the proxy.
    Local,
    /// Asked of the cache, forwarded on a miss.
    Cacheable,
    /// As `Cacheable`, if its arguments ask for nothing beyond its key; else forwarded.
    CacheableByKey,
    /// Forwarded on the shared connection.
    Forward,
    /// Forwarded, and the answer edited: it tells of nearside as well (INFO, CONFIG).
    Edited,
    /// Forwarded, or on a connection of its own if its arguments say BLOCK.
    OwnIfBlocking,
    /// Needs a connection of its own.
    Own(Need),
    /// A script or function, or what loads and flushes them: forwarded, if it may run.
    Script,
    /// Forwarded, unless keys have a prefix: it names keys, or touches them, where they cannot be
    /// rewritten.
    ForwardUnlessPrefixed,
    /// Refused.
    Refuse(Refusal),
}

/// Why a command needs a connection that only its client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// MULTI, WATCH and what ends them.
    Transaction,
    /// It may block.
    Block,
    /// It must not wait behind what keeps the server busy.
    Aside,
    /// WAIT, WAITAOF: of the connection that wrote.
    Wait,
    /// SUBSCRIBE and its family.
    Subscribe,
    /// CLIENT TRACKING and what belongs to it.
    Tracking,
    /// MONITOR.
    Monitor,
    /// HIMPORT: what it prepares belongs to the connection.
    Fieldset,
}

/// What configuration says that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Keys get a version prefix.
    pub prefixed: bool,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Answer it here.
    Local,
    /// Ask the cache; a miss is forwarded.
    Cacheable,
    /// Forward it on the shared connection.
    Forward,
    /// Forward what of it is upstream's, and edit the answer.
    Edited,
    /// Forward it on a connection of its own.
    Own(Need),
    /// Ask the scripts' room if it may run.
    Script,
    /// Answer an error; see [`refused`](crate::command::errors::refused).
    Refuse(Refusal),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It cannot be queued in a transaction.
    InTransaction,
    /// It would change, or end, a connection that several clients share.
    SharedLink,
    /// It would stop the server, turn it into a replica, or plant keys elsewhere.
    Dangerous,
    /// It is for servers among themselves, or obsolete.
    Internal,
    /// A standalone server has no cluster.
    Cluster,
    /// It would show or change keys of other versions.
    OtherVersions,
}

impl Refusal {
    /// The reason, as it ends the sentence of the error.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InTransaction => "it cannot be queued in a transaction",
            Self::SharedLink => "it would change a connection that clients share",
            Self::Dangerous => "it would put the server out of service for all clients",
            Self::Internal => "it is internal to servers, or obsolete",
            Self::Cluster => "This instance has cluster support disabled",
            Self::OtherVersions => "it would reach keys outside the key prefix",
        }
    }
}

impl Spec {
    /// What to do with a request for this command.
    #[inline]
    pub fn disposition<'a>(
        &self,
        policy: Policy,
        argc: usize,
        arg: impl Fn(usize) -> &'a [u8],
    ) -> Disposition {
        match self.route {
            Route::Local => Disposition::Local,
            Route::Cacheable => Disposition::Cacheable,
            Route::CacheableByKey if keys::asks_for_its_key_only(self, argc, &arg) => {
                Disposition::Cacheable
            }
            Route::Edited => Disposition::Edited,
            Route::OwnIfBlocking if keys::streams_block(argc, arg) => Disposition::Own(Need::Block),
            Route::Own(need) => Disposition::Own(need),
            Route::Script => Disposition::Script,
            Route::ForwardUnlessPrefixed if policy.prefixed => {
                Disposition::Refuse(Refusal::OtherVersions)
            }
            Route::Forward
            | Route::CacheableByKey
            | Route::OwnIfBlocking
            | Route::ForwardUnlessPrefixed => Disposition::Forward,
            Route::Refuse(refusal) => Disposition::Refuse(refusal),
        }
    }
}
