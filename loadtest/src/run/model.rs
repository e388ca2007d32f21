//! One session of the load test's fake model: lean, but with the events and the order of the
//! real service. It checks every frame that arrives. No socket and no clock in here.
//!
//! The strict fake is [`crate::model`]; this one believes its client and costs a fifth of it.

use serde_json::{Value, json};

use super::board::{Board, Cut, End};
use super::ear::{Ear, Turn};
use super::measured::Figures;
use super::scenario::Pace;
use crate::demo::Audio;

mod reply;

use self::reply::Reply;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    audio: Audio,
    pace: Pace,
    /// The session as it is shown: what all updates together say.
    shown: Value,
    /// What it hears of its caller.
    ear: Ear,
    replies: u16,
    reply: Option<Reply>,
    /// The item of the last answer.
    last_item: String,
    ids: u32,
}

impl Session {
    /// A session that begins.
    pub(crate) fn new(audio: Audio, pace: Pace, out: &mut Vec<String>) -> Self {
        let pcm = json!({"type": "audio/pcm", "rate": 24_000});
        let mut session = Self {
            audio,
            pace,
            shown: json!({
                "type": "realtime", "object": "realtime.session", "id": "sess_load",
                "audio": {"input": {"format": pcm}, "output": {"format": pcm}},
            }),
            ear: Ear::new(audio),
            replies: 0,
            reply: None,
            last_item: String::new(),
            ids: 0,
        };
        let created = json!({"type": "session.created", "session": session.shown});
        session.say(created, out);
        session
    }

    /// The next id.
    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{:06}", self.ids)
    }

    /// Says an event, with an id of its own.
    fn say(&mut self, mut event: Value, out: &mut Vec<String>) {
        event["event_id"] = self.id("event").into();
        out.push(event.to_string());
    }

    /// When something happens without the client.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.reply.as_ref().map(|reply| reply.due_us)
    }

    /// Takes a text of the client.
    pub(crate) fn receive(
        &mut self,
        text: &str,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
        out: &mut Vec<String>,
    ) {
        if let Some(audio) = appended(text) {
            self.ear.take(audio, figures);
            self.hear(now_us, board, figures, out);
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(text) else { return };
        self.take(event, now_us, board, figures, out);
    }

    /// Takes an event that is no audio. The client is believed.
    fn take(
        &mut self,
        mut event: Value,
        now_us: u64,
        board: &Board,
        figures: &mut Figures,
        out: &mut Vec<String>,
    ) {
        match event["type"].as_str().unwrap_or_default() {
            "session.update" => {
                merge(&mut self.shown, &event["session"]);
                let session = self.shown.clone();
                self.say(json!({"type": "session.updated", "session": session}), out);
            }
            "conversation.item.truncate" => {
                self.compare(&event, board, figures);
                event["type"] = "conversation.item.truncated".into();
                self.say(event, out);
            }
            "conversation.item.create" => {
                let mut item = event["item"].take();
                item["id"] = self.id("item").into();
                for kind in ["conversation.item.added", "conversation.item.done"] {
                    self.say(json!({"type": kind, "item": item}), out);
                }
            }
            "response.create" if self.reply.is_none() => self.begin_reply(now_us, board),
            "response.cancel" => self.cut("client_cancelled", out),
            _ => {}
        }
    }

    /// Compares what the relay says was heard of an answer with what the caller's ear says. The
    /// `clear` that goes with it may be there already, or not yet.
    fn compare(&self, event: &Value, board: &Board, figures: &mut Figures) {
        let (Some(call), Some(ms)) = (self.ear.call, event["audio_end_ms"].as_u64()) else {
            return;
        };
        if event["item_id"] == self.last_item.as_str() {
            let cut = Cut { end: End::Model, reply: self.replies, ms };
            figures.truncated(board.cut(call, cut));
        }
    }

    /// Whether turn detection does something by itself.
    fn by_itself(&self, what: &str) -> bool {
        self.shown["audio"]["input"]["turn_detection"][what] != false
    }

    /// Lives through everything that was appended, turn by turn.
    fn hear(&mut self, now_us: u64, board: &Board, figures: &mut Figures, out: &mut Vec<String>) {
        while let Some(turn) = self.ear.next_turn(now_us, board, figures) {
            match turn {
                Turn::Started { at_ms } => self.begin_turn(at_ms, now_us, board, out),
                Turn::Ended { at_ms } => {
                    self.end_turn(at_ms, out);
                    if self.by_itself("create_response") && self.reply.is_none() {
                        self.begin_reply(now_us, board);
                    }
                }
            }
        }
    }

    /// What the service says at the beginning of a turn.
    fn begin_turn(&mut self, at_ms: u64, now_us: u64, board: &Board, out: &mut Vec<String>) {
        let item = self.id("item");
        self.say(
            json!({
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": at_ms.saturating_sub(300), "item_id": item,
            }),
            out,
        );
        if let Some(call) = self.ear.call {
            board.speech_started(call, now_us);
        }
        if self.by_itself("interrupt_response") {
            self.cut("turn_detected", out);
        }
    }

    /// What the service says at the end of a turn.
    fn end_turn(&mut self, at_ms: u64, out: &mut Vec<String>) {
        let item = self.id("item");
        let shown = json!({"id": item, "object": "realtime.item", "type": "message",
            "status": "completed", "role": "user",
            "content": [{"type": "input_audio", "transcript": null}]});
        let kind = "conversation.item.input_audio_transcription.completed";
        for event in [
            json!({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": at_ms,
                   "item_id": item}),
            json!({"type": "input_audio_buffer.committed", "previous_item_id": null,
                   "item_id": item}),
            json!({"type": "conversation.item.added", "previous_item_id": null, "item": shown}),
            json!({"type": "conversation.item.done", "previous_item_id": null, "item": shown}),
            json!({"type": kind, "item_id": item, "content_index": 0, "transcript": "Words.",
                   "usage": {"type": "duration", "seconds": 1.0}}),
        ] {
            self.say(event, out);
        }
    }
}

/// Puts what an update says over what was said before; what it does not name stays. What has a
/// `type` is one thing: a format of mu-law has no rate.
fn merge(shown: &mut Value, update: &Value) {
    let same = shown["type"] == update["type"];
    match (shown.as_object_mut(), update.as_object()) {
        (Some(shown), Some(update)) if same => {
            for (key, value) in update {
                merge(shown.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => shown.clone_from(update),
    }
}

/// Finds the audio of an append without reading the rest of it.
fn appended(text: &str) -> Option<&str> {
    let head = text.get(..64.min(text.len()))?;
    head.contains("\"input_audio_buffer.append\"").then_some(())?;
    let (_, rest) = text.split_once("\"audio\":\"")?;
    rest.split('"').next()
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
