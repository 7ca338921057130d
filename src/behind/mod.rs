//! Write-behind: writes that are acknowledged before upstream has them, where a rule allows it.
//!
//! ```text
//!   data/behind --push--> queue --> writer --> log --> folder        acknowledged, as `ack` says
//!                           |<-------- in the log ----'
//!                           `--> control/behind ==> upstream         in their order
//! ```
//!
//! ```text
//!   record   one write, and how it stands in the log     folder   the files, or a test's
//!   log      what outlives the process                   queue    who waits for what
//!   writer   the thread that the log is written by       pending  what is pending
//!   told     who waits for an acknowledgement            news     how far writes have come
//! ```
//!
//! In: writes that say what their key is to be (`record`). Out: the same, to be made upstream;
//! whoever asks for a key of which one is pending is told what it will be, or waits
//! (`data/behind`).
//!
//! Invariant: what was acknowledged is upstream, or here, and in the log where `ack` says so.

pub mod folder;
pub mod log;
pub mod news;
pub mod pending;
pub mod queue;
pub mod record;
pub mod told;
pub mod writer;

use self::folder::Disk;
use self::log::Log;
use self::queue::{Durability, Queue};
use crate::config::{Ack, WriteBehind};
use crate::units::clock::Clock;
use std::path::Path;
use std::sync::Arc;

/// Where writes wait, and their log if they have one.
#[derive(Debug)]
pub struct Opened {
    /// Where they wait.
    pub queue: Arc<Queue>,
    /// What [`writer::run`] writes.
    pub log: Option<Log<Disk>>,
}

/// Why there is no write-behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is no good.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// What is in it is not.
    #[error("write_behind.directory: {0}")]
    Log(#[from] log::Error),
}

/// What `[write_behind]` asks for; `None`: nothing. `hash`: the cache's of a client's key.
pub fn open(
    settings: &WriteBehind,
    clock: &Clock,
    hash: impl Fn(&[u8]) -> u64,
) -> Result<Option<Opened>, Error> {
    match (settings.ack, &settings.directory) {
        (Ack::Memory, _) if settings.accept_data_loss => {
            let queue = Queue::new(Durability::Memory, (Vec::new(), 0), clock.clone(), hash);
            Ok(Some(Opened { queue: Arc::new(queue), log: None }))
        }
        (Ack::Memory, _) | (_, None) => Ok(None),
        (ack, Some(directory)) => with_log(ack == Ack::Fsync, directory, clock, hash).map(Some),
    }
}

fn with_log(
    syncs: bool,
    directory: &Path,
    clock: &Clock,
    hash: impl Fn(&[u8]) -> u64,
) -> Result<Opened, Error> {
    let (log, found) = Log::open(Disk::open(directory)?, syncs)?;
    if found.torn > 0 {
        tracing::warn!(
            event = "write_behind_torn",
            bytes = found.torn,
            "the log of write_behind ends within a record, which was never acknowledged"
        );
    }
    if !found.writes.is_empty() {
        tracing::info!(
            event = "write_behind_recovered",
            writes = found.writes.len(),
            "writes that upstream may not have are made there"
        );
    }
    let began = (found.writes, found.last);
    let queue = Arc::new(Queue::new(Durability::Logged, began, clock.clone(), hash));
    Ok(Opened { queue, log: Some(log) })
}

#[cfg(test)]
mod tests;
