//! What a link says first, and how it reads the answers.
//!
//! ```text
//! step 1   HELLO 3 AUTH user password     (RESP2: AUTH, or nothing)     then wait for the answer
//! step 2   SELECT 5, CLIENT TRACKING ON BCAST .., CLIENT SETNAME .., CLIENT SETINFO .., PING
//! ```
//!
//! Options in; bytes to write out, then replies in, one by one, until [`Progress::Ready`]. No
//! command is ever written behind an AUTH that was not answered: Redis 8.2.3 may lose the reply
//! of an AUTH that fails in a pipeline (redis#15640), and every later reply would then be taken
//! for another command's. Step 2 is one write, so a connect costs two round trips.
//!
//! Invariant: one reply is taken for each command written, in order; pushes are not replies.

use crate::wire::reply;
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::fmt;

/// What the link wants to be. Borrowed: a handshake keeps only the bytes it will write.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// RESP version of the link. RESP2 says no HELLO, so it works with servers before 6.0.
    pub proto: Proto,
    /// User; `default` if there is only a password.
    pub username: Option<&'a [u8]>,
    /// Password; empty for a user that needs none.
    pub password: Option<&'a [u8]>,
    /// Database to select; 0 is where every link begins.
    pub database: u32,
    /// Name for CLIENT SETNAME; a name that the server does not like is no reason to fail.
    pub name: Option<&'a str>,
    /// Broadcast tracking of keys with these prefixes; `Some(&[])` tracks the whole keyspace.
    pub tracking: Option<&'a [Vec<u8>]>,
    /// True if the server is asked for its number of this connection.
    pub asks_id: bool,
}

/// Shows neither user nor password.
impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("proto", &self.proto)
            .field("database", &self.database)
            .field("name", &self.name)
            .field("tracking", &self.tracking.map(<[_]>::len))
            .finish_non_exhaustive()
    }
}

/// What the server said of itself in its answer to HELLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `redis` or `valkey`.
    pub server: String,
    /// Such as `7.0.15`.
    pub version: String,
    /// RESP version now spoken.
    pub proto: u8,
    /// The server's number for this connection.
    pub id: i64,
    /// `standalone`, `sentinel` or `cluster`.
    pub mode: String,
    /// `master` or `replica`.
    pub role: String,
}

/// What to do after a reply was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More replies of this step must come.
    Wait,
    /// The next step begins: call [`Handshake::request`] again and write.
    Write,
    /// The link is ready for use.
    Ready,
}

/// Why a link cannot be used. `Display` is for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// User or password are wrong.
    #[error("the server does not accept the user or password: {0}")]
    WrongPassword(String),
    /// The server wants a password and none is configured.
    #[error("the server wants a password and none is configured (upstream.password)")]
    NoAuth,
    /// The server does not know HELLO or RESP3.
    #[error("the server does not speak RESP3 (Redis 6.0 or Valkey is needed): {0}")]
    NoProto(String),
    /// The link is usable, but the server will not tell it of changes.
    #[error("the server refuses CLIENT TRACKING: {0}")]
    TrackingRefused(String),
    /// The server is reading its data from disk.
    #[error("the server is loading its data set")]
    Loading,
    /// The server has no room for another connection.
    #[error("the server has reached its maxclients")]
    MaxClients,
    /// The server runs a script, and selects no database meanwhile.
    #[error("the server is busy: {0}")]
    Busy(String),
    /// The user may not select its database.
    #[error("the server denies this user: {0}")]
    Denied(String),
    /// Anything else; says which command met it.
    #[error("{0}")]
    Other(String),
}

/// A command whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Hello,
    Auth,
    Select,
    Tracking,
    /// SETNAME, SETINFO: for the server's CLIENT LIST; refusal changes nothing.
    Label,
    /// CLIENT ID; a server that does not say it is used all the same.
    Id,
    Ping,
}

/// The conversation of one link. See the module's text.
pub struct Handshake {
    /// Bytes of the present step.
    step: BytesMut,
    /// Bytes of the step after it; empty in the last.
    next: BytesMut,
    /// Replies of the present step still to come, and those of the next.
    awaited: VecDeque<Asked>,
    awaited_next: VecDeque<Asked>,
    server: Option<ServerInfo>,
    id: i64,
}

/// The bytes carry the password: they are not shown.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("awaited", &self.awaited)
            .field("awaited_next", &self.awaited_next)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// Writes down what will be said.
    pub fn new(options: &Options<'_>) -> Self {
        let mut first = Commands::default();
        greet(&mut first, options);
        let mut second = Commands::default();
        settle(&mut second, options);
        let mut handshake = Self {
            step: first.bytes,
            next: second.bytes,
            awaited: first.asked,
            awaited_next: second.asked,
            server: None,
            id: 0,
        };
        if handshake.awaited.is_empty() {
            handshake.advance();
        }
        handshake
    }

    /// Appends the commands of the present step to `out`.
    pub fn request(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.step);
    }

    /// Takes one complete frame from the server.
    ///
    /// Pushes are skipped: an invalidation before [`Progress::Ready`] concerns nothing, because
    /// nothing may be cached under a link that is not ready.
    pub fn reply(&mut self, frame: &[u8]) -> Result<Progress, HandshakeError> {
        if frame.first() == Some(&b'>') {
            return Ok(Progress::Wait);
        }
        let Some(asked) = self.awaited.pop_front() else {
            return Err(HandshakeError::Other("a reply came that nothing asked for".to_owned()));
        };
        match error_text(frame) {
            Some(text) => refused(asked, &text)?,
            None => self.accepted(asked, frame)?,
        }
        if !self.awaited.is_empty() {
            return Ok(Progress::Wait);
        }
        if self.awaited_next.is_empty() {
            return Ok(Progress::Ready);
        }
        self.advance();
        Ok(Progress::Write)
    }

    /// What the server said of itself; nothing on a RESP2 link, which does not ask.
    pub fn server(&self) -> Option<&ServerInfo> {
        self.server.as_ref()
    }

    /// The server's number of this connection; 0 if it was not asked or did not say.
    pub const fn id(&self) -> i64 {
        self.id
    }

    fn advance(&mut self) {
        self.step = std::mem::take(&mut self.next);
        self.awaited = std::mem::take(&mut self.awaited_next);
    }

    fn accepted(&mut self, asked: Asked, frame: &[u8]) -> Result<(), HandshakeError> {
        let fits = match asked {
            Asked::Hello => {
                self.server = server_info(frame);
                self.server.as_ref().is_some_and(|info| info.proto == 3)
            }
            Asked::Auth | Asked::Select | Asked::Tracking => frame == b"+OK\r\n",
            Asked::Label => true,
            Asked::Id => {
                self.id = reply::integer(frame).unwrap_or(0);
                true
            }
            Asked::Ping => frame == b"+PONG\r\n",
        };
        if fits {
            return Ok(());
        }
        let shown = frame.get(..frame.len().min(64)).unwrap_or_default().escape_ascii();
        let text = format!("{}: the server answered \"{shown}\"; is it Redis?", asked.name());
        Err(HandshakeError::Other(text))
    }
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO 3",
            Self::Auth => "AUTH",
            Self::Select => "SELECT",
            Self::Tracking => "CLIENT TRACKING",
            Self::Label => "CLIENT SETNAME",
            Self::Id => "CLIENT ID",
            Self::Ping => "PING",
        }
    }
}

/// Commands of one step, and the replies they will have.
#[derive(Default)]
struct Commands {
    bytes: BytesMut,
    asked: VecDeque<Asked>,
}

impl Commands {
    fn push(&mut self, asked: Asked, words: &[&[u8]]) {
        write::array(&mut self.bytes, words.len());
        for word in words {
            write::bulk(&mut self.bytes, word);
        }
        self.asked.push_back(asked);
    }
}

/// Step 1: who we are and which RESP we speak.
fn greet(out: &mut Commands, options: &Options<'_>) {
    let password = options.password.unwrap_or_default();
    let known = options.username.is_some() || options.password.is_some();
    match (options.proto, options.username) {
        (Proto::Resp3, username) if known => {
            let username = username.unwrap_or(b"default");
            out.push(Asked::Hello, &[b"HELLO", b"3", b"AUTH", username, password]);
        }
        (Proto::Resp3, _) => out.push(Asked::Hello, &[b"HELLO", b"3"]),
        (Proto::Resp2, Some(username)) => {
            out.push(Asked::Auth, &[b"AUTH", username, password]);
        }
        // One argument: servers before 6.0 know no users.
        (Proto::Resp2, None) if known => out.push(Asked::Auth, &[b"AUTH", password]),
        (Proto::Resp2, None) => {}
    }
}

/// Step 2: everything that needs no answer to go on. PING is last, because HELLO and SELECT are
/// answered by a server that is still loading.
fn settle(out: &mut Commands, options: &Options<'_>) {
    if options.database != 0 {
        let mut digits = itoa::Buffer::new();
        out.push(Asked::Select, &[b"SELECT", digits.format(options.database).as_bytes()]);
    }
    if let Some(prefixes) = options.tracking {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST"];
        for prefix in prefixes {
            words.extend([&b"PREFIX"[..], prefix]);
        }
        out.push(Asked::Tracking, &words);
    }
    if let Some(name) = options.name {
        out.push(Asked::Label, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
    }
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    out.push(Asked::Label, &[b"CLIENT", b"SETINFO", b"lib-name", b"nearside"]);
    out.push(Asked::Label, &[b"CLIENT", b"SETINFO", b"lib-ver", version]);
    if options.asks_id {
        out.push(Asked::Id, &[b"CLIENT", b"ID"]);
    }
    out.push(Asked::Ping, &[b"PING"]);
}

/// What an error in place of the reply to `asked` means. `Ok`: nothing that matters here.
fn refused(asked: Asked, text: &str) -> Result<(), HandshakeError> {
    use HandshakeError as E;
    let kind = text.split(' ').next().unwrap_or_default();
    // Sent on accept, before any command was read; the socket is closed behind it.
    if text.starts_with("ERR max number of clients") {
        return Err(E::MaxClients);
    }
    if kind == "DENIED" {
        return Err(E::Other(text.to_owned()));
    }
    let text_owned = || text.to_owned();
    match (asked, kind) {
        (Asked::Label | Asked::Id, _) => Ok(()),
        (_, "NOAUTH") => Err(E::NoAuth),
        (_, "LOADING") => Err(E::Loading),
        (Asked::Hello | Asked::Select, "BUSY") => Err(E::Busy(text_owned())),
        (_, "WRONGPASS") => Err(E::WrongPassword(text_owned())),
        (Asked::Hello, _) if kind == "NOPROTO" || text.contains("unknown command") => {
            Err(E::NoProto(text_owned()))
        }
        // A password that the server does not need: HELLO takes it silently, so this must too.
        (Asked::Auth, _)
            if text.contains("without any password") || text.contains("no password is set") =>
        {
            Ok(())
        }
        (Asked::Auth, _) => Err(E::WrongPassword(text_owned())),
        (Asked::Tracking, _) => Err(E::TrackingRefused(text_owned())),
        // The server is there and let us in. That it runs a script (BUSY), has lost its master
        // (MASTERDOWN) or forbids this user PING, is for each client to hear in its own words.
        (Asked::Ping, _) => Ok(()),
        (Asked::Select, "NOPERM") => Err(E::Denied(text_owned())),
        (Asked::Hello | Asked::Select, _) => {
            Err(E::Other(format!("the server refuses {}: {text}", asked.name())))
        }
    }
}

/// The text of an error frame.
fn error_text(frame: &[u8]) -> Option<String> {
    let text = match frame.first() {
        Some(b'-') => frame.get(1..)?.strip_suffix(b"\r\n")?,
        Some(b'!') => {
            let line = memchr::memchr(b'\n', frame)?;
            frame.get(line + 1..)?.strip_suffix(b"\r\n")?
        }
        _ => return None,
    };
    Some(String::from_utf8_lossy(text).into_owned())
}

fn server_info(frame: &[u8]) -> Option<ServerInfo> {
    if frame.first() != Some(&b'%') {
        return None;
    }
    let mut info = ServerInfo::default();
    let mut elements = reply::elements(frame);
    while let (Some(name), Some(value)) = (elements.next(), elements.next()) {
        let text = || reply::bulk(value).map(|text| String::from_utf8_lossy(text).into_owned());
        match reply::bulk(name)? {
            b"server" => info.server = text()?,
            b"version" => info.version = text()?,
            b"proto" => info.proto = u8::try_from(reply::integer(value)?).ok()?,
            b"id" => info.id = reply::integer(value)?,
            b"mode" => info.mode = text()?,
            b"role" => info.role = text()?,
            _ => {}
        }
    }
    Some(info)
}

#[cfg(test)]
mod tests;
