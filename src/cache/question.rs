//! What the cache is asked, and what it is given: everything that decides a reply's bytes, and the
//! bytes.

use crate::cache::Space;
use crate::wire::request::Request;

/// A question to the cache: the key and everything else that decides the reply's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Question<'b> {
    /// The client's key, without version prefix.
    pub key: &'b [u8],
    /// [`crate::cache::Cache::hash`] of `key`.
    pub hash: u64,
    /// The command's row in the table.
    pub command: u16,
    /// Whose database.
    pub space: Space,
    /// 2 or 3 where the reply differs between the protocols, else 0.
    pub proto: u8,
    /// Everything else: the arguments beside the key.
    pub extra: Extra<'b>,
}

/// The arguments of a question beside its key: as they stand in a request, or as
/// [`Extra::write`] wrote them down.
#[derive(Clone, Copy, Debug)]
pub enum Extra<'b> {
    /// The arguments of a request, from this one on.
    Asked(Request<'b>, usize),
    /// Each argument behind its length.
    Written(&'b [u8]),
}

impl<'b> Extra<'b> {
    /// Visits the arguments.
    pub fn each(&self, mut visit: impl FnMut(&'b [u8])) {
        match *self {
            Self::Asked(request, from) => request.from(from).for_each(visit),
            Self::Written(mut written) => {
                while let Some((length, rest)) = written.split_first_chunk::<4>() {
                    let length = u32::from_le_bytes(*length) as usize;
                    let (argument, rest) = rest.split_at_checked(length).unwrap_or_default();
                    visit(argument);
                    written = rest;
                }
            }
        }
    }

    /// Appends the arguments, each behind its length.
    #[inline]
    pub fn write(&self, out: &mut impl Extend<u8>) {
        match self {
            Self::Asked(request, from) => {
                for argument in request.from(*from) {
                    out.extend(length_bytes(argument));
                    out.extend(argument.iter().copied());
                }
            }
            Self::Written(written) => out.extend(written.iter().copied()),
        }
    }

    /// Bytes that [`Self::write`] appends.
    #[inline]
    pub fn written_len(&self) -> usize {
        match self {
            Self::Asked(request, from) => {
                request.from(*from).map(|argument| argument.len() + 4).sum()
            }
            Self::Written(written) => written.len(),
        }
    }

    /// True if `written` is what [`Self::write`] writes.
    #[inline]
    pub fn is(&self, mut written: &[u8]) -> bool {
        match self {
            Self::Asked(request, from) => {
                for argument in request.from(*from) {
                    let Some(rest) = written
                        .strip_prefix(&length_bytes(argument))
                        .and_then(|rest| rest.strip_prefix(argument))
                    else {
                        return false;
                    };
                    written = rest;
                }
                written.is_empty()
            }
            Self::Written(own) => *own == written,
        }
    }
}

fn length_bytes(argument: &[u8]) -> [u8; 4] {
    // Arguments are shorter than a request, which is shorter than 1 GiB.
    u32::try_from(argument.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A reply to store or compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// The bytes, ready to be sent.
    Bytes(&'b [u8]),
    /// Nil: written as the client's protocol wants it.
    Nil,
}

impl<'b> Reply<'b> {
    /// The bytes of a value; none for nil.
    pub fn bytes(self) -> &'b [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Nil => &[],
        }
    }
}
