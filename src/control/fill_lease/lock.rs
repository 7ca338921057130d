//! The lock upstream behind a fill lease: a key beside the key, whose value is the lease's token.
//!
//! ```text
//!   look    GET key, PTTL lock  ->  a value | held | MULTI, GET key, SET lock token NX PX, EXEC
//!   store   WATCH lock key, GET lock, EXISTS key  ->  MULTI, SET key, DEL lock, EXEC | lost
//!   free    WATCH lock, GET lock                  ->  MULTI, DEL lock, EXEC          | lost
//! ```
//!
//! WATCH and MULTI, not a script: every upstream has them, the embedded one too, and a user who may
//! not run scripts. Each takes a connection for itself ([`Lines`]). What only asks may be asked
//! again on another one; what changes something is sent once, and its outcome is unknown if the
//! connection breaks.
//!
//! Invariant: a value is stored only where the lock has held this token, and the key was missing,
//! from WATCH to EXEC.

use crate::control::jobs::line::{Line, LineError};
use crate::net::dialer::Dialer;
use crate::wire::reply;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections at most.
const LINES_MAX: usize = 16;

/// What upstream says of a key and its lock.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    /// There is a value.
    Value(Vec<u8>),
    /// The lock was free, and has this lease's token now.
    Granted,
    /// Another one has it for so long, if that is known.
    Held(Option<Duration>),
}

/// Why it could not be done: a whole error, without its `-`.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl From<LineError> for Refused {
    fn from(error: LineError) -> Self {
        Self(format!("ERR proxy: no fill lease: {error}"))
    }
}

/// A key and its lock, as upstream names them.
#[derive(Clone, Copy, Debug)]
pub struct Place<'k> {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: &'k [u8],
    /// The lock beside it.
    pub lock: &'k [u8],
}

/// Connections for locks, each of one use at a time.
#[derive(Debug)]
pub struct Lines {
    /// Opens them.
    pub dialer: Arc<Dialer>,
    idle: Mutex<Vec<(u32, Line)>>,
    room: Semaphore,
}

impl Lines {
    /// None yet.
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, idle: Mutex::default(), room: Semaphore::new(LINES_MAX) }
    }

    /// The value, or the lock for `token`.
    pub async fn look(
        &self,
        place: &Place<'_>,
        (token, life): (&[u8], Duration),
        timeout: Duration,
    ) -> Result<Looked, Refused> {
        let _room = self.room.acquire().await;
        let questions: [&[&[u8]]; 2] = [&[b"GET", place.key], &[b"PTTL", place.lock]];
        let (line, answers) = self.ask(place.db, &questions, timeout).await?;
        let [value, left] = answers.as_slice() else { return Err(unfit(b"")) };
        let seen = read(value, left);
        if seen != Ok(Looked::Granted) {
            self.keep(place.db, line);
            return seen;
        }
        let millis = life.as_millis().to_string();
        let take: [&[&[u8]]; 4] = [
            &[b"MULTI"],
            &[b"GET", place.key],
            &[b"SET", place.lock, token, b"NX", b"PX", millis.as_bytes()],
            &[b"EXEC"],
        ];
        let (line, done) = self.change(line, &take).await?;
        self.keep(place.db, line);
        let mut done = reply::elements(&done);
        let (value, set) = (done.next().unwrap_or_default(), done.next().unwrap_or_default());
        let is_taken = set == b"+OK\r\n";
        let seen = read(value, b":-2\r\n");
        match seen {
            Ok(Looked::Granted) if is_taken => Ok(Looked::Granted),
            Ok(Looked::Granted) if reply::is_null(set) => Ok(Looked::Held(None)),
            Ok(Looked::Granted) => Err(unfit(set)),
            other => {
                // Somebody has stored it in between.
                if is_taken {
                    self.free_now(place, token, timeout).await?;
                }
                other
            }
        }
    }

    /// Stores the value under the lease of this token, and gives the lease back. False if the lease
    /// is lost.
    pub async fn store(
        &self,
        place: &Place<'_>,
        token: &[u8],
        (value, expiry): (&[u8], Option<Duration>),
        timeout: Duration,
    ) -> Result<bool, Refused> {
        let _room = self.room.acquire().await;
        let questions: [&[&[u8]]; 3] =
            [&[b"WATCH", place.lock, place.key], &[b"GET", place.lock], &[b"EXISTS", place.key]];
        let (line, answers) = self.ask(place.db, &questions, timeout).await?;
        let [watched, holder, exists] = answers.as_slice() else { return Err(unfit(b"")) };
        if watched != b"+OK\r\n" {
            return Err(unfit(watched));
        }
        let is_ours = holds(holder, token)?;
        let is_missing = reply::integer(exists).ok_or_else(|| unfit(exists))? == 0;
        if !is_ours {
            self.leave(place.db, line).await?;
            return Ok(false);
        }
        let millis = expiry.map(|expiry| expiry.as_millis().to_string()).unwrap_or_default();
        let mut set: Vec<&[u8]> = vec![b"SET", place.key, value];
        if expiry.is_some() {
            set.extend([b"PX".as_slice(), millis.as_bytes()]);
        }
        let give_back: &[&[u8]] = &[b"DEL", place.lock];
        // What somebody else has stored meanwhile is newer.
        let changes: Vec<&[&[u8]]> = if is_missing {
            vec![&[b"MULTI"], &set, give_back, &[b"EXEC"]]
        } else {
            vec![&[b"MULTI"], give_back, &[b"EXEC"]]
        };
        let (line, done) = self.change(line, &changes).await?;
        self.keep(place.db, line);
        if reply::is_null(&done) || !is_missing {
            return Ok(false);
        }
        match reply::elements(&done).next() {
            Some(b"+OK\r\n") => Ok(true),
            Some(other) => Err(unfit(other)),
            None => Err(unfit(&done)),
        }
    }

    /// Gives the lease of this token back. False if it was lost already.
    pub async fn free(
        &self,
        place: &Place<'_>,
        token: &[u8],
        timeout: Duration,
    ) -> Result<bool, Refused> {
        let _room = self.room.acquire().await;
        self.free_now(place, token, timeout).await
    }

    /// The same, of who has room already.
    async fn free_now(
        &self,
        place: &Place<'_>,
        token: &[u8],
        timeout: Duration,
    ) -> Result<bool, Refused> {
        let questions: [&[&[u8]]; 2] = [&[b"WATCH", place.lock], &[b"GET", place.lock]];
        let (line, answers) = self.ask(place.db, &questions, timeout).await?;
        let [watched, holder] = answers.as_slice() else { return Err(unfit(b"")) };
        if watched != b"+OK\r\n" {
            return Err(unfit(watched));
        }
        if !holds(holder, token)? {
            self.leave(place.db, line).await?;
            return Ok(false);
        }
        let changes: [&[&[u8]]; 3] = [&[b"MULTI"], &[b"DEL", place.lock], &[b"EXEC"]];
        let (line, done) = self.change(line, &changes).await?;
        self.keep(place.db, line);
        match done.first() {
            Some(b'-') => Err(unfit(&done)),
            _ => Ok(!reply::is_null(&done)),
        }
    }

    /// Asks what changes nothing: on an idle connection, or a new one if that has died.
    async fn ask(
        &self,
        db: u32,
        questions: &[&[&[u8]]],
        timeout: Duration,
    ) -> Result<(Line, Vec<Vec<u8>>), LineError> {
        while let Some(mut line) = self.idle(db) {
            match exchange(&mut line, questions).await {
                Ok(answers) => return Ok((line, answers)),
                Err(LineError::Io(_) | LineError::Closed) => {}
                Err(error) => return Err(error),
            }
        }
        let mut line = Line::open(&self.dialer, timeout).await?;
        if line.home() != db {
            line.select(db).await?;
        }
        let answers = exchange(&mut line, questions).await?;
        Ok((line, answers))
    }

    /// Sends what changes something; answers what EXEC says.
    async fn change(
        &self,
        mut line: Line,
        changes: &[&[&[u8]]],
    ) -> Result<(Line, Vec<u8>), Refused> {
        let done = exchange(&mut line, changes).await;
        let unknown = |error| Refused(format!("ERR proxy: outcome unknown: {error}"));
        let mut answers = done.map_err(unknown)?;
        Ok((line, answers.pop().unwrap_or_default()))
    }

    /// Nothing is to be changed: the connection watches no more.
    async fn leave(&self, db: u32, mut line: Line) -> Result<(), LineError> {
        line.ask(&[b"UNWATCH"]).await?;
        self.keep(db, line);
        Ok(())
    }

    /// Closes what an operator has closed and nobody uses.
    pub fn tidy(&self) {
        self.idle.lock().retain(|(_, line)| !line.is_over());
    }

    fn idle(&self, db: u32) -> Option<Line> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|(of, _)| *of == db)?;
        Some(idle.swap_remove(at).1)
    }

    /// For the next use.
    fn keep(&self, db: u32, line: Line) {
        let mut idle = self.idle.lock();
        if idle.len() >= LINES_MAX {
            idle.remove(0);
        }
        idle.push((db, line));
    }
}

async fn exchange(line: &mut Line, requests: &[&[&[u8]]]) -> Result<Vec<Vec<u8>>, LineError> {
    for words in requests {
        line.write(words);
    }
    let mut answers = Vec::with_capacity(requests.len());
    line.exchange(|answer| answers.push(answer.to_vec())).await?;
    Ok(answers)
}

/// What a key's value and its lock's remaining life say; `Granted` if both are missing.
fn read(value: &[u8], left: &[u8]) -> Result<Looked, Refused> {
    if let Some(value) = reply::bulk(value) {
        return Ok(Looked::Value(value.to_vec()));
    }
    if !reply::is_null(value) {
        return Err(unfit(value));
    }
    match reply::integer(left).ok_or_else(|| unfit(left))? {
        -2 => Ok(Looked::Granted),
        left => Ok(Looked::Held(u64::try_from(left).ok().map(Duration::from_millis))),
    }
}

/// True if the lock has this token.
fn holds(holder: &[u8], token: &[u8]) -> Result<bool, Refused> {
    match reply::bulk(holder) {
        Some(holder) => Ok(holder == token),
        None if reply::is_null(holder) => Ok(false),
        None => Err(unfit(holder)),
    }
}

/// An answer that is none: upstream's own error as it is.
fn unfit(answer: &[u8]) -> Refused {
    let text = String::from_utf8_lossy(answer.trim_ascii()).into_owned();
    Refused(match text.strip_prefix('-') {
        Some(error) => error.to_owned(),
        None => format!("ERR proxy: no fill lease: upstream answers \"{}\"", text.escape_debug()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Looked, Refused, holds, read};
    use std::time::Duration;

    #[test]
    fn a_value_counts_before_a_lock() {
        let value = Ok(Looked::Value(b"x".to_vec()));
        assert_eq!(read(b"$1\r\nx\r\n", b":500\r\n"), value);
        assert_eq!(read(b"$-1\r\n", b":-2\r\n"), Ok(Looked::Granted));
        let held = Ok(Looked::Held(Some(Duration::from_millis(500))));
        assert_eq!(read(b"$-1\r\n", b":500\r\n"), held);
        assert_eq!(read(b"$-1\r\n", b":-1\r\n"), Ok(Looked::Held(None)), "it never ends");
        let wrong = Err(Refused("WRONGTYPE Operation against".to_owned()));
        assert_eq!(read(b"-WRONGTYPE Operation against\r\n", b":-2\r\n"), wrong);
        assert!(read(b":1\r\n", b":-2\r\n").is_err());
    }

    #[test]
    fn only_its_own_token_is_a_holders() {
        assert_eq!(holds(b"$2\r\nab\r\n", b"ab"), Ok(true));
        assert_eq!(holds(b"$2\r\nab\r\n", b"abc"), Ok(false));
        assert_eq!(holds(b"$-1\r\n", b""), Ok(false));
        assert!(holds(b"-NOPERM no\r\n", b"ab").is_err());
    }
}
