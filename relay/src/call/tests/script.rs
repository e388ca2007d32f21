//! The words in which calls are played: `t.at_ms(40).speech_started().expect(["clear", ..])`.
//!
//! [`Script`] stands where the bridge stands: it moves time from one deadline to the next, says
//! `Tick`, and writes down what the call wants done, a line each:
//!
//! | line | means |
//! |---|---|
//! | `play 480`, `mark 3`, `clear` | said to the caller: bytes of audio, a mark, a clear |
//! | `append 160 as it came`, `append 160`, `append pcm 480`, `append pcm bytes 960` | caller's audio said to the agent |
//! | `configure`, `greet`, `respond`, `cancel r1`, `truncate i1.0 at 60`, `result c1: ..` | said to the agent |
//! | `dial A`, `close A`, `close caller: Normal`, `end: ..` | done to sockets, and the end |
//! | `note: ..` | told to the outside |

use std::sync::Arc;
use std::time::Duration;

use link::agent::{AgentAudio, AgentSpec};
use link::id::CommandId;

use super::record::Record;
use crate::call::input::{
    AgentEvent, Answering, Audio, AudioFormat, CallerEvent, Command, Input, Loss, MarkId, Outcome,
    RecordId, Severity, Side, Slot, ToolId, ToolResult,
};
use crate::call::moment::Moment;
use crate::call::{Call, CallSpec};

/// A call that is played by a script.
pub(super) struct Script {
    pub(super) call: Call,
    now: Moment,
    slot: Slot,
    is_deaf: bool,
    chunk: u64,
    record: Record,
}

/// 60 ms of speech by which every sample can be told apart from its neighbours.
pub(super) fn speech(ms: usize) -> Vec<u8> {
    (0..ms * 8).map(|n| (n % 251) as u8).collect()
}

/// A call's spec as these tests have it: mu-law, a greeting, every tool, 400 ms of lead, a clip of
/// 120 ms for the end and one of 60 ms for a moment's patience.
pub(super) fn spec() -> CallSpec {
    spec_with(|_| {})
}

/// The same, with something changed about the agent.
pub(super) fn spec_with(change: impl FnOnce(&mut AgentSpec)) -> CallSpec {
    let mut agent: AgentSpec = serde_json::from_value(serde_json::json!({
        "name": "front-desk", "instructions": "You answer the phone.", "greeting": "Greet.",
        "provider": {"kind": "openai_realtime"},
        "tools": [
            {"kind": "hang_up"},
            {"kind": "transfer", "destinations": [{"name": "sales", "to": "+4930123456"}]},
            {"kind": "send_dtmf"},
            {"kind": "http", "name": "find_slot", "description": "", "url": "https://x.example",
                "read_only": true},
            {"kind": "http", "name": "book_slot", "description": "", "url": "https://x.example"},
        ],
    }))
    .unwrap();
    change(&mut agent);
    CallSpec {
        agent: Arc::new(agent),
        caller: AudioFormat::Ulaw,
        playout_lead: Duration::from_millis(400),
        sorry: &[0x55; 960],
        moment: &[0x66; 480],
        spread: 0,
    }
}

/// A spec whose agent waits for the caller.
pub(super) fn quiet() -> CallSpec {
    spec_with(|agent| agent.greeting = None)
}

/// A spec whose caller is a browser, and whose agent waits for it. Its agent would speak mu-law on
/// the phone.
pub(super) fn browser() -> CallSpec {
    CallSpec { caller: AudioFormat::Pcm24k, ..quiet() }
}

/// A spec whose agent speaks PCM, and greets.
pub(super) fn pcm() -> CallSpec {
    spec_with(|agent| agent.audio = AgentAudio::Pcm24k)
}

impl Script {
    /// A call that nothing has happened to.
    pub(super) fn new(spec: CallSpec) -> Self {
        let now = Moment::from_micros(5_000_000);
        let record = Record::default();
        Self { call: Call::new(spec, now), now, slot: Slot::A, is_deaf: false, chunk: 0, record }
    }

    /// A call whose agent waits for the caller, is ready at 100 ms, and has said nothing.
    pub(super) fn live() -> Self {
        Self::live_with(|_| {})
    }

    /// The same, with something changed about the agent.
    pub(super) fn live_with(change: impl FnOnce(&mut AgentSpec)) -> Self {
        Self::live_as(spec_with(|agent| {
            agent.greeting = None;
            change(agent);
        }))
    }

    /// The same, by a spec whose agent waits for the caller and speaks mu-law.
    pub(super) fn live_as(spec: CallSpec) -> Self {
        let mut t = Self::new(spec);
        t.started().at_ms(100).opened().configured().forget();
        t
    }

    /// A call in which answer `r1` says `ms` of speech in item `i1`, all of it made at once.
    pub(super) fn speaking(ms: usize) -> Self {
        let mut t = Self::live();
        t.response_started("r1").audio("r1", "i1", &speech(ms)).audio_ended("r1", "i1");
        t.ended("r1", Outcome::Completed);
        t
    }

    /// Moves to a moment, past every deadline of the call before it.
    pub(super) fn at_ms(&mut self, ms: u64) -> &mut Self {
        let to = Moment::from_micros(5_000_000 + ms * 1_000);
        assert!(to >= self.now, "a script goes forward");
        while let Some(at) = self.call.next_timeout().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.put(Input::Tick);
        }
        self.now = to;
        self
    }

    /// Moves on.
    pub(super) fn after_ms(&mut self, ms: u64) -> &mut Self {
        let ms_now = (self.now.micros() - 5_000_000) / 1_000;
        self.at_ms(ms_now + ms)
    }

    /// Checks what the call wanted done since the last time.
    #[track_caller]
    pub(super) fn expect<const N: usize>(&mut self, lines: [&str; N]) -> &mut Self {
        assert_eq!(self.lines(), lines);
        self
    }

    /// Takes what the call wanted done since the last time.
    pub(super) fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.record.lines)
    }

    /// The same, of one kind.
    pub(super) fn lines_with(&mut self, start: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(start)).collect()
    }

    /// Takes what was told for the moment of turns that are not complete.
    pub(super) fn told_so_far(&mut self) -> Vec<String> {
        std::mem::take(&mut self.record.saying)
    }

    /// Lets what the call wanted done so far be.
    pub(super) fn forget(&mut self) -> &mut Self {
        self.record.lines.clear();
        self
    }

    /// All that was said to the caller so far, in its format.
    pub(super) fn played(&self) -> &[u8] {
        &self.record.played
    }

    /// All that was said to the agent so far, in mu-law or in samples' little-endian bytes.
    pub(super) fn appended(&self) -> &[u8] {
        &self.record.appended
    }

    /// When the agent was first heard after the stream began, and whether it was prepared.
    pub(super) fn first_voice(&self) -> Option<(Duration, bool)> {
        self.record.first_voice
    }

    /// The places of the turns that were told so far.
    pub(super) fn orders(&self) -> &[u32] {
        &self.record.orders
    }

    /// The marks that were sent since the last time.
    pub(super) fn take_marks(&mut self) -> Vec<MarkId> {
        std::mem::take(&mut self.record.marks)
    }

    /// Anything that happens.
    pub(super) fn put(&mut self, input: Input<'_>) -> &mut Self {
        self.call.handle(input, self.now, &mut self.record);
        self.call.check();
        // As a live socket does; whoever plays a dead one says so.
        while let Some(slot) = self.record.pings.pop().filter(|_| !self.is_deaf) {
            self.call.handle(Input::Agent(slot, AgentEvent::Alive), self.now, &mut self.record);
        }
        self
    }

    /// From here on, agents do not answer pings.
    pub(super) fn deaf(&mut self) -> &mut Self {
        self.is_deaf = true;
        self
    }

    // What the caller's side does.

    pub(super) fn started(&mut self) -> &mut Self {
        self.put(Input::Caller(CallerEvent::Started))
    }

    /// One frame of the caller: 20 ms of the byte.
    pub(super) fn caller_says(&mut self, byte: u8) -> &mut Self {
        self.caller_audio(&[byte; 160])
    }

    pub(super) fn caller_audio(&mut self, ulaw: &[u8]) -> &mut Self {
        self.chunk += 1;
        self.caller_chunk(self.chunk, ulaw)
    }

    pub(super) fn caller_chunk(&mut self, chunk: u64, ulaw: &[u8]) -> &mut Self {
        let text = base64(ulaw);
        let audio = Audio::Base64(&text);
        self.put(Input::Caller(CallerEvent::Media { at_ms: chunk * 20, chunk, audio }))
    }

    /// One frame of the caller, at a place of the carrier's time.
    pub(super) fn caller_at(&mut self, chunk: u64, at_ms: u64) -> &mut Self {
        let text = base64(&[9; 160]);
        let audio = Audio::Base64(&text);
        self.put(Input::Caller(CallerEvent::Media { at_ms, chunk, audio }))
    }

    /// Audio of a browser: so many milliseconds of one byte.
    pub(super) fn browser_says(&mut self, ms: usize, byte: u8) -> &mut Self {
        self.browser_audio(&vec![byte; ms * 48])
    }

    pub(super) fn browser_audio(&mut self, bytes: &[u8]) -> &mut Self {
        self.put(Input::Caller(CallerEvent::Speech(Audio::PcmBytes(bytes))))
    }

    pub(super) fn mark(&mut self, id: u32) -> &mut Self {
        self.put(Input::Caller(CallerEvent::Mark(MarkId(id))))
    }

    pub(super) fn caller(&mut self, event: CallerEvent<'_>) -> &mut Self {
        self.put(Input::Caller(event))
    }

    /// Every mark that is out comes back, until no new ones are sent.
    pub(super) fn all_is_heard(&mut self) -> &mut Self {
        loop {
            let marks = self.take_marks();
            if marks.is_empty() && self.call.next_timeout().is_none_or(|at| at > self.now) {
                return self;
            }
            for mark in marks {
                self.mark(mark.0);
            }
            self.after_ms(60);
            if self.record.marks.is_empty() {
                return self;
            }
        }
    }

    // What the agent's side does.

    pub(super) fn agent(&mut self, event: AgentEvent<'_>) -> &mut Self {
        self.put(Input::Agent(self.slot, event))
    }

    /// From here on, what an agent says comes on this socket.
    pub(super) fn on(&mut self, slot: Slot) -> &mut Self {
        self.slot = slot;
        self
    }

    pub(super) fn opened(&mut self) -> &mut Self {
        self.agent(AgentEvent::Opened)
    }

    /// The session is stated with mu-law both ways.
    pub(super) fn configured(&mut self) -> &mut Self {
        self.configured_as(Some(AudioFormat::Ulaw))
    }

    pub(super) fn configured_as(&mut self, format: Option<AudioFormat>) -> &mut Self {
        self.configured_to(format, Answering::ByService)
    }

    /// The session is stated, and who answers in it.
    pub(super) fn configured_to(
        &mut self,
        format: Option<AudioFormat>,
        answering: Answering,
    ) -> &mut Self {
        self.agent(AgentEvent::Configured { uplink: format, playout: format, answering })
    }

    pub(super) fn speech_started(&mut self) -> &mut Self {
        self.agent(AgentEvent::SpeechStarted)
    }

    pub(super) fn speech_stopped(&mut self) -> &mut Self {
        self.agent(AgentEvent::SpeechStopped)
    }

    pub(super) fn caller_turn(&mut self, item: &str) -> &mut Self {
        self.agent(AgentEvent::CallerTurn { item })
    }

    pub(super) fn caller_saying(&mut self, item: &str, text: &str) -> &mut Self {
        self.agent(AgentEvent::CallerSaying { item, text: text.into() })
    }

    pub(super) fn caller_said(&mut self, item: &str, text: &str) -> &mut Self {
        self.agent(AgentEvent::CallerSaid { item, text: text.into() })
    }

    pub(super) fn response_started(&mut self, response: &str) -> &mut Self {
        self.agent(AgentEvent::ResponseStarted { response })
    }

    pub(super) fn audio(&mut self, response: &str, item: &str, ulaw: &[u8]) -> &mut Self {
        let text = base64(ulaw);
        self.base64_audio(response, item, &text)
    }

    pub(super) fn base64_audio(&mut self, response: &str, item: &str, text: &str) -> &mut Self {
        self.agent(AgentEvent::Audio { response, item, part: 0, audio: Audio::Base64(text) })
    }

    pub(super) fn audio_ended(&mut self, response: &str, item: &str) -> &mut Self {
        self.agent(AgentEvent::AudioEnded { response, item })
    }

    pub(super) fn saying(&mut self, response: &str, item: &str, text: &str) -> &mut Self {
        self.agent(AgentEvent::Saying { response, item, text: text.into() })
    }

    pub(super) fn tool(&mut self, response: &str, call: &str, name: &str) -> &mut Self {
        self.tool_with(response, call, name, "{}")
    }

    pub(super) fn tool_with(
        &mut self,
        response: &str,
        call: &str,
        name: &str,
        arguments: &str,
    ) -> &mut Self {
        let arguments = arguments.into();
        self.agent(AgentEvent::ToolCalled { response, call, name, arguments })
    }

    pub(super) fn tool_done(&mut self, id: u32, output: &str) -> &mut Self {
        self.put(Input::Tool(ToolId(id), ToolResult::Done(output)))
    }

    pub(super) fn ended(&mut self, response: &str, outcome: Outcome<'_>) -> &mut Self {
        self.agent(AgentEvent::ResponseEnded { response, outcome, tokens: 0 })
    }

    pub(super) fn complained(&mut self, severity: Severity, code: &str) -> &mut Self {
        self.agent(AgentEvent::Complained { severity, code })
    }

    pub(super) fn agent_lost(&mut self, cause: Loss, detail: &str) -> &mut Self {
        self.agent(AgentEvent::Lost { cause, detail })
    }

    // What the outside does.

    pub(super) fn hang_up(&mut self) -> &mut Self {
        self.put(Input::Command { id: None, command: &Command::HangUp })
    }

    /// A command that wants its answer.
    pub(super) fn command(&mut self, command: &Command) -> &mut Self {
        let id = CommandId::new("cmd_1").unwrap();
        self.put(Input::Command { id: Some(&id), command })
    }

    pub(super) fn recorded(&mut self, record: u32) -> &mut Self {
        self.put(Input::Recorded(RecordId(record)))
    }

    pub(super) fn stalled(&mut self, side: Side) -> &mut Self {
        self.put(Input::Stalled(side))
    }

    pub(super) fn drained(&mut self, side: Side) -> &mut Self {
        self.put(Input::Drained(side))
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    codec::base64::encode(bytes, &mut text);
    String::from_utf8(text).unwrap()
}
