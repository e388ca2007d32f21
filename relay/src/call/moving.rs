//! A call that moves: it leaves one node between two turns, and goes on at another.
//!
//! Whoever moves it has a session opened there first ([`Preparation::Continued`]), then lets it leave
//! here. The caller hears a pause that is longer by the time of a new stream, and nothing is cut. That
//! it leaves is recorded before the caller's socket is closed, as every end is that we choose: the
//! carrier asks at once where the call goes on, and by then all its turns are committed, too.
//!
//! | here | then |
//! |---|---|
//! | nobody speaks, is about to, or is asked to; all is heard; no tool runs; nobody types | it leaves |
//! | no such moment comes in time | it stays, or leaves all the same, as whoever asks wants it |
//! | a goodbye is being said, or an end recorded | it stays: the call is over soon |
//!
//! At the other node the new session is told what was said once the caller is there, and is asked to
//! answer when the last turn was the caller's, or was cut.

use ::link::event::{EndReason, Role};
use ::link::id::NodeId;

use super::input::{Preparation, Said};
use super::moment::Moment;
use super::output::{Milestone, Outbox, Output};
use super::phase::{Ending, Phase};
use super::timers::Timer;
use super::turns::Ask;
use super::{Call, Opening};

/// A move to another node that waits for its moment.
#[derive(Debug)]
pub(super) struct Leaving {
    /// The node that is ready for the call, as far as it was named.
    pub(super) to: Option<NodeId>,
    /// What becomes of it when no such moment comes in time.
    pub(super) otherwise: Otherwise,
}

/// What becomes of a move for which no moment between two turns comes in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// The call stays, until it is asked again.
    Stays,
    /// It leaves in the middle of a turn.
    Leaves,
}

impl Call {
    /// The call is to leave between two turns, or by then.
    pub(super) fn on_leave(&mut self, leaving: Leaving, by: Moment) {
        self.leaving = Some(leaving);
        self.timers.set(Timer::Leave, by);
    }

    /// Leaves, if it is to and nobody would notice.
    pub(super) fn leave_between_turns(&mut self, now: Moment, out: &mut impl Outbox) {
        if self.leaving.is_some() && self.is_between_turns() {
            self.depart(now, out);
        }
    }

    fn is_between_turns(&self) -> bool {
        let nobody_speaks = self.turns.is_quiet() && self.playout.is_silent();
        let nothing_waits = self.tools.is_empty() && self.keys.is_empty();
        self.phase.is_live() && self.opening == Opening::Done && nobody_speaks && nothing_waits
    }

    /// No moment between two turns has come in time.
    pub(super) fn on_leave_deadline(&mut self, now: Moment, out: &mut impl Outbox) {
        match &self.leaving {
            Some(Leaving { otherwise: Otherwise::Leaves, .. }) if self.phase.is_live() => {
                self.depart(now, out);
            }
            Some(_) | None => self.leaving = None,
        }
    }

    fn depart(&mut self, now: Moment, out: &mut impl Outbox) {
        let Some(leaving) = self.leaving.take() else { return };
        let record = self.wind_up(now, out);
        out.put(Output::Note(Milestone::Leaving { record, to: leaving.to.as_ref() }));
        self.wait_for_record(record, Ending::new(EndReason::Drained), now);
    }

    /// What was said in a call that goes on here. Its caller is not here yet: what is said from then
    /// on is known here first.
    pub(super) fn on_continues(&mut self, said: &[Said], out: &mut impl Outbox) {
        if !self.tells_later() {
            return;
        }
        self.memory.restore(said, out);
        let is_answered = |last: &Said| last.role == Role::Agent && !last.cut;
        self.owes_first = match said.last() {
            // It was lost before anything was heard: it begins anew.
            None => self.spec.agent.greeting.is_some().then_some(Ask::Greeting),
            Some(last) => (!is_answered(last)).then_some(Ask::Answer),
        };
    }

    /// Whether a session is told later what was said, because there may be more until then.
    pub(super) fn tells_later(&self) -> bool {
        matches!(self.phase, Phase::Announced) && self.preparation == Some(Preparation::Continued)
    }

    /// The caller of a call that goes on is here.
    pub(super) fn take_up(&mut self, out: &mut impl Outbox) {
        if self.preparation != Some(Preparation::Continued) {
            return;
        }
        // Before it hears the caller. One that is not ready yet is told when it is.
        if let Some(slot) = self.link.speaker() {
            self.tell_what_was_said(slot, out);
        }
        if let Some(ask) = self.owes_first.take() {
            self.turns.want_first(ask);
        }
    }
}
