//! The server of the model: one key by its names under two key versions, and a table of what BCAST
//! has to tell.
//!
//! It does the worst that a real one may (coherence F2, F6, F8): replies leave at once, a push at
//! any later moment, but before the answer to the second PING that follows the write.

use std::collections::VecDeque;

/// By the names of the key: `v1:k`, and `v2:k`, which is used once the key version was switched.
pub(crate) type ByName<T> = [T; 2];

/// The key upstream, and everything written to it. Versions count from 0, which was there before;
/// so was 1, under the other name.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where each name stands.
    pub(crate) stands: ByName<u32>,
    /// By version: its name.
    pub(crate) name: Vec<usize>,
    /// By version: when it was acknowledged to whoever wrote it.
    pub(crate) acked_at: Vec<Option<u64>>,
    /// By version: the tick from which on it is gone.
    pub(crate) ends_at: Vec<Option<u64>>,
    /// By version: true if it is the key's absence.
    pub(crate) is_nil: Vec<bool>,
    /// The name that the link is told of.
    pub(crate) tracked: usize,
    /// Written since the last PING was executed.
    fresh: bool,
    /// Written before that, and not told yet.
    old: bool,
    /// True while it tracks for the link.
    pub(crate) tracks: bool,
    /// Rounds not yet executed.
    pub(crate) rounds: u8,
    /// The link's stream towards nearside.
    pub(crate) stream: VecDeque<Message>,
}

/// What the tracking link carries.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Message {
    /// Of the key by this name.
    Push(usize),
    Pong,
}

impl Message {
    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Push(0) => b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nv1:k\r\n",
            Self::Push(_) => b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nv2:k\r\n",
            Self::Pong => b"+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
        }
    }
}

impl Server {
    pub(crate) fn new(life: Option<u64>) -> Self {
        Self {
            stands: [0, 1],
            name: vec![0, 1],
            acked_at: vec![Some(0); 2],
            ends_at: vec![life, None],
            is_nil: vec![false; 2],
            tracked: 0,
            fresh: false,
            old: false,
            tracks: true,
            rounds: 0,
            stream: VecDeque::new(),
        }
    }

    /// A write; its version.
    pub(crate) fn write(&mut self, name: usize) -> u32 {
        self.next(name, false);
        self.fresh |= self.tracks && name == self.tracked;
        self.stands[name]
    }

    /// The key changes, which nobody is told of.
    pub(crate) fn change(&mut self) {
        self.next(0, false);
    }

    /// The key expires, which nobody is told of.
    pub(crate) fn expire(&mut self, now: u64) {
        let ends_at = self.ends_at[self.stands[0] as usize];
        if ends_at.is_some_and(|end| now >= end) {
            self.next(0, true);
        }
    }

    fn next(&mut self, name: usize, is_nil: bool) {
        self.stands[name] = u32::try_from(self.name.len()).unwrap();
        self.name.push(name);
        self.acked_at.push(None);
        self.ends_at.push(None);
        self.is_nil.push(is_nil);
    }

    /// The version that a reply of `GET` stands for.
    pub(crate) fn version_of(&self, digits: Option<u32>) -> u32 {
        let nil = || self.is_nil.iter().position(|is_nil| *is_nil).unwrap();
        digits.unwrap_or_else(|| u32::try_from(nil()).unwrap())
    }

    /// The answer to one request.
    pub(crate) fn execute(&mut self, words: &[Vec<u8>], now: u64) -> Vec<u8> {
        let name = usize::from(words[1].starts_with(b"v2:"));
        let version = self.stands[name] as usize;
        match words[0].as_slice() {
            b"GET" | b"GETEX" if self.is_nil[version] => b"$-1\r\n".to_vec(),
            b"GET" | b"GETEX" => bulk(self.stands[name]),
            b"MGET" => {
                let one = [b"GET".to_vec(), words[1].clone()];
                [b"*1\r\n".to_vec(), self.execute(&one, now)].concat()
            }
            b"PTTL" if self.is_nil[version] => b":-2\r\n".to_vec(),
            b"PTTL" => match self.ends_at[version] {
                Some(end) => format!(":{}\r\n", (end - now) * crate::fixture::TICK_MS).into_bytes(),
                None => b":-1\r\n".to_vec(),
            },
            b"SET" => format!("+{}\r\n", self.write(name)).into_bytes(),
            other => panic!("the model's server does not know {}", other.escape_ascii()),
        }
    }

    /// True if a push could be sent.
    pub(crate) fn has_news(&self) -> bool {
        self.fresh || self.old
    }

    /// The end of an event-loop cycle.
    pub(crate) fn broadcast(&mut self) {
        self.stream.push_back(Message::Push(self.tracked));
        (self.fresh, self.old) = (false, false);
    }

    /// Executes a round.
    pub(crate) fn ping(&mut self) {
        self.rounds -= 1;
        if self.old {
            self.stream.push_back(Message::Push(self.tracked));
        }
        self.old = std::mem::take(&mut self.fresh);
        self.stream.push_back(Message::Pong);
    }

    /// The link is gone on this side: whatever happens is not told.
    pub(crate) fn cut(&mut self) {
        self.tracks = false;
        self.rounds = 0;
        (self.fresh, self.old) = (false, false);
    }
}

fn bulk(version: u32) -> Vec<u8> {
    let text = version.to_string();
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}
