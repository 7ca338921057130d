//! A socket comes in and is dealt to the worker with the fewest clients.
//!
//! One thread accepts for all workers: so clients are spread evenly whatever the kernel would do,
//! and an upgrade can hand the listening socket over whole.

use crate::data::Shared;
use crate::data::flights::Landing;
use crate::data::worker::Worker;
use crate::net::client::{ClientStream, Socket};
use crate::net::listen::Acceptor;
use crate::stats::{Block, Counter};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Sockets that may wait for one worker to take them in.
const QUEUE: usize = 1024;

/// Landings taken in at once: their clients are then written to once.
const LANDINGS_AT_ONCE: usize = 256;

/// Pause after an error of `accept` (no descriptor left): it would only fail again.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A letter to a worker.
#[derive(Debug)]
pub enum Letter {
    /// A client that has connected.
    Client(Socket),
    /// Draining has begun: every connection is to look around.
    Drain,
}

/// The acceptor's end of one worker.
#[derive(Clone, Debug)]
pub struct Desk {
    letters: mpsc::Sender<Letter>,
    clients: Arc<AtomicUsize>,
}

/// A worker's end.
#[derive(Debug)]
pub struct Inbox {
    letters: mpsc::Receiver<Letter>,
    landings: mpsc::UnboundedReceiver<Landing>,
    clients: Arc<AtomicUsize>,
    number: usize,
}

/// Both ends of the way from the acceptor to one worker, who also hears of `landings`.
pub fn desk(number: usize, landings: mpsc::UnboundedReceiver<Landing>) -> (Desk, Inbox) {
    let (sender, letters) = mpsc::channel(QUEUE);
    let clients = Arc::new(AtomicUsize::new(0));
    let desk = Desk { letters: sender, clients: Arc::clone(&clients) };
    (desk, Inbox { letters, landings, clients, number })
}

impl Desk {
    /// Tells the worker that draining has begun.
    pub async fn drain(&self) {
        // A worker that is gone has nothing to drain.
        self.letters.send(Letter::Drain).await.ok();
    }
}

/// Accepts on one listener until the process ends; deals to `desks`.
pub async fn run(
    acceptor: Acceptor,
    keepalive: Duration,
    desks: Vec<Desk>,
    shared: Arc<Shared>,
    block: Arc<Block>,
) {
    loop {
        match acceptor.accept(keepalive).await {
            Ok(socket) => deal(socket, &desks, &shared, &block).await,
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

async fn deal(socket: Socket, desks: &[Desk], shared: &Shared, block: &Block) {
    let load = |desk: &&Desk| desk.clients.load(Ordering::Relaxed);
    let clients: usize = desks.iter().map(|desk| load(&desk)).sum();
    let clients_max = shared.snapshots.newest().limits.clients_max;
    if clients >= clients_max {
        block.add(Counter::RejectedMaxClients, 1);
        tracing::warn!(
            event = "client_rejected",
            reason = "max_clients",
            clients,
            "a client too many: server.max_clients is {clients_max}"
        );
        refuse(&socket);
        return;
    }
    let kind = match socket {
        Socket::Tcp(..) => Counter::ConnectionsTcp,
        Socket::Unix(..) => Counter::ConnectionsUnix,
    };
    block.add(kind, 1);
    if let Some(desk) = desks.iter().min_by_key(load) {
        desk.clients.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone drops the socket, and so closes it.
        desk.letters.send(Letter::Client(socket)).await.ok();
    }
}

/// Redis' words to a client too many.
fn refuse(socket: &Socket) {
    const TEXT: &[u8] = b"-ERR max number of clients reached\r\n";
    // Nonblocking and fresh: the few bytes fit, or the client has gone.
    match socket {
        Socket::Tcp(stream, ..) => (&*stream).write(TEXT),
        Socket::Unix(stream, ..) => (&*stream).write(TEXT),
    }
    .ok();
}

/// A worker's life: takes clients in until the acceptor is gone.
pub async fn serve(shared: Arc<Shared>, block: Arc<Block>, mut inbox: Inbox) {
    let beats = Arc::clone(&block);
    let worker = Worker::new(shared, block, inbox.number, Arc::clone(&inbox.clients));
    let shared = Arc::clone(&worker.shared);
    let bells = shared.bells.of(inbox.number).zip(shared.barrier_bells.of(inbox.number));
    let Some((bell, barrier_bell)) = bells else {
        return;
    };
    let mut landed = Vec::new();
    let mut tidy = tokio::time::interval(Duration::from_secs(1));
    loop {
        let pause = shared.pause.left(&shared.clock);
        tokio::select! {
            letter = inbox.letters.recv() => match letter {
                Some(Letter::Client(socket)) => admit(&worker, socket),
                Some(Letter::Drain) => worker.wake_all(),
                None => return,
            },
            // Its sender lives in `shared`, as long as this worker.
            _ = inbox.landings.recv_many(&mut landed, LANDINGS_AT_ONCE) => worker.land(&mut landed),
            () = bell.notified() => worker.look_around(),
            () = barrier_bell.notified() => worker.pass_barriers(),
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                worker.look_around();
            }
            _ = tidy.tick() => {
                worker.tidy_up();
                beats.beat(shared.clock.now());
                if inbox.number == 0 {
                    shared.ledger.tick(shared.clock.now());
                }
            }
        }
    }
}

fn admit(worker: &std::rc::Rc<Worker>, socket: Socket) {
    match ClientStream::from_std(socket) {
        Ok(stream) => worker.admit(stream),
        Err(error) => {
            worker.forget_one();
            tracing::warn!(error = %error, "cannot take a connection in");
        }
    }
}
