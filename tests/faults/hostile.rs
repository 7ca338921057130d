//! The hostile inputs, to a real server and to the proxy before one of the same kind: all that comes
//! back, and whether the connection is closed, must be the same.

use crate::harness::{Conn, Kind, Server, show};
use crate::inputs::{Input, Like, inputs};
use crate::order::Order;
use crate::report::Tally;
use crate::target::Target;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

/// What stands behind an input: if its answer comes, the connection was not closed. (A read of a
/// key, which every proxy knows.)
const SENTINEL: &[u8] = b"*2\r\n$3\r\nGET\r\n$8\r\nsentinel\r\n";
const ANSWER: &[u8] = b"$8\r\nsentinel\r\n";
/// Before it where a password is wanted, which then nobody need have said.
const AUTH: &[u8] = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n";

/// Longer than anything takes; what comes later was forgotten.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of each kind one that wants a password, and one that does not.
struct Judges {
    valkey: [Server; 2],
    redis: [Server; 2],
    proxy: [Target; 2],
}

/// Compares all inputs, each in one packet and byte by byte.
pub(crate) fn play(order: &Order, tallies: &mut Vec<Tally>) {
    if !order.wants("F52") {
        return;
    }
    let servers = |kind| [Server::start(kind), Server::with(kind, &["--requirepass", "secret"])];
    let (valkey, redis) = (servers(Kind::Valkey), servers(Kind::Redis));
    let open = Target::start(order.which, valkey[0].port, &[]);
    let locked = ["auth.mode = \"static\"", "auth.password = \"secret\""];
    // (Only nearside has a password of its own here: others are asked without.)
    let locked = Target::start(order.which, valkey[0].port, &locked);
    let judges = Judges { valkey, redis, proxy: [open, locked] };
    for (at, ports) in judges.ports().into_iter().enumerate() {
        for port in ports {
            let mut conn = Conn::tcp(port);
            // (An error where none is wanted.)
            if at == 1 {
                conn.words("AUTH secret");
            }
            assert_eq!(conn.words("SET sentinel sentinel"), b"+OK\r\n");
        }
    }
    let mut tally = Tally::new("F52", "inputs that are no good requests, to F61");
    for input in inputs() {
        if input.is_locked && !order.is_nearside() {
            continue;
        }
        tally.injected += 1;
        if let Some(difference) = judges.compare(&input) {
            tally.notes.push(input.name.clone());
            tally.broken.push(format!("{}:\n    {difference}", input.name));
        }
    }
    let (differ, all) = (tally.broken.len() as u64, tally.injected);
    tally.notes = vec![format!("{} of {all} as the server", all - differ)];
    tally.show();
    tallies.push(tally);
}

impl Judges {
    /// Where one asks: without a password, and with.
    fn ports(&self) -> [[u16; 3]; 2] {
        [0, 1].map(|at| [self.valkey[at].port, self.redis[at].port, self.proxy[at].port])
    }

    /// What differs, if anything does.
    fn compare(&self, input: &Input) -> Option<String> {
        let at = usize::from(input.is_locked);
        let server = match input.like {
            Like::Redis(_) => &self.redis[at],
            _ => &self.valkey[at],
        };
        let expected = said(server.port, input, false);
        for drips in [false, true] {
            // Byte by byte takes as many packets as there are bytes.
            if drips && input.bytes.len() > 300 {
                continue;
            }
            let told = said(self.proxy[at].port, input, drips);
            let is_same = match input.like {
                Like::Same | Like::Redis(_) => told == expected,
                Like::Numbers => without_numbers(&told) == without_numbers(&expected),
                Like::Own(answer, _) => told == answer,
                Like::Refused(_) => {
                    told.starts_with(b"-")
                        && told.ends_with(ANSWER)
                        && String::from_utf8_lossy(&told).lines().count() == 3
                }
            };
            if !is_same {
                let way = if drips { "byte by byte: " } else { "" };
                return Some(format!("{way}{}\n    {}", show(&told), show(&expected)));
            }
        }
        None
    }
}

/// All that comes back; `(closed)` behind it, if the connection is.
fn said(port: u16, input: &Input, drips: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let end: &[&[u8]] = match input {
        Input { is_cut: true, .. } => &[],
        Input { is_locked: true, .. } => &[AUTH, SENTINEL],
        _ => &[SENTINEL],
    };
    let whole = [&input.bytes, &*end.concat()].concat();
    let size = if drips { 1 } else { whole.len().max(1) };
    for piece in whole.chunks(size) {
        // It may have been closed in the middle.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if input.is_cut {
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut all = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while !all.ends_with(ANSWER) {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                all.extend_from_slice(b"(nothing more, and not closed)");
                break;
            }
            _ => {
                all.extend_from_slice(b"(closed)");
                break;
            }
        }
    }
    all
}

/// Numbers of connections put aside, and modules, of which nearside has none.
fn without_numbers(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said).into_owned();
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    for at in 0..lines.len() {
        let is_id = lines.len() < 5 || at > 0 && lines[at - 1] == "id";
        if is_id && lines[at].starts_with(':') {
            lines[at] = ":N";
        }
    }
    let modules = lines.iter().position(|line| *line == "modules").unwrap_or(lines.len());
    lines.truncate(modules);
    lines.join(" ")
}

/// Sends all of them, each on a connection of its own, and waits for no answer; how many.
pub(crate) fn send_all(port: u16) -> u64 {
    let all = inputs();
    let send = |input: &Input| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(&input.bytes).ok();
        stream
    };
    // They stay until all have come, or what was sent might not be read.
    let _held: Vec<TcpStream> = all.iter().map(send).collect();
    all.len() as u64
}
