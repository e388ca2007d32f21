//! One phone call: what it makes of everything that happens to it.
//!
//! Pure. Time is an argument, what happens comes in as an [`Input`], what is to be done goes into
//! an [`Outbox`]; no socket, clock, lock, log or task is in here. The driver that carries it out
//! is `relay/src/bridge.rs`; whole calls are played as scripts in `call/tests/`.
//!
//! ```text
//!             +--------------------------- Call ---------------------------+
//!  caller --> | uplink: hold, fill gaps, forward, transcode -------------> | --> agent
//!             | link: two slots, one speaker; agent: one socket's life     |
//!             | memory: what was said, for the session that comes next     |
//!  caller <-- | playout: ledger + pace <--- turns: one answer at a time <- | <-- agent
//!             |          ^-- barge_in: clear, truncate at heard            |
//!             | tools, commands, limits: what else is wanted of it         |
//!             | phase + ending: live, goodbye or sorry, recorded, over     |
//!             | timers: named deadlines                                    |
//!             +------------------------------------------------------------+
//! ```
//!
//! Read [`input`] and [`output`] first: they are the contract. Then this file and `hear`, which
//! say which machine hears what; then the machines, in the order of the lines below.

pub mod format;
pub mod input;
pub mod moment;
pub mod output;

mod hear;
mod phase;

mod agent;
mod link;
mod memory;

mod uplink;

mod answers;
mod barge_in;
mod pace;
mod part;
mod playout;
mod turns;
mod words;

mod commands;
mod ending;
mod limits;
mod moving;
mod tools;

mod held;
mod timers;
mod transcode;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::link::agent::AgentSpec;
use ::link::event::EndReason;

use self::format::{AudioFormat, Formats};
use self::input::{Answering, Input, Preparation, Side, Slot};
use self::limits::Patience;
use self::link::Link;
use self::memory::Memory;
use self::moment::Moment;
use self::moving::Leaving;
use self::output::{AgentMessage, Milestone, Outbox, Output};
use self::phase::{Goodbye, Phase, Saying};
use self::playout::Playout;
use self::timers::{SPARE_MAX, Timer, Timers, UNCLAIMED_MAX};
use self::turns::{Ask, Turns};
use self::uplink::Uplink;

/// What is settled about a call before it begins.
#[derive(Debug, Clone)]
pub struct CallSpec {
    /// Who answers: its greeting, tools, limits and sessions.
    pub agent: Arc<AgentSpec>,
    /// How the caller's leg is written.
    pub caller: AudioFormat,
    /// The most audio that is sent ahead of the caller's ear; at least 120 ms.
    pub playout_lead: Duration,
    /// Mu-law that the caller hears when there is no agent any more. May be empty.
    pub sorry: &'static [u8],
    /// Mu-law that the caller hears when an answer or an agent takes longer. May be empty.
    pub moment: &'static [u8],
    /// Any number; calls with different ones do not dial again at the same moment.
    pub spread: u8,
}

/// How far the opening of a call is.
///
/// The caller is heard from the first frame, and does not interrupt the greeting before any of it
/// was heard: until then the service answers only when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// The greeting is to be asked for.
    ToGreet,
    /// It is asked for, and nothing of it was heard yet.
    Greeting,
    /// It is heard, and the caller has been speaking since before it was.
    TalkedOver,
    /// The floor is open: the service answers by itself.
    Done,
}

impl Opening {
    /// Who answers in a session that is opened now.
    fn answering(self) -> Answering {
        match self {
            Self::ToGreet | Self::Greeting | Self::TalkedOver => Answering::ByRelay,
            Self::Done => Answering::ByService,
        }
    }
}

/// What follows from an input, beyond what its own machine did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing: the caller's audio goes to the agent, fifty times a second.
    Nothing,
    /// Perhaps something: see [`Call::settle`].
    Settle,
}

/// One phone call.
#[derive(Debug)]
pub struct Call {
    spec: CallSpec,
    phase: Phase,
    opening: Opening,
    began: Moment,
    /// How it was prepared, before its caller was here.
    preparation: Option<Preparation>,
    link: Link,
    memory: Memory,
    uplink: Uplink,
    playout: Playout,
    turns: Turns,
    timers: Timers,
    tools: Vec<tools::Running>,
    /// The number of the last tool.
    tool_ids: u32,
    /// What the caller is typing.
    keys: String,
    /// Since when the caller speaks over an opening that it cannot interrupt.
    talks_over_since: Option<Moment>,
    /// Instead of the agent's own instructions.
    instructions: Option<Box<str>>,
    is_agent_muted: bool,
    patience: Patience,
    /// A move to another node that waits for a moment between two turns.
    leaving: Option<Leaving>,
    /// What the caller of a call that goes on is owed first.
    owes_first: Option<Ask>,
    /// Tokens that were used.
    tokens: u64,
    voice: FirstVoice,
    /// Broken messages of the caller's side.
    malformed: u32,
    /// The number of the last decision.
    records: u32,
}

/// Whether it was told that the agent was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstVoice {
    /// Not yet; a session was ready when the caller came, or was not.
    Awaited { prepared: bool },
    /// It was.
    Told,
}

impl Call {
    /// A call whose caller is not here yet.
    ///
    /// # Panics
    /// When the lead is shorter than 120 ms.
    #[must_use]
    pub fn new(spec: CallSpec, now: Moment) -> Self {
        let formats = Formats::new(spec.caller, spec.agent.audio);
        let opening = if spec.agent.greeting.is_some() { Opening::ToGreet } else { Opening::Done };
        Self {
            phase: Phase::Announced,
            opening,
            began: now,
            preparation: None,
            link: Link::new(formats.agent()),
            memory: Memory::default(),
            uplink: Uplink::new(formats),
            playout: Playout::new(formats, spec.playout_lead),
            turns: Turns::new(),
            timers: Timers::default(),
            tools: Vec::new(),
            tool_ids: 0,
            keys: String::new(),
            talks_over_since: None,
            instructions: None,
            is_agent_muted: false,
            patience: Patience::Full,
            leaving: None,
            owes_first: None,
            tokens: 0,
            voice: FirstVoice::Awaited { prepared: false },
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
            Input::Announced(preparation) => self.on_announced(preparation, now, out),
            Input::Continues(said) => self.on_continues(said, out),
            Input::Caller(event) => {
                if self.on_caller(event, now, out) == After::Nothing {
                    return;
                }
            }
            Input::Agent(slot, event) => self.on_agent(slot, event, now, out),
            Input::Tool(id, result) => self.on_tool(id, result, now, out),
            Input::Command { id, command } => self.on_command(id, command, now, out),
            Input::Recorded(record) => {
                self.on_intent_recorded(record, now, out);
                self.on_recorded(record, out);
            }
            Input::Tick => self.on_tick(now, out),
            Input::Drain => self.on_drain(now, out),
            Input::Stalled(Side::Caller) => self.playout.stalled(),
            Input::Drained(Side::Caller) => self.playout.drained(),
            Input::Stalled(Side::Agent(slot)) => self.uplink.stalled(slot),
            Input::Drained(Side::Agent(slot)) => self.uplink.drained(slot, out),
            Input::Batch(batch) => self.on_batch(batch, now, out),
        }
        self.settle(now, out);
    }

    /// When to say [`Input::Tick`], if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        self.timers.first()
    }

    /// Until when the caller's socket is left alone, so that one read takes what several would;
    /// `None` when it is read as soon as something comes.
    #[must_use]
    pub fn reads_caller_at(&self) -> Option<Moment> {
        self.timers.at(Timer::Uplink)
    }

    /// Asserts what must hold between two inputs; for simulations and fuzzers, which look after
    /// each one.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check(&self) {
        let waits = match &self.phase {
            Phase::Announced => self.preparation.is_some(),
            Phase::Live | Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } => true,
            Phase::Over => false,
        };
        assert_eq!(self.timers.first().is_some(), waits, "a phase that waits has a deadline");
        assert!(self.tools.len() <= tools::TOOLS_MAX, "too many tools run");
        assert!(self.memory.is_bounded(), "too much is remembered");
        assert!(self.turns.is_bounded(), "too much is owed");
        self.uplink.check();
        self.playout.check();
    }

    /// The stream is on its way, or may come.
    fn on_announced(&mut self, preparation: Preparation, now: Moment, out: &mut impl Outbox) {
        if !matches!(self.phase, Phase::Announced) || !self.link.is_untouched() {
            return;
        }
        self.preparation = Some(preparation);
        let waits = match preparation {
            Preparation::Session => SPARE_MAX,
            Preparation::Greeting | Preparation::Continued => UNCLAIMED_MAX,
        };
        if preparation == Preparation::Continued {
            // Whoever was greeted elsewhere has the word.
            self.opening = Opening::Done;
        }
        self.timers.set(Timer::Unclaimed, now + waits);
        self.open_agent(now, out);
    }

    fn on_started(&mut self, now: Moment, out: &mut impl Outbox) {
        match self.phase {
            Phase::Announced => self.begin(now, out),
            Phase::Live | Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } => {
                self.on_caller_malformed(now, out);
            }
            Phase::Over => {}
        }
    }

    fn begin(&mut self, now: Moment, out: &mut impl Outbox) {
        self.phase = Phase::Live;
        self.began = now;
        self.timers.set(Timer::Unclaimed, None);
        let longest = Duration::from_secs(self.spec.agent.limits.call_seconds_max.into());
        self.timers.set(Timer::CallLimit, now + longest);
        self.hear_caller(now);
        self.pace_reads(now);
        out.put(Output::Note(Milestone::Started));
        self.take_up(out);
        if self.link.is_untouched() {
            self.open_agent(now, out);
        } else if self.link.speaker().is_some() {
            self.voice = FirstVoice::Awaited { prepared: true };
            self.note_ready(now, out);
            if self.opening == Opening::ToGreet {
                self.opening = Opening::Greeting;
                self.turns.want_first(Ask::Greeting);
            }
        }
    }

    /// Whether the greeting may be made now: a spare session's caller may never come.
    fn may_greet(&self) -> bool {
        match self.phase {
            Phase::Announced => self.preparation == Some(Preparation::Greeting),
            Phase::Live => true,
            Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => false,
        }
    }

    /// Tells that there is an agent, once there is a stream to tell it of.
    fn note_ready(&self, now: Moment, out: &mut impl Outbox) {
        if !matches!(self.phase, Phase::Announced) {
            out.put(Output::Note(Milestone::AgentReady { after: now.since(self.began) }));
        }
    }

    fn on_tick(&mut self, now: Moment, out: &mut impl Outbox) {
        // Each timer is unset as it is taken, and none is set into the past: this ends.
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::AgentA => self.on_agent_deadline(Slot::A, now, out),
                Timer::AgentB => self.on_agent_deadline(Slot::B, now, out),
                Timer::Hedge => self.on_hedge(now, out),
                Timer::Redial => self.on_redial(now, out),
                Timer::Search => self.on_search_deadline(now, out),
                Timer::Filler => self.on_filler(now),
                Timer::RollOver => self.on_roll_over_due(now, out),
                Timer::Liveness => self.on_liveness(now, out),
                Timer::Answer => self.on_answer_deadline(now, out),
                Timer::Tool => self.on_tool_deadline(now, out),
                Timer::Keys => self.on_keys(out),
                Timer::CarrierGap => self.on_carrier_gap(now, out),
                Timer::Uplink => self.on_uplink_due(now, out),
                Timer::Silence => self.on_silence(now, out),
                // Whatever happens, `settle` sends what may leave.
                Timer::Pace => {}
                Timer::LastWords => self.on_last_words(now, out),
                Timer::Record => self.on_record_deadline(out),
                Timer::Unclaimed => self.on_unclaimed(out),
                Timer::Leave => self.on_leave_deadline(now, out),
                Timer::CallLimit => self.say_farewell(EndReason::TimeLimit, now, out),
            }
        }
    }

    /// What follows from any input: audio leaves, what was heard becomes a turn, last words that
    /// were heard lead on, what is owed is asked for.
    fn settle(&mut self, now: Moment, out: &mut impl Outbox) {
        if self.phase.is_heard() {
            self.play(now, out);
            self.leave_after_last_words(now, out);
        }
        if self.phase.hears_agent() {
            self.end_opening(out);
            self.ask_owed(now, out);
            self.leave_between_turns(now, out);
            self.roll_over(now, out);
            self.sum_up(out);
        }
        self.watch_answer();
    }

    /// Sets when an answer is given up that is waited for. A goodbye has a deadline of its own.
    fn watch_answer(&mut self) {
        let is_waited_for = match self.phase {
            Phase::Announced | Phase::Live => self.link.speaker().is_some(),
            Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => false,
        };
        let wait = self.turns.wait().filter(|_| is_waited_for);
        self.timers.set(Timer::Answer, wait.map(|wait| wait.until));
    }

    fn play(&mut self, now: Moment, out: &mut impl Outbox) {
        let again = self.playout.pump(now, out);
        self.timers.set(Timer::Pace, again);
        if let FirstVoice::Awaited { prepared } = self.voice
            && self.playout.has_spoken()
        {
            self.voice = FirstVoice::Told;
            let after = now.since(self.began);
            out.put(Output::Note(Milestone::FirstVoice { after, prepared }));
        }
        self.take_heard(out);
    }

    /// Makes turns of what was heard to its end.
    fn take_heard(&mut self, out: &mut impl Outbox) {
        while let Some(part) = self.playout.take_heard() {
            // Only a part that was longer than what is kept has something to cut here.
            self.truncate(&part, out);
            self.on_spoken(&part, out);
        }
    }

    fn leave_after_last_words(&mut self, now: Moment, out: &mut impl Outbox) {
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

    /// Has the conversation summed up when it has grown, and nobody speaks.
    fn sum_up(&mut self, out: &mut impl Outbox) {
        let every = self.spec.agent.session.summary_turns;
        if self.phase.is_live()
            && self.turns.is_quiet()
            && self.link.speaker().is_some()
            && self.memory.begin_summary(every)
        {
            self.link.say(AgentMessage::Summarise, out);
        }
    }
}
