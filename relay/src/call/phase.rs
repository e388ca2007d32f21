//! Where a call is in its life.

use ::link::event::EndReason;
use ::link::tool::Address;

use super::input::RecordId;

/// The phase of a call.
///
/// ```text
/// Announced --started--> Live <--the caller speaks-- Goodbye
///     |                   |  \--the agent, a limit-----^  |
///     |                   |                               | heard
///     |                   +--no agent--> Sorry -----------+--> Recording --> Over
///     |                   +--hang up, transfer ----------------^        ^
///     +--nobody comes----------------------------------------------------/
///                                                        committed, or 300 ms
/// ```
///
/// | phase | media up | the agent speaks | ends by |
/// |---|---|---|---|
/// | `Announced` | | made, not heard | its caller, a time-out |
/// | `Live` | yes | yes | goodbye, failure, command, limit |
/// | `Goodbye` | yes | yes | its last mark, a time-out; the caller may call a hang-up off |
/// | `Sorry` | dropped | gone | its last mark, a time-out |
/// | `Recording` | dropped | not heard | the commit, a time-out |
/// | `Over` | | | |
///
/// The caller's stop, its loss, a drain and a newer generation end every phase at once.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is known, and its caller is not here yet.
    Announced,
    /// The caller and the agent speak.
    Live,
    /// The call ends once the caller has heard what the agent says.
    Goodbye(Goodbye),
    /// There is no agent, and the caller hears that we are sorry.
    Sorry(Ending),
    /// The end is decided, and control commits it.
    Recording {
        /// The decision's number.
        record: RecordId,
        /// What was decided.
        ending: Ending,
    },
    /// Nothing follows.
    Over,
}

/// A goodbye that is being said.
#[derive(Debug)]
pub(super) struct Goodbye {
    /// The answer that says it; `None` while it has not begun.
    pub(super) response: Option<Box<str>>,
    /// Whether all of it is here.
    pub(super) saying: Saying,
    /// What follows.
    pub(super) next: Next,
}

/// What follows a goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The agent hangs up; the caller may call it off.
    HangUp {
        /// The service's id of the request.
        call: Box<str>,
    },
    /// The caller is connected to somebody else.
    Transfer(Address),
    /// A limit of the call was reached.
    Limit(EndReason),
}

/// Whether a goodbye is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saying {
    /// The answer runs, or is to begin.
    Unfinished,
    /// The answer is over: what is here is all.
    Finished,
}

/// Why a call ends, and what an operator can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: EndReason,
    /// A code of the agent's service, for instance.
    pub(super) detail: Option<Box<str>>,
    /// Whom the caller is connected to next.
    pub(super) transfer_to: Option<Address>,
}

impl Ending {
    /// An end that says all by its reason.
    pub(super) fn new(reason: EndReason) -> Self {
        Self { reason, detail: None, transfer_to: None }
    }

    /// The agent's part ends, and the caller is connected to somebody else.
    pub(super) fn transfer(to: Address) -> Self {
        Self { reason: EndReason::Transferred, detail: None, transfer_to: Some(to) }
    }
}

impl From<Next> for Ending {
    fn from(next: Next) -> Self {
        match next {
            Next::HangUp { .. } => Self::new(EndReason::AgentHungUp),
            Next::Transfer(to) => Self::transfer(to),
            Next::Limit(reason) => Self::new(reason),
        }
    }
}

impl Phase {
    /// Whether the agent is part of the call.
    pub(super) fn hears_agent(&self) -> bool {
        match self {
            Self::Announced | Self::Live | Self::Goodbye(_) => true,
            Self::Sorry(_) | Self::Recording { .. } | Self::Over => false,
        }
    }

    /// Whether the caller hears what waits in the playout.
    pub(super) fn is_heard(&self) -> bool {
        match self {
            Self::Live | Self::Goodbye(_) | Self::Sorry(_) => true,
            Self::Announced | Self::Recording { .. } | Self::Over => false,
        }
    }

    /// Whether the caller and the agent are free to speak.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }
}
