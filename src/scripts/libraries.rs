//! What the server's libraries of functions do with keys.
//!
//! Anybody may replace a library at the server, so what is known of one says nothing of the next
//! call: before each, the server is asked which text its function has now. Only what follows from a
//! text is remembered, by its SHA-256, and where a function was found last, so that one library is
//! asked for and not all. FUNCTION LOAD, DELETE, FLUSH and RESTORE, through nearside or past it, so
//! change nothing here: the next answer shows what they did.
//!
//! Between that answer and the call, one round trip, somebody may still replace the library. No
//! command closes that gap: the server's ACL must hold there, see README.md.

use crate::command::lua;
use crate::wire::reply;
use aws_lc_rs::digest::{SHA256, digest};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// Texts, and functions, that are remembered at most; then all are forgotten.
const COUNT_MAX: usize = 10_000;

/// What the server's FUNCTION LIST says of some functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// They are in no library that was listed.
    Nowhere,
    /// Those that were listed use no key but those that they are given.
    Fine,
    /// The text of the error.
    Refused(String),
}

/// What was heard of libraries.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the digest of a text: why its functions are refused, if they are.
    read: HashMap<[u8; 32], Option<Arc<str>>, RandomState>,
    /// The library in which a function was last.
    homes: HashMap<Box<[u8]>, Arc<[u8]>, RandomState>,
}

/// One library of a list.
struct Listed<'a> {
    name: &'a [u8],
    text: &'a [u8],
    functions: reply::Elements<'a>,
}

impl<'a> Listed<'a> {
    /// `None` if this is not what WITHCODE gives.
    fn of(library: &'a [u8]) -> Option<Self> {
        let functions = reply::value(library, b"functions")?;
        matches!(functions.first(), Some(b'*' | b'~')).then_some(())?;
        Some(Self {
            name: reply::bulk(reply::value(library, b"library_name")?)?,
            text: reply::bulk(reply::value(library, b"library_code")?)?,
            functions: reply::elements(functions),
        })
    }

    fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.functions
            .clone()
            .filter_map(|listed| reply::value(listed, b"name").and_then(reply::bulk))
    }
}

/// A function's name as servers compare it: in any case, and no further than a NUL.
fn spoken(name: &[u8]) -> Box<[u8]> {
    name.split(|&byte| byte == 0).next().unwrap_or_default().to_ascii_lowercase().into()
}

impl Libraries {
    /// The library to ask for first.
    pub(super) fn home(&self, function: &[u8]) -> Option<Arc<[u8]>> {
        self.known.read().homes.get(&spoken(function)).cloned()
    }

    /// Takes the server's answer to FUNCTION LIST WITHCODE, which was asked for the sake of these
    /// functions; `None` if it is none.
    pub(super) fn hear(&self, functions: &[Box<[u8]>], answer: &[u8]) -> Option<Heard> {
        if answer.first() != Some(&b'*') {
            return None;
        }
        let mut wanted: Vec<_> = functions.iter().map(|name| spoken(name)).collect();
        wanted.sort_unstable();
        let mut heard = Heard::Nowhere;
        for listed in reply::elements(answer) {
            let library = Listed::of(listed)?;
            let mut fault = None;
            for name in library.names() {
                let spoken = spoken(name);
                if wanted.binary_search(&spoken).is_err() {
                    continue;
                }
                self.settle(spoken, library.name);
                if let Some(fault) = fault.get_or_insert_with(|| self.read(library.text)) {
                    return Some(Heard::Refused(refusal(name, library.name, fault)));
                }
                heard = Heard::Fine;
            }
        }
        Some(heard)
    }

    fn settle(&self, function: Box<[u8]>, library: &[u8]) {
        let is_home = |home: &Arc<[u8]>| **home == *library;
        if self.known.read().homes.get(&function).is_some_and(is_home) {
            return;
        }
        let homes = &mut self.known.write().homes;
        if homes.len() >= COUNT_MAX {
            homes.clear();
        }
        homes.insert(function, library.into());
    }

    /// Why a library's functions are refused. Each text is read once.
    fn read(&self, text: &[u8]) -> Option<Arc<str>> {
        let name = digest(&SHA256, text).as_ref().try_into().unwrap_or_default();
        if let Some(found) = self.known.read().read.get(&name) {
            return found.clone();
        }
        let fault = lua::check_library(text).err().map(|fault| Arc::from(fault.to_string()));
        let read = &mut self.known.write().read;
        if read.len() >= COUNT_MAX {
            read.clear();
        }
        read.insert(name, fault.clone());
        fault
    }
}

fn refusal(function: &[u8], library: &[u8], fault: &str) -> String {
    let (name, library) = (function.escape_ascii(), library.escape_ascii());
    format!(
        "ERR nearside refuses function '{name}', library '{library}', {fault}. Under a key prefix \
         a function may touch no key but those that it is given. If it does, list \
         \"function:{name}\" in scripts.allow; or have no keys.version and no keys.prefix"
    )
}

#[cfg(test)]
mod tests {
    use super::{Heard, Libraries};

    const FINE: &str = "#!lua name=lib\nredis.register_function('f', function(keys, args) \
                        return redis.call('SET', keys[1], args[1]) end)";
    const BUILDS: &str = "#!lua name=lib\nredis.register_function{function_name='f', \
                          callback=function(keys) return redis.call('GET', keys[1] .. 'x') end}";

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    /// As RESP2 and RESP3 list one library.
    fn listed(name: &str, functions: &[&str], text: &str) -> [String; 2] {
        let one = |function: &&str, map: &str| {
            let description = if map == "*6" { "$-1" } else { "_" };
            format!(
                "{map}\r\n{}{}{}{description}\r\n{}*0\r\n",
                bulk("name"),
                bulk(function),
                bulk("description"),
                bulk("flags")
            )
        };
        [("*8", "*6"), ("%4", "%3")].map(|(library, map)| {
            let functions: String = functions.iter().map(|name| one(name, map)).collect();
            format!(
                "{library}\r\n{}{}{}{}{}{}{}{}",
                bulk("library_name"),
                bulk(name),
                bulk("engine"),
                bulk("LUA"),
                bulk("functions"),
                format_args!("*{}\r\n{functions}", functions.matches("flags").count()),
                bulk("library_code"),
                bulk(text)
            )
        })
    }

    fn hear(libraries: &Libraries, function: &str, text: &str) -> Heard {
        let [two, three] = listed("lib", &["f", "other"], text).map(|one| {
            let answer = format!("*1\r\n{one}");
            libraries.hear(&[function.as_bytes().into()], answer.as_bytes()).unwrap()
        });
        assert_eq!(two, three);
        two
    }

    #[test]
    fn a_function_is_what_its_text_says_now() {
        let libraries = Libraries::default();
        assert_eq!(libraries.home(b"f"), None);
        for name in ["f", "F", "other", "f\0x"] {
            assert_eq!(hear(&libraries, name, FINE), Heard::Fine);
            let Heard::Refused(text) = hear(&libraries, name, BUILDS) else {
                panic!("passed");
            };
            for words in ["library 'lib', line 2: it builds a name", "scripts.allow", "function:"] {
                assert!(text.contains(words), "{text}");
            }
            assert_eq!(hear(&libraries, name, FINE), Heard::Fine, "by its text, not its name");
        }
        assert_eq!(libraries.home(b"F").as_deref(), Some(&b"lib"[..]));
        assert_eq!(hear(&libraries, "gone", FINE), Heard::Nowhere);
        assert_eq!(libraries.hear(&[(*b"f").into()], b"*0\r\n"), Some(Heard::Nowhere));
    }

    #[test]
    fn of_several_functions_each_counts() {
        let libraries = Libraries::default();
        let [one, two] = [("a", "f", FINE), ("b", "g", BUILDS)]
            .map(|(name, function, text)| listed(name, &[function], text)[0].clone());
        let answer = format!("*2\r\n{one}{two}");
        let hear = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| name.as_bytes().into()).collect();
            libraries.hear(&names, answer.as_bytes()).unwrap()
        };
        assert_eq!(hear(&["gone", "F", "f"]), Heard::Fine);
        assert_eq!(hear(&["gone"]), Heard::Nowhere);
        for names in [&["f", "g"][..], &["z", "g", "f", "a"], &["G"]] {
            assert!(matches!(hear(names), Heard::Refused(text) if text.contains("'g'")));
        }
    }

    #[test]
    fn what_is_no_list_is_not_guessed_at() {
        let libraries = Libraries::default();
        for answer in ["+OK\r\n", "$-1\r\n", "*1\r\n+OK\r\n", "*1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"]
        {
            assert_eq!(libraries.hear(&[(*b"f").into()], answer.as_bytes()), None, "{answer}");
        }
        // Another engine's, or one whose text says nothing of an engine.
        for text in ["#!js name=lib\nreturn 1", "return 1", ""] {
            assert!(matches!(hear(&libraries, "f", text), Heard::Refused(_)), "{text}");
        }
    }
}
