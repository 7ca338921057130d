//! The connection by which writes that were behind are made upstream, and the end of the one before
//! it.
//!
//! In: a connection is wanted, or given up. Out: one on which a batch may be sent again.
//!
//! Invariant: what was sent on a connection that is given up before its answers came reaches no
//! server behind what is sent on the next, where it would undo writes that came meanwhile. What is
//! still here is never sent (the socket is reset, not closed). What is under way, or in the hands
//! of the server, comes to nothing when that is asked to end the connection (CLIENT KILL), if it
//! lets this user do so. The number that it is asked by is of one server in one life of it: with
//! another it would be a stranger's.

use crate::control::jobs::line::{Line, LineError};
use crate::net::dialer::Dialer;
use crate::wire::reply;
use std::time::Duration;

/// A connection, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// Its number; 0: the server did not say.
    id: i64,
    /// What names this life of this server; empty: it did not say.
    run: Vec<u8>,
}

/// A connection, and the database that it is in.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) line: Line,
    pub(super) database: u32,
    known: Known,
}

/// The connection in use.
#[derive(Debug, Default)]
pub(super) struct Links {
    open: Option<Link>,
    /// One that was given up with answers out.
    doubtful: Option<Known>,
}

impl Links {
    /// The connection to send on.
    pub(super) async fn open(
        &mut self,
        dialer: &Dialer,
        timeout: Duration,
    ) -> Result<&mut Link, LineError> {
        if self.open.as_ref().is_some_and(|link| link.line.is_over()) {
            self.give_up();
        }
        if let Some(link) = self.open.take() {
            return Ok(self.open.insert(link));
        }
        let mut link = Link::open(dialer, timeout).await?;
        // (In this process nothing is under way.)
        if dialer.embedded.is_none() {
            link.end(self.doubtful.as_ref()).await?;
        }
        self.doubtful = None;
        Ok(self.open.insert(link))
    }

    /// It is used no more.
    pub(super) fn give_up(&mut self) {
        if let Some(link) = self.open.take()
            && link.line.is_owed()
        {
            self.doubtful = Some(link.known);
        }
    }
}

impl Link {
    async fn open(dialer: &Dialer, timeout: Duration) -> Result<Self, LineError> {
        let mut line = Line::open_abrupt(dialer, timeout).await?;
        let told = line.ask(&[b"INFO", b"server"]).await?;
        let run = reply::bulk(&told).and_then(run_id).unwrap_or_default().to_vec();
        let known = Known { id: line.id(), run };
        Ok(Self { database: line.home(), line, known })
    }

    /// Has the server end that connection. Where there is none, it is asked to end this one, which
    /// it does not: so it is known in time whether it may be asked.
    async fn end(&mut self, doubtful: Option<&Known>) -> Result<(), LineError> {
        let is_known = |known: &Known| known.id != 0 && !known.run.is_empty();
        // That of another life ended with it.
        let ended = doubtful.filter(|old| !is_known(old) || old.run == self.known.run);
        let target = ended.unwrap_or(&self.known);
        let trouble = if is_known(target) && is_known(&self.known) {
            let id = target.id.to_string();
            let answer = self.line.ask(&[b"CLIENT", b"KILL", b"ID", id.as_bytes()]).await?;
            let is_refused = answer.first() != Some(&b':');
            is_refused.then(|| answer.trim_ascii().escape_ascii().to_string())
        } else {
            Some("it does not say which connection this is (CLIENT ID, INFO server)".to_owned())
        };
        if let Some(trouble) = trouble {
            tracing::warn!(
                event = "write_behind_unfenced",
                answer = trouble,
                "upstream cannot be asked to end a connection that broke: what it still held of \
                 writes that were behind may undo others (its user needs +client|kill \
                 +client|id +info)"
            );
        }
        Ok(())
    }
}

/// What INFO calls this life of the server.
fn run_id(info: &[u8]) -> Option<&[u8]> {
    let mut lines = info.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.find_map(|line| line.strip_prefix(b"run_id:"))
}

#[cfg(test)]
mod tests {
    use super::run_id;

    #[test]
    fn a_life_has_a_name() {
        let info = b"# Server\r\nredis_version:7.0.15\r\nrun_id:0123abc\r\ntcp_port:6379\r\n";
        assert_eq!(run_id(info), Some(&b"0123abc"[..]));
        assert_eq!(run_id(b"# Server\r\n"), None);
    }
}
