//! A client: a thread that sends batches of operations, and writes down what it was told.
//!
//! Each has two connections, each of them a session of its own. Who owns keys writes to them by
//! both in turn, and waits for the replies in between, so that the order of their versions is
//! known.

use crate::client::{Client, PATIENCE};
use crate::draw::Draw;
use crate::field::{Field, Kind, half_of, slot_of};
use crate::history::{History, Record, Route, UNKNOWN, Variant, What};
use crate::requests::{How, Op};
use std::io::ErrorKind;
use std::sync::atomic::Ordering;

/// Most operations of one batch.
const BATCH: usize = 20;

/// Of a hundred operations.
const WRITES: u64 = 10;

/// One connection of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) number: u16,
    pub(crate) route: Route,
    pub(crate) port: u16,
}

/// What a client is given.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sessions: [Session; 2],
    pub(crate) is_resp3: bool,
    pub(crate) draw: Draw,
    /// Slots that only this client writes.
    pub(crate) owned: Vec<usize>,
    /// One request at a time, nothing in a transaction, and writes past the proxies only: so that
    /// what is cached stays there until somebody says that it is old.
    pub(crate) is_calm: bool,
}

#[derive(Debug)]
struct Player<'f> {
    field: &'f Field,
    plan: Plan,
    connections: [Option<Client>; 2],
    /// Of each slot of its own: incarnation and last version.
    last: Vec<(u32, u32)>,
    history: History,
}

/// Plays until the phase is over.
pub(crate) fn play(field: &Field, plan: Plan) -> History {
    let last = vec![(0, 0); field.slots.len()];
    let connections = [None, None];
    let mut player = Player { field, plan, connections, last, history: History::default() };
    while !field.is_over() {
        player.turn();
    }
    player.history
}

impl Player<'_> {
    fn turn(&mut self) {
        let which = usize::from(self.plan.draw.percent(15));
        let session = self.plan.sessions[which];
        let relieved = self.field.relieved();
        let Some(mut connection) = self.connections[which].take().or_else(|| self.dial(session))
        else {
            // Whoever listens there is away.
            return self.field.await_relief(relieved);
        };
        let field = self.field;
        // Who only reads through a proxy goes on while everything is wiped away.
        let gate = match session.route {
            Route::Direct => Some(field.gate.read()),
            _ => field.gate.try_read(),
        };
        let is_kept = self.plan.is_calm && session.route != Route::Direct;
        let ops = self.compose(gate.is_some() && !is_kept);
        if self.exchange(&mut connection, session, &ops) {
            self.connections[which] = Some(connection);
        }
        drop(gate);
    }

    fn dial(&self, session: Session) -> Option<Client> {
        let mut client = Client::dial(session.port).ok()?;
        if self.plan.is_resp3 {
            client.words("HELLO 3").ok().filter(|reply| !reply.starts_with(b"-"))?;
        }
        Some(client)
    }

    fn compose(&mut self, may_write: bool) -> Vec<Op> {
        let is_one = self.plan.is_calm || self.plan.draw.percent(40);
        let count = if is_one { 1 } else { 1 + self.plan.draw.below(BATCH) };
        let one = |_| {
            let is_write = may_write && self.plan.draw.percent(WRITES);
            if is_write { self.write() } else { self.read() }
        };
        (0..count).map(one).collect()
    }

    fn pick(&mut self) -> u32 {
        let slot = self.field.zipf.pick(&mut self.plan.draw);
        let half = self.plan.draw.next() as u32 & 1;
        let both = matches!(self.field.slots[slot].kind, Kind::Hash | Kind::Pair);
        let register = self.field.register(slot, if both { half } else { 0 });
        // At times the name before: what was wiped away must stay away.
        let is_older = register >> 12 > 0 && self.plan.draw.percent(8);
        if is_older { register - (1 << 12) } else { register }
    }

    fn read(&mut self) -> Op {
        let register = self.pick();
        let kind = self.field.slot(register).kind;
        match self.plan.draw.below(20) {
            0 if !self.plan.is_calm => {
                let mut registers = vec![register, self.pick(), self.pick()];
                if kind == Kind::Pair {
                    registers[1] = register ^ 1;
                }
                Op::Server(registers)
            }
            1..=6 if kind == Kind::Pair => Op::Many(vec![register, register ^ 1]),
            1..=3 => {
                let mut registers: Vec<u32> = (0..4).map(|_| self.pick()).collect();
                let field = self.field;
                registers.retain(|register| {
                    !matches!(field.slot(*register).kind, Kind::Hash | Kind::List)
                });
                if registers.is_empty() {
                    Op::Read(register, Variant::Main)
                } else {
                    Op::Many(registers)
                }
            }
            4..=6 if kind != Kind::List => Op::Read(register, Variant::Other),
            _ => Op::Read(register, Variant::Main),
        }
    }

    fn write(&mut self) -> Op {
        let draw = &mut self.plan.draw;
        let how = match draw.below(100) {
            0..=2 => How::Script,
            3..=5 => How::Transaction,
            _ => How::Plain,
        };
        if !self.plan.owned.is_empty() && draw.percent(40) {
            let slot = self.plan.owned[draw.below(self.plan.owned.len())];
            return self.write_own(slot, how);
        }
        loop {
            let slot = self.field.zipf.pick(&mut self.plan.draw);
            let kind = self.field.slots[slot].kind;
            if !matches!(kind, Kind::Owned | Kind::Pair) {
                let half = self.plan.draw.next() as u32 & u32::from(kind == Kind::Hash);
                return Op::Step(self.field.register(slot, half), how);
            }
        }
    }

    fn write_own(&mut self, slot: usize, how: How) -> Op {
        let register = self.field.register(slot, 0);
        let (incarnation, version) = &mut self.last[slot];
        if *incarnation != register >> 12 {
            (*incarnation, *version) = (register >> 12, 0);
        }
        *version += 1;
        let version = *version;
        let draw = &mut self.plan.draw;
        let what = match draw.below(100) {
            _ if self.field.slots[slot].kind == Kind::Pair => What::Set(0),
            0..=9 => What::Delete,
            10..=29 => What::Set(draw.between(20, 400) as u16),
            _ => What::Set(0),
        };
        // Scripts are for what the server counts.
        let how = if how == How::Script { How::Plain } else { how };
        let padding = if draw.percent(5) { 900 } else { 0 };
        Op::Own { register, what, version, how, padding }
    }

    /// Sends a batch and hears the replies; false if the connection is of no more use.
    fn exchange(&mut self, client: &mut Client, session: Session, ops: &[Op]) -> bool {
        let prefix = match session.route {
            Route::Direct => format!("v{}:", self.field.version.load(Ordering::SeqCst)),
            _ => String::new(),
        };
        let mut bytes = Vec::new();
        for op in ops {
            op.encode(self.field, &prefix, &mut bytes);
        }
        let invoked = self.field.now();
        let mut fault = client.send(&bytes).err();
        for op in ops {
            let mut reply = Vec::new();
            for _ in 0..op.replies() {
                match client.reply() {
                    _ if fault.is_some() => break,
                    Ok(bytes) => reply = bytes,
                    Err(error) => fault = Some(error),
                }
            }
            let times = (invoked, self.field.now());
            match &fault {
                None => self.hear(op, &reply, session, times),
                Some(error) => {
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                        self.history.absurd.push(format!("no answer in {PATIENCE:?} to {op:?}"));
                    }
                    self.fail(op, session, times, &error.to_string(), true);
                }
            }
        }
        fault.is_none()
    }

    fn hear(&mut self, op: &Op, reply: &[u8], session: Session, times: (u64, u64)) {
        let seen = match op.decode(self.field, reply) {
            Some(Ok(seen)) => seen,
            Some(Err(error)) => {
                // What the server refused before it did anything.
                let harmless = ["-OOM", "-BUSY", "-LOADING", "-EXECABORT", "-MISCONF"];
                let is_unknown = !harmless.iter().any(|word| error.starts_with(word));
                return self.fail(op, session, times, &error, is_unknown);
            }
            None => {
                let text = reply.escape_ascii().to_string();
                return self.history.absurd.push(format!("{op:?} was answered {text}"));
            }
        };
        self.note_torn(op, &seen);
        for (register, version) in seen {
            let is_map = self.plan.is_resp3 && self.field.slot(register).kind == Kind::Hash;
            let what = match op {
                Op::Read(_, Variant::Other) if is_map => What::Read(Variant::Map),
                Op::Read(_, variant) => What::Read(*variant),
                Op::Many(_) => What::Read(Variant::Many),
                Op::Server(_) => What::Read(Variant::Server),
                Op::Step(..) => What::Step,
                Op::Own { what, .. } => *what,
            };
            self.record(register, session, what, version, times);
        }
    }

    fn record(
        &mut self,
        register: u32,
        session: Session,
        what: What,
        version: u32,
        (invoked, returned): (u64, u64),
    ) {
        let session = session.number;
        self.history.records.push(Record { register, session, what, version, invoked, returned });
    }

    /// An error or no reply. What a write then did is not known.
    fn fail(
        &mut self,
        op: &Op,
        session: Session,
        times: (u64, u64),
        error: &str,
        is_unknown: bool,
    ) {
        self.history.errors.push((times.0, times.1, error.to_owned()));
        if !op.is_write() || !is_unknown {
            return;
        }
        for register in op.written(self.field) {
            let (what, version) = match op {
                Op::Own { what, version, .. } => (*what, *version),
                _ => (What::Step, 0),
            };
            self.record(register, session, what, version, (times.0, UNKNOWN));
        }
        // It may still happen, after any later write: this name is not written to again.
        if let Op::Own { register, .. } = op {
            let slot = &self.field.slots[slot_of(*register)].incarnation;
            let (old, new) = (register >> 12, (register >> 12) + 1);
            slot.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).ok();
        }
    }

    /// Both halves of a pair, read at once.
    fn note_torn(&mut self, op: &Op, seen: &[(u32, u32)]) {
        let which = match op {
            Op::Many(_) => 0,
            Op::Server(_) => 1,
            _ => return,
        };
        for pair in seen.windows(2) {
            let [(a, first), (b, second)] = pair else { continue };
            let is_pair = self.field.slot(*a).kind == Kind::Pair && *a ^ 1 == *b;
            let is_there = *first != crate::history::NIL && *second != crate::history::NIL;
            if is_pair && half_of(*a) != half_of(*b) && is_there && first != second {
                self.history.torn[which] += 1;
            }
        }
    }
}
