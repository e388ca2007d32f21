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

use self::events::rate_limits;
use self::pieces::{pieces, words_between};
use super::script::ToolCall;
use super::session::Format;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Completed,
    Cut(Cut),
    Failed,
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

    /// Plans an answer that fails as soon as it has begun.
    pub(crate) fn plan_failure(material: Material, now: Duration) -> Self {
        let mut reply = Self::plan(material, Pace::default(), now);
        reply.plan = VecDeque::from([(now, Step::Created), (now, Step::Done)]);
        reply.outcome = Outcome::Failed;
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
            Step::ItemDone => self.close_item(&self.message(self.item_status()), 0, out),
            Step::Tool => self.call_tool(out, happened),
            Step::Done => {
                let status = match self.outcome {
                    Outcome::Completed => "completed",
                    Outcome::Cut(_) => "cancelled",
                    Outcome::Failed => "failed",
                };
                out.push(json!({"type": "response.done", "response": self.response(status)}));
                happened.push(Happened::Done);
            }
        }
    }

    /// The words that were said so far; a cut answer has said no more.
    fn said(&self) -> &str {
        &self.material.text[..self.said_bytes]
    }

    /// The status of the spoken item once it is final.
    fn item_status(&self) -> &'static str {
        match self.outcome {
            Outcome::Completed => "completed",
            Outcome::Cut(_) | Outcome::Failed => "incomplete",
        }
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
mod tests {
    use super::*;

    fn material(ms: usize, format: Format) -> Material {
        Material {
            response: "resp_1".into(),
            item: "item_1".into(),
            tool_ids: ("item_2".into(), "call_1".into()),
            previous: None,
            conversation: "conv_1".into(),
            format,
            voice: "marin".into(),
            max_output_tokens: "inf".into(),
            metadata: Value::Null,
            text: "One two three four, five.".into(),
            audio: vec![0x55; ms * format.bytes_per_ms()],
            tool: None,
        }
    }

    fn kinds(events: &[Value]) -> Vec<&str> {
        let mut kinds: Vec<_> =
            events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        kinds.dedup();
        kinds
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_answer_comes_in_the_order_of_the_service() {
        let mut reply = Reply::plan(material(300, Format::Pcmu), Pace::default(), at(0));
        let mut out = Vec::new();
        let happened = reply.tick(at(10_000), &mut out);
        assert_eq!(happened, [Happened::Item("item_1".into()), Happened::Done]);
        assert_eq!(
            kinds(&out),
            [
                "response.created",
                "rate_limits.updated",
                "response.output_item.added",
                "conversation.item.added",
                "response.content_part.added",
                "response.output_audio_transcript.delta",
                "response.output_audio.delta",
                "response.output_audio_transcript.delta",
                "response.output_audio.delta",
                "response.output_audio.done",
                "response.output_audio_transcript.done",
                "response.content_part.done",
                "response.output_item.done",
                "conversation.item.done",
                "response.done",
            ]
        );
        assert_eq!(out.last().unwrap()["response"]["status"], "completed");
    }

    #[test]
    fn words_and_audio_are_whole_when_joined() {
        for format in [Format::Pcmu, Format::Pcm24k] {
            let mut reply = Reply::plan(material(5_000, format), Pace::default(), at(0));
            let mut out = Vec::new();
            reply.tick(at(60_000), &mut out);
            let deltas = |kind: &str| -> Vec<&str> {
                let of_kind = out.iter().filter(|event| event["type"] == kind);
                of_kind.map(|event| event["delta"].as_str().unwrap()).collect()
            };
            let mut audio = Vec::new();
            for piece in deltas("response.output_audio.delta") {
                codec::base64::decode(piece.as_bytes(), &mut audio).unwrap();
            }
            assert_eq!(audio, material(5_000, format).audio);
            let words = deltas("response.output_audio_transcript.delta").concat();
            assert_eq!(words, "One two three four, five.");
            assert_eq!(reply.made_ms(), 5_000);
        }
    }

    #[test]
    fn audio_is_made_faster_than_it_lasts() {
        let reply = Reply::plan(material(10_000, Format::Pcmu), Pace::default(), at(0));
        let (last, _) = reply.plan.back().unwrap();
        assert!(*last > at(1_800) && *last < at(2_200), "{last:?}");
    }

    #[test]
    fn a_cut_answer_ends_with_its_reason_after_late_audio() {
        let mut reply = Reply::plan(material(5_000, Format::Pcmu), Pace::default(), at(0));
        let mut out = Vec::new();
        reply.tick(at(200), &mut out);
        let made = reply.made_ms();
        out.clear();
        reply.cut(Cut::TurnDetected, at(200));
        let happened = reply.tick(at(300), &mut out);
        assert_eq!(happened, [Happened::Done]);
        assert_eq!(out[0]["type"], "response.output_audio.delta");
        assert!(reply.made_ms() > made && reply.made_ms() < 5_000);
        let done = &out.last().unwrap()["response"];
        assert_eq!(done["status"], "cancelled");
        assert_eq!(done["status_details"]["reason"], "turn_detected");
        assert_eq!(done["output"][0]["status"], "incomplete");
    }

    #[test]
    fn an_answer_cut_before_its_first_item_has_no_output() {
        let mut reply = Reply::plan(material(5_000, Format::Pcmu), Pace::default(), at(0));
        reply.cut(Cut::ClientCancelled, at(0));
        let mut out = Vec::new();
        reply.tick(at(100), &mut out);
        assert_eq!(kinds(&out), ["response.created", "response.done"]);
        assert_eq!(out[1]["response"]["output"], json!([]));
    }

    #[test]
    fn a_tool_is_called_after_the_words() {
        let mut material = material(100, Format::Pcmu);
        material.tool = Some(ToolCall { name: "hang_up".into(), arguments: "{}".into() });
        let mut reply = Reply::plan(material, Pace::default(), at(0));
        let mut out = Vec::new();
        let happened = reply.tick(at(10_000), &mut out);
        assert!(happened.contains(&Happened::Called("call_1".into())));
        let done = out.iter().rfind(|event| event["type"] == "response.output_item.done").unwrap();
        assert_eq!(done["item"]["name"], "hang_up");
        assert_eq!(done["output_index"], 1);
    }
}
