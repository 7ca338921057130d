//! Commands that the table does not have, as upstream's COMMAND describes them.
//!
//! In: the reply of COMMAND, of RESP2 or RESP3. Out: rows like the table's, and which of the
//! table's rows this server lacks. Off the path of a request: asked only for names that the table
//! does not have, and for commands that are refused.
//!
//! Invariants: a row of the table wins; a row is forwarded only if all its keys can be found, or
//! if nothing is done to keys; no reply of such a row is ever kept.

use crate::command::{Class, Flags, KeySpec, Need, Refusal, Route, Spec, all, by_name};
use crate::wire::reply::{self, elements, text, value};

/// Rows made in the life of a process at most: each stays in memory, because tickets refer to rows
/// for as long as they like. The same description gives the same row, so a server that comes back
/// costs nothing; only one that changes its commands thousands of times would reach this.
pub const ROWS_MAX: usize = 4096;

/// The longest name of a learned command.
const NAME_MAX: usize = 64;

/// What becomes of commands that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// They are unknown.
    Reject,
    /// Forwarded with their keys rewritten, if COMMAND tells where they are.
    Learn,
    /// Forwarded as they are, on a connection of their client's own: nobody knows what they do to
    /// it.
    Pass,
}

/// What upstream's COMMAND has told.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    rows: Vec<&'static Spec>,
    /// By row of the table: the server does not have it. Empty: nothing is known.
    lacking: Box<[bool]>,
}

impl Learned {
    /// The row of a request that the table does not know.
    #[cold]
    pub fn find<'a>(&self, argc: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<&'static Spec> {
        let is = |row: &Spec| match row.name.split_once('|') {
            None => argc > 0 && row.name.as_bytes().eq_ignore_ascii_case(arg(0)),
            Some((container, word)) => {
                argc > 1
                    && container.as_bytes().eq_ignore_ascii_case(arg(0))
                    && word.as_bytes().eq_ignore_ascii_case(arg(1))
            }
        };
        self.rows.iter().copied().find(|row| is(row))
    }

    /// True if the server is known not to have this row of the table.
    #[cold]
    pub fn lacks(&self, spec: &Spec) -> bool {
        self.lacking.get(usize::from(spec.index)).copied().unwrap_or(false)
    }

    /// True if the server is known to have this row of the table.
    #[cold]
    pub fn has(&self, spec: &Spec) -> bool {
        self.lacking.get(usize::from(spec.index)) == Some(&false)
    }

    /// The rows that were learned, refused ones among them.
    pub fn rows(&self) -> &[&'static Spec] {
        &self.rows
    }
}

/// Makes rows of descriptions.
#[derive(Debug)]
pub struct Learner {
    strangers: Strangers,
    /// Where keys stand, whatever COMMAND says: names in lower case.
    listed: Vec<(String, KeySpec)>,
    /// All rows ever made.
    made: Vec<&'static Spec>,
}

impl Learner {
    /// `listed` = `[commands.specs]`.
    pub const fn new(strangers: Strangers, listed: Vec<(String, KeySpec)>) -> Self {
        Self { strangers, listed, made: Vec::new() }
    }

    /// What becomes of commands that the table does not have.
    pub const fn strangers(&self) -> Strangers {
        self.strangers
    }

    /// Reads the reply of COMMAND; `None` if it is not that.
    pub fn read(&mut self, command: &[u8]) -> Option<Learned> {
        let mut found = Vec::new();
        for row in elements(command) {
            describe(row, &mut found)?;
        }
        if found.is_empty() {
            return None;
        }
        // Servers before 7.0 say nothing of subcommands.
        let tells_subs = found.iter().any(|row| row.name.contains('|'));
        let is_told = |row: &Spec| tells_subs || !row.name.contains('|');
        let mut lacking: Box<[bool]> = all().iter().map(is_told).collect();
        let mut rows = Vec::new();
        for stranger in &found {
            let known = by_name(&stranger.name);
            match known.and_then(|spec| lacking.get_mut(usize::from(spec.index))) {
                Some(lacks) => *lacks = false,
                None => rows.extend(self.row(stranger)),
            }
        }
        Some(Learned { rows, lacking })
    }

    /// The row of a description, made once.
    fn row(&mut self, stranger: &Stranger) -> Option<&'static Spec> {
        if self.strangers == Strangers::Reject
            || stranger.is_container
            || stranger.name.len() > NAME_MAX
        {
            return None;
        }
        let (keys, route) = self.judge(stranger);
        let is_same = |row: &&&'static Spec| {
            row.name == stranger.name
                && (row.arity, row.flags, row.keys, row.route)
                    == (stranger.arity, stranger.flags(), keys, route)
        };
        if let Some(made) = self.made.iter().find(is_same) {
            return Some(made);
        }
        if self.made.len() >= ROWS_MAX {
            return None;
        }
        let name: &'static str = Box::leak(stranger.name.clone().into_boxed_str());
        let (flags, class) = (stranger.flags().bits(), stranger.class());
        let spec = Spec::new(u16::MAX, name, "", stranger.arity, flags, class);
        let spec: &'static Spec = Box::leak(Box::new(spec.keys(keys).route(route)));
        self.made.push(spec);
        Some(spec)
    }

    /// Where its keys are, and what is done with it.
    fn judge(&self, stranger: &Stranger) -> (KeySpec, Route) {
        let refuse = |why| (KeySpec::None, Route::Refuse(why));
        let flags = stranger.flags;
        // What it sends unasked could be taken for another's answer.
        if flags.has(Flags::PUBSUB) {
            return refuse(Refusal::Stranger);
        }
        if self.strangers == Strangers::Pass {
            return (KeySpec::None, Route::Own(Need::Unknown));
        }
        if flags.has(Flags::ADMIN) {
            return refuse(Refusal::Stranger);
        }
        let may_block = flags.has(Flags::BLOCKING);
        let forward = if may_block { Route::Own(Need::Block) } else { Route::Forward };
        let listed = self.listed.iter().find(|(name, _)| *name == stranger.name);
        if let Some((_, keys)) = listed {
            return (*keys, forward);
        }
        if flags.has(Flags::MODULE) {
            return refuse(Refusal::Module);
        }
        let is_of_data = flags.has(Flags::WRITE) || flags.has(Flags::READONLY);
        match stranger.keys {
            None => refuse(Refusal::KeysUntold),
            // It reads or writes what it does not name: every version's.
            Some(KeySpec::None) if is_of_data && forward == Route::Forward => {
                (KeySpec::None, Route::ForwardUnlessPrefixed)
            }
            // What touches no data may be about the connection, which clients share.
            Some(KeySpec::None) => refuse(Refusal::Stranger),
            Some(keys) => (keys, forward),
        }
    }
}

/// One row of COMMAND.
#[derive(Debug)]
struct Stranger {
    name: String,
    arity: i8,
    flags: Flags,
    /// `None` = not told in a way that could be trusted.
    keys: Option<KeySpec>,
    /// It only has subcommands.
    is_container: bool,
}

impl Stranger {
    /// What does not say that it only reads may write.
    fn flags(&self) -> Flags {
        if self.flags.has(Flags::READONLY) { self.flags } else { self.flags.with(Flags::WRITE) }
    }

    fn class(&self) -> Class {
        match self.flags {
            flags if flags.has(Flags::BLOCKING) => Class::Blocking,
            flags if flags.has(Flags::READONLY) => Class::Read,
            _ => Class::Write,
        }
    }
}

/// Reads a row of COMMAND and the rows of its subcommands. `None` = it is none.
fn describe(row: &[u8], found: &mut Vec<Stranger>) -> Option<()> {
    let fields: Vec<&[u8]> = elements(row).collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let name = std::str::from_utf8(text(field(0))?).ok()?.to_ascii_lowercase();
    let arity = reply::integer(field(1))?;
    let subcommands: Vec<&[u8]> = elements(field(9)).collect();
    let flags = flags(field(2));
    // Servers before 7.0 say no more than first, last, step.
    let keys = if fields.len() > 8 {
        key_spec(field(8))
    } else if flags.has(Flags::MOVABLEKEYS) {
        None
    } else {
        plain_range(field(3), field(4), field(5))
    };
    found.push(Stranger {
        name,
        // One that does not fit is the server's to judge.
        arity: i8::try_from(arity).unwrap_or(-1),
        flags,
        keys,
        is_container: !subcommands.is_empty(),
    });
    subcommands.into_iter().try_for_each(|row| describe(row, found))
}

/// Those that decide.
fn flags(list: &[u8]) -> Flags {
    let known: [(&[u8], Flags); 8] = [
        (b"write", Flags::WRITE),
        (b"readonly", Flags::READONLY),
        (b"admin", Flags::ADMIN),
        (b"pubsub", Flags::PUBSUB),
        (b"blocking", Flags::BLOCKING),
        (b"movablekeys", Flags::MOVABLEKEYS),
        (b"no_multi", Flags::NO_MULTI),
        (b"module", Flags::MODULE),
    ];
    elements(list).filter_map(text).fold(Flags::default(), |flags, word| {
        let flag = known.iter().find(|(name, _)| *name == word);
        flag.map_or(flags, |(_, flag)| flags.with(*flag))
    })
}

fn number(map: &[u8], name: &[u8]) -> Option<i64> {
    reply::integer(value(map, name)?)
}

/// The keys that a row's key specs describe together; `None` if they say that they do not know
/// all, or stand in a way that this table cannot say.
fn key_spec(specs: &[u8]) -> Option<KeySpec> {
    let mut keys = Vec::new();
    for spec in elements(specs) {
        let flags: Vec<&[u8]> = elements(value(spec, b"flags")?).filter_map(text).collect();
        let has = |name: &[u8]| flags.iter().any(|flag| flag.eq_ignore_ascii_case(name));
        if has(b"incomplete") {
            return None;
        }
        if !has(b"not_key") {
            keys.push(one_spec(spec)?);
        }
    }
    KeySpec::join(keys)
}

fn one_spec(spec: &[u8]) -> Option<KeySpec> {
    let begin = value(spec, b"begin_search")?;
    if text(value(begin, b"type")?)? != b"index" {
        return None;
    }
    let index = number(value(begin, b"spec")?, b"index").filter(|index| *index > 0)?;
    let find = value(spec, b"find_keys")?;
    let how = value(find, b"spec")?;
    let step = u8::try_from(number(how, b"keystep")?).ok().filter(|step| *step > 0)?;
    match text(value(find, b"type")?)? {
        b"range" if number(how, b"limit")? < 2 => {
            let last = number(how, b"lastkey")?;
            // Counted from the first key or, if negative, from the end.
            range(index, if last < 0 { last } else { index + last }, step)
        }
        b"keynum" => {
            let count = index + number(how, b"keynumidx")?;
            let is_next = index + number(how, b"firstkey")? == count + 1;
            let count = u8::try_from(count).ok().filter(|count| is_next && *count > 0)?;
            Some(KeySpec::Counted { count, step })
        }
        _ => None,
    }
}

/// First, last and step of servers before 7.0.
fn plain_range(first: &[u8], last: &[u8], step: &[u8]) -> Option<KeySpec> {
    let step = u8::try_from(reply::integer(step)?).ok()?;
    match reply::integer(first)? {
        0 => Some(KeySpec::None),
        first => range(first, reply::integer(last)?, step.max(1)),
    }
}

fn range(first: i64, last: i64, step: u8) -> Option<KeySpec> {
    let (from, to) = (u8::try_from(first).ok()?, i8::try_from(last).ok()?);
    match last {
        _ if first == last => Some(KeySpec::One(from)),
        _ if last > 0 && last < first => None,
        _ => Some(KeySpec::Range { first: from, last: to, step }),
    }
}

#[cfg(test)]
mod tests;
