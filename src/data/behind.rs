//! Write-behind, where clients meet it: which writes are taken before upstream has them, and what
//! becomes of requests for keys of which one is pending.
//!
//! ```text
//!   a write that its rule has behind --> the queue (`behind`), acknowledged as `ack` says
//!   GET of a pending key             --> the value that was written last, if it is known here
//!   anything else about one          --> waits until upstream has it; then upstream is asked
//!   what may be about any key        --> waits until upstream has all
//! ```
//!
//! In: each request, where write-behind is on; elsewhere clients are plain, and a hit pays nothing.
//! Out: its reply, a hole that the log fills, or word that it has to wait.
//!
//! Invariants: a key of which a write is pending is neither served from the cache nor filled (the
//! bump comes behind the push, and again before the write is settled), and no other write of it
//! goes upstream meanwhile; a write is taken only if its client has nothing out that may be about
//! the same key, for the queue keeps no order with links.

use crate::behind::queue::{Queue, Seen, Told};
use crate::behind::record::Write;
use crate::cache::stripe_bit;
use crate::command::{Class, Disposition, Refusal, Spec, keys};
use crate::config::{Mode, OnDown};
use crate::data::batch::Batch;
use crate::data::bounds;
use crate::data::forward::write_words;
use crate::data::lifetime;
use crate::data::session::{Flow, Session};
use crate::data::settle::{Lost, lost_text};
use crate::data::standing::Fate;
use crate::data::upstream::Waiter;
use crate::mail::Answer;
use crate::stats::Counter;
use crate::units::clock::{Tick, unix_millis};
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write;
use bytes::{Bytes, BytesMut};

/// Lifetimes beyond this are for the server to judge.
const LIFETIME_MAX_MS: i64 = 1 << 42;

/// A request that waits until upstream has a write.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// The number of the write.
    number: u64,
    /// It is waited for no longer than this.
    until: Tick,
}

impl Awaited {
    /// True while there is something to wait for; who looks at it waits on.
    pub fn is_pending(&self, queue: &Queue, now: Tick) -> bool {
        let is_pending = !queue.is_settled(self.number) && now < self.until;
        if is_pending {
            queue.hurry(self.until);
        }
        is_pending
    }
}

/// What becomes of a request because of writes that are pending, or because it is one that may be;
/// `None`: it is served as any other.
pub fn look(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let queue = batch.shared.behind.as_deref()?;
    if !spec.accepts(request.len()) {
        return None;
    }
    if let Some(awaited) = session.flush {
        if awaited.is_pending(queue, batch.view.now) {
            return Some(Flow::Behind);
        }
        // What was written since, others have written while this was waiting.
        session.flush = None;
        return (!queue.is_settled(awaited.number)).then(|| give_up(session, batch));
    }
    if session.own.is_none()
        && batch.gate == Mode::Cache
        && let Some(flow) = take(session, spec, request, queue, batch)
    {
        return Some(flow);
    }
    if queue.is_empty() {
        return None;
    }
    // (Under a prefix FLUSHALL is refused, and done all the same.)
    let is_refused = match disposition(spec, request, batch) {
        Disposition::Refuse(why) => why != Refusal::OtherVersions,
        _ => false,
    };
    if is_refused {
        return None;
    }
    let number = match Reach::of(session, spec, request) {
        Reach::Nothing => None,
        Reach::Everything => queue.last(),
        Reach::Keys => {
            if let Some(flow) = overlay(session, spec, request, queue, batch) {
                return Some(flow);
            }
            queue.last_of(&hashes(spec, request, batch))
        }
    }?;
    let limits = &batch.snapshot.limits;
    let patience = if spec.writes() { limits.write_timeout } else { limits.read_timeout };
    let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    let until = Tick(batch.view.now.0.saturating_add(nanos));
    session.flush = Some(Awaited { number, until });
    queue.hurry(until);
    batch.seekers.push(batch.me);
    Some(Flow::Behind)
}

/// What a request may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// No data.
    Nothing,
    /// The keys that it names.
    Keys,
    /// Any key.
    Everything,
}

impl Reach {
    fn of(session: &Session, spec: &Spec, request: &Request<'_>) -> Self {
        if spec.name == "exec" {
            return Self::Everything;
        }
        // It is EXEC that reads and writes.
        if session.is_in_transaction() {
            return Self::Nothing;
        }
        let mut has_keys = false;
        keys::for_each(spec, request.len(), |at| request.arg(at), |_| has_keys = true);
        match spec.class {
            Class::Scripting if has_keys || spec.writes() => Self::Everything,
            // Patterns of keys.
            _ if matches!(spec.name, "sort" | "sort_ro") => Self::Everything,
            _ if has_keys => Self::Keys,
            Class::Local | Class::Pinned | Class::PubSub | Class::Admin | Class::Scripting => {
                Self::Nothing
            }
            _ => Self::Everything,
        }
    }
}

fn hashes(spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) -> Vec<u64> {
    let mut hashes = Vec::new();
    keys::for_each(
        spec,
        request.len(),
        |at| request.arg(at),
        |at| hashes.push(batch.shared.cache.hash(request.arg(at))),
    );
    hashes
}

/// Upstream did not get in time what stands before this.
#[cold]
fn give_up(session: &mut Session, batch: &Batch<'_>) -> Flow {
    let slot = session.order.leave_hole();
    if batch.snapshot.limits.on_down == OnDown::Close {
        session.abandon(slot);
    } else {
        let lost = lost_text(Lost::NotExecuted("an earlier write of this key is not upstream yet"));
        session.deliver(slot, &crate::data::order::Frame::Borrowed(&lost));
    }
    Flow::Next
}

/// GET of a key whose value was written here and is not upstream yet.
fn overlay(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    queue: &Queue,
    batch: &Batch<'_>,
) -> Option<Flow> {
    // Who tracks is told of changes of what the server has told it, and of nothing else.
    let is_for_us = session.own.is_none() && !session.standing.reads_upstream();
    let is_get = spec.name == "get" && is_for_us;
    if !is_get || disposition(spec, request, batch) != Disposition::Cacheable {
        return None;
    }
    let hash = batch.shared.cache.hash(request.arg(1));
    let prefix = batch.snapshot.names.of(request.arg(1)).as_bytes();
    let key = (prefix, request.arg(1));
    let Seen::Becomes(value) = queue.see(hash, session.space.db(), key, unix_millis()) else {
        return None;
    };
    if session.out_mask & stripe_bit(hash) != 0 {
        return Some(Flow::Barrier);
    }
    let proto = session.proto;
    session.order.reply(&mut session.output, |out| match value {
        Some(value) => write::bulk(out, &value),
        None => write::null(out, proto),
    });
    batch.block.command(spec.index, false, 1);
    batch.block.add(Counter::LookupBypass, 1);
    batch.block.add(Counter::BypassWriteBehind, 1);
    session.note(spec.index, Fate::Bypass(Counter::BypassWriteBehind), batch.commands);
    Some(Flow::Next)
}

/// Takes a write that its rule has behind. `None`: it is to be made upstream, in its turn.
fn take(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    queue: &Queue,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let settings = &batch.snapshot.settings.write_behind;
    let is_of_kind = spec.writes() && request.len() >= 2 && batch.snapshot.rules.write_behind();
    if !is_of_kind || !batch.snapshot.rules.find(request.arg(1)).write_behind {
        return None;
    }
    let rules = &batch.snapshot.rules;
    let may_be_named = !rules.bound_keys() || bounds::judge(rules, spec, request).is_ok();
    if disposition(spec, request, batch) != Disposition::Forward || !may_be_named {
        return None;
    }
    let Taken { write, reply } = Taken::of(session, spec, request, settings.assume_replies, batch)?;
    let hash = batch.shared.cache.hash(request.arg(1));
    if session.out_mask & stripe_bit(hash) != 0 {
        // What it has out may be about this key, and has an order.
        return queue.is_pending(hash).then_some(Flow::Barrier);
    }
    let is_taken = if queue.acknowledges_at_once() {
        let is_taken = queue.push((write, hash), settings.max_bytes, || None);
        if is_taken {
            session.order.reply_whole(&mut session.output, reply);
        }
        is_taken
    } else {
        let (client, order) = (batch.me, &mut session.order);
        let way = batch.shared.flights.way_to(batch.worker);
        queue.push((write, hash), settings.max_bytes, || {
            let slot = order.leave_hole();
            let answer = Answer::new(move |reply| way.bring(Waiter { client, slot }, reply));
            Some(Told { reply, answer })
        })
    };
    if !is_taken {
        return None;
    }
    batch.shared.cache.invalidate(hash);
    batch.last = spec.index;
    batch.block.command(spec.index, false, 1);
    session.note(spec.index, Fate::Behind, batch.commands);
    Some(Flow::Next)
}

/// What is done with a request otherwise: what operators have refused stays so.
fn disposition(spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) -> Disposition {
    let policy = &batch.snapshot.limits.policy;
    spec.disposition(policy, request.len(), |index| request.arg(index))
}

/// A write as it waits, and what its client is told.
struct Taken {
    write: Write,
    reply: Bytes,
}

impl Taken {
    /// `None` for what does not say what its key is to be, or whose reply only upstream knows.
    fn of(
        session: &Session,
        spec: &'static Spec,
        request: &Request<'_>,
        assumes: bool,
        batch: &Batch<'_>,
    ) -> Option<Self> {
        const OK: Bytes = Bytes::from_static(b"+OK\r\n");
        const ONE: Bytes = Bytes::from_static(b":1\r\n");
        let (at, count) = (|index| request.arg(index), request.len());
        let pairs = count >= 4 && count.is_multiple_of(2);
        let (words, life, reply): (Vec<&[u8]>, _, _) = match spec.name {
            "set" => {
                let (options, life) = set_options(request)?;
                let life = life.or_else(|| given(spec, request, batch));
                let mut words = vec![b"SET", at(1), at(2)];
                words.extend(options);
                (words, life, OK)
            }
            "setex" => (vec![b"SET", at(1), at(3)], Some(millis(at(2), 1000)?), OK),
            "psetex" => (vec![b"SET", at(1), at(3)], Some(millis(at(2), 1)?), OK),
            "hmset" if pairs => (request.from(0).collect(), None, OK),
            "hset" if assumes && pairs => {
                let mut told = BytesMut::new();
                write::integer(&mut told, i64::try_from(count / 2 - 1).ok()?);
                (request.from(0).collect(), None, told.freeze())
            }
            "del" | "unlink" if assumes && count == 2 => {
                (vec![if spec.name == "del" { b"DEL" } else { b"UNLINK" }, at(1)], None, ONE)
            }
            "expireat" | "pexpireat" if assumes && count == 3 => {
                parse_i64(at(2))?;
                (request.from(0).collect(), None, ONE)
            }
            _ => return None,
        };
        let prefix = batch.snapshot.names.of(at(1)).as_bytes();
        let key = [prefix, at(1)].concat();
        let mut request = BytesMut::new();
        let [command, _, rest @ ..] = &words[..] else {
            return None;
        };
        let named: Vec<&[u8]> = [*command, &key].into_iter().chain(rest.iter().copied()).collect();
        write_words(&mut request, &named);
        let ends_at = life.map_or(0, |life| unix_millis().saturating_add(life));
        let (database, prefix) = (session.space.db(), prefix.len());
        let write = Write { database, prefix, ends_at, request: request.freeze() };
        Some(Self { write, reply })
    }
}

/// What its rule gives a SET that says nothing of its end, in milliseconds.
fn given(spec: &Spec, request: &Request<'_>, batch: &Batch<'_>) -> Option<u64> {
    let life = lifetime::given(spec, request, &batch.snapshot.rules)?;
    u64::try_from(life.as_millis()).ok()
}

/// The options of a SET that are sent as they are, and the lifetime that it gives, in milliseconds.
/// `None` if it depends on what was there, or is for the server to refuse.
fn set_options<'r>(request: &Request<'r>) -> Option<(Vec<&'r [u8]>, Option<u64>)> {
    let option = request.arg(3).to_ascii_uppercase();
    match (request.len(), &option[..]) {
        (3, _) => Some((Vec::new(), None)),
        (5, b"EX") => Some((Vec::new(), Some(millis(request.arg(4), 1000)?))),
        (5, b"PX") => Some((Vec::new(), Some(millis(request.arg(4), 1)?))),
        (5, b"EXAT" | b"PXAT") => {
            parse_i64(request.arg(4)).filter(|at| (1..LIFETIME_MAX_MS).contains(at))?;
            Some((request.from(3).collect(), None))
        }
        _ => None,
    }
}

/// A lifetime in milliseconds, if a server takes it.
fn millis(text: &[u8], unit: i64) -> Option<u64> {
    let millis = parse_i64(text)?.checked_mul(unit)?;
    (1..LIFETIME_MAX_MS).contains(&millis).then(|| millis.unsigned_abs())
}
