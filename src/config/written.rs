//! The configuration as it is written: one field for one TOML key, nothing filled in yet.
//! `Option` = not written. What a key means stands in `proxy.toml` and in [`super::Settings`].

use crate::config::{
    Admission, AuthMode, Level, LogFormat, Mode, OnDown, Profile, ScriptPolicy, ShowKeys,
    TrackingMode,
};
use crate::units::duration::Span;
use crate::units::rate::Rate;
use crate::units::size::Size;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// `mode`.
    pub mode: Option<Mode>,
    /// `instance`.
    pub instance: Option<String>,
    /// `[server]`.
    pub server: Server,
    /// `[auth]`.
    pub auth: Auth,
    /// `[upstream]`.
    pub upstream: Upstream,
    /// `[keys]`.
    pub keys: Keys,
    /// `[cache]`.
    pub cache: Cache,
    /// `[[rules]]`.
    pub rules: Vec<Rule>,
    /// `[invalidation]`.
    pub invalidation: Invalidation,
    /// `[commands]`.
    pub commands: CommandPolicy,
    /// `[scripts]`.
    pub scripts: Scripts,
    /// `[hotkeys]`.
    pub hotkeys: HotKeys,
    /// `[admin]`.
    pub admin: Admin,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
    /// `[drain]`.
    pub drain: Drain,
    /// `[warming]`.
    pub warming: Warming,
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($key), "`.")]
                pub $key: Option<$kind>,
            )*
        }
    };
}

table! {
    /// `[server]`: where clients come in.
    Server {
        listen: Vec<String>,
        workers: usize,
        max_clients: usize,
        idle_timeout: Span,
        tcp_keepalive: Span,
        tcp_backlog: u32,
        max_request_size: Size,
        max_args: usize,
        client_output_limit: Size,
        max_pipeline: usize,
        unix_permissions: String,
        proxy_command: String,
    }
}

table! {
    /// `[auth]`: who may come in.
    Auth {
        mode: AuthMode,
        password: String,
        password_file: PathBuf,
    }
}

table! {
    /// `[upstream]`: the Redis or Valkey behind.
    Upstream {
        url: String,
        username: String,
        password: String,
        password_file: PathBuf,
        database: u32,
        connect_timeout: Span,
        request_timeout: Span,
        write_timeout: Span,
        dedicated_max: usize,
        reconnect_wait: Span,
        on_down: OnDown,
        tls: UpstreamTls,
    }
}

table! {
    /// `[upstream.tls]`.
    UpstreamTls {
        ca_file: PathBuf,
        cert_file: PathBuf,
        key_file: PathBuf,
        server_name: String,
        insecure_skip_verify: bool,
    }
}

table! {
    /// `[keys]`: what stands before every key upstream.
    Keys {
        prefix: String,
        version: String,
        separator: String,
    }
}

table! {
    /// `[cache]`: the near-cache, and what rules inherit.
    Cache {
        max_memory: Size,
        max_value_size: Size,
        ttl: Span,
        negative_ttl: Span,
        level: Level,
        max_staleness: Span,
        ttl_probe: TtlProbe,
        admission: Admission,
        commands: Commands,
        max_variants: usize,
        hash_max_ttl: Span,
        sweep_interval: Span,
    }
}

table! {
    /// `[[rules]]`: first match wins; what is not written is inherited from `[cache]`.
    Rule {
        r#match: Patterns,
        level: Level,
        max_staleness: Span,
        ttl: Span,
        negative_ttl: Span,
        max_value_size: Size,
        ttl_probe: TtlProbe,
        admission: Admission,
        hash_max_ttl: Span,
    }
}

table! {
    /// `[invalidation]`: how changes are heard of.
    Invalidation {
        tracking: TrackingMode,
        channel: String,
        publish: bool,
    }
}

table! {
    /// `[commands]`: what clients may ask for.
    CommandPolicy {
        profile: Profile,
        allow: Vec<String>,
        deny: Vec<String>,
        unknown: Unknown,
        specs: BTreeMap<String, String>,
    }
}

table! {
    /// `[scripts]`: what runs within the server.
    Scripts {
        policy: ScriptPolicy,
        allow: Vec<String>,
        memory: Size,
    }
}

table! {
    /// `[hotkeys]`: which keys are asked for most.
    HotKeys {
        enabled: bool,
        capacity: usize,
        half_life: Span,
        show_keys: ShowKeys,
    }
}

table! {
    /// `[admin]`: metrics, health, and what operators change.
    Admin {
        listen: String,
        token_file: PathBuf,
        readonly_token_file: PathBuf,
        allowed_hosts: Vec<String>,
    }
}

table! {
    /// `[metrics]`.
    Metrics {
        path: String,
    }
}

table! {
    /// `[log]`.
    Log {
        level: String,
        format: LogFormat,
    }
}

table! {
    /// `[drain]`: the orderly end.
    Drain {
        delay: Span,
        timeout: Span,
    }
}

/// `[warming]`: what is loaded before anybody asks for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warming {
    /// `on_start`.
    pub on_start: Option<bool>,
    /// `ready_when_warm`.
    pub ready_when_warm: Option<bool>,
    /// `ready_timeout`.
    pub ready_timeout: Option<Span>,
    /// `rate`.
    pub rate: Option<Rate>,
    /// `concurrency`.
    pub concurrency: Option<usize>,
    /// `max_memory_ratio`.
    pub max_memory_ratio: Option<f64>,
    /// `snapshot_file`.
    pub snapshot_file: Option<PathBuf>,
    /// `[[warming.jobs]]`.
    pub jobs: Vec<WarmingJob>,
    /// `[warming.popular]`: by namespace.
    pub popular: BTreeMap<String, Vec<String>>,
}

table! {
    /// `[[warming.jobs]]`.
    WarmingJob {
        name: String,
        keys: Vec<String>,
        file: PathBuf,
        pattern: String,
        every: Span,
        cron: String,
    }
}

/// What becomes of commands that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Refused in the server's words.
    Reject,
    /// Forwarded, if upstream's COMMAND tells where their keys are.
    Learn,
    /// Forwarded as they are.
    Pass,
}

/// Whether a fill asks upstream for the key's remaining life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlProbe {
    /// Every fill does.
    Always,
    /// None does: `ttl` alone bounds how late an expiry is seen.
    Never,
}

/// One pattern, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a pattern such as \"session:*\", or a list of them")]
pub enum Patterns {
    /// `match = "a:*"`.
    One(String),
    /// `match = ["a:*", "b:*"]`.
    Many(Vec<String>),
}

/// Which commands' replies are stored.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"all\" or a list of commands such as [\"GET\", \"HGET\"]")]
pub enum Commands {
    /// `"all"`.
    All(All),
    /// A list.
    Some(Vec<String>),
}

/// The word `all`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// Every cacheable command.
    All,
}
