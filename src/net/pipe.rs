//! A connection that is no socket of the system's: the seam at which a simulation stands in for
//! the network.
//!
//! A link's [`super::stream::Stream`] and a client's [`super::client::ClientStream`] may each be
//! one. All that is above them (tasks, timers, sessions, links, the tracking link) then runs as it
//! does on sockets, while one seed decides what the wires delay, cut and lose (`tests/simulation`).
//!
//! Invariant: as with a socket, nothing here waits. Who was told to wait is woken, and dropping the
//! last handle ends the connection.

use std::fmt::Debug;
use std::io;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// One end of a connection.
pub trait Pipe: Debug + Send + Sync {
    /// Reads what has come, as [`tokio::io::AsyncRead`] does.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Writes what there is room for now; `WouldBlock` if that is nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ready when [`Self::try_write`] may take bytes again.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Nothing more will be written.
    fn shutdown(&self);
}

/// Writes, or waits until there is room.
pub(super) fn poll_write(
    pipe: &dyn Pipe,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        match pipe.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::task::ready!(pipe.poll_writable(cx))?;
            }
            result => return Poll::Ready(result),
        }
    }
}
