//! Inline commands: a line as a person types it, turned into the multibulk request it means.
//! Quotes and escapes as `sdssplitargs` in Redis' `sds.c`.

use crate::wire::request::Malformed;
use crate::wire::write;
use bytes::BytesMut;

/// Re-encodes `line` as a multibulk request. An empty line gives an empty buffer.
pub fn to_multibulk(line: &[u8]) -> Result<BytesMut, Malformed> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut rest = line.strip_suffix(b"\n").unwrap_or(line);
    rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() || rest.first() == Some(&0) {
            break;
        }
        let (word, tail) = word(rest)?;
        words.push(word);
        rest = tail;
    }
    let mut out = BytesMut::new();
    if !words.is_empty() {
        write::array(&mut out, words.len());
        for word in &words {
            write::bulk(&mut out, word);
        }
    }
    Ok(out)
}

/// One word from the front, and what follows it.
fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), Malformed> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [0, ..] => return Ok((word, rest)),
            [first, ..] if is_space(*first) => return Ok((word, rest)),
            [quote @ (b'"' | b'\''), tail @ ..] => {
                rest = quoted(*quote, tail, &mut word)?;
                // A closing quote must be followed by a space or the end.
                if let [next, ..] = rest
                    && !is_space(*next)
                    && *next != 0
                {
                    return Err(Malformed::Quotes);
                }
                return Ok((word, rest));
            }
            [first, tail @ ..] => {
                word.push(*first);
                rest = tail;
            }
        }
    }
}

/// The inside of a quoted part, up to and over its closing quote.
fn quoted<'l>(quote: u8, mut rest: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], Malformed> {
    loop {
        let (byte, tail) = match (quote, rest) {
            (_, [close, tail @ ..]) if *close == quote => return Ok(tail),
            (_, [] | [0, ..]) => return Err(Malformed::Quotes),
            (b'"', [b'\\', b'x', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) * 16 + hex(*low), tail)
            }
            (b'"', [b'\\', escaped, tail @ ..]) => (unescape(*escaped), tail),
            (b'\'', [b'\\', b'\'', tail @ ..]) => (b'\'', tail),
            (_, [byte, tail @ ..]) => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 11 | 12)
}

#[cfg(test)]
mod tests {
    use super::to_multibulk;
    use crate::wire::request::Malformed;

    #[test]
    fn words_quotes_and_escapes() {
        for (line, multibulk) in [
            ("PING\r\n", "*1\r\n$4\r\nPING\r\n"),
            ("  set  a\tb \n", "*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("a \"b\\x41\\n\"\n", "*2\r\n$1\r\na\r\n$3\r\nbA\n\r\n"),
            ("a 'it\\'s'\n", "*2\r\n$1\r\na\r\n$4\r\nit's\r\n"),
            ("\"\\r\\t\\b\\a\\q\\x4F\\x4f\"\n", "*1\r\n$7\r\n\r\t\u{8}\u{7}qOO\r\n"),
            ("a \"\"\n", "*2\r\n$1\r\na\r\n$0\r\n\r\n"),
            ("\r\n", ""),
        ] {
            assert_eq!(to_multibulk(line.as_bytes()).unwrap(), multibulk.as_bytes(), "{line:?}");
        }
        for line in ["a \"b\n", "a 'b\n", "a \"b\"c\n"] {
            assert_eq!(to_multibulk(line.as_bytes()).unwrap_err(), Malformed::Quotes, "{line:?}");
        }
    }
}
