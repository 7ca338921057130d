//! The checks, register by register (C1 to C8), in O(n log n): the operations are walked in order
//! of time, and what a read must not be older than is a running maximum.
//!
//! ```text
//!   C1 future      what is read was sent to be written before the read returned
//!   C2 lost        what is read was written; no version is acknowledged twice
//!   C3 session     not older than what the same session has written or read before
//!   C4 instance    not older than what anybody behind the same proxy had when it was asked
//!   C5 linear      where nobody writes past the proxy, not older than any write; and what only the
//!                  server answers, not older than what anybody at all had
//!   C6 bounded     not overtaken longer than the level's bound before it was asked
//!   C7 torn        both halves of a pair in one transaction are of the same write
//!   C8 expired     not after the end of its life
//! ```
//!
//! What a read has shown counts against reads of the same variant of the key; writes, and reads
//! that the server answered, against all. Nothing is guessed to a read's disadvantage: a nil is
//! the newest nothing that it can be, and counts as the oldest.

use crate::field::{Field, LEVELS};
use crate::history::{CACHED, History, NIL, Record, Route, UNKNOWN, Variant, What};
use crate::versions::{SLACK, Versions, WIPED};

/// What is wrong, and where.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) register: u32,
    pub(crate) text: String,
}

/// What was found in one phase, by level.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) reads: [u64; LEVELS.len()],
    /// How long ago what was read had been overtaken, in microseconds; fresh reads left out.
    pub(crate) stale: [Vec<u32>; LEVELS.len()],
    /// The latest that something was read after the end of its life, in microseconds.
    pub(crate) late: [u64; LEVELS.len()],
    pub(crate) violations: Vec<Violation>,
}

/// What the nemesis allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The server may drop at any time what has a life.
    pub(crate) evicts: bool,
    /// All writers use the first proxy.
    pub(crate) is_linear: bool,
}

/// Checks a phase; sorts its records.
pub(crate) fn check(field: &Field, history: &mut History, terms: Terms) -> Findings {
    let mut findings = Findings::default();
    // Stable: what one session did stays in its order.
    history.records.sort_by_key(|record| record.register);
    for records in history.records.chunk_by(|a, b| a.register == b.register) {
        let Some(register) = records.first().map(|record| record.register) else { continue };
        let wipe = history.wipes.iter().find(|wipe| wipe.register == register).copied();
        match Versions::of(records, wipe, terms.evicts) {
            Ok(versions) => {
                Walk::new(field, history, records, &versions, terms).run(&mut findings);
            }
            Err(text) => findings.violations.push(Violation { rule: "C2", register, text }),
        }
    }
    if history.torn[1] > 0 {
        let text = format!("{} transactions read half of an MSET", history.torn[1]);
        findings.violations.push(Violation { rule: "C7", register: 0, text });
    }
    for text in history.absurd.drain(..) {
        findings.violations.push(Violation { rule: "C2", register: 0, text });
    }
    findings
}

/// The newest version that somebody knows: from writes and the server, and by variant.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    wide: u32,
    by: [u32; CACHED],
}

impl Known {
    fn of(&self, variant: Variant) -> u32 {
        self.by.get(variant as usize).map_or(self.wide, |by| self.wide.max(*by))
    }

    fn learn(&mut self, variant: Option<Variant>, version: u32) {
        let place = variant.and_then(|variant| self.by.get_mut(variant as usize));
        let place = place.unwrap_or(&mut self.wide);
        *place = version.max(*place);
    }
}

struct Walk<'c> {
    field: &'c Field,
    routes: &'c [Route],
    records: &'c [Record],
    versions: &'c Versions,
    terms: Terms,
    level: usize,
    /// By route.
    instance: [Known; 3],
    session: Vec<Known>,
    /// By anybody.
    all: u32,
    /// The newest that anybody wrote.
    written: u32,
    /// What each read must not be older than: by its proxy, by anybody, by who wrote.
    asked: Vec<[u32; 3]>,
}

/// The order at one moment: what was asked then did not know what was answered then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked(usize),
    Answered(usize),
    Wiped,
}

impl<'c> Walk<'c> {
    fn new(
        field: &'c Field,
        history: &'c History,
        records: &'c [Record],
        versions: &'c Versions,
        terms: Terms,
    ) -> Self {
        let level = records.first().map_or(0, |record| field.slot(record.register).level);
        Self {
            field,
            routes: &history.routes,
            records,
            versions,
            terms,
            level,
            instance: [Known::default(); 3],
            session: vec![Known::default(); history.routes.len()],
            all: 0,
            written: 0,
            asked: vec![[0; 3]; records.len()],
        }
    }

    fn run(mut self, findings: &mut Findings) {
        if self.versions.has_too_many() {
            self.fault(findings, "C2", 0, "the server has counted more writes than were sent");
        }
        let mut events = Vec::with_capacity(self.records.len() * 2 + 1);
        for (index, record) in self.records.iter().enumerate() {
            if matches!(record.what, What::Read(_)) {
                events.push((record.invoked, Event::Asked(index)));
            }
            if record.returned != UNKNOWN {
                events.push((record.returned, Event::Answered(index)));
            }
        }
        if let Some(wipe) = self.versions.wipe {
            events.push((wipe.returned, Event::Wiped));
        }
        events.sort_unstable();
        for (_, event) in events {
            match event {
                Event::Asked(index) => self.ask(index),
                Event::Answered(index) => self.answer(index, findings),
                Event::Wiped => self.wiped(),
            }
        }
    }

    fn route(&self, record: &Record) -> Route {
        self.routes.get(usize::from(record.session)).copied().unwrap_or(Route::Direct)
    }

    fn wiped(&mut self) {
        let Some(wipe) = self.versions.wipe else { return };
        self.all = WIPED;
        for (known, is_known) in self.instance.iter_mut().zip(wipe.known) {
            if is_known {
                known.learn(None, WIPED);
            }
        }
    }

    fn ask(&mut self, index: usize) {
        let record = &self.records[index];
        let What::Read(variant) = record.what else { return };
        let known = self.instance[self.route(record) as usize].of(variant);
        self.asked[index] = [known, self.all, self.written];
    }

    fn answer(&mut self, index: usize, findings: &mut Findings) {
        let record = &self.records[index];
        let route = self.route(record);
        let session = usize::from(record.session);
        let What::Read(variant) = record.what else {
            let version = record.version.saturating_mul(2);
            self.session[session].learn(None, version);
            self.instance[route as usize].learn(None, version);
            self.all = self.all.max(version);
            self.written = self.written.max(version);
            return;
        };
        findings.reads[self.level] += 1;
        // A write that may come after the wipe: nothing can be said any more.
        let is_void = self
            .versions
            .wipe
            .is_some_and(|wipe| record.returned >= wipe.invoked && self.versions.has_unknown());
        if is_void {
            return;
        }
        let is_server = route == Route::Direct || variant == Variant::Server;
        let [instance, anybody, written] = self.asked[index];
        let own = self.session[session].of(variant);
        let Some(number) = self.versions.read(record.version, record.returned) else {
            let is_future = self.versions.written(record.version).is_some();
            let (rule, text) = if is_future {
                ("C1", "it was not yet sent to be written")
            } else {
                ("C2", "nobody wrote it")
            };
            return self.fault(findings, rule, index, text);
        };
        let linear = match self.terms.is_linear {
            _ if is_server => anybody,
            true => written,
            false => 0,
        };
        for (rule, known) in [("C3", own), ("C4", instance), ("C5", linear)] {
            if self.versions.at_least(record.version, known, record.returned).is_none() {
                let text = format!("version {} was known (doubled: {known})", known / 2);
                self.fault(findings, rule, index, &text);
            }
        }
        self.time(index, number, findings);
        let known = own.max(instance).max(linear);
        if let Some(shown) = self.versions.at_least(record.version, known, record.returned) {
            let variant = (!is_server).then_some(variant);
            self.session[session].learn(variant, shown);
            // A wipe may come to one proxy before it comes to another; and what is missing from
            // then on may be wiped, though an end of its life would explain it, too.
            let may_be_wiped = shown == WIPED || record.version == NIL;
            let wipe = self.versions.wipe;
            let wipe = wipe.filter(|wipe| may_be_wiped && record.returned >= wipe.invoked);
            let under_way = wipe.filter(|wipe| record.returned <= wipe.returned);
            if under_way.is_none_or(|wipe| !wipe.is_gradual) {
                self.instance[route as usize].learn(variant, shown);
            }
            if under_way.is_none() {
                self.all = self.all.max(shown);
            }
        }
    }

    /// C6 and C8.
    fn time(&self, index: usize, number: u32, findings: &mut Findings) {
        let record = &self.records[index];
        let route = self.route(record) as usize;
        let bound = LEVELS[self.level].bound;
        let wiped = self.versions.wipe.is_none_or(|wipe| wipe.bounded[route]);
        let overtaken = self.versions.overtaken(number, wiped);
        let staleness = record.invoked.saturating_sub(overtaken);
        if staleness > 0 {
            findings.stale[self.level].push(u32::try_from(staleness / 1000).unwrap_or(u32::MAX));
        }
        if staleness > bound {
            let text = format!("overtaken {:.3} ms before it was asked", millis(staleness));
            self.fault(findings, "C6", index, &text);
        }
        let ends = self.versions.find(number).map_or(UNKNOWN, |version| version.ends);
        let late = record.invoked.saturating_sub(ends);
        findings.late[self.level] = findings.late[self.level].max(late / 1000);
        if late > SLACK {
            let text = format!("its life had ended {:.3} ms before it was asked", millis(late));
            self.fault(findings, "C8", index, &text);
        }
    }

    fn fault(&self, findings: &mut Findings, rule: &'static str, index: usize, text: &str) {
        let record = &self.records[index];
        let (key, route) = (self.field.key(record.register), self.route(record));
        let text = format!(
            "{key}: {:?} by session {} ({route:?}) at {:.3} ms read version {}: {text}",
            record.what,
            record.session,
            millis(record.invoked),
            shown(record.version),
        );
        findings.violations.push(Violation { rule, register: record.register, text });
    }
}

pub(crate) fn millis(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// A version as it is told.
pub(crate) fn shown(version: u32) -> String {
    if version == NIL { "nil".to_owned() } else { version.to_string() }
}
