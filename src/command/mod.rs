//! What is known of each command: a static table of 601 rows, and the questions asked of it.
//!
//! ```text
//! name bytes --find--> Spec --route--> Local | Cacheable | Forward | Own | Script | Refuse
//!                       |--keys-----> which arguments take the version prefix
//!                       |--replies--> which parts of a reply lose it again (logs: of SLOWLOG's)
//!                       |--errors---> Redis' own words
//!                       `--answers--> of which types a reply can be
//! acl                   what the server's ACL knows of them, and what a user may
//! own                   nearside's own commands: the PROXY family
//! tenant                which of them keep to the key prefix
//! learned               rows for what the table does not have, of upstream's COMMAND
//! lua                   what a script calls, and with which keys
//! ```
//!
//! The table is generated from `tests/data/commands.tsv` by `tests/codegen.rs`, which also holds
//! the decisions (what is cached, what is refused) and fails when the two differ. On the way of a
//! request only error texts are allocated.

pub mod acl;
pub mod answers;
pub mod errors;
pub mod find;
pub mod keys;

pub mod learned;
pub mod logs;
pub mod lua;
pub mod own;
pub mod replies;
pub mod route;
mod table;
pub mod tenant;

pub use self::answers::Answers;
pub use find::{Unknown, by_name, find, find_sub, resolve, unknown};
pub use keys::KeySpec;
pub use replies::ReplyRule;
pub use route::{CHANGING, Choices, Disposition, HARDENED, Need, Policy, Refusal, Route};
pub use table::COUNT;

/// All rows. A container stands directly before its subcommands.
pub fn all() -> &'static [Spec] {
    &table::TABLE
}

/// A row by its index: of the table, or of nearside's own.
pub fn row(index: u16) -> Option<&'static Spec> {
    let index = usize::from(index);
    all().get(index).or_else(|| own::all().get(index.checked_sub(COUNT)?))
}

/// Stands for a command that nobody knows; it is counted behind all rows.
pub static UNKNOWN: Spec = Spec::new(u16::MAX, "", "", -1, 0, Class::Unsupported);

/// What kind of command it is, by what a proxy must do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// About the connection itself, or about commands.
    Local,
    /// A keyed read whose every change is announced by an invalidation.
    CacheableRead,
    /// Any other read.
    Read,
    /// A write of one key.
    Write,
    /// A write of several keys.
    MultiKeyWrite,
    /// May hold its connection until something happens.
    Blocking,
    /// Changes or needs the state of its connection.
    Pinned,
    /// Publishes or subscribes.
    PubSub,
    /// Runs or manages scripts and functions.
    Scripting,
    /// An operator's question.
    Admin,
    /// An operator's action.
    Dangerous,
    /// Replication, cluster internals, obsolete module commands.
    Unsupported,
}

/// The flags that the server gives a command, and one of our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// May change data.
    pub const WRITE: Self = Self(1);
    /// Reads data and changes none.
    pub const READONLY: Self = Self(1 << 1);
    /// Refused when the server is out of memory.
    pub const DENYOOM: Self = Self(1 << 2);
    /// An operator's command.
    pub const ADMIN: Self = Self(1 << 3);
    /// Publish and subscribe.
    pub const PUBSUB: Self = Self(1 << 4);
    /// Not from scripts.
    pub const NOSCRIPT: Self = Self(1 << 5);
    /// May block its connection.
    pub const BLOCKING: Self = Self(1 << 6);
    /// Allowed while the server loads its data.
    pub const LOADING: Self = Self(1 << 7);
    /// Allowed on a replica that lost its primary.
    pub const STALE: Self = Self(1 << 8);
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: Self = Self(1 << 9);
    /// Not shown by SLOWLOG and COMMANDLOG.
    pub const SKIP_COMMANDLOG: Self = Self(1 << 10);
    /// Accepted in a cluster while its slot is being imported.
    pub const ASKING: Self = Self(1 << 11);
    /// Constant or logarithmic time.
    pub const FAST: Self = Self(1 << 12);
    /// Needs no authentication.
    pub const NO_AUTH: Self = Self(1 << 13);
    /// The positions of its keys depend on its arguments.
    pub const MOVABLEKEYS: Self = Self(1 << 14);
    /// Not inside MULTI.
    pub const NO_MULTI: Self = Self(1 << 15);
    /// Allowed while a script keeps the server busy.
    pub const ALLOW_BUSY: Self = Self(1 << 16);
    /// Takes keys, and may be called with none.
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 17);
    /// Not during asynchronous loading.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 18);
    /// Comes with a module.
    pub const MODULE: Self = Self(1 << 19);
    /// Ours: its reply says nothing of the key's value.
    pub const VALUELESS: Self = Self(1 << 31);

    /// The set as bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set with the flags of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whether and how replies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheRule {
    /// Never kept.
    No,
    /// One entry, under the key at argument 1.
    Yes,
    /// As `Yes`; fields of the hash may expire on their own, which nobody may announce.
    HashField,
    /// Taken apart: one entry for each key (MGET, EXISTS).
    Multi,
}

/// How far the bytes of a reply depend on the protocol version. Claimed for cached commands only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyShape {
    /// The same in RESP2 and RESP3.
    Same,
    /// The same, except that absence is `$-1` or `_`. Of MGET: so is each element.
    SameButNull,
    /// Different, or not known to be the same.
    Differs,
}

/// One row: a command or a subcommand.
#[derive(Debug)]
pub struct Spec {
    /// In lower case; a subcommand as `client|setname`.
    pub name: &'static str,
    /// The server version that brought it.
    pub since: &'static str,
    /// The flags of the server.
    pub flags: Flags,
    /// Its place in [`all`], dense from 0, or in [`own`] behind that: for counters by command.
    pub index: u16,
    /// Number of arguments with the command itself; negative: at least so many.
    pub arity: i8,
    /// What kind of command it is.
    pub class: Class,
    /// Which arguments are keys.
    pub keys: KeySpec,
    /// Where its reply names keys.
    pub reply: ReplyRule,
    /// Whether its reply is kept.
    pub cache: CacheRule,
    /// Whether RESP2 and RESP3 clients may share a kept reply.
    pub shape: ReplyShape,
    /// Of which types its reply can be.
    pub answers: Answers,
    /// What is done with it; ask [`Spec::disposition`].
    pub route: Route,
    /// How many subcommands follow it; 0 for all but containers.
    pub subcommands: u8,
}

impl Spec {
    /// True if `argc` arguments, with the command (a subcommand: with its container), are legal.
    #[inline]
    pub fn accepts(&self, argc: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { argc >= least } else { argc == least }
    }

    /// True if its replies are kept.
    #[inline]
    pub fn cacheable(&self) -> bool {
        self.cache != CacheRule::No
    }

    /// True if it may change data. Scripts and functions that are not read-only may.
    #[inline]
    pub fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
            || (self.keys != KeySpec::None
                && self.class == Class::Scripting
                && !self.flags.has(Flags::READONLY))
    }

    /// True if it may change data that none of its arguments names (FLUSHALL, SWAPDB; DEBUG,
    /// where it is allowed). Functions are no data.
    #[inline]
    pub fn writes_everything(&self) -> bool {
        self.keys == KeySpec::None
            && (self.writes() || self.route == Route::Refuse(Refusal::Dangerous))
            && !self.name.starts_with("function|")
    }

    /// True if its reply tells nothing that a cached one tells too, so that it need not invalidate
    /// its keys (rule R4): OBJECT, MEMORY, and whatever names no key. TTL is none of them: who has
    /// seen a new one may not get an older EXPIRETIME.
    #[inline]
    pub fn carries_no_value(&self) -> bool {
        self.flags.has(Flags::VALUELESS) || self.keys == KeySpec::None
    }

    /// The subcommands of a container; nothing for any other command.
    pub fn subs(&self) -> &'static [Self] {
        let index = usize::from(self.index);
        let (rows, first) = match index.checked_sub(COUNT) {
            None => (all(), index + 1),
            Some(at) => (own::all(), at + 1),
        };
        rows.get(first..first + usize::from(self.subcommands)).unwrap_or_default()
    }

    /// Its own last word: `setname` of `client|setname`, `get` of `get`.
    pub fn word(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, word)| word)
    }
}

/// How the generated table writes a row: what stays unsaid has no keys, is neither cached nor
/// stripped, and is forwarded.
impl Spec {
    const fn new(
        index: u16,
        name: &'static str,
        since: &'static str,
        arity: i8,
        flags: u32,
        class: Class,
    ) -> Self {
        Self {
            name,
            since,
            flags: Flags(flags),
            index,
            arity,
            class,
            keys: KeySpec::None,
            reply: ReplyRule::AsIs,
            cache: CacheRule::No,
            shape: ReplyShape::Differs,
            answers: Answers::ANY,
            route: Route::Forward,
            subcommands: 0,
        }
    }

    const fn key(self, at: u8) -> Self {
        self.keys(KeySpec::One(at))
    }

    const fn keys(mut self, keys: KeySpec) -> Self {
        self.keys = keys;
        self
    }

    const fn range(self, first: u8, last: i8, step: u8) -> Self {
        self.keys(KeySpec::Range { first, last, step })
    }

    const fn counted(self, count: u8, step: u8) -> Self {
        self.keys(KeySpec::Counted { count, step })
    }

    const fn reply(mut self, rule: ReplyRule) -> Self {
        self.reply = rule;
        self
    }

    const fn cached(mut self, rule: CacheRule, shape: ReplyShape) -> Self {
        self.cache = rule;
        self.shape = shape;
        self.route(Route::Cacheable)
    }

    const fn answers(mut self, types: &[u8]) -> Self {
        self.answers = Answers::of(types);
        self
    }

    const fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    const fn own(self, need: Need) -> Self {
        self.route(Route::Own(need))
    }

    const fn refuse(self, refusal: Refusal) -> Self {
        self.route(Route::Refuse(refusal))
    }

    const fn container(mut self, subcommands: u8) -> Self {
        self.subcommands = subcommands;
        self
    }
}

#[cfg(test)]
mod tests;
