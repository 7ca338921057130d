//! Properties of the wire: however bytes are cut, the same comes out; what is written is read back;
//! no bytes can make it panic, recurse, allocate or look twice. `redis-protocol`'s decoders are a
//! second opinion where they are strict; where they differ, the difference is listed here.

#![expect(clippy::indexing_slicing, clippy::unreachable, reason = "a test")]

use bytes::BytesMut;
use nearside::wire::request::{self, Found, Head, Limits, Malformed};
use nearside::wire::write::{self, Proto};
use nearside::wire::{inline, reply};
use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame as _};

const LIMITS: Limits = Limits { args_max: 1 << 20, bulk_max: 512 << 20, unauthenticated: false };

/// What came out of a byte stream: the requests, then perhaps an error; and what is left over.
#[derive(Debug, PartialEq)]
struct Read {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<Malformed>,
    rest: usize,
}

/// Feeds `stream` in pieces as a connection does, until an error.
fn read(stream: &[u8], pieces: &[usize], limits: &Limits) -> Read {
    let mut read = Read { requests: Vec::new(), error: None, rest: 0 };
    let mut buffer = BytesMut::new();
    let (mut scan, mut args) = (request::Scan::default(), Vec::new());
    for piece in cut(stream, pieces) {
        buffer.extend_from_slice(piece);
        loop {
            let found = match scan.next(&buffer, &mut args, limits) {
                Ok(Found::NeedMore) => break,
                Ok(found) => found,
                Err(error) => return Read { error: Some(error), ..read },
            };
            let request = match found {
                Found::Request(length) => {
                    let request = args.iter().map(|arg| arg.of(&buffer).to_vec()).collect();
                    let _consumed = buffer.split_to(length);
                    request
                }
                Found::Inline(length) => match inline::to_multibulk(&buffer.split_to(length)) {
                    Ok(multibulk) => words(&multibulk),
                    Err(error) => return Read { error: Some(error), ..read },
                },
                Found::NeedMore => unreachable!(),
            };
            read.requests.push(request);
            scan = request::Scan::default();
            args.clear();
        }
    }
    Read { rest: buffer.len(), ..read }
}

/// The arguments of one complete request, which may be empty.
fn words(multibulk: &[u8]) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    if !multibulk.is_empty() {
        let found = request::Scan::default().next(multibulk, &mut args, &LIMITS);
        assert_eq!(found, Ok(Found::Request(multibulk.len())));
    }
    args.iter().map(|arg| arg.of(multibulk).to_vec()).collect()
}

/// `stream` in pieces of these lengths, again and again; never an empty one.
fn cut<'s>(mut stream: &'s [u8], pieces: &[usize]) -> Vec<&'s [u8]> {
    let mut lengths = pieces.iter().cycle();
    let mut out = Vec::new();
    while !stream.is_empty() {
        let length = lengths.next().map_or(stream.len(), |length| (*length).clamp(1, stream.len()));
        let (piece, rest) = stream.split_at(length);
        out.push(piece);
        stream = rest;
    }
    out
}

fn multibulk(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write::array(&mut out, args.len());
    for arg in args {
        write::bulk(&mut out, arg);
    }
    out.to_vec()
}

/// An inline line whose words are all quoted and escaped.
fn quoted(args: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for arg in args {
        line.extend_from_slice(b" \"");
        for byte in arg {
            line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn args() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..40), 1..6)
}

/// One request: its bytes, and what they mean.
fn one_request() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    prop_oneof![
        6 => args().prop_map(|args| (multibulk(&args), args)),
        2 => args().prop_map(|args| (quoted(&args), args)),
        1 => prop_oneof![Just("*0\r\n"), Just("*-1\r\n"), Just("\r\n"), Just("\n")]
            .prop_map(|empty| (empty.as_bytes().to_vec(), Vec::new())),
    ]
}

/// Bytes that a parser of RESP takes long to see through.
fn resp_like() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"*1\r\n",
        b"*2\r\n",
        b"$1\r\n",
        b"$3\r\nGET\r\n",
        b"a\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"*",
        b"$",
        b"-1",
        b"0",
        b"1",
        b"+",
        b"%1\r\n",
        b"~2\r\n",
        b">1\r\n",
        b"|1\r\n",
        b"_\r\n",
        b"+OK\r\n",
        b":1",
        b"=5\r\ntxt:a\r\n",
        b"\"",
        b"'",
        b"\\x4",
        b" ",
        b"\0",
        b"\xff",
    ];
    vec(proptest::sample::select(parts), 0..24).prop_map(|parts| parts.concat())
}

/// A valid pipeline with one byte changed, added or lost.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let pipeline = vec(one_request().prop_map(|(bytes, _)| bytes), 1..4);
    (pipeline, any::<proptest::sample::Index>(), any::<u8>(), 0..3_u8).prop_map(
        |(requests, place, byte, how)| {
            let mut bytes = requests.concat();
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn a_pipeline_is_read_as_it_was_meant(
        requests in vec(one_request(), 0..8),
        pieces in vec(1..50_usize, 1..8),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let meant = requests.into_iter().map(|(_, args)| args).collect();
        let gulp = read(&stream, &[], &LIMITS);
        prop_assert_eq!(&gulp, &Read { requests: meant, error: None, rest: 0 });
        prop_assert_eq!(&read(&stream, &pieces, &LIMITS), &gulp);
        prop_assert_eq!(&read(&stream, &[1], &LIMITS), &gulp);
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        stream in prop_oneof![vec(any::<u8>(), 0..200), resp_like(), damaged()],
        pieces in vec(1..20_usize, 1..8),
        authenticated in any::<bool>(),
    ) {
        let limits = if authenticated { LIMITS } else { Limits::UNAUTHENTICATED };
        let gulp = read(&stream, &[], &limits);
        prop_assert_eq!(&read(&stream, &pieces, &limits), &gulp);
        prop_assert_eq!(&read(&stream, &[1], &limits), &gulp);
    }

    #[test]
    fn a_request_that_begins_as_another_is_read_by_its_head_alike(
        name in vec(any::<u8>(), 0..6),
        key in vec(any::<u8>(), 0..40),
        other in prop_oneof![one_request().prop_map(|(bytes, _)| bytes), resp_like(), damaged()],
        place in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        authenticated in any::<bool>(),
    ) {
        let limits = if authenticated { LIMITS } else { Limits::UNAUTHENTICATED };
        let (long, alike) = (multibulk(&[name.clone(), vec![b'k'; 100]]), multibulk(&[name, key]));
        let mut args = Vec::new();
        request::Scan::default().next(&long, &mut args, &limits).unwrap();
        let head = Head::of(&long, &args);
        // Whatever the head finds, the scan finds; and it finds what is as short and goes on.
        let mut damaged = alike.clone();
        damaged[place.index(alike.len())] = byte;
        let followed = [&alike[..], &other].concat();
        for bytes in [&followed, &alike, &damaged, &other, &alike[..alike.len() - 1].to_vec()] {
            let (mut found, mut meant) = (Vec::new(), Vec::new());
            let length = head.next(bytes, &mut found, &limits);
            let scanned = request::Scan::default().next(bytes, &mut meant, &limits);
            match length {
                Some(length) => {
                    prop_assert_eq!(scanned, Ok(Found::Request(length)));
                    prop_assert_eq!(found, meant);
                }
                None => prop_assert!(found.is_empty()),
            }
        }
        let is_known = args[0].end <= 13;
        let found = head.next(&followed, &mut Vec::new(), &limits);
        prop_assert_eq!(found, (is_known && followed.len() >= 16).then_some(alike.len()));
    }

    #[test]
    fn redis_protocol_reads_our_requests(args in args()) {
        let bytes = multibulk(&args);
        let (frame, length) = redis_protocol::resp2::decode::decode(&bytes).unwrap().unwrap();
        prop_assert_eq!(length, bytes.len());
        let OwnedFrame::Array(frames) = frame else {
            return Err(TestCaseError::fail("not an array"));
        };
        let theirs: Vec<&[u8]> = frames.iter().filter_map(|frame| frame.as_bytes()).collect();
        prop_assert_eq!(theirs, args);
    }
}

/// A reply of any type.
#[derive(Clone, Debug)]
enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    NullArray,
    Boolean(bool),
    Double(String),
    Big(String),
    Verbatim(Vec<u8>),
    BlobError(Vec<u8>),
    Array(Vec<Self>),
    Set(Vec<Self>),
    Push(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// Pairs before a reply that they describe.
    Attribute(Vec<(Self, Self)>, Box<Self>),
}

impl Value {
    /// Written by our writer where it knows the type.
    fn write(&self, out: &mut BytesMut, proto: Proto) {
        let all = |out: &mut BytesMut, values: &[Self]| {
            for value in values {
                value.write(out, proto);
            }
        };
        let pairs = |out: &mut BytesMut, pairs: &[(Self, Self)]| {
            for (key, value) in pairs {
                key.write(out, proto);
                value.write(out, proto);
            }
        };
        match self {
            Self::Simple(text) => write::simple(out, text),
            Self::Error(text) => write::error(out, text.as_bytes()),
            Self::Integer(value) => write::integer(out, *value),
            Self::Bulk(bytes) => write::bulk(out, bytes),
            Self::Null => write::null(out, proto),
            Self::NullArray => write::null_array(out, proto),
            Self::Boolean(value) => {
                out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" });
            }
            Self::Double(text) => write::double(out, proto, text),
            Self::Big(digits) => out.extend_from_slice(format!("({digits}\r\n").as_bytes()),
            Self::Verbatim(text) => write::verbatim(out, proto, text),
            Self::BlobError(text) => {
                out.extend_from_slice(format!("!{}\r\n", text.len()).as_bytes());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Self::Array(values) => {
                write::array(out, values.len());
                all(out, values);
            }
            Self::Set(values) => {
                write::set(out, proto, values.len());
                all(out, values);
            }
            Self::Push(values) => {
                write::push(out, proto, values.len());
                all(out, values);
            }
            Self::Map(entries) => {
                write::map(out, proto, entries.len());
                pairs(out, entries);
            }
            Self::Attribute(entries, value) => {
                out.extend_from_slice(format!("|{}\r\n", entries.len()).as_bytes());
                pairs(out, entries);
                value.write(out, proto);
            }
        }
    }

    fn bytes(&self, proto: Proto) -> Vec<u8> {
        let mut out = BytesMut::new();
        self.write(&mut out, proto);
        out.to_vec()
    }
}

/// A reply without elements, of the types that RESP2 has (or our writer turns into such).
fn flat() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-zA-Z0-9 ]{0,20}".prop_map(Value::Simple),
        "ERR [a-z\\r\\n]{0,20}".prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..40).prop_map(Value::Bulk),
        Just(Value::Null),
        Just(Value::NullArray),
        "-?[0-9]{1,9}\\.[0-9]{1,5}".prop_map(Value::Double),
        "[a-z\\r\\n]{0,20}".prop_map(|text| Value::Verbatim(text.into_bytes())),
    ]
}

fn flat_resp3() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => flat(),
        1 => any::<bool>().prop_map(Value::Boolean),
        1 => "-?[1-9][0-9]{1,30}".prop_map(Value::Big),
        1 => "ERR [a-z\\r\\n]{0,9}".prop_map(|text| Value::BlobError(text.into_bytes())),
    ]
}

/// Names as sets and maps have them; `redis-protocol` hashes them, so nothing else may stand there.
fn name() -> impl Strategy<Value = Value> {
    vec(any::<u8>(), 0..10).prop_map(Value::Bulk)
}

/// Nested replies that every reader of RESP understands.
fn nested(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(name(), 0..6).prop_map(Value::Set),
            vec((name(), inner), 0..6).prop_map(Value::Map),
        ]
    })
    .prop_flat_map(pushed)
}

/// As a push, now and then. Only whole replies are: between the elements of another it is none of
/// them.
fn pushed(value: Value) -> impl Strategy<Value = Value> {
    prop_oneof![3 => Just(value.clone()), 1 => Just(Value::Push(vec![value]))]
}

/// Anything at any place, attributes too.
fn wild() -> impl Strategy<Value = Value> {
    flat_resp3()
        .prop_recursive(6, 60, 6, |inner| {
            let pairs = || vec((inner.clone(), inner.clone()), 0..4);
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::Array),
                vec(inner.clone(), 0..6).prop_map(Value::Set),
                pairs().prop_map(Value::Map),
                (pairs(), inner.clone())
                    .prop_map(|(entries, value)| Value::Attribute(entries, Box::new(value))),
            ]
        })
        .prop_flat_map(pushed)
}

/// Lengths of the replies in `stream`, fed in pieces, then perhaps an error.
fn lengths(stream: &[u8], pieces: &[usize]) -> (Vec<usize>, Option<reply::Malformed>) {
    let (mut lengths, mut buffer, mut scan) = (Vec::new(), BytesMut::new(), reply::Scan::default());
    for piece in cut(stream, pieces) {
        buffer.extend_from_slice(piece);
        loop {
            match scan.next(&buffer) {
                Ok(Some(length)) => {
                    lengths.push(buffer.split_to(length).len());
                }
                Ok(None) => break,
                Err(error) => return (lengths, Some(error)),
            }
        }
    }
    (lengths, None)
}

proptest! {
    #[test]
    fn replies_end_where_they_were_ended(
        values in vec(wild(), 1..6),
        pieces in vec(1..50_usize, 1..8),
    ) {
        let replies: Vec<Vec<u8>> = values.iter().map(|value| value.bytes(Proto::Resp3)).collect();
        let expected = (replies.iter().map(Vec::len).collect(), None);
        let stream = replies.concat();
        prop_assert_eq!(&lengths(&stream, &[]), &expected);
        prop_assert_eq!(&lengths(&stream, &pieces), &expected);
        prop_assert_eq!(&lengths(&stream, &[1]), &expected);
    }

    #[test]
    fn any_bytes_are_scanned_alike_however_they_are_cut(
        stream in prop_oneof![vec(any::<u8>(), 0..200), resp_like()],
        pieces in vec(1..20_usize, 1..8),
    ) {
        let gulp = lengths(&stream, &[]);
        prop_assert_eq!(&lengths(&stream, &pieces), &gulp);
        prop_assert_eq!(&lengths(&stream, &[1]), &gulp);
    }

    #[test]
    fn elements_are_the_parts(values in vec(wild(), 0..6)) {
        let parts: Vec<Vec<u8>> = values.iter().map(|value| value.bytes(Proto::Resp3)).collect();
        let whole = Value::Array(values).bytes(Proto::Resp3);
        prop_assert_eq!(reply::elements(&whole).collect::<Vec<_>>(), parts);
    }

    #[test]
    fn redis_protocol_agrees_on_resp2(value in nested(flat()), tail in vec(any::<u8>(), 0..9)) {
        let stream = [value.bytes(Proto::Resp2), tail].concat();
        let theirs = redis_protocol::resp2::decode::decode(&stream).unwrap().map(|found| found.1);
        prop_assert_eq!(reply::Scan::default().next(&stream), Ok(theirs));
    }

    #[test]
    fn redis_protocol_agrees_on_resp3(
        value in nested(flat_resp3()),
        tail in vec(any::<u8>(), 0..9),
    ) {
        use redis_protocol::resp3::decode::complete::decode;
        let stream = [value.bytes(Proto::Resp3), tail].concat();
        let theirs = decode(&stream).unwrap().map(|found| found.1);
        prop_assert_eq!(reply::Scan::default().next(&stream), Ok(theirs));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Ends(usize),
    GoesOn,
    Refused,
}

fn verdict<E>(found: Result<Option<usize>, E>) -> Verdict {
    found.map_or(Verdict::Refused, |length| length.map_or(Verdict::GoesOn, Verdict::Ends))
}

/// Ours | redis-protocol as RESP2 | as RESP3. The first part is why its decoder stays off sockets;
/// the second is what ours leaves to the reader of a value, because it changes no frame's length.
#[test]
fn where_redis_protocol_differs() {
    use Verdict::{Ends, GoesOn, Refused};
    for (bytes, ours, resp2, resp3) in [
        // A length with a plus sign or a leading zero, which servers refuse.
        (&b"$+1\r\na\r\n"[..], Refused, Ends(8), Ends(8)),
        (b"$01\r\na\r\n", Refused, Ends(8), Ends(8)),
        (b"*+1\r\n:1\r\n", Refused, Ends(9), Ends(9)),
        (b"*01\r\n:1\r\n", Refused, Ends(9), Ends(9)),
        // A bulk that does not end with CRLF: the next frame would begin in the wrong place.
        (b"$1\r\naXY", Refused, Ends(7), Ends(7)),
        // A carriage return inside a line.
        (b"+a\rb\r\n", Refused, Ends(6), Ends(6)),
        // Not in RESP: its own HELLO frame, and pieces of streamed values, which nobody sends.
        (b"HELLO 3\r\n", Refused, Refused, Ends(9)),
        (b";1\r\na\r\n", Refused, Refused, Ends(7)),
        // RESP2's nulls on a RESP3 link: out of place, but their length is plain.
        (b"$-1\r\n", Ends(5), Ends(5), Refused),
        (b"*-1\r\n", Ends(5), Ends(5), Refused),
        // Text that is no value of its type.
        (b":x\r\n", Ends(4), Refused, Refused),
        (b"#x\r\n", Ends(4), Refused, Refused),
        (b",x\r\n", Ends(4), Refused, Refused),
        (b"$5\r\nab", GoesOn, GoesOn, GoesOn),
    ] {
        let shown = bytes.escape_ascii().to_string();
        assert_eq!(verdict(reply::Scan::default().next(bytes)), ours, "ours {shown}");
        let decode = redis_protocol::resp2::decode::decode;
        assert_eq!(verdict(decode(bytes).map(|found| found.map(|f| f.1))), resp2, "2 {shown}");
        let decode = redis_protocol::resp3::decode::complete::decode;
        assert_eq!(verdict(decode(bytes).map(|found| found.map(|f| f.1))), resp3, "3 {shown}");
    }
}

/// Furthest back that a scanner may look: a header line and the body of the bulk it stands before.
const WINDOW: usize = 256;

/// 1 MB and 10,000 bulks of about 100 bytes.
fn large() -> Vec<u8> {
    let args: Vec<Vec<u8>> = (0..10_000).map(|n| vec![b'x'; 80 + n % 40]).collect();
    multibulk(&args)
}

/// Work is counted by taking bytes away: behind the window everything is overwritten, so that a
/// scanner which looked there again would fail.
#[test]
fn a_dripping_request_is_looked_at_once() {
    let whole = large();
    let (mut expected, mut args) = (Vec::new(), Vec::new());
    request::Scan::default().next(&whole, &mut expected, &LIMITS).unwrap();
    assert_eq!(expected.len(), 10_000);

    let (mut seen, mut scan, mut wanted) = (whole.clone(), request::Scan::default(), 0);
    for end in 1..whole.len() {
        assert_eq!(scan.next(&seen[..end], &mut args, &LIMITS), Ok(Found::NeedMore));
        assert!(scan.wanted() >= wanted, "went back at {end}");
        wanted = scan.wanted();
        if let Some(old) = end.checked_sub(WINDOW) {
            seen[old] = b'#';
        }
    }
    assert_eq!(scan.next(&seen, &mut args, &LIMITS), Ok(Found::Request(whole.len())));
    assert_eq!(args, expected);
}

#[test]
fn a_dripping_reply_is_looked_at_once() {
    let whole = large();
    let (mut seen, mut scan) = (whole.clone(), reply::Scan::default());
    for end in 1..whole.len() {
        assert_eq!(scan.next(&seen[..end]), Ok(None));
        if let Some(old) = end.checked_sub(WINDOW) {
            seen[old] = b'#';
        }
    }
    assert_eq!(scan.next(&seen), Ok(Some(whole.len())));

    // Of a long line only the kind is kept.
    let mut line = [&b"+"[..], &vec![b'x'; 1 << 19], b"\r\n"].concat();
    let mut scan = reply::Scan::default();
    for end in 1..line.len() {
        assert_eq!(scan.next(&line[..end]), Ok(None));
        if end > 1 && end < line.len() - 2 {
            line[end - 1] = b'\r';
        }
    }
    assert_eq!(scan.next(&line), Ok(Some(line.len())));
}

#[test]
fn hostile_requests() {
    use Malformed as M;
    let deep = b"*1\r\n".repeat(1 << 18);
    let line = |first: &[u8]| [first, &vec![b'1'; (64 << 10) + 2]].concat();
    for (bytes, error) in [
        (&deep[..], M::ExpectedBulk(b'*')),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", M::ExpectedBulk(b'*')),
        (b"*+1\r\n$4\r\nPING\r\n", M::MultibulkLength),
        (b"*01\r\n$4\r\nPING\r\n", M::MultibulkLength),
        (b"*00\r\n", M::MultibulkLength),
        (b"*-0\r\n", M::MultibulkLength),
        (b"*\r\n", M::MultibulkLength),
        (b"* 1\r\n", M::MultibulkLength),
        (b"*1048577\r\n", M::MultibulkLength),
        (b"*2147483648\r\n", M::MultibulkLength),
        (b"*99999999999999999999\r\n", M::MultibulkLength),
        (b"*1\r\n$+4\r\nPING\r\n", M::BulkLength),
        (b"*1\r\n$04\r\nPING\r\n", M::BulkLength),
        (b"*1\r\n$-1\r\n", M::BulkLength),
        (b"*1\r\n$\r\n", M::BulkLength),
        (b"*1\r\n$536870913\r\n", M::BulkLength),
        (b"*1\r\n$18446744073709551615\r\n", M::BulkLength),
        (b"*1\r\n$4\r\nPINGxx", M::LineEnd),
        (b"*1\r\n$4\r\nPING\n\n", M::LineEnd),
        (b"*1\r*", M::LineEnd),
        (b"*1\r\n\r\n", M::ExpectedBulk(b'\r')),
        (&line(b"*"), M::MultibulkLine),
        (&line(b"*1\r\n$"), M::BulkLine),
        (&line(b"P"), M::InlineLine),
        (b"SET a \"b\r\n", M::Quotes),
        (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", M::TlsHello),
    ] {
        let start = bytes[..bytes.len().min(32)].escape_ascii();
        let expected = Read { requests: Vec::new(), error: Some(error), rest: 0 };
        assert_eq!(read(bytes, &[], &LIMITS), expected, "{start}");
        assert_eq!(read(bytes, &[1], &LIMITS), expected, "{start}, in drips");
    }
    for (bytes, error) in [
        (&b"*11\r\n"[..], M::UnauthenticatedMultibulk),
        (b"*1\r\n$16385\r\n", M::UnauthenticatedBulk),
    ] {
        assert_eq!(read(bytes, &[], &Limits::UNAUTHENTICATED).error, Some(error));
    }
    // The largest that may be declared: nothing is allocated before it comes.
    let mut args = Vec::new();
    let declared = b"*1048576\r\n$536870912\r\n";
    let found = request::Scan::default().next(declared, &mut args, &LIMITS);
    assert_eq!((found, args.capacity()), (Ok(Found::NeedMore), 0));
}

#[test]
fn hostile_replies() {
    use reply::Malformed as M;
    let nest = |kind: &str| kind.as_bytes().repeat(1 << 18);
    let endless = [&b"+"[..], &vec![b'x'; reply::LINE_MAX + 1]].concat();
    for (bytes, error) in [
        (&nest("*1\r\n")[..], M::Depth),
        (&nest("|1\r\n"), M::Depth),
        (&nest("%1\r\n"), M::Depth),
        (&endless, M::LineLength),
        (b"$-2\r\n", M::Length),
        (b"*-2\r\n", M::Length),
        (b"$9223372036854775807\r\n", M::Length),
        (b"*9223372036854775808\r\n", M::Length),
        (b"*?\r\n", M::Length),
        (b"$1\r\nabc", M::LineEnd),
        (b"HTTP/1.1 400 Bad Request\r\n", M::Kind(b'H')),
        (b"\x15\x03\x01\x00\x02\x02\x16\r\n", M::Kind(0x15)),
    ] {
        let start = bytes[..bytes.len().min(32)].escape_ascii();
        assert_eq!(reply::Scan::default().next(bytes), Err(error), "{start}");
    }
    // Declared, never sent: neither memory nor overflow.
    for bytes in [
        &b"*9223372036854775807\r\n:1\r\n"[..],
        b"%9223372036854775807\r\n:1\r\n",
        b"|9223372036854775807\r\n:1\r\n",
        b"$4611686018427387903\r\nx",
    ] {
        assert_eq!(reply::Scan::default().next(bytes), Ok(None));
    }
}
