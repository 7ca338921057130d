//! Of which types a command's reply can be: any other was meant for another request, and ends the
//! link that it came on. Claimed only for commands of which it is sure; errors are always possible.

use crate::wire::write::Proto;

/// A set of RESP types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers(u16);

/// Every type; those of RESP2 first.
const TYPES: [u8; 15] = *b"+-:$*_#,(=~%|!>";

/// The types of RESP2.
const RESP2: u16 = 0b1_1111;

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

    /// True if a reply over `proto` may begin with this byte.
    #[inline]
    pub fn allow(self, first: u8, proto: Proto) -> bool {
        let known = match proto {
            Proto::Resp2 => RESP2,
            Proto::Resp3 => u16::MAX,
        };
        self.0 & known & BITS.get(usize::from(first)).copied().unwrap_or(0) != 0
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
    use crate::wire::write::Proto;

    #[test]
    fn types_and_errors_are_allowed_where_they_are_known() {
        let get = by_name("get").unwrap().answers;
        for (first, resp2, resp3) in [
            (b'$', true, true),
            (b'_', false, true),
            (b'-', true, true),
            (b'!', false, true),
            (b':', false, false),
            (b'*', false, false),
            (b'x', false, false),
        ] {
            assert_eq!(get.allow(first, Proto::Resp2), resp2, "{}", first as char);
            assert_eq!(get.allow(first, Proto::Resp3), resp3, "{}", first as char);
        }
        assert!(Answers::ANY.allow(b'%', Proto::Resp3) && !Answers::ANY.allow(b'%', Proto::Resp2));
        let eval = by_name("eval").unwrap();
        assert_eq!(eval.answers, Answers::ANY);
    }
}
