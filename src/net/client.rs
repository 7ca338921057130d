//! A client's socket: accepted on one thread, registered, read and written on a worker's.
//!
//! An accepted [`Socket`] in; out a [`ReadHalf`] for the task that waits and a [`WriteHalf`] for
//! the session, which writes when it has something and never waits.
//!
//! Invariant: dropping the write half ends nothing. The socket closes when both halves are gone,
//! or in both directions by [`WriteHalf::close`], which wakes the reader.

use crate::net::pipe::Pipe;
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
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

/// An accepted socket on its way to a worker: nonblocking, in no runtime yet.
#[derive(Debug)]
pub enum Socket {
    /// From a TCP listener.
    Tcp(StdTcpStream, SocketAddr),
    /// From the Unix listener of this path.
    Unix(StdUnixStream, Arc<Path>),
}

/// A client's socket in the runtime of the thread that serves it.
#[derive(Debug)]
pub struct ClientStream {
    socket: Registered,
    peer: PeerAddress,
}

#[derive(Debug)]
enum Registered {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipe(Arc<dyn Pipe>),
}

impl ClientStream {
    /// Registers an accepted socket with the runtime of this thread.
    pub fn from_std(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(stream, peer) => Self {
                socket: Registered::Tcp(TcpStream::from_std(stream)?),
                peer: PeerAddress::Tcp(peer),
            },
            Socket::Unix(stream, path) => Self {
                socket: Registered::Unix(UnixStream::from_std(stream)?),
                peer: PeerAddress::Unix(path),
            },
        })
    }

    /// A connection that is no socket of the system's.
    pub const fn from_pipe(pipe: Arc<dyn Pipe>, peer: PeerAddress) -> Self {
        Self { socket: Registered::Pipe(pipe), peer }
    }

    /// Where the client comes from.
    pub fn peer(&self) -> &PeerAddress {
        &self.peer
    }

    /// The address of ours that the client connected to.
    pub fn local(&self) -> io::Result<PeerAddress> {
        match (&self.socket, &self.peer) {
            (Registered::Tcp(stream), _) => stream.local_addr().map(PeerAddress::Tcp),
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
    Pipe(Arc<dyn Pipe>),
    /// Only while it is dropped.
    Gone,
}

impl WriteHalf {
    /// Writes what the socket takes now; `WouldBlock` if that is nothing.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Write::Tcp(half) => half.try_write(bytes),
            Write::Unix(half) => half.try_write(bytes),
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
            Write::Pipe(pipe) => pipe.poll_writable(cx),
            Write::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Ends the connection in both directions: the client gets what was written and then the end,
    /// the read half finds the end at once.
    pub fn close(&self) -> io::Result<()> {
        match &self.0 {
            Write::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Both),
            Write::Unix(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Both),
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
            Write::Pipe(_) | Write::Gone => {}
        }
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}
