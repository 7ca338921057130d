//! What clients did and saw: one record per register and operation.
//!
//! A *register* is what has versions of its own: a string, a field of a hash, the length of a
//! list. Its number tells the key (slot), the half of it (a field, a key of a pair), and the
//! incarnation: the name changes when what it held was wiped away, so that no version comes twice.

/// What a read says of something that is not there.
pub(crate) const NIL: u32 = u32::MAX;

/// The return of a write whose outcome nobody knows.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Where a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the first proxy.
    First = 0,
    /// Through the second.
    Second = 1,
    /// To the server.
    Direct = 2,
}

pub(crate) const ROUTES: [Route; 3] = [Route::First, Route::Second, Route::Direct];

/// Which cached reply of a key a read asks for: what two of them say may differ for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// GET, HGET, LLEN, STRLEN.
    Main = 0,
    /// GETRANGE, HGETALL, GET of what is appended to.
    Other = 1,
    /// MGET.
    Many = 2,
    /// HGETALL in RESP3, whose reply is another one than in RESP2.
    Map = 3,
    /// In a transaction: never from the cache.
    Server = 4,
}

/// How many variants the cache answers.
pub(crate) const CACHED: usize = 4;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Read(Variant),
    /// The server's reply is the version.
    Step,
    /// The writer chose the version; with a life in milliseconds, or 0.
    Set(u16),
    /// Likewise, and nothing is there afterwards.
    Delete,
}

/// One operation on one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) register: u32,
    pub(crate) session: u16,
    pub(crate) what: What,
    /// What was read or written; [`NIL`]; 0 if unknown.
    pub(crate) version: u32,
    /// Nanoseconds of the one clock: before the request was sent, and after its reply was read.
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
}

/// Everything was wiped away: by whom that must be seen, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wipe {
    /// The slot's incarnation that ended.
    pub(crate) register: u32,
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
    /// Routes whose clients have the answer to what wiped.
    pub(crate) known: [bool; 3],
    /// Routes on which the bound of staleness holds for it.
    pub(crate) bounded: [bool; 3],
    /// A proxy's workers take it up one after the other: until it has returned, what the clients of
    /// one see need not be so for those of another.
    pub(crate) is_gradual: bool,
}

/// What one phase leaves behind.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) records: Vec<Record>,
    pub(crate) wipes: Vec<Wipe>,
    /// The route of each session.
    pub(crate) routes: Vec<Route>,
    /// Requests that ended with an error or without a reply: when they were sent and failed.
    pub(crate) errors: Vec<(u64, u64, String)>,
    /// Values that nobody wrote, and answers that never came.
    pub(crate) absurd: Vec<String>,
    /// MGETs that saw half of an MSET; and transactions that did.
    pub(crate) torn: [u64; 2],
}

impl History {
    /// Takes what another client has seen.
    pub(crate) fn merge(&mut self, other: Self) {
        self.records.extend(other.records);
        self.wipes.extend(other.wipes);
        self.errors.extend(other.errors);
        self.absurd.extend(other.absurd);
        for (sum, more) in self.torn.iter_mut().zip(other.torn) {
            *sum += more;
        }
    }
}
