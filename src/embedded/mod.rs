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
mod stand_in;
mod store;
mod table;
mod tracking;
mod transaction;
mod types;

pub use self::session::VERSION;
pub use self::stand_in::{Left, Page, Policy, Written};

use self::core::Core;
use self::shell::Letter;
use crate::net::dialer::Door;
use crate::net::stream::Stream;
use crate::units::clock::unix_millis;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

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
    letters: Option<mpsc::Sender<Letter>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server with no data.
pub fn start(options: Options) -> io::Result<Embedded> {
    run(Core::new(options.max_memory, unix_millis))
}

/// Starts one that stands in for another.
pub fn stand_in(policy: Policy) -> io::Result<Embedded> {
    run(Core::new(0, unix_millis).standing_in(policy))
}

fn run(core: Core) -> io::Result<Embedded> {
    let (letters, received) = mpsc::channel(CONNECTING_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || shell::run(&runtime, core, received);
    let thread = std::thread::Builder::new().name("embedded".to_owned()).spawn(run)?;
    Ok(Embedded { letters: Some(letters), thread: Some(thread) })
}

impl Embedded {
    /// A new connection to the server. The caller sets it nonblocking if it wants that.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let sent = self.letters.as_ref().map(|letters| letters.try_send(Letter::Client(theirs)));
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

    /// By which links come in, as long as the server is there.
    pub fn door(self: &Arc<Self>) -> Door {
        let server = Arc::downgrade(self);
        Door::new(move || {
            let server = server.upgrade().ok_or(io::ErrorKind::ConnectionRefused)?;
            let stream = server.connect()?;
            stream.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(stream).map(Stream::Unix)
        })
    }

    /// Closes the connections that are there, each as soon as the replies to what it has asked so
    /// far are written. Nothing that it still sends is carried out.
    pub async fn close_connections(&self) {
        self.post(Letter::Close).await;
    }

    /// From now on this is asked of a server that stands in for another.
    pub async fn obey(&self, policy: Policy) {
        self.post(Letter::Work(Box::new(move |core| core.obey(policy)))).await;
    }

    /// How much was written to a server that stands in for another.
    pub async fn written(&self) -> Option<Written> {
        self.ask(|core| core.written()).await
    }

    /// What was written to it, from a place on: so many keys, or bytes and a little more.
    pub async fn page(&self, from: usize, keys_max: usize, bytes_max: usize) -> Option<Page> {
        self.ask(move |core| core.page(from, keys_max, bytes_max)).await
    }

    /// Asks the server's thread; `None` if that has ended (by a panic, which was reported).
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.post(Letter::Work(Box::new(move |core| {
            // Who does not wait any more needs no answer.
            answer.send(work(core)).ok();
        })))
        .await;
        answered.await.ok()
    }

    async fn post(&self, letter: Letter) {
        if let Some(letters) = &self.letters {
            letters.send(letter).await.ok();
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
        drop(self.letters.take());
        // If it ended by a panic, the panic has been reported already.
        self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
