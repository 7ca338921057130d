//! What was written without upstream is made there: a key at a time what it is in memory, or gone,
//! in a transaction of its own, a page of keys on its way at a time.
//!
//! In: the store that nobody writes to any more. Out: how many keys were made, and how many were
//! refused. It may happen twice (a connection that breaks in the middle begins it anew), which
//! changes nothing: each key is set as a whole, and ends at a time that does not move.

use crate::control::jobs::line::{Line, LineError};
use crate::embedded::{Embedded, Left};
use crate::net::dialer::Dialer;
use crate::wire::reply;
use std::time::Duration;

/// Keys, and bytes of them, on their way upstream at a time.
const PAGE_KEYS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

/// Errors of a server that will take writes later, or is not the one that takes them.
const NOT_NOW: [&str; 5] = ["LOADING", "READONLY", "MASTERDOWN", "BUSY ", "CLUSTERDOWN"];

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Keys that upstream has.
    pub(super) made: u64,
    /// Keys that it refused.
    pub(super) lost: u64,
    /// What it said first.
    pub(super) first_error: Option<String>,
}

impl Replayed {
    fn lose(&mut self, keys: usize, error: String) {
        self.lost += u64::try_from(keys).unwrap_or(u64::MAX);
        self.first_error.get_or_insert(error);
    }
}

/// Why it did not come to an end: nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    /// There is no connection any more.
    #[error(transparent)]
    Line(#[from] LineError),
    /// It does not take writes now.
    #[error("it answers \"{0}\"")]
    NotNow(String),
    /// The store's thread has ended.
    #[error("the store has ended")]
    NoStore,
}

/// Makes upstream what was written.
pub(super) async fn run(
    store: &Embedded,
    dialer: &Dialer,
    timeout: Duration,
) -> Result<Replayed, Stopped> {
    let mut line = Line::open(dialer, timeout).await?;
    let (mut replayed, mut next, mut database) = (Replayed::default(), Some(0), line.home());
    while let Some(from) = next {
        let page = store.page(from, PAGE_KEYS, PAGE_BYTES).await.ok_or(Stopped::NoStore)?;
        next = page.next;
        for keys in page.keys.chunk_by(|(one, _), (other, _)| one == other) {
            let wanted = keys.first().map_or(database, |(db, _)| *db);
            if wanted != database {
                match line.select(wanted).await {
                    Ok(()) => database = wanted,
                    Err(refused @ LineError::Refused { .. }) => {
                        replayed.lose(keys.len(), refused.to_string());
                        continue;
                    }
                    Err(broken) => return Err(broken.into()),
                }
            }
            send(keys, &mut line, &mut replayed).await?;
        }
    }
    Ok(replayed)
}

/// Some keys of one database: what was refused of each is known by its EXEC.
async fn send(keys: &[Left], line: &mut Line, replayed: &mut Replayed) -> Result<(), Stopped> {
    // Of each answer, whether it is the last of a key.
    let mut ends = Vec::new();
    for (_, requests) in keys {
        line.write(&[b"MULTI"]);
        for request in requests {
            let words: Vec<&[u8]> = request.iter().map(|word| &word[..]).collect();
            line.write(&words);
        }
        line.write(&[b"EXEC"]);
        ends.extend(std::iter::repeat_n(false, requests.len() + 1));
        ends.push(true);
    }
    let (mut ends, mut error, mut not_now) = (ends.into_iter(), None, None);
    line.exchange(|answer| {
        error = error.take().or_else(|| refusal(answer));
        if ends.next() != Some(true) {
            return;
        }
        match error.take() {
            None => replayed.made += 1,
            Some(text) if NOT_NOW.iter().any(|word| text.starts_with(word)) => {
                not_now = Some(text);
            }
            Some(text) => replayed.lose(1, text),
        }
    })
    .await?;
    not_now.map_or(Ok(()), |text| Err(Stopped::NotNow(text)))
}

/// The error that an answer is, or that one of an EXEC's answers is.
fn refusal(answer: &[u8]) -> Option<String> {
    let is_error = |bytes: &[u8]| bytes.first() == Some(&b'-');
    let error = match answer.first() {
        Some(b'-') => Some(answer),
        Some(b'*') => reply::elements(answer).find(|element| is_error(element)),
        _ => None,
    };
    let words = |error: &[u8]| String::from_utf8_lossy(error).trim_end().to_owned();
    error.and_then(|error| error.strip_prefix(b"-")).map(words)
}
