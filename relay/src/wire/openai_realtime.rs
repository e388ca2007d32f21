//! OpenAI Realtime, the GA interface over a WebSocket.
//!
//! `session` writes what is settled once (the session, the greeting), this file the small
//! messages of a call; `events` and `complaint` read. Formats are objects, `session.type` is required, and one
//! unknown field makes the service refuse the whole session, so nothing is written that is not
//! needed. No beta header, no redirects.
//! Source: OpenAI, "Realtime API reference" (GA), read 2026-11-20.

mod complaint;
mod events;
mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use link::agent::AgentSpec;

pub use self::events::read;

use super::{push_json, push_number};
use crate::call::Interruption;
use crate::call::input::Audio;
use crate::call::output::{AgentMessage, Recalled};

/// The session is stated with `interrupt_response`, so the service stops by itself; a cancel on
/// top races with that and is refused.
pub const INTERRUPTION: Interruption = Interruption::ByService;

/// What is said on one socket.
#[derive(Debug)]
pub struct OpenaiRealtime {
    agent: Arc<AgentSpec>,
    /// The number of the last message that has one: it comes back in complaints.
    messages: u64,
    /// Samples on their way into base64.
    pcm: Vec<u8>,
}

impl OpenaiRealtime {
    /// The words for one socket of an agent.
    #[must_use]
    pub fn new(agent: Arc<AgentSpec>) -> Self {
        Self { agent, messages: 0, pcm: Vec::new() }
    }

    /// Writes a message as the text of one frame onto the end of `text`.
    pub fn write(&mut self, message: &AgentMessage<'_>, text: &mut Vec<u8>) {
        match message {
            AgentMessage::Audio(audio) => self.append(*audio, text),
            AgentMessage::Configure { .. } => {
                self.begin("session.update", text);
                text.extend_from_slice(br#","session":"#);
                session::write(&self.agent, text);
            }
            AgentMessage::Speak(_) => {
                self.begin("response.create", text);
                text.extend_from_slice(br#","response":"#);
                session::write_greeting(&self.agent, text);
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
            AgentMessage::Recall(Recalled::Result { call, output }) => {
                self.begin("conversation.item.create", text);
                text.extend_from_slice(br#","item":{"type":"function_call_output","call_id":"#);
                push_json(call, text);
                text.extend_from_slice(br#","output":"#);
                push_json(output, text);
                text.push(b'}');
            }
            AgentMessage::AnswerByYourself
            | AgentMessage::Instruct { .. }
            | AgentMessage::Recall(_)
            | AgentMessage::Summarise
            | AgentMessage::Ping => unreachable!("nobody says this yet"),
        }
        text.push(b'}');
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
            Audio::Ulaw(bytes) => codec::base64::encode(bytes, text),
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
