//! Answers of the agent, from their first word to what becomes of one that fails.
//!
//! | an answer | then |
//! |---|---|
//! | goes on | its audio waits for its turn to be heard |
//! | fails, or stays silent, once | the caller hears a clip, and it is asked for again |
//! | does so twice in a row | we are sorry |
//! | is stopped by a limit or a filter | what there is of it is said; nothing at all is a failure |
//! | stays silent, and so does its socket | the session is lost |

use ::link::event::{EndReason, Role};

use super::agent::{Change, Lost};
use super::input::{Audio, Outcome, Retry};
use super::moment::Moment;
use super::output::{AgentMessage, Flow, Milestone, Oddity, Outbox, Output};
use super::part::Spoken;
use super::phase::{Goodbye, Phase};
use super::playout::Added;
use super::turns::{Ask, Ended, Yield};
use super::{Call, Opening};

impl Call {
    /// An answer began.
    pub(super) fn on_response_started(
        &mut self,
        response: &str,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        let ask = self.turns.on_started(response, now);
        let is_farewell = ask == Some(&Ask::Farewell);
        if let Phase::Goodbye(Goodbye { response: said @ None, .. }) = &mut self.phase
            && is_farewell
        {
            *said = Some(response.into());
        }
        if self.is_agent_muted
            && let Some(response) = self.turns.discard()
        {
            self.link.say(AgentMessage::Cancel { response }, out);
        }
    }

    /// Audio of an answer.
    pub(super) fn on_audio(
        &mut self,
        spoken: Spoken<'_>,
        audio: Audio<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) -> Change<'static> {
        if !self.turns.is_wanted(spoken.response) {
            out.put(Output::Note(Milestone::Tolerated(Oddity::LateAudio)));
            return Change::None;
        }
        let added = self.playout.add(spoken, audio, self.turns.speech_ended());
        if added.is_ok() {
            self.memory.agent_begins(spoken.session, spoken.item, out);
        }
        match added {
            Ok(Added::Kept) => self.turns.on_yield(Yield::Speech, now),
            // The model goes on making what nobody will hear; the socket is read all the same,
            // because what it says about the caller comes behind the audio.
            Ok(Added::Overflowed { dropped_ms: ms }) => {
                if let Some(response) = self.turns.discard() {
                    self.link.say(AgentMessage::Cancel { response }, out);
                }
                out.put(Output::Note(Milestone::Dropped { flow: Flow::Playout, ms }));
            }
            Err(_) => return self.malformed_agent(out),
        }
        Change::None
    }

    /// Words of an answer.
    pub(super) fn on_saying(
        &mut self,
        spoken: Spoken<'_>,
        text: &str,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        if self.turns.is_wanted(spoken.response) {
            self.memory.agent_begins(spoken.session, spoken.item, out);
            let at = self.playout.generated(spoken);
            self.turns.on_saying(spoken, text, at, now);
            let (role, item) = (Role::Agent, spoken.item);
            out.put(Output::Note(Milestone::Saying { role, item, text }));
        }
    }

    /// An answer is over.
    pub(super) fn on_response_ended(
        &mut self,
        response: &str,
        outcome: Outcome<'_>,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        self.playout.answer_ended(Some(response));
        // Nobody waits for an answer that was cut, so it may fail.
        if let Some(ended) = self.turns.on_ended(response) {
            self.judge(ended, outcome, now, out);
        }
        self.on_goodbye_complete(response, now);
    }

    /// What to do about an answer that was to be heard.
    fn judge(&mut self, ended: Ended, outcome: Outcome<'_>, now: Moment, out: &mut impl Outbox) {
        match (outcome, ended.result) {
            (Outcome::Failed { code, retry: Retry::IsUseless }, _) => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::FailedAnswer)));
                self.fail(EndReason::AgentFailed, code, now, out);
            }
            (Outcome::Failed { code, retry: Retry::MayHelp }, _) => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::FailedAnswer)));
                self.ask_again(ended, code, now, out);
            }
            (Outcome::Incomplete, Yield::Nothing) => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::IncompleteAnswer)));
                self.ask_again(ended, "incomplete", now, out);
            }
            (Outcome::Incomplete, Yield::Tool | Yield::Speech) => {
                out.put(Output::Note(Milestone::Tolerated(Oddity::IncompleteAnswer)));
            }
            (Outcome::Completed, Yield::Tool | Yield::Speech) => self.turns.forgive(),
            // Nobody has said anything that a silence could be the answer to.
            (Outcome::Completed | Outcome::Cancelled, Yield::Nothing)
                if ended.ask == Ask::Greeting =>
            {
                self.ask_again(ended, "empty_greeting", now, out);
            }
            // A model may have nothing to say; a cut answer is followed by the next.
            (Outcome::Completed, Yield::Nothing) | (Outcome::Cancelled, _) => {}
        }
    }

    /// An answer came to nothing: once it is asked for again, twice is the end.
    fn ask_again(&mut self, ended: Ended, detail: &str, now: Moment, out: &mut impl Outbox) {
        if self.turns.strike() > STRIKES_MAX {
            return self.fail(EndReason::AgentFailed, detail, now, out);
        }
        if self.playout.is_silent() && self.phase.is_live() {
            self.playout.say(self.spec.moment);
        }
        let ask = match (ended.ask, ended.result) {
            // Its first half was heard; the rest is not a greeting any more.
            (Ask::Greeting, Yield::Speech) => Ask::Answer,
            (ask, _) => ask,
        };
        self.turns.want_first(ask);
    }

    /// What is waited for does not come.
    pub(super) fn on_answer_deadline(&mut self, now: Moment, out: &mut impl Outbox) {
        let Some(slot) = self.link.speaker() else { return };
        let Some(wait) = self.turns.wait() else { return };
        if self.link.agent(slot).heard_at() <= wait.since {
            let (reason, detail) = (EndReason::AgentFailed, "silent_socket");
            self.lose(slot, Lost { reason, detail, retry: Retry::MayHelp }, now, out);
            return self.ask_for_patience(now);
        }
        let Some(ended) = self.turns.give_up() else { return };
        out.put(Output::Note(Milestone::Tolerated(Oddity::SilentAgent)));
        if let Some(response) = ended.response.as_deref() {
            self.link.say(AgentMessage::Cancel { response }, out);
            self.playout.answer_ended(Some(response));
            self.on_goodbye_complete(response, now);
        }
        match ended.result {
            Yield::Nothing => self.ask_again(ended, "silent_model", now, out),
            // All that comes of it is here.
            Yield::Tool | Yield::Speech => {}
        }
    }

    /// A greeting that is made, cut or given up is not waited for: nothing of it may ever be heard.
    pub(super) fn end_opening(&mut self, out: &mut impl Outbox) {
        let is_over = self.opening == Opening::Greeting && !self.turns.expects(&Ask::Greeting);
        // Who says goodbye is not to be talked into another answer.
        if is_over && self.phase.is_live() && self.link.speaker().is_some() {
            self.open_floor(out);
        }
    }

    /// The caller may speak: the greeting is heard. Who speaks over its beginning goes first to
    /// the end of that, because nobody would answer it.
    pub(super) fn open_floor(&mut self, out: &mut impl Outbox) {
        match self.opening {
            Opening::Greeting | Opening::TalkedOver if self.turns.caller_speaks() => {
                self.opening = Opening::TalkedOver;
            }
            Opening::Greeting | Opening::TalkedOver => {
                self.opening = Opening::Done;
                self.link.say(AgentMessage::AnswerByYourself, out);
            }
            Opening::ToGreet | Opening::Done => {}
        }
    }
}

/// Answers in a row that may come to nothing.
const STRIKES_MAX: u32 = 1;
