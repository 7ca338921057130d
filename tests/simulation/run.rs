//! One run: clients, server and faults take their steps as the seed says, and after each step
//! everything that can be seen is judged.
//!
//! ```text
//!   clients ==wire==> Worker, Session, Pipeline ==wire==> server       one thread, one seed
//!           <========  Cache, Tracking (BCAST)  <========
//! ```
//!
//! Time is the simulation's: tokio's clock stands still until all tasks rest, and nearside's clock
//! goes with it. At the end faults stop, and all that is out must come to an end.

use crate::cached::{Watch, reads};
use crate::client::{Bench, Client};
use crate::faults::{Door, Fault, Strike};
use crate::oracle::{MS, Oracle, Time};
use crate::plan::{Plan, requests, write_past};
use crate::proxy::{Proxy, STALENESS_MS, TTL_MS, make_linear, make_whole, settings};
use crate::rng::Rng;
use crate::server::Server;
use crate::words::{CELLS, LINEAR, Names, cells};
use nearside::config::{Settings, Verify};
use nearside::stats::{Counter, Gauge};
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

/// A step's time. tokio's timers know nothing finer.
const STEP: Duration = Duration::from_millis(1);

/// How long it may take, in steps of 20 ms, until all that was out has come to an end.
const PATIENCE: usize = 400;

/// Requests of one client that may be out.
const OUT_MAX: usize = 40;

/// Where runs must have been, all of them together: what nearside counts there.
pub(crate) const PLACES: [Counter; 12] = [
    Counter::LookupHit,
    Counter::LookupMiss,
    Counter::LookupCoalesced,
    Counter::BypassPipeline,
    Counter::BypassLease,
    Counter::BypassTrackingDown,
    Counter::StoreRaced,
    Counter::StoreShortTtl,
    Counter::UpstreamTimeout,
    Counter::UpstreamDisconnected,
    Counter::ProtocolErrorsUpstream,
    Counter::InvalidationsReconnect,
];

/// By workers and `on_down`.
static SETTINGS: LazyLock<[[Settings; 2]; 2]> =
    LazyLock::new(|| [1, 2].map(|workers| [false, true].map(|closes| settings(workers, closes))));

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) requests: usize,
    pub(crate) replies: usize,
    /// By [`PLACES`].
    pub(crate) counts: [u64; PLACES.len()],
    pub(crate) faults: usize,
    /// Which faults did strike.
    pub(crate) struck: Vec<Fault>,
    /// Wrong replies of an upstream that lies, where they are not promised away.
    pub(crate) wrong: usize,
    /// What happened, if that was asked for.
    pub(crate) events: Vec<String>,
}

/// The world of one run.
struct World {
    plan: Plan,
    rng: Rng,
    proxy: Proxy,
    server: Server,
    oracle: Oracle,
    clients: Vec<Option<Client>>,
    watch: Watch,
    shut_until: Time,
    /// Until when an operator wants no links, if one does.
    unlinked_until: Option<Time>,
    /// How stale a cached read of each cell may be.
    staleness: [Time; CELLS],
    /// How far nearside's clock has gone, and when tokio's began.
    passed: Duration,
    began: tokio::time::Instant,
    is_told: bool,
    /// Time has passed in which the server did nothing.
    has_stood_still: bool,
    report: Report,
}

/// Plays a seed.
pub(crate) fn run(seed: u64, verify: Verify, is_told: bool) -> Report {
    let mut rng = Rng::new(seed);
    let plan = Plan::of(verify, &mut rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(plan, rng, is_told);
        let violation = world.play().await.err();
        let mut report = std::mem::take(&mut world.report);
        report.counts = PLACES.map(|place| world.proxy.stats.counter(place));
        report.violation = violation.map(|why| format!("{why}\n  {:?}", world.plan));
        report
    })
}

impl World {
    fn new(plan: Plan, mut rng: Rng, is_told: bool) -> Self {
        let mut settings = SETTINGS[plan.workers - 1][usize::from(plan.closes)].clone();
        settings.cache.verify = plan.verify;
        if plan.is_linear {
            make_linear(&mut settings);
        }
        if plan.is_whole {
            make_whole(&mut settings);
        }
        let proxy = Proxy::start(&settings, &mut rng);
        let names = Names::of(&proxy.shared.cache);
        let watch = Watch::new(&proxy, &names);
        let server = Server::new(names, rng.fork());
        let oracle = Oracle::new(CELLS, proxy.shared.clock.now().0);
        #[expect(clippy::disallowed_methods, reason = "tokio's clock, which stands still")]
        let began = tokio::time::Instant::now();
        Self {
            clients: (0..plan.clients).map(|_| None).collect(),
            staleness: staleness(&plan),
            plan,
            rng,
            proxy,
            server,
            oracle,
            watch,
            shut_until: 0,
            unlinked_until: None,
            passed: Duration::ZERO,
            began,
            is_told,
            has_stood_still: false,
            report: Report::default(),
        }
    }

    fn now(&self) -> Time {
        self.proxy.shared.clock.now().0
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.is_told {
            let line = format!("{:>6} ms  {}", self.now() / MS, what(self));
            self.report.events.push(line);
        }
    }

    async fn play(&mut self) -> Result<(), String> {
        // One upstream that hears of changes first, as most of the time.
        for _ in 0..200 {
            if self.proxy.shared.cache.tracking().is_up() {
                break;
            }
            self.all_goes_on();
            self.rest(STEP).await?;
        }
        while self.report.requests < self.plan.requests || self.report.faults == 0 {
            let pause = self.step();
            self.rest(pause).await?;
        }
        self.calm().await?;
        self.serve_all().await?;
        self.part().await?;
        match self.oracle.misdone() {
            Some(why) if !self.plan.may_be_wrong() => {
                Err(format!("executed as it must not be: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// One step of somebody; answers how much time passes behind it.
    fn step(&mut self) -> Duration {
        if self.rng.below(1000) < self.plan.fault_rate {
            self.fault();
            return STEP;
        }
        match self.rng.below(100) {
            0..45 => self.client(),
            45..68 => {
                let most = self.rng.between(1, 12);
                let is_whole = self.rng.chance(80);
                self.cycle(most, is_whole);
            }
            68..88 => self.deliver(),
            88..92 if self.plan.has_others => self.others(),
            88..97 => self.all_goes_on(),
            _ => {
                self.has_stood_still = true;
                return Duration::from_millis(self.rng.between(5, 200) as u64);
            }
        }
        STEP
    }

    fn fault(&mut self) {
        let fault = *self.rng.pick(&self.plan.faults);
        let now = self.now();
        let place = self.rng.below(self.clients.len());
        let struck = match self.server.strike(fault, now, &mut self.rng) {
            Strike::Done(struck) => struck,
            Strike::Porch(door, until) => {
                self.proxy.porch.lock().door = door;
                self.shut_until = until;
                true
            }
            Strike::Links(until) => {
                self.proxy.close_links(until.is_some());
                self.unlinked_until = until.or(self.unlinked_until);
                true
            }
            Strike::ClientGone => {
                let gone = self.clients[place].take();
                if let Some(client) = &gone {
                    match self.rng.below(3) {
                        0 => client.far.reset(),
                        1 => client.far.close(),
                        _ => {
                            client.far.set_room(crate::wire::WIDE);
                            client.far.finish();
                        }
                    }
                }
                gone.is_some()
            }
            Strike::ClientSlow => self.clients[place].as_mut().is_some_and(|client| {
                client.is_slow = true;
                client.far.set_room(self.rng.below(300));
                true
            }),
        };
        if struck {
            self.report.faults += 1;
            self.report.struck.push(fault);
        }
        if struck {
            self.tell(|_| format!("FAULT {fault:?} (or client {place})"));
        }
    }

    /// A client connects, sends something more, or asks.
    fn client(&mut self) {
        let place = self.rng.below(self.clients.len());
        let now = self.now();
        let Some(client) = &mut self.clients[place] else {
            let far = self.proxy.connect(place, &mut self.rng);
            let client = Client::new(far, place / 2 % 2 == 1, self.server.names());
            self.clients[place] = Some(client);
            self.tell(|_| format!("client {place} connects"));
            return;
        };
        if client.is_slow && self.rng.chance(10) {
            client.is_slow = false;
            client.far.set_room(crate::wire::WIDE);
        }
        if !client.has_unsent() && client.awaited() < OUT_MAX {
            let mut said = String::new();
            for _ in 0..self.rng.between(1, self.plan.pipeline) {
                for op in requests(&self.plan, &mut self.rng, &mut self.oracle) {
                    if self.is_told {
                        write!(said, " {op:?}").unwrap();
                    }
                    client.say(op, self.server.names());
                    self.report.requests += 1;
                }
            }
            let is_whole = self.rng.chance(80);
            client.send(&mut self.rng, is_whole, now, &self.oracle);
            self.tell(|_| format!("client {place} asks{said}"));
        } else {
            let is_whole = self.rng.chance(70);
            client.send(&mut self.rng, is_whole, now, &self.oracle);
        }
    }

    /// Somebody else writes.
    fn others(&mut self) {
        for _ in 0..self.rng.between(1, 3) {
            let words = write_past(self.server.names(), &mut self.rng, &mut self.oracle);
            self.tell(|world| {
                let key = world.server.names().find(&words[1]);
                let more: Vec<_> = words[2..].iter().map(|word| word.escape_ascii()).collect();
                format!("somebody else asks {} {key:?} {more:?}", words[0].escape_ascii())
            });
            self.server.late.push(words);
        }
    }

    /// The server takes connections in, and executes some of what has come.
    fn cycle(&mut self, most: usize, is_whole: bool) {
        let now = self.now();
        let arrived = {
            let mut porch = self.proxy.porch.lock();
            if now >= self.shut_until {
                porch.door = Door::Open;
            }
            std::mem::take(&mut porch.arrived)
        };
        for (far, round) in arrived {
            self.server.accept(far, round);
        }
        if self.unlinked_until.take_if(|until| *until <= now).is_some() {
            self.proxy.enable();
        }
        let before = self.server.executed;
        self.server.cycle(most, is_whole, now, &mut self.oracle);
        let executed = self.server.executed - before;
        if executed > 0 {
            self.tell(|_| format!("the server executes {executed}"));
        }
    }

    /// Some of what the server has said goes on.
    fn deliver(&mut self) {
        let now = self.now();
        for place in 0..self.server.conns.len() {
            if self.rng.chance(60) {
                let all = self.server.conns[place].outbox.len();
                let most = if self.rng.chance(60) { all } else { self.rng.below(all + 1) };
                self.server.deliver(place, most, now);
            }
        }
    }

    fn all_goes_on(&mut self) {
        self.cycle(usize::MAX, true);
        let now = self.now();
        for place in 0..self.server.conns.len() {
            self.server.deliver(place, usize::MAX, now);
        }
    }

    /// nearside does all that it can now, time passes, and what can be seen is judged.
    async fn rest(&mut self, time: Duration) -> Result<(), String> {
        let mut left = time;
        while !left.is_zero() {
            let slice = left.min(Duration::from_millis(5));
            left -= slice;
            self.proxy.hands.advance(slice);
            self.passed += slice;
            // Nobody waits: the runtime's clock stands still (`start_paused`), and jumps to the next
            // timer, this one or one of nearside's, when no task can do anything more.
            tokio::time::sleep(slice).await;
            // tokio's timers are rounded up.
            let behind = self.began.elapsed().saturating_sub(self.passed);
            self.proxy.hands.advance(behind);
            self.passed += behind;
        }
        self.judge()
    }

    fn judge(&mut self) -> Result<(), String> {
        if let Some(panic) = crate::panics::take() {
            return Err(format!("a panic: {panic}"));
        }
        if let Some(oddity) = self.server.oddity() {
            return Err(format!("nearside asked upstream for {oddity}"));
        }
        if let Some(mixture) = self.server.mixture() {
            return Err(format!("two servers at once: {mixture}"));
        }
        for place in 0..self.clients.len() {
            let Some(client) = self.clients[place].as_mut().filter(|client| !client.is_slow) else {
                continue;
            };
            let mut told = Vec::new();
            let mut bench = Bench {
                oracle: &mut self.oracle,
                staleness: &self.staleness,
                may_be_wrong: self.plan.may_be_wrong(),
                is_whole: self.plan.is_whole,
                told: self.is_told.then_some(&mut told),
            };
            let heard = client.hear(&mut bench);
            for reply in told {
                self.tell(|_| format!("client {place} hears {reply}"));
            }
            let Some(client) = &self.clients[place] else { continue };
            match heard {
                Ok(count) => self.report.replies += count,
                Err(_) if self.plan.may_be_wrong() => {
                    self.report.wrong += 1;
                    client.far.close();
                    self.clients[place] = None;
                    continue;
                }
                Err(why) => {
                    let why = format!("client {place}: {why}");
                    self.tell(|_| why.clone());
                    return Err(why);
                }
            }
            if client.is_closed {
                self.clients[place] = None;
                self.tell(|_| format!("client {place} was closed"));
                if self.report.faults == 0 && !self.has_stood_still {
                    return Err(format!("client {place} was closed, and nothing was wrong"));
                }
            }
        }
        // Where changes are not told, no barrier proves anything.
        let is_whole = self.plan.is_whole && !self.plan.is_untold();
        let promised = (&self.staleness, is_whole);
        self.watch.judge(&self.proxy, self.server.names(), &self.oracle, promised)
    }

    /// Faults end. All that is out is answered, or its connection ended; and nothing is left.
    async fn calm(&mut self) -> Result<(), String> {
        self.tell(|_| "CALM".to_owned());
        self.server.heal();
        self.shut_until = 0;
        self.unlinked_until = None;
        self.proxy.enable();
        for _ in 0..PATIENCE {
            let now = self.now();
            for client in self.clients.iter_mut().flatten() {
                client.is_slow = false;
                client.far.set_room(crate::wire::WIDE);
                client.send(&mut self.rng, true, now, &self.oracle);
            }
            self.all_goes_on();
            self.rest(Duration::from_millis(20)).await?;
            if self.clients.iter().flatten().all(Client::is_quiet) && self.proxy.is_quiet() {
                return self.judge_quiet();
            }
        }
        let waiting = self.clients.iter().flatten().find(|client| !client.is_quiet());
        Err(format!("waits for ever: {:?}", waiting.map(Client::waits_for)))
    }

    /// What is left of requests that are over: nothing (I9).
    fn judge_quiet(&self) -> Result<(), String> {
        let stats = &self.proxy.stats;
        if !self.proxy.shared.flights.is_empty() {
            return Err("a flight is left that nobody is on".to_owned());
        }
        for gauge in [Gauge::UpstreamInFlight, Gauge::ClientsBlocked] {
            if stats.gauge(gauge) != 0 {
                return Err(format!("{gauge:?} is {}", stats.gauge(gauge)));
            }
        }
        Ok(())
    }

    /// The service is whole again (I10): a fresh client reads what the server holds, twice, and
    /// the second time from the cache.
    async fn serve_all(&mut self) -> Result<(), String> {
        self.server.thaw();
        let ttl = if self.plan.is_untold() { TTL_MS + STALENESS_MS } else { STALENESS_MS };
        // Pushes of keys that have expired may be late, and the server's word is waited for.
        for _ in 0..(ttl / 20).max(60) {
            self.all_goes_on();
            self.rest(Duration::from_millis(20)).await?;
        }
        for is_resp3 in [false, true] {
            let far = self.proxy.connect(0, &mut self.rng);
            let mut client = Client::new(far, is_resp3, self.server.names());
            let hits = self.proxy.stats.counter(Counter::LookupHit);
            for _ in 0..2 {
                for op in reads() {
                    client.say(op, self.server.names());
                }
                self.answered(&mut client).await?;
            }
            if self.proxy.stats.counter(Counter::LookupHit) == hits {
                let tracking = self.proxy.shared.cache.tracking().is_up();
                return Err(format!("no hits after the faults (tracking is up: {tracking})"));
            }
            self.clients.push(Some(client));
        }
        Ok(())
    }

    async fn answered(&mut self, client: &mut Client) -> Result<(), String> {
        let now = self.now();
        client.send(&mut self.rng, true, now, &self.oracle);
        for _ in 0..PATIENCE {
            self.all_goes_on();
            self.rest(STEP).await?;
            // What is asked now is older than nothing: all pushes have come.
            let oracle = &mut self.oracle;
            let mut bench = Bench {
                oracle,
                staleness: &[0; CELLS],
                may_be_wrong: false,
                is_whole: self.plan.is_whole,
                told: None,
            };
            self.report.replies +=
                client.hear(&mut bench).map_err(|why| format!("after: {why}"))?;
            if client.is_closed {
                return Err("closed after the faults".to_owned());
            }
            if client.is_quiet() {
                return Ok(());
            }
        }
        Err(format!("not served after the faults: {}", client.waits_for()))
    }

    /// All clients go, and nothing of them is left.
    async fn part(&mut self) -> Result<(), String> {
        for client in self.clients.drain(..).flatten() {
            client.far.finish();
        }
        for _ in 0..PATIENCE {
            self.all_goes_on();
            self.rest(Duration::from_millis(20)).await?;
            if self.proxy.is_deserted() && self.proxy.is_quiet() {
                let clients = self.proxy.stats.gauge(Gauge::ClientsTcp);
                return if clients == 0 { Ok(()) } else { Err(format!("{clients} clients left")) };
            }
        }
        let left = self.proxy.shared.registry.len();
        Err(format!("{left} clients are listed that have gone"))
    }
}

/// How stale a cached read of each cell may be.
fn staleness(plan: &Plan) -> [Time; CELLS] {
    if plan.is_untold() {
        return [(STALENESS_MS + TTL_MS) * MS; CELLS];
    }
    let mut all = [STALENESS_MS * MS; CELLS];
    if plan.is_linear {
        LINEAR.into_iter().flat_map(cells).for_each(|cell| all[cell] = 0);
    }
    all
}
