//! The admin port by HTTPS: whom the command line believes, and what it shows.
//!
//! In: flags, and the configuration that is at hand: its `admin.tls.cert_file` is believed by
//! itself, so that who may read it needs no flag. Out: what `ureq` makes connections with.

use crate::config::Settings;
use crate::net::tls::caller::explained;
use crate::net::tls::{Called, TlsCaller, TlsCallerOptions};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// What help says before these.
const HEADING: &str = "Where the proxy is reached by https";

/// Who is believed to be the proxy, where it is reached by `https://`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Trust {
    /// Who is believed, PEM [default: `admin.tls.cert_file`, and the system's CAs]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    cacert: Option<PathBuf>,
    /// The certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = HEADING)]
    client_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = HEADING)]
    client_key: Option<PathBuf>,
    /// Believe anybody, and give them the token
    #[arg(long, help_heading = HEADING)]
    insecure: bool,
}

impl Trust {
    /// What connections to `url` are made with.
    pub(super) fn caller(&self, url: &str, settings: Option<&Settings>) -> anyhow::Result<Https> {
        let is_https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        if !is_https {
            return Ok(Https(None));
        }
        let tls = settings.map(|settings| &settings.admin.tls);
        let tls = tls.filter(|tls| tls.server.is_some());
        let shown = self.client_cert.clone().zip(self.client_key.clone());
        Ok(Https(Some(TlsCaller::new(&TlsCallerOptions {
            ca_file: self.cacert.clone(),
            shown: shown.map(|(cert, key)| [cert, key]),
            own_file: tls.and_then(|tls| tls.cert_file.clone()),
            insecure: self.insecure,
        })?)))
    }
}

/// Puts TLS over the connection that is there, if it is to have it.
#[derive(Debug)]
pub(super) struct Https(Option<TlsCaller>);

impl<In: Transport> Connector<In> for Https {
    type Out = Either<In, HttpsTransport<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let Some(caller) = self.0.as_ref().filter(|_| details.needs_tls()) else {
            return Ok(Some(Either::A(transport)));
        };
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let mut socket = TransportAdapter::new(transport, Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        let stream = caller.connect(host, socket).map_err(told)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(HttpsTransport { buffers, stream })))
    }
}

/// A connection by TLS.
pub(super) struct HttpsTransport<In: Transport> {
    buffers: LazyBuffers,
    stream: Called<TransportAdapter<In>>,
}

impl<In: Transport> fmt::Debug for HttpsTransport<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsTransport").finish_non_exhaustive()
    }
}

impl<In: Transport> Transport for HttpsTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(told)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf()).map_err(told)?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

fn told(error: io::Error) -> Error {
    explained(error).into()
}
