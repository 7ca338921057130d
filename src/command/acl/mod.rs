//! What the server's own ACL knows of each command: its categories, and what it does with its keys.
//!
//! ```text
//!   table    by row: categories, and how keys are used; generated, as the command table is
//!   rights   rules as ACL SETUSER takes them --> which rows, and which keys
//! ```
//!
//! In: a row. Out: [`Row`]. What is told here was told by a real server, and a test asks it again
//! (`tests/command_keys.rs`); of rows that no server at hand knows, it follows from their flags, as
//! in the server.

pub mod rights;
mod table;

pub use self::rights::{Denied, Rights, RuleFault};

use crate::command::{Flags, Spec, own};

/// What `@` stands before in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are the server's")]
pub enum Category {
    Keyspace,
    Read,
    Write,
    Set,
    SortedSet,
    List,
    Hash,
    String,
    Bitmap,
    HyperLogLog,
    Geo,
    Stream,
    PubSub,
    Admin,
    Fast,
    Slow,
    Blocking,
    Dangerous,
    Connection,
    Transaction,
    Scripting,
}

/// Every category, by the server's word for it.
pub const CATEGORIES: [(&str, Category); 21] = [
    ("keyspace", Category::Keyspace),
    ("read", Category::Read),
    ("write", Category::Write),
    ("set", Category::Set),
    ("sortedset", Category::SortedSet),
    ("list", Category::List),
    ("hash", Category::Hash),
    ("string", Category::String),
    ("bitmap", Category::Bitmap),
    ("hyperloglog", Category::HyperLogLog),
    ("geo", Category::Geo),
    ("stream", Category::Stream),
    ("pubsub", Category::PubSub),
    ("admin", Category::Admin),
    ("fast", Category::Fast),
    ("slow", Category::Slow),
    ("blocking", Category::Blocking),
    ("dangerous", Category::Dangerous),
    ("connection", Category::Connection),
    ("transaction", Category::Transaction),
    ("scripting", Category::Scripting),
];

/// What a command does with a key, as far as `%R~` and `%W~` tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It reads what is there.
    pub reads: bool,
    /// It puts something there, or removes it.
    pub writes: bool,
}

impl Access {
    /// Neither: it tells of a key, not of its value (EXISTS, TYPE).
    pub const NONE: Self = Self { reads: false, writes: false };
    /// It reads.
    pub const R: Self = Self { reads: true, writes: false };
    /// It writes.
    pub const W: Self = Self { reads: false, writes: true };
    /// Both.
    pub const RW: Self = Self { reads: true, writes: true };

    /// True if whoever may do this may do `other`.
    pub const fn covers(self, other: Self) -> bool {
        (self.reads || !other.reads) && (self.writes || !other.writes)
    }
}

/// What keys of a command the server's ACL looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None.
    None,
    /// The first, and all others.
    Of(Access, Access),
    /// Its arguments say what is done with its key: SET with and without GET, BITFIELD.
    ByArguments,
}

/// What the server's ACL knows of one command.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    categories: u32,
    /// Its keys.
    pub keys: Keys,
}

impl Row {
    const fn new(categories: &[Category], keys: Keys) -> Self {
        let (mut bits, mut rest) = (0, categories);
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u32;
            rest = others;
        }
        Self { categories: bits, keys }
    }

    /// True if the command is of this category.
    pub const fn is(&self, category: Category) -> bool {
        self.categories & (1 << category as u32) != 0
    }
}

/// What is known of a row. Of what was learned, only its flags are.
pub fn of(spec: &Spec) -> Row {
    let learned = || {
        let access = if spec.flags.has(Flags::READONLY) { Access::R } else { Access::RW };
        Row::new(&[], Keys::Of(access, access))
    };
    let known = table::TABLE.get(usize::from(spec.index)).copied();
    known.unwrap_or_else(|| if own::has(spec) { Row::new(&[], Keys::None) } else { learned() })
}

/// What this request does with its only key.
fn by_arguments<'a>(spec: &Spec, argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Access {
    let is = |at: usize, word: &[u8]| arg(at).eq_ignore_ascii_case(word);
    if spec.name == "set" {
        let returns = (3..argc).any(|at| is(at, b"get"));
        return if returns { Access::RW } else { Access::W };
    }
    // BITFIELD. What cannot be read is taken for a write, as in the server.
    let mut at = 2;
    while at < argc {
        let behind = argc - at - 1;
        at += match () {
            () if is(at, b"get") && behind >= 2 => 3,
            () if is(at, b"overflow") && behind >= 1 => 2,
            () => return Access::RW,
        };
    }
    Access::R
}

/// What a request does with the key that is its `nth`; `None`: the server's ACL asks for none.
fn access<'a>(
    (spec, row): (&Spec, &Row),
    nth: usize,
    argc: usize,
    arg: &dyn Fn(usize) -> &'a [u8],
) -> Option<Access> {
    match row.keys {
        Keys::None => None,
        Keys::Of(first, _) if nth == 0 => Some(first),
        Keys::Of(_, others) => Some(others),
        Keys::ByArguments => Some(by_arguments(spec, argc, arg)),
    }
}
