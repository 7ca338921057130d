//! The configuration as it is written: one field for one TOML key, nothing filled in yet.
//! `Option` = not written. Each row says all that is to be known of its key:
//!
//! ```text
//!   /// what it means
//!   key "name in TOML, if another": Type = built in, when a change is felt;
//! ```
//!
//! What is built in is a value as TOML has it (a long one as text: `(toml "[1, 2]")`), or in
//! parentheses what is found out at the start, or nothing. What is filled in stands in
//! [`super::check`]; a test compares the two.

pub use crate::config::auth::{AuthKeys, UserKeys};
pub use crate::config::fallback::FallbackKeys;
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
pub use crate::config::tls::{AdminTlsKeys, ServerTlsKeys, UpstreamTlsKeys};
pub use crate::config::values::{
    All, Commands, Patterns, Secret, TlsVersion, TtlProbe, Unknown, Url,
};
pub use crate::config::write_behind::WriteBehindKeys;
use crate::config::{
    Admission, Level, LogFormat, LogKeys, Mode, MultiKey, OnDown, Profile, ScriptPolicy, ShowKeys,
    TrackingMode, Verify, VersionSource,
};
use crate::units::duration::Span;
use crate::units::rate::Rate;
use crate::units::size::Size;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

table! {
    /// The whole file.
    "" Written {
        /// The most that nearside does; `"observe"`: it only counts what would have been a hit;
        /// `"bypass"`: a pure proxy, nothing is stored.
        mode: Mode = "cache", Now;
        /// What links call themselves upstream, what peers know this proxy by, and whose its log
        /// is.
        instance: String = ("`POD_NAME` or the host name"), Restart;
        /// Where it runs: told beside `instance`.
        region: String = "", Restart;
        tables {
            /// Where clients come in.
            server: Server,
            /// Who may come in.
            auth: AuthKeys,
            /// The Redis or Valkey behind.
            upstream: Upstream,
            /// What stands before every key upstream: `prefix:version:key`.
            keys: Keys,
            /// The near-cache, and what rules inherit.
            cache: Cache,
            /// First match wins; what is not written is inherited from `[cache]`.
            rules: Vec<Rule>,
            /// How changes are heard of.
            invalidation: Invalidation,
            /// What clients may ask for.
            commands: CommandPolicy,
            /// What runs within the server.
            scripts: Scripts,
            /// Which keys are asked for most.
            hotkeys: HotKeys,
            /// Metrics, health, and what operators change.
            admin: Admin,
            /// The page that Prometheus reads.
            metrics: Metrics,
            /// What is logged, and how.
            log: Log,
            /// The orderly end.
            drain: Drain,
            /// What is loaded before anybody asks for it.
            warming: Warming,
            /// What clients get while upstream is down.
            fallback: FallbackKeys,
            /// Writes that are acknowledged before upstream has them.
            write_behind: WriteBehindKeys,
        }
    }
}

table! {
    /// Where clients come in.
    "server." Server {
        /// `host:port`, or `unix:/path`: what a sidecar should use.
        listen: Vec<String> = ["127.0.0.1:6380"], Restart;
        /// Threads, each with its own links.
        workers: usize = ("cores"), Restart;
        /// Clients at most, as Redis' `maxclients`.
        max_clients: usize = 10000, Now;
        /// Silence after which a client is closed, as Redis' `timeout`; `"0s"`: never.
        idle_timeout: Span = "0s", Now;
        /// Silence after which TCP asks whether a client is there; `"0s"`: never.
        tcp_keepalive: Span = "300s", Restart;
        /// Connections that may wait to be accepted.
        tcp_backlog: u32 = 1024, Restart;
        /// Longest single argument.
        max_request_size: Size = "512mb", Now;
        /// Arguments of one request at most.
        max_args: usize = 1048576, Now;
        /// A client with more unsent bytes is closed.
        client_output_limit: Size = "64mb", Now;
        /// Beyond so much memory of all clients' buffers together, those that hold most of it for
        /// longest without taking what is theirs are closed; `"0b"`: no bound. Else held are
        /// `cache.max_memory`, and, where they are on, `write_behind.max_bytes` and
        /// `fallback.max_bytes`.
        max_clients_memory: Size = ("3/4 of the cgroup less what else may be held; or none"), Now;
        /// Requests in flight per client before its socket is not read.
        max_pipeline: usize = 1024, Now;
        /// Mode bits of Unix sockets, octal.
        unix_permissions: String = "0770", Restart;
        /// The word by which clients ask nearside itself; `""`: none.
        proxy_command: String = "PROXY", Now;
        /// Whether each connection begins with a header of the PROXY protocol (version 1 or 2) that
        /// says whose it is: only where nobody but a load balancer can connect.
        proxy_protocol: bool = false, New;
        /// Limit of the PROXY header and the TLS handshake of a client, together; and of the
        /// handshake with who asks by `[admin.tls]`.
        handshake_timeout: Span = "5s", New;
        /// Clients at most that are between their connection and the end of these, and as many who
        /// ask by `[admin.tls]`; further ones wait to be accepted.
        max_handshakes: usize = 1024, Restart;
        /// A Unix socket at which another nearside, started with the same `listen`, takes this
        /// one's place: it gets the listening sockets, and when it is ready this one drains and
        /// ends.
        handover: PathBuf = (), Restart;
        tables {
            /// TLS for clients, with `rediss://`.
            tls: ServerTlsKeys,
        }
    }
}

table! {
    /// The Redis or Valkey behind.
    "upstream." Upstream {
        /// `redis://`, `rediss://`, `unix:/path`, `embedded:`; also from `REDIS_URL`.
        url: Url = "redis://127.0.0.1:6379", Restart;
        /// Over that of the URL.
        username: String = (), Restart;
        /// Over that of the URL.
        password: Secret = (), Restart;
        /// The file that it stands in, instead.
        password_file: PathBuf = (), Restart;
        /// Over that of the URL: the database that clients begin in.
        database: u32 = ("from the URL"), Restart;
        /// Limit of opening a link, handshakes included.
        connect_timeout: Span = "1s", Restart;
        /// Limit of an answer to a read.
        request_timeout: Span = "5s", Now;
        /// Limit of an answer to a write or a script.
        write_timeout: Span = "30s", Now;
        /// Connections that one client has for itself: MULTI, WATCH, WAIT, blocking commands,
        /// scripts, subscriptions, tracking, MONITOR.
        dedicated_max: usize = ("as `max_clients`"), Now;
        /// How long a request waits for a link; for an upstream that takes connections and is
        /// silent it waits as long as for an answer.
        reconnect_wait: Span = "500ms", Now;
        /// What clients see when upstream is gone: their connection closes, as a dead Redis does
        /// it, or an error that says whether the command may have run.
        on_down: OnDown = "close", Now;
        tables {
            /// TLS of links, with `rediss://`.
            tls: UpstreamTlsKeys,
        }
    }
}

table! {
    /// What stands before every key upstream: `prefix:version:key`.
    "keys." Keys {
        /// An application, or an environment.
        prefix: String = "", Restart;
        /// A new version starts from nothing; `""`: keys are as clients write them.
        version: String = "", Now;
        /// Where the version stands: "upstream" has all instances switch together, and
        /// keys.version is only what the first one begins with.
        version_source: VersionSource = "config", Restart;
        /// The key upstream that it stands in, as it is written here, in database 0.
        version_key: String = "system:cache_version", Restart;
        /// What stands between prefix, version and key.
        separator: String = ":", Restart;
        /// Globs of keys that are never rewritten, because others share them: locks, queues.
        exclude: Vec<String> = [], Now;
        /// Whether the prefix keeps clients apart from others on the same server: what would read,
        /// change or name anything beyond it is refused. It needs a keys.prefix.
        tenant_mode: bool = false, Restart;
        /// A request that names a longer key is refused; 0: none is.
        max_key_length: Size = "0b", Now;
        /// A request is refused that names a key with such a byte: characters (`"{"`), bytes
        /// (`"0x7f"`, `"0x00-0x1f"`), or `"control"`, `"whitespace"`, `"non_ascii"`.
        forbidden_bytes: Vec<String> = [], Now;
    }
}

table! {
    /// The near-cache, and what rules inherit.
    "cache." Cache {
        /// Accounted bytes, overhead included.
        max_memory: Size = ("256mb or a quarter of the cgroup"), Now;
        /// Keys at most; 0: as many as there is room for.
        max_entries: usize = 0, Now;
        /// Longest reply stored.
        max_value_size: Size = "1mb", Now;
        /// Longest local life of a value; upstream's own TTL always wins.
        ttl: Span = "60s", Now;
        /// The share of a local life that each fill draws up to, to be that much shorter: what was
        /// filled together does not end together. 0: all live as long as they may.
        ttl_jitter: f64 = 0.1, Now;
        /// How long the answer that a key does not exist is kept.
        negative_ttl: Span = "5s", Now;
        /// What a cached reply promises.
        level: Level = "coherent", Now;
        /// The bound of level `coherent`, enforced.
        max_staleness: Span = "1s", Now;
        /// Whether each fill asks for the key's remaining life.
        ttl_probe: TtlProbe = "always", Now;
        /// Whether a reply is stored at the first miss, or at the second.
        admission: Admission = "second_hit", Now;
        /// What becomes of an MGET of several keys: what is stored is taken from the cache, or all
        /// of it is asked of upstream, so that its values are of one moment.
        multi_key: MultiKey = "per_key", Now;
        /// Whether all replies of one key are of one moment: one that joins others is served, as
        /// they are, behind the next barrier only. At level `linear` they are so anyway, at `ttl`
        /// never.
        whole_key: bool = false, Now;
        /// Commands whose replies are stored: `"all"`, or a list.
        commands: Commands = "all", Now;
        /// Replies of one key at most.
        max_variants: usize = 16, Restart;
        /// Longest local life of a hash's reply where fields expire on their own, but of one whose
        /// fields are all named (HGET, HMGET) and are asked for theirs (`ttl_probe`).
        hash_max_ttl: Span = "1s", Now;
        /// What waits for the proof that answers came in the order of requests: a number that must
        /// come back at its place.
        verify: Verify = "fills", Now;
        /// Whether the reply to a script that may change keys beyond those it is given waits until
        /// nearside has heard what it changed, two rounds of the tracking link: then its client
        /// reads what it wrote.
        script_barrier: bool = false, Now;
        /// One hit in so many is read again upstream, and counted if it was another; 0: none is.
        shadow_checks: u32 = 0, Now;
        /// One hit in so many has its key touched upstream, which else would take what is read here
        /// for idle, and evict it first; 0: none has.
        touch: u32 = 0, Now;
        /// How long past its time a reply is served while upstream cannot be reached; `"0s"`: it
        /// is not.
        stale_if_error: Span = "0s", Now;
        /// How long past its local life a reply is served while it is read anew in the background,
        /// though not past its end upstream; `"0s"`: it is not.
        grace: Span = "0s", Now;
        /// How long a client may take that asks to compute a missing value (`PROXY LEASE GET`) and
        /// does not say; `"0s"`: nobody may ask. Each write of such a key sends one request more
        /// upstream.
        fill_lease: Span = "0s", Now;
        /// The share of its life left at which a hit has a reply read anew in the background, on
        /// average; 0: none does.
        refresh_ahead: f64 = 0.0, Now;
        /// Pause between two parts of the sweep.
        sweep_interval: Span = "1s", Restart;
    }
}

table! {
    /// First match wins; what is not written is inherited from `[cache]`.
    "rules." Rule {
        /// Redis globs on the client's key, before any prefix; a list: any of them.
        patterns "match": Patterns = (), Now;
        /// The key version of these keys, in place of keys.version: a switch does not move them.
        version: String = ("keys.version"), Now;
        /// As `cache.level`.
        level: Level = ("cache.level"), Now;
        /// As `cache.max_staleness`.
        max_staleness: Span = ("cache.max_staleness"), Now;
        /// As `cache.ttl`.
        ttl: Span = ("cache.ttl"), Now;
        /// As `cache.negative_ttl`.
        negative_ttl: Span = ("cache.negative_ttl"), Now;
        /// As `cache.max_value_size`.
        max_value_size: Size = ("cache.max_value_size"), Now;
        /// As `cache.ttl_probe`.
        ttl_probe: TtlProbe = ("cache.ttl_probe"), Now;
        /// As `cache.admission`.
        admission: Admission = ("cache.admission"), Now;
        /// As `cache.multi_key`; one such key decides for all of an MGET.
        multi_key: MultiKey = ("cache.multi_key"), Now;
        /// As `cache.whole_key`.
        whole_key: bool = ("cache.whole_key"), Now;
        /// A SET without expiry (EX, PX, EXAT, PXAT, KEEPTTL) is given this one, upstream.
        write_ttl: Span = (), Now;
        /// Whether writes that say what their key is to be (SET, SETEX, PSETEX, HMSET; more by
        /// `write_behind.assume_replies`) are acknowledged before upstream has them: only for keys
        /// that nobody writes past this process, at level `relaxed`.
        write_behind: bool = false, Now;
        /// As `cache.hash_max_ttl`.
        hash_max_ttl: Span = ("cache.hash_max_ttl"), Now;
        /// As `cache.stale_if_error`.
        stale_if_error: Span = ("cache.stale_if_error"), Now;
        /// As `cache.grace`.
        grace: Span = ("cache.grace"), Now;
        /// As `cache.fill_lease`.
        fill_lease: Span = ("cache.fill_lease"), Now;
        /// As `cache.refresh_ahead`.
        refresh_ahead: f64 = ("cache.refresh_ahead"), Now;
        /// As `keys.max_key_length`.
        max_key_length: Size = ("keys.max_key_length"), Now;
        /// As `keys.forbidden_bytes`, in their place.
        forbidden_bytes: Vec<String> = ("keys.forbidden_bytes"), Now;
    }
}

table! {
    /// How changes are heard of.
    "invalidation." Invalidation {
        /// `"off"`: only `level = "ttl"` caches.
        tracking: TrackingMode = "broadcast", Restart;
        /// Whether nearside writes a key, and serves only while the tracking link hears of it.
        written_canary: bool = false, Restart;
        /// Where applications and peers say what is to be forgotten; a list: on any of them, and
        /// nearside says it on the first; `""`: nobody listens.
        channel: Patterns = "system:cache_invalidation", Restart;
        /// Whether peers are told there of what is invalidated here.
        publish: bool = true, Restart;
        /// Patterns that are forgotten together, by one name: `library = ["library:*", "book:*"]`.
        groups: BTreeMap<String, Vec<String>> = {}, Now;
        /// File with a secret of at least 32 characters: only messages signed with it are obeyed,
        /// and what nearside says is signed (`docs/invalidation.md`).
        secret_file: PathBuf = (), Now;
        /// How far the time of a signed message may be from the time here.
        max_skew: Span = "30s", Now;
        /// Namespaces and patterns that entries are still held against, at most; 16 KiB of them
        /// in any case. Beyond it the oldest is forgotten, and with it what was not asked for
        /// since.
        max_bans: usize = 1024, Now;
        tables {
            /// Other servers where the same is listened to, of another region for example.
            sources: Vec<Source>,
            /// What applications publish anyway, and what it means for the cache.
            events: Vec<Event>,
        }
    }
}

table! {
    /// What applications publish anyway, and what it means for the cache.
    "invalidation.events." Event {
        /// Where: messages are JSON objects.
        channel: String = (), Now;
        /// What is forgotten then, members of the message in braces: `"project:{project_id}:*"`.
        patterns: Patterns = (), Now;
        /// Whether these must be signed, too.
        signed: bool = (), Now;
    }
}

table! {
    /// Other servers where the same is listened to, of another region for example.
    "invalidation.sources." Source {
        /// What it is called in metrics and logs.
        name: String = (), Restart;
        /// As `upstream.url`; with `rediss://` the certificates are those of `[upstream.tls]`.
        url: Url = (), Restart;
        /// Over that of the URL.
        username: String = (), Restart;
        /// Over that of the URL.
        password: Secret = (), Restart;
        /// The file that it stands in, instead.
        password_file: PathBuf = (), Restart;
    }
}

table! {
    /// What clients may ask for.
    "commands." CommandPolicy {
        /// `"hardened"` also refuses what acts on everybody's data, connections or settings.
        profile: Profile = "trusted", Now;
        /// Commands that the profile refuses, and which are allowed: `"DEBUG"`, `"CONFIG SET"`.
        allow: Vec<String> = [], Now;
        /// Commands that are refused; a container stands for all its subcommands.
        deny: Vec<String> = [], Now;
        /// What becomes of commands that only upstream knows.
        unknown: Unknown = "reject", Restart;
        /// Where keys stand in such commands: `"JSON.FOO" = "i1..-2"`.
        specs: BTreeMap<String, String> = {}, Restart;
    }
}

table! {
    /// What runs within the server.
    "scripts." Scripts {
        /// What becomes, under a key prefix, of scripts and functions that may use keys beyond
        /// those they are given.
        policy: ScriptPolicy = "refuse", Restart;
        /// Which run unread all the same: `"<sha1>"`, `"function:<name>"`.
        allow: Vec<String> = [], Restart;
        /// Texts of scripts kept, to give them again to a server that has lost them.
        memory: Size = "8mb", Restart;
    }
}

table! {
    /// Which keys are asked for most.
    "hotkeys." HotKeys {
        /// Whether they are noted.
        enabled: bool = true, Now;
        /// Keys that each worker notes, by reads, bytes and misses: 0.5 MB a worker.
        capacity: usize = 1000, Now;
        /// After this time what was asked for counts half.
        half_life: Span = "60s", Now;
        /// One lookup in so many is looked at, for that and for all that is told by namespace, by
        /// rule and by age; 1: every one, which a hit pays for.
        sample: u32 = 16, Now;
        /// `"plain"`: they are shown by name, else as numbers that tell them apart.
        show_keys: ShowKeys = "hash", Now;
    }
}

table! {
    /// Metrics, health, and what operators change.
    "admin." Admin {
        /// `host:port`, or `"off"`; off loopback only with a token.
        listen: String = "127.0.0.1:8380", Restart;
        /// A token of at least 32 characters, of who may change things.
        token_file: PathBuf = (), Now;
        /// The same, of who may look.
        readonly_token_file: PathBuf = (), Now;
        /// Further names, without port, by which the API may be asked for.
        allowed_hosts: Vec<String> = [], Now;
        /// Who may look may see cached values, too.
        show_values: bool = false, Restart;
        tables {
            /// HTTPS for operators, on the port of `admin.listen`.
            tls: AdminTlsKeys,
        }
    }
}

table! {
    /// The page that Prometheus reads.
    "metrics." Metrics {
        /// Whether it is there.
        enabled: bool = true, Now;
        /// Where it is on the admin port.
        path: String = "/metrics", Restart;
        /// `host:port` where it is served, too, with the probes and nothing else; `""`: nowhere.
        listen: String = "", Restart;
        /// Whether it takes a token of `[admin]` to see it.
        auth: bool = false, Now;
        /// So many namespaces are told apart, the first that are asked for; all others are
        /// `_other`.
        max_namespaces: usize = 100, Restart;
        /// These are instead, and no others.
        namespaces: Vec<String> = [], Restart;
        /// Bounds of the histograms of durations: a digit, 1.5, 2.5 or 7.5, times a power of ten,
        /// from 0.000001 to 9.
        buckets_seconds: Vec<f64> = (toml "[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, \
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]"), Now;
    }
}

table! {
    /// What is logged, and how.
    "log." Log {
        /// `off`, `error`, `warn`, `info`, `debug`, `trace`, also per module, as `RUST_LOG`.
        level: String = "info", Now;
        /// `"auto"`: text on a terminal, else JSON.
        format: LogFormat = "auto", Restart;
        /// Of one place in the code, no more is logged; `"off"`: everything is.
        rate_limit: Rate = "10/s", Restart;
        /// An answer of upstream that takes so long is logged, and stands in the slow log
        /// (`nearside slowlog`); `"0s"`: none is.
        slow_command: Span = "100ms", Now;
        /// How the key of such an answer is named, there and in the slow log: as a number that
        /// tells keys apart (that of hot keys), by name where that is known (of reads that may be
        /// cached), or not at all. No other key of clients is in the log.
        keys: LogKeys = "hash", Now;
        /// The latest of them that are kept.
        slowlog_max: usize = 128, Now;
    }
}

table! {
    /// The orderly end.
    "drain." Drain {
        /// Not ready, but still accepting.
        delay: Span = "0s", Restart;
        /// Then clients are cut off.
        timeout: Span = "25s", Restart;
    }
}

table! {
    /// What is loaded before anybody asks for it.
    "warming." Warming {
        /// Whether all jobs are run once at the start.
        on_start: bool = false, Restart;
        /// Whether `/readyz` waits for that.
        ready_when_warm: bool = false, Restart;
        /// But no longer than this.
        ready_timeout: Span = "30s", Restart;
        /// Keys that upstream is asked for; `"off"`: as fast as it goes.
        rate: Rate = "5000/s", Now;
        /// Requests on their way at a time.
        concurrency: usize = 16, Now;
        /// Nothing more is loaded when this part of `cache.max_memory` is used.
        max_memory_ratio: f64 = 0.8, Now;
        /// Where the keys of the cache are written when the process drains, to be loaded at the
        /// next start; `""`: nowhere.
        snapshot_file: PathBuf = "", Now;
        /// By namespace: `orders = ["42", "43"]` is `orders:42` and `orders:43`, loaded by the job
        /// `popular`.
        popular: BTreeMap<String, Vec<String>> = {}, Now;
        tables {
            /// What is loaded, and when, beside the start and when it is asked for.
            jobs: Vec<WarmingJob>,
        }
    }
}

table! {
    /// What is loaded, and when, beside the start and when it is asked for.
    "warming.jobs." WarmingJob {
        /// What it is called, in metrics too.
        name: String = (), Now;
        /// These keys; or write `file`, or `pattern`.
        keys: Vec<String> = (), Now;
        /// Those of this file, one a line.
        file: PathBuf = (), Now;
        /// Those that this glob matches.
        pattern: String = (), Now;
        /// So long after it was begun it is run again.
        every: Span = (), Now;
        /// When it is run: `"0 6 * * mon-fri"`.
        cron: String = (), Now;
        /// By whose clocks `cron` goes: `"Europe/Berlin"`; else UTC.
        timezone: String = (), Now;
    }
}

/// Every key, in the order of the file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    [
        Written::KEYS,
        Server::KEYS,
        ServerTlsKeys::KEYS,
        AuthKeys::KEYS,
        UserKeys::KEYS,
        Upstream::KEYS,
        UpstreamTlsKeys::KEYS,
        Keys::KEYS,
        Cache::KEYS,
        Rule::KEYS,
        Invalidation::KEYS,
        Source::KEYS,
        Event::KEYS,
        CommandPolicy::KEYS,
        Scripts::KEYS,
        HotKeys::KEYS,
        Admin::KEYS,
        AdminTlsKeys::KEYS,
        Metrics::KEYS,
        Log::KEYS,
        Drain::KEYS,
        Warming::KEYS,
        WarmingJob::KEYS,
        FallbackKeys::KEYS,
        WriteBehindKeys::KEYS,
    ]
    .into_iter()
    .flatten()
}
