//! A RESP client that takes every fault as a value: no reply is waited for without end.

use nearside::wire::reply::Scan;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any fault: who waits longer was forgotten.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    at: usize,
    scan: Scan,
}

impl Client {
    pub(crate) fn dial(port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new(), at: 0, scan: Scan::default() })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply, pushes left out.
    pub(crate) fn reply(&mut self) -> Result<Vec<u8>> {
        loop {
            let rest = self.unread.get(self.at..).unwrap_or_default();
            let length = self.scan.next(rest).map_err(Error::other)?;
            if let Some(length) = length {
                let reply = self.unread[self.at..self.at + length].to_vec();
                self.at += length;
                if reply.starts_with(b">") {
                    continue;
                }
                return Ok(reply);
            }
            self.unread.drain(..self.at);
            self.at = 0;
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }

    /// One command, written as words.
    pub(crate) fn words(&mut self, line: &str) -> Result<Vec<u8>> {
        let words: Vec<&str> = line.split(' ').collect();
        self.ask(&words)
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        write(&mut bytes, words);
        self.send(&bytes)?;
        self.reply()
    }
}

/// Appends one command.
pub(crate) fn write(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// One command to whoever listens on `port`.
pub(crate) fn once(port: u16, line: &str) -> Result<Vec<u8>> {
    Client::dial(port)?.words(line)
}

/// Status and body of an answer over HTTP.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut client = Client::dial(port)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    client.send((head + body).as_bytes())?;
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// The sum of a metric's series whose lines begin with `series`; 0 if nobody answers.
pub(crate) fn count(admin: u16, series: &str) -> u64 {
    let (_, text) = http(admin, "GET", "/metrics", "").unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with(series));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
