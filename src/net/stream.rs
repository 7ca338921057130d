//! A connection to an upstream: TCP, Unix, or TLS over TCP, behind one type and no allocation.
//!
//! A [`Target`] in, a connected [`Stream`] out: looked up afresh, every address tried, handshake
//! of TLS done, all within one timeout. RESP's own handshake is `wire::handshake`.

use crate::net::address::Address;
use crate::net::lookup::Lookup;
use crate::net::pipe::{self, Pipe};
use crate::net::plain;
use crate::net::target::Target;
use crate::net::tls::{TlsClient, client as tls};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A peer that vanished without a word is noticed after 15 + 3 * 5 s, even on an idle link.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Opens a connection to the in-process upstream.
pub type EmbeddedDoor<'a> = &'a (dyn Fn() -> io::Result<Stream> + Send + Sync);

/// A connected socket, read and written by one task.
///
/// Over TLS, `poll_write` may keep bytes: flush after a batch (it costs nothing elsewhere).
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// A Unix socket, or the pair that leads to the in-process upstream.
    Unix(UnixStream),
    /// TLS over TCP. Boxed: its state is a kilobyte, and it is not the fast path.
    Tls(Box<TlsStream<TcpStream>>),
    /// No socket of the system's.
    Pipe(Arc<dyn Pipe>),
}

/// Why there is no connection. `Display` names the target, with its password masked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {target}: {problem}")]
pub struct ConnectError {
    /// The class of the failure.
    pub kind: ConnectErrorKind,
    /// The URL, password masked.
    pub target: String,
    /// What happened, in words.
    pub problem: String,
}

/// What kept a connection from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No answer in time.
    Timeout,
    /// Nothing listens there.
    Refused,
    /// The host name has no address.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// Anything else.
    Io,
}

/// How far a connect has come: what the timeout cut off.
#[derive(Clone, Copy)]
enum Stage {
    Lookup,
    Connect,
    Tls,
}

/// Connects to `target`, whose name `lookup` looks up, within `timeout`. `tls` serves targets that
/// ask for it, `embedded` the in-process upstream.
pub async fn connect(
    target: &Target,
    lookup: &Lookup,
    timeout: Duration,
    tls: Option<&TlsClient>,
    embedded: Option<EmbeddedDoor<'_>>,
) -> Result<Stream, ConnectError> {
    let mut stage = Stage::Lookup;
    let opening = open(target, lookup, timeout, (tls, embedded), &mut stage);
    let result = tokio::time::timeout(timeout, opening);
    let (kind, problem) = match result.await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(failure)) => failure,
        Err(_) => {
            let during = match stage {
                Stage::Lookup => "while its name was looked up",
                Stage::Connect => "to the connection attempt",
                Stage::Tls => "in the TLS handshake; does this port speak TLS?",
            };
            let after = humantime::format_duration(timeout);
            (ConnectErrorKind::Timeout, format!("no answer within {after} {during}"))
        }
    };
    Err(ConnectError { kind, target: target.to_string(), problem })
}

impl Stream {
    /// When it is dropped it is reset: what was not sent by then never is.
    pub fn reset_at_end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO)),
            Self::Unix(_) | Self::Pipe(_) => Ok(()),
        }
    }
}

type Failure = (ConnectErrorKind, String);

async fn open(
    target: &Target,
    lookup: &Lookup,
    timeout: Duration,
    (tls, embedded): (Option<&TlsClient>, Option<EmbeddedDoor<'_>>),
    stage: &mut Stage,
) -> Result<Stream, Failure> {
    match (&target.address, embedded) {
        (Address::Tcp { host, port }, _) => {
            let tcp = open_tcp((host, *port), lookup, timeout, stage).await?;
            if !target.tls {
                return Ok(Stream::Tcp(tcp));
            }
            *stage = Stage::Tls;
            let missing = || (ConnectErrorKind::Tls, "TLS is not set up".to_owned());
            let client = tls.ok_or_else(missing)?;
            let stream = client.connect(host, tcp).await;
            let stream = stream.map_err(|error| (ConnectErrorKind::Tls, tls::explain(&error)))?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        (Address::Unix(path), _) => {
            *stage = Stage::Connect;
            let stream = UnixStream::connect(path).await;
            stream.map(Stream::Unix).map_err(|error| unix_failure(path, &error))
        }
        (Address::Embedded, Some(door)) => {
            door().map_err(|error| (ConnectErrorKind::Io, plain(&error)))
        }
        (Address::Embedded, None) => {
            Err((ConnectErrorKind::Io, "the embedded upstream is not running".to_owned()))
        }
    }
}

/// Tries the host's addresses in turn. A dead one may use up its share of the time only.
async fn open_tcp(
    (host, port): (&str, u16),
    lookup: &Lookup,
    timeout: Duration,
    stage: &mut Stage,
) -> Result<TcpStream, Failure> {
    let found = lookup.find(host, port, timeout / 2).await;
    let found = found
        .map_err(|error| (ConnectErrorKind::Dns, format!("cannot resolve `{host}`: {error}")))?;
    *stage = Stage::Connect;
    let share = timeout / u32::try_from(found.len()).unwrap_or(u32::MAX).max(1);
    let mut last = (ConnectErrorKind::Dns, format!("`{host}` has no address"));
    for address in &found {
        let error = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match prepare(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(_) => io::Error::from(io::ErrorKind::TimedOut),
        };
        last = failure(&error, share, found.len(), *address);
    }
    Err(last)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

fn failure(error: &io::Error, share: Duration, tried: usize, address: SocketAddr) -> Failure {
    let (kind, mut problem) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            ConnectErrorKind::Refused,
            "connection refused; no server listens on this port".to_owned(),
        ),
        io::ErrorKind::TimedOut => {
            let after = humantime::format_duration(share);
            let problem = format!("no answer within {after} to the connection attempt");
            (ConnectErrorKind::Timeout, problem)
        }
        _ => (ConnectErrorKind::Io, plain(error)),
    };
    if tried > 1 {
        problem = format!("{problem} ({tried} addresses tried, {address} last)");
    }
    (kind, problem)
}

fn unix_failure(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            ConnectErrorKind::Refused,
            "connection refused; the socket file is there, but no server listens on it".to_owned(),
        ),
        io::ErrorKind::NotFound => {
            (ConnectErrorKind::Refused, format!("there is no file {}", path.display()))
        }
        _ => (ConnectErrorKind::Io, plain(error)),
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Pipe(pipe) => pipe.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Pipe(pipe) => pipe::poll_write(pipe.as_ref(), cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
            Self::Pipe(pipe) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                pipe::poll_write(pipe.as_ref(), cx, first.map_or(&[], |buf| buf))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Pipe(_) => false,
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Pipe(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Pipe(pipe) => {
                pipe.shutdown();
                Poll::Ready(Ok(()))
            }
        }
    }
}
