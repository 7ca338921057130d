//! The in-process upstream: a small real RESP server on a thread of its own.
//!
//! ```text
//! Embedded::connect ──UnixStream──▶ shell ──bytes──▶ core ──▶ table ──▶ types, keyspace, session …
//!                                   waits            never waits        store ──▶ changes
//! ```
//!
//! It speaks to the proxy over a socket like any other upstream, so that the same link code talks
//! to both. Every command it claims answers as redis-server 7.0.15 does, byte for byte; any other
//! is an unknown command. Its data lives in this process's memory and ends with it.

#![expect(clippy::unnecessary_wraps, reason = "commands share one signature")]

mod args;
mod bignum;
mod blocking;
mod changes;
mod client_commands;
mod core;
mod float;
mod keyspace;
mod pubsub;
mod reply;
mod server;
mod session;
mod shell;
mod store;
mod table;
mod tracking;
mod transaction;
mod types;

use self::core::Core;
use crate::units::clock::unix_millis;
use std::io;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// How an embedded server runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that keys and values may take, by approximate account; 0: no limit. Beyond it,
    /// commands that need memory are refused as Redis refuses them.
    pub max_memory: usize,
}

/// Connections that may wait to be taken by the server's thread.
const CONNECTING_MAX: usize = 1024;

/// A running server; dropping it stops it and closes every connection.
#[derive(Debug)]
pub struct Embedded {
    /// `None` only while it is being dropped.
    connections: Option<mpsc::Sender<UnixStream>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server with no data.
pub fn start(options: Options) -> io::Result<Embedded> {
    let (connections, accepted) = mpsc::channel(CONNECTING_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || shell::run(&runtime, Core::new(options.max_memory, unix_millis), accepted);
    let thread = std::thread::Builder::new().name("embedded".to_owned()).spawn(run)?;
    Ok(Embedded { connections: Some(connections), thread: Some(thread) })
}

impl Embedded {
    /// A new connection to the server. The caller sets it nonblocking if it wants that.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let sent = self.connections.as_ref().map(|connections| connections.try_send(theirs));
        match sent {
            Some(Ok(())) => Ok(ours),
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "the embedded server is busy"))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the embedded server has stopped",
            )),
        }
    }
}

/// Names of the commands and subcommands (`client|id`) that the server claims.
pub fn commands() -> impl Iterator<Item = &'static str> {
    table::ROWS.iter().map(|row| row.name)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The server's thread ends when nobody can connect any more.
        drop(self.connections.take());
        // If it ended by a panic, the panic has been reported already.
        self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
