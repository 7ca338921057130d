//! What the scripted upstream is told to do, row by row, and what is to come of it.

use crate::verbs::{End, Verb};

/// What the culprit asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Get,
    /// Key by key, in one request upstream.
    Mget,
    /// A read that is only passed on.
    Exists,
    Append,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// An error, a closed connection, or the right answer: never another's.
    NothingWrong,
    /// As that; between the fault and its proof clients may be told what is wrong
    /// (`verify = "fills"`), and nothing of it is kept.
    Proof,
    /// The right answer, and nobody notices.
    Answer,
    /// The server's own words, and nobody else notices.
    Words,
    /// What the documentation says cannot be told.
    Undetectable,
}

use Asks::{Append, Exists, Get, Mget};
use Comes::{Answer, NothingWrong, Proof, Undetectable, Words};

pub(crate) struct Strike {
    pub(crate) row: &'static str,
    pub(crate) what: &'static str,
    pub(crate) verb: fn() -> Verb,
    pub(crate) asks: Asks,
    pub(crate) comes: Comes,
    pub(crate) proto: u8,
    /// True if nothing of the others is out when it strikes.
    pub(crate) is_calm: bool,
}

impl Strike {
    const fn new(row: &'static str, what: &'static str, comes: Comes, verb: fn() -> Verb) -> Self {
        Self { row, what, verb, asks: Get, comes, proto: 2, is_calm: false }
    }

    const fn over_resp3(self) -> Self {
        Self { proto: 3, ..self }
    }

    const fn of_a_write(self) -> Self {
        self.of(Append)
    }

    const fn of(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    const fn when_calm(self) -> Self {
        Self { is_calm: true, ..self }
    }
}

/// In their order.
pub(crate) fn strikes() -> Vec<Strike> {
    let s = Strike::new;
    let mut all = vec![
        s("F03", "an answer late by 0.5 s", Answer, || Verb::Delay(500)),
        s("F03", "an answer by drops", Answer, || Verb::Drip(3, 2)),
        s("F03", "an answer in pieces", Answer, || Verb::Split(4)),
        s("F04", "an answer after the timeout", NothingWrong, || Verb::Delay(2500)),
        s("F04", "the answer to a write after the timeout", NothingWrong, || Verb::Delay(2500))
            .of_a_write(),
        s("F05", "a cut answer, FIN", NothingWrong, || Verb::Truncate(7, End::Fin)),
        s("F06", "a cut answer, RST", NothingWrong, || Verb::Truncate(7, End::Rst)),
        s("F07", "RST after a write", NothingWrong, || Verb::Close(End::Rst)).of_a_write(),
        s("F07", "FIN after a write", NothingWrong, || Verb::Close(End::Fin)).of_a_write(),
        s("F08", "FIN in place of an answer", NothingWrong, || Verb::Close(End::Fin)),
        s("F08", "FIN in place of an answer, a read alone", Answer, || Verb::Close(End::Fin))
            .when_calm(),
        s("F08", "FIN in place of an answer, an MGET alone", Answer, || Verb::Close(End::Fin))
            .of(Mget)
            .when_calm(),
        s("F08", "FIN in place of an answer, a read that is not cached", NothingWrong, || {
            Verb::Close(End::Fin)
        })
        .of(Exists)
        .when_calm(),
    ];
    all.extend(malformed());
    all.extend(out_of_order());
    all.extend(refusals());
    all
}

fn malformed() -> Vec<Strike> {
    let s = |row, what, verb| Strike::new(row, what, NothingWrong, verb);
    vec![
        s("F09", "garbage", || raw(b"hello world\r\n")),
        s("F09", "an unknown type", || raw(b"?1\r\n")),
        s("F09", "zeros", || raw(&[0; 64])),
        s("F10", "`$-5`", || raw(b"$-5\r\n")),
        s("F10", "`*-5`", || raw(b"*-5\r\n")),
        s("F11", "`$abc`", || raw(b"$abc\r\n")),
        s("F11", "`$01`", || raw(b"$01\r\na\r\n")),
        s("F11", "`$+1`", || raw(b"$+1\r\na\r\n")),
        s("F11", "`:abc`", || raw(b":abc\r\n")),
        s("F12", "a bulk that does not end with CRLF", || raw(b"$3\r\nabcXY")),
        s("F13", "a header of 1 GB, and nothing", || raw(b"$1073741824\r\n")),
        s("F13", "a header of 1 GB, and nothing, all quiet", || raw(b"$1073741824\r\n"))
            .when_calm(),
        s("F14", "a header of 9e18", || raw(b"$9223372036854775807\r\n")),
        s("F14", "an array of 2^31", || raw(b"*2147483648\r\n")),
        s("F14", "a header of 9e18, all quiet", || raw(b"$9223372036854775807\r\n")).when_calm(),
        s("F14", "an array of 2^31, all quiet", || raw(b"*2147483648\r\n")).when_calm(),
        s("F15", "100,000 arrays in each other", || raw(&b"*1\r\n".repeat(100_000))),
        s("F15", "1,000,000 arrays in each other", || raw(&b"*1\r\n".repeat(1_000_000))),
    ]
}

fn raw(bytes: &[u8]) -> Verb {
    Verb::Raw(bytes.to_vec())
}

fn out_of_order() -> Vec<Strike> {
    let s = Strike::new;
    const STRAY: &[u8] = b"$5\r\nstray\r\n";
    const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n";
    vec![
        s("F16", "an answer lost", Proof, || Verb::DropReply),
        s("F16", "the answer to a write lost", Proof, || Verb::DropReply).of_a_write(),
        s("F17", "an answer too many", Proof, || Verb::ExtraReply(STRAY)),
        s("F17", "an answer too many, all quiet", Proof, || Verb::ExtraReply(STRAY)).when_calm(),
        s("F18", "two answers that change places", Undetectable, || Verb::SwapNext),
        s("F19", "an answer twice", Proof, || Verb::DupReply),
        s("F20", "a number for a text", NothingWrong, || raw(b":1\r\n")),
        s("F20", "an array for a text", NothingWrong, || raw(b"*0\r\n")),
        s("F20", "a text for a number", NothingWrong, || raw(b"$1\r\na\r\n")).of_a_write(),
        s("F21", "a push on a link of RESP3", Answer, || Verb::Push(PUSH)).over_resp3(),
        s("F21", "a push on a link of RESP2", NothingWrong, || Verb::Push(PUSH)),
        s("F22", "a map of RESP3 on a link of RESP2", NothingWrong, || {
            raw(b"%1\r\n$1\r\na\r\n$1\r\nb\r\n")
        }),
        s("F22", "a null of RESP3 on a link of RESP2", NothingWrong, || raw(b"_\r\n")),
        s("F16", "a link hangs", NothingWrong, || Verb::Hang),
        s("F16", "a link is not read any more", NothingWrong, || Verb::StopReading),
    ]
}

/// Errors of the server. That of a write was not executed.
fn refusals() -> Vec<Strike> {
    let s = Strike::new;
    type Refused = (&'static str, &'static str, fn() -> Verb);
    let refused: [Refused; 12] = [
        ("F23", "`-LOADING`", || Verb::Error("LOADING Redis is loading the dataset in memory")),
        ("F24", "`-READONLY`", || {
            Verb::Error("READONLY You can't write against a read only replica.")
        }),
        ("F25", "`-OOM`", || {
            Verb::Error("OOM command not allowed when used memory > 'maxmemory'.")
        }),
        ("F25", "`-MISCONF`", || Verb::Error("MISCONF Redis is configured to save RDB snapshots")),
        ("F25", "`-NOREPLICAS`", || Verb::Error("NOREPLICAS Not enough good replicas to write.")),
        ("F26", "`-BUSY`", || Verb::Error("BUSY Redis is busy running a script.")),
        ("F27", "`-MASTERDOWN`", || Verb::Error("MASTERDOWN Link with MASTER is down")),
        ("F27", "`-CLUSTERDOWN`", || Verb::Error("CLUSTERDOWN The cluster is down")),
        ("F27", "`-TRYAGAIN`", || {
            Verb::Error("TRYAGAIN Multiple keys request during rehashing of slot")
        }),
        ("F28", "`-MOVED`", || Verb::Error("MOVED 1 127.0.0.1:1")),
        ("F28", "`-ASK`", || Verb::Error("ASK 1 127.0.0.1:1")),
        ("F29", "`-NOPERM`", || Verb::Error("NOPERM this user has no permissions")),
    ];
    let both =
        |(row, what, verb)| [s(row, what, Words, verb), s(row, what, Words, verb).of_a_write()];
    refused.into_iter().flat_map(both).collect()
}
