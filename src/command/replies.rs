//! The prefix out of replies again: a complete reply goes in, the client's view of it comes out.
//!
//! Most replies name no key and are never looked into. Keys of other versions that show up in a
//! list are left out of it, and so are those that its client's glob does not match: upstream may
//! have been asked for more.

use crate::command::{Spec, logs};
use crate::keys::{Names, glob};
use crate::wire::reply::{bulk, elements, is_null};
use crate::wire::write::{self, Proto};
use bytes::BytesMut;
use std::borrow::Cow;

/// Where a reply names keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyRule {
    /// Nowhere.
    AsIs,
    /// In its errors only (`-NOGROUP No such key 'v1:s' ...`).
    Error,
    /// In its text, which is no error (ACL DRYRUN).
    Text,
    /// It is a list of keys.
    Keys,
    /// It is a cursor and a list of keys.
    Scan,
    /// It is a key.
    Key,
    /// Its first element is a key.
    First,
    /// It lists commands that were carried out, with their arguments (SLOWLOG GET).
    Log,
    /// Pairs of a key and something: an array of pairs in RESP2, a map in RESP3. Errors too.
    Streams,
    /// A list of channels, perhaps with counts: those of keyspace notifications end in a key.
    Channels,
}

impl ReplyRule {
    /// True if `reply` must go through [`strip`] before a client may see it.
    #[inline]
    pub fn concerns(self, reply: &[u8]) -> bool {
        self != Self::AsIs || reply.first() == Some(&b'-')
    }
}

/// True if `reply` is what `spec`, a cached command, answers of a key that does not exist (beside
/// nil): zero, `none`, nothing, the -2 of EXPIRETIME, or a list of such. An existing key may answer
/// the same; no matter. BITPOS is asked nothing: its 0 is a position, too.
pub fn of_no_key(spec: &Spec, reply: &[u8]) -> bool {
    let is_empty = |reply: &[u8]| is_null(reply) || matches!(reply, b":0\r\n" | b":-2\r\n");
    match reply {
        _ if spec.name == "bitpos" => false,
        b"+none\r\n" | b"$0\r\n\r\n" | b"%0\r\n" | b"~0\r\n" => true,
        [b'*', ..] => elements(reply).all(is_empty),
        _ => is_empty(reply),
    }
}

/// Appends `reply` to `out` without the prefixes before the keys it names. `pattern`: of a list,
/// only what this glob of its client matches.
///
/// False, and nothing appended, if the reply is one single key of another version (RANDOMKEY).
#[must_use]
pub fn strip(
    rule: ReplyRule,
    names: &Names,
    pattern: Option<&[u8]>,
    reply: &[u8],
    out: &mut BytesMut,
) -> bool {
    if reply.first() == Some(&b'-') {
        strip_error(rule, names, reply, out);
        return true;
    }
    match rule {
        ReplyRule::AsIs | ReplyRule::Error => out.extend_from_slice(reply),
        ReplyRule::Text => match bulk(reply) {
            Some(text) => {
                let mut unquoted = BytesMut::with_capacity(text.len());
                unquote(names, text, &mut unquoted);
                write::bulk(out, &unquoted);
            }
            None => out.extend_from_slice(reply),
        },
        ReplyRule::Keys => list(names, pattern, reply, out),
        ReplyRule::Scan => {
            out.extend_from_slice(header(reply));
            for (at, element) in elements(reply).enumerate() {
                if at == 1 {
                    list(names, pattern, element, out);
                } else {
                    out.extend_from_slice(element);
                }
            }
        }
        ReplyRule::Key => {
            if is_foreign(names, pattern, reply) {
                return false;
            }
            key(names, reply, out);
        }
        ReplyRule::First => first(names, reply, out),
        ReplyRule::Log => logs::strip(names, reply, out),
        ReplyRule::Streams => streams(names, reply, out),
        ReplyRule::Channels => channels(names, pattern, reply, out),
    }
    true
}

/// The line or length that a reply begins with; all of it, if it has no elements.
pub(crate) fn header(reply: &[u8]) -> &[u8] {
    let aggregate = matches!(reply.first(), Some(b'*' | b'~' | b'>' | b'%'));
    match memchr::memchr(b'\n', reply) {
        Some(end) if aggregate => reply.get(..=end).unwrap_or(reply),
        _ => reply,
    }
}

/// True for a key that is not of this version, or not meant.
fn is_foreign(names: &Names, pattern: Option<&[u8]>, element: &[u8]) -> bool {
    let is_shown = |name| names.strip(name).is_some_and(|key| is_meant(pattern, key));
    bulk(element).is_some_and(|name| !is_shown(name))
}

fn is_meant(pattern: Option<&[u8]>, text: &[u8]) -> bool {
    pattern.is_none_or(|pattern| glob::matches(pattern, text))
}

/// A key without its prefix; anything that is none stays.
pub(crate) fn key(names: &Names, element: &[u8], out: &mut BytesMut) {
    match bulk(element).and_then(|name| names.strip(name)) {
        Some(key) => write::bulk(out, key),
        None => out.extend_from_slice(element),
    }
}

fn list(names: &Names, pattern: Option<&[u8]>, reply: &[u8], out: &mut BytesMut) {
    let ours = || elements(reply).filter(|element| !is_foreign(names, pattern, element));
    match reply.first() {
        Some(b'*') if !reply.starts_with(b"*-1") => write::array(out, ours().count()),
        Some(b'~') => write::set(out, Proto::Resp3, ours().count()),
        _ => return out.extend_from_slice(reply),
    }
    for element in ours() {
        key(names, element, out);
    }
}

/// Where the key begins in the name of a channel of keyspace notifications.
pub fn channel_key(channel: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(channel, b"__:")?;
    channel.starts_with(b"__keyspace@").then_some(at + 3)
}

/// Channels of other versions' keys are left out.
fn channels(names: &Names, pattern: Option<&[u8]>, reply: &[u8], out: &mut BytesMut) {
    if !reply.starts_with(b"*") {
        return out.extend_from_slice(reply);
    }
    let mut ours = Vec::new();
    for element in elements(reply) {
        let channel = bulk(element).unwrap_or_default();
        let Some((head, name)) = channel_key(channel).and_then(|at| channel.split_at_checked(at))
        else {
            ours.push(Cow::Borrowed(element));
            continue;
        };
        if let Some(key) = names.strip(name) {
            let shown = [head, key].concat();
            if is_meant(pattern, &shown) {
                let mut element = BytesMut::with_capacity(shown.len() + 8);
                write::bulk(&mut element, &shown);
                ours.push(Cow::Owned(element.into()));
            }
        }
    }
    write::array(out, ours.len());
    for element in ours {
        out.extend_from_slice(&element);
    }
}

fn first(names: &Names, reply: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(header(reply));
    for (at, element) in elements(reply).enumerate() {
        if at == 0 {
            key(names, element, out);
        } else {
            out.extend_from_slice(element);
        }
    }
}

fn streams(names: &Names, reply: &[u8], out: &mut BytesMut) {
    let is_map = reply.first() == Some(&b'%');
    out.extend_from_slice(header(reply));
    for (at, element) in elements(reply).enumerate() {
        match (is_map, at % 2) {
            (true, 0) => key(names, element, out),
            (true, _) => out.extend_from_slice(element),
            (false, _) => first(names, element, out),
        }
    }
}

/// Cuts the prefix behind opening quotes. A server older than the table quotes the arguments of a
/// command it does not know, whatever the rule; before Redis 7 it quoted them with backticks.
fn strip_error(rule: ReplyRule, names: &Names, reply: &[u8], out: &mut BytesMut) {
    let names_keys = matches!(rule, ReplyRule::Error | ReplyRule::Streams)
        || reply.starts_with(b"-ERR unknown command");
    if names.is_empty() || !names_keys {
        return out.extend_from_slice(reply);
    }
    unquote(names, reply, out);
}

/// Cuts the prefix behind opening quotes.
fn unquote(names: &Names, text: &[u8], out: &mut BytesMut) {
    let mut rest = text;
    while let Some(quote) = memchr::memchr2(b'\'', b'`', rest) {
        let Some((before, behind)) = rest.split_at_checked(quote + 1) else { break };
        out.extend_from_slice(before);
        rest = names.cut(behind);
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::ReplyRule::{AsIs, Error, First, Key, Keys, Scan, Streams, Text};
    use super::{ReplyRule, of_no_key, strip};
    use crate::command::by_name;
    use crate::keys::{Names, Prefix};
    use bytes::BytesMut;

    fn stripped(rule: ReplyRule, reply: &str) -> Option<String> {
        let v1 = Names::new(Prefix::new("", "v1", ":").unwrap(), [], []);
        let mut out = BytesMut::from("before");
        let written = strip(rule, &v1, None, reply.as_bytes(), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let text = text.strip_prefix("before").unwrap().to_owned();
        assert!(written || text.is_empty());
        written.then_some(text)
    }

    #[test]
    fn keys_are_stripped_where_the_rule_says_so() {
        for (rule, reply, expected) in [
            (AsIs, "$4\r\nv1:a\r\n", "$4\r\nv1:a\r\n"),
            (Keys, "*2\r\n$4\r\nv1:a\r\n$6\r\nv1:v1:\r\n", "*2\r\n$1\r\na\r\n$3\r\nv1:\r\n"),
            (Keys, "*2\r\n$4\r\nv2:a\r\n$4\r\nv1:b\r\n", "*1\r\n$1\r\nb\r\n"),
            (Keys, "~2\r\n$4\r\nv2:a\r\n$4\r\nv1:b\r\n", "~1\r\n$1\r\nb\r\n"),
            (Keys, "*0\r\n", "*0\r\n"),
            (Keys, "*-1\r\n", "*-1\r\n"),
            (
                Scan,
                "*2\r\n$2\r\n17\r\n*3\r\n$4\r\nv1:a\r\n$1\r\na\r\n$4\r\nv1:b\r\n",
                "*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            ),
            (Scan, "*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n"),
            (Key, "$4\r\nv1:a\r\n", "$1\r\na\r\n"),
            (Key, "$-1\r\n", "$-1\r\n"),
            (Key, "_\r\n", "_\r\n"),
            (
                First,
                "*2\r\n$4\r\nv1:a\r\n*1\r\n$4\r\nv1:x\r\n",
                "*2\r\n$1\r\na\r\n*1\r\n$4\r\nv1:x\r\n",
            ),
            (First, "*-1\r\n", "*-1\r\n"),
            (First, "_\r\n", "_\r\n"),
            (
                Streams,
                "*2\r\n*2\r\n$4\r\nv1:s\r\n*0\r\n*2\r\n$4\r\nv1:t\r\n*1\r\n$4\r\nv1:x\r\n",
                "*2\r\n*2\r\n$1\r\ns\r\n*0\r\n*2\r\n$1\r\nt\r\n*1\r\n$4\r\nv1:x\r\n",
            ),
            (Streams, "%1\r\n$4\r\nv1:s\r\n*1\r\n:1\r\n", "%1\r\n$1\r\ns\r\n*1\r\n:1\r\n"),
            (Streams, "*-1\r\n", "*-1\r\n"),
            (Text, "$14\r\nthe 'v1:k' key\r\n", "$11\r\nthe 'k' key\r\n"),
            (Text, "+OK\r\n", "+OK\r\n"),
        ] {
            assert_eq!(stripped(rule, reply).as_deref(), Some(expected), "{rule:?} {reply:?}");
        }
        assert_eq!(stripped(Key, "$4\r\nv2:a\r\n"), None);
    }

    /// What upstream was asked for may be more than the client's glob means.
    #[test]
    fn each_key_loses_its_own_prefix_and_only_what_is_meant_is_listed() {
        let v3 = Prefix::new("", "v3", ":").unwrap();
        let rules = ["s:*".to_owned()];
        let names = Names::new(
            Prefix::new("", "v1", ":").unwrap(),
            ["l:*"],
            [(rules.as_slice(), Some(v3))],
        );
        let list = "*5\r\n$4\r\nv1:a\r\n$6\r\nv3:s:a\r\n$3\r\nl:a\r\n$4\r\nv1:b\r\n$4\r\nv3:a\r\n";
        for (pattern, expected) in [
            (None, "*4\r\n$1\r\na\r\n$3\r\ns:a\r\n$3\r\nl:a\r\n$1\r\nb\r\n"),
            (Some("*a"), "*3\r\n$1\r\na\r\n$3\r\ns:a\r\n$3\r\nl:a\r\n"),
        ] {
            let mut out = BytesMut::new();
            let pattern = pattern.map(str::as_bytes);
            assert!(strip(Keys, &names, pattern, list.as_bytes(), &mut out));
            assert_eq!(out, expected);
        }
        let mut out = BytesMut::new();
        let channels = "*2\r\n$20\r\n__keyspace@0__:v1:ab\r\n$21\r\n__keyspace@0__:v3:s:b\r\n";
        let pattern = Some(&b"__keyspace@0__:*:b"[..]);
        assert!(strip(ReplyRule::Channels, &names, pattern, channels.as_bytes(), &mut out));
        assert_eq!(out, "*1\r\n$18\r\n__keyspace@0__:s:b\r\n");
    }

    #[test]
    fn absence_is_known_by_its_replies() {
        let get = by_name("get").unwrap();
        let absent: [&[u8]; 12] = [
            b":-2\r\n",
            b"*-1\r\n",
            b"*1\r\n:-2\r\n",
            b"*2\r\n:0\r\n:0\r\n",
            b"*1\r\n*-1\r\n",
            b":0\r\n",
            b"+none\r\n",
            b"$0\r\n\r\n",
            b"*0\r\n",
            b"%0\r\n",
            b"~0\r\n",
            b"*2\r\n$-1\r\n$-1\r\n",
        ];
        assert!(absent.into_iter().all(|reply| of_no_key(get, reply)));
        let present: [&[u8]; 7] = [
            b":1\r\n",
            b":-1\r\n",
            b"+string\r\n",
            b"$1\r\n0\r\n",
            b"*1\r\n$1\r\n0\r\n",
            b"*2\r\n:0\r\n:1\r\n",
            b"-ERR\r\n",
        ];
        assert!(!present.into_iter().any(|reply| of_no_key(get, reply)));
        assert!(!of_no_key(by_name("bitpos").unwrap(), b":0\r\n"));
    }

    #[test]
    fn errors_lose_the_prefix_where_they_quote_keys() {
        let nogroup = "-NOGROUP No such key 'v1:s' or consumer group 'v1'\r\n";
        let clean = "-NOGROUP No such key 's' or consumer group 'v1'\r\n";
        for rule in [Error, Streams] {
            assert_eq!(stripped(rule, nogroup).as_deref(), Some(clean));
        }
        for rule in [AsIs, Keys, Key] {
            assert_eq!(stripped(rule, nogroup).as_deref(), Some(nogroup));
        }
        for (reply, expected) in [
            (
                "-ERR unknown command 'LMPOP', with args beginning with: '1' 'v1:a' 'v1:v1:b' \r\n",
                "-ERR unknown command 'LMPOP', with args beginning with: '1' 'a' 'v1:b' \r\n",
            ),
            (
                "-ERR unknown command `GETDEL`, with args beginning with: `v1:a`, \r\n",
                "-ERR unknown command `GETDEL`, with args beginning with: `a`, \r\n",
            ),
            ("-ERR value 'v1:a' is bad\r\n", "-ERR value 'v1:a' is bad\r\n"),
        ] {
            assert_eq!(stripped(AsIs, reply).as_deref(), Some(expected));
        }
        assert!(
            AsIs.concerns(b"-ERR\r\n") && !AsIs.concerns(b"+OK\r\n") && Keys.concerns(b"*0\r\n")
        );
    }
}
