//! What each side says, and which machine hears it.

use ::link::event::Role;

use super::agent::Change;
use super::input::{AgentEvent, Answering, Audio, Batch, CallerEvent, MarkId, Severity, Slot};
use super::moment::Moment;
use super::output::{AgentMessage, Milestone, Oddity, Outbox, Output, Recalled};
use super::pace::WAKE_SLACK;
use super::part::Spoken;
use super::phase::Phase;
use super::playout::Proof;
use super::timers::{CARRIER_QUIET, KEYS_AFTER, Timer};
use super::tools::Wish;
use super::turns::Ask;
use super::uplink::Media;
use super::{After, Call, Opening};

impl Call {
    /// The caller's side says something.
    pub(super) fn on_caller(
        &mut self,
        event: CallerEvent<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) -> After {
        match event {
            CallerEvent::Started => self.on_started(now, out),
            CallerEvent::Media { at_ms, chunk, audio } => {
                return self.on_media(Media { at_ms, chunk, audio }, now, out);
            }
            CallerEvent::Speech(audio) => return self.on_speech(audio, now, out),
            CallerEvent::Mark(mark) => self.on_mark(mark, now, out),
            CallerEvent::Key(key) => self.on_key(key, now, out),
            CallerEvent::Malformed => self.on_caller_malformed(now, out),
            CallerEvent::Stopped => self.on_caller_stopped(now, out),
            CallerEvent::Lost => self.on_caller_lost(now, out),
            CallerEvent::Violated => self.on_caller_violated(now, out),
        }
        After::Settle
    }

    fn on_media(&mut self, media: Media<'_>, now: Moment, out: &mut impl Outbox) -> After {
        if self.hears_voice(now) && self.uplink.media(media, out).is_err() {
            self.on_caller_malformed(now, out);
            return After::Settle;
        }
        self.after_voice(now)
    }

    /// The same from a caller whose side stamps nothing.
    fn on_speech(&mut self, audio: Audio<'_>, now: Moment, out: &mut impl Outbox) -> After {
        if self.hears_voice(now) && self.uplink.speech(audio, out).is_err() {
            self.on_caller_malformed(now, out);
            return After::Settle;
        }
        self.after_voice(now)
    }

    /// Whether what the caller says is for anybody; then its silence is waited for, too.
    fn hears_voice(&mut self, now: Moment) -> bool {
        match self.phase {
            Phase::Live | Phase::Goodbye(_) => {
                self.timers.set(Timer::CarrierGap, now + CARRIER_QUIET);
                true
            }
            Phase::Announced | Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => false,
        }
    }

    fn after_voice(&self, now: Moment) -> After {
        // A chunk that may leave by now leaves in the wake of this frame.
        match self.timers.at(Timer::Pace) {
            Some(at) if at <= now + WAKE_SLACK => After::Settle,
            _ => After::Nothing,
        }
    }

    /// From here on the caller's audio is sent on like this.
    pub(super) fn on_batch(&mut self, batch: Batch, now: Moment, out: &mut impl Outbox) {
        self.uplink.batch(batch, out);
        self.pace_reads(now);
    }

    /// Sets when the caller is read again, if it is not read as soon as something comes.
    pub(super) fn pace_reads(&mut self, now: Moment) {
        // Before the stream there is nothing to read, and a call that ends waits for nothing.
        let is_read = matches!(self.phase, Phase::Live | Phase::Goodbye(_));
        let pace = self.uplink.reads_every().filter(|_| is_read);
        // Together with other calls: one wake of the shard serves them all.
        self.timers.set(Timer::Uplink, pace.map(|pace| (now + pace).back_to(READS_TOGETHER)));
    }

    /// The caller was read, and what it said goes on.
    pub(super) fn on_uplink_due(&mut self, now: Moment, out: &mut impl Outbox) {
        self.uplink.send_batch(out);
        self.pace_reads(now);
    }

    /// The carrier sends nothing.
    pub(super) fn on_carrier_gap(&mut self, now: Moment, out: &mut impl Outbox) {
        let ms = u64::try_from(CARRIER_QUIET.as_millis()).unwrap_or(u64::MAX);
        if self.phase.hears_agent() && self.uplink.fill_pause(ms, out) {
            self.timers.set(Timer::CarrierGap, now + CARRIER_QUIET);
        }
    }

    fn on_mark(&mut self, mark: MarkId, now: Moment, out: &mut impl Outbox) {
        match self.playout.mark_returned(mark) {
            Proof::Heard => {
                self.open_floor(out);
                self.hear_anybody(now);
            }
            // A clip is no greeting: the agent still has the first word.
            Proof::ClipHeard => self.hear_anybody(now),
            Proof::Dead => {}
            Proof::Stray => out.put(Output::Note(Milestone::Tolerated(Oddity::StrayMark))),
        }
    }

    /// The caller pressed a key: the agent reads what was typed once a pause, or `#`, ends it.
    fn on_key(&mut self, key: char, now: Moment, out: &mut impl Outbox) {
        if !self.phase.is_live() {
            return;
        }
        out.put(Output::Note(Milestone::Key(key)));
        self.hear_caller(now);
        if self.keys.len() < KEYS_MAX {
            self.keys.push(key);
        }
        if key == '#' {
            self.on_keys(out);
        } else {
            self.timers.set(Timer::Keys, now + KEYS_AFTER);
        }
    }

    /// The caller has typed something.
    pub(super) fn on_keys(&mut self, out: &mut impl Outbox) {
        self.timers.set(Timer::Keys, None);
        let keys = std::mem::take(&mut self.keys);
        if keys.is_empty() || !self.phase.is_live() {
            return;
        }
        self.tell(&format!("The caller typed on the telephone's keys: {keys}"), out);
        self.turns.want(Ask::Answer);
    }

    /// Puts a message of the system into the conversation, for this session and those to come.
    pub(super) fn tell(&mut self, text: &str, out: &mut impl Outbox) {
        self.memory.system(text, out);
        self.link.say(AgentMessage::Recall(Recalled::System(text)), out);
    }

    /// An agent's side says something.
    pub(super) fn on_agent(
        &mut self,
        slot: Slot,
        event: AgentEvent<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        if !self.phase.hears_agent() {
            return;
        }
        let agent = self.link.agent(slot);
        if agent.is_absent() {
            // Nobody dialled it, or waits for it any more, so nothing that it says counts.
            out.put(Output::CloseAgent(slot));
            return;
        }
        agent.hear(now);
        let change = match event {
            AgentEvent::Opened => agent.on_opened(out),
            AgentEvent::Configured { uplink, playout, answering } => {
                agent.on_configured(uplink, playout, answering)
            }
            AgentEvent::Complained { severity, code } => {
                let change = agent.on_complaint(severity, code, out);
                if self.link.speaker() == Some(slot) {
                    self.on_refusal(severity, now);
                }
                change
            }
            AgentEvent::Malformed => agent.on_malformed(out),
            AgentEvent::Lost { cause, detail } => agent.on_lost(cause, detail),
            AgentEvent::Alive | AgentEvent::Ignored => Change::None,
            AgentEvent::Summarised { .. }
            | AgentEvent::SpeechStarted
            | AgentEvent::SpeechStopped
            | AgentEvent::CallerTurn { .. }
            | AgentEvent::CallerSaying { .. }
            | AgentEvent::CallerSaid { .. }
            | AgentEvent::ResponseStarted { .. }
            | AgentEvent::Audio { .. }
            | AgentEvent::AudioEnded { .. }
            | AgentEvent::Saying { .. }
            | AgentEvent::ToolCalled { .. }
            | AgentEvent::ResponseEnded { .. } => {
                if !agent.is_ready() {
                    agent.on_malformed(out)
                } else if self.link.speaker() == Some(slot) {
                    self.hear_agent(event, now, out)
                } else {
                    // One that waits to take over has nothing to say yet.
                    Change::None
                }
            }
        };
        self.on_change(slot, change, now, out);
    }

    fn on_refusal(&mut self, severity: Severity, now: Moment) {
        match severity {
            Severity::TooEarly => self.turns.on_too_early(),
            Severity::Refused => self.turns.on_refused(now),
            Severity::Benign | Severity::Over | Severity::Fatal => {}
        }
    }

    /// The agent that speaks says something in the conversation.
    fn hear_agent(
        &mut self,
        event: AgentEvent<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) -> Change<'static> {
        let session = self.link.session();
        match event {
            AgentEvent::SpeechStarted => self.on_speech_started(now, out),
            AgentEvent::SpeechStopped => self.turns.on_speech_stopped(now),
            AgentEvent::CallerTurn { item } => self.on_caller_turn(item, now, out),
            AgentEvent::CallerSaying { item, text } => {
                out.put(Output::Note(Milestone::Saying { role: Role::Caller, item, text: &text }));
            }
            AgentEvent::CallerSaid { item, text } => self.memory.caller_said(item, &text, out),
            AgentEvent::ResponseStarted { response } => {
                self.on_response_started(response, now, out);
            }
            AgentEvent::Audio { response, item, part, audio } => {
                let spoken = Spoken { session, response, item, part };
                return self.on_audio(spoken, audio, now, out);
            }
            AgentEvent::AudioEnded { response, item } => {
                self.playout.audio_ended(Spoken { session, response, item, part: 0 });
            }
            AgentEvent::Saying { response, item, text } => {
                self.on_saying(Spoken { session, response, item, part: 0 }, &text, now, out);
            }
            AgentEvent::ToolCalled { response, call, name, arguments } => {
                let arguments = &*arguments;
                self.on_tool_called(Wish { response, call, name, arguments }, now, out);
            }
            AgentEvent::ResponseEnded { response, outcome, tokens } => {
                self.on_response_ended(response, outcome, now, out);
                self.spend(tokens, now, out);
            }
            AgentEvent::Summarised { summary, tokens } => {
                self.memory.summarised(summary.as_deref());
                self.spend(tokens, now, out);
            }
            AgentEvent::Opened
            | AgentEvent::Configured { .. }
            | AgentEvent::Alive
            | AgentEvent::Complained { .. }
            | AgentEvent::Ignored
            | AgentEvent::Malformed
            | AgentEvent::Lost { .. } => {}
        }
        Change::None
    }

    fn on_speech_started(&mut self, now: Moment, out: &mut impl Outbox) {
        self.hear_caller(now);
        match self.opening {
            // A hello into the line that still rings interrupts nothing: the greeting answers it.
            Opening::ToGreet | Opening::Greeting | Opening::TalkedOver => {
                self.talks_over_since.get_or_insert(now);
            }
            Opening::Done => {
                self.interrupt(self.link.answering(), now, out);
                self.call_off_goodbye(out);
            }
        }
        self.turns.on_speech_started();
    }

    fn on_caller_turn(&mut self, item: &str, now: Moment, out: &mut impl Outbox) {
        self.memory.caller_turn(item, out);
        let answering = self.link.answering();
        self.turns.on_caller_turn(answering, now);
        let Some(since) = self.talks_over_since.take() else {
            if answering == Answering::ByRelay {
                self.turns.want(Ask::Answer);
            }
            return;
        };
        if now.since(since) >= HELLO_MAX {
            self.turns.want(Ask::Answer);
        }
        if self.opening == Opening::TalkedOver {
            self.open_floor(out);
        }
    }

    /// An agent's message has no place here.
    pub(super) fn malformed_agent(&mut self, out: &mut impl Outbox) -> Change<'static> {
        match self.link.speaker() {
            Some(slot) => self.link.agent(slot).on_malformed(out),
            None => Change::None,
        }
    }
}

/// The grid of the moments at which callers are read at a pace: a sixth of the longest pace.
const READS_TOGETHER: std::time::Duration = std::time::Duration::from_millis(10);

/// The most keys of one number: the longest that anybody types, a card's, has 19.
const KEYS_MAX: usize = 32;

/// The longest speech over the beginning of a greeting that the greeting answers.
const HELLO_MAX: std::time::Duration = std::time::Duration::from_millis(2_000);
