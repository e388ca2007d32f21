//! The life of a call: what each thing that happens makes of its state.
//!
//! Pure, on a [`Call`] that the caller has locked; what it says (a [`Fact`]) is committed in the
//! same transaction. Four rules hold everywhere: `ended` is never left, `transferred` only for
//! `ended`, what an older generation says changes nothing, and every call says `call.ended` exactly
//! once.

use link::event::EndReason;
use link::id::{Gen, NodeId, WallTime};
use serde_json::json;

use super::call::{
    AnsweredBy, Call, CallEnd, CallState, CarrierWord, Direction, Number, Question, Resume,
    ResumeLimits,
};
use crate::events::Fact;

/// What `resume` decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Reconnect,
    NoNode,
    HangUp,
    Transfer,
    TooMany,
}

impl Decision {
    /// What the carrier is to be told about the call, which has been changed.
    pub(crate) fn about(self, call: Call) -> Resume {
        match self {
            Self::Reconnect => Resume::Reconnect(Box::new(call)),
            Self::NoNode => Resume::NoNode,
            Self::HangUp => Resume::HangUp,
            Self::Transfer => Resume::Transfer(Box::new(call)),
            Self::TooMany => Resume::TooMany,
        }
    }
}

impl Call {
    /// The carrier asks for the first time: a stream will begin on `node`. A repeated question
    /// gets the same generation, and moves the call only while no stream has begun.
    pub(crate) fn begin(&mut self, node: &NodeId, now: WallTime) -> Option<Fact> {
        match self.state {
            CallState::Queued => {
                self.node = Some(node.clone());
                self.state = CallState::Starting;
                Some(fact("call.started", now, self.introduction()))
            }
            CallState::Starting if self.answered_at.is_none() => {
                self.node = Some(node.clone());
                None
            }
            CallState::Starting
            | CallState::Active
            | CallState::Detached
            | CallState::Transferred
            | CallState::Ended => None,
        }
    }

    /// A page is given a token for a stream on `node`, until then. It is waited for as for a stream
    /// that is to be resumed.
    pub(crate) fn await_page(
        &mut self,
        node: &NodeId,
        until: WallTime,
        now: WallTime,
    ) -> Option<Fact> {
        if self.state != CallState::Queued {
            return None;
        }
        self.node = Some(node.clone());
        self.state = CallState::Detached;
        self.detach_reason = Some(CallEnd::NoAnswer.as_str().to_owned());
        self.detached_at = Some(until);
        Some(fact("call.started", now, self.introduction()))
    }

    /// A stream with a valid ticket began. A newer generation than is known here was given out while
    /// the database was away: its ticket is control's own word.
    pub(crate) fn on_stream_started(&mut self, generation: Gen, at: WallTime) -> Option<Fact> {
        if self.is_over_for(generation) {
            return None;
        }
        self.generation = generation;
        self.attach(CallState::Active);
        // A stream that replaces another one does not answer the call again.
        if self.answered_at.is_some() {
            return None;
        }
        self.answered_at = Some(at);
        Some(fact("call.answered", at, json!({})))
    }

    /// A stream is over without an end of the call; `now` is the database's time. A page's session
    /// is over with it: nobody asks what follows.
    pub(crate) fn on_stream_ended(
        &mut self,
        generation: Gen,
        reason: EndReason,
        now: WallTime,
    ) -> Option<Fact> {
        if self.is_over_for(generation) || self.state == CallState::Queued {
            return None;
        }
        if self.is_session() {
            return self.end(CallEnd::Stream(reason), None, now);
        }
        self.state = CallState::Detached;
        self.detach_reason = Some(reason.as_str().to_owned());
        self.detached_at = Some(now);
        None
    }

    /// A stream is about to be closed, so that the call goes on at another node; `now` is the
    /// database's time. Whoever is asked what follows, on whatever instance, finds the node here.
    pub(crate) fn on_stream_leaving(
        &mut self,
        generation: Gen,
        to: Option<&NodeId>,
        now: WallTime,
    ) {
        let is_carried = matches!(self.state, CallState::Starting | CallState::Active);
        if self.is_over_for(generation) || !is_carried || self.is_session() {
            return;
        }
        self.state = CallState::Detached;
        self.detach_reason = Some(EndReason::Drained.as_str().to_owned());
        self.detached_at = Some(now);
        if let Some(to) = to {
            self.node = Some(to.clone());
        }
    }

    /// Whether its last stream was sent away by its node, for another one.
    pub(crate) fn was_sent_away(&self) -> bool {
        self.state == CallState::Detached
            && self.detach_reason.as_deref() == Some(EndReason::Drained.as_str())
    }

    /// A stream decided to give the caller to somebody else; `now` is the database's time. The
    /// agent's part is over with that, the phone call is not: `call.ended` is said when the
    /// carrier says that it is.
    pub(crate) fn transfer(
        &mut self,
        generation: Gen,
        to: Number,
        at: WallTime,
        now: WallTime,
    ) -> Option<Fact> {
        if self.is_over_for(generation) {
            return None;
        }
        // There is no phone call that could be given to anybody.
        if self.is_session() {
            return self.end(CallEnd::Transferred, None, at);
        }
        let fact = fact("call.transferred", at, json!({"to": to.as_str()}));
        // By the same clock as a detached call, since the same sweeper looks at both.
        self.attach(CallState::Transferred);
        self.detached_at = Some(now);
        self.transfer_to = Some(to);
        Some(fact)
    }

    /// The carrier asks what follows a stream, perhaps once more: until a stream has begun, the
    /// same question gets the same generation and counts once.
    pub(crate) fn resume_asked(&mut self, question: &Question<'_>) -> (Decision, Option<Fact>) {
        if let Some(given) = question.given {
            self.generation = self.generation.max(given);
        }
        let is_repeated = question.token.is_some()
            && question.token == self.resume_token.as_deref()
            && self.state == CallState::Starting;
        if is_repeated {
            return (Decision::Reconnect, None);
        }
        let Question { node, limits, now, .. } = *question;
        let (decision, fact) = self.resume_within(limits, node, now);
        if decision == Decision::Reconnect {
            self.resume_token = question.token.map(str::to_owned);
        }
        (decision, fact)
    }

    #[cfg(test)]
    fn resume(&mut self, node: Option<&NodeId>, now: WallTime) -> (Decision, Option<Fact>) {
        self.resume_within(ResumeLimits::default(), node, now)
    }

    /// The carrier asks what follows a stream.
    fn resume_within(
        &mut self,
        limits: ResumeLimits,
        node: Option<&NodeId>,
        now: WallTime,
    ) -> (Decision, Option<Fact>) {
        match self.state {
            CallState::Ended => return (Decision::HangUp, None),
            CallState::Transferred => return (Decision::Transfer, None),
            CallState::Queued | CallState::Starting | CallState::Active | CallState::Detached => {}
        }
        // Only what lies within the window counts: a long call may lose a stream every few minutes.
        self.resumes.retain(|at| at.0 > now.0.saturating_sub(limits.window_us));
        // A stream that was sent away has not failed.
        let has_failed = !self.was_sent_away();
        if has_failed && self.resumes.len() >= limits.max {
            return (Decision::TooMany, self.end(CallEnd::TooManyResumes, None, now));
        }
        // Counts nothing: waiting for a node is not a stream that failed.
        let Some(node) = node else { return (Decision::NoNode, None) };
        if has_failed {
            self.resumes.push(now);
        }
        self.generation = self.generation.next();
        self.node = Some(node.clone());
        self.attach(CallState::Starting);
        (Decision::Reconnect, None)
    }

    /// The node of the call's stream has vanished without closing it: the call goes on with another
    /// stream on `to`. `false` when that stream is not the latest any more, or nothing is to follow
    /// it.
    pub(crate) fn move_from(&mut self, lost: Lost<'_>, to: &NodeId) -> bool {
        let is_latest = self.generation == lost.generation && self.node.as_ref() == Some(lost.node);
        let is_carried = match self.state {
            CallState::Starting | CallState::Active => true,
            CallState::Queued | CallState::Detached | CallState::Transferred | CallState::Ended => {
                false
            }
        };
        if !is_latest || !is_carried || self.is_session() {
            return false;
        }
        // Not counted: it is the node that failed, and not the call.
        self.generation = self.generation.next();
        self.node = Some(to.clone());
        self.resume_token = None;
        self.attach(CallState::Starting);
        true
    }

    /// The carrier's word. An older word than the last is ignored; the end of a call is not.
    pub(crate) fn on_carrier_word(&mut self, word: &CarrierWord, now: WallTime) -> Option<Fact> {
        // Words come in any order, and the carrier numbers them.
        let is_news = match (word.seq, self.carrier_seq) {
            (Some(new), Some(old)) => new > old,
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        if is_news {
            self.carrier_status = Some(word.status.clone());
            self.carrier_seq = word.seq.or(self.carrier_seq);
        }
        if let Some(end) = word.over {
            return self.on_phone_over(end, None, now);
        }
        let rings = is_news && word.status == "ringing";
        let is_ours = self.direction == Direction::Outbound && self.state == CallState::Queued;
        (rings && is_ours).then(|| fact("call.ringing", now, json!({})))
    }

    /// The carrier says that the phone call is over. A call that was transferred ended by that,
    /// however the phone call went on.
    pub(crate) fn on_phone_over(
        &mut self,
        end: CallEnd,
        detail: Option<&str>,
        now: WallTime,
    ) -> Option<Fact> {
        match self.state {
            CallState::Transferred => self.end(CallEnd::Transferred, detail, now),
            CallState::Queued
            | CallState::Starting
            | CallState::Active
            | CallState::Detached
            | CallState::Ended => self.end(end, detail, now),
        }
    }

    /// The call is over. Says nothing when it already was.
    pub(crate) fn end(&mut self, end: CallEnd, detail: Option<&str>, at: WallTime) -> Option<Fact> {
        if self.state == CallState::Ended {
            return None;
        }
        self.attach(CallState::Ended);
        self.end_reason = Some(end.as_str().to_owned());
        // PostgreSQL stores no NUL, and a detail of a relay must not stop the sequencer.
        let detail = detail.map(|detail| detail.replace('\0', ""));
        self.end_detail.clone_from(&detail);
        self.ended_at = Some(at);
        let mut data = json!({"reason": end.as_str(), "blame": end.blame().as_str()});
        if let Some(detail) = detail {
            data["detail"] = detail.into();
        }
        Some(fact("call.ended", at, data))
    }

    /// Nobody resumed the call for too long: it ended with the reason of its last stream.
    pub(crate) fn expire(&mut self, at: WallTime) -> Option<Fact> {
        let last = self.detach_reason.as_deref().and_then(CallEnd::read);
        self.on_phone_over(last.unwrap_or(CallEnd::Stream(EndReason::CallerLost)), None, at)
    }

    /// Whether a stream of this generation has no say in the call's state.
    pub(crate) fn is_over_for(&self, generation: Gen) -> bool {
        matches!(self.state, CallState::Transferred | CallState::Ended)
            || generation < self.generation
    }

    fn attach(&mut self, state: CallState) {
        self.state = state;
        self.detach_reason = None;
        self.detached_at = None;
    }

    /// Nobody was reached: the call has no name at the carrier until it is dialled again.
    pub(crate) fn forget_carrier(&mut self) {
        self.carrier = None;
        self.carrier_status = None;
        self.carrier_seq = None;
    }

    /// The carrier believes that somebody of this kind has picked up. The first word stands.
    pub(crate) fn on_answered_by(&mut self, by: AnsweredBy, at: WallTime) -> Option<Fact> {
        if self.state == CallState::Ended || self.answered_by.is_some() {
            return None;
        }
        self.answered_by = Some(by);
        Some(fact("call.answered_by", at, json!({"by": by.as_str()})))
    }

    /// Who calls whom, for the event that a call begins with.
    pub(super) fn introduction(&self) -> serde_json::Value {
        let mut said = json!({
            "direction": self.direction.as_str(),
            "from": self.from.as_str(),
            "to": self.to.as_str(),
            "agent": self.agent.as_str(),
            "agent_version": self.agent_version,
        });
        if let Some(run) = &self.run {
            said["run"] = run.as_str().into();
        }
        said
    }
}

/// A stream whose node has vanished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost<'a> {
    /// Where it was.
    pub(crate) node: &'a NodeId,
    /// Which of the call's streams it was.
    pub(crate) generation: Gen,
}

impl<'a> Lost<'a> {
    /// The latest stream of a call; `None` when it has none.
    pub(crate) fn of(call: &'a Call) -> Option<Self> {
        Some(Self { node: call.node.as_ref()?, generation: call.generation })
    }
}

fn fact(kind: &'static str, at: WallTime, data: serde_json::Value) -> Fact {
    Fact { kind, at, data: data.to_string() }
}

#[cfg(test)]
mod tests;
