//! All connected clients, for CLIENT LIST and INFO. A session writes its own record with relaxed
//! stores, once per read; whoever lists them sees each field as of a moment ago.

use crate::net::client::PeerAddress;
use crate::units::clock::Tick;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// What is known of one client.
#[derive(Debug)]
pub struct Client {
    /// The number CLIENT ID answers.
    pub id: u64,
    /// Where it comes from.
    pub address: PeerAddress,
    /// Where it came in.
    pub local: PeerAddress,
    /// When it came.
    pub connected_at: Tick,
    /// When it last sent something.
    pub active_at: AtomicU64,
    /// Row of its last command; `u16::MAX` before the first.
    pub command: AtomicU16,
    /// Its database.
    pub db: AtomicU32,
    /// 2 or 3.
    pub resp: AtomicU16,
    /// Commands it sent.
    pub commands: AtomicU64,
    /// Of these, answered from the cache.
    pub hits: AtomicU64,
    /// The server's number for its own link; 0 while it has none.
    pub upstream_id: AtomicI64,
    /// True while it waits in a command that may block.
    pub is_blocked: AtomicBool,
    /// True once other clients' invalidations were sent to it.
    pub is_target: AtomicBool,
    /// What it calls itself.
    pub names: Mutex<Names>,
}

/// CLIENT SETNAME and CLIENT SETINFO.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

/// All connected clients.
#[derive(Debug, Default)]
pub struct Registry {
    clients: DashMap<u64, Arc<Client>, foldhash::fast::RandomState>,
    last: AtomicU64,
}

impl Registry {
    /// Takes a client in and numbers it, from 1 on.
    pub fn enter(&self, address: PeerAddress, local: PeerAddress, now: Tick) -> Arc<Client> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client {
            id,
            address,
            local,
            connected_at: now,
            active_at: AtomicU64::new(now.0),
            command: AtomicU16::new(u16::MAX),
            db: AtomicU32::new(0),
            resp: AtomicU16::new(2),
            commands: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            upstream_id: AtomicI64::new(0),
            is_blocked: AtomicBool::new(false),
            is_target: AtomicBool::new(false),
            names: Mutex::default(),
        });
        self.clients.insert(id, Arc::clone(&client));
        client
    }

    /// A client has gone.
    pub fn leave(&self, client: &Client) {
        self.clients.remove(&client.id);
    }

    /// The client of this number.
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.clients.get(&id).map(|client| Arc::clone(&client))
    }

    /// The client that the server knows by this number.
    pub fn by_upstream_id(&self, id: i64) -> Option<u64> {
        let is = |client: &Arc<Client>| client.upstream_id.load(Ordering::Relaxed) == id;
        self.clients.iter().find(|client| is(client)).map(|client| client.id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.clients.iter().map(|client| Arc::clone(&client)).collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }
}

impl Client {
    /// The line of CLIENT LIST, with the fields of Redis 7.2 that a proxy can fill in.
    pub fn describe(&self, line: &mut String, now: Tick) {
        let names = self.names.lock().clone();
        let seconds = |since: u64| now.0.saturating_sub(since) / 1_000_000_000;
        let index = self.command.load(Ordering::Relaxed);
        let command = crate::command::all().get(usize::from(index)).map_or("NULL", |row| row.name);
        let written = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db={} sub=0 psub=0 \
             ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={command} user=default redir=-1 resp={} \
             lib-name={} lib-ver={} tot-cmds={} hits={}",
            self.id,
            self.address,
            self.local,
            names.name,
            seconds(self.connected_at.0),
            seconds(self.active_at.load(Ordering::Relaxed)),
            self.db.load(Ordering::Relaxed),
            self.resp.load(Ordering::Relaxed),
            names.lib_name,
            names.lib_ver,
            self.commands.load(Ordering::Relaxed),
            self.hits.load(Ordering::Relaxed),
        );
        debug_assert!(written.is_ok(), "writing to a String");
    }
}
