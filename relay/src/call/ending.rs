//! How a call ends: last words, the decision, its commit, the sockets.
//!
//! Every end that this node chooses is recorded before the caller's socket is closed, because the
//! carrier asks `resume` what to do the moment it closes. An end that others choose needs no
//! record: the stream is over already, or lives elsewhere.

use ::link::event::EndReason;

use super::Call;
use super::input::RecordId;
use super::moment::Moment;
use super::output::{CallerMessage, CloseWhy, Milestone, Oddity, Outbox, Output};
use super::phase::{Ending, Phase, Saying};
use super::playout::Cut;
use super::timers::{LAST_MARK_MAX, RECORD_MAX, Timer};

impl Call {
    /// There is no agent, and there will be none: the caller hears that we are sorry, and the call
    /// ends. A goodbye that was being said stands.
    pub(super) fn fail(
        &mut self,
        reason: EndReason,
        detail: &str,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        self.link.close(out);
        self.uplink.shut();
        self.drop_tools(out);
        self.timers.keep_only(&[Timer::CallLimit, Timer::Pace]);
        match &mut self.phase {
            // Whoever comes finds no session, and looks for one of its own.
            Phase::Announced => return self.end(reason, None, out),
            Phase::Live => {
                // Half a sentence that nobody will finish is worse than silence, and up to a
                // minute of it would come before the clip.
                self.fall_silent(now, out);
                self.playout.say(self.spec.sorry);
                let detail = Some(detail.into());
                self.phase = Phase::Sorry(Ending { reason, detail, transfer_to: None });
            }
            Phase::Goodbye(goodbye) => {
                goodbye.saying = Saying::Finished;
                self.playout.answer_ended(None);
            }
            Phase::Sorry(_) | Phase::Recording { .. } | Phase::Over => return,
        }
        self.timers.set(Timer::LastWords, now + self.playout.unheard() + LAST_MARK_MAX);
    }

    /// The answer that says goodbye is over: what is left of it is all.
    pub(super) fn on_goodbye_complete(&mut self, response: &str, now: Moment) {
        match &mut self.phase {
            Phase::Goodbye(goodbye) if goodbye.response.as_deref() == Some(response) => {
                goodbye.saying = Saying::Finished;
                let unheard = self.playout.unheard();
                self.timers.set(Timer::LastWords, now + unheard + LAST_MARK_MAX);
            }
            Phase::Goodbye(_)
            | Phase::Announced
            | Phase::Live
            | Phase::Sorry(_)
            | Phase::Recording { .. }
            | Phase::Over => {}
        }
    }

    /// The last words were heard, or took too long.
    pub(super) fn on_last_words(&mut self, now: Moment, out: &mut impl Outbox) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Goodbye(goodbye) => self.decide(goodbye.next.into(), now, out),
            Phase::Sorry(ending) => self.decide(ending, now, out),
            other @ (Phase::Announced | Phase::Live | Phase::Recording { .. } | Phase::Over) => {
                self.phase = other;
            }
        }
    }

    /// Somebody or something outside the conversation ends the call.
    pub(super) fn stop(&mut self, reason: EndReason, now: Moment, out: &mut impl Outbox) {
        if matches!(self.phase, Phase::Announced) {
            return self.end(reason, None, out);
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Live | Phase::Goodbye(_) => self.decide(Ending::new(reason), now, out),
            // It ends already: it is only hastened.
            Phase::Sorry(ending) => self.decide(ending, now, out),
            other @ (Phase::Announced | Phase::Recording { .. } | Phase::Over) => {
                self.phase = other;
            }
        }
    }

    /// Tells control that the call ends, and waits for the commit.
    pub(super) fn decide(&mut self, ending: Ending, now: Moment, out: &mut impl Outbox) {
        assert!(ending.reason.ends_call(), "only an end of the call is recorded as one");
        let record = self.wind_up(now, out);
        out.put(Output::Note(Milestone::Ending {
            record,
            reason: ending.reason,
            detail: ending.detail.as_deref(),
            transfer_to: ending.transfer_to.as_ref(),
        }));
        self.wait_for_record(record, ending, now);
    }

    /// Nothing more is said here. Gives the number of the decision that follows.
    pub(super) fn wind_up(&mut self, now: Moment, out: &mut impl Outbox) -> RecordId {
        // Turns come before the decision, so that they are committed with it or before it.
        self.fall_silent(now, out);
        self.memory.close(out);
        self.drop_tools(out);
        self.records += 1;
        RecordId(self.records)
    }

    /// Waits until control has committed a decision.
    pub(super) fn wait_for_record(&mut self, record: RecordId, ending: Ending, now: Moment) {
        // Neither a goodbye nor the longest call can end it once more.
        self.timers.clear();
        self.timers.set(Timer::Record, now + RECORD_MAX);
        self.phase = Phase::Recording { record, ending };
    }

    /// Control has committed a decision.
    pub(super) fn on_recorded(&mut self, committed: RecordId, out: &mut impl Outbox) {
        match self.phase {
            Phase::Recording { record, ref ending } if record == committed => {
                let reason = ending.reason;
                let goes_on = !reason.ends_call();
                let why = if goes_on { CloseWhy::GoingAway } else { CloseWhy::Normal };
                self.end(reason, Some(why), out);
            }
            Phase::Recording { .. }
            | Phase::Announced
            | Phase::Live
            | Phase::Goodbye(_)
            | Phase::Sorry(_)
            | Phase::Over => {}
        }
    }

    /// Control has not answered: `resume` will ask it, and by then it may know.
    pub(super) fn on_record_deadline(&mut self, out: &mut impl Outbox) {
        match self.phase {
            Phase::Recording { record, .. } => self.on_recorded(record, out),
            Phase::Announced | Phase::Live | Phase::Goodbye(_) | Phase::Sorry(_) | Phase::Over => {}
        }
    }

    /// The carrier ended the stream.
    pub(super) fn on_caller_stopped(&mut self, now: Moment, out: &mut impl Outbox) {
        self.leave(EndReason::CallerHungUp, Some(CloseWhy::Normal), now, out);
    }

    /// The caller's socket is gone.
    pub(super) fn on_caller_lost(&mut self, now: Moment, out: &mut impl Outbox) {
        self.leave(EndReason::CallerLost, None, now, out);
    }

    /// The caller's socket ended because its side broke the socket's own protocol.
    pub(super) fn on_caller_violated(&mut self, now: Moment, out: &mut impl Outbox) {
        self.leave(EndReason::CallerProtocol, None, now, out);
    }

    /// The caller's side broke the protocol, which is tolerated a few times.
    pub(super) fn on_caller_malformed(&mut self, now: Moment, out: &mut impl Outbox) {
        out.put(Output::Note(Milestone::Tolerated(Oddity::CallerMalformed)));
        self.malformed += 1;
        if self.malformed > MALFORMED_MAX {
            self.leave(EndReason::CallerProtocol, Some(CloseWhy::Protocol), now, out);
        }
    }

    /// The node goes away: `resume` finds another one.
    pub(super) fn on_drain(&mut self, now: Moment, out: &mut impl Outbox) {
        self.leave(EndReason::Drained, Some(CloseWhy::GoingAway), now, out);
    }

    /// Nobody has come for an announced call.
    pub(super) fn on_unclaimed(&mut self, out: &mut impl Outbox) {
        if matches!(self.phase, Phase::Announced) {
            self.end(EndReason::CallerLost, None, out);
        }
    }

    /// A newer generation of the call lives elsewhere, and has taken over what was said.
    pub(super) fn on_yield(&mut self, out: &mut impl Outbox) {
        self.end(EndReason::Superseded, Some(CloseWhy::Normal), out);
    }

    /// Ends the stream, and keeps what was heard. What was decided before stands.
    fn leave(
        &mut self,
        reason: EndReason,
        close: Option<CloseWhy>,
        now: Moment,
        out: &mut impl Outbox,
    ) {
        // Control has been told another reason already, and one call has one. That it goes on elsewhere
        // is none.
        let reason = match &self.phase {
            Phase::Recording { ending, .. } if ending.reason.ends_call() => ending.reason,
            Phase::Recording { .. }
            | Phase::Announced
            | Phase::Live
            | Phase::Goodbye(_)
            | Phase::Sorry(_)
            | Phase::Over => reason,
        };
        let Cut { parts, unheard: _ } = self.playout.cut(now);
        for part in &parts {
            self.turns.on_spoken(part, &mut self.memory, out);
        }
        self.memory.close(out);
        self.end(reason, close, out);
    }

    /// Throws away what the caller has not heard.
    pub(super) fn fall_silent(&mut self, now: Moment, out: &mut impl Outbox) {
        let Cut { parts, unheard } = self.playout.cut(now);
        if unheard {
            out.put(Output::ToCaller(CallerMessage::Clear));
        }
        self.turns.discard();
        for part in &parts {
            self.turns.on_spoken(part, &mut self.memory, out);
        }
    }

    /// Nothing follows.
    pub(super) fn end(
        &mut self,
        reason: EndReason,
        close: Option<CloseWhy>,
        out: &mut impl Outbox,
    ) {
        assert!(!matches!(self.phase, Phase::Over), "a call ends once");
        self.phase = Phase::Over;
        self.timers.clear();
        // The caller first: the line is what people wait on.
        if let Some(why) = close {
            out.put(Output::CloseCaller(why, reason));
        }
        self.drop_tools(out);
        self.link.close(out);
        out.put(Output::End(reason));
        assert_eq!(self.timers.first(), None, "a call that is over waits for nothing");
    }
}

/// How many broken messages of the caller's side are tolerated in one call.
const MALFORMED_MAX: u32 = 5;
