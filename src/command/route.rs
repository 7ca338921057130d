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
    /// Forwarded on the shared connection.
    Forward,
    /// Forwarded, or on a connection of its own if its arguments say BLOCK.
    OwnIfBlocking,
    /// Needs a connection of its own.
    Own(Need),
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
    /// Forward it on a connection of its own.
    Own(Need),
    /// Answer an error; see [`refused`](crate::command::errors::refused).
    Refuse(Refusal),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It cannot be queued in a transaction.
    InTransaction,
    /// A script or function.
    Script,
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
    /// True if a later version of nearside is to support it.
    pub fn is_for_now(self) -> bool {
        matches!(self, Self::Script)
    }

    /// The reason, as it ends the sentence of the error.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InTransaction => "it cannot be queued in a transaction",
            Self::Script => "scripts may use keys that they do not name",
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
            Route::OwnIfBlocking if keys::streams_block(argc, arg) => Disposition::Own(Need::Block),
            Route::Own(need) => Disposition::Own(need),
            Route::ForwardUnlessPrefixed if policy.prefixed => {
                Disposition::Refuse(Refusal::OtherVersions)
            }
            Route::Forward | Route::OwnIfBlocking | Route::ForwardUnlessPrefixed => {
                Disposition::Forward
            }
            Route::Refuse(refusal) => Disposition::Refuse(refusal),
        }
    }
}
