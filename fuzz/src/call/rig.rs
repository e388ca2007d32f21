//! Plays the bridge, the carrier and the services around a call.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use link::agent::AgentSpec;
use link::id::CommandId;
use link::message::Side as Muted;
use link::tool::Address;
use relay::call::input::{
    AgentEvent, Answering, Audio, AudioFormat, Batch, CallerEvent, Command, Input, MarkId, Outcome,
    Preparation, Slot, ToolResult,
};
use relay::call::moment::Moment;
use relay::call::{Call, CallSpec};
use serde_json::json;

use super::Sent;
use super::step::{Agent, Begins, Carries, Gone, Joins, Name, Says, Step, ToolEnds, Voices, Wish};

/// A call, its time, and what the world knows of it.
pub(super) struct Rig {
    call: Call,
    pub(super) sent: Sent,
    now: Moment,
    /// The agent's.
    format: AudioFormat,
    caller: AudioFormat,
    at_ms: u64,
    chunk: u64,
    started: bool,
}

impl Rig {
    pub(super) fn new(agent: &Agent) -> Self {
        let (caller, format) = match agent.voices {
            Voices::Ulaw => (AudioFormat::Ulaw, AudioFormat::Ulaw),
            Voices::Transcoded => (AudioFormat::Ulaw, AudioFormat::Pcm24k),
            Voices::Page => (AudioFormat::Pcm24k, AudioFormat::Pcm24k),
        };
        let spec = CallSpec {
            agent: spec(agent),
            caller,
            playout_lead: Duration::from_millis(400),
            sorry: &[0x55; 800],
            moment: &[0x66; 1_600],
            spread: 7,
        };
        let now = Moment::from_micros(1_000_000);
        Self {
            call: Call::new(spec, now),
            sent: Sent::new(caller),
            now,
            format,
            caller,
            at_ms: 0,
            chunk: 0,
            started: false,
        }
    }

    fn hear(&mut self, input: Input<'_>) {
        if self.sent.ended {
            return;
        }
        self.sent.outputs = 0;
        self.call.handle(input, self.now, &mut self.sent);
        if !self.sent.ended {
            self.call.check();
        }
    }

    /// What happens before the steps.
    pub(super) fn begin(&mut self, begins: Begins) {
        match begins {
            Begins::AsItComes => {}
            Begins::Called => self.carrier(Carries::Started),
            Begins::Live => {
                self.carrier(Carries::Started);
                self.welcome(Slot::A);
            }
            Begins::Announced { greeting } => self.announce(greeting),
            Begins::Prepared { greeting } => {
                self.announce(greeting);
                self.welcome(Slot::A);
            }
        }
    }

    fn announce(&mut self, greeting: bool) {
        let preparation = if greeting { Preparation::Greeting } else { Preparation::Session };
        self.hear(Input::Announced(preparation));
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Announced { greeting } => self.announce(*greeting),
            Step::Speaks { frames } => (0..*frames).for_each(|_| self.frame()),
            Step::Played => {
                if let Some(mark) = self.sent.marks.pop_front() {
                    self.hear(Input::Caller(CallerEvent::Mark(mark)));
                }
            }
            Step::AllPlayed => {
                for mark in std::mem::take(&mut self.sent.marks) {
                    self.hear(Input::Caller(CallerEvent::Mark(mark)));
                }
            }
            Step::Welcomed(at) => self.welcome(at.slot()),
            Step::Agent(at, says) => self.says(at.slot(), says),
            Step::Answers(at, name, ms) => self.answers(at.slot(), *name, *ms),
            Step::Tool(ends) => self.tool(*ends),
            Step::Recorded => {
                if let Some(record) = self.sent.records.pop_front() {
                    self.hear(Input::Recorded(record));
                }
            }
            Step::Command { counted, wish } => self.command(*counted, *wish),
            Step::Wait { ms } => self.wait(Duration::from_millis(u64::from(*ms))),
            Step::WaitLong { seconds } => self.wait(Duration::from_secs(u64::from(*seconds))),
            Step::Tick => self.hear(Input::Tick),
            Step::Drain => self.hear(Input::Drain),
            Step::Stalled(leg) => self.hear(Input::Stalled(leg.side())),
            Step::Drained(leg) => self.hear(Input::Drained(leg.side())),
            Step::Batch(joins) => {
                let span = Duration::from_millis(60);
                self.hear(Input::Batch(match joins {
                    Joins::Nothing => Batch::Off,
                    Joins::Writes => Batch::Writes(span),
                    Joins::Reads => Batch::Reads(span),
                }));
            }
            Step::Carrier(carries) => self.carrier(*carries),
        }
    }

    /// What the carrier's socket says beyond good media and marks.
    fn carrier(&mut self, carries: Carries) {
        let event = match carries {
            Carries::Started => {
                self.started = true;
                CallerEvent::Started
            }
            // Half a sample now and then.
            Carries::OddMedia { at_ms: _, chunk } if self.caller == AudioFormat::Pcm24k => {
                CallerEvent::Speech(Audio::PcmBytes(&page_frame()[..usize::from(chunk)]))
            }
            Carries::OddMedia { at_ms, chunk } => CallerEvent::Media {
                at_ms: u64::from(at_ms),
                chunk: u64::from(chunk),
                audio: Audio::Base64(frame_text()),
            },
            Carries::StrayMark(mark) => CallerEvent::Mark(MarkId(mark)),
            Carries::Key(key) => CallerEvent::Key(char::from(key)),
            Carries::Malformed => CallerEvent::Malformed,
            Carries::Gone(Gone::Stopped) => CallerEvent::Stopped,
            Carries::Gone(Gone::Lost) => CallerEvent::Lost,
            Carries::Gone(Gone::Violated) => CallerEvent::Violated,
        };
        self.hear(Input::Caller(event));
    }

    fn frame(&mut self) {
        self.chunk += 1;
        let event = match self.caller {
            AudioFormat::Ulaw => CallerEvent::Media {
                at_ms: self.at_ms,
                chunk: self.chunk,
                audio: Audio::Base64(frame_text()),
            },
            AudioFormat::Pcm24k => CallerEvent::Speech(Audio::PcmBytes(page_frame())),
        };
        self.hear(Input::Caller(event));
        self.at_ms += 20;
        self.wait(Duration::from_millis(20));
    }

    fn welcome(&mut self, slot: Slot) {
        self.agent(slot, AgentEvent::Opened);
        let answering = self.sent.asked[slot as usize].unwrap_or(Answering::ByRelay);
        let format = Some(self.format);
        self.agent(slot, AgentEvent::Configured { uplink: format, playout: format, answering });
    }

    fn answers(&mut self, slot: Slot, name: Name, ms: u16) {
        let (response, item) = (name.response(), name.item());
        self.agent(slot, AgentEvent::ResponseStarted { response });
        self.audio(slot, response, item, 0, ms);
        self.agent(slot, AgentEvent::Saying { response, item, text: "Some words.".into() });
        self.agent(slot, AgentEvent::AudioEnded { response, item });
        let outcome = Outcome::Completed;
        self.agent(slot, AgentEvent::ResponseEnded { response, outcome, tokens: 50 });
    }

    fn audio(&mut self, slot: Slot, response: &str, item: &str, part: u32, ms: u16) {
        if !self.sent.dialled[slot as usize] {
            return;
        }
        // Mostly little, now and then so much that a few are more than a call may hold.
        let ms = if ms > LONG_FROM { LONG_MS } else { u64::from(ms % SHORT_MS_MAX) };
        *self.sent.generated_ms.entry((item.to_owned(), part)).or_default() += ms;
        let bytes = match self.format {
            AudioFormat::Ulaw => vec![0x33; ms as usize * 8],
            AudioFormat::Pcm24k => vec![0x11; ms as usize * 48],
        };
        let mut text = Vec::new();
        codec::base64::encode(&bytes, &mut text);
        let text = str::from_utf8(&text).expect("base64 is text");
        let audio = Audio::Base64(text);
        self.agent(slot, AgentEvent::Audio { response, item, part, audio });
    }

    /// Something of an agent's socket, if there is one.
    fn agent(&mut self, slot: Slot, event: AgentEvent<'_>) {
        if !self.sent.dialled[slot as usize] || self.sent.ended {
            return;
        }
        if matches!(event, AgentEvent::Lost { .. }) {
            self.sent.dialled[slot as usize] = false;
            self.sent.asked[slot as usize] = None;
        }
        self.hear(Input::Agent(slot, event));
    }

    fn says(&mut self, slot: Slot, says: &Says) {
        let event = match says {
            Says::Audio { response, item, part, ms } => {
                let part = u32::from(*part);
                return self.audio(slot, response.response(), item.item(), part, *ms);
            }
            Says::Opened => AgentEvent::Opened,
            Says::Configured { pcm, by_service, unknown } => {
                let format = if *pcm { AudioFormat::Pcm24k } else { AudioFormat::Ulaw };
                let format = (!unknown).then_some(format);
                let answering = if *by_service { Answering::ByService } else { Answering::ByRelay };
                AgentEvent::Configured { uplink: format, playout: format, answering }
            }
            Says::Alive => AgentEvent::Alive,
            Says::Summarised { said } => {
                AgentEvent::Summarised { summary: said.then_some("A bike.".into()), tokens: 7 }
            }
            Says::Speech { begins: true } => AgentEvent::SpeechStarted,
            Says::Speech { begins: false } => AgentEvent::SpeechStopped,
            Says::CallerTurn(item) => AgentEvent::CallerTurn { item: item.item() },
            Says::CallerSaid(item, words) => {
                let text = if *words { "Is it ready?" } else { "" };
                AgentEvent::CallerSaid { item: item.item(), text: text.into() }
            }
            Says::ResponseStarted(name) => {
                AgentEvent::ResponseStarted { response: name.response() }
            }
            Says::AudioBroken(response, item) => AgentEvent::Audio {
                response: response.response(),
                item: item.item(),
                part: 0,
                audio: Audio::Base64("no base64!"),
            },
            Says::AudioEnded(response, item) => {
                AgentEvent::AudioEnded { response: response.response(), item: item.item() }
            }
            Says::Saying(response, item) => AgentEvent::Saying {
                response: response.response(),
                item: item.item(),
                text: "Some more words. ".into(),
            },
            Says::ToolCalled { response, call, tool, sound } => {
                let (name, arguments) = tool.called(*sound);
                AgentEvent::ToolCalled {
                    response: response.response(),
                    call: call.call(),
                    name,
                    arguments: arguments.into(),
                }
            }
            Says::ResponseEnded { response, outcome, tokens } => AgentEvent::ResponseEnded {
                response: response.response(),
                outcome: outcome.outcome(),
                tokens: u64::from(*tokens),
            },
            Says::Complained(complaint) => {
                AgentEvent::Complained { severity: complaint.severity(), code: "some_code" }
            }
            Says::Ignored => AgentEvent::Ignored,
            Says::Malformed => AgentEvent::Malformed,
            Says::Lost(how) => AgentEvent::Lost { cause: how.loss(), detail: "gone" },
        };
        self.agent(slot, event);
    }

    fn tool(&mut self, ends: ToolEnds) {
        let Some(id) = self.sent.tools.pop_front() else { return };
        self.hear(Input::Tool(
            id,
            match ends {
                ToolEnds::Done => ToolResult::Done(r#"{"slot":"10:00"}"#),
                ToolEnds::Failed => ToolResult::Failed("The tool failed."),
                ToolEnds::TimedOut => ToolResult::TimedOut,
            },
        ));
    }

    fn command(&mut self, counted: bool, wish: Wish) {
        let text = "Some words.".to_owned();
        let command = match wish {
            Wish::HangUp => Command::HangUp,
            Wish::Yield => Command::Yield,
            Wish::Say => Command::Say { text },
            Wish::Inject => Command::Inject { text },
            Wish::Instruct => Command::Instruct { instructions: text },
            Wish::MuteCaller(on) => Command::Mute { side: Muted::Caller, on },
            Wish::MuteAgent(on) => Command::Mute { side: Muted::Agent, on },
            Wish::Transfer => {
                Command::Transfer { to: Address::new("+4930123456").expect("a number") }
            }
            Wish::Unknown => Command::Unknown,
        };
        let id = CommandId::new("cmd-1").expect("an id");
        self.hear(Input::Command { id: counted.then_some(&id), command: &command });
    }

    /// Lets time pass, and wakes the call whenever it wants to be.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..WAKES_MAX {
            match self.call.next_timeout() {
                Some(due) if due <= until && !self.sent.ended => {
                    self.now = self.now.max(due);
                    self.hear(Input::Tick);
                }
                Some(_) | None => {
                    self.now = self.now.max(until);
                    return;
                }
            }
        }
        panic!("the call wakes for ever");
    }

    /// Whatever has happened, a caller who has gone ends the call, soon and once.
    pub(super) fn finish(&mut self) {
        if self.sent.ended || !self.started {
            return;
        }
        self.hear(Input::Caller(CallerEvent::Stopped));
        self.wait(Duration::from_secs(30));
        assert!(self.sent.ended, "the caller is gone, and the call goes on");
    }
}

/// 20 ms of mu-law as a carrier sends it.
fn frame_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = Vec::new();
        codec::base64::encode(&[0x22; codec::frame::ULAW_FRAME_BYTES], &mut text);
        String::from_utf8(text).expect("base64 is text")
    })
}

/// 20 ms of a page's audio.
fn page_frame() -> &'static [u8] {
    &[0x22; 960]
}

fn spec(agent: &Agent) -> Arc<AgentSpec> {
    let (silence, tokens, roll_over, turns) =
        if agent.is_hasty { (5, 500, 60, 2) } else { (60, 0, 3_000, 20) };
    let spec = json!({
        "name": "front-desk",
        "instructions": "You answer the phone.",
        "greeting": agent.greets.then_some("Say hello."),
        "audio": if agent.voices == Voices::Transcoded { "pcm24k" } else { "mulaw" },
        "provider": {"kind": "openai_realtime"},
        "tools": [
            {"kind": "hang_up"},
            {"kind": "send_dtmf"},
            {"kind": "transfer", "destinations": [{"name": "desk", "to": "+4930123456"}]},
            {"kind": "http", "name": "find_slot", "description": "Finds a slot.",
                "url": "https://tools.example.com/"},
        ],
        "limits": {"silence_seconds_max": silence, "call_tokens_max": tokens},
        "session": {"roll_over_seconds": roll_over, "summary_turns": turns,
            "hedge_ms": if agent.hedges { 800 } else { 0 }},
    });
    Arc::new(serde_json::from_value(spec).expect("it is a spec"))
}

/// Milliseconds of audio in one piece, of the usual kind.
const SHORT_MS_MAX: u16 = 1_500;
/// One piece in sixteen is long.
const LONG_FROM: u16 = u16::MAX / 16 * 15;
/// Three of them are more than the minute that a call holds.
const LONG_MS: u64 = 25_000;
/// Wakes within four minutes, of which each frame of playout is one.
const WAKES_MAX: usize = 100_000;
