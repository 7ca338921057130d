//! The parts, each made of settings and of what it works with.

use crate::behind::folder::Disk;
use crate::behind::log::Log;
use crate::behind::queue::Queue;
use crate::behind::{self, writer};
use crate::config::{Overrides, Settings, Tls};
use crate::control::acl::Polls;
use crate::control::admin::guard::{Access, Guard, Token};
use crate::control::behind::{Flusher, Ring as BehindRing};
use crate::control::census::Census;
use crate::control::fallback::Keeper;
use crate::control::fill_lease::Lender;
use crate::control::fill_lease::lock::Lines;
use crate::control::fill_lease::waited::Waited;
use crate::control::fleet::Fleet;
use crate::control::invalidate::channel::Channel;
use crate::control::invalidate::history::History;
use crate::control::invalidate::orders::Orders;
use crate::control::invalidate::outbox::Speaker;
use crate::control::invalidate::subscription::Subscription;
use crate::control::invalidate::tracking::{Ring, Tracking};
use crate::control::observe::chart::Chart;
use crate::control::observe::logs;
use crate::control::observe::metrics::{ChannelSource, TrackingFigures};
use crate::control::observe::state::{BehindFigures, BufferFigures, CertificateFigures, Runtimes};
use crate::control::office::Sweeper;
use crate::control::reload::{Parts, Reloader};
use crate::control::warm::Warm;
use crate::data::Shared;
use crate::data::accept::{self, Desk, Reception};
use crate::data::flights::Landing;
use crate::data::local::{Ledger, Profile};
use crate::data::registry::Client;
use crate::embedded::{self, Embedded};
use crate::mail::{LeaseLetter, Letters};
use crate::net::address::Address;
use crate::net::dialer::Dialer;
use crate::net::limits::fit_open_files;
use crate::net::listen::{ListenOptions, Listener};
use crate::net::lookup::Lookup;
use crate::net::switch::Switch;
use crate::net::target::Password;
use crate::net::tls::TlsClient;
use crate::stats::Stats;
use crate::units::clock::Clock;
use anyhow::Context as _;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// A runtime for the thread that asks.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What this process calls itself on the channel: no other one does, nor this one's next life.
pub(super) fn origin(settings: &Settings) -> String {
    let nonce = foldhash::quality::RandomState::default().hash_one(std::process::id());
    format!("{}:{nonce:016x}", settings.instance)
}

/// Who may ask the admin port for what.
pub(super) fn access(settings: &Settings) -> Access {
    let token = |token: &Option<Password>| token.as_ref().map(|token| Token::new(token.reveal()));
    let admin = &settings.admin;
    let (operator, viewer) = (token(&admin.operator), token(&admin.viewer));
    Access { operator, viewer, hosts: admin.names() }
}

/// How the listeners that the key names are bound.
pub fn listen_options(key: &'static str, settings: &Settings) -> ListenOptions {
    ListenOptions {
        key,
        backlog: settings.server.tcp_backlog,
        unix_permissions: settings.server.unix_permissions,
    }
}

/// The in-process upstream, if it is the one chosen.
pub fn embedded(settings: &Settings) -> anyhow::Result<Option<Arc<Embedded>>> {
    if settings.upstream.target.address != Address::Embedded {
        return Ok(None);
    }
    // It holds what is cached and more: with the defaults, at most half of the cgroup's memory.
    let max_memory = settings.cache.max_memory.saturating_mul(2);
    let max_memory = usize::try_from(max_memory).unwrap_or(usize::MAX);
    let started = embedded::start(embedded::Options { max_memory });
    Ok(Some(Arc::new(started.context("cannot start the embedded upstream")?)))
}

/// How links to upstream are opened.
pub fn dialer(settings: &Settings, embedded: Option<&Arc<Embedded>>) -> Dialer {
    let upstream = &settings.upstream;
    let tls = upstream.tls_client.clone().filter(|_| upstream.target.tls);
    let door = embedded.map(Embedded::door);
    Dialer {
        target: upstream.target.clone(),
        tls,
        embedded: door,
        timeout: upstream.connect_timeout,
        name: format!("nearside:{}", settings.instance),
        switch: Switch::default(),
        lookup: Lookup::default(),
    }
}

/// What INFO and CONFIG tell of this process.
pub(super) fn ledger(
    settings: &Settings,
    addresses: &[SocketAddr],
    stats: &Arc<Stats>,
    clock: &Clock,
) -> Ledger {
    let profile = Profile {
        instance: settings.instance.clone(),
        region: settings.region.clone(),
        port: addresses.first().map_or(0, SocketAddr::port),
    };
    Ledger::new(Arc::clone(stats), profile, clock.now())
}

pub(super) fn fit_files(settings: &Settings) {
    let files = fit_open_files(u32::try_from(settings.server.max_clients).unwrap_or(u32::MAX));
    if files.clients < u64::try_from(settings.server.max_clients).unwrap_or(u64::MAX) {
        tracing::warn!(
            wanted = files.wanted,
            reached = files.reached,
            clients = files.clients,
            "the open file limit is too low for server.max_clients: raise `ulimit -n`"
        );
    }
}

/// The threads that look after what workers rely on. Out: told of the version that a fleet shares.
pub(super) fn start_guards(
    shared: &Arc<Shared>,
    stats: &Stats,
    lease_letters: Letters<LeaseLetter>,
    runtimes: &Arc<Runtimes>,
) -> anyhow::Result<watch::Receiver<Option<String>>> {
    let (versions, fleet) = watch::channel(None);
    let waited = Arc::default();
    let tracking = tracking(shared, stats, versions, &waited);
    spawn("tracking", runtimes, move || tracking.run())?;
    let lender = lender(shared, stats, waited);
    spawn("leases", runtimes, move || lender.run(lease_letters))?;
    let keeper = keeper(shared, stats);
    spawn("fallback", runtimes, move || keeper.run())?;
    Ok(fleet)
}

fn tracking(
    shared: &Arc<Shared>,
    stats: &Stats,
    versions: watch::Sender<Option<String>>,
    waited: &Arc<Waited>,
) -> Tracking {
    let bells = Arc::clone(shared);
    Tracking {
        ring: Ring(Box::new(move || bells.barrier_bells.ring())),
        cache: Arc::clone(&shared.cache),
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        clock: shared.clock.clone(),
        live: Arc::clone(&shared.live),
        block: stats.new_block(),
        versions,
        waited: Arc::clone(waited),
    }
}

/// Who answers PROXY LEASE.
fn lender(shared: &Shared, stats: &Stats, waited: Arc<Waited>) -> Lender {
    Lender {
        cache: Arc::clone(&shared.cache),
        snapshots: Arc::clone(&shared.snapshots),
        clock: shared.clock.clone(),
        live: Arc::clone(&shared.live),
        lines: Lines::new(Arc::clone(&shared.dialer)),
        waited,
        block: stats.new_block(),
    }
}

/// Opens what writes wait in that upstream does not have yet, if there is write-behind.
pub(super) fn open_behind(
    settings: &Settings,
    shared: &mut Shared,
) -> anyhow::Result<Option<Log<Disk>>> {
    let cache = Arc::clone(&shared.cache);
    let hash = move |key: &[u8]| cache.hash(key);
    let Some(opened) = behind::open(&settings.write_behind, &shared.clock, hash)? else {
        return Ok(None);
    };
    shared.behind = Some(opened.queue);
    Ok(opened.log)
}

/// The threads that write their log, and that make them upstream.
pub(super) fn start_behind(
    shared: &Arc<Shared>,
    stats: &Stats,
    log: Option<Log<Disk>>,
    runtimes: &Arc<Runtimes>,
) -> anyhow::Result<()> {
    let Some(queue) = &shared.behind else {
        return Ok(());
    };
    if let Some(log) = log {
        let queue = Arc::clone(queue);
        let name = "write-behind-log".to_owned();
        std::thread::Builder::new().name(name).spawn(move || writer::run(&queue, log))?;
    }
    let bells = Arc::clone(shared);
    let flusher = Flusher {
        queue: Arc::clone(queue),
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        cache: Arc::clone(&shared.cache),
        block: stats.new_block(),
        ring: BehindRing(Box::new(move || bells.barrier_bells.ring())),
    };
    spawn("write-behind", runtimes, move || flusher.run())
}

/// What waits for upstream.
pub(super) fn behind_figures(queue: &Queue) -> BehindFigures {
    let (entries, bytes, oldest) = queue.figures();
    let many = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    BehindFigures {
        entries: many(entries),
        bytes: many(bytes),
        oldest,
        is_taking: !queue.has_failed(),
    }
}

/// Who decides when something stands in for upstream.
fn keeper(shared: &Shared, stats: &Stats) -> Keeper {
    Keeper {
        cache: Arc::clone(&shared.cache),
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        clock: shared.clock.clone(),
        live: Arc::clone(&shared.live),
        block: stats.new_block(),
    }
}

pub(super) fn tracking_figures(shared: &Shared) -> TrackingFigures {
    let synced_at = shared.cache.tracking().synced_at();
    let lag = Duration::from_nanos(shared.live.barrier_ns());
    TrackingFigures {
        up: shared.cache.tracking().is_up(),
        synced_age: (synced_at.0 > 0).then(|| shared.clock.now().since(synced_at)),
        lag: (!lag.is_zero()).then_some(lag),
    }
}

/// Starts a thread for each worker.
pub(super) fn start_workers(
    landings: Vec<mpsc::UnboundedReceiver<Landing>>,
    shared: &Arc<Shared>,
    stats: &Stats,
    runtimes: &Arc<Runtimes>,
) -> anyhow::Result<Vec<Desk>> {
    let start = |(number, landings)| {
        let (desk, inbox) = accept::desk(number, landings);
        let (shared, block) = (Arc::clone(shared), stats.new_worker_block());
        let name = format!("worker-{number}");
        spawn(&name, runtimes, move || accept::serve(shared, block, inbox))?;
        Ok(desk)
    };
    landings.into_iter().enumerate().map(start).collect()
}

/// What all clients have sent and are still to be sent, and the memory that they hold for it.
pub(super) fn buffered(shared: &Shared) -> BufferFigures {
    let few = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
    let add = |sum: BufferFigures, client: &Arc<Client>| BufferFigures {
        input: sum.input + few(&client.unread),
        output: sum.output + few(&client.unsent),
        ..sum
    };
    let all = BufferFigures { held: shared.registry.held(), ..BufferFigures::default() };
    shared.registry.list().iter().fold(all, add)
}

/// By listener, when the certificate that it shows expires.
pub(super) fn certificates(shared: &Shared) -> Vec<CertificateFigures> {
    let settings = &shared.snapshots.newest().settings;
    let shown = [("resp", &settings.server.tls), ("admin", &settings.admin.tls)];
    let of = |(listener, tls): (_, &Tls)| {
        let expires_at = tls.server.as_ref()?.expires_at();
        Some(CertificateFigures { listener, expires_at })
    };
    shown.into_iter().filter_map(of).collect()
}

/// A thread with a runtime of its own, in which `work` runs; it may spawn what is not `Send`.
pub(super) fn spawn<F: Future<Output = ()>>(
    name: &str,
    runtimes: &Arc<Runtimes>,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<()> {
    let (runtimes, known) = (Arc::clone(runtimes), name.to_owned());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                runtimes.add(&known, runtime.metrics());
                runtime.block_on(work());
            }
            Err(error) => tracing::error!(error = %error, "no runtime for a thread"),
        }
    })?;
    Ok(())
}

/// A thread that accepts. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct Accepting {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Accepting {
    /// Ends it as soon as everybody who was accepted is with a worker, or sent away.
    pub(super) async fn stop(self) {
        self.stop.send(()).ok();
        self.done.await.ok();
    }
}

pub(super) fn start_accepting(
    (plain, tls): (Vec<Listener>, Vec<Listener>),
    settings: &Settings,
    desks: &[Desk],
    shared: &Arc<Shared>,
    stats: &Stats,
    runtimes: &Arc<Runtimes>,
) -> anyhow::Result<Vec<Accepting>> {
    let greetings_max = settings.server.max_handshakes;
    let greetings = Arc::new(Semaphore::new(greetings_max));
    let greetings_max = u32::try_from(greetings_max).unwrap_or(u32::MAX);
    let kinds = [("accept", plain, false), ("accept-tls", tls, true)];
    let mut open = Vec::new();
    for (name, listeners, is_tls) in kinds {
        if listeners.is_empty() {
            continue;
        }
        let ((stop, stopped), (finished, done)) = (oneshot::channel(), oneshot::channel());
        let (desks, shared, block) = (desks.to_vec(), Arc::clone(shared), stats.new_block());
        let (keepalive, greetings) = (settings.server.tcp_keepalive, Arc::clone(&greetings));
        spawn(name, runtimes, move || async move {
            let reception = Reception { desks, shared, block, keepalive, greetings, greetings_max };
            let reception = Rc::new(reception);
            if accept_on(listeners, is_tls, &reception, stopped).await {
                reception.finish().await;
                finished.send(()).ok();
            }
        })?;
        open.push(Accepting { stop, done });
    }
    Ok(open)
}

/// Returns true if everybody who was accepted is to be looked after yet.
async fn accept_on(
    listeners: Vec<Listener>,
    is_tls: bool,
    reception: &Rc<Reception>,
    stopped: oneshot::Receiver<()>,
) -> bool {
    let (stop, _) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        match listener.into_acceptor() {
            Ok(acceptor) => {
                let (reception, stopped) = (Rc::clone(reception), stop.subscribe());
                tasks.spawn_local(accept::run(acceptor, is_tls, reception, stopped));
            }
            Err(error) => tracing::error!(error = %error, "cannot accept"),
        }
    }
    if stopped.await.is_err() {
        return false;
    }
    stop.send_replace(true);
    tasks.join_all().await;
    true
}

/// What counts what is held.
pub(super) fn census(sweeper: &Sweeper, shared: &Shared) -> Census {
    Census::new(sweeper.clone(), Arc::clone(&shared.snapshots), shared.clock.clone())
}

/// What charts are drawn from.
pub(super) fn chart(shared: &Shared, stats: &Arc<Stats>) -> Arc<Chart> {
    let (cache, live) = (Arc::clone(&shared.cache), Arc::clone(&shared.live));
    Arc::new(Chart::new(Arc::clone(stats), cache, live, shared.clock.clone()))
}

/// What operators, clients and messages have forgotten.
pub(super) fn orders(shared: &Shared, sweeper: &Sweeper, stats: &Stats) -> Arc<Orders> {
    Arc::new(Orders {
        cache: Arc::clone(&shared.cache),
        sweeper: sweeper.clone(),
        clock: shared.clock.clone(),
        block: stats.new_block(),
        history: History::default(),
        snapshots: Arc::clone(&shared.snapshots),
    })
}

/// Where messages about what is to be forgotten are heard and said, if anywhere.
pub(super) fn channel(
    settings: &Settings,
    shared: &Shared,
    orders: &Arc<Orders>,
) -> Option<Arc<Channel>> {
    let invalidation = &settings.invalidation;
    if invalidation.channels.is_empty() {
        return None;
    }
    let mut channel =
        Channel::new(invalidation.channels.clone(), origin(settings), Arc::clone(orders))
            .at_upstream(&shared.dialer, &shared.live);
    for source in &invalidation.sources {
        // The certificates are the same; the name to be in theirs is their URL's.
        let tls = settings.upstream.tls_client.as_ref().filter(|_| source.target.tls);
        let tls = tls.map(TlsClient::of_any_name);
        let dialer = Dialer {
            target: source.target.clone(),
            tls,
            embedded: None,
            timeout: settings.upstream.connect_timeout,
            name: shared.dialer.name.clone(),
            switch: Switch::default(),
            lookup: Lookup::default(),
        };
        channel = channel.at_source(&source.name, dialer);
    }
    Some(Arc::new(channel))
}

/// Where messages are heard, for `/metrics`.
pub(super) fn heard(channel: &Arc<Channel>) -> impl Iterator<Item = ChannelSource> {
    channel.subscriptions().iter().enumerate().map(|(place, subscription)| {
        let channel = Arc::clone(channel);
        ChannelSource {
            source: subscription.source.clone(),
            upstream: subscription.address(),
            is_up: Box::new(move || {
                channel.subscriptions().get(place).is_some_and(Subscription::is_heard)
            }),
        }
    })
}

/// Who says on the channel what is invalidated here, if anybody is to be told.
pub(super) fn speaker(settings: &Settings, shared: &Shared, channel: &Channel) -> Option<Speaker> {
    settings.invalidation.publish.then(|| Speaker {
        channel: channel.spoken().to_owned(),
        dialer: Arc::clone(&shared.dialer),
        block: Arc::clone(&channel.orders.block),
    })
}

/// Who of the main thread has settings of their own, and is told of others.
pub(super) fn followers(
    guard: &Arc<Guard>,
    stats: &Arc<Stats>,
    warm: &Arc<Warm>,
    shared: &Arc<Shared>,
    channel: Option<&Arc<Channel>>,
) -> Box<dyn Fn(&Settings) + Send + Sync> {
    let (guard, stats, warm) = (Arc::clone(guard), Arc::clone(stats), Arc::clone(warm));
    let (shared, channel) = (Arc::clone(shared), channel.cloned());
    Box::new(move |settings| {
        if let Some(newer) = &settings.upstream.tls_client {
            renew_tls(newer, &shared, channel.as_deref());
        }
        let log = &settings.log;
        shared.slow.configure(log.slow_command, log.slowlog_max, log.keys);
        guard.set(access(settings));
        logs::configure(&settings.log.level);
        stats.set_hot_keys(settings.hot_keys.into());
        warm.configure(&settings.warming);
    })
}

/// Links that are opened from now on show and believe other certificates.
fn renew_tls(newer: &TlsClient, shared: &Shared, channel: Option<&Channel>) {
    if let Some(tls) = &shared.dialer.tls {
        tls.replace(newer);
    }
    for source in channel.iter().flat_map(|channel| channel.subscriptions()) {
        source.renew_tls(&newer.of_any_name());
    }
}

/// What exchanges the settings in force.
pub(super) fn reloader(
    settings: &Settings,
    overrides: Overrides,
    shared: &Arc<Shared>,
    stats: &Stats,
    follow: Box<dyn Fn(&Settings) + Send + Sync>,
) -> Reloader {
    let bells = Arc::clone(shared);
    let parts = Parts {
        overrides,
        cache: Arc::clone(&shared.cache),
        live: Arc::clone(&shared.live),
        snapshots: Arc::clone(&shared.snapshots),
        ring: Box::new(move || bells.bells.ring()),
        block: stats.new_block(),
        fleet: settings.version_key.clone().map(|key| Fleet {
            dialer: Arc::clone(&shared.dialer),
            key,
            timeout: settings.upstream.write_timeout,
        }),
        follow,
    };
    Reloader::new(settings, parts)
}

/// Who hears of changed rights upstream.
pub(super) fn polls(shared: &Arc<Shared>, stats: &Arc<Stats>) -> Polls {
    let identities = Arc::clone(&shared.identities);
    Polls {
        dialer: Arc::clone(&shared.dialer),
        snapshots: Arc::clone(&shared.snapshots),
        cache: Arc::clone(&shared.cache),
        live: Arc::clone(&shared.live),
        block: stats.new_block(),
        doubt: Box::new(move || identities.doubt()),
    }
}
