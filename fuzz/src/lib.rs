//! What fuzzing asks of everything that reads bytes of others: each function here takes any bytes,
//! and panics if a promise about them is broken. `targets/` gives them to libFuzzer
//! (fuzz/README.md), and `tests/corpora.rs` plays what it has found again in every run.

#[path = "../../src/keys/glob/reference.rs"]
mod reference;

use bytes::{Bytes, BytesMut};
use nearside::behind::record::{Record, Salt};
use nearside::command::lua;
use nearside::config::{self, Groups};
use nearside::control::invalidate::message::Said;
use nearside::keys::glob::{self, Glob};
use nearside::net::proxy_protocol::{self, BINARY_MAX, Header, HeaderError};
use nearside::wire::request::{Arg, Found, Limits, Malformed, Scan};
use nearside::wire::{inline, reply, write};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;

/// What is used again by each run: hundreds of thousands begin in a second.
#[derive(Debug, Default)]
struct Desk {
    whole: Read,
    cut: Read,
    args: Vec<Arg>,
    anew: Vec<Arg>,
    out: BytesMut,
    ends: Vec<usize>,
    cut_ends: Vec<usize>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

/// A client's bytes, in pieces as a connection brings them and at once: the same requests come out,
/// the same error, and as much is left over. The first byte says how they are cut, and whether
/// who sends them has said who it is.
pub fn requests(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    let limits = if how & 1 == 0 {
        Limits { args_max: 1 << 20, bulk_max: 512 << 20, unauthenticated: false }
    } else {
        Limits::UNAUTHENTICATED
    };
    DESK.with_borrow_mut(|desk| {
        let Desk { whole, cut, args, anew, out, .. } = desk;
        whole.read(stream, stream.len().max(1), args, &limits, |found, buffer, args| match found {
            Found::Inline(length) => inline(&buffer[..length]),
            _ => again(buffer, args, anew, out, &limits),
        });
        let piece = usize::from(how >> 1) + 1;
        if piece < stream.len() {
            cut.read(stream, piece, args, &limits, |_, _, _| {});
            assert_eq!(whole, cut);
        }
    });
}

/// What a stream of requests comes to.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Of each request where its arguments begin and end within the stream, and where it ends.
    places: Vec<usize>,
    error: Option<Malformed>,
}

impl Read {
    fn read(
        &mut self,
        stream: &[u8],
        piece: usize,
        args: &mut Vec<Arg>,
        limits: &Limits,
        mut look: impl FnMut(Found, &[u8], &[Arg]),
    ) {
        self.places.clear();
        self.error = None;
        args.clear();
        let (mut from, mut given, mut scan) = (0, 0, Scan::default());
        while given < stream.len() {
            given = (given + piece).min(stream.len());
            loop {
                let buffer = &stream[from..given];
                let found = match scan.next(buffer, args, limits) {
                    Ok(Found::NeedMore) => break,
                    Ok(found) => found,
                    Err(error) => {
                        self.error = Some(error);
                        return;
                    }
                };
                look(found, buffer, args);
                let (Found::Request(length) | Found::Inline(length)) = found else { break };
                assert!(length > 0 && length <= buffer.len());
                let places = args.iter().flat_map(|arg| [arg.start as usize, arg.end as usize]);
                self.places.extend(places.map(|place| from + place));
                from += length;
                self.places.push(from);
                scan = Scan::default();
                args.clear();
            }
        }
    }
}

/// What nearside sends on for these arguments says the same.
fn again(buffer: &[u8], args: &[Arg], anew: &mut Vec<Arg>, out: &mut BytesMut, limits: &Limits) {
    if args.is_empty() {
        return;
    }
    out.clear();
    anew.clear();
    write::array(out, args.len());
    for arg in args {
        write::bulk(out, arg.of(buffer));
    }
    let found = Scan::default().next(out, anew, limits);
    assert_eq!(found, Ok(Found::Request(out.len())));
    assert_eq!(args.len(), anew.len());
    assert!(args.iter().zip(anew).all(|(arg, anew)| arg.of(buffer) == anew.of(out)));
}

/// A server's bytes, in pieces and at once; and whatever asks a whole reply for what is in it.
pub fn replies(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    DESK.with_borrow_mut(|Desk { ends, cut_ends, .. }| {
        let error = frames(stream, stream.len().max(1), ends);
        let piece = usize::from(how) + 1;
        if piece < stream.len() {
            let cut = frames(stream, piece, cut_ends);
            assert_eq!((error, &ends), (cut, &cut_ends));
        }
        let mut from = 0;
        for &end in &*ends {
            look_into(&stream[from..end], 3);
            from = end;
        }
    });
}

/// Where each frame ends; and the error behind them, if there is one.
fn frames(stream: &[u8], piece: usize, ends: &mut Vec<usize>) -> Option<reply::Malformed> {
    ends.clear();
    let (mut from, mut given) = (0, 0);
    let mut scan = reply::Scan::default();
    while given < stream.len() {
        given = (given + piece).min(stream.len());
        loop {
            match scan.next(&stream[from..given]) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    assert!(length > 0 && length <= given - from && scan.is_fresh());
                    from += length;
                    ends.push(from);
                }
                Err(error) => return Some(error),
            }
        }
    }
    None
}

fn look_into(frame: &[u8], depth: usize) {
    let inside = |part: Option<&[u8]>| part.is_none_or(|part| part.len() < frame.len());
    assert!(inside(reply::bulk(frame)) && inside(reply::text(frame)));
    let (_number, _is_null) = (reply::integer(frame), reply::is_null(frame));
    let _value = reply::value(frame, b"flags");
    if depth > 0 {
        for element in reply::elements(frame).take(64) {
            assert!(!element.is_empty() && element.len() < frame.len());
            look_into(element, depth - 1);
        }
    }
}

/// A line of words, with quotes and escapes, becomes a request of those words or is refused.
pub fn inline(line: &[u8]) {
    let Ok(request) = inline::to_multibulk(line) else { return };
    if request.is_empty() {
        return;
    }
    let limits = Limits { args_max: 1 << 20, bulk_max: 512 << 20, unauthenticated: false };
    let mut args = Vec::new();
    let found = Scan::default().next(&request, &mut args, &limits);
    assert_eq!(found, Ok(Found::Request(request.len())));
    let length: usize = args.iter().map(|arg| arg.of(&request).len()).sum();
    assert!(length <= line.len(), "words do not grow");
}

/// A pattern (its length is the first byte) and a key: as Redis matches them.
pub fn globs(data: &[u8]) {
    let Some((&length, rest)) = data.split_first() else { return };
    let (pattern, text) = rest.split_at(usize::from(length).min(rest.len()));
    let matches = glob::matches(pattern, text);
    // Redis' own takes exponential time.
    if pattern.split(|byte| *byte == b'*').count() <= 5 && text.len() < 64 {
        assert_eq!(matches, reference::redis(pattern, text) || is_lone_star(pattern, text));
    }
    assert_eq!(matches, Glob::new(pattern).matches(text));
    let mut literal = Vec::new();
    glob::escape(text, &mut literal);
    assert!(text.is_empty() || glob::matches(&literal, text));
}

/// `KEYS *` and `SCAN MATCH *` match every key before they ask for the pattern.
fn is_lone_star(pattern: &[u8], text: &[u8]) -> bool {
    pattern == b"*" && text.is_empty()
}

/// The versions, a rule and excluded keys of a configuration that is taken (its first five lines),
/// and keys: no two keys have one name upstream, and each is found again by its name.
pub fn names(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == b'\n');
    let mut text = || {
        let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        text.replace(|c: char| c == '\'' || c.is_control(), "")
    };
    let [prefix, version, exclude, ruled, own] = std::array::from_fn(|_| text());
    let text = format!(
        "keys.prefix = '{prefix}'\nkeys.version = '{version}'\nkeys.exclude = ['{exclude}']\n\
         rules = [{{ match = '{ruled}', version = '{own}' }}]"
    );
    let Ok(loaded) = config::load_text(Path::new("proxy.toml"), text) else { return };
    let names = &loaded.settings.names;
    let keys: Vec<&[u8]> = parts.take(8).collect();
    for key in &keys {
        let name = names.name(key);
        assert_eq!(names.strip(&name), Some(*key), "by {:?}", name.escape_ascii().to_string());
        for other in keys.iter().filter(|other| *other != key) {
            assert_ne!(name, names.name(other));
        }
    }
}

/// A configuration is taken or refused, in words.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = config::load_text(Path::new("proxy.toml"), text.to_owned()) {
        assert!(!error.to_string().is_empty());
    }
}

/// A message of the invalidation channel is understood or refused.
pub fn message(data: &[u8]) {
    if let Ok(said) = Said::read(data) {
        let _meaning = said.means(&Groups::default());
    }
}

/// A script is read to its end, and found to keep to its keys or not.
pub fn script(data: &[u8]) {
    let (_script, _library) = (lua::check(data), lua::check_library(data));
}

/// The header of a load balancer, read as a connection brings it, in pieces and at once: the same is
/// understood, and nothing behind it is read. The first byte says how it is cut.
pub fn proxy_header(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    let whole = header(stream, usize::MAX);
    assert_eq!(whole, header(stream, usize::from(how) + 1));
    if let Ok((length, said)) = whole {
        let (header, tail) = stream.split_at(length);
        let is_text = header.starts_with(b"PROXY ");
        assert!(if is_text { header.ends_with(b"\r\n") } else { header.len() >= 16 });
        assert!(tail.is_empty() || self::header(header, usize::MAX) == Ok((length, said)));
        if let Header::Proxied { from, to } = said {
            let again = in_words(from, to);
            assert_eq!(self::header(again.as_bytes(), usize::MAX), Ok((again.len(), said)));
        }
    }
}

/// A header, and how long it is; never more of the stream is taken than is asked for.
fn header(stream: &[u8], piece: usize) -> Result<(usize, Header), HeaderError> {
    let mut taken = 0;
    loop {
        let wanted = proxy_protocol::wanted(&stream[..taken])?;
        if wanted == 0 {
            return Ok((taken, proxy_protocol::parse(&stream[..taken])?));
        }
        assert!(taken + wanted <= BINARY_MAX);
        let count = wanted.min(piece).min(stream.len() - taken);
        if count == 0 {
            return Err(HeaderError::Truncated);
        }
        taken += count;
    }
}

/// The same as a header of version 1.
fn in_words(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
}

/// What stands in a log of writes behind: whatever is read as a record is written as the same bytes,
/// and a record that the sum agrees with is one or none, but nothing breaks. (Salt adds nothing.)
pub fn write_behind_log(data: &[u8]) {
    let mut left = Bytes::copy_from_slice(data);
    while let Some(record) = record_of(&mut left) {
        look_at(&record);
    }
    // Few inputs have the right sum by themselves.
    let mut framed = BytesMut::new();
    framed.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    framed.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
    framed.extend_from_slice(data);
    if let Some(record) = record_of(&mut framed.freeze()) {
        look_at(&record);
    }
}

fn record_of(left: &mut Bytes) -> Option<Record> {
    let before = left.clone();
    let record = Record::read(Salt::default(), left)?;
    let mut again = BytesMut::new();
    record.write(Salt::default(), &mut again);
    assert_eq!(again[..], before[..before.len() - left.len()]);
    Some(record)
}

fn look_at(record: &Record) {
    if let Record::Write(_, write) = record {
        assert!(write.prefix <= write.key().len());
        assert!(write.key().ends_with(&write.name()));
        let _value_and_effect = (write.value(), write.effect(), write.says_its_end());
    }
}
