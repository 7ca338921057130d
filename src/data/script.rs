//! Scripts and functions on their way upstream, and the scripts that a server has lost.
//!
//! A server forgets its scripts when it restarts, fails over or is told to (SCRIPT FLUSH), and
//! answers EVALSHA with `-NOSCRIPT`. Where nearside has seen the text, it sends an EVAL with that
//! text instead, which leaves the script there again:
//!
//! * **beforehand** where this worker has lost a connection, at the first EVALSHA of each script;
//! * **afterwards** when `-NOSCRIPT` has come, if its client has nothing out behind that request.
//!
//! Both keep one client's requests in their order. Beforehand the EVAL stands where the EVALSHA
//! would. Afterwards it goes out behind everything on the link, and whatever its client sends next
//! goes behind it; had the client already something out, that would have run before the script, so
//! the error is passed on as a server gives it, and the next EVALSHA of that script takes the text
//! along. Nobody waits for anything, and nothing is executed twice: `-NOSCRIPT` says that nothing
//! was. In a transaction nothing is mended.
//!
//! Under a prefix a function is called in two steps: its library is asked for (FUNCTION LIST
//! WITHCODE), and the call follows the answer on the same link, or is refused. The library where it
//! was last is asked for first, and then all. A function that is in none is the server's to refuse,
//! as is one whose library may not be asked for. Its client's next request waits for the call;
//! others do not wait. Within MULTI no answer comes before EXEC, so EXEC waits for it
//! ([`exec`](crate::data::pinned::exec)).
//!
//! A script may touch keys that it does not declare. While one is out, its client gets no hits
//! (R6); its declared keys are invalidated before its answer is delivered (R4); what it wrote
//! beside them is heard of from the tracking link, for which its answer waits where
//! `cache.script_barrier` says so ([`barrier`]).

use crate::command::{Spec, keys};
use crate::data::Shared;
use crate::data::barrier;
use crate::data::batch::Batch;
use crate::data::fill_lease;
use crate::data::forward;
use crate::data::order::Frame;
use crate::data::pinned;
use crate::data::session::{Flow, Session};
use crate::data::settle::{self, Desk, Fault};
use crate::data::upstream::{Kind, Pipeline, Ticket, Waiter};
use crate::scripts::{Heard, NO_SCRIPT, Sha, Verdict};
use crate::stats::{Counter, Outcome};
use crate::units::clock::Tick;
use crate::wire::request::Request;
use crate::wire::write;
use bytes::BytesMut;
use std::rc::Rc;

/// Longer arguments are not kept for another attempt.
const KEPT_MAX: usize = 64 * 1024;

/// What is done with the answer to a script.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// The request had the text with it.
    Text(Sha),
    /// It had only the name; the rest of the request is the ticket's text.
    Name {
        /// The name.
        sha: Sha,
        /// How many arguments the request has.
        argc: usize,
    },
}

/// Names of functions that are to be read.
pub type Functions = Vec<Box<[u8]>>;

/// FCALL of a function that is read before it is called; the rest of the request is its ticket's
/// text.
#[derive(Debug)]
pub struct Call {
    function: Box<[u8]>,
    /// How many arguments the request has.
    argc: usize,
    /// True if only the library was asked for in which it was last.
    is_narrow: bool,
}

/// Serves a request of the scripting family.
pub fn serve(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) -> Flow {
    match batch.shared.scripts.judge(spec, |index| request.arg(index)) {
        Verdict::Pass(sha) => {
            if pinned::for_script(session, batch) == Flow::Barrier {
                return Flow::Barrier;
            }
            pass(session, spec, request, sha, batch);
            if barrier::is_wanted(spec, sha, batch) {
                batch.links.of(session).mark_opaque();
            }
            session.out_mask = u64::MAX;
        }
        Verdict::Unread => {
            if pinned::for_script(session, batch) == Flow::Barrier {
                return Flow::Barrier;
            }
            read_first(session, spec, request, batch);
        }
        Verdict::NoScript => refuse(session, spec, NO_SCRIPT, batch),
        Verdict::Refused(text) => refuse(session, spec, text.as_bytes(), batch),
    }
    Flow::Next
}

fn refuse(session: &mut Session, spec: &Spec, text: &[u8], batch: &Batch<'_>) {
    batch.block.command(spec.index, true, 1);
    batch.block.add(Counter::RejectedUnsupported, 1);
    session.error(text);
}

fn pass(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    sha: Option<Sha>,
    batch: &mut Batch<'_>,
) {
    let is_name = matches!(spec.name, "evalsha" | "evalsha_ro");
    match sha {
        Some(sha) if !is_name => {
            forward::command_as(session, spec, request, Kind::Script(Script::Text(sha)), batch);
            batch.links.of(session).given.note(sha, true);
        }
        Some(sha) if batch.shared.scripts.knows(sha) => by_name(session, spec, request, sha, batch),
        _ => forward::command(session, spec, request, batch),
    }
}

/// EVALSHA of a script whose text is known.
fn by_name(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    sha: Sha,
    batch: &mut Batch<'_>,
) {
    if batch.snapshot.rules.lend() && spec.writes() {
        fill_lease::void(session, spec, request, batch);
    }
    let shared = batch.shared;
    let link = batch.links.of(session);
    let is_there = link.given.is_there(sha);
    let text = if is_there { None } else { shared.scripts.text(sha) };
    write::array(&mut link.output, request.len());
    if let Some(text) = &text {
        write::bulk(&mut link.output, with_text(spec));
        write::bulk(&mut link.output, text);
        link.given.note(sha, true);
    } else {
        write::bulk(&mut link.output, request.arg(0));
        write::bulk(&mut link.output, request.arg(1));
    }
    let from = link.output.len();
    let keys = write_rest(link, spec, request, shared);
    let is_kept = text.is_none() && link.output.len() - from <= KEPT_MAX;
    let text_len = if is_kept { link.keep_output(from) } else { 0 };
    let argc = request.len();
    let script = if is_kept { Script::Name { sha, argc } } else { Script::Text(sha) };
    let slot = session.order.leave_hole();
    let owner = Waiter { client: batch.me, slot };
    let ticket = Ticket::new(owner, spec, batch.view.now, Kind::Script(script));
    link.push(Ticket { keys, text_len, ..ticket });
    session.waits_for_link = link.hand_over();
}

/// The command that takes a script's text where this one takes its name.
fn with_text(spec: &Spec) -> &'static [u8] {
    if spec.name == "evalsha_ro" { b"EVAL_RO" } else { b"EVAL" }
}

/// Writes what stands behind the text, or the name of a script or function, and names its keys;
/// how many they are.
fn write_rest(link: &mut Pipeline, spec: &Spec, request: &Request<'_>, shared: &Shared) -> u32 {
    let snapshot = Rc::clone(link.snapshot());
    let (mut named, mut behind_keys) = (0, 0);
    keys::for_each(
        spec,
        request.len(),
        |at| request.arg(at),
        |at| {
            link.name_key(shared.cache.hash(request.arg(at)));
            named += 1;
            behind_keys = at + 1;
        },
    );
    for (at, argument) in request.from(0).enumerate().skip(2) {
        if (3..behind_keys).contains(&at) {
            forward::write_key(&mut link.output, argument, &snapshot.names);
        } else {
            write::bulk(&mut link.output, argument);
        }
    }
    named
}

/// FCALL of a function that has to be read first: its library is asked for, and the call follows
/// its answer. Nothing else of this client goes out before that.
fn read_first(
    session: &mut Session,
    spec: &'static Spec,
    request: &Request<'_>,
    batch: &mut Batch<'_>,
) {
    if batch.snapshot.rules.lend() && spec.writes() {
        fill_lease::void(session, spec, request, batch);
    }
    let shared = batch.shared;
    let function = request.arg(1);
    let home = shared.scripts.home(function);
    let link = batch.links.of(session);
    let from = link.output.len();
    let keys = write_rest(link, spec, request, shared);
    let text_len = link.keep_output(from);
    link.output.truncate(from);
    ask_for(&mut link.output, home.as_deref());
    let call = Call { function: function.into(), argc: request.len(), is_narrow: home.is_some() };
    let slot = session.order.leave_hole();
    let owner = Waiter { client: batch.me, slot };
    let ticket = Ticket::new(owner, spec, batch.view.now, Kind::Call(Box::new(call)));
    link.push(Ticket { keys, text_len, ..ticket });
    session.waits_for_link = link.hand_over();
    session.out_mask = u64::MAX;
    session.wait();
}

/// Asks for the text of one library, or of all.
pub fn ask_for(out: &mut BytesMut, library: Option<&[u8]>) {
    let list: [&[u8]; 3] = [b"FUNCTION", b"LIST", b"WITHCODE"];
    match library {
        None => forward::write_words(out, &list),
        Some(name) => {
            let [function, list, with_code] = list;
            forward::write_words(out, &[function, list, b"LIBRARYNAME", name, with_code]);
        }
    }
}

/// The libraries of the server, before a call of one of their functions: it follows, or is refused.
/// One that is in none of them is the server's to refuse.
pub fn called(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    // They cannot be asked for (-NOPERM, -BUSY), so neither can the function.
    if frame.bytes().first() == Some(&b'-') {
        settle::forwarded(link, frame, desk);
        return Ok(());
    }
    let Some((Ticket { kind: Kind::Call(call), .. }, kept, _)) = link.front_read() else {
        return Err(Fault::Stray);
    };
    let scripts = &desk.shared.scripts;
    let heard =
        scripts.hear(std::slice::from_ref(&call.function), frame.bytes()).ok_or(Fault::Shape)?;
    let (kept, mut hashes) = (BytesMut::from(kept), Vec::new());
    let Some(mut ticket) = link.pop(|hash| hashes.push(hash)) else {
        return Err(Fault::Stray);
    };
    let Kind::Call(call) = &mut ticket.kind else {
        return Err(Fault::Stray);
    };
    match heard {
        Heard::Refused(text) => {
            desk.block.add(Counter::RejectedUnsupported, 1);
            let mut error = BytesMut::new();
            write::error(&mut error, text.as_bytes());
            settle::deliver(&ticket, &Frame::Borrowed(&error), Outcome::Bypass, desk);
            return Ok(());
        }
        // It may have gone to another library.
        Heard::Nowhere if call.is_narrow => {
            call.is_narrow = false;
            let from = link.output.len();
            link.output.extend_from_slice(&kept);
            link.keep_output(from);
            link.output.truncate(from);
            ask_for(&mut link.output, None);
        }
        Heard::Nowhere | Heard::Fine => {
            write::array(&mut link.output, call.argc);
            write::bulk(&mut link.output, ticket.spec.name.as_bytes());
            write::bulk(&mut link.output, &call.function);
            link.output.extend_from_slice(&kept);
            ticket.kind = Kind::Forward;
            ticket.text_len = 0;
        }
    }
    send(link, ticket, hashes, desk.now);
    Ok(())
}

/// The next request of a ticket that was taken off has been written.
fn send(link: &mut Pipeline, mut ticket: Ticket, hashes: Vec<u64>, now: Tick) {
    for hash in hashes {
        link.name_key(hash);
    }
    ticket.asked_at = now;
    link.push(ticket);
    link.wake();
}

/// The answer to a script.
pub fn answer(link: &mut Pipeline, frame: &Frame<'_>, desk: &mut Desk<'_>) -> Result<(), Fault> {
    if frame.bytes().first() == Some(&b'-') && is_mended(link, frame.bytes(), desk)? {
        return Ok(());
    }
    settle::forwarded(link, frame, desk);
    Ok(())
}

/// True if this error is none of the client's: the script is sent again, with its text.
#[cold]
fn is_mended(link: &mut Pipeline, error: &[u8], desk: &mut Desk<'_>) -> Result<bool, Fault> {
    let Some((ticket, kept, _)) = link.front_read() else {
        return Err(Fault::Stray);
    };
    let Kind::Script(script) = ticket.kind else {
        return Err(Fault::Stray);
    };
    let (Script::Text(sha) | Script::Name { sha, .. }) = script;
    if memchr::memmem::find(error, b"compiling").is_some() {
        desk.shared.scripts.forget(sha);
        return Ok(false);
    }
    if !error.starts_with(b"-NOSCRIPT") {
        return Ok(false);
    }
    let (owner, kept) = (ticket.owner, BytesMut::from(kept));
    link.given.note(sha, false);
    let (Script::Name { argc, .. }, true) = (script, desk.clients.is_last_out(owner)) else {
        // The next one takes the text along.
        return Ok(false);
    };
    let Some(text) = desk.shared.scripts.text(sha) else {
        return Ok(false);
    };
    let mut hashes = Vec::new();
    let Some(mut ticket) = link.pop(|hash| hashes.push(hash)) else {
        return Err(Fault::Stray);
    };
    write::array(&mut link.output, argc);
    write::bulk(&mut link.output, with_text(ticket.spec));
    write::bulk(&mut link.output, &text);
    link.output.extend_from_slice(&kept);
    ticket.kind = Kind::Script(Script::Text(sha));
    ticket.text_len = 0;
    send(link, ticket, hashes, desk.now);
    link.given.note(sha, true);
    Ok(true)
}
