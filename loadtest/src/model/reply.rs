//! One answer in the making: a plan of events with their times, cut short when the caller speaks.
//!
//! Audio comes in bursts several times faster than real time, in pieces of about 400 ms whose
//! sizes are odd on purpose, with the words between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

mod events;
mod pieces;
mod text;

use self::events::rate_limits;
use self::pieces::{pieces, words_between};
pub(crate) use self::text::TextReply;
use super::record::{ItemKind, ItemRecord, Ledger};
use super::script::ToolCall;
use super::session::Format;
use super::trouble::{Mishap, Stopped};

/// What an answer is made of.
#[derive(Debug)]
pub(crate) struct Material {
    /// The answer's id.
    pub(crate) response: String,
    /// The id of the item that is spoken.
    pub(crate) item: String,
    /// The id of the item that calls the tool, and the call's own id.
    pub(crate) tool_ids: (String, String),
    /// The item before it.
    pub(crate) previous: Option<String>,
    /// The conversation's id.
    pub(crate) conversation: String,
    /// The format of the audio.
    pub(crate) format: Format,
    /// The voice, as the session shows it.
    pub(crate) voice: Value,
    /// The bound of tokens, as the session shows it.
    pub(crate) max_output_tokens: Value,
    /// What the client wants to have back.
    pub(crate) metadata: Value,
    /// The words.
    pub(crate) text: String,
    /// The sound, in `format`.
    pub(crate) audio: Vec<u8>,
    /// A tool that is called after the words.
    pub(crate) tool: Option<ToolCall>,
}

/// How fast an answer comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From the start of the answer to its first audio.
    pub(crate) think: Duration,
    /// How much faster than real time audio is made, times ten.
    pub(crate) speed_tenths: u32,
}

impl Default for Pace {
    /// What was seen of the real service: a few hundred milliseconds, then 5.3 to 5.6 times real
    /// time in pieces of about 400 ms.
    fn default() -> Self {
        Self { think: Duration::from_millis(180), speed_tenths: 53 }
    }
}

/// Why an answer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The caller began to speak.
    TurnDetected,
    /// The client asked for it.
    ClientCancelled,
}

impl Cut {
    /// As `status_details.reason` writes it.
    fn reason(self) -> &'static str {
        match self {
            Self::TurnDetected => "turn_detected",
            Self::ClientCancelled => "client_cancelled",
        }
    }
}

/// One step of the plan; each is one event, or the two of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Created,
    RateLimits,
    ItemAdded,
    PartAdded,
    Words(Range<usize>),
    Audio(Range<usize>),
    AudioDone,
    WordsDone,
    PartDone,
    ItemDone,
    Tool,
    Done,
}

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Reply {
    material: Material,
    plan: VecDeque<(Duration, Step)>,
    made_bytes: usize,
    said_bytes: usize,
    item_added: bool,
    outcome: Outcome,
}

/// How the answer ends, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Completed,
    Cut(Cut),
    /// With the code of the error.
    Failed(String),
    Incomplete(Stopped),
}

impl Outcome {
    /// As `response.status` writes it.
    fn status(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cut(_) => "cancelled",
            Self::Failed(_) => "failed",
            Self::Incomplete(_) => "incomplete",
        }
    }

    /// The status of the spoken item once it is final.
    fn item_status(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cut(_) | Self::Failed(_) | Self::Incomplete(_) => "incomplete",
        }
    }
}

/// What the conversation must know of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// An item of the conversation came to be.
    Item(String),
    /// A tool was called; its output is awaited.
    Called(String),
    /// The answer is over.
    Done,
}

impl Reply {
    /// Plans an answer that begins at `now`.
    pub(crate) fn plan(material: Material, pace: Pace, now: Duration) -> Self {
        let mut plan = VecDeque::from([(now, Step::Created), (now, Step::RateLimits)]);
        let mut at = now + pace.think;
        plan.extend([(at, Step::ItemAdded), (at, Step::PartAdded)]);
        let pieces = pieces(material.audio.len(), material.format);
        let count = pieces.len().max(1);
        for (number, piece) in pieces.into_iter().enumerate() {
            let words = words_between(&material.text, number, count);
            if !words.is_empty() {
                plan.push_back((at, Step::Words(words)));
            }
            let ms = piece.len() / material.format.bytes_per_ms();
            plan.push_back((at, Step::Audio(piece)));
            let span = Duration::from_millis(ms as u64) * 10 / pace.speed_tenths.max(1);
            at += span;
        }
        let ends = [Step::AudioDone, Step::WordsDone, Step::PartDone, Step::ItemDone]
            .map(|step| (at, step));
        plan.extend(ends);
        if material.tool.is_some() {
            plan.push_back((at, Step::Tool));
        }
        plan.push_back((at, Step::Done));
        Self {
            material,
            plan,
            made_bytes: 0,
            said_bytes: 0,
            item_added: false,
            outcome: Outcome::Completed,
        }
    }

    /// Plans an answer that goes wrong in some way that its events show.
    pub(crate) fn plan_trouble(
        material: Material,
        pace: Pace,
        mishap: &Mishap,
        now: Duration,
    ) -> Self {
        let mut reply = Self::plan(material, pace, now);
        match mishap {
            Mishap::Failed { code } => {
                reply.plan = VecDeque::from([(now, Step::Created), (now, Step::Done)]);
                reply.outcome = Outcome::Failed(code.clone());
            }
            Mishap::Silence => reply.plan = VecDeque::from([(now, Step::Created)]),
            Mishap::Incomplete { reason, after_ms } => {
                let kept = after_ms.saturating_mul(reply.material.format.bytes_per_ms() as u64);
                let kept = usize::try_from(kept).unwrap_or(usize::MAX);
                let is_late = |step: &Step| matches!(step, Step::Audio(range) if range.end > kept);
                let end = reply.plan.iter().position(|(_, step)| is_late(step));
                if let Some(end) = end {
                    let tail = reply.plan.split_off(end);
                    let at = reply.plan.back().map_or(now, |(at, _)| *at);
                    let closing = tail.into_iter().map(|(_, step)| step);
                    let closing = closing.filter(|step| {
                        !matches!(step, Step::Audio(_) | Step::Words(_) | Step::Tool)
                    });
                    reply.plan.extend(closing.map(|step| (at, step)));
                }
                reply.outcome = Outcome::Incomplete(*reason);
            }
            // Neither shows in the events of the answer itself.
            Mishap::Error { .. } | Mishap::Leave { .. } => {}
        }
        reply
    }

    /// The answer's id.
    pub(crate) fn id(&self) -> &str {
        &self.material.response
    }

    /// The id of the item that is spoken.
    pub(crate) fn item(&self) -> &str {
        &self.material.item
    }

    /// What is written down of an item of this answer: what is said, or the call of a tool.
    pub(crate) fn item_record(&self, item: &str, now: Duration, ledger: &Ledger) -> ItemRecord {
        let at_us = ledger.at_us(now);
        match &self.material.tool {
            Some(tool) if item != self.material.item => ItemRecord {
                tool: Some(tool.name.clone()),
                call: Some(self.material.tool_ids.1.clone()),
                ..ItemRecord::new(item, at_us, ItemKind::Call, &tool.arguments)
            },
            _ => ItemRecord::new(item, at_us, ItemKind::Agent, self.said()),
        }
    }

    /// Audio that was made so far, in milliseconds.
    pub(crate) fn made_ms(&self) -> u64 {
        (self.made_bytes / self.material.format.bytes_per_ms()) as u64
    }

    /// When the next step is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.plan.front().map(|(at, _)| *at)
    }

    /// Cuts the answer. One piece of audio that was already on its way still comes, as it does
    /// with the real service; then everything is closed.
    pub(crate) fn cut(&mut self, why: Cut, now: Duration) {
        let late = self.plan.iter().map(|(_, step)| step).find(|s| matches!(s, Step::Audio(_)));
        let late = late.cloned();
        let created = self.plan.front().is_none_or(|(_, step)| *step != Step::Created);
        let mut rest = VecDeque::new();
        if !created {
            rest.push_back((now, Step::Created));
        }
        if self.item_added {
            rest.extend(late.map(|step| (now, step)));
            let ends = [Step::AudioDone, Step::WordsDone, Step::PartDone, Step::ItemDone];
            rest.extend(ends.map(|step| (now + LATE, step)));
        }
        rest.push_back((now + LATE, Step::Done));
        self.plan = rest;
        self.outcome = Outcome::Cut(why);
    }

    /// Takes the steps that are due.
    pub(crate) fn tick(&mut self, now: Duration, out: &mut Vec<Value>) -> Vec<Happened> {
        let mut happened = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, step)) = self.plan.pop_front() else { break };
            self.step(step, out, &mut happened);
        }
        happened
    }

    /// Carries out one step.
    fn step(&mut self, step: Step, out: &mut Vec<Value>, happened: &mut Vec<Happened>) {
        match step {
            Step::Created => out.push(json!({
                "type": "response.created", "response": self.response("in_progress"),
            })),
            Step::RateLimits => out.push(rate_limits()),
            Step::ItemAdded => {
                self.item_added = true;
                happened.push(Happened::Item(self.material.item.clone()));
                self.announce_item(&self.message("in_progress"), 0, out);
            }
            Step::PartAdded => out.push(self.part("response.content_part.added", "")),
            Step::Words(range) => {
                self.said_bytes = range.end;
                let words = &self.material.text[range];
                out.push(self.within("response.output_audio_transcript.delta", "delta", words));
            }
            Step::Audio(range) => {
                self.made_bytes = range.end;
                let mut text = Vec::new();
                codec::base64::encode(&self.material.audio[range], &mut text);
                let text = String::from_utf8(text).expect("base64 is ASCII");
                out.push(self.within("response.output_audio.delta", "delta", &text));
            }
            Step::AudioDone => out.push(self.bare("response.output_audio.done")),
            Step::WordsDone => out.push(self.within(
                "response.output_audio_transcript.done",
                "transcript",
                self.said(),
            )),
            Step::PartDone => out.push(self.part("response.content_part.done", self.said())),
            Step::ItemDone => self.close_item(&self.message(self.outcome.item_status()), 0, out),
            Step::Tool => self.call_tool(out, happened),
            Step::Done => {
                let response = self.response(self.outcome.status());
                out.push(json!({"type": "response.done", "response": response}));
                happened.push(Happened::Done);
            }
        }
    }

    /// How it ends, as far as is known: the text of `response.status`.
    pub(crate) fn status(&self) -> &'static str {
        self.outcome.status()
    }

    /// The words that were said so far; a cut answer has said no more.
    pub(crate) fn said(&self) -> &str {
        &self.material.text[..self.said_bytes]
    }

    /// Announces, fills and closes the item of a call. All at once: arguments are short.
    fn call_tool(&self, out: &mut Vec<Value>, happened: &mut Vec<Happened>) {
        let Some(tool) = &self.material.tool else { return };
        let (item, call) = &self.material.tool_ids;
        happened.push(Happened::Item(item.clone()));
        happened.push(Happened::Called(call.clone()));
        let response = &self.material.response;
        self.announce_item(&self.function_call("in_progress", ""), 1, out);
        out.push(json!({
            "type": "response.function_call_arguments.delta", "response_id": response,
            "output_index": 1, "item_id": item, "call_id": call, "delta": tool.arguments,
        }));
        out.push(json!({
            "type": "response.function_call_arguments.done", "response_id": response,
            "output_index": 1, "item_id": item, "call_id": call, "name": tool.name,
            "arguments": tool.arguments,
        }));
        self.close_item(&self.function_call("completed", &tool.arguments), 1, out);
    }
}

/// How long a cut takes to arrive everywhere.
const LATE: Duration = Duration::from_millis(30);

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
