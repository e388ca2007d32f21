//! One connection of a client: what it may say, and what the service says to it.
//!
//! No socket and no clock in here: a text comes in with the time, events go out. The answers
//! themselves are planned in [`super::reply`], turns are found in [`super::vad`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::fields::Fields;
use super::refusal::Refusal;
use super::reply::{Cut, Happened, Material, Pace, Reply};
use super::script::{Cue, Repertoire};
use super::session::{Format, Session, Spoken};
use super::vad::{Noticed, Vad, VadSettings};
use super::{Complaint, Fault};

mod requests;

use self::requests::already_active;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    repertoire: Arc<Repertoire>,
    pace: Pace,
    fault: Fault,
    session: Session,
    phase: Phase,
    ids: Ids,
    vad: Vad,
    /// The item that the caller is speaking.
    speaking: Option<String>,
    items: BTreeMap<String, Item>,
    last_item: Option<String>,
    /// Calls of tools whose output is awaited.
    called: Vec<String>,
    reply: Option<Reply>,
    agenda: Vec<(Duration, Later)>,
    turns: usize,
    complaints: Vec<Complaint>,
    appended_bytes: u64,
}

/// How far the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No update of the session has been taken.
    Introduced,
    /// The session is the client's.
    Configured,
}

/// What kind of item it is, as far as truncation cares.
#[derive(Debug, Clone, Copy)]
enum Item {
    /// Something said by the model: what is left of its audio, in milliseconds; `None` while it
    /// is being made.
    Spoken { left_ms: Option<u64> },
    /// Anything else.
    Other,
}

/// What the service does after a while by itself.
#[derive(Debug)]
enum Later {
    Transcribe { item: String, text: String },
    Answer(Cue),
}

/// Numbers for the ids of one connection.
#[derive(Debug)]
struct Ids {
    session: String,
    count: u64,
}

impl Ids {
    /// The next id; kinds share one count, which shows their order.
    fn next(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{}{:05}", self.session, self.count)
    }
}

impl Conversation {
    /// A connection that was let in. `name` makes its ids unlike those of others.
    pub(crate) fn open(
        repertoire: Arc<Repertoire>,
        (pace, fault): (Pace, Fault),
        (name, model): (&str, &str),
        expires_at: u64,
        out: &mut Vec<Value>,
    ) -> Self {
        let session = Session::new(&format!("sess_{name}"), model, expires_at);
        let mut opened = Self {
            repertoire,
            pace,
            fault,
            phase: Phase::Introduced,
            ids: Ids { session: name.to_owned(), count: 0 },
            vad: Vad::new(detector(&session), session.input.rate_hz()),
            session,
            speaking: None,
            items: BTreeMap::new(),
            last_item: None,
            called: Vec::new(),
            reply: None,
            agenda: Vec::new(),
            turns: 0,
            complaints: Vec::new(),
            appended_bytes: 0,
        };
        out.push(json!({"type": "session.created", "session": opened.session.json()}));
        opened.number(out, 0);
        opened
    }

    /// Takes what the client did wrong so far.
    pub(crate) fn take_complaints(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.complaints)
    }

    /// Milliseconds of audio that were appended.
    pub(crate) fn appended_ms(&self) -> u64 {
        self.appended_bytes / self.session.input.bytes_per_ms() as u64
    }

    /// When something happens without the client.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let agenda = self.agenda.iter().map(|(at, _)| *at);
        agenda.chain(self.reply.as_ref().and_then(Reply::next)).min()
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Vec<Value>) {
        let before = out.len();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.agenda).into_iter().partition(|(at, _)| *at <= now);
        self.agenda = later;
        for (_, what) in due {
            match what {
                Later::Transcribe { item, text } => transcribe(&item, &text, out),
                Later::Answer(cue) => self.answer(cue, &Value::Null, now, out),
            }
        }
        if let Some(mut reply) = self.reply.take() {
            let happened = reply.tick(now, out);
            self.follow(reply, happened);
        }
        self.number(out, before);
    }

    /// Takes a text of the client.
    pub(crate) fn receive(&mut self, text: &str, now: Duration, out: &mut Vec<Value>) {
        let before = out.len();
        let event = match serde_json::from_str::<Value>(text) {
            Ok(event) => event,
            Err(_) => {
                let refusal = Refusal::new("invalid_event", "The event is not valid JSON.");
                self.complain("(no event)", &refusal);
                out.push(refusal.event(None));
                self.number(out, before);
                return;
            }
        };
        if let Err(refusal) = self.handle(&event, now, out) {
            self.complain(event["type"].as_str().unwrap_or("(no type)"), &refusal);
            out.push(refusal.event(event["event_id"].as_str()));
        }
        self.number(out, before);
    }

    /// Keeps what the client did wrong for the summary.
    fn complain(&mut self, event: &str, refusal: &Refusal) {
        self.complaints.push(Complaint {
            event: event.to_owned(),
            code: refusal.code.unwrap_or("none").to_owned(),
            message: refusal.message.clone(),
        });
    }

    /// The parent of every client event: known fields first, then what the event asks for.
    ///
    /// Source: openai-python 3.51.0, `RealtimeClientEvent`, read 2026-11-20.
    fn handle(
        &mut self,
        event: &Value,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let kind = event.get("type").ok_or_else(|| Refusal::missing("type"))?;
        let Some(kind) = kind.as_str() else {
            return Err(Refusal::wrong_type("type", "a string", kind));
        };
        let with = |known: &[&str]| {
            let known = [&["type", "event_id"], known].concat();
            let fields = Fields::of("", event, &known)?;
            fields.maybe_text("event_id").map(|_| fields)
        };
        if kind != "session.update" && self.phase == Phase::Introduced {
            // The real service would go on with its own defaults, and the caller would hear it.
            let early = "Sent before the session was configured (this fake insists).";
            self.complain(kind, &Refusal::new("unconfigured_session", early));
        }
        match kind {
            "session.update" => self.update(with(&["session"])?.need("session")?, out),
            "input_audio_buffer.append" => self.append(with(&["audio"])?, now, out),
            "input_audio_buffer.clear" => {
                with(&[])?;
                out.push(json!({"type": "input_audio_buffer.cleared"}));
                Ok(())
            }
            "input_audio_buffer.commit" => {
                with(&[])?;
                let empty = "Error committing input audio buffer: the buffer is too small.";
                Err(Refusal::new("input_audio_buffer_commit_empty", empty))
            }
            "conversation.item.create" => {
                self.create_item(with(&["item", "previous_item_id"])?, out)
            }
            "conversation.item.truncate" => {
                self.truncate(with(&["item_id", "content_index", "audio_end_ms"])?, out)
            }
            "conversation.item.delete" => {
                let item = with(&["item_id"])?.text("item_id")?;
                self.known_item(item, "item_delete_invalid_item_id")?;
                self.items.remove(item);
                out.push(json!({"type": "conversation.item.deleted", "item_id": item}));
                Ok(())
            }
            "response.create" => self.create_response(with(&["response"])?, now, out),
            "response.cancel" => self.cancel(with(&["response_id"])?, now, out),
            "conversation.item.retrieve" | "output_audio_buffer.clear" => {
                let unsupported = format!("'{kind}' has no place on a phone's WebSocket.");
                Err(Refusal::new("invalid_value", unsupported))
            }
            unknown => {
                let message = format!("Invalid value: '{unknown}'. No such event type.");
                Err(Refusal {
                    param: Some("type".into()),
                    ..Refusal::new("invalid_value", message)
                })
            }
        }
    }

    /// Takes an update of the session whole, or not at all. A new input format begins a new
    /// detector: positions are counted in its audio.
    fn update(&mut self, session: &Value, out: &mut Vec<Value>) -> Result<(), Refusal> {
        let spoke = self.items.values().any(|item| matches!(item, Item::Spoken { .. }));
        let spoken = if spoke { Spoken::Already } else { Spoken::NotYet };
        let next = self.session.updated(session, spoken)?;
        if next.input == self.session.input {
            self.vad.set(detector(&next));
        } else {
            self.vad = Vad::new(detector(&next), next.input.rate_hz());
        }
        self.session = next;
        self.phase = Phase::Configured;
        out.push(json!({"type": "session.updated", "session": self.session.json()}));
        Ok(())
    }

    /// Hears audio. There is no answer to an append, ever; what it causes comes as events
    /// of its own.
    fn append(
        &mut self,
        fields: Fields<'_>,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let text = fields.text("audio")?;
        let mut bytes = Vec::new();
        if text.is_empty() || codec::base64::decode(text.as_bytes(), &mut bytes).is_err() {
            return Err(Refusal::value("audio", "standard base64 with padding, not empty"));
        }
        let mut samples = Vec::new();
        match self.session.input {
            Format::Pcmu => codec::g711::ulaw_decode(&bytes, &mut samples),
            Format::Pcm24k => codec::pcm::from_le_bytes(&bytes, &mut samples)
                .map_err(|_| Refusal::value("audio", "whole 16-bit samples"))?,
        }
        self.appended_bytes += bytes.len() as u64;
        if self.session.turns.is_none() {
            return Ok(());
        }
        for noticed in self.vad.hear(&samples) {
            match noticed {
                Noticed::Started { audio_start_ms } => {
                    self.speech_started(audio_start_ms, now, out)
                }
                Noticed::Stopped { audio_end_ms } => self.speech_stopped(audio_end_ms, now, out),
            }
        }
        Ok(())
    }

    /// The caller begins to speak: the answer that is being made is cut, if the session
    /// says so.
    fn speech_started(&mut self, audio_start_ms: u64, now: Duration, out: &mut Vec<Value>) {
        let item = self.ids.next("item");
        out.push(json!({
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": audio_start_ms, "item_id": item,
        }));
        self.speaking = Some(item);
        // An answer that was not begun yet is not begun while the caller speaks.
        self.agenda.retain(|(_, what)| !matches!(what, Later::Answer(_)));
        let interrupts = self.session.turns.is_some_and(|rules| rules.interrupt_response);
        if let Some(reply) = self.reply.as_mut().filter(|_| interrupts) {
            reply.cut(Cut::TurnDetected, now);
        }
    }

    /// The turn is over: it becomes an item, is written down a little later, and is
    /// answered.
    fn speech_stopped(&mut self, audio_end_ms: u64, now: Duration, out: &mut Vec<Value>) {
        let item = self.speaking.take().unwrap_or_else(|| self.ids.next("item"));
        let cue = self.repertoire.cue(self.turns);
        self.turns += 1;
        out.push(json!({
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": audio_end_ms, "item_id": item,
        }));
        let previous = self.last_item.replace(item.clone());
        out.push(json!({
            "type": "input_audio_buffer.committed",
            "previous_item_id": previous, "item_id": item,
        }));
        let shown = json!({
            "id": item, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{"type": "input_audio", "transcript": null}],
        });
        for kind in ["conversation.item.added", "conversation.item.done"] {
            out.push(json!({"type": kind, "previous_item_id": previous, "item": shown}));
        }
        self.items.insert(item.clone(), Item::Other);
        if self.session.transcribes {
            let text = self.repertoire.caller(cue).to_owned();
            self.agenda.push((now + TRANSCRIPTION, Later::Transcribe { item, text }));
        }
        if self.session.turns.is_some_and(|rules| rules.create_response) {
            self.agenda.push((now, Later::Answer(cue)));
        }
    }

    /// Begins the answer of a cue. While another one is being made the service refuses, as
    /// it does when asked by a client.
    fn answer(&mut self, cue: Cue, metadata: &Value, now: Duration, out: &mut Vec<Value>) {
        if self.fault == Fault::Silence {
            return;
        }
        if let Some(active) = &self.reply {
            out.push(already_active(active.id()).event(None));
            return;
        }
        let answer = self.repertoire.answer(cue).clone();
        let sound = self.repertoire.sound(cue);
        let audio = match self.session.output {
            Format::Pcmu => sound.ulaw().to_vec(),
            Format::Pcm24k => {
                let mut bytes = Vec::new();
                codec::pcm::to_le_bytes(&sound.pcm24k(), &mut bytes);
                bytes
            }
        };
        let material = Material {
            response: self.ids.next("resp"),
            item: self.ids.next("item"),
            tool_ids: (self.ids.next("item"), self.ids.next("call")),
            previous: self.last_item.clone(),
            conversation: format!("conv_{}", self.ids.session),
            format: self.session.output,
            voice: self.session.voice().clone(),
            max_output_tokens: self.session.json()["max_output_tokens"].clone(),
            metadata: metadata.clone(),
            text: answer.text,
            audio,
            tool: answer.tool.filter(|tool| self.offers(&tool.name)),
        };
        let mut reply = if self.fault == Fault::FailResponses {
            Reply::plan_failure(material, now)
        } else {
            Reply::plan(material, self.pace, now)
        };
        let happened = reply.tick(now, out);
        self.follow(reply, happened);
    }

    /// Whether the session offers a tool; a model cannot call another.
    fn offers(&self, tool: &str) -> bool {
        let tools = self.session.json()["tools"].as_array();
        tools.is_some_and(|tools| tools.iter().any(|offered| offered["name"] == tool))
    }

    /// Keeps what a step of an answer changed in the conversation, and the answer until it
    /// is over.
    fn follow(&mut self, reply: Reply, happened: Vec<Happened>) {
        let mut over = false;
        for event in happened {
            match event {
                Happened::Item(item) => {
                    let kind = if item == reply.item() {
                        Item::Spoken { left_ms: None }
                    } else {
                        Item::Other
                    };
                    self.items.insert(item.clone(), kind);
                    self.last_item = Some(item);
                }
                Happened::Called(call) => self.called.push(call),
                Happened::Done => over = true,
            }
        }
        if !over {
            self.reply = Some(reply);
            return;
        }
        if let Some(Item::Spoken { left_ms }) = self.items.get_mut(reply.item()) {
            left_ms.get_or_insert(reply.made_ms());
        }
    }

    /// Gives every event that has none an id.
    fn number(&mut self, out: &mut [Value], from: usize) {
        for event in &mut out[from..] {
            event["event_id"] = self.ids.next("event").into();
        }
    }
}

/// The detector's settings. With turn detection off it runs on and nobody asks it.
fn detector(session: &Session) -> VadSettings {
    let off = VadSettings { threshold: 1.0, prefix_padding_ms: 0, silence_duration_ms: 500 };
    session.turns.map_or(off, |rules| rules.vad)
}

/// What the caller said, in two events. The real service sends several deltas; one shows that
/// they are taken.
fn transcribe(item: &str, text: &str, out: &mut Vec<Value>) {
    const KIND: &str = "conversation.item.input_audio_transcription";
    out.push(json!({
        "type": format!("{KIND}.delta"), "item_id": item, "content_index": 0, "delta": text,
    }));
    out.push(json!({
        "type": format!("{KIND}.completed"), "item_id": item, "content_index": 0,
        "transcript": text, "usage": {"type": "duration", "seconds": 1.0},
    }));
}

/// What the caller said is written down a little after the turn's end, beside the answer.
const TRANSCRIPTION: Duration = Duration::from_millis(120);

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
