//! Reads that one worker has on their way and clients of another may join (R5), so that a hot key
//! that was invalidated is fetched once, not once per worker.
//!
//! The worker that asks publishes its read with what it was asked under (question and token);
//! others leave a waiter there. When the answer has been stored or refused the flight lands: the
//! owner sends each worker one letter with the bytes and its waiters; if its link is lost, they
//! read for themselves. Only reads with a token are published: the token is what says that the
//! flight is no older than the one who joins.
//!
//! Another worker's link keeps no order with the waiter's own: who has joined here asks nothing
//! more of upstream until it has its answer (`Session::is_abroad`).

use crate::cache::{Extra, Question, Space, Token};
use crate::command;
use crate::data::upstream::Waiter;
use crate::stats::Counter;
use crate::wire::write::{self, Proto};
use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What became of a flight that clients of another worker had joined.
#[derive(Clone, Debug)]
pub enum News {
    /// Its answer.
    Reply(Bytes),
    /// What is kept past its time, and why it is told: upstream has not answered.
    Stale(Counter, Bytes),
    /// There will be none: this read, as its client might have sent it, is to be asked again.
    Lost(Bytes),
}

/// A letter from the worker whose flight it was to one whose clients wait.
#[derive(Debug)]
pub struct Landing {
    /// The clients.
    pub waiters: Vec<Waiter>,
    /// What they are told.
    pub news: News,
}

/// All published flights. With one worker there are none.
#[derive(Debug)]
pub struct Flights {
    table: DashMap<u64, Flight, RandomState>,
    /// By worker. Never long: a client has no more waiters out than it may have requests.
    letters: Box<[UnboundedSender<Landing>]>,
}

/// A read that wants to join or to be joined.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'q> {
    /// The worker whose client asks.
    pub worker: usize,
    /// The name of the flight: selects, while the bytes decide.
    pub name: u64,
    /// What is asked.
    pub question: &'q Question<'q>,
    /// The protocol of the link, which decides what nil looks like.
    pub link: Proto,
}

#[derive(Debug)]
struct Flight {
    owner: usize,
    token: Token,
    /// Key and arguments, as [`crate::cache::Extra::write`] writes them.
    text: Box<[u8]>,
    key_length: usize,
    command: u16,
    space: Space,
    proto: u8,
    link: Proto,
    joined: Vec<(usize, Waiter)>,
}

impl Flight {
    fn takes(&self, asked: &Asked<'_>, token: &Token) -> bool {
        let question = asked.question;
        let (key, extra) = self.text.split_at_checked(self.key_length).unwrap_or_default();
        self.owner != asked.worker
            && self.token.may_be_joined_by(token)
            && key == question.key
            && question.extra.is(extra)
            && self.command == question.command
            && self.space == question.space
            && self.proto == question.proto
            && self.link == asked.link
    }

    fn read(&self) -> Bytes {
        let (key, extra) = self.text.split_at_checked(self.key_length).unwrap_or_default();
        as_sent(self.command, key, Extra::Written(extra))
    }
}

/// A read as a client sends it.
pub fn as_sent(command: u16, key: &[u8], extra: Extra<'_>) -> Bytes {
    let row = command::all().get(usize::from(command));
    let name = row.map_or_else(String::new, |row| row.name.to_ascii_uppercase());
    let mut parts = vec![name.as_bytes(), key];
    extra.each(|argument| parts.push(argument));
    let mut bytes = BytesMut::new();
    write::array(&mut bytes, parts.len());
    for part in parts {
        write::bulk(&mut bytes, part);
    }
    bytes.freeze()
}

/// Brings a reply to a client of one worker, as a flight that has landed does.
#[derive(Debug)]
pub struct Way(Option<UnboundedSender<Landing>>);

impl Way {
    /// Brings it. A worker that is gone has no clients either.
    pub fn bring(self, waiter: Waiter, reply: Bytes) {
        if let Some(letters) = self.0 {
            letters.send(Landing { waiters: vec![waiter], news: News::Reply(reply) }).ok();
        }
    }
}

impl Flights {
    /// The flights of this many workers, and where each receives its letters.
    #[expect(
        clippy::disallowed_methods,
        reason = "a letter has a waiter at least, and a client may have so many out and no more"
    )]
    pub fn new(workers: usize) -> (Self, Vec<UnboundedReceiver<Landing>>) {
        let (letters, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| unbounded_channel()).unzip();
        let flights = Self { table: DashMap::default(), letters: letters.into() };
        (flights, inboxes)
    }

    /// Joins another worker's flight, if there is one; `wait` is then asked for the waiter.
    #[inline]
    pub fn join(&self, asked: &Asked<'_>, token: &Token, wait: impl FnOnce() -> Waiter) -> bool {
        self.are_shared() && self.join_other(asked, token, wait)
    }

    fn join_other(&self, asked: &Asked<'_>, token: &Token, wait: impl FnOnce() -> Waiter) -> bool {
        let Some(mut flight) = self.table.get_mut(&asked.name) else {
            return false;
        };
        let joins = flight.takes(asked, token);
        if joins {
            flight.joined.push((asked.worker, wait()));
        }
        joins
    }

    /// Publishes a read. False if its name is taken: then nobody can join it.
    #[inline]
    pub fn publish(&self, asked: &Asked<'_>, token: &Token) -> bool {
        self.are_shared() && self.publish_to_others(asked, token)
    }

    fn publish_to_others(&self, asked: &Asked<'_>, token: &Token) -> bool {
        let Entry::Vacant(place) = self.table.entry(asked.name) else {
            return false;
        };
        let question = asked.question;
        let mut text = Vec::with_capacity(question.key.len() + question.extra.written_len());
        text.extend_from_slice(question.key);
        question.extra.write(&mut text);
        place.insert(Flight {
            owner: asked.worker,
            token: *token,
            text: text.into(),
            key_length: question.key.len(),
            command: question.command,
            space: question.space,
            proto: question.proto,
            link: asked.link,
            joined: Vec::new(),
        });
        true
    }

    /// A published flight has its answer; answers how many clients had joined.
    pub fn land(&self, name: u64, reply: impl FnOnce() -> Bytes) -> u64 {
        self.end(name, |_| News::Reply(reply()))
    }

    /// As [`Self::land`], with what is kept past its time.
    pub fn land_stale(&self, name: u64, reason: Counter, reply: &Bytes) -> u64 {
        self.end(name, |_| News::Stale(reason, reply.clone()))
    }

    /// A published flight's link is lost.
    pub fn crash(&self, name: u64) {
        self.end(name, |flight| News::Lost(flight.read()));
    }

    /// Nobody can tell what became of this worker's flights.
    pub fn crash_all(&self, worker: usize) {
        let of_worker = |flight: &Flight| flight.owner == worker;
        let names: Vec<u64> = self
            .table
            .iter()
            .filter_map(|flight| of_worker(&flight).then_some(*flight.key()))
            .collect();
        for name in names {
            self.crash(name);
        }
    }

    fn end(&self, name: u64, news: impl FnOnce(&Flight) -> News) -> u64 {
        let Some((_, flight)) = self.table.remove(&name) else {
            return 0;
        };
        if flight.joined.is_empty() {
            return 0;
        }
        let (count, news) = (flight.joined.len() as u64, news(&flight));
        for (worker, letters) in self.letters.iter().enumerate() {
            let waiters: Vec<Waiter> = flight
                .joined
                .iter()
                .filter_map(|(of, waiter)| (*of == worker).then_some(*waiter))
                .collect();
            if !waiters.is_empty() {
                // A worker that is gone has no clients either.
                letters.send(Landing { waiters, news: news.clone() }).ok();
            }
        }
        count
    }

    /// True if nothing is on its way that others may join.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The way to this worker's clients, for an answer of somebody else's.
    pub fn way_to(&self, worker: usize) -> Way {
        Way(self.letters.get(worker).cloned())
    }

    /// True if there are other workers.
    #[inline]
    pub fn are_shared(&self) -> bool {
        self.letters.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Flights, Landing, News};
    use crate::cache::{Extra, Question, Space, Token};
    use crate::data::upstream::{ClientId, Waiter};
    use crate::units::clock::Tick;
    use crate::wire::write::Proto;
    use bytes::Bytes;

    const QUESTION: Question<'static> = Question {
        key: b"k",
        hash: 7,
        command: 3,
        space: Space::own(0),
        proto: 0,
        extra: Extra::Written(b""),
    };

    fn token(generation: u64) -> Token {
        Token {
            generation,
            epoch: 1,
            tracked: true,
            bans: 0,
            asked_at: Tick(5),
            renews: None,
            lease: 1,
        }
    }

    fn waiter(slot: u32) -> Waiter {
        Waiter { client: ClientId { place: 1, number: 1 }, slot }
    }

    fn asked<'q>(question: &'q Question<'q>, worker: usize) -> Asked<'q> {
        Asked { worker, name: 9, question, link: Proto::Resp2 }
    }

    #[test]
    fn each_worker_hears_of_its_own_waiters_once() {
        let (flights, mut inboxes) = Flights::new(3);
        let token = token(1);
        assert!(flights.publish(&asked(&QUESTION, 0), &token));
        assert!(!flights.publish(&asked(&QUESTION, 1), &token), "the name is taken");
        for (worker, slot) in [(1, 10), (2, 20), (1, 11)] {
            assert!(flights.join(&asked(&QUESTION, worker), &token, || waiter(slot)));
        }
        assert_eq!(flights.land(9, || Bytes::from_static(b"$-1\r\n")), 3);
        assert_eq!(flights.land(9, || panic!("it has landed")), 0);
        let mut slots = inboxes.iter_mut().map(|inbox| {
            let landing = inbox.try_recv().ok();
            assert!(inbox.try_recv().is_err(), "one letter");
            landing.map(|landing| landing.waiters.iter().map(|waiter| waiter.slot).collect())
        });
        assert_eq!(slots.next(), Some(None));
        assert_eq!(slots.next(), Some(Some(vec![10, 11])));
        assert_eq!(slots.next(), Some(Some(vec![20])));
    }

    #[test]
    fn nobody_joins_what_may_be_older_or_is_another_question() {
        let (flights, _inboxes) = Flights::new(2);
        let (one, two) = (token(1), token(2));
        assert!(flights.publish(&asked(&QUESTION, 0), &one));
        let never = || panic!("it must not join");
        let right = asked(&QUESTION, 1);
        assert!(!flights.join(&right, &two, never), "R5");
        assert!(
            !flights.join(&Asked { link: Proto::Resp3, ..right }, &one, never),
            "its nil differs"
        );
        assert!(!flights.join(&Asked { worker: 0, ..right }, &one, never), "its own");
        assert!(!flights.join(&Asked { name: 8, ..right }, &one, never));
        for other in [
            Question { key: b"l", ..QUESTION },
            Question { command: 4, ..QUESTION },
            Question { space: Space::own(1), ..QUESTION },
            Question { space: Space::new(1, 0), ..QUESTION },
            Question { proto: 3, ..QUESTION },
            Question { extra: Extra::Written(b"\x01\0\0\0x"), ..QUESTION },
        ] {
            assert!(!flights.join(&Asked { question: &other, ..right }, &one, never), "{other:?}");
        }
        let late = Token { asked_at: Tick(9), ..one };
        assert!(!flights.join(&right, &late, never), "older than a hit may be stale");
        assert!(flights.join(&right, &one, || waiter(1)));
    }

    #[test]
    fn who_waits_for_a_lost_flight_gets_the_read_back() {
        let (flights, mut inboxes) = Flights::new(2);
        let command = crate::command::by_name("getrange").unwrap().index;
        let extra = Extra::Written(b"\x01\0\0\x002\x02\0\0\0-1");
        let question = Question { command, extra, ..QUESTION };
        assert!(flights.publish(&asked(&question, 0), &token(1)));
        assert!(flights.join(&asked(&question, 1), &token(1), || waiter(4)));
        flights.crash(9);
        let Ok(Landing { waiters, news: News::Lost(read) }) = inboxes[1].try_recv() else {
            panic!("no letter");
        };
        assert_eq!(waiters[0].slot, 4);
        assert_eq!(&read[..], b"*4\r\n$8\r\nGETRANGE\r\n$1\r\nk\r\n$1\r\n2\r\n$2\r\n-1\r\n");
    }

    #[test]
    fn one_worker_publishes_nothing() {
        let (flights, _inboxes) = Flights::new(1);
        assert!(!flights.publish(&asked(&QUESTION, 0), &token(1)));
        assert_eq!(flights.land(9, || panic!("nothing can land")), 0);
    }
}
