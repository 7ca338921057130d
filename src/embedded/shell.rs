//! The part that waits: sockets, the clock's tick, one task per connection.
//!
//! A task reads, feeds the core, and writes what came of it: first to the clients that were told
//! of a change, then to its own. What a socket does not take at once is written by the task of
//! that socket when there is room.

use super::core::Core;
use bytes::Buf;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::unix::net;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

/// Room for one read, at least.
const READ_MIN: usize = 16 * 1024;

/// A client with so many unsent bytes is not read from until it takes some.
const UNSENT_MAX: usize = 1 << 20;

/// How often keys are looked for whose time is over (Redis' `hz 10`).
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Shell {
    core: RefCell<Core>,
    links: RefCell<IndexMap<u64, Rc<Link>, RandomState>>,
}

/// A client's socket.
#[derive(Debug)]
struct Link {
    stream: UnixStream,
    /// Wakes the link's own task: somebody else left bytes unsent.
    unsent: Notify,
}

/// What comes to the server's thread.
pub(super) enum Letter {
    /// A client.
    Client(net::UnixStream),
    /// Something to be done with the data.
    Work(Box<dyn FnOnce(&mut Core) + Send>),
    /// No client is served any more that is there.
    Close,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Work(_) => "Work",
            Self::Close => "Close",
        })
    }
}

/// Serves until nobody can write letters any more.
pub(super) fn run(runtime: &Runtime, core: Core, mut letters: mpsc::Receiver<Letter>) {
    let shell = Rc::new(Shell { core: RefCell::new(core), links: RefCell::default() });
    LocalSet::new().block_on(runtime, async move {
        spawn_local(tick(Rc::clone(&shell)));
        while let Some(letter) = letters.recv().await {
            match letter {
                // A socket that cannot be watched is dropped: its peer sees it closed.
                Letter::Client(stream) => {
                    if let Ok(stream) = UnixStream::from_std(stream) {
                        spawn_local(serve(Rc::clone(&shell), stream));
                    }
                }
                Letter::Work(work) => work(&mut shell.core.borrow_mut()),
                Letter::Close => shell.close(),
            }
        }
    });
}

async fn tick(shell: Rc<Shell>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shell.core.borrow_mut().tick();
        shell.write_told();
    }
}

/// Forgets the client when its task ends, even by a panic.
struct Connected {
    shell: Rc<Shell>,
    id: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shell.links.borrow_mut().swap_remove(&self.id);
        self.shell.core.borrow_mut().disconnect(self.id);
    }
}

async fn serve(shell: Rc<Shell>, stream: UnixStream) {
    let id = shell.core.borrow_mut().connect();
    let link = Rc::new(Link { stream, unsent: Notify::new() });
    shell.links.borrow_mut().insert(id, Rc::clone(&link));
    let connected = Connected { shell, id };
    // A broken socket ends the client like a closed one; there is nobody left to be told.
    converse(&connected.shell, id, &link).await.ok();
}

async fn converse(shell: &Shell, id: u64, link: &Link) -> io::Result<()> {
    loop {
        let unsent = shell.write(id, link)?;
        let closing = shell.core.borrow().is_closing(id);
        if closing && unsent == 0 {
            return Ok(());
        }
        let wanted = match (unsent, closing) {
            (0, _) => Interest::READABLE,
            (1..UNSENT_MAX, false) => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::WRITABLE,
        };
        let ready = tokio::select! {
            ready = link.stream.ready(wanted) => ready?,
            () = link.unsent.notified() => continue,
        };
        if ready.is_readable() && wanted.is_readable() && !shell.read(id, link)? {
            return Ok(());
        }
    }
}

impl Shell {
    /// Nothing more is read from the clients that are there.
    fn close(&self) {
        self.core.borrow_mut().close_clients();
        for link in self.links.borrow().values() {
            link.unsent.notify_one();
        }
    }

    /// Reads and runs what there is. False if the peer has closed.
    fn read(&self, id: u64, link: &Link) -> io::Result<bool> {
        let mut core = self.core.borrow_mut();
        let Some(input) = core.input(id) else {
            return Ok(false);
        };
        input.reserve(READ_MIN);
        match link.stream.try_read_buf(input) {
            Ok(0) => return Ok(false),
            Ok(_) => core.feed(id),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        drop(core);
        self.write_told();
        Ok(true)
    }

    /// Writes what the socket takes; the bytes that are left.
    fn write(&self, id: u64, link: &Link) -> io::Result<usize> {
        let mut core = self.core.borrow_mut();
        let Some(output) = core.output(id) else {
            return Ok(0);
        };
        while !output.is_empty() {
            match link.stream.try_write(output) {
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(output.len())
    }

    /// Writes to the clients that were told of a change.
    fn write_told(&self) {
        let told = self.core.borrow_mut().take_told();
        for id in told {
            let link = self.links.borrow().get(&id).map(Rc::clone);
            // A broken or full socket is its own task's business, and so is the end.
            if let Some(link) = link
                && (!matches!(self.write(id, &link), Ok(0)) || self.core.borrow().is_closing(id))
            {
                link.unsent.notify_one();
            }
        }
    }
}
