//! What changes while nearside runs and both wings look at: the mode, the upstream's server and
//! health, and whether the process is draining. Atomics and one short lock; nobody waits here but
//! links for their turn ([`Turns`]), and the tracking link until it is needed.

mod fallback;

pub use self::fallback::{Fallback, Outcome, Phase};

use crate::command::learned::Learned;
use crate::command::{self, Spec};
use crate::config::Mode;
use crate::net::dialer::{Turn, Turns};
use crate::units::mutant::{self, Mutant};
use crate::wire::handshake::ServerInfo;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What the upstream said of itself in its HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `redis` or `valkey`.
    pub name: String,
    /// Its version, e.g. `7.0.15`.
    pub version: String,
    /// `master` or `replica`.
    pub role: String,
}

impl From<ServerInfo> for Server {
    fn from(info: ServerInfo) -> Self {
        Self { name: info.server, version: info.version, role: info.role }
    }
}

const TOLD_NOTHING: u8 = 0;
const TOLD_UP: u8 = 1;
const TOLD_DOWN: u8 = 2;

/// The state both wings share.
#[derive(Debug)]
pub struct Live {
    /// The mode that operators have chosen.
    mode: AtomicU8,
    /// What workers go by: the mode, or bypass while a snapshot is being exchanged.
    gate: AtomicU8,
    /// The mode has changed.
    mode_changed: Notify,
    server: RwLock<Option<Server>>,
    has_field_ttls: AtomicBool,
    is_draining: AtomicBool,
    is_parting: AtomicBool,
    /// True while clients should be sent elsewhere, because somebody says so.
    is_withdrawn: AtomicBool,
    /// Data links that are up.
    links_up: AtomicU64,
    /// Round trip of the last barrier round, in nanoseconds.
    barrier_ns: AtomicU64,
    /// Somebody waits for a barrier.
    barrier_wanted: Notify,
    databases: AtomicU32,
    /// Whether upstream is up, and who may try it if it is not.
    turns: Turns,
    /// What the log was told last of the upstream.
    told: AtomicU8,
    /// True if the server does not know HELLO.
    lacks_hello: AtomicBool,
    /// True while the server has acknowledged `CLIENT TRACKING ON`.
    is_tracking_on: AtomicBool,
    /// Why the written canary is not heard.
    canary_trouble: RwLock<Option<String>>,
    /// True while messages on `invalidation.channel` are heard.
    is_channel_heard: AtomicBool,
    /// Patterns that nearside itself is subscribed to at upstream.
    own_patterns: AtomicUsize,
    /// What COMMAND told, once it was asked.
    learned: RwLock<Option<Arc<Learned>>>,
    /// Times that upstream came back or was another one.
    meetings: AtomicU64,
    /// True if the key version stands upstream.
    is_version_shared: AtomicBool,
    /// It is to be asked for again.
    version_doubted: Notify,
    /// True while the key version is known.
    is_version_known: watch::Sender<bool>,
    /// Whether something stands in for upstream.
    pub fallback: Fallback,
    /// Longest life of an entry as proof that its reader may read it, in nanoseconds.
    proof_ttl: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            mode: AtomicU8::new(Mode::Cache as u8),
            gate: AtomicU8::new(Mode::Cache as u8),
            mode_changed: Notify::new(),
            server: RwLock::default(),
            has_field_ttls: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_parting: AtomicBool::new(false),
            is_withdrawn: AtomicBool::new(false),
            links_up: AtomicU64::new(0),
            barrier_ns: AtomicU64::new(0),
            barrier_wanted: Notify::new(),
            // Redis' default, until the server says otherwise.
            databases: AtomicU32::new(16),
            turns: Turns::default(),
            told: AtomicU8::new(TOLD_NOTHING),
            lacks_hello: AtomicBool::new(false),
            is_tracking_on: AtomicBool::new(false),
            canary_trouble: RwLock::default(),
            is_channel_heard: AtomicBool::new(false),
            own_patterns: AtomicUsize::new(0),
            learned: RwLock::default(),
            meetings: AtomicU64::new(0),
            is_version_shared: AtomicBool::new(false),
            version_doubted: Notify::new(),
            is_version_known: watch::Sender::new(true),
            fallback: Fallback::default(),
            proof_ttl: AtomicU64::new(u64::MAX),
        }
    }
}

impl Live {
    /// The mode in force.
    pub fn mode(&self) -> Mode {
        mode_of(self.mode.load(Ordering::Relaxed))
    }

    /// What the cache is to be used for now: the mode in force, or nothing at all.
    #[inline]
    pub fn gate(&self) -> Mode {
        // What was cleared before it was opened is cleared for who finds it open.
        mode_of(self.gate.load(Ordering::Acquire))
    }

    /// Nothing is stored, nor answered from what is, until [`Self::open_gate`].
    pub fn close_gate(&self) {
        if !mutant::active(Mutant::NoGate) {
            self.gate.store(Mode::Bypass as u8, Ordering::SeqCst);
        }
    }

    /// What the mode says holds again.
    pub fn open_gate(&self) {
        self.gate.store(self.mode.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// From the next request on. Who switches it clears the cache, too: what happened to keys in
    /// the meantime may not have been heard of.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
        self.open_gate();
        self.mode_changed.notify_waiters();
    }

    /// Waits until something may be stored.
    pub async fn until_caching(&self) {
        loop {
            let changed = self.mode_changed.notified();
            if self.mode() != Mode::Bypass {
                return;
            }
            changed.await;
        }
    }

    /// The upstream's server, once a link has been opened.
    pub fn server(&self) -> Option<Server> {
        self.server.read().clone()
    }

    /// A link was opened to this server, by HELLO.
    pub fn set_server(&self, server: Server) {
        self.lacks_hello.store(false, Ordering::Relaxed);
        self.learn(server);
    }

    /// This server does not know HELLO, or not from this user (Redis before 6.0, one whose HELLO
    /// was renamed, an ACL).
    pub fn set_server_without_hello(&self, server: Server) {
        self.learn(server);
        self.lacks_hello.store(true, Ordering::Relaxed);
    }

    fn learn(&self, server: Server) {
        let has_field_ttls = has_field_ttls(&server);
        self.has_field_ttls.store(has_field_ttls, Ordering::Relaxed);
        let is_new = self.server.read().as_ref() != Some(&server);
        if is_new {
            *self.server.write() = Some(server);
            self.meetings.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What upstream's COMMAND told; `None` until it was asked.
    pub fn learned(&self) -> Option<Arc<Learned>> {
        self.learned.read().clone()
    }

    /// The row of a request whose command only upstream knows.
    #[cold]
    pub fn stranger<'a>(
        &self,
        argc: usize,
        arg: impl Fn(usize) -> &'a [u8],
    ) -> Option<&'static Spec> {
        self.learned()?.find(argc, arg)
    }

    /// True if upstream is known not to have this row of the table.
    #[cold]
    pub fn lacks(&self, spec: &Spec) -> bool {
        self.learned().is_some_and(|learned| learned.lacks(spec))
    }

    /// True if upstream is known to have the row of this name.
    #[cold]
    pub fn has(&self, name: &str) -> bool {
        let row = command::by_name(name);
        self.learned().zip(row).is_some_and(|(learned, row)| learned.has(row))
    }

    /// Upstream's COMMAND told this.
    pub fn set_learned(&self, learned: Learned) {
        *self.learned.write() = Some(Arc::new(learned));
    }

    /// Grows whenever upstream may have become another server: it came back or says so, or the
    /// first link since a while was opened.
    pub fn meetings(&self) -> u64 {
        self.meetings.load(Ordering::Relaxed)
    }

    /// True if a HELLO is answered as the server would: it does not know it.
    pub fn lacks_hello(&self) -> bool {
        self.lacks_hello.load(Ordering::Relaxed)
    }

    /// True if single hash fields can expire there, which no PTTL shows.
    pub fn has_field_ttls(&self) -> bool {
        self.has_field_ttls.load(Ordering::Relaxed)
    }

    /// True if READONLY is no error there, though there is no cluster: Valkey 8 and later.
    pub fn takes_readonly(&self) -> bool {
        self.server().is_some_and(|upstream| {
            let major = upstream.version.split('.').next().and_then(|major| major.parse().ok());
            upstream.name == "valkey" && major.is_some_and(|major: u32| major >= 8)
        })
    }

    /// True from SIGTERM on.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// True while clients should be sent elsewhere. Those that come are served all the same.
    pub fn is_withdrawn(&self) -> bool {
        self.is_withdrawn.load(Ordering::Relaxed)
    }

    /// Clients should be sent elsewhere, or here again. True if that is news.
    pub fn set_withdrawn(&self, is_withdrawn: bool) -> bool {
        self.is_withdrawn.swap(is_withdrawn, Ordering::Relaxed) != is_withdrawn
    }

    /// The process is going to end.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// True if clients that have their answers are let go: `drain.delay` is over.
    pub fn is_parting(&self) -> bool {
        self.is_parting.load(Ordering::Relaxed)
    }

    /// Lets clients go, from now on.
    pub fn set_parting(&self) {
        self.is_parting.store(true, Ordering::Relaxed);
    }

    /// A data link came up or went down; answers how many are up now.
    pub fn count_link(&self, is_up: bool) -> u64 {
        if is_up {
            let others = self.links_up.fetch_add(1, Ordering::Relaxed);
            self.meetings.fetch_add(u64::from(others == 0), Ordering::Relaxed);
            others + 1
        } else {
            self.links_up.fetch_sub(1, Ordering::Relaxed) - 1
        }
    }

    /// Longest life of an entry as proof that its reader may read it, in nanoseconds; `u64::MAX`:
    /// as long as anything.
    #[inline]
    pub fn proof_ttl(&self) -> u64 {
        self.proof_ttl.load(Ordering::Acquire)
    }

    /// From now on entries prove so much.
    pub fn set_proof_ttl(&self, longest: Option<Duration>) {
        let longest =
            longest.map_or(u64::MAX, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        self.proof_ttl.store(longest, Ordering::Release);
    }

    /// How many databases the server has.
    pub fn databases(&self) -> u32 {
        self.databases.load(Ordering::Relaxed)
    }

    /// The server said how many databases it has.
    pub fn set_databases(&self, count: u32) {
        self.databases.store(count, Ordering::Relaxed);
    }

    /// True if upstream could be used when a link was last tried.
    pub fn is_upstream_up(&self) -> bool {
        self.turns.is_up()
    }

    /// A link was opened, or could not be.
    pub fn set_upstream_up(&self, is_up: bool) {
        self.turns.set_up(is_up);
    }

    /// True if upstream took the connection when a link was last tried, and answered nothing.
    pub fn is_upstream_silent(&self) -> bool {
        self.turns.is_silent()
    }

    /// Upstream took a connection, or has one, and answers nothing.
    pub fn set_upstream_silent(&self) {
        self.turns.set_silent();
    }

    /// Notes what the log is to be told; false if it was told just that before.
    pub fn is_news(&self, is_up: bool) -> bool {
        let tells = if is_up { TOLD_UP } else { TOLD_DOWN };
        let is_news = self.told.swap(tells, Ordering::Relaxed) != tells;
        self.meetings.fetch_add(u64::from(is_news && is_up), Ordering::Relaxed);
        is_news
    }

    /// Waits for the right to try an upstream that is down, see [`Turns::next`].
    pub async fn turn(&self) -> Option<Turn<'_>> {
        self.turns.next().await
    }

    /// True while the server has promised to tell of every change. Barrier rounds must prove it
    /// before anything is stored on it: `cache.tracking().is_up()`.
    pub fn is_tracking_on(&self) -> bool {
        self.is_tracking_on.load(Ordering::Relaxed)
    }

    /// The server promised it, or that link is over.
    pub fn set_tracking_on(&self, is_on: bool) {
        self.meetings.fetch_add(u64::from(is_on), Ordering::Relaxed);
        self.is_tracking_on.store(is_on, Ordering::Relaxed);
    }

    /// Why the written canary is not heard, if that is so.
    pub fn canary_trouble(&self) -> Option<String> {
        self.canary_trouble.read().clone()
    }

    /// It is not heard, for this reason, or is again.
    pub fn set_canary_trouble(&self, trouble: Option<String>) {
        *self.canary_trouble.write() = trouble;
    }

    /// True while messages on `invalidation.channel` are heard.
    pub fn is_channel_heard(&self) -> bool {
        self.is_channel_heard.load(Ordering::SeqCst)
    }

    /// All subscriptions were acknowledged, or are over.
    pub fn set_channel_heard(&self, is_heard: bool) {
        self.is_channel_heard.store(is_heard, Ordering::SeqCst);
    }

    /// Patterns that nearside itself is subscribed to: the server counts them among all others.
    pub fn own_patterns(&self) -> usize {
        self.own_patterns.load(Ordering::SeqCst)
    }

    /// The server has acknowledged so many.
    pub fn set_own_patterns(&self, count: usize) {
        self.own_patterns.store(count, Ordering::SeqCst);
    }

    /// The key version stands upstream: no link is used before it is known.
    pub fn share_version(&self) {
        self.is_version_shared.store(true, Ordering::SeqCst);
        self.forget_version();
    }

    /// True if the key version stands upstream.
    pub fn is_version_shared(&self) -> bool {
        self.is_version_shared.load(Ordering::Relaxed)
    }

    /// The key version that a fleet shares is not heard of any more. What was sent, was sent; a new
    /// link may be one to a server that has another.
    pub fn forget_version(&self) {
        let is_known = !self.is_version_shared.load(Ordering::SeqCst);
        self.is_version_known.send_replace(is_known);
    }

    /// As [`Self::forget_version`], until it was asked for again.
    pub fn doubt_version(&self) {
        if self.is_version_shared() {
            self.forget_version();
            self.version_doubted.notify_one();
        }
    }

    /// Waits until the key version is to be asked for again.
    pub async fn version_is_doubted(&self) {
        self.version_doubted.notified().await;
    }

    /// The key version in force is the one that should be.
    pub fn know_version(&self) {
        self.is_version_known.send_replace(true);
    }

    /// Waits until the key version is known.
    pub async fn until_version_is_known(&self) {
        let mut known = self.is_version_known.subscribe();
        // The sender lives as long as this.
        known.wait_for(|is_known| *is_known).await.ok();
    }

    /// Data links that are up.
    pub fn links_up(&self) -> u64 {
        self.links_up.load(Ordering::Relaxed)
    }

    /// Somebody waits for a barrier: the tracking link is not to wait for its time.
    pub fn want_barrier(&self) {
        self.barrier_wanted.notify_one();
    }

    /// Waits until somebody waits for a barrier.
    pub async fn barrier_is_wanted(&self) {
        self.barrier_wanted.notified().await;
    }

    /// How long the last barrier round took.
    pub fn barrier_ns(&self) -> u64 {
        self.barrier_ns.load(Ordering::Relaxed)
    }

    /// A barrier round took this long.
    pub fn set_barrier_ns(&self, nanos: u64) {
        self.barrier_ns.store(nanos, Ordering::Relaxed);
    }
}

#[inline]
const fn mode_of(number: u8) -> Mode {
    const CACHE: u8 = Mode::Cache as u8;
    const OBSERVE: u8 = Mode::Observe as u8;
    match number {
        CACHE => Mode::Cache,
        OBSERVE => Mode::Observe,
        _ => Mode::Bypass,
    }
}

/// Redis from 7.4 on and Valkey from 9 on have HEXPIRE.
fn has_field_ttls(server: &Server) -> bool {
    let version = version(server);
    // Valkey answers HELLO with `server: redis` by default; its versions start at 7.2.
    match server.name.as_str() {
        "valkey" => version >= (9, 0),
        _ => version >= (7, 4),
    }
}

/// Major and minor.
fn version(server: &Server) -> (u32, u32) {
    let mut numbers = server.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Live, Server};

    #[test]
    fn the_log_is_told_of_changes() {
        for first in [true, false] {
            let live = Live::default();
            let told = [first, first, !first, !first, first].map(|is_up| live.is_news(is_up));
            assert_eq!(told, [true, false, true, false, true]);
        }
    }

    #[test]
    fn field_ttls_by_server_and_version() {
        for (name, version, expected) in [
            ("redis", "7.0.15", false),
            ("redis", "7.2.4", false),
            ("redis", "7.4.1", true),
            ("redis", "8.2.3", true),
            ("valkey", "8.1.0", false),
            ("valkey", "9.1.2", true),
        ] {
            let live = Live::default();
            let (name, version) = (name.to_owned(), version.to_owned());
            live.set_server(Server { name, version, role: "master".to_owned() });
            assert_eq!(live.has_field_ttls(), expected);
        }
    }
}
