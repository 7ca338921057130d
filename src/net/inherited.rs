//! Listening sockets that this process has not opened itself: the service manager's
//! (`LISTEN_FDS`, `sd_listen_fds(3)`), or those of the process whose place it takes
//! ([`super::handover`]). Whoever connects meanwhile waits in their queue; nobody is refused.
//!
//! In: sockets. Out: to who wants to listen on an address the socket that is bound to it.
//!
//! Invariant: a socket that nobody takes is told of: its clients would wait for ever.

use crate::net::plain;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sockets by the addresses they are bound to.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
    /// Of the files of those Unix sockets that were taken: true while they are another's to remove.
    lent: Vec<Arc<AtomicBool>>,
}

impl Inherited {
    /// What the service manager has passed, if this process is the one it is meant for.
    pub fn from_service_manager() -> Result<Self, String> {
        let mut all = Self::default();
        let mut passed = listenfd::ListenFd::from_env();
        for index in 0..passed.len() {
            let unknown = |error: &io::Error| {
                format!("socket {index} of LISTEN_FDS is none that can be used: {}", plain(error))
            };
            // The one kind is refused as the other.
            match passed.take_tcp_listener(index) {
                Ok(listener) => all.tcp.extend(listener),
                Err(_) => all
                    .unix
                    .extend(passed.take_unix_listener(index).map_err(|error| unknown(&error))?),
            }
        }
        Ok(all)
    }

    /// What another process of ours has passed. `None`: a socket of an unknown kind.
    pub(super) fn from_sockets(sockets: Vec<OwnedFd>) -> Option<Self> {
        let mut all = Self::default();
        for socket in sockets {
            let tcp = TcpListener::from(socket);
            if tcp.local_addr().is_ok() {
                all.tcp.push(tcp);
                continue;
            }
            // No address of IP.
            let unix = UnixListener::from(OwnedFd::from(tcp));
            unix.local_addr().ok()?;
            all.unix.push(unix);
        }
        Some(all)
    }

    /// The socket that is bound to this address.
    pub fn tcp(&mut self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        let is_its =
            |listener: &TcpListener| listener.local_addr().is_ok_and(|bound| bound == address);
        let Some(place) = self.tcp.iter().position(is_its) else { return Ok(None) };
        let listener = self.tcp.swap_remove(place);
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }

    /// The socket that is bound to this file, and whether that is still another's to remove.
    pub(super) fn unix(
        &mut self,
        path: &Path,
    ) -> io::Result<Option<(UnixListener, Arc<AtomicBool>)>> {
        let is_its = |listener: &UnixListener| {
            listener.local_addr().is_ok_and(|bound| bound.as_pathname() == Some(path))
        };
        let Some(place) = self.unix.iter().position(is_its) else { return Ok(None) };
        let listener = self.unix.swap_remove(place);
        listener.set_nonblocking(true)?;
        let lent = Arc::new(AtomicBool::new(true));
        self.lent.push(Arc::clone(&lent));
        Ok(Some((listener, lent)))
    }

    /// The files of all that was taken are ours to remove from now on.
    pub(super) fn own(&self) {
        for lent in &self.lent {
            lent.store(false, Ordering::Relaxed);
        }
    }

    /// Where those are bound that nobody has taken.
    pub fn left(&self) -> Vec<String> {
        let tcp = self.tcp.iter().filter_map(|listener| listener.local_addr().ok());
        let unix = self.unix.iter().filter_map(|listener| listener.local_addr().ok());
        let paths =
            unix.filter_map(|bound| Some(format!("unix:{}", bound.as_pathname()?.display())));
        tcp.map(|bound| bound.to_string()).chain(paths).collect()
    }
}
