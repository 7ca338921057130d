//! The stage: a scripted upstream, the proxy before it, its clock and its clients.
//!
//! A [`Link`] is one connection that the proxy opened; a [`Client`] one that a test opened. Both
//! read whole frames and fail by name when what they wait for does not come.

mod client;
mod link;

pub(crate) use self::client::Client;
pub(crate) use self::link::{Link, MASTER};
use bytes::BytesMut;
use nearside::app::App;
use nearside::cache::Cache;
use nearside::cache::stripe_bit;
use nearside::config::{Overrides, load};
use nearside::live::Server;
use nearside::stats::Counter;
use nearside::units::clock::{Clock, Hands, Tick};
use nearside::wire::write;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long anything may take before the test has failed. Nothing ever waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What `k` holds at first.
pub(crate) const OLD: &str = "$3\r\nold\r\n";

/// What no test changes.
const SETTINGS: &str = r#"
[server]
listen = ["127.0.0.1:0"]
[upstream]
connect_timeout = "10m"
on_down = "error"
[keys]
version = "v1"
[log]
level = "off"
"#;

/// What a test may change. With one hour of staleness barrier rounds come at the start and then
/// not again in a test's life. Canaries are the business of `verify.rs`, and lives are exact.
pub(crate) const CACHE: &str = "server.workers=1 cache.admission=always cache.max_staleness=1h \
     cache.verify=off cache.ttl_jitter=0.0";

/// The proxy, its clock, its upstream.
pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) hands: Hands,
    clock: Clock,
    /// The link on which the proxy hears of changes; there until a test takes it.
    pub(crate) tracking: Option<Link>,
    upstream: Option<UnixListener>,
    /// Links that another call was waiting for.
    aside: VecDeque<Link>,
    folder: tempfile::TempDir,
}

impl Stage {
    /// A proxy with one worker whose tracking link is up and synced, if it has one.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same, with settings (`key=value`, by spaces) and rules changed.
    pub(crate) fn with(settings: &str) -> Self {
        let mut stage = Self::silent(settings, "");
        if stage.app.shared().snapshots.newest().tracked.is_none() {
            stage.app.shared().live.set_server(Server {
                name: "redis".to_owned(),
                version: "7.0.15".to_owned(),
                role: "master".to_owned(),
            });
        } else {
            stage.track();
        }
        stage
    }

    /// A proxy whose upstream has not answered anything yet. `rules` is TOML.
    pub(crate) fn silent(settings: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("upstream.sock");
        let upstream = listen(&socket);
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, [SETTINGS, rules].concat()).unwrap();
        let url = format!("upstream.url=unix:{}", socket.display());
        let flags = [CACHE, settings, &url].join(" ");
        let flags = flags.split_ascii_whitespace().map(|flag| {
            let (key, value) = flag.split_once('=').unwrap();
            ("--set".to_owned(), key.to_owned(), value.to_owned())
        });
        let overrides =
            Overrides { file: Some(file), environment: Vec::new(), flags: flags.collect() };
        let settings = load(&overrides).unwrap().settings;
        let (clock, hands) = Clock::manual();
        let app = App::start(settings, overrides, clock.clone()).unwrap();
        Self {
            app,
            hands,
            clock,
            tracking: None,
            upstream: Some(upstream),
            aside: VecDeque::new(),
            folder,
        }
    }

    /// Answers the tracking link's handshake and its first two rounds.
    pub(crate) fn track(&mut self) {
        let mut link = self.tracking_link();
        link.shake_hands();
        link.sync();
        self.tracking = Some(link);
        self.eventually("the tracking link is synced", |stage| {
            let tracking = stage.app.shared().cache.tracking();
            tracking.is_up() && tracking.synced_at() == stage.clock.now()
        });
    }

    /// The next tracking link, as it was opened: its handshake is not answered yet.
    pub(crate) fn tracking_link(&mut self) -> Link {
        self.accept(true)
    }

    /// The next data link, not answered yet.
    pub(crate) fn silent_data(&mut self) -> Link {
        self.accept(false)
    }

    /// The next data link, ready for use.
    pub(crate) fn data(&mut self) -> Link {
        let mut link = self.silent_data();
        link.shake_hands();
        link
    }

    /// The next link of a client's own, ready for use.
    pub(crate) fn own_link(&mut self, id: u32) -> Link {
        let mut link = self.silent_data();
        link.shake_hands_as(id);
        link
    }

    fn accept(&mut self, tracking: bool) -> Link {
        if let Some(place) = self.aside.iter().position(|link| link.is_tracking == tracking) {
            return self.aside.remove(place).unwrap();
        }
        loop {
            let mut link = Link::new(self.accept_any());
            link.greet();
            if link.is_tracking == tracking {
                return link;
            }
            self.aside.push_back(link);
        }
    }

    fn accept_any(&self) -> UnixStream {
        let upstream = self.upstream.as_ref().unwrap();
        let mut accepted = None;
        patiently("the proxy connects", || match upstream.accept() {
            Ok((stream, _)) => {
                accepted = Some(stream);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        });
        accepted.unwrap()
    }

    /// Asserts that the proxy tries to open no link beside those that a test has taken.
    pub(crate) fn tries_nothing_more(&self) {
        let more = self.upstream.as_ref().unwrap().accept();
        assert!(self.aside.is_empty() && more.is_err(), "another link");
    }

    /// From now on connecting upstream is refused.
    pub(crate) fn refuse(&mut self) {
        self.upstream = None;
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Upstream is gone with all its links, and cannot be reached.
    pub(crate) fn lose_upstream(&mut self, data: Link) {
        self.refuse();
        drop((data, self.tracking.take()));
        self.eventually("upstream is down", |stage| {
            let shared = stage.app.shared();
            !shared.live.is_upstream_up()
                && shared.live.links_up() == 0
                && !shared.cache.tracking().is_up()
        });
    }

    /// Upstream can be connected to again.
    pub(crate) fn relent(&mut self) {
        self.upstream = Some(listen(&self.socket()));
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("upstream.sock")
    }

    /// A client that has just connected.
    pub(crate) fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.app.addresses[0]).unwrap())
    }

    /// A proxy with settings changed that holds `k` ([`OLD`]), a client, and its link.
    pub(crate) fn holding(settings: &str) -> (Self, Client, Link) {
        let mut stage = Self::with(settings);
        let (mut client, mut data) = stage.pair();
        stage.fill(&mut client, &mut data, "GET k", OLD);
        (stage, client, data)
    }

    /// A client and the data link that its first request opened.
    pub(crate) fn pair(&mut self) -> (Client, Link) {
        let mut client = self.client();
        client.send("INCR first");
        let mut link = self.data();
        link.answer("INCR v1:first", ":1\r\n");
        client.reads(":1\r\n");
        (client, link)
    }

    /// A counter.
    pub(crate) fn cache(&self) -> &Cache {
        &self.app.shared().cache
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.app.stats().counter(counter)
    }

    /// Waits until a counter has reached `value`.
    pub(crate) fn counted(&self, counter: Counter, value: u64) {
        self.eventually(&format!("{counter:?} is {value}"), |stage| stage.count(counter) >= value);
        assert_eq!(self.count(counter), value, "{counter:?}");
    }

    /// Waits until something is so.
    pub(crate) fn eventually(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        patiently(what, || is_so(self));
    }

    /// Now, on the clock that stands still.
    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// Tells the proxy of changed keys, as they are called upstream; returns when it has applied
    /// what it was told.
    pub(crate) fn push(&mut self, keys: &[&[u8]]) {
        self.push_frame(&invalidation(keys));
    }

    /// The same with any frame. The key behind it that nobody has cached shows when the frame
    /// was applied: the stream is applied in order.
    pub(crate) fn push_frame(&mut self, frame: &[u8]) {
        let sentinel = format!("v1:sentinel:{}", self.count(Counter::InvalidationsTracking));
        let hash = |stage: &Self| stage.app.shared().cache.hash(&sentinel.as_bytes()[3..]);
        let policy = nearside::cache::Policy {
            ttl: 1,
            negative_ttl: 1,
            max_staleness: 1,
            tracked: false,
            value_max: 1,
            grace: 0,
            keep: 0,
            refresh_ahead: 0,
            whole_key: false,
            ttl_jitter: 0,
        };
        let cache = &self.app.shared().cache;
        let token = cache.token(hash(self), &policy, self.now()).unwrap();
        let frame = [frame, &invalidation(&[sentinel.as_bytes()])].concat();
        self.tracking.as_mut().unwrap().write(&frame);
        self.eventually("a push is applied", |stage| {
            !stage.app.shared().cache.is_current(hash(stage), &token)
        });
    }

    /// Reads a key that is not cached, lets upstream answer, and waits until it is stored.
    pub(crate) fn fill(&self, client: &mut Client, link: &mut Link, command: &str, reply: &str) {
        let stored = self.count(Counter::StoreStored);
        client.fetches(link, command, reply);
        self.counted(Counter::StoreStored, stored + 1);
    }

    /// Asserts that a read is answered from the cache.
    pub(crate) fn hit(&self, client: &mut Client, command: &str, reply: &str) {
        let hits = self.count(Counter::LookupHit);
        client.asks(command, reply);
        self.counted(Counter::LookupHit, hits + 1);
    }

    /// Keys of which none shares a bit of a client's mask with another: one that is out keeps no
    /// other from being a hit. (The hash is seeded anew in each process.)
    pub(crate) fn apart<const N: usize>(&self) -> [String; N] {
        let cache = &self.app.shared().cache;
        let mut taken = 0;
        std::array::from_fn(|_| {
            let is_free = |key: &String| stripe_bit(cache.hash(key.as_bytes())) & taken == 0;
            let key = (0..10_000).map(|n| format!("k{n}")).find(is_free).unwrap();
            taken |= stripe_bit(cache.hash(key.as_bytes()));
            key
        })
    }

    /// Asserts that nothing else was sent on this link: the next request is this one.
    pub(crate) fn quiet(client: &mut Client, link: &mut Link) {
        client.send("INCR sentinel");
        link.answer("INCR v1:sentinel", ":7\r\n");
        client.reads(":7\r\n");
    }
}

fn listen(socket: &std::path::Path) -> UnixListener {
    let upstream = UnixListener::bind(socket).unwrap();
    upstream.set_nonblocking(true).unwrap();
    upstream
}

fn patiently(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Clock::system();
    let start = clock.now();
    while !is_so() {
        assert!(clock.now().since(start) < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// The push that names changed keys.
pub(crate) fn invalidation(keys: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::from(&b">2\r\n$10\r\ninvalidate\r\n"[..]);
    write::array(&mut out, keys.len());
    for key in keys {
        write::bulk(&mut out, key);
    }
    out.to_vec()
}

/// The push that says "everything".
pub(crate) const FLUSHED: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// Words as a request.
pub(crate) fn request(words: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    let words: Vec<&str> = words.split(' ').collect();
    write::array(&mut out, words.len());
    for word in words {
        write::bulk(&mut out, word.as_bytes());
    }
    out.to_vec()
}

#[track_caller]
fn more(stream: &mut impl Read, buffer: &mut Vec<u8>, what: &str) -> usize {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            read
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{what} did not come: {error}"),
    }
}
