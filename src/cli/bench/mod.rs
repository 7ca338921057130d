//! `nearside bench`: reads and writes of made-up keys against one server, or two in turn, so that
//! an operator can see what nearside does for them. Out: requests per second, and how long they
//! took.
//!
//! One thread, as many connections as asked for; each sends a pipeline and waits for all its
//! answers. What is read was written before, under names that no application has, and expires.

mod draw;
mod report;

use self::draw::{Draw, Skew};
use self::report::{Measured, Report};
use super::{UNREACHABLE, ended, fail};
use crate::app;
use crate::config::{ConfigError, Loaded, Settings};
use crate::control::jobs::line::{Line, LineError};
use crate::net::address::Address;
use crate::net::dialer::Dialer;
use crate::net::lookup::Lookup;
use crate::net::switch::Switch;
use crate::net::target::Target;
use crate::net::tls::TlsClient;
use crate::stats::histogram::Histogram;
use crate::units::clock::Clock;
use anyhow::Context as _;
use std::cell::{Cell, RefCell};
use std::io::{Write as _, stdout};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};

/// What keys begin with, and how long they live: long enough for any run.
const PREFIX: &str = "nearside-bench:";
const SECONDS: &[u8] = b"3600";

/// Servers take turns so often: what the machine does besides is the same for both.
const ROUNDS: u64 = 10;

/// An answer takes no longer, nor does connecting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keys written in one go.
const FILLED: usize = 100;

/// What is sent, and where to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Choice {
    /// The server [default: this configuration's `server.listen`: nearside itself]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Another one to compare it with, in turns
    #[arg(long, value_name = "URL")]
    against: Option<String>,
    /// Compare it with this configuration's `upstream.url`
    #[arg(long, conflicts_with = "against")]
    compare: bool,
    /// Requests to each server
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// Requests that a connection sends at once
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pipeline: u16,
    /// Keys in all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    key_space: u32,
    /// Which keys are asked for: `uniform`, or `zipf:1.0` (a few most of the time)
    #[arg(long, value_name = "HOW", default_value = "zipf:1.0")]
    keys: Skew,
    /// How many of the requests are GETs, 0 to 1; the others are SETs
    #[arg(long, value_name = "RATIO", default_value_t = 0.95, value_parser = ratio)]
    get_ratio: f64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    value_size: u32,
    /// For machines
    #[arg(long)]
    json: bool,
}

fn ratio(written: &str) -> Result<f64, String> {
    match written.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("not 0 to 1".to_owned()),
    }
}

/// Measures, and tells. Error replies are told and fail it: they are no work done.
pub(super) fn run(choice: &Choice, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let targets = match targets(choice, loaded) {
        Ok(targets) => targets,
        Err(error) => return fail(2, &error),
    };
    let report = match measured(choice, targets) {
        Ok(report) => report,
        Err(error) => return fail(code(&error), &error),
    };
    let text = if choice.json { format!("{:#}", report.json()) } else { report.to_string() };
    let code = ended(writeln!(stdout().lock(), "{}", text.trim_end()).map_err(Into::into));
    match report.fault() {
        Some(fault) => fail(1, &anyhow::anyhow!("{fault}")),
        None => code,
    }
}

/// A server that answers, but not so, is reachable.
fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(LineError::Refused { .. }) => 1,
        _ => UNREACHABLE,
    }
}

/// One server or two.
fn targets(
    choice: &Choice,
    loaded: Result<Loaded, ConfigError>,
) -> anyhow::Result<Vec<(Target, Option<TlsClient>)>> {
    // Who says where needs no configuration.
    let settings = match loaded {
        Ok(loaded) => Some(loaded.settings),
        Err(_) if choice.url.is_some() && !choice.compare => None,
        Err(error) => return Err(error.into()),
    };
    let settings = settings.as_ref();
    let mut targets = vec![match &choice.url {
        Some(url) => parsed("--url", url)?,
        None => own(settings).context("server.listen is empty: say --url URL")?,
    }];
    if let Some(url) = &choice.against {
        targets.push(parsed("--against", url)?);
    }
    if let (true, Some(settings)) = (choice.compare, settings) {
        targets.push(settings.upstream.target.clone());
    }
    let with_tls = |target: Target| {
        anyhow::ensure!(
            target.address != Address::Embedded,
            "an embedded upstream is reached through nearside only"
        );
        let options = settings.map(|settings| settings.upstream.tls.clone()).unwrap_or_default();
        let tls = target.tls.then(|| TlsClient::new(&options)).transpose()?;
        Ok((target, tls))
    };
    targets.into_iter().map(with_tls).collect()
}

fn parsed(flag: &str, url: &str) -> anyhow::Result<Target> {
    // The text is not repeated: it may hold a password.
    url.parse().with_context(|| format!("{flag}: no URL of a server"))
}

/// The proxy that this configuration is of.
fn own(settings: Option<&Settings>) -> Option<Target> {
    let settings = settings?;
    let mut target = Target::new(settings.server.listen.first()?.clone());
    if let Address::Tcp { host, .. } = &mut target.address {
        // Who listens on all addresses is reached on this one.
        match host.as_str() {
            "0.0.0.0" => "127.0.0.1".clone_into(host),
            "::" => "::1".clone_into(host),
            _ => {}
        }
    }
    target.password.clone_from(&settings.auth.password);
    Some(target)
}

fn measured(choice: &Choice, targets: Vec<(Target, Option<TlsClient>)>) -> anyhow::Result<Report> {
    let work = Rc::new(Work::of(choice));
    app::runtime()?.block_on(LocalSet::new().run_until(async move {
        let mut sides = Vec::new();
        for (target, tls) in targets {
            let name = target.to_string();
            let side = Side::open(&work, target, tls).await;
            sides.push(side.with_context(|| name)?);
        }
        for round in 0..=ROUNDS {
            for side in &mut sides {
                side.round(&work, round).await.with_context(|| side.measured.url.clone())?;
            }
            // Nobody always goes first.
            sides.reverse();
        }
        // Back as they were: the rounds that count are ten, and there is the first.
        sides.reverse();
        Ok(Report::of(choice, sides.into_iter().map(|side| side.measured).collect()))
    }))
}

/// What every connection sends.
struct Work {
    choice: Choice,
    value: Vec<u8>,
    clock: Clock,
}

impl Work {
    fn of(choice: &Choice) -> Self {
        let length = usize::try_from(choice.value_size).unwrap_or(0);
        Self { choice: choice.clone(), value: vec![b'x'; length], clock: Clock::system() }
    }

    /// Requests of one connection in one round.
    fn share(&self, round: u64, client: u64) -> u64 {
        let clients = u64::from(self.choice.clients);
        let part = |whole: u64, parts: u64, at: u64| whole / parts + u64::from(at < whole % parts);
        // The first round is not counted: the cache learns what is asked for.
        let counted = part(self.choice.requests, ROUNDS, round.saturating_sub(1));
        part(counted, clients, client)
    }

    fn write(&self, line: &mut Line, draw: &mut Draw) {
        let key = format!("{PREFIX}{}", draw.key());
        if draw.is_get() {
            line.write(&[b"GET", key.as_bytes()]);
        } else {
            line.write(&[b"SET", key.as_bytes(), &self.value, b"EX", SECONDS]);
        }
    }
}

/// One server's connections, and what they have measured.
struct Side {
    lines: Vec<(Line, Draw)>,
    measured: Measured,
}

impl Side {
    /// Connects, and writes every key.
    async fn open(work: &Work, target: Target, tls: Option<TlsClient>) -> Result<Self, LineError> {
        let measured = Measured::new(target.to_string());
        let name = "nearside:bench".to_owned();
        let dialer = Dialer {
            target,
            tls,
            embedded: None,
            timeout: PATIENCE,
            name,
            switch: Switch::default(),
            lookup: Lookup::default(),
        };
        let choice = &work.choice;
        let draws = Draw::all(choice.keys, choice.key_space, choice.get_ratio, choice.clients);
        let mut lines = Vec::new();
        for draw in draws {
            lines.push((Line::open(&dialer, PATIENCE).await?, draw));
        }
        if let Some((line, _)) = lines.first_mut() {
            fill(work, line).await?;
        }
        Ok(Self { lines, measured })
    }

    /// All connections at once, until each has sent its share.
    async fn round(&mut self, work: &Rc<Work>, round: u64) -> Result<(), LineError> {
        let taken = Rc::new(Taken::default());
        let mut drives = JoinSet::new();
        let begun = work.clock.now();
        for ((mut line, mut draw), client) in self.lines.drain(..).zip(0..) {
            let (work, taken) = (Rc::clone(work), Rc::clone(&taken));
            drives.spawn_local(async move {
                let requests = work.share(round, client);
                drive(&work, &mut line, &mut draw, requests, &taken).await.map(|()| (line, draw))
            });
        }
        while let Some(driven) = drives.join_next().await {
            let driven = driven.unwrap_or_else(|lost| Err(std::io::Error::other(lost).into()));
            self.lines.push(driven?);
        }
        let lasted = work.clock.now().since(begun);
        if round > 0 {
            taken.histogram.add_to(&mut self.measured.latency);
            self.measured.lasted += lasted;
            self.measured.errors += taken.errors.get();
            if self.measured.first_error.is_none() {
                self.measured.first_error = taken.first_error.take();
            }
        }
        Ok(())
    }
}

/// What the connections of one round have seen.
#[derive(Default)]
struct Taken {
    histogram: Histogram,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
}

/// Every key once.
async fn fill(work: &Work, line: &mut Line) -> Result<(), LineError> {
    let keys: Vec<u32> = (0..work.choice.key_space).collect();
    for some in keys.chunks(FILLED) {
        for number in some {
            let key = format!("{PREFIX}{number}");
            line.write(&[b"SET", key.as_bytes(), &work.value, b"EX", SECONDS]);
        }
        let mut refused = None;
        line.exchange(|answer| {
            if answer.first() == Some(&b'-') && refused.is_none() {
                refused = Some(LineError::refused("SET", answer));
            }
        })
        .await?;
        if let Some(refused) = refused {
            return Err(refused);
        }
    }
    Ok(())
}

/// One connection's share.
async fn drive(
    work: &Work,
    line: &mut Line,
    draw: &mut Draw,
    requests: u64,
    taken: &Taken,
) -> Result<(), LineError> {
    let mut left = requests;
    while left > 0 {
        let batch = left.min(u64::from(work.choice.pipeline));
        for _ in 0..batch {
            work.write(line, draw);
        }
        let begun = work.clock.now();
        line.exchange(|answer| {
            let took = work.clock.now().since(begun).as_nanos();
            taken.histogram.record(u64::try_from(took).unwrap_or(u64::MAX), 1);
            if answer.first() == Some(&b'-') {
                taken.errors.set(taken.errors.get() + 1);
                let text = || String::from_utf8_lossy(answer.trim_ascii()).into_owned();
                taken.first_error.borrow_mut().get_or_insert_with(text);
            }
        })
        .await?;
        left -= batch;
    }
    Ok(())
}
