//! A job's own connection to upstream: requests are written down, sent together, and answered in
//! order.
//!
//! It speaks RESP2, whose replies every server has, and is in one database at a time. Whatever
//! goes wrong on it ends the job: what was sent has an unknown outcome and is never sent again.

use crate::net::dialer::{Dialer, OpenError};
use crate::net::stream::Stream;
use crate::net::switch::Entry;
use crate::wire::handshake::Options;
use crate::wire::number::parse_i64;
use crate::wire::reply::{self, Malformed, Scan};
use crate::wire::write::{self, Proto};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

/// Buckets of the keyspace that one page looks at: a server is held up for less than a
/// millisecond.
const PAGE: &[u8] = b"500";

/// Where a SCAN begins, and what its last page brings.
const START: &[u8] = b"0";

/// Why a connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// There is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It broke.
    #[error("the connection to upstream broke: {0}")]
    Io(#[from] io::Error),
    /// What it sends is not RESP.
    #[error("upstream does not speak RESP: {0}")]
    Malformed(#[from] Malformed),
    /// An operator has the links to upstream closed.
    #[error("an operator has the links to upstream closed")]
    Closed,
    /// The number that was to come back behind the answers has not.
    #[error("upstream's answers are not in the order of the requests")]
    Disordered,
    /// No answer in time.
    #[error("upstream did not answer within {0:?}")]
    Silent(Duration),
    /// It does not let this user do that, or cannot.
    #[error("upstream answers {command} with \"{answer}\"")]
    Refused {
        /// What was asked.
        command: &'static str,
        /// What it said.
        answer: String,
    },
}

impl LineError {
    /// An answer that `command` should not have.
    pub fn refused(command: &'static str, answer: &[u8]) -> Self {
        let shown = answer.get(..answer.len().min(200)).unwrap_or_default().trim_ascii();
        let shown = shown.strip_prefix(b"-").unwrap_or(shown);
        Self::Refused { command, answer: shown.escape_ascii().to_string() }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Line {
    stream: Stream,
    out: BytesMut,
    input: BytesMut,
    scan: Scan,
    /// Requests written down.
    asked: usize,
    timeout: Duration,
    home: u32,
    id: i64,
    entry: Entry,
}

/// A page of SCAN.
#[derive(Debug)]
pub struct Page {
    /// Keys as upstream has them.
    pub keys: Vec<Vec<u8>>,
    /// Where the next page is; `None` after the last.
    pub next: Option<Vec<u8>>,
}

impl Page {
    /// How much of the keyspace has been looked at, as a fraction of 2^64: the servers' cursors
    /// count with their highest bit first.
    pub fn share(&self) -> u64 {
        let cursor = self.next.as_deref().and_then(|cursor| std::str::from_utf8(cursor).ok());
        cursor.and_then(|cursor| cursor.parse::<u64>().ok()).map_or(u64::MAX, u64::reverse_bits)
    }
}

impl Line {
    /// Opens one, in the database of the configuration.
    pub async fn open(dialer: &Dialer, timeout: Duration) -> Result<Self, LineError> {
        Self::open_as(dialer, timeout, false).await
    }

    /// The same; it ends abruptly: what was not sent by then never is. The server says its number.
    pub async fn open_abrupt(dialer: &Dialer, timeout: Duration) -> Result<Self, LineError> {
        let line = Self::open_as(dialer, timeout, true).await?;
        line.stream.reset_at_end()?;
        Ok(line)
    }

    async fn open_as(dialer: &Dialer, timeout: Duration, asks_id: bool) -> Result<Self, LineError> {
        let options = Options {
            proto: Proto::Resp2,
            username: dialer.username(),
            password: dialer.password(),
            database: dialer.target.database,
            name: Some(&dialer.name),
            tracking: None,
            asks_id,
        };
        let entry = dialer.switch.follow();
        let opened = dialer.open(&options).await?;
        Ok(Self {
            stream: opened.stream,
            id: opened.id,
            out: BytesMut::new(),
            input: BytesMut::new(),
            scan: Scan::default(),
            asked: 0,
            timeout,
            home: dialer.target.database,
            entry,
        })
    }

    /// Writes a request down.
    pub fn write(&mut self, words: &[&[u8]]) {
        write::array(&mut self.out, words.len());
        for word in words {
            write::bulk(&mut self.out, word);
        }
        self.asked += 1;
    }

    /// Sends what is written down and shows `take` each answer, in order. Reads while it writes:
    /// neither side waits for the other to read.
    pub async fn exchange(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), LineError> {
        if self.entry.is_over() {
            return Err(LineError::Closed);
        }
        let Self { stream, out, input, scan, asked, timeout, .. } = self;
        let (mut from, mut to) = split(stream);
        let sending = async {
            to.write_all_buf(out).await?;
            Ok(to.flush().await?)
        };
        let reading = async {
            while *asked > 0 {
                while let Some(length) = scan.next(input)? {
                    take(input.get(..length).unwrap_or_default());
                    input.advance(length);
                    *asked -= 1;
                    if *asked == 0 {
                        return Ok(());
                    }
                }
                if from.read_buf(input).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Ok::<(), LineError>(())
        };
        let both = async { tokio::try_join!(sending, reading) };
        tokio::time::timeout(*timeout, both)
            .await
            .map_err(|_| LineError::Silent(*timeout))?
            .map(|_| ())
    }

    /// One request, one answer.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, LineError> {
        self.write(words);
        let mut answer = Vec::new();
        self.exchange(|bytes| answer = bytes.to_vec()).await?;
        Ok(answer)
    }

    /// From here on in this database.
    pub async fn select(&mut self, database: u32) -> Result<(), LineError> {
        let answer = self.ask(&[b"SELECT", database.to_string().as_bytes()]).await?;
        if answer == b"+OK\r\n" { Ok(()) } else { Err(LineError::refused("SELECT", &answer)) }
    }

    /// True once an operator has the links to upstream closed.
    pub fn is_over(&self) -> bool {
        self.entry.is_over()
    }

    /// The database of the configuration.
    pub const fn home(&self) -> u32 {
        self.home
    }

    /// The server's number of it; 0 if it was not asked or did not say.
    pub const fn id(&self) -> i64 {
        self.id
    }

    /// True if something was asked, and the answer has not come.
    pub const fn is_owed(&self) -> bool {
        self.asked > 0
    }

    /// The databases that have keys, and how many each.
    pub async fn databases(&mut self) -> Result<Vec<(u32, u64)>, LineError> {
        let answer = self.ask(&[b"INFO", b"keyspace"]).await?;
        let refused = || LineError::refused("INFO", &answer);
        let text = reply::bulk(&answer).ok_or_else(refused)?;
        let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        if !lines.next().is_some_and(|title| title.eq_ignore_ascii_case(b"# keyspace")) {
            return Err(refused());
        }
        Ok(lines.filter_map(database).collect())
    }

    /// A page of the keys that match `pattern`. Some may come twice.
    pub async fn page(&mut self, cursor: &[u8], pattern: &[u8]) -> Result<Page, LineError> {
        let answer = self.ask(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", PAGE]).await?;
        let refused = || LineError::refused("SCAN", &answer);
        let mut parts = reply::elements(&answer);
        let next = parts.next().and_then(reply::bulk).ok_or_else(refused)?;
        let list = parts.next().filter(|list| list.first() == Some(&b'*')).ok_or_else(refused)?;
        let keys = reply::elements(list).filter_map(reply::bulk).map(<[u8]>::to_vec).collect();
        Ok(Page { keys, next: (next != START).then(|| next.to_vec()) })
    }

    /// The cursor of the first page.
    pub fn start() -> Vec<u8> {
        START.to_vec()
    }
}

/// `db0:keys=12,expires=0,avg_ttl=0`.
fn database(line: &[u8]) -> Option<(u32, u64)> {
    let (name, rest) = std::str::from_utf8(line).ok()?.strip_prefix("db")?.split_once(':')?;
    let keys = rest.split(',').find_map(|part| part.strip_prefix("keys="))?;
    let keys = parse_i64(keys.as_bytes()).and_then(|keys| u64::try_from(keys).ok())?;
    Some((name.parse().ok()?, keys))
}

#[cfg(test)]
mod tests {
    use super::{Page, database};

    #[test]
    fn databases_are_read() {
        assert_eq!(database(b"db0:keys=12,expires=1,avg_ttl=0"), Some((0, 12)));
        assert_eq!(database(b"db15:keys=1,expires=0,avg_ttl=0,subexpiry=0"), Some((15, 1)));
        assert_eq!(database(b""), None);
    }

    /// A table of eight buckets is walked 0 4 2 6 1 5 3 7.
    #[test]
    fn a_cursor_tells_how_far_it_is() {
        let share = |cursor: &str| {
            let next = (cursor != "0").then(|| cursor.as_bytes().to_vec());
            Page { keys: Vec::new(), next }.share()
        };
        let shares = ["4", "2", "6", "1", "5", "3", "7"].map(share);
        let eighths = [1, 2, 3, 4, 5, 6, 7].map(|eighth| eighth << 61);
        assert_eq!(shares, eighths);
        assert_eq!(share("0"), u64::MAX);
    }
}
