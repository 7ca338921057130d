//! What stands before a client's first command: the header of the PROXY protocol, and the handshake
//! of TLS, in this order.
//!
//! An accepted [`Socket`] in; out the same with the address that the header gives and the keys of
//! the session, or why not, in time. Accepting threads wait here, never a worker.
//!
//! Invariant: what comes before the handshake is over is never taken for a request.

use crate::net::client::{PeerAddress, Socket, Wire};
use crate::net::proxy_protocol::{self, Header, HeaderError};
use crate::net::tls::TlsServer;
use crate::net::tls::server::explain;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};

/// How clients of one listener are greeted.
#[derive(Debug)]
pub struct Greeting {
    /// A PROXY header is expected.
    pub proxy_protocol: bool,
    /// With whose certificate hands are shaken, if they are.
    pub tls: Option<TlsServer>,
    /// Limit of all of it.
    pub timeout: Duration,
}

/// Why a client was not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It left before it sent a byte, as checks of health and ports do.
    #[error("it left without a word")]
    Left,
    /// No PROXY header, or a wrong one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The handshake of TLS failed.
    #[error("{0}")]
    Tls(String),
    /// It took too long.
    #[error("it was not done within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The system has no room for it.
    #[error(transparent)]
    System(io::Error),
}

impl Refusal {
    /// In one word.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Header(_) => "proxy_protocol",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "handshake_timeout",
            Self::System(_) => "system",
        }
    }
}

impl Greeting {
    /// True if clients may speak at once.
    pub const fn is_empty(&self) -> bool {
        !self.proxy_protocol && self.tls.is_none()
    }

    /// Greets one client.
    pub async fn greet(&self, socket: Socket) -> Result<Socket, Refusal> {
        let greeted = tokio::time::timeout(self.timeout, self.play(socket)).await;
        greeted.unwrap_or(Err(Refusal::Timeout(self.timeout)))
    }

    async fn play(&self, socket: Socket) -> Result<Socket, Refusal> {
        let Socket { wire, mut peer, mut local } = socket;
        let wire = match wire {
            Wire::Tcp(stream) => {
                let mut stream = TcpStream::from_std(stream).map_err(Refusal::System)?;
                self.header(&mut stream, &mut peer, &mut local).await?;
                match &self.tls {
                    Some(tls) => shake_hands(tls, stream).await?,
                    None => Wire::Tcp(stream.into_std().map_err(Refusal::System)?),
                }
            }
            Wire::Unix(stream) => {
                let mut stream = UnixStream::from_std(stream).map_err(Refusal::System)?;
                self.header(&mut stream, &mut peer, &mut local).await?;
                Wire::Unix(stream.into_std().map_err(Refusal::System)?)
            }
            // It was greeted before.
            wire @ Wire::Tls(..) => wire,
        };
        Ok(Socket { wire, peer, local })
    }

    /// Reads the header, if there is to be one: its addresses take the place of the socket's.
    async fn header(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        peer: &mut PeerAddress,
        local: &mut Option<PeerAddress>,
    ) -> Result<(), Refusal> {
        if !self.proxy_protocol {
            return Ok(());
        }
        let mut header = Vec::new();
        loop {
            let wanted = proxy_protocol::wanted(&header)?;
            if wanted == 0 {
                break;
            }
            let mut more = stream.take(u64::try_from(wanted).unwrap_or(u64::MAX));
            // A connection that breaks has ended, too.
            if more.read_buf(&mut header).await.unwrap_or(0) == 0 {
                let is_nothing = header.is_empty();
                let ended = Refusal::Header(HeaderError::Truncated);
                return Err(if is_nothing { Refusal::Left } else { ended });
            }
        }
        if let Header::Proxied { from, to } = proxy_protocol::parse(&header)? {
            *peer = PeerAddress::Tcp(from);
            *local = Some(PeerAddress::Tcp(to));
        }
        Ok(())
    }
}

async fn shake_hands(tls: &TlsServer, stream: TcpStream) -> Result<Wire, Refusal> {
    if !matches!(stream.peek(&mut [0]).await, Ok(1)) {
        return Err(Refusal::Left);
    }
    let shaken = tls.accept(stream).await;
    let (stream, connection) = shaken.map_err(|error| Refusal::Tls(explain(&error)))?;
    Ok(Wire::Tls(stream.into_std().map_err(Refusal::System)?, connection))
}
