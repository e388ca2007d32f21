//! One connection of a client: what it may say, and what the service says to it.
//!
//! No socket and no clock in here: a text comes in with the time, events go out. The answers
//! themselves are planned in [`super::reply`], turns are found in [`super::vad`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::fields::Fields;
use super::record::{ItemRecord, Ledger};
use super::refusal::Refusal;
use super::repertoire::{Cue, Repertoire};
use super::reply::{Happened, Pace, Reply, TextReply};
use super::session::{Session, Spoken};
use super::trouble::Leave;
use super::vad::Vad;
use super::{Complaint, Fault};

mod hearing;
mod items;
mod responses;

use self::hearing::{Ear, detector};
use self::responses::Wish;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    repertoire: Arc<Repertoire>,
    pace: Pace,
    fault: Fault,
    session: Session,
    phase: Phase,
    ids: Ids,
    ear: Ear,
    ledger: Ledger,
    /// Calls of tools whose output is awaited.
    called: Vec<String>,
    /// The answer that is spoken: one at a time.
    reply: Option<Reply>,
    /// Answers beside the conversation.
    beside: Vec<TextReply>,
    agenda: Vec<(Duration, Later)>,
    leaving: Option<(Leave, Duration)>,
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

/// What the service does after a while by itself.
#[derive(Debug)]
enum Later {
    Transcribe {
        item: String,
        text: String,
    },
    Answer(Cue),
    /// The service leaves, and lets nobody in for a while.
    Leave(Leave, Duration),
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

/// Who connects, and to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitor<'a> {
    /// What makes the ids of this connection unlike those of others.
    pub(crate) name: &'a str,
    /// The model that was asked for.
    pub(crate) model: &'a str,
    /// The address of the client's end.
    pub(crate) peer: &'a str,
    /// When it connected, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// For how long it may stay, in seconds.
    pub(crate) seconds_max: u64,
}

impl Conversation {
    /// A connection that was let in.
    pub(crate) fn open(
        repertoire: Arc<Repertoire>,
        (pace, fault): (Pace, Fault),
        visitor: Visitor<'_>,
        out: &mut Vec<Value>,
    ) -> Self {
        let id = format!("sess_{}", visitor.name);
        let expires_at = visitor.at_us / 1_000_000 + visitor.seconds_max;
        let session = Session::new(&id, visitor.model, expires_at);
        let mut opened = Self {
            repertoire,
            pace,
            fault,
            phase: Phase::Introduced,
            ids: Ids { session: visitor.name.to_owned(), count: 0 },
            ear: Ear::new(&session),
            ledger: Ledger::new(&id, visitor.peer, visitor.at_us),
            session,
            called: Vec::new(),
            reply: None,
            beside: Vec::new(),
            agenda: Vec::new(),
            leaving: None,
            complaints: Vec::new(),
            appended_bytes: 0,
        };
        out.push(json!({"type": "session.created", "session": opened.session.json()}));
        opened.number(out, 0);
        opened
    }

    /// What is written down of it.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes what the client did wrong so far.
    pub(crate) fn take_complaints(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.complaints)
    }

    /// Takes how the service wants to leave, and for how long nobody is let in then.
    pub(crate) fn take_leave(&mut self) -> Option<(Leave, Duration)> {
        self.leaving.take()
    }

    /// Milliseconds of audio that were appended.
    pub(crate) fn appended_ms(&self) -> u64 {
        self.appended_bytes / self.session.input.bytes_per_ms() as u64
    }

    /// When something happens without the client.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let agenda = self.agenda.iter().map(|(at, _)| *at);
        let beside = self.beside.iter().map(TextReply::next);
        agenda.chain(beside).chain(self.reply.as_ref().and_then(Reply::next)).min()
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Vec<Value>) {
        let before = out.len();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.agenda).into_iter().partition(|(at, _)| *at <= now);
        self.agenda = later;
        for (_, what) in due {
            match what {
                Later::Transcribe { item, text } => {
                    transcribe(&item, &text, out);
                    let at_us = self.ledger.at_us(now);
                    self.ledger.item(&item, |item| {
                        item.text = text;
                        item.written_at_us = Some(at_us);
                    });
                }
                Later::Answer(cue) => self.answer(&cue, Wish::default(), now, out),
                Later::Leave(how, away) => self.leaving = Some((how, away)),
            }
        }
        if let Some(mut reply) = self.reply.take() {
            let happened = reply.tick(now, out);
            self.follow(reply, happened, now);
        }
        self.finish_beside(now, out);
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
            "session.update" => self.update(with(&["session"])?.need("session")?, now, out),
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
                self.create_item(with(&["item", "previous_item_id"])?, now, out)
            }
            "conversation.item.truncate" => {
                self.truncate(with(&["item_id", "content_index", "audio_end_ms"])?, out)
            }
            "conversation.item.delete" => {
                let item = with(&["item_id"])?.text("item_id")?;
                self.known_item(item, "item_delete_invalid_item_id")?;
                self.ledger.write(|record| record.items.retain(|known| known.id != item));
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
    fn update(
        &mut self,
        session: &Value,
        now: Duration,
        out: &mut Vec<Value>,
    ) -> Result<(), Refusal> {
        let spoke = self.ledger.read(|record| record.items.iter().any(ItemRecord::is_spoken));
        let spoken = if spoke { Spoken::Already } else { Spoken::NotYet };
        let next = self.session.updated(session, spoken)?;
        if next.input == self.session.input {
            self.ear.vad.set(detector(&next));
        } else {
            self.ear.vad = Vad::new(detector(&next), next.input.rate_hz());
        }
        self.session = next;
        self.phase = Phase::Configured;
        let at_us = self.ledger.at_us(now);
        let instructions = self.session.json()["instructions"].as_str().unwrap_or_default();
        self.ledger.write(|record| {
            record.configured_at_us.get_or_insert(at_us);
            record.updates += 1;
            instructions.clone_into(&mut record.instructions);
        });
        out.push(json!({"type": "session.updated", "session": self.session.json()}));
        Ok(())
    }

    /// Keeps what a step of an answer changed in the conversation, and the answer until it
    /// is over.
    fn follow(&mut self, reply: Reply, happened: Vec<Happened>, now: Duration) {
        let mut over = false;
        for event in happened {
            match event {
                Happened::Item(item) => self.remember(reply.item_record(&item, now, &self.ledger)),
                Happened::Called(call) => self.called.push(call),
                Happened::Done => over = true,
            }
        }
        self.ledger.item(reply.item(), |item| {
            reply.said().clone_into(&mut item.text);
            if over {
                item.made_ms = Some(reply.made_ms());
            }
        });
        if over {
            let status = reply.status();
            self.ledger.response(reply.id(), |response| response.status = Some(status.into()));
        } else {
            self.reply = Some(reply);
        }
    }

    /// Adds an item at the end of the conversation.
    fn remember(&mut self, item: ItemRecord) {
        self.ledger.write(|record| record.items.push(item));
    }

    /// The id of the last item.
    fn last_item(&self) -> Option<String> {
        self.ledger.read(|record| record.items.last().map(|item| item.id.clone()))
    }

    /// Gives every event that has none an id.
    fn number(&mut self, out: &mut [Value], from: usize) {
        for event in &mut out[from..] {
            event["event_id"] = self.ids.next("event").into();
        }
    }
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

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rebuilt_tests.rs"]
mod rebuilt_tests;
