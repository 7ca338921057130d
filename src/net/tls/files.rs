//! PEM files of certificates and keys.
//!
//! In: a path and the option that names it. Out: what the file holds, or an error that says both.
//! A file is read once, so that what was checked is what is used, and [`digest`] is of that.

use crate::net::plain;
use crate::net::tls::TlsError;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, read.
pub(super) struct PemFile {
    key: &'static str,
    path: PathBuf,
    text: Vec<u8>,
}

impl PemFile {
    /// Reads the file that the option `key` names.
    pub(super) fn read(key: &'static str, path: &Path) -> Result<Self, TlsError> {
        let text = fs::read(path).map_err(|error| TlsError::File {
            key,
            path: path.into(),
            problem: plain(&error).into(),
        })?;
        Ok(Self { key, path: path.to_owned(), text })
    }

    /// All certificates; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let found = found.map_err(|error| self.fault(&error, "certificate"))?;
        if found.is_empty() {
            return Err(self.fault(&pem::Error::NoItemsFound, "certificate"));
        }
        Ok(found)
    }

    /// The certificates as those of authorities.
    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.problem(error.to_string()))?;
        }
        Ok(roots)
    }

    /// The first private key: PKCS#8, PKCS#1 or SEC1.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| {
            // PKCS#8 has it in the first line, older forms in a header.
            if String::from_utf8_lossy(&self.text).contains("ENCRYPTED") {
                let problem = "the key is encrypted, and nobody is there to type its passphrase: \
                               `openssl pkey` writes it without";
                return self.problem(problem.to_owned());
            }
            self.fault(&error, "private key")
        })
    }

    fn fault(&self, error: &pem::Error, what: &str) -> TlsError {
        self.problem(match error {
            pem::Error::NoItemsFound => format!("holds no PEM {what}"),
            other => other.to_string(),
        })
    }

    /// An error that names the option and the file.
    pub(super) fn problem(&self, problem: String) -> TlsError {
        TlsError::File { key: self.key, path: self.path.as_path().into(), problem: problem.into() }
    }
}

/// What tells the contents of these files from others, in hexadecimal; it says nothing of them.
pub(super) fn digest<'f, I: IntoIterator<Item = &'f PemFile>>(files: I) -> String {
    let mut context = Context::new(&SHA256);
    for file in files {
        context.update(&(file.text.len() as u64).to_be_bytes());
        context.update(&file.text);
    }
    let mut text = String::new();
    for byte in context.finish().as_ref() {
        write!(text, "{byte:02x}").ok();
    }
    text
}
