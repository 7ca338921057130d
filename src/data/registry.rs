//! All connected clients, for CLIENT LIST, CLIENT KILL and INFO. A session writes its own record
//! with relaxed stores, a few per read; whoever lists them sees each field as of a moment ago.
//! CLIENT KILL sets a mark, which the client's worker finds.

use crate::net::client::PeerAddress;
use crate::units::clock::Tick;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering,
};

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
    /// Bytes it sent.
    pub bytes_in: AtomicU64,
    /// Bytes it was sent.
    pub bytes_out: AtomicU64,
    /// Bytes it sent that are being understood.
    pub unread: AtomicU64,
    /// Bytes it is still to be sent.
    pub unsent: AtomicU64,
    /// What only some clients have.
    pub state: Special,
    /// The server's number for its own link; 0 while it has none.
    pub upstream_id: AtomicI64,
    /// True while it waits in a command that may block.
    pub is_blocked: AtomicBool,
    /// True from a CLIENT UNBLOCK for it until its link is given up.
    pub is_aimed: AtomicBool,
    /// True once other clients' invalidations were sent to it.
    pub is_target: AtomicBool,
    /// What it calls itself.
    pub names: Mutex<Names>,
}

/// What most clients do not have.
#[derive(Debug)]
pub struct Special {
    marks: AtomicU32,
    /// Commands queued since MULTI; -1 = no transaction.
    pub queued: AtomicI32,
    /// Keys watched.
    pub watched: AtomicU32,
    /// Channels subscribed to.
    pub channels: AtomicU32,
    /// Patterns subscribed to.
    pub patterns: AtomicU32,
    /// Shard channels subscribed to.
    pub shard_channels: AtomicU32,
    /// While it tracks: the client that its invalidations are sent to; 0 = itself.
    pub redirect: AtomicI64,
}

impl Default for Special {
    fn default() -> Self {
        Self {
            marks: AtomicU32::new(0),
            queued: AtomicI32::new(-1),
            watched: AtomicU32::new(0),
            channels: AtomicU32::new(0),
            patterns: AtomicU32::new(0),
            shard_channels: AtomicU32::new(0),
            redirect: AtomicI64::new(0),
        }
    }
}

macro_rules! marks {
    ($($(#[$doc:meta])* $variant:ident = $letter:literal,)+) => {
        /// Something that is true of a client: the letters of CLIENT LIST's `flags`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mark {
            $($(#[$doc])* $variant,)+
        }

        impl Mark {
            /// In the order in which Redis writes their letters.
            const ALL: &[(Self, char)] = &[$((Self::$variant, $letter),)+];
        }
    };
}

marks! {
    /// MONITOR.
    Monitor = 'O',
    /// It has subscriptions.
    Subscriber = 'P',
    /// It is in a transaction.
    Multi = 'x',
    /// It is held by CLIENT PAUSE.
    Held = 'b',
    /// CLIENT TRACKING is on.
    Tracking = 't',
    /// CLIENT KILL has named it.
    Killed = 'A',
    /// CLIENT NO-EVICT.
    NoEvict = 'e',
    /// CLIENT NO-TOUCH.
    NoTouch = 'T',
}

impl Mark {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Who it is: CLIENT SETNAME, CLIENT SETINFO, AUTH.
#[derive(Clone, Debug)]
pub struct Names {
    /// The user that it rides as.
    pub user: String,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

impl Default for Names {
    fn default() -> Self {
        let none = String::new;
        Self { user: "default".to_owned(), name: none(), lib_name: none(), lib_ver: none() }
    }
}

/// All connected clients.
#[derive(Debug, Default)]
pub struct Registry {
    clients: DashMap<u64, Arc<Client>, foldhash::fast::RandomState>,
    last: AtomicU64,
    /// Memory that all of them together hold.
    held: AtomicU64,
}

impl Registry {
    /// One of the clients held so many bytes, and holds so many now; answers how many all do.
    pub fn count_held(&self, was: usize, is: usize) -> u64 {
        let (was, is) = (was as u64, is as u64);
        // (Of one client it is counted by one thread: the sum is never less than nothing.)
        let sum = self.held.fetch_add(is, Ordering::Relaxed) + is;
        self.held.fetch_sub(was, Ordering::Relaxed);
        sum.saturating_sub(was)
    }

    /// Memory, in bytes, that all clients together hold: replies that they have not taken, what is
    /// not understood yet of what they sent, and the room kept for the next of both.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

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
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            state: Special::default(),
            upstream_id: AtomicI64::new(0),
            is_blocked: AtomicBool::new(false),
            is_aimed: AtomicBool::new(false),
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many bear a mark.
    pub fn count(&self, mark: Mark) -> usize {
        self.clients.iter().filter(|client| client.has(mark)).count()
    }

    /// How many wait in a command that may block.
    pub fn blocked(&self) -> usize {
        self.clients.iter().filter(|client| client.is_blocked.load(Ordering::Relaxed)).count()
    }

    /// A client by its number, unless it was killed.
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        let client = self.clients.get(&id)?;
        (!client.has(Mark::Killed)).then(|| Arc::clone(&client))
    }

    /// All but the killed, oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        let alive = self.clients.iter().filter(|client| !client.has(Mark::Killed));
        let mut all: Vec<_> = alive.map(|client| Arc::clone(&client)).collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }
}

impl Client {
    /// The server's number for the link on which this client waits, if it does. CLIENT UNBLOCK
    /// will name that number, perhaps when this client has long been served: from now on the
    /// link is nobody else's (see [`Self::was_aimed_at`]).
    pub fn aim(&self) -> Option<i64> {
        let id = self.upstream_id.load(Ordering::SeqCst);
        if id == 0 || !self.is_blocked.load(Ordering::SeqCst) {
            return None;
        }
        self.is_aimed.store(true, Ordering::SeqCst);
        // Whoever gives the link up looks at the aim after it has taken these back: either it
        // sees the aim, or this sees that it is too late.
        let still = self.is_blocked.load(Ordering::SeqCst);
        (still && self.upstream_id.load(Ordering::SeqCst) == id).then_some(id)
    }

    /// The server's number for this client's own link, if it has one: it keeps it from now on,
    /// because other clients' invalidations are sent there.
    pub fn become_target(&self) -> Option<i64> {
        let id = self.upstream_id.load(Ordering::SeqCst);
        if id == 0 {
            return None;
        }
        self.is_target.store(true, Ordering::SeqCst);
        (self.upstream_id.load(Ordering::SeqCst) == id).then_some(id)
    }

    /// Its own link is given up; false if it must keep it.
    pub fn leave_link(&self) -> bool {
        if self.is_target.load(Ordering::SeqCst) {
            return false;
        }
        let id = self.upstream_id.swap(0, Ordering::SeqCst);
        // Somebody who has read the number before may only now have said what for.
        let is_free = !self.is_target.load(Ordering::SeqCst);
        if !is_free {
            self.upstream_id.store(id, Ordering::SeqCst);
        }
        is_free
    }

    /// It waits no more, as far as others are told.
    pub fn set_served(&self) {
        self.is_blocked.store(false, Ordering::SeqCst);
    }

    /// True, once, if a CLIENT UNBLOCK may still be on its way to the link that is given up now.
    pub fn was_aimed_at(&self) -> bool {
        self.is_aimed.swap(false, Ordering::SeqCst)
    }

    /// Nothing is left of what it had on a link of its own.
    pub fn clear_own(&self) {
        for mark in [Mark::Monitor, Mark::Subscriber, Mark::Multi, Mark::Tracking] {
            self.mark(mark, false);
        }
        let state = &self.state;
        state.queued.store(-1, Ordering::Relaxed);
        for count in [&state.watched, &state.channels, &state.patterns, &state.shard_channels] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// True if the client bears this mark.
    #[inline]
    pub fn has(&self, mark: Mark) -> bool {
        self.state.marks.load(Ordering::Relaxed) & mark.bit() != 0
    }

    /// Sets a mark or takes it away.
    pub fn mark(&self, mark: Mark, is_set: bool) {
        if is_set {
            self.state.marks.fetch_or(mark.bit(), Ordering::Relaxed);
        } else {
            self.state.marks.fetch_and(!mark.bit(), Ordering::Relaxed);
        }
    }

    /// Adds to a figure that only this client's worker writes.
    #[inline]
    pub fn add(figure: &AtomicU64, count: u64) {
        figure.store(figure.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The letters of `flags`; `N` for a client without any.
    pub fn flags(&self) -> String {
        let mut letters: String = Mark::ALL
            .iter()
            .filter(|(mark, _)| self.has(*mark))
            .map(|(_, letter)| letter)
            .collect();
        if self.is_blocked.load(Ordering::Relaxed) && !letters.contains('b') {
            let at = letters.find(|letter| !matches!(letter, 'O' | 'P' | 'x'));
            letters.insert(at.unwrap_or(letters.len()), 'b');
        }
        if matches!(self.address, PeerAddress::Unix(_)) {
            // Redis has it before `r`, `e` and `T`.
            let at = letters.find(['e', 'T']).unwrap_or(letters.len());
            letters.insert(at, 'U');
        }
        if letters.is_empty() {
            letters.push('N');
        }
        letters
    }

    /// Whole seconds since the client came.
    pub fn age(&self, now: Tick) -> u64 {
        now.since(self.connected_at).as_secs()
    }

    /// Whole seconds since it sent something.
    pub fn idle(&self, now: Tick) -> u64 {
        now.since(Tick(self.active_at.load(Ordering::Relaxed))).as_secs()
    }

    /// The line of CLIENT LIST: the fields of Redis 7.2 in its order, then those of later servers,
    /// then `hits`. What a proxy does not have is 0, and `fd` -1.
    pub fn describe(&self, line: &mut String, now: Tick) {
        let names = self.names.lock().clone();
        let state = &self.state;
        let index = self.command.load(Ordering::Relaxed);
        let command = crate::command::row(index).map_or("NULL", |row| row.name);
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (unread, unsent) = (get(&self.unread), get(&self.unsent));
        let written = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub={} psub={} \
             ssub={} multi={} qbuf={unread} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll={} omem={unsent} tot-mem={} events={} cmd={command} user={} redir={} \
             resp={} lib-name={} lib-ver={} watch={} tot-net-in={} tot-net-out={} tot-cmds={} \
             hits={}",
            self.id,
            self.address,
            self.local,
            names.name,
            self.age(now),
            self.idle(now),
            self.flags(),
            self.db.load(Ordering::Relaxed),
            state.channels.load(Ordering::Relaxed),
            state.patterns.load(Ordering::Relaxed),
            state.shard_channels.load(Ordering::Relaxed),
            state.queued.load(Ordering::Relaxed),
            u8::from(unsent > 0),
            size_of::<Self>() as u64 + unread + unsent,
            if unsent > 0 { "rw" } else { "r" },
            names.user,
            if self.has(Mark::Tracking) { state.redirect.load(Ordering::Relaxed) } else { -1 },
            self.resp.load(Ordering::Relaxed),
            names.lib_name,
            names.lib_ver,
            state.watched.load(Ordering::Relaxed),
            get(&self.bytes_in),
            get(&self.bytes_out),
            get(&self.commands),
            get(&self.hits),
        );
        debug_assert!(written.is_ok(), "writing to a String");
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Registry};
    use crate::net::client::PeerAddress;
    use crate::units::clock::Tick;
    use std::sync::Arc;

    fn tcp(port: u16) -> PeerAddress {
        PeerAddress::Tcp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn flags_are_letters_in_the_order_of_redis() {
        let registry = Registry::default();
        let client = registry.enter(tcp(1), tcp(2), Tick(0));
        assert_eq!(client.flags(), "N");
        for mark in [Mark::NoTouch, Mark::Multi, Mark::Tracking, Mark::NoEvict, Mark::Held] {
            client.mark(mark, true);
        }
        assert_eq!(client.flags(), "xbteT");
        client.mark(Mark::Held, false);
        assert_eq!(client.flags(), "xteT");
        let path = PeerAddress::Unix(Arc::from(std::path::Path::new("/s")));
        let client = registry.enter(path.clone(), path, Tick(0));
        assert_eq!(client.flags(), "U");
        client.mark(Mark::NoEvict, true);
        assert_eq!(client.flags(), "Ue");
    }

    #[test]
    fn the_killed_are_not_listed() {
        let registry = Registry::default();
        let (one, two) =
            (registry.enter(tcp(1), tcp(2), Tick(0)), registry.enter(tcp(3), tcp(2), Tick(0)));
        one.mark(Mark::Killed, true);
        let ids: Vec<u64> = registry.list().iter().map(|client| client.id).collect();
        assert_eq!(ids, [two.id]);
        assert!(registry.find(one.id).is_none() && registry.find(two.id).is_some());
        assert_eq!((registry.len(), registry.count(Mark::Killed)), (2, 1));
        registry.leave(&one);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_line_has_the_fields_of_redis_in_its_order() {
        let registry = Registry::default();
        let client = registry.enter(tcp(1), tcp(2), Tick(0));
        let mut line = String::new();
        client.describe(&mut line, Tick(3_000_000_000));
        let names: Vec<&str> =
            line.split(' ').filter_map(|field| field.split('=').next()).collect();
        let redis = "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free \
                     argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp \
                     lib-name lib-ver";
        let ours = "watch tot-net-in tot-net-out tot-cmds hits";
        let expected: Vec<&str> = redis.split(' ').chain(ours.split(' ')).collect();
        assert_eq!(names, expected);
        assert!(line.contains(" age=3 idle=3 flags=N db=0 sub=0 ") && line.contains(" multi=-1 "));
    }
}
