//! The life of a call: what each thing that happens makes of its state.
//!
//! Pure, on a [`Call`] that the caller has locked; what it says (a [`Fact`]) is committed in the
//! same transaction. Four rules hold everywhere: `ended` is never left, `transferred` only for
//! `ended`, what an older generation says changes nothing, and every call says `call.ended` exactly
//! once.

use link::event::EndReason;
use link::id::{Gen, NodeId, WallTime};
use serde_json::json;

use super::call::{Call, CallEnd, CallState, CarrierWord, Number};
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

    /// A stream with a valid ticket began.
    pub(crate) fn on_stream_started(&mut self, generation: Gen, at: WallTime) -> Option<Fact> {
        if self.is_over_for(generation) {
            return None;
        }
        self.attach(CallState::Active);
        if self.answered_at.is_some() {
            return None;
        }
        self.answered_at = Some(at);
        Some(fact("call.answered", at, json!({})))
    }

    /// A stream is over without an end of the call; `now` is the database's time.
    pub(crate) fn on_stream_ended(&mut self, generation: Gen, reason: EndReason, now: WallTime) {
        if self.is_over_for(generation) || self.state == CallState::Queued {
            return;
        }
        self.state = CallState::Detached;
        self.detach_reason = Some(reason.as_str().to_owned());
        self.detached_at = Some(now);
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
        let fact = fact("call.transferred", at, json!({"to": to.as_str()}));
        self.attach(CallState::Transferred);
        self.detached_at = Some(now);
        self.transfer_to = Some(to);
        Some(fact)
    }

    /// The carrier asks what follows a stream.
    pub(crate) fn resume(
        &mut self,
        node: Option<&NodeId>,
        now: WallTime,
    ) -> (Decision, Option<Fact>) {
        match self.state {
            CallState::Ended => return (Decision::HangUp, None),
            CallState::Transferred => return (Decision::Transfer, None),
            CallState::Queued | CallState::Starting | CallState::Active | CallState::Detached => {}
        }
        self.resumes.retain(|at| at.0 > now.0.saturating_sub(RESUME_WINDOW_US));
        if self.resumes.len() >= RESUMES_MAX {
            return (Decision::TooMany, self.end(CallEnd::TooManyResumes, None, now));
        }
        let Some(node) = node else { return (Decision::NoNode, None) };
        self.resumes.push(now);
        self.generation = self.generation.next();
        self.node = Some(node.clone());
        self.attach(CallState::Starting);
        (Decision::Reconnect, None)
    }

    /// The carrier's word. An older word than the last is ignored; the end of a call is not.
    pub(crate) fn on_carrier_word(&mut self, word: &CarrierWord, now: WallTime) -> Option<Fact> {
        let is_news = match (word.seq, self.carrier_seq) {
            (Some(new), Some(old)) => new > old,
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        if is_news {
            self.carrier_status = Some(word.status.clone());
            self.carrier_seq = word.seq.or(self.carrier_seq);
        }
        word.over.and_then(|end| self.on_phone_over(end, None, now))
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

    fn introduction(&self) -> serde_json::Value {
        json!({
            "direction": self.direction.as_str(),
            "from": self.from.as_str(),
            "to": self.to.as_str(),
            "agent": self.agent.as_str(),
            "agent_version": self.agent_version,
        })
    }
}

fn fact(kind: &'static str, at: WallTime, data: serde_json::Value) -> Fact {
    Fact { kind, at, data: data.to_string() }
}

/// A call whose streams end more often than this within the window is given up: reconnecting
/// would go on for ever at the caller's cost.
pub(crate) const RESUMES_MAX: usize = 3;

/// The window of [`RESUMES_MAX`], in microseconds.
pub(crate) const RESUME_WINDOW_US: i64 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::super::call::Direction;
    use super::*;
    use link::id::{AgentName, CallId, TenantId};

    fn call() -> Call {
        Call {
            id: CallId::new("c_1").unwrap(),
            tenant: TenantId::new("default").unwrap(),
            carrier: None,
            direction: Direction::Inbound,
            from: Number("+15550100".into()),
            to: Number("+15550101".into()),
            agent: AgentName::new("front-desk").unwrap(),
            agent_version: 1,
            generation: Gen(0),
            node: None,
            state: CallState::Queued,
            end_reason: None,
            end_detail: None,
            transfer_to: None,
            detach_reason: None,
            carrier_status: None,
            carrier_seq: None,
            resumes: Vec::new(),
            created_at: WallTime(0),
            answered_at: None,
            detached_at: None,
            ended_at: None,
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn active() -> Call {
        let mut call = call();
        call.begin(&node("n1"), WallTime(1)).unwrap();
        call.on_stream_started(Gen(0), WallTime(2)).unwrap();
        call
    }

    fn completed(seq: i64) -> CarrierWord {
        let over = Some(CallEnd::Stream(EndReason::CallerHungUp));
        CarrierWord { status: "completed".into(), seq: Some(seq), over }
    }

    fn ringing(seq: i64) -> CarrierWord {
        CarrierWord { status: "ringing".into(), seq: Some(seq), over: None }
    }

    #[test]
    fn a_repeated_first_question_moves_only_a_call_without_a_stream() {
        let mut call = call();
        assert_eq!(call.begin(&node("n1"), WallTime(1)).unwrap().kind, "call.started");
        assert_eq!(call.begin(&node("n2"), WallTime(2)), None);
        assert_eq!((call.node.clone(), call.generation), (Some(node("n2")), Gen(0)));
        call.on_stream_started(Gen(0), WallTime(3)).unwrap();
        assert_eq!(call.begin(&node("n3"), WallTime(4)), None);
        assert_eq!((call.node, call.state), (Some(node("n2")), CallState::Active));
    }

    #[test]
    fn only_the_first_stream_answers_a_call() {
        let mut call = active();
        assert_eq!(call.resume(Some(&node("n2")), WallTime(5)), (Decision::Reconnect, None));
        assert_eq!(call.on_stream_started(Gen(1), WallTime(6)), None);
        assert_eq!((call.state, call.answered_at), (CallState::Active, Some(WallTime(2))));
    }

    #[test]
    fn an_older_stream_has_no_say() {
        let mut call = active();
        call.resume(Some(&node("n2")), WallTime(5));
        call.on_stream_started(Gen(1), WallTime(6));
        call.on_stream_ended(Gen(0), EndReason::CallerHungUp, WallTime(7));
        assert_eq!(call.on_stream_started(Gen(0), WallTime(8)), None);
        assert_eq!(call.state, CallState::Active);
    }

    #[test]
    fn the_fourth_resume_within_a_minute_ends_the_call() {
        let mut call = active();
        for second in 0..3 {
            let now = WallTime(second * 1_000_000);
            assert_eq!(call.resume(Some(&node("n1")), now).0, Decision::Reconnect);
        }
        let (decision, fact) = call.resume(Some(&node("n1")), WallTime(59_000_000));
        assert_eq!(decision, Decision::TooMany);
        assert!(fact.unwrap().data.contains("too_many_resumes"));
        assert_eq!(call.resume(None, WallTime(59_000_001)), (Decision::HangUp, None));
    }

    #[test]
    fn resumes_older_than_a_minute_are_forgiven() {
        let mut call = active();
        for second in [0, 30, 59, 61, 91, 120] {
            let now = WallTime(second * 1_000_000);
            assert_eq!(call.resume(Some(&node("n1")), now).0, Decision::Reconnect, "{second}");
        }
        assert_eq!(call.generation, Gen(6));
    }

    #[test]
    fn a_resume_without_a_node_counts_nothing() {
        let mut call = active();
        let before = call.clone();
        assert_eq!(call.resume(None, WallTime(9)), (Decision::NoNode, None));
        assert_eq!(call, before);
    }

    fn transferred() -> Call {
        let mut call = active();
        let to = Number("+15550199".into());
        let fact = call.transfer(Gen(0), to, WallTime(7), WallTime(8)).unwrap();
        assert_eq!((fact.kind, fact.data.as_str()), ("call.transferred", r#"{"to":"+15550199"}"#));
        assert_eq!(call.state, CallState::Transferred);
        call
    }

    #[test]
    fn a_transfer_is_answered_again_when_the_question_is_repeated() {
        let mut call = transferred();
        for _ in 0..2 {
            assert_eq!(call.resume(None, WallTime(9)), (Decision::Transfer, None));
        }
        assert_eq!(call.transfer_to, Some(Number("+15550199".into())));
        assert_eq!(call.ended_at, None, "the phone call lives on");
    }

    #[test]
    fn a_transferred_call_has_no_stream_any_more_and_is_not_transferred_twice() {
        let mut call = transferred();
        let before = call.clone();
        call.on_stream_ended(Gen(0), EndReason::Transferred, WallTime(9));
        assert_eq!(call.on_stream_started(Gen(0), WallTime(9)), None);
        assert_eq!(call.begin(&node("n2"), WallTime(9)), None);
        let other = Number("+15550198".into());
        assert_eq!(call.transfer(Gen(0), other, WallTime(9), WallTime(9)), None);
        assert_eq!(call, before);
    }

    #[test]
    fn a_stream_that_was_replaced_transfers_nobody() {
        let mut call = active();
        call.resume(Some(&node("n2")), WallTime(5));
        let to = Number("+15550199".into());
        assert_eq!(call.transfer(Gen(0), to, WallTime(6), WallTime(6)), None);
        assert_eq!((call.state, call.transfer_to), (CallState::Starting, None));
    }

    #[test]
    fn a_transferred_call_ends_by_that_however_its_phone_call_went_on() {
        let mut call = transferred();
        let fact = call.on_carrier_word(&completed(9), WallTime(99)).unwrap();
        assert_eq!(fact.data, r#"{"blame":"agent","reason":"transferred"}"#);
        assert_eq!(call.ended_at, Some(WallTime(99)));
        let mut call = transferred();
        let busy = call.on_phone_over(CallEnd::Busy, Some("busy"), WallTime(99)).unwrap();
        assert_eq!(busy.data, r#"{"blame":"agent","detail":"busy","reason":"transferred"}"#);
        assert_eq!(call.resume(None, WallTime(100)), (Decision::HangUp, None));
        assert!(transferred().expire(WallTime(99)).unwrap().data.contains("transferred"));
        let mut call = transferred();
        let by_hand = CallEnd::Stream(EndReason::OperatorHungUp);
        assert!(call.end(by_hand, None, WallTime(9)).unwrap().data.contains("operator_hung_up"));
    }

    #[test]
    fn an_end_is_sticky_and_said_once() {
        let mut call = active();
        let end = CallEnd::Stream(EndReason::AgentRefused);
        let fact = call.end(end, Some("insufficient_quota"), WallTime(8)).unwrap();
        assert!(fact.data.contains("insufficient_quota"));
        assert_eq!(call.on_carrier_word(&completed(9), WallTime(9)), None);
        assert_eq!(call.on_stream_started(Gen(7), WallTime(9)), None);
        assert_eq!(call.expire(WallTime(9)), None);
        assert_eq!(call.end_reason.as_deref(), Some("agent_refused"));
        assert_eq!(call.state, CallState::Ended);
    }

    #[test]
    fn an_older_word_of_the_carrier_is_ignored_unless_it_is_the_last() {
        let mut call = active();
        call.on_carrier_word(&ringing(3), WallTime(3));
        call.on_carrier_word(&CarrierWord { status: "queued".into(), ..ringing(1) }, WallTime(4));
        assert_eq!(call.carrier_status.as_deref(), Some("ringing"));
        assert_eq!(call.on_carrier_word(&completed(2), WallTime(5)).unwrap().kind, "call.ended");
        call.on_carrier_word(&ringing(9), WallTime(6));
        assert_eq!(call.state, CallState::Ended);
    }

    #[test]
    fn a_detached_call_that_nobody_resumes_ends_with_its_streams_reason() {
        let mut call = active();
        call.on_stream_ended(Gen(0), EndReason::CallerHungUp, WallTime(7));
        assert_eq!((call.state, call.detached_at), (CallState::Detached, Some(WallTime(7))));
        assert!(call.expire(WallTime(20)).unwrap().data.contains("caller_hung_up"));
    }
}
