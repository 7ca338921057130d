//! Handshakes as real servers answered them: Redis 7.0.15, Valkey 9.1.2, Redis 8.2.3, recorded.

use super::{Handshake, HandshakeError, Options, Progress, ServerInfo};
use crate::wire::reply::Scan;
use crate::wire::write::Proto;
use bytes::BytesMut;

const REDIS_7: &[u8] = b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
    $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
const VALKEY_9: &[u8] = b"%7\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n\
    $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n%4\r\n$4\r\nname\r\n$3\r\nlua\r\n\
    $3\r\nver\r\n:1\r\n$4\r\npath\r\n$3\r\nlua\r\n$4\r\nargs\r\n*0\r\n";
const REDIS_8: &[u8] = b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n8.2.3\r\n\
    $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*1\r\n%4\r\n$4\r\nname\r\n$9\r\nvectorset\r\n\
    $3\r\nver\r\n:1\r\n$4\r\npath\r\n$0\r\n\r\n$4\r\nargs\r\n*0\r\n";

const NO_SETINFO: &[u8] = b"-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n";
const WRONGPASS: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const OK: &[u8] = b"+OK\r\n";
const PONG: &[u8] = b"+PONG\r\n";

/// Plays the server's `bytes`; what was written, step by step, and how it ended.
fn play(options: &Options<'_>, bytes: &[u8]) -> (Vec<String>, Handshake, End) {
    let mut handshake = Handshake::new(options);
    let mut written = vec![said(&handshake)];
    let (mut rest, mut scan) = (bytes, Scan::default());
    let mut end = Ok(Progress::Wait);
    while let Ok(Some(length)) = scan.next(rest) {
        end = handshake.reply(&rest[..length]);
        rest = &rest[length..];
        match end {
            Ok(Progress::Write) => written.push(said(&handshake)),
            Ok(Progress::Wait) => {}
            Ok(Progress::Ready) | Err(_) => break,
        }
    }
    assert!(rest.is_empty(), "not read: {}", rest.escape_ascii());
    (written, handshake, end)
}

type End = Result<Progress, HandshakeError>;

/// The words of what the handshake writes now, commands divided by `|`.
fn said(handshake: &Handshake) -> String {
    let mut out = BytesMut::new();
    handshake.request(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let mut shown = String::new();
    for line in text.split("\r\n") {
        match line.as_bytes() {
            [b'*', ..] if !shown.is_empty() => shown.push_str(" |"),
            [b'*' | b'$', ..] => {}
            _ if line.is_empty() => {}
            _ => shown.extend([" ", line]),
        }
    }
    shown.trim_start().to_owned()
}

fn fails(options: &Options<'_>, frames: &[&[u8]]) -> HandshakeError {
    play(options, &frames.concat()).2.unwrap_err()
}

const RESP3: Options<'_> = Options {
    proto: Proto::Resp3,
    username: None,
    password: None,
    database: 0,
    name: None,
    tracking: None,
    asks_id: false,
};

#[test]
fn a_tracking_link_to_each_server() {
    let prefixes = [b"v1:".to_vec(), b"shared:".to_vec()];
    let options = Options {
        password: Some(b"secret"),
        database: 5,
        name: Some("nearside-1"),
        tracking: Some(&prefixes),
        ..RESP3
    };
    // An invalidation may come as soon as tracking is on, before the other replies.
    let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nv1:k\r\n";
    for (hello, setinfo, server, version, id) in [
        (REDIS_7, NO_SETINFO, "redis", "7.0.15", 4),
        (VALKEY_9, OK, "valkey", "9.1.2", 4),
        (REDIS_8, OK, "redis", "8.2.3", 5),
    ] {
        let bytes = [hello, OK, OK, push, OK, setinfo, setinfo, PONG].concat();
        let (written, handshake, end) = play(&options, &bytes);
        assert_eq!(end, Ok(Progress::Ready));
        let tracking = "CLIENT TRACKING ON BCAST PREFIX v1: PREFIX shared:";
        let labels = "CLIENT SETINFO lib-name nearside | CLIENT SETINFO lib-ver";
        let version_here = env!("CARGO_PKG_VERSION");
        assert_eq!(
            written,
            [
                "HELLO 3 AUTH default secret".to_owned(),
                format!(
                    "SELECT 5 | {tracking} | CLIENT SETNAME nearside-1 | {labels} {version_here} \
                     | PING"
                ),
            ]
        );
        let expected = ServerInfo {
            server: server.to_owned(),
            version: version.to_owned(),
            proto: 3,
            id,
            mode: "standalone".to_owned(),
            role: "master".to_owned(),
        };
        assert_eq!(handshake.server(), Some(&expected));
    }
}

#[test]
fn the_whole_keyspace_has_no_prefix() {
    let options = Options { tracking: Some(&[]), ..RESP3 };
    let (written, _, end) = play(&options, &[REDIS_8, OK, OK, OK, PONG].concat());
    assert_eq!(end, Ok(Progress::Ready));
    assert!(written[1].starts_with("CLIENT TRACKING ON BCAST | CLIENT SETINFO"), "{}", written[1]);
}

#[test]
fn nothing_follows_auth_before_its_answer() {
    for (options, greeting) in [
        (Options { username: Some(b"app"), password: Some(b"pw"), ..RESP3 }, "HELLO 3 AUTH app pw"),
        (Options { password: Some(b"pw"), ..Options::default() }, "AUTH pw"),
        (
            Options { username: Some(b"app"), password: Some(b"pw"), ..Options::default() },
            "AUTH app pw",
        ),
        (RESP3, "HELLO 3"),
    ] {
        assert_eq!(said(&Handshake::new(&options)), greeting);
    }
    // A user without a password: any is accepted, but one must be said.
    let nopass = Options { username: Some(b"guest"), ..RESP3 };
    let mut out = BytesMut::new();
    Handshake::new(&nopass).request(&mut out);
    assert!(out.ends_with(b"$5\r\nguest\r\n$0\r\n\r\n"), "{out:?}");
}

#[test]
fn a_resp2_link_says_no_hello() {
    let (written, handshake, end) =
        play(&Options::default(), &[NO_SETINFO, NO_SETINFO, PONG].concat());
    assert_eq!(end, Ok(Progress::Ready));
    assert_eq!(written.len(), 1);
    assert!(written[0].ends_with("| PING") && !written[0].contains("HELLO"), "{}", written[0]);
    assert_eq!(handshake.server(), None);
    let options = Options { password: Some(b"pw"), ..Options::default() };
    // Redis 7.0.15 with no password set; HELLO 3 AUTH on the same server is accepted.
    let needless = b"-ERR AUTH <password> called without any password configured for the default \
        user. Are you sure your configuration is correct?\r\n";
    for auth in [OK, needless] {
        let (written, _, end) = play(&options, &[auth, OK, OK, PONG].concat());
        assert_eq!((end, written.len()), (Ok(Progress::Ready), 2));
    }
}

#[test]
fn each_refusal_has_its_name() {
    use HandshakeError as E;
    let with_password = Options { password: Some(b"bad"), ..RESP3 };
    let resp2 = Options { password: Some(b"bad"), ..Options::default() };
    for options in [with_password, resp2] {
        let error = fails(&options, &[WRONGPASS]);
        let text = "WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(error, E::WrongPassword(text.to_owned()));
    }
    assert_eq!(fails(&resp2, &[b"-ERR invalid password\r\n"]).to_string(), {
        "the server does not accept the user or password: ERR invalid password"
    });
    let no_auth = b"-NOAUTH HELLO must be called with the client already authenticated, otherwise \
        the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
        select the RESP protocol version at the same time\r\n";
    assert_eq!(fails(&RESP3, &[no_auth]), E::NoAuth);
    let required = &b"-NOAUTH Authentication required.\r\n"[..];
    assert_eq!(fails(&Options::default(), &[required, required, required]), E::NoAuth);
    // Redis 5.
    let unknown = &b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"[..];
    let unknown_text = "ERR unknown command `HELLO`, with args beginning with: `3`, ";
    assert_eq!(fails(&RESP3, &[unknown]), E::NoProto(unknown_text.to_owned()));
    let no_proto = "NOPROTO unsupported protocol version";
    let frame = format!("-{no_proto}\r\n");
    assert_eq!(fails(&RESP3, &[frame.as_bytes()]), E::NoProto(no_proto.to_owned()));
    let full = &b"-ERR max number of clients reached\r\n"[..];
    assert_eq!(fails(&RESP3, &[full]), E::MaxClients);
    assert_eq!(fails(&Options::default(), &[full]), E::MaxClients);
    let denied = &b"-DENIED Redis is running in protected mode\r\n"[..];
    for options in [RESP3, Options::default()] {
        let text = "DENIED Redis is running in protected mode";
        assert_eq!(fails(&options, &[denied]).to_string(), text);
    }
}

#[test]
fn refusals_of_the_second_step() {
    use HandshakeError as E;
    let loading = &b"-LOADING Redis is loading the dataset in memory\r\n"[..];
    assert_eq!(fails(&RESP3, &[REDIS_7, NO_SETINFO, NO_SETINFO, loading]), E::Loading);
    let select = Options { database: 99, ..RESP3 };
    let busy = "BUSY Redis is busy running a script.";
    let answer = format!("-{busy}\r\n");
    assert_eq!(fails(&select, &[VALKEY_9, answer.as_bytes()]), E::Busy(busy.to_owned()));
    assert_eq!(
        fails(&select, &[VALKEY_9, b"-ERR DB index is out of range\r\n"]).to_string(),
        "the server refuses SELECT: ERR DB index is out of range"
    );
    let tracking = Options { tracking: Some(&[]), ..RESP3 };
    let no_right = "NOPERM User limited has no permissions to run the 'client|tracking' command";
    let frame = format!("-{no_right}\r\n");
    assert_eq!(
        fails(&tracking, &[REDIS_8, frame.as_bytes()]),
        E::TrackingRefused(no_right.to_owned())
    );
    // A user who may neither name itself nor ping may still read and write.
    let no_ping = &b"-NOPERM this user has no permissions to run the 'ping' command\r\n"[..];
    let no_name =
        &b"-NOPERM this user has no permissions to run the 'client|setname' command\r\n"[..];
    let named = Options { name: Some("a b"), ..RESP3 };
    let frames = [REDIS_7, no_name, no_name, no_name, no_ping].concat();
    assert_eq!(play(&named, &frames).2, Ok(Progress::Ready));
}

/// Each answer that fits nothing is named by what was asked.
#[test]
fn an_answer_that_does_not_fit_is_named() {
    let prefixes = [b"v1:".to_vec()];
    let all = Options {
        username: Some(b"app"),
        password: Some(b"secret"),
        database: 3,
        tracking: Some(&prefixes),
        ..Options::default()
    };
    let odd = &b":1\r\n"[..];
    for count in 0..3 {
        let frames = [vec![OK; count], vec![odd]].concat();
        let error = fails(&all, &frames).to_string();
        let asked = ["AUTH", "SELECT", "CLIENT TRACKING"][count];
        assert!(error.starts_with(&format!("{asked}: the server answered \":1")), "{error}");
    }
    let error = fails(&RESP3, &[REDIS_7, NO_SETINFO, NO_SETINFO, odd]).to_string();
    assert!(error.starts_with("PING: the server answered"), "{error}");
}

/// Who asks for its number is told it; a server that does not know the question is none the worse.
#[test]
fn the_number_of_a_connection() {
    let asks = Options { asks_id: true, ..RESP3 };
    let unknown = &b"-ERR unknown subcommand 'ID'. Try CLIENT HELP.\r\n"[..];
    for (answer, id) in [(&b":7\r\n"[..], 7), (unknown, 0)] {
        let frames = [REDIS_7, NO_SETINFO, NO_SETINFO, answer, PONG].concat();
        let (_, handshake, end) = play(&asks, &frames);
        assert_eq!((handshake.id(), end), (id, Ok(Progress::Ready)));
    }
}

/// An error of RESP3 may be as long as a bulk.
#[test]
fn an_error_as_a_bulk_is_one() {
    let text = "WRONGPASS invalid\r\npassword";
    let error = fails(&RESP3, &[format!("!{}\r\n{text}\r\n", text.len()).as_bytes()]);
    assert_eq!(error, HandshakeError::WrongPassword(text.to_owned()));
}

#[test]
fn what_is_not_redis_is_named() {
    let error = fails(&RESP3, &[b"+HTTP/1.1 400 Bad Request\r\n"]).to_string();
    assert_eq!(
        error,
        "HELLO 3: the server answered \"+HTTP/1.1 400 Bad Request\\r\\n\"; is it Redis?"
    );
    let resp2 = REDIS_7.to_vec();
    let resp2 = String::from_utf8(resp2).unwrap().replace(":3\r\n", ":2\r\n");
    assert!(matches!(fails(&RESP3, &[resp2.as_bytes()]), HandshakeError::Other(_)));
    let mut done = Handshake::new(&Options::default());
    for frame in [OK, OK, PONG] {
        done.reply(frame).unwrap();
    }
    assert!(matches!(done.reply(OK), Err(HandshakeError::Other(_))));
}

#[test]
fn no_password_in_debug_text() {
    let options = Options { username: Some(b"app"), password: Some(b"hunter2"), ..RESP3 };
    let shown = format!("{options:?} {:?}", Handshake::new(&options));
    assert!(!shown.contains("hunter2") && !shown.contains("app"), "{shown}");
}
