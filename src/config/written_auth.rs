//! `[auth]` as it is written: as [`written`](super::written), which has no room for it.

use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::values::Secret;
use crate::config::{AuthMode, Role};
use crate::units::duration::Span;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

table! {
    /// Who may come in.
    "auth." Auth {
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
            users: Vec<User>,
        }
    }
}

table! {
    /// Users whose role is said here.
    "auth.users." User {
        /// Its name, as it logs in.
        name: String = (), Now;
        /// Of `"static"`: the SHA-256 of each of its passwords, in hexadecimal.
        password_sha256: Vec<String> = (), Now;
        /// `"operator"`: may act on nearside itself and on other clients: PROXY, CLIENT KILL.
        role: Role = "client", Now;
    }
}
