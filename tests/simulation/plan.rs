//! What one seed means: how a run is set up, what its clients ask, what goes wrong in it.

use crate::conn::Words;
use crate::faults::{COUNTED_LIES, Fault, HONEST, LIES};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::server::upstream_name;
use crate::words::{Call, FIELD, FIELDS, Names, Op, Sort, Value, cell, key, value};
use nearside::config::Verify;

/// Requests of a run, at least.
const REQUESTS: usize = 300;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) verify: Verify,
    pub(crate) workers: usize,
    /// `on_down = "close"`.
    pub(crate) closes: bool,
    /// Some keys are of level `linear`.
    pub(crate) is_linear: bool,
    /// All that is cached of a key is of one moment, and so is an MGET (`whole_key`, `multi_key`).
    pub(crate) is_whole: bool,
    /// Others write, too, past nearside.
    pub(crate) has_others: bool,
    /// Clients call scripts.
    pub(crate) has_scripts: bool,
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    /// Requests in one packet at most.
    pub(crate) pipeline: usize,
    pub(crate) faults: Vec<Fault>,
    /// Of 1,000 steps, so many are faults.
    pub(crate) fault_rate: usize,
}

impl Plan {
    pub(crate) fn of(verify: Verify, rng: &mut Rng) -> Self {
        let lies = match verify {
            Verify::Off => &[],
            Verify::Fills => LIES,
            Verify::Strict => COUNTED_LIES,
        };
        let kinds = [HONEST, lies].concat();
        let count = rng.between(1, 4);
        let mut faults: Vec<Fault> = (0..count).map(|_| *rng.pick(&kinds)).collect();
        if verify != Verify::Off && rng.chance(50) {
            faults.extend([*rng.pick(lies), *rng.pick(lies)]);
        }
        // What a script does to keys that it does not name is heard of only where changes are told.
        let is_told = !faults.contains(&Fault::Mute);
        Self {
            verify,
            workers: rng.between(1, 2),
            closes: rng.chance(50),
            is_linear: rng.chance(40),
            is_whole: rng.chance(30),
            has_others: rng.chance(60),
            has_scripts: is_told && rng.chance(50),
            clients: rng.between(4, 7),
            requests: rng.between(REQUESTS, REQUESTS + 60),
            pipeline: *rng.pick(&[1, 2, 4, 4, 10, 30]),
            faults,
            fault_rate: rng.between(8, 50),
        }
    }

    /// True if changes are not always told: then a value is as old as `cache.ttl` lets it be.
    pub(crate) fn is_untold(&self) -> bool {
        self.faults.contains(&Fault::Mute)
    }

    /// True if replies may be wrong, as far as it is promised.
    pub(crate) fn may_be_wrong(&self) -> bool {
        let lies = self.faults.iter().any(|fault| matches!(fault, Fault::Lie(_)));
        lies && self.verify == Verify::Fills
    }
}

/// What a client says next: one request or a whole transaction.
pub(crate) fn requests(plan: &Plan, rng: &mut Rng, oracle: &mut Oracle) -> Vec<Op> {
    if plan.has_scripts && rng.chance(3) {
        let key = text(rng);
        let call = *rng.pick(&[Call::Text, Call::Name, Call::Declared]);
        return vec![Op::Eval(key, fresh(cell(key, 0), rng, oracle), call)];
    }
    if !rng.chance(6) {
        return vec![request(rng, oracle)];
    }
    let mut all = Vec::new();
    if rng.chance(30) {
        all.push(Op::Watch(text(rng)));
        if rng.chance(50) {
            all.push(Op::Get(text(rng)));
        }
    }
    all.push(Op::Multi);
    let ops: Vec<Op> = (0..rng.between(1, 4)).map(|_| request(rng, oracle)).collect();
    all.extend(ops.iter().map(|op| Op::Queued(Box::new(op.clone()))));
    all.push(if rng.chance(85) { Op::Exec(ops) } else { Op::Discard(ops) });
    all
}

fn request(rng: &mut Rng, oracle: &mut Oracle) -> Op {
    match rng.below(100) {
        0..48 => Op::Get(text(rng)),
        48..54 => Op::Get(key(Sort::Counter, rng.below(2))),
        54..64 => Op::HGet(hash(rng), rng.below(FIELDS)),
        64..70 => {
            let count = rng.between(1, 4);
            Op::MGet((0..count).map(|_| text(rng)).collect())
        }
        70..72 => Op::GetEx(text(rng)),
        72..82 => {
            let key = text(rng);
            Op::Set(key, fresh(cell(key, 0), rng, oracle))
        }
        82..84 => {
            let key = text(rng);
            Op::GetSet(key, fresh(cell(key, 0), rng, oracle))
        }
        84..88 => {
            let (key, field) = (hash(rng), rng.below(FIELDS));
            Op::HSet(key, field, fresh(cell(key, field), rng, oracle))
        }
        88..91 => Op::Del(if rng.chance(20) { hash(rng) } else { text(rng) }),
        91..94 => Op::Incr(key(Sort::Counter, rng.below(2))),
        94..98 => {
            let key = if rng.chance(20) { hash(rng) } else { text(rng) };
            Op::PExpire(key, rng.between(1, 400))
        }
        _ => Op::Ping,
    }
}

/// What somebody else asks the server straight.
pub(crate) fn write_past(names: &Names, rng: &mut Rng, oracle: &mut Oracle) -> Words {
    let (text, hash, field) = (text(rng), hash(rng), rng.below(FIELDS));
    let name = |key| upstream_name(names, key).into_bytes();
    match rng.below(10) {
        0..6 => {
            let value = fresh(cell(hash, field), rng, oracle).0;
            vec![b"HSET".to_vec(), name(hash), FIELD[field].to_vec(), value]
        }
        6..9 => vec![b"SET".to_vec(), name(text), fresh(cell(text, 0), rng, oracle).0],
        _ => vec![b"DEL".to_vec(), name(if rng.chance(50) { hash } else { text })],
    }
}

/// The first keys are asked for most.
fn text(rng: &mut Rng) -> usize {
    key(Sort::Text, rng.below(6).min(rng.below(6)))
}

fn hash(rng: &mut Rng) -> usize {
    key(Sort::Hash, rng.below(2))
}

/// A value that nobody has written before; a few are too large to be copied.
fn fresh(cell: usize, rng: &mut Rng, oracle: &mut Oracle) -> Value {
    let filling = match rng.below(400) {
        0 => rng.between(100_000, 300_000),
        1..10 => rng.between(16_000, 17_500),
        10..100 => rng.below(200),
        _ => rng.below(8),
    };
    value(cell, oracle.announce(), filling)
}
