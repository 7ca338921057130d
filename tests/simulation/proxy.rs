//! nearside itself: its parts as `app` puts them together, on one thread, with wires in memory.
//!
//! What is missing is what waits for the system: sockets, threads, signals, the admin port.

use crate::faults::Door;
use crate::rng::Rng;
use crate::wire::{Far, wire};
use nearside::cache::Cache;
use nearside::command::{self, own};
use nearside::config::{Overrides, Settings, load};
use nearside::control::invalidate::tracking::Tracking;
use nearside::data::Shared;
use nearside::data::flights::{Flights, Landing};
use nearside::data::local::{Ledger, Profile};
use nearside::data::pause::{Bells, Pause};
use nearside::data::registry::Registry;
use nearside::data::slow::SlowLog;
use nearside::data::worker::Worker;
use nearside::live::Live;
use nearside::mail::Letterbox;
use nearside::net::client::{ClientStream, PeerAddress};
use nearside::net::dialer::Dialer;
use nearside::net::stream::Stream;
use nearside::scripts::Scripts;
use nearside::snapshot::{Snapshot, Snapshots};
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
        // Its draws are not the seed's.
        ("cache.ttl_jitter", "0.0".to_owned()),
    ];
    let flags = flags.map(|(key, value)| ("simulation".to_owned(), key.to_owned(), value));
    let overrides = Overrides { flags: flags.to_vec(), ..Overrides::default() };
    load(&overrides).unwrap().settings
}

/// Where upstream connections arrive.
#[derive(Debug)]
pub(crate) struct Porch {
    pub(crate) door: Door,
    pub(crate) arrived: Vec<Far>,
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
        let porch = Arc::new(Mutex::new(Porch { door: Door::Open, arrived: Vec::new(), rng }));
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
    let cache = &settings.cache;
    let workers = settings.server.workers;
    let now = clock.now();
    let porch = Arc::clone(porch);
    Shared {
        cache: Arc::new(Cache::new(cache.max_memory, cache.max_variants)),
        snapshots: Arc::new(Snapshots::new(Snapshot::of(settings), workers)),
        clock,
        live: Arc::new(Live::default()),
        flights,
        registry: Registry::default(),
        pause: Pause::default(),
        bells: Bells::new(workers),
        ledger: Ledger::new(Arc::clone(stats), Profile::default(), now),
        letterbox: Letterbox::new().0,
        dedicated: AtomicUsize::new(0),
        dialer: Arc::new(Dialer {
            target: settings.upstream.target.clone(),
            tls: None,
            embedded: Some(Box::new(move || dial(&porch))),
            timeout: settings.upstream.connect_timeout,
            name: "nearside:simulation".to_owned(),
        }),
        slow: SlowLog::new(settings.log.slow_command, settings.log.slowlog_max, settings.log.keys),
        get: command::by_name("get").unwrap(),
        scripts: Scripts::new(&settings.scripts, true),
    }
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
        porch.arrived.push(far);
    }
    Ok(Stream::Pipe(Arc::new(near)))
}

fn tracking(shared: &Shared, stats: &Stats) -> Tracking {
    Tracking {
        cache: Arc::clone(&shared.cache),
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        clock: shared.clock.clone(),
        live: Arc::clone(&shared.live),
        block: stats.new_block(),
        versions: tokio::sync::watch::channel(None).0,
    }
}

/// A worker's life, as `data::accept` leads it.
async fn serve(worker: Rc<Worker>, number: usize, mut landings: UnboundedReceiver<Landing>) {
    let shared = Arc::clone(&worker.shared);
    let bell = shared.bells.of(number).unwrap();
    let mut landed = Vec::new();
    let mut tidy = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! { biased;
            () = bell.notified() => worker.look_around(),
            _ = tidy.tick() => worker.tidy_up(),
            _ = landings.recv_many(&mut landed, 256) => worker.land(&mut landed),
        }
    }
}
