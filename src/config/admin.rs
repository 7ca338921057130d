//! `[admin]`: where the admin port is, and who may ask it for what.

use crate::config::check::{Notes, is_loopback};
use crate::config::tls::admin_tls;
use crate::config::{Admin, ClientAuth, written};
use crate::net::address::Address;
use crate::net::target::Password;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Shorter tokens can be guessed (T21).
const TOKEN_MIN: usize = 32;

/// The host names by which a program on the same machine asks.
const HOSTS: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

pub(super) fn admin(written: &written::Admin, notes: &mut Notes) -> Admin {
    let operator = token("admin.token_file", "token", written.token_file.as_deref(), notes);
    let viewer = written.readonly_token_file.as_deref();
    let viewer = token("admin.readonly_token_file", "token", viewer, notes);
    let is_tokenless = written.token_file.is_none() && written.readonly_token_file.is_none();
    let mut hosts: Vec<String> = HOSTS.iter().map(ToString::to_string).collect();
    for host in written.allowed_hosts.iter().flatten() {
        if host.is_empty() || host.contains(['/', ' ']) {
            notes.fault(format!("admin.allowed_hosts: `{host}` is not a host name without port"));
        }
        hosts.push(host.clone());
    }
    let listen = written.listen.clone().unwrap_or_else(|| "127.0.0.1:8380".to_owned());
    let show_values = written.show_values.unwrap_or(false);
    let tls = admin_tls(&written.tls, listen != "off", notes);
    if listen == "off" {
        return Admin { listen: None, operator, viewer, hosts, show_values, tls };
    }
    // Who must show a certificate has been asked who it is.
    let is_unasked = is_tokenless && tls.client_auth != ClientAuth::Required;
    match notes.take(&format!("admin.listen: `{listen}`"), listen.parse::<Address>()) {
        Some(Address::Tcp { host, .. }) if !is_loopback(&host) && is_unasked => {
            notes.fault(format!(
                "admin.listen: {listen} is open to other machines, and whoever reaches it could \
                 empty the cache: set admin.token_file, or admin.tls.client_auth = \"required\", \
                 or listen on 127.0.0.1"
            ));
        }
        Some(Address::Unix(_) | Address::Embedded) => {
            notes.fault("admin.listen: only TCP, such as \"127.0.0.1:8380\", or \"off\"");
        }
        Some(Address::Tcp { .. }) | None => {}
    }
    Admin { listen: Some(listen), operator, viewer, hosts, show_values, tls }
}

impl Admin {
    /// The names by which the API may be asked for, without port: that of `admin.listen`, too.
    pub fn names(&self) -> Vec<String> {
        let listens = self.listen.as_ref().and_then(|listen| listen.parse::<Address>().ok());
        let own = match listens {
            Some(Address::Tcp { host, .. }) if host.contains(':') => Some(format!("[{host}]")),
            Some(Address::Tcp { host, .. }) => Some(host),
            Some(Address::Unix(_) | Address::Embedded) | None => None,
        };
        self.hosts.iter().cloned().chain(own).collect()
    }
}

/// What only those know who may: the text of the file that `key` names, long enough not to be
/// guessed.
pub(super) fn token(
    key: &str,
    what: &str,
    path: Option<&Path>,
    notes: &mut Notes,
) -> Option<Password> {
    let path = path?;
    let read = fs::read_to_string(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()));
    let text = notes.take(key, read)?;
    let token = text.trim();
    if token.len() < TOKEN_MIN {
        notes.fault(format!("{key}: a {what} has at least {TOKEN_MIN} characters"));
        return None;
    }
    warn_if_public(key, path, notes);
    Some(Password::new(token.to_owned()))
}

/// A word of a secret in a file that is none.
pub(super) fn warn_if_public(key: &str, path: &Path, notes: &mut Notes) {
    let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & 0o004 != 0 {
        notes.warn(format!("{key}: everybody can read `{}`: chmod o-r", path.display()));
    }
}
