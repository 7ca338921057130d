//! What becomes of a command: answered here, asked of the cache, forwarded, or refused.
//!
//! The generator decides the [`Route`] of every row; a request and the [`Policy`] in force make it
//! a [`Disposition`]. A command whose keys cannot be rewritten is never forwarded under a prefix.

use crate::command::{Spec, all, keys, own, tenant};

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
    /// Nobody knows what it does: it may block, and may leave anything behind.
    Unknown,
}

impl Need {
    /// The reason, in a few words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Transaction => "a transaction belongs to its connection",
            Self::Block => "it may block its connection",
            Self::Aside => "it must not wait behind what keeps the server busy",
            Self::Wait => "it counts the writes of its connection",
            Self::Subscribe => "subscriptions belong to their connection",
            Self::Tracking => "tracking belongs to its connection",
            Self::Monitor => "its connection becomes a feed",
            Self::Fieldset => "what it prepares belongs to its connection",
            Self::Unknown => "what it does to its connection is not known",
        }
    }
}

/// What `[commands]` says: who may do what, beyond what upstream's own ACL decides.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// `profile = "hardened"`.
    pub hardened: bool,
    /// Rows that are forwarded although the table or the profile refuses them.
    pub allow: Vec<&'static Spec>,
    /// Rows that are refused.
    pub deny: Vec<&'static Spec>,
}

/// The settings in force, as far as they decide what becomes of a command. Made once at the start:
/// a request costs one look into a table of two bytes a row, as it would into the row itself.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Keys get a version prefix.
    pub prefixed: bool,
    /// Clients are kept to it.
    is_tenant: bool,
    /// By row index.
    routes: Box<[Route]>,
    /// Rows of [`CHANGING`] that only show, and why they do not change.
    showing: (Box<[u16]>, Refusal),
}

/// Refused by the profile `hardened` beside what every profile refuses: they stop or rewrite the
/// server, change who may use it, or act on everybody's data or connections at once.
pub const HARDENED: &[&str] = &[
    "acl|deluser",
    "acl|load",
    "acl|save",
    "acl|setuser",
    "bgrewriteaof",
    "bgsave",
    "client|kill",
    "client|pause",
    "client|unpause",
    "config|rewrite",
    "config|set",
    "flushall",
    "function|kill",
    "proxy|clear",
    "proxy|drain",
    "proxy|mode",
    "proxy|resume",
    "save",
    "script|kill",
    "swapdb",
];

/// Rows of nearside's own that show something and change it. When hardened, or in `tenant_mode`,
/// they only show.
pub const CHANGING: &[&str] = &["proxy|config", "proxy|version", "proxy|warm"];

impl Policy {
    /// The policy of these choices.
    pub fn new(prefixed: bool, choices: &Choices) -> Self {
        Self::made(prefixed, false, choices)
    }

    /// The same where clients are kept to the key prefix (`keys.tenant_mode`): what is not known to
    /// stay inside is refused, and what would let them change that.
    pub fn of_tenant(choices: &Choices) -> Self {
        Self::made(true, true, choices)
    }

    fn made(prefixed: bool, is_tenant: bool, choices: &Choices) -> Self {
        let is_in = |rows: &[&Spec], row: &Spec| rows.iter().any(|one| one.index == row.index);
        let route = |row: &Spec| match row.route {
            _ if is_in(&choices.deny, row) => Route::Refuse(Refusal::Denied),
            // Names keys in a grammar of its own, which nothing rewrites.
            Route::Refuse(Refusal::Dangerous) if is_in(&choices.allow, row) => match row.name {
                "debug" => Route::ForwardUnlessPrefixed,
                "proxy|shutdown" => Route::Local,
                _ => Route::Forward,
            },
            // What is refused anyway keeps its better reason.
            Route::Refuse(refusal) => Route::Refuse(refusal),
            _ if choices.hardened
                && HARDENED.contains(&row.name)
                && !is_in(&choices.allow, row) =>
            {
                Route::Refuse(Refusal::Hardened)
            }
            _ if is_tenant && tenant::refuses(row) && !is_in(&choices.allow, row) => {
                Route::Refuse(Refusal::Tenant)
            }
            route => route,
        };
        let only_shows = |row: &&Spec| {
            (choices.hardened || is_tenant)
                && CHANGING.contains(&row.name)
                && !is_in(&choices.allow, row)
        };
        let why = if choices.hardened { Refusal::Hardened } else { Refusal::Tenant };
        Self {
            prefixed,
            is_tenant,
            routes: all().iter().chain(own::all()).map(route).collect(),
            showing: (own::all().iter().filter(only_shows).map(|row| row.index).collect(), why),
        }
    }

    /// Why requests of this row may show something, and not change it; `None`: they may.
    pub fn only_shows(&self, spec: &Spec) -> Option<Refusal> {
        let (rows, why) = &self.showing;
        rows.contains(&spec.index).then_some(*why)
    }

    /// What becomes of a row's requests, but for what their arguments say.
    #[inline]
    pub fn route(&self, spec: &Spec) -> Route {
        // Rows learned from upstream are not in the table.
        self.routes.get(usize::from(spec.index)).copied().unwrap_or(spec.route)
    }
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
    /// The profile `hardened` refuses it.
    Hardened,
    /// Clients are kept to the key prefix, and it is not known to stay there.
    Tenant,
    /// There, too: which of its arguments are keys cannot be seen.
    Unread,
    /// `commands.deny` names it.
    Denied,
    /// Learned: it comes with a module, whose word is not trusted.
    Module,
    /// Learned: where its keys are is not told, or not in words that can be followed.
    KeysUntold,
    /// Learned: it may change its connection, or everybody's.
    Stranger,
}

impl Refusal {
    /// True if it is a question of permission, not of what nearside can do.
    pub fn is_permission(self) -> bool {
        matches!(self, Self::Dangerous | Self::Hardened | Self::Tenant | Self::Denied)
    }

    /// True if `commands.allow` lifts it.
    pub fn may_be_allowed(self) -> bool {
        matches!(self, Self::Dangerous | Self::Hardened | Self::Tenant)
    }

    /// The reason, as it ends the sentence of the error.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InTransaction => "it cannot be queued in a transaction",
            Self::SharedLink => "it would change a connection that clients share",
            Self::Dangerous => "it would put the server out of service for all clients",
            Self::Internal => "it is internal to servers, or obsolete",
            Self::Cluster => "This instance has cluster support disabled",
            Self::OtherVersions => "it would reach keys outside the key prefix",
            Self::Hardened => "commands.profile is \"hardened\"",
            Self::Tenant => "keys.tenant_mode keeps clients to the key prefix",
            Self::Unread => "which of its arguments are keys cannot be seen",
            Self::Denied => "commands.deny names it",
            Self::Module => "modules are not to be trusted on where their keys are",
            Self::KeysUntold => "upstream does not tell where its keys are",
            Self::Stranger => "what it does to connections that clients share is not known",
        }
    }
}

impl Spec {
    /// What to do with a request for this command.
    #[inline]
    pub fn disposition<'a>(
        &self,
        policy: &Policy,
        argc: usize,
        arg: impl Fn(usize) -> &'a [u8],
    ) -> Disposition {
        match policy.route(self) {
            Route::Local => Disposition::Local,
            Route::Cacheable => Disposition::Cacheable,
            Route::CacheableByKey if keys::asks_for_its_key_only(self, argc, &arg) => {
                Disposition::Cacheable
            }
            Route::Edited => Disposition::Edited,
            // It would go as it is, and a newer server may read it otherwise.
            Route::OwnIfBlocking if policy.is_tenant && !keys::tells_streams(argc, &arg) => {
                Disposition::Refuse(Refusal::Unread)
            }
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
