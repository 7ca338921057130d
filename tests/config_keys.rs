//! Every key of the configuration: what is said of it is true, it is in every place where keys are
//! listed, and some test sees what it does.
//!
//! `UPDATE=1 cargo test --test config_keys` writes `docs/configuration.md` and
//! `proxy.schema.json` anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use nearside::config::key::{Applies, BuiltIn, Key};
use nearside::config::{self, Loaded, Settings, reference, written};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Keys, a file in which they are not as built in, and the test that sees what that does: its
/// file, and its name. `[[rules]]` stand last.
const SEEN: &[(&[&str], &str, &str, &str)] = &[
    (&["mode"], "mode = 'bypass'", "metrics.rs", "modes"),
    (&["instance"], "instance = 'me'", KEYS, "upstream_is_entered_as_the_keys_say"),
    (&["region"], "region = 'eu'", KEYS, "whose_log_and_message_it_is_is_told"),
    (&["server.listen"], "server.listen = ['unix:/s']", "metrics.rs", "doors"),
    (&["server.workers"], "server.workers = 7", "metrics.rs", "everyday"),
    (&["server.max_clients"], "server.max_clients = 77", "metrics.rs", "doors"),
    (&["server.idle_timeout"], "server.idle_timeout = '1h 30m'", "metrics.rs", "endings"),
    (&["server.tcp_keepalive"], "server.tcp_keepalive = '77s'", KEYS, "doors_are_as_the_keys_say"),
    (&["server.tcp_backlog"], "server.tcp_backlog = 77", KEYS, "doors_are_as_the_keys_say"),
    (&["server.max_request_size"], "server.max_request_size = '1mb'", KEYS, "requests_have_limits"),
    (&["server.max_args"], "server.max_args = 5", KEYS, "requests_have_limits"),
    (
        &["server.client_output_limit"],
        "server.client_output_limit = 70001",
        "metrics.rs",
        "endings",
    ),
    (
        &["server.max_clients_memory"],
        "server.max_clients_memory = '77mb'",
        KEYS,
        "who_takes_nothing_for_longest_makes_room",
    ),
    (
        &["server.max_pipeline"],
        "server.max_pipeline = 8",
        "anomalies/pipelines.rs",
        "requests_in_flight_per_client_are_bounded",
    ),
    (
        &["server.unix_permissions"],
        "server.unix_permissions = '0700'",
        KEYS,
        "doors_are_as_the_keys_say",
    ),
    (
        &["server.proxy_command"],
        "server.proxy_command = 'NEAR'",
        "real/proxy_commands.rs",
        "the_word_is_configured_and_the_rights_too",
    ),
    (
        &["server.proxy_protocol"],
        "server.proxy_protocol = true",
        TLS,
        "a_load_balancer_says_who_the_client_is",
    ),
    (
        &["server.handshake_timeout"],
        "server.handshake_timeout = '7s'",
        TLS,
        "handshakes_that_never_end",
    ),
    (&["server.max_handshakes"], "server.max_handshakes = 7", TLS, "handshakes_that_never_end"),
    (
        &["server.handover"],
        "server.handover = '/tmp/nearside-handover.sock'",
        "real/handover.rs",
        "what_is_no_nearside_gives_nothing",
    ),
    (
        &["server.tls.listen"],
        "server.tls.listen = ['127.0.0.1:7']\nserver.tls.cert_file = 'tests/data/door.pem'\n\
         server.tls.key_file = 'tests/data/door.key'",
        TLS,
        "clients_by_tls",
    ),
    (
        &["server.tls.cert_file", "server.tls.key_file"],
        "server.tls.cert_file = 'a'\nserver.tls.key_file = 'b'",
        TLS,
        "certificates_are_exchanged_while_clients_ask",
    ),
    (
        &["server.tls.client_ca_file", "server.tls.client_auth"],
        "server.tls.client_ca_file = 'tests/data/door.pem'\nserver.tls.client_auth = 'optional'",
        TLS,
        "clients_by_tls",
    ),
    (&["server.tls.min_version"], "server.tls.min_version = '1.3'", TLS, "tls_as_the_keys_say"),
    (
        &["auth.mode", "auth.password"],
        "auth.mode = 'static'\nauth.password = 'x'",
        "real/doors.rs",
        "clients_give_a_password_as_to_redis",
    ),
    (
        &["auth.mode", "auth.password_file"],
        "auth.mode = 'static'\nauth.password_file = 'Cargo.toml'",
        KEYS,
        "a_password_stands_in_a_file",
    ),
    (
        &["auth.cache_ttl"],
        "auth.cache_ttl = '1s'",
        PASSTHROUGH,
        "a_verdict_holds_for_as_long_as_said",
    ),
    (
        &["auth.acl_poll", "auth.acl_proof_ttl"],
        "auth.acl_poll = '2s'\nauth.acl_proof_ttl = '3s'",
        PASSTHROUGH,
        "how_long_an_entry_proves_a_right",
    ),
    (
        &["auth.max_failures_per_minute", "auth.max_identities"],
        "auth.max_failures_per_minute = 7\nauth.max_identities = 7",
        PASSTHROUGH,
        "logins_have_bounds",
    ),
    (
        &["auth.users.password_sha256"],
        "auth.mode = 'static'\nauth.users = [{ name = 'a', password_sha256 = \
         ['e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'] }]",
        "real/doors.rs",
        "users_of_the_configuration",
    ),
    (
        &["auth.users.key_patterns", "auth.users.commands"],
        "auth.mode = 'static'\nauth.users = [{ name = 'a', password_sha256 = \
         ['e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'], \
         key_patterns = ['a*', '%R~b*'], commands = ['+@read', '-get'] }]",
        "real/user_rights.rs",
        "errors_and_transactions_are_the_servers",
    ),
    (
        &["auth.users.name", "auth.users.role"],
        "auth.mode = 'passthrough'\nauth.users = [{ name = 'a', role = 'operator' }]",
        PASSTHROUGH,
        "operators_are_named",
    ),
    (&["upstream.url"], "upstream.url = 'redis://h:7/2'", "cli.rs", "validate_knows_good_from_bad"),
    (
        &["upstream.username"],
        "upstream.username = 'u'",
        KEYS,
        "upstream_is_entered_as_the_keys_say",
    ),
    (
        &["upstream.password"],
        "upstream.password = 'p'",
        KEYS,
        "upstream_is_entered_as_the_keys_say",
    ),
    (
        &["upstream.password_file"],
        "upstream.password_file = 'Cargo.toml'",
        KEYS,
        "a_password_stands_in_a_file",
    ),
    (&["upstream.database"], "upstream.database = 3", KEYS, "upstream_is_entered_as_the_keys_say"),
    (&["upstream.connect_timeout"], "upstream.connect_timeout = '7s'", "metrics.rs", "connects"),
    (&["upstream.request_timeout"], "upstream.request_timeout = '7s'", "metrics.rs", "outage"),
    (&["upstream.write_timeout"], "upstream.write_timeout = '7s'", KEYS, "a_write_has_its_limit"),
    (&["upstream.dedicated_max"], "upstream.dedicated_max = 7", "metrics.rs", "own_links"),
    (&["upstream.reconnect_wait"], "upstream.reconnect_wait = '7s'", "metrics.rs", "outage"),
    (
        &["upstream.on_down"],
        "upstream.on_down = 'error'",
        "real/doors.rs",
        "a_wrong_upstream_password_is_named",
    ),
    (&["upstream.tls.ca_file"], "upstream.tls.ca_file = 'a'", "real/doors.rs", "upstream_by_tls"),
    (
        &["upstream.tls.cert_file", "upstream.tls.key_file"],
        "upstream.tls.cert_file = 'a'\nupstream.tls.key_file = 'b'",
        KEYS,
        "both_sides_show_certificates",
    ),
    (
        &["upstream.tls.server_name"],
        "upstream.tls.server_name = 'n'",
        KEYS,
        "both_sides_show_certificates",
    ),
    (
        &["upstream.tls.insecure_skip_verify"],
        "upstream.tls.insecure_skip_verify = true",
        KEYS,
        "both_sides_show_certificates",
    ),
    (&["keys.prefix"], "keys.prefix = 'p'", KEYS, "keys_have_prefix_version_separator"),
    (
        &["keys.version_source", "keys.version_key"],
        "keys.version = 'v1'\nkeys.version_source = 'upstream'\nkeys.version_key = 'the:key'\n\
         invalidation.tracking = 'broadcast'",
        "real/fleet.rs",
        "a_fleet_begins_with_what_stands_upstream_and_switches_together",
    ),
    (&["keys.version"], "keys.version = 'v7'", KEYS, "keys_have_prefix_version_separator"),
    (
        &["keys.separator"],
        "keys.separator = '/'\nkeys.prefix = 'q'",
        KEYS,
        "keys_have_prefix_version_separator",
    ),
    (
        &["keys.exclude"],
        "keys.version = 'v1'\nkeys.exclude = ['lock:*']",
        "real/names.rs",
        "a_switch_leaves_a_rules_version_and_a_reload_changes_it",
    ),
    (
        &["keys.tenant_mode"],
        "keys.prefix = 'p'\nkeys.tenant_mode = true",
        "real/tenant.rs",
        "what_is_its_own_is_served",
    ),
    (
        &["keys.max_key_length", "keys.forbidden_bytes"],
        "keys.max_key_length = 7\nkeys.forbidden_bytes = ['control']",
        BOUNDS,
        "a_key_is_as_its_rule_has_it",
    ),
    (&["cache.max_memory"], "cache.max_memory = '7mb'", "metrics.rs", "memory"),
    (
        &["cache.max_entries"],
        "cache.max_entries = 7",
        KEYS,
        "keys_are_bounded_and_do_not_end_together",
    ),
    (
        &["cache.ttl_jitter"],
        "cache.ttl_jitter = 0.25",
        KEYS,
        "keys_are_bounded_and_do_not_end_together",
    ),
    (&["cache.max_value_size"], "cache.max_value_size = 7777", KEYS, "cache_and_rules_bound"),
    (&["cache.ttl"], "cache.ttl = '24h'", KEYS, "cache_and_rules_bound"),
    (&["cache.negative_ttl"], "cache.negative_ttl = '7s'", KEYS, "cache_and_rules_bound"),
    (&["cache.level"], "cache.level = 'ttl'", KEYS, "cache_and_rules_bound"),
    (&["cache.max_staleness"], "cache.max_staleness = '7s'", "metrics.rs", "shared_reads"),
    (&["cache.ttl_probe"], "cache.ttl_probe = 'never'", KEYS, "cache_and_rules_bound"),
    (&["cache.admission"], "cache.admission = 'always'", KEYS, "cache_and_rules_bound"),
    (&["cache.commands"], "cache.commands = ['GET', 'HGET']", "metrics.rs", "rules"),
    (&["cache.max_variants"], "cache.max_variants = 7", KEYS, "replies_of_one_key_are_counted"),
    (&["cache.hash_max_ttl"], "cache.hash_max_ttl = '7s'", KEYS, "cache_and_rules_bound"),
    (
        &["cache.verify"],
        "cache.verify = 'strict'",
        "anomalies/verify.rs",
        "strict_delivers_nothing_before_the_canary",
    ),
    (
        &["cache.script_barrier"],
        "cache.script_barrier = true",
        "anomalies/barriers.rs",
        "a44_what_a_script_did_beyond_its_keys_is_seen_behind_it",
    ),
    (
        &["cache.multi_key"],
        "cache.multi_key = 'bypass'",
        "anomalies/fills.rs",
        "a45_an_mget_of_one_moment_is_asked_of_upstream",
    ),
    (
        &["cache.whole_key"],
        "cache.whole_key = true",
        "anomalies/barriers.rs",
        "a46_replies_of_one_key_are_of_one_moment",
    ),
    (
        &["cache.shadow_checks"],
        "cache.shadow_checks = 77",
        "anomalies/shadows.rs",
        "a_hit_that_upstream_has_otherwise_is_counted_for_as_long_as_it_is_served",
    ),
    (
        &["cache.touch"],
        "cache.touch = 77",
        "anomalies/shadows.rs",
        "keys_of_hits_are_touched_upstream",
    ),
    (&["cache.stale_if_error"], "cache.stale_if_error = '7s'", KEYS, ENDS),
    (&["cache.grace"], "cache.grace = '7s'", KEYS, ENDS),
    (
        &["cache.fill_lease"],
        "cache.fill_lease = '7s'",
        "real/leases.rs",
        "one_computes_and_all_others_get_its_value",
    ),
    (&["cache.refresh_ahead"], "cache.refresh_ahead = 0.25", KEYS, ENDS),
    (&["cache.sweep_interval"], "cache.sweep_interval = '7s'", "metrics.rs", "orders"),
    (&["invalidation.tracking"], "invalidation.tracking = 'off'", "metrics.rs", "modes"),
    (
        &["invalidation.written_canary"],
        "invalidation.written_canary = true",
        "real/canary.rs",
        "a_written_canary_proves_the_link_and_is_hidden",
    ),
    (
        &["invalidation.channel"],
        "invalidation.channel = ''",
        KEYS,
        "peers_are_told_as_the_keys_say",
    ),
    (
        &["invalidation.publish"],
        "invalidation.publish = false",
        KEYS,
        "peers_are_told_as_the_keys_say",
    ),
    (
        &["invalidation.groups"],
        "invalidation.groups = { library = ['library:*', 'book'] }",
        CHANNEL,
        "groups_are_forgotten_by_their_name",
    ),
    (
        &["invalidation.events.channel", "invalidation.events.patterns"],
        "invalidation.events = [{ channel = 'events:saved', patterns = ['a:{id}:*', '{{b}}'] }]",
        CHANNEL,
        "events_of_applications_are_understood",
    ),
    (
        &["invalidation.secret_file"],
        "invalidation.secret_file = 'Cargo.toml'",
        CHANNEL,
        "signed_messages_alone_are_obeyed",
    ),
    (&["invalidation.max_bans"], "invalidation.max_bans = 77", "metrics.rs", "orders"),
    (
        &["invalidation.max_skew"],
        "invalidation.max_skew = '77s'",
        CHANNEL,
        "signed_messages_alone_are_obeyed",
    ),
    (
        &["invalidation.events.signed", "invalidation.secret_file"],
        "invalidation.secret_file = 'Cargo.toml'\n\
         invalidation.events = [{ channel = 'c', patterns = 'a', signed = true }]",
        CHANNEL,
        "signed_messages_alone_are_obeyed",
    ),
    (
        &["invalidation.sources.name", "invalidation.sources.url"],
        "invalidation.sources = [{ name = 'eu', url = 'redis://h:7' }]",
        CHANNEL,
        SOURCES,
    ),
    (
        &["invalidation.sources.username", "invalidation.sources.password_file"],
        "invalidation.sources = [{ name = 'eu', url = 'redis://h', username = 'u', \
         password_file = 'Cargo.toml' }]",
        CHANNEL,
        SOURCES,
    ),
    (
        &["invalidation.sources.password"],
        "invalidation.sources = [{ name = 'eu', url = 'unix:/s', password = 'p' }]",
        CHANNEL,
        SOURCES,
    ),
    (
        &["commands.profile"],
        "commands.profile = 'hardened'",
        "cli.rs",
        "the_table_of_commands_follows_the_configuration",
    ),
    (
        &["commands.allow"],
        "commands.allow = ['DEBUG', 'module']",
        "cli.rs",
        "the_table_of_commands_follows_the_configuration",
    ),
    (
        &["commands.deny"],
        "commands.deny = ['CONFIG|SET', 'memory']",
        "cli.rs",
        "the_table_of_commands_follows_the_configuration",
    ),
    (
        &["commands.unknown", "commands.specs"],
        "commands.unknown = 'learn'\ncommands.specs = { 'A.B' = 'none', 'J.F' = 'i1..-2' }",
        "config.rs",
        "commands_are_named_as_people_name_them",
    ),
    (&["scripts.policy"], "scripts.policy = 'allow'", "config.rs", "scripts_are_allowed_by_name"),
    (
        &["scripts.allow"],
        "scripts.allow = ['function:f']",
        "config.rs",
        "scripts_are_allowed_by_name",
    ),
    (&["scripts.memory"], "scripts.memory = '7mb'", KEYS, "texts_of_scripts_are_kept"),
    (
        &["hotkeys.enabled"],
        "hotkeys.enabled = false",
        "real/figures.rs",
        "keys_are_hashed_unless_asked_and_not_noted_if_not_wanted",
    ),
    (&["hotkeys.capacity"], "hotkeys.capacity = 7", KEYS, "hot_keys_are_noted_as_the_keys_say"),
    (
        &["hotkeys.half_life"],
        "hotkeys.half_life = '7s'",
        KEYS,
        "hot_keys_are_noted_as_the_keys_say",
    ),
    (&["hotkeys.sample"], "hotkeys.sample = 7", KEYS, "hot_keys_are_noted_as_the_keys_say"),
    (
        &["hotkeys.show_keys"],
        "hotkeys.show_keys = 'plain'",
        "real/figures.rs",
        "hot_keys_say_how_they_are_served",
    ),
    (&["admin.listen"], "admin.listen = 'off'", "cli.rs", "ports_in_use_are_named"),
    (
        &["admin.token_file"],
        "admin.token_file = 'Cargo.toml'",
        "cli.rs",
        "a_running_proxy_is_told_what_to_do",
    ),
    (
        &["admin.readonly_token_file"],
        "admin.readonly_token_file = 'Cargo.toml'",
        "cli.rs",
        "a_running_proxy_is_told_what_to_do",
    ),
    (
        &["admin.allowed_hosts"],
        "admin.allowed_hosts = ['h']",
        KEYS,
        "the_admin_port_is_as_the_keys_say",
    ),
    (
        &["admin.show_values"],
        "admin.show_values = true",
        "real/lookups.rs",
        "values_are_told_where_they_may_be",
    ),
    (
        &["admin.tls.cert_file", "admin.tls.key_file"],
        "admin.tls.cert_file = './tests/data/door.pem'\n\
         admin.tls.key_file = './tests/data/door.key'",
        HTTPS,
        "operators_certificates_are_exchanged_while_a_stream_is_open",
    ),
    (
        &["admin.tls.client_ca_file", "admin.tls.client_auth"],
        "admin.tls.cert_file = 'tests/data/door.pem'\nadmin.tls.key_file = 'tests/data/door.key'\n\
         admin.tls.client_ca_file = 'tests/data/door.pem'\nadmin.tls.client_auth = 'optional'",
        HTTPS,
        "operators_show_certificates",
    ),
    (
        &["admin.tls.min_version"],
        "admin.tls.cert_file = 'tests/data/door.pem'\nadmin.tls.key_file = 'tests/data/door.key'\n\
         admin.tls.min_version = '1.3'",
        HTTPS,
        "operators_show_certificates",
    ),
    (&["metrics.enabled"], "metrics.enabled = false", KEYS, PAGE),
    (&["metrics.path"], "metrics.path = '/m'", KEYS, "the_admin_port_is_as_the_keys_say"),
    (&["metrics.listen"], "metrics.listen = '127.0.0.1:9380'", KEYS, PAGE),
    (
        &["metrics.auth", "admin.token_file"],
        "metrics.auth = true\nadmin.token_file = 'Cargo.toml'",
        KEYS,
        PAGE,
    ),
    (&["metrics.max_namespaces"], "metrics.max_namespaces = 7", KEYS, APART),
    (&["metrics.namespaces"], "metrics.namespaces = ['orders', '_root']", KEYS, APART),
    (&["metrics.buckets_seconds"], "metrics.buckets_seconds = [0.0015, 1, 2.5]", KEYS, APART),
    (
        &["log.level"],
        "log.level = 'warn'",
        "metrics.rs",
        "secrets_and_data_stay_out_of_logs_and_metrics",
    ),
    (&["log.format"], "log.format = 'json'", KEYS, "logs_are_text_or_json"),
    (
        &["log.slow_command", "log.slowlog_max"],
        "log.slow_command = '7s'\nlog.slowlog_max = 7",
        "real/figures.rs",
        "what_took_long_is_told_with_who_asked",
    ),
    (
        &["log.keys"],
        "log.keys = 'plain'",
        "real/figures.rs",
        "what_took_long_is_told_with_who_asked",
    ),
    (&["log.rate_limit"], "log.rate_limit = '2/h'", "metrics.rs", "logs"),
    (&["drain.delay"], "drain.delay = '7s'", KEYS, "a_drain_waits_as_long_as_it_may"),
    (&["drain.timeout"], "drain.timeout = '7s'", KEYS, "a_drain_waits_as_long_as_it_may"),
    (&["warming.on_start"], "warming.on_start = true", "real/warm.rs", STARTS),
    (&["warming.ready_when_warm"], "warming.ready_when_warm = true", "real/warm.rs", STARTS),
    (&["warming.ready_timeout"], "warming.ready_timeout = '7s'", KEYS, "a_start_waits_no_longer"),
    (&["warming.rate"], "warming.rate = '7/m'", KEYS, "a_start_waits_no_longer"),
    (&["warming.concurrency"], "warming.concurrency = 7", KEYS, "warm_up_leaves_room"),
    (&["warming.max_memory_ratio"], "warming.max_memory_ratio = 1", KEYS, "warm_up_leaves_room"),
    (
        &["warming.snapshot_file"],
        "warming.snapshot_file = 's'",
        "real/warm.rs",
        "the_keys_of_last_time_are_loaded_again",
    ),
    (
        &["fallback.enabled", "fallback.after"],
        "fallback.enabled = true\nfallback.after = '7s'",
        WITHOUT,
        "it_begins_when_upstream_was_down_for_so_long",
    ),
    (&["fallback.reads"], "fallback.reads = 'nil'", WITHOUT, "what_is_not_kept_is_nil_by_choice"),
    (
        &["fallback.max_stale"],
        "fallback.max_stale = '7s'",
        WITHOUT,
        "what_is_kept_is_served_and_nothing_else",
    ),
    (
        &["fallback.writes", "fallback.accept_data_loss"],
        "fallback.writes = 'memory'\nfallback.accept_data_loss = true",
        WITHOUT,
        "what_is_written_to_memory_is_read_from_there",
    ),
    (
        &["fallback.max_bytes"],
        "fallback.max_bytes = '7mb'",
        "real/fallback.rs",
        "memory_is_bounded_and_what_is_dropped_is_told",
    ),
    (
        &["fallback.on_recovery"],
        "fallback.on_recovery = 'replay'",
        WITHOUT,
        "what_was_written_is_replayed_first",
    ),
    (
        &["write_behind.directory"],
        "write_behind.directory = 'w'",
        BEHIND,
        "a_write_is_acknowledged_without_upstream_and_comes_there_in_its_turn",
    ),
    (
        &["write_behind.ack", "write_behind.accept_data_loss"],
        "write_behind.ack = 'memory'\nwrite_behind.accept_data_loss = true",
        BEHIND,
        "without_a_log_what_waits_is_lost_and_told_of",
    ),
    (
        &["write_behind.flush_interval"],
        "write_behind.flush_interval = '7s'",
        BEHIND,
        "of_writes_that_are_gathered_the_last_is_made",
    ),
    (
        &["write_behind.max_bytes"],
        "write_behind.max_bytes = '7mb'",
        BEHIND,
        "what_has_no_room_is_made_upstream_at_once",
    ),
    (
        &["write_behind.assume_replies"],
        "write_behind.assume_replies = true",
        BEHIND,
        "replies_that_only_upstream_knows_are_assumed_by_choice",
    ),
    (&["warming.popular"], "warming.popular = { a = ['b', 'c'] }", "real/warm.rs", STARTS),
    (
        &["warming.jobs.name", "warming.jobs.keys", "warming.jobs.every"],
        "warming.jobs = [{ name = 'a', keys = ['b'], every = '7s' }]",
        "real/warm.rs",
        STARTS,
    ),
    (
        &[
            "warming.jobs.name",
            "warming.jobs.pattern",
            "warming.jobs.cron",
            "warming.jobs.timezone",
        ],
        "warming.jobs = [{ name = 'a', pattern = 'b', cron = '0 6 * * 1', timezone = 'Asia/Tokyo' }, \
         { name = 'c', keys = ['d'] }]",
        "real/warm.rs",
        STARTS,
    ),
    (&["warming.jobs.file"], "warming.jobs = [{ name = 'a', file = 'b' }]", "real/warm.rs", STARTS),
    (&["rules.match", "rules.level"], "[[rules]]\nmatch = ['a', 'b']\nlevel = 'ttl'", KEYS, CACHE),
    (
        &["rules.version"],
        "[[rules]]\nmatch = 'sub:*'\nversion = 'v3'",
        "real/names.rs",
        "a_switch_leaves_a_rules_version_and_a_reload_changes_it",
    ),
    (
        &["rules.max_staleness"],
        "[[rules]]\nmatch = 'c'\nmax_staleness = '7s'",
        KEYS,
        "each_lease_is_its_rules",
    ),
    (&["rules.ttl"], "[[rules]]\nmatch = 'd'\nttl = '7s'", KEYS, CACHE),
    (&["rules.negative_ttl"], "[[rules]]\nmatch = 'e'\nnegative_ttl = 'off'", KEYS, CACHE),
    (&["rules.max_value_size"], "[[rules]]\nmatch = 'f'\nmax_value_size = 7", KEYS, CACHE),
    (&["rules.ttl_probe"], "[[rules]]\nmatch = 'g'\nttl_probe = 'never'", KEYS, CACHE),
    (&["rules.admission"], "[[rules]]\nmatch = 'h'\nadmission = 'always'", KEYS, CACHE),
    (
        &["rules.write_ttl"],
        "[[rules]]\nmatch = 'j'\nwrite_ttl = '7s'",
        KEYS,
        "what_is_set_for_ever_is_given_an_end",
    ),
    (
        &["rules.write_behind"],
        "[[rules]]\nmatch = 'p'\nlevel = 'relaxed'\nwrite_behind = true\n\
         [write_behind]\ndirectory = 'w'",
        BEHIND,
        "a_write_is_acknowledged_without_upstream_and_comes_there_in_its_turn",
    ),
    (&["rules.hash_max_ttl"], "[[rules]]\nmatch = 'i'\nhash_max_ttl = '7s'", KEYS, CACHE),
    (
        &["rules.multi_key"],
        "[[rules]]\nmatch = 'n'\nmulti_key = 'bypass'",
        "anomalies/fills.rs",
        "a45_an_mget_of_one_moment_is_asked_of_upstream",
    ),
    (
        &["rules.whole_key"],
        "[[rules]]\nmatch = 'o'\nwhole_key = true",
        "anomalies/barriers.rs",
        "a46_replies_of_one_key_are_of_one_moment",
    ),
    (&["rules.stale_if_error"], "[[rules]]\nmatch = 'k'\nstale_if_error = '7s'", KEYS, ENDS),
    (&["rules.grace"], "[[rules]]\nmatch = 'l'\ngrace = '7s'", KEYS, ENDS),
    (
        &["rules.fill_lease"],
        "[[rules]]\nmatch = 'l'\nfill_lease = '7s'",
        "real/leases.rs",
        "what_cannot_be_is_told",
    ),
    (&["rules.refresh_ahead"], "[[rules]]\nmatch = 'm'\nrefresh_ahead = 0.25", KEYS, ENDS),
    (
        &["rules.max_key_length", "rules.forbidden_bytes"],
        "[[rules]]\nmatch = 'n'\nmax_key_length = 7\nforbidden_bytes = ['{']",
        BOUNDS,
        "a_key_is_as_its_rule_has_it",
    ),
];

/// Where keys are refused that may not be named.
const BOUNDS: &str = "real/bounds.rs";

/// Sees what is served past its time, and read anew before.
const ENDS: &str = "what_ends_is_served_and_read_anew_as_the_keys_say";

/// Where keys are tested that no other test is about.
const KEYS: &str = "real/config_keys.rs";

/// Where something stands in for upstream.
const WITHOUT: &str = "anomalies/fallback.rs";

/// Where writes are acknowledged before upstream has them.
const BEHIND: &str = "real/behind.rs";

/// Where clients come in by TLS, or by a load balancer.
const TLS: &str = "real/tls.rs";
/// Where operators come in by it.
const HTTPS: &str = "real/admin_tls.rs";
const PASSTHROUGH: &str = "real/passthrough.rs";

/// There, who sees the page of metrics, and what it tells apart.
const PAGE: &str = "the_page_of_metrics_is_as_the_keys_say";
const APART: &str = "metrics_tell_apart_what_the_keys_say";

/// Where messages about what is to be forgotten are tested, and there, other servers.
const CHANNEL: &str = "real/channel.rs";
const SOURCES: &str = "other_servers_are_listened_to_and_their_loss_is_seen";

/// What is loaded at the start, by a schedule and by name.
const STARTS: &str = "at_the_start_by_a_schedule_and_by_name";

/// There, what `[cache]` and `[[rules]]` have in common.
const CACHE: &str = "cache_and_rules_bound";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(text: &str) -> Loaded {
    config::load_text(Path::new("t.toml"), text.to_owned())
        .unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// Everything that the house uses of it, without the table that is only shown.
fn used(mut settings: Settings) -> String {
    settings.values.clear();
    format!("{settings:?}")
}

/// The keys of a schema's properties, in full.
fn walk(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    let table = schema.get("items").filter(|items| items.get("properties").is_some());
    match table.unwrap_or(schema).get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (name, property) in properties {
                let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(property, &full, keys);
            }
        }
        None => {
            keys.insert(path.to_owned());
        }
    }
}

#[test]
fn every_key_is_seen_by_a_test_that_is_there() {
    let mut keys = BTreeSet::new();
    walk(&reference::schema(), "", &mut keys);
    let listed: BTreeSet<String> = written::keys().map(|key| key.path.to_owned()).collect();
    assert_eq!(keys, listed, "the schema and the list of keys");
    let seen: BTreeSet<String> =
        SEEN.iter().flat_map(|row| row.0).map(|key| (*key).to_owned()).collect();
    let unseen: Vec<_> = keys.difference(&seen).collect();
    assert!(unseen.is_empty(), "no test sees what {unseen:?} do: add a row, and the test");
    assert_eq!(keys, seen, "rows of keys that are gone");
    for (keys, _, file, test) in SEEN {
        let text = fs::read_to_string(root("tests").join(file)).unwrap();
        let body = text.split(&format!("fn {test}(")).nth(1);
        let body = body.unwrap_or_else(|| panic!("{file} has no {test}"));
        let body = body.split("\n}\n").next().unwrap();
        for key in *keys {
            let name = key.rsplit('.').next().unwrap();
            // A level, a mode and an address are set by other words, too.
            assert!(body.contains(name), "{test} in {file} does not name {key}");
        }
    }
}

#[test]
fn what_a_row_sets_is_not_built_in_and_valid() {
    let schema = reference::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let as_json = |text: &str| serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    for (keys, text, ..) in SEEN {
        let plain = if text.starts_with("[[rules") { "[[rules]]\nmatch = 'a'" } else { "" };
        let (with, without) = (load(text).settings, load(plain).settings);
        assert_ne!(used(with), used(without), "{keys:?}: the settings do not change");
        if let Err(error) = validator.validate(&as_json(text)) {
            panic!("{text}: {error}");
        }
    }
    validator.validate(&as_json(&fs::read_to_string(root("proxy.toml")).unwrap())).unwrap();
    for wrong in [
        "modus = 'cache'",
        "mode = 'cahce'",
        "server.workers = 'two'",
        "cache.ttl = 5",
        "cache.ttl = '5 parsecs'",
        "cache.max_memory = '64m'",
        "cache.commands = 'some'",
        "upstream.tls.ca = 'a'",
        "[[rules]]\nmatch = 5",
    ] {
        assert!(!validator.is_valid(&as_json(wrong)), "the schema lets {wrong} pass");
    }
}

#[test]
fn what_is_said_to_be_built_in_is() {
    let nothing = load("").settings;
    for key in written::keys().filter(|key| key.list().is_none()) {
        let BuiltIn::Toml(value) = key.built_in else { continue };
        let said = load(&format!("{} = {value}", key.path)).settings;
        assert_eq!(used(said), used(nothing.clone()), "{} is not {value}", key.path);
    }
}

/// What is said to be felt at once is taken over by a reload, and what waits is not.
#[test]
fn what_a_reload_takes_over_is_as_said() {
    for (keys, text, ..) in SEEN {
        // Whether keys are named at all is for a restart, so there is a version before.
        let is_versioned = text.contains("version") && !text.contains("min_version");
        // So is whether the admin port speaks HTTPS: it does before.
        let is_https = text.contains("admin.tls.");
        let base = match (is_versioned, is_https) {
            // Where the log lies, too.
            _ if text.contains("[write_behind]") => "write_behind.directory = 'w'",
            (true, _) => "keys.version = 'v1'",
            (_, true) => {
                "admin.tls.cert_file = 'tests/data/door.pem'\n\
                 admin.tls.key_file = 'tests/data/door.key'"
            }
            _ => "",
        };
        let (old, new) = (load(base).settings, load(text).settings);
        let reloaded = old.reload(&new);
        let applies = |path: &str| written::keys().find(|key| key.path == path).unwrap().applies;
        let waits = keys.iter().all(|key| applies(key) == Applies::Restart);
        let is_mixed = keys.iter().any(|key| applies(key) == Applies::Restart) && !waits;
        assert!(!is_mixed, "{keys:?}");
        assert_eq!(reloaded.pending.is_empty(), !waits, "{keys:?}: {:?}", reloaded.pending);
        assert_eq!(reloaded.changed.is_empty(), waits, "{keys:?}: {:?}", reloaded.changed);
        // And it is shown as it is.
        let in_force = if waits { old.shown() } else { new.shown() };
        assert_eq!(reloaded.settings.shown(), in_force, "{keys:?}");
    }
}

/// A checked-in text: compared, or written anew.
fn checked_in(file: &str, text: &str) {
    let path = root(file);
    if env::var_os("UPDATE").is_some() {
        fs::write(path, text).unwrap();
    } else {
        let is = fs::read_to_string(&path).unwrap_or_default();
        assert!(is == text, "{file} is old: UPDATE=1 cargo test --test config_keys");
    }
}

#[test]
fn the_reference_and_the_schema_are_those_checked_in() {
    checked_in("docs/configuration.md", &reference::markdown());
    checked_in("proxy.schema.json", &format!("{:#}\n", reference::schema()));
}

/// The parts of a cell, divided at commas that are not within brackets or quotes.
fn parts(cell: &str) -> Vec<String> {
    let (mut parts, mut depth, mut is_quoted) = (vec![String::new()], 0, false);
    for c in cell.chars().filter(|c| *c != '`') {
        match c {
            '"' => is_quoted = !is_quoted,
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 && !is_quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// Keys of README's table in full, with what it says is built in.
fn readme() -> BTreeMap<String, String> {
    let readme = fs::read_to_string(root("README.md")).unwrap();
    let section = readme.split("\n## Configuration\n").nth(1).unwrap();
    let lines = section.split("\n## ").next().unwrap().lines();
    let mut keys = BTreeMap::new();
    for row in lines.filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).skip(1).collect();
        let [names, built_in, meaning, ..] = cells[..] else { panic!("{row}") };
        if let Some(list) = names.strip_prefix("`[[").and_then(|rest| rest.strip_suffix("]]`")) {
            let words = meaning.split('`').skip(1).step_by(2).filter(|word| !word.contains(' '));
            keys.extend(words.map(|key| (format!("{list}.{key}"), String::new())));
            continue;
        }
        let mut table = "";
        let mut full = Vec::new();
        for name in names.split('`').skip(1).step_by(2) {
            match name.rsplit_once('.') {
                Some((before, _)) => {
                    table = before;
                    full.push(name.to_owned());
                }
                None if table.is_empty() => full.push(name.to_owned()),
                None => full.push(format!("{table}.{name}")),
            }
        }
        let mut built_in = parts(built_in);
        if let [all] = &built_in[..] {
            built_in = vec![all.clone(); full.len()];
        }
        assert_eq!(full.len(), built_in.len(), "{row}");
        keys.extend(full.into_iter().zip(built_in));
    }
    keys
}

#[test]
fn readme_has_every_key_and_what_is_built_in() {
    let said = |key: &Key| match key.built_in {
        _ if key.list().is_some() => String::new(),
        BuiltIn::Nothing => "none".to_owned(),
        other => other.as_str().replace('`', ""),
    };
    let all: BTreeMap<String, String> =
        written::keys().map(|key| (key.path.to_owned(), said(key))).collect();
    assert_eq!(readme(), all);
}

/// What `config show` prints as TOML.
fn shown(folder: &Path, text: &str) -> String {
    fs::write(folder.join("proxy.toml"), text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_nearside"))
        .args(["config", "show", "--config"])
        .arg(folder.join("proxy.toml"))
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn is_secret(text: &str) -> bool {
    text.contains("password = ")
}

/// What does not go with something else.
const APART_FROM: &[(&str, &str)] = &[
    ("fallback.enabled = true", "auth.mode = 'passthrough'"),
    ("write_behind", "auth.mode = 'passthrough'"),
    ("write_behind", "fallback.writes = 'memory'"),
    ("write_behind", "server.handover"),
    ("[write_behind]", "write_behind."),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What is shown is the same configuration again, in any choice of keys.
    #[test]
    fn what_is_shown_can_be_used_again(
        chosen in prop::sample::subsequence(SEEN.to_vec(), 0..SEEN.len()),
    ) {
        let mut set = BTreeSet::new();
        // No key twice, and nothing that is not shown.
        let rows = chosen.iter().filter(|row| {
            // What stands in for upstream knows no users, and so on.
            let chosen = |what: &str| chosen.iter().any(|row| row.1.contains(what));
            if APART_FROM.iter().any(|(one, other)| row.1.contains(one) && chosen(other)) {
                return false;
            }
            // And who is kept to the prefix gets nothing that leads beyond it.
            let beyond = ["exclude", "version_source", "commands.unknown", "scripts.policy"];
            if row.1.contains("tenant_mode") && beyond.into_iter().any(chosen) {
                return false;
            }
            let lines = row.1.lines().filter(|line| line.contains(" = ") && !row.1.starts_with('['));
            let keys: Vec<&str> = lines.map(|line| line.split(' ').next().unwrap()).collect();
            let is_new = keys.iter().all(|key| !set.contains(key)) && !is_secret(row.1);
            if is_new {
                set.extend(keys);
            }
            is_new
        });
        let text = rows.map(|row| row.1).collect::<Vec<_>>().join("\n");
        let folder = tempfile::TempDir::new().unwrap();
        let again = shown(folder.path(), &text);
        let (first, second) = (load(&text).settings, load(&again).settings);
        prop_assert_eq!(first.shown(), second.shown());
        prop_assert_eq!(first.digest(), second.digest());
        prop_assert_eq!(used(first), used(second));
    }
}

#[test]
fn who_wrote_a_value_is_shown_and_no_secret_is() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("t.toml");
    let text = "[cache]\nttl = '5s'\n[auth]\nmode = 'static'\npassword = 'hunter2'\n\
                [[rules]]\nmatch = 'a'\n";
    fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nearside"));
    command.env_clear().env("NEARSIDE_CACHE__NEGATIVE_TTL", "2s").arg("--config").arg(&file);
    command.env("REDIS_URL", "redis://me:hunter2@db:1");
    command.args(["--set", "cache.max_variants=3", "--workers", "5", "config", "show", "--diff"]);
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let shown = file.display();
    for line in [
        "workers = 5 # --workers",
        "mode = \"static\" # FILE:4",
        "# password = \"***\" # FILE:5",
        "url = \"redis://me:***@db:1\" # environment variable REDIS_URL",
        "ttl = \"5s\" # FILE:2",
        "negative_ttl = \"2s\" # environment variable NEARSIDE_CACHE__NEGATIVE_TTL",
        "max_variants = 3 # --set cache.max_variants",
        "[[rules]]",
        "match = \"a\" # FILE:7",
    ] {
        let line = line.replace("FILE", &shown.to_string());
        assert!(lines.contains(&line), "no {line} in\n{out}");
    }
    assert!(!out.contains("hunter2") && !out.contains("max_clients"), "{out}");

    let output = command.args(["--format", "json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["rules[0].match"]["origin"], format!("{shown}:7"));
    assert_eq!(json["auth.password"]["value"], "***");
    assert_eq!(json["server.workers"]["value"], 5);

    let shown = command.env("POD_NAME", "pod-7").args(["--format", "toml"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(!shown.contains("pod-7"), "it is as built in: {shown}");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nearside"));
    let shown = command.env("POD_NAME", "pod-7").args(["config", "show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("instance = \"pod-7\""), "{shown}");
}
