//! What of new settings can take effect while nearside runs.
//!
//! In: the settings in force and those that were read again. Out: the settings to put in force,
//! what they change, and what waits for a restart. Nothing is taken over by half: what is not
//! named here waits.

use crate::config::key::LISTS;
use crate::config::load::is_under;
use crate::config::{Admin, ClientAuth, Invalidation, Origin, Settings, Shown, Tls, written};
use crate::keys::Invalid;
use crate::net::target::Password;
use std::fmt::Debug;

/// What a reload names whenever other certificates are shown to clients.
pub const CERTIFICATES: &str =
    "server.tls.cert_file, server.tls.key_file, server.tls.client_ca_file";

/// The same, of operators.
pub const ADMIN_CERTIFICATES: &str =
    "admin.tls.cert_file, admin.tls.key_file, admin.tls.client_ca_file";

/// What becomes of settings that were read again.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is to be in force.
    pub settings: Settings,
    /// The keys that this changes.
    pub changed: Vec<&'static str>,
    /// The keys that only a restart changes.
    pub pending: Vec<&'static str>,
}

impl Settings {
    /// These settings, and of `new` what can take effect at once.
    pub fn reload(&self, new: &Self) -> Reloaded {
        let mut next = self.clone();
        next.mode = new.mode;
        next.take_names(new);
        next.auth.clone_from(&new.auth);
        next.default_rule.clone_from(&new.default_rule);
        next.cache.max_memory = new.cache.max_memory;
        next.cache.max_entries = new.cache.max_entries;
        next.cache.verify = new.cache.verify;
        next.cache.script_barrier = new.cache.script_barrier;
        next.cache.shadow_checks = new.cache.shadow_checks;
        next.cache.touch = new.cache.touch;
        next.cache.commands.clone_from(&new.cache.commands);
        next.invalidation.groups.clone_from(&new.invalidation.groups);
        next.invalidation.events.clone_from(&new.invalidation.events);
        next.invalidation.secret.clone_from(&new.invalidation.secret);
        next.invalidation.max_skew = new.invalidation.max_skew;
        next.invalidation.max_bans = new.invalidation.max_bans;
        next.commands.profile = new.commands.profile;
        next.commands.choices.clone_from(&new.commands.choices);
        let (server, to) = (&new.server, &mut next.server);
        to.max_clients = server.max_clients;
        to.idle_timeout = server.idle_timeout;
        to.max_request_size = server.max_request_size;
        to.max_args = server.max_args;
        to.client_output_limit = server.client_output_limit;
        // Its default is made of what else may be held, some of which waits.
        if self.write_behind.is_on() == new.write_behind.is_on() {
            to.max_clients_memory = server.max_clients_memory;
        }
        to.max_pipeline = server.max_pipeline;
        to.proxy_command.clone_from(&server.proxy_command);
        to.proxy_protocol = server.proxy_protocol;
        to.handshake_timeout = server.handshake_timeout;
        // Where nobody listens, or somebody only will, all of it waits.
        if to.tls_listen.is_empty() == server.tls_listen.is_empty() {
            to.tls.clone_from(&server.tls);
        }
        let (upstream, to) = (&new.upstream, &mut next.upstream);
        to.request_timeout = upstream.request_timeout;
        to.write_timeout = upstream.write_timeout;
        to.reconnect_wait = upstream.reconnect_wait;
        to.dedicated_max = upstream.dedicated_max;
        to.on_down = upstream.on_down;
        // Links by TLS are as their URL says, which waits; by which certificates does not.
        if to.tls_client.is_some() == upstream.tls_client.is_some() {
            to.tls.clone_from(&upstream.tls);
            to.tls_client.clone_from(&upstream.tls_client);
        }
        next.log.level.clone_from(&new.log.level);
        next.log.slow_command = new.log.slow_command;
        next.log.keys = new.log.keys;
        next.log.slowlog_max = new.log.slowlog_max;
        next.hot_keys = new.hot_keys;
        next.metrics.enabled = new.metrics.enabled;
        next.metrics.auth = new.metrics.auth;
        next.metrics.bounds.clone_from(&new.metrics.bounds);
        next.admin.take_over(&new.admin);
        next.warming.take_over(&new.warming);
        next.fallback = new.fallback;
        let (behind, to) = (&new.write_behind, &mut next.write_behind);
        to.flush_interval = behind.flush_interval;
        to.max_bytes = behind.max_bytes;
        to.assume_replies = behind.assume_replies;
        let (changed, pending) = (differences(self, &next), differences(&next, new));
        next.values = values(self, new, &pending);
        Reloaded { settings: next, changed, pending }
    }

    /// How keys are named, and the rules. Whether keys are named at all decides what scripts and
    /// commands may do: what would change that waits.
    fn take_names(&mut self, new: &Self) {
        let is_alike = self.key_prefix == new.key_prefix && self.separator == new.separator;
        // (Who keeps clients to their prefix excludes nothing.)
        let exclude = if self.tenant_mode { &self.exclude } else { &new.exclude };
        let next = Self { rules: new.rules.clone(), exclude: exclude.clone(), ..self.clone() };
        let versions = [&new.version, &self.version];
        let may_switch = self.version_key.is_none() && is_alike;
        let taken = versions.into_iter().skip(usize::from(!may_switch)).find_map(|version| {
            let names = next.names_under(version).ok()?;
            let is_as_before = names.is_empty() == self.names.is_empty();
            is_as_before.then(|| Self { version: version.clone(), names, ..next.clone() })
        });
        if let Some(taken) = taken {
            *self = taken;
        }
    }

    /// All that these settings are, secrets included: to be compared, and not to be shown.
    pub fn fingerprint(&self) -> Vec<String> {
        named(self).into_iter().map(|(_, value)| value).collect()
    }

    /// These settings under another key version.
    pub fn with_version(&self, version: &str) -> Result<Self, Invalid> {
        let names = self.names_under(version)?;
        let mut next = Self { version: version.to_owned(), names, ..self.clone() };
        let is_other = |shown: &&mut Shown| {
            shown.path == "keys.version" && shown.value.as_str() != Some(version)
        };
        for shown in next.values.iter_mut().filter(is_other) {
            shown.value = version.into();
            shown.origin = Some(Origin::runtime());
        }
        Ok(next)
    }
}

impl Admin {
    /// Who may ask. What was judged as a whole is taken over as a whole: who needs no token on
    /// loopback, or by HTTPS, would need none elsewhere or in plain either. A certificate in a
    /// token's place waits, too: who is connected was not asked for one.
    fn take_over(&mut self, new: &Self) {
        self.hosts.clone_from(&new.hosts);
        let is_alike =
            self.listen == new.listen && self.tls.server.is_some() == new.tls.server.is_some();
        let is_replaced = !self.is_tokenless()
            && new.is_tokenless()
            && new.asks_certificates()
            && !self.asks_certificates();
        if is_alike && !is_replaced {
            self.operator.clone_from(&new.operator);
            self.viewer.clone_from(&new.viewer);
            self.tls.clone_from(&new.tls);
        }
    }

    fn is_tokenless(&self) -> bool {
        self.operator.is_none() && self.viewer.is_none()
    }

    fn asks_certificates(&self) -> bool {
        self.tls.client_auth == ClientAuth::Required
    }
}

/// The values in force: the new ones, but for those of keys that wait.
fn values(old: &Settings, new: &Settings, pending: &[&str]) -> Vec<Shown> {
    let waits = |shown: &&Shown| {
        let mut names = pending.iter().flat_map(|names| names.split(", "));
        names.any(|name| {
            // What the target is made of goes with it.
            let is_target = name == "upstream.url"
                && ["upstream.username", "upstream.database"].contains(&shown.key.path);
            is_target || is_under(&shown.path, name)
        })
    };
    let (keep, take) = (old.values.iter(), new.values.iter());
    let mut all: Vec<Shown> =
        keep.filter(waits).chain(take.filter(|shown| !waits(shown))).cloned().collect();
    let place = |shown: &Shown| written::keys().position(|key| key.path == shown.key.path);
    // Those of one list stay in their order: they are all old or all new.
    all.sort_by_key(|shown| match shown.key.list() {
        Some(list) => (LISTS.iter().position(|other| *other == list), None),
        None => (None, place(shown)),
    });
    all
}

/// The keys in which two settings differ.
fn differences(one: &Settings, other: &Settings) -> Vec<&'static str> {
    let pairs = named(one).into_iter().zip(named(other));
    pairs.filter_map(|((name, one), (_, other))| (one != other).then_some(name)).collect()
}

/// Every key by what it comes to; tables whose keys act together, as one.
fn named(all: &Settings) -> Vec<(&'static str, String)> {
    let mut named = of_connections(all);
    named.extend(of_cache(all));
    named.extend(of_office(all));
    named
}

fn is<T: Debug>(value: &T) -> String {
    format!("{value:?}")
}

/// Two of them differ where the passwords do.
fn secret(password: Option<&Password>) -> String {
    password.map(|password| password.reveal().to_owned()).unwrap_or_default()
}

/// Two of them differ where the contents of the files do.
fn certificates(tls: &Tls) -> String {
    is(&(&tls.cert_file, &tls.key_file, &tls.client_ca_file, &tls.server))
}

/// Passwords of sources included.
fn sources(invalidation: &Invalidation) -> String {
    let passwords =
        invalidation.sources.iter().map(|source| secret(source.target.password.as_ref()));
    format!("{:?} {:?}", invalidation.sources, passwords.collect::<Vec<_>>())
}

fn of_connections(all: &Settings) -> Vec<(&'static str, String)> {
    let (server, upstream) = (&all.server, &all.upstream);
    vec![
        ("server.listen", is(&server.listen)),
        ("server.workers", is(&server.workers)),
        ("server.max_clients", is(&server.max_clients)),
        ("server.idle_timeout", is(&server.idle_timeout)),
        ("server.tcp_keepalive", is(&server.tcp_keepalive)),
        ("server.tcp_backlog", is(&server.tcp_backlog)),
        ("server.max_request_size", is(&server.max_request_size)),
        ("server.max_args", is(&server.max_args)),
        ("server.client_output_limit", is(&server.client_output_limit)),
        ("server.max_clients_memory", is(&server.max_clients_memory)),
        ("server.max_pipeline", is(&server.max_pipeline)),
        ("server.unix_permissions", is(&server.unix_permissions)),
        ("server.proxy_command", is(&server.proxy_command)),
        ("server.proxy_protocol", is(&server.proxy_protocol)),
        ("server.handshake_timeout", is(&server.handshake_timeout)),
        ("server.max_handshakes", is(&server.max_handshakes)),
        ("server.handover", is(&server.handover)),
        ("server.tls.listen", is(&server.tls_listen)),
        (CERTIFICATES, certificates(&server.tls)),
        ("server.tls.client_auth", is(&server.tls.client_auth)),
        ("server.tls.min_version", is(&server.tls.min_version)),
        ("auth.mode", is(&all.auth.mode)),
        ("auth.password", secret(all.auth.password.as_ref())),
        ("auth.cache_ttl", is(&all.auth.cache_ttl)),
        ("auth.acl_poll", is(&all.auth.acl_poll)),
        ("auth.acl_proof_ttl", is(&all.auth.acl_proof_ttl)),
        ("auth.max_failures_per_minute", is(&all.auth.failures_max)),
        ("auth.max_identities", is(&all.auth.identities_max)),
        ("auth.users", is(&all.auth.users)),
        ("upstream.url", is(&upstream.target)),
        ("upstream.password", secret(upstream.target.password.as_ref())),
        ("upstream.connect_timeout", is(&upstream.connect_timeout)),
        ("upstream.request_timeout", is(&upstream.request_timeout)),
        ("upstream.write_timeout", is(&upstream.write_timeout)),
        ("upstream.reconnect_wait", is(&upstream.reconnect_wait)),
        ("upstream.dedicated_max", is(&upstream.dedicated_max)),
        ("upstream.on_down", is(&upstream.on_down)),
        ("upstream.tls", is(&(&upstream.tls, &upstream.tls_client))),
    ]
}

fn of_cache(all: &Settings) -> Vec<(&'static str, String)> {
    let (cache, rule) = (&all.cache, &all.default_rule);
    vec![
        ("mode", is(&all.mode)),
        ("keys.prefix", is(&all.key_prefix)),
        ("keys.separator", is(&all.separator)),
        ("keys.version", is(&all.version)),
        ("keys.version_source, keys.version_key", is(&all.version_key)),
        ("keys.exclude", is(&all.exclude)),
        ("keys.tenant_mode", is(&all.tenant_mode)),
        ("keys.max_key_length, keys.forbidden_bytes", is(&rule.key_bounds)),
        ("cache.max_memory", is(&cache.max_memory)),
        ("cache.max_entries", is(&cache.max_entries)),
        ("cache.max_variants", is(&cache.max_variants)),
        ("cache.verify", is(&cache.verify)),
        ("cache.script_barrier", is(&cache.script_barrier)),
        ("cache.shadow_checks", is(&cache.shadow_checks)),
        ("cache.touch", is(&cache.touch)),
        ("cache.sweep_interval", is(&cache.sweep_interval)),
        ("cache.commands", is(&cache.commands)),
        ("cache.level", is(&rule.level)),
        ("cache.max_staleness", is(&rule.max_staleness)),
        ("cache.ttl", is(&rule.ttl)),
        ("cache.ttl_jitter", is(&rule.ttl_jitter)),
        ("cache.negative_ttl", is(&rule.negative_ttl)),
        ("cache.hash_max_ttl", is(&rule.hash_max_ttl)),
        ("cache.max_value_size", is(&rule.max_value_size)),
        ("cache.ttl_probe", is(&rule.ttl_probe)),
        ("cache.admission", is(&rule.admission)),
        ("cache.multi_key", is(&rule.multi_key)),
        ("cache.whole_key", is(&rule.whole_key)),
        ("cache.stale_if_error", is(&rule.stale_if_error)),
        ("cache.grace", is(&rule.grace)),
        ("cache.fill_lease", is(&rule.fill_lease)),
        ("cache.refresh_ahead", is(&rule.refresh_ahead)),
        ("rules", is(&all.rules)),
    ]
}

fn of_office(all: &Settings) -> Vec<(&'static str, String)> {
    let (commands, admin, warming) = (&all.commands, &all.admin, &all.warming);
    let metrics = &all.metrics;
    let (invalidation, behind) = (&all.invalidation, &all.write_behind);
    vec![
        ("instance", is(&all.instance)),
        ("region", is(&all.region)),
        ("invalidation.tracking", is(&all.tracking)),
        ("invalidation.channel", is(&invalidation.channels)),
        ("invalidation.publish", is(&invalidation.publish)),
        ("invalidation.written_canary", is(&invalidation.written_canary)),
        ("invalidation.sources", sources(invalidation)),
        ("invalidation.groups", is(&invalidation.groups)),
        ("invalidation.events", is(&invalidation.events)),
        ("invalidation.secret_file", secret(invalidation.secret.as_ref())),
        ("invalidation.max_skew", is(&invalidation.max_skew)),
        ("invalidation.max_bans", is(&invalidation.max_bans)),
        ("commands.profile", is(&commands.profile)),
        ("commands.allow, commands.deny", is(&commands.choices)),
        ("commands.unknown", is(&commands.unknown)),
        ("commands.specs", is(&commands.specs)),
        ("scripts", is(&all.scripts)),
        ("admin.listen", is(&admin.listen)),
        ("admin.token_file", secret(admin.operator.as_ref())),
        ("admin.readonly_token_file", secret(admin.viewer.as_ref())),
        ("admin.allowed_hosts", is(&admin.hosts)),
        ("admin.show_values", is(&admin.show_values)),
        (ADMIN_CERTIFICATES, certificates(&admin.tls)),
        ("admin.tls.client_auth", is(&admin.tls.client_auth)),
        ("admin.tls.min_version", is(&admin.tls.min_version)),
        ("metrics.enabled", is(&metrics.enabled)),
        ("metrics.path", is(&metrics.path)),
        ("metrics.listen", is(&metrics.listen)),
        ("metrics.auth", is(&metrics.auth)),
        ("metrics.max_namespaces, metrics.namespaces", is(&metrics.named)),
        ("metrics.buckets_seconds", is(&metrics.bounds)),
        ("hotkeys", is(&all.hot_keys)),
        ("log.level", is(&all.log.level)),
        ("log.format", is(&all.log.format)),
        ("log.rate_limit", is(&all.log.rate_limit)),
        ("log.keys", is(&all.log.keys)),
        ("log.slow_command", is(&all.log.slow_command)),
        ("log.slowlog_max", is(&all.log.slowlog_max)),
        ("drain.delay", is(&all.drain_delay)),
        ("drain.timeout", is(&all.drain_timeout)),
        ("warming.on_start", is(&warming.on_start)),
        ("warming.ready_when_warm", is(&warming.ready_when_warm)),
        ("warming.ready_timeout", is(&warming.ready_timeout)),
        ("warming.rate", is(&warming.rate)),
        ("warming.concurrency", is(&warming.concurrency)),
        ("warming.max_memory_ratio", is(&warming.max_memory_ratio)),
        ("warming.snapshot_file", is(&warming.snapshot_file)),
        ("warming.jobs, warming.popular", is(&warming.jobs)),
        ("fallback", is(&all.fallback)),
        ("write_behind.directory", is(&behind.directory)),
        ("write_behind.ack", is(&behind.ack)),
        ("write_behind.accept_data_loss", is(&behind.accept_data_loss)),
        ("write_behind.flush_interval", is(&behind.flush_interval)),
        ("write_behind.max_bytes", is(&behind.max_bytes)),
        ("write_behind.assume_replies", is(&behind.assume_replies)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, Reloaded, Settings, load, load_text};
    use std::path::Path;

    fn settings(flags: &[(&str, &str)]) -> Settings {
        let flag =
            |&(key, value): &(&str, &str)| ("test".to_owned(), key.to_owned(), value.to_owned());
        let flags = flags.iter().map(flag).collect();
        load(&Overrides { file: Some("/dev/null".into()), flags, ..Overrides::default() })
            .unwrap()
            .settings
    }

    #[test]
    fn what_can_change_changes_and_the_rest_waits() {
        let old = settings(&[("keys.version", "v1")]);
        let new = settings(&[
            ("keys.version", "v2"),
            ("cache.ttl", "7s"),
            ("server.max_clients", "7"),
            ("server.workers", "7"),
            ("upstream.url", "redis://elsewhere:6379"),
        ]);
        let reloaded = old.reload(&new);
        assert_eq!(
            reloaded.changed,
            ["server.max_clients", "upstream.dedicated_max", "keys.version", "cache.ttl"]
        );
        assert_eq!(reloaded.pending, ["server.workers", "upstream.url"]);
        assert_eq!(reloaded.settings.names.usual().as_bytes(), b"v2:");
        let again = reloaded.settings.reload(&new);
        assert!(again.changed.is_empty(), "{:?}", again.changed);
    }

    #[test]
    fn whether_keys_are_named_at_all_waits() {
        let (old, new) = (settings(&[]), settings(&[("keys.version", "v1")]));
        let reloaded = old.reload(&new);
        assert!(reloaded.changed.is_empty());
        assert_eq!(reloaded.pending, ["keys.version"]);
    }

    #[test]
    fn another_version() {
        let old = settings(&[("keys.prefix", "shop"), ("keys.version", "v1")]);
        let new = old.with_version("v2").unwrap();
        assert_eq!((new.names.usual().as_bytes(), new.version.as_str()), (&b"shop:v2:"[..], "v2"));
        assert!(old.with_version("v:2").is_err());
    }

    fn written(text: &str) -> Settings {
        load_text(Path::new("t.toml"), text.to_owned()).unwrap().settings
    }

    /// Nobody may ask for what they might not, neither before the restart that all of it waits for
    /// nor over a connection that they have.
    #[test]
    fn who_may_ask_is_taken_over_as_a_whole() {
        let token = "token_file = 'Cargo.toml'";
        let pair = "tls.cert_file = 'tests/data/door.pem'\ntls.key_file = 'tests/data/door.key'";
        let asks = "tls.client_ca_file = 'tests/data/door.pem'\ntls.client_auth = 'required'";
        let all = |listen: &str, lines: &[&str]| {
            format!("[admin]\nlisten = '{listen}:1'\n{}", lines.join("\n"))
        };
        let (here, open) = ("127.0.0.1", "0.0.0.0");
        for (old, new, waits) in [
            // From a port that others reach.
            (all(open, &[token]), all(here, &[]), true),
            (all(open, &[token]), all(open, &[token, pair]), true),
            (all(open, &[token]), all(open, &[pair, asks]), true),
            (all(open, &[pair, asks]), all(here, &[]), true),
            (all(open, &[pair, asks]), all(here, &[pair]), true),
            (all(open, &[pair, token]), all(open, &[pair, asks]), true),
            (all(open, &[pair, token]), all(open, &[pair, asks, token]), false),
            (all(open, &[pair, asks, token]), all(open, &[pair, asks]), false),
            (all(open, &[pair, asks]), all(open, &[pair, token]), false),
            (all(here, &[pair]), all(here, &[pair, asks]), false),
        ] {
            let (old, new) = (written(&old), written(&new));
            let Reloaded { settings, changed, pending } = old.reload(&new);
            assert_eq!((changed.is_empty(), !pending.is_empty()), (waits, waits), "{pending:?}");
            let expected = if waits { &old.admin } else { &new.admin };
            assert_eq!(format!("{:?}", settings.admin.tls), format!("{:?}", expected.tls));
            assert_eq!(settings.admin.operator.is_some(), expected.operator.is_some());
        }
    }

    #[test]
    fn versions_of_rules_and_exceptions_change_but_for_the_first() {
        let old = written("keys.version = 'v1'\nrules = [{ match = 'a:*', version = 'v3' }]");
        let new = written(
            "keys.version = 'v2'\nkeys.exclude = ['b:*']\n\
             rules = [{ match = 'a:*', version = 'v4' }]",
        );
        let Reloaded { settings, changed, pending } = old.reload(&new);
        assert_eq!(changed, ["keys.version", "keys.exclude", "rules"]);
        assert!(pending.is_empty(), "{pending:?}");
        assert_eq!(
            [b"a:1", b"b:1", b"c:1"].map(|key| settings.names.name(key)),
            [b"v4:a:1".to_vec(), b"b:1".to_vec(), b"v2:c:1".to_vec(),]
        );
        // A version that waits for a restart takes no rule with it.
        let (none, first) =
            (written(""), written("keys.version = 'v1'\nrules = [{ match = 'a' }]"));
        let Reloaded { settings, changed, pending } = none.reload(&first);
        assert_eq!((changed, pending), (vec!["rules"], vec!["keys.version"]));
        assert!(settings.names.is_empty() && settings.rules.len() == 1);
        // One that a rule would be the first to have does.
        let first = written("rules = [{ match = 'a', version = 'v3' }]");
        let Reloaded { settings, changed, pending } = none.reload(&first);
        assert_eq!((changed, pending), (vec![], vec!["rules"]));
        assert!(settings.names.is_empty() && settings.rules.is_empty());
        // Who is kept to the prefix until a restart gets no key beyond it before.
        let tenant = written("keys = { prefix = 't', tenant_mode = true }");
        let free = written("keys = { prefix = 't', exclude = ['b:*'] }");
        let Reloaded { settings, changed, pending } = tenant.reload(&free);
        assert_eq!((changed, pending), (vec![], vec!["keys.exclude", "keys.tenant_mode"]));
        assert_eq!(settings.names.name(b"b:1"), b"t:b:1");
        // Another version keeps what the rules say.
        let switched = old.with_version("v9").unwrap();
        assert_eq!(switched.names.name(b"a:1"), b"v3:a:1");
        assert_eq!(switched.names.name(b"c:1"), b"v9:c:1");
    }
}
