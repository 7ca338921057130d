//! What `nearside top` knows and what its user has chosen. In: samples and keys; out: what to do.
//! No clock, no terminal, no socket.

use crate::cli::figures::By;
use crate::cli::remote::Mode;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

/// What the proxy has said: its answers, one moment's.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) status: Value,
    pub(super) stats: Value,
    pub(super) hot: Value,
    pub(super) namespaces: Value,
    pub(super) invalidations: Value,
}

impl Sample {
    /// For machines: each under its name.
    pub(super) fn into_json(self) -> Value {
        json!({
            "status": self.status,
            "stats": self.stats,
            "hotkeys": self.hot,
            "namespaces": self.namespaces,
            "invalidations": self.invalidations,
        })
    }
}

/// By what namespaces are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Reads,
    Bytes,
    Misses,
    HitRatio,
    Name,
}

impl Sort {
    /// The member of a row.
    pub(super) const fn member(self) -> &'static str {
        match self {
            Self::Reads => "reads_per_second",
            Self::Bytes => "bytes_per_second",
            Self::Misses => "misses",
            Self::HitRatio => "hit_ratio",
            Self::Name => "namespace",
        }
    }

    /// The same in words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Bytes => "bytes",
            Self::Misses => "misses",
            Self::HitRatio => "hit ratio, lowest first",
            Self::Name => "name",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Reads => Self::Bytes,
            Self::Bytes => Self::Misses,
            Self::Misses => Self::HitRatio,
            Self::HitRatio => Self::Name,
            Self::Name => Self::Reads,
        }
    }
}

/// What keys mean now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Commands.
    Plain,
    /// The filter is written.
    Filter,
    /// A mode is chosen.
    Mode,
    /// This mode is confirmed, or not.
    Sure(Mode),
}

/// What a key asks for beyond the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    None,
    Quit,
    /// Switch the proxy's mode.
    Switch(Mode),
    /// Rank hot keys by something else.
    Rank(By),
}

/// All that the screen shows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sample: Option<Box<Sample>>,
    /// Why there is no newer sample.
    pub(super) lost: Option<String>,
    pub(super) is_paused: bool,
    pub(super) is_colored: bool,
    pub(super) sort: Sort,
    pub(super) by: By,
    pub(super) filter: String,
    pub(super) input: Input,
    /// What came of the last switch.
    pub(super) note: Option<Result<String, String>>,
}

impl State {
    pub(super) const fn new(is_colored: bool) -> Self {
        Self {
            sample: None,
            lost: None,
            is_paused: false,
            is_colored,
            sort: Sort::Reads,
            by: By::Reads,
            filter: String::new(),
            input: Input::Plain,
            note: None,
        }
    }

    /// Asked again: an answer, or why there is none. What was known before stays on the screen.
    pub(super) fn know(&mut self, sample: Result<Box<Sample>, String>) {
        match sample {
            Ok(_) if self.is_paused => {}
            Ok(sample) => {
                self.sample = Some(sample);
                self.lost = None;
            }
            Err(why) => self.lost = Some(why),
        }
    }

    /// What came of a switch.
    pub(super) fn note(&mut self, done: Result<String, String>) {
        self.note = Some(done);
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Act {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Act::Quit;
        }
        match self.input {
            Input::Plain => return self.command(key.code),
            Input::Filter => self.write(key.code),
            Input::Mode => {
                self.input = match key.code {
                    KeyCode::Char('c') => Input::Sure(Mode::Cache),
                    KeyCode::Char('o') => Input::Sure(Mode::Observe),
                    KeyCode::Char('b') => Input::Sure(Mode::Bypass),
                    _ => Input::Plain,
                };
            }
            Input::Sure(mode) => {
                self.input = Input::Plain;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return Act::Switch(mode);
                }
            }
        }
        Act::None
    }

    fn command(&mut self, key: KeyCode) -> Act {
        self.note = None;
        match key {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('h') => {
                self.by = self.by.next();
                return Act::Rank(self.by);
            }
            KeyCode::Char('m') => self.input = Input::Mode,
            KeyCode::Char('/') => self.input = Input::Filter,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        Act::None
    }

    fn write(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.input = Input::Plain,
            KeyCode::Esc => {
                self.filter.clear();
                self.input = Input::Plain;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Input, Sample, Sort, State};
    use crate::cli::figures::By;
    use crate::cli::remote::Mode;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::{Value, json};

    fn press(state: &mut State, keys: &str) -> Vec<Act> {
        let code = |key| match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        keys.chars().map(|key| state.press(code(key).into())).collect()
    }

    #[test]
    fn a_mode_is_switched_only_by_who_is_sure() {
        let mut state = State::new(false);
        assert_eq!(press(&mut state, "mby"), [Act::None, Act::None, Act::Switch(Mode::Bypass)]);
        assert_eq!(state.input, Input::Plain);
        for refused in ["mbn", "mb\n", "mx", "m\u{1b}"] {
            assert!(press(&mut state, refused).iter().all(|act| *act == Act::None), "{refused:?}");
            assert_eq!(state.input, Input::Plain, "{refused:?}");
        }
        // A question does not take a command for an answer.
        assert_eq!(press(&mut state, "mq"), [Act::None, Act::None]);
        assert_eq!(press(&mut state, "q"), [Act::Quit]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut state, "/");
        assert_eq!(state.press(interrupt), Act::Quit);
    }

    #[test]
    fn a_filter_is_written_and_taken_away() {
        let mut state = State::new(false);
        press(&mut state, "/qsx\u{8}\n");
        assert_eq!((state.filter.as_str(), state.input), ("qs", Input::Plain));
        press(&mut state, "\u{1b}");
        assert_eq!(state.filter, "");
        press(&mut state, "/a\u{1b}");
        assert_eq!((state.filter.as_str(), state.input), ("", Input::Plain));
        assert_eq!(press(&mut state, "sh"), [Act::None, Act::Rank(By::Bytes)]);
        assert_eq!(state.sort, Sort::Bytes);
    }

    #[test]
    fn what_was_known_stays_while_nothing_newer_is() {
        let sample = |uptime: u64| {
            let status = json!({ "uptime_seconds": uptime });
            let nothing = Value::Null;
            Box::new(Sample {
                status,
                stats: nothing.clone(),
                hot: nothing.clone(),
                namespaces: nothing.clone(),
                invalidations: nothing,
            })
        };
        let known = |state: &State| state.sample.as_ref().unwrap().status["uptime_seconds"].clone();
        let mut state = State::new(false);
        state.know(Ok(sample(1)));
        state.know(Err("refused".to_owned()));
        assert_eq!((known(&state), state.lost.as_deref()), (1.into(), Some("refused")));
        press(&mut state, "p");
        state.know(Ok(sample(2)));
        assert_eq!(known(&state), 1);
        press(&mut state, "p");
        state.know(Ok(sample(3)));
        assert_eq!((known(&state), state.lost.as_deref()), (3.into(), None));
    }
}
