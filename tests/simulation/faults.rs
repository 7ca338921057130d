//! What goes wrong: each fault of the upstream, its wires and the clients, as it strikes.

use crate::conn::{Conn, Lie};
use crate::oracle::{MS, Time};
use crate::rng::Rng;
use crate::server::{Server, invalidation};
use crate::words::{KEYS, PREFIX};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A connection stands still for less than a timeout.
    Delay,
    /// For longer.
    Stall,
    /// For ever, and nobody closes it.
    HalfOpen,
    Reset,
    /// The server closes, after what it had said.
    Finish,
    /// It breaks off within what it had said, and closes, resets or says nothing more.
    Truncate,
    /// Bytes that are no RESP.
    Garbage,
    /// Nobody can connect.
    Refuse,
    /// Who connects is closed at once.
    Shut,
    Loading,
    Busy,
    ReadOnly,
    OutOfMemory,
    /// A reply where nothing was asked.
    Stray,
    /// A push on a link that is not for pushes.
    PushOnData,
    TrackingReset,
    /// The tracking link stands still, and lives on.
    TrackingLate,
    /// It stands still between an answer and the push behind it.
    TrackingTorn,
    /// It says nothing any more.
    TrackingSilent,
    /// An invalidation of what has not changed.
    Forged,
    /// Of keys that are not ours, and pushes of other kinds.
    Foreign,
    /// Everything is said to have changed.
    Flushed,
    /// The server has become a replica, and is a primary again later.
    Replica,
    /// Changes are not told, though the tracking link lives.
    Mute,
    /// An operator has all links opened anew.
    Reconnect,
    /// An operator wants no links for a while.
    Disable,
    /// A client goes, whatever it has out.
    ClientGone,
    /// A client does not read.
    ClientSlow,
    /// The upstream lies.
    Lie(Lie),
}

/// What nearside can always stand: no reply is wrong.
pub(crate) const HONEST: &[Fault] = &[
    Fault::Delay,
    Fault::Stall,
    Fault::HalfOpen,
    Fault::Reset,
    Fault::Finish,
    Fault::Truncate,
    Fault::Garbage,
    Fault::Refuse,
    Fault::Shut,
    Fault::Loading,
    Fault::Busy,
    Fault::ReadOnly,
    Fault::OutOfMemory,
    Fault::Stray,
    Fault::PushOnData,
    Fault::TrackingReset,
    Fault::TrackingLate,
    Fault::TrackingTorn,
    Fault::TrackingSilent,
    Fault::Forged,
    Fault::Foreign,
    Fault::Flushed,
    Fault::Replica,
    Fault::Mute,
    Fault::Reconnect,
    Fault::Disable,
    Fault::ClientGone,
    Fault::ClientSlow,
];

/// What only a canary can find: replies that have slipped, of shapes that fit.
pub(crate) const LIES: &[Fault] = &[
    Fault::Lie(Lie::Lost),
    Fault::Lie(Lie::Extra),
    Fault::Lie(Lie::Twice),
    Fault::Lie(Lie::Misshapen),
    Fault::Lie(Lie::PairLost),
    Fault::Lie(Lie::PairTwice),
    Fault::Lie(Lie::PairSwapped),
];

/// Those of which nobody is given a wrong answer where all answers are counted before they are
/// delivered: the number of answers is right in the others, and of some commands any type is.
/// (A PTTL in its value's place is of no type that a read gives.)
pub(crate) const COUNTED_LIES: &[Fault] = &[
    Fault::Lie(Lie::Lost),
    Fault::Lie(Lie::Extra),
    Fault::Lie(Lie::Twice),
    Fault::Lie(Lie::PairLost),
    Fault::Lie(Lie::PairTwice),
    Fault::Lie(Lie::PairSwapped),
];

/// What the simulation itself does about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Nothing: it was the server's, or did not strike (no such connection).
    Done(bool),
    /// Connecting is refused, or closed at once, until then.
    Porch(Door, Time),
    /// All links are closed, and opened anew, though not before then.
    Links(Option<Time>),
    ClientGone,
    ClientSlow,
}

/// What becomes of who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Refused,
    Shut,
}

impl Server {
    /// A fault strikes.
    pub(crate) fn strike(&mut self, fault: Fault, now: Time, rng: &mut Rng) -> Strike {
        let soon = |rng: &mut Rng, least, most| now + rng.between(least, most) as Time * MS;
        match fault {
            Fault::Refuse => Strike::Porch(Door::Refused, soon(rng, 1, 900)),
            Fault::Shut => Strike::Porch(Door::Shut, soon(rng, 1, 300)),
            Fault::Reconnect => Strike::Links(None),
            Fault::Disable => Strike::Links(Some(soon(rng, 1, 900))),
            Fault::ClientGone => Strike::ClientGone,
            Fault::ClientSlow => Strike::ClientSlow,
            Fault::Loading => self.refuse_some("LOADING", rng),
            Fault::Busy => self.refuse_some("BUSY", rng),
            Fault::ReadOnly => self.refuse_some("READONLY", rng),
            Fault::OutOfMemory => self.refuse_some("OOM", rng),
            Fault::Replica => {
                self.is_replica = !self.is_replica;
                Strike::Done(true)
            }
            Fault::Mute => {
                self.is_mute = !self.is_mute;
                Strike::Done(true)
            }
            Fault::Forged => {
                let names = [rng.below(KEYS), rng.below(KEYS)]
                    .map(|key| format!("{PREFIX}{}", self.names().of_key(key)));
                self.push(&invalidation(&names));
                Strike::Done(true)
            }
            Fault::Foreign => {
                self.push(&invalidation(&["v2:k0:000000".to_owned(), "\u{e4}".to_owned()]));
                self.push(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
                self.push(b">1\r\n$10\r\ninvalidate\r\n");
                Strike::Done(true)
            }
            Fault::Flushed => {
                self.push(b">2\r\n$10\r\ninvalidate\r\n_\r\n");
                Strike::Done(true)
            }
            _ => Strike::Done(self.strike_one(fault, now, rng)),
        }
    }

    fn refuse_some(&mut self, text: &'static str, rng: &mut Rng) -> Strike {
        self.refusal = Some((text, rng.between(1, 6)));
        Strike::Done(true)
    }

    /// Strikes one connection. False if there is none of its kind.
    fn strike_one(&mut self, fault: Fault, now: Time, rng: &mut Rng) -> bool {
        let is_tracking = matches!(
            fault,
            Fault::TrackingReset
                | Fault::TrackingLate
                | Fault::TrackingTorn
                | Fault::TrackingSilent
        );
        // What its own link says to a client is nobody else's, and is not cached.
        let is_lie = matches!(fault, Fault::Lie(_));
        let fits = |place: &usize| {
            let conn = &self.conns[*place];
            let is_fit = !is_lie || conn.is_shared();
            is_fit && conn.is_tracking == is_tracking && !conn.is_frozen && !conn.is_ending
        };
        let places: Vec<usize> = (0..self.conns.len()).filter(fits).collect();
        if places.is_empty() {
            return false;
        }
        let place = match fault {
            // Where much is asked at once answers slip unseen, while fills are held for a canary.
            Fault::Lie(_) => {
                places.into_iter().max_by_key(|place| self.conns[*place].far.unread()).unwrap()
            }
            _ => *rng.pick(&places),
        };
        let conn = &mut self.conns[place];
        let soon = |rng: &mut Rng, least, most| now + rng.between(least, most) as Time * MS;
        match fault {
            Fault::Delay => conn.hold(soon(rng, 1, 250), rng),
            Fault::TrackingLate => conn.hold(soon(rng, 1, 900), rng),
            Fault::TrackingTorn => {
                let Some(at) = conn.last_push() else { return false };
                self.deliver(place, at, now);
                self.conns[place].hold(soon(rng, 300, 900), rng);
            }
            Fault::Stall => conn.hold(soon(rng, 700, 2500), rng),
            Fault::HalfOpen | Fault::TrackingSilent => {
                conn.hold(now, rng);
                conn.is_frozen = true;
            }
            Fault::Reset | Fault::TrackingReset => self.reset(place, rng),
            Fault::Finish => conn.is_ending = true,
            Fault::Truncate => {
                if conn.outbox.is_empty() {
                    return false;
                }
                let kept = rng.below(conn.outbox.len());
                conn.outbox.truncate(kept);
                self.deliver(place, kept, now);
                let conn = &mut self.conns[place];
                match rng.below(3) {
                    0 => conn.is_ending = true,
                    1 => conn.is_frozen = true,
                    _ => self.reset(place, rng),
                }
            }
            Fault::Garbage => {
                const GARBAGE: &[&[u8]] =
                    &[b"?what\r\n", b"$01\r\na\r\n", b"$-2\r\n", b"*-5\r\n", b"HTTP/1.1 400\r\n"];
                let garbage: &&[u8] = rng.pick(GARBAGE);
                conn.outbox.extend_from_slice(garbage);
                conn.is_ending = true;
            }
            Fault::Stray => {
                if !conn.is_used || !conn.is_idle() || conn.held_until > now {
                    return false;
                }
                conn.far.send(b"$5\r\nstray\r\n");
            }
            Fault::PushOnData => {
                if !conn.is_used {
                    return false;
                }
                let name = format!("{PREFIX}{}", self.data_name(rng.below(KEYS)));
                self.conns[place].outbox.extend_from_slice(&invalidation(&[name]));
            }
            // One of each connection: what is lost and what is added between two numbers even out,
            // and no number tells of it (README says so).
            Fault::Lie(_) if conn.lie.is_some() || conn.has_lied => return false,
            Fault::Lie(lie) => conn.lie = Some(lie),
            _ => return false,
        }
        true
    }

    fn data_name(&self, key: usize) -> String {
        self.names().of_key(key).to_owned()
    }

    /// What was asked on it and not read is executed later, or never.
    fn reset(&mut self, place: usize, rng: &mut Rng) {
        let mut conn = self.conns.swap_remove(place);
        conn.far.reset();
        if rng.chance(50) && !conn.is_in_multi() {
            let words = conn.take_unread();
            let whole = words.into_iter().take_while(|words| {
                !matches!(words[0].as_slice(), b"MULTI" | b"HELLO" | b"CLIENT" | b"WATCH")
            });
            self.late.extend(whole.filter(|words| words.len() > 1));
        }
    }

    /// Faults end; what is frozen stays so.
    pub(crate) fn heal(&mut self) {
        self.refusal = None;
        (self.is_replica, self.is_mute) = (false, false);
        for conn in &mut self.conns {
            conn.held_until = 0;
            conn.stop_lying();
        }
    }

    /// What is frozen ends, as keepalives would end it.
    pub(crate) fn thaw(&mut self) {
        for conn in self.conns.extract_if(.., |conn| conn.is_frozen) {
            conn.far.reset();
        }
    }
}

impl Conn {
    /// Nothing comes or goes until then; half of the time what nearside writes soon has no room.
    fn hold(&mut self, until: Time, rng: &mut Rng) {
        self.held_until = until;
        if rng.chance(50) {
            self.far.set_room(rng.below(150));
        }
    }
}
