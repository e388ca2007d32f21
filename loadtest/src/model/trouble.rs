//! What goes wrong with single answers, as a script asks for it.

use serde::{Deserialize, Serialize};

/// Something that goes wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// What.
    pub what: Mishap,
    /// How many times; after that the answer is given as if nothing had been.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

impl Trouble {
    /// Something that goes wrong the first time only.
    #[must_use]
    pub fn once(what: Mishap) -> Self {
        Self { what, times: 1 }
    }
}

/// A way in which an answer goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mishap {
    /// `response.done` says `failed` right after `response.created`, without an `error` event.
    Failed {
        /// The code in `status_details.error`: `server_error`, `rate_limit_exceeded`.
        code: String,
    },
    /// The answer stops by itself: `response.done` says `incomplete`.
    Incomplete {
        /// Why.
        reason: Stopped,
        /// How much of its audio is made, in milliseconds.
        after_ms: u64,
    },
    /// `response.created`, and then nothing until it is cancelled.
    Silence,
    /// An `error` event in the place of the answer.
    Error {
        /// Its code: `server_error`.
        code: String,
    },
    /// The connection ends in the middle of the answer.
    Leave {
        /// How.
        how: Leave,
        /// When, in milliseconds after `response.created`.
        after_ms: u64,
        /// For how long nobody is let in again (503), in milliseconds.
        #[serde(default)]
        away_ms: u64,
    },
}

/// Why an answer stops by itself, as `status_details.reason` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The bound of tokens was reached.
    MaxOutputTokens,
    /// A filter did not like it.
    ContentFilter,
}

impl Stopped {
    /// The reason's text.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MaxOutputTokens => "max_output_tokens",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// How a connection ends that the service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// The socket is reset: no close, no FIN.
    Reset,
    /// The socket is closed without a word of WebSocket's.
    Vanish,
    /// A close with this code.
    Close(u16),
    /// The session has reached its limit: an error `session_expired`, then a close with 1001.
    Expire,
}
