//! What is not RESP, or too much of it: the words and the end of the connection are Valkey's (the
//! stricter of the two servers), and another client of the same worker notices nothing.

use crate::harness::{Conn, Kind, Proxy, Server, eventually, request, show};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Closed,
    Open,
}

use After::{Closed, Open};

/// Complete inputs: each ends in an answer, in silence, or in the end of the connection.
const INPUTS: &[(&str, &[u8], After)] = &[
    ("empty line", b"\r\n\r\n\n", Open),
    ("no arguments", b"*0\r\n", Open),
    ("minus one argument", b"*-1\r\n", Open),
    ("minus ten arguments", b"*-10\r\n", Open),
    ("an inline command", b"PING\r\n", Open),
    ("inline, LF only", b"PING\n", Open),
    ("inline, spaces", b"   PING    hello   \r\n", Open),
    ("inline, quoted", b"PING \"a\\x41\\n\" \r\n", Open),
    ("inline, unbalanced", b"PING \"a\r\n", Closed),
    ("inline, junk after quotes", b"PING \"a\"b\r\n", Closed),
    ("inline, unknown", b"NOSUCH a b\r\n", Open),
    ("plus in the count", b"*+1\r\n$4\r\nPING\r\n", Closed),
    ("zero before the count", b"*01\r\n$4\r\nPING\r\n", Closed),
    ("letters as the count", b"*x\r\n", Closed),
    ("no count", b"*\r\n", Closed),
    ("space in the count", b"* 1\r\n", Closed),
    ("huge count", b"*2147483648\r\n", Closed),
    ("count beyond 64 bits", b"*99999999999999999999\r\n", Closed),
    ("plus in the length", b"*1\r\n$+4\r\nPING\r\n", Closed),
    ("zero before the length", b"*1\r\n$04\r\nPING\r\n", Closed),
    ("negative length", b"*1\r\n$-1\r\n", Closed),
    ("huge length", b"*1\r\n$536870913\r\n", Closed),
    ("length beyond 64 bits", b"*1\r\n$99999999999999999999\r\n", Closed),
    ("letters as the length", b"*1\r\n$abc\r\n", Closed),
    ("not a bulk", b"*1\r\nPING\r\n", Closed),
    ("an integer", b"*2\r\n$3\r\nGET\r\n:1\r\n", Closed),
    ("nested", b"*1\r\n*1\r\n$4\r\nPING\r\n", Closed),
    ("no CRLF after a bulk", b"*1\r\n$4\r\nPINGxx*1\r\n", Closed),
    ("empty name", b"*1\r\n$0\r\n\r\n", Open),
    ("name with NUL", b"*1\r\n$3\r\na\0b\r\n", Open),
    ("a long name", b"*1\r\n$20\r\nABCDEFGHIJKLMNOPQRST\r\n", Open),
    ("good, then bad", b"PING\r\nPING\r\n*1\r\n!\r\nPING\r\n", Closed),
    ("HTTP POST", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", Closed),
    ("HTTP Host", b"Host: localhost\r\n", Closed),
    ("RESP3 hello as text", b"HELLO 9\r\n", Open),
    ("QUIT, then more", b"QUIT\r\nPING\r\n", Closed),
];

/// What comes back for `input`, up to the end or to the answer of a nonce.
fn answer(conn: &mut Conn, input: &[u8], after: After) -> Vec<u8> {
    conn.send(input);
    if after == Closed {
        return conn.rest();
    }
    conn.send(&request(&["ECHO", "nonce"]));
    let mut all = Vec::new();
    while !all.ends_with(b"$5\r\nnonce\r\n") {
        all.extend(conn.reply());
    }
    all
}

/// nearside with one worker, so that every client shares it with the bystander.
fn start(settings: &[&str]) -> (Server, Proxy, Conn) {
    let server = Server::start(Kind::Valkey);
    let mut settings = settings.to_vec();
    settings.push("server.workers = 1");
    let proxy = Proxy::start(&server.url(), &settings);
    let mut bystander = proxy.dial();
    bystander.words("AUTH secret");
    assert_eq!(bystander.words("SET seen yes"), b"+OK\r\n");
    (server, proxy, bystander)
}

fn assert_unaffected(bystander: &mut Conn, after: &str) {
    for _ in 0..3 {
        assert_eq!(show(&bystander.words("GET seen")), show(b"$3\r\nyes\r\n"), "after {after}");
    }
}

#[test]
fn malformed_requests_end_as_in_valkey() {
    let (valkey, mut proxy, mut bystander) = start(&[]);
    let redis = Server::start(Kind::Redis);
    let mut differences = Vec::new();
    for (name, input, after) in INPUTS {
        // Valkey takes `"a"b` as one word; every Redis refuses it, and so does nearside.
        let judge = if *name == "inline, junk after quotes" { &redis } else { &valkey };
        let expected = answer(&mut judge.dial(), input, *after);
        let got = answer(&mut proxy.dial(), input, *after);
        if expected != got {
            differences.push(format!("{name}\n  {}\n  {}", show(&expected), show(&got)));
        }
        // Also when it comes byte by byte.
        let mut dripping = proxy.dial();
        for byte in &input[..input.len() - 1] {
            if dripping.try_send(&[*byte]).is_err() {
                break;
            }
        }
        assert_unaffected(&mut bystander, name);
    }
    proxy.assert_alive();
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
}

/// An unauthenticated client may not even declare much.
#[test]
fn strangers_are_kept_short() {
    let (_server, proxy, mut bystander) =
        start(&["auth.mode = \"static\"", "auth.password = \"secret\""]);
    // Redis says of an unknown command that it is unknown; Valkey 9.1 asks for AUTH first.
    let locked = Server::with(Kind::Redis, &["--requirepass", "secret"]);
    for (input, after) in [
        (&b"*11\r\n"[..], Closed),
        (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", Closed),
        (b"GET a\r\n", Open),
        (b"NOSUCH\r\n", Open),
    ] {
        let ask = |conn: &mut Conn| {
            conn.send(input);
            if after == Closed { conn.rest() } else { conn.reply() }
        };
        assert_eq!(
            show(&ask(&mut proxy.dial())),
            show(&ask(&mut locked.dial())),
            "{}",
            show(input)
        );
    }
    assert_unaffected(&mut bystander, "strangers");
}

/// A line without end, arguments that never come, an argument by drops.
#[test]
fn what_never_ends_is_bounded() {
    let (server, mut proxy, mut bystander) = start(&[]);
    let line = vec![b'a'; 64 * 1024 + 1];
    let expected = answer(&mut server.dial(), &line, Closed);
    assert_eq!(show(&answer(&mut proxy.dial(), &line, Closed)), show(&expected));

    // Nothing is set aside for what is only declared.
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut conn = proxy.dial();
        conn.send(b"*1048576\r\n$536870912\r\nabc");
        waiting.push(conn);
    }
    assert_unaffected(&mut bystander, "declared lengths");
    assert!(proxy.resident() < 200 << 20, "{} bytes resident", proxy.resident());
    drop(waiting);

    let mut dripping = proxy.dial();
    for byte in request(&["SET", "drip", "drop"]) {
        dripping.send(&[byte]);
    }
    assert_eq!(dripping.reply(), b"+OK\r\n");
    assert_unaffected(&mut bystander, "a drip");

    for cut in 1..request(&["SET", "seen", "no"]).len() {
        proxy.dial().send(&request(&["SET", "seen", "no"])[..cut]);
    }
    assert_unaffected(&mut bystander, "half commands");
    eventually("half commands are gone", || {
        (proxy.metric("nearside_connected_clients") <= 2.0).then_some(())
    });
    proxy.assert_alive();
}

/// Random bytes, and good requests with one byte changed: whatever becomes of them, the worker
/// goes on, and the same seed fails again.
#[test]
fn noise_is_harmless() {
    let (_server, mut proxy, mut bystander) = start(&[]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut bytes: Vec<u8> = if round % 2 == 0 {
            (0..random() % 500).map(|_| random().to_le_bytes()[3]).collect()
        } else {
            ["GET a", "SET b c", "MGET a b", "CLIENT INFO", "HELLO 3"]
                .iter()
                .flat_map(|line| request(&line.split(' ').collect::<Vec<_>>()))
                .collect()
        };
        if !bytes.is_empty() {
            let at = usize::try_from(random()).unwrap() % bytes.len();
            bytes[at] = random().to_le_bytes()[5];
        }
        proxy.dial().try_send(&bytes).ok();
        if round % 10 == 0 {
            assert_unaffected(&mut bystander, &format!("round {round}"));
        }
    }
    assert_unaffected(&mut bystander, "noise");
    proxy.assert_alive();
}

/// A client that asks for much and reads nothing is closed; it costs the others nothing.
#[test]
fn who_does_not_read_is_cut_off() {
    let (_server, mut proxy, mut bystander) = start(&["server.client_output_limit = \"8mb\""]);
    bystander.ask(&[&b"SET"[..], b"big", &vec![b'x'; 1 << 20]]);
    let mut deaf = proxy.dial();
    let asked = request(&["GET", "big"]).repeat(2000);
    deaf.try_send(&asked).ok();
    assert_unaffected(&mut bystander, "a deaf client");
    assert!(proxy.resident() < 300 << 20, "{} bytes resident", proxy.resident());
    drop(deaf);
    assert_unaffected(&mut bystander, "a deaf client's end");
    proxy.assert_alive();
}
