//! `[auth]`: who may come in, and who judges that.

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
        users.push(User { name, passwords, role: user.role.unwrap_or(Role::Client) });
    }
    users
}

/// A SHA-256 of its hexadecimal digits.
fn hash(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
    (text.len() == 64).then(|| bytes.try_into().ok()).flatten()
}
