//! What the scripted upstream does with the reply to a request that is to be struck.

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Rst,
}

/// What happens. All of it happens after the request was executed, but for the last.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    /// It comes late, and with it all behind it, by so many milliseconds.
    Delay(u64),
    /// It comes by so many bytes, with a pause of so many milliseconds between them.
    Drip(usize, u64),
    /// It comes in so many pieces.
    Split(usize),
    /// It never comes; what is behind it does.
    DropReply,
    /// Behind it comes another that nobody asked for.
    ExtraReply(&'static [u8]),
    /// It comes twice.
    DupReply,
    /// The next reply of this connection comes first.
    SwapNext,
    /// Something else comes in its place.
    Raw(Vec<u8>),
    /// Something that nobody asked for comes before it.
    Push(&'static [u8]),
    /// Its first bytes come, and then the end.
    Truncate(usize, End),
    /// The end comes.
    Close(End),
    /// Nothing comes any more on this connection, which stays open.
    Hang,
    /// Nothing comes any more, and nothing is read.
    StopReading,
    /// It is refused in these words, and not executed.
    Error(&'static str),
}
