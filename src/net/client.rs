//! A client's socket: accepted on one thread, registered, read and written on a worker's.
//!
//! An accepted [`Socket`], greeted by [`super::greet`], in; out a [`ReadHalf`] for the task that
//! waits and a [`WriteHalf`] for the session, which writes when it has something and never waits.
//!
//! Invariant: dropping the write half ends nothing. The socket closes when both halves are gone,
//! or in both directions by [`WriteHalf::close`], which wakes the reader.

use crate::net::pipe::Pipe;
use crate::net::tls::session::TlsSocket;
use rustls::ServerConnection;
use socket2::SockRef;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Where a client comes from, as CLIENT LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// `127.0.0.1:51234`, `[::1]:51234`.
    Tcp(SocketAddr),
    /// `/run/nearside.sock:0`: clients of a Unix socket have no name, so it is the listener's.
    Unix(Arc<Path>),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}:0", path.display()),
        }
    }
}

/// By which kind of listener a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A Unix socket.
    Unix,
}

/// An accepted socket on its way to a worker: nonblocking, in no runtime yet.
#[derive(Debug)]
pub struct Socket {
    pub(super) wire: Wire,
    pub(super) peer: PeerAddress,
    /// The address of ours that the client connected to, if another than the socket's.
    pub(super) local: Option<PeerAddress>,
}

#[derive(Debug)]
pub(super) enum Wire {
    Tcp(StdTcpStream),
    Tls(StdTcpStream, Box<ServerConnection>),
    Unix(StdUnixStream),
}

impl Socket {
    /// From a TCP listener.
    pub const fn tcp(stream: StdTcpStream, peer: SocketAddr) -> Self {
        Self { wire: Wire::Tcp(stream), peer: PeerAddress::Tcp(peer), local: None }
    }

    /// From the Unix listener of this path.
    pub const fn unix(stream: StdUnixStream, path: Arc<Path>) -> Self {
        Self { wire: Wire::Unix(stream), peer: PeerAddress::Unix(path), local: None }
    }

    /// Where the client comes from.
    pub const fn peer(&self) -> &PeerAddress {
        &self.peer
    }

    /// How it comes in.
    pub const fn transport(&self) -> Transport {
        match self.wire {
            Wire::Tcp(_) => Transport::Tcp,
            Wire::Tls(..) => Transport::Tls,
            Wire::Unix(_) => Transport::Unix,
        }
    }

    /// Sends a client away with these words, as far as it can be told: they are few and the
    /// socket is fresh, so they fit, or the client has gone.
    pub fn dismiss(&self, words: &[u8]) {
        match &self.wire {
            Wire::Tcp(stream) => (&*stream).write(words).ok(),
            Wire::Unix(stream) => (&*stream).write(words).ok(),
            // As Redis: nothing that the client could read without another effort.
            Wire::Tls(..) => None,
        };
    }
}

/// A client's socket in the runtime of the thread that serves it.
#[derive(Debug)]
pub struct ClientStream {
    socket: Registered,
    peer: PeerAddress,
    local: Option<PeerAddress>,
}

#[derive(Debug)]
enum Registered {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Rc<TlsSocket>),
    Pipe(Arc<dyn Pipe>),
}

impl ClientStream {
    /// Registers an accepted socket with the runtime of this thread.
    pub fn from_std(socket: Socket) -> io::Result<Self> {
        let Socket { wire, peer, local } = socket;
        let socket = match wire {
            Wire::Tcp(stream) => Registered::Tcp(TcpStream::from_std(stream)?),
            Wire::Unix(stream) => Registered::Unix(UnixStream::from_std(stream)?),
            Wire::Tls(stream, connection) => {
                let stream = TcpStream::from_std(stream)?;
                Registered::Tls(Rc::new(TlsSocket::new(stream, connection)))
            }
        };
        Ok(Self { socket, peer, local })
    }

    /// A connection that is no socket of the system's.
    pub const fn from_pipe(pipe: Arc<dyn Pipe>, peer: PeerAddress) -> Self {
        Self { socket: Registered::Pipe(pipe), peer, local: None }
    }

    /// Where the client comes from.
    pub fn peer(&self) -> &PeerAddress {
        &self.peer
    }

    /// The address of ours that the client connected to.
    pub fn local(&self) -> io::Result<PeerAddress> {
        if let Some(local) = &self.local {
            return Ok(local.clone());
        }
        match (&self.socket, &self.peer) {
            (Registered::Tcp(stream), _) => stream.local_addr().map(PeerAddress::Tcp),
            (Registered::Tls(socket), _) => socket.stream.local_addr().map(PeerAddress::Tcp),
            (Registered::Unix(_) | Registered::Pipe(_), peer) => Ok(peer.clone()),
        }
    }

    /// Divides reading from writing.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self.socket {
            Registered::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf(Read::Tcp(read)), WriteHalf(Write::Tcp(write)))
            }
            Registered::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf(Read::Unix(read)), WriteHalf(Write::Unix(write)))
            }
            Registered::Tls(socket) => {
                (ReadHalf(Read::Tls(Rc::clone(&socket))), WriteHalf(Write::Tls(socket)))
            }
            Registered::Pipe(pipe) => {
                (ReadHalf(Read::Pipe(Arc::clone(&pipe))), WriteHalf(Write::Pipe(pipe)))
            }
        }
    }
}

/// The half that the connection's task waits on.
#[derive(Debug)]
pub struct ReadHalf(Read);

#[derive(Debug)]
enum Read {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Tls(Rc<TlsSocket>),
    Pipe(Arc<dyn Pipe>),
}

impl AsyncRead for ReadHalf {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Read::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Read::Unix(half) => Pin::new(half).poll_read(cx, buf),
            Read::Tls(socket) => socket.poll_read(cx, buf),
            Read::Pipe(pipe) => pipe.poll_read(cx, buf),
        }
    }
}

/// The half that the session writes to.
#[derive(Debug)]
pub struct WriteHalf(Write);

#[derive(Debug)]
enum Write {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Tls(Rc<TlsSocket>),
    Pipe(Arc<dyn Pipe>),
    /// Only while it is dropped.
    Gone,
}

impl WriteHalf {
    /// How the client comes in.
    pub const fn transport(&self) -> Transport {
        match self.0 {
            Write::Unix(_) => Transport::Unix,
            Write::Tls(_) => Transport::Tls,
            Write::Tcp(_) | Write::Pipe(_) | Write::Gone => Transport::Tcp,
        }
    }

    /// Writes what the socket takes now; `WouldBlock` if that is nothing: then the same bytes are
    /// to be offered again, with or without more behind them.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Write::Tcp(half) => half.try_write(bytes),
            Write::Unix(half) => half.try_write(bytes),
            Write::Tls(socket) => socket.try_write(&[io::IoSlice::new(bytes)]),
            Write::Pipe(pipe) => pipe.try_write(bytes),
            Write::Gone => Err(gone()),
        }
    }

    /// As [`Self::try_write`], from several buffers.
    #[inline]
    pub fn try_write_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // send(2) costs less than writev(2), and most replies are one buffer.
        if let [buffer] = buffers {
            return self.try_write(buffer);
        }
        match &self.0 {
            Write::Tcp(half) => half.try_write_vectored(buffers),
            Write::Unix(half) => half.try_write_vectored(buffers),
            Write::Tls(socket) => socket.try_write(buffers),
            Write::Pipe(pipe) => {
                let first = buffers.iter().find(|buffer| !buffer.is_empty());
                first.map_or(Ok(0), |buffer| pipe.try_write(buffer))
            }
            Write::Gone => Err(gone()),
        }
    }

    /// Ready when [`Self::try_write`] may take bytes again. One task may wait at a time.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Write::Tcp(half) => half.as_ref().poll_write_ready(cx),
            Write::Unix(half) => half.as_ref().poll_write_ready(cx),
            Write::Tls(socket) => socket.stream.poll_write_ready(cx),
            Write::Pipe(pipe) => pipe.poll_writable(cx),
            Write::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Ends it in one direction: the client gets what was written and then the end; what it has
    /// sent can still be read.
    pub fn end_output(&self) -> io::Result<()> {
        match &self.0 {
            Write::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            Write::Unix(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            Write::Tls(socket) => socket.end_output(),
            Write::Pipe(pipe) => {
                pipe.shutdown();
                Ok(())
            }
            Write::Gone => Err(gone()),
        }
    }

    /// Ends the connection in both directions: the client gets what was written and then the end,
    /// the read half finds the end at once.
    pub fn close(&self) -> io::Result<()> {
        match &self.0 {
            Write::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Both),
            Write::Unix(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Both),
            Write::Tls(socket) => socket.close(),
            Write::Pipe(pipe) => {
                pipe.shutdown();
                Ok(())
            }
            Write::Gone => Err(gone()),
        }
    }
}

/// Tokio's write halves shut the socket down when dropped, which would cut off a client whose
/// reader still runs; `forget` is their way of not doing so.
impl Drop for WriteHalf {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Write::Gone) {
            Write::Tcp(half) => half.forget(),
            Write::Unix(half) => half.forget(),
            Write::Tls(_) | Write::Pipe(_) | Write::Gone => {}
        }
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}
