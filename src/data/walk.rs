//! Commands that take several requests upstream before there is an answer, because upstream holds
//! more than this version's keys.
//!
//! ```text
//!   RANDOMKEY   ask; a key of another version: ask again; after TRIES: SCAN for one
//!   SCAN        ask; a page without a key of ours: the next page, for SEARCH at most
//!   FLUSHDB     SCAN MATCH prefix* -> UNLINK page -> next page ... -> +OK    (but excluded keys)
//!   FLUSHALL    INFO keyspace -> as FLUSHDB in each database that has keys, on its own link
//! ```
//!
//! Each step is a request behind the others of its link, so other clients are not held up, and
//! has a ticket and a timeout of its own. A step's answer is looked at while its ticket still
//! stands at the front: one of an impossible shape closes the link, which fails the ticket like
//! every other. Without a prefix nothing here is used: the commands are forwarded as they are.

use crate::command::{ReplyRule, Spec, replies};
use crate::data::batch::Batch;
use crate::data::fallback;
use crate::data::forward::{self, write_words};
use crate::data::order::Frame;
use crate::data::session::Session;
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket, Waiter};
use crate::keys::{Names, glob};
use crate::snapshot::Snapshot;
use crate::stats::{Counter, Outcome};
use crate::units::clock::Tick;
use crate::wire::number::parse_i64;
use crate::wire::request::Request;
use crate::wire::write::Proto;
use crate::wire::{reply, write};
use bytes::BytesMut;
use std::rc::Rc;

/// Times RANDOMKEY is asked before the keyspace is scanned instead.
const TRIES: u32 = 16;

/// Keys looked at per page: a page of UNLINK stays below a millisecond on the server.
const PAGE: &[u8] = b"500";

/// How long a SCAN goes on by itself for a first key, in nanoseconds. An empty page that is not the
/// last is a legal answer, and most clients' loops end at none.
const SEARCH: u64 = 20_000_000;

/// The cursor that a SCAN begins with and that its last page brings.
const START: &[u8] = b"0";

/// A command that nearside carries out in several steps; the ticket of each step holds it.
#[derive(Debug)]
pub struct Walk {
    /// When the command was asked. Its ticket knows when the step was.
    began_at: Tick,
    /// The connection that its cursor is of.
    connection: u64,
    /// What it began under, and ends under.
    snapshot: Rc<Snapshot>,
    /// What was asked last.
    step: Step,
    /// Databases that FLUSHALL is still to go to, the next one last.
    databases: Vec<u32>,
    /// True once UNLINK was asked: keys may be gone, whatever becomes of the walk.
    has_changed: bool,
}

#[derive(Debug)]
enum Step {
    /// RANDOMKEY, with so many attempts left.
    Random(u32),
    /// SCAN for RANDOMKEY, because other keys are by far more.
    Find,
    /// The client's own SCAN.
    Scan(Box<Search>),
    /// INFO keyspace: where are keys?
    Keyspace,
    /// SCAN for keys to unlink.
    Page,
    /// UNLINK of one page; the next one is at this cursor.
    Unlink(Box<[u8]>),
}

/// A client's SCAN that has found no key yet.
#[derive(Debug)]
struct Search {
    scan: forward::Scan,
    /// When no further page is asked for.
    until: Tick,
}

/// What follows an answer.
enum Next {
    /// The next request was written.
    Ask,
    /// The walk goes on in this database.
    Move(u32),
    /// The client's answer was written.
    Done,
    /// The error that ends the walk was written.
    Failed,
}

/// The link on which a walk is, and whose keys it looks for.
struct Place<'p> {
    db: u32,
    now: Tick,
    proto: Proto,
    connection: u64,
    names: &'p Names,
}

impl<'p> Place<'p> {
    const fn of(link: &Pipeline, names: &'p Names, now: Tick) -> Self {
        Self { db: link.space.db(), now, proto: link.proto, connection: link.connection(), names }
    }
}

/// True if this command, under a prefix, is carried out in several steps.
pub fn walks(spec: &Spec) -> bool {
    matches!(spec.name, "randomkey" | "flushdb" | "flushall")
}

/// Starts a walk if this command needs one. False: forward it.
pub fn begin(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> bool {
    let names = &batch.snapshot.names;
    if names.is_empty() || !(walks(spec) || spec.name == "scan") {
        return false;
    }
    if matches!(spec.name, "flushdb" | "flushall") && !is_flush(request) {
        session.error(b"ERR syntax error");
        return true;
    }
    if walks(spec) && spec.writes() && batch.shared.live.fallback.is_active() {
        // What stands in for upstream has not the keys that this would delete.
        session.error(fallback::NOT_FLUSHED);
        return true;
    }
    let link = batch.links.of(session);
    let step = match spec.name {
        "randomkey" => {
            write_words(&mut link.output, &[b"RANDOMKEY"]);
            Step::Random(TRIES)
        }
        "scan" => {
            let scan = forward::Scan::of(request, names);
            scan.write(request.arg(1), &mut link.output);
            let until = Tick(batch.view.now.0.saturating_add(SEARCH));
            Step::Scan(Box::new(Search { scan, until }))
        }
        "flushdb" => {
            ask_page(&mut link.output, START, &names.pattern_of_own());
            Step::Page
        }
        "flushall" => {
            write_words(&mut link.output, &[b"INFO", b"keyspace".as_slice()]);
            Step::Keyspace
        }
        _ => return false,
    };
    let (began_at, connection) = (batch.view.now, link.connection());
    let snapshot = Rc::clone(batch.snapshot);
    let databases = Vec::new();
    let walk = Walk { began_at, connection, snapshot, step, databases, has_changed: false };
    session.out_mask = u64::MAX;
    let owner = Waiter { client: batch.me, slot: session.order.leave_hole() };
    link.push(Ticket::new(owner, spec, began_at, Kind::Walk(Box::new(walk))));
    link.wake();
    true
}

/// FLUSHALL [ASYNC | SYNC]: anything else deletes nothing.
fn is_flush(request: &Request<'_>) -> bool {
    match request.len() {
        1 => true,
        2 => {
            let option = request.arg(1);
            option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync")
        }
        _ => false,
    }
}

/// The answer to one step: either the next step is asked, or the client has its answer.
pub fn step(link: &mut Pipeline, answer: &[u8], desk: &mut Desk<'_>) -> Result<(), Fault> {
    let (space, proto, connection) = (link.space, link.proto, link.connection());
    let Some(Ticket { kind: Kind::Walk(walk), .. }) = link.front() else {
        return Err(Fault::Stray);
    };
    let snapshot = Rc::clone(&walk.snapshot);
    let place = Place { db: space.db(), now: desk.now, proto, connection, names: &snapshot.names };
    let mut out = BytesMut::new();
    let next = walk.hear(answer, &place, &mut out)?;
    let Some(ticket) = link.pop(|_| {}) else {
        return Err(Fault::Stray);
    };
    match next {
        Next::Ask => ask_on(link, ticket, &out, desk.now),
        Next::Move(db) => desk.moved.push((space.with_db(db), ticket)),
        Next::Done => finish(ticket, &out, true, desk),
        Next::Failed => finish(ticket, &out, false, desk),
    }
    Ok(())
}

/// A FLUSHALL's walk comes to the link of its next database.
pub fn enter(link: &mut Pipeline, mut ticket: Ticket, now: Tick) {
    let mut out = BytesMut::new();
    if let Kind::Walk(walk) = &mut ticket.kind {
        let snapshot = Rc::clone(&walk.snapshot);
        walk.first_page(Step::Page, &Place::of(link, &snapshot.names, now), &mut out);
    }
    ask_on(link, ticket, &out, now);
}

/// Asks for a walk's next step. Its time begins now: the link is as quick as each of its answers.
fn ask_on(link: &mut Pipeline, mut ticket: Ticket, request: &[u8], now: Tick) {
    ticket.asked_at = now;
    link.output.extend_from_slice(request);
    link.push(ticket);
    link.wake();
}

/// The walk is over. What it unlinked must be gone from the cache before its client hears of it,
/// even if that is not all that there was.
fn finish(mut ticket: Ticket, answer: &[u8], is_whole: bool, desk: &mut Desk<'_>) {
    if let Kind::Walk(walk) = &ticket.kind {
        ticket.asked_at = walk.began_at;
        if walk.has_changed || (is_whole && walk.is_flush()) {
            desk.shared.cache.clear();
            desk.block.add(Counter::FlushesFlushall, 1);
        }
    }
    settle::deliver(&ticket, &Frame::Borrowed(answer), Outcome::Bypass, desk);
}

impl Walk {
    /// True once keys may be gone.
    pub const fn has_changed(&self) -> bool {
        self.has_changed
    }

    const fn is_flush(&self) -> bool {
        matches!(self.step, Step::Keyspace | Step::Page | Step::Unlink(_))
    }

    /// Takes the answer to the last step and writes what follows from it.
    fn hear(
        &mut self,
        answer: &[u8],
        place: &Place<'_>,
        out: &mut BytesMut,
    ) -> Result<Next, Fault> {
        if matches!(answer.first(), Some(b'-' | b'!')) {
            out.extend_from_slice(answer);
            return Ok(Next::Failed);
        }
        match &mut self.step {
            Step::Random(_) => self.random(answer, place, out),
            Step::Find => self.find(answer, place, out),
            Step::Scan(search) => search.hear(answer, place, out),
            Step::Keyspace => {
                self.databases = databases(answer).ok_or(Fault::Shape)?;
                Ok(self.next_database(place, out))
            }
            Step::Page => self.page(answer, place, out),
            Step::Unlink(cursor) => {
                reply::integer(answer).ok_or(Fault::Shape)?;
                let cursor = std::mem::take(cursor);
                self.step = Step::Page;
                Ok(self.behind_page(&cursor, place, out))
            }
        }
    }

    fn random(
        &mut self,
        answer: &[u8],
        place: &Place<'_>,
        out: &mut BytesMut,
    ) -> Result<Next, Fault> {
        // The database is empty.
        if reply::is_null(answer) {
            out.extend_from_slice(answer);
            return Ok(Next::Done);
        }
        let key = reply::bulk(answer).ok_or(Fault::Shape)?;
        match (place.names.strip(key), &mut self.step) {
            (Some(key), _) => {
                write::bulk(out, key);
                return Ok(Next::Done);
            }
            (None, Step::Random(tries @ 1..)) => {
                *tries -= 1;
                write_words(out, &[b"RANDOMKEY"]);
            }
            _ => self.first_page(Step::Find, place, out),
        }
        Ok(Next::Ask)
    }

    fn find(
        &mut self,
        answer: &[u8],
        place: &Place<'_>,
        out: &mut BytesMut,
    ) -> Result<Next, Fault> {
        let page = Page::of(answer, place.names).ok_or(Fault::Shape)?;
        if let Some((_, key)) = page.keys().next() {
            write::bulk(out, key);
        } else if self.next_page(page.cursor, place, out) {
            return Ok(Next::Ask);
        } else {
            write::null(out, place.proto);
        }
        Ok(Next::Done)
    }

    fn page(
        &mut self,
        answer: &[u8],
        place: &Place<'_>,
        out: &mut BytesMut,
    ) -> Result<Next, Fault> {
        let page = Page::of(answer, place.names).ok_or(Fault::Shape)?;
        // What is shared with others is not this version's to delete.
        let keys = || page.keys().filter(|(_, key)| !place.names.is_excluded(key));
        // With the keys their locks: what is computed of what was before is not to be stored.
        let own = || keys().map(|(name, _)| name).chain(page.locks());
        let count = own().count();
        if count == 0 {
            return Ok(self.behind_page(page.cursor, place, out));
        }
        write::array(out, count + 1);
        write::bulk(out, b"UNLINK");
        for name in own() {
            write::bulk(out, name);
        }
        self.step = Step::Unlink(page.cursor.into());
        self.has_changed = true;
        Ok(Next::Ask)
    }

    /// A page is done: the next one, or the next database, or all is.
    fn behind_page(&mut self, cursor: &[u8], place: &Place<'_>, out: &mut BytesMut) -> Next {
        if self.next_page(cursor, place, out) { Next::Ask } else { self.next_database(place, out) }
    }

    fn next_database(&mut self, place: &Place<'_>, out: &mut BytesMut) -> Next {
        match self.databases.pop() {
            None => {
                write::simple(out, "OK");
                Next::Done
            }
            Some(db) if db == place.db => {
                self.first_page(Step::Page, place, out);
                Next::Ask
            }
            Some(db) => Next::Move(db),
        }
    }

    fn first_page(&mut self, step: Step, place: &Place<'_>, out: &mut BytesMut) {
        self.step = step;
        self.connection = place.connection;
        ask_page(out, START, &self.scanned(place.names));
    }

    /// What pages are asked for.
    fn scanned(&self, names: &Names) -> Vec<u8> {
        if self.is_flush() { names.pattern_of_own() } else { names.pattern(b"*") }
    }

    /// Asks for the page at a cursor. False if the last one is done.
    fn next_page(&mut self, cursor: &[u8], place: &Place<'_>, out: &mut BytesMut) -> bool {
        // The link broke between two steps. Another server may answer it now, to which the old
        // one's cursor means nothing: from the beginning.
        let is_astray = self.connection != place.connection;
        self.connection = place.connection;
        if cursor == START && !is_astray {
            return false;
        }
        ask_page(out, if is_astray { START } else { cursor }, &self.scanned(place.names));
        true
    }
}

impl Search {
    /// A page with a key, the last page, or the last for now is the answer; else the next is asked.
    fn hear(&self, answer: &[u8], place: &Place<'_>, out: &mut BytesMut) -> Result<Next, Fault> {
        let page = Page::of(answer, place.names).ok_or(Fault::Shape)?;
        let pattern = self.scan.pattern.as_deref();
        let is_meant = |key: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, key));
        if !page.keys().any(|(_, key)| is_meant(key))
            && page.cursor != START
            && place.now.0 < self.until.0
        {
            self.scan.write(page.cursor, out);
            return Ok(Next::Ask);
        }
        let has_answer = replies::strip(ReplyRule::Scan, place.names, pattern, answer, out);
        if has_answer { Ok(Next::Done) } else { Err(Fault::Shape) }
    }
}

/// A reply to SCAN.
struct Page<'a> {
    cursor: &'a [u8],
    keys: reply::Elements<'a>,
    names: &'a Names,
}

impl<'a> Page<'a> {
    /// `None` if this is no answer to a SCAN that matched the one prefix: what is not ours must
    /// never be unlinked, nor shown. (Where there are several, upstream was asked for more.)
    fn of(answer: &'a [u8], names: &'a Names) -> Option<Self> {
        let mut elements = reply::elements(answer);
        let cursor = elements.next().and_then(reply::bulk)?;
        let list = elements.next().filter(|list| list.first() == Some(&b'*'))?;
        let keys = reply::elements(list);
        let is_asked = |key| {
            reply::bulk(key).is_some_and(|key| names.has_several() || names.strip(key).is_some())
        };
        let is_page = elements.next().is_none() && keys.clone().all(is_asked);
        is_page.then_some(Self { cursor, keys, names })
    }

    /// The locks of fill leases of this version.
    fn locks(&self) -> impl Iterator<Item = &'a [u8]> {
        let (names, begin) = (self.names, self.names.fill_locks());
        let is_lock = move |name: &&[u8]| name.starts_with(&begin) && names.strip(name).is_none();
        self.keys.clone().filter_map(reply::bulk).filter(is_lock)
    }

    /// The keys of this version: their names, and as clients name them.
    fn keys(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let names = self.names;
        let both = move |name| names.strip(name).map(|key| (name, key));
        self.keys.clone().filter_map(reply::bulk).filter_map(both)
    }
}

/// The databases that have keys, by INFO keyspace, the first one last; `None` if it is not that.
fn databases(answer: &[u8]) -> Option<Vec<u32>> {
    let mut lines = reply::bulk(answer)?.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.next().filter(|title| title.eq_ignore_ascii_case(b"# keyspace"))?;
    let number = |line: &[u8]| {
        let digits = line.strip_prefix(b"db")?.split(|&byte| byte == b':').next()?;
        parse_i64(digits).and_then(|number| u32::try_from(number).ok())
    };
    let mut found: Vec<u32> = lines.filter_map(number).collect();
    found.reverse();
    Some(found)
}

fn ask_page(out: &mut BytesMut, cursor: &[u8], pattern: &[u8]) {
    write_words(out, &[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", PAGE]);
}
