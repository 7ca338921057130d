//! `nearside top`: a screen that shows how a running proxy fares, over its admin API, switches its
//! mode, and has keys and namespaces be forgotten.
//!
//! ```text
//!   keys ────┐
//!   signals ─┼─> what is heard ──> state ──> screen
//!   asker ───┘                      │
//!     └──────── what to ask <───────┘
//! ```
//!
//! `state` is what is known and chosen, `screen` draws it, `pages` has its lists; all are plain
//! functions. Here are the threads that wait: for keys, for signals, for answers. The terminal is
//! given back as it was, whatever ends this: a key, a signal, a panic.

mod pages;
mod screen;
mod state;

use self::state::{Act, Forget, Sample, State, Wanted};
use super::about::is_colored;
use super::figures::pause;
use super::remote::{Failure, Mode, Reach};
use super::{ended, fail};
use crate::config::{ConfigError, Loaded, Settings};
use crate::control::office::Signals;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Rows of each list that are asked for.
const ROWS: u16 = 100;

/// How it is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    #[command(flatten)]
    reach: Reach,
    /// How often it is asked
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = pause)]
    interval: Duration,
    /// Print it once, without colours or keys; --json: what it is made from
    #[arg(long)]
    once: bool,
}

/// What the screen waits for.
enum Heard {
    Sample(Result<Box<Sample>, String>),
    /// What came of a switch, or of an order.
    Done(Result<String, String>),
    Key(KeyEvent),
    Resized,
    End,
}

/// What the asker is told to do, beside asking again and again.
enum Ask {
    Mode(Mode),
    Forget(Forget),
    For(Wanted),
}

/// Shows it.
pub(super) fn run(choice: &Choice, loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let reach = &choice.reach;
    let settings = match reach.settings(loaded) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    if choice.once || reach.json {
        return once(reach, settings.as_ref());
    }
    if !stdout().is_terminal() || !io::stdin().is_terminal() {
        return fail(2, &anyhow::anyhow!("top draws on a terminal: for a pipe say --once"));
    }
    ended(live(choice, settings).map_err(Into::into))
}

/// One frame as text.
fn once(reach: &Reach, settings: Option<&Settings>) -> ExitCode {
    let mut state = State::new(false);
    let sample = match sample(reach, settings, state.wanted()) {
        Ok(sample) => sample,
        Err(failure) => return reach.tell(Err(failure), |_| String::new()),
    };
    if reach.json {
        return reach.tell(Ok(sample.into_json()), |_| String::new());
    }
    state.know(Ok(Box::new(sample)));
    ended(writeln!(stdout().lock(), "{}", screen::text(&state)).map_err(Into::into))
}

/// Everything that the screen shows.
fn sample(
    reach: &Reach,
    settings: Option<&Settings>,
    Wanted { by, clients }: Wanted,
) -> Result<Sample, Failure> {
    let get = |path: &str| reach.ask(settings, "GET", &format!("/api/v1/{path}"), &Value::Null);
    Ok(Sample {
        status: get("status")?,
        stats: get("stats")?,
        hot: get(&format!("hotkeys?by={}&limit={ROWS}", by.as_str()))?,
        namespaces: get("namespaces?window=1m")?,
        invalidations: get(&format!("invalidations?limit={ROWS}"))?,
        upstreams: get("upstreams")?,
        clients: match clients {
            Some(sort) => get(&format!("clients?limit={ROWS}&sort={}", sort.as_str()))?,
            None => Value::Null,
        },
    })
}

/// The live screen: until a key or a signal ends it.
fn live(choice: &Choice, settings: Option<Settings>) -> io::Result<()> {
    let (heard, hearing) = channel();
    let (asking, asked) = channel();
    hear_signals(heard.clone())?;
    let terminal = Terminal(ratatui::try_init()?);
    let (reach, interval, asker) = (choice.reach.clone(), choice.interval, heard.clone());
    thread::spawn(move || ask(&reach, settings.as_ref(), interval, &asked, &asker));
    thread::spawn(move || hear_keys(&heard));
    show(terminal, State::new(is_colored(&stdout())), &hearing, &asking)
}

/// Draws whatever is heard. Nothing here waits but for that.
fn show(
    mut terminal: Terminal,
    mut state: State,
    hearing: &Receiver<Heard>,
    asking: &Sender<Ask>,
) -> io::Result<()> {
    loop {
        terminal.0.draw(|frame| screen::draw(&state, frame.area(), frame.buffer_mut()))?;
        let act = match hearing.recv() {
            Ok(Heard::Sample(sample)) => {
                state.know(sample);
                Act::None
            }
            Ok(Heard::Done(done)) => {
                state.note(done);
                Act::None
            }
            Ok(Heard::Key(key)) => state.press(key),
            Ok(Heard::Resized) => Act::None,
            Ok(Heard::End) | Err(_) => Act::Quit,
        };
        let told = match act {
            Act::None => Ok(()),
            Act::Quit => return Ok(()),
            Act::Switch(mode) => asking.send(Ask::Mode(mode)),
            Act::Ask(wanted) => asking.send(Ask::For(wanted)),
            Act::Forget(what) => asking.send(Ask::Forget(what)),
        };
        if told.is_err() {
            return Err(io::Error::other("the thread that asks has ended"));
        }
    }
}

/// The terminal while it is ours.
struct Terminal(DefaultTerminal);

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Asks again and again; an answer that does not come is told, and asked for again.
fn ask(
    reach: &Reach,
    settings: Option<&Settings>,
    interval: Duration,
    asked: &Receiver<Ask>,
    heard: &Sender<Heard>,
) {
    let mut wanted = State::new(false).wanted();
    loop {
        let sample = sample(reach, settings, wanted).map(Box::new).map_err(Failure::into_text);
        if heard.send(Heard::Sample(sample)).is_err() {
            return;
        }
        let done = match asked.recv_timeout(interval) {
            Ok(Ask::For(other)) => {
                wanted = other;
                continue;
            }
            Ok(Ask::Mode(mode)) => switch(reach, settings, mode),
            Ok(Ask::Forget(what)) => forget(reach, settings, &what),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if heard.send(Heard::Done(done.map_err(Failure::into_text))).is_err() {
            return;
        }
    }
}

fn switch(reach: &Reach, settings: Option<&Settings>, mode: Mode) -> Result<String, Failure> {
    let body = json!({ "mode": mode.as_str() });
    reach.ask(settings, "PUT", "/api/v1/mode", &body)?;
    Ok(format!("mode: {}", mode.as_str()))
}

fn forget(reach: &Reach, settings: Option<&Settings>, what: &Forget) -> Result<String, Failure> {
    let answer = reach.ask(settings, "POST", "/api/v1/invalidations", &what.order)?;
    let removed = answer.get("removed").and_then(Value::as_u64).unwrap_or(0);
    let is_told = answer.get("published") == Some(&Value::Bool(true));
    let told = if is_told { "the peers are told" } else { "nobody else is told" };
    Ok(format!("{}: removed {removed} keys here; {told}", what.words))
}

/// Keys and sizes, until the terminal is gone.
fn hear_keys(heard: &Sender<Heard>) {
    loop {
        let next = match event::read() {
            Ok(Event::Key(key)) if !key.is_release() => Heard::Key(key),
            Ok(Event::Resize(..)) => Heard::Resized,
            Ok(_) => continue,
            Err(_) => Heard::End,
        };
        let is_end = matches!(next, Heard::End);
        if heard.send(next).is_err() || is_end {
            return;
        }
    }
}

/// The first signal that would end a process ends the screen.
fn hear_signals(heard: Sender<Heard>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::catch()?
    };
    thread::spawn(move || {
        runtime.block_on(signals.next());
        // Who hears is gone only when the screen is.
        heard.send(Heard::End).ok();
    });
    Ok(())
}
