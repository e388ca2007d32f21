//! Vendors' words: how the messages of a call are written on each leg, and how they are read.
//!
//! Everything that names a vendor is in this folder. Nothing here decides anything: text comes
//! in and is an event, a message comes in and is text. What is known and of no use, and what is
//! unknown, is ignored; what is broken is said to be malformed.
//!
//! One file a vendor: [`opening`] and [`twilio`] for the caller's leg, [`openai_realtime`] for the
//! agent's. Two hot shapes, the caller's `media` and the agent's audio delta, are read in place by
//! a cursor (`scan`) that gives up at the first surprise; then serde reads the whole text.

pub mod knock;
pub mod openai_realtime;
pub mod opening;
pub mod twilio;

mod loss;
mod scan;

use std::sync::Arc;

use link::agent::{AgentSpec, Provider};
use link::secret::Secret;

use crate::call::input::{AgentEvent, CallerEvent};
use crate::call::output::{AgentMessage, CallerMessage};

pub use self::loss::{handshake_loss, loss};

use self::openai_realtime::OpenaiRealtime;
use self::twilio::Twilio;

/// What is said to a carrier's stream, in its words. One per stream.
#[derive(Debug)]
pub enum CallerWire {
    /// Twilio Media Streams.
    Twilio(Twilio),
}

/// Which words a carrier speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerDialect {
    /// Twilio Media Streams.
    Twilio,
}

impl CallerWire {
    /// The words for a stream.
    #[must_use]
    pub fn new(stream_sid: &str) -> Self {
        Self::Twilio(Twilio::new(stream_sid))
    }

    /// How to read what the carrier says.
    #[must_use]
    pub fn dialect(&self) -> CallerDialect {
        match self {
            Self::Twilio(_) => CallerDialect::Twilio,
        }
    }

    /// Writes a message as the text of one frame onto the end of `text`.
    pub fn write(&self, message: &CallerMessage<'_>, text: &mut Vec<u8>) {
        match self {
            Self::Twilio(wire) => wire.write(message, text),
        }
    }
}

impl CallerDialect {
    /// Reads one message, and lets `hear` have what it means, if it means anything.
    pub fn read(self, text: &str, hear: impl FnOnce(CallerEvent<'_>)) {
        match self {
            Self::Twilio => twilio::read(text, hear),
        }
    }
}

/// What is said to an agent's service, in its words. One per socket: it numbers messages.
#[derive(Debug)]
pub enum AgentWire {
    /// OpenAI Realtime.
    OpenaiRealtime(OpenaiRealtime),
}

/// Which words an agent's service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentDialect {
    /// OpenAI Realtime.
    OpenaiRealtime,
}

impl AgentWire {
    /// The words for an agent.
    #[must_use]
    pub fn new(agent: Arc<AgentSpec>) -> Self {
        match agent.provider {
            Provider::OpenaiRealtime { .. } => Self::OpenaiRealtime(OpenaiRealtime::new(agent)),
        }
    }

    /// How to read what the service says.
    #[must_use]
    pub fn dialect(&self) -> AgentDialect {
        match self {
            Self::OpenaiRealtime(_) => AgentDialect::OpenaiRealtime,
        }
    }

    /// Writes a message as the text of one frame onto the end of `text`.
    pub fn write(&mut self, message: &AgentMessage<'_>, text: &mut Vec<u8>) {
        match self {
            Self::OpenaiRealtime(wire) => wire.write(message, text),
        }
    }
}

impl AgentDialect {
    /// Reads one message, and lets `hear` have what it means.
    pub fn read(self, text: &str, hear: impl FnOnce(AgentEvent<'_>)) {
        match self {
            Self::OpenaiRealtime => openai_realtime::read(text, hear),
        }
    }
}

/// Where an agent's service is, and what is said at its door.
#[derive(Debug)]
pub struct Door<'a> {
    /// The URL, with its query.
    pub url: String,
    /// What goes behind `Authorization: Bearer`.
    pub bearer: &'a Secret,
}

/// Where an agent's service is.
#[must_use]
pub fn door(agent: &AgentSpec) -> Door<'_> {
    match &agent.provider {
        Provider::OpenaiRealtime { url, model, api_key } => {
            Door { url: openai_realtime::url(url, model), bearer: api_key }
        }
    }
}

/// Appends a text as a JSON string, quotes included.
fn push_json(text: &str, out: &mut Vec<u8>) {
    // Writing into a `Vec` cannot fail, and every text is a JSON string.
    serde_json::to_writer(out, text).expect("a text is written into memory");
}

/// Appends a number in decimal, which cannot fail.
fn push_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
