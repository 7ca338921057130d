//! Lua's words: bytes of a script in, tokens with their lines out. Comments and white space are
//! left out. Nothing is guessed: what Lua 5.1 does not know is an error.

use crate::command::lua::Why;

/// One word of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// A name, or a word of the language.
    Name(&'s [u8]),
    /// A number as it is written.
    Number(&'s [u8]),
    /// A string without its quotes and escapes.
    Text(Box<[u8]>),
    /// An operator or a bracket.
    Sign(&'static [u8]),
    /// The end of the script.
    End,
}

/// Longer signs before their own beginnings.
const SIGNS: &[&[u8]] = &[
    b"...", b"..", b"==", b"~=", b"<=", b">=", b"+", b"-", b"*", b"/", b"%", b"^", b"#", b"<",
    b">", b"=", b"(", b")", b"{", b"}", b"[", b"]", b";", b":", b",", b".",
];

/// Reads tokens one by one.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'s> {
    rest: &'s [u8],
    /// The line of what is read next.
    pub(super) line: u32,
}

impl<'s> Lexer<'s> {
    pub(super) const fn new(text: &'s [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'s>, Why> {
        self.skip()?;
        let Some(&first) = self.rest.first() else {
            return Ok(Token::End);
        };
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Ok(Token::Name(
                self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            )),
            b'0'..=b'9' => Ok(Token::Number(self.number())),
            b'.' if self.rest.get(1).is_some_and(u8::is_ascii_digit) => {
                Ok(Token::Number(self.number()))
            }
            b'\'' | b'"' => self.quoted(first).map(Token::Text),
            b'[' if self.long_level().is_some() => self.long().map(|text| Token::Text(lines(text))),
            _ => {
                let sign = SIGNS.iter().find(|sign| self.rest.starts_with(sign));
                let sign = sign.ok_or(Why::NotLua)?;
                self.advance(sign.len());
                Ok(Token::Sign(sign))
            }
        }
    }

    fn advance(&mut self, count: usize) -> &'s [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        let lines = memchr::memchr_iter(b'\n', taken).count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'s [u8] {
        let count = self.rest.iter().take_while(|byte| belongs(**byte)).count();
        self.advance(count)
    }

    /// White space and comments.
    fn skip(&mut self) -> Result<(), Why> {
        loop {
            self.take_while(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            if !self.rest.starts_with(b"--") {
                return Ok(());
            }
            self.advance(2);
            if self.long_level().is_some() {
                self.long()?;
            } else {
                self.take_while(|byte| !is_break(byte));
            }
        }
    }

    /// As Lua reads it: digits and points, an exponent with its sign, and then letters, among which
    /// no sign belongs to it (`0xe-1` is twelve and two more).
    fn number(&mut self) -> &'s [u8] {
        let run = |from: usize, belongs: fn(u8) -> bool| {
            let rest = self.rest.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|byte| belongs(**byte)).count()
        };
        let is_at =
            |at: usize, signs: &[u8]| self.rest.get(at).is_some_and(|byte| signs.contains(byte));
        let mut end = run(0, |byte| byte.is_ascii_digit() || byte == b'.');
        if is_at(end, b"eE") {
            end += if is_at(end + 1, b"+-") { 2 } else { 1 };
        }
        let end = run(end, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        self.advance(end)
    }

    fn quoted(&mut self, quote: u8) -> Result<Box<[u8]>, Why> {
        self.advance(1);
        let mut text = Vec::new();
        loop {
            match *self.advance(1) {
                [byte] if byte == quote => return Ok(text.into()),
                [] | [b'\n' | b'\r'] => return Err(Why::NotLua),
                [b'\\'] => self.escaped(&mut text)?,
                [byte, ..] => text.push(byte),
            }
        }
    }

    fn escaped(&mut self, text: &mut Vec<u8>) -> Result<(), Why> {
        if self.rest.first().is_some_and(u8::is_ascii_digit) {
            let (mut code, mut digits) = (0_u16, 0);
            while let Some(&digit @ b'0'..=b'9') = self.rest.first()
                && digits < 3
            {
                code = code * 10 + u16::from(digit - b'0');
                digits += 1;
                self.advance(1);
            }
            text.push(u8::try_from(code).map_err(|_| Why::NotLua)?);
            return Ok(());
        }
        let breaks = line_break(self.rest);
        match *self.advance(breaks.max(1)) {
            [] => return Err(Why::NotLua),
            [_, ..] if breaks > 0 => text.push(b'\n'),
            [b'a'] => text.push(7),
            [b'b'] => text.push(8),
            [b't'] => text.push(b'\t'),
            [b'n'] => text.push(b'\n'),
            [b'v'] => text.push(11),
            [b'f'] => text.push(12),
            [b'r'] => text.push(b'\r'),
            [byte, ..] => text.push(byte),
        }
        Ok(())
    }

    /// How many `=` stand in the long bracket that begins here, if one does.
    fn long_level(&self) -> Option<usize> {
        let inside = self.rest.strip_prefix(b"[")?;
        let level = inside.iter().take_while(|byte| **byte == b'=').count();
        (inside.get(level) == Some(&b'[')).then_some(level)
    }

    /// The text of the long bracket that begins here.
    fn long(&mut self) -> Result<&'s [u8], Why> {
        let level = self.long_level().ok_or(Why::NotLua)?;
        self.advance(level + 2);
        let mut from = 0;
        loop {
            let found = memchr::memchr(b']', self.rest.get(from..).ok_or(Why::NotLua)?);
            let at = from + found.ok_or(Why::NotLua)?;
            let behind = self.rest.get(at + 1..).ok_or(Why::NotLua)?;
            let equals = behind.iter().take_while(|byte| **byte == b'=').count();
            if equals == level && behind.get(level) == Some(&b']') {
                let text = self.advance(at);
                self.advance(level + 2);
                return Ok(text);
            }
            from = at + 1;
        }
    }
}

/// What ends a line, and so a comment. Each of them does, and the two together end one.
const fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Length of the line break with which `text` begins.
fn line_break(text: &[u8]) -> usize {
    match *text {
        [b'\n', b'\r', ..] | [b'\r', b'\n', ..] => 2,
        [first, ..] if is_break(first) => 1,
        _ => 0,
    }
}

/// The text between long brackets as Lua has it: every line break is `\n`, and one directly behind
/// the bracket does not count.
fn lines(text: &[u8]) -> Box<[u8]> {
    let mut rest = text.get(line_break(text)..).unwrap_or_default();
    let mut out = Vec::with_capacity(rest.len());
    while let Some(&first) = rest.first() {
        let breaks = line_break(rest);
        out.push(if breaks > 0 { b'\n' } else { first });
        rest = rest.get(breaks.max(1)..).unwrap_or_default();
    }
    out.into()
}
