//! The folder that the log lies in: numbered files, one of which is written to.
//!
//! In: bytes to append, and what is to be on the disk when a call returns. Out: what is there. A
//! test puts another one in its place, which forgets what was not on the disk.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// What files are called: `write-behind-00000000000000000001.log`.
const NAME: &str = "write-behind-";
const ENDING: &str = ".log";

/// Held by the process whose folder it is.
const LOCK: &str = "write-behind.lock";

/// Where a log is kept.
pub trait Folder: fmt::Debug + Send {
    /// The numbers of its files, ascending.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// What is in a file.
    fn read(&self, number: u64) -> io::Result<Vec<u8>>;
    /// Cuts a file to this length. It is so on the disk when this returns.
    fn trim(&mut self, number: u64, length: u64) -> io::Result<()>;
    /// Begins a file, which is written to from now on. It is on the disk when this returns.
    fn create(&mut self, number: u64) -> io::Result<()>;
    /// Appends to the file that is written to.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it to this length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// What was appended is on the disk when this returns.
    fn sync(&mut self) -> io::Result<()>;
    /// Removes a file; one that is not there is removed. It is so on the disk when this returns.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    file: Option<File>,
    /// Locked as long as the process lives.
    _lock: File,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses it.
    #[error("write_behind.directory {}: another process has its log there", .path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// It is not there, or not ours.
    #[error("write_behind.directory {}: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

impl Disk {
    /// The folder at `path`, which is made if it is not there; no other process may use it then.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Io { path: path.to_owned(), error };
        std::fs::create_dir_all(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file: None, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Taken { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn file_of(&self, number: u64) -> PathBuf {
        self.path.join(format!("{NAME}{number:020}{ENDING}"))
    }

    /// What was created and removed in it is on the disk when this returns.
    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no file was begun"))
    }
}

impl Folder for Disk {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let digits =
                name.to_str().and_then(|name| name.strip_prefix(NAME)?.strip_suffix(ENDING));
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.file_of(number))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn trim(&mut self, number: u64, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.file_of(number))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn create(&mut self, number: u64) -> io::Result<()> {
        let file = OpenOptions::new().create_new(true).append(true).open(self.file_of(number))?;
        self.file = Some(file);
        self.sync_folder()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        match std::fs::remove_file(self.file_of(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Also if it was removed before: perhaps not on the disk.
            _ => self.sync_folder(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Error, Folder as _};

    #[test]
    fn a_folder_is_one_process_at_a_time() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("new/folder");
        let mut disk = Disk::open(&path).unwrap();
        assert!(matches!(Disk::open(&path), Err(Error::Taken { .. })));
        disk.create(2).unwrap();
        disk.append(b"abc").unwrap();
        disk.cut(2).unwrap();
        disk.append(b"d").unwrap();
        disk.sync().unwrap();
        disk.create(11).unwrap();
        std::fs::write(path.join("something.else"), "").unwrap();
        assert_eq!(disk.list().unwrap(), [2, 11]);
        assert_eq!(disk.read(2).unwrap(), b"abd");
        disk.trim(2, 1).unwrap();
        assert_eq!(disk.read(2).unwrap(), b"a");
        disk.remove(2).unwrap();
        disk.remove(2).unwrap();
        drop(disk);
        assert_eq!(Disk::open(&path).unwrap().list().unwrap(), [11]);
    }
}
