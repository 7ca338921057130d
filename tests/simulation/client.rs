//! A client: what it has asked, and whether what it hears can be the answer.

use crate::oracle::{Judged, Oracle, Time};
use crate::rng::Rng;
use crate::wire::Far;
use crate::words::{CELLS, Names, Op, cell, cells};
use bytes::{Buf, BytesMut};
use nearside::wire::reply;
use std::collections::VecDeque;

/// A request whose answer has not come.
#[derive(Debug)]
struct Asked {
    op: Op,
    /// Where its last byte stands in all that this client sends.
    end: usize,
    at: Time,
    /// What everybody had seen of each cell when it was asked.
    floors: [usize; CELLS],
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) far: Far,
    pub(crate) is_resp3: bool,
    /// It reads nothing for a while.
    pub(crate) is_slow: bool,
    /// nearside has closed it.
    pub(crate) is_closed: bool,
    /// Not sent yet.
    unsent: BytesMut,
    written: usize,
    sent: usize,
    input: Vec<u8>,
    asked: VecDeque<Asked>,
    /// How many of them were sent as a whole.
    out: usize,
    /// What it has seen of each cell itself.
    seen: [usize; CELLS],
    /// By the answers so far it is between MULTI and EXEC.
    in_multi: bool,
    /// And something was refused since.
    is_poisoned: bool,
}

/// What judging needs beside the client.
pub(crate) struct Bench<'b> {
    pub(crate) oracle: &'b mut Oracle,
    /// How stale a cached read of each cell may be.
    pub(crate) staleness: &'b [Time; CELLS],
    /// Replies may be wrong. A value says whose it is; nil does not, and proves nothing then.
    pub(crate) may_be_wrong: bool,
    /// The values of an MGET are of one moment.
    pub(crate) is_whole: bool,
    /// What was heard, for people.
    pub(crate) told: Option<&'b mut Vec<String>>,
}

impl Client {
    pub(crate) fn new(far: Far, is_resp3: bool, names: &Names) -> Self {
        let mut client = Self {
            far,
            is_resp3,
            is_slow: false,
            is_closed: false,
            unsent: BytesMut::new(),
            written: 0,
            sent: 0,
            input: Vec::new(),
            asked: VecDeque::new(),
            out: 0,
            seen: [0; CELLS],
            in_multi: false,
            is_poisoned: false,
        };
        if is_resp3 {
            client.say(Op::Hello, names);
        }
        client
    }

    /// Writes a request down.
    pub(crate) fn say(&mut self, op: Op, names: &Names) {
        let before = self.unsent.len();
        op.write(names, &mut self.unsent);
        self.written += self.unsent.len() - before;
        self.asked.push_back(Asked { op, end: self.written, at: 0, floors: [0; CELLS] });
    }

    /// Sends what was written down, or the first part of it.
    pub(crate) fn send(&mut self, rng: &mut Rng, is_whole: bool, now: Time, oracle: &Oracle) {
        if self.unsent.is_empty() {
            return;
        }
        let length = self.unsent.len();
        let count = if is_whole { length } else { rng.between(1, length) };
        self.far.send(&self.unsent[..count]);
        self.unsent.advance(count);
        self.sent += count;
        let floors = std::array::from_fn(|cell| oracle.floor(cell));
        while let Some(asked) = self.asked.get_mut(self.out).filter(|asked| asked.end <= self.sent)
        {
            (asked.at, asked.floors) = (now, floors);
            self.out += 1;
        }
    }

    /// True if nothing of it is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asked.is_empty() && self.input.is_empty()
    }

    /// True if there are bytes left to send.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// How many answers it waits for.
    pub(crate) fn awaited(&self) -> usize {
        self.asked.len()
    }

    /// What it waits for, for people.
    pub(crate) fn waits_for(&self) -> String {
        format!("{:?}", self.asked.front().map(|asked| &asked.op))
    }

    /// Reads and judges what has come; answers how many replies that was.
    pub(crate) fn hear(&mut self, bench: &mut Bench<'_>) -> Result<usize, String> {
        self.far.receive(&mut self.input);
        let mut input = std::mem::take(&mut self.input);
        let (mut at, mut count) = (0, 0);
        let mut scan = reply::Scan::default();
        loop {
            let found = scan.next(&input[at..]).map_err(|error| format!("no RESP: {error}"))?;
            let Some(length) = found else { break };
            let frame = &input[at..at + length];
            at += length;
            if self.is_resp3 && frame.first() == Some(&b'>') {
                continue;
            }
            count += 1;
            let Some(asked) = self.asked.pop_front().filter(|_| self.out > 0) else {
                return Err(format!("a reply to nothing: {}", shown(frame)));
            };
            self.out -= 1;
            if let Some(told) = &mut bench.told {
                told.push(format!("{:?} -> {}", asked.op, shown(frame)));
            }
            self.judge(&asked, &asked.op, frame, bench).map_err(|why| {
                let Asked { op, at, .. } = &asked;
                format!("{op:?}, asked at {} ms, heard {}: {why}", at / 1_000_000, shown(frame))
            })?;
        }
        input.drain(..at);
        self.input = input;
        self.is_closed |= self.far.is_over();
        Ok(count)
    }

    fn judge(
        &mut self,
        asked: &Asked,
        op: &Op,
        frame: &[u8],
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        if frame.first() == Some(&b'-') {
            return self.judge_error(op, frame, bench);
        }
        let misfit = || Err("not what it asked for".to_owned());
        match op {
            Op::Hello if matches!(frame[0], b'%' | b'*') => {}
            Op::Ping if frame == b"+PONG\r\n" => {}
            Op::Get(key) | Op::GetEx(key) => {
                self.read(asked, op, (cell(*key, 0), frame), bench)?;
            }
            Op::HGet(key, field) => self.read(asked, op, (cell(*key, *field), frame), bench)?,
            Op::MGet(keys) => {
                let values: Vec<&[u8]> = reply::elements(frame).collect();
                if frame[0] != b'*' || values.len() != keys.len() {
                    return misfit();
                }
                for (key, value) in keys.iter().zip(&values) {
                    self.read(asked, op, (cell(*key, 0), value), bench)?;
                }
                let held = |value: &&[u8]| reply::bulk(value).map(<[u8]>::to_vec);
                let cells = keys.iter().map(|key| cell(*key, 0));
                let all: Vec<_> = cells.zip(values.iter().map(held)).collect();
                if bench.is_whole && !bench.oracle.share_a_moment(&all) {
                    return Err("its values are of several moments".to_owned());
                }
            }
            Op::Set(key, value) | Op::Eval(key, value, _) if frame == b"+OK\r\n" => {
                self.wrote(asked, cell(*key, 0), Some(&value.0), bench)?;
            }
            Op::GetSet(key, value) => {
                self.read(asked, op, (cell(*key, 0), frame), bench)?;
                self.wrote(asked, cell(*key, 0), Some(&value.0), bench)?;
            }
            Op::HSet(key, field, value) if is_flag(frame) => {
                self.wrote(asked, cell(*key, *field), Some(&value.0), bench)?;
            }
            Op::Del(key) if is_flag(frame) => {
                for cell in cells(*key) {
                    self.wrote(asked, cell, None, bench)?;
                }
            }
            Op::Incr(key) if frame[0] == b':' => {
                let digits = frame[1..].strip_suffix(b"\r\n");
                self.wrote(asked, cell(*key, 0), digits, bench)?;
            }
            Op::PExpire(..) if is_flag(frame) => {}
            Op::Watch(_) if frame == b"+OK\r\n" => {}
            Op::Multi if frame == b"+OK\r\n" => (self.in_multi, self.is_poisoned) = (true, false),
            Op::Queued(op) if !self.in_multi => return self.judge(asked, op, frame, bench),
            Op::Queued(_) if frame == b"+QUEUED\r\n" => {}
            Op::Discard(ops) if frame == b"+OK\r\n" && self.in_multi => {
                self.in_multi = false;
                deny(ops, bench);
            }
            Op::Exec(ops) if self.in_multi => return self.judge_exec(asked, ops, frame, bench),
            _ => return misfit(),
        }
        Ok(())
    }

    fn judge_exec(
        &mut self,
        asked: &Asked,
        ops: &[Op],
        frame: &[u8],
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        self.in_multi = false;
        if reply::is_null(frame) {
            deny(ops, bench);
            return Ok(());
        }
        let results: Vec<&[u8]> = reply::elements(frame).collect();
        if self.is_poisoned || frame[0] != b'*' || results.len() != ops.len() {
            return Err("not what EXEC says to that".to_owned());
        }
        for (op, result) in ops.iter().zip(results) {
            self.judge(asked, op, result, bench)?;
        }
        Ok(())
    }

    fn judge_error(&mut self, op: &Op, frame: &[u8], bench: &mut Bench<'_>) -> Result<(), String> {
        let text = std::str::from_utf8(frame).unwrap().trim_end();
        let ends = matches!(op, Op::Exec(_) | Op::Discard(_));
        // The server's own refusals name the key that they were the answer for.
        let of_key = text.split_once(" sim ").map(|(_, key)| key);
        let is_known = if let Some(key) = of_key {
            key.parse().is_ok_and(|key| op.keys().contains(&key))
        } else {
            let is_exec = matches!(op, Op::Exec(_));
            text.starts_with("-ERR proxy: ")
                || (ends && !self.in_multi && text.ends_with("without MULTI"))
                || (is_exec && self.is_poisoned && text.starts_with("-EXECABORT"))
        };
        if !is_known {
            return Err("an error that nobody said".to_owned());
        }
        if !text.contains("outcome unknown") {
            deny(std::slice::from_ref(op), bench);
        }
        if ends {
            self.in_multi = false;
        }
        self.is_poisoned = true;
        Ok(())
    }

    fn read(
        &mut self,
        asked: &Asked,
        op: &Op,
        (cell, frame): (usize, &[u8]),
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        let value = if reply::is_null(frame) {
            None
        } else {
            Some(reply::bulk(frame).ok_or_else(|| "not a string".to_owned())?)
        };
        let is_cached = op.is_cached() && !matches!(asked.op, Op::Exec(_));
        let staleness = if is_cached { bench.staleness[cell] } else { 0 };
        self.learn(asked, (cell, value), staleness, bench)
    }

    /// The server says that it has written this.
    fn wrote(
        &mut self,
        asked: &Asked,
        cell: usize,
        value: Option<&[u8]>,
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        self.learn(asked, (cell, value), 0, bench)
    }

    fn learn(
        &mut self,
        asked: &Asked,
        (cell, value): (usize, Option<&[u8]>),
        staleness: Time,
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        let floor = asked.floors[cell].max(self.seen[cell]);
        let version =
            bench.oracle.judge(cell, value, Judged { asked_at: asked.at, floor, staleness })?;
        if value.is_some() || !bench.may_be_wrong {
            bench.oracle.raise(cell, version);
            self.seen[cell] = version;
        }
        Ok(())
    }
}

/// What these write was not executed, as their client was told.
fn deny(ops: &[Op], bench: &mut Bench<'_>) {
    for writing in ops.iter().flat_map(Op::writings) {
        bench.oracle.denied(writing);
    }
}

/// `:0` or `:1`.
fn is_flag(frame: &[u8]) -> bool {
    matches!(frame, b":0\r\n" | b":1\r\n")
}

/// For people. A canary's number, which a client of an upstream that lies may be given, is not the
/// seed's.
fn shown(frame: &[u8]) -> String {
    let number = frame.strip_prefix(b"$16\r\n").and_then(|rest| rest.strip_suffix(b"\r\n"));
    if number.is_some_and(|number| number.iter().all(u8::is_ascii_hexdigit)) {
        return "a canary".to_owned();
    }
    frame[..frame.len().min(80)].escape_ascii().to_string()
}
