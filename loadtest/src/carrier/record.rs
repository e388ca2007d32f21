//! What is known of a call afterwards, and while it lives.

use serde::{Deserialize, Serialize};

/// A line of Twilio's debugger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Twilio's error or warning code.
    pub code: u32,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

/// Everything about one call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CallRecord {
    /// Twilio's id of the call.
    pub sid: String,
    /// `inbound` or `outbound-api`.
    pub direction: String,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// `queued`, `ringing`, `in-progress`, `completed` and so on.
    pub status: String,
    /// Whether the call is over and everything about it was posted.
    pub over: bool,
    /// Everything that Twilio's debugger would show; an ordinary call has none.
    pub faults: Vec<Fault>,
    /// What Twilio's debugger shows although nobody did anything wrong: it logs every end of a
    /// stream that the relay's side brings about.
    #[serde(default)]
    pub debugger: Vec<Fault>,
    /// What happened, in order.
    pub notes: Vec<Note>,
    /// What was asked over HTTP, in order.
    pub hooks: Vec<Hook>,
    /// The media streams, in order.
    pub streams: Vec<StreamRecord>,
}

impl CallRecord {
    /// The notes of one kind.
    pub fn what(&self) -> impl Iterator<Item = &What> {
        self.notes.iter().map(|note| &note.what)
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// What.
    pub what: What,
}

/// What can happen in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The call's status changed.
    Status {
        /// To this.
        status: String,
    },
    /// A document was fetched and names these verbs.
    Document {
        /// The verbs in order, as they are written.
        verbs: Vec<String>,
    },
    /// A stream was opened.
    StreamOpened {
        /// Its id.
        stream: String,
    },
    /// The caller began to speak.
    CallerSpeaks {
        /// What is said.
        text: String,
    },
    /// The caller finished speaking.
    CallerFinished,
    /// The caller hears the agent begin to speak.
    AgentHeard,
    /// The caller hears the agent stop: all was played, or it was cut.
    AgentQuiet,
    /// The relay threw away what was not played.
    Cleared {
        /// Speech that was played since the stream began, in milliseconds.
        played_ms: u64,
        /// Speech that was thrown away, in milliseconds.
        dropped_ms: u64,
    },
    /// The caller waited for the agent in vain.
    GaveUp,
    /// The stream ended.
    StreamEnded {
        /// How.
        how: StreamEnd,
    },
    /// `<Say>` was carried out.
    Said {
        /// The words.
        text: String,
    },
    /// `<Dial>` was carried out.
    Dialled {
        /// The number.
        to: String,
    },
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamEnd {
    /// The handshake was not answered with 101.
    Refused {
        /// The status, or 0 when there was no answer at all.
        status: u16,
    },
    /// The relay closed the socket.
    Closed {
        /// The close code; 1005 when there was none.
        code: u16,
    },
    /// The connection was gone without a close.
    Lost,
    /// The caller hung up, or the call was ended by REST.
    HungUp,
    /// The call was given another document.
    Replaced,
    /// The relay broke the protocol, and this fake ended the call.
    Fault,
}

impl StreamEnd {
    /// The line of Twilio's debugger about such an end; `None` where it logs nothing, or a fault of
    /// its own. Source: Twilio, error dictionary 31903 and 31921, read 2026-11-20.
    pub(crate) fn debugger_line(&self) -> Option<Fault> {
        match self {
            Self::Closed { code } => Some(Fault::new(31921, format!("closed with {code}"))),
            Self::Lost => Some(Fault::new(31903, "the connection is gone without a close")),
            Self::Refused { .. } | Self::HungUp | Self::Replaced | Self::Fault => None,
        }
    }
}

/// Something that was asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When it was answered, in microseconds since 1970.
    pub at_us: u64,
    /// The URL as it was configured, without the fragment.
    pub url: String,
    /// `GET` or `POST`.
    pub method: String,
    /// The form, or nothing.
    pub params: Vec<(String, String)>,
    /// The value of `X-Twilio-Signature`.
    pub signature: String,
    /// The value of `I-Twilio-Idempotency-Token`; the same on retries.
    pub idempotency_token: String,
    /// The status of the answer, 0 when there was none.
    pub status: u16,
    /// How many times it was tried.
    pub attempts: u32,
    /// The answer, where it is a document.
    pub twiml: Option<String>,
}

impl Hook {
    /// A field of the form.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One media stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Twilio's id of the stream.
    pub sid: String,
    /// The URL, as the document wrote it.
    pub url: String,
    /// The parameters of the document.
    pub parameters: Vec<(String, String)>,
    /// When it was open, in microseconds since 1970; 0 when it never was.
    pub opened_at_us: u64,
    /// Frames that were sent to the relay.
    pub frames_sent: u64,
    /// Media messages of the relay.
    pub media_received: u64,
    /// Audio of the relay, in milliseconds.
    pub received_ms: u64,
    /// Audio of the relay that was played, in milliseconds.
    pub played_ms: u64,
    /// The most audio that waited to be played, in milliseconds.
    pub queued_ms_max: u64,
    /// Marks that were echoed.
    pub marks_echoed: u64,
    /// How late a frame was sent at worst, in milliseconds.
    pub late_ms_max: u64,
    /// How it ended.
    pub end: Option<StreamEnd>,
    /// What the caller said, 8 bytes a millisecond. Not in JSON.
    #[serde(skip)]
    pub caller_audio: Vec<u8>,
    /// What the caller heard, silence included, 8 bytes a millisecond. Not in JSON.
    #[serde(skip)]
    pub agent_audio: Vec<u8>,
    /// The bytes of the relay's media messages, joined. Not in JSON.
    #[serde(skip)]
    pub received_audio: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_that_is_not_the_callers_stands_in_the_debugger() {
        let code = |end: StreamEnd| end.debugger_line().map(|line| line.code);
        assert_eq!(code(StreamEnd::Closed { code: 1000 }), Some(31921));
        assert_eq!(code(StreamEnd::Lost), Some(31903));
        assert_eq!(code(StreamEnd::HungUp), None);
    }
}
