//! What a Lua script does with keys, by its text: does it use any that nobody has declared?
//!
//! ```text
//!   text --lex--> tokens --parse--> syntax --flow--> fine, or the line and the reason why not
//!                                             |
//!                                             calls: one redis.call against the command table
//! ```
//!
//! Under a prefix only what stands in KEYS can be rewritten. A script that makes names of its own
//! would find some of its keys and miss the others, so one is passed only if every command in it
//! is written out, takes its keys from KEYS, and lets no key's name go anywhere else. What cannot
//! be understood counts as refused. Pure: bytes in, an answer out.

mod calls;
mod flow;
mod lex;
mod names;
mod parse;
mod syntax;
mod value;

use crate::command::Spec;
use std::fmt;

/// Longer scripts are not read: real ones are below a tenth of it.
pub const TEXT_MAX: usize = 256 * 1024;

/// Why a script is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// The reason.
    pub why: Why,
}

/// Why a script is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Longer than [`TEXT_MAX`].
    TooLong,
    /// Nested too deeply, or passing values around too often.
    TooDeep,
    /// It does not follow the grammar of Lua 5.1.
    NotLua,
    /// It uses a global that is not known to be harmless.
    Global(Box<[u8]>),
    /// It uses a field of `redis` that is not known to be harmless.
    Api(Box<[u8]>),
    /// It gives `KEYS`, `redis` or the like another meaning.
    Assigned(Box<[u8]>),
    /// It joins a key's name to something.
    Builds,
    /// It uses a key's name as a value, an argument that is no key, or a result.
    KeyAsData,
    /// It hands `redis.call` to somebody who may call anything.
    Passed,
    /// It calls a command whose name it computes.
    Unnamed,
    /// It calls a command that nobody knows.
    Unknown(Box<[u8]>),
    /// It calls a command that reaches beyond KEYS, or whose reply names keys.
    Command(&'static str),
    /// A key of this command is none of KEYS.
    NoKey(&'static str),
    /// Which arguments of this command are keys is decided as it runs.
    Keys(&'static str),
    /// It publishes to a channel that a key names.
    Channel(&'static str),
    /// A value may be a key or not.
    Unclear,
    /// It has a key outlive the call that it was given to.
    Kept,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spoken = |name: &'static str| name.replace('|', " ");
        match self {
            Self::TooLong => write!(f, "the script is longer than {TEXT_MAX} bytes"),
            Self::TooDeep => write!(f, "the script is too intricate to be followed"),
            Self::NotLua => write!(f, "this cannot be read as Lua 5.1"),
            Self::Global(name) => write!(f, "it uses '{}'", name.escape_ascii()),
            Self::Api(name) => write!(f, "it uses 'redis.{}'", name.escape_ascii()),
            Self::Assigned(name) => write!(f, "it changes '{}'", name.escape_ascii()),
            Self::Builds => write!(f, "it builds a name from a key"),
            Self::KeyAsData => write!(f, "it uses the name of a key as a value"),
            Self::Passed => write!(f, "it passes 'redis.call' on"),
            Self::Unnamed => write!(f, "it calls a command whose name is not written out"),
            Self::Unknown(name) => {
                write!(f, "it calls '{}', which is no known command", name.escape_ascii())
            }
            Self::Command(name) => {
                write!(f, "'{}' reaches beyond the keys that are passed to it", spoken(name))
            }
            Self::NoKey(name) => write!(f, "a key of '{}' is none of KEYS", spoken(name)),
            Self::Keys(name) => write!(f, "which keys '{}' gets cannot be seen", spoken(name)),
            Self::Channel(name) => {
                write!(f, "'{}' publishes to a channel that a key names", spoken(name))
            }
            Self::Kept => write!(f, "it keeps a key for a later call"),
            Self::Unclear => write!(f, "a value may be a key, or something else"),
        }
    }
}

/// Says if every function of a library uses the keys that it is given, and no other. Its text is
/// what FUNCTION LOAD takes.
pub fn check_library(text: &[u8]) -> Result<(), Fault> {
    // Without it, it would be anybody's language.
    if !text.starts_with(b"#!") {
        return Err(Fault { line: 1, why: Why::NotLua });
    }
    flow::check(&read(text)?, true).map(|_| ())
}

/// Says if a script uses the elements of `KEYS`, and no other key; if so, the commands that it
/// calls.
pub fn check(text: &[u8]) -> Result<Vec<&'static Spec>, Fault> {
    flow::check(&read(text)?, false)
}

fn read(text: &[u8]) -> Result<syntax::Chunk, Fault> {
    if text.len() > TEXT_MAX {
        return Err(Fault { line: 1, why: Why::TooLong });
    }
    // `#!lua flags=no-writes`: for the server. Its line break stays, so that lines keep their
    // numbers.
    let code = match text.strip_prefix(b"#!") {
        Some(header) => {
            let end = memchr::memchr(b'\n', header).unwrap_or(header.len());
            let (header, code) = header.split_at_checked(end).unwrap_or_default();
            // Servers may have other engines, which run other languages. Of functions' engines
            // they do not tell capitals apart.
            let engine = header.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            if !engine.eq_ignore_ascii_case(b"lua") {
                return Err(Fault { line: 1, why: Why::NotLua });
            }
            code
        }
        None => text,
    };
    parse::parse(code)
}

#[cfg(test)]
mod tests;
