//! Configuration in two types: [`written::Written`], exactly what the file says, and [`Settings`],
//! checked and filled in, which the rest of the house uses.
//!
//! ```text
//!   defaults < file < environment (NEARSIDE_CACHE__TTL) < --set and flags
//!        load: text -> Written            check: Written -> Settings, all faults in one pass
//! ```

mod admin;
mod auth;
mod cgroup;
mod check;
mod commands;
mod fallback;
mod hot_keys;
pub mod invalidation;
pub mod key;
mod load;
mod metrics;
mod naming;
mod place;
pub mod reference;
mod reload;
mod runtime;
mod server;
mod shown;
mod table;
mod tls;
mod values;
mod warming;
mod words;
mod write_behind;
pub mod written;

pub use self::load::Merged;
pub use self::reload::{ADMIN_CERTIFICATES, CERTIFICATES, Reloaded};
pub use self::runtime::{NotSet, settable};
pub use self::words::{
    Ack, Admission, AuthMode, ClientAuth, FallbackReads, FallbackWrites, Level, LogFormat, LogKeys,
    Mode, MultiKey, OnDown, OnRecovery, Profile, Role, ScriptPolicy, ShowKeys, TrackingMode,
    Verify, VersionSource,
};
pub use load::{
    ConfigError, Fault, Loaded, Origin, Overrides, Source, load, load_instead, load_text,
};
pub use shown::{MASK, Shown};

use crate::command::acl::Rights;
use crate::command::learned::Strangers;
use crate::command::{Choices, KeySpec, Policy, Spec};
use crate::keys::Names;
use crate::keys::bounds::KeyBounds;
use crate::keys::template::Template;
use crate::net::address::Address;
use crate::net::target::{Password, Target};
use crate::net::tls::{TlsClient, TlsOptions, TlsServer};
use crate::stats::Named;
use crate::stats::histogram::Bounds;
use crate::units::cron::Cron;
use crate::units::rate::Rate;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The configuration as used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `mode`.
    pub mode: Mode,
    /// `instance`: the name in upstream's CLIENT LIST.
    pub instance: String,
    /// `region`: empty = none.
    pub region: String,
    /// `[server]`.
    pub server: Server,
    /// `[auth]`.
    pub auth: Auth,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// How keys are named upstream, by `[keys]` and `rules.version`.
    pub names: Names,
    /// `keys.prefix`.
    pub key_prefix: String,
    /// `keys.separator`.
    pub separator: String,
    /// `keys.version`.
    pub version: String,
    /// `keys.version_key`: where a fleet's version stands upstream, if it shares one.
    pub version_key: Option<String>,
    /// `keys.exclude`: globs of keys that are never rewritten.
    pub exclude: Vec<String>,
    /// `keys.tenant_mode`: clients are kept to the key prefix.
    pub tenant_mode: bool,
    /// `[cache]`.
    pub cache: Cache,
    /// `[[rules]]`, in order; what they do not say is filled in.
    pub rules: Vec<Rule>,
    /// What applies where no rule matches.
    pub default_rule: Rule,
    /// `invalidation.tracking`.
    pub tracking: TrackingMode,
    /// `[invalidation]`, but for tracking.
    pub invalidation: Invalidation,
    /// `[commands]`.
    pub commands: Commands,
    /// `[scripts]`.
    pub scripts: Scripts,
    /// `[hotkeys]`.
    pub hot_keys: HotKeys,
    /// `[admin]`.
    pub admin: Admin,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
    /// `drain.delay`: not ready, but still accepting.
    pub drain_delay: Duration,
    /// `drain.timeout`: then clients are cut off.
    pub drain_timeout: Duration,
    /// `[warming]`.
    pub warming: Warming,
    /// `[fallback]`.
    pub fallback: Fallback,
    /// `[write_behind]`.
    pub write_behind: WriteBehind,
    /// Each key's value in force, as it would be written, in the order of the file.
    pub values: Vec<Shown>,
    /// What all this was made of.
    pub merged: Merged,
}

impl Settings {
    /// What becomes of each command under these settings.
    pub fn policy(&self) -> Policy {
        let choices = &self.commands.choices;
        if self.tenant_mode {
            Policy::of_tenant(choices)
        } else {
            Policy::new(!self.names.is_empty(), choices)
        }
    }

    /// True if `cache.commands` lets replies of this row be cached.
    pub fn caches(&self, row: &Spec) -> bool {
        let listed = self.cache.commands.as_ref();
        row.cacheable() && listed.is_none_or(|names| names.iter().any(|name| name == row.name))
    }
}

/// `[invalidation]`, but for tracking.
#[derive(Clone, Debug)]
pub struct Invalidation {
    /// `channel`: where it is said what is to be forgotten; none = nobody listens. What is said
    /// here is said on the first.
    pub channels: Vec<String>,
    /// `publish`: peers are told on the channel of what is invalidated here.
    pub publish: bool,
    /// `written_canary`: the tracking link must hear of a key that nearside writes.
    pub written_canary: bool,
    /// `sources`: other servers where the same is listened to.
    pub sources: Vec<InvalidationSource>,
    /// `groups`.
    pub groups: Groups,
    /// `events`.
    pub events: Vec<InvalidationEvent>,
    /// What `secret_file` has; then messages must be signed with it.
    pub secret: Option<Password>,
    /// `max_skew`: how far the time of a signed message may be from the time here.
    pub max_skew: Duration,
    /// `max_bans`: namespaces and patterns that entries are held against, at most.
    pub max_bans: usize,
}

/// One of `[[invalidation.events]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidationEvent {
    /// Where it is published.
    pub channel: String,
    /// What is forgotten then.
    pub patterns: Vec<Template>,
    /// Whether it must be signed.
    pub signed: bool,
}

/// `invalidation.groups`: names, and the patterns of each.
pub type Groups = BTreeMap<String, Vec<String>>;

/// One of `[[invalidation.sources]]`.
#[derive(Clone, Debug)]
pub struct InvalidationSource {
    /// What it is called in metrics and logs.
    pub name: String,
    /// Where it is and how to log in.
    pub target: Target,
}

/// `[commands]`.
#[derive(Clone, Debug)]
pub struct Commands {
    /// What is refused beside the lists.
    pub profile: Profile,
    /// The profile and the lists, as rows.
    pub choices: Choices,
    /// What becomes of commands that the table does not have.
    pub unknown: Strangers,
    /// Where the keys of such commands stand: names in lower case.
    pub specs: Vec<(String, KeySpec)>,
}

/// `[auth]`.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Who judges what clients log in with.
    pub mode: AuthMode,
    /// The default user's password, of mode `static`.
    pub password: Option<Password>,
    /// How long upstream's word on credentials holds.
    pub cache_ttl: Duration,
    /// How often upstream is asked for its users' rights.
    pub acl_poll: Duration,
    /// Longest life of an entry where it may not be asked for them.
    pub acl_proof_ttl: Duration,
    /// Failed logins of one address in a minute; 0 = as many as there are.
    pub failures_max: u32,
    /// Identities at most.
    pub identities_max: usize,
    /// Users whose role or rights are said here.
    pub users: Vec<User>,
}

/// One of `[[auth.users]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// SHA-256 of each of its passwords; of mode `static`.
    pub passwords: Vec<[u8; 32]>,
    /// Whether it may act on nearside itself and on other clients.
    pub role: Role,
    /// What it may; `None`: everything.
    pub rights: Option<Arc<Rights>>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where clients come in.
    pub listen: Vec<Address>,
    /// Worker threads.
    pub workers: usize,
    /// Clients at most.
    pub max_clients: usize,
    /// Silence after which a client is closed; zero = never.
    pub idle_timeout: Duration,
    /// TCP keepalive; zero = off.
    pub tcp_keepalive: Duration,
    /// Connections that may wait to be accepted.
    pub tcp_backlog: u32,
    /// Longest single argument, in bytes.
    pub max_request_size: usize,
    /// Most arguments of one request.
    pub max_args: usize,
    /// Memory that all clients together may hold, in bytes; `None`: as much as they do.
    pub max_clients_memory: Option<u64>,
    /// A client with more unsent bytes is closed.
    pub client_output_limit: usize,
    /// Requests in flight per client before its socket is not read.
    pub max_pipeline: usize,
    /// Mode bits of Unix sockets.
    pub unix_permissions: u32,
    /// The word by which clients ask nearside itself; empty = none.
    pub proxy_command: String,
    /// True if connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Limit of what stands before a client's first command.
    pub handshake_timeout: Duration,
    /// Clients at most that are there.
    pub max_handshakes: usize,
    /// Where another process may take this one's place.
    pub handover: Option<PathBuf>,
    /// `server.tls.listen`: where clients speak TLS.
    pub tls_listen: Vec<Address>,
    /// `[server.tls]`, but for that.
    pub tls: Tls,
}

/// `[admin.tls]`, and `[server.tls]` but for its ports.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Who signs clients' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show one.
    pub client_auth: ClientAuth,
    /// The oldest version of TLS.
    pub min_version: written::TlsVersion,
    /// What was read; `None` if nobody speaks TLS.
    pub server: Option<TlsServer>,
}

/// `[upstream]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is and how to log in.
    pub target: Target,
    /// Limit of connecting.
    pub connect_timeout: Duration,
    /// Limit of an answer to a read.
    pub request_timeout: Duration,
    /// Limit of an answer to a write.
    pub write_timeout: Duration,
    /// How long a request waits for a link.
    pub reconnect_wait: Duration,
    /// `upstream.dedicated_max`: connections that one client has for itself; built in:
    /// `server.max_clients`.
    pub dedicated_max: usize,
    /// What clients see when upstream is gone.
    pub on_down: OnDown,
    /// `[upstream.tls]`.
    pub tls: TlsOptions,
    /// What was read of it; `None` if neither upstream nor a source of messages speaks TLS.
    pub tls_client: Option<TlsClient>,
}

/// `[cache]`, but for what rules inherit.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Accounted bytes at most.
    pub max_memory: u64,
    /// Keys at most; 0 = as many as there is room for.
    pub max_entries: usize,
    /// Replies stored per key at most.
    pub max_variants: usize,
    /// What waits for the proof that answers came in the order of requests.
    pub verify: Verify,
    /// True if the reply to a script that may change keys beyond those it is given waits until
    /// what it did is heard of.
    pub script_barrier: bool,
    /// One hit in so many has its key touched upstream; 0 = none.
    pub touch: u64,
    /// One hit in so many is read again upstream; 0 = none.
    pub shadow_checks: u64,
    /// Pause between two parts of the sweep.
    pub sweep_interval: Duration,
    /// Commands whose replies are stored, in lower case; `None` = all that can be.
    pub commands: Option<Vec<String>>,
}

/// One of `[[rules]]`, or what applies without one.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Redis globs on the client's key.
    pub patterns: Vec<String>,
    /// A key version of its own.
    pub version: Option<String>,
    /// What a cached reply promises.
    pub level: Level,
    /// The bound of `coherent`.
    pub max_staleness: Duration,
    /// Longest local life of a value.
    pub ttl: Duration,
    /// Local life of a nil.
    pub negative_ttl: Duration,
    /// Longest local life of a hash's reply where fields may expire on their own.
    pub hash_max_ttl: Duration,
    /// Longest reply stored.
    pub max_value_size: usize,
    /// What a SET without expiry is given upstream.
    pub write_ttl: Option<Duration>,
    /// True if writes are acknowledged before upstream has them.
    pub write_behind: bool,
    /// True if a fill asks for the key's remaining life.
    pub ttl_probe: bool,
    /// Which misses are stored.
    pub admission: Admission,
    /// What becomes of an MGET of several keys, one of which is this rule's.
    pub multi_key: MultiKey,
    /// True if a reply that joins others of its key is served, as they are, behind the next barrier
    /// only.
    pub whole_key: bool,
    /// How long past its time something is served while upstream cannot be reached.
    pub stale_if_error: Duration,
    /// How long past its deadline something is served while it is read anew.
    pub grace: Duration,
    /// How long a fill lease is good whose client does not say; zero: there are none.
    pub fill_lease: Duration,
    /// The part of its life, in millionths, before whose end a hit has it read anew.
    pub refresh_ahead: u32,
    /// The part of its longest life, in millionths, that something may miss.
    pub ttl_jitter: u32,
    /// `max_key_length`, `forbidden_bytes`: which keys may be named.
    pub key_bounds: KeyBounds,
}

/// `[scripts]`.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// What becomes of a script, under a prefix, that may use other keys than it is given.
    pub policy: ScriptPolicy,
    /// Scripts that run unread: SHA1 in hexadecimal.
    pub shas: Vec<String>,
    /// Functions that may be called under a prefix.
    pub functions: Vec<String>,
    /// Bytes of texts remembered at most.
    pub memory: usize,
}

/// `[hotkeys]`.
#[derive(Clone, Copy, Debug)]
pub struct HotKeys {
    /// Keys that each worker notes, by reads, by bytes and by misses; 0 = none.
    pub capacity: usize,
    /// After this time what was asked for counts half.
    pub half_life: Duration,
    /// One lookup in this many is looked at.
    pub sample: u32,
    /// How keys are shown.
    pub show: ShowKeys,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it is served; `None` = nowhere.
    pub listen: Option<String>,
    /// The token of who may change things.
    pub operator: Option<Password>,
    /// The token of who may look.
    pub viewer: Option<Password>,
    /// The names by which it may be asked for, without port.
    pub hosts: Vec<String>,
    /// True if it tells values.
    pub show_values: bool,
    /// `[admin.tls]`.
    pub tls: Tls,
}

/// `[metrics]`.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Whether the page is there.
    pub enabled: bool,
    /// Where it is.
    pub path: String,
    /// Where it is served with the probes alone, beside the admin port.
    pub listen: Option<String>,
    /// True if it takes a token to see it.
    pub auth: bool,
    /// `max_namespaces` and `namespaces`: which are told apart.
    pub named: Named,
    /// `buckets_seconds`.
    pub bounds: Bounds,
}

/// `[warming]`.
#[derive(Clone, Debug)]
pub struct Warming {
    /// All jobs are run once when the process has started.
    pub on_start: bool,
    /// It is not ready until then.
    pub ready_when_warm: bool,
    /// But for no longer than this.
    pub ready_timeout: Duration,
    /// Keys per second.
    pub rate: Rate,
    /// Requests on their way upstream at a time.
    pub concurrency: usize,
    /// No more is loaded when this part of `cache.max_memory` is used.
    pub max_memory_ratio: f64,
    /// Where the keys of the cache are written at the end, to be loaded at the next start.
    pub snapshot_file: Option<PathBuf>,
    /// `[[warming.jobs]]`, and `[warming.popular]` as a job of that name.
    pub jobs: Vec<WarmingJob>,
}

/// One of `[[warming.jobs]]`.
#[derive(Clone, Debug)]
pub struct WarmingJob {
    /// Its name.
    pub name: String,
    /// What it loads.
    pub keys: WarmingKeys,
    /// When, beside the start and when it is asked for.
    pub when: When,
}

/// Keys of clients.
#[derive(Clone, Debug)]
pub enum WarmingKeys {
    /// These.
    List(Vec<Vec<u8>>),
    /// Those of a file, one a line.
    File(PathBuf),
    /// Those that a glob matches.
    Pattern(Vec<u8>),
}

/// When a job is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At the start, and when it is asked for.
    Asked,
    /// And this long after it was begun.
    Every(Duration),
    /// And by a schedule.
    Cron(Box<Cron>),
}

/// `[fallback]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Something stands in for an upstream that is down.
    pub enabled: bool,
    /// How long it is down before that begins.
    pub after: Duration,
    /// What reads get then.
    pub reads: FallbackReads,
    /// How long past its time something is served then.
    pub max_stale: Duration,
    /// What becomes of writes.
    pub writes: FallbackWrites,
    /// Bytes that they may hold.
    pub max_bytes: usize,
    /// What becomes of them when upstream is back.
    pub on_recovery: OnRecovery,
}

impl Fallback {
    /// Bytes that it may hold beside the cache.
    pub(crate) fn kept(&self) -> u64 {
        let holds = self.enabled && self.writes == FallbackWrites::Memory;
        if holds { u64::try_from(self.max_bytes).unwrap_or(u64::MAX) } else { 0 }
    }
}

/// `[write_behind]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBehind {
    /// The folder of the log.
    pub directory: Option<PathBuf>,
    /// When a write is acknowledged.
    pub ack: Ack,
    /// It is understood that writes in memory are lost with it.
    pub accept_data_loss: bool,
    /// How long the first of a batch waits for others.
    pub flush_interval: Duration,
    /// Bytes that may wait.
    pub max_bytes: usize,
    /// Commands whose replies tell what was there are told that all they name was changed.
    pub assume_replies: bool,
}

impl WriteBehind {
    /// Bytes that it may hold.
    pub(crate) fn kept(&self) -> u64 {
        if self.is_on() { u64::try_from(self.max_bytes).unwrap_or(u64::MAX) } else { 0 }
    }

    /// True if rules may ask for it.
    pub const fn is_on(&self) -> bool {
        match self.ack {
            Ack::Memory => self.accept_data_loss,
            Ack::Fsync | Ack::Os => self.directory.is_some(),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `RUST_LOG` takes it.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
    /// How keys are named.
    pub keys: LogKeys,
    /// Events of one place in the code, at most.
    pub rate_limit: Rate,
    /// Answers that take so long are noted; zero = none.
    pub slow_command: Duration,
    /// As many of them are kept.
    pub slowlog_max: usize,
}
