//! The thread that writes the log: one batch after the other, each with all that has come since the
//! one before it. So many clients share one sync, and none waits for more than two.
//!
//! In: what the queue has for it. Out: the queue is told what came of it. A log that failed is
//! written to no more; when upstream has everything it is begun anew, but for one that could not be
//! brought to the disk: nobody knows what such a disk holds (T26).

use crate::behind::folder::Folder;
use crate::behind::log::Log;
use crate::behind::queue::{Job, Queue};
use std::time::Duration;

/// How long after it could not be begun anew that is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes the log until nothing more will come.
pub fn run<F: Folder>(queue: &Queue, mut log: Log<F>) {
    loop {
        match queue.next_job() {
            Job::Append(writes, done) => match log.append(&writes, done) {
                Ok(()) => queue.log_has(writes.last().map_or(0, |(number, _)| *number), done),
                Err(failed) => {
                    tracing::error!(
                        event = "write_behind_failed",
                        error = %failed,
                        "the log of write_behind failed: writes are made upstream before they are \
                         acknowledged"
                    );
                    queue.log_failed(&failed);
                }
            },
            Job::Reset => match log.reset() {
                Ok(()) if queue.log_is_new() => tracing::warn!(
                    event = "write_behind_restored",
                    "the log of write_behind can be written again"
                ),
                Ok(()) => {}
                Err(failed) => {
                    tracing::error!(
                        error = %failed,
                        "the log of write_behind cannot be begun anew: a process that is started \
                         with it may make its writes again"
                    );
                    queue.log_is_lost(&failed);
                    std::thread::sleep(AGAIN);
                }
            },
            Job::End => return,
        }
    }
}
