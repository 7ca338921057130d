//! Letters: what a client asks of nearside that only the main thread can do, because it takes its
//! time or is about more than a connection.
//!
//! In: a worker posts a letter and goes on; its client waits in the order of its replies. Out: the
//! main thread reads letters, and gives each its answer, which goes back by the way that the worker
//! put into the letter. So neither wing knows the other. Fill leases have a letterbox and a reader
//! of their own ([`LeaseLetter`]): they are asked for by misses, thousands a second.
//!
//! Invariants: the letterbox is bounded, and who finds it full is told so; every letter that was
//! posted has exactly one answer, even if nobody reads it.

use crate::command::Spec;
use crate::net::client::PeerAddress;
use crate::wire::write::{self, Proto};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::mpsc;

/// Letters that wait to be read. Each client has one at most.
const LETTERS_MAX: usize = 1024;

/// The same, of letters about fill leases: all clients may miss the same key at once.
const LEASE_LETTERS_MAX: usize = 1 << 16;

/// Bytes of a value that is stored under a fill lease, at most.
pub const LEASE_VALUE_MAX: usize = 16 << 20;

/// Bytes of one letter at most: what waits in the box is bounded.
const LENGTH_MAX: usize = 1 << 20;

/// What is counted for a word beside its bytes.
const WORD_COSTS: usize = 32;

/// What is said to a client whose letter nobody will answer.
const UNANSWERED: &[u8] = b"-ERR nearside is ending, or too busy to do this\r\n";

/// A request for the main thread.
#[derive(Debug)]
pub struct Letter {
    /// Its row.
    pub row: &'static Spec,
    /// Its words, behind those that name the row.
    pub words: Vec<Box<[u8]>>,
    /// How the answer is to be written.
    pub proto: Proto,
    /// Who asks.
    pub from: PeerAddress,
    /// Where the answer goes.
    pub answer: Answer,
}

impl Letter {
    /// True if a letter may hold these words.
    pub fn may_hold(words: impl Iterator<Item: AsRef<[u8]>>) -> bool {
        words.map(|word| word.as_ref().len() + WORD_COSTS).sum::<usize>() <= LENGTH_MAX
    }
}

/// A client wants, uses or gives back a fill lease.
#[derive(Debug)]
pub struct LeaseLetter {
    /// What it wants.
    pub wish: LeaseWish,
    /// Its key, as it names it.
    pub key: Box<[u8]>,
    /// Its database.
    pub db: u32,
    /// How the answer is to be written.
    pub proto: Proto,
    /// Where the answer goes.
    pub answer: Answer,
}

/// What is wanted of a fill lease.
#[derive(Debug)]
pub enum LeaseWish {
    /// The value, or the lease: there was no value a moment ago.
    Get {
        /// How long it may be waited for.
        wait: Duration,
        /// How long the lease is to be good.
        life: Duration,
        /// Gone when the client is.
        client: Weak<()>,
    },
    /// To store the value and to give the lease back.
    Set {
        /// What names the lease.
        token: Box<[u8]>,
        /// The value.
        value: Box<[u8]>,
        /// Its expiry, if it has one.
        expiry: Option<Duration>,
    },
    /// To give the lease back.
    Drop {
        /// What names the lease.
        token: Box<[u8]>,
    },
}

/// What a client is told that asked for a value or the lease to compute it. The words are the
/// reply's third member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent<'b> {
    /// The value.
    Fresh(&'b [u8]),
    /// A value past its time, while it is read anew.
    Stale(&'b [u8]),
    /// There is none, and this client may compute it: the token.
    Granted(&'b [u8]),
    /// There is none, and somebody else computes it.
    Held,
}

impl Lent<'_> {
    /// `[value, token, word]`, with nil for what is not there.
    pub fn write(self, out: &mut BytesMut, proto: Proto) {
        let (value, token, word) = match self {
            Self::Fresh(value) => (Some(value), None, "fresh"),
            Self::Stale(value) => (Some(value), None, "stale"),
            Self::Granted(token) => (None, Some(token), "granted"),
            Self::Held => (None, None, "held"),
        };
        write::array(out, 3);
        for member in [value, token, Some(word.as_bytes())] {
            match member {
                Some(bytes) => write::bulk(out, bytes),
                None => write::null(out, proto),
            }
        }
    }
}

/// The way back to the client that waits: one complete reply.
pub struct Answer(Option<Box<dyn FnOnce(Bytes) + Send>>);

impl Answer {
    /// `give` brings the reply to the client.
    pub fn new(give: impl FnOnce(Bytes) + Send + 'static) -> Self {
        Self(Some(Box::new(give)))
    }

    /// The reply.
    pub fn give(mut self, reply: Bytes) {
        if let Some(give) = self.0.take() {
            give(reply);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(give) = self.0.take() {
            give(Bytes::from_static(UNANSWERED));
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.0.is_some()).finish()
    }
}

/// Where letters are posted.
#[derive(Debug)]
pub struct Letterbox<L = Letter>(mpsc::Sender<L>);

/// Where they are read.
pub type Letters<L = Letter> = mpsc::Receiver<L>;

impl Letterbox {
    /// A letterbox, and what comes out of it.
    pub fn new() -> (Self, Letters) {
        let (letterbox, letters) = mpsc::channel(LETTERS_MAX);
        (Self(letterbox), letters)
    }
}

impl Letterbox<LeaseLetter> {
    /// The same, for fill leases.
    pub fn for_leases() -> (Self, Letters<LeaseLetter>) {
        let (letterbox, letters) = mpsc::channel(LEASE_LETTERS_MAX);
        (Self(letterbox), letters)
    }
}

impl<L> Clone for Letterbox<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L> Letterbox<L> {
    /// Posts a letter. If that cannot be, its client is told so.
    pub fn post(&self, letter: L) {
        // What is not taken is dropped, and answers itself.
        drop(self.0.try_send(letter));
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, LETTERS_MAX, Letter, Letterbox, UNANSWERED};
    use crate::command::own;
    use crate::net::client::PeerAddress;
    use crate::wire::write::Proto;
    use bytes::Bytes;
    use std::sync::mpsc::{Receiver, channel};

    fn letter() -> (Letter, Receiver<Bytes>) {
        let (sender, answers) = channel();
        let answer = Answer::new(move |reply| sender.send(reply).unwrap());
        let row = own::by_name("proxy|clear").unwrap();
        let from = PeerAddress::Tcp(([127, 0, 0, 1], 1).into());
        (Letter { row, words: Vec::new(), proto: Proto::Resp2, from, answer }, answers)
    }

    #[test]
    fn a_letter_is_bounded() {
        let holds = |count: usize, word: &[u8]| Letter::may_hold((0..count).map(|_| word));
        assert!(holds(10_000, b"orders:123456"));
        assert!(!holds(1 << 15, b"k") && !holds(1, &vec![0; 1 << 20]));
    }

    #[test]
    fn every_letter_has_one_answer() {
        let (letterbox, mut letters) = Letterbox::new();
        let (one, answers) = letter();
        letterbox.post(one);
        letters.try_recv().unwrap().answer.give(Bytes::from_static(b"+OK\r\n"));
        assert_eq!(answers.iter().collect::<Vec<_>>(), [&b"+OK\r\n"[..]]);
        let waiting: Vec<_> = (0..=LETTERS_MAX)
            .map(|_| {
                let (one, answers) = letter();
                letterbox.post(one);
                answers
            })
            .collect();
        assert_eq!(waiting[LETTERS_MAX].recv().unwrap(), UNANSWERED, "there was no room");
        assert!(waiting[0].try_recv().is_err(), "it may still be read");
        drop(letters);
        assert_eq!(waiting[0].recv().unwrap(), UNANSWERED, "nobody reads");
        let (late, answers) = letter();
        letterbox.post(late);
        assert_eq!(answers.recv().unwrap(), UNANSWERED);
    }
}
