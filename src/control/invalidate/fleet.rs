//! The key version that a fleet shares (`keys.version_source = "upstream"`, R16): it stands in a
//! key upstream, and the tracking link tells of a change as of any other key's.
//!
//! ```text
//!   due     -->  SET key <version in force> NX, GET key  -->  what the fleet goes by
//!     ^                                                            |
//!     +------------- a push names the key, or all keys ------------+
//! ```
//!
//! A key that is not there (the first instance, FLUSHALL) is written with the version in force, so
//! an emptied server does not take the fleet back. It is asked again on each new connection: what
//! was changed while nobody heard is known before anything is served from the cache.

use crate::wire::reply;

/// What is so of the shared version on one connection.
#[derive(Debug)]
pub struct FleetVersion {
    /// The key that it stands in.
    key: Vec<u8>,
    /// The one in force here.
    in_force: String,
    state: State,
    /// Why upstream would not have it written.
    refused: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It is to be asked.
    Due,
    /// It is to be asked, but not at once: the server said that it cannot answer now.
    Later,
    /// It was asked.
    Asked,
    /// It was asked, and has changed since.
    Overtaken,
    /// It was told.
    Told(Said),
}

/// What upstream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The version in force here.
    Same,
    /// Another one.
    Other(String),
    /// Neither can be read nor written: the server's words.
    Refused(String),
}

impl FleetVersion {
    /// On a new connection.
    pub fn new(key: &str, in_force: &str) -> Self {
        Self {
            key: key.as_bytes().to_vec(),
            in_force: in_force.to_owned(),
            state: State::Due,
            refused: None,
        }
    }

    /// A push names this key; with `None` all keys, or it is in doubt.
    pub fn changed(&mut self, key: Option<&[u8]>) {
        if key.is_none_or(|key| key == self.key) {
            let is_out = matches!(self.state, State::Asked | State::Overtaken);
            self.state = if is_out { State::Overtaken } else { State::Due };
        }
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if self.state == State::Later {
            self.state = State::Due;
        }
    }

    /// What is to be asked now, if anything; both answers are shown to this in order.
    pub fn ask(&mut self) -> Option<[Vec<&[u8]>; 2]> {
        if self.state != State::Due {
            return None;
        }
        (self.state, self.refused) = (State::Asked, None);
        let (key, in_force) = (self.key.as_slice(), self.in_force.as_bytes());
        Some([vec![b"SET", key, in_force, b"NX"], vec![b"GET", key]])
    }

    /// The answer to the SET: only a refusal means anything, and only where there is no key.
    pub fn hear_set(&mut self, frame: &[u8]) {
        self.refused = error(frame);
    }

    /// The answer to the GET; what is new of it.
    pub fn hear_get(&mut self, frame: &[u8]) -> Option<Said> {
        if self.state == State::Overtaken {
            self.state = State::Due;
            return None;
        }
        let said = match reply::bulk(frame) {
            Some(version) if version == self.in_force.as_bytes() => Said::Same,
            Some(version) => Said::Other(String::from_utf8_lossy(version).into_owned()),
            None => {
                let refused = error(frame).or_else(|| self.refused.take());
                let Some(refused) = refused.filter(|refused| !passes(refused)) else {
                    self.state = State::Later;
                    return None;
                };
                Said::Refused(refused)
            }
        };
        self.state = State::Told(said.clone());
        Some(said)
    }

    /// True if the version in force here is the fleet's.
    pub fn is_in_force(&self) -> bool {
        self.state == State::Told(Said::Same)
    }
}

fn error(frame: &[u8]) -> Option<String> {
    let text = frame.strip_prefix(b"-")?;
    Some(String::from_utf8_lossy(text).trim_end().to_owned())
}

/// Errors that pass by themselves.
fn passes(error: &str) -> bool {
    ["BUSY", "LOADING", "MASTERDOWN", "TRYAGAIN"].iter().any(|word| error.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::{FleetVersion, Said};

    fn asked() -> FleetVersion {
        let mut fleet = FleetVersion::new("the:key", "v1");
        assert!(fleet.ask().is_some());
        assert!(fleet.ask().is_none(), "it is out");
        fleet
    }

    #[test]
    fn it_is_asked_at_first_and_after_each_change() {
        let mut fleet = asked();
        fleet.hear_set(b"_\r\n");
        assert_eq!(fleet.hear_get(b"$2\r\nv1\r\n"), Some(Said::Same));
        assert!(fleet.is_in_force());
        fleet.changed(Some(b"another"));
        assert!(fleet.ask().is_none());
        for key in [Some(&b"the:key"[..]), None] {
            fleet.changed(key);
            assert!(!fleet.is_in_force());
            assert!(fleet.ask().is_some());
            fleet.hear_set(b"+OK\r\n");
            assert_eq!(fleet.hear_get(b"$2\r\nv2\r\n"), Some(Said::Other("v2".to_owned())));
        }
    }

    #[test]
    fn an_answer_that_a_change_has_overtaken_says_nothing() {
        let mut fleet = asked();
        fleet.changed(Some(b"the:key"));
        fleet.hear_set(b"+OK\r\n");
        assert_eq!(fleet.hear_get(b"$2\r\nv1\r\n"), None);
        assert!(fleet.ask().is_some());
    }

    #[test]
    fn a_refusal_is_told_and_what_passes_is_asked_later() {
        let mut fleet = asked();
        fleet.hear_set(b"-NOPERM no SET\r\n");
        assert_eq!(fleet.hear_get(b"_\r\n"), Some(Said::Refused("NOPERM no SET".to_owned())));
        let mut fleet = asked();
        fleet.hear_set(b"-BUSY a script\r\n");
        assert_eq!(fleet.hear_get(b"-BUSY a script\r\n"), None);
        assert!(fleet.ask().is_none());
        fleet.tick();
        assert!(fleet.ask().is_some());
    }

    #[test]
    fn what_may_be_read_need_not_be_written() {
        let mut fleet = asked();
        fleet.hear_set(b"-NOPERM no SET\r\n");
        assert_eq!(fleet.hear_get(b"$2\r\nv1\r\n"), Some(Said::Same));
    }
}
