//! Vendors' words: how the messages of a call are written on each leg, and how they are read.
//!
//! Everything that names a vendor is in this folder. Nothing here decides anything: text comes
//! in and is an event, a message comes in and is text. What is known and of no use, and what is
//! unknown, is ignored; what is broken is said to be malformed.
//!
//! One file a vendor: [`opening`] and [`twilio`] for the caller's leg, or [`browser`] for a web page,
//! [`openai_realtime`] for the agent's. Two hot shapes, the caller's `media` and the agent's audio delta, are read in place by
//! a cursor (`scan`) that gives up at the first surprise; then serde reads the whole text.

pub mod browser;
pub mod knock;
pub mod openai_realtime;
pub mod opening;
pub mod twilio;

mod loss;
mod scan;

use std::sync::Arc;

use link::agent::{AgentSpec, Provider};
use link::event::EndReason;
use link::secret::Secret;

use crate::call::input::{AgentEvent, AudioFormat, CallerEvent};
use crate::call::output::{AgentMessage, CallerMessage, Milestone};

pub use self::loss::{handshake_loss, loss};

use self::openai_realtime::OpenaiRealtime;
use self::twilio::Twilio;

/// What is said to a caller's stream, in its words. One per stream.
#[derive(Debug)]
pub enum CallerWire {
    /// Twilio Media Streams.
    Twilio(Twilio),
    /// A web page.
    Browser,
}

/// Which words a caller's side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerDialect {
    /// Twilio Media Streams.
    Twilio,
    /// A web page.
    Browser,
}

/// How a message leaves for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// As the text that [`CallerWire::write`] writes.
    Text,
    /// As these bytes.
    Bytes(&'a [u8]),
    /// Not at all: the other side knows it by itself.
    None,
}

/// Something that a caller's side is told beside the call's own messages.
#[derive(Debug)]
pub struct Told<'a>(browser::ToPage<'a>);

impl Told<'_> {
    /// Writes it as the text of one frame onto the end of `text`.
    pub fn write(&self, text: &mut Vec<u8>) {
        browser::push(&self.0, text);
    }
}

impl CallerWire {
    /// The words for a stream, by the name that its side gave it.
    #[must_use]
    pub fn new(dialect: CallerDialect, stream: &str) -> Self {
        match dialect {
            CallerDialect::Twilio => Self::Twilio(Twilio::new(stream)),
            CallerDialect::Browser => Self::Browser,
        }
    }

    /// How to read what the caller's side says.
    #[must_use]
    pub fn dialect(&self) -> CallerDialect {
        match self {
            Self::Twilio(_) => CallerDialect::Twilio,
            Self::Browser => CallerDialect::Browser,
        }
    }

    /// How a message leaves.
    #[must_use]
    pub fn frame<'a>(&self, message: &CallerMessage<'a>) -> Frame<'a> {
        match self {
            Self::Twilio(_) => Frame::Text,
            Self::Browser => browser::frame(message),
        }
    }

    /// Writes a message that leaves as text onto the end of `text`.
    pub fn write(&self, message: &CallerMessage<'_>, text: &mut Vec<u8>) {
        match self {
            Self::Twilio(wire) => wire.write(message, text),
            Self::Browser => browser::write(message, text),
        }
    }

    /// What the caller's side is told of something that happens in the call.
    #[must_use]
    pub fn told<'a>(&self, milestone: &Milestone<'a>) -> Option<Told<'a>> {
        match self {
            // Carriers have no word for any of it.
            Self::Twilio(_) => None,
            Self::Browser => browser::told(milestone),
        }
    }

    /// What the caller's side is told before its socket is closed.
    #[must_use]
    pub fn farewell(&self, reason: EndReason) -> Option<Told<'static>> {
        match self {
            Self::Twilio(_) => None,
            Self::Browser => Some(browser::farewell(reason)),
        }
    }
}

impl CallerDialect {
    /// What carriers' streams speak.
    pub const CARRIER: Self = Self::Twilio;
    /// What web pages speak.
    pub const PAGE: Self = Self::Browser;

    /// How audio is written in it.
    #[must_use]
    pub fn format(self) -> AudioFormat {
        match self {
            Self::Twilio => AudioFormat::Ulaw,
            Self::Browser => AudioFormat::Pcm24k,
        }
    }

    /// Reads one message of text, and lets `hear` have what it means, if it means anything.
    pub fn read(self, text: &str, hear: impl FnOnce(CallerEvent<'_>)) {
        match self {
            Self::Twilio => twilio::read(text, hear),
            Self::Browser => browser::read(text, hear),
        }
    }

    /// Reads one message of bytes.
    pub fn read_bytes(self, bytes: &[u8], hear: impl FnOnce(CallerEvent<'_>)) {
        match self {
            // Twilio has none.
            Self::Twilio => hear(CallerEvent::Malformed),
            Self::Browser => browser::read_bytes(bytes, hear),
        }
    }

    /// What it means that the caller's side closes its socket with this code.
    #[must_use]
    pub fn closed(self, code: u16) -> CallerEvent<'static> {
        match self {
            // A carrier says `stop` first.
            Self::Twilio => CallerEvent::Lost,
            Self::Browser => browser::closed(code),
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
