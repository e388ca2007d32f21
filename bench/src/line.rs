//! A call that is up, between the two messages of a frame: the relay's reading, deciding and
//! writing without its sockets.

use std::sync::Arc;
use std::time::Duration;

use codec::{base64, pcm};
use link::agent::{AgentAudio, AgentSpec};
use relay::call::input::{AgentEvent, Answering, AudioFormat, CallerEvent, Input, MarkId, Slot};
use relay::call::moment::Moment;
use relay::call::output::{AgentMessage, CallerMessage, Outbox, Output};
use relay::call::{Call, CallSpec};
use relay::wire::{AgentDialect, AgentWire, CallerDialect, CallerWire};

/// The stream's id in every message.
pub const STREAM: &str = "MZ0123456789abcdef0123456789abcdef";

/// Where a call's messages go, one text at a time.
pub trait Lines {
    /// A text for the caller; `write` appends it.
    fn caller(&mut self, write: impl FnOnce(&mut Vec<u8>));
    /// A text for the agent; `write` appends it.
    fn agent(&mut self, write: impl FnOnce(&mut Vec<u8>));
}

/// Texts in memory; each replaces the one before.
#[derive(Debug, Default)]
pub struct Texts {
    /// The last texts for the caller: a `media` and its `mark`.
    pub caller: Vec<u8>,
    /// The last text for the agent.
    pub agent: Vec<u8>,
}

impl Texts {
    /// Forgets them; the room stays.
    pub fn clear(&mut self) {
        self.caller.clear();
        self.agent.clear();
    }
}

impl Lines for Texts {
    fn caller(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.caller);
    }

    fn agent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.agent);
    }
}

/// A call whose agent is ready.
pub struct Line {
    call: Call,
    caller: CallerWire,
    caller_dialect: CallerDialect,
    agent: AgentWire,
    agent_dialect: AgentDialect,
    now: Moment,
    /// Frames that have left for the agent, and for the caller.
    pub frames: (u64, u64),
}

impl Line {
    /// A call whose stream has begun and whose agent has stated its session.
    ///
    /// # Panics
    /// When the call does not come up.
    #[must_use]
    pub fn up(audio: AgentAudio) -> Self {
        let spec = Arc::new(agent(audio));
        let format = match audio {
            AgentAudio::Mulaw => AudioFormat::Ulaw,
            AgentAudio::Pcm24k => AudioFormat::Pcm24k,
        };
        let call = CallSpec {
            agent: spec.clone(),
            caller: AudioFormat::Ulaw,
            playout_lead: Duration::from_millis(400),
            sorry: &[],
            moment: &[],
            spread: 0,
        };
        let now = Moment::from_micros(1_000_000);
        let (caller, agent) =
            (CallerWire::new(CallerDialect::Twilio, STREAM), AgentWire::new(spec));
        let mut line = Self {
            call: Call::new(call, now),
            caller_dialect: caller.dialect(),
            agent_dialect: agent.dialect(),
            caller,
            agent,
            now,
            frames: (0, 0),
        };
        let texts = &mut Texts::default();
        line.handle(Input::Caller(CallerEvent::Started), texts);
        let (uplink, playout) = (Some(format), Some(format));
        for event in [
            AgentEvent::Opened,
            AgentEvent::Configured { uplink, playout, answering: Answering::ByService },
            AgentEvent::ResponseStarted { response: "resp_1" },
        ] {
            line.handle(Input::Agent(Slot::A, event), texts);
        }
        line
    }

    /// The caller's stream says something, 20 ms after the last time.
    pub fn caller_says(&mut self, text: &str, lines: &mut impl Lines) {
        self.now = self.now + FRAME;
        let mut desk = Desk { caller: &self.caller, agent: &mut self.agent, lines, marks: None };
        let call = &mut self.call;
        self.caller_dialect.read(text, |event| {
            call.handle(Input::Caller(event), self.now, &mut desk);
        });
        self.frames.0 += 1;
    }

    /// The agent's service says something, 20 ms after the last time. Whatever the caller gets,
    /// its mark comes back at once.
    ///
    /// # Panics
    /// When nothing leaves for the caller.
    pub fn agent_says(&mut self, text: &str, lines: &mut impl Lines) {
        self.now = self.now + FRAME;
        let mut desk = Desk { caller: &self.caller, agent: &mut self.agent, lines, marks: None };
        let call = &mut self.call;
        self.agent_dialect.read(text, |event| {
            call.handle(Input::Agent(Slot::A, event), self.now, &mut desk);
        });
        let mark = desk.marks.expect("each frame leaves at once, with a mark");
        self.handle(Input::Caller(CallerEvent::Mark(mark)), lines);
        self.frames.1 += 1;
    }

    /// Time goes on.
    pub fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// The caller's stream says something at this moment.
    pub fn hear_caller(&mut self, text: &str, lines: &mut impl Lines) {
        let mut desk = Desk { caller: &self.caller, agent: &mut self.agent, lines, marks: None };
        self.caller_dialect.read(text, |event| {
            self.call.handle(Input::Caller(event), self.now, &mut desk);
        });
    }

    /// The agent's service says something at this moment.
    pub fn hear_agent(&mut self, text: &str, lines: &mut impl Lines) {
        let mut desk = Desk { caller: &self.caller, agent: &mut self.agent, lines, marks: None };
        self.agent_dialect.read(text, |event| {
            self.call.handle(Input::Agent(Slot::A, event), self.now, &mut desk);
        });
    }

    /// A deadline may have come at this moment.
    pub fn tick(&mut self, lines: &mut impl Lines) {
        self.handle(Input::Tick, lines);
    }

    /// Until when the call's driver would sleep.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        self.call.next_timeout()
    }

    fn handle(&mut self, input: Input<'_>, lines: &mut impl Lines) {
        let mut desk = Desk { caller: &self.caller, agent: &mut self.agent, lines, marks: None };
        self.call.handle(input, self.now, &mut desk);
    }
}

/// What a call says, as text; the last mark is remembered.
struct Desk<'a, L> {
    caller: &'a CallerWire,
    agent: &'a mut AgentWire,
    lines: &'a mut L,
    marks: Option<MarkId>,
}

impl<L: Lines> Outbox for Desk<'_, L> {
    fn put(&mut self, output: Output<'_>) {
        match output {
            Output::ToCaller(message) => {
                if let CallerMessage::Mark(id) = message {
                    self.marks = Some(id);
                }
                self.lines.caller(|text| self.caller.write(&message, text));
            }
            Output::ToAgent(_, message @ AgentMessage::Audio(_)) => {
                self.lines.agent(|text| self.agent.write(&message, text));
            }
            Output::ToAgent(..)
            | Output::Dial(_)
            | Output::Ping(_)
            | Output::RunTool(..)
            | Output::DropTool(_)
            | Output::Note(_) => {}
            Output::CloseAgent(_) | Output::CloseCaller(..) | Output::End(_) => {
                unreachable!("nothing ends this call: {output:?}")
            }
        }
    }
}

/// Twilio's `media` of 20 ms. Its numbers grow in place, as TCP's order promises.
#[derive(Debug)]
pub struct Media {
    text: String,
    /// Where the counter of frames is, and where their time is.
    digits: [std::ops::Range<usize>; 2],
    chunk: u64,
}

impl Media {
    /// The first one.
    #[must_use]
    pub fn new() -> Self {
        // Ten digits from the beginning, so that the text never grows.
        let chunk = 1_000_000_000;
        let before =
            r#"{"event":"media","sequenceNumber":"4","media":{"track":"inbound","chunk":""#;
        let between = r#"","timestamp":""#;
        let first = before.len()..before.len() + 10;
        let second = first.end + between.len()..first.end + between.len() + 10;
        let payload = text_of(super::frame());
        let text = format!(
            r#"{before}{chunk}{between}{chunk}","payload":"{payload}"}},"streamSid":"{STREAM}"}}"#
        );
        Self { text, digits: [first, second], chunk }
    }

    /// The next one.
    pub fn following(&mut self) -> &str {
        self.chunk += 1;
        let at_ms = 1_000_000_000 + (self.chunk - 1_000_000_000) * 20;
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for (digits, mut rest) in self.digits.clone().into_iter().zip([self.chunk, at_ms]) {
            for at in digits.rev() {
                bytes[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        self.text = String::from_utf8(bytes).expect("digits stay digits");
        &self.text
    }
}

impl Default for Media {
    fn default() -> Self {
        Self::new()
    }
}

/// OpenAI's audio delta of 20 ms.
#[must_use]
pub fn delta(audio: AgentAudio) -> String {
    match audio {
        AgentAudio::Mulaw => delta_of(1, super::frame()),
        AgentAudio::Pcm24k => {
            let mut bytes = Vec::new();
            pcm::to_le_bytes(&super::frame_pcm24k(), &mut bytes);
            delta_of(1, &bytes)
        }
    }
}

/// OpenAI's audio delta of these bytes, in the answer of this number.
#[must_use]
pub fn delta_of(answer: u32, bytes: &[u8]) -> String {
    let payload = text_of(bytes);
    format!(
        r#"{{"type":"response.output_audio.delta","event_id":"event_1","response_id":"resp_{answer}","item_id":"item_{answer}","output_index":0,"content_index":0,"delta":"{payload}"}}"#
    )
}

/// Twilio's `mark` of this number, as it comes back.
#[must_use]
pub fn mark(number: u32) -> String {
    format!(
        r#"{{"event":"mark","sequenceNumber":"4","streamSid":"{STREAM}","mark":{{"name":"m{number}"}}}}"#
    )
}

fn text_of(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    String::from_utf8(text).expect("base64 is text")
}

fn agent(audio: AgentAudio) -> AgentSpec {
    let audio = match audio {
        AgentAudio::Mulaw => "mulaw",
        AgentAudio::Pcm24k => "pcm24k",
    };
    let spec = format!(
        r#"{{"name":"bench","provider":{{"kind":"openai_realtime"}},"instructions":"Talk.","audio":"{audio}"}}"#
    );
    serde_json::from_str(&spec).expect("the bench's agent is a whole one")
}

/// The call's time between two frames.
const FRAME: Duration = Duration::from_millis(codec::frame::FRAME_MS as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_passes_through_as_it_is() {
        let (mut line, mut texts, mut media) =
            (Line::up(AgentAudio::Mulaw), Texts::default(), Media::new());
        let payload = text_of(crate::frame());
        for _ in 0..200 {
            texts.clear();
            line.caller_says(media.following(), &mut texts);
            line.agent_says(&delta(AgentAudio::Mulaw), &mut texts);
            for text in [&texts.agent, &texts.caller] {
                assert!(String::from_utf8_lossy(text).contains(&payload));
            }
        }
        assert_eq!(line.frames, (200, 200));
    }

    #[test]
    fn a_frame_is_transcoded_both_ways() {
        let (mut line, mut texts, mut media) =
            (Line::up(AgentAudio::Pcm24k), Texts::default(), Media::new());
        for _ in 0..200 {
            texts.clear();
            line.caller_says(media.following(), &mut texts);
            line.agent_says(&delta(AgentAudio::Pcm24k), &mut texts);
            // 960 bytes of PCM are 1,280 of base64; 160 of mu-law are 216.
            assert!((1_280..1_350).contains(&texts.agent.len()), "{}", texts.agent.len());
            let caller = String::from_utf8_lossy(&texts.caller);
            let payload =
                caller.split(r#""payload":""#).nth(1).and_then(|rest| rest.split('"').next());
            assert_eq!(payload.map(str::len), Some(216), "{caller}");
        }
    }
}
