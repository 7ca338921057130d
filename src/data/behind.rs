//! Write-behind, where clients meet it: which writes are taken before upstream has them, and what
//! becomes of requests for keys of which one is pending.
//!
//! ```text
//!   a write that its rule has behind --> the queue (`behind`), acknowledged as `ack` says
//!   GET of a pending key             --> the value that was written last, when the log has it
//!   any other read of one            --> waits until upstream has it; then upstream is asked
//!   a write of one that is not taken --> waits until none is pending, and no more are taken
//!   what may be about any key        --> the same, of all keys
//! ```
//!
//! In: each request, where write-behind is on; elsewhere clients are plain, and a hit pays nothing.
//! Out: its reply, a hole that the log fills, or word that it has to wait.
//!
//! Invariants: a key of which a write is pending is neither served from the cache nor filled (the
//! bump comes behind the push, and again before the write is settled), and no other write of it
//! goes upstream meanwhile: one that is made twice would undo it. A write is taken only if its
//! client has nothing out that may be about the same key, for the queue keeps no order with links.

use crate::behind::queue::{Queue, Seen};
use crate::behind::record::Write;
use crate::behind::told::Told;
use crate::cache::stripe_bit;
use crate::command::{Class, Disposition, KeySpec, Refusal, Spec, keys};
use crate::config::{Mode, OnDown};
use crate::data::batch::Batch;
use crate::data::bounds;
use crate::data::forward::write_words;
use crate::data::lifetime;
use crate::data::lost::{Lost, lost_text};
use crate::data::session::{Flow, Session};
use crate::data::standing::Fate;
use crate::data::upstream::Waiter;
use crate::mail::Answer;
use crate::rules::Rules;
use crate::stats::Counter;
use crate::units::clock::{Tick, unix_millis};
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write;
use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// Lifetimes beyond this are for the server to judge.
const LIFETIME_MAX_MS: i64 = 1 << 42;

/// A request that waits for a write.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// The number of the write.
    number: u64,
    /// Until the log has it; else until it is pending no more.
    is_for_log: bool,
    /// It is waited for no longer than this.
    until: Tick,
}

impl Awaited {
    /// True while there is something to wait for; who looks at it waits on.
    pub fn is_pending(&self, queue: &Queue, now: Tick) -> bool {
        let has_come = if self.is_for_log {
            queue.news.is_logged(self.number)
        } else {
            queue.news.is_settled(self.number)
        };
        let is_pending = !has_come && now < self.until;
        if is_pending {
            self.expect(queue);
        }
        is_pending
    }

    fn expect(&self, queue: &Queue) {
        if self.is_for_log {
            queue.news.expect(self.until);
        } else {
            queue.hurry(self.until);
        }
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
    let waited = session.flush;
    if let Some(awaited) = waited
        && awaited.is_pending(queue, batch.view.now)
    {
        return Some(Flow::Behind);
    }
    if waited.is_none()
        && session.own.is_none()
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
    wait(session, spec, request, queue, batch)
}

/// Has a request wait for what is pending of its keys; `None`: nothing is that it need wait for.
fn wait(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    queue: &Queue,
    batch: &mut Batch<'_>,
) -> Option<Flow> {
    let waited = session.flush;
    let reach = Reach::of(session, spec, request);
    let seen = match reach {
        Reach::Keys => overlay(session, spec, request, queue, batch),
        _ => Overlay::None,
    };
    if let Overlay::Served(flow) = seen {
        return Some(flow);
    }
    let hashes = if reach == Reach::Keys { hashes(spec, request, batch) } else { Vec::new() };
    let number = match (seen, reach) {
        (Overlay::When(number), _) => Some(number),
        (_, Reach::Nothing) => None,
        (_, Reach::Everything) => queue.last(),
        (_, Reach::Keys) => queue.last_of(&hashes),
    }?;
    let changes = changes(spec);
    // What others have written while a read was waiting need not be in its answer.
    if !changes && waited.is_some_and(|waited| queue.news.is_settled(waited.number)) {
        return None;
    }
    let until = waited.map_or_else(|| until(spec, batch), |waited| waited.until);
    if waited.is_some() && until <= batch.view.now {
        return Some(give_up(session, batch));
    }
    // (Not while upstream is down: others can write meanwhile.)
    if changes && batch.shared.live.is_upstream_up() {
        queue.close((reach == Reach::Keys).then_some(&hashes[..]), until);
    }
    let awaited = Awaited { number, is_for_log: matches!(seen, Overlay::When(_)), until };
    awaited.expect(queue);
    session.flush = Some(awaited);
    batch.seekers.push(batch.me);
    Some(Flow::Behind)
}

/// True if a write that is made twice would undo it.
fn changes(spec: &Spec) -> bool {
    spec.writes() || spec.name == "exec"
}

/// How long a request may wait. Where upstream is known to be down, as for a link.
fn until(spec: &Spec, batch: &Batch<'_>) -> Tick {
    let limits = &batch.snapshot.limits;
    let patience = match (batch.shared.live.is_upstream_up(), changes(spec)) {
        (false, _) => limits.link_wait(false),
        (true, true) => limits.write_timeout,
        (true, false) => limits.read_timeout,
    };
    later(batch.view.now, patience)
}

fn later(now: Tick, by: Duration) -> Tick {
    Tick(now.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
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
            // Whatever keys they name, and if they name none.
            Class::Scripting if spec.keys != KeySpec::None || spec.writes() => Self::Everything,
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

/// What is known here of the answer to a request.
#[derive(Clone, Copy, Debug)]
enum Overlay {
    /// Nothing.
    None,
    /// All, when the log has this write.
    When(u64),
    /// It was all, or will be when the client has what is out.
    Served(Flow),
}

/// GET of a key whose value was written here and is not upstream yet.
fn overlay(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    queue: &Queue,
    batch: &Batch<'_>,
) -> Overlay {
    // Who tracks is told of changes of what the server has told it, and of nothing else.
    let is_for_us = session.own.is_none() && !session.standing.reads_upstream();
    let is_get = spec.name == "get" && is_for_us;
    if !is_get || disposition(spec, request, batch) != Disposition::Cacheable {
        return Overlay::None;
    }
    let hash = batch.shared.cache.hash(request.arg(1));
    let prefix = batch.snapshot.names.of(request.arg(1)).as_bytes();
    let key = (session.space.db(), prefix, request.arg(1));
    let waited = session.flush.map(|awaited| awaited.number);
    let value = match queue.see(hash, key, waited, unix_millis()) {
        Seen::Becomes(value) => value,
        Seen::Unlogged(number) => return Overlay::When(number),
        Seen::Settled | Seen::Pending(_) => return Overlay::None,
    };
    if session.out_mask & stripe_bit(hash) != 0 {
        return Overlay::Served(Flow::Barrier);
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
    Overlay::Served(Flow::Next)
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
    let rules = &batch.snapshot.rules;
    let form = Form::of(spec, request, settings.assume_replies, rules)?;
    let may_be_named = !rules.bound_keys() || bounds::judge(rules, spec, request).is_ok();
    if disposition(spec, request, batch) != Disposition::Forward || !may_be_named {
        return None;
    }
    // What upstream does not know it would refuse, when it was acknowledged.
    if form.needs.is_some_and(|row| !batch.shared.live.has(row)) {
        return None;
    }
    let Taken { write, reply } = form.taken(session, request, batch);
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
        let until = later(batch.view.now, batch.snapshot.limits.write_timeout);
        queue.push((write, hash), settings.max_bytes, || {
            let slot = order.leave_hole();
            let answer = Answer::new(move |reply| way.bring(Waiter { client, slot }, reply));
            Some(Told { reply, until, answer })
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

/// How a write is made upstream that may wait, and what its client is told.
struct Form<'r> {
    /// Its words; the second is the key, as the client names it.
    words: Vec<&'r [u8]>,
    /// How long its value lives, in milliseconds.
    life: Option<u64>,
    reply: Bytes,
    /// A row that not every server has, and which came with what this asks for.
    needs: Option<&'static str>,
}

/// True if this is acknowledged before upstream has it, where writes wait at all.
pub fn is_behind(spec: &Spec, request: &Request<'_>, assumes: bool, rules: &Rules) -> bool {
    Form::of(spec, request, assumes, rules).is_some()
}

impl<'r> Form<'r> {
    /// `None` for what its rule does not have behind, for what does not say what its key is to be,
    /// and for that whose reply only upstream knows.
    fn of(spec: &Spec, request: &Request<'r>, assumes: bool, rules: &Rules) -> Option<Self> {
        const OK: Bytes = Bytes::from_static(b"+OK\r\n");
        const ONE: Bytes = Bytes::from_static(b":1\r\n");
        let is_of_kind = spec.writes() && request.len() >= 2 && rules.write_behind();
        if !is_of_kind || !rules.find(request.arg(1)).write_behind {
            return None;
        }
        let (at, count) = (|index| request.arg(index), request.len());
        let pairs = count >= 4 && count.is_multiple_of(2);
        let (words, life, reply): (Vec<&[u8]>, _, _) = match spec.name {
            "set" => {
                let (options, life) = set_options(request)?;
                let life = life.or_else(|| given(spec, request, rules));
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
        let needs = match spec.name {
            "set" if words.len() > 3 => Some("getex"),
            "unlink" => Some("unlink"),
            _ => None,
        };
        Some(Self { words, life, reply, needs })
    }

    fn taken(self, session: &Session, request: &Request<'_>, batch: &Batch<'_>) -> Taken {
        let prefix = batch.snapshot.names.of(request.arg(1)).as_bytes();
        let key = [prefix, request.arg(1)].concat();
        let mut words = self.words;
        if let Some(named) = words.get_mut(1) {
            *named = &key;
        }
        let mut request = BytesMut::new();
        write_words(&mut request, &words);
        let ends_at = self.life.map_or(0, |life| unix_millis().saturating_add(life));
        let (database, prefix) = (session.space.db(), prefix.len());
        let write = Write { database, prefix, ends_at, request: request.freeze() };
        Taken { write, reply: self.reply }
    }
}

/// What its rule gives a SET that says nothing of its end, in milliseconds.
fn given(spec: &Spec, request: &Request<'_>, rules: &Rules) -> Option<u64> {
    let life = lifetime::given(spec, request, rules)?;
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
