//! What the service says of its answers: `response.*`.
//!
//! An answer beside the conversation (a summary) has the same events as a spoken one. It is told by
//! its `conversation_id`, which is null, or by the `kind` that the relay gave it, and means nothing
//! until it is done: nothing of it may reach the phone.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::SUMMARY;
use super::complaint::retry;
use super::events::Event;
use crate::call::input::{AgentEvent, Outcome};

/// `response.created`.
#[derive(Deserialize)]
pub(super) struct ResponseCreated<'a> {
    #[serde(borrow)]
    response: Created<'a>,
}

/// The response of it.
#[derive(Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default = "somewhere")]
    conversation_id: Value,
    #[serde(default)]
    metadata: Value,
}

impl Event for ResponseCreated<'_> {
    fn event(&self) -> AgentEvent<'_> {
        let Created { id, conversation_id, metadata } = &self.response;
        match place(conversation_id, metadata) {
            Place::InConversation => AgentEvent::ResponseStarted { response: id },
            Place::Beside | Place::Summary => AgentEvent::Ignored,
        }
    }
}

/// Where an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where the caller hears it.
    InConversation,
    /// Beside the conversation, as a summary of it.
    Summary,
    /// Beside it, and nobody asked for it.
    Beside,
}

fn place(conversation_id: &Value, metadata: &Value) -> Place {
    match (metadata["kind"] == SUMMARY, conversation_id.is_null()) {
        (true, _) => Place::Summary,
        (false, true) => Place::Beside,
        (false, false) => Place::InConversation,
    }
}

/// What stands for a missing `conversation_id`: unlike null, it says nothing.
fn somewhere() -> Value {
    Value::Bool(true)
}

/// `response.output_audio.done`; also comes when the answer was cut.
#[derive(Deserialize)]
pub(super) struct AudioDone<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
}

impl Event for AudioDone<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::AudioEnded { response: &self.response_id, item: &self.item_id }
    }
}

/// `response.output_audio_transcript.delta`.
#[derive(Deserialize)]
pub(super) struct TranscriptDelta<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item_id: Cow<'a, str>,
    #[serde(borrow)]
    delta: Cow<'a, str>,
}

impl Event for TranscriptDelta<'_> {
    fn event(&self) -> AgentEvent<'_> {
        AgentEvent::Saying {
            response: &self.response_id,
            item: &self.item_id,
            text: Cow::Borrowed(&self.delta),
        }
    }
}

/// `response.output_item.done`: matters when it is a call of a tool.
#[derive(Deserialize)]
pub(super) struct ItemDone<'a> {
    #[serde(borrow)]
    response_id: Cow<'a, str>,
    #[serde(borrow)]
    item: Item<'a>,
}

/// The item of it. Fields that only calls have are empty in others.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    call_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Cow<'a, str>,
}

impl Event for ItemDone<'_> {
    /// A call that is `incomplete` was interrupted while it was written, and is not made.
    fn event(&self) -> AgentEvent<'_> {
        let Item { kind, status, call_id, name, arguments } = &self.item;
        if kind != "function_call" || status != "completed" {
            return AgentEvent::Ignored;
        }
        AgentEvent::ToolCalled {
            response: &self.response_id,
            call: call_id,
            name,
            arguments: Cow::Borrowed(arguments),
        }
    }
}

/// `response.done`: always comes, also alone, without an `error`, when the answer failed.
#[derive(Deserialize)]
pub(super) struct ResponseDone<'a> {
    #[serde(borrow)]
    response: Done<'a>,
}

/// The response of it. What it used and whose it is are read with patience: the end of an answer
/// must not be lost over a number.
#[derive(Deserialize)]
struct Done<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    status_details: Option<StatusDetails>,
    #[serde(default = "somewhere")]
    conversation_id: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    usage: Value,
    /// Words of a text; those of a spoken answer came as they were spoken.
    #[serde(default)]
    output: Value,
}

/// What there is to say about its status.
#[derive(Deserialize)]
struct StatusDetails {
    error: Option<Reason>,
}

/// An error object, as far as it matters.
#[derive(Deserialize)]
struct Reason {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
}

impl Event for ResponseDone<'_> {
    fn event(&self) -> AgentEvent<'_> {
        let done = &self.response;
        match place(&done.conversation_id, &done.metadata) {
            Place::InConversation => AgentEvent::ResponseEnded {
                response: &done.id,
                outcome: done.outcome(),
                tokens: done.tokens(),
            },
            Place::Summary => AgentEvent::Summarised {
                summary: done.text().map(Cow::Owned),
                tokens: done.tokens(),
            },
            Place::Beside => AgentEvent::Ignored,
        }
    }
}

impl Done<'_> {
    fn tokens(&self) -> u64 {
        self.usage["total_tokens"].as_u64().unwrap_or(0)
    }

    fn outcome(&self) -> Outcome<'_> {
        match self.status.as_ref() {
            "completed" => Outcome::Completed,
            "cancelled" => Outcome::Cancelled,
            "incomplete" => Outcome::Incomplete,
            // What is not known to be well may be as silent as a failure.
            _ => {
                let error = self.status_details.as_ref().and_then(|details| details.error.as_ref());
                let code = error.and_then(|error| error.code.as_ref().or(error.kind.as_ref()));
                let code = code.map_or("failed", String::as_str);
                Outcome::Failed { code, retry: retry(code) }
            }
        }
    }

    /// The text of an answer that was written; one that hit its limit is better than none.
    fn text(&self) -> Option<String> {
        let items = self.output.as_array().map_or(&[][..], Vec::as_slice);
        let parts = items.iter().filter_map(|item| item["content"].as_array()).flatten();
        let words: Vec<_> = parts.filter_map(|part| part["text"].as_str()).collect();
        let text = words.join("\n").trim().to_owned();
        let is_said = matches!(self.status.as_ref(), "completed" | "incomplete");
        (is_said && !text.is_empty()).then_some(text)
    }
}
