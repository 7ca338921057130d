//! Globs as `KEYS`, `SCAN MATCH` and the rules mean them: the semantics of `stringmatchlen` in
//! Redis' `util.c`, oddities included, without its recursion.
//!
//! A pattern and a text go in, a yes or no comes out, after at most pattern times text steps: only
//! the last `*` is ever returned to. Bytes in ranges are compared unsigned, as Redis does where C's
//! `char` is unsigned (ARM).

/// True if `text` matches `pattern`.
///
/// As in `KEYS` and `SCAN`, a lone `*` matches everything; any other pattern with stars needs at
/// least one byte of text.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut rest, mut unread) = (pattern, text);
    // After the last star: the pattern behind it, and the text it has not swallowed yet.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', tail @ ..] = rest {
            if tail.is_empty() {
                return true;
            }
            (rest, retry) = (tail, Some((tail, unread)));
            continue;
        }
        let step = match unread.split_first() {
            Some((&byte, after)) => one(rest, byte).map(|rest| (rest, after)),
            None if rest.is_empty() => return true,
            // Not even the end of the text is far enough; a longer swallow cannot help.
            None => return false,
        };
        (rest, unread) = match (step, retry) {
            (Some(step), _) => step,
            (None, Some((behind, [_, shorter @ ..]))) => {
                retry = Some((behind, shorter));
                (behind, shorter)
            }
            (None, _) => return false,
        };
    }
}

/// Matches one byte against the front of `pattern` (no star) and returns the pattern behind it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => {
            let (class, negated) = match class {
                [b'^', class @ ..] => (class, true),
                class => (class, false),
            };
            let (matched, rest) = in_class(class, byte);
            (matched != negated).then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Whether `byte` is in the class, and the pattern behind its bracket. An unclosed class ends with
/// the pattern.
fn in_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut matched = false;
    loop {
        class = match class {
            [] => return (matched, class),
            [b'\\', literal, rest @ ..] => {
                matched |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (matched, rest),
            [from, b'-', to, rest @ ..] => {
                let (low, high) = (*from.min(to), *from.max(to));
                matched |= (low..=high).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                matched |= *literal == byte;
                rest
            }
        };
    }
}

/// A pattern that many keys are held against: most are told apart by how it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: Box<[u8]>,
    /// What every match begins with.
    literal: Box<[u8]>,
    /// True for `literal*`: how a key begins says it all.
    is_prefix: bool,
}

impl Glob {
    /// Of this text.
    pub fn new(text: &[u8]) -> Self {
        let (literal, _) = literal_prefix(text);
        let before_star = text.strip_suffix(b"*").map(literal_prefix);
        let is_prefix = before_star.is_some_and(|(before, all)| all && before == literal);
        Self { text: text.into(), literal: literal.into(), is_prefix }
    }

    /// True if `key` matches.
    #[inline]
    pub fn matches(&self, key: &[u8]) -> bool {
        key.starts_with(&self.literal) && (self.is_prefix || matches(&self.text, key))
    }

    /// As it was written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What every match begins with.
    pub fn literal(&self) -> &[u8] {
        &self.literal
    }

    /// True if every key that begins with this matches.
    pub fn takes_all(&self, beginning: &[u8]) -> bool {
        self.is_prefix && beginning.starts_with(&self.literal)
    }
}

/// The bytes that every match of `pattern` begins with, and whether the pattern is nothing else (so
/// that it matches exactly that one key).
pub fn literal_prefix(mut pattern: &[u8]) -> (Vec<u8>, bool) {
    let mut literal = Vec::with_capacity(pattern.len());
    loop {
        let (byte, rest) = match pattern {
            [] => return (literal, true),
            [b'*' | b'?' | b'[', ..] => return (literal, false),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
        };
        literal.push(byte);
        pattern = rest;
    }
}

/// Appends `literal` so that a glob takes it for itself: what a prefix must become before it stands
/// in front of a client's pattern.
pub fn escape(literal: &[u8], out: &mut Vec<u8>) {
    for &byte in literal {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
