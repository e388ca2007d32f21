//! Items that a client adds and cuts: the past of a call, the outputs of tools.

use std::time::Duration;

use serde_json::{Value, json};

use super::Conversation;
use crate::model::fields::Fields;
use crate::model::record::{ItemKind, ItemRecord};
use crate::model::refusal::Refusal;
use crate::model::reply::Reply;

impl Conversation {
    /// Adds an item that the client made, at the end or where it says.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn create_item(
        &mut self,
        fields: Fields<'_>,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let item = fields.need("item")?;
        let mut record = read_item(item)?;
        if record.kind == ItemKind::Output {
            self.take_output(&record)?;
        }
        let place = self.place(fields.maybe_text("previous_item_id")?)?;
        let known = self.ledger.read(|it| it.item(&record.id).is_some());
        if known {
            return Err(Refusal::value("item.id", "an id that no other item has"));
        }
        if record.id.is_empty() {
            record.id = self.ids.next("item");
        }
        record.at_us = self.ledger.at_us(now);
        record.by_client = true;
        if let (ItemKind::Call, Some(call)) = (record.kind, &record.call) {
            self.called.push(call.clone());
        }
        let mut shown = item.clone();
        shown["id"] = record.id.clone().into();
        shown["object"] = "realtime.item".into();
        shown["status"] = "completed".into();
        let previous = self.ledger.write(|it| {
            let before = place.checked_sub(1).and_then(|at| it.items.get(at));
            let previous = before.map(|item| item.id.clone());
            it.items.insert(place, record);
            previous
        });
        for kind in ["conversation.item.added", "conversation.item.done"] {
            out.push(json!({"type": kind, "previous_item_id": previous, "item": shown}));
        }
        Ok(())
    }

    /// Where an item goes that names the one before it.
    fn place(&self, previous: Option<&str>) -> Result<usize, Refusal> {
        self.ledger.read(|record| match previous {
            None => Ok(record.items.len()),
            Some("root") => Ok(0),
            Some(id) => {
                record.items.iter().position(|item| item.id == id).map(|at| at + 1).ok_or_else(
                    || Refusal::value("previous_item_id", "an item of the conversation"),
                )
            }
        })
    }

    /// An output answers a call that waits for one, and answers it once.
    fn take_output(&mut self, output: &ItemRecord) -> Result<(), Refusal> {
        let waits = |call: &String| Some(call) == output.call.as_ref();
        let known = self.called.iter().position(waits);
        let at = known.ok_or_else(|| Refusal::value("item.call_id", "an open call"))?;
        self.called.remove(at);
        Ok(())
    }

    /// Finds an item.
    ///
    /// # Errors
    /// When the service would refuse it.
    pub(super) fn known_item(&self, item: &str, code: &'static str) -> Result<ItemRecord, Refusal> {
        let message = format!("Item with item_id '{item}' not found.");
        self.ledger
            .read(|record| record.item(item).cloned())
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
        let known = self.known_item(item, "item_truncate_invalid_item_id")?;
        if !known.is_spoken() {
            let message = "Only model output audio messages can be truncated.";
            return Err(Refusal::new("invalid_value", message));
        }
        let making = self.reply.as_ref().filter(|reply| reply.item() == item);
        let making = making.map_or(0, Reply::made_ms);
        let length = known.cut_ms.or(known.made_ms).unwrap_or(making);
        if end_ms > length {
            let message = format!("Audio content of {length}ms is already shorter than {end_ms}ms");
            return Err(Refusal { code: None, message, param: None });
        }
        self.ledger.item(item, |item| item.cut_ms = Some(end_ms));
        out.push(json!({
            "type": "conversation.item.truncated", "item_id": item, "content_index": 0,
            "audio_end_ms": end_ms,
        }));
        Ok(())
    }
}

/// Reads an item as a client may make it.
fn read_item(item: &Value) -> Result<ItemRecord, Refusal> {
    let kind = item["type"].as_str().unwrap_or_default();
    let own: &[&str] = match kind {
        "message" => &["role", "content"],
        "function_call" => &["name", "call_id", "arguments"],
        "function_call_output" => &["call_id", "output"],
        _ => {
            let known = "message, function_call, function_call_output";
            return Err(Refusal::value("item.type", known));
        }
    };
    let fields = Fields::of("item", item, &[&ITEM_FIELDS, own].concat())?;
    let id = fields.maybe_text("id")?.unwrap_or_default();
    if fields.maybe("status").is_some() {
        fields.one_of("status", &["completed", "incomplete", "in_progress"])?;
    }
    let made = |kind, text: &str| ItemRecord::new(id, 0, kind, text);
    Ok(match kind {
        "message" => {
            let (kind, text) = read_message(&fields)?;
            made(kind, &text)
        }
        "function_call" => ItemRecord {
            tool: Some(fields.text("name")?.to_owned()),
            call: Some(fields.text("call_id")?.to_owned()),
            ..made(ItemKind::Call, fields.text("arguments")?)
        },
        _ => ItemRecord {
            call: Some(fields.text("call_id")?.to_owned()),
            ..made(ItemKind::Output, fields.text("output")?)
        },
    })
}

/// Reads a message. What the assistant said before can only be text: a client cannot make its
/// audio.
fn read_message(fields: &Fields<'_>) -> Result<(ItemKind, String), Refusal> {
    let (kind, wanted) = match fields.one_of("role", &["system", "user", "assistant"])? {
        "assistant" => (ItemKind::Agent, "output_text"),
        "user" => (ItemKind::Caller, "input_text"),
        _ => (ItemKind::System, "input_text"),
    };
    let content = fields.need("content")?;
    let Some(parts) = content.as_array().filter(|parts| !parts.is_empty()) else {
        return Err(Refusal::wrong_type("item.content", "an array that is not empty", content));
    };
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        let path = format!("item.content[{at}]");
        // The service takes `output_audio` for a text whose words are missing.
        if kind == ItemKind::Agent && part["type"] == "output_audio" {
            return Err(Refusal::missing(&format!("{path}.text")));
        }
        let part = Fields::of(&path, part, &["type", "text"])?;
        part.one_of("type", &[wanted])?;
        text.push_str(part.text("text")?);
    }
    Ok((kind, text))
}

/// What every item may have.
const ITEM_FIELDS: [&str; 4] = ["type", "id", "object", "status"];
