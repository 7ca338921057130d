//! nearside itself: its parts as `app` puts them together, on one thread, with wires in memory.
//!
//! What is missing is what waits for the system: sockets, threads, signals, the admin port.

use crate::faults::Door;
use crate::rng::Rng;
use crate::wire::{Far, wire};
use crate::words::LINEAR;
use nearside::command::{self, own};
use nearside::config::{Level, MultiKey, Overrides, Rule, Settings, load};
use nearside::control::invalidate::tracking::{Ring, Tracking};
use nearside::data::flights::{Flights, Landing};
use nearside::data::local::{Ledger, Profile};
use nearside::data::worker::Worker;
use nearside::data::{Means, Shared};
use nearside::mail::Letterbox;
use nearside::net::client::{ClientStream, PeerAddress};
use nearside::net::dialer::{self, Dialer};
use nearside::net::lookup::Lookup;
use nearside::net::stream::Stream;
use nearside::net::switch::Switch;
use nearside::stats::Stats;
use nearside::units::clock::{Clock, Hands};
use parking_lot::Mutex;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How stale a hit may be (`cache.max_staleness`).
pub(crate) const STALENESS_MS: u64 = 400;

/// How long anything is kept (`cache.ttl`).
pub(crate) const TTL_MS: u64 = 2500;

/// Settings of one kind of run.
pub(crate) fn settings(workers: usize, closes: bool) -> Settings {
    let flags = [
        ("upstream.url", "\"embedded:\"".to_owned()),
        ("upstream.on_down", format!("\"{}\"", if closes { "close" } else { "error" })),
        ("upstream.connect_timeout", "\"500ms\"".to_owned()),
        ("upstream.request_timeout", "\"400ms\"".to_owned()),
        ("upstream.write_timeout", "\"600ms\"".to_owned()),
        ("upstream.reconnect_wait", "\"300ms\"".to_owned()),
        ("server.workers", workers.to_string()),
        ("keys.version", "\"v1\"".to_owned()),
        ("cache.admission", "\"always\"".to_owned()),
        ("cache.max_memory", "\"2gb\"".to_owned()),
        ("cache.max_staleness", format!("\"{STALENESS_MS}ms\"")),
        ("cache.ttl", format!("\"{TTL_MS}ms\"")),
        ("cache.negative_ttl", "\"300ms\"".to_owned()),
        ("cache.script_barrier", "true".to_owned()),
        // Scripts run unread.
        ("scripts.policy", "\"allow\"".to_owned()),
        // Its draws are not the seed's.
        ("cache.ttl_jitter", "0.0".to_owned()),
    ];
    let flags = flags.map(|(key, value)| ("simulation".to_owned(), key.to_owned(), value));
    let overrides = Overrides { flags: flags.to_vec(), ..Overrides::default() };
    load(&overrides).unwrap().settings
}

/// Has some keys be of level `linear`.
pub(crate) fn make_linear(settings: &mut Settings) {
    let patterns = LINEAR.iter().map(|key| format!("k{key}:*")).collect();
    let rule = Rule { patterns, level: Level::Linear, ..settings.default_rule.clone() };
    settings.rules.push(rule);
}

/// Has all that is cached of a key be of one moment, and each MGET.
pub(crate) fn make_whole(settings: &mut Settings) {
    for rule in settings.rules.iter_mut().chain([&mut settings.default_rule]) {
        (rule.whole_key, rule.multi_key) = (true, MultiKey::Bypass);
    }
}

/// Where upstream connections arrive.
#[derive(Debug)]
pub(crate) struct Porch {
    pub(crate) door: Door,
    /// Each with the round of links that was on then.
    pub(crate) arrived: Vec<(Far, u64)>,
    /// How often an operator had all links closed.
    round: u64,
    rng: Rng,
}

/// nearside.
pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) hands: Hands,
    pub(crate) porch: Arc<Mutex<Porch>>,
    workers: Vec<(Rc<Worker>, Arc<AtomicUsize>)>,
}

impl Proxy {
    /// Starts its tasks in the runtime that runs.
    pub(crate) fn start(settings: &Settings, rng: &mut Rng) -> Self {
        let (clock, hands) = Clock::manual();
        let rng = rng.fork();
        let porch =
            Arc::new(Mutex::new(Porch { door: Door::Open, arrived: Vec::new(), round: 0, rng }));
        let workers = settings.server.workers;
        let stats = Arc::new(Stats::new(command::COUNT + own::ROWS));
        let (flights, landings) = Flights::new(workers);
        let shared = Arc::new(shared(settings, clock, flights, &stats, &porch));
        tokio::task::spawn_local(tracking(&shared, &stats).run());
        let serve = |(number, landings)| {
            let dealt = Arc::new(AtomicUsize::new(0));
            let block = stats.new_worker_block();
            let worker = Worker::new(Arc::clone(&shared), block, number, Arc::clone(&dealt));
            tokio::task::spawn_local(serve(Rc::clone(&worker), number, landings));
            (worker, dealt)
        };
        let workers = landings.into_iter().enumerate().map(serve).collect();
        Self { shared, stats, hands, porch, workers }
    }

    /// A client connects.
    pub(crate) fn connect(&self, worker: usize, rng: &mut Rng) -> Far {
        let (near, far) = wire(rng.fork());
        let (worker, dealt) = &self.workers[worker % self.workers.len()];
        dealt.fetch_add(1, Ordering::Relaxed);
        let peer = PeerAddress::Tcp(([127, 0, 0, 1], 1).into());
        worker.admit(ClientStream::from_pipe(Arc::new(near), peer));
        far
    }

    /// An operator has all links closed. With `is_for_good` they stay so until `enable`.
    pub(crate) fn close_links(&self, is_for_good: bool) {
        let switch = &self.shared.dialer.switch;
        self.porch.lock().round += 1;
        if !is_for_good {
            switch.reconnect();
        } else if !switch.disable() {
            self.porch.lock().round -= 1;
        }
    }

    /// And has them again.
    pub(crate) fn enable(&self) {
        self.shared.dialer.switch.enable();
    }

    /// True if no link has anything out.
    pub(crate) fn is_quiet(&self) -> bool {
        self.workers.iter().all(|(worker, _)| worker.is_quiet())
    }

    /// True if every client was forgotten that has gone.
    pub(crate) fn is_deserted(&self) -> bool {
        let dealt = self.workers.iter().map(|(_, dealt)| dealt.load(Ordering::Relaxed));
        self.shared.registry.is_empty() && dealt.sum::<usize>() == 0
    }
}

fn shared(
    settings: &Settings,
    clock: Clock,
    flights: Flights,
    stats: &Arc<Stats>,
    porch: &Arc<Mutex<Porch>>,
) -> Shared {
    let porch = Arc::clone(porch);
    let ledger = Ledger::new(Arc::clone(stats), Profile::default(), clock.now());
    let dialer = Dialer {
        target: settings.upstream.target.clone(),
        tls: None,
        embedded: Some(dialer::Door::new(move || dial(&porch))),
        timeout: settings.upstream.connect_timeout,
        name: "nearside:simulation".to_owned(),
        switch: Switch::default(),
        lookup: Lookup::default(),
    };
    let (letterbox, lease_letterbox) = (Letterbox::new().0, Letterbox::for_leases().0);
    let means = Means { clock, flights, ledger, letterbox, lease_letterbox, dialer };
    Shared::new(settings, means).unwrap()
}

fn dial(porch: &Mutex<Porch>) -> io::Result<Stream> {
    let mut porch = porch.lock();
    if porch.door == Door::Refused {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (near, far) = wire(porch.rng.fork());
    if porch.door == Door::Shut {
        far.finish();
    } else {
        let round = porch.round;
        porch.arrived.push((far, round));
    }
    Ok(Stream::Pipe(Arc::new(near)))
}

fn tracking(shared: &Arc<Shared>, stats: &Stats) -> Tracking {
    let bells = Arc::clone(shared);
    Tracking {
        ring: Ring(Box::new(move || bells.barrier_bells.ring())),
        cache: Arc::clone(&shared.cache),
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        clock: shared.clock.clone(),
        live: Arc::clone(&shared.live),
        block: stats.new_block(),
        versions: tokio::sync::watch::channel(None).0,
        waited: Arc::default(),
    }
}

/// A worker's life, as `data::accept` leads it.
async fn serve(worker: Rc<Worker>, number: usize, mut landings: UnboundedReceiver<Landing>) {
    let shared = Arc::clone(&worker.shared);
    let bell = shared.bells.of(number).unwrap();
    let barrier_bell = shared.barrier_bells.of(number).unwrap();
    let mut landed = Vec::new();
    let mut tidy = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! { biased;
            () = bell.notified() => worker.look_around(),
            () = barrier_bell.notified() => worker.pass_barriers(),
            _ = tidy.tick() => worker.tidy_up(),
            _ = landings.recv_many(&mut landed, 256) => worker.land(&mut landed),
        }
    }
}
