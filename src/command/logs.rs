//! The prefix out of the server's logs of commands: SLOWLOG GET and COMMANDLOG GET.
//!
//! An entry is `[id, time, duration, [argument ...], address, name]`. Which arguments are keys, the
//! row of the logged command says. The server cuts long arguments and long lists; a key whose
//! place can no longer be told stays as it is, and so do keys of other versions.

use crate::command::replies::{header, key};
use crate::command::{keys, resolve};
use crate::keys::Names;
use crate::wire::reply::{bulk, elements};
use bytes::BytesMut;

/// Where an entry has the command's arguments.
const ARGUMENTS: usize = 3;

/// Appends the log without the prefixes before the keys of its commands.
pub fn strip(names: &Names, reply: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(header(reply));
    for entry in elements(reply) {
        out.extend_from_slice(header(entry));
        for (at, element) in elements(entry).enumerate() {
            if at == ARGUMENTS {
                arguments(names, element, out);
            } else {
                out.extend_from_slice(element);
            }
        }
    }
}

fn arguments(names: &Names, list: &[u8], out: &mut BytesMut) {
    let words: Vec<&[u8]> = elements(list).map(|word| bulk(word).unwrap_or_default()).collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let mut found = Vec::new();
    if let Ok(spec) = resolve(words.len(), word) {
        keys::for_each(spec, words.len(), word, |at| found.push(at));
    }
    out.extend_from_slice(header(list));
    for (at, element) in elements(list).enumerate() {
        if found.contains(&at) {
            key(names, element, out);
        } else {
            out.extend_from_slice(element);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::strip;
    use crate::keys::{Names, Prefix};
    use bytes::BytesMut;
    use std::fmt::Write as _;

    fn entry(words: &[&str]) -> String {
        let mut list = format!("*{}\r\n", words.len());
        for word in words {
            write!(list, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
        format!("*6\r\n:1\r\n:2\r\n:3\r\n{list}$1\r\na\r\n$0\r\n\r\n")
    }

    #[test]
    fn keys_lose_the_prefix_and_nothing_else_does() {
        let v1 = Names::new(Prefix::new("", "v1", ":").unwrap(), [], []);
        for (theirs, ours) in [
            (
                &["MSET", "v1:a", "v1:b", "v2:c", "v1:d"][..],
                &["MSET", "a", "v1:b", "v2:c", "v1:d"][..],
            ),
            (&["object", "encoding", "v1:a"], &["object", "encoding", "a"]),
            (&["PING", "v1:a"], &["PING", "v1:a"]),
            (&["NOSUCH", "v1:a"], &["NOSUCH", "v1:a"]),
            (&["EVAL", "x", "1", "v1:a", "v1:b"], &["EVAL", "x", "1", "a", "v1:b"]),
            (&["DEL", "v1:a", "... (9 more arguments)"], &["DEL", "a", "... (9 more arguments)"]),
        ] {
            let mut out = BytesMut::new();
            strip(&v1, format!("*1\r\n{}", entry(theirs)).as_bytes(), &mut out);
            assert_eq!(out, format!("*1\r\n{}", entry(ours)));
        }
        let mut out = BytesMut::new();
        strip(&v1, b"*0\r\n", &mut out);
        assert_eq!(out, "*0\r\n");
    }
}
