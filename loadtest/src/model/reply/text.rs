//! An answer of text beside the conversation: no item of it is kept, and it may run while another
//! one is spoken.

use std::time::Duration;

use serde_json::{Value, json};

/// A text in the making.
#[derive(Debug)]
pub(crate) struct TextReply {
    response: String,
    item: String,
    metadata: Value,
    max_output_tokens: Value,
    done_at: Duration,
}

impl TextReply {
    /// Begins one that will be whole after a while.
    pub(crate) fn begin(
        (response, item): (String, String),
        metadata: Value,
        max_output_tokens: Value,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Self {
        let done_at = now + WRITING;
        let reply = Self { response, item, metadata, max_output_tokens, done_at };
        let response = reply.response("in_progress", Value::Null, json!([]), 0);
        out.push(json!({"type": "response.created", "response": response}));
        reply
    }

    /// The answer's id.
    pub(crate) fn id(&self) -> &str {
        &self.response
    }

    /// When it is whole.
    pub(crate) fn next(&self) -> Duration {
        self.done_at
    }

    /// Writes all of it. `conversation.item.added` is missing: no conversation has it.
    pub(crate) fn finish(&self, text: &str, out: &mut Vec<Value>) {
        let added = self.message("in_progress", json!([]));
        out.push(json!({
            "type": "response.output_item.added", "response_id": self.response,
            "output_index": 0, "item": added,
        }));
        let mut part = self.within("response.content_part.added");
        part["part"] = json!({"type": "text", "text": ""});
        out.push(part);
        // Two deltas, so that nobody takes the first one for the whole.
        let middle = text.len() / 2;
        let middle = (middle..=text.len()).find(|at| text.is_char_boundary(*at));
        let (first, second) = text.split_at(middle.unwrap_or_default());
        for words in [first, second].into_iter().filter(|words| !words.is_empty()) {
            let mut delta = self.within("response.output_text.delta");
            delta["delta"] = words.into();
            out.push(delta);
        }
        let mut done = self.within("response.output_text.done");
        done["text"] = text.into();
        out.push(done);
        let mut part = self.within("response.content_part.done");
        part["part"] = json!({"type": "text", "text": text});
        out.push(part);
        let item = self.message("completed", json!([{"type": "output_text", "text": text}]));
        out.push(json!({
            "type": "response.output_item.done", "response_id": self.response,
            "output_index": 0, "item": item,
        }));
        let tokens = text.len() as u64 / 4;
        let response = self.response("completed", Value::Null, json!([item]), tokens);
        out.push(json!({"type": "response.done", "response": response}));
    }

    /// Ends it without a word.
    pub(crate) fn cancel(&self, out: &mut Vec<Value>) {
        let details = json!({"type": "cancelled", "reason": "client_cancelled"});
        let response = self.response("cancelled", details, json!([]), 0);
        out.push(json!({"type": "response.done", "response": response}));
    }

    /// An event within the text.
    fn within(&self, kind: &str) -> Value {
        json!({
            "type": kind, "response_id": self.response, "output_index": 0,
            "item_id": self.item, "content_index": 0,
        })
    }

    /// Its only item.
    fn message(&self, status: &str, content: Value) -> Value {
        json!({
            "id": self.item, "object": "realtime.item", "type": "message",
            "status": status, "role": "assistant", "content": content,
        })
    }

    /// The answer as a whole; the conversation's id is `null`.
    fn response(&self, status: &str, details: Value, output: Value, tokens: u64) -> Value {
        let over = status != "in_progress";
        let usage = json!({
            "total_tokens": 150 + tokens, "input_tokens": 150, "output_tokens": tokens,
            "input_token_details": {
                "text_tokens": 150, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": tokens, "audio_tokens": 0},
        });
        json!({
            "object": "realtime.response", "id": self.response, "conversation_id": null,
            "output_modalities": ["text"], "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata, "status": status, "status_details": details,
            "output": output, "usage": if over { usage } else { Value::Null },
        })
    }
}

/// How long a short text takes.
const WRITING: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_beside_the_conversation_belongs_to_none() {
        let mut out = Vec::new();
        let ids = ("resp_1".to_owned(), "item_1".to_owned());
        let metadata = json!({"kind": "summary"});
        let reply = TextReply::begin(ids, metadata.clone(), "inf".into(), Duration::ZERO, &mut out);
        reply.finish("Grüße an alle.", &mut out);
        assert_eq!(out[0]["response"]["conversation_id"], Value::Null);
        let words: String = out.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(words, "Grüße an alle.");
        let done = &out.last().unwrap()["response"];
        assert_eq!((&done["metadata"], &done["status"]), (&metadata, &"completed".into()));
        assert!(!out.iter().any(|e| e["type"].as_str().unwrap().starts_with("conversation")));
    }
}
