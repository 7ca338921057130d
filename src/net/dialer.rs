//! Opens upstream links: connect, then the handshake, within one time limit. Both wings use it:
//! the workers for data links, the tracking thread for its own.

use crate::net::stream::{self, ConnectError, ConnectErrorKind, Stream};
use crate::net::target::{Password, Target};
use crate::net::tls::TlsClient;
use crate::stats::Counter;
use crate::wire::handshake::{Handshake, HandshakeError, Options, Progress, ServerInfo};
use crate::wire::reply::{Malformed, Scan};
use bytes::BytesMut;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Opens a connection to the embedded upstream.
pub type Door = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// How links are opened.
pub struct Dialer {
    /// Where to.
    pub target: Target,
    /// With which certificates, if by TLS.
    pub tls: Option<TlsClient>,
    /// The embedded upstream's door, if it is the target.
    pub embedded: Option<Door>,
    /// Limit of connecting, and again of the handshake.
    pub timeout: Duration,
    /// What links call themselves.
    pub name: String,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not let this link in.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection broke during the handshake.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    /// What answered is no Redis.
    #[error("it does not answer as Redis does: {0}")]
    Malformed(#[from] Malformed),
    /// It accepted the connection and then said nothing.
    #[error("connected, but the handshake was not answered within {0:?}")]
    Silent(Duration),
}

impl OpenError {
    /// True if the server is there and answers, and only refuses what this link wants to be.
    pub fn is_refusal(&self) -> bool {
        use HandshakeError as E;
        matches!(self, Self::Handshake(E::NoProto(_) | E::TrackingRefused(_) | E::Other(_)))
    }

    /// What the attempt is counted as.
    pub fn counter(&self) -> Counter {
        match self {
            Self::Connect(error) => match error.kind {
                ConnectErrorKind::Timeout => Counter::ConnectTimeout,
                ConnectErrorKind::Refused => Counter::ConnectRefused,
                ConnectErrorKind::Tls => Counter::ConnectTls,
                _ => Counter::ConnectError,
            },
            Self::Handshake(HandshakeError::WrongPassword(_) | HandshakeError::NoAuth) => {
                Counter::ConnectAuth
            }
            Self::Silent(_) => Counter::ConnectTimeout,
            _ => Counter::ConnectError,
        }
    }
}

impl Dialer {
    /// The user that links log in as.
    pub fn username(&self) -> Option<&str> {
        self.target.username.as_deref()
    }

    /// The password that links log in with.
    pub fn password(&self) -> Option<&str> {
        self.target.password.as_ref().map(Password::reveal)
    }

    /// A connection that has shaken hands, and what the server said of itself.
    pub async fn open(
        &self,
        options: &Options<'_>,
    ) -> Result<(Stream, Option<ServerInfo>), OpenError> {
        let embedded = self.embedded.as_deref();
        let mut stream =
            stream::connect(&self.target, self.timeout, self.tls.as_ref(), embedded).await?;
        let shaking = shake_hands(&mut stream, options);
        let server = tokio::time::timeout(self.timeout, shaking)
            .await
            .map_err(|_| OpenError::Silent(self.timeout))??;
        Ok((stream, server))
    }
}

/// Plays the handshake out on a fresh connection.
async fn shake_hands(
    stream: &mut Stream,
    options: &Options<'_>,
) -> Result<Option<ServerInfo>, OpenError> {
    let mut handshake = Handshake::new(options);
    let (mut out, mut input, mut scan) = (BytesMut::new(), BytesMut::new(), Scan::default());
    let mut progress = Progress::Write;
    loop {
        match progress {
            Progress::Ready => return Ok(handshake.server().cloned()),
            Progress::Write => {
                out.clear();
                handshake.request(&mut out);
                stream.write_all(&out).await?;
                stream.flush().await?;
            }
            Progress::Wait => {}
        }
        let length = loop {
            if let Some(length) = scan.next(&input)? {
                break length;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        };
        progress = handshake.reply(&input.split_to(length))?;
    }
}
