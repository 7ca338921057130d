//! Servers that live in the bench's own binary, started as processes of their own by running it
//! again: the bare echo server, and a relay that delays every byte.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "see mod.rs; the relay's clock is tokio's"
)]

use super::{Server, free_port};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// First argument of the bench run as a server.
const ECHO: &str = "--serve-echo";
const RELAY: &str = "--serve-relay";

/// `$64\r\n`, 64 bytes and `\r\n`: what a GET of these benchmarks is answered.
const REPLY_LEN: usize = 71;

/// Serves and never returns if this process was started as one of the servers.
pub fn serve_if_asked() {
    let args: Vec<String> = std::env::args().collect();
    let number = |index: usize| args.get(index).and_then(|word| word.parse::<u64>().ok());
    let port = number(2).and_then(|port| u16::try_from(port).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match (args.get(1).map(String::as_str), port) {
        (Some(ECHO), Some(port)) => runtime.expect("a runtime").block_on(echo(port)),
        (Some(RELAY), Some(port)) => {
            let to = number(3).and_then(|to| u16::try_from(to).ok()).expect("a port");
            let delay = Duration::from_micros(number(4).expect("a delay"));
            runtime.expect("a runtime").block_on(relay(port, to, delay));
        }
        _ => return,
    }
    std::process::exit(0);
}

/// The bare echo server, on `cores`.
pub fn start_echo(cores: &str) -> Server {
    start(cores, |port| vec![ECHO.to_owned(), port.to_string()])
}

/// A relay to `upstream` that adds `delay` each way, on `cores`.
pub fn start_relay(cores: &str, upstream: u16, delay: Duration) -> Server {
    let micros = delay.as_micros().to_string();
    start(cores, |port| vec![RELAY.to_owned(), port.to_string(), upstream.to_string(), micros])
}

fn start(cores: &str, args: impl FnOnce(u16) -> Vec<String>) -> Server {
    let port = free_port();
    let me = std::env::current_exe().expect("this program");
    Server::start(cores, Path::new(&me), &args(port), port)
}

/// Answers every request with as many bytes as a hit has: one read, one write. A request is
/// known by its `*`, which stands nowhere else in the commands of these benchmarks.
async fn echo(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (socket, _) = listener.accept().await.expect("a client");
                tokio::task::spawn_local(echo_one(socket));
            }
        })
        .await;
}

async fn echo_one(mut socket: TcpStream) {
    socket.set_nodelay(true).ok();
    let mut reply = b"$64\r\n".to_vec();
    reply.resize(REPLY_LEN - 2, b'e');
    reply.extend_from_slice(b"\r\n");
    let replies = reply.repeat(2048);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = socket.read(&mut buffer).await {
        let read = buffer.get(..count).unwrap_or_default();
        let requests = memchr::memchr_iter(b'*', read).count();
        let bytes = replies.get(..requests * REPLY_LEN).unwrap_or(&replies);
        if count == 0 || socket.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn relay(port: u16, upstream: u16, delay: Duration) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (near, _) = listener.accept().await.expect("a client");
                // Beside the others: who comes last of a crowd is not to wait for all of them.
                tokio::task::spawn_local(connect(near, upstream, delay));
            }
        })
        .await;
}

async fn connect(near: TcpStream, upstream: u16, delay: Duration) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)).await else {
        return;
    };
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::task::spawn_local(carry(near_in, far_out, delay));
    tokio::task::spawn_local(carry(far_in, near_out, delay));
}

/// Carries bytes one way; each read leaves `delay` after it came. tokio's timers tick in whole
/// milliseconds, so the kernel's are used.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
    #[expect(deprecated, reason = "an OwnedFd is I/O safe; its successor asks for `unsafe`")]
    let timer = AsyncFd::new(timer.expect("a timer")).expect("a timer");
    let mut queue: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut is_set = false;
    loop {
        if let (false, Some((due, _))) = (is_set, queue.front()) {
            set(&timer, due.saturating_duration_since(Instant::now()));
            is_set = true;
        }
        tokio::select! { biased;
            ready = timer.readable(), if is_set => {
                let mut count = [0; 8];
                if rustix::io::read(&timer, &mut count).is_err() {
                    ready.expect("a timer").clear_ready();
                    continue;
                }
                is_set = false;
                if let Some((_, bytes)) = queue.pop_front()
                    && to.write_all(&bytes).await.is_err()
                {
                    return;
                }
            }
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    queue.push_back((Instant::now() + delay, bytes));
                }
                _ => return,
            }
        }
    }
}

/// Lets the timer ring once, never at once: zero would stop it.
fn set(timer: &AsyncFd<OwnedFd>, after: Duration) {
    let nanos = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX).max(1);
    let it_value = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Itimerspec { it_interval, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &value).expect("a timer");
}
