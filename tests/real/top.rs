//! `nearside top` in a real terminal, which tmux holds: what it shows, what its keys do, and that it
//! leaves the terminal as it was, however it ends.

use crate::harness::{Kind, Proxy, Server, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

const SETTINGS: &[&str] =
    &["keys.version = \"v1\"", "cache.ttl = \"1h\"", "hotkeys.show_keys = \"plain\""];

/// A shell in a terminal of its own.
struct Terminal {
    folder: TempDir,
}

impl Terminal {
    fn start() -> Self {
        let terminal = Self { folder: TempDir::new().unwrap() };
        let shell = "PS1='ready> ' exec sh";
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", shell]);
        // What is typed before the shell reads is echoed twice.
        terminal.shows("ready>");
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket")).args(words);
        let output = command.env("TERM", "xterm-256color").env_remove("TMUX").output();
        let output = output
            .unwrap_or_else(|error| panic!("tmux ({error}): run tests/run, which installs it"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Presses Escape where a note stands in the last line, and waits until it has gone: an Escape
    /// and a letter that are read together are another key.
    fn lets_go(&self) {
        self.presses("Escape");
        self.shows("q quit");
    }

    /// Runs top in the shell, which tells its number and how it ended.
    fn runs_top(&self, proxy: &Proxy) {
        let pid = self.folder.path().join("pid");
        let line = format!(
            "sh -c 'echo $$ > {}; exec {} top --interval 100ms --admin {}'; echo ended=$?",
            pid.display(),
            env!("CARGO_BIN_EXE_nearside"),
            proxy.admin_url(),
        );
        fs::remove_file(&pid).ok();
        self.types(&line);
        self.presses("Enter");
        self.shows("q quit");
    }

    fn shows(&self, what: &str) -> String {
        eventually(&format!("the terminal shows {what:?}"), || {
            let screen = self.tmux(&["capture-pane", "-p"]);
            screen.contains(what).then_some(screen)
        })
    }

    /// The shell is back, on its own screen, where what is typed is seen.
    fn is_as_before(&self, code: u8) {
        self.shows(&format!("\nended={code}\nready>"));
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on}"]), "0\n");
        self.types("stty -a | tr ' ' '\\n' | grep -c -e '^icanon$' -e '^echo$'");
        self.presses("Enter");
        self.shows("\n2\n");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

fn mode(proxy: &Proxy) -> Value {
    let (_, body) = proxy.admin("GET", "/api/v1/mode", "");
    serde_json::from_str::<Value>(&body).unwrap()["mode"].clone()
}

/// One in sixteen reads is noted: enough of them for all keys to be.
fn busy(proxy: &Proxy) {
    let mut conn = proxy.dial();
    for key in ["orders:1", "users:1"] {
        conn.words(&format!("SET {key} value"));
        conn.until_hit(&format!("GET {key}"));
        for _ in 0..2_000 {
            conn.words(&format!("GET {key}"));
        }
    }
}

#[test]
fn a_proxy_is_watched_and_switched() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    busy(&proxy);
    let terminal = Terminal::start();
    terminal.runs_top(&proxy);
    let screen = terminal.shows("orders:1");
    for what in ["mode cache, keys v1", "up, tracking up", "hot keys by reads", "hits "] {
        assert!(screen.contains(what), "no {what:?}:\n{screen}");
    }
    proxy.admin("POST", "/api/v1/invalidations", "{\"pattern\":\"orders:*\"}");
    terminal.shows("orders:*");

    terminal.types("s");
    terminal.shows("namespaces by bytes, 1m");
    terminal.types("h");
    terminal.shows("hot keys by bytes");
    terminal.types("/users");
    terminal.shows("filter: users_");
    terminal.presses("Enter");
    eventually("others are not shown", || {
        let screen = terminal.tmux(&["capture-pane", "-p"]);
        (screen.contains("users:1") && !screen.contains("orders:1")).then_some(())
    });
    terminal.presses("Escape");
    terminal.shows("orders:1");

    pages(&proxy, &terminal);
    terminal.types("mb");
    terminal.shows("switch this proxy to bypass? [y/N]");
    terminal.types("n");
    terminal.shows("q quit");
    assert_eq!(mode(&proxy), "cache");
    terminal.types("mby");
    terminal.shows("mode bypass");
    assert_eq!(mode(&proxy), "bypass");

    terminal.types("p");
    terminal.shows("PAUSED");
    terminal.types("q");
    terminal.is_as_before(0);
}

/// Pages are turned, and what is chosen on one is forgotten by who is sure.
fn pages(proxy: &Proxy, terminal: &Terminal) {
    terminal.types("4");
    terminal.shows("invalidation channel heard at");
    terminal.types("5s");
    terminal.shows("clients by commands, of 0");
    terminal.types("3");
    terminal.shows("[3 namespaces]");
    terminal.types("/orders");
    terminal.presses("Enter");
    terminal.shows("> orders ");
    for key in ["orders:1", "users:1"] {
        proxy.dial().until_hit(&format!("GET {key}"));
    }
    terminal.types("i");
    terminal.shows("invalidate namespace orders, here and at the peers? [y/N]");
    terminal.types("n");
    terminal.shows("q quit");
    terminal.types("iy");
    terminal.shows("namespace orders: removed 1 keys here; the peers are told");
    terminal.lets_go();
    terminal.types("2/users");
    terminal.presses("Enter");
    terminal.shows("> users:1 ");
    terminal.types("iy");
    terminal.shows("key users:1: removed 1 keys here; the peers are told");
    assert_eq!(proxy.count("nearside_cache_entries"), 0);
    terminal.lets_go();
    terminal.types("1");
    terminal.shows("namespaces by bytes, 1m");
}

#[test]
fn a_proxy_that_is_gone_is_told_and_the_terminal_given_back_at_a_signal() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    let terminal = Terminal::start();
    terminal.runs_top(&proxy);
    terminal.shows("mode cache");
    drop(proxy);
    let screen = terminal.shows("LOST, trying again: no proxy at");
    assert!(screen.contains("mode cache"), "what was known is still there:\n{screen}");
    let pid = fs::read_to_string(terminal.folder.path().join("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    terminal.is_as_before(0);
}

#[test]
fn one_frame_is_printed_for_scripts() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), SETTINGS);
    busy(&proxy);
    let top = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearside"));
        command.args(["top", "--admin", &proxy.admin_url()]).args(words);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, frame) = top(&["--once"]);
    assert_eq!(code, 0, "{frame}");
    for what in ["nearside ", "mode cache", "namespaces by reads", "\norders:1 ", "invalidations"] {
        assert!(frame.contains(what), "no {what:?}:\n{frame}");
    }
    assert!(!frame.contains('\u{1b}') && !frame.contains("q quit"), "{frame}");
    let (code, json) = top(&["--once", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["status"]["mode"]), (0, &Value::from("cache")));
    let (code, said) = top(&[]);
    assert!(code == 2 && said.contains("--once"), "{said}");
}
