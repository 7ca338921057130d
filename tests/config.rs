//! The configuration through its front door: text, environment and flags in, settings or words out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearside::command::learned::Strangers;
use nearside::command::{KeySpec, Spec};
use nearside::config::written;
use nearside::config::{
    self, Admission, Level, Loaded, LogFormat, Mode, OnDown, Overrides, Profile, Rule,
    ScriptPolicy, Settings, TrackingMode, WarmingKeys,
};
use nearside::units::rate::Rate;
use proptest::prelude::*;
use tempfile::TempDir;

/// Loads `text` as the file, with environment and `--set`; the error as it is printed.
fn load_over(
    text: &str,
    environment: &[(&str, &str)],
    sets: &[(&str, &str)],
) -> Result<Loaded, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("proxy.toml");
    fs::write(&file, text).unwrap();
    let owned = |text: &str| text.to_owned();
    let overrides = Overrides {
        file: Some(file.clone()),
        environment: environment.iter().map(|(k, v)| (owned(k), owned(v))).collect(),
        flags: sets.iter().map(|(k, v)| (owned("--set"), owned(k), owned(v))).collect(),
    };
    let shown = format!("{}:", file.display());
    config::load(&overrides).map_err(|error| error.to_string().replace(&shown, ""))
}

fn load(text: &str) -> Result<Loaded, String> {
    load_over(text, &[], &[])
}

#[track_caller]
fn settings(text: &str) -> Settings {
    load(text).unwrap_or_else(|error| panic!("{text}\n{error}")).settings
}

#[test]
fn nothing_written_is_sound() {
    let loaded = load("").unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let settings = loaded.settings;
    assert_eq!(settings.mode, Mode::Cache);
    let listen: Vec<String> = settings.server.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:6380"]);
    assert_eq!(settings.server.max_clients, 10_000);
    assert_eq!(settings.server.idle_timeout, Duration::ZERO);
    assert_eq!(settings.server.tcp_keepalive, Duration::from_mins(5));
    assert_eq!(settings.server.tcp_backlog, 1024);
    assert_eq!(settings.server.max_request_size, 512 << 20);
    assert_eq!(settings.server.max_args, 1 << 20);
    assert_eq!(settings.server.client_output_limit, 64 << 20);
    assert_eq!(settings.server.max_pipeline, 1024);
    assert_eq!(settings.server.unix_permissions, 0o770);
    assert_eq!(settings.server.proxy_command, "PROXY");
    assert!(settings.auth.password.is_none());
    assert_eq!(settings.upstream.target.address.to_string(), "127.0.0.1:6379");
    assert_eq!(settings.upstream.target.database, 0);
    assert_eq!(settings.upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(settings.upstream.request_timeout, Duration::from_secs(5));
    assert_eq!(settings.upstream.write_timeout, Duration::from_secs(30));
    assert_eq!(settings.upstream.reconnect_wait, Duration::from_millis(500));
    assert_eq!(settings.upstream.on_down, OnDown::Close);
    assert!(settings.names.is_empty());
    assert_eq!(settings.cache.max_variants, 16);
    assert_eq!(settings.cache.sweep_interval, Duration::from_secs(1));
    assert_eq!(settings.cache.commands, None);
    assert_eq!(settings.commands.profile, Profile::Trusted);
    assert_eq!(settings.commands.unknown, Strangers::Reject);
    assert!(settings.commands.choices.allow.is_empty() && settings.commands.specs.is_empty());
    let rule = settings.default_rule;
    assert_eq!(rule.level, Level::Coherent);
    assert_eq!(rule.max_staleness, Duration::from_secs(1));
    assert_eq!(rule.ttl, Duration::from_mins(1));
    assert_eq!(rule.negative_ttl, Duration::from_secs(5));
    assert_eq!(rule.hash_max_ttl, Duration::from_secs(1));
    assert_eq!(rule.max_value_size, 1 << 20);
    assert!(rule.ttl_probe);
    assert_eq!(rule.admission, Admission::SecondHit);
    assert_eq!(settings.tracking, TrackingMode::Broadcast);
    assert_eq!(settings.scripts.policy, ScriptPolicy::Refuse);
    assert!(settings.scripts.shas.is_empty() && settings.scripts.functions.is_empty());
    assert_eq!(settings.scripts.memory, 8 << 20);
    assert_eq!(settings.admin.listen.as_deref(), Some("127.0.0.1:8380"));
    assert_eq!(settings.metrics.path, "/metrics");
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("info", LogFormat::Auto));
    assert_eq!(settings.drain_delay, Duration::ZERO);
    assert_eq!(settings.drain_timeout, Duration::from_secs(25));
}

/// A file, and words of the error that it must give.
const REFUSED: &[(&str, &str)] = &[
    ("[cache\n", "1:7: "),
    ("[cahce]", "did you mean `cache`?"),
    ("[cache]\nmax_memroy = 1", "did you mean `max_memory`?"),
    ("[[rules]]\nmatch = \"a\"\nlevl = \"ttl\"", "did you mean `level`?"),
    ("mode = \"cahce\"", "did you mean `cache`?"),
    ("[cache]\nlevel = \"strict\"", "unknown variant `strict`"),
    ("[cache]\nttl = 5", "write \"5s\" for 5 seconds"),
    ("[cache]\nmax_memory = \"64m\"", "64m"),
    ("[cache]\nmax_memory = \"4kb\"", "cache.max_memory: at least 1mb"),
    ("[cache]\ncommands = [\"SET\"]", "cache.commands: `set` is not a command that can be cached"),
    ("[cache]\ncommands = \"some\"", "\"all\" or a list of commands"),
    ("[cache]\nmax_variants = 0", "cache.max_variants: 0 is not between 1 and 1024"),
    ("[cache]\nsweep_interval = \"0s\"", "cache.sweep_interval: 0 would never rest"),
    ("[cache]\nmax_staleness = \"1ms\"", "cache.max_staleness: less than 20ms cannot be kept"),
    ("[[rules]]\nttl = \"5s\"", "rules[0]: match is missing"),
    ("[[rules]]\nmatch = 5", "expected a text such as \"session:*\""),
    ("[invalidation]\nchannel = [\"a\", \"\"]", "2:1: invalidation.channel: a name in a list"),
    (
        "[invalidation.groups]\na = [\"b\"]\nc = []",
        "3:1: invalidation.groups.c: 0 patterns are not 1 to 64",
    ),
    ("invalidation.groups = { a = [\"\"] }", "invalidation.groups.a: a pattern is empty"),
    ("invalidation.groups = { \"a b\" = [\"c\"] }", "invalidation.groups: `a b` is not a name"),
    (
        "[[invalidation.events]]\nchannel = \"a\"\npatterns = [\"b\", \"c:{id\"]",
        "3:1: invalidation.events[0].patterns: `c:{id`: the `{` at character 3 is not closed",
    ),
    (
        "[[invalidation.events]]\nchannel = \"a\"\npatterns = \"\"",
        "3:1: invalidation.events[0].patterns: ``: the pattern is empty",
    ),
    ("[[invalidation.events]]\nchannel = \"a\"", "events[0].patterns: 0 patterns are not 1 to 64"),
    ("[[invalidation.events]]\npatterns = \"a\"", "invalidation.events[0]: channel is missing"),
    (
        "invalidation.events = [{ channel = \"system:cache_invalidation\", patterns = \"a\" }]",
        "invalidation.events[0].channel: `system:cache_invalidation` is invalidation.channel",
    ),
    (
        "invalidation.events = [{ channel = \"a\", patterns = \"b\" }, \
         { channel = \"a\", patterns = \"c\" }]",
        "invalidation.events[1].channel: `a` is another event's already",
    ),
    (
        "invalidation.events = [{ channel = \"a\", patterns = \"b\", signed = true }]",
        "invalidation.events[0].signed: set invalidation.secret_file",
    ),
    ("invalidation.secret_file = \"/none\"", "invalidation.secret_file: `/none` cannot be read"),
    ("invalidation.secret_file = \"/dev/null\"", "a secret has at least 32 characters"),
    ("invalidation.max_bans = 63", "invalidation.max_bans: 63 is too few"),
    ("invalidation.max_skew = \"2h\"", "invalidation.max_skew: must be between 1s and 1h"),
    ("[[invalidation.sources]]\nurl = \"redis://h\"", "sources[0].name: `` is not a name of"),
    ("invalidation.sources = [{ name = \"eu\" }]", "invalidation.sources[0]: url is missing"),
    (
        "invalidation.sources = [{ name = \"upstream\", url = \"redis://h\" }]",
        "invalidation.sources[0].name: `upstream` is what the main upstream is called",
    ),
    (
        "[[invalidation.sources]]\nname = \"a\"\nurl = \"redis://h\"\n\
         [[invalidation.sources]]\nname = \"a\"\nurl = \"redis://h:0\"",
        "6:1: invalidation.sources[1].url: ",
    ),
    (
        "[[invalidation.sources]]\nname = \"a\"\nurl = \"redis://h\"\n\
         [[invalidation.sources]]\nname = \"a\"\nurl = \"redis://i\"",
        "invalidation.sources[1].name: `a` is another source's already",
    ),
    ("invalidation.sources = [{ name = \"a\", url = \"embedded:\" }]", "this very process"),
    ("[[rules]]\nmatch = \"a\"\nmax_staleness = \"1ms\"", "rules[0].max_staleness: less than"),
    ("[server]\nlisten = []", "server.listen: name at least one address"),
    ("[server]\nlisten = [\"127.0.0.1\"]", "no port in `127.0.0.1`"),
    ("[server]\nlisten = [\"embedded:\"]", "server.listen: `embedded:`"),
    ("[server]\nworkers = 0", "server.workers: 0 is not between 1 and 256"),
    ("[server]\nworkers = -1", "2:11: "),
    ("[server]\nmax_clients = 0", "server.max_clients: 0 would let nobody in"),
    ("[server]\nmax_pipeline = 0", "server.max_pipeline: 0 would answer nothing"),
    ("[server]\nmax_args = 1", "server.max_args: must be between 2 and 1048576"),
    ("[server]\nmax_request_size = \"1gb\"", "server.max_request_size: must be between 1 and"),
    ("[server]\nunix_permissions = \"999\"", "server.unix_permissions: `999` is not octal"),
    ("[server]\nproxy_command = \"get\"", "server.proxy_command: `get` is a command of Redis"),
    ("[server]\nproxy_command = \"a b\"", "server.proxy_command: `a b` is not one word"),
    ("[server]\nhandshake_timeout = \"0s\"", "server.handshake_timeout: 0 would let nobody in"),
    ("[server]\nmax_handshakes = 0", "server.max_handshakes: 0 is not between 1 and 65536"),
    (
        "[server.tls]\nlisten = [\"127.0.0.1:7\"]",
        "2:1: server.tls.listen: set server.tls.cert_file and server.tls.key_file, too",
    ),
    ("[server.tls]\nlisten = [\"unix:/s\"]", "server.tls.listen: `unix:/s`: only TCP"),
    (
        "[server.tls]\nclient_auth = \"required\"",
        "server.tls.client_auth is \"required\": set server.tls.client_ca_file",
    ),
    (
        "[server.tls]\nclient_ca_file = \"a\"",
        "server.tls.client_ca_file is set, but clients are asked for no certificate",
    ),
    (
        "[server.tls]\nlisten = [\"127.0.0.1:7\"]\ncert_file = \"/no/such\"\nkey_file = \"/nor/this\"",
        "3:1: server.tls.cert_file: /no/such: No such file or directory",
    ),
    (
        "upstream.url = \"rediss://h\"\nupstream.tls.ca_file = \"/no/such\"",
        "upstream.tls.ca_file: ",
    ),
    (
        "upstream.url = \"redis://:x@db\"\nserver.tls.listen = [\"0.0.0.0:1\"]\n\
         server.tls.cert_file = \"tests/data/door.pem\"\nserver.tls.key_file = \"tests/data/door.key\"",
        "server.tls.client_auth = \"required\" and no plain port",
    ),
    ("[admin.tls]\ncert_file = \"a\"", "2:1: admin.tls.cert_file: set admin.tls.key_file, too"),
    ("[admin.tls]\nkey_file = \"a\"", "2:1: admin.tls.key_file: set admin.tls.cert_file, too"),
    (
        "[admin.tls]\ncert_file = \"/no/such\"\nkey_file = \"/nor/this\"",
        "2:1: admin.tls.cert_file: /no/such: No such file or directory",
    ),
    (
        "[admin.tls]\nclient_auth = \"required\"",
        "2:1: admin.tls.client_auth is \"required\": set admin.tls.client_ca_file",
    ),
    (
        "[admin.tls]\nclient_auth = \"required\"\nclient_ca_file = \"tests/data/door.pem\"",
        "admin.tls.client_auth: set admin.tls.cert_file and admin.tls.key_file, too",
    ),
    (
        "[admin.tls]\nclient_ca_file = \"a\"",
        "admin.tls.client_ca_file is set, but operators are asked for no certificate",
    ),
    (
        "[admin]\nlisten = \"0.0.0.0:1\"\ntls.client_auth = \"optional\"\n\
         tls.client_ca_file = \"tests/data/door.pem\"\ntls.cert_file = \"tests/data/door.pem\"\n\
         tls.key_file = \"tests/data/door.key\"",
        "set admin.token_file, or admin.tls.client_auth = \"required\"",
    ),
    ("[commands]\ndeny = [\"PROXY|MOD\"]", "did you mean `PROXY|MODE`?"),
    ("[auth]\nmode = \"static\"", "auth.mode is \"static\": set auth.password_file"),
    (
        "auth = { mode = \"passthrough\", password = \"x\" }",
        "auth.mode is \"passthrough\": set it to \"static\"",
    ),
    ("auth.users = [{ name = \"a\" }]", "auth.users: set auth.mode to \"passthrough\" or"),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\" }] }",
        "auth.users[0]: password_sha256 is missing",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", password_sha256 = [\"hunter2\"] }] }",
        "auth.users[0].password_sha256: one is not 64 hexadecimal digits",
    ),
    (
        "auth = { mode = \"passthrough\", users = [{ name = \"a\", password_sha256 = [\"\"] }] }",
        "auth.users[0].password_sha256: with auth.mode = \"passthrough\" upstream alone",
    ),
    (
        "auth = { mode = \"passthrough\", users = [{ name = \"a b\" }] }",
        "auth.users[0].name: `a b` is not the name of a user",
    ),
    (
        "auth = { mode = \"passthrough\", users = [{ name = \"a\" }, { name = \"a\" }] }",
        "auth.users[1].name: `a` is another user's already",
    ),
    (
        "[auth]\nmode = \"static\"\n[[auth.users]]\nname = \"a\"\ncommands = [\"+@raed\"]",
        "5:1: auth.users[0].commands: `+@raed` names no category of commands\ndid you mean `read`?",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", commands = [\"-gte\"] }] }",
        "auth.users[0].commands: `-gte` names no command\ndid you mean `get`?",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", commands = [\"+select|0\"] }] }",
        "auth.users[0].commands: `+select|0` names a subcommand of a command that has none",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", commands = [\"+proxy|clear\"] }] }",
        "auth.users[0].commands: `+proxy|clear` is of nearside's own commands, which go by `role`",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", commands = [\"get\"] }] }",
        "auth.users[0].commands: `get` is no rule",
    ),
    (
        "auth = { mode = \"static\", users = [{ name = \"a\", key_patterns = [\"%X~a\"] }] }",
        "auth.users[0].key_patterns: `%X~a` is neither a glob, nor one behind `%R~`",
    ),
    (
        "auth = { mode = \"passthrough\", users = [{ name = \"a\", commands = [\"+get\"] }] }",
        "auth.users[0]: key_patterns and commands are for auth.mode = \"static\"",
    ),
    ("auth.acl_poll = \"9ms\"", "auth.acl_poll is less than 10ms"),
    ("auth.max_identities = 0", "auth.max_identities is not from 1 to 4000"),
    ("upstream.database = 1048576", "upstream.database: there are no databases from 1048576 on"),
    ("[auth]\npassword = \"x\"", "auth.mode is \"none\": set it to \"static\""),
    ("[auth]\npassword = \"x\"\npassword_file = \"y\"", "auth: write password or password_file"),
    ("[auth]\npassword_file = \"/no/such\"", "auth.password_file: `/no/such` cannot be read"),
    ("[upstream]\nurl = \"http://db\"", "upstream.url: an upstream URL begins with redis://"),
    ("[upstream]\nurl = \"redis://db/x\"", "upstream.url: `x` is not a database number"),
    ("[upstream.tls]\ncert_file = \"a\"", "upstream.tls: cert_file and key_file go together"),
    ("[upstream]\nurl = \"redis://:x@db\"\n[server]\nlisten = [\"0.0.0.0:1\"]", "auth.mode"),
    ("[keys]\nversion = \"a*\"", "keys: "),
    (
        "[[rules]]\nmatch = \"a\"\nversion = \"v:3\"",
        "3:1: rules[0].version: version must not contain the separator",
    ),
    ("[keys]\nexclude = [\"\"]", "2:1: keys.exclude: an empty pattern excludes nothing"),
    (
        "[keys]\nversion = \"v1\"\nversion_source = \"upstream\"\nexclude = [\"system:*\"]",
        "keys.version_key: `system:cache_version` would be a key of clients",
    ),
    (
        "commands.unknown = \"pass\"\nrules = [{ match = \"a\", version = \"v3\" }]",
        "past keys.version: use",
    ),
    ("[admin]\nlisten = \"8380\"", "admin.listen"),
    ("[cache]\nmax_variants = 1025", "cache.max_variants: 1025 is not between 1 and 1024"),
    ("[drain]\ntimeout = \"soon\"", "2:11: "),
    ("[commands]\nprofile = \"strict\"", "unknown variant `strict`"),
    ("[commands]\ndeny = [\"FLUSHAL\"]", "commands.deny: no command is called `FLUSHAL`"),
    ("[commands]\ndeny = [\"FLUSHAL\"]", "did you mean `FLUSHALL`?"),
    ("[commands]\nallow = [\"config st\"]", "did you mean `CONFIG|SET`?"),
    ("[commands]\nallow = [\"SYNC\"]", "commands.allow: `SYNC` stays refused: it would change"),
    ("[commands]\nallow = [\"CLUSTER|RESET\"]", "nearside is a standalone server"),
    ("[commands]\nunknown = \"forward\"", "unknown variant `forward`"),
    ("[commands]\nunknown = \"pass\"\n[keys]\nversion = \"v1\"", "past keys.version: use"),
    ("[commands.specs]\n\"A.B\" = \"i1\"", "only commands.unknown = \"learn\" asks for it"),
    (
        "[commands]\nunknown = \"learn\"\n[commands.specs]\n\"A.B\" = \"1\"",
        "commands.specs: `1` of `A.B` is neither \"none\", \"i1\"",
    ),
    (
        "[commands]\nunknown = \"learn\"\n[commands.specs]\nget = \"i1\"",
        "commands.specs: the keys of `get` are known already",
    ),
    ("keys.tenant_mode = true", "keys.tenant_mode needs a keys.prefix"),
    ("keys = { tenant_mode = true, version = \"v1\" }", "keys.tenant_mode needs a keys.prefix"),
    (
        "keys = { tenant_mode = true, prefix = \"t\", exclude = [\"lock:*\"] }",
        "keys.exclude: with keys.tenant_mode no key is beyond the prefix",
    ),
    (
        "keys = { tenant_mode = true, prefix = \"t\" }\ncommands.unknown = \"learn\"",
        "commands.unknown: with keys.tenant_mode it is \"reject\"",
    ),
    (
        "keys = { tenant_mode = true, prefix = \"t\" }\nscripts.policy = \"allow\"",
        "scripts.policy: with keys.tenant_mode it is \"refuse\"",
    ),
    (
        "keys = { tenant_mode = true, prefix = \"t\", version = \"v\", version_source = \"upstream\" }",
        "keys.version_key: `system:cache_version` is beyond the prefix",
    ),
    (
        "keys = { tenant_mode = true, prefix = \"t\" }\ncommands.allow = [\"KEYS\", \"CLUSTER\"]",
        "commands.allow: `CLUSTER` stays refused",
    ),
    (
        "keys.forbidden_bytes = [\"\\u00e9\"]",
        "keys.forbidden_bytes: `\u{e9}` is neither a character",
    ),
    (
        "rules = [{ match = \"a\", forbidden_bytes = [\"0x20-0x10\"] }]",
        "rules[0].forbidden_bytes: `0x20-0x10` is neither",
    ),
    ("[log]\nlevel = \"loud\"", "log.level: `loud` is none of off, error"),
    ("[scripts]\nallow = [\"abc\"]", "scripts.allow: `abc` is neither the SHA1 of a script"),
    ("[scripts]\nallow = [\"function:\"]", "scripts.allow: `function:` is neither"),
    ("[scripts]\npolicy = \"ask\"", "unknown variant `ask`"),
    ("[metrics]\npath = \"metrics\"", "metrics.path: `metrics` is not `/` followed by"),
    ("[metrics]\npath = \"/livez\"", "metrics.path: `/livez` is already another page"),
];

#[test]
fn scripts_are_allowed_by_name() {
    let sha = "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB";
    let text = format!("[scripts]\nallow = [\"{sha}\", \"function:f\"]\nmemory = \"1mb\"");
    let scripts = settings(&text).scripts;
    assert_eq!(scripts.shas, [sha.to_ascii_lowercase()]);
    assert_eq!(scripts.functions, ["f"]);
    assert_eq!(scripts.memory, 1 << 20);
    assert_eq!(settings("[scripts]\npolicy = \"allow\"").scripts.policy, ScriptPolicy::Allow);
}

#[test]
fn each_refusal_says_what_and_where() {
    for (text, words) in REFUSED {
        let error = load(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"));
        assert!(error.contains(words), "no {words:?} for\n{text}\n in: {error}");
    }
}

#[test]
fn what_is_legal_and_not_meant_is_a_warning() {
    for (text, words) in [
        ("[[rules]]\nmatch = \"*\"\n[[rules]]\nmatch = \"a\"", "rules[0] matches every key"),
        ("[[rules]]\nmatch = \"a\"\n[[rules]]\nmatch = [\"b\", \"a\"]", "stands in rules[0]"),
        (
            "[invalidation]\ntracking = \"off\"",
            "rules of level linear, coherent and relaxed cache nothing",
        ),
        ("[cache]\nttl = \"0s\"", "cache.ttl is 0: nothing is cached"),
        ("keys.exclude = [\"a\"]", "keys.exclude excludes nothing"),
        ("keys.version = \"v1\"\nkeys.exclude = [\"a\", \"a\"]", "`a` stands there twice"),
        (
            "keys = { prefix = \"t\", tenant_mode = true }",
            "invalidation.channel: with keys.tenant_mode",
        ),
        ("[commands]\nallow = [\"GET\"]", "commands.allow: nothing refuses `GET`"),
        ("[commands]\nallow = [\"FLUSHALL\"]", "commands.allow: nothing refuses `FLUSHALL`"),
        ("[upstream.tls]\ninsecure_skip_verify = true", "insecure_skip_verify"),
        ("server.tls.cert_file = \"a\"", "server.tls.cert_file is shown to nobody"),
        (
            "admin.listen = \"off\"\nadmin.tls.cert_file = \"a\"\nadmin.tls.key_file = \"b\"",
            "admin.tls.cert_file is shown to nobody",
        ),
        (
            "metrics.listen = \"127.0.0.1:1\"\nmetrics.auth = true\nadmin.token_file = \"Cargo.toml\"\n\
             admin.tls.cert_file = \"tests/data/door.pem\"\nadmin.tls.key_file = \"tests/data/door.key\"",
            "metrics.listen speaks plain HTTP, whatever admin.tls says",
        ),
    ] {
        let warnings = load(text).unwrap().warnings.join("\n");
        assert!(warnings.contains(words), "no {words:?} for\n{text}\n in: {warnings}");
    }
}

#[test]
fn file_then_environment_then_flags() {
    let file = "[cache]\nttl = \"1s\"\nnegative_ttl = \"1s\"\nhash_max_ttl = \"1s\"\n";
    let environment = [
        ("NEARSIDE_CACHE__NEGATIVE_TTL", "2s"),
        ("NEARSIDE_CACHE__HASH_MAX_TTL", "2s"),
        ("NEARSIDE_CACHE__MAX_VARIANTS", "3"),
        ("HOME", "/root"),
    ];
    let sets = [("cache.hash_max_ttl", "3s")];
    let settings = load_over(file, &environment, &sets).unwrap().settings;
    let seconds = Duration::from_secs;
    assert_eq!(settings.default_rule.ttl, seconds(1));
    assert_eq!(settings.default_rule.negative_ttl, seconds(2));
    assert_eq!(settings.default_rule.hash_max_ttl, seconds(3));
    assert_eq!(settings.cache.max_variants, 3);

    let error = load_over("", &[("NEARSIDE_CACHE__TLL", "1s")], &[]).unwrap_err();
    assert!(error.starts_with("environment variable NEARSIDE_CACHE__TLL: "), "{error}");
    assert!(error.ends_with("did you mean `ttl`?"), "{error}");
}

#[test]
fn redis_url_is_used_where_nothing_else_says_where() {
    let platform = [("REDIS_URL", "redis://platform:1")];
    let address = |text, environment: &[_], sets: &[_]| {
        load_over(text, environment, sets).unwrap().settings.upstream.target.address.to_string()
    };
    assert_eq!(address("", &platform, &[]), "platform:1");
    assert_eq!(address("upstream.url = \"redis://file:1\"", &platform, &[]), "file:1");
    assert_eq!(address("", &platform, &[("upstream.url", "redis://flag:1")]), "flag:1");
    let both = [platform[0], ("NEARSIDE_UPSTREAM__URL", "redis://ours:1")];
    assert_eq!(address("", &both, &[]), "ours:1");
    let both = [both[1], both[0]];
    assert_eq!(address("", &both, &[]), "ours:1");
}

#[test]
fn a_value_may_be_toml_or_a_bare_word() {
    let sets = [
        ("mode", "bypass"),
        ("server.listen", "[\"127.0.0.1:1\", \"unix:/s\"]"),
        ("auth.mode", "\"static\""),
        ("auth.password", "12345"),
        ("rules", "[{match = \"a:*\", ttl = \"5s\"}]"),
    ];
    let settings = load_over("", &[], &sets).unwrap().settings;
    assert_eq!(settings.mode, Mode::Bypass);
    assert_eq!(settings.server.listen.len(), 2);
    assert_eq!(settings.auth.password.unwrap().reveal(), "12345");
    assert_eq!(settings.rules[0].ttl, Duration::from_secs(5));
}

#[test]
fn rules_inherit_what_they_do_not_say() {
    let settings = settings(
        "[cache]\nttl = \"9s\"\nlevel = \"ttl\"\n\
         [[rules]]\nmatch = \"a:*\"\nlevel = \"relaxed\"\n\
         [[rules]]\nmatch = [\"b:*\", \"c:*\"]\nttl = \"3s\"\nttl_probe = \"never\"\n",
    );
    let [first, second] = &settings.rules[..] else { panic!("two rules") };
    assert_eq!((first.level, first.ttl), (Level::Relaxed, Duration::from_secs(9)));
    assert_eq!((second.level, second.ttl), (Level::Ttl, Duration::from_secs(3)));
    assert_eq!(second.patterns, ["b:*", "c:*"]);
    assert!(first.ttl_probe && !second.ttl_probe);
}

#[test]
fn rules_inherit_which_keys_may_be_named() {
    let settings = settings(
        "keys = { max_key_length = \"1kb\", forbidden_bytes = [\"{\"] }\n\
         rules = [{ match = \"a\", forbidden_bytes = [] }, { match = \"b\", max_key_length = 3 }]",
    );
    let [first, second] = &settings.rules[..] else { panic!("two rules") };
    let long = [b'x'; 1025];
    let fine = |rule: &Rule, key: &[u8]| rule.key_bounds.check(key).is_ok();
    for (rule, fits) in [(first, [true, true, false]), (second, [false, false, false])] {
        assert_eq!([&b"{"[..], b"abcd", &long].map(|key| fine(rule, key)), fits);
    }
    let default = &settings.default_rule;
    assert!(fine(default, b"abcd") && !fine(default, b"{") && !fine(default, &long));
}

#[test]
fn what_takes_nearsides_own_credentials_does_not_go_with_passthrough() {
    let text = "auth.mode = \"passthrough\"\ncache.fill_lease = \"1s\"\n\
                warming.jobs = [{ name = \"a\", pattern = \"*\" }]\n\
                [[rules]]\nmatch = \"a\"\nfill_lease = \"2s\"\n";
    let loaded = load(text).unwrap();
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("fill leases") && warnings.contains("[warming]"), "{warnings}");
    assert!(!loaded.settings.lends());
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "hunter2\r\n").unwrap();
    let text = format!(
        "[auth]\nmode = \"static\"\npassword_file = {file:?}\n[upstream]\npassword_file = {file:?}\n"
    );
    let settings = settings(&text);
    assert_eq!(settings.auth.password.as_ref().unwrap().reveal(), "hunter2");
    assert_eq!(settings.upstream.target.password.as_ref().unwrap().reveal(), "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[test]
fn the_shipped_file_loads() {
    let loaded = load(&fs::read_to_string(root("proxy.toml")).unwrap()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.settings.version, "v1");
    assert_eq!(loaded.settings.rules.len(), 3);
}

#[test]
fn commands_are_named_as_people_name_them() {
    let names = |rows: &[&Spec]| rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
    let settings = settings(
        "[commands]\nprofile = \"hardened\"\nallow = [\"module\", \"CONFIG|SET\", \"debug\"]\n\
         deny = [\"config get\", \"Memory\"]\nunknown = \"learn\"\n\
         specs.\"JSON.FOO\" = \"i1..-2\"\nspecs.\"A.B\" = \"none\"",
    );
    let commands = &settings.commands;
    assert_eq!(commands.profile, Profile::Hardened);
    assert_eq!(
        names(&commands.choices.allow),
        "module|load module|loadex module|unload config|set debug"
    );
    assert_eq!(
        names(&commands.choices.deny),
        "config|get memory memory|doctor memory|help memory|malloc-stats memory|purge memory|stats \
         memory|usage"
    );
    assert_eq!(commands.unknown, Strangers::Learn);
    let specs: Vec<(&str, KeySpec)> =
        commands.specs.iter().map(|(name, keys)| (name.as_str(), *keys)).collect();
    let range = KeySpec::Range { first: 1, last: -2, step: 1 };
    assert_eq!(specs, [("a.b", KeySpec::None), ("json.foo", range)]);
}

/// Every key, in full.
fn keys() -> Vec<&'static str> {
    written::keys().map(|key| key.path).collect()
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        load(&text).ok();
    }

    #[test]
    fn no_toml_panics(
        table in prop::sample::select(vec!["", "server.", "auth.", "upstream.", "keys.", "cache.",
            "admin.", "metrics.", "log.", "drain.", "invalidation.", "upstream.tls.", "server.tls.", "admin.tls.", "commands."]),
        key in "[a-z_]{0,12}",
        value in prop_oneof!["\"\\PC{0,20}\"", "-?[0-9]{1,20}", "\\[[0-9,\" a-z]{0,10}\\]",
            "\\{[a-z]{0,3} ?=? ?[0-9]{0,3}\\}"],
    ) {
        load(&format!("{table}{key} = {value}")).ok();
    }

    #[test]
    fn no_known_key_panics(
        key in prop::sample::select(keys()),
        value in "\\PC{0,20}",
    ) {
        let key = key.replace("rules.", "rules.0.");
        load_over("", &[], &[(&key, &value)]).ok();
        let name = format!("NEARSIDE_{}", key.to_uppercase().replace('.', "__"));
        load_over("", &[(&name, &value)], &[]).ok();
    }
}

#[test]
fn warming_is_read() {
    let warming = settings("").warming;
    assert!(!warming.on_start && !warming.ready_when_warm && warming.jobs.is_empty());
    assert_eq!((warming.rate, warming.concurrency), (Rate::per_second(5000), 16));
    assert_eq!(warming.snapshot_file, None);
    let loaded = load(
        "[warming]\non_start = true\nrate = \"off\"\nsnapshot_file = \"hot\"\n\
         [[warming.jobs]]\nname = \"a\"\nkeys = [\"x\", \"y\"]\nevery = \"10m\"\n\
         [[warming.jobs]]\nname = \"b\"\npattern = \"b:*\"\ncron = \"0 6 * * mon-fri\"\n\
         [[warming.jobs]]\nname = \"c\"\nfile = \"keys.txt\"\n\
         [warming.popular]\norders = [\"42\"]\n_root = [\"plain\"]\n",
    );
    let loaded = loaded.unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let warming = loaded.settings.warming;
    assert_eq!((warming.rate, warming.snapshot_file), (Rate(None), Some("hot".into())));
    let names: Vec<&str> = warming.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "popular"]);
    let popular = &warming.jobs.last().unwrap().keys;
    let WarmingKeys::List(keys) = popular else { panic!("{popular:?}") };
    assert_eq!(keys, &[b"plain".to_vec(), b"orders:42".to_vec()]);
}

#[test]
fn what_is_wrong_with_a_warm_up_job_is_named() {
    let job = |text: &str| format!("[[warming.jobs]]\n{text}");
    for (text, wanted) in [
        (job("keys = []"), "warming.jobs[0].name: `` is not a name"),
        (job("name = \"request\"\nkeys = []"), "is what nearside calls runs of its own"),
        (job("name = \"a\""), "warming.jobs[0]: write one of keys, file, pattern"),
        (job("name = \"a\"\nkeys = []\npattern = \"b\""), "write one of keys, file, pattern"),
        (job("name = \"a\"\nkeys = []\nevery = \"1ms\""), "every: 1ms is less than a second"),
        (job("name = \"a\"\nkeys = []\ncron = \"soon\""), "cron: `soon` is not a schedule"),
        (
            job("name = \"a\"\nkeys = []\ncron = \"@daily\"\ntimezone = \"Berlin\""),
            "warming.jobs[0].timezone: `Berlin` is not a time zone such as",
        ),
        (
            job("name = \"a\"\nkeys = []\nevery = \"1h\"\ntimezone = \"UTC\""),
            "warming.jobs[0].timezone: only with cron",
        ),
        (
            job("name = \"a\"\nkeys = []\nevery = \"1m\"\ncron = \"* * * * *\""),
            "write every or cron, not both",
        ),
        (
            format!("{}\n{}", job("name = \"a\"\nkeys = []"), job("name = \"a\"\nkeys = []")),
            "warming.jobs[1].name: `a` is another job's already",
        ),
        ("[warming]\nconcurrency = 0".to_owned(), "0 is not between 1 and 1024"),
        ("[warming]\nmax_memory_ratio = 1.5".to_owned(), "1.5 is not above 0 and at most 1"),
        ("[warming]\nrate = 5000".to_owned(), "write \"5000/s\""),
    ] {
        let error = load(&text).unwrap_err();
        assert!(error.contains(wanted), "{text}\n{error}");
    }
    let loaded = load("[warming]\nready_when_warm = true").unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("no effect without")));
}

#[test]
fn a_fallback_is_chosen_in_words_that_cannot_be_misread() {
    let memory = "[fallback]\nwrites = \"memory\"\n";
    for (text, wanted) in [
        (memory.to_owned(), "If that is meant, say so: accept_data_loss = true"),
        (format!("{memory}accept_data_loss = false"), "it is lost when the process ends"),
        (
            "[fallback]\nenabled = true\nreads = \"error\"".to_owned(),
            "there is nothing to fall back to",
        ),
        ("[fallback]\nmax_bytes = \"1kb\"".to_owned(), "fallback.max_bytes: at least 1mb"),
        (
            "auth.mode = \"passthrough\"\nfallback.enabled = true".to_owned(),
            "upstream alone knows who may do what",
        ),
    ] {
        let error = load(&text).unwrap_err();
        assert!(error.contains(wanted), "{text}\n{error}");
    }
    load(&format!("{memory}accept_data_loss = true\nenabled = true\nreads = \"error\"")).unwrap();
    for text in [
        "[fallback]\non_recovery = \"replay\"",
        "upstream.url = \"embedded:\"\nfallback.enabled = true",
    ] {
        let loaded = load(text).unwrap();
        assert!(loaded.warnings.iter().any(|warning| warning.contains("no effect")), "{text}");
    }
}
