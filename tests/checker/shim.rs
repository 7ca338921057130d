//! Between a proxy and its server: every connection passes here, and is stalled, delayed, cut to
//! pieces or cut off as the nemesis says, each kind of connection by itself.
//!
//! Kinds are told apart by what the proxy says first on them. On the tracking link replies are
//! framed, so that a push can be held behind the answer that the server gave after it: Redis 8
//! with I/O threads does that at times (coherence F6), and here it can be had surely.

use crate::draw::Draw;
use crate::pace;
use nearside::wire::reply::Scan;
use parking_lot::{Condvar, Mutex};
use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Data = 0,
    Tracking = 1,
}

/// What happens to the bytes of a kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Nothing moves, in either direction; the sockets stay open.
    Stall,
    /// Each piece waits for up to so many milliseconds.
    Delay(u64),
    /// In pieces of a few bytes.
    Split,
    /// A push waits for the answer of a round that was sent after it.
    Late,
    /// As `Late`, and once a push was overtaken nothing moves any more.
    LateThenStall,
}

#[derive(Debug)]
struct Shared {
    modes: Mutex<[Mode; 2]>,
    changed: Condvar,
    open: Mutex<Vec<(Arc<AtomicUsize>, TcpStream, TcpStream)>>,
    seed: u64,
}

/// Listens on a port of its own, for as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Shim {
    pub(crate) fn start(port: u16, server: u16, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            modes: Mutex::new([Mode::Pass; 2]),
            changed: Condvar::new(),
            open: Mutex::new(Vec::new()),
            seed,
        });
        let shim = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Refused there, so closed here.
                if let Ok(upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) {
                    connect(&shared, stream, upstream).ok();
                }
            }
        });
        Ok(shim)
    }

    pub(crate) fn set(&self, line: Line, mode: Mode) {
        self.shared.modes.lock()[line as usize] = mode;
        self.shared.changed.notify_all();
    }

    /// Cuts off all connections of a kind.
    pub(crate) fn cut(&self, line: Line) {
        for (kind, client, server) in self.shared.open.lock().iter() {
            if kind.load(Ordering::SeqCst) == line as usize {
                client.shutdown(Shutdown::Both).ok();
                server.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let kind = Arc::new(AtomicUsize::new(Line::Data as usize));
    let mut open = shared.open.lock();
    // Those that have ended are of no more use.
    open.retain(|(kind, ..)| Arc::strong_count(kind) > 1);
    open.push((Arc::clone(&kind), client.try_clone()?, server.try_clone()?));
    let draw = Draw::new(shared.seed, open.len() as u64);
    drop(open);
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let up = Pump::new(shared, &kind, from, to, draw.clone());
    thread::spawn(move || up.run(Pump::up));
    let down = Pump::new(shared, &kind, server, client, draw);
    thread::spawn(move || down.run(Pump::down));
    Ok(())
}

/// One direction of one connection.
#[derive(Debug)]
struct Pump {
    shared: Arc<Shared>,
    kind: Arc<AtomicUsize>,
    from: TcpStream,
    to: TcpStream,
    draw: Draw,
    /// Read, and not a whole reply yet.
    part: Vec<u8>,
    scan: Scan,
    /// Pushes that wait for an answer.
    held: Vec<u8>,
}

impl Pump {
    fn new(
        shared: &Arc<Shared>,
        kind: &Arc<AtomicUsize>,
        from: TcpStream,
        to: TcpStream,
        draw: Draw,
    ) -> Self {
        let (shared, kind) = (Arc::clone(shared), Arc::clone(kind));
        Self {
            shared,
            kind,
            from,
            to,
            draw,
            part: Vec::new(),
            scan: Scan::default(),
            held: Vec::new(),
        }
    }

    fn run(mut self, step: fn(&mut Self, &[u8]) -> Result<()>) {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = self.from.read(&mut chunk).unwrap_or(0);
            if count == 0 || step(&mut self, &chunk[..count]).is_err() {
                break;
            }
        }
        self.from.shutdown(Shutdown::Both).ok();
        self.to.shutdown(Shutdown::Both).ok();
    }

    fn is_tracking(&self) -> bool {
        self.kind.load(Ordering::SeqCst) == Line::Tracking as usize
    }

    fn mode(&self) -> Mode {
        self.shared.modes.lock()[self.kind.load(Ordering::SeqCst)]
    }

    fn up(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.is_tracking() && bytes.windows(8).any(|word| word == b"TRACKING") {
            self.kind.store(Line::Tracking as usize, Ordering::SeqCst);
        }
        self.pass(bytes)
    }

    fn down(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.is_tracking() {
            return self.pass(bytes);
        }
        self.part.extend_from_slice(bytes);
        while let Some(length) = self.scan.next(&self.part).map_err(std::io::Error::other)? {
            let frame: Vec<u8> = self.part.drain(..length).collect();
            self.frame(&frame)?;
        }
        Ok(())
    }

    /// A push or an answer on the tracking link.
    fn frame(&mut self, frame: &[u8]) -> Result<()> {
        let mode = self.mode();
        if !matches!(mode, Mode::Late | Mode::LateThenStall) {
            let held = std::mem::take(&mut self.held);
            self.pass(&held)?;
            return self.pass(frame);
        }
        if frame.starts_with(b">") {
            self.held.extend_from_slice(frame);
            return Ok(());
        }
        self.to.write_all(frame)?;
        // ROLE ends a round.
        if !frame.starts_with(b"*") || self.held.is_empty() {
            return Ok(());
        }
        while self.mode() == Mode::LateThenStall {
            self.wait();
        }
        let held = std::mem::take(&mut self.held);
        self.to.write_all(&held)
    }

    fn wait(&self) {
        let mut modes = self.shared.modes.lock();
        // Wakes by itself at times, to see a connection that was cut meanwhile.
        self.shared.changed.wait_for(&mut modes, Duration::from_millis(100));
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<()> {
        match self.mode() {
            Mode::Stall => {
                while self.mode() == Mode::Stall {
                    self.wait();
                }
            }
            Mode::Delay(most) => {
                pace::play(Duration::from_millis(self.draw.between(0, most)));
            }
            Mode::Split => {
                let (pieces, rest) = bytes.split_at(bytes.len().min(256));
                for piece in pieces.chunks(self.draw.between(1, 7) as usize) {
                    self.to.write_all(piece)?;
                }
                return self.to.write_all(rest);
            }
            Mode::Pass | Mode::Late | Mode::LateThenStall => {}
        }
        self.to.write_all(bytes)
    }
}
