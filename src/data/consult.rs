//! A cacheable read of one key: hit, join, or miss.

use crate::cache::{Entry, Extra, Lookup, Policy, Question, Reply, Token, stripe_bit};
use crate::command::{CacheRule, ReplyShape, Spec};
use crate::config::{Level, Mode};
use crate::data::batch::Batch;
use crate::data::fields::Fields;
use crate::data::flights::Asked;
use crate::data::output::SHARE_MIN;
use crate::data::pinned::Own;
use crate::data::session::{Flow, Session};
use crate::data::standing::Fate;
use crate::data::upstream::{Read, Ticket, Waiter, flight_name};
use crate::data::{Shared, bounds, fields, forward, linear, refresh, sample, stale};
use crate::rules::Rule;
use crate::snapshot::Snapshot;
use crate::stats::{Block, Counter, Look, Seen};
use crate::units::clock::Tick;
use crate::wire::request::Request;
use crate::wire::write::{Proto, null_bytes};
use bytes::Bytes;

/// Answers from the cache, or sends the read upstream. `hash` is the key's, if known already.
#[inline]
pub fn read(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    hash: Option<u64>,
    batch: &mut Batch<'_>,
) -> Flow {
    let hash = hash.unwrap_or_else(|| batch.shared.cache.hash(request.arg(1)));
    let question = question(session, spec, request, hash);
    let mut refused = None;
    if batch.gate != Mode::Cache {
        refused = Some(unserved(&question, batch));
    } else if session.out_mask != 0 && session.out_mask & stripe_bit(question.hash) != 0 {
        refused = Some(Counter::BypassPipeline);
    } else {
        let (mut bytes, mut asked_at) = (0, Tick(0));
        let serve = |entry: &Entry| (bytes, asked_at) = (hit(session, entry), entry.asked_at());
        match batch.shared.cache.get(&question, &batch.view, serve) {
            looked @ (Lookup::Hit | Lookup::Due) => {
                batch.hits += 1;
                batch.block.command(spec.index, false, 1);
                let (rules, proto) = (&batch.snapshot.rules, session.proto);
                batch.block.lookup(hash, Seen::Hit, || {
                    let rule = rules.find(question.key).index;
                    let age = Some(batch.view.now.since(asked_at));
                    sample::look(proto, &question, batch);
                    Look { key: question.key, rule, bytes, age }
                });
                if looked == Lookup::Due {
                    refresh::ahead(session.proto, spec, &question, batch);
                }
                return Flow::Next;
            }
            Lookup::Lease => match linear::read(session, spec, &question, batch) {
                Some(flow) => return flow,
                None => refused = Some(Counter::BypassLease),
            },
            Lookup::Miss => {}
        }
    }
    if session.is_abroad {
        return Flow::Barrier;
    }
    if !bounds::permits(session, spec, request, batch) {
        return Flow::Next;
    }
    let miss = Miss::of(session, spec, request, &question, refused, batch);
    if !(miss.rule.serves_stale() && serve_stale(session, &miss, batch)) {
        ask(session, &miss, batch);
    }
    Flow::Next
}

/// What becomes of a read whose reply is not told as it is.
#[derive(Debug)]
pub enum Found {
    /// It is stored.
    Fresh(Entry),
    /// It is stored, past its time, and may be served.
    Stale(Entry),
    /// Upstream is asked: the reply comes for the client's last slot.
    Asked,
}

/// As [`read`], of a client with nothing out; nothing is told.
#[cold]
pub fn find(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Found {
    if session.standing.reads_upstream() || session.own.as_ref().is_some_and(Own::guards_reads) {
        forward::command(session, spec, request, batch);
        return Found::Asked;
    }
    let hash = batch.shared.cache.hash(request.arg(1));
    let question = question(session, spec, request, hash);
    let (mut refused, mut stored) = (None, None);
    if batch.gate == Mode::Cache {
        let show = |entry: &Entry| stored = Some(entry.clone());
        match batch.shared.cache.get(&question, &batch.view, show) {
            Lookup::Lease => refused = Some(Counter::BypassLease),
            Lookup::Hit | Lookup::Due | Lookup::Miss => {}
        }
    } else {
        refused = Some(unserved(&question, batch));
    }
    let miss = Miss::of(session, spec, request, &question, refused, batch);
    let (block, now) = (batch.block, batch.view.now);
    let look = |entry: &Entry| {
        let (bytes, age) = (entry.reply().bytes().len(), Some(now.since(entry.asked_at())));
        let look = || Look { key: question.key, rule: miss.rule.index, bytes, age };
        block.lookup(hash, Seen::Hit, look);
    };
    if let Some(entry) = stored {
        batch.hits += 1;
        look(&entry);
        return Found::Fresh(entry);
    }
    let mut kept = None;
    if batch.gate == Mode::Cache && miss.rule.serves_stale() {
        let show = |entry: &Entry| kept = Some(entry.clone());
        stale::find(session.proto, spec, miss.rule, &question, batch, show);
    }
    if let Some(entry) = kept {
        look(&entry);
        return Found::Stale(entry);
    }
    ask(session, &miss, batch);
    Found::Asked
}

/// Answers a read that is no hit with what is kept past its time. False if nothing may be served.
#[cold]
fn serve_stale(session: &mut Session, miss: &Miss<'_>, batch: &mut Batch<'_>) -> bool {
    let Miss { spec, question, rule, refused, .. } = *miss;
    if !matches!(refused, None | Some(Counter::BypassLease)) {
        return false;
    }
    let (mut kept, proto) = (None, session.proto);
    let show = |entry: &Entry| kept = Some(entry.clone());
    let (Some(reason), Some(entry)) = (stale::find(proto, spec, rule, question, batch, show), kept)
    else {
        return false;
    };
    serve(session, spec, rule, question, &entry, batch);
    session.note(spec.index, Fate::Stale(reason), batch.commands);
    true
}

/// Answers a read with what is stored, outside of the lock: all but the plain hit do.
#[cold]
pub fn serve(
    session: &mut Session,
    spec: &'static Spec,
    rule: &Rule,
    question: &Question<'_>,
    entry: &Entry,
    batch: &Batch<'_>,
) {
    let reply = stale::whole(entry, session.proto);
    let (bytes, age) = (reply.len(), Some(batch.view.now.since(entry.asked_at())));
    session.order.reply_whole(&mut session.output, reply);
    batch.block.command(spec.index, false, 1);
    let look = || Look { key: question.key, rule: rule.index, bytes, age };
    batch.block.lookup(question.hash, Seen::Hit, look);
}

/// What a read is counted as where nothing is served from the cache: in the mode `observe`, as a
/// would-be hit or a miss.
#[cold]
fn unserved(question: &Question<'_>, batch: &Batch<'_>) -> Counter {
    if batch.gate == Mode::Bypass {
        return Counter::BypassMode;
    }
    match batch.shared.cache.get(question, &batch.view, |_| {}) {
        Lookup::Hit | Lookup::Due => Counter::LookupWouldHit,
        Lookup::Lease => Counter::BypassLease,
        Lookup::Miss => Counter::LookupMiss,
    }
}

/// Asks for a read whose reply is promised for `slot` already.
#[cold]
pub fn again(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    slot: u32,
    batch: &mut Batch<'_>,
) {
    let hash = batch.shared.cache.hash(request.arg(1));
    let question = question(session, spec, request, hash);
    let miss = Miss::of(session, spec, request, &question, None, batch);
    send(session, &miss, slot, batch);
}

/// What the cache is asked by a request for one key.
#[inline]
pub fn question<'b>(
    session: &Session,
    spec: &Spec,
    request: &Request<'b>,
    hash: u64,
) -> Question<'b> {
    Question {
        key: request.arg(1),
        hash,
        command: spec.index,
        space: session.space,
        proto: dialect(spec, session.proto),
        extra: Extra::Asked(*request, 2),
    }
}

/// Appends a hit to the client's replies; answers how long it is. Runs under the lock of the
/// entry's place.
#[inline]
fn hit(session: &mut Session, entry: &Entry) -> usize {
    let (bytes, length) = match entry.reply() {
        Reply::Bytes(bytes) if bytes.len() >= SHARE_MIN => {
            let shared = Bytes::from_owner(entry.clone());
            session.order.reply_shared(&mut session.output, shared);
            return bytes.len();
        }
        Reply::Bytes(bytes) => (bytes, bytes.len()),
        Reply::Nil => (null_bytes(session.proto), 0),
    };
    session.order.reply(&mut session.output, |out| out.extend_from_slice(bytes));
    length
}

/// 2 or 3 where the protocols' replies differ by more than their nil, else 0.
#[inline]
pub fn dialect(spec: &Spec, proto: Proto) -> u8 {
    match (spec.shape, proto) {
        (ReplyShape::Same | ReplyShape::SameButNull, _) => 0,
        (ReplyShape::Differs, Proto::Resp2) => 2,
        (ReplyShape::Differs, Proto::Resp3) => 3,
    }
}

/// A read that the cache does not answer.
struct Miss<'r> {
    spec: &'static Spec,
    request: &'r Request<'r>,
    question: &'r Question<'r>,
    rule: &'r Rule,
    /// By what it may join others and be joined (R5): the right to fill, or less.
    token: Option<Token>,
    /// Why it may not fill.
    denied: Option<Counter>,
    /// Why the cache did not even look, or would not answer.
    refused: Option<Counter>,
    /// Name of its flight.
    flight: u64,
}

impl<'r> Miss<'r> {
    #[inline]
    fn of(
        session: &Session,
        spec: &'static Spec,
        request: &'r Request<'r>,
        question: &'r Question<'r>,
        refused: Option<Counter>,
        batch: &Batch<'r>,
    ) -> Self {
        let rule = batch.snapshot.rules.find(question.key);
        let (token, denied) = match right_to_fill(session, batch, spec, rule, question.hash) {
            Ok(token) => (Some(token), None),
            Err(why @ (Counter::BypassTrackingDown | Counter::BypassOwnLink)) => {
                let lease = rule.max_staleness_ns;
                let now = batch.view.now;
                (Some(batch.shared.cache.right_to_join(question.hash, lease, now)), Some(why))
            }
            Err(why) => (None, Some(why)),
        };
        let flight = flight_name(question);
        Self { spec, request, question, rule, token, denied, refused, flight }
    }

    fn fate(&self, batch: &Batch<'_>) -> Fate {
        if batch.shared.live.fallback.is_active() {
            return Fate::Fallback;
        }
        match self.refused.or(self.denied) {
            None | Some(Counter::LookupMiss) => Fate::Miss,
            Some(Counter::LookupWouldHit) => Fate::WouldHit,
            Some(reason) => Fate::Bypass(reason),
        }
    }

    fn asked(&self, worker: usize, link: Proto) -> Asked<'r> {
        Asked { worker, name: self.flight, question: self.question, link }
    }
}

/// Joins a read that is on its way, or sends this one upstream.
fn ask(session: &mut Session, miss: &Miss<'_>, batch: &mut Batch<'_>) {
    let bit = stripe_bit(miss.question.hash);
    // R5, corrected: a client with a request out on this stripe must not join, because the flight
    // may be older than its own write.
    let is_observed = matches!(miss.refused, Some(Counter::LookupWouldHit | Counter::LookupMiss));
    if session.out_mask & bit == 0 && !is_observed && join(session, miss, batch) {
        session.out_mask |= bit;
        session.note(miss.spec.index, Fate::Coalesced, batch.commands);
        batch.block.add(Counter::LookupCoalesced, 1);
        note(batch.block, Seen::Miss, miss.question, miss.rule);
        return;
    }
    session.note(miss.spec.index, miss.fate(batch), batch.commands);
    let slot = session.order.leave_hole();
    session.out_mask |= bit;
    send(session, miss, slot, batch);
}

/// Joins a flight of this worker's link or, with a token, of another worker.
fn join(session: &mut Session, miss: &Miss<'_>, batch: &mut Batch<'_>) -> bool {
    let asked = miss.asked(batch.worker, session.proto);
    let token = miss.token.as_ref();
    let client = batch.me;
    if let Some(flight) = batch.links.of(session).flight(&asked, token) {
        flight.joined.push(Waiter { client, slot: session.order.leave_hole() });
        return true;
    }
    let order = &mut session.order;
    let wait = || Waiter { client, slot: order.leave_hole() };
    session.is_abroad = token.is_some_and(|token| batch.shared.flights.join(&asked, token, wait));
    session.is_abroad
}

/// Sends a read upstream, whose reply is promised for `slot`.
#[expect(clippy::inline_always, reason = "all misses come by one caller, `again` is the other")]
#[inline(always)]
fn send(session: &mut Session, miss: &Miss<'_>, slot: u32, batch: &mut Batch<'_>) {
    let Miss { spec, request, question, rule, denied, refused, flight, .. } = *miss;
    let fills = admit((denied, refused), rule, question, batch.shared, batch.block);
    let token = &miss.token;
    let asked = miss.asked(batch.worker, session.proto);
    let flights = &batch.shared.flights;
    let is_published = token.as_ref().is_some_and(|token| flights.publish(&asked, token));
    let names = &batch.snapshot.names;
    let link = batch.links.of(session);
    forward::write_read(&mut link.output, request, names, 1);
    let is_probed = fills && rule.ttl_probe;
    let fields = if is_probed { fields::of(spec, batch.shared) } else { Fields::Unknown };
    if fields == Fields::Asked {
        fields::write(&mut link.output, request, names);
    }
    if is_probed {
        forward::write_pttl(&mut link.output, question.key, names);
    }
    let read = Read {
        hash: question.hash,
        token: *token,
        fills,
        rule: rule.index,
        key_len: u32::try_from(question.key.len()).unwrap_or(u32::MAX),
        space: question.space,
        proto: question.proto,
        flight,
        is_published,
        refresh: None,
        unproved: None,
        fields,
        is_answered: false,
    };
    let owner = Waiter { client: batch.me, slot };
    let answers = 1 + u32::from(is_probed) + u32::from(fields == Fields::Asked);
    link.push_read(Ticket::of_read(owner, spec, batch.view.now, read, answers), question);
    session.waits_for_link = link.hand_over();
}

/// Counts a read that goes upstream; answers whether its reply will be stored. `denied`: why it may
/// not be; `refused`: why the cache was not asked.
pub fn admit(
    (denied, refused): (Option<Counter>, Option<Counter>),
    rule: &Rule,
    question: &Question<'_>,
    shared: &Shared,
    block: &Block,
) -> bool {
    match (denied, refused) {
        (None, None | Some(Counter::LookupMiss)) => {
            block.add(Counter::LookupMiss, 1);
            note(block, Seen::Miss, question, rule);
        }
        (None, Some(reason)) => {
            if reason == Counter::LookupWouldHit {
                note(block, Seen::Hit, question, rule);
            }
            count_bypass(block, reason);
        }
        (Some(reason), refused) => {
            if reason == Counter::BypassRule {
                note(block, Seen::Passed, question, rule);
            }
            count_bypass(block, refused.unwrap_or(reason));
        }
    }
    let fills = denied.is_none() && (!rule.second_hit || shared.cache.seen_before(question.hash));
    if denied.is_none() && !fills {
        block.add(Counter::StoreNotAdmitted, 1);
    }
    fills
}

#[inline]
fn note(block: &Block, seen: Seen, question: &Question<'_>, rule: &Rule) {
    let look = || Look { key: question.key, rule: rule.index, bytes: 0, age: None };
    block.lookup(question.hash, seen, look);
}

fn count_bypass(block: &Block, reason: Counter) {
    let is_lookup = matches!(reason, Counter::LookupWouldHit | Counter::LookupMiss);
    block.add(Counter::LookupBypass, u64::from(!is_lookup));
    block.add(reason, 1);
}

/// The token of a client's read that may be cached, or why it may not (R1).
#[inline]
pub fn right_to_fill(
    session: &Session,
    batch: &Batch<'_>,
    spec: &Spec,
    rule: &Rule,
    hash: u64,
) -> Result<Token, Counter> {
    if session.own.is_some() {
        return Err(Counter::BypassOwnLink);
    }
    right_of_batch(batch, spec, rule, hash)
}

/// The same, of a read on a shared link.
#[inline]
pub fn right_of_batch(
    batch: &Batch<'_>,
    spec: &Spec,
    rule: &Rule,
    hash: u64,
) -> Result<Token, Counter> {
    if batch.gate == Mode::Bypass {
        return Err(Counter::BypassMode);
    }
    right(batch.shared, batch.snapshot, spec, rule, hash, batch.view.now)
}

/// The same, for whoever is no client.
#[inline]
pub fn right(
    shared: &Shared,
    snapshot: &Snapshot,
    spec: &Spec,
    rule: &Rule,
    hash: u64,
    now: Tick,
) -> Result<Token, Counter> {
    if shared.live.gate() == Mode::Bypass {
        return Err(Counter::BypassMode);
    }
    if rule.level == Level::Bypass {
        return Err(Counter::BypassRule);
    }
    let is_cached = snapshot.limits.cached_commands.get(spec.index as usize).copied();
    if is_cached != Some(true) {
        return Err(Counter::BypassCommand);
    }
    if shared.behind.as_ref().is_some_and(|queue| queue.is_pending(hash)) {
        return Err(Counter::BypassWriteBehind);
    }
    if shared.cache.is_write_hot(hash, now) {
        return Err(Counter::BypassWriteHot);
    }
    let policy = policy(shared, spec, rule);
    shared.cache.token(hash, &policy, now).ok_or(Counter::BypassTrackingDown)
}

/// How a reply of `spec` under `rule` is stored.
#[inline]
pub fn policy(shared: &Shared, spec: &Spec, rule: &Rule) -> Policy {
    // A hash field may end without its key saying so: PTTL does not show it (R10).
    let is_hash_read = spec.cache == CacheRule::HashField && shared.live.has_field_ttls();
    let grace = if is_hash_read { 0 } else { rule.grace_ns };
    // Where nobody hears of changed rights, nothing lives for longer, nor past its time.
    let proof = shared.live.proof_ttl();
    let (grace, keep) = match proof {
        u64::MAX => (grace, rule.stale_if_error_ns.max(rule.fallback_ns).max(grace)),
        _ => (0, 0),
    };
    let ttl = if is_hash_read { rule.ttl_ns.min(rule.hash_max_ttl_ns) } else { rule.ttl_ns };
    Policy {
        ttl: ttl.min(proof),
        negative_ttl: rule.negative_ttl_ns.min(proof),
        max_staleness: match rule.level {
            Level::Linear | Level::Coherent => rule.max_staleness_ns,
            _ => u64::MAX,
        },
        tracked: rule.level != Level::Ttl,
        value_max: rule.max_value_size,
        grace,
        keep,
        refresh_ahead: rule.refresh_ahead,
        whole_key: rule.whole_key,
        ttl_jitter: rule.ttl_jitter,
    }
}
