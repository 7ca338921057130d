//! TLS on all sides of the proxy.
//!
//! ```text
//! clients    server -> session    (the handshake on an accepting thread, then on a worker)
//! operators  server               (the admin port)
//! upstream   client               (links)
//! a proxy    caller               (the admin port of one that runs, asked by the command line)
//! ```
//!
//! In: the names of PEM files. Out: who shakes hands with what they hold. Everything that can be
//! wrong in the files is found when they are read, before anybody connects. Certificates are
//! exchanged as a whole while nearside runs: who is connected stays so under the old ones.
//!
//! Invariant: no key and no secret of a session is ever shown, logged or written.

pub mod caller;
pub mod client;
mod files;
mod insecure;
pub mod server;
pub(super) mod session;

pub use self::caller::{Called, TlsCaller, TlsCallerOptions};
pub use self::client::{TlsClient, TlsOptions};
pub use self::server::{ADMIN_TLS, SERVER_TLS, TlsKeys, TlsServer, TlsServerOptions};

use rustls::CertificateError;
use std::path::Path;

/// What is wrong with certificates, keys or names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM file of what it should hold.
    #[error("{key}: {}: {problem}", path.display())]
    File {
        /// Name of the option.
        key: &'static str,
        /// The file it names.
        path: Box<Path>,
        /// What is wrong with it.
        problem: Box<str>,
    },
    /// A certificate without key, or a key without certificate.
    #[error("upstream.tls.cert_file and upstream.tls.key_file need each other")]
    Half,
    /// Certificate and key do not fit each other, or are of no kind that is supported.
    #[error("{keys}: {problem}")]
    Pair {
        /// The options that name them.
        keys: &'static str,
        /// What is wrong with them.
        problem: Box<str>,
    },
    /// The machine has no certificate store.
    #[error("this system has no CA certificates: name a file by upstream.tls.ca_file")]
    NoSystemRoots,
    /// Not a name that a certificate can carry.
    #[error("upstream.tls.server_name: `{0}` is neither a host name nor an IP address")]
    ServerName(String),
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl TlsError {
    fn setup(error: &dyn std::error::Error) -> Self {
        Self::Setup(error.to_string())
    }

    /// Of a certificate and a key that do not go together.
    fn pair(keys: &'static str, error: &rustls::Error) -> Self {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => "the key is not the certificate's".to_owned(),
            other => other.to_string(),
        };
        Self::Pair { keys, problem: problem.into() }
    }
}

/// What is wrong with `whose` certificate, for an operator; the options are named of those that are
/// `[trusted, wanted]`: the authorities, and who it is.
fn explain_certificate(
    error: &CertificateError,
    whose: &str,
    [authorities, wanted]: [&str; 2],
) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            format!("{whose} is from a CA that is not trusted here ({authorities})")
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "{whose} is not for {} but for {} ({wanted})",
            expected.to_str(),
            presented.join(", "),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{whose} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{whose} is not valid yet; is the clock right?")
        }
        other => format!("{whose} is not accepted: {other}"),
    }
}
