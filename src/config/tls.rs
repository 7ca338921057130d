//! `[server.tls]`, `[admin.tls]` and `[upstream.tls]`: which certificates are shown to whom, and
//! whose are believed.
//!
//! In: what is written, and the files that it names. Out: who shakes hands with them. So a file
//! that is wrong is a fault of the configuration, at the start and at every reload, and a
//! certificate that was exchanged is a configuration that has changed.

use crate::config::admin::warn_if_public;
use crate::config::check::Notes;
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::values::TlsVersion;
use crate::config::{ClientAuth, Tls};
use crate::net::address::Address;
use crate::net::tls::{
    ADMIN_TLS, SERVER_TLS, TlsClient, TlsKeys, TlsOptions, TlsServer, TlsServerOptions,
};
use crate::units::clock;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

table! {
    /// TLS for clients, with `rediss://`.
    "server.tls." ServerTlsKeys {
        /// `host:port`, where clients speak TLS: others than those of `server.listen`, which may
        /// then be `[]`.
        listen: Vec<String> = [], Restart;
        /// The certificate that is shown to clients, and behind it those between it and an
        /// authority, PEM; read again by a reload.
        cert_file: PathBuf = (), New;
        /// Its key, PEM, without passphrase; read again by a reload.
        key_file: PathBuf = (), New;
        /// Certificates of who may sign clients', PEM; read again by a reload.
        client_ca_file: PathBuf = (), New;
        /// Whether clients are asked for a certificate: `"required"`: without one they are refused.
        client_auth: ClientAuth = "none", New;
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = "1.2", New;
    }
}

table! {
    /// TLS of links, with `rediss://`.
    "upstream.tls." UpstreamTlsKeys {
        /// Certificates of who may sign upstream's, PEM; none: those of the system.
        ca_file: PathBuf = (), New;
        /// The certificate that is shown to upstream, PEM.
        cert_file: PathBuf = (), New;
        /// Its key, PEM.
        key_file: PathBuf = (), New;
        /// The name that upstream's certificate must have; none: the host of the URL.
        server_name: String = (), New;
        /// Believes any certificate: anybody on the way can read and change.
        insecure_skip_verify: bool = false, New;
    }
}

table! {
    /// HTTPS for operators, on the port of `admin.listen`.
    "admin.tls." AdminTlsKeys {
        /// The certificate that is shown to who asks, and behind it those between it and an
        /// authority, PEM; with it and its key `admin.listen` speaks HTTPS and nothing else (which
        /// takes a restart to change); read again by a reload.
        cert_file: PathBuf = (), New;
        /// Its key, PEM, without passphrase; read again by a reload.
        key_file: PathBuf = (), New;
        /// Certificates of who may sign those of who asks, PEM; read again by a reload.
        client_ca_file: PathBuf = (), New;
        /// Whether who asks is asked for a certificate: `"required"`: without one they are refused,
        /// and the port may be open to other machines without a token.
        client_auth: ClientAuth = "none", New;
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = "1.2", New;
    }
}

/// `[server.tls]`: its ports, and the rest; its files are read if anybody is to see them.
pub(super) fn server_tls(
    written: &ServerTlsKeys,
    notes: &mut Notes,
) -> Option<(Vec<Address>, Tls)> {
    let listen: Vec<Option<Address>> =
        written.listen.iter().flatten().map(|address| tcp(address, notes)).collect();
    let tls = Tls {
        cert_file: written.cert_file.clone(),
        key_file: written.key_file.clone(),
        client_ca_file: written.client_ca_file.clone(),
        client_auth: written.client_auth.unwrap_or(ClientAuth::None),
        min_version: written.min_version.unwrap_or(TlsVersion::V12),
        server: None,
    };
    check_asked(&tls, &SERVER_TLS, "clients", notes);
    let listen = listen.into_iter().collect::<Option<Vec<_>>>()?;
    if listen.is_empty() && tls.cert_file.is_some() {
        notes.warn("server.tls.cert_file is shown to nobody: server.tls.listen is empty");
    }
    if !listen.is_empty() && (tls.cert_file.is_none() || tls.key_file.is_none()) {
        notes.fault("server.tls.listen: set server.tls.cert_file and server.tls.key_file, too");
        return None;
    }
    let server = if listen.is_empty() { None } else { Some(read(&tls, &SERVER_TLS, notes)?) };
    Some((listen, Tls { server, ..tls }))
}

/// `[admin.tls]`; its files are read if the port `is_open`.
pub(super) fn admin_tls(written: &AdminTlsKeys, is_open: bool, notes: &mut Notes) -> Tls {
    let tls = Tls {
        cert_file: written.cert_file.clone(),
        key_file: written.key_file.clone(),
        client_ca_file: written.client_ca_file.clone(),
        client_auth: written.client_auth.unwrap_or(ClientAuth::None),
        min_version: written.min_version.unwrap_or(TlsVersion::V12),
        server: None,
    };
    check_asked(&tls, &ADMIN_TLS, "operators", notes);
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => notes.fault("admin.tls.cert_file: set admin.tls.key_file, too"),
        (None, Some(_)) => notes.fault("admin.tls.key_file: set admin.tls.cert_file, too"),
        // Whoever wrote that wants no port in plain.
        (None, None) if tls.client_auth != ClientAuth::None => notes
            .fault("admin.tls.client_auth: set admin.tls.cert_file and admin.tls.key_file, too"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if tls.cert_file.is_none() || tls.key_file.is_none() {
        return tls;
    }
    if !is_open {
        notes.warn("admin.tls.cert_file is shown to nobody: admin.listen is \"off\"");
        return tls;
    }
    Tls { server: read(&tls, &ADMIN_TLS, notes), ..tls }
}

/// What is asked of who comes in can be judged, and what can be judged is asked.
fn check_asked(tls: &Tls, keys: &TlsKeys, who: &str, notes: &mut Notes) {
    let TlsKeys { client_ca_file, client_auth, .. } = keys;
    match (&tls.client_ca_file, tls.client_auth) {
        (None, ClientAuth::Optional | ClientAuth::Required) => notes.fault(format!(
            "{client_auth} is \"{}\": set {client_ca_file}, the CA of {who}' certificates",
            tls.client_auth.as_str()
        )),
        (Some(_), ClientAuth::None) => notes.fault(format!(
            "{client_ca_file} is set, but {who} are asked for no certificate: set {client_auth} to \
             \"required\" or \"optional\""
        )),
        _ => {}
    }
}

/// TLS is spoken over TCP only, as Redis has it.
fn tcp(address: &str, notes: &mut Notes) -> Option<Address> {
    match notes.take(&format!("server.tls.listen: `{address}`"), address.parse::<Address>())? {
        tcp @ Address::Tcp { .. } => Some(tcp),
        Address::Unix(_) | Address::Embedded => {
            notes.fault(format!(
                "server.tls.listen: `{address}`: only TCP, such as \"0.0.0.0:6390\""
            ));
            None
        }
    }
}

fn read(tls: &Tls, keys: &'static TlsKeys, notes: &mut Notes) -> Option<TlsServer> {
    let (cert_file, key_file) = tls.cert_file.as_ref().zip(tls.key_file.as_ref())?;
    let server = TlsServer::new(&TlsServerOptions {
        keys,
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        client_ca_file: tls.client_ca_file.clone(),
        needs_client_certificate: tls.client_auth == ClientAuth::Required,
        is_tls13_only: tls.min_version == TlsVersion::V13,
    });
    let server = server.map_err(|error| notes.fault(error.to_string())).ok()?;
    warn_if_public(keys.key_file, key_file, notes);
    let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
    if server.expires_at() < now {
        notes.warn(format!(
            "{}: `{}` has expired: who verifies it will not connect",
            keys.cert_file,
            cert_file.display()
        ));
    }
    Some(server)
}

/// `[upstream.tls]`; its files are read if a link `is_used` over TLS.
pub(super) fn upstream_tls(
    written: &UpstreamTlsKeys,
    is_used: bool,
    notes: &mut Notes,
) -> (TlsOptions, Option<TlsClient>) {
    let is_half = written.cert_file.is_some() != written.key_file.is_some();
    if is_half {
        notes.fault("upstream.tls: cert_file and key_file go together");
    }
    if written.insecure_skip_verify == Some(true) {
        notes.warn("upstream.tls.insecure_skip_verify: anybody on the way can read and change");
    }
    if let Some(key_file) = &written.key_file {
        warn_if_public("upstream.tls.key_file", key_file, notes);
    }
    let options = TlsOptions {
        ca_file: written.ca_file.clone(),
        cert_file: written.cert_file.clone(),
        key_file: written.key_file.clone(),
        server_name: written.server_name.clone(),
        insecure_skip_verify: written.insecure_skip_verify.unwrap_or(false),
    };
    let client = (is_used && !is_half).then(|| TlsClient::new(&options));
    let client = client.and_then(|made| made.map_err(|error| notes.fault(error.to_string())).ok());
    (options, client)
}
