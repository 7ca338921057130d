//! What a request is served under: the settings that may change while nearside runs, as one
//! unchangeable whole. In: a new snapshot, from the control wing. Out: every worker serves under
//! it.
//!
//! ```text
//!   publish --> bells --> each worker, between two batches: adopts it --> adopted() is over
//! ```
//!
//! A worker holds a copy of its own, so serving costs no lock; each link remembers under which one
//! its requests were written, because an answer is read under that (its names, its rules). No
//! request is served under two.

use crate::command::{self, Policy};
use crate::config::{Auth, OnDown, Settings, TrackingMode, Verify};
use crate::keys::{Names, uncover};
use crate::rules::Rules;
use crate::wire::request;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Prefixes that one tracking link asks for at most; beyond it asks for the whole keyspace.
const TRACKED_MAX: usize = 16;

/// How long anything waits for a barrier where no rule promises a bound.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(1);

/// The settings that the walk needs and that may change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts snapshots, from 0.
    pub number: u64,
    /// How keys are named upstream.
    pub names: Names,
    /// Which keys are cached, and how.
    pub rules: Rules,
    /// The keys whose changes the tracking link is to be told of, by what they begin with
    /// upstream; empty = all. `None`: no rule needs a tracking link.
    pub tracked: Option<Vec<Vec<u8>>>,
    /// The smallest bound of staleness that a rule promises.
    pub min_staleness: Option<Duration>,
    /// How long anything waits for a barrier: when the largest of those bounds is over, none is
    /// needed any more.
    pub patience: Duration,
    /// All else that the walk needs.
    pub limits: Limits,
    /// What all this was made of.
    pub settings: Arc<Settings>,
}

/// Settings as the walk uses them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `cache.commands`: by row index, true if its replies may be cached.
    pub cached_commands: Box<[bool]>,
    /// What becomes of each command.
    pub policy: Policy,
    /// `cache.verify`.
    pub verify: Verify,
    /// `cache.shadow_checks`: one hit in so many is read again upstream; 0 = none.
    pub shadow_checks: u64,
    /// `cache.touch`: one hit in so many has its key touched upstream; 0 = none.
    pub touch: u64,
    /// `hotkeys.sample`: what each hit stands for that is looked at.
    pub sample: u64,
    /// `cache.script_barrier`.
    pub script_barrier: bool,
    /// Bounds of one request.
    pub request: request::Limits,
    /// `server.max_pipeline`: requests in flight per client before its socket is not read.
    pub pipeline_max: usize,
    /// `server.client_output_limit`: a client with more unsent bytes is closed.
    pub output_max: usize,
    /// `server.max_clients_memory`: bytes that the buffers of all clients together may hold.
    pub clients_memory_max: u64,
    /// `server.max_clients`.
    pub clients_max: usize,
    /// `server.idle_timeout`; zero = never.
    pub idle_timeout: Duration,
    /// `upstream.request_timeout`.
    pub read_timeout: Duration,
    /// `upstream.write_timeout`.
    pub write_timeout: Duration,
    /// `upstream.dedicated_max`: links that one client has for itself, at most.
    pub dedicated_max: usize,
    /// `upstream.reconnect_wait`; see [`Self::link_wait`].
    pub reconnect_wait: Duration,
    /// `upstream.connect_timeout`.
    pub connect_timeout: Duration,
    /// `upstream.on_down`.
    pub on_down: OnDown,
    /// `[auth]`.
    pub auth: Auth,
    /// `upstream.database`: the database of a fresh client.
    pub database: u32,
}

impl Snapshot {
    /// True if what is stored under the other one may be served under this one.
    pub fn caches_as(&self, other: &Self) -> bool {
        self.rules == other.rules && self.limits.cached_commands == other.limits.cached_commands
    }

    /// Of these settings. Its number is given when it is published.
    pub fn of(settings: &Settings) -> Self {
        let rules = Rules::compile(settings);
        Self {
            number: 0,
            names: settings.names.clone(),
            tracked: tracked(settings, &rules),
            min_staleness: rules.min_staleness(),
            patience: rules.max_staleness().unwrap_or(PATIENCE_DEFAULT),
            rules,
            limits: Limits::of(settings),
            settings: Arc::new(settings.clone()),
        }
    }
}

/// What is to be tracked: nothing, if that is switched off or nobody needs it. (A link that asks
/// for no prefix would be told of every key.)
fn tracked(settings: &Settings, rules: &Rules) -> Option<Vec<Vec<u8>>> {
    let prefixes = rules.tracked_prefixes(TRACKED_MAX);
    let version_key = settings.version_key.as_ref();
    if settings.tracking == TrackingMode::Off || prefixes.is_empty() && version_key.is_none() {
        return None;
    }
    let named = |prefixes: &[Vec<u8>]| {
        let names = prefixes.iter().flat_map(|prefix| settings.names.beginnings(prefix));
        let own = version_key.map(|key| key.as_bytes().to_vec()).into_iter();
        let locks = settings.lends().then(|| settings.names.fill_locks());
        let own = own.chain(settings.canary()).chain(locks);
        let mut all: Vec<Vec<u8>> = names.chain(own).collect();
        uncover(&mut all);
        all
    };
    let mut all = named(&prefixes);
    if all.len() > TRACKED_MAX {
        all = named(&[Vec::new()]);
    }
    // No prefix at all is how BCAST says "everything".
    all.retain(|prefix| !prefix.is_empty());
    Some(if all.len() > TRACKED_MAX { Vec::new() } else { all })
}

impl Limits {
    /// How long a request waits for a link. One that is slow to come while upstream is up is no
    /// outage: it has the time that connecting may take, and again that of the handshake. Whether
    /// upstream is gone or stands still is known by then.
    pub fn link_wait(&self, is_upstream_up: bool) -> Duration {
        if is_upstream_up {
            self.reconnect_wait.max(self.connect_timeout * 2)
        } else {
            self.reconnect_wait
        }
    }

    fn of(settings: &Settings) -> Self {
        let (server, upstream) = (&settings.server, &settings.upstream);
        Self {
            cached_commands: command::all().iter().map(|row| settings.caches(row)).collect(),
            policy: settings.policy(),
            verify: settings.cache.verify,
            shadow_checks: settings.cache.shadow_checks,
            touch: settings.cache.touch,
            sample: settings.hot_keys.sample.into(),
            script_barrier: settings.cache.script_barrier,
            request: request::Limits {
                args_max: server.max_args,
                bulk_max: server.max_request_size,
                unauthenticated: false,
            },
            pipeline_max: server.max_pipeline,
            output_max: server.client_output_limit,
            clients_memory_max: server.max_clients_memory.unwrap_or(u64::MAX),
            clients_max: server.max_clients,
            idle_timeout: server.idle_timeout,
            read_timeout: upstream.request_timeout,
            write_timeout: upstream.write_timeout,
            reconnect_wait: upstream.reconnect_wait,
            connect_timeout: upstream.connect_timeout,
            dedicated_max: upstream.dedicated_max,
            on_down: upstream.on_down,
            auth: settings.auth.clone(),
            database: upstream.target.database,
        }
    }
}

/// The newest snapshot, and how far it has got.
#[derive(Debug)]
pub struct Snapshots {
    newest: RwLock<Arc<Snapshot>>,
    /// By worker, and last the tracking link: the number of the one that it serves under.
    adopted: Box<[AtomicU64]>,
    has_adopted: Notify,
    is_published: Notify,
}

impl Snapshots {
    /// The one that nearside starts with, for this many workers.
    pub fn new(first: Snapshot, workers: usize) -> Self {
        Self {
            newest: RwLock::new(Arc::new(first)),
            adopted: (0..=workers).map(|_| AtomicU64::new(0)).collect(),
            has_adopted: Notify::new(),
            is_published: Notify::new(),
        }
    }

    /// The newest one. Whoever serves requests uses what its worker has adopted instead.
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.read())
    }

    /// From now on this is the newest; answers its number. The workers are to be rung for.
    pub fn publish(&self, mut snapshot: Snapshot) -> u64 {
        let mut newest = self.newest.write();
        let number = newest.number + 1;
        snapshot.number = number;
        *newest = Arc::new(snapshot);
        drop(newest);
        self.is_published.notify_waiters();
        number
    }

    /// Waits until there is a newer one than this.
    pub async fn newer(&self, number: u64) -> Arc<Snapshot> {
        loop {
            let published = self.is_published.notified();
            let newest = self.newest();
            if newest.number > number {
                return newest;
            }
            published.await;
        }
    }

    /// This worker serves under it from now on.
    pub fn note(&self, worker: usize, number: u64) {
        if let Some(adopted) = self.adopted.get(worker) {
            adopted.store(number, Ordering::SeqCst);
        }
        self.has_adopted.notify_waiters();
    }

    /// The tracking link hears of its keys from now on, or of none.
    pub fn note_tracking(&self, number: u64) {
        self.note(self.adopted.len() - 1, number);
    }

    /// Waits until this one is what everybody goes by, or a newer.
    pub async fn adopted(&self, number: u64) {
        loop {
            let adopted = self.has_adopted.notified();
            if self.adopted.iter().all(|adopted| adopted.load(Ordering::SeqCst) >= number) {
                return;
            }
            adopted.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;
    use crate::config::load_text;
    use std::path::Path;
    use std::time::Duration;

    fn tracked(text: &str) -> Vec<String> {
        let text = format!("keys.version = \"v1\"\n{text}");
        let settings = load_text(Path::new("t.toml"), text).unwrap().settings;
        let all = Snapshot::of(&settings).tracked.unwrap();
        all.into_iter().map(|prefix| String::from_utf8(prefix).unwrap()).collect()
    }

    #[test]
    fn a_link_may_be_slow_to_come_while_upstream_is_up() {
        let wait = |reconnect_wait: &str, is_up| {
            let text = format!(
                "upstream.reconnect_wait = \"{reconnect_wait}\"\nupstream.connect_timeout = \"2s\""
            );
            let settings = load_text(Path::new("t.toml"), text).unwrap().settings;
            Snapshot::of(&settings).limits.link_wait(is_up)
        };
        assert_eq!(wait("500ms", false), Duration::from_millis(500));
        assert_eq!(wait("500ms", true), Duration::from_secs(4));
        assert_eq!(wait("5s", true), Duration::from_secs(5));
    }

    #[test]
    fn the_names_of_all_that_is_guarded_are_tracked() {
        assert_eq!(tracked(""), ["v1:"]);
        let some = "keys.exclude = ['l:*']\nrules = [{ match = 's:*', version = 'v3' }";
        assert_eq!(tracked(&format!("{some}]")), ["l:", "v1:", "v3:s:"]);
        // Of what is not guarded nothing.
        let no_more = "{ match = 's:*', version = 'v3', level = 'ttl' }, { match = 'a:*' }";
        let no_more = format!("cache.level = 'ttl'\nrules = [{no_more}]");
        assert_eq!(tracked(&no_more.replace("'a:*'", "'a:*', level = 'coherent'")), ["v1:a:"]);
        // What takes more than the server should be asked for takes everything.
        let many: Vec<String> =
            (0..17).map(|n| format!(", {{ match = 'n{n}:*', version = 'n{n}' }}")).collect();
        assert!(tracked(&format!("{some}{}]", many.concat())).is_empty());
    }
}
