//! Lists of keys in files: one a line, as they are. Keys with a line's end in them cannot stand in
//! such a list, and are left out of a snapshot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A longer list is no list of hot keys.
pub(super) const LENGTH_MAX: usize = 256 << 20;

/// Reads a list.
pub(super) fn read(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let length = fs::metadata(path)?.len();
    if length > LENGTH_MAX as u64 {
        let why = format!("it is longer than {} MiB", LENGTH_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let text = fs::read(path)?;
    let lines = text.split(|&byte| byte == b'\n');
    let keys = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(keys.filter(|key| !key.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Adds a key to the text of a list, if it can stand there.
pub(super) fn add(list: &mut Vec<u8>, key: &[u8]) {
    let is_plain = !key.is_empty() && !key.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if is_plain && list.len() + key.len() < LENGTH_MAX {
        list.extend_from_slice(key);
        list.push(b'\n');
    }
}

/// Writes a list, in the place of an older one or not at all.
pub(super) fn write(path: &Path, list: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = Path::new(&name);
    let mut file = File::create(fresh)?;
    file.write_all(list)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::{add, read, write};

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        assert!(read(&path).is_err());
        let keys: [&[u8]; 6] = [b"a", b"orders:42", b"", b"two\nlines", b"\xff bin", b"cr\r"];
        let mut list = Vec::new();
        for key in keys {
            add(&mut list, key);
        }
        write(&path, b"old\n").unwrap();
        write(&path, &list).unwrap();
        assert_eq!(read(&path).unwrap(), [&b"a"[..], b"orders:42", b"\xff bin"]);
        write(&path, b"x\r\n\r\n\ny").unwrap();
        assert_eq!(read(&path).unwrap(), [b"x", b"y"]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
