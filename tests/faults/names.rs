//! The files by which a process finds where a name leads: its own `/etc/hosts`, in a mount namespace
//! of its own, and name servers that nobody listens at.

use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// The name that they know.
pub(crate) const NAME: &str = "upstream.test";

/// Has its arguments from the third on run with the first as `/etc/hosts`, and the second as
/// `/etc/resolv.conf`.
const ENTER: &str = "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf && shift \
                     && exec \"$@\"";

/// The files.
pub(crate) struct Names {
    folder: TempDir,
}

impl Names {
    /// They know nothing yet. An error, in words, where no namespace can be made.
    pub(crate) fn new() -> Result<Self, String> {
        let names = Self { folder: TempDir::new().unwrap() };
        names.lead_to(None);
        let servers = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        fs::write(names.folder.path().join("resolv.conf"), servers).unwrap();
        let words = names.program();
        let tried = Command::new(&words[0]).args(&words[1..]).arg("true").output();
        let tried = tried.map_err(|error| format!("no {}: {error}", words[0]))?;
        let said = String::from_utf8_lossy(&tried.stderr);
        if tried.status.success() { Ok(names) } else { Err(said.trim().to_owned()) }
    }

    /// The name leads there from now on, or nobody knows where.
    pub(crate) fn lead_to(&self, address: Option<&str>) {
        let line = address.map_or_else(String::new, |address| format!("{address} {NAME}\n"));
        let text = format!("127.0.0.1 localhost\n{line}");
        // The file itself: what is bound is not its name.
        fs::write(self.folder.path().join("hosts"), text).unwrap();
    }

    /// What runs a program among these names: its command line comes behind.
    pub(crate) fn program(&self) -> Vec<String> {
        let path = |name| self.folder.path().join(name).display().to_string();
        let before = ["unshare", "-rm", "sh", "-c", ENTER].map(str::to_owned);
        before.into_iter().chain([path("hosts"), path("resolv.conf")]).collect()
    }
}
