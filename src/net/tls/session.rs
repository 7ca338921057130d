//! A client's connection after its handshake, on the thread that serves it.
//!
//! In and out: the plain bytes of the client, without waiting, as of a socket. Both halves of the
//! client's stream share one [`TlsSocket`].
//!
//! Invariant: who is told that nothing was written offers the same bytes again, perhaps with more
//! behind them. So bytes that were encrypted and not yet taken by the system count as unsent, and
//! whoever waits to write waits for them.

use rustls::ServerConnection;
use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// A client's socket, and the keys of its session.
#[derive(Debug)]
pub(in crate::net) struct TlsSocket {
    pub(in crate::net) stream: TcpStream,
    session: RefCell<Session>,
}

#[derive(Debug)]
struct Session {
    connection: Box<ServerConnection>,
    /// Plain bytes that were encrypted, and of which the writer does not know yet.
    taken: usize,
}

impl TlsSocket {
    /// After the handshake.
    pub(in crate::net) fn new(stream: TcpStream, connection: Box<ServerConnection>) -> Self {
        Self { stream, session: RefCell::new(Session { connection, taken: 0 }) }
    }

    /// Reads what has come; nothing at the end of it, whether or not the client has said goodbye:
    /// RESP says itself where a request ends.
    pub(in crate::net) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let session = &mut *self.session.borrow_mut();
        loop {
            match session.connection.reader().read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.stream.poll_read_ready(cx))?;
            match session.connection.read_tls(&mut Raw(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let processed = session.connection.process_new_packets();
            // What TLS itself has to say goes out now, or with the next bytes.
            session.send(&self.stream).ok();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes what the socket takes now; `WouldBlock` if that is not all that is to go at once.
    pub(in crate::net) fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        if session.taken == 0 {
            session.send(&self.stream)?;
            session.taken = session.connection.writer().write_vectored(buffers)?;
        }
        session.send(&self.stream)?;
        Ok(std::mem::take(&mut session.taken))
    }

    /// Says goodbye, as far as the socket takes it.
    fn part(&self) {
        let session = &mut *self.session.borrow_mut();
        session.connection.send_close_notify();
        session.send(&self.stream).ok();
    }

    /// Ends it in one direction: what the client sends is still read.
    pub(in crate::net) fn end_output(&self) -> io::Result<()> {
        self.part();
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    /// Ends the connection in both directions.
    pub(in crate::net) fn close(&self) -> io::Result<()> {
        self.part();
        SockRef::from(&self.stream).shutdown(Shutdown::Both)
    }
}

impl Session {
    /// Sends what is encrypted; `WouldBlock` if something is left.
    fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Raw(stream))?;
        }
        Ok(())
    }
}

/// As Redis does, the client is told that this is the end, and not an attack.
impl Drop for TlsSocket {
    fn drop(&mut self) {
        self.part();
    }
}

/// The socket, as rustls reads and writes it.
struct Raw<'s>(&'s TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
