//! One connection of the upstream: what was asked on it, what it has to say, and what becomes of
//! that before it is on the wire.

use crate::oracle::Time;
use crate::rng::Rng;
use crate::wire::Far;
use nearside::wire::request;

/// What nearside may ask at once.
const LIMITS: request::Limits =
    request::Limits { args_max: 1 << 10, bulk_max: 1 << 22, unauthenticated: false };

/// Words of a request.
pub(crate) type Words = Vec<Vec<u8>>;

/// What becomes of one reply that is not what it should be (faults of the lying kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Lost,
    Extra,
    Twice,
    Misshapen,
    /// A value and its PTTL: whatever is read behind them, all answers are of fitting types.
    PairLost,
    PairTwice,
    /// The PTTL comes before its value.
    PairSwapped,
}

impl Lie {
    /// True if it is told of a value and its PTTL.
    const fn is_of_pair(self) -> bool {
        matches!(self, Self::PairLost | Self::PairTwice | Self::PairSwapped)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) far: Far,
    pub(crate) input: Vec<u8>,
    /// Said, and not yet on the wire.
    pub(crate) outbox: Vec<u8>,
    pub(crate) is_resp3: bool,
    /// It hears of changes.
    pub(crate) is_tracking: bool,
    /// Of which round of links it is: the server of another round may be another.
    pub(crate) round: u64,
    /// It is one client's own: nearside asks for its number.
    pub(crate) is_own: bool,
    /// It has asked for something that is no part of a handshake.
    pub(crate) is_used: bool,
    pub(crate) multi: Option<Vec<Words>>,
    pub(crate) is_dirty: bool,
    pub(crate) watched: Vec<(usize, u64)>,
    /// Nothing goes on before.
    pub(crate) held_until: Time,
    /// Nothing ever comes or goes on it again.
    pub(crate) is_frozen: bool,
    /// It ends when its outbox is empty.
    pub(crate) is_ending: bool,
    /// What the next reply becomes, or the next value and its PTTL.
    pub(crate) lie: Option<Lie>,
    /// The value, while its PTTL is awaited.
    lied_of: Option<Vec<u8>>,
    /// It has lied, and what it says goes on bit by bit, so that what comes of it is seen.
    pub(crate) has_lied: bool,
}

/// How much of what a liar says goes on at once: two answers or three.
const BIT: usize = 64;

impl Conn {
    pub(crate) fn new(far: Far, round: u64) -> Self {
        Self {
            far,
            round,
            input: Vec::new(),
            outbox: Vec::new(),
            is_resp3: false,
            is_tracking: false,
            is_own: false,
            is_used: false,
            multi: None,
            is_dirty: false,
            watched: Vec::new(),
            held_until: 0,
            is_frozen: false,
            is_ending: false,
            lie: None,
            lied_of: None,
            has_lied: false,
        }
    }

    pub(crate) fn next(&mut self) -> Option<Words> {
        let (mut scan, mut args) = (request::Scan::default(), Vec::new());
        match scan.next(&self.input, &mut args, &LIMITS) {
            Ok(request::Found::Request(length)) => {
                let words = args.iter().map(|arg| arg.of(&self.input).to_vec()).collect();
                self.input.drain(..length);
                Some(words)
            }
            Ok(request::Found::NeedMore) => None,
            other => panic!("nearside sent {other:?}"),
        }
    }

    /// Where the last invalidation begins in its outbox, behind an answer.
    pub(crate) fn last_push(&self) -> Option<usize> {
        let push: &[u8] = b">2\r\n$10\r\ninvalidate\r\n";
        self.outbox.windows(push.len()).rposition(|window| window == push).filter(|at| *at > 0)
    }

    /// True if it is known to serve clients, and more than one of them.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_used && !self.is_own && !self.is_tracking
    }

    /// True between MULTI and EXEC.
    pub(crate) const fn is_in_multi(&self) -> bool {
        self.multi.is_some()
    }

    /// True if nothing is under way on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.input.is_empty() && self.outbox.is_empty() && self.far.is_idle()
    }

    /// What was asked and will not be read.
    pub(crate) fn take_unread(&mut self) -> Vec<Words> {
        self.far.receive(&mut self.input);
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Lets so many bytes go on.
    pub(crate) fn deliver(&mut self, most: usize, now: Time) {
        if self.is_frozen || self.held_until > now {
            return;
        }
        let most = if self.has_lied { most.min(BIT) } else { most };
        let count = self.outbox.len().min(most);
        if count > 0 {
            self.far.send(&self.outbox[..count]);
            self.outbox.drain(..count);
        }
        if self.is_ending && self.outbox.is_empty() {
            self.far.finish();
        }
    }

    /// A reply was written from here on: it may become another.
    pub(crate) fn lie(&mut self, from: usize) {
        let Some(lie) = self.lie else { return };
        if lie.is_of_pair() && self.lied_of.is_none() && !self.reads_on() {
            return;
        }
        self.has_lied = true;
        let honest = self.outbox.split_off(from);
        let value = self.lied_of.take();
        let lied = match (lie, &value) {
            (Lie::Lost | Lie::PairLost, _) | (Lie::PairSwapped, None) => Vec::new(),
            (Lie::Extra, _) => [b"$5\r\nextra\r\n", &honest[..]].concat(),
            (Lie::Twice, _) => honest.repeat(2),
            (Lie::Misshapen, _) if honest[0] == b':' => b"$2\r\n:)\r\n".to_vec(),
            (Lie::Misshapen, _) => b":77\r\n".to_vec(),
            (Lie::PairTwice, None) => honest.clone(),
            (Lie::PairTwice, Some(value)) => [&honest[..], value, &honest].concat(),
            (Lie::PairSwapped, Some(value)) => [&honest[..], value].concat(),
        };
        self.outbox.extend_from_slice(&lied);
        if lie.is_of_pair() && value.is_none() {
            self.lied_of = Some(honest);
        } else {
            self.lie = None;
        }
    }

    /// It is honest again.
    pub(crate) fn stop_lying(&mut self) {
        (self.lie, self.lied_of, self.has_lied) = (None, None, false);
    }

    /// True if the PTTL of what was read comes next, and behind it another read.
    fn reads_on(&self) -> bool {
        let mut args = Vec::new();
        let found = request::Scan::default().next(&self.input, &mut args, &LIMITS);
        let Ok(request::Found::Request(length)) = found else { return false };
        let behind = &self.input[length..];
        let is_read = behind.starts_with(b"*2\r\n$3\r\nGET\r\n")
            || behind.starts_with(b"*3\r\n$4\r\nHGET\r\n");
        is_read && args[0].of(&self.input) == b"PTTL"
    }
}

impl Conn {
    /// Stands in the place of one that is looked at.
    pub(crate) fn gone() -> Self {
        Self::new(crate::wire::wire(Rng::new(0)).1, 0)
    }
}
