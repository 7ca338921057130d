//! Certificates, as they are written: `[server.tls]`, `[upstream.tls]`, `[admin.tls]`. As
//! [`super::written`].

use crate::config::ClientAuth;
use crate::config::key::{Applies, BuiltIn, Key, Kind};
use crate::config::table::{built_in, name, table};
use crate::config::values::TlsVersion;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

table! {
    /// TLS for clients, with `rediss://`.
    "server.tls." ServerTls {
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
    "upstream.tls." UpstreamTls {
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
    "admin.tls." AdminTls {
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
