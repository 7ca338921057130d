//! One connection that the proxy has opened, and what the script answers on it.

use super::{PATIENCE, more};
use nearside::wire::request;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// A primary's answer to ROLE.
pub(crate) const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";

/// One connection that the proxy has opened.
pub(crate) struct Link {
    stream: UnixStream,
    buffer: Vec<u8>,
    pub(super) is_tracking: bool,
    /// The command that was read to find out what the link is for.
    peeked: VecDeque<Vec<u8>>,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new(), is_tracking: false, peeked: VecDeque::new() }
    }

    /// Finds out what the link is for: RESP3 links greet, and get an answer to that at once.
    pub(super) fn greet(&mut self) {
        let first = self.next();
        if first.starts_with(b"HELLO 3") {
            self.reply(
                "%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n\
                 $5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
                 $4\r\nrole\r\n$6\r\nmaster\r\n",
            );
            let second = self.next();
            self.is_tracking = second.starts_with(b"CLIENT TRACKING ON BCAST");
            self.peeked.push_back(second);
        } else {
            self.peeked.push_back(first);
        }
    }

    /// Answers the rest of the handshake.
    pub(crate) fn shake_hands(&mut self) {
        self.shake_hands_as(7);
    }

    /// The same, as a server that knows this connection by a number.
    pub(crate) fn shake_hands_as(&mut self, id: u32) {
        self.shake_hands_and(id, "");
    }

    /// The same, and says something more in the same packet.
    pub(crate) fn shake_hands_and(&mut self, id: u32, more: &str) {
        loop {
            match self.next().as_slice() {
                b"PING" => break self.reply(&format!("+PONG\r\n{more}")),
                b"CLIENT ID" => self.reply(&format!(":{id}\r\n")),
                _ => self.reply("+OK\r\n"),
            }
        }
    }

    /// Answers a fresh tracking link's questions until two rounds are complete.
    pub(crate) fn sync(&mut self) {
        let mut waited = vec!["PING", "ROLE", "CLIENT", "PING", "ROLE"];
        while !waited.is_empty() {
            let asked = self.next();
            let name = asked.split(|&byte| byte == b' ').next().unwrap();
            let place = waited.iter().position(|wanted| wanted.as_bytes() == name);
            waited.remove(place.unwrap_or_else(|| panic!("asked for {}", asked.escape_ascii())));
            self.reply(match name {
                b"PING" => "+PONG\r\n",
                b"ROLE" => MASTER,
                _ => "%1\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$5\r\nbcast\r\n",
            });
        }
    }

    /// Waits for a barrier round.
    pub(crate) fn round(&mut self) {
        self.expect("PING");
        self.expect("ROLE");
    }

    /// Answers a round as a healthy primary.
    pub(crate) fn confirm(&mut self) {
        self.reply("+PONG\r\n");
        self.reply(MASTER);
    }

    /// The next request, its arguments joined by spaces.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let next = self.next_or_end();
        next.unwrap_or_else(|| panic!("the proxy closed a link where a request was awaited"))
    }

    /// True if something was asked that nobody has looked at.
    pub(crate) fn is_asked(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 4096];
        if let Ok(read) = self.stream.read(&mut chunk) {
            self.buffer.extend_from_slice(&chunk[..read]);
        }
        self.stream.set_nonblocking(false).unwrap();
        !self.buffer.is_empty() || !self.peeked.is_empty()
    }

    /// The next request; nothing once the proxy has closed this link.
    pub(crate) fn next_or_end(&mut self) -> Option<Vec<u8>> {
        if let Some(peeked) = self.peeked.pop_front() {
            return Some(peeked);
        }
        let limits =
            request::Limits { args_max: 1 << 20, bulk_max: 1 << 29, unauthenticated: false };
        let (mut scan, mut args) = (request::Scan::default(), Vec::new());
        loop {
            match scan.next(&self.buffer, &mut args, &limits).unwrap() {
                request::Found::Request(length) => {
                    let words: Vec<&[u8]> = args.iter().map(|arg| arg.of(&self.buffer)).collect();
                    let words = words.join(&b" "[..]);
                    self.buffer.drain(..length);
                    return Some(words);
                }
                request::Found::NeedMore => {}
                request::Found::Inline(_) => panic!("the proxy sent an inline command"),
            }
            if more(&mut self.stream, &mut self.buffer, "a request upstream") == 0 {
                return None;
            }
        }
    }

    /// Waits for a request and says what it must be.
    #[track_caller]
    pub(crate) fn expect(&mut self, words: &str) {
        let next = self.next();
        assert_eq!(next.escape_ascii().to_string(), words, "a request upstream");
    }

    /// Waits for a request and answers it.
    #[track_caller]
    pub(crate) fn answer(&mut self, words: &str, reply: &str) {
        self.expect(words);
        self.reply(reply);
    }

    /// Waits for both requests of a read that is to be stored.
    #[track_caller]
    pub(crate) fn expect_read(&mut self, key: &str) {
        self.expect(&format!("GET v1:{key}"));
        self.expect(&format!("PTTL v1:{key}"));
    }

    /// Answers both: this value, which has no end.
    pub(crate) fn reply_kept(&mut self, value: &str) {
        self.reply(value);
        self.reply(":-1\r\n");
    }

    /// Sends bytes.
    pub(crate) fn reply(&mut self, bytes: &str) {
        self.write(bytes.as_bytes());
    }

    /// A second writer of this link, for another thread.
    pub(crate) fn split(&self) -> UnixStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends bytes. What the proxy has closed takes none, and is found out by who reads next.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result.unwrap(),
        }
    }

    /// Reads on; true once the proxy has closed this link.
    pub(crate) fn is_over(&mut self) -> bool {
        self.buffer.clear();
        more(&mut self.stream, &mut self.buffer, "the end of a link") == 0
    }

    /// Waits until the proxy has closed this link.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let read = more(&mut self.stream, &mut self.buffer, "the end of a link");
        assert_eq!((read, self.buffer.len()), (0, 0), "sent instead of closing");
    }
}
