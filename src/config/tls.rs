//! `[server.tls]` and `[upstream.tls]`: which certificates are shown to whom, and whose are
//! believed.
//!
//! In: what is written, and the files that it names. Out: who shakes hands with them. So a file
//! that is wrong is a fault of the configuration, at the start and at every reload, and a
//! certificate that was exchanged is a configuration that has changed.

use crate::config::admin::warn_if_public;
use crate::config::check::Notes;
use crate::config::written::{self, TlsVersion};
use crate::config::{ClientAuth, ServerTls};
use crate::net::address::Address;
use crate::net::tls::{TlsClient, TlsOptions, TlsServer, TlsServerOptions};
use crate::units::clock;

/// `[server.tls]`; its files are read if anybody is to see them.
pub(super) fn server_tls(written: &written::ServerTls, notes: &mut Notes) -> Option<ServerTls> {
    let listen: Vec<Option<Address>> =
        written.listen.iter().flatten().map(|address| tcp(address, notes)).collect();
    let client_auth = written.client_auth.unwrap_or(ClientAuth::None);
    match (&written.client_ca_file, client_auth) {
        (None, ClientAuth::Optional | ClientAuth::Required) => notes.fault(format!(
            "server.tls.client_auth is \"{}\": set server.tls.client_ca_file, the CA of clients' \
             certificates",
            client_auth.as_str()
        )),
        (Some(_), ClientAuth::None) => notes.fault(
            "server.tls.client_ca_file is set, but clients are asked for no certificate: set \
             server.tls.client_auth to \"required\" or \"optional\"",
        ),
        _ => {}
    }
    let tls = ServerTls {
        listen: listen.into_iter().collect::<Option<_>>()?,
        cert_file: written.cert_file.clone(),
        key_file: written.key_file.clone(),
        client_ca_file: written.client_ca_file.clone(),
        client_auth,
        min_version: written.min_version.unwrap_or(TlsVersion::V12),
        server: None,
    };
    if tls.listen.is_empty() && tls.cert_file.is_some() {
        notes.warn("server.tls.cert_file is shown to nobody: server.tls.listen is empty");
    }
    let server = if tls.listen.is_empty() { None } else { Some(read(&tls, notes)?) };
    Some(ServerTls { server, ..tls })
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

fn read(tls: &ServerTls, notes: &mut Notes) -> Option<TlsServer> {
    let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else {
        notes.fault("server.tls.listen: set server.tls.cert_file and server.tls.key_file, too");
        return None;
    };
    let server = TlsServer::new(&TlsServerOptions {
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        client_ca_file: tls.client_ca_file.clone(),
        needs_client_certificate: tls.client_auth == ClientAuth::Required,
        is_tls13_only: tls.min_version == TlsVersion::V13,
    });
    let server = server.map_err(|error| notes.fault(error.to_string())).ok()?;
    warn_if_public("server.tls.key_file", key_file, notes);
    let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
    if server.expires_at() < now {
        notes.warn(format!(
            "server.tls.cert_file: `{}` has expired: clients that verify it will not connect",
            cert_file.display()
        ));
    }
    Some(server)
}

/// `[upstream.tls]`; its files are read if a link `is_used` over TLS.
pub(super) fn upstream_tls(
    written: &written::UpstreamTls,
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
