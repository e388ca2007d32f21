//! The agent is of no use: the caller hears that we are sorry, and the call ends with a reason.

use super::script::{Script, quiet, spec, speech};
use crate::call::CallSpec;
use crate::call::input::{AgentEvent, AudioFormat, Loss, Outcome, Retry, Severity};

#[test]
fn a_lost_agent_is_followed_by_the_clip_the_record_and_the_end() {
    let mut t = Script::speaking(1_000);
    t.at_ms(200).mark(1).forget();
    t.agent_lost(Loss::Dismissed, "closed by the peer with 1008").expect([
        "note: agent lost: closed by the peer with 1008",
        "clear",
        "note: agent turn i1 \"\" 60/1000 cut",
        "play 480",
        "mark 9",
        "play 480",
        "mark 10",
    ]);
    t.at_ms(300).mark(9).expect([]);
    t.mark(10).expect(["note: ending 1: agent_failed (closed by the peer with 1008)"]);
    t.recorded(1).expect(["close caller: Normal", "end: agent_failed"]);
    assert_eq!(t.played()[t.played().len() - 960..], *spec().sorry);
}

#[test]
fn an_answer_that_was_cut_may_fail() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(60)).speech_started().forget();
    t.ended("r1", Outcome::Failed { code: "server_error", retry: Retry::MayHelp }).expect([]);
    t.response_started("r2").audio("r2", "i2", &speech(60)).expect(["play 480", "mark 2"]);
}

#[test]
fn a_fatal_complaint_ends_the_call_and_others_do_not() {
    let mut t = Script::live();
    t.complained(Severity::Benign, "response_cancel_not_active");
    t.complained(Severity::Refused, "invalid_value");
    t.expect(["note: tolerated BenignComplaint", "note: tolerated RefusedByAgent"]);
    t.complained(Severity::Fatal, "insufficient_quota").all_is_heard();
    let lines = t.lines_with("note: ending");
    assert_eq!(lines, ["note: ending 1: agent_failed (insufficient_quota)"]);
}

#[test]
fn five_broken_messages_of_the_agent_are_tolerated() {
    let mut t = Script::live();
    for _ in 0..5 {
        t.agent(AgentEvent::Malformed).expect(["note: tolerated AgentMalformed"]);
    }
    t.agent(AgentEvent::Malformed).expect([
        "note: tolerated AgentMalformed",
        "close A",
        "note: agent lost: malformed_messages",
        "dial B",
    ]);
}

#[test]
fn a_session_that_changes_its_formats_is_refused() {
    let mut t = Script::live();
    t.configured().expect([]);
    t.configured_as(Some(AudioFormat::Pcm24k)).all_is_heard();
    let lines = t.lines_with("note: ending");
    assert_eq!(lines, ["note: ending 1: agent_refused (audio_format)"]);
}

#[test]
fn a_failed_agent_is_not_heard_any_more_and_hears_nothing() {
    let mut t = Script::live();
    t.response_started("r1").complained(Severity::Fatal, "insufficient_quota").forget();
    t.audio("r1", "i1", &speech(60)).speech_started().caller_says(1).expect([]);
    t.agent_lost(Loss::Closed, "1000").expect([]);
}

#[test]
fn a_clip_whose_marks_never_come_does_not_keep_the_call() {
    let mut t = Script::live();
    t.agent_lost(Loss::Dismissed, "x").forget();
    t.at_ms(100 + 120 + 1_999).expect([]);
    t.at_ms(100 + 120 + 2_000).expect(["clear", "note: ending 1: agent_failed (x)"]);
}

#[test]
fn without_a_clip_the_end_is_recorded_at_once() {
    let mut t = Script::live_as(CallSpec { sorry: &[], ..quiet() });
    t.agent_lost(Loss::Dismissed, "x")
        .expect(["note: agent lost: x", "note: ending 1: agent_failed (x)"]);
}

#[test]
fn a_hang_up_hastens_an_end_and_keeps_its_reason() {
    let mut t = Script::live();
    t.agent_lost(Loss::Dismissed, "x").forget();
    t.hang_up().expect(["clear", "note: ending 1: agent_failed (x)"]);
}

#[test]
fn a_call_that_waits_for_its_agent_can_be_hung_up() {
    let mut t = Script::new(spec());
    t.started().forget();
    t.hang_up().recorded(1).expect([
        "note: ending 1: operator_hung_up",
        "close caller: Normal",
        "close A",
        "end: operator_hung_up",
    ]);
}
