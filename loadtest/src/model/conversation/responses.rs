//! Answers: begun by the end of a turn or by the client, spoken or beside the conversation.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Conversation, Later};
use crate::model::Fault;
use crate::model::fields::Fields;
use crate::model::record::{ItemKind, ItemRecord, ResponseRecord};
use crate::model::refusal::Refusal;
use crate::model::repertoire::Cue;
use crate::model::reply::{Cut, Material, Reply, TextReply};
use crate::model::session::{Format, check_max_tokens, check_tool_choice};
use crate::model::trouble::Mishap;

/// What a client asks of an answer.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Whether a client asks at all; otherwise the end of a turn does.
    asked: bool,
    /// Whether the answer is to be no part of the conversation.
    beside: bool,
    instructions: Option<String>,
    metadata: Value,
    max_output_tokens: Value,
}

impl Conversation {
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
        let wish = match fields.maybe("response") {
            Some(response) => read_wish(response)?,
            None => Wish { asked: true, ..Wish::default() },
        };
        if wish.beside {
            self.write_beside(wish, now, out);
            return Ok(());
        }
        if let Some(active) = &self.reply {
            return Err(already_active(active.id()));
        }
        let asked = wish.instructions.as_deref().and_then(|text| self.repertoire.asked(text));
        let cue = asked.unwrap_or_else(|| self.owed());
        self.answer(&cue, wish, now, out);
        Ok(())
    }

    /// What the conversation itself asks for: an answer to the last turn, a word about a tool's
    /// output, a greeting where nothing was said yet.
    fn owed(&self) -> Cue {
        self.ledger.read(|record| {
            let said = record.items.iter().rfind(|item| item.kind != ItemKind::System);
            let greeted = record.responses.iter().any(|response| response.greeting);
            match said {
                // Whoever was told anything at all is in the middle of a call.
                None if !greeted && record.items.is_empty() => Cue::Greeting,
                Some(item) if item.kind == ItemKind::Caller => {
                    let turn = record.caller_turns().saturating_sub(1);
                    let script = self.repertoire.caller(turn);
                    let words = if item.text.is_empty() { script } else { &item.text };
                    self.repertoire.cue(words, turn)
                }
                Some(item) if item.kind == ItemKind::Output => {
                    let calls = |other: &&ItemRecord| {
                        other.kind == ItemKind::Call && other.call == item.call
                    };
                    let call = record.items.iter().find(calls);
                    let tool = call.and_then(|call| call.tool.as_deref()).unwrap_or_default();
                    self.repertoire.after_tool(tool, &item.text)
                }
                None | Some(_) => Cue::More,
            }
        })
    }

    /// Begins an answer. While another one is being made the service refuses, as it does when
    /// asked by a client.
    pub(super) fn answer(&mut self, cue: &Cue, wish: Wish, now: Duration, out: &mut Vec<Value>) {
        if self.fault == Fault::Silence {
            return;
        }
        if let Some(active) = &self.reply {
            out.push(already_active(active.id()).event(None));
            return;
        }
        let trouble = if self.fault == Fault::FailResponses {
            Some(Mishap::Failed { code: "rate_limit_exceeded".into() })
        } else {
            self.repertoire.trouble(cue)
        };
        if let Some(Mishap::Error { code }) = &trouble {
            out.push(json!({"type": "error", "error": {
                "type": "server_error", "code": code, "param": null, "event_id": null,
                "message": "The server had an error while processing your request.",
            }}));
            return;
        }
        if let Some(Mishap::Leave { how, after_ms, away_ms }) = &trouble {
            let away = Duration::from_millis(*away_ms);
            self.agenda.push((now + Duration::from_millis(*after_ms), Later::Leave(*how, away)));
        }
        let material = self.material(cue, &wish);
        self.note_response(&material.response, &material.text, &wish, now);
        self.ledger.response(&material.response, |response| {
            response.greeting = *cue == Cue::Greeting;
            response.item = Some(material.item.clone());
        });
        let mut reply = match &trouble {
            Some(mishap) => Reply::plan_trouble(material, self.pace, mishap, now),
            None => Reply::plan(material, self.pace, now),
        };
        let happened = reply.tick(now, out);
        self.follow(reply, happened, now);
    }

    /// Gathers what an answer is made of.
    fn material(&mut self, cue: &Cue, wish: &Wish) -> Material {
        let sound = self.repertoire.sound(cue);
        let audio = match self.session.output {
            Format::Pcmu => sound.ulaw().to_vec(),
            Format::Pcm24k => {
                let mut bytes = Vec::new();
                codec::pcm::to_le_bytes(&sound.pcm24k(), &mut bytes);
                bytes
            }
        };
        Material {
            response: self.ids.next("resp"),
            item: self.ids.next("item"),
            tool_ids: (self.ids.next("item"), self.ids.next("call")),
            previous: self.last_item(),
            conversation: format!("conv_{}", self.ids.session),
            format: self.session.output,
            voice: self.session.voice().clone(),
            max_output_tokens: self.tokens_max(wish),
            metadata: wish.metadata.clone(),
            text: self.repertoire.answer(cue).text,
            audio,
            tool: self.repertoire.tool(cue).filter(|tool| self.offers(&tool.name)),
        }
    }

    /// The bound of an answer's tokens: its own, or the session's.
    fn tokens_max(&self, wish: &Wish) -> Value {
        let own = Some(&wish.max_output_tokens).filter(|most| !most.is_null());
        own.unwrap_or(&self.session.json()["max_output_tokens"]).clone()
    }

    /// Writes down that an answer began.
    fn note_response(&self, id: &str, text: &str, wish: &Wish, now: Duration) {
        let record = ResponseRecord {
            id: id.to_owned(),
            at_us: self.ledger.at_us(now),
            asked: wish.asked,
            beside: wish.beside,
            instructions: wish.instructions.clone(),
            text: text.to_owned(),
            ..ResponseRecord::default()
        };
        self.ledger.write(|it| it.responses.push(record));
    }

    /// Whether the session offers a tool; a model cannot call another.
    fn offers(&self, tool: &str) -> bool {
        let tools = self.session.json()["tools"].as_array();
        tools.is_some_and(|tools| tools.iter().any(|offered| offered["name"] == tool))
    }

    /// Begins a text beside the conversation. Nobody else is told, and no other answer waits.
    fn write_beside(&mut self, wish: Wish, now: Duration, out: &mut Vec<Value>) {
        let ids = (self.ids.next("resp"), self.ids.next("item"));
        self.note_response(&ids.0, "", &wish, now);
        let most = self.tokens_max(&wish);
        let reply = TextReply::begin(ids, wish.metadata, most, now, out);
        self.beside.push(reply);
    }

    /// What was said in the conversation, in its order: all that a text beside it can be about.
    fn summary(&self) -> String {
        let line = |item: &ItemRecord| {
            let text = item.heard_text();
            match item.kind {
                ItemKind::Caller => format!("The caller said: {text}"),
                ItemKind::Agent => format!("The agent said: {text}"),
                ItemKind::System => text.to_owned(),
                ItemKind::Call => format!("A tool was called with {text}"),
                ItemKind::Output => format!("It gave {text}"),
            }
        };
        let lines = self.ledger.read(|record| {
            let said = record.items.iter().filter(|item| !item.heard_text().is_empty());
            said.map(line).collect::<Vec<_>>()
        });
        if lines.is_empty() { "Nothing was said.".to_owned() } else { lines.join("\n") }
    }

    /// Finishes the texts that are whole by now.
    pub(super) fn finish_beside(&mut self, now: Duration, out: &mut Vec<Value>) {
        while let Some(at) = self.beside.iter().position(|reply| reply.next() <= now) {
            let text = self.summary();
            let reply = self.beside.remove(at);
            reply.finish(&text, out);
            self.ledger.response(reply.id(), |response| {
                response.status = Some("completed".into());
                response.text = text;
            });
        }
    }

    /// Stops an answer. While texts beside the conversation run, a cancel without an id means
    /// nothing: the service does not guess which one is meant.
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
        if wanted.is_none() && !self.beside.is_empty() {
            return Ok(());
        }
        let beside = self.beside.iter().position(|reply| Some(reply.id()) == wanted);
        if let Some(at) = beside {
            let reply = self.beside.remove(at);
            reply.cancel(out);
            self.ledger.response(reply.id(), |response| {
                response.status = Some("cancelled".into());
            });
            return Ok(());
        }
        let active = self.reply.take_if(|reply| wanted.is_none_or(|id| id == reply.id()));
        let Some(mut reply) = active else {
            let message = "Cancellation failed: no active response found";
            return Err(Refusal::new("response_cancel_not_active", message));
        };
        reply.cut(Cut::ClientCancelled, now);
        let happened = reply.tick(now, out);
        self.follow(reply, happened, now);
        Ok(())
    }
}

/// A second answer cannot begin while one is being made.
fn already_active(active: &str) -> Refusal {
    let message = format!(
        "Conversation already has an active response in progress: {active}. Wait until the \
         response is finished before creating a new one."
    );
    Refusal::new("conversation_already_has_active_response", message)
}

/// Reads what a `response.create` asks for.
fn read_wish(response: &Value) -> Result<Wish, Refusal> {
    let fields = Fields::of("response", response, &WISH_FIELDS)?;
    let beside = match fields.maybe("conversation") {
        Some(_) => fields.one_of("conversation", &["auto", "none"])? == "none",
        None => false,
    };
    let modalities = fields.maybe("output_modalities");
    let text = modalities.is_some_and(|modalities| *modalities == json!(["text"]));
    if modalities.is_some_and(|modalities| *modalities != json!(["audio"])) && !text {
        return Err(Refusal::value("response.output_modalities", "[\"audio\"] or [\"text\"]"));
    }
    if beside != text {
        let only = "text beside the conversation, audio in it (in this fake)";
        return Err(Refusal::value("response.output_modalities", only));
    }
    if let Some(choice) = fields.maybe("tool_choice") {
        check_tool_choice("response.tool_choice", choice)?;
    }
    if let Some(most) = fields.maybe("max_output_tokens") {
        check_max_tokens("response.max_output_tokens", most)?;
    }
    for list in ["input", "tools"] {
        if let Some(value) = fields.maybe(list).filter(|value| !value.is_array()) {
            return Err(Refusal::wrong_type(&fields.name(list), "an array", value));
        }
    }
    if let Some(metadata) = fields.maybe("metadata") {
        check_metadata(metadata)?;
    }
    Ok(Wish {
        asked: true,
        beside,
        instructions: fields.maybe_text("instructions")?.map(str::to_owned),
        metadata: fields.maybe("metadata").cloned().unwrap_or_default(),
        max_output_tokens: fields.maybe("max_output_tokens").cloned().unwrap_or_default(),
    })
}

/// Checks what the client wants to have back: 16 pairs, keys of 64 and values of 512 characters.
fn check_metadata(metadata: &Value) -> Result<(), Refusal> {
    if metadata.is_null() {
        return Ok(());
    }
    let Some(pairs) = metadata.as_object() else {
        return Err(Refusal::wrong_type("response.metadata", "an object", metadata));
    };
    let fits = |(key, value): (&String, &Value)| {
        key.len() <= 64 && value.as_str().is_some_and(|text| text.len() <= 512)
    };
    if pairs.len() > 16 || !pairs.iter().all(fits) {
        return Err(Refusal::value("response.metadata", "16 pairs of 64 and 512 characters"));
    }
    Ok(())
}

/// Every field of a `response.create` that is understood here.
const WISH_FIELDS: [&str; 10] = [
    "instructions",
    "input",
    "conversation",
    "output_modalities",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "metadata",
    "audio",
    "parallel_tool_calls",
];
