//! Of which types a command's reply can be: any other was meant for another request, and ends the
//! link that it came on. Claimed only for commands of which it is sure; errors are always possible.

/// A set of RESP types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers(u16);

/// Every type.
const TYPES: [u8; 15] = *b"+-:$*_#,(=~%|!>";

/// The place of each type in a set.
const BITS: [u16; 256] = bits();

impl Answers {
    /// Nothing is claimed.
    pub const ANY: Self = Self(u16::MAX);

    /// Those that begin with these bytes, and errors.
    #[expect(clippy::indexing_slicing, reason = "of rows that were generated")]
    pub(super) const fn of(types: &[u8]) -> Self {
        let mut set = BITS[b'-' as usize] | BITS[b'!' as usize];
        let mut at = 0;
        while at < types.len() {
            set |= BITS[types[at] as usize];
            at += 1;
        }
        Self(set)
    }

    /// True if a reply may begin with this byte.
    #[inline]
    pub fn allow(self, first: u8) -> bool {
        self.0 & BITS.get(usize::from(first)).copied().unwrap_or(0) != 0
    }
}

#[expect(clippy::indexing_slicing, reason = "counted to its length, when nearside is built")]
const fn bits() -> [u16; 256] {
    let mut bits = [0; 256];
    let mut at = 0;
    while at < TYPES.len() {
        bits[TYPES[at] as usize] = 1 << at;
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use crate::command::by_name;

    #[test]
    fn types_and_errors_are_allowed_where_they_are_known() {
        let get = by_name("get").unwrap().answers;
        for (first, is_allowed) in
            [(b'$', true), (b'_', true), (b'-', true), (b'!', true), (b':', false), (b'x', false)]
        {
            assert_eq!(get.allow(first), is_allowed, "{}", first as char);
        }
        assert!(Answers::ANY.allow(b'%') && !Answers::ANY.allow(b'x'));
        assert_eq!(by_name("eval").unwrap().answers, Answers::ANY);
    }
}
