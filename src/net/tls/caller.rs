//! TLS towards the admin port of a proxy that runs: what the command line believes and shows.
//!
//! In: [`TlsCallerOptions`]. Out: a connection by TLS over whatever can be read and written, for a
//! thread that may wait. The proxy's own certificate, where its configuration is at hand, is
//! believed by whatever name it is reached: nobody else has its key; and for its own names, what
//! those behind it in the file have signed. One that `--cacert` names is believed as itself, too,
//! but for its own names only, as `curl` has it.

use crate::net::tls::client::{roots_of_system, server_name};
use crate::net::tls::files::PemFile;
use crate::net::tls::insecure::AcceptAll;
use crate::net::tls::{TlsError, explain_certificate};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct};
use rustls::{Error, RootCertStore, SignatureScheme, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Those that say who is believed to be the proxy.
const BELIEVED: [&str; 2] = ["--cacert", "--admin"];

/// What the command line says of it.
#[derive(Clone, Debug, Default)]
pub struct TlsCallerOptions {
    /// PEM file of who is believed; without it, the authorities of the system are.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate chain to show, and of its key.
    pub shown: Option<[PathBuf; 2]>,
    /// PEM file of the proxy's own certificate.
    pub own_file: Option<PathBuf>,
    /// Believe anybody.
    pub insecure: bool,
}

/// A connection by TLS, over `S`.
pub type Called<S> = StreamOwned<ClientConnection, S>;

/// Makes connections by TLS.
#[derive(Clone)]
pub struct TlsCaller(Arc<ClientConfig>);

impl fmt::Debug for TlsCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCaller").finish_non_exhaustive()
    }
}

impl TlsCaller {
    /// Reads the files that `options` name.
    pub fn new(options: &TlsCallerOptions) -> Result<Self, TlsError> {
        let read = |key, path: &Option<PathBuf>| {
            path.as_deref().map(|path| PemFile::read(key, path)).transpose()
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if options.insecure {
            Arc::new(AcceptAll::new(&provider))
        } else {
            let own = read("admin.tls.cert_file", &options.own_file)?;
            Arc::new(Believed::new(read("--cacert", &options.ca_file)?, own, &provider)?)
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::setup(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &options.shown {
            None => builder.with_no_client_auth(),
            Some([cert, key]) => {
                let cert = PemFile::read("--client-cert", cert)?.certificates()?;
                let key = PemFile::read("--client-key", key)?.private_key()?;
                builder
                    .with_client_auth_cert(cert, key)
                    .map_err(|error| TlsError::pair("--client-cert, --client-key", &error))?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over `stream` with the proxy that was found as `host`. One that refuses the
    /// certificate that is shown, or misses one, may say so behind the handshake.
    pub fn connect<S: Read + Write>(&self, host: &str, mut stream: S) -> io::Result<Called<S>> {
        let name = server_name(host).map_err(|(_, error)| io::Error::other(error))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name);
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

/// The same error, in words for an operator if it is one of TLS.
pub fn explained(error: io::Error) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else {
        return error;
    };
    io::Error::other(match cause {
        Error::InvalidMessage(_) => "this port does not speak HTTPS: say http://".to_owned(),
        Error::InvalidCertificate(certificate) => {
            explain_certificate(certificate, "the proxy's certificate", BELIEVED)
        }
        Error::AlertReceived(alert) => {
            format!("the proxy does not let this client in: --client-cert ({alert:?})")
        }
        other => other.to_string(),
    })
}

/// Who is believed to be the proxy.
#[derive(Debug)]
struct Believed {
    /// The proxy's own certificate.
    own: Option<CertificateDer<'static>>,
    /// Certificates that are believed as they are, for their names.
    named: Vec<CertificateDer<'static>>,
    /// Those that authorities have signed; none if there are no authorities.
    signed: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Believed {
    fn new(
        ca: Option<PemFile>,
        own: Option<PemFile>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let all = |file: Option<PemFile>| file.map(|file| file.certificates()).transpose();
        let (own, named) = (all(own)?.unwrap_or_default(), all(ca)?);
        let mut roots = match &named {
            None => RootCertStore::clone(&roots_of_system()),
            Some(named) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(named.iter().cloned());
                roots
            }
        };
        let mut own = own.into_iter();
        let first = own.next();
        // Where the file was exchanged, and the proxy has not read it: it has the same authority.
        roots.add_parsable_certificates(own);
        let signed = (!roots.is_empty()).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
        });
        Ok(Self {
            own: first,
            named: named.unwrap_or_default(),
            signed: signed.transpose().map_err(|error| TlsError::setup(&error))?,
            provider: Arc::clone(provider),
        })
    }
}

impl ServerCertVerifier for Believed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.as_ref() == Some(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.named.contains(end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(signed) = &self.signed else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
