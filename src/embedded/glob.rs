//! Glob patterns as `stringmatchlen` in Redis' `util.c` reads them, with its oddities: a bracket
//! that is not closed ends with the pattern, a backslash at the end stands for itself, swapped
//! ranges are put right. Linear in the text for each star, never recursive.

/// Does `text` match `pattern`?
pub(super) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when the part behind the last star does not fit here.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            retry = Some((pattern, text));
            continue;
        }
        let Some((&byte, text_rest)) = text.split_first() else {
            return pattern.is_empty();
        };
        if let Some(rest) = one(pattern, byte, ignore_case) {
            (pattern, text) = (rest, text_rest);
        } else if let Some((behind, from)) = retry
            && let Some((_, shorter)) = from.split_first()
        {
            retry = Some((behind, shorter));
            (pattern, text) = (behind, shorter);
        } else {
            return false;
        }
    }
}

/// The pattern behind its first element, if that element matches `byte`.
fn one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<&[u8]> {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (found, rest) = class(rest, fold(byte), fold);
            found.then_some(rest)
        }
        [b'\\', escaped, rest @ ..] | [escaped, rest @ ..] => {
            (fold(*escaped) == fold(byte)).then_some(rest)
        }
    }
}

/// Whether the class that `pattern` begins (behind its bracket) holds `byte`, and what follows it.
fn class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', escaped, after @ ..] => {
                found |= fold(*escaped) == byte;
                rest = after;
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (*low.min(high), *low.max(high));
                found |= (fold(low)..=fold(high)).contains(&byte);
                rest = after;
            }
            [single, after @ ..] => {
                found |= fold(*single) == byte;
                rest = after;
            }
        }
    }
    (found != negated, rest)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn what_redis_matches() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("[^a]x", "bx", true),
            ("[a", "a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("h**o", "hello", true),
            ("a", "", false),
        ] {
            let found = matches(pattern.as_bytes(), text.as_bytes(), false);
            assert_eq!(found, expected, "{pattern} {text}");
        }
        assert!(matches(b"MAXM*", b"maxmemory", true));
    }
}
