//! What is known of a value that a script has at hand, without running it.

/// What an expression may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'s> {
    /// Nothing yet: its code has not been seen to run.
    Never,
    /// Nil or false, which no command takes.
    Nil,
    /// This string or number.
    Text(&'s [u8]),
    /// Anything in which no key's name is.
    Data,
    /// An element of `KEYS`.
    Key,
    /// `KEYS`.
    Keys,
    /// `redis`, or `server`.
    Api,
    /// `redis.call`, or `redis.pcall`.
    Command,
    /// `redis.register_function`.
    Register,
    /// The function of this number.
    Function(usize),
    /// More than one of these.
    Mixed,
}

impl Value<'_> {
    /// What may be either.
    #[expect(clippy::match_same_arms, reason = "nothing gives way to nil, so it comes first")]
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Never, value) | (value, Self::Never) => value,
            (Self::Nil, value) | (value, Self::Nil) => value,
            (Self::Text(_) | Self::Data, Self::Text(_) | Self::Data) => Self::Data,
            _ => Self::Mixed,
        }
    }
}
