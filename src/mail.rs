//! Letters: what a client asks of nearside that only the main thread can do, because it takes its
//! time or is about more than a connection.
//!
//! In: a worker posts a letter and goes on; its client waits in the order of its replies. Out: the
//! main thread reads letters, and gives each its answer, which goes back by the way that the worker
//! put into the letter. So neither wing knows the other.
//!
//! Invariants: the letterbox is bounded, and who finds it full is told so; every letter that was
//! posted has exactly one answer, even if nobody reads it.

use crate::command::Spec;
use crate::net::client::PeerAddress;
use crate::wire::write::Proto;
use bytes::Bytes;
use std::fmt;
use tokio::sync::mpsc;

/// Letters that wait to be read. Each client has one at most.
const LETTERS_MAX: usize = 1024;

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
#[derive(Clone, Debug)]
pub struct Letterbox(mpsc::Sender<Letter>);

/// Where they are read.
pub type Letters = mpsc::Receiver<Letter>;

impl Letterbox {
    /// A letterbox, and what comes out of it.
    pub fn new() -> (Self, Letters) {
        let (letterbox, letters) = mpsc::channel(LETTERS_MAX);
        (Self(letterbox), letters)
    }

    /// Posts a letter. If that cannot be, its client is told so.
    pub fn post(&self, letter: Letter) {
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
