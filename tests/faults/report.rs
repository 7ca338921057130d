//! What a row has shown, and the table of all of them.

use crate::crew::{Book, Fate, Seen};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What one row has shown.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) row: &'static str,
    pub(crate) what: String,
    /// `cache.verify`, where the row was played with more than one.
    pub(crate) verify: &'static str,
    pub(crate) injected: u64,
    pub(crate) wrong: Vec<String>,
    /// What the proxy says of keys when all is over, and the server does not.
    pub(crate) kept: Vec<String>,
    /// True where the documentation says that a client may be told what is wrong.
    pub(crate) is_told_wrong: bool,
    pub(crate) hung: u64,
    /// Errors to who brought the fault about.
    pub(crate) culprit: u64,
    pub(crate) bystanders: u64,
    /// How many of those there may be; `None` in an outage, which is everybody's.
    pub(crate) allowed: Option<u64>,
    /// Writes that were executed more than once.
    pub(crate) twice: u64,
    /// Writes that were executed and answered `not executed`.
    pub(crate) lied: u64,
    /// Writes that were acknowledged and are not there.
    pub(crate) missing: u64,
    pub(crate) requests: u64,
    pub(crate) recovery: Duration,
    /// What else was measured.
    pub(crate) notes: Vec<String>,
    /// Why it cannot be played on this machine.
    pub(crate) skipped: Option<String>,
    /// Rules of the row's own that were broken.
    pub(crate) broken: Vec<String>,
    texts: Vec<(String, u64)>,
}

impl Tally {
    pub(crate) fn new(row: &'static str, what: &str) -> Self {
        Self { row, what: what.to_owned(), ..Self::default() }
    }

    pub(crate) fn recovered(&mut self, took: Duration) {
        self.recovery = self.recovery.max(took);
    }

    pub(crate) fn rule(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(broken());
        }
    }

    /// What the bystanders have seen.
    pub(crate) fn see(&mut self, seen: &Seen) {
        self.wrong.append(&mut seen.wrong.lock());
        self.hung += seen.hung.load(Ordering::SeqCst);
        self.bystanders += seen.errors.load(Ordering::SeqCst);
        self.requests += seen.requests.load(Ordering::SeqCst);
        self.texts.extend(std::mem::take(&mut *seen.texts.lock()));
    }

    /// Holds what a client was told of its writes against what was executed.
    pub(crate) fn compare(&mut self, told: &BTreeMap<String, Fate>, executed: &[String]) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for value in executed {
            *counts.entry(value).or_default() += 1;
        }
        self.twice += counts.values().filter(|count| **count > 1).count() as u64;
        for (value, fate) in told {
            let is_there = counts.contains_key(value.as_str());
            self.lied += u64::from(*fate == Fate::Refused && is_there);
            self.missing += u64::from(*fate == Fate::Done && !is_there);
        }
    }

    /// What is not as it should be.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.broken.clone();
        if self.skipped.is_some() {
            return faults;
        }
        let mut count = |is_fault: bool, what: String| {
            if is_fault {
                faults.push(what);
            }
        };
        let first = self.wrong.first().map_or("", String::as_str);
        count(!self.wrong.is_empty() && !self.is_told_wrong, format!("wrong: {first}"));
        count(!self.kept.is_empty(), format!("kept: {}", self.kept.join(", ")));
        count(self.hung > 0, format!("{} hung", self.hung));
        count(self.twice > 0, format!("{} writes executed twice", self.twice));
        count(self.lied > 0, format!("{} executed and called not executed", self.lied));
        count(self.missing > 0, format!("{} acknowledged and lost", self.missing));
        if let Some(allowed) = self.allowed.filter(|allowed| self.bystanders > *allowed) {
            let texts = &self.texts;
            count(true, format!("{} bystander errors of {allowed}: {texts:?}", self.bystanders));
        }
        count(self.injected == 0, "nothing was injected".to_owned());
        faults
    }

    /// As soon as it is played.
    pub(crate) fn show(&self) {
        println!("{}", self.line());
    }

    fn name(&self) -> String {
        match self.verify {
            "" => self.what.clone(),
            verify => format!("{}, `{verify}`", self.what),
        }
    }

    fn line(&self) -> String {
        let allowed = self.allowed.map_or_else(String::new, |allowed| format!(" of {allowed}"));
        let mut notes = self.notes.clone();
        notes.extend(self.skipped.iter().map(|why| format!("skipped: {why}")));
        if self.is_told_wrong && !self.wrong.is_empty() {
            notes.push("as documented".to_owned());
        }
        let what = self.name();
        format!(
            "| {} | {what} | {} | {} | {} | {} | {}{allowed} | {} | {} | {} | {} |",
            self.row,
            self.injected,
            self.wrong.len(),
            self.hung,
            self.culprit,
            self.bystanders,
            self.twice + self.lied,
            self.missing,
            self.recovery.as_millis(),
            notes.join("; "),
        )
    }
}

/// True if no row has a fault, or nobody judges them.
pub(crate) fn print(tallies: &[Tally], is_judged: bool) -> bool {
    let mut text = String::from(
        "| | fault | injected | wrong | hung | errors: culprit | bystanders | twice or falsely \
         denied | lost | back in ms | |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut is_right = true;
    for tally in tallies {
        writeln!(text, "{}", tally.line()).unwrap();
    }
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (injected, requests) = (sum(|tally| tally.injected), sum(|tally| tally.requests));
    println!("\n{text}\n{injected} injections, {requests} requests of bystanders");
    for tally in tallies.iter().filter(|_| is_judged) {
        for fault in tally.faults() {
            is_right = false;
            println!("FAILED {} ({}): {fault}", tally.row, tally.name());
        }
    }
    is_right
}

/// What is upstream of a client's list.
pub(crate) fn executed(reply: &[u8]) -> Vec<String> {
    let items = nearside::wire::reply::elements(reply).filter_map(nearside::wire::reply::bulk);
    items.map(|item| String::from_utf8_lossy(item).into_owned()).collect()
}

/// The numbers of a client, for messages.
pub(crate) fn who(book: &Book) -> String {
    format!("client {}", book.number)
}
