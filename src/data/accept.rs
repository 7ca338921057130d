//! A socket comes in, is greeted if it must be, and is dealt to the worker with the fewest clients.
//!
//! One thread accepts for all workers: so clients are spread evenly whatever the kernel would do,
//! and an upgrade can hand the listening socket over whole. Listeners of TLS have a thread of their
//! own, so that the arithmetic of handshakes holds up neither workers nor plain clients.

use crate::data::Shared;
use crate::data::conn;
use crate::data::flights::Landing;
use crate::data::worker::Worker;
use crate::net::client::{ClientStream, PeerAddress, Socket, Transport};
use crate::net::greet::{Greeting, Refusal};
use crate::net::listen::Acceptor;
use crate::stats::{Block, Counter};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

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
    /// Clients dealt to it that are still there.
    fn load(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Tells the worker that draining has begun.
    pub async fn drain(&self) {
        // A worker that is gone has nothing to drain.
        self.letters.send(Letter::Drain).await.ok();
    }
}

/// What all listeners have in common.
#[derive(Debug)]
pub struct Reception {
    /// The workers.
    pub desks: Vec<Desk>,
    /// What they share.
    pub shared: Arc<Shared>,
    /// Counters.
    pub block: Arc<Block>,
    /// Silence after which TCP asks whether a client is there.
    pub keepalive: Duration,
    /// One permit for each client that may be greeted at a time, over TLS or by a PROXY header.
    pub greetings: Arc<Semaphore>,
    /// How many there are.
    pub greetings_max: u32,
}

/// A client that is being greeted.
struct Greeted {
    _permit: OwnedSemaphorePermit,
    reception: Rc<Reception>,
    greeting: Greeting,
}

/// Accepts on one listener until it `is_stopped`; deals to the workers. Who is to be greeted
/// first does not hold up the others; when as many are as may be, this listener waits, and further
/// clients in its backlog.
pub async fn run(
    acceptor: Acceptor,
    is_tls: bool,
    reception: Rc<Reception>,
    mut is_stopped: watch::Receiver<bool>,
) {
    loop {
        // Nobody is accepted and then left alone: it is stopped only between two.
        let accepted = tokio::select! {
            biased;
            _ = is_stopped.wait_for(|is| *is) => return,
            accepted = acceptor.accept(reception.keepalive) => accepted,
        };
        match accepted {
            Ok(socket) => receive(socket, is_tls, &reception).await,
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

async fn receive(socket: Socket, is_tls: bool, reception: &Rc<Reception>) {
    let greeting = reception.greeting(is_tls);
    if is_tls && greeting.tls.is_none() {
        // Whatever became of the certificate: nobody is served in plain on a port of TLS.
        return;
    }
    if greeting.is_empty() {
        return reception.deal(socket).await;
    }
    if !reception.has_room(&socket) {
        return;
    }
    // Never closed.
    if let Ok(permit) = Arc::clone(&reception.greetings).acquire_owned().await {
        let reception = Rc::clone(reception);
        let greeted = Greeted { _permit: permit, reception, greeting };
        tokio::task::spawn_local(greeted.run(socket));
    }
}

impl Greeted {
    async fn run(self, socket: Socket) {
        let client = socket.peer().clone();
        match self.greeting.greet(socket).await {
            Ok(socket) => self.reception.deal(socket).await,
            Err(refusal) => self.reception.refuse(&client, &refusal),
        }
    }
}

impl Reception {
    /// Waits until all who are being greeted are with a worker, or were sent away.
    pub async fn finish(&self) {
        self.greetings.acquire_many(self.greetings_max).await.ok();
    }

    /// How a client is greeted that comes in now.
    fn greeting(&self, is_tls: bool) -> Greeting {
        let snapshot = self.shared.snapshots.newest();
        let server = &snapshot.settings.server;
        Greeting {
            proxy_protocol: server.proxy_protocol,
            tls: server.tls.server.as_ref().filter(|_| is_tls).cloned(),
            timeout: server.handshake_timeout,
        }
    }

    /// True if there is room for one client more; else it is sent away.
    fn has_room(&self, socket: &Socket) -> bool {
        let clients: usize = self.desks.iter().map(Desk::load).sum();
        let clients_max = self.shared.snapshots.newest().limits.clients_max;
        if clients < clients_max {
            return true;
        }
        self.block.add(Counter::RejectedMaxClients, 1);
        tracing::warn!(
            event = "client_rejected",
            reason = "max_clients",
            clients,
            "a client too many: server.max_clients is {clients_max}"
        );
        // Redis' words.
        socket.dismiss(b"-ERR max number of clients reached\r\n");
        false
    }

    async fn deal(&self, socket: Socket) {
        if !self.has_room(&socket) {
            return;
        }
        let kind = match socket.transport() {
            Transport::Tcp => Counter::ConnectionsTcp,
            Transport::Tls => Counter::ConnectionsTls,
            Transport::Unix => Counter::ConnectionsUnix,
        };
        self.block.add(kind, 1);
        if let Some(desk) = self.desks.iter().min_by_key(|desk| desk.load()) {
            desk.clients.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone drops the socket, and so closes it.
            desk.letters.send(Letter::Client(socket)).await.ok();
        }
    }

    /// A client that was not let in.
    fn refuse(&self, client: &PeerAddress, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::Left => {
                tracing::debug!(client_addr = %client, "a connection closed before its first byte");
                return;
            }
            Refusal::Header(_) => Some(Counter::RejectedProxyProtocol),
            Refusal::Tls(_) => Some(Counter::RejectedTls),
            Refusal::Timeout(_) => Some(Counter::RejectedHandshakeTimeout),
            Refusal::System(_) => None,
        };
        if let Some(counter) = counter {
            self.block.add(counter, 1);
        }
        tracing::warn!(
            event = "client_rejected",
            reason = refusal.reason(),
            client_addr = %client,
            error = %refusal,
            "a client was not let in"
        );
    }
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
                Some(Letter::Drain) => drain(&worker),
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

fn drain(worker: &Rc<Worker>) {
    worker.wake_all();
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(conn::LINGER).await;
        worker.end_grace();
    });
}

fn admit(worker: &Rc<Worker>, socket: Socket) {
    match ClientStream::from_std(socket) {
        Ok(stream) => worker.admit(stream),
        Err(error) => {
            worker.forget_one();
            tracing::warn!(error = %error, "cannot take a connection in");
        }
    }
}
