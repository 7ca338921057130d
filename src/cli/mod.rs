//! The command line: arguments in, exit code out.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap), 69 something is not reachable, 75 not now,
//! 77 no or a wrong token, 78 the configuration is wrong (sysexits.h), 130 a second signal.

mod about;
mod bench;
mod commands;
mod configure;
mod explain;
mod figures;
mod health;
mod https;
mod init;
mod jobs;
mod look;
mod remote;
mod sort;
mod top;
mod validate;

use crate::app::{self, Ended};
use crate::config::{self, ConfigError, Loaded, Overrides};
use crate::control::observe::logs;
use crate::control::observe::state::Allocator;
use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `EX_UNAVAILABLE`.
const UNREACHABLE: u8 = 69;

/// `EX_CONFIG`.
const BAD_CONFIG: u8 = 78;

/// What shells give for a process that a signal has ended: a second one came while it drained.
const INTERRUPTED: u8 = 130;

/// What stands below the long help.
const EXAMPLES: &str = "\
Examples:
  nearside --upstream redis://db:6379     start in front of a server
  nearside validate                       what would a start say?
  nearside status                         how does the running proxy fare?
  nearside top                            watch it; m switches the mode, i invalidates
  nearside mode bypass                    the kill switch: nothing is served from the cache
  nearside invalidate --namespace orders  forget orders:*, here and at the peers
  nearside explain GET orders:42          who would answer, and why

Exit codes: 0 done, 1 failed or not possible, 2 wrong usage, 69 proxy or upstream not reachable,
75 try again later, 77 no or a wrong token, 78 the configuration is wrong, 130 a second signal
ended a drain";

/// A RESP-speaking caching proxy: a coherent near-cache in front of Redis and Valkey.
#[derive(Debug, Parser)]
#[command(name = "nearside", version, about, args_conflicts_with_subcommands = false)]
#[command(disable_version_flag = true, after_long_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Print the version; with --verbose how it was built, too
    #[arg(short = 'V', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file [default: ./proxy.toml, then /etc/nearside/proxy.toml, then none]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect: HOST:PORT or `unix:/path` (repeatable)
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The server behind: `redis://`, `rediss://`, `unix:/path` or `embedded:`
    #[arg(long, global = true, value_name = "URL")]
    upstream: Option<String>,
    /// Where /metrics, /livez and /readyz are served: HOST:PORT or off
    #[arg(long, global = true, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Bytes the cache may hold, e.g. 256mb
    #[arg(long, global = true, value_name = "SIZE")]
    max_memory: Option<String>,
    /// cache, observe or bypass
    #[arg(long, global = true)]
    mode: Option<String>,
    /// Worker threads
    #[arg(long, global = true, value_name = "N")]
    workers: Option<String>,
    /// Log level: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with_all = ["verbose", "log_level"])]
    quiet: bool,
    /// Log each connection, too
    #[arg(short, long, global = true, conflicts_with = "log_level")]
    verbose: bool,
    /// Whether errors, logs and screens have colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: clap::ColorChoice,
    /// Log format: auto, text, json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Reload when the configuration, or a file that it names, has changed
    #[arg(long, global = true)]
    watch_config: bool,
    /// Any key of the configuration, e.g. --set cache.ttl=30s (repeatable)
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the proxy (what happens without a command)
    Run,
    /// Check the configuration, and what it names: ports, files, upstream
    Validate {
        /// Check the configuration alone
        #[arg(long)]
        no_environment: bool,
        /// Treat warnings as errors
        #[arg(long)]
        deny_warnings: bool,
        /// For people, or for machines
        #[arg(long, value_enum, default_value_t = validate::Format::Text)]
        format: validate::Format,
    },
    /// Write a proxy.toml to begin with; flags such as --upstream are written into it
    Init(init::Choice),
    /// Show the configuration in force, its schema, or its reference
    #[command(subcommand)]
    Config(configure::Command),
    /// Ask a running proxy whether it is well: 0 yes, 1 no
    Healthcheck(health::Probe),
    /// Print what makes a shell complete this program's arguments
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder
    Man {
        /// Where to: it is there
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Show what becomes of every command under this configuration
    Commands(commands::Choice),
    #[command(flatten)]
    Remote(remote::Command),
    #[command(flatten)]
    Figures(figures::Command),
    #[command(flatten)]
    Look(look::Command),
    /// Watch a running proxy on a live screen, and switch its mode
    Top(top::Choice),
    /// Send reads and writes to a server, or to two in turn, and tell how fast they are answered
    ///
    /// It writes keys of its own, `nearside-bench:*`, which expire within an hour.
    Bench(bench::Choice),
    /// Show what would become of one request: its keys, its rule, who answers, or why not
    Explain(explain::Choice),
}

/// Runs the program; `allocator` is the one that it was built with.
pub fn main(allocator: Allocator) -> ExitCode {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let command = Cli::command().color(about::color(words));
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if cli.version {
        let text = about::version(cli.options.verbose, allocator.name);
        return ended(writeln!(std::io::stdout().lock(), "{text}").map_err(Into::into));
    }
    let overrides = overrides(&cli.options);
    let loaded = config::load(&overrides);
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => {
            let watches = cli.options.watch_config;
            sound(loaded, |loaded| run(loaded, overrides, watches, allocator))
        }
        Command::Validate { no_environment, deny_warnings, format } => {
            validate::run(loaded, !no_environment, deny_warnings, format)
        }
        Command::Init(choice) => init::run(&choice, &overrides.flags),
        Command::Config(command) => configure::run(&command, loaded),
        Command::Healthcheck(probe) => health::run(&probe, loaded),
        Command::Completions { shell } => ended(completions(shell)),
        Command::Man { folder } => ended(man(&folder)),
        Command::Commands(choice) => sound(loaded, |loaded| {
            let mut out = std::io::stdout().lock();
            ended(commands::print(&loaded.settings, choice, &mut out).map_err(Into::into))
        }),
        Command::Remote(command) => remote::run(&command, loaded),
        Command::Top(choice) => top::run(&choice, loaded),
        Command::Bench(choice) => bench::run(&choice, loaded),
        Command::Look(command) => look::run(&command, loaded),
        Command::Figures(command) => figures::run(&command, loaded),
        Command::Explain(choice) => explain::run(&choice, loaded),
    }
}

/// What needs a sound configuration.
fn sound(loaded: Result<Loaded, ConfigError>, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    loaded.map_or_else(|error| fail(BAD_CONFIG, &error.into()), then)
}

/// Into memory first: the generator has no word for a closed pipe.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nearside", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

fn man(folder: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

/// A reader that has seen enough (`| head`) is no failure.
fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Err(error) if !is_broken_pipe(&error) => fail(1, &error),
        _ => ExitCode::SUCCESS,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
    let written = error.downcast_ref::<std::io::Error>().is_some_and(kind);
    let as_json = error.downcast_ref::<serde_json::Error>();
    written || as_json.is_some_and(|error| error.io_error_kind() == Some(ErrorKind::BrokenPipe))
}

fn run(loaded: Loaded, overrides: Overrides, watches: bool, allocator: Allocator) -> ExitCode {
    if let Err(error) = logs::init(&loaded.settings, about::forced_color()) {
        return fail(BAD_CONFIG, &error);
    }
    let file =
        loaded.file.as_ref().map_or_else(|| "none: defaults".into(), |file| file.to_string_lossy());
    let config_digest = loaded.settings.digest();
    tracing::info!(event = "config_loaded", file = %file, config_digest, "settings");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match app::run(loaded.settings, overrides, watches, allocator) {
        Ok(Ended::Orderly) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => fail(1, &error),
    }
}

#[expect(clippy::print_stderr, reason = "the command line's own voice")]
fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    let (red, plain) =
        if about::is_colored(&std::io::stderr()) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{red}nearside:{plain} {error:#}");
    ExitCode::from(code)
}

/// The two sides of `--set`. The error is shown behind the whole argument, so it is clap's: usage.
fn key_and_value(written: &str) -> Result<(String, String), &'static str> {
    match written.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as --set cache.ttl=30s"),
    }
}

/// Flags as values of the keys they stand for.
fn overrides(options: &Options) -> Overrides {
    let mut flags = Vec::new();
    // The value is not repeated in errors: it may be a password.
    for (key, value) in &options.set {
        flags.push((format!("--set {key}"), key.clone(), value.clone()));
    }
    if !options.listen.is_empty() {
        let list: Vec<String> = options.listen.iter().map(|one| format!("{one:?}")).collect();
        let value = format!("[{}]", list.join(", "));
        flags.push(("--listen".to_owned(), "server.listen".to_owned(), value));
    }
    for (flag, key, value) in [
        ("--upstream", "upstream.url", &options.upstream),
        ("--admin-listen", "admin.listen", &options.admin_listen),
        ("--max-memory", "cache.max_memory", &options.max_memory),
        ("--mode", "mode", &options.mode),
        ("--workers", "server.workers", &options.workers),
        ("--log-level", "log.level", &options.log_level),
        ("--log-format", "log.format", &options.log_format),
    ] {
        if let Some(value) = value {
            flags.push((flag.to_owned(), key.to_owned(), value.clone()));
        }
    }
    let levels = [("--quiet", options.quiet, "warn"), ("--verbose", options.verbose, "debug")];
    for (flag, is_set, level) in levels {
        if is_set {
            flags.push((flag.to_owned(), "log.level".to_owned(), level.to_owned()));
        }
    }
    Overrides { file: options.config.clone(), environment: environment(), flags }
}

/// The environment; what is not UTF-8 is none of ours.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}
