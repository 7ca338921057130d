//! One client of the proxy: whole requests out, whole replies in.

use super::{Link, PATIENCE, more, request};
use bytes::BytesMut;
use nearside::wire::{reply, write};
use std::io::Write;
use std::net::TcpStream;

/// One client of the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends one request.
    pub(crate) fn send(&mut self, words: &str) {
        self.stream.write_all(&request(words)).unwrap();
    }

    /// Sends several requests in one packet.
    pub(crate) fn send_all(&mut self, requests: &[&str]) {
        let packet: Vec<u8> = requests.iter().flat_map(|words| request(words)).collect();
        self.stream.write_all(&packet).unwrap();
    }

    /// Sends a request whose arguments are any bytes.
    pub(crate) fn send_bytes(&mut self, words: &[&[u8]]) {
        let mut out = BytesMut::new();
        write::array(&mut out, words.len());
        for word in words {
            write::bulk(&mut out, word);
        }
        self.stream.write_all(&out).unwrap();
    }

    /// The next reply.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut scan = reply::Scan::default();
        loop {
            if let Some(length) = scan.next(&self.buffer).unwrap() {
                return self.buffer.drain(..length).collect();
            }
            let read = more(&mut self.stream, &mut self.buffer, "a reply");
            assert!(read > 0, "the proxy closed a client where a reply was awaited");
        }
    }

    /// Waits for the next reply and says what it must be.
    #[track_caller]
    pub(crate) fn reads(&mut self, reply: &str) {
        let next = self.next();
        assert_eq!(next.escape_ascii().to_string(), reply.escape_default().to_string());
    }

    /// Sends a request and says what its reply must be.
    #[track_caller]
    pub(crate) fn asks(&mut self, words: &str, reply: &str) {
        self.send(words);
        self.reads(reply);
    }

    /// A read that must go upstream, with the question for the key's TTL, and its answer.
    #[track_caller]
    pub(crate) fn fetches(&mut self, link: &mut Link, command: &str, reply: &str) {
        let (name, rest) = command.split_once(' ').unwrap();
        let key = rest.split(' ').next().unwrap();
        self.send(command);
        link.expect(&format!("{name} v1:{rest}"));
        link.expect(&format!("PTTL v1:{key}"));
        link.reply_kept(reply);
        self.reads(reply);
    }

    /// What PROXY LAST tells of the last request: its outcome, and the reason for it.
    pub(crate) fn last(&mut self) -> (String, Option<String>) {
        self.send("PROXY LAST");
        let told = String::from_utf8(self.next()).unwrap();
        let words: Vec<&str> = told.split("\r\n").collect();
        let behind = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            words.get(place + 2).map(|word| (*word).to_owned())
        };
        (behind("outcome").unwrap(), behind("reason"))
    }

    /// Waits until the proxy has closed this connection, with nothing sent before.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        let read = more(&mut self.stream, &mut self.buffer, "the end of a client");
        assert_eq!((read, self.buffer.len()), (0, 0), "sent instead of closing");
    }
}
