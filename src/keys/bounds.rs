//! Which keys clients may name: how long, and of which bytes (`max_key_length`, `forbidden_bytes`).
//!
//! In: what is written of it, and a key. Out: fine, or what is wrong with it. Nearly everywhere
//! there is no bound: whoever asks of many keys asks first whether there is any.

use std::ops::RangeInclusive;

/// The bounds of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyBounds {
    /// The longest key; 0 = any length.
    pub longest: usize,
    /// What no key may have in it.
    pub forbidden: ByteSet,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is longer than this.
    Long(usize),
    /// It has this byte, here.
    Byte(u8, usize),
}

/// Some of all bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSet([u64; 4]);

impl KeyBounds {
    /// True if every key is fine.
    #[inline]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a key is fine.
    pub fn check(&self, key: &[u8]) -> Result<(), Unfit> {
        if self.longest > 0 && key.len() > self.longest {
            return Err(Unfit::Long(self.longest));
        }
        match key.iter().enumerate().find(|(_, byte)| self.forbidden.has(**byte)) {
            None => Ok(()),
            Some((at, byte)) => Err(Unfit::Byte(*byte, at)),
        }
    }
}

impl ByteSet {
    /// Adds what a word means: a class, a character, `0x7f`, or `0x00-0x1f`. False: nothing.
    #[must_use]
    pub fn add(&mut self, word: &str) -> bool {
        let is_of_class: fn(&u8) -> bool = match word {
            "control" => u8::is_ascii_control,
            "whitespace" => |byte| byte.is_ascii_whitespace() || *byte == b'\x0b',
            "non_ascii" => |byte| !byte.is_ascii(),
            _ => return range(word).is_some_and(|range| self.extend(range)),
        };
        self.extend((0..=u8::MAX).filter(is_of_class))
    }

    fn extend(&mut self, bytes: impl IntoIterator<Item = u8>) -> bool {
        bytes.into_iter().for_each(|byte| self.insert(byte));
        true
    }

    fn insert(&mut self, byte: u8) {
        if let Some(bits) = self.0.get_mut(usize::from(byte >> 6)) {
            *bits |= 1 << (byte & 63);
        }
    }

    #[inline]
    fn has(self, byte: u8) -> bool {
        let [a, b, c, d] = self.0;
        let bits = match byte >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        bits >> (byte & 63) & 1 == 1
    }
}

/// One character, one byte, or several.
fn range(word: &str) -> Option<RangeInclusive<u8>> {
    if let [byte @ b' '..=b'~'] = *word.as_bytes() {
        return Some(byte..=byte);
    }
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = hex(first)?..=hex(last)?;
    (!range.is_empty()).then_some(range)
}

/// `0x0a`.
fn hex(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 2)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::{ByteSet, KeyBounds, Unfit};

    fn bytes(words: &[&str]) -> Vec<u8> {
        let mut set = ByteSet::default();
        assert!(words.iter().all(|word| set.add(word)), "{words:?}");
        (0..=u8::MAX).filter(|byte| set.has(*byte)).collect()
    }

    #[test]
    fn words_mean_bytes() {
        assert_eq!(bytes(&["{", "-", "0x7f", "0x30-0x32"]), b"-012{\x7f");
        assert_eq!(bytes(&["whitespace"]), b"\t\n\x0b\x0c\r ");
        assert_eq!(bytes(&["non_ascii"]), (0x80..=0xff).collect::<Vec<u8>>());
        let control = bytes(&["control"]);
        assert_eq!((control.len(), control.last()), (33, Some(&0x7f)));
        assert_eq!(bytes(&["0xfF"]), b"\xff");
        for word in ["", "ab", "0x", "0x1", "0x100", "0x20-0x10", "0x+1", "\u{e9}", "\n", "Control"]
        {
            assert!(!ByteSet::default().add(word), "{word:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let mut bounds = KeyBounds::default();
        assert!(bounds.are_none() && bounds.check(&[0; 1000]).is_ok());
        bounds.longest = 3;
        assert!(bounds.forbidden.add("control") && !bounds.are_none());
        assert_eq!(bounds.check(b"abc"), Ok(()));
        assert_eq!(bounds.check(b"abcd"), Err(Unfit::Long(3)));
        assert_eq!(bounds.check(b"a\nb"), Err(Unfit::Byte(b'\n', 1)));
        assert_eq!(bounds.check(b""), Ok(()));
    }
}
