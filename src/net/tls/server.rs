//! TLS for who comes in: `[server.tls]` or `[admin.tls]` in, a [`TlsServer`] out that shakes hands.
//!
//! TLS 1.2 and 1.3. Sessions are resumed by tickets, whose keys live as long as the certificates
//! they were given under: a resumed session was checked against the authority in force.

use crate::net::tls::files::{PemFile, digest};
use crate::net::tls::{TlsError, explain_certificate};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the options are called, for errors.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsKeys {
    /// The certificate.
    pub cert_file: &'static str,
    /// Its key.
    pub key_file: &'static str,
    /// Both.
    pair: &'static str,
    /// The CAs of clients' certificates.
    pub client_ca_file: &'static str,
    /// Whether clients show one.
    pub client_auth: &'static str,
    /// Where TLS is spoken.
    port: &'static str,
}

/// Of clients.
pub const SERVER_TLS: TlsKeys = TlsKeys {
    cert_file: "server.tls.cert_file",
    key_file: "server.tls.key_file",
    pair: "server.tls.cert_file, server.tls.key_file",
    client_ca_file: "server.tls.client_ca_file",
    client_auth: "server.tls.client_auth",
    port: "server.tls.listen",
};

/// Of operators.
pub const ADMIN_TLS: TlsKeys = TlsKeys {
    cert_file: "admin.tls.cert_file",
    key_file: "admin.tls.key_file",
    pair: "admin.tls.cert_file, admin.tls.key_file",
    client_ca_file: "admin.tls.client_ca_file",
    client_auth: "admin.tls.client_auth",
    port: "admin.tls",
};

/// One of these tables, as far as handshakes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServerOptions {
    /// What they are called.
    pub keys: &'static TlsKeys,
    /// PEM file of our certificate chain.
    pub cert_file: PathBuf,
    /// PEM file of the key of that certificate.
    pub key_file: PathBuf,
    /// PEM file of the CAs of clients' certificates; without it, none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Clients without a certificate are refused.
    pub needs_client_certificate: bool,
    /// TLS 1.2 is refused.
    pub is_tls13_only: bool,
}

/// Shakes hands with clients. Cheap to clone.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    keys: &'static TlsKeys,
    expires_at: i64,
    digest: String,
}

/// What it was made of: two of them differ where the contents of their files do.
impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files that `options` name.
    pub fn new(options: &TlsServerOptions) -> Result<Self, TlsError> {
        let keys = options.keys;
        let cert = PemFile::read(keys.cert_file, &options.cert_file)?;
        let key = PemFile::read(keys.key_file, &options.key_file)?;
        let read = |path| PemFile::read(keys.client_ca_file, path);
        let client_ca = options.client_ca_file.as_deref().map(read).transpose()?;
        let chain = cert.certificates()?;
        let expires_at = expires_at(&cert, &chain)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = if options.is_tls13_only { &[&TLS13][..] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::setup(&error))?;
        let builder = match &client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(file.roots()?), provider);
                let roots = if options.needs_client_certificate {
                    roots
                } else {
                    roots.allow_unauthenticated()
                };
                let verifier: Arc<dyn ClientCertVerifier> =
                    roots.build().map_err(|error| file.problem(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key.private_key()?)
            .map_err(|error| TlsError::pair(keys.pair, &error))?;
        config.ticketer =
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| TlsError::setup(&error))?;
        let digest = digest([&cert, &key].into_iter().chain(&client_ca));
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), keys, expires_at, digest })
    }

    /// When the certificate is no longer valid, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// Shakes hands with a client.
    pub(in crate::net) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TcpStream, Box<ServerConnection>)> {
        let (stream, connection) = self.accept_stream(stream).await?.into_inner();
        Ok((stream, Box::new(connection)))
    }

    /// The same; the connection stays in this runtime.
    pub(in crate::net) async fn accept_stream(
        &self,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    /// Why the handshake with a client failed, for an operator.
    pub(in crate::net) fn explain(&self, error: &io::Error) -> String {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            None => format!("the client closed the connection in the TLS handshake ({error})"),
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("the client does not speak TLS, which this port needs ({})", self.keys.port)
            }
            Some(rustls::Error::NoCertificatesPresented) => {
                format!("the client shows no certificate ({})", self.keys.client_auth)
            }
            Some(rustls::Error::InvalidCertificate(certificate)) => {
                let believed = [self.keys.client_ca_file, self.keys.client_auth];
                explain_certificate(certificate, "the client's certificate", believed)
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("the client refuses the TLS handshake, or this certificate ({alert:?})")
            }
            Some(other) => other.to_string(),
        }
    }
}

/// Of the certificate that is shown: the first of its chain.
fn expires_at(file: &PemFile, chain: &[CertificateDer<'static>]) -> Result<i64, TlsError> {
    let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let (_, certificate) = x509_parser::parse_x509_certificate(first)
        .map_err(|error| file.problem(format!("is no X.509 certificate: {error}")))?;
    Ok(certificate.validity().not_after.timestamp())
}
