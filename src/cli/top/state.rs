//! What `nearside top` knows and what its user has chosen. In: samples and keys; out: what to do.
//! No clock, no terminal, no socket.

use super::pages;
use crate::cli::figures::By;
use crate::cli::remote::Mode;
use crate::cli::sort::{Clients, Namespaces};
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
    pub(super) upstreams: Value,
    /// Null where nobody looks at them.
    pub(super) clients: Value,
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
            "upstreams": self.upstreams,
        })
    }
}

/// What stands below the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// A part of each list.
    Overview,
    /// Hot keys.
    Keys,
    Namespaces,
    /// Servers, and where messages are heard.
    Upstreams,
    Clients,
}

impl Page {
    /// All of them: the first is that of the key `1`.
    pub(super) const ALL: [Self; 5] =
        [Self::Overview, Self::Keys, Self::Namespaces, Self::Upstreams, Self::Clients];

    /// The same in words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Keys => "hot keys",
            Self::Namespaces => "namespaces",
            Self::Upstreams => "upstreams",
            Self::Clients => "clients",
        }
    }
}

/// What the proxy is asked for, beside what it is always asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// How hot keys are ranked.
    pub(super) by: By,
    /// The clients, in this order; they may be many, and are not asked for unseen.
    pub(super) clients: Option<Clients>,
}

/// Something that is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forget {
    /// For people: `key orders:42`.
    pub(super) words: String,
    /// What the API takes.
    pub(super) order: Value,
}

/// What keys mean now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Commands.
    Plain,
    /// The filter is written.
    Filter,
    /// A mode is chosen.
    Mode,
    /// This mode is confirmed, or not.
    Sure(Mode),
    /// This is confirmed, or not.
    Forget(Forget),
}

/// What a key asks for beyond the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    None,
    Quit,
    /// Switch the proxy's mode.
    Switch(Mode),
    /// Ask for something else from now on.
    Ask(Wanted),
    /// Have something be forgotten, here and by the peers.
    Forget(Forget),
}

/// All that the screen shows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sample: Option<Box<Sample>>,
    /// Why there is no newer sample.
    pub(super) lost: Option<String>,
    pub(super) is_paused: bool,
    pub(super) is_colored: bool,
    pub(super) page: Page,
    /// The row of the page's list that is chosen, if it has so many.
    pub(super) chosen: usize,
    pub(super) sort: Namespaces,
    pub(super) by: By,
    pub(super) clients: Clients,
    pub(super) filter: String,
    pub(super) input: Input,
    /// What came of the last switch, or of the last order.
    pub(super) note: Option<Result<String, String>>,
}

impl State {
    pub(super) const fn new(is_colored: bool) -> Self {
        Self {
            sample: None,
            lost: None,
            is_paused: false,
            is_colored,
            page: Page::Overview,
            chosen: 0,
            sort: Namespaces::Reads,
            by: By::Reads,
            clients: Clients::Id,
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

    /// What the proxy is to be asked for.
    pub(super) fn wanted(&self) -> Wanted {
        let clients = (self.page == Page::Clients).then_some(self.clients);
        Wanted { by: self.by, clients }
    }

    /// What came of a switch, or of an order.
    pub(super) fn note(&mut self, done: Result<String, String>) {
        self.note = Some(done);
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Act {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Act::Quit;
        }
        let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
        match std::mem::replace(&mut self.input, Input::Plain) {
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
            Input::Sure(mode) if is_yes => return Act::Switch(mode),
            Input::Forget(what) if is_yes => return Act::Forget(what),
            Input::Sure(_) | Input::Forget(_) => {}
        }
        Act::None
    }

    fn command(&mut self, key: KeyCode) -> Act {
        self.note = None;
        let before = self.wanted();
        match key {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char(digit @ '1'..='5') => self.turn_to(digit),
            KeyCode::Char('s') => self.sort_next(),
            KeyCode::Char('h') => self.by = self.by.next(),
            KeyCode::Char('m') => self.input = Input::Mode,
            KeyCode::Char('/') => self.input = Input::Filter,
            KeyCode::Char('i') => self.forget(),
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.chosen.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.chosen.saturating_sub(1)),
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        let wanted = self.wanted();
        if wanted == before { Act::None } else { Act::Ask(wanted) }
    }

    fn turn_to(&mut self, digit: char) {
        let place = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(1);
        if let Some(page) = Page::ALL.get(place - 1) {
            (self.page, self.chosen) = (*page, 0);
        }
    }

    /// The list that the page is about; on the first that of namespaces.
    fn sort_next(&mut self) {
        match self.page {
            Page::Overview | Page::Namespaces => self.sort = self.sort.next(),
            Page::Keys => self.by = self.by.next(),
            Page::Clients => self.clients = self.clients.next(),
            Page::Upstreams => {}
        }
    }

    /// No further than there are rows.
    fn choose(&mut self, row: usize) {
        self.chosen = row.min(pages::listed(self).len().saturating_sub(1));
    }

    /// Asks whether the chosen row is to be forgotten, or says why it cannot be.
    fn forget(&mut self) {
        let chosen = pages::listed(self).get(self.chosen).map(|row| pages::forget(self.page, row));
        match chosen {
            Some(Ok(what)) => self.input = Input::Forget(what),
            Some(Err(why)) => self.note = Some(Err(why.to_owned())),
            None => self.note = Some(Err("nothing is chosen: 2 and 3 have lists".to_owned())),
        }
    }

    fn write(&mut self, key: KeyCode) {
        self.chosen = 0;
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => return self.filter.clear(),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.input = Input::Filter;
    }
}

#[cfg(test)]
mod tests {
    use super::{Act, Forget, Input, Page, Sample, State, Wanted};
    use crate::cli::figures::By;
    use crate::cli::remote::Mode;
    use crate::cli::sort::{Clients, Namespaces};
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
        assert_eq!((state.filter.as_str(), &state.input), ("qs", &Input::Plain));
        press(&mut state, "\u{1b}");
        assert_eq!(state.filter, "");
        press(&mut state, "/a\u{1b}");
        assert_eq!((state.filter.as_str(), &state.input), ("", &Input::Plain));
        let wanted = Wanted { by: By::Bytes, clients: None };
        assert_eq!(press(&mut state, "sh"), [Act::None, Act::Ask(wanted)]);
        assert_eq!(state.sort, Namespaces::Bytes);
    }

    #[test]
    fn pages_have_lists_and_their_order() {
        let mut state = State::new(false);
        let wanted = |by, clients| Act::Ask(Wanted { by, clients });
        let oldest = wanted(By::Reads, Some(Clients::Id));
        let busiest = wanted(By::Reads, Some(Clients::Commands));
        assert_eq!(press(&mut state, "5s"), [oldest, busiest]);
        assert_eq!(press(&mut state, "4s"), [wanted(By::Reads, None), Act::None]);
        assert_eq!(press(&mut state, "2s"), [Act::None, wanted(By::Bytes, None)]);
        assert_eq!(press(&mut state, "3s9"), [Act::None, Act::None, Act::None]);
        assert_eq!((state.page, state.sort), (Page::Namespaces, Namespaces::Bytes));
    }

    #[test]
    fn what_is_chosen_is_forgotten_by_who_is_sure() {
        let mut state = State::new(false);
        let row = |name: &str, reads: u64| json!({ "namespace": name, "reads_per_second": reads });
        let namespaces =
            json!({ "namespaces": [row("a", 1), row("b", 3), row("_other", 2), row("c", 1)] });
        let keys = json!({ "keys": [
            { "key": "a:1" }, { "key_base64": "/w==" }, { "key_hash": "00" },
            { "key": "long", "key_cut_at": 4 },
        ]});
        let mut sample = nothing();
        (sample.namespaces, sample.hot) = (namespaces, keys);
        state.know(Ok(Box::new(sample)));
        let forget = |words: &str, order: Value| Forget { words: words.to_owned(), order };
        let b = forget("namespace b", json!({ "namespace": "b" }));
        assert_eq!(press(&mut state, "3iy"), [Act::None, Act::None, Act::Forget(b)]);
        press(&mut state, "ji");
        assert!(matches!(&state.note, Some(Err(why)) if why.contains("_other")), "{state:?}");
        // Not above the first row, nor below the last.
        let c = forget("namespace c", json!({ "namespace": "c" }));
        press(&mut state, "kkkjjjjjji");
        assert_eq!(state.input, Input::Forget(c));
        assert_eq!(press(&mut state, "n"), [Act::None]);
        assert_eq!(state.input, Input::Plain);

        let key = forget("key a:1", json!({ "keys": ["a:1"] }));
        assert_eq!(press(&mut state, "2iy")[2], Act::Forget(key));
        let key = forget("key /w== (base64)", json!({ "keys_base64": ["/w=="] }));
        assert_eq!(press(&mut state, "jiy")[2], Act::Forget(key));
        for why in ["show_keys", "longer"] {
            press(&mut state, "ji");
            assert!(matches!(&state.note, Some(Err(said)) if said.contains(why)), "{state:?}");
        }
        press(&mut state, "1i");
        assert!(matches!(&state.note, Some(Err(why)) if why.contains("nothing is chosen")));
    }

    fn nothing() -> Sample {
        Sample {
            status: Value::Null,
            stats: Value::Null,
            hot: Value::Null,
            namespaces: Value::Null,
            invalidations: Value::Null,
            upstreams: Value::Null,
            clients: Value::Null,
        }
    }

    #[test]
    fn what_was_known_stays_while_nothing_newer_is() {
        let sample = |uptime: u64| {
            Box::new(Sample { status: json!({ "uptime_seconds": uptime }), ..nothing() })
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
