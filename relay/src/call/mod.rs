//! One phone call: what it makes of everything that happens to it.
//!
//! Pure. Time is an argument, what happens comes in as an [`Input`], what is to be done goes into
//! an [`Outbox`]; no socket, clock, lock, log or task is in here. The driver that carries it out
//! is `relay/src/bridge.rs`; whole calls are played as scripts in `call/tests/`.
//!
//! ```text
//!             +--------------------------- Call ---------------------------+
//!  caller --> | uplink: hold, forward, transcode ------------------------> | --> agent
//!             | agent: dialled, configured, ready, gone                    |
//!  caller <-- | playout: ledger + pace <--- turns: one answer at a time <- | <-- agent
//!             |          ^-- barge_in: clear, truncate at heard            |
//!             | phase + ending: live, goodbye or sorry, recorded, over     |
//!             | timers: named deadlines                                    |
//!             +------------------------------------------------------------+
//! ```
//!
//! Read [`input`] and [`output`] first: they are the contract. Then this file, which says which
//! machine hears what; then the machines, in the order of the lines below.

pub mod input;
pub mod moment;
pub mod output;

mod ending;
mod phase;
mod tools;

mod agent;
mod uplink;

mod barge_in;
mod pace;
mod part;
mod playout;
mod turns;
mod words;

mod held;
mod timers;
mod transcode;

#[cfg(test)]
mod tests;

use std::time::Duration;

use link::event::EndReason;

pub use self::barge_in::Interruption;
pub use self::tools::HANG_UP;

use self::agent::{Agent, Change};
use self::input::{AgentEvent, AgentFormat, Audio, CallerEvent, Command, Input, Outcome};
use self::input::{MarkId, Severity, Side, Slot};
use self::moment::Moment;
use self::output::{AgentMessage, Flow, Milestone, Oddity, Outbox, Output};
use self::part::Spoken;
use self::phase::{Goodbye, Phase, Saying};
use self::playout::{Added, Playout, Proof};
use self::timers::{Timer, Timers};
use self::turns::Turns;
use self::uplink::Uplink;

/// What is settled about a call before it begins.
#[derive(Debug, Clone)]
pub struct CallSpec {
    /// The audio format on the agent's socket, both ways.
    pub agent_audio: AgentFormat,
    /// Who speaks first.
    pub opening: Opening,
    /// Who stops an answer when the caller speaks.
    pub interruption: Interruption,
    /// The longest call.
    pub call_max: Duration,
    /// The most audio that is sent ahead of the caller's ear; at least 120 ms.
    pub playout_lead: Duration,
    /// Mu-law that the caller hears when the agent is of no use. May be empty.
    pub sorry: &'static [u8],
}

/// Who speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The agent greets.
    AgentGreets,
    /// The agent waits for the caller.
    CallerSpeaks,
}

/// One phone call.
#[derive(Debug)]
pub struct Call {
    spec: CallSpec,
    phase: Phase,
    began: Moment,
    agent: Agent,
    uplink: Uplink,
    playout: Playout,
    turns: Turns,
    timers: Timers,
    /// Broken messages of the caller's side.
    malformed: u32,
    /// The number of the last decision.
    records: u32,
}

impl Call {
    /// A call whose caller is not here yet.
    ///
    /// # Panics
    /// When the lead is shorter than 120 ms.
    #[must_use]
    pub fn new(spec: CallSpec, now: Moment) -> Self {
        Self {
            phase: Phase::Announced,
            began: now,
            // Slot B stays empty until something needs two agents at once.
            agent: Agent::new(Slot::A, spec.agent_audio),
            uplink: Uplink::new(spec.agent_audio),
            playout: Playout::new(spec.agent_audio, spec.playout_lead),
            turns: Turns::new(),
            timers: Timers::default(),
            malformed: 0,
            records: 0,
            spec,
        }
    }

    /// Takes something that happened, and says what is to be done about it.
    pub fn handle(&mut self, input: Input<'_>, now: Moment, out: &mut impl Outbox) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match input {
            Input::Caller(event) => self.on_caller(event, now, out),
            Input::Agent(slot, event) => self.on_agent(slot, event, now, out),
            Input::Command { command: Command::HangUp, .. } => {
                self.stop(EndReason::OperatorHungUp, now, out);
            }
            Input::Command { command: Command::Yield, .. } => self.on_yield(out),
            Input::Announced(_) | Input::Tool(..) | Input::Command { .. } => {}
            Input::Recorded(record) => self.on_recorded(record, out),
            Input::Tick => self.on_tick(now, out),
            Input::Drain => self.on_drain(now, out),
            Input::Stalled(Side::Caller) => self.playout.stalled(),
            Input::Drained(Side::Caller) => self.playout.drained(),
            Input::Stalled(Side::Agent(slot)) if slot == self.agent.slot() => self.uplink.stalled(),
            Input::Drained(Side::Agent(slot)) if slot == self.agent.slot() => {
                self.uplink.drained(slot, out);
            }
            Input::Stalled(Side::Agent(_)) | Input::Drained(Side::Agent(_)) => {}
        }
        self.settle(now, out);
    }

    /// When to say [`Input::Tick`], if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timers.first()
    }

    fn on_caller(&mut self, event: CallerEvent<'_>, now: Moment, out: &mut impl Outbox) {
        match event {
            CallerEvent::Started => self.on_started(now, out),
            CallerEvent::Media { at_ms: _, chunk, audio } => self.on_media(chunk, audio, now, out),
            CallerEvent::Mark(mark) => self.on_mark(mark, out),
            // No agent has a use for keys yet.
            CallerEvent::Key(_) => {}
            CallerEvent::Malformed => self.on_caller_malformed(now, out),
            CallerEvent::Stopped => self.on_caller_stopped(now, out),
            CallerEvent::Lost => self.on_caller_lost(now, out),
            CallerEvent::Violated => self.on_caller_violated(now, out),
        }
    }

    fn on_started(&mut self, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Announced => {
                self.phase = Phase::Live;
                self.began = now;
                self.timers.set(Timer::CallLimit, now + self.spec.call_max);
                self.timers.set(Timer::Agent, now + DIAL_MAX);
                out.put(Output::Note(Milestone::Started));
                self.agent.dial(out);
            }
            Phase::Live | Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } => {
                self.on_caller_malformed(now, out);
            }
            Phase::Over => {}
        }
    }

    fn on_media(&mut self, chunk: u64, audio: Audio<'_>, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Live | Phase::Goodbye(_) => {
                if self.uplink.media(chunk, audio, self.agent.slot(), out).is_err() {
                    self.on_caller_malformed(now, out);
                }
            }
            Phase::Announced | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => {}
        }
    }

    fn on_mark(&mut self, mark: MarkId, out: &mut impl Outbox) {
        match self.playout.mark_returned(mark) {
            Proof::Heard | Proof::Dead => {}
            Proof::Stray => out.put(Output::Note(Milestone::Tolerated(Oddity::StrayMark))),
        }
    }

    fn on_agent(&mut self, slot: Slot, event: AgentEvent<'_>, now: Moment, out: &mut impl Outbox) {
        if slot != self.agent.slot() {
            // Nobody dialled it, so nothing that it says counts.
            out.put(Output::CloseAgent(slot));
            return;
        }
        if !self.phase.hears_agent() || self.agent.is_gone() {
            return;
        }
        let change = if event.is_conversation() && !self.agent.is_ready() {
            self.agent.on_malformed(out)
        } else {
            self.hear_agent(event, now, out)
        };
        match change {
            Change::None => {}
            Change::Configuring => self.timers.set(Timer::Agent, now + CONFIGURE_MAX),
            Change::Ready => self.on_agent_ready(now, out),
            Change::Failed(reason, detail) => self.fail(reason, detail, now, out),
        }
    }

    fn hear_agent<'a>(
        &mut self,
        event: AgentEvent<'a>,
        now: Moment,
        out: &mut impl Outbox,
    ) -> Change<'a> {
        match event {
            AgentEvent::Opened => return self.agent.on_opened(out),
            AgentEvent::Configured { uplink, playout, .. } => {
                return self.agent.on_configured(uplink, playout);
            }
            AgentEvent::Alive | AgentEvent::Summarised(_) => {}
            AgentEvent::Complained { severity, code } => {
                match severity {
                    Severity::Refused => self.turns.on_refused(),
                    Severity::Benign | Severity::Over | Severity::Fatal => {}
                }
                return self.agent.on_complaint(severity, code, out);
            }
            AgentEvent::Malformed => return self.agent.on_malformed(out),
            AgentEvent::Lost { cause, detail } => return self.agent.on_lost(cause, detail),
            AgentEvent::Ignored => {}
            AgentEvent::SpeechStarted => self.on_speech_started(now, out),
            AgentEvent::SpeechStopped => self.turns.on_speech_stopped(now),
            AgentEvent::CallerTurn { item } => self.turns.on_caller_turn(item, out),
            AgentEvent::CallerSaid { item, text } => self.turns.on_caller_said(item, &text, out),
            AgentEvent::ResponseStarted { response } => self.turns.on_started(response),
            AgentEvent::Audio { response, item, part, audio } => {
                return self.on_audio(Spoken { response, item, part }, audio, out);
            }
            AgentEvent::AudioEnded { response, item } => self.playout.audio_ended(response, item),
            AgentEvent::Saying { response, item, text } => {
                if self.turns.is_wanted(response) {
                    let at = self.playout.generated(response, item);
                    self.turns.on_saying(response, item, &text, at);
                }
            }
            AgentEvent::ToolCalled { response, call, name, arguments: _ } => {
                self.on_tool_called(response, call, name, now, out);
            }
            AgentEvent::ResponseEnded { response, outcome, .. } => {
                return self.on_response_ended(response, outcome, now, out);
            }
        }
        Change::None
    }

    fn on_response_ended<'a>(
        &mut self,
        response: &str,
        outcome: Outcome<'a>,
        now: Moment,
        out: &mut impl Outbox,
    ) -> Change<'a> {
        self.playout.answer_ended(Some(response));
        match outcome {
            // Nobody waits for an answer that was cut, so it may fail.
            Outcome::Failed { code, .. } if self.turns.is_wanted(response) => {
                return Change::Failed(EndReason::AgentFailed, code);
            }
            Outcome::Failed { .. }
            | Outcome::Completed
            | Outcome::Cancelled
            | Outcome::Incomplete => {}
        }
        self.turns.on_ended(response, self.agent.slot(), out);
        self.on_goodbye_complete(response, now);
        Change::None
    }

    fn on_agent_ready(&mut self, now: Moment, out: &mut impl Outbox) {
        self.timers.set(Timer::Agent, None);
        out.put(Output::Note(Milestone::AgentReady { after: now.since(self.began) }));
        // The greeting is asked for before the agent hears what the caller has said meanwhile:
        // afterwards the service might be answering that already.
        match self.spec.opening {
            Opening::AgentGreets => self.turns.greet(self.agent.slot(), out),
            Opening::CallerSpeaks => {}
        }
        self.uplink.open(self.agent.slot(), out);
    }

    fn on_audio(
        &mut self,
        spoken: Spoken<'_>,
        audio: Audio<'_>,
        out: &mut impl Outbox,
    ) -> Change<'static> {
        if !self.turns.is_wanted(spoken.response) {
            out.put(Output::Note(Milestone::Tolerated(Oddity::LateAudio)));
            return Change::None;
        }
        match self.playout.add(spoken, audio, self.turns.speech_ended()) {
            Ok(Added::Kept) => self.turns.on_voice(),
            // The model goes on making what nobody will hear; the socket is read all the same,
            // because what it says about the caller comes behind the audio.
            Ok(Added::Overflowed { dropped_ms: ms }) => {
                if let Some(response) = self.turns.discard() {
                    let cancel = AgentMessage::Cancel { response };
                    out.put(Output::ToAgent(self.agent.slot(), cancel));
                }
                out.put(Output::Note(Milestone::Dropped { flow: Flow::Playout, ms }));
            }
            Err(_) => return self.agent.on_malformed(out),
        }
        Change::None
    }

    fn on_speech_started(&mut self, now: Moment, out: &mut impl Outbox) {
        let slot = self.agent.slot();
        let said = (&mut self.playout, &mut self.turns);
        barge_in::interrupt(self.spec.interruption, slot, said, now, out);
        self.call_off_goodbye(out);
    }

    fn on_tick(&mut self, now: Moment, out: &mut impl Outbox) {
        // Each timer is unset as it is taken, and none is set into the past: this ends.
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Agent => match self.agent.on_deadline() {
                    Change::Failed(reason, detail) => self.fail(reason, detail, now, out),
                    Change::None | Change::Configuring | Change::Ready => {}
                },
                // Whatever happens, `settle` sends what may leave.
                Timer::Pace => {}
                Timer::LastWords => self.on_last_words(now, out),
                Timer::Record => self.on_record_deadline(out),
                Timer::CallLimit => self.stop(EndReason::TimeLimit, now, out),
            }
        }
    }

    /// What follows from any input: audio leaves, what was heard becomes a turn, last words that
    /// were heard lead on.
    fn settle(&mut self, now: Moment, out: &mut impl Outbox) {
        if !self.phase.is_heard() {
            return;
        }
        let again = self.playout.pump(now, out);
        self.timers.set(Timer::Pace, again);
        while let Some(part) = self.playout.take_heard() {
            // Only a part that was longer than what is kept has something to cut here.
            if self.agent.is_ready() {
                barge_in::truncate(&part, self.agent.slot(), out);
            }
            self.turns.on_spoken(&part, out);
        }
        match &self.phase {
            Phase::Goodbye(Goodbye { saying: Saying::Finished, .. }) | Phase::Sorry(_)
                if self.playout.is_silent() =>
            {
                self.on_last_words(now, out);
            }
            Phase::Announced
            | Phase::Live
            | Phase::Goodbye(_)
            | Phase::Sorry(_)
            | Phase::Recording { .. }
            | Phase::Over => {}
        }
    }
}

/// The longest an agent's socket may take to open and introduce itself. The caller hears nothing
/// meanwhile; doubling it doubles that silence before we say sorry.
const DIAL_MAX: Duration = Duration::from_secs(8);

/// The longest a service may take to state the session that it was told.
const CONFIGURE_MAX: Duration = Duration::from_secs(5);
