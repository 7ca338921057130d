//! What systemd hears of the real binary (`sd_notify(3)`), on a socket that this test holds, and
//! whether the files of `deploy/` are what their readers understand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test"
)]

#[path = "support/ports.rs"]
mod ports;

use ports::free_port;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Far more than any step needs: a limit of the tests, not a measure.
const LONG: Duration = Duration::from_mins(2);

/// nearside as a unit would start it.
struct Unit {
    process: Child,
    socket: UnixDatagram,
    folder: TempDir,
}

impl Unit {
    fn start(watchdog_us: Option<u32>) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let config = format!("server.listen = ['{listen}']\nadmin.listen = 'off'\n");
        std::fs::write(folder.path().join("proxy.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.args(["--upstream", "embedded:"]).current_dir(folder.path()).env_clear();
        command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(limit) = watchdog_us {
            command.env("WATCHDOG_USEC", limit.to_string());
        }
        Self { process: command.spawn().unwrap(), socket, folder }
    }

    /// What it says next.
    fn next(&self) -> String {
        let mut said = [0; 4096];
        let length = self.socket.recv(&mut said).expect("nothing more is said");
        String::from_utf8(said[..length].to_vec()).unwrap()
    }

    /// Waits until it says this; answers what was said before.
    fn until(&self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let said = self.next();
            if said.lines().any(|said| said == line) {
                return before;
            }
            before.push(said);
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn systemd_hears_of_start_reload_and_end() {
    let mut unit = Unit::start(None);
    unit.until("READY=1");
    unit.until("STATUS=ready");
    unit.signal("-HUP");
    let began = unit.next();
    let began: Vec<&str> = began.lines().collect();
    assert_eq!(began[0], "RELOADING=1");
    let since = began[1].strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(since.parse::<u64>().unwrap() > 0);
    assert_eq!(unit.next(), "READY=1\n");
    // A configuration that is refused ends the reload, too.
    std::fs::write(unit.folder.path().join("proxy.toml"), "no such = thing").unwrap();
    unit.signal("-HUP");
    unit.until("READY=1");
    unit.signal("-TERM");
    let parting = unit.next();
    assert!(parting.starts_with("STOPPING=1\nSTATUS=draining"), "{parting}");
    assert!(parting.contains("\nEXTEND_TIMEOUT_USEC=30000000\n"), "{parting}");
    assert!(unit.process.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_kept_while_all_workers_live() {
    let unit = Unit::start(Some(200_000));
    for _ in 0..3 {
        unit.until("WATCHDOG=1");
    }
}

/// nearside behind a port that systemd's own tool holds, and passes when the first client comes.
struct Activated {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Activated {
    fn start(settings: &str) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let config = settings.replace("{port}", &port.to_string());
        std::fs::write(folder.path().join("proxy.toml"), config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("systemd-socket-activate");
        command.args(["-l", &format!("127.0.0.1:{port}"), env!("CARGO_BIN_EXE_nearside")]);
        command.args(["--upstream", "embedded:"]).current_dir(folder.path());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().expect("systemd-socket-activate: tests/run installs it");
        Self { process, port, folder }
    }

    /// As soon as the port is held.
    fn dial(&mut self) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                stream.set_read_timeout(Some(LONG)).unwrap();
                return stream;
            }
            assert!(self.process.try_wait().unwrap().is_none(), "{}", self.log());
            std::thread::yield_now();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_port_that_systemd_holds_is_used() {
    let mut unit = Activated::start("server.listen = ['127.0.0.1:{port}']\nadmin.listen = 'off'\n");
    let mut client = unit.dial();
    client.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

/// Whoever connects to it would wait for ever.
#[test]
fn a_port_that_no_setting_names_is_refused() {
    let listen = format!("server.listen = ['127.0.0.1:{}']\nadmin.listen = 'off'\n", free_port());
    let mut unit = Activated::start(&listen);
    let client = unit.dial();
    let ended = unit.process.wait().unwrap();
    drop(client);
    assert!(!ended.success());
    let text = format!("passes sockets that no setting names: 127.0.0.1:{}", unit.port);
    assert!(unit.log().contains(&text), "{}", unit.log());
}

/// systemd's own checker reads the units; of what it says about other units nothing is asked.
#[test]
fn the_units_are_such_as_systemd_takes() {
    let folder = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let unit = std::fs::read_to_string(root.join("nearside.service")).unwrap();
    let here = unit.replace("/usr/bin/nearside", env!("CARGO_BIN_EXE_nearside"));
    assert_ne!(unit, here);
    let paths = ["nearside.service", "nearside.socket"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], here).unwrap();
    std::fs::copy(root.join("nearside.socket"), &paths[1]).unwrap();
    let checked = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&paths)
        .output()
        .expect("systemd-analyze: tests/run installs it");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
}

/// Every name of the environment that the images and manifests use is one, and the configuration
/// in the manifest is taken.
#[test]
fn what_the_manifests_configure_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let folder = TempDir::new().unwrap();
    let show = |name: &str, value: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.args(["config", "show"]).args(args).current_dir(folder.path()).env_clear();
        let shown = command.env(name, value).output().unwrap();
        (shown.status.success(), String::from_utf8_lossy(&shown.stderr).into_owned())
    };
    let files = ["docker/Dockerfile", "docker/compose.yaml", "kubernetes/sidecar.yaml"];
    for file in files {
        let text = read(file);
        let names = text.split("NEARSIDE_").skip(1).map(|rest| {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_uppercase()).unwrap();
            format!("NEARSIDE_{}", &rest[..end])
        });
        for name in names {
            let (_, said) = show(&name, "", &[]);
            assert!(!said.contains("unknown"), "{file}: {name}: {said}");
        }
    }
    let (_, said) = show("NEARSIDE_SERVER__LISTENS", "", &[]);
    assert!(said.contains("unknown"), "a name that nobody knows: {said}");

    let manifest = read("kubernetes/deployment.yaml");
    let config = manifest.split("proxy.toml: |\n").nth(1).unwrap().split("---").next().unwrap();
    let config = config.replace("\n    ", "\n").trim_start().to_owned();
    let secret = folder.path().join("upstream");
    std::fs::write(&secret, "secret\n").unwrap();
    let config = config
        .replace("/run/secrets/nearside/upstream", &secret.to_string_lossy())
        .replace("/run/secrets/nearside/clients", &secret.to_string_lossy());
    let path = folder.path().join("manifest.toml");
    std::fs::write(&path, config).unwrap();
    let (is_taken, said) = show("POD_NAME", "pod-1", &["--config", &path.to_string_lossy()]);
    assert!(is_taken, "{said}");
}
