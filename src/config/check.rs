//! From what is written to what is used: defaults filled in, everything checked, every fault of
//! the file found in one pass.

use crate::command;
use crate::config::admin::admin;
use crate::config::auth;
use crate::config::cgroup::memory_limit;
use crate::config::commands::commands;
use crate::config::fallback::{self, fallback};
use crate::config::hot_keys::hot_keys;
use crate::config::invalidation::invalidation;
use crate::config::metrics::metrics;
use crate::config::naming::{self, Hidden};
use crate::config::server::server;
use crate::config::tls::upstream_tls;
use crate::config::warming::warming;
use crate::config::write_behind;
use crate::config::written::{self, Commands, Patterns, TtlProbe, Written};
use crate::config::{
    Admission, AuthMode, Cache, ClientAuth, Level, Log, LogFormat, LogKeys, Merged, Mode, MultiKey,
    OnDown, Rule, ScriptPolicy, Scripts, Server, Settings, TrackingMode, Upstream, Verify,
    VersionSource,
};
use crate::keys::Prefix;
use crate::keys::bounds::KeyBounds;
use crate::net::address::Address;
use crate::net::target::{Password, Target};
use crate::units::duration::Span;
use crate::units::log_level;
use crate::units::rate::Rate;
use crate::units::size::Size;
use std::path::Path;
use std::time::Duration;

/// Largest default of `cache.max_memory`.
const MEMORY_DEFAULT: u64 = 256 << 20;

/// Smallest default of `server.max_clients_memory`.
const ROOM_MIN: u64 = 16 << 20;

/// `keys.version_key`, unless given.
const VERSION_KEY_DEFAULT: &str = "system:cache_version";

/// What is read anew as soon as it has come, or has no life left, is not cached.
const SHARE_MAX: f64 = 0.9;

/// No fill lease is longer.
const FILL_LEASE_MAX: Duration = Duration::from_mins(10);

/// `cache.ttl_jitter`, unless given, in millionths.
const JITTER_DEFAULT: u32 = 100_000;

/// Databases from here on are not told apart (`cache/space`).
const DATABASES_MAX: u32 = 1 << 20;

/// More replies of one key are not kept.
const VARIANTS_MAX: usize = 1024;

/// What was found wrong, or worth a word.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) faults: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Notes {
    pub(super) fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// The value, or its error as a fault of `key`.
    pub(super) fn take<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.fault(format!("{key}: {error}"))).ok()
    }
}

/// The settings; `None` only if a fault was noted.
pub(super) fn settings(written: &Written, notes: &mut Notes) -> Option<Settings> {
    let server = server(&written.server, notes);
    let auth = auth::auth(&written.auth, notes);
    let upstream = upstream(written, notes);
    let keys = &written.keys;
    let (key_prefix, version) = (text(keys.prefix.as_ref()), text(keys.version.as_ref()));
    let separator = keys.separator.clone().unwrap_or_else(|| ":".to_owned());
    notes.take("keys", Prefix::new(&key_prefix, &version, &separator));
    let exclude = naming::exclude(keys.exclude.as_ref(), notes);
    let inherited = inherited(&written.cache, keys, notes);
    let rules = written.rules.iter().enumerate();
    let rules: Vec<Rule> =
        rules.map(|(index, rule)| one_rule(index, rule, &separator, &inherited, notes)).collect();
    shadowed(&rules, notes);
    // (What is wrong with its parts was noted.)
    let parts = [key_prefix.as_str(), &version, &separator];
    let hidden = Hidden::of(&written.invalidation, &inherited, &rules);
    let names = naming::names(parts, &exclude, &rules, hidden).ok();
    let is_prefixed = names.as_ref().is_some_and(|names| !names.is_empty());
    let tenant_mode = keys.tenant_mode.unwrap_or(false);
    let commands = commands(&written.commands, is_prefixed, tenant_mode, notes);
    let scripts = scripts(&written.scripts, notes);
    let (hot_keys, admin) = (hot_keys(&written.hotkeys, notes), admin(&written.admin, notes));
    let (warming, fallback) =
        (warming(&written.warming, notes), fallback(&written.fallback, notes));
    let write_behind = write_behind::write_behind(&written.write_behind, notes);
    let invalidation = invalidation(&written.invalidation, notes);
    let metrics = metrics(&written.metrics, &admin, notes);
    let cache = cache(&written.cache, notes);
    let log = log(written, notes);
    let kept = [cache.max_memory, fallback.kept(), write_behind.kept()];
    let server = server.map(|server| with_room(server, kept));
    // Everything has been looked at: from here on a fault may end it.
    let mut settings = Settings {
        mode: written.mode.unwrap_or(Mode::Cache),
        instance: written.instance.clone().unwrap_or_else(hostname),
        region: text(written.region.as_ref()),
        server: server?,
        auth,
        upstream: upstream?,
        names: names?,
        key_prefix,
        separator,
        version,
        version_key: version_key(keys),
        exclude,
        tenant_mode,
        cache,
        rules,
        default_rule: inherited,
        tracking: written.invalidation.tracking.unwrap_or(TrackingMode::Broadcast),
        invalidation,
        commands,
        scripts,
        hot_keys,
        admin,
        metrics: metrics?,
        log,
        drain_delay: span(written.drain.delay, Duration::ZERO),
        drain_timeout: span(written.drain.timeout, Duration::from_secs(25)),
        warming,
        fallback,
        write_behind,
        values: Vec::new(),
        merged: Merged::default(),
    };
    auth::whole(&mut settings, notes);
    whole(&settings, notes);
    Some(settings)
}

fn log(written: &Written, notes: &mut Notes) -> Log {
    Log {
        level: log_level(written, notes),
        format: written.log.format.unwrap_or(LogFormat::Auto),
        keys: written.log.keys.unwrap_or(LogKeys::Hash),
        rate_limit: written.log.rate_limit.unwrap_or(Rate::per_second(10)),
        slow_command: span(written.log.slow_command, Duration::from_millis(100)),
        slowlog_max: written.log.slowlog_max.unwrap_or(128),
    }
}

/// What can only be seen of the whole.
fn whole(settings: &Settings, notes: &mut Notes) {
    let server = &settings.server;
    // Who must show a certificate has been asked who it is.
    let is_asked = server.tls.client_auth == ClientAuth::Required;
    let tls = server.tls_listen.iter().filter(|_| !is_asked);
    let is_open = server.listen.iter().chain(tls).any(|address| match address {
        Address::Tcp { host, .. } => !is_loopback(host),
        Address::Unix(_) | Address::Embedded => false,
    });
    let target = &settings.upstream.target;
    let has_login = target.password.is_some() || target.username.is_some();
    if is_open && has_login && settings.auth.mode == AuthMode::None {
        notes.fault(
            "server.listen is open to other machines, and clients would ride on the upstream's \
             credentials unasked: set auth.mode = \"passthrough\", or \"static\" and \
             auth.password_file, or server.tls.client_auth = \"required\" and no plain port, or \
             listen on 127.0.0.1",
        );
    }
    if settings.version_key.is_some() && settings.version.is_empty() {
        notes.fault(
            "keys.version_source = \"upstream\" needs a keys.version, which the first instance \
             begins with",
        );
    }
    if settings.version_key.as_ref().is_some_and(String::is_empty) {
        notes.fault("keys.version_key is empty");
    }
    if settings.version_key.is_some() && settings.tracking == TrackingMode::Off {
        notes.fault(
            "keys.version_source = \"upstream\" needs invalidation.tracking, by which a new \
             version is heard of",
        );
    }
    if settings.invalidation.written_canary && settings.tracking == TrackingMode::Off {
        notes.warn(
            "invalidation.written_canary has no effect: invalidation.tracking, which is to hear of \
             it, is \"off\"",
        );
    }
    naming::check(settings, notes);
    fallback::check(settings, notes);
    write_behind::check(settings, notes);
    if settings.tracking == TrackingMode::Off && settings.mode == Mode::Cache {
        let all = settings.rules.iter().chain([&settings.default_rule]);
        if all.clone().any(|rule| rule.level.is_tracked()) {
            notes.warn(
                "invalidation.tracking is \"off\": rules of level linear, coherent and relaxed \
                 cache nothing; only level \"ttl\" does",
            );
        }
    }
}

/// Where the version stands, if not here.
fn version_key(keys: &written::Keys) -> Option<String> {
    let is_shared = keys.version_source == Some(VersionSource::Upstream);
    let key = keys.version_key.clone();
    is_shared.then(|| key.unwrap_or_else(|| VERSION_KEY_DEFAULT.to_owned()))
}

/// A bare word that is no level would be taken for the name of a module, and nothing be logged.
fn log_level(written: &Written, notes: &mut Notes) -> String {
    let level = written.log.level.clone().unwrap_or_else(|| "info".to_owned());
    if let Err(part) = log_level::check(&level) {
        let levels = log_level::LEVELS.join(", ");
        notes.fault(format!("log.level: `{part}` is none of {levels}, nor module=level"));
    }
    level
}

pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

pub(super) fn span(value: Option<Span>, default: Duration) -> Duration {
    value.map_or(default, |span| span.0)
}

/// What Kubernetes calls this pod, if it says so, or the machine's name.
fn hostname() -> String {
    let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = std::env::var("POD_NAME").unwrap_or_else(|_| machine());
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).collect();
    if name.is_empty() { "nearside".to_owned() } else { name }
}

/// A secret that is written in one of two ways.
pub(super) fn secret(
    table: &str,
    inline: Option<&String>,
    file: Option<&Path>,
    notes: &mut Notes,
) -> Option<Password> {
    match (inline, file) {
        (Some(_), Some(_)) => {
            notes.fault(format!("{table}: write password or password_file, not both"));
            None
        }
        (Some(text), None) => Some(Password::new(text.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("`{}` cannot be read: {error}", path.display()));
            let text = notes.take(&format!("{table}.password_file"), text)?;
            Some(Password::new(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => None,
    }
}

fn upstream(written: &Written, notes: &mut Notes) -> Option<Upstream> {
    let upstream = &written.upstream;
    let url = upstream.url.as_ref().map_or("redis://127.0.0.1:6379", |url| &url.0);
    let target = notes.take("upstream.url", url.parse::<Target>());
    let file = upstream.password_file.as_deref();
    let inline = upstream.password.as_ref().map(|password| &password.0);
    let password = secret("upstream", inline, file, notes);
    let mut sources = written.invalidation.sources.iter().filter_map(|source| source.url.as_ref());
    let is_tls = target.as_ref().is_some_and(|target| target.tls)
        || sources.any(|url| url.0.starts_with("rediss://"));
    let (tls, tls_client) = upstream_tls(&upstream.tls, is_tls, notes);
    let mut target = target?;
    if upstream.username.is_some() {
        target.username.clone_from(&upstream.username);
    }
    if password.is_some() {
        target.password = password;
    }
    if let Some(database) = upstream.database {
        target.database = database;
    }
    if target.database >= DATABASES_MAX {
        notes.fault(format!("upstream.database: there are no databases from {DATABASES_MAX} on"));
    }
    Some(Upstream {
        target,
        connect_timeout: span(upstream.connect_timeout, Duration::from_secs(1)),
        request_timeout: span(upstream.request_timeout, Duration::from_secs(5)),
        write_timeout: span(upstream.write_timeout, Duration::from_secs(30)),
        reconnect_wait: span(upstream.reconnect_wait, Duration::from_millis(500)),
        dedicated_max: upstream.dedicated_max.or(written.server.max_clients).unwrap_or(10_000),
        on_down: upstream.on_down.unwrap_or(OnDown::Close),
        tls,
        tls_client,
    })
}

/// What rules inherit, and what applies where none matches.
fn inherited(cache: &written::Cache, keys: &written::Keys, notes: &mut Notes) -> Rule {
    let forbidden = keys.forbidden_bytes.as_ref();
    let key_bounds =
        naming::bounds("keys", keys.max_key_length, forbidden, KeyBounds::default(), notes);
    let rule = Rule {
        patterns: Vec::new(),
        version: None,
        level: cache.level.unwrap_or(Level::Coherent),
        max_staleness: span(cache.max_staleness, Duration::from_secs(1)),
        ttl: span(cache.ttl, Duration::from_mins(1)),
        negative_ttl: span(cache.negative_ttl, Duration::from_secs(5)),
        hash_max_ttl: span(cache.hash_max_ttl, Duration::from_secs(1)),
        max_value_size: cache.max_value_size.unwrap_or(Size(1 << 20)).as_usize(),
        write_ttl: None,
        write_behind: false,
        ttl_probe: cache.ttl_probe != Some(TtlProbe::Never),
        admission: cache.admission.unwrap_or(Admission::SecondHit),
        multi_key: cache.multi_key.unwrap_or(MultiKey::PerKey),
        whole_key: cache.whole_key.unwrap_or(false),
        stale_if_error: span(cache.stale_if_error, Duration::ZERO),
        grace: span(cache.grace, Duration::ZERO),
        fill_lease: span(cache.fill_lease, Duration::ZERO),
        refresh_ahead: millionths("cache.refresh_ahead", cache.refresh_ahead, notes).unwrap_or(0),
        ttl_jitter: millionths("cache.ttl_jitter", cache.ttl_jitter, notes)
            .unwrap_or(JITTER_DEFAULT),
        key_bounds,
    };
    sound("cache", &rule, notes);
    rule
}

fn one_rule(
    index: usize,
    rule: &written::Rule,
    separator: &str,
    base: &Rule,
    notes: &mut Notes,
) -> Rule {
    let name = format!("rules[{index}]");
    let patterns = match &rule.patterns {
        None => {
            notes.fault(format!("{name}: match is missing, such as match = \"session:*\""));
            Vec::new()
        }
        Some(Patterns::One(pattern)) => vec![pattern.clone()],
        Some(Patterns::Many(patterns)) => patterns.clone(),
    };
    if let Some(version) = &rule.version {
        notes.take(&format!("{name}.version"), Prefix::new("", version, separator));
    }
    let rule = Rule {
        patterns,
        version: rule.version.clone(),
        level: rule.level.unwrap_or(base.level),
        max_staleness: span(rule.max_staleness, base.max_staleness),
        ttl: span(rule.ttl, base.ttl),
        negative_ttl: span(rule.negative_ttl, base.negative_ttl),
        hash_max_ttl: span(rule.hash_max_ttl, base.hash_max_ttl),
        max_value_size: rule.max_value_size.map_or(base.max_value_size, Size::as_usize),
        write_ttl: rule.write_ttl.map(|span| span.0),
        write_behind: rule.write_behind.unwrap_or(false),
        ttl_probe: rule.ttl_probe.map_or(base.ttl_probe, |probe| probe == TtlProbe::Always),
        admission: rule.admission.unwrap_or(base.admission),
        multi_key: rule.multi_key.unwrap_or(base.multi_key),
        whole_key: rule.whole_key.unwrap_or(base.whole_key),
        stale_if_error: span(rule.stale_if_error, base.stale_if_error),
        grace: span(rule.grace, base.grace),
        fill_lease: span(rule.fill_lease, base.fill_lease),
        refresh_ahead: millionths(&format!("{name}.refresh_ahead"), rule.refresh_ahead, notes)
            .unwrap_or(base.refresh_ahead),
        ttl_jitter: base.ttl_jitter,
        key_bounds: naming::bounds(
            &name,
            rule.max_key_length,
            rule.forbidden_bytes.as_ref(),
            base.key_bounds,
            notes,
        ),
    };
    sound(&name, &rule, notes);
    rule
}

/// A share of a life, as `refresh_ahead` has it.
fn millionths(key: &str, share: Option<f64>, notes: &mut Notes) -> Option<u32> {
    let share = share?;
    if !(0.0..=SHARE_MAX).contains(&share) {
        notes.fault(format!("{key}: {share} is not a share from 0 to {SHARE_MAX}"));
        return None;
    }
    // Within what was just checked.
    u32::try_from(Duration::from_secs_f64(share).as_micros()).ok()
}

fn sound(name: &str, rule: &Rule, notes: &mut Notes) {
    if rule.level == Level::Coherent && rule.max_staleness < Duration::from_millis(20) {
        notes.fault(format!(
            "{name}.max_staleness: less than 20ms cannot be kept (a barrier round is a quarter of \
             it); for no staleness at all use level = \"bypass\""
        ));
    }
    if rule.write_ttl.is_some_and(|ttl| ttl < Duration::from_millis(1)) {
        notes.fault(format!("{name}.write_ttl: upstream counts in milliseconds, from 1ms on"));
    }
    if rule.fill_lease > FILL_LEASE_MAX {
        notes.fault(format!(
            "{name}.fill_lease: more than {FILL_LEASE_MAX:?}: who never comes back holds up all \
             others for so long"
        ));
    }
    if rule.level != Level::Bypass && rule.ttl.is_zero() {
        notes.warn(format!("{name}.ttl is 0: nothing is cached; level = \"bypass\" says so"));
    }
}

/// A rule behind one that matches everything can never match.
fn shadowed(rules: &[Rule], notes: &mut Notes) {
    let catch_all = rules.iter().position(|rule| rule.patterns.iter().any(|p| p == "*"));
    if let Some(first) = catch_all
        && first + 1 < rules.len()
    {
        notes.warn(format!("rules[{first}] matches every key: the rules behind it never apply"));
    }
    for (index, rule) in rules.iter().enumerate() {
        for pattern in &rule.patterns {
            let earlier = rules.iter().take(index);
            if let Some(other) = earlier.enumerate().find(|(_, r)| r.patterns.contains(pattern)) {
                notes.warn(format!(
                    "rules[{index}]: `{pattern}` stands in rules[{}] already, which wins",
                    other.0
                ));
            }
        }
    }
}

fn cache(cache: &written::Cache, notes: &mut Notes) -> Cache {
    let commands = match &cache.commands {
        None | Some(Commands::All(_)) => None,
        Some(Commands::Some(names)) => Some(names.iter().map(|n| n.to_lowercase()).collect()),
    };
    for name in commands.iter().flatten() {
        let name: &String = name;
        if !command::by_name(name).is_some_and(command::Spec::cacheable) {
            notes.fault(format!("cache.commands: `{name}` is not a command that can be cached"));
        }
    }
    let max_variants = cache.max_variants.unwrap_or(16);
    // A hit walks the chain of its key's replies.
    if !(1..=VARIANTS_MAX).contains(&max_variants) {
        notes.fault(format!(
            "cache.max_variants: {max_variants} is not between 1 and {VARIANTS_MAX}"
        ));
    }
    let sweep_interval = span(cache.sweep_interval, Duration::from_secs(1));
    if sweep_interval.is_zero() {
        notes.fault("cache.sweep_interval: 0 would never rest");
    }
    let max_memory = cache.max_memory.map_or_else(memory_default, |size| size.0);
    if max_memory < 1 << 20 {
        notes.fault("cache.max_memory: at least 1mb; to cache nothing use mode = \"bypass\"");
    }
    if let Some(limit) = memory_limit()
        && max_memory > limit
    {
        notes.warn(format!("cache.max_memory is above the cgroup's limit of {}", Size(limit)));
    }
    let verify = cache.verify.unwrap_or(Verify::Fills);
    let script_barrier = cache.script_barrier.unwrap_or(false);
    let max_entries = cache.max_entries.unwrap_or(0);
    Cache {
        max_memory,
        max_entries,
        max_variants,
        verify,
        script_barrier,
        touch: cache.touch.unwrap_or(0).into(),
        shadow_checks: cache.shadow_checks.unwrap_or(0).into(),
        sweep_interval,
        commands,
    }
}

fn scripts(scripts: &written::Scripts, notes: &mut Notes) -> Scripts {
    let (mut shas, mut functions) = (Vec::new(), Vec::new());
    for entry in scripts.allow.iter().flatten() {
        let is_sha = entry.len() == 40 && entry.bytes().all(|byte| byte.is_ascii_hexdigit());
        match entry.strip_prefix("function:") {
            Some(name) if !name.is_empty() => functions.push(name.to_owned()),
            None if is_sha => shas.push(entry.to_ascii_lowercase()),
            _ => notes.fault(format!(
                "scripts.allow: `{entry}` is neither the SHA1 of a script (40 hexadecimal digits) \
                 nor \"function:NAME\""
            )),
        }
    }
    Scripts {
        policy: scripts.policy.unwrap_or(ScriptPolicy::Refuse),
        shas,
        functions,
        memory: scripts.memory.unwrap_or(Size(8 << 20)).as_usize(),
    }
}

/// What clients may hold where nobody says: of the cgroup's memory three quarters, less what is
/// `kept` (the cache, a fallback, writes behind). The rest is what everything else takes: threads,
/// links, connections, and what the allocator keeps of what was freed (`tests/memory`).
fn with_room(server: Server, kept: [u64; 3]) -> Server {
    let left = |room, kept| u64::saturating_sub(room, kept);
    let rest = || Some(kept.into_iter().fold(memory_limit()? / 4 * 3, left).max(ROOM_MIN));
    let room = server.max_clients_memory.map_or_else(rest, |room| (room > 0).then_some(room));
    Server { max_clients_memory: room, ..server }
}

/// 25 % of the cgroup's memory, at most 256 MB.
fn memory_default() -> u64 {
    memory_limit().map_or(MEMORY_DEFAULT, |limit| MEMORY_DEFAULT.min(limit / 4)).max(1 << 20)
}
