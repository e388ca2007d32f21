//! What a client asks of the conversation: items to add and to cut, answers to begin and to stop.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Conversation, Item};
use crate::model::fields::Fields;
use crate::model::refusal::Refusal;
use crate::model::reply::{Cut, Reply};
use crate::model::script::Cue;
use crate::model::session::{check_max_tokens, check_tool_choice};

impl Conversation {
    /// Adds an item that the client made.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn create_item(
        &mut self,
        fields: Fields<'_>,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let item = fields.need("item")?;
        fields.maybe_text("previous_item_id")?;
        let mut shown = match item["type"].as_str() {
            Some("function_call_output") => {
                let fields = Fields::of("item", item, &["type", "id", "call_id", "output"])?;
                let call = fields.text("call_id")?;
                fields.text("output")?;
                let known = self.called.iter().position(|awaited| awaited == call);
                let at = known.ok_or_else(|| Refusal::value("item.call_id", "an open call"))?;
                self.called.remove(at);
                item.clone()
            }
            Some("message") => {
                check_message(item)?;
                item.clone()
            }
            _ => return Err(Refusal::value("item.type", "message, function_call_output")),
        };
        let id = match item["id"].as_str() {
            Some(id) => id.to_owned(),
            None => self.ids.next("item"),
        };
        shown["id"] = id.clone().into();
        shown["object"] = "realtime.item".into();
        shown["status"] = "completed".into();
        let previous = self.last_item.replace(id.clone());
        self.items.insert(id, Item::Other);
        for kind in ["conversation.item.added", "conversation.item.done"] {
            out.push(json!({"type": kind, "previous_item_id": previous, "item": shown}));
        }
        Ok(())
    }

    /// Finds an item.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn known_item(&self, item: &str, code: &'static str) -> Result<Item, Refusal> {
        let message = format!("Item with item_id '{item}' not found.");
        self.items
            .get(item)
            .copied()
            .ok_or_else(|| Refusal { param: Some("item_id".into()), ..Refusal::new(code, message) })
    }

    /// Cuts what was not heard off an item.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn truncate(
        &mut self,
        fields: Fields<'_>,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let (item, end_ms) = (fields.text("item_id")?, fields.whole("audio_end_ms")?);
        if fields.whole("content_index")? != 0 {
            return Err(Refusal::value("content_index", "0"));
        }
        let Item::Spoken { left_ms } = self.known_item(item, "item_truncate_invalid_item_id")?
        else {
            let message = "Only model output audio messages can be truncated.";
            return Err(Refusal::new("invalid_value", message));
        };
        let making = self.reply.as_ref().filter(|reply| reply.item() == item);
        let length = left_ms.unwrap_or_else(|| making.map_or(0, Reply::made_ms));
        if end_ms > length {
            let message = format!("Audio content of {length}ms is already shorter than {end_ms}ms");
            return Err(Refusal { code: None, message, param: None });
        }
        self.items.insert(item.to_owned(), Item::Spoken { left_ms: Some(end_ms) });
        out.push(json!({
            "type": "conversation.item.truncated", "item_id": item, "content_index": 0,
            "audio_end_ms": end_ms,
        }));
        Ok(())
    }

    /// Begins an answer that the client asks for.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn create_response(
        &mut self,
        fields: Fields<'_>,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let mut metadata = &Value::Null;
        if let Some(response) = fields.maybe("response") {
            metadata = check_response(response)?;
        }
        if let Some(active) = &self.reply {
            return Err(already_active(active.id()));
        }
        let cue = if self.turns == 0 { Cue::Greeting } else { Cue::More };
        let metadata = metadata.clone();
        self.answer(cue, &metadata, now, out);
        Ok(())
    }

    /// Stops the answer that is being made.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn cancel(
        &mut self,
        fields: Fields<'_>,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let wanted = fields.maybe_text("response_id")?;
        let active = self.reply.take_if(|reply| wanted.is_none_or(|id| id == reply.id()));
        let Some(mut reply) = active else {
            let message = "Cancellation failed: no active response found";
            return Err(Refusal::new("response_cancel_not_active", message));
        };
        reply.cut(Cut::ClientCancelled, now);
        let happened = reply.tick(now, out);
        self.follow(reply, happened);
        Ok(())
    }
}

/// A second answer cannot begin while one is being made.
pub(super) fn already_active(active: &str) -> Refusal {
    let message = format!(
        "Conversation already has an active response in progress: {active}. Wait until the \
         response is finished before creating a new one."
    );
    Refusal::new("conversation_already_has_active_response", message)
}

/// Checks a message that a client adds. What the assistant said before can only be text: a
/// client cannot make its audio.
fn check_message(item: &Value) -> Result<(), Refusal> {
    let fields = Fields::of("item", item, &["type", "id", "role", "status", "content"])?;
    let kind = match fields.one_of("role", &["system", "user", "assistant"])? {
        "assistant" => "output_text",
        _ => "input_text",
    };
    let content = fields.need("content")?;
    let Some(parts) = content.as_array().filter(|parts| !parts.is_empty()) else {
        return Err(Refusal::wrong_type("item.content", "an array that is not empty", content));
    };
    for (at, part) in parts.iter().enumerate() {
        let path = format!("item.content[{at}]");
        let part = Fields::of(&path, part, &["type", "text"])?;
        part.one_of("type", &[kind])?;
        part.text("text")?;
    }
    Ok(())
}

/// Checks what a `response.create` asks for, and gives its metadata.
fn check_response(response: &Value) -> Result<&Value, Refusal> {
    const KNOWN: [&str; 8] = [
        "instructions",
        "conversation",
        "output_modalities",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "metadata",
        "audio",
    ];
    let fields = Fields::of("response", response, &KNOWN)?;
    fields.maybe_text("instructions")?;
    if fields.maybe("conversation").is_some() {
        fields.one_of("conversation", &["auto"])?;
    }
    if let Some(choice) = fields.maybe("tool_choice") {
        check_tool_choice("response.tool_choice", choice)?;
    }
    if let Some(most) = fields.maybe("max_output_tokens") {
        check_max_tokens("response.max_output_tokens", most)?;
    }
    let Some(metadata) = fields.maybe("metadata") else { return Ok(&Value::Null) };
    let Some(pairs) = metadata.as_object() else {
        return Err(Refusal::wrong_type("response.metadata", "an object", metadata));
    };
    let fits = |(key, value): (&String, &Value)| {
        key.len() <= 64 && value.as_str().is_some_and(|text| text.len() <= 512)
    };
    if pairs.len() > 16 || !pairs.iter().all(fits) {
        return Err(Refusal::value("response.metadata", "16 pairs of 64 and 512 characters"));
    }
    Ok(metadata)
}
