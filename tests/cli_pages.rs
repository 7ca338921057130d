//! The command line before there is a proxy: help, a first configuration, completions, manual
//! pages; and the probe that Docker calls.
//!
//! `UPDATE=1 cargo test --test cli_pages` writes `tests/data/help.txt` anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test"
)]

#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use support::{Proxy, Redis, free_port, nearside};
use tempfile::TempDir;

/// The configuration is wrong.
const BAD_CONFIG: i32 = 78;

/// Every subcommand.
const COMMANDS: &[&str] = &[
    "run",
    "validate",
    "init",
    "config",
    "config show",
    "config schema",
    "config reference",
    "healthcheck",
    "completions",
    "man",
    "commands",
    "invalidate",
    "clear",
    "mode",
    "warm",
    "warm run",
    "warm list",
    "warm status",
    "warm cancel",
    "reload",
    "version",
    "version show",
    "version set",
    "version purge",
    "version adopt",
    "version strip",
    "stats",
    "namespaces",
    "hotkeys",
    "advise",
    "reset-stats",
    "status",
    "clients",
    "upstreams",
    "slowlog",
    "get",
    "drain",
    "resume",
    "top",
    "bench",
    "explain",
];

/// Exit code, stdout, stderr.
fn run(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let output = nearside(folder, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_is_as_checked_in() {
    let folder = TempDir::new().unwrap();
    let mut all = String::new();
    for command in [""].iter().chain(COMMANDS) {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
        let (code, out, err) = run(&folder, &[&words[..], &["--help"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        writeln!(all, "$ nearside {}\n{out}", [command, "--help"].join(" ").trim()).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/help.txt");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &all).unwrap();
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    assert!(is == all, "tests/data/help.txt is old: UPDATE=1 cargo test --test cli_pages\n{all}");
    // And no command is forgotten here.
    let root = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for name in root.lines().map(|line| line.split_whitespace().next().unwrap()) {
        assert!(name == "help" || COMMANDS.contains(&name), "{name} is not in COMMANDS");
    }
}

#[test]
fn a_first_configuration() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("proxy.toml");
    let (code, out, err) = run(&folder, &["init", "--upstream", "redis://db:6379"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("nearside validate --config proxy.toml"), "{out}");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("url = \"redis://db:6379\"\n"), "{written}");
    assert!(written.contains("# First match wins."), "comments are kept: {written}");
    assert_eq!(run(&folder, &["validate", "--no-environment"]).0, 0);

    let (code, _, err) = run(&folder, &["init"]);
    assert!(code == 1 && err.contains("proxy.toml") && err.contains("--force"), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    let minimal = ["init", "--force", "--minimal", "--set", "server.max_clients=7"];
    assert_eq!(run(&folder, &minimal).0, 0);
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("[server]\nmax_clients = 7\n") && !written.contains('#'), "{written}");

    // What would not load is not written, and a broken file is not in the way of a new one.
    let bad = ["init", "-o", "other.toml", "--set", "cache.tll=1s"];
    let (code, _, err) = run(&folder, &bad);
    assert!(code == BAD_CONFIG && err.contains("did you mean `ttl`?"), "{err}");
    assert!(!folder.path().join("other.toml").exists());
    fs::write(&file, "[cache\n").unwrap();
    let (code, out, _) = run(&folder, &["init", "--minimal", "-o", "-"]);
    assert_eq!((code, out.contains("[[rules]]")), (0, true), "{out}");
    assert_eq!(run(&folder, &["init", "--force"]).0, 0);
    assert_eq!(run(&folder, &["validate", "--no-environment"]).0, 0);
}

#[test]
fn a_probe_says_yes_or_no() {
    let folder = TempDir::new().unwrap();
    let mut redis = Redis::start(&[]);
    let proxy = Proxy::start(&redis.url(), &[]);
    let probe = |flags: &[&str]| {
        let url = proxy.admin_url();
        run(&folder, &[&["healthcheck", "--admin", &url], flags].concat())
    };
    let yes = (0, String::new(), String::new());
    for flags in [&[][..], &["--ready"], &["--live"]] {
        assert_eq!(probe(flags), yes, "{flags:?}");
    }
    redis.kill();
    support::eventually("it is not ready", || (probe(&[]).0 == 1).then_some(()));
    let (_, _, err) = probe(&[]);
    assert!(err.contains("/readyz answers 503") && err.contains("upstream"), "{err}");
    assert_eq!(probe(&["--live"]), yes);

    // By the configuration, of which nothing else is asked; and nobody is there.
    let listen = proxy.admin_url().replace("http://", "");
    fs::write(folder.path().join("proxy.toml"), format!("admin.listen = \"{listen}\"\n")).unwrap();
    assert_eq!(run(&folder, &["healthcheck", "--live"]), yes);
    let gone = format!("127.0.0.1:{}", free_port());
    assert_eq!(run(&folder, &["healthcheck", "--live", "--admin", &gone]).0, 1);
    fs::write(folder.path().join("proxy.toml"), "[cache\n").unwrap();
    assert_eq!(run(&folder, &["healthcheck"]).0, 1);
}

#[test]
fn completions_and_manual_pages() {
    let folder = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, err) = run(&folder, &["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""));
        for word in ["invalidate", "healthcheck", "max-memory"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        fs::write(folder.path().join(shell), script).unwrap();
    }
    let checked = Command::new("bash").arg("-n").arg(folder.path().join("bash")).status();
    assert!(checked.unwrap().success());

    assert_eq!(run(&folder, &["man", "."]), (0, String::new(), String::new()));
    for page in ["nearside.1", "nearside-init.1", "nearside-config-show.1"] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    let (code, _, err) = run(&folder, &["man", "nowhere"]);
    assert!(code == 1 && err.contains("cannot write into nowhere"), "{err}");
}

#[test]
fn how_much_is_logged() {
    let folder = TempDir::new().unwrap();
    let level = |flag: &str| {
        let (_, out, _) = run(&folder, &[flag, "config", "show", "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        json["log.level"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!([level("-q"), level("-v")], ["warn", "debug"]);
    assert_eq!(run(&folder, &["-q", "-v"]).0, 2);
    assert_eq!(run(&folder, &["-v", "--log-level", "info"]).0, 2);
}
