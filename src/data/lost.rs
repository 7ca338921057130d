//! Requests that get no answer: why, and what their clients are told of it. Two texts that nothing
//! else has: nothing was executed, or nobody knows.

use crate::wire::write;
use bytes::BytesMut;

/// What has become of a request whose link is gone.
pub const LINK_BROKE: &str = "the upstream link broke";

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It never left: nothing was executed.
    NotExecuted(&'static str),
    /// It may have been executed.
    OutcomeUnknown(&'static str),
    /// It never left: the server runs a script and opens no connection meanwhile. Whatever
    /// `on_down` says, this is what the server would have answered.
    Busy,
    /// It never left: upstream wants credentials. Whatever `on_down` says, as with the next, this
    /// is what the server would have answered.
    NoAuth,
    /// It never left: upstream does not let this user select its database.
    NoSelect,
}

impl Lost {
    /// True if it is told in the server's words.
    pub const fn is_said(self) -> bool {
        matches!(self, Self::Busy | Self::NoAuth | Self::NoSelect)
    }

    /// As it must be said of a command before which something else was asked.
    #[must_use]
    pub const fn beforehand(self) -> Self {
        match self {
            Self::NotExecuted(why) | Self::OutcomeUnknown(why) => Self::NotExecuted(why),
            said => said,
        }
    }

    /// As it must be said of a command of which an earlier step was executed.
    #[must_use]
    pub const fn in_part(self) -> Self {
        match self {
            Self::NotExecuted(why) | Self::OutcomeUnknown(why) => Self::OutcomeUnknown(why),
            said => said,
        }
    }
}

/// The error text of a lost request, where `on_down = "error"`.
#[cold]
pub fn lost_text(lost: Lost) -> BytesMut {
    let mut out = BytesMut::new();
    let text = match lost {
        Lost::NotExecuted(why) => format!("ERR proxy: not executed: {why}"),
        Lost::Busy => "BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                       SHUTDOWN NOSAVE."
            .to_owned(),
        Lost::NoAuth => "NOAUTH Authentication required.".to_owned(),
        Lost::NoSelect => {
            "NOPERM this user has no permissions to run the 'select' command".to_owned()
        }
        Lost::OutcomeUnknown(why) => format!("ERR proxy: outcome unknown: {why}"),
    };
    write::error(&mut out, text.as_bytes());
    out
}
