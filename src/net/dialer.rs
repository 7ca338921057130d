//! Opens upstream links: connect, then the handshake, within one time limit. Both wings use it:
//! the workers for data links, the tracking thread for its own. While upstream is down, all of them
//! take turns to try it.

use crate::net::lookup::Lookup;
use crate::net::stream::{self, ConnectError, ConnectErrorKind, Stream};
use crate::net::switch::Switch;
use crate::net::target::Target;
use crate::net::tls::TlsClient;
use crate::stats::Counter;
use crate::wire::handshake::{Handshake, HandshakeError, Options, Progress, ServerInfo};
use crate::wire::reply::{Malformed, Scan};
use crate::wire::write;
use bytes::BytesMut;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Opens connections to a server in this process.
pub struct Door(Box<dyn Fn() -> io::Result<Stream> + Send + Sync>);

impl Door {
    /// By this.
    pub fn new(open: impl Fn() -> io::Result<Stream> + Send + Sync + 'static) -> Self {
        Self(Box::new(open))
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

/// How links are opened.
pub struct Dialer {
    /// Where to.
    pub target: Target,
    /// With which certificates, if by TLS.
    pub tls: Option<TlsClient>,
    /// The embedded upstream's door, if it is the target.
    pub embedded: Option<Door>,
    /// Limit of connecting, and again of the handshake.
    pub timeout: Duration,
    /// What links call themselves.
    pub name: String,
    /// Whether there are to be any.
    pub switch: Switch,
    /// Where the target's name leads.
    pub lookup: Lookup,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not let this link in.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection broke during the handshake.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    /// What answered is no Redis.
    #[error("it does not answer as Redis does: {0}")]
    Malformed(#[from] Malformed),
    /// It says more than it was asked.
    #[error("it sent more than the answers to the handshake")]
    Stray,
    /// An operator wants no links to it.
    #[error("disabled by an operator (POST /api/v1/upstreams/{{id}}/enable)")]
    Disabled,
    /// It accepted the connection and then said nothing.
    #[error("connected, but the handshake was not answered within {0:?}")]
    Silent(Duration),
}

impl OpenError {
    /// True if the server is there and answers, and only refuses what this link wants to be.
    pub fn is_refusal(&self) -> bool {
        use HandshakeError as E;
        matches!(
            self,
            Self::Handshake(
                E::NoProto(_) | E::TrackingRefused(_) | E::Busy(_) | E::Denied(_) | E::Other(_)
            )
        )
    }

    /// True if the server has taken the connection, and nothing else is known of it.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }

    /// True if the server does not take these credentials.
    pub fn is_login_refused(&self) -> bool {
        use HandshakeError as E;
        matches!(self, Self::Handshake(E::NoAuth | E::WrongPassword(_)))
    }

    /// True if the server does not let this user do what every link does (SELECT).
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Handshake(HandshakeError::Denied(_)))
    }

    /// What the attempt is counted as.
    pub fn counter(&self) -> Counter {
        match self {
            Self::Connect(error) => match error.kind {
                ConnectErrorKind::Timeout => Counter::ConnectTimeout,
                ConnectErrorKind::Refused => Counter::ConnectRefused,
                ConnectErrorKind::Tls => Counter::ConnectTls,
                _ => Counter::ConnectError,
            },
            Self::Handshake(HandshakeError::WrongPassword(_) | HandshakeError::NoAuth) => {
                Counter::ConnectAuth
            }
            Self::Silent(_) => Counter::ConnectTimeout,
            _ => Counter::ConnectError,
        }
    }
}

impl Dialer {
    /// The user that nearside's own links log in as.
    pub fn username(&self) -> Option<&[u8]> {
        self.target.username.as_deref().map(str::as_bytes)
    }

    /// The password that they log in with.
    pub fn password(&self) -> Option<&[u8]> {
        self.target.password.as_ref().map(|password| password.reveal().as_bytes())
    }

    /// Upstream's answer to one request on a connection that has not shaken hands.
    pub async fn ask(&self, words: &[&[u8]]) -> Result<BytesMut, OpenError> {
        if !self.switch.is_enabled() {
            return Err(OpenError::Disabled);
        }
        let mut stream = self.connect().await?;
        let mut out = BytesMut::new();
        write::array(&mut out, words.len());
        for word in words {
            write::bulk(&mut out, word);
        }
        let asking = async {
            stream.write_all(&out).await?;
            stream.flush().await?;
            read_reply(&mut stream).await
        };
        tokio::time::timeout(self.timeout, asking)
            .await
            .map_err(|_| OpenError::Silent(self.timeout))?
    }

    /// As [`Self::open`], by who has a turn, or needs none. One that takes long passes it on:
    /// nobody is asked more often for that.
    pub async fn open_in_turn(
        &self,
        options: &Options<'_>,
        turn: &mut Option<Turn<'_>>,
    ) -> Result<Opened, OpenError> {
        let mut opening = pin!(self.open(options));
        tokio::select! { biased;
            opened = &mut opening => return opened,
            () = tokio::time::sleep(TURN_MAX) => drop(turn.take()),
        }
        opening.await
    }

    /// A connection that has shaken hands.
    pub async fn open(&self, options: &Options<'_>) -> Result<Opened, OpenError> {
        if !self.switch.is_enabled() {
            return Err(OpenError::Disabled);
        }
        let stream = self.connect().await?;
        self.greet(stream, options).await
    }

    async fn connect(&self) -> Result<Stream, ConnectError> {
        let (embedded, tls) = (self.embedded.as_ref().map(|door| &*door.0), self.tls.as_ref());
        stream::connect(&self.target, &self.lookup, self.timeout, tls, embedded).await
    }

    /// The same, of a server in this process that needs no login.
    pub async fn open_door(&self, door: &Door, options: &Options<'_>) -> Result<Opened, OpenError> {
        let options = Options { username: None, password: None, ..*options };
        self.greet((door.0)()?, &options).await
    }

    async fn greet(&self, mut stream: Stream, options: &Options<'_>) -> Result<Opened, OpenError> {
        let shaking = shake_hands(&mut stream, options);
        let (handshake, rest) = tokio::time::timeout(self.timeout, shaking)
            .await
            .map_err(|_| OpenError::Silent(self.timeout))??;
        // Who tracks is told of changes at once; else it would be taken for the first answer.
        if !rest.is_empty() && options.tracking.is_none() {
            return Err(OpenError::Stray);
        }
        Ok(Opened { stream, server: handshake.server().cloned(), id: handshake.id(), rest })
    }
}

/// Who has a turn keeps the others waiting no longer.
const TURN_MAX: Duration = Duration::from_millis(100);

/// A connection that has shaken hands.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// What the server said of itself; nothing on a RESP2 link, which does not ask.
    pub server: Option<ServerInfo>,
    /// The server's number of it; 0 if it was not asked or did not say.
    pub id: i64,
    /// What came in one read with the end of the handshake: pushes, and perhaps a part of one.
    pub rest: BytesMut,
}

/// One whole reply.
async fn read_reply(stream: &mut Stream) -> Result<BytesMut, OpenError> {
    let (mut input, mut scan) = (BytesMut::new(), Scan::default());
    loop {
        if let Some(length) = scan.next(&input)? {
            return Ok(input.split_to(length));
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Plays the handshake out on a fresh connection; answers with what came behind it, too.
async fn shake_hands(
    stream: &mut Stream,
    options: &Options<'_>,
) -> Result<(Handshake, BytesMut), OpenError> {
    let mut handshake = Handshake::new(options);
    let (mut out, mut input, mut scan) = (BytesMut::new(), BytesMut::new(), Scan::default());
    let mut progress = Progress::Write;
    loop {
        match progress {
            Progress::Ready => return Ok((handshake, input)),
            Progress::Write => {
                out.clear();
                handshake.request(&mut out);
                stream.write_all(&out).await?;
                stream.flush().await?;
            }
            Progress::Wait => {}
        }
        let length = loop {
            if let Some(length) = scan.next(&input)? {
                break length;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        };
        progress = handshake.reply(&input.split_to(length))?;
    }
}

/// What upstream was when it was last tried. It could not be used:
const DOWN: u8 = 0;
/// It takes connections, and answers nothing: it stands still, as a process that was stopped does,
/// or one that waits for its disk.
const SILENT: u8 = 1;
/// It could be used.
const UP: u8 = 2;

/// Whether upstream is up, and whose turn it is to try it if it is not.
#[derive(Debug)]
pub struct Turns {
    state: AtomicU8,
    /// One permit: the right to try whether upstream is back.
    right: Semaphore,
    /// Failed turns since upstream was up.
    failures: AtomicU32,
}

impl Default for Turns {
    fn default() -> Self {
        let (state, failures) = (AtomicU8::new(DOWN), AtomicU32::new(0));
        Self { state, right: Semaphore::new(1), failures }
    }
}

impl Turns {
    /// True if upstream could be used when it was last tried.
    pub fn is_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UP
    }

    /// True if it was silent when it was last tried.
    pub fn is_silent(&self) -> bool {
        self.state.load(Ordering::Relaxed) == SILENT
    }

    /// It takes connections, and answers nothing.
    pub fn set_silent(&self) {
        self.state.store(SILENT, Ordering::Relaxed);
    }

    /// It could be used, or could not.
    pub fn set_up(&self, is_up: bool) {
        if is_up {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.state.store(if is_up { UP } else { DOWN }, Ordering::Relaxed);
    }

    /// Waits for the right to try an upstream that is down: one link has it at a time, in the
    /// order of asking. `None` at once, and for all who wait once one has succeeded: upstream is
    /// up, and nobody need take turns.
    ///
    /// Whoever is cancelled, fails or panics drops its turn, and the next one has it.
    pub async fn next(&self) -> Option<Turn<'_>> {
        if self.is_up() {
            return None;
        }
        // Never closed.
        let permit = self.right.acquire().await.ok()?;
        (!self.is_up()).then_some(Turn { turns: self, _permit: permit })
    }
}

/// The right to try whether upstream is back; dropping it passes it on.
#[derive(Debug)]
pub struct Turn<'t> {
    turns: &'t Turns,
    _permit: SemaphorePermit<'t>,
}

impl Turn<'_> {
    /// The try failed; answers how many had before, since upstream was up. All links count
    /// together, so that many of them do not try more often than one.
    pub fn count_failure(&self) -> u32 {
        let add = |failures: u32| Some(failures.saturating_add(1));
        self.turns.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    /// What a future says when it is polled now.
    fn now<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_tries_at_a_time_and_the_next_may_however_it_ends() {
        let turns = Turns::default();
        let Poll::Ready(Some(turn)) = now(pin!(turns.next())) else { panic!("nobody else tries") };
        assert_eq!((turn.count_failure(), turn.count_failure()), (0, 1));
        let (mut second, mut third) = (Box::pin(turns.next()), Box::pin(turns.next()));
        assert!(now(second.as_mut()).is_pending() && now(third.as_mut()).is_pending());
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _held = turn;
            resume_unwind(Box::new("a panic while trying"));
        }));
        assert!(unwound.is_err());
        // Cancelled after it was given the turn and before it knew.
        drop(second);
        let Poll::Ready(Some(turn)) = now(third.as_mut()) else { panic!("the turn is lost") };
        assert_eq!(turn.count_failure(), 2);
    }

    #[test]
    fn one_success_lets_all_go() {
        let turns = Turns::default();
        let Poll::Ready(Some(turn)) = now(pin!(turns.next())) else { panic!("nobody else tries") };
        turn.count_failure();
        let (mut second, mut third) = (pin!(turns.next()), pin!(turns.next()));
        assert!(now(second.as_mut()).is_pending() && now(third.as_mut()).is_pending());
        turns.set_up(true);
        drop(turn);
        assert!(matches!(now(second), Poll::Ready(None)));
        assert!(matches!(now(third), Poll::Ready(None)));
        assert!(matches!(now(pin!(turns.next())), Poll::Ready(None)));
        // The next outage begins anew; one that stands still is tried in turns, too.
        turns.set_silent();
        assert!(turns.is_silent() && !turns.is_up());
        turns.set_up(false);
        assert!(!turns.is_silent() && !turns.is_up());
        let Poll::Ready(Some(turn)) = now(pin!(turns.next())) else { panic!("nobody else tries") };
        assert_eq!(turn.count_failure(), 0);
    }
}
