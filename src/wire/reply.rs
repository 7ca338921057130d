//! Where the next reply ends, by frame length alone: the scanner never builds a tree, never
//! recurses, keeps its place over reads, and refuses nesting beyond [`DEPTH_MAX`].
//!
//! Every RESP2 and RESP3 type is known; streamed types (`$?`, `*?`) are refused, because neither
//! Redis nor Valkey sends them.

use crate::wire::number::parse_i64;

/// Deepest nesting accepted. Real replies use about 7, but a script that returns a table which
/// contains itself makes Redis write some 8,000; here a level costs eight bytes and no stack.
pub const DEPTH_MAX: usize = 1 << 16;

/// Longest line of a simple string, error, number or length.
pub const LINE_MAX: usize = 1 << 20;

/// Why an upstream link must be closed: what it sends is not RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No RESP type starts with this byte.
    #[error("no reply starts with byte {0:#04x}")]
    Kind(u8),
    /// A length that is no number, or out of range.
    #[error("a length is not a number")]
    Length,
    /// No CRLF where one must stand.
    #[error("a line or bulk does not end with CRLF")]
    LineEnd,
    /// A line that does not end.
    #[error("a line is longer than 1 MiB")]
    LineLength,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than 65536 levels")]
    Depth,
}

/// How far the scan of one reply has come. `Default` is the state before its first byte.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Bytes understood.
    at: usize,
    /// Bytes of the line at `at` already searched for its end.
    searched: usize,
    /// Where the bulk at `at` ends, if only its head has come.
    bulk_end: usize,
    /// For each open aggregate, how many elements are still to come. Flat replies never push.
    open: Vec<u64>,
}

impl Scan {
    /// Length of the reply that starts at `buffer[0]`, or `None` if it goes on after the end.
    ///
    /// Afterwards the state is fresh again: it may be used for the next reply.
    #[inline]
    pub fn next(&mut self, buffer: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            let closes = match plain_end(buffer, self.at) {
                Some(end) => {
                    self.at = end;
                    true
                }
                None => match self.element(buffer)? {
                    Some(closes) => closes,
                    None => return Ok(None),
                },
            };
            self.searched = 0;
            if closes && self.close_element() {
                return Ok(Some(std::mem::take(&mut self.at)));
            }
        }
    }

    /// Goes over what stands at `at`, if all of it is there: a value, or the head of an aggregate.
    /// True if that is the whole of an element.
    fn element(&mut self, buffer: &[u8]) -> Result<Option<bool>, Malformed> {
        let Some((kind, line)) = self.line(buffer)? else {
            self.bulk_end = 0;
            return Ok(None);
        };
        let after_line = self.at + line.len() + 3;
        let (end, closes) = match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => (after_line, true),
            b'$' | b'=' | b'!' => {
                let end = bulk_end(buffer, line, after_line)?;
                if end > buffer.len() {
                    self.bulk_end = end;
                    return Ok(None);
                }
                (end, true)
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => (after_line, self.open(kind, line)?),
            other => return Err(Malformed::Kind(other)),
        };
        self.at = end;
        Ok(Some(closes))
    }

    /// Where the bulk ends, from the reply's first byte, for whose end [`Self::next`] has just
    /// asked; 0 if what it lacks has no known length.
    pub fn wanted(&self) -> usize {
        self.bulk_end
    }

    /// True if nothing of a reply was understood yet.
    #[inline]
    pub fn is_fresh(&self) -> bool {
        self.at == 0 && self.open.is_empty()
    }

    /// Opens an aggregate. True if it has no elements, so that it is complete already.
    fn open(&mut self, kind: u8, line: &[u8]) -> Result<bool, Malformed> {
        let count = parse_i64(line).filter(|count| *count >= -1).ok_or(Malformed::Length)?;
        let count = u64::try_from(count).unwrap_or(0);
        // A push between the elements of an aggregate is none of them (Redis 7.0 writes messages
        // into the reply to its client's own EXEC).
        if let (b'>', Some(left)) = (kind, self.open.last_mut()) {
            *left += 1;
        }
        let elements = match kind {
            b'%' => count.checked_mul(2).ok_or(Malformed::Length)?,
            // An attribute stands before the reply it describes and is not that reply: its pairs
            // and one more element must come.
            b'|' => count.checked_mul(2).and_then(|n| n.checked_add(1)).ok_or(Malformed::Length)?,
            _ => count,
        };
        if elements == 0 {
            return Ok(true);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Malformed::Depth);
        }
        self.open.push(elements);
        Ok(false)
    }

    /// One element is complete. True if with it the whole reply is.
    fn close_element(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }

    /// The type byte at `at` and the text behind it up to CRLF.
    #[inline]
    fn line<'b>(&mut self, buffer: &'b [u8]) -> Result<Option<(u8, &'b [u8])>, Malformed> {
        let Some((&kind, rest)) = buffer.get(self.at..).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let unsearched = rest.get(self.searched..).unwrap_or_default();
        // Lengths and integers are a few digits; only `+` and `-` lines are long.
        let found = match kind {
            b'+' | b'-' => memchr::memchr(b'\r', unsearched),
            _ => unsearched.iter().position(|&byte| byte == b'\r'),
        };
        let Some(found) = found else {
            self.searched = rest.len();
            return if rest.len() > LINE_MAX { Err(Malformed::LineLength) } else { Ok(None) };
        };
        let end = self.searched + found;
        match rest.get(end + 1) {
            Some(b'\n') => Ok(rest.get(..end).map(|line| (kind, line))),
            Some(_) => Err(Malformed::LineEnd),
            None => {
                self.searched = end;
                Ok(None)
            }
        }
    }
}

/// Longest length, in digits, of a bulk that is told at a glance.
const PLAIN_DIGITS: usize = 8;

/// Longest line, in bytes, that is told at a glance.
const PLAIN_LINE: usize = 24;

/// Where the element ends that begins at `start`, if it is one whole bulk, integer or short status,
/// as nearly all are. `None` says nothing: it is for [`Scan::element`] to tell.
#[inline]
fn plain_end(buffer: &[u8], start: usize) -> Option<usize> {
    let rest = buffer.get(start..)?;
    let (end, length) = match rest.first()? {
        b'$' => {
            let (mut at, mut length) = (1, 0);
            while let digit @ 0..=9 = rest.get(at)?.wrapping_sub(b'0') {
                length = length * 10 + usize::from(digit);
                at += 1;
                if at > PLAIN_DIGITS {
                    return None;
                }
            }
            let is_number = at == 2 || at > 2 && rest.get(1) != Some(&b'0');
            // Behind the digits, and behind what they count.
            (if is_number { at } else { return None }, length + 2)
        }
        b':' | b'+' => {
            let line = rest.get(..rest.len().min(PLAIN_LINE))?;
            (line.iter().position(|&byte| byte == b'\r')?, 0)
        }
        _ => return None,
    };
    let is_end = |at: usize| rest.get(at..at + 2) == Some(b"\r\n");
    (is_end(end) && is_end(end + length)).then_some(start + end + length + 2)
}

/// Where a bulk whose header ends at `start` ends itself, whether that has come or not.
#[inline]
fn bulk_end(buffer: &[u8], line: &[u8], start: usize) -> Result<usize, Malformed> {
    let length = match line {
        [digit @ b'0'..=b'9'] => usize::from(digit - b'0'),
        b"-1" => return Ok(start),
        _ => parse_i64(line)
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length <= isize::MAX as usize / 2)
            .ok_or(Malformed::Length)?,
    };
    match buffer.get(start + length..start + length + 2) {
        None | Some(b"\r\n") => Ok(start + length + 2),
        Some(_) => Err(Malformed::LineEnd),
    }
}

/// The value of a bulk or verbatim reply (without `txt:`); `None` for any other reply and for nil.
pub fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let (&kind, rest) = reply.split_first()?;
    if !matches!(kind, b'$' | b'=') || rest.first() == Some(&b'-') {
        return None;
    }
    let line = memchr::memchr(b'\n', rest)?;
    let value = rest.get(line + 1..)?.strip_suffix(b"\r\n")?;
    if kind == b'=' { value.get(4..) } else { Some(value) }
}

/// The value of a bulk, verbatim or simple string reply.
pub fn text(reply: &[u8]) -> Option<&[u8]> {
    bulk(reply).or_else(|| reply.strip_prefix(b"+")?.strip_suffix(b"\r\n"))
}

/// The value of an integer reply.
#[inline]
pub fn integer(reply: &[u8]) -> Option<i64> {
    parse_i64(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

/// True for nil in any of its three forms.
pub fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

/// The elements of a complete array, set, push or map (keys and values alternate); none for any
/// other reply.
pub fn elements(reply: &[u8]) -> Elements<'_> {
    let aggregate = matches!(reply.first(), Some(b'*' | b'~' | b'>' | b'%'));
    let rest = match memchr::memchr(b'\n', reply) {
        Some(end) if aggregate => reply.get(end + 1..).unwrap_or_default(),
        _ => &[],
    };
    Elements { rest }
}

/// The value behind `name` in a map, or in RESP2's list of names and values.
pub fn value<'b>(map: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let mut pairs = elements(map);
    while let (Some(found), Some(value)) = (pairs.next(), pairs.next()) {
        if text(found) == Some(name) {
            return Some(value);
        }
    }
    None
}

/// Iterator over the elements of an aggregate; see [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Elements<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = Scan::default().next(self.rest).ok()??;
        let (element, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Malformed, Scan, bulk, elements, integer};

    const REPLIES: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$0\r\n\r\n",
        b"$5\r\nhe\r\no\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(123\r\n",
        b"=8\r\ntxt:text\r\n",
        b"!5\r\nERR x\r\n",
        b"%1\r\n+k\r\n*1\r\n:1\r\n",
        b"~2\r\n:1\r\n:2\r\n",
        b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n:9\r\n",
        b"*2\r\n:1\r\n>2\r\n+message\r\n+x\r\n:2\r\n",
    ];

    #[test]
    fn what_lacks_its_end_says_where_that_is() {
        let reply = b"*2\r\n:1\r\n$1000\r\nabc";
        for cut in 0..reply.len() {
            let mut scan = Scan::default();
            assert_eq!(scan.next(&reply[..cut]), Ok(None));
            let has_head = cut >= b"*2\r\n:1\r\n$1000\r\n".len();
            let end = b"*2\r\n:1\r\n$1000\r\n".len() + 1002;
            assert_eq!(scan.wanted(), if has_head { end } else { 0 }, "{cut}");
        }
        let mut scan = Scan::default();
        assert_eq!(scan.next(b"$5\r\nhel"), Ok(None));
        assert_eq!(scan.wanted(), 11);
        assert_eq!(scan.next(b"$5\r\nhello\r\n"), Ok(Some(11)));
        assert_eq!(scan.next(b""), Ok(None));
        assert_eq!(scan.wanted(), 0);
    }

    #[test]
    fn every_type_ends_where_it_ends() {
        for reply in REPLIES {
            for cut in 0..reply.len() {
                assert_eq!(Scan::default().next(&reply[..cut]), Ok(None));
            }
            let doubled = [*reply, *reply].concat();
            let mut scan = Scan::default();
            assert_eq!(scan.next(&doubled), Ok(Some(reply.len())));
            assert!(scan.is_fresh());
        }
    }

    #[test]
    fn a_drip_gives_the_same_as_a_gulp() {
        for reply in REPLIES {
            let mut scan = Scan::default();
            for end in 0..reply.len() {
                assert_eq!(scan.next(&reply[..end]), Ok(None));
            }
            assert_eq!(scan.next(reply), Ok(Some(reply.len())));
        }
    }

    /// What is told at a glance is what is found by looking.
    #[test]
    fn a_glance_says_the_same_as_a_look() {
        let mut seen = 0;
        for kind in ["$", ":", "+", "-", "*"] {
            for line in ["", "0", "00", "3", "03", "-1", "-0", "12", "123456789", "x", "1x", "a\rb"]
            {
                for rest in
                    ["", "\r", "\r\n", "\r\nabc", "\r\nabc\r\n", "\r\n\r\n", "\r\nabcd\r\n:1"]
                {
                    let reply = format!("{kind}{line}{rest}").into_bytes();
                    let mut scan = Scan::default();
                    let looked = scan.element(&reply);
                    if let Some(end) = super::plain_end(&reply, 0) {
                        seen += 1;
                        let text = reply.escape_ascii();
                        assert_eq!((looked, scan.at), (Ok(Some(true)), end), "{text}");
                        let behind = [b"*1\r\n", &*reply].concat();
                        assert_eq!(super::plain_end(&behind, 4), Some(end + 4), "{text}");
                    }
                }
            }
        }
        assert!(seen > 50, "{seen}");
        // A line that was searched before is not searched from there in the next reply.
        let mut scan = Scan::default();
        assert_eq!(scan.next(b":12"), Ok(None));
        assert_eq!(scan.next(b":12\r\n"), Ok(Some(5)));
        assert_eq!(scan.next(b"-E\r\n"), Ok(Some(4)));
    }

    #[test]
    fn depth_is_capped_and_costs_no_stack() {
        let at_cap = [b"*1\r\n".repeat(DEPTH_MAX), b":1\r\n".to_vec()].concat();
        assert_eq!(Scan::default().next(&at_cap), Ok(Some(at_cap.len())));
        let bomb = b"*1\r\n".repeat(1 << 20);
        assert_eq!(Scan::default().next(&bomb), Err(Malformed::Depth));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, error) in [
            (&b"hello\r\n"[..], Malformed::Kind(b'h')),
            (b"$x\r\n", Malformed::Length),
            (b"$?\r\n", Malformed::Length),
            (b"*-2\r\n", Malformed::Length),
            (b"$1\r\nabc", Malformed::LineEnd),
            (b"+a\rb", Malformed::LineEnd),
        ] {
            assert_eq!(Scan::default().next(bytes), Err(error));
        }
    }

    #[test]
    fn values_are_read() {
        assert_eq!(bulk(b"$5\r\nhe\r\no\r\n"), Some(&b"he\r\no"[..]));
        assert_eq!(bulk(b"=8\r\ntxt:text\r\n"), Some(&b"text"[..]));
        assert_eq!(bulk(b"$-1\r\n"), None);
        assert_eq!(integer(b":-2\r\n"), Some(-2));
        let all: Vec<&[u8]> = elements(b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n").collect();
        assert_eq!(all, [&b"$1\r\na\r\n"[..], b"*1\r\n:1\r\n"]);
    }
}
