//! What is played (steps, scenarios), and the parts of nearside that all paths share.

use crate::server::ByName;
use nearside::cache::{Cache, Extra, Policy, Question, Space};
use nearside::command;
use nearside::config::{LogKeys, Overrides, load};
use nearside::data::Shared;
use nearside::data::flights::{Flights, Landing};
use nearside::data::local::{Ledger, Profile};
use nearside::data::pause::{Bells, Pause};
use nearside::data::registry::{Client, Registry};
use nearside::data::slow::SlowLog;
use nearside::live::Live;
use nearside::mail::Letterbox;
use nearside::net::client::PeerAddress;
use nearside::net::dialer::Dialer;
use nearside::net::lookup::Lookup;
use nearside::net::switch::Switch;
use nearside::scripts::Scripts;
use nearside::snapshot::{Snapshot, Snapshots};
use nearside::stats::{Block, Stats};
use nearside::units::clock::{Clock, Tick};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// The model's unit of time.
pub(crate) const TICK_MS: u64 = 500;

/// More than any scenario has.
const WORKERS: usize = 4;

/// X, in ticks.
pub(crate) const STALENESS: u64 = 2;

const KEY: &[u8] = b"k";

/// What a client asks.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Op {
    /// GET.
    Read,
    /// MGET of this one key.
    Many,
    /// A read that is not cached: GETEX.
    Reveal,
    /// SET.
    Write,
}

/// One step of somebody.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client's next packet is served.
    Feed(usize),
    /// What a client had to wait with is served.
    Resume(usize),
    /// A worker's link takes what was queued.
    Seal(usize),
    /// The server executes the next request of a worker's link.
    Execute(usize),
    /// A worker settles the next answer.
    Deliver(usize),
    /// A worker reads a letter: another's flight has landed.
    Letter(usize),
    /// The link dies; what is on it may be executed all the same.
    Death(usize),
    /// The server executes what was on a link that is dead.
    Late,
    /// Somebody else writes, and has his answer.
    Direct,
    /// The server ends a cycle: it tells of what was written.
    Broadcast,
    /// The listener takes the next message.
    Listen,
    /// The listener sends a barrier round.
    Round,
    /// The server executes it.
    Ping,
    /// The server's side of the tracking link is gone.
    Cut,
    /// nearside's side notices.
    Drop,
    /// The tracking link is up again.
    Up,
    /// The key changes, and no push will tell: what only a ban can tell of.
    Silent,
    /// Its pattern is banned.
    Ban,
    /// The sweep of bans goes through the whole store.
    Sweep,
    /// Another key version is published, behind the closed gate.
    Switch,
    /// A worker adopts it.
    Adopt(usize),
    /// The tracking link is put down for it.
    Replan,
    /// All have: what was stored is dead.
    Clear,
    /// And the gate is opened.
    Open,
    /// Time passes.
    Tick,
}

/// What is played, and how often.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// By client: its packets.
    pub(crate) programs: &'static [&'static [&'static [Op]]],
    /// By client: its worker.
    pub(crate) workers: &'static [usize],
    /// How often each of these may happen.
    pub(crate) direct: u8,
    pub(crate) ticks: u8,
    pub(crate) rounds: u8,
    pub(crate) cuts: u8,
    pub(crate) drops: u8,
    pub(crate) deaths: u8,
    pub(crate) bans: u8,
    pub(crate) switches: u8,
    /// The first value's life, in ticks.
    pub(crate) life: Option<u64>,
    /// True if a link takes requests later than they are queued.
    pub(crate) splits_seal: bool,
    /// True if others may come between a GET and its PTTL.
    pub(crate) splits_probe: bool,
    /// True if no read may be older than what anybody has seen: no one writes elsewhere, or the
    /// level is `linear`.
    pub(crate) is_linear: bool,
    /// True if the level is `linear`.
    pub(crate) is_level_linear: bool,
    /// How every path begins.
    pub(crate) prelude: &'static [Action],
}

/// What all paths share: the cache, too, because a new one costs more than a path. A path begins
/// an hour after the one before, with a new epoch, so nothing that was stored is left of it.
pub(crate) struct Fixture {
    pub(crate) shared: Shared,
    /// Before the switch of the key version, and after it.
    pub(crate) snapshots: ByName<Rc<Snapshot>>,
    /// At level `linear`.
    pub(crate) linear: Rc<Snapshot>,
    pub(crate) block: Arc<Block>,
    pub(crate) clients: Vec<Arc<Client>>,
    pub(crate) hash: u64,
    /// By worker: the answers of other workers' flights.
    pub(crate) inboxes: RefCell<Vec<UnboundedReceiver<Landing>>>,
    /// When the path that is played now begins.
    pub(crate) begin: Cell<u64>,
}

impl Fixture {
    /// `GET k`.
    pub(crate) fn question(&self) -> Question<'static> {
        Question {
            key: KEY,
            hash: self.hash,
            command: self.shared.get.index,
            space: Space::default(),
            proto: 0,
            extra: Extra::Written(&[]),
        }
    }

    pub(crate) fn new() -> Self {
        let flags = [
            ("upstream.url", "\"redis://127.0.0.1:1\""),
            ("upstream.on_down", "\"error\""),
            ("keys.version", "\"v1\""),
            ("cache.admission", "\"always\""),
            ("cache.max_staleness", "\"1s\""),
            ("cache.ttl", "\"10m\""),
            ("cache.negative_ttl", "\"1s\""),
            ("cache.ttl_jitter", "0.0"),
            // The model's server is honest; numbers that come back would only multiply its states.
            ("cache.verify", "\"off\""),
        ];
        let flags = flags.map(|(key, value)| ("test".to_owned(), key.to_owned(), value.to_owned()));
        let mut overrides = Overrides { flags: flags.to_vec(), ..Overrides::default() };
        let settings = load(&overrides).unwrap().settings;
        let level = ["test", "cache.level", "\"linear\""].map(str::to_owned);
        overrides.flags.push(level.into());
        let linear = Rc::new(Snapshot::of(&load(&overrides).unwrap().settings));
        let first = Snapshot::of(&settings);
        let mut second = Snapshot::of(&settings.with_version("v2").unwrap());
        second.number = 1;
        let snapshots = [Rc::new(first.clone()), Rc::new(second)];
        let cache = Arc::new(Cache::new(1 << 20, 4));
        let hash = cache.hash(KEY);
        let stats = Arc::new(Stats::new(command::all().len()));
        let (flights, inboxes) = Flights::new(WORKERS);
        let shared = Shared {
            cache,
            snapshots: Arc::new(Snapshots::new(first, WORKERS)),
            clock: Clock::system(),
            live: Arc::new(Live::default()),
            flights,
            dedicated: std::sync::atomic::AtomicUsize::new(0),
            identities: Arc::default(),
            registry: Registry::default(),
            pause: Pause::default(),
            bells: Bells::new(WORKERS),
            barrier_bells: Bells::new(WORKERS),
            ledger: Ledger::new(Arc::clone(&stats), Profile::default(), Tick(1)),
            slow: SlowLog::new(Duration::ZERO, 0, LogKeys::None),
            letterbox: Letterbox::new().0,
            lease_letterbox: Letterbox::for_leases().0,
            dialer: Arc::new(Dialer {
                target: settings.upstream.target.clone(),
                tls: None,
                embedded: None,
                timeout: Duration::from_secs(1),
                name: String::new(),
                switch: Switch::default(),
                lookup: Lookup::default(),
            }),
            behind: None,
            scripts: Scripts::new(&settings.scripts, true),
            get: command::by_name("get").unwrap(),
        };
        let peer = || PeerAddress::Tcp(([127, 0, 0, 1], 1).into());
        let enter = |_| shared.registry.enter(peer(), peer(), Tick(1));
        let clients = (0..4).map(enter).collect();
        Self {
            inboxes: RefCell::new(inboxes),
            block: stats.new_block(),
            clients,
            hash,
            begin: Cell::new(0),
            shared,
            snapshots,
            linear,
        }
    }
}

/// What the fixture's rule says, as far as a token asks for it.
pub(crate) const POLICY: Policy = Policy {
    ttl: 0,
    negative_ttl: 0,
    max_staleness: STALENESS * TICK_MS * 1_000_000,
    tracked: true,
    value_max: 0,
    grace: 0,
    keep: 0,
    refresh_ahead: 0,
    whole_key: false,
    ttl_jitter: 0,
};

impl Op {
    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Read => b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            Self::Many => b"*2\r\n$4\r\nMGET\r\n$1\r\nk\r\n",
            Self::Reveal => b"*2\r\n$5\r\nGETEX\r\n$1\r\nk\r\n",
            Self::Write => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nx\r\n",
        }
    }
}
