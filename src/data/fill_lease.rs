//! Fill leases (PROXY LEASE): of many clients that miss a key, one computes its value.
//!
//! ```text
//!   GET    a read as any other -- a value --> told here, as fresh or stale
//!                              `- nil ------> a letter: the value, the lease, or a wait for them
//!   SET, DROP                                 a letter
//!   a write of a key that may be lent         DEL of its lock in front of it (`void`)
//! ```
//!
//! In: requests, and the answers of reads that were asked for them. Out: replies, letters to the
//! thread of leases (`mail`), which alone asks for locks upstream, and a request of nearside's own
//! in front of writes.
//!
//! Invariant: what a client changes voids the lease that was given before, whether or not the key
//! was there: its lock is gone before the write is executed, on the same link, in the same
//! transaction. So no value that was computed of older data is stored behind the write.

use crate::command::{Spec, keys};
use crate::data::batch::Batch;
use crate::data::consult::{self, Found};
use crate::data::forward;
use crate::data::local::filter::SYNTAX;
use crate::data::local::reply;
use crate::data::order::Frame;
use crate::data::pinned::Step;
use crate::data::session::{Flow, Session};
use crate::data::stale;
use crate::data::upstream::{Kind, Place, Ticket, Waiter};
use crate::mail::{Answer, LEASE_VALUE_MAX, LeaseLetter, LeaseWish, Lent, Letterbox};
use crate::rules::Rule;
use crate::stats::{Counter, Outcome};
use crate::wire::number::parse_i64;
use crate::wire::reply as parse;
use crate::wire::request::{Request, Scan};
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;

/// The longest wait for a value.
const WAIT_MAX: i64 = 60_000;

/// The longest life of a lease, as `fill_lease` has it.
const LIFE_MAX: i64 = 600_000;

/// The longest expiry, which upstream can still add to its clock.
const EXPIRY_MAX: i64 = i64::MAX / 4;

const NO_NUMBER: &[u8] = b"ERR value is not an integer or out of range";
const NO_EXPIRY: &[u8] = b"ERR invalid expire time in 'proxy|lease' command";
const NOT_LENT: &[u8] = b"ERR this key has no fill leases (cache.fill_lease, rules.fill_lease)";
const TOO_LONG: &[u8] = b"ERR a value under a fill lease has 16777216 bytes at most";

/// A GET that is not answered yet.
#[derive(Debug)]
pub enum Asking {
    /// The key is read; if there is nothing, this is posted.
    Reading(Box<Wanted>),
    /// The letter is posted.
    Waiting {
        /// Dropped with the session: then nobody waits any more.
        alive: Arc<()>,
        /// True if it may take its time.
        is_patient: bool,
    },
}

/// A letter, and what it needs to be posted.
#[derive(Debug)]
pub struct Wanted {
    letterbox: Letterbox<LeaseLetter>,
    letter: LeaseLetter,
    alive: Arc<()>,
    is_patient: bool,
}

/// Serves PROXY LEASE.
#[cold]
pub fn answer(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    session.take_error();
    let served = match request.arg(2).to_ascii_lowercase().as_slice() {
        b"get" => get(session, request, batch),
        b"set" => set(session, request, batch),
        b"drop" => give_back(session, request, batch),
        _ => Err(SYNTAX),
    };
    if let Err(text) = served {
        session.error(text);
    }
    let is_error = session.take_error();
    batch.block.command(spec.index, is_error, 1);
    batch.block.observe(Outcome::Local, 0, 1);
    Flow::Next
}

/// `GET key wait-ms [TTL ms]`.
fn get(
    session: &mut Session,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Result<(), &'static [u8]> {
    let key = request.arg(3);
    let rule = rule(key, batch)?;
    let wait = number(request.arg(4), 0, WAIT_MAX).ok_or(NO_NUMBER)?;
    let life = match request.len() {
        5 => rule.fill_lease,
        7 if request.arg(5).eq_ignore_ascii_case(b"ttl") => {
            let millis = number(request.arg(6), 1, LIFE_MAX).ok_or(NO_NUMBER)?;
            Duration::from_millis(millis)
        }
        _ => return Err(SYNTAX),
    };
    let (mut text, mut args) = (BytesMut::new(), Vec::new());
    forward::write_words(&mut text, &[b"GET", key]);
    let limits = &batch.snapshot.limits.request;
    Scan::default().next(&text, &mut args, limits).map_err(|_| SYNTAX)?;
    let read = Request::new(&text, &args);
    let alive = Arc::new(());
    let wish =
        LeaseWish::Get { wait: Duration::from_millis(wait), life, client: Arc::downgrade(&alive) };
    let found = consult::find(session, batch.shared.get, &read, batch);
    match &found {
        Found::Fresh(entry) | Found::Stale(entry) => {
            let whole = stale::whole(entry, session.proto);
            if let Some(value) = parse::bulk(&whole) {
                let is_stale = matches!(found, Found::Stale(_));
                batch.block.add(Counter::LeaseStale, u64::from(is_stale));
                let lent = if is_stale { Lent::Stale(value) } else { Lent::Fresh(value) };
                reply(session, |out, proto| lent.write(out, proto));
                return Ok(());
            }
            let slot = session.order.leave_hole();
            session.wait();
            let letter = letter(session, slot, key, wish, batch);
            batch.shared.lease_letterbox.post(letter);
            session.asking = Some(Asking::Waiting { alive, is_patient: wait > 0 });
        }
        Found::Asked => {
            // It waits for nothing else, so this is its one hole.
            let slot = session.order.last_slot();
            session.wait();
            let letter = letter(session, slot, key, wish, batch);
            let letterbox = batch.shared.lease_letterbox.clone();
            let wanted = Wanted { letterbox, letter, alive, is_patient: wait > 0 };
            session.asking = Some(Asking::Reading(Box::new(wanted)));
        }
    }
    Ok(())
}

/// `SET key token value [EX s|PX ms]`.
fn set(
    session: &mut Session,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> Result<(), &'static [u8]> {
    let key = request.arg(3);
    let rule = rule(key, batch)?;
    let expiry = match request.len() {
        6 => rule.write_ttl,
        8 => {
            let unit = match request.arg(6).to_ascii_lowercase().as_slice() {
                b"ex" => 1000,
                b"px" => 1,
                _ => return Err(SYNTAX),
            };
            let count = parse_i64(request.arg(7)).ok_or(NO_NUMBER)?;
            let millis = count.checked_mul(unit).filter(|millis| (1..=EXPIRY_MAX).contains(millis));
            Some(Duration::from_millis(millis.map(i64::unsigned_abs).ok_or(NO_EXPIRY)?))
        }
        _ => return Err(SYNTAX),
    };
    if request.arg(5).len() > LEASE_VALUE_MAX {
        return Err(TOO_LONG);
    }
    let (token, value) = (request.arg(4).into(), request.arg(5).into());
    post(session, key, LeaseWish::Set { token, value, expiry }, batch);
    Ok(())
}

/// `DROP key token`.
fn give_back(
    session: &mut Session,
    request: &Request<'_>,
    batch: &Batch<'_>,
) -> Result<(), &'static [u8]> {
    let key = request.arg(3);
    rule(key, batch)?;
    if request.len() != 5 {
        return Err(SYNTAX);
    }
    post(session, key, LeaseWish::Drop { token: request.arg(4).into() }, batch);
    Ok(())
}

/// The rule of a key that may be lent.
fn rule<'b>(key: &[u8], batch: &Batch<'b>) -> Result<&'b Rule, &'static [u8]> {
    let rule = batch.snapshot.rules.find(key);
    if rule.fill_lease.is_zero() { Err(NOT_LENT) } else { Ok(rule) }
}

fn number(word: &[u8], least: i64, most: i64) -> Option<u64> {
    let number = parse_i64(word).filter(|number| (least..=most).contains(number))?;
    Some(number.unsigned_abs())
}

fn post(session: &mut Session, key: &[u8], wish: LeaseWish, batch: &Batch<'_>) {
    let slot = session.order.leave_hole();
    session.wait();
    batch.shared.lease_letterbox.post(letter(session, slot, key, wish, batch));
}

fn letter(
    session: &Session,
    slot: u32,
    key: &[u8],
    wish: LeaseWish,
    batch: &Batch<'_>,
) -> LeaseLetter {
    let (client, way) = (batch.me, batch.shared.flights.way_to(batch.worker));
    LeaseLetter {
        wish,
        key: key.into(),
        db: session.space.db(),
        proto: session.proto,
        answer: Answer::new(move |reply| way.bring(Waiter { client, slot }, reply)),
    }
}

impl Asking {
    /// True while its client waits for somebody else, and may leave.
    pub const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { is_patient: true, .. })
    }
}

impl Session {
    /// The answer to a GET of its own, or to the read for it.
    #[cold]
    pub fn hear_of_lease(&mut self, slot: u32, frame: &Frame<'_>) {
        let Some(Asking::Reading(wanted)) = self.asking.take() else {
            return self.deliver(slot, frame);
        };
        if parse::is_null(frame.bytes()) {
            let Wanted { letterbox, letter, alive, is_patient } = *wanted;
            letterbox.post(letter);
            self.asking = Some(Asking::Waiting { alive, is_patient });
            return;
        }
        // An error is told as it is.
        let Some(value) = parse::bulk(frame.bytes()) else {
            return self.deliver(slot, frame);
        };
        let is_stale = self.standing.was_stale();
        let lent = if is_stale { Lent::Stale(value) } else { Lent::Fresh(value) };
        let mut told = BytesMut::new();
        lent.write(&mut told, self.proto);
        self.deliver(slot, &Frame::Borrowed(&told));
    }
}

/// A request that may change keys is about to be written: leases on them are void, whatever
/// becomes of it.
#[cold]
pub fn void(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    let (rules, names) = (&batch.snapshot.rules, &batch.snapshot.names);
    let mut locks = Vec::new();
    keys::for_each(
        spec,
        request.len(),
        |at| request.arg(at),
        |at| {
            let key = request.arg(at);
            if !rules.find(key).fill_lease.is_zero() {
                locks.push(names.fill_lock(key));
            }
        },
    );
    if locks.is_empty() {
        return;
    }
    let mut words: Vec<&[u8]> = vec![b"DEL"];
    words.extend(locks.iter().map(Vec::as_slice));
    let in_transaction = session.is_in_transaction();
    let now = batch.view.now;
    let link = batch.links.of(session);
    if in_transaction {
        forward::write_words(&mut link.output, &words);
        let kind = Kind::Own(Box::new(Step::Queue(Place::Nobodys)));
        link.push(Ticket::new(Waiter::NOBODY, spec, now, kind));
    } else {
        link.push_silent(spec, &words, false, now);
    }
}
