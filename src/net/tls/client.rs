//! TLS towards the upstream: `[upstream.tls]` in, a [`TlsClient`] out that all its links share.
//!
//! TLS 1.2 and 1.3; certificates are verified unless `insecure_skip_verify` says otherwise. What
//! was read again takes its place by [`TlsClient::replace`]: links opened from then on go by it.

use crate::net::plain;
use crate::net::tls::files::{PemFile, digest};
use crate::net::tls::insecure::AcceptAll;
use crate::net::tls::{TlsError, explain_certificate};
use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// `[upstream.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file of the CAs to trust; without it, those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the key of that certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the server's certificate must carry, if not the host of the URL.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// The options that name a certificate and its key.
const PAIR: &str = "upstream.tls.cert_file, upstream.tls.key_file";

/// Those that say who is believed to be upstream.
const BELIEVED: [&str; 2] = ["upstream.tls.ca_file", "upstream.tls.server_name"];

/// Makes TLS connections; sessions are resumed between them.
pub struct TlsClient(RwLock<Made>);

/// What connections are made with.
#[derive(Clone)]
struct Made {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
    digest: String,
}

/// What it was made of: two of them differ where the contents of their files do.
impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("digest", &self.0.read().digest).finish_non_exhaustive()
    }
}

/// One of its own: what replaces either leaves the other as it is.
impl Clone for TlsClient {
    fn clone(&self) -> Self {
        Self(RwLock::new(self.made()))
    }
}

impl TlsClient {
    /// Reads the files that `options` name.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let read = |key, path: &Option<PathBuf>| {
            path.as_deref().map(|path| PemFile::read(key, path)).transpose()
        };
        let ca = read("upstream.tls.ca_file", &options.ca_file)?;
        let cert = read("upstream.tls.cert_file", &options.cert_file)?;
        let key = read("upstream.tls.key_file", &options.key_file)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::setup(&error))?
            .dangerous();
        let builder = if options.insecure_skip_verify {
            builder.with_custom_certificate_verifier(Arc::new(AcceptAll::new(&provider)))
        } else {
            let roots = match &ca {
                Some(file) => Arc::new(file.roots()?),
                None => system_roots()?,
            };
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| TlsError::setup(&error))?;
            builder.with_custom_certificate_verifier(verifier)
        };
        let config = match (&cert, &key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(cert.certificates()?, key.private_key()?)
                .map_err(|error| TlsError::pair(PAIR, &error))?,
            _ => return Err(TlsError::Half),
        };
        let server_name = options.server_name.as_deref().map(server_name).transpose();
        Ok(Self(RwLock::new(Made {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: server_name.map_err(|(name, _)| TlsError::ServerName(name))?,
            digest: digest([&ca, &cert, &key].into_iter().flatten()),
        })))
    }

    /// The same certificates, for a server that has the name of its URL.
    #[must_use]
    pub fn of_any_name(&self) -> Self {
        Self(RwLock::new(Made { server_name: None, ..self.made() }))
    }

    /// Connections are made as by the other one from now on.
    pub fn replace(&self, newer: &Self) {
        let made = newer.made();
        *self.0.write() = made;
    }

    fn made(&self) -> Made {
        self.0.read().clone()
    }

    /// Shakes hands over `stream`, whose server was found as `host`.
    pub(in crate::net) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let Made { connector, server_name: named, .. } = self.made();
        let name = match named {
            Some(name) => name,
            None => server_name(host).map_err(|(_, error)| io::Error::other(error))?,
        };
        connector.connect(name, stream).await
    }
}

pub(super) fn server_name(
    name: &str,
) -> Result<ServerName<'static>, (String, InvalidDnsNameError)> {
    ServerName::try_from(name.to_owned()).map_err(|error| (name.to_owned(), error))
}

/// The authorities that this system trusts; there may be none.
pub(super) fn roots_of_system() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        // System stores hold the odd certificate that is out of use: it is skipped.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    Arc::clone(&ROOTS)
}

/// The same; at least one.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let roots = roots_of_system();
    if roots.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
}

/// Why a TLS handshake failed, for an operator.
pub(in crate::net) fn explain(error: &io::Error) -> String {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())
    else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the server closed the connection in the TLS handshake; \
                 does this port speak TLS?"
                    .to_owned()
            }
            _ => plain(error),
        };
    };
    match cause {
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port".to_owned(),
        rustls::Error::InvalidCertificate(certificate) => {
            explain_certificate(certificate, "the server's certificate", BELIEVED)
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the server refuses the TLS handshake ({alert:?})")
        }
        other => other.to_string(),
    }
}
