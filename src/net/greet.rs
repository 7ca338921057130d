//! What stands before a client's first command: the header of the PROXY protocol, and the handshake
//! of TLS, in this order; and before an operator's first request.
//!
//! An accepted [`Socket`] in; out the same with the address that the header gives and the keys of
//! the session, or why not, in time. Accepting threads wait here, never a worker. An operator's
//! connection stays in the runtime that has accepted it.
//!
//! Invariant: what comes before the handshake is over is never taken for a request.

use crate::net::client::{PeerAddress, Socket, Wire};
use crate::net::proxy_protocol::{self, Header, HeaderError};
use crate::net::tls::TlsServer;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// An operator's connection by TLS.
pub type OperatorStream = TlsStream<TcpStream>;

/// What who speaks HTTP to a port of HTTPS is told.
const NOT_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\nConnection: close\r\n\r\nthis port is for https:// requests\n";

/// So much of what they said is read, that they can read the answer.
const HTTP_MAX: u64 = 1 << 20;

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

/// Greets one who is to speak HTTP over TLS.
pub async fn greet_operator(
    tls: &TlsServer,
    stream: TcpStream,
    limit: Duration,
) -> Result<OperatorStream, Refusal> {
    let played = async {
        if first_byte(&stream).await?.is_ascii_uppercase() {
            turn_away(stream).await;
            return Err(Refusal::Tls("it speaks HTTP on a port for HTTPS (admin.tls)".to_owned()));
        }
        let shaken = tls.accept_stream(stream).await;
        shaken.map_err(|error| Refusal::Tls(tls.explain(&error)))
    };
    let greeted = tokio::time::timeout(limit, played).await;
    greeted.unwrap_or(Err(Refusal::Timeout(limit)))
}

/// Tells who speaks HTTP that this port is not for it. What it says is read to its end: else the
/// system would cut the answer off.
async fn turn_away(mut stream: TcpStream) {
    if stream.write_all(NOT_HTTPS).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut rest = stream.take(HTTP_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    }
}

/// It stays there to be read.
async fn first_byte(stream: &TcpStream) -> Result<u8, Refusal> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => Ok(first[0]),
        _ => Err(Refusal::Left),
    }
}

async fn shake_hands(tls: &TlsServer, stream: TcpStream) -> Result<Wire, Refusal> {
    first_byte(&stream).await?;
    let shaken = tls.accept(stream).await;
    let (stream, connection) = shaken.map_err(|error| Refusal::Tls(tls.explain(&error)))?;
    Ok(Wire::Tls(stream.into_std().map_err(Refusal::System)?, connection))
}
