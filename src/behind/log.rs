//! The log: writes that were acknowledged and upstream does not have yet, so that they outlive the
//! process, or the machine.
//!
//! ```text
//!   file     its salt, and a batch of no writes     numbered, no number twice; a new one begins
//!                                                   where one is long; a file goes when upstream
//!                                                   has all of it
//!   batch    'd', up to where upstream has everything, then some writes    appended as one, and
//!                                                                          on the disk if it syncs
//! ```
//!
//! In: writes, and up to where upstream has them. Out: at the start, those that it may not have.
//!
//! Invariants: a batch is appended only when the one before it is on the disk (where the log
//! syncs), and a file is begun only when the one before it is. So what is no record at the end of
//! the last file was never acknowledged, and is cut off; anywhere else it is damage, and nothing is
//! begun with it. After a failure nothing is appended any more before [`Log::reset`]. The file that
//! a reset begins says that upstream has everything, so what was removed then may come back.

use crate::behind::folder::Folder;
use crate::behind::record::{Record, Salt, Write};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// A file of this length is followed by another.
const FILE_MAX: u64 = 16 << 20;

/// One of this length is, where upstream has everything.
const FILE_SPENT: u64 = 1 << 20;

/// A log that is written to.
#[derive(Debug)]
pub struct Log<F> {
    folder: F,
    /// Whether a batch is on the disk when it was appended.
    syncs: bool,
    /// The file that is written to, and how long it is.
    number: u64,
    length: u64,
    salt: Salt,
    /// The last write that was appended.
    last: u64,
    /// Earlier files, each with the last write before its end. Some may not be there: beginning one
    /// may have failed, or removing it.
    files: VecDeque<(u64, u64)>,
}

/// What was found at the start.
#[derive(Debug, Default)]
pub struct Found {
    /// Writes that upstream may not have, in their order.
    pub writes: Vec<(u64, Write)>,
    /// The number of the last write there was.
    pub last: u64,
    /// Bytes at the end that are no record: what was being written when the process ended.
    pub torn: usize,
}

/// Why a log cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("the log of write_behind: {0}")]
    Io(#[from] io::Error),
    /// What was on the disk once is not what it was.
    #[error(
        "the log of write_behind is damaged: file {file}, at byte {at}. Writes that were \
         acknowledged stand behind it; to start without them move the file away"
    )]
    Damaged {
        /// The number of the file.
        file: u64,
        /// Where.
        at: usize,
    },
    /// A file is missing, say.
    #[error("the log of write_behind is damaged: the write behind number {after} is missing")]
    Gap {
        /// The last that is there.
        after: u64,
    },
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let (Failed::Write(error) | Failed::Sync(error)) = failed;
        Self::Io(error)
    }
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It could not be written: there is no room, say.
    #[error("it cannot be written: {0}")]
    Write(io::Error),
    /// What was written may not be on the disk, and the system will not say so twice.
    #[error("it cannot be brought to the disk: {0}")]
    Sync(io::Error),
}

impl<F: Folder> Log<F> {
    /// Reads what is there, and begins a new file behind it.
    pub fn open(mut folder: F, syncs: bool) -> Result<(Self, Found), Error> {
        let (mut found, mut done, mut files) = (Found::default(), 0, VecDeque::new());
        let mut writes = BTreeMap::new();
        let numbers = folder.list()?;
        for &file in &numbers {
            let bytes = Bytes::from(folder.read(file)?);
            let whole = bytes.len();
            let left = read(bytes, |record| {
                found.last = found.last.max(record.number());
                match record {
                    Record::Done(number) => done = done.max(number),
                    Record::Write(number, write) => drop(writes.insert(number, write)),
                }
            });
            let is_last = Some(&file) == numbers.last();
            let is_damage = !is_last || left.was_on_the_disk(syncs);
            if !left.bytes.is_empty() && is_damage {
                return Err(Error::Damaged { file, at: whole - left.bytes.len() });
            }
            if is_last {
                // What was read of it is on the disk before there is a file behind it.
                found.torn = left.bytes.len();
                folder.trim(file, (whole - left.bytes.len()) as u64)?;
            }
            files.push_back((file, found.last));
        }
        found.writes = writes.into_iter().filter(|(number, _)| *number > done).collect();
        let mut before = found.writes.first().map_or(found.last, |(number, _)| number - 1);
        for (number, _) in &found.writes {
            if *number != before + 1 {
                return Err(Error::Gap { after: before });
            }
            before = *number;
        }
        let number = numbers.last().copied().unwrap_or(0);
        let (last, salt) = (found.last, Salt::default());
        let mut log = Self { folder, syncs, number, length: 0, salt, last, files };
        log.begin(done)?;
        log.forget(done)?;
        Ok((log, found))
    }

    /// Appends writes, and up to where upstream has all.
    pub fn append(&mut self, writes: &[(u64, Write)], done: u64) -> Result<(), Failed> {
        let is_spent = done >= self.last && (self.length >= FILE_SPENT || !self.files.is_empty());
        if self.length >= FILE_MAX || is_spent {
            self.turn(done)?;
        }
        let mut batch = BytesMut::new();
        Record::Done(done).write(self.salt, &mut batch);
        for (number, write) in writes {
            Record::Write(*number, write.clone()).write(self.salt, &mut batch);
            self.last = *number;
        }
        if let Err(error) = self.folder.append(&batch) {
            // What was begun of it, who reads it takes for torn.
            self.folder.cut(self.length).ok();
            return Err(Failed::Write(error));
        }
        self.length += batch.len() as u64;
        if self.syncs {
            self.folder.sync().map_err(Failed::Sync)?;
        }
        Ok(())
    }

    /// Goes on in another file.
    fn turn(&mut self, done: u64) -> Result<(), Failed> {
        self.folder.sync().map_err(Failed::Sync)?;
        self.files.push_back((self.number, self.last));
        self.begin(done)?;
        self.forget(done).map_err(Failed::Write)
    }

    /// Begins a file, which is on the disk when this returns. Its number is used up, whatever comes
    /// of it.
    fn begin(&mut self, done: u64) -> Result<(), Failed> {
        self.number += 1;
        self.salt = Salt::random();
        let mut head = BytesMut::new();
        self.salt.write(&mut head);
        Record::Done(done).write(self.salt, &mut head);
        self.length = head.len() as u64;
        self.folder.create(self.number).map_err(Failed::Write)?;
        self.folder.append(&head).map_err(Failed::Write)?;
        self.folder.sync().map_err(Failed::Sync)
    }

    /// Removes files of which upstream has everything, the oldest first.
    fn forget(&mut self, done: u64) -> io::Result<()> {
        while let Some(&(file, last)) = self.files.front() {
            if last > done {
                break;
            }
            self.folder.remove(file)?;
            self.files.pop_front();
        }
        Ok(())
    }

    /// Upstream has everything: begins anew, after a failure, with one file. The others go first:
    /// it may be they that leave no room.
    pub fn reset(&mut self) -> Result<(), Failed> {
        self.files.push_back((self.number, self.last));
        self.forget(u64::MAX).map_err(Failed::Write)?;
        self.begin(self.last)
    }
}

/// What is no record at the end of a file.
struct Left {
    bytes: Bytes,
    /// That of the file, if it has one.
    salt: Option<Salt>,
}

/// Shows the records of a file.
fn read(mut bytes: Bytes, mut show: impl FnMut(Record)) -> Left {
    let salt = Salt::read(&mut bytes);
    while let Some(record) = salt.and_then(|salt| Record::read(salt, &mut bytes)) {
        show(record);
    }
    Left { bytes, salt }
}

impl Left {
    /// True if what was acknowledged stands behind it: a batch is begun only when what is before it
    /// is on the disk, where the log syncs, as the head of a file always is. Clients cannot have
    /// written one, as they do not know the salt.
    fn was_on_the_disk(&self, syncs: bool) -> bool {
        let Some(salt) = self.salt else {
            return self.bytes.len() as u64 > Salt::LENGTH + Record::DONE_LENGTH;
        };
        syncs
            && (1..self.bytes.len()).any(|from| {
                let record = Record::read(salt, &mut self.bytes.slice(from..));
                matches!(record, Some(Record::Done(_)))
            })
    }
}
