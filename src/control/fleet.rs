//! Writes the key version that a fleet shares, for an operator who switches it here
//! (`keys.version_source = "upstream"`). In: the version. Out: it stands upstream, whence every
//! instance takes it, this one too; or an error, and nothing has changed.

use super::jobs::line::{Line, LineError};
use crate::net::dialer::Dialer;
use crate::wire::reply;
use std::sync::Arc;
use std::time::Duration;

/// Where the shared version stands.
#[derive(Debug)]
pub struct Fleet {
    /// Opens a connection.
    pub dialer: Arc<Dialer>,
    /// `keys.version_key`.
    pub key: String,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Why it was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// Another one stands there than was expected.
    #[error("the fleet's version is `{0}`")]
    NotExpected(String),
    /// Nobody knows, or upstream would not.
    #[error(transparent)]
    Line(#[from] LineError),
}

impl Fleet {
    /// Writes it, if `expected` or anything at all stands there.
    pub async fn write(&self, version: &str, expected: Option<&str>) -> Result<(), Unwritten> {
        let mut line = Line::open(&self.dialer, self.timeout).await?;
        // The tracking link reads there.
        line.select(0).await?;
        let Some(expected) = expected else {
            let answer = line.ask(&[b"SET", self.key.as_bytes(), version.as_bytes()]).await?;
            return accepted(&answer);
        };
        line.ask(&[b"WATCH", self.key.as_bytes()]).await?;
        let answer = line.ask(&[b"GET", self.key.as_bytes()]).await?;
        let stands = reply::bulk(&answer).map(String::from_utf8_lossy);
        if stands.as_deref() != Some(expected) {
            return Err(Unwritten::NotExpected(stands.unwrap_or_default().into_owned()));
        }
        line.ask(&[b"MULTI"]).await?;
        line.ask(&[b"SET", self.key.as_bytes(), version.as_bytes()]).await?;
        let answer = line.ask(&[b"EXEC"]).await?;
        if reply::is_null(&answer) {
            return Err(Unwritten::NotExpected("another one since".to_owned()));
        }
        accepted(reply::elements(&answer).next().unwrap_or(&answer))
    }
}

fn accepted(answer: &[u8]) -> Result<(), Unwritten> {
    let is_ok = answer == b"+OK\r\n";
    if is_ok { Ok(()) } else { Err(LineError::refused("SET", answer).into()) }
}
