//! Listening sockets: bound at start, accepted from on one thread.
//!
//! An [`Address`] in; out bound [`Listener`]s, then an [`Acceptor`] that yields [`Socket`]s ready
//! for a worker. Errors name the address, the configuration key and the likely cause.
//!
//! Invariant: a Unix socket that a live process listens on is never taken over, and only the file
//! that this listener made is removed.

use crate::net::address::Address;
use crate::net::client::{Socket, Wire};
use crate::net::inherited::Inherited;
use crate::net::plain;
use rustix::fs::{Mode, chmod};
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Configuration key that the address comes from, for errors.
    pub key: &'static str,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Permissions of a Unix socket's file.
    pub unix_permissions: u32,
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {problem}")]
pub struct ListenError {
    /// The address, as configured.
    pub address: Box<str>,
    /// The configuration key it comes from.
    pub key: &'static str,
    /// What is wrong, in words.
    pub problem: Box<str>,
}

/// A bound socket, in no runtime yet.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file; removed when dropped, unless another has taken its place, or it is another
/// process's.
#[derive(Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// Device and inode as made.
    made: (u64, u64),
    pub(super) is_others: Arc<AtomicBool>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = !self.is_others.load(Ordering::Relaxed)
            && identity(&self.path).is_ok_and(|identity| identity == self.made);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}

/// Binds every address that `address` stands for, a host name may have several, or takes what of
/// them is `inherited`.
pub fn bind(
    address: &Address,
    options: &ListenOptions,
    inherited: &mut Inherited,
) -> Result<Vec<Listener>, ListenError> {
    match address {
        Address::Tcp { host, port } => {
            let bound = bind_tcp(address, (host, *port), options, inherited)?;
            Ok(bound.into_iter().map(Listener::Tcp).collect())
        }
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, options, inherited)
                .map_err(|problem| fault(address, options, problem))?;
            Ok(vec![Listener::Unix(listener, file)])
        }
        Address::Embedded => Err(fault(address, options, "not an address to listen on".to_owned())),
    }
}

fn bind_tcp(
    address: &Address,
    (host, port): (&str, u16),
    options: &ListenOptions,
    inherited: &mut Inherited,
) -> Result<Vec<TcpListener>, ListenError> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|error| fault(address, options, format!("cannot resolve `{host}`: {error}")))?;
    let mut bound = Vec::new();
    let mut problem = format!("`{host}` has no address");
    for candidate in found {
        let opened = match inherited.tcp(candidate) {
            Ok(None) => open_tcp(candidate, options.backlog),
            Ok(Some(listener)) => Ok(listener),
            Err(error) => Err(error),
        };
        match opened {
            Ok(listener) => bound.push(listener),
            // A name like `localhost` has an IPv6 address even where IPv6 is off.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                problem = explain(&error, port);
            }
            Err(error) => return Err(fault(address, options, explain(&error, port))),
        }
    }
    if bound.is_empty() { Err(fault(address, options, problem)) } else { Ok(bound) }
}

fn open_tcp(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // As Redis: `[::]` and `0.0.0.0` are two addresses, and peers show as what they are.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(
    path: &Path,
    options: &ListenOptions,
    inherited: &mut Inherited,
) -> Result<(UnixListener, SocketFile), String> {
    let given = inherited.unix(path).map_err(|error| plain(&error))?;
    let (listener, is_others) = if let Some(given) = given {
        given
    } else {
        remove_stale(path)?;
        (open_unix(path, options).map_err(|error| plain(&error))?, Arc::default())
    };
    let made = identity(path).map_err(|error| plain(&error))?;
    Ok((listener, SocketFile { path: Arc::from(path), made, is_others }))
}

fn open_unix(path: &Path, options: &ListenOptions) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before `listen`: until then nobody can connect, whatever the umask left open.
    chmod(path, Mode::from_raw_mode(options.unix_permissions))?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Removes the socket of a process that is gone. Refuses what is alive, or no socket.
fn remove_stale(path: &Path) -> Result<(), String> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(plain(&error)),
    };
    if !kind.is_socket() {
        return Err("the file exists and is not a socket".to_owned());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err("another process listens on it".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| plain(&error))
        }
        Err(error) => Err(format!("the socket exists and does not answer: {}", plain(&error))),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn fault(address: &Address, options: &ListenOptions, problem: String) -> ListenError {
    ListenError { address: address.to_string().into(), key: options.key, problem: problem.into() }
}

fn explain(error: &io::Error, port: u16) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has the port",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        io::ErrorKind::PermissionDenied if port < 1024 => "; ports below 1024 need a privilege",
        _ => "",
    };
    format!("{}{hint}", plain(error))
}

/// A listener in the runtime of the accepting thread.
#[derive(Debug)]
pub struct Acceptor(Registered);

#[derive(Debug)]
enum Registered {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, SocketFile),
}

impl Listener {
    /// The address bound, with the port that the system chose; none for a Unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Registers the socket with the runtime of this thread.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(Acceptor(match self {
            Self::Tcp(listener) => Registered::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => {
                Registered::Unix(tokio::net::UnixListener::from_std(listener)?, file)
            }
        }))
    }
}

impl Acceptor {
    /// Waits for a client. It comes nonblocking, without Nagle's delay, probed after `keepalive`
    /// of silence (zero: never).
    ///
    /// An error is one of this process or machine (no descriptor, no memory): wait before the next
    /// call, because it would fail at once again.
    pub async fn accept(&self, keepalive: Duration) -> io::Result<Socket> {
        loop {
            match self.accept_one().await {
                // Not prepared: the client has gone already.
                Ok(socket) => {
                    if prepare(&socket, keepalive).is_ok() {
                        return Ok(socket);
                    }
                }
                Err(error) if is_peers(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One connection, taken out of this thread's runtime again.
    async fn accept_one(&self) -> io::Result<Socket> {
        match &self.0 {
            Registered::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Socket::tcp(stream.into_std()?, peer))
            }
            Registered::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                Ok(Socket::unix(stream.into_std()?, Arc::clone(&file.path)))
            }
        }
    }
}

/// True for errors of the one connection that was to be accepted (`accept(2)`, "Error handling").
fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

fn prepare(socket: &Socket, keepalive: Duration) -> io::Result<()> {
    let Wire::Tcp(stream) = &socket.wire else {
        return Ok(());
    };
    stream.set_nodelay(true)?;
    if keepalive.is_zero() {
        return Ok(());
    }
    // As Redis: a third of the idle time between probes, three of them.
    let keepalive = keepalive.max(Duration::from_secs(1));
    let probes = TcpKeepalive::new()
        .with_time(keepalive)
        .with_interval((keepalive / 3).max(Duration::from_secs(1)))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Has the system close a connection whose peer takes nothing for so long of what it is sent.
pub fn give_up_unread(stream: &tokio::net::TcpStream, limit: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(limit))
}
