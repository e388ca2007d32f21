//! OpenAI Realtime, the GA interface over a WebSocket.
//!
//! `session` (with `tools`), `requests` and `items` write what is more than a line, this file the
//! small messages of a call; `events`, `answers` and `complaint` read. Formats are objects, `session.type` is required, and one
//! unknown field makes the service refuse the whole session, so nothing is written that is not
//! needed. No beta header, no redirects.
//! Source: OpenAI, "Realtime API reference" (GA), read 2026-11-20.

mod items;
mod requests;
mod session;
mod tools;

mod answers;
mod complaint;
mod events;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use link::agent::AgentSpec;
use serde_json::Value;

pub use self::events::read;

use super::{push_json, push_number};
use crate::call::input::{Answering, Audio};
use crate::call::output::AgentMessage;

/// What is said on one socket.
#[derive(Debug)]
pub struct OpenaiRealtime {
    agent: Arc<AgentSpec>,
    /// Standing instructions in place of the agent's own.
    instructions: Option<Box<str>>,
    /// The number of the last message that has one: it comes back in complaints.
    messages: u64,
    /// Samples on their way into base64.
    pcm: Vec<u8>,
}

impl OpenaiRealtime {
    /// The words for one socket of an agent.
    #[must_use]
    pub fn new(agent: Arc<AgentSpec>) -> Self {
        Self { agent, instructions: None, messages: 0, pcm: Vec::new() }
    }

    /// Writes a message as the text of one frame onto the end of `text`.
    pub fn write(&mut self, message: &AgentMessage<'_>, text: &mut Vec<u8>) {
        match message {
            AgentMessage::Audio(audio) => self.append(*audio, text),
            AgentMessage::Configure { format, instructions, answering } => {
                self.instructions = instructions.map(Into::into);
                self.update(text);
                let asked = session::Asked { format: *format, answering: *answering };
                session::write(&self.agent, self.standing(), asked, text);
            }
            AgentMessage::AnswerByYourself => {
                self.update(text);
                session::write_answering(&self.agent, Answering::ByService, text);
            }
            AgentMessage::Instruct { instructions } => {
                self.instructions = Some((*instructions).into());
                self.update(text);
                session::write_instructions(instructions, text);
            }
            AgentMessage::Speak(cue) => {
                self.ask(text);
                requests::write_cue(&self.agent, self.standing(), *cue, text);
            }
            AgentMessage::Summarise => {
                self.ask(text);
                requests::write_summary(text);
            }
            AgentMessage::Recall(recalled) => {
                self.begin("conversation.item.create", text);
                text.extend_from_slice(br#","item":"#);
                items::write(*recalled, text);
            }
            AgentMessage::Respond => self.begin("response.create", text),
            AgentMessage::Cancel { response } => {
                self.begin("response.cancel", text);
                text.extend_from_slice(br#","response_id":"#);
                push_json(response, text);
            }
            AgentMessage::Truncate { item, part, heard_ms } => {
                self.begin("conversation.item.truncate", text);
                text.extend_from_slice(br#","item_id":"#);
                push_json(item, text);
                text.extend_from_slice(br#","content_index":"#);
                push_number(u64::from(*part), text);
                text.extend_from_slice(br#","audio_end_ms":"#);
                push_number(u64::from(*heard_ms), text);
            }
        }
        text.push(b'}');
    }

    /// What the model is told to be, as it stands.
    fn standing(&self) -> &str {
        self.instructions.as_deref().unwrap_or(&self.agent.instructions)
    }

    fn update(&mut self, text: &mut Vec<u8>) {
        self.begin("session.update", text);
        text.extend_from_slice(br#","session":"#);
    }

    fn ask(&mut self, text: &mut Vec<u8>) {
        self.begin("response.create", text);
        text.extend_from_slice(br#","response":"#);
    }

    /// The beginning of a message that is worth a number: all but the audio.
    fn begin(&mut self, kind: &str, text: &mut Vec<u8>) {
        self.messages += 1;
        text.extend_from_slice(br#"{"type":""#);
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(br#"","event_id":"relay_"#);
        push_number(self.messages, text);
        text.push(b'"');
    }

    fn append(&mut self, audio: Audio<'_>, text: &mut Vec<u8>) {
        text.extend_from_slice(br#"{"type":"input_audio_buffer.append","audio":""#);
        match audio {
            Audio::Base64(payload) => text.extend_from_slice(payload.as_bytes()),
            Audio::Ulaw(bytes) | Audio::PcmBytes(bytes) => codec::base64::encode(bytes, text),
            Audio::Pcm(samples) => {
                self.pcm.clear();
                codec::pcm::to_le_bytes(samples, &mut self.pcm);
                codec::base64::encode(&self.pcm, text);
            }
        }
        text.push(b'"');
    }
}

/// The URL of a conversation with a model.
#[must_use]
pub fn url(base: &str, model: &str) -> String {
    let join = if base.contains('?') { '&' } else { '?' };
    let model: String = url::form_urlencoded::byte_serialize(model.as_bytes()).collect();
    format!("{base}{join}model={model}")
}

fn push(value: &Value, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("a value of texts and numbers goes into memory");
}

/// What a summary is called in the metadata of its answer, which the service gives back.
const SUMMARY: &str = "summary";
