//! An answer's events, as the service writes them.

use serde_json::{Value, json};

use super::{Outcome, Reply};

impl Reply {
    /// An item came to be: once as part of the answer, once as part of the conversation.
    pub(super) fn announce_item(&self, item: &Value, index: u32, out: &mut Vec<Value>) {
        let previous = match index {
            0 => self.material.previous.as_deref(),
            _ => Some(self.material.item.as_str()),
        };
        out.push(json!({
            "type": "response.output_item.added", "response_id": self.material.response,
            "output_index": index, "item": item,
        }));
        out.push(json!({
            "type": "conversation.item.added", "previous_item_id": previous, "item": item,
        }));
    }

    /// An item is final, again in both roles.
    pub(super) fn close_item(&self, item: &Value, index: u32, out: &mut Vec<Value>) {
        let previous = match index {
            0 => self.material.previous.as_deref(),
            _ => Some(self.material.item.as_str()),
        };
        out.push(json!({
            "type": "response.output_item.done", "response_id": self.material.response,
            "output_index": index, "item": item,
        }));
        out.push(json!({
            "type": "conversation.item.done", "previous_item_id": previous, "item": item,
        }));
    }

    /// The item that is spoken. While it is being made it shows no content.
    pub(super) fn message(&self, status: &str) -> Value {
        let content = match status {
            "in_progress" => json!([]),
            _ => json!([{"type": "output_audio", "transcript": self.said()}]),
        };
        json!({
            "id": self.material.item, "object": "realtime.item", "type": "message",
            "status": status, "role": "assistant", "content": content,
        })
    }

    /// The item that calls a tool. Its arguments are empty until they are whole.
    pub(super) fn function_call(&self, status: &str, arguments: &str) -> Value {
        let (item, call) = &self.material.tool_ids;
        let name = self.material.tool.as_ref().map_or("", |tool| &tool.name);
        json!({
            "id": item, "object": "realtime.item", "type": "function_call", "status": status,
            "name": name, "call_id": call, "arguments": arguments,
        })
    }

    /// An event within the spoken part.
    pub(super) fn bare(&self, kind: &str) -> Value {
        json!({
            "type": kind, "response_id": self.material.response, "output_index": 0,
            "item_id": self.material.item, "content_index": 0,
        })
    }

    /// The same, with one text.
    pub(super) fn within(&self, kind: &str, field: &str, text: &str) -> Value {
        let mut event = self.bare(kind);
        event[field] = text.into();
        event
    }

    /// The spoken part itself; here its type is `audio`, in an item it is `output_audio`.
    pub(super) fn part(&self, kind: &str, transcript: &str) -> Value {
        let mut event = self.bare(kind);
        event["part"] = json!({"type": "audio", "transcript": transcript});
        event
    }

    /// The answer as a whole. What it used is known when it is over.
    pub(super) fn response(&self, status: &str) -> Value {
        let over = status != "in_progress";
        let details = match &self.outcome {
            Outcome::Cut(cut) if over => json!({"type": "cancelled", "reason": cut.reason()}),
            Outcome::Failed(code) if over => json!({"type": "failed", "error": {
                "type": "server_error", "code": code, "message": "This answer was made to fail.",
            }}),
            Outcome::Incomplete(why) if over => {
                json!({"type": "incomplete", "reason": why.as_str()})
            }
            Outcome::Cut(_) | Outcome::Failed(_) | Outcome::Incomplete(_) | Outcome::Completed => {
                Value::Null
            }
        };
        let mut output = Vec::new();
        if over && self.item_added {
            output.push(self.message(self.outcome.item_status()));
        }
        if let (true, Outcome::Completed, Some(tool)) = (over, &self.outcome, &self.material.tool) {
            output.push(self.function_call("completed", &tool.arguments));
        }
        json!({
            "object": "realtime.response", "id": self.material.response,
            "conversation_id": self.material.conversation, "output_modalities": ["audio"],
            "max_output_tokens": self.material.max_output_tokens,
            "audio": {"output": {
                "format": self.material.format.json(), "voice": self.material.voice,
            }},
            "metadata": self.material.metadata, "status": status, "status_details": details,
            "output": output, "usage": over.then(|| self.usage()),
        })
    }

    /// What the answer cost, roughly. It grows with what was made, so that a cut answer
    /// costs less.
    fn usage(&self) -> Value {
        // About one token for 50 ms of speech and for four letters.
        let audio = self.made_ms() / 50;
        let text = self.said_bytes as u64 / 4;
        json!({
            "total_tokens": 200 + audio + text, "input_tokens": 200,
            "output_tokens": audio + text,
            "input_token_details": {
                "text_tokens": 120, "audio_tokens": 80, "image_tokens": 0, "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        })
    }
}

/// The limits that come with every answer.
pub(super) fn rate_limits() -> Value {
    json!({"type": "rate_limits.updated", "rate_limits": [
        {"name": "requests", "limit": 5000, "remaining": 4999, "reset_seconds": 0.012},
        {"name": "tokens", "limit": 400_000, "remaining": 397_000, "reset_seconds": 0.45},
    ]})
}
