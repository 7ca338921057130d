//! The canary of a shared link: a PING with a number that nobody can guess, behind requests.
//!
//! RESP has no numbers by which an answer says what it answers: one answer lost or doubled, and
//! every later one goes to the wrong client. The canary comes back at its own place only if as many
//! answers came before it as requests went. What a cached read brought is therefore held, stored
//! and not servable, until the canary behind it has come (`verify = "fills"`); or no answer is
//! delivered before that (`"strict"`).
//!
//! ```text
//!   fills     one canary out at a time: behind the batch that wants it; the next when it is back
//!   strict    one behind every batch; its answers lie in the link's input until it has come
//! ```
//!
//! Two answers that change places between two canaries cannot be told, where their shapes agree.

use crate::cache::{Entry, Life, Token};
use crate::command::{Spec, by_name};
use crate::config::Verify;
use crate::data::settle::Fault;
use crate::wire::reply::Scan;
use crate::wire::write;
use bytes::BytesMut;
use foldhash::fast::RandomState;
use std::collections::VecDeque;
use std::hash::BuildHasher;

/// Bytes of the number, in hexadecimal.
const NUMBER_LEN: usize = 16;

/// Bytes of its answer: `$16`, the number.
pub(super) const ANSWER_LEN: usize = NUMBER_LEN + 7;

/// A reply that was stored and waits for the canary behind it.
#[derive(Debug)]
pub struct Held {
    /// The hash of its key.
    pub hash: u64,
    /// What was stored, not servable yet.
    pub entry: Entry,
    /// The right by which it was.
    pub token: Token,
    /// How long it lives; `None` if it has ended.
    pub life: Option<Life>,
}

/// What one link knows of its canaries.
#[derive(Debug)]
pub struct Canary {
    ping: Option<&'static Spec>,
    numbers: RandomState,
    written: u64,
    /// True if something was asked since the last one was written that is to wait for one.
    is_wanted: bool,
    /// Those that are out, oldest first.
    out: VecDeque<Out>,
    /// Answers awaited since the last one.
    answers: u64,
    held: Vec<Held>,
    ahead: Ahead,
}

/// A canary that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    /// As it will come.
    answer: [u8; ANSWER_LEN],
    /// Answers before it, from the one before.
    behind: u64,
}

/// How far the input was looked at before anything of it is settled (`strict`).
#[derive(Debug, Default)]
struct Ahead {
    scan: Scan,
    /// Bytes of the input that were looked at.
    looked: usize,
    /// Bytes of the input up to the end of the last canary.
    verified: usize,
    /// Answers seen since that.
    seen: u64,
    /// Canaries seen that were not settled yet.
    passed: usize,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            ping: by_name("ping"),
            numbers: RandomState::default(),
            written: 0,
            is_wanted: false,
            out: VecDeque::new(),
            answers: 0,
            held: Vec::new(),
            ahead: Ahead::default(),
        }
    }
}

impl Canary {
    /// What was just asked is to wait for a canary.
    #[inline]
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// So many answers are awaited more.
    #[inline]
    pub fn expect_answers(&mut self, count: u32) {
        self.answers += u64::from(count);
    }

    /// True if one is to be written now. `has_output`: there are requests that it would follow.
    #[inline]
    pub fn is_due(&self, verify: Verify, has_output: bool) -> bool {
        match verify {
            Verify::Off => false,
            Verify::Fills => self.is_wanted && self.out.is_empty(),
            Verify::Strict => has_output,
        }
    }

    /// Writes one; the caller adds its ticket, of this row.
    pub fn write(&mut self, out: &mut BytesMut) -> Option<&'static Spec> {
        self.is_wanted = false;
        let number = self.numbers.hash_one(self.written);
        self.written += 1;
        let mut answer = *b"$16\r\n0000000000000000\r\n";
        for (place, digit) in answer.iter_mut().skip(5).take(NUMBER_LEN).zip(0..) {
            let nibble = usize::try_from((number >> (4 * digit)) & 15).unwrap_or(0);
            *place = b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0');
        }
        write::array(out, 2);
        write::bulk(out, b"PING");
        out.extend_from_slice(&answer);
        self.out.push_back(Out { answer, behind: std::mem::take(&mut self.answers) });
        self.ping
    }

    /// True if this is the answer of the canary that is out, which it may be at its own place only.
    #[inline]
    pub fn is_answer(&self, frame: &[u8]) -> bool {
        frame.len() == ANSWER_LEN && self.out.front().is_some_and(|out| out.answer == *frame)
    }

    /// The canary's answer has come to its place: what was held, if the number is the one that was
    /// sent. An error (-BUSY, -LOADING, -NOPERM) says nothing, so nothing that was held is served.
    pub fn heard(&mut self, frame: &[u8]) -> Result<std::vec::Drain<'_, Held>, Fault> {
        let is_it = self.is_answer(frame);
        self.out.pop_front();
        self.ahead.passed = self.ahead.passed.saturating_sub(1);
        match frame.first() {
            _ if is_it => {}
            Some(b'-') => self.held.clear(),
            _ => return Err(Fault::Canary),
        }
        Ok(self.held.drain(..))
    }

    /// Holds what was stored until the next canary comes.
    #[inline]
    pub fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// How much of the input may be settled (`strict`): all up to the last canary in it.
    pub fn verified(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let ahead = &mut self.ahead;
        loop {
            let unseen = input.get(ahead.looked..).unwrap_or_default();
            let Some(length) = ahead.scan.next(unseen)? else {
                return Ok(ahead.verified);
            };
            let frame = unseen.get(..length).unwrap_or_default();
            ahead.looked += length;
            if frame.first() == Some(&b'>') {
                continue;
            }
            let out = self.out.get(ahead.passed).ok_or(Fault::Stray)?;
            if ahead.seen < out.behind {
                // Answers were lost; an error might stand at its place, and be taken for its own.
                if frame == out.answer {
                    return Err(Fault::Canary);
                }
                ahead.seen += 1;
                continue;
            }
            if frame != out.answer && !is_refusal(frame) {
                return Err(Fault::Canary);
            }
            ahead.verified = ahead.looked;
            ahead.seen = 0;
            ahead.passed += 1;
        }
    }

    /// So many bytes of the input were settled.
    #[inline]
    pub fn settled(&mut self, count: usize) {
        self.ahead.looked = self.ahead.looked.saturating_sub(count);
        self.ahead.verified = self.ahead.verified.saturating_sub(count);
    }

    /// The connection is gone. What was held stays stored and unservable: the same reply from
    /// another connection proves it, any other removes it.
    pub fn reset(&mut self) {
        self.is_wanted = false;
        self.answers = 0;
        self.out.clear();
        self.held.clear();
        self.ahead = Ahead::default();
    }
}

/// True for the errors that a server has for PING itself: any other at a canary's place is the
/// answer to a request, and one was said twice. (These are for all requests of that moment.)
fn is_refusal(frame: &[u8]) -> bool {
    const REFUSALS: [&[u8]; 6] =
        [b"-LOADING ", b"-BUSY ", b"-MASTERDOWN ", b"-MISCONF ", b"-NOAUTH ", b"-NOPERM "];
    REFUSALS.iter().any(|refusal| frame.starts_with(refusal))
}

#[cfg(test)]
mod tests {
    use super::{ANSWER_LEN, Canary};
    use crate::config::Verify;
    use crate::data::settle::Fault;
    use bytes::BytesMut;

    /// A canary behind `answers` answers, and the bytes of its answer.
    fn sent(canary: &mut Canary, answers: u32) -> Vec<u8> {
        canary.expect_answers(answers);
        let mut out = BytesMut::new();
        canary.write(&mut out);
        let answer = out.split_off(out.len() - ANSWER_LEN);
        assert_eq!(&out[..], b"*2\r\n$4\r\nPING\r\n");
        answer.to_vec()
    }

    #[test]
    fn no_two_numbers_are_alike() {
        let mut canary = Canary::default();
        let numbers: std::collections::HashSet<_> =
            (0..1000).map(|_| sent(&mut canary, 0)).collect();
        assert_eq!(numbers.len(), 1000);
    }

    #[test]
    fn one_is_out_at_a_time_where_only_fills_wait() {
        let mut canary = Canary::default();
        assert!(!canary.is_due(Verify::Fills, true), "nothing wants it");
        canary.want();
        assert!(canary.is_due(Verify::Fills, true) && !canary.is_due(Verify::Off, true));
        let answer = sent(&mut canary, 1);
        canary.want();
        assert!(!canary.is_due(Verify::Fills, true), "one is out");
        assert!(canary.heard(&answer).is_ok());
        assert!(canary.is_due(Verify::Fills, false), "and the next is due at once");
        assert!(canary.is_due(Verify::Strict, true) && !canary.is_due(Verify::Strict, false));
    }

    #[test]
    fn only_its_own_number_proves_anything() {
        let mut canary = Canary::default();
        let answer = sent(&mut canary, 1);
        assert!(canary.is_answer(&answer) && !canary.is_answer(b"$1\r\nx\r\n"));
        let other = sent(&mut canary, 1);
        assert_eq!(canary.heard(&other).err(), Some(Fault::Canary));
        assert!(canary.heard(b"-BUSY\r\n").is_ok(), "an error is an answer that proves nothing");
    }

    #[test]
    fn nothing_is_settled_before_its_canary() {
        let mut canary = Canary::default();
        let first = sent(&mut canary, 2);
        let second = sent(&mut canary, 0);
        let mut input = b"+OK\r\n".to_vec();
        assert_eq!(canary.verified(&input), Ok(0));
        input.extend(b">2\r\n+message\r\n:1\r\n:2\r\n");
        input.extend(&first[..9]);
        assert_eq!(canary.verified(&input), Ok(0));
        input.extend(&first[9..]);
        let end = input.len();
        assert_eq!(canary.verified(&input), Ok(end));
        assert!(canary.heard(&first).is_ok());
        canary.settled(end);
        assert_eq!(canary.verified(&second), Ok(second.len()));
    }

    #[test]
    fn a_canary_before_its_place_is_seen_though_an_error_stands_there() {
        let mut canary = Canary::default();
        let number = sent(&mut canary, 2);
        let input = [b"+OK\r\n", &number[..], b"-READONLY\r\n"].concat();
        assert_eq!(canary.verified(&input), Err(Fault::Canary));
    }

    #[test]
    fn a_lost_or_doubled_answer_is_seen_before_anything_is_delivered() {
        for answers in [&b"+OK\r\n"[..], b"+OK\r\n+OK\r\n+OK\r\n"] {
            let mut canary = Canary::default();
            let number = sent(&mut canary, 2);
            // The answer behind a lost one stands where the canary should.
            let input = [answers, &number, b"+OK\r\n"].concat();
            assert_eq!(canary.verified(&input), Err(Fault::Canary));
        }
    }
}
