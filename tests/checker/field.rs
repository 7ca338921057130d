//! The keys of a phase, and what all its threads share.

use crate::draw::{Draw, Zipf};
use crate::history::Wipe;
use nearside::units::clock::Clock;
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a key holds, and how its versions come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INCR.
    Counter,
    /// HINCRBY of two fields.
    Hash,
    /// RPUSH; the length.
    List,
    /// APPEND; the length.
    Text,
    /// SET and DEL by one writer.
    Owned,
    /// MSET of two keys by one writer.
    Pair,
}

const KINDS: [Kind; 8] = [
    Kind::Counter,
    Kind::Owned,
    Kind::Hash,
    Kind::Pair,
    Kind::Counter,
    Kind::List,
    Kind::Owned,
    Kind::Text,
];

/// A level of coherence, with what its hits may be behind, at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) name: &'static str,
    /// What its keys begin with.
    pub(crate) word: &'static str,
    /// Nanoseconds.
    pub(crate) bound: u64,
}

/// As [`crate::world`] configures them.
pub(crate) const LEVELS: [Level; 3] = [
    Level { name: "coherent", word: "co", bound: 1_000_000_000 },
    Level { name: "relaxed", word: "re", bound: 1_000_000_000 },
    Level { name: "ttl", word: "tt", bound: 500_000_000 },
];

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    /// Its place in [`LEVELS`].
    pub(crate) level: usize,
    pub(crate) incarnation: AtomicU32,
    /// The first incarnation that no wipe has ended: those up to the one in force are there still,
    /// for a name is also given up when nobody knows what a write to it did.
    unwiped: AtomicU32,
}

/// Shared by clients and nemeses of one phase.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) phase: u32,
    pub(crate) slots: Vec<Slot>,
    pub(crate) zipf: Zipf,
    pub(crate) clock: Clock,
    /// Held by whoever writes or reads directly; a wipe takes it alone.
    pub(crate) gate: RwLock<()>,
    pub(crate) wipes: Mutex<Vec<Wipe>>,
    /// The key version in force.
    pub(crate) version: AtomicU32,
    turns: Mutex<Turns>,
    has_turned: Condvar,
}

/// What a client that reaches nobody waits for.
#[derive(Debug, Default)]
struct Turns {
    /// Faults that have ended.
    ended: u64,
    is_over: bool,
}

impl Field {
    pub(crate) fn new(phase: u32, keys: usize, version: u32, draw: &mut Draw) -> Self {
        let slot = |index: usize| Slot {
            kind: KINDS[index % KINDS.len()],
            // Six of eight are coherent.
            level: (index / KINDS.len() % 8).saturating_sub(5),
            incarnation: AtomicU32::new(0),
            unwiped: AtomicU32::new(0),
        };
        let mut slots: Vec<Slot> = (0..keys).map(slot).collect();
        draw.shuffle(&mut slots);
        Self {
            phase,
            zipf: Zipf::new(slots.len()),
            slots,
            clock: Clock::system(),
            gate: RwLock::new(()),
            wipes: Mutex::new(Vec::new()),
            version: AtomicU32::new(version),
            turns: Mutex::default(),
            has_turned: Condvar::new(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().0
    }

    pub(crate) fn is_over(&self) -> bool {
        self.turns.lock().is_over
    }

    /// The phase is over.
    pub(crate) fn end(&self) {
        self.turns.lock().is_over = true;
        self.has_turned.notify_all();
    }

    /// A fault has ended: who was away may be there again.
    pub(crate) fn relieve(&self) {
        self.turns.lock().ended += 1;
        self.has_turned.notify_all();
    }

    /// Faults that have ended so far.
    pub(crate) fn relieved(&self) -> u64 {
        self.turns.lock().ended
    }

    /// Waits until more than `so_many` faults have ended, or the phase has.
    pub(crate) fn await_relief(&self, so_many: u64) {
        let is_in_vain = |turns: &mut Turns| turns.ended <= so_many && !turns.is_over;
        self.has_turned.wait_while(&mut self.turns.lock(), is_in_vain);
    }

    /// The register that a slot is now.
    pub(crate) fn register(&self, slot: usize, half: u32) -> u32 {
        let incarnation = self.slots[slot].incarnation.load(Ordering::SeqCst);
        incarnation << 12 | (slot as u32) << 1 | half
    }

    pub(crate) fn slot(&self, register: u32) -> &Slot {
        &self.slots[slot_of(register)]
    }

    /// The name of its key, as clients of a proxy say it.
    pub(crate) fn key(&self, register: u32) -> String {
        let slot = self.slot(register);
        let kind = match slot.kind {
            Kind::Counter => "counter",
            Kind::Hash => "hash",
            Kind::List => "list",
            Kind::Text => "text",
            Kind::Owned => "owned",
            Kind::Pair if half_of(register) == 0 => "paira",
            Kind::Pair => "pairb",
        };
        let (level, number) = (LEVELS[slot.level].word, slot_of(register));
        format!("{level}:{kind}:{number}:{}.{}", self.phase, register >> 12)
    }

    /// Does something that leaves nothing of all keys, while nobody writes, and gives them new
    /// names. `wipe` says for which routes it is known, and bounded; `is_gradual` as in [`Wipe`].
    pub(crate) fn wipe<E>(
        &self,
        is_gradual: bool,
        wipe: impl FnOnce() -> Result<([bool; 3], [bool; 3]), E>,
    ) -> Result<(), E> {
        let _alone = self.gate.write();
        let invoked = self.now();
        let (known, bounded) = wipe()?;
        let returned = self.now();
        for (place, slot) in self.slots.iter().enumerate() {
            let newest = slot.incarnation.fetch_add(1, Ordering::SeqCst);
            let oldest = slot.unwiped.swap(newest + 1, Ordering::SeqCst);
            let registers = (oldest..=newest).flat_map(|incarnation| {
                [0, 1].map(|half| incarnation << 12 | (place as u32) << 1 | half)
            });
            let ended = registers.map(|register| Wipe {
                register,
                invoked,
                returned,
                known,
                bounded,
                is_gradual,
            });
            self.wipes.lock().extend(ended);
        }
        Ok(())
    }
}

pub(crate) fn slot_of(register: u32) -> usize {
    (register >> 1 & 0x7ff) as usize
}

pub(crate) fn half_of(register: u32) -> u32 {
    register & 1
}
