//! `[auth]`: who may come in, and who judges that.

use crate::command;
use crate::command::acl::{CATEGORIES, Rights, RuleFault};
use crate::config::check::{Notes, secret, span};
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::values::Secret;
use crate::config::{Auth, AuthMode, Role, Settings, User};
use crate::net::target::Password;
use crate::units::duration::Span;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

table! {
    /// Who may come in.
    "auth." AuthKeys {
        /// `"static"`: clients give a password, as with Redis' requirepass; `"passthrough"`: they
        /// log in as upstream has them do, and each rides on its own credentials.
        mode: AuthMode = "none", New;
        /// The password of `"static"`.
        password: Secret = (), New;
        /// The file that it stands in, instead.
        password_file: PathBuf = (), New;
        /// How long credentials that upstream has accepted are accepted without asking it again.
        cache_ttl: Span = "60s", Now;
        /// How often upstream is asked whether its users' rights have changed (ACL LIST): with
        /// them, everything cached is forgotten.
        acl_poll: Span = "1s", Now;
        /// Longest life of a cached reply where nearside's own user may not ask for that.
        acl_proof_ttl: Span = "5s", Now;
        /// Failed logins from one address in a minute, beyond which none is tried; 0: no bound.
        max_failures_per_minute: u32 = 60, Now;
        /// Different credentials at most that clients ride on at a time.
        max_identities: usize = 1024, Now;
        tables {
            /// Users whose role is said here.
            users: Vec<UserKeys>,
        }
    }
}

table! {
    /// Users whose role is said here.
    "auth.users." UserKeys {
        /// Its name, as it logs in.
        name: String = (), Now;
        /// Of `"static"`: the SHA-256 of each of its passwords, in hexadecimal.
        password_sha256: Vec<String> = (), Now;
        /// `"operator"`: may act on nearside itself and on other clients: PROXY, CLIENT KILL.
        role: Role = "client", Now;
        /// Of `"static"`: the keys that it may use, as clients write them: globs, with `%R~` or
        /// `%W~` before one that it may only read or write.
        key_patterns: Vec<String> = (toml "[\"*\"]"), Now;
        /// Of `"static"`: the commands that it may use, as rules of the server's ACL, in their
        /// order: `+@read`, `-@dangerous`, `+get`, `+config|get`.
        commands: Vec<String> = (toml "[\"+@all\"]"), Now;
    }
}

/// Identities of clients are told apart by a number of twelve bits, of which two are taken.
const IDENTITIES_MAX: usize = 4000;

/// Between two questions for the rights of users.
const POLL_MIN: Duration = Duration::from_millis(10);

/// What `[auth]` comes to.
pub(super) fn auth(table: &AuthKeys, notes: &mut Notes) -> Auth {
    let mode = table.mode.unwrap_or(AuthMode::None);
    let auth = Auth {
        mode,
        password: password(table, mode, notes),
        cache_ttl: span(table.cache_ttl, Duration::from_mins(1)),
        acl_poll: span(table.acl_poll, Duration::from_secs(1)),
        acl_proof_ttl: span(table.acl_proof_ttl, Duration::from_secs(5)),
        failures_max: table.max_failures_per_minute.unwrap_or(60),
        identities_max: table.max_identities.unwrap_or(1024),
        users: users(&table.users, mode, notes),
    };
    if auth.acl_poll < POLL_MIN {
        notes.fault("auth.acl_poll is less than 10ms");
    }
    if auth.identities_max == 0 || auth.identities_max > IDENTITIES_MAX {
        notes.fault(format!("auth.max_identities is not from 1 to {IDENTITIES_MAX}"));
    }
    if mode == AuthMode::None && !auth.users.is_empty() {
        notes.fault("auth.users: set auth.mode to \"passthrough\" or \"static\"");
    }
    auth
}

/// What passing credentials through makes of the rest.
pub(super) fn whole(settings: &mut Settings, notes: &mut Notes) {
    if settings.auth.mode != AuthMode::Passthrough {
        return;
    }
    if settings.lends() {
        notes.warn(
            "with auth.mode = \"passthrough\" there are no fill leases (fill_lease): nearside \
             takes them with its own credentials",
        );
        let rules = settings.rules.iter_mut().chain([&mut settings.default_rule]);
        rules.for_each(|rule| rule.fill_lease = Duration::ZERO);
    }
    if !settings.warming.jobs.is_empty() || settings.warming.snapshot_file.is_some() {
        notes.warn(
            "with auth.mode = \"passthrough\" each identity has entries of its own: what [warming] \
             loads is served to nobody",
        );
    }
}

fn password(table: &AuthKeys, mode: AuthMode, notes: &mut Notes) -> Option<Password> {
    let inline = table.password.as_ref().map(|password| &password.0);
    let password = secret("auth", inline, table.password_file.as_deref(), notes);
    match (mode, &password) {
        (AuthMode::Static, None) if table.password_file.is_none() && table.users.is_empty() => {
            notes.fault(
                "auth.mode is \"static\": set auth.password_file or auth.password, or auth.users",
            );
        }
        (AuthMode::None | AuthMode::Passthrough, Some(_)) => notes.fault(format!(
            "auth.password is set, but auth.mode is \"{}\": set it to \"static\"",
            mode.as_str()
        )),
        _ => {}
    }
    password
}

fn users(written: &[UserKeys], mode: AuthMode, notes: &mut Notes) -> Vec<User> {
    let mut users: Vec<User> = Vec::with_capacity(written.len());
    for (index, user) in written.iter().enumerate() {
        let name = user.name.clone().unwrap_or_default();
        if name.is_empty()
            || name.contains(char::is_whitespace)
            || name.contains(['\0', char::REPLACEMENT_CHARACTER])
        {
            notes.fault(format!("auth.users[{index}].name: `{name}` is not the name of a user"));
        } else if users.iter().any(|other| other.name == name) {
            notes.fault(format!("auth.users[{index}].name: `{name}` is another user's already"));
        }
        let hashes = user.password_sha256.as_deref().unwrap_or_default();
        match mode {
            AuthMode::Static if hashes.is_empty() => {
                notes.fault(format!("auth.users[{index}]: password_sha256 is missing"));
            }
            AuthMode::Passthrough if !hashes.is_empty() => notes.fault(format!(
                "auth.users[{index}].password_sha256: with auth.mode = \"passthrough\" upstream \
                 alone knows passwords"
            )),
            _ => {}
        }
        let passwords: Vec<_> = hashes.iter().filter_map(|text| hash(text)).collect();
        if passwords.len() < hashes.len() {
            // (Not quoted: it may be the password itself.)
            notes.fault(format!(
                "auth.users[{index}].password_sha256: one is not 64 hexadecimal digits"
            ));
        }
        let rights = rights(&format!("auth.users[{index}]"), user, mode, notes);
        users.push(User { name, passwords, role: user.role.unwrap_or(Role::Client), rights });
    }
    users
}

/// What one user may; `None`: everything.
fn rights(place: &str, user: &UserKeys, mode: AuthMode, notes: &mut Notes) -> Option<Arc<Rights>> {
    if mode == AuthMode::Passthrough && (user.key_patterns.is_some() || user.commands.is_some()) {
        notes.fault(format!(
            "{place}: key_patterns and commands are for auth.mode = \"static\": with \
             \"passthrough\" upstream alone knows what its users may"
        ));
    }
    let mut rights = Rights::none();
    let written = |list: &Option<Vec<String>>, default: &str| {
        list.clone().unwrap_or_else(|| vec![default.to_owned()])
    };
    for pattern in written(&user.key_patterns, "*") {
        if rights.add_keys(&pattern).is_err() {
            notes.fault(format!(
                "{place}.key_patterns: `{pattern}` is neither a glob, nor one behind `%R~`, `%W~` \
                 or `%RW~`"
            ));
        }
    }
    for rule in written(&user.commands, "+@all") {
        if let Err(fault) = rights.add_rule(&rule) {
            notes.fault(format!("{place}.commands: `{rule}` {}", fault_of(fault, &rule)));
        }
    }
    (!rights.are_all()).then(|| Arc::new(rights))
}

/// What is wrong with a rule.
fn fault_of(fault: RuleFault, rule: &str) -> String {
    let nearest = |names: &mut dyn Iterator<Item = &'static str>| {
        let name = rule.trim_start_matches(['+', '-', '@']).to_ascii_lowercase();
        let distances = names.map(|known| (strsim::damerau_levenshtein(&name, known), known));
        let near = distances.min().filter(|(distance, known)| *distance <= known.len().max(3) / 2);
        near.map_or_else(String::new, |(_, known)| format!("\ndid you mean `{known}`?"))
    };
    match fault {
        RuleFault::Category => {
            let hint = nearest(&mut CATEGORIES.iter().map(|(word, _)| *word));
            format!("names no category of commands{hint}")
        }
        RuleFault::Command => {
            let hint = nearest(&mut command::all().iter().map(|spec| spec.name));
            format!("names no command{hint}")
        }
        RuleFault::OfProxy => "is of nearside's own commands, which go by `role`".to_owned(),
        RuleFault::FirstArgument => "names a subcommand of a command that has none".to_owned(),
        RuleFault::NoSign | RuleFault::Access => {
            "is no rule: write `+get` or `-get`, `+@read` or `-@read`".to_owned()
        }
    }
}

/// A SHA-256 of its hexadecimal digits.
fn hash(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
    (text.len() == 64).then(|| bytes.try_into().ok()).flatten()
}
