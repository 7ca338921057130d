//! The settings in force as text: what `CONFIG GET proxy.*` tells. No secrets.

use crate::config::{Rule, Settings};
use crate::units::duration::Span;
use crate::units::size::Size;
use std::time::Duration;

impl Settings {
    /// Every setting by its name in proxy.toml, but for secrets, files and `[[rules]]`.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("mode", self.mode.as_str().to_owned()),
            ("instance", self.instance.clone()),
            ("auth.mode", if self.password.is_some() { "static" } else { "none" }.to_owned()),
            ("keys.version", self.version.clone()),
            ("invalidation.tracking", self.tracking.as_str().to_owned()),
            ("invalidation.channel", self.channel.clone().unwrap_or_default()),
            ("invalidation.publish", self.publish.to_string()),
            ("admin.listen", self.admin.listen.clone().unwrap_or_default()),
            ("metrics.path", self.metrics_path.clone()),
            ("hotkeys.enabled", (self.hot_keys.capacity > 0).to_string()),
            ("hotkeys.capacity", self.hot_keys.capacity.to_string()),
            ("hotkeys.half_life", span(self.hot_keys.half_life)),
            ("hotkeys.show_keys", self.hot_keys.show.as_str().to_owned()),
            ("log.level", self.log.level.clone()),
            ("log.format", self.log.format.as_str().to_owned()),
            ("drain.delay", span(self.drain_delay)),
            ("drain.timeout", span(self.drain_timeout)),
        ];
        all.extend(self.shown_server());
        all.extend(self.shown_upstream());
        all.extend(self.shown_cache());
        all.extend(self.shown_warming());
        all.extend(shown_rule(&self.default_rule));
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    fn shown_server(&self) -> [(&'static str, String); 12] {
        let server = &self.server;
        let listen: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
        [
            ("server.listen", listen.join(" ")),
            ("server.workers", server.workers.to_string()),
            ("server.max_clients", server.max_clients.to_string()),
            ("server.idle_timeout", span(server.idle_timeout)),
            ("server.tcp_keepalive", span(server.tcp_keepalive)),
            ("server.tcp_backlog", server.tcp_backlog.to_string()),
            ("server.max_request_size", size(server.max_request_size)),
            ("server.max_args", server.max_args.to_string()),
            ("server.client_output_limit", size(server.client_output_limit)),
            ("server.max_pipeline", server.max_pipeline.to_string()),
            ("server.unix_permissions", format!("{:04o}", server.unix_permissions)),
            ("server.proxy_command", server.proxy_command.clone()),
        ]
    }

    fn shown_upstream(&self) -> [(&'static str, String); 8] {
        let upstream = &self.upstream;
        [
            ("upstream.url", upstream.target.to_string()),
            ("upstream.database", upstream.target.database.to_string()),
            ("upstream.connect_timeout", span(upstream.connect_timeout)),
            ("upstream.request_timeout", span(upstream.request_timeout)),
            ("upstream.write_timeout", span(upstream.write_timeout)),
            ("upstream.reconnect_wait", span(upstream.reconnect_wait)),
            ("upstream.dedicated_max", upstream.dedicated_max.to_string()),
            ("upstream.on_down", upstream.on_down.as_str().to_owned()),
        ]
    }

    fn shown_cache(&self) -> [(&'static str, String); 4] {
        let cache = &self.cache;
        [
            ("cache.max_memory", Size(cache.max_memory).to_string()),
            ("cache.max_variants", cache.max_variants.to_string()),
            ("cache.sweep_interval", span(cache.sweep_interval)),
            ("cache.commands", cache.commands.as_ref().map_or_else(all, |list| list.join(" "))),
        ]
    }

    fn shown_warming(&self) -> [(&'static str, String); 6] {
        let warming = &self.warming;
        [
            ("warming.on_start", warming.on_start.to_string()),
            ("warming.ready_when_warm", warming.ready_when_warm.to_string()),
            ("warming.ready_timeout", span(warming.ready_timeout)),
            ("warming.rate", warming.rate.to_string()),
            ("warming.concurrency", warming.concurrency.to_string()),
            ("warming.max_memory_ratio", warming.max_memory_ratio.to_string()),
        ]
    }
}

/// What rules inherit.
fn shown_rule(rule: &Rule) -> [(&'static str, String); 8] {
    [
        ("cache.level", rule.level.as_str().to_owned()),
        ("cache.max_staleness", span(rule.max_staleness)),
        ("cache.ttl", span(rule.ttl)),
        ("cache.negative_ttl", span(rule.negative_ttl)),
        ("cache.hash_max_ttl", span(rule.hash_max_ttl)),
        ("cache.max_value_size", size(rule.max_value_size)),
        ("cache.ttl_probe", if rule.ttl_probe { "always" } else { "never" }.to_owned()),
        ("cache.admission", rule.admission.as_str().to_owned()),
    ]
}

fn all() -> String {
    "all".to_owned()
}

fn span(duration: Duration) -> String {
    Span(duration).to_string()
}

fn size(bytes: usize) -> String {
    Size(bytes as u64).to_string()
}
