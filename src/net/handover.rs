//! The hand-over of all listening sockets to the process that takes this one's place
//! (`server.handover`), over a Unix socket that only this user may connect to.
//!
//! ```text
//!   old   listens at the path             new   starts, connects to it
//!         sends its listening sockets           takes those its settings name: now both accept
//!                                               says "accepting" when it is ready
//!         stops accepting, drains, ends         is the one that listens at the path
//! ```
//!
//! Nobody is refused: the sockets are never closed, and who waits in their queue is accepted by one
//! of the two. If the new process ends before it is ready, the old one goes on as before.
//!
//! In: sockets. Out: sockets, and who has taken whose place.

use crate::net::inherited::Inherited;
use crate::net::listen::{Listener, SocketFile};
use crate::net::plain;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};

/// What comes with the sockets: another version of this would be refused.
const GIVEN: &[u8] = b"nearside sockets 1\n";

/// What the new process says when it is ready.
const ACCEPTING: &[u8] = b"accepting\n";

/// Sockets at most: as many as Linux passes at once (`SCM_MAX_FD`).
const SOCKETS_MAX: usize = 253;

/// How long the new process waits for the sockets: the old one need only come round to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The place that a new process is about to take.
#[derive(Debug)]
pub struct Succession {
    old: StdUnixStream,
}

/// Asks the process that listens at `path`, if there is one, for its sockets.
pub fn ask(path: &Path) -> Result<Option<(Inherited, Succession)>, String> {
    let failed = |error: &io::Error| {
        let path = path.display();
        format!("the process that listens on {path} gives no sockets: {}", plain(error))
    };
    let old = match StdUnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(&error)),
    };
    old.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(&error))?;
    let sockets = receive(&old).map_err(|error| failed(&error))?;
    let inherited = Inherited::from_sockets(sockets)
        .ok_or_else(|| failed(&io::Error::other("one is of an unknown kind")))?;
    Ok(Some((inherited, Succession { old })))
}

fn receive(old: &StdUnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut said = [0; GIVEN.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut said)];
    let read = loop {
        match recvmsg(old, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    if read.bytes == 0 {
        return Err(io::Error::other("it has closed the connection"));
    }
    if said.get(..read.bytes) != Some(GIVEN) {
        return Err(io::Error::other("it speaks another language"));
    }
    Ok(sockets)
}

impl Succession {
    /// The old process is to go; `inherited` is what it has given.
    pub fn complete(mut self, inherited: &Inherited) -> io::Result<()> {
        self.old.write_all(ACCEPTING)?;
        inherited.own();
        Ok(())
    }
}

fn open(door: Listener) -> Option<(UnixListener, SocketFile)> {
    let Listener::Unix(door, file) = door else { return None };
    match UnixListener::from_std(door) {
        Ok(door) => Some((door, file)),
        Err(error) => {
            tracing::error!(error = %error, "nobody can take over (server.handover)");
            None
        }
    }
}

/// What a process has to give away.
#[derive(Debug, Default)]
pub struct Estate {
    sockets: Vec<OwnedFd>,
    /// Of the files of Unix sockets: true once they are another process's to remove.
    given_away: Vec<Arc<AtomicBool>>,
}

impl Estate {
    /// One more listener, which goes on being this process's meanwhile.
    pub fn add(&mut self, listener: &Listener) -> io::Result<()> {
        match listener {
            Listener::Tcp(listener) => self.add_socket(listener),
            Listener::Unix(listener, file) => {
                self.given_away.push(Arc::clone(&file.is_others));
                self.add_socket(listener)
            }
        }
    }

    /// One more socket that is no file.
    pub fn add_socket(&mut self, socket: &impl AsFd) -> io::Result<()> {
        self.sockets.push(socket.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Waits, at the `door` that stands at the path, until another process has taken this one's
    /// place. From then on the files of Unix sockets are that one's.
    pub async fn give(self, door: Listener) {
        // Its file is removed when this process ends, if nobody came.
        let Some((door, _file)) = open(door) else { return std::future::pending().await };
        loop {
            match door.accept().await {
                Ok((stream, _)) => match self.give_to(stream).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(
                        event = "handover_failed",
                        error = %plain(&error),
                        "another process has asked for the listening sockets and is gone"
                    ),
                },
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept who would take over");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        for file in &self.given_away {
            file.store(true, Ordering::Relaxed);
        }
    }

    async fn give_to(&self, stream: UnixStream) -> io::Result<()> {
        let peer = sockopt::socket_peercred(&stream)?;
        let me = rustix::process::geteuid();
        if peer.uid != me && !peer.uid.is_root() {
            return Err(io::Error::other("it is another user's"));
        }
        tracing::info!(
            event = "handover",
            pid = peer.pid.as_raw_pid(),
            "another process takes over"
        );
        let stream = stream.into_std()?;
        // Fresh, so that it has room for one line.
        self.send(&stream)?;
        let mut stream = UnixStream::from_std(stream)?;
        let mut said = [0; ACCEPTING.len()];
        stream.read_exact(&mut said).await?;
        if said == ACCEPTING { Ok(()) } else { Err(io::Error::other("it speaks another language")) }
    }

    fn send(&self, to: &StdUnixStream) -> io::Result<()> {
        let sockets: Vec<BorrowedFd<'_>> = self.sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other(format!("more than {SOCKETS_MAX} sockets")));
        }
        sendmsg(to, &[IoSlice::new(GIVEN)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
