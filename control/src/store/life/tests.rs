//! The life of a call, step by step.

use super::*;
use crate::store::call::{CarrierIds, Direction};
use link::id::{AgentName, CallId, TenantId};

fn call() -> Call {
    Call {
        id: CallId::new("c_1").unwrap(),
        tenant: TenantId::new("default").unwrap(),
        carrier: Some(CarrierIds { account_sid: "AC1".into(), call_sid: "CA1".into() }),
        direction: Direction::Inbound,
        from: Number("+15550100".into()),
        to: Number("+15550101".into()),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        run: None,
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
        resume_token: None,
        answered_by: None,
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
fn a_question_that_comes_again_before_its_stream_began_counts_once() {
    let mut call = active();
    let (one, two) = (node("n1"), node("n2"));
    let ask = |call: &mut Call, token, node, at| {
        let now = WallTime(at);
        let limits = ResumeLimits::default();
        call.resume_asked(&Question { node: Some(node), token, given: None, limits, now }).0
    };
    assert_eq!(ask(&mut call, Some("t1"), &one, 1), Decision::Reconnect);
    let first = call.clone();
    assert_eq!(ask(&mut call, Some("t1"), &two, 2), Decision::Reconnect);
    assert_eq!(call, first, "the answer is the same one");
    // Another question, and one without a name, are new.
    assert_eq!(ask(&mut call, Some("t2"), &two, 3), Decision::Reconnect);
    assert_eq!(ask(&mut call, None, &two, 4), Decision::Reconnect);
    assert_eq!((call.generation, call.resumes.len()), (Gen(3), 3));
    call.on_stream_started(Gen(3), WallTime(5));
    assert_eq!(ask(&mut call, None, &two, 6), Decision::TooMany);
}

#[test]
fn a_call_moves_from_a_node_that_vanished_once_and_only_from_there() {
    let mut call = active();
    let (one, two) = (node("n1"), node("n2"));
    let lost = |node, generation| Lost { node, generation };
    assert!(!call.move_from(lost(&two, Gen(0)), &one), "it is not there");
    assert!(call.move_from(lost(&one, Gen(0)), &two));
    assert_eq!((call.state, call.generation), (CallState::Starting, Gen(1)));
    assert_eq!((&call.node, call.resumes.len()), (&Some(two.clone()), 0));
    assert!(
        !call.move_from(lost(&one, Gen(0)), &two),
        "the carrier was faster, or another control"
    );
    call.on_stream_ended(Gen(1), EndReason::CallerLost, WallTime(7));
    assert!(!call.move_from(lost(&two, Gen(1)), &one), "the carrier asks about it by itself");
}

#[test]
fn a_stream_that_was_given_out_without_the_database_is_the_latest() {
    let mut call = active();
    assert_eq!(call.on_stream_started(Gen(2), WallTime(5)), None);
    assert_eq!((call.state, call.generation), (CallState::Active, Gen(2)));
    call.on_stream_ended(Gen(1), EndReason::CallerLost, WallTime(6));
    assert_eq!(call.state, CallState::Active, "an older one has no say");
    let question = Question {
        node: None,
        token: None,
        given: Some(Gen(4)),
        limits: ResumeLimits { max: 0, ..ResumeLimits::default() },
        now: WallTime(7),
    };
    assert_eq!(call.resume_asked(&question).0, Decision::TooMany, "the limit is a setting");
    assert_eq!(call.generation, Gen(4), "as the pass says");
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

#[test]
fn a_call_that_is_sent_away_is_expected_elsewhere_and_counts_as_no_failure() {
    let mut call = active();
    call.on_stream_leaving(Gen(0), Some(&node("n9")), WallTime(7));
    assert!(call.was_sent_away());
    assert_eq!((call.node.clone(), call.detached_at), (Some(node("n9")), Some(WallTime(7))));
    call.on_stream_ended(Gen(0), EndReason::Drained, WallTime(8));
    assert!(call.was_sent_away());
    for generation in 1..=9 {
        let (decision, _) = call.resume(Some(&node("n9")), WallTime(9));
        assert_eq!((decision, call.generation), (Decision::Reconnect, Gen(generation)));
        assert!(!call.was_sent_away() && call.resumes.is_empty());
        // What an older stream says changes nothing.
        call.on_stream_leaving(Gen(generation - 1), Some(&node("n1")), WallTime(10));
        assert_eq!(call.node, Some(node("n9")));
        call.on_stream_started(Gen(generation), WallTime(10));
        call.on_stream_leaving(Gen(generation), None, WallTime(11));
        assert_eq!(call.node, Some(node("n9")), "nobody has chosen another one");
    }
    call.end(CallEnd::Busy, None, WallTime(12));
    call.on_stream_leaving(Gen(9), Some(&node("n1")), WallTime(13));
    assert_eq!(call.state, CallState::Ended);
}

fn session() -> Call {
    let mut session = Call { carrier: None, ..call() };
    let started = session.await_page(&node("n1"), WallTime(120), WallTime(1)).unwrap();
    assert_eq!(started.kind, "call.started");
    session
}

#[test]
fn a_session_is_over_with_its_stream() {
    let mut session = session();
    assert_eq!(session.await_page(&node("n2"), WallTime(130), WallTime(2)), None);
    assert_eq!(session.on_stream_started(Gen(0), WallTime(3)).unwrap().kind, "call.answered");
    assert_eq!((session.state, session.detached_at), (CallState::Active, None));
    let ended = session.on_stream_ended(Gen(0), EndReason::CallerLost, WallTime(4)).unwrap();
    assert_eq!(ended.kind, "call.ended");
    assert_eq!(session.end_reason.as_deref(), Some("caller_lost"));
}

#[test]
fn a_session_whose_page_does_not_come_was_not_answered() {
    let mut session = session();
    assert_eq!((session.state, session.detached_at), (CallState::Detached, Some(WallTime(120))));
    assert_eq!(session.expire(WallTime(200)).unwrap().kind, "call.ended");
    assert_eq!(session.end_reason.as_deref(), Some("no_answer"));
}

#[test]
fn a_session_that_is_transferred_is_over() {
    let mut session = session();
    session.on_stream_started(Gen(0), WallTime(3)).unwrap();
    let to = Number("+15550102".into());
    let fact = session.transfer(Gen(0), to, WallTime(4), WallTime(5)).unwrap();
    assert_eq!((fact.kind, session.state), ("call.ended", CallState::Ended));
    assert_eq!(session.end_reason.as_deref(), Some("transferred"));
}
