//! TLS towards the upstream: `[upstream.tls]` in, a [`TlsClient`] out that all its links share.
//!
//! Everything that can be wrong in files is found here, once, before the first connection.
//! TLS 1.2 and 1.3; certificates are verified unless `insecure_skip_verify` says otherwise.

use crate::net::insecure::AcceptAll;
use crate::net::plain;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// What is wrong in `[upstream.tls]`.
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
    #[error("upstream.tls.cert_file, upstream.tls.key_file: {0}")]
    ClientCertificate(Box<rustls::Error>),
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

/// Makes TLS connections. Cheap to clone; sessions are resumed between connections.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files that `options` name.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let setup = |error: &dyn std::error::Error| TlsError::Setup(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            .dangerous();
        let builder = if options.insecure_skip_verify {
            builder.with_custom_certificate_verifier(Arc::new(AcceptAll::new(&provider)))
        } else {
            let roots = Arc::new(roots(options.ca_file.as_deref())?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| setup(&error))?;
            builder.with_custom_certificate_verifier(verifier)
        };
        let config = match (&options.cert_file, &options.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("upstream.tls.cert_file", cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| file("upstream.tls.key_file", key, &error, "private key"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsError::ClientCertificate(Box::new(error)))?
            }
            _ => return Err(TlsError::Half),
        };
        let server_name = options.server_name.as_deref().map(server_name).transpose();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: server_name.map_err(|(name, _)| TlsError::ServerName(name))?,
        })
    }

    /// Shakes hands over `stream`, whose server was found as `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(|(_, error)| io::Error::other(error))?,
        };
        self.connector.connect(name, stream).await
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, (String, InvalidDnsNameError)> {
    ServerName::try_from(name.to_owned()).map_err(|error| (name.to_owned(), error))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    const KEY: &str = "upstream.tls.ca_file";
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates(KEY, path)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                key: KEY,
                path: path.into(),
                problem: error.to_string().into(),
            })?;
        }
    } else {
        // System stores hold the odd certificate that is out of use: it is skipped.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoSystemRoots);
        }
    }
    Ok(roots)
}

/// All certificates of a PEM file; at least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file(key, path, &error, "certificate"))?;
    if found.is_empty() {
        return Err(file(key, path, &pem::Error::NoItemsFound, "certificate"));
    }
    Ok(found)
}

fn file(key: &'static str, path: &Path, error: &pem::Error, what: &str) -> TlsError {
    let problem = match error {
        pem::Error::Io(error) => plain(error),
        pem::Error::NoItemsFound => format!("holds no PEM {what}"),
        other => other.to_string(),
    };
    TlsError::File { key, path: path.into(), problem: problem.into() }
}

/// Why a TLS handshake failed, for an operator.
pub(super) fn explain(error: &io::Error) -> String {
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
        rustls::Error::InvalidCertificate(certificate) => explain_certificate(certificate),
        rustls::Error::AlertReceived(alert) => {
            format!("the server refuses the TLS handshake ({alert:?})")
        }
        other => other.to_string(),
    }
}

fn explain_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "the server's certificate is from a CA that is not trusted here \
             (upstream.tls.ca_file)"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the server's certificate is not for {} but for {} (upstream.tls.server_name)",
            expected.to_str(),
            presented.join(", "),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; is the clock right?".to_owned()
        }
        other => format!("the server's certificate is not accepted: {other}"),
    }
}
