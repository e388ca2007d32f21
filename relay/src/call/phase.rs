//! Where a call is in its life.

use link::event::EndReason;

use super::input::RecordId;

/// The phase of a call.
///
/// ```text
/// Announced --started--> Live <--the caller speaks-- Goodbye
///                         |  \----the agent says it----^  |
///                         |                               | heard
///                         +--the agent fails--> Sorry ----+--> Recording --> Over
///                         +--hang up, time limit ---------^        ^
///                                                        committed, or 300 ms
/// ```
///
/// | phase | media up | the agent speaks | ends by |
/// |---|---|---|---|
/// | `Announced` | | | |
/// | `Live` | yes | yes | goodbye, failure, command, limit |
/// | `Goodbye` | yes | yes | its last mark, a time-out; the caller may call it off |
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
    /// The agent wants to hang up once the caller has heard what it says.
    Goodbye(Goodbye),
    /// The agent is gone, and the caller hears that we are sorry.
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
    /// The answer that says it.
    pub(super) response: Box<str>,
    /// The service's id of the request to hang up.
    pub(super) call: Box<str>,
    /// Whether all of it is here.
    pub(super) saying: Saying,
}

/// Whether a goodbye is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saying {
    /// The answer runs.
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
}

impl Ending {
    /// An end that says all by its reason.
    pub(super) fn new(reason: EndReason) -> Self {
        Self { reason, detail: None }
    }
}

impl Phase {
    /// Whether the agent is part of the call.
    pub(super) fn hears_agent(&self) -> bool {
        match self {
            Self::Live | Self::Goodbye(_) => true,
            Self::Announced | Self::Sorry(_) | Self::Recording { .. } | Self::Over => false,
        }
    }

    /// Whether the caller hears what waits in the playout.
    pub(super) fn is_heard(&self) -> bool {
        match self {
            Self::Live | Self::Goodbye(_) | Self::Sorry(_) => true,
            Self::Announced | Self::Recording { .. } | Self::Over => false,
        }
    }
}
